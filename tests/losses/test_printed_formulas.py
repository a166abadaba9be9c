"""What the table of losses prints is what the losses compute: its LaTeX is evaluated, for L, d_w and d_l."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from printed_latex import FUNCTIONS, UnreadableError, compute, symbols

from entanglement.losses import Hyper, Loss, LossSpec, PairLogps, list_losses, loss_spec
from entanglement.losses.goals import goal_loss

SEEDS = range(4)  # of the pairs; the first with the defaults, the others with drawn hyper-parameters
PAIRS = 24


def some_pairs(seed):
    """Pairs with both signs of every margin and log-ratio; in the last, nothing was gained or differs."""
    random.seed(seed)

    def column(low, high):
        return torch.tensor([random.uniform(low, high) for _ in range(PAIRS)], dtype=torch.float64)

    ref_w, ref_l = column(-9, -4), column(-9, -4)
    f_w, f_l = ref_w + column(-3, 3), ref_l + column(-3, 3)
    n_w, n_l = (torch.tensor([random.randint(2, 9) for _ in range(PAIRS)]) for _ in range(2))
    f_w[-1] = f_l[-1] = ref_w[-1] = ref_l[-1] = -5.0
    n_l[-1] = n_w[-1]
    return PairLogps(f_w, f_l, ref_w, ref_l, n_w, n_l)


def drawn(hyper: Hyper, seed: int) -> float:
    """Return the default for the first seed, else a value of the allowed range."""
    if seed == 0:
        return hyper.default
    draw = random.Random(f"{hyper.name} {seed}")
    if math.isinf(hyper.high):
        return draw.uniform(0.1, 0.9) * (draw.choice([-1, 1]) if math.isinf(hyper.low) else 1)
    return draw.uniform(hyper.low + 0.01, hyper.high - 0.01)


def compare(spec: LossSpec, seed: int, more: dict[str, float] | None = None) -> set[str]:
    """Evaluate what a declaration prints and hold it against the function; return the symbols that were used.

    Raises:
        AssertionError: value or weights differ by more than 1e-9.
        UnreadableError: a formula that cannot be evaluated, an empty one included.
    """
    logps, used = some_pairs(seed), set()
    loss = Loss(spec, {h.name: drawn(h, seed) for h in spec.hyper})
    known = symbols(logps)
    for symbol, number in [(h.symbol, loss.hyper[h.name]) for h in spec.hyper] + list((more or {}).items()):
        assert symbol and symbol not in known, f"{spec.name}: {symbol!r} has two meanings"
        known[symbol] = torch.tensor(number, dtype=torch.float64)
    found = [compute(spec.formula, known, used)]
    # A definition beside the loss holds for the weights, and one beside d_w holds for d_l.
    found += [compute(spec.d_w, known, used, [spec.formula])]
    found += [compute(spec.d_l, known, used, [spec.d_w, spec.formula])]
    for what, printed, computed in zip(
        ("L", "d_w", "d_l"), found, (loss(logps), *loss.weights(logps)), strict=True
    ):
        printed = printed.expand(PAIRS)
        assert bool(printed.isfinite().all()), f"{spec.name}: {what} is not finite"
        torch.testing.assert_close(
            printed, computed, rtol=1e-9, atol=1e-9, msg=lambda m, what=what: f"{spec.name}: {what}: {m}"
        )
    return used


# --- every declaration --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", list_losses())
def test_what_is_printed_is_what_is_computed(name, seed):
    spec = loss_spec(name)
    used = compare(spec, seed)
    unused = {h.symbol for h in spec.hyper} - used
    assert not unused, f"{name}: no formula has its hyper-parameter {unused}"


def test_the_goals_formulas_too():
    used = compare(goal_loss(0.7, -1.3).spec, 1, {"t_w": 0.7, "t_l": -1.3})
    assert {"t_w", "t_l"} <= used


def test_every_pair_of_signs_is_among_the_pairs():
    for seed in SEEDS:
        logps = some_pairs(seed)
        for values in (
            logps.delta, logps.margin, logps.chosen_mean - logps.rejected_mean, logps.chosen_logratio,
            logps.rejected_logratio,
        ):  # fmt: skip
            assert {-1.0, 0.0, 1.0} == set(values.sign().tolist())


@pytest.mark.parametrize("name", list_losses())
def test_the_notation_page_or_the_declaration_says_what_each_symbol_means(name):
    page = (Path(__file__).parents[2] / "book" / "notation.md").read_text()
    defined = "".join(re.findall(r"^\| (\$.*?) \|", page, flags=re.MULTILINE))  # the columns of symbols
    spec = loss_spec(name)
    printed = " ".join((spec.formula, spec.d_w, spec.d_l))
    symbols_used = compare(spec, 0) - {h.symbol for h in spec.hyper}
    symbols_used |= {function for function in FUNCTIONS if re.search(re.escape(function) + "(?!')", printed)}
    symbols_used |= {r"\mathbf 1"} if r"\mathbf 1" in printed else set()
    missing = {s for s in symbols_used - {r"\max"} if s not in defined}
    assert not missing, f"{name}: book/notation.md has no row for {missing}"


# --- and a wrong text is found ------------------------------------------------------------------------------

EDITS = {
    "a sign": (r"[-+]", lambda sign: "+" if sign == "-" else "-"),
    "a side": (r"(?<=[a-zRn]_)[wl]", lambda side: "l" if side == "w" else "w"),
    "a number": (r"(?<!\\mathbf )[12]", lambda _: "3"),
    "a hyper-parameter": (
        r"\\beta|\\alpha|\\lambda(?:_[DU])?|\\gamma|\\tau|\\varepsilon",
        lambda _: "{1}",
    ),
}


def wrong_texts():
    """Yield every loss's d_w and d_l with one edit: (name, field, text)."""
    for name in list_losses():
        for field in ("formula", "d_w", "d_l"):
            text = getattr(loss_spec(name), field)
            for pattern, change in EDITS.values():
                for hit in re.finditer(pattern, text):
                    yield name, field, text[: hit.start()] + change(hit.group()) + text[hit.end() :]


