"""Records and rules at the ends of what is allowed, on either side."""

from __future__ import annotations

import json

import pytest

from entanglement.stats import Interval
from entanglement_book.layout import BookError
from entanglement_book.ledger import claims, records, verdicts
from entanglement_book.ledger.language import RuleError, evaluate
from entanglement_book.ledger.records import Record


def test_the_ends_of_an_interval_are_inside_it_and_a_value_may_be_off_by_rounding_alone():
    for value in (-1.0, 0.25, 2.0):
        assert Record("a", value, (-1.0, 2.0)).interval == (-1.0, 2.0)
    assert Record("a", 3.0, (3.0, 3.0)).value == 3
    for low, high, value, held in (
        (0.0, 1.0, 1 + 9e-13, True), (0.0, 1.0, 1 + 2e-12, False), (0.0, 1.0, -9e-13, True),
        (0.0, 1.0, -2e-12, False), (-5000.0, 1.0, -5000 - 4e-9, True), (-5000.0, 1.0, -5000 - 6e-9, False),
        (0.0, 5000.0, 5000 + 4e-9, True), (0.0, 5000.0, 5000 + 6e-9, False),
        (-8000.0, -5000.0, -4999.9999999930, True),
    ):  # fmt: skip
        for names in (("value", "interval"), ("control", "control_interval")):
            given = {"value": value} | dict(zip(names, (value, (low, high)), strict=True))
            if held:
                Record("a", **given)
            else:
                with pytest.raises(ValueError, match=f"{names[0]}=.* is outside its interval: {names[1]}="):
                    Record("a", **given)
    with pytest.raises(ValueError, match=r"interval=\(2.0, 1.0\): expected low <= high"):
        Record("a", 1.5, (2.0, 1.0))
    with pytest.raises(ValueError, match="control_interval is given without control"):
        Record("a", 1.5, control_interval=(1.0, 2.0))


def test_a_rule_may_name_all_that_was_recorded():
    whole = Record("a", 0.5, (0.25, 1.0), 4, 2.0, (1.5, 2.5), "why")
    assert whole.values() == {
        "value": 0.5, "low": 0.25, "high": 1.0, "control": 2.0, "control_low": 1.5, "control_high": 2.5,
        "n": 4,
    }  # fmt: skip
    bare = dict.fromkeys(("low", "high", "control", "control_low", "control_high", "n"))
    assert Record("a", 0.5).values() == {"value": 0.5} | bare


def test_a_number_of_seeds_is_one_or_more(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path))
    claims.record("a", 0.5, n=1)
    assert records.read_records(tmp_path)["a"].n == 1
    claims.record("a", Interval(0.5, 0.0, 1.0, 7))
    assert records.read_records(tmp_path)["a"].n == 7
    claims.record("a", 0.5)
    assert records.read_records(tmp_path)["a"].n is None
    with pytest.raises(ValueError, match=r"interval=\(1, 2, 3\): expected \(low, high\)"):
        claims.record("a", 1.5, interval=(1, 2, 3))
    with pytest.raises(ValueError, match=r"control_interval\[1\]='x': expected a number"):
        claims.record("a", 1.5, control=1.0, control_interval=(1, "x"))
    with pytest.raises(ValueError, match=r"value=inf: expected a finite number"):
        claims.record("a", float("inf"))


def test_records_are_written_in_order_and_say_what_cannot_be_read(tmp_path):
    text = records.dump_records([Record("b", 1.0, note="größer"), Record("a", 2.0)])
    assert [row["id"] for row in json.loads(text)] == ["a", "b"] and "größer" in text
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    assert text == records.dump_records([Record("a", 2.0), Record("b", 1.0, note="größer")])
    (tmp_path / "03.json").write_text(text)
    assert [item.id for item in records.read_file(tmp_path / "03.json")] == ["a", "b"]
    assert list(records.read_records(tmp_path)) == ["a", "b"]
    assert records.read_records(tmp_path / "none") == {}
    with pytest.raises(
        BookError, match=r"^gone\.json: not a file of records \(.*No such file.*\); remove it"
    ):
        records.read_file(tmp_path / "gone.json")
    (tmp_path / "03.json").write_text("{")
    with pytest.raises(BookError, match=r"^03\.json: not a file of records; remove it"):
        records.read_file(tmp_path / "03.json")


