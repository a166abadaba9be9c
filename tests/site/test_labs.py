"""The labs compute what the library computes, and answer to pointer, keys and touch."""

import json
import math
import random
import shutil

import pytest
import torch

from entanglement.archive import DataError
from entanglement.geometry import PairGeometry
from entanglement.loglinear import LogLinear, suffix_pairs
from entanglement.losses import PairLogps, get_loss, list_losses, loss_specs
from entanglement.updates import get_rule, list_rules
from entanglement_book.machine import repository
from entanglement_book.press.accessible import obstacles
from entanglement_book.press.browser import launch
from entanglement_book.press.pasting import put_data
from entanglement_book.press.sphinx_labs import COMMON
from entanglement_book.press.vendor import SCRIPTS, Script, fetch_script
from entanglement_book.studies.shared.lab_data import pair_to_step, tokens_of_pair

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
SERIES = {
    "series": [
        {"title": "near-copies", **RATIOS},
        {
            "title": "summaries",
            "rows": [
                {"ratio": 1.0, "chosen": [-0.14, -0.2, -0.1], "rejected": [-0.35, -0.4, -0.3]},
                {"ratio": 1.4, "chosen": [0.1, 0.05, 0.15], "rejected": [-0.08, -0.2, 0.0]},
            ],
            "seeds": 3,
            "reach": 0.4,
        },
    ]
}
TOY = suffix_pairs(1, 3, vocab=5, dim=4, generator=torch.Generator().manual_seed(3))
GRAM = torch.tensor(
    [[4.0, 1.0, -3.0, 0.5], [1.0, 2.0, 0.0, 1.5], [-3.0, 0.0, 5.0, 1.0], [0.5, 1.5, 1.0, 2.0]],
    dtype=torch.float64,
)
BOARD = {"chosen": [2, 1], "rejected": [3, 1], "losses": [{"title": "DPO-Shift", "r": 1 / 0.95}]}
ASKED = {"low": -2, "high": 2, "unit": "nats", "digits": 2, "axis": 0, "figure": "fig-one"}
#: Lab → its data; in the page that the tests open they stand below each other.
DATA = {
    "arrows": {"chosen": [2, 1], "rejected": [3, 1]},
    "tent": BOARD,
    "steps": pair_to_step(TOY, ["good", "bad", "film", "plot", "the"], (1.0, 1.25), length=3),
    "ratio": RATIOS,
    "tokens": tokens_of_pair(["yes", "!", "no", "!"], 2, {"before": GRAM, "after": GRAM / 10}),
    "guess": ASKED | {"found": [-0.48, -0.56, -0.4]},
    "filter": {},
}
#: What the lab "filter" leaves rows of.
LOSSES = (
    '<table class="losses"><thead><tr><th>loss</th></tr></thead><tbody>'
    '<tr><td><strong>DPO</strong> needs a reference <span class="math">length</span></td></tr>'
    "<tr><td><strong>SimPO</strong> needs no reference, uses a length</td></tr></tbody></table>"
)


@pytest.fixture(scope="module")
def vendored():
    """The text of each script of others. A machine without npm has a book of still figures."""
    try:
        return [fetch_script(script)[script.file].decode() for script in SCRIPTS]
    except DataError:
        if shutil.which("npm") is not None:
            raise
        pytest.skip("npm is not installed")


@pytest.fixture(scope="module")
def page_of(tmp_path_factory, vendored):
    folder = tmp_path_factory.mktemp("labs")
    texts = [*vendored]
    names = (*COMMON, *(f"{name}.js" for name in DATA), "labs.js")
    texts += [(LABS / name).read_text(encoding="utf-8") for name in names]
    labs = "".join(LAB.format(name=name, data=json.dumps(given)) for name, given in DATA.items())
    labs += '<div class="cell_output"><figure id="fig-one"><p>The figure.</p></figure></div>'
    labs += LAB.format(name="ratio", data=json.dumps(SERIES)) + LOSSES
    css = (LABS / "labs.css").read_text(encoding="utf-8")
    for scripts, name in ((texts, "live"), ([], "still")):
        blocks = "".join(f"<script>{text}</script>" for text in scripts)
        (folder / f"{name}.html").write_text(
            PAGE.format(css=css, labs=labs, scripts=blocks), encoding="utf-8"
        )
    return lambda name: (folder / f"{name}.html").as_uri()


