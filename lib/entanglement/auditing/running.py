"""An audit from a file to its findings."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from torch import nn
from tqdm import tqdm

from entanglement.auditing.alikeness import alikeness
from entanglement.auditing.findings import SCHEMA, AuditReport
from entanglement.auditing.pulls import pulls, token_pulls
from entanglement.auditing.rehearsal import Number, rehearse, sweep, turning_number
from entanglement.auditing.walk import Optimizer, Walk, plan_walk
from entanglement.checks import positive, share, whole
from entanglement.logps import model_device
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PairBatch
from entanglement.rows import (
    TRAINED,
    VERDICTS,
    EncodedPair,
    Judged,
    Row,
    TokensAs,
    judge,
    padded,
    read_rows,
    recognize,
)
from entanglement.rows.encoded import as_text
from entanglement.rows.shapes import LOOKED_AT, SHAPES
from entanglement.signatures import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Schedule", "audit", "by_tokens"]

Schedule = Literal["linear", "constant"]
#: Fewer pairs make no two batches and no held-out ones.
_FEWEST = 4
#: Rows that are shown token by token, and characters of a text that are shown.
WORST, _LONGEST = 10, 160


@checked(max_tokens=whole(1))
def by_tokens(pairs: Sequence[EncodedPair], max_tokens: int) -> list[list[int]]:
    """Split the positions of pairs into groups of similar length, none with more than ``max_tokens`` tokens,
    padding counted, unless a pair alone has more.
    """
    long = [max(len(prompt) + len(response) for prompt, response in pair.sides) for pair in pairs]
    groups: list[list[int]] = []
    for i in sorted(range(len(pairs)), key=lambda i: (long[i], i)):
        if groups and 2 * long[i] * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _shape_and_rows(data: str | Path, split: str, shape: str | None) -> tuple[str, Iterator[Row]]:
    rows = read_rows(data, split=split)
    if shape is not None:
        SHAPES[shape]  # an unknown one is told before anything is read
        return shape, rows
    first = list(islice(rows, LOOKED_AT))
    return recognize(first), chain(first, rows)


@checked(
    lr=positive, batch_size=whole(1), steps=whole(1), epochs=positive, sample=whole(_FEWEST), held_out=share,
    max_length=whole(1), max_tokens=whole(1),
)  # fmt: skip
def audit(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    data: str | Path,
    *,
    loss: Loss | str = "dpo",
    optimizer: Optimizer = "adamw",
    lr: float = 1e-6,
    schedule: Schedule = "linear",
    batch_size: int = 8,
    epochs: float = 3.0,
    steps: int | None = None,
    sample: int = 512,
    held_out: float = 0.25,
    seed: int = 0,
    tokens: TokensAs = "trl",
    max_length: int | None = 1024,
    shape: str | None = None,
    split: str = "train",
    strict: bool = False,
    max_tokens: int = 4096,
    progress: bool = False,
) -> AuditReport:
    """Read a file of comparisons, say what each row is, and rehearse a training on it.

    Defaults are those of ``trl.DPOConfig`` 1.16 where it has one.

    Args:
        model: as training will find it, in evaluation mode; left as it was. It is its own reference.
        tokenizer: the model's.
        data: as in ``read_rows``.
        loss: a loss or its name.
        optimizer: "adamw" or "sgd".
        lr: the highest rate.
        schedule: how the rate goes: "linear" down to zero, or "constant".
        batch_size: pairs a step.
        epochs: times that the run goes over the file, where ``steps`` is None.
        steps: of the run.
        sample: pairs that are looked at, drawn from the rows that can be trained on.
        held_out: share of them whose responses are rehearsed and that give no gradient.
        seed: of the draw.
        tokens: "trl" for the trainer's own tokens, "collate" for this library's.
        max_length: longest sequence, tokens; None for no limit.
        shape: of the rows (a name of ``SHAPES``); None to recognize it.
        split: of a data set that has several.
        strict: stop at the first row that cannot be trained on.
        max_tokens: tokens that are computed at a time, padding counted: the memory.
        progress: show how far it is, on stderr.

    Raises:
        ValueError: a file that cannot be read, an unknown shape, or a row that cannot be trained on
            (``strict``).
    """
    wanted = get_loss(loss) if isinstance(loss, str) else loss
    shape, rows = _shape_and_rows(data, split, shape)
    judged = judge(
        _shown(rows, progress, "rows"), shape, tokenizer, tokens=tokens, max_length=_limit(model, max_length)
    )
    if strict:
        _refuse_first(judged)
    table = pd.DataFrame(
        [(one.place, one.verdict, one.said, one.verdict in TRAINED) for one in judged],
        columns=["place", "verdict", "said", "trained"],
    )
    usable = [one for one in judged if one.verdict in TRAINED]
    drawn = random.Random(seed).sample(usable, min(sample, len(usable)))
    n_held = round(held_out * len(drawn))
    total = steps if steps is not None else max(1, math.ceil(epochs * len(usable) / batch_size))
    run = {
        "data": Path(data).name, "shape": shape, "loss": wanted.name, "hyper": dict(wanted.hyper),
        "optimizer": optimizer, "lr": lr, "schedule": schedule, "batch_size": batch_size, "steps": total,
        "seed": seed, "tokens": tokens,
    }  # fmt: skip
    pairs = [(one, one.encoded) for one in drawn if one.encoded is not None]
    about = pd.DataFrame([_about(one, pair, k < n_held) for k, (one, pair) in enumerate(pairs)])
    test, train = [pair for _, pair in pairs[:n_held]], [pair for _, pair in pairs[n_held:]]
    if len(pairs) < _FEWEST or not test or len(train) < 2:
        return AuditReport(
            table, about.head(0), pd.DataFrame(), [], _summary(table, about.head(0), None, run)
        )
    size = min(batch_size, max(1, len(train) // 2))
    together = _Together(model, max_tokens, tokens == "trl")
    batches = [
        together.groups(train[start : start + size])
        for start in _shown(range(0, len(train) - size + 1, size), progress, "batches padded")
    ]
    walk = plan_walk(model, batches, wanted, optimizer=optimizer)
    length = total * lr * (0.5 if schedule == "linear" else 1.0)
    held = together.groups(test)
    number = turning_number(model, walk, held, length)
    seen = together.groups(train)
    about = about.join(
        pd.concat(
            [
                together.back(rehearse(model, walk, held, length), test, 0),
                together.back(pulls(model, walk, seen, held, wanted), train, n_held),
            ]
        )
    )
    # Of a row that is one among many, its part of the mean change, nats.
    parts = ["from_chosen", "from_rejected", "pull"]
    about[parts] *= length / len(train)
    drags = _worst(model, tokenizer, walk, about, pairs, held, wanted, together, length / len(train))
    ratios = sweep(model, walk, held, length, _ratios(number))
    return AuditReport(table, about, ratios, drags, _summary(table, about, asdict(number), run))


def _about(one: Judged, pair: EncodedPair, held_out: bool) -> dict[str, Any]:
    """Return what is known of a sampled pair before anything is computed."""
    assert one.comparison is not None
    text = as_text(one.comparison)
    found: dict[str, Any] = {"place": one.place, "verdict": one.verdict, "held_out": held_out}
    found |= {"chosen_len": len(pair.chosen), "rejected_len": len(pair.rejected)} | alikeness(pair)
    return found | {name: _excerpt(getattr(text, name)) for name in ("prompt", "chosen", "rejected")}


def _excerpt(text: str) -> str:
    """The end of a text is what differs from prompt to prompt; of a response it is the beginning."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 1]}…"


