"""Watching a run of TRL or transformers: what each looked-at step does to probe pairs, and what comes next.

A callback never sees the trainer's batches, so it has pairs of its own, tokenized as TRL does. It looks
before the optimizer's step, when gradients are accumulated and clipped, and after it. Looking draws no random
number and changes neither weights nor gradients: a run with the callback has the weights of one without.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from entanglement.auditing.probe import Probe
from entanglement.auditing.step_turns import probe_walk, step_turns
from entanglement.auditing.walk import length_of
from entanglement.checks import shown, whole
from entanglement.gradients import pair_geometry
from entanglement.gradients.directions import directional_change
from entanglement.logps import model_device
from entanglement.losses import get_loss
from entanglement.rows import Row, TokensAs, judge, read_rows, recognize
from entanglement.signatures import checked
from entanglement.updates.metric import planned_step

__all__ = ["EntanglementCallback"]

PREFIX = "entanglement/"
#: Standard errors by which the mean chosen response must have fallen before it is said.
_SURE = 2.0
#: β where the trainer has none.
_BETA = 0.1


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into its own afterwards.

    accelerate wraps the model's forward for mixed precision; changes of a step are smaller than what bfloat16
    tells apart, so they are read without it. FSDP 2 keeps the outermost parameters gathered after a forward
    that no backward follows, and would train on with these copies after the step: they are let go.
    """
    before = {module: module.training for module in model.modules()}
    wrapped = vars(model).get("forward")
    if "_original_forward" in vars(model):
        vars(model)["forward"] = vars(model)["_original_forward"]
    model.eval()
    try:
        yield
    finally:
        if "_original_forward" in vars(model):
            vars(model)["forward"] = wrapped
        for module, training in before.items():
            module.training = training
            if isinstance(module, FSDPModule):
                module.reshard()


def _in_pieces(model: nn.Module) -> bool:
    """Whether each process holds only its piece of the parameters (FSDP 2, DeepSpeed's ZeRO 3)."""
    modules = list(model.modules())
    if any(isinstance(module, FullyShardedDataParallel) for module in modules):
        raise ValueError(
            "EntanglementCallback: under FSDP version 1 no callback can call the model; set fsdp_version: 2."
        )
    deepspeed = any(hasattr(p, "ds_id") for p in model.parameters())
    return deepspeed or any(isinstance(module, FSDPModule) for module in modules)


