"""The geometry read out of a training step's own backward pass, against the geometry measured apart."""

import peft
import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from entanglement.geometry import CASES
from entanglement.gradients import GeometryMonitor, UncoveredParameterWarning, pair_geometry
from entanglement.logps import PairLogps, response_logps
from entanglement.losses import get_loss
from entanglement.pairs import PreferencePair, collate
from entanglement.training import Monitor, align
from entanglement.training.observers import Run, Taken
from entanglement.updates import get_update


def close(mine, theirs, tolerance=1e-9):
    scale = theirs.chosen_sq.sqrt() * theirs.rejected_sq.sqrt()
    torch.testing.assert_close(mine.chosen_sq, theirs.chosen_sq, rtol=tolerance, atol=0)
    torch.testing.assert_close(mine.rejected_sq, theirs.rejected_sq, rtol=tolerance, atol=0)
    assert bool(((mine.inner - theirs.inner).abs() <= tolerance * scale).all())


def dpo(chosen, rejected):
    logps = PairLogps(chosen, rejected, chosen.detach() - 1.0, rejected.detach() + 0.5)
    return get_loss("dpo", beta=0.3)(logps), get_loss("dpo", beta=0.3).weights(logps.detach())


@pytest.mark.parametrize("shape", ["gpt2-tied", "llama-tied", "neox-untied"])
def test_a_training_step_tells_its_geometry(tiny_model, tokenizer, pairs, shape):
    model, batch = tiny_model(shape), collate(pairs, tokenizer)
    expected = pair_geometry(model, batch)
    losses, weights = dpo(*response_logps(model, batch))
    losses.mean().backward()
    plain = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with GeometryMonitor(model, strict=True) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        dpo(chosen, rejected)[0].mean().backward()
        reading = monitor.read()
    assert reading.geometry.ids == batch.ids and bool(reading.measured.all())
    close(reading.geometry, expected)
    for mine, theirs in zip((reading.d_w, reading.d_l), weights, strict=True):
        torch.testing.assert_close(mine, theirs.double() / len(batch))
    for got, wanted in zip(reading.plain_change(0.1), expected.predicted_change(0.1, *weights), strict=True):
        torch.testing.assert_close(got, wanted / len(batch))
    for p, grad in zip(model.parameters(), plain, strict=True):  # training is left as it was, to the bit
        assert torch.equal(p.grad, grad)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_several_forward_passes_before_one_backward(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied", torch.float32), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        total = torch.zeros(())
        for some in ([2], [0, 1]):
            part = batch.select(some)
            with torch.no_grad():
                response_logps(model, part)  # an evaluation in between is not recorded
            chosen, rejected = response_logps(model, part)
            monitor.attach(chosen, rejected, part.ids)
            total = total + dpo(chosen, rejected)[0].sum()
        response_logps(model, batch)  # nor is a forward pass that nothing was attached to
        total.backward()
        reading = monitor.read()
    assert reading.geometry.ids == ("day", "film", "empty prompt")
    close(reading.geometry, pair_geometry(model, batch).select([2, 0, 1]), 1e-4)


def test_a_pair_without_weight_is_not_measured(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-untied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        (-(chosen - rejected) * torch.tensor([1.0, 0.0, 2.0])).sum().backward()
        reading = monitor.read()
        assert reading.measured.tolist() == [True, False, True]
        assert reading.geometry.ids == ("film", "day")
        close(reading.geometry, pair_geometry(model, batch).select([0, 2]))
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected)
        (0.0 * (chosen - rejected)).sum().backward()
        nothing = monitor.read()
    assert nothing.geometry is None and not nothing.measured.any()
    assert len(nothing.plain_change(1.0)[0]) == 0


def test_a_weight_on_one_side_only_is_no_measurement(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-untied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        (rejected * torch.tensor([1.0, 0.0, 2.0]) - chosen).sum().backward()
        reading = monitor.read()
    assert reading.measured.tolist() == [True, False, True]
    close(reading.geometry, pair_geometry(model, batch).select([0, 2]))


def test_the_losss_weights_asked_for_before_the_backward_pass_count_once(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        loss = dpo(chosen, rejected)[0].mean()
        w, l = torch.autograd.grad(loss, [chosen, rejected], retain_graph=True)  # noqa: E741
        loss.backward()
        reading = monitor.read()
    assert torch.equal(reading.d_w, -w) and torch.equal(reading.d_l, l)
    close(reading.geometry, pair_geometry(model, batch))


def test_two_backward_passes_through_one_batch_are_refused(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        (-chosen.sum()).backward(retain_graph=True)
        rejected.sum().backward()
        with pytest.raises(ValueError, match="two backward passes came through one attached batch"):
            monitor.read()


def test_a_backward_pass_that_stops_on_the_way_is_refused(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        # Down to the last norm only: of the tied weight the head's share has come, the embedding's has not.
        torch.autograd.grad((chosen - rejected).sum(), [model.transformer.ln_f.weight])
        with pytest.raises(ValueError, match=r"did not reach transformer\.wte\.weight"):
            monitor.read()


def test_frozen_parameters_are_not_read(tiny_model, tokenizer, pairs):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model("gpt2-tied"), config).double().eval()
    batch = collate(pairs, tokenizer)
    with GeometryMonitor(model, "all", strict=True) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        dpo(chosen, rejected)[0].mean().backward()
        close(monitor.read().geometry, pair_geometry(model, batch, "trainable"))


def test_checkpointing_runs_layers_again_and_is_read_once(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("llama-tied"), collate(pairs, tokenizer)
    expected = pair_geometry(model, batch)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with GeometryMonitor(model, strict=True) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        dpo(chosen, rejected)[0].mean().backward()
        close(monitor.read().geometry, expected)


class Scaled(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.mix = nn.Linear(300, 300, dtype=torch.float64)

    def forward(self, input_ids, attention_mask, position_ids=None):
        logits = self.model(input_ids, attention_mask=attention_mask, position_ids=position_ids).logits
        return logits + linear(logits, self.mix.weight)


def test_what_no_rule_covers(tiny_model, tokenizer, pairs):
    model, batch = Scaled(tiny_model("gpt2-untied")), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        with pytest.warns(UncoveredParameterWarning, match=r"mix\.weight"):
            monitor.attach(chosen, rejected, batch.ids)
        dpo(chosen, rejected)[0].mean().backward()
        reading = monitor.read()
    with pytest.warns(UncoveredParameterWarning):
        close(reading.geometry, pair_geometry(model, batch))
    with GeometryMonitor(model, strict=True) as monitor, pytest.raises(ValueError, match=r"mix\.weight"):
        monitor.attach(*response_logps(model, batch))


def test_refusals(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    with GeometryMonitor(model) as monitor:
        with pytest.raises(ValueError, match="nothing was attached"):
            monitor.read()
        with pytest.raises(ValueError, match="no forward pass with gradients"):
            monitor.attach(torch.zeros(3), torch.zeros(3))
        chosen, rejected = response_logps(model, batch)
        with pytest.raises(ValueError, match=r"6 rows; expected .* 2 pairs"):
            monitor.attach(chosen[:2], rejected[:2])
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected)
        with pytest.raises(ValueError, match="no backward pass has come"):
            monitor.read()
    with GeometryMonitor(model) as monitor:
        chosen, rejected = response_logps(model, batch)
        model.train()
        with pytest.raises(ValueError, match="drops out at random"):
            monitor.attach(chosen, rejected)


def test_align_logs_what_its_steps_tell(tiny_model, tokenizer):
    pairs = [
        PreferencePair(f"the film {i}", " was good", " was bad and the people", f"pair {i}")
        for i in range(10)
    ]
    options = {"steps": 3, "batch_size": 10, "lr": 1e-3, "optimizer": "sgd", "max_grad_norm": None}
    model = tiny_model("gpt2-tied")
    before = pair_geometry(model, collate(pairs, tokenizer))
    run = align(model, tokenizer, pairs, observers=[Monitor()], **options)
    table = run.monitor
    assert list(table["step"]) == [1, 2, 3] and (table["measured"] == 10).all()
    first = table.iloc[0]
    assert first["cosine"] == pytest.approx(float(before.cosine.mean()), abs=1e-9)
    assert first["chosen_norm"] == pytest.approx(float(before.chosen_sq.sqrt().mean()))
    assert first[list(CASES)].sum() == pytest.approx(1.0)
    # At the reference both weights of DPO are β/2; each pair is a tenth of the batch.
    rate = run.losses["lr"][0]
    change = before.predicted_change(rate, 0.05 / 10, 0.05 / 10)
    assert first["plain_chosen"] == pytest.approx(float(change[0].mean()), rel=1e-6)
    assert first["plain_rejected"] == pytest.approx(float(change[1].mean()), rel=1e-6)
    other = tiny_model("gpt2-tied")
    quiet = align(other, tokenizer, pairs, **options)
    assert "cosine" not in quiet.monitor and "cosine" in run.monitor
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)  # the quiet run shares its prompts


def test_a_step_that_nothing_came_back_from_has_the_columns_of_any_other(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    tables = []
    for weight in (1.0, 0.0):
        monitor = Monitor()
        monitor.begin(Run(model, tokenizer, get_update("joint")))
        chosen, rejected = response_logps(model, batch)
        monitor.after_forward(chosen, rejected, batch.ids)
        (weight * (rejected - chosen)).sum().backward()
        monitor.after_step(Taken(1, 0.1, pairs))
        monitor.end()
        tables.append(monitor.result()["monitor"])
    measured, nothing = tables
    assert list(nothing.columns) == list(measured.columns) and measured.notna().all(axis=None)
    assert nothing.iloc[0, :3].tolist() == [1, 3, 0] and nothing.iloc[:, 3:].isna().all(axis=None)
