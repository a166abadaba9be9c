"""Log-probabilities of responses: per token, per response, and per pair with a reference.

Everything is in nats. A token's log-probability stands in the column of the token itself (not of the position
that predicts it), so it lines up with ``batch.input_ids``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from entanglement.pairs import PairBatch
from entanglement.signatures import checked

__all__ = [
    "PairLogps",
    "ResponseLogits",
    "TokenLogps",
    "check_batch",
    "model_device",
    "pair_logps",
    "positions_for",
    "response_logits",
    "response_logps",
    "row_logps",
    "takes_positions",
    "token_logps",
]


@checked()
@dataclass(frozen=True)
class TokenLogps:
    """Per-token log-probabilities of B pairs, in nats.

    Attributes:
        chosen: (B, T) log π(y_t | x, y_<t) in the column of y_t; 0 outside the response.
        rejected: (B, T) the same for the rejected responses.
        chosen_mask: (B, T) True on the chosen response's tokens.
        rejected_mask: (B, T) True on the rejected response's tokens.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_mask: torch.Tensor
    rejected_mask: torch.Tensor

    def sums(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (log π_w, log π_l), each (B,): the sums over response tokens."""
        return self.chosen.sum(dim=1), self.rejected.sum(dim=1)


@dataclass(frozen=True)
class PairLogps:
    """What a preference loss may look at: the log-probabilities of B pairs, in nats, each (B,).

    Attributes:
        chosen: f_w = log π(y_w | x), summed over response tokens.
        rejected: f_l = log π(y_l | x).
        ref_chosen: the reference model's f_w; None if there is no reference.
        ref_rejected: the reference model's f_l.
        chosen_len: n_w, number of chosen response tokens; None if lengths are not known.
        rejected_len: n_l.

    Raises:
        ValueError: a field is not a (B,) tensor, or only one of a couple of fields is given. The properties
            raise when the reference or the lengths that they need are missing.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor | None = None
    ref_rejected: torch.Tensor | None = None
    chosen_len: torch.Tensor | None = None
    rejected_len: torch.Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name not in ("chosen", "rejected"):
                continue
            if not isinstance(value, torch.Tensor) or value.ndim != 1 or len(value) != len(self.chosen):
                got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise ValueError(
                    f"PairLogps: {field.name} is {got}; expected a tensor of shape (B,) like chosen."
                )
        for one, other in (("ref_chosen", "ref_rejected"), ("chosen_len", "rejected_len")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"PairLogps: give both {one} and {other}, or neither.")
        for name in ("chosen_len", "rejected_len"):
            value = getattr(self, name)
            if value is not None and bool((value < 1).any()):
                raise ValueError(
                    f"PairLogps: {name} has a value below 1; expected token counts of at least 1."
                )

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def has_reference(self) -> bool:
        """Whether the reference's log-probabilities are there."""
        return self.ref_chosen is not None

    @property
    def has_lengths(self) -> bool:
        """Whether the response lengths are there."""
        return self.chosen_len is not None

    def _need(self, name: str, why: str) -> torch.Tensor:
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"PairLogps: {name} is None; {why} needs it.")
        return value

    @property
    def chosen_logratio(self) -> torch.Tensor:
        """(B,) ϱ_w = f_w − f_w^ref."""
        return self.chosen - self._need("ref_chosen", "the log-ratio to the reference")

    @property
    def rejected_logratio(self) -> torch.Tensor:
        """(B,) ϱ_l = f_l − f_l^ref."""
        return self.rejected - self._need("ref_rejected", "the log-ratio to the reference")

    @property
    def delta(self) -> torch.Tensor:
        """(B,) Δ = ϱ_w − ϱ_l, the margin measured from the reference."""
        return self.chosen_logratio - self.rejected_logratio

    @property
    def margin(self) -> torch.Tensor:
        """(B,) f_w − f_l."""
        return self.chosen - self.rejected

    @property
    def chosen_mean(self) -> torch.Tensor:
        """(B,) f_w / n_w, nats per token."""
        return self.chosen / self._need("chosen_len", "the mean over tokens")

    @property
    def rejected_mean(self) -> torch.Tensor:
        """(B,) f_l / n_l, nats per token."""
        return self.rejected / self._need("rejected_len", "the mean over tokens")

    def with_policy(self, chosen: torch.Tensor, rejected: torch.Tensor) -> PairLogps:
        """Return the same pairs with other policy log-probabilities; reference and lengths stay."""
        return replace(self, chosen=chosen, rejected=rejected)

    def detach(self) -> PairLogps:
        """Return a copy that carries no computation graph."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v.detach() for k, v in values.items() if v is not None})


@checked()
def model_device(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter (the CPU if it has none)."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@checked()
def check_batch(batch: PairBatch, where: str) -> None:
    """Refuse a batch with a response that is empty or has nothing before it to be predicted from.

    Raises:
        ValueError: naming the pair and the side.
    """
    n_pairs = len(batch)
    response = batch.response_mask
    if bool((response & (batch.attention_mask == 0)).any()):
        raise ValueError(f"{where}: a response token is masked out by attention_mask.")
    counts = response.sum(dim=1)
    # The first real token of a row has no context, so it can't be a response token.
    first = batch.attention_mask.cumsum(dim=1).eq(1) & batch.attention_mask.bool()
    orphan = (response & first).any(dim=1)
    for row in range(2 * n_pairs):
        side = "chosen" if row < n_pairs else "rejected"
        if int(counts[row]) == 0:
            raise ValueError(f"{where}: the {side} response of {batch.ids[row % n_pairs]} is empty.")
        if bool(orphan[row]):
            raise ValueError(
                f"{where}: the {side} response of {batch.ids[row % n_pairs]} starts at the sequence's first "
                "token; expected at least one token before it."
            )


def _forward_arguments(model: nn.Module) -> set[str]:
    """Names that the model's own forward takes. An adapter's wrapper (peft) hides them behind **kwargs."""
    unwrap = getattr(model, "get_base_model", None)
    inner: Any = unwrap() if callable(unwrap) else model
    return set(inspect.signature(inner.forward).parameters)


@checked()
def takes_positions(model: nn.Module) -> bool:
    """Whether the model's forward takes ``position_ids``, without which padding has to be on the right."""
    return "position_ids" in _forward_arguments(model)