@dataclass(frozen=True)
class _Together:
    """How pairs are put together to be computed."""

    model: nn.Module
    max_tokens: int
    eos: bool

    def groups(self, pairs: Sequence[EncodedPair]) -> list[PairBatch]:
        device = model_device(self.model)
        return [
            padded([pairs[i] for i in group], padding_side="left", append_eos=self.eos).to(device)
            for group in by_tokens(pairs, self.max_tokens)
        ]

    def back(self, table: pd.DataFrame, pairs: Sequence[EncodedPair], start: int) -> pd.DataFrame:
        """Return a table whose rows stand in the order of ``groups`` with the pairs' own positions."""
        order = [start + i for group in by_tokens(pairs, self.max_tokens) for i in group]
        return table.drop(columns="pair").set_index(pd.Index(order))


def _ratios(number: Number) -> list[float]:
    """Return ratios around the two turning points, 1 among them."""
    known = [abs(math.log(r)) for r in (number.chosen, number.rejected) if r == r and r != 1]
    reach = min(2 * max(known, default=0.05), math.log(8.0))
    return [math.exp(reach * k / 4) for k in range(-4, 5)]


def _worst(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    walk: Walk,
    about: pd.DataFrame,
    pairs: Sequence[tuple[Judged, EncodedPair]],
    held: Sequence[PairBatch],
    loss: Loss,
    together: _Together,
    share_of_one: float,
) -> list[dict[str, Any]]:
    """Return the rows that pull the held-out chosen responses down most, token by token; a token's pull is
    multiplied by ``share_of_one``.
    """
    places = list(about.loc[~about["held_out"], "pull"].nsmallest(WORST).index)
    some = [pairs[i][1] for i in places]
    order = [places[i] for group in by_tokens(some, together.max_tokens) for i in group]
    groups = together.groups(some)
    found = []
    for group, values in zip(groups, token_pulls(model, walk, groups, held, loss), strict=True):
        ids = group.input_ids.view(2, len(group), -1).cpu()
        mask = group.response_mask.view(2, len(group), -1).cpu()
        for k in range(len(group)):
            row: dict[str, Any] = {}
            for side, name in enumerate(("chosen", "rejected")):
                kept = mask[side, k]
                texts = [str(tokenizer.decode([int(token)])) for token in ids[side, k][kept]]
                row[name] = list(zip(texts, (values[side, k][kept] * share_of_one).tolist(), strict=True))
            found.append(row)
    return [
        {"place": int(about["place"][i]), "pull": float(about["pull"][i])} | row
        for i, row in sorted(zip(order, found, strict=True), key=lambda one: float(about["pull"][one[0]]))
    ]


