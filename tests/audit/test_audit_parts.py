"""The parts of an audit beside the rehearsal: single pairs' geometry, the gathered walk, other settings."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from entanglement.auditing import audit, plan_walk
from entanglement.auditing.alike_states import alike_states
from entanglement.auditing.changes import (
    Change,
    averaged,
    changes_to_try,
    narrowed,
    rehearse_change,
)
from entanglement.auditing.gathered import SKETCH, gathered_walk, shared_direction, sketch
from entanglement.auditing.own_geometry import own_geometry
from entanglement.auditing.pulls import pulls
from entanglement.auditing.rehearsal import response_table, sweep
from entanglement.auditing.wording import in_words, of_direction
from entanglement.gradients import flat_gradients
from entanglement.logps import PairLogps, response_logps, token_logps
from entanglement.losses import get_loss, list_losses
from entanglement.pairs import PreferencePair, collate
from entanglement.rows import Comparison, EncodedPair, encode, padded

WORDS = ["film", "day", "people", "night", "town", "song", "road", "book", "day one", "road two"]
ANSWERS = [("good", "bad and old"), ("fine", "poor")] * 5
PAIRS = [
    PreferencePair(f"the {w} was", f" {g} and long", f" {b} and long", w)
    for w, (g, b) in zip(WORDS, ANSWERS, strict=True)
]


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


@pytest.fixture
def batches(tokenizer):
    """Five batches of two pairs, each one group."""
    return [[collate(PAIRS[k : k + 2], tokenizer, padding_side="left")] for k in range(0, 10, 2)]


# ── single pairs ──────────────────────────────────────────────────────────────────────────────────────


def test_ches_is_that_of_unpadded_responses(model, tokenizer):
    some = [PAIRS[0], PAIRS[5]]
    plain, means = alike_states(model, collate(some, tokenizer, padding_side="left"))
    for k, pair in enumerate(some):
        alone = collate([pair], tokenizer)
        sums, counts = [], []
        for row in range(2):
            real = alone.attention_mask[row].bool()
            with torch.no_grad():
                states = model(alone.input_ids[row][real][None], output_hidden_states=True).hidden_states[-1]
            answer = alone.response_mask[row][real]
            sums.append(states[0][answer].sum(dim=0))
            counts.append(int(answer.sum()))
        h_w, h_l = sums
        assert float(plain[k]) == pytest.approx(float(h_w @ h_l - h_w @ h_w), rel=1e-9)
        h_w, h_l = h_w / counts[0], h_l / counts[1]
        assert float(means[k]) == pytest.approx(float(h_w @ h_l - h_w @ h_w), rel=1e-9)


def test_own_geometry_is_that_of_the_whole_gradients(model, batches):
    table = own_geometry(model, [groups[0] for groups in batches], get_loss("simpo"))
    assert list(table["pair"]) == WORDS
    row = 0
    for (group,) in batches:
        g_w, g_l = flat_gradients(model, group)
        logps = response_logps(model, group)
        for k in range(len(group)):
            one = table.loc[row]
            assert one["a"] == pytest.approx(float(g_w[k].norm()), rel=1e-8)
            assert one["b"] == pytest.approx(float(g_l[k].norm()), rel=1e-8)
            assert one["c"] == pytest.approx(float(g_w[k] @ g_l[k]), rel=1e-8)
            assert one["chosen_logp"] == pytest.approx(float(logps[0][k].detach()))
            r = float(group.rejected_len[k] / group.chosen_len[k])  # SimPO's weights go as 1/length
            assert one["r"] == pytest.approx(r)
            up, down = r * one["a"] ** 2 - one["c"], r * one["c"] - one["b"] ** 2
            assert one["case"] == ("both_down" if up < 0 else "both_up" if down > 0 else "ideal")
            row += 1
    assert table["r"].nunique() > 1


def test_two_equal_responses_are_a_case_of_their_own(model):
    group = padded([EncodedPair((5,), (6, 7), (6, 7)), EncodedPair((5,), (6, 7), (6, 8))])
    cases = own_geometry(model, [group], get_loss("dpo"))["case"].tolist()
    assert cases[0] == "equal"
    assert cases[1] != "equal"


# ── the gathered walk ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("n", "optimizer"), [(4, "sgd"), (5, "adamw")])
def test_a_gathered_walk_is_the_planned_one(model, batches, optimizer, n):
    loss = get_loss("rpo")
    expected = plan_walk(model, batches[:n], loss, optimizer=optimizer, max_grad_norm=0.5)
    walk, sketches = gathered_walk(model, batches[:n], loss, optimizer=optimizer, max_grad_norm=0.5)
    assert (walk.batches, tuple(sketches.shape)) == (n, (n, SKETCH))
    assert set(walk.scale) == set(expected.scale)
    for ratio, half in ((1.0, "all"), (2.0, "even"), (0.7, "odd")):
        for name, part in expected.along(ratio, half).items():
            torch.testing.assert_close(walk.along(ratio, half)[name], part, rtol=1e-9, atol=1e-12)
    # The sketch of a batch is that of its own gradient, chosen less rejected.
    last = plan_walk(model, batches[n - 1 : n] * 2, loss, optimizer="sgd", max_grad_norm=0.5).along(
        half="even"
    )
    torch.testing.assert_close(sketches[n - 1], sketch(last), rtol=1e-9, atol=1e-9)


def test_sketches_keep_inner_products():
    draw = torch.Generator().manual_seed(1)
    one = {"a": torch.randn(300, 40, generator=draw), "b": torch.randn(700, generator=draw)}
    other = {name: 0.6 * part + 0.8 * torch.randn(part.shape, generator=draw) for name, part in one.items()}
    x, y = sketch(one), sketch(other)
    assert float(x @ y / x.norm() / y.norm()) == pytest.approx(0.6, abs=3 / SKETCH**0.5)
    torch.testing.assert_close(sketch({name: -part for name, part in one.items()}), -x)


def test_one_direction_is_told_from_many():
    one, many = torch.eye(SKETCH, dtype=torch.float64)[:1], torch.eye(SKETCH, dtype=torch.float64)[:8]
    same = shared_direction(torch.cat([one, -2 * one, 3 * one, one, one, one, -one, one]))
    assert same == {"batches": 8, "share": pytest.approx(1.0), "against": 0.25}
    assert "2 of them pull the other way" in of_direction(same)
    assert "100% of what the 8 sampled batches pull along, where 12% would be" in of_direction(same)
    assert of_direction(shared_direction(one.repeat(4, 1))) == ""  # too few to tell
    assert shared_direction(many)["share"] == pytest.approx(1 / 8)
    assert of_direction(shared_direction(many)) == ""
    assert "All pull the same way" in of_direction(shared_direction(one.repeat(6, 1)))


# ── other settings ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["dpo", "cpo"])
def test_a_loss_of_means_weighs_by_one_over_the_length(name):
    w, l = torch.tensor([-4.0, -6.0]), torch.tensor([-5.0, -3.0])  # noqa: E741
    n_w, n_l = torch.tensor([2, 3]), torch.tensor([5, 4])
    loss = get_loss(name, **({} if name == "dpo" else {"alpha": 0.0}))
    d_w, d_l = averaged(loss).weights(PairLogps(w, l, w - 1, l + 2, n_w, n_l))
    means = PairLogps(w / n_w, l / n_l, (w - 1) / n_w, (l + 2) / n_l, n_w, n_l)
    plain = loss.weights(means)
    torch.testing.assert_close(d_w, plain[0] / n_w)
    torch.testing.assert_close(d_l, plain[1] / n_l)
    assert averaged(loss).length_normalized


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ((1, 2, 3), (1, 9, 3), ((7, 1), (2,), (9,))),
        ((1, 1, 1), (1, 1), ((7, 1), (1, 1), (1,))),
        ((2, 3), (1, 2, 3), ((7,), (2,), (1, 2))),
        ((1, 2), (3, 4), ((7,), (1, 2), (3, 4))),
    ],
)
def test_a_narrowed_pair_has_no_shared_tokens_but_one(chosen, rejected, expected):
    found = narrowed(EncodedPair((7,), chosen, rejected))
    assert (found.prompt, found.chosen, found.rejected) == expected


def test_a_narrowed_pair_has_the_log_probabilities_of_its_own_tokens(model):
    pair = EncodedPair((5, 6), (9, 10, 11, 12), (9, 20, 11, 12))
    with torch.no_grad():
        tokens = token_logps(model, padded([pair]))
        one, other = response_logps(model, padded([narrowed(pair)]))
    assert float(one[0]) == pytest.approx(float(tokens.chosen[0, 3]), rel=1e-9)
    assert float(other[0]) == pytest.approx(float(tokens.rejected[0, 3]), rel=1e-9)


def test_changes_that_are_tried():
    tried = changes_to_try(get_loss("dpo", beta=0.3), [1.01], shared=True)
    assert tried[0] == Change("as planned", "ratio")
    whats = [change.what for change in tried]
    assert "r = 1.0100" in whats
    assert [c.loss.hyper["beta"] for c in tried if "β" in c.what] == [0.6, 0.15]
    assert sum(change.masked for change in tried) == 1
    assert len(set(whats)) == len(whats)
    others = {c.loss.name for c in tried if c.what.startswith("loss ")}
    assert others <= set(list_losses()) - {"dpo"}
    assert len(others) >= 4
    without = changes_to_try(get_loss("simpo"), [], shared=False)
    assert not any(change.masked or "per token" in change.what for change in without)


def test_a_change_is_measured_at_the_planned_length_and_at_the_planned_margin(model, batches):
    loss, length = get_loss("dpo"), 2e-3
    held_out = [groups[0] for groups in batches]  # where the margin grows for certain
    walk = plan_walk(model, batches, loss, optimizer="sgd")
    options = dict(optimizer="sgd", walk=walk)
    planned = rehearse_change(model, batches, held_out, loss, Change("", "ratio"), length, **options)
    options["margin"] = planned["margin"]
    turned = rehearse_change(
        model, batches, held_out, loss, Change("r", "ratio", ratio=1.3), length, **options
    )
    table = sweep(model, walk, held_out, length, [1.0, 1.3])
    for found, row in zip((planned, turned), table.to_dict("records"), strict=True):
        assert (found["chosen"], found["rejected"]) == pytest.approx((row["chosen"], row["rejected"]))
    assert math.isnan(planned["times"])
    # A loss that gains more: at equal margin its step is shorter.
    other, wanted = Change("", "loss", loss=get_loss("dpo", beta=0.3)), 0.4 * planned["margin"]
    found = rehearse_change(model, batches, held_out, loss, other, length, optimizer="sgd", margin=wanted)
    assert found["margin"] > 1.1 * wanted > 0
    assert found["times"] < 0.9
    step, before = (
        plan_walk(model, batches, other.loss, optimizer="sgd").along(),
        response_table(model, held_out),
    )
    moved = response_table(model, held_out, step, length * found["times"]) - before
    chosen, rejected = moved.mean(dim=0).tolist()
    assert (found["even_chosen"], found["even_rejected"]) == pytest.approx((chosen, rejected))
    assert chosen - rejected == pytest.approx(wanted, rel=0.02)
    assert found["even_fall"] == float((moved[:, 0] < 0).double().mean())
    # A rate is a length: it has no other one.
    rate = rehearse_change(model, batches, held_out, loss, Change("", "rate", rate=2.0), length, **options)
    assert math.isnan(rate["times"])
    twice = response_table(model, held_out, walk.along(), 2 * length) - before
    assert rate["chosen"] == pytest.approx(float(twice[:, 0].mean()))
    # A margin that no length gains is not made up.
    far = options | {"margin": 1e6}
    found = rehearse_change(model, batches, held_out, loss, Change("", "ratio"), length, **far)
    assert all(math.isnan(found[name]) for name in ("times", "even_chosen", "even_rejected", "even_fall"))


# ── what pulls ────────────────────────────────────────────────────────────────────────────────────────


def test_what_no_batch_has_seen_does_not_drown_the_pulls(tiny_model, tokenizer):
    """Held-out responses of tokens that no batch has: in float32 the pulls are still those of float64."""
    loss, found = get_loss("dpo"), {}
    held = [collate([PreferencePair("what", " %#", " 12", "held")], tokenizer)]
    groups = [[collate(PAIRS[k : k + 2], tokenizer)] for k in range(0, 4, 2)]
    for dtype in (torch.float64, torch.float32):
        model = tiny_model("gpt2-untied", dtype)
        walk = plan_walk(model, groups, loss, max_grad_norm=None)
        found[dtype] = pulls(model, walk, [groups[0][0], groups[1][0]], held, loss)["pull"]
        step = walk.along()
        logp = response_logps(model, held[0])[0].mean()
        named = dict(model.named_parameters())
        gradient = torch.autograd.grad(logp, list(named.values()), allow_unused=True)
        rate = sum(float((g * step[n]).sum()) for n, g in zip(named, gradient, strict=True) if g is not None)
        assert found[dtype].mean() == pytest.approx(rate, rel=0.1 if dtype == torch.float32 else 1e-4)
    np.testing.assert_allclose(found[torch.float32], found[torch.float64], rtol=0.1)


def test_rows_that_fill_no_batch_are_held_out(model, tokenizer, file):
    report = audit(model, tokenizer, file, batch_size=3, geometry=0, compare=False, held_out=0.2)
    assert report.summary["held_out"] == 4  # of ten, two were to be; eight make two batches of three
    assert report.pairs["pull"].notna().sum() == 6


# ── the whole, by its options ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS]
    rows.append({"prompt": "a", "chosen": " b", "rejected": " b"})
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_tokens_at_a_time_change_the_memory_and_not_the_numbers(model, tokenizer, file):
    widths = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: widths[-1].append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    reports = []
    for n in (4096, 16):
        widths.append([])
        options = dict(batch_size=2, lr=1e-3, geometry=4, max_tokens=n, loss="ipo")
        reports.append(audit(model, tokenizer, file, **options))
    hook.remove()
    # No stage computes more at a time than the longest pair alone, its two rows padded alike.
    encoded = [encode(Comparison(p.prompt, p.chosen, p.rejected), tokenizer) for p in PAIRS]
    alone = max(2 * max(len(prompt + response) for prompt, response in pair.sides) for pair in encoded)
    assert max(widths[1]) <= alone < max(widths[0])
    for name in ("pairs", "ratios", "changes"):
        wanted, found = (getattr(report, name) for report in reports)
        for column in wanted.select_dtypes("number"):
            np.testing.assert_allclose(found[column], wanted[column], rtol=1e-5, atol=1e-9, err_msg=column)
        assert len(found) == len(wanted) > 0


def test_geometry_and_other_settings_are_there_or_not(model, tokenizer, file):
    without = audit(model, tokenizer, file, batch_size=2, geometry=0, compare=False)
    assert "cosine" not in without.pairs
    assert (without.summary["geometry"], without.summary["changes"]) == (None, [])
    assert list(without.rows["case"]) == [""] * 10 + ["equal"]
    assert "Other settings" not in str(without)
    both = audit(model, tokenizer, file, batch_size=2, geometry=3, calibration=(0.25, 0.5))
    assert both.pairs["cosine"].notna().sum() == 3
    assert (both.rows["case"] != "").sum() == 4
    assert both.summary["geometry"]["pairs"] == sum(both.summary["geometry"]["cases"].values()) == 3
    assert both.summary["changes"][0]["what"] == "as planned"
    assert both.summary["compared"]["train"] >= 2
    text = in_words(both.summary)
    assert "single pairs" in text
    assert "Other settings" in text
    assert "0.25 to 0.5 times" in text
    assert "are mostly too large" in str(without)


def test_what_is_trained_decides(model, tokenizer, file):
    options = dict(batch_size=2, geometry=2, compare=False, lr=1e-3)
    whole = audit(model, tokenizer, file, **options)
    for name, p in model.named_parameters():
        p.requires_grad_("ln_f" in name)
    part = audit(model, tokenizer, file, **options)
    again = audit(model, tokenizer, file, parameters="all", **options)
    left = [name for name, p in model.named_parameters() if p.requires_grad]
    assert left == ["transformer.ln_f.weight", "transformer.ln_f.bias"]
    np.testing.assert_array_equal(again.pairs["chosen_whole"], whole.pairs["chosen_whole"])
    held = part.pairs["held_out"]
    assert (part.pairs["chosen_whole"][held] - whole.pairs["chosen_whole"][held]).abs().min() > 0
    assert (part.pairs["a"] < whole.pairs["a"])[:2].all()
    with pytest.raises(ValueError, match="parameters='some'"):
        audit(model, tokenizer, file, parameters="some")
