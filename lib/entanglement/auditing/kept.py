"""Finished parts of an audit, kept in a folder until its report is written.

An audit that was killed goes on from there: a part that is on the disk is read and not computed again, and
the report has the same bytes as that of an audit that ran through. Parts of another model, other data or
other options lie in another folder and are never read.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from entanglement.files import digest, read_text, sha256, whole_folder, write_whole

__all__ = ["PARTIAL", "Kept", "fingerprint", "forget"]

#: Name of the folder, inside the one that gets the report.
PARTIAL = ".partial"
#: How the folders of audits are called. Nothing else is ever removed.
_OURS = re.compile(r"audit-[0-9a-f]{32}")
#: Bytes of a parameter that are hashed at a time.
_CHUNK = 1 << 26
_TENSORS, _ABOUT = "parts.safetensors", "about.json"


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all parameters and buffers, their names and types: what a model is."""
    parts: list[Any] = []
    for name, value in model.state_dict().items():
        flat = value.detach().reshape(-1).cpu().contiguous().view(torch.uint8)
        parts.append([name, str(value.dtype), list(value.shape)])
        parts += [sha256(piece.numpy().tobytes()) for piece in flat.split(_CHUNK)]
    return digest(parts)


class Kept:
    """The finished parts of an audit.

    Args:
        place: the folder in which each audit has one of its own; None to keep nothing.
    """

    def __init__(self, place: Path | None = None) -> None:
        self.place = place
        self.folder: Path | None = None

    def at(self, key: object) -> Kept:
        """Return the parts of the audit that depends on a key, which may be whatever JSON can hold."""
        found = Kept(self.place)
        found.folder = None if self.place is None else self.place / f"audit-{digest(key)}"
        return found

    def table(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table that was kept, or make it and keep it."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError):  # it is not there, or not readable
            found = make()
        write_whole(path, found.to_parquet())
        return found

    def value(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what JSON can hold and was kept, or make it and keep it; either way as JSON reads it."""
        if self.folder is not None:
            path = self.folder / f"{name}.json"
            try:
                return json.loads(read_text(path))
            except (OSError, ValueError):
                text = json.dumps(make(), ensure_ascii=False)
            write_whole(path, text)
            return json.loads(text)
        return json.loads(json.dumps(make()))

    def tensors(self, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return tensors that were kept and what was said of them; None if there are none."""
        if self.folder is None:
            return None
        place = self.folder / name
        try:
            return load_file(place / _TENSORS), json.loads(read_text(place / _ABOUT))
        except (OSError, ValueError, SafetensorError):
            return None

    def keep_tensors(self, name: str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Keep tensors, in place of those of this name."""
        if self.folder is None:
            return
        with whole_folder(self.folder / name) as part:
            save_file({key: value.contiguous() for key, value in tensors.items()}, part / _TENSORS)
            (part / _ABOUT).write_text(json.dumps(about), encoding="utf-8")


def forget(place: Path) -> None:
    """Remove the folders of audits in a place, and the place itself if nothing else is there."""
    if not place.is_dir():
        return
    for folder in place.iterdir():
        if _OURS.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)
    if not any(place.iterdir()):
        place.rmdir()
