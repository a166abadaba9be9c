"""The ledger: what may stand in it, and what may be recorded."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from example_claim import CLAIM

from entanglement.stats import Interval, mean_interval
from entanglement_book.layout import BookError
from entanglement_book.ledger import claims, records
from entanglement_book.ledger.claims import Claim
from entanglement_book.ledger.records import Record

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
FIVE = replace(CLAIM, seeds=5)


@pytest.fixture
def ledger(tmp_path):
    def write(text):
        path = tmp_path / "claims.yml"
        path.write_text(text)
        return path

    return write


def test_a_row_is_read(ledger):
    assert claims.load_ledger(ledger(ROW)) == [FIVE]


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
        ("claims:", "more: 1\nclaims:", "claims"),
        ("    seeds: 5", "    seeds: 0", "seeds=0"),
        ("    seeds: 5", "    seeds: true", "whole number"),
        ("    seeds: 5", "    scales: [book, tiny]", "unknown scale 'tiny'"),
        ("    seeds: 5", "    scales: []", "scales"),
        ("    quantity: an error", "    quantity: [1]", "quantity"),
        (
            "{quantity: the error elsewhere, rule",
            "{amount: 1, quantity: a, rule",
            "unknown field control.amount",
        ),
        ("{quantity: the error elsewhere, rule: control > 0.1}", "a text", "control"),
        ("  - id: a-claim", "  - 7\n  - id: a-claim", "claim number 1: expected a mapping"),
        ("notebook: notebooks/03_first.ipynb", "notebook: 3", "notebook"),
        ("notebook: notebooks/03_first.ipynb", "notebook: [03_first]", "notebook"),
    ],
)
def test_a_row_out_of_order_is_refused_by_name(ledger, old, new, named):
    assert old in ROW
    with pytest.raises(claims.LedgerError, match=named) as found:
        claims.load_ledger(ledger(ROW.replace(old, new)))
    assert "\n" not in str(found.value)
    assert "claim" in str(found.value)


@pytest.mark.parametrize("content", [b"claims: [", b"\xff\xfe", b"", b"[1]", b"claims: 3"])
def test_a_damaged_ledger_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "claims.yml"
    path.write_bytes(content)
    for place in (path, tmp_path / "gone.yml"):
        with pytest.raises(claims.LedgerError, match=rf"^{place.name}.*git checkout") as found:
            claims.load_ledger(place)
        assert "\n" not in str(found.value)


def test_a_claim_without_a_rule_says_why_it_cannot_be_tested():
    never = Claim("a", "It holds.", "own", "03_first", "a number", not_testable="needs humans")
    assert never.rule is None and never.scales == ("smoke", "book", "paper")
    with pytest.raises(ValueError, match="lacks rule"):
        Claim("a", "It holds.", "own", "03_first", "a number")


def test_an_id_stands_once(ledger):
    with pytest.raises(claims.LedgerError, match="twice"):
        claims.load_ledger(ledger(ROW + ROW.split("claims:\n")[1]))


def test_what_is_recorded_is_read_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path / "records"))
    claims.record(
        "b", np.float32(0.5), interval=(np.float64(0.25), 1), n=np.int64(3), control=True, note="why"
    )
    claims.record("a", 1)
    assert capsys.readouterr().out == ""
    assert records.read_records(tmp_path / "records") == {
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
        ({"value": "1"}, "value"),
        ({"value": None}, "value"),
        ({"value": 10**400}, "value"),
        ({"value": 1, "interval": (1, 0)}, "interval"),
        ({"value": 2, "interval": (0, 1)}, "value=2.0 is outside its interval"),
        ({"value": 0, "control": 2, "control_interval": (0, 1)}, "control=2.0 is outside its interval"),
        ({"value": 0, "control_interval": (0, 1)}, "control_interval"),
        ({"value": Interval(0, -1, 1, 5), "interval": (-1, 1)}, "interval"),
        ({"value": 0, "control": Interval(0, -1, 1, 5), "control_interval": (-1, 1)}, "control_interval"),
        ({"value": mean_interval([1.0])}, r"interval\[0\]"),  # one seed says nothing about the spread
        ({"value": Interval(float("nan"), 0, 1, 5)}, "value"),
        ({"value": 0, "n": -3}, "n=-3"),
        ({"value": 0, "n": 0}, "n=0"),
        ({"value": 0, "n": 2.7}, "n=2.7"),
        ({"value": 0, "n": float("nan")}, "n=nan"),
        ({"value": 0, "n": True}, "n=True"),
        ({"value": 0, "n": "3"}, "n='3'"),
        ({"value": Interval(0, -1, 1, 0)}, "n=0"),
        ({"value": 1, "interval": 0.5}, "interval"),
        ({"value": 1, "control": float("inf")}, "control"),
        ({"value": 1, "control_interval": (0, float("nan"))}, "control_interval"),
    ],
)
def test_a_record_is_numbers(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        claims.record("a", **arguments)


def test_a_claim_is_recorded_once(tmp_path):
    text = records.dump_records([Record("a", 1.0)])
    (tmp_path / "03.json").write_text(text)
    (tmp_path / "06.json").write_text(text)
    with pytest.raises(BookError, match="'a' is recorded twice"):
        records.read_records(tmp_path)
    (tmp_path / "06.json").write_text("{")
    with pytest.raises(BookError, match=r"06\.json"):
        records.read_records(tmp_path)


def recorded(tmp_path, monkeypatch, *arguments, **keywords):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path / "records"))
    claims.record("a", *arguments, **keywords)
    return records.read_records(tmp_path / "records")["a"]


def test_an_interval_is_recorded_with_its_ends_and_its_n(tmp_path, monkeypatch):
    found, other = Interval(0.5, 0.25, 1.0, 4), Interval(2.0, 1.5, 2.5, 7)
    whole = Record("a", 0.5, (0.25, 1.0), 4, 2.0, (1.5, 2.5), "why")
    assert recorded(tmp_path, monkeypatch, found, control=other, note="why") == whole
    # The old way of writing it is the same record.
    old = (found.value, found[1:3], found.n, other.value, other[1:3], "why")
    assert recorded(tmp_path, monkeypatch, *old) == whole
    row = pd.Series({"value": 0.5, "low": 0.25, "high": 1.0, "n": 4.0, "rule": "dpo"})
    assert recorded(tmp_path, monkeypatch, row, control=2.0) == Record("a", 0.5, (0.25, 1.0), 4, 2.0)
    assert recorded(tmp_path, monkeypatch, found, n=9).n == 9


def test_rounding_is_no_fault(tmp_path, monkeypatch):
    third = 0.1 + 0.2
    assert recorded(tmp_path, monkeypatch, third, interval=(0.3 - 1, 0.3)).value == third


@pytest.mark.parametrize("name", ["a\n", "A", "", "a b", "../a", None, 3])
def test_a_claim_is_called_by_a_plain_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path / "records"))
    with pytest.raises(ValueError, match=r"^claim_id="):
        claims.record(name, 1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"id": "a"}]', '[{"id": "a", "value": NaN}]', '[{"id": "a", "value": 1, "m": 2}]']
)
def test_a_file_of_records_is_checked_when_it_is_read(tmp_path, text):
    (tmp_path / "03.json").write_text(text)
    with pytest.raises(BookError, match=r"^03\.json: not a file of records"):
        records.read_records(tmp_path)


@pytest.mark.parametrize(
    "name", ["03_first", "03_first.ipynb", "notebooks/03_first", "notebooks/03_first.ipynb"]
)
def test_a_notebook_may_be_named_by_its_file_or_its_stem(ledger, name):
    assert claims.load_ledger(ledger(ROW.replace("notebooks/03_first.ipynb", name))) == [FIVE]
