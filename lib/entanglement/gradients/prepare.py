"""What comes before a backward pass over a batch of pairs that is to be read: layout, forward pass, plan."""

from __future__ import annotations

import torch
from torch import nn

from entanglement.gradients.select import touched_parameters
from entanglement.gradients.tape import Plan, Tape
from entanglement.gradients.uncovered import announce
from entanglement.logps import ResponseLogits, response_logits
from entanglement.pairs import PairBatch

__all__ = ["batch_logits", "plan_backward", "refuse_infinite", "set_apart"]


def set_apart(batch: PairBatch) -> PairBatch:
    """Add a padded column if there are as many columns as rows, so that no layout can be mistaken."""
    rows, columns = batch.input_ids.shape
    if rows != columns:
        return batch
    wider = {
        name: torch.cat([getattr(batch, name), torch.zeros_like(getattr(batch, name)[:, :1])], dim=1)
        for name in ("input_ids", "attention_mask", "response_mask")
    }
    return PairBatch(**wider, append_eos=batch.append_eos, ids=batch.ids)


def batch_logits(model: nn.Module, batch: PairBatch) -> ResponseLogits:
    """Return the logits of the response tokens of all 2B rows, from one forward pass."""
    return response_logits(
        model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
    )


def _row_name(batch: PairBatch, row: int) -> str:
    return f"the {'chosen' if row < len(batch) else 'rejected'} response of {batch.ids[row % len(batch)]}"


def refuse_infinite(
    values: torch.Tensor, batch: PairBatch, rows: torch.Tensor, what: str, where: str
) -> None:
    """Refuse a value that is not finite; ``rows`` says which sequence each value belongs to."""
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(rows[int(bad.nonzero()[0, 0])])
        raise ValueError(f"{where}: the {what} of {_row_name(batch, row)} is not finite.")


def plan_backward(
    model: nn.Module, batch: PairBatch, tape: Tape, values: torch.Tensor, strict: bool, where: str
) -> Plan:
    """Plan the backward pass; refuse or report what no rule covers.

    Raises:
        ValueError: a parameter that is used but gets no gradient; with ``strict``, one without a rule.
    """
    plan = tape.plan(values)
    if plan.missing:
        selected = {name: tape.selected[name] for name in plan.missing}
        used = touched_parameters(lambda: batch_logits(model, batch), selected)
        if used:
            raise ValueError(
                f"{where}: parameter {min(used)} is used in the forward pass but gets no gradient "
                "(detached, or under no_grad); leave it out by a predicate, or it would be counted as zero."
            )
    announce(plan.uncovered, where, "a response or token", strict=strict)
    return plan
