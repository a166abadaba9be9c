"""Pairs, tokenizers and models as people have them: reported inputs, each with the right value."""

import copy
import math

import pytest
import torch
import transformers
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from entanglement.batches import collate_for, grouped_logps, length_groups
from entanglement.contrast import pair_embeddings
from entanglement.geometry import CASES, PairGeometry
from entanglement.gradients import pair_geometry
from entanglement.logps import pair_logps, response_logps
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.rewards import train_reward
from entanglement.sampling import continue_prompts
from entanglement.token_ids import context_length, prompt_ids, response_ids, special_tokens_in
from entanglement.training import align, measure, sft

END = "<|endoftext|>"


def _values(model, batch):
    with torch.no_grad():
        return torch.stack(response_logps(model, batch))


def _text(tokenizer, ids):
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


# --- special tokens -----------------------------------------------------------------------------------------


def test_a_prompt_that_begins_with_the_beginning_gets_it_once(tokenizer):
    plain, marked = (
        collate([PreferencePair(f"{mark}the film", " good", " bad", "a")], tokenizer) for mark in ("", END)
    )
    assert torch.equal(plain.input_ids, marked.input_ids)
    assert int((plain.input_ids[0] == tokenizer.bos_token_id).sum()) == 1


@pytest.mark.parametrize("append_eos", [False, True])
def test_a_response_that_ends_with_the_end_gets_no_second(tokenizer, append_eos):
    pair = PreferencePair("the film", f" good{END}", f" bad{END}", "a")
    found = collate([pair], tokenizer, append_eos=append_eos)
    plain = collate([PreferencePair("the film", " good", " bad", "a")], tokenizer, append_eos=True)
    assert torch.equal(found.input_ids, plain.input_ids)
    assert torch.equal(found.response_mask, plain.response_mask)


def test_special_tokens_that_are_written_out_are_named(tokenizer):
    assert special_tokens_in(f"the {END} film {END}", tokenizer) == [END]
    assert special_tokens_in("the film", tokenizer) == []
    ids = response_ids(f" good {END} film", tokenizer)
    assert ids.count(tokenizer.eos_token_id) == 1


