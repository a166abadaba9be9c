"""Steps that are really taken: the parameters come back to the last bit, and the ladder leaves nobody out."""

import math

import numpy as np
import pytest
import torch

from entanglement.geometry import PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.loglinear import LogLinear, suffix_pairs
from entanglement.logps import response_logps
from entanglement.outcomes.steps import (
    SteppedPair,
    case_of_changes,
    ladder_geometry,
    log_linear_steps,
    measured_cases,
    model_steps,
    plain_step,
    small_steps,
    step_ladder,
)
from entanglement.pairs import PairBatch, collate

LR = 1e-7  # small enough for the first order to be right to four digits here, large enough for float64


@pytest.fixture(scope="module")
def gpt2(tiny_model):
    return tiny_model("gpt2-tied")


@pytest.fixture(scope="module")
def batch(pairs, tokenizer):
    return collate(pairs, tokenizer)


@pytest.mark.parametrize("shape", ["gpt2-tied", "gpt2-untied", "llama-tied"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0), (-1.0, 0.5)])
def test_a_small_step_does_what_the_geometry_predicts(tiny_model, batch, shape, weights):
    model = tiny_model(shape)
    measured = plain_step(model, batch, LR, *weights)
    predicted = pair_geometry(model, batch).predicted_change(LR, *weights)
    for exact, first_order in zip(measured, predicted, strict=True):
        assert torch.allclose(exact, first_order, rtol=1e-3)
        assert torch.equal(exact.sign(), first_order.sign())


def test_the_step_is_the_one_of_the_loss_and_not_another_direction(gpt2, batch):
    """One autograd step on −d_w f_w + d_l f_l by hand, against plain_step; nothing first-order about it."""
    one, lr, (d_w, d_l) = batch.select(0), 3e-3, (0.7, 1.3)
    before = response_logps(gpt2, one)
    kept = {name: p.detach().clone() for name, p in gpt2.named_parameters()}
    loss = -d_w * before[0].sum() + d_l * before[1].sum()
    gradients = torch.autograd.grad(loss, list(gpt2.parameters()), allow_unused=True)
    with torch.no_grad():
        for p, g in zip(gpt2.parameters(), gradients, strict=True):
            if g is not None:
                p -= lr * g
            after = response_logps(gpt2, one)
        for name, p in gpt2.named_parameters():
            p.copy_(kept[name])
    measured = plain_step(gpt2, one, lr, d_w, d_l)
    for side in (0, 1):
        expected = float(after[side] - before[side].detach())
        assert abs(expected) > 1e-3
        assert float(measured[side]) == pytest.approx(expected, rel=1e-9)


def test_parameters_come_back_to_the_last_bit_even_after_an_error(gpt2, batch):
    before = {name: p.detach().clone() for name, p in gpt2.named_parameters()}
    plain_step(gpt2, batch, [1e-3, 0.1, 7.0])
    pair = next(model_steps(gpt2, batch))
    with pytest.raises(ValueError, match="lr=inf"):
        pair.change(math.inf)
    broken = next(model_steps(gpt2, batch))
    original = gpt2.forward
    try:
        gpt2.forward = lambda **_: (_ for _ in ()).throw(RuntimeError("stop"))
        with pytest.raises((RuntimeError, ValueError)):
            broken.change(1.0)
    finally:
        gpt2.forward = original
    for name, p in gpt2.named_parameters():
        assert torch.equal(p, before[name])
        assert p.grad is None and p.requires_grad


def test_pairs_are_stepped_alone_and_padding_does_not_matter(gpt2, batch, pairs, tokenizer):
    together = plain_step(gpt2, batch, 1e-3)
    for i, pair in enumerate(pairs):
        alone = plain_step(gpt2, collate([pair], tokenizer, padding_side="left"), 1e-3)
        for side in (0, 1):
            assert float(alone[side]) == pytest.approx(float(together[side][i]), rel=1e-9, abs=1e-14)


def test_only_the_selected_parameters_move(gpt2, batch):
    def only_head(name):
        return "ln_f" in name

    measured = plain_step(gpt2, batch, LR, parameters=only_head)
    predicted = pair_geometry(gpt2, batch, only_head).predicted_change(LR)
    everything = plain_step(gpt2, batch, LR)
    for side in (0, 1):
        assert torch.allclose(measured[side], predicted[side], rtol=1e-3)
        assert not torch.allclose(measured[side], everything[side], rtol=0.1)


def test_a_step_of_size_zero_changes_nothing(gpt2, batch):
    assert all(float(change.abs().max()) == 0.0 for change in plain_step(gpt2, batch, 0.0))


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_step_size_must_be_a_finite_number_at_least_0(gpt2, batch, bad):
    with pytest.raises(ValueError, match="lr="):
        plain_step(gpt2, batch, bad)


