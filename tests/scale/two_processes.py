"""What accelerate's launcher runs: the command twice in each process, with the callback and without."""

import runpy
import sys

if __name__ == "__main__":
    folder, *options = sys.argv[1:]
    for name, every in (("watched", "2"), ("plain", "0")):
        # As `python -m entanglement_book.scale` does it.
        sys.argv = ["scale", "--out", f"{folder}/{name}", "--every", every, *options]
        try:
            runpy.run_module("entanglement_book.scale", run_name="__main__", alter_sys=True)
        except SystemExit as leave:
            if leave.code:
                raise
