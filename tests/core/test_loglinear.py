"""The exact models against autograd, and every theorem's statement that the chapters use."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from entanglement.geometry import PairGeometry
from entanglement.loglinear import (
    LogLinear,
    OneToken,
    PositionTabular,
    PrefixTabular,
    TrainableOneToken,
    distinct_tokens,
    random_log_linear,
    random_one_token,
    random_trainable,
    simplex_grid,
    suffix_pairs,
)
from entanglement.loglinear._exact import logp_change

seeds = st.integers(0, 2**31 - 1)
N = 40  # instances per example


def rng(seed):
    return torch.Generator().manual_seed(seed)


def assert_same(mine, theirs, tolerance=1e-10):
    scale = torch.maximum(theirs.chosen_sq, theirs.rejected_sq) * tolerance + 1e-14
    for name in ("chosen_sq", "rejected_sq", "inner"):
        assert bool(((getattr(mine, name) - getattr(theirs, name)).abs() <= scale).all()), name


def autograd_geometry(logps, parameters):
    """Geometry of N instances from backward passes; ``logps`` maps parameters, each (N, …), to (f_w, f_l)."""
    leaves = [p.detach().clone().requires_grad_() for p in parameters]
    f_w, f_l = logps(*leaves)
    rows = []
    for f in (f_w, f_l):
        grads = torch.autograd.grad(f.sum(), leaves, retain_graph=True)
        rows.append(torch.cat([g.reshape(len(f), -1) for g in grads], dim=1))
    return PairGeometry.from_vectors(*rows)


def pick(logits, tokens):
    return logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


# --- one token ----------------------------------------------------------------------------------------------


@given(seed=seeds, vocab=st.integers(2, 12))
def test_thm_one_token_i_closed_form(seed, vocab):
    m = random_one_token(N, vocab, scale=(0.1, 4.0), generator=rng(seed))
    by_autograd = autograd_geometry(lambda z: (pick(z, m.chosen), pick(z, m.rejected)), [m.logits])
    assert_same(m.geometry(), by_autograd)
    h = torch.randn(N, 5, generator=rng(seed + 1), dtype=torch.float64)
    # z = Wh with h frozen: choose W so that Wh gives the same logits.
    weight = m.logits.unsqueeze(2) * (h / h.square().sum(-1, keepdim=True)).unsqueeze(1)
    scaled = replace(m, kappa=h.square().sum(-1))
    by_autograd = autograd_geometry(
        lambda w: tuple(pick(torch.einsum("nvd,nd->nv", w, h), y) for y in (m.chosen, m.rejected)), [weight]
    )
    assert_same(scaled.geometry(), by_autograd)
    eye = torch.eye(vocab, dtype=torch.float64)
    assert_same(m.kernel_geometry(eye), m.geometry())


@given(seed=seeds, vocab=st.integers(2, 60), kappa=st.floats(0.01, 100))
def test_thm_one_token_ii_condition_1_cannot_fail(seed, vocab, kappa):
    m = replace(random_one_token(N, vocab, generator=rng(seed)), kappa=kappa)
    g = m.geometry()
    gap_w, gap_l = m.gaps()
    torch.testing.assert_close(g.chosen_sq - g.inner, gap_w, atol=1e-12 * kappa, rtol=1e-9)
    torch.testing.assert_close(g.rejected_sq - g.inner, gap_l, atol=1e-12 * kappa, rtol=1e-9)
    assert bool((gap_w >= 0).all() and (gap_l >= 0).all())
    assert bool(g.condition.all())
    assert set(g.case()) == {"ideal"}
    chosen, rejected = g.predicted_change(0.1, 2.0, 2.0)
    torch.testing.assert_close(chosen, 0.2 * kappa * (1 - m.p_w + m.p_l), atol=1e-12 * kappa, rtol=1e-9)
    torch.testing.assert_close(rejected, -0.2 * kappa * (1 - m.p_l + m.p_w), atol=1e-12 * kappa, rtol=1e-9)
    # The expanded closed forms of (i).
    square = m.probs.square().sum(-1)
    torch.testing.assert_close(g.inner, kappa * (square - m.p_w - m.p_l), atol=1e-12 * kappa, rtol=1e-9)
    torch.testing.assert_close(g.chosen_sq, kappa * (1 - 2 * m.p_w + square), atol=1e-12 * kappa, rtol=1e-9)
    torch.testing.assert_close(g.rejected_sq, kappa * (1 - 2 * m.p_l + square), atol=1e-12 * kappa, rtol=1e-9)


def test_thm_one_token_ii_ten_thousand_instances():
    m = random_one_token(10_000, 50, generator=rng(0))
    g = m.geometry()
    assert bool(g.condition.all()) and set(g.case()) == {"ideal"}
    assert float((g.inner > 0).double().mean()) > 0.05, (
        "the draw must contain entangled instances to mean anything"
    )


@given(seed=seeds, vocab=st.integers(2, 12))
def test_thm_one_token_iii_sign_of_c(seed, vocab):
    m = random_one_token(N, vocab, generator=rng(seed))
    c, p = m.geometry().inner, m.probs
    margin = p.square().sum(-1) - m.p_w - m.p_l
    clear = margin.abs() > 1e-12
    assert torch.equal((c < 0)[clear], (margin < 0)[clear])
    covers = m.p_w + m.p_l >= p.amax(-1)
    assert bool((c[covers] < 1e-12).all())
    if vocab == 2:
        # ρ = −1 wherever rounding leaves the smaller probability some digits.
        rho = m.geometry().cosine[p.amin(-1) > 1e-6]
        torch.testing.assert_close(rho, -torch.ones_like(rho), atol=1e-6, rtol=0)


def test_thm_one_token_iii_examples():
    third = OneToken.from_probs(torch.tensor([[0.05, 0.05, 0.9]]), 0, 1, kappa=2.0).geometry()
    assert third.inner.item() == pytest.approx(2 * 0.715) and third.case() == ["ideal"]
    for vocab in (2, 3, 10):
        uniform = OneToken(torch.zeros(1, vocab), torch.tensor([0]), torch.tensor([1])).geometry()
        assert uniform.cosine.item() == pytest.approx(-1 / (vocab - 1))
    grid = OneToken.from_probs(simplex_grid(30), 0, 1)
    assert grid.probs.sum(-1).allclose(torch.ones((), dtype=torch.float64)) and grid.probs.amin() > 0
    share = (grid.geometry().inner > 0).double().mean().item()
    assert 0.0 < share < 0.5 and bool(grid.geometry().condition.all())


@given(seed=seeds, vocab=st.integers(3, 30), r=st.floats(0.5, 2.0))
def test_thm_one_token_iv_half_and_two(seed, vocab, r):
    m = random_one_token(N, vocab, generator=rng(seed))
    g = m.geometry()
    assert bool((2 * g.inner <= torch.minimum(g.chosen_sq, g.rejected_sq)).all())
    assert bool((g.cosine[~g.cosine.isnan()] <= 0.5).all())
    assert set(g.case(r, 1.0)) == {"ideal"}


def test_thm_one_token_iv_is_sharp():
    m = OneToken.from_probs(torch.tensor([[1e-6, 1e-6, 1 - 2e-6]], dtype=torch.float64), 0, 1).geometry()
    assert m.cosine.item() == pytest.approx(0.5, abs=1e-5) and m.cosine.item() < 0.5
    assert m.case(0.499, 1.0) == ["both_down"] and m.case(2.001, 1.0) == ["both_up"]


@given(seed=seeds, vocab=st.integers(2, 12), tau=st.floats(1e-3, 30), more=st.floats(1.0, 5.0))
def test_thm_one_token_v_any_step_size(seed, vocab, tau, more):
    m = random_one_token(N, vocab, scale=(0.1, 3.0), generator=rng(seed))
    chosen, rejected = m.change(tau)
    assert bool((chosen > 0).all() and (rejected < 0).all())
    others = m.step(tau).logits.log_softmax(-1) - m.logits.log_softmax(-1)
    z = 1 + m.p_w * math.expm1(tau) + m.p_l * math.expm1(-tau)
    expected = (-z.log()).unsqueeze(1).expand_as(others).clone()
    expected[torch.arange(N), m.chosen] += tau
    expected[torch.arange(N), m.rejected] -= tau
    torch.testing.assert_close(others, expected, atol=1e-9, rtol=1e-9)
    assert bool((m.change(tau, more, 1.0)[0] > 0).all())  # d_w ≥ d_l: chosen rises
    assert bool((m.change(tau, 1.0, more)[1] < 0).all())  # d_w ≤ d_l: rejected falls


@given(seed=seeds, vocab=st.integers(2, 8))
def test_thm_one_token_ii_other_kernels(seed, vocab):
    m = random_one_token(N, vocab, scale=1.0, generator=rng(seed))
    k = 0.1 + torch.rand(N, vocab, generator=rng(seed + 1), dtype=torch.float64)
    nu = torch.randn(N, vocab, generator=rng(seed + 2), dtype=torch.float64)
    kernel = torch.diag_embed(k) + nu.unsqueeze(1) + nu.unsqueeze(2)
    s_w, s_l = m.scores()
    a2 = torch.einsum("nv,nvu,nu->n", s_w, kernel, s_w)
    c = torch.einsum("nv,nvu,nu->n", s_w, kernel, s_l)
    rows = torch.arange(N)
    expected = k[rows, m.chosen] * (1 - m.p_w) + k[rows, m.rejected] * m.p_l
    torch.testing.assert_close(a2 - c, expected, atol=1e-12, rtol=1e-9)
    assert bool((expected > 0).all())


# --- trainable features -------------------------------------------------------------------------------------


@given(seed=seeds, vocab=st.integers(2, 8), dim=st.integers(1, 5))
def test_thm_features_closed_form(seed, vocab, dim):
    m = random_trainable(N, vocab, dim, generator=rng(seed))
    by_autograd = autograd_geometry(
        lambda w, h: tuple(pick(torch.einsum("nvd,nd->nv", w, h), y) for y in (m.chosen, m.rejected)),
        [m.weight, m.features],
    )
    assert_same(m.geometry(), by_autograd)
    gap_w, gap_l = m.gaps()
    torch.testing.assert_close(gap_w, by_autograd.chosen_sq - by_autograd.inner, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(gap_l, by_autograd.rejected_sq - by_autograd.inner, atol=1e-9, rtol=1e-9)


def test_thm_features_counterexample():
    m = TrainableOneToken.counterexample()
    g = m.geometry()
    assert g.chosen_sq.item() == pytest.approx(2.523, abs=5e-4)
    assert g.inner.item() == pytest.approx(4.801, abs=5e-4)
    assert g.rejected_sq.item() == pytest.approx(18.08, abs=5e-3)
    assert g.case() == ["both_down"] and not bool(g.condition)
    chosen, rejected = m.change(1e-3)
    assert chosen.item() == pytest.approx(-0.0023, abs=5e-5)
    assert rejected.item() == pytest.approx(-0.0133, abs=5e-5)
    after = m.step(1e-3).logps()
    torch.testing.assert_close(after[0] - m.logps()[0], chosen, atol=1e-12, rtol=1e-9)
    # The negative control: the same instance with its features frozen keeps Condition 1.
    frozen = m.frozen()
    assert frozen.geometry().case() == ["ideal"] and frozen.change(1e-3)[0].item() > 0


def test_thm_features_violations_are_rare():
    share = 1 - random_trainable(20_000, 12, 6, generator=rng(0)).geometry().case_shares()["ideal"]
    assert 0.003 < share < 0.012


@given(seed=seeds, eta=st.floats(1e-8, 1e-6))
def test_trainable_change_is_first_order_at_small_steps(seed, eta):
    m = random_trainable(N, 5, 3, generator=rng(seed))
    scale = eta * (m.geometry().chosen_sq + m.geometry().rejected_sq)
    for exact, first in zip(
        m.change(eta, 1.0, 0.5), m.geometry().predicted_change(eta, 1.0, 0.5), strict=True
    ):
        assert bool(((exact - first).abs() <= 1e-3 * scale).all())


# --- the log-linear model -----------------------------------------------------------------------------------


@given(seed=seeds, n_w=st.integers(1, 5), n_l=st.integers(1, 5))
def test_log_linear_against_autograd(seed, n_w, n_l):
    m = random_log_linear(8, n_w, n_l, vocab=5, dim=4, similarity=0.5, logit_scale=2.0, generator=rng(seed))

    def logps(weight):
        return tuple(
            pick(torch.einsum("btd,bvd->btv", h, weight), y).sum(-1)
            for h, y in ((m.chosen_features, m.chosen), (m.rejected_features, m.rejected))
        )

    for mine, theirs in zip(m.logps(), logps(m.weight), strict=True):
        torch.testing.assert_close(mine, theirs)
    expected = autograd_geometry(logps, [m.weight])
    assert_same(m.geometry(), expected)
    assert_same(m.closed_geometry(), expected)  # the boxed double sum
    blocks = torch.cat([m.blocks("chosen"), m.blocks("rejected")], dim=1).flatten(2)
    torch.testing.assert_close(m.token_gram(), blocks @ blocks.mT, atol=1e-9, rtol=1e-9)


@given(seed=seeds, eta=st.floats(1e-6, 20), d_w=st.floats(-2, 2), d_l=st.floats(-2, 2))
def test_thm_frozen_the_defect_is_one_sided_and_bounded(seed, eta, d_w, d_l):
    m = random_log_linear(8, 4, 6, vocab=7, dim=5, similarity=0.5, generator=rng(seed))
    first = m.geometry().predicted_change(eta, d_w, d_l)
    exact = m.change(eta, d_w, d_l)
    again = [new - old for new, old in zip(m.step(eta, d_w, d_l).logps(), m.logps(), strict=True)]
    for f, e, a, bound in zip(first, exact, again, m.defect_bound(eta, d_w, d_l), strict=True):
        rounding = 1e-9 * (1 + f.abs() + e.abs())
        torch.testing.assert_close(e, a, atol=1e-9, rtol=1e-9)
        assert bool((f - e >= -rounding).all())
        assert bool((f - e <= bound + rounding).all())


@given(seed=seeds)
def test_change_keeps_its_digits_at_tiny_steps(seed):
    m = random_log_linear(8, 4, 6, vocab=7, dim=5, generator=rng(seed))
    eta = 1e-10
    for exact, first in zip(
        m.change(eta, 1.0, 0.5), m.geometry().predicted_change(eta, 1.0, 0.5), strict=True
    ):
        assert bool(((exact - first).abs() <= 1e-6 * first.abs() + 1e-16).all())


@given(seed=seeds, fraction=st.floats(0.01, 0.99))
def test_thm_step_safe_steps_are_safe(seed, fraction):
    m = random_log_linear(20, 4, 6, vocab=7, dim=5, similarity=0.8, generator=rng(seed))
    for side, (limit, case) in enumerate(
        zip(m.safe_step(), ({"ideal", "both_up"}, {"ideal", "both_down"}), strict=True)
    ):
        cases = m.geometry().case()
        assert [bool(x > 0) for x in limit] == [name in case for name in cases]
        size = fraction * limit.clamp(max=5.0)  # a size for each pair, as its own weights
        change = m.change(1.0, size, size)[side][limit > 0]
        assert bool((change > 0 if side == 0 else change < 0).all())


@given(seed=seeds)
def test_thm_frozen_smoothness_bounds_the_hessian(seed):
    m = random_log_linear(1, 3, 2, vocab=4, dim=3, generator=rng(seed))

    def f(flat, h, y):
        logits = torch.einsum("td,vd->tv", h[0], flat.view(4, 3))
        return pick(logits, y[0]).sum()

    for limit, h, y in zip(
        m.smoothness(), (m.chosen_features, m.rejected_features), (m.chosen, m.rejected), strict=True
    ):
        hessian = torch.autograd.functional.hessian(lambda w, h=h, y=y: f(w, h, y), m.weight[0].reshape(-1))
        eigenvalues = torch.linalg.eigvalsh(hessian)
        assert eigenvalues[-1] <= 1e-12
        assert -eigenvalues[0] <= limit.item() + 1e-12


@given(seed=seeds)
def test_thm_same_target_same_target(seed):
    p, q = (torch.randn(N, 6, generator=rng(seed + i), dtype=torch.float64).softmax(-1) for i in (0, 1))
    v = torch.randint(6, (N,), generator=rng(seed))
    rows = torch.arange(N)
    e = torch.nn.functional.one_hot(v, 6).double()
    product = ((e - p) * (e - q)).sum(-1)
    p_v, q_v = p[rows, v], q[rows, v]
    expected = (1 - p_v) * (1 - q_v) + (p * q).sum(-1) - p_v * q_v
    torch.testing.assert_close(product, expected)
    assert bool((product >= (1 - p_v) * (1 - q_v) - 1e-15).all())
    other = torch.nn.functional.one_hot((v + 1) % 6, 6).double()
    apart = ((e - p) * (other - q)).sum(-1)
    assert bool((apart >= -2).all() and (apart <= 1).all())


# --- tables -------------------------------------------------------------------------------------------------


def edited(seed, prefix, n_w, n_l, vocab=5):
    """(N, …) token ids that share a prefix, differ in the next token and go on as they like."""
    g = rng(seed)
    shared = torch.randint(vocab, (N, prefix), generator=g)
    w, l = distinct_tokens(N, vocab, g)  # noqa: E741
    tails = [torch.randint(vocab, (N, n), generator=g) for n in (n_w, n_l)]
    return (
        torch.cat([shared, w[:, None], tails[0]], dim=1),
        torch.cat([shared, l[:, None], tails[1]], dim=1),
        g,
    )


def table_of_dictionaries(m):
    """The prefix-tabular geometry the slow way: one gradient block per prefix, in a dictionary."""
    out = []
    for i in range(len(m)):
        blocks = []
        for side in ("chosen", "rejected"):
            tokens = getattr(m, side)[i].tolist()
            probs = m.logits(side)[i].softmax(-1)
            found = {}
            for t, y in enumerate(tokens):
                score = -probs[t].clone()
                score[y] += 1
                found[tuple(tokens[:t])] = score
            blocks.append(found)
        w, l = blocks  # noqa: E741
        out.append(
            (
                sum(float(x @ x) for x in w.values()),
                sum(float(x @ x) for x in l.values()),
                sum(float(w[key] @ l[key]) for key in w.keys() & l.keys()),
            )
        )
    return PairGeometry(*torch.tensor(out, dtype=torch.float64).T)


@given(
    seed=seeds,
    prefix=st.integers(0, 6),
    n_w=st.integers(0, 4),
    n_l=st.integers(0, 4),
    scale=st.floats(0.1, 4),
)
def test_thm_prefix_tabular_prefix_tabular(seed, prefix, n_w, n_l, scale):
    chosen, rejected, g = edited(seed, prefix, n_w, n_l)
    m = PrefixTabular.build(chosen, rejected, 5, scale=scale, generator=g)
    assert m.first_difference.tolist() == [prefix] * N
    terms = m.terms()
    assert_same(m.geometry(), terms.geometry())
    assert_same(m.geometry(), m.closed_geometry())
    gap_w, gap_l = terms.gaps()
    geometry = m.geometry()
    torch.testing.assert_close(geometry.chosen_sq - geometry.inner, gap_w, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(geometry.rejected_sq - geometry.inner, gap_l, atol=1e-9, rtol=1e-9)
    assert bool((gap_w > 0).all() and (gap_l > 0).all())
    assert set(geometry.case()) == {"ideal"}
    chosen_change, rejected_change = m.change(0.01 / (1 + prefix + n_w + n_l))
    assert bool((chosen_change > 0).all() and (rejected_change < 0).all())


def test_thm_prefix_tabular_against_a_dictionary_of_prefixes():
    chosen, rejected, g = edited(3, 2, 3, 4)
    m = PrefixTabular.build(chosen, rejected, 5, generator=g)
    assert_same(m.geometry(), table_of_dictionaries(m))


def test_thm_prefix_tabular_entanglement_without_violation():
    """ρ → 1 as the shared prefix grows, and still both move the right way."""
    rho = []
    for prefix in (0, 4, 16, 64):
        chosen, rejected, g = edited(0, prefix, 1, 1)
        m = PrefixTabular.build(chosen, rejected, 5, generator=g)
        rho.append(float(m.geometry().cosine.mean()))
        assert set(m.geometry().case()) == {"ideal"}
    assert rho == sorted(rho) and rho[-1] > 0.95


@given(seed=seeds, prefix=st.integers(0, 6), suffix=st.integers(0, 6))
def test_thm_position_tabular_position_tabular(seed, prefix, suffix):
    chosen, _, g = edited(seed, prefix, suffix, suffix)
    rejected = chosen.clone()
    rejected[:, prefix] = (rejected[:, prefix] + torch.randint(1, 5, (N,), generator=g)) % 5
    m = PositionTabular.build(chosen, rejected, 5, generator=g)
    geometry = m.geometry()
    p = m.logits("chosen")[:, prefix].softmax(-1)
    rows = torch.arange(N)
    expected = 1 - p[rows, chosen[:, prefix]] + p[rows, rejected[:, prefix]]
    torch.testing.assert_close(geometry.chosen_sq - geometry.inner, expected, atol=1e-9, rtol=1e-9)
    assert set(geometry.case()) == {"ideal"}


@given(seed=seeds, prefix=st.integers(0, 60), n=st.integers(1, 3), r=st.floats(0.3, 0.9))
def test_thm_prefix_weights_a_long_prefix_hurts_unequal_weights(seed, prefix, n, r):
    chosen, rejected, g = edited(seed, prefix, n, n)
    m = PrefixTabular.build(chosen, rejected, 5, generator=g)
    t = m.terms()
    threshold = (t.shared + t.gamma) / (t.shared + t.alpha_w + t.after_w)
    low, _ = m.geometry().band
    torch.testing.assert_close(low, threshold.clamp(min=0))
    falls = t.shared > (r * (t.alpha_w + t.after_w) - t.gamma) / (1 - r)
    assert [case == "both_down" for case in m.geometry().case(r, 1.0)] == falls.tolist()
    assert set(m.geometry().case()) == {"ideal"}  # (i): r = 1 does not care
    # The mirror image: rejected rises iff d_w (S + γ_0) > d_l b², here with d_w/d_l = 1/r.
    rises = t.shared * (1 - r) > r * (t.alpha_l + t.after_l) - t.gamma
    assert [case == "both_up" for case in m.geometry().case(1 / r, 1.0)] == rises.tolist()


def test_thm_prefix_weights_the_band_closes_on_1():
    widths = []
    for prefix in (0, 8, 64, 256):
        chosen, rejected, g = edited(1, prefix, 1, 1)
        low, high = PrefixTabular.build(chosen, rejected, 5, generator=g).geometry().band
        widths.append(float((high.clamp(max=1e3) - low).mean()))
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.1


def test_a_response_that_starts_the_other_is_refused():
    with pytest.raises(ValueError, match="pair 1: one response is a prefix of the other"):
        PrefixTabular.build(torch.tensor([[1, 2], [1, 2]]), torch.tensor([[1, 3, 0], [1, 2, 0]]), 5)


# --- the suffix ---------------------------------------------------------------------------------------------


def suffixes(relation="identical", strength=1.0, draws=60, seed=0, **more):
    return suffix_pairs(draws, 64, relation=relation, strength=strength, generator=rng(seed), **more)


def test_thm_suffix_growth_c_grows_linearly():
    m = suffixes()
    lengths = torch.tensor([0, 8, 16, 32, 64], dtype=torch.float64)
    c = torch.stack([m.truncate(int(n) + 1).geometry().inner.mean() for n in lengths])
    slopes = (c[1:] - c[:-1]) / (lengths[1:] - lengths[:-1])
    assert float(slopes.min()) > 0.85 * float(slopes.max()) > 30
    assert m.geometry().cosine.mean() > 0.95
    control = suffixes("orthogonal").geometry()
    assert float(control.inner.mean()) < 0.05 * float(c[-1])


@given(seed=seeds, suffix=st.integers(1, 12))
def test_thm_suffix_growth_the_bound(seed, suffix):
    """With orthogonal states at different positions (ε = 0) the bound holds draw by draw."""
    dim = suffix + 1
    drawn = suffix_pairs(10, suffix, vocab=8, dim=dim, generator=rng(seed))
    states = torch.linalg.qr(torch.randn(10, dim, dim, generator=rng(seed), dtype=torch.float64)).Q * 2.0
    m = replace(drawn, chosen_features=states, rejected_features=states)
    p_w, p_l = m.logits("chosen").softmax(-1), m.logits("rejected").softmax(-1)
    at = m.chosen[:, 1:].unsqueeze(-1)
    q = ((1 - p_w[:, 1:].gather(-1, at)) * (1 - p_l[:, 1:].gather(-1, at))).squeeze(-1).amin(1)
    first = OneToken(m.logits("chosen")[:, 0], m.chosen[:, 0], m.rejected[:, 0], 4.0).geometry().inner
    c = m.geometry().inner
    assert bool((c >= first + 4.0 * q * suffix - 1e-9).all())
    assert bool((c[suffix * q > 1] > 0).all())


@given(seed=seeds, prefix=st.integers(0, 4), suffix=st.integers(0, 5))
def test_thm_suffix_signs_decomposition(seed, prefix, suffix):
    m = suffix_pairs(
        10, suffix, prefix=prefix, relation="similar", strength=0.5, vocab=6, dim=4, generator=rng(seed)
    )
    g = m.geometry()
    chosen, rejected = m.gap_terms(prefix)
    torch.testing.assert_close(sum(chosen), g.chosen_sq - g.inner, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(sum(rejected), g.rejected_sq - g.inner, atol=1e-9, rtol=1e-9)
    h0 = m.chosen_features[:, prefix].square().sum(-1)
    p = m.logits("chosen")[:, prefix].softmax(-1)
    rows = torch.arange(10)
    p_w, p_l = p[rows, m.chosen[:, prefix]], p[rows, m.rejected[:, prefix]]
    torch.testing.assert_close(chosen.token, h0 * (1 - p_w + p_l))
    torch.testing.assert_close(rejected.token, h0 * (1 - p_l + p_w))
    # X = Σ_t ⟨h_t, h_0⟩ (s_t(w) − s_t(l)) over prefix and chosen-suffix positions.
    s = m.scores("chosen")
    at_w = s.gather(-1, m.chosen[:, prefix, None, None].expand(-1, s.shape[1], 1)).squeeze(-1)
    at_l = s.gather(-1, m.rejected[:, prefix, None, None].expand(-1, s.shape[1], 1)).squeeze(-1)
    overlap = torch.einsum("btd,bd->bt", m.chosen_features, m.chosen_features[:, prefix])
    terms = overlap * (at_w - at_l)
    terms[:, prefix] = 0
    torch.testing.assert_close(chosen.cross_talk, terms.sum(-1), atol=1e-9, rtol=1e-9)


def test_obs_mask_a_step_on_the_differing_token_alone():
    # A longer rejected suffix: the whole step lowers the chosen answer, that on the differing token does not.
    m = suffixes("scaled", 1.25)
    step = m.blocks("chosen")[:, 0] - m.blocks("rejected")[:, 0]  # D_w − D_l, (B, V, d)
    chosen, _ = m.gap_terms(0)
    rate = (m.gradients()[0] * step).sum((1, 2))
    torch.testing.assert_close(rate, chosen.token + chosen.cross_talk, atol=1e-9, rtol=1e-9)
    moved = [after.logps()[0] - m.logps()[0] for after in (m.apply(1e-6 * step), m.step(1e-6))]
    torch.testing.assert_close(moved[0] / 1e-6, rate, atol=1e-3, rtol=1e-3)
    assert bool((moved[0] > 0).all()) and bool((moved[1] < 0).all())


def test_thm_suffix_signs_i_a_long_suffix_alone_breaks_nothing():
    m = suffixes()
    for n in (2, 8, 32, 64):
        part = m.truncate(n + 1)
        assert part.geometry().case_shares()["ideal"] == 1.0
        assert float(part.gap_terms(0)[0].asymmetry.abs().max()) < 1e-9
    assert float(m.geometry().cosine.min()) > 0.9


def test_thm_suffix_signs_ii_norm_asymmetry_turns_the_signs():
    longer, shorter = suffixes("scaled", 1.25), suffixes("scaled", 0.8)
    for n, low, high in ((0, 0.0, 0.0), (2, 0.0, 0.1), (32, 1.0, 1.0), (64, 1.0, 1.0)):
        down = longer.truncate(n + 1).geometry().case_shares()
        up = shorter.truncate(n + 1).geometry().case_shares()
        assert low <= down["both_down"] <= high and down["both_up"] == 0.0
        assert low <= up["both_up"] <= high and up["both_down"] == 0.0
    # A real step, not a first-order value: both log-probabilities fall, or both rise.
    chosen, rejected = longer.change(1e-6)
    assert bool((chosen < 0).all() and (rejected < 0).all())
    chosen, rejected = shorter.change(1e-6)
    assert bool((chosen > 0).all() and (rejected > 0).all())


def test_thm_suffix_signs_iii_noise_in_the_states_helps():
    m = suffixes("similar", 0.95, draws=200)
    assert m.geometry().case_shares()["ideal"] == 1.0
    chosen, _ = m.gap_terms(0)
    apart = m.blocks("chosen")[:, 1:].sum(1) - m.blocks("rejected")[:, 1:].sum(1)
    gain = apart.square().sum((1, 2)).mean() / 2
    assert float(chosen.asymmetry.mean()) == pytest.approx(float(gain), rel=0.15)


def test_suffix_relations():
    drawn = {
        r: suffixes(r, s)
        for r, s in (("orthogonal", 1), ("scaled", 1.25), ("similar", 0.95), ("similar", 1.0))
    }
    h_w, h_l = drawn["orthogonal"].chosen_features[:, 1:], drawn["orthogonal"].rejected_features[:, 1:]
    assert float((h_w * h_l).sum(-1).abs().max()) < 1e-9
    torch.testing.assert_close(h_w.norm(dim=-1), h_l.norm(dim=-1))
    m = drawn["scaled"]
    torch.testing.assert_close(m.rejected_features[:, 1:], 1.25 * m.chosen_features[:, 1:])
    near = suffixes("similar", 0.95)
    cosines = torch.nn.functional.cosine_similarity(
        near.chosen_features[:, 1:], near.rejected_features[:, 1:], dim=-1
    )
    assert float(cosines.mean()) == pytest.approx(0.95, abs=0.01)
    for m in (*drawn.values(), suffixes(prefix=3), suffixes(shared_tokens="uniform")):
        assert (m.chosen != m.rejected).sum(-1).tolist() == [1] * 60
    assert torch.equal(suffixes().chosen, suffixes().chosen)
    for bad in ({"relation": "opposite"}, {"relation": "scaled", "strength": 0.0}, {"shared_tokens": "none"}):
        with pytest.raises(ValueError, match=r"relation=|shared_tokens=|strength="):
            suffixes(**bad)
    with pytest.raises(ValueError, match="strength=2"):
        suffixes("similar", 2)


# --- refusals -----------------------------------------------------------------------------------------------


def test_exact_models_refuse_bad_input():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="same token in some instance"):
        OneToken(logits, torch.tensor([0, 1]), torch.tensor([1, 1]))
    with pytest.raises(ValueError, match=r"rejected=.*expected token ids from 0 to 2"):
        OneToken(logits, torch.tensor([0, 1]), torch.tensor([1, 3]))
    with pytest.raises(ValueError, match=r"kappa=.*expected numbers above 0"):
        OneToken(logits, torch.tensor([0, 1]), torch.tensor([1, 0]), 0.0)
    with pytest.raises(ValueError, match=r"logits are \(3,\)"):
        OneToken(torch.zeros(3), torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(ValueError, match="weight is"):
        TrainableOneToken(torch.zeros(1, 3, 2), torch.zeros(1, 3), torch.tensor([0]), torch.tensor([1]))
    tokens = torch.tensor([[0, 1]])
    with pytest.raises(ValueError, match=r"rejected=.*expected token ids from 0 to 2"):
        LogLinear(torch.zeros(3, 2), torch.zeros(1, 2, 2), tokens, torch.zeros(1, 2, 2), tokens + 2)
    with pytest.raises(ValueError, match="chosen is"):
        LogLinear(torch.zeros(3, 2), torch.zeros(1, 3, 2), tokens, torch.zeros(1, 2, 2), tokens)
    m = random_log_linear(2, 3, 3, generator=rng(0))
    with pytest.raises(ValueError, match="truncate: length=4"):
        m.truncate(4)
    with pytest.raises(ValueError, match="differ before position 1"):
        m.gap_terms(1)
    with pytest.raises(ValueError, match="similarity=1"):
        random_log_linear(2, similarity=1.0)
    with pytest.raises(ValueError, match="vocab=1"):
        distinct_tokens(3, 1)
    with pytest.raises(ValueError, match="n=2"):
        simplex_grid(2)


def one_step_pair():
    """Responses of one token over frozen states of squared lengths 4 and 9, uniform over three tokens."""
    h_w, h_l = torch.tensor([[[2.0, 0.0]]]).double(), torch.tensor([[[1.8, 2.4]]]).double()
    weight = torch.zeros(1, 3, 2, dtype=torch.float64)
    return LogLinear(weight, h_w, torch.tensor([[0]]), h_l, torch.tensor([[1]]))


def test_smoothness_safe_step_and_defect_have_their_closed_values():
    m = one_step_pair()
    assert [float(x) for x in m.smoothness()] == pytest.approx([2.0, 4.5])  # ½‖h‖²
    states = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]]).double()  # Σ h hᵀ has 4 and 10
    tokens = torch.tensor([[0, 1, 2]])
    two = replace(m, chosen_features=states, chosen=tokens)
    assert [float(x) for x in two.smoothness()] == pytest.approx([5.0, 4.5])
    # e − p is (2, −1, −1)/3 and (−1, 2, −1)/3: squares 2/3, product −1/3.
    a2, b2, c = 4 * 2 / 3, 9 * 2 / 3, -3.6 / 3
    geometry = m.geometry()
    numbers = (geometry.chosen_sq, geometry.rejected_sq, geometry.inner)
    assert [float(x) for x in numbers] == pytest.approx([a2, b2, c])
    d_w, d_l = 0.5, 2.0
    norm = d_w**2 * a2 + d_l**2 * b2 - 2 * d_w * d_l * c
    chosen, rejected = m.safe_step(d_w, d_l)
    assert float(chosen) == pytest.approx(2 * (d_w * a2 - d_l * c) / (2.0 * norm)) and rejected == torch.inf
    assert [float(x) for x in m.safe_step(-2.0, 0.2)] == [0.0, 0.0]  # each has the wrong sign
    # δ = η U h: for chosen d_w·4·(e_w − p) − d_l·3.6·(e_l − p), whose range is 4 d_w + 3.6 d_l.
    bounds = m.defect_bound(0.1, d_w, d_l)
    expected = [(0.1 * (4 * d_w + 3.6 * d_l)) ** 2 / 8, (0.1 * (3.6 * d_w + 9 * d_l)) ** 2 / 8]
    assert [float(x) for x in bounds] == pytest.approx(expected)


def test_states_are_as_similar_as_asked_for_and_as_long_as_ever():
    for similarity in (0.0, 0.36, 0.81):
        m = random_log_linear(4000, 3, 2, vocab=3, dim=6, similarity=similarity, generator=rng(1))
        h_w, h_l = m.chosen_features, m.rejected_features
        assert float(h_w.square().sum(-1).mean()) == pytest.approx(6, rel=0.03)
        assert float((h_w[:, 0] * h_w[:, 2]).sum(-1).mean()) == pytest.approx(6 * similarity, abs=0.15)
        assert float((h_w[:, 1] * h_l[:, 0]).sum(-1).mean()) == pytest.approx(6 * similarity, abs=0.15)
    wide, narrow = (
        random_log_linear(500, 2, 2, vocab=9, dim=6, logit_scale=s, generator=rng(1)) for s in (2.0, 0.5)
    )
    torch.testing.assert_close(wide.weight, 4 * narrow.weight)
    assert float(wide.logits("chosen").std()) == pytest.approx(2.0, rel=0.05)


# --- what is drawn ------------------------------------------------------------------------------------------

WEIGHTS = {"d_w": 1.0, "d_l": 1.0}
DEFAULTS = [
    (random_one_token, {"vocab": 50, "scale": (0.1, 10.0), "generator": None}),
    (random_trainable, {"vocab": 12, "dim": 6, "generator": None}),
    (random_log_linear, {
        "n_w": 6, "n_l": 8, "vocab": 20, "dim": 10, "logit_scale": 1.0, "similarity": 0.0, "generator": None,
    }),
    (suffix_pairs, {
        "relation": "identical", "strength": 1.0, "prefix": 0, "vocab": 60, "dim": 48, "logit_scale": 1.4,
        "shared_tokens": "sampled", "generator": None,
    }),
    (PrefixTabular.build, {"scale": 1.0, "generator": None}),
    (PositionTabular.build, {"scale": 1.0, "generator": None}),
    (OneToken, {"kappa": 1.0}),
    (OneToken.from_probs, {"kappa": 1.0}),
    *((getattr(kind, name), WEIGHTS) for kind in (OneToken, LogLinear) for name in ("change", "step")),
    *((getattr(TrainableOneToken, name), WEIGHTS) for name in ("change", "step", "direction")),
    *((getattr(LogLinear, name), WEIGHTS) for name in ("direction", "defect_bound", "safe_step")),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), DEFAULTS, ids=lambda x: getattr(x, "__qualname__", ""))
def test_what_is_not_said(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


def test_distinct_tokens_take_every_two_ids_alike():
    first, second = distinct_tokens(9000, 3, rng(0))
    counts = torch.bincount(3 * first + second, minlength=9).reshape(3, 3)
    assert counts.diagonal().tolist() == [0, 0, 0] and first.shape == second.shape == (9000,)
    others = counts[~torch.eye(3, dtype=torch.bool)].double()
    assert float((others / 1500 - 1).abs().max()) < 0.1
    first, second = distinct_tokens(50, 2, rng(0))
    assert (first + second).tolist() == [1] * 50


def test_logits_have_the_asked_spread():
    fixed = random_one_token(400, 50, scale=3.0, generator=rng(0)).logits
    assert float(fixed.std()) == pytest.approx(3.0, rel=0.03)
    spread = random_one_token(4000, 50, scale=(0.2, 5.0), generator=rng(0)).logits.std(dim=1).log()
    low, high = math.log(0.2), math.log(5.0)
    assert low - 0.4 < float(spread.min()) < low + 0.1 and high - 0.1 < float(spread.max()) < high + 0.4
    assert float(spread.mean()) == pytest.approx((low + high) / 2, abs=0.06)  # uniform on the log scale
    assert float(spread.std()) == pytest.approx((high - low) / math.sqrt(12), rel=0.05)
    made = random_trainable(500, 4, 6, generator=rng(0))
    assert made.weight.shape == (500, 4, 6) and made.features.shape == (500, 6)
    assert float(made.weight.std()) == pytest.approx(1, rel=0.03) == float(made.features.std())
    tokens = torch.tensor([[0, 1]]).expand(300, 2), torch.tensor([[1, 1]]).expand(300, 2)
    for kind in (PrefixTabular, PositionTabular):
        made = kind.build(*tokens, 4, scale=2.5, generator=rng(0))
        assert float(made.weight.std()) == pytest.approx(2.5, rel=0.05)


def test_the_simplex_has_its_inner_points():
    assert (simplex_grid(4) * 4).tolist() == [[1, 1, 2], [1, 2, 1], [2, 1, 1]]
    assert (simplex_grid(3) * 3).tolist() == [[1, 1, 1]]
    points = simplex_grid(10)
    assert len(points) == 9 * 8 // 2 and len(set(map(tuple, points.tolist()))) == 36
    torch.testing.assert_close(points.sum(1), torch.ones(36).double())
    assert float(points.min()) == pytest.approx(0.1)


def test_shared_tokens_follow_the_mean_of_both_distributions():
    options = {"relation": "scaled", "strength": 2.0, "prefix": 1, "vocab": 4, "dim": 3}
    m = suffix_pairs(3000, 1, generator=rng(0), **options)
    probs = (m.logits("chosen").softmax(-1) + m.logits("rejected").softmax(-1)) / 2
    for place in (0, 2):  # the prefix, and the suffix
        assert torch.equal(m.chosen[:, place], m.rejected[:, place])
        hit = probs[:, place].gather(1, m.chosen[:, place, None]).squeeze(1)
        expected = probs[:, place].square().sum(1)
        assert float(hit.mean()) == pytest.approx(float(expected.mean()), rel=0.05)
    # The means differ from either side's own.
    own = m.logits("chosen").softmax(-1)[:, 2].square().sum(1).mean()
    assert float(own) != pytest.approx(float(expected.mean()), rel=0.1)
    flat = suffix_pairs(3000, 1, shared_tokens="uniform", generator=rng(0), **options)
    counts = torch.bincount(flat.chosen[:, 2], minlength=4).double()
    assert float((counts / 750 - 1).abs().max()) < 0.12
    assert torch.equal(m.chosen_features[:, :2], m.rejected_features[:, :2])
    assert m.chosen.shape == (3000, 3) and m.weight.shape == (3000, 4, 3)
    assert float(m.chosen_features.std()) == pytest.approx(1, rel=0.03)
    assert float(m.weight.std()) == pytest.approx(1.4 / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize("strength", [-1.0, 0.6, 1.0])
def test_similar_states_have_the_asked_cosine_and_length(strength):
    m = suffix_pairs(3000, 2, relation="similar", strength=strength, dim=8, vocab=3, generator=rng(0))
    h_w, h_l = m.chosen_features[:, 1:], m.rejected_features[:, 1:]
    assert float((h_w * h_l).sum(-1).mean()) == pytest.approx(8 * strength, rel=0.05)
    assert float(h_l.square().sum(-1).mean()) == pytest.approx(8, rel=0.05)


TOKENS = torch.tensor([[0, 1]]), torch.tensor([[1, 1]])


@pytest.mark.parametrize(
    "make",
    [
        lambda g: distinct_tokens(20, 9, g)[0],
        lambda g: distinct_tokens(20, 9, g)[1],
        lambda g: random_one_token(2, generator=g).logits,
        lambda g: random_trainable(2, generator=g).weight,
        lambda g: random_trainable(2, generator=g).features,
        lambda g: random_trainable(20, generator=g).chosen,
        lambda g: random_log_linear(2, generator=g).weight,
        lambda g: random_log_linear(2, generator=g).chosen_features,
        lambda g: random_log_linear(2, similarity=0.99, generator=g).rejected_features,
        lambda g: random_log_linear(2, generator=g).chosen,
        lambda g: random_log_linear(2, generator=g).rejected,
        lambda g: suffix_pairs(2, 3, generator=g).weight,
        lambda g: suffix_pairs(2, 3, generator=g).chosen_features,
        lambda g: suffix_pairs(2, 3, relation="orthogonal", generator=g).rejected_features,
        lambda g: suffix_pairs(2, 8, generator=g).chosen,
        lambda g: suffix_pairs(2, 8, shared_tokens="uniform", generator=g).chosen,
        lambda g: PrefixTabular.build(*TOKENS, 4, generator=g).weight,
        lambda g: PositionTabular.build(*TOKENS, 4, generator=g).weight,
    ],
)
def test_all_that_is_drawn_comes_from_the_generator(make):
    torch.manual_seed(0)
    one = make(rng(1))
    torch.manual_seed(1)
    assert torch.equal(one, make(rng(1))) and not torch.equal(one, make(rng(2)))


def test_relations_differ_in_the_rejected_suffix_alone():
    def drawn(relation, strength=1.0):
        return suffix_pairs(
            3, 4, relation=relation, strength=strength, prefix=1, vocab=5, dim=3, generator=rng(1)
        )

    tail = drawn("identical").chosen_features
    noise = drawn("similar", 0.0).rejected_features[:, 2:]
    for relation, strength in (("identical", 1.0), ("scaled", 0.5), ("similar", 0.6), ("orthogonal", 1.0)):
        m = drawn(relation, strength)
        assert torch.equal(m.chosen_features, tail)
        assert torch.equal(m.rejected_features[:, :2], tail[:, :2])
        own = m.rejected_features[:, 2:]
        if relation == "similar":
            torch.testing.assert_close(own, 0.6 * tail[:, 2:] + 0.8 * noise)
        if relation == "orthogonal":  # what is left of the noise, as long as the chosen state
            side = noise - (noise * tail[:, 2:]).sum(-1, keepdim=True) * tail[:, 2:] / tail[
                :, 2:
            ].square().sum(-1, keepdim=True)
            cosine = torch.nn.functional.cosine_similarity(own, side, dim=-1)
            torch.testing.assert_close(cosine, torch.ones_like(cosine))
    for kind in (PrefixTabular, PositionTabular):
        weight = kind.build(*TOKENS, 4, scale=2.5, generator=rng(3)).weight
        assert torch.equal(weight, 2.5 * torch.randn(weight.shape, generator=rng(3), dtype=torch.float64))


def test_more_bad_input_is_refused():
    logits, tokens = torch.zeros(2, 3), (torch.tensor([0, 1]), torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="kappa"):
        OneToken(logits, *tokens, torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="chosen"):
        OneToken(logits, tokens[0][:1], tokens[1])
    with pytest.raises(ValueError, match="chosen"):
        OneToken(logits, tokens[0] - 1, tokens[1])
    with pytest.raises(ValueError, match="same token"):
        OneToken(logits, torch.tensor([0, 1]), torch.tensor([1, 1]))
    unequal = random_log_linear(2, 3, 5, generator=rng(0))
    with pytest.raises(ValueError, match="length=4"):
        unequal.truncate(4)
    with pytest.raises(ValueError, match="length=0"):
        unequal.truncate(0)
    assert unequal.truncate(3).rejected.shape == (2, 3)
    alike = suffix_pairs(2, 2, prefix=2, vocab=5, dim=3, generator=rng(0))
    alike.gap_terms(2)
    other = alike.rejected_features.clone()
    other[:, 2] += 1.0  # the state that predicts the differing token
    with pytest.raises(ValueError, match="differ before position 2"):
        replace(alike, rejected_features=other).gap_terms(2)
    words = alike.rejected.clone()
    words[:, 1] = (words[:, 1] + 1) % 5
    with pytest.raises(ValueError, match="differ before position 2"):
        replace(alike, rejected=words).gap_terms(2)
    with pytest.raises(ValueError, match="agree at position 1"):
        alike.gap_terms(1)


def test_a_probability_that_rises_from_nothing_keeps_its_digits():
    """Against exact rational arithmetic: an unlikely token, and all others falling far below it."""
    logits, delta = torch.tensor([[0.0, -46.0]]).double(), torch.tensor([[-60.0, 0.0]]).double()
    found = logp_change(logits, delta, torch.tensor([1]))
    total = 1 + math.exp(-46.0)
    assert float(found) == pytest.approx(-math.log((math.exp(-60.0) + math.exp(-46.0)) / total), rel=1e-12)
    # And one that is overtaken by far, where the exponential would overflow.
    far = logp_change(torch.zeros(1, 2).double(), torch.tensor([[900.0, 0.0]]).double(), torch.tensor([1]))
    assert float(far) == pytest.approx(math.log(2) - 900.0, rel=1e-12)


@pytest.mark.parametrize("strength", [-1.5, -1.01, 1.01, 1.5, math.nan])
def test_a_cosine_is_between_its_ends(strength):
    with pytest.raises(ValueError, match=f"strength={strength}"):
        suffix_pairs(1, 1, relation="similar", strength=strength, generator=rng(0))


@pytest.mark.parametrize(
    "kind", [lambda x: x, torch.Tensor.tolist, torch.Tensor.numpy], ids=["", "list", "numpy"]
)
def test_numbers_of_every_kind_make_an_exact_model(kind):
    m = random_log_linear(2, 2, 3, vocab=4, dim=3, generator=rng(0))
    states = kind(m.chosen_features), kind(m.rejected_features)
    for make in (LogLinear, PrefixTabular, PositionTabular):
        made = make(kind(m.weight), states[0], m.chosen, states[1], m.rejected)
        assert torch.equal(made.weight, m.weight) and torch.equal(made.rejected_features, m.rejected_features)
        assert torch.equal(made.chosen_features, m.chosen_features)
    one = random_one_token(2, 4, generator=rng(0))
    made = OneToken(kind(one.logits), one.chosen, one.rejected, kind(torch.tensor([1.0, 2.0])))
    assert torch.equal(made.logits, one.logits) and made.kappa.tolist() == [1.0, 2.0]
    weights = torch.tensor([0.5, 2.0]), torch.tensor([1.0, 3.0])
    for mine, theirs in zip(made.change(0.1, *map(kind, weights)), made.change(0.1, *weights), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(made.step(0.1, *map(kind, weights)).logits, made.step(0.1, *weights).logits)
    both = random_trainable(2, 4, 3, generator=rng(0))
    made = TrainableOneToken(kind(both.weight), kind(both.features), both.chosen, both.rejected)
    assert torch.equal(made.weight, both.weight) and torch.equal(made.features, both.features)
