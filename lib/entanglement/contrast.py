"""Contrast instead of likelihood: InfoNCE on the embeddings of responses.

A response is embedded as the mean of the model's last hidden states over its tokens, read behind its prompt,
and a prompt as the mean over its own. InfoNCE asks that a prompt be nearer to its chosen response than to the
rejected one and to those of other prompts. It says nothing of the log-probabilities of either; what it does
to them has to be measured. Source: van den Oord, Li and Vinyals 2018, arXiv 1807.03748.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedTokenizerBase

from entanglement.batches import length_groups
from entanglement.checks import non_empty, positive
from entanglement.logps import model_device, positions_for
from entanglement.pairs import PreferencePair
from entanglement.signatures import checked

__all__ = ["contrast_loss", "info_nce", "pair_embeddings"]


@checked(temperature=positive)
def info_nce(
    anchors: torch.Tensor, candidates: torch.Tensor, positives: torch.Tensor, *, temperature: float = 0.1
) -> torch.Tensor:
    """Return −log of each anchor's share for its positive, among all candidates, (B,), nats.

    Candidate j has the share e^{s_j/τ} / Σ_k e^{s_k/τ}, with s the cosine of anchor and candidate.

    Args:
        anchors: (B, D).
        candidates: (M, D), M ≥ 2.
        positives: (B,) whole numbers: which candidate belongs to each anchor.
        temperature: τ.

    Raises:
        ValueError: shapes that do not fit, or a positive that is no candidate.
    """
    if anchors.ndim != 2 or candidates.ndim != 2 or anchors.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"info_nce: anchors are {tuple(anchors.shape)}, candidates {tuple(candidates.shape)}; expected "
            "(B, D) and (M, D)."
        )
    if len(candidates) < 2:
        raise ValueError(f"info_nce: {len(candidates)} candidates; expected at least two.")
    if positives.shape != anchors.shape[:1] or positives.is_floating_point():
        raise ValueError(
            f"info_nce: positives are {tuple(positives.shape)} of {positives.dtype}; expected one whole "
            "number an anchor."
        )
    if bool(((positives < 0) | (positives >= len(candidates))).any()):
        raise ValueError(f"info_nce: positives outside [0, {len(candidates) - 1}].")
    cosines = normalize(anchors, dim=1) @ normalize(candidates, dim=1).T  # (B, M)
    return cross_entropy(cosines / temperature, positives, reduction="none")


@checked(pairs=non_empty)
def pair_embeddings(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the embeddings of prompts, chosen and rejected responses, (B, D) each, in the pairs' order.

    Args:
        model: a causal language model of transformers; gradients flow into it.
        tokenizer: the model's.
        pairs: B of them, with prompts that are not empty.

    Raises:
        ValueError: a model without a trunk of its own, or a prompt without tokens.
    """
    inner: Any = model
    if not hasattr(inner, "base_model") or not hasattr(inner, "config"):
        raise ValueError(f"model is a {type(model).__name__}; expected a language model of transformers.")
    order, batches = length_groups(model, tokenizer, pairs)
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for group in batches:
        batch = group.to(model_device(model))
        states = inner.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            use_cache=False,
            **positions_for(inner.base_model, batch.position_ids),
        ).last_hidden_state  # (2B, T, D)
        answer = batch.response_mask
        prompt = batch.attention_mask.bool() & ~answer
        if bool((prompt.sum(dim=1) == 0).any()):
            raise ValueError("pair_embeddings: a prompt has no tokens; expected at least one.")
        answers = _mean(states, answer)
        n = len(batch)
        parts.append((_mean(states[:n], prompt[:n]), answers[:n], answers[n:]))
    back = torch.argsort(torch.tensor(order))
    prompts, chosen, rejected = (torch.cat([part[side] for part in parts])[back] for side in range(3))
    return prompts, chosen, rejected


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of states (R, T, D) where the mask (R, T) is True, (R, D)."""
    some = mask.to(states).unsqueeze(2)
    return (states * some).sum(dim=1) / some.sum(dim=1)


@checked(pairs=non_empty, temperature=positive)
def contrast_loss(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    temperature: float = 0.1,
) -> torch.Tensor:
    """Return the mean InfoNCE of a batch of pairs, (), nats: each prompt against all responses of the batch.

    Args:
        model, tokenizer, pairs: as of ``pair_embeddings``.
        temperature: as of ``info_nce``.
    """
    prompts, chosen, rejected = pair_embeddings(model, tokenizer, pairs)
    own = torch.arange(len(prompts), device=prompts.device)
    return info_nce(prompts, torch.cat([chosen, rejected]), own, temperature=temperature).mean()
