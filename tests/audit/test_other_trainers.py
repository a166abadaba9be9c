"""The callback beside TRL's other trainers on pairs, beside a plain one, and where the model is in pieces."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from entanglement.auditing.callback import EntanglementCallback
from entanglement.models import load_model
from entanglement.pairs import PreferencePair, collate
from entanglement.rows import SHAPES, encode

ROWS = [{"prompt": f"The film {k} is", "chosen": f" good {k}", "rejected": f" bad {k}"} for k in range(4)]
OPTIONS = {
    "use_cpu": True, "report_to": [], "bf16": False, "save_strategy": "no", "gradient_checkpointing": False,
    "per_device_train_batch_size": 2, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-4,
    "disable_tqdm": True,
}  # fmt: skip


def of_trl(name):
    """A trainer of TRL 1.16, wherever it keeps it: KTO is stable, CPO and ORPO are experimental."""
    import trl
    from trl.experimental import cpo, orpo

    kinds = {
        "CPO": (cpo.CPOTrainer, cpo.CPOConfig, {"max_length": 64}, {}),
        "ORPO": (orpo.ORPOTrainer, orpo.ORPOConfig, {"max_length": 64}, {}),
        "KTO": (trl.KTOTrainer, trl.KTOConfig, {"max_length": 64}, {"ref_model": load_model("nano").model}),
    }
    return kinds[name]


def foretold(callback):
    assert [look["step"] for look in callback.seen] == [1, 2]
    for look in callback.seen:
        for side in ("chosen", "rejected"):
            assert look[f"predicted_{side}"] == pytest.approx(look[f"step_{side}"], rel=0.5, abs=0.02)
            assert abs(look[f"step_{side}"]) > 1e-4
        assert 1 / 64 < look["r_chosen"] <= look["r_rejected"] < 64


@pytest.mark.parametrize("name", ["CPO", "ORPO", "KTO"])
@pytest.mark.filterwarnings("ignore")
def test_trainers_of_trl(name, tmp_path):
    from datasets import Dataset

    trainer_class, config_class, options, more = of_trl(name)
    loaded = load_model("nano")
    trainer = trainer_class(
        model=loaded.model, args=config_class(output_dir=str(tmp_path), **OPTIONS | options),
        train_dataset=Dataset.from_list(ROWS), processing_class=loaded.tokenizer, **more,
    )  # fmt: skip
    callback = EntanglementCallback(ROWS, every=1)
    trainer.add_callback(callback)
    trainer.train()
    foretold(callback)
    assert "entanglement/r_chosen" in trainer.state.log_history[1]
    if name != "KTO":  # whose rows are single responses
        pair = encode(SHAPES["explicit"].read(ROWS[0]), loaded.tokenizer, max_length=64)
        row = trainer.train_dataset[0]
        for side in ("chosen", "rejected"):
            own = [*pair.prompt, *getattr(pair, side)]
            theirs = row[f"{side}_input_ids"]
            # These two put a beginning of sequence first, which DPOTrainer does not.
            assert theirs == [loaded.tokenizer.bos_token_id, *own]


def plain_trainer(folder, **options):
    """A ``Trainer`` of transformers on the chosen responses alone."""
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    loaded = load_model("nano")
    batch = collate([PreferencePair(**row) for row in ROWS], loaded.tokenizer)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": ids}
        for ids, mask in zip(batch.input_ids[:4].tolist(), batch.attention_mask[:4].tolist(), strict=True)
    ]
    given = {"processing_class": loaded.tokenizer} | options
    arguments = TrainingArguments(output_dir=str(folder), **OPTIONS)
    return Trainer(model=loaded.model, args=arguments, train_dataset=Dataset.from_list(rows), **given)


@pytest.mark.filterwarnings("ignore")
def test_a_plain_trainer(tmp_path):
    trainer = plain_trainer(tmp_path)
    callback = EntanglementCallback(ROWS, every=1)
    trainer.add_callback(callback)
    trainer.train()
    foretold(callback)
    assert callback.seen[-1]["chosen_probe"] > 0.1  # on which it was fine-tuned


def test_a_trainer_without_a_tokenizer_is_told_what_to_do(tmp_path):
    trainer = plain_trainer(tmp_path, processing_class=None)
    trainer.add_callback(EntanglementCallback(ROWS))
    with pytest.raises(ValueError, match="give it processing_class"):
        trainer.train()


# --- where the parameters are in pieces ---------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path):
    """A group of one process, which is all that sharding needs to be sharding."""
    distributed.init_process_group("gloo", store=distributed.FileStore(str(tmp_path / "s"), 1), rank=0,
                                   world_size=1)  # fmt: skip
    yield
    distributed.destroy_process_group()


def one_step(callback, model, tokenizer, optimizer):
    """What a trainer does in its first step, and the loss after it."""
    state = SimpleNamespace(global_step=0, is_world_process_zero=True, log_history=[])
    args = SimpleNamespace(max_length=64, beta=0.1, max_grad_norm=1.0)
    more = {"model": model, "processing_class": tokenizer, "optimizer": optimizer}
    calls = (callback.on_train_begin, callback.on_pre_optimizer_step, callback.on_optimizer_step)
    begin, before, after = calls if callback.every < 10 else [lambda *_, **__: None] * 3
    begin(args, state, None, **more)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(input_ids=ids, labels=ids).loss.backward()
    before(args, state, None, **more)
    optimizer.step()
    after(args, state, None, **more)
    return float(model(input_ids=ids, labels=ids).loss.detach())


def in_pieces(model):
    mesh = distributed.device_mesh.init_device_mesh("cpu", (1,))
    for part in (*model.transformer.h, model):
        fully_shard(part, mesh=mesh)


def test_under_fsdp_2_log_probabilities_are_watched_and_nothing_else(alone):
    """As where the model is whole; and the step is that of a run without the callback."""
    looks, losses = [], []
    for sharded, every in ((False, 1), (True, 1), (True, 10)):
        model, tokenizer = load_model("nano")
        if sharded:
            in_pieces(model)
        callback = EntanglementCallback(ROWS, every=every)
        losses.append(one_step(callback, model, tokenizer, torch.optim.SGD(model.parameters(), lr=0.01)))
        looks += callback.seen
    whole, pieces = looks
    both = {"step", "chosen_probe", "rejected_probe", "step_chosen", "step_rejected"}
    assert set(pieces) == both < set(whole)
    for name in both:
        assert pieces[name] == pytest.approx(whole[name], abs=2e-5)
    assert losses[1] == losses[2] == pytest.approx(losses[0], abs=1e-6)
    assert abs(pieces["step_chosen"]) > 0.1


def test_under_fsdp_1_it_says_that_it_cannot():
    class Unmade(FullyShardedDataParallel):
        def __init__(self):
            torch.nn.Module.__init__(self)

    model, tokenizer = load_model("nano")
    model.add_module("piece", Unmade())
    with pytest.raises(ValueError, match="set fsdp_version: 2"):
        one_step(EntanglementCallback(ROWS, every=1), model, tokenizer, None)


class DeepSpeedLike:
    """As accelerate's wrapper: the step is the engine's, and no gradient is to be seen."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        self.optimizer.zero_grad()


def test_under_deepspeed_nothing_is_said_of_the_single_step():
    model, tokenizer = load_model("nano")
    optimizer = DeepSpeedLike(torch.optim.SGD(model.parameters(), lr=0.1))
    type(optimizer).__name__ = "DeepSpeedOptimizerWrapper"
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    callback = EntanglementCallback(ROWS, every=1)
    one_step(callback, model, tokenizer, optimizer)
    (look,) = callback.seen
    assert {"chosen_probe", "cosine", "tokens_own"} <= set(look)
    assert not [name for name in look if name.startswith(("step_", "predicted_", "r_"))]


def test_processes_but_the_first_look_at_nothing():
    model, tokenizer = load_model("nano")
    callback = EntanglementCallback(ROWS)
    state = SimpleNamespace(global_step=0, is_world_process_zero=False)
    args = SimpleNamespace(max_length=64)
    more = {"model": model, "processing_class": tokenizer, "optimizer": None}
    callback.on_train_begin(args, state, None, **more)
    callback.on_pre_optimizer_step(args, state, None, **more)
    callback.on_optimizer_step(args, state, None, **more)
    assert callback.seen == []
    assert callback.token_logps.empty
