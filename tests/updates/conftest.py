"""Pairs on which updates are tried."""

import pytest

from entanglement.pairs import PreferencePair


@pytest.fixture
def near_copies():
    """Three pairs of few tokens whose answers share words; named by their places."""
    return [
        PreferencePair("what a day", " positive people", " negative people", "0"),
        PreferencePair("the film was", " good and the people", " bad and the people", "1"),
        PreferencePair("the", " people people", " people", "2"),
    ]
