"""LD-DPO and TDPO: against DPO, executed TRL, sums written out by hand, and the forces derived for them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from model_shapes import SHAPES

from entanglement.logps import PairLogps, TokenLogps, pair_logps, response_logits, token_logps
from entanglement.losses import get_loss, list_losses
from entanglement.losses.token_level import ld_dpo, ld_logps, logps_and_kl, position_kl, sequential_kl, tdpo
from entanglement.pairs import collate

B, T = 6, 9  # pairs, positions after the first
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def response_masks(lengths, side, draw):
    """(2B, T) masks of contiguous responses that end at, or somewhere before, the last column."""
    room = T - lengths
    ends = (
        T - (room * torch.rand(2 * B, generator=draw)).long() if side == "right" else torch.full((2 * B,), T)
    )
    column = torch.arange(T)[None, :]
    return (column < ends[:, None]) & (column >= (ends - lengths)[:, None])


class Tokens:
    """Random per-token log-probabilities of B pairs, policy and reference, as leaves."""

    def __init__(self, seed=0, *, dtype=torch.float64, lengths=None, side="right"):
        draw = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(1, T + 1, (2 * B,), generator=draw) if lengths is None else lengths
        self.mask = response_masks(self.lengths, side, draw)
        self.leaf, self.ref_leaf = (
            (self.mask * (-2.0 * torch.rand(2 * B, T, generator=draw) - 0.05)).to(dtype).requires_grad_()
            for _ in range(2)
        )

    def policy(self):
        return TokenLogps(self.leaf[:B], self.leaf[B:], self.mask[:B], self.mask[B:])

    def reference(self):
        return TokenLogps(self.ref_leaf[:B], self.ref_leaf[B:], self.mask[:B], self.mask[B:])

    def sums(self):
        values = [*self.policy().sums(), *self.reference().sums()]
        return PairLogps(*values, self.lengths[:B], self.lengths[B:])


def unequal():
    """Lengths with the longer response on either side, and once on none."""
    return torch.tensor([2, 7, 5, 1, 9, 3, 6, 4, 5, 8, 1, 2])


# LD-DPO


@pytest.mark.parametrize("side", ["left", "right"])
def test_ld_dpo_at_alpha_one_is_dpo(side):
    for seed in range(5):
        tokens = Tokens(seed, side=side)
        ours = ld_dpo(tokens.policy(), tokens.reference(), beta=0.3, alpha=1.0)
        theirs = get_loss("dpo", beta=0.3)(tokens.sums())
        assert ours.shape == (B,)
        torch.testing.assert_close(ours, theirs, **EXACT)
        mine, others = (torch.autograd.grad(x.sum(), tokens.leaf)[0] for x in (ours, theirs))
        torch.testing.assert_close(mine * tokens.mask, others * tokens.mask, **EXACT)


def test_ld_dpo_of_equal_lengths_has_no_use_for_alpha():
    equal = Tokens(lengths=torch.tensor([1, 3, 5, 9, 2, 4] * 2))
    expected = get_loss("dpo")(equal.sums())
    for alpha in (0.0, 0.5, 1.0):
        torch.testing.assert_close(ld_dpo(equal.policy(), equal.reference(), alpha=alpha), expected, **EXACT)
    other = Tokens(lengths=unequal())
    tail = ld_dpo(other.policy(), other.reference(), alpha=0.0)
    differs = (tail - get_loss("dpo")(other.sums())).abs() > 1e-3
    assert differs.tolist() == (other.lengths[:B] != other.lengths[B:]).tolist()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_ld_dpo_by_hand(alpha, side):
    """Loss and gradient of each pair, its tokens taken one by one; the weighted gradients have r = 1."""
    beta, tokens = 0.7, Tokens(lengths=unequal(), side=side)
    losses = ld_dpo(tokens.policy(), tokens.reference(), beta=beta, alpha=alpha)
    (gradient,) = torch.autograd.grad(losses.sum(), tokens.leaf)
    for i in range(B):
        shared, margin, signed = min(tokens.lengths[i], tokens.lengths[i + B]), 0.0, []
        for row, sign in ((i, 1.0), (i + B, -1.0)):
            for k, t in enumerate(tokens.mask[row].nonzero().flatten().tolist()):
                weight = sign * (1.0 if k < shared else alpha)
                margin += weight * (tokens.leaf[row, t] - tokens.ref_leaf[row, t]).item()
                signed.append((row, t, weight))
        assert losses[i].item() == pytest.approx(math.log1p(math.exp(-beta * margin)), abs=1e-12)
        d = beta / (1 + math.exp(beta * margin))
        for row, t, weight in signed:
            assert gradient[row, t].item() == pytest.approx(-d * weight, abs=1e-12)
    assert bool((gradient[~tokens.mask] == 0).all())
    d_w, d_l = get_loss("dpo", beta=beta).weights(ld_logps(tokens.policy(), tokens.reference(), alpha=alpha))
    assert torch.equal(d_w, d_l)


def test_ld_dpo_sends_no_gradient_to_the_reference():
    tokens = Tokens()
    ld_dpo(tokens.policy(), tokens.reference()).sum().backward()
    assert tokens.ref_leaf.grad is None
    assert float(tokens.leaf.grad.abs().max()) > 1e-3


def test_ld_dpo_on_models_does_not_feel_padding(tiny_model, tokenizer, pairs):
    model, ref = tiny_model("gpt2-tied", seed=0), tiny_model("gpt2-tied", seed=1)
    found = []
    for side in ("left", "right"):
        batch = collate(pairs, tokenizer, padding_side=side)
        found.append(ld_dpo(token_logps(model, batch), token_logps(ref, batch)))
    torch.testing.assert_close(*found)


def trl_ld_dpo(tokens, *, beta, ld_alpha):
    """TRL's mean loss of a batch: its ``_compute_loss`` with stubs for both models and no constructor.

    Log-probabilities of a reference that TRL computes before training come as sums, and their weighting is
    another method. Here the reference runs inside the loss, which weighs its tokens there.
    """
    from trl.trainer.dpo_trainer import DPOTrainer

    trainer = DPOTrainer.__new__(DPOTrainer)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )

    def stub(values):
        zeros = torch.zeros(2 * B, T)
        outputs = SimpleNamespace(
            log_probs=values, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
        )
        return lambda **inputs: outputs

    policy = torch.nn.Module().eval()  # TRL only asks it what it is
    policy.is_gradient_checkpointing = False
    settings = {
        "beta": beta, "ld_alpha": ld_alpha, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl",
        "f_alpha_divergence_coef": 0.5, "aux_loss_enabled": False, "precompute_ref_logps": False,
        "ref_model": stub(tokens.ref_leaf), "use_weighting": False, "loss_types": ["sigmoid"],
        "loss_weights": [1.0], "model": policy,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None), "accelerator": accelerator,
        "_metrics": defaultdict(lambda: defaultdict(list)), "_total_train_tokens": 0, "_tp_size": 1,
    }  # fmt: skip
    for name, value in settings.items():
        setattr(trainer, name, value)
    inputs = {
        "input_ids": torch.zeros(2 * B, T + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * B, T + 1, dtype=torch.long),
        "completion_mask": torch.cat([torch.zeros(2 * B, 1, dtype=torch.bool), tokens.mask], dim=1).long(),
    }
    return trainer._compute_loss(stub(tokens.leaf), inputs, return_outputs=False)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("side", ["left", "right"])
def test_ld_dpo_against_trl(side, alpha, dtype, tolerance):
    """TRL computes in the dtype of the model's log-probabilities: float32 in practice."""
    for seed in range(3):
        tokens = Tokens(seed, dtype=dtype, side=side)
        ours = ld_dpo(tokens.policy(), tokens.reference(), beta=0.2, alpha=alpha).mean()
        theirs = trl_ld_dpo(tokens, beta=0.2, ld_alpha=alpha)
        assert ours.dtype == theirs.dtype == dtype
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
        mine, others = (torch.autograd.grad(x, tokens.leaf)[0] for x in (ours, theirs))
        assert float(others.abs().max()) > 1e-3
        torch.testing.assert_close(mine * tokens.mask, others * tokens.mask, rtol=0, atol=tolerance)
    if alpha != 1.0:  # TRL's loss does feel ld_alpha here
        assert float((trl_ld_dpo(tokens, beta=0.2, ld_alpha=None) - theirs).detach().abs()) > 1e-4


