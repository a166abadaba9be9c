"""Which verdict follows, how verdicts are kept, and what is told about those that are kept."""

import os
from dataclasses import replace

import numpy as np
import pytest
from example_claim import CLAIM

from entanglement_book.ledger import verdicts
from entanglement_book.ledger.claims import LedgerError
from entanglement_book.ledger.records import Record
from entanglement_book.ledger.verdicts import (
    IN_PART,
    NOT_REPRODUCED,
    NOT_RUN,
    NOT_TESTABLE,
    REPRODUCED,
    Basis,
    Measured,
    Row,
    VerdictFile,
)

GOOD = Record("a-claim", 0.005, control=0.5)


def measured(records=None, scale="book", science="x"):
    records = records or {}
    return Measured(scale, records, dict.fromkeys(records, Basis(science, (("loss", "dpo"),))), {})


@pytest.mark.parametrize(
    ("value", "control", "expected"),
    [
        (0.005, 0.5, REPRODUCED),
        (0.05, 0.5, IN_PART),
        (0.5, 0.5, NOT_REPRODUCED),
        # The control must come out the other way, or the measurement says nothing about the mechanism.
        (0.005, 0.05, NOT_REPRODUCED),
        (0.05, 0.05, NOT_REPRODUCED),
        (0.005, None, NOT_REPRODUCED),
    ],
)
def test_verdicts(value, control, expected):
    verdict = verdicts.verdict(CLAIM, Record("a-claim", value, control=control))
    assert verdict.status == str(verdict) == expected
    assert bool(verdict.why) == (expected != REPRODUCED)


def test_verdicts_without_a_measurement():
    assert verdicts.verdict(CLAIM, None).status == NOT_RUN
    later = replace(CLAIM, scales=("book", "paper"))
    assert verdicts.verdict(later, GOOD, "smoke").status == NOT_TESTABLE
    assert verdicts.verdict(later, GOOD, "book").status == REPRODUCED
    never = replace(CLAIM, rule=None, not_testable="needs humans")
    assert verdicts.verdict(never, None) == verdicts.Verdict(NOT_TESTABLE, "needs humans")


def test_a_rule_on_an_interval_needs_one():
    claim = replace(CLAIM, rule="low > 0", partly=None)
    with_interval = Record("a-claim", 0.5, interval=(0.1, 0.9), control=0.5)
    assert verdicts.verdict(claim, with_interval).status == REPRODUCED
    without = verdicts.verdict(claim, Record("a-claim", 0.5, control=0.5))
    assert without.status == NOT_REPRODUCED
    assert "low" in without.why


def test_the_table_holds_the_whole_ledger_and_decides_nothing():
    silent = replace(CLAIM, id="silent")
    record = Record("a-claim", 0.005, (0.004, 0.006), 5, 0.5, (0.4, 0.6), "a note")
    # The rule would say "reproduced"; what was decided is shown.
    decided = VerdictFile("book", {"a-claim": Row("03_first", NOT_REPRODUCED, "so it was", record)})
    table = verdicts.ledger_table([CLAIM, silent], decided)
    assert list(table["verdict"]) == [NOT_REPRODUCED, NOT_RUN]
    first = table.iloc[0]
    numbers = [
        first[name] for name in ("value", "low", "high", "n", "control", "control_low", "control_high")
    ]
    assert numbers == [0.005, 0.004, 0.006, 5, 0.5, 0.4, 0.6]
    assert (first["why"], first["note"], first["control_rule"]) == ("so it was", "a note", "control > 0.1")
    assert np.isnan(table.iloc[1]["value"])


