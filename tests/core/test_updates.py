"""Update rules: their arithmetic, the backward pass in two halves, and what true steps do."""

import math
import weakref

import pandas as pd
import peft
import pytest
import torch
from hypothesis import given, strategies as st
from model_shapes import SHAPES
from torch import nn

from entanglement.geometry import PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.loglinear import suffix_pairs
from entanglement.logps import response_logps
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement.updates import (
    Calibrated,
    PairPass,
    Split,
    Weighted,
    balanced,
    get_rule,
    get_update,
    list_rules,
    preconditioner,
)

SAFE = [name for name, rule in list_rules().items() if rule.safe]
positive = st.floats(0.1, 10.0)
pairs_of_norms = st.tuples(positive, positive, st.floats(-0.999, 0.999), positive, positive)


def one(value):
    return torch.tensor([float(value)], dtype=torch.float64)


def geometry(a, b, rho):
    return PairGeometry(one(a * a), one(b * b), one(a * b * rho))


# --- arithmetic ---------------------------------------------------------------------------------------------


@given(pairs_of_norms)
def test_safe_rules_lower_no_chosen_and_raise_no_rejected_response(numbers):
    a, b, rho, d_w, d_l = numbers
    pair = geometry(a, b, rho)
    for name in SAFE:
        up, down = pair.rates(*get_rule(name).weights(pair, one(d_w), one(d_l)))
        size = 1e-9 * (d_w * a * a + d_l * b * b)  # rounding, where a change is exactly 0
        assert float(up) >= -size and float(down) <= size, name


def test_the_loss_itself_is_not_safe():
    pair = PairGeometry.from_vectors([2.0, 1.0], [3.0, 1.0])
    u_w, u_l = get_rule("joint").weights(None, one(1), one(1))
    assert not list_rules()["joint"].safe and pair.case(u_w, u_l) == ["both_down"]


@given(pairs_of_norms)
def test_prf_rules_ratios_are_those_of_the_books_table(numbers):
    a, b, rho, _, _ = numbers
    rho = abs(rho) + 1e-6
    pair = geometry(a, b, min(rho, 0.999))
    rho = float(pair.cosine)

    def ratio(name, **options):
        u_w, u_l = get_rule(name, **options).weights(pair, one(1), one(1))
        return float(u_w / u_l)

    c = a * b * rho
    assert ratio("normalized") == pytest.approx(b / a)
    assert ratio("band", slack=1.0) == pytest.approx(b / a)
    assert ratio("band") == pytest.approx(min(max(1.0, rho * b / a), b / a / rho))
    assert ratio("pcgrad") == pytest.approx(b / a * (a + rho * b) / (b + rho * a))
    assert ratio("mgda") == pytest.approx((b * b + c) / (a * a + c))


@given(pairs_of_norms)
def test_prf_rules_mgda_is_the_shortest_mixture_and_both_sides_gain_alike(numbers):
    a, b, rho, d_w, d_l = numbers
    pair = geometry(a, b, abs(rho))
    u_w, u_l = get_rule("mgda").weights(pair, one(d_w), one(d_l))
    up, down = pair.rates(u_w, u_l)
    assert float(d_w * up) == pytest.approx(float(-d_l * down), rel=1e-6, abs=1e-9)

    def length(share):
        w, l = 2 * share * d_w, 2 * (1 - share) * d_l  # noqa: E741
        return w * w * a * a + l * l * b * b - 2 * w * l * a * b * abs(rho)

    share = float(u_w) / (2 * d_w)
    assert length(share) <= min(length(share + 1e-3), length(share - 1e-3)) + 1e-9


@given(pairs_of_norms)
def test_only_the_ratio_is_changed(numbers):
    a, b, rho, d_w, d_l = numbers
    for name in ("normalized", "band"):
        u_w, u_l = get_rule(name).weights(geometry(a, b, rho), one(d_w), one(d_l))
        assert float(u_w * u_l) == pytest.approx(d_w * d_l)


