"""Every loss against its closed form: value by an independent formula, weights to 1e-12, kinks included."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from entanglement.losses import PairLogps, get_loss, list_losses, loss_spec


def sig(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def dsig(x):
    return sig(x) * sig(-x)


def logit(q):
    return math.log(q / (1 - q))


class Pair:
    """One pair's numbers under the names of the sheet."""

    def __init__(self, f_w, f_l, ref_w, ref_l, n_w, n_l):
        self.f_w, self.f_l, self.n_w, self.n_l = f_w, f_l, n_w, n_l
        self.rw, self.rl = f_w - ref_w, f_l - ref_l
        self.delta = self.rw - self.rl
        self.mw, self.ml = f_w / n_w, f_l / n_l
        self.nw_r, self.nl_r = self.rw / n_w, self.rl / n_l


def both(d):
    return d, d


def exo(p, beta, label_smoothing):
    x = beta * p.delta
    return both(beta * dsig(x) * (logit(1 - label_smoothing) - x))


def discopop(p, beta, tau):
    x = beta * p.delta
    mu = sig(x / tau)
    inner = math.exp(-x) + math.log(sig(x))
    return both(beta * ((1 - mu) * sig(-x) + mu * math.exp(-x) - mu * (1 - mu) / tau * inner))


def dpo_shift(p, beta, shift):
    s = sig(-beta * (p.rw - shift * p.rl))
    return beta * s, shift * beta * s


def simpo(p, beta, gamma):
    s = sig(gamma - beta * (p.mw - p.ml))
    return beta * s / p.n_w, beta * s / p.n_l


def ipo_norm(p, beta):
    m = 1 / (2 * beta) - (p.nw_r - p.nl_r)
    return 2 * m / p.n_w, 2 * m / p.n_l


def sigmoid_norm(p, beta):
    s = sig(-beta * (p.nw_r - p.nl_r))
    return beta * s / p.n_w, beta * s / p.n_l


def alphapo(p, beta, gamma, alpha):
    def reward(mean):
        return (1 - math.exp(-alpha * mean)) / alpha

    s = sig(gamma - beta * (reward(p.mw) - reward(p.ml)))
    return beta * s * math.exp(-alpha * p.mw) / p.n_w, beta * s * math.exp(-alpha * p.ml) / p.n_l


def fdpo(h, slope):
    def weights(p, beta, **hyper):
        s = sig(-beta * (h(p.rw, **hyper) - h(p.rl, **hyper)))
        return beta * s * slope(p.rw, **hyper), beta * s * slope(p.rl, **hyper)

    return weights


def orpo(p, lam):
    def odds(t):
        return t - math.log(1 - math.exp(t))

    s = sig(odds(p.ml) - odds(p.mw))
    return (1 + lam * s / (1 - math.exp(p.mw))) / p.n_w, lam * s / (1 - math.exp(p.ml)) / p.n_l


def dpop(p, beta, lam):
    s = sig(-beta * (p.delta - lam * max(0.0, -p.rw)))
    return beta * s * (1 + lam * (p.rw < 0)), beta * s


#: name → (pair, hyper-parameters) ↦ (d_w, d_l), from the tables of the theory sheet.
CLOSED = {
    "dpo": lambda p, beta: both(beta * sig(-beta * p.delta)),
    "cdpo": lambda p, beta, label_smoothing: both(beta * (1 - label_smoothing - sig(beta * p.delta))),
    "robust": lambda p, beta, label_smoothing: both(
        beta * ((1 - label_smoothing) / (1 - 2 * label_smoothing) - sig(beta * p.delta))
    ),
    "rdpo": lambda p, beta, alpha: both(beta * sig(-beta * p.delta - alpha * (p.n_w - p.n_l))),
    "ipo": lambda p, beta: both(2 * (1 / (2 * beta) - p.delta)),
    "hinge": lambda p, beta: both(beta * (beta * p.delta < 1)),
    "exo": exo,
    "discopop": discopop,
    "cpo": lambda p, beta, alpha: (
        beta * sig(-beta * (p.f_w - p.f_l)) + alpha / p.n_w,
        beta * sig(-beta * (p.f_w - p.f_l)),
    ),
    "dpo_shift": dpo_shift,
    "simpo": simpo,
    "ipo_norm": ipo_norm,
    "sigmoid_norm": sigmoid_norm,
    "alphapo": alphapo,
    "fdpo_forward_kl": fdpo(lambda r: -math.exp(-r), lambda r: math.exp(-r)),
    "fdpo_js": fdpo(lambda r: math.log(sig(r)), lambda r: sig(-r)),
    "fdpo_alpha": fdpo(
        lambda r, alpha: math.exp((alpha - 1) * r) / (alpha - 1), lambda r, alpha: math.exp((alpha - 1) * r)
    ),
    "rpo": lambda p, beta, alpha: (
        beta * sig(-beta * p.delta) + alpha / p.n_w,
        beta * sig(-beta * p.delta),
    ),
    "slic_hf": lambda p, delta, lam: ((p.f_w - p.f_l < delta) + lam, 1.0 * (p.f_w - p.f_l < delta)),
    "rrhf": lambda p, lam: (((p.mw < p.ml) + lam) / p.n_w, (p.mw < p.ml) / p.n_l),
    "dpop": dpop,
    "orpo": orpo,
    "kto": lambda p, beta, desirable, undesirable, kl: (
        desirable * beta * dsig(beta * (p.rw - kl)),
        undesirable * beta * dsig(beta * (p.rl - kl)),
    ),
    "apo_zero": lambda p, beta: (beta * dsig(beta * p.rw), beta * dsig(beta * p.rl)),
    "bco": lambda p, beta, delta: (beta * sig(delta - beta * p.rw), beta * sig(beta * p.rl - delta)),
    "nca": lambda p, beta: (beta * (1 - 1.5 * sig(beta * p.rw)), beta / 2 * sig(beta * p.rl)),
    "sppo": lambda p, beta: (2 * (1 / (2 * beta) - p.rw), 2 * (p.rl + 1 / (2 * beta))),
    "sft": lambda p: (1 / p.n_w, 0.0),
    "apo_down": lambda p, beta: (
        beta * (dsig(beta * p.delta) - dsig(beta * p.rw)),
        beta * dsig(beta * p.delta),
    ),
    "caldpo": lambda p, beta: (
        sig(-p.delta) + 1 / (2 * beta) - p.rw,
        sig(-p.delta) + 1 / (2 * beta) + p.rl,
    ),
}
BATCH = ("aot", "aot_unpaired")  # functions of the batch, tested below

