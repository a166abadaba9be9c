"""One true step on one pair, under each update rule: does it keep what its arithmetic promises?

The pairs are those of the underspecified margin, which tangle: refusals that repeat the words of
the compliance (both rise), and a teacher's answers with which a rambling one begins (both fall). The
control's answers share no words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.gradients import pair_geometry
from entanglement.loglinear import LogLinear
from entanglement.logps import response_logps
from entanglement.losses import get_loss
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PreferencePair, collate
from entanglement.updates import Update, get_rule
from entanglement_book.studies.shared.exact import exact_logps

__all__ = [
    "exact_runs",
    "exact_steps",
    "one_step_each",
    "outcome",
]


def one_step_each(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    updates: Mapping[str, Update],
    *,
    optimizer: str = "sgd",
    size: float = 0.01,
    rate: float | None = None,
    append_eos: bool = False,
) -> pd.DataFrame:
    """Take one DPO step on each pair alone with each update, from the same parameters.

    Args:
        model: left as it was.
        tokenizer: the model's.
        pairs: stepped on one at a time.
        updates: label → update.
        optimizer: "sgd" or "adamw" (whose first step this is).
        size: sets each pair's learning rate so that DPO's own plain step, were the two gradients orthogonal,
            would add this many nats of margin.
        rate: a learning rate for all pairs instead.
        append_eos: whether the end token belongs to the answers.

    Returns:
        One row an update and pair: update, pair, chosen, rejected (changes, nats).

    Raises:
        ValueError: an unknown optimizer.
    """
    loss = get_loss("dpo")
    model.eval()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rows = []
    for pair in pairs:
        batch = collate([pair], tokenizer, append_eos=append_eos)
        with torch.no_grad():
            before = response_logps(model, batch)
        eta = rate
        if eta is None:
            geometry = pair_geometry(model, batch)
            d = loss.hyper["beta"] / 2  # DPO's weight at the reference
            eta = size / (d * float(geometry.chosen_sq + geometry.rejected_sq))
        for label, update in updates.items():
            update.begin(model)
            stepper = make_optimizer(optimizer, model, eta)
            update.step(model, stepper, [batch], loss, before)
            with torch.no_grad():
                after = response_logps(model, batch)
            chosen, rejected = (float(new - old) for new, old in zip(after, before, strict=True))
            rows.append({"update": label, "pair": pair.id, "chosen": chosen, "rejected": rejected})
            model.load_state_dict(start)
    return pd.DataFrame(rows)


def outcome(table: pd.DataFrame, tolerance: float = 1e-4) -> pd.DataFrame:
    """Return, per update, the shares of pairs whose chosen answer did not fall, whose rejected one did not
    rise, and in which both hold.

    Args:
        table: of ``one_step_each``, with further columns allowed.
        tolerance: what a tie may deviate by, in nats: the band's ends keep one answer where it is, to first
            order.
    """
    kept, down = table["chosen"] >= -tolerance, table["rejected"] <= tolerance
    shares = table.assign(chosen_kept=kept, rejected_down=down, both=kept & down)
    return shares.groupby("update", sort=False)[["chosen_kept", "rejected_down", "both"]].mean()


def exact_steps(pairs: LogLinear, rules: Sequence[str], nats: Sequence[float]) -> pd.DataFrame:
    """Take single exact steps of many sizes on log-linear pairs, with d_w = d_l = 1.

    Args:
        pairs: B pairs, each with a matrix of its own.
        rules: updates that are rules (``updates.list_rules``).
        nats: sizes of the step, as the first-order change of the margin, in nats.

    Returns:
        One row a rule, size and pair: update, nats, pair, chosen, rejected (true changes, nats).
    """
    geometry = pairs.geometry()
    one = torch.ones(len(geometry), dtype=torch.float64)
    frames = []
    for name in rules:
        u_w, u_l = get_rule(name).weights(geometry, one, one)
        speed = geometry.margin_change(1.0, u_w, u_l)
        for size in nats:
            eta = size / speed
            chosen, rejected = pairs.change(1.0, eta * u_w, eta * u_l)
            frame = pd.DataFrame({"chosen": chosen.numpy(), "rejected": rejected.numpy()})
            frames.append(frame.assign(update=name, nats=size, pair=np.arange(len(frame))))
    return pd.concat(frames, ignore_index=True)


def exact_runs(
    pairs: LogLinear, updates: Mapping[str, tuple[str, str]], etas: Sequence[float], total: float
) -> pd.DataFrame:
    """Follow log-linear pairs for the same time by small steps and by large ones, each pair by itself.

    Args:
        pairs: B pairs; the start is the reference.
        updates: label → (loss, rule).
        etas: step sizes η.
        total: time, η times the number of steps.

    Returns:
        One row a label, step size and pair: update, eta, steps, pair, chosen, rejected (changes, nats).
    """
    frames = []
    reference = pairs.logps()
    for label, (name, rule) in updates.items():
        loss = get_loss(name)
        for eta in etas:
            steps, now = max(1, round(total / eta)), pairs
            for _ in range(steps):
                d_w, d_l = loss.weights(exact_logps(now, reference))
                u_w, u_l = get_rule(rule).weights(now.geometry(), d_w, d_l)
                now = now.step(eta, u_w, u_l)
            moved = [new - old for new, old in zip(now.logps(), reference, strict=True)]
            frame = pd.DataFrame({"chosen": moved[0].numpy(), "rejected": moved[1].numpy()})
            frames.append(frame.assign(update=label, eta=eta, steps=steps, pair=np.arange(len(frame))))
    return pd.concat(frames, ignore_index=True)
