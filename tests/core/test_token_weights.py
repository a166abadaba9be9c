"""Token weights: the weighers, and training with them."""

import pandas as pd
import pytest
import torch

from entanglement.gradients import token_geometry
from entanglement.logps import token_logps
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import align
from entanglement.updates import TokenWeighted
from entanglement.updates.token_weights import (
    FromGeometry,
    LearnedMask,
    TwoReferences,
    contrasting,
    everything,
    safe_token_weights,
)


@pytest.fixture
def near_copies():
    return [
        PreferencePair("what a day", " positive people", " negative people", "last alike"),
        PreferencePair(
            "the film was", " good and the people liked it", " bad and the people liked it", "long"
        ),
        PreferencePair("the", " people people", " people", "one more"),
    ]


def frozen(model, batch):
    with torch.no_grad():
        return token_logps(model, batch)


@pytest.mark.parametrize("side", ["left", "right"])
def test_contrasting_tokens_are_those_that_no_alignment_matches(tiny_model, tokenizer, near_copies, side):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer, padding_side=side)
    weights = contrasting(model, batch, frozen(model, batch))
    for i in range(len(near_copies)):
        ids, some = [], []
        for row in (i, i + len(near_copies)):
            mask = batch.response_mask[row]
            ids.append(batch.input_ids[row][mask].tolist())
            some.append(weights[row][mask].tolist())
        left = [[t for t, m in zip(*both, strict=True) if m == 0] for both in zip(ids, some, strict=True)]
        assert left[0] == left[1]  # without the contrasting tokens the two are the same
        assert 1 <= sum(map(sum, some)) < sum(map(len, ids)) - 1 and {0.0, 1.0} >= {*some[0], *some[1]}
    assert float(weights[~batch.response_mask].abs().max()) == 0


def test_weight_one_everywhere_is_the_loss_itself(tiny_model, tokenizer, near_copies):
    options = {"steps": 3, "batch_size": 3, "lr": 1e-3, "evaluate": {"test": near_copies}}
    one = align(tiny_model("gpt2-tied"), tokenizer, near_copies, **options)
    update = TokenWeighted(everything, tiny_model("gpt2-tied"))
    two = align(tiny_model("gpt2-tied"), tokenizer, near_copies, update=update, **options)
    pd.testing.assert_frame_equal(one.table, two.table, rtol=1e-9)
    assert update.seen == [1.0, 1.0, 1.0]


def test_tokens_of_weight_zero_send_nothing_back(tiny_model, tokenizer):
    """Two pairs that differ in their shared suffix alone are trained alike on their contrasting tokens."""
    ends = []
    for suffix in (" people", " sentiment"):
        model = tiny_model("gpt2-tied")
        pairs = [PreferencePair("what a day", f" positive{suffix}", f" negative{suffix}", "pair")]
        update = TokenWeighted(contrasting, tiny_model("gpt2-tied"))
        align(model, tokenizer, pairs, update=update, steps=1, batch_size=1, lr=1e-3)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends)


def test_two_references_weigh_what_they_disagree_about(tiny_model, tokenizer, near_copies):
    model, batch = tiny_model("gpt2-tied"), collate(near_copies, tokenizer)
    same = TwoReferences(tiny_model("gpt2-tied"))(model, batch, frozen(model, batch))
    assert float(same.abs().max()) == 0
    other = TwoReferences(tiny_model("gpt2-tied", seed=1), scale=0.5)
    weights = other(model, batch, frozen(model, batch))
    mask = batch.response_mask
    assert float(weights.max()) == 1 and float(weights[mask].min()) >= 0 and float(weights[mask].min()) < 1


def test_geometrys_weights_tangle_nothing_and_keep_the_most_margin(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    pair = PreferencePair("what a", " people", " people people people", "tangled")
    geometry = token_geometry(model, collate([pair], tokenizer))
    n, gram = geometry.n_chosen, geometry.gram
    sign = torch.ones(len(gram), dtype=torch.float64)
    sign[n:] = -1

    def rates(weights):
        u = gram @ (weights * sign)
        return float(u[:n].sum()), float(u[n:].sum())

    plain = rates(torch.ones(len(gram), dtype=torch.float64))
    assert plain[0] < 0  # the loss itself lowers the chosen response
    found = safe_token_weights(geometry)
    up, down = rates(found)
    tiny = 1e-6 * float(gram.abs().max())
    assert up >= -tiny and down <= tiny and float(found.min()) >= 0 and float(found.max()) <= 1
    draw = torch.Generator().manual_seed(0)
    for _ in range(300):
        other = torch.rand(len(gram), generator=draw, dtype=torch.float64)
        w, l = rates(other)  # noqa: E741
        assert not (w >= 0 >= l) or w - l <= up - down + tiny
    batch = collate([pair, pair], tokenizer)
    weights = FromGeometry()(model, batch, frozen(model, batch))
    torch.testing.assert_close(weights[0][batch.response_mask[0]], found[:n])
    torch.testing.assert_close(weights[3][batch.response_mask[3]], found[n:])


def test_a_mask_loses_weight_by_its_penalty_and_keeps_it_where_the_margin_is(tiny_model, tokenizer):
    reference = tiny_model("gpt2-tied")
    batch = collate([PreferencePair("what a day", " positive", " negative", "pair")], tokenizer)
    before = frozen(reference, batch)
    loss = get_loss("dpo")

    def moved(model, penalty):
        mask = LearnedMask(penalty=penalty, lr=0.01)
        update = TokenWeighted(mask, reference)
        update.begin(model)
        mask.optimizer = torch.optim.SGD(mask.head.parameters(), lr=10.0)
        start = mask(model, batch, before).detach()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        update.step(model, optimizer, [batch], loss)
        return (mask(model, batch, before).detach() - start)[batch.response_mask]

    # At the reference every log-ratio is 0, so only the penalty speaks.
    assert float(moved(reference, 0.0).abs().max()) == 0 and bool((moved(reference, 1.0) < 0).all())
    # A model that has raised the chosen response and lowered the rejected one: its tokens gain weight.
    better = tiny_model("gpt2-tied")
    align(
        better,
        tokenizer,
        [PreferencePair("what a day", " positive", " negative", "pair")],
        steps=20,
        batch_size=1,
        lr=1e-2,
    )
    logps = [a - b for a, b in zip(frozen(better, batch).sums(), before.sums(), strict=True)]
    assert float(logps[0]) > 0 > float(logps[1])
    assert float(moved(better, 0.0).sum()) > 0
