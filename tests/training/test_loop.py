"""What each option of ``align`` and ``sft`` does, what is refused, and what stops a training."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.batches import by_length, shuffled
from entanglement.gradients import pair_geometry
from entanglement.logps import response_logps
from entanglement.losses import Loss, get_loss
from entanglement.losses.base import LossSpec
from entanglement.optimizers import OPTIMIZERS, make_optimizer, trainable
from entanglement.pairs import PreferencePair, collate
from entanglement.training import Account, Monitor, Observer, Trajectory, align, measure, sft
from entanglement.training.account import TERMS, StepAccount
from entanglement.training.settings import moments_of, rate_share
from entanglement.updates import Joint, NotFinite, get_rule, get_update

WORDS = ["good", "bad", "what", "the film", "people", "a day", "today", "liked", "hated", "sentiment"]


@pytest.fixture
def ten():
    return [
        PreferencePair(f"the {w} was", f" {w} positive" if i % 2 else " good", " negative day", f"p{i}")
        for i, w in enumerate(WORDS)
    ]


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


def theta(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- order, rate, moments


def test_the_rate_rises_to_its_peak_and_falls_toward_nothing(model, tokenizer, ten):
    run = align(model, tokenizer, ten, steps=8, lr=0.5e-3, batch_size=2, warmup=0.25)
    expected = [1 / 2, 1, *(k / 7 for k in (6, 5, 4, 3, 2, 1))]
    assert run.losses["lr"].tolist() == pytest.approx([0.5e-3 * share for share in expected], rel=1e-12)


@pytest.mark.parametrize(
    ("steps", "warmup", "expected"),
    [
        (4, 0.0, [1, 3 / 4, 2 / 4, 1 / 4]),
        (4, 1.0, [1 / 4, 2 / 4, 3 / 4, 1]),
        (5, 0.3, [1 / 2, 1, 3 / 4, 2 / 4, 1 / 4]),  # 1.5 is rounded to the even 2
        (5, 0.1, [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        (4, 0.3, [1, 3 / 4, 2 / 4, 1 / 4]),  # 1.2
        (4, 0.45, [1 / 2, 1, 2 / 3, 1 / 3]),  # 1.8
        (1, 0.5, [1]),
    ],
)
def test_the_schedule_by_hand(steps, warmup, expected):
    assert [rate_share(k, steps, warmup) for k in range(1, steps + 1)] == pytest.approx(expected, rel=1e-12)


def test_an_epoch_has_every_pair_once_and_leaves_what_is_too_few():
    batches = list(shuffled(10, 5, 4, seed=1))
    assert all(len(batch) == 4 for batch in batches)
    for one, other in (batches[0:2], batches[2:4]):
        assert not set(one) & set(other)
    assert batches[0:2] != batches[2:4]
    whole = list(shuffled(8, 4, 4, seed=1))  # the last batch of an epoch is the rest of it
    assert set(whole[0]) | set(whole[1]) == set(whole[2]) | set(whole[3]) == set(range(8))
    assert list(shuffled(10, 5, 4, seed=2)) != batches


def test_groups_have_prompts_of_similar_length():
    pairs = [PreferencePair("x" * n, "a", "b") for n in (9, 1, 5, 3, 7)]
    assert by_length(pairs, 2) == [[1, 3], [2, 4], [0]]


def test_moments_are_those_asked_for_or_nine():
    assert moments_of(16, None) == {0, 2, 4, 6, 8, 10, 12, 14, 16}
    assert moments_of(16, [3, 16]) == {3, 16}
    with pytest.raises(ValueError, match=r"evaluate_at=\[-1\]; expected steps from 0 to 16"):
        moments_of(16, [-1])


@pytest.mark.parametrize("train", [align, sft])
def test_the_seed_orders_the_pairs(model, tokenizer, ten, train):
    runs = [
        train(copy.deepcopy(model), tokenizer, ten, steps=2, lr=1e-3, batch_size=3, seed=s) for s in (0, 0, 5)
    ]
    pd.testing.assert_frame_equal(runs[0].losses, runs[1].losses, check_exact=True)
    assert not runs[0].losses["grad_norm"].equals(runs[2].losses["grad_norm"])


def test_one_epoch_is_the_default(model, tokenizer, ten):
    assert len(align(model, tokenizer, ten, batch_size=4).losses) == 2


def test_no_step_leaves_the_model_and_measures_it(model, tokenizer, ten):
    before = theta(model)
    run = align(model, tokenizer, ten, steps=0, batch_size=4, evaluate={"all": ten})
    assert torch.equal(theta(model), before) and len(run.table) == 10 and len(run.losses) == 0


# --- optimizer, clipping, mode


def test_what_is_frozen_stays_and_adamw_lets_nothing_decay(model, tokenizer, ten):
    frozen = model.transformer.wpe.weight.requires_grad_(False)
    assert all(p is not frozen for p in trainable(model))
    before = frozen.clone()
    align(model, tokenizer, ten, steps=2, lr=1e-2, batch_size=3)
    assert torch.equal(frozen, before)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OPTIMIZERS["adamw"]([weight], 0.5)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3))
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires gradients"):
        make_optimizer("sgd", model, 1.0)


def test_an_optimizer_may_be_a_function(model, tokenizer, ten):
    seen = []

    def make(parameters, lr):
        seen.append(lr)
        return torch.optim.SGD(parameters, lr=lr)

    other = copy.deepcopy(model)
    align(model, tokenizer, ten, steps=2, lr=0.25, batch_size=3, optimizer=make)
    align(other, tokenizer, ten, steps=2, lr=0.25, batch_size=3, optimizer="sgd")
    assert seen == [0.25] and torch.equal(theta(model), theta(other))


@pytest.mark.parametrize("train", [align, sft])
def test_dropout_is_off_whatever_mode_the_model_came_in(model, tokenizer, ten, train):
    assert model.config.resid_pdrop > 0
    other = copy.deepcopy(model).train()
    for one in (model, other):
        train(one, tokenizer, ten, steps=2, lr=1e-3, batch_size=3)
    assert torch.equal(theta(model), theta(other)) and not other.training


@pytest.mark.parametrize("train", [align, sft])
def test_a_bound_on_the_gradient_is_kept_and_none_is_none(model, tokenizer, ten, train):
    ends = {}
    for bound in (None, 1e9, 1e-3):
        mine = copy.deepcopy(model)
        run = train(mine, tokenizer, ten, steps=2, lr=1e-3, batch_size=3, max_grad_norm=bound)
        assert (run.losses["grad_norm"] > 1e-3).all()  # what is told is the norm before clipping
        ends[bound] = theta(mine)
    assert torch.equal(ends[None], ends[1e9])
    assert not torch.equal(ends[None], ends[1e-3])


# --- supervised fine-tuning


@pytest.mark.parametrize("append_eos", [False, True])
def test_sft_takes_the_mean_over_tokens_not_over_responses(model, tokenizer, ten, append_eos):
    batch = collate(ten, tokenizer, append_eos=append_eos)
    assert len(set(batch.chosen_len.tolist())) > 1
    with torch.no_grad():
        chosen, _ = response_logps(model, batch)
    expected = -float(chosen.sum()) / int(batch.chosen_len.sum())
    run = sft(
        model, tokenizer, ten, steps=2, lr=1e-3, batch_size=10, append_eos=append_eos,
        evaluate={"all": ten}, evaluate_at=[0, 2], geometry_pairs=2,
    )  # fmt: skip
    assert run.losses["loss"][0] == pytest.approx(expected, rel=1e-12)
    assert expected != pytest.approx(-float((chosen / batch.chosen_len).mean()), rel=1e-3)
    assert run.losses["lr"].tolist() == [1e-3, 1e-3]  # a constant rate
    now = run.table[run.table["step"] == 0]
    assert now["chosen_len"].tolist() == batch.chosen_len.tolist()
    assert now["cosine"].notna().tolist() == [True, True] + 8 * [False]


def test_the_gradient_of_sft_is_that_of_its_loss(model, tokenizer, ten):
    batch = collate(ten[:3], tokenizer)
    chosen, _ = response_logps(model, batch)
    (-chosen.sum() / batch.chosen_len.sum()).backward()
    norm = float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm())
    model.zero_grad()
    run = sft(model, tokenizer, ten[:3], steps=1, batch_size=3)
    assert run.losses["grad_norm"][0] == pytest.approx(norm, rel=1e-9)


# --- measurement --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("append_eos", [False, True])
def test_what_is_measured_on_the_way_counts_the_end_token_as_training_does(model, tokenizer, ten, append_eos):
    sets, model_before = {"some": ten[:3], "others": ten[3:5]}, copy.deepcopy(model)
    alone = measure(model, tokenizer, sets, append_eos=append_eos, geometry_pairs=1)
    run = align(
        model, tokenizer, ten, steps=1, batch_size=3, append_eos=append_eos, evaluate=sets, evaluate_at=[0],
        geometry_pairs=1,
    )  # fmt: skip
    pd.testing.assert_frame_equal(run.table, alone)
    assert alone.index.tolist() == list(range(5)) and alone["step"].tolist() == [0] * 5
    first = pair_geometry(model_before, collate([ten[0], ten[3]], tokenizer, append_eos=append_eos))
    measured = alone.dropna(subset=["cosine"])
    assert measured["pair"].tolist() == ["p0", "p3"]  # of each set, from its beginning
    np.testing.assert_allclose(measured["cosine"], first.cosine, rtol=1e-9)
    np.testing.assert_allclose(measured["rejected_norm"], first.rejected_sq.sqrt(), rtol=1e-9)
    expected = collate(ten[:3], tokenizer, append_eos=append_eos).rejected_len.tolist()
    assert run.table.query("set == 'some'")["rejected_len"].tolist() == expected


def test_accuracy_is_the_share_of_pairs_whose_chosen_response_is_likelier():
    table = pd.DataFrame(
        {"step": 0, "set": "x", "chosen_logp": [-1.0, -2, -3], "rejected_logp": [-2.0, -3, -1]}
    )
    table = table.assign(chosen_norm=1.0, rejected_norm=1.0, cosine=np.nan, case=None)
    assert Trajectory(table, pd.DataFrame()).means()["accuracy"].item() == pytest.approx(2 / 3)


# --- observers ----------------------------------------------------------------------------------------------


class Diary(Observer):
    """Writes down which hooks were called, and what came with them."""

    def __init__(self, apart=False):
        self.apart, self.calls, self.rows = apart, [], []

    def begin(self, run):
        self.calls.append("begin")
        self.run = run

    def before_step(self, step):
        self.calls.append(f"before {step}")

    def after_forward(self, chosen, rejected, ids):
        assert chosen.requires_grad and chosen.shape == rejected.shape == (len(ids),)
        self.calls.append(f"forward {len(ids)}")

    def after_backward(self):
        gradient = torch.cat([p.grad.flatten() for p in self.run.model.parameters()])
        self.rows.append({"norm": float(gradient.norm())})
        self.calls.append("backward")

    def after_step(self, taken):
        assert len(taken.pairs) == len(taken.u_w) == len(taken.u_l)
        self.rows[-1] |= {"step": taken.step, "lr": taken.lr}
        self.calls.append("after")

    def end(self):
        self.calls.append("end")

    def result(self):
        return {"diary": pd.DataFrame(self.rows)}


@pytest.mark.parametrize("apart", [False, True])
def test_hooks_come_in_order_and_tables_come_back(model, tokenizer, ten, apart):
    diary = Diary(apart)
    run = align(model, tokenizer, ten, steps=2, lr=1e-3, batch_size=10, max_grad_norm=1e-3, observers=[diary])
    one = ["forward 8", "forward 2", "backward", "after"]
    assert diary.calls == ["begin", "before 1", *one, "before 2", *one, "end"]
    table = run.others["diary"]
    assert table["lr"].tolist() == run.losses["lr"].tolist()
    np.testing.assert_allclose(table["norm"], run.losses["grad_norm"])  # before clipping


def test_observers_are_let_go_after_an_error(model, tokenizer, ten):
    diary = Diary()
    with pytest.raises(NotFinite):
        align(model, tokenizer, ten, steps=1, batch_size=3, loss=broken(), observers=[diary, Monitor()])
    assert diary.calls[-1] == "end"
    run = align(model, tokenizer, ten, steps=1, batch_size=3, observers=[Monitor()])  # and can come again
    assert len(run.monitor) == 1


def test_looking_on_changes_no_step(model, tokenizer, ten):
    others = [copy.deepcopy(model) for _ in range(2)]
    options = {"steps": 2, "lr": 1e-3, "batch_size": 9}
    align(model, tokenizer, ten, **options)
    align(others[0], tokenizer, ten, observers=[Account(2)], **options)
    align(others[1], tokenizer, ten, observers=[Account(2), Monitor()], **options)
    assert torch.equal(theta(model), theta(others[0]))
    torch.testing.assert_close(theta(model), theta(others[1]), rtol=1e-9, atol=1e-11)  # prompts apart


def test_monitor_and_account_come_together_with_the_updates_own_report(model, tokenizer, ten):
    run = align(model, tokenizer, ten, steps=2, batch_size=9, observers=[Monitor(), Account(2)])
    columns = ["step", "d_w", "d_l", "u_w", "u_l", "ratio", "pairs", "measured", "cosine", "plain_chosen"]
    assert set(columns) <= set(run.monitor) and run.monitor["step"].tolist() == [1, 2]
    assert run.monitor["d_w"][0] == pytest.approx(0.05) and run.monitor["ratio"].tolist() == [1.0, 1.0]
    assert set(run.account["set"]) == {"batch"} and len(run.account) == 2 * 2 * 2


@pytest.mark.parametrize("update", ["joint", "band"])
def test_the_account_of_a_plain_step_is_what_the_geometry_says_of_each_pair(model, tokenizer, ten, update):
    """With unequal weights, fewer accounted pairs than the batch has, and two groups."""
    loss = get_loss("rpo")
    lr, size = 1e-6, 9
    rows = next(shuffled(10, 1, size, seed=4))
    seen = Diary()
    before = copy.deepcopy(model)
    run = align(
        model, tokenizer, ten, loss=loss, update=update, steps=1, lr=lr, batch_size=size, seed=4,
        optimizer="sgd", max_grad_norm=None, observers=[Account(3), seen],
    )  # fmt: skip
    batch = collate([ten[i] for i in rows[:3]], tokenizer)
    geometry = pair_geometry(before, batch)
    # At the reference: ½β from the margin, and for chosen 1/n_w of the likelihood term more.
    d_w = 0.05 + get_loss("rpo").hyper["alpha"] / batch.chosen_len.double()
    d_l = torch.full((3,), 0.05, dtype=torch.float64)
    if update == "band":
        d_w, d_l = get_rule("band").weights(geometry, d_w, d_l)
    up, down = geometry.predicted_change(lr, d_w / size, d_l / size)
    account = run.account.set_index("response")
    assert account.loc["chosen", "pair"].tolist() == [ten[i].id for i in rows[:3]]
    np.testing.assert_allclose(account.loc["chosen", "own_pair"], up, rtol=1e-6)
    np.testing.assert_allclose(account.loc["rejected", "own_pair"], down, rtol=1e-6)
    terms = account[["own_pair", "other_pairs", "preconditioner", "curvature"]]
    np.testing.assert_allclose(terms.sum(axis=1), account["total"], rtol=1e-9, atol=1e-15)
    assert abs(account["preconditioner"]).max() < 1e-4 * abs(account["total"]).max()


@pytest.mark.parametrize("append_eos", [False, True])
def test_the_account_is_of_the_responses_that_are_trained_on(model, tokenizer, ten, append_eos):
    """Its total is what the measurement before and after says, end token and all, in the sets' order."""
    sets = {"some": ten[:3], "others": ten[3:5]}
    run = align(
        model, tokenizer, ten, steps=1, lr=1e-2, batch_size=4, append_eos=append_eos, evaluate=sets,
        evaluate_at=[0, 1], observers=[Account(2)],
    )  # fmt: skip
    before, after = (run.table[run.table["step"] == k].set_index("pair") for k in (0, 1))
    held_out = run.account[run.account["set"] != "batch"]
    assert held_out.groupby(["set", "response"], sort=False)["pair"].apply(list).to_dict() == {
        (name, side): [pair.id for pair in some[:2]]
        for side in ("chosen", "rejected")
        for name, some in sets.items()
    }
    for side in ("chosen", "rejected"):
        rows = held_out[held_out["response"] == side].set_index("pair")["total"]
        moved = (after[f"{side}_logp"] - before[f"{side}_logp"])[rows.index]
        np.testing.assert_allclose(rows, moved, rtol=1e-7)


