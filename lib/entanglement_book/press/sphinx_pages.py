"""What the pages need beyond myst-nb and sphinx-proof: a figure from another page, and the book's numbers.

``{glued-figure}`` shows a figure that a notebook of the book glued, on another page, with an alternative text
and a caption. myst-nb's own ``glue`` across pages knows neither, and no SVG::

    ```{glued-figure} /notebooks/NN_name.ipynb::fig-name
    :alt: What is seen, for a reader who cannot see it.
    :name: fig-front
    The caption.
    ```

Chapters are numbered by the whole table of contents (``press.numbering``), through all its parts, and keep
their numbers in a build from which pages were left out. Sphinx would begin anew in each part, and count what
is there. Figures, equations, theorems and exercises are numbered after their chapter ("3.1"), in the appendix
after its letter ("A.1").
"""

from __future__ import annotations

import posixpath
from base64 import b64decode
from pathlib import Path
from typing import Any, ClassVar

import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.ext.glue.crossref import read_glue_cache
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from entanglement.files import sha256
from entanglement_book.press.numbering import APPENDIX, numbers_of

_LOG = logging.getLogger(__name__)
_KINDS = {"image/svg+xml": ".svg", "image/png": ".png"}  # the first that the notebook glued is shown


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


class TrueMinus(SphinxPostTransform):
    """Gives the numbers that a notebook pasted into its text a minus sign in place of a hyphen."""

    default_priority = 400  # after myst-nb has put the numbers there
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace the signs of one page."""
        for pasted in list(self.document.findall(nodes.inline)):
            if "pasted-text" not in pasted["classes"]:
                continue
            for text in list(pasted.findall(nodes.Text)):
                if text.startswith("-"):
                    text.parent.replace(text, nodes.Text("\u2212" + text[1:]))


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
        name = f"{pending['key']}-{sha256(raw)[:12]}{_KINDS[kind]}"
        target = Path(builder.outdir) / builder.imagedir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)
        here = posixpath.dirname(builder.get_target_uri(self.env.docname)) or "."
        uri = posixpath.relpath(posixpath.join(builder.imagedir, name), here)
        return nodes.image(uri=uri, alt=pending["alt"], candidates={"*": uri})


def chapter_numbers(app: Any) -> dict[str, str]:
    """Return page → number: what the configuration says, else what ``_toc.yml`` beside it says."""
    if app.config.chapter_numbers is not None:
        return dict(app.config.chapter_numbers)
    toc = Path(app.srcdir) / "_toc.yml"
    return numbers_of(yaml.safe_load(toc.read_text(encoding="utf-8"))) if toc.is_file() else {}


def _number_chapters(_collector: TocTreeCollector, env: Any) -> list[str]:
    """Give the chapters' titles their numbers, and sections none; returns the pages that changed."""
    before, env.toc_secnumbers = env.toc_secnumbers, {}
    for page, number in chapter_numbers(env.app).items():
        if page not in env.tocs or number == APPENDIX:
            continue
        # An anchor without a number says that the section has none of its own.
        references = list(env.tocs[page].findall(nodes.reference))
        anchors = [reference["anchorname"] for reference in references if "anchorname" in reference]
        env.toc_secnumbers[page] = {anchor: () for anchor in anchors} | {"": (int(number),)}
        references[0]["secnumber"] = env.titles[page]["secnumber"] = [int(number)]
    return [page for page, found in env.toc_secnumbers.items() if found != before.get(page)]


def letter_appendix(app: Any, env: Any) -> None:
    """Number the figures, equations and boxes of the appendix A.1, A.2, …; called when all are numbered."""
    counts: dict[str, int] = {}
    for page in [page for page, number in chapter_numbers(app).items() if number == APPENDIX]:
        for kind, labels in env.toc_fignumbers.get(page, {}).items():
            for label in labels:
                counts[kind] = counts.get(kind, 0) + 1
                labels[label] = (APPENDIX, counts[kind])


def mend_markup(_app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Write two things as a screen reader understands them that Sphinx and docutils write otherwise: long
    signatures, which are definition lists without terms, and lists of references whose items are none.
    """
    body = context.get("body")
    if not isinstance(body, str) or ("<dl>" not in body and 'class="citation-list"' not in body):
        return
    soup = BeautifulSoup(body, "html.parser")
    for listed in soup.select("div.citation-list[role]"):
        del listed["role"]
    for lines in soup.select("dt.sig > dl"):
        lines.name = "div"
        for line in lines.find_all("dd", recursive=False):
            line.name, line["class"] = "div", "sig-line"
    context["body"] = str(soup)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", mend_markup)
    app.add_config_value("chapter_numbers", None, "env")
    app.add_node(PendingFigure)
    app.add_directive("glued-figure", GluedFigure)
    app.add_post_transform(ShowGluedFigures)
    app.add_post_transform(TrueMinus)
    # sphinx-external-toc puts a collector of its own in the place of Sphinx's.
    for collector in (TocTreeCollector, *TocTreeCollector.__subclasses__()):
        setattr(collector, "assign_section_numbers", _number_chapters)  # noqa: B010
    app.connect("env-check-consistency", letter_appendix)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}
