"""Audit your own data: the way that a run will walk, and what a log of TRL's says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from entanglement_book.exercises.checking import Check

Log = Mapping[str, Sequence[float]]
Reading = tuple[float, float, float, float]


def _scale(steps: np.ndarray) -> np.ndarray:
    return np.sqrt((steps**2).mean(axis=0))


def _told(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    """To first order: the mean of the batches, each coordinate over its root mean square."""
    return float(length * (h @ (steps.mean(axis=0) / _scale(steps))))


def _plain(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    return float(length * (h @ steps.mean(axis=0)))


def _without_root(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    return float(length * (h @ (steps.mean(axis=0) / _scale(steps) ** 2)))


def _one_norm(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    mean = steps.mean(axis=0)
    return float(length * (h @ mean) / np.linalg.norm(mean))


def _of_the_mean(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    return float(length * (h @ np.sign(steps.mean(axis=0))))


def _spread(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    return float(length * (h @ (steps.mean(axis=0) / steps.std(axis=0))))


def _summed(h: np.ndarray, steps: np.ndarray, length: float) -> float:
    return len(steps) * _told(h, steps, length)


def _walks() -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Held-out gradients, batches and lengths; in the first, AdamW's sign is not that of a plain step."""
    rng = np.random.default_rng(17)
    first = np.array([[3.0, 0.2], [-1.0, 0.1], [2.5, 0.15], [-1.5, 0.12]])
    return [
        (np.array([1.0, -1.0]), first, 0.5),
        (rng.normal(size=5), rng.normal(0.4, 1.0, size=(8, 5)), 0.01),
        (rng.normal(size=3), rng.normal(-0.2, 2.0, size=(6, 3)), 2.0),
    ]


_LOG = {
    "step": [1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60],
    "rewards/chosen": [
        0, -0.0006, -0.0720, -0.0586, -0.0996, -0.1447, -0.1647, -0.1580, -0.1936, -0.1199, -0.1713, -0.1872,
        -0.1692,
    ],
    "rewards/rejected": [
        0, -0.0238, -0.0978, -0.1574, -0.2532, -0.3322, -0.3288, -0.3310, -0.4185, -0.3583, -0.3438, -0.4823,
        -0.4226,
    ],
    "rewards/margins": [
        0, 0.0232, 0.0258, 0.0988, 0.1536, 0.1875, 0.1641, 0.1729, 0.2249, 0.2384, 0.1725, 0.2951, 0.2534,
    ],
    "logps/chosen": [
        -32.36, -32.32, -32.23, -28.69, -32.84, -36.56, -33.85, -39.01, -32.71, -37.94, -32.79, -36.52,
        -39.67,
    ],
    "logps/rejected": [
        -41.46, -41.20, -38.74, -34.57, -38.11, -40.65, -37.11, -39.94, -38.23, -39.35, -38.20, -36.59,
        -39.84,
    ],
}  # fmt: skip
#: Another one, made up: its first row is no start, and the chosen answer comes back once.
_OTHER = {
    "step": [10, 20, 30, 40, 50, 60],
    "rewards/chosen": [-0.10, -0.06, 0.02, -0.08, -0.21, -0.24],
    "rewards/rejected": [-0.12, -0.15, -0.10, -0.19, -0.42, -0.51],
    "rewards/margins": [0.02, 0.09, 0.12, 0.11, 0.21, 0.27],
    "logps/chosen": [-80.0, -71.5, -77.2, -84.1, -79.3, -90.2],
    "logps/rejected": [-83.0, -74.0, -85.5, -80.7, -88.8, -93.6],
}


def _reading(chosen: np.ndarray, rejected: np.ndarray, steps: Sequence[float]) -> Reading:
    down = (chosen < -0.5) & (rejected < -0.5)
    step = next((step for k, step in enumerate(steps) if down[k:].all()), float("nan"))
    w, low = float(chosen[-3:].mean()), float(rejected[-3:].mean())
    return float(step), w, low, -low / (w - low)


