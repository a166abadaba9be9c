"""Fingerprints: of circles, of registries, in both views, and that it does not matter what was asked before."""
# ruff: noqa: E501  (a library in a string is easier to read in long lines)

import textwrap

import pytest

from entanglement_book.provenance import CodeGraph

LIBRARY = {
    "alone.py": """
        def leaf():
            return 1


        def again(x):
            return again(x)


        def above():
            return leaf() + again(1)
        """,
    "circle.py": """
        from entanglement.alone import leaf


        def tail():
            return a()


        def a():
            return b() + leaf()


        def b():
            return c()


        def c():
            return a() + d()


        def d():
            return e()


        def e():
            return d()


        def f():
            return c() + e()
        """,
    "ring.py": "\n\n\n".join(f"def r{n}(x):\n    return r{(n + 1) % 7}(x) + {n % 3}" for n in range(7))
    + "\n",
    "loud.py": "print(1)\nX = 1\n",
    "hears.py": "import entanglement.loud\nX = 1\n",
    "hears_too.py": "import entanglement.hears\nX = 1\n",
    "hears_again.py": "import entanglement.hears_too\nX = 1\n",
    "quiet.py": "import entanglement.alone\nX = 1\n",
    "doc.py": """
        '''Module.'''
        import functools
        # before


        @functools.cache
        # between
        def told():
            '''Told.'''
            return 1  # behind


        # after
        def tells():
            return told.__doc__


        def silent():
            return 2  # unread
        """,
    "registry.py": """
        class Registry:
            def __init__(self, what, package=None, printed=()):
                self.things = {}

            def add(self, name, thing, title=None):
                self.things[name] = thing
        """,
    "rules.py": """
        from entanglement.registry import Registry

        RULES = Registry("rule", printed=("title",))
        RULES.add("one", 1, title="One")
        RULES.add("two", 2, title="Two")
        """,
    "more.py": """
        from entanglement.registry import Registry
        from entanglement.rules import RULES

        MORE = Registry("more")
        MORE.add("through", lambda: RULES)
        """,
    "other.py": "from entanglement import alone\n\nalone.leaf.limit = 2\n",
    "broken.py": "def f(:\n",
    "pack/__init__.py": "from entanglement.alone import leaf as given\n\nOWN = 1\n",
    "pack/part.py": "X = 1\n",
    "pack/deep/__init__.py": "",
    "pack/deep/part.py": "X = 1\n",
}
RULES = "from entanglement.rules import RULES\nRULES"
ROOTS = {
    name: [(f"entanglement.{module}", definition)]
    for name in (
        "alone:leaf", "alone:again", "alone:above", "circle:tail", "circle:a", "circle:b", "circle:c", "circle:d",
        "circle:e", "circle:f", "ring:r0", "ring:r3", "loud:X", "hears:X", "hears_too:X", "hears_again:X", "quiet:X",
        "doc:told", "doc:tells", "rules:RULES", "more:MORE", "broken:f", "pack:given", "pack:OWN", "registry:Registry",
    )
    for module, definition in [name.split(":")]
}  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("graphs") / "lib"
    for package, files in (("entanglement", LIBRARY), ("entanglement_book", {"drawing/ink.py": "X = 1\n"})):
        for name, text in files.items():
            path = root / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip())
        (root / package / "__init__.py").touch()
    (root / "entanglement_book" / "drawing" / "__init__.py").touch()
    return root


@pytest.fixture(scope="module")
def graph(library):
    return CodeGraph(library)


def test_what_was_asked_before_changes_no_answer(library):
    first = {name: CodeGraph(library).fingerprint(root) for name, root in ROOTS.items()}
    for order in (list(ROOTS), list(ROOTS)[::-1], sorted(ROOTS, key=lambda name: name[::-1])):
        graph = CodeGraph(library)
        assert {name: graph.fingerprint(ROOTS[name]) for name in order} == first
        together = [root for name in order for root in ROOTS[name]]
        assert graph.fingerprint(together) == CodeGraph(library).fingerprint(together)


