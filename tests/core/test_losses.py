"""Losses and their weights: closed form, autograd, finite differences; and the registry's manners."""

import math

import pytest
import torch
from hypothesis import given, strategies as st

from entanglement.logps import pair_logps, response_logps
from entanglement.losses import (
    FORMS,
    LOSSES,
    Hyper,
    Loss,
    LossSpec,
    PairLogps,
    declare_loss,
    get_loss,
    list_losses,
    loss_spec,
    loss_specs,
)
from entanglement.pairs import collate

logp = st.floats(-60, -0.01)
four = st.tuples(logp, logp, logp, logp)


def pair(values, lengths=(5, 8)):
    tensors = [torch.tensor([v], dtype=torch.float64) for v in values]
    return PairLogps(*tensors, *(torch.tensor([n]) for n in lengths))


@pytest.mark.parametrize("name", ["dpo", "cpo", "simpo", "nca", "apo_down"])  # smooth and of one scale
@given(values=four)
def test_weights_against_finite_differences(name, values):
    loss, logps, h = get_loss(name), pair(values), 1e-5
    d_w, d_l = loss.weights(logps)
    up_w = loss(logps.with_policy(logps.chosen + h, logps.rejected))
    down_w = loss(logps.with_policy(logps.chosen - h, logps.rejected))
    up_l = loss(logps.with_policy(logps.chosen, logps.rejected + h))
    down_l = loss(logps.with_policy(logps.chosen, logps.rejected - h))
    torch.testing.assert_close(d_w, -(up_w - down_w) / (2 * h), atol=1e-8, rtol=1e-6)
    torch.testing.assert_close(d_l, (up_l - down_l) / (2 * h), atol=1e-8, rtol=1e-6)


@given(values=four, beta=st.floats(0.01, 5))
def test_dpo_in_closed_form(values, beta):
    f_w, f_l, ref_w, ref_l = values
    delta = (f_w - ref_w) - (f_l - ref_l)
    loss = get_loss("dpo", beta=beta)
    expected = math.log1p(math.exp(-beta * delta)) if beta * delta > -30 else -beta * delta
    assert loss(pair(values)).item() == pytest.approx(expected, abs=1e-12, rel=1e-9)
    weight = beta / (1 + math.exp(min(beta * delta, 700)))
    d_w, d_l = loss.weights(pair(values))
    assert d_w.item() == pytest.approx(weight, rel=1e-9, abs=1e-300)
    assert d_l.item() == pytest.approx(weight, rel=1e-9, abs=1e-300)
    assert d_w.item() > 0 or beta * delta > 600


def test_dpo_moves_the_way_it_says(tiny_model, tokenizer, pairs):
    """The gradient of the summed loss through a model is −Σ (d_w g_w − d_l g_l), signs included."""
    model, ref = tiny_model("gpt2-tied", seed=0), tiny_model("gpt2-tied", seed=1)
    batch = collate(pairs, tokenizer)
    loss = get_loss("dpo", beta=0.5)
    logps = pair_logps(model, batch, ref)
    d_w, d_l = loss.weights(logps)
    parameters = list(model.parameters())
    of_loss = torch.autograd.grad(loss(logps).sum(), parameters)
    chosen, rejected = response_logps(model, batch)
    pulled = torch.autograd.grad((d_w * chosen - d_l * rejected).sum(), parameters)
    for mine, theirs in zip(of_loss, pulled, strict=True):
        torch.testing.assert_close(mine, -theirs)
    assert max(float(g.abs().max()) for g in of_loss) > 1e-3


def test_one_step_of_dpo_widens_the_margin(tiny_model, tokenizer, pairs):
    model = tiny_model("gpt2-tied")
    batch = collate(pairs, tokenizer).select(0)
    ref = tuple(x.detach() for x in response_logps(model, batch))
    before = pair_logps(model, batch, ref)
    gradients = torch.autograd.grad(get_loss("dpo")(before).sum(), list(model.parameters()))
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients, strict=True):
            p -= 1e-4 * g
    assert pair_logps(model, batch, ref).delta.item() > 0


def test_weights_leave_no_graph_and_work_anywhere():
    logps = pair((-3.0, -4.0, -3.5, -4.5))
    leaf = logps.chosen.clone().requires_grad_()
    with torch.inference_mode():
        inside = get_loss("dpo").weights(logps)
    outside = get_loss("dpo").weights(logps.with_policy(leaf, logps.rejected))
    for a, b in zip(inside, outside, strict=True):
        assert torch.equal(a, b)
        assert not b.requires_grad
    assert leaf.grad is None


def test_batch_entries_do_not_mix():
    torch.manual_seed(0)
    columns = [-10 * torch.rand(6, dtype=torch.float64) for _ in range(4)]
    together = get_loss("dpo").weights(PairLogps(*columns))
    for i in range(6):
        alone = get_loss("dpo").weights(PairLogps(*(c[i : i + 1] for c in columns)))
        assert (together[0][i].item(), together[1][i].item()) == (alone[0].item(), alone[1].item())


