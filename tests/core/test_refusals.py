"""What was once taken silently, or refused by an error of somebody else: each with what is right today."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.checks import (
    between,
    finite,
    one_of,
    positive,
    positive_or_inf,
    share,
    whole,
)
from entanglement.geometry import PairGeometry
from entanglement.losses import get_loss
from entanglement.losses.goals import goal_loss
from entanglement.outcomes.quality import distinct, length
from entanglement.outcomes.squeezing import token_moves
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.sampling import continue_ids, continue_prompts
from entanglement.signatures import checked
from entanglement.stats import mean_interval, median_interval, share_interval, summarize
from entanglement.training import align, align_plainly, sft
from entanglement.updates import get_update
from entanglement.updates.plans import reach
from entanglement.updates.token_weights import LearnedMask, TwoReferences

NAN, INF, HUGE = math.nan, math.inf, 10**400

# --- the checks themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 1, np.float32(0.1), np.int64(1), torch.tensor(0.1), np.array(0.1)])
def test_scalars_of_every_kind_are_numbers(value):
    positive("lr", value)
    between(0, 1)("lr", value)
    assert checked(lr=positive)(lambda lr: lr)(value) is value  # handed on as it is


@pytest.mark.parametrize(
    "value", [NAN, INF, -INF, HUGE, -HUGE, True, np.bool_(True), torch.tensor(True), None, "1", [1.0], 1j]
)
def test_what_is_no_finite_number_is_refused_in_one_line(value):
    for check in (finite, positive, share, between(0, 1), whole(), whole(0)):
        with pytest.raises(ValueError, match=r"^lr=[^\n]*; expected [^\n]*\.$"):
            check("lr", value)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (positive, [5e-324, 1e308], [0, -1, 0.0]),
        (share, [0, 1, 0.5], [-1e-9, 1 + 1e-9, 2]),
        (between(0, 1, low_open=True, high_open=True), [0.5], [0, 1]),
        (whole(1, 3), [1, 3, np.int8(2), torch.tensor(2)], [0, 4, 2.0, np.float64(2)]),
        (whole(), [-5, 2**63 - 1], [2**63, 0.5]),
        (positive_or_inf, [1, INF, np.inf], [-INF, 0, NAN, HUGE]),
        (one_of("a", "b"), ["a", np.str_("b")], ["c", None, ["a"], 1]),
        (one_of(1, 2), [1, 2], [True, 3, "1"]),
    ],
)
def test_the_ends_of_what_is_allowed(check, good, bad):
    for value in good:
        check("x", value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^x="):
            check("x", value)


def test_annotations_are_checks():
    @checked(seed=whole(0))
    def call(text: str, rows: list[int], seed: int | None = None, *rest: int, flag: bool = False) -> str:
        return text

    assert call("a", [1], None, 2, flag=True) == call(text="a", rows=[], seed=3)
    for arguments, words in (
        ((1, []), "text=1; expected a text"),
        (("a", "b"), "rows='b'; expected a list or tuple, each a whole number"),
        (("a", [0.5]), r"rows=\[0.5\]"),
        (("a", [], -1), "seed=-1; expected a whole number of at least 0, or None"),
    ):
        with pytest.raises(ValueError, match=words):
            call(*arguments)
    with pytest.raises(ValueError, match="flag=1; expected True or False"):
        call("a", [], flag=1)
    with pytest.raises(TypeError, match="no argument 'sead' to check"):
        checked(sead=whole())(lambda seed: seed)(0)


# --- training -----------------------------------------------------------------------------------------------


@pytest.fixture
def scene(tiny_model, tokenizer, pairs):
    return tiny_model("gpt2-tied"), tokenizer, pairs


WRONG = [
    ("max_grad_norm", -1), ("max_grad_norm", NAN), ("max_grad_norm", INF), ("max_grad_norm", 0),
    ("lr", INF), ("lr", NAN), ("lr", 0), ("lr", -1), ("lr", HUGE), ("lr", "1e-3"), ("lr", True),
    ("seed", None), ("seed", 0.5), ("seed", "0"),
    ("batch_size", 0), ("batch_size", -1), ("batch_size", 1.5), ("batch_size", 4),
    ("steps", -1), ("steps", 2.5), ("steps", HUGE),
]  # fmt: skip


@pytest.mark.parametrize("train", [sft, align, align_plainly])
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_no_training_starts_with_an_argument_that_means_nothing(scene, train, name, value):
    model = scene[0]
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=rf"^{name}="):
        train(*scene, **{"steps": 1, "lr": 1e-3, "batch_size": 2, name: value})
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("value", [0, -1, "2"])
def test_a_batch_is_some_pairs_where_one_epoch_is_asked_for(scene, value):
    with pytest.raises(ValueError, match=r"^batch_size=.*; expected a whole number of at least 1"):
        align(*scene, batch_size=value)


@pytest.mark.parametrize("train", [align, align_plainly])
@pytest.mark.parametrize("value", [-0.1, 1.1, NAN])
def test_a_warm_up_is_a_share(scene, train, value):
    with pytest.raises(ValueError, match=r"^warmup=.*; expected a share from 0 to 1"):
        train(*scene, steps=1, lr=1e-3, batch_size=2, warmup=value)


def test_the_plain_loop_knows_two_optimizers(scene):
    with pytest.raises(ValueError, match="optimizer='adam'; expected 'adamw' or 'sgd'"):
        align_plainly(*scene, steps=1, lr=1e-3, batch_size=2, optimizer="adam")


def test_an_advantage_needs_two_responses(scene):
    with pytest.raises(ValueError, match="batch_size=1; expected a whole number of at least 2"):
        align(*scene, steps=1, batch_size=1, update="adversarial")


@pytest.mark.parametrize("value", [-1, 0, NAN, INF, True, "1"])
def test_a_step_by_hand_is_clipped_to_a_positive_norm(scene, value):
    model, tokenizer, pairs = scene
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"^max_grad_norm=.*; expected a positive finite number, or None"):
        get_update("joint").step(
            model, optimizer, [collate(pairs, tokenizer)], get_loss("simpo"), max_grad_norm=value
        )


def test_numpys_scalars_train_as_pythons_do(scene, tiny_model):
    mine = align(*scene, steps=np.int64(2), lr=np.float64(1e-3), batch_size=np.int32(2), seed=np.int64(3))
    theirs = align(tiny_model("gpt2-tied"), *scene[1:], steps=2, lr=1e-3, batch_size=2, seed=3)
    pd.testing.assert_frame_equal(mine.losses, theirs.losses)


# --- the other reported cases -------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [HUGE, -HUGE, NAN, INF, 0, -0.1, True, "0.1", None])
def test_a_temperature_that_means_nothing(beta):
    with pytest.raises(ValueError, match=r"^loss 'dpo': beta=.*; expected a number in \(0, inf\)"):
        get_loss("dpo", beta=beta)


def test_a_temperature_of_numpy_is_a_number():
    assert get_loss("dpo", beta=np.float32(0.1)).hyper == {"beta": float(np.float32(0.1))}
    assert get_loss("dpo", beta=torch.tensor(0.5)).hyper == {"beta": 0.5}


@pytest.mark.parametrize("name", [["dpo"], None, {}, 3])
def test_a_loss_is_called_by_a_text(name):
    with pytest.raises(ValueError, match=r"^name=.*; expected a text"):
        get_loss(name)


@pytest.mark.parametrize("loss", ["robust", "cdpo", "aot", "exo"])
@pytest.mark.parametrize("value", [0.5, 0.51, -0.01, NAN])
def test_half_of_the_labels_cannot_be_wrong(loss, value):
    with pytest.raises(ValueError, match=rf"^loss '{loss}': label_smoothing={value}; expected a number in"):
        get_loss(loss, label_smoothing=value)


@pytest.mark.parametrize("value", ["8", 4.5, NAN, 0, -3, True])
def test_a_longest_sequence_is_a_count(tokenizer, pairs, value):
    with pytest.raises(ValueError, match=r"^max_length=.*; expected a whole number of at least 1"):
        collate(pairs, tokenizer, max_length=value)


@pytest.mark.parametrize("index", [-1, 3, [0, -1], [0, 3], 0.5, True, "0", [None]])
def test_a_pair_is_selected_by_its_place(tokenizer, pairs, index):
    with pytest.raises(ValueError, match="index"):
        collate(pairs, tokenizer).select(index)


def test_places_of_every_kind_select(tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    for index in (1, np.int64(1), [1], torch.tensor([1]), (np.int32(1),)):
        assert batch.select(index).ids == (pairs[1].id,)
        assert torch.equal(batch.select(index).input_ids, batch.input_ids[[1, 4]])


def test_a_batch_has_two_rows_a_name():
    ids = torch.zeros(2, 3, dtype=torch.long)
    PairBatch(ids, ids, ids.bool(), False, ("one",))
    for wrong in ((ids[:1], ids, ids.bool()), (ids, ids[:, :2], ids.bool()), (ids, ids, ids.bool()[0])):
        with pytest.raises(ValueError, match=r"has shape .*; expected \(2B, T\)"):
            PairBatch(*wrong, False, ("one",))
    with pytest.raises(ValueError, match="input_ids has shape"):
        PairBatch(ids, ids, ids.bool(), False, ("one", "two"))
    with pytest.raises(ValueError, match="append_eos='no'; expected True or False"):
        PairBatch(ids, ids, ids.bool(), "no", ("one",))
    with pytest.raises(ValueError, match="chosen=3; expected a text"):
        PreferencePair("a", 3, "b")


@pytest.mark.parametrize("level", [2, -1, 0, 1, NAN, "0.95", True])
def test_a_level_lies_between_0_and_1(level):
    table = pd.DataFrame({"g": [0, 0], "seed": [1, 2], "x": [1.0, 2.0]})
    for call in (
        lambda: mean_interval([1.0, 2.0], level),
        lambda: median_interval([1.0, 2.0], level),
        lambda: share_interval(1, 2, level),
        lambda: summarize(table, "x", ["g"], level=level),
    ):
        with pytest.raises(ValueError, match=r"^level=.*; expected a number between 0 and 1"):
            call()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chosen", INF), ("chosen", NAN), ("rejected", -INF), ("rejected", HUGE), ("budget", 0),
        ("budget", NAN), ("tolerance", 0), ("tolerance", 1), ("share", 0), ("share", 1.1), ("max_steps", 0),
        ("max_steps", 1.5),
    ],
)  # fmt: skip
def test_a_request_that_means_nothing(scene, name, value):
    model, tokenizer, pairs = scene
    batch = collate(pairs[:1], tokenizer)
    with pytest.raises(ValueError, match=rf"^{name}="):
        reach(model, batch, **{"chosen": 0.1, "rejected": -0.1, name: value})


@pytest.mark.parametrize(
    "options", [{"start": 2}, {"start": 0}, {"lr": 0}, {"penalty": -1}, {"penalty": NAN}]
)
def test_a_mask_that_means_nothing(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        LearnedMask(**options)
    with pytest.raises(ValueError, match=f"^{next(iter(options))}="):
        get_update("learned", **options)


@pytest.mark.parametrize("scale", [-1, 0, NAN, INF])
def test_a_scale_is_positive(tiny_model, scale):
    with pytest.raises(ValueError, match=r"^scale=.*; expected a positive finite number"):
        TwoReferences(tiny_model("gpt2-tied"), scale)


@pytest.mark.parametrize("targets", [(NAN, 0), (0, INF), (HUGE, 0), ("1", 0)])
def test_a_goal_is_a_finite_number(targets):
    with pytest.raises(ValueError, match=r"^(chosen|rejected)=.*; expected a finite number"):
        goal_loss(*targets)


@pytest.mark.parametrize("n", [0, -1, 1.5, None])
def test_a_gram_has_tokens(n):
    with pytest.raises(ValueError, match=r"^n=.*; expected a whole number of at least 1"):
        distinct([[1, 2]], n)
    with pytest.raises(ValueError, match="answers="):
        length([])


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompts", "text"), ("prompts", []), ("prompts", [1]), ("tokens", 0), ("tokens", 1.5), ("seed", "0")],
)
def test_prompts_are_a_list_of_texts(scene, name, value):
    with pytest.raises(ValueError, match=f"^{name}="):
        continue_prompts(*scene[:2], **{"prompts": ["the film"], "tokens": 2, name: value})


def test_a_continuation_fits_in_the_context(scene):
    ids = torch.ones(1, 4, dtype=torch.long)
    assert continue_ids(scene[0], ids, ids, 61).ids.shape == (1, 61)  # 64 positions, the last is not read
    with pytest.raises(ValueError, match="tokens=62 after 4 of a prompt"):
        continue_ids(scene[0], ids, ids, 62)


def test_no_tokens_at_each_end_are_none(scene):
    with pytest.raises(ValueError, match="most=0; expected a whole number of at least 1"):
        token_moves(scene[0], *scene, most=0)


@pytest.mark.parametrize("values", [["a"], None, True, {}, [None], "3"])
def test_a_geometry_is_made_of_numbers(values):
    with pytest.raises(ValueError, match="chosen_sq"):
        PairGeometry(values, [1.0], [0.5])
