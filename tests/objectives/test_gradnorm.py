"""GradNorm's weights: where they come to rest, which way they step, and what that does to a training."""

import pytest
import torch

from entanglement.objectives.gradnorm import gradnorm


def rested(norms, losses, first, steps=800, **options):
    """The mean weights of the last steps: they jump to and fro by ``lr`` about where they rest."""
    weights, seen = torch.ones(len(norms), dtype=torch.float64), []
    for _ in range(steps):
        weights = gradnorm(weights, norms, losses, first, **options)
        seen.append(weights)
    return torch.stack(seen[-100:]).mean(0)


def test_losses_on_different_scales_get_the_same_pull_at_equal_progress():
    norms = torch.tensor([1.0, 10.0, 200.0], dtype=torch.float64)
    losses = 0.3 * norms
    weights = rested(norms, losses, norms)
    pulls = weights * norms
    assert torch.allclose(pulls, pulls.mean().expand(3), rtol=0.03)
    assert torch.allclose(weights, 3 / norms / (1 / norms).sum(), rtol=0.03)
    assert float(weights.sum()) == pytest.approx(3)


def test_one_that_lags_pulls_more_and_by_its_power():
    norms, first = [1.0, 2.0], [1.0, 1.0]
    for alpha, ratio in ((0.0, 1.0), (1.0, 3.0)):
        weights = rested(norms, [0.2, 0.6], first, alpha=alpha)
        assert float(2 * weights[1] / weights[0]) == pytest.approx(ratio, rel=0.05)
    tie = rested(norms, [0.4, 0.4], first, alpha=1.5)
    lagging = rested(norms, [0.4, 0.5], first, alpha=1.5, steps=40)
    assert lagging[1] > tie[1]


def test_a_step_goes_down_what_the_paper_lowers():
    torch.manual_seed(0)
    weights, norms, losses, first = torch.rand(4, 5, dtype=torch.float64) + 0.1
    log = weights.log().requires_grad_()
    pull = log.exp() * norms
    left = losses / first
    wanted = (pull.mean() * (left / left.mean()) ** 0.7).detach()
    (down,) = torch.autograd.grad((pull - wanted).abs().sum() / pull.mean().detach(), log)
    by_hand = (log.detach() - 0.1 * down).exp()
    found = gradnorm(weights, norms, losses, first, alpha=0.7, lr=0.1)
    assert torch.allclose(found, 5 * by_hand / by_hand.sum())
    assert not torch.allclose(found, 5 * weights / weights.sum())


def test_tasks_in_other_units_are_learned_at_one_pace():
    """s_i‖x_i‖², each on parameters of its own: by a plain sum the one in small units hardly moves."""
    scales = torch.tensor([1.0, 100.0], dtype=torch.float64)
    first = 3 * scales

    def left(steps, **options):
        """The shares that are left, and the ratio of the weighted gradients' norms."""
        x, weights = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        for _ in range(steps):
            losses, gradients = scales * (x**2).sum(1), 2 * scales[:, None] * x
            x = x - 2e-4 * weights[:, None] * gradients
            if options:
                weights = gradnorm(weights, gradients.norm(dim=1), losses, first, **options)
        pulls = weights * 2 * scales * x.norm(dim=1)
        return scales * (x**2).sum(1) / first, float(pulls[0] / pulls[1])

    plain, ratio = left(1000)
    assert plain[0] > 0.4 and plain[1] < 1e-12
    even, ratio = left(300, alpha=0.0, lr=0.1)
    assert ratio == pytest.approx(1, rel=0.25)  # each jumps by a tenth about it
    paced, _ = left(1000, alpha=1.5, lr=0.1)
    assert float(paced[0] / paced[1]) == pytest.approx(1, rel=0.2)
    assert float(even[0] / even[1]) > 1.5


def test_what_does_not_pull_and_what_is_done_leave_the_weights():
    kept = torch.tensor([0.5, 1.5], dtype=torch.float64)
    for norms, losses in (([0.0, 0.0], [1.0, 1.0]), ([1.0, 1.0], [0.0, 0.0])):
        assert torch.equal(gradnorm(kept, norms, losses, [1.0, 1.0]), kept)
    one = gradnorm(kept, [0.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    assert one[0] > kept[0] and one[1] < kept[1]
    assert torch.allclose(gradnorm([1.0, 2.0], [0, 0], [1, 1], [1, 1]), torch.tensor([2 / 3, 4 / 3]).double())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("weights", [0.0, 2.0], r"weights is \[0.0, 2.0\]; expected 2 finite numbers, positive"),
        ("weights", [1.0], r"weights is \[1.0\]; expected 2 finite numbers, positive"),
        ("norms", [-1.0, 1.0], r"norms is \[-1.0, 1.0\]; expected 2 finite numbers, at least 0"),
        ("norms", [1.0, 1.0, 1.0], "norms is .* expected 2 finite"),
        ("losses", [-0.1, 1.0], "losses is .* at least 0"),
        ("losses", [[1.0, 1.0]], "losses is .* expected 2 finite"),
        ("first", [0.0, 1.0], "first is .* positive"),
        ("first", [float("inf"), 1.0], "first is .* expected 2 finite"),
        ("alpha", -1.0, r"alpha=-1.0; expected"),
        ("lr", -0.1, r"lr=-0.1; expected"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, value, said):
    given = {key: [1.0, 1.0] for key in ("weights", "norms", "losses", "first")} | {name: value}
    options = {key: given.pop(key) for key in ("alpha", "lr") if key in given}
    with pytest.raises(ValueError, match=said):
        gradnorm(**given, **options)


def test_zero_is_allowed_for_what_may_be_zero():
    assert gradnorm([1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0], alpha=0.0, lr=0.0).tolist() == [1, 1]
