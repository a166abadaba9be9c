"""Rows as people have them: files, shapes, verdicts, and the tokens that TRL's trainer makes of them."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from entanglement.logps import response_logps
from entanglement.models import load_model
from entanglement.pairs import PreferencePair, collate
from entanglement.rows import (
    SHAPES,
    VERDICTS,
    Comparison,
    Misfit,
    Row,
    encode,
    judge,
    padded,
    read_rows,
    recognize,
)

ROWS = [
    {"prompt": "the film was", "chosen": " good", "rejected": " bad"},
    {"prompt": "what a day", "chosen": " liked", "rejected": " hated it"},
]


def said(role, content):
    return {"role": role, "content": content}


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────


def _write(path, kind):
    if kind == "jsonl":
        data = "\n".join(json.dumps(row) for row in ROWS)
    elif kind == "json":
        data = json.dumps(ROWS)
    elif kind == "csv":
        data = "prompt,chosen,rejected\n" + "\n".join(",".join(row.values()) for row in ROWS)
    path.write_text(data, encoding="utf-8")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("packed", [False, True])
def test_text_files(tmp_path, kind, packed):
    path = tmp_path / f"pairs.{kind}"
    _write(path, kind)
    if packed:
        data, path = path.read_bytes(), path.with_suffix(f".{kind}.gz")
        path.write_bytes(gzip.compress(data))
    found = list(read_rows(path))
    assert [row.value for row in found] == ROWS
    assert [row.place for row in found] == ([2, 3] if kind == "csv" else [1, 2])


def test_parquet_folders_and_splits(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(ROWS)
    data.to_parquet(str(tmp_path / "pairs.parquet"))
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data, "test": data.select([1])}).save_to_disk(str(tmp_path / "two"))
    assert [row.value for row in read_rows(tmp_path / "pairs.parquet")] == ROWS
    assert [row.value for row in read_rows(tmp_path / "one")] == ROWS
    assert [row.value for row in read_rows(tmp_path / "two", split="test")] == ROWS[1:]
    with pytest.raises(ValueError, match="no split 'dev'; it has train, test"):
        list(read_rows(tmp_path / "two", split="dev"))


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("pairs.txt", b"", r"pairs\.txt'; expected a file that ends in \.jsonl"),
        ("pairs.json", b"[1, 2", r"pairs\.json': no JSON: .* in line 1"),
        ("pairs.json", b"7", "expected a list of rows, got a int"),
        ("pairs.json", b'[{"a": "\xff"}]', "no text in UTF-8"),
        ("pairs.csv", b"a,a\n1,2\n", "a column's name stands there twice"),
        ("pairs.parquet", b"PAR1", "no Parquet file that can be read"),
        ("pairs.jsonl.gz", b"no gzip", "Not a gzipped file"),
    ],
)
def test_files_that_are_damaged_as_a_whole(tmp_path, name, data, error):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=error):
        list(read_rows(tmp_path / name))


def test_a_file_that_is_not_there_and_a_folder_of_something_else(tmp_path):
    with pytest.raises(OSError, match=r"pairs\.jsonl"):
        list(read_rows(tmp_path / "pairs.jsonl"))
    with pytest.raises(ValueError, match="none that datasets has saved"):
        list(read_rows(tmp_path))


def test_lines_of_json_in_a_file_called_json(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert [row.value for row in read_rows(path)] == ROWS
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert [row.value for row in read_rows(path)] == ROWS


def test_a_line_that_cannot_be_read_is_a_row(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [
        b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode(),  # a byte-order mark
        b"{broken",
        b"",
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt": "\xff"}',
        b"[1]",
        b"[" * 100_000,
    ]
    path.write_bytes(b"\n".join(lines))
    found = list(read_rows(path))
    assert [row.place for row in found] == [1, 2, 4, 5, 6, 7]
    assert found[0].value == ROWS[0]
    wrong = [row.wrong for row in found[1:]]
    for text, part in zip(
        wrong, ["no JSON", "'prompt' stands there twice", "byte 13", "is a list", "no JSON"], strict=True
    ):
        assert part in text


def test_csv_rows_with_lines_in_their_fields_and_rows_that_are_too_short(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(
        b'prompt,chosen,rejected\n"two\nlines",a,b\nshort,a\n\nx,"' + b"y" * 200_000 + b'",\xff\n'
    )
    found = list(read_rows(path))
    assert [row.place for row in found] == [2, 4, 6]
    assert found[0].value["prompt"] == "two\nlines"
    assert found[1].wrong == "2 fields under 3 names"
    assert "UTF-8" in found[2].wrong


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────

ASKED, GOOD, BAD = said("user", "Is it?"), said("assistant", "Yes."), said("assistant", "No.")
CHAT = ([ASKED], [GOOD], [BAD])
EXAMPLES = {
    "explicit": (ROWS[0], ("the film was", " good", " bad")),
    "implicit": (
        {"chosen": "the film was good", "rejected": "the film was bad"},
        ("the film was", " good", " bad"),
    ),
    "conversational": ({"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD], "tools": None}, CHAT),
    "conversations": ({"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, CHAT),
    "ultrafeedback": (
        {
            "prompt": "Is it?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD],
            "score_chosen": 8.0, "score_rejected": 3.0,
        },
        CHAT,
    ),
    "transcripts": (
        {"chosen": "\n\nHuman: Is it?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Is it?\n\nAssistant: No."},
        ("\n\nHuman: Is it?\n\nAssistant:", " Yes.", " No."),
    ),
    "orca": (
        {"system": "Be short.", "question": "Is it?", "chosen": "Yes.", "rejected": "No."},
        ([said("system", "Be short."), ASKED], [GOOD], [BAD]),
    ),
    "tldr": (
        {
            "info": {"post": "A post.", "title": "T", "subreddit": "s"},
            "summaries": [{"text": " one"}, {"text": "two"}], "choice": 1,
        },
        ("SUBREDDIT: r/s\n\nTITLE: T\n\nPOST: A post.\n\nTL;DR:", " two", " one"),
    ),
    "llamafactory": (
        {
            "instruction": "Is it?", "input": "", "output": ["Yes.", "No."],
            "history": [["Hello", "Hi"]],
        },
        ([said("user", "Hello"), said("assistant", "Hi"), ASKED], [GOOD], [BAD]),
    ),
    "ms-swift": ({"messages": [ASKED, GOOD], "rejected_response": "No."}, CHAT),
}  # fmt: skip


def test_every_shape_has_an_example():
    assert set(EXAMPLES) == set(SHAPES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_shape_is_recognized_and_read(name):
    row, (prompt, chosen, rejected) = EXAMPLES[name]
    assert recognize([Row(1, row), Row(2, None, "broken")]) == name
    found = SHAPES[name].read(row)
    assert (found.prompt, found.chosen, found.rejected) == (prompt, chosen, rejected)
    assert found.is_chat == isinstance(prompt, list)


def test_what_is_not_recognized_is_told_with_its_columns():
    with pytest.raises(ValueError, match="the columns are question, answer"):
        recognize([Row(1, {"question": "a", "answer": "b"})])
    with pytest.raises(ValueError, match="there is no row to read"):
        recognize([Row(1, None, "broken")])


def test_most_rows_decide():
    rows = [Row(1, EXAMPLES["orca"][0])] + [Row(i, ROWS[0]) for i in range(2, 5)]
    assert recognize(rows) == "explicit"


@pytest.mark.parametrize(
    ("shape", "row", "verdict"),
    [
        ("explicit", {"prompt": "a", "chosen": None, "rejected": "b"}, "bad_type"),
        ("explicit", {"prompt": "a", "chosen": 3, "rejected": "b"}, "bad_type"),
        ("explicit", {"prompt": "a", "chosen": float("nan"), "rejected": "b"}, "bad_type"),
        ("explicit", {"prompt": "a", "chosen": "b", "rejected": ["c", "d"]}, "several_rejected"),
        ("conversational", {"prompt": [ASKED], "chosen": ["x"], "rejected": [BAD]}, "bad_type"),
        ("conversational", {"prompt": [ASKED], "chosen": [], "rejected": [BAD]}, "bad_type"),
        (
            "conversational",
            {"prompt": [ASKED], "chosen": [{"role": "assistant", "content": None}], "rejected": [BAD]},
            "bad_type",
        ),
        (
            "conversations",
            {"chosen": [ASKED, GOOD], "rejected": [said("user", "Other?"), BAD]},
            "prompt_differs",
        ),
        (
            "conversations",
            {"chosen": [ASKED, GOOD, ASKED, GOOD], "rejected": [ASKED, BAD, ASKED, GOOD]},
            "prompt_differs",
        ),
        ("llamafactory", {"instruction": "a", "output": ["b", "c", "d"]}, "several_rejected"),
        ("llamafactory", {"instruction": "a", "output": ["b"]}, "bad_type"),
        ("ms-swift", {"messages": [ASKED], "rejected_response": "No."}, "bad_type"),
        ("ms-swift", {"messages": [ASKED, GOOD], "rejected_response": ["a", "b"]}, "several_rejected"),
        ("tldr", {"info": {"post": "p"}, "summaries": [{"text": "a"}], "choice": 0}, "bad_type"),
        ("tldr", {"info": {"post": "p"}, "summaries": [{"text": "a"}] * 2, "choice": 2}, "bad_type"),
        ("implicit", {"chosen": "a", "rejected": "b"}, "prompt_differs"),
        ("transcripts", {"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "bad_type"),
        (
            "transcripts",
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: b"},
            "prompt_differs",
        ),
    ],
)
def test_a_row_that_cannot_be_read_says_why(shape, row, verdict):
    with pytest.raises(Misfit) as error:
        SHAPES[shape].read(row)
    assert error.value.verdict == verdict


# ── verdicts ──────────────────────────────────────────────────────────────────────────────────────────


def _explicit(prompt, chosen, rejected):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


#: Forty rows that were met or could be, each with its verdict at a length of 40 tokens.
HOSTILE = [
    (_explicit("the film was", " good", " bad"), "conflict"),
    (_explicit("the film was", " bad", " good"), "conflict"),
    (_explicit("what a day", " good", " bad"), "ok"),
    (_explicit("what a day", " good", " bad"), "duplicate"),
    (_explicit("what a day", " same", " same"), "identical"),
    (_explicit("what a day", "", " bad"), "empty"),
    (_explicit("what a day", " good", "  \n"), "empty"),
    (_explicit("", " good", " bad"), "empty"),
    (_explicit("the " * 200, " good", " bad"), "too_long"),
    (_explicit("the film", " was" + " good" * 200 + " a", " was" + " good" * 200 + " b"),
     "identical_after_truncation"),
    (_explicit("the film", " was" + " good" * 200, " bad"), "ok"),
    (_explicit("a <|endoftext|> b", " good", " bad"), "special_token"),
    (_explicit("the day", " <|endoftext|>", " bad"), "special_token"),
    (_explicit("the day", " good ", " good"), "ok"),
    (_explicit("the day ", "good", "bad"), "ok"),
    (_explicit("<b>the</b> &amp;", " good", " bad"), "ok"),
    (_explicit("\u202eright to left", " \u00e9t\u00e9", " \U0001f600"), "ok"),
    (_explicit("a\x00b", " good", " bad"), "ok"),
    (_explicit("the day", " good\r\n", " good\n"), "ok"),
    (_explicit("\ud800".encode("utf-8", "replace").decode(), " good", " bad"), "ok"),
    (_explicit(None, " good", " bad"), "bad_type"),
    (_explicit("the day", None, " bad"), "bad_type"),
    (_explicit("the day", 7, " bad"), "bad_type"),
    (_explicit("the day", True, " bad"), "bad_type"),
    (_explicit("the day", float("nan"), " bad"), "bad_type"),
    (_explicit("the day", {"text": " good"}, " bad"), "bad_type"),
    (_explicit("the day", " good", [" bad", " worse"]), "several_rejected"),
    (_explicit("the day", " good", []), "several_rejected"),
    (_explicit(["the day"], " good", " bad"), "bad_type"),
    ({"chosen": " good", "rejected": " bad"}, "bad_type"),
    ({"prompt": "the day", "chosen": " good"}, "bad_type"),
    ({"question": "the day", "answer": " good"}, "bad_type"),
    ({}, "bad_type"),
    ({**_explicit("more columns", " good", " bad"), "score": 3}, "ok"),
    (b"{broken", "bad_json"),
    (b'{"prompt": "a", "prompt": "b", "chosen": "c", "rejected": "d"}', "bad_json"),
    (b'{"prompt": "\xff\xfe", "chosen": "c", "rejected": "d"}', "bad_json"),
    (b"[]", "bad_json"),
    (b"null", "bad_json"),
    (b'{"prompt": "the day", "chosen": NaN, "rejected": "d"}', "bad_type"),
]  # fmt: skip


def test_forty_hostile_rows_have_a_verdict_each(tmp_path, tokenizer):
    assert len(HOSTILE) == 40
    path = tmp_path / "hostile.jsonl"
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row, _ in HOSTILE]
    path.write_bytes(b"\n".join(lines))
    found = judge(read_rows(path), "explicit", tokenizer, max_length=40)
    assert [(row.place, row.verdict) for row in found] == [
        (place, verdict) for place, (_, verdict) in enumerate(HOSTILE, 1)
    ]
    assert all(row.said for row in found if row.verdict != "ok")
    assert {row.verdict for row in found} | {"prompt_differs"} == set(VERDICTS)
    trained = [row for row in found if row.encoded is not None]
    assert {row.verdict for row in trained} == {"ok", "special_token", "duplicate", "conflict"}


def test_a_line_of_ten_megabytes(tmp_path, tokenizer):
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps(_explicit("the " * 2_500_000, " good", " bad")) + "\n" + json.dumps(ROWS[0]))
    assert [row.verdict for row in judge(read_rows(path), "explicit", tokenizer)] == ["too_long", "ok"]


def test_a_conflict_names_the_other_row(tokenizer):
    rows = [Row(4, _explicit("a", " b", " c")), Row(9, _explicit("a", " c", " b"))]
    one, other = judge(rows, "explicit", tokenizer)
    assert ("row 9" in one.said, "row 4" in other.said) == (True, True)


def test_collate_has_the_same_verdicts_where_it_can(tokenizer):
    rows = [Row(i, row) for i, (row, _) in enumerate(HOSTILE) if not isinstance(row, bytes)]
    mine = judge(rows, "explicit", tokenizer, tokens="collate", max_length=40)
    theirs = judge(rows, "explicit", tokenizer, tokens="trl", max_length=40)
    # An empty prompt has a beginning of sequence here, and it is the prompt that is shortened, from its left.
    differ = {one.place for one, other in zip(mine, theirs, strict=True) if one.verdict != other.verdict}
    assert {HOSTILE[place][1] for place in differ} <= {
        "empty",
        "too_long",
        "identical_after_truncation",
        "ok",
    }
    assert {one.place for one in mine if one.verdict == "bad_type"} == {
        one.place for one in theirs if one.verdict == "bad_type"
    }


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────

TEXTS = [
    {"prompt": "The film is", "chosen": " good and long", "rejected": " bad"},
    {"prompt": "The film is ", "chosen": "good", "rejected": "really bad, and I mean it"},  # merges
    {"prompt": "Text:\n", "chosen": "\nyes", "rejected": "no"},
    {"prompt": "Done", "chosen": " well<|endoftext|>", "rejected": " badly"},
    {"prompt": "word " * 30, "chosen": " good" * 20, "rejected": " bad"},  # is cut
]


def _by_trl(tokenizer, rows, max_length):
    """What TRL's trainer makes of a data set before training."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer._tokenizer = tokenizer
    options = DPOConfig(max_length=max_length, use_cpu=True, report_to=[], bf16=False)
    made = trainer._prepare_dataset(Dataset.from_list(rows), tokenizer, options, "train")
    return [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in made]


