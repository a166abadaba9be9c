"""The loop: a bandit's known optimum, for each method its own; and what a run says of itself."""

import copy
import math

import pytest
import torch
from scipy.optimize import brentq

from entanglement.pairs import PreferencePair
from entanglement.rewards import METHODS, reinforce
from entanglement.updates.base import NotFinite

WORTH = torch.tensor([0.0, 0.0, 1.0, 2.0, 0.5, 0.0, 1.5, 0.0])
BETA = 0.5


def pays(answers):
    return WORTH[answers.ids[:, 0]]


@torch.no_grad()
def answers_of(model):
    return model(input_ids=torch.tensor([[0, 1]])).logits[0, -1].double().softmax(0)


def trained(model, words, **options):
    settings = dict(steps=100, lr=0.03, batch_size=1, group=64, tokens=1, max_grad_norm=None, warmup=0.0)
    return reinforce(model, words, ["go"], pays, **(settings | {"beta": BETA} | options))


def distance(one, other):
    """Half the sum of differences: the largest difference of the probability of any event."""
    return float((one - other).abs().sum()) / 2


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_a_price_in_the_reward_has_the_tilted_reference_as_optimum(bandit, words, method):
    model = bandit()
    reference = answers_of(model)
    # Whitening changes no optimum: it stands still where reward less price is the same for all answers.
    trained(model, words, method=method)
    tilted = reference * (WORTH.double() / BETA).exp()
    tilted /= tilted.sum()
    assert distance(answers_of(model), tilted) < 0.06 < 0.4 < distance(reference, tilted)


def test_grpos_price_has_another_optimum(bandit, words):
    model = bandit()
    reference = answers_of(model)
    trained(model, words, method="grpo")
    found = answers_of(model)

    # Where it stands still: π (A − λ) + β π_ref = 0 with A in units of the spread, since the price's gradient
    # is that of KL(π_ref ‖ π).
    def still(spread):
        gain = WORTH.double() / spread

        def policy(level):
            return BETA * reference / (level - gain)

        top = float(gain.max())
        level = brentq(lambda x: float(policy(x).sum()) - 1, top + 1e-9, top + 100)
        return policy(level)

    def miss(spread):
        p = still(spread)
        mean = float(p @ WORTH.double())
        return math.sqrt(float(p @ (WORTH.double() - mean) ** 2)) - spread

    own = still(brentq(miss, 0.05, 2.0))
    tilted = reference * (WORTH.double() / BETA).exp()
    tilted /= tilted.sum()
    assert distance(found, own) < 0.06 < 0.15 < distance(own, tilted)


def test_grpos_corrected_price_has_the_tilted_reference_in_units_of_the_spread(bandit, words):
    # At a low price the spread shrinks, and the price with it, until one answer is left.
    model, price = bandit(), 1.2
    reference = answers_of(model)
    trained(model, words, method="grpo-corrected", beta=price)
    found = answers_of(model)
    mean = float(found @ WORTH.double())
    spread = math.sqrt(float(found @ (WORTH.double() - mean) ** 2))
    tilted = reference * (WORTH.double() / price / spread).exp()
    plain = reference * (WORTH.double() / price).exp()
    assert distance(found, tilted / tilted.sum()) < 0.05 < 0.06 < distance(found, plain / plain.sum())


@pytest.mark.parametrize("method", METHODS.keys())
def test_the_reward_rises_and_falls_with_its_sign(bandit, words, method):
    ends = []
    for sign in (1.0, -1.0):
        model = bandit()
        run = reinforce(
            model, words, ["go"], lambda a, sign=sign: sign * pays(a), method=method, steps=30, lr=0.02,
            batch_size=1, group=32, tokens=1, beta=0.0,
        )  # fmt: skip
        assert list(run.monitor["step"]) == list(range(1, 31))
        ends.append(sign * run.monitor["reward"].tail(5).mean())
    assert ends[0] > 1.5 and ends[1] < 0.3


@pytest.mark.parametrize("method", METHODS.keys())
def test_a_higher_price_keeps_nearer_to_the_reference(bandit, words, method):
    ends = []
    for beta in (0.0, 2.0):
        model = bandit()
        reference = answers_of(model)
        trained(model, words, method=method, steps=30, beta=beta)
        ends.append(distance(answers_of(model), reference))
    assert ends[1] < 0.7 * ends[0]