@pytest.fixture(scope="module")
def sums(browser, tmp_path_factory):
    """A page with what the labs compute by, and nothing of others."""
    file = tmp_path_factory.mktemp("sums") / "sums.html"
    names = [name for name in COMMON if name != "parts.js"]  # which draws
    blocks = "".join(f"<script>{(LABS / name).read_text(encoding='utf-8')}</script>" for name in names)
    file.write_text(PAGE.format(css="", labs="", scripts=blocks), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    return page


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


def test_the_page_computes_what_the_library_computes(sums):
    cases = _cases()
    found = sums.evaluate(
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
    assert live.locator(".lab-body").count() >= len(DATA)


def test_without_scripts_the_still_figure_stays(browser, page_of):
    page = browser.new_page(java_script_enabled=False)
    page.goto(page_of("still"))
    assert page.locator(".lab-still").first.is_visible() and page.locator(".lab-body").count() == 0
    page.close()


def test_arrows_answer_to_the_keys(live):
    assert _arrows(live) == _expected([2.0, 1.0], [3.0, 1.0])
    rejected, chosen = live.locator(".lab[data-lab=arrows] .lab-grip").all()
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
    box = live.locator(".lab[data-lab=arrows] .lab-plane").bounding_box()
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
    box = page.locator(".lab[data-lab=arrows] .lab-plane").bounding_box()
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
    lab = live.locator(".lab[data-lab=ratio]").first
    slider = lab.get_by_label("ratio r of the two weights")
    assert "Both fall." in lab.inner_text() and "5 seeds" in lab.inner_text()
    slider.focus()
    live.keyboard.press("ArrowRight")
    assert (
        "They part. Chosen +0.57 [+0.40, +0.70], rejected \u22120.29 [\u22120.47, \u22120.11]"
        in lab.inner_text()
    )
    assert "1.005" in lab.inner_text()
    live.keyboard.press("End")
    assert "Both rise." in lab.inner_text()
    assert json.loads(lab.get_attribute("data-values")) == [1.02, 2.18, 1.33]


def test_another_series_begins_at_the_nearest_ratio(live):
    lab = live.locator(".lab[data-lab=ratio]").nth(1)
    slider = lab.get_by_label("ratio r of the two weights")
    slider.focus()
    live.keyboard.press("End")
    lab.get_by_label("runs").select_option(label="summaries")
    assert json.loads(lab.get_attribute("data-values"))[0] == 1.0  # 1.02 is nearer to 1 than to 1.4
    assert "3 seeds" in lab.inner_text()
    live.keyboard.press("End")
    slider.focus()
    live.keyboard.press("End")
    assert json.loads(lab.get_attribute("data-values")) == [1.4, 0.1, -0.08]


# --- losses, rules and the model ----------------------------------------------------------------------------


def _states(draw, count=50):
    """Log-probabilities and lengths near and far from the reference, some of them at it."""
    for place in range(count):
        n_w, n_l = draw.randint(1, 20), draw.randint(1, 20)
        ref_w, ref_l = -n_w * draw.uniform(0.1, 4), -n_l * draw.uniform(0.1, 4)
        far = 0.0 if place == 0 else draw.choice((0.1, 2.0, 20.0))
        f_w, f_l = (min(ref + draw.gauss(0, far), -0.01) for ref in (ref_w, ref_l))
        yield {"fW": f_w, "fL": f_l, "refW": ref_w, "refL": ref_l, "nW": n_w, "nL": n_l}


def test_the_page_has_losses_of_the_library(sums):
    # A loss that is new in the library need not be in the lab, but what is in the lab is the library's.
    known = sums.evaluate("window.bookLosses.names")
    titles = dict(sums.evaluate("Object.entries(window.bookLosses.titles)"))
    assert set(titles) == set(known) <= set(list_losses()) and len(known) >= 32
    assert titles == {spec.name: spec.title for spec in loss_specs() if spec.name in titles}
    states = list(_states(random.Random(1)))
    found = sums.evaluate(
        """states => window.bookLosses.names.map(name =>
             [name, states.map(state => window.bookLosses.weights(name, state).map(String))])""",
        states,
    )
    assert len(found) == len(known)
    column = lambda key: torch.tensor([state[key] for state in states], dtype=torch.float64)  # noqa: E731
    lengths = [torch.tensor([state[key] for state in states]) for key in ("nW", "nL")]
    for name, told in found:
        loss = get_loss(name)
        for place in range(len(states)):  # one by one: two losses look at the batch
            one = [column(key)[place : place + 1] for key in ("fW", "fL", "refW", "refL")]
            pair = PairLogps(*one, *(n[place : place + 1] for n in lengths))
            expected = [float(weight) for weight in loss.weights(pair)]
            assert [float(x) for x in told[place]] == pytest.approx(expected, rel=1e-9, abs=1e-12), (
                name,
                place,
            )


def test_the_page_has_rules_of_the_library(sums):
    draw = random.Random(2)
    cases = [(w, other, draw.uniform(0.01, 2), draw.uniform(0.01, 2)) for w, other, _, _ in _cases()]
    cases += [([1.0, 0.0], [1.0, 1.0], -0.5, 0.5), ([1.0, 0.0], [1.0, 1.0], 0.5, 0.0)]
    found = sums.evaluate(
        """cases => Object.keys(window.bookLosses.rules).map(name => [name, cases.map(([w, l, dW, dL]) =>
             window.bookLosses.rules[name](window.bookGeometry.fromVectors(w, l), dW, dL).map(String))])""",
        cases,
    )
    titles, rules = dict(sums.evaluate("Object.entries(window.bookLosses.ruleTitles)")), list_rules()
    assert {name for name, _ in found} == set(titles) <= set(rules) and len(titles) >= 5
    assert titles == {name: rule.title for name, rule in rules.items() if name in titles}
    for name, told in found:
        for (w, other, d_w, d_l), texts in zip(cases, told, strict=True):
            pair, weights = (
                PairGeometry.from_vectors(w, other),
                torch.tensor([[d_w], [d_l]], dtype=torch.float64),
            )
            expected = [float(weight) for weight in get_rule(name).weights(pair, *weights)]
            numbers = [float(text.replace("Infinity", "inf")) for text in texts]
            assert numbers == pytest.approx(expected, rel=1e-9, abs=1e-12), (name, w, other, d_w, d_l)


def _plain(pair):
    answer = lambda side: {  # noqa: E731
        "states": getattr(pair, f"{side}_features")[0].tolist(),
        "tokens": getattr(pair, side)[0].tolist(),
    }
    return {
        "weight": pair.weight[0].tolist(),
        "chosen": answer("chosen"),
        "rejected": answer("rejected"),
    }


def test_the_page_has_the_model_of_the_library(sums):
    generator = torch.Generator().manual_seed(4)
    pairs, draw = (
        suffix_pairs(50, 4, vocab=6, dim=3, relation="scaled", strength=1.3, generator=generator),
        random.Random(3),
    )
    each = [
        LogLinear(
            *(
                part[k : k + 1]
                for part in (
                    pairs.weight,
                    pairs.chosen_features,
                    pairs.chosen,
                    pairs.rejected_features,
                    pairs.rejected,
                )
            )
        )
        for k in range(50)
    ]
    steps = [(draw.uniform(0.01, 1), draw.uniform(0.1, 2), draw.uniform(0.1, 2)) for _ in each]
    found = sums.evaluate(
        """cases => cases.map(([pair, [eta, dW, dL]]) => {
             const m = window.bookModel, g = m.ofPair(pair), after = m.step(pair, eta, dW, dL);
             return [m.logp(pair.weight, pair.chosen), m.logp(pair.weight, pair.rejected), g.a2, g.b2, g.c,
                     m.logp(after.weight, after.chosen), m.logp(after.weight, after.rejected)];
           })""",
        [[_plain(pair), step] for pair, step in zip(each, steps, strict=True)],
    )
    assert len(found) == 50
    for pair, (eta, d_w, d_l), told in zip(each, steps, found, strict=True):
        geometry, after = pair.geometry(), pair.step(eta, d_w, d_l)
        expected = [*pair.logps(), geometry.chosen_sq, geometry.rejected_sq, geometry.inner, *after.logps()]
        assert told == pytest.approx([float(x) for x in expected], rel=1e-9, abs=1e-9)


def _values(page, lab):
    return json.loads(page.get_attribute(f".lab[data-lab={lab}]", "data-values"))


def test_a_step_of_the_lab_is_a_step_of_the_library(live):
    lab = live.locator(".lab[data-lab=steps]")
    assert _values(live, "steps") == [0, 0, 0]
    for name, rule, factor in (("dpo", "joint", "1"), ("orpo", "joint", "1"), ("ipo", "normalized", "1.25")):
        lab.get_by_label("loss").select_option(name)
        lab.get_by_label("rule").select_option(rule)
        lab.get_by_label("rejected states").select_option(factor)
        lab.get_by_role("button", name="One step").click()
        lab.get_by_role("button", name="Twenty steps").click()
        longer = TOY.chosen_features.clone()
        longer[:, 1:] *= float(factor)
        pair = LogLinear(TOY.weight, TOY.chosen_features, TOY.chosen, longer, TOY.rejected)
        reference, lengths = pair.logps(), [torch.tensor([4])] * 2
        for _ in range(21):
            weights = get_loss(name).weights(PairLogps(*pair.logps(), *reference, *lengths))
            geometry = pair.geometry()
            weights = get_rule(rule).weights(geometry, *weights)
            fastest = max(abs(float(rate)) for rate in geometry.rates(*weights))
            pair = pair.step(0.05 / fastest, *weights)
        changes = [float(now - then) for now, then in zip(pair.logps(), reference, strict=True)]
        assert _values(live, "steps") == pytest.approx([*changes, 21], abs=1e-9)
    lab.get_by_role("button", name="Start again").click()
    assert _values(live, "steps") == [0, 0, 0]
    live.get_by_label("shared words").focus()
    live.keyboard.press("Home")
    lab.get_by_role("button", name="One step").click()
    assert _values(live, "steps")[2] == 1


def test_the_tent_follows_arrows_ratio_and_loss(live):
    lab = live.locator(".lab[data-lab=tent]")
    pair = PairGeometry.from_vectors([2.0, 1.0], [3.0, 1.0])
    low, high = (float(end) for end in pair.band)
    assert _values(live, "tent") == pytest.approx([*map(float, pair.rates()), low, high, 1.0])
    lab.get_by_label("loss").select_option(label="DPO-Shift")
    r = 1 / 0.95
    assert _values(live, "tent") == pytest.approx([*map(float, pair.rates(r, 1.0)), low, high, r])
    assert lab.get_attribute("data-case") == "both_down"
    lab.get_by_label("ratio r of the two weights").focus()
    live.keyboard.press("End")
    assert _values(live, "tent")[4] == 4.0 and lab.get_attribute("data-case") == "both_up"
    assert lab.get_by_label("loss").input_value() == ""
    lab.get_by_label("The pair in the plane").focus()
    for _ in range(40):
        live.keyboard.press("ArrowDown")  # down to a cosine of −1
    assert lab.get_attribute("data-case") == "ideal" and "Every ratio is safe." in lab.inner_text()


def test_a_token_shows_its_row_of_the_gram_matrix(live):
    lab = live.locator(".lab[data-lab=tokens]")
    assert _values(live, "tokens") == [0, 5.0, -2.5]
    lab.get_by_role("button", name="no").click()
    assert _values(live, "tokens") == [2, 6.0, -3.0]
    # The rejected token's own change in a step that moves the answers apart: across minus inside.
    assert "\u22129.0" in lab.locator(".lab-said").inner_text()
    assert lab.get_by_role("button", name="no").get_attribute("aria-pressed") == "true"
    lab.get_by_label("model").select_option(label="after")
    assert _values(live, "tokens") == pytest.approx([2, 0.6, -0.3])
    lab.get_by_label("show").select_option(label="cosines")
    texts = lab.locator(".lab-token .lab-value").all_inner_texts()
    assert texts[2] == "+1.00" and texts[0] == "\u22120.67"


def test_a_guess_stands_before_its_figure_and_then_beside_what_was_found(live):
    lab, figure = live.locator(".lab[data-lab=guess]"), live.locator("#fig-one")
    assert not figure.is_visible() and lab.locator(".lab-still").is_visible()
    lab.get_by_label("Your guess").focus()
    for _ in range(5):
        live.keyboard.press("PageDown")  # twenty two-hundredths of the line each
    assert "Your guess: \u22122.00 nats." in lab.inner_text()
    for _ in range(75):
        live.keyboard.press("ArrowRight")
    lab.get_by_role("button", name="That is my guess").click()
    assert figure.is_visible()
    said = lab.locator(".lab-said").inner_text()
    assert "You guessed \u22120.50. Found: \u22120.48 [\u22120.56, \u22120.40] nats." in said
    assert "lies in the interval" in said and lab.get_by_role("button").count() == 0


def test_a_table_of_losses_is_filtered_by_its_words_and_not_by_its_formulas(live):
    field, rows = live.get_by_label("losses that speak of"), live.locator("table.losses tbody tr")
    assert _values(live, "filter") == [2, 2]
    for words, left in (("Length", ["SimPO"]), ("reference needs", ["DPO", "SimPO"]), ("nothing", [])):
        field.fill(words)
        seen = [row.locator("strong").inner_text() for row in rows.all() if row.is_visible()]
        assert seen == left and _values(live, "filter") == [len(left), 2]
    assert "0 of 2" in live.locator(".lab-count").inner_text()
    field.fill("")
    assert _values(live, "filter") == [2, 2]


def test_who_comes_for_the_figure_sees_it(browser, page_of):
    page = browser.new_page()
    page.goto(page_of("live") + "#fig-one")
    assert page.locator("#fig-one").is_visible()
    page.close()


def test_nobody_has_to_guess(live):
    live.get_by_role("button", name="Show without a guess").click()
    assert live.locator("#fig-one").is_visible()
    assert "You guessed" not in live.locator(".lab[data-lab=guess]").inner_text()


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


def test_a_library_is_fetched_once(tmp_path, monkeypatch, vendored):
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
