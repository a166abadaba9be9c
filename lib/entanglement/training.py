"""Supervised fine-tuning and preference optimization, measured as they go.

Both train in place, in evaluation mode (no dropout): what is measured is then what is trained, and a run is a
function of its seed. Both return a :class:`Trajectory`. Responses are tokenised by the same ``collate`` in
training and in measurement, with the same ``append_eos``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.account import StepAccount
from entanglement.geometry import CASES, PairGeometry
from entanglement.gradients import GeometryMonitor, Reading, pair_geometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, model_device, response_logps, row_logps
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.shared_prompt import quick_logps

__all__ = ["OPTIMIZERS", "Trajectory", "align", "measure", "sft"]

PairSets = Mapping[str, Sequence[PreferencePair]]
OptimizerFactory = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]

OPTIMIZERS: dict[str, OptimizerFactory] = {
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),  # the plain step of the theory
}


@dataclass
class Trajectory:
    """What was seen along a training run.

    Attributes:
        table: one row a step, pair set and pair: columns step, set, pair, chosen_logp, rejected_logp (nats,
            summed over the response), chosen_len, rejected_len (tokens), chosen_norm, rejected_norm, cosine,
            case (for d_w = d_l, as at the reference). The last four are missing where no gradient was taken.
        losses: one row a training step: step, loss (nats, mean over the batch before the step), lr,
            grad_norm.
        account: one row a step, set, pair and response, from ``entanglement.account``; empty if not asked
            for.
        monitor: one row a training step, read out of its own backward pass before the step: pairs, measured
            (how many of them sent a gradient back on both sides); over the measured pairs the means of
            cosine, chosen_norm and rejected_norm, the shares of the cases under the loss's own weights, and
            the mean plain_chosen, plain_rejected: the first-order change (nats) that a pair's own share of a
            *plain* gradient step at this rate would bring to itself, whatever the optimizer is. Empty if not
            asked for.
    """

    table: pd.DataFrame
    losses: pd.DataFrame
    account: pd.DataFrame = field(default_factory=pd.DataFrame)
    monitor: pd.DataFrame = field(default_factory=pd.DataFrame)

    def means(self) -> pd.DataFrame:
        """Return one row a step and set: means over pairs, the shares of the cases, and accuracy.

        Accuracy is the share of pairs whose chosen response is the more probable one.
        """
        rows = []
        for (step, name), group in self.table.groupby(["step", "set"], sort=True):
            measured = group.dropna(subset=["cosine"])
            row: dict[str, object] = {"step": step, "set": name, "pairs": len(group)}
            row |= {
                c: group[c].mean()
                for c in ("chosen_logp", "rejected_logp", "chosen_norm", "rejected_norm", "cosine")
            }
            row["accuracy"] = float((group["chosen_logp"] > group["rejected_logp"]).mean())
            row["measured_pairs"] = len(measured)
            row |= {
                case: float((measured["case"] == case).mean()) if len(measured) else np.nan for case in CASES
            }
            rows.append(row)
        return pd.DataFrame(rows)


def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sets: PairSets,
    *,
    step: int = 0,
    append_eos: bool = False,
    geometry_pairs: int = 0,
) -> pd.DataFrame:
    """Return the ``Trajectory.table`` rows of one moment.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        sets: named lists of pairs.
        step: written into the rows.
        append_eos: as in ``collate``.
        geometry_pairs: how many pairs of each set, from its beginning, get their gradients measured.
    """
    frames = []
    for name, pairs in sets.items():
        with torch.no_grad():
            logps = _pair_logps(model, tokenizer, pairs, append_eos)
        frame = pd.DataFrame(
            {
                "step": step,
                "set": name,
                "pair": [pair.id for pair in pairs],
                "chosen_logp": logps.chosen.double().cpu().numpy(),
                "rejected_logp": logps.rejected.double().cpu().numpy(),
                "chosen_len": _numpy(logps.chosen_len),
                "rejected_len": _numpy(logps.rejected_len),
                "chosen_norm": np.nan,
                "rejected_norm": np.nan,
                "cosine": np.nan,
                "case": None,
            }
        ).astype({"case": "object"})
        if geometry_pairs:
            _add_geometry(
                frame, pair_geometry(model, _collate(pairs[:geometry_pairs], tokenizer, append_eos))
            )
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _add_geometry(frame: pd.DataFrame, geometry: PairGeometry) -> None:
    rows = frame.index[: len(geometry)]
    frame.loc[rows, "chosen_norm"] = geometry.chosen_sq.sqrt().numpy()
    frame.loc[rows, "rejected_norm"] = geometry.rejected_sq.sqrt().numpy()
    frame.loc[rows, "cosine"] = geometry.cosine.numpy()
    frame.loc[rows, "case"] = geometry.case()


def _collate(
    pairs: Sequence[PreferencePair], tokenizer: PreTrainedTokenizerBase, append_eos: bool
) -> PairBatch:
    # Padding on the left puts all responses into the same last columns, and only those need logits.
    return collate(
        pairs, tokenizer, append_eos=append_eos, max_length=_context(tokenizer), padding_side="left"
    )


def _numpy(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None
    return values.cpu().numpy()


def _by_length(pairs: Sequence[PreferencePair], size: int) -> list[list[int]]:
    """Split positions into groups of pairs of similar length: most padding is saved."""
    order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i].prompt), i))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _pair_logps(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    append_eos: bool,
    reference: Mapping[int, tuple[float, float]] | None = None,
    keys: Sequence[int] = (),
    size: int = 8,
    monitor: GeometryMonitor | None = None,
) -> PairLogps:
    """Return the log-probabilities of pairs in their order, computed in groups of similar length.

    Args:
        reference: the frozen model's log-probabilities by key; ``keys`` are those of the pairs.
        size: pairs a group.
        monitor: reads each group's backward pass, for which the two prompts of a pair must stay apart.
    """
    groups = _by_length(pairs, size)
    batches = [_collate([pairs[i] for i in group], tokenizer, append_eos) for group in groups]
    parts = []
    for batch in batches:
        parts.append(quick_logps(model, batch) if monitor is None else response_logps(model, batch))
        if monitor is not None:
            monitor.attach(*parts[-1], batch.ids)
    order = torch.tensor([i for group in groups for i in group])
    back = torch.argsort(order)
    chosen, rejected = (torch.cat([part[side] for part in parts])[back] for side in (0, 1))
    frozen = None
    if reference is not None:
        frozen = torch.tensor([reference[key] for key in keys], dtype=torch.float64).to(chosen)
    return PairLogps(
        chosen,
        rejected,
        None if frozen is None else frozen[:, 0],
        None if frozen is None else frozen[:, 1],
        torch.cat([batch.chosen_len for batch in batches])[back].to(chosen.device),
        torch.cat([batch.rejected_len for batch in batches])[back].to(chosen.device),
    )


def _context(tokenizer: PreTrainedTokenizerBase) -> int | None:
    longest = tokenizer.model_max_length
    return longest if longest is not None and longest < 1_000_000 else None  # "unlimited" is a huge number


def _shuffled(n: int, steps: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yield ``steps`` batches of positions: epoch after epoch in a new order, no position twice in an
    epoch."""
    rng = random.Random(seed)
    left: list[int] = []
    for _ in range(steps):
        if len(left) < batch_size:
            left = rng.sample(range(n), n)
        yield left[:batch_size]
        left = left[batch_size:]


