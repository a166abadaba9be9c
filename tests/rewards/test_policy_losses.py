"""The objectives of the policy: torchrl's clipped loss, the definitions, and their gradients."""

import inspect

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential, TensorDictModule
from torch import nn
from torchrl.objectives import ClipPPOLoss

from entanglement.rewards import advantages
from entanglement.rewards.answers import Answers
from entanglement.rewards.negative_tokens import constant_weights
from entanglement.rewards.policy_losses import clipped_loss, clipped_share, falls, k3, mean_of, value_loss


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    logps = -torch.rand(6, 4, dtype=torch.float64, generator=draw) - 0.5
    old = logps + 0.4 * torch.randn(6, 4, dtype=torch.float64, generator=draw)
    advantages = torch.randn(6, 4, dtype=torch.float64, generator=draw)
    mask = torch.arange(4) < torch.tensor([4, 2, 3, 1, 4, 2])[:, None]
    return logps, old, advantages, mask


def test_the_clipped_loss_is_torchrls():
    torch.manual_seed(0)
    network, critic = nn.Linear(3, 5), nn.Linear(3, 1)
    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(network, in_keys=["observation"], out_keys=["logits"]),
        ProbabilisticTensorDictModule(
            in_keys=["logits"], out_keys=["action"], distribution_class=torch.distributions.Categorical,
            return_log_prob=True,
        ),
    )  # fmt: skip
    value = TensorDictModule(critic, in_keys=["observation"], out_keys=["state_value"])
    theirs = ClipPPOLoss(actor, value, clip_epsilon=0.2, entropy_bonus=False, normalize_advantage=False)
    observed, action = torch.randn(40, 3), torch.randint(5, (40,))
    logps = network(observed).log_softmax(-1).gather(1, action[:, None])
    old, advantages = (logps + 0.3 * torch.randn(40, 1)).detach(), torch.randn(40, 1)
    batch = TensorDict(
        {
            "observation": observed, "action": action, "action_log_prob": old[:, 0],
            "advantage": advantages, "value_target": torch.zeros(40, 1),
        },
        [40],
    )  # fmt: skip
    mine = clipped_loss(logps, old, advantages, torch.ones(40, 1))
    found = theirs(batch)
    torch.testing.assert_close(mine, found["loss_objective"])
    assert clipped_share(logps.detach(), old, advantages, torch.ones(40, 1)) > 0.1  # it does cut something
    mine.backward()
    own = network.weight.grad.clone()
    network.weight.grad = None
    found["loss_objective"].backward()
    torch.testing.assert_close(own, network.weight.grad)


def test_where_policies_are_equal_its_gradient_is_that_of_the_advantages(rows):
    logps, _, advantages, mask = rows
    logps.requires_grad_()
    clipped_loss(logps, logps.detach(), advantages, mask).backward()
    torch.testing.assert_close(logps.grad, -advantages * mask / mask.sum())


@pytest.mark.parametrize(("ratio", "advantage", "moves"), [
    (1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.1, 1.0, True),
    (0.9, -1.0, True),
])  # fmt: skip
def test_beyond_the_clip_only_what_has_gone_wrong_moves(ratio, advantage, moves):
    logps = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    old = torch.full((1, 1), -float(torch.tensor(ratio).log()), dtype=torch.float64)
    mask, weights = torch.ones(1, 1), torch.full((1, 1), advantage, dtype=torch.float64)
    clipped_loss(logps, old, weights, mask).backward()
    assert bool(logps.grad.any()) == moves
    assert clipped_share(logps.detach(), old, weights, mask) == float(not moves)


def test_an_answers_ratio_is_the_product_of_its_tokens(rows):
    logps, old, advantages, mask = rows
    found = clipped_loss(logps, old, advantages, mask, level="answer")
    ratios = ((logps - old) * mask).sum(1).exp()
    weights = advantages[:, 0]
    expected = -torch.minimum(ratios * weights, ratios.clamp(0.8, 1.2) * weights).mean()
    torch.testing.assert_close(found, expected)
    assert abs(float(found - clipped_loss(logps, old, advantages, mask))) > 1e-3


