"""The command ``entanglement``: what the library declares, for those who train with it.

Also how any command line of this repository ends: ``run_app`` turns what a user got wrong into one line on
stderr and exit status 2. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from entanglement.signatures import checked

__all__ = ["app", "main", "make_app", "run_app"]


@checked()
def make_app(about: str, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return an empty command line: help in plain paragraphs and lists, errors left to ``run_app``."""
    return typer.Typer(
        cls=cls,
        help=about,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


@cache
def _command(app: typer.Typer) -> Any:
    return typer.main.get_command(app)


@checked()
def run_app(
    app: typer.Typer,
    name: str,
    arguments: Sequence[str] | None = None,
    errors: Mapping[type[Exception], int] | None = None,
) -> int:
    """Run one command and return its exit status.

    Args:
        app: the command line.
        name: of the command, which begins every line about an error.
        arguments: default: those of the process.
        errors: which exceptions of a command become one line, and with which exit status; the first that
            fits counts. What the user got wrong in the command line itself has exit status 2, a file that
            cannot be read or written 1. Any other exception is a fault of ours and keeps its traceback.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    expected: tuple[type[Exception], ...] = (*(errors or {}), OSError)
    try:
        result = _command(app).main(args=given, prog_name=name, standalone_mode=False)
        sys.stdout.flush()  # what cannot be written is told here, not by the interpreter when it ends
        return result if isinstance(result, int) else 0
    except typer.Exit as leave:
        return int(leave.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # whoever read along has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except typer.TyperException as error:
        text, status = error.format_message(), 2
        if type(error).__name__ == "NoArgsIsHelpError":  # its text is the whole help
            text = "Missing command."
        group = getattr(getattr(error, "ctx", None), "command", None)
        if isinstance(group, TyperGroup) and "ommand" in text:
            text += f" Expected one of {', '.join(group.list_commands(error.ctx))}"  # type: ignore[attr-defined]
    except expected as error:
        text = str(error)
        if isinstance(error, OSError):
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or text
        status = next((code for kind, code in (errors or {}).items() if isinstance(error, kind)), 1)
    print(f"{name}: {' '.join(text.split())}", file=sys.stderr)
    return status


app = make_app(
    "Gradient entanglement in preference optimization: what this library knows.\n\n"
    "Losses and models are called by the names that stand here, in the library as in the book."
)


def _version(wanted: bool) -> None:
    if wanted:
        from entanglement import __version__

        print(f"entanglement {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """See the app's help."""


@app.command()
def losses(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of losses.", show_default="all", metavar="[NAME]..."),
    ] = None,
) -> None:
    """Show the declared losses: formula, weights of the two gradients, hyper-parameters, reference.

    The formula is that of one pair, in LaTeX; `d_w` and `d_l` say how strongly a step pulls on the chosen and
    on the rejected response. A hyper-parameter is shown with its default and its range.

    Examples:

    - `entanglement losses`
    - `entanglement losses dpo simpo`
    """
    from entanglement.losses import loss_spec, loss_specs

    for spec in [loss_spec(name) for name in names] if names else loss_specs():
        print(f"{spec.name}: {spec.title}")
        print(f"    L   = {spec.formula}")
        print(f"    d_w = {spec.d_w}")
        print(f"    d_l = {spec.d_l}")
        for hyper in spec.hyper:
            print(f"    {hyper.name} = {hyper.default:g}, in {hyper.range_text}: {hyper.meaning}")
        reference = "needs a reference model" if spec.needs_reference else "needs no reference model"
        print(f"    {reference}; {spec.source}\n")


@app.command()
def models() -> None:
    """Show the models that are known by name; any folder or hub id of a causal language model works too.

    Example: `entanglement models`
    """
    from entanglement.models import MODELS

    for name, known in MODELS.items():
        print(f"{name}: {known.about}")


def _folder(name: str | None) -> str | None:
    """Refuse what cannot be a folder, before anything is computed for it."""
    if name is None:
        return None
    try:
        here = next(one for one in (Path(name), *Path(name).parents) if one.exists())
    except OSError:
        raise typer.BadParameter("no path") from None
    if not name.strip():
        raise typer.BadParameter("no path")
    if not here.is_dir():
        raise typer.BadParameter(f"{here} is not a folder")
    return name


