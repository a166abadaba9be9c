"""Docstrings of installed packages: text to pretrain on, and (body -> one-line summary) pairs.

A docstring's first paragraph is a human-written "TL;DR" of the rest. The packages are those that the lock
file pins (not the standard library, which changes with the Python version). Files are read with ``ast``;
nothing is imported. Licenses: NumPy, SciPy, scikit-learn, pandas and PyTorch BSD-3-Clause; Matplotlib its own
PSF-style license; Transformers Apache-2.0. The texts are read where they are installed and never copied into
this repository.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import inspect
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from entanglement.archive import DataError
from entanglement.files import sha256
from entanglement.pairs import PreferencePair

__all__ = ["PACKAGES", "Docstring", "corpus_hash", "read_docstrings", "tldr_pairs"]

PACKAGES: dict[str, str] = {  # import name -> distribution
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "pandas": "pandas",
    "matplotlib": "matplotlib",
    "torch": "torch",
    "transformers": "transformers",
}


@dataclass(frozen=True)
class Docstring:
    """One docstring: where it stands, its first paragraph on one line, and the rest."""

    package: str
    module: str
    name: str
    summary: str
    body: str

    @property
    def text(self) -> str:
        """The whole docstring."""
        return f"{self.summary}\n\n{self.body}" if self.body else self.summary


def _package_root(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"the package {package!r} is not installed; install requirements.lock.")
    return Path(spec.origin).parent


def _in_file(path: Path, package: str, module: str) -> Iterator[Docstring]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # invalid escapes in other people's strings are not ours to report
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            continue
        raw = ast.get_docstring(node, clean=False)
        if not raw:
            continue
        first, _, rest = inspect.cleandoc(raw).partition("\n\n")
        name = getattr(node, "name", "")
        yield Docstring(package, module, name, " ".join(first.split()), rest.strip())


def read_docstrings(packages: Sequence[str] = tuple(PACKAGES)) -> list[Docstring]:
    """Return every docstring of the packages, in a fixed order, without exact repetitions.

    Raises:
        ValueError: a package that is not in ``PACKAGES``.
        DataError: a package that is not installed.
    """
    found: list[Docstring] = []
    seen: set[str] = set()
    for package in packages:
        if package not in PACKAGES:
            raise ValueError(f"package {package!r}; expected one of {', '.join(PACKAGES)}.")
        root = _package_root(package)
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root.parent).with_suffix("")
            if "tests" in relative.parts or "_vendor" in relative.parts or "externals" in relative.parts:
                continue
            for docstring in _in_file(path, package, ".".join(relative.parts)):
                if docstring.text not in seen:
                    seen.add(docstring.text)
                    found.append(docstring)
    return found


def corpus_hash(docstrings: Sequence[Docstring]) -> str:
    """Return a SHA-256 over the texts read, so that a run can say which corpus it saw."""
    return sha256("".join(f"{docstring.text}\0" for docstring in docstrings))


def package_versions(packages: Sequence[str] = tuple(PACKAGES)) -> dict[str, str]:
    """Return the installed version of each package (without a local suffix such as ``+cpu``)."""
    found = {}
    for package in packages:
        try:
            found[package] = version(PACKAGES[package]).partition("+")[0]
        except PackageNotFoundError as error:
            raise DataError(
                f"the package {package!r} is not installed; install requirements.lock."
            ) from error
    return found


def _usable(docstring: Docstring) -> bool:
    words = docstring.summary.split()
    return (
        4 <= len(words) <= 24
        and docstring.summary.endswith(".")
        and len(docstring.body.split()) >= 20
        and not docstring.summary.startswith((">>>", ".. "))
    )


def _edited(summary: str, vocabulary: Sequence[str], rng: random.Random) -> str:
    """Replace one content word of a summary by a word of another summary: a near-copy that is wrong."""
    words = summary.split()
    places = [i for i, word in enumerate(words[:-1]) if len(word) > 3 and word.isalpha()]
    place = rng.choice(places) if places else 0
    if all(word == words[place] for word in vocabulary):
        raise ValueError(f"tldr_pairs: no other word to put for {words[place]!r}; too few docstrings.")
    while (word := rng.choice(vocabulary)) == words[place]:
        pass
    return " ".join([*words[:place], word, *words[place + 1 :]])


def tldr_pairs(
    kind: Literal["sibling", "edited"],
    split: Literal["train", "test"] = "train",
    *,
    n: int | None = None,
    seed: int = 0,
    packages: Sequence[str] = tuple(PACKAGES),
    docstrings: Sequence[Docstring] | None = None,
) -> list[PreferencePair]:
    """Return "TL;DR offline" pairs: prompt = a docstring's body, chosen = its true summary.

    Args:
        kind: what the rejected response is. "sibling": the summary of another object of the same module
            (lexically different). "edited": the true summary with one content word replaced (a near-copy).
        split: every tenth module is the test split, so that no module is in both.
        n: how many pairs, drawn without replacement with ``seed``; None for all.
        seed: of the draws.
        packages: which packages to read.
        docstrings: already read ones, to save the reading.

    Raises:
        ValueError: an unknown kind or split, more pairs than there are, or too few words to edit with.
    """
    if kind not in ("sibling", "edited"):
        raise ValueError(f"kind={kind!r}; expected 'sibling' or 'edited'.")
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}; expected 'train' or 'test'.")
    if n is not None and n < 1:
        raise ValueError(f"n={n}; expected at least 1, or None for all.")
    rows = [d for d in (docstrings if docstrings is not None else read_docstrings(packages)) if _usable(d)]
    modules = sorted({d.module for d in rows})
    held_out = set(modules[::10])
    rows = [d for d in rows if (d.module in held_out) == (split == "test")]
    by_module: dict[str, list[Docstring]] = {}
    for row in rows:
        by_module.setdefault(row.module, []).append(row)
    vocabulary = sorted({w for d in rows for w in d.summary.split() if len(w) > 3 and w.isalpha()})
    rng = random.Random(seed)
    if n is None or n < len(rows):
        rng.shuffle(rows)
    pairs: list[PreferencePair] = []
    for row in rows:
        if n is not None and len(pairs) == n:
            break
        if kind == "edited":
            rejected = _edited(row.summary, vocabulary, rng)
        else:
            # A sibling that says nearly the same would be a near-copy; those belong to the other kind.
            others = [
                d.summary
                for d in by_module[row.module]
                if difflib.SequenceMatcher(None, d.summary, row.summary).ratio() < 0.6
            ]
            if not others:
                continue
            rejected = rng.choice(others)
        name = f"{row.module}.{row.name}".rstrip(".")
        pairs.append(PreferencePair(f"{row.body}\n\nTL;DR:", f" {row.summary}", f" {rejected}", id=name))
    if n is not None and len(pairs) < n:
        raise ValueError(f"n={n}; only {len(pairs)} pairs of kind {kind!r} in the {split} split.")
    return pairs
