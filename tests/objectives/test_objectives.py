"""The geometry of k objectives of any model: by the layers' rules, against autograd example by example."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from entanglement.gradients import UncoveredParameterWarning, pair_geometry
from entanglement.logps import response_logps
from entanglement.objectives import ObjectiveGeometry, objective_geometry, objective_gradients
from entanglement.pairs import collate

exactly = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11)


@pytest.fixture(autouse=True)
def _no_silence():
    """A parameter that no rule covers must be announced: elsewhere than expected, that is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncoveredParameterWarning)
        yield


# --- models -------------------------------------------------------------------------------------------------


class TwoDigits(nn.Module):
    """A convolutional trunk and two heads; whole images, or one number a channel."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU()
        )
        self.norm = nn.LayerNorm(6)
        self.left, self.right = nn.Linear(6, 5), nn.Linear(6, 3)

    def forward(self, x):
        z = self.norm(self.trunk(x).mean((2, 3)))
        return self.left(z), self.right(z)


class Words(nn.Module):
    """A small transformer, written out; its positions are a vector, and its output matrix is tied."""

    def __init__(self, vocab=11, d=8, longest=8, tied=True, places="vector"):
        super().__init__()
        self.as_vector = places == "vector"
        self.words, self.places = nn.Embedding(vocab, d), nn.Embedding(longest, d)
        self.norms = nn.ModuleList([nn.LayerNorm(d) for _ in range(3)])
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 12), nn.Linear(12, d)
        self.head, self.grade = nn.Linear(d, vocab, bias=False), nn.Linear(d, 1)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids):
        places = self.places(torch.arange(ids.shape[1]))
        x = self.words(ids) + (places if self.as_vector else places[None])
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.out(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        x = x + self.down(functional.gelu(self.up(self.norms[1](x))))
        x = self.norms[2](x)
        return self.head(x), self.grade(x[:, -1]).squeeze(1)


class Tower(nn.Module):
    """A recommender: one vector a user and an item, and a rating."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(20, 4), nn.Embedding(30, 4)
        self.bias = nn.Embedding(30, 1)

    def forward(self, users, items):
        return (self.users(users) * self.items(items)).sum(1) + self.bias(items).squeeze(1)


def digits(rows=5):
    torch.manual_seed(0)
    model = TwoDigits().double().eval()
    batch = (
        torch.randn(rows, 1, 8, 8, dtype=torch.float64),
        torch.randint(0, 5, (rows,)),
        torch.randint(0, 3, (rows,)),
    )

    def each(head):
        return lambda model, b: -functional.cross_entropy(model(b[0])[head], b[1 + head], reduction="none")

    return model, [each(0), each(1)], batch


def words(rows=5, **options):
    torch.manual_seed(0)
    model = Words(**options).double().eval()
    ids = torch.randint(0, 11, (rows, 7))

    def both(model, ids):
        logits, grade = model(ids)
        likely = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
        return torch.stack([likely.sum(1), grade, -likely[:, 2:].square().mean(1)], dim=1)

    return model, both, ids


def ratings(rows=6):
    torch.manual_seed(0)
    model = Tower().double().eval()
    users, items, others = (torch.randint(0, n, (rows,)) for n in (20, 30, 30))
    batch = {"users": users, "items": items, "others": others}
    up = lambda m, b: m(b["users"], b["items"])  # noqa: E731
    apart = lambda m, b: functional.logsigmoid(m(b["users"], b["items"]) - m(b["users"], b["others"]))  # noqa: E731
    return model, [up, apart, lambda m, b: -m(b["users"], b["others"]).square()], batch


CASES = {
    "convolutions": digits,
    "a transformer, tied": words,
    "a transformer, not tied": partial(words, tied=False),
    "as many rows as positions": partial(words, rows=7),
    "embeddings of one id": ratings,
    "one example": partial(words, rows=1),
}


def expected_gram(case, **options):
    g = objective_gradients(*case, **options)
    return g @ g.mT


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_the_rules_agree_with_autograd_example_by_example(make):
    case = make()
    found = objective_geometry(*case, strict=True)
    expected = expected_gram(case)
    assert expected.diagonal(dim1=1, dim2=2).min() > 1e-6
    exactly(found.gram, expected)
    assert found.gram.dtype == torch.float64


def test_positions_that_are_given_a_dimension_are_measured_slowly():
    case = words(places="with a dimension of examples")
    with pytest.warns(UncoveredParameterWarning, match=r"the use of places\.weight;"):
        exactly(objective_geometry(*case).gram, expected_gram(case))
    with pytest.raises(ValueError, match="as many examples as positions"):
        objective_geometry(*words(rows=7, places="with a dimension of examples"))


def test_each_example_of_the_oracle_stands_alone():
    model, objectives, (x, y, z) = digits()
    whole = objective_gradients(model, objectives, (x, y, z))
    for i in range(len(x)):
        alone = objective_gradients(model, objectives, (x[[i]], y[[i]], z[[i]]))
        exactly(alone[0], whole[i])