VALUES = {"value": 0.5, "low": 0.4, "high": 0.6, "control": 2.0, "n": 10}


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("value == 0.5", True), ("value != 0.5", False), ("value >= 0.5", True), ("value > 0.5", False),
        ("value + low == 0.9", True), ("control - value == 1.5", True), ("control * value == 1", True),
        ("control / value == 4", True), ("+value == 0.5", True), ("-value == 0 - 0.5", True),
        ("max(low, high) == high", True), ("min(low, high) == low", True), ("abs(low - high) > 0", True),
        ("max(low, high, control) == 2", True), ("value > 0 or value > 1", True),
        ("value > 0 and value > 1", False),
        ("not value > 1", True), ("low < value < high < control", True), ("low < value > high", False),
        (" value > 0 ", True), ("value > 0 or value > 1 or n > 10", True), ("n == 10 and not n > 10", True),
    ],
)  # fmt: skip
def test_each_word_of_the_language_means_what_it_says(rule, holds):
    assert evaluate(rule, VALUES) is holds


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("value >", "rule 'value >' cannot be read: expected a comparison such as 'value <= 0.01'"),
        ("other > 0", "rule 'other > 0' names 'other': expected one of value, low, high, control, "
                      "control_low, control_high, n"),
        ("control_low > 0", "rule 'control_low > 0' needs 'control_low', which was not recorded"),
        ("1 / 0 > 0", "rule '1 / 0 > 0' divides by zero or overflows"),
        ("10.0 ** 999 > 0", "rule '10.0 ** 999 > 0' divides by zero or overflows"),
        ("value", "rule 'value': 'value' is not a comparison"),
        ("not value", "rule 'not value': 'value' is not a comparison"),
        ("(value > 0) < 1", "rule '(value > 0) < 1': 'value > 0' is not a number"),
        ("-(value > 0) < 1", "rule '-(value > 0) < 1': 'value > 0' is not a number"),
        ("abs(value > 0) < 1", "rule 'abs(value > 0) < 1': 'value > 0' is not a number"),
        ("1e999 - 1e999 < 1", "rule '1e999 - 1e999 < 1': '1e309 - 1e309' is not a number"),
        ("value < True", "rule 'value < True' holds 'True', which the language does not have"),
        ("value in low", "rule 'value in low' holds 'value in low', which the language does not have"),
        ("low < value in high", "rule 'low < value in high' holds 'low < value in high', which the language "
                                "does not have"),
        ("~value < 1", "rule '~value < 1' holds '~value', which the language does not have"),
        ("value % 2 < 1", "rule 'value % 2 < 1' holds 'value % 2', which the language does not have"),
        ("value < 'a'", "rule \"value < 'a'\" holds \"'a'\", which the language does not have"),
        ("abs(value, low) < 1", "rule 'abs(value, low) < 1' holds 'abs(value, low)', "
                                "which the language does not have"),
        ("max(value) < 1", "rule 'max(value) < 1' holds 'max(value)', which the language does not have"),
        ("max() < 1", "rule 'max() < 1' holds 'max()', which the language does not have"),
        ("max(low, high, key=n) < 1", "rule 'max(low, high, key=n) < 1' holds 'max(low, high, key=n)', "
                                      "which the language does not have"),
        ("round(value) < 1", "rule 'round(value) < 1' holds 'round(value)', "
                             "which the language does not have"),
        ("a.b(value) < 1", "rule 'a.b(value) < 1' holds 'a.b(value)', which the language does not have"),
    ],
)  # fmt: skip
def test_what_is_not_in_the_language_is_named(rule, said):
    with pytest.raises(RuleError) as error:
        evaluate(rule, VALUES)
    assert str(error.value) == said


def test_a_rule_looks_at_all_its_parts():
    for rule in ("value > 0 or control_low > 0", "value > 1 and control_low > 0"):
        with pytest.raises(RuleError, match="control_low"):
            evaluate(rule, VALUES)


def test_a_row_with_an_unknown_field_is_told_which_there_are(tmp_path):
    row = "claims: [{id: a, statement: s, source: own, notebook: 03_x, quantity: q, not_testable: no"
    for more, known in ((", seed: 1}]", True), (", seeds: 0}]", False), (", seeds: x}]", False)):
        (tmp_path / "claims.yml").write_text(row + more)
        with pytest.raises(claims.LedgerError, match=r"claims\.yml: claim 'a': ") as error:
            claims.load_ledger(tmp_path / "claims.yml")
        assert ("(known: id, statement, source, notebook, quantity, rule" in str(error.value)) == known
    (tmp_path / "claims.yml").write_text("claims: [{statement: s}]")
    with pytest.raises(claims.LedgerError, match=r"^claims\.yml: claim 'number 1': lacks id; lacks source"):
        claims.load_ledger(tmp_path / "claims.yml")


