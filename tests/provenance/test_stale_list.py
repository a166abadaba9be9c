"""The specification of the cache: what each of a list of edits makes stale, and what it leaves alone.

A copy of the tree in which everything is current is edited, one edit at a time. What then counts as stale
must be what is written down here: pages (``status``), published verdicts (``claims --check``), tables
(``results check``) and lines of the benchmark.
"""

import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entanglement.losses import LOSSES
from entanglement_book.bench.lines import LINES
from entanglement_book.bench.made_of import made_of_line
from entanglement_book.bench.trainings import STEPS as MEASURED_STEPS
from entanglement_book.grids.freshness import problems_of
from entanglement_book.grids.grid import GRIDS
from entanglement_book.grids.made_by import Code
from entanglement_book.grids.stored import folder_of
from entanglement_book.layout import Book, Settings, is_report
from entanglement_book.ledger.verdicts import VerdictFile
from entanglement_book.press.depends import depends_on
from entanglement_book.press.store import Store, inspect, science_now
from entanglement_book.provenance import CodeGraph

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Settings("smoke")
PARTS = ("lib", "notebooks", "book", "_toc.yml", "_config.yml", "requirements.lock")


@dataclass(frozen=True)
class Stale:
    """What is stale: chapters by the words of their files, grids, and the benchmark's lines by their side."""

    pages: frozenset[str] = frozenset()
    verdicts: frozenset[str] = frozenset()
    grids: frozenset[str] = frozenset()
    bench: frozenset[str] = frozenset()

    @classmethod
    def of(cls, pages=(), verdicts=None, grids=(), bench=()):
        """Verdicts are stale with their pages unless told otherwise: what changes numbers changes both."""
        verdicts = pages if verdicts is None else verdicts
        return cls(*(frozenset(names) for names in (pages, verdicts, grids, bench)))


def topic(chapter):
    return chapter.partition("_")[2]


@dataclass
class Copy:
    """A copy of the tree, with outputs that are current by construction."""

    root: Path
    before: dict[Path, bytes] = field(default_factory=dict)

    @property
    def book(self):
        return Book(self.root, self.root / "_build")

    def stale(self):
        pages = {topic(c) for c, why in inspect(self.book, SMOKE).stale.items() if why and not is_report(c)}
        published = VerdictFile.read(self.book.verdicts("book"), "book")
        now = science_now(self.book, published)
        verdicts = {topic(c) for c, basis in published.notebooks.items() if now.get(c) != basis.science}
        code = Code(self.root)
        grids = {
            name
            for name, grid in GRIDS.items()
            for scale in ("smoke", "book")
            for model in grid.kept(scale)
            if problems_of(grid, scale, model, code)
        }
        measured = json.loads((self.root / "book" / "results" / "bench" / "cpu.json").read_text())["lines"]
        rows = {(row["ours"], row["theirs"]): row for row in measured}
        bench = set()
        for line in LINES:
            row = rows[line.ours, line.theirs]
            made = made_of_line(line, [tuple(use) for use in row["uses"]], code)
            if (made["code"], made["files"]) != (row["code"], row["files"]):
                bench.add(line.ours)
        return Stale(frozenset(pages), frozenset(verdicts), frozenset(grids), frozenset(bench))

    def change(self, path, old, new, count=1):
        file = self.root / path
        self.before.setdefault(file, file.read_bytes())
        text = file.read_text(encoding="utf-8")
        assert len(re.findall(re.escape(old), text)) >= 1, f"{path} has no {old!r}: mend the edit"
        file.write_text(text.replace(old, new, count), encoding="utf-8")

    def undo(self):
        for file, content in self.before.items():
            file.write_bytes(content)
        self.before.clear()


