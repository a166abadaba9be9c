"""Where things lie: the book's root, its chapters, and what a run may be asked for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

SCALES = ("smoke", "book", "paper")
#: The chapter that reads what all others recorded, so it runs last.
REPORT = "90"
#: Chapters known to be long, started first when no run has been timed yet.
HEAVY = ("08", "05")
_CHAPTER = re.compile(r"^(\d\d)_\w+$")


class UsageError(ValueError):
    """What the user asked for cannot be done as asked. Its text is one line; the command line exits with
    status 2.
    """


@dataclass(frozen=True)
class Settings:
    """The parameters of one run. ``seed`` and ``model`` are None where each notebook's own default holds."""

    scale: str = "book"
    seed: int | None = None
    model: str | None = None

    @property
    def label(self) -> str:
        """Name of the folder that holds this run's outputs, so that no run evicts another's."""
        parts = [self.scale]
        if self.seed is not None:
            parts.append(f"seed{self.seed}")
        if self.model is not None:
            parts.append(re.sub(r"[^A-Za-z0-9.-]+", "-", self.model))
        return "+".join(parts)

    @property
    def is_default(self) -> bool:
        """True if only the scale was chosen: only such runs decide verdicts."""
        return self.seed is None and self.model is None

    def parameters(self) -> dict[str, Any]:
        """What papermill may inject; a notebook receives those that its ``parameters`` cell declares."""
        chosen = {"scale": self.scale, "seed": self.seed, "model": self.model}
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class Book:
    """The folders of one checkout. ``out`` is where everything that is made goes (default ``_build``)."""

    root: Path
    out: Path

    @classmethod
    def find(cls, start: Path | None = None, out: Path | None = None) -> Book:
        """Find the book around ``start`` (default: the current folder, else where the library lies).

        Errors: UsageError.
        """
        tried = [start] if start else [Path.cwd(), Path(__file__)]
        for place in tried:
            for folder in (place.resolve(), *place.resolve().parents):
                if (folder / "_toc.yml").is_file() and (folder / "_config.yml").is_file():
                    return cls(folder, (out or folder / "_build").resolve())
        raise UsageError(
            f"no book at {tried[0]}: expected a folder with _toc.yml and _config.yml in it or above it"
        )

    @property
    def notebooks(self) -> Path:
        """The chapters' notebooks, without outputs."""
        return self.root / "notebooks"

    @property
    def library(self) -> Path:
        """The package that the chapters import."""
        return self.root / "lib" / "entanglement"

    @property
    def lock(self) -> Path:
        """The lock file."""
        return self.root / "requirements.lock"

    @property
    def ledger(self) -> Path:
        """The ledger of claims."""
        return self.root / "book" / "claims.yml"

    def verdicts(self, scale: str) -> Path:
        """The verdicts recorded at one scale."""
        return self.root / "book" / "verdicts" / f"{scale}.json"

    def executed(self, settings: Settings) -> Path:
        """Executed notebooks, their records and sidecars, for one run's parameters."""
        return self.out / "executed" / settings.label

    def working(self, settings: Settings) -> Path:
        """Notebooks being executed, and those left partly executed by an error."""
        return self.out / "running" / settings.label

    def stage(self, settings: Settings) -> Path:
        """The folder from which the site is built."""
        return self.out / "stage" / settings.label

    def site(self, settings: Settings) -> Path:
        """The built pages."""
        return self.out / "site" / settings.label

    def chapters(self) -> list[str]:
        """File stems of all chapters, in order: ``03_gradient_entanglement``, … ``90_…``."""
        return sorted(path.stem for path in self.notebooks.glob("*.ipynb") if _CHAPTER.match(path.stem))

    def notebook(self, chapter: str) -> Path:
        """The notebook of one chapter, as committed."""
        return self.notebooks / f"{chapter}.ipynb"

    def toc(self) -> dict[str, Any]:
        """The table of contents."""
        return yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))

    def missing_from_toc(self) -> list[str]:
        """What _toc.yml and notebooks/ do not agree on, one line each."""
        named = {
            name.removeprefix("notebooks/") for name in toc_files(self.toc()) if name.startswith("notebooks/")
        }
        present = set(self.chapters())
        return [
            f"_toc.yml names notebooks/{name}.ipynb, which is not there" for name in sorted(named - present)
        ] + [f"notebooks/{name}.ipynb is not in _toc.yml" for name in sorted(present - named)]


def toc_files(toc: dict[str, Any]) -> list[str]:
    """All file names in a table of contents, root first."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(str(node[key]) for key in ("root", "file") if key in node)
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(toc)
    return found


def is_report(chapter: str) -> bool:
    """True for the reproduction report."""
    return chapter.startswith(f"{REPORT}_")


def parse_scale(text: str | None, default: str = "book") -> str:
    """Check a scale."""
    if not text:
        return default
    if text not in SCALES:
        raise UsageError(f"unknown scale {text!r}: expected one of {', '.join(SCALES)}")
    return text


def parse_seed(text: str | None) -> int | None:
    """Check a seed. Negative ones are refused because NumPy refuses them."""
    if text is None or text == "":
        return None
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise UsageError(f"seed {text!r} is not allowed: expected a whole number from 0 to 999999999")
    return int(text)


def parse_jobs(text: str | None, default: int = 2) -> int:
    """Check a number of parallel notebooks."""
    if not text:
        return default
    if not re.fullmatch(r"\d{1,3}", text.strip()) or int(text) < 1:
        raise UsageError(f"jobs {text!r} is not allowed: expected a whole number from 1 to 999")
    return int(text)


def parse_only(text: str | None, chapters: list[str]) -> list[str]:
    """Chapters named by number (``08``, ``8``) or by file stem, comma separated; None or '' means all."""
    if not text:
        return list(chapters)
    chosen = []
    for name in (part.strip() for part in text.split(",")):
        found = [c for c in chapters if name == c or (name.isdigit() and name.zfill(2) == c[:2])]
        if not found:
            raise UsageError(
                f"unknown chapter {name!r}: expected {', '.join(c[:2] for c in chapters) or 'none yet'}"
            )
        chosen += [c for c in found if c not in chosen]
    return sorted(chosen)


def parse_model(text: str | None) -> str | None:
    """Check a model's name with the library's own check, which knows the ladder and whether a hub can be
    reached.
    """
    if not text or text == "nano":  # the default everywhere
        return None
    from entanglement.models import check_model_name  # late: it may import torch

    try:
        check_model_name(text)
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from None
    return text


def default_workspace() -> Path | None:
    """The folder with all chapters' outputs of the running scale, given to a notebook by the executor."""
    value = os.environ.get("ENTANGLEMENT_RUN_DIR")
    return Path(value) if value else None
