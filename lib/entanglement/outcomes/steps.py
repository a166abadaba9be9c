"""Plain gradient steps on one pair, measured exactly and set against the first-order prediction.

A step of size η on a loss with weights d_w, d_l moves θ to θ + η(d_w g_w − d_l g_l). Here it is really taken,
both log-probabilities are evaluated again, and the parameters are put back to the last bit. Source of the
prediction: paper, Eqs. 4 and 5 (arXiv 2410.13828).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from entanglement.checks import columns, finite, instance_of, non_negative, positive, shown, whole
from entanglement.geometry import Case, Numbers, PairGeometry, as_float64
from entanglement.gradients import Parameters, response_gradients, select_parameters
from entanglement.loglinear import LogLinear
from entanglement.logps import response_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = [
    "SteppedPair",
    "case_of_changes",
    "ladder_geometry",
    "log_linear_steps",
    "measured_cases",
    "model_steps",
    "plain_step",
    "small_steps",
    "step_ladder",
]

Changes = tuple[float, float]


class SteppedPair(NamedTuple):
    """One pair that can be stepped.

    Attributes:
        id: its name.
        geometry: a², b², c of this pair alone.
        d_w, d_l: the loss's weights.
        change: lr → exact (Δ log π_w, Δ log π_l), nats, of a step of that size from the same parameters.
        defect_bound: lr → a bound on first-order minus exact change of the two, for frozen features.
    """

    id: str
    geometry: PairGeometry
    d_w: float
    d_l: float
    change: Callable[[float], Changes]
    defect_bound: Callable[[float], Changes] | None = None


def _per_pair(value: Numbers, n: int, name: str) -> list[float]:
    tensor = as_float64(value, name)
    if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) != n):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected one number or ({n},).")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name}={shown(value)}; expected finite numbers.")
    return [float(v) for v in tensor.expand(n)]


def _step_size(lr: float) -> float:
    non_negative("lr", lr)
    return float(lr)


def _logps(model: nn.Module, pair: PairBatch) -> Changes:
    with torch.no_grad():
        chosen, rejected = response_logps(model, pair)
    return float(chosen[0]), float(rejected[0])


def _moved_logps(
    model: nn.Module, pair: PairBatch, direction: Mapping[str, torch.Tensor], lr: float
) -> Changes:
    """Return both log-probabilities at θ + lr · direction; θ is put back by copying, so to the last bit."""
    parameters = select_parameters(model, lambda name: name in direction)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(direction[name], alpha=lr)
        return _logps(model, pair)
    finally:
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(before[name])


@checked()
def model_steps(
    model: nn.Module,
    batch: PairBatch,
    d_w: Numbers = 1.0,
    d_l: Numbers = 1.0,
    parameters: Parameters = "all",
) -> Iterator[SteppedPair]:
    """Yield the pairs of a batch, each to be stepped by itself and from the same parameters.

    Args:
        model: a causal language model in evaluation mode. In float64 a change of 10⁻³ nats is measured to
            some ten digits; in float32 to two or three.
        batch: B pairs.
        d_w, d_l: weights of the loss, numbers or (B,).
        parameters: which of them move; the geometry is that of the same ones.

    Raises:
        ValueError: as ``pair_geometry``; weights of a wrong shape.
    """
    weights = list(zip(_per_pair(d_w, len(batch), "d_w"), _per_pair(d_l, len(batch), "d_l"), strict=True))
    for i, (g_w, g_l) in enumerate(response_gradients(model, batch, parameters)):
        pair, (up, down) = batch.select(i), weights[i]
        direction: dict[str, torch.Tensor] = {}
        for name in g_w.grads:
            w, l = g_w.grads[name], g_l.grads[name]  # noqa: E741
            parts = [
                part
                for part in (None if w is None else up * w, None if l is None else -down * l)
                if part is not None
            ]
            if parts:
                direction[name] = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        numbers = torch.tensor([[g_w.dot(g_w)], [g_l.dot(g_l)], [g_w.dot(g_l)]], dtype=torch.float64)
        geometry = PairGeometry(numbers[0], numbers[1], numbers[2], pair.ids)
        start = _logps(model, pair)

        def change(
            lr: float,
            pair: PairBatch = pair,
            direction: Mapping[str, torch.Tensor] = direction,
            start: Changes = start,
        ) -> Changes:
            after = _moved_logps(model, pair, direction, _step_size(lr))
            return after[0] - start[0], after[1] - start[1]

        yield SteppedPair(pair.ids[0], geometry, up, down, change)


@checked()
def log_linear_steps(
    pairs: LogLinear, d_w: Numbers = 1.0, d_l: Numbers = 1.0, name: str = "pair"
) -> Iterator[SteppedPair]:
    """Yield the pairs of a log-linear model, each to be stepped on its own W, with a bound on the defect.

    Args:
        pairs: B pairs, float64.
        d_w, d_l: weights of the loss, numbers or (B,).
        name: of the pairs; a number is added.
    """
    n = len(pairs)
    weights = zip(_per_pair(d_w, n, "d_w"), _per_pair(d_l, n, "d_l"), strict=True)
    fields = ("weight", "chosen_features", "chosen", "rejected_features", "rejected")
    for i, (up, down) in enumerate(weights):
        one = replace(pairs, **{field: getattr(pairs, field)[i : i + 1] for field in fields})

        def change(lr: float, one: LogLinear = one, up: float = up, down: float = down) -> Changes:
            chosen, rejected = one.change(_step_size(lr), up, down)
            return float(chosen[0]), float(rejected[0])

        def bound(lr: float, one: LogLinear = one, up: float = up, down: float = down) -> Changes:
            chosen, rejected = one.defect_bound(_step_size(lr), up, down)
            return float(chosen[0]), float(rejected[0])

        yield SteppedPair(f"{name} {i}", one.geometry(), up, down, change, bound)


@checked()
def plain_step(
    model: nn.Module,
    batch: PairBatch,
    lr: Numbers,
    d_w: Numbers = 1.0,
    d_l: Numbers = 1.0,
    parameters: Parameters = "all",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the exact (Δ log π_w, Δ log π_l), each (B,) float64, nats, of one plain gradient step per pair.

    Each pair is stepped alone, from the parameters as they are; afterwards they are as they were.

    Args:
        lr: step size η, a number or (B,), finite and at least 0.
        model, batch, d_w, d_l, parameters: as in ``model_steps``.
    """
    sizes = _per_pair(lr, len(batch), "lr")
    rows = [
        pair.change(size)
        for pair, size in zip(model_steps(model, batch, d_w, d_l, parameters), sizes, strict=True)
    ]
    chosen, rejected = torch.tensor(rows, dtype=torch.float64).T
    return chosen, rejected