def _check(pairs: Sequence[PreferencePair], steps: int, batch_size: int, lr: float, where: str) -> None:
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < (0 if name == "steps" else 1):
            raise ValueError(f"{where}: {name}={value!r}; expected a positive integer.")
    if batch_size > len(pairs):
        raise ValueError(f"{where}: batch_size={batch_size} is more than the {len(pairs)} pairs.")
    if not 0 < lr < float("inf"):
        raise ValueError(f"{where}: lr={lr!r}; expected a positive number.")


def _moments(steps: int, at: Sequence[int] | None) -> set[int]:
    if at is None:
        return {round(steps * k / 8) for k in range(9)}
    if any(not 0 <= s <= steps for s in at):
        raise ValueError(f"evaluate_at={list(at)}; expected steps from 0 to {steps}.")
    return set(at)


def sft(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int = 24,
    lr: float = 1e-4,
    batch_size: int = 16,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    geometry_pairs: int = 0,
    max_grad_norm: float = 1.0,
    progress: bool = False,
) -> Trajectory:
    """Fine-tune a model in place on the chosen responses: minimize −log π(y_w|x) per response token.

    Args:
        model: trained in place with AdamW at a constant rate, all parameters that require gradients.
        tokenizer: the model's.
        pairs: the chosen responses are the targets; rejected ones are not looked at.
        steps: optimizer steps.
        lr: learning rate.
        batch_size: responses a step.
        seed: of the order of the pairs.
        append_eos: whether the end-of-sequence token is a target too.
        evaluate: named pair sets to measure along the way.
        evaluate_at: at which steps (0 is before training); None for nine moments.
        geometry_pairs: how many pairs of each set get their gradients measured.
        max_grad_norm: gradients are clipped to this norm.
        progress: show a progress bar.

    Raises:
        ValueError: an argument out of range, naming it.
    """
    _check(pairs, steps, batch_size, lr, "sft")
    moments = _moments(steps, evaluate_at)
    model.eval()
    optimizer = OPTIMIZERS["adamw"](_trainable(model), lr)
    tables, losses = [], []

    def look(step: int) -> None:
        if evaluate and step in moments:
            tables.append(
                measure(
                    model,
                    tokenizer,
                    evaluate,
                    step=step,
                    append_eos=append_eos,
                    geometry_pairs=geometry_pairs,
                )
            )

    look(0)
    batches = _shuffled(len(pairs), steps, batch_size, seed)
    with fused_activations(model):
        for step, rows in enumerate(tqdm(batches, total=steps, disable=not progress, desc="SFT"), start=1):
            loss = _sft_loss(model, tokenizer, [pairs[i] for i in rows], append_eos)
            losses.append(_train_step(model, optimizer, loss, step, lr, max_grad_norm))
            look(step)
    return Trajectory(_join(tables), pd.DataFrame(losses))


