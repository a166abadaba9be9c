"""What the chapter on rankings, contrast and generation is made of: lists, a probe, draws and codes."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from entanglement.pairs import PreferencePair
from entanglement.ranking import RankedList
from entanglement_book.studies.ch15_ranking.feature_gan import (
    GanNumbers,
    nearest,
    novelty,
    train_gan,
    whitened,
)
from entanglement_book.studies.ch15_ranking.grid import Way, seen_by
from entanglement_book.studies.ch15_ranking.grid_contrast import swapped
from entanglement_book.studies.ch15_ranking.grid_sentences import renamed
from entanglement_book.studies.ch15_ranking.probing import probed
from entanglement_book.studies.ch15_ranking.sentence_vae import (
    SentenceVae,
    VaeNumbers,
    code_report,
    kl_each,
    train_vae,
)

SMALL = VaeNumbers(
    code=2, embedding=8, width=16, steps=300, batch=16, lr=1e-2, words=4, vocabulary=12, free=1.0
)


def test_a_way_sees_its_candidates_in_the_order_given():
    some = RankedList("p", ("a", "b", "c", "d"), (3.0, 2.0, 1.0, 0.0))
    pair = seen_by(some, Way("ranknet", sees=("true", "sibling")), (2, 3, 0, 1))
    assert (pair.candidates, pair.relevance) == (("c", "a"), (1.0, 3.0))
    best = seen_by(some, Way("plackett_luce", graded=False), (3, 0, 1, 2))
    assert (best.candidates, best.relevance) == (("d", "a", "b", "c"), (0.0, 1.0, 0.0, 0.0))


def test_half_of_the_pairs_are_swapped():
    pairs = [PreferencePair(str(i), " a", " b", str(i)) for i in range(10)]
    found = swapped(pairs, 0)
    assert sum(pair.chosen == " b" for pair in found) == 5
    assert [pair.id for pair in found] == [pair.id for pair in pairs]


def test_a_probe_finds_what_is_there_and_nothing_else():
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 5, generator=rng)
    chosen, rejected = noise + torch.tensor([3.0, 0, 0, 0, 0]), noise
    assert probed(chosen, rejected, 0) > 0.9
    assert probed(chosen, rejected, 0, shuffled=True) < 0.75
    assert 0.25 < probed(torch.randn(60, 5, generator=rng), torch.randn(60, 5, generator=rng), 0) < 0.75


def test_whitened_features_have_mean_0_and_covariance_1():
    rng = torch.Generator().manual_seed(0)
    found = whitened(torch.randn(200, 6, generator=rng) @ torch.randn(6, 6, generator=rng), 3)
    torch.testing.assert_close(found.real.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cov(found.real.T), torch.eye(3), atol=1e-4, rtol=0)
    assert 0.5 < found.kept < 1


def test_nearest_neighbors_tell_kinds_apart_where_they_differ():
    rng = torch.Generator().manual_seed(0)
    real, same = torch.randn(200, 2, generator=rng), torch.randn(200, 2, generator=rng)
    assert novelty(real, same) == pytest.approx(0.5, abs=0.08)
    assert novelty(real, same + 9) == 1
    assert (nearest(real, real[[5, 3]]) == np.array([5, 3])).all()


def test_a_gan_comes_nearer_to_the_real_ones():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(256, 2, generator=rng) + torch.tensor([4.0, 0.0])
    numbers = GanNumbers(components=2, noise=2, width=16, steps=0, batch=32, lr=2e-3)
    untrained = train_gan(real, numbers, 256, 0)
    trained = train_gan(real, GanNumbers(**{**vars(numbers), "steps": 400}), 256, 0)
    assert novelty(real, trained) < novelty(real, untrained) - 0.1


def test_the_price_of_a_code_is_the_divergence():
    mean, log_variance = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2, -0.7]])
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_each(mean, log_variance), expected)


def test_a_decoder_pays_only_for_real_tokens():
    torch.manual_seed(0)
    model = SentenceVae(SMALL)
    ids = torch.tensor([[2, 3, 0, 0]])
    code = torch.randn(1, 2)
    torch.testing.assert_close(model.surprise(ids, code), model.surprise(ids[:, :2], code))


def test_free_nats_keep_a_code_in_use_that_the_bound_gives_up():
    rng = torch.Generator().manual_seed(0)
    first = torch.randint(2, 12, (300, 1), generator=rng)
    sentences = first.expand(-1, 4).contiguous()  # the first word tells all others
    sentences[:, 1:] = torch.randint(2, 12, (300, 3), generator=rng)
    free = code_report(train_vae(sentences, SMALL, "free", 0), sentences, 0)
    plain = code_report(train_vae(sentences, SMALL, "plain", 0), sentences, 0)
    assert free["kl"] > 0.5 > plain["kl"]
    assert free["information"] <= np.log(300)
    assert free["told"] > plain["told"]
    with pytest.raises(ValueError, match="plain, annealed or free"):
        train_vae(sentences, SMALL, "other", 0)


def test_common_tokens_get_names_and_rare_ones_share_one():
    from collections import Counter

    rows = torch.tensor([[7, 7, 9, 0], [7, 9, 8, 0]])
    counts = Counter(rows[rows != 0].tolist())
    assert renamed(rows, counts, 4).tolist() == [[2, 2, 3, 0], [2, 3, 1, 0]]