def test_the_monitor_tells_what_the_geometry_is_under_the_losss_own_weights(model, tokenizer):
    tangled = [
        PreferencePair(f"what {w}", " people" * (1 + i % 3), " people" * (5 - i % 2), f"p{i}")
        for i, w in enumerate(WORDS[:9])
    ]
    loss = get_loss("rpo", alpha=0.05)
    batch = collate([tangled[i] for i in next(shuffled(9, 1, 9, seed=0))], tokenizer)
    geometry = pair_geometry(model, batch)
    d_w, d_l = 0.05 + 0.05 / batch.chosen_len.double(), torch.full((9,), 0.05).double()
    run = align(model, tokenizer, tangled, loss=loss, steps=1, lr=0.5, batch_size=9, observers=[Monitor()])
    row = run.monitor.iloc[0]
    shares = geometry.case_shares(d_w, d_l)
    assert row[list(shares)].tolist() == pytest.approx(list(shares.values()))
    others = [geometry.case_shares(), geometry.case_shares(d_l, d_w)]
    assert shares not in others, "the example must have pairs whose case the weights decide"
    assert row["cosine"] == pytest.approx(float(geometry.cosine.mean()))
    assert row["chosen_norm"] == pytest.approx(float(geometry.chosen_sq.sqrt().mean()))
    assert row["rejected_norm"] == pytest.approx(float(geometry.rejected_sq.sqrt().mean()))
    up, down = (part.mean() for part in geometry.predicted_change(0.5, d_w / 9, d_l / 9))
    assert (row["plain_chosen"], row["plain_rejected"]) == pytest.approx((float(up), float(down)))
    assert (row["pairs"], row["measured"]) == (9, 9)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_pair_with_one_weight_only_has_its_share_of_the_step(model, tokenizer, ten, side):
    sign = -1 if side == "chosen" else 1
    loss = made(lambda logps: sign * getattr(logps, f"{side}_logratio"))
    before = copy.deepcopy(model)
    run = align(
        model, tokenizer, ten, loss=loss, steps=1, lr=1e-2, batch_size=2, optimizer="sgd", max_grad_norm=None,
        observers=[Account(2)],
    )  # fmt: skip
    batch = collate([ten[i] for i in next(shuffled(10, 1, 2, seed=0))], tokenizer)
    weights = (1.0, 0.0) if side == "chosen" else (0.0, 1.0)
    up, down = (rate / 2 for rate in pair_geometry(before, batch).rates(*weights))
    own = run.account.set_index("response")["own_pair"]
    np.testing.assert_allclose(own["chosen"], 1e-2 * up, rtol=1e-9)
    np.testing.assert_allclose(own["rejected"], 1e-2 * down, rtol=1e-9)