@app.command()
def audit(
    data: Annotated[
        str,
        typer.Option(
            help="A file of comparisons (.jsonl, .json, .csv, .parquet, also .gz), a folder that "
            "datasets has saved, or an id of the hub.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option(help="As `entanglement models` lists them, a folder or a hub id.")
    ] = "nano",
    loss: Annotated[str, typer.Option(help="As `entanglement losses` lists them.")] = "dpo",
    beta: Annotated[
        float | None, typer.Option(help="Of a loss that has one.", show_default="the loss's")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    lr: Annotated[float, typer.Option(help="The run's highest rate.")] = 1e-6,
    schedule: Annotated[
        str, typer.Option(help="How the rate goes: linear (down to zero) or constant.")
    ] = "linear",
    batch_size: Annotated[int, typer.Option(help="Pairs a step of the run.")] = 8,
    epochs: Annotated[float, typer.Option(help="Times that the run goes over the file.")] = 3.0,
    steps: Annotated[int | None, typer.Option(help="Of the run.", show_default="by epochs")] = None,
    parameters: Annotated[
        str, typer.Option(help="What the run trains: trainable (what asks for gradients) or all.")
    ] = "trainable",
    sample: Annotated[int, typer.Option(help="Pairs that are looked at.")] = 512,
    held_out: Annotated[
        float, typer.Option(help="Share of them that give no gradient and are rehearsed.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    tokens: Annotated[
        str, typer.Option(help="trl for what TRL's trainer sees, collate for this library's.")
    ] = "trl",
    max_length: Annotated[int, typer.Option(help="Longest sequence, tokens.")] = 1024,
    shape: Annotated[
        str | None, typer.Option("--format", help="Shape of the rows.", show_default="recognized")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a data set that has several.")] = "train",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row that is not sound.")
    ] = False,
    geometry: Annotated[
        int, typer.Option(help="Sampled pairs whose own gradients are measured; 0 for none.")
    ] = 64,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare",
            help="Rehearse other ratios, rates, losses and masks too, on fewer rows.",
        ),
    ] = True,
    max_tokens: Annotated[int, typer.Option(help="Tokens that are computed at a time: the memory.")] = 4096,
    device: Annotated[
        str, typer.Option(help="auto ($ENTANGLEMENT_DEVICE, an accelerator, or the CPU), cpu, cuda, ….")
    ] = "auto",
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder for the page and the tables. A killed audit goes on from what it left there.",
            show_default="none is written",
            callback=_folder,
        ),
    ] = None,
) -> None:
    """Say what each row of a file is, and what a training on it will do to responses that it never sees.

    The model is moved along the direction that the run's optimizer will walk, by the run's length; held-out
    responses are measured, and the step is undone. Defaults are those of TRL's DPOTrainer.

    Examples:

    - `entanglement audit --data pairs.jsonl`
    - `entanglement audit --data pairs.jsonl --model smollm2-135m --lr 5e-6 --out report`
    - `accelerate launch --num_processes 2 -m entanglement.cli audit --data pairs.jsonl --out report`
    """
    from entanglement.auditing import audit as look
    from entanglement.auditing.kept import PARTIAL, Kept, forget
    from entanglement.auditing.several import first_process, own_device
    from entanglement.losses import get_loss
    from entanglement.models import load_model

    wanted = get_loss(loss, **({} if beta is None else {"beta": beta}))
    loaded = load_model(model, device=own_device(device))
    kept = None if out is None else Kept(Path(out) / PARTIAL)
    report = look(
        loaded.model, loaded.tokenizer, data, loss=wanted,
        optimizer=optimizer, lr=lr, schedule=schedule, batch_size=batch_size, epochs=epochs,  # type: ignore[arg-type]
        steps=steps, parameters=parameters, sample=sample, held_out=held_out, seed=seed,  # type: ignore[arg-type]
        tokens=tokens, max_length=max_length, shape=shape, split=split, strict=strict,  # type: ignore[arg-type]
        geometry=geometry, compare=compare, max_tokens=max_tokens, kept=kept, progress=True,
    )  # fmt: skip
    if not first_process():
        return
    print(f"{data}: rows of the shape {report.summary['run']['shape']}\n\n{report}")
    if out is not None:
        print("\nwritten: " + ", ".join(str(path) for path in report.write(out)))
        forget(Path(out) / PARTIAL)


@app.command("read-log")
def read_training_log(
    run: Annotated[
        str,
        typer.Argument(
            help="trainer_state.json, an event file of TensorBoard, or the folder of a run or of its events.",
            metavar="RUN",
            show_default=False,
        ),
    ],
    beta: Annotated[
        float | None,
        typer.Option(help="Of the loss: rewards are then said in nats too.", show_default="unknown"),
    ] = None,
) -> None:
    """Say what the curves of a run with TRL mean: whether the chosen reward fell, from where on, and why.

    Example: `entanglement read-log output/ --beta 0.1`
    """
    from entanglement.auditing.training_log import read_log

    print(read_log(run, beta=beta))


@checked()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return run_app(app, "entanglement", arguments, {ValueError: 2})


if __name__ == "__main__":
    raise SystemExit(main())
