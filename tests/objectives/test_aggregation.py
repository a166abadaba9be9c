"""The rules of multi-objective optimization: what each promises, and ours beside torchjd's."""

import re
import sys
from pathlib import Path

import pytest
import torch

from entanglement import objectives
from entanglement.geometry import PairGeometry
from entanglement.objectives import ObjectiveGeometry, aggregate
from entanglement.objectives.aggregation import AGGREGATIONS, Aggregation
from entanglement.objectives.cone import onto_dual_cone
from entanglement.updates import get_rule

exactly = torch.testing.assert_close


def three(seed=0, rows=6):
    """(B, 3, 5) gradients, some of them in conflict, none much longer than the others."""
    draw = torch.Generator().manual_seed(seed)
    g = torch.randn(rows, 3, 5, generator=draw, dtype=torch.float64)
    g[:, 2] -= 0.8 * g[:, 0]
    return g


def lowers_nobody(geometry, w, near=1e-12):
    assert (geometry.rates(w) >= -near * geometry.norms * geometry.step_norm(w)[:, None]).all()


def promise_of_the_mean(geometry, w):
    assert geometry.dragged(w).any()  # else nothing needs mending here
    exactly(w, torch.full((6, 3), 1 / 3, dtype=torch.float64))


def promise_of_pcgrad(geometry, w):
    """Each is kept as it is but for what points against another: the weights are at least 1."""
    assert (w >= 1).all() and (w > 1 + 1e-6).any()


def promise_of_mgda(geometry, w):
    """Nearly the shortest mixture; ours is the shortest."""
    lowers_nobody(geometry, w, near=1e-2)  # as near as Frank-Wolfe comes
    shortest = geometry.step_norm(geometry.shortest)
    assert (geometry.step_norm(w) >= shortest * (1 - 1e-12)).all()
    exactly(geometry.step_norm(w), shortest, rtol=0.02, atol=0.0)


def promise_of_cagrad(geometry, w):
    """No further from the mean than half of its length, and better for the worst off."""
    mean = torch.full_like(w, 1 / 3)
    exactly(geometry.step_norm(w - mean), 0.5 * geometry.step_norm(mean), rtol=1e-3, atol=0.0)
    assert (geometry.rates(w).amin(1) > geometry.rates(mean).amin(1)).all()


def promise_of_upgrad(geometry, w):
    """The mean of the three steps that come of one objective each."""
    lowers_nobody(geometry, w)
    each = [onto_dual_cone(one, geometry.gram[0].numpy()) for one in torch.eye(3).double().numpy()]
    exactly(w[0], torch.tensor(sum(each)) / 3)


def promise_of_dualproj(geometry, w):
    """The nearest such step to the mean. What it adds pulls only on who would fall."""
    lowers_nobody(geometry, w)
    added = w - 1 / 3
    assert (added >= 0).all() and (added > 1e-6).any()
    exactly(added * geometry.rates(w), torch.zeros_like(added), rtol=0.0, atol=1e-12)


def promise_of_imtl_g(geometry, w):
    """The same change along every gradient's own direction."""
    alike = geometry.rates(w) / geometry.norms
    exactly(alike, alike[:, :1].expand(-1, 3))


def promise_of_aligned_mtl(geometry, w):
    """The step of orthogonal gradients of one length."""
    orthogonal = torch.eye(3, dtype=torch.float64) * 4.0
    exactly(aggregate(orthogonal, "aligned-mtl"), torch.full((3,), 1 / 3, dtype=torch.float64))


#: Rule → what it promises of its weights.
PROMISES = {
    "mean": promise_of_the_mean,
    "pcgrad": promise_of_pcgrad,
    "mgda": promise_of_mgda,
    "cagrad": promise_of_cagrad,
    "upgrad": promise_of_upgrad,
    "dualproj": promise_of_dualproj,
    "imtl-g": promise_of_imtl_g,
    "aligned-mtl": promise_of_aligned_mtl,
}
NAMES = tuple(PROMISES)


def test_every_rule_says_what_it_promises():
    assert set(AGGREGATIONS) == set(PROMISES)
    assert all(each.title for each in AGGREGATIONS.values())


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_takes_one_matrix_several_or_a_geometry(rule):
    geometry = ObjectiveGeometry.from_vectors(three())
    all_at_once = aggregate(geometry, rule)
    assert all_at_once.shape == (6, 3) and all_at_once.dtype == torch.float64
    exactly(aggregate(geometry.gram, rule), all_at_once)
    state = torch.random.get_rng_state()
    alone = aggregate(geometry.gram[0], rule)
    assert alone.shape == (3,) and torch.equal(torch.random.get_rng_state(), state)
    exactly(alone, all_at_once[0])
    mean = geometry.rates(1 / 3)
    assert rule == "mean" or not torch.allclose(geometry.rates(all_at_once), mean)


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_keeps_its_promise(rule):
    geometry = ObjectiveGeometry.from_vectors(three())
    PROMISES[rule](geometry, aggregate(geometry, rule))


