"""Run by every Python process that a test of a mutant starts: it sees the mutant, too."""

import os
from pathlib import Path

_described = os.environ.get("ENTANGLEMENT_MUTANT")
if _described and Path(_described).is_file():
    from mutant_hook import install

    install(Path(_described))
