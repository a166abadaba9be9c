"""Libraries of others that the pages' scripts use: fetched from npm, checked, kept in the cache.

They are small, have no parts of their own to fetch, and are put beside the pages: a reader's browser asks no
other host. npm does the download, so the machine's own registry is asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from entanglement.archive import DataError, cache_dir, keep, read_tar_member
from entanglement.files import write_whole

__all__ = ["HOVER", "REVEAL", "SCRIPTS", "Script", "fetch_script", "write_scripts"]


@dataclass(frozen=True)
class Script:
    """One package of npm.

    Attributes:
        name, version: of the package.
        integrity: the archive's SHA-512, in base64, as npm writes it.
        path: end of the script's path in the archive; by default ``dist/NAME.min.js``.
        license: name of the license's file.
        more: ends of further paths in the archive.
    """

    name: str
    version: str
    integrity: str
    path: str = ""
    license: str = "LICENSE"
    more: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The package's name without what a file's name cannot have."""
        return self.name.removeprefix("@").replace("/", "-")

    @property
    def member(self) -> str:
        """End of the script's path in the archive."""
        return self.path or f"dist/{self.name}.min.js"

    @property
    def file(self) -> str:
        """Name of its script, made small."""
        return PurePosixPath(self.member).name


#: In the order in which a page loads them; each adds to one object, ``d3``.
SCRIPTS = (
    Script(
        "d3-dispatch",
        "3.0.1",
        "rzUyPU/S7rwUflMyLc1ETDeBj0NRuHKKAcvukozwhshr6g6c5d8zh4c2gQjY2bZ0dXeGLWc1PF174P2tVvKhfg==",
    ),
    Script(
        "d3-selection",
        "3.0.0",
        "fmTRWbNMmsmWq6xJV8D19U/gw/bwrHfNXxrIN+HfZgnzqTHp9jOmKMhsTUjXOJnZOdZY9Q28y4yebKzqDKlxlQ==",
    ),
    Script(
        "d3-drag",
        "3.0.0",
        "pWbUJLdETVA8lQNJecMxoXfH6x+mO2UQo8rSmZ+QqxcbyA3hfeprFgIT//HW2nlHChWeIIMwS2Fq+gEARkhTkg==",
    ),
)

#: Hover previews of references: where a box has room, and the box.
HOVER = (
    Script(
        "@popperjs/core",
        "2.11.8",
        "P1st0aksCrn9sGZhp8GMYwBnQsbvAWsZAX44oXNNvLHGqAOcoVxmjZiohstwQ7SqKnbR47akdNi+uleWD8+g6A==",
        path="dist/umd/popper.min.js",
        license="LICENSE.md",
    ),
    Script(
        "tippy.js",
        "6.3.7",
        "E1d3oP2emgJ9dRQZdf3Kkn0qJgI6ZLpyS5z6ZkY1DF3kaQaBsGZsndEpHwx+eC+tYM41HaSNvNtLx8tU57FzTQ==",
        path="dist/tippy-bundle.umd.min.js",
    ),
)

#: Slides.
REVEAL = Script(
    "reveal.js",
    "6.0.2",
    "JYIg5D9aoxoaLeb84O+OvAwsKWdIavVgEDScxtYEXFCT6t6TQrhNtSgogcjdCpdLsWglhJn3zyE3fUOwiH5KEg==",
    path="dist/reveal.js",
    more=("dist/reveal.css", "dist/plugin/notes.js"),
)


def write_scripts(scripts: Iterable[Script], folder: Path) -> None:
    """Put scripts and their licenses into a folder.

    Raises:
        DataError: one could not be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for script in scripts:
        for name, data in fetch_script(script).items():
            write_whole(folder / name, data)


def _npm_pack(requirement: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", requirement, "--silent", "--pack-destination", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(
                f"{requirement} was not downloaded: npm did not run ({type(error).__name__})."
            ) from None
        found = sorted(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(found) != 1:
            reason = (done.stderr.strip().splitlines() or ["npm gave no file"])[-1]
            raise DataError(f"{requirement} was not downloaded by npm ({reason}).")
        return found[0].read_bytes()


def fetch_script(script: Script, download: Callable[[str], bytes] = _npm_pack) -> dict[str, bytes]:
    """Return a script and its license by file name, from the cache or from npm.

    Args:
        script: which.
        download: "name@version" → the archive; tests put their own here.

    Raises:
        DataError: it could not be had, or what arrived is not what was published.
    """
    cached = cache_dir() / "npm" / f"{script.key}-{script.version}.tgz"
    archive = b""
    with contextlib.suppress(OSError):
        archive = cached.read_bytes()
    if _integrity(archive) != script.integrity:
        archive = download(f"{script.name}@{script.version}")
        if _integrity(archive) != script.integrity:
            raise DataError(
                f"{script.name} {script.version}: the archive is not the published one; nothing was kept."
            )
        keep(cached, archive)
    return {
        **{PurePosixPath(path).name: read_tar_member(archive, path) for path in script.more},
        script.file: read_tar_member(archive, script.member),
        f"{script.key}.LICENSE": read_tar_member(archive, f"package/{script.license}"),
    }


def _integrity(archive: bytes) -> str:
    return b64encode(hashlib.sha512(archive).digest()).decode()
