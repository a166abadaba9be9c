"""The language of the ledger's rules."""

import pytest

from entanglement_book.ledger.language import RuleError, check, evaluate

VALUES = {"value": 0.5, "low": 0.4, "high": 0.6, "control": 2.0, "n": 10}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("value <= 0.5", True),
        ("value < 0.5", False),
        ("low > 0", True),
        ("0 < low <= value < high", True),
        ("0 < low <= value < 0.4", False),
        ("low > 0 and high < 0.5", False),
        ("low > 1 or high < 0.7", True),
        ("not (low > 0)", False),
        ("abs(value - 2/3) < 0.2", True),
        ("control > 3 * value", True),
        ("control > 4 * value", False),
        ("-value < 0", True),
        ("min(low, high, value) == low", True),
        ("value ** 2 == 0.25", True),
        ("n >= 10", True),
    ],
)
def test_rules_decide(rule, expected):
    assert evaluate(rule, VALUES) is expected


@pytest.mark.parametrize(
    "rule",
    [
        "__import__('os').system('true')",
        "value.real > 0",
        "(lambda: 1)() > 0",
        "[value][0] > 0",
        "value if value else 0",
        "value",
        "1",
        "True",
        "value > 'a'",
        "(value > 0) + 1 > 0",
        "value and low",
        "abs(value, low) > 0",
        "abs() > 0",
        "max(value) > 0",
        "print(value) > 0",
        "other > 0",
        "value in low",
        "value is low",
        "value >",
        "",
        "value > 0; value < 1",
        "1 / (value - value) > 0",
        "1e999 - 1e999 < 1",
        "value < True",
    ],
)
def test_nothing_else_can_be_written(rule):
    with pytest.raises(RuleError):
        evaluate(rule, VALUES)


def test_a_missing_number_is_no_number():
    with pytest.raises(RuleError, match="control_low"):
        evaluate("control_low > 0", VALUES)
    with pytest.raises(RuleError, match="low"):
        evaluate("value > 0 or low > 0", {"value": 1.0, "low": None})


def test_check_reads_without_values():
    check("control_low > 0 and n >= 5")
    with pytest.raises(RuleError, match="'seeds'"):
        check("seeds > 5")