# Sequential divergence


def kl_by_hand(model, ref, batch):
    """(2B,) sums over response positions and vocabulary: one sequence at a time, no padding, no positions."""
    totals = []
    for ids, attention, response in zip(
        batch.input_ids, batch.attention_mask, batch.response_mask, strict=True
    ):
        tokens, is_response = ids[attention.bool()], response[attention.bool()]
        p, q = (m(input_ids=tokens[None]).logits[0].softmax(-1).tolist() for m in (ref, model))
        totals.append(
            sum(
                a * math.log(a / b)
                for t in range(1, len(tokens))
                if is_response[t]
                for a, b in zip(p[t - 1], q[t - 1], strict=True)
            )
        )
    return torch.tensor(totals, dtype=torch.float64)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sequential_kl_against_a_loop(tiny_model, tokenizer, pairs, shape, side):
    model, ref = tiny_model(shape, seed=0), tiny_model(shape, seed=1)
    batch = collate(pairs, tokenizer, append_eos=True, padding_side=side)
    chosen, rejected = sequential_kl(model, batch, ref)
    assert chosen.shape == rejected.shape == (len(pairs),)
    expected = kl_by_hand(model, ref, batch)
    assert float(expected.min()) > 1e-2
    torch.testing.assert_close(torch.cat([chosen, rejected]).detach(), expected, rtol=1e-9, atol=1e-12)


