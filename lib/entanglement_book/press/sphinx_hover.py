"""Previews of what a link leads to: theorems, figures, equations, references, words of the glossary, pages.

``sphinx_tippy`` collects them and shows them; its scripts come from the book itself (``press.vendor``) and
ask nobody. Where they cannot be had, links are links, and one line says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entanglement.archive import DataError
from entanglement_book.press.vendor import HOVER, fetch_script, write_scripts

#: What is shown whole; other targets show their heading and first paragraph.
_WHOLE = "figure, table, div.admonition, div.proof, div.exercise, div.citation, p, aside"
_FOLDER = "hover"


def _configure(_app: Any, config: Any) -> None:
    config.tippy_enable_wikitips = config.tippy_enable_doitips = False
    config.tippy_enable_mathjax = True
    config.tippy_tip_selector = _WHOLE
    config.tippy_anchor_parent_selector = "article.bd-article"
    config.tippy_skip_anchor_classes = ("headerlink", "sd-stretched-link", "reference.external")
    config.tippy_js = tuple(f"{_FOLDER}/{script.file}" for script in HOVER)
    config.tippy_props = {"placement": "auto", "maxWidth": 480, "theme": "book", "delay": [250, 50]}


def _write(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        write_scripts(HOVER, Path(app.outdir) / "_static" / _FOLDER)
        for left in Path(app.outdir).glob("tippy_*_cache.json"):  # of hosts that are not asked
            left.unlink()


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    try:
        for script in HOVER:
            fetch_script(script)
    except DataError as error:
        print(f"no previews of links: {error}", flush=True)
    else:
        app.setup_extension("sphinx_tippy")
        app.connect("config-inited", _configure)
        app.connect("build-finished", _write, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
