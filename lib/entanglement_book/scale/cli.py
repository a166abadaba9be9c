"""The command of a training at scale: ``python -m entanglement_book.scale``, alone or under accelerate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from entanglement.archive import DataError
from entanglement.cli import make_app, run_app
from entanglement_book.layout import BookError, UsageError
from entanglement_book.options import check_folder, path_of

__all__ = ["app", "main"]

app = make_app("Train on comparisons as the paper does on summaries, on one process or on many.")
_RUN, _WATCH, _HOW = "What is trained", "What is watched", "How it runs"


def _show_configs(wanted: bool) -> None:
    """Print where TRL keeps its settings for accelerate."""
    if not wanted:
        return
    trl = find_spec("trl")
    if trl is None or trl.origin is None:
        raise UsageError("the package trl is not installed; install requirements.lock")
    for path in sorted((Path(trl.origin).parent / "accelerate_configs").glob("*.yaml")):
        print(f"{path.stem}: {path}")
    raise typer.Exit


@app.command()
def train(
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for all that is written.", metavar="FOLDER", parser=path_of, show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option(help="nano, smollm2-135m, a folder, or an id of the hub.", rich_help_panel=_RUN)
    ] = "nano",
    data: Annotated[
        str,
        typer.Option(
            help="tldr (the paper's, from the hub), docstrings (400 summaries of NumPy's own), a file "
            "of comparisons, or another id of the hub.",
            rich_help_panel=_RUN,
        ),
    ] = "docstrings",
    loss: Annotated[
        str, typer.Option(help="A loss of TRL's DPOTrainer, by this library's name.", rich_help_panel=_RUN)
    ] = "dpo",
    beta: Annotated[float, typer.Option(help="Of the loss.", rich_help_panel=_RUN)] = 0.1,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps.", show_default="one epoch", rich_help_panel=_RUN)
    ] = None,
    lr: Annotated[
        float, typer.Option(help="Highest rate; it falls linearly to zero.", rich_help_panel=_RUN)
    ] = 5e-6,
    lora_r: Annotated[
        int, typer.Option(help="Rank of the adapter; 0 to train all parameters.", rich_help_panel=_RUN)
    ] = 64,
    lora_alpha: Annotated[
        float | None,
        typer.Option(help="α of the adapter.", show_default="twice its rank", rich_help_panel=_RUN),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Pairs at a time in each process.", rich_help_panel=_RUN)
    ] = 2,
    accumulate: Annotated[int, typer.Option(help="Such batches in a step.", rich_help_panel=_RUN)] = 4,
    max_length: Annotated[int, typer.Option(help="Longest sequence, tokens.", rich_help_panel=_RUN)] = 1024,
    sample: Annotated[
        int | None,
        typer.Option(help="Pairs that are used of the data.", show_default="all", rich_help_panel=_RUN),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split and the training.", rich_help_panel=_RUN)] = 0,
    probe: Annotated[
        str,
        typer.Option(
            help="A file of pairs to watch, or how many of the data are held out for it.",
            metavar="FILE|N",
            rich_help_panel=_WATCH,
        ),
    ] = "16",
    every: Annotated[
        int, typer.Option(help="Steps between two looks; 0 to watch nothing.", rich_help_panel=_WATCH)
    ] = 50,
    logging: Annotated[
        int, typer.Option(help="Steps between two rows of the table.", rich_help_panel=_WATCH)
    ] = 10,
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where there is a GPU), bf16 or fp32.", rich_help_panel=_HOW)
    ] = "auto",
    checkpointing: Annotated[
        bool,
        typer.Option(help="Compute activations twice, to save memory.", rich_help_panel=_HOW),
    ] = True,
    save: Annotated[bool, typer.Option(help="Keep the trained weights.", rich_help_panel=_HOW)] = True,
    configs: Annotated[
        bool,
        typer.Option(
            "--configs",
            callback=_show_configs,
            is_eager=True,
            help="Show where TRL keeps its settings for accelerate, and leave.",
            rich_help_panel=_HOW,
        ),
    ] = False,
) -> None:
    """Train with TRL's DPOTrainer on comparisons, watch held-out ones, and write one table of metrics.

    Defaults are the paper's for summaries, but for the model and the data, which are what any machine has.
    Started by `accelerate launch` it runs on several processes; `--configs` shows the files for its
    `--config_file`. Take multi_gpu where a GPU holds the model, fsdp2 where it does not: of the probe only
    log π is then watched. DeepSpeed's need the package deepspeed. `metrics.csv` has one row a logged step.

    Examples:

    - `python -m entanglement_book.scale --out run --steps 20 --sample 400`
    - `accelerate launch --multi_gpu --num_processes 2 -m entanglement_book.scale --out run --steps 20
      --sample 400`, also on a machine without GPU
    - `accelerate launch --config_file multi_gpu.yaml --num_processes 2 -m entanglement_book.scale
      --model meta-llama/Meta-Llama-3-8B-Instruct --data tldr --out run`
    """
    from entanglement_book.scale.recipe import Recipe

    recipe = Recipe(
        model=model, data=data, loss=loss, beta=beta, steps=steps, lr=lr, lora_r=lora_r,
        lora_alpha=lora_alpha, batch_size=batch_size, accumulate=accumulate, max_length=max_length,
        sample=sample, probe=probe, every=every, logging=logging, precision=precision,
        checkpointing=checkpointing, seed=seed,
    )  # fmt: skip
    check_folder("--out", out)
    from entanglement_book.scale.launched import run

    table = run(recipe, out, save=save)
    if int(os.environ.get("RANK", "0")):
        return
    last = table.iloc[-1]
    print(
        f"step {int(last['step'])}: loss {last['loss']:.4g}, rewards of chosen "
        f"{last['rewards/chosen']:+.4g}, of rejected {last['rewards/rejected']:+.4g}; "
        f"written to {out / 'metrics.csv'}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_app(app, "entanglement_book.scale", arguments, {UsageError: 2, BookError: 1, DataError: 1})
