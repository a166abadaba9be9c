"""Whom a statement at the top of a module belongs to, what calls of our functions change, and registries' entries."""
# ruff: noqa: E501  (a statement and its owners are easier to compare in a line each)

import textwrap

import pytest

from entanglement_book.provenance.names import Names
from entanglement_book.provenance.registrations import Registrations

REGISTRY = """
    class Registry:
        def __init__(self, what, package=None, printed=()):
            self.things = {}

        def add(self, name, thing):
            self.things[name] = thing


    class Other:
        def add(self, name, thing):
            self.things[name] = thing
    """


@pytest.fixture
def read(tmp_path):
    """A function that writes modules, ``m`` among them, and returns what is registered in them."""

    def read_them(text, **modules):
        folder = tmp_path / "entanglement"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        for name, source in {"registry": REGISTRY, "m": text, **modules}.items():
            path = folder / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source).lstrip())
        return Registrations(Names(tmp_path))

    return read_them


def owners(found, first_line, module="m"):
    """Return the names of the units to which statements of a module from some line on belong."""
    names = set()
    for other in found.names.modules.values():
        for unit in (*other.units(), other.effects):
            if any(
                a.module.name == f"entanglement.{module}" and a.node.lineno >= first_line for a in unit.atoms
            ):
                prefix = "" if other.name == f"entanglement.{module}" else f"{other.name.rpartition('.')[2]}."
                names.add(prefix + ("effects" if unit is other.effects else unit.name))
    return names


def entries(found):
    return [
        (registry.kind, entry.name, entry.unit.name)
        for registry in found.registries.values()
        for entry in registry.entries
    ]


def belongs(*words):
    return set(words)


STATEMENTS = """
    from entanglement import n
    from entanglement.n import FAR
    from entanglement.registry import Registry, Other

    X = [1]
    Y = [2]
    KNOWN = Registry("known")
    PLAIN = Other()


    def fill():
        X.append(3)


    def add(name):
        KNOWN.add(name, 1)


    def both(name):
        KNOWN.add(name, 1)
        X.append(2)


    def nothing():
        pass


    class Thing:
        pass


    """
