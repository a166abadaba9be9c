"""What is not said means the same as ever: stored tables and readers' runs rest on the defaults.

They are those of the docstrings and of the paper's recipe. Whoever changes one changes what runs without it
do, and says so here and in ``CHANGELOG.md``.
"""

import copy
import inspect
import math

import pandas as pd
import pytest
import torch

from entanglement.losses import get_loss
from entanglement.outcomes import quality, squeezing, steps
from entanglement.pairs import PreferencePair, collate
from entanglement.sampling import continue_prompts
from entanglement.training import align, align_plainly, measure, sft
from entanglement.training.settings import check_settings
from entanglement.updates import (
    UPDATES,
    Adversarial,
    Calibrated,
    ConstantRatio,
    Decoupled,
    Split,
    TokenWeighted,
    Weighted,
    plans,
)
from entanglement.updates.adversarial import Discriminator
from entanglement.updates.base import Update
from entanglement.updates.token_weights import FromGeometry, LearnedMask, TwoReferences

MASK = {"penalty": 0.1, "lr": 0.003, "start": 0.9}
ALIGN = {
    "loss": "dpo", "optimizer": "adamw", "warmup": 0.1, "max_grad_norm": 1.0, "seed": 0, "append_eos": False,
}  # fmt: skip
DEFAULTS = [
    (align, ALIGN | {
        "update": "joint", "observers": (), "steps": None, "lr": 1e-5, "batch_size": 32, "evaluate": None,
        "evaluate_at": None, "geometry_pairs": 0, "progress": False,
    }),
    (align_plainly, ALIGN),
    (sft, {
        "steps": 24, "lr": 1e-4, "batch_size": 16, "seed": 0, "append_eos": False, "evaluate": None,
        "evaluate_at": None, "geometry_pairs": 0, "max_grad_norm": 1.0, "progress": False,
    }),
    (measure, {"step": 0, "append_eos": False, "geometry_pairs": 0}),
    (check_settings, {"warmup": 0.0, "smallest_batch": 1}),
    (Decoupled, {"level": "all", "damping": 0.01, "budget": math.inf}),
    (Calibrated, {"momentum": 0.9}),
    (ConstantRatio, {"ratio": 1.005}),
    (Split, {"order": "random", "seed": 0}),
    (Weighted, {"level": "pair", "metric": "plain"}),
    (Adversarial, {"head_start": 8, "beta": 0.1, "lr": 1e-4, "seed": 0}),
    (Discriminator, {"lr": 1e-4}),
    (TokenWeighted, {"reference": None}),
    (TwoReferences, {"scale": 1.0}),
    (LearnedMask, MASK),
    (UPDATES["learned"].make, MASK | {"reference": None}),
    (UPDATES["two"].make, {"other": None, "scale": 1.0, "reference": None}),
    (plans.plan, {"nonnegative": True, "budget": math.inf}),
    (plans.reach, {
        "nonnegative": True, "budget": math.inf, "tolerance": 0.05, "share": 0.7, "max_steps": 12,
    }),
    (
        collate,
        {"append_eos": False, "max_length": None, "padding_side": "right", "one_prompt": True},
    ),
    (continue_prompts, {"seed": None}),
    (quality.answer_quality, {"tokens": 24, "draws": 4, "seed": 0}),
    (squeezing.mass_moves, {"size": 8}),
    (squeezing.token_moves, {"most": 6, "size": 8}),
    (squeezing.answer_moves, {"tokens": 10, "seed": 0}),
    (steps.model_steps, {"d_w": 1.0, "d_l": 1.0, "parameters": "all"}),
    (steps.log_linear_steps, {"d_w": 1.0, "d_l": 1.0, "name": "pair"}),
    (steps.plain_step, {"d_w": 1.0, "d_l": 1.0, "parameters": "all"}),
    (steps.step_ladder, {"first": 1.1e-3, "doublings": 12, "at_least": 1e-3}),
    (steps.small_steps, {"at_least": 1e-3}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), DEFAULTS, ids=lambda x: getattr(x, "__qualname__", ""))
