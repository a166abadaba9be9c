"""InfoNCE and the embeddings that it contrasts."""

import math

import pytest
import torch

from entanglement.contrast import contrast_loss, info_nce, pair_embeddings
from entanglement.pairs import PreferencePair

PAIRS = [
    PreferencePair("the film was", " good", " bad and", "film"),
    PreferencePair("what a day to see the people", " the people liked it", " the people", "day"),
]


def test_info_nce_is_the_share_of_the_positive():
    anchors = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    candidates = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-1.0, 0.0]], dtype=torch.float64)
    found = info_nce(anchors, candidates, torch.tensor([0, 0]), temperature=0.5)
    first = -math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-2)))
    second = -math.log(1 / (1 + math.exp(2) + 1))
    torch.testing.assert_close(found, torch.tensor([first, second], dtype=torch.float64))


def test_a_step_on_info_nce_brings_the_positive_nearer():
    torch.manual_seed(0)
    anchors, candidates = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    own = torch.tensor([4, 1, 0])
    before = info_nce(anchors, candidates, own).sum()
    (slope,) = torch.autograd.grad(before, candidates)
    after = info_nce(anchors, candidates - 1e-3 * slope, own).sum()
    assert after < before


@pytest.mark.parametrize(
    ("anchors", "candidates", "positives", "says"),
    [
        (torch.ones(2, 3), torch.ones(4, 2), torch.tensor([0, 1]), "expected"),
        (torch.ones(2, 3), torch.ones(1, 3), torch.tensor([0, 0]), "at least two"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0]), "one whole number"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0.0, 1.0]), "one whole number"),
        (torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 4]), "outside"),
    ],
)
def test_info_nce_refuses_what_does_not_fit(anchors, candidates, positives, says):
    with pytest.raises(ValueError, match=says):
        info_nce(anchors, candidates, positives)


def test_embeddings_are_means_over_tokens_without_padding(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied").double()
    together = pair_embeddings(model, tokenizer, PAIRS)
    for row, pair in enumerate(PAIRS):
        alone = pair_embeddings(model, tokenizer, [pair])
        for found, one in zip(together, alone, strict=True):
            torch.testing.assert_close(found[row], one[0])
        for side, response in ((1, pair.chosen), (2, pair.rejected)):
            first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
            prompt = first + tokenizer(pair.prompt, add_special_tokens=False)["input_ids"]
            answer = tokenizer(response, add_special_tokens=False)["input_ids"]
            states = model.base_model(input_ids=torch.tensor([prompt + answer])).last_hidden_state[0]
            torch.testing.assert_close(together[side][row], states[len(prompt) :].mean(0))
            torch.testing.assert_close(together[0][row], states[: len(prompt)].mean(0))


def test_the_loss_of_a_batch_has_all_its_responses_as_candidates(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied").double()
    prompts, chosen, rejected = pair_embeddings(model, tokenizer, PAIRS)
    expected = info_nce(prompts, torch.cat([chosen, rejected]), torch.tensor([0, 1]), temperature=0.2).mean()
    found = contrast_loss(model, tokenizer, PAIRS, temperature=0.2)
    torch.testing.assert_close(found, expected)
    assert found.requires_grad


def test_embeddings_want_a_trunk(tokenizer):
    with pytest.raises(ValueError, match="expected a language model"):
        pair_embeddings(torch.nn.Linear(2, 2), tokenizer, PAIRS)
