"""What the losses differ in: how hard each pulls on chosen and pushes on rejected, and what comes of it.

A plain step on a loss depends on the loss through its two weights d_w and d_l alone, and in its direction
through r = d_w/d_l. Here every declared loss is asked for them: at the reference, after both responses have
fallen, and along a descent in the log-linear model of the book, where a step is exact. Source of the
questions: paper §3.2 (arXiv 2410.13828).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch

from entanglement.geometry import PairGeometry
from entanglement.loglinear import LogLinear
from entanglement.logps import PairLogps
from entanglement.losses import FORMS, Loss, get_loss
from entanglement.outcomes.steps import case_of_changes
from entanglement_book.studies.shared.exact import exact_logps

__all__ = ["FORMS", "at_reference", "descend", "fallen", "one_step_cases", "pair_state", "weight_ratio"]

_TINY = 1e-300


def pair_state(
    moved: Sequence[float] | torch.Tensor,
    other: Sequence[float] | torch.Tensor,
    lengths: tuple[int, int] = (10, 10),
    start: tuple[float, float] = (-12.0, -14.0),
) -> PairLogps:
    """Return B pairs whose log-probabilities have moved by given nats since the reference.

    Args:
        moved, other: (B,) ϱ_w and ϱ_l, nats.
        lengths: (n_w, n_l), tokens.
        start: (log π_w, log π_l) at the reference, nats.
    """
    w, l = (torch.as_tensor(v, dtype=torch.float64) for v in (moved, other))  # noqa: E741
    ref_w, ref_l = torch.full_like(w, start[0]), torch.full_like(l, start[1])
    n_w, n_l = (torch.full(w.shape, n, dtype=torch.long) for n in lengths)
    return PairLogps(ref_w + w, ref_l + l, ref_w, ref_l, n_w, n_l)


def weight_ratio(loss: Loss, logps: PairLogps) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (d_w, d_l, r), each (B,); r = d_w/d_l is inf where only d_l is 0, nan where both are."""
    d_w, d_l = (d.double() for d in loss.weights(logps))
    return d_w, d_l, d_w / d_l


def at_reference(
    names: Iterable[str],
    lengths: tuple[int, int] = (10, 10),
    start: tuple[float, float] = (-12.0, -14.0),
) -> pd.DataFrame:
    """Return the weights of each loss, at its defaults, before the first step: columns loss, d_w, d_l, r.

    Args:
        names: of losses.
        lengths: (n_w, n_l), tokens.
        start: (log π_w, log π_l) at the reference, nats. Losses without a reference depend on it, so a page
            that shows these numbers says it.
    """
    rows = []
    for name in names:
        d_w, d_l, r = weight_ratio(get_loss(name), pair_state([0.0], [0.0], lengths, start))
        rows.append({"loss": name, "d_w": float(d_w), "d_l": float(d_l), "r": float(r)})
    return pd.DataFrame(rows)


