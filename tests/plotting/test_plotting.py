"""The style, the plane and the charts: what is drawn, where, in which color, and the same on every run."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import colors, pyplot as plt, rc_context
from matplotlib.text import Text

from entanglement.geometry import CASES, PairGeometry
from entanglement_book import drawing
from entanglement_book.drawing.plane import _MARKERS
from entanglement_book.drawing.style import rc_parameters
from entanglement_book.press.check import LEAST, TELEPHONE
from entanglement_book.press.figure_colors import GROUNDS as PAGES, contrast
from entanglement_book.studies.ch03_entanglement import figures as first_order

GROUNDS = (*PAGES.values(), "#121212")  # and the theme's own dark


@pytest.fixture(autouse=True)
def style():
    with rc_context():
        drawing.use_style()
        yield
    plt.close("all")


PALETTE = {
    "chosen": drawing.CHOSEN,
    "rejected": drawing.REJECTED,
    "neutral": drawing.NEUTRAL,
    "accent": drawing.ACCENT,
    "ink": drawing.INK,
    **drawing.CASE_COLORS,
    **drawing.VARIANT_COLORS,
}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("name", PALETTE)
def test_every_color_is_readable_on_both_grounds(name, ground):
    assert contrast(PALETTE[name], ground) >= 3.0


@pytest.mark.parametrize("ground", GROUNDS)
def test_text_has_more_contrast_than_shapes_need(ground):
    assert contrast(drawing.INK, ground) >= 4.2


def as_seen_by(color, kind):
    """Viénot's 1999 reduction of linear RGB for red-blind ("protan") or green-blind ("deutan") eyes."""
    to_cone = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    cone = to_cone @ np.array([v**2.2 for v in colors.to_rgb(color)])
    if kind == "protan":
        cone[0] = 2.02344 * cone[1] - 2.52581 * cone[2]
    else:
        cone[1] = 0.494207 * cone[0] + 1.24827 * cone[2]
    return np.clip(np.linalg.solve(to_cone, cone), 0, 1) ** (1 / 2.2)


GROUPS = {
    "responses": [drawing.CHOSEN, drawing.REJECTED],
    "cases": [drawing.CASE_COLORS[case] for case in ("ideal", "both_down", "both_up")],
    "variants": list(drawing.VARIANT_COLORS.values()),
}


@pytest.mark.parametrize("kind", ["protan", "deutan"])
@pytest.mark.parametrize("group", GROUPS)
def test_colors_of_a_group_stay_apart_for_color_blind_eyes(group, kind):
    seen = [as_seen_by(color, kind) for color in GROUPS[group]]
    gaps = [np.linalg.norm(x - y) for i, x in enumerate(seen) for y in seen[:i]]
    assert min(gaps) > 0.15


def svg(draw):
    fig, ax = drawing.figure()
    draw(ax)
    out = io.StringIO()
    fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def pairs():
    vectors = torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return PairGeometry.from_vectors(vectors[0], 0.8 * vectors[0] + vectors[1])


def test_the_same_figure_is_the_same_svg():
    def draw(ax):
        drawing.scatter_pairs(drawing.plane(ax), pairs())

    first = svg(draw)
    assert first == svg(draw)
    assert "<text" not in first  # paths: the same on a machine with other fonts
    assert "2026" not in first and "dc:date" not in first


def test_figures_have_no_ground():
    fig, ax = drawing.figure()
    ax.plot([0, 1])
    fig.canvas.draw()
    assert fig.get_facecolor()[3] == 0 and ax.get_facecolor()[3] == 0
    assert rc_parameters()["savefig.transparent"] is True


def curve(ax, color):
    return next(line for line in ax.lines if colors.same_color(line.get_color(), color))


@pytest.mark.parametrize("r", [1.0, 0.5, 2.0])
def test_the_planes_lines_are_where_each_change_is_zero(r):
    ax = drawing.plane(r=r)
    for color, side in ((drawing.CHOSEN, 0), (drawing.REJECTED, 1)):
        ratio, cosine = curve(ax, color).get_data()
        pair = PairGeometry(
            torch.ones(len(ratio)),
            torch.as_tensor(ratio) ** 2,
            torch.as_tensor(cosine) * torch.as_tensor(ratio),
        )
        assert pair.rates(r, 1.0)[side].abs().max() < 1e-12
        above = PairGeometry(pair.chosen_sq, pair.rejected_sq, pair.inner * 0.99)
        wrong = {0: above.rates(r, 1.0)[0] < 0, 1: above.rates(r, 1.0)[1] > 0}[side]
        assert not wrong.any()  # the safe side is below the line
    assert curve(ax, drawing.CHOSEN).get_xdata().min() == r


