"""The book's own code: faults that older keys called fresh, and that nothing that runs is overlooked."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from entanglement.uses import recording
from entanglement_book.press import notebooks
from entanglement_book.press.depends import source_of
from entanglement_book.provenance import CodeGraph

ROOT = Path(__file__).resolve().parents[2]
NOTHING, CODE = (False, False), (True, True)


def notebook(number):
    """The code cells of a chapter as one text."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return source_of(notebooks.read(path))


@pytest.fixture
def book(tree):
    """A copy of the library's Python files."""
    for path in (ROOT / "lib").rglob("*.py"):
        target = tree.root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tree


def edit(book, definition, old, new):
    """Change the one file of the library in which a definition stands."""
    found = [p for p in (book.root / "lib").rglob("*.py") if f"\n{definition}" in p.read_text()]
    assert len(found) == 1, f"{definition!r} stands in {found}"
    book.edit(found[0].relative_to(book.root / "lib").as_posix(), old, new)


def flip_simpo(book):
    edit(
        book,
        "def simpo(",
        "return -logsigmoid(beta * (logps.chosen_mean",
        "return logsigmoid(beta * (logps.chosen_mean",
    )


GET = "from entanglement.losses import get_loss\nget_loss(name)(logps)\n"


def test_a_flipped_sign_of_simpo_is_seen_by_those_who_used_it(book):
    dpo, simpo = (book.watch(GET, {("loss", name)}) for name in ("dpo", "simpo"))
    chapter = [book.watch(notebook("04"), {("loss", "*")}, view) for view in ("numbers", "page")]
    flip_simpo(book)
    assert (dpo(), simpo()) == (NOTHING, CODE)
    assert [changed() for changed in chapter] == [CODE, CODE]


def test_the_code_of_the_loss_table_is_part_of_the_page_that_shows_it(book):
    shown, other = (book.watch(notebook(number), {("loss", "dpo")}, "page") for number in ("81", "06"))
    edit(book, "class LossTable", "<strong>", "<b>")
    assert (shown(), other()) == (CODE, NOTHING)


def test_a_doubled_damping_of_the_decoupled_step_is_seen(book):
    own = book.watch("from entanglement.updates import Decoupled\nDecoupled('batch')\n", set())
    grid, other = (
        book.watch([("entanglement_book.studies.ch13_control.grid", "run_cell")], {("update", name)})
        for name in ("decoupled", "normalized")
    )
    line = book.watch([("entanglement_book.bench.update_steps", "update_step")], {("update", "decoupled")})
    edit(book, "class Decoupled", "strength = self.damping", "strength = 2 * self.damping")
    assert (own(), grid(), other(), line()) == (CODE, CODE, NOTHING, CODE)


def test_what_touches_no_number_changes_none(book):
    """A title, another loss, an accent color, a docstring, a renamed module."""
    page = book.watch(notebook("03"), {("loss", "dpo")}, "page")
    numbers = [book.watch(notebook(number), {("loss", "dpo")}) for number in ("03", "06", "07")]
    edit(book, "def simpo(", 'title="SimPO"', 'title="Simple"')
    edit(book, "def dpo(", '"""−log σ(β Δ), (B,)."""', '"""Other."""')
    book.write(
        {
            "entanglement/losses/another.py": "from entanglement.losses import declare_loss\n\n\n"
            '@declare_loss("another", title="Another")\ndef another(logps):\n    return logps.margin\n'
        }
    )
    for path in (book.root / "lib").rglob("*.py"):
        text = path.read_text()
        if "entanglement.geometry" in text or "from entanglement import geometry" in text:
            path.write_text(
                text.replace("entanglement.geometry", "entanglement.shapes").replace(
                    "from entanglement import geometry", "from entanglement import shapes as geometry"
                )
            )
    (book.root / "lib/entanglement/geometry.py").rename(book.root / "lib/entanglement/shapes.py")
    moved = [
        text.replace("entanglement.geometry", "entanglement.shapes")
        for text in map(notebook, ("03", "06", "07"))
    ]
    assert [changed(text) for changed, text in zip(numbers, moved, strict=True)] == [NOTHING] * 3
    assert page(moved[0]) == NOTHING
    edit(book, 'ACCENT = "', 'ACCENT = "#7a6cf0"', 'ACCENT = "#000000"')
    assert [changed(text) for changed, text in zip(numbers, moved, strict=True)] == [NOTHING] * 3
    assert page(moved[0]) == CODE