def test_one_forward_pass_for_all_objectives_gives_the_same():
    model, objectives, batch = digits()
    together = lambda m, b: torch.stack([f(m, b) for f in objectives], 1)  # noqa: E731

    def shared(model, batch):
        outputs = model(batch[0])
        parts = [
            -functional.cross_entropy(o, y, reduction="none") for o, y in zip(outputs, batch[1:], strict=True)
        ]
        return torch.stack(parts, 1)

    one = objective_geometry(model, objectives, batch).gram
    exactly(objective_geometry(model, together, batch).gram, one)
    exactly(objective_geometry(model, shared, batch).gram, one)


def test_objectives_with_inputs_of_different_lengths():
    model, _, ids = words()
    short = lambda m, x: m(x[:, :3])[1]  # noqa: E731
    case = (model, [short, lambda m, x: m(x)[1], lambda m, x: m(x)[0][:, -1, 0]], ids)
    exactly(objective_geometry(*case, strict=True).gram, expected_gram(case))


def test_float32_agrees_with_float64():
    model, objectives, (x, y, z) = digits()
    exact = objective_geometry(model, objectives, (x, y, z)).gram
    found = objective_geometry(model.float(), objectives, (x.float(), y, z)).gram
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "parameters", ["trainable", lambda name: name.startswith("trunk"), lambda n: "left" in n]
)
def test_a_selection_of_parameters(parameters):
    model, objectives, batch = digits()
    model.trunk[0].weight.requires_grad_(False)
    case = (model, objectives, batch, parameters)
    found = objective_geometry(*case, strict=True)
    exactly(found.gram, expected_gram(case))
    if parameters != "trainable" and parameters("left"):  # the other head's objective does not use them
        assert found.norms[:, 1].tolist() == [0.0] * 5 and (found.norms[:, 0] > 0).all()


def test_separate_parameters_are_not_coupled():
    model, _, batch = digits()
    twins = nn.ModuleList([model, digits()[0]])
    one, two = ((lambda m, b, i=i: m[i](b[0])[i][:, 0]) for i in (0, 1))
    found = objective_geometry(twins, [one, two], batch, strict=True)
    assert (found.gram[:, 0, 1] == 0).all() and (found.norms > 0).all()


def test_two_of_three_objectives_may_leave_a_parameter_alone():
    """What one head of three gets is nothing to the pair of the others."""
    torch.manual_seed(0)
    heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(3)]).double()
    batch = torch.randn(5, 4, dtype=torch.float64)
    both = [lambda model, x, i=i: (model[i](x) + model[0](x)).tanh()[:, 0] for i in (1, 2)]
    alone = [lambda model, x: model[0](x)[:, 0], *both]
    geometry = objective_geometry(heads, alone, batch, strict=True)
    rows = objective_gradients(heads, alone, batch)
    exactly(geometry.gram, rows @ rows.mT)
    some = objective_geometry(heads, alone, batch, lambda name: name.startswith("1"), strict=True)
    assert (some.gram[:, 1, 1] > 0).all() and not some.gram[:, [0, 2]].any()


