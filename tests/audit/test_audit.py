"""The audit: its direction against autograd, its steps against true ones, its words against its numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from entanglement.auditing import AuditReport, audit, plan_walk, rehearse, turning_number
from entanglement.auditing.alikeness import alikeness, edit_distance
from entanglement.auditing.grouping import by_tokens
from entanglement.auditing.page_figures import ticks
from entanglement.auditing.pulls import pulls, token_pulls
from entanglement.auditing.walk import stepped
from entanglement.auditing.wording import of_changes
from entanglement.cli import main
from entanglement.logps import pair_logps, response_logps
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.rows import Comparison, EncodedPair, encode

WORDS = ["film", "day", "people", "night", "town", "song", "road", "book"]
PAIRS = [PreferencePair(f"the {w} was", f" {g} and long", f" {b} and long", w)
         for w, (g, b) in zip(WORDS, [("good", "bad"), ("fine", "poor")] * 4, strict=True)]  # fmt: skip


@pytest.fixture
def model(tiny_model):
    return tiny_model("gpt2-tied")


@pytest.fixture
def batches(tokenizer):
    """Four batches of two pairs, each one group."""
    return [[collate(PAIRS[k : k + 2], tokenizer)] for k in range(0, 8, 2)]


@pytest.fixture
def held_out(tokenizer):
    more = [PreferencePair(f"a {w} is", " liked", " hated", f"held {w}") for w in WORDS[:4]]
    return [collate(more[:3], tokenizer), collate(more[3:], tokenizer)]


def _loss_gradient(model, batch, name="dpo", **hyper):
    """The gradient of the mean loss, by autograd, with the model as its own reference."""
    with torch.no_grad():
        reference = response_logps(model, batch)
    loss = get_loss(name, **hyper)(pair_logps(model, batch, reference)).mean()
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def _close(one, other):
    for name, part in other.items():
        torch.testing.assert_close(one[name], part, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "kto"])
def test_a_plain_walk_goes_down_the_mean_loss(model, batches, loss):
    walk = plan_walk(model, batches, get_loss(loss), optimizer="sgd", max_grad_norm=None)
    parts = [_loss_gradient(model, groups[0], loss) for groups in batches]
    _close(walk.along(), {name: -sum(part[name] for part in parts) / 4 for name in parts[0]})
    _close(walk.along(half="even"), {name: -(parts[0][name] + parts[2][name]) / 2 for name in parts[0]})
    _close(walk.along(half="odd"), {name: -(parts[1][name] + parts[3][name]) / 2 for name in parts[0]})


def test_groups_of_a_batch_make_no_difference(model, tokenizer):
    whole = [[collate(PAIRS[:4], tokenizer)], [collate(PAIRS[4:], tokenizer)]]
    cut = [[collate(PAIRS[:1], tokenizer), collate(PAIRS[1:4], tokenizer)], whole[1]]
    loss = get_loss("dpo")
    one, other = (plan_walk(model, given, loss, optimizer="sgd") for given in (cut, whole))
    _close(one.along(), other.along())


def test_clipping_weighs_batches_as_the_optimizer_sees_them(model, batches):
    parts = [_loss_gradient(model, groups[0]) for groups in batches]
    norms = [math.sqrt(sum(float(p.square().sum()) for p in part.values())) for part in parts]
    limit = sorted(norms)[1]  # two batches or three are longer
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=limit)
    factors = [min(1.0, limit / norm) for norm in norms]
    assert min(factors) < 1.0 == max(factors)
    expected = {
        name: -sum(part[name] * f for part, f in zip(parts, factors, strict=True)) / 4 for name in parts[0]
    }
    _close(walk.along(), expected)


def test_adamw_divides_by_the_root_mean_square_of_the_batches(model, batches):
    plain = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=None)
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="adamw", max_grad_norm=None)
    parts = [_loss_gradient(model, groups[0]) for groups in batches]
    for name, step in walk.along().items():
        root = (sum(part[name].square() for part in parts) / 4).sqrt()
        torch.testing.assert_close(step, plain.along()[name] / (root + 1e-8), rtol=1e-7, atol=1e-9)
        assert float(step.abs().max()) <= 1 + 1e-6  # a mean is no longer than its root mean square


def test_the_ratio_turns_the_two_sides(model, batches):
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=None)
    name = "transformer.wte.weight"
    chosen, rejected = (sum(side[name] for side in sides) / 2 for sides in (walk.chosen, walk.rejected))
    torch.testing.assert_close(walk.along(4.0)[name], 2 * chosen - rejected / 2)


def test_a_step_is_undone_to_the_bit_even_after_an_error(model, batches):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    walk = plan_walk(model, batches, get_loss("dpo"))
    with stepped(model, walk.along(), 0.1):
        assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    with pytest.raises(RuntimeError, match="on the way"), stepped(model, walk.along(), 0.1):
        raise RuntimeError("on the way")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


def test_fewer_than_two_batches_and_a_model_in_training_are_refused(model, batches):
    with pytest.raises(ValueError, match="batches=1; expected a whole number of at least 2"):
        plan_walk(model, batches[:1], get_loss("dpo"))
    model.train()
    with pytest.raises(ValueError, match=r"call model\.eval"):
        plan_walk(model, batches, get_loss("dpo"))


def test_the_first_order_is_the_inner_product(model, batches, held_out):
    """⟨g_i, D⟩ by autograd, response by response, against the step that was taken."""
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=None)
    step, length = walk.along(), 1e-3
    table = rehearse(model, walk, held_out, length)
    parameters = dict(model.named_parameters())
    row = 0
    for batch in held_out:
        for i in range(len(batch)):
            for side, logp in zip(("chosen", "rejected"), response_logps(model, batch), strict=True):
                found = torch.autograd.grad(logp[i], list(parameters.values()), retain_graph=True)
                rate = sum(float((g * step[n]).sum()) for n, g in zip(parameters, found, strict=True))
                assert table.loc[row, f"{side}_first"] == pytest.approx(length * rate, rel=1e-6)
                assert abs(rate) > 1e-6
            row += 1
    assert list(table["pair"]) == [name for batch in held_out for name in batch.ids]


def test_a_rehearsal_tells_what_plain_training_does(model, batches, held_out):
    """Forty small true steps, batch after batch, against one step of their length."""
    rate, steps = 2e-3, 40
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=None)
    table = rehearse(model, walk, held_out, rate * steps)
    before = torch.cat([torch.stack(response_logps(model, batch), 1) for batch in held_out]).detach()
    references = [tuple(x.detach() for x in response_logps(model, groups[0])) for groups in batches]
    for k in range(steps):
        batch, reference = batches[k % 4][0], references[k % 4]
        loss = get_loss("dpo")(pair_logps(model, batch, reference)).mean()
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            p.data.add_(g, alpha=-rate)
    after = torch.cat([torch.stack(response_logps(model, batch), 1) for batch in held_out]).detach()
    found = (after - before).numpy()
    told = table[["chosen_whole", "rejected_whole"]].to_numpy()
    assert np.abs(found).min() > 1e-4
    np.testing.assert_allclose(told, found, rtol=0.1, atol=0.02 * np.abs(found).max())


def test_what_the_halves_disagree_on_is_left_open(model, batches, held_out):
    table = rehearse(model, plan_walk(model, batches, get_loss("dpo")), held_out, 1e-3)
    for side in ("chosen", "rejected"):
        signs = np.sign(table[[f"{side}_{name}" for name in ("first", "whole", "even", "odd")]].to_numpy())
        agree = (signs == signs[:, :1]).all(axis=1)
        assert (table[f"{side}_says"] == np.where(agree, signs[:, 0], 0)).all()


def test_at_its_number_the_mean_response_stays(model, batches, held_out):
    walk = plan_walk(model, batches, get_loss("dpo"), optimizer="sgd", max_grad_norm=None)
    number = turning_number(model, walk, held_out, 0.05)
    before = torch.cat([torch.stack(response_logps(model, batch), 1) for batch in held_out]).mean(0)
    found = 0
    for side, ratio in enumerate((number.chosen, number.rejected)):
        if math.isnan(ratio):
            continue
        found += 1
        for factor, sign in ((1.0, 0), (1.05, 1), (1 / 1.05, -1)):
            with stepped(model, walk.along(ratio * factor), 0.05):
                parts = [torch.stack(response_logps(model, batch), 1) for batch in held_out]
            change = float((torch.cat(parts).mean(0) - before)[side].detach())
            assert np.sign(change) == sign or (sign == 0 and abs(change) < 1e-5)
    assert found


# ── alikeness and groups ──────────────────────────────────────────────────────────────────────────────


def _levenshtein(one, other):
    if not one or not other:
        return len(one) + len(other)
    return min(
        _levenshtein(one[1:], other) + 1,
        _levenshtein(one, other[1:]) + 1,
        _levenshtein(one[1:], other[1:]) + (one[0] != other[0]),
    )


@pytest.mark.parametrize("seed", range(20))
def test_edit_distance(seed):
    draw = np.random.default_rng(seed)
    one, other = (list(map(int, draw.integers(0, 3, draw.integers(0, 6)))) for _ in range(2))
    assert edit_distance(one, other) == _levenshtein(one, other)


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ((1, 2, 3), (1, 9, 3), (1, 1, 1)),
        ((1, 1, 1), (1, 1), (2, 0, 1)),
        ((1, 2), (3, 4), (0, 0, 2)),
        ((1, 2, 3, 4), (2, 3, 4), (0, 3, 1)),
    ],
)
def test_alikeness_counts_no_token_twice(chosen, rejected, expected):
    found = alikeness(EncodedPair((7,), chosen, rejected))
    assert (found["prefix"], found["suffix"], found["edits"]) == expected


def test_groups_keep_to_the_memory():
    pairs = [EncodedPair((1,) * n, (2,), (3,)) for n in (5, 1, 30, 2, 2, 9)]
    groups = by_tokens(pairs, 24)
    assert sorted(i for group in groups for i in group) == list(range(6))
    for group in groups:
        assert len(group) == 1 or 2 * len(group) * (max(len(pairs[i].prompt) for i in group) + 1) <= 24
    assert len(groups) < 6


# ── from a file to its findings ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in PAIRS] * 2
    rows.append({"prompt": "a", "chosen": " b", "rejected": " b"})
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken")
    return path


def test_an_audit(model, tokenizer, file, tmp_path):
    report = audit(model, tokenizer, file, batch_size=2, lr=1e-3, seed=1)
    assert isinstance(report, AuditReport)
    assert report.summary["verdicts"] == {"bad_json": 1, "identical": 1, "duplicate": 8, "ok": 8}
    assert (report.summary["rows"], report.summary["trained"], report.summary["held_out"]) == (18, 16, 4)
    assert report.summary["run"]["steps"] == 24  # three epochs of 16 pairs, two a step
    held = report.pairs[report.pairs["held_out"]]
    shares = report.summary["chosen"]
    assert shares["fall"] + shares["rise"] + shares["undecided"] == pytest.approx(1)
    assert shares["change"] == pytest.approx(held["chosen_whole"].mean())
    assert held["chosen_logp"].notna().all()
    assert report.pairs.loc[~report.pairs["held_out"], "chosen_whole"].isna().all()
    parts = report.pairs.loc[~report.pairs["held_out"]]
    np.testing.assert_allclose(parts["from_chosen"] + parts["from_rejected"], parts["pull"])
    assert [row["pull"] for row in report.worst] == sorted(parts["pull"])[: len(report.worst)]
    for row in report.worst:  # the tokens' parts add up to the row's
        assert sum(pull for side in ("chosen", "rejected") for _, pull in row[side]) == pytest.approx(
            row["pull"]
        )
    assert report.ratios["ratio"].is_monotonic_increasing
    at_one = report.ratios[np.isclose(report.ratios["ratio"], 1)].iloc[0]
    assert (at_one["chosen"], at_one["rejected"]) == pytest.approx(report.summary["number"]["at_one"])
    text = str(report)
    assert "18 rows, of which 16" in text
    assert "bad_json: the row could not be read" in text
    paths = report.write(tmp_path / "out")
    assert {path.name for path in paths} == {
        *(f"{name}.{kind}" for name in ("rows", "pairs", "ratios", "changes") for kind in ("csv", "parquet")),
        "report.json", "report.schema.json", "report.txt", "report.html",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "report.json").read_text())["trained"] == 16
    first = [path.read_bytes() for path in paths]
    audit(model, tokenizer, file, batch_size=2, lr=1e-3, seed=1).write(tmp_path / "out")
    assert [path.read_bytes() for path in paths] == first


def test_each_held_out_row_has_its_own_numbers(model, tokenizer, file):
    """Pairs are measured in groups by length; the numbers come back to their rows."""
    report = audit(model, tokenizer, file, batch_size=2, held_out=0.5, max_tokens=64, compare=False)
    rows = [json.loads(line) for line in file.read_text().splitlines()[:17]]
    for _, row in report.pairs[report.pairs["held_out"]].iterrows():
        pair = rows[row["place"] - 1]
        text = PreferencePair(pair["prompt"], pair["chosen"] + "<|endoftext|>", pair["rejected"])
        ids = encode(Comparison(text.prompt, text.chosen, text.rejected), tokenizer)
        alone = torch.tensor([[*ids.prompt, *ids.chosen]])
        with torch.no_grad():
            logps = model(alone).logits.log_softmax(-1)[0, :-1].gather(1, alone[0, 1:, None])[:, 0]
        assert row["chosen_logp"] == pytest.approx(float(logps[len(ids.prompt) - 1 :].sum()), rel=1e-6)


def test_strict_stops_at_the_first_row_that_is_not_sound(model, tokenizer, file):
    with pytest.raises(ValueError, match="row 17 is identical"):
        audit(model, tokenizer, file, strict=True)


def test_too_few_rows_have_verdicts_and_no_rehearsal(model, tokenizer, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text('{"prompt": "a", "chosen": " b", "rejected": " c"}\n')
    report = audit(model, tokenizer, path)
    assert report.summary["number"] is None
    assert "Too few rows" in str(report)


SAID = {
    "schema": 2, "rows": 9, "equal": 0, "sharpness": {"chosen": 0.31, "rejected": 0.3},
    "direction": None, "geometry": None, "changes": [], "compared": None, "calibration": None,
    "verdicts": {"ok": 9}, "trained": 9, "sampled": 8, "held_out": 2,
    "run": {"steps": 3, "optimizer": "adamw", "loss": "dpo", "lr": 1e-6, "batch_size": 2},
    "chosen": {"change": -0.5, "rise": 0.25, "fall": 0.5, "undecided": 0.25},
    "rejected": {"change": -1.5, "rise": 0.0, "fall": 1.0, "undecided": 0.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        (
            1.002,
            1.008,
            [
                "r = 1.0050 instead of 1",
                "chosen_scores - 0.9950 * rejected_scores",
                "grows by +0.70 nats then, and by +1.00 nats at r = 1 (70% of it)",
                "0.6% apart, and 1% more of r moves the chosen response by +0.31",
            ],
        ),
        (0.99, 1.02, ["Leave the ratio at 1", "0.9900", "1.0200"]),
        (1.02, 1.01, ["none parts the two", "1.0200", "1.0100"]),
        (math.nan, 1.01, ["No ratio of the two weights helps", "mean chosen response falls at every one"]),
        (1.01, math.nan, ["No ratio of the two weights helps", "mean rejected response falls at every one"]),
    ],
)
def test_the_words_follow_the_number(chosen, rejected, words):
    number = {"chosen": chosen, "rejected": rejected, "at_one": (-0.5, -1.5), "between": (0.3, -0.4)}
    text = str(AuditReport(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), [], SAID | {"number": number}))
    one_line = " ".join(text.split())  # lines break where a terminal ends
    for word in words:
        assert word in one_line
    assert "chosen: \u22120.50 nats in the mean; 50% will fall, 25% will rise" in text


def test_the_command(file, tmp_path, capsys):
    given = [
        "audit",
        "--data",
        str(file),
        "--sample",
        "8",
        "--steps",
        "4",
        "--lr",
        "1e-5",
        "--batch-size",
        "2",
        "--no-compare",
        "--geometry",
        "2",
    ]
    assert main([*given, "--beta", "0.2", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "rows of the shape explicit" in out
    assert "report.json" in out
    assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["hyper"] == {"beta": 0.2}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--format", "explicite"], "Did you mean 'explicit'?"),
        (["--loss", "dop"], "loss 'dop' is not known"),
        (["--optimizer", "adam"], "optimizer='adam'"),
        (["--data", "nowhere.jsonl"], "No such file"),
        (["--strict"], "row 17 is identical"),
    ],
)
def test_what_a_user_got_wrong_is_one_line(file, options, error, capsys):
    status = main(["audit", "--data", str(file), *options])
    told = capsys.readouterr().err
    assert status in (1, 2)
    assert error in told
    assert "Traceback" not in told


# ── pulls ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_pulls_add_up_to_the_rate_of_the_held_out_chosen(model, batches, held_out, optimizer):
    """⟨mean held-out chosen gradient, D⟩ by autograd is the mean of the rows' pulls."""
    loss = get_loss("dpo")
    walk = plan_walk(model, batches, loss, optimizer=optimizer, max_grad_norm=None)
    groups = [groups[0] for groups in batches]
    table = pulls(model, walk, groups, held_out, loss)
    parameters = dict(model.named_parameters())
    chosen = torch.cat([response_logps(model, batch)[0] for batch in held_out]).mean()
    gradient = torch.autograd.grad(chosen, list(parameters.values()))
    step = walk.along()
    rate = sum(float((g * step[n]).sum()) for n, g in zip(parameters, gradient, strict=True))
    assert table["pull"].mean() == pytest.approx(rate, rel=1e-4)
    assert list(table["pair"]) == WORDS
    tokens = token_pulls(model, walk, groups, held_out, loss)
    whole = torch.cat([part.sum(dim=2) for part in tokens], dim=1)
    np.testing.assert_allclose(whole[0] + whole[1], table["pull"])
    for part, group in zip(tokens, groups, strict=True):
        outside = ~group.response_mask.view(2, len(group), -1)
        assert float(part[outside].abs().max()) == 0
    assert table["pull"].min() < 0 < table["pull"].max() or table["pull"].abs().min() > 0


