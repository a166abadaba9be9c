"""What is particular to one family of updates, beyond the formula of its step."""

import math

import pytest
import torch
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients import TokenGeometry, token_geometry
from entanglement.logps import TokenLogps, token_logps
from entanglement.losses import get_loss
from entanglement.losses.goals import goal_loss
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.sampling import continue_ids
from entanglement.training import align
from entanglement.updates import (
    Adversarial,
    Decoupled,
    StepReport,
    TokenWeighted,
    adversarial as family,
    get_rule,
    get_update,
)
from entanglement.updates.plans import reach
from entanglement.updates.token_weights import (
    FromGeometry,
    LearnedMask,
    TwoReferences,
    contrasting,
    safe_token_weights,
)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- reports ------------------------------------------------------------------------------------------------


def test_a_report_has_means_a_median_and_shares_under_old_and_new_weights():
    # Both pairs have a² = 1, b² = 4, c = 1.5: both fall under equal weights, and not under (2, 1).
    geometry = PairGeometry(vector(1, 1, 1), vector(4, 4, 4), vector(1.5, 1.5, 1.5))
    one = vector(1, 1, 1)
    report = StepReport(vector(1, 2, 6), one, one, vector(2, 2, 1), one, geometry, 0.5, {"more": 7.0})
    row = report.row()
    assert report.loss == 3.0 and row["more"] == 7.0
    assert row["u_w"] == pytest.approx(5 / 3) and row["u_l"] == row["d_w"] == row["d_l"] == 1.0
    assert row["ratio"] == 2.0 and row["cosine"] == 0.75
    assert row["both_down"] == 1.0 and row["ideal"] == 0.0 and row["safe"] == pytest.approx(2 / 3)
    assert StepReport(vector(1)).row() == {}
    for missing in ("d_w", "d_l", "u_w", "u_l"):  # without one of the weights there is nothing to tell
        some = dict.fromkeys({"d_w", "d_l", "u_w", "u_l"} - {missing}, one)
        assert StepReport(one, **some, geometry=geometry, extra={"more": 1.0}).row() == {"more": 1.0}
    whole = PairGeometry(vector(1), vector(4), vector(1.5))  # of the batch, not of pairs
    assert "safe" not in StepReport(one, one, one, one, one, whole).row()


# --- rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_w", "d_l", "c"), [(-0.2, 0.3, 1.5), (0.2, -0.3, 1.5), (0.2, 0.3, -1.5)])
def test_pcgrad_leaves_what_does_not_conflict(d_w, d_l, c):
    geometry = PairGeometry(vector(2), vector(3), vector(c))
    assert get_rule("pcgrad").weights(geometry, vector(d_w), vector(d_l)) == (vector(d_w), vector(d_l))
    # With both signs turned, it is the same conflict as before.
    turned = get_rule("pcgrad").weights(
        PairGeometry(vector(2), vector(3), vector(1.5)), vector(-0.2), vector(-0.3)
    )
    assert [float(u) for u in turned] == pytest.approx([-0.2 - 0.3 * 1.5 / 2, -0.3 - 0.2 * 1.5 / 3])


def test_options_and_names_are_checked():
    with pytest.raises(ValueError, match="update 'split' is no rule; expected one of joint"):
        get_rule("split")
    with pytest.raises(ValueError, match="joint: unknown option 'level'; it has none"):
        get_update("joint", level="batch")
    with pytest.raises(ValueError, match="band: unknown option 'width'; it has level, metric, slack"):
        get_update("band", width=1)
    with pytest.raises(ValueError, match=r"other=None; expected a model"):
        get_update("two")
    assert get_update("band", slack=0.5).rule.options == {"slack": 0.5}
    assert get_update("band").rule.options == {"slack": 0.0}
    assert get_update("calibrated") is not get_update("calibrated")


# --- decoupled, and plans -----------------------------------------------------------------------------------


def test_decoupled_is_bounded_by_its_budget_only(tiny_model, tokenizer, near_copies):
    norms = []
    for bound in (None, 1e-6):
        model = tiny_model("gpt2-tied")
        start = [p.detach().clone() for p in model.parameters()]
        align(
            model, tokenizer, near_copies, update=Decoupled(), loss=goal_loss(0.1, -0.1), steps=1,
            batch_size=3, lr=1.0, optimizer="sgd", max_grad_norm=bound,
        )  # fmt: skip
        moved = [(p.detach() - q).flatten() for p, q in zip(model.parameters(), start, strict=True)]
        norms.append(float(torch.cat(moved).norm()))
    assert norms[0] == norms[1] > 1e-3


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}])
def test_decoupled_refuses_what_changes_its_step(tiny_model, tokenizer, near_copies, options):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, **options)
    with pytest.raises(ValueError, match="SGD without momentum and decay"):
        Decoupled().step(model, optimizer, [batch], get_loss("simpo"))


def test_the_way_is_as_long_as_its_steps(tiny_model, tokenizer, near_copies):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies[:1], tokenizer)
    found = reach(model, batch, 0.5, -0.5, nonnegative=False, share=0.25, max_steps=1)
    assert found.steps == 1 and found.length == pytest.approx(0.25 * found.planned, rel=1e-9)


