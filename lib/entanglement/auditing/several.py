"""One audit over several processes: each takes a part of the rows, and their sums are the whole's.

``accelerate launch`` and ``torchrun`` tell every process how many there are; ``together`` joins them. What a
function of this module returns is the same in all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

__all__ = ["ALONE", "Processes", "first_process", "own_device", "together"]

T = TypeVar("T")
#: Longest wait of one process for the others: a large model's part of the rows can take long.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """This process among all of an audit."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that reports and writes."""
        return self.rank == 0

    def mine(self, things: Sequence[T]) -> list[T]:
        """Return this process's part: every ``count``-th, from its rank on."""
        return list(things[self.rank :: self.count])

    def add(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Add up tensors over the processes, in place."""
        if self.count > 1:
            for value in tensors.values():
                distributed.all_reduce(value)

    def all(self, mine: Sequence[T]) -> list[T]:
        """Return the parts of all processes in the order in which ``mine`` took them apart."""
        if self.count == 1:
            return list(mine)
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, list(mine))
        total = sum(len(part) for part in parts)
        return [parts[k % self.count][k // self.count] for k in range(total)]


ALONE = Processes()


@contextmanager
def together() -> Iterator[Processes]:
    """Join the processes that a launcher has started, while the context lasts; alone where there is none."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2 or distributed.is_initialized():
        yield ALONE
        return
    # gloo: sums go over the CPU, whatever the model's device.
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def first_process() -> bool:
    """Whether this process is the one that reports and writes."""
    return os.environ.get("RANK", "0") == "0"


def own_device(name: str) -> str | None:
    """Return the device that is meant, for ``load_model``.

    Args:
        name: of a device; "auto" for ``$ENTANGLEMENT_DEVICE`` where that is set, an accelerator where there
            is one (of several each process takes its own), or the CPU.
    """
    if name != "auto":
        return name
    if os.environ.get("ENTANGLEMENT_DEVICE") or not torch.accelerator.is_available():
        return None
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    place = int(os.environ.get("LOCAL_RANK", "0")) % max(torch.accelerator.device_count(), 1)
    return f"{kind.type}:{place}"