FIRST = len(STATEMENTS.splitlines())


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("X.append(1)", belongs("X")),
        ("X[0] = 1", belongs("X")),
        ("X[0].a.b = 1", belongs("X")),
        ("X.a.b = 1", belongs("X")),
        ("X.a[0] = 1", belongs("X")),
        ("X[0]: int = 1", belongs("X")),
        ("X[0] += 1", belongs("X")),
        ("X.a += 1", belongs("X")),
        ("X += [1]", belongs("X")),
        ("del X[0]", belongs("X")),
        ("del X[0], Y[0]", belongs("X", "Y")),
        ("X[0] = Y[0] = 1", belongs("X", "Y")),
        ("X[0], Y[0] = 1, 2", belongs("X", "Y")),
        ("[X[0], Y[0]] = 1, 2", belongs("X", "Y")),
        ("X[0], (new, *Y[1:]) = 1, 2", belongs("X", "Y", "new")),
        ("new = X.copy()", belongs("new")),
        ("new = X.append(1), Y", belongs("new")),  # a call that is used is there for its value
        ("new: int = fill()", belongs("new", "X")),
        ("fill()", belongs("X", "effects")),
        ("await fill()", belongs("X", "effects")),
        ("fill.limit = 1", belongs("fill")),
        ("fill.limit(1)", belongs("fill")),
        ("fill().a = 1", belongs("X", "effects")),
        ("fill()[0] = 1", belongs("X", "effects")),
        ("nothing()[0] = 1", belongs("effects")),  # nobody knows what it is
        ("nothing()", belongs("effects")),
        ("new = nothing()", belongs("new")),
        ("Thing()", belongs("effects")),
        ("Thing.a = 1", belongs("Thing")),
        ("print(1)", belongs("effects")),
        ("await print(1)", belongs("effects")),
        ("new = print(1)", belongs("new")),
        ("(1).a = 2", belongs("effects")),
        ("'a'.b()", belongs("effects")),
        ("new = 'a'.b()", belongs("new")),
        ("raise ValueError", belongs("effects")),
        ("while Y:\n    break", belongs("effects")),
        ("for new in X:\n    pass", belongs("new")),
        ("for new in X:\n    new()", belongs("new")),
        ("for new in X:\n    new.a()", belongs("new")),
        ("for new in X:\n    print(new)", belongs("new", "effects")),
        ("for new in X:\n    X.append(new)\n    Y.append(new)", belongs("new", "X", "Y")),
        ("for new in X:\n    X.append(new)\n    print(new)", belongs("new", "X", "effects")),
        ("with open('a') as new:\n    pass", belongs("new")),
        ("with open('a'):\n    pass", belongs("effects")),
        ("if X:\n    Y.append(1)", belongs("Y")),
        ("n.FAR = 1", belongs("n.FAR")),
        ("n.FAR.append(1)", belongs("n.FAR")),
        ("FAR[0] = 1", belongs("n.FAR")),
        ("n.grow()", belongs("n.FAR", "effects")),
        ("n.nowhere = 1", belongs("effects")),  # a new name in a module
        ("PLAIN.add('a', 1)", belongs("PLAIN")),
        ("new = PLAIN.add('a', 1)", belongs("new")),
        ("KNOWN.things['a'] = 1", belongs("KNOWN")),
        ("KNOWN.clear()", belongs("KNOWN")),
        ("KNOWN.add = 1", belongs("KNOWN")),
        ("KNOWN.add(name, 1)", belongs("KNOWN")),
        ("KNOWN.add(1, 1)", belongs("KNOWN")),
        ("KNOWN.add()", belongs("KNOWN")),
        ("KNOWN.add('a', 1)", belongs()),  # an entry of its own
        ("new = KNOWN.add('a', 1)", belongs("new")),
        ("for new in X:\n    KNOWN.add('a', 1)", belongs("new", "KNOWN")),
        ("add('a')", belongs()),
        ("add(name='a')", belongs()),
        ("add(other='a')", belongs("KNOWN")),
        ("add(*names)", belongs("KNOWN")),
        ("both('a')", belongs("X", "effects")),
        ("def new():\n    X.append(1)", belongs("new")),
        ("@fill\ndef new():\n    pass", belongs("new")),
        ("class new:\n    X.append(1)", belongs("new")),
        ("import os", belongs()),
    ],
)
def test_whom_a_statement_belongs_to(read, statement, expected):
    far = "FAR = [1]\n\n\ndef grow():\n    FAR.append(1)\n"
    found = read(textwrap.dedent(STATEMENTS).lstrip() + statement + "\n", n=far)
    assert owners(found, FIRST - 1) == expected


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ("X.append(1)", belongs("X")),
        ("X.update(a)", belongs("X")),
        ("X.discard(a)", belongs("X")),
        ("X.register(a)", belongs("X")),
        ("X.sort()", belongs()),  # of a list nobody of ours made only what is named like writing changes it
        ("X.a.append(1)", belongs("X")),
        ("X[0].append(1)", belongs("X")),
        ("X[0] = 1", belongs("X")),
        ("X.a = 1", belongs("X")),
        ("X[0]: int = 1", belongs("X")),
        ("del X[0]", belongs("X")),
        ("X[0], Y.a = 1, 2", belongs("X", "Y")),
        ("[X[0], [*Y[1:]]] = 1, 2", belongs("X", "Y")),
        ("return X.append(1)", belongs("X")),
        ("return [X.append(y) for y in Y]", belongs()),
        ("if Y:\n    for y in Y:\n        X.append(1)", belongs("X")),
        ("await X.append(1)", belongs("X")),
        ("X", belongs()),
        ("return X", belongs()),
        ("X()", belongs()),
        ("X = 1", belongs()),
        ("X = 1\nX[0] = 1", belongs()),
        ("for X in Y:\n    X[0] = 1", belongs()),
        ("x[0] = 1", belongs()),
        ("args[0] = 1\nkwargs[0] = 1\nonly[0] = 1\nfirst[0] = 1", belongs()),
        ("global X\nX = 1", belongs("X")),
        ("global X\nX += 1", belongs("X")),
        ("global X, Y", belongs("X", "Y")),
        ("global FAR\nFAR += [1]", belongs("n.FAR")),
        ("global FAR\nFAR = [1]", belongs()),
        ("FAR.append(1)", belongs("n.FAR")),
        ("from entanglement.n import FAR\nFAR[0] = 1", belongs("n.FAR")),
        ("def inner():\n    X.append(1)\nreturn inner", belongs("X")),
        ("async def inner():\n    X.append(1)\nreturn inner", belongs("X")),
        ("def inner(X):\n    X.append(1)\nreturn inner", belongs()),
        ("def inner():\n    global X\n    X = 1\nreturn inner", belongs("X")),
        ("fill()", belongs("X")),
        ("return fill()", belongs("X")),
        ("fill.a()", belongs()),
        ("fill.a = 1", belongs()),  # what hangs at a function is no value of the book's
        ("Thing.a = 1", belongs()),
        ("Thing()", belongs("Y")),
        ("Thing.append(1)", belongs()),
        ("round_about(x)", belongs("X")),
        ("MINE.grow()", belongs("MINE")),
        ("return MINE.grow()", belongs("MINE")),
        ("MINE.get(1)", belongs()),
        ("MINE.part.grow()", belongs()),
        ("MINE.part.append()", belongs("MINE")),
        ("MINE()", belongs()),
        ("NUMBER.grow()", belongs()),
        ("THEIRS.grow()", belongs()),
        ("CHOSEN.grow()", belongs("CHOSEN")),
        ("MIXED.append(1)", belongs()),
        ("KNOWN.clear()", belongs("KNOWN")),
        ("KNOWN.add", belongs()),
        ("KNOWN.add(x, 1)", belongs("KNOWN")),
        ("unknown.append(1)", belongs()),
        ("'a'.append(1)", belongs()),
    ],
)
def test_what_a_call_of_a_function_of_ours_changes(read, body, changed):
    text = f"""
import other
from entanglement import n
from entanglement.n import FAR
from entanglement.registry import Registry

X = [1]
Y = [2]
NUMBER = 3
MINE = Thing()
THEIRS = other.Thing()
CHOSEN = 1
CHOSEN = Thing()
MIXED = 1
KNOWN = Registry("known")


def MIXED():
    pass


def fill():
    X.append(3)


def round_about(x):
    call(x)
    X.append(3)


class Thing:
    x = Y.append(1)

    def __init__(self):
        Y.append(3)

    def grow(self):
        X.append(3)


async def call(first, /, x, *args, only, **kwargs):
    round_about(x)
{textwrap.indent(body, "    ")}


"""
    if "round_about" not in body:
        text = text.replace("    round_about(x)\n", "", 1)
    found = read(text + "new = call(name)\n", n="FAR = [1]\n")
    assert owners(found, len(text.splitlines())) == changed | {"new"}


