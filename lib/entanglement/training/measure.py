"""The log-probabilities, and for some pairs the gradients, of one moment of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.batches import collate_for, grouped_logps
from entanglement.checks import non_empty, whole
from entanglement.geometry import PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.pairs import PreferencePair, with_names
from entanglement.signatures import checked

__all__ = ["PairSets", "looking", "measure"]

PairSets = Mapping[str, Sequence[PreferencePair]]


@checked(sets=non_empty, step=whole(0), geometry_pairs=whole(0))
def measure(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sets: PairSets,
    *,
    step: int = 0,
    append_eos: bool = False,
    geometry_pairs: int = 0,
) -> pd.DataFrame:
    """Return the ``Trajectory.table`` rows of one moment.

    Args:
        model: in evaluation mode.
        tokenizer: the model's.
        sets: named lists of pairs. A pair without an id is called by its place in its list.
        step: written into the rows.
        append_eos: as in ``collate``.
        geometry_pairs: how many pairs of each set, from its beginning, get their gradients measured.

    Raises:
        ValueError: no sets, or one without pairs; or as ``collate``.
    """
    frames = []
    for name, some in sets.items():
        if not some:
            raise ValueError(f"measure: the set {name!r} has no pairs; expected at least one.")
        pairs = with_names(some)
        with torch.no_grad():
            logps = grouped_logps(model, tokenizer, pairs, append_eos)
        frame = pd.DataFrame(
            {
                "step": step,
                "set": name,
                "pair": [pair.id for pair in pairs],
                "chosen_logp": logps.chosen.double().cpu().numpy(),
                "rejected_logp": logps.rejected.double().cpu().numpy(),
                "chosen_len": _numpy(logps.chosen_len),
                "rejected_len": _numpy(logps.rejected_len),
                "chosen_norm": np.nan,
                "rejected_norm": np.nan,
                "cosine": np.nan,
                "case": None,
            }
        ).astype({"case": "object"})
        if geometry_pairs:
            few = collate_for(model, pairs[:geometry_pairs], tokenizer, append_eos)
            _add_geometry(frame, pair_geometry(model, few))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _add_geometry(frame: pd.DataFrame, geometry: PairGeometry) -> None:
    rows = frame.index[: len(geometry)]
    frame.loc[rows, "chosen_norm"] = geometry.chosen_sq.sqrt().numpy()
    frame.loc[rows, "rejected_norm"] = geometry.rejected_sq.sqrt().numpy()
    frame.loc[rows, "cosine"] = geometry.cosine.numpy()
    frame.loc[rows, "case"] = geometry.case()


def _numpy(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None
    return values.cpu().numpy()


@checked(geometry_pairs=whole(0))
def looking(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    sets: PairSets | None,
    moments: set[int],
    *,
    append_eos: bool,
    geometry_pairs: int,
) -> tuple[Callable[[int], None], list[pd.DataFrame]]:
    """Return a function that measures at the steps of ``moments`` only, and the list that it fills."""
    tables: list[pd.DataFrame] = []

    def look(step: int) -> None:
        if sets and step in moments:
            options = {"step": step, "append_eos": append_eos, "geometry_pairs": geometry_pairs}
            tables.append(measure(model, tokenizer, sets, **options))  # type: ignore[arg-type]

    return look, tables