def _sft_loss(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair], append_eos: bool
) -> torch.Tensor:
    """Return −log π_w in nats per response token, over all chosen responses of a batch."""
    total, tokens = torch.zeros((), device=model_device(model)), 0
    for group in _by_length(pairs, 8):
        batch = _collate([pairs[i] for i in group], tokenizer, append_eos).to(model_device(model))
        n = len(batch)  # the first n rows are the chosen responses
        logps = row_logps(
            model,
            batch.input_ids[:n],
            batch.attention_mask[:n],
            batch.position_ids[:n],
            batch.response_mask[:n],
        )
        total = total - logps.sum()
        tokens += int(batch.response_mask[:n].sum())
    return total / tokens


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    found = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError("the model has no parameter that requires gradients; nothing can be trained.")
    return found


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    step: int,
    lr: float,
    max_grad_norm: float | None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss is {float(loss)} at step {step}; lower the learning rate.")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    between()
    limit = float("inf") if max_grad_norm is None else max_grad_norm
    norm = torch.nn.utils.clip_grad_norm_(_trainable(model), limit)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return {"step": step, "loss": float(loss.detach()), "lr": lr, "grad_norm": float(norm)}


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def align(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    loss: str | Loss = "dpo",
    steps: int | None = None,
    lr: float = 1e-5,
    batch_size: int = 32,
    optimizer: str | OptimizerFactory = "adamw",
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    geometry_pairs: int = 0,
    account_pairs: int = 0,
    monitor: bool = False,
    progress: bool = False,
) -> Trajectory:
    """Optimize preferences in place with a margin loss; the reference is the model as it comes in.

    The reference's log-probabilities are computed once, and so is each prompt within a step, unless the
    monitor is on (see ``shared_prompt``). The rate warms up linearly and decays linearly to 0,
    as in the paper's recipe.

    Args:
        model: trained in place, all parameters that require gradients.
        tokenizer: the model's.
        pairs: the training pairs.
        loss: a name of the registry, or ``get_loss(...)`` with hyper-parameters.
        steps: optimizer steps; None for one epoch.
        lr: peak learning rate.
        batch_size: pairs a step.
        optimizer: "adamw", "sgd" (the theory's plain step), or a function of (parameters, lr).
        warmup: share of the steps over which the rate rises.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        seed: of the order of the pairs.
        append_eos: whether the end-of-sequence token belongs to the responses.
        evaluate: named pair sets to measure along the way.
        evaluate_at: at which steps (0 is before training); None for nine moments.
        geometry_pairs: how many pairs of each set get their gradients measured.
        account_pairs: at each step, keep the account (``entanglement.account``) of this many pairs of the
            batch, and of as many pairs of each set of ``evaluate``; 0 for none.
        monitor: read the geometry of all training pairs out of each step's own backward pass
            (``gradients.GeometryMonitor``).
        progress: show a progress bar.

    Raises:
        ValueError: an argument out of range or unknown, naming it.
    """
    loss = get_loss(loss) if isinstance(loss, str) else loss
    steps = len(pairs) // batch_size if steps is None else steps
    _check(pairs, steps, batch_size, lr, "align")
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer={optimizer!r}; expected one of {', '.join(OPTIMIZERS)}, or a function.")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup!r}; expected a share from 0 to 1.")
    moments = _moments(steps, evaluate_at)
    model.eval()
    make = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    stepper = make(_trainable(model), lr)
    batches = list(_shuffled(len(pairs), steps, batch_size, seed))
    used = sorted({i for rows in batches for i in rows})
    reference = None
    if loss.needs_reference:
        with torch.no_grad():
            frozen = _pair_logps(model, tokenizer, [pairs[i] for i in used], append_eos)
        both = zip(frozen.chosen.tolist(), frozen.rejected.tolist(), strict=True)
        reference = dict(zip(used, both, strict=True))
    tables, losses, accounts, readings = [], [], [], []

    def look(step: int) -> None:
        if evaluate and step in moments:
            tables.append(
                measure(
                    model,
                    tokenizer,
                    evaluate,
                    step=step,
                    append_eos=append_eos,
                    geometry_pairs=geometry_pairs,
                )
            )

    look(0)
    with ExitStack() as stack:
        stack.enter_context(fused_activations(model))
        watch = stack.enter_context(GeometryMonitor(model)) if monitor else None
        for step, rows in enumerate(tqdm(batches, disable=not progress, desc=loss.name), start=1):
            batch = [pairs[i] for i in rows]
            logps = _pair_logps(model, tokenizer, batch, append_eos, reference, rows, monitor=watch)
            began: list[StepAccount] = []

            def begin(began: list[StepAccount] = began) -> None:
                if account_pairs:
                    began.append(StepAccount.begin(model))

            rate = lr * _schedule(step, steps, warmup)
            losses.append(_train_step(model, stepper, loss(logps).mean(), step, rate, max_grad_norm, begin))
            if watch is not None:
                readings.append({"step": step, **_summary(watch.read(), rate)})
            if began:
                d_w, d_l = (d[:account_pairs].tolist() for d in loss.weights(logps.detach()))
                watched = {"batch": batch[:account_pairs]}
                watched |= {name: list(some[:account_pairs]) for name, some in (evaluate or {}).items()}
                accounts.append(
                    _account(began[0], tokenizer, watched, d_w, d_l, batch_size, step, append_eos)
                )
            look(step)
    return Trajectory(_join(tables), pd.DataFrame(losses), _join(accounts), pd.DataFrame(readings))


