"""What makes the tables of every grid: each key of a cell reaches the training, and so does its seed."""

import inspect
import json
import sys
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from entanglement.logps import PairLogps, response_logps
from entanglement.losses import get_loss
from entanglement.models import load_model
from entanglement.pairs import collate
from entanglement.training import align_plainly
from entanglement_book.grids.grid import GRIDS, SCALES, cell_name
from entanglement_book.grids.stored import folder_of, read_tables
from entanglement_book.machine import repository
from entanglement_book.provenance.graph import CodeGraph
from entanglement_book.studies.ch12_which_tokens import grid as masking
from entanglement_book.studies.shared import start, titles

#: Those of trainings. The others measure what a work takes by the clock; they have tests of their own.
NAMES = [name for name in GRIDS if not GRIDS[name].clocked]
KEYS = [(name, key) for name in NAMES for key in GRIDS[name].cells("smoke", "nano")[0]]
#: For keys that have one value among a grid's smoke cells: another one that it could have.
OTHERS = {"data": "one_token", "rate": 4.0, "network": "separate"}
TRAINING = ("align", "rank", "reinforce", "sft", "train_together", "train_vae")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a model of one narrow layer with the vocabulary of ``nano``: which number reaches what is
    the same in it, in a tenth of the time.
    """
    _, tokenizer = load_model("nano")
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128, "initializer_range": 0.1}
    ends = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
    config = GPT2Config(vocab_size=len(tokenizer), resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **sizes, **ends)
    folder = tmp_path_factory.mktemp("small")
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def cells(small):
    """Tables of smoke cells, the arguments of every training call, and the seeds of all that is drawn."""
    known = {}

    def compute(name, cell):
        where = (name, cell_name(cell))
        if where not in known:
            known[where] = spied(GRIDS[name], small, cell)
        return known[where]

    return compute


def spied(grid, model, cell):
    """Return a smoke cell's tables without the cell's columns, the arguments of its training calls, and
    (function, seed) of every call that was given a seed.
    """
    calls, seeds = [], []

    def watched(function):
        def call(*args, **kwargs):
            given = inspect.signature(function).bind(*args, **kwargs)
            seed = kwargs.get("seed", given.arguments.get("seed"))
            if (
                seed is not None and given.arguments.get("n", 1) is not None
            ):  # all there are: nothing is drawn
                seeds.append((function.__name__, seed))
            if function.__name__ in TRAINING:
                given.apply_defaults()
                calls.append({"function": function.__name__, **given.arguments})
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        own = sys.modules[grid.run_cell.__module__]
        runs = {f.__module__ for f in vars(own).values() if inspect.isfunction(f)}
        shared = [sys.modules[name] for name in sorted(runs) if name.endswith(".runs")]
        for module in (own, start, *shared):
            for name, function in vars(module).copy().items():
                if inspect.isfunction(function):
                    # A checkpoint that is kept would hide its own training call.
                    fresh = function.__wrapped__ if name == "checkpoint" else function
                    patch.setattr(module, name, watched(fresh))
        tables = grid.run_cell("smoke", model, cell)
    return dict(tables), calls, seeds


def pair_of(name, key):
    """Return two smoke cells that differ in this key alone; unless it is the seed, that is 1."""
    found = GRIDS[name].cells("smoke", "nano")
    for one, other in combinations(found, 2):
        apart = [k for k in one if one[k] != other[k]]
        if apart == [key] and (key == "seed" or one["seed"] == 1):
            return one, other
    assert key in OTHERS, f"no two cells of {name} differ in {key} alone; name another value in OTHERS"
    cell = next(cell for cell in found if cell["seed"] == 1)
    return cell, {**cell, key: OTHERS[key]}


def numbers(tables):
    """Return all numbers of some tables in one row; what is no number counts by its text."""
    texts = []
    for name in sorted(tables):
        texts.append(tables[name].round(12).to_csv(index=False))
    return "\n".join(texts)


@pytest.mark.parametrize(("name", "key"), KEYS)
def test_every_key_of_a_cell_reaches_the_numbers(cells, name, key):
    one, other = pair_of(name, key)
    assert numbers(cells(name, one)[0]) != numbers(cells(name, other)[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_training_call_gets_the_cells_seed(cells, name):
    for cell in pair_of(name, "seed"):
        calls = cells(name, cell)[1]
        assert calls, "no training call was seen"
        assert [call["seed"] for call in calls] == [cell["seed"]] * len(calls)


@pytest.mark.parametrize(("name", "key"), [*KEYS, ("controlling", "adversarial")])
def test_all_that_is_drawn_is_drawn_with_the_cells_seed(cells, name, key):
    adversarial = {"way": "adversarial", "goal": "none", "seed": 1}
    cell = adversarial if key == "adversarial" else pair_of(name, key)[1]
    _, calls, seeds = cells(name, cell)
    assert {called for called, _ in seeds} >= {call["function"] for call in calls}
    assert [(called, seed) for called, seed in seeds if seed != cell["seed"]] == []


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_measures_other_pairs_and_other_answers(cells, name):
    (_, one, drawn), (_, other, _) = (cells(name, cell) for cell in pair_of(name, "seed"))
    for mine, theirs in zip(one, other, strict=True):
        assert mine["function"] == theirs["function"]
        for which, pairs in (mine.get("evaluate") or {}).items():
            assert {p.prompt for p in pairs} != {p.prompt for p in theirs["evaluate"][which]}, which
    grid_draws = set(vars(sys.modules[GRIDS[name].run_cell.__module__])) & {"answer_quality", "answer_moves"}
    assert grid_draws <= {called for called, _ in drawn}


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_the_same_whatever_was_computed_before(cells, small, name):
    cell = pair_of(name, "seed")[1]
    assert numbers(GRIDS[name].run_cell("smoke", small, cell)) == numbers(cells(name, cell)[0])


@pytest.mark.parametrize("name", list(GRIDS))
def test_a_grid_says_what_it_is(name):
    grid = GRIDS[name]
    assert grid.name == name and grid.kept("smoke") == ("nano",) and 0 < grid.tolerance <= 0.02
    for scale in SCALES:
        for model in grid.kept(scale) or grid.models[:1]:
            found = grid.cells(scale, model)
            assert len({cell_name(cell) for cell in found}) == len(found)
            assert all(list(cell) == list(found[0]) for cell in found) and "seed" in found[0]
            described = grid.describe(scale, model)
            if name in NAMES:
                assert {"recipe", "model"} <= set(described) and described["model"] == model
            # Titles are printed and make no number.
            assert '"title"' not in json.dumps(described)


@pytest.mark.parametrize("name", list(GRIDS))
def test_the_stored_recipe_is_todays(name):
    grid = GRIDS[name]
    for scale in ("smoke", "book"):
        for model in grid.kept(scale):
            stored = read_tables(folder_of(repository(), name, scale, model)).provenance
            today = json.loads(json.dumps(grid.describe(scale, model)))
            keys = ("recipe", "model") if name in NAMES else ("works", "runs", "layer_runs", "weights")
            assert {key: stored[key] for key in keys} == {key: today[key] for key in keys}


@pytest.mark.parametrize("name", list(GRIDS))
def test_no_table_is_made_by_titles_tables_or_figures(name):
    roots = [(function.__module__, function.__name__) for function in GRIDS[name].roots]
    found = CodeGraph(repository() / "lib").fingerprint(roots, None)
    used = {part.partition(":")[0] for part in found.parts}
    assert titles.__name__ not in used
    assert not any(module.endswith((".tables", ".figures")) for module in used)
    assert GRIDS[name].run_cell.__module__ in used


# --- single grids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["itself", "batch"])
def test_the_goal_is_what_a_way_is_asked_for(cells, way):
    asked = {}
    for goal in ("apart", "rejected", "chosen"):
        tables, calls, _ = cells("controlling", {"way": way, "goal": goal, "seed": 1})
        loss = calls[-1]["loss"]
        d_w, d_l = loss.weights(at_the_reference())
        asked[goal] = (float(d_w[0]), float(-d_l[0]))
        assert tables["means"]["chosen"].abs().sum() > 0
    # At the reference the weights of ½(ϱ − t)² are the targets.
    assert asked == {"apart": (0.5, -0.5), "rejected": (0.0, -1.0), "chosen": (1.0, 0.0)}


def at_the_reference():
    """Return the log-probabilities of a pair under a model that is the reference."""
    value = torch.tensor([-2.0], dtype=torch.float64)
    return PairLogps(value, value, value, value)


def test_the_second_reference_is_trained_on_the_rejected_side(cells):
    cell = {"weights": "two", "seed": 1}
    calls = cells("masking", cell)[1]
    chosen, rejected = (call for call in calls if call["function"] == "sft")
    pairs = start.train_pairs("smoke", "nano", "sentiment", 1)
    assert [p.chosen for p in chosen["pairs"]] == [p.chosen for p in pairs]
    assert [p.chosen for p in rejected["pairs"]] == [p.rejected for p in pairs]
    assert [p.prompt for p in rejected["pairs"]] == [p.prompt for p in pairs]
    same = ("steps", "lr", "batch_size", "seed")
    assert {key: chosen[key] for key in same} == {key: rejected[key] for key in same}
    assert calls[-1]["function"] == "align" and calls[-1]["update"].weigher.other is not None
    assert masking.WEIGHERS[2] == "two"


# DPOP is left out: its penalty has a kink where training starts, and rounding decides the first step.
ORACLE = [
    ("dynamics", {"data": "sentiment", "loss": "dpo", "seed": 1}, {"loss": "dpo"}),
    ("dynamics", {"data": "sentiment", "loss": "rpo", "seed": 0}, {"loss": "rpo"}),
    (
        "knobs",
        {"data": "sentiment", "beta": 1.0, "rate": 4.0, "seed": 1},
        {"loss": get_loss("dpo", beta=1.0), "times": 4.0},
    ),
    ("untangling", {"update": "joint", "optimizer": "adamw", "rate": 0.25, "seed": 1}, {"times": 0.25}),
    (
        "untangling",
        {"update": "joint", "optimizer": "sgd", "rate": 1.0, "seed": 1},
        {"optimizer": "sgd", "lr": 0.01, "max_grad_norm": None},
    ),
    (
        "ratio",
        {"data": "sentiment", "optimizer": "sgd", "rate": 1.0, "ratio": 1.0, "seed": 1},
        {"optimizer": "sgd", "lr": 0.01, "max_grad_norm": None},
    ),
    ("untangling", {"update": "rpo", "optimizer": "adamw", "rate": 1.0, "seed": 1}, {"loss": "rpo"}),
    ("masking", {"weights": "everything", "seed": 1}, {}),
    ("controlling", {"way": "kto", "goal": "none", "seed": 1}, {"loss": "kto"}),
]


def on_a_blackboard(model, seed, *, times=1.0, **options):
    """Return the changes of both responses of the held-out pairs under the oracle's training."""
    numbers = start.recipe("smoke")
    policy, tokenizer, parameters = start.checkpoint("smoke", model, "sentiment", seed)
    policy.load_state_dict(parameters)
    test = start.data_pairs("sentiment", "test", numbers.test_pairs, seed)
    before = held_out(policy, tokenizer, test)
    settings = {"loss": "dpo", "lr": numbers.lr * times} | options
    train = start.train_pairs("smoke", model, "sentiment", seed)
    align_plainly(
        policy, tokenizer, train, steps=numbers.steps, batch_size=numbers.batch, seed=seed, **settings
    )
    return tuple(now - was for now, was in zip(held_out(policy, tokenizer, test), before, strict=True))