def _summary(
    rows: pd.DataFrame, pairs: pd.DataFrame, number: dict[str, Any] | None, run: dict[str, Any]
) -> dict[str, Any]:
    """Return the numbers of an audit.

    Args:
        rows: as in ``AuditReport``.
        pairs: as in ``AuditReport``.
        number: of ``turning_number``, by field; None where nothing could be rehearsed.
        run: what was asked for.
    """
    counts = rows["verdict"].value_counts()
    found: dict[str, Any] = {"schema": SCHEMA, "run": run, "rows": len(rows)}
    found["verdicts"] = {name: int(counts[name]) for name in VERDICTS if name in counts}
    found["trained"] = int(rows["verdict"].isin(TRAINED).sum())
    found["sampled"] = len(pairs)
    found["number"] = number
    held = pairs[pairs["held_out"]] if len(pairs) else pairs
    found["held_out"] = len(held)
    for side in ("chosen", "rejected"):
        if not len(held):
            continue
        says = held[f"{side}_says"]
        found[side] = {
            "change": float(held[f"{side}_whole"].mean()),
            "rise": float((says > 0).mean()),
            "fall": float((says < 0).mean()),
            "undecided": float((says == 0).mean()),
        }
    return found


def _shown(things: Iterable[Row] | range, progress: bool, what: str) -> Any:
    return tqdm(things, desc=what, disable=not progress, leave=False)


def _limit(model: nn.Module, max_length: int | None) -> int | None:
    """The shorter of what was asked for and what the model's positions reach."""
    reach = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    known = [n for n in (reach, max_length) if n is not None]
    return min(known) if known else None


def _refuse_first(judged: Sequence[Judged]) -> None:
    for one in judged:
        if one.verdict not in TRAINED:
            raise ValueError(f"row {one.place} is {one.verdict}: {one.said}")