def test_a_step_of_nothing_has_an_account_of_zeros(model, tokenizer, ten):
    nothing = made(lambda logps: 0.0 * logps.chosen_logratio)
    run = align(model, tokenizer, ten, loss=nothing, steps=1, batch_size=2, observers=[Account(2)])
    terms = ["own_pair", "other_pairs", "preconditioner", "curvature", "total"]
    assert (run.account[terms] == 0).all(axis=None) and len(run.account) == 4


def test_pairs_that_pull_each_other_back_have_no_share_of_no_step(model, tokenizer, ten):
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    account = StepAccount.begin(model).finish(collate(ten[:2], tokenizer), [1.0, 1.0], [1.0, 1.0], 2)
    assert (account[[*TERMS, "total"]] == 0).all(axis=None) and len(account) == 4


def test_a_plain_step_has_no_preconditioner_where_some_parameters_are_frozen(model, tokenizer, ten):
    model.transformer.wpe.weight.requires_grad_(False)
    run = align(
        model, tokenizer, ten, steps=1, batch_size=2, lr=1e-4, optimizer="sgd", max_grad_norm=None,
        observers=[Account(2)],
    )  # fmt: skip
    account = run.account
    assert account["preconditioner"].abs().max() < 1e-6 * account["own_pair"].abs().max()