@pytest.mark.parametrize("targets", [(math.nan, 0.0), (0.0, math.inf)])
def test_a_goal_is_finite(targets):
    with pytest.raises(ValueError, match="expected a finite number"):
        goal_loss(*targets)


# --- token weights ------------------------------------------------------------------------------------------


def test_the_reference_is_the_model_as_it_came_in(tiny_model, tokenizer, near_copies):
    ends = []
    for reference in (None, tiny_model("gpt2-tied")):
        model, update = tiny_model("gpt2-tied"), TokenWeighted(contrasting, reference)
        for _ in range(2):  # a second training starts from the first one's end
            align(model, tokenizer, near_copies, update=update, steps=3, batch_size=3, lr=1e-3)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        assert len(update.seen) == 3  # of the last training
        model = tiny_model("gpt2-tied")
        run = align(model, tokenizer, near_copies, update=update, steps=3, batch_size=3, lr=1e-2)
        assert run.losses["loss"][0] == pytest.approx(math.log(2)) and run.losses["loss"][2] < 0.69
    assert not torch.equal(*ends)  # the second training's reference was another one


def test_an_update_that_has_not_begun_says_so(tiny_model, tokenizer, near_copies):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer, padding_side="left")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for name in ("contrasting", "adversarial"):
        with pytest.raises(ValueError, match="not begun"):
            get_update(name).step(model, optimizer, [batch], get_loss("simpo"))


def test_long_responses_are_aligned_whatever_tokens_are_frequent():
    one, other = [8] + [7] * 250, [9] + [7] * 250
    ids = torch.tensor([[1, *one], [1, *other]])
    mask = torch.ones_like(ids)
    response = mask.bool()
    response[:, 0] = False
    batch = PairBatch(ids, mask, response, False, ("long",))
    zeros = torch.zeros(1, 252)
    weights = contrasting(nn.Identity(), batch, TokenLogps(zeros, zeros, zeros.bool(), zeros.bool()))
    assert weights.sum(1).tolist() == [1.0, 1.0] and weights[:, 1].tolist() == [1.0, 1.0]


def test_safe_weights_let_no_rejected_response_rise():
    g_w, g_l = vector(3.0, 0.0), vector(1.0, 0.0)
    rows = torch.stack([g_w, g_l])
    # All the margin that can be had raises the rejected response: then nothing is had.
    here = torch.arange(2)
    weights = safe_token_weights(TokenGeometry(rows @ rows.T, torch.zeros(2), here, here, n_chosen=1))
    rise = float(g_l @ (weights[0] * g_w - weights[1] * g_l))
    assert rise <= 1e-9