@pytest.mark.parametrize("method", ["__new__", "__init__", "__post_init__", "__call__"])
def test_what_makes_an_object_counts_for_its_class(read, method):
    text = f"X = []\n\n\nclass Thing:\n    def {method}(self):\n        X.append(1)\n\n\n"
    assert owners(read(text + "new = Thing()\n"), 8) == {"new", "X"}


@pytest.mark.parametrize(
    ("function", "call", "expected"),
    [
        ("def put(name):\n    R.add(name, 1)", "put('a')", ["a"]),
        ("def put(size, name):\n    R.add(name, 1)", "put(1, 'a')", ["a"]),
        ("def put(size, name):\n    R.add(name, 1)", "put(name='a', size='b')", ["a"]),
        ("def put(size, /, title, name):\n    R.add(name=title, thing=name)", "put(1, 'a', 'b')", ["a"]),
        ("def put(size, name):\n    R.add(thing=size, name=name)", "put('b', 'a')", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "put('a')(put('b'))", ["a", "b"]),
        ("def put(name):\n    R.add(name, 1)", "put('a')(1)(2)", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "put()", []),
        ("def put(name):\n    R.add(name, 1)", "put(1)", []),
        ("def put(name):\n    R.add(name, 1)", "put(other)", []),
        ("def put(name):\n    R.add(name, 1)", "put.more('a')", []),
        ("def put(name):\n    R.add(other, 1)", "put('a')", []),
        ("def put(name):\n    R.add(name.lower(), 1)", "put('a')", []),
        ("def put(name):\n    R.add(name.other, 1)", "put('a')", []),
        ("def put(name):\n    R.add()", "put('a')", []),
        ("def put(*, name):\n    R.add(name, 1)", "put(name='a')", []),
        ("async def put(name):\n    R.add(name, 1)", "put('a')", ["a"]),
        (
            "def put(name):\n    def inner(function):\n        R.add(name, function)\n    return inner",
            "put('a')(1)",
            ["a"],
        ),
        ("def put(name):\n    if name:\n        return R.add(name, 1)", "put('a')", ["a"]),
        ("def put(name):\n    return [R.add(name, 1)]", "put('a')", ["a"]),
        (
            "class put:\n    def __init__(self, name):\n        R.add(name, 1)",
            "put('a')",
            [],
        ),  # self counts, too
        ("def put(function):\n    R.add(function.__name__, 1)", "@put\ndef a(): pass", ["a"]),
        ("def put(function):\n    R.add(function.__name__, 1)", "@put\nclass a: pass", ["a"]),
        ("def put(function):\n    R.add(function.__name__, 1)", "@put\nasync def a(): pass", ["a"]),
        ("def put(function):\n    R.add(function.__name__, 1)", "put(a)", []),
        ("def put(name):\n    R.add(name, 1)", "@put('a')\ndef b(): pass", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "@put('a').more\ndef b(): pass", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "@put\ndef b(): pass", []),
        ("def put(name):\n    R.add(name, 1)", "@put('a')\n@put('c')\ndef b(): pass", ["a", "c"]),
        ("def put(name):\n    R.add(name, 1)", "new = put('a')", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "new: int = put('a')", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "new, more = put('a')", ["a"]),
        ("def put(name):\n    R.add(name, 1)", "new += put('a')", []),
        ("def put(name):\n    R.add(name, 1)", "for x in y:\n    put('a')", []),
        ("def put(name):\n    more(name)\ndef more(name):\n    R.add(name, 1)", "put('a')", []),
        ("def put(name):\n    S.add(name, 1)", "put('a')", []),
        ("", "R.add('a', 1)", ["a"]),
        ("", "R.add(name='a', thing='b')", ["a"]),
        ("", "R.add('a', 1), R.add('b', 1)", ["a", "b"]),
        ("", "new = R.add('a', 1)", ["a"]),
        ("", "R.add(b'a', 1)", []),
        ("", "R.add(f'a', 1)", []),
        ("", "R.more('a', 1)", []),
        ("", "R.add.more('a', 1)", []),
        ("", "S.add('a', 1)", []),
    ],
)
def test_what_is_an_entry_and_by_which_name(read, function, call, expected):
    text = f"from entanglement.registry import Other, Registry\n\nR = Registry('r')\nS = Other('s')\n{function}\n{call}\n"
    assert sorted(name for _, name, _ in entries(read(text))) == expected


