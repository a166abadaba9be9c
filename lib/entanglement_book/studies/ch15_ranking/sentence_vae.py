"""A variational autoencoder of sentences, small enough to train in seconds, and what its code says.

Encoder and decoder are recurrent networks (GRU). The decoder sees the words before and the code z at each
place. It can do without z, and then the best that the bound asks for is to send nothing: the code collapses.
Source: Bowman et al. 2016, arXiv 1511.06349.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

__all__ = ["SentenceVae", "VaeNumbers", "code_report", "kl_each", "train_vae"]

#: A dimension of the code is active if the posterior mean's variance over sentences is above this
#: (Burda, Grosse and Salakhutdinov 2016, arXiv 1509.00519).
ACTIVE = 0.01


@dataclass(frozen=True)
class VaeNumbers:
    """Sizes and training.

    Attributes:
        code, embedding, width: dimensions of z, of the words' vectors, of the recurrent states.
        steps, batch, lr: of training (Adam).
        words: tokens of a sentence that are read.
        vocabulary: different tokens, counting padding and "another one".
        free: nats of the code that cost nothing, the same number in each dimension.
    """

    code: int
    embedding: int
    width: int
    steps: int
    batch: int
    lr: float
    words: int
    vocabulary: int
    free: float


class SentenceVae(nn.Module):
    """Encoder and decoder.

    Args:
        numbers: sizes; token 0 is padding and the beginning.
    """

    def __init__(self, numbers: VaeNumbers) -> None:
        super().__init__()
        vocabulary = numbers.vocabulary
        self.embed = nn.Embedding(vocabulary, numbers.embedding)
        self.reader = nn.GRU(numbers.embedding, numbers.width, batch_first=True)
        self.head = nn.Linear(numbers.width, 2 * numbers.code)
        self.first = nn.Linear(numbers.code, numbers.width)
        self.writer = nn.GRU(numbers.embedding + numbers.code, numbers.width, batch_first=True)
        self.out = nn.Linear(numbers.width, vocabulary)

    def encode(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance of the code, (B, C) each, of sentences (B, T) padded with 0."""
        states, _ = self.reader(self.embed(ids))
        last = (ids != 0).sum(dim=1).clamp(min=1) - 1
        mean, log_variance = self.head(states[torch.arange(len(ids)), last]).chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 8)

    def surprise(self, ids: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return −log p(sentence | z), (B,), nats, for codes (B, C)."""
        before = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
        at_each = code.unsqueeze(1).expand(-1, ids.shape[1], -1)
        states, _ = self.writer(
            torch.cat([self.embed(before), at_each], dim=2), torch.tanh(self.first(code)).unsqueeze(0)
        )
        real = ids != 0
        losses = cross_entropy(self.out(states[real]), ids[real], reduction="none")
        return torch.zeros(ids.shape, dtype=losses.dtype).masked_scatter(real, losses).sum(dim=1)


def kl_each(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return KL(q(z|x) ‖ N(0, 1)) by dimension, (B, C), nats."""
    return (mean**2 + log_variance.exp() - 1 - log_variance) / 2


def _drawn(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    return mean + torch.randn_like(mean) * (log_variance / 2).exp()


def train_vae(sentences: torch.Tensor, numbers: VaeNumbers, how: str, seed: int) -> SentenceVae:
    """Return a model trained on sentences (N, T).

    Args:
        sentences: token ids, padded with 0 on the right.
        numbers: sizes and training.
        how: "plain" (the bound itself), "annealed" (the price of the code rises from 0 to 1 over the first
            half of the steps), "free" (``numbers.free`` nats of it cost nothing: Kingma et al. 2016, arXiv
            1606.04934).
        seed: of everything.

    Raises:
        ValueError: another way.
    """
    if how not in ("plain", "annealed", "free"):
        raise ValueError(f"how={how!r}; expected plain, annealed or free.")
    torch.manual_seed(seed)
    model = SentenceVae(numbers)
    mover = torch.optim.Adam(model.parameters(), lr=numbers.lr)
    for step in range(numbers.steps):
        ids = sentences[torch.randint(len(sentences), (numbers.batch,))]
        mean, log_variance = model.encode(ids)
        kl = kl_each(mean, log_variance).mean(dim=0)  # (C,)
        if how == "free":
            kl = kl.clamp(min=numbers.free / numbers.code)
        price = min(1.0, 2 * step / numbers.steps) if how == "annealed" else 1.0
        paid = price * kl.sum()
        loss = model.surprise(ids, _drawn(mean, log_variance)).mean() + paid
        mover.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        mover.step()
    return model.eval()


@torch.no_grad()
def code_report(model: SentenceVae, sentences: torch.Tensor, seed: int) -> dict[str, float]:
    """Return what the code says of sentences (N, T) that were not trained on.

    Returns:
        kl (nats), surprise (−log p(x|z), nats), bound (their sum), told (how much more surprised the decoder
        is by another sentence's code, nats), information (between sentence and code, nats; at most log N),
        active (dimensions of the code).
    """
    torch.manual_seed(seed)
    mean, log_variance = model.encode(sentences)
    code = _drawn(mean, log_variance)
    kl = float(kl_each(mean, log_variance).sum(dim=1).mean())
    own = model.surprise(sentences, code)
    other = model.surprise(sentences, code.roll(1, dims=0))
    # log q(z_i | x_j), (N, N), without the constant that all share.
    apart = (code.unsqueeze(1) - mean.unsqueeze(0)) ** 2 / log_variance.exp().unsqueeze(0)
    log_q = -(apart + log_variance.unsqueeze(0)).sum(dim=2) / 2
    information = log_q.diagonal() - (log_q.logsumexp(dim=1) - math.log(len(code)))
    return {
        "kl": kl,
        "surprise": float(own.mean()),
        "bound": float(own.mean()) + kl,
        "told": float((other - own).mean()),
        "information": float(information.mean()),
        "active": float((mean.var(dim=0) > ACTIVE).sum()),
    }
