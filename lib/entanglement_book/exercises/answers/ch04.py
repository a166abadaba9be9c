"""Every margin loss: a loss whose margin falls, and losses that answer a fall."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import logsigmoid

from entanglement.geometry import PairGeometry
from entanglement.losses import PairLogps, get_loss
from entanglement_book.exercises.checking import Check

TwoNumbers = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

#: Where a loss is looked at: rejected ahead, both level, chosen ahead.
_PLACES = ([-8.0, -2.0], [-5.0, -5.0], [-2.0, -8.0])


def _found(loss: TwoNumbers) -> list[tuple[bool, bool, bool]]:
    """At each place: whether d_w > 0, whether d_l > 0, and whether a step lowers the margin."""
    pair = PairGeometry.from_vectors([2.0, 1.0], [3.0, 1.0])
    rows = []
    for place in _PLACES:
        f = torch.tensor(place, dtype=torch.float64, requires_grad=True)
        [gradient] = torch.autograd.grad(loss(f[0], f[1]), f)
        d_w, d_l = -float(gradient[0]), float(gradient[1])
        rows.append((d_w > 0, d_l > 0, float(pair.margin_change(1.0, d_w, d_l)) < 0))
    return rows


def _pulled(much: float) -> Callable[[], list[tuple[bool, bool, bool]]]:
    return lambda: _found(lambda f_w, f_l: -much * f_w - logsigmoid(f_w - f_l))


def _margin_alone() -> list[tuple[bool, bool, bool]]:
    return _found(lambda f_w, f_l: -logsigmoid(f_w - f_l))


def _likelihood_alone() -> list[tuple[bool, bool, bool]]:
    return _found(lambda f_w, f_l: -f_w + 0 * f_l)


def _without_minus() -> list[tuple[bool, bool, bool]]:
    return _found(lambda f_w, f_l: 2 * f_w + logsigmoid(f_w - f_l))


def _weights(name: str, now: tuple[float, float], reference: tuple[float, float]) -> tuple[float, float]:
    """A loss's weights at β = 0.1, with ten tokens in each answer."""
    f_w, f_l, ref_w, ref_l = torch.tensor([*now, *reference], dtype=torch.float64).reshape(4, 1)
    ten = torch.tensor([10])
    d_w, d_l = get_loss(name, beta=0.1).weights(PairLogps(f_w, f_l, ref_w, ref_l, ten, ten))
    return float(d_w), float(d_l)


def _ratio(name: str, fall: float) -> float:
    d_w, d_l = _weights(name, (-12 - fall, -12 - fall), (-12, -12))
    return d_w / d_l


def _reference_too(name: str, fall: float) -> float:
    d_w, d_l = _weights(name, (-12 - fall, -12 - fall), (-12 - fall, -12 - fall))
    return d_w / d_l


def _risen(name: str, fall: float) -> float:
    return _ratio(name, -fall)


def _inverted(name: str, fall: float) -> float:
    return 1 / _ratio(name, fall)


def _chosen_only(name: str, fall: float) -> float:
    d_w, d_l = _weights(name, (-12 - fall, -12), (-12, -12))
    return d_w / d_l


CHECKS: dict[str, Check] = {
    "04.3": Check(
        right=_pulled(1.0),
        mistakes=[
            (_margin_alone, "your loss sees the margin alone, so r = 1 and the margin grows everywhere."),
            (
                _pulled(0.2),
                "the margin falls at one of the three places. Elsewhere your pull on the chosen answer is "
                "too weak beside the push: what is the largest value that d_l takes?",
            ),
            (_likelihood_alone, "the margin falls, but nothing pushes on the rejected answer."),
            (_without_minus, "your weights are negative: a loss falls when what it wants rises."),
        ],
        praise="Both weights are positive, the loss falls in every small step, and so does the margin.",
    ),
    "04.4": Check(
        right=_ratio,
        mistakes=[
            (
                _reference_too,
                "your reference has fallen along with the model, so no loss can see the fall.",
            ),
            (_risen, "both answers have risen here. A log-probability that falls becomes more negative."),
            (_inverted, "your ratio stands on its head: r is d_w/d_l."),
            (_chosen_only, "only the chosen answer has fallen here; the rejected one is to fall as far."),
        ],
        inputs=[("dpo", 5.0), ("kto", 5.0), ("bco", 5.0), ("nca", 5.0), ("dpop", 5.0)],
        praise="DPO and KTO do not notice. BCO and NCA pull the harder the further both fell, DPOP at once.",
    ),
}
