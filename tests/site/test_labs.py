"""The labs compute what the library computes, and answer to pointer, keys and touch."""

import json
import math
import random

import pytest

from entanglement.archive import DataError
from entanglement.geometry import PairGeometry
from entanglement_book.machine import repository
from entanglement_book.press.accessible import obstacles
from entanglement_book.press.browser import launch
from entanglement_book.press.pasting import put_data
from entanglement_book.press.vendor import SCRIPTS, Script, fetch_script

LABS = repository() / "book" / "_static" / "labs"
PAGE = """<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Labs</title>
<style>:root {{ --book-panel: #f6f8fa; --book-panel-edge: #d8dee4; --book-quiet: #6b7280;
--pst-color-text-base: #222; --pst-color-primary: #1f5f8f; }} {css}</style></head><body><main><h1>Labs</h1>
{labs}</main>{scripts}</body></html>"""
LAB = (
    '<div class="lab" data-lab="{name}"><script type="application/json" class="lab-data">{data}</script>'
    '<div class="lab-still"><p>The still figure.</p></div></div>'
)
RATIOS = {
    "rows": [
        {"ratio": 1.0, "chosen": [-0.48, -0.56, -0.4], "rejected": [-1.35, -1.5, -1.2]},
        {"ratio": 1.005, "chosen": [0.57, 0.4, 0.7], "rejected": [-0.29, -0.47, -0.11]},
        {"ratio": 1.02, "chosen": [2.18, 2.0, 2.3], "rejected": [1.33, 1.1, 1.5]},
    ],
    "seeds": 5,
    "reach": 2.2,
}


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labs")
    data = {"arrows": {"chosen": [2, 1], "rejected": [3, 1]}, "ratio": RATIOS}
    texts = [fetch_script(script)[script.file].decode() for script in SCRIPTS]
    names = ("geometry.js", "parts.js", *(f"{name}.js" for name in data), "labs.js")
    texts += [(LABS / name).read_text(encoding="utf-8") for name in names]
    labs = "".join(LAB.format(name=name, data=json.dumps(given)) for name, given in data.items())
    css = (LABS / "labs.css").read_text(encoding="utf-8")
    for scripts, name in ((texts, "live"), ([], "still")):
        blocks = "".join(f"<script>{text}</script>" for text in scripts)
        (folder / f"{name}.html").write_text(
            PAGE.format(css=css, labs=labs, scripts=blocks), encoding="utf-8"
        )
    return lambda name: (folder / f"{name}.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with launch() as found:
        yield found


@pytest.fixture
def live(browser, page_of):
    errors = []
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_of("live"))
    yield page
    page.close()
    assert errors == []


def _cases():
    draw = random.Random(0)
    cases = [([2.0, 1.0], [3.0, 1.0]), ([1.0, 0.0], [0.0, 1.0]), ([0.0, 0.0], [1.0, 2.0])]
    cases += [
        ([0.1, 0.2, 0.7], [0.1, 0.2, 0.7]),
        ([0.1, 0.2, 0.7], [0.3, 0.6, 2.1]),
        ([1.0, 1.0], [1.0, 0.0]),
    ]
    while len(cases) < 50:
        size, apart = draw.randint(2, 6), 10 ** draw.uniform(-6, 1)
        w = [draw.gauss(0, 1) for _ in range(size)]
        cases.append((w, [x + apart * draw.gauss(0, 1) for x in w]))
    return [(w, other, draw.uniform(0.1, 2), draw.uniform(0.1, 2)) for w, other in cases]


def test_the_page_computes_what_the_library_computes(live):
    cases = _cases()
    found = live.evaluate(
        """cases => cases.map(([w, l, dW, dL]) => {
             const g = window.bookGeometry, pair = g.fromVectors(w, l), rates = g.rates(pair, dW, dL);
             return [pair.a2, pair.b2, pair.c, g.cosine(pair), rates.chosen, rates.rejected, ...g.band(pair)]
               .map(String).concat([g.caseOf(pair, dW, dL)]);
           })""",
        cases,
    )
    assert len(found) == 50
    for (w, other, d_w, d_l), told in zip(cases, found, strict=True):
        pair = PairGeometry.from_vectors(w, other)
        expected = [
            pair.chosen_sq,
            pair.rejected_sq,
            pair.inner,
            pair.cosine,
            *pair.rates(d_w, d_l),
            *pair.band,
        ]
        for value, text in zip(expected, told, strict=False):
            number = float(text.replace("Infinity", "inf"))
            assert number == pytest.approx(float(value), rel=1e-9, abs=1e-9, nan_ok=True)
        assert told[-1] == pair.case(d_w, d_l)[0]


def _arrows(page):
    found = json.loads(page.get_attribute(".lab[data-lab=arrows]", "data-values"))
    return found, page.get_attribute(".lab[data-lab=arrows]", "data-case")


def _expected(w, other):
    pair = PairGeometry.from_vectors(w, other)
    return [float(rate) for rate in pair.rates()], pair.case()[0]


def test_the_still_figure_gives_way_to_the_lab(live):
    assert live.locator(".lab-still").first.is_hidden()
    assert live.locator(".lab-body").count() == 2