def test_no_step_has_no_row_in_any_table(model, tokenizer, ten):
    run = align(model, tokenizer, ten, steps=0, batch_size=2, observers=[Monitor(), Account(1)])
    assert len(run.monitor) == len(run.account) == len(run.losses) == len(run.table) == 0


@pytest.mark.parametrize(
    ("update", "observer", "words"),
    [
        ("band", Monitor(), "Monitor: Weighted makes no ordinary backward pass"),
        ("contrasting", Monitor(), "Monitor: TokenWeighted makes no ordinary backward pass"),
        ("split", Account(1), "Account: the step of Split is no weighted sum"),
        ("adversarial", Account(1), "Account: the step of Adversarial is no weighted sum"),
    ],
)
def test_what_cannot_be_observed_is_refused(model, tokenizer, ten, update, observer, words):
    with pytest.raises(ValueError, match=words):
        align(model, tokenizer, ten, update=update, steps=1, batch_size=3, observers=[observer])


def test_wrong_observers_are_refused(model, tokenizer, ten):
    for pairs in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=r"pairs=.*; expected a whole number of at least 1"):
            Account(pairs)
    with pytest.raises(ValueError, match="two of them make a table 'account'"):
        align(model, tokenizer, ten, steps=1, batch_size=3, observers=[Account(1), Account(1)])


