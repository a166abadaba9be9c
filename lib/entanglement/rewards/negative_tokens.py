"""Which tokens of wrong answers pull right ones down with them, told by the model's last layer.

The gradient of a token's log-probability in the output layer is (e_y − π) ⊗ h, with h the state from which
the token is predicted. So the inner product of two tokens' gradients there is ⟨e_y − π, e_y' − π'⟩ ⟨h, h'⟩,
and a wrong answer's token whose products with the right answers' tokens add up to much takes them down when
it is pushed down. Such tokens get less of the push. After Deng et al. 2025, arXiv 2505.18830 (NTHR).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from entanglement.checks import finite_tensor, non_negative, share
from entanglement.rewards.answers import Answers, read_answers
from entanglement.signatures import checked

__all__ = ["constant_weights", "hidden_weights", "token_alikeness"]

_TOKENS = finite_tensor("R", "K")


@checked()
@torch.no_grad()
def token_alikeness(model: nn.Module, answers: Answers) -> torch.Tensor:
    """Return the inner products of all tokens' gradients in the output layer, (R K, R K); 0 without a token.

    Args:
        model: a causal language model of transformers.
        answers: R rows; R K numbers of the vocabulary's size are held.
    """
    states = read_answers(model, answers).states
    inner: Any = model
    errors = -inner.get_output_embeddings()(states).softmax(dim=-1)  # (R, K, V)
    ids = answers.ids.to(errors.device)
    errors.scatter_add_(2, ids[:, :, None], torch.ones_like(errors[:, :, :1]))
    real = answers.mask.to(errors)[:, :, None]
    errors, states = ((part * real).flatten(0, 1) for part in (errors, states))
    return (errors @ errors.T) * (states @ states.T)


@checked(advantages=_TOKENS, threshold=non_negative, weight=share)
def hidden_weights(
    model: nn.Module,
    answers: Answers,
    advantages: torch.Tensor,
    *,
    threshold: float = 1.0,
    weight: float = 0.0,
) -> torch.Tensor:
    """Return what each token's advantage is multiplied by, (R, K): 1, or ``weight`` where a wrong answer's
    token is too near to the right answers of its group.

    A token's nearness is the sum of its products (``token_alikeness``) with all tokens of the right answers.
    It is too near where it is nearer than ``threshold`` times the tokens of the right answer that is least
    near to the right answers, in the mean.

    Args:
        model: a causal language model of transformers.
        answers: R rows.
        advantages: (R, K); an answer is right if its first token's is positive, wrong if negative.
        threshold: as above.
        weight: what is left of such a token's push.
    """
    if advantages.shape != answers.mask.shape:
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}; expected {tuple(answers.mask.shape)}."
        )
    found = torch.ones_like(advantages)
    for start in range(0, len(answers), answers.group):
        rows = range(start, start + answers.group)
        sign = advantages[start : start + answers.group, 0].sign()
        if not (bool((sign > 0).any()) and bool((sign < 0).any())):
            continue
        some = answers.select(list(rows), answers.group)
        alike = token_alikeness(model, some).to(advantages)
        right = (sign > 0).repeat_interleave(answers.tokens)
        near = alike[:, right].sum(dim=1).view(len(sign), -1)  # (G, K)
        lengths = some.lengths.to(near)
        least = (near.sum(dim=1) / lengths)[sign > 0].min()
        too_near = (near > threshold * least) & (sign < 0)[:, None] & some.mask.to(sign.device)
        found[start : start + answers.group][too_near] = weight
    return found


@checked(advantages=_TOKENS, weight=share)
def constant_weights(
    model: nn.Module, answers: Answers, advantages: torch.Tensor, *, weight: float = 0.5
) -> torch.Tensor:
    """Return 1 where an answer's advantage is not negative, else ``weight``: the rival that looks at nothing.

    Args:
        model: not looked at.
        answers: not looked at.
        advantages: (R, K).
        weight: what is left of every push down.
    """
    return torch.where(advantages < 0, weight, 1.0).to(advantages)
