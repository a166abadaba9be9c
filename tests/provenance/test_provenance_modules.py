"""What a file says as text: its names, its imports, the statements that do something, and where names lead."""
# ruff: noqa: E501  (a statement and what it binds are easier to compare in a line each)

import ast
import textwrap

import pytest

from entanglement_book.provenance.modules import (
    Import,
    Unit,
    bound_names,
    import_bindings,
    inner_statements,
    read_module,
)
from entanglement_book.provenance.names import Found, Names


@pytest.fixture
def read(tmp_path):
    def read_text(text, name="e.m", file="m.py"):
        (tmp_path / file).write_text(textwrap.dedent(text))
        return read_module(name, tmp_path / file)

    return read_text


def shown(what):
    return what.name if isinstance(what, Unit) else f"{what.module}:{what.name}" if what.name else what.module


@pytest.mark.parametrize(
    ("statement", "module", "package", "bound", "stars", "imported"),
    [
        ("import a", "m", False, {"a": Import("a")}, [], ["a"]),
        ("import a.b", "m", False, {"a": Import("a")}, [], ["a.b"]),
        ("import a.b as c", "m", False, {"c": Import("a.b")}, [], ["a.b"]),
        ("import a, b.c", "m", False, {"a": Import("a"), "b": Import("b")}, [], ["a", "b.c"]),
        ("from a import b", "m", False, {"b": Import("a", "b")}, [], ["a", "a.b"]),
        (
            "from a import b as c, d",
            "m",
            False,
            {"c": Import("a", "b"), "d": Import("a", "d")},
            [],
            ["a", "a.b", "a.d"],
        ),
        ("from a import *", "m", False, {}, ["a"], ["a"]),
        ("from . import b", "p.m", False, {"b": Import("p", "b")}, [], ["p", "p.b"]),
        ("from .a import b", "p.m", False, {"b": Import("p.a", "b")}, [], ["p.a", "p.a.b"]),
        ("from .a import *", "p.m", False, {}, ["p.a"], ["p.a"]),
        ("from ..a import b", "p.q.m", False, {"b": Import("p.a", "b")}, [], ["p.a", "p.a.b"]),
        ("from . import b", "p.m", True, {"b": Import("p.m", "b")}, [], ["p.m", "p.m.b"]),
        ("from ..a import b", "p.m", True, {"b": Import("p.a", "b")}, [], ["p.a", "p.a.b"]),
    ],
)
def test_what_an_import_binds_and_runs(statement, module, package, bound, stars, imported):
    (node,) = ast.parse(statement).body
    assert import_bindings(node, module, package) == (list(bound.items()), stars, imported)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a = 1", "a"),
        ("a = b = 1", "a b"),
        ("a, (b, *c) = d", "a b c"),
        ("[a, b] = c", "a b"),
        ("a.b = 1", ""),
        ("a[b] = 1", ""),
        ("a: int = 1", "a"),
        ("a += 1", "a"),
        ("del a", "a"),
        ("a", ""),
        ("f(a := 1)", "a"),
        ("for a in b: c = 1", "a c"),
        ("while a: b = 1", "b"),
        ("with a as b: c = 1", "b c"),
        ("if a: b = 1\nelse: c = 1", "b c"),
        ("try: a = 1\nexcept B as b: c = 1", "a b c"),
        ("try: a = 1\nexcept B: c = 1", "a c"),
        ("def a(b=(c := 1)): d = 1", "a"),
        ("async def a(): d = 1", "a"),
        ("@(b := c)\ndef a(): pass", "a b"),
        ("class a(b):\n    c = 1", "a"),
        ("@(b := c)\nclass a: pass", "a b"),
        ("lambda a: (b := 1)", ""),
        ("[a for a in b]", ""),
        ("{a for a in b}", ""),
        ("(a for a in b)", ""),
        ("{a: b for a, b in c}", ""),
        ("[(d := a) for a in b]", "d"),
        ("import a.b, c as d", "a d"),
        ("from a import b", "b"),
        ("match a:\n    case b: pass", "b"),
        ("match a:\n    case _: pass", ""),
        ("match a:\n    case [b, *c]: pass", "b c"),
        ("match a:\n    case [*_]: pass", ""),
        ("match a:\n    case {'k': b, **c}: pass", "b c"),
        ("match a:\n    case {'k': 1}: pass", ""),
        ("match a:\n    case B(c=d) as e: pass", "d e"),
        ("global a\na = 1\nb = 1", "b"),
        ("nonlocal a\na = 1\nb = 1", "b"),
        ("a = 1\nimport a", "a"),
    ],
)
def test_which_names_a_scope_binds(text, names):
    assert sorted(bound_names(ast.parse(text).body)) == names.split()