@pytest.mark.parametrize(
    ("statement", "kind", "printed"),
    [
        ("R = Registry('r')", "r", set()),
        ("R: Registry = Registry('r')", "r", set()),
        ("R = Registry(what='r')", "r", set()),
        ("R = Registry('r', printed=('a', 'b'))", "r", {"a", "b"}),
        ("R = Registry('r', printed=['a'])", "r", {"a"}),
        ("R = Registry('r', 'package', ('a',))", "r", {"a"}),
        ("R = Registry('r', 'package')", "r", set()),
        ("R = Registry('r', ('a',))", "r", set()),
        ("R = Registry[int]('r')", "r", set()),
        ("R = entanglement.registry.Registry('r')", "r", set()),
        ("R = Sub('r')", "r", set()),
        ("R = SubSub('r')", "r", set()),
        ("R = Generic('r')", "r", set()),
        ("R = Second('r')", "r", set()),
        ("R = Other('r')", None, None),
        ("R = Apart('r')", None, None),
        ("R = circle_a('r')", None, None),
        ("R = make('r')", None, None),
        ("R = Registry", None, None),
        ("R = Registry()", None, None),
        ("R = Registry(kind)", None, None),
        ("R = Registry(1)", None, None),
        ("R = Registry('r').things", None, None),
        ("R = [Registry('r')]", None, None),
        ("Registry('r')", None, None),
        ("def R():\n    return Registry('r')", None, None),
    ],
)
def test_what_is_a_registry(read, statement, kind, printed):
    text = f"""
import entanglement.registry
from entanglement.registry import Other, Registry


class Sub(Registry):
    pass


class SubSub(Sub):
    pass


class Generic(Registry[int]):
    pass


class Second(Other, Registry):
    pass


class Apart(Other, unknown, str, (int)):
    pass


class circle_a(circle_b):
    pass


class circle_b(circle_a):
    pass


def make(what):
    return Registry(what)


{statement}
R.add("a", 1)
"""
    found = read(text)
    known = [(registry.kind, set(registry.printed)) for registry in found.registries.values()]
    assert known == ([] if kind is None else [(kind, printed)])
    assert [unit.is_registry for unit in found.registries] == [True] * len(known)
    assert entries(found) == [(kind, "a", "R 'a'")] * len(known)


