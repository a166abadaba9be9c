r"""Reads the LaTeX that the table of losses prints, and computes it.

(sympy's own reader of LaTeX needs a parser that the book does not install, and knows neither 𝟏[·] nor ranks.)
The grammar is what the declarations need: sums, products written side by side, /, \tfrac, powers, \log of
the next factor, functions in brackets, the indicator \mathbf 1[a<b], and definitions after a comma, ``S=…``
or ``o(t)=…``. Whatever else stands in a formula is refused, not skipped. Three things are said by an index:

* ``R_w`` of a definition ``R=…\bar f…`` is that definition with ``\bar f_w`` in it;
* ``z^{\rm ref}`` of a definition ``z=f_w-f_l`` is that definition with the reference's f in it;
* ``x_{(k)}`` is x sorted over the batch, and ``… \text{ at the rank of }x`` is read for each pair at its
  rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch

from entanglement.logps import PairLogps

__all__ = ["UnreadableError", "compute", "symbols"]

Value = torch.Tensor
REF = r"^{\rm ref}"
TOKEN = re.compile(
    r"\\text\{[^}]*\}|\\operatorname\{\w+\}|\\mathbf 1|\\bar [a-z]|\\sigma'"
    r"|\^\{\\rm ref\}|_\{[^}]*\}|_[a-zA-Z]|\\[a-zA-Z]+|\\[,;{}]|\S"
)
SPACE = {r"\,", r"\;", r"\bigl", r"\bigr", r"\Bigl", r"\Bigr"}
CLOSES = {"(": ")", "[": "]", "{": "}", r"\{": r"\}"}
PROSE = {r"\text{ sorted over the batch}", r"\text{, each sorted over the batch}"}
AT_RANK = r"\text{ at the rank of }"
FUNCTIONS: dict[str, Callable[..., Value]] = {
    r"\sigma": torch.sigmoid,
    r"\sigma'": lambda x: torch.sigmoid(x) * torch.sigmoid(-x),
    r"\operatorname{logit}": torch.logit,
    r"\max": torch.maximum,
}


class UnreadableError(ValueError):
    """A formula that is not understood, or has a symbol that nothing defines."""


def symbols(logps: PairLogps) -> dict[str, Value]:
    """Return what the notation page defines about pairs: symbol → (B,) values."""
    assert logps.ref_chosen is not None and logps.ref_rejected is not None
    assert logps.chosen_len is not None and logps.rejected_len is not None
    known = {r"\Delta": (logps.chosen - logps.ref_chosen) - (logps.rejected - logps.ref_rejected)}
    for side, f, ref, n in (
        ("_w", logps.chosen, logps.ref_chosen, logps.chosen_len.double()),
        ("_l", logps.rejected, logps.ref_rejected, logps.rejected_len.double()),
    ):
        known |= {f"f{side}": f, f"f{REF}{side}": ref, rf"\bar f{side}": f / n, f"n{side}": n}
        known[rf"\varrho{side}"] = f - ref
    return known


def compute(
    formula: str, known: dict[str, Value], used: set[str] | None = None, also: Sequence[str] = ()
) -> Value:
    """Return the value of a formula.

    Args:
        formula: LaTeX: an expression, then definitions after commas.
        known: symbol → value; those of ``symbols``, and the hyper-parameters.
        used: the symbols of ``known`` that were needed are added to it.
        also: other formulas, whose definitions hold here too.

    Raises:
        UnreadableError: it cannot be understood whole, or a symbol is not defined.
    """
    body, defined = _split(_tokens(formula))
    for other in also:
        defined = {**_split(_tokens(other))[1], **defined}
    return _Reader(body, known, defined, set() if used is None else used).whole()


def _tokens(formula: str) -> list[str]:
    return [token for token in TOKEN.findall(formula) if token not in SPACE]


def _split(tokens: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Part an expression from the definitions after its commas: name, or name(t) → its tokens."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token in CLOSES) - (token in CLOSES.values())
        if token == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    defined = {}
    for part in parts[1:]:
        if "=" not in part:
            raise UnreadableError(f"{' '.join(tokens)}: after a comma, expected a definition.")
        at = part.index("=")
        defined[_name("".join(part[:at]))] = part[at + 1 :]
    return parts[0], defined


def _name(text: str) -> str:
    return re.sub(r"_\{(.*)\}", r"_\1", text)


class _Reader:
    """Reads one row of tokens from the left and computes on the way."""

    def __init__(
        self, tokens: list[str], known: dict, defined: dict, used: set[str], index: str = ""
    ) -> None:
        self.tokens, self.at, self.index = tokens, 0, index
        self.known, self.defined, self.used = known, defined, used

    @property
    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def error(self, what: str) -> UnreadableError:
        return UnreadableError(f"{' '.join(self.tokens)}: {what}.")

    def take(self, expected: str = "") -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise self.error(f"expected {expected or 'more'} at place {self.at + 1}")
        self.at += 1
        return token

    def whole(self) -> Value:
        value = self.sum()
        if self.next == AT_RANK:
            self.take()
            value = value[self.factor().argsort().argsort()]
        while self.next in PROSE:
            self.take()
        if self.next:
            raise self.error(f"{self.next} is not understood at place {self.at + 1}")
        return value

    def sum(self) -> Value:
        sign = self.take() if self.next in ("+", "-") else "+"
        value = self.product() if sign == "+" else -self.product()
        while self.next in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        return value

    def product(self) -> Value:
        value, divided = self.factor(), False
        while self.next and self.next not in ("+", "-", ",", "<", *CLOSES.values(), *PROSE, AT_RANK):
            if divided:
                raise self.error("a/bc could be read in two ways")
            divided = self.next == "/"
            self.at += divided
            value = value / self.factor() if divided else value * self.factor()
        return value

    def factor(self) -> Value:
        value = self.unit()
        if self.next == "^":
            self.take()
            value = value ** self.argument()
        return value

    def unit(self) -> Value:
        token = self.take()
        if token in CLOSES:
            value = self.sum()
            self.take(CLOSES[token])
            return value
        if token in (r"\tfrac", r"\frac"):
            return self.argument() / self.argument()
        if token == r"\log":
            return torch.log(self.factor())
        if token in FUNCTIONS:
            return FUNCTIONS[token](*self.arguments())
        if token == r"\mathbf 1":
            self.take("[")
            left, _, right = self.sum(), self.take("<"), self.sum()
            self.take("]")
            return (left < right).double()
        if token.isdigit():
            return torch.tensor(float(token), dtype=torch.float64)
        if token == "e":
            return torch.tensor(math.e, dtype=torch.float64)
        for mark in (REF, "_"):  # an index belongs to the symbol before it
            token += self.take() if self.next.startswith(mark) else ""
        return self.symbol(_name(token))

    def argument(self) -> Value:
        r"""The argument of \tfrac or ^: what is in braces, else one token."""
        if self.next == "{":
            return self.unit()
        return _Reader([self.take()], self.known, self.defined, self.used, self.index).whole()

    def arguments(self) -> list[Value]:
        self.take("(")
        values = [self.sum()]
        while self.next == ",":
            self.take()
            values.append(self.sum())
        self.take(")")
        return values

    def symbol(self, name: str) -> Value:
        base, _, index = name.partition("_")
        if name in self.known:
            self.used.add(name)
            return self.known[name]
        if name in self.defined:
            return self.inner(self.defined[name])
        if f"{name}(t)" in self.defined:
            (value,) = self.arguments()
            return self.inner(self.defined[f"{name}(t)"], {"t": value})
        if index.endswith("(k)"):
            return self.symbol(_name(base + (f"_{index[:-3]}" if index[:-3] else ""))).sort().values
        if base.endswith(REF) and base.removesuffix(REF) in self.defined:
            theirs = {key.replace(REF, ""): value for key, value in self.known.items() if REF in key}
            return self.inner(self.defined[base.removesuffix(REF)], theirs)
        if index and base in self.defined:
            return self.inner(self.defined[base], index=f"_{index}")
        if self.index and not index and name + self.index in self.known:
            return self.symbol(name + self.index)
        raise self.error(f"nothing defines {name}")

    def inner(self, tokens: list[str], more: dict[str, Value] | None = None, index: str = "") -> Value:
        return _Reader(tokens, {**self.known, **(more or {})}, self.defined, self.used, index).whole()
