"""The text of a piece of code, in which names are references: what it holds, and what must not read the same."""
# ruff: noqa: E501  (a piece of code and its text are easier to compare in a line each)

import ast
import textwrap

import pytest

from entanglement_book.provenance import CodeGraph
from entanglement_book.provenance.modules import Atom, Module, Unit
from entanglement_book.provenance.text import write

LIBRARY = {
    "other.py": """
        import functools
        import typing


        def f(x=1):
            return x


        def checked(f):
            typing.get_type_hints(f)
            return f


        class Kind:
            pass


        Y = 2
        """,
    "plain.py": """
        def same(f):
            return f


        def same_or_kind(f):
            return f


        class same_or_kind:
            pass
        """,
    "eager.py": """
        import torch
        from entanglement.other import Kind


        def run(x: Kind, *y: Kind, z: Kind = None) -> Kind:
            pass


        class Run(torch.nn.Module):
            x: Kind
            y: Kind = 1

            def go(self, x: Kind) -> Kind:
                z: Kind = 1


        LIMIT: Kind = 3
        """,
    "lazy.py": """
        from __future__ import annotations

        import functools
        from dataclasses import dataclass
        from pydantic import BaseModel
        from entanglement import other, plain
        from entanglement.other import Kind


        def run(x: Kind, *y: Kind, z: Kind = None) -> Kind:
            pass


        @functools.cache
        def kept(x: Kind) -> Kind:
            pass


        @other.checked
        def looked_at(x: Kind) -> Kind:
            pass


        @plain.same
        def as_it_was(x: Kind) -> Kind:
            pass


        @plain.same_or_kind
        def perhaps(x: Kind) -> Kind:
            pass


        @plain.same.more(1)[2]
        def of_its_attribute(x: Kind) -> Kind:
            pass


        @dataclass
        class Row:
            x: Kind
            y: Kind = other.f()


        class Model(BaseModel):
            x: Kind


        LIMIT: Kind = 3
        """,
    "guarded.py": """
        import numpy
        if numpy.x:
            A = 1
        elif numpy.y:
            A = 2
        else:
            A = 3
        try:
            B = 1
        except OSError:
            B = 2
        except:
            B = 3
        else:
            B = 4
        finally:
            B = 5
        """,
    "registry.py": """
        class Registry:
            def __init__(self, what, package=None, printed=()):
                self.things = {}

            def add(self, name, thing, title=None):
                self.things[name] = thing

            def __getitem__(self, name):
                from importlib import import_module
                return import_module(name)
        """,
    "rules.py": """
        from entanglement.registry import Registry

        RULES = Registry("rule", package="entanglement", printed=("title",))


        def rule(name, title=None, size=0):
            def register(function):
                RULES.add(name, function)
                return function

            return register


        @rule("a", title="A", size=1)
        def a(x, title=1):
            return x.other(title=x)


        named = rule("b", title="B", size=2)(a)
        typed: object = rule("c", title="C", size=3)(a)
        """,
    "pack/__init__.py": """
        import importlib

        _EXPORTS = {"f": "entanglement.other"}


        def __getattr__(name):
            return getattr(importlib.import_module(_EXPORTS[name]), name)
        """,
    "nowhere/__init__.py": """
        import importlib


        def __getattr__(name):
            return importlib.import_module(name)
        """,
    "wide.py": "\n".join(
        [
            "try:\n    import entanglement.other as o",
            *(
                f"except {error}:\n    from {module} import o"
                for error, module in zip("ABCDEFGH", "hbgafced", strict=True)
            ),
            "\n\ndef run():\n    return o.f.x, o.Kind\n",
        ]
    ),
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts") / "lib"
    for name, text in LIBRARY.items():
        path = root / "entanglement" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    (root / "entanglement" / "__init__.py").touch()
    return CodeGraph(root)


def of_source(graph, text, printed=False):
    tree = ast.parse(text)
    module = Module("", False, text, tree)
    return write(Unit(module, "", "source", [Atom(tree, module)]), graph.names, printed)


def of_definition(graph, name, printed=False):
    (unit,) = graph.names.definitions(*f"entanglement.{name}".split(":"))
    return write(unit, graph.names, printed)


def labels(units):
    return [unit.label.replace("entanglement", "e") for unit in units]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("f(1, *g, k=2, **h)", "Expr(value:call(nf;:1;;Starred(value:ng;,);k=2;,None=nh;,),)"),
        (
            "@g\n@h(1)\nasync def f(a, /, b=1, *c, d, e=2, **h):\n    'text'\n    return a",
            "AsyncFunctionDef(f@(ng;)@(call(nh;:1;;))posonlyargs a,args b,vararg c,kwonlyargs d,kwonlyargs e,kwarg h,=1;==2;Return(value:na;,);)",
        ),
        (
            "def f(a: int, *b: int, c: int = 1) -> int:\n    x: int = 1\n    y: int\n    global z",
            "FunctionDef(fargs a,nint;vararg b,nint;kwonlyargs c,nint;=1;->nint;Assign(targets:nx;;,value:1;,);;global nz;;)",
        ),
        (
            "class A(B, C, metaclass=D):\n    'text'\n    x: int = 1\n    y: int\n    z = x\n    def f(self): return z",
            "class(AnB;;nC;;keyword(arg:'metaclass',value:nD;,);;AnnAssign(target:nx;,annotation:nint;,value:1;,);AnnAssign(target:ny;,annotation:nint;,);Assign(targets:nz;;,value:nx;,);FunctionDef(fargs self,Return(value:nz;,););)",
        ),
        ("lambda x, *y, z=1: x", "Expr(value:lambda(args x,vararg y,kwonlyargs z,=1;nx;),)"),
        (
            "[x for x in y if z for z in x]",
            "Expr(value:ListComp(ny; for nx;nz;; for nz; in nx;elt:nx;),)",
        ),
        (
            "async def f(): return {k: v async for k, v in x}",
            "AsyncFunctionDef(fReturn(value:DictComp(nx; async for Tuple(elts:nk;;nv;;,)key:nk;value:nv;),);)",
        ),
        (
            "f'{x!r:>{y}} m' 'n'",
            "Expr(value:f(''FormattedValue(value:nx;,conversion:114,format_spec:f('>'FormattedValue(value:ny;,conversion:-1,)''),)' mn'),)",
        ),
        ("x.y.z[1:].a = None", "Assign(targets:Subscript(value:nx;.y.z,slice:Slice(lower:1;,),).a;,value:None;,)"),
        (
            "match x:\n    case {'a': 1, **r}: 'text'",
            "Match(subject:nx;,cases:match_case(pattern:MatchMapping(keys:'a';;,patterns:MatchValue(value:1;,);,rest:'r',),body:Expr(value:'text';,);,);,)",
        ),
    ],
)  # fmt: skip
def test_a_text_stays_what_it_was(graph, text, code):
    """Hashes of texts are stored with pages and tables: if the same code read otherwise, all would be stale."""
    written = of_source(graph, text)
    assert (written.code, written.shape) == (code, code)
    assert (written.targets, written.also, written.reads_source) == ((), (), False)


