"""Answers of controlling each response: the shortest step for two requests, and two ways at one margin."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from entanglement.geometry import PairGeometry
from entanglement.updates.plans import plan
from entanglement_book.exercises import Check

__all__ = ["CHECKS"]

Place = tuple[float, float]


def _request(seed: int, t_w: float, t_l: float) -> tuple[torch.Tensor, torch.Tensor, float, float]:
    """Two gradients that share most of their length, and two requests."""
    generator = torch.Generator().manual_seed(seed)
    shared, w, l = torch.randn(3, 6, generator=generator, dtype=torch.float64)  # noqa: E741
    return 2 * shared + w, 3 * shared + l, t_w, t_l


def _step(g_w: torch.Tensor, g_l: torch.Tensor, t_w: float, t_l: float, sign: float = -1.0) -> torch.Tensor:
    found = plan(PairGeometry.from_vectors(g_w, g_l), t_w, t_l, nonnegative=False)
    return found.x_w * g_w + sign * found.x_l * g_l


def _one_at_a_time(g_w: torch.Tensor, g_l: torch.Tensor, t_w: float, t_l: float) -> torch.Tensor:
    return t_w * g_w / (g_w @ g_w) + t_l * g_l / (g_l @ g_l)


def _sign_forgotten(g_w: torch.Tensor, g_l: torch.Tensor, t_w: float, t_l: float) -> torch.Tensor:
    return _step(g_w, g_l, t_w, t_l, sign=1.0)


def _requests_swapped(g_w: torch.Tensor, g_l: torch.Tensor, t_w: float, t_l: float) -> torch.Tensor:
    return _step(g_w, g_l, t_l, t_w)


def _margin_alone(g_w: torch.Tensor, g_l: torch.Tensor, t_w: float, t_l: float) -> torch.Tensor:
    apart = g_w - g_l
    return (t_w - t_l) * apart / (apart @ apart)


Path = NDArray[np.float64]


def _path(seed: int, margin: float) -> tuple[Path, float]:
    """Both changes at the measured moments of a run, whose margin grows from moment to moment."""
    drawn = np.random.default_rng(seed)
    together, margins = -np.cumsum(drawn.uniform(0, 0.3, 6)), np.cumsum(drawn.uniform(0.05, 0.3, 6))
    ends = np.stack([together + margins / 2, together - margins / 2], axis=1)
    return np.vstack([np.zeros((1, 2)), ends]), margin


def _stopped(path: Path, margin: float) -> Place:
    margins = path[:, 0] - path[:, 1]
    return float(np.interp(margin, margins, path[:, 0])), float(np.interp(margin, margins, path[:, 1]))


def _at_the_end(path: Path, margin: float) -> Place:
    return float(path[-1, 0]), float(path[-1, 1])


def _next_moment(path: Path, margin: float) -> Place:
    at = int(np.argmax(path[:, 0] - path[:, 1] >= margin))
    return float(path[at, 0]), float(path[at, 1])


def _end_scaled(path: Path, margin: float) -> Place:
    share = margin / (path[-1, 0] - path[-1, 1])
    return float(share * path[-1, 0]), float(share * path[-1, 1])


def _rejected_first(path: Path, margin: float) -> Place:
    chosen, rejected = _stopped(path, margin)
    return rejected, chosen


CHECKS: dict[str, Check] = {
    "13.1": Check(
        right=_step,
        mistakes=[
            (
                _one_at_a_time,
                "each part alone meets its request, but it moves the other answer as well.",
            ),
            (_sign_forgotten, "the rejected gradient enters with the wrong sign."),
            (_requests_swapped, "the two requests are swapped."),
            (_margin_alone, "the margin is right, but where the two answers end is left to the gradients."),
        ],
        inputs=[_request(0, 1.0, -1.0), _request(1, 0.5, 0.0), _request(2, 0.0, -1.0), _request(3, 1.0, 0.5)],
        praise="Any other step with these two changes is longer: what it has more changes neither answer.",
    ),
    "13.4": Check(
        right=_stopped,
        mistakes=[
            (_at_the_end, "this is the end of the run, at another margin."),
            (_next_moment, "this is the first measured moment beyond the margin, not the margin itself."),
            (_end_scaled, "this scales the run's end, as if both answers had moved along one line."),
            (_rejected_first, "the order is wrong: the chosen answer comes first."),
        ],
        inputs=[_path(0, 0.35), _path(1, 0.6), _path(2, 0.45)],
        praise="At one margin, what is left to compare is how far both answers moved together.",
    ),
}
