"""A check lets the right answer pass, names the usual mistakes, and tells nothing else."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement_book.exercises import Check, check
from entanglement_book.exercises.checking import alike, checks_of

NUMBER = Check(2.0, [(-2.0, "The sign is wrong."), (1.0, "That is the mean.")], praise="It rises.")
PAIR = Check({"w": 1.0, "l": [True, "a b"]}, [])
TWICE = Check(lambda x: 2 * x, [(lambda x: x * x, "That is the square.")], inputs=[(1,), (3,)])


@pytest.mark.parametrize("answer", [2, 2.0, 2.0005, np.float32(2), torch.tensor(2.0), np.array(2.0)])
def test_a_right_number_passes_in_any_clothes(answer):
    judged = NUMBER.judge(answer)
    assert judged.right and repr(judged) == "Right. It rises."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (-2, "Not yet: The sign is wrong."),
        (1, "Not yet: That is the mean."),
        (2.1, "Not yet."),
        (..., "Still to do: put your answer where the dots are."),
        (None, "Still to do: put your answer where the dots are."),
        ([2.0, ...], "Still to do: your answer has dots, or nothing, in it."),
        ("two", "Not yet: expected a number, and this is a word."),
        (True, "Not yet: expected a number, and this is True or False."),
        ([2.0, 3.0], "Not yet: expected a number, and this is 2 × a number."),
        (math.nan, "Not yet."),
    ],
)
def test_a_wrong_one_is_told_and_the_right_one_is_not(answer, said):
    judged = NUMBER.judge(answer)
    assert not judged.right and judged.said == said


def test_answers_of_several_parts():
    assert PAIR.judge({"l": (True, "A  b"), "w": 1}).right
    assert not PAIR.judge({"l": (1, "a b"), "w": 1}).right
    assert PAIR.judge({"w": 1}).said == (
        "Not yet: expected a mapping with the keys l, w, and this is a mapping with the keys w."
    )


def test_functions_are_tried():
    assert TWICE.judge(lambda x: x + x).right
    assert TWICE.judge(lambda x: x**2).said == "Not yet: That is the square."
    assert TWICE.judge(lambda x: x / 0).said.startswith("Not yet: your function raised ZeroDivisionError")
    assert TWICE.judge(lambda x: ...).said == "Still to do: your answer has dots, or nothing, in it."
    assert TWICE.judge(2).said.startswith("Not yet: your function raised TypeError: expected a function")


def test_tables_and_small_numbers():
    assert alike(pd.Series([1.0, 2.0]), torch.tensor([1.0, 2.0]), 1e-3)
    assert not alike([1.0, 2.0], [2.0, 1.0], 1e-3)
    assert alike(1e-9, 0.0, 1e-3) and not alike(0.01, 0.0, 1e-3)
    assert alike(math.nan, math.nan, 1e-3)
    assert alike(math.inf, math.inf, 1e-3) and not alike(3.0, math.inf, 1e-3)


@pytest.mark.parametrize("name", ["99.1", "07", "", "07.99", "seven"])
def test_a_check_that_is_not_there(name):
    with pytest.raises(ValueError, match=r"check: there is no check for"):
        check(name, 1)
    assert checks_of("99") == {}