def test_a_bound_name_comes_with_the_imports_that_bind_it():
    tree = ast.parse("from . import a\na = 1\nfrom b import a\nc = 1\nimport d.e")
    found = bound_names(tree.body, "p.m")
    assert found == {"a": [Import("b", "a"), Import("p", "a")], "c": [], "d": [Import("d")]}
    assert bound_names(tree.body, "p.m", True)["a"] == [Import("b", "a"), Import("p.m", "a")]
    assert bound_names(tree.body, "p.m") == found  # asked a second time


def test_what_runs_in_a_scope_is_walked_and_what_runs_later_is_not():
    text = "@a\ndef f(x=b):\n    c\n@d\nclass C(e):\n    g\nlambda: h\n[i for j in k]\nl(m)[n:o]"
    names = {node.id for node in inner_statements(ast.parse(text).body) if isinstance(node, ast.Name)}
    assert names == {"a", "d", "l", "m", "n", "o"}


@pytest.mark.parametrize(
    ("text", "bound", "loose"),
    [
        ("a = 1", "a", 1),
        ("a: int = 1", "a", 1),
        ("a: int", "", 0),
        ("a.b: int = 1", "", 1),
        ("a = 1\na += 1", "a", 2),
        ("'text'", "", 0),
        ("...", "", 0),
        ("1 + 1", "", 1),
        ("f()", "", 1),
        ("assert a", "", 0),
        ("pass", "", 0),
        ("global a", "", 0),
        ("def f(): pass", "f", 0),
        ("async def f(): pass", "f", 0),
        ("@g\ndef f(): pass", "f", 1),
        ("class A: pass", "A", 1),
        ("@overload\ndef f(): pass", "", 0),
        ("@typing.overload\ndef f(): pass", "", 0),
        ("@cache\n@overload\ndef f(): pass", "", 0),
        ("@overload()\ndef f(): pass", "f", 1),
        ("@overload\nclass A: pass", "A", 1),
        ("for a in b: c = 1", "a c", 1),
        ("if a:\n    b = 1\nelse:\n    c = 1", "b c", 2),
        ("if a:\n    pass\nelif b:\n    c = 1", "c", 1),
        ("if TYPE_CHECKING:\n    b = 1", "", 0),
        ("if typing.TYPE_CHECKING:\n    b = 1\nelse:\n    c = 1", "c", 1),
        ("if TYPE_CHECKING():\n    b = 1", "b", 1),
        ("if __name__ == '__main__':\n    b = 1", "", 0),
        ("if __name__ == '__main__':\n    b = 1\nelse:\n    c = 1", "c", 1),
        ("if '__main__' == a:\n    b = 1", "b", 1),
        ("if a.b == '__main__':\n    b = 1", "b", 1),
        ("if __name__:\n    b = 1", "b", 1),
        ("try:\n    a = 1\nexcept A:\n    b = 1\nelse:\n    c = 1\nfinally:\n    d = 1", "a b c d", 4),
        ("with a as b: c = 1", "b c", 1),
        ("import a", "a", 0),
    ],
)
def test_what_a_module_defines_and_which_of_its_statements_do_something(read, text, bound, loose):
    module = read(text)
    assert sorted(module.bindings) == bound.split() and len(module.loose) == loose


