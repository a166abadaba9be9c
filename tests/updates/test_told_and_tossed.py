"""Weights that are told, learned and averaged, coins that are tossed, and the pair that is named."""

import math
from dataclasses import replace

import pytest
import torch

from entanglement.geometry import PairGeometry
from entanglement.gradients import UncoveredParameterWarning
from entanglement.logps import PairLogps, response_logps, token_logps
from entanglement.losses import get_loss
from entanglement.pairs import collate
from entanglement.updates import Joint, NotFinite, PairPass, Split, TokenWeighted, Update, get_update
from entanglement.updates.token_weights import (
    FromGeometry,
    LearnedMask,
    Told,
    TwoReferences,
    Weigher,
    contrasting,
    everything,
)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


class Broken(Joint):
    """A gradient that is not finite, in a step whose last pair weighs most."""

    def gradient(self, work):
        report = super().gradient(work)
        next(work.model.parameters()).grad.fill_(math.nan)
        return replace(report, u_w=vector(0.1, 0.2, -0.1), u_l=vector(0.2, 0.1, -3.0))


def test_the_pair_that_weighs_most_is_named(tiny_model, tokenizer, near_copies):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(NotFinite, match="gradient is nan in a step on 3 pairs, of which 2 weighs most"):
        Broken().step(model, optimizer, [batch], get_loss("simpo"))


def test_the_coin_of_split_is_its_seeds_and_both_sides_come_up(
    tiny_model, tokenizer, near_copies, monkeypatch
):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    whole = Split._side

    def tosses(seed):
        """The sides that were looked at first, in twelve steps."""
        seen = []

        def spied(self, model, batches, side):
            seen.append(side)
            return whole(self, model, batches, side)

        monkeypatch.setattr(Split, "_side", spied)
        update, first = get_update("split", seed=seed), []
        for _ in range(12):
            seen.clear()
            update.step(model, optimizer, [batch], get_loss("simpo"))
            first.append(seen[0])
        return first

    one = tosses(1)
    assert one == tosses(1) != tosses(2) and set(one) == {0, 1}
    with pytest.raises(ValueError, match="order='first'"):
        get_update("split", order="first")


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_calibrated_ratio_is_a_running_average_and_starts_at_the_first(momentum):
    update = get_update("calibrated", momentum=momentum)
    ratios = (4.0, 0.25, 9.0)
    average, found = None, []
    for ratio in ratios:
        now = math.log(ratio * 0.3 / 0.2)  # the center over the loss's own ratio
        average = now if average is None else momentum * average + (1 - momentum) * now
        found.append(math.exp(average / 2))
    geometry = [PairGeometry(vector(1.0), vector(ratio**2), vector(0.1)) for ratio in ratios]
    assert [update._alpha(g, 0.2, 0.3) for g in geometry] == pytest.approx(found)
    for d_w, d_l in ((0.0, 0.3), (0.2, 0.0), (-0.2, 0.3), (0.2, -0.3)):
        assert update._alpha(geometry[0], d_w, d_l) == 1.0  # no ratio to speak of
    for a, b in ((0.0, 1.0), (1.0, 0.0)):
        assert update._alpha(PairGeometry(vector(a), vector(b), vector(0.0)), 0.2, 0.3) == 1.0
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="momentum="):
            get_update("calibrated", momentum=wrong)


