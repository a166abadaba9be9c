"""The scalars that a run has sent to TensorBoard, read back from its event files by TensorBoard itself."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from entanglement.signatures import checked

__all__ = ["event_files", "events_log"]

_FILES = "events.out.tfevents.*"
#: What the trainer of transformers puts before the names of what it logs while it trains.
_TRAIN = "train/"


@checked()
def event_files(path: Path) -> list[Path]:
    """Return the event files at a path: a file by itself, or those in a folder, at any depth, in order."""
    if path.is_dir():
        return sorted(path.rglob(_FILES))
    return [path] if path.is_file() and path.match(_FILES) else []


@checked()
def events_log(path: Path) -> list[dict[str, Any]]:
    """Return what a trainer logged as it trained, in the form of its ``log_history``.

    Args:
        path: an event file, or a folder with such files. Of several runs in it the last one begun is taken; a
            run that was resumed in the same folder is one run.

    Returns:
        One dictionary a logged step, in order: step, and the logged numbers by the names that
        ``trainer_state.json`` has for them; they are float32 in these files.

    Raises:
        ValueError: no event file, or TensorBoard is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise ValueError(
            "TensorBoard's files need the package tensorboard: pip install tensorboard"
        ) from None
    files = event_files(path)
    if not files:
        raise ValueError(f"path={str(path)!r}: no event file of TensorBoard is there.")
    runs = [files[0]] if not path.is_dir() else sorted({file.parent for file in files})
    read = []
    for run in runs:
        accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})  # 0: all of them
        accumulator.Reload()
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        begun = float("inf")
        for tag in accumulator.Tags()["scalars"]:
            for event in accumulator.Scalars(tag):
                begun = min(begun, event.wall_time)
                if tag.startswith(_TRAIN):
                    rows[event.step][tag.removeprefix(_TRAIN)] = event.value
        if rows:
            read.append((begun, [{"step": step} | rows[step] for step in sorted(rows)]))
    return max(read, key=lambda one: one[0])[1] if read else []
