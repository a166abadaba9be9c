"""A driver on a simulated highway that wants three things: not to crash, to keep right, and to get ahead.

The road is ``highway-env``'s (Leurent 2018, MIT license), without a screen. In a situation, each of the five
actions is tried on a copy of the road, with two steps of "keep going" after it, and the simulator's own
reward terms say what came of it. So a driver's expected reward in a situation is known exactly, for each of
the three terms, and so is its policy gradient. What the simulator's rule-based driver would do there is
known, too, for one that imitates it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from entanglement.archive import DataError
from entanglement.uses import remembered
from entanglement_book.studies.ch16_beyond_language.rule_based import MANNERS, Manner

__all__ = [
    "ACTIONS",
    "OBJECTIVES",
    "Driver",
    "Situations",
    "drive",
    "driver_losses",
    "imitation_losses",
    "new_driver",
    "situations",
]

#: The most important first.
OBJECTIVES = ("safety", "lane", "progress")
ACTIONS = ("left", "keep going", "right", "faster", "slower")
#: Steps of one second that are looked ahead.
AHEAD = 3
_KEEP_GOING = 1
_UNKNOWN = np.full(3, np.nan)
_SEEN, _FEATURES = 6, ("presence", "x", "y", "vx", "vy")
_CONFIG: dict[str, Any] = {
    "vehicles_count": 8,
    "lanes_count": 3,
    "duration": 1000,
    "vehicles_density": 1.5,
    "observation": {
        "type": "Kinematics",
        "vehicles_count": _SEEN,
        "features": list(_FEATURES),
        "absolute": False,
        "normalize": True,
        "order": "sorted",
    },
}


@dataclass(frozen=True)
class Situations:
    """Situations on the road and what each action leads to.

    Attributes:
        seen: (n, inputs) what the driver sees: presence, place and speed of itself and of the five nearest.
        values: (n, actions, objectives) from 0 to 1, over the next ``AHEAD`` steps: safety, whether it did
            not crash; lane, how far right it drove (1 in the right lane); progress, how fast, between 20 and
            30 m/s. After a crash it has neither lane nor progress.
        taught: (n, objectives) which action the rule-based driver takes, in the manner of each objective.
        roads: one row a vehicle: situation, x, y (m; x from the driver), speed (m/s), own.
    """

    seen: torch.Tensor
    values: torch.Tensor
    taught: torch.Tensor
    roads: pd.DataFrame

    def __len__(self) -> int:
        return len(self.seen)


def _road() -> Any:
    try:
        from highway_env.envs import HighwayEnvFast
    except ImportError as error:
        raise DataError("the package 'highway-env' is not installed; install requirements.lock.") from error
    return HighwayEnvFast(config=_CONFIG)


def _terms(info: dict[str, Any]) -> np.ndarray:
    found = info["rewards"]
    crashed = float(found["collision_reward"])
    here = [float(found["right_lane_reward"]), float(np.clip(found["high_speed_reward"], 0, 1))]
    return np.array([1 - crashed, *(value * (1 - crashed) for value in here)])


def _tried(road: Any, action: int) -> np.ndarray:
    """Return the three values of an action on a copy of the road."""
    copy, total = deepcopy(road), np.zeros(3)
    for step in range(AHEAD):
        _, _, over, _, info = copy.step(action if step == 0 else _KEEP_GOING)
        total += _terms(info)
        if over:
            return np.array([0.0, *(total[1:] / AHEAD)])
    return np.array([1.0, *(total[1:] / AHEAD)])


@remembered(maxsize=2)
def situations(count: int, seed: int, *, tried: bool = True) -> Situations:
    """Return situations of a driver that acts at random, and starts anew after every crash.

    Args:
        count: how many.
        seed: of the road and of its actions.
        tried: whether each action is tried out; else ``values`` are nan, in a small part of the time.

    Raises:
        DataError: highway-env is not installed.
    """
    rng = np.random.default_rng(seed)
    road, seen, values, taught, vehicles = _road(), [], [], [], []
    given, _ = road.reset(seed=int(rng.integers(2**31)))
    for number in range(count):
        seen.append(given.flatten())
        some = [_tried(road, action) if tried else _UNKNOWN for action in range(len(ACTIONS))]
        values.append(some)
        taught.append([manner.action(road) for manner in MANNERS])
        own = road.vehicle
        for vehicle in road.road.vehicles:
            x, y = (float(v) for v in vehicle.position)
            row = {"situation": number, "x": x - float(own.position[0]), "y": y}
            vehicles.append(row | {"speed": float(vehicle.speed), "own": vehicle is own})
        given, _, over, _, _ = road.step(int(rng.integers(len(ACTIONS))))
        if over:
            given, _ = road.reset(seed=int(rng.integers(2**31)))
    return Situations(
        torch.tensor(np.array(seen), dtype=torch.float32),
        torch.tensor(np.array(values), dtype=torch.float32),
        torch.tensor(taught),
        pd.DataFrame(vehicles),
    )


class Driver(nn.Module):
    """What is seen → logits of the actions, one for each objective: of one network, or of three.

    Args:
        shared: whether one network serves all three, as a driver must.
        width: of its two layers.
    """

    def __init__(self, *, shared: bool, width: int = 32) -> None:
        super().__init__()
        inputs = _SEEN * len(_FEATURES)
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
                nn.Linear(width, len(ACTIONS)),
            )
            for _ in range(1 if shared else len(OBJECTIVES))
        )  # fmt: skip

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the probabilities (n, actions, objectives)."""
        found = [net(seen).softmax(dim=1) for net in self.nets]
        return torch.stack(found * (len(OBJECTIVES) // len(found)), dim=2)

    def logs(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the logarithms of the probabilities (n, actions, objectives), nats."""
        found = [net(seen).log_softmax(dim=1) for net in self.nets]
        return torch.stack(found * (len(OBJECTIVES) // len(found)), dim=2)


def new_driver(*, shared: bool, seed: int) -> Driver:
    """Return an untrained driver."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Driver(shared=shared)


def driver_losses(driver: nn.Module, seen: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return, situation by situation, minus the expected value of each objective, (n, objectives)."""
    return -(driver(seen) * values).sum(1)


def imitation_losses(driver: Driver, seen: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Return, situation by situation, −log of the probability of what each teacher does, (n, objectives)."""
    return -driver.logs(seen).gather(1, taught[:, None])[:, 0]


@torch.no_grad()
def drive(driver: nn.Module | int | Manner, episodes: int, steps: int, seed: int) -> dict[str, float]:
    """Let a driver drive, always with its likeliest action; or one that knows a single action, or the rules.

    Returns:
        crashes (share of the episodes), lane and progress (means over all steps; 0 after a crash).
    """
    rng = np.random.default_rng([seed, 1])
    road, crashes, total = _road(), 0, np.zeros(3)
    for _ in range(episodes):
        given, _ = road.reset(seed=int(rng.integers(2**31)))
        for _ in range(steps):
            if isinstance(driver, int):
                action = driver
            elif isinstance(driver, Manner):
                action = driver.action(road)
            else:
                logits = driver(torch.tensor(given.flatten(), dtype=torch.float32)[None])
                action = int(logits[0, :, 0].argmax())
            given, _, over, _, info = road.step(action)
            total += _terms(info)
            if over:
                crashes += 1
                break
    lane, progress = total[1:] / (episodes * steps)
    return {"crashes": crashes / episodes, "lane": float(lane), "progress": float(progress)}