def _summary(reading: Reading, lr: float) -> dict[str, float]:
    """Return the columns of ``Trajectory.monitor`` for one step."""
    row: dict[str, float] = {"pairs": len(reading.measured), "measured": int(reading.measured.sum())}
    g = reading.geometry
    if g is None:
        empty = ("cosine", "chosen_norm", "rejected_norm", *CASES, "plain_chosen", "plain_rejected")
        return row | dict.fromkeys(empty, np.nan)
    row["cosine"] = float(g.cosine.nanmean())
    row["chosen_norm"] = float(g.chosen_sq.sqrt().mean())
    row["rejected_norm"] = float(g.rejected_sq.sqrt().mean())
    shares = g.case_shares(reading.d_w[reading.measured], reading.d_l[reading.measured])
    row |= {str(case): share for case, share in shares.items()}
    chosen, rejected = reading.plain_change(lr)
    return row | {"plain_chosen": float(chosen.mean()), "plain_rejected": float(rejected.mean())}


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Return the rate of step 1, 2, …, ``steps`` as a share of the peak; never 0."""
    rising = max(1, round(warmup * steps))
    if step <= rising:
        return step / rising
    return (steps - step + 1) / (steps - rising + 1)


def _account(
    account: StepAccount,
    tokenizer: PreTrainedTokenizerBase,
    watched: Mapping[str, Sequence[PreferencePair]],
    d_w: list[float],
    d_l: list[float],
    batch_size: int,
    step: int,
    append_eos: bool,
) -> pd.DataFrame:
    everyone = [(name, pair) for name, pairs in watched.items() for pair in pairs]
    # A held-out pair has no share of its own in the step.
    held_out = [0.0] * (len(everyone) - len(d_w))
    batch = _collate([pair for _, pair in everyone], tokenizer, append_eos)
    frame = account.finish(batch, d_w + held_out, d_l + held_out, batch_size)
    frame.insert(0, "set", [name for name, _ in everyone] * 2)
    frame.insert(0, "step", step)
    return frame
