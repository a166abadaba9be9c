"""Logs of runs: each kind of curve gets its sentence, and noise gets none."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from torch.utils.tensorboard import SummaryWriter

from entanglement.auditing.events import events_log
from entanglement.auditing.training_log import log_table, read_log
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
        (-0.5, 0.5, "on these pairs the loss is not minimized"),
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
        ({"accuracy": 0.0, "chosen": -1.0, "rejected": 1.0}, "no margin is above 0"),
        ({"accuracy": 0.0, "chosen": 0.0, "rejected": 0.0, "noise": 0.0}, "counts a tie as wrong"),
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


# --- TensorBoard's event files ------------------------------------------------------------------------------


def _events(folder, path, *, prefix="train/"):
    """Write a log as the trainer's own callback sends it to TensorBoard."""
    with SummaryWriter(str(folder)) as writer:
        for row in json.loads(path.read_text())["log_history"]:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(prefix + name, value, row["step"])
    (file,) = folder.glob("events.out.tfevents.*")
    return file


def test_event_files_are_read_as_the_state_is(tmp_path, capsys):
    state = _log(tmp_path / "own", -0.5, -1.5, n=200)
    file = _events(tmp_path / "run" / "runs" / "Nov27", state)
    for source in (file, tmp_path / "run", tmp_path / "run" / "runs"):
        pd.testing.assert_frame_equal(log_table(source), log_table(state), rtol=1e-6)
        assert str(read_log(source, beta=0.1)) == str(read_log(state, beta=0.1))
    assert main(["read-log", str(tmp_path / "run")]) == 0
    assert "Both responses have become less likely" in capsys.readouterr().out


def test_of_several_runs_the_last_one_begun_is_read(tmp_path):
    """By the time in their events, whatever their names and places are."""
    second, first = tmp_path / "a", tmp_path / "b" / "deep"
    _events(first, _log(tmp_path / "old", 0.5, -0.5))
    _events(second, _log(tmp_path / "new", -0.5, -1.5))
    assert log_table(tmp_path)["chosen"].iloc[-1] == pytest.approx(-0.5, abs=0.1)
    state = _log(tmp_path, 1.5, 0.5)  # where the state is, it is read: its numbers are exact
    pd.testing.assert_frame_equal(log_table(tmp_path), log_table(state))


def test_events_of_something_else_are_told(tmp_path):
    """Curves of an evaluation, and a file that was cut before its first event."""
    state = _log(tmp_path / "own", 0.5, -0.5)
    file = _events(tmp_path / "eval", state, prefix="eval/")
    cut = tmp_path / "cut" / file.name
    cut.parent.mkdir()
    cut.write_bytes(file.read_bytes()[:20])
    for source in (file, cut, cut.parent):
        with pytest.raises(ValueError, match="no step has rewards/chosen"):
            log_table(source)
    with pytest.raises(ValueError, match="no event file"):
        events_log(tmp_path / "own")
