"""The grid of chapter 05: many losses from one checkpoint, on near-copies and on pairs that are none.

A cell fine-tunes the base on chosen responses, and then trains it with one loss; the cells of one data set
and seed start from the same checkpoint. All losses get the same optimizer, rate, steps and order of pairs:
AdamW divides a loss's own scale out, so one rate moves all of them about as far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.datasets import sentiment_pairs, tldr_pairs
from entanglement.datasets.cached import cached_docstrings
from entanglement.geometry import CASES, PairGeometry
from entanglement.logps import PairLogps
from entanglement.losses import Loss, general, get_loss, hybrid, margins, pulled, separable, strict
from entanglement.models import LADDER, load_model
from entanglement.pairs import PreferencePair
from entanglement.squeezing import answer_moves, mass_moves, token_moves
from entanglement.training import Account, Trajectory, align, sft
from entanglement.training.account import TERMS

__all__ = [
    "DATA",
    "LOSSES",
    "Recipe",
    "checkpoint",
    "data_pairs",
    "describe",
    "grid_cells",
    "recipe",
    "run_cell",
    "step_means",
    "train_pairs",
    "with_weights",
]

#: The modules that declare the losses trained here; naming them makes the tables depend on their code.
DECLARED = (strict, margins, general, pulled, separable, hybrid)

DATA: dict[str, str] = {
    "sentiment": "sentiment of tweets with the long suffix: the two responses are near-copies",
    "summaries": "docstring summaries against those of siblings: the two responses share few words",
}
LOSSES: tuple[str, ...] = (
    "dpo",
    "ipo",
    "kto",
    "sppo",
    "simpo",
    "bco",
    "slic_hf",
    "rrhf",
    "dpop",
    "rpo",
    "cpo",
    "orpo",
)


@dataclass(frozen=True)
class Recipe:
    """The numbers of one run.

    Attributes:
        train_pairs: how many summaries are trained on (all tweets are).
        sft_steps, sft_lr, sft_batch: of supervised fine-tuning (AdamW, constant rate).
        steps, lr, batch: of preference optimization (AdamW, linear warm-up and decay), the same for all
            losses; a batch of summaries, whose sequences are three times as long, is half as large.
        test_pairs: held-out pairs, drawn by seed; geometry_pairs of them get their gradients measured.
        moments: steps at which held-out pairs are measured.
        seeds: how many.
        account_pairs: pairs of each batch, and held-out pairs, whose account is kept for DPO.
        answer_tokens: length of the models' own answers.
    """

    train_pairs: int
    sft_steps: int
    sft_lr: float
    sft_batch: int
    steps: int
    lr: float
    batch: int
    test_pairs: int
    geometry_pairs: int
    moments: tuple[int, ...]
    seeds: int
    account_pairs: int
    answer_tokens: int


_BOOK = Recipe(
    train_pairs=1500,
    sft_steps=64,
    sft_lr=1.41e-5,
    sft_batch=16,
    steps=32,
    lr=2.5e-5,
    batch=32,
    test_pairs=48,
    geometry_pairs=16,
    moments=(0, 4, 8, 16, 24, 32),
    seeds=5,
    account_pairs=4,
    answer_tokens=10,
)
_SMOKE = replace(
    _BOOK,
    train_pairs=40,
    sft_steps=2,
    sft_batch=4,
    steps=3,
    batch=4,
    test_pairs=5,
    geometry_pairs=2,
    moments=(0, 3),
    seeds=2,
    account_pairs=2,
)
_PAPER = replace(_BOOK, steps=42, lr=5e-6, test_pairs=200, geometry_pairs=50, moments=(0, 8, 16, 24, 32, 42))


def recipe(scale: str) -> Recipe:
    """Return the numbers of a run at "smoke", "book" or "paper".

    Raises:
        ValueError: an unknown scale.
    """
    found = {"smoke": _SMOKE, "book": _BOOK, "paper": _PAPER}.get(scale)
    if found is None:
        raise ValueError(f"scale={scale!r}; expected smoke, book or paper.")
    return found


def grid_cells(scale: str, model: str = "nano") -> list[dict[str, Any]]:
    """Return the cells: every loss on every data set for every seed.

    Cells with the same checkpoint stand next to each other.
    """
    seeds = range(recipe(scale).seeds)
    return [{"data": data, "loss": name, "seed": seed} for data in DATA for seed in seeds for name in LOSSES]


@lru_cache(maxsize=2)
def data_pairs(data: str, split: str, n: int | None, seed: int) -> list[PreferencePair]:
    """Return the pairs of one of ``DATA``.

    Raises:
        ValueError: an unknown data set.
    """
    if data == "sentiment":
        return sentiment_pairs("long_suffix", split, n=n, seed=seed)  # type: ignore[arg-type]
    if data == "summaries":
        return tldr_pairs("sibling", split, n=n, seed=seed, docstrings=cached_docstrings())  # type: ignore[arg-type]
    raise ValueError(f"data={data!r}; expected one of {', '.join(DATA)}.")


@lru_cache(maxsize=1)
def checkpoint(
    scale: str, model: str, data: str, seed: int
) -> tuple[nn.Module, PreTrainedTokenizerBase, dict[str, torch.Tensor]]:
    """Return the base fine-tuned on chosen responses, and its parameters, for the cells that start there."""
    numbers = recipe(scale)
    policy, tokenizer = load_model(model)
    sft(
        policy,
        tokenizer,
        train_pairs(scale, data, seed),
        steps=numbers.sft_steps,
        lr=numbers.sft_lr,
        batch_size=numbers.sft_batch,
        seed=seed,
    )
    return policy, tokenizer, {name: value.clone() for name, value in policy.state_dict().items()}


def train_pairs(scale: str, data: str, seed: int) -> list[PreferencePair]:
    """Return the pairs that a cell trains on: all tweets, or as many summaries as the recipe says."""
    return data_pairs(data, "train", None if data == "sentiment" else recipe(scale).train_pairs, seed)


def run_cell(scale: str, model: str, cell: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Run one cell and return its tables; each row carries the cell.

    Returns:
        "means": one row a step, means over held-out pairs (``with_weights``).
        "pairs": the held-out pairs whose gradients were measured, at the first and the last step.
        "mass", "tokens", "answers": where the held-out responses' probability went (``squeezing``).
        "account": for DPO, the account of Δ log π summed over the steps, a row a set and response.

    Raises:
        ValueError: an unknown data set or loss.
    """
    numbers = recipe(scale)
    data, seed, loss = cell["data"], int(cell["seed"]), get_loss(cell["loss"])
    policy, tokenizer, start = checkpoint(scale, model, data, seed)
    policy.load_state_dict(start)
    test = data_pairs(data, "test", numbers.test_pairs, seed)
    run = align(
        policy,
        tokenizer,
        train_pairs(scale, data, seed),
        loss=loss,
        steps=numbers.steps,
        lr=numbers.lr,
        batch_size=numbers.batch if data == "sentiment" else numbers.batch // 2,
        seed=seed,
        evaluate={"test": test},
        evaluate_at=numbers.moments,
        geometry_pairs=numbers.geometry_pairs,
        observers=[Account(numbers.account_pairs)] if loss.name == "dpo" else [],
    )
    pairs = with_weights(run, loss)
    before, _ = load_model(model)
    before.load_state_dict(start)
    before.eval()
    both = (before, policy, tokenizer, test)
    tables = {
        "means": step_means(pairs),
        "pairs": pairs[pairs["step"].isin([0, numbers.steps])].dropna(subset=["cosine"]),
        "mass": mass_moves(*both),
        "tokens": token_moves(*both),
        "answers": answer_moves(*both, tokens=numbers.answer_tokens, seed=seed),
    }
    if len(run.account):
        keys = ["set", "response"]
        sums = run.account.groupby([*keys, "pair", "step"])[[*TERMS, "total"]].mean().groupby([*keys, "step"])
        tables["account"] = sums.mean().groupby(keys).sum().reset_index()
    for table in tables.values():
        for place, (key, value) in enumerate(cell.items()):
            table.insert(place, key, value)
    return tables


