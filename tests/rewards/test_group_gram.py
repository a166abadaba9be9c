"""A group's Gram matrix: the pairs' fast numbers, true steps, and who falls."""

import pytest
import torch

from entanglement.gradients import pair_geometry
from entanglement.pairs import PreferencePair, collate
from entanglement.rewards import answer_gradients, draw_answers, group_gram, read_answers
from entanglement.rewards.answers import Answers
from entanglement.rewards.negative_tokens import constant_weights, hidden_weights, token_alikeness
from entanglement.updates.metric import preconditioner


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-untied")


@pytest.fixture
def answers(model, tokenizer):
    drawn = draw_answers(model, tokenizer, ["the film was", "today"], group=4, tokens=3, seed=2)
    mask = drawn.mask.clone()
    mask[2, 2:] = mask[5, 1:] = False
    return Answers(drawn.input_ids, drawn.attention_mask, mask, 4, 3)


def sums(model, answers):
    return (read_answers(model, answers).logps * answers.mask).sum(1)


def test_two_answers_have_the_geometry_of_a_pair(model, tokenizer):
    batch = collate([PreferencePair("the film", "a", "b")], tokenizer)
    n = int(batch.response_mask.sum(1)[0])
    assert int(batch.response_mask.sum(1)[1]) == n  # of one length, so that nothing is padded
    gram = group_gram(
        model, Answers(batch.input_ids, batch.attention_mask, torch.ones(2, n, dtype=torch.bool), 2, n)
    )
    pair = pair_geometry(model, batch)
    expected = [float(pair.chosen_sq), float(pair.inner), float(pair.rejected_sq)]
    assert gram.gram[[0, 0, 1], [0, 1, 1]].tolist() == pytest.approx(expected)
    assert float(gram.cosines[0, 1]) == pytest.approx(float(pair.cosine))


def test_gradients_are_those_of_the_masked_sums(model, answers):
    gradients, logps = answer_gradients(model, answers)
    torch.testing.assert_close(logps, sums(model, answers).detach())
    own = torch.autograd.grad(sums(model, answers)[5], list(model.parameters()), allow_unused=True)
    flat = torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(model.parameters(), own, strict=True)
        ]
    )
    torch.testing.assert_close(gradients[5], flat)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_change_is_that_of_a_true_step(model, answers, optimizer):
    weights = torch.tensor([1.0, -0.5, 0.3, -0.8, 0.2, -1.0, 0.5, 0.3], dtype=torch.float64)
    metric = None
    if optimizer == "adam":
        stepper = torch.optim.Adam(model.parameters(), lr=1e-5)
        (sums(model, answers) @ weights.flip(0)).backward()
        stepper.step()
        metric = preconditioner(model, stepper)
        model.zero_grad()
    gram = group_gram(model, answers, metric=metric)
    predicted = gram.change(weights)
    before = sums(model, answers).detach()
    (sums(model, answers) @ weights).backward()
    scale = 1e-6 if metric is None else 1e-9
    with torch.no_grad():
        for name, p in model.named_parameters():
            p += scale * p.grad * (1 if metric is None else metric[name])
    true = (sums(model, answers).detach() - before) / scale
    torch.testing.assert_close(true, predicted, rtol=1e-2, atol=1e-3 * float(predicted.abs().max()))
    # A right answer can fall, and its sign is told: here none is near 0.
    assert (
        bool((true.sign() == predicted.sign()).all()) and predicted.abs().min() > 1e-3 * predicted.abs().max()
    )


def test_token_alikeness_is_the_output_layers_gram(model, answers):
    found = token_alikeness(model, answers)
    head = model.get_output_embeddings().weight
    logps = read_answers(model, answers).logps * answers.mask
    rows = [torch.autograd.grad(v, head, retain_graph=True)[0].flatten() for v in logps.flatten()]
    gradients = torch.stack(rows)
    torch.testing.assert_close(found, gradients @ gradients.T)


def test_only_near_tokens_of_wrong_answers_are_weighed(model, answers):
    signs = torch.tensor([1.0, -1, -1, 1, 1, 1, 1, 1])
    advantages = signs[:, None].expand(8, 3).double()
    alike = token_alikeness(model, answers)
    near = alike[:, [0, 1, 2, 9, 10, 11]].sum(1).view(8, 3)
    least = min(float(near[row].sum() / answers.lengths[row]) for row in (0, 3))
    found = hidden_weights(model, answers, advantages, threshold=0.0, weight=0.25)
    expected = torch.where((near > 0) & (signs < 0)[:, None] & answers.mask, 0.25, 1.0)
    expected[4:] = 1  # no wrong answer in the second group
    torch.testing.assert_close(found, expected.to(found))
    assert 0 < int((found < 1).sum()) < 5
    strict = hidden_weights(model, answers, advantages, threshold=1.0)
    torch.testing.assert_close(
        strict == 0, (near > least) & (signs < 0)[:, None] & answers.mask & (torch.arange(8) < 4)[:, None]
    )
    assert torch.equal(
        constant_weights(model, answers, advantages, weight=0.5),
        torch.where(advantages < 0, 0.5, 1.0).double(),
    )
