"""The page of an audit: one HTML file that asks no other host for anything."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

from entanglement.auditing.advice import of_number
from entanglement.auditing.page_figures import SIZE, curve, plane
from entanglement.auditing.said import signed
from entanglement.auditing.wording import caution, lead, of_direction, of_geometry, of_run
from entanglement.rows import VERDICTS

__all__ = ["page"]

#: Rows of the file that are listed one by one, where something is to be noted of them.
_LISTED = 1000
#: Bytes of the page for the texts of all pairs, and the most of one text.
_TEXTS, _TEXT = 1_200_000, 320
#: Tokens of a response that are shown, tokens that are named as the worst, and shades of each color.
_TOKENS, _NAMED, _SHADES = 200, 8, 8


def _fitted(text: str, room: int) -> str:
    """Return a text cut to some bytes of HTML."""
    if len(html.escape(text).encode()) <= room:
        return text
    used = 0
    for k, letter in enumerate(text):
        used += len(html.escape(letter).encode())
        if used > room - 3:
            return f"{text[:k]}…"
    return text


def _cells(pairs: pd.DataFrame) -> Iterator[list[str]]:
    """Yield the cells of each pair's row in the table."""
    room = min(_TEXT, _TEXTS // (2 * max(len(pairs), 1)))

    def number(value: Any) -> str:
        return "" if value is None or value != value else signed(value)

    for p in pairs.to_dict("records"):
        moves = [number(p[f"{side}_whole"]) for side in ("chosen", "rejected")]
        case = p.get("case")
        own = [number(p.get("cosine")), case if isinstance(case, str) else ""]
        place, *counts = [str(p[name]) for name in ("place", "prefix", "suffix", "edits")]
        texts = " | ".join(_fitted(p[side], room) for side in ("chosen", "rejected"))
        held = "held-out" if p["held_out"] else ""
        yield [place, held, *counts, *moves, number(p["pull"]), *own, texts]


def _shade(pull: float, largest: float) -> str:
    """Return a token's class: which way it pulls, and how strongly."""
    strength = round(_SHADES * min(abs(pull) / largest, 1.0)) if largest else 0
    return f"{'d' if pull < 0 else 'u'}{strength}" if strength else ""


def _shaded(worst: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in worst:
        largest = max((abs(pull) for side in ("chosen", "rejected") for _, pull in row[side]), default=0.0)
        shown: dict[str, Any] = {"place": row["place"], "pull": signed(row["pull"])}
        for side in ("chosen", "rejected"):
            tokens = row[side][:_TOKENS]
            shown[side] = [(text, _shade(pull, largest), f"{pull:+.2g}") for text, pull in tokens]
            shown[f"{side}_more"] = len(row[side]) - len(tokens)
        found.append(shown)
    return found


def _worst_tokens(worst: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return the tokens of these rows that pull down most: text, sum of their pulls, and its two sides.

    A token that both responses have takes down on the one side most of what it takes up on the other.
    """
    sums: dict[str, dict[str, float]] = defaultdict(lambda: {"chosen": 0.0, "rejected": 0.0})
    for row in worst:
        for side in ("chosen", "rejected"):
            for text, pull in row[side]:
                sums[text][side] += pull
    down = sorted((sum(sides.values()), text) for text, sides in sums.items() if sum(sides.values()) < 0)
    return [
        (text, signed(total), signed(sums[text]["chosen"]), signed(sums[text]["rejected"]))
        for total, text in down[:_NAMED]
    ]


def _changes(summary: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table of changes."""

    def written(value: float, form: str) -> str:
        return "–" if value != value else format(value, form)

    return [
        [
            one["what"],
            *(signed(one[name]) for name in ("chosen", "rejected", "margin")),
            written(one["fall"], ".0%"),
            written(one["times"], ".2g"),
            *(signed(one[f"even_{name}"]) for name in ("chosen", "rejected")),
            written(one["even_fall"], ".0%"),
        ]
        for one in summary["changes"]
    ]


def page(
    summary: dict[str, Any],
    rows: pd.DataFrame,
    pairs: pd.DataFrame,
    ratios: pd.DataFrame,
    worst: list[dict[str, Any]],
) -> str:
    """Return the page.

    Args:
        summary, rows, pairs, ratios, worst: as in ``AuditReport``.
    """
    loader = Environment(
        loader=PackageLoader("entanglement.auditing", "."), autoescape=select_autoescape(default=True),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    noted = rows[rows["verdict"] != "ok"]
    rehearsed = summary["number"] is not None
    return loader.get_template("page.html.jinja").render(
        summary=summary,
        verdicts=[(name, n, VERDICTS[name]) for name, n in summary["verdicts"].items()],
        noted=[
            (place, verdict, _fitted(said, _TEXT))
            for place, verdict, said in noted[["place", "verdict", "said"]].head(_LISTED).to_numpy().tolist()
        ],
        more=max(len(noted) - _LISTED, 0),
        lead=lead(summary),
        run=of_run(summary).splitlines() if rehearsed else [],
        direction=of_direction(summary["direction"]),
        number=of_number(summary).splitlines() if rehearsed else [],
        own=of_geometry(summary),
        caution=caution(summary),
        plane=plane(pairs) if rehearsed else None,
        curve=curve(ratios, summary["number"]) if rehearsed else None,
        size=SIZE,
        shades=range(1, _SHADES + 1),
        worst=_shaded(worst),
        worst_tokens=_worst_tokens(worst),
        changes=_changes(summary),
        pairs=_cells(pairs) if rehearsed else None,
    )
