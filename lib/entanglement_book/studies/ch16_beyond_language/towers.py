"""A two-tower recommender of films: what a user likes in the long run, and what they turn to next.

The user tower reads two means of film vectors, over all films that the user has rated so far and over the
last five. The other tower is a table of one vector a film. Both objectives are cross-entropies over all
films, from the same user vector: of the film that is rated *next*, whatever its rating (intent), and of all
films to which the user gives four or five stars at any *later* time (taste).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import log_softmax

from entanglement_book.materials import load_ratings

__all__ = ["OBJECTIVES", "RECENT", "Examples", "Towers", "film_examples", "recalls", "tower_losses"]

OBJECTIVES = ("taste", "intent")
#: How many last films are recent.
RECENT = 5
#: Films with fewer ratings are left out, and users with fewer of the rest.
_FILM, _USER = 30, 30
#: Stars that a film gets which the user likes.
_LIKED = 4


@dataclass(frozen=True)
class Examples:
    """Moments at which something is recommended.

    Attributes:
        long: (n, films) each film's share of what the user has rated before.
        recent: (n, RECENT) the last films.
        later: (n, films) each film's share of what the user likes later.
        next: (n,) the film that is rated next.
    """

    long: torch.Tensor
    recent: torch.Tensor
    later: torch.Tensor
    next: torch.Tensor

    def __len__(self) -> int:
        return len(self.next)

    def __getitem__(self, rows: torch.Tensor) -> Examples:
        return Examples(self.long[rows], self.recent[rows], self.later[rows], self.next[rows])


def _often(ratings: pd.DataFrame, column: str, least: int) -> pd.DataFrame:
    return ratings[ratings.groupby(column)["rating"].transform("size") >= least]


def film_examples(moments: int, seed: int, users: int | None = None) -> tuple[dict[str, Examples], int]:
    """Return examples to train on, to choose by and to judge by, and how many films there are.

    A user's first eight tenths are trained on, at a few moments drawn by ``seed``, with what follows within
    them. There is one moment to choose by, after eight tenths, and one to judge by, after nine.

    Args:
        moments: to train on, a user.
        seed: of the draw.
        users: so many, drawn by ``seed``; None for all.
    """
    ratings = _often(_often(load_ratings(), "movie_id", _FILM), "user_id", _USER)
    codes = {film: code for code, film in enumerate(sorted(ratings["movie_id"].unique()))}
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, int, int]]]
    parts = {name: [] for name in ("train", "choice", "judged")}
    groups = list(ratings.groupby("user_id"))
    for place in range(len(groups)) if users is None else rng.choice(len(groups), users, replace=False):
        rows = groups[place][1]
        films = rows["movie_id"].map(codes).to_numpy()
        liked = (rows["rating"] >= _LIKED).to_numpy()
        eight, nine = int(0.8 * len(films)), int(0.9 * len(films))
        drawn = rng.integers(RECENT, eight - 1, size=moments)
        ends = [("train", int(seen), eight) for seen in drawn]
        for name, seen, end in (*ends, ("choice", eight, nine), ("judged", nine, len(films))):
            if liked[seen:end].any():  # else nothing is known of the user's taste
                parts[name].append((films, liked, seen, end))
    return {name: _examples(found, len(codes)) for name, found in parts.items()}, len(codes)


def _examples(moments: list[tuple[np.ndarray, np.ndarray, int, int]], count: int) -> Examples:
    long, later = np.zeros((2, len(moments), count), dtype=np.float32)
    recent = np.stack([films[seen - RECENT : seen] for films, _, seen, _ in moments])
    for row, (films, liked, seen, end) in enumerate(moments):
        long[row, films[:seen]] = 1 / seen
        later[row, films[seen:end][liked[seen:end]]] = 1 / liked[seen:end].sum()
    following = np.array([films[seen] for films, _, seen, _ in moments])
    return Examples(*(torch.from_numpy(part) for part in (long, recent, later, following)))


class _Tower(nn.Module):
    def __init__(self, films: int, width: int) -> None:
        super().__init__()
        self.read = nn.Embedding(films, width)
        self.user = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.film = nn.Embedding(films, width)
        for table in (self.read, self.film):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, examples: Examples) -> torch.Tensor:
        means = [examples.long @ self.read.weight, self.read(examples.recent).mean(1)]
        return self.user(torch.cat(means, dim=1)) @ self.film.weight.T


class Towers(nn.Module):
    """The logits of both objectives: from one pair of towers, or from two pairs that share nothing.

    Args:
        films: how many.
        width: of the vectors.
        shared: whether there is one pair.
    """

    def __init__(self, films: int, width: int, *, shared: bool) -> None:
        super().__init__()
        self.towers = nn.ModuleList(_Tower(films, width) for _ in range(1 if shared else 2))

    def forward(self, examples: Examples) -> list[torch.Tensor]:
        """Return the logits for taste and for intent, (n, films) each."""
        found = [tower(examples) for tower in self.towers]
        return [found[0], found[-1]]


def tower_losses(net: nn.Module, examples: Examples) -> torch.Tensor:
    """Return the losses of taste and intent example by example, (n, 2), nats."""
    taste, intent = (log_softmax(logits, dim=1) for logits in net(examples))
    return torch.stack([-(examples.later * taste).sum(1), -intent.gather(1, examples.next[:, None])[:, 0]], 1)


@torch.no_grad()
def recalls(net: nn.Module, examples: Examples, among: int = 20) -> dict[str, float]:
    """Return recall@``among`` of both objectives, films that were rated before left out: which share of the
    films that a user likes later is among the first of taste's ranking, and how often the next film is among
    the first of intent's.
    """
    best = [logits.masked_fill(examples.long > 0, -torch.inf).topk(among).indices for logits in net(examples)]
    taste = (examples.later > 0).gather(1, best[0]).sum(1) / (examples.later > 0).sum(1)
    intent = (best[1] == examples.next[:, None]).any(1)
    return {"taste": float(taste.double().mean()), "intent": float(intent.double().mean())}
