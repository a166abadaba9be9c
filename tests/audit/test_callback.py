"""The callback in real runs of TRL on nano: same weights, true numbers, next to the trainer's own."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import TrainerCallback

from entanglement.auditing.callback import PREFIX, EntanglementCallback
from entanglement.auditing.training_log import CURVES, log_table
from entanglement.logps import response_logps
from entanglement.models import load_model
from entanglement.rows import SHAPES, encode, padded
from entanglement.updates.metric import planned_step

ROWS = [
    {"prompt": f"The film {k} is", "chosen": f" good and long {k}", "rejected": f" bad and long {k}"}
    for k in range(8)
]
PROBE = [{"prompt": f"A song {k} was", "chosen": " fine", "rejected": " poor"} for k in range(4)]
LOOKS = [1, 2, 4, 6]


class Reporter(TrainerCallback):
    """Keeps what a reporting callback would send."""

    def __init__(self):
        self.sent = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.sent.append(dict(logs))


def run(
    folder,
    *,
    watch=True,
    steps=4,
    probe=PROBE,
    peft_config=None,
    reporter=None,
    look=None,
    every=2,
    **options,
):
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    loaded = load_model("nano")
    callback = EntanglementCallback(probe, every=every, **{"geometry": 2} | (look or {}))
    trainer = DPOTrainer(
        model=loaded.model, ref_model=None if peft_config else load_model("nano").model,
        args=DPOConfig(**settings(folder, steps) | options), train_dataset=Dataset.from_list(ROWS),
        processing_class=loaded.tokenizer, callbacks=[reporter] if reporter else None,
        peft_config=peft_config,
    )  # fmt: skip
    if watch:
        trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


def settings(folder, steps):
    return {
        "output_dir": str(folder), "use_cpu": True, "report_to": [], "bf16": False, "save_strategy": "no",
        "gradient_checkpointing": False, "per_device_train_batch_size": 2, "max_steps": steps,
        "logging_steps": 1, "learning_rate": 1e-4, "disable_tqdm": True, "max_length": 64, "seed": 3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Six steps, looked at in the first and in every other one, and reported to TensorBoard."""
    reporter, folder = Reporter(), tmp_path_factory.mktemp("run")
    trainer, callback = run(folder, reporter=reporter, steps=6, report_to=["tensorboard"])
    trainer.save_state()
    return trainer, callback, reporter, folder


def test_the_weights_are_those_of_a_run_without_it(watched, tmp_path):
    plain, _ = run(tmp_path, watch=False, steps=6)
    own = dict(plain.model.named_parameters())
    for name, p in watched[0].model.named_parameters():
        assert torch.equal(p, own[name]), name


def test_it_looks_every_so_many_steps_and_logs_beside_the_trainer(watched):
    trainer, callback, reporter, _ = watched
    assert [look["step"] for look in callback.seen] == LOOKS
    logged = [row for row in trainer.state.log_history if PREFIX + "chosen_probe" in row]
    assert [row["step"] for row in logged] == LOOKS
    assert all("rewards/chosen" in row for row in logged)
    sent = [logs for logs in reporter.sent if PREFIX + "chosen_probe" in logs]  # it was called before it
    assert len(sent) == len(LOOKS)
    for look, row in zip(callback.seen, logged, strict=True):
        assert {name: row[PREFIX + name] for name in look if name != "step"} == {
            name: value for name, value in look.items() if name != "step"
        }


