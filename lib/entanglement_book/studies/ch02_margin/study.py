"""The runs of the underspecified margin: two toys in which the margin grows and an answer goes the wrong way.

Both are made of placeholder sentences about files and keys. In the first a helpful model is taught to refuse,
and the refusal repeats the words of the answer that it refuses. In the second a student that gives its
teacher's short answer is taught not to ramble. Each has a control in which the two answers share no words.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.pairs import PreferencePair
from entanglement.sampling import continue_prompts
from entanglement.training import align
from entanglement_book.studies.shared.toys import Sizes, taught_answers, taught_to_comply

__all__ = [
    "run_distillation",
    "run_refusals",
    "share_drawn",
]


def _changes(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a pair: how both log-probabilities changed from the first moment to the last, nats."""
    steps = table["step"]
    first, last = (
        table[steps == step].set_index("pair")[["chosen_logp", "rejected_logp"]]
        for step in (steps.min(), steps.max())
    )
    return (last - first).rename(columns=lambda name: name.removesuffix("_logp")).reset_index()


def run_refusals(model: str, kind: str, numbers: Sizes, seed: int) -> pd.DataFrame:
    """Teach a model to comply, and then, in three ways, to refuse.

    Args:
        model: name of the base.
        kind: of ``refusals``.
        numbers: sizes.
        seed: of all orders.

    Returns:
        One row a held-out pair and way ("one pair, DPO": plain steps on that pair alone; "all pairs, DPO" and
        "all pairs, DPO + NLL": AdamW on the training pairs): kind, way, seed, pair, chosen, rejected (changes
        of their log-probabilities since the reference, nats).
    """
    policy, tokenizer, pairs = taught_to_comply(model, kind, numbers, seed)
    start = {name: value.clone() for name, value in policy.state_dict().items()}
    train, test = pairs[: numbers.train], pairs[-numbers.test :]
    parts = []
    for pair in test[: numbers.alone]:
        policy.load_state_dict(start)
        run = align(
            policy, tokenizer, [pair], steps=numbers.alone_steps, lr=numbers.alone_lr, batch_size=1,
            optimizer="sgd", max_grad_norm=None, evaluate={"test": [pair]},
            evaluate_at=(0, numbers.alone_steps),
        )  # fmt: skip
        parts.append(_changes(run.table).assign(way="one pair, DPO"))
    for loss, way in (("dpo", "all pairs, DPO"), ("rpo", "all pairs, DPO + NLL")):
        policy.load_state_dict(start)
        run = align(
            policy, tokenizer, train, loss=loss, steps=numbers.steps, lr=numbers.lr, batch_size=numbers.batch,
            seed=seed, evaluate={"test": test}, evaluate_at=(0, numbers.steps),
        )  # fmt: skip
        parts.append(_changes(run.table).assign(way=way))
    return pd.concat(parts, ignore_index=True).assign(kind=kind, seed=seed)


def share_drawn(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    draws: int,
    seed: int,
) -> float:
    """Return the share of drawn answers that are exactly the chosen one, up to and with the end token.

    Args:
        model, tokenizer: drawn from.
        pairs: their prompts are answered, ``draws`` times each.
        draws: how often.
        seed: of the draws.
    """
    wanted = [
        [*tokenizer(p.chosen, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for p in pairs
    ]
    longest = max(len(ids) for ids in wanted)
    prompts = [pair.prompt for pair in pairs for _ in range(draws)]
    found = continue_prompts(model, tokenizer, prompts, longest, seed=seed).ids.tolist()
    exact = [answer[: len(wanted[i // draws])] == wanted[i // draws] for i, answer in enumerate(found)]
    return sum(exact) / len(exact)


def run_distillation(model: str, kind: str, numbers: Sizes, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach a student its teacher's answers, and then, by DPO, to prefer them to its own.

    Args:
        model: name of the base.
        kind: of ``distillation``.
        numbers: sizes.
        seed: of all orders and draws.

    Returns:
        (pairs, shares). pairs: one row a held-out pair: kind, seed, pair, chosen, rejected (changes, nats).
        shares: one row for "before" and "after" DPO: kind, seed, moment, ideal (share of the drawn answers
        that are the teacher's), preferred (share of pairs in which the teacher's is the likelier one).
    """
    policy, tokenizer, pairs = taught_answers(model, kind, numbers, seed)
    train, test = pairs[: numbers.train], pairs[-numbers.test :]
    shares = []

    def draw(moment: str) -> None:
        share = share_drawn(policy, tokenizer, test, numbers.draws, seed)
        shares.append({"kind": kind, "seed": seed, "moment": moment, "ideal": share})

    draw("before")
    run = align(
        policy, tokenizer, train, steps=numbers.steps, lr=numbers.lr, batch_size=numbers.batch, seed=seed,
        append_eos=True, evaluate={"test": test}, evaluate_at=(0, numbers.steps),
    )  # fmt: skip
    draw("after")
    preferred = run.means().sort_values("step")["accuracy"].to_numpy()
    table = pd.DataFrame(shares).assign(preferred=[preferred[0], preferred[-1]])
    return _changes(run.table).assign(kind=kind, seed=seed), table
