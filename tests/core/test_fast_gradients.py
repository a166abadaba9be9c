"""The fast geometry where it could go wrong: what no rule covers, odd layouts, half precision, checkpointing.

``test_gradients`` holds the same functions against plain backward passes on every architecture.
"""

import warnings

import peft
import pytest
import torch
import transformers
from model_shapes import SHAPES
from torch import nn
from torch.nn.functional import linear

from entanglement.geometry import PairGeometry
from entanglement.gradients import (
    UncoveredParameterWarning,
    naive,
    pair_geometry,
    select_parameters,
    token_geometry,
)
from entanglement.pairs import PairBatch, collate


def close(mine, theirs, tolerance=1e-9):
    scale = theirs.chosen_sq.sqrt() * theirs.rejected_sq.sqrt()
    torch.testing.assert_close(mine.chosen_sq, theirs.chosen_sq, rtol=tolerance, atol=0)
    torch.testing.assert_close(mine.rejected_sq, theirs.rejected_sq, rtol=tolerance, atol=0)
    assert bool(((mine.inner - theirs.inner).abs() <= tolerance * scale).all())


def both_ways(model, batch, parameters="all", tolerance=1e-9, **options):
    """Pairs and tokens, fast against naive."""
    close(
        pair_geometry(model, batch, parameters, **options),
        naive.pair_geometry(model, batch, parameters),
        tolerance,
    )
    for i in range(len(batch)):
        fast = token_geometry(model, batch.select(i), parameters, **options)
        slow = naive.token_geometry(model, batch.select(i), parameters)
        largest = float(slow.gram.diagonal().max())
        torch.testing.assert_close(fast.gram, slow.gram, rtol=tolerance, atol=tolerance * largest)


@pytest.fixture(autouse=True)
def _no_silence():
    """A parameter that no rule covers must be announced: elsewhere than expected, that is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncoveredParameterWarning)
        yield


@pytest.mark.parametrize("shape", SHAPES)
def test_every_parameter_of_the_supported_architectures_has_a_rule(tiny_model, tokenizer, pairs, shape):
    for dtype in (torch.float64, torch.float32):
        both_ways(
            tiny_model(shape, dtype),
            collate(pairs, tokenizer),
            strict=True,
            tolerance=1e-9 if dtype == torch.float64 else 1e-4,
        )


ADAPTED = {
    "gpt2": ["c_attn", "c_fc"],
    "llama": ["q_proj", "down_proj"],
    "neox": ["query_key_value", "dense_4h_to_h"],
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_adapters_on_every_architecture(tiny_model, tokenizer, pairs, shape, side, dtype):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, target_modules=ADAPTED[shape.split("-")[0]], init_lora_weights=False)
    model = peft.get_peft_model(tiny_model(shape, dtype), config).to(dtype).eval()
    batch = collate(pairs, tokenizer, padding_side=side)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    both_ways(model, batch, "trainable", strict=True, tolerance=tolerance)
    both_ways(model, batch, "all", strict=True, tolerance=tolerance)


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_an_adapter_that_multiplies_outside_of_modules(tiny_model, tokenizer, pairs, shape, side):
    torch.manual_seed(0)
    targets = ADAPTED[shape.split("-")[0]]
    config = peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False, use_dora=True)
    model = peft.get_peft_model(tiny_model(shape), config).double().eval()
    batch = collate(pairs, tokenizer, padding_side=side)
    with pytest.warns(UncoveredParameterWarning, match="lora_"):  # DoRA: the general way, and said so
        both_ways(model, batch, "trainable")
    with pytest.raises(ValueError, match=r"no rule covers the use of .*lora_"):
        pair_geometry(model, batch, "trainable", strict=True)


class Around(nn.Module):
    """A model whose logits are changed by a function of (hidden logits, self)."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change
        self.scale = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.mix = nn.Linear(300, 300, dtype=torch.float64)

    def forward(self, input_ids, attention_mask, position_ids=None):
        logits = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids).logits
        return self.change(logits, self)


UNCOVERED = {
    "a bare parameter": (lambda z, m: z * m.scale, "scale"),
    "a weight used without its module": (lambda z, m: z + linear(z, m.mix.weight), "mix.weight"),
    "once by its module and once without": (
        lambda z, m: m.mix(z) + linear(z, m.mix.weight),
        "mix.weight",
    ),
    "positions before examples": (lambda z, m: m.mix(z.transpose(0, 1)).transpose(0, 1), "mix.weight"),
    "all positions in one dimension": (lambda z, m: m.mix(z.flatten(0, 1)).view(z.shape), "mix.weight"),
}


