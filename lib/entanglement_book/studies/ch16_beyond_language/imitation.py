"""Imitation: one driver that is to do as three rule-based ones do, one for each objective.

The network is that of the policy gradient. To imitate, nothing has to be tried out on copies of the road, so
that more situations cost no more simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from entanglement_book.studies.ch16_beyond_language.driving import (
    OBJECTIVES,
    drive,
    imitation_losses,
    new_driver,
    situations,
)
from entanglement_book.studies.ch16_beyond_language.grid_driving import cosine_rows
from entanglement_book.studies.ch16_beyond_language.rule_based import MANNERS
from entanglement_book.studies.ch16_beyond_language.together import train_together
from entanglement_book.studies.shared.scales import at_scale

__all__ = ["Recipe", "imitated", "recipe"]

#: Added to a seed for a road of its own, on which a driver is judged.
_ANOTHER = 10_000


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        situations: to learn from, fewer and more; held_out: to be judged in.
        steps, lr: of the training, by plain steps on all situations at once.
        episodes, seconds: of driving afterwards.
        seeds: how many.
    """

    situations: tuple[int, int] = (80, 480)
    held_out: int = 120
    steps: int = 1000
    lr: float = 0.2
    episodes: int = 8
    seconds: int = 12
    seeds: int = 5


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run.

    Raises:
        ValueError: an unknown scale.
    """
    smoke = Recipe((4, 8), held_out=6, steps=4, episodes=1, seconds=2, seeds=2)
    return at_scale(
        scale, smoke, Recipe(), Recipe((800, 12_800), held_out=400, episodes=50, seconds=40, seeds=5)
    )


def imitated(scale: str) -> dict[str, pd.DataFrame]:
    """Train and judge drivers that imitate, with every seed.

    Returns:
        "agreement": one row a number of situations, way ("separate" networks, or "one" for all) and
            objective: situations, way, seed, objective, agrees (share of new situations in which the
            likeliest action is the teacher's), turned (in which another objective's driver does what the
            teacher does: safety's for progress, progress's for the others), commonest (in which the teacher
            does what it does most often where the driver learned).
        "cosines": one row a step (first and last) and pair, one network, more situations: seed, step,
            objective, other, cosine.
        "driving": one row a driver, the network for all from more situations or a teacher: way, seed, crashes
            (share), lane, progress (means).
    """
    numbers = recipe(scale)
    agreement, cosines, drives = [], [], []
    for seed in range(numbers.seeds):
        given = situations(max(numbers.situations), seed, tried=False)
        new = situations(numbers.held_out, _ANOTHER + seed, tried=False)
        for count in numbers.situations:
            seen, taught = given.seen[:count], given.taught[:count]
            often = taught.mode(0).values

            def losses(net: Any, _: torch.Tensor, seen: Any = seen, taught: Any = taught) -> torch.Tensor:
                return imitation_losses(net, seen, taught).mean(0)

            for way in ("separate", "one"):
                net = new_driver(shared=way == "one", seed=seed)
                optimizer = torch.optim.SGD(net.parameters(), numbers.lr)
                look_at = way == "one" and count == max(numbers.situations)
                for step in train_together(
                    net, losses, count, steps=numbers.steps, lr=numbers.lr, batch=1, seed=seed,
                    optimizer=optimizer,
                ):  # fmt: skip
                    if look_at and step in (0, numbers.steps):
                        rows = cosine_rows(net, losses(net, torch.zeros(0)))
                        cosines += [{"seed": seed, "step": step} | row for row in rows]
                with torch.no_grad():
                    does = net(new.seen).argmax(1)
                for i, name in enumerate(OBJECTIVES):
                    other = 0 if i == len(OBJECTIVES) - 1 else len(OBJECTIVES) - 1
                    shares = {
                        "agrees": (does[:, i] == new.taught[:, i]).double().mean(),
                        "turned": (does[:, other] == new.taught[:, i]).double().mean(),
                        "commonest": (often[i] == new.taught[:, i]).double().mean(),
                    }
                    row = {"situations": count, "way": way, "seed": seed, "objective": name}
                    agreement.append(row | {key: float(share) for key, share in shares.items()})
                if look_at:
                    found = drive(net, numbers.episodes, numbers.seconds, seed)
                    drives.append({"way": "imitator", "seed": seed} | found)
        for name, manner in zip(OBJECTIVES, MANNERS, strict=True):
            found = drive(manner, numbers.episodes, numbers.seconds, seed)
            drives.append({"way": f"{name}'s teacher", "seed": seed} | found)
    return {
        "agreement": pd.DataFrame(agreement),
        "cosines": pd.DataFrame(cosines),
        "driving": pd.DataFrame(drives),
    }