def test_a_run_repeats_and_another_seed_is_another(bandit, words):
    ends = []
    for seed in (1, 1, 2):
        model = bandit()
        trained(model, words, steps=3, seed=seed)
        ends.append(answers_of(model))
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_the_first_step_is_that_of_the_advantages(bandit, words):
    """One plain step of REINFORCE leave-one-out by hand, on the answers that the run draws."""
    from entanglement.rewards.advantages import leave_one_out
    from entanglement.rewards.answers import draw_answers

    model, seed = bandit(), 3
    by_hand = copy.deepcopy(model)
    trained(model, words, method="rloo", steps=1, beta=0.0, optimizer="sgd", lr=0.1, seed=seed, group=16)
    answers = draw_answers(by_hand, words, ["go"], group=16, tokens=1, seed=seed * 1_000_003 + 1)
    logps = by_hand(input_ids=answers.input_ids).logits[:, -2].log_softmax(-1)
    picked = logps.gather(1, answers.ids)[:, 0]
    (leave_one_out(pays(answers), 16) * picked).mean().backward()
    with torch.no_grad():
        for p in by_hand.parameters():
            p += 0.1 * p.grad
    for mine, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_more_epochs_are_more_steps_and_the_clip_holds_them(bandit, words):
    model = bandit()
    run = trained(model, words, method="ppo", steps=4, epochs=8, lr=0.1, beta=0.0)
    assert run.monitor["clipped"].iloc[0] > 0.05
    model = bandit()
    once = trained(model, words, method="ppo", steps=4, lr=0.1, beta=0.0)
    assert not once.monitor["clipped"].any()
    assert run.monitor["read"].iloc[0] > once.monitor["read"].iloc[0]


def test_held_out_pairs_are_measured_and_the_model_keeps_its_state(bandit, words):
    model = bandit()
    sets = {"test": [PreferencePair("go", "b", "c", "one")]}
    run = trained(model, words, steps=4, evaluate=sets, evaluate_at=[0, 4])
    first, last = (run.table[run.table["step"] == step].iloc[0] for step in (0, 4))
    assert last["chosen_logp"] > first["chosen_logp"] and last["rejected_logp"] < first["rejected_logp"]
    assert not model.training and all(p.requires_grad for p in model.parameters())


def test_the_divergence_that_a_row_tells_is_that_of_one_answer(bandit, words):
    model = bandit()
    reference = answers_of(model)
    run = trained(model, words, method="rloo", steps=8, beta=0.0, group=256, lr=0.05)
    last = bandit()
    trained(last, words, method="rloo", steps=8, beta=0.0, group=256, lr=0.05)
    policy = answers_of(last)
    told, known = run.monitor["kl"], float((policy * (policy / reference).log()).sum())
    assert told.iloc[0] == pytest.approx(0, abs=1e-6) and known > 0.05
    assert 0.4 * known < told.iloc[-1] < 1.3 * known  # before the last step


def test_what_weighs_the_advantages_gets_them(bandit, words):
    seen = []

    def nothing(model, answers, advantages):
        seen.append((len(answers), advantages.shape))
        return torch.zeros_like(advantages)

    model = bandit()
    before = answers_of(model)
    trained(model, words, steps=2, beta=0.0, weigh=nothing)
    assert seen == [(64, (64, 1))] * 2 and torch.equal(answers_of(model), before)


def test_falls_of_good_answers_are_held_up(bandit, words):
    """What is worth 1.5 is better than the mean, and falls all the same when what is worth 2 rises."""
    shares = []
    for preserve in (0.0, 5.0):
        model = bandit()
        run = trained(
            model, words, steps=15, epochs=6, beta=0.0, clip=1.0, lr=0.05, preserve=preserve, group=32
        )
        shares.append(run.monitor["fell"].mean())
    assert shares[0] > 0.05 and shares[1] < 0.7 * shares[0]


@pytest.mark.parametrize(
    ("name", "value"), [("warmup", 1.5), ("warmup", -0.1), ("lr", 0.0), ("clip", 0.0), ("beta", -1.0)]
)
def test_a_number_out_of_its_range_is_refused(bandit, words, name, value):
    with pytest.raises(ValueError, match=rf"{name}={value}; expected"):
        trained(bandit(), words, steps=1, **{name: value})


def test_what_cannot_go_on_stops(bandit, words):
    with pytest.raises(ValueError, match=r"reward gave \(1, 128\); expected"):
        reinforce(bandit(), words, ["go"], lambda a: pays(a)[None], batch_size=1, group=128, tokens=1)
    with pytest.raises(ValueError, match="reward gave a number that is not finite"):
        reinforce(bandit(), words, ["go"], lambda a: pays(a) * math.nan, batch_size=1, tokens=1)
    with pytest.raises(ValueError, match="batch_size=8 is more than the 1 prompts"):
        reinforce(bandit(), words, ["go"], pays, tokens=1)
    model = bandit()
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = math.nan
    with pytest.raises((NotFinite, RuntimeError)):
        trained(model, words, steps=1)
