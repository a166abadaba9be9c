"""Losses of a whole ranking: k candidates of one prompt, ordered by how good they are.

A pair is the ranking of two. Each loss compares scores s_i = β(f_i − f_i^ref), or β f_i without a reference,
with f_i = log π(y_i | x), and has a weight d_i = −∂L/∂f_i for each candidate, which is positive where the
loss pulls it up. A plain step goes along Σ d_j g_j, so f_i changes by η Σ_j ⟨g_i, g_j⟩ d_j: what the weights
do to each candidate is decided by the k × k Gram matrix of the gradients (``entanglement.objectives``).

With two candidates RankNet and Plackett–Luce are DPO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn.functional import logsigmoid

from entanglement.checks import positive
from entanglement.registry import Registry
from entanglement.signatures import checked

__all__ = ["RANKINGS", "Ranking", "RankingSpec", "get_ranking", "list_rankings"]


@checked()
@dataclass(frozen=True)
class RankingSpec:
    """The declaration of a ranking loss.

    Attributes:
        title: name in print.
        function: (scores (B, k), relevance (B, k)) → (B,) losses, nats.
        formula: LaTeX of the loss of one list, without dollar signs; i ≻ j where i is the more relevant.
        source: where it is from.
    """

    title: str
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(repr=False)
    formula: str
    source: str


RANKINGS: Registry[RankingSpec] = Registry("ranking loss", printed=("title", "formula", "source"))


def _pairs(scores: torch.Tensor, relevance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return s_i − s_j, and where i is the more relevant of the two, both (B, k, k)."""
    return scores.unsqueeze(2) - scores.unsqueeze(1), relevance.unsqueeze(2) > relevance.unsqueeze(1)


def ranknet(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Return the mean of −log σ(s_i − s_j) over the pairs with i more relevant than j, (B,)."""
    apart, better = _pairs(scores, relevance)
    total = (-logsigmoid(apart) * better).sum((1, 2))
    return total / better.sum((1, 2)).clamp(min=1)


def lambdarank(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Return the sum of −log σ(s_i − s_j), each pair weighted by what exchanging the two would change in
    NDCG (gains 2^relevance − 1, discounts 1/log₂(1 + rank)), (B,). The ranks are those of the scores now.
    """
    apart, better = _pairs(scores, relevance)
    gains = 2.0**relevance - 1
    places = torch.arange(scores.shape[1], dtype=scores.dtype, device=scores.device)
    discounts = 1 / torch.log2(2 + places)
    ranks = scores.detach().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    now = discounts[ranks]
    best = (gains.sort(dim=1, descending=True).values * discounts).sum(1)
    moved = (gains.unsqueeze(2) - gains.unsqueeze(1)).abs() * (now.unsqueeze(2) - now.unsqueeze(1)).abs()
    moved = moved / best.clamp(min=torch.finfo(scores.dtype).tiny).reshape(-1, 1, 1)
    return (-logsigmoid(apart) * better * moved).sum((1, 2))


def plackett_luce(scores: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Return −log of the probability that the candidates are drawn in the order of their relevance, each in
    turn with a probability proportional to e^s among those that are left, (B,). Candidates of the same
    relevance are not compared.
    """
    _, better = _pairs(scores, relevance)
    itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
    rivals = scores.unsqueeze(1).masked_fill(~(better | itself), -torch.inf)  # row i: i and all below it
    return (rivals.logsumexp(2) - scores).sum(1)


RANKINGS.add(
    "ranknet",
    RankingSpec(
        title="RankNet",
        function=ranknet,
        formula=r"-\tfrac{1}{|\{i\succ j\}|}\sum_{i\succ j}\log\sigma(s_i-s_j)",
        source="Burges et al. 2005",
    ),
)
RANKINGS.add(
    "lambdarank",
    RankingSpec(
        title="LambdaRank",
        function=lambdarank,
        formula=r"-\sum_{i\succ j}|\Delta\mathrm{NDCG}_{ij}|\,\log\sigma(s_i-s_j)",
        source="Burges 2010",
    ),
)
RANKINGS.add(
    "plackett_luce",
    RankingSpec(
        title="Plackett–Luce",
        function=plackett_luce,
        formula=r"-\sum_i\log\frac{e^{s_i}}{e^{s_i}+\sum_{j\prec i}e^{s_j}}",
        source="Plackett 1975; ListMLE, Xia et al. 2008",
    ),
)


@checked(beta=positive)
class Ranking:
    """A ranking loss with its β fixed: ``ranking(logps, relevance)`` and ``ranking.weights(…)``.

    Attributes:
        name: of ``RANKINGS``.
        beta: factor of the log-probabilities in the scores.
    """

    def __init__(self, name: str, beta: float) -> None:
        self.name = name
        self.beta = beta
        self.spec = RANKINGS[name]

    def __repr__(self) -> str:
        return f"get_ranking({self.name!r}, beta={self.beta:g})"

    def __call__(
        self, logps: torch.Tensor, relevance: torch.Tensor, ref_logps: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the (B,) losses, nats; gradients flow to ``logps``.

        Args:
            logps: (B, k) log π of the candidates.
            relevance: (B, k), at least 0, larger is better; equal ones are not compared.
            ref_logps: (B, k) of the reference, if the loss is to look at it.

        Raises:
            ValueError: shapes that differ, fewer than two candidates, or a negative relevance.
        """
        given = {"logps": logps, "relevance": relevance}
        given |= {"ref_logps": ref_logps} if ref_logps is not None else {}
        for name, value in given.items():
            if value.ndim != 2 or value.shape != logps.shape or value.shape[1] < 2:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}; expected (B, k) with k ≥ 2, the same for all."
                )
        if bool((relevance < 0).any()):
            raise ValueError(f"relevance={float(relevance.min()):g}; expected numbers of at least 0.")
        scores = self.beta * (logps if ref_logps is None else logps - ref_logps)
        return self.spec.function(scores, relevance.to(logps))

    def weights(
        self, logps: torch.Tensor, relevance: torch.Tensor, ref_logps: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the (B, k) weights d_i = −∂L/∂f_i of the summed losses, detached from any graph; arguments
        and errors as of a call. Without a relevance that differs from another there is nothing to compare,
        and the weights are 0.
        """
        with torch.inference_mode(False), torch.enable_grad():
            free = logps.detach().clone().requires_grad_()
            total = self(free, relevance, ref_logps).sum()
            (grad,) = torch.autograd.grad(total, free)
        return 0.0 - grad


def list_rankings() -> list[str]:
    """Return the names of the ranking losses."""
    return list(RANKINGS)


@checked(beta=positive)
def get_ranking(name: str, beta: float = 0.1) -> Ranking:
    """Return a ranking loss by name.

    Args:
        name: one of ``list_rankings()``.
        beta: factor of the log-probabilities in the scores, DPO's β.

    Raises:
        ValueError: an unknown name, or β not positive.
    """
    return Ranking(name, float(beta))