EAGER = "FunctionDef(runargs x,@0=Kindvararg y,@0=Kindkwonlyargs z,@0=Kind=None;->@0=KindPass();)"
LAZY = "FunctionDef(runargs x,vararg y,kwonlyargs z,=None;Pass();)"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("eager:run", EAGER),
        (
            "eager:Run",
            "class(Run!torch.nn.Module;;AnnAssign(target:nx;,annotation:@0=Kind,);AnnAssign(target:ny;,annotation:@0=Kind,value:1;,);"
            "FunctionDef(goargs self,args x,@0=Kind->@0=KindAssign(targets:nz;;,value:1;,););)",
        ),
        ("eager:LIMIT", "AnnAssign(target:@0=LIMIT,annotation:@1=Kind,value:3;,)"),
        ("lazy:run", LAZY),
        ("lazy:kept", "FunctionDef(kept@(!functools.cache;)args x,Pass();)"),
        ("lazy:looked_at", "FunctionDef(looked_at@(@0=checked)args x,@1=Kind->@1=KindPass();)"),
        ("lazy:as_it_was", "FunctionDef(as_it_was@(@0=same)args x,Pass();)"),
        ("lazy:perhaps", "FunctionDef(perhaps@(@0=same_or_kind)args x,@1=Kind->@1=KindPass();)"),
        (
            "lazy:of_its_attribute",
            "FunctionDef(of_its_attribute@(Subscript(value:call(@0=same.more:1;;),slice:2;,))args x,@1=Kind->@1=KindPass();)",
        ),
        (
            "lazy:Row",
            "class(Row@(!dataclasses.dataclass;)~KindAnnAssign(target:nx;,annotation:None;,);~KindAnnAssign(target:ny;,annotation:None;,value:call(@0=f:),);)",
        ),
        ("lazy:Model", "class(Model!pydantic.BaseModel;;AnnAssign(target:nx;,annotation:@0=Kind,);)"),
        ("lazy:LIMIT", "Assign(targets:@0=LIMIT;,value:3;,)"),
        (
            "guarded:A",
            "under(!numpy.x;)Assign(targets:@0=A;,value:1;,)"
            "under(else)under(!numpy.x;)under(!numpy.y;)Assign(targets:@0=A;,value:2;,)"
            "under(else)under(!numpy.x;)under(else)under(!numpy.y;)Assign(targets:@0=A;,value:3;,)",
        ),
        (
            "guarded:B",
            "under(try)Assign(targets:@0=B;,value:1;,)under(except)under(nOSError;)Assign(targets:@0=B;,value:2;,)"
            "under(except)Assign(targets:@0=B;,value:3;,)under(try else)Assign(targets:@0=B;,value:4;,)"
            "under(finally)Assign(targets:@0=B;,value:5;,)",
        ),
        ("rules:RULES", "Assign(targets:@0=RULES;,value:call(@1=Registry:'rule';;),)"),
        (
            "rules:a",
            "FunctionDef(a@(call(@0=rule:'a';;size=1;,))args x,args title,=1;Return(value:call(nx;.other:title=nx;,),);)",
        ),
        ("rules:named", "Assign(targets:@0=named;,value:call(call(@1=rule:'b';;size=2;,):@2=a;),)"),
        ("rules:typed", "AnnAssign(target:@0=typed,annotation:nobject;,value:call(call(@1=rule:'c';;size=3;,):@2=a;),)"),
        (
            "pack:__getattr__",
            "FunctionDef(__getattr__args name,Return(value:call(ngetattr;:call(!importlib.import_module;:Subscript(value:@0=_EXPORTS,slice:nname;,););nname;;),);)",
        ),
        (
            "nowhere:__getattr__",
            "FunctionDef(__getattr__args name,Return(value:call(!importlib.import_module;:nname;;)@0=,);)",
        ),
        (
            "wide:run",  # what is not ours stands in order
            "FunctionDef(runReturn(value:Tuple(elts:!a.o.f.x;!b.o.f.x;!c.o.f.x;!d.o.f.x;!e.o.f.x;!f.o.f.x;!g.o.f.x;!h.o.f.x;@0=f.x;"
            "!a.o.Kind;!b.o.Kind;!c.o.Kind;!d.o.Kind;!e.o.Kind;!f.o.Kind;!g.o.Kind;!h.o.Kind;@1=Kind;,),);)",
        ),
    ],
)  # fmt: skip
def test_a_definition_s_text_stays_what_it_was(graph, name, code):
    assert of_definition(graph, name).code == code


