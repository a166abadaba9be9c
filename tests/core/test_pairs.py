"""Collation: the boundary can't move, the end-of-sequence token is explicit, nothing of a response is
lost.
"""

from dataclasses import replace

import pytest
import torch

from entanglement.pairs import PreferencePair, collate


def rows(batch):
    """Each row as (prompt ids, response ids), padding removed."""
    out = []
    for ids, attention, response in zip(
        batch.input_ids, batch.attention_mask, batch.response_mask, strict=True
    ):
        out.append((ids[attention.bool() & ~response].tolist(), ids[response].tolist()))
    return out


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_rows_are_bos_prompt_response(tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    expected = [
        ([tokenizer.bos_token_id, *ids_of(tokenizer, p.prompt)], ids_of(tokenizer, text))
        for side in ("chosen", "rejected")
        for p in pairs
        for text in [getattr(p, side)]
    ]
    assert rows(batch) == expected
    assert len(batch) == 3
    assert batch.ids == ("film", "empty prompt", "day")
    assert batch.append_eos is False


def test_the_boundary_does_not_move_under_a_merge(tokenizer):
    joint = ids_of(tokenizer, "abab")
    apart = ids_of(tokenizer, "aba") + ids_of(tokenizer, "b")
    assert joint != apart, "the tokenizer must merge across the boundary, or this test shows nothing"
    batch = collate([PreferencePair("aba", "b", "a")], tokenizer)
    assert rows(batch)[0] == ([tokenizer.bos_token_id, *ids_of(tokenizer, "aba")], ids_of(tokenizer, "b"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_eos_is_part_of_the_response_only_when_asked(tokenizer, pairs, side):
    without = collate(pairs, tokenizer, padding_side=side)
    with_eos = collate(pairs, tokenizer, append_eos=True, padding_side=side)
    assert with_eos.append_eos is True
    for (prompt, response), (prompt_eos, response_eos) in zip(rows(without), rows(with_eos), strict=True):
        assert prompt == prompt_eos
        assert response_eos == [*response, tokenizer.eos_token_id]


def test_padding_side_changes_only_where_padding_stands(tokenizer, pairs):
    left, right = (collate(pairs, tokenizer, padding_side=s) for s in ("left", "right"))
    assert rows(left) == rows(right)
    assert bool(left.attention_mask[:, -1].all()) and bool(right.attention_mask[:, 0].all())
    for batch in (left, right):
        positions = [
            p[a.bool()].tolist() for p, a in zip(batch.position_ids, batch.attention_mask, strict=True)
        ]
        assert positions == [list(range(len(p))) for p in positions]


def test_lengths(tokenizer, pairs):
    batch = collate(pairs, tokenizer, append_eos=True)
    assert batch.chosen_len.tolist() == [len(ids_of(tokenizer, p.chosen)) + 1 for p in pairs]
    assert batch.rejected_len.tolist() == [len(ids_of(tokenizer, p.rejected)) + 1 for p in pairs]


def test_truncation_keeps_bos_and_the_whole_response(tokenizer):
    pair = PreferencePair("what a day today what a day today", " good", " the people hated it")
    full = rows(collate([pair], tokenizer))
    limit = max(len(p) + len(r) for p, r in full) - 4
    for (prompt, response), (full_prompt, full_response) in zip(
        rows(collate([pair], tokenizer, max_length=limit)), full, strict=True
    ):
        assert response == full_response
        assert prompt[0] == tokenizer.bos_token_id
        kept = len(prompt) - 1
        assert prompt[1:] == full_prompt[len(full_prompt) - kept :]
        assert len(prompt) + len(response) <= limit


def test_truncation_refuses_to_cut_a_response(tokenizer):
    pair = PreferencePair("what a day", " good", " the people hated it and the people", "long one")
    with pytest.raises(ValueError, match=r"rejected response of long one.*max_length=8"):
        collate([pair], tokenizer, max_length=8)


def test_errors_name_the_pair(tokenizer):
    with pytest.raises(ValueError, match="no pairs"):
        collate([], tokenizer)
    with pytest.raises(ValueError, match="chosen response of pair 1 has no tokens"):
        collate([PreferencePair("a", "b", "a"), PreferencePair("a", "", "a")], tokenizer)
    with pytest.raises(ValueError, match="padding_side='middle'"):
        collate([PreferencePair("a", "b", "a")], tokenizer, padding_side="middle")


class Bare:
    """A tokenizer without special tokens."""

    bos_token_id = eos_token_id = pad_token_id = None

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text, **kwargs):
        return self.tokenizer(text, **kwargs)

    def convert_ids_to_tokens(self, ids):
        return self.tokenizer.convert_ids_to_tokens(ids)


def test_a_tokenizer_without_special_tokens(tokenizer):
    bare = Bare(tokenizer)
    assert rows(collate([PreferencePair("a", "b", "a")], bare))[0] == (
        ids_of(tokenizer, "a"),
        ids_of(tokenizer, "b"),
    )
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        collate([PreferencePair("a", "b", "a")], bare, append_eos=True)
    with pytest.raises(ValueError, match="prompt of nothing has no tokens"):
        collate([PreferencePair("", "b", "a", "nothing")], bare)


def test_select_keeps_pairs_together(tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    some = batch.select([2, 0])
    everything = rows(batch)
    assert rows(some) == [everything[i] for i in (2, 0, 5, 3)]
    assert some.ids == ("day", "film")
    assert torch.equal(batch.select(1).input_ids, batch.input_ids[[1, 4]])
    assert replace(batch).to("cpu").ids == batch.ids


def test_a_response_fits_with_one_token_of_its_prompt(tokenizer):
    pair = PreferencePair("what a day", " good", " good", "p")
    longest = 2 + len(ids_of(tokenizer, " good"))
    prompt, _ = rows(collate([pair], tokenizer, max_length=longest))[0]
    assert prompt == [tokenizer.bos_token_id, ids_of(tokenizer, "what a day")[-1]]
    with pytest.raises(ValueError, match=f"max_length={longest - 1} leaves no room"):
        collate([pair], tokenizer, max_length=longest - 1)
    whole = rows(collate([pair], tokenizer))
    length = len(whole[0][0]) + len(whole[0][1])
    assert rows(collate([pair], tokenizer, max_length=length)) == whole
