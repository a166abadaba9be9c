"""The lines of the benchmark's table: what is compared with what, and what it must reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from entanglement_book.bench.trainings import OWN_STEP, SHAPES, step_name
from entanglement_book.bench.variants import measured_updates

__all__ = ["LINES", "TRAINERS", "Line", "update_lines", "works"]


@dataclass(frozen=True)
class Line:
    """One line of the table: ours against theirs, and what it must reach.

    Attributes:
        work: in words.
        ours, theirs: names of ``WAYS``, or of ``STEPS``.
        faster: theirs/ours must be at least this (below 1 for work that theirs does not do at all); None for
            no demand.
        lighter: peak memory of theirs/ours must be at least this; None for no demand.
        aim: what ``faster`` should become; None for no aim.
        once: theirs is run once, in a process of its own.
        agree: the losses of the two must differ by at most this in every step (nats); None for ways that
            return no loss.
    """

    work: str
    ours: str
    theirs: str
    faster: float | None = None
    lighter: float | None = None
    aim: float | None = None
    once: bool = False
    agree: float | None = None


_MAP, _PAIRS, _STEP = "heat map of 10 + 10 tokens", "geometry of 8 pairs", "training step"
TRAINERS = "DPO step against TRL"
#: Updates → the least and the aim of their lines in both models: a rule's step against the loss's own.
_MARKS: dict[str, tuple[float, float]] = {
    "normalized": (1 / 2.2, 1 / 1.4),
    "clipped to the band": (1 / 2.2, 1 / 1.4),
}


def update_lines() -> Iterator[Line]:
    """Yield the lines of updates: those with marks, then all others of their work."""
    titles = {v.title: v.work for found in measured_updates().values() for v in found}
    for model in SHAPES:
        for title, (least, aim) in _MARKS.items():
            ours = step_name(title, model)
            yield Line(titles[title], ours, OWN_STEP[model], least, None, aim)
    for work in dict.fromkeys(titles.values()):
        for title in (title for title, its in titles.items() if its == work and title not in _MARKS):
            yield Line(work, step_name(title), OWN_STEP["nano"])


LINES: tuple[Line, ...] = (
    Line(_MAP, "heat map", "heat map, the authors' way", 25.0, 12.0, 60.0, once=True),
    Line(_MAP, "heat map", "heat map, our reference", once=True),
    Line(_PAIRS, "pair geometry", "DPO forward and backward", 1 / 0.95, None, 1 / 0.75),
    Line(_PAIRS, "pair geometry", "two gradients a pair, the authors' way", 5.0, None, 8.0),
    Line(_PAIRS, "pair geometry", "two gradients a pair, our reference"),
    Line(_PAIRS, "pair geometry", "torch.func, four responses at a time", 3.5, 3.0, 5.0),
    Line(_PAIRS, "pair geometry", "torch.func, two responses at a time"),
    Line(_STEP, "monitored training", "training", 1 / 1.3, None, 1 / 1.15),
    Line(_STEP, "monitored training", "training, prompts shared"),
    *(
        Line(TRAINERS, OWN_STEP[model], f"TRL's DPOTrainer, {shape}", 1.5, agree=1e-4)
        for model, (shape, _) in SHAPES.items()
    ),
    *update_lines(),
)


def works() -> list[str]:
    """Return what the lines measure, in words, in the table's order."""
    return list(dict.fromkeys(line.work for line in LINES))
