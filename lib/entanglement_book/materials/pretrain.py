"""Make the ``nano`` checkpoints: ``entanglement-book nano`` (``make nano``).

Two models come out of one run. ``nano-unlabeled`` is a small GPT-2 pretrained on docstrings and on reviews
and tweets *without* their labels. ``nano`` continues it on a mixture that also holds ``<text>\\nSentiment:
<label>`` documents, so that a short SFT suffices for the sentiment task. The 200 held-out tweets are in
neither.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from entanglement.files import file_sha256, whole_folder, write_json, write_whole
from entanglement.models import CHECKPOINTS
from entanglement_book.materials.docstrings import corpus_hash, package_versions, read_docstrings
from entanglement_book.materials.tweets import (
    LABELS,
    VARIANTS,
    load_snippets,
    load_tweets,
    sentiment_prompt,
    sentiment_tweets,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

VOCABULARY = 4096
CONTEXT = 128
END = "<|endoftext|>"
# Words that the sentiment responses use; each must be one token, so that a suffix has as many tokens as
# words.
SINGLE_TOKENS = (*LABELS, *" sentiment based on my judgement of the text".replace(" ", "| ").split("|")[1:])


@dataclass(frozen=True)
class Stage:
    """One stage of pretraining: how often each kind of document is read, and for how many steps."""

    name: str
    steps: int
    peak_lr: float
    docstrings: float
    plain: float
    labeled_snippets: float
    labeled_tweets: float
    batch: int = 16


STAGES = (
    Stage("nano-unlabeled", 8000, 2.5e-3, docstrings=2, plain=2, labeled_snippets=0, labeled_tweets=0),
    Stage("nano", 3800, 1.5e-3, docstrings=0.5, plain=0, labeled_snippets=8, labeled_tweets=8),
)


@dataclass(frozen=True)
class Corpus:
    """The documents of pretraining, by kind, and the held-out ones."""

    docstrings: list[str]
    plain: list[str]
    labeled_snippets: list[str]
    labeled_tweets: list[str]
    held_out_docstrings: list[str]
    fingerprint: str


def build_corpus() -> Corpus:
    """Read docstrings, reviews and tweets; leave the held-out tweets and every 50th docstring out."""
    docstrings = read_docstrings()
    texts = [d.text for d in docstrings]
    held_out_tweets = {tweet.text.lower() for tweet in sentiment_tweets("test")}
    tweets = [t for t in load_tweets() if t.text.lower() not in held_out_tweets]
    snippets = [s for s in load_snippets() if s.text.lower() not in held_out_tweets]

    def labeled(rows: Iterable, least: float) -> list[str]:
        return [sentiment_prompt(r.text) + r.label for r in rows if abs(r.rating) > least]

    return Corpus(
        docstrings=[t for i, t in enumerate(texts) if i % 50],
        plain=[r.text for r in (*tweets, *snippets)],
        labeled_snippets=labeled(snippets, 0.8),
        labeled_tweets=labeled(tweets, 1.0),
        held_out_docstrings=texts[::50],
        fingerprint=corpus_hash(docstrings),
    )


def train_tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of 4,096 tokens in which every word of the sentiment responses is one token.

    Raises:
        RuntimeError: a word of ``SINGLE_TOKENS`` is more than one token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # The suffix's rarer words would not earn a merge by themselves, so the responses are repeated.
    responses = [f"Sentiment:{label}{suffix}" for label in LABELS for suffix in VARIANTS.values()] * 2000
    tokenizer.train_from_iterator(
        [*corpus.docstrings[::2], *corpus.plain, *corpus.labeled_tweets, *responses], trainer
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END, model_max_length=CONTEXT
    )
    for word in SINGLE_TOKENS:
        ids = fast(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise RuntimeError(f"the tokenizer splits {word!r} into {len(ids)} tokens; expected one.")
    return fast


def new_model(seed: int = 0) -> GPT2LMHeadModel:
    """Return an untrained ``nano``: a GPT-2 of 4 layers, width 256, context 128, 4.2 million parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=256,
        n_layer=4,
        n_head=4,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own activation, in one operation instead of eight
        # No dropout: the text is read about twice, and measurements need a deterministic model anyway.
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def _stream(
    stage: Stage, corpus: Corpus, encode: Callable[[list[str]], list[list[int]]], seed: int
) -> np.ndarray:
    """Return one long array of token ids: the stage's documents, shuffled, each after an end-of-text
    token."""
    rng = random.Random(seed)
    documents: list[str] = []
    for kind in ("docstrings", "plain", "labeled_snippets", "labeled_tweets"):
        rows, times = getattr(corpus, kind), getattr(stage, kind)
        documents += rows * int(times) + rng.sample(rows, round((times % 1) * len(rows)))
    rng.shuffle(documents)
    ids: list[int] = []
    for start in range(0, len(documents), 5000):
        for document in encode(documents[start : start + 5000]):
            ids.append(0)
            ids += document
    return np.asarray(ids, dtype=np.int32)


