"""Every kind of layer against autograd, example by example; and a language model with convolutions inside."""

import warnings
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from entanglement.geometry import PairGeometry
from entanglement.gradients import (
    GeometryMonitor,
    UncoveredParameterWarning,
    naive,
    pair_geometry,
    token_geometry,
)
from entanglement.gradients.layers import EXAMPLES, LAYERS, Layer, has_rule, layer_of, parameter_uses
from entanglement.gradients.layers.bias import Shift
from entanglement.gradients.layers.norms import Scale
from entanglement.gradients.tape import Tape, outputs_of
from entanglement.logps import response_logps
from entanglement.pairs import collate
from entanglement.updates import PairPass

ROWS, N = 4, 3  # rows (two pairs), examples a row
exactly = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


@pytest.fixture(autouse=True)
def _no_silence():
    """A parameter that no rule covers must be announced: elsewhere than expected, that is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncoveredParameterWarning)
        yield


def all_examples():
    torch.manual_seed(0)
    found = []
    for name, examples in EXAMPLES.items():
        for i, (module, x) in enumerate(examples()):
            if layer_of(module) is LAYERS[name]:
                found.append(pytest.param(module.double(), as_double(x), id=f"{name}-{i}"))
    return found


def as_double(x):
    return x.double() if x.is_floating_point() else x


def rows_of(x):
    """What enters for each row alone; ids that all rows share enter for each."""
    shared = not x.is_floating_point() and (x.ndim == 1 or x.shape[0] == 1)
    return [x if shared else x[i : i + 1] for i in range(ROWS)]


def values_of(outputs, n=N):
    """(n, R): n functions of each row of all outputs, with other coefficients at every number."""
    total = 0
    for number, out in enumerate(outputs):
        out = out if out.shape[0] == ROWS else out.expand(ROWS, *out.shape[-2:])
        flat = out.flatten(1)
        steps = torch.arange(1.0, n * ROWS * flat.shape[1] + 1, dtype=torch.float64)
        weights = torch.sin(steps * (number + 1.37)).view(n, *flat.shape)
        total = total + (torch.tanh(flat) * weights).sum(2)
    return total


def one_by_one(module, xs, n=N):
    """Name → gradients (n, R, p), from a forward pass for each row and a backward pass for each example."""
    found = {name: torch.zeros(n, ROWS, p.numel(), dtype=p.dtype) for name, p in module.named_parameters()}
    for row in range(ROWS):
        outputs = []
        for x in xs:
            out = module(rows_of(x)[row])
            out = out.unsqueeze(0) if out.ndim == 2 else out
            # In its place among zeros, so that it meets its own coefficients.
            places = [out if r == row else torch.zeros_like(out).detach() for r in range(ROWS)]
            outputs.append(torch.cat(places))
        values = values_of(outputs, n)
        for k in range(n):
            grads = torch.autograd.grad(values[k, row], list(module.parameters()), retain_graph=True)
            for (name, _), grad in zip(module.named_parameters(), grads, strict=True):
                found[name][k, row] = grad.flatten()
    return found


def gram(gradients):
    """(n, R, p) → (B, 2n, 2n)."""
    n, rows, p = gradients.shape
    sides = gradients.view(n, 2, rows // 2, p).permute(2, 1, 0, 3).flatten(1, 2)
    return sides @ sides.transpose(1, 2)


def by_tape(module, xs, name, n):
    """Inner products of one parameter's gradients, (B, 2n, 2n), read from a backward pass."""
    tape = Tape({name: dict(module.named_parameters())[name]}, ROWS)
    tape.examples = n
    with tape.recording(module):
        values = values_of([module(x) for x in xs], n)
    plan = tape.plan(values.sum())
    assert not plan.uncovered and not plan.missing
    grad = partial(torch.autograd.grad, values, outputs_of(plan.roots), retain_graph=True)
    if n == 1:
        grad(torch.ones_like(values))
    else:
        each = torch.eye(n, dtype=values.dtype)[:, :, None].expand(n, n, ROWS)
        torch.vmap(lambda weights: grad(weights))(each)
    assert not tape.open
    return tape.gram