def test_sequential_kl_of_a_model_from_itself(tiny_model, tokenizer, pairs):
    model, ref = tiny_model("gpt2-tied"), tiny_model("gpt2-tied")
    batch = collate(pairs, tokenizer)
    total = torch.cat(sequential_kl(model, batch, ref))
    assert bool((total == 0).all())
    for gradient in torch.autograd.grad(total.sum(), list(model.parameters())):
        assert float(gradient.abs().max()) < 1e-12
    assert all(p.grad is None and p.requires_grad for p in ref.parameters())
    other = torch.cat(sequential_kl(model, batch, tiny_model("gpt2-tied", seed=1))).sum()
    assert max(float(g.abs().max()) for g in torch.autograd.grad(other, list(model.parameters()))) > 1e-2


def test_logps_and_kl_are_the_two_of_them(tiny_model, tokenizer, pairs):
    model, ref = tiny_model("llama-untied", seed=0), tiny_model("llama-untied", seed=1)
    batch = collate(pairs, tokenizer)
    logps, *kl = logps_and_kl(model, batch, ref)
    expected = pair_logps(model, batch, ref)
    for name in vars(expected):
        assert torch.equal(getattr(logps, name), getattr(expected, name)), name
    assert not logps.ref_chosen.requires_grad
    for a, b in zip(kl, sequential_kl(model, batch, ref), strict=True):
        assert torch.equal(a, b)


def test_sequential_kl_of_half_precision_is_float32(tiny_model, tokenizer, pairs):
    batch = collate(pairs, tokenizer)
    exact = torch.cat(sequential_kl(tiny_model("gpt2-tied"), batch, tiny_model("gpt2-tied", seed=1)))
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.3)):
        models = (tiny_model("gpt2-tied", dtype, seed=seed) for seed in (0, 1))
        model, ref = models
        values = torch.cat(sequential_kl(model, batch, ref))
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, exact.float(), atol=tolerance, rtol=tolerance)


# TDPO


