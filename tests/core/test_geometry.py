"""The arithmetic of a², b², c against explicit vectors, where a step is a step and nothing is a formula."""

import math

import pytest
import torch
from hypothesis import assume, given, strategies as st
from hypothesis.extra import numpy as hnp

from entanglement.geometry import CASES, PairGeometry

# A square below the smallest float64 is 0: lengths below 1e-150 are no lengths to this arithmetic.
finite = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-150)
vectors = hnp.arrays("float64", (2, 3), elements=finite)
positive = st.floats(0.01, 100)
any_weight = st.floats(-5, 5).filter(lambda x: x == 0 or abs(x) > 1e-3)


def geometry(g):
    return PairGeometry.from_vectors(g[0].tolist(), g[1].tolist())


def step(g, d_w, d_l):
    """How the linear functions ⟨g_w, θ⟩ and ⟨g_l, θ⟩ move when θ moves by d_w g_w − d_l g_l: no a², b², c."""
    move = d_w * g[0] - d_l * g[1]
    scale = abs(d_w * g[0]).sum() + abs(d_l * g[1]).sum()
    return float(g[0] @ move), float(g[1] @ move), 1e-12 * scale * (abs(g).sum() + 1e-30)


def case_of(chosen, rejected):
    if chosen < 0:
        return "reversed" if rejected > 0 else "both_down"
    return "both_up" if rejected > 0 else "ideal"


@given(g=vectors, d_w=any_weight, d_l=any_weight)
def test_predicted_change_and_case_are_those_of_a_step(g, d_w, d_l):
    chosen, rejected, noise = step(g, d_w, d_l)
    pair = geometry(g)
    predicted = [float(x) for x in pair.predicted_change(0.5, d_w, d_l)]
    assert predicted[0] == pytest.approx(0.5 * chosen, abs=noise)
    assert predicted[1] == pytest.approx(0.5 * rejected, abs=noise)
    assert float(pair.margin_change(0.5, d_w, d_l)) == pytest.approx(0.5 * (chosen - rejected), abs=2 * noise)
    assume(abs(chosen) > noise and abs(rejected) > noise)  # a near tie has no sign to compare
    assert pair.case(d_w, d_l) == [case_of(chosen, rejected)]


@pytest.mark.parametrize(
    ("g_w", "g_l", "d_w", "d_l", "expected"),
    [
        ((1, 0), (0, 1), 1, 1, "ideal"),
        ((1, 0), (-1, 0), 1, 1, "ideal"),
        ((1, 0), (2, 0), 1, 1, "both_down"),
        ((2, 0), (1, 0), 1, 1, "both_up"),
        ((1, 0), (0, 1), -1, -1, "reversed"),
        ((1, 0), (0, 1), -1, 1, "both_down"),
        ((1, 0), (0, 1), 1, -1, "both_up"),
        ((1, 0), (1, 1), 1, 1, "ideal"),  # a tie: chosen stands still, rejected falls
        ((1, 1), (1, 0), 1, 1, "ideal"),  # a tie: chosen rises, rejected stands still
        ((1, 0), (1, 1), 0.1, 0.1, "ideal"),
        ((3, 0), (3, 0), 0.3, 0.3, "ideal"),  # nothing moves
        ((0, 0), (1, 0), 1, 1, "ideal"),
        ((1, 0), (0, 0), 1, 1, "ideal"),
        ((0, 0), (0, 0), 1, 1, "ideal"),
        ((0, 0), (1, 0), 1, -1, "both_up"),
        ((1, 0), (0, 0), -1, 1, "both_down"),
        ((1, 0), (1, 0), 0, 1, "both_down"),
        ((1, 0), (1, 0), 1, 0, "both_up"),
        ((1, 0), (1, 0), 0, 0, "ideal"),
    ],
)
def test_cases_one_by_one(g_w, g_l, d_w, d_l, expected):
    pair = PairGeometry.from_vectors([float(x) for x in g_w], [float(x) for x in g_l])
    assert pair.case(d_w, d_l) == [expected]
    shares = pair.case_shares(d_w, d_l)
    assert shares[expected] == 1.0 and sum(shares.values()) == 1.0 and tuple(shares) == CASES


