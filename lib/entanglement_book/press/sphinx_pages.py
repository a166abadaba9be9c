"""What the pages need beyond myst-nb and sphinx-proof: a figure from another page, and fixed theorem numbers.

``{glued-figure}`` shows a figure that a notebook of the book glued, on another page, with an alternative text
and a caption. myst-nb's own ``glue`` across pages knows neither, and no SVG::

    ```{glued-figure} /notebooks/08_sentiment_gpt2.ipynb::fig-08-main
    :alt: What is seen, for a reader who cannot see it.
    :name: fig-front
    The caption.
    ```

sphinx-proof numbers boxes in reading order. The library's docstrings and tests call theorems by fixed
numbers, so those are given here, by label, and a chapter that is added or left out changes none of them.
"""

from __future__ import annotations

import hashlib
import posixpath
from base64 import b64decode
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.ext.glue.crossref import read_glue_cache
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

_LOG = logging.getLogger(__name__)
_KINDS = {"image/svg+xml": ".svg", "image/png": ".png"}  # the first that the notebook glued is shown

#: Label of a box → its number, in the chapters, in the proofs, in docstrings and in tests.
THEOREM_NUMBERS = {
    "thm-band": "0",
    "thm-one-token": "1",
    "thm-features": "1′",
    "thm-prefix-tabular": "2",
    "thm-position-tabular": "3",
    "thm-prefix-weights": "4",
    "thm-same-target": "5",
    "thm-suffix-growth": "6",
    "thm-suffix-signs": "7",
    "thm-no-fourth": "8",
    "thm-norms": "9",
    "thm-flow": "10",
    "thm-step": "11",
    "thm-frozen": "12",
    "thm-ghost": "13",
    "thm-tilt": "14",
    "thm-normalized": "15",
    "thm-requests": "16",
}


class PendingFigure(nodes.General, nodes.Element):
    """Stands where a glued figure will be once all pages have been read."""


class GluedFigure(SphinxDirective):
    """The directive ``{glued-figure} path::key``."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "alt": directives.unchanged_required,
        "name": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return a figure with a placeholder in it."""
        path, separator, key = self.arguments[0].partition("::")
        if not separator or not self.options.get("alt"):
            raise self.error(
                f"glued-figure: got {self.arguments[0]!r}; expected PATH::KEY and the option :alt:"
            )
        _, file = self.env.relfn2path(path, self.env.docname)
        figure = nodes.figure("")
        self.set_source_info(figure)
        pending = PendingFigure(refdoc=self.env.path2doc(file) or path, key=key, alt=self.options["alt"])
        self.set_source_info(pending)
        figure += pending
        if self.content:
            parsed = nodes.Element()
            self.state.nested_parse(self.content, self.content_offset, parsed)
            figure += nodes.caption("", "", *parsed[0].children)
        self.add_name(figure)
        return [figure]


class ShowGluedFigures(SphinxPostTransform):
    """Puts the figures in their places."""

    default_priority = 5
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace every placeholder of one page."""
        for pending in list(self.document.findall(PendingFigure)):
            pending.replace_self(self._shown(pending))

    def _shown(self, pending: PendingFigure) -> nodes.Node:
        folder = self.env.mystnb_config.output_folder  # type: ignore[attr-defined]
        data = read_glue_cache(str(folder), pending["refdoc"]).get(pending["key"], {}).get("data", {})
        kind = next((kind for kind in _KINDS if kind in data), None)
        if kind is None:
            _LOG.warning(
                "no figure %r was glued by %r",
                pending["key"],
                pending["refdoc"],
                location=pending,
                type="mystnb",
                subtype="glue_ref",
            )
            text = f"This figure is made by {pending['refdoc']}, which has no output in this build."
            return nodes.paragraph(text, text)
        raw = data[kind].encode() if kind == "image/svg+xml" else b64decode(data[kind])
        builder: Any = self.app.builder
        name = f"{pending['key']}-{hashlib.sha256(raw).hexdigest()[:12]}{_KINDS[kind]}"
        target = Path(builder.outdir) / builder.imagedir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)
        here = posixpath.dirname(builder.get_target_uri(self.env.docname)) or "."
        uri = posixpath.relpath(posixpath.join(builder.imagedir, name), here)
        return nodes.image(uri=uri, alt=pending["alt"], candidates={"*": uri})


def fix_theorem_numbers(_app: Any, env: Any) -> None:
    """Give the boxes of ``THEOREM_NUMBERS`` their numbers; called when all pages have been numbered."""
    for by_kind in env.toc_fignumbers.values():
        for boxes in by_kind.values():
            for label in boxes.keys() & THEOREM_NUMBERS.keys():
                boxes[label] = (THEOREM_NUMBERS[label],)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_node(PendingFigure)
    app.add_directive("glued-figure", GluedFigure)
    app.add_post_transform(ShowGluedFigures)
    app.connect("env-check-consistency", fix_theorem_numbers)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
