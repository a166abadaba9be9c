"""Pairs whose prompt is computed once, against the two sequences computed apart."""

import peft
import pytest
import torch
from model_shapes import SHAPES
from torch import nn

from entanglement.logps import response_logps
from entanglement.pairs import PairBatch, collate
from entanglement.shared_prompt import can_share, shared_logps
from entanglement.training import align


def gradients(model, values):
    model.zero_grad(set_to_none=True)
    (values[0].sin() - 0.5 * values[1].cos()).sum().backward()  # another weight for each response
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_two_sequences(
    tiny_model, tokenizer, pairs, shape, side, append_eos
):
    model = tiny_model(shape)
    batch = collate(pairs, tokenizer, padding_side=side, append_eos=append_eos)
    apart, together = response_logps(model, batch), shared_logps(model, batch)
    for mine, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(gradients(model, together), gradients(model, apart), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_eager_attention_takes_the_mask_too(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-tied"), collate(pairs, tokenizer)
    model.set_attn_implementation("eager")
    for mine, theirs in zip(shared_logps(model, batch), response_logps(model, batch), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)  # its softmax is float32


def test_the_rejected_response_does_not_see_the_chosen_one(tiny_model, tokenizer, pairs):
    """Negative control: with the plain causal mask on the same layout it would."""
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    other = collate([pairs[0].__class__(p.prompt, " people", p.rejected, p.id) for p in pairs], tokenizer)
    (_, one), (_, two) = shared_logps(model, batch), shared_logps(model, other)
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
    seen = {}

    def causal(module, args, kwargs):
        mask = kwargs["attention_mask"]
        total = mask.shape[-1]
        low = torch.finfo(mask.dtype).min
        kwargs["attention_mask"] = torch.full((total, total), low, dtype=mask.dtype).triu(1).expand_as(mask)
        seen["shape"] = tuple(mask.shape)
        return args, kwargs

    handle = model.register_forward_pre_hook(causal, with_kwargs=True)
    wrong = shared_logps(model, batch)[1]
    handle.remove()
    assert seen["shape"][:2] == (len(batch), 1) and not torch.allclose(wrong, one, rtol=1e-3)


def test_pairs_of_unequal_prompts_are_left_to_two_sequences(tiny_model, tokenizer, pairs):
    two = collate(pairs[:2], tokenizer)
    names = ("input_ids", "attention_mask", "response_mask")
    crossed = {name: getattr(two, name)[[0, 3]] for name in names}  # of two pairs, a side each
    batch = PairBatch(**crossed, append_eos=False, ids=("crossed",))
    assert shared_logps(tiny_model("gpt2-tied"), batch) is None


def test_only_known_architectures_share(tiny_model):
    assert can_share(tiny_model("gpt2-tied")) and not can_share(nn.Linear(2, 2))
    adapted = peft.get_peft_model(
        tiny_model("llama-tied"), peft.LoraConfig(target_modules=["q_proj"], r=2, lora_alpha=4)
    )
    assert can_share(adapted)
    unknown = tiny_model("gpt2-tied")
    unknown.config.model_type = "mamba"
    assert not can_share(unknown)
    flash = tiny_model("gpt2-tied")
    flash.config._attn_implementation = "flash_attention_2"
    assert not can_share(flash)


def test_half_precision_gives_float32(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied", torch.bfloat16), collate(pairs, tokenizer)
    exact = shared_logps(tiny_model("gpt2-tied"), batch)
    for mine, theirs in zip(shared_logps(model, batch), exact, strict=True):
        assert mine.dtype == torch.float32 and theirs.dtype == torch.float64
        torch.testing.assert_close(mine.double(), theirs, rtol=0.05, atol=0.3)


def test_training_is_the_same_with_and_without_sharing(tiny_model, tokenizer, pairs):
    losses = []
    for kind in ("gpt2", "something else"):
        torch.manual_seed(0)
        model = tiny_model("gpt2-tied")
        model.config.model_type = kind
        run = align(model, tokenizer, pairs * 2, steps=4, lr=1e-3, batch_size=3, optimizer="sgd", seed=0)
        losses.append(torch.tensor(run.losses["loss"].to_numpy()))
    assert losses[0][-1] < losses[0][0] - 1e-4
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=1e-12)
