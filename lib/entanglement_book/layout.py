"""Where things lie: the book's root, its chapters, and what a run may be asked for."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from entanglement.files import digest, known_sha256

SCALES = ("smoke", "book", "paper")
#: The chapter that reads what all others recorded, so it runs last.
REPORT = "90"
#: Chapters known to be long, the longest first: they are started first, so that none is left for the end.
HEAVY = ("17", "02", "13", "09", "01")
#: Stands for a cluster of this machine's processes, which ends with the command.
LOCAL = "local"
#: Seconds that the scheduler of another cluster has to answer.
PATIENCE = 5
_ADDRESS = re.compile(r"(?:(?:tcp|tls)://)?(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>[0-9]{1,5})")
_CHAPTER = re.compile(r"^(\d\d)_\w+$")


class BookError(ValueError):
    """A file of the book is damaged, missing or cannot be written. The text is one line that names it and
    says what to do; the command line shows it and exits with status 1.
    """


class UsageError(BookError):
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
            parts.append(model_label(self.model))
        return "+".join(parts)

    @property
    def is_default(self) -> bool:
        """True if only the scale was chosen: only such runs decide verdicts."""
        return self.seed is None and self.model is None

    def parameters(self) -> dict[str, Any]:
        """What papermill may inject; a notebook receives those that its ``parameters`` cell declares."""
        chosen = {"scale": self.scale, "seed": self.seed, "model": self.model}
        return {name: value for name, value in chosen.items() if value is not None}

    def model_digest(self) -> str:
        """A hash of what is in the model's folder, or '' if the model is none: its name says all then."""
        return "" if self.model is None else folder_digest(self.model)


def model_label(model: str) -> str:
    """A model's part in the names of folders: two models never share one, wherever they lie."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", model.rpartition(os.sep)[2])
    # Nor does a model called seed1 share that of a seed, or one called as another's label is.
    own = plain == model and not re.fullmatch(r"seed\d+|.*-[0-9a-f]{8}", plain)
    return plain if own else f"{plain}-{digest(model)[:8]}"


def folder_digest(model: str) -> str:
    """A hash of the files of a model that lies in a folder; '' for a name."""
    folder = Path(model)
    if not folder.is_absolute() or not folder.is_dir():  # parse_model gives full paths
        return ""
    from entanglement.models import model_files  # late: it imports torch

    return digest({path.relative_to(folder).as_posix(): known_sha256(path) for path in model_files(folder)})


@dataclass(frozen=True)
class Book:
    """The folders of one checkout.

    Attributes:
        root: of the checkout.
        out: where everything that is made goes (default ``_build``).
        edition: of the pages: "" or "student", which has no solutions.
    """

    root: Path
    out: Path
    edition: str = ""

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
        return self.out / "stage" / self._pages(settings)

    def site(self, settings: Settings) -> Path:
        """The built pages."""
        return self.out / "site" / self._pages(settings)

    def lock_of_site(self, settings: Settings) -> Path:
        """The file that a build of the pages holds, so that another one is refused."""
        return self.out / "site" / f".{self._pages(settings)}.lock"

    def _pages(self, settings: Settings) -> str:
        return f"{settings.label}-{self.edition}" if self.edition else settings.label

    def chapters(self) -> list[str]:
        """File stems of all notebooks, by number: ``03_gradient_entanglement``, … ``90_…``."""
        return sorted(path.stem for path in self.notebooks.glob("*.ipynb") if _CHAPTER.match(path.stem))

    def notebook(self, chapter: str) -> Path:
        """The notebook of one chapter, as committed."""
        return self.notebooks / f"{chapter}.ipynb"

    def toc(self) -> dict[str, Any]:
        """The table of contents. Errors: BookError."""
        return _yaml(self.root / "_toc.yml", "root")

    def config(self) -> dict[str, Any]:
        """The settings of Jupyter Book. Errors: BookError."""
        return _yaml(self.root / "_config.yml")

    def order(self) -> list[str]:
        """The chapters in the order in which ``_toc.yml`` names them. Errors: BookError."""
        named = [name for name in toc_files(self.toc()) if name.startswith("notebooks/")]
        return [name.removeprefix("notebooks/") for name in named]

    def disagreements(self) -> list[str]:
        """What _toc.yml and notebooks/ do not agree on, one line each: files, and their numbers' order."""
        named, present = self.order(), set(self.chapters())
        lines = [
            f"_toc.yml names notebooks/{name}.ipynb, which is not there"
            for name in sorted(set(named) - present)
        ]
        lines += [f"notebooks/{name}.ipynb is not in _toc.yml" for name in sorted(present - set(named))]
        for before, after in pairwise(named):
            if number_of(after) <= number_of(before):
                lines.append(
                    f"_toc.yml names notebooks/{after}.ipynb after notebooks/{before}.ipynb: "
                    "the numbers of files must rise in its order"
                )
        return lines


