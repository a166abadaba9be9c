"""What an audit writes: a page that stays small and can be read, and a report that keeps to its schema."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import jsonschema
import numpy as np
import pandas as pd
import pytest

from entanglement.auditing import audit
from entanglement.auditing.findings import AuditReport, report_schema
from entanglement.auditing.page import page
from entanglement.auditing.said import signed
from entanglement.geometry import CASES
from entanglement.rows import VERDICTS
from entanglement_book.press.accessible import MODES, obstacles

ROWS = [
    {"prompt": f"the {w} was", "chosen": f" {g} and long", "rejected": f" {b} and long"}
    for w in ("film", "day", "town", "song", "road")
    for g, b in (("good", "bad"), ("fine", "poor"))
]


@pytest.fixture(scope="module")
def report(tiny_model, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    lines = [json.dumps(row) for row in [*ROWS, ROWS[0] | {"rejected": ROWS[0]["chosen"]}]]
    path.write_text("\n".join([*lines, "{broken", '{"prompt": "\\ud83d", "\\ud83d": 1}']))
    return audit(tiny_model("gpt2-tied"), tokenizer, path, batch_size=2, geometry=4, lr=1e-3)


@pytest.fixture(scope="module")
def few(tiny_model, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("few") / "pairs.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{broken")
    return audit(tiny_model("gpt2-tied"), tokenizer, path)


@pytest.mark.parametrize("which", ["report", "few"])
def test_every_report_keeps_to_the_schema_beside_it(which, request, tmp_path):
    request.getfixturevalue(which).write(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    schema = json.loads((tmp_path / "report.schema.json").read_text())
    assert schema == report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    check.validate(found)
    for wrong in (
        found | {"more": 1},
        {name: value for name, value in found.items() if name != "direction"},
        found | {"verdicts": {"good": 1}},
        found | {"schema": 1},
        found | {"run": found["run"] | {"lr": "1e-6"}},
    ):
        assert not check.is_valid(wrong)


def test_the_schema_knows_the_cases_and_verdicts():
    fields = report_schema()["properties"]
    assert set(fields["geometry"]["properties"]["cases"]["properties"]) == {*CASES, "equal"}
    assert set(fields["verdicts"]["propertyNames"]["enum"]) == set(VERDICTS)


def test_what_is_not_finite_becomes_null(report, tmp_path):
    number = report.summary["number"] | {"chosen": float("nan"), "rejected": float("inf")}
    changed = AuditReport(
        report.rows, report.pairs, report.ratios, report.worst, report.summary | {"number": number}
    )
    changed.write(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda name: 1 / 0)
    assert found["number"]["chosen"] is found["number"]["rejected"] is None
    jsonschema.validate(found, report_schema())


@pytest.mark.parametrize("name", ["rows", "pairs", "ratios", "changes"])
def test_parquet_holds_what_csv_does(report, tmp_path, name):
    report.write(tmp_path)
    parquet = pd.read_parquet(tmp_path / f"{name}.parquet")
    csv = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=name != "rows")
    assert list(parquet.columns) == list(csv.columns)
    assert len(parquet) == len(csv) > 0
    for column in parquet.select_dtypes("number"):
        np.testing.assert_allclose(csv[column].astype(float), parquet[column].astype(float))


def test_a_page_of_five_thousand_pairs_stays_small(report):
    """Texts of three bytes a letter, or of letters that HTML writes with five, in every row and token."""
    n = 5000
    pairs = pd.concat([report.pairs] * (n // len(report.pairs) + 1), ignore_index=True).head(n)
    pairs = pairs.assign(chosen="漢" * 160, rejected="&" * 160, place=range(1, n + 1))
    rows = pd.DataFrame({"place": range(1, n + 1), "verdict": "special_token", "said": "漢" * 300})
    tokens = [("漢&", -0.001 * k) for k in range(1024)]
    worst = [{"place": k, "pull": -0.5, "chosen": tokens, "rejected": tokens} for k in range(10)]
    text = page(report.summary, rows, pairs, report.ratios, worst)
    assert len(text.encode()) < 3_000_000
    assert text.count("<tr>") > n
    assert "824 tokens more" in text
    small = page(report.summary, rows.head(1), pairs.head(4), report.ratios, [])
    assert small.count("漢" * 53) >= 4  # a few pairs keep what fits


def _contrast(one, other):
    def light(color):
        parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _mixed(one, other, share):
    parts = [
        round(share * int(one[k : k + 2], 16) + (1 - share) * int(other[k : k + 2], 16)) for k in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


def test_what_is_written_can_be_read_in_light_and_dark(report):
    """WCAG's contrast: 4.5 for text, also on the strongest shade of a token, and 3 for marks."""
    text = page(report.summary, report.rows, report.pairs, report.ratios, report.worst)
    blocks = re.findall(r":root \{(.*?)\}", text, flags=re.S)
    assert len(blocks) == 2
    strongest = max(int(share) for share in re.findall(r"var\(--down\) (\d+)%", text)) / 100
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    for block in blocks:
        colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name in ("ink", "soft", "chosen", "rejected"):
            assert _contrast(colors[name], colors["paper"]) >= 4.5
        for name in ("up", "down", "open"):
            assert _contrast(colors[name], colors["paper"]) >= 3
        for name in ("up", "down"):
            assert _contrast(colors["ink"], _mixed(colors[name], colors["paper"], strongest)) >= 4.5


def test_headings_go_down_step_by_step_and_columns_are_named(report):
    text = page(report.summary, report.rows, report.pairs, report.ratios, report.worst)
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope=" in head for head in re.findall(r"<th[ >][^>]*", text))
    assert all("aria-label=" in figure for figure in re.findall(r"<svg[^>]*", text))
    assert "<label>" in text
    # The three numbers come first.
    first = text.index(signed(report.summary["chosen"]["change"]))
    assert text.index("<h1>") < first < text.index("<h2>")
    assert not re.search(r"""(src|href)=|url\(|@import|https?:""", text)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "+0.00"), (-0.5, "\u22120.50"), (0.0456, "+0.046"), (-3e-5, "\u22120.000030"), (12.3, "+12.30"),
        (float("nan"), "–"), (float("inf"), "∞"), (float("-inf"), "\u2212∞"),
    ],
)  # fmt: skip
def test_numbers_keep_two_digits_that_say_something(value, written):
    assert signed(value) == written


@pytest.fixture(scope="module")
def browser():
    from entanglement_book.press.browser import launch

    with launch() as found:
        yield found


@pytest.mark.parametrize(("scheme", "width"), MODES)
@pytest.mark.parametrize("which", ["report", "few"])
def test_the_page_keeps_no_reader_out_and_asks_nobody(which, scheme, width, request, browser, tmp_path):
    request.getfixturevalue(which).write(tmp_path)
    opened = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    asked, errors = [], []
    opened.on("request", lambda one: asked.append(one.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    opened.goto((tmp_path / "report.html").as_uri())
    wide = opened.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert (obstacles(opened), errors, wide) == ([], [], 0)
    assert all(url.startswith(("file:", "data:")) for url in asked)
    opened.close()


def test_an_obstacle_is_seen(browser):
    opened = browser.new_page()
    opened.set_content(
        '<html lang="en"><title>x</title><main><h1>x</h1><p style="color: #ddd">pale</p></main></html>'
    )
    (found,) = obstacles(opened)
    assert found.startswith("color-contrast: ") and "pale" in found
    opened.close()