@given(g=vectors, d_w=positive, d_l=positive)
def test_thm_no_fourth_reversed_needs_a_negative_weight(g, d_w, d_l):
    pair = geometry(g)
    case = pair.case(d_w, d_l)[0]
    assert case != "reversed"
    a, b = math.sqrt(pair.chosen_sq), math.sqrt(pair.rejected_sq)
    if case == "both_down":
        assert d_l * b > d_w * a
    if case == "both_up":
        assert d_w * a > d_l * b


@given(d_w=positive, d_l=positive, length=st.floats(0.1, 10), stretch=st.floats(0.1, 10))
def test_thm_no_fourth_survives_rounding_for_parallel_gradients(d_w, d_l, length, stretch):
    g_w = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64) * length
    pair = PairGeometry.from_vectors(g_w, g_w * stretch)
    assert pair.case(d_w, d_l)[0] != "reversed"
    # At exactly r = b/a the parallel pair stands still on both sides.
    assert pair.case(stretch, 1.0) == ["ideal"]
    assert pair.case(stretch * 1.001, 1.0) == ["both_up"]
    assert pair.case(stretch * 0.999, 1.0) == ["both_down"]


@given(g=vectors, r=positive)
def test_thm_band_the_band_is_where_the_case_is_ideal(g, r):
    pair = geometry(g)
    low, high = (float(x) for x in pair.band)
    assert low <= high
    for end in (low, high):
        assume(end == 0 or not math.isfinite(end) or abs(r / end - 1) > 1e-9)
    assert (low <= r <= high) == (pair.case(r, 1.0) == ["ideal"])
    if float(pair.inner) <= 0:
        assert (low, high) == (0.0, math.inf)
    else:
        rho, ratio = float(pair.cosine), float(pair.norm_ratio)
        assert low == pytest.approx(rho * ratio, rel=1e-6)
        assert high == pytest.approx(ratio / rho, rel=1e-6)
        assert math.sqrt(low * high) == pytest.approx(ratio, rel=1e-6)


@given(g=vectors, d_w=positive, d_l=positive)
def test_thm_band_iv_margin(g, d_w, d_l):
    pair = geometry(g)
    change = float(pair.margin_change(1.0, d_w, d_l))
    scale = 1e-12 * (d_w + d_l) * float(pair.chosen_sq + pair.rejected_sq)
    same = float(pair.margin_change(1.0, d_w, d_w))
    assert same == pytest.approx(d_w * float(pair.distance_sq), abs=1e-12 + 10 * scale)
    r = d_w / d_l
    if not float(pair.cosine) > 2 * math.sqrt(r) / (1 + r):
        assert change >= -scale


def test_thm_band_iv_the_margin_can_shrink():
    pair = PairGeometry.from_vectors([1.0, 0.0], [1.5, 0.05])
    assert float(pair.margin_change(1.0, 1.0, 0.05)) == pytest.approx(-0.46, abs=0.01)


@given(g=vectors)
def test_thm_norms_condition_1_three_ways(g):
    pair = geometry(g)
    a2, b2, c = (float(x) for x in (pair.chosen_sq, pair.rejected_sq, pair.inner))
    gap_w, gap_l = 2 * (a2 - c), 2 * (b2 - c)
    assert gap_w == pytest.approx(float(pair.distance_sq) + (a2 - b2), abs=1e-9)
    assert gap_l == pytest.approx(float(pair.distance_sq) - (a2 - b2), abs=1e-9)
    assume(min(abs(gap_w), abs(gap_l)) > 1e-6 * (a2 + b2))
    expected = c <= min(a2, b2)
    assert bool(pair.condition) == expected
    assert (abs(a2 - b2) <= float(pair.distance_sq)) == expected
    assert (pair.case() == ["ideal"]) == expected
    if a2 > 0 and b2 > 0:
        assert (float(pair.condition_ratio) <= 1) == expected
        assert (float(pair.cosine) <= min(math.sqrt(a2 / b2), math.sqrt(b2 / a2))) == expected
        assert float(pair.condition_ratio) == pytest.approx(c / min(a2, b2))
        assert float(pair.authors_ratio) == pytest.approx(c / a2)


def test_the_authors_ratio_misses_rejected_rises():
    falls = PairGeometry.from_vectors([1.0, 0.0], [2.0, 0.0])
    rises = PairGeometry.from_vectors([2.0, 0.0], [1.0, 0.0])
    assert (
        falls.case() == ["both_down"]
        and float(falls.authors_ratio) == 2.0
        and float(falls.condition_ratio) == 2.0
    )
    assert (
        rises.case() == ["both_up"]
        and float(rises.authors_ratio) == 0.5
        and float(rises.condition_ratio) == 2.0
    )


