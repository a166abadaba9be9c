"""Labs: small interactive figures in the page, in the place of a still one.

``{lab} NAME`` names a script of ``book/_static/labs`` and holds the still figure, which is all that a reader
without JavaScript, a printout or another format shows::

    ```{lab} ratio
    :data: /notebooks/NN_name.ipynb::lab-ratio
    (the still figure)
    ```

``:data:`` is what a notebook pasted by ``put_data``, or JSON that is written out. It stands in the page
itself, as the scripts stand beside it, so that a page opened from disk works. Only pages with a lab load
anything. If the libraries that the labs use cannot be had, the still figures stay, and one line says so.

``{guess}`` asks for a number before a figure is shown, and then shows both::

    ```{guess} fig-name
    :found: a_name_that_put_has_pasted
    :low: -2
    :high: 2
    :unit: nats
    How far does the chosen answer move?
    ```

What was found is the pasted number, with its interval if it has one. Without JavaScript the question stands
before the figure, and the figure is there.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.ext.glue.crossref import read_glue_cache
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from entanglement.archive import DataError
from entanglement_book.press.vendor import SCRIPTS, fetch_script, write_scripts

__all__ = ["COMMON"]

_LOG = logging.getLogger(__name__)
#: Scripts of every lab, in the order in which a page loads them; a lab's own comes before the last.
COMMON = ("geometry.js", "losses.js", "model.js", "parts.js")
_LAST = "labs.js"


class LabNode(nodes.General, nodes.Element):
    """A lab around its still figure."""


class Lab(SphinxDirective):
    """The directive ``{lab} name``."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"data": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Return a node that holds the still figure."""
        name = self.arguments[0]
        found = [Path(self.env.srcdir) / folder / "labs" / f"{name}.js" for folder in self._static()]
        if not any(path.is_file() for path in found):
            raise self.error(f"lab: there is no script for {name!r} among the labs")
        lab = LabNode(lab=name, given=self.options.get("data", "{}"), page=self.env.docname)
        path, separator, _ = lab["given"].partition("::")
        if separator:
            _, file = self.env.relfn2path(path, self.env.docname)
            lab["page"] = self.env.path2doc(file) or path
        self.set_source_info(lab)
        self.state.nested_parse(self.content, self.content_offset, lab)
        return [lab]

    def _static(self) -> list[str]:
        return list(self.env.config.html_static_path)


class GuessNode(LabNode):
    """A question before a figure."""


class Guess(SphinxDirective):
    """The directive ``{guess} figure``."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "found": directives.unchanged_required,
        "low": float,
        "high": float,
        "unit": directives.unchanged_required,
        "digits": directives.nonnegative_int,
    }

    def run(self) -> list[nodes.Node]:
        """Return a node that holds the question."""
        if missing := [name for name in ("found", "low", "high", "unit") if name not in self.options]:
            raise self.error(f"guess: {', '.join(missing)} must be said")
        low, high = self.options["low"], self.options["high"]
        if not low < high:
            raise self.error(f"guess: low={low:g}, high={high:g}; expected low below high")
        asked = {"low": low, "high": high, "unit": self.options["unit"], "figure": self.arguments[0]}
        asked["digits"] = self.options.get("digits", 2)
        asked["axis"] = 0 if (high - low) % 4 == 0 else min(asked["digits"], 2)
        node = GuessNode(lab="guess", found=self.options["found"], page=self.env.docname, asked=asked)
        self.set_source_info(node)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


class FillLabs(SphinxPostTransform):
    """Puts each lab's data beside it."""

    default_priority = 6
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Read the data of one page's labs."""
        for lab in self.document.findall(LabNode):
            try:
                lab["data"] = self._asked(lab) if isinstance(lab, GuessNode) else self._shown(lab)
            except (KeyError, ValueError) as error:
                lab["data"] = None
                _LOG.warning(
                    "lab %r has no data: %s", lab["lab"], error, location=lab, type="labs", subtype="data"
                )

    def _shown(self, lab: LabNode) -> Any:
        _, separator, key = lab["given"].partition("::")
        return json.loads(self._text(lab["page"], key) if separator else lab["given"])

    def _asked(self, node: GuessNode) -> Any:
        """Return what a guess needs; None where this run has no such number."""
        name = node["found"]
        middle = float(self._text(node["page"], name))
        ends: list[float | None] = [None, None]
        with suppress(KeyError):
            ends = [float(self._text(node["page"], name + end)) for end in ("_low", "_high")]
        if not math.isfinite(middle):
            return None
        known = all(end is not None and math.isfinite(end) for end in ends)
        return {**node["asked"], "found": [middle, *(ends if known else [None, None])]}

    def _text(self, page: str, key: str) -> str:
        folder = self.env.mystnb_config.output_folder  # type: ignore[attr-defined]
        found = read_glue_cache(str(folder), page).get(key, {}).get("data", {})
        if "text/plain" not in found:
            raise KeyError(f"{page} pasted nothing as {key!r}")
        return str(found["text/plain"])


def _visit(writer: Any, node: LabNode) -> None:
    live = node.get("data") is not None and bool(writer.builder.config.labs)
    # A lab without data, or without its libraries, is its figure and nothing else.
    writer.body.append(f'<div class="lab" data-lab="{node["lab"]}">' if live else '<div class="lab">')
    if live:
        text = json.dumps(node["data"], ensure_ascii=False).replace("<", "\\u003c")
        writer.body.append(f'<script type="application/json" class="lab-data">{text}</script>')
    writer.body.append('<div class="lab-still">')


def _depart(writer: Any, _node: LabNode) -> None:
    writer.body.append("</div></div>")


def _load(app: Any, _page: str, _template: str, _context: Any, doctree: nodes.document | None) -> None:
    """Let a page load the scripts of its labs."""
    labs = [] if doctree is None else sorted({lab["lab"] for lab in doctree.findall(LabNode)})
    if not labs or not app.config.labs:
        return
    names = [f"vendor/{script.file}" for script in SCRIPTS] + [
        *COMMON,
        *(f"{lab}.js" for lab in labs),
        _LAST,
    ]
    app.add_css_file("labs/labs.css")
    for place, name in enumerate(names):
        app.add_js_file(f"labs/{name}", priority=800 + place, loading_method="defer")


def _fetch(app: Any) -> None:
    """Get the libraries, or say that the labs stay still."""
    if app.builder.format != "html" or not app.config.labs:
        return
    try:
        for script in SCRIPTS:
            fetch_script(script)
    except DataError as error:
        app.config.labs = False
        print(f"labs stay still figures: {error}", flush=True)


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html" or not app.config.labs:
        return
    write_scripts(SCRIPTS, Path(app.outdir) / "_static" / "labs" / "vendor")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("labs", True, "html")
    still = (lambda writer, node: None, lambda writer, node: None)
    for node in (LabNode, GuessNode):
        app.add_node(node, html=(_visit, _depart), latex=still, text=still, man=still)
    app.add_directive("lab", Lab)
    app.add_directive("guess", Guess)
    app.add_post_transform(FillLabs)
    app.connect("builder-inited", _fetch)
    app.connect("html-page-context", _load)
    app.connect("build-finished", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
