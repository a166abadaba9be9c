"""The rules of multi-objective optimization: what each promises, and ours beside torchjd's."""

import re
import sys
from pathlib import Path

import pytest
import torch

from entanglement import objectives
from entanglement.geometry import PairGeometry
from entanglement.objectives import ObjectiveGeometry, aggregate
from entanglement.objectives.aggregation import AGGREGATIONS
from entanglement.objectives.cone import onto_dual_cone
from entanglement.updates import get_rule

exactly = torch.testing.assert_close
NAMES = ("mean", "pcgrad", "mgda", "cagrad", "upgrad", "dualproj", "imtl-g", "aligned-mtl")


def three(seed=0, rows=6):
    """(B, 3, 5) gradients, some of them in conflict, none much longer than the others."""
    draw = torch.Generator().manual_seed(seed)
    g = torch.randn(rows, 3, 5, generator=draw, dtype=torch.float64)
    g[:, 2] -= 0.8 * g[:, 0]
    return g


def test_these_are_the_rules():
    assert tuple(AGGREGATIONS) == NAMES
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


def test_what_each_rule_promises():
    geometry = ObjectiveGeometry.from_vectors(three())
    w = {rule: aggregate(geometry, rule) for rule in NAMES}
    assert geometry.dragged(w["mean"]).any()  # else nothing needs mending here
    exactly(w["mean"], torch.full((6, 3), 1 / 3, dtype=torch.float64))
    for rule in ("upgrad", "dualproj", "mgda"):
        near = 1e-2 if rule == "mgda" else 1e-12  # as near as Frank-Wolfe comes
        least = -near * geometry.norms * geometry.step_norm(w[rule])[:, None]
        assert (geometry.rates(w[rule]) >= least).all(), rule
    # DualProj: the nearest such step to the mean. What it adds pulls only on who would fall.
    added = w["dualproj"] - w["mean"]
    assert (added >= 0).all() and (added > 1e-6).any()
    exactly(added * geometry.rates(w["dualproj"]), torch.zeros_like(added), rtol=0.0, atol=1e-12)
    # UPGrad: the mean of the three steps that come of one objective each.
    each = [onto_dual_cone(one, geometry.gram[0].numpy()) for one in torch.eye(3).double().numpy()]
    exactly(w["upgrad"][0], torch.tensor(sum(each)) / 3)
    # IMTL-G: the same change along every gradient's own direction.
    alike = geometry.rates(w["imtl-g"]) / geometry.norms
    exactly(alike, alike[:, :1].expand(-1, 3))
    # MGDA: nearly the shortest mixture; ours is the shortest.
    shortest = geometry.step_norm(geometry.shortest)
    assert (geometry.step_norm(w["mgda"]) >= shortest * (1 - 1e-12)).all()
    exactly(geometry.step_norm(w["mgda"]), shortest, rtol=0.02, atol=0.0)
    # CAGrad: no further from the mean than half of its length.
    gap = geometry.step_norm(w["cagrad"] - w["mean"])
    exactly(gap, 0.5 * geometry.step_norm(w["mean"]), rtol=1e-3, atol=0.0)
    worst = {rule: (geometry.rates(w[rule])).amin(1) for rule in ("mean", "cagrad")}
    assert (worst["cagrad"] > worst["mean"]).all()
    # Aligned-MTL: the step of orthogonal gradients of one length.
    orthogonal = torch.eye(3, dtype=torch.float64) * 4.0
    exactly(aggregate(orthogonal, "aligned-mtl"), torch.full((3,), 1 / 3, dtype=torch.float64))


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


@pytest.mark.parametrize("rule", NAMES)
def test_gradients_of_zero_get_weights_all_the_same(rule):
    assert aggregate(torch.zeros(2, 2), rule).isfinite().all()
    assert aggregate(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), rule).isfinite().all()
