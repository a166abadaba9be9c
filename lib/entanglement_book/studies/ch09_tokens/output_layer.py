"""The token geometry of the output layer alone, whose gradients have a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from entanglement.gradients import TokenGeometry
from entanglement.gradients.select import check_deterministic
from entanglement.logps import check_batch, model_device
from entanglement.pairs import PairBatch

__all__ = ["OutputLayer", "output_layer_geometry"]


@dataclass(frozen=True)
class OutputLayer:
    """The token gradients with respect to the output matrix W alone, one pair, N = n_w + n_l tokens.

    Attributes:
        geometry: their inner products, ⟨h_s, h_t⟩⟨e_{y_s} − p_s, e_{y_t} − p_t⟩.
        hidden: (N, N) cos(h_s, h_t), the states that predict the tokens.
        residual: (N, N) cos(e_{y_s} − p_s, e_{y_t} − p_t). The cosine of the geometry is the product of the
            two.
    """

    geometry: TokenGeometry
    hidden: torch.Tensor
    residual: torch.Tensor


def output_layer_geometry(model: nn.Module, batch: PairBatch) -> OutputLayer:
    """Return the output layer's part of the token geometry, in closed form from one forward per response.

    The gradient of log softmax(W h)[y] with respect to W is (e_y − p) hᵀ, so no backward pass is needed. A
    tied embedding counts here only as output matrix.

    Args:
        model: a Hugging Face causal language model in evaluation mode.
        batch: one pair.

    Raises:
        ValueError: more than one pair, active dropout, or a model whose logits are not W h (+ bias) of its
            last hidden state.
    """
    where = "output_layer_geometry"
    if len(batch) != 1:
        raise ValueError(f"{where}: got {len(batch)} pairs; expected one (use batch.select(i)).")
    check_batch(batch, where)
    check_deterministic(model, where)
    batch = batch.to(model_device(model))
    parts: list[tuple[torch.Tensor, ...]] = []
    for row in (0, 1):
        real = batch.attention_mask[row].bool()
        ids, mask = batch.input_ids[row][real], batch.response_mask[row][real]
        columns = mask.nonzero().squeeze(1)
        with torch.no_grad():
            output: Any = model(input_ids=ids.unsqueeze(0), output_hidden_states=True, use_cache=False)
        h, z = output.hidden_states[-1][0, columns - 1], output.logits[0, columns - 1]  # (n, d), (n, V)
        _check_linear(model, h, z, where)
        probabilities = z.double().softmax(-1)
        score = nn.functional.one_hot(ids[columns], z.shape[-1]) - probabilities
        logps = probabilities.gather(1, ids[columns].unsqueeze(1)).squeeze(1).log()
        parts.append((h.double(), score, logps, ids[columns], columns))
    hidden, score, logps, ids, columns = (torch.cat(both).cpu() for both in zip(*parts, strict=True))
    products, overlaps = hidden @ hidden.T, score @ score.T
    geometry = TokenGeometry(products * overlaps, logps, ids, columns, len(parts[0][0]), batch.ids[0])
    return OutputLayer(geometry, _cosines(products), _cosines(overlaps))


def _check_linear(model: nn.Module, h: torch.Tensor, z: torch.Tensor, where: str) -> None:
    get: Any = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if not isinstance(head, nn.Module):
        raise ValueError(f"{where}: {type(model).__name__} has no output embeddings.")
    with torch.no_grad():
        if not torch.allclose(head(h), z, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{where}: the logits of {type(model).__name__} are not its output matrix times its last "
                "hidden state."
            )


def _cosines(gram: torch.Tensor) -> torch.Tensor:
    size = gram.diagonal().clamp(min=0).sqrt()
    return (gram / size[:, None] / size[None, :]).clamp(-1.0, 1.0)