def test_a_shape_has_no_name_of_ours(graph):
    shape = lambda name: of_definition(graph, name).shape  # noqa: E731
    assert shape("eager:run") == EAGER.replace("=Kind", "").replace("run", "")
    assert shape("eager:LIMIT") == "AnnAssign(target:@0,annotation:@1,value:3;,)"
    assert shape("lazy:Model") == "class(!pydantic.BaseModel;;AnnAssign(target:nx;,annotation:@0,);)"
    assert shape("lazy:Row").count("~AnnAssign") == 2


def test_what_is_only_for_print_is_left_out_of_a_declaration_and_nowhere_else(graph):
    for name, title in (("a", "A"), ("named", "B"), ("typed", "C")):
        numbers, page = (of_definition(graph, f"rules:{name}", printed).code for printed in (False, True))
        assert page != numbers and page.replace(f"title='{title}';,", "") == numbers
    assert "title=nx;" in of_definition(graph, "rules:a").code
    called = "from entanglement.rules import rule\nrule('d', title='D')\n"
    assert "title='D'" in of_source(graph, called).code


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x: A): pass", "def f(x) -> A: pass"),
        ("def f(x): pass", "def g(x): pass"),
        ("def f(x): pass", "async def f(x): pass"),
        ("def f(x): pass", "def f(y): pass"),
        ("def f(a, b): pass", "def f(a, *, b): pass"),
        ("def f(a, b): pass", "def f(a, /, b): pass"),
        ("def f(*a): pass", "def f(**a): pass"),
        ("def f(a, *, b=1): pass", "def f(a=1, *, b): pass"),
        ("def f(*, a=1, b): pass", "def f(*, a, b=1): pass"),
        ("def f(): pass\ndef g(): pass", "def f():\n    pass\n    def g(): pass"),
        ("@f\n@g\ndef h(): pass", "@g\n@f\ndef h(): pass"),
        ("@f(g)\ndef h(): pass", "@f\n@g\ndef h(): pass"),
        ("class A: pass", "class B: pass"),
        ("class A(B, C): pass", "class A(C, B): pass"),
        ("class A:\n    x = 1\ny = 2", "class A:\n    x = 1\n    y = 2"),
        ("class A:\n    x: int = 1", "class A:\n    x = 1"),
        ("class A:\n    x: int", "class A:\n    y: int"),
        ("f(a, b)", "f(a)(b)"),
        ("f(a(b))", "f(a)(b)"),
        ("f(a)", "f[a]"),
        ("f(a)", "f(*a)"),
        ("f(a)", "f(b=a)"),
        ("f(a=1, b=2)", "f(a=2, b=1)"),
        ("f(a=1)", "f(**{'a': 1})"),
        ("lambda: x", "lambda x: x"),
        ("lambda x, y: x", "lambda y, x: x"),
        ("[x for x in y]", "{x for x in y}"),
        ("[x for x in y]", "(x for x in y)"),
        ("[x for x in y]", "[y for x in y]"),
        ("[x for x in y if x]", "[x for x in y if y]"),
        ("[x for x in y for z in w]", "[x for x in y if z if w]"),
        ("{a: b for a, b in x}", "{b: a for a, b in x}"),
        ("async def f(): [x async for x in y]", "async def f(): [x for x in y]"),
        ("def f():\n    global a", "def f():\n    global b"),
        ("def f():\n    global a", "def f():\n    a"),
        ("f'{x}'", "f'{y}'"),
        ("f'{x}a{y}'", "f'{x}{y}a'"),
        ("f'{x}'", "f'x'"),
        ("'x'", "x"),
        ("x.y", "x.z"),
        ("x.y.z", "x.z.y"),
        ("x[1:]", "x[:1]"),
        ("x[a:b]", "x[a, b]"),
        ("{**x}", "{None: x}"),
        ("[[a], b]", "[[a, b]]"),
        ("1", "1.0"),
        ("1", "True"),
        ("None", "'None'"),
        ("a if b else c", "b if a else c"),
        ("a and b or c", "a and (b or c)"),
        ("a < b < c", "(a < b) < c"),
        ("try:\n    a\nexcept A:\n    b", "try:\n    a\nexcept B:\n    b"),
        ("try:\n    a\nfinally:\n    b", "try:\n    a\nexcept:\n    b"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("while a:\n    b", "while a:\n    pass\nelse:\n    b"),
        ("with a as b: pass", "with a, b: pass"),
        ("import numpy\nnumpy.f", "import torch\ntorch.f"),
        ("import a.b\na.c", "import a.b as a\na.c"),
        ("from a import b\nb", "from a import c\nc"),
        ("from a import b\nb.c", "from a import b\nb"),
        ("x = 1", "x: int = 2"),
        ("x = y = 1", "x, y = 1"),
        ("'said'", "pass"),  # the last expression of a cell is shown
    ],
)
def test_what_differs_in_one_thing_reads_otherwise(graph, one, other):
    assert of_source(graph, one).code != of_source(graph, other).code


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(a,)", "f(  a  )"),
        ("x = (1)", "x = 1"),
        ("x: int = 1", "x = 1"),
        ("def f():\n    x: int = 1", "def f():\n    x = 1"),
        ("def f():\n    'text'\n    return 1", "def f():\n    'other'\n    return 1"),
        ("class A:\n    'text'\n    x = 1", "class A:\n    'other'\n    x = 1"),
        ("class A:\n    x = 1\n    1", "class A:\n    x = 1\n    2"),
        ("f'a' 'b' f'{x}'", "f'ab{x}'"),
        ("u'a'", "'a'"),
        ("import numpy as np\nnp.f(1)", "from numpy import f\nf(1)"),
        ("import numpy.linalg\nnumpy.linalg.f(1)", "from numpy.linalg import f as g\ng(1)"),
        ("import os\n1", "1"),
        (
            "def f():\n    import numpy as np\n    return np.x",
            "def f():\n    import numpy\n    return numpy.x",
        ),
        ("from entanglement.other import f\nf()", "import entanglement\nentanglement.other.f()"),
    ],
)
def test_what_means_the_same_reads_the_same(graph, one, other):
    assert of_source(graph, one).code == of_source(graph, other).code