def fallen(
    names: Iterable[str],
    nats: Sequence[float],
    lengths: tuple[int, int] = (10, 10),
    beta: float | None = None,
    start: tuple[float, float] = (-12.0, -14.0),
) -> pd.DataFrame:
    """Return each loss's weights once both log-ratios have fallen equally far.

    Args:
        names: of losses.
        nats: how far both have fallen, at least 0.
        lengths: (n_w, n_l), tokens.
        beta: for all losses that have this hyper-parameter; None for their own defaults.
        start: (log π_w, log π_l) at the reference, nats.

    Returns:
        Columns loss, fallen (nats), d_w, d_l, r.
    """
    frames = []
    down = -torch.as_tensor(nats, dtype=torch.float64)
    for name in names:
        loss = get_loss(name)
        if beta is not None and "beta" in loss.hyper:
            loss = get_loss(name, beta=beta)
        d_w, d_l, r = weight_ratio(loss, pair_state(down, down, lengths, start))
        columns = {"loss": name, "fallen": -down.numpy(), "d_w": d_w, "d_l": d_l, "r": r}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def one_step_cases(pairs: LogLinear, loss: Loss, nats: float = 1e-5) -> pd.DataFrame:
    """Take one exact small step from the reference on each pair, and set its case against two predictions.

    Args:
        pairs: B pairs, each with a matrix of its own.
        loss: gives d_w and d_l.
        nats: size of the step, as the larger of its two first-order changes.

    Returns:
        One row a pair: d_w, d_l, the case that was measured, the one predicted from the weights, and the one
        predicted as if they were equal. Pairs that the loss does not move are left out.
    """
    geometry = pairs.geometry()
    d_w, d_l, _ = weight_ratio(loss, exact_logps(pairs, pairs.logps()))
    eta = _unit_steps(geometry, d_w, d_l, nats)
    moves = eta > 0
    changes = pairs.change(1.0, eta * d_w, eta * d_l)
    rows = pd.DataFrame(
        {
            "d_w": d_w,
            "d_l": d_l,
            "measured": case_of_changes(*(side.tolist() for side in changes)),
            "predicted": geometry.case(d_w, d_l),
            "as_if_equal": geometry.case(1.0, 1.0),
        }
    )
    return rows[moves.numpy()]


def _unit_steps(pairs: PairGeometry, d_w: torch.Tensor, d_l: torch.Tensor, nats: float) -> torch.Tensor:
    """Return (B,) step sizes whose larger first-order change is ``nats``; 0 where nothing moves."""
    up, down = pairs.rates(d_w, d_l)
    speed = torch.maximum(up.abs(), down.abs())
    return torch.where(speed > 0, nats / speed.clamp(min=_TINY), torch.zeros_like(speed))


def descend(
    pairs: LogLinear, loss: Loss, *, margin: float = 4.0, stride: float = 0.05, steps: int = 2000
) -> pd.DataFrame:
    """Follow a loss downhill by small exact steps, each pair by itself, until its margin has grown enough.

    Losses differ in scale by factors of a thousand, so a step is not a learning rate here: it moves the
    faster of the two log-probabilities by ``stride`` nats. What is compared are paths, not speeds.

    Args:
        pairs: B pairs, each with a matrix of its own; the start is the reference.
        loss: the loss.
        margin: stop a pair when its margin has grown by this many nats.
        stride: length of a step, nats.
        steps: at most so many.

    Returns:
        One row a step and pair: step, pair, chosen, rejected (nats since the start), margin (their
        difference), value (of the loss), d_w, d_l, r, cosine, norm_ratio, weighed (d_l b / d_w a), the case
        of the next step and eta, what its weights are multiplied by.
        A pair that has arrived, or that the loss no longer moves, has no further rows.
    """
    reference = pairs.logps()
    going = torch.ones(len(reference[0]), dtype=torch.bool)
    pair, rows, cases = torch.arange(len(going)), [], []
    for step in range(steps + 1):
        logps, geometry = exact_logps(pairs, reference), pairs.geometry()
        d_w, d_l, r = weight_ratio(loss, logps)
        eta = _unit_steps(geometry, d_w, d_l, stride)
        columns = {
            "step": torch.full_like(pair, step),
            "pair": pair,
            "chosen": logps.chosen_logratio,
            "rejected": logps.rejected_logratio,
            "margin": logps.delta,
            "value": loss(logps),
            "d_w": d_w,
            "d_l": d_l,
            "r": r,
            "cosine": geometry.cosine,
            "norm_ratio": geometry.norm_ratio,
            "weighed": geometry.norm_ratio / r,
            "eta": eta,
        }
        rows.append({name: column[going].numpy() for name, column in columns.items()})
        cases += [case for case, goes in zip(geometry.case(d_w, d_l), going.tolist(), strict=True) if goes]
        going = going & (logps.delta < margin) & (eta > 0)
        if not bool(going.any()):
            break
        eta = torch.where(going, eta, torch.zeros_like(eta))
        pairs = pairs.step(1.0, eta * d_w, eta * d_l)
    whole = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return pd.DataFrame(whole | {"case": cases})
