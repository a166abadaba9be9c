"""The theorems on the flow and the tilted policy, what a margin leaves open, and the page of proofs.

On that page every theorem and observation of the book has a row, and the tests that it names exist.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st

from entanglement.geometry import PairGeometry
from entanglement.loglinear import LogLinear, random_log_linear, suffix_pairs
from entanglement.losses import PairLogps, get_loss, list_losses, loss_spec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "proofs.md").read_text(encoding="utf-8")
ROWS = re.findall(
    r"^\| \{(?:prf:)?ref\}`((?:thm|obs|prf)-[a-z-]+)` \| `(test_\w+\.py)` \| `(test_\w+)`", PAGE, re.MULTILINE
)


def weights(time: float) -> tuple[float, float]:
    """d_w and d_l that vary along the way."""
    return 1.0 + 0.5 * time, 0.4 + time


def rates(pairs: LogLinear, time: float) -> tuple[torch.Tensor, torch.Tensor]:
    return pairs.geometry().rates(*weights(time))


def follow(pairs: LogLinear, until: float, steps: int) -> tuple[LogLinear, torch.Tensor, torch.Tensor]:
    """Follow the flow with Runge–Kutta steps; returns where it ends, and the rates' integrals (Simpson)."""
    h = until / steps
    total_w, total_l = torch.zeros(len(pairs)).double(), torch.zeros(len(pairs)).double()
    for i in range(steps):
        t = i * h
        k1 = pairs.direction(*weights(t))
        middle = pairs.apply(h / 2 * k1)
        k2 = middle.direction(*weights(t + h / 2))
        k3 = pairs.apply(h / 2 * k2).direction(*weights(t + h / 2))
        k4 = pairs.apply(h * k3).direction(*weights(t + h))
        after = pairs.apply(h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        halfway = pairs.apply(h / 24 * (5 * k1 + 4 * k2 + 4 * k3 - k4))  # third order, enough inside Simpson
        ends = [rates(pairs, t), rates(halfway, t + h / 2), rates(after, t + h)]
        total_w += h / 6 * (ends[0][0] + 4 * ends[1][0] + ends[2][0])
        total_l += h / 6 * (ends[0][1] + 4 * ends[1][1] + ends[2][1])
        pairs = after
    return pairs, total_w, total_l


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), similarity=st.sampled_from([0.0, 0.5, 0.9]))
def test_thm_flow_the_flow_changes_f_by_the_integral_of_its_rate(seed, similarity):
    generator = torch.Generator().manual_seed(seed)
    pairs = random_log_linear(8, 3, 4, vocab=8, dim=4, similarity=similarity, generator=generator)
    end, integral_w, integral_l = follow(pairs, until=0.2, steps=10)
    for after, before, integral in zip(end.logps(), pairs.logps(), (integral_w, integral_l), strict=True):
        torch.testing.assert_close(after - before, integral, rtol=1e-4, atol=1e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), beta=st.sampled_from([0.1, 1.0, 5.0]))
def test_thm_tilt_the_tilted_policy_is_the_best(seed, beta):
    draw = torch.Generator().manual_seed(seed)
    reward = torch.randn(6, generator=draw, dtype=torch.float64)
    reference = torch.randn(6, generator=draw, dtype=torch.float64).softmax(0)
    weights = reference * (reward / beta).exp()
    tilted = weights / weights.sum()

    def objective(policy):
        return policy @ reward - beta * (policy * (policy / reference).log()).sum(-1)

    others = torch.randn(200, 6, generator=draw, dtype=torch.float64).mul(2).softmax(-1)
    gap = objective(tilted) - torch.stack([objective(other) for other in others])
    divergence = (others * (others / tilted).log()).sum(-1)
    torch.testing.assert_close(gap, beta * divergence, rtol=1e-9, atol=1e-12)
    assert bool((gap > 0).all())
    torch.testing.assert_close(objective(tilted), beta * weights.sum().log())


