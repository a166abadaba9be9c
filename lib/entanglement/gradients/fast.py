"""The geometry of pairs from one forward and one backward pass over the batch.

``pair_geometry`` runs the 2B sequences together; ``token_geometry`` runs the two sequences of one pair and
sends one gradient a token backward, all at once. Neither forms a gradient of the size of a weight matrix: see
``tape`` for how the inner products are read, and ``inner`` for the arithmetic.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from entanglement.geometry import PairGeometry
from entanglement.gradients import inner
from entanglement.gradients.select import (
    Parameters,
    check_deterministic,
    fused_activations,
    measuring,
    select_parameters,
    touched_parameters,
)
from entanglement.gradients.tape import Call, Plan, Tape
from entanglement.gradients.tokens import TokenGeometry
from entanglement.logps import ResponseLogits, check_batch, model_device, response_logits
from entanglement.pairs import PairBatch

__all__ = ["UncoveredParameterWarning", "pair_geometry", "slow_pairs", "token_geometry"]


class UncoveredParameterWarning(UserWarning):
    """A parameter is measured by forming its gradient, response by response: exact, and slow."""


def _apart(batch: PairBatch) -> PairBatch:
    """Add a padded column if there are as many columns as rows, so that no layout can be mistaken."""
    rows, columns = batch.input_ids.shape
    if rows != columns:
        return batch
    wider = {
        name: torch.cat([getattr(batch, name), torch.zeros_like(getattr(batch, name)[:, :1])], dim=1)
        for name in ("input_ids", "attention_mask", "response_mask")
    }
    return PairBatch(**wider, append_eos=batch.append_eos, ids=batch.ids)


def _logits(model: nn.Module, batch: PairBatch) -> ResponseLogits:
    return response_logits(
        model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
    )


def _row_name(batch: PairBatch, row: int) -> str:
    return f"the {'chosen' if row < len(batch) else 'rejected'} response of {batch.ids[row % len(batch)]}"


def _refuse_infinite(
    values: torch.Tensor, batch: PairBatch, rows: torch.Tensor, what: str, where: str
) -> None:
    """Refuse a value that is not finite; ``rows`` says which sequence each value belongs to."""
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(rows[int(bad.nonzero()[0, 0])])
        raise ValueError(f"{where}: the {what} of {_row_name(batch, row)} is not finite.")


def _plan(
    model: nn.Module, batch: PairBatch, tape: Tape, values: torch.Tensor, strict: bool, where: str
) -> Plan:
    """Plan the backward pass; refuse or report what no rule covers."""
    plan = tape.plan(values)
    if plan.missing:
        selected = {name: tape.selected[name] for name in plan.missing}
        used = touched_parameters(lambda: _logits(model, batch), selected)
        if used:
            raise ValueError(
                f"{where}: parameter {min(used)} is used in the forward pass but gets no gradient "
                "(detached, or under no_grad); leave it out by a predicate, or it would be counted as zero."
            )
    if plan.uncovered:
        names = ", ".join(plan.uncovered[:5]) + (", …" if len(plan.uncovered) > 5 else "")
        if strict:
            raise ValueError(
                f"{where}: no rule covers the use of {names}; leave strict=False to measure it slowly."
            )
        warnings.warn(
            f"{where}: no rule covers the use of {names}; measured by one backward pass a response or token.",
            UncoveredParameterWarning,
            stacklevel=4,
        )
    return plan


def _slow_gradients(values: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the gradients of each value with respect to some parameters, (N, p), by a pass each."""
    rows = []
    for value in values:
        found = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


def slow_pairs(values: torch.Tensor, parameters: Sequence[nn.Parameter]) -> torch.Tensor:
    """Return the inner products of whole responses' gradients, (B, 2, 2), pair by pair; values (2B,)."""
    n_pairs = len(values) // 2
    both = [values[[i, i + n_pairs]] for i in range(n_pairs)]
    return torch.cat([inner.by_vectors(_slow_gradients(two, parameters)[None]) for two in both])


def pair_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, strict: bool = False
) -> PairGeometry:
    """Return a², b², c of every pair. See ``entanglement.gradients.pair_geometry``."""
    where = "pair_geometry"
    check_batch(batch, where)
    check_deterministic(model, where)
    selected = select_parameters(model, parameters)
    batch = _apart(batch.to(model_device(model)))
    n_pairs = len(batch)
    tape = Tape(selected, 2 * n_pairs)
    parts = []  # (B, 2, 2) each
    with measuring(model, selected), fused_activations(model):
        with tape.recording(model):
            logps = _logits(model, batch).logps().sum(dim=1)  # (2B,)
        rows = torch.arange(2 * n_pairs)
        _refuse_infinite(logps.detach(), batch, rows, "log-probability", where)
        plan = _plan(model, batch, tape, logps, strict, where)
        if plan.uncovered:
            slow = [selected[name] for name in plan.uncovered]
            with tape.paused():
                parts.append(slow_pairs(logps, slow))
        if plan.roots:
            torch.autograd.grad(logps.sum(), _outputs(plan.roots))
        if tape.gram is not None:
            parts.append(tape.gram)
    gram = sum(parts, torch.zeros(n_pairs, 2, 2, dtype=torch.float64))
    squares = torch.cat([gram[:, 0, 0], gram[:, 1, 1]])
    _refuse_infinite(squares, batch, rows, "gradient", where)
    # A sum of products that cancel may fall below zero by rounding.
    a2, b2 = squares.clamp(min=0).split(n_pairs)
    return PairGeometry(a2, b2, gram[:, 0, 1], batch.ids)