@pytest.mark.parametrize("r", [1.0, 0.4])
def test_every_tint_of_the_plane_is_the_case_of_its_points(r):
    ax = drawing.plane(r=r)
    tints = {colors.to_hex(area.get_facecolor()[0]): area.get_paths() for area in ax.collections}
    generator = torch.Generator().manual_seed(0)
    ratio = 2 ** (4 * torch.rand(300, generator=generator, dtype=torch.float64) - 2)
    cosine = 1.2 * torch.rand(300, generator=generator, dtype=torch.float64) - 0.2
    cases = PairGeometry(torch.ones(300), ratio**2, cosine * ratio).case(r, 1.0)
    assert {"ideal", "both_down", "both_up"} == set(cases)
    for x, y, case in zip(ratio.tolist(), cosine.tolist(), cases, strict=True):
        near = min(abs(y - r / x), abs(y - x / r)) < 0.02
        inside = {color for color, paths in tints.items() if any(p.contains_point((x, y)) for p in paths)}
        assert near or inside == {drawing.CASE_COLORS[case]}


def test_the_plane_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"r=-1"):
        drawing.plane(r=-1.0)
    with pytest.raises(ValueError, match="ratio_range"):
        drawing.plane(ratio_range=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"r=0"):
        drawing.plane(r_band=(0.0, 1.0))
    with pytest.raises(ValueError, match="tent"):
        drawing.tent(drawing.plane(), math.inf)


def test_an_r_band_adds_the_tents_of_its_ends():
    ax = drawing.plane(r_band=(0.5, 0.8))
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    tops = sorted(float(line.get_xdata()[np.argmax(line.get_ydata())]) for line in dotted)
    assert tops == pytest.approx([0.5, 0.8])


def test_pairs_stand_where_their_geometry_says_and_wear_their_case():
    geometry = pairs()
    plane = drawing.plane(ratio_range=(1 / 16, 16), cosine_range=(-1.0, 1.0))
    groups = drawing.scatter_pairs(plane, geometry, d_w=1.0, d_l=1.0)
    drawn = np.concatenate([group.get_offsets().data for group in groups])
    expected = np.stack([geometry.norm_ratio, geometry.cosine], 1)
    assert np.allclose(drawn[np.lexsort(drawn.T)], expected[np.lexsort(expected.T)])
    present = [case for case in CASES if case in geometry.case()]
    assert [colors.to_hex(g.get_facecolor()[0]) for g in groups] == [drawing.CASE_COLORS[c] for c in present]
    assert len({_MARKERS[c] for c in CASES}) == len(CASES)  # told apart without color too


def test_a_pair_beyond_the_axes_is_hollow_at_their_edge():
    geometry = PairGeometry([1.0, 1.0, 1.0], [1.0, 1.0, 100.0], [0.5, -0.9, 1.0])
    inside, beyond = drawing.scatter_pairs(drawing.plane(), geometry)
    assert inside.get_offsets().data.tolist() == [[1.0, 0.5]]
    assert beyond.get_offsets().data.tolist() == [[1.0, -0.25], [4.0, pytest.approx(0.1)]]
    assert len(inside.get_facecolor()) == 1 and len(beyond.get_facecolor()) == 0
    assert not beyond.get_clip_on()


def test_a_pair_with_a_zero_gradient_has_no_place_on_the_plane():
    geometry = PairGeometry.from_vectors([[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]])
    groups = drawing.scatter_pairs(drawing.plane(), geometry)
    assert sum(len(g.get_offsets()) for g in groups) == 1


def test_a_line_keeps_its_color_in_the_band_and_survives_an_infinite_interval():
    _, ax = drawing.figure()
    drawing.line_with_band(ax, [0, 1], [1, 2], [0, -math.inf], [2, math.inf], drawing.REJECTED, "x")
    band = ax.collections[0]
    assert colors.same_color(band.get_facecolor()[0][:3], drawing.REJECTED)
    assert np.isfinite(band.get_paths()[0].vertices).all() if band.get_paths() else True
    assert np.isfinite(ax.get_ylim()).all()
    with pytest.raises(ValueError, match="one length"):
        drawing.line_with_band(ax, [0, 1], [1], [0], [2])