@pytest.mark.parametrize("outside", [False, True], ids=["in the band", "out of it"])
def test_thm_flow_the_band_decides_the_signs(outside):
    generator = torch.Generator().manual_seed(0)
    strength = 1.25 if outside else 1.0  # a longer rejected suffix lowers the chosen one
    pairs = suffix_pairs(40, 24, relation="scaled", strength=strength, vocab=12, dim=8, generator=generator)
    in_band = torch.ones(len(pairs), dtype=torch.bool)
    chosen_falls = torch.ones(len(pairs), dtype=torch.bool)
    now = pairs
    for _ in range(5):
        up, down = now.geometry().rates()
        in_band &= (up >= 0) & (down <= 0)
        chosen_falls &= up < 0
        now = now.apply(1e-5 * now.direction())
    change_w, change_l = (a - b for a, b in zip(now.logps(), pairs.logps(), strict=True))
    assert (chosen_falls if outside else in_band).sum() >= 30
    assert (change_w[in_band] > 0).all()
    assert (change_l[in_band] < 0).all()
    assert (change_w[chosen_falls] < 0).all()


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), plain=st.booleans())
def test_thm_held_out_a_response_turns_where_the_means_say(seed, plain):
    """Quadratic responses f_i(θ) = ⟨g_i, θ⟩ + ½θᵀHθ, stepped on for real; (i), (ii) and the single pair."""
    draw = torch.Generator().manual_seed(seed)
    g_w, g_l = torch.randn(2, 5, 4, generator=draw, dtype=torch.float64)
    d_w, d_l = torch.rand(2, 5, 1, generator=draw, dtype=torch.float64) + 0.1
    metric = torch.ones(4) if plain else torch.rand(4, generator=draw, dtype=torch.float64) + 0.1
    g, bend = torch.randn(4, generator=draw, dtype=torch.float64), torch.randn(4, 4, generator=draw).double()
    mean_w, mean_l = (d_w * g_w).mean(0), (d_l * g_l).mean(0)

    def change(ratio, eta=1e-6):
        step = eta * metric * (ratio**0.5 * mean_w - mean_l / ratio**0.5)
        return float(g @ step + 0.5 * step @ bend @ step) / eta

    parts = (d_w * g_w - d_l * g_l) @ (metric * g)
    assert change(1.0) == pytest.approx(float(parts.mean()), abs=1e-4)
    up, down = float(g @ (metric * mean_w)), float(g @ (metric * mean_l))
    if up > 0.05 and down > 0.05:
        turn = down / up
        assert change(turn * 1.01) > 0 > change(turn / 1.01)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_thm_held_out_one_pair_has_its_band(seed):
    draw = torch.Generator().manual_seed(seed)
    g_w = torch.randn(4, generator=draw, dtype=torch.float64)
    g_l = g_w + torch.randn(4, generator=draw, dtype=torch.float64)
    low, high = (float(end) for end in PairGeometry.from_vectors(g_w, g_l).band)
    for g, turn in ((g_w, low), (g_l, high)):
        up, down = float(g @ g_w), float(g @ g_l)
        if up > 0 and down > 0:
            assert down / up == pytest.approx(turn)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_thm_held_out_condition_1_of_a_pair_says_nothing_of_it(seed):
    draw = torch.Generator().manual_seed(seed)
    g_w, d = torch.randn(4, generator=draw, dtype=torch.float64), torch.rand(2, generator=draw).double() + 0.1
    other = PairGeometry.from_vectors(-g_w, g_w)
    assert bool(other.condition)
    step = d[0] * -g_w - d[1] * g_w
    assert float(g_w @ step) == pytest.approx(-float(d.sum() * g_w @ g_w))
    assert float(g_w @ step) < 0


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), added=st.floats(-3, 3))
def test_obs_diagonal_a_loss_of_the_margin_is_flat_along_it(seed, added):
    generator = torch.Generator().manual_seed(seed)
    f_w, f_l, ref_w, ref_l = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    strict = [name for name in list_losses() if loss_spec(name).form == "strict"]
    assert "dpo" in strict and "dpo_shift" not in strict
    for name in strict:
        if loss_spec(name).needs_lengths:
            continue  # a margin of means is flat along another line
        loss = get_loss(name)
        here, moved = (PairLogps(f_w + t, f_l + t, ref_w, ref_l) for t in (0.0, added))
        torch.testing.assert_close(loss(moved), loss(here), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(*loss.weights(here), atol=1e-9, rtol=1e-9)
    shifted = get_loss("dpo_shift")  # its ratio is not 1, so it is not flat
    up, down = shifted.weights(PairLogps(f_w, f_l, ref_w, ref_l))
    assert bool((up > down).all())


def stated() -> set[str]:
    """The labels of all theorems and observations that the book's pages state."""
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    texts = [page.read_text("utf-8") for page in pages]
    return {label for text in texts for label in re.findall(r":label: ((?:thm|obs)-[a-z-]+)", text)}


def test_every_theorem_has_a_row():
    rows = [row[0] for row in ROWS]
    assert len(rows) == len(set(rows)) and set(rows) - {"prf-rules"} == stated()  # the rules are a table


@pytest.mark.parametrize(("label", "file", "prefix"), ROWS, ids=[row[0] for row in ROWS])
def test_the_tests_that_the_page_names_exist(label, file, prefix):
    (path,) = (ROOT / "tests").rglob(file)
    names = re.findall(rf"^def ({prefix}_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert names, f"{label}: no test in {file} begins with {prefix}"
    assert prefix.startswith(f"test_{label.replace('-', '_')}")
