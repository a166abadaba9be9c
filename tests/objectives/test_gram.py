"""What the Gram matrix of k objectives says, and the theorem on objectives against true steps."""

import pytest
import torch
from scipy.optimize import linprog

from entanglement.geometry import PairGeometry
from entanglement.objectives import ObjectiveGeometry

exactly = torch.testing.assert_close


def drawn(k, dim, rows=40, seed=0, together=0.0):
    """(B, k, dim) gradients of very different lengths, with a part in common."""
    draw = torch.Generator().manual_seed(seed)
    g = torch.randn(rows, k, dim, generator=draw, dtype=torch.float64)
    g = g + together * torch.randn(rows, 1, dim, generator=draw, dtype=torch.float64)
    return g * (2 * torch.randn(rows, k, 1, generator=draw, dtype=torch.float64)).exp()


def can_rise(gradients):
    """Whether some direction raises all, by linear programming: max t with ⟨g_i/‖g_i‖, u⟩ ≥ t, |u_d| ≤ 1."""
    unit = (gradients / gradients.norm(dim=1, keepdim=True)).numpy()
    k, dim = unit.shape
    rows = torch.cat([torch.from_numpy(-unit), torch.ones(k, 1, dtype=torch.float64)], 1).numpy()
    done = linprog([0.0] * dim + [-1.0], A_ub=rows, b_ub=[0.0] * k, bounds=[(-1, 1)] * dim + [(None, 1)])
    return -done.fun > 1e-9


def test_the_shape():
    g = drawn(3, 5)
    found = ObjectiveGeometry.from_vectors(g, ("a", "b", "c"))
    assert (len(found), found.k, found.place("b"), found.place(2)) == (40, 3, 1, 2)
    exactly(found.norms, g.norm(dim=2))
    exactly(found.cosine, torch.nn.functional.cosine_similarity(g[:, :, None], g[:, None], dim=3))
    exactly(found.select([3, 1]).gram, found.gram[[3, 1]])
    assert torch.equal(ObjectiveGeometry.cat([found]).gram, found.gram)
    exactly(ObjectiveGeometry.cat([found, found.select([0])]).gram, torch.cat([found.gram, found.gram[:1]]))
    assert ObjectiveGeometry(found.gram[0]).gram.shape == (1, 3, 3)
    zero = ObjectiveGeometry.from_vectors([[0.0, 0.0], [1.0, 0.0]])
    assert zero.cosine.isnan().sum() == 3 and not zero.can_all_rise.any()
    assert zero.shortest.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("weights", [1.0, [0.3, 2.0]])
def test_thm_objectives_ii_two_objectives_are_a_pair(weights):
    draw = torch.Generator().manual_seed(1)
    g_w, g_l = (torch.randn(60, 4, generator=draw).double() for _ in range(2))
    g_l = g_l + 1.5 * g_w
    pairs = PairGeometry.from_vectors(g_w, g_l)
    found = ObjectiveGeometry.from_pairs(pairs)
    exactly(found.gram, ObjectiveGeometry.from_vectors(torch.stack([g_w, -g_l], 1)).gram)
    d_w, d_l = (weights, weights) if isinstance(weights, float) else weights
    chosen, rejected = pairs.rates(d_w, d_l)
    exactly(found.rates(weights), torch.stack([chosen, -rejected], 1))
    assert {*pairs.case(d_w, d_l)} >= {"ideal", "both_down"}
    falls = {"ideal": [False, False], "both_down": [True, False], "both_up": [False, True]}
    assert found.dragged(weights).tolist() == [falls[case] for case in pairs.case(d_w, d_l)]
    assert (found.condition.all(1) == pairs.condition).all()
    assert 0 < pairs.condition.sum() < 60
    for mine, theirs in zip(found.band(0, 1), pairs.band, strict=True):
        exactly(mine, theirs)


def test_an_exact_tie_neither_rises_nor_falls():
    found = ObjectiveGeometry.from_vectors([[0.1, 0.0], [-0.1, 0.3]])
    assert found.rates([0.3, 0.3])[0, 0] == 0
    assert not found.rises([0.3, 0.3])[0, 0] and not found.dragged([0.3, 0.3])[0, 0]
    assert found.condition[0].tolist() == [True, True]


# --- the theorem --------------------------------------------------------------------------------------------


class Curved:
    """k smooth functions of θ, not linear: f_i(θ) = ⟨g_i, θ⟩ + ½ Σ_d h_id θ_d², |h| ≤ bend."""

    def __init__(self, gradients, seed=0, bend=1.0):
        self.g = gradients  # (k, dim)
        draw = torch.Generator().manual_seed(seed)
        self.h = bend * (2 * torch.rand(gradients.shape, generator=draw, dtype=torch.float64) - 1)

    def __call__(self, theta):
        return self.g @ theta + self.h @ theta.square() / 2