def with_weights(run: Trajectory, loss: Loss) -> pd.DataFrame:
    """Return a trajectory's held-out pairs with what the loss makes of them.

    Args:
        run: from ``align``; its first moment is the reference.
        loss: that it was trained with.

    Returns:
        One row a step and pair: step, pair, chosen, rejected, margin (changes since the reference, nats),
        d_w, d_l, r, cosine, norm_ratio, weighed (d_l b / d_w a) and case (for these weights; missing where no
        gradient was measured).
    """
    frames = []
    table = run.table
    first = table[table["step"] == table["step"].min()].set_index("pair")
    for step, rows in table.groupby("step", sort=True):
        reference = first.loc[rows["pair"]]

        def column(frame: pd.DataFrame, name: str) -> torch.Tensor:
            return torch.tensor(frame[name].to_numpy(copy=True))

        logps = PairLogps(
            column(rows, "chosen_logp"),
            column(rows, "rejected_logp"),
            column(reference, "chosen_logp"),
            column(reference, "rejected_logp"),
            column(rows, "chosen_len"),
            column(rows, "rejected_len"),
        )
        d_w, d_l = loss.weights(logps)
        frame = pd.DataFrame(
            {
                "step": step,
                "pair": rows["pair"].to_numpy(),
                "chosen": logps.chosen_logratio,
                "rejected": logps.rejected_logratio,
                "margin": logps.delta,
                "d_w": d_w,
                "d_l": d_l,
                "r": d_w / d_l,
                "cosine": rows["cosine"].to_numpy(),
                "norm_ratio": (rows["rejected_norm"] / rows["chosen_norm"]).to_numpy(),
                "case": None,
            }
        )
        frame["weighed"] = frame["norm_ratio"] / frame["r"]
        measured = frame["cosine"].notna().to_numpy(copy=True)
        if measured.any():
            some = rows[measured]
            a, b, rho = (column(some, name) for name in ("chosen_norm", "rejected_norm", "cosine"))
            geometry = PairGeometry(a * a, b * b, a * b * rho)
            where = torch.tensor(measured)
            frame.loc[measured, "case"] = geometry.case(d_w[where], d_l[where])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def step_means(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row a step: means over pairs, the shares of the cases and of what really happened."""
    rows = []
    for step, group in pairs.groupby("step", sort=True):
        measured = group.dropna(subset=["case"])
        row: dict[str, object] = {"step": step, "pairs": len(group)}
        row |= {name: group[name].mean() for name in ("chosen", "rejected", "margin")}
        row["r"] = group["r"].median()
        row["fell"] = float((group["chosen"] < 0).mean())
        row["both_fell"] = float(((group["chosen"] < 0) & (group["rejected"] < 0)).mean())
        row |= {name: measured[name].mean() for name in ("cosine", "norm_ratio")}
        row |= {c: float((measured["case"] == c).mean()) if len(measured) else np.nan for c in CASES}
        rows.append(row)
    return pd.DataFrame(rows)


def describe(scale: str, model: str) -> dict[str, Any]:
    """Return the recipe and the model's description, for the provenance of a table."""
    about = LADDER.get(model, "hub model")
    return {"recipe": asdict(recipe(scale)), "losses": _defaults(LOSSES), "model": model, "about": about}


def _defaults(names: Sequence[str]) -> dict[str, dict[str, float]]:
    return {name: get_loss(name).hyper for name in names}