def test_weights_and_step_sizes_are_numbers_or_one_a_pair(gpt2, batch):
    with pytest.raises(ValueError, match=r"d_w has shape \(2,\); expected one number or \(3,\)"):
        next(model_steps(gpt2, batch, d_w=[1.0, 2.0]))
    with pytest.raises(ValueError, match="lr has shape"):
        plain_step(gpt2, batch, [1.0, 2.0])
    per_pair = plain_step(gpt2, batch, 1e-3, [1.0, 0.0, 2.0], [0.0, 1.0, 2.0])
    assert float(per_pair[0][0]) > 0  # SFT on the chosen response alone
    assert float(per_pair[1][1]) < 0  # unlearning of the rejected response alone


# --- log-linear pairs ---


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(3)
    return suffix_pairs(20, 3, relation="scaled", strength=1.4, vocab=12, dim=6, generator=generator)


def test_log_linear_pairs_step_on_their_own_matrix(linear):
    exact = linear.change(0.3, 0.5, 0.5)
    bound = linear.defect_bound(0.3, 0.5, 0.5)
    geometry = linear.geometry()
    for i, pair in enumerate(log_linear_steps(linear, 0.5, 0.5, "toy")):
        assert pair.id == f"toy {i}"
        assert float(pair.geometry.inner[0]) == pytest.approx(float(geometry.inner[i]), rel=1e-12)
        assert pair.change(0.3) == pytest.approx((float(exact[0][i]), float(exact[1][i])), rel=1e-9)
        assert pair.defect_bound(0.3) == pytest.approx((float(bound[0][i]), float(bound[1][i])), rel=1e-9)


def test_the_ladder_measures_and_predicts_the_same_step(linear):
    ladder = step_ladder(log_linear_steps(linear, 0.5, 0.5), doublings=4)
    assert set(ladder["response"]) == {"chosen", "rejected"}
    row = ladder[(ladder["pair"] == "pair 7") & (ladder["rung"] == 3)].set_index("response")
    lr = row.loc["chosen", "lr"]
    predicted = linear.geometry().predicted_change(lr, 0.5, 0.5)
    exact = linear.change(lr, 0.5, 0.5)
    for k, response in enumerate(("chosen", "rejected")):
        assert row.loc[response, "predicted"] == pytest.approx(float(predicted[k][7]), rel=1e-12)
        assert row.loc[response, "exact"] == pytest.approx(float(exact[k][7]), rel=1e-9)
    assert row.loc["chosen", "alone"] == pytest.approx(lr * 0.5 * row.loc["chosen", "chosen_sq"])
    assert row.loc["rejected", "alone"] == pytest.approx(-lr * 0.5 * row.loc["rejected", "rejected_sq"])
    largest = ladder.groupby(["pair", "rung"])["predicted"].agg(lambda v: v.abs().max())
    assert np.allclose(largest, ladder.groupby(["pair", "rung"])["size"].first())


def test_the_relative_error_is_that_of_the_measured_change(linear):
    ladder = step_ladder(log_linear_steps(linear), doublings=2)
    expected = (ladder["predicted"] - ladder["exact"]).abs() / ladder["exact"].abs()
    assert np.allclose(ladder["error"], expected)
    # First order is right and "without c" is wrong, not the other way round.
    assert ladder["error"].median() < 0.01 < 0.3 < ladder["alone_error"].median()


def test_every_response_changes_by_at_least_the_least(linear):
    small = small_steps(step_ladder(log_linear_steps(linear, 0.5, 0.5), doublings=0))
    assert len(small) == 2 * len(linear)
    assert (small["exact"].abs() >= 1e-3).all()
    assert not small.duplicated(["pair", "response"]).any()


def tie(distance):
    """A pair whose chosen response is ``distance`` away from standing still: a² − c = distance."""
    geometry = PairGeometry.from_vectors([1.0, 0.0], [1.0 - distance, 2.0])
    up, down = (float(rate[0]) for rate in geometry.rates())
    return SteppedPair("tied pair", geometry, 1.0, 1.0, lambda lr: (up * lr - 0.5 * lr**2, down * lr))


def test_a_response_near_a_tie_gets_a_larger_step_and_is_counted():
    ladder = step_ladder([tie(1e-5)], doublings=0)
    small = small_steps(ladder).set_index("response")
    assert small.loc["rejected", "rung"] == 0
    assert small.loc["chosen", "rung"] > 3
    assert abs(small.loc["chosen", "exact"]) >= 1e-3
    assert (
        small.loc["chosen", "error"] > 0.9 > 0.01 > small.loc["rejected", "error"]
    )  # and its error is honest


def test_a_pair_that_cannot_move_is_named():
    geometry = PairGeometry.from_vectors([1.0, 2.0], [1.0, 2.0])
    same = SteppedPair("twins", geometry, 1.0, 1.0, lambda lr: (0.0, 0.0))
    with pytest.raises(ValueError, match="twins does not move"):
        step_ladder([same])
    stuck = SteppedPair("stuck", tie(0.5).geometry, 1.0, 1.0, lambda lr: (0.0, 0.0))
    with pytest.raises(ValueError, match=r"stuck has not changed by 0\.001 nats"):
        step_ladder([stuck])


def test_small_steps_refuses_a_ladder_that_is_too_short(linear):
    ladder = step_ladder(log_linear_steps(linear), doublings=0, at_least=0.0)
    with pytest.raises(ValueError, match="never change by 5 nats"):
        small_steps(ladder, at_least=5)


