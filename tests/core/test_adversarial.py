"""A discriminator in place of a loss: what it learns, and which way its reward pulls the model."""

import math

import pytest
import torch

from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.sampling import continue_prompts
from entanglement.training import align
from entanglement.updates import Adversarial, get_update
from entanglement.updates.adversarial import Discriminator, drawn_batch


@pytest.fixture
def pairs():
    return [
        PreferencePair("the film was", " good and the people liked it", " bad", "0"),
        PreferencePair("what a day", " positive people", " negative people", "1"),
        PreferencePair("the day", " good people", " bad and the people", "2"),
    ]


def test_a_draw_stands_where_the_rejected_response_stood(tiny_model, tokenizer, pairs):
    model = tiny_model("gpt2-tied")
    plain = collate(pairs, tokenizer, padding_side="left")
    batch = drawn_batch(model, plain, seed=4)
    longest = int(batch.chosen_len.max())
    draws = continue_prompts(model, tokenizer, [p.prompt for p in pairs], longest, seed=4)
    for i, length in enumerate(batch.chosen_len.tolist()):
        row = batch.input_ids[3 + i][batch.response_mask[3 + i]].tolist()
        assert row == draws.ids[i, :length].tolist()
        for a, b in ((batch, plain), (plain, batch)):
            chosen, other = a.input_ids[i][a.response_mask[i]], b.input_ids[i][b.response_mask[i]]
            assert chosen.tolist() == other.tolist()
        before = batch.attention_mask.bool() & ~batch.response_mask
        assert batch.input_ids[3 + i][before[3 + i]].tolist() == batch.input_ids[i][before[i]].tolist()
    assert batch.rejected_len.tolist() == batch.chosen_len.tolist()


def test_the_discriminator_learns_to_tell_them_apart_and_not_what_is_the_same(tiny_model, tokenizer, pairs):
    batch = collate(pairs, tokenizer, padding_side="left")
    twins = [PreferencePair(p.prompt, p.chosen, p.chosen, p.id) for p in pairs]
    same = collate(twins, tokenizer, padding_side="left")
    judge = Discriminator(tiny_model("gpt2-tied"), lr=1e-2)
    assert judge.learn([batch])[0] == pytest.approx(math.log(2))
    for _ in range(10):
        loss, right = judge.learn([batch])
    assert loss < 0.3 and right == 1.0
    blind = Discriminator(tiny_model("gpt2-tied"), lr=1e-2)
    for _ in range(10):
        loss, _ = blind.learn([same])  # which of two equal scores is larger, rounding alone decides
    assert loss == pytest.approx(math.log(2), abs=1e-3)


def test_its_loss_does_not_depend_on_how_the_batch_is_split(tiny_model, tokenizer, pairs):
    whole = collate(pairs, tokenizer, padding_side="left")
    one, other = (Discriminator(tiny_model("gpt2-tied"), lr=1e-3) for _ in range(2))
    for _ in range(3):
        a = one.learn([whole])
        b = other.learn([whole.select([0, 1]), whole.select([2])])
    assert a == pytest.approx(b, rel=1e-6)


def all_answers(tokenizer, token_ids):
    """Return a batch whose "draws" are one token each, one for every id; preferred ones in reverse."""
    n = len(token_ids)
    ids, others = (torch.tensor([[0, 5, t] for t in some]) for some in (token_ids, token_ids[::-1]))
    response = torch.tensor([[False, False, True]] * 2 * n)
    return PairBatch(
        torch.cat([others, ids]), torch.ones(2 * n, 3, dtype=torch.long), response, False, ("",) * n
    )


def policy_step(model, reference, judge, batch, beta):
    """Return a function that takes the model's own part of an adversarial step, with these others."""
    update = Adversarial(beta=beta)
    update.reference, update.judge = reference, judge
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)

    def step():
        losses, _ = update.policy_losses(model, [batch])
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("liked", [7, 11])
def test_the_model_learns_to_draw_what_is_rewarded(tiny_model, tokenizer, liked):
    model, batch = tiny_model("gpt2-tied"), all_answers(tokenizer, [7, 11])

    def judge(batch):  # likes one token
        last = batch.input_ids[:, -1]
        return (last == liked).double()

    step = policy_step(model, tiny_model("gpt2-tied"), judge, batch, beta=0.0)

    def odds():
        with torch.no_grad():
            logits = model(torch.tensor([[0, 5]])).logits[0, -1]
        return float(logits[liked] - logits[18 - liked])

    before = odds()
    for _ in range(5):
        step()
    assert odds() > before + 0.1


def test_leaving_the_reference_costs_reward(tiny_model, tokenizer):
    model, batch = tiny_model("gpt2-tied"), all_answers(tokenizer, [7, 11])
    reference = tiny_model("gpt2-tied", seed=1)  # far away from the model

    def indifferent(batch):
        return torch.zeros(2 * len(batch), dtype=torch.float64)

    def gap():
        with torch.no_grad():
            mine, theirs = (
                m(torch.tensor([[0, 5]])).logits[0, -1].log_softmax(-1) for m in (model, reference)
            )
        return float((mine - theirs)[[7, 11]].diff().abs())

    step = policy_step(model, reference, indifferent, batch, beta=0.1)
    before = gap()
    for _ in range(5):
        step()
    assert gap() < before - 0.05


