"""A claim as the tests of the ledger have it."""

from entanglement_book.ledger.claims import Claim, Control

CLAIM = Claim(
    id="a-claim",
    statement="Something holds.",
    source="§3.1",
    notebook="03_first",
    quantity="an error",
    rule="value <= 0.01",
    partly="value <= 0.1",
    control=Control("the error elsewhere", "control > 0.1"),
)
