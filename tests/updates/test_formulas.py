"""Every declared update makes the step that its formula says: each has an entry here, or a test fails.

The formulas are written with whole gradients, one a response, from ``gradients.naive``; the updates never
form them. What is compared is the step, (θ' − θ)/η, of a plain optimizer in float64.
"""

from dataclasses import dataclass

import pytest
import torch

from entanglement.gradients import flat_gradients, flatten
from entanglement.logps import PairLogps, TokenLogps, response_logps, token_logps
from entanglement.losses import Loss, get_loss
from entanglement.pairs import PairBatch, PreferencePair, collate
from entanglement.updates import UPDATES, Declared, Joint, get_update
from entanglement.updates.adversarial import Discriminator, drawn_batch

ETA = 1e-7


@dataclass
class Scene:
    """A model, two groups of pairs that tangle, and their gradients as vectors."""

    model: torch.nn.Module
    other: torch.nn.Module
    groups: list[PairBatch]
    loss: Loss
    reference: tuple[torch.Tensor, torch.Tensor]
    g_w: torch.Tensor  # (B, P)
    g_l: torch.Tensor
    d_w: torch.Tensor  # (B,)
    d_l: torch.Tensor

    @property
    def norms(self):
        """(a, b, c), each (B,)."""
        return self.g_w.norm(dim=1), self.g_l.norm(dim=1), (self.g_w * self.g_l).sum(1)

    def along(self, u_w, u_l):
        """Σ (u_w g_w − u_l g_l)/B."""
        return (u_w[:, None] * self.g_w - u_l[:, None] * self.g_l).mean(0)

    def theta(self):
        return flatten(self.model, dict(self.model.named_parameters()), "trainable")


@pytest.fixture
def scene(tiny_model, tokenizer):
    model, other = tiny_model("gpt2-tied"), tiny_model("gpt2-tied", seed=1)
    pairs = [
        PreferencePair("what a", " people", " people people people", "people"),
        PreferencePair("the film was", " good and the people", " bad and the people", "film"),
        PreferencePair("what a day", " positive people", " negative people", "day"),
    ]
    groups = [collate(some, tokenizer, padding_side="left") for some in (pairs[:2], pairs[2:])]
    with torch.no_grad():
        values = [torch.cat(side) for side in zip(*(response_logps(model, g) for g in groups), strict=True)]
    gradients = [flat_gradients(model, g, "trainable") for g in groups]
    g_w, g_l = (torch.cat([part[side] for part in gradients]) for side in (0, 1))
    loss = get_loss("kto", beta=0.5)  # d_w and d_l are not the same
    reference = (values[0] - torch.tensor([2.0, 0.5, -1.0]), values[1] - torch.tensor([-1.0, 0.3, 1.5]))
    lengths = [torch.cat([getattr(g, f"{side}_len") for g in groups]) for side in ("chosen", "rejected")]
    d_w, d_l = loss.weights(PairLogps(*values, *reference, *lengths))
    return Scene(model, other, groups, loss, reference, g_w, g_l, d_w, d_l)


def joint(scene):
    return scene.along(scene.d_w, scene.d_l)


def by_ratio(scene, ratio):
    product = scene.d_w * scene.d_l
    return scene.along((product * ratio).sqrt(), (product / ratio).sqrt())


def normalized(scene):
    a, b, _ = scene.norms
    return by_ratio(scene, b / a)


def constant(scene):
    return by_ratio(scene, 1.3)


def band(scene):
    a, b, c = scene.norms
    rho = c / (a * b)
    low = torch.where(rho > 0, rho * b / a, torch.zeros_like(a))
    high = torch.where(rho > 0, b / a / rho, torch.full_like(a, torch.inf))
    return by_ratio(scene, torch.minimum(torch.maximum(scene.d_w / scene.d_l, low), high))


def pcgrad(scene):
    total = torch.zeros_like(scene.g_w[0])
    for x, y in zip(scene.d_w[:, None] * scene.g_w, -scene.d_l[:, None] * scene.g_l, strict=True):
        conflict = torch.clamp(x @ y, max=0)
        total += (x - conflict / (y @ y) * y) + (y - conflict / (x @ x) * x)
    return total / len(scene.g_w)


