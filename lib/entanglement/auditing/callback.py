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

import torch
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from entanglement.auditing.running import by_tokens
from entanglement.checks import shown, whole
from entanglement.gradients import pair_geometry
from entanglement.gradients.directions import directional_change
from entanglement.logps import model_device
from entanglement.pairs import PairBatch
from entanglement.rows import Row, TokensAs, judge, padded, read_rows, recognize
from entanglement.shared_prompt import quick_logps
from entanglement.signatures import checked
from entanglement.updates.metric import planned_step

__all__ = ["EntanglementCallback"]

PREFIX = "entanglement/"
#: Standard errors by which the mean chosen response must have fallen before it is said.
_SURE = 2.0


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into its own afterwards.

    accelerate wraps the model's forward for mixed precision; changes of a step are smaller than what bfloat16
    tells apart, so they are read without it.
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


@checked(probe=None, every=whole(1), geometry=whole(0), max_tokens=whole(1))
class EntanglementCallback(TrainerCallback):
    """Log, every so many steps, what a step does to probe pairs.

    Give it to ``trainer.add_callback``. Under ``entanglement/`` the log then has

    - chosen_probe, rejected_probe: mean changes of log π since the run began, nats;
    - step_chosen, step_rejected: by how much this step moved them; predicted_chosen, predicted_rejected: the
      same, foretold to first order before it was taken (not for optimizers other than AdamW and SGD);
    - cosine, norm_ratio, share_own_down: means over some probe pairs of ⟨g_w, g_l⟩/ab and b/a, and the share
      whose own gradients, at equal weights, would lower their chosen response.

    One line is printed when the mean chosen response has fallen by more than twice its standard error and
    falls on.

    Args:
        probe: rows in a shape of ``SHAPES`` (held-out ones, say), or what ``read_rows`` takes.
        every: steps from one look to the next; the first step is looked at too.
        tokens: "trl" for the trainer's own tokens.
        geometry: pairs whose gradients are measured; 0 for none.
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
        geometry: int = 8,
        max_tokens: int = 4096,
    ) -> None:
        if isinstance(probe, str | Path):
            self._rows = list(read_rows(probe))
        elif isinstance(probe, Iterable) and not isinstance(probe, Mapping):
            self._rows = [Row(place, row) for place, row in enumerate(probe, 1)]
        else:
            raise ValueError(f"probe={shown(probe)}; expected rows, or a file of them.")
        self._shape = recognize(self._rows)  # also refuses a probe of nothing
        self.every, self.tokens, self.geometry, self.max_tokens = every, tokens, geometry, max_tokens
        self.seen: list[dict[str, float]] = []
        self._groups: list[PairBatch] = []
        self._start = self._before = torch.zeros(0)
        self._told: dict[str, float] | None = None
        self._fresh: dict[str, float] = {}
        self._warned = False

    # --- what is measured -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _measured(self, model: nn.Module) -> torch.Tensor:
        """Return log π_w and log π_l of the probe, (B, 2), nats."""
        device = model_device(model)
        parts = [torch.stack(quick_logps(model, group.to(device)), dim=1) for group in self._groups]
        return torch.cat(parts).double().cpu()

    def _looked_at(self, model: nn.Module, optimizer: Any) -> dict[str, float]:
        """Return what is known before a step, and remember where the probe stands."""
        self._before = self._measured(model)
        found: dict[str, float] = {}
        step = planned_step(optimizer)
        if step is not None:
            named = {name: step[p] for name, p in model.named_parameters() if p in step}
            device = model_device(model)
            told = [directional_change(model, g.to(device), named, "trainable") for g in self._groups]
            for k, side in enumerate(("chosen", "rejected")):
                found[f"predicted_{side}"] = float(torch.cat([one[k] for one in told]).mean())
        if self.geometry:
            seen, batch = 0, []
            for group in self._groups:
                taken = min(self.geometry - seen, len(group))
                if taken > 0:
                    batch.append(group.select(range(taken)))
                    seen += taken
            parts = [pair_geometry(model, group, "trainable") for group in batch]
            down = torch.cat([part.rates(1.0, 1.0)[0] < 0 for part in parts])
            found["cosine"] = float(torch.cat([part.cosine for part in parts]).nanmean())
            found["norm_ratio"] = float(torch.cat([part.norm_ratio for part in parts]).nanmean())
            found["share_own_down"] = float(down.double().mean())
        return found

    # --- the trainer's calls --------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tokenize the probe and see where it stands before the run."""
        tokenizer = kwargs["processing_class"]
        length = getattr(args, "max_length", None)
        judged = judge(self._rows, self._shape, tokenizer, tokens=self.tokens, max_length=length)
        pairs = [one.encoded for one in judged if one.encoded is not None]
        if not pairs:
            raise ValueError(f"probe: none of its {len(judged)} rows can be trained on ({judged[0].said}).")
        side = "left"
        self._groups = [
            padded([pairs[i] for i in group], padding_side=side, append_eos=self.tokens == "trl")  # type: ignore[arg-type]
            for group in by_tokens(pairs, self.max_tokens)
        ]
        with _still(kwargs["model"]):
            self._start = self._measured(kwargs["model"])
        self._go_first()

    def _go_first(self) -> None:
        """Stand before the callbacks that report, so that they report this one's numbers too."""
        handler = sys._getframe(2).f_locals.get("self")
        if isinstance(handler, CallbackHandler):
            # The list that is being gone through stays as it is.
            handler.callbacks = [self, *(one for one in handler.callbacks if one is not self)]

    def _is_due(self, state: Any) -> bool:
        return bool(state.global_step % self.every == 0)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look before a step: gradients are accumulated and clipped."""
        if self._is_due(state):
            with _still(kwargs["model"]):
                self._told = self._looked_at(kwargs["model"], kwargs["optimizer"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look after it."""
        if self._told is None:
            return
        with _still(kwargs["model"]):
            after = self._measured(kwargs["model"])
        moved, since = (after - self._before).mean(dim=0), after - self._start
        self._fresh = {
            "chosen_probe": float(since[:, 0].mean()), "rejected_probe": float(since[:, 1].mean()),
            "step_chosen": float(moved[0]), "step_rejected": float(moved[1]),
        } | self._told  # fmt: skip
        self.seen.append({"step": state.global_step + 1} | self._fresh)
        self._told = None
        self._warn(since[:, 0], float(moved[0]), state.global_step + 1)

    def _warn(self, since: torch.Tensor, moved: float, step: int) -> None:
        error = float(since.std() / len(since) ** 0.5) if len(since) > 1 else float("inf")
        if not self._warned and float(since.mean()) < -_SURE * error and moved < 0:
            self._warned = True
            warnings.warn(
                f"step {step}: the chosen responses of the probe have fallen by {-float(since.mean()):.3g} "
                "nats in the mean, and fall on. entanglement audit says at which ratio of the two weights "
                "they would not.",
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
