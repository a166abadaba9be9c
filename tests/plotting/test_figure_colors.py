"""Text in figures reads on a light page and on a dark one."""

import re

import pytest
from matplotlib import pyplot as plt, rc_context

from entanglement_book import drawing
from entanglement_book.press.figure_colors import AIM, GROUNDS, LEAST, ON_CELLS, adapt, contrast, readable

PALETTE = sorted(
    {drawing.CHOSEN, drawing.REJECTED, drawing.NEUTRAL, drawing.ACCENT, drawing.INK}
    | set(drawing.CASE_COLORS.values())
    | set(drawing.VARIANT_COLORS.values())
)


@pytest.fixture
def svg(tmp_path):
    with rc_context():  # of this test alone
        drawing.use_style()
        fig, ax = drawing.figure(height=2.0)
        ax.plot([0, 1], [0, 1], color=drawing.CHOSEN)
        ax.set_xlabel("quantity")
        ax.text(0.2, 0.8, "chosen", color=drawing.CHOSEN)
        ax.text(0.6, 0.2, "cell", color="#222222")
        fig.savefig(tmp_path / "figure.svg", metadata={"Date": None})
        plt.close(fig)
    return (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#ff0000", "#ff0000") == 1


@pytest.mark.parametrize("ground", GROUNDS.values())
@pytest.mark.parametrize("color", PALETTE)
def test_every_color_of_the_book_can_be_read_on_both_grounds(color, ground):
    found = readable(color, ground)
    assert contrast(found, ground) >= AIM > LEAST
    if contrast(color, ground) >= AIM:
        assert found == color


def test_only_texts_change_and_only_their_color(svg):
    made = adapt(svg)
    names = {drawing.INK, drawing.CHOSEN}
    assert set(re.findall(r"var\(--text-([0-9a-f]{6})\)", made)) == {name[1:] for name in names}
    for scheme, ground in GROUNDS.items():
        for name in names:
            assert f"--text-{name[1:]}:{readable(name, ground)};" in made, scheme
    assert "#222222" in ON_CELLS and made.count("fill: #222222") == svg.count("fill: #222222") == 1
    plain = re.sub(
        r"; fill: var\(--text-[0-9a-f]{6}\)", "", re.sub(r"<style>svg.*?</style>", "", made, count=1)
    )
    assert plain == svg  # the line is as blue as before


def test_other_pictures_stay_as_they_are():
    other = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M 0 0 L 9 9"/></svg>'
    assert adapt(other) == other