#: AlphaPO's loss sees a difference of two R: what is added to both leaves it as it is.
NO_MATTER = {("alphapo", r"-\log\sigma(\beta(R_w-R_l)-\gamma),\;R=\tfrac{3-e^{-\alpha\bar f}}{\alpha}")}


def is_found(spec: LossSpec) -> bool:
    """Whether the numbers of a declaration and its text differ."""
    for seed in reversed(SEEDS):
        try:
            compare(spec, seed)
        except AssertionError:
            return True
    return False


def test_one_edit_of_any_printed_formula_is_found():
    tried, missed = 0, set()
    for name, field, text in wrong_texts():
        tried += 1
        if not is_found(replace(loss_spec(name), **{field: text})):
            missed.add((name, text))
    assert missed == NO_MATTER
    assert tried > 500


def test_weights_that_change_places_are_found():
    for name in list_losses():
        spec = loss_spec(name)
        if spec.d_w != spec.d_l:  # a definition beside d_w must stay readable
            weight, comma, defined = spec.d_w.partition(r",\;")
            assert is_found(replace(spec, d_w=f"{spec.d_l}{comma}{defined}", d_l=weight)), name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected more"),
        (r"\beta T", "nothing defines T"),
        (r"\beta\,\sigma(-\beta\Delta", r"expected \)"),
        (r"\beta\,\sigma(-\beta\Delta))", "is not understood"),
        (r"\beta\,\sigma(-\beta\Delta)\text{ mostly}", "nothing defines .text"),
        (r"\beta\,\sigma(-\beta\Delta),\;\beta>0", "expected a definition"),
        (r"1/2\beta", "in two ways"),
        (r"\sinh(\Delta)", r"nothing defines .sinh"),
        (r"\beta\,S_w,\;S=\sigma(-\beta\,\bar f)/\bar g", r"nothing defines .bar g"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(text, words):
    with pytest.raises(UnreadableError, match=words):
        compare(replace(loss_spec("dpo"), d_w=text), 0)


def test_the_evaluator_reads_as_a_reader_does():
    known = {"x": torch.tensor([3.0, 1.0, 2.0]).double(), "y_w": torch.tensor([1.0, 4.0, 1.0]).double()}
    for text, expected in {
        r"-x^2": [-9, -1, -4],
        r"2x/y_w-1": [5, -0.5, 3],
        r"\tfrac12x+\tfrac x{y_w+1}": [3, 0.7, 2],
        r"\log e^{x}-\max(0,x-1)": [1, 1, 1],
        r"\mathbf 1[x<2]\{x+1\}": [0, 2, 0],
        r"x_{(k)}": [1, 2, 3],
        r"x_{(k)}^2\text{ at the rank of }x": [9, 1, 4],
        r"q+h(2),\;q=x-h(x),\;h(t)=t^2": [-2, 4, 2],
        r"2M_w,\;M=y": [2, 8, 2],
        r"1-2-3": [-4, -4, -4],
    }.items():
        value = compute(text, known).expand(3)
        torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