def _ours(tokenizer, rows, shape, max_length):
    found = [encode(SHAPES[shape].read(row), tokenizer, max_length=max_length) for row in rows]
    return [tuple(map(list, (one.prompt, one.chosen, one.rejected))) for one in found]


def _cut(rows, length):
    """As TRL's collator cuts them."""
    return [
        (prompt[:length], chosen[: max(length - len(prompt), 0)], rejected[: max(length - len(prompt), 0)])
        for prompt, chosen, rejected in rows
    ]


@pytest.fixture(scope="module")
def nano():
    return load_model("nano")


def test_texts_have_the_tokens_that_trl_makes(nano):
    theirs = _by_trl(nano.tokenizer, TEXTS, 40)
    assert _ours(nano.tokenizer, TEXTS, "explicit", 40) == _cut(theirs, 40)
    assert sum(map(len, theirs[-1][:2])) > 40  # something was cut
    implicit = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"]} for r in TEXTS]
    assert _ours(nano.tokenizer, implicit, "implicit", 40) == _cut(_by_trl(nano.tokenizer, implicit, 40), 40)


def test_messages_have_the_tokens_that_trl_makes():
    tokenizer = load_model("smollm2-135m").tokenizer
    rows = [
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {
            "prompt": [said("system", "Be short."), ASKED],
            "chosen": [said("assistant", "")],
            "rejected": [BAD],
        },
    ]
    theirs = _by_trl(tokenizer, rows, 1024)
    assert _ours(tokenizer, rows, "conversational", 1024) == theirs
    whole = [
        {"chosen": [*r["prompt"], *r["chosen"]], "rejected": [*r["prompt"], *r["rejected"]]} for r in rows
    ]
    assert _ours(tokenizer, whole, "conversations", 1024) == _by_trl(tokenizer, whole, 1024) == theirs


