"""One step on one group of answers: which of them rise and which fall, foretold and seen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from entanglement.optimizers import make_optimizer
from entanglement.rewards import Answers, draw_answers, get_method, group_gram, method_loss, read_answers
from entanglement.rewards.methods import Drawn
from entanglement.updates.metric import preconditioner

__all__ = ["METRICS", "SHARES", "agreement", "single_steps"]

#: In which a step is foretold: of a plain step, or of the optimizer as it stands.
METRICS = ("plain", "optimizer")
#: Of the plain prediction: they add up to it.
SHARES = ("own", "from_right", "from_wrong")


def _log_pi(model: nn.Module, answers: Answers) -> torch.Tensor:
    with torch.no_grad():
        return (read_answers(model, answers).logps * answers.mask).double().sum(dim=1)


def single_steps(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    reward: Callable[[Answers], torch.Tensor],
    *,
    optimizer: str,
    lr: float,
    group: int,
    tokens: int,
    seed: int,
    warm: int = 4,
) -> pd.DataFrame:
    """Take one step of GRPO on each prompt's group alone, from the same parameters, and foretell it.

    Args:
        model: left as it was.
        tokenizer: the model's.
        prompts: the first ``warm`` ones give an optimizer its memory; one group for each of the others.
        reward: of answers.
        optimizer: "sgd" or "adamw".
        lr: its rate.
        group: answers a prompt.
        tokens: at which an answer is cut.
        seed: of the draws.
        warm: how many groups the optimizer has stepped on before.

    Returns:
        One row an answer whose group has a right and a wrong one: prompt, answer, right, length, before
        (log π, nats), change (true), plain, optimizer (predicted changes: by the Gram matrix of the
        gradients in these metrics).
    """
    method = get_method("grpo")
    start = copy.deepcopy(model.state_dict())
    rows: list[pd.DataFrame] = []

    def credited(answers: Answers) -> torch.Tensor:
        zeros = torch.zeros(answers.mask.shape)
        scores = reward(answers)
        advantages, _ = method.credit(Drawn(scores, zeros, answers.mask, group, 0.0, zeros))
        return advantages

    def step(stepper: torch.optim.Optimizer, answers: Answers, advantages: torch.Tensor) -> None:
        logps = read_answers(model, answers).logps
        old = logps.detach()
        stepper.zero_grad(set_to_none=True)
        method_loss(method, logps, old, old, advantages, answers.mask, beta=0.0).backward()
        stepper.step()

    drawn = draw_answers(model, tokenizer, prompts, group=group, tokens=tokens, seed=seed)
    groups = [drawn.select(range(k, k + group), group) for k in range(0, len(drawn), group)]
    warmed = make_optimizer(optimizer, model, lr)
    for answers in groups[:warm]:
        step(warmed, answers, credited(answers))
        model.load_state_dict(start)
    memory = copy.deepcopy(warmed.state_dict())
    for prompt, answers in zip(prompts[warm:], groups[warm:], strict=True):
        advantages = credited(answers)
        if not bool(advantages.any()):
            continue  # all right or all wrong: there is no step
        before = _log_pi(model, answers)
        stepper = make_optimizer(optimizer, model, lr)
        stepper.load_state_dict(copy.deepcopy(memory))
        step(stepper, answers, advantages)
        change = _log_pi(model, answers) - before
        metric = preconditioner(model, stepper)
        model.load_state_dict(start)
        # The loss is a mean over answers of the means over their tokens.
        weights = advantages[:, 0] / answers.lengths / group
        frame = pd.DataFrame({"answer": np.arange(group), "right": reward(answers).numpy() > 0})
        frame.insert(0, "prompt", prompt)
        frame["length"] = answers.lengths.numpy()
        frame["before"], frame["change"] = before.numpy(), change.numpy()
        gram = group_gram(model, answers)
        frame["plain"] = lr * gram.change(weights).numpy()
        frame["optimizer"] = lr * group_gram(model, answers, metric=metric).change(weights).numpy()
        # Of the plain one: what comes from the answer itself, from other right ones, and from wrong ones.
        right = torch.tensor(frame["right"].to_numpy(copy=True))
        own = gram.gram.diagonal() * weights
        frame["own"] = lr * own.numpy()
        frame["from_right"] = lr * (gram.change(weights * right) - own * right).numpy()
        frame["from_wrong"] = lr * (gram.change(weights * ~right) - own * ~right).numpy()
        rows.append(frame)
    columns = ["prompt", "answer", "right", "length", "before", "change", *METRICS, *SHARES]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Return, for each metric, how well falls of right answers were foretold.

    Args:
        table: of ``single_steps``.

    Returns:
        One row a metric: answers (right ones), fell (share that truly fell), agree (share whose sign was
        foretold), always (share if one foretold that right answers rise), told (share of the falls that were
        foretold), correlation (of the changes' ranks).
    """
    right = table[table["right"]]
    rows = []
    for metric in METRICS:
        truth, told = right["change"] < 0, right[metric] < 0
        row = {"metric": metric, "answers": len(right), "fell": truth.mean(), "agree": (truth == told).mean()}
        row["always"] = 1 - truth.mean()
        row["told"] = told[truth].mean()  # nan where none fell
        row["correlation"] = right["change"].corr(right[metric], method="spearman")
        rows.append(row)
    return pd.DataFrame(rows)