def test_what_is_not_said(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


#: Whether the report's weights make the step, whether the backward pass can be watched, whether the bound on
#: the gradient is used, the smallest batch, and how many batches are rehearsed.
FACTS = {
    "joint": (True, True, True, 1, 0),
    "constant": (True, True, True, 1, 0),
    "split": (False, False, True, 1, 0),
    "decoupled": (False, False, False, 1, 0),
    "calibrated": (True, False, True, 1, 0),
    "adversarial": (False, False, True, 2, 8),
} | dict.fromkeys(("normalized", "band", "pcgrad", "mgda"), (True, False, True, 1, 0))
TOKENS = dict.fromkeys(
    ("everything", "contrasting", "geometry", "learned", "two"), (False, False, True, 1, 0)
)


@pytest.mark.parametrize("name", [*FACTS, *TOKENS])
def test_what_an_update_says_of_itself(name):
    other = {"other": torch.nn.Linear(1, 1)} if name == "two" else {}
    made = UPDATES[name].make(**other)
    found = (made.weighs_pairs, made.plain_backward, made.clips, made.smallest_batch, made.head_start)
    assert isinstance(made, Update) and found == (FACTS | TOKENS)[name]
    assert made.needs_reference(get_loss("dpo")) is (name not in TOKENS and name != "adversarial")
    assert made.needs_reference(get_loss("simpo")) is False
    rule = UPDATES[name].rule
    assert (rule is not None) == (name in ("joint", "normalized", "band", "pcgrad", "mgda"))
    if rule is not None:
        assert rule.safe == rule.needs_geometry == (name != "joint")
    assert {name for name in UPDATES if UPDATES[name].costs_like} == {
        "constant",
        "pcgrad",
        "mgda",
        "everything",
    }


def test_a_run_without_options_is_that_with_all_of_them_written_out(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    pairs = [PreferencePair(f"day {i}", f" good {i}", " bad", f"{i}") for i in range(33)]
    written = {
        "loss": "dpo", "update": "joint", "steps": 1, "lr": 1e-5, "batch_size": 32, "optimizer": "adamw",
        "warmup": 0.1, "max_grad_norm": 1.0, "seed": 0, "append_eos": False,
    }  # fmt: skip
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    runs = [align(one, tokenizer, pairs), align(other, tokenizer, pairs, **written)]
    pd.testing.assert_frame_equal(runs[0].losses, runs[1].losses, check_exact=True)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_an_update_is_printed_with_its_options_and_nothing_large():
    printed = [
        (Adversarial(beta=0.2), "Adversarial(head_start=8, beta=0.2, lr=0.0001, seed=0)"),
        (Calibrated(), "Calibrated(momentum=0.9)"),
        (ConstantRatio(), "ConstantRatio(ratio=1.005)"),
        (Decoupled(), "Decoupled(level='all', damping=0.01, budget=inf)"),
        (Split(), "Split(order='random', seed=0)"),
        (TokenWeighted(FromGeometry()), "TokenWeighted(weigher=FromGeometry(), reference=None)"),
    ]
    for update, text in printed:
        assert repr(update) == text


@pytest.mark.parametrize("make", [Adversarial, Calibrated, Decoupled, UPDATES["geometry"].make])
def test_updates_with_the_same_options_are_equal_before_a_training(make):
    assert make() == make()


def test_no_default_is_another_in_modules_that_run():
    """The table at once, in a test that runs code of these modules: a mutation run picks tests by that."""
    for name in UPDATES:
        if name != "two":
            UPDATES[name].make()
    mask = UPDATES["learned"].make().weigher
    assert {name: getattr(mask, name) for name in MASK} == MASK
    TwoReferences(torch.nn.Linear(1, 1))
    for function, expected in DEFAULTS:
        test_what_is_not_said(function, expected)