def steps(k, dim, together, seed=0):
    """Yield (functions, gradients, geometry of one example, weights)."""
    draw = torch.Generator().manual_seed(seed + 100)
    for i, g in enumerate(drawn(k, dim, rows=25, seed=seed, together=together)):
        weights = torch.rand(k, generator=draw, dtype=torch.float64) * 2
        yield Curved(g, seed=i), g, ObjectiveGeometry.from_vectors(g), weights


@pytest.mark.parametrize(("k", "dim"), [(2, 2), (3, 2), (5, 8)])
def test_thm_objectives_i_ii_a_true_step_changes_each_objective_as_foretold(k, dim):
    fell = rose = 0
    for f, g, geometry, w in steps(k, dim, together=0.5):
        u = w @ g
        rates = geometry.rates(w)[0]
        smallest = rates.abs().min() / u.square().sum()
        lr = float(min(1e-4, 0.5 * smallest))  # the remainder is at most lr² ‖u‖² / 2, half of the change
        change = f(lr * u) - f(torch.zeros(dim).double())
        exactly(change, geometry.predicted_change(w, lr)[0], rtol=0.3, atol=0.0)
        assert ((change > 0) == geometry.rises(w)[0]).all()
        assert ((change < 0) == geometry.dragged(w)[0]).all()
        fell, rose = fell + int((change < 0).sum()), rose + int((change > 0).sum())
        exactly(geometry.step_norm(w)[0], u.norm())
    assert fell > 5 and rose > 5


@pytest.mark.parametrize(("k", "dim", "together"), [(2, 3, 0.0), (3, 2, 0.0), (4, 3, 0.0), (6, 4, 0.7)])
def test_thm_objectives_iii_all_can_rise_unless_the_shortest_mixture_vanishes(k, dim, together):
    seen = set()
    for f, g, geometry, _ in steps(k, dim, together):
        possible = can_rise(g)
        seen.add(possible)
        assert bool(geometry.can_all_rise) == possible
        w = geometry.shortest
        assert (w >= 0).all()
        exactly(w.sum(), torch.ones(()).double())
        square = geometry.step_norm(w).square()
        assert (geometry.rates(w) >= square * (1 - 1e-7) - 1e-12 * geometry.gram.abs().amax()).all()
        # no other mixture is shorter
        others = torch.rand(500, k, dtype=torch.float64).log().neg()
        others = others / others.sum(1, keepdim=True)
        assert (geometry.step_norm(w) <= (others @ g).norm(dim=1) * (1 + 1e-9) + 1e-9).all()
        if possible:
            u = (w @ g)[0]
            lr = float(square / u.square().sum()) * 0.5
            assert (f(lr * u) > f(torch.zeros(dim).double())).all()
    assert seen == ({True} if k == 2 else {True, False})


def test_thm_objectives_iii_parallel_gradients():
    apart = ObjectiveGeometry.from_vectors([[1.0, 2.0], [-2.0, -4.0]])
    assert not apart.can_all_rise.any()
    exactly(apart.shortest, torch.tensor([[2 / 3, 1 / 3]]).double())
    low, high = apart.band(0, 1)
    exactly(low, high)  # one ratio, with which nothing moves
    alike = ObjectiveGeometry.from_vectors([[1.0, 2.0], [2.0, 4.0]])
    assert alike.can_all_rise.all() and alike.shortest.tolist() == [[1.0, 0.0]]
    nearly = ObjectiveGeometry.from_vectors([[1.0, 0.0], [-1.0, 1e-4]])
    assert nearly.can_all_rise.all()


def test_thm_objectives_iv_who_is_dragged_is_pulled_harder_than_it_pulls():
    dragged = bounded = 0
    for seed in range(3):
        for _, _, geometry, w in steps(4, 5, together=0.0, seed=seed):
            pulls = geometry.pulls(w)[0]
            own = pulls.diagonal()
            exactly(pulls.sum(1), geometry.rates(w)[0])
            others = pulls.sum(1) - own
            falls = geometry.dragged(w)[0]
            assert (falls == (-others > own)).all()
            sizes = w * geometry.norms[0]
            cosine = geometry.cosine[0] - torch.eye(4).double()
            # In lengths: who falls has others against it whose lengths, times the cosine, exceed its own.
            against = ((-cosine).clamp(min=0) * sizes).sum(1)
            assert (against[falls] > sizes[falls]).all()
            safe = against <= sizes
            assert not falls[safe].any()
            dragged, bounded = dragged + int(falls.sum()), bounded + int(safe.sum())
    assert dragged > 20 and bounded > 20


