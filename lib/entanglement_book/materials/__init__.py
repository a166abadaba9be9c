"""Data sets that need no hub: rated tweets and docstring summaries, each yielding preference pairs."""

from entanglement.archive import DataError, cache_dir
from entanglement_book.materials.docstrings import read_docstrings, tldr_pairs
from entanglement_book.materials.tweets import VARIANTS, sentiment_pairs, sentiment_tweets

__all__ = [
    "VARIANTS",
    "DataError",
    "cache_dir",
    "read_docstrings",
    "sentiment_pairs",
    "sentiment_tweets",
    "tldr_pairs",
]
