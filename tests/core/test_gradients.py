"""Gradient geometry against plain backward passes written here, on every architecture, tied and untied."""

import peft
import pytest
import torch
from model_shapes import SHAPES
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from entanglement.geometry import PairGeometry
from entanglement.gradients import (
    TokenGeometry,
    directional_change,
    flat_gradients,
    flatten,
    naive,
    pair_geometry,
    response_gradients,
    select_parameters,
    token_geometry,
    unflatten,
)
from entanglement.logps import pair_logps, response_logps, token_logps
from entanglement.losses import get_loss
from entanglement.pairs import PairBatch, collate


def plain_gradient(model, scalar, wanted=lambda name: True):
    """One ordinary backward pass into .grad, as a float64 vector; a tied weight is one parameter."""
    model.zero_grad()
    scalar.backward(retain_graph=True)
    parts = [
        torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1)
        for name, p in model.named_parameters()
        if wanted(name)
    ]
    vector = torch.cat([part.double() for part in parts])
    model.zero_grad()
    return vector


def plain_geometry(model, batch, wanted=lambda name: True):
    """a², b², c from one padded forward over the whole batch."""
    chosen, rejected = response_logps(model, batch)
    g_w = torch.stack([plain_gradient(model, f, wanted) for f in chosen])
    g_l = torch.stack([plain_gradient(model, f, wanted) for f in rejected])
    return PairGeometry.from_vectors(g_w, g_l)


