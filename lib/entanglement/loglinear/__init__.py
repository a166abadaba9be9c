"""The paper's section 4 in closed form: models small enough that every quantity is exact. All float64.

``OneToken`` and ``TrainableOneToken`` for responses of one token; ``LogLinear`` for sequences with frozen
features and a shared output matrix; ``PrefixTabular`` and ``PositionTabular`` for tables of logits.
"""

from __future__ import annotations

from entanglement.loglinear.one_token import OneToken, TrainableOneToken
from entanglement.loglinear.sequence import GapTerms, LogLinear
from entanglement.loglinear.simulate import (
    Relation,
    distinct_tokens,
    random_log_linear,
    random_one_token,
    random_trainable,
    simplex_grid,
    suffix_pairs,
)
from entanglement.loglinear.tabular import PositionTabular, PrefixTabular, PrefixTerms

__all__ = [
    "GapTerms",
    "LogLinear",
    "OneToken",
    "PositionTabular",
    "PrefixTabular",
    "PrefixTerms",
    "Relation",
    "TrainableOneToken",
    "distinct_tokens",
    "random_log_linear",
    "random_one_token",
    "random_trainable",
    "simplex_grid",
    "suffix_pairs",
]
