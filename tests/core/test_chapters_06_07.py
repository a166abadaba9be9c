"""One token and a shared suffix: weighted steps, the suffix study, figures that state geometry."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from matplotlib.collections import PathCollection

from entanglement.loglinear import (
    OneToken,
    PositionTabular,
    PrefixTabular,
    TrainableOneToken,
    random_one_token,
    random_trainable,
    simplex_grid,
    suffix_pairs,
)
from entanglement_book.studies.ch06_one_token import figures as triangles
from entanglement_book.studies.ch07_suffix import figures, numbers as tell, study as studies
from entanglement_book.studies.ch07_suffix.rivals import (
    exchange_suffixes,
    exponent_interval,
    growth_study,
    other_words,
)
from entanglement_book.studies.ch07_suffix.study import (
    measure,
    one_shared_token,
    parting_responses,
    share_table,
    suffix_study,
    table_geometry,
    tabular_study,
    without_crosstalk,
)

VARIANTS = {"identical": ("identical", 1.0), "longer": ("scaled", 1.25), "shorter": ("scaled", 0.8)}
LENGTHS = (0, 2, 8, 32)


def rng(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def study():
    return suffix_study(VARIANTS, LENGTHS, 40, seed=3)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# --- one token ----------------------------------------------------------------------------------------------


def test_one_token_step_takes_a_weight_for_each_instance():
    pairs = random_one_token(4, 6, scale=1.0, generator=rng(0))
    d_w, d_l = torch.tensor([0.1, 2.0, 1.0, 0.0]), torch.tensor([1.0, 0.5, 1.0, 3.0])
    together = pairs.step(0.3, d_w, d_l).logits
    for i in range(4):
        one = OneToken(pairs.logits[i : i + 1], pairs.chosen[i : i + 1], pairs.rejected[i : i + 1])
        torch.testing.assert_close(one.step(0.3, float(d_w[i]), float(d_l[i])).logits[0], together[i])


def test_trainable_direction_is_the_gradient_of_the_weighted_margin():
    pairs = random_trainable(20, generator=rng(1))
    weight, features = (x.clone().requires_grad_() for x in (pairs.weight, pairs.features))
    logp = torch.einsum("nvd,nd->nv", weight, features).log_softmax(-1)
    rows = torch.arange(20)
    (0.7 * logp[rows, pairs.chosen] - 1.3 * logp[rows, pairs.rejected]).sum().backward()
    by_weight, by_features = pairs.direction(0.7, 1.3)
    torch.testing.assert_close(by_weight, weight.grad)
    torch.testing.assert_close(by_features, features.grad)
    along, step = pairs.change_along(0.1 * by_weight, 0.1 * by_features), pairs.change(0.1, 0.7, 1.3)
    torch.testing.assert_close(along, step)


def test_a_sign_step_is_harmless_with_frozen_features_and_not_with_trained_ones():
    pairs = random_trainable(20_000, generator=rng(2))
    by_weight, by_features = pairs.direction()
    up, down = pairs.change_along(0.1 * by_weight.sign(), 0.0)
    assert bool(((up > 0) & (down < 0)).all())
    up, down = pairs.change_along(1e-4 * by_weight.sign(), 1e-4 * by_features.sign())
    fails = (up < 0) | (down > 0)
    assert int((fails & pairs.geometry().condition).sum()) > 20


def test_any_positive_rescaling_of_the_coordinates_is_harmless_with_frozen_features():
    # The remark at the end of that chapter: only rows w and l have a gradient, whatever the scales.
    pairs = random_trainable(500, generator=rng(5))
    by_weight, _ = pairs.direction()
    scales = torch.rand(by_weight.shape, generator=rng(6), dtype=torch.float64) + 0.01
    up, down = pairs.change_along(3.0 * scales * by_weight, 0.0)
    assert bool(((up > 0) & (down < 0)).all())


def test_map_of_c_agrees_with_the_model():
    probs = simplex_grid(20)
    c = OneToken.from_probs(probs, 0, 1).geometry().inner.numpy()
    np.testing.assert_allclose(triangles.inner_on(probs.numpy() @ triangles.REGULAR), c, atol=1e-12)


@given(seed=st.integers(0, 10_000))
def test_triangle_with_trained_features_carries_the_geometry(seed):
    pair = random_trainable(1, vocab=3, dim=4, generator=rng(seed))
    corners = triangles.trainable_corners(pair)
    chosen, rejected = int(pair.chosen[0]), int(pair.rejected[0])
    p = pair.frozen().probs[0, [chosen, rejected, 3 - chosen - rejected]].numpy() @ corners
    g, to_w, to_l = pair.geometry(), corners[0] - p, corners[1] - p
    drawn = [to_w @ to_w, to_l @ to_l, to_w @ to_l]
    meant = [float(g.chosen_sq), float(g.rejected_sq), float(g.inner)]
    np.testing.assert_allclose(drawn, meant, rtol=1e-9, atol=1e-9)
    # Chosen falls exactly where p lies beyond the perpendicular at the chosen corner: to its left.
    assert (p[0] < 0) == (float(g.chosen_sq - g.inner) < 0)


def test_trainable_corners_refuses_more_tokens():
    with pytest.raises(ValueError, match=r"weight is \(1, 4, 2\)"):
        triangles.trainable_corners(random_trainable(1, vocab=4, dim=2, generator=rng(0)))


def test_figures_of_chapter_06_draw():
    pair = TrainableOneToken.counterexample()
    paths = [torch.tensor([[0.1, 0.2, 0.7], [0.2, 0.1, 0.7], [0.4, 0.05, 0.55]])]
    assert len(triangles.sign_map(None, paths).lines) >= 3
    assert triangles.arrows(None, [0.05, 0.05, 0.9]).get_title(loc="center").endswith("65°")
    assert triangles.falling_region(None, triangles.trainable_corners(pair), [0.2, 0.2, 0.6]).texts
    assert triangles.any_step(None, [1e-3, 1.0, 1e3], [0.1, 0.2, 0.3], [-0.1, -1, -5], [[0, 0]] * 3).texts
    assert triangles.cloud(None, random_one_token(50, 4, generator=rng(1)).geometry()).collections


# --- a shared suffix ----------------------------------------------------------------------------------------


@given(t=st.floats(0, 6), t_rejected=st.floats(0, 6))
def test_smallest_pair_with_a_suffix(t, t_rejected):
    geometry = one_shared_token(t, t_rejected).geometry()
    gap = float(geometry.chosen_sq - geometry.inner)
    assert gap == pytest.approx(1 + t * (t - t_rejected) / 2, abs=1e-9)
    assert float(geometry.inner) == pytest.approx((t * t_rejected - 1) / 2, abs=1e-9)


def test_terms_add_up_and_the_study_is_tidy(study):
    gap = study.a2 - study.c
    np.testing.assert_allclose(study.token + study.cross_talk + study.asymmetry, gap, rtol=1e-8, atol=1e-6)
    assert list(study.groupby(["variant", "n"]).size().unique()) == [40]
    np.testing.assert_allclose(study.ratio, np.sqrt(study.b2 / study.a2))
    assert list(study.case) == table_geometry(study).case()


def test_variants_share_their_random_numbers(study):
    without = study[study.n == 0].set_index(["variant", "draw"]).c.unstack("variant")
    np.testing.assert_array_equal(without["identical"], without["longer"])
    np.testing.assert_array_equal(without["identical"], without["shorter"])
    long = study[study.n == 32].set_index(["variant", "draw"]).c.unstack("variant")
    assert (long["longer"] > long["identical"]).mean() > 0.9  # not all: the shared words are drawn anew


TURNS = {"identical": "ideal", "longer": "both_down", "shorter": "both_up"}


@pytest.mark.parametrize(("variant", "case"), TURNS.items())
def test_thm_suffix_signs_which_sign_turns(study, variant, case):
    rows = study[(study.variant == variant) & (study.n == 32)]
    assert (rows.case == case).all()
    falls, rises = rows.exact_w < 0, rows.exact_l > 0
    assert (falls == (case == "both_down")).all()
    assert (rises == (case == "both_up")).all()


def test_the_exact_step_has_the_asked_margin(study):
    np.testing.assert_allclose(study.first_w - study.first_l, 0.01, rtol=1e-9)
    assert (study.exact_w <= study.first_w).all()  # log π is concave in W
    assert (study.first_w - study.exact_w).max() < 1e-4


def test_equal_positions_make_c_grow_and_orthogonal_states_take_them_away(study):
    rows = study[(study.variant == "identical") & (study.n == 32)]
    assert rows.same_position.mean() == pytest.approx(rows.c.mean(), rel=0.05)
    orthogonal = measure(suffix_pairs(20, 16, relation="orthogonal", generator=rng(0)))
    np.testing.assert_allclose(orthogonal.same_position, 0, atol=1e-9)


def test_measuring_in_groups_changes_nothing(monkeypatch):
    pairs = suffix_pairs(7, 5, relation="scaled", strength=1.25, generator=rng(8))
    whole = measure(pairs)
    monkeypatch.setattr(studies, "POSITIONS", 13)  # two pairs of six positions at a time
    pd.testing.assert_frame_equal(measure(pairs), whole, rtol=1e-10)


def test_crosstalk_is_a_random_walk_of_the_stated_variance():
    table = measure(suffix_pairs(600, 64, generator=rng(4)))
    assert table.cross_talk.std() == pytest.approx(table.cross_talk_variance.mean() ** 0.5, rel=0.12)
    assert abs(table.cross_talk.mean()) < 4 * table.cross_talk.std() / 600**0.5


def test_without_crosstalk_a_shared_suffix_cannot_turn_a_sign():
    pairs = suffix_pairs(30, 1500, generator=rng(7))
    assert set(measure(pairs).case) != {"ideal"}
    still = measure(without_crosstalk(pairs))
    np.testing.assert_allclose(still.cross_talk, 0, atol=1e-9)
    assert set(still.case) == {"ideal"}
    assert (still.cosine > 0.99).all()


@given(seed=st.integers(0, 10_000), n_w=st.integers(1, 7), n_l=st.integers(1, 7))
def test_parting_responses_part_once_and_never_violate(seed, n_w, n_l):
    chosen, rejected = parting_responses(30, n_w, n_l, vocab=4, generator=rng(seed))
    assert chosen.shape == (30, n_w)
    assert rejected.shape == (30, n_l)
    assert int(chosen.max()) < 4
    pairs = PrefixTabular.build(chosen, rejected, 4, scale=2.0, generator=rng(seed))  # refuses a prefix pair
    assert bool(pairs.geometry().condition.all())


def test_tabular_study_is_ideal_and_its_cosine_climbs():
    table = tabular_study((0, 4, 32), 60, seed=1)
    assert set(table.case) == {"ideal"}
    climbing = table.groupby(["model", "n"]).cosine.mean().unstack("n")
    assert (climbing[0] < climbing[4]).all()
    assert (climbing[4] < climbing[32]).all()
    assert (climbing[32] > 0.9).all()
    # A model with logits for every position has one differing block: ‖g_w − g_l‖² = 2.
    rows = table[table.model == "position"]
    np.testing.assert_allclose(rows.a2 + rows.b2 - 2 * rows.c, 2, rtol=1e-9)
    assert PositionTabular is not PrefixTabular


def test_share_table_counts_with_intervals(study):
    text = share_table(study, {"falls": ("longer", "both_down"), "rises": ("longer", "both_up")}, (0, 32))
    assert text.loc["falls", "n = 32"] == "1.00\u00a0(0.91\u2060–\u20601.00)"
    assert text.loc["rises", "n = 32"] == "0.00\u00a0(0.00\u2060–\u20600.09)"
    assert text.loc["falls", "n = 0"] == text.loc["rises", "n = 32"]
    either = share_table(study, {"either": ("shorter", "violated")}, (32,))
    assert either.loc["either", "n = 32"] == text.loc["falls", "n = 32"]


@pytest.fixture(scope="module")
def grown():
    return growth_study((2, 32, 512, 1024), 20, seed=1)


def test_shared_words_make_c_grow_and_other_words_in_the_same_states_do_not(grown):
    same, late = (exponent_interval(grown, "identical", least) for least in (2, 512))
    assert 0.95 < same.low < same.value < same.high < 1.05
    assert late.high < 1.1
    share = tell.of_growth(grown.assign(n=grown["n"].replace(32, 128)))["other_words"]
    assert share.low < 0 < share.high and max(abs(share.low), share.high) < 0.05


def test_orthogonal_states_grow_by_the_square_and_the_mean_gradients_make_it(grown):
    found = exponent_interval(grown, "orthogonal", 512)
    assert 1.6 < found.low < found.high < 2.3
    rows = grown[(grown["variant"] == "orthogonal") & (grown["n"] == 1024)]
    assert rows["drift"].mean() == pytest.approx(rows["c"].mean(), rel=0.1)
    same = grown[grown["variant"] == "identical"]
    np.testing.assert_allclose(same["drift"], 0, atol=1e-9)  # the words are the model's own
    with pytest.raises(ValueError, match="is not positive"):
        exponent_interval(grown.assign(c=-grown["c"]), "identical", 2)


def test_other_words_change_the_rejected_suffix_only():
    pairs = suffix_pairs(6, 20, generator=rng(3))
    other = other_words(pairs, rng(4))
    assert torch.equal(other.chosen, pairs.chosen) and torch.equal(other.rejected[:, 0], pairs.rejected[:, 0])
    assert (other.rejected[:, 1:] != pairs.rejected[:, 1:]).double().mean() > 0.5
    assert torch.equal(other.rejected_features, pairs.rejected_features)


def test_a_coin_makes_a_mean_that_helps_and_pairs_that_turn():
    pairs = suffix_pairs(60, 64, relation="scaled", strength=1.25, generator=rng(5))
    heads = torch.arange(60) % 2 == 1
    table = measure(exchange_suffixes(pairs, heads))
    assert (table.case[heads.numpy()] == "both_up").all() and (
        table.case[~heads.numpy()] == "both_down"
    ).all()
    # Exchanged pairs have the same ‖S_w − S_l‖², and the two asymmetry terms of a draw add up to it.
    there, back = (measure(exchange_suffixes(pairs, which)) for which in (heads, ~heads))
    np.testing.assert_allclose(there.suffix_distance_sq, back.suffix_distance_sq, rtol=1e-9)
    crossed = (there.asymmetry + back.asymmetry - there.suffix_distance_sq).abs()
    assert crossed.mean() < 0.2 * there.suffix_distance_sq.mean()  # but for the differing token's own block
    assert (there.asymmetry + back.asymmetry).mean() > 0


def test_study_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="draws=0"):
        suffix_study(VARIANTS, (2,), 0, seed=0)
    with pytest.raises(ValueError, match="lengths=\\[\\]"):
        suffix_study(VARIANTS, (), 5, seed=0)
    with pytest.raises(ValueError, match="vocab=1"):
        parting_responses(3, 2, 2, vocab=1)


def test_growth_is_drawn_on_logarithmic_axes(grown):
    ax = figures.growth(None, grown)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert len(ax.get_legend().get_texts()) == 5


def test_figures_of_chapter_07_draw(study):
    three = list(VARIANTS)
    assert figures.shares(None, study, {"falls": ("longer", "both_down")}).get_legend()
    low = figures.climb(None, study, three, LENGTHS, cosine_range=(0.8, 1.0)).collections
    heights = np.concatenate([made.get_offsets()[:, 1] for made in low if isinstance(made, PathCollection)])
    assert (heights > 0.8).all()  # pairs below an enlarged part are not piled up at its edge
    assert len(figures.collapse(None, study, three).lines) == 4
    assert len(figures.climb(None, study, three, LENGTHS).collections) > 3
    assert figures.scissors(None, one_shared_token(4, 5)).lines
    assert figures.tables(None, tabular_study((0, 2), 10, seed=0), "prefix").lines
    same = study[(study.variant == "identical") & (study.n > 0)]
    assert figures.crosstalk(None, pd.DataFrame(same)).containers
