"""Two small quadratic problems in weights of at least 0, posed as least squares (Lawson and Hanson 1974).

Both are posed for gradients of length 1, so that very different lengths do no harm.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

__all__ = ["onto_dual_cone", "root", "shortest_mixture"]


def root(gram: np.ndarray) -> np.ndarray:
    """Return F, (k, k), with FᵀF = gram, where what is no more than rounding counts as 0."""
    values, vectors = np.linalg.eigh(gram)
    values[values < len(gram) * np.finfo(float).eps * max(values.max(), 0.0)] = 0.0
    return np.sqrt(values)[:, None] * vectors.T


def shortest_mixture(cosine: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the weights, at least 0 and of sum 1, of the shortest mixture of k gradients.

    Among v ≥ 0 of one direction, vᵀGv + (Σv − 1)² is least at q/(1 + q), where q is the square of the mixture
    that v/Σv makes, and this grows with q. So a problem of least squares has the same direction.

    Args:
        cosine: (k, k) of the gradients.
        lengths: (k,) their norms, positive.
    """
    sums = lengths.min() / lengths
    found, _ = nnls(np.vstack([root(cosine), sums]), np.append(np.zeros(len(cosine)), 1.0))
    mixture = found * sums
    return mixture / mixture.sum()


def onto_dual_cone(weights: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Return the v ≥ weights with the shortest Σ v_j g_j, (k,).

    It is the step nearest to Σ w_j g_j that lowers no objective.
    """
    lengths = np.sqrt(np.diag(gram))
    safe = np.where(lengths > 0, lengths, 1.0)
    f = root(gram / safe[:, None] / safe[None, :])
    found, _ = nnls(f, -f @ (lengths * weights))
    return weights + np.where(lengths > 0, found / safe, 0.0)