def test_a_file_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "verdicts" / "book.json"
    made = verdicts.decide([CLAIM], measured({"03_first": [GOOD]}))
    assert made.claims == {"a-claim": Row("03_first", REPRODUCED, "", GOOD)}
    assert made.notebooks == {"03_first": Basis("x", (("loss", "dpo"),))}
    assert made.write(path) is True
    assert made.write(path) is False
    assert VerdictFile.read(path, "book") == made
    assert made.records() == {"a-claim": GOOD}
    assert VerdictFile.read(tmp_path / "none.json", "book") == VerdictFile("book")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"claims": []}',
        '{"claims": {"a": {"verdict": "reproduced"}}}',
        '{"claims": {"a": {"notebook": "03", "verdict": "x", "record": {"id": "a", "value": NaN}}}}',
        '{"notebooks": {"03": 1}}',
    ],
)
def test_a_damaged_file_is_named_in_one_line_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "book.json"
    path.write_text(text)
    for action in (
        lambda: VerdictFile.read(path, "book"),
        lambda: verdicts.update(path, [CLAIM], verdicts.decide([CLAIM], measured({"03_first": [GOOD]}))),
    ):
        with pytest.raises(LedgerError, match=r"book\.json is not a file of verdicts .*: remove it") as found:
            action()
        assert "\n" not in str(found.value)
    assert path.read_text() == text


def test_a_claim_is_recorded_by_one_chapter():
    with pytest.raises(LedgerError, match="'a-claim' is recorded twice, again by 06_second"):
        verdicts.decide([CLAIM], measured({"03_first": [GOOD], "06_second": [GOOD]}))


# What a committed file keeps. One notebook measures two claims, one of which this scale cannot decide.
LEDGER = [
    CLAIM,
    replace(CLAIM, id="later", scales=("paper",)),
    replace(CLAIM, id="elsewhere", notebook="06_second"),
    replace(CLAIM, id="never", notebook="06_second", rule=None, not_testable="needs humans"),
]
FIRST = {"03_first": [GOOD, Record("later", 0.3, control=0.5)]}
SECOND = {"06_second": [Record("elsewhere", 0.002, control=0.5)]}


@pytest.fixture
def committed(tmp_path):
    path = tmp_path / "book.json"
    verdicts.update(path, LEDGER, verdicts.decide(LEDGER, measured(FIRST | SECOND, science="then")))
    assert set(VerdictFile.read(path, "book").records()) == {"a-claim", "later", "elsewhere"}
    return path


def test_a_fresh_clone_changes_nothing(committed):
    before = committed.read_bytes(), committed.stat().st_mtime_ns
    said = verdicts.update(committed, LEDGER, verdicts.decide(LEDGER, measured()))
    assert (committed.read_bytes(), committed.stat().st_mtime_ns) == before
    assert said == "2 not testable here, 2 reproduced"


def test_what_a_killed_writer_left_is_swept_though_nothing_is_written(committed):
    left = committed.with_name(".book.json.x.part")
    left.write_text("{")
    os.utime(left, (0, 0))
    writing = committed.with_name(".book.json.y.part")  # by a process that goes on
    writing.write_text("{")
    verdicts.update(committed, LEDGER, verdicts.decide(LEDGER, measured()))
    assert set(committed.parent.iterdir()) == {committed, writing}


def test_without_anything_to_write_no_file_is_made(tmp_path):
    path = tmp_path / "verdicts" / "book.json"
    assert verdicts.update(path, LEDGER, verdicts.decide(LEDGER, measured())) == "none yet"
    assert list(tmp_path.iterdir()) == []


def test_chapters_that_did_not_run_keep_their_records_and_what_these_were_measured_with(committed):
    again = {"03_first": [replace(GOOD, value=0.05)]}
    verdicts.update(committed, LEDGER, verdicts.decide(LEDGER, measured(again, science="now")))
    after = VerdictFile.read(committed, "book")
    assert {name: basis.science for name, basis in after.notebooks.items()} == {
        "03_first": "now",
        "06_second": "then",
    }
    assert after.claims["a-claim"].verdict == IN_PART
    assert after.claims["elsewhere"] == Row("06_second", REPRODUCED, "", SECOND["06_second"][0])
    # Not recorded again, and not testable here: its record stays.
    assert after.claims["later"].record == FIRST["03_first"][1]
    assert after.claims["never"].verdict == NOT_TESTABLE


