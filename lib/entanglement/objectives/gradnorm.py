"""GradNorm: weights of k losses that are learned along with the model, from gradients' norms and progress.

Chen, Badrinarayanan, Lee and Rabinovich 2018, arXiv 1711.02257. A rule of ``aggregate`` looks at one Gram
matrix; this one looks at how far each loss has come since the first step, and so is no such rule. torchjd
0.18 has it not, and the packages that do also make the backward passes themselves; it is short enough to be
written here, as arithmetic that knows no model.
"""

from __future__ import annotations

import torch

from entanglement.checks import non_negative
from entanglement.geometry import Numbers, as_float64
from entanglement.signatures import checked

__all__ = ["gradnorm"]


@checked(weights=None, norms=None, losses=None, first=None, alpha=non_negative, lr=non_negative)
def gradnorm(
    weights: Numbers,
    norms: Numbers,
    losses: Numbers,
    first: Numbers,
    *,
    alpha: float = 1.5,
    lr: float = 0.025,
) -> torch.Tensor:
    """Return the weights of the next step, after this step's have been used.

    With G_i = w_i‖∇L_i‖ and r_i the share of loss i that is left, L_i/L_i(0), over its mean, GradNorm wants
    G_i to be mean(G)·r_i^α: losses of any unit pull alike, and those that lag pull more. It takes one step
    down the sum of the distances of G_i from that, in which what is wanted counts as constant, and makes the
    weights sum to k again. The paper takes that step in w with Adam, where a weight may turn negative; here
    it is taken in log w, in units of mean(G), so that neither the sign nor the unit of a loss matters.

    Args:
        weights: (k,) of this step, positive; 1 each at first.
        norms: (k,) of the gradients of the unweighted losses, with respect to parameters that they share.
            The paper takes the last shared layer's, which costs little more than the step itself.
        losses: (k,) now, at least 0.
        first: (k,) before training, positive.
        alpha: how much more one that lags shall pull; 0 for the same pull of all.
        lr: of the weights.

    Returns:
        (k,) float64, positive, of sum k.

    Raises:
        ValueError: shapes that differ, fewer than two losses, or a number out of its range.
    """
    found = {"weights": weights, "norms": norms, "losses": losses, "first": first}
    given = {name: as_float64(value, name) for name, value in found.items()}
    k = given["weights"].numel()
    for name, value in given.items():
        least = "positive" if name in ("weights", "first") else "at least 0"
        fits = bool((value > 0).all() if least == "positive" else (value >= 0).all())
        if value.ndim != 1 or len(value) != k or k < 2 or not fits or not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"gradnorm: {name} is {value.tolist()!r}; expected {max(k, 2)} finite numbers, {least}."
            )
    w, pull = given["weights"], given["weights"] * given["norms"]
    left = given["losses"] / given["first"]
    if not bool(pull.any()) or not bool(left.any()):  # nothing pulls, or nothing is left to do
        return w * (k / w.sum())
    wanted = pull.mean() * (left / left.mean()) ** alpha
    stepped = w * torch.exp(-lr * torch.sign(pull - wanted) * pull / pull.mean())
    return stepped * (k / stepped.sum())
