"""Where something was computed: the repository, its commit, the machine and the versions of packages."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

__all__ = ["commit", "machine", "repository", "today", "versions"]


def repository() -> Path:
    """Return the repository's root: the nearest folder upwards that holds book/results, else this file's.

    Raises:
        FileNotFoundError: there is none.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parents[2]):
        for folder in (start, *start.parents):
            if (folder / "book" / "results").is_dir() and (folder / "lib" / "entanglement").is_dir():
                return folder
    raise FileNotFoundError(
        "no folder with book/results above the working directory; run this in a checkout."
    )


def commit(root: Path) -> str:
    """Return the hash of the commit that is checked out; "" where that is not known."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=root
        )
    except OSError:  # no git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, str]:
    """Return what decides whether floating-point results repeat exactly: processor, PyTorch, system."""
    import torch

    from entanglement.models import chosen_device

    device = chosen_device()
    on = {} if device.type == "cpu" else {"device": torch.cuda.get_device_name(device)}
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        wanted = ("model name", "cpu family", "model")
        lines = [line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line]
        found = {key.strip(): value.strip() for key, value in reversed(lines) if key.strip() in wanted}
        processor = ", ".join(f"{key} {found[key]}" for key in wanted if key in found) or processor
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
        "system": f"{platform.system()} {platform.machine()}",
        **on,
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages, without what a build adds to them."""
    return {name: version(name).partition("+")[0] for name in packages}


def today() -> str:
    """Return the date, in UTC."""
    return datetime.now(UTC).date().isoformat()