class FreeLogits(torch.nn.Module):
    """A model whose logits are its parameters: what a loss does to them is its force."""

    def __init__(self, shape, seed):
        super().__init__()
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.values = torch.nn.Parameter(values)

    def forward(self, input_ids, attention_mask, position_ids):
        return self.values


@pytest.fixture(params=["left", "right"])
def free(request, tokenizer, pairs):
    """A batch, free policy and reference logits for it, and each response token's (row, position, id)."""
    batch = collate(pairs, tokenizer, append_eos=True, padding_side=request.param)
    shape = (*batch.input_ids.shape, 300)
    places = [(row, t - 1, int(batch.input_ids[row, t])) for row, t in batch.response_mask.nonzero().tolist()]
    return SimpleNamespace(
        batch=batch, policy=FreeLogits(shape, 0), ref=FreeLogits(shape, 1), places=places, n=len(pairs)
    )


def test_position_kl_sends_no_gradient_to_the_reference(free):
    batch = free.batch
    inputs = batch.input_ids, batch.attention_mask, batch.position_ids, batch.response_mask
    values = position_kl(response_logits(free.policy, *inputs), response_logits(free.ref, *inputs))
    assert bool((values[~batch.response_mask] == 0).all())
    assert float(values.detach()[batch.response_mask].min()) > 0
    values.sum().backward()
    assert free.ref.values.grad is None
    assert float(free.policy.values.grad.abs().max()) > 1e-3


CASES = [(1, 1.0), (2, 0.0), (2, 0.5), (2, 1.0), (2, 1.7)]


@pytest.mark.parametrize(("version", "alpha"), CASES)
def test_tdpo_logit_force(free, version, alpha):
    """−∂L/∂z of every position: the derived force, and nothing outside the responses."""
    beta = 0.4
    logps, k_w, k_l = logps_and_kl(free.policy, free.batch, free.ref)
    losses = tdpo(logps, k_w, k_l, beta=beta, alpha=alpha, version=version)
    (gradient,) = torch.autograd.grad(losses.sum(), free.policy.values)
    u = (logps.delta - alpha * (k_l - k_w)).detach()
    torch.testing.assert_close(losses, torch.log1p(torch.exp(-beta * u)), **EXACT)
    d = beta * torch.sigmoid(-beta * u)
    assert float(d.min()) > 1e-3
    p, p_ref = (m.values.detach().softmax(-1) for m in (free.policy, free.ref))
    expected = torch.zeros_like(gradient)
    for row, slot, y in free.places:
        e_y = torch.nn.functional.one_hot(torch.tensor(y), p.shape[-1])
        if row >= free.n:
            center = (1 - alpha) * p[row, slot] + alpha * p_ref[row, slot]
            expected[row, slot] = -d[row - free.n] * (e_y - center)
        else:
            center = p_ref[row, slot] if version == 1 else p[row, slot]
            expected[row, slot] = d[row] * (e_y - center)
    torch.testing.assert_close(-gradient, expected, **EXACT)
    assert free.ref.values.grad is None


def test_tdpo_without_divergences_is_dpo(free):
    logps, k_w, k_l = logps_and_kl(free.policy, free.batch, free.ref)
    torch.testing.assert_close(tdpo(logps, k_w, k_l, alpha=0.0), get_loss("dpo")(logps), **EXACT)


