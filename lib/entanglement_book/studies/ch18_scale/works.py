"""What is measured: five works on one batch, what they take of time and memory, and how much they multiply.

Seconds are those of the process's own clock (``time.process_time``) with one thread: the machine is shared,
and what others compute must not count. The least of several runs is taken, since others can only add to it.

Memory is what PyTorch's allocator had handed out at most while the work ran, above what was there before. The
resident size of the process would count its libraries and whatever the system has not taken back, and a GPU
has none; the allocator's count is the same on every run.

Operations are counted by PyTorch's ``FlopCounterMode``: one multiplication and one addition are two.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from entanglement.auditing import plan_walk
from entanglement.auditing.walk import stepped
from entanglement.gradients import pair_geometry
from entanglement.losses import get_loss
from entanglement.optimizers import make_optimizer
from entanglement.pairs import PairBatch
from entanglement.shared_prompt import quick_logps
from entanglement.updates import get_update

__all__ = ["WORKS", "count_operations", "least_seconds", "peak_bytes", "prepare"]

Work = Callable[[], Any]
#: The works by name, with what they are.
WORKS: dict[str, str] = {
    "step": "one DPO step with AdamW, the reference's pass included",
    "geometry": "the pair geometry",
    "logps": "the log-probabilities",
    "gradient": "the mean gradient of either side",
    "virtual": "a virtual step: moved, measured, undone",
}
_ATEN: Any = torch.ops.aten


def prepare(name: str, model: nn.Module, batch: PairBatch) -> Work:
    """Return a function that does a work once.

    Args:
        name: of ``WORKS``. "step" trains the model in place. "gradient" looks at two batches, the same one
            twice, since a direction is planned from two at least.
        model, batch: on which.

    Raises:
        ValueError: an unknown name.
    """
    loss = get_loss("dpo", beta=0.1)
    if name == "geometry":
        return lambda: pair_geometry(model, batch)
    if name == "logps":
        return lambda: _without_graph(model, batch)
    if name == "gradient":
        return lambda: plan_walk(model, [[batch], [batch]], loss)
    if name == "virtual":
        direction = {key: torch.full_like(p, 1e-6) for key, p in model.named_parameters()}

        def virtual() -> None:
            with stepped(model, direction, 1.0):
                _without_graph(model, batch)

        return virtual
    if name != "step":
        raise ValueError(f"work={name!r}; expected one of {', '.join(WORKS)}.")
    reference, update = copy.deepcopy(model), get_update("joint")
    update.begin(model)
    optimizer = make_optimizer("adamw", model, 1e-6)

    def step() -> None:
        known = _without_graph(reference, batch)
        update.step(model, optimizer, [batch], loss, known, max_grad_norm=1.0)

    return step


@torch.no_grad()
def _without_graph(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return quick_logps(model, batch)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


def count_operations(work: Work) -> int:
    """Return the additions and multiplications of a work's matrix products.

    PyTorch's counter does not know the CPU's fused attention, and is told of it.
    """
    fused = {
        _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
        _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Work) -> int:
    """Return how much memory a work holds at most, bytes, above what is held when it begins."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=False) as seen:
        work()
    results = seen.profiler.kineto_results if seen.profiler is not None else None
    assert results is not None
    moments: list[tuple[int, int]] = []

    def walk(events: Any) -> None:
        for event in events:
            if event.tag.name == "Allocation":
                moments.append((event.start_time_ns, event.extra_fields.alloc_size))
            walk(event.children)

    walk(results.experimental_event_tree())
    held = most = 0
    for _, size in sorted(moments, key=lambda moment: moment[0]):
        held += size
        most = max(most, held)
    return most


def least_seconds(work: Work, runs: int) -> float:
    """Return the least processor time of several runs, s."""
    found = []
    for _ in range(runs):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)
