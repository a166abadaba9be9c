"""From the Gram matrix of k objectives to the weights of a step: rules of multi-objective optimization.

The rules are torchjd's (Quinton and Rey 2024, arXiv 2406.16232): each looks at the Gram matrix alone.
GradNorm (Chen et al. 2018, arXiv 1711.02257) is not among them, nor elsewhere in torchjd 0.18: it trains its
weights along with the model, from the history of the losses, and so is no function of a Gram matrix
(``entanglement.objectives.gradnorm``). Nearest here is IMTL-G, which asks of a single step what GradNorm
works toward, the same pull on every objective.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from entanglement.checks import torch_seed
from entanglement.geometry import Numbers, as_float64
from entanglement.objectives.cone import onto_dual_cone
from entanglement.objectives.gram import ObjectiveGeometry
from entanglement.registry import Registry
from entanglement.signatures import checked

__all__ = ["AGGREGATIONS", "Aggregation", "aggregate"]


@checked()
@dataclass(frozen=True)
class Aggregation:
    """A declaration of a rule.

    Attributes:
        title: as the book writes it.
        make: returns a function from (k, k) to (k,) weights.
    """

    title: str
    make: Callable[[], Callable[[torch.Tensor], torch.Tensor]]


#: Name → rule.
AGGREGATIONS: Registry[Aggregation] = Registry(
    "aggregation", package="entanglement.objectives", printed=("title",)
)


def _projector() -> Any:
    """Return what UPGrad and DualProj project with.

    torchjd's own wants a solver under the GPL, and adds 10⁻⁴ to the diagonal.
    """
    base: Any = importlib.import_module("torchjd.linalg").DualConeProjector

    class LeastSquares(base):
        def __call__(self, U: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
            rows = [onto_dual_cone(row, G.double().numpy()) for row in U.double().reshape(-1, len(G)).numpy()]
            return torch.tensor(np.array(rows)).reshape(U.shape)

    return LeastSquares()


def _torchjd(title: str, weighting: str, *, projects: bool = False, **options: float) -> Aggregation:
    """Return the declaration of one of torchjd's weightings; torchjd is imported when it is first used."""

    def make() -> Callable[[torch.Tensor], torch.Tensor]:
        try:
            found: Any = getattr(importlib.import_module("torchjd.aggregation"), weighting)
            return found(**options, **({"projector": _projector()} if projects else {}))
        except ImportError as error:
            raise ImportError(
                f"{title}: needs the optional packages of entanglement[objectives] (torchjd and what it "
                "solves with); install them with: pip install '.[objectives]'"
            ) from error

    return Aggregation(title, make)


@checked(gram=None, seed=torch_seed)
def aggregate(gram: Numbers | ObjectiveGeometry, rule: str, *, seed: int = 0) -> torch.Tensor:
    """Return the weights w of a step Σ_j w_j g_j, as a rule chooses them.

    Args:
        gram: (k, k) or (B, k, k) inner products of the gradients of objectives that are to be raised, or
            their geometry. (With the gradients of losses the weights are the same: both signs turn.)
        rule: of ``AGGREGATIONS``: "mean", "pcgrad" (Yu et al. 2020), "mgda" (Désidéri 2012; by Frank–Wolfe,
            exact for two, while ``ObjectiveGeometry.shortest`` is exact for all), "cagrad" (Liu et al. 2021,
            radius ½), "upgrad" and "dualproj" (Quinton and Rey 2024; the second as in GEM), "imtl-g" (Liu et
            al. 2021), "aligned-mtl" (Senushkin et al. 2023).
        seed: of the order in which PCGrad takes three or more objectives. No other random numbers are drawn.

    Returns:
        (k,) or (B, k), float64, of the rule's own scale (the mean's sum to 1, PCGrad's to at least k).

    Raises:
        ValueError: an unknown rule, a gram that no gradients have, or weights that are not finite.
        ImportError: torchjd is missing.
    """
    geometry = gram if isinstance(gram, ObjectiveGeometry) else ObjectiveGeometry(as_float64(gram, "gram"))
    weigh = AGGREGATIONS[rule].make()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        rows = [weigh(each).double().cpu() for each in geometry.gram]
    weights = torch.stack(rows) if rows else torch.zeros(0, geometry.k, dtype=torch.float64)
    bad = ~torch.isfinite(weights).all(dim=1)
    if bool(bad.any()):
        raise ValueError(
            f"aggregate: gram of example {int(bad.nonzero()[0])} has no finite weights by {rule!r}."
        )
    single = not isinstance(gram, ObjectiveGeometry) and torch.as_tensor(gram).ndim == 2
    return weights[0] if single else weights


AGGREGATIONS.add("mean", _torchjd("the mean", "MeanWeighting"))
AGGREGATIONS.add("pcgrad", _torchjd("PCGrad", "PCGradWeighting"))
AGGREGATIONS.add("mgda", _torchjd("MGDA", "MGDAWeighting"))
AGGREGATIONS.add("cagrad", _torchjd("CAGrad", "CAGradWeighting", c=0.5))
AGGREGATIONS.add("upgrad", _torchjd("UPGrad", "UPGradWeighting", projects=True))
AGGREGATIONS.add("dualproj", _torchjd("DualProj", "DualProjWeighting", projects=True))
AGGREGATIONS.add("imtl-g", _torchjd("IMTL-G", "IMTLGWeighting"))
AGGREGATIONS.add("aligned-mtl", _torchjd("Aligned-MTL", "AlignedMTLWeighting"))
