"""What the audit's chapter computes live: a file of odd rows, two readings of a pair, ratios by length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.auditing import AuditReport
from entanglement.files import write_whole
from entanglement.logps import response_logps
from entanglement.pairs import PreferencePair
from entanglement.rows import Comparison, encode, judge, padded, read_rows

__all__ = ["GUIDE", "ODD_ROWS", "length_ratios", "two_readings", "verdicts", "write_pairs"]

#: Rows as bug reports have them, with a sound one.
ODD_ROWS: tuple[dict[str, object], ...] = (
    {"prompt": "Is the film good?", "chosen": " Yes, it is.", "rejected": " No, it is not."},
    {"prompt": "Is the film good?", "chosen": " No, it is not.", "rejected": " Yes, it is."},
    {"prompt": "Is it long?", "chosen": " Yes, it is.", "rejected": " Yes, it is."},
    {"prompt": "Is it long?", "chosen": "", "rejected": " No."},
    {"prompt": "Is it dull?", "chosen": " No.<|endoftext|>", "rejected": " Yes."},
    {"prompt": "Is it loud?", "chosen": None, "rejected": " Yes."},
)

#: Question; what to do where its answer leads out; that answer and the one that leads on.
GUIDE = (
    (
        "Does the margin grow?",
        "Not entanglement: look at rows,\nrate, and which column is which.",
        "no|yes",
    ),
    (
        "Has the chosen reward fallen by\nmore than batches differ?",
        "Nothing to mend.",
        "no|yes",
    ),
    (
        "Do answers that you care about\nfall with it? (the callback)",
        "Leave it: the loss asks\nfor no more than a margin.",
        "no|yes",
    ),
    (
        "Does the audit name a ratio at\nwhich they stay?",
        "Fewer or smaller steps, other\nrows, or a term for the chosen.",
        "no|yes",
    ),
    ("A short run at that ratio:\nlook at the same answers again", "", ""),
)


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> Path:
    """Write pairs as JSON lines with the columns prompt, chosen and rejected."""
    rows = [{"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs]
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path


def verdicts(folder: Path, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """Return what is said of each of ``ODD_ROWS``, read from a file: row, chosen, rejected, verdict."""
    path = folder / "odd.jsonl"
    write_whole(path, "".join(json.dumps(row) + "\n" for row in ODD_ROWS))
    judged = judge(read_rows(path), "explicit", tokenizer)
    found = [
        {"row": one.place, "chosen": row["chosen"], "rejected": row["rejected"], "verdict": one.verdict}
        for one, row in zip(judged, ODD_ROWS, strict=True)
    ]
    return pd.DataFrame(found).set_index("row")


@torch.no_grad()
def two_readings(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[PreferencePair]
) -> pd.DataFrame:
    """Return log π of chosen responses (nats) by the tokens that TRL makes of a row, and by this book's.

    Returns:
        One row a pair: trl, book.
    """
    found = {}
    for name, tokens in (("trl", "trl"), ("book", "collate")):
        encoded = [
            encode(
                Comparison(pair.prompt, pair.chosen, pair.rejected),
                tokenizer,
                tokens=tokens,  # type: ignore[arg-type]
                max_length=tokenizer.model_max_length,
            )
            for pair in pairs
        ]
        parts = [
            response_logps(model, padded([one], padding_side="left", append_eos=name == "trl"))[0]
            for one in encoded
        ]
        found[name] = torch.cat(parts).numpy()
    return pd.DataFrame(found)


def length_ratios(report: AuditReport) -> np.ndarray:
    """Return |y_l|/|y_w| of an audit's sampled pairs: by this a loss of length-normalized log-probabilities
    multiplies the ratio of the two weights.
    """
    return (report.pairs["rejected_len"] / report.pairs["chosen_len"]).to_numpy()