F, KIND, OTHER, EVERYTHING = (
    "e.other: f",
    "e.other: Kind",
    "e.other: (the module as an object)",
    "(everything)",
)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("f()", []),
        ("from entanglement.other import f\nf()", [F]),
        ("from entanglement.other import f\nf = 1\nf()", [F]),  # it may still be the imported one
        ("from entanglement.other import f\ndef g(f): return f", []),
        ("from entanglement.other import f\ndef g(*f): return f", []),
        ("from entanglement.other import f\ndef g(**f): return f", []),
        ("from entanglement.other import f\ndef g(f, /): return f", []),
        ("from entanglement.other import f\ndef g(*, f): return f", []),
        ("from entanglement.other import f\ndef g(*a, **b): return f", [F]),
        ("from entanglement.other import f\ndef g():\n    for f in (): return f", []),
        ("from entanglement.other import f\ndef g(f):\n    def h(): return f", []),
        ("from entanglement.other import f\ndef g(f):\n    class H:\n        def h(self): return f", []),
        ("from entanglement.other import f\ndef g(f): pass\nf", [F]),
        ("from entanglement.other import f\nlambda f: f", []),
        ("from entanglement.other import f\n(lambda f: 1), f", [F]),
        ("from entanglement.other import f\n[f for f in ()]", []),
        ("from entanglement.other import f\n[f for a in () for f in a]", []),
        ("from entanglement.other import f\n[f for f in f]", [F]),
        ("from entanglement.other import f\n[1 for f in ()], f", [F]),
        ("from entanglement.other import f\nclass A:\n    f = 1\n    g = f", []),
        ("from entanglement.other import f\nclass A:\n    f = 1\n    def g(self): return f", [F]),
        ("from entanglement.other import f\nclass A:\n    f = 1\nf", [F]),
        ("from entanglement.other import f\nclass A:\n    f = 1\n    class B:\n        g = f", [F]),
        ("def f(x: int):\n    from entanglement.other import f as x\n    return x", [F]),
        ("class A:\n    from entanglement.other import f\n    g = f", [F]),
        ("from entanglement.other import f, Kind\nf, Kind, f", [F, KIND]),
        ("from entanglement.other import *\nf", []),  # a graph finds stars in a text
        ("'entanglement.other'", [OTHER]),
        ("'entanglement.other:f'", [F]),
        ("'entanglement.nowhere_at_all'", []),
        ("b'entanglement.other'", []),
        ("__import__('numpy')", []),
        ("__import__(name)", [EVERYTHING]),
        ("__import__()", [EVERYTHING]),
        ("__import__('.other')", [EVERYTHING]),
        ("__import__('other.')", []),
        ("from importlib import import_module\nimport_module('numpy')", []),
        ("from importlib import import_module\nimport_module(name)", [EVERYTHING]),
        ("from importlib import import_module as load\nload(name)", [EVERYTHING]),
        ("from importlib import reload\nreload(name)", []),
        ("import importlib\nimportlib.import_module(name)", [EVERYTHING]),
        ("import importlib\nimportlib.import_module(*names)", [EVERYTHING]),
        ("importing.import_module(name)", [EVERYTHING]),
        ("importing.find(name)", []),
        ("import_module(name)", []),  # nobody imported it
        ("f(x)(y)", []),
        ("class Registry:\n    __import__(name)", [EVERYTHING]),
        ("def __getattr__(name): __import__(name)", [EVERYTHING]),
        ("globals()", ["(the module as an object)"]),
        ("eval('f')", ["(the module as an object)"]),
        ("exec('f')", ["(the module as an object)"]),
        ("globals = dict\nglobals()", []),
        ("def f(eval): eval('f')", []),
        ("import sys\nsys.modules", ["(the module as an object)"]),
        ("from sys import modules\nmodules", ["(the module as an object)"]),
        ("import sys\nsys.path", []),
        ("import sys\nsys.modules.get('a')", []),
    ],
)
def test_where_names_in_a_text_lead(graph, text, targets):
    assert [label for units in of_source(graph, text).targets for label in labels(units)] == targets


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("f.__doc__", True),
        ("f.x.__doc__", True),
        ("f().__doc__", True),
        ("import inspect\ninspect.getsource(f)", True),
        ("from inspect import getdoc\ngetdoc(f)", True),
        ("from entanglement.other import f\nf.__doc__", True),
        ("from entanglement import other\nother.__doc__", True),
        ("x.getsource(f)", True),
        ("f.__name__", False),
        ("import inspect\ninspect.signature(f)", False),
        ("getdoc(f)", False),
    ],
)
def test_who_reads_docstrings_and_sources(graph, text, reads):
    assert of_source(graph, text).reads_source == reads


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import math", []),
        ("import entanglement", ["e"]),
        ("import entanglement.other", ["e", "e.other"]),
        ("from entanglement import other", ["e", "e.other"]),
        ("from entanglement.other import f", ["e", "e.other"]),
        (
            "def f():\n    from entanglement.other import f\n    import entanglement.plain",
            ["e", "e.other", "e.plain"],
        ),
    ],
)
def test_an_import_brings_the_effects_of_the_modules_that_it_runs(graph, text, modules):
    names = [
        "(statements with effects)" if name == "" else f"{name}: (statements with effects)"
        for name in modules
    ]
    assert labels(of_source(graph, text).also) == names


def test_the_module_s_own_docstring_is_part_of_who_names_it(graph):
    assert of_source(graph, "'Text.'\n__doc__").code.endswith("Expr(value:n__doc__;'Text.',)")
    assert of_source(graph, "'Text.'\nx").code.endswith("Expr(value:nx;,)")
