"""One bar for a whole audit: which stage it is in, and how long all of it will still take.

The work is counted in tokens that pass through the model, as a hook sees them; what a stage will need is
estimated before the first begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from tqdm import tqdm

__all__ = ["TimeLeft"]

_FORMAT = "{desc}{percentage:3.0f}% |{bar:24}| {elapsed} gone, about {remaining} left"


class TimeLeft:
    """The bar.

    Args:
        model: through which tokens pass.
        stages: name → work, in tokens through one forward pass.
        shown: whether anything is to be seen, on stderr.
    """

    def __init__(self, model: nn.Module, stages: Mapping[str, float], shown: bool) -> None:
        self._model, self._stages, self._shown = model, dict(stages), shown
        self._ends, total = {}, 0.0
        for name, work in self._stages.items():
            total += work
            self._ends[name] = total
        self._bar = tqdm(
            total=max(total, 1.0), disable=not shown, leave=False, bar_format=_FORMAT, smoothing=0,
            mininterval=0.5,
        )  # fmt: skip

    @contextmanager
    def stage(self, name: str, weight: float = 1.0) -> Iterator[None]:
        """Be in a stage while the context lasts.

        Args:
            name: one of the stages.
            weight: work a token that is seen to pass stands for, in forward passes.
        """
        if not self._shown:
            yield
            return
        place = list(self._stages).index(name) + 1
        self._bar.set_description(f"{place}/{len(self._stages)} {name}", refresh=True)
        end = self._ends[name]

        def seen(module: nn.Module, args: Any, kwargs: Any) -> None:
            ids = kwargs.get("input_ids")
            work = weight * (ids.numel() if ids is not None else 0)
            self._bar.update(min(work, max(end - self._bar.n, 0.0)))

        hook = self._model.register_forward_pre_hook(seen, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            # What was read from the disk, or took less than was thought, says nothing of the speed.
            self._bar.initial += max(end - self._bar.n, 0.0)
            self._bar.update(end - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
