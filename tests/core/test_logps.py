"""Log-probabilities against a loop over single sequences without padding."""

import pytest
import torch
from model_shapes import SHAPES

from entanglement.logps import PairLogps, pair_logps, response_logps, token_logps
from entanglement.pairs import PairBatch, collate


def by_hand(model, batch):
    """(2B) lists of per-token log-probabilities: one sequence at a time, no padding, no mask, no
    positions.
    """
    out = []
    for ids, attention, response in zip(
        batch.input_ids, batch.attention_mask, batch.response_mask, strict=True
    ):
        real = attention.bool()
        tokens, is_response = ids[real], response[real]
        logp = model(input_ids=tokens[None]).logits[0].log_softmax(-1)
        out.append([logp[t - 1, tokens[t]].item() for t in range(len(tokens)) if is_response[t]])
    return out


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_a_loop(tiny_model, tokenizer, pairs, shape, side):
    model = tiny_model(shape)
    batch = collate(pairs, tokenizer, append_eos=True, padding_side=side)
    tokens = token_logps(model, batch)
    chosen, rejected = response_logps(model, batch)
    expected = by_hand(model, batch)
    values, masks = (
        torch.cat([tokens.chosen, tokens.rejected]),
        torch.cat([tokens.chosen_mask, tokens.rejected_mask]),
    )
    assert values.dtype == torch.float64
    assert torch.equal(masks, batch.response_mask)
    assert bool((values[~masks] == 0).all())
    for row, mask, hand in zip(values, masks, expected, strict=True):
        torch.testing.assert_close(row[mask].detach(), torch.tensor(hand, dtype=torch.float64))
    sums = torch.tensor([sum(hand) for hand in expected], dtype=torch.float64)
    torch.testing.assert_close(torch.cat([chosen, rejected]).detach(), sums)


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_gradients_do_not_feel_padding(tiny_model, tokenizer, pairs, shape):
    model = tiny_model(shape)
    found = []
    for side in ("left", "right"):
        chosen, rejected = response_logps(model, collate(pairs, tokenizer, padding_side=side))
        loss = (chosen * torch.tensor([1.0, -2.0, 3.0])).sum() - rejected.sum()
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right)


def test_float32_and_bfloat16_give_float32(tiny_model, tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    exact = torch.cat(response_logps(tiny_model("gpt2-tied"), batch)).float()
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.3)):
        values = torch.cat(response_logps(tiny_model("gpt2-tied", dtype), batch))
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, exact, atol=tolerance, rtol=tolerance)


class NoPositions(torch.nn.Module):
    """A model whose forward takes no position_ids and returns bare logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def test_without_position_ids_left_padding_is_refused(tiny_model, tokenizer, pairs):
    model = tiny_model("gpt2-tied")
    bare = NoPositions(model)
    right = collate(pairs, tokenizer, padding_side="right")
    torch.testing.assert_close(
        torch.cat(response_logps(bare, right)), torch.cat(response_logps(model, right))
    )
    with pytest.raises(ValueError, match=r"NoPositions\.forward takes no position_ids.*padding_side='right'"):
        response_logps(bare, collate(pairs, tokenizer, padding_side="left"))


def small_batch(response):
    ids = torch.tensor([[1, 2, 3], [1, 2, 3]])
    return PairBatch(ids, torch.ones_like(ids), torch.tensor(response, dtype=torch.bool), False, ("seventh",))


def test_bad_responses_are_refused_by_name(tiny_model):
    model = tiny_model("gpt2-tied")
    with pytest.raises(ValueError, match="rejected response of seventh is empty"):
        response_logps(model, small_batch([[0, 1, 1], [0, 0, 0]]))
    with pytest.raises(ValueError, match="chosen response of seventh starts at the sequence's first token"):
        response_logps(model, small_batch([[1, 1, 1], [0, 1, 1]]))


def test_pair_logps_collects_reference_and_lengths(tiny_model, tokenizer, pairs):
    model, ref = tiny_model("gpt2-tied", seed=0), tiny_model("gpt2-tied", seed=1)
    batch = collate(pairs, tokenizer)
    got = pair_logps(model, batch, ref)
    for mine, theirs in zip((got.ref_chosen, got.ref_rejected), response_logps(ref, batch), strict=True):
        torch.testing.assert_close(mine, theirs.detach())
        assert not mine.requires_grad
    assert got.chosen.requires_grad
    assert got.chosen_len.tolist() == batch.chosen_len.tolist()
    again = pair_logps(model, batch, (got.ref_chosen, got.ref_rejected))
    torch.testing.assert_close(again.delta, got.delta)
    assert not pair_logps(model, batch).has_reference


def test_pair_logps_properties_and_errors():
    w, l, rw, rl = (torch.tensor([float(x)]) for x in (-3, -7, -4, -5))  # noqa: E741
    full = PairLogps(w, l, rw, rl, torch.tensor([3]), torch.tensor([2]))
    assert full.chosen_logratio.item() == 1.0
    assert full.rejected_logratio.item() == -2.0
    assert full.delta.item() == 3.0
    assert full.margin.item() == 4.0
    assert full.chosen_mean.item() == -1.0
    assert full.rejected_mean.item() == -3.5
    with pytest.raises(ValueError, match="ref_chosen is None"):
        _ = PairLogps(w, l).delta
    with pytest.raises(ValueError, match="chosen_len is None"):
        _ = PairLogps(w, l).chosen_mean
    with pytest.raises(ValueError, match=r"rejected is \(2,\); expected a tensor of shape \(B,\)"):
        PairLogps(w, torch.zeros(2))
    with pytest.raises(ValueError, match="give both ref_chosen and ref_rejected"):
        PairLogps(w, l, rw)
    with pytest.raises(ValueError, match="chosen_len has a value below 1"):
        PairLogps(w, l, chosen_len=torch.tensor([0]), rejected_len=torch.tensor([2]))


def test_a_response_token_that_is_masked_out_is_refused(tiny_model):
    batch = small_batch([[0, 1, 1], [0, 1, 1]])
    batch.attention_mask[1, 2] = 0
    with pytest.raises(ValueError, match="a response token is masked out by attention_mask"):
        response_logps(tiny_model("gpt2-tied"), batch)


def test_what_is_detached_carries_no_graph():
    values = [torch.tensor([-float(k)], requires_grad=True) for k in range(1, 5)]
    full = PairLogps(*values, torch.tensor([3]), torch.tensor([2]))
    found = full.detach()
    assert full.delta.requires_grad and not found.delta.requires_grad
    assert found.margin == full.margin and found.delta == full.delta and found.chosen_mean == full.chosen_mean
    assert not PairLogps(*values[:2]).detach().has_reference