logp = st.floats(-40, -0.5)
numbers = st.tuples(logp, logp, logp, logp, st.integers(1, 30), st.integers(1, 30))


def logps(values):
    tensors = [torch.tensor([v], dtype=torch.float64) for v in values[:4]]
    return PairLogps(*tensors, *(torch.tensor([n]) for n in values[4:]))


def test_every_loss_has_a_closed_form_here():
    assert sorted([*CLOSED, *BATCH]) == sorted(list_losses())


@pytest.mark.parametrize("name", list(CLOSED))
@settings(max_examples=60)
@given(values=numbers)
def test_weights_in_closed_form(name, values):
    spec = loss_spec(name)
    hyper = {h.name: h.default for h in spec.hyper}
    expected = CLOSED[name](Pair(*values), **hyper)
    got = get_loss(name).weights(logps(values))
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.item() == pytest.approx(float(theirs), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("name", list(CLOSED))
@settings(max_examples=20)
@given(values=numbers, seed=st.integers(0, 1000))
def test_weights_with_other_hyper_parameters(name, values, seed):
    generator = torch.Generator().manual_seed(seed)
    spec = loss_spec(name)
    hyper = {}
    for h in spec.hyper:
        low, high = max(h.low, 0.0), min(h.high, 2.0)
        hyper[h.name] = low + (high - low) * (0.05 + 0.9 * float(torch.rand((), generator=generator)))
    expected = CLOSED[name](Pair(*values), **hyper)
    got = get_loss(name, **hyper).weights(logps(values))
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.item() == pytest.approx(float(theirs), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", list_losses())
def test_the_form_that_is_declared(name):
    """strict: equal weights. separable: no weight looks at the other response. And the reference."""
    spec, draw = loss_spec(name), torch.Generator().manual_seed(0)
    columns = [-1 - 20 * torch.rand(40, generator=draw, dtype=torch.float64) for _ in range(4)]
    batch = PairLogps(*columns, *(torch.randint(1, 20, (40,), generator=draw) for _ in range(2)))
    d_w, d_l = get_loss(name).weights(batch)
    assert torch.equal(d_w, d_l) == (spec.form == "strict")
    if spec.form == "separable":
        moved = get_loss(name).weights(batch.with_policy(batch.chosen, batch.rejected - 3.0))
        torch.testing.assert_close(moved[0], d_w, rtol=1e-12, atol=0)
        moved = get_loss(name).weights(batch.with_policy(batch.chosen - 3.0, batch.rejected))
        torch.testing.assert_close(moved[1], d_l, rtol=1e-12, atol=0)
    lengths = (batch.chosen_len, batch.rejected_len)
    moved_ref = PairLogps(*columns[:2], columns[2] - 1.0, columns[3], *lengths)
    same = torch.allclose(get_loss(name)(batch), get_loss(name)(moved_ref))
    assert same != spec.needs_reference


def test_who_starts_at_one():
    """At the reference (β = 0.1): the first step of most losses is decided by Condition 1."""
    at = torch.tensor([-9.0], dtype=torch.float64), torch.tensor([-11.0], dtype=torch.float64)
    start = PairLogps(*at, *at, torch.tensor([8]), torch.tensor([13]))
    ratios = {}
    for name in CLOSED:
        hyper = {"beta": 0.1} if any(h.name == "beta" for h in loss_spec(name).hyper) else {}
        d_w, d_l = get_loss(name, **hyper).weights(start)
        ratios[name] = (d_w / d_l).item()
    ones = {"dpo", "cdpo", "robust", "rdpo", "ipo", "hinge", "exo", "discopop", "dpop", "kto", "apo_zero"}
    ones |= {"bco", "nca", "sppo", "caldpo", "fdpo_forward_kl", "fdpo_js", "fdpo_alpha"}
    others = {"cpo", "simpo", "ipo_norm", "sigmoid_norm", "alphapo", "rpo", "slic_hf", "rrhf", "orpo", "sft"}
    others |= {"apo_down"}
    starting = {name for name, r in ratios.items() if r == pytest.approx(1.0, rel=1e-12)}
    assert ones <= starting and not others & starting
    # A loss that is added says so by its form.
    assert {name for name in CLOSED if loss_spec(name).form == "strict"} <= starting
    for name in ("simpo", "ipo_norm", "sigmoid_norm"):
        assert ratios[name] == pytest.approx(13 / 8)
    assert ratios["apo_down"] == 0.0 and ratios["sft"] == math.inf
    assert ratios["orpo"] == pytest.approx(16.6, abs=0.05)
    d_w, d_l = get_loss("discopop").weights(start)
    assert d_w.item() == d_l.item() == pytest.approx(-0.784 * 0.05, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "at_five", "at_forty"),
    [
        ("dpo", 1.0, 1.0), ("kto", 1.0, 1.0), ("apo_zero", 1.0, 1.0), ("fdpo_forward_kl", 1.0, 1.0),
        ("bco", 1.65, 54.6), ("nca", 2.30, 108.0), ("dpop", 51.0, 51.0),
    ],
)  # fmt: skip
def test_what_happens_to_r_once_both_have_fallen(name, at_five, at_forty):
    for fallen, expected in ((5.0, at_five), (40.0, at_forty)):
        ref = torch.tensor([-30.0], dtype=torch.float64)
        now = PairLogps(ref - fallen, ref - fallen, ref, ref, torch.tensor([10]), torch.tensor([10]))
        d_w, d_l = get_loss(name, beta=0.1).weights(now)
        assert (d_w / d_l).item() == pytest.approx(expected, rel=5e-3)


def test_subgradients_at_the_kinks_are_the_declared_ones():
    def at(f_w, f_l, ref_w=0.0, ref_l=0.0):
        return logps((f_w, f_l, ref_w, ref_l, 4, 4))

    assert [d.item() for d in get_loss("hinge", beta=1.0).weights(at(-2.0, -3.0))] == [0.0, 0.0]
    assert [d.item() for d in get_loss("slic_hf", lam=0.5).weights(at(-2.0, -3.0))] == [0.5, 0.0]
    assert [d.item() for d in get_loss("rrhf", lam=1.0).weights(at(-2.0, -2.0))] == [0.25, 0.0]
    d_w, d_l = get_loss("dpop").weights(at(-5.0, -6.0, -5.0, -6.0))
    assert d_w.item() == d_l.item() > 0


@pytest.mark.parametrize("name", BATCH)
def test_optimal_transport_looks_at_the_batch(name):
    draw = torch.Generator().manual_seed(0)
    batch = PairLogps(*(-20 * torch.rand(7, generator=draw, dtype=torch.float64) for _ in range(4)))
    beta, eps = 0.3, 0.1
    d_w, d_l = get_loss(name, beta=beta, label_smoothing=eps).weights(batch)
    if name == "aot":
        ranked, theirs = batch.margin.sort(), (batch.ref_chosen - batch.ref_rejected).sort().values
        slope = beta * (1 - eps - torch.sigmoid(beta * (ranked.values - theirs)))
        expected = torch.zeros(7, dtype=torch.float64).index_put((ranked.indices,), slope)
        torch.testing.assert_close(d_w, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(d_l, expected, rtol=1e-12, atol=1e-14)
    else:
        w, l = batch.chosen_logratio.sort(), batch.rejected_logratio.sort()  # noqa: E741
        slope = beta * (1 - eps - torch.sigmoid(beta * (w.values - l.values)))
        for got, side in ((d_w, w), (d_l, l)):
            expected = torch.zeros(7, dtype=torch.float64).index_put((side.indices,), slope)
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(d_w.sort().values, d_l.sort().values)


def test_with_one_pair_optimal_transport_is_dpo():
    one = logps((-5.0, -7.0, -5.5, -6.0, 3, 4))
    for name in BATCH:
        mine = get_loss(name, beta=0.2).weights(one)
        theirs = get_loss("dpo", beta=0.2).weights(one)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b)
