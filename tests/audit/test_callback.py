"""The callback in real runs of TRL on nano: same weights, true numbers, next to the trainer's own."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import TrainerCallback

from entanglement.auditing.callback import PREFIX, EntanglementCallback
from entanglement.logps import response_logps
from entanglement.models import load_model
from entanglement.rows import SHAPES, encode, padded
from entanglement.updates.metric import planned_step

ROWS = [
    {"prompt": f"The film {k} is", "chosen": f" good and long {k}", "rejected": f" bad and long {k}"}
    for k in range(8)
]
PROBE = [{"prompt": f"A song {k} was", "chosen": " fine", "rejected": " poor"} for k in range(4)]


class Reporter(TrainerCallback):
    """Keeps what a reporting callback would send."""

    def __init__(self):
        self.sent = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.sent.append(dict(logs))


def run(folder, *, watch=True, steps=4, probe=PROBE, peft_config=None, reporter=None, every=2, **options):
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    settings = {
        "output_dir": str(folder), "use_cpu": True, "report_to": [], "bf16": False, "save_strategy": "no",
        "gradient_checkpointing": False, "per_device_train_batch_size": 2, "max_steps": steps,
        "logging_steps": 1, "learning_rate": 1e-4, "disable_tqdm": True, "max_length": 64, "seed": 3,
    } | options  # fmt: skip
    loaded = load_model("nano")
    callback = EntanglementCallback(probe, every=every, geometry=2)
    trainer = DPOTrainer(
        model=loaded.model, ref_model=None if peft_config else load_model("nano").model,
        args=DPOConfig(**settings), train_dataset=Dataset.from_list(ROWS), processing_class=loaded.tokenizer,
        callbacks=[reporter] if reporter else None, peft_config=peft_config,
    )  # fmt: skip
    if watch:
        trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    reporter = Reporter()
    trainer, callback = run(tmp_path_factory.mktemp("run"), reporter=reporter, steps=6)
    return trainer, callback, reporter


def test_the_weights_are_those_of_a_run_without_it(watched, tmp_path):
    plain, _ = run(tmp_path, watch=False, steps=6)
    own = dict(plain.model.named_parameters())
    for name, p in watched[0].model.named_parameters():
        assert torch.equal(p, own[name]), name


def test_it_looks_every_so_many_steps_and_logs_beside_the_trainer(watched):
    trainer, callback, reporter = watched
    assert [look["step"] for look in callback.seen] == [1, 3, 5]
    logged = [row for row in trainer.state.log_history if PREFIX + "chosen_probe" in row]
    assert [row["step"] for row in logged] == [1, 3, 5]
    assert all("rewards/chosen" in row for row in logged)
    sent = [logs for logs in reporter.sent if PREFIX + "chosen_probe" in logs]  # it was called before it
    assert len(sent) == 3
    for look, row in zip(callback.seen, logged, strict=True):
        assert {name: row[PREFIX + name] for name in look if name != "step"} == {
            name: value for name, value in look.items() if name != "step"
        }


def test_its_numbers_are_those_of_the_model(watched):
    trainer, callback, _ = watched
    first, tokenizer = load_model("nano")
    pairs = [encode(SHAPES["explicit"].read(row), tokenizer, max_length=64) for row in PROBE]
    with torch.no_grad():
        before, after = (response_logps(model.eval(), padded(pairs)) for model in (first, trainer.model))
    moved = [float((now - then).mean()) for now, then in zip(after, before, strict=True)]
    last = callback.seen[-1]
    # The sixth step came after the last look.
    assert last["chosen_probe"] == pytest.approx(moved[0], rel=0.5)
    assert last["rejected_probe"] == pytest.approx(moved[1], rel=0.5)
    assert callback.seen[0]["chosen_probe"] == callback.seen[0]["step_chosen"]


def test_a_step_is_foretold_to_first_order(watched):
    for look in watched[1].seen:
        for side in ("chosen", "rejected"):
            assert look[f"predicted_{side}"] * look[f"step_{side}"] > 0
            assert look[f"predicted_{side}"] == pytest.approx(look[f"step_{side}"], rel=0.5, abs=0.02)
        assert -1 <= look["cosine"] <= 1
        assert 0 <= look["share_own_down"] <= 1
        assert look["norm_ratio"] > 0


def test_a_fall_is_told_once_in_one_line(tmp_path):
    """The probe has the trained pairs the other way round: its chosen responses are what is pushed down."""
    probe = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in ROWS]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _, callback = run(tmp_path, probe=probe, steps=8, every=1, learning_rate=3e-4)
    assert callback.seen[-1]["chosen_probe"] < -0.05
    fell = [str(one.message) for one in told if "the chosen responses of the probe" in str(one.message)]
    assert len(fell) == 1
    assert "\n" not in fell[0]


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"optim": "sgd", "learning_rate": 1e-2},
        {"gradient_checkpointing": True},
        {"padding_free": False, "bf16": True},
    ],
    ids=["accumulation", "sgd", "checkpointing", "bf16"],
)
@pytest.mark.filterwarnings("ignore")
def test_other_ways_to_train(tmp_path, options):
    _, callback = run(tmp_path, steps=1, every=1, **options)
    (look,) = callback.seen
    for side in ("chosen", "rejected"):
        assert look[f"predicted_{side}"] == pytest.approx(look[f"step_{side}"], rel=0.5, abs=0.02)


@pytest.mark.filterwarnings("ignore")
def test_lora(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    _, callback = run(tmp_path, steps=2, every=1, peft_config=lora, learning_rate=1e-2)
    assert len(callback.seen) == 2
    look = callback.seen[-1]
    assert look["predicted_chosen"] * look["step_chosen"] > 0


@pytest.mark.parametrize("name", ["adamw", "sgd", "momentum"])
def test_the_planned_step_is_the_one_that_is_taken(name):
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2).double()
    make = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    }[name]
    optimizer = make(layer.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(4, 3).double()).square().sum().backward()
        planned = {p: p.detach() + step for p, step in planned_step(optimizer).items()}
        optimizer.step()
        for p, expected in planned.items():
            torch.testing.assert_close(p.detach(), expected)


def test_an_optimizer_that_is_not_known_has_no_planned_step():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    assert planned_step(torch.optim.Adagrad([p])) is None


def test_a_probe_of_nothing_is_refused():
    with pytest.raises(ValueError, match="rows of no known shape"):
        EntanglementCallback([{"question": "a"}])
