"""Losses that look at single tokens: LD-DPO and TDPO.

They are no rows of the registry, whose losses are functions of f_w = log π_w and f_l = log π_l (and of
constants: the reference, the lengths). These two are not, so d_w = −∂L/∂f_w, d_l = ∂L/∂f_l and r = d_w/d_l do
not exist for them.

* LD-DPO weighs the tokens of one response differently. It is DPO in the weighted sums f̃_w and f̃_l
  (``ld_logps``). For their gradients g̃_w and g̃_l, not for g_w and g_l, it has strict margin form: r = 1.
* TDPO contains KL divergences over the whole vocabulary. Their gradients need not lie in the span of g_w and
  g_l, so no pair of weights describes its step. Its force on the logits of one position does (``tdpo``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from entanglement.logps import (
    PairLogps,
    ResponseLogits,
    TokenLogps,
    check_batch,
    model_device,
    response_logits,
)
from entanglement.losses.base import Hyper
from entanglement.losses.strict import BETA, dpo
from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = ["ld_dpo", "ld_logps", "logps_and_kl", "position_kl", "sequential_kl", "tdpo"]

#: The tail's weight in LD-DPO, and the divergences' weight in TDPO.
LD_ALPHA = Hyper("alpha", 0.5, r"\alpha", low=0.0, high=1.0)
TDPO_ALPHA = Hyper("alpha", 0.5, r"\alpha", low=0.0)


def _check_tokens(policy: TokenLogps, reference: TokenLogps) -> None:
    for side in ("chosen", "rejected"):
        mask = getattr(policy, f"{side}_mask")
        other = getattr(reference, f"{side}_mask").to(mask.device)
        if not torch.equal(mask, other):
            raise ValueError(
                f"ld_logps: {side}_mask of policy and reference differ; expected the same pairs and padding."
            )
        if bool((mask.sum(dim=1) == 0).any()):
            raise ValueError(f"ld_logps: a {side} response has no tokens; expected at least one.")


def _tail_weights(mask: torch.Tensor, shared: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return (B, T): 1 on the first ``shared`` response tokens of a row, α on later ones, 0 elsewhere."""
    # Tokens are counted along the mask, so it does not matter where the padding is.
    tail = mask.cumsum(dim=1) > shared.unsqueeze(1)
    return mask.double().masked_fill(mask & tail, alpha)


@checked(alpha=LD_ALPHA.allowed)
def ld_logps(policy: TokenLogps, reference: TokenLogps, *, alpha: float = 0.5) -> PairLogps:
    """Return LD-DPO's length-desensitized log-probabilities f̃ in place of f.

    f̃ sums the first min(n_w, n_l) tokens of a response with weight 1 and the tokens after them with weight α.
    Any loss of the registry takes the result; its weights then multiply the gradients of f̃_w and f̃_l.

    Args:
        policy: per-token log-probabilities of B pairs, nats. Gradients flow to them.
        reference: the reference model's, of the same pairs with the same padding; no gradient flows to them.
        alpha: weight of the tail in [0, 1]. At 1 this is f, at 0 the tail is ignored.

    Returns:
        PairLogps of B pairs, nats, with the reference and the (unweighted) lengths n_w and n_l.

    Raises:
        ValueError: α outside [0, 1], masks that differ, or an empty response.
    """
    _check_tokens(policy, reference)
    lengths = policy.chosen_mask.sum(dim=1), policy.rejected_mask.sum(dim=1)
    shared = torch.minimum(*lengths)  # (B,)
    weights_w = _tail_weights(policy.chosen_mask, shared, alpha).to(policy.chosen)
    weights_l = _tail_weights(policy.rejected_mask, shared, alpha).to(policy.rejected)
    return PairLogps(
        (weights_w * policy.chosen).sum(dim=1),
        (weights_l * policy.rejected).sum(dim=1),
        (weights_w * reference.chosen.detach().to(policy.chosen)).sum(dim=1),
        (weights_l * reference.rejected.detach().to(policy.rejected)).sum(dim=1),
        *lengths,
    )


@checked(beta=BETA.allowed, alpha=LD_ALPHA.allowed)
def ld_dpo(
    policy: TokenLogps, reference: TokenLogps, *, beta: float = 0.1, alpha: float = 0.5
) -> torch.Tensor:
    """Return LD-DPO's losses −log σ(β Δ̃), where Δ̃ is Δ of the length-desensitized log-probabilities.

    Source: Liu et al. 2024, arXiv 2409.06411; the same as TRL's ``ld_alpha``. At α = 1, and for responses of
    equal length at every α, it is DPO.

    Args:
        policy: per-token log-probabilities of B pairs, nats. Gradients flow to them.
        reference: the reference model's, of the same pairs with the same padding; no gradient flows to them.
        beta: inverse temperature β > 0.
        alpha: weight in [0, 1] of the tokens beyond min(n_w, n_l).

    Returns:
        (B,) losses in nats.

    Raises:
        ValueError: β or α outside its range, masks that differ, or an empty response.
    """
    return dpo(ld_logps(policy, reference, alpha=alpha), beta=beta)


def _log_probs(logits: ResponseLogits) -> torch.Tensor:
    """Return (N, V) log-probabilities of the whole vocabulary at the positions that predict a response."""
    picked = logits.logits[logits.rows, logits.slots]
    # As in ResponseLogits.logps: half precision is too coarse for a sum over the vocabulary.
    picked = picked if picked.dtype == torch.float64 else picked.float()
    return picked.log_softmax(dim=-1)