def mgda(scene):
    total = torch.zeros_like(scene.g_w[0])
    for x, y in zip(scene.d_w[:, None] * scene.g_w, -scene.d_l[:, None] * scene.g_l, strict=True):
        share = float(((y - x) @ y / ((y - x) @ (y - x))).clamp(0, 1))
        total += 2 * (share * x + (1 - share) * y)
    return total / len(scene.g_w)


def calibrated(scene):
    target = scene.g_l.mean(0).norm() / scene.g_w.mean(0).norm()
    alpha = (target / (scene.d_w.mean() / scene.d_l.mean())).sqrt()
    return scene.along(alpha * scene.d_w, scene.d_l / alpha)


def split(scene):
    # At a rate this small the second gradient is that at the same place.
    return joint(scene)


def decoupled(scene):
    rows, wanted = torch.cat([scene.g_w, scene.g_l]), torch.cat([scene.d_w, -scene.d_l])
    gram = rows @ rows.T
    gram = gram + 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, wanted) @ rows


def by_tokens(scene, weigh):
    """Minus the gradient of the mean loss of weighted responses, by automatic differentiation."""
    policy = [token_logps(scene.model, g) for g in scene.groups]
    with torch.no_grad():
        frozen = [token_logps(scene.other, g) for g in scene.groups]
        masks = [weigh(g, f) for g, f in zip(scene.groups, frozen, strict=True)]

    def sums(parts, side):
        return torch.cat(
            [
                ((m[: len(p.chosen)] if side == "chosen" else m[len(p.chosen) :]) * getattr(p, side)).sum(1)
                for m, p in zip(masks, parts, strict=True)
            ]
        )

    logps = PairLogps(
        *(sums(policy, side) for side in ("chosen", "rejected")),
        *(sums(frozen, side) for side in ("chosen", "rejected")),
    )
    scene.model.zero_grad()
    scene.loss(logps).mean().backward()
    found = flatten(scene.model, {n: p.grad for n, p in scene.model.named_parameters()}, "trainable")
    scene.model.zero_grad()
    return -found


def everything(scene):
    return by_tokens(scene, lambda batch, frozen: batch.response_mask.double())


def alike(one, other):
    """Return how many items two lists have in common at their beginning."""
    shorter = min(len(one), len(other))
    return next((k for k in range(shorter) if one[k] != other[k]), shorter)


def contrasting(scene):
    def weigh(batch, frozen):
        """Tokens between a common beginning and a common end: the pairs of the scene share nothing else."""
        weights = batch.response_mask.double()
        for i in range(len(batch)):
            rows = [batch.input_ids[r][batch.response_mask[r]].tolist() for r in (i, i + len(batch))]
            head = alike(*rows)
            rest = [row[head:][::-1] for row in rows]
            tail = alike(*rest)
            for r, row in zip((i, i + len(batch)), rows, strict=True):
                start = len(weights[r]) - len(row)  # padding is on the left
                weights[r, start : start + head] = 0
                weights[r, len(weights[r]) - tail :] = 0
        return weights

    return by_tokens(scene, weigh)


def two(scene):
    def weigh(batch, frozen):
        plus = torch.cat([frozen.chosen, frozen.rejected])
        minus = token_logps(scene.model, batch)  # the "other" model of the update below is a copy of it
        gap = (plus - torch.cat([minus.chosen, minus.rejected])).abs()
        return (gap / 0.5).clamp(max=1)

    return by_tokens(scene, weigh)


def learned(scene):
    return by_tokens(scene, lambda batch, frozen: 0.7 * batch.response_mask.double())


def geometry(scene):
    """The linear program of each pair, on whole token gradients and by SciPy's other solver."""
    from scipy.optimize import linprog

    def weigh(batch, frozen):
        weights = torch.zeros(batch.input_ids.shape, dtype=torch.float64)
        for i in range(len(batch)):
            rows, places = [], []
            for r in (i, i + len(batch)):
                for t in batch.response_mask[r].nonzero().flatten().tolist():
                    rows.append(token_gradient(scene.model, batch, r, t))
                    places.append((r, t))
            rows = torch.stack(rows)
            sign = torch.tensor([1.0 if r == i else -1.0 for r, _ in places]).double()
            up, down = ((rows @ g) * sign for g in (rows[sign > 0].sum(0), rows[sign < 0].sum(0)))
            found = linprog(
                (down - up).numpy(), A_ub=torch.stack([-up, down]).numpy(), b_ub=[0, 0], bounds=(0, 1),
                method="highs-ipm",
            )  # fmt: skip
            for place, weight in zip(places, found.x, strict=True):
                weights[place] = float(weight)
        return weights

    return by_tokens(scene, weigh)


