"""Tweets with human sentiment ratings, as sentiment preference pairs in three suffix variants.

The ratings are those of Hutto and Gilbert (2014), "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text" (ICWSM): the mean of twenty raters on a scale from -4 to 4. The texts come with
the source distribution of ``vaderSentiment`` (MIT license); user names and links were replaced by its
authors. They stand in for the tweet data of the paper's section 4.3, which sits behind a hub.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import unescape
from typing import Literal

from entanglement.archive import DataError, fetch_package, read_tar_member
from entanglement.pairs import PreferencePair

__all__ = [
    "HELD_OUT",
    "LABELS",
    "VARIANTS",
    "RatedText",
    "load_snippets",
    "load_tweets",
    "sentiment_pairs",
    "sentiment_prompt",
    "sentiment_tweets",
]

PACKAGE = "vaderSentiment==3.3.2"
PACKAGE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "additional_resources/hutto_ICWSM_2014.tar.gz"
INNER_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"

LABELS = (" positive", " negative")
# The paper's three sets differ in what follows the contrasting token: nothing, a short suffix, a long one.
VARIANTS: dict[str, str] = {
    "one_token": "",
    "short_suffix": " sentiment.",
    "long_suffix": " sentiment based on my judgement of the text.",
}
HELD_OUT = 200  # tweets that no training of ours ever sees, half of them positive
_SPLIT_SEED = 20241017  # the day of the paper's first version; fixed, because `nano` was trained on the rest


@dataclass(frozen=True)
class RatedText:
    """A text and its mean human rating, from -4 (negative) to 4 (positive)."""

    id: str
    rating: float
    text: str

    @property
    def label(self) -> str:
        """The contrasting token: " positive" for a rating above 0, else " negative"."""
        return LABELS[0] if self.rating > 0 else LABELS[1]


def _parse(data: bytes, name: str) -> list[RatedText]:
    rows = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
        fields = line.split("\t", 2)
        try:
            key, rating, text = fields[0], float(fields[1]), " ".join(unescape(fields[2]).split())
        except (IndexError, ValueError) as error:
            raise DataError(f"{name}, line {number}: expected id, rating and text between tabs.") from error
        if not -4 <= rating <= 4:
            raise DataError(f"{name}, line {number}: rating {rating} is outside [-4, 4].")
        if text:
            rows.append(RatedText(key, rating, text))
    return rows


@cache
def _load(name: str) -> tuple[RatedText, ...]:
    inner = read_tar_member(fetch_package(PACKAGE, PACKAGE_SHA256, source=True), INNER, digest=INNER_SHA256)
    return tuple(_parse(read_tar_member(inner, f"/{name}"), name))


def load_tweets() -> list[RatedText]:
    """Return all 4,200 rated tweets.

    Raises:
        DataError: the archive cannot be fetched, is damaged, or is not the published one.
    """
    return list(_load("tweets_GroundTruth.txt"))


def load_snippets() -> list[RatedText]:
    """Return the archive's rated film and product reviews, one sentence each (used to pretrain ``nano``)."""
    return [*_load("movieReviewSnippets_GroundTruth.txt"), *_load("amazonReviewSnippets_GroundTruth.txt")]


def sentiment_tweets(split: Literal["train", "test"]) -> list[RatedText]:
    """Return the tweets with a clear sentiment (absolute rating above 1), balanced, in a fixed random order.

    The test split holds 100 positive and 100 negative tweets. No text of it appears in the training split.
    The training split is balanced by leaving out surplus positive tweets.

    Raises:
        ValueError: ``split`` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}; expected 'train' or 'test'.")
    rng = random.Random(_SPLIT_SEED)
    train: list[RatedText] = []
    test: list[RatedText] = []
    by_label: dict[str, list[RatedText]] = {}
    seen: set[str] = set()  # over both labels: a text that is there twice could stand in both splits
    for label in LABELS:
        rows = []
        for tweet in load_tweets():
            if abs(tweet.rating) > 1 and tweet.label == label and tweet.text.lower() not in seen:
                seen.add(tweet.text.lower())
                rows.append(tweet)
        rng.shuffle(rows)
        test += rows[: HELD_OUT // 2]
        by_label[label] = rows[HELD_OUT // 2 :]
    fewest = min(len(rows) for rows in by_label.values())
    for rows in by_label.values():
        train += rows[:fewest]
    wanted = train if split == "train" else test
    rng.shuffle(wanted)
    return wanted


def sentiment_prompt(text: str) -> str:
    """Return the prompt that asks for a text's sentiment; the response begins with a space."""
    return f"{text}\nSentiment:"


def sentiment_pairs(
    variant: str,
    split: Literal["train", "test"] = "train",
    *,
    n: int | None = None,
    seed: int = 0,
    tweets: Sequence[RatedText] | None = None,
) -> list[PreferencePair]:
    """Return preference pairs whose responses differ in one token, then share a suffix.

    Args:
        variant: "one_token", "short_suffix" or "long_suffix".
        split: which tweets.
        n: how many pairs, drawn without replacement with ``seed``; None for all.
        seed: of the draw.
        tweets: the texts themselves, instead of ``split``.

    Raises:
        ValueError: an unknown variant, or more pairs than there are.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r}; expected one of {', '.join(VARIANTS)}.")
    rows = list(tweets) if tweets is not None else sentiment_tweets(split)
    if n is not None:
        if not 1 <= n <= len(rows):
            raise ValueError(f"n={n}; expected 1 to {len(rows)}, the number of tweets.")
        rows = random.Random(seed).sample(rows, n)
    suffix = VARIANTS[variant]
    pairs = []
    for tweet in rows:
        other = LABELS[1] if tweet.label == LABELS[0] else LABELS[0]
        pairs.append(
            PreferencePair(
                sentiment_prompt(tweet.text), tweet.label + suffix, other + suffix, id=f"tweet {tweet.id}"
            )
        )
    return pairs