@torch.no_grad()
def held_out_loss(model: GPT2LMHeadModel, blocks: torch.Tensor) -> float:
    """Return the mean loss in nats per token over (N, 128) held-out blocks."""
    model.eval()
    losses = [model(input_ids=b, labels=b).loss.item() for b in blocks.split(16)]
    return float(np.mean(losses))


@torch.no_grad()
def label_accuracy(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> float:
    """Return how often the right label beats the other one on the 200 held-out tweets (majority: 0.50)."""
    model.eval()
    device = model.device
    label_ids = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in LABELS]
    right = 0
    tweets = sentiment_tweets("test")
    for tweet in tweets:
        ids = [0, *tokenizer(sentiment_prompt(tweet.text), add_special_tokens=False)["input_ids"]]
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0, -1, label_ids]
        right += LABELS[int(logits.argmax())] == tweet.label
    return right / len(tweets)


def train_stage(
    stage: Stage,
    model: GPT2LMHeadModel,
    stream: np.ndarray,
    evaluate: Callable[[], dict[str, float]],
    *,
    seed: int,
    bf16: bool,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Train one stage: AdamW, linear warm-up then cosine decay, clip 1. Returns the last evaluation."""
    rng = np.random.default_rng(seed)
    device = model.device
    n_blocks = (len(stream) - 1) // CONTEXT
    order = np.concatenate(
        [rng.permutation(n_blocks) for _ in range(math.ceil(stage.steps * stage.batch / n_blocks))]
    )
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=stage.peak_lr, betas=(0.9, 0.95), fused=True)
    warmup = max(1, stage.steps // 30)

    def schedule(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (stage.steps - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    started, running = time.time(), 0.0
    log(f"{stage.name}: {len(stream):,} tokens, {stage.steps * stage.batch / n_blocks:.2f} passes")
    for step in range(stage.steps):
        model.train()
        rows = order[step * stage.batch : (step + 1) * stage.batch]
        block = np.stack([stream[r * CONTEXT : (r + 1) * CONTEXT] for r in rows]).astype(np.int64)
        ids = torch.from_numpy(block).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 250 == 0 or step + 1 == stage.steps:
            report = evaluate() if (step + 1) % 1000 == 0 or step + 1 == stage.steps else {}
            seconds = time.time() - started
            speed = (step + 1) * stage.batch * CONTEXT / seconds
            extra = "".join(f"  {k} {v:.3f}" for k, v in report.items())
            log(
                f"{stage.name} {step + 1}/{stage.steps}  loss {running:.3f}  {seconds:.0f} s  "
                f"{speed:.0f} tok/s{extra}"
            )
    return report


def save_checkpoint(
    folder: Path, model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, facts: dict[str, Any]
) -> None:
    """Write a checkpoint whole, with its model card; an older one in its place goes then.

    Args:
        folder: of the checkpoint.
        model: its weights are stored in float16.
        tokenizer: of the model.
        facts: what is known about it; the hashes of the files are added.

    Raises:
        OSError: it cannot be written; an older one is left as it was.
    """
    from safetensors.torch import save_file

    # The output matrix is the embedding matrix; storing it once keeps the file at 8.5 MB.
    state = {
        k: v.detach().to("cpu", torch.float16).contiguous()
        for k, v in model.state_dict().items()
        if k != "lm_head.weight"
    }
    model.config.dtype = torch.float16
    with whole_folder(folder) as part:
        save_file(state, part / "model.safetensors", metadata={"format": "pt"})
        model.config.save_pretrained(part)
        tokenizer.save_pretrained(part)
        facts["sha256"] = {path.name: file_sha256(path) for path in sorted(part.iterdir())}
        write_whole(part / "README.md", card(facts))
        write_json(part / "facts.json", facts, indent=2, sort_keys=True)


def card(facts: Mapping[str, Any]) -> str:
    """Return the model card of a checkpoint: what its ``facts.json`` says, to be read by people."""
    stage = facts["stage"]
    kinds = {
        "docstrings": "docstrings of the pinned packages (every 50th left out)",
        "plain": "tweets outside the held-out 200, film and product reviews, without labels",
        "labeled_snippets": "reviews with |rating| > 0.8 as `<text>\\nSentiment: <label>`",
        "labeled_tweets": "tweets with |rating| > 1 outside the held-out 200, in the same form",
    }
    read = "\n".join(f"| {text} | {stage[kind]:g} |" for kind, text in kinds.items())
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    blocks = facts["held_out_blocks"]
    hashes = "\n".join(f"| sha256 of `{file}` | `{digest}` |" for file, digest in facts["sha256"].items())
    lines = f"""
# {facts["name"]}

A GPT-2 of 4 layers, width 256, vocabulary {VOCABULARY:,}, context {CONTEXT}: {facts["parameters"]:,}
parameters, float16, made for this book on {facts["date"]}. It writes no useful text; it is small enough to
measure every gradient.

| what it read | times in the stream |
|---|---|
{read}

{facts["tokens_read"]:,} tokens in {stage["steps"]:,} steps of {stage["batch"]} × {CONTEXT}; AdamW, peak rate
{stage["peak_lr"]:g}, warm-up then cosine decay, weight decay 0.1, clip 1, seed {facts["seed"]}, bfloat16
autocast: {facts["bf16_autocast"]}; {facts["minutes"]:g} minutes on {facts["device"]},
PyTorch {facts["torch"]}.

| measured | value |
|---|---|
| loss on {blocks} held-out blocks of docstrings, nats a token | {facts["held_out_loss"]:.3f} |
| right label more probable, 200 held-out tweets (majority 0.50) | {facts["label_accuracy"]:.3f} |
{hashes}
| sha256 of the docstrings read | `{facts["corpus_sha256"]}` |

Make it again: `make nano` (both checkpoints in one run: `nano` continues `nano-unlabeled`). Data: docstrings
of {packages} under their licenses (BSD, Matplotlib's, Apache-2.0), and the rated texts of Hutto and Gilbert
(2014), MIT. No text of these is in this repository. License of the checkpoint: MIT, as the code.
"""
    return lines.lstrip()


def pretrain(
    out: Path | None = None,
    *,
    device: str = "cpu",
    seed: int = 0,
    bf16: bool = True,
    steps_scale: float = 1.0,
) -> None:
    """Train both stages and write the two checkpoints with the facts for their model cards.

    Args:
        out: folder for both; default: the library's own checkpoints.
        device: "cpu" or "cuda".
        seed: of the weights and the order of the texts; the second stage takes the next one.
        bf16: bfloat16 autocast.
        steps_scale: multiplies all numbers of steps, for a trial.
    """
    out = out or CHECKPOINTS
    corpus = build_corpus()
    tokenizer = train_tokenizer(corpus)

    def encode(texts: list[str]) -> list[list[int]]:
        return tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    held_ids = [i for d in encode(corpus.held_out_docstrings) for i in (0, *d)]
    n_held = min(len(held_ids) // CONTEXT, 256)
    blocks = torch.tensor(held_ids[: n_held * CONTEXT]).view(n_held, CONTEXT).to(device)
    model: Any = new_model(seed)
    model.to(device)

    def evaluate() -> dict[str, float]:
        return {
            "held_out_loss": held_out_loss(model, blocks),
            "label_accuracy": label_accuracy(model, tokenizer),
        }

    for number, stage in enumerate(STAGES):
        started = time.time()
        steps = max(2, round(stage.steps * steps_scale))
        stage = Stage(**{**asdict(stage), "steps": steps})
        stream = _stream(stage, corpus, encode, seed + number)
        report = train_stage(
            stage,
            model,
            stream,
            evaluate,
            seed=seed + number,
            bf16=bf16,
            log=lambda line: print(line, flush=True),
        )
        facts: dict[str, Any] = {
            "name": stage.name,
            "date": datetime.now(UTC).date().isoformat(),
            "stage": asdict(stage),
            "tokens_read": stage.steps * stage.batch * CONTEXT,
            "tokens_in_stream": len(stream),
            "seed": seed,
            "bf16_autocast": bf16,
            "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
            "minutes": round((time.time() - started) / 60, 1),
            "parameters": sum(p.numel() for p in model.parameters()),
            "corpus_sha256": corpus.fingerprint,
            "packages": package_versions(),
            "torch": torch.__version__.partition("+")[0],
            "held_out_blocks": n_held,
            **report,
        }
        save_checkpoint(out / stage.name, model, tokenizer, facts)
        print(json.dumps(facts), flush=True)