# --- what stops a training


def made(function):
    """Return a loss of a function of PairLogps."""
    spec = LossSpec(
        "made", "made", function, formula="", source="a test", form="separable", needs_reference=True
    )
    return Loss(spec, {})


def broken(value=float("nan"), after=0):
    """Return a loss that is not finite for the longest chosen response, from some call on."""
    calls = []

    def function(logps):
        calls.append(1)
        worst = logps.chosen_len == logps.chosen_len.max()
        own = logps.rejected_logratio - logps.chosen_logratio
        return own if len(calls) <= after else torch.where(worst, own * value, own)

    return made(function)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("update", ["joint", "normalized", "split", "everything", "calibrated"])
def test_a_loss_that_is_not_finite_stops_and_names_step_and_pair(model, tokenizer, ten, update, value):
    lengths = collate(ten, tokenizer).chosen_len
    longest = [ten[i].id for i in (lengths == lengths.max()).nonzero().flatten().tolist()]
    assert len(longest) == 1
    before = theta(model)
    with pytest.raises(NotFinite, match=rf"step 1: the loss of {longest[0]} is (nan|inf|-inf)"):
        align(model, tokenizer, ten, loss=broken(value), update=update, steps=2, batch_size=10)
    assert torch.equal(theta(model), before)


def test_the_step_that_is_named_is_the_one_that_broke(model, tokenizer, ten):
    # A step calls the loss twice: for its value, and for its weights.
    with pytest.raises(ValueError, match=r"step 3: the loss of"):
        align(model, tokenizer, ten, loss=broken(after=4), steps=4, batch_size=10)