def test_tensorboard_has_every_number_at_its_step(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, callback, _, folder = watched
    (file,) = folder.rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    names = set(callback.seen[0]) - {"step"}
    assert {"r_chosen", "r_rejected", "tokens_shared", "cosine", "predicted_chosen"} <= names
    found = {tag for tag in events.Tags()["scalars"] if tag.startswith(f"train/{PREFIX}")}
    assert found == {f"train/{PREFIX}{name}" for name in names}
    for name in names:
        scalars = events.Scalars(f"train/{PREFIX}{name}")
        assert [one.step for one in scalars] == LOOKS
        values = [look[name] for look in callback.seen]
        assert [one.value for one in scalars] == pytest.approx(values, rel=1e-6)  # float32


def test_the_curves_are_the_same_from_tensorboard_and_from_the_trainers_state(watched):
    _, _, _, folder = watched
    (file,) = folder.rglob("events.out.tfevents.*")
    own = log_table(folder / "trainer_state.json")
    assert list(own.columns) == ["step", *CURVES]
    assert list(own["step"]) == [1, 2, 3, 4, 5, 6]
    assert own["loss"][0] == pytest.approx(math.log(2), abs=1e-4)
    np.testing.assert_allclose(own["margin"], own["chosen"] - own["rejected"], atol=1e-5)
    for source in (file, folder / "runs"):
        pd.testing.assert_frame_equal(log_table(source), own, rtol=1e-6)
    pd.testing.assert_frame_equal(log_table(folder), own)  # both are there: the state is exact


def test_single_tokens_add_up_to_their_responses(watched):
    trainer, callback, _, _ = watched
    table = callback.token_logps
    assert sorted(table["step"].unique()) == [0, *LOOKS]
    sums = table.groupby(["step", "pair", "side"], sort=False)["logp"].sum().unstack()
    pairs = [encode(SHAPES["explicit"].read(row), trainer.processing_class) for row in PROBE[:2]]
    assert table["pair"].nunique() == len(pairs)
    first = load_model("nano").model
    with torch.no_grad():
        before, after = (response_logps(model.eval(), padded(pairs)) for model in (first, trainer.model))
    for step, logps in ((0, before), (LOOKS[-1], after)):
        for side, values in zip(("chosen", "rejected"), logps, strict=True):
            assert sums.loc[step][side].tolist() == pytest.approx(values.tolist(), abs=2e-5)


def test_the_two_kinds_of_tokens_are_told_apart(watched):
    """A response of the probe is one word of its own and the end, which both have."""
    _, callback, _, _ = watched
    table = callback.token_logps
    last = table[table["step"] == LOOKS[-1]].reset_index(drop=True)
    first = table[table["step"] == 0].reset_index(drop=True)
    assert (last["shared"] == (last["token"] == "<|endoftext|>")).all()
    chosen = last["side"] == "chosen"
    moved = (last["logp"] - first["logp"])[chosen]
    for name, kind in (("tokens_shared", last["shared"]), ("tokens_own", ~last["shared"])):
        assert callback.seen[-1][name] == pytest.approx(moved[kind[chosen]].sum() / 2, abs=1e-6)
    assert abs(callback.seen[-1]["tokens_own"]) > 1e-3


def test_its_numbers_are_those_of_the_model(watched):
    trainer, callback, _, _ = watched
    first, tokenizer = load_model("nano")
    pairs = [encode(SHAPES["explicit"].read(row), tokenizer, max_length=64) for row in PROBE]
    with torch.no_grad():
        before, after = (response_logps(model.eval(), padded(pairs)) for model in (first, trainer.model))
    moved = [float((now - then).mean()) for now, then in zip(after, before, strict=True)]
    last = callback.seen[-1]
    assert last["chosen_probe"] == pytest.approx(moved[0], abs=2e-5)
    assert last["rejected_probe"] == pytest.approx(moved[1], abs=2e-5)
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
        # Nothing but what the warning needs.
        only = {"geometry": 0, "turning": 0, "token_pairs": 0}
        _, callback = run(tmp_path, probe=probe, look=only, steps=8, every=1, learning_rate=3e-4)
    sides = [f"{what}_{side}" for what in ("step", "predicted") for side in ("chosen", "rejected")]
    assert set(callback.seen[0]) == {"step", "chosen_probe", "rejected_probe", *sides}
    assert callback.seen[-1]["chosen_probe"] < -0.05
    fell = [str(one.message) for one in told if "the chosen responses of the probe" in str(one.message)]
    assert len(fell) == 1
    assert "\n" not in fell[0]
    step = int(fell[0].split(":")[0].removeprefix("step "))
    look = next(one for one in callback.seen if one["step"] == step)
    assert look["predicted_chosen"] < 0 and look["step_chosen"] < 0


FALLEN = torch.tensor([-0.5, -0.4, -0.6])
DOWN = {"step_chosen": -0.1, "predicted_chosen": -0.1}


@pytest.mark.parametrize(
    ("since", "looks", "warned"),
    [
        (FALLEN, [DOWN], True),
        (FALLEN, [DOWN | {"predicted_chosen": 0.1}], False),  # it fell in this step, and is not to go on
        (FALLEN, [DOWN | {"step_chosen": 0.1}], False),
        (torch.tensor([-0.5, 0.6, -0.4]), [DOWN], False),  # within twice the error
        (FALLEN[:1], [DOWN], False),  # one pair has no error
        (FALLEN, [{"step_chosen": -0.1}], False),  # an optimizer that is not known: one look is not enough
        (FALLEN, [{"step_chosen": -0.1}, {"step_chosen": -0.1}], True),
        (FALLEN, [{"step_chosen": 0.1}, {"step_chosen": -0.1}], False),
        (FALLEN, [{"chosen_probe": -0.1}, {"chosen_probe": -0.2}], True),  # DeepSpeed
        (FALLEN, [{"chosen_probe": -0.3}, {"chosen_probe": -0.2}], False),
    ],
)
def test_a_fall_is_told_only_where_it_is_predicted_to_go_on(since, looks, warned):
    callback = EntanglementCallback(PROBE)
    callback.seen = [{"step": k} | look for k, look in enumerate(looks)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        callback._warn(since)
        callback._warn(since)
    assert len(told) == warned


@pytest.mark.parametrize(("ratio", "said"), [(1.004, "at 1.004."), (0.98, "they would not."), (None, "not.")])
def test_the_warning_names_the_ratio_where_it_would_help(ratio, said):
    callback = EntanglementCallback(PROBE)
    callback.seen = [{"step": 3} | DOWN | ({} if ratio is None else {"r_chosen": ratio})]
    with pytest.warns(UserWarning, match="^step 3: ") as told:
        callback._warn(FALLEN)
    assert str(told[0].message).endswith(said)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"optim": "sgd", "learning_rate": 1e-2},
        {"gradient_checkpointing": True},
        {"bf16": True},
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
def test_padding_free_is_what_trl_makes_of_it(tmp_path, caplog, monkeypatch):
    """TRL 1.16 takes the option, says that it pads all the same, and pads. When it does not say so any more,
    this test has to look at what the callback does then.
    """
    monkeypatch.setattr(logging.getLogger("trl"), "propagate", True)
    with caplog.at_level("WARNING"):
        trainer, callback = run(tmp_path, steps=1, every=1, padding_free=True)
    assert "`padding_free=True` is temporarily unavailable" in caplog.text
    assert trainer.padding_free is False
    assert callback.seen[0]["predicted_chosen"] * callback.seen[0]["step_chosen"] > 0


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