@checked(first=positive, doublings=whole(0, 60), at_least=non_negative)
def step_ladder(
    pairs: Iterable[SteppedPair], *, first: float = 1.1e-3, doublings: int = 12, at_least: float = 1e-3
) -> pd.DataFrame:
    """Return predicted and exact changes of every pair over a ladder of step sizes, each twice the last.

    The first step of a pair is the one whose larger first-order change is ``first``. A ladder is made longer
    than ``doublings`` until each response has changed by at least ``at_least``: nobody is left out because a
    change happens to be small.

    Args:
        pairs: from ``model_steps`` or ``log_linear_steps``.
        first: larger first-order change of the first step, nats.
        doublings: number of further steps, at least.
        at_least: nats; see above.

    Returns:
        A tidy table, one row a pair, rung and response: pair, response ("chosen" or "rejected"), rung, lr,
        size (the larger first-order change, nats), predicted, alone (the prediction that leaves the inner
        product out), exact, error (|predicted − exact| / |exact|), alone_error, bound (frozen features; nan
        where none), chosen_sq, rejected_sq, inner, case (by first order).

    Raises:
        ValueError: a pair with no first-order change at all (naming it), or one that has not changed by
            ``at_least`` after 60 doublings.
    """
    rows: list[dict[str, object]] = []
    for pair in pairs:
        instance_of(SteppedPair)("pairs", pair)
        up, down = (float(rate[0]) for rate in pair.geometry.rates(pair.d_w, pair.d_l))
        a2, b2 = float(pair.geometry.chosen_sq[0]), float(pair.geometry.rejected_sq[0])
        largest = max(abs(up), abs(down))
        if largest == 0:
            raise ValueError(f"step_ladder: {pair.id} does not move to first order; both rates are 0.")
        common = {
            "pair": pair.id,
            "chosen_sq": a2,
            "rejected_sq": b2,
            "inner": float(pair.geometry.inner[0]),
            "case": pair.geometry.case(pair.d_w, pair.d_l)[0],
        }
        reached = [False, False]
        rung = 0
        while rung <= doublings or not all(reached):
            if rung > 60:
                raise ValueError(
                    f"step_ladder: {pair.id} has not changed by {at_least} nats; is it constant?"
                )
            lr = first / largest * 2.0**rung
            exact = pair.change(lr)
            bounds = (math.nan, math.nan) if pair.defect_bound is None else pair.defect_bound(lr)
            sides = (("chosen", up, pair.d_w * a2), ("rejected", down, -pair.d_l * b2))
            for k, (response, rate, alone) in enumerate(sides):
                reached[k] = reached[k] or abs(exact[k]) >= at_least
                rows.append(
                    common
                    | {
                        "response": response,
                        "rung": rung,
                        "lr": lr,
                        "size": first * 2.0**rung,
                        "predicted": lr * rate,
                        "alone": lr * alone,
                        "exact": exact[k],
                        "bound": bounds[k],
                    }
                )
            rung += 1
    if not rows:
        raise ValueError("step_ladder: pairs is empty; expected at least one.")
    table = pd.DataFrame(rows)
    magnitude = table["exact"].abs()
    with np.errstate(divide="ignore", invalid="ignore"):
        table["error"] = (table["predicted"] - table["exact"]).abs() / magnitude
        table["alone_error"] = (table["alone"] - table["exact"]).abs() / magnitude
    return table


