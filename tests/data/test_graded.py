"""Graded summaries: four different candidates in the order of their grades, from made-up docstrings."""

import pytest

from entanglement_book.materials.docstrings import Docstring
from entanglement_book.materials.graded import GRADES, graded_summaries

WORDS = ["adds", "folds", "splits", "reads", "writes", "merges", "counts", "sorts", "paints", "measures"]
BODY = " ".join(["a body of twenty words that says what is done and how it is done here"] * 2)


def made(packages=("one", "two"), modules=12):
    """Docstrings of packages whose summaries have nothing in common but their form."""
    return [
        Docstring(
            p,
            f"{p}.m{m}",
            f"f{k}",
            f"{WORDS[(m + k) % 10]} {WORDS[(3 * m + k + i) % 10]} {p} {m} {k}.",
            BODY + f" {p} {m} {k}",
        )
        for i, p in enumerate(packages)
        for m in range(modules)
        for k in range(3)
    ]


def test_candidates_stand_in_the_order_of_their_grades():
    rows = {f"{d.module}.{d.name}": d for d in made()}
    found = graded_summaries(docstrings=made())
    assert len(found) > 20 and list(GRADES.values()) == sorted(GRADES.values(), reverse=True)
    for some in found:
        own = rows[some.id]
        assert some.relevance == (3, 2, 1, 0) and len(set(some.candidates)) == 4
        true, edited, sibling, stranger = (c.strip() for c in some.candidates)
        assert true == own.summary and own.body in some.prompt
        assert sum(a != b for a, b in zip(true.split(), edited.split(), strict=True)) == 1
        assert sibling in {d.summary for d in rows.values() if d.module == own.module and d is not own}
        assert stranger in {d.summary for d in rows.values() if d.package != own.package}


def test_the_splits_share_no_module_and_a_seed_gives_the_same():
    train, test = (graded_summaries(s, docstrings=made()) for s in ("train", "test"))
    assert {r.id.rsplit(".", 1)[0] for r in train}.isdisjoint(r.id.rsplit(".", 1)[0] for r in test)
    assert graded_summaries(n=5, seed=3, docstrings=made()) == graded_summaries(
        n=5, seed=3, docstrings=made()
    )
    assert graded_summaries(n=5, seed=3, docstrings=made()) != graded_summaries(
        n=5, seed=4, docstrings=made()
    )


def test_too_many_and_one_package_are_refused():
    with pytest.raises(ValueError, match=r"n=1000; only \d+ pairs of kind 'sibling'"):
        graded_summaries(n=1000, docstrings=made())
    with pytest.raises(ValueError, match="all docstrings are of 'one'"):
        graded_summaries(docstrings=made(packages=("one",)))