def test_geometry_is_that_of_what_is_trained(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    pair = PreferencePair("what a", " people", " people people people", "tangled")
    batch = collate([pair], tokenizer)
    for p in [*model.transformer.h.parameters(), model.transformer.wpe.weight]:
        p.requires_grad_(False)
    with torch.no_grad():
        frozen = token_logps(model, batch)
    weights = FromGeometry()(model, batch, frozen)
    expected = safe_token_weights(token_geometry(model, batch, "trainable"))
    torch.testing.assert_close(weights[batch.response_mask], expected)
    assert not torch.allclose(expected, safe_token_weights(token_geometry(model, batch, "all")))


def test_a_learned_mask_reads_the_direction_of_the_state(tiny_model, tokenizer, near_copies):
    reference, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    mask = LearnedMask(start=0.6)
    mask.begin(reference)
    with torch.no_grad():
        mask.head.weight.copy_(torch.linspace(-1, 1, mask.head.weight.numel())[None])
        states = reference(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            output_hidden_states=True,
        ).hidden_states[-1]  # fmt: skip
        expected = (
            states / states.norm(dim=-1, keepdim=True) * 4 @ mask.head.weight[0] + math.log(1.5)
        ).sigmoid()
        found = mask(reference, batch, token_logps(reference, batch))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert float(found.std()) > 0.05


def test_a_masks_price_is_for_the_mean_weight(tiny_model, tokenizer, near_copies):
    reference, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    mask = LearnedMask(penalty=0.5, start=0.8)
    update = TokenWeighted(mask, reference)
    update.begin(reference)
    mask.head.weight.requires_grad_(False)
    mask.optimizer = torch.optim.SGD([mask.head.bias], lr=1.0)
    before = float(mask.head.bias.detach())
    update.step(reference, torch.optim.SGD(reference.parameters(), lr=0.0), [batch], get_loss("dpo"))
    # At the reference only the price speaks: λ m (1 − m).
    assert float(mask.head.bias.detach()) - before == pytest.approx(-0.5 * 0.8 * 0.2, rel=1e-6)
    # And once more, with nothing left of the first step's gradient.
    first = float(mask.head.bias.detach())
    update.step(reference, torch.optim.SGD(reference.parameters(), lr=0.0), [batch], get_loss("dpo"))
    weight = 1 / (1 + math.exp(-first))
    assert float(mask.head.bias.detach()) - first == pytest.approx(-0.5 * weight * (1 - weight), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: LearnedMask(start=2), "start=2"),
        (lambda: LearnedMask(penalty=-1), "penalty=-1"),
        (lambda: LearnedMask(lr=0), "lr=0"),
        (lambda: TwoReferences(torch.nn.Linear(1, 1), scale=-1), "scale=-1"),
        (lambda: TwoReferences(torch.nn.Linear(1, 1), scale=0), "scale=0"),
        (lambda: TwoReferences(torch.nn.Linear(1, 1), scale=math.inf), "scale=inf"),
        (lambda: LearnedMask(start=0.0), "start=0.0"),
        (lambda: LearnedMask(start=1.0), "start=1.0"),
        (lambda: LearnedMask(penalty=math.inf), "penalty=inf"),
        (lambda: LearnedMask(lr=math.inf), "lr=inf"),
        (lambda: Adversarial(seed=-1), "seed=-1"),
        (lambda: Adversarial(head_start=1.5), "head_start=1.5"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


# --- adversarial --------------------------------------------------------------------------------------------


def test_reference_and_discriminator_are_not_the_model(tiny_model):
    model, update = tiny_model("gpt2-tied"), Adversarial()
    start = [p.detach().clone() for p in model.parameters()]
    update.begin(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for part in (update.reference, update.judge.body):
        assert all(torch.equal(p, q) for p, q in zip(part.parameters(), start, strict=True))
    assert not any(p.requires_grad for p in update.reference.parameters())
    for made in (Adversarial(lr=0.02), get_update("adversarial", lr=0.02)):
        made.begin(model)
        (group,) = made.judge.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.02, 0.0)
        assert len(group["params"]) == len(start) + 2  # and the head's two


def test_every_group_of_every_step_has_draws_of_its_own(tiny_model, tokenizer, near_copies, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        family, "drawn_batch", lambda model, batch, *, seed: seeds.append(seed) or batch, raising=True
    )
    pairs = [
        PreferencePair(f"{p.prompt} {i}", p.chosen, p.rejected, f"{i}") for i in range(4) for p in near_copies
    ]
    for seed in (0, 1):
        update = get_update("adversarial", head_start=1, seed=seed)
        for _ in range(2):  # a training repeats
            run = align(tiny_model("gpt2-tied"), tokenizer, pairs, update=update, steps=2, batch_size=9)
            # Seven passes of a batch before the first step, then twelve.
            assert run.monitor["passes"][0] < 2 * run.monitor["passes"].diff()[1]
    runs = [seeds[i : i + 6] for i in range(0, 24, 6)]
    assert runs[0] == runs[1] and runs[2] == runs[3] and len({*runs[0], *runs[2]}) == 12


def test_the_advantage_is_centered_and_costs_the_way_from_the_reference(tiny_model, tokenizer, near_copies):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer, padding_side="left")
    update = Adversarial(beta=0.5)
    update.reference = tiny_model("gpt2-tied", seed=1)
    odds = vector(0.3, -1.0, 2.0)
    update.judge = lambda batch: torch.cat([torch.zeros(3).double(), odds])
    losses, reward = update.policy_losses(model, [batch])
    with torch.no_grad():
        logps = [token_logps(m, batch).rejected.sum(1) for m in (model, update.reference)]
    value = odds - 0.5 * (logps[0] - logps[1])
    advantage = (value - value.mean()) / (value.std() + 1e-6)
    torch.testing.assert_close(losses.detach(), -advantage * logps[0])
    assert reward == pytest.approx(float(odds.mean()))
    # The gradient goes through log π alone.
    found = torch.autograd.grad(losses.sum(), list(model.parameters()))
    plain = torch.autograd.grad(
        -(advantage * token_logps(model, batch).rejected.sum(1)).sum(), list(model.parameters())
    )
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_a_prompt_too_long_for_the_draw_keeps_its_start_and_its_end(tiny_model, tokenizer, monkeypatch):
    batch = collate([PreferencePair("abab day " * 4, " good", " bad", "x")], tokenizer, padding_side="left")
    prompt = batch.input_ids[0][~batch.response_mask[0]].tolist()
    ids, mask = family._prompt_rows(batch, 5)
    assert ids[0].tolist() == [prompt[0], *prompt[-4:]] and mask.sum() == 5
    model = tiny_model("gpt2-tied")
    model.config.n_positions = batch.input_ids.shape[1] - 3  # of which the draw needs some
    asked = []

    def draw(model, ids, mask, tokens, *, seed):
        asked.append(ids.shape[1] + tokens)
        return continue_ids(model, ids, mask, tokens, seed=seed)

    monkeypatch.setattr(family, "continue_ids", draw)
    drawn = family.drawn_batch(model, batch, seed=0)
    assert asked == [model.config.n_positions]
    assert drawn.rejected_len.tolist() == batch.chosen_len.tolist()
    with pytest.raises(ValueError, match="pad on the left"):
        right = collate(
            [PreferencePair("a", " good", " bad", "x"), PreferencePair("a day", " good day", " bad", "y")],
            tokenizer,
        )
        family.drawn_batch(model, right, seed=0)