def test_the_beginning_can_be_left_out(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.bos_token = None
    assert prompt_ids("the film", tokenizer) == [tokenizer.bos_token_id, *prompt_ids("the film", bare)]
    with pytest.raises(ValueError, match="the prompt of a has no tokens"):
        collate([PreferencePair("", " good", " bad", "a")], bare)


# --- tokenizers that put a space before every text ----------------------------------------------------------

TEXTS = ["Text: yes no good film\n- a 1 of 2", "the film was good and long (and 12 others)"] * 5


def _fast(tokenizer):
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _bpe(**parts):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet = parts.pop("alphabet", sorted({letter for text in TEXTS for letter in text}))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
        initial_alphabet=alphabet,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _fast(tokenizer)


def _unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _fast(tokenizer)


def _llama_2():
    """As Llama 2's: no words, a space before the text and one sign for spaces, by the normalizer."""
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    back = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return _bpe(normalizer=normalizers.Sequence(spaces), decoder=decoders.Sequence(back))


KINDS = {
    "metaspace": lambda: _bpe(pre_tokenizer=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace()),
    "unigram": _unigram,
    "llama 2": _llama_2,
    "prefix space": lambda: _bpe(
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True),
        decoder=decoders.ByteLevel(),
        alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
    "no space": lambda: _bpe(
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        alphabet=pre_tokenizers.ByteLevel.alphabet(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("response", ["good", " good", "1 of", "(12", ": yes", "a", "  good", "ofilm"])
def test_a_response_reads_as_the_text_that_was_given(kind, response):
    some = KINDS[kind]()
    ids = prompt_ids("Text:", some) + response_ids(response, some)
    assert _text(some, ids[1:]).lstrip(" ") == f"Text:{response}"
    assert some.unk_token_id not in ids


def test_a_tokenizer_that_puts_a_space_would_have_read_another_text():
    some = KINDS["metaspace"]()
    assert response_ids("good", some) != some("good")["input_ids"]
    assert response_ids(" good", some) == some("good")["input_ids"]


def test_a_response_that_merges_with_all_before_it_is_refused():
    class Words:
        """Reads a text as one word of its letters in order, so that nothing shows where a part begins."""

        def __call__(self, text, add_special_tokens=True):
            return {"input_ids": [sum(map(ord, text))]}

        def convert_ids_to_tokens(self, ids):
            return ["▁word"] * len(ids)

    with pytest.raises(ValueError, match="' good' merges with whatever stands before it"):
        response_ids.__wrapped__(" good", Words())


# --- lengths ------------------------------------------------------------------------------------------------


def test_two_answers_that_are_cut_answer_one_prompt(tokenizer):
    long = PreferencePair("the film " * 40, " a", " the people liked it and hated it", "a")
    batch = collate([long], tokenizer, max_length=48)
    prompts = [
        ids[real.bool() & ~answer].tolist()
        for ids, real, answer in zip(batch.input_ids, batch.attention_mask, batch.response_mask, strict=True)
    ]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) + int(batch.rejected_len) == 48
    assert prompts[0][0] == tokenizer.bos_token_id


def test_the_context_is_the_models_where_the_tokenizer_has_no_limit(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")  # 64 positions
    assert tokenizer.model_max_length > 10**6
    assert context_length(tokenizer) is None
    assert context_length(tokenizer, model) == 64
    long = [PreferencePair("the film was " * 80, " good", " bad", "a")]
    table = measure(model, tokenizer, {"one": long}, geometry_pairs=1)
    short = collate(long, tokenizer, max_length=64)
    assert int(short.attention_mask.sum(1).max()) == 64
    assert table.chosen_logp[0] == pytest.approx(float(_values(model, short)[0]))
    assert continue_prompts(model, tokenizer, [long[0].prompt], 4).input_ids.shape == (1, 64)


def test_the_shorter_of_two_limits_counts(tiny_model, tokenizer):
    short = copy.deepcopy(tokenizer)
    short.model_max_length = 20
    assert context_length(short, tiny_model("llama-tied")) == 20
    short.model_max_length = 100
    assert context_length(short, tiny_model("llama-tied")) == 64


# --- padding and positions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_padding_never_enters_whatever_its_id(tiny_model, tokenizer, pairs, shape, side):
    model = tiny_model(shape)
    plain = collate(pairs, tokenizer, padding_side=side)
    strange = PairBatch(
        plain.input_ids.masked_fill(plain.attention_mask == 0, 10**6),
        plain.attention_mask, plain.response_mask, plain.append_eos, plain.ids,
    )  # fmt: skip
    assert torch.equal(_values(model, strange), _values(model, plain))
    for one, other in zip(
        vars(pair_geometry(model, strange)).values(), vars(pair_geometry(model, plain)).values(), strict=True
    ):
        assert one == other if isinstance(one, tuple) else torch.equal(one, other)


def test_a_padding_token_that_the_model_has_not_is_no_hindrance(tiny_model, tokenizer, pairs):
    added = copy.deepcopy(tokenizer)
    added.add_special_tokens({"pad_token": "[PAD]"})
    model = tiny_model("gpt2-tied")
    assert added.pad_token_id >= model.get_input_embeddings().num_embeddings
    for side in ("left", "right"):
        found = _values(model, collate(pairs, added, padding_side=side))
        torch.testing.assert_close(found, _values(model, collate(pairs, tokenizer, padding_side=side)))


@pytest.fixture(scope="module")
def bloom():
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=16, n_layer=2, n_head=4, initializer_range=0.2, pad_token_id=None,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.BloomForCausalLM(config).eval()


def test_a_model_without_position_ids_is_measured_and_trained(bloom, tokenizer, pairs):
    assert not bool(collate_for(bloom, pairs, tokenizer, False).attention_mask[:, 0].eq(0).any())
    found = measure(bloom, tokenizer, {"all": pairs}, geometry_pairs=3)
    alone = [_values(bloom, collate([pair], tokenizer)) for pair in pairs]
    for i, values in enumerate(alone):
        assert found.chosen_logp[i] == pytest.approx(float(values[0, 0]), abs=1e-4)
        assert found.rejected_logp[i] == pytest.approx(float(values[1, 0]), abs=1e-4)
    trained = align(copy.deepcopy(bloom), tokenizer, pairs, steps=2, batch_size=2, lr=1e-3)
    assert trained.losses["loss"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert sft(copy.deepcopy(bloom), tokenizer, pairs, steps=2, batch_size=2).losses["loss"].notna().all()


def test_a_reward_model_reads_padding_on_the_side_of_its_trunk(
    bloom, tiny_model, tokenizer, pairs, monkeypatch
):
    from entanglement.rewards import bradley_terry

    seen, plain = [], bradley_terry._rewards
    monkeypatch.setattr(bradley_terry, "_rewards", lambda m, batch: seen.append(batch) or plain(m, batch))
    for model, left in ((tiny_model("gpt2-tied", torch.float32), True), (bloom, False)):
        seen.clear()
        train_reward(model, tokenizer, pairs, steps=1, batch_size=3)
        (batch,) = seen
        first, last = (batch.attention_mask[:, k].eq(0).any() for k in (0, -1))
        assert (bool(first), bool(last)) == (left, not left)


def test_a_model_without_position_ids_is_drawn_from_and_embedded(bloom, tokenizer, pairs):
    named = [pair for pair in pairs if pair.prompt]
    drawn = continue_prompts(bloom, tokenizer, ["the film was good", "a day"], 3)
    for row, prompt in enumerate(["the film was good", "a day"]):
        assert torch.equal(drawn.ids[row], continue_prompts(bloom, tokenizer, [prompt], 3).ids[0])
    together = pair_embeddings(bloom, tokenizer, named)
    for i, pair in enumerate(named):
        for some, one in zip(together, pair_embeddings(bloom, tokenizer, [pair]), strict=True):
            torch.testing.assert_close(some[i], one[0], rtol=1e-4, atol=1e-5)


# --- adapters -----------------------------------------------------------------------------------------------


def _adapted(tiny_model, config):
    torch.manual_seed(1)
    return get_peft_model(tiny_model("gpt2-tied", torch.float32), config).eval()


@pytest.mark.parametrize("work", [response_logps, pair_geometry])
def test_soft_prompts_are_refused_by_name(tiny_model, tokenizer, pairs, work):
    model = _adapted(tiny_model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(ValueError, match="the adapter is PROMPT_TUNING: 4 soft tokens"):
        work(model, collate(pairs, tokenizer))
    with pytest.raises(ValueError, match="the adapter is PROMPT_TUNING: 4 soft tokens"):
        grouped_logps(model, tokenizer, pairs, False)


@pytest.mark.parametrize(
    "config",
    [
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], fan_in_fan_out=True),
    ],
    ids=["prefix", "lora"],
)
def test_other_adapters_are_read_pair_by_pair_as_in_a_batch(tiny_model, tokenizer, pairs, config):
    model = _adapted(tiny_model, config)
    together = grouped_logps(model, tokenizer, pairs, False)
    for i, pair in enumerate(pairs):
        chosen, rejected = _values(model, collate([pair], tokenizer))
        assert float(together.chosen[i]) == pytest.approx(float(chosen), abs=1e-4)
        assert float(together.rejected[i]) == pytest.approx(float(rejected), abs=1e-4)


# --- what SFT looks at --------------------------------------------------------------------------------------


def test_sft_never_looks_at_a_rejected_response(tiny_model, tokenizer, pairs):
    kinds = {
        "given": pairs,
        "empty": [PreferencePair(p.prompt, p.chosen, "", p.id) for p in pairs],
        "over long": [PreferencePair(p.prompt, p.chosen, " the film" * 200, p.id) for p in pairs],
    }
    ends = {}
    for name, some in kinds.items():
        model = tiny_model("gpt2-tied")
        sft(model, tokenizer, some, steps=3, batch_size=2)
        ends[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(ends["given"], ends["empty"])
    assert torch.equal(ends["given"], ends["over long"])
    assert not torch.equal(
        ends["given"], torch.cat([p.flatten() for p in tiny_model("gpt2-tied").parameters()])
    )


# --- identical pairs, and names -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_pairs_are_equal_and_no_case_of_a_step(tiny_model, tokenizer, dtype):
    model = tiny_model("gpt2-tied", dtype)
    same = PreferencePair("the film", " the people liked it", " the people liked it", "same")
    other = PreferencePair("the film", " good", " bad and", "other")
    batch = collate([same, other], tokenizer)
    assert batch.identical == (True, False)
    geometry = pair_geometry(model, batch)
    assert geometry.case() == ["equal", geometry.select(1).case()[0]]
    assert geometry.case(2.0, 1.0)[0] == "equal"
    assert geometry.case()[1] != "equal"
    assert float(geometry.margin_change(1.0)[0]) == 0
    assert geometry.case_shares()["equal"] == 0.5
    assert set(geometry.select(1).case_shares()) == set(CASES)


def test_equal_is_said_of_responses_and_not_of_gradients():
    alike = PairGeometry.from_vectors([2.0, 1.0], [2.0, 1.0])
    assert alike.case() == ["ideal"] and alike.case(1.001, 1.0) == ["both_up"]
    same = PairGeometry(alike.chosen_sq, alike.rejected_sq, alike.inner, identical=(True,))
    assert same.case() == same.case(1.001, 1.0) == ["equal"]
    both = PairGeometry.cat([alike, same, alike])
    assert both.case() == ["ideal", "equal", "ideal"] and both.select([1, 0]).case() == ["equal", "ideal"]
    with pytest.raises(ValueError, match="identical has 2 entries for 1 pairs"):
        PairGeometry(alike.chosen_sq, alike.rejected_sq, alike.inner, identical=(True, False))


def test_a_pair_without_an_id_has_one_name_everywhere(tiny_model, tokenizer):
    texts = ["the film was good and the people", "the film", "what a day"]
    nameless = [PreferencePair(text, " good", " bad") for text in texts]
    named = ["pair 0", "pair 1", "pair 2"]
    model = tiny_model("gpt2-tied")
    assert list(collate(nameless, tokenizer).ids) == named
    assert measure(model, tokenizer, {"all": nameless})["pair"].tolist() == named
    order, batches = length_groups(model, tokenizer, nameless, size=2)
    assert [name for batch in batches for name in batch.ids] == [named[i] for i in order]
    assert order == [1, 2, 0]


def test_a_pair_that_cannot_be_read_is_named_by_its_place_in_the_list(tiny_model, tokenizer):
    texts = ["the film was good and the people", "the film", "what a day"]
    broken = [PreferencePair(text, " good" if len(text) > 9 else "", " bad") for text in texts]
    for work in (
        lambda m: measure(m, tokenizer, {"all": broken}),
        lambda m: align(m, tokenizer, broken, steps=1, batch_size=3),
        lambda m: sft(m, tokenizer, broken, steps=1, batch_size=3),
    ):
        with pytest.raises(ValueError, match="the chosen response of pair 1 has no tokens"):
            work(tiny_model("gpt2-tied"))


def test_a_set_without_pairs_is_named(tiny_model, tokenizer, pairs):
    with pytest.raises(ValueError, match="the set 'b' has no pairs"):
        measure(tiny_model("gpt2-tied"), tokenizer, {"a": pairs, "b": []})


def test_a_policy_that_is_its_own_reference_starts_at_log_two(bloom, tokenizer, pairs):
    logps = pair_logps(bloom, collate_for(bloom, pairs, tokenizer, True), bloom)
    assert torch.equal(logps.delta, torch.zeros(3))
