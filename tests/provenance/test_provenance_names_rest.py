"""Small things that a name may stand under, each with an edit that must be noticed, or must not."""

import pytest

from entanglement.uses import note, recording, remembered

ANNOTATED = """
    from __future__ import annotations

    from dataclasses import dataclass
    from typing import overload

    KNOWN = set()


    class Thing:
        size: int
        rate = 2

        def f(self):
            return self.rate


    @overload
    def g(x: int) -> int: ...
    @overload
    def g(x: str) -> str: ...
    def g(x):
        return x


    def count():
        global TOTAL
        TOTAL = 1


    TOTAL = 0
    KNOWN.add(g)


    def run():
        count()
        return Thing().f(), g(1), TOTAL, KNOWN
    """
RUN = "from entanglement.m import run\nrun()\n"


@pytest.mark.parametrize(
    ("old", "new", "noticed"),
    [
        ("rate = 2", "rate = 3", True),  # what stands behind an annotation in a class is read again
        ("return self.rate", "return self.size", True),
        ("size: int", "size: float", True),  # its text is kept, and might be asked for
        ("def g(x: int) -> int: ...", "def g(x: bool) -> bool: ...", False),
        ("    return x\n", "    return -x\n", True),
        ("TOTAL = 1", "TOTAL = 2", True),
        ("TOTAL = 0", "TOTAL = 3", True),
        ("    global TOTAL\n", "", True),
        ("KNOWN.add(g)", "KNOWN.add(count)", True),
        ("KNOWN = set()", "KNOWN = {1}", True),
    ],
)
def test_an_edit_is_noticed_if_it_can_change_what_runs(tree, old, new, noticed):
    tree.write({"entanglement/m.py": ANNOTATED})
    before = tree.graph().fingerprint(RUN)
    tree.edit("entanglement/m.py", old, new)
    assert (tree.graph().fingerprint(RUN).code != before.code) == noticed


def test_a_root_that_a_view_leaves_out_counts_for_nothing_there(tree):
    tree.write({"entanglement_book/drawing/charts.py": "def bar():\n    return 1\n"})
    root = [("entanglement_book.drawing.charts", "bar")]
    before = {view: tree.graph().fingerprint(root, (), view).code for view in ("numbers", "page")}
    tree.edit("entanglement_book/drawing/charts.py", "return 1", "return 2")
    after = {view: tree.graph().fingerprint(root, (), view).code for view in ("numbers", "page")}
    assert before["numbers"] == after["numbers"] and before["page"] != after["page"]


def test_who_gets_a_value_that_was_kept_uses_the_same_things():
    calls = []

    @remembered()
    def start(seed):
        calls.append(seed)
        note("loss", f"of {seed}")
        return seed + 1

    for seed, times in ((1, 1), (1, 1), (2, 2)):
        with recording() as uses:
            assert start(seed) == seed + 1
        assert uses == {("loss", f"of {seed}")} and len(calls) == times
    assert start.__name__ == "start"

    @remembered(maxsize=1)
    def last(seed):
        calls.append(seed)
        return seed

    for seed in (1, 2, 1):
        last(seed)
    assert calls[2:] == [1, 2, 1]
