"""Exercises whose answers the reader's own computer checks.

``check("07.2", answer)`` looks at the answer to the exercise of that number. Where it is not right and
the mistake is a known one (a sign, chosen and rejected swapped, a sum for a mean), it names the mistake; the
solution it does not tell.
"""

from entanglement_book.exercises.checking import Check, Judgment, check

__all__ = ["Check", "Judgment", "check"]
