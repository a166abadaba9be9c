"""The ledger: what may stand in it, what may be recorded, and which verdict follows."""

import json

import numpy as np
import pytest

from entanglement_book.ledger import claims
from entanglement_book.ledger.claims import (
    IN_PART,
    NOT_REPRODUCED,
    NOT_RUN,
    NOT_TESTABLE,
    REPRODUCED,
    Claim,
    Record,
)

ROW = """
claims:
  - id: a-claim
    statement: >-
      Something
      holds.
    source: §3.1
    notebook: notebooks/03_first.ipynb
    quantity: an error
    rule: value <= 0.01
    partly: value <= 0.1
    seeds: 5
    control: {quantity: the error elsewhere, rule: control > 0.1}
"""
CLAIM = Claim(
    id="a-claim",
    statement="Something holds.",
    source="§3.1",
    notebook="03_first",
    quantity="an error",
    rule="value <= 0.01",
    partly="value <= 0.1",
    seeds=5,
    control_quantity="the error elsewhere",
    control_rule="control > 0.1",
)


@pytest.fixture
def ledger(tmp_path):
    def write(text):
        path = tmp_path / "claims.yml"
        path.write_text(text)
        return path

    return write


def test_a_row_is_read(ledger):
    assert claims.load_ledger(ledger(ROW)) == [CLAIM]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("rule: value <= 0.01", "rule: valu <= 0.01", "valu"),
        ("rule: control > 0.1", "rule: control >", "control >"),
        ("    source: §3.1\n", "", "source"),
        ("    rule: value <= 0.01\n", "", "rule"),
        ("    control: {quantity: the error elsewhere, rule: control > 0.1}\n", "", "negative control"),
        ("    seeds: 5", "    seed: 5", "seed"),
        ("id: a-claim", "id: A claim", "lower-case"),
        ("partly: value", "partly: import value", "import"),
        ("claims:", "rows:", "claims"),
    ],
)
def test_a_row_out_of_order_is_refused_by_name(ledger, old, new, named):
    assert old in ROW
    with pytest.raises(claims.LedgerError, match=named):
        claims.load_ledger(ledger(ROW.replace(old, new)))


def test_an_id_stands_once(ledger):
    with pytest.raises(claims.LedgerError, match="twice"):
        claims.load_ledger(ledger(ROW + ROW.split("claims:\n")[1]))


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
    verdict = claims.verdict(CLAIM, Record("a-claim", value, control=control))
    assert verdict.status == str(verdict) == expected
    assert bool(verdict.why) == (expected != REPRODUCED)


def test_verdicts_without_a_measurement():
    assert claims.verdict(CLAIM, None).status == NOT_RUN
    later = Claim(**{**CLAIM.__dict__, "scales": ("book", "paper")})
    record = Record("a-claim", 0.005, control=0.5)
    assert claims.verdict(later, record, "smoke").status == NOT_TESTABLE
    assert claims.verdict(later, record, "book").status == REPRODUCED
    never = Claim(**{**CLAIM.__dict__, "rule": None, "not_testable": "needs humans"})
    assert claims.verdict(never, None) == claims.Verdict(NOT_TESTABLE, "needs humans")


def test_a_rule_on_an_interval_needs_one():
    claim = Claim(**{**CLAIM.__dict__, "rule": "low > 0", "partly": None})
    with_interval = Record("a-claim", 0.5, interval=(0.1, 0.9), control=0.5)
    assert claims.verdict(claim, with_interval).status == REPRODUCED
    without = claims.verdict(claim, Record("a-claim", 0.5, control=0.5))
    assert without.status == NOT_REPRODUCED
    assert "low" in without.why


def test_what_is_recorded_is_read_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path / "records"))
    claims.record(
        "b", np.float32(0.5), interval=(np.float64(0.25), 1), n=np.int64(3), control=True, note="why"
    )
    claims.record("a", 1)
    assert capsys.readouterr().out == ""
    assert claims.read_records(tmp_path / "records") == {
        "a": Record("a", 1.0),
        "b": Record("b", 0.5, (0.25, 1.0), 3, 1.0, None, "why"),
    }


def test_outside_a_run_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv("ENTANGLEMENT_CLAIMS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    claims.record("a", 1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"value": float("nan")}, "value"),
        ({"value": "much"}, "value"),
        ({"value": 1, "interval": (1, 0)}, "interval"),
        ({"value": 1, "interval": 0.5}, "interval"),
        ({"value": 1, "control": float("inf")}, "control"),
        ({"value": 1, "control_interval": (0, float("nan"))}, "control_interval"),
    ],
)
def test_a_record_is_numbers(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        claims.record("a", **arguments)


def test_a_claim_is_recorded_once(tmp_path):
    text = claims.dump_records([Record("a", 1.0)])
    (tmp_path / "03.json").write_text(text)
    (tmp_path / "06.json").write_text(text)
    with pytest.raises(claims.LedgerError, match="'a' is recorded twice"):
        claims.read_records(tmp_path)
    (tmp_path / "06.json").write_text("{")
    with pytest.raises(claims.LedgerError, match=r"06\.json"):
        claims.read_records(tmp_path)


def test_the_table_holds_the_whole_ledger():
    silent = Claim(**{**CLAIM.__dict__, "id": "silent"})
    records = {"a-claim": Record("a-claim", 0.005, (0.004, 0.006), 5, 0.5, (0.4, 0.6))}
    table = claims.ledger_table([CLAIM, silent], records, scale="book")
    assert list(table["verdict"]) == [REPRODUCED, NOT_RUN]
    first = table.iloc[0]
    numbers = [
        first[name] for name in ("value", "low", "high", "n", "control", "control_low", "control_high")
    ]
    assert numbers == [0.005, 0.004, 0.006, 5, 0.5, 0.4, 0.6]
    assert np.isnan(table.iloc[1]["value"])


def test_verdict_files_come_back_as_they_were_written(tmp_path):
    made = claims.decide(
        [CLAIM], {"a-claim": Record("a-claim", 0.005, control=0.5)}, "book", {"03_first": "x"}
    )
    made.write(tmp_path / "book.json")
    again = claims.VerdictFile.read(tmp_path / "book.json", "book")
    assert again == made
    assert again.records() == {"a-claim": Record("a-claim", 0.005, control=0.5)}
    assert json.loads((tmp_path / "book.json").read_text())["claims"]["a-claim"]["verdict"] == REPRODUCED