def test_a_forest_has_a_row_for_each_label_first_on_top():
    ax = drawing.forest(None, ["a", "b"], [(1.0, 0.5, 1.5), (2.0, -math.inf, math.inf)], reference=0.0)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = [
        tuple(map(float, (line.get_xdata()[0], line.get_ydata()[0])))
        for line in ax.lines
        if line.get_marker() == "o"
    ]
    assert dots == [(1.0, 0.0), (2.0, 1.0)]
    with pytest.raises(ValueError, match="1 labels, 2 intervals"):
        drawing.forest(None, ["a"], [(1, 0, 2), (1, 0, 2)])


def test_both_answers_of_every_way_are_marks_at_their_values_with_intervals():
    ways = {
        "two": ((0.5, 0.4, 0.7, 5), (-0.3, -0.6, -0.1, 5)),
        "one seed": ((0.2, -math.inf, math.inf, 1), (-1.0, -math.inf, math.inf, 1)),
        "none": "not reached",
    }
    names = {"none": drawing.NEUTRAL, "two": drawing.ACCENT, "one seed": drawing.INK, "not drawn": "red"}
    ax = drawing.two_answers(None, ways, names, fontsize=7)
    marks = {
        (line.get_marker(), line.get_color(), line.get_label(), *map(float, line.get_xydata()[0]))
        for line in ax.lines
        if len(line.get_xdata()) == 1
    }
    chosen, rejected = ("o", drawing.CHOSEN, "chosen"), ("s", drawing.REJECTED, "rejected")
    assert marks == {(*chosen, 0.5, 0), (*rejected, -0.3, 0), (*chosen, 0.2, 1), (*rejected, -1.0, 1)}
    bars = {line.get_color(): line.get_xydata().tolist() for line in ax.lines if line.get_label()[0] == "_"}
    assert bars.pop(drawing.INK) == [[0, 0], [0, 1]]  # the line at no change
    assert bars == {drawing.CHOSEN: [[0.4, 0], [0.7, 0]], drawing.REJECTED: [[-0.6, 0], [-0.1, 0]]}
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [("not reached", 2)]
    labels = [(label.get_text(), label.get_color(), label.get_size()) for label in ax.get_yticklabels()]
    assert labels == [(name, names[name], 7) for name in ways]
    assert ax.get_ylim() == (2.5, -0.5)  # the first way at the top
    with pytest.raises(ValueError, match=r"no color for \['none'\]"):
        drawing.two_answers(ax, ways, {"two": "red", "one seed": "red"})


def test_shares_of_cases_must_add_up():
    _, ax = drawing.figure()
    drawing.case_shares(ax, [0, 1, 2], {"ideal": [1.0, 0.5, 0.2], "both_down": [0.0, 0.5, 0.8]})
    assert [colors.to_hex(c.get_facecolor()[0]) for c in ax.collections] == [
        drawing.CASE_COLORS["ideal"],
        drawing.CASE_COLORS["both_down"],
    ]
    with pytest.raises(ValueError, match="sum to 1"):
        drawing.case_shares(ax, [0, 1], {"ideal": [1.0, 0.5]})
    with pytest.raises(ValueError, match="sideways"):
        drawing.case_shares(ax, [0], {"ideal": [1.0], "sideways": [0.0]})


@pytest.mark.parametrize(("g_l", "signs"), [((1, 2), (1, -1)), ((3, 1), (-1, -1)), ((1, 0), (1, 1))])
def test_a_shadow_lies_before_the_origin_exactly_when_the_response_rises(g_l, signs):
    g_w = (2, 1)
    ax = first_order.projections(None, g_w, g_l)
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    for vector, color, sign in ((g_w, drawing.CHOSEN, signs[0]), (g_l, drawing.REJECTED, signs[1])):
        dot = next(line for line in dots if colors.same_color(line.get_color(), color))
        foot = np.array([dot.get_xdata()[0], dot.get_ydata()[0]])
        u = np.subtract(g_w, g_l)
        assert np.sign(foot @ np.array(vector)) == sign
        assert abs((u - foot) @ np.array(vector)) < 1e-12  # the foot of a perpendicular