def token_gradient(model, batch, row, column):
    with torch.enable_grad():
        found: TokenLogps = token_logps(model, batch)
        value = torch.cat([found.chosen, found.rejected])[row, column]
        parts = torch.autograd.grad(value, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def adversarial(scene):
    drawn = [drawn_batch(scene.model, group, seed=300_000 * 100 + i) for i, group in enumerate(scene.groups)]
    judge = Discriminator(scene.model, lr=1e-4)
    judge.learn(drawn)
    with torch.no_grad():
        odds = torch.cat([judge(batch)[len(batch) :] for batch in drawn])
    advantage = (odds - odds.mean()) / (odds.std() + 1e-6)
    rows = torch.cat([flat_gradients(scene.model, batch, "trainable")[1] for batch in drawn])
    return (advantage[:, None] * rows).mean(0)


#: Name of an update → its step, and the options that the formula is for.
FORMULAS = {
    "joint": (joint, lambda scene: {}),
    "constant": (constant, lambda scene: {"ratio": 1.3}),
    "normalized": (normalized, lambda scene: {}),
    "band": (band, lambda scene: {}),
    "pcgrad": (pcgrad, lambda scene: {}),
    "mgda": (mgda, lambda scene: {}),
    "calibrated": (calibrated, lambda scene: {}),
    "split": (split, lambda scene: {}),
    "decoupled": (decoupled, lambda scene: {}),
    "everything": (everything, lambda scene: {"reference": scene.other}),
    "contrasting": (contrasting, lambda scene: {"reference": scene.other}),
    "two": (two, lambda scene: {"reference": scene.other, "other": scene.model, "scale": 0.5}),
    "geometry": (geometry, lambda scene: {"reference": scene.other}),
    "learned": (learned, lambda scene: {"reference": scene.other, "start": 0.7}),
    "adversarial": (adversarial, lambda scene: {"seed": 3}),
}
#: These are the loss's own step here: at this rate, and with all tokens.
OWN = {"joint", "split"}


def without_formula():
    """Return the declared updates that no entry of ``FORMULAS`` holds to anything."""
    return set(UPDATES) - set(FORMULAS)


def test_every_update_has_a_formula():
    assert without_formula() == set(), "write the update's own formula into FORMULAS"
    assert set(FORMULAS) <= set(UPDATES)


def test_a_new_update_without_a_formula_is_noticed(monkeypatch):
    set(UPDATES)
    monkeypatch.setitem(UPDATES._things, "brand-new", Declared(title="new", make=Joint))
    assert without_formula() == {"brand-new"}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_an_update_makes_the_step_of_its_formula(scene, name):
    formula, options = FORMULAS[name]
    expected = formula(scene)
    update = get_update(name, **options(scene))
    start = scene.theta().clone()
    update.begin(scene.model)
    optimizer = torch.optim.SGD(scene.model.parameters(), lr=ETA)
    report = update.step(scene.model, optimizer, scene.groups, scene.loss, scene.reference)
    assert report.losses.shape == (3,) and not report.losses.requires_grad
    step = (scene.theta() - start) / ETA
    size = float(expected.norm())
    assert size > 1e-4
    assert float((step - expected).norm()) < 1e-4 * size
    own = joint(scene)
    same = float((step - own).norm()) < 1e-3 * size
    assert same == (name in OWN), "another formula would have passed as well"


@pytest.mark.parametrize("first", ["chosen", "rejected"])
def test_split_takes_its_second_gradient_at_the_new_place(scene, first):
    eta, start = 1e-2, scene.theta().clone()
    update = get_update("split", order=first)
    update.begin(scene.model)
    optimizer = torch.optim.SGD(scene.model.parameters(), lr=eta)
    report = update.step(scene.model, optimizer, scene.groups, scene.loss, scene.reference)
    end = scene.theta().clone()
    torch.nn.utils.vector_to_parameters(start, scene.model.parameters())
    steps = {"chosen": (scene.d_w, 0, 1), "rejected": (scene.d_l, 1, -1)}
    norms = []
    for side in (first, "rejected" if first == "chosen" else "chosen"):
        weight, place, sign = steps[side]
        rows = torch.cat([flat_gradients(scene.model, g, "trainable")[place] for g in scene.groups])
        move = sign * (weight[:, None] * rows).mean(0)
        norms.append(float(move.norm()))
        torch.nn.utils.vector_to_parameters(scene.theta() + eta * move, scene.model.parameters())
    torch.testing.assert_close(end, scene.theta(), rtol=1e-9, atol=1e-12)
    assert report.grad_norm == pytest.approx(max(norms))
    # … which is not where the loss's own step leads.
    assert float((end - start - eta * joint(scene)).norm()) > 1e-3 * float((end - start).norm())


def test_the_norm_that_is_clipped_is_that_of_the_whole_gradient(scene):
    start, size = scene.theta().clone(), float(joint(scene).norm())
    update = get_update("joint")
    optimizer = torch.optim.SGD(scene.model.parameters(), lr=1.0)
    report = update.step(
        scene.model, optimizer, scene.groups, scene.loss, scene.reference, max_grad_norm=1e-3
    )
    assert report.grad_norm == pytest.approx(size, rel=1e-9) and size > 1e-2
    assert float((scene.theta() - start).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", ["joint", "band", "calibrated", "decoupled", "split"])
@pytest.mark.parametrize("level", ["pair", "batch"])
def test_the_weights_of_a_report_are_those_of_the_step(scene, name, level):
    """Where an update reports weights, its step is Σ (u_w g_w − u_l g_l), over B but for "decoupled"."""
    options = {}
    if level == "batch":
        if name not in ("band", "decoupled"):
            return
        options = {"level": "batch"}
    update = get_update(name, **options)
    update.begin(scene.model)
    start = scene.theta().clone()
    optimizer = torch.optim.SGD(scene.model.parameters(), lr=ETA)
    report = update.step(scene.model, optimizer, scene.groups, scene.loss, scene.reference)
    step = (scene.theta() - start) / ETA
    expected = scene.along(report.u_w, report.u_l)
    if name == "decoupled" and level == "pair":
        expected = expected * len(scene.d_w)  # its rows are the gradients, not their shares of a mean
    assert float((step - expected).norm()) < 1e-4 * float(step.norm())
    torch.testing.assert_close(report.d_w, scene.d_w)
    torch.testing.assert_close(report.d_l, scene.d_l)
    assert report.losses.shape == (3,) and not report.losses.requires_grad


@pytest.mark.parametrize("level", ["all", "batch"])
def test_decoupled_without_damping_moves_by_the_weights_and_takes_a_pair_twice(scene, level):
    """Two equal rows have no inverse, and still a smallest step that moves both as asked."""
    twice = [PairBatch.select(scene.groups[0], [0, 0])]
    reference = tuple(part[[0, 0]] for part in scene.reference)
    update = get_update("decoupled", damping=0.0, level=level)
    optimizer = torch.optim.SGD(scene.model.parameters(), lr=1e-6)
    start = [part.detach() for part in response_logps(scene.model, twice[0])]
    report = update.step(scene.model, optimizer, twice, scene.loss, reference)
    moved = [
        new.detach() - old for new, old in zip(response_logps(scene.model, twice[0]), start, strict=True)
    ]
    torch.testing.assert_close(moved[0] / 1e-6, report.d_w, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(moved[1] / 1e-6, -report.d_l, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["joint", "band", "split", "calibrated", "everything"])
def test_what_stood_in_the_gradients_before_does_not_matter(scene, name):
    ends, start = [], scene.theta().clone()
    for left in (None, 3.0):
        torch.nn.utils.vector_to_parameters(start.clone(), scene.model.parameters())
        for p in scene.model.parameters():
            p.grad = None if left is None else torch.full_like(p, left)
        update = get_update(name)
        update.begin(scene.model)
        optimizer = torch.optim.SGD(scene.model.parameters(), lr=1e-3)
        update.step(scene.model, optimizer, scene.groups, scene.loss, scene.reference)
        ends.append(scene.theta().clone())
        assert all(p.grad is None for p in scene.model.parameters())
    assert torch.equal(*ends) and not torch.equal(ends[0], start)