def test_a_statement_stands_under_its_conditions(read):
    text = "if a:\n    try:\n        b = 1\n    except C:\n        b = 2\n    except:\n        b = 3\nelse:\n    b = 4\nb = 5"
    (unit,) = read(text).units()
    guards = [[g if isinstance(g, str) else ast.unparse(g) for g in atom.guards] for atom in unit.atoms]
    assert guards == [["a", "try"], ["a", "except", "C"], ["a", "except"], ["else", "a"], []]


@pytest.mark.parametrize(
    ("text", "name", "file", "imported"),
    [
        ("", "m", "m.py", []),
        ("", "e", "__init__.py", []),
        ("", "e.p", "__init__.py", []),
        ("", "e.m", "m.py", ["e"]),
        ("", "e.p.m", "m.py", ["e.p"]),
        ("import a.b\nfrom . import c", "e.m", "m.py", ["e", "a.b", "e", "e.c"]),
        ("from . import c", "e.p", "__init__.py", ["e.p", "e.p.c"]),
        ("def f(): import a", "e.m", "m.py", ["e"]),
        ("if TYPE_CHECKING: import a", "e.m", "m.py", ["e"]),
    ],
)
def test_what_importing_a_module_imports(read, text, name, file, imported):
    module = read(text, name, file)
    assert module.imported == imported and module.is_package == (file == "__init__.py")


def test_what_else_a_module_says(read):
    assert [read(text).lazy_annotations for text in (
        "from __future__ import annotations\nimport a", "from __future__ import division", "from a import annotations", ""
    )] == [True, False, False, False]  # fmt: skip
    assert read("from a import *\nfrom .b import *\nfrom c import d").stars == ["a", "e.b"]
    module = read("import a\nfrom b import a\na = 1\n__all__ = ['a']\nc = 1\nc = 2")
    assert [shown(what) for what in module.bindings["a"]] == ["a", "b:a", "a"]
    assert [unit.name for unit in module.units()] == ["a", "c"]
    (unit,) = module.bindings["c"]
    assert (unit.label, repr(unit), len(unit.atoms)) == ("e.m: c", "e.m: c", 2)
    assert module.whole.label == "e.m: (the module as an object)" and Unit(None, "x").label == "x"
    assert module.lines == ["import a", "from b import a", "a = 1", "__all__ = ['a']", "c = 1", "c = 2"]


@pytest.mark.parametrize("text", ["def f(:\n", "a = 1\0\n"])
def test_a_file_that_is_no_python_is_one_text(read, text):
    for file in ("m.py", "__init__.py"):
        module = read(text, file=file)
        (atom,) = module.whole.atoms
        assert atom.node.value == text and module.is_package == (file == "__init__.py")
        assert module.units() == module.imported == module.loose == []


PACKAGES = {
    "one/__init__.py": "from one.a import f as g\nfrom . import a\nimport numpy as np\n__all__ = ['g']\n",
    "one/a.py": "import numpy\nfrom one.deep import b\n\n\ndef f():\n    pass\n\n\nclass C:\n    pass\n",
    "one/deep/__init__.py": "",
    "one/deep/b.py": "from one.deep import c\nfrom one.deep.c import h\n\nX = 1\n",
    "one/deep/c.py": "from one.deep.b import h, X\n",
    "one/stars.py": "from one.a import *\nfrom two.all import *\nfrom numpy import *\nfrom one.stars import *\n",
    "one/either.py": "try:\n    from one.a import f\nexcept ImportError:\n    from numpy import f\n\nf.x = 1\n",
    "two/__init__.py": "",
    "two/all.py": "__all__ = ['Y']\nY = 1\n_Z = 2\n",
    "two/lazy/__init__.py": """
        _WHERE = {"f": "one.a", "X": ".inner", "Y": "two.all", "n": "numpy", "k": 3, 4: "one.a", **OTHER, "s": "in" + "ner"}
        _LIST = ["h"]


        def __getattr__(name):
            pass


        OWN = 1
        """,
    "two/lazy/inner.py": "X = 1\n",
    "two/eager/__init__.py": "_WHERE = {'f': 'one.a'}\n",
    "bad/__init__.py": "x = = 1\n",
    "loose.py": "Z = 1\n",
    "folder/m.py": "Z = 1\n",
}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    root = tmp_path_factory.mktemp("names")
    for name, text in PACKAGES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return Names(root)