def test_a_row_that_is_turned_round_pulls_the_other_way(model, batches, held_out, tokenizer):
    loss = get_loss("dpo")
    walk = plan_walk(model, batches, loss, optimizer="sgd", max_grad_norm=None)
    turned = [PreferencePair(p.prompt, p.rejected, p.chosen, p.id) for p in PAIRS]
    one, other = (
        pulls(model, walk, [collate(some, tokenizer)], held_out, loss)["pull"] for some in (PAIRS, turned)
    )
    np.testing.assert_allclose(one, -other, rtol=1e-6)


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_holds_what_the_file_said_and_runs_none_of_it(model, tokenizer, tmp_path):
    """Texts are somebody else's: none of them becomes part of the page."""
    path = tmp_path / "pairs.jsonl"
    evil = "<script>alert(1)</script>"
    rows = [{"prompt": f"{w} {evil}", "chosen": f" a{evil}", "rejected": f" b {w}"} for w in WORDS]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    report = audit(model, tokenizer, path, batch_size=2, max_length=60, compare=False)
    report.write(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<path class=") == report.summary["held_out"]


def test_a_page_without_a_rehearsal(model, tokenizer, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text('{"prompt": "a", "chosen": " b", "rejected": " c"}\n{broken')
    audit(model, tokenizer, path).write(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Too few rows" in page
    assert "bad_json" in page


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.999, 1.0061), (-250.0, 3.0), (0.0, 1e-6)])
def test_ticks_are_few_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low <= tick <= high for tick in found)


@pytest.mark.parametrize("even", [math.nan, 0.2])
def test_a_margin_that_the_few_rows_do_not_gain_is_said(even):
    row = {"what": "as planned", "chosen": -3.4, "rejected": -2.5, "even_chosen": even}
    text = of_changes({"changes": [row], "compared": {"train": 32, "held_out": 32}})
    assert ("gains no margin" in text) == (even != 0.2)