def test_thm_objectives_iv_normalized_gradients_are_safe_for_two_and_not_for_three():
    two = ObjectiveGeometry.from_vectors(drawn(2, 3))
    assert not two.dragged(1 / two.norms).any() and two.dragged().any()
    three = ObjectiveGeometry.from_vectors([[1.0, 0.0], [-0.6, 0.8], [-0.6, 0.8]])
    assert three.dragged(1 / three.norms).tolist() == [[True, False, False]]
    assert three.can_all_rise.all()


def test_thm_objectives_v_how_long_a_step_may_be():
    shorter = 0
    for f, g, geometry, w in steps(3, 6, together=1.0):
        u = w @ g
        start = f(torch.zeros(6).double())
        rates = geometry.rates(w)[0]
        rising = rates > 0
        limit = 2 * rates / u.square().sum()  # |second derivative| ≤ 1 everywhere
        for i in rising.nonzero().flatten().tolist():
            for share in (0.01, 0.5, 0.99):
                assert f(float(share * limit[i]) * u)[i] > start[i]
        bound = 0.5 * 0.1**2 * u.square().sum()
        assert ((f(0.1 * u) - start - 0.1 * rates).abs() <= bound * (1 + 1e-9)).all()
        worst = Curved(g, bend=0.0)
        worst.h = -torch.ones_like(worst.h)  # the bound is sharp: all bend down as far as they may
        for i in rising.nonzero().flatten().tolist():
            assert worst(float(1.01 * limit[i]) * u)[i] < start[i]
            shorter += 1
    assert shorter > 20


def test_thm_objectives_v_along_the_shortest_mixture_all_rise_up_to_two_over_the_bend():
    sharp = 0
    for f, g, geometry, _ in steps(3, 6, together=1.5):
        w = geometry.shortest
        assert geometry.can_all_rise.all()
        m = (w @ g)[0]
        for bend in (f.h, -torch.ones_like(f.h)):
            f.h = bend
            for lr in (0.01, 1.0, 1.99):
                assert (f(lr * m) > 0).all()
        beyond = f(2.01 * m) < 0
        assert beyond[w[0] > 1e-9].all()  # each that has a weight in the mixture
        sharp += int(beyond.sum())
    assert sharp > 20


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gram", "said"),
    [
        ([[1.0]], "expected \\(B, k, k\\)"),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "expected \\(B, k, k\\)"),
        ([[1.0, float("nan")], [0.0, 1.0]], "finite"),
        ([[-1.0, 0.0], [0.0, 1.0]], "'objective 1', example 0, is -1.0; expected a squared norm"),
        ([[1.0, 0.1], [0.2, 1.0]], "the same in both orders"),
        ([[1.0, 1.1], [1.1, 1.0]], "Cauchy"),
        ([[1.0, -0.9, -0.9], [-0.9, 1.0, -0.9], [-0.9, -0.9, 1.0]], "eigenvalue -0.8"),
        ("gram", "expected numbers"),
    ],
)
def test_a_gram_that_no_gradients_have_is_refused(gram, said):
    with pytest.raises(ValueError, match=said):
        ObjectiveGeometry(gram)


def test_rounding_is_put_right():
    found = ObjectiveGeometry([[1.0, 1.0 + 1e-5], [1.0, 1.0]])
    assert found.gram.max() == 1.0 and (found.gram == found.gram.mT).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda g: g.rates([1.0, 2.0]), r"weights has shape \(2,\); expected one number, \(3,\) or \(4, 3\)"),
        (lambda g: g.rates(torch.ones(3, 3)), r"weights has shape \(3, 3\)"),
        (lambda g: g.rises([1.0, 1.0, float("inf")]), "not finite"),
        (lambda g: g.predicted_change(1.0, -0.1), "lr=-0.1"),
        (lambda g: g.band("a", "z"), "'z' is not known"),
        (lambda g: g.band(0, 3), "objective=3"),
        (lambda g: g.pair("a", 0), "two different"),
        (lambda g: g.select([4]), "index=4"),
        (lambda g: ObjectiveGeometry.cat([]), "at least one part"),
        (lambda g: ObjectiveGeometry.cat([g, ObjectiveGeometry(g.gram)]), "same objectives"),
        (lambda g: ObjectiveGeometry.from_vectors([1.0, 2.0]), r"expected \(k, P\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call(ObjectiveGeometry.from_vectors(drawn(3, 5, rows=4), ("a", "b", "c")))
