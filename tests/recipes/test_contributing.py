"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the tree.

Code and commands are taken from the text itself. A block of code belongs to the file that the line before it
names last; after "`NAME` of" it is an entry of that dictionary, after a notebook it is the end of its last
hidden cell.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from entanglement_book.grids.grid import GRIDS
from entanglement_book.layout import Book, Settings
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.press import notebooks
from entanglement_book.press.depends import depends_on
from entanglement_book.press.notebooks import complaints
from entanglement_book.provenance import CodeGraph, root_of

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", GUIDE.partition("## Recipes")[2], re.M | re.S))
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)
LONGEST = 10
#: What a copy needs. Of what is large and never edited the copy holds hard links.
COPIED = (
    "lib",
    "notebooks",
    "book",
    "tests",
    "_toc.yml",
    "_config.yml",
    "pyproject.toml",
    "requirements.lock",
)


def link_or_copy(source, target):
    if Path(source).suffix in {".py", ".ipynb", ".md", ".yml", ".toml", ".lock"}:
        return shutil.copy2(source, target)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


class Tree:
    """A copy of the tree, and what is done in it."""

    def __init__(self, root):
        self.root = root
        for name in COPIED:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns(".*_cache", ".ipynb_checkpoints")
                shutil.copytree(ROOT / name, root / name, copy_function=link_or_copy, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, root / name)

    def run(self, command, status=0):
        """Run a line of the text with the copy's library; returns what it said."""
        line = command.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        line = line.replace("python -m pytest", "python -m pytest -p no:cacheprovider")
        environment = {**os.environ, "PYTHONPATH": str(self.root / "lib"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.root, env=environment, capture_output=True, text=True
        )
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{command}\n{said[-3000:]}"
        return said

    def python(self, source):
        return self.run(f".venv/bin/python - <<'END'\n{source}\nEND")

    def place(self, where, code):
        """Put a block of code where the line before it says."""
        path = self.root / re.findall(r"`([\w/.]+/[\w/.]+)`", where)[-1]
        entry = re.search(r"`([A-Z]+)` of `", where)
        if path.suffix == ".ipynb":
            book = notebooks.read(path)
            hidden = [cell for cell in book.cells if "remove-cell" in notebooks.tags(cell)]
            hidden[-1].source += f"\n{code}"
            path.write_text(notebooks.dumps(notebooks.tidy(book)), encoding="utf-8")
        elif entry:
            text = path.read_text(encoding="utf-8")
            start = f"{entry[1]} = {{\n"
            assert text.count(start) == 1, f"{path} has no {start!r}"
            path.write_text(text.replace(start, start + code), encoding="utf-8")
        else:
            old = path.read_text(encoding="utf-8") + "\n\n" if path.suffix == ".py" and path.exists() else ""
            old = path.read_text(encoding="utf-8") if path.suffix == ".yml" else old
            path.write_text(old + code, encoding="utf-8")
        return path


def steps(name):
    """(language, line before, block) of each block of a recipe."""
    text, found, at = RECIPES[name], [], 0
    for block in BLOCK.finditer(text):
        before = " ".join(text[at : block.start()].split())
        found.append((block[1], before, block[2]))
        at = block.end()
    return found


def follow(tree, name):
    """Do what a recipe says; returns (files that its code went to, what its commands said)."""
    files, said = [], {}
    for language, before, block in steps(name):
        if language == "bash":
            for command in block.strip().splitlines():
                said[command] = tree.run(command)
        else:
            files.append(tree.place(before, block).relative_to(tree.root).as_posix())
    return files, said


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def lints(tree, files):
    names = " ".join(files)
    tree.run(f".venv/bin/python -m ruff check {names} && .venv/bin/python -m ruff format --check {names}")


def test_a_recipe_is_short():
    assert list(RECIPES) == [
        "A loss", "An update rule", "An aggregation rule", "A reward method", "A ranking loss",
        "A kind of layer", "A data format", "A chapter", "A claim",
    ]  # fmt: skip
    for name, text in RECIPES.items():
        lines = [line for line in BLOCK.sub("", text).splitlines() if line.strip()]
        assert len(lines) <= LONGEST, name


def fingerprints(root):
    """What each grid and each chapter is made by, if it looked up every loss that we declare, by name."""
    from entanglement.losses import LOSSES
    from entanglement.updates import UPDATES

    graph, book = CodeGraph(root / "lib"), Book(root, root / "_build")
    uses = [("loss", name) for name in LOSSES] + [("update", name) for name in UPDATES]
    found = {
        name: graph.fingerprint([root_of(function) for function in GRIDS[name].roots], uses, "numbers").code
        for name in GRIDS
    }
    for chapter in book.chapters():
        found[chapter] = depends_on(book, chapter, Settings("book"), uses, graph).science
    every = [("loss", "*"), *uses]
    found["all losses"] = depends_on(book, "04_every_margin_loss", Settings("book"), every, graph).science
    return found


def test_a_loss(tree):
    before = fingerprints(tree.root)
    declared, closed = steps("A loss")[:2]
    files = [tree.place(*declared[1:])]
    missing = tree.run(
        ".venv/bin/python -m pytest -q tests/core/test_loss_catalogue.py -k closed_form_here", 1
    )
    assert "squared_hinge" in missing
    files.append(tree.place(*closed[1:]))
    said = {line: tree.run(line) for line in steps("A loss")[2][2].strip().splitlines()}
    shown, tested = said.values()
    assert "squared_hinge: Squared hinge" in shown and "beta = 0.1, in (0, inf)" in shown
    # Both tests of its weights, its form, its printed formulas, and that the list is whole.
    assert int(re.search(r"(\d+) passed", tested)[1]) >= 6
    assert [path.name for path in files] == ["strict.py", "test_loss_catalogue.py"]
    lints(tree, map(str, files))
    # The cells of the page with all losses, and the command without a name.
    cells = notebooks.read(tree.root / "notebooks" / "81_losses_one_by_one.ipynb").cells
    tables = [cell.source for cell in cells if cell.source.startswith("LossTable(")]
    source = "from entanglement.cli import main\nfrom entanglement_book.press.loss_table import LossTable\n"
    source += "\n".join(f"print({table}._repr_html_())" for table in tables) + "\nmain(['losses'])"
    everywhere = tree.python(source)
    assert everywhere.count("<code>squared_hinge</code>") == 1 and "\nsquared_hinge: " in everywhere
    now = fingerprints(tree.root)
    assert {name for name in now if now[name] != before[name]} == {"all losses"}


def test_an_update_rule(tree):
    rule, formula, commands = steps("An update rule")
    files = [tree.place(*rule[1:])]
    missing = tree.run(".venv/bin/python -m pytest -q tests/updates/test_formulas.py -k has_a_formula", 1)
    assert "steep" in missing
    files.append(tree.place(*formula[1:]))
    assert "2 passed" in tree.run(commands[2].strip())
    said = tree.python(
        "from entanglement.updates import get_update, list_rules\n"
        "from entanglement_book.bench.lines import LINES\n"
        "print(get_update('steep').rule.title, 'steep' in list_rules())\n"
        "print([line.ours for line in LINES if 'steep' in line.ours])"
    )
    assert said.splitlines() == ["steep True", "['steep, nano']"]
    lints(tree, map(str, files))


def test_a_rule_a_method_and_a_loss_of_what_is_beyond_pairs(tree):
    """Three recipes in one tree: none of them touches what another one needs."""
    declared = []
    for name, least in (("An aggregation rule", 4), ("A reward method", 4), ("A ranking loss", 20)):
        files, said = follow(tree, name)
        assert int(re.search(r"(\d+) passed", "".join(said.values()))[1]) >= least, name
        declared += files
    lints(tree, declared)


def test_a_kind_of_layer(tree):
    files, said = follow(tree, "A kind of layer")
    assert re.search(r"[3-9] passed", "".join(said.values()))
    lints(tree, files)
    found = tree.python("""
import torch
from torch import nn
from entanglement.gradients import naive, pair_geometry
from entanglement.gradients.layers.gain import Gain
from entanglement.models import load_model
from entanglement.pairs import PreferencePair, collate
model, tokenizer = load_model("nano")
model.transformer.ln_f = nn.Sequential(model.transformer.ln_f, Gain(model.config.n_embd))
batch = collate([PreferencePair("the film was", " good", " bad")], tokenizer)
some = lambda name: "ln_f.1" in name
ours, theirs = pair_geometry(model, batch, some, strict=True), naive.pair_geometry(model, batch, some)
print(torch.allclose(ours.inner, theirs.inner, rtol=1e-4), float(theirs.inner) != 0)
""")
    assert "True True" in found


def test_a_data_format(tree):
    files, said = follow(tree, "A data format")
    assert "1 passed" in "".join(said.values())
    lints(tree, files)
    found = tree.python("""
import json
from pathlib import Path
from entanglement.uses import recording
from entanglement_book.materials.json_lines import json_lines_pairs
path = Path("book/pairs.jsonl")
path.write_text(json.dumps({"prompt": "the film was", "chosen": " good", "rejected": " bad"}) + "\\n")
with recording() as uses:
    pairs = json_lines_pairs(path)
print(len(pairs), [name.endswith("book/pairs.jsonl") for kind, name in uses if kind == "file"])
""")
    assert found.strip() == "1 [True]"


def test_a_chapter(tree):
    before = Book.find(tree.root).chapters()
    made, tidy, executed, status = follow(tree, "A chapter")[1].values()
    (chapter,) = set(Book.find(tree.root).chapters()) - set(before)
    assert chapter.endswith("_loaded_dice") and f"wrote notebooks/{chapter}.ipynb" in made
    assert f"{len(before) + 1} notebooks are in order" in tidy
    assert "finished" in executed and "warning" not in executed + status
    assert re.search(rf"^{chapter}\s+current", status, re.M)
    decided = VerdictFile.read(tree.root / "_build" / "executed" / "smoke" / "verdicts.json", "smoke")
    assert decided.claims["loaded-dice-example"].verdict == "reproduced"
    study = f"lib/entanglement_book/studies/ch{chapter}"
    lints(tree, [study, f"notebooks/{chapter}.ipynb"])
    book = nbformat.read(tree.root / "notebooks" / f"{chapter}.ipynb", 4)
    text = "\n".join(cell.source for cell in book.cells)
    order = [
        "# Loaded dice", "After this chapter you can", "Time to read", "## What we saw", "## Exercises",
        "{solution}", "## What is not shown", "## What comes next",
    ]  # fmt: skip
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert complaints(tree.root / "notebooks" / f"{chapter}.ipynb") == []


def test_a_claim(tree):
    files, said = follow(tree, "A claim")
    assert files == ["book/claims.yml", "notebooks/06_one_token.ipynb"]
    executed, shown = said.values()
    assert "finished" in executed and "warning" not in executed
    assert complaints(tree.root / files[1]) == []
    assert re.search(r"^one-token-cosine\s+06\s+reproduced", shown, re.M)
    row = VerdictFile.read(tree.root / "book" / "verdicts" / "smoke.json", "smoke").claims["one-token-cosine"]
    assert row.record is not None and 0 < row.record.value < 0.5 < row.record.control