@checked()
def positions_for(model: nn.Module, position_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the keyword argument that tells a model its positions; none for one that does not take them."""
    return {"position_ids": position_ids} if takes_positions(model) else {}


def _refuse_soft_prompt(model: nn.Module) -> None:
    """Refuse a model whose adapter (peft) puts positions of its own before the text.

    Its logits stand as many places later, and it drops the ``position_ids`` that it is given. (Prefix tuning
    adds keys and values only, and is right.)
    """
    config: Any = getattr(model, "active_peft_config", None)
    if getattr(config, "is_prompt_learning", False) and str(config.peft_type.value) != "PREFIX_TUNING":
        raise ValueError(
            f"row_logps: the adapter is {config.peft_type.value}: {config.num_virtual_tokens} soft tokens "
            "before all text; expected none (LoRA, DoRA, IA3 and prefix tuning are right)."
        )


@checked()
@dataclass(frozen=True)
class ResponseLogits:
    """The logits of one forward pass, and where in them each of the N response tokens is predicted.

    Attributes:
        logits: (R, K, V) as the model returned them, K ≤ T positions.
        rows: (N,) the sequence of each response token.
        slots: (N,) the position in ``logits`` that predicts it.
        columns: (N,) its own column in ``input_ids``.
        targets: (N,) its id.
        shape: (R, T) of ``input_ids``.
    """

    logits: torch.Tensor
    rows: torch.Tensor
    slots: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    shape: tuple[int, int]

    def logps(self) -> torch.Tensor:
        """Return (R, T) log-probabilities in each token's own column, 0 elsewhere, nats."""
        picked = self.logits[self.rows, self.slots]  # (N, V)
        picked = picked if picked.dtype == torch.float64 else picked.float()
        values = picked.log_softmax(dim=-1).gather(1, self.targets.unsqueeze(1)).squeeze(1)  # (N,)
        return values.new_zeros(self.shape).index_put((self.rows, self.columns), values)


@checked()
def response_logits(
    model: nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    position_ids: torch.Tensor,
    response_mask: torch.Tensor,
) -> ResponseLogits:
    """Return the logits that predict the response tokens of R sequences, from one forward.

    Arguments and errors: as ``row_logps``.
    """
    for name, value in (
        ("input_ids", input_ids), ("attention_mask", attention_mask), ("position_ids", position_ids),
        ("response_mask", response_mask),
    ):  # fmt: skip
        if value.ndim != 2 or value.shape != input_ids.shape or value.is_floating_point():
            raise ValueError(
                f"row_logps: {name} is {tuple(value.shape)} of {value.dtype}; expected whole numbers, (R, T) "
                f"like input_ids, {tuple(input_ids.shape)}."
            )
    _refuse_soft_prompt(model)
    accepted = _forward_arguments(model)
    extra: dict[str, Any] = {}
    if "position_ids" in accepted:
        # Without them GPT-2 numbers positions from the padding, and a left-padded row gets other
        # log-probabilities.
        extra["position_ids"] = position_ids
    else:
        columns = torch.arange(input_ids.shape[1], device=input_ids.device)
        if bool(((position_ids != columns) & attention_mask.bool()).any()):
            raise ValueError(
                f"row_logps: {type(model).__name__}.forward takes no position_ids, so padding must come "
                "after the tokens; collate with padding_side='right'."
            )
    if "use_cache" in accepted:
        extra["use_cache"] = False
    # Only positions whose next token is a response token are normalized: padding and prompt never enter.
    rows, columns = response_mask[:, 1:].nonzero(as_tuple=True)
    slots = columns
    if "logits_to_keep" in accepted:
        # Logits are the widest tensor of all; columns in which no row predicts a response token need none.
        kept, slots = torch.unique(columns, return_inverse=True)
        extra["logits_to_keep"] = kept
    output = model(input_ids=input_ids, attention_mask=attention_mask, **extra)
    logits = output if isinstance(output, torch.Tensor) else output.logits  # (R, T or fewer, V)
    targets = input_ids[rows, columns + 1]
    shape = (input_ids.shape[0], input_ids.shape[1])
    return ResponseLogits(logits, rows, slots, columns + 1, targets, shape)


@checked()
def row_logps(
    model: nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    position_ids: torch.Tensor,
    response_mask: torch.Tensor,
) -> torch.Tensor:
    """Return (R, T) log-probabilities of the response tokens of R sequences, 0 elsewhere, from one forward.

    All arguments are (R, T) and on the model's device. The result is float64 for a float64 model, else
    float32.

    Raises:
        ValueError: the rows have padding before their first token and the model takes no ``position_ids``;
            or a soft prompt (peft's prompt tuning).
    """
    return response_logits(model, input_ids, attention_mask, position_ids, response_mask).logps()


@checked()
def token_logps(model: nn.Module, batch: PairBatch) -> TokenLogps:
    """Return the per-token log-probabilities of a batch, from one forward over its 2B rows.

    Args:
        model: a causal language model (returns ``.logits`` or the logits, (R, T, V)).
        batch: B pairs; moved to the model's device.

    Returns:
        TokenLogps, four (B, T) tensors, nats; float64 for a float64 model, else float32. Gradients flow.

    Raises:
        ValueError: an empty response (naming the pair), or left padding with a model without
            ``position_ids``.
    """
    check_batch(batch, "token_logps")
    batch = batch.to(model_device(model))
    values = row_logps(model, batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask)
    n = len(batch)
    return TokenLogps(values[:n], values[n:], batch.response_mask[:n], batch.response_mask[n:])


@checked()
def response_logps(model: nn.Module, batch: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (log π_w, log π_l), each (B,), in nats: sums over response tokens. See ``token_logps``."""
    return token_logps(model, batch).sums()


@checked()
def pair_logps(
    model: nn.Module,
    batch: PairBatch,
    ref: nn.Module | tuple[torch.Tensor, torch.Tensor] | None = None,
) -> PairLogps:
    """Return what a loss needs: the model's log-probabilities, the reference's, and the lengths.

    Args:
        model: the policy. Gradients flow into it.
        batch: B pairs.
        ref: a reference model (run without gradients), or its (chosen, rejected) log-probabilities computed
            before, or None.

    Returns:
        PairLogps of B pairs on the model's device.
    """
    chosen, rejected = response_logps(model, batch)
    ref_chosen = ref_rejected = None
    if isinstance(ref, nn.Module):
        with torch.no_grad():
            ref_chosen, ref_rejected = response_logps(ref, batch)
    elif ref is not None:
        ref_chosen, ref_rejected = ref
    if ref_chosen is not None and ref_rejected is not None:
        ref_chosen, ref_rejected = ref_chosen.to(chosen), ref_rejected.to(chosen)
    return PairLogps(
        chosen,
        rejected,
        ref_chosen,
        ref_rejected,
        batch.chosen_len.to(chosen.device),
        batch.rejected_len.to(chosen.device),
    )