def test_two_pieces_of_code_have_one_text_just_when_they_are_the_same(tree):
    """Every statement of the library against every other, as syntax trees and as texts."""
    graph = tree.graph()
    of_tree, of_text = {}, {}
    other = ast.Import | ast.ImportFrom | ast.AnnAssign | ast.FunctionDef | ast.ClassDef | ast.Return
    for path in sorted((ROOT / "lib" / "entanglement").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.stmt) or any(isinstance(inner, other) for inner in ast.walk(node)):
                continue
            dumped = ast.dump(node)
            if dumped not in of_tree:
                of_tree[dumped] = graph.fingerprint(ast.unparse(node)).code
                assert of_tree[dumped] not in of_text, ast.unparse(node)
                of_text[of_tree[dumped]] = dumped
    assert len(of_tree) > 1000


# --- nothing that runs is overlooked ------------------------------------------------------------------------

RUNS = {
    "losses": """
import torch
from entanglement import geometry as g
from entanglement.losses import PairLogps, get_loss, list_losses
x = torch.tensor([-3.0, -4.0])
n = torch.tensor([4, 5])
for name in (list_losses() if everything else ["simpo", "dpo"]):
    print(get_loss(name).weights(PairLogps(x, x - 1, x, x, n, n)))
pair = g.PairGeometry.from_vectors([2.0, 1.0], [3.0, 1.0])
print(pair.case(1.0, 1.0), pair.rates(1.0, 1.0))
""",
    "gradients": """
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from entanglement import gradients
from entanglement.logps import pair_logps
from entanglement.pairs import PairBatch
from entanglement.loglinear import suffix_pairs
model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2)).eval()
ids = torch.arange(24).reshape(4, 6) % 20
mask = torch.ones(4, 6, dtype=torch.bool)
mask[:, :3] = False
batch = PairBatch(ids, torch.ones_like(ids), mask, False, ("a", "b"))
print(gradients.pair_geometry(model, batch).cosine)
print(suffix_pairs(2, 3, relation="scaled", strength=1.25).geometry().cosine)
""",
}


def called(text, values):
    """Which definitions of the library a text runs: "module: definition"."""
    lib = str(ROOT / "lib")
    places = set()

    def watch(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(lib):
            places.add((code.co_filename, code.co_firstlineno))

    program = compile(text, "<text>", "exec")
    exec(program, dict(values))  # so that what runs at import has run
    sys.setprofile(watch)
    try:
        exec(program, dict(values))
    finally:
        sys.setprofile(None)
    found = set()
    for file, line in places:
        path = Path(file)
        module = ".".join(path.relative_to(lib).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if first <= line <= node.end_lineno and hasattr(node, "name"):
                found.add(f"{module.removesuffix('.__init__')}: {node.name}")
    return {name for name in found if not name.startswith("entanglement.uses:")}


@pytest.mark.parametrize(("name", "everything"), [("losses", False), ("losses", True), ("gradients", False)])
def test_all_that_runs_is_in_the_closure(name, everything):
    with recording() as uses:
        run = called(RUNS[name], {"everything": everything})
    assert len(run) > 10
    uses = {use for use in uses if use[0] != "file"}
    parts = CodeGraph(ROOT / "lib").fingerprint(RUNS[name], uses, "numbers").parts
    assert sorted(run - set(parts)) == []


def test_every_loss_and_model_is_one_entry_of_its_registry(book):
    registries = book.graph().registrations
    for kind, count in (("loss", 31), ("model", 3)):
        (registry,) = registries.of_kind(kind)
        names = [entry.name for entry in registry.entries]
        assert len(names) >= count and len(set(names)) == len(names)
        assert len({entry.unit for entry in registry.entries}) == len(names)
        assert registry.unit.also == [] and len(registry.unit.atoms) == 1


def test_importing_looks_nothing_up_and_reads_no_file():
    """Or a process would write down as used what it never ran, or nothing, being imported before.

    The benchmark may: it has a line for every update, and its lines are made when it is imported. No page
    imports that part of it.
    """
    imports = [
        node
        for path in (ROOT / "notebooks").glob("*.ipynb")
        for node in ast.parse(notebook(path.name[:2])).body
    ]
    lines = [ast.unparse(node) for node in imports if isinstance(node, ast.Import | ast.ImportFrom)]
    program = f"""
import pkgutil
from importlib import import_module
from entanglement.uses import recording
with recording() as uses:
    for line in {lines!r}:
        exec(line)
    names = []
    for package in ("entanglement", "entanglement_book"):
        names += [m.name for m in pkgutil.walk_packages(import_module(package).__path__, package + ".")]
    for name in names:
        if not name.endswith(".__main__") and not name.startswith("entanglement_book.bench."):
            import_module(name)
print(len(names))
print(sorted(uses))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "lib")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, uses = done.stdout.strip().splitlines()[-2:]
    assert int(count) > 100 and uses == "[]"
