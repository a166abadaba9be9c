"""Every public function and constructor of ``entanglement`` refuses what it cannot mean, or answers rightly.

A valid call of each is made of small arguments, which are found by the names of the parameters. Then one
argument after the other is replaced by something else. What comes must be a ValueError or a TypeError that
was raised in this library and names the argument, or a right answer: nothing in it is nan or infinite.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import math
import pkgutil
import re
import tarfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import fields
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import entanglement
from entanglement.archive import DataError
from entanglement.auditing import plan_walk
from entanglement.auditing.changes import Change
from entanglement.cli import app
from entanglement.files import sha256
from entanglement.geometry import PairGeometry
from entanglement.gradients import flat_gradients, token_geometry
from entanglement.logps import pair_logps, response_logits, token_logps
from entanglement.losses import get_loss, loss_spec
from entanglement.outcomes.steps import model_steps, small_steps, step_ladder
from entanglement.outcomes.turning import mean_gradients
from entanglement.pairs import PreferencePair, collate
from entanglement.ranking import RankedList
from entanglement.rewards import METHODS, RewardModel, draw_answers
from entanglement.rows import Comparison, EncodedPair, Row
from entanglement.sampling import continue_ids
from entanglement.shared_prompt import quick_logps
from entanglement.training import Trajectory
from entanglement.updates import get_rule, get_update
from entanglement.updates.base import Watch

LIBRARY = Path(entanglement.__file__).parent

#: Parts of the machine: other modules of ours call them in the midst of a pass, thousands of times. What goes
#: into them is checked where it comes in, and a check of their tensors would cost and tell nobody anything.
#: The checks themselves are called when modules are imported.
MACHINERY = (
    "auditing.advice",
    "auditing.kept",
    "auditing.page",
    "auditing.said",
    "auditing.several",
    "auditing.summing_up",
    "auditing.time_left",
    "auditing.wording",
    "auditing.worst_rows",
    "checks",
    "gradients.inner",
    "gradients.layers",
    "gradients.prepare",
    "gradients.tape",
    "gradients.uncovered",
    "loglinear._exact",
    "objectives.by_rules",
    "objectives.cone",
    "objectives.reading",
    "objectives.values",
    "signatures",
    "updates.halves",
    "uses",
    "warn",
)
#: Records that the library hands out and nobody hands in; they hold what they are given.
HANDED_OUT = (
    "AuditReport", "Change", "Drawn", "GapTerms", "Interval", "Judged", "LoadedModel", "LogReading", "Number",
    "Plan", "PrefixTerms", "Reached", "Read", "Sample", "SteppedPair", "Turns", "VirtualStep",
)  # fmt: skip

INFINITE = "an answer that is not finite"
#: Answers that are not finite for some values of an argument, and right, as their docstrings say.
NOT_FINITE = {
    ("geometry.as_float64", "value"): "says what is no number, not more",
    ("losses.token_level.tdpo", "chosen_kl"): "a loss of nan is nan, and training stops there",
    ("losses.token_level.tdpo", "rejected_kl"): "a loss of nan is nan, and training stops there",
    ("outcomes.quality.distinct", "answers"): "nan without n-grams",
    ("outcomes.quality.repeated", "answers"): "nan without tokens",
    ("updates.pair_rules.balanced", "d_w"): "what cannot be balanced stays",
    ("updates.pair_rules.balanced", "d_l"): "what cannot be balanced stays",
}
#: Answers that are not finite in an ordinary call.
NEVER_FINITE = {
    "auditing.changes.averaged": "a loss's hyper-parameters have ends, which may be infinite",
    "auditing.changes.rehearse_change": "no planned margin, so nothing at it",
    "auditing.running.audit": "pairs that give the gradient are not rehearsed",
    "losses.base.Hyper": "an end may be infinite",
    "losses.base.Loss": "holds hyper-parameters, whose ends may be infinite",
    "losses.base.get_loss": "the same",
    "losses.base.loss_spec": "the same",
    "losses.base.loss_specs": "the same",
    "outcomes.steps.small_steps": "no bound for a model",
    "outcomes.steps.step_ladder": "no bound for a model",
    "outcomes.turning.first_order_turns": "no step, so no length and no margin",
    "rewards.learning.reinforce": "no share of good answers where none is better than the others",
    "training.measure.measure": "what was not measured is missing",
    "updates.base.StepReport": "the norm is nan before it is known",
    "updates.decoupled.Decoupled": "a budget may be infinite",
}
#: Arguments that may be anything: others make something of them.
ANYTHING = {
    ("objectives.objective_geometry", "batch"): "whatever the objectives take",
    ("objectives.oracle.objective_gradients", "batch"): "whatever the objectives take",
    ("rows.shapes.Comparison", "tools"): "whatever a chat template takes",
}
#: What is looked up by name is called by its kind in the message.
CALLED = {
    "data": "data|source",
    "probe": "probe|source|value|rows",
    "name": "loss|update|model|name|model_facts|method",
    "path": "path|model",
    "rule": "rule|aggregation",
    "at": "at|evaluate_at",
    "n_pairs": "n_pairs|pairs",
}
JUNK = {
    "nan": math.nan,
    "inf": math.inf,
    "minus inf": -math.inf,
    "negative": -1,
    "fraction": 0.5,
    "zero": 0,
    "huge": 10**400,
    "true": True,
    "nothing": None,
    "empty text": "",
    "text": "no such thing",
    "empty list": [],
    "empty table": {},
    "list of nothing": [None],
    "empty tensor": torch.zeros(0),
    "tensor of nan": torch.full((2,), math.nan),
    "frame": pd.DataFrame(),
    "object": object(),
}


_NO_NUMBER = ("empty text", "text", "empty list", "empty table", "list of nothing", "empty tensor", "frame")
#: Annotation → what is plainly of another kind, and refused also where it would do no harm.
OTHER_KINDS = {
    "int": (*_NO_NUMBER, "fraction", "nan", "inf", "true"),
    "float": (*_NO_NUMBER, "true"),
    "bool": (*_NO_NUMBER, "fraction", "nan", "negative"),
    "str": (*_NO_NUMBER[2:], "fraction", "nan", "negative", "true"),
}


def public():
    """Yield (short name, callable) of all functions and classes that stand in an ``__all__``."""
    for found in pkgutil.walk_packages(entanglement.__path__, "entanglement."):
        short = found.name.removeprefix("entanglement.")
        if short.startswith(MACHINERY):
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not (inspect.isclass(thing) or inspect.isfunction(thing)) or thing.__module__ != found.name:
                continue
            if name not in HANDED_OUT and not (inspect.isclass(thing) and issubclass(thing, BaseException)):
                yield f"{short}.{name}", thing


PUBLIC = dict(public())


class Stage:
    """Small valid arguments, by the name of the parameter; ``one.of(callable, name)``."""

    def __init__(self, make, tokenizer, folder):
        self.pairs = [
            PreferencePair("the film was", " good", " bad and", "film"),
            PreferencePair("what a day", " the people liked it", " the people", "day"),
        ]
        self.model, self.tokenizer, self.folder = make("gpt2-tied"), tokenizer, folder
        self.other = make("gpt2-tied", seed=1)
        self.batch = collate(self.pairs, tokenizer, padding_side="left")
        model, batch = self.model, self.batch
        one = batch.select(0)
        rows = dict(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids,
            response_mask=batch.response_mask,
        )  # fmt: skip
        with torch.no_grad():
            logps, tokens = pair_logps(model, batch, self.other), token_logps(model, batch)
            logits = response_logits(model, *rows.values())
            other_logits = response_logits(self.other, *rows.values())
        ladder = step_ladder(model_steps(model, one))
        geometry = PairGeometry([2.0, 3.0], [1.0, 2.0], [0.5, -0.5], ("a", "b"))
        whole = token_geometry(model, one)
        two, ids = torch.ones(2, dtype=torch.float64), torch.tensor([[0, 1], [2, 0]])
        self.by_name = rows | dict(
            model=model, before=model, after=self.other, reference=self.other, ref=self.other,
            other=self.other, tokenizer=tokenizer, pairs=self.pairs, batch=batch, batches=[batch],
            append_eos=False, seed=0, lr=1e-3, steps=2, batch_size=2, geometry_pairs=1, max_grad_norm=1.0,
            step=1, warmup=0.1, n=3, vocab=4, tokens=2, length=2, prompts=["the film", "a day"],
            answers=[[1, 2, 1], [3]], name="dpo", chosen=two, rejected=two, geometry=geometry, d_w=two,
            d_l=two, loss=get_loss("dpo"), watch=Watch(), sets={"seen": self.pairs}, moments={0, 1},
            at=[0, 1], title="a title", text="text", prompt="what", ladder=ladder,
            small=small_steps(ladder), path=folder / "file.txt", folder=folder, about="one line",
            values=[1.0, 2.0, 4.0], measured=two.bool(), logits=logits.logits, ids=ids,
            mask=torch.ones_like(ids), optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            update=get_update("joint"), observers=[], ratio=two, rule=get_rule("band"),
            weigher=lambda *_: two, function=lambda *_: two, safe=True, make=lambda: get_update("joint"),
            where="here", selected=dict(model.named_parameters()), run=lambda: two, data=b"data",
            content="text", table=pd.DataFrame(), losses=two, n_pairs=2, what="loss", suffix=2, draws=3,
            value=1.0, source="", formula="", form="strict", needs_reference=True, default=0.1,
            spec=loss_spec("dpo"), hyper={"beta": 0.1}, successes=1, by=["group"], chosen_kl=two,
            rejected_kl=two, policy=tokens, plain={}, grads={}, logp=0.0, gram=torch.eye(2),
            objectives=lambda m, b: torch.stack(quick_logps(m, one), dim=1),
        )  # fmt: skip
        weight, state = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
        sequence = dict(
            weight=weight, chosen_features=state, chosen=ids, rejected_features=state, rejected=ids + 1
        )
        token = dict(chosen=torch.tensor([0, 1]), rejected=torch.tensor([2, 3]))
        vector = flat_gradients(model, one)[0][0]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            info = tarfile.TarInfo("folder/data.txt")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
        (folder / "file.txt").write_text("text")
        fewer = {"batch": one}
        frozen = (logps.ref_chosen, logps.ref_rejected)
        chance = dict(function=lambda *_: two)
        self.by_callable = {
            "archive.fetch_package": dict(
                requirement="a==1", digest=sha256(b"data"), download=lambda *_, **__: b"data"
            ),
            "archive.read_tar_member": dict(archive=archive.getvalue(), suffix=".txt"),
            "bounded.bounded_interval": dict(high=8.0),
            "bounded.clustered_share": dict(successes=[1, 2], trials=[3, 3]),
            "bounded.summarize_bounded": dict(
                table=pd.DataFrame({"group": [0, 0], "seed": [1, 2], "x": [1.0, 2.0]}), value="x", high=4.0
            ),
            "cli.run_app": dict(app=app, name="entanglement", arguments=["models"]),
            "cli.main": dict(arguments=["models"]),
            "contrast.info_nce": dict(
                anchors=torch.eye(2), candidates=torch.eye(2), positives=torch.tensor([0, 1])
            ),
            "files.write_all": dict(contents={folder / "file.txt": "a"}),
            "files.write_json": dict(path=folder / "file.json", content={"a": 1}),
            "geometry.PairGeometry": dict(chosen_sq=two, rejected_sq=two, inner=two, ids=("a", "b")),
            "geometry.as_float64": dict(value=[1.0], name="value"),
            "gradients.token_geometry": fewer,
            "gradients.fast.token_geometry": fewer,
            "gradients.naive.token_geometry": fewer,
            "gradients.directions.directional_change": dict(direction=vector),
            "gradients.directions.flatten": dict(values=dict(model.named_parameters())),
            "gradients.directions.unflatten": dict(vector=vector),
            "gradients.tokens.TokenGeometry": {f.name: getattr(whole, f.name) for f in fields(whole)},
            "loglinear.one_token.OneToken": dict(logits=torch.randn(2, 4), **token),
            "loglinear.one_token.TrainableOneToken": dict(weight=weight, features=state[:, 0], **token),
            "loglinear.sequence.LogLinear": sequence,
            "loglinear.tabular.PositionTabular": sequence,
            "loglinear.tabular.PrefixTabular": sequence,
            "logps.TokenLogps": {f.name: getattr(tokens, f.name) for f in fields(tokens)},
            "logps.ResponseLogits": {f.name: getattr(logits, f.name) for f in fields(logits)},
            "losses.base.Hyper": dict(name="beta"),
            "losses.base.Loss": dict(hyper={"beta": 0.1}),
            "losses.base.LossSpec": dict(hyper=()),
            "losses.base.declare_loss": dict(name="another"),
            "losses.goals.goal_loss": dict(chosen=1.0, rejected=-1.0),
            "losses.token_level.ld_dpo": dict(reference=tokens),
            "losses.token_level.ld_logps": dict(reference=tokens),
            "losses.token_level.position_kl": dict(policy=logits, reference=other_logits),
            "losses.token_level.tdpo": dict(logps=logps),
            "models.KnownModel": dict(folder=lambda name: folder),
            "models.about_model": dict(name="nano"),
            "models.check_model_name": dict(name="nano"),
            "models.check_model_folder": dict(path=LIBRARY / "checkpoints" / "nano"),
            "models.load_model": dict(name="nano"),
            "models.model_facts": dict(name="nano"),
            "objectives.aggregation.aggregate": dict(rule="upgrad"),
            "objectives.gradnorm.gradnorm": dict(weights=two, norms=two, first=two),
            "optimizers.make_optimizer": dict(optimizer="sgd"),
            "outcomes.squeezing.first_difference": dict(chosen=[1, 2], rejected=[1, 3]),
            "outcomes.steps.log_linear_steps": dict(pairs=self._log_linear()),
            "outcomes.steps.model_steps": dict(d_w=1.0, d_l=1.0),
            "outcomes.steps.step_ladder": dict(pairs=list(model_steps(model, one))),
            "outcomes.steps.case_of_changes": dict(chosen=[1.0, -1.0], rejected=[-1.0, 1.0]),
            "pairs.PairBatch": {f.name: getattr(batch, f.name) for f in fields(batch)},
            "pairs.PreferencePair": dict(chosen=" good", rejected=" bad"),
            "ranking.ordering.rank": dict(steps=1, batch_size=1),
            "ranking.lists.RankedList": dict(candidates=("a", "b"), relevance=(1.0, 0.0)),
            "ranking.losses.Ranking": dict(name="ranknet", beta=0.1),
            "ranking.losses.get_ranking": dict(name="ranknet"),
            "sampling.Continuations": dict(input_ids=ids, attention_mask=torch.ones_like(ids), tokens=1),
            "sampling.continuation_logps": dict(some=continue_ids(model, ids, torch.ones_like(ids), 2)),
            "stats.share_interval": dict(n=3),
            "stats.summarize": dict(
                table=pd.DataFrame({"group": [0, 0], "seed": [1, 2], "x": [1.0, 2.0]}), value="x"
            ),
            "training.account.StepAccount": dict(before={}),
            "training.observers.Account": dict(pairs=1),
            "training.stepping.step_on": dict(
                loss=torch.ones((), requires_grad=True), stepper=torch.optim.SGD(model.parameters(), lr=0.0)
            ),
            "training.align.align": dict(steps=1, batch_size=2),
            "training.sft.sft": dict(steps=1, batch_size=2),
            "training.trajectory.Trajectory": dict(losses=pd.DataFrame()),
            "updates.adversarial.drawn_batch": dict(seed=0),
            "updates.base.StepReport": dict(losses=two),
            "updates.base.Work": dict(reference=frozen),
            "updates.base.get_update": dict(name="band"),
            "updates.weighted.get_rule": dict(name="band"),
            "updates.weighted.by_rule": chance,
            "updates.plans.plan": dict(chosen=0.1, rejected=-0.1),
            "updates.plans.reach": fewer | dict(chosen=0.01, rejected=-0.01, max_steps=2),
            "updates.rule.Rule": chance,
            "updates.token_weights.everything": dict(reference=tokens),
            "updates.token_weights.contrasting": dict(reference=tokens),
            "updates.token_weights.safe_token_weights": dict(geometry=whole),
            "updates.token_weights.TwoReferences": dict(other=self.other),
            "updates.token_weighted.TokenWeighted": dict(reference=None),
        }
        means = mean_gradients(model, tokenizer, self.pairs)
        sides = dict(chosen=means.chosen, rejected=means.rejected)
        self.by_callable |= {
            "outcomes.turning.MeanGradients": sides,
            "outcomes.turning.turning_point": dict(change=lambda ratio: ratio - 1.5),
            "outcomes.turning.virtual_step": dict(step=means.chosen, length=0.01),
            "outcomes.turning.turns": dict(gradients=means, length=0.01),
            "outcomes.turning.first_order_turns": dict(gradients=means, held_out=means),
        }
        self.by_callable["outcomes.steps.plain_step"] = dict(d_w=1.0, d_l=1.0)
        answers = draw_answers(model, tokenizer, ["the film", "a day"], group=2, tokens=2, seed=0)
        table, rewards = torch.ones(4, 2, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)
        self.by_name |= dict(
            answers=self.by_name["answers"], group=2, method="grpo", rewards=rewards, scores=rewards,
            advantages=table, old=-table, targets=table, log_ratios=table, beta=0.1, level="token",
            average="tokens", reward=RewardModel(model), gram=torch.eye(4), credit=METHODS["grpo"].credit,
            penalty="k3",
        )  # fmt: skip
        rows = dict(values=table, mask=table, rewards=table, logps=-table, reference=-table)
        self.by_callable |= {
            f"rewards.{name}": rows
            for name in (
                "advantages.generalized_advantages", "advantages.masked_mean", "advantages.token_rewards",
                "advantages.whitened", "policy_losses.clipped_loss", "policy_losses.clipped_share",
                "policy_losses.falls", "policy_losses.k3", "policy_losses.mean_of",
                "policy_losses.value_loss",
            )
        }  # fmt: skip
        self.by_name |= dict(
            lists=[RankedList("the film", (" good", " bad"), (1.0, 0.0))], texts=[[" a", " b"]] * 2
        )
        drawn = {f.name: getattr(answers, f.name) for f in fields(answers)}
        own = dict(answers=answers, advantages=table)
        self.by_callable |= {
            "rewards.answers.Answers": drawn,
            "rewards.answers.read_answers": own,
            "rewards.bradley_terry.train_reward": dict(steps=1, batch_size=2),
            "rewards.group_gram.GroupGram": dict(logps=rewards),
            "rewards.group_gram.answer_gradients": own,
            "rewards.group_gram.group_gram": own,
            "rewards.learning.method_loss": rows | dict(method=METHODS["grpo"]),
            "rewards.learning.reinforce": dict(
                steps=1, batch_size=2, group=2, tokens=2, reward=lambda some: some.lengths.float()
            ),
            "rewards.methods.Method": dict(values=False),
            "rewards.methods.get_method": dict(name="ppo"),
            "rewards.negative_tokens.constant_weights": own,
            "rewards.negative_tokens.hidden_weights": own,
            "rewards.negative_tokens.token_alikeness": own,
        }

        walk = plan_walk(model, [[batch], [batch]], get_loss("dpo"))
        encoded = EncodedPair((1,), (2, 3), (4,))
        some = folder.with_name(f"{folder.name}-rows") / "rows.jsonl"
        some.parent.mkdir()
        some.write_text(
            "\n".join(f'{{"prompt": "a", "chosen": " b{i}", "rejected": " c"}}' for i in range(8))
        )
        comparison = Comparison("the film", " good", " bad")
        log = some.with_name("trainer_state.json")
        steps = [{"step": k, "rewards/chosen": -0.1 * k, "rewards/rejected": -0.2 * k} for k in range(12)]
        log.write_text(json.dumps(steps))
        events = some.parent / "runs"
        with SummaryWriter(str(events)) as writer:
            for k in range(12):
                for side in ("chosen", "rejected"):
                    writer.add_scalar(f"train/rewards/{side}", -0.1 * k, k)
        self.by_name |= dict(pair=encoded, walk=walk, groups=[batch], comparison=comparison)
        self.by_callable |= {
            "auditing.alikeness.edit_distance": dict(one=[1, 2], other=[1]),
            "auditing.rehearsal.rehearse": dict(length=0.1),
            "auditing.rehearsal.turning_number": dict(length=0.001),
            "auditing.callback.EntanglementCallback": dict(
                probe=[{"prompt": "a", "chosen": " b", "rejected": " c"}]
            ),
            "auditing.events.event_files": dict(path=events),
            "auditing.events.events_log": dict(path=events),
            "auditing.probe.Probe": dict(pairs=[encoded]),
            "auditing.grouping.in_groups": dict(pairs=[encoded], append_eos=True, max_tokens=8),
            "auditing.step_turns.probe_walk": dict(halves=[[batch], [batch]]),
            "auditing.step_turns.step_turns": dict(length=1e-4),
            "auditing.pulls.pulls": dict(held_out=[batch]),
            "auditing.pulls.token_pulls": dict(held_out=[batch]),
            "auditing.rehearsal.sweep": dict(length=0.001, ratios=[1.0, 1.1]),
            "auditing.running.audit": dict(data=some),
            "auditing.changes.averaged": dict(loss=get_loss("dpo")),
            "auditing.changes.changes_to_try": dict(loss=get_loss("dpo"), ratios=[1.1], shared=True),
            "auditing.changes.rehearse_change": dict(
                batches=[[batch], [batch]], held_out=[batch], change=Change("none", "ratio"), length=1e-3
            ),
            "auditing.gathered.gathered_walk": dict(batches=[[batch], [batch]]),
            "auditing.gathered.shared_direction": dict(sketches=torch.eye(3, dtype=torch.float64)),
            "auditing.gathered.sketch": dict(gradient=walk.along()),
            "auditing.grouping.Together": dict(max_tokens=8, eos=False),
            "auditing.grouping.by_tokens": dict(pairs=[encoded], max_tokens=8),
            "auditing.sampled.batch_of": dict(n=3, batch_size=2),
            "auditing.sampled.draw_sample": dict(data=some, sample=4, held_out=0.5, seed=0),
            "auditing.training_log.log_table": dict(source=log),
            "auditing.training_log.read_log": dict(source=log),
            "auditing.walk.Walk": {f.name: getattr(walk, f.name) for f in fields(walk)} | {"batches": 2},
            "auditing.walk.length_of": dict(gradient=walk.along()),
            "auditing.walk.plan_walk": dict(batches=[[batch], [batch]]),
            "pairs.pair_name": dict(pair=self.pairs[0], place=0),
            "auditing.walk.stepped": dict(step=walk.along(), length=0.1),
            "rows.encoded.EncodedPair": {f.name: getattr(encoded, f.name) for f in fields(encoded)},
            "rows.encoded.padded": dict(pairs=[encoded]),
            "rows.from_files.Row": dict(place=1, value={}),
            "rows.from_files.read_rows": dict(source=some),
            "rows.from_files.row_of": dict(row=Row(1, {})),
            "rows.shapes.Comparison": dict(prompt="the film", chosen=" good", rejected=" bad"),
            "rows.shapes.Shape": dict(fits=lambda row: True, read=lambda row: comparison),
            "rows.shapes.shared_start": dict(one=[1, 2], other=[1, 3]),
            "rows.shapes.recognize": dict(rows=[Row(1, {"prompt": "", "chosen": "", "rejected": ""})]),
            "rows.soundness.judge": dict(rows=[Row(1, None, "broken")], shape="explicit"),
        }

    @staticmethod
    def _log_linear():
        from entanglement.loglinear import random_log_linear

        return random_log_linear(2, 2, 2, vocab=4, dim=3, generator=torch.Generator().manual_seed(0))

    def arguments(self, short):
        """Return a valid call's arguments, all by name; what has a default stands there too."""
        given, found = self.by_callable.get(short, {}), {}
        for name, parameter in inspect.signature(PUBLIC[short]).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            if name in given:
                found[name] = given[name]
            elif parameter.default is parameter.empty:
                assert name in self.by_name, f"{short}: no valid {name} is known; add one to Stage."
                found[name] = self.by_name[name]
            elif not repr(parameter.default).startswith("<factory"):
                found[name] = parameter.default
        return found