def test_a_model_and_a_closed_form_give_the_same_ladder():
    """One-hot inputs through a bias-free linear layer are the log-linear model; nothing else differs."""

    class Table(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.head = torch.nn.Parameter(weight.clone())  # (V, V): next-token logits of each last token

        def forward(self, input_ids, attention_mask=None):
            return self.head.T[input_ids]

    weight = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ids = torch.tensor([[0, 1, 2], [0, 3, 2]])
    mask = torch.tensor([[False, True, True]] * 2)
    batch = PairBatch(ids, torch.ones_like(ids), mask, False, ("pair 0",))
    eye = torch.eye(5, dtype=torch.float64)
    closed = LogLinear(
        weight,
        chosen_features=eye[torch.tensor([[0, 1]])],
        chosen=torch.tensor([[1, 2]]),
        rejected_features=eye[torch.tensor([[0, 3]])],
        rejected=torch.tensor([[3, 2]]),
    )
    one = step_ladder(model_steps(Table(weight), batch, 0.5, 0.5), doublings=3)
    two = step_ladder(log_linear_steps(closed, 0.5, 0.5), doublings=3)
    for column in ("lr", "predicted", "exact", "inner"):
        assert np.allclose(one[column], two[column], rtol=1e-9)
    assert one["bound"].isna().all() and two["bound"].notna().all()


def test_cases_of_measured_changes_have_the_names_of_the_geometry():
    assert case_of_changes([1, -1, 1, -1, 0.0], [-1, -1, 1, 1, 0.0]) == [
        "ideal",
        "both_down",
        "both_up",
        "reversed",
        "ideal",
    ]
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"chosen=\[1.0, .*; expected finite numbers"):
            case_of_changes([1.0, bad], [1.0, 1.0])
        with pytest.raises(ValueError, match=r"rejected=\[1.0, .*; expected finite numbers"):
            case_of_changes([1.0, 1.0], [1.0, bad])
    with pytest.raises(ValueError, match="2 numbers are chosen and 1 rejected"):
        case_of_changes([1.0, 1.0], [1.0])


def test_a_ladder_gives_the_geometry_back(linear):
    ladder = step_ladder(log_linear_steps(linear), doublings=1)
    back, expected = ladder_geometry(ladder), linear.geometry()
    assert back.ids == tuple(f"pair {i}" for i in range(len(linear)))
    for name in ("chosen_sq", "rejected_sq", "inner"):
        assert torch.allclose(getattr(back, name), getattr(expected, name), rtol=1e-12)


def test_measured_cases_are_those_of_the_steps_and_a_blind_prediction_is_always_ideal(linear):
    small = small_steps(step_ladder(log_linear_steps(linear), doublings=0))
    cases = measured_cases(small)
    assert set(cases["without"]) == {"ideal"}
    for pair, row in cases.iterrows():
        two = small[small["pair"] == pair].set_index("response")["exact"]
        falls, rises = two["chosen"] < 0, two["rejected"] > 0
        assert row["measured"] == {(0, 0): "ideal", (1, 0): "both_down", (0, 1): "both_up"}[falls, rises]
    assert {"ideal", "both_down"} <= set(cases["measured"])
    geometry = ladder_geometry(small)
    predicted = dict(zip(geometry.ids, geometry.case(), strict=True))
    assert cases["predicted"].to_dict() == predicted


def test_exercise_3_of_chapter_03():
    """The chosen answer of the built pair begins to fall where the rejected state is 5/2 as long."""

    def chosen_rate(length):
        def states(s):
            return torch.tensor([[[1.0, 0.0], [0.0, s]]])

        pair = LogLinear(
            torch.zeros(3, 2), states(1.0), torch.tensor([[0, 2]]), states(length), torch.tensor([[1, 2]])
        )
        return float(pair.geometry().rates()[0][0])

    assert chosen_rate(2.5) == 0.0
    assert chosen_rate(2.4) > 0 > chosen_rate(2.6)


def test_the_ladders_case_is_that_of_its_weights_and_small_steps_are_its_rows():
    made = suffix_pairs(
        8, 2, vocab=6, dim=4, relation="similar", strength=0.8, generator=torch.Generator().manual_seed(0)
    )
    ladder = step_ladder(log_linear_steps(made, 0.3, 2.0), doublings=10)
    predicted = ladder[ladder["rung"] == 3].pivot(index="pair", columns="response", values="predicted")
    lr = ladder[ladder["rung"] == 3].drop_duplicates("pair").set_index("pair")["lr"]
    rates = made.geometry().rates(0.3, 2.0)
    for k, response in enumerate(("chosen", "rejected")):
        assert (predicted[response] / lr).tolist() == pytest.approx(rates[k].tolist(), rel=1e-12)
    found = ladder.drop_duplicates("pair")["case"].tolist()
    assert found == made.geometry().case(0.3, 2.0) != made.geometry().case(2.0, 0.3)
    assert len(ladder) >= 8 * 2 * 11 and ladder["rung"].max() >= 10
    small = small_steps(ladder)
    assert list(small.columns) == list(ladder.columns) and small.index.tolist() == list(range(16))
