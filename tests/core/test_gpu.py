"""The gradient geometry on a CUDA device. `make test-gpu` runs these, and `make test` does not."""

import pytest
import torch
from model_shapes import SHAPES

from entanglement.gradients import GeometryMonitor, naive, pair_geometry, token_geometry
from entanglement.logps import response_logps
from entanglement.pairs import collate

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_device_measures_what_the_processor_measures(tiny_model, tokenizer, pairs, shape, dtype):
    batch = collate(pairs, tokenizer)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]
    model = tiny_model(shape, dtype)
    if dtype == torch.bfloat16:
        wide = tiny_model(shape)
        wide.load_state_dict({k: v.double() for k, v in model.state_dict().items()})
        expected = naive.pair_geometry(wide, batch)
    else:
        expected = naive.pair_geometry(model, batch)
    model.to("cuda")
    got = pair_geometry(model, batch, strict=True)
    scale = expected.chosen_sq.sqrt() * expected.rejected_sq.sqrt()
    torch.testing.assert_close(got.chosen_sq, expected.chosen_sq, rtol=tolerance, atol=0)
    torch.testing.assert_close(got.rejected_sq, expected.rejected_sq, rtol=tolerance, atol=0)
    assert bool(((got.inner - expected.inner).abs() <= tolerance * scale).all())
    tokens = token_geometry(model, batch.select(0), strict=True).pair()
    assert bool((tokens.inner - expected.select(0).inner).abs() <= tolerance * scale[0])
    with GeometryMonitor(model, strict=True) as monitor:
        chosen, rejected = response_logps(model, batch)
        monitor.attach(chosen, rejected, batch.ids)
        (rejected - chosen).sum().backward()
        read = monitor.read().geometry
    assert bool(((read.inner - expected.inner).abs() <= tolerance * scale).all())


def test_a_value_that_is_not_finite_is_named_on_the_device(tiny_model, tokenizer, pairs):
    model = tiny_model("gpt2-untied").to("cuda")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"log-probability of the chosen response of film is not finite"):
        pair_geometry(model, collate(pairs, tokenizer))
