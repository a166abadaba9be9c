"""Logs of runs: each kind of curve gets its sentence, and noise gets none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from entanglement.auditing.training_log import CURVES, log_table, read_log
from entanglement.cli import main


def _log(tmp_path, chosen, rejected, *, noise=0.02, loss=0.5, accuracy=0.7, n=60, name="trainer_state.json"):
    draw = np.random.default_rng(0)
    share = np.linspace(0, 1, n)
    w, l = (end * share + noise * draw.standard_normal(n) for end in (chosen, rejected))  # noqa: E741
    rows = [
        {
            "step": 5 * k + 5, "loss": loss, "rewards/chosen": w[k], "rewards/rejected": l[k],
            "rewards/margins": w[k] - l[k], "rewards/accuracies": accuracy,
        }
        for k in range(n)
    ]  # fmt: skip
    rows.append({"step": 5 * n, "train_runtime": 3.0})
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"log_history": rows}))
    return path


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        (-0.5, -1.5, "Both responses have become less likely"),
        (1.5, 0.5, "Both responses have become likelier"),
        (0.5, -0.5, "The two move apart"),
        (-0.5, 0.5, "the right way round"),
        (-0.5, -0.5, "and the margin has not grown"),
        (0.0, 0.0, "Neither response has moved"),
        (-0.5, 0.0, "of the rejected one the log does not tell"),
        (0.0, -0.5, "The rejected response has fallen"),
    ],
)
def test_each_kind_of_run_has_its_sentence(tmp_path, chosen, rejected, words):
    found = read_log(_log(tmp_path, chosen, rejected, noise=0.05))
    assert words in found.findings[0]
    assert ("entanglement audit" in str(found)) == (chosen < 0)


def test_the_changes_are_those_of_the_two_fifths(tmp_path):
    found = read_log(_log(tmp_path, -0.5, -1.5, noise=0.0), beta=0.1)
    size, share = 12, np.linspace(0, 1, 60)
    expected = -0.5 * (share[-size:].mean() - share[:size].mean())
    assert found.changes["chosen"].value == pytest.approx(expected)
    assert found.changes["chosen"].low < expected < found.changes["chosen"].high
    assert f"{expected / 0.1:+.3g} nats".replace("-", "\u2212") in str(found)


def test_where_the_chosen_reward_turned(tmp_path):
    path = _log(tmp_path, 0.0, 0.0, noise=0.0)
    state = json.loads(path.read_text())
    for k, row in enumerate(state["log_history"][:-1]):
        row["rewards/chosen"] = 0.02 * min(k, 20) - 0.05 * max(k - 20, 0)
        row["rewards/rejected"] = -0.1 * k
    path.write_text(json.dumps(state))
    assert ", from step 95 on" in read_log(path).findings[0]  # of 105, smoothed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": 0.6931, "chosen": 0.0, "rejected": 0.0}, "which is ln 2"),
        ({"loss": 0.001, "chosen": 1.0, "rejected": -5.0}, "as good as infinite"),
        ({"accuracy": 1.0, "chosen": 1.0, "rejected": -1.0}, "all pairs are learned"),
        ({"accuracy": 0.0, "chosen": -1.0, "rejected": 1.0}, "accuracy at the end is 0"),
        ({"noise": float("nan"), "chosen": 1.0, "rejected": 1.0}, "no numbers"),
    ],
)
def test_what_else_is_said(tmp_path, options, words):
    given = {"chosen": 0.0, "rejected": 0.0} | options
    assert words in str(read_log(_log(tmp_path, **given)))


def test_nothing_else_is_said_of_an_ordinary_run(tmp_path):
    assert len(read_log(_log(tmp_path, 0.5, -0.5)).findings) == 2


def test_a_folder_of_a_run_is_read_at_its_last_checkpoint(tmp_path):
    _log(tmp_path, -0.5, -1.5, name="checkpoint-9/trainer_state.json")
    _log(tmp_path, 0.5, -0.5, name="checkpoint-10/trainer_state.json")
    assert "move apart" in str(read_log(tmp_path))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "no JSON"),
        ('{"log_history": 3}', "expected a log_history"),
        ('{"log_history": [{"step": 1, "loss": 2.0}]}', "of a preference training"),
        ('[{"step": 1, "rewards/chosen": 0.1, "rewards/rejected": 0.0}]', "1 logged steps"),
    ],
)
def test_what_is_no_log_is_told(tmp_path, text, error, capsys):
    path = tmp_path / "trainer_state.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=error):
        read_log(path)
    assert main(["read-log", str(path)]) == 2
    assert error in capsys.readouterr().err


def test_a_folder_without_a_log(tmp_path, capsys):
    assert main(["read-log", str(tmp_path)]) == 2
    assert "without trainer_state.json" in capsys.readouterr().err
    assert main(["read-log", str(tmp_path / "nowhere.json")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_a_real_run_of_trl_has_these_curves(tmp_path):
    """Three steps of TRL's trainer: the names of its columns are those that are read."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    from entanglement.models import load_model

    rows = [{"prompt": "The film is", "chosen": f" good {k}", "rejected": f" bad {k}"} for k in range(4)]
    loaded = load_model("nano")
    options = DPOConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to=[], bf16=False, gradient_checkpointing=False,
        per_device_train_batch_size=2, max_steps=3, logging_steps=1, learning_rate=1e-4, save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=loaded.model, ref_model=load_model("nano").model, args=options,
        train_dataset=Dataset.from_list(rows), processing_class=loaded.tokenizer,
    )  # fmt: skip
    trainer.train()
    trainer.save_state()
    table = log_table(tmp_path)
    assert list(table.columns) == ["step", *CURVES]
    assert list(table["step"]) == [1, 2, 3]
    assert table["loss"][0] == pytest.approx(np.log(2), abs=1e-4)
    np.testing.assert_allclose(table["margin"], table["chosen"] - table["rejected"], atol=1e-5)