def test_a_loss_is_one_declaration(monkeypatch):
    list_losses()  # all files are imported
    monkeypatch.setattr(LOSSES, "_things", dict(LOSSES._things))

    @declare_loss(
        "one-sided",
        title="One-sided",
        formula=r"-\alpha\bar f_w",
        source="this test",
        form="separable",
        hyper=[Hyper("alpha", 1.0, r"\alpha", low=0.0, high=2.0, low_open=True)],
        needs_reference=False,
        length_normalized=True,
    )
    def one_sided(logps, *, alpha):
        return -alpha * logps.chosen_mean

    of_its_form = [spec.name for spec in loss_specs() if spec.form == "separable"]
    assert of_its_form[-1] == "one-sided"
    loss = get_loss("one-sided", alpha=2)
    d_w, d_l = loss.weights(pair((-3.0, -4.0, -3.5, -4.5), lengths=(4, 9)))
    assert (d_w.item(), d_l.item()) == (0.5, 0.0)
    assert loss.needs_reference is False and loss.length_normalized is True
    with pytest.raises(ValueError, match="'one-sided' needs lengths"):
        loss(PairLogps(torch.zeros(1), torch.zeros(1)))
    for bad in (0.0, 2.1, math.nan, "1", True):
        with pytest.raises(ValueError, match=r"'one-sided': alpha=.*expected a number in \(0, 2\]"):
            get_loss("one-sided", alpha=bad)
    with pytest.raises(ValueError, match="declared already"):
        declare_loss("one-sided", title="", formula="", source="", form="strict", needs_reference=False)(
            one_sided
        )


def test_the_order_of_the_losses_is_that_of_the_forms_and_files_not_of_imports(monkeypatch):
    before = list_losses()
    assert before[0] == "dpo" and before != sorted(before)
    backward = sorted(LOSSES.items(), key=lambda item: FORMS.index(item[1].form), reverse=True)
    monkeypatch.setattr(LOSSES, "_things", dict(backward))
    assert list_losses() == before
    for name, spec in backward:
        assert spec.function.__module__ == f"entanglement.losses.{spec.form}", name


def test_a_loss_that_ignores_both_sides_has_weight_zero():
    spec = LossSpec(
        "flat", "Flat", lambda logps: torch.zeros_like(logps.ref_chosen), "0", "this test", "hybrid", True
    )
    d_w, d_l = Loss(spec, {}).weights(pair((-3.0, -4.0, -3.5, -4.5)))
    assert (d_w.item(), d_l.item()) == (0.0, 0.0)


def test_refusals():
    with pytest.raises(
        ValueError, match=r"loss 'simp' is not known; expected one of dpo, .* Did you mean 'simpo'"
    ):
        get_loss("simp")
    with pytest.raises(ValueError, match="loss 'dpo' has no hyper-parameter 'betta'; expected one of: beta"):
        get_loss("dpo", betta=1.0)
    with pytest.raises(ValueError, match=r"loss 'dpo': beta=0; expected a number in \(0, inf\)"):
        get_loss("dpo", beta=0)
    with pytest.raises(ValueError, match="'dpo' needs a reference"):
        get_loss("dpo")(PairLogps(torch.zeros(1), torch.zeros(1)))


def test_every_declaration_is_complete():
    for spec in loss_specs():
        assert loss_spec(spec.name) is spec
        assert spec.name == spec.name.lower() and spec.title and spec.formula and spec.source
        assert not spec.length_normalized or spec.needs_lengths
        for h in spec.hyper:
            assert h.check(spec.name, h.default) == h.default
            assert h.symbol in spec.formula
    assert repr(get_loss("dpo", beta=0.2)) == "get_loss('dpo', beta=0.2)"


@pytest.mark.parametrize("spec", loss_specs(), ids=lambda spec: spec.name)
def test_the_ends_of_a_range_are_allowed_or_not_as_declared(spec):
    for hyper in spec.hyper:
        for end, is_open, outside in (
            (hyper.low, hyper.low_open, -1e-9),
            (hyper.high, hyper.high_open, 1e-9),
        ):
            if math.isinf(end):
                continue
            with pytest.raises(ValueError, match=f"{hyper.name}=.*; expected a number in"):
                get_loss(spec.name, **{hyper.name: end + outside})
            if is_open:
                with pytest.raises(ValueError, match=f"{hyper.name}=.*; expected a number in"):
                    get_loss(spec.name, **{hyper.name: end})
            else:
                assert get_loss(spec.name, **{hyper.name: end}).hyper[hyper.name] == end


def test_ends_that_mean_nothing_are_open():
    """At ½ a smoothed loss knows no better response; at 0 or 1 the α-divergence is another one's limit."""
    for name, key, value in (
        ("robust", "label_smoothing", 0.5), ("dpo", "beta", 0.0), ("fdpo_alpha", "alpha", 0.0),
        ("fdpo_alpha", "alpha", 1.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{key}={value}"):
            get_loss(name, **{key: value})


def test_alphapo_without_curvature_is_simpo():
    values = [torch.tensor(v, dtype=torch.float64) for v in ([-3.0, -9.0], [-4.0, -2.0])]
    logps = PairLogps(*values, chosen_len=torch.tensor([2, 3]), rejected_len=torch.tensor([4, 1]))
    simpo = get_loss("simpo", beta=2.0, gamma=0.7)
    flat, nearly = (get_loss("alphapo", beta=2.0, gamma=0.7, alpha=alpha) for alpha in (0.0, 1e-9))
    torch.testing.assert_close(flat(logps), simpo(logps), rtol=1e-12, atol=0)
    torch.testing.assert_close(nearly(logps), simpo(logps), rtol=1e-6, atol=0)
    for mine, theirs in zip(flat.weights(logps), simpo.weights(logps), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
