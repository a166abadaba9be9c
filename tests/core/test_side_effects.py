"""The toys and runs of the underspecified margin."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from entanglement.sampling import Continuations
from entanglement_book.studies.ch02_margin import study as side_effects
from entanglement_book.studies.shared import toys
from entanglement_book.studies.shared.toys import distillation, refusals, sizes


def words(text):
    return set(text.lower().replace(".", "").replace(",", "").split())


@pytest.mark.parametrize("make", [refusals, distillation])
def test_the_control_differs_only_in_the_words_that_are_shared(make):
    same, other = ({p.id: p for p in make(kind, 3)} for kind in ("same words", "other words"))
    assert len(same) == 150 and same.keys() == other.keys()
    for name in same:
        assert same[name].prompt == other[name].prompt
        one, two = (words(p.chosen) & words(p.rejected) for p in (same[name], other[name]))
        assert len(one) >= 6 > 2 >= len(two)


def test_the_order_is_the_seeds():
    ids = [[p.id for p in refusals("same words", seed)] for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2] and sorted(ids[0]) == sorted(ids[2])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="kind='none'"):
        refusals("none", 0)
    with pytest.raises(ValueError, match="kind='none'"):
        distillation("none", 0)
    with pytest.raises(ValueError, match="scale='huge'"):
        sizes("huge")


def test_only_answers_that_end_where_the_teachers_ends_are_counted(tokenizer, monkeypatch):
    pairs = distillation("same words", 0)[:2]
    right = [tokenizer(p.chosen, add_special_tokens=False)["input_ids"] for p in pairs]
    eos, longest = tokenizer.eos_token_id, max(len(ids) for ids in right) + 1
    rows = []
    for ids in right:  # a draw that ends there, and one that goes on
        for last in (eos, eos - 1 if eos else eos + 1):
            rows.append(([*ids, last] + [0] * longest)[:longest])
    ids = torch.tensor(rows)

    def drawn(model, tokenizer, prompts, tokens, *, seed):
        assert prompts == [pairs[0].prompt] * 2 + [pairs[1].prompt] * 2 and tokens == longest
        return Continuations(ids, torch.ones_like(ids), tokens)

    monkeypatch.setattr(side_effects, "continue_prompts", drawn)
    assert side_effects.share_drawn(None, tokenizer, pairs, 2, 0) == 0.5


def test_a_run_has_every_way_and_repeats():
    numbers = replace(sizes("smoke"), train=4, test=2, alone=1, batch=2)
    one, two = (side_effects.run_refusals("nano", "same words", numbers, 1) for _ in range(2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    counts = one.groupby("way").size().to_dict()
    assert counts == {
        "one pair, DPO": numbers.alone,
        "all pairs, DPO": numbers.test,
        "all pairs, DPO + NLL": numbers.test,
    }
    alone = one[one["way"] == "one pair, DPO"]
    assert bool((alone["chosen"] > alone["rejected"]).all())  # a step along the margin's own gradient


def test_the_student_is_measured_before_and_after():
    pairs, shares = side_effects.run_distillation("nano", "other words", sizes("smoke"), 1)
    assert list(shares["moment"]) == ["before", "after"]
    assert shares[["ideal", "preferred"]].to_numpy().min() >= 0
    assert (pairs["chosen"] > pairs["rejected"]).mean() > 0.5


def test_the_model_learns_to_comply_before_it_is_taught_to_refuse(monkeypatch):
    seen = {}
    monkeypatch.setattr(toys, "sft", lambda model, tokenizer, pairs, **_: seen.update(sft=pairs))
    align = side_effects.align

    def watched(model, tokenizer, pairs, **options):
        seen.setdefault("align", []).append(pairs)
        return align(model, tokenizer, pairs, **options)

    monkeypatch.setattr(side_effects, "align", watched)
    few = replace(sizes("smoke"), train=2, test=1, alone=1, batch=2, steps=1, alone_steps=1)
    side_effects.run_refusals("nano", "same words", few, 1)
    assert all(p.chosen.startswith(" I will give") for p in seen["sft"])
    assert all(p.chosen.startswith(" I will not") for pairs in seen["align"] for p in pairs)