def test_registries_of_one_kind(read):
    found = read(
        "from entanglement.registry import Registry\n\nR = Registry('r')\nS = Registry('s')\nT = Registry('r')\n"
    )
    assert [[registry.unit.name for registry in found.of_kind(kind)] for kind in "rst"] == [
        ["R", "T"],
        ["S"],
        [],
    ]


def test_entries_stand_in_the_order_of_their_modules_and_lines(read):
    add = "from entanglement.m import R\n\nR.add('{0}2', 1)\nR.add('{0}1', 1)\n"
    found = read(
        "from entanglement.registry import Registry\n\nR = Registry('r', printed=('title',))\nR.add('m', 1)\n",
        z=add.format("z"),
        b__c=add.format("c"),
    )
    (registry,) = found.registries.values()
    assert [entry.name for entry in registry.entries] == ["c2", "c1", "m", "z2", "z1"]
    assert [entry.place for entry in registry.entries][:3] == [
        ("entanglement.b.c", 3),
        ("entanglement.b.c", 4),
        ("entanglement.m", 4),
    ]
    assert {entry.unit.kind for entry in registry.entries} == {"entry"}
    assert {entry.unit.printed for entry in registry.entries} == {frozenset({"title"})}


def test_statements_of_a_name_stand_in_order_and_its_own_module_first(read):
    change = "from entanglement import m\n\nprint(1)\nm.X.append(2)\nm.X.append(1)\n"
    found = read("fill()\n\n\ndef fill():\n    X.append(1)\n\n\nX = [1]\nX.append(3)\n", z=change, a=change)
    (unit,) = found.names.definitions("entanglement.m", "X")
    assert [(atom.module.name.rpartition(".")[2], atom.node.lineno) for atom in unit.atoms] == [
        ("m", 1), ("m", 8), ("m", 9), ("a", 4), ("a", 5), ("z", 4), ("z", 5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "also"),
    [
        ("@app.command()\ndef one(): pass", ["app: one"]),
        ("@app.command\ndef one(): pass", ["app: one"]),
        ("@app.group.command(1)\nclass one: pass", ["app: one"]),
        ("@app\ndef one(): pass", []),
        ("@app()\ndef one(): pass", []),
        ("@keep\ndef one(): pass", ["KEPT: one"]),
        ("@keep(1)\ndef one(): pass", ["KEPT: one"]),
        ("@keep\nasync def one(): pass", ["KEPT: one"]),
        ("@unknown.command()\ndef one(): pass", []),
        ("@(lambda f: f)\ndef one(): pass", []),
        ("@one.setter\ndef one(): pass", []),
        ("@put(name)\ndef one(): pass", ["R: one"]),
        ("@put('a')\ndef one(): pass", []),
        ("class one(Base): pass", ["KEPT: one"]),
        ("class one(Middle): pass", ["KEPT: Middle", "KEPT: one"]),
        ("class one(Middle, unknown, (int)): pass", ["KEPT: Middle", "KEPT: one"]),
        ("class one(Base[int]): pass", ["KEPT: one"]),
        ("class one(one): pass", []),
        ("class one(KEPT): pass", []),
        ("class one(Plain): pass", []),
        ("class one(Plain, metaclass=Base): pass", []),
    ],
)
def test_what_belongs_to_a_name_beside_its_statements(read, definition, also):
    found = read(f"""
from entanglement.registry import Registry
app = Application()
KEPT = []
R = Registry("r")


def keep(function):
    KEPT.append(function)
    return function


def put(name):
    def register(function):
        R.add(name, function)

    return register


class Base:
    def __init_subclass__(cls):
        KEPT.append(cls)

    def __init__(self):
        R.add(1, 2)


class Plain:
    def __init_subclass__(cls):
        print(cls)

    def other(self):
        KEPT.append(self)

{"class Middle(Base): pass" if "Middle" in definition else ""}


{definition}
""")
    units = (unit for module in found.names.modules.values() for unit in module.units())
    assert sorted(f"{unit.name}: {other.name}" for unit in units for other in unit.also) == also