def test_nothing_of_the_model_is_changed():
    model, objectives, batch = digits()
    model.left.weight.requires_grad_(False)
    model.right.weight.grad = torch.ones_like(model.right.weight)
    flags = [p.requires_grad for p in model.parameters()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    objective_geometry(model, objectives, batch)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.trunk[0].weight.grad is None and (model.right.weight.grad == 1).all()
    assert not any(module._forward_hooks for module in model.modules())


def test_a_margin_is_two_objectives_and_agrees_with_the_pairs(tiny_model, tokenizer, pairs):
    model, batch = tiny_model("gpt2-tied"), collate(pairs, tokenizer)
    expected = pair_geometry(model, batch)
    margin = [lambda m, b: response_logps(m, b)[0], lambda m, b: -response_logps(m, b)[1]]
    with pytest.warns(UncoveredParameterWarning):  # both responses lie in the first dimension
        found = objective_geometry(model, margin, batch)
    exactly(found.gram, ObjectiveGeometry.from_pairs(expected).gram)
    back = found.pair(0, 1)
    exactly(back.inner, expected.inner)
    assert (found.condition.all(1) == expected.condition).all()


# --- objectives of the whole batch --------------------------------------------------------------------------


def contrast(model, batch):
    """InfoNCE within the batch: an example looks at all others."""
    left, _ = model(batch[0])
    return -functional.cross_entropy(left @ left.T, torch.arange(len(left)), reduction="none")


def test_the_geometry_of_a_batch():
    model, objectives, batch = digits()
    whole = objective_geometry(model, objectives, batch, per="batch")
    mean = objective_gradients(model, objectives, batch).mean(0)
    exactly(whole.gram, (mean @ mean.T)[None])
    case = (model, [lambda m, b: contrast(m, b).mean(), objectives[1]], batch)
    exactly(objective_geometry(*case, per="batch").gram, expected_gram(case, per="batch"))
    pair = lambda m, b: torch.stack([f(m, b).mean() for f in objectives])  # noqa: E731
    exactly(objective_geometry(model, pair, batch, per="batch").gram, whole.gram)
    exactly(objective_geometry(model, lambda m, b: pair(m, b)[None], batch, per="batch").gram, whole.gram)


@pytest.mark.parametrize("rows", [2, 5])
def test_an_objective_that_looks_at_other_examples_is_refused(rows):
    model, objectives, batch = digits(rows)
    with pytest.raises(ValueError, match=r"looks at other examples.*per='batch'"):
        objective_geometry(model, [objectives[1], contrast], batch)


@pytest.mark.parametrize("who", [0, 1])
def test_one_example_that_looks_at_one_other_is_seen(who):
    model, objectives, batch = digits(2)

    def beside(m, b):
        left, right = m(b[0])
        return left[:, 0] + 1e-3 * right[:, 0].flip(0) * torch.eye(2)[who]

    with pytest.raises(ValueError, match="looks at other examples"):
        objective_geometry(model, [objectives[1], beside], batch)


def test_ids_that_look_at_other_examples_are_refused_too():
    model, objectives, batch = ratings()

    def in_batch(m, b):
        scores = m.users(b["users"]) @ m.items(b["items"]).mT
        return -functional.cross_entropy(scores, torch.arange(6), reduction="none")

    with pytest.raises(ValueError, match="looks at other examples"):
        objective_geometry(model, [objectives[0], in_batch], batch)


def test_batch_normalization():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
    case = (model, lambda m, x: m(x), torch.randn(6, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"1 normalizes over the batch.*per='batch'"):
        objective_geometry(*case)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = objective_geometry(*case, per="batch").gram
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model[1].training
    exactly(found, expected_gram(case, per="batch"))
    model.eval()
    with pytest.warns(UncoveredParameterWarning, match="1.weight"):
        exactly(objective_geometry(*case).gram, expected_gram(case))


# --- what no rule covers, and what is refused ---------------------------------------------------------------


def test_a_layer_without_a_rule_is_announced_or_refused():
    torch.manual_seed(0)
    model = nn.ModuleDict({"read": nn.GRU(3, 4, batch_first=True), "head": nn.Linear(4, 2)}).double()
    case = (model, lambda m, x: m["head"](m["read"](x)[0][:, -1]), torch.randn(4, 5, 3).double())
    with pytest.raises(ValueError, match="no rule covers the use of read"):
        objective_geometry(*case, strict=True)
    with pytest.warns(UncoveredParameterWarning, match="read.*an objective of an example"):
        exactly(objective_geometry(*case).gram, expected_gram(case))


def test_a_layer_whose_examples_lie_elsewhere_is_not_misread():
    torch.manual_seed(0)
    model = nn.Linear(3, 2).double()
    long, square = torch.randn(5, 4, 3).double(), torch.randn(4, 4, 3).double()
    by_column = lambda m, x: m(x).sum(0)  # noqa: E731
    with pytest.warns(UncoveredParameterWarning):
        exactly(objective_geometry(model, by_column, long).gram, expected_gram((model, by_column, long)))
    with pytest.raises(ValueError, match="not in the first dimension"):
        objective_geometry(model, by_column, square)


def _one(model, batch):
    return model(batch[0])[0][:, 0]


@pytest.mark.parametrize(
    ("objectives", "options", "said"),
    [
        ([_one], {}, "at least two functions"),
        ("both", {}, "at least two functions"),
        ([_one, 3], {}, "at least two functions"),
        ([_one, lambda m, b: _one(m, b).mean()], {}, r"objective 2 has shape \(\); expected \(5,\)"),
        ([_one, lambda m, b: _one(m, b)[:2]], {}, r"objective 2 has shape \(2,\)"),
        (_one, {}, r"shape \(5,\); expected \(B, k\)"),
        (lambda m, b: m(b[0])[0][:, :1], {"per": "batch"}, r"\(B, k\) or \(k,\)"),
        ([_one, lambda m, b: 1.0], {}, "returned 1.0; expected a tensor"),
        ([_one, lambda m, b: b[1]], {}, "expected a tensor of floating point"),
        ([_one, lambda m, b: _one(m, b) / 0.0], {}, "objective 2 for example 0 is not finite"),
        ([_one, lambda m, b: _one(m, b).detach()], {}, "objective 2 depends on no parameter"),
        ([_one, _one], {"names": ("a", "a")}, "2 different texts"),
        ([_one, _one], {"names": ("a",)}, "2 different texts"),
        ([_one, _one], {"per": "pair"}, "per='pair'"),
        ([_one, _one], {"parameters": lambda name: False}, "selects none"),
    ],
)
def test_what_cannot_be_meant_is_refused(objectives, options, said):
    model, _, batch = digits()
    with pytest.raises(ValueError, match=said):
        objective_geometry(model, objectives, batch, **options)


def test_dropout_is_refused_by_name_whatever_is_measured():
    model, objectives, batch = digits()
    model.trunk.add_module("drop", nn.Dropout(0.5))
    model.train()
    for per in ("example", "batch"):
        with pytest.raises(ValueError, match=r"trunk\.drop"):
            objective_geometry(model, objectives, batch, per=per)
