"""The geometry of pairs from one forward and one backward pass over the batch.

``pair_geometry`` runs the 2B sequences together; ``token_geometry`` runs the two sequences of one pair and
sends one gradient a token backward, all at once. Neither forms a gradient of the size of a weight matrix: see
``tape`` for how the inner products are read, and ``inner`` for the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from entanglement.geometry import PairGeometry
from entanglement.gradients.prepare import batch_logits, plan_backward, refuse_infinite, set_apart
from entanglement.gradients.select import (
    Parameters,
    check_deterministic,
    fused_activations,
    measuring,
    select_parameters,
)
from entanglement.gradients.tape import Call, Plan, Tape, outputs_of
from entanglement.gradients.tokens import TokenGeometry
from entanglement.gradients.uncovered import slow_gradients, slow_pairs
from entanglement.logps import ResponseLogits, check_batch, model_device
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["pair_geometry", "token_geometry"]


@checked()
def pair_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, strict: bool = False
) -> PairGeometry:
    """Return a², b², c of every pair. See ``entanglement.gradients.pair_geometry``."""
    where = "pair_geometry"
    check_batch(batch, where)
    check_deterministic(model, where)
    selected = select_parameters(model, parameters)
    batch = set_apart(batch.to(model_device(model)))
    n_pairs = len(batch)
    tape = Tape(selected, 2 * n_pairs)
    parts = []  # (B, 2, 2) each
    with measuring(model, selected), fused_activations(model):
        with tape.recording(model):
            logps = batch_logits(model, batch).logps().sum(dim=1)  # (2B,)
        rows = torch.arange(2 * n_pairs)
        refuse_infinite(logps.detach(), batch, rows, "log-probability", where)
        plan = plan_backward(model, batch, tape, logps, strict, where)
        if plan.uncovered:
            slow = [selected[name] for name in plan.uncovered]
            with tape.paused():
                parts.append(slow_pairs(logps, slow))
        if plan.roots:
            torch.autograd.grad(logps.sum(), outputs_of(plan.roots))
        if tape.gram is not None:
            parts.append(tape.gram)
    gram = sum(parts, torch.zeros(n_pairs, 2, 2, dtype=torch.float64))
    squares = torch.cat([gram[:, 0, 0], gram[:, 1, 1]])
    refuse_infinite(squares, batch, rows, "gradient", where)
    # A sum of products that cancel may fall below zero by rounding.
    a2, b2 = squares.clamp(min=0).split(n_pairs)
    # Of two responses with the same tokens only rounding would tell the gradients apart.
    identical = batch.identical
    same = torch.tensor(identical, device=a2.device)
    c = torch.where(same, a2, gram[:, 0, 1])
    return PairGeometry(a2, torch.where(same, a2, b2), c, batch.ids, identical if any(identical) else ())


def _head(plan: Plan, logits: torch.Tensor) -> Call | None:
    """Return the call that made the logits, position by position, if what it multiplies with is read nowhere
    else in that way.

    Its weight may be an embedding elsewhere, and not a matrix.
    """
    heads = [call for call in plan.active if call.node is logits.grad_fn]
    if len(heads) != 1:
        return None
    head = heads[0]
    read = [(name, use.form) for call in plan.active for name, use in call.uses]
    alone = all(use.formed or read.count((name, use.form)) == 1 for name, use in head.uses)
    given = head.given
    fits = given is not None and given.requires_grad and given.ndim == 3
    return head if fits and alone and all(use.at_one_position for _, use in head.uses) else None


@checked()
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
    batch = set_apart(batch.to(model_device(model)))
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
            found = batch_logits(model, batch)
            tokens = found.logps()[mask]  # (N,)
        rows = torch.tensor([0] * counts[0] + [1] * counts[1])
        refuse_infinite(tokens.detach(), batch, rows, "log-probability", where)
        plan = plan_backward(model, batch, tape, tokens, strict, where)
        if plan.uncovered:
            with tape.paused():
                slow = slow_gradients(tokens, [selected[name] for name in plan.uncovered]).double().cpu()
            gram = gram + slow @ slow.T
        if plan.roots:
            _backward(tape, plan, found, tokens, real)
        if tape.gram is not None:
            gram = gram + tape.gram[0][real][:, real]
    refuse_infinite(gram.diagonal(), batch, rows, "gradient of a token", where)
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
    outputs = outputs_of(roots)
    torch.vmap(lambda w: torch.autograd.grad(values, outputs, w, retain_graph=True))(weights)