def test_the_decay_figure_takes_the_worse_response_of_each_pair():
    rows = [
        {"pair": p, "size": s, "error": e, "exact": 1.0, "bound": 2 * e}
        for p in ("a", "b")
        for s in (0.1, 0.2)
        for e in (s, 3 * s)
    ]
    ax = first_order.decay(None, {"log-linear": pd.DataFrame(rows)})
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert np.allclose(lines["log-linear"], [0.3, 0.6])
    assert np.allclose(lines["log-linear: the bound"], [0.6, 1.2])


def test_paths_start_at_zero_and_the_dotted_lines_touch_them():
    _, ax = drawing.figure()
    changes = torch.tensor([[0.0, 0.0], [0.1, -0.2], [0.15, -0.5]])
    first_order.paths(ax, changes, [0.12, -0.19])
    solid = {
        line.get_label(): line.get_ydata() for line in ax.lines if line.get_label() in ("chosen", "rejected")
    }
    assert np.allclose(solid["chosen"], changes[:, 0]) and np.allclose(solid["rejected"], changes[:, 1])
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [float(line.get_ydata()[1]) for line in dotted] == pytest.approx([0.12, -0.19])
    assert colors.same_color(dotted[0].get_color(), drawing.CHOSEN)


def test_the_three_steps_are_one_large_panel_and_two_small_ones():
    fig, axes = first_order.three_steps([2, 1], [[3, 1], [1, 2], [1, 0]], ("a", "b", "c"))
    fig.canvas.draw()
    widths = [ax.get_position().width for ax in axes]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["a", "b", "c"] and widths[0] > widths[1]
    for ax, tip in zip(axes, ([3, 1], [1, 2], [1, 0]), strict=True):
        assert ax.get_xlim()[1] > tip[0] and ax.get_ylim()[1] > tip[1]


def test_paths_below_each_other_name_their_curves_at_the_end():
    changes = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    axes = first_order.paths_below_each_other(changes, [[1.0, 2.0], [3.0, 4.0]], ("x", "y")).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["x", "y"]
    for k, ax in enumerate(axes):
        ends = {text.get_text(): text.xy[1] for text in ax.texts}
        assert ends == pytest.approx(dict(zip(("chosen", "rejected"), changes[-1, k].tolist(), strict=True)))


@pytest.mark.parametrize("floor", [-0.25, -1.05])
def test_the_narrow_plane_names_each_region_where_it_is(floor):
    ax = first_order.plane_of_pairs(floor=floor)
    names = {label: case for case, label in drawing.CASE_LABELS.items()}
    found = 0
    for text in ax.texts:
        case = names.get(text.get_text())
        if case:
            point = ax.transData.inverted().transform(ax.transAxes.transform(text.get_position()))
            ratio, cosine = map(float, point)
            pair = PairGeometry([1.0], [ratio**2], [cosine * ratio])
            assert pair.case() == [case] and text.get_color() == drawing.CASE_COLORS[case]
            found += 1
    assert found == 3 and ax.get_ylim()[0] == floor


def test_text_of_a_figure_is_eight_points_tall_on_a_telephone():
    fig, ax = drawing.figure(height=2.0)
    ax.plot([0, 1], label="one")
    ax.set(xlabel="x", title="t")
    ax.annotate("a", (0, 0))
    fig.supylabel("y")
    ax.legend()
    fig.canvas.draw()
    sizes = [text.get_size() for text in fig.findobj(Text) if text.get_text()]
    shown = TELEPHONE / (96 * fig.get_figwidth())
    assert len(sizes) > 10 and min(sizes) * shown >= LEAST * 0.99


def test_a_figure_that_a_telephone_could_not_show_is_not_made():
    with pytest.raises(ValueError, match=r"width=7\.6; expected at most 4\.9 inches"):
        drawing.figure(width=7.6)


def test_a_trail_ends_where_the_pair_ends():
    ax = drawing.plane()
    way = PairGeometry([1.0, 1.0, 1.0], [4.0, 2.25, 1.0], [1.0, 0.9, 0.5])
    first_order.trail(ax, way)
    line = ax.lines[-2]
    assert line.get_xdata().tolist() == pytest.approx([2.0, 1.5, 1.0])
    assert line.get_ydata().tolist() == pytest.approx([0.5, 0.6, 0.5])


def test_counts_of_cases_come_in_the_books_order():
    table = first_order.case_counts({"one": {"both_up": 2, "ideal": 1}})
    assert list(table.columns) == [drawing.CASE_LABELS[case] for case in CASES]
    assert table.loc["one"].tolist() == [1, 0, 2, 0]