EVERY_LOSS = [("loss", name) for name in ("*", *LOSSES)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            shutil.copy(source, root / name)
    copy = Copy(root)
    # Outputs as if every chapter had just run, with the uses that are recorded for smoke.
    graph, store = CodeGraph(root / "lib"), Store(copy.book, SMOKE)
    bases = VerdictFile.read(copy.book.verdicts("smoke"), "smoke").notebooks
    for chapter in copy.book.chapters():
        if not is_report(chapter):
            # A page without a claim has no verdict's basis: the one there is goes through all losses.
            recorded = bases[chapter].uses if chapter in bases else EVERY_LOSS
            uses = [(kind, str(root / name) if kind == "file" else name) for kind, name in recorded]
            store.save(chapter, "{}", [], depends_on(copy.book, chapter, SMOKE, uses, graph), 1.0)
    return copy


def test_what_chapters_used_is_recorded():
    """The lists below go by it: a few entries that everybody knows, and one that nobody used."""
    assert {"sentiment_gpt2", "one_number"} <= pages_that_used("optimizer", "adamw")
    assert "one_token" not in pages_that_used("model", "nano") and "one_token" in pages_that_used(
        "loss", "dpo"
    )
    assert pages_that_used("grid", "dynamics") >= {"training_dynamics"} and not pages_that_used(
        "model", "none"
    )


def test_at_first_nothing_is_stale(tree):
    assert tree.stale() == Stale()


NEW_LOSS = """


@declare_loss(
    "new", title="New", formula="f_w", source="a test", form="separable", needs_reference=False
)
def new(logps: PairLogps) -> torch.Tensor:
    return -logps.chosen
""".rstrip()
NEW_RULE = '\nUPDATES.add("new", by_rule(title="new", function=_band, safe=False, options={"slack": 0.5}))'
#: The chapter that puts the ways of all grids on near-copies into one picture, under their titles.
EVERY_WAY = "ranking_contrast_generation"
#: All chapters but the report; a new one is found, and need not be named here.
ALL = {
    path.stem.partition("_")[2] for path in (ROOT / "notebooks").glob("*.ipynb") if not is_report(path.stem)
}


def grids_whose_module(says):
    """Return the grids of whose module this is true: a new grid is found, and need not be named here."""
    return {name for name, grid in GRIDS.items() if says(sys.modules[grid.run_cell.__module__])}


def grids_that_used(kind, of):
    """Return the grids whose tables at smoke were made with an entry of a registry."""
    found = set()
    for name, grid in GRIDS.items():
        (model,) = grid.kept("smoke")
        uses = json.loads((folder_of(ROOT, name, "smoke", model) / "provenance.json").read_text())["uses"]
        found |= {name} if [kind, of] in uses else set()
    return found


def pages_that_used(kind, *names):
    """Return the chapters whose run at smoke looked up one of these entries of a registry. The page with all
    losses has no claim, and so nothing recorded.
    """
    recorded = VerdictFile.read(Book(ROOT, ROOT / "_build").verdicts("smoke"), "smoke").notebooks
    uses = {(kind, name) for name in names}
    found = {topic(chapter) for chapter, basis in recorded.items() if uses & set(map(tuple, basis.uses))}
    return found | {"losses_one_by_one"} if kind == "loss" else found


WITH_SET_MEANS = grids_whose_module(lambda module: hasattr(module, "set_means"))
STEPS = {line.ours for line in LINES if line.ours in MEASURED_STEPS}
ENTANGLEMENT = "notebooks/03_gradient_entanglement.ipynb"
SHARING = ("shared/means", "ch11_one_number/grid", "ch12_which_tokens/grid", "ch13_control/grid")
GENERAL = "lib/entanglement/losses/general.py"
STUDIES = "lib/entanglement_book/studies"
#: An edit → the changes that it is made of (path, old text, new text), and what it makes stale.
EDITS = {
    "flip SimPO's sign": (
        [
            (
                GENERAL,
                "return -logsigmoid(beta * (logps.chosen_mean",
                "return logsigmoid(beta * (logps.chosen_mean",
            )
        ],
        Stale.of(
            # the chapter on probability takes the titles of twelve losses, and with them what they are
            pages=pages_that_used("loss", "simpo"),
            verdicts=pages_that_used("loss", "simpo") - {"losses_one_by_one"},
            grids={"dynamics"},
        ),
    ),
    "double the damping of the decoupled step": (
        [("lib/entanglement/updates/decoupled.py", "strength = self.damping", "strength = 2 * self.damping")],
        Stale.of(
            # the chapter on one number goes through all updates
            pages={"controlling_each_response", "one_number", EVERY_WAY},
            grids={"controlling"},
            bench={"decoupled, all responses, nano", "decoupled, batch, nano"},
        ),
    ),
    "add a loss": (
        [
            (
                "lib/entanglement/losses/separable.py",
                "\n\n\n@declare_loss(",
                NEW_LOSS + "\n\n\n@declare_loss(",
            )
        ],
        Stale.of(pages={"every_margin_loss", "losses_one_by_one"}, verdicts={"every_margin_loss"}),
    ),
    "add an update rule": (
        [
            (
                "lib/entanglement/updates/pair_rules.py",
                "\nUPDATES.add(",
                NEW_RULE + "\nUPDATES.add(",
            )
        ],
        Stale.of(pages={"one_number"}),
    ),
    "change the title of DPO": (
        [("lib/entanglement/losses/strict.py", 'title="DPO"', 'title="the DPO loss"')],
        Stale.of(pages=pages_that_used("loss", "dpo"), verdicts=()),
    ),
    "change a title of a grid": (
        [(f"{STUDIES}/shared/titles.py", '"all tokens (DPO)"', '"every token"')],
        Stale.of(pages={"controlling_each_response", "which_tokens_matter", EVERY_WAY}),
    ),
    "change the accent color": (
        [("lib/entanglement_book/drawing/style.py", 'ACCENT = "#', 'ACCENT = "#0')],
        Stale.of(pages=ALL, verdicts=()),
    ),
    "edit the loss table": (
        [("lib/entanglement_book/press/loss_table.py", "<th>loss</th>", "<th>Loss</th>")],
        Stale.of(pages={"losses_one_by_one"}, verdicts=()),
    ),
    "change how numbers are pasted": (
        [("lib/entanglement_book/press/pasting.py", "else float(value)", "else float(value) + 0.0")],
        Stale.of(pages=ALL - {"losses_one_by_one"}, verdicts=()),
    ),
    "change one chapter's recipe": (
        [(f"{STUDIES}/ch08_sentiment/grid.py", "dpo_steps=32", "dpo_steps=40")],
        Stale.of(
            # the chapter on probability reads where the pairs' scores began
            pages={"sentiment_gpt2", "token_by_token", "where_the_probability_goes"},
            grids=grids_whose_module(lambda module: ".ch08_sentiment." in module.__name__),
        ),
    ),
    "change the grid of another chapter": (
        [(f"{STUDIES}/ch12_which_tokens/grid.py", "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)")],
        Stale.of(pages={"controlling_each_response", "which_tokens_matter", EVERY_WAY}, grids={"masking"}),
    ),
    "change a docstring, a comment and the layout": (
        [
            ("lib/entanglement/training/align.py", '"""', '"""Another first line. '),
            (GENERAL, "return -logsigmoid(", "# why not\n    return -logsigmoid(\n        "),
        ],
        Stale.of(),
    ),
    "change prose and a caption": (
        [
            (ENTANGLEMENT, "One chosen gradient $g_w$ (blue)", "A gradient"),
            (
                ENTANGLEMENT,
                "We train a model to prefer",
                "I train a model to prefer",
            ),
        ],
        Stale.of(),
    ),
    "rename a module": (
        [
            ("lib/entanglement/loglinear/__init__.py", "loglinear.tabular", "loglinear.tables_of_logits"),
            (f"{STUDIES}/ch07_suffix/study.py", "loglinear.tabular", "loglinear.tables_of_logits"),
        ],
        Stale.of(),
    ),
    "rename a function": (
        [
            (path.relative_to(ROOT).as_posix(), "set_means", "means_of_sets")
            for path in sorted((ROOT / STUDIES).rglob("*.py"))
            if "set_means" in path.read_text(encoding="utf-8")
        ],
        Stale.of(
            # pages show a grid's run, whose name for it has changed
            pages=pages_that_used("grid", *WITH_SET_MEANS),
            grids=WITH_SET_MEANS,
        ),
    ),
    "change an optimizer": (
        [("lib/entanglement/optimizers.py", "weight_decay=0.0", "weight_decay=0.01")],
        Stale.of(
            pages=pages_that_used("optimizer", "adamw"),
            grids=grids_that_used("optimizer", "adamw"),
            bench=STEPS,
        ),
    ),
    "change the lock file": ([("requirements.lock", "==", "==9")], Stale.of(pages=ALL, verdicts=())),
    "change a checkpoint": (
        [("lib/entanglement/checkpoints/nano/config.json", '"n_head": 4', '"n_head": 2')],
        Stale.of(
            pages=pages_that_used("model", "nano"),
            grids=grids_that_used("model", "nano"),
            bench=STEPS,
        ),
    ),
    "change a stored table": (
        [("book/results/smoke/dynamics-nano/means.csv", "0.0,", "0.1,")],
        Stale.of(pages={"training_dynamics", "where_the_probability_goes"}, verdicts=(), grids={"dynamics"}),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_makes_stale_what_is_written_down_and_nothing_else(tree, edit):
    changes, expected = EDITS[edit]
    moved = None
    try:
        for path, old, new in changes:
            tree.change(path, old, new, count=-1 if "rename" in edit else 1)
        if edit == "rename a module":
            moved = tree.root / "lib" / "entanglement" / "loglinear" / "tabular.py"
            moved.rename(moved.with_name("tables_of_logits.py"))
        found = tree.stale()
    finally:
        if moved is not None:
            moved.with_name("tables_of_logits.py").rename(moved)
        tree.undo()
    assert found == expected
