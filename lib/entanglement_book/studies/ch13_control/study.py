"""Requests for both responses of one pair: which are met by true steps, and how a loss gets there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_for
from entanglement.geometry import PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.loglinear import LogLinear
from entanglement.logps import PairLogps, response_logps
from entanglement.losses import Loss
from entanglement.pairs import PreferencePair
from entanglement.updates import PairPass
from entanglement.updates.plans import plan, reach

__all__ = ["around", "exact_path", "goal_steps", "margin_alone", "measured", "try_requests"]


def around(size: float) -> dict[str, tuple[float, float]]:
    """Return eight requests (chosen, rejected), whose larger part is ``size`` nats, by name."""
    return {
        "up, down": (size, -size),
        "up, stay": (size, 0.0),
        "stay, down": (0.0, -size),
        "up, up": (size, size),
        "down, down": (-size, -size),
        "stay, up": (0.0, size),
        "down, stay": (-size, 0.0),
        "down, up": (-size, size),
    }


def measured(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> PairGeometry:
    """Return the geometry of pairs as training sees them: too long a prompt loses its beginning."""
    return pair_geometry(model, collate_for(model, pairs, tokenizer, False), "trainable")


def try_requests(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    requests: Mapping[str, tuple[float, float]],
) -> pd.DataFrame:
    """Ask for every request on every pair by itself, with weights as a loss has them, at least 0.

    Args:
        model: left as it was.
        tokenizer: the model's.
        pairs: moved one at a time.
        requests: name → changes of both responses, nats.

    Returns:
        One row a pair and request: pair, request, verdict, met (both within 5 %), steps, price (length of
        the planned step, in lengths of the step that moves the chosen response by as much and leaves the
        rejected one to itself), and met_by_dpo (whether steps along DPO's own direction to the same margin
        meet the request, too).
    """
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rows = []
    for pair in pairs:
        batch = collate_for(model, [pair], tokenizer, False)
        geometry = measured(model, tokenizer, [pair])
        for name, (chosen, rejected) in requests.items():
            found = reach(model, batch, chosen, rejected)
            model.load_state_dict(start)
            size = max(abs(chosen), abs(rejected))
            length = float(plan(geometry, chosen, rejected, nonnegative=False).length)
            end = margin_alone(model, tokenizer, pair, chosen - rejected) if chosen > rejected else None
            model.load_state_dict(start)
            near = end is not None and max(abs(end[0] - chosen), abs(end[1] - rejected)) <= 0.05 * size
            rows.append(
                {
                    "pair": pair.id,
                    "request": name,
                    "verdict": found.verdict,
                    "met": found.met,
                    "steps": found.steps,
                    "price": length * math.sqrt(float(geometry.chosen_sq)) / size,
                    "met_by_dpo": near,
                }
            )
    return pd.DataFrame(rows)


def margin_alone(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pair: PreferencePair,
    margin: float,
    *,
    share: float = 0.7,
    max_steps: int = 12,
) -> tuple[float, float]:
    """Move a pair along g_w − g_l, DPO's own direction, until its margin has grown as asked, in place.

    Args:
        model: moved.
        tokenizer: the model's.
        pair: one pair.
        margin: growth asked for, nats, positive.
        share: of the rest that a step asks for.
        max_steps: give up after so many.

    Returns:
        The changes of both responses, nats.
    """
    batch = collate_for(model, [pair], tokenizer, False)
    with torch.no_grad():
        before = [float(value) for value in response_logps(model, batch)]
    for _ in range(max_steps):
        here = PairPass(model, batch)
        moved = (float(here.chosen) - before[0], float(here.rejected) - before[1])
        left = margin - (moved[0] - moved[1])
        if abs(left) <= 0.05 * margin:
            return moved
        assert here.geometry is not None
        weight = share * left / here.geometry.distance_sq
        step = here.gradient(weight, -weight)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in step:
                    parameter.add_(step[name])
    with torch.no_grad():
        now = [float(value) for value in response_logps(model, batch)]
    return now[0] - before[0], now[1] - before[1]


def _moved(pair: LogLinear, reference: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    chosen, rejected = (float(new[0] - old[0]) for new, old in zip(pair.logps(), reference, strict=True))
    return chosen, rejected


def exact_path(pair: LogLinear, loss: Loss, eta: float, steps: int) -> pd.DataFrame:
    """Follow plain steps on a loss in the log-linear model, where they are exact.

    Args:
        pair: one pair; the start is the reference.
        loss: needs no lengths.
        eta: step size η.
        steps: how many.

    Returns:
        One row a step, from 0 on: step, chosen, rejected (changes, nats).
    """
    reference, now, rows = pair.logps(), pair, []
    for step in range(steps + 1):
        rows.append((step, *_moved(now, reference)))
        d_w, d_l = loss.weights(PairLogps(*now.logps(), *reference))
        now = now.step(eta, d_w, d_l)
    return pd.DataFrame(rows, columns=["step", "chosen", "rejected"])


def goal_steps(pair: LogLinear, goal: tuple[float, float], steps: int, share: float = 0.3) -> pd.DataFrame:
    """Follow planned steps to a goal in the log-linear model, each for a share of what is left.

    Returns:
        As ``exact_path``.
    """
    reference, now, rows = pair.logps(), pair, []
    for step in range(steps + 1):
        moved = _moved(now, reference)
        rows.append((step, *moved))
        left = (share * (goal[0] - moved[0]), share * (goal[1] - moved[1]))
        found = plan(now.geometry(), *left, nonnegative=False)
        now = now.step(1.0, found.x_w, found.x_l)
    return pd.DataFrame(rows, columns=["step", "chosen", "rejected"])
