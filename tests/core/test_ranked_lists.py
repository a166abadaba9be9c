"""Graded candidates: their log-probabilities are those of pairs, and weights and gradients tell who moves."""

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from entanglement.batches import collate_for
from entanglement.gradients import pair_geometry
from entanglement.logps import pair_logps
from entanglement.pairs import PreferencePair
from entanglement.ranking import RankedList, get_ranking, list_geometry, list_logps, rank
from entanglement.ranking.lists import answers_of, relevance_of
from entanglement.training import align

LISTS = [
    RankedList("the film was", (" good", " bad and", " the people liked", " film"), (3, 1, 0, 2), "film"),
    RankedList(
        "what a day to", (" the people liked it", " the people", " day", " what"), (3, 2, 1, 0), "day"
    ),
]


def as_pairs(some, i, j):
    return PreferencePair(some.prompt, some.candidates[i], some.candidates[j])


@pytest.mark.parametrize("append_eos", [False, True])
def test_candidates_have_the_log_probabilities_of_pairs(tiny_model, tokenizer, append_eos):
    model = tiny_model("gpt2-tied").double()
    found = list_logps(model, tokenizer, LISTS, append_eos=append_eos)
    for b, some in enumerate(LISTS):
        for i, j in ((0, 1), (2, 3)):
            logps = pair_logps(model, collate_for(model, [as_pairs(some, i, j)], tokenizer, append_eos))
            expected = torch.stack([logps.chosen[0], logps.rejected[0]])
            torch.testing.assert_close(found[b, [i, j]], expected, check_dtype=False)


def test_candidates_have_the_gradients_of_pairs_and_a_true_step_moves_them_so(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied").double()
    geometry = list_geometry(model, tokenizer, LISTS)
    for b, some in enumerate(LISTS):
        for i, j in ((0, 1), (1, 3)):
            pair = pair_geometry(model, collate_for(model, [as_pairs(some, i, j)], tokenizer, False))
            torch.testing.assert_close(geometry.gram[b, i, j], pair.inner[0], atol=1e-9, rtol=1e-9)
            torch.testing.assert_close(geometry.gram[b, i, i], pair.chosen_sq[0], atol=1e-9, rtol=1e-9)
    ranking, one = get_ranking("lambdarank", beta=1.0), LISTS[:1]
    before = list_logps(model, tokenizer, one).detach()
    weights = ranking.weights(before, relevance_of(one))
    told = geometry.select([0]).predicted_change(weights, 1e-5)
    loss = ranking(list_logps(model, tokenizer, one), relevance_of(one)).sum()
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p -= 1e-5 * p.grad
    moved = list_logps(model, tokenizer, one).detach() - before
    torch.testing.assert_close(moved, told, atol=1e-9, rtol=1e-2)
    assert bool((moved.sign() == told.sign()).all())


def test_two_candidates_train_as_dpo_does(tiny_model, tokenizer):
    lists = [RankedList(some.prompt, some.candidates[:2], (1, 0), some.id) for some in LISTS]
    ends = []
    for how in ("pairs", "lists"):
        model = tiny_model("gpt2-tied").double()
        common = dict(steps=3, lr=1e-3, batch_size=2, seed=1)
        if how == "pairs":
            align(model, tokenizer, [as_pairs(some, 0, 1) for some in lists], **common)
        else:
            rank(model, tokenizer, lists, loss=get_ranking("ranknet", beta=0.1), **common)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], atol=1e-7, rtol=1e-5)


def test_training_orders_the_candidates_and_tells_of_it(tiny_model, tokenizer):
    model = tiny_model("gpt2-tied")
    run = rank(
        model, tokenizer, LISTS, loss=get_ranking("plackett_luce", beta=1.0), steps=30, lr=3e-3, batch_size=2,
        evaluate={"seen": LISTS}, evaluate_at=[0, 30],
    )  # fmt: skip
    assert list(run.table.columns) == ["step", "set", "list", "candidate", "relevance", "logp"]
    scores = {}
    for step, rows in run.table.groupby("step"):
        by = rows.pivot(index="list", columns="candidate", values="logp")
        grades = rows.pivot(index="list", columns="candidate", values="relevance")
        scores[step] = by, grades
    gained = scores[30][0] - scores[0][0]
    assert ndcg_score(scores[30][1].to_numpy(), gained.to_numpy()) > 0.99
    assert run.losses["loss"].iloc[-1] < run.losses["loss"].iloc[0]
    assert np.isfinite(run.table["logp"]).all()


def test_the_end_belongs_to_the_reference_and_to_the_model(tiny_model, tokenizer):
    # Before the first step both say the same, so that every pair of candidates costs log 2.
    first = {}
    for append_eos in (False, True):
        model = tiny_model("gpt2-tied").double()
        run = rank(model, tokenizer, LISTS, steps=2, lr=1e-2, batch_size=2, append_eos=append_eos)
        assert run.losses["loss"].iloc[0] == pytest.approx(np.log(2))
        first[append_eos] = run.losses["grad_norm"].iloc[0]
    assert first[True] != pytest.approx(first[False], rel=1e-3)


def test_a_long_prompt_loses_its_beginning_and_a_candidate_nothing(tiny_model, tokenizer):
    tokenizer.model_max_length, before = 8, tokenizer.model_max_length
    try:
        some = [RankedList("the film was what a day the people liked", (" good", " bad and"), (1, 0), "x")]
        answers = answers_of(tokenizer, some)
    finally:
        tokenizer.model_max_length = before
    assert answers.input_ids.shape[1] <= 8
    assert [t.strip() for t in answers.texts(tokenizer)] == ["good", "bad and"]
    assert answers.attention_mask.sum(1).tolist() == [8, 8]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RankedList("p", (" a",), (1,)), "at least two texts"),
        (lambda: RankedList("p", (" a", " b"), (1,)), r"relevance=\(1,\); expected 2 numbers"),
        (lambda: RankedList("p", (" a", " b"), (1, -1)), "expected 2 numbers of at least 0"),
    ],
)
def test_what_is_no_list_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_of_different_lengths_and_too_few_lists_are_refused(tiny_model, tokenizer):
    short = RankedList("p", (" good", " bad"), (1, 0))
    with pytest.raises(ValueError, match=r"lists have \[2, 4\] candidates"):
        answers_of(tokenizer, [LISTS[0], short])
    with pytest.raises(ValueError, match="batch_size=8 is more than the 2 lists"):
        rank(tiny_model("gpt2-tied"), tokenizer, LISTS)