@pytest.mark.parametrize("version", [1, 2])
def test_tdpo_starts_as_dpo(free, version):
    """At π = π_ref the value is log 2, and the force is DPO's in both versions."""
    free.ref.load_state_dict(free.policy.state_dict())
    logps, k_w, k_l = logps_and_kl(free.policy, free.batch, free.ref)
    ours, theirs = tdpo(logps, k_w, k_l, version=version), get_loss("dpo")(logps)
    torch.testing.assert_close(ours, torch.full_like(ours, math.log(2)), **EXACT)
    forces = [torch.autograd.grad(x.sum(), free.policy.values, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*forces, **EXACT)


def test_tdpo_defaults(free):
    """α is 1 for TDPO1 and 0.5 for TDPO2; at α = 1 the two have one value."""
    inputs = logps_and_kl(free.policy, free.batch, free.ref)
    one, two = tdpo(*inputs, version=1), tdpo(*inputs)
    assert torch.equal(one, tdpo(*inputs, alpha=1.0, version=2))
    assert torch.equal(two, tdpo(*inputs, beta=0.1, alpha=0.5, version=2))
    assert float((one - two).detach().abs().min()) > 1e-6


# Refusals, and the registry


def test_they_are_no_rows_of_the_registry():
    assert not {"ld_dpo", "tdpo", "tdpo1", "tdpo2"} & set(list_losses())


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan, math.inf, True, None])
def test_ld_dpo_refuses_alpha(alpha):
    tokens = Tokens()
    for call in (ld_dpo, ld_logps):
        with pytest.raises(ValueError, match=rf"^alpha={alpha}; expected a number in \[0, 1\]\.$"):
            call(tokens.policy(), tokens.reference(), alpha=alpha)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf, True])
def test_beta_is_refused(beta):
    tokens = Tokens()
    k = torch.zeros(B, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"^beta={beta}; expected a number in \(0, inf\)\.$"):
        ld_dpo(tokens.policy(), tokens.reference(), beta=beta)
    with pytest.raises(ValueError, match=rf"^beta={beta}; expected a number in \(0, inf\)\.$"):
        tdpo(tokens.sums(), k, k, beta=beta)


def test_ld_dpo_refuses_other_pairs_and_empty_responses():
    tokens = Tokens(lengths=unequal())
    for side in ("chosen", "rejected"):
        name = f"{side}_mask"
        mask = getattr(tokens.policy(), name).clone()
        mask[0] = False
        other = replace(tokens.reference(), **{name: mask})
        with pytest.raises(ValueError, match=f"^ld_logps: {name} of policy and reference differ"):
            ld_dpo(tokens.policy(), other)
        with pytest.raises(ValueError, match=f"^ld_logps: a {side} response has no tokens"):
            ld_dpo(replace(tokens.policy(), **{name: mask}), other)


def test_tdpo_refuses():
    logps, k = Tokens().sums(), torch.zeros(B, dtype=torch.float64)
    for version in (0, 3, True, "2"):
        with pytest.raises(ValueError, match=rf"^version={version!r}; expected 1 or 2\.$"):
            tdpo(logps, k, k, version=version)
    for alpha in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"^alpha={alpha}; expected a number in \[0, inf\), or None\.$"):
            tdpo(logps, k, k, alpha=alpha)
    with pytest.raises(ValueError, match=r"^tdpo: alpha=0\.5; expected 1 with version=1"):
        tdpo(logps, k, k, alpha=0.5, version=1)
    with pytest.raises(ValueError, match=rf"^tdpo: chosen_kl is \({B}, 1\); expected \({B},\)"):
        tdpo(logps, k[:, None], k)
    with pytest.raises(ValueError, match=r"^tdpo: rejected_kl is \(1,\); expected"):
        tdpo(logps, k, k[:1])
    with pytest.raises(ValueError, match="ref_chosen is None"):
        tdpo(PairLogps(logps.chosen, logps.rejected), k, k)


def test_sequential_kl_refuses(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with pytest.raises(
        ValueError, match=r"^position_kl: vocabularies of 300 \(policy\) and 310 \(reference\)"
    ):
        sequential_kl(model, batch, tiny_model("gpt2-tied", vocab=310))
    empty = batch.response_mask.clone()
    empty[0] = False
    with pytest.raises(ValueError, match=r"^logps_and_kl: the chosen response of film is empty"):
        sequential_kl(model, replace(batch, response_mask=empty), model)
    inputs = batch.input_ids, batch.attention_mask, batch.position_ids
    whole = response_logits(model, *inputs, batch.response_mask)
    with pytest.raises(
        ValueError, match=r"^position_kl: policy and reference differ in their response tokens"
    ):
        position_kl(whole, response_logits(model, *inputs, empty))
