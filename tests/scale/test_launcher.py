"""The training at scale, on one process and on two, which make the same numbers; and what it refuses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from entanglement.models import load_model
from entanglement.pairs import PreferencePair
from entanglement_book.layout import UsageError
from entanglement_book.scale import comparisons
from entanglement_book.scale.cli import main
from entanglement_book.scale.comparisons import read_comparisons
from entanglement_book.scale.recipe import LOSSES, Recipe

ROW = '{{"prompt": "The film {0} is", "chosen": " good and long {0}", "rejected": " bad and long {0}"}}'
#: Both run 3 steps of 8 pairs, a process of its own 4 at a time, each of two 2.
COMMON = [
    "--steps",
    "3",
    "--accumulate",
    "2",
    "--probe",
    "4",
    "--logging",
    "1",
    "--lora-r",
    "4",
    "--lr",
    "1e-3",
]
#: The same sums in another order. A log π of some 40 nats has steps of 4e-6 in float32, and AdamW's first
#: step has the size of the rate however small a gradient is, so that what is rounding there is not small.
#: Seen after three steps: 4e-6 absolute, 3e-5 relative.
CLOSE = 1e-4


def free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("\n".join(ROW.format(k) for k in range(40)))
    return path


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Folders of: one process, two processes, two processes without the callback."""
    folder = tmp_path_factory.mktemp("runs")
    options = [*COMMON, "--data", str(data)]
    script = Path(__file__).with_name("two_processes.py")
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--main_process_port", str(free_port()), str(script)]
    done = subprocess.run(
        [sys.executable, *launcher, str(folder / "two"), *options, "--batch-size", "2"],
        capture_output=True, text=True, timeout=500,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("written to") == 2  # by the first process, each time
    one = folder / "one"
    assert main(["--out", str(one), "--every", "2", *options, "--batch-size", "4"]) == 0
    return one, folder / "two" / "watched", folder / "two" / "plain"


def metrics(folder):
    return pd.read_csv(folder / "metrics.csv")


@pytest.mark.filterwarnings("ignore")
def test_two_processes_make_the_numbers_of_one(runs):
    one, two, _ = map(metrics, runs)
    about = [json.loads((folder / "run.json").read_text()) for folder in runs]
    assert [(a["processes"], a["engine"], a["pairs_a_step"]) for a in about] == [
        (1, "NO", 8), (2, "MULTI_CPU", 8), (2, "MULTI_CPU", 8)
    ]  # fmt: skip
    assert list(one) == list(two)
    assert list(one["step"]) == [1, 2, 3]
    np.testing.assert_allclose(two, one, rtol=CLOSE, atol=CLOSE)
    # They are no zeros, and no two steps are alike.
    for name in ("rewards/chosen", "entanglement/chosen_probe", "entanglement/step_rejected"):
        values = one[name].dropna()
        assert abs(values.iloc[-1]) > 20 * CLOSE
        assert abs(values.diff().iloc[-1]) > 20 * CLOSE


def test_the_probe_is_measured_once_and_changes_no_weight(runs):
    _, two, plain = runs
    watched, other = (load_file(folder / "model" / "adapter_model.safetensors") for folder in (two, plain))
    assert set(watched) == set(other)
    for name, value in watched.items():
        assert value.equal(other[name]), name
    assert any(float(value.abs().max()) > 1e-3 for name, value in watched.items() if "lora_B" in name)
    tokens = pd.read_csv(two / "tokens.csv")
    assert sorted(tokens["step"].unique()) == [0, 1, 2]
    assert not tokens.duplicated(["step", "pair", "side", "position"]).any()
    assert not [name for name in metrics(plain) if name.startswith("entanglement/")]
    assert not (plain / "tokens.csv").exists()


def test_one_table_of_metrics_is_written(runs):
    table = metrics(runs[0])
    assert table["entanglement/r_chosen"].notna().tolist() == [True, True, False]  # looked at: 1 and 2
    assert {"loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "learning_rate"} <= set(table)
    assert list((runs[0] / "runs").rglob("events.out.tfevents.*"))


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_a_folder_is_trained_whole_and_in_half_precision(data, tmp_path):
    """TRL loads it by its name, as it will load the paper's models."""
    loaded = load_model("nano")
    for part in loaded:
        part.save_pretrained(tmp_path / "nano")
    options = ["--model", str(tmp_path / "nano"), "--data", str(data), "--lora-r", "0", "--steps", "1"]
    options += ["--precision", "bf16", "--every", "0", "--no-save", "--accumulate", "1"]
    assert main(["--out", str(tmp_path / "run"), *options]) == 0
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["trained_parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert metrics(tmp_path / "run")["rewards/chosen"].notna().all()
    assert not (tmp_path / "run" / "model").exists()


def test_the_pairs_are_shuffled_once_and_the_probe_is_held_out(data, tmp_path):
    recipe = Recipe(data=str(data), probe="4", sample=20)
    first, second = read_comparisons(recipe), read_comparisons(recipe)
    assert first == second
    assert (len(first.train), len(first.probe), first.left_out) == (16, 4, 0)
    assert not [row for row in first.probe if row in first.train]
    other = tmp_path / "probe.jsonl"
    other.write_text(ROW.format(99) + "\n" + '{"prompt": "a", "chosen": " b", "rejected": " b"}')
    of_file = read_comparisons(Recipe(data=str(data), probe=str(other)))
    assert (len(of_file.train), len(of_file.probe)) == (40, 1)


def test_what_cannot_be_read_is_counted(tmp_path):
    path = tmp_path / "some.jsonl"
    path.write_text(
        "\n".join([ROW.format(1), ROW.format(2), "{", '{"prompt": "a", "chosen": 3, "rejected": " b"}'])
    )
    found = read_comparisons(Recipe(data=str(path), probe="1"))
    assert (len(found.train), len(found.probe), found.left_out) == (1, 1, 2)
    with pytest.raises(UsageError, match="none is left to train"):
        read_comparisons(Recipe(data=str(path), probe="2"))
    with pytest.raises(UsageError, match="there is no such file"):
        read_comparisons(Recipe(data=str(path), probe=str(tmp_path / "no.jsonl")))


def test_the_losses_are_trls():
    from trl.trainer.dpo_config import DPOConfig

    from entanglement.losses import list_losses

    assert set(LOSSES) <= set(list_losses())
    help_text = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    assert [theirs for theirs in LOSSES.values() if f"'{theirs}'" not in help_text] == []


def test_defaults_are_the_papers():
    recipe = Recipe()
    assert (recipe.lora_r, recipe.lr, recipe.steps, recipe.beta) == (64, 5e-6, None, 0.1)
    assert recipe.batch_size * recipe.accumulate * 2 == 16  # on two processes


def test_where_trl_keeps_its_settings(capsys):
    assert main(["--configs"]) == 0
    found = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert {"multi_gpu", "fsdp2", "zero2"} <= set(found)
    assert all(Path(path).is_file() for path in found.values())


def test_docstrings_are_drawn_by_the_seed(monkeypatch):
    asked = {}

    def pairs(kind, split, **given):
        asked.update(given)
        return [PreferencePair(f"{k}", " a", " b") for k in range(given["n"])]

    monkeypatch.setattr(comparisons, "tldr_pairs", pairs)
    found = read_comparisons(Recipe(sample=10, probe="2", seed=5))
    assert (len(found.train), len(found.probe)) == (8, 2)
    assert (asked["n"], asked["seed"]) == (10, 5)
    assert len(read_comparisons(Recipe(probe="2")).train) == asked["n"] - 2 > 100
