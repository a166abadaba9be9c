"""A new chapter: where it goes, what it changes, and what is refused without a trace."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from entanglement import files
from entanglement_book.cli import main
from entanglement_book.layout import Book, toc_files
from entanglement_book.ledger.claims import load_ledger
from entanglement_book.press.notebooks import complaints
from entanglement_book.press.numbering import numbers_of

ROOT = Path(__file__).resolve().parents[2]


PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
#: The last part with numbers, where a new chapter changes no other's; and the number that it gets.
LAST = [part["caption"] for part in PARTS if part.get("numbered")][-1]
NEXT = 1 + sum(len(part["chapters"]) for part in PARTS if part.get("numbered"))


@pytest.fixture
def tree(tmp_path):
    """The book's contents, ledger and notebooks, and no library."""
    for name in ("_toc.yml", "_config.yml", "book/claims.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def everything(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def make(root, *arguments):
    return main(["new-chapter", *arguments, "--root", str(root)])


def test_it_is_the_next_one_and_no_other_moves(tree, capsys):
    before, book = everything(tree), Book.find(tree)
    numbers, rows = numbers_of(book.toc()), load_ledger(book.ledger)
    last = max(int(number) for number in numbers.values() if number.isdigit())
    assert make(tree, "loaded_dice") == 0
    chapter = f"{last + 1:02d}_loaded_dice"
    study = tree / "lib" / "entanglement_book" / "studies" / f"ch{chapter}"
    made = {path.relative_to(tree).as_posix() for path in everything(tree).keys() - before.keys()}
    files = [f"{study.relative_to(tree)}/{name}.py" for name in ("__init__", "study", "figures")]
    assert made == {f"notebooks/{chapter}.ipynb", *files}
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert sorted(changed) == ["_toc.yml", "claims.yml"]
    now = numbers_of(book.toc())
    assert now == {**numbers, f"notebooks/{chapter}": str(last + 1)}
    assert book.disagreements() == [] and complaints(book.notebook(chapter)) == []
    # Comments and order stay; its claim stands before those of later chapters.
    old = before[tree / "_toc.yml"].decode().splitlines()
    assert [line for line in (tree / "_toc.yml").read_text().splitlines() if "loaded_dice" not in line] == old
    after = load_ledger(book.ledger)
    assert [row for row in after if row.id != "loaded-dice-example"] == rows
    owners = [row.notebook for row in after]
    at = owners.index(chapter)
    assert max(owners[:at]) < chapter < min(owners[at + 1 :])
    assert "- id: loaded-dice-example" in (tree / "book" / "claims.yml").read_text().split("# Measuring")[0]
    assert f"added to {Path('book/claims.yml')}" in capsys.readouterr().out
    assert make(tree, "loaded_coins", "--title", "Loaded coins") == 0
    assert (tree / "notebooks" / f"{last + 2}_loaded_coins.ipynb").is_file()
    assert f"{{doc}}`{chapter}`" in (tree / "notebooks" / f"{last + 2}_loaded_coins.ipynb").read_text()


def test_in_the_appendix_it_stands_before_the_report(tree):
    assert make(tree, "odds_and_ends", "--part", "appendix") == 0
    book = Book.find(tree)
    assert book.order()[-3:] == ["81_losses_one_by_one", "82_odds_and_ends", "90_reproduction_report"]
    assert book.disagreements() == [] and complaints(book.notebook("82_odds_and_ends")) == []
    assert (tree / "lib" / "entanglement_book" / "studies" / "odds_and_ends" / "study.py").is_file()


def test_a_new_part_is_written_into_the_contents_by_hand(tree):
    toc = (tree / "_toc.yml").read_text()
    part = "  - caption: X. At last\n    numbered: true\n    chapters:\n"
    (tree / "_toc.yml").write_text(toc.replace("  - caption: Appendix\n", f"{part}  - caption: Appendix\n"))
    assert make(tree, "loaded_dice", "--part", "X") == 0
    parts = {
        part["caption"]: toc_files(part) for part in yaml.safe_load((tree / "_toc.yml").read_text())["parts"]
    }
    assert [name.partition("_")[2] for name in parts["X. At last"]] == ["loaded_dice"]


@pytest.mark.parametrize(
    ("arguments", "given", "allowed"),
    [
        (["Loaded Dice"], "'Loaded Dice'", "lower-case letters"),
        (["14_dice"], "'14_dice'", "a letter first"),
        (["../dice"], "'../dice'", "lower-case letters"),
        (["dice_"], "'dice_'", "lower-case letters"),
        (["import"], "'import'", "contrastive_losses"),
        (["a" * 31], "'aaaa", "at most 30"),
        (["one_token"], "'one_token' is taken", "notebooks/06_one_token.ipynb"),
        (["dice", "--title", " "], "title ''", "one line"),
        (["dice", "--title", 'a"b'], "title", "plain characters"),
        (["dice", "--title", f"After {'chapter'} 3"], "types a number", "refer by role"),
        (["dice", "--part", "II"], "'II' would give other chapters", f"{LAST!r}, 'Teaching', 'Appendix'"),
        (["dice", "--part", "Before you start"], "'Before you start'", f"{LAST!r}, 'Teaching', 'Appendix'"),
        (["dice", "--part", "VII"], "'VII' is no part of _toc.yml", f"{LAST!r}, 'Teaching', 'Appendix'"),
        ([], "NAME", "Missing argument"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_in_one_line_and_leaves_nothing(tree, capsys, arguments, given, allowed):
    before = everything(tree)
    assert make(tree, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert given in err and allowed in err
    assert everything(tree) == before


def test_what_is_there_under_the_name_is_not_written_over(tree, capsys):
    study = tree / "lib" / "entanglement_book" / "studies" / f"ch{NEXT}_dice"
    study.mkdir(parents=True)
    (tree / "book" / "claims.yml").write_text(
        (tree / "book" / "claims.yml").read_text().replace("id: dpo-is-tilted", "id: coins-example")
    )
    before = everything(tree)
    assert make(tree, "dice") == 2 and make(tree, "coins") == 2
    first, second = capsys.readouterr().err.splitlines()
    assert f"studies/ch{NEXT}_dice is there" in first and "'coins-example'" in second
    assert everything(tree) == before


def test_a_disk_that_is_full_leaves_nothing(tree, capsys, monkeypatch):
    before, real, count = everything(tree), os.fdopen, 0

    def opened(*arguments):
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(files.os, "fdopen", opened)
    assert make(tree, "dice") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "was not made: " in line and "No space left on device; what was there is kept" in line
    assert "_toc.yml" in line
    assert everything(tree) == before
    assert not (tree / "lib").exists()


# --- what a chapter lacks to be part of the book ------------------------------------------------------------


def test_a_chapter_that_the_contents_or_the_ledger_do_not_know_is_told(executed, capsys):
    for command in (("status",), ("execute", "--only", "03"), ("book", "--only", "03")):
        executed.run(*command, "--scale", "smoke")
        assert "warning" not in capsys.readouterr().err
    toc = executed.root / "_toc.yml"
    toc.write_text(toc.read_text().replace("  - file: notebooks/06_second\n", ""))
    ledger = executed.root / "book" / "claims.yml"
    ledger.write_text(ledger.read_text().replace("first-holds", "first-is-small"))
    for command in (("status",), ("execute", "--only", "03"), ("book", "--only", "03")):
        executed.run(*command, "--scale", "smoke")
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert told == [
            "warning: notebooks/06_second.ipynb is not in _toc.yml",
            "warning: 03_first records 'first-holds', which is no claim of that chapter in the ledger",
        ], command
