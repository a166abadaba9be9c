"""The reproduction report: the ledger as tables that can be read, run times, versions.

Works on the table that ``verdicts.ledger_table`` gives; imports no torch. The texts are MyST Markdown, for a
cell whose metadata say ``mystnb: {markdown_format: myst}``.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, TypeAdapter
from typing_extensions import TypedDict  # Python 3.11's own says too little for pydantic

from entanglement.uses import note_file
from entanglement_book.layout import Book, BookError, is_report
from entanglement_book.ledger.verdicts import (
    IN_PART,
    NOT_REPRODUCED,
    NOT_RUN,
    NOT_TESTABLE,
    REPRODUCED,
    VERDICTS,
    VerdictFile,
)
from entanglement_book.press import notebooks
from entanglement_book.press.execute import clock
from entanglement_book.press.numbering import APPENDIX, numbers_of
from entanglement_book.press.store import run_times

if TYPE_CHECKING:
    import pandas as pd

#: A verdict is told by its sign and its words, never by color alone.
SIGNS: dict[str, str] = {
    REPRODUCED: "✓",
    IN_PART: "◐",
    NOT_REPRODUCED: "✗",
    NOT_TESTABLE: "–",
    NOT_RUN: "…",
}
PACKAGES = ("entanglement", "torch", "transformers", "numpy", "scipy", "pandas", "matplotlib", "jupyter-book")


def number(value: float) -> str:
    """Write a number with three significant digits; '' for NaN. Whole numbers stay whole."""
    if math.isnan(value):
        return ""
    if value == round(value) and abs(value) < 1e6:
        text = f"{round(value):,}"
    elif 1e-3 <= abs(value) < 1e5:
        text = f"{value:.3g}"
    else:
        text = f"{value:.1e}"
    return text.replace("-", "−")


def measured(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Write ``value [low, high]``, or the value alone; '' if there is none."""
    if math.isnan(value):
        return ""
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{number(low)}, {number(high)}]"
    return number(value) + interval


def escape(text: str) -> str:
    """Return plain text as MyST Markdown for one cell of a table."""
    return re.sub(r"([\\`*_$|<>{}\[\]])", r"\\\1", " ".join(str(text).split()))


def chapters_of(table: pd.DataFrame) -> list[str]:
    """Return the chapters that the ledger names, in order of their numbers."""
    return sorted(set(table["notebook"]))


def title_of(chapter: str) -> str:
    """Return ``8 Sentiment with GPT-2``: the number by ``_toc.yml``, if any, and the first heading."""
    book = Book.find()
    number_ = numbers_of(book.toc()).get(f"notebooks/{chapter}", APPENDIX)
    start = "" if number_ == APPENDIX else f"{number_} "
    path = book.notebook(chapter)
    if path.is_file():
        for cell in notebooks.read(path).cells:
            found = re.search(r"^# +(.+)$", cell.source, re.MULTILINE)
            if cell.cell_type == "markdown" and found:
                return f"{start}{found[1].strip()}"
    return f"{start}{chapter.partition('_')[2].replace('_', ' ')} (not written yet)"


def verdict_cell(verdict: str) -> str:
    """Return ``✓ reproduced``."""
    return f"{SIGNS.get(verdict, '?')} {verdict}"