def test_a_record_goes_with_its_claim(committed):
    verdicts.update(committed, LEDGER[:2], verdicts.decide(LEDGER[:2], measured(FIRST)))
    assert set(VerdictFile.read(committed, "book").claims) == {"a-claim", "later"}


def test_a_chapter_that_no_longer_measures_a_claim_leaves_no_old_verdict(committed):
    verdicts.update(committed, LEDGER, verdicts.decide(LEDGER, measured({"03_first": []}, science="now")))
    assert VerdictFile.read(committed, "book").claims["a-claim"] == Row(
        "03_first", NOT_RUN, "03_first has recorded nothing"
    )


def test_a_rule_that_changed_decides_again_about_records_that_are_kept(committed):
    stricter = [replace(CLAIM, rule="value <= 0.001", partly=None), *LEDGER[1:]]
    verdicts.update(committed, stricter, verdicts.decide(stricter, measured()))
    assert VerdictFile.read(committed, "book").claims["a-claim"].verdict == NOT_REPRODUCED


def test_what_is_told_about_committed_verdicts():
    ledger = LEDGER[:1]
    today = measured({"03_first": [GOOD]}, scale="smoke")
    recorded = verdicts.decide(ledger, today)
    published = replace(recorded, scale="book")

    def told(smoke=today, at_smoke=recorded, at_book=published, science="x"):
        return verdicts.check(ledger, smoke, at_smoke, at_book, {"03_first": science})

    assert told() == []
    assert told(science="y") == [
        "book: the verdict on 'a-claim' was not made by today's 03_first (run: make book)"
    ]
    missing = "book: claim 'a-claim' has no verdict (run: make book)"
    assert told(at_book=VerdictFile("book")) == [missing]
    assert told(at_book=verdicts.decide(ledger, measured({"03_first": []}))) == [missing]
    assert told(at_smoke=VerdictFile("smoke")) == [
        "smoke: claim 'a-claim': the verdict was 'not recorded' and is 'reproduced'"
    ]
    worse = measured({"03_first": [replace(GOOD, value=0.05)]}, scale="smoke")
    assert told(worse)[0].startswith(
        "smoke: claim 'a-claim': the verdict was 'reproduced' and is 'reproduced in"
    )
    assert told(measured(scale="smoke")) == ["smoke: claim 'a-claim': 03_first has recorded nothing"]
    assert told(replace(today, stale={"03_first": "changed: code"}))[0] == (
        "smoke: 03_first is to run: changed: code"
    )
    other = measured({"06_second": [GOOD]}, scale="smoke")
    assert told(other)[0] == "06_second records 'a-claim', which is no claim of that chapter in the ledger"
    more = replace(published, claims=published.claims | {"gone": Row("03_first", REPRODUCED)})
    assert told(at_book=more) == ["book: a verdict is recorded for 'gone', which is not in the ledger"]


def test_a_page_shows_the_run_s_verdicts_and_a_reader_s_session_the_committed_ones(tmp_path, monkeypatch):
    for name in ("_toc.yml", "_config.yml"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    run, committed = (
        VerdictFile("smoke", {"a": Row("03", IN_PART)}),
        VerdictFile("smoke", {"b": Row("03", IN_PART)}),
    )
    committed.write(tmp_path / "book" / "verdicts" / "smoke.json")
    monkeypatch.delenv("ENTANGLEMENT_RUN_DIR", raising=False)
    assert verdicts.find_verdicts("smoke") == committed
    monkeypatch.setenv("ENTANGLEMENT_RUN_DIR", str(tmp_path / "run"))
    with pytest.raises(LedgerError, match="decided before its report"):
        verdicts.find_verdicts("smoke")
    run.write(tmp_path / "run" / "verdicts.json")
    assert verdicts.find_verdicts("smoke") == run