def _outputs(calls: Sequence[Call]) -> list[torch.Tensor]:
    return [call.output for call in calls if call.output is not None]


def _head(plan: Plan, logits: torch.Tensor) -> Call | None:
    """Return the call that made the logits, position by position, if it is a matrix of its own.

    Its weight may be an embedding elsewhere, and not a matrix.
    """
    matrices = {"linear", "conv1d"}
    heads = [call for call in plan.active if call.node is logits.grad_fn]
    if len(heads) != 1:
        return None
    head = heads[0]
    kinds = {use.kind for _, use in head.uses}
    reads = [name for call in plan.active for name, use in call.uses if use.kind in matrices]
    alone = all(reads.count(name) == 1 for name, use in head.uses if use.kind in matrices)
    given = head.given
    fits = given is not None and given.requires_grad and given.ndim == 3
    return head if fits and alone and kinds <= matrices | {"shift"} else None


def token_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, strict: bool = False
) -> TokenGeometry:
    """Return the Gram matrix of the token gradients of one pair. See ``gradients.token_geometry``."""
    where = "token_geometry"
    if len(batch) != 1:
        raise ValueError(f"{where}: got a batch of {len(batch)} pairs; expected one (use batch.select(i)).")
    check_batch(batch, where)
    check_deterministic(model, where)
    selected = select_parameters(model, parameters)
    batch = _apart(batch.to(model_device(model)))
    mask = batch.response_mask
    counts = mask.sum(dim=1).tolist()
    n = max(counts)
    # Token k of either row is example (k, row); the shorter response has none for its last k.
    real = torch.cat([torch.arange(counts[0]), n + torch.arange(counts[1])])
    tape = Tape(selected, rows=2)
    tape.examples = n
    gram = torch.zeros(len(real), len(real), dtype=torch.float64)
    # The fused attention kernels have no rule for many gradients at once. (The backward pass is inside, too:
    # gradient checkpointing runs attention again there.)
    with measuring(model, selected), fused_activations(model), sdpa_kernel(SDPBackend.MATH):
        with tape.recording(model):
            found = _logits(model, batch)
            tokens = found.logps()[mask]  # (N,)
        rows = torch.tensor([0] * counts[0] + [1] * counts[1])
        _refuse_infinite(tokens.detach(), batch, rows, "log-probability", where)
        plan = _plan(model, batch, tape, tokens, strict, where)
        if plan.uncovered:
            with tape.paused():
                slow = _slow_gradients(tokens, [selected[name] for name in plan.uncovered]).double().cpu()
            gram = gram + slow @ slow.T
        if plan.roots:
            _backward(tape, plan, found, tokens, real)
        if tape.gram is not None:
            gram = gram + tape.gram[0][real][:, real]
    _refuse_infinite(gram.diagonal(), batch, rows, "gradient of a token", where)
    starts = batch.attention_mask.argmax(dim=1)  # where each row's own positions begin
    columns = [mask[row].nonzero().squeeze(1) - starts[row] for row in (0, 1)]
    return TokenGeometry(
        gram=(gram + gram.T) / 2,  # the products of blocks are symmetric only up to rounding
        logps=tokens.detach().double().cpu(),
        token_ids=batch.input_ids[mask].cpu(),
        positions=torch.cat(columns).cpu(),
        n_chosen=counts[0],
        id=batch.ids[0],
    )


def _backward(
    tape: Tape, plan: Plan, found: ResponseLogits, tokens: torch.Tensor, real: torch.Tensor
) -> None:
    """Send one gradient a token through the graph, all at once."""
    n = tape.examples
    sides, places = (real // n).to(tokens.device), (real % n).to(tokens.device)  # of each token
    head = _head(plan, found.logits)
    if head is None:
        # A one for each token that is the k-th of its row.
        weights = tokens.new_zeros(n, len(tokens))
        weights[places, torch.arange(len(tokens), device=tokens.device)] = 1.0
        _all_at_once(tokens, weights, plan.roots)
        return
    # The logits at a position decide one token and nothing else, and what enters the head there decides these
    # logits: one ordinary pass gives all tokens' gradients at the head, each at its own position.
    assert head.given is not None
    h = head.given
    total = tokens.sum()
    with tape.paused():
        d_logits, d_h = torch.autograd.grad(total, [found.logits, h], retain_graph=True)
    slots = found.slots
    x_one = h.new_zeros(n, 2, h.shape[2])
    d_one = d_logits.new_zeros(n, 2, d_logits.shape[2])
    x_one[places, sides] = h.detach()[sides, slots]
    d_one[places, sides] = d_logits[sides, slots]
    start = h.new_zeros(n, *h.shape)  # (n, 2, positions, d)
    start[places, sides, slots] = d_h[sides, slots].to(h.dtype)
    tape.receive(head, d_one, single=x_one)
    roots = [call for call in plan.roots if call is not head]
    if roots:
        _all_at_once(h, start, roots)


def _all_at_once(values: torch.Tensor, weights: torch.Tensor, roots: Sequence[Call]) -> None:
    """Run n backward passes as one: of ⟨weights[k], values⟩ for each k."""
    outputs = _outputs(roots)
    torch.vmap(lambda w: torch.autograd.grad(values, outputs, w, retain_graph=True))(weights)