def _yaml(path: Path, key: str | None = None) -> dict[str, Any]:
    """Read a YAML file that holds a mapping (with ``key``, if given)."""
    todo = "mend it, or fetch it back with: git checkout -- " + path.name
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BookError(f"{path.name} cannot be read ({one_line(error)}): {todo}") from None
    if not isinstance(content, dict) or (key is not None and key not in content):
        wanted = "a mapping" + (f" with the key {key!r}" if key else "")
        raise BookError(f"{path.name} holds no {wanted.removeprefix('a ')}: {todo}")
    return content


def one_line(error: BaseException) -> str:
    """What an error says, in one line; its kind, if it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def number_of(chapter: str) -> str:
    """The number with which a chapter's file name begins: ``08``."""
    return chapter.partition("_")[0]


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
    return number_of(chapter) == REPORT


def place_by_length(chapter: str) -> int:
    """Where a chapter stands among those that are known to be long; those that are not stand behind them."""
    number = number_of(chapter)
    return HEAVY.index(number) if number in HEAVY else len(HEAVY)


def parse_scale(text: str | None, default: str = "book") -> str:
    """Check a scale."""
    if text is None:
        return default
    if text not in SCALES:
        raise UsageError(f"unknown scale {text!r}: expected one of {', '.join(SCALES)}")
    return text


def parse_seed(text: str | None) -> int | None:
    """Check a seed. Negative ones are refused because NumPy refuses them."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"seed {text!r} is not allowed: expected a whole number from 0 to 999999999")
    return int(text)


def parse_jobs(text: str | None, default: int = 2) -> int:
    """Check a number of parallel notebooks."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) < 1:
        raise UsageError(f"jobs {text!r} is not allowed: expected a whole number from 1 to 999")
    return int(text)


def parse_port(text: str) -> int:
    """Check a port on which pages are served."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise UsageError(f"port {text!r} is not allowed: expected a whole number up to 65535")
    return int(text)


def parse_scheduler(text: str) -> str:
    """Check the address of a scheduler of Dask's, and that something listens there."""
    found = _ADDRESS.fullmatch(text)
    if text != LOCAL and (found is None or not 0 < int(found["port"]) < 65536):
        raise UsageError(f"--scheduler {text!r}: expected {LOCAL}, or an address such as tcp://host:8786")
    if found is not None:
        try:
            where = (found["host"].strip("[]"), int(found["port"]))
            socket.create_connection(where, PATIENCE).close()
        except OSError as error:
            raise UsageError(f"--scheduler {text!r}: nothing answers there ({one_line(error)})") from None
    return text


def parse_only(text: str | None, chapters: list[str]) -> list[str]:
    """Chapters named by number (``08``, ``8``), by file stem or by what follows its number, comma separated;
    None means all.
    """
    if text is None:
        return list(chapters)
    chosen: list[str] = []
    for name in (part.strip() for part in text.split(",")):
        found = [c for c in chapters if name in (c, *c.split("_", 1)) or _same_number(name, number_of(c))]
        if not found:
            known = ", ".join(number_of(c) for c in chapters) or "none yet"
            raise UsageError(f"unknown chapter {name!r}: expected some of {known}, separated by commas")
        if set(found) & set(chosen):
            raise UsageError(f"chapter {name!r} is named twice")
        chosen += found
    return sorted(chosen)


def _same_number(name: str, number: str) -> bool:
    return bool(re.fullmatch(r"[0-9]+", name)) and name.zfill(len(number)) == number


def parse_model(text: str | None) -> str | None:
    """Check a model before anything starts; a folder is looked into and returned with its full path.

    Notebooks run in a folder of their own, so a relative one would mean another there. A name is checked by
    ``entanglement.models``, which knows the ladder and whether a hub can be reached.
    """
    if text is None or text == "nano":  # the default everywhere
        return None
    from entanglement.models import check_model_folder, check_model_name  # late: it imports torch

    known = text in known_models()
    try:
        if not known and text and Path(text).exists():
            check_model_folder(text)
            return str(Path(text).resolve())
        check_model_name(text)
    except (ValueError, OSError) as error:
        raise UsageError(one_line(error)) from None
    return text


def known_models() -> list[str]:
    """The names of the ladder's models."""
    from entanglement.models import MODELS

    return list(MODELS)


def default_workspace() -> Path | None:
    """The folder with all chapters' outputs of the running scale, given to a notebook by the executor."""
    value = os.environ.get("ENTANGLEMENT_RUN_DIR")
    return Path(value) if value else None
