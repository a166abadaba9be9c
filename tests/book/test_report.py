"""The report's texts: numbers, tables, missing records, failures, times; and its figure."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from entanglement.files import write_json
from entanglement.uses import recording
from entanglement_book.layout import Book, BookError
from entanglement_book.ledger import verdicts
from entanglement_book.ledger.claims import Claim, Control
from entanglement_book.ledger.records import Record
from entanglement_book.ledger.verdicts import Measured, Row, VerdictFile, decide
from entanglement_book.press import report

CLAIMS = [
    Claim("first-holds", "The number |x| is small.", "paper §1", "03_first", "a $number$", "high < 1",
          control=Control("another", "control > 1")),
    Claim("first-fails", "It is large.", "own", "03_first", "a share", "value > 5", reason="It was not.",
          control=Control("another", "control < 0")),
    Claim("second-silent", "It sings.", "own", "06_second", "a tone", "value > 0",
          control=Control("silence", "control == 0")),
    Claim("second-big", "It needs a GPU.", "paper §2", "06_second", "a count", "value > 0",
          control=Control("no GPU", "control == 0"), scales=("paper",)),
]  # fmt: skip
RECORDS = {
    "first-holds": Record("first-holds", 0.51234, (0.4, 0.6), 4, 2.0, (1.5, 2.5)),
    "first-fails": Record("first-fails", -12345678.0, None, 200, -1.0, None, "See the figure."),
}


@pytest.fixture
def table():
    decided = decide(CLAIMS, Measured("book", {"03_first": list(RECORDS.values())}, {"03_first": "x"}, {}))
    return verdicts.ledger_table(CLAIMS, decided)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3.0, "3"), (12000.0, "12,000"), (0.51234, "0.512"), (-0.25, "−0.25"),
        (0.0001234, "1.2e−04"), (-12345678.9, "−1.2e+07"), (98765.4, "9.88e+04"), (math.nan, ""),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_a_measurement_with_and_without_interval():
    assert report.measured(0.5, 0.4, 0.6) == "0.5 [0.4, 0.6]"
    assert report.measured(0.5) == "0.5"
    assert report.measured(math.nan, 0.4, 0.6) == ""


def test_nothing_of_a_statement_is_read_as_markup():
    assert report.escape("a|b $c$ *d* e_f <g> [h]\n  i") == r"a\|b \$c\$ \*d\* e\_f \<g\> \[h\] i"


def test_a_chapter_is_a_table_with_a_row_a_claim(table):
    lines = report.chapter_markdown(table, "03_first").splitlines()
    assert len(lines) == 4
    assert lines[0].count("|") == lines[3].count("|") == 5
    assert r"The number \|x\| is small. (paper §1)" in lines[2]
    assert r"**0.512 \[0.4, 0.6\]**, n = 4: a \$number\$" in lines[2]
    assert r"a \$number\$. Rule: `high < 1` |" in lines[2]
    assert r"**2 \[1.5, 2.5\]**: another. Rule: `control > 1` |" in lines[2]
    assert lines[2].endswith("| ✓ reproduced |")
    assert "**−1.2e+07**, n = 200: a share" in lines[3]
    assert lines[3].endswith("| ✗ not reproduced |")


def test_a_missing_record_is_shown_as_such(table):
    lines = report.chapter_markdown(table, "06_second").splitlines()
    assert lines[2].count("*no record*") == 2
    assert "*no record*: a tone. Rule: `value > 0` |" in lines[2]
    assert lines[2].endswith("| … not run |")
    assert lines[3].endswith("| – not testable here |")


def test_what_cannot_be_tested_has_no_rule_and_says_what_would_be_measured():
    never = Claim("never", "It holds for 7B.", "paper", "06_second", "a change", not_testable="a GPU")
    decided = decide([never], Measured("book", {}, {}, {}))
    line = report.chapter_markdown(verdicts.ledger_table([never], decided), "06_second").splitlines()[2]
    assert line == "| It holds for 7B. (paper) | a change | none: there is no rule | – not testable here |"


def test_an_unknown_chapter_is_refused(table):
    with pytest.raises(ValueError, match="chapter='99_x'; expected one of 03_first, 06_second"):
        report.chapter_markdown(table, "99_x")


def test_failures_say_why_and_silence_is_told_once_a_chapter(table):
    lines = report.failures_markdown(table).splitlines()
    assert len(lines) == 3
    assert lines[0] == "- ✗ *not reproduced*: It is large. **Why:** It was not. See the figure."
    assert lines[1].startswith("- – *not testable here*: It needs a GPU. **Why:** needs scale paper.")
    assert lines[2] == "- … *not run*: second (not written yet) has no record of second-silent."
    assert report.failures_markdown(table[:1]) == "Every claim of the ledger was reproduced."


def test_the_summary_counts_every_claim_once(table):
    counts = report.summary(table)
    assert list(counts.columns) == ["reproduced", "not reproduced", "not testable here", "not run", "claims"]
    assert counts.loc["all"].tolist() == [1, 1, 1, 1, 4]
    assert counts.iloc[0].tolist() == [1, 1, 0, 0, 2]


def test_titles_are_the_notebooks_own(tmp_path, monkeypatch):
    files = [{"file": f"notebooks/{name}"} for name in ("01_x", "02_y", "03_first", "04_every_loss")]
    parts = [{"numbered": True, "chapters": files}, {"chapters": [{"file": "notebooks/80_last"}]}]
    (tmp_path / "_toc.yml").write_text(json.dumps({"root": "book/intro", "parts": parts}))
    (tmp_path / "_config.yml").write_text("")
    monkeypatch.chdir(tmp_path)
    cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "intro\n\n# A title\n\n## no"}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "03_first.ipynb").write_text(json.dumps(notebook))
    assert report.title_of("03_first") == "3 A title"
    assert report.title_of("04_every_loss") == "4 every loss (not written yet)"
    assert report.title_of("80_last") == "last (not written yet)"


def test_verdicts_of_another_scale_that_differ(table, tmp_path, monkeypatch):
    for name in ("_toc.yml", "_config.yml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    path = Book.find().verdicts("smoke")
    VerdictFile("smoke", dict.fromkeys(("first-holds", "first-fails"), Row("03_first", "reproduced"))).write(
        path
    )
    rows = report.other_scale(table, "smoke").set_index("claim")
    assert rows.loc["first-fails"].tolist() == ["not reproduced", "reproduced"]
    assert "first-holds" not in rows.index
    assert rows.loc["second-big"].tolist() == ["not testable here", "not run"]


def test_times_are_those_of_the_running_scale(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_RUN_DIR", str(tmp_path))
    (tmp_path / "03_first.run.json").write_text('{"seconds": 12.0}')
    (tmp_path / "06_second.run.json").write_text('{"seconds": 63.0}')
    took = report.times("book", ["03_first", "06_second", "07_third", "90_report"])
    assert [name.partition(" ")[0] for name in took["notebook"]] == ["second", "first", "third", "all,"]
    assert took["took"].tolist() == ["1 min 03 s", "12 s", "not run", "1 min 15 s"]


def test_the_score_of_the_last_mutation_run_is_shown(tmp_path, monkeypatch):
    for name in ("_toc.yml", "_config.yml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    with recording() as uses:
        nothing = report.mutation()
    file = tmp_path / "book" / "results" / "mutation.json"
    assert uses == {("file", file.as_posix())}  # the page is stale when there is one
    assert nothing["tried"] == nothing["killed"] == 0
    assert report.mutation_said(nothing) == "No whole run has been made yet, so there is no score to show."
    rows = [
        {"name": "stats", "modules": ["a.py"], "mutants": 104, "tried": 25, "killed": 24, "survived": ["x"]},
        {"name": "training", "modules": ["b.py"], "mutants": 600, "tried": 25, "killed": 20, "survived": []},
    ]
    found = {"date": "2026-01-01", "commit": "abc", "targets": rows, "tried": 50, "killed": 44}
    write_json(file, found)
    read = report.mutation()
    assert (read["date"], read["commit"], read["tried"], read["killed"]) == ("2026-01-01", "abc", 50, 44)
    said = report.mutation_said(read)
    assert said.startswith("Measured on 2026-01-01 at commit `abc`: of **50** mutants") and "**44**" in said
    table = report.mutation_table(read)
    assert list(table.columns) == ["mutants", "tried", "noticed", "%"]
    assert table.loc["stats"].tolist() == [104, 25, 24, 96]
    assert table.iloc[-1].name == "all" and table.loc["all"].tolist() == [704, 50, 44, 88]
    lacking = json.dumps(found | {"targets": [{"name": "stats", "mutants": 1, "tried": 1}]})
    for text in ("[]", "{", '{"tried": 1}', lacking):
        file.write_text(text)
        with pytest.raises(BookError, match="holds no mutation run; run: make mutants"):
            report.mutation()


def test_versions_and_hash_are_told():
    rows = report.versions().set_index("package")["version"]
    assert rows["Python"] == sys.version.split()[0]
    assert not rows.str.contains(r"\+").any() and "not installed" not in set(rows)
    assert len(report.basis_hash("book")) == 12
    assert report.basis_hash("book") != report.basis_hash("smoke")


def test_the_report_needs_no_torch():
    code = "import sys; import entanglement_book.press.report; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_figure_has_a_marker_a_claim_on_the_right_side(table):
    from entanglement_book.studies.report import figures

    assert (
        list(figures.VERDICT_MARKERS)
        == list(figures.VERDICT_COLORS)
        == [*verdicts.VERDICTS, verdicts.NOT_RUN]
    )
    table.loc[table["claim"] == "second-silent", "source"] = "Ren and Sutherland 2025"
    left, middle, right = figures.ledger(table, {"03_first": "03 First", "06_second": "06 Second"})
    assert [len(ax.lines) for ax in (left, middle, right)] == [2, 1, 1]
    assert [ax.get_title(loc="center") for ax in (left, middle, right)] == [
        "paper\n2",
        "others\n1",
        "own\n1",
    ]
    marks = {line.get_marker() for ax in (left, middle, right) for line in ax.lines}
    assert marks == {"o", "X", "_", "."}
    assert [label.get_text() for label in left.get_yticklabels()] == ["03 First", "06 Second"]
    with pytest.raises(ValueError, match="no claims"):
        figures.ledger(table[:0], {})


def test_whose_a_claim_is_stands_first_in_its_source():
    from entanglement_book.studies.report.figures import whose

    papers = ("paper §4.3", "paper figure 1", "authors' code, analysis/grad_plot.py", "Paper abstract")
    assert {whose(source) for source in papers} == {"paper"}
    owns = ("own", "own; paper §3.3, explicit term", "own (our data)")
    assert {whose(source) for source in owns} == {"own"}
    others = ("Rafailov et al. 2023; theorem", "Ren and Sutherland 2025", "Owner et al.")
    assert {whose(source) for source in others} == {"others"}
