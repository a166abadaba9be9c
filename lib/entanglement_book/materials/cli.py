"""``entanglement-book nano``: the small language model that the book measures, made again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import UsageError, parse_seed
from entanglement_book.materials.pretrain import pretrain
from entanglement_book.options import SeedOption

__all__ = ["app"]

app = make_app("The materials of the book.")


@app.command()
def nano(
    seed: SeedOption = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda.", show_default="cuda where there is one")
    ] = None,
    bf16: Annotated[bool, typer.Option(help="Compute in bfloat16 where that is safe.")] = True,
    steps_scale: Annotated[
        float, typer.Option(help="Multiply all numbers of steps: 0.01 for a trial.", metavar="X")
    ] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for both checkpoints.", show_default="the library's own")
    ] = None,
) -> int:
    """Pretrain the small language model again: half an hour on two cores, a minute on a GPU.

    Two checkpoints are written, `nano-unlabeled` and `nano`, with the facts for their model cards. The second
    continues the first with labeled texts.

    Examples:

    - `entanglement-book nano`
    - `entanglement-book nano --steps-scale 0.01 --out trial`
    """
    import torch

    found = torch.cuda.is_available()
    device = device or ("cuda" if found else "cpu")
    if device not in ("cpu", "cuda") or (device == "cuda" and not found):
        raise UsageError(f"device {device!r}: expected cpu" + (" or cuda" if found else "; no GPU was found"))
    if not math.isfinite(steps_scale) or steps_scale <= 0:
        raise UsageError(f"steps-scale {steps_scale!r}: expected a number above 0")
    pretrain(out, device=device, seed=parse_seed(seed) or 0, bf16=bf16, steps_scale=steps_scale)
    return 0