@checked(ladder=columns("pair", "response", "rung", "exact"), at_least=non_negative)
def small_steps(ladder: pd.DataFrame, at_least: float = 1e-3) -> pd.DataFrame:
    """Return, for every response of every pair, its first rung with an exact change of at least ``at_least``.

    Raises:
        ValueError: a response that has no such rung.
    """
    enough = ladder[ladder["exact"].abs() >= at_least]
    keys = ["pair", "response"]
    small = enough.sort_values("rung", kind="stable").groupby(keys, sort=False).head(1).sort_index()
    missing = len(ladder.drop_duplicates(keys)) - len(small)
    if missing:
        raise ValueError(
            f"small_steps: {missing} responses never change by {at_least} nats; make the ladder longer."
        )
    return small.reset_index(drop=True)


@checked()
def case_of_changes(chosen: Iterable[float], rejected: Iterable[float]) -> list[Case]:
    """Return the case that measured changes show, a list of B strings as in ``PairGeometry.case``."""
    changes = {"chosen": list(chosen), "rejected": list(rejected)}
    for side, some in changes.items():
        if not all(map(finite.holds, some)):
            raise ValueError(f"{side}={shown(some)}; expected finite numbers.")
    if len(changes["chosen"]) != len(changes["rejected"]):
        raise ValueError(
            f"case_of_changes: {len(changes['chosen'])} numbers are chosen and {len(changes['rejected'])} "
            "rejected; expected as many."
        )
    names: dict[tuple[bool, bool], Case] = {
        (False, False): "ideal",
        (True, False): "both_down",
        (False, True): "both_up",
        (True, True): "reversed",
    }
    return [names[bool(w < 0), bool(l > 0)] for w, l in zip(*changes.values(), strict=True)]  # noqa: E741


@checked(ladder=columns("pair", "chosen_sq", "rejected_sq", "inner"))
def ladder_geometry(ladder: pd.DataFrame) -> PairGeometry:
    """Return the geometry of the pairs of a ladder (or of its small steps), in order of appearance."""
    one = ladder.drop_duplicates("pair")
    a2, b2, c = (torch.tensor(one[name].to_numpy()) for name in ("chosen_sq", "rejected_sq", "inner"))
    return PairGeometry(a2, b2, c, tuple(one["pair"]))


@checked(small=columns("pair", "response", "exact", "alone", "case", "chosen_sq", "inner"))
def measured_cases(small: pd.DataFrame) -> pd.DataFrame:
    """Return the case of each pair: as predicted, as predicted without the inner product, and as measured.

    Args:
        small: rows of ``small_steps``; each response is judged by its own step.

    Returns:
        One row a pair, index pair: predicted, without, measured, chosen_sq, inner.
    """
    wide = small.pivot(index="pair", columns="response", values=["exact", "alone"])
    one = small.drop_duplicates("pair").set_index("pair").loc[wide.index]
    return pd.DataFrame(
        {
            "predicted": one["case"],
            "without": case_of_changes(wide["alone", "chosen"], wide["alone", "rejected"]),
            "measured": case_of_changes(wide["exact", "chosen"], wide["exact", "rejected"]),
            "chosen_sq": one["chosen_sq"],
            "inner": one["inner"],
        },
        index=wide.index,
    )
