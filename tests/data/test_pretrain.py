"""A checkpoint is written whole, with the hashes that are checked when it is loaded."""

import pytest
import torch

from entanglement import models
from entanglement.models import load_model, model_facts
from entanglement_book.materials import pretrain


def test_what_is_saved_is_what_is_checked(tmp_path, monkeypatch, tokenizer, tiny_model):
    facts = {key: value for key, value in model_facts("nano").items() if not key.endswith("sha256")}
    facts["corpus_sha256"] = "of no corpus"
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    folder, model = tmp_path / "nano", tiny_model("gpt2-tied", dtype=torch.float32)
    pretrain.save_checkpoint(folder, model, tokenizer, facts)
    hashed = {path.name for path in folder.iterdir()} - {"facts.json", "README.md"}
    assert set(model_facts("nano")["sha256"]) == hashed
    loaded = load_model("nano").model
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.half().float()), name
    # What fails half-way leaves the checkpoint that was there, and nothing beside it.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrain, "write_json", full)
    with pytest.raises(OSError, match="No space left on device; what was there is kept") as error:
        pretrain.save_checkpoint(
            folder, tiny_model("gpt2-tied", dtype=torch.float32, seed=1), tokenizer, facts
        )
    assert error.value.filename == str(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["nano"]