def test_a_run_counts_its_passes_and_is_the_same_twice(tiny_model, tokenizer, pairs):
    runs = [
        align(
            tiny_model("gpt2-tied"), tokenizer, pairs, steps=3, batch_size=3, lr=1e-3,
            update=get_update("adversarial", head_start=2), evaluate={"test": pairs},
        )
        for _ in range(2)
    ]  # fmt: skip
    one, two = runs
    assert one.table.equals(two.table) and one.monitor.equals(two.monitor)
    assert sorted(one.table["step"].unique()) == [0, 1, 2, 3]
    batch = drawn_batch(tiny_model("gpt2-tied"), collate(pairs, tokenizer, padding_side="left"), seed=0)
    tokens = int(batch.attention_mask[3:].sum())
    assert one.monitor["passes"].tolist() == [(3 * 7 + 5 * 1) * tokens + k * 12 * tokens for k in range(3)]
    assert (one.table["chosen_logp"].groupby(one.table["step"]).mean().diff().dropna() != 0).all()


@pytest.mark.parametrize("bad", [{"head_start": -1}, {"beta": -0.1}, {"lr": 0.0}])
def test_it_refuses_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Adversarial(**bad)


def test_an_advantage_needs_a_batch(tiny_model, tokenizer, pairs):
    with pytest.raises(ValueError, match="batch_size=1; expected a whole number of at least 2"):
        align(tiny_model("gpt2-tied"), tokenizer, pairs, update="adversarial", steps=1, batch_size=1)


def test_its_loss_and_share_are_those_of_its_log_odds(tiny_model, tokenizer, pairs):
    batch = collate(pairs, tokenizer, padding_side="left")
    judge = Discriminator(tiny_model("gpt2-tied"), lr=1e-3)
    with torch.no_grad():
        judge.head.weight.copy_(torch.linspace(-1, 1, judge.head.weight.numel())[None])
        judge.head.bias.fill_(0.3)
    # Read at the last token of each response, before the output layer.
    states = judge.body(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
        output_hidden_states=True,
    ).hidden_states[-1][:, -1]  # fmt: skip
    odds = states @ judge.head.weight[0] + judge.head.bias
    torch.testing.assert_close(judge(batch), odds)
    value = -(torch.nn.functional.logsigmoid(odds[:3]) + torch.nn.functional.logsigmoid(-odds[3:])).sum() / 6
    gradients = torch.autograd.grad(value, [judge.head.weight, judge.head.bias])
    seen = []
    judge.optimizer.register_step_pre_hook(
        lambda *_: seen.append([p.grad.clone() for p in (judge.head.weight, judge.head.bias)])
    )
    expected = float(value.detach()), float((odds[:3] > odds[3:]).double().mean())
    start = {name: value.clone() for name, value in judge.state_dict().items()}
    for _ in range(2):  # nothing is left of the step before
        assert judge.learn([batch.select([0, 1]), batch.select([2])]) == pytest.approx(expected)
        assert not torch.equal(judge.head.bias, start["head.bias"])
        judge.load_state_dict(start)
    for found in seen:
        for mine, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_right_padded_batch_is_read_at_its_last_tokens_too(tiny_model, tokenizer, pairs):
    judge = Discriminator(tiny_model("gpt2-tied"))
    with torch.no_grad():
        judge.head.weight.copy_(torch.linspace(-1, 1, judge.head.weight.numel())[None])
        one, other = (judge(collate(pairs, tokenizer, padding_side=side)) for side in ("left", "right"))
    torch.testing.assert_close(one, other)
    assert float(one.std()) > 0.01


@pytest.mark.parametrize(
    "bad",
    [
        {"head_start": 1.0}, {"head_start": "8"}, {"beta": math.inf}, {"beta": math.nan}, {"lr": math.inf},
        {"lr": math.nan}, {"lr": -1.0}, {"seed": 0.5}, {"seed": -1},
    ],
)  # fmt: skip
def test_it_refuses_what_is_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))!r}"):
        Adversarial(**bad)


def test_no_head_start_and_no_price_are_allowed(tiny_model, tokenizer, pairs):
    update = Adversarial(head_start=0, beta=0.0, seed=0)
    run = align(tiny_model("gpt2-tied"), tokenizer, pairs, steps=1, batch_size=2, update=update)
    assert len(run.losses) == 1 and run.monitor["right"].between(0, 1).all()
    assert not update.needs_reference(None)


@pytest.mark.parametrize("option", ["seed", "lr", "beta", "head_start"])
def test_each_option_changes_the_run(tiny_model, tokenizer, pairs, option):
    other = {"seed": 1, "lr": 1e-2, "beta": 5.0, "head_start": 1}[option]
    ends = []
    for options in ({}, {option: other}):
        update = get_update("adversarial", **({"head_start": 2} | options))
        run = align(
            tiny_model("gpt2-tied"), tokenizer, pairs, steps=2, batch_size=3, lr=3e-2, update=update,
            evaluate={"all": pairs}, evaluate_at=[2], warmup=0,
        )  # fmt: skip
        ends.append(run.table["chosen_logp"].to_numpy())
    assert abs(ends[0] - ends[1]).max() > 1e-6


def test_policy_losses_want_both_a_judge_and_a_reference(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer, padding_side="left")
    for name in ("judge", "reference"):
        update = Adversarial()
        setattr(update, name, Discriminator(model) if name == "judge" else model)
        with pytest.raises(ValueError, match="not begun"):
            update.policy_losses(model, [batch])
