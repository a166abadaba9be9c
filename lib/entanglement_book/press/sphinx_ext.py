"""A Sphinx extension: MathJax from the book itself, only the parts that pages load; and ``sphinx_pages``.

The package sphinx-mathjax-offline carries MathJax 3 (24 MB) and copies all of it; pages need the one bundle,
the fonts and the TeX extensions that it loads on demand (3 MB).
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

_NEEDED = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions")


def mathjax_folder() -> Path:
    """Where the package keeps MathJax. Errors: RuntimeError if it is not installed."""
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise RuntimeError(
            "the package sphinx-mathjax-offline is not installed: pip install -r requirements.lock"
        )
    return Path(found.origin).parent / "static" / "mathjax"


def copy_mathjax(target: Path) -> None:
    """Copy the parts of MathJax that pages load into a folder."""
    for name in _NEEDED:
        source = mathjax_folder() / name
        if source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)


def _copy_mathjax(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        copy_mathjax(Path(app.outdir) / "_static" / "mathjax")


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("build-finished", _copy_mathjax)
    app.setup_extension("entanglement_book.press.sphinx_pages")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
