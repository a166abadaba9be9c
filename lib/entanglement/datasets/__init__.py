"""Data sets that need no hub: rated tweets and docstring summaries, each yielding preference pairs."""

from entanglement.datasets._archive import DataError, cache_dir
from entanglement.datasets.docstrings import read_docstrings, tldr_pairs
from entanglement.datasets.tweets import VARIANTS, sentiment_pairs, sentiment_tweets

__all__ = [
    "VARIANTS",
    "DataError",
    "cache_dir",
    "read_docstrings",
    "sentiment_pairs",
    "sentiment_tweets",
    "tldr_pairs",
]
