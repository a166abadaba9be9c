"""An audit that was killed goes on and ends with the same bytes; two processes end with the same numbers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.auditing import audit, gathered
from entanglement.auditing.kept import PARTIAL, Kept, fingerprint, forget
from entanglement.models import load_model

OPTIONS = {"batch_size": 2, "lr": 1e-3, "geometry": 3, "loss": "ipo", "seed": 1}
#: Runs an audit whose process kills itself, as kill -9 does, in the middle of the gradient.
KILLED = """
import os, signal, sys
from pathlib import Path
from entanglement.auditing import audit, gathered, kept
from entanglement.models import load_model
folder, data, place, options = sys.argv[1], sys.argv[2], Path(sys.argv[3]), eval(sys.argv[4])
gathered.KEEP_EVERY, keep = 0.0, kept.Kept.keep_tensors
def keep_and_die(self, *given):
    keep(self, *given)
    os.kill(os.getpid(), signal.SIGKILL)
kept.Kept.keep_tensors = keep_and_die
loaded = load_model(folder)
audit(loaded.model, loaded.tokenizer, data, kept=kept.Kept(place), progress=True, **options)
"""


@pytest.fixture(scope="module")
def folder(tiny_model, tokenizer, tmp_path_factory):
    found = tmp_path_factory.mktemp("model")
    tiny_model("gpt2-tied", dtype=torch.float32).save_pretrained(found)
    tokenizer.save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    words = ["film", "day", "people", "night", "town", "song", "road", "book", "sea", "hill", "car", "sun"]
    rows = [
        {"prompt": f"the {w} was", "chosen": f" {g} and long", "rejected": f" {b} and long"}
        for w, (g, b) in zip(words, [("good", "bad and old"), ("fine", "poor")] * 6, strict=True)
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="module")
def expected(folder, data, tmp_path_factory):
    """The files of an audit that ran through, and the tokens that it computed."""
    return run(folder, data, tmp_path_factory.mktemp("through"))


def run(folder, data, out, **more):
    torch.set_num_threads(1)  # as where it is killed: the order of sums decides the last bits
    loaded, tokens = load_model(str(folder)), []
    hook = loaded.model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    report = audit(loaded.model, loaded.tokenizer, data, **OPTIONS | more)
    hook.remove()
    return {path.name: path.read_bytes() for path in report.write(out)}, sum(tokens)


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(folder, data, expected, tmp_path):
    assert run(folder, data, tmp_path / "again")[0] == expected[0]
    other, _ = run(folder, data, tmp_path / "other", seed=2, compare=False)
    assert other["pairs.csv"] != expected[0]["pairs.csv"]


def test_an_audit_that_was_killed_goes_on(folder, data, expected, tmp_path):
    place = tmp_path / PARTIAL
    given = [sys.executable, "-c", KILLED, str(folder), str(data), str(place), repr(OPTIONS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(given, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert "mean gradient" in found.stderr  # the bar names its stage
    assert "left" in found.stderr
    (left,) = place.iterdir()
    assert json.loads((left / "walk" / "about.json").read_text()) == {"done": 1}  # of four batches
    files, tokens = run(folder, data, tmp_path / "out", kept=Kept(place))
    assert files == expected[0]
    assert tokens < expected[1]


@pytest.mark.parametrize("part", range(2, 9, 3))
def test_it_goes_on_from_every_part(part, folder, data, expected, tmp_path, monkeypatch):
    """Stopped when so many parts are on the disk: what is there is read, and the bytes are the same."""
    from entanglement.auditing import kept

    count, write = [], kept.write_whole

    def write_and_stop(path, content):
        write(path, content)
        count.append(path.name)
        if len(count) == part:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept, "write_whole", write_and_stop)
    place = tmp_path / PARTIAL
    with pytest.raises(KeyboardInterrupt):
        run(folder, data, tmp_path / "out", kept=Kept(place))
    monkeypatch.setattr(kept, "write_whole", write)
    files, tokens = run(folder, data, tmp_path / "out", kept=Kept(place))
    assert files == expected[0]
    assert tokens < expected[1]


def test_what_is_kept_is_of_one_model_and_one_audit(folder, data, tmp_path, monkeypatch):
    monkeypatch.setattr(gathered, "KEEP_EVERY", 0.0)
    place = tmp_path / PARTIAL
    loaded, options = load_model(str(folder)), OPTIONS | {"compare": False, "kept": Kept(place)}
    first = audit(loaded.model, loaded.tokenizer, data, **options)
    with torch.no_grad():
        loaded.model.transformer.ln_f.bias[0] += 0.1
    second = audit(loaded.model, loaded.tokenizer, data, **options)
    assert (first.pairs["cosine"].dropna() - second.pairs["cosine"].dropna()).abs().max() > 0
    audit(loaded.model, loaded.tokenizer, data, **options | {"lr": 2e-3})
    assert len(list(place.iterdir())) == 3


def test_forgetting_removes_what_audits_have_kept_and_nothing_else(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "audit-of-mine").mkdir()
    (tmp_path / "file").write_text("x")
    kept = Kept(tmp_path).at("key")
    kept.value("number", lambda: 1)
    Kept(tmp_path).at("another key")  # to look removes nothing
    assert kept.folder.is_dir()
    forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit-of-mine", "file", "theirs"]
    empty = tmp_path / "theirs"
    Kept(empty).at("key").value("number", lambda: 1)
    forget(empty)
    assert not empty.exists()
    forget(tmp_path / "missing")


def test_damaged_parts_are_made_again(tmp_path):
    kept = Kept(tmp_path).at("key")
    table = pd.DataFrame({"x": [0.1, np.nan], "y": ["a", "b"]}, index=[3, 5])
    kept.table("t", lambda: table)
    pd.testing.assert_frame_equal(kept.table("t", lambda: 1 / 0), table)
    kept.value("v", lambda: {"a": (1.5, float("nan"))})
    assert kept.value("v", lambda: 1 / 0)["a"][0] == 1.5
    kept.keep_tensors("w", {"x": torch.arange(3.0)}, {"done": 2})
    assert kept.tensors("w")[0]["x"].tolist() == [0, 1, 2]
    for path in kept.folder.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\x00\xff")
    assert kept.value("v", lambda: 7) == 7
    assert len(kept.table("t", lambda: table.head(1))) == 1
    assert kept.tensors("w") is None


def test_a_fingerprint_is_of_every_number(tiny_model):
    model = tiny_model("gpt2-tied")
    before = fingerprint(model)
    assert fingerprint(tiny_model("gpt2-tied")) == before
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.bias[3] += 1e-12
    assert fingerprint(model) != before


def test_two_processes_say_what_one_does(folder, data, tmp_path):
    """Joined over gloo as a launcher would: rows are split, sums are added, the first process writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = tmp_path / "two"
    given = [
        sys.executable, "-m", "entanglement.cli", "audit", "--data", str(data), "--model", str(folder),
        "--batch-size", "2", "--lr", "1e-3", "--geometry", "3", "--loss", "ipo", "--seed", "1",
        "--max-tokens", "64", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            given, env=os.environ | common | {"RANK": str(k), "LOCAL_RANK": str(k)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for k in range(2)
    ]  # fmt: skip
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "written:" in said[0][0]
    assert said[1][0] == ""
    run(folder, data, tmp_path / "one", max_tokens=64)
    for name in ("pairs", "ratios", "changes", "rows"):
        wanted, found = (pd.read_parquet(tmp_path / who / f"{name}.parquet") for who in ("one", "two"))
        assert list(found.columns) == list(wanted.columns)
        for column in wanted:
            if wanted[column].dtype.kind == "f":
                np.testing.assert_allclose(
                    found[column], wanted[column], rtol=2e-3, atol=2e-5, err_msg=f"{name}.{column}"
                )
            else:
                assert found[column].tolist() == wanted[column].tolist()
    assert not (out / PARTIAL).exists()
