"""SFT and DPO move what they should, are functions of their seed, and their account adds up."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.gradients import pair_geometry
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import Account, Trajectory, align, measure, sft
from entanglement.training.account import TERMS
from entanglement.training.stepping import step_on
from entanglement.updates.base import NotFinite


@pytest.fixture
def many_pairs():
    words = ["good", "bad", "what", "the film", "people", "a day", "today", "liked"]
    return [PreferencePair(f"the {w} was", " positive", " negative", f"p{i}") for i, w in enumerate(words)]


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


def test_sft_raises_the_chosen_responses(model, tokenizer, many_pairs):
    run = sft(model, tokenizer, many_pairs, steps=10, lr=1e-2, batch_size=4, evaluate={"train": many_pairs})
    means = run.means().set_index("step")
    assert means.loc[10, "chosen_logp"] > means.loc[0, "chosen_logp"] + 1
    assert run.losses["loss"].iloc[-1] < run.losses["loss"].iloc[0]


def test_dpo_widens_the_margin(model, tokenizer, many_pairs):
    run = align(model, tokenizer, many_pairs, steps=10, lr=3e-3, batch_size=4, evaluate={"train": many_pairs})
    means = run.means().set_index("step")
    margin = means["chosen_logp"] - means["rejected_logp"]
    assert margin[10] > margin[0] + 0.1
    # The reference is the model as it came in: the first loss is that of a zero margin.
    assert run.losses["loss"].iloc[0] == pytest.approx(np.log(2), abs=1e-9)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(model, tokenizer, many_pairs):
    runs = [
        align(copy.deepcopy(model), tokenizer, many_pairs, steps=3, lr=1e-3, batch_size=3, seed=seed)
        for seed in (0, 0, 1)
    ]
    pd.testing.assert_frame_equal(runs[0].losses, runs[1].losses, check_exact=True)
    assert not runs[0].losses["grad_norm"].equals(runs[2].losses["grad_norm"])


def test_one_plain_step_on_one_pair_does_what_the_geometry_predicts(model, tokenizer, many_pairs):
    pair = many_pairs[:1]
    loss = get_loss("dpo", beta=0.1)
    geometry = pair_geometry(model, collate(pair, tokenizer))
    lr, d = 1e-4, 0.05  # β σ(0)
    run = align(
        model, tokenizer, pair, loss=loss, steps=1, lr=lr, batch_size=1, optimizer="sgd", warmup=0,
        max_grad_norm=None, evaluate={"pair": pair}, evaluate_at=[0, 1],
    )  # fmt: skip
    means = run.means().set_index("step")
    predicted = geometry.predicted_change(lr, d, d)
    for side, expected in zip(("chosen_logp", "rejected_logp"), predicted, strict=True):
        assert means.loc[1, side] - means.loc[0, side] == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("append_eos", [False, True])
def test_the_end_of_sequence_token_counts_in_training_and_in_measurement_alike(
    model, tokenizer, many_pairs, append_eos
):
    table = measure(model, tokenizer, {"all": many_pairs}, append_eos=append_eos)
    batch = collate(many_pairs, tokenizer, append_eos=append_eos)
    assert list(table["chosen_len"]) == batch.chosen_len.tolist()
    run = align(model, tokenizer, many_pairs, steps=1, batch_size=8, append_eos=append_eos)
    assert run.losses["loss"].iloc[0] == pytest.approx(np.log(2))
    assert int(batch.chosen_len[0]) == len(tokenizer(" positive")["input_ids"]) + append_eos


def _account(model, tokenizer, pairs, **options):
    run = align(
        model, tokenizer, pairs, evaluate={"held_out": pairs[-2:]}, evaluate_at=[], observers=[Account(2)],
        **options,
    )  # fmt: skip
    return run.account.set_index(["set", "response"])


def test_the_account_adds_up_and_a_held_out_pair_has_no_share_of_its_own(model, tokenizer, many_pairs):
    account = _account(model, tokenizer, many_pairs, steps=2, lr=1e-3, batch_size=4)
    np.testing.assert_allclose(account[list(TERMS)].sum(axis=1), account["total"], atol=1e-12)
    assert (account.loc["held_out", "own_pair"] == 0).all()
    assert (account.loc["batch", "own_pair"] != 0).all()
    # AdamW's first step is nowhere near parallel to the gradient.
    assert account["preconditioner"].abs().min() > 1e-6


def test_plain_steps_have_no_preconditioner_and_a_lone_pair_has_no_others(model, tokenizer, many_pairs):
    account = _account(
        model, tokenizer, many_pairs[:2], steps=1, lr=1e-4, batch_size=1, optimizer="sgd", max_grad_norm=None
    )
    scale = account["total"].abs().max()
    assert account["preconditioner"].abs().max() < 1e-6 * scale
    assert account.loc["batch", "other_pairs"].abs().max() < 1e-6 * scale
    assert account.loc[("batch", "chosen"), "own_pair"].item() > 0
    assert account.loc[("batch", "rejected"), "own_pair"].item() < 0


def test_curvature_is_of_second_order(model, tokenizer, many_pairs):
    sizes = []
    for lr in (1e-3, 1e-4):
        account = _account(
            copy.deepcopy(model), tokenizer, many_pairs, steps=1, lr=lr, batch_size=4, optimizer="sgd",
            max_grad_norm=None,
        )  # fmt: skip
        sizes.append(account["curvature"].abs().mean())
    assert sizes[0] / sizes[1] == pytest.approx(100, rel=0.2)


def test_the_account_leaves_the_trained_parameters_where_they_are(model, tokenizer, many_pairs):
    other = copy.deepcopy(model)
    align(model, tokenizer, many_pairs, steps=2, batch_size=4, evaluate={"x": many_pairs}, evaluate_at=[])
    align(
        other, tokenizer, many_pairs, steps=2, batch_size=4, evaluate={"x": many_pairs}, evaluate_at=[],
        observers=[Account(2)],
    )  # fmt: skip
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": -1.0}, "lr"),
        ({"batch_size": 99}, "batch_size=99"),
        ({"optimizer": "adagrad"}, "adagrad"),
        ({"warmup": 2.0}, "warmup"),
        ({"evaluate_at": [99]}, "evaluate_at"),
        ({"loss": "dpp"}, "dpo"),
    ],
)
def test_a_wrong_argument_is_named(model, tokenizer, many_pairs, options, named):
    with pytest.raises(ValueError, match=named):
        align(model, tokenizer, many_pairs, **{"steps": 1, "batch_size": 2, **options})


def test_means_take_case_shares_over_measured_pairs_only(model, tokenizer, many_pairs):
    table = measure(model, tokenizer, {"all": many_pairs}, geometry_pairs=3)
    row = Trajectory(table, pd.DataFrame()).means().iloc[0]
    assert row["pairs"] == 8
    assert row["measured_pairs"] == 3
    assert row[["ideal", "both_down", "both_up", "reversed"]].sum() == pytest.approx(1)


def test_the_rows_of_the_means_are_in_order_of_step_and_set():
    table = pd.DataFrame(
        [(step, name, 1.0, 0.0, 1.0, 1.0, 0.0, "ideal") for step in (4, 0) for name in ("b", "a")],
        columns=[
            "step", "set", "chosen_logp", "rejected_logp", "chosen_norm", "rejected_norm", "cosine", "case",
        ],
    )  # fmt: skip
    means = Trajectory(table, pd.DataFrame()).means()
    assert list(zip(means["step"], means["set"], strict=True)) == [(0, "a"), (0, "b"), (4, "a"), (4, "b")]


def test_a_step_on_a_loss_clips_and_refuses_before_it_spreads(tiny_model):
    model = tiny_model("gpt2-tied")
    weight = next(model.parameters())
    before = weight.detach().clone()
    stepper = torch.optim.SGD(model.parameters(), lr=1.0)
    norm = step_on(model, stepper, 3.0 * weight.sum(), 1e-3, 1)
    assert norm == pytest.approx(3.0 * weight.numel() ** 0.5)
    assert float((weight.detach() - before).norm()) == pytest.approx(1e-3, rel=1e-3)
    assert bool((weight.detach() <= before).all())  # downhill
    now = weight.detach().clone()
    with pytest.raises(NotFinite, match="step 7: the loss is nan; lower the learning rate"):
        step_on(model, stepper, weight.sum() * float("nan"), None, 7)
    assert torch.equal(weight.detach(), now)