@given(pairs_of_norms)
def test_thm_normalized_normalized_gradients_in_the_plain_metric(numbers):
    a, b, rho, _, _ = numbers
    pair = geometry(a, b, rho)
    up, down = pair.rates(1 / a, 1 / b)
    assert float(up) == pytest.approx(a * (1 - rho), rel=1e-9, abs=1e-12)
    assert float(down) == pytest.approx(-b * (1 - rho), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("strength", [1.0, 1.25])
def test_thm_normalized_any_step_below_its_bound_keeps_both_signs(strength):
    generator = torch.Generator().manual_seed(2)
    pairs = suffix_pairs(60, 8, relation="scaled", strength=strength, generator=generator)
    geo = pairs.geometry()
    a, b = geo.chosen_sq.sqrt(), geo.rejected_sq.sqrt()
    bound_w, bound_l = pairs.smoothness()
    eta = 0.999 * torch.minimum(a / bound_w, b / bound_l)
    up, down = pairs.change(1.0, eta / a, eta / b)
    assert bool((up > 0).all()) and bool((down < 0).all())
    tangled = torch.tensor([case == "both_down" for case in geo.case()])
    assert (int(tangled.sum()) > 40) == (strength > 1)
    own, _ = pairs.change(1.0, 1e-3 * eta, 1e-3 * eta)  # DPO's own step has the wrong sign at any size
    assert bool((own[tangled] < 0).all())


def test_thm_normalized_in_another_metric_needs_that_metrics_norms():
    g_w, g_l = torch.tensor([1.0, 1.0]).double(), torch.tensor([3.0, 0.0]).double()
    metric = torch.tensor([9.0, 1.0]).double()
    plain = metric * (g_w / g_w.norm() - g_l / g_l.norm())
    assert float(g_w @ plain) == pytest.approx(-1.93, abs=0.005)
    norms = [float((metric * g * g).sum().sqrt()) for g in (g_w, g_l)]
    mended = metric * (g_w / norms[0] - g_l / norms[1])
    assert float(g_w @ mended) > 0 > float(g_l @ mended)


@given(pairs_of_norms)
def test_prf_rules_normalized_is_the_answer_to_both_questions(numbers):
    a, b, rho, _, _ = numbers
    rho = abs(rho)
    g_w = torch.tensor([a, 0.0], dtype=torch.float64)
    g_l = b * torch.tensor([rho, math.sqrt(1 - rho * rho)], dtype=torch.float64)
    angles = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    others = torch.stack([angles.cos(), angles.sin()], dim=1)
    best = g_w / a - g_l / b
    best = best / best.norm()

    def gains(u):
        return u @ g_w, -(u @ g_l)

    x, y = gains(best)
    xs, ys = gains(others)
    assert float(torch.minimum(x / a, y / b)) >= float(torch.minimum(xs / a, ys / b).max()) - 1e-9
    both = (xs > 0) & (ys > 0)
    assert not bool(both.any()) or float(x * y) >= float((xs * ys)[both].max()) - 1e-9


def test_inside_the_band_the_loss_keeps_its_weights():
    pair = PairGeometry.from_vectors([2.0, 1.0], [1.0, -1.0])
    u_w, u_l = get_rule("band").weights(pair, one(0.3), one(0.2))
    assert (float(u_w), float(u_l)) == pytest.approx((0.3, 0.2))


def test_pcgrad_without_conflict_is_the_loss_itself():
    pair = PairGeometry.from_vectors([2.0, 1.0], [-1.0, -1.0])
    assert [float(u) for u in get_rule("pcgrad").weights(pair, one(0.3), one(0.2))] == [0.3, 0.2]


@pytest.mark.parametrize(("d_w", "d_l", "ratio"), [(0.0, 1.0, 2.0), (1.0, 0.0, 2.0), (1.0, 1.0, math.inf)])
def test_where_there_is_nothing_to_balance_the_losss_weights_stay(d_w, d_l, ratio):
    assert [float(u) for u in balanced(one(d_w), one(d_l), one(ratio))] == [d_w, d_l]


def test_weights_that_stay_are_the_losss_own_to_the_gradient():
    d_w, d_l = (one(value).expand(3).clone().requires_grad_() for value in (0.5, 2.0))
    ratio = torch.tensor([0.0, -1.0, math.inf], dtype=torch.float64)
    for mine, own in zip(balanced(d_w, d_l, ratio), (d_w, d_l), strict=True):
        (gradient,) = torch.autograd.grad(mine.sum(), [own], retain_graph=True)
        assert gradient.tolist() == [1.0, 1.0, 1.0]


def test_wrong_names_and_values_are_refused():
    with pytest.raises(ValueError, match=r"update 'magic' is not known; expected .*joint, normalized"):
        get_rule("magic")
    with pytest.raises(ValueError, match="band: unknown option 'width'; it has slack"):
        get_rule("band", width=1.0)
    with pytest.raises(ValueError, match=r"band: slack=2; expected a share from 0 to 1"):
        get_rule("band", slack=2)
    with pytest.raises(ValueError, match=r"update 'magic' is not known; expected .* split"):
        get_update("magic")
    with pytest.raises(ValueError, match="split: unknown option 'kind'; it has order, seed"):
        get_update("split", kind=1)
    with pytest.raises(ValueError, match="order='both'; expected 'chosen', 'rejected' or 'random'"):
        get_update("split", order="both")
    with pytest.raises(ValueError, match=r"momentum=1.0; expected"):
        get_update("calibrated", momentum=1.0)
    with pytest.raises(ValueError, match="level='token'; expected 'pair' or 'batch'"):
        get_update("normalized", level="token")
    with pytest.raises(ValueError, match="got no geometry for 1 pairs"):
        get_rule("normalized").weights(None, one(1), one(1))
    with pytest.raises(ValueError, match=r"d_w is \(1,\), d_l is \(2,\)"):
        get_rule("joint").weights(None, one(1), torch.ones(2))


# --- a backward pass in two halves --------------------------------------------------------------------------


def weighted_gradient(model, batch, w, l):  # noqa: E741
    chosen, rejected = response_logps(model, batch)
    model.zero_grad(set_to_none=True)
    ((w * chosen).sum() + (l * rejected).sum()).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def check_halves(model, batch, tolerance=1e-9):
    n = len(batch)
    w, l = torch.linspace(0.5, 2, n).double(), torch.linspace(-1, 1.5, n).double()  # noqa: E741
    found = PairPass(model, batch)
    for side, both in (((w, l), (w, l)), ((w, None), (w, 0 * l)), ((None, l), (0 * w, l))):
        expected = weighted_gradient(model, batch, *both)
        mine = found.gradient(*side)
        assert set(mine) >= set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(mine[name], value, rtol=tolerance, atol=tolerance)
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_weighted_gradient_follows_from_one_pass(tiny_model, tokenizer, pairs, shape, side):
    model = tiny_model(shape)
    batch = collate(pairs, tokenizer, padding_side=side)
    found = check_halves(model, batch)
    exact = pair_geometry(model, batch)
    torch.testing.assert_close(found.geometry.inner, exact.inner)
    torch.testing.assert_close(found.geometry.chosen_sq, exact.chosen_sq)
    chosen, rejected = response_logps(model, batch)
    torch.testing.assert_close(found.chosen, chosen.detach())
    torch.testing.assert_close(found.rejected, rejected.detach())


def test_with_adapters_only_they_get_gradients(tiny_model, tokenizer, pairs):
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    torch.manual_seed(0)
    model = peft.get_peft_model(tiny_model("gpt2-tied"), config).eval().double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_()
    found = check_halves(model, collate(pairs, tokenizer))
    assert all("lora" in name for name in found.names)


class Kept:
    """A tensor that a graph keeps."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_lets_go_of_its_graph(tiny_model, tokenizer, pairs, shape):
    model, batch, alive = tiny_model(shape), collate(pairs, tokenizer), weakref.WeakSet()

    def pack(tensor):
        kept = Kept(tensor)
        alive.add(kept)
        return kept

    most = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: most.append(len(alive)) or kept.tensor):
        found = PairPass(model, batch)
    assert len(alive) <= 2 < 20 < max(most) and found.geometry is not None


class Tempered(nn.Module):
    """Multiplies its logits by a parameter of its own, a use that no rule covers."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.temperature = inner, nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, input_ids, attention_mask, position_ids):
        found = self.inner(input_ids, attention_mask=attention_mask, position_ids=position_ids)
        return found.logits * self.temperature


@pytest.mark.filterwarnings("ignore:.*no rule covers")
def test_parameters_without_a_rule_are_formed(tiny_model, tokenizer, pairs):
    model, batch = Tempered(tiny_model("gpt2-tied")), collate(pairs, tokenizer)
    found = check_halves(model, batch)
    torch.testing.assert_close(found.geometry.inner, pair_geometry(model, batch).inner)
    with pytest.raises(ValueError, match="no rule covers the use of temperature"):
        found.geometry_in({})


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_the_geometry_in_a_metric_is_that_of_rescaled_gradients(tiny_model, tokenizer, pairs, shape):
    model, batch = tiny_model(shape), collate(pairs, tokenizer)
    draw = torch.Generator().manual_seed(5)
    names = {name: p for name, p in model.named_parameters()}
    metric = {name: torch.rand(p.shape, generator=draw).double() + 0.1 for name, p in names.items()}
    found = PairPass(model, batch).geometry_in(metric)
    for i in range(len(batch)):
        unit = torch.nn.functional.one_hot(torch.tensor(i), len(batch)).double()
        g_w = weighted_gradient(model, batch, unit, 0 * unit)
        g_l = weighted_gradient(model, batch, 0 * unit, unit)
        for value, (x, y) in (
            (found.chosen_sq, (g_w, g_w)),
            (found.rejected_sq, (g_l, g_l)),
            (found.inner, (g_w, g_l)),
        ):
            expected = sum(float((metric[name] * x[name] * y[name]).sum()) for name in x)
            assert float(value[i]) == pytest.approx(expected, rel=1e-9)
    plain = PairPass(model, batch).geometry_in({})
    torch.testing.assert_close(plain.inner, PairPass(model, batch).geometry.inner)


def test_no_weights_at_all_are_refused(tiny_model, tokenizer, pairs):
    with pytest.raises(ValueError, match="got no weights"):
        PairPass(tiny_model("gpt2-tied"), collate(pairs, tokenizer)).gradient(None, None)


# --- true steps ---------------------------------------------------------------------------------------------


def tangled(tiny_model, tokenizer):
    """A model and pairs that a plain DPO step tangles: the rejected response says the chosen one twice."""
    model = tiny_model("gpt2-tied")
    words = (" people", " film", " day", " good")
    pairs = [PreferencePair("what a", word, word * 3, word.strip()) for word in words]
    return model, pairs, collate(pairs, tokenizer)


def values(model, batch):
    with torch.no_grad():
        return response_logps(model, batch)


def after_a_step(model, batch, update, optimizer="sgd", lr=1e-5, **options):
    """Return how both log-probabilities of a batch changed in one step."""
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    before = values(model, batch)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    update.step(model, make(model.parameters(), lr=lr, **options), [batch], get_loss("dpo"), before)
    changed = [new - old for new, old in zip(values(model, batch), before, strict=True)]
    model.load_state_dict(start, strict=False)
    return changed


@pytest.mark.parametrize("name", SAFE)
def test_a_safe_rule_keeps_its_promise_in_true_steps_where_the_loss_does_not(tiny_model, tokenizer, name):
    model, pairs, batch = tangled(tiny_model, tokenizer)
    fell = 0
    for i in range(len(pairs)):
        alone = batch.select([i])
        joint = after_a_step(model, alone, get_update("joint"))
        fell += bool(joint[0] < 0)
        up, down = after_a_step(model, alone, get_update(name))
        # The band's ends are exact ties to first order; what is left there is of second order.
        size = 2e-3 * float(joint[1].abs())
        assert float(up) >= -size and float(down) <= size
    assert fell >= 2


def test_the_two_means_of_a_batch_are_safe_at_batch_level(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    joint = [float(part.mean()) for part in after_a_step(model, batch, get_update("joint"))]
    up, down = after_a_step(model, batch, get_update("normalized", level="batch"))
    assert joint[0] < 0 and float(up.mean()) > 0 > float(down.mean())


def test_a_diagonal_afterwards_breaks_the_plain_guarantee_and_the_optimizers_metric_mends_it(
    tiny_model, tokenizer
):
    model, pairs, batch = tangled(tiny_model, tokenizer)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    broken = {"plain": 0, "optimizer": 0}
    for seed in range(12):
        alone = batch.select([seed % len(pairs)])
        before = values(model, alone)
        for metric in broken:
            draw = torch.Generator().manual_seed(seed)
            optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-9, alpha=1 - 1e-9, eps=1e-12)
            for p in model.parameters():  # a history of very unequal gradients
                history = torch.exp(6 * torch.randn(p.shape, generator=draw, dtype=torch.float64))
                optimizer.state[p] = {"step": torch.tensor(1.0), "square_avg": history}
            update = get_update("normalized", metric=metric)
            update.step(model, optimizer, [alone], get_loss("dpo"), before)
            up, down = (float(new - old) for new, old in zip(values(model, alone), before, strict=True))
            broken[metric] += up < 0 or down > 0
            model.load_state_dict(start, strict=False)
    assert broken["plain"] >= 2 and broken["optimizer"] == 0, broken


def test_the_first_step_of_adam_is_taken_in_the_metric_that_it_will_have(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    alone = batch.select([0])
    before = values(model, alone)
    found = PairPass(model, alone)
    d = torch.full((1,), get_loss("dpo").hyper["beta"] / 2, dtype=torch.float64)
    u_w, u_l = get_rule("normalized").weights(found.geometry, d, d)
    metric = {name: 1 / (g.abs() + 1e-8) for name, g in found.gradient(u_w, -u_l).items()}
    expected = found.geometry_in(metric)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    update = get_update("normalized", metric="optimizer")
    report = update.step(model, optimizer, [alone], get_loss("dpo"), before)
    torch.testing.assert_close(report.geometry.inner, expected.inner)
    torch.testing.assert_close(report.u_w / report.u_l, expected.norm_ratio)
    # From the second step on it is what the optimizer has.
    now = preconditioner(model, optimizer)
    again = update.step(model, optimizer, [alone], get_loss("dpo"), before)
    torch.testing.assert_close(again.geometry.inner, found.geometry_in(now).inner, rtol=1e-4, atol=0)


def test_the_metric_is_the_optimizers(tiny_model):
    model = tiny_model("gpt2-tied")
    name, p = next(iter(model.named_parameters()))
    for make, options in (
        (torch.optim.Adam, {"betas": (0.0, 0.9)}),
        (torch.optim.AdamW, {"betas": (0.0, 0.9), "weight_decay": 0.0}),
        (torch.optim.RMSprop, {}),
        (torch.optim.Adagrad, {}),
    ):
        optimizer = make([p], lr=1.0, **options)
        if make is not torch.optim.Adagrad:  # which has a state from the beginning
            assert preconditioner(model, optimizer) == {}
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        before = p.detach().clone()
        optimizer.step()
        torch.testing.assert_close(before - p.detach(), preconditioner(model, optimizer)[name] * p.grad)
    assert preconditioner(model, torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)) == {}
    with pytest.raises(ValueError, match="metric of LBFGS is not known; expected SGD, Adam"):
        preconditioner(model, torch.optim.LBFGS(model.parameters()))


def test_split_is_the_joint_step_to_first_order_and_its_orders_differ_in_the_second(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    gaps = []
    for lr in (1e-4, 5e-5):
        joint = torch.stack(after_a_step(model, batch, get_update("joint"), lr=lr))
        one, other = (
            torch.stack(after_a_step(model, batch, Split(order), lr=lr)) for order in ("chosen", "rejected")
        )
        gaps.append([float((x - joint).abs().max()) for x in (one, other)])
        assert float((one - other).abs().max()) > 0
    for large, small in zip(*gaps, strict=True):
        assert large / small == pytest.approx(4, rel=0.2)  # second order in the rate


def test_the_coin_of_split_begins_anew_with_each_training():
    update = Split("random", seed=3)
    first = [update._coin.random() for _ in range(3)]
    update.begin(None)
    assert [update._coin.random() for _ in range(3)] == first


def test_calibration_moves_the_batchs_ratio_to_its_center(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    before = values(model, batch)
    update = Calibrated(momentum=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    report = update.step(model, optimizer, [batch], get_loss("dpo"), before)
    center = float(report.geometry.norm_ratio)
    assert float((report.u_w / report.u_l)[0]) == pytest.approx(center)
    assert float((report.u_w * report.u_l)[0]) == pytest.approx(float((report.d_w * report.d_l)[0]))
    up, down = (new.mean() - old.mean() for new, old in zip(values(model, batch), before, strict=True))
    assert float(up) > 0 > float(down)
    # A running average: half of what was, half of what is.
    update._log_ratio = 0.0
    half = update.step(model, optimizer, [batch], get_loss("dpo"), before)
    assert float((half.u_w / half.u_l)[0]) == pytest.approx(math.sqrt(center), rel=1e-4)
    update.begin(model)
    assert update._log_ratio is None
    # The ratio that is moved is the loss's own, where that is not one.
    report = update.step(model, optimizer, [batch], get_loss("rpo"), before)
    assert float(report.d_w.mean() / report.d_l.mean()) > 2
    assert float(report.u_w.mean() / report.u_l.mean()) == pytest.approx(center, rel=1e-4)


def test_the_batchs_geometry_is_that_of_mean_gradients_in_the_metric(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    before = values(model, batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    update, loss = get_update("normalized", level="batch", metric="optimizer"), get_loss("dpo")
    update.step(model, optimizer, [batch], loss, before)  # now the optimizer has a metric
    metric = preconditioner(model, optimizer)
    found = update.step(model, optimizer, [batch], loss, before).geometry
    weight, none = torch.full((len(batch),), 0.05 / len(batch)).double(), torch.zeros(len(batch)).double()
    sides = [weighted_gradient(model, batch, w, l) for w, l in ((weight, none), (none, weight))]  # noqa: E741
    x, y = ({name: g.clone() for name, g in side.items()} for side in sides)
    for expected, (one_side, other) in zip(
        (found.chosen_sq, found.rejected_sq, found.inner), ((x, x), (y, y), (x, y)), strict=True
    ):
        total = sum(float((metric[name] * one_side[name] * other[name]).sum()) for name in metric)
        assert float(expected) == pytest.approx(total, rel=1e-3)


def test_weights_of_several_groups_are_those_of_one_batch(tiny_model, tokenizer):
    model, _, batch = tangled(tiny_model, tokenizer)
    before = values(model, batch)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    ends = []
    for groups in ([batch], [batch.select([0, 1, 2]), batch.select([3])]):
        for update in (get_update("normalized"), get_update("band", level="batch"), Calibrated(), Split()):
            update.begin(model)
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            update.step(model, optimizer, groups, get_loss("dpo"), before)
            ends.append(torch.stack(values(model, batch)))
            model.load_state_dict(start, strict=False)
    for whole, parts in zip(ends[:4], ends[4:], strict=True):
        torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize("update", ["normalized", "calibrated", "split", "mgda"])
def test_a_training_repeats_and_is_read(tiny_model, tokenizer, pairs, update):
    options = {"steps": 2, "batch_size": 3, "lr": 1e-3, "evaluate": {"test": pairs}, "update": update}
    runs = [align(tiny_model("gpt2-tied"), tokenizer, pairs, **options) for _ in range(2)]
    pd.testing.assert_frame_equal(runs[0].table, runs[1].table)
    assert list(runs[0].monitor["step"]) == [1, 2]
    if update in ("normalized", "mgda"):
        assert (runs[0].monitor["safe"] == 1).all()


def test_wrong_arguments_of_a_training_are_refused(tiny_model, tokenizer, pairs):
    model = tiny_model("gpt2-tied")
    with pytest.raises(ValueError, match="batch_size=9 is more than the 3 pairs"):
        align(model, tokenizer, pairs, batch_size=9)
    with pytest.raises(ValueError, match=r"optimizer 'lion' is not known; expected one of adamw, sgd"):
        align(model, tokenizer, pairs, batch_size=2, optimizer="lion")
    with pytest.raises(ValueError, match=r"warmup=2; expected a share"):
        align(model, tokenizer, pairs, batch_size=2, warmup=2)
    with pytest.raises(ValueError, match="needs the reference's log-probabilities"):
        batch = collate(pairs, tokenizer)
        get_update("normalized").step(
            model, torch.optim.SGD(model.parameters(), lr=1.0), [batch], get_loss("dpo")
        )
    assert isinstance(get_update("band", slack=0.5), Weighted)
