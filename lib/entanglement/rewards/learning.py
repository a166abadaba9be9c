"""Learning from rewards: draw answers, score them, step on them; one loop for all methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from entanglement.batches import shuffled
from entanglement.checks import non_empty, non_negative, positive, share, torch_seed, whole
from entanglement.gradients.select import fused_activations
from entanglement.optimizers import OptimizerFactory, make_optimizer
from entanglement.rewards.advantages import masked_mean
from entanglement.rewards.answers import Answers, Read, draw_answers, read_answers
from entanglement.rewards.methods import Drawn, Method, get_method
from entanglement.rewards.policy_losses import clipped_loss, clipped_share, falls, k3, mean_of, value_loss
from entanglement.signatures import checked
from entanglement.training.measure import PairSets, looking
from entanglement.training.settings import moments_of, rate_share
from entanglement.training.stepping import step_on
from entanglement.training.trajectory import Trajectory

__all__ = ["Reward", "Weigher", "method_loss", "reinforce"]

#: Of drawn answers → their rewards, (R,).
Reward = Callable[[Answers], torch.Tensor]
#: Of the policy, the answers and their advantages (R, K) → what these are multiplied by, (R, K).
Weigher = Callable[[nn.Module, Answers, torch.Tensor], torch.Tensor]


@checked(beta=non_negative, clip=positive)
def method_loss(
    method: Method,
    logps: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    beta: float = 0.05,
    clip: float = 0.2,
) -> torch.Tensor:
    """Return a method's loss of the policy, without that of a value head; all tensors (R, K).

    Args:
        method: of ``get_method``.
        logps: log π of each token, nats; gradients flow.
        old: log π when the answers were drawn.
        reference: log π_ref.
        advantages: of each token.
        mask: which tokens are there.
        beta: price of a nat from the reference, where the loss has a part for it.
        clip: ε of the ratio.
    """
    loss = clipped_loss(logps, old, advantages, mask, clip=clip, level=method.level, average=method.average)
    if method.penalty != "reward" and beta:
        price = k3(logps, reference)
        if method.penalty == "corrected k3":
            price = price * (logps - old).exp()
        loss = loss + beta * mean_of(price, mask, method.average)
    return loss


@checked(
    prompts=non_empty, steps=whole(0), lr=positive, batch_size=whole(1), group=whole(2), tokens=whole(1),
    epochs=whole(1), beta=non_negative, clip=positive, warmup=share, max_grad_norm=positive,
    value_lr=positive, preserve=non_negative, seed=torch_seed,
)  # fmt: skip
def reinforce(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    reward: Reward,
    *,
    method: str | Method = "grpo",
    steps: int = 32,
    lr: float = 2.5e-5,
    batch_size: int = 8,
    group: int = 4,
    tokens: int = 10,
    epochs: int = 1,
    beta: float = 0.05,
    clip: float = 0.2,
    optimizer: str | OptimizerFactory = "adamw",
    warmup: float = 0.1,
    max_grad_norm: float | None = 1.0,
    value_lr: float = 1e-2,
    weigh: Weigher | None = None,
    preserve: float = 0.0,
    seed: int = 0,
    append_eos: bool = False,
    evaluate: PairSets | None = None,
    evaluate_at: Sequence[int] | None = None,
    progress: bool = False,
) -> Trajectory:
    """Improve a policy in place by rewards of its own answers; the reference is the policy as it comes in.

    The value head of a method that has one is linear, begins at 0, and reads the trunk's states without
    stepping the trunk; it is thrown away at the end.

    Args:
        model: a causal language model of transformers; all parameters that require gradients are trained.
        tokenizer: the model's.
        prompts: to answer.
        reward: of drawn answers → (R,) numbers.
        method: a name of ``METHODS``, or a method.
        steps: batches of answers that are drawn.
        lr: peak learning rate; the schedule is that of ``align``.
        batch_size: prompts a step.
        group: answers a prompt.
        tokens: at which an answer is cut.
        epochs: optimizer steps on each batch of answers.
        beta: price of a nat from the reference.
        clip: ε of the ratio.
        optimizer: as in ``align``.
        warmup: share of the steps over which the rate rises.
        max_grad_norm: gradients are clipped to this norm; None for no clipping.
        value_lr: of the value head (Adam).
        weigh: what advantages are multiplied by, token by token; None for nothing.
        preserve: weight of ``falls`` in the loss; it acts from the second epoch on.
        seed: of the order of the prompts, and of the draws.
        append_eos: as in ``collate``, for the pairs of ``evaluate``.
        evaluate: named pair sets to measure along the way.
        evaluate_at: at which steps; None for nine moments.
        progress: show a progress bar.

    Returns:
        A trajectory whose ``monitor`` has one row a step: reward (mean of the answers), spread (mean standard
        deviation in a group), kl (estimate of KL(π ‖ π_ref) of an answer, nats), length (tokens), clipped
        (share of ratios in the last epoch), fell (share of answers with a positive advantage that are less
        likely after the step), and read (tokens that models went over forward, a backward pass being two).

    Raises:
        ValueError: an argument out of range; rewards of another shape; a loss, gradient or parameter that is
            not finite, naming the step (``NotFinite``).
    """
    method = get_method(method) if isinstance(method, str) else method
    if batch_size > len(prompts):
        raise ValueError(f"batch_size={batch_size} is more than the {len(prompts)} prompts.")
    moments = moments_of(steps, evaluate_at)
    model.eval()
    stepper = make_optimizer(optimizer, model, lr)
    reference = copy.deepcopy(model).requires_grad_(False)
    values = _Values(value_lr) if method.values else None
    look, tables = looking(model, tokenizer, evaluate, moments, append_eos=append_eos, geometry_pairs=0)
    losses, rows = [], []
    with fused_activations(model), fused_activations(reference):
        look(0)
        batches = shuffled(len(prompts), steps, batch_size, seed)
        for step, picked in enumerate(tqdm(batches, total=steps, disable=not progress), start=1):
            answers = draw_answers(
                model, tokenizer, [prompts[i] for i in picked], group=group, tokens=tokens,
                seed=(int(seed) * 1_000_003 + step) % 2**63,
            )  # fmt: skip
            read = read_answers(model, answers)  # also the first epoch's forward pass
            before = read.logps.detach()
            with torch.no_grad():
                frozen = read_answers(reference, answers).logps
            mask = answers.mask.to(before.device)
            scores = _scores(reward, answers).to(before)
            expected = torch.zeros_like(before) if values is None else values.of(read).detach()
            drawn = Drawn(scores, before - frozen, mask, group, beta, expected)
            advantages, targets = method.credit(drawn)
            if weigh is not None:
                advantages = advantages * weigh(model, answers, advantages)
            for rate in stepper.param_groups:
                rate["lr"] = lr * rate_share(step, steps, warmup)
            for epoch in range(epochs):
                logps = read.logps if epoch == 0 else read_answers(model, answers).logps
                loss = method_loss(method, logps, before, frozen, advantages, mask, beta=beta, clip=clip)
                if preserve:
                    loss = loss + preserve * falls(logps, before, advantages, mask)
                norm = step_on(model, stepper, loss, max_grad_norm, step)
                if values is not None:
                    values.step(read, targets, mask)
            with torch.no_grad():
                after = read_answers(model, answers).logps
            losses.append({"step": step, "loss": float(loss.detach()), "lr": rate["lr"], "grad_norm": norm})
            row = {"step": step} | _seen(method, drawn, advantages, before, after, logps.detach(), clip)
            # Drawn, scored, read by the reference and after the step; a backward pass is two forward ones.
            row["read"] = int(answers.attention_mask.sum()) * (4 + 3 * epochs)
            rows.append(row)
            look(step)
    return Trajectory(
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        pd.DataFrame(losses, columns=["step", "loss", "lr", "grad_norm"]),
        monitor=pd.DataFrame(rows),
    )


class _Values:
    """A linear head on the trunk's states: what reward is expected before each token."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.weights: list[torch.Tensor] = []
        self.optimizer: torch.optim.Optimizer | None = None

    def of(self, read: Read) -> torch.Tensor:
        """Return (R, K) values, 0 before the first step."""
        states = read.states.detach()
        if self.optimizer is None:
            width = states.shape[2]
            self.weights = [states.new_zeros(size, requires_grad=True) for size in (width, 1)]
            self.optimizer = torch.optim.Adam(self.weights, lr=self.lr)
        return states @ self.weights[0] + self.weights[1]

    def step(self, read: Read, targets: torch.Tensor, mask: torch.Tensor) -> None:
        """Step toward the targets."""
        loss = value_loss(self.of(read), targets, mask)
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def _scores(reward: Reward, answers: Answers) -> torch.Tensor:
    scores = reward(answers)
    if not isinstance(scores, torch.Tensor) or scores.shape != (len(answers),):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(f"reward gave {got}; expected a tensor ({len(answers)},).")
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("reward gave a number that is not finite.")
    return scores.detach()


def _seen(
    method: Method,
    drawn: Drawn,
    advantages: torch.Tensor,
    before: torch.Tensor,
    after: torch.Tensor,
    last: torch.Tensor,
    clip: float,
) -> dict[str, float]:
    """Return what a step's row says of its answers."""
    mask = drawn.mask
    moved = ((after - before) * mask).sum(dim=1)
    good = _sign(advantages, mask) > 0
    spread = drawn.scores.view(-1, drawn.group).std(dim=1)
    return {
        "reward": float(drawn.scores.mean()),
        "spread": float(spread.mean()),
        "kl": float((drawn.log_ratios * mask).sum(dim=1).mean()),
        "length": float(mask.sum(dim=1).double().mean()),
        "clipped": clipped_share(last, before, advantages, mask, clip=clip, level=method.level),
        "fell": float((moved[good] < 0).double().mean()) if bool(good.any()) else float("nan"),
    }


def _sign(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the sign of each answer's mean advantage, (R,)."""
    return torch.stack([masked_mean(a[None], m[None]) for a, m in zip(advantages, mask, strict=True)]).sign()
