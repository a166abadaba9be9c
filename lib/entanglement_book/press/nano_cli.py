"""``entanglement-book nano``: the small language model that the book measures, made again.

Not in the room of the materials, which imports torch: a command line's help has to be quick.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from entanglement.cli import make_app
from entanglement_book.layout import UsageError, parse_seed
from entanglement_book.options import check_folder, make_folder, path_of

__all__ = ["app"]

app = make_app("The small language model.")


@app.command()
def nano(
    seed: Annotated[
        str,
        typer.Option(
            help="Seed of the weights and of the order of the texts, a whole number from 0.", metavar="N"
        ),
    ] = "0",
    device: Annotated[
        str | None,
        typer.Option(
            help="Where to train.", show_default="cuda where there is one, else cpu", metavar="cpu|cuda"
        ),
    ] = None,
    bf16: Annotated[
        bool, typer.Option(help="Compute in bfloat16 where that is safe, or all in float32.")
    ] = True,
    steps_scale: Annotated[
        str,
        typer.Option(
            help="Multiplies all numbers of steps, above 0 and at most 100: 0.01 for a trial.", metavar="X"
        ),
    ] = "1",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for both checkpoints.",
            show_default="the library's own, which are written over",
            metavar="FOLDER",
            parser=path_of,
        ),
    ] = None,
) -> int:
    """Pretrain the small language model again: half an hour on two cores, a minute on a GPU.

    Two checkpoints are written, `nano-unlabeled` and `nano`, with the facts for their model cards. The second
    continues the first with labeled texts.

    Examples:

    - `entanglement-book nano`
    - `entanglement-book nano --steps-scale 0.01 --out trial`
    """
    number, factor = parse_seed(seed) or 0, _factor(steps_scale)
    if device not in (None, "cpu", "cuda"):
        raise UsageError(f"device {device!r} is not allowed: expected cpu or cuda")
    if out is not None:
        check_folder("--out", out)
    import torch

    found = torch.cuda.is_available()
    device = device or ("cuda" if found else "cpu")
    if device == "cuda" and not found:
        raise UsageError(f"device {device!r} is not allowed: PyTorch finds no GPU; expected cpu")
    from entanglement_book.materials.pretrain import pretrain

    if out is not None:
        make_folder("--out", out)
    pretrain(out, device=device, seed=number, bf16=bf16, steps_scale=factor)
    return 0


def _factor(text: str) -> float:
    """Check what the numbers of steps are multiplied by."""
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 < factor <= 100:
        raise UsageError(f"steps-scale {text!r} is not allowed: expected a number above 0, at most 100")
    return factor