KEPT = {
    "alone:leaf": "284c4452 f49680b6",
    "alone:again": "1adac8dd 2ab2ddef",
    "alone:above": "b21961c0 dc06c3c0",
    "circle:tail": "22269ad6 17be57bc",
    "circle:a": "834503ec 86ae2b97",
    "circle:b": "67ea92b7 387e0f8c",
    "circle:c": "3824a848 efb2d6a2",
    "circle:d": "30712c61 77d21f7f",
    "circle:e": "c3e5d975 77d21f7f",
    "circle:f": "3584b730 6d5fb3ce",
    "ring:r0": "8d9f714c 6d90ef77",
    "ring:r3": "036833d2 6d90ef77",
    "loud:X": "05ebc085 9af5743f",
    "hears:X": "36389500 fac60cba",
    "hears_too:X": "fc2503c1 967919f4",
    "hears_again:X": "fca1a901 7b3d8eb6",
    "quiet:X": "dd7754bc 147aa9c6",
    "doc:told": "4f4e1ae0 25c28d45",
    "doc:tells": "0dd6c65a c74e7177",
    "rules:RULES": "f9ae08c7 da7532b0",
    "more:MORE": "f7e8ffa7 09a06b36",
    "broken:f": "8d3ee4a7 8d3ee4a7",
    "pack:given": "284c4452 f49680b6",
    "pack:OWN": "4f051427 147aa9c6",
    "registry:Registry": "3400ac45 877ea431",
}


@pytest.mark.parametrize("name", KEPT)
def test_a_fingerprint_stays_what_it_was(graph, name):
    """Fingerprints are stored with pages and tables: if the same code had another one, all would be stale."""
    found = graph.fingerprint(ROOTS[name])
    assert f"{found.code[:8]} {found.shape[:8]}" == KEPT[name]
    assert len(found.code) == len(found.shape) == 32


@pytest.mark.parametrize(
    ("roots", "uses", "view", "kept"),
    [
        ("print(1)", None, "numbers", "b6344b07 b6344b07"),
        ("print(1)", None, "page", "80a0406d 80a0406d"),
        ("from entanglement.alone import *\nleaf()", None, "numbers", "527fae4c b24b57de"),
        ("def f(:", None, "numbers", "8d71125e 2dd56d23"),
        (RULES, None, "numbers", "a4ce75ef 8c483d03"),
        (RULES, [("rule", "one")], "numbers", "2435c332 e33f9662"),
        (RULES, [("rule", "one")], "page", "477eedd2 36dae79b"),
        (RULES, [("rule", "none")], "numbers", "a94e6915 06c7613f"),
        (RULES, [("rule", "*")], "numbers", "a4ce75ef 8c483d03"),
        ("1", [("rule", "one"), ("rule", "two")], "numbers", "93ddec4f 532948a7"),
        ("from entanglement.doc import told\ntold.__doc__", None, "numbers", "3ec2e925 7f3194b9"),
        ("from entanglement import pack\nvars(pack)", None, "numbers", "797114f7 a865bca6"),
        ([("entanglement_book.drawing.ink", "X")], None, "numbers", "290c5f51 290c5f51"),
        ([("entanglement_book.drawing.ink", "X")], None, "page", "c6565f19 752bdc9c"),
        ([], [("rule", "one")], "page", "b227370b d1123161"),
    ],
)
def test_a_text_s_fingerprint_stays_what_it_was(graph, roots, uses, view, kept):
    found = graph.fingerprint(roots, uses, view)
    assert f"{found.code[:8]} {found.shape[:8]}" == kept


def test_a_part_is_a_short_hash_of_its_own_text(graph):
    parts = graph.fingerprint(ROOTS["alone:above"]).parts
    assert parts == {
        "entanglement.alone: above": "0cc11fd3c4",
        "entanglement.alone: again": "c17c33311c",
        "entanglement.alone: leaf": "f0968d3e57",
    }
    assert graph.fingerprint(ROOTS["alone:leaf"]).parts.items() <= parts.items()


LEAF, CIRCLE, ENDS = ["alone: leaf"], ["circle: a", "circle: b", "circle: c"], ["circle: d", "circle: e"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("alone:leaf", LEAF),
        ("alone:again", ["alone: again"]),
        ("alone:above", ["alone: above", "alone: again", *LEAF]),
        ("circle:tail", [*LEAF, *CIRCLE, *ENDS, "circle: tail"]),
        ("circle:a", [*LEAF, *CIRCLE, *ENDS]),
        ("circle:d", ENDS),
        ("circle:f", [*LEAF, *CIRCLE, *ENDS, "circle: f"]),
        ("ring:r3", [f"ring: r{n}" for n in range(7)]),
        ("loud:X", ["loud: (statements with effects)", "loud: X"]),
        ("hears:X", ["hears: X", "loud: (statements with effects)"]),
        ("hears_again:X", ["hears_again: X", "loud: (statements with effects)"]),
        ("quiet:X", ["quiet: X"]),
        ("broken:f", ["broken: (the module as an object)"]),
        ("pack:given", LEAF),
        (
            "rules:RULES",
            ["registry: Registry", "rules: RULES", "rules: RULES 'one'", "rules: RULES 'two'"],
        ),
        (
            "more:MORE",
            [
                "more: MORE",
                "more: MORE 'through'",
                "registry: Registry",
                "rules: RULES",
                "rules: RULES 'one'",
                "rules: RULES 'two'",
            ],
        ),
    ],
)
def test_what_a_definition_reaches(graph, name, parts):
    found = graph.fingerprint(ROOTS[name]).parts
    assert [part.removeprefix("entanglement.") for part in found] == parts


