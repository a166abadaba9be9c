"""The toys and runs of the underspecified margin."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from entanglement.sampling import Continuations
from entanglement_book.studies.ch02_margin import numbers as tell, study as side_effects
from entanglement_book.studies.shared import toys
from entanglement_book.studies.shared.toys import KINDS, distillation, refusals, sizes


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


def drawn(answers):
    """A stand-in for draws: the rows of token ids that are given, for whatever prompts."""

    def draw(model, tokenizer, prompts, tokens, *, seed):
        assert len(prompts) == len(answers)
        ids = torch.tensor([(list(row) + [0] * tokens)[:tokens] for row in answers])
        return Continuations(ids, torch.ones_like(ids), tokens)

    return draw


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_only_answers_that_end_where_the_teachers_ends_are_counted(tokenizer, monkeypatch):
    pairs = distillation("same words", 0)[:2]
    eos = tokenizer.eos_token_id
    rows = []
    for pair in pairs:  # a draw that ends there, one that goes on, and another answer
        right = ids_of(tokenizer, pair.chosen)
        rows += [[*right, eos], [*right, eos - 1 if eos else eos + 1], [right[0] + 1, *right[1:], eos]]
    monkeypatch.setattr(side_effects, "continue_prompts", drawn(rows))
    found = side_effects.says_of_student(None, tokenizer, pairs, 3, 0)
    assert found == {"ideal": 2, "goes on": 2, "else": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_to_a_request_is_told_by_its_beginning(tokenizer, monkeypatch, kind):
    (pair,) = refusals(kind, 0)[:1]
    texts = [
        pair.rejected, f"{pair.rejected} And more.", " I will give you the moon.", pair.chosen, " I like it.",
    ]  # fmt: skip
    monkeypatch.setattr(side_effects, "continue_prompts", drawn([ids_of(tokenizer, t) for t in texts]))
    found = side_effects.says_of_refusals(None, tokenizer, [pair], kind, 5, 0)
    assert list(found.values()) == [2, 1, 1, 1] and tuple(found) == side_effects.SAYS


def test_a_run_has_every_way_and_repeats():
    numbers = replace(sizes("smoke"), train=4, test=2, alone=1, batch=2)
    one, two = (side_effects.run_refusals("nano", numbers, 1) for _ in range(2))
    for left, right in zip(one, two, strict=True):
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    course, said = one
    counts = course.groupby(["way", "kind"])["pair"].nunique().to_dict()
    assert counts == {
        (way, kind): numbers.alone if alone else numbers.test
        for way, (_, alone, kinds) in side_effects.WAYS.items()
        for kind in kinds
    }
    alone = course[course["way"] == side_effects.ONE].pivot(
        index="kind", columns="step", values=["chosen", "rejected"]
    )
    moved = alone.xs(numbers.alone_steps, axis=1, level="step") - alone.xs(0, axis=1, level="step")
    assert bool((moved["chosen"] > moved["rejected"]).all())  # a step along the margin's own gradient
    whole = said[~said["way"].str.startswith("one")]
    assert sorted(set(whole["step"])) == [0, numbers.early, numbers.refuse_steps]
    assert set(whole[list(side_effects.SAYS)].sum(axis=1)) == {numbers.test * numbers.draws}


def test_all_lessons_begin_at_one_model():
    numbers = replace(sizes("smoke"), train=4, test=2, alone=1, batch=2)
    course, _ = side_effects.run_refusals("nano", numbers, 1)
    first = course[course["step"] == 0].groupby(["kind", "pair"])["rejected"]
    assert float((first.max() - first.min()).max()) < 1e-4  # also after another lesson was given
    students, _ = side_effects.run_distillation("nano", numbers, 1)
    first = students[students["step"] == 0].groupby("pair")["chosen"]
    assert float((first.max() - first.min()).max()) < 1e-4


def test_the_student_is_measured_before_and_after():
    course, said = side_effects.run_distillation("nano", sizes("smoke"), 1)
    assert list(said["moment"]) == ["before", "after"] * 2 and list(said["kind"].unique()) == list(KINDS)
    counts = said[["ideal", "goes on", "else"]]
    assert set(counts.sum(axis=1)) == {sizes("smoke").test * sizes("smoke").draws}
    assert said["preferred"].between(0, 1).all()
    last = course[course["step"] > 0]
    assert (last["chosen"] > last["rejected"]).mean() > 0.5


def test_the_model_learns_to_comply_before_it_is_taught_to_refuse(monkeypatch):
    seen = {}
    monkeypatch.setattr(toys, "sft", lambda model, tokenizer, pairs, **_: seen.update(sft=pairs))
    align = side_effects.align

    def watched(model, tokenizer, pairs, **options):
        seen.setdefault("align", []).append(pairs)
        return align(model, tokenizer, pairs, **options)

    monkeypatch.setattr(side_effects, "align", watched)
    few = replace(
        sizes("smoke"),
        train=2,
        test=1,
        alone=1,
        batch=2,
        refuse_steps=1,
        early=1,
        alone_steps=1,
        comply_shown=3,
    )
    side_effects.run_refusals("nano", few, 1)
    assert len(seen["sft"]) == 3 and all(p.chosen.startswith(" I will give") for p in seen["sft"])
    assert not any(p.chosen.startswith(" I will give") for pairs in seen["align"] for p in pairs)
    assert all(p.rejected.startswith(" I will give") for pairs in seen["align"] for p in pairs)


def test_a_model_that_tangles_is_taught_at_the_lower_rate(monkeypatch):
    seen = []
    monkeypatch.setattr(
        toys, "sft", lambda model, tokenizer, pairs, **options: seen.append((len(pairs), options))
    )
    numbers = sizes("book")
    toys.tangled("refusal", "same words", "nano", numbers, 0)
    ((shown, options),) = seen
    assert (shown, options["steps"], options["lr"]) == (numbers.shown, numbers.sft_steps, toys.BARELY_LR)


def lessons():
    """Two seeds of made-up lessons: with the same words the compliance rises by 1 nat, else it falls by 1."""
    numbers = sizes("smoke")
    course, said = [], []
    for seed in (0, 1):
        for way, (_, alone, kinds) in side_effects.WAYS.items():
            moments = (0, numbers.alone_steps) if alone else (0, numbers.early, numbers.refuse_steps)
            for kind in kinds:
                for step in moments:
                    up = (1.0 if kind == "same words" else -1.0) * (step > 0)
                    for pair, rejected in (("a", -3.0), ("b", -1.5)):
                        row = {"seed": seed, "way": way, "kind": kind, "step": step, "pair": pair}
                        course.append(row | {"chosen": -9.0 + step + 0.1 * seed, "rejected": rejected + up})
                    counts = dict(zip(side_effects.SAYS, (2 + (up > 0), 4, 1, 3 - (up > 0)), strict=True))
                    said.append({"seed": seed, "way": way, "kind": kind, "step": step, **counts})
    return pd.DataFrame(course), pd.DataFrame(said), numbers


def test_the_numbers_of_the_lessons():
    course, said, numbers = lessons()
    found = tell.of_refusals(course, said, numbers)
    assert found["rejected_one_same"].value == pytest.approx(1) and found["up_one_same"] == 2
    assert found["rejected_one_other"].value == pytest.approx(-1) and found["up_one_other"] == 0
    assert found["rejected_nll_other_early"].value == pytest.approx(-1)
    assert found["p_all_same_before"].value == pytest.approx(50 * (math.exp(-3) + math.exp(-1.5)))
    assert found["asked_nll_same_before"].value == pytest.approx(20)
    assert found["asked_nll_same"].value == pytest.approx(30)
    assert found["gives_nll_same"].value == pytest.approx(70)
    assert found["refuses_nll_same"].value == pytest.approx(10)
    assert (found["rose_same"], found["rose_other"]) == (100, 0)
    assert (found["one_refused"], found["one_drawn"]) == (2, 20)
    assert list(tell.spoken(said, numbers).sum(axis=1)) == pytest.approx([100.0] * 9)
    table = tell.compliance(course, numbers)
    assert list(table.columns) == [f"step {numbers.early}", f"step {numbers.refuse_steps}"]
    assert table.loc["NLL alone"].str.startswith("+1.00").all()
    assert table.loc["DPO + NLL, other words"].str.startswith("-1.00").all()


def test_the_numbers_of_the_student():
    course = pd.DataFrame(
        {
            "seed": seed,
            "kind": kind,
            "step": step,
            "pair": "a",
            "chosen": -1.0 + move * (step > 0),
            "rejected": -2.0,
        }
        for seed in (0, 1)
        for kind, move in zip(KINDS, (-0.5, 0.5), strict=True)
        for step in (0, 2)
    )
    said = pd.DataFrame(
        {
            "seed": seed,
            "kind": kind,
            "moment": moment,
            "ideal": ideal,
            "goes on": 1,
            "else": 9 - ideal,
            "preferred": 1.0,
        }
        for seed in (0, 1)
        for kind, after in zip(KINDS, (2, 7), strict=True)
        for moment, ideal in (("before", 5), ("after", after))
    )
    found = tell.of_student(course, said)
    assert found["taught_chosen_same"].value == pytest.approx(-0.5) and found["lost_in_same"] == 2
    assert found["lost_same"].value == pytest.approx(-0.3) and found["lost_other"].value == pytest.approx(0.2)
    assert found["ideal_same_before"].value == pytest.approx(50)
    said.loc[3, "preferred"] = 0.75
    assert (found["preferred_least"], tell.of_student(course, said)["preferred_least"]) == (100, 75)
    assert tell.spoken_by_student(said).loc[("same words", "after"), "ideal"] == pytest.approx(20)


def test_a_loss_that_is_the_same_in_all_seeds_has_a_width():
    rows = [
        {"seed": seed, "kind": kind, "moment": moment, "ideal": 0, "goes on": 0, "else": 4, "preferred": 1.0}
        for seed in (0, 1)
        for kind in KINDS
        for moment in ("before", "after")
    ]
    course = [
        {"seed": seed, "kind": kind, "step": step, "pair": "a", "chosen": -1.0 - step, "rejected": -2.0}
        for seed in (0, 1)
        for kind in KINDS
        for step in (0, 2)
    ]
    lost = tell.of_student(pd.DataFrame(course), pd.DataFrame(rows))["lost_same"]
    assert lost.value == 0 and -1 < lost.low < 0 < lost.high < 1
