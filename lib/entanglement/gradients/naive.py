"""The readable reference: one forward and one backward per response, or one backward per token.

Each sequence is run alone and without padding, its gradient is formed as a whole, and the inner products are
summed in float64. Slow and hungry for memory, and plainly right: the fast ways are tested against this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from entanglement.checks import whole
from entanglement.geometry import PairGeometry
from entanglement.gradients.select import (
    Parameters,
    check_deterministic,
    measuring,
    select_parameters,
    touched_parameters,
)
from entanglement.gradients.tokens import TokenGeometry
from entanglement.logps import check_batch, model_device, row_logps
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["ResponseGradient", "pair_geometry", "response_gradients", "token_geometry"]

_CHUNK = 1 << 20  # elements turned to float64 at a time


@checked()
@dataclass(frozen=True)
class ResponseGradient:
    """∇ log π(y|x) of one response.

    Attributes:
        logp: log π(y|x), nats.
        grads: parameter name → gradient, of the parameter's shape and dtype; None where the parameter is
            unused.
    """

    logp: float
    grads: dict[str, torch.Tensor | None]

    def dot(self, other: ResponseGradient | Mapping[str, torch.Tensor]) -> float:
        """Return the inner product with another gradient, or with a direction by name, summed in float64."""
        theirs = other.grads if isinstance(other, ResponseGradient) else other
        total = 0.0
        for name, mine in self.grads.items():
            yours = theirs.get(name)
            if mine is not None and yours is not None:
                total += _dot64(mine, yours)
        return total


def _dot64(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return ⟨x, y⟩ summed in float64, without a float64 copy of the whole of either."""
    x, y = x.reshape(-1), y.reshape(-1)
    total = 0.0
    for start in range(0, x.numel(), _CHUNK):
        piece = slice(start, start + _CHUNK)
        total += float(torch.dot(x[piece].double(), y[piece].double()))
    return total


@dataclass(frozen=True)
class _Sequence:
    """One response of a batch, alone and without padding; tensors are (1, n)."""

    name: str  # for messages: "the chosen response of pair 3"
    input_ids: torch.Tensor
    response_mask: torch.Tensor

    def logps(self, model: nn.Module) -> torch.Tensor:
        """Return (1, n) per-token log-probabilities, 0 outside the response."""
        ones = torch.ones_like(self.input_ids)
        positions = torch.arange(self.input_ids.shape[1], device=self.input_ids.device).unsqueeze(0)
        return row_logps(model, self.input_ids, ones, positions, self.response_mask)


def _sequence(batch: PairBatch, row: int) -> _Sequence:
    real = batch.attention_mask[row].bool()
    side = "chosen" if row < len(batch) else "rejected"
    return _Sequence(
        name=f"the {side} response of {batch.ids[row % len(batch)]}",
        input_ids=batch.input_ids[row][real].unsqueeze(0),
        response_mask=batch.response_mask[row][real].unsqueeze(0),
    )


def _refuse_unmeasured(
    model: nn.Module, sequence: _Sequence, selected: dict[str, nn.Parameter], missing: set[str], where: str
) -> None:
    """Refuse a parameter without gradient that the forward uses: only a truly unused one is zero."""
    if not missing:
        return
    used = missing & touched_parameters(lambda: sequence.logps(model), selected)
    if used:
        raise ValueError(
            f"{where}: parameter {min(used)} is used in the forward pass but gets no gradient "
            "(detached, or under no_grad); leave it out by a predicate, or it would be counted as zero."
        )


def _finite(value: torch.Tensor | float, what: str, sequence: _Sequence, where: str) -> None:
    if not bool(torch.isfinite(torch.as_tensor(value)).all()):
        raise ValueError(f"{where}: the {what} of {sequence.name} is not finite.")


def _prepare(
    model: nn.Module, batch: PairBatch, parameters: Parameters, where: str
) -> tuple[PairBatch, dict[str, nn.Parameter]]:
    check_batch(batch, where)
    check_deterministic(model, where)
    return batch.to(model_device(model)), select_parameters(model, parameters)


def _response_gradient(
    model: nn.Module,
    sequence: _Sequence,
    selected: dict[str, nn.Parameter],
    where: str,
) -> ResponseGradient:
    """Return one response's gradient."""
    logp = sequence.logps(model).sum()
    _finite(logp.detach(), "log-probability", sequence, where)
    found: tuple[torch.Tensor | None, ...] = (None,) * len(selected)
    if logp.requires_grad:
        found = torch.autograd.grad(logp, tuple(selected.values()), allow_unused=True)
    grads = dict(zip(selected, found, strict=True))
    missing = {name for name, g in grads.items() if g is None}
    _refuse_unmeasured(model, sequence, selected, missing, where)
    return ResponseGradient(float(logp.detach()), grads)