@checked()
def position_kl(policy: ResponseLogits, reference: ResponseLogits) -> torch.Tensor:
    """Return KL(π_ref ‖ π_θ) of the next-token distributions at every response position.

    Its gradient in the policy's logits of one position is p − p_ref.

    Args:
        policy: the policy's logits on R sequences. Gradients flow to them.
        reference: the reference's on the same sequences; no gradient flows to them.

    Returns:
        (R, T) divergences in nats, in the column of the token that the position predicts; 0 outside the
        response. On the policy's device, float64 if its logits are, else float32.

    Raises:
        ValueError: other response tokens or another vocabulary than the policy's.
    """
    device = policy.logits.device
    same = policy.shape == reference.shape and all(
        torch.equal(getattr(policy, name), getattr(reference, name).to(device))
        for name in ("rows", "columns", "targets")
    )
    if not same:
        raise ValueError(
            "position_kl: policy and reference differ in their response tokens; expected the same sequences."
        )
    sizes = policy.logits.shape[-1], reference.logits.shape[-1]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"position_kl: vocabularies of {sizes[0]} (policy) and {sizes[1]} (reference) tokens; "
            "expected the same."
        )
    log_p = _log_probs(policy)
    log_ref = _log_probs(reference).detach().to(log_p)
    values = (log_ref.exp() * (log_ref - log_p)).sum(dim=-1)  # (N,)
    return values.new_zeros(policy.shape).index_put((policy.rows, policy.columns), values)


def _forward(model: nn.Module, batch: PairBatch) -> ResponseLogits:
    batch = batch.to(model_device(model))
    return response_logits(
        model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
    )


@checked()
def logps_and_kl(
    model: nn.Module, batch: PairBatch, ref: nn.Module
) -> tuple[PairLogps, torch.Tensor, torch.Tensor]:
    """Return all that ``tdpo`` needs, from one forward of each model over the batch's 2B rows.

    Args:
        model: the policy. Gradients flow into it.
        batch: B pairs.
        ref: the reference, with the policy's vocabulary; run without gradients.

    Returns:
        (PairLogps of B pairs, K_w, K_l) on the model's device, nats; K as in ``sequential_kl``.

    Raises:
        ValueError: an empty response (naming the pair), left padding with a model without ``position_ids``,
            or two vocabularies.
    """
    check_batch(batch, "logps_and_kl")
    policy = _forward(model, batch)
    with torch.no_grad():
        reference = _forward(ref, batch)
        ref_sums = reference.logps().sum(dim=1)  # (2B,)
    sums = policy.logps().sum(dim=1)
    kl = position_kl(policy, reference).sum(dim=1)
    ref_sums, n = ref_sums.to(sums), len(batch)
    lengths = batch.chosen_len.to(sums.device), batch.rejected_len.to(sums.device)
    return PairLogps(sums[:n], sums[n:], ref_sums[:n], ref_sums[n:], *lengths), kl[:n], kl[n:]


@checked()
def sequential_kl(model: nn.Module, batch: PairBatch, ref: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return TDPO's sequential divergences K = Σ_t KL(π_ref(·|x, y_<t) ‖ π_θ(·|x, y_<t)) of both responses.

    The sum runs over the response's positions, of the given y, not of sampled ones. Source: Zeng et al. 2024,
    arXiv 2404.11999 (D_SeqKL with the reference first). Arguments and errors: as ``logps_and_kl``, which also
    gives the log-probabilities.

    Returns:
        (K_w, K_l), each (B,), nats, on the model's device. Gradients flow into the model only.
    """
    _, chosen_kl, rejected_kl = logps_and_kl(model, batch, ref)
    return chosen_kl, rejected_kl


@checked(beta=BETA.allowed, alpha=TDPO_ALPHA.allowed)
def tdpo(
    logps: PairLogps,
    chosen_kl: torch.Tensor,
    rejected_kl: torch.Tensor,
    *,
    beta: float = 0.1,
    alpha: float | None = None,
    version: Literal[1, 2] = 2,
) -> torch.Tensor:
    """Return TDPO's losses −log σ(β u), u = Δ − α(K_l − K_w).

    TDPO1 has α = 1, and both divergences carry gradient. In TDPO2 K_w is a constant. With d = β σ(−βu), the
    force −∂L/∂z on the logits of one position, whose next-token distributions are p and p_ref, is

    * −d [e_y − (1−α) p − α p_ref] on the rejected response,
    * +d [e_y − p_ref] (TDPO1) or +d [e_y − p] (TDPO2) on the chosen one.

    At α = 0 (TDPO2) it is DPO; at π = π_ref its value and force are DPO's in both versions.
    Source: Zeng et al. 2024, arXiv 2404.11999, and its code.

    Args:
        logps: B pairs with a reference, nats.
        chosen_kl: (B,) K_w of ``sequential_kl``, nats.
        rejected_kl: (B,) K_l.
        beta: inverse temperature β > 0.
        alpha: weight α ≥ 0 of the divergences; None is 1 for TDPO1 (its only value) and 0.5 for TDPO2.
        version: 1 or 2.

    Returns:
        (B,) losses in nats.

    Raises:
        ValueError: β, α or version outside its range, divergences that are not (B,), or no reference.
    """
    if alpha is None:
        alpha = 1.0 if version == 1 else 0.5
    if version == 1 and alpha != 1:
        raise ValueError(f"tdpo: alpha={alpha!r}; expected 1 with version=1 (TDPO1 has no other).")
    for name, value in (("chosen_kl", chosen_kl), ("rejected_kl", rejected_kl)):
        # A (B, T) tensor of positions would broadcast silently.
        if value.shape != logps.chosen.shape:
            raise ValueError(f"tdpo: {name} is {tuple(value.shape)}; expected ({len(logps)},) like logps.")
    if version == 2:
        chosen_kl = chosen_kl.detach()
    return -logsigmoid(beta * (logps.delta - alpha * (rejected_kl - chosen_kl)))