def close(mine, theirs, tolerance):
    scale = theirs.chosen_sq.sqrt() * theirs.rejected_sq.sqrt()
    torch.testing.assert_close(mine.chosen_sq, theirs.chosen_sq, rtol=tolerance, atol=0)
    torch.testing.assert_close(mine.rejected_sq, theirs.rejected_sq, rtol=tolerance, atol=0)
    assert bool(((mine.inner - theirs.inner).abs() <= tolerance * scale).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_pair_geometry(tiny_model, tokenizer, pairs, shape, side, dtype):
    model = tiny_model(shape, dtype)
    batch = collate(pairs, tokenizer, append_eos=True, padding_side=side)
    got = pair_geometry(model, batch)
    assert got.ids == batch.ids and got.inner.dtype == torch.float64
    close(got, plain_geometry(model, batch), 1e-9 if dtype == torch.float64 else 1e-4)
    if dtype == torch.float32:
        close(got, pair_geometry(model.double(), batch), 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_token_geometry(tiny_model, tokenizer, pairs, shape):
    model = tiny_model(shape)
    batch = collate(pairs, tokenizer, padding_side="left").select(0)
    got = token_geometry(model, batch)
    tokens = token_logps(model, batch)
    values = torch.cat([tokens.chosen[tokens.chosen_mask], tokens.rejected[tokens.rejected_mask]])
    gradients = torch.stack([plain_gradient(model, value) for value in values])
    expected = gradients @ gradients.T
    torch.testing.assert_close(got.gram, expected, rtol=1e-9, atol=1e-9 * float(expected.diagonal().max()))
    torch.testing.assert_close(got.logps, values.detach())
    n_w, n_l = int(batch.chosen_len), int(batch.rejected_len)
    assert (got.n_chosen, got.n_rejected) == (n_w, n_l)
    assert (
        got.token_ids.tolist()
        == torch.cat([batch.input_ids[row][batch.response_mask[row]] for row in (0, 1)]).tolist()
    )
    starts = [int(batch.attention_mask[row].sum() - batch.response_mask[row].sum()) for row in (0, 1)]
    assert got.positions.tolist() == [*range(starts[0], starts[0] + n_w), *range(starts[1], starts[1] + n_l)]
    assert got.offsets.tolist() == [*range(n_w), *range(n_l)]
    assert got.side == ["chosen"] * n_w + ["rejected"] * n_l
    close(got.pair(), pair_geometry(model, batch), 1e-9)


def test_token_blocks_and_cosines(tiny_model, tokenizer, pairs):
    got = token_geometry(tiny_model("gpt2-tied"), collate(pairs, tokenizer).select(2))
    n = got.n_chosen
    assert torch.equal(torch.cat([got.chosen, got.cross], dim=1), got.gram[:n])
    assert torch.equal(torch.cat([got.cross.T, got.rejected], dim=1), got.gram[n:])
    torch.testing.assert_close(got.cosine.diagonal(), torch.ones(len(got.gram), dtype=torch.float64))
    assert torch.equal(got.cross_cosine, got.cosine[:n, n:])
    assert float(got.cross_cosine[0, 0]) == pytest.approx(
        float(got.gram[0, n] / (got.gram[0, 0] * got.gram[n, n]).sqrt())
    )


def test_a_zero_token_gradient_has_no_cosine():
    gram = torch.tensor([[4.0, 0.0, 2.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]])
    got = TokenGeometry(gram, torch.zeros(3), torch.zeros(3, dtype=torch.long), torch.arange(3), 2)
    assert got.cosine.isnan().tolist() == [[False, True, False], [True, True, True], [False, True, False]]
    assert got.cosine[0, 2] == 1.0
    with pytest.raises(ValueError, match="n_chosen=3"):
        TokenGeometry(gram, torch.zeros(3), torch.zeros(3, dtype=torch.long), torch.arange(3), 3)
    with pytest.raises(ValueError, match="gram is"):
        TokenGeometry(gram, torch.zeros(2), torch.zeros(2, dtype=torch.long), torch.arange(2), 1)


def test_groups_of_parameters_change_nothing(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer).select(0)
    torch.testing.assert_close(
        naive.token_geometry(model, batch, budget=1).gram, naive.token_geometry(model, batch).gram
    )


# --- which parameters ---------------------------------------------------------------------------------------


def test_selections(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-untied"), collate(pairs, tokenizer)
    whole = pair_geometry(model, batch)
    for name, p in model.named_parameters():
        p.requires_grad_("mlp" in name)
    close(pair_geometry(model, batch), whole, 1e-12)  # "all" includes what is frozen
    mlp = pair_geometry(model, batch, "trainable")
    close(pair_geometry(model, batch, lambda name: "mlp" in name), mlp, 1e-12)
    rest = pair_geometry(model, batch, lambda name: "mlp" not in name)
    torch.testing.assert_close(mlp.inner + rest.inner, whole.inner)
    for p in model.parameters():
        p.requires_grad_(True)
    close(mlp, plain_geometry(model, batch, lambda name: "mlp" in name), 1e-9)
    token = token_geometry(model, batch.select(0), lambda name: "mlp" in name)
    close(token.pair(), mlp.select(0), 1e-9)


def test_a_tied_weight_is_one_parameter_under_either_name(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    assert model.lm_head.weight is model.transformer.wte.weight
    by_first = pair_geometry(model, batch, lambda name: name == "transformer.wte.weight")
    by_second = pair_geometry(model, batch, lambda name: name == "lm_head.weight")
    close(by_first, by_second, 1e-12)
    close(by_first, plain_geometry(model, batch, lambda name: name == "transformer.wte.weight"), 1e-9)
    assert "lm_head.weight" not in select_parameters(model)
    # The cross terms between the two uses are there: the parts measured apart on an untied copy don't add up
    # to it.
    untied = tiny_model("gpt2-untied")
    untied.load_state_dict(model.state_dict())
    apart = [pair_geometry(untied, batch, lambda name, n=n: n in name).chosen_sq for n in ("wte", "lm_head")]
    assert bool(((apart[0] + apart[1] - by_first.chosen_sq).abs() > 1e-3 * by_first.chosen_sq).all())


def test_selection_errors(tiny_model):
    model = tiny_model("gpt2-tied")
    with pytest.raises(ValueError, match="parameters='some'; expected 'all' or 'trainable', or a function"):
        select_parameters(model, "some")
    with pytest.raises(ValueError, match="selects none"):
        select_parameters(model, lambda name: False)
    model.register_parameter(
        "count", torch.nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    )
    with pytest.raises(ValueError, match=r"parameter count is torch\.int8"):
        select_parameters(model, "all")


class Wrapped(torch.nn.Module):
    """A model with an extra parameter that is unused, or used without gradient."""

    def __init__(self, model, how):
        super().__init__()
        self.model, self.how = model, how
        self.extra = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, input_ids, attention_mask, position_ids=None):
        logits = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids).logits
        return logits * self.extra.detach() if self.how == "detached" else logits


def test_unused_is_zero_and_detached_is_refused(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    plain = pair_geometry(model, batch)
    close(pair_geometry(Wrapped(model, "unused"), batch), plain, 1e-12)
    close(token_geometry(Wrapped(model, "unused"), batch.select(1)).pair(), plain.select(1), 1e-9)
    only = pair_geometry(Wrapped(model, "unused"), batch, lambda name: name == "extra")
    assert only.chosen_sq.tolist() == [0.0] * 3 and bool(only.cosine.isnan().all())
    for measure, some in ((pair_geometry, batch), (token_geometry, batch.select(0))):
        for parameters in ("all", lambda name: name == "extra"):
            with pytest.raises(
                ValueError, match="parameter extra is used in the forward pass but gets no gradient"
            ):
                measure(Wrapped(model, "detached"), some, parameters)


# --- the model is left alone, or refused --------------------------------------------------------------------


def snapshot(model):
    return [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()]


def unchanged(model, before):
    for p, (flag, grad) in zip(model.parameters(), before, strict=True):
        assert p.requires_grad == flag
        assert (p.grad is None) == (grad is None) and (grad is None or torch.equal(p.grad, grad))


def test_the_model_is_left_as_it_was(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-untied"), collate(pairs, tokenizer)
    for i, p in enumerate(model.parameters()):
        p.requires_grad_(i % 2 == 0)
        if i % 3 == 0:
            p.grad = torch.full_like(p, 7.0)
    before = snapshot(model)
    for run in (
        lambda: pair_geometry(model, batch),
        lambda: pair_geometry(model, batch, "trainable"),
        lambda: token_geometry(model, batch.select(0)),
        lambda: flat_gradients(model, batch),
        lambda: directional_change(model, batch, {"lm_head.weight": torch.ones_like(model.lm_head.weight)}),
    ):
        run()
        unchanged(model, before)
        assert model.training is False
    gradients = response_gradients(model, batch)
    next(gradients)
    unchanged(model, before)  # even between two pairs
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        pair_geometry(model, batch)
    unchanged(model, before)  # and after a refusal


def test_grad_mode_of_the_caller_does_not_matter(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-tied"), collate(pairs, tokenizer)
    expected = pair_geometry(model, batch)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            close(pair_geometry(model, batch), expected, 1e-12)
            assert torch.is_grad_enabled() is False


@pytest.mark.parametrize("measure", [pair_geometry, token_geometry])
def test_active_dropout_is_refused_by_name(tiny_model, tokenizer, pairs, measure):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer).select(0)
    model.train()
    with pytest.raises(
        ValueError, match=r"transformer\.drop \(Dropout\) drops out at random; call model\.eval\(\)"
    ):
        measure(model, batch)
    assert model.training is True
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    measure(model, batch)  # training mode without randomness is fine
    llama = tiny_model("llama-tied")
    llama.train()
    measure(llama, batch)
    llama.model.layers[1].self_attn.attention_dropout = 0.1
    with pytest.raises(ValueError, match=r"model\.layers\.1\.self_attn .*drops out"):
        measure(llama, batch)


def test_batch_normalization_in_training_is_refused(tiny_model, tokenizer, pairs):
    model, batch = Wrapped(tiny_model("gpt2-tied"), "unused"), collate(pairs, tokenizer)
    model.norm = torch.nn.BatchNorm1d(3)
    model.norm.train()
    with pytest.raises(ValueError, match="norm normalizes over the batch"):
        pair_geometry(model, batch)


def test_refusals_name_the_pair(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    cut = batch.response_mask.clone()
    cut[4] = False
    broken = PairBatch(batch.input_ids, batch.attention_mask, cut, False, batch.ids)
    with pytest.raises(ValueError, match="rejected response of empty prompt is empty"):
        pair_geometry(model, broken)
    with pytest.raises(ValueError, match="got a batch of 3 pairs; expected one"):
        token_geometry(model, batch)
    # A row of the embedding that only one response of the last pair uses.
    only = set(batch.input_ids[2].tolist()) - set(batch.input_ids[[0, 1, 3, 4, 5]].flatten().tolist())
    untied = tiny_model("gpt2-untied")
    with torch.no_grad():
        untied.transformer.wte.weight[only.pop()] = float("inf")
    with pytest.raises(ValueError, match="log-probability of the chosen response of day is not finite"):
        pair_geometry(untied, batch)
    with pytest.raises(ValueError, match="log-probability of the chosen response of day is not finite"):
        token_geometry(untied, batch.select(2))


# --- vectors and directions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_directional_change_against_finite_differences(tiny_model, tokenizer, pairs, shape, side):
    model = tiny_model(shape)
    batch = collate(pairs, tokenizer, padding_side=side)
    parameters = list(model.parameters())
    start = parameters_to_vector(parameters).detach().clone()
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h, values = 1e-6, []
    for sign in (1, -1):
        vector_to_parameters(start + sign * h * direction, parameters)
        with torch.no_grad():
            values.append(response_logps(model, batch))
    vector_to_parameters(start, parameters)
    expected = [(up - down) / (2 * h) for up, down in zip(*values, strict=True)]
    got = directional_change(model, batch, direction)
    g_w, g_l = flat_gradients(model, batch)
    for mine, by_gradient, by_hand in zip(got, (g_w @ direction, g_l @ direction), expected, strict=True):
        torch.testing.assert_close(mine, by_hand, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine, by_gradient, rtol=1e-9, atol=1e-9)


def test_directional_change_falls_back_where_forward_mode_ends(tiny_model, tokenizer, pairs):
    class NoForwardMode(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, g):
            return g

    class Opaque(Wrapped):
        def forward(self, input_ids, attention_mask, position_ids=None):
            return NoForwardMode.apply(super().forward(input_ids, attention_mask, position_ids))

    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    delta = {"transformer.wte.weight": torch.randn_like(model.transformer.wte.weight)}
    plain = directional_change(model, batch, delta)
    opaque = directional_change(Opaque(model, "unused"), batch, {f"model.{k}": v for k, v in delta.items()})
    for a, b in zip(plain, opaque, strict=True):
        torch.testing.assert_close(a, b)


def test_flat_gradients_agree_with_geometry(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-tied", torch.float32), collate(pairs, tokenizer)
    g_w, g_l = flat_gradients(model, batch)
    assert g_w.dtype == torch.float32 and len(g_w) == len(g_l) == 3
    close(PairGeometry.from_vectors(g_w, g_l), naive.pair_geometry(model, batch), 1e-12)
    named = unflatten(model, g_w[0])
    assert torch.equal(flatten(model, named), g_w[0])
    assert torch.equal(flatten(model, {}), torch.zeros_like(g_w[0]))


def test_direction_errors(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with pytest.raises(ValueError, match=r"direction\['nothing'\]"):
        directional_change(model, batch, {"nothing": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"direction\['transformer.wpe.weight'\] has shape \(1,\)"):
        directional_change(model, batch, {"transformer.wpe.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"direction is \(3,\); expected"):
        directional_change(model, batch, torch.zeros(3))


# --- the whole chain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-untied"])
def test_geometry_predicts_what_a_dpo_step_does(tiny_model, tokenizer, pairs, shape):
    """Loss, weights, geometry and sign conventions together: a real step on one pair moves as predicted."""
    model = tiny_model(shape)
    whole = collate(pairs, tokenizer)
    for i in range(len(whole)):
        batch, lr = whole.select(i), 1e-6
        reference = tuple(x.detach() - 1.0 for x in response_logps(model, batch))
        loss = get_loss("dpo", beta=0.5)
        before = pair_logps(model, batch, reference)
        predicted = pair_geometry(model, batch).predicted_change(lr, *loss.weights(before))
        gradients = torch.autograd.grad(loss(before).sum(), list(model.parameters()))
        start = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= lr * g
            after = response_logps(model, batch)
            for p, value in zip(model.parameters(), start, strict=True):
                p.copy_(value)
        for first_order, new, old in zip(predicted, after, (before.chosen, before.rejected), strict=True):
            assert (new - old).item() == pytest.approx(first_order.item(), rel=1e-2)
            assert abs(first_order.item()) > 1e-7


@pytest.mark.parametrize("side", ["left", "right"])
def test_lora_is_measured_on_what_it_trains(tiny_model, tokenizer, pairs, side):
    """The adapter hides forward's arguments; positions must reach the model all the same."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("gpt2-tied"), config).double().eval()
    batch = collate(pairs, tokenizer, padding_side=side)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    got = pair_geometry(model, batch, "trainable")
    assert set(select_parameters(model, "trainable")) == trained and all("lora" in name for name in trained)
    right = collate(pairs, tokenizer, padding_side="right")
    close(got, plain_geometry(model, right, lambda name: name in trained), 1e-9)
    close(token_geometry(model, batch.select(2), "trainable").pair(), got.select(2), 1e-9)
    whole = pair_geometry(model, batch)
    assert bool((whole.chosen_sq > got.chosen_sq).all())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