def test_a_gradient_that_is_not_finite_stops_before_the_step(model, tokenizer, ten):
    before = theta(model)
    rooted = made(lambda logps: (logps.chosen_logratio - logps.chosen_logratio.detach()).abs().sqrt())
    with pytest.raises(
        NotFinite, match=r"step 1: the norm of the gradient is (nan|inf) in a step on 4 pairs"
    ):
        align(model, tokenizer, ten, loss=rooted, steps=1, batch_size=4)
    assert torch.equal(theta(model), before)


@pytest.mark.parametrize("update", ["joint", "band"])
def test_parameters_that_are_no_longer_finite_stop(model, tokenizer, ten, update):
    other = copy.deepcopy(model)
    with pytest.raises(NotFinite, match="step 1: the norm of the parameters is"):
        align(
            model, tokenizer, ten, update=update, steps=1, batch_size=4, lr=1e300, optimizer="sgd",
            max_grad_norm=1e300,
        )  # fmt: skip
    with pytest.raises(NotFinite, match=r"step 1: the norm of the parameters is inf with p\d"):
        sft(other, tokenizer, ten, steps=1, batch_size=2, lr=1e300)


class Silent(Joint):
    """A step that the base class does all of but the gradient."""

    def gradient(self, work):
        report = super().gradient(work)
        for p in work.model.parameters():
            p.grad = torch.full_like(p, 2.0)
        return report


