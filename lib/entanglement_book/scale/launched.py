"""One training as TRL does it, in this process or in each of those that accelerate has started."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from entanglement.files import write_json, write_whole
from entanglement.models import MODELS, check_model_name, load_model
from entanglement_book.layout import UsageError
from entanglement_book.machine import versions
from entanglement_book.options import make_folder
from entanglement_book.scale.comparisons import read_comparisons
from entanglement_book.scale.recipe import LOSSES, Recipe

__all__ = ["run"]

#: Architecture (``config.model_type``) → where the adapter goes: queries, keys and values, as in the paper.
_TARGETS = {"gpt2": ["c_attn"], "gpt_neox": ["query_key_value"]}
_LLAMA = ["q_proj", "k_proj", "v_proj"]
#: Columns that no two runs have alike.
_CLOCKS = ("train_runtime", "train_samples_per_second", "train_steps_per_second")


def _model(recipe: Recipe, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Return what TRL takes for a model, its tokenizer and its configuration.

    A model of the ladder is loaded, and one whose configuration does not say what it is; of any other TRL is
    given the name, for it knows how FSDP and DeepSpeed want it loaded.
    """
    try:
        check_model_name(recipe.model)
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None
    from transformers import AutoConfig, AutoTokenizer

    if recipe.model not in MODELS:
        config = AutoConfig.from_pretrained(recipe.model)
        if config.architectures:
            return recipe.model, AutoTokenizer.from_pretrained(recipe.model), config
    loaded = load_model(recipe.model, dtype=dtype, device="cpu")
    return loaded.model, loaded.tokenizer, loaded.model.config


def _adapter(recipe: Recipe, config: Any) -> Any:
    if not recipe.lora_r:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=2 * recipe.lora_r if recipe.lora_alpha is None else recipe.lora_alpha,  # type: ignore[arg-type]
        target_modules=_TARGETS.get(config.model_type, _LLAMA),
        fan_in_fan_out=config.model_type == "gpt2",  # its layers keep their weights transposed
        task_type="CAUSAL_LM",
    )


def _trainer(recipe: Recipe, out: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Return the trainer, its callback (None if nothing is watched), and what is known before the run."""
    gpu = torch.cuda.is_available()
    half = recipe.precision == "bf16" or (recipe.precision == "auto" and gpu)
    dtype = torch.bfloat16 if half else torch.float32
    model, tokenizer, config = _model(recipe, dtype)
    pairs = read_comparisons(recipe)
    make_folder("--out", out)  # not before it is known what to write into it
    # Imported late: it takes seconds, which a wrong option must not wait for.
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    from entanglement.auditing.callback import EntanglementCallback

    reach = getattr(config, "max_position_embeddings", recipe.max_length)
    load: dict[str, Any] = {}
    if isinstance(model, str):
        load["model_init_kwargs"] = {"dtype": dtype, "device_map": None}
    settings = DPOConfig(
        output_dir=str(out), save_strategy="no", report_to=["tensorboard"], use_cpu=not gpu, bf16=half,
        gradient_checkpointing=recipe.checkpointing, per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulate, max_steps=recipe.steps or -1, num_train_epochs=1,
        learning_rate=recipe.lr, logging_steps=recipe.logging, logging_first_step=True, beta=recipe.beta,
        loss_type=[LOSSES[recipe.loss]], max_length=min(recipe.max_length, reach), seed=recipe.seed,
        disable_tqdm=None if gpu else True, **load,
    )  # fmt: skip
    trainer: Any = DPOTrainer(
        model=model, args=settings, train_dataset=Dataset.from_list(pairs.train), processing_class=tokenizer,
        peft_config=_adapter(recipe, config),
    )  # fmt: skip
    callback = EntanglementCallback(pairs.probe, every=recipe.every) if recipe.every else None
    if callback is not None:
        trainer.add_callback(callback)
    found = {
        "pairs": len(pairs.train), "probe": len(pairs.probe), "left_out": pairs.left_out,
        "processes": trainer.accelerator.num_processes,
        "engine": trainer.accelerator.distributed_type.value, "device": trainer.accelerator.device.type,
        "pairs_a_step": recipe.batch_size * recipe.accumulate * trainer.accelerator.num_processes,
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    }  # fmt: skip
    return trainer, callback, found


def run(recipe: Recipe, out: Path, *, save: bool = True) -> pd.DataFrame:
    """Train, and write what was seen.

    The first process writes into ``out`` ``metrics.csv`` (one row a logged step: TRL's metrics and, under
    ``entanglement/``, the probe's), ``tokens.csv`` (log π of single tokens of the probe), ``run.json`` (the
    recipe and where it ran), TensorBoard's events under ``runs``, and the adapter or the model under
    ``model``.

    Args:
        recipe: of the training.
        out: folder; made if it is not there.
        save: whether the trained weights are kept.

    Returns:
        The table of metrics, the same in each process but for the probe's columns.

    Raises:
        UsageError: a model or data that cannot be had, or a folder that cannot be written.
    """
    trainer, callback, found = _trainer(recipe, out)
    trainer.train()
    history = [row for row in trainer.state.log_history if "loss" in row]
    table = pd.DataFrame(history)
    table = table[["step", *(name for name in table if name not in ("step", *_CLOCKS))]]
    if save:
        trainer.save_model(str(out / "model"))
    if trainer.is_world_process_zero():
        write_whole(out / "metrics.csv", table.to_csv(index=False))
        if callback is not None:
            write_whole(out / "tokens.csv", callback.token_logps.to_csv(index=False))
        used = versions(("accelerate", "peft", "torch", "transformers", "trl"))
        write_json(out / "run.json", {"recipe": asdict(recipe)} | found | {"versions": used})
    return table
