"""The ways of doing some work that are compared, each on random tokens in a GPT-2 of random weights.

Time and memory do not depend on what the weights are. The ways that are replaced: the *authors' way* forms
each gradient, flattens it into one vector and puts that into main memory, where inner products are taken;
*our reference* (``gradients.naive``) forms the same gradients and sums inner products parameter by parameter;
*torch.func* are PyTorch's own per-sample gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from entanglement.gradients import GeometryMonitor, naive, pair_geometry, token_geometry
from entanglement.gradients.select import fused_activations
from entanglement.logps import PairLogps, response_logps, token_logps
from entanglement.losses import get_loss
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps

__all__ = ["GROWTH", "SCALING", "WAYS", "Way", "gpt2_shape", "random_batch", "slow_and_fast"]


def gpt2_shape(width: int = 768, layers: int = 12, vocabulary: int = 50257, seed: int = 0) -> PreTrainedModel:
    """Return a GPT-2 of random weights in evaluation mode; the default is GPT-2-small's shape."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=max(1, width // 64)
    )
    torch.manual_seed(seed)
    return transformers.GPT2LMHeadModel(config).eval()


def random_batch(pairs: int, length: int, response: int, vocabulary: int = 50257, seed: int = 0) -> PairBatch:
    """Return pairs of random tokens: ``length`` of them a sequence, the last ``response`` the response."""
    draw = torch.Generator().manual_seed(seed)
    prompt = torch.randint(vocabulary, (pairs, length - response), generator=draw).repeat(2, 1)
    answers = torch.randint(vocabulary, (2 * pairs, response), generator=draw)
    ids = torch.cat([prompt, answers], dim=1)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, length - response :] = True
    return PairBatch(ids, torch.ones_like(ids), mask, False, tuple(f"pair {i}" for i in range(pairs)))