def test_without_scripts_the_still_figure_stays(browser, page_of):
    page = browser.new_page(java_script_enabled=False)
    page.goto(page_of("still"))
    assert page.locator(".lab-still").first.is_visible() and page.locator(".lab-body").count() == 0
    page.close()


def test_arrows_answer_to_the_keys(live):
    assert _arrows(live) == _expected([2.0, 1.0], [3.0, 1.0])
    rejected, chosen = live.locator(".lab-grip").all()
    rejected.focus()
    live.keyboard.press("ArrowUp")
    live.keyboard.press("Shift+ArrowLeft")
    values, case = _arrows(live)
    expected, expected_case = _expected([2.0, 1.0], [2.0, 1.1])
    assert values == pytest.approx(expected) and case == expected_case
    assert rejected.get_attribute("aria-valuetext") == "(2.0, 1.1)"
    chosen.focus()
    for _ in range(9):
        live.keyboard.press("Shift+ArrowRight")
    assert chosen.get_attribute("aria-valuetext") == "(4.0, 1.0)"  # it stays in the plane
    live.get_by_role("button", name="Back to the pair of the text").click()
    assert _arrows(live) == _expected([2.0, 1.0], [3.0, 1.0])


def test_arrows_answer_to_the_pointer(live):
    box = live.locator(".lab-plane").bounding_box()
    unit = box["width"] / 8
    spot = lambda x, y: (box["x"] + (4 + x) * unit, box["y"] + (4 - y) * unit)  # noqa: E731
    live.mouse.move(*spot(3, 1))
    live.mouse.down()
    live.mouse.move(*spot(2, 0), steps=4)
    live.mouse.move(*spot(1, -1), steps=4)
    live.mouse.up()
    values, case = _arrows(live)
    expected, expected_case = _expected([2.0, 1.0], [1.0, -1.0])
    assert values == pytest.approx(expected) and case == expected_case == "ideal"
    assert "A rises and B falls" in live.locator(".lab[data-lab=arrows] .lab-said").inner_text()


def test_arrows_answer_to_touch(browser, page_of):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(page_of("live"))
    box = page.locator(".lab-plane").bounding_box()
    unit = box["width"] / 8
    touch = context.new_cdp_session(page)

    def send(kind, x, y):
        points = [{"x": box["x"] + (4 + x) * unit, "y": box["y"] + (4 - y) * unit}]
        event = {"type": kind, "touchPoints": [] if kind == "touchEnd" else points}
        touch.send("Input.dispatchTouchEvent", event)

    send("touchStart", 3, 1)
    send("touchMove", 2, 0)
    send("touchMove", 1, -1)
    send("touchEnd", 1, -1)
    assert _arrows(page)[1] == "ideal"
    context.close()


def test_the_ratio_shows_the_stored_runs(live):
    slider = live.get_by_label("ratio r of the two weights")
    lab = live.locator(".lab[data-lab=ratio]")
    assert "Both fall." in lab.inner_text() and "5 seeds" in lab.inner_text()
    slider.focus()
    live.keyboard.press("ArrowRight")
    assert (
        "They part. Chosen +0.57 [+0.40, +0.70], rejected \u22120.29 [\u22120.47, \u22120.11]"
        in lab.inner_text()
    )
    live.keyboard.press("End")
    assert "Both rise." in lab.inner_text()
    assert json.loads(lab.get_attribute("data-values")) == [1.02, 2.18, 1.33]


@pytest.mark.parametrize("width", [1280, 390])
def test_labs_keep_no_reader_out(browser, page_of, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(page_of("live"))
    assert obstacles(page) == []
    assert page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth") == 0
    sizes = page.evaluate(
        """() => Array.from(document.querySelectorAll('.lab svg text')).map(text =>
             parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
    )
    assert min(sizes) >= 8 * 96 / 72  # 8 points
    page.close()


# --- what the labs are made of ------------------------------------------------------------------------------


def test_a_library_is_the_one_that_was_published(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    one = Script("d3-none", "1.0.0", "AAAA")
    with pytest.raises(DataError, match="is not the published one"):
        fetch_script(one, lambda name: b"something else")
    assert list(tmp_path.rglob("*.tgz")) == []


def test_a_library_is_fetched_once(tmp_path, monkeypatch):
    archive = next(iter((_cache() / "npm").glob("d3-dispatch-*.tgz"))).read_bytes()
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    asked = []
    for _ in range(2):
        found = fetch_script(SCRIPTS[0], lambda name: asked.append(name) or archive)
    assert asked == ["d3-dispatch@3.0.1"]
    assert set(found) == {"d3-dispatch.min.js", "d3-dispatch.LICENSE"}
    assert b"Permission to use" in found["d3-dispatch.LICENSE"]


def _cache():
    from entanglement.archive import cache_dir

    return cache_dir()


def test_a_machine_without_npm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"d3-dispatch@3\.0\.1 was not downloaded: npm did not run"):
        fetch_script(SCRIPTS[0])


@pytest.mark.parametrize("wrong", [{"a": math.nan}, {"a": {1, 2}}])
def test_only_what_json_knows_is_pasted(wrong):
    with pytest.raises(ValueError, match="put_data: lab cannot be written as JSON"):
        put_data("lab", wrong)