@checked(
    probe=None, every=whole(1), geometry=whole(0), turning=whole(0), token_pairs=whole(0),
    max_tokens=whole(1),
)  # fmt: skip
class EntanglementCallback(TrainerCallback):
    """Log, every so many steps, what a step does to probe pairs.

    Give it to ``trainer.add_callback``: to ``DPOTrainer``, to TRL's other trainers on pairs (CPO, ORPO, KTO),
    or to a plain ``Trainer`` that has been given the tokenizer as ``processing_class``. Under
    ``entanglement/`` the trainer's next log, and whatever it reports to (TensorBoard, say), then have

    - chosen_probe, rejected_probe: mean changes of log π since the run began or was resumed, nats;
    - step_chosen, step_rejected: by how much this step moved them; predicted_chosen, predicted_rejected: the
      same, foretold to first order before it was taken (not for optimizers other than AdamW and SGD);
    - cosine, norm_ratio, share_own_down: means over some probe pairs of ⟨g_w, g_l⟩/ab and b/a, and the share
      whose own gradients, at equal weights, would lower their chosen response;
    - r_chosen, r_rejected: the ratios, by which the loss's d_w/d_l is multiplied, at which the mean chosen
      and the mean rejected response would turn. A callback does not see the two sides of the trainer's
      batches, so these are the ratios for a batch of probe pairs in their place, weighted as DPO weighs them
      at its start: one virtual step as long as the one at hand, in the metric of the optimizer's second
      moments, without its momentum (``step_turns``). Above r_chosen the chosen response rises. Left out
      where no ratio between 1/64 and 64 turns it, and for other optimizers than AdamW and SGD;
    - tokens_shared, tokens_own: mean changes since the run began of the chosen responses' tokens that the
      rejected response begins or ends with alike, and of all others, nats a response.

    The log of a step carries the last look before it: with ``logging_steps`` a divisor of ``every`` the look
    at that step. ``seen`` has all of them.

    One line is printed, once, when the mean chosen response has fallen by more than twice its standard error,
    this step lowered it, and it is predicted to go on: the step that AdamW takes carries the mean of the last
    gradients, and to first order it lowers the response. For an optimizer whose step is not known, two looks
    in a row must have seen it fall.

    What it costs: log π of the probe before and after the step, and one forward-mode pass for the
    predictions; a forward and two backward passes over the ``turning`` pairs with three passes for the
    virtual steps; the gradients of the ``geometry`` pairs. On steps that are not looked at nothing is
    computed. Costs grow with the probe and not with the batch. A probe of a quarter of the pairs of a step
    made a looked-at step of ``nano`` 1.3 times as long (``entanglement-book bench watching`` measures it);
    of what it added, log π took 15 %, the predictions 25 %, the ratios 40 %, and geometry with single tokens
    20 %.

    Where several processes hold the whole model each, the first one looks and the others wait at their next
    exchange of gradients. Where each holds a piece of the parameters (FSDP version 2, ZeRO 3), all of them
    measure log π together, and only chosen_probe, rejected_probe and, but for DeepSpeed, step_chosen and
    step_rejected are there. Under DeepSpeed the step has been taken before a callback is asked.

    Args:
        probe: rows in a shape of ``SHAPES`` (held-out ones, say), or what ``read_rows`` takes.
        every: looks are at the first step and at each multiple of this.
        tokens: "trl" for the tokens of ``DPOTrainer``, "collate" for this library's.
        geometry: pairs, the first of the probe, whose gradients are measured; 0 for none.
        turning: pairs, the first of the probe, of which r_chosen and r_rejected are; fewer than 2 for none.
        token_pairs: pairs, the first of the probe, whose single tokens are kept; 0 for none.
        max_tokens: tokens that are computed at a time.

    Attributes:
        seen: one dictionary a look: step, and what was logged.
    """

    def __init__(
        self,
        probe: Iterable[Mapping[str, Any]] | str | Path,
        *,
        every: int = 50,
        tokens: TokensAs = "trl",
        geometry: int = 4,
        turning: int = 4,
        token_pairs: int = 2,
        max_tokens: int = 4096,
    ) -> None:
        if isinstance(probe, str | Path):
            self._rows = list(read_rows(probe))
        elif isinstance(probe, Iterable) and not isinstance(probe, Mapping):
            self._rows = [Row(place, row) for place, row in enumerate(probe, 1)]
        else:
            raise ValueError(f"probe={shown(probe)}; expected rows, or a file of them.")
        self._shape = recognize(self._rows)  # also refuses a probe of nothing
        self.every, self.tokens, self.geometry, self.turning = every, tokens, geometry, turning
        self.token_pairs, self.max_tokens = token_pairs, max_tokens
        self.seen: list[dict[str, float]] = []
        self._probe: Probe | None = None
        self._looks = self._alone = True
        self._start = self._before = self._token_start = torch.zeros(0)
        self._token_looks: list[tuple[int, torch.Tensor]] = []
        self._told: dict[str, float] | None = None
        self._fresh: dict[str, float] = {}
        self._warned = False

    @property
    def token_logps(self) -> pd.DataFrame:
        """Return log π of every response token of the first ``token_pairs`` pairs of the probe.

        One row a token and look, with step (0 before the run), pair, side ("chosen" or "rejected"), position
        (from 0), token (its text), shared (whether the two responses begin or end with it alike) and logp,
        nats. Which tokens of the chosen response fall is read off it; write it with pandas.
        """
        if self._probe is None:
            return pd.DataFrame(columns=["step", "pair", "side", "position", "token", "shared", "logp"])
        names = self._probe.token_names
        parts = [
            pd.concat([pd.Series(step, names.index, name="step"), names], axis=1).assign(logp=values.numpy())
            for step, values in self._token_looks
        ]
        return pd.concat(parts, ignore_index=True)

    # --- what is measured -----------------------------------------------------------------------------------

    def _foretold(self, model: nn.Module, optimizer: Any, args: Any) -> dict[str, float]:
        """Return what is known before a step."""
        assert self._probe is not None
        found = self._geometry(model)
        step = planned_step(optimizer)
        named = {name: step[p] for name, p in model.named_parameters() if step is not None and p in step}
        if not named:  # an optimizer that is not known, or that keeps its gradients to itself
            return found
        device = model_device(model)
        groups = self._probe.groups(len(self._probe.pairs))
        told = [directional_change(model, group.to(device), named, "trainable") for group in groups]
        for k, side in enumerate(("chosen", "rejected")):
            found[f"predicted_{side}"] = float(torch.cat([one[k] for one in told]).mean())
        halves, length = self._probe.halves(self.turning), length_of(named)
        if halves and length > 0:
            loss = get_loss("dpo", beta=float(getattr(args, "beta", None) or _BETA))
            clip = float(getattr(args, "max_grad_norm", 0.0) or 0.0)
            walk = probe_walk(model, optimizer, halves, loss, clip if clip > 0 else None)
            turns = step_turns(model, walk, [group for half in halves for group in half], length)
            found |= {f"r_{k}": r for k, r in zip(("chosen", "rejected"), turns, strict=True) if r == r}
        return found

    def _geometry(self, model: nn.Module) -> dict[str, float]:
        assert self._probe is not None
        parts = [pair_geometry(model, g, "trainable") for g in self._probe.groups(self.geometry)]
        if not parts:
            return {}
        down = torch.cat([part.rates(1.0, 1.0)[0] < 0 for part in parts])
        return {
            "cosine": float(torch.cat([part.cosine for part in parts]).nanmean()),
            "norm_ratio": float(torch.cat([part.norm_ratio for part in parts]).nanmean()),
            "share_own_down": float(down.double().mean()),
        }

    def _tokens_moved(self, model: nn.Module, step: int) -> dict[str, float]:
        """Keep the single tokens' log π, and return how far the two kinds have moved."""
        assert self._probe is not None
        names = self._probe.token_names
        if names.empty:
            return {}
        now = self._probe.token_logps(model)
        self._token_looks.append((step, now))
        if step == 0:
            self._token_start = now
        moved = pd.Series((now - self._token_start).numpy(), names.index)[names["side"] == "chosen"]
        count = names["pair"].nunique()
        shared = names.loc[moved.index, "shared"]
        return {
            "tokens_shared": float(moved[shared].sum() / count),
            "tokens_own": float(moved[~shared].sum() / count),
        }

    # --- the trainer's calls --------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tokenize the probe and see where it stands before the run."""
        given = kwargs.get("processing_class")
        tokenizer = getattr(given, "tokenizer", given)
        if tokenizer is None:
            raise ValueError("EntanglementCallback: the trainer has no tokenizer; give it processing_class.")
        model = kwargs["model"]
        self._alone = not _in_pieces(model)
        self._looks = not self._alone or bool(state.is_world_process_zero)
        self._go_first()
        if not self._looks:
            return
        length = getattr(args, "max_length", None)
        judged = judge(self._rows, self._shape, tokenizer, tokens=self.tokens, max_length=length)
        pairs = [one.encoded for one in judged if one.encoded is not None]
        if not pairs:
            raise ValueError(f"probe: none of its {len(judged)} rows can be trained on ({judged[0].said}).")
        self._probe = Probe(
            pairs, tokenizer, append_eos=self.tokens == "trl",
            token_pairs=self.token_pairs if self._alone else 0, max_tokens=self.max_tokens,
        )  # fmt: skip
        self._token_looks.clear()
        with _still(model):
            self._start = self._probe.logps(model)
            self._tokens_moved(model, 0)

    def _go_first(self) -> None:
        """Stand before the callbacks that report, so that they report this one's numbers too."""
        handler = sys._getframe(2).f_locals.get("self")
        if isinstance(handler, CallbackHandler):
            # The list that is being gone through stays as it is.
            handler.callbacks = [self, *(one for one in handler.callbacks if one is not self)]

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look before a step: gradients are accumulated and clipped."""
        due = state.global_step == 0 or (state.global_step + 1) % self.every == 0
        if not due or self._probe is None:
            return
        model = kwargs["model"]
        with _still(model):
            self._before = self._probe.logps(model)
            self._told = self._foretold(model, kwargs["optimizer"], args) if self._alone else {}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look after it."""
        if self._told is None or self._probe is None:
            return
        model, step = kwargs["model"], state.global_step + 1
        with _still(model):
            after = self._probe.logps(model)
            tokens = self._tokens_moved(model, step)
        moved, since = (after - self._before).mean(dim=0), after - self._start
        found = {"chosen_probe": float(since[:, 0].mean()), "rejected_probe": float(since[:, 1].mean())}
        if not type(kwargs["optimizer"]).__name__.startswith("DeepSpeed"):
            found |= {"step_chosen": float(moved[0]), "step_rejected": float(moved[1])}
        self._fresh = found | self._told | tokens
        self._told = None
        self.seen.append({"step": step} | self._fresh)
        if state.is_world_process_zero:
            self._warn(since[:, 0])

    def _goes_on(self) -> bool:
        """Whether the chosen responses fall, and are predicted to fall on."""
        last = self.seen[-1]
        if "predicted_chosen" in last:
            return last["step_chosen"] < 0 and last["predicted_chosen"] < 0
        where = "step_chosen" if "step_chosen" in last else "chosen_probe"
        two = [look[where] for look in self.seen[-2:]]
        if where == "chosen_probe":  # of the whole run: it must have gone down from look to look
            return len(two) == 2 and two[1] < two[0]
        return len(two) == 2 and max(two) < 0

    def _warn(self, since: torch.Tensor) -> None:
        error = float(since.std() / len(since) ** 0.5) if len(since) > 1 else float("inf")
        if self._warned or not float(since.mean()) < -_SURE * error or not self._goes_on():
            return
        self._warned = True
        last = self.seen[-1]
        ratio = last.get("r_chosen", 0.0)
        turn = f", on pairs such as the probe's at {ratio:.4g}" if ratio > 1 else ""
        warnings.warn(
            f"step {int(last['step'])}: the chosen responses of the probe have fallen by "
            f"{-float(since.mean()):.3g} nats in the mean, and are predicted to fall on. entanglement audit "
            f"says at which ratio r of the two weights they would not{turn}.",
            stacklevel=2,
        )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Put what was seen last beside the trainer's own numbers."""
        if logs is None or not self._fresh or "loss" not in logs:
            return
        named = {PREFIX + name: value for name, value in self._fresh.items()}
        logs |= named
        if state.log_history:
            state.log_history[-1] |= named
        self._fresh = {}
