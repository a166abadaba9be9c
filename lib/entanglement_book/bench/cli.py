"""``entanglement-book bench``: time and memory of the gradient geometry and of training steps."""

from __future__ import annotations

from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.bench.bench import main

__all__ = ["app"]

app = make_app("Benchmarks.")


@app.command()
def bench(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    only: Annotated[str | None, typer.Option(help="Measure these lines of the table.")] = None,
) -> int:
    """Time the gradient geometry and training steps against other ways, and write the README's table."""
    return main(["--device", device, *([f"--only={only}"] if only else [])])