def chapter_markdown(table: pd.DataFrame, chapter: str) -> str:
    """Return one chapter's claims as a Markdown table: claim, measured, negative control, verdict.

    The rules stand beside what they judge: the claim's own under the measured value, the control's under it.

    Args:
        table: ``verdicts.ledger_table()``.
        chapter: as in its column ``notebook``.

    Raises:
        ValueError: a chapter that has no claim in the table.
    """
    rows = table[table["notebook"] == chapter]
    if rows.empty:
        raise ValueError(f"chapter={chapter!r}; expected one of {', '.join(chapters_of(table))}.")
    lines = ["| claim | measured | negative control | verdict |", "|:--|:--|:--|:--|"]
    for row in rows.to_dict("records"):
        cells = [
            f"{escape(row['statement'])} ({escape(row['source'])})",
            _result(row, ("value", "low", "high"), row["quantity"], row["rule"], row["n"]),
            _result(
                row, ("control", "control_low", "control_high"), row["control_quantity"], row["control_rule"]
            ),
            verdict_cell(row["verdict"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_CONTROL = ("control", "control_low", "control_high")


def _result(
    row: dict[Any, Any], names: tuple[str, str, str], what: str, rule: str, n: float = math.nan
) -> str:
    """Return ``**value [low, high]**, n = 4: what it is. Rule: `low > 0` ``."""
    shown = measured(*(float(row[name]) for name in names))
    wanted = f" Rule: `{rule}`" if rule else ""
    if not rule and not shown:
        return escape(what) or "none: there is no rule"
    if not shown:
        return f"*no record*: {escape(what)}.{wanted}"
    count = "" if math.isnan(n) else f", n = {number(n)}"
    return f"**{escape(shown)}**{count}: {escape(what)}.{wanted}"


def failures_markdown(table: pd.DataFrame) -> str:
    """Return what was not reproduced in full, and why, as a list; one sentence if there is nothing."""
    lines = []
    for row in table[~table["verdict"].isin([REPRODUCED, NOT_RUN])].to_dict("records"):
        why = escape(row["why"]).rstrip(".") or "no reason was recorded"
        note = f" {escape(row['note'])}" if row["note"] else ""
        statement = escape(row["statement"])
        lines.append(f"- {SIGNS[row['verdict']]} *{row['verdict']}*: {statement} **Why:** {why}.{note}")
    silent = table[table["verdict"] == NOT_RUN]
    for chapter, rows in silent.groupby("notebook"):
        names = ", ".join(rows["claim"])
        lines.append(
            f"- {SIGNS[NOT_RUN]} *{NOT_RUN}*: {escape(title_of(str(chapter)))} has no record of {names}."
        )
    return "\n".join(lines) or "Every claim of the ledger was reproduced."


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many claims of each chapter got each verdict; the last row counts all.

    Columns: the verdicts that occur, in order, then ``claims``. Index: the chapters' titles, then "all".
    """
    import pandas as pd

    counts = pd.crosstab(table["notebook"], table["verdict"])
    wanted = [name for name in (*VERDICTS, NOT_RUN) if name in counts.columns]
    counts = counts[wanted]
    counts.index = pd.Index([title_of(str(chapter)) for chapter in counts.index])
    counts.loc["all"] = counts.sum()
    counts["claims"] = counts.sum(axis=1)
    counts.columns.name = None
    return counts


def other_scale(table: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Return the claims whose verdict, as committed for another scale, differs from the table's.

    Columns: claim, here, there. "not run" where that scale has no verdict.
    """
    committed = VerdictFile.read(Book.find().verdicts(scale), scale).claims
    rows = table[["claim", "verdict"]].rename(columns={"verdict": "here"})
    rows["there"] = [
        committed[str(name)].verdict if str(name) in committed else NOT_RUN for name in rows["claim"]
    ]
    return rows[rows["here"] != rows["there"]].reset_index(drop=True)


def times(scale: str, chapters: Sequence[str] | None = None) -> pd.DataFrame:
    """Return each notebook's wall time in its last finished run, longest first, or "not run".

    The report itself is left out: it is still running.
    """
    import pandas as pd

    found = run_times(scale)
    names = list(chapters) if chapters is not None else Book.find().chapters()
    rows = [(title_of(name), found.get(name)) for name in names if not is_report(name)]
    rows.sort(key=lambda row: -(row[1] or 0.0))
    total = sum(seconds for _, seconds in rows if seconds is not None)
    table = [(name, NOT_RUN if seconds is None else clock(seconds)) for name, seconds in rows]
    return pd.DataFrame([*table, ("all, one after the other", clock(total))], columns=["notebook", "took"])


class _Target(TypedDict):
    name: str
    mutants: NonNegativeInt
    tried: NonNegativeInt
    killed: NonNegativeInt


class Mutation(TypedDict):
    """A mutation run: what was changed, how many mutants were tried, and how many a test noticed."""

    date: str
    commit: str
    targets: list[_Target]
    tried: NonNegativeInt
    killed: NonNegativeInt


def mutation() -> Mutation:
    """Return what the last mutation run measured; before the first one, that nothing was tried.

    Errors: BookError, in one line, if what is stored is no mutation run.
    """
    file = Book.find().root / "book" / "results" / "mutation.json"
    note_file(file)
    if not file.is_file():
        return {"targets": [], "tried": 0, "killed": 0, "date": "", "commit": ""}
    try:
        return TypeAdapter(Mutation).validate_json(file.read_bytes())
    except (OSError, ValueError):
        raise BookError(f"{file.name} holds no mutation run; run: make mutants") from None


def mutation_said(found: Mutation) -> str:
    """Return what is said of a mutation run: when it was made, of what, and how many mutants were noticed."""
    if not found["tried"]:
        return "No whole run has been made yet, so there is no score to show."
    made = f"Measured on {found['date']} at commit `{found['commit']}`"
    return f"{made}: of **{found['tried']}** mutants that were tried, **{found['killed']}** were noticed."


def mutation_table(found: Mutation) -> pd.DataFrame:
    """Return a mutation run as a table for the page: how many mutants each target has, how many were tried,
    how many of these a test noticed, and their share in percent; the last row is over all that were tried.
    """
    import pandas as pd

    rows, mutants = found["targets"], sum(row["mutants"] for row in found["targets"])
    rows = [*rows, _Target(name="all", mutants=mutants, tried=found["tried"], killed=found["killed"])]
    return pd.DataFrame(
        {
            "mutants": [row["mutants"] for row in rows],
            "tried": [row["tried"] for row in rows],
            "noticed": [row["killed"] for row in rows],
            "%": [round(100 * row["killed"] / max(1, row["tried"])) for row in rows],
        },
        index=[row["name"] for row in rows],
    )


def versions() -> pd.DataFrame:
    """Return the versions of Python and of the packages that decide the numbers."""
    import pandas as pd

    rows = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append((name, version(name).partition("+")[0]))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return pd.DataFrame(rows, columns=["package", "version"])


def basis_hash(scale: str) -> str:
    """Return the first twelve digits of a hash over all that the shown verdicts rest on: the chapters' code,
    what it reaches in the library, and the files that were read.
    """
    from entanglement.files import digest
    from entanglement_book.ledger.verdicts import find_verdicts

    bases = find_verdicts(scale).notebooks
    return digest({chapter: basis.science for chapter, basis in bases.items()})[:12]