def at_the_end(tables):
    """Return the means over held-out pairs after the last step."""
    means = tables["means"]
    last = means[means["step"] == means["step"].max()]
    return (last[last["set"] == "test"] if "set" in last else last).iloc[0]


#: Nats. Two ways to add up float32 numbers end up to 1.5e-5 apart; a rate that is a tenth off moves chosen
#: and margin by 4e-4.
NEAR = 3e-5


@pytest.mark.parametrize(("name", "cell", "options"), ORACLE, ids=lambda value: str(value)[:40])
def test_a_table_is_that_of_the_training_on_a_blackboard(cells, small, name, cell, options):
    chosen, rejected = on_a_blackboard(small, cell["seed"], **options)
    row = at_the_end(cells(name, cell)[0])
    assert row["chosen"] == pytest.approx(float(chosen.mean()), abs=NEAR)
    assert row["rejected"] == pytest.approx(float(rejected.mean()), abs=NEAR)
    assert row["margin"] == pytest.approx(float((chosen - rejected).mean()), abs=NEAR)
    assert abs(row["margin"]) > 10 * NEAR  # or nothing would have been shown


@pytest.mark.parametrize("times", [0.9, 1.1])
def test_the_blackboard_tells_a_rate_that_is_a_tenth_off(cells, small, times):
    chosen, rejected = on_a_blackboard(small, 1, times=times)
    row = at_the_end(cells(*ORACLE[0][:2])[0])
    assert abs(row["chosen"] - float(chosen.mean())) > 2 * NEAR
    assert abs(row["margin"] - float((chosen - rejected).mean())) > 2 * NEAR


@torch.no_grad()
def held_out(model, tokenizer, pairs):
    found = [response_logps(model, collate([pair], tokenizer)) for pair in pairs]
    return tuple(torch.tensor([float(logps[side]) for logps in found]) for side in (0, 1))


def test_the_numbers_of_two_tables_differ_where_one_number_does():
    one = {"means": pd.DataFrame({"x": [1.0, np.nan]})}
    assert numbers(one) == numbers({"means": one["means"].copy()})
    assert numbers(one) != numbers({"means": pd.DataFrame({"x": [1.0 + 1e-9, np.nan]})})
