"""What another setting would do, rehearsed: other ratios, rates, losses, and masks of the run.

Every other loss has a walk of its own, two backward passes over rows, so a part of the sample must do. Next
to each stands the run as planned, from the same rows. A loss that steps further moves everything further; so
each change is looked at twice: at the planned length, and at the length at which it gains as much margin as
planned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import torch
from scipy.optimize import root_scalar
from torch import nn

from entanglement.auditing.alikeness import alikeness
from entanglement.auditing.rehearsal import response_table
from entanglement.auditing.walk import Optimizer, Walk, plan_walk
from entanglement.checks import finite_tensor, non_empty, positive
from entanglement.logps import PairLogps
from entanglement.losses import Loss, LossSpec, get_loss, loss_spec
from entanglement.pairs import PairBatch
from entanglement.rows import EncodedPair
from entanglement.signatures import checked

__all__ = ["Change", "averaged", "changes_to_try", "narrowed", "rehearse_change"]

#: Losses that are tried beside the run's own.
OTHERS = ("dpo", "ipo", "simpo", "rpo", "cpo", "slic_hf")
#: By what β and the rate are multiplied and divided.
FACTOR = 2.0
#: How close the gained margin comes to the planned one, relative; after how many tries it is given up; and by
#: what the length is multiplied or divided at most.
_CLOSE, _TRIES, _FURTHEST = 0.02, 6, 10.0

Kind = Literal["ratio", "rate", "loss", "mask"]


@dataclass(frozen=True)
class Change:
    """One change of a planned run.

    Attributes:
        what: in words.
        kind: what is changed; "ratio" and "rate" have the walk of the run as planned.
        ratio: by which the loss's own ratio of the two weights is multiplied.
        rate: by which the rate is multiplied.
        loss: instead of the run's.
        masked: whether tokens that the two responses begin or end with alike are left out.
    """

    what: str
    kind: Kind
    ratio: float = 1.0
    rate: float = 1.0
    loss: Loss | None = None
    masked: bool = False


def _of_means(logps: PairLogps, *, inner: Callable[..., torch.Tensor], **hyper: float) -> torch.Tensor:
    reference: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    lengths = (logps.chosen_len, logps.rejected_len)
    if logps.ref_chosen is not None and logps.ref_rejected is not None:
        before = PairLogps(logps.ref_chosen, logps.ref_rejected, None, None, *lengths)
        reference = (before.chosen_mean, before.rejected_mean)
    return inner(PairLogps(logps.chosen_mean, logps.rejected_mean, *reference, *lengths), **hyper)


@checked()
def averaged(loss: Loss) -> Loss:
    """Return a loss that sees log-probabilities per token in place of their sums."""
    spec: LossSpec = replace(
        loss.spec, name=f"{loss.name}_averaged", function=partial(_of_means, inner=loss.spec.function),
        length_normalized=True, needs_lengths=True,
    )  # fmt: skip
    return Loss(spec, loss.hyper)


@checked()
def narrowed(pair: EncodedPair) -> EncodedPair:
    """Return a pair whose shared tokens are no part of its responses.

    What both begin with goes to the prompts; what both end with is left out, since no token that counts comes
    after it. Each response keeps at least one token.
    """
    alike = alikeness(pair)
    prefix, suffix = alike["prefix"], alike["suffix"]
    if min(len(pair.chosen), len(pair.rejected)) == prefix + suffix:
        prefix, suffix = (prefix, suffix - 1) if suffix else (prefix - 1, suffix)
    start, other = pair.chosen[:prefix], pair.rejected_prompt
    ends = (len(pair.chosen) - suffix, len(pair.rejected) - suffix)
    return replace(
        pair, prompt=pair.prompt + start, chosen=pair.chosen[prefix : ends[0]],
        rejected=pair.rejected[prefix : ends[1]], rejected_prompt=None if other is None else other + start,
    )  # fmt: skip


@checked()
def changes_to_try(loss: Loss, ratios: Sequence[float], *, shared: bool) -> list[Change]:
    """Return the changes of a run that are worth a look; the first is none.

    Args:
        loss: of the run.
        ratios: of the two weights, to be tried.
        shared: whether any two responses share tokens, so that a mask would change something.
    """
    found = [Change("as planned", "ratio")]
    found += [Change(f"r = {r:.4f}", "ratio", ratio=r) for r in ratios]
    found += [Change("rate × 2", "rate", rate=FACTOR), Change("rate ÷ 2", "rate", rate=1 / FACTOR)]
    if "beta" in loss.hyper:
        for sign, factor in (("×", FACTOR), ("÷", 1 / FACTOR)):
            other = get_loss(loss.name, **loss.hyper | {"beta": loss.hyper["beta"] * factor})
            found.append(Change(f"β {sign} 2, so {other.hyper['beta']:g}", "loss", loss=other))
    if not loss.length_normalized:
        found.append(Change("log-probabilities per token", "loss", loss=averaged(loss)))
    if shared:
        found.append(Change("shared tokens masked", "mask", masked=True))
    for name in OTHERS:
        if name != loss.name:
            found.append(Change(f"loss {loss_spec(name).title}", "loss", loss=get_loss(name)))
    return found


def _numbers(change: torch.Tensor) -> dict[str, float]:
    chosen, rejected = change.mean(dim=0).tolist()
    fall = float((change[:, 0] < 0).double().mean())
    return {"chosen": chosen, "rejected": rejected, "margin": chosen - rejected, "fall": fall}


def _at_margin(at: Callable[[float], dict[str, float]], margin: float) -> float | None:
    """Return by what a length is multiplied to gain a margin; None if none of a few tries does."""
    seen = {1.0: at(1.0)["margin"] / margin - 1}
    if not 1 / _FURTHEST <= 1 + seen[1.0] <= _FURTHEST:
        return None

    def missing(times: float) -> float:
        if times not in seen:
            off = at(times)["margin"] / margin - 1
            seen[times] = off if math.isfinite(off) else -1.0  # so long a step has left all sense
        return seen[times]

    if abs(seen[1.0]) > _CLOSE:
        root_scalar(missing, x0=1.0, x1=1 / (1 + seen[1.0]), rtol=_CLOSE / 4, maxiter=_TRIES)
    times = min(seen, key=lambda one: abs(seen[one]))
    return times if abs(seen[times]) <= _CLOSE and times > 0 else None


@checked(batches=non_empty, held_out=non_empty, length=positive, before=finite_tensor("B", "2"))
def rehearse_change(
    model: nn.Module,
    batches: Sequence[Sequence[PairBatch]],
    held_out: Sequence[PairBatch],
    loss: Loss,
    change: Change,
    length: float,
    *,
    optimizer: Optimizer = "adamw",
    margin: float | None = None,
    walk: Walk | None = None,
    before: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Return what one change of a run does to held-out responses.

    Args:
        model: as training will find it; left as it was. It is its own reference.
        batches: rows that give the gradient, masked where the change says so.
        held_out: pairs whose whole responses are measured.
        loss: of the run.
        change: what is done in its place.
        length: of the planned run: its steps times its mean rate.
        optimizer: "adamw" or "sgd".
        margin: which the run as planned gains, nats; None where that is not known.
        walk: of these batches and this loss, if it is there already.
        before: ``response_table`` of the held-out pairs, if it is there already.

    Returns:
        what; chosen, rejected, margin (mean changes at the planned length, nats), fall (share of chosen
        responses that fall); and times, even_chosen, even_rejected, even_fall: by what the length is
        multiplied to gain the planned margin, and what happens there; nan where no length gains it, or where
        it was not looked for (another rate is another length already).
    """
    if walk is None:
        walk = plan_walk(model, batches, change.loss or loss, optimizer=optimizer)
    step = walk.along(change.ratio)
    start = response_table(model, held_out) if before is None else before

    @cache
    def at(times: float) -> dict[str, float]:
        return _numbers(response_table(model, held_out, step, length * times) - start)

    found: dict[str, Any] = {"what": change.what, **at(change.rate)}
    times = None
    if margin is not None and margin > 0 and found["margin"] > 0 and change.kind != "rate":
        times = _at_margin(at, margin)
    even = dict.fromkeys(("chosen", "rejected", "fall"), math.nan) if times is None else at(times)
    found["times"] = math.nan if times is None else times
    return found | {f"even_{name}": even[name] for name in ("chosen", "rejected", "fall")}