def test_an_answers_share_that_is_cut_off_is_that_of_its_first_tokens_advantage(rows):
    logps, old, advantages, mask = rows
    ratios, weights = ((logps - old) * mask).sum(1).exp(), advantages[:, 0]
    cut = ((ratios > 1.2) & (weights > 0)) | ((ratios < 0.8) & (weights < 0))
    assert 0 < int(cut.sum()) < 6
    found = clipped_share(logps, old, advantages, mask, level="answer")
    assert found == pytest.approx(float(cut.double().mean()))


NO_ROWS = {"values", "mask", "log_ratios", "rewards", "logps", "old", "reference", "targets", "advantages"}


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (clipped_loss, {}), (clipped_share, {}), (falls, {}), (k3, {}), (mean_of, {"average": "tokens"}),
        (value_loss, {}), (advantages.masked_mean, {}), (advantages.whitened, {}),
        (advantages.generalized_advantages, {}),
        (constant_weights, {"model": nn.Linear(1, 1)}),
    ],
)  # fmt: skip
def test_numbers_that_are_not_one_a_token_are_refused(function, options):
    names = [name for name in inspect.signature(function).parameters if name in NO_ROWS]
    if function is constant_weights:
        ids = torch.ones(2, 4, dtype=torch.long)
        options = options | {"answers": Answers(ids, ids, ids[:, 1:].bool(), 2, 3)}
    given = {name: torch.ones(2, 3, dtype=torch.float64) for name in names}
    function(**given, **options)
    assert names
    for name in names:
        with pytest.raises(ValueError, match=name):
            function(**(given | {name: torch.ones(2, dtype=torch.float64)}), **options)


def test_averages():
    values, mask = torch.tensor([[1.0, 2.0], [6.0, 9.0]]), torch.tensor([[1, 1], [1, 0]])
    assert [float(mean_of(values, mask, a)) for a in ("tokens", "answers", "sums")] == [3.0, 3.75, 4.5]


def test_k3_is_the_divergence_in_the_mean_and_its_gradient_that_of_the_other_way():
    draw = torch.Generator().manual_seed(1)
    free, fixed = (torch.randn(5, dtype=torch.float64, generator=draw) for _ in range(2))
    free.requires_grad_()
    policy, reference = free.log_softmax(0), fixed.log_softmax(0)
    each = k3(policy[:, None], reference[:, None])[:, 0]
    assert bool((each > 0).all())
    divergence = (policy.exp() * (policy - reference)).sum()
    mean = (policy.detach().exp() * each).sum()  # over draws, which are taken as given
    torch.testing.assert_close(mean, divergence)
    got = torch.autograd.grad(mean, free, retain_graph=True)[0]
    forward = torch.autograd.grad(divergence, free, retain_graph=True)[0]
    backward = torch.autograd.grad((reference.exp() * (reference - policy)).sum(), free)[0]
    torch.testing.assert_close(got, backward)
    assert float((got - forward).norm()) > 0.1 * float(forward.norm())


def test_the_value_loss_looks_at_tokens_only():
    values, targets = torch.tensor([[1.0, 5.0]]), torch.tensor([[3.0, 0.0]])
    assert float(value_loss(values, targets, torch.tensor([[1, 0]]))) == 2.0


def test_only_good_answers_that_fell_count_and_only_their_fallen_tokens():
    old = torch.zeros(4, 2, dtype=torch.float64)
    moves = [[-1.0, 0.5], [-1.0, 2.0], [-1.0, -1.0], [-3.0, 0.0]]
    logps = torch.tensor(moves, dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([[1.0], [1.0], [-1.0], [0.0]], dtype=torch.float64).expand(4, 2)
    found = falls(logps, old, advantages, torch.ones(4, 2))
    assert float(found.detach()) == (1.0 + 3.0) / 4  # the second rose as a whole, the third is not good
    found.backward()
    assert logps.grad.tolist() == [[-0.25, 0], [0, 0], [0, 0], [-0.25, 0]]