@pytest.fixture(scope="module")
def stage(tiny_model, tokenizer, tmp_path_factory):
    return Stage(tiny_model, tokenizer, tmp_path_factory.mktemp("files"))


def call(stage, short, arguments):
    """Make a call on copies of what it may change; an iterator is followed, a context entered."""
    model = arguments.get("model")
    moved = short.startswith(("training.", "updates.", "rewards.", "ranking."))
    if moved and isinstance(model, nn.Module):
        arguments = arguments | {"model": deepcopy(model)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = PUBLIC[short](**arguments)
        if isinstance(found, AbstractContextManager) and inspect.isgeneratorfunction(
            inspect.unwrap(PUBLIC[short])
        ):
            with found as entered:
                found = entered
        elif isinstance(found, Iterator):
            found = list(islice(found, 3))
    return found, arguments.get("model") if moved else None


def infinite(value, depth=0):
    """Return the first thing that is not finite in an answer, or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(value)
        return None if bool(torch.isfinite(tensor).all()) else value
    if isinstance(value, pd.DataFrame):
        numbers = value.select_dtypes("number").to_numpy()
        return None if np.isfinite(numbers).all() else value
    if depth > 3:
        return None
    parts = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (list, tuple)):
        parts = value
    elif isinstance(value, nn.Module):
        parts = value.parameters()
    elif type(value).__module__.startswith("entanglement."):
        parts = vars(value).values()
    return next((bad for part in parts if (bad := infinite(part, depth + 1)) is not None), None)


def test_the_lists_name_what_is_there(stage):
    assert {short for short, _ in [*NOT_FINITE, *ANYTHING]} | set(NEVER_FINITE) <= set(PUBLIC)
    assert set(stage.by_callable) <= set(PUBLIC)
    assert all(isinstance(given, dict) for given in stage.by_callable.values())


@pytest.mark.parametrize("short", PUBLIC)
def test_only_what_is_meant_is_taken(stage, short, monkeypatch, capsys):
    monkeypatch.setenv("ENTANGLEMENT_CACHE", str(stage.folder))
    valid = stage.arguments(short)
    finite = infinite(call(stage, short, valid)[0]) is None
    assert finite == (short not in NEVER_FINITE)
    wrong, excused = [], set()
    for name in valid:
        for kind in JUNK if (short, name) not in ANYTHING else ():
            problem = what_is_wrong(stage, short, valid, name, kind)
            if problem == INFINITE and (not finite or (short, name) in NOT_FINITE):
                excused.add((short, name))
            elif problem:
                wrong.append(f"{short}({name}={kind}): {problem}")
    assert wrong == []
    assert not finite or excused == {case for case in NOT_FINITE if case[0] == short}  # none is idle


def what_is_wrong(stage, short, valid, name, kind):
    """Return why a call with one argument replaced went wrong, or None."""
    junk = JUNK[kind]
    try:
        found, model = call(stage, short, valid | {name: junk})
    except DataError:  # ours: what was to be read is not what it should be
        return None
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error)
        if not Path(last.filename).is_relative_to(LIBRARY):
            return f"{type(error).__name__} of {Path(last.filename).name}: {said[:80]}"
        if not re.search(rf"\b({CALLED.get(name, name)})\b", said):
            return f"the message does not name it: {said[:80]}"
        return "more than one line" if "\n" in said else None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    hint = str(inspect.signature(PUBLIC[short]).parameters[name].annotation)
    if kind == "object" or kind in OTHER_KINDS.get(hint.removesuffix(" | None"), ()):
        return "was taken"
    bad = infinite(found)
    held = bad is junk and isinstance(junk, torch.Tensor)  # a record of tensors holds what it was given
    if bad is not None and not held:
        return INFINITE
    if isinstance(found, Trajectory) and infinite(found.losses) is not None:
        return "a training whose loss is not finite"
    if model is not None and infinite(model) is not None:
        return "the model is not finite any more"
    return None


POSITIVE, SHARE = ((0, -1e-9), (1e-9,)), ((-1e-9, 1 + 1e-9), (0, 1))
INSIDE = ((0, 1), (1e-9, 1 - 1e-9))
COUNT, SOME, NOT_NEGATIVE = ((-1,), (0,)), ((0,), (1,)), ((-1e-9,), (0,))
LEVEL = {"level": INSIDE}
#: Callable → argument → what is refused just beyond the ends of its range, and what is taken just within.
ENDS = {
    "auditing.rehearsal.rehearse": {"length": POSITIVE, "groups": (([], ()), ())},
    "auditing.callback.EntanglementCallback": {
        "every": SOME, "geometry": COUNT, "turning": COUNT, "token_pairs": COUNT, "max_tokens": SOME,
    },
    "auditing.probe.Probe": {"token_pairs": COUNT, "max_tokens": SOME, "pairs": (([], ()), ())},
    "auditing.grouping.in_groups": {"max_tokens": SOME, "pairs": (([], ()), ())},
    "auditing.step_turns.probe_walk": {"max_grad_norm": POSITIVE},
    "auditing.step_turns.step_turns": {"length": POSITIVE, "groups": (([], ()), ())},
    "auditing.pulls.pulls": {"groups": (([], ()), ()), "held_out": (([], ()), ())},
    "auditing.pulls.token_pulls": {"groups": (([], ()), ()), "held_out": (([], ()), ())},
    "auditing.rehearsal.sweep": {"length": POSITIVE, "groups": (([], ()), ()), "ratios": (([], ()), ())},
    "auditing.rehearsal.turning_number": {"length": POSITIVE, "groups": (([], ()), ())},
    "auditing.running.audit": {
        "lr": POSITIVE, "batch_size": SOME, "epochs": POSITIVE, "steps": SOME, "sample": ((3,), (4,)),
        "held_out": SHARE, "max_length": SOME, "max_tokens": SOME, "geometry": COUNT,
    },
    "auditing.changes.rehearse_change": {
        "length": POSITIVE, "batches": (([], ()), ()), "held_out": (([], ()), ()),
    },
    "auditing.rehearsal.response_table": {"groups": (([], ()), ())},
    "auditing.gathered.gathered_walk": {"max_grad_norm": POSITIVE, "batches": (([], ()), ())},
    "auditing.grouping.Together": {"max_tokens": SOME},
    "auditing.grouping.by_tokens": {"max_tokens": SOME},
    "auditing.own_geometry.own_geometry": {"groups": (([], ()), ())},
    "auditing.sampled.batch_of": {"n": COUNT, "batch_size": SOME},
    "auditing.sampled.draw_sample": {
        "sample": COUNT, "held_out": SHARE, "max_length": SOME, "batch_size": SOME,
    },
    "auditing.walk.plan_walk": {"max_grad_norm": POSITIVE, "batches": (([], ()), ())},
    "rows.encoded.encode": {"max_length": SOME},
    "rows.encoded.padded": {"pairs": (([], ()), ())},
    "rows.soundness.judge": {"max_length": SOME},
    "training.align.align": {
        "steps": COUNT, "warmup": SHARE, "max_grad_norm": POSITIVE, "geometry_pairs": COUNT,
        "batch_size": SOME,
    },
    "training.sft.sft": {"max_grad_norm": POSITIVE, "geometry_pairs": COUNT, "batch_size": SOME},
    "training.sft.sft_loss": {"pairs": (([], ()), ())},
    "training.measure.measure": {"step": COUNT, "geometry_pairs": COUNT, "sets": (({},), ())},
    "training.measure.looking": {"geometry_pairs": COUNT},
    "training.observers.Taken": {"step": SOME, "lr": NOT_NEGATIVE},
    "training.observers.Account": {"pairs": SOME},
    "training.settings.check_settings": {
        "n_pairs": COUNT, "steps": COUNT, "lr": POSITIVE, "max_grad_norm": POSITIVE, "geometry_pairs": COUNT,
        "warmup": SHARE, "smallest_batch": SOME,
    },
    "training.settings.moments_of": {"steps": COUNT},
    "training.settings.rate_share": {"step": SOME, "steps": SOME, "warmup": SHARE},
    "updates.base.StepReport": {"grad_norm": (("1",), (math.nan, math.inf, 0.0))},
    "updates.calibrated.Calibrated": {"momentum": ((-1e-9, 1), (0, 1 - 1e-9))},
    "updates.decoupled.Decoupled": {"damping": NOT_NEGATIVE, "budget": ((0,), (1e-9, math.inf))},
    "updates.plans.plan": {"budget": ((0, -1e-9), (1e-9, math.inf))},
    "updates.plans.reach": {
        "budget": ((0, -1e-9), (1e-9, math.inf)), "tolerance": INSIDE, "share": ((0, 1 + 1e-9), (1e-9, 1)),
        "max_steps": SOME,
    },
    "updates.token_weights.TwoReferences": {"scale": POSITIVE},
    "updates.token_weights.LearnedMask": {"penalty": NOT_NEGATIVE, "lr": POSITIVE, "start": INSIDE},
    "updates.adversarial.Discriminator": {"lr": POSITIVE},
    "updates.adversarial.drawn_batch": {"seed": ((2**64,), (0, 2**64 - 1))},
    "updates.adversarial.Adversarial": {
        "head_start": COUNT, "beta": NOT_NEGATIVE, "lr": POSITIVE, "seed": ((-1, 10**12 + 1), (0, 10**12)),
    },
    "outcomes.steps.step_ladder": {
        "first": POSITIVE, "doublings": ((-1, 61), (0, 60)), "at_least": NOT_NEGATIVE,
    },
    "outcomes.steps.small_steps": {"at_least": NOT_NEGATIVE, "ladder": ((pd.DataFrame({"pair": [1]}),), ())},
    "outcomes.steps.ladder_geometry": {"ladder": ((pd.DataFrame({"pair": [1]}),), ())},
    "outcomes.steps.measured_cases": {"small": ((pd.DataFrame({"pair": [1]}),), ())},
    "rewards.advantages.generalized_advantages": {"discount": SHARE, "trace": SHARE},
    "rewards.advantages.token_rewards": {"beta": NOT_NEGATIVE},
    "rewards.answers.draw_answers": {"group": SOME, "tokens": SOME, "prompts": (([], ()), ())},
    "rewards.bradley_terry.train_reward": {
        "steps": COUNT, "lr": POSITIVE, "batch_size": SOME, "decay": NOT_NEGATIVE,
    },
    "rewards.learning.method_loss": {"beta": NOT_NEGATIVE, "clip": POSITIVE},
    "rewards.learning.reinforce": {
        "steps": COUNT, "lr": POSITIVE, "batch_size": SOME, "group": ((1,), (2,)), "tokens": SOME,
        "epochs": SOME, "beta": NOT_NEGATIVE, "clip": POSITIVE, "warmup": SHARE, "max_grad_norm": POSITIVE,
        "value_lr": POSITIVE, "preserve": NOT_NEGATIVE,
    },
    "ranking.ordering.rank": {
        "steps": COUNT, "lr": POSITIVE, "batch_size": SOME, "warmup": SHARE, "max_grad_norm": POSITIVE,
    },
    "ranking.losses.get_ranking": {"beta": POSITIVE},
    "rewards.negative_tokens.constant_weights": {"weight": SHARE},
    "rewards.negative_tokens.hidden_weights": {"threshold": NOT_NEGATIVE, "weight": SHARE},
    "rewards.policy_losses.clipped_loss": {"clip": POSITIVE},
    "stats.mean_interval": LEVEL,
    "stats.median_interval": LEVEL,
    "stats.share_interval": LEVEL | {"successes": COUNT, "n": SOME},
    "stats.summarize": LEVEL | {"by": (([], ()), ())},
    "loglinear.simulate.distinct_tokens": {"n": COUNT, "vocab": ((1,), (2,))},
    "loglinear.simulate.random_one_token": {
        "n": COUNT, "vocab": ((1,), (2,)),
        "scale": ((0, -1e-9, (0, 1), (2, 1), (1, 2, 3), [1, 2]), (1e-9, (1, 1), (1, 2))),
    },
    "loglinear.simulate.random_trainable": {"n": COUNT, "vocab": ((1,), (2,)), "dim": SOME},
    "loglinear.simulate.simplex_grid": {"n": ((2,), (3,))},
    "loglinear.simulate.random_log_linear": {
        "n": COUNT, "n_w": SOME, "n_l": SOME, "vocab": SOME, "dim": SOME, "logit_scale": NOT_NEGATIVE,
        "similarity": ((-1e-9, 1), (0, 1 - 1e-9)),
    },
    "loglinear.simulate.suffix_pairs": {
        "draws": COUNT, "suffix": COUNT, "prefix": COUNT, "vocab": ((1,), (2,)), "dim": SOME,
        "logit_scale": NOT_NEGATIVE,
    },
}  # fmt: skip


@pytest.mark.parametrize("short", ENDS)
def test_a_range_ends_where_it_should(stage, short):
    valid = stage.arguments(short)
    for name, (refused, taken) in ENDS[short].items():
        for value in refused:
            with pytest.raises(ValueError, match=rf"^(\w+: )?{name}="):
                call(stage, short, valid | {name: value})
        for value in taken:
            try:
                call(stage, short, valid | {name: value})
            except ValueError as error:  # what another argument asks for besides
                assert not str(error).startswith(f"{name}="), f"{value} was refused"