@checked()
def response_gradients(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all"
) -> Iterator[tuple[ResponseGradient, ResponseGradient]]:
    """Yield (chosen, rejected) gradients, pair after pair; two are alive at a time.

    The model's ``.grad`` fields, ``requires_grad`` flags and mode are left as they were.

    Raises:
        ValueError: active dropout (naming the module), an empty response or a non-finite value (naming the
            pair), or a parameter that is used but gets no gradient.
    """
    where = "response_gradients"
    batch, selected = _prepare(model, batch, parameters, where)
    for i in range(len(batch)):
        # The flags are changed only while a gradient is computed: the caller's code runs between two pairs.
        with measuring(model, selected):
            both = [
                _response_gradient(model, _sequence(batch, row), selected, where)
                for row in (i, i + len(batch))
            ]
        yield both[0], both[1]


@checked()
def pair_geometry(model: nn.Module, batch: PairBatch, parameters: Parameters = "all") -> PairGeometry:
    """Return a², b², c of every pair. See ``entanglement.gradients.pair_geometry``."""
    numbers: list[tuple[float, float, float]] = []
    for i, (w, l) in enumerate(response_gradients(model, batch, parameters)):  # noqa: E741
        triple = (w.dot(w), l.dot(l), w.dot(l))
        for row, value in ((i, triple[0]), (i + len(batch), triple[1])):
            _finite(value, "gradient", _sequence(batch, row), "pair_geometry")
        numbers.append(triple)
    a2, b2, c = torch.tensor(numbers, dtype=torch.float64).T
    return PairGeometry(a2, b2, c, batch.ids)


def _groups(selected: dict[str, nn.Parameter], n_tokens: int, budget: int) -> list[dict[str, nn.Parameter]]:
    """Split the parameters so that the token gradients of one group fit in ``budget`` bytes."""
    groups: list[dict[str, nn.Parameter]] = [{}]
    held = 0
    for name, parameter in selected.items():
        size = n_tokens * parameter.numel() * parameter.element_size()
        if groups[-1] and held + size > budget:
            groups.append({})
            held = 0
        groups[-1][name] = parameter
        held += size
    return groups


def _gram64(rows: list[torch.Tensor]) -> torch.Tensor:
    """Return the (N, N) float64 Gram matrix of N equally shaped tensors, a slice of columns at a time."""
    flat = [row.reshape(-1) for row in rows]
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    width = max(1024, _CHUNK // 4 // len(rows))  # small blocks stay in the cache
    for start in range(0, flat[0].numel(), width):
        block = torch.stack([row[start : start + width] for row in flat]).double()  # (N, ≤ width)
        total += (block @ block.T).cpu()
    return total


@checked(budget=whole(1))
def token_geometry(
    model: nn.Module, batch: PairBatch, parameters: Parameters = "all", *, budget: int = 1 << 28
) -> TokenGeometry:
    """Return the Gram matrix of the token gradients of one pair, as ``gradients.token_geometry`` says.

    ``budget`` is the number of bytes of token gradients held at a time; parameters are taken in groups, and
    each group costs one backward pass per token.
    """
    where = "token_geometry"
    if len(batch) != 1:
        raise ValueError(f"{where}: got a batch of {len(batch)} pairs; expected one (use batch.select(i)).")
    batch, selected = _prepare(model, batch, parameters, where)
    sequences = [_sequence(batch, row) for row in (0, 1)]
    columns = [s.response_mask[0].nonzero().squeeze(1) for s in sequences]
    n_tokens = sum(len(c) for c in columns)
    gram = torch.zeros(n_tokens, n_tokens, dtype=torch.float64)
    with measuring(model, selected):
        values: list[tuple[_Sequence, torch.Tensor]] = []
        for sequence, where_ in zip(sequences, columns, strict=True):
            tokens = sequence.logps(model)[0, where_]
            _finite(tokens.detach(), "log-probability", sequence, where)
            values += [(sequence, token) for token in tokens]
        logps = torch.stack([value.detach() for _, value in values]).double().cpu()
        missing = set(selected)
        for group in _groups(selected, n_tokens, budget):
            stacks: dict[str, list[torch.Tensor | None]] = {name: [] for name in group}
            for _, value in values:
                found: tuple[torch.Tensor | None, ...] = (None,) * len(group)
                if value.requires_grad:
                    found = torch.autograd.grad(
                        value, tuple(group.values()), retain_graph=True, allow_unused=True
                    )
                for name, grad in zip(group, found, strict=True):
                    stacks[name].append(grad)
            for name, rows in stacks.items():
                if any(grad is not None for grad in rows):
                    missing.discard(name)
                    zero = torch.zeros_like(group[name])
                    gram += _gram64([zero if grad is None else grad for grad in rows])
                rows.clear()
        for sequence in sequences:
            _refuse_unmeasured(model, sequence, selected, missing, where)
    for i, (sequence, _) in enumerate(values):
        _finite(gram[i, i], "gradient of a token", sequence, where)
    return TokenGeometry(
        gram=(gram + gram.T) / 2,  # the products of blocks are symmetric only up to rounding
        logps=logps,
        token_ids=torch.cat([s.input_ids[0, c] for s, c in zip(sequences, columns, strict=True)]).cpu(),
        positions=torch.cat(columns).cpu(),
        n_chosen=len(columns[0]),
        id=batch.ids[0],
    )