def test_log_probabilities_are_those_of_trl(nano, tmp_path):
    """A real trainer on real rows: its own log-probabilities, and ours of the same rows."""
    from datasets import Dataset
    from trl.trainer.dpo_trainer import DPOConfig, DPOTrainer

    options = DPOConfig(
        output_dir=str(tmp_path), max_length=64, use_cpu=True, report_to=[], bf16=False,
        gradient_checkpointing=False, per_device_train_batch_size=len(TEXTS), disable_dropout=True,
    )  # fmt: skip
    model = load_model("nano").model
    trainer = DPOTrainer(
        model=model, ref_model=load_model("nano").model, args=options,
        train_dataset=Dataset.from_list(TEXTS), processing_class=nano.tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator(list(trainer.train_dataset))
    theirs = trainer.compute_ref_log_probs(trainer.model, batch)
    pairs = [encode(SHAPES["explicit"].read(row), nano.tokenizer, max_length=64) for row in TEXTS]
    for side in ("right", "left"):
        with torch.no_grad():
            ours = response_logps(nano.model, padded(pairs, padding_side=side))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_collate_is_the_other_choice(nano):
    pair = PreferencePair("The film is", " good and long", " bad")
    batch = collate([pair], nano.tokenizer)
    found = padded(
        [encode(Comparison("The film is", " good and long", " bad"), nano.tokenizer, tokens="collate")],
        append_eos=False,
    )
    real = batch.attention_mask.bool()
    assert torch.equal(found.input_ids[real], batch.input_ids[real])
    assert torch.equal(found.response_mask, batch.response_mask)


def _trained(pre, **options):
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, **options
    )
    bpe.train_from_iterator(["the film was good and long", "Text: yes no good film"] * 5, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


@pytest.mark.parametrize("kind", ["metaspace", "prefix-space"])
def test_joint_tokens_read_the_text_that_was_given(kind):
    """Tokenized apart, a response gets a space of its own from these tokenizers; jointly it does not."""
    if kind == "metaspace":
        tokenizer = _trained(pre_tokenizers.Metaspace())
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer = _trained(pre_tokenizers.ByteLevel(add_prefix_space=True), initial_alphabet=alphabet)
    with_space = encode(Comparison("Text:", " good", " yes"), tokenizer)
    without = encode(Comparison("Text:", "good", "yes"), tokenizer)
    whole = [encode_all(tokenizer, "Text: good"), encode_all(tokenizer, "Text:good")]
    assert [list(one.prompt + one.chosen) for one in (with_space, without)] == whole
    assert whole[0] != whole[1]


def encode_all(tokenizer, text):
    return list(tokenizer(text=text + tokenizer.eos_token)["input_ids"])


def test_what_a_tokenizer_cannot_read_is_told(nano, tokenizer):
    chat = Comparison([ASKED], [GOOD], [BAD])
    with pytest.raises(ValueError, match="no chat template"):
        encode(chat, nano.tokenizer)
    found = encode(chat, nano.tokenizer, tokens="collate")
    assert nano.tokenizer.decode(found.prompt).endswith("User: Is it?\nAssistant:")
    assert nano.tokenizer.decode(found.chosen) == " Yes."
    (judged,) = judge([Row(1, EXAMPLES["conversational"][0])], "conversational", nano.tokenizer)
    assert judged.verdict == "bad_type"
    assert "chat template" in judged.said


def test_padding_names_the_pair_that_has_no_token(tokenizer):
    found = encode(Comparison("the " * 50, " good", " bad", name="row 3"), tokenizer, max_length=10)
    assert found.chosen == ()
    with pytest.raises(ValueError, match="row 3: the chosen response has no token"):
        padded([found])