@pytest.mark.parametrize("case", list(UNCOVERED))
def test_what_no_rule_covers_is_announced_and_exact(tiny_model, tokenizer, pairs, case):
    change, name = UNCOVERED[case]
    model, batch = Around(tiny_model("gpt2-untied"), change), collate(pairs, tokenizer)
    message = f"pair_geometry: no rule covers the use of {name}"
    with pytest.warns(UncoveredParameterWarning, match=message) as told:
        got = pair_geometry(model, batch)
    assert {warning.filename for warning in told} == {__file__}  # the caller's line, not one of ours
    close(got, naive.pair_geometry(model, batch))
    with pytest.warns(UncoveredParameterWarning, match=f"no rule covers the use of {name}"):
        both_ways(model, batch)
    for measure, some in ((pair_geometry, batch), (token_geometry, batch.select(0))):
        with pytest.raises(ValueError, match=f"no rule covers the use of {name}"):
            measure(model, some, strict=True)


def test_as_many_positions_as_rows(tiny_model, tokenizer, pairs):
    """With 2B = T a layout (T, 2B, d) has the same shape as (2B, T, d) and must not be taken for it."""
    change, _ = UNCOVERED["positions before examples"]
    batch = collate(pairs, tokenizer)
    columns = batch.input_ids.shape[1]
    several = batch.select([i % 3 for i in range(columns // 2)])
    pad = torch.zeros(len(several) * 2, len(several) * 2 - columns + 2, dtype=torch.long)
    square = PairBatch(
        torch.cat([several.input_ids, pad], 1)[:, : 2 * len(several)],
        torch.cat([several.attention_mask, pad], 1)[:, : 2 * len(several)],
        torch.cat([several.response_mask, pad.bool()], 1)[:, : 2 * len(several)],
        False,
        several.ids,
    )
    if columns % 2 == 0:
        assert square.input_ids.shape[0] == square.input_ids.shape[1]
    model = Around(tiny_model("gpt2-untied"), change)
    with pytest.warns(UncoveredParameterWarning, match=r"mix\.weight"):
        got = pair_geometry(model, square)
    close(got, naive.pair_geometry(model, square))


def test_a_module_used_twice_and_one_that_is_patched(tiny_model, tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    twice = Around(tiny_model("gpt2-tied"), lambda z, m: m.mix(torch.tanh(m.mix(z))))
    both_ways(twice, batch, strict=True)
    patched = Around(tiny_model("gpt2-tied"), lambda z, m: m.mix(z))
    patched.mix.forward = lambda z: 2.0 * linear(z, patched.mix.weight, patched.mix.bias)
    with pytest.warns(UncoveredParameterWarning, match=r"mix\.weight, mix\.bias"):
        got = pair_geometry(patched, batch)
    close(got, naive.pair_geometry(patched, batch))


def test_another_hook_on_the_output_changes_nothing(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    model.transformer.h[0].mlp.c_fc.register_forward_hook(lambda module, args, out: out * 3.0)
    both_ways(model, batch, strict=True)


class Positions(nn.Module):
    """A transformer-like model that looks its positions up once for the whole batch, and takes no mask."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.tokens = nn.Embedding(300, 8, padding_idx=5, dtype=torch.float64)
        self.places = nn.Embedding(64, 8, dtype=torch.float64)
        self.norm = nn.RMSNorm(8, dtype=torch.float64)
        self.out = nn.Linear(8, 300, bias=False, dtype=torch.float64)

    def forward(self, input_ids, attention_mask):
        where = torch.arange(input_ids.shape[1])
        where = where if self.how == "flat" else where[None]
        hidden = self.tokens(input_ids) + self.places(where)
        return self.out(self.norm(torch.tanh(hidden).cumsum(1)))


@pytest.mark.parametrize("how", ["flat", "row"])
def test_positions_that_the_whole_batch_shares(tokenizer, pairs, how):
    model, batch = Positions(how), collate(pairs, tokenizer)
    both_ways(model, batch, strict=True)
    # Only its own positions enter a response's gradient, not the sum over the batch.
    alone = pair_geometry(model, batch, lambda name: name == "places.weight")
    assert bool((alone.chosen_sq > 0).all())
    close(alone, naive.pair_geometry(model, batch, lambda name: name == "places.weight"))


def test_a_row_of_the_embedding_that_is_kept_fixed(tokenizer, pairs):
    model, batch = Positions("flat"), collate(pairs, tokenizer)
    used = int(batch.input_ids[0, 1])
    whole = pair_geometry(model, batch, lambda name: name == "tokens.weight")
    model.tokens.padding_idx = used
    less = pair_geometry(model, batch, lambda name: name == "tokens.weight")
    assert float(less.chosen_sq[0]) < float(whole.chosen_sq[0])
    close(less, naive.pair_geometry(model, batch, lambda name: name == "tokens.weight"))


def test_an_rms_norm_with_an_offset_has_a_rule_and_another_function_has_none(tokenizer, pairs):
    class OffsetRMSNorm(nn.Module):
        def __init__(self, power):
            super().__init__()
            self.weight = nn.Parameter(torch.full((8,), 0.3, dtype=torch.float64))
            self.eps, self.power = 1e-6, power

        def forward(self, x):
            return (
                (1.0 + self.weight) ** self.power * x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt()
            )

    class SquaredRMSNorm(OffsetRMSNorm):
        def forward(self, x):
            return super().forward(x)

    batch = collate(pairs, tokenizer)
    model = Positions("flat")
    model.norm = OffsetRMSNorm(1)
    both_ways(model, batch, strict=True)
    model.norm = SquaredRMSNorm(2)
    with pytest.warns(UncoveredParameterWarning, match=r"norm\.weight"):
        got = pair_geometry(model, batch)
    close(got, naive.pair_geometry(model, batch))


def test_what_entered_a_module_must_not_be_changed(tokenizer, pairs):
    class Careless(Positions):
        def forward(self, input_ids, attention_mask):
            hidden = torch.tanh(self.tokens(input_ids)).cumsum(1)
            logits = self.out(hidden)
            with torch.no_grad():
                hidden.mul_(2.0)
            return logits

    with pytest.raises((ValueError, RuntimeError), match=r"changed in place|modified by an inplace"):
        pair_geometry(
            Careless("flat"), collate(pairs, tokenizer), lambda name: "out" in name or "tokens" in name
        )


@pytest.mark.parametrize("shape", SHAPES)
def test_half_precision(tiny_model, tokenizer, pairs, shape):
    """bfloat16 keeps 8 bits: norms within a few percent of those of the same weights in float64."""
    batch = collate(pairs, tokenizer)
    half = tiny_model(shape, torch.bfloat16)
    wide = tiny_model(shape)
    wide.load_state_dict({k: v.double() for k, v in half.state_dict().items()})
    close(pair_geometry(half, batch, strict=True), pair_geometry(wide, batch), 0.1)
    close(
        token_geometry(half, batch.select(0), strict=True).pair(), pair_geometry(wide, batch.select(0)), 0.1
    )


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_autocast(tiny_model, tokenizer, pairs, shape):
    """Autocast casts a weight once and shares the copy: its two uses must still be told apart."""
    model, batch = tiny_model(shape, torch.float32), collate(pairs, tokenizer)
    exact = pair_geometry(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = pair_geometry(model, batch, strict=True)
        close(got, naive.pair_geometry(model, batch), 0.1)
        assert not torch.equal(got.inner, exact.inner)
        wrapped = Around(model.double(), lambda z, m: m.mix(z.double()) + linear(z.double(), m.mix.weight))
        with pytest.warns(UncoveredParameterWarning, match=r"mix\.weight"):
            pair_geometry(wrapped, batch)


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-tied"])
def test_gradient_checkpointing(tiny_model, tokenizer, pairs, shape):
    model, batch = tiny_model(shape), collate(pairs, tokenizer)
    expected = pair_geometry(model, batch)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    close(pair_geometry(model, batch, strict=True), expected)
    close(token_geometry(model, batch.select(1), strict=True).pair(), expected.select(1))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ValueError, match="use_reentrant=True hides the layers"):
        pair_geometry(model, batch)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_either_attention_and_logits_of_every_position(tokenizer, pairs, attention):
    config = transformers.GPT2Config(
        vocab_size=300, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation=attention).double().eval()
    batch = collate(pairs, tokenizer)
    both_ways(model, batch, strict=True)
    whole = Around(model, lambda z, m: z)  # takes no logits_to_keep
    close(pair_geometry(whole, batch, lambda name: "model." in name), pair_geometry(model, batch))


def test_the_head_alone_and_the_body_alone(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-untied"), collate(pairs, tokenizer)
    both_ways(model, batch, lambda name: name == "lm_head.weight", strict=True)
    both_ways(model, batch, lambda name: name != "lm_head.weight", strict=True)
    names = set(select_parameters(model))
    parts = [pair_geometry(model, batch, lambda name, n=n: name == n) for n in names]
    total = PairGeometry(
        sum(p.chosen_sq for p in parts), sum(p.rejected_sq for p in parts), sum(p.inner for p in parts)
    )
    close(total, pair_geometry(model, batch))
