"""The language of the ledger's rules: numbers, names, arithmetic, comparisons, ``and``, ``or``, ``not``.

``value <= 0.01``, ``low > 0 and high < 1``, ``abs(value - 2/3) < 0.05``. Nothing else can be written in it,
so a rule can neither call anything nor look anything up.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

NAMES = ("value", "low", "high", "control", "control_low", "control_high", "n")
_ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISON: dict[type, Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"abs": abs, "min": min, "max": max}


class RuleError(ValueError):
    """A rule is not written in the language, or names a quantity that was not recorded."""


def evaluate(rule: str, values: Mapping[str, float | None]) -> bool:
    """Decide ``rule`` for recorded ``values``.

    Errors: RuleError for anything outside the language, for a name that has no value (None or absent), for a
    rule that is a number and not a comparison, and for a division by zero.
    """
    try:
        tree = ast.parse(rule.strip(), mode="eval").body
    except SyntaxError:
        raise RuleError(
            f"rule {rule!r} cannot be read: expected a comparison such as 'value <= 0.01'"
        ) from None

    def walk(node: ast.expr) -> float | bool:
        if isinstance(node, ast.BoolOp):
            # Every part is walked, so that a wrong name is found even where the result is decided already.
            parts = [truth(part) for part in node.values]
            return all(parts) if isinstance(node.op, ast.And) else any(parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return not truth(node.operand)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            return -number(node.operand) if isinstance(node.op, ast.USub) else number(node.operand)
        if isinstance(node, ast.Compare):
            row = [number(part) for part in (node.left, *node.comparators)]
            kinds = [_COMPARISON.get(type(op)) for op in node.ops]
            if all(kinds):
                return all(kind(a, b) for kind, a, b in zip(kinds, row, row[1:], strict=False) if kind)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            try:
                return _ARITHMETIC[type(node.op)](number(node.left), number(node.right))
            except (ZeroDivisionError, OverflowError):
                raise RuleError(f"rule {rule!r} divides by zero or overflows") from None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
            function = _FUNCTIONS.get(node.func.id)
            arguments = [number(part) for part in node.args]
            if function and (len(arguments) == 1) == (function is abs):
                return function(*arguments)
        if isinstance(node, ast.Name):
            if node.id not in NAMES:
                raise RuleError(f"rule {rule!r} names {node.id!r}: expected one of {', '.join(NAMES)}")
            value = values.get(node.id)
            if value is None:
                raise RuleError(f"rule {rule!r} needs {node.id!r}, which was not recorded")
            return float(value)
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
        ):
            return float(node.value)
        raise RuleError(f"rule {rule!r} holds {ast.unparse(node)!r}, which the language does not have")

    def number(node: ast.expr) -> float:
        result = walk(node)
        if isinstance(result, bool) or not isinstance(result, float) or math.isnan(result):
            raise RuleError(f"rule {rule!r}: {ast.unparse(node)!r} is not a number")
        return result

    def truth(node: ast.expr) -> bool:
        result = walk(node)
        if not isinstance(result, bool):
            raise RuleError(f"rule {rule!r}: {ast.unparse(node)!r} is not a comparison")
        return result

    return truth(tree)


def check(rule: str) -> None:
    """Raise RuleError if ``rule`` is not written in the language, whatever the values."""
    evaluate(rule, dict.fromkeys(NAMES, 0.123))
