"""Our losses against TRL's executed code, on the same log-probabilities: value and gradient.

TRL computes its losses inside the trainers. The trainers are made without their constructors here, given the
few attributes that the computation reads, and a stub model that returns given per-token log-probabilities.
Where TRL computes something else than the loss's paper, the test says what, and the book lists it.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from entanglement.losses import PairLogps, get_loss

B, T = 6, 9  # pairs, positions after the first


@pytest.fixture(scope="module")
def trl():
    """Import TRL late: it takes seconds."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer
    from trl.trainer.dpo_trainer import DPOTrainer

    return SimpleNamespace(dpo=DPOTrainer, cpo=CPOTrainer, orpo=ORPOTrainer)


class Batch:
    """Random per-token log-probabilities of B pairs in float32, responses of different lengths."""

    def __init__(self, seed=0, lengths=None):
        draw = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(2, T + 1, (2 * B,), generator=draw) if lengths is None else lengths
        self.mask = torch.arange(T)[None, :] >= T - self.lengths[:, None]  # (2B, T)
        values = -2.0 * torch.rand(2 * B, T, generator=draw) - 0.05
        self.tokens = (values * self.mask).requires_grad_()
        self.ref = (-2.0 * torch.rand(2 * B, T, generator=draw) * self.mask).sum(1)

    def ours(self):
        sums = self.tokens.sum(1)
        return PairLogps(sums[:B], sums[B:], self.ref[:B], self.ref[B:], self.lengths[:B], self.lengths[B:])


def same(ours, theirs, batch):
    """The same mean loss and the same gradient to every token."""
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    both = (torch.autograd.grad(loss, batch.tokens, retain_graph=True)[0] for loss in (ours, theirs))
    mine, others = both
    assert float(others.abs().max()) > 1e-6
    torch.testing.assert_close(mine * batch.mask, others * batch.mask, rtol=1e-4, atol=1e-7)


def dpo_trainer(trl, loss_type, batch, **options):
    """TRL's mean loss of a batch."""
    trainer = trl.dpo.__new__(trl.dpo)
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    settings = {
        "beta": 0.1, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl", "ld_alpha": None,
        "f_alpha_divergence_coef": 0.5, "aux_loss_enabled": False, "precompute_ref_logps": True,
        "use_weighting": False, "loss_types": [loss_type], "loss_weights": [1.0],
        "model": SimpleNamespace(training=False), "args": SimpleNamespace(discopop_tau=0.05),
        "accelerator": accelerator, "_metrics": defaultdict(lambda: defaultdict(list)),
        "_total_train_tokens": 0, "_tp_size": 1,
    } | options  # fmt: skip
    for name, value in settings.items():
        setattr(trainer, name, value)
    completion = torch.cat([torch.zeros(2 * B, 1, dtype=torch.bool), batch.mask], dim=1).long()
    inputs = {
        "input_ids": torch.zeros(2 * B, T + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * B, T + 1, dtype=torch.long),
        "completion_mask": completion,
        "ref_chosen_logps": batch.ref[:B],
        "ref_rejected_logps": batch.ref[B:],
    }
    zeros = torch.zeros(2 * B, T)
    outputs = SimpleNamespace(
        log_probs=batch.tokens, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
    )
    return trainer._compute_loss(lambda **inputs: outputs, inputs, return_outputs=False)


