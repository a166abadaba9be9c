"""A generative adversarial network on features of texts, and how like the real ones its draws are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn.functional import softplus

__all__ = ["Features", "GanNumbers", "nearest", "novelty", "train_gan", "whitened"]


@dataclass(frozen=True)
class Features:
    """Features of real texts, decorrelated and scaled, so that their mean is 0 and their covariance 1.

    Attributes:
        real: (N, K).
        kept: share of the embeddings' variance that is in them.
    """

    real: torch.Tensor
    kept: float


@dataclass(frozen=True)
class GanNumbers:
    """Sizes and training.

    Attributes:
        components: features K.
        noise, width: of the generator's input, and of the hidden layers of both networks.
        steps, batch, lr: of training (Adam), as many steps of the generator as of the discriminator.
    """

    components: int
    noise: int
    width: int
    steps: int
    batch: int
    lr: float


def whitened(embeddings: torch.Tensor, components: int) -> Features:
    """Return the principal components of embeddings (N, D), each with variance 1."""
    centered = embeddings.double() - embeddings.double().mean(dim=0)
    left, values, _ = torch.linalg.svd(centered, full_matrices=False)
    kept = float((values[:components] ** 2).sum() / (values**2).sum())
    return Features((left[:, :components] * (len(embeddings) - 1) ** 0.5).float(), kept)


def _network(sizes: tuple[int, int, int]) -> nn.Sequential:
    first, hidden, last = sizes
    return nn.Sequential(
        nn.Linear(first, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, last),
    )  # fmt: skip


def train_gan(real: torch.Tensor, numbers: GanNumbers, draws: int, seed: int) -> torch.Tensor:
    """Return features drawn from a generator that was trained against a discriminator, (draws, K).

    The generator maximizes log D of what it makes (Goodfellow et al. 2014, arXiv 1406.2661).

    Args:
        real: (N, K).
        numbers: sizes and training.
        draws: how many.
        seed: of everything.
    """
    torch.manual_seed(seed)
    generator = _network((numbers.noise, numbers.width, real.shape[1]))
    critic = _network((real.shape[1], numbers.width, 1))
    moves = [
        torch.optim.Adam(net.parameters(), lr=numbers.lr, betas=(0.5, 0.9)) for net in (generator, critic)
    ]
    for _ in range(numbers.steps):
        made = generator(torch.randn(numbers.batch, numbers.noise))
        some = real[torch.randint(len(real), (numbers.batch,))]
        loss = softplus(-critic(some)).mean() + softplus(critic(made.detach())).mean()
        moves[1].zero_grad()
        loss.backward()
        moves[1].step()
        moves[0].zero_grad()
        softplus(-critic(made)).mean().backward()
        moves[0].step()
    with torch.no_grad():
        return generator(torch.randn(draws, numbers.noise))


def nearest(real: torch.Tensor, made: torch.Tensor) -> np.ndarray:
    """Return which real text is nearest to each draw, (draws,)."""
    found = NearestNeighbors(n_neighbors=1).fit(real.numpy())
    return found.kneighbors(made.numpy(), return_distance=False)[:, 0]


def novelty(real: torch.Tensor, made: torch.Tensor) -> float:
    """Return how often the nearest neighbor of a point is of its own kind, among as many real points as
    draws: ½ if nobody can tell them apart, 1 if anybody can.

    The two-sample test by nearest neighbors of Lopez-Paz and Oquab 2017, arXiv 1610.06545.
    """
    n = min(len(real), len(made))
    both = torch.cat([real[:n], made[:n]]).numpy()
    kind = np.repeat([0, 1], n)
    found = NearestNeighbors(n_neighbors=2).fit(both).kneighbors(both, return_distance=False)[:, 1]
    return float((kind == kind[found]).mean())