def test_weights_of_a_function_enter_the_loss_and_are_written_down(tiny_model, tokenizer, near_copies):
    """A weight of 0.3 on chosen tokens and 0.6 on rejected ones, over two groups of unequal lengths."""

    def told(model, batch, reference):
        return torch.cat([0.3 * batch.response_mask[: len(batch)], 0.6 * batch.response_mask[len(batch) :]])

    groups = [collate(some, tokenizer, padding_side="left") for some in (near_copies[:2], near_copies[2:])]
    model, reference = tiny_model("gpt2-tied"), tiny_model("gpt2-tied", seed=1)
    logps = [
        [torch.cat(side) for side in zip(*(response_logps(m, g) for g in groups), strict=True)]
        for m in (model, reference)
    ]
    lengths = [torch.cat([getattr(g, f"{side}_len") for g in groups]) for side in ("chosen", "rejected")]
    loss = get_loss("rpo")
    weighed = PairLogps(
        *(factor * part for m in logps for factor, part in ((0.3, m[0]), (0.6, m[1]))), *lengths
    )
    expected = loss(weighed).mean()
    gradients = torch.autograd.grad(expected, list(model.parameters()), retain_graph=True)
    update = TokenWeighted(told, reference)
    update.begin(model)
    start = [p.detach().clone() for p in model.parameters()]
    report = update.step(model, torch.optim.SGD(model.parameters(), lr=1e-6), groups, loss)
    for p, q, g in zip(model.parameters(), start, gradients, strict=True):
        torch.testing.assert_close((q - p.detach()) / 1e-6, g, rtol=1e-4, atol=1e-6)
    assert report.loss == pytest.approx(float(expected.detach()))
    for mine, theirs in zip((report.d_w, report.d_l), loss.weights(weighed.detach()), strict=True):
        torch.testing.assert_close(mine, theirs)
    counts = [int(n.sum()) for n in lengths]
    assert update.seen == [pytest.approx((0.3 * counts[0] + 0.6 * counts[1]) / sum(counts))]


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_two_references_weigh_by_their_log_ratio_over_the_scale(tiny_model, tokenizer, near_copies, scale):
    plus, minus = tiny_model("gpt2-tied"), tiny_model("gpt2-tied", seed=1)
    batch = collate(near_copies, tokenizer)
    with torch.no_grad():
        one, other = token_logps(plus, batch), token_logps(minus, batch)
        weights = TwoReferences(minus, scale)(plus, batch, one)
    gap = torch.cat([one.chosen - other.chosen, one.rejected - other.rejected])[batch.response_mask]
    assert bool((gap < 0).any()) and bool((gap > 0).any())
    expected = [min(1.0, abs(x) / scale) for x in gap.tolist()]
    assert weights[batch.response_mask].tolist() == pytest.approx(expected, rel=1e-9)
    assert 0 < sum(w == 1.0 for w in expected) < len(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_of_the_log_probabilities_type_and_shape(tiny_model, tokenizer, near_copies, dtype):
    model, batch = tiny_model("gpt2-tied", dtype), collate(near_copies, tokenizer)
    with torch.no_grad():
        reference = token_logps(model, batch)
    mask = LearnedMask()
    mask.begin(model)
    for weigher in (everything, contrasting, FromGeometry(), mask, TwoReferences(model), Told(everything)):
        weights = weigher(model, batch, reference)
        assert weights.dtype == dtype and weights.shape == batch.input_ids.shape
    assert Told(everything).cost(torch.ones(()), 3) is None


def test_a_learned_mask_has_its_own_optimizer_and_takes_the_references_type(tiny_model):
    for dtype in (torch.float32, torch.float64):
        mask = LearnedMask(lr=0.07, start=0.8)
        torch.manual_seed(0)
        mask.begin(tiny_model("gpt2-tied", dtype, seed=0))
        torch.manual_seed(0)
        mask.begin(tiny_model("gpt2-tied", dtype, seed=0))
        assert mask.head.weight.dtype == dtype and float(mask.head.weight.detach().abs().max()) == 0
        assert float(mask.head.bias.detach().sigmoid()) == pytest.approx(0.8, abs=1e-6)
        (group,) = mask.optimizer.param_groups
        assert (group["lr"], group["weight_decay"]) == (0.07, 0.0) and len(group["params"]) == 2
    model = tiny_model("gpt2-tied")
    state = torch.random.get_rng_state()
    mask.begin(model)  # draws nothing from the generator that others draw from
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_is_left_to_subclasses_says_so(tiny_model, tokenizer, near_copies):
    with pytest.raises(NotImplementedError):
        Weigher()(None, None, None)
    with pytest.raises(NotImplementedError):
        Update().gradient(None)
    batch = collate(near_copies, tokenizer)
    with pytest.raises(ValueError, match="not begun"):
        LearnedMask()(tiny_model("gpt2-tied"), batch, None)
    assert LearnedMask(penalty=0.0).penalty == 0.0


# --- passes -------------------------------------------------------------------------------------------------


class Table(torch.nn.Module):
    """Logits from a parameter that belongs to no kind of layer."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(300, 300, dtype=torch.float64))

    def forward(self, input_ids, attention_mask):
        return self.table[input_ids]


def test_a_pass_over_a_model_without_any_rule_is_formed(tokenizer, near_copies):
    torch.manual_seed(0)
    model, batch = Table(), collate(near_copies, tokenizer)
    with pytest.warns(UncoveredParameterWarning, match="table"):
        found = PairPass(model, batch)
    chosen, rejected = response_logps(model, batch)
    up, down = vector(0.3, -1.0, 2.0), vector(1.0, 0.5, -0.2)
    (expected,) = torch.autograd.grad((up * chosen + down * rejected).sum(), [model.table])
    torch.testing.assert_close(found.gradient(up, down)["table"], expected)
    rows = [torch.autograd.grad(f, [model.table])[0] for f in response_logps(model, batch)[0].unbind()[:1]]
    assert float(found.geometry.chosen_sq[0]) == pytest.approx(float(rows[0].square().sum()))


def test_a_pass_refuses_an_empty_response_by_name(tiny_model, tokenizer, near_copies):
    batch = collate(near_copies, tokenizer)
    batch.response_mask[4] = False
    with pytest.raises(ValueError, match="PairPass: the rejected response of 1 is empty"):
        PairPass(tiny_model("gpt2-tied"), batch)