def _heat_map(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: token_geometry(model, batch)


def _heat_map_naive(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    # All token gradients are held at once: one backward pass a token.
    return lambda: naive.token_geometry(model, batch, budget=1 << 60)


def _flat_gradient(value: torch.Tensor, model: nn.Module) -> torch.Tensor:
    """Return one gradient of all parameters as a vector in main memory, as the authors keep it."""
    found = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    return torch.cat([gradient.reshape(-1) for gradient in found]).cpu()


def _heat_map_authors(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    def run() -> np.ndarray:
        tokens = token_logps(model, batch)
        values = [*tokens.chosen[tokens.chosen_mask], *tokens.rejected[tokens.rejected_mask]]
        gradients = np.stack([_flat_gradient(value, model).numpy() for value in values])  # (N, P)
        lengths = np.array([np.linalg.norm(gradient) for gradient in gradients])
        return gradients @ gradients.T / np.outer(lengths, lengths)

    return run


def _pairs(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: pair_geometry(model, batch)


def _pairs_naive(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    return lambda: naive.pair_geometry(model, batch)


def _pairs_authors(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    def run() -> list[tuple[float, float, float]]:
        found = []
        for i in range(len(batch)):
            w, l = (_flat_gradient(side.sum(), model) for side in response_logps(model, batch.select(i)))  # noqa: E741
            found.append((float(w.norm()), float(l.norm()), float(w @ l)))
        return found

    return run


def _func(model: nn.Module, batch: PairBatch, *, pairs: int) -> Callable[[], Any]:
    """Per-sample gradients by ``torch.func``, those of some pairs at a time."""
    from torch.func import functional_call, grad, vmap
    from torch.nn.attention import SDPBackend, sdpa_kernel

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    ids, mask = batch.input_ids, batch.response_mask
    first = int(mask[0].int().argmax())  # all responses begin in the same column

    def logp(values: Mapping[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, dict(values), (row[None],), {"use_cache": False}).logits
        logps = logits[0, first - 1 : -1].log_softmax(-1)
        return logps.gather(1, row[first:, None]).sum()

    gradients = vmap(grad(logp), in_dims=(None, 0))

    def run() -> torch.Tensor:
        grams = []
        for start in range(0, len(batch), pairs):
            chosen = torch.arange(start, start + pairs, device=ids.device)
            rows = torch.stack([chosen, chosen + len(batch)], dim=1).flatten()  # w, l, w, l, …
            # The fused kernel has no batching rule and would be run row by row.
            with sdpa_kernel(SDPBackend.MATH):
                found = gradients(parameters, ids[rows])
            gram = torch.zeros(pairs, 2, 2, device=ids.device)
            for gradient in found.values():
                both = gradient.reshape(pairs, 2, -1)
                gram += both @ both.transpose(1, 2)
            grams.append(gram)
        return torch.cat(grams)

    return run


def _dpo_loss(logps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    zero = torch.zeros_like(logps[0]).detach()
    return get_loss("dpo", beta=0.1)(PairLogps(*logps, zero, zero)).mean()


def _dpo(model: nn.Module, batch: PairBatch) -> Callable[[], Any]:
    """One forward and one backward pass of DPO, the reference's log-probabilities being known."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        _dpo_loss(response_logps(model, batch)).backward()

    return run


def _training(
    model: nn.Module, batch: PairBatch, *, step: Callable[[nn.Module, PairBatch], Any]
) -> Callable[[], Any]:
    """A training step with AdamW, around a forward and a backward pass."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

    def run() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with fused_activations(model):
            found = step(model, batch)
        optimizer.step()
        return found

    return run


def _prompts_apart(model: nn.Module, batch: PairBatch) -> None:
    _dpo_loss(response_logps(model, batch)).backward()


def _prompts_shared(model: nn.Module, batch: PairBatch) -> None:
    _dpo_loss(quick_logps(model, batch)).backward()


def _monitored(model: nn.Module, batch: PairBatch) -> Any:
    with GeometryMonitor(model) as monitor:
        logps = response_logps(model, batch)
        monitor.attach(*logps, batch.ids)
        _dpo_loss(logps).backward()
        return monitor.read()


@dataclass(frozen=True)
class Way:
    """One way of doing some work.

    Attributes:
        prepare: (model, batch, **options) → a function that does the work once.
        pairs, length, response: how many pairs, the tokens of a sequence, and those of its response.
        options: of ``prepare``.
        width, layers: of the model.
    """

    prepare: Callable[..., Callable[[], Any]]
    pairs: int
    length: int
    response: int
    options: Mapping[str, Any] = field(default_factory=dict)
    width: int = 768
    layers: int = 12

    def ready(self, model: nn.Module, device: str = "cpu") -> Callable[[], Any]:
        """Return the function that does the work once, in a model."""
        batch = random_batch(self.pairs, self.length, self.response).to(device)
        return self.prepare(model, batch, **self.options)


WAYS: dict[str, Way] = {
    "heat map": Way(_heat_map, 1, 40, 10),
    "heat map, the authors' way": Way(_heat_map_authors, 1, 40, 10),
    "heat map, our reference": Way(_heat_map_naive, 1, 40, 10),
    "pair geometry": Way(_pairs, 8, 64, 24),
    "DPO forward and backward": Way(_dpo, 8, 64, 24),
    "two gradients a pair, the authors' way": Way(_pairs_authors, 8, 64, 24),
    "two gradients a pair, our reference": Way(_pairs_naive, 8, 64, 24),
    "torch.func, four responses at a time": Way(_func, 8, 64, 24, {"pairs": 2}),
    "torch.func, two responses at a time": Way(_func, 8, 64, 24, {"pairs": 1}),
    "training": Way(_training, 8, 64, 24, {"step": _prompts_apart}),
    "training, prompts shared": Way(_training, 8, 64, 24, {"step": _prompts_shared}),
    "monitored training": Way(_training, 8, 64, 24, {"step": _monitored}),
}
#: Heat maps in sequences of 96 tokens: response tokens of each side.
GROWTH = (8, 16, 32)
WAYS |= {f"heat map of {n} + {n} tokens": Way(_heat_map, 1, 96, n) for n in GROWTH}
#: What the scaling plot draws, in models of six layers: heat maps against their tokens and the model's width.
SCALING: dict[str, tuple[int, ...]] = {"response": (2, 4, 8, 16, 32), "width": (128, 256, 512, 768)}


def slow_and_fast() -> dict[str, Callable[..., Callable[[], Any]]]:
    """Return the two ways that the scaling plot compares, by the name it gives them."""
    return {"fast": _heat_map, "one backward a token": _heat_map_naive}


for _way, _prepare in slow_and_fast().items():
    for _n in SCALING["response"]:
        WAYS[f"{_way}, response {_n}"] = Way(_prepare, 1, 64, _n, width=256, layers=6)
    for _n in SCALING["width"]:
        WAYS[f"{_way}, width {_n}"] = Way(_prepare, 1, 40, 10, width=_n, layers=6)