def _rewards(log: Log) -> tuple[np.ndarray, np.ndarray]:
    return np.array(log["rewards/chosen"]), np.array(log["rewards/rejected"])


def _read(log: Log, beta: float) -> Reading:
    """From which step on both are half a nat down, their changes at the end, and the rejected one's share."""
    chosen, rejected = _rewards(log)
    return _reading(chosen / beta, rejected / beta, log["step"])


def _as_they_stand(log: Log, beta: float) -> Reading:
    return _reading(*_rewards(log), log["step"])


def _multiplied(log: Log, beta: float) -> Reading:
    chosen, rejected = _rewards(log)
    return _reading(chosen * beta, rejected * beta, log["step"])


def _between_batches(log: Log, beta: float) -> Reading:
    chosen, rejected = (np.array(log[f"logps/{side}"]) for side in ("chosen", "rejected"))
    return _reading(chosen - chosen[0], rejected - rejected[0], log["step"])


def _levels(log: Log, beta: float) -> Reading:
    chosen, rejected = (np.array(log[f"logps/{side}"]) for side in ("chosen", "rejected"))
    return _reading(chosen, rejected, log["step"])


def _from_the_first_row(log: Log, beta: float) -> Reading:
    chosen, rejected = _rewards(log)
    return _reading((chosen - chosen[0]) / beta, (rejected - rejected[0]) / beta, log["step"])


def _to_the_chosen(log: Log, beta: float) -> Reading:
    step, chosen, rejected, share = _read(log, beta)
    return step, chosen, rejected, 1 - share


def _of_all_movement(log: Log, beta: float) -> Reading:
    step, chosen, rejected, _ = _read(log, beta)
    return step, chosen, rejected, abs(rejected) / (abs(chosen) + abs(rejected))


def _turned(log: Log, beta: float) -> Reading:
    step, chosen, rejected, share = _read(log, beta)
    return step, chosen, rejected, -share


CHECKS: dict[str, Check] = {
    "17.2": Check(
        right=_told,
        inputs=_walks(),
        mistakes=[
            (_plain, "this is a plain step. What does AdamW do to each coordinate before it steps?"),
            (_without_root, "AdamW divides by the *root* of the mean square."),
            (_one_norm, "one number divides all coordinates here; each coordinate has a size of its own."),
            (
                _of_the_mean,
                "this divides the mean by its own size. Squares are taken batch by batch, before the mean.",
            ),
            (_spread, "a standard deviation takes the mean off first; a mean square does not."),
            (_summed, "the length is that of the whole run already: the batches are averaged, not summed."),
        ],
        praise="Where a coordinate's sign changes from batch to batch, the walk along it is short.",
    ),
    "17.3": Check(
        right=_read,
        inputs=[(_LOG, 0.1), (_OTHER, 0.05)],
        mistakes=[
            (_as_they_stand, "a reward is β times a change of a log-probability. These are not nats yet."),
            (_multiplied, "at a smaller β the same reward means a longer way, not a shorter one."),
            (
                _between_batches,
                "each row of logps is a mean over other pairs, some short and some long, so that its changes "
                "are mostly those of the batch. Which columns compare the same pairs with the reference?",
            ),
            (_levels, "how likely an answer is does not say how far it has moved. From where?"),
            (
                _from_the_first_row,
                "the first row that was logged need not be the start. Where are both rewards 0?",
            ),
            (_to_the_chosen, "this is what the chosen answer adds to the margin. Look at its sign."),
            (
                _of_all_movement,
                "the chosen answer's fall takes from the margin and adds nothing to it. Divide by the "
                "margin's growth; a share above 1 is allowed.",
            ),
            (_turned, "the rejected answer falls, and the margin grows by that: a share above 0."),
        ],
        praise="More than the whole margin is the rejected answer's fall: the chosen one's takes some back.",
    ),
}  # fmt: skip
