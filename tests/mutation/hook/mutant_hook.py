"""An import hook that hands out one changed module."""

from __future__ import annotations

import json
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["install"]


class _Loader(SourceFileLoader):
    changed = ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.changed, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, module: str, file: str, source: str) -> None:
        self.module, self.file, self.source = module, file, source

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        loader = _Loader(fullname, self.file)
        loader.changed = self.source
        inner = [str(Path(self.file).parent)] if self.file.endswith("__init__.py") else None
        return spec_from_file_location(fullname, self.file, loader=loader, submodule_search_locations=inner)


def install(described: Path) -> None:
    """Let imports of this process find the changed module that a file describes."""
    found = json.loads(described.read_text())
    sys.meta_path.insert(0, _Finder(found["module"], found["file"], found["source"]))
