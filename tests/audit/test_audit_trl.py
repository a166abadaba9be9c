"""The line that an audit prints for TRL, put into TRL's own loss: it runs, and weighs as it says."""

from __future__ import annotations

import inspect
import sys
import textwrap

import pytest
import torch

from entanglement.auditing.advice import TRL_LINES, of_number

ROWS = [
    {"prompt": f"The film {k} is", "chosen": f" good and long {k}", "rejected": f" bad {k}"} for k in range(4)
]
RATIO = 1.25


def _trainer(folder, kind, model, reference, tokenizer):
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig

    settings = {
        "output_dir": str(folder), "use_cpu": True, "report_to": [], "bf16": False, "save_strategy": "no",
        "gradient_checkpointing": False, "per_device_train_batch_size": 4, "max_steps": 1,
        "logging_steps": 1, "learning_rate": 1e-4, "disable_tqdm": True, "max_length": 64, "seed": 3,
        "logging_strategy": "no",
    }  # fmt: skip
    return kind(
        model=model,
        ref_model=reference,
        args=DPOConfig(**settings),
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer,
    )


def _printed(name, ratio):
    number = {
        "chosen": ratio / 1.01,
        "rejected": ratio * 1.01,
        "at_one": (-1.0, -2.0),
        "between": (0.1, -0.1),
    }
    text = of_number({"number": number, "run": {"loss": name}, "sharpness": None})
    lines = text.splitlines()
    (place,) = [i for i, line in enumerate(lines) if " write (DPO-Shift" in line]
    return lines[place + 1].strip()


@pytest.mark.parametrize("name", sorted(TRL_LINES))
def test_the_line_has_one_place_in_trl(name):
    from trl.trainer.dpo_trainer import DPOTrainer

    line = _printed(name, RATIO)
    assert "0.8000 * " in line
    assert inspect.getsource(DPOTrainer._compute_loss).count(line.replace("0.8000 * ", "")) == 1


def test_the_line_runs_and_weighs_as_it_says(tiny_model, tokenizer, tmp_path):
    from trl.trainer import dpo_trainer

    source = textwrap.dedent(inspect.getsource(dpo_trainer.DPOTrainer._compute_loss))
    line = _printed("dpo", RATIO)
    changed = source.replace(line.replace("0.8000 * ", ""), line)
    space = dict(vars(sys.modules[dpo_trainer.__name__]))
    exec(changed, space)
    shifted = type("Shifted", (dpo_trainer.DPOTrainer,), {"_compute_loss": space["_compute_loss"]})

    def gradient(kind):
        models = (tiny_model("gpt2-tied", torch.float32) for _ in range(2))
        trainer = _trainer(tmp_path, kind, *models, tokenizer)
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(trainer.model, batch)
        parameters = list(trainer.model.parameters())
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]), trainer

    new, trainer = gradient(shifted)
    old, _ = gradient(dpo_trainer.DPOTrainer)
    # At the start −∂L = β/2 (Ḡ_w − λ Ḡ_l): what λ takes away is (1 − λ) of the rejected side's gradient.
    rejected = (old - new) / (1 - 1 / RATIO)  # β/2 Ḡ_l
    chosen = rejected - old  # β/2 Ḡ_w
    assert float((chosen - rejected / RATIO + new).norm()) < 1e-5 * float(new.norm())
    apart = float(rejected.norm())
    assert apart > 1e-4
    # The rejected side alone, by TRL's own tokens and by autograd.
    batch = next(iter(trainer.get_train_dataloader()))
    ids, mask = batch["input_ids"], batch["completion_mask"]
    logits = trainer.model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[:, :-1]
    logps = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0] * mask[:, 1:]
    side = logps[len(ids) // 2 :].sum() / (len(ids) // 2)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(side, list(trainer.model.parameters()))])
    torch.testing.assert_close(rejected, 0.05 * expected, rtol=1e-3, atol=1e-5 * apart)
    trainer.train()