DPO = [
    ("dpo", {}, "sigmoid", {}),
    ("robust", {"label_smoothing": 0.2}, "robust", {"label_smoothing": 0.2}),
    ("hinge", {"beta": 0.3}, "hinge", {"beta": 0.3}),
    ("ipo_norm", {}, "ipo", {}),
    ("exo", {"label_smoothing": 0.01}, "exo_pair", {"label_smoothing": 0.01}),
    ("discopop", {"beta": 0.05}, "discopop", {"beta": 0.05}),
    ("aot", {"beta": 0.1, "label_smoothing": 0.1}, "aot", {"label_smoothing": 0.1}),
    ("aot_unpaired", {"beta": 0.1, "label_smoothing": 0.1}, "aot_unpaired", {"label_smoothing": 0.1}),
    ("sigmoid_norm", {"beta": 0.1}, "sigmoid_norm", {}),
    ("apo_zero", {}, "apo_zero", {}),
    ("apo_down", {}, "apo_down", {}),
    ("bco", {"beta": 0.1}, "bco_pair", {}),
    ("nca", {"beta": 0.1}, "nca_pair", {}),
    ("sppo", {"beta": 0.1}, "sppo_hard", {}),
    ("fdpo_forward_kl", {}, "sigmoid", {"f_divergence_type": "forward_kl"}),
    ("fdpo_js", {}, "sigmoid", {"f_divergence_type": "js_divergence"}),
    ("fdpo_alpha", {"alpha": 0.4}, "sigmoid",
     {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "hyper", "loss_type", "options"), DPO, ids=[row[0] for row in DPO])
def test_dpo_trainer(trl, name, hyper, loss_type, options):
    for seed in range(3):
        batch = Batch(seed)
        same(
            get_loss(name, **hyper)(batch.ours()).mean(), dpo_trainer(trl, loss_type, batch, **options), batch
        )


def test_trl_ignores_label_smoothing_in_its_sigmoid_loss(trl):
    batch = Batch()
    theirs = dpo_trainer(trl, "sigmoid", batch, label_smoothing=0.3)
    same(get_loss("dpo")(batch.ours()).mean(), theirs, batch)
    assert abs(float(get_loss("cdpo", label_smoothing=0.3)(batch.ours()).mean() - theirs)) > 1e-3


def test_trl_ipo_is_the_one_by_token_means(trl):
    batch = Batch()
    assert float(get_loss("ipo")(batch.ours()).mean()) != pytest.approx(
        float(dpo_trainer(trl, "ipo", batch)), rel=0.05
    )


def test_trl_sft_is_one_mean_over_all_tokens_of_the_batch(trl):
    """Ours is a mean over pairs of token means: equal for equal lengths only."""
    equal = Batch(lengths=torch.full((2 * B,), 5))
    same(get_loss("sft")(equal.ours()).mean(), dpo_trainer(trl, "sft", equal), equal)
    batch = Batch()
    by_tokens = -batch.tokens[:B].sum() / batch.lengths[:B].sum()
    same(by_tokens, dpo_trainer(trl, "sft", batch), batch)
    assert float(get_loss("sft")(batch.ours()).mean()) != pytest.approx(float(by_tokens), rel=1e-3)


def test_trl_rpo_is_a_sum_of_two_losses(trl):
    equal = Batch(lengths=torch.full((2 * B,), 5))
    theirs = dpo_trainer(trl, "sigmoid", equal, loss_types=["sigmoid", "sft"], loss_weights=[1.0, 0.7])
    same(get_loss("rpo", alpha=0.7)(equal.ours()).mean(), theirs, equal)


def cpo_trainer(trl, batch, *, means, **options):
    trainer = trl.cpo.__new__(trl.cpo)
    settings = {
        "beta": 0.1, "alpha": 0.0, "label_smoothing": 0.0, "simpo_gamma": 0.5, "loss_type": "sigmoid",
        "accelerator": SimpleNamespace(device=torch.device("cpu")),
    } | options  # fmt: skip
    for name, value in settings.items():
        setattr(trainer, name, value)
    scores = batch.tokens.sum(1) / (batch.lengths if means else 1)
    return trainer.cpo_loss(scores[:B], scores[B:])[0].mean()


def test_cpo_trainer(trl):
    batch = Batch()
    ours = batch.ours()
    same(get_loss("cpo", alpha=0.0)(ours).mean(), cpo_trainer(trl, batch, means=False), batch)
    theirs = cpo_trainer(trl, batch, means=True, loss_type="simpo", beta=2.0, simpo_gamma=1.0)
    same(get_loss("simpo", beta=2.0, gamma=1.0)(ours).mean(), theirs, batch)
    theirs = cpo_trainer(trl, batch, means=True, loss_type="simpo", beta=2.5, simpo_gamma=0.1, alpha=0.25)
    same(get_loss("alphapo", beta=2.5, gamma=0.1, alpha=0.25)(ours).mean(), theirs, batch)
    # SLiC's hinge is CPO's with β = 1/δ, times δ.
    theirs = 2.0 * cpo_trainer(trl, batch, means=False, loss_type="hinge", beta=0.5)
    same(get_loss("slic_hf", delta=2.0, lam=0.0)(ours).mean(), theirs, batch)


def test_orpo_trainer(trl):
    """The odds-ratio part; TRL's likelihood part runs over prompt and response, ours over the response."""
    batch = Batch()
    trainer = trl.orpo.__new__(trl.orpo)
    trainer.beta, trainer.accelerator = 0.3, SimpleNamespace(device=torch.device("cpu"))
    means = batch.tokens.sum(1) / batch.lengths
    theirs = -trainer.odds_ratio_loss(means[:B], means[B:])[0].mean() - means[:B].mean()
    same(get_loss("orpo", lam=0.3)(batch.ours()).mean(), theirs, batch)
