"""What lies beyond language: pictures of two digits, genes with many labels, ratings from a made-up wheel."""

from __future__ import annotations

import io
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.files import sha256
from entanglement_book.materials import (
    DataError,
    digit_scenes,
    load_movies,
    load_ratings,
    movielens,
    yeast_genes,
)
from entanglement_book.materials.digit_scenes import SIDE, source_rows

# --- two digits ---------------------------------------------------------------------------------------------


def test_no_scan_is_in_both_splits():
    train, test = (digit_scenes(split, 400, 3) for split in ("train", "test"))
    assert not set(train.rows.flatten().tolist()) & set(test.rows.flatten().tolist())
    assert not set(source_rows("train")) & set(source_rows("test"))
    assert len({*source_rows("train"), *source_rows("test")}) == 1797


def test_both_digits_are_whole_at_their_corner_and_the_darker_ink_is_seen():
    from sklearn.datasets import load_digits

    found = load_digits()
    scenes = digit_scenes("train", 60, 0)
    assert scenes.images.shape == (60, 1, SIDE, SIDE) and scenes.images.dtype == torch.float32
    assert scenes.images.min() >= 0 and scenes.images.max() == 1
    for image, rows, first, second in zip(
        scenes.images[:, 0].numpy(), scenes.rows.numpy(), scenes.first, scenes.second, strict=True
    ):
        one, other = (found.images[row] / 16 for row in rows)
        assert (first, second) == tuple(found.target[rows])
        fits = []
        for top, left, low, right in np.ndindex(2, 2, 2, 2):
            canvas = np.zeros((2, SIDE, SIDE))
            canvas[0, top : top + 8, left : left + 8] = one
            canvas[1, 4 - low : 12 - low, 4 - right : 12 - right] = other
            fits.append(np.abs(canvas.max(0) - image).max())
        assert min(fits) < 1e-6 < np.median(fits)


def test_a_seed_draws_the_same_pictures_and_another_one_others():
    one, again, other = (digit_scenes("test", 20, seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, again.images) and not torch.equal(one.rows, other.rows)
    assert len(one) == 20


@pytest.mark.parametrize("change", [{"split": "all"}, {"n": 0}, {"seed": -1}])
def test_pictures_that_nobody_can_draw_are_refused(change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))}="):
        digit_scenes(**({"split": "test", "n": 1, "seed": 0} | change))


# --- genes --------------------------------------------------------------------------------------------------


def test_genes_are_split_once_and_standardized_by_those_trained_on():
    (train, asked), (test, _) = yeast_genes("train"), yeast_genes("test")
    assert train.shape == (1700, 103) and test.shape == (717, 103) and asked.shape == (1700, 14)
    assert set(asked.unique().tolist()) == {0.0, 1.0}
    assert train.mean(0).abs().max() < 1e-4 and (train.std(0, correction=0) - 1).abs().max() < 1e-4
    assert test.mean(0).abs().max() > 0.01  # its own mean was not used
    rows = {tuple(row) for row in train.tolist()}
    assert sum(tuple(row) in rows for row in test.tolist()) <= 5  # a few genes are measured alike
    # Every gene does something, and no function belongs to all.
    assert (asked.sum(1) >= 1).all() and asked.mean(0).min() > 0 and asked.mean(0).max() < 1


def test_a_missing_river_is_said_in_one_line(monkeypatch):
    from entanglement_book.materials import genes

    monkeypatch.setitem(sys.modules, "river.datasets", None)
    with pytest.raises(DataError, match=r"^the package 'river' is not installed; [^\n]*\.$"):
        genes._table.__wrapped__()


def test_an_unknown_split_of_genes_is_refused():
    with pytest.raises(ValueError, match=r"^split='all'"):
        yeast_genes("all")


# --- films --------------------------------------------------------------------------------------------------

RATINGS = pd.DataFrame(
    {"user_id": [2, 1, 1, 1], "movie_id": [5, 9, 4, 7], "rating": [3, 5, 1, 2], "timestamp": [8, 6, 6, 2]}
)
MOVIES = pd.DataFrame({"movie_id": [4], "movie_title": ["One (1990)"], "genre": [1]})


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Return put(tables): lay a wheel with these tables where the loader looks for it."""
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))

    def put(tables):
        raw = io.BytesIO()
        with zipfile.ZipFile(raw, "w") as archive:
            for which, table in tables.items():
                data = table if isinstance(table, bytes) else parquet(table)
                archive.writestr(movielens.MEMBER.format(which), data)
        monkeypatch.setattr(movielens, "PACKAGE_SHA256", sha256(raw.getvalue()))
        path = tmp_path / "packages" / movielens.PACKAGE.replace("==", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw.getvalue())

    return put


def parquet(table):
    raw = io.BytesIO()
    table.to_parquet(raw, compression="brotli")
    return raw.getvalue()


def read():
    return movielens._ratings.__wrapped__()


def test_ratings_come_user_by_user_in_the_order_of_time(wheel):
    wheel({"data": RATINGS, "items": MOVIES})
    assert read().to_numpy().tolist() == [[1, 7, 2, 2], [1, 4, 1, 6], [1, 9, 5, 6], [2, 5, 3, 8]]
    assert load_movies().to_dict("list") == {"movie_id": [4], "movie_title": ["One (1990)"]}


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"items": MOVIES}, "holds no .*_data"),
        ({"data": b"no table"}, "holds no .*_data"),
        ({"data": RATINGS.drop(columns="timestamp")}, "has no column 'timestamp'"),
    ],
)
def test_a_wheel_that_is_not_the_published_one_is_refused(wheel, tables, said):
    wheel(tables)
    with pytest.raises(DataError, match=said):
        read()


def test_the_published_ratings_are_read_and_a_caller_cannot_change_them():
    found = load_ratings()
    assert len(found) == 100_000 and found["user_id"].nunique() == 943 and found["movie_id"].nunique() == 1682
    assert found["rating"].between(1, 5).all()
    assert (found.groupby("user_id").size() >= 20).all()
    found.loc[:, "rating"] = 0
    assert load_ratings()["rating"].min() == 1