def test_zero_gradients():
    pair = PairGeometry([0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0])
    assert bool(pair.cosine.isnan().all())
    assert pair.norm_ratio[0] == math.inf and pair.norm_ratio[1] == 0.0 and math.isnan(pair.norm_ratio[2])
    low, high = pair.band
    assert low.tolist() == [0.0] * 3 and high.tolist() == [math.inf] * 3
    assert bool(pair.condition.all())
    chosen, rejected = pair.predicted_change(1.0)
    assert chosen.tolist() == [0.0, 1.0, 0.0] and rejected.tolist() == [-1.0, 0.0, 0.0]


def test_parallel_gradients_have_a_one_point_band():
    pair = PairGeometry.from_vectors([0.1, 0.3], [0.3, 0.9])
    low, high = (float(x) for x in pair.band)
    assert float(pair.cosine) == pytest.approx(1.0, abs=1e-15)
    assert low == pytest.approx(3.0) and high == pytest.approx(3.0) and low <= high


def test_weights_may_differ_by_pair():
    pair = PairGeometry([1.0, 1.0], [4.0, 4.0], [2.0, 2.0])
    assert pair.case(torch.tensor([1.0, 3.0]), 1.0) == ["both_down", "both_up"]
    with pytest.raises(ValueError, match=r"d_w has shape \(3,\); expected one number or \(2,\)"):
        pair.case(torch.ones(3))
    with pytest.raises(ValueError, match="d_l has a value that is not finite"):
        pair.case(1.0, math.nan)
    for lr in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="lr="):
            pair.predicted_change(lr)


def test_float32_input_is_float64_inside():
    pair = PairGeometry(torch.ones(1), torch.ones(1), torch.zeros(1))
    assert pair.chosen_sq.dtype == pair.cosine.dtype == torch.float64
    assert len(PairGeometry(1.0, 2.0, 0.5)) == 1


def test_bad_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match="expected three of the same shape"):
        PairGeometry([1.0, 1.0], [1.0], [0.0])
    with pytest.raises(ValueError, match=r"chosen_sq of second is -1\.0"):
        PairGeometry([1.0, -1.0], [1.0, 1.0], [0.0, 0.0], ("first", "second"))
    with pytest.raises(ValueError, match="inner of pair 0 is nan"):
        PairGeometry([1.0], [1.0], [math.nan])
    with pytest.raises(ValueError, match="rejected_sq of pair 0 is inf"):
        PairGeometry([1.0], [math.inf], [0.0])
    for sign in (1, -1):
        with pytest.raises(ValueError, match=r"inner of pair 1 is .*Cauchy"):
            PairGeometry([1.0, 1.0], [4.0, 4.0], [2.0, sign * 2.1])
        rounded = PairGeometry([1.0], [4.0], [sign * 2.0001])
        assert float(rounded.inner) == sign * 2.0 and float(rounded.cosine) == sign
    with pytest.raises(ValueError, match="1 ids for 2 pairs"):
        PairGeometry([1.0, 1.0], [1.0, 1.0], [0.0, 0.0], ("first",))
    with pytest.raises(ValueError, match="from_vectors"):
        PairGeometry.from_vectors([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="no parts"):
        PairGeometry.cat([])


def test_cat_and_select():
    one = PairGeometry([1.0], [2.0], [0.5], ("p",))
    two = PairGeometry([3.0, 4.0], [5.0, 6.0], [0.1, 0.2], ("q", "r"))
    both = PairGeometry.cat([one, two])
    assert both.ids == ("p", "q", "r") and both.rejected_sq.tolist() == [2.0, 5.0, 6.0]
    assert both.select([2, 0]).ids == ("r", "p")
    assert both.select(torch.tensor([True, False, True])).inner.tolist() == [0.5, 0.2]
    assert both.select(1).chosen_sq.tolist() == [3.0]
    nameless = PairGeometry([1.0], [2.0], [0.5])
    assert PairGeometry.cat([one, nameless]).ids == PairGeometry.cat([nameless, one]).ids == ()
    assert set(PairGeometry([], [], []).case_shares().values()) == {0.0}