def test_an_interval_without_width_over_several_draws_is_refused():
    for given in ({"value": 1.0, "interval": (1.0, 1.0)}, {"value": Interval(1.0, 1.0, 1.0, 5)}):
        with pytest.raises(ValueError, match=r"interval=\(1.0, 1.0\): its width is 0 over n=5; expected one"):
            claims.record("a", **given | {"n": 5})
        claims.record("a", **given | {"n": 1})
    with pytest.raises(ValueError, match=r"control_interval=\(0.0, 0.0\): its width is 0 over n=2"):
        claims.record("a", 0.5, (0.25, 1.0), n=2, control=0.0, control_interval=(0.0, 0.0))
    claims.record("a", 0.5, (0.25, 1.0), n=2, control=0.0)
    claims.record("a", 1.0, (1.0, 1.0 + 1e-9), n=5)


def ranged(ends, control=None):
    """A claim whose quantity, and whose control's, can be no more than this."""
    return claims.Claim(
        "a", "S", "own", "03_first", "q", "low > 0", control=claims.Control("q", "control < 0", control),
        range=ends,
    )  # fmt: skip


def test_what_lies_outside_the_range_of_its_quantity_is_told():
    share = ranged((0.0, 1.0))
    assert share.outside(Record("a", 1.0, (0.5, 1.0), 5, 0.0, (0.0, 0.25))) == ""
    assert share.outside(Record("a", 1.0 + 5e-13)) == ""
    assert share.outside(Record("a", 1.01)) == "value=1.01 is outside the quantity's range (0.0, 1.0)"
    for record, said in (
        (Record("a", 0.5, (-0.03, 0.75)), "value=0.5 (-0.03, 0.75) is outside"),
        (Record("a", 0.5, (0.25, 1.75)), "value=0.5 (0.25, 1.75) is outside"),
        (Record("a", 0.5, (0.25, 0.75), 5, 0.5, (0.25, 1.5)), "control=0.5 (0.25, 1.5) is outside"),
        (Record("a", 0.5, None, 5, -0.5), "control=-0.5 is outside"),
    ):
        assert said in share.outside(record)
    assert ranged(None).outside(Record("a", 1e9, (-1e9, 1e10))) == ""
    own = ranged((0.0, 1.0), (0.0, float("inf")))  # the control is a count
    assert own.outside(Record("a", 0.5, None, 5, 12.0)) == ""
    assert "control=-1.0 is outside the quantity's range (0.0, inf)" in own.outside(
        Record("a", 0.5, None, 5, -1.0)
    )
    assert ranged((0.0, float("inf"))).outside(Record("a", 12.0)) == ""


def test_a_range_goes_from_the_smaller_to_the_larger_end():
    for ends in ((1.0, 0.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"expected \[smallest, largest\]"):
            ranged(ends)


def test_a_chapter_cannot_record_what_its_quantity_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CLAIMS_DIR", str(tmp_path))
    (tmp_path / "claims.yml").write_text(
        "claims:\n- {id: a, statement: S, source: own, notebook: 03_first, quantity: a share, rule: low > 0, "
        "range: [0, 1], control: {quantity: the same, rule: control < 1}}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(claims, "find_ledger", lambda: tmp_path / "claims.yml")
    with pytest.raises(
        ValueError, match=r"claim 'a': value=0.5 \(-0.03, 0.75\) is outside the quantity's range"
    ):
        claims.record("a", 0.5, (-0.03, 0.75))
    assert not records.read_records(tmp_path)
    claims.record("a", 0.5, (0.03, 0.75))
    claims.record("elsewhere", 0.5, (-0.03, 0.75))
    assert set(records.read_records(tmp_path)) == {"a", "elsewhere"}


def test_a_stored_number_outside_the_range_is_not_reproduced():
    found = verdicts.verdict(ranged((0.0, 1.0)), Record("a", 0.5, (0.25, 1.5), 5, -0.1))
    assert (found.status, found.why[:22]) == ("not reproduced", "value=0.5 (0.25, 1.5) ")
