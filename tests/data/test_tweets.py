"""Rated tweets from a made-up archive: parsing, splits, balance, order, and the three suffix variants."""

from __future__ import annotations

import io
import tarfile

import pytest

from entanglement.files import sha256
from entanglement_book.materials import DataError, sentiment_pairs, sentiment_tweets, tweets


def tar_of(members):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def lines(n_positive=150, n_negative=120, n_neutral=30):
    """Rows as the archive has them: id, rating, text. Positive, negative and near-neutral take turns."""
    rows = [(2.0 + i / 1000, f"a good day number {i}") for i in range(n_positive)]
    rows += [(-2.0 - i / 1000, f"a bad day number {i}") for i in range(n_negative)]
    rows += [(0.5, f"a day number {i}") for i in range(n_neutral)]
    return [f"{i}\t{rating}\t{text}" for i, (rating, text) in enumerate(rows)]


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Return put(rows): lay a source distribution with these tweets where the loader looks for it."""
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))

    def no_index(requirement, *, source):
        raise DataError(f"could not download {requirement}: a test has no network.")

    fetch = tweets.fetch_package
    monkeypatch.setattr(tweets, "fetch_package", lambda *a, **k: fetch(*a, download=no_index, **k))

    def put(rows, name="hutto_ICWSM_2014/tweets_GroundTruth.txt"):
        inner = tar_of({name: "\n".join(rows).encode()})
        outer = tar_of({f"vaderSentiment-3.3.2/{tweets.INNER}": inner})
        monkeypatch.setattr(tweets, "INNER_SHA256", sha256(inner))
        monkeypatch.setattr(tweets, "PACKAGE_SHA256", sha256(outer))
        path = tmp_path / "packages" / tweets.PACKAGE.replace("==", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(outer)
        tweets._load.cache_clear()
        return path

    yield put
    tweets._load.cache_clear()


# --- reading ------------------------------------------------------------------------------------------------


def test_a_row_is_id_rating_and_cleaned_text(archive):
    archive(["7\t-1.5\t Tom &amp; Jerry   said\tno &lt;3 ", "8\t3\tyes", "9\t1\t   "])
    first, second = tweets.load_tweets()
    assert first == tweets.RatedText("7", -1.5, "Tom & Jerry said no <3")
    assert first.label == " negative"
    assert (second.rating, second.label) == (3.0, " positive")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2\tno number\ttext", "expected id, rating and text between tabs"),
        ("2 1.0 text", "expected id, rating and text between tabs"),
        ("2\t1.0", "expected id, rating and text between tabs"),
        ("", "expected id, rating and text between tabs"),
        ("2\t4.5\ttext", r"rating 4.5 is outside \[-4, 4\]"),
        ("2\tnan\ttext", "rating nan is outside"),
    ],
)
def test_a_bad_line_is_named_by_its_number(archive, line, message):
    archive(["1\t1.0\tfine", line, "3\t1.0\tfine"])
    with pytest.raises(DataError, match=f"tweets_GroundTruth.txt, line 2: {message}"):
        tweets.load_tweets()


def test_a_truncated_archive_without_an_index_is_one_clear_error(archive):
    path = archive(lines())
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"could not download vaderSentiment==3\.3\.2"):
        tweets.load_tweets()


def test_an_inner_archive_that_is_not_the_published_one_is_refused(archive, monkeypatch):
    archive(lines())
    monkeypatch.setattr(tweets, "INNER_SHA256", "00")
    with pytest.raises(DataError, match=r"hutto_ICWSM_2014.tar.gz has SHA-256 .*, expected 00"):
        tweets.load_tweets()


def test_an_archive_without_the_tweets_is_refused(archive):
    archive(lines(), name="hutto_ICWSM_2014/readme.txt")
    with pytest.raises(DataError, match=r"expected one file named \*/tweets_GroundTruth.txt"):
        tweets.load_tweets()


def test_the_constants_name_one_version_and_whole_hashes():
    assert tweets.PACKAGE.count("==") == 1
    for digest in (tweets.PACKAGE_SHA256, tweets.INNER_SHA256):
        assert len(digest) == 64 and int(digest, 16) > 0


# --- splits -------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_balanced_and_clear(archive):
    archive(lines())
    train, test = sentiment_tweets("train"), sentiment_tweets("test")
    assert len(test) == tweets.HELD_OUT
    assert len(train) == 2 * 20  # 120 − 100 negative ones are left; the surplus of positive ones is left out
    for rows in (train, test):
        assert sum(row.rating > 0 for row in rows) * 2 == len(rows)
        assert all(abs(row.rating) > 1 for row in rows)
    assert not {row.text.lower() for row in train} & {row.text.lower() for row in test}


def test_repeated_texts_do_not_leak_into_the_held_out_set(archive):
    rows = lines()
    doubled = [f"x{row}".upper() for row in rows]  # another id, the same text in capitals
    archive(rows + doubled)
    train, test = sentiment_tweets("train"), sentiment_tweets("test")
    texts = [row.text.lower() for row in (*train, *test)]
    assert len(texts) == len(set(texts))


def test_a_text_rated_both_ways_does_not_leak(archive):
    rows = lines(130, 130)
    archive(rows + [f"y{i}\t{-2 if i % 2 else 2}\tsame words {i // 2}" for i in range(120)])
    train, test = sentiment_tweets("train"), sentiment_tweets("test")
    assert not {row.text.lower() for row in train} & {row.text.lower() for row in test}


def test_the_order_is_fixed_and_mixed(archive):
    archive(lines())
    first, again = sentiment_tweets("test"), sentiment_tweets("test")
    assert [row.id for row in first] == [row.id for row in again]
    labels = [row.label for row in first]
    assert labels[:100] != [labels[0]] * 100
    tweets._load.cache_clear()
    assert [row.id for row in sentiment_tweets("test")] == [row.id for row in first]


def test_the_order_does_not_depend_on_the_python_build(archive):
    # Recorded once; random.Random's shuffle and sample are the same on every platform.
    archive(lines())
    assert [row.text for row in sentiment_tweets("test")[:3]] == [
        "a bad day number 87",
        "a good day number 27",
        "a good day number 137",
    ]


@pytest.mark.parametrize("split", ["dev", "", "Train"])
def test_an_unknown_split_is_refused(split):
    with pytest.raises(ValueError, match=f"split='{split}'; expected 'train' or 'test'"):
        sentiment_tweets(split)


# --- pairs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", tweets.VARIANTS)
def test_responses_differ_in_the_label_alone(archive, variant):
    archive(lines())
    pairs = sentiment_pairs(variant, "test")
    assert len(pairs) == tweets.HELD_OUT
    rated = {f"tweet {row.id}": row for row in sentiment_tweets("test")}
    for pair in pairs:
        row = rated[pair.id]
        right, wrong = (" positive", " negative") if row.rating > 0 else (" negative", " positive")
        assert pair.chosen == right + tweets.VARIANTS[variant]
        assert pair.rejected == wrong + tweets.VARIANTS[variant]
        assert pair.prompt == f"{row.text}\nSentiment:"


def test_the_variants_hold_the_same_tweets_in_the_same_order(archive):
    archive(lines())
    names = [[p.id for p in sentiment_pairs(v, "test", n=30, seed=5)] for v in tweets.VARIANTS]
    assert names[0] == names[1] == names[2]
    assert len(set(names[0])) == 30


def test_the_seed_draws_and_draws_again_the_same(archive):
    archive(lines())
    draw = [p.id for p in sentiment_pairs("one_token", "test", n=20, seed=1)]
    assert draw == [p.id for p in sentiment_pairs("one_token", "test", n=20, seed=1)]
    assert draw != [p.id for p in sentiment_pairs("one_token", "test", n=20, seed=2)]


def test_given_texts_take_the_place_of_a_split():
    rows = [tweets.RatedText("1", 2.0, "so glad"), tweets.RatedText("2", -2.0, "so sad")]
    good, bad = sentiment_pairs("one_token", tweets=rows)
    assert (good.chosen, good.rejected) == (" positive", " negative")
    assert (bad.chosen, bad.rejected) == (" negative", " positive")


@pytest.mark.parametrize("n", [0, -1, 201])
def test_more_pairs_than_tweets_are_refused(archive, n):
    archive(lines())
    with pytest.raises(ValueError, match=f"n={n}; expected 1 to 200"):
        sentiment_pairs("one_token", "test", n=n)


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant='1t'; expected one of one_token, short_suffix, "):
        sentiment_pairs("1t")


def test_a_rating_is_clear_beyond_one_and_a_label_is_positive_above_zero(archive):
    edge = [f"e{i}\t{rating}\tat the edge {i}" for i, rating in enumerate((1.0, -1.0, 0.9) * 10)]
    archive(lines() + edge)
    texts = {row.text for split in ("train", "test") for row in sentiment_tweets(split)}
    assert not any(text.startswith("at the edge") for text in texts)
    labels = [tweets.RatedText("1", rating, "x").label for rating in (0.1, 0.0, -0.1)]
    assert labels == [" positive", " negative", " negative"]