def test_a_subclass_says_only_how_the_gradient_is_made(model, tokenizer, ten):
    before = theta(model)
    align(
        model, tokenizer, ten, update=Silent(), steps=1, batch_size=4, lr=0.25, optimizer="sgd",
        max_grad_norm=None, warmup=0.0,
    )  # fmt: skip
    torch.testing.assert_close(theta(model), before - 0.5)
    assert all(p.grad is None for p in model.parameters())


class OneSided(Joint):
    """Reports the weights of one side only."""

    def __init__(self, left_out):
        self.left_out = left_out

    def gradient(self, work):
        return replace(super().gradient(work), **{self.left_out: None})


@pytest.mark.parametrize("left_out", ["u_w", "u_l"])
def test_weights_of_one_side_are_no_weights(model, tokenizer, ten, left_out):
    taken = []

    class Sees(Observer):
        def after_step(self, step):
            taken.append((step.u_w, step.u_l))

    align(model, tokenizer, ten, update=OneSided(left_out), observers=[Sees()], steps=1, batch_size=4)
    assert taken == [(None, None)]


# --- what is refused ----------------------------------------------------------------------------------------

WRONG = [
    ("max_grad_norm", -1), ("max_grad_norm", 0), ("max_grad_norm", float("nan")),
    ("max_grad_norm", float("inf")), ("max_grad_norm", "1"), ("max_grad_norm", True),
    ("lr", 0), ("lr", -1e-3), ("lr", float("inf")), ("lr", float("nan")), ("lr", None),
    ("seed", None), ("seed", 0.5), ("seed", True), ("steps", -1), ("steps", 1.5), ("steps", True),
    ("batch_size", 0), ("batch_size", -2), ("batch_size", 2.0), ("batch_size", 99), ("geometry_pairs", -1),
    ("evaluate_at", [99]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
@pytest.mark.parametrize("train", [align, sft])
def test_an_argument_out_of_range_is_named(model, tokenizer, ten, train, name, value):
    before = theta(model)
    with pytest.raises(ValueError, match=name):
        train(model, tokenizer, ten, **{"steps": 1, "batch_size": 2, name: value})
    assert torch.equal(theta(model), before)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.1"])
def test_warmup_is_a_share(model, tokenizer, ten, value):
    with pytest.raises(ValueError, match="warmup"):
        align(model, tokenizer, ten, steps=1, batch_size=2, warmup=value)


@pytest.mark.parametrize("bound", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_step_by_itself_refuses_a_wrong_bound(model, tokenizer, ten, bound):
    batch, optimizer = collate(ten, tokenizer), torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="max_grad_norm"):
        get_update("joint").step(model, optimizer, [batch], get_loss("simpo"), max_grad_norm=bound)