@pytest.mark.parametrize(
    ("text", "uses", "parts"),
    [
        ("print(1)", None, []),
        ("from entanglement.alone import *\nleaf()", None, LEAF),
        ("from entanglement.alone import *\nleaf = 1", None, []),
        ("from . import x\nfrom .alone import *\nleaf()", None, []),
        (
            "from entanglement import pack\nvars(pack)",
            None,
            [*LEAF, "pack.deep.part: X", "pack.part: X", "pack: OWN"],
        ),
        ("from entanglement.pack import deep\nvars(deep)", None, ["pack.deep.part: X"]),
        ("from entanglement.pack import part\nvars(part)", None, ["pack.part: X"]),
        (RULES, [], ["registry: Registry", "rules: RULES"]),
        (RULES, [("rule", "none")], ["registry: Registry", "rules: RULES"]),
        (RULES, [("rule", "one")], ["registry: Registry", "rules: RULES", "rules: RULES 'one'"]),
        (RULES, [("more", "one")], ["registry: Registry", "rules: RULES"]),
        (
            RULES,
            [("rule", "*")],
            ["registry: Registry", "rules: RULES", "rules: RULES 'one'", "rules: RULES 'two'"],
        ),
        ("1", [("rule", "two")], ["registry: Registry", "rules: RULES", "rules: RULES 'two'"]),
        ("1", [("file", "two")], []),
    ],
)
def test_what_a_text_reaches(graph, text, uses, parts):
    found = graph.fingerprint(text, uses).parts
    assert [part.removeprefix("entanglement.") for part in found] == ["(the source)", *parts]


def test_uses_count_as_a_set_and_files_do_not(graph):
    code = lambda *uses: graph.fingerprint(RULES, uses).code  # noqa: E731
    one, two = ("rule", "one"), ("rule", "two")
    assert code(one, two) == code(two, one) == code(two, one, two) == code(one, two, ("file", "a"))
    assert (
        len({code(), code(one), code(two), code(one, two), code(("rule", "*")), code(("rule", "none"))}) == 6
    )
    assert graph.fingerprint(RULES).code == code(("rule", "*"))


def test_a_title_counts_for_the_page_and_a_drawing_does(graph):
    views = lambda text: [graph.fingerprint(text, None, view) for view in ("numbers", "page")]  # noqa: E731
    numbers, page = views("from entanglement_book.drawing import ink\nink.X")
    assert list(numbers.parts) == ["(the source)"]
    assert list(page.parts) == ["(the source)", "entanglement_book.drawing.ink: X"]
    numbers, page = views(RULES)
    own = "entanglement.rules: RULES 'one'"
    assert numbers.parts.keys() == page.parts.keys() and numbers.parts[own] != page.parts[own]


EDITS = {
    "told": ("doc.py", "Told.", "Untold."),
    "behind": ("doc.py", "# behind", "# beyond"),
    "between": ("doc.py", "# between", "# betwixt"),
    "before": ("doc.py", "# before", "# ahead"),
    "after": ("doc.py", "# after", "# later"),
    "unread": ("doc.py", "# unread", "# unseen"),
}


@pytest.mark.parametrize(
    ("edit", "seen"),
    [
        ("told", True),
        ("behind", True),
        ("between", True),
        ("before", False),
        ("after", False),
        ("unread", False),
    ],
)
def test_who_reads_a_source_depends_on_it_as_it_is_written_from_its_first_decorator_to_its_end(
    tree, edit, seen
):
    tree.write({"entanglement/doc.py": LIBRARY["doc.py"]})
    changed = tree.watch([("entanglement.doc", "tells")])
    apart = tree.watch([("entanglement.doc", "told")])
    name, old, new = EDITS[edit]
    tree.edit(f"entanglement/{name}", old, new)
    assert changed() == (seen, seen) and apart() == (False, False)


def test_a_graph_is_of_its_own_folder(library, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text("X = 1\n")
    ours, theirs = CodeGraph.of(library), CodeGraph.of(tmp_path)
    assert CodeGraph.of(library) is ours and CodeGraph.of(tmp_path / "toy" / "..") is theirs
    assert theirs.names.packages == {"toy"} and ours.names.packages == {"entanglement", "entanglement_book"}
