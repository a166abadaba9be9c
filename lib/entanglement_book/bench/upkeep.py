"""Is the stored benchmark of today's code? And carrying it over a change that made nothing slower."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from torch import nn

from entanglement.files import read_text, sha256, write_whole
from entanglement.models import load_model
from entanglement.uses import Use, recording
from entanglement_book.bench.lines import LINES, Line, works
from entanglement_book.bench.made_of import made_of_line, made_of_ways
from entanglement_book.bench.measured import measure_lines
from entanglement_book.bench.readme import in_readme, readme, table
from entanglement_book.bench.stored import file_of, stored
from entanglement_book.bench.trainings import STEPS, Step
from entanglement_book.bench.ways import GROWTH, WAYS, gpt2_shape, random_batch, slow_and_fast
from entanglement_book.grids.made_by import Code
from entanglement_book.layout import BookError
from entanglement_book.machine import commit, repository, today
from entanglement_book.materials import sentiment_pairs

__all__ = ["problems", "restamp", "uses_of"]

#: A line that is measured again may have another ratio of times by this factor: clocks are not exact.
NEAR = 1.5


def _told(entry: dict[str, Any]) -> list[Use] | None:
    found = entry.get("uses")
    return None if found is None else [(kind, name) for kind, name in found]


def problems() -> list[str]:
    """Return what is wrong with the stored benchmark, a line each: missing, too slow, or of other code."""
    try:
        found = stored()
        written = in_readme(read_text(readme()))[1]
    except (OSError, ValueError) as error:
        return [f"bench: {error}"]
    code = Code(repository())
    wrong = [f"bench: {line['ours']} misses its mark" for line in found["lines"] if not line["met"]]
    rows = {(row["ours"], row["theirs"]): row for row in found["lines"]}
    for work in works():
        of_work = [(line, rows.get((line.ours, line.theirs))) for line in LINES if line.work == work]
        again = f'run: entanglement-book bench --only "{work}"'
        lacking = [line.ours for line, row in of_work if row is None]
        if lacking:
            wrong.append(f"bench: {', '.join(lacking)} was not measured; {again}")
        stale = [line.ours for line, row in of_work if row is not None and _other(line, row, code)]
        if stale:
            names = ", ".join(dict.fromkeys(stale))
            wrong.append(f"bench: {names} was measured with other library code than today's; {again}")
    wrong += [f"bench: {g['tokens']} tokens take too much memory" for g in found["growth"] if not g["met"]]
    if written != table(found):
        wrong.append("bench: the table in README.md is another one; run: make bench")
    if _differs(made_of_ways(_told(found), code), found):
        wrong.append("bench: growth and scaling are of other library code than today's; run: make bench")
    return wrong


def _differs(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return (now["code"], now["files"]) != (then.get("code"), then.get("files", {}))


def _other(line: Line, row: dict[str, Any], code: Code) -> bool:
    return _differs(made_of_line(line, _told(row), code), row)


def uses_of(names: list[str]) -> set[Use]:
    """Return what ways or steps look up, found by doing each once in a tiny model."""
    seen: set[str] = set()
    with recording() as uses:
        for name in names:
            side = STEPS[name] if name in STEPS else WAYS[name]
            if (work := f"{side.prepare} {side.options} {getattr(side, 'model', '')}") in seen:
                continue  # only its size is another one
            seen.add(work)
            if isinstance(side, Step):
                loaded, pairs = load_model("nano"), sentiment_pairs("long_suffix", "train", n=2)
                model: nn.Module = loaded.model if side.model == "nano" else gpt2_shape(64, 2)
                side.prepare(model, loaded.tokenizer, pairs, **side.options)()
            else:
                side.prepare(gpt2_shape(64, 2), random_batch(side.pairs, 6, 2), **side.options)()
    return uses


def restamp(why: str, *, measure: bool = True, say: Callable[[str], None] = print) -> int:
    """Let the stored benchmark be that of today's code.

    Args:
        why: what changed without making anything slower; "" if only names changed, which is then checked.
        measure: measure one stale line again, drawn by the commit's hash, and refuse if its ratio of times
            is another one by more than ``NEAR``. Lines that need much memory are not drawn.
        say: where progress lines go.

    Returns:
        How many lines were stamped.

    Raises:
        ValueError: more than names changed and ``why`` is empty, or a line became slower.
    """
    found, code = stored(), Code(repository())
    lines = {(line.ours, line.theirs): line for line in LINES}
    stale = [
        (lines[row["ours"], row["theirs"]], row)
        for row in found["lines"]
        if (row["ours"], row["theirs"]) in lines and _other(lines[row["ours"], row["theirs"]], row, code)
    ]
    beside = _differs(made_of_ways(_told(found), code), found)
    named = [_only_names(made_of_line(line, _told(row), code), row) for line, row in stale]
    named += [_only_names(made_of_ways(_told(found), code), found)] if beside else []
    if not why and not all(named):
        raise BookError("bench: more than names changed since it was measured; run: make bench")
    entry: dict[str, Any] = {"date": today(), "why": why or "only names changed", "repeated": []}
    if measure and stale:
        entry["repeated"] = [_repeat(stale, say)]
    for line, row in stale:
        # Where more than names changed, other things may be looked up.
        uses = uses_of([line.ours, line.theirs]) if why else _told(row)
        _stamp(row, made_of_line(line, uses, code), entry)
    if beside:
        names = [f"heat map of {n} + {n} tokens" for n in GROWTH]
        names += [name for name in WAYS if name.startswith(tuple(f"{way}, " for way in slow_and_fast()))]
        _stamp(found, made_of_ways(uses_of(names) if why else _told(found), code), entry)
    if stale or beside:
        write_whole(file_of(), json.dumps(found, indent=2) + "\n")
    say(f"bench: {len(stale)} lines re-stamped")
    return len(stale)


def _stamp(row: dict[str, Any], made: dict[str, Any], entry: dict[str, Any]) -> None:
    was = {"from": row.get("code", ""), "to": made["code"]}
    row |= made | {"restamped": [*row.get("restamped", []), entry | was]}


def _only_names(now: dict[str, Any], then: dict[str, Any]) -> bool:
    return (now["shape"], now["files"]) == (then.get("shape"), then.get("files", {}))


def _repeat(stale: list[tuple[Line, dict[str, Any]]], say: Callable[[str], None]) -> dict[str, Any]:
    """Measure one of some lines again.

    Raises:
        ValueError: its ratio of times is another one.
    """
    light = [(line, row) for line, row in stale if not line.once and row["their_peak_mb"] < 4000] or stale
    line, row = light[int(sha256(commit(repository())), 16) % len(light)]
    (again,) = measure_lines([line], "cpu", say)
    factor = again["ratio"] / row["ratio"]
    say(
        f"bench: {line.ours} against {line.theirs}: {again['ratio']:.2f} times faster, was {row['ratio']:.2f}"
    )
    if not 1 / NEAR <= factor <= NEAR:
        raise BookError(
            f"bench: {line.ours} is {again['ratio']:.2f} times as fast as {line.theirs}, "
            f"was {row['ratio']:.2f}; run: make bench"
        )
    return {"ours": line.ours, "theirs": line.theirs, "ratio": again["ratio"], "stored": row["ratio"]}
