"""The Bradley-Terry reward model."""

import pytest
import torch
from entanglement.pairs import PreferencePair, collate
from entanglement.rewards import RewardModel, reward_margins, train_reward


@pytest.fixture
def labeled():
    good, bad = " the people liked it", " the people hated it"
    return [PreferencePair(f"the film {i}", good, bad, f"pair {i}") for i in range(12)]


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-tied", "neox-untied"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_reward(tiny_model, tokenizer, pairs, shape, side):
    model = RewardModel(tiny_model(shape)).double()
    together = model(collate(pairs, tokenizer, padding_side=side))
    for i, pair in enumerate(pairs):
        alone = model(collate([pair], tokenizer))
        for mine, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[i], theirs[0])


def test_training_learns_what_is_preferred(tiny_model, tokenizer, labeled):
    model = RewardModel(tiny_model("gpt2-tied", torch.float32))
    train, test = labeled[:8], labeled[8:]
    rows = train_reward(model, tokenizer, train, steps=30, lr=1e-3, batch_size=8)
    assert rows["loss"].iloc[-1] < 0.5 * rows["loss"].iloc[0]
    assert bool((reward_margins(model, tokenizer, test) > 0).all())
    # Control: what was learned is about the texts, so swapped pairs come out the other way.
    swapped = [PreferencePair(p.prompt, p.rejected, p.chosen, p.id) for p in test]
    assert bool((reward_margins(model, tokenizer, swapped) < 0).all())


def test_the_same_seed_gives_the_same_model(tiny_model, tokenizer, labeled):
    found = [
        train_reward(RewardModel(tiny_model("gpt2-tied", torch.float32), seed), tokenizer, labeled,
                     steps=3, batch_size=4, seed=seed)["loss"].tolist()
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert found[0] == found[1] != found[2]


def test_a_batch_larger_than_the_data_is_refused(tiny_model, tokenizer, labeled):
    with pytest.raises(ValueError, match="batch_size=13"):
        train_reward(RewardModel(tiny_model("gpt2-tied")), tokenizer, labeled, batch_size=13)
