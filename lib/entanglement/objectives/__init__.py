"""Two or more objectives of any model become a geometry: ranking, vision, driving, recommending, language.

``objective_geometry`` gives the Gram matrix of k objectives' gradients, example by example from k backward
passes over the batch and by the same rules as for pairs, or for the batch as a whole. What follows from it
is ``ObjectiveGeometry``'s: who rises, who is dragged down by whom, whether all can rise. ``aggregate`` turns
it into weights by a rule of multi-objective optimization. ``objective_gradients`` is the slow and plain
reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from entanglement.gradients.select import Parameters, select_parameters
from entanglement.objectives.aggregation import aggregate
from entanglement.objectives.by_rules import gram_by_batch, gram_by_example
from entanglement.objectives.gram import ObjectiveGeometry
from entanglement.objectives.oracle import objective_gradients
from entanglement.objectives.values import Objective, Objectives, Per, as_functions, check_state
from entanglement.signatures import checked

__all__ = [
    "Objective",
    "ObjectiveGeometry",
    "Objectives",
    "Per",
    "aggregate",
    "objective_geometry",
    "objective_gradients",
]


@checked(objectives=None, batch=None)
def objective_geometry(
    model: nn.Module,
    objectives: Objectives,
    batch: Any,
    parameters: Parameters = "all",
    *,
    per: Per = "example",
    names: Sequence[str] = (),
    strict: bool = False,
) -> ObjectiveGeometry:
    """Return the inner products of the gradients of k objectives, all of which are to be *raised*.

    Hand a loss over with its sign turned: ``lambda model, batch: -cross_entropy(…, reduction="none")``. With
    the sign of a loss left as it is, "rises" says that the loss does.

    Args:
        model: any module, in evaluation mode (or without dropout and batch normalization).
        objectives: at least two functions (model, batch) → (B,), one number an example; or one function that
            returns (B, k), which needs only one forward pass for all.
        batch: whatever the functions take.
        parameters: "all", "trainable" or a predicate on names, as for pairs.
        per: "example": the geometry of each example alone. "batch": of the mean over the batch, or of the
            one number that a function returns for the whole batch (then of shape (), or (k,)); for objectives
            that look at several examples at once, as contrast in a batch does. Forms k whole gradients.
        names: of the objectives.
        strict: refuse, by name, a parameter that is used in a way no rule covers. Otherwise it is measured
            by one backward pass an objective and example, with an ``UncoveredParameterWarning``.

    Returns:
        ObjectiveGeometry, (B, k, k) or (1, k, k). The model's ``.grad``, ``requires_grad``, mode and buffers
        are left as they were.

    Raises:
        ValueError: active dropout; by example, batch normalization in training mode, or an objective that
            looks at other examples (seen where their gradients pass through layers with a rule); a shape that
            is not one number an example; a value that is not finite; or an objective without any gradient (if
            it only does not depend on the selected parameters, its gradient is zero).
    """
    where = "objective_geometry"
    functions = as_functions(objectives)
    check_state(model, per, where)
    selected = select_parameters(model, parameters)
    if per == "batch":
        gram = gram_by_batch(model, functions, batch, selected, where)
    else:
        gram = gram_by_example(model, functions, batch, selected, where, strict=strict)
    return ObjectiveGeometry(gram, tuple(names))
