"""Text in figures reads on a light page and on a dark one.

A figure is drawn once, in colors of middle lightness that lines and marks can have on either ground. Text
needs more contrast than such a color can have on both. So each color of a text becomes two, as dark or as
light as it has to be, and the picture asks the page which of them it is to show.
"""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["AIM", "GROUNDS", "LEAST", "ON_CELLS", "adapt", "contrast", "readable"]

#: The page's ground in each color scheme (``book/_static/custom.css``).
GROUNDS = {"light": "#ffffff", "dark": "#14181d"}
#: Least contrast of text, by WCAG 2.2 (AA), and what is aimed at, since panels have grounds of their own.
LEAST, AIM = 4.5, 5.5
#: Of text that stands on a colored cell of a map, which is the same on either page.
ON_CELLS = {"#000000", "#202020", "#222222", "#ffffff"}
# Matplotlib's texts are groups of glyphs, scaled to their size and turned upright.
_TEXT = re.compile(r'<g style="fill: (#[0-9a-f]{6})([^"]*)" (transform="[^"]*scale\([0-9.]+ -[0-9.]+\)")')


def _channels(color: str) -> tuple[float, ...]:
    return tuple(int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))


def _luminance(color: str) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in _channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colors "#rrggbb", from 1 to 21, as WCAG defines it."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def readable(color: str, ground: str) -> str:
    """Return a color with as much black or white in it as text on a ground needs, and no more.

    Args:
        color, ground: "#rrggbb".
    """
    end = 0.0 if _luminance(ground) > 0.5 else 1.0
    for part in range(101):
        mixed = [round(255 * (v + (end - v) * part / 100)) for v in _channels(color)]
        found = "#" + "".join(f"{v:02x}" for v in mixed)
        if contrast(found, ground) >= AIM:
            break
    return found


def adapt(svg: str, schemes: Collection[str] = tuple(GROUNDS)) -> str:
    """Return a figure of matplotlib whose texts have a color for each scheme; other pictures as they are.

    Args:
        svg: of the figure.
        schemes: "light", and "dark" where the picture may stand on a dark page.
    """
    colors = sorted({color for color, _, _ in _TEXT.findall(svg)} - ON_CELLS)
    if not colors:
        return svg

    def named(match: re.Match[str]) -> str:
        color, more, place = match.groups()
        if color not in colors:
            return match.group()
        # The first declaration is for readers that know no variables.
        return f'<g style="fill: {color}; fill: var(--text-{color[1:]}){more}" {place}'

    sets = {
        scheme: "".join(f"--text-{color[1:]}:{readable(color, ground)};" for color in colors)
        for scheme, ground in GROUNDS.items()
    }
    dark = f"@media(prefers-color-scheme:dark){{svg{{{sets['dark']}}}}}" if "dark" in schemes else ""
    style = f"<style>svg{{{sets['light']}}}{dark}</style>"
    opening = re.search(r"<svg\b[^>]*>", svg)
    assert opening is not None
    return svg[: opening.end()] + style + _TEXT.sub(named, svg[opening.end() :])
