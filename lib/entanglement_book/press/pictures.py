"""Pictures that keep no reader waiting: those further down are loaded when they come near."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

from entanglement.files import write_whole
from entanglement_book.press.problems import pages_in

__all__ = ["load_when_near"]

_IMAGE = re.compile(r"<img\b[^>]*>")
_SOURCE = re.compile(r'\bsrc="([^"#?]+)')
_OPENING = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'\b(width|height)="([0-9.]+)(pt|px|)"')


@cache
def _size(path: Path) -> dict[str, int]:
    """The width and height of an SVG in pixels; {} for another picture, or one that does not say."""
    if path.suffix != ".svg" or not path.is_file():
        return {}
    opening = _OPENING.search(path.read_text(encoding="utf-8")[:4000])
    found = _SIZE.findall(opening[0]) if opening else []
    sizes = {name: round(float(value) * (96 / 72 if unit == "pt" else 1)) for name, value, unit in found}
    return sizes if len(sizes) == 2 else {}


def _mended(page: str, folder: str, site: Path) -> str:
    seen = 0

    def change(found: re.Match[str]) -> str:
        nonlocal seen
        tag, source = found[0], _SOURCE.search(found[0])
        if source is None or "loading=" in tag:
            return tag
        more = "" if seen == 0 else ' loading="lazy"'
        seen += 1
        if "width=" not in tag and "height=" not in tag:
            path = site / posixpath.normpath(posixpath.join(folder, source[1]))
            more += "".join(f' {name}="{value}"' for name, value in _size(path).items())
        return f"<img{more}{tag[4:]}"

    return _IMAGE.sub(change, page)


def load_when_near(site: Path) -> None:
    """Change the pages of a site: all pictures but a page's first are loaded when they come near the window,
    and SVGs say how large they are, so that nothing jumps when they come.
    """
    for name in pages_in(site):
        path = site / name
        text = path.read_text(encoding="utf-8")
        mended = _mended(text, posixpath.dirname(name), site)
        if mended != text:
            write_whole(path, mended)