def ends(found):
    return [f"{end.unit.label if end.unit else '!' + end.external} {end.used}" for end in found]


def whole(module):
    return f"{module}: (the module as an object)"


def test_packages_are_folders_with_an_init(names):
    assert names.packages == {"one", "two", "bad"}
    assert {name for name in names.modules if name.startswith("two")} == {
        "two", "two.all", "two.lazy", "two.lazy.inner", "two.eager"
    }  # fmt: skip
    assert [names.is_ours(name) for name in ("one", "one.x", "ones", "numpy.one", "loose")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_importing_a_module_runs_the_packages_around_it(names):
    run = lambda dotted: [module.name for module in names.with_parents(dotted)]  # noqa: E731
    assert run("one.deep.b") == ["one", "one.deep", "one.deep.b"]
    assert run("one.deep.b.X") == ["one", "one.deep", "one.deep.b"]
    assert run("one") == ["one"] and run("numpy.one") == [] and run("") == []


@pytest.mark.parametrize(
    ("dotted", "attributes", "expected"),
    [
        ("one.a", "f", ["one.a: f 1"]),
        ("one.a", "f.x.y", ["one.a: f 1"]),
        ("one.a", "C.run", ["one.a: C 1"]),
        ("one.a", "", [f"{whole('one.a')} 0"]),
        ("one.a", "missing", [f"{whole('one.a')} 0"]),
        ("one.a", "missing.more", [f"{whole('one.a')} 0"]),
        ("one.a:f", "", ["one.a: f 0"]),
        ("one.a:f", "x", ["one.a: f 0"]),
        ("one.a:missing", "x.y", [f"{whole('one.a')} 0"]),
        ("one.a:b", "X", ["one.deep.b: X 1"]),
        ("one.a", "b.X.real", ["one.deep.b: X 2"]),
        ("one.a", "numpy.linalg.norm", ["!numpy.linalg.norm 3"]),
        ("one", "g", ["one.a: f 1"]),
        ("one", "a.f", ["one.a: f 2"]),
        ("one", "a", [f"{whole('one.a')} 1"]),
        ("one", "np.exp", ["!numpy.exp 2"]),
        ("one:np", "exp", ["!numpy.exp 1"]),
        ("one", "deep.b.X", ["one.deep.b: X 3"]),
        ("one", "deep", [f"{whole('one.deep')} 1"]),
        ("one:deep", "b", [f"{whole('one.deep.b')} 1"]),
        ("one:deep", "missing", [f"{whole('one.deep')} 0"]),
        ("one.deep", "missing.more", [f"{whole('one.deep')} 0"]),
        ("one.nowhere", "f", [f"{whole('one')} 0"]),
        ("one.deep.nowhere.more", "f", [f"{whole('one.deep')} 0"]),
        ("one.deep.c", "X", ["one.deep.b: X 1"]),
        ("one.deep.c", "h", []),  # in a circle, and nowhere
        ("one.either", "f", ["one.a: f 1", "!numpy.f 1"]),
        ("one.either", "f.x", ["one.a: f 1", "!numpy.f.x 2"]),
        ("one.stars", "f", ["one.a: f 1"]),
        ("one.stars", "Y", ["two.all: Y 1", "two.all: __all__ 1"]),
        ("one.stars", "b", [f"{whole('one.deep.b')} 1"]),
        ("one.stars", "missing", [f"{whole('one.stars')} 0"]),
        ("two.lazy", "f", ["one.a: f 1"]),
        ("two.lazy", "X", ["two.lazy.inner: X 1"]),
        ("two.lazy", "Y.real", ["two.all: Y 1"]),
        ("two.lazy", "OWN", ["two.lazy: OWN 1"]),
        ("two.lazy", "inner", [f"{whole('two.lazy.inner')} 1"]),
        ("two.lazy", "n", ["two.lazy: __getattr__ 1"]),
        ("two.lazy", "k", ["two.lazy: __getattr__ 1"]),
        ("two.lazy", "h", ["two.lazy: __getattr__ 1"]),
        ("two.lazy", "s", ["two.lazy: __getattr__ 1"]),
        ("two.eager", "f", [f"{whole('two.eager')} 0"]),
        ("one.a", "__name__", ["!place 1"]),
        ("one.a", "__file__.x", ["!place 1"]),
        ("one", "a.__file__", ["!place 2"]),
        ("one:__version__", "", ["!place 0"]),
        ("one", "__path__", ["(everything) 1"]),
        ("one.deep", "__path__.append", ["(everything) 1"]),
        ("one.a", "__doc__", [f"{whole('one.a')} 0"]),
        ("numpy", "", ["!numpy 0"]),
        ("numpy", "linalg.norm", ["!numpy.linalg.norm 2"]),
        ("numpy:linalg", "norm", ["!numpy.linalg.norm 1"]),
    ],
)
def test_where_a_chain_of_attributes_leads(names, dotted, attributes, expected):
    module, _, name = dotted.partition(":")
    found = names.follow(Import(module, name or None), attributes.split(".") if attributes else [])
    assert ends(found) == expected


def test_a_definition_leads_to_itself(names):
    (unit,) = names.definitions("one.a", "f")
    assert names.follow(unit, ["x", "y"]) == [Found(unit, "", 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one.a", [f"{whole('one.a')} 0"]),
        ("one.a.f", ["one.a: f 0"]),
        ("one.a:f", ["one.a: f 0"]),
        ("one:g", ["one.a: f 0"]),
        ("two.lazy:f", ["one.a: f 0"]),
        ("two.lazy.n", ["two.lazy: __getattr__ 0"]),
        ("one.deep", [f"{whole('one.deep')} 0"]),
        ("one:deep", [f"{whole('one.deep')} 0"]),
        ("one.a.missing", []),
        ("one.a.f.x", []),
        ("one.nowhere.f", []),
        ("one", []),
        ("numpy.linalg", []),
        ("one.a ", []),
        ("see one.a", []),
        ("one..a", []),
        ("one.a:f:g", []),
        ("one.a-b", []),
        (".one", []),
        ("", []),
    ],
)
def test_what_a_string_names(names, text, expected):
    assert ends(names.named_by(text)) == expected


def test_the_definitions_behind_a_root(names):
    assert [unit.label for unit in names.definitions("one", "g")] == ["one.a: f"]
    assert [unit.label for unit in names.definitions("one.either", "f")] == ["one.a: f"]
    assert [unit.label for unit in names.definitions("bad", "x")] == [whole("bad")]
    for module, name, said in (
        ("one.a", "missing", "one.a defines no 'missing'"),
        ("one", "np", "one defines no 'np'"),
        ("one", "deep", "one defines no 'deep'"),
        ("one.nowhere", "f", "module 'one.nowhere' is not in bad, one, two"),
    ):
        with pytest.raises(ValueError, match=said):
            names.definitions(module, name)


def test_a_builtin_is_no_name_of_a_module(names):
    lookup = lambda module, name: [shown(what) for what in names.lookup(names.modules[module], name)]  # noqa: E731
    assert (
        lookup("one.a", "print") == [] and lookup("one.a", "f") == ["f"] and lookup("one", "g") == ["one.a:f"]
    )
    assert lookup("one.stars", "_Z") == ["_Z", "__all__"] and lookup("one.stars", "print") == []
