"""Data sets that need no hub: rated tweets and docstring summaries, each yielding preference pairs, and, for
what lies beyond language, pictures of two digits, genes with many labels, and ratings of films.
"""

from entanglement.archive import DataError, cache_dir
from entanglement_book.materials.digit_scenes import DigitScenes, digit_scenes
from entanglement_book.materials.docstrings import read_docstrings, tldr_pairs
from entanglement_book.materials.genes import yeast_genes
from entanglement_book.materials.movielens import load_movies, load_ratings
from entanglement_book.materials.tweets import VARIANTS, sentiment_pairs, sentiment_tweets

__all__ = [
    "VARIANTS",
    "DataError",
    "DigitScenes",
    "cache_dir",
    "digit_scenes",
    "load_movies",
    "load_ratings",
    "read_docstrings",
    "sentiment_pairs",
    "sentiment_tweets",
    "tldr_pairs",
    "yeast_genes",
]
