"""Rankings: k candidates of one prompt, ordered by how good they are, where a pair has two.

``get_ranking`` gives a loss and the weight of each candidate, ``rank`` trains with it, and ``list_geometry``
gives the inner products of the candidates' gradients, from which follows who is dragged by whom.
"""

from __future__ import annotations

from entanglement.ranking.lists import RankedList, list_geometry, list_logps
from entanglement.ranking.losses import RANKINGS, Ranking, get_ranking, list_rankings
from entanglement.ranking.ordering import rank

__all__ = [
    "RANKINGS",
    "RankedList",
    "Ranking",
    "get_ranking",
    "list_geometry",
    "list_logps",
    "list_rankings",
    "rank",
]