@pytest.mark.parametrize("spread", [3, 6])
def test_the_nearest_safe_step_of_directions_does_not_depend_on_their_lengths(spread):
    unit = torch.nn.functional.normalize(three(), dim=-1)
    lengths = torch.tensor([10.0**-spread, 1.0, 10.0**spread], dtype=torch.float64)
    for g in unit.numpy():
        wanted = onto_dual_cone(torch.ones(3).double().numpy(), g @ g.T)
        longer = lengths.numpy()[:, None] * g
        found = onto_dual_cone(1 / lengths.numpy(), longer @ longer.T)
        assert found * lengths.numpy() == pytest.approx(wanted, rel=1e-6)


def test_the_order_that_pcgrad_takes_is_the_seed_s():
    gram = ObjectiveGeometry.from_vectors(three(1)).gram
    found = [aggregate(gram, "pcgrad", seed=seed) for seed in range(6)]
    exactly(aggregate(gram, "pcgrad", seed=3), found[3])
    assert any(not torch.allclose(each, found[0]) for each in found)


@pytest.mark.parametrize("rule", ["pcgrad", "mgda"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.4, 1.5)])
def test_our_rule_of_two_gradients_is_torchjd_s(rule, weights):
    draw = torch.Generator().manual_seed(0)
    g_w, g_l = (torch.randn(12, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    g_l = torch.cat([g_l[:4], g_l[4:] + 2 * g_w[4:]])  # both signs of c
    pairs = PairGeometry.from_vectors(g_w, g_l)
    assert (pairs.inner > 0).any() and (pairs.inner < 0).any()
    d_w, d_l = (torch.full((12,), d, dtype=torch.float64) for d in weights)
    ours = torch.stack(get_rule(rule).weights(pairs, d_w, d_l), 1)
    weighed = torch.stack([d_w[:, None] * g_w, -d_l[:, None] * g_l], 1)
    theirs = aggregate(ObjectiveGeometry.from_vectors(weighed), rule) * torch.stack([d_w, d_l], 1)
    length = {"pcgrad": 1.0, "mgda": 2.0}[rule]  # ours is twice the mixture, to be the loss's own at one half
    exactly(ours, length * theirs)
    step = lambda w: w[:, :1] * g_w - w[:, 1:] * g_l  # noqa: E731
    exactly(step(ours), length * step(theirs))
    assert not torch.allclose(ours, theirs[:, [1, 0]] * length)


def test_a_missing_package_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)  # as if it were not installed
    with pytest.raises(
        ImportError, match=r"^UPGrad: needs .*entanglement\[objectives\].*pip install"
    ) as caught:
        aggregate(torch.eye(2), "upgrad")
    assert "\n" not in str(caught.value)


def test_the_room_imports_no_optional_package_when_it_is_imported():
    for path in Path(objectives.__file__).parent.glob("*.py"):
        imported = re.findall(r"^(?:from|import) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert imported and not {"torchjd", "cvxpy"} & set(imported), path.name


@pytest.mark.parametrize(
    ("gram", "rule", "said"),
    [
        (torch.eye(2), "gradnorm", "aggregation 'gradnorm' is not known; expected one of mean, pcgrad"),
        (torch.ones(2), "mean", "gram is"),
        ([[1.0, 2.0], [2.0, 1.0]], "mean", "Cauchy"),
    ],
)
def test_what_cannot_be_meant_is_refused(gram, rule, said):
    with pytest.raises(ValueError, match=said):
        aggregate(gram, rule)


def test_an_example_without_finite_weights_is_named(monkeypatch):
    torn = Aggregation("torn", lambda: lambda gram: torch.where(gram[0, 0] == 2, torch.nan, gram.diagonal()))
    monkeypatch.setitem(AGGREGATIONS._things, "torn", torn)
    grams = torch.stack([torch.eye(2), 2 * torch.eye(2), torch.eye(2)])
    with pytest.raises(ValueError, match="gram of example 1 has no finite weights by 'torn'"):
        aggregate(grams, "torn")
    assert aggregate(grams[::2], "torn").tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("rule", NAMES)
def test_gradients_of_zero_get_weights_all_the_same(rule):
    assert aggregate(torch.zeros(2, 2), rule).isfinite().all()
    assert aggregate(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), rule).isfinite().all()
