"""One batch of answers, and its loss by our loop and by TRL's trainers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from entanglement.models import load_model
from entanglement.rewards import Answers, draw_answers, get_method, method_loss, read_answers
from entanglement.rewards.methods import Drawn

__all__ = ["both_losses"]

#: Of one length: TRL gives no positions, and GPT-2 then counts them from the padding.
_PROMPTS = ["The film was", "The story was"]
_GROUP, _TOKENS, _BETA = 4, 5, 0.3
#: Of ours → TRL's trainer and its settings; by itself it takes the corrected price.
_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "rloo": ("RLOO", {}),
    "grpo": ("GRPO", {"loss_type": "grpo", "use_bias_correction_kl": False}),
    "grpo-corrected": ("GRPO", {"loss_type": "grpo"}),
}


def _score(texts: list[str]) -> torch.Tensor:
    """A reward that differs among answers: letters e, and their place in the group."""
    return torch.tensor([float(text.count("e")) for text in texts]) + torch.arange(len(texts)) % 3


def _theirs(name: str, folder: Path, answers: Answers, told: dict[str, torch.Tensor]) -> Any:
    import trl
    from datasets import Dataset

    kind, options = _SETTINGS[name]
    model, tokenizer = load_model(str(folder))
    arguments = getattr(trl, f"{kind}Config")(
        output_dir=str(folder / name), per_device_train_batch_size=len(answers), num_generations=_GROUP,
        max_completion_length=_TOKENS, beta=_BETA, bf16=False, gradient_checkpointing=False,
        report_to="none", use_cpu=True, max_steps=1, save_strategy="no", logging_strategy="no",
        disable_tqdm=True, seed=0, **options,
    )  # fmt: skip
    trainer = getattr(trl, f"{kind}Trainer")(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=arguments,
        train_dataset=Dataset.from_dict({"prompt": _PROMPTS}), processing_class=tokenizer,
    )  # fmt: skip
    trainer.model.eval()
    mask, old = answers.mask, told["old"]
    inputs = {
        "prompt_ids": answers.input_ids[:, :-_TOKENS], "prompt_mask": answers.attention_mask[:, :-_TOKENS],
        "completion_ids": answers.ids, "completion_mask": mask.long(), "old_logps": (old * mask).sum(1),
        "advantages": told["advantages"][:, 0], "old_per_token_logps": old,
        "ref_per_token_logps": told["reference"],
    }  # fmt: skip
    return trainer.compute_loss(trainer.model, inputs), trainer.model


def _flat(model: torch.nn.Module) -> np.ndarray:
    parts = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
    found: np.ndarray = torch.cat(parts).numpy()
    return found


def both_losses(seed: int) -> pd.DataFrame:
    """Return the loss of one batch by our code and by TRL's trainers, on ``nano``.

    The policy that drew the answers and the reference are two others, made by adding noise to log π, so that
    ratios and price are at work.

    Args:
        seed: of the draws and the noise.

    Returns:
        One row a method, its name as index: ours, TRL (losses), another (the loss of another method on the
        same batch, ours), gradient (‖ours − TRL's‖/‖ours‖).
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "nano"
        for part in load_model("nano"):  # a folder whose config names the architecture: TRL asks for it
            part.save_pretrained(folder)
        model, tokenizer = load_model(str(folder))
        answers = draw_answers(model, tokenizer, _PROMPTS, group=_GROUP, tokens=_TOKENS, seed=seed)
        logps = read_answers(model, answers).logps.detach()
        draw = torch.Generator().manual_seed(seed)
        old, reference = (logps + 0.5 * torch.randn(logps.shape, generator=draw) for _ in range(2))
        drawn = Drawn(
            _score(answers.texts(tokenizer)), old - reference, answers.mask, _GROUP, _BETA,
            torch.zeros_like(old),
        )  # fmt: skip
        rows, losses = {}, {}
        for name in _SETTINGS:
            method = get_method(name)
            advantages, _ = method.credit(drawn)
            model.zero_grad(set_to_none=True)
            mine = method_loss(
                method, read_answers(model, answers).logps, old, reference, advantages, answers.mask,
                beta=_BETA,
            )  # fmt: skip
            mine.backward()
            told = {"old": old, "reference": reference, "advantages": advantages}
            theirs, their_model = _theirs(name, folder, answers, told)
            theirs.backward()
            ours = _flat(model)
            apart = np.linalg.norm(ours - _flat(their_model)) / np.linalg.norm(ours)
            losses[name] = float(mine.detach())
            rows[name] = {"ours": losses[name], "TRL": float(theirs.detach()), "gradient": float(apart)}
    for name in rows:
        others = [value for other, value in losses.items() if other != name]
        rows[name]["another"] = min(others, key=lambda value: abs(value - losses[name]))
    return pd.DataFrame(rows).T[["ours", "TRL", "another", "gradient"]]
