"""What a piece of work takes: processor time, memory, and how much it multiplies.

Seconds are those of the process's own clock (``time.process_time``) with one thread: the machine is shared,
and what others compute must not count. The least of several runs is taken, since others can only add to it.

Memory is what PyTorch's allocator had handed out at most while the work ran, above what was there before. The
resident size of the process would count its libraries and whatever the system has not taken back, and a GPU
has none; the allocator's count is the same on every run.

Operations are counted by PyTorch's ``FlopCounterMode``: one multiplication and one addition are two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["Work", "count_operations", "least_seconds", "peak_bytes"]

Work = Callable[[], Any]
_ATEN: Any = torch.ops.aten


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