def check(module, *xs):
    for n in (1, N):
        expected = one_by_one(module, xs, n)
        for name, found in expected.items():
            exactly(by_tape(module, xs, name, n), gram(found))
    if len(xs) > 1:
        return
    (x,) = xs
    layer = layer_of(module)
    output = module(x)
    entered = x.reshape(1, -1).expand(ROWS, -1) if layer.shared(x) else x
    out = output if output.shape[0] == ROWS else output.expand(ROWS, *output.shape[-2:])
    (delta,) = torch.autograd.grad(values_of([out], 1).sum(), out)
    expected = one_by_one(module, xs, 1)
    names = {id(p): name for name, p in module.named_parameters()}
    uses = parameter_uses(module, entered)
    assert {names[id(use.parameter)] for use in uses} == set(names.values())
    for use in uses:
        went_in, d = use.entered(torch.float64), use.positions(delta[None])[0]
        found = use.gradient(went_in, d)
        assert found.shape == (ROWS, *use.parameter.shape)
        exactly(found.flatten(1), expected[names[id(use.parameter)]][0])
        # Both sides of a pair read the same: rows 0 and 1 for chosen and rejected alike.
        half = None if went_in is None else went_in[: ROWS // 2]
        w, l = (use.gradient(half, part).flatten(1) for part in d.split(ROWS // 2))  # noqa: E741
        exactly(use.inner_of_shared(half, *d.split(ROWS // 2)), gram(torch.cat([w, l])[None]))


@pytest.mark.parametrize(("module", "x"), all_examples())
def test_a_kind_of_layer_agrees_with_one_backward_pass_an_example(module, x):
    check(module, x)


@pytest.mark.parametrize(("module", "x"), all_examples())
def test_a_layer_that_is_used_twice(module, x):
    other = x.flip(-1) if x.is_floating_point() else x.flip(0, -1) if x.ndim > 1 else x.flip(0)
    check(module, x, other.contiguous())


def test_every_kind_brings_examples():
    for name in LAYERS:
        modules = [module for module, _ in EXAMPLES[name]()]
        assert any(layer_of(module) is LAYERS[name] for module in modules), name
        assert all(has_rule(module) for module in modules), name


@st.composite
def convolutions(draw):
    number = st.integers(1, 3)
    dims, groups = draw(st.integers(1, 2)), draw(number)
    kernel, stride, dilation = ([draw(number) for _ in range(dims)] for _ in range(3))
    padding = draw(st.sampled_from(["valid", "same", "numbers"]))
    if padding == "same":
        stride = [1] * dims
    if padding == "numbers":
        padding = tuple(draw(st.integers(0, 2)) for _ in range(dims))
    shape = [draw(st.integers(0, 3)) + (k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    kind = (nn.Conv1d, nn.Conv2d)[dims - 1]
    c_in, c_out = groups * draw(number), groups * draw(number)
    torch.manual_seed(draw(st.integers(0, 5)))
    module = kind(
        c_in, c_out, tuple(kernel), tuple(stride), padding, tuple(dilation), groups, draw(st.booleans())
    ).double()
    return module, torch.randn(ROWS, c_in, *shape, dtype=torch.float64)


@given(convolutions())
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
def test_any_convolution(case):
    check(*case)


# --- what a rule does not cover -----------------------------------------------------------------------------


class Halved(nn.Conv1d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight * 0.5, bias)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2.0 * super().forward(x)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(3, 4, 2, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 4, 2, padding=1, padding_mode="reflect"),
        nn.ConvTranspose1d(3, 4, 2),
        nn.Conv3d(3, 4, 2),
        Halved(3, 4, 2),
        Doubled(3, 4),
        nn.Bilinear(3, 3, 4),
    ],
    ids=lambda module: type(module).__name__,
)
def test_another_function_has_no_rule(module):
    assert not has_rule(module)


def test_a_patched_instance_has_no_rule_and_a_subclass_that_only_adds_has():
    class Named(nn.Linear):
        """A linear map of another name."""

    assert has_rule(Named(3, 4))
    patched, patched_inside = nn.Linear(3, 4), nn.Conv1d(3, 4, 2)
    patched.forward = lambda x: x
    patched_inside._conv_forward = lambda x, weight, bias: x
    assert not has_rule(patched) and not has_rule(patched_inside)


def test_calls_that_a_rule_does_not_cover():
    ids = torch.tensor([[0, 1], [1, 2]])
    assert parameter_uses(nn.Embedding(4, 3, max_norm=1.0), ids) == []
    assert parameter_uses(nn.Embedding(4, 3, scale_grad_by_freq=True), ids) == []
    assert parameter_uses(nn.Conv2d(3, 4, 2), torch.randn(3, 5, 5)) == []  # no dimension of rows
    assert parameter_uses(nn.LayerNorm((2, 3)), torch.randn(4, 2, 3)) == []
    assert parameter_uses(Doubled(3, 4), torch.randn(4, 2, 3)) == []


def test_one_filter_in_two_divisions_of_the_channels_is_not_combined():
    torch.manual_seed(0)
    one, two = nn.Conv1d(3, 4, 2).double(), nn.Conv1d(6, 4, 2, groups=2).double()
    two.weight = one.weight
    both = nn.ModuleList([one, two])
    tape = Tape({"weight": one.weight}, ROWS)
    with tape.recording(both):
        x = torch.randn(ROWS, 6, 5, dtype=torch.float64)
        values = one(x[:, :3]).sum() + two(x).sum()
    assert tape.plan(values).uncovered == ["weight"]


# --- a language model with convolutions ---------------------------------------------------------------------


class CausalConvolutions(nn.Module):
    """Embedding, two causal convolutions (the second of each channel alone), and a head."""

    def __init__(self, tied=False, mode="zeros"):
        super().__init__()
        torch.manual_seed(0)
        self.tokens = nn.Embedding(300, 8)
        self.mix = nn.Conv1d(8, 8, 3, dilation=2)
        self.each = nn.Conv1d(8, 8, 2, groups=8, padding=1, padding_mode=mode)
        self.norm = nn.RMSNorm(8)
        self.out = nn.Linear(8, 300, bias=False)
        if tied:
            self.out.weight = self.tokens.weight
        self.double()

    def forward(self, input_ids, attention_mask, position_ids=None):
        mask = attention_mask[:, None].to(
            self.mix.weight.dtype
        )  # padding on the left counts as nothing, as before a sequence
        h = self.tokens(input_ids).transpose(1, 2) * mask
        h = h + torch.tanh(self.mix(functional.pad(h, (4, 0)))) * mask
        h = h + torch.tanh(self.each(h)[:, :, :-1]) * mask
        return self.out(self.norm(h.transpose(1, 2)))


def near(mine, theirs, tolerance=1e-10):
    scale = theirs.chosen_sq.sqrt() * theirs.rejected_sq.sqrt()
    torch.testing.assert_close(mine.chosen_sq, theirs.chosen_sq, rtol=tolerance, atol=0)
    torch.testing.assert_close(mine.rejected_sq, theirs.rejected_sq, rtol=tolerance, atol=0)
    assert bool(((mine.inner - theirs.inner).abs() <= tolerance * scale).all())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_with_convolutions(tokenizer, pairs, tied, side):
    model, batch = CausalConvolutions(tied), collate(pairs, tokenizer, padding_side=side)
    for some in ("all", lambda name: "mix" in name, lambda name: "each" in name):
        expected = naive.pair_geometry(model, batch, some)
        assert bool((expected.chosen_sq > 0).all())
        near(pair_geometry(model, batch, some, strict=True), expected)
        for i in range(len(batch)):
            fast = token_geometry(model, batch.select(i), some, strict=True)
            slow = naive.token_geometry(model, batch.select(i), some)
            atol = 1e-10 * float(slow.gram.diagonal().max())
            torch.testing.assert_close(fast.gram, slow.gram, rtol=1e-10, atol=atol)


def test_a_training_step_and_a_pass_in_two_halves_with_convolutions(tokenizer, pairs):
    model, batch = CausalConvolutions(), collate(pairs, tokenizer)
    expected = naive.pair_geometry(model, batch)
    w, l = torch.tensor([0.5, 1.0, 2.0]).double(), torch.tensor([-1.0, 0.3, 1.5]).double()  # noqa: E741
    with GeometryMonitor(model, strict=True) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        ((w * chosen).sum() + (l * rejected).sum()).backward()
        near(monitor.read().geometry, expected)
    halves = PairPass(model, batch)
    near(halves.geometry, expected)
    found = halves.gradient(w, l)
    for name, p in model.named_parameters():
        exactly(found[name], p.grad)
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    near(halves.geometry_in(ones), expected)


def test_a_convolution_padded_otherwise_is_announced_and_exact(tokenizer, pairs):
    # The first position is repeated before the sequence: padding after it changes nothing.
    model, batch = CausalConvolutions(mode="replicate"), collate(pairs, tokenizer)
    with pytest.warns(UncoveredParameterWarning, match=r"each\.weight, each\.bias"):
        got = pair_geometry(model, batch)
    near(got, naive.pair_geometry(model, batch))
    with pytest.raises(ValueError, match=r"no rule covers the use of each\.weight"):
        pair_geometry(model, batch, strict=True)


# --- a kind of one's own ------------------------------------------------------------------------------------


class Gate(nn.Module):
    """output = x ⊙ weight + bias."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8) + 0.5)
        self.bias = nn.Parameter(torch.rand(8))

    def forward(self, x):
        return x * self.weight + self.bias


class GateLayer(Layer):
    forwards = (Gate.forward,)

    def uses(self, module, x):
        return [Scale(module.weight, lambda: x), Shift(module.bias)]


def test_a_kind_of_layer_is_one_declaration(tokenizer, pairs, monkeypatch):
    model, batch = CausalConvolutions(), collate(pairs, tokenizer)
    model.norm = Gate().double()
    with pytest.warns(UncoveredParameterWarning, match=r"norm\.weight, norm\.bias"):
        slow = pair_geometry(model, batch)
    monkeypatch.setitem(LAYERS._things, "Gate", GateLayer())
    near(pair_geometry(model, batch, strict=True), slow)
    near(PairPass(model, batch).geometry, slow)
    check(Gate().double(), torch.randn(4, 5, 8, dtype=torch.float64))


# --- one weight in several uses -----------------------------------------------------------------------------


def test_one_embedding_with_two_fixed_rows_has_no_rule(tokenizer, pairs):
    class Twice(CausalConvolutions):
        def __init__(self):
            super().__init__()
            self.again = nn.Embedding(300, 8, padding_idx=7, dtype=torch.float64)
            self.again.weight = self.tokens.weight

        def forward(self, input_ids, attention_mask, position_ids=None):
            h = self.tokens(input_ids) + self.again(7 + input_ids % 2)
            return self.out(self.norm(torch.tanh(h)))

    model, batch = Twice(), collate(pairs, tokenizer)
    with pytest.warns(UncoveredParameterWarning, match=r"tokens\.weight"):
        got = pair_geometry(model, batch)
    near(got, naive.pair_geometry(model, batch))
    model.tokens.padding_idx = 7
    near(pair_geometry(model, batch, strict=True), naive.pair_geometry(model, batch))


def test_one_matrix_both_ways_round_has_no_rule(tokenizer, pairs):
    class BothWays(CausalConvolutions):
        def __init__(self):
            super().__init__()
            self.there, self.back = nn.Linear(8, 8, dtype=torch.float64), Conv1D(8, 8).double()
            self.back.weight = self.there.weight

        def forward(self, input_ids, attention_mask, position_ids=None):
            return self.out(self.back(torch.tanh(self.there(self.tokens(input_ids)))).cumsum(1))

    model, batch = BothWays(), collate(pairs, tokenizer)
    with pytest.warns(UncoveredParameterWarning, match=r"covers the use of there\.weight;"):
        got = pair_geometry(model, batch)
    near(got, naive.pair_geometry(model, batch))


def test_one_vector_that_scales_and_is_added(monkeypatch):
    monkeypatch.setitem(LAYERS._things, "Gate", GateLayer())
    gate = Gate().double()
    gate.bias = gate.weight
    x = torch.randn(ROWS, 5, 8, dtype=torch.float64)
    for n in (1, N):
        exactly(by_tape(gate, [x], "weight", n), gram(one_by_one(gate, [x], n)["weight"]))


def test_the_heads_bias_is_added_elsewhere_too(tokenizer, pairs):
    class Shared(CausalConvolutions):
        def __init__(self):
            super().__init__()
            self.up, self.down = (nn.Linear(*s, dtype=torch.float64) for s in ((8, 300), (300, 8)))
            self.out = nn.Linear(8, 300, dtype=torch.float64)
            self.up.bias = self.out.bias

        def forward(self, input_ids, attention_mask, position_ids=None):
            return self.out(torch.tanh(self.down(torch.tanh(self.up(self.tokens(input_ids))))).cumsum(1))

    model, batch = Shared(), collate(pairs, tokenizer)
    near(pair_geometry(model, batch, strict=True), naive.pair_geometry(model, batch))
    fast = token_geometry(model, batch.select(2), strict=True).gram
    exactly(fast, naive.token_geometry(model, batch.select(2)).gram)


def test_logits_that_come_from_a_norm(tokenizer, pairs):
    class EndsInNorm(CausalConvolutions):
        def __init__(self):
            super().__init__()
            self.last = nn.RMSNorm(300, dtype=torch.float64)

        def forward(self, input_ids, attention_mask, position_ids=None):
            return self.last(super().forward(input_ids, attention_mask))

    model, batch = EndsInNorm(), collate(pairs, tokenizer).select(0)
    exactly(token_geometry(model, batch, strict=True).gram, naive.token_geometry(model, batch).gram)


@pytest.mark.parametrize("how", ["bfloat16", "autocast"])
def test_convolutions_in_half_precision(tokenizer, pairs, how):
    model, batch = CausalConvolutions().float(), collate(pairs, tokenizer)
    exact = pair_geometry(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        half = model.bfloat16() if how == "bfloat16" else model
        near(pair_geometry(half, batch, strict=True), exact, 0.1)
        near(token_geometry(half, batch.select(2), strict=True).pair(), exact.select(2), 0.1)
        near(PairPass(half, batch).geometry, exact, 0.1)


def test_what_entered_a_layer_and_was_changed_is_refused_where_autograd_does_not_look(tokenizer, pairs):
    class Careless(CausalConvolutions):
        def forward(self, input_ids, attention_mask, position_ids=None):
            h = torch.tanh(self.tokens(input_ids))
            logits = self.out(h)
            with torch.no_grad():
                h.mul_(2.0)
            return logits

    model, batch = Careless(), collate(pairs, tokenizer)
    with pytest.raises(ValueError, match="out: what entered the module was changed in place"):
        pair_geometry(model, batch, lambda name: name == "out.weight")
    for name, p in model.named_parameters():
        p.requires_grad_(name == "out.weight")
    with pytest.raises(ValueError, match="out: what entered the module was changed in place"):
        PairPass(model, batch)


def test_geometries_of_single_parameters_add_up(tokenizer, pairs):
    model, batch = CausalConvolutions(), collate(pairs, tokenizer)
    parts = [pair_geometry(model, batch, lambda name, n=n: name == n) for n, _ in model.named_parameters()]
    total = PairGeometry(*(sum(getattr(p, k) for p in parts) for k in ("chosen_sq", "rejected_sq", "inner")))
    near(total, pair_geometry(model, batch))
