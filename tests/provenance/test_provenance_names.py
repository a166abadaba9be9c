"""What a piece of code depends on through names: one small library for every rule."""
# ruff: noqa: E501  (a library in a string, a line each, is easier to compare than one broken up)

import pytest

NOTHING, NAMES, CODE = (False, False), (True, False), (True, True)

LIBRARY = {
    "entanglement/deep.py": '''
        """Module."""
        from __future__ import annotations

        import math
        from collections.abc import Callable

        LIMIT = 3
        UNUSED = 4


        def helper(x: int) -> float:
            """Docstring."""
            return math.sqrt(x) + LIMIT  # comment


        def other(x):
            return -x
        ''',
    "entanglement/middle.py": """
        from entanglement import deep as d


        def step(x):
            return d.helper(x)


        def beside(x):
            return x
        """,
    "entanglement/top.py": """
        from .middle import step as one_step


        class Thing:
            rate = 2

            def run(self, x):
                return one_step(x) * self.rate
        """,
}
RUN = "from entanglement.top import Thing\nThing().run(1)\n"


@pytest.fixture
def library(tree):
    tree.write(LIBRARY)
    return tree


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("deep.py", "math.sqrt(x) +", "math.sqrt(x) -", CODE),  # three modules and two aliases away
        ("deep.py", "math.sqrt", "math.exp", CODE),
        ("deep.py", "LIMIT = 3", "LIMIT = 4", CODE),
        ("top.py", "rate = 2", "rate = 3", CODE),
        ("top.py", "* self.rate", "/ self.rate", CODE),
        ("deep.py", "UNUSED = 4", "UNUSED = 5", NOTHING),
        ("deep.py", "return -x", "return x", NOTHING),
        ("middle.py", "    return x\n", "    return -x\n", NOTHING),
        ("deep.py", '"""Docstring."""', '"""Other."""', NOTHING),
        ("deep.py", '"""Module."""', '"""Other."""', NOTHING),
        ("deep.py", "  # comment", "  # other", NOTHING),
        ("deep.py", "helper(x: int) -> float", "helper(x: float) -> Callable", NOTHING),
        ("deep.py", "import math\n", "import math\nimport os\n", NOTHING),
        (
            "deep.py",
            "LIMIT = 3\n",
            "assert 1\n\nLIMIT: int = 0x3\n",
            NOTHING,
        ),
        ("deep.py", "LIMIT = 3\n", "assert 1\n\nLIMIT = 0x3\n", NOTHING),
        ("middle.py", "deep as d\n", "deep as d  # noqa\n", NOTHING),
        ("top.py", "step as one_step", "beside as one_step", CODE),  # another thing by the same name
    ],
)
def test_an_edit(library, file, old, new, expected):
    changed = library.watch(RUN)
    library.edit(f"entanglement/{file}", old, new)
    assert changed() == expected


def test_formatting_and_import_style_change_nothing(library):
    changed = library.watch(RUN)
    library.write(
        {
            "entanglement/middle.py": """
            import entanglement.deep


            def step(
                x,
            ):
                return (
                    entanglement.deep.helper(
                        x,
                    )
                )
            """,
            "entanglement/top.py": """
            from entanglement import middle


            class Thing:

                rate = 2
                def run(self, x): return middle.step(x) * self.rate
            """,
        }
    )
    assert changed() == NOTHING


def test_a_renamed_or_moved_module_changes_nothing(library):
    changed = library.watch(RUN)
    (library.root / "lib/entanglement/deep.py").unlink()
    library.write({"entanglement_book/inner/below.py": LIBRARY["entanglement/deep.py"]})
    library.edit(
        "entanglement/middle.py", "from entanglement import deep", "from entanglement_book.inner import below"
    )
    assert changed() == NOTHING


def test_a_renamed_function_changes_the_code_and_not_the_shape(library):
    changed = library.watch(RUN)
    library.edit("entanglement/deep.py", "def helper", "def renamed")
    library.edit("entanglement/middle.py", "d.helper", "d.renamed")
    assert changed() == NAMES


def test_a_renamed_class_and_constant_change_the_code_and_not_the_shape(library):
    changed = library.watch(RUN)
    library.edit("entanglement/deep.py", "LIMIT = 3", "MOST = 3")
    library.edit("entanglement/deep.py", "+ LIMIT", "+ MOST")
    library.edit("entanglement/top.py", "class Thing", "class Other")
    assert changed(RUN.replace("Thing", "Other")) == NAMES


def test_a_name_that_leads_to_a_definition_of_the_same_name_elsewhere_is_seen(tree):
    tree.write(
        {
            "entanglement/a.py": "def f(x):\n    return x + 1\n",
            "entanglement/b.py": "def f(x):\n    return x - 1\n",
            "entanglement/c.py": "from entanglement import a, b\n\n\ndef run(x):\n    return a.f(x) - 2 * b.f(x)\n",
        }
    )
    changed = tree.watch([("entanglement.c", "run")])
    tree.edit("entanglement/c.py", "import a, b", "import a as b, b as a")
    assert changed() == CODE


def test_swapped_imports_are_seen_far_away_and_in_circles(tree):
    tree.write(
        {
            "entanglement/ends.py": "def plus(x):\n    return 1\n\n\ndef minus(x):\n    return -1\n",
            "entanglement/a.py": """
            from entanglement.ends import plus as one, minus as two

            def f(x):
                return two(x) if x else g(x)

            def g(x):
                return one(x) if x else f(x)
            """,
            **{
                f"entanglement/m{n}.py": f"from entanglement.{'a import f' if n == 0 else f'm{n - 1} import f{n - 1} as f'}\n"
                f"def f{n}(x):\n    return f(x)\n"
                for n in range(6)
            },
        }
    )
    changed = tree.watch("from entanglement.m5 import f5\nf5(0)")
    tree.edit("entanglement/a.py", "plus as one, minus as two", "plus as two, minus as one")
    assert changed() == CODE


def one(tree, text, roots="from entanglement.m import run\nrun()", **files):
    tree.write({"entanglement/m.py": text, **{f"entanglement/{k}.py": v for k, v in files.items()}})
    return tree.watch(roots)


OTHER = "def f(x=1):\n    return x\n\n\nX = [1]\nY = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "def run():\n    from entanglement.other import f\n    return f()\n",  # import in a function
        "def run():\n    import entanglement.other as o\n    return o.f()\n",
        "from entanglement.other import f\nrun = lambda x=f(): x\n",  # default of a lambda
        "from entanglement.other import f\ndef run(x=f()):\n    return x\n",
        "from entanglement import other\n@other.f\ndef run():\n    pass\n",  # decorator
        "from entanglement.other import f\ndef run():\n    def inner():\n        return f()\n    return inner\n",
        "from entanglement.other import *\ndef run():\n    return f()\n",  # star
        "from entanglement import other\ndef run(name):\n    return getattr(other, name)\n",  # nobody knows
        "from entanglement import other\ndef run():\n    return vars(other)\n",
        "from entanglement import other\nclass run:\n    def a(self):\n        return [other.f(i) for i in range(3)]\n",
        "from entanglement import other\nclass run(other.f):\n    pass\n",
        "import entanglement.other\ndef run():\n    return f'{entanglement.other.f()}'\n",
        "def run():\n    return __import__('entanglement.other')\n",
        "from importlib import import_module\ndef run(name):\n    return import_module(name)\n",  # anything
        "import importlib\ndef run():\n    return importlib.import_module('.other', 'entanglement')\n",
        "def run():\n    return ['python', '-m', 'entanglement.other']\n",  # a name in a string
        "GRID = 'entanglement.other:f'\ndef run():\n    return GRID\n",
        "import sys\nimport entanglement.other\ndef run():\n    return sys.modules['entanglement.other']\n",
        "try:\n    from entanglement.other import f\nexcept ImportError:\n    f = None\ndef run():\n    return f\n",
        "if True:\n    from entanglement.other import f\n    def run():\n        return f\n",
        "from dataclasses import dataclass\nfrom entanglement.other import f\n@dataclass\nclass run:\n    x: int = f()\n",
        "from entanglement import other\nrun = {'a': other.f}\n",
        "from entanglement import other\ndef run(o=other):\n    match o:\n        case other.f:\n            return 1\n",
        "from entanglement.other import f\ndef run():\n    global f\n    return f()\n",
        "from entanglement.other import missing as f\ndef run():\n    return f()\n",  # conservative
        # names of an inner scope end with it
        "from entanglement.other import f\ndef run():\n    def inner(f):\n        return f\n    return f()\n",
        "from entanglement.other import f\ndef run():\n    return [f for f in (1, 2)], f()\n",
        "from entanglement.other import f\ndef run():\n    return (lambda f: f), f()\n",
        "from entanglement.other import f\ndef run():\n    class Inner:\n        f = 1\n    return f()\n",
        "from entanglement.other import f\nclass run:\n    f = 1\n    def go(self):\n        return f()\n",
        "from entanglement.other import f\ndef run(f=f):\n    return 1\n",
        "from entanglement.other import f\ndef run():\n    return [f for f in f()]\n",
        "from entanglement.other import f\ndef run(*, x=f()):\n    return x\n",
        "from entanglement.other import f\ndef run() -> f:\n    return 1\n",
        "from entanglement.other import f as g\ndef run():\n    g = g if 1 else 2\n    return g\nX = g\nrun = X\n",
    ],
)
def test_ways_to_reach_a_definition(tree, text):
    changed = one(tree, text, other=OTHER)
    tree.edit("entanglement/other.py", "return x", "return -x")
    assert changed() == CODE


@pytest.mark.parametrize(
    "text",
    [
        "from entanglement.other import f\ndef run(f):\n    return f()\n",  # a parameter of that name
        "from entanglement.other import f\ndef run(f):\n    def inner():\n        return f()\n    return inner\n",
        "from entanglement.other import f\ndef run():\n    f = 1\n    return f\n",
        "from entanglement.other import f\ndef run():\n    return [f for f in range(3)]\n",
        "from entanglement.other import f\ndef run(x):\n    return x.f()\n",
        "from entanglement.other import f\nclass run:\n    f = 1\n    y = f\n",
        "from entanglement import other\ndef run():\n    return other.Y\n",  # another definition of the module
        "from entanglement.other import *\ndef run():\n    return Y\n",
        "from __future__ import annotations\nfrom entanglement.other import f\ndef run(x: f) -> f:\n    y: f = 1\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from entanglement.other import f\ndef run(x): return 1\n",
        "from entanglement.other import f\ndef run():\n    pass\nif __name__ == '__main__':\n    run(f())\n",
        "def run():\n    return 'entanglement'\n",  # a word
        "def run():\n    return 'see entanglement.other'\n",
        "def run():\n    'entanglement.other'\n",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom entanglement.other import f\n"
        "@dataclass\nclass run:\n    x: f\n",
    ],
)
def test_what_looks_like_a_reference_and_is_none(tree, text):
    changed = one(tree, text, other=OTHER)
    tree.edit("entanglement/other.py", "return x", "return -x")
    assert changed() == NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "import typer\nfrom __future__ import annotations\nfrom entanglement.other import f\napp = typer.Typer()\n"
        "@app.command()\ndef run(x: f):\n    pass\n",
        "from __future__ import annotations\nfrom pydantic import BaseModel\nfrom entanglement.other import f\n"
        "class run(BaseModel):\n    x: f\n",
        "from entanglement.other import f\ndef run(x: f):\n    pass\n",  # evaluated when it is defined
    ],
)
def test_annotations_count_where_they_run(tree, text):
    changed = one(tree, text, other=OTHER)
    tree.edit("entanglement/other.py", "return x", "return -x")
    assert changed() == CODE


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("X.append(5)", CODE),
        ("X[0] = 5", CODE),
        ("X += [5]", CODE),
        ("del X[0]", CODE),
        ("for i in range(3):\n    X.append(i)", CODE),
        ("with open('a') as file:\n    X.extend(file)", CODE),
        ("if 1:\n    X.sort()", CODE),
        ("(X, Z) = (1, 2)", CODE),
        ("X: list = [2]", CODE),
        ("Y.append(5)", NOTHING),
        ("for i in range(3):\n    Y.append(i)", NOTHING),
        ("print(5)", CODE),  # effects count for all of a module
        ("import os\nos.environ['A'] = '1'", CODE),
        ("fill()", CODE),  # a function of ours that changes X
        ("empty(Y)", CODE),  # and one of which nothing is known
        ("for i in range(3):\n    print(i)", CODE),
        ("for i in [1]:\n    i.bit_length()", NOTHING),
        ("(X[0], *Y[1:]) = (1, 2)", CODE),
        ("[*X[1:], z] = (1, 2)", CODE),
        ("z = fill()", CODE),  # a call whose value is kept is no effect, and still changes X
        ("z = swap()", CODE),
        ("z = own()", CODE),
        ("z = outer()", CODE),
        ("z = peek()", NOTHING),
        ("z = empty(Y)", NOTHING),
        ("z = Maker()", CODE),
        ("z = Maker", NOTHING),
        ("raise ValueError", CODE),
        ("assert Y", NOTHING),
        ("'a string'", NOTHING),
        ("def more(): pass", NOTHING),
        ("class More: pass", NOTHING),
    ],
)
def test_statements_at_the_top_level(tree, statement, expected):
    text = """
    X = [1]
    Y = [2]
    MINE = Mine()


    class Mine:
        def grow(self):
            return self


    def run():
        return X, MINE


    def fill():
        X.append(3)


    def swap():
        global X
        X = [4]


    def own():
        MINE.grow()


    def outer():
        return fill()


    def peek():
        X = [1]
        X.append(2)
        return Y, MINE.get(1), MINE.thing.grow()


    class Maker:
        def __init__(self):
            X[0] = 3


    def empty(y):
        pass
    """
    changed = one(tree, text)
    tree.edit("entanglement/m.py", "    pass\n", f"    pass\n\n\n{statement}\n")
    assert changed() == expected


def test_a_call_that_only_registers_is_no_effect_on_the_module(tree):
    text = "X = []\n\n\ndef fill():\n    X.append(3)\n\n\ndef run():\n    return 1\n"
    changed = one(tree, text)
    tree.edit("entanglement/m.py", "return 1\n", "return 1\n\n\nX.append(2)\nX[0] = 3\n")
    assert changed() == NOTHING
    tree.edit("entanglement/m.py", "X[0] = 3\n", "X[0] = 3\nfill()\n")  # who knows what else it does
    assert changed() == CODE


def test_commands_of_an_application_belong_to_it(tree):
    text = "import typer\n\napp = typer.Typer()\n\n\n@app.command()\ndef one():\n    return 1\n\n\ndef run():\n    app()\n"
    changed = one(tree, text)
    tree.edit("entanglement/m.py", "return 1", "return 2")
    assert changed() == CODE


@pytest.mark.parametrize(
    "change", ["m.X = 5", "m.X.append(5)", "m.run.limit = 5", "from entanglement.m import X\nX[0] = 2"]
)
def test_a_module_that_changes_another_ones_names(tree, change):
    changed = one(tree, "X = [1]\n\n\ndef run():\n    return X\n", other="import math\n")
    tree.write({"entanglement/other.py": f"from entanglement import m\n{change}\n"})
    assert changed() == CODE


def test_effects_of_imported_modules_count_for_those_who_import_them(tree):
    changed = one(
        tree,
        "import entanglement.other\n\n\ndef run():\n    return 1\n",
        other="from . import third\n",
        third="X = 1\n",
    )
    apart = tree.watch("from entanglement.third import X\nX")
    tree.edit("entanglement/third.py", "X = 1", "X = 1\nprint(2)")
    assert changed() == CODE and apart() == CODE
    lonely = tree.watch("import os\nos")
    tree.edit("entanglement/third.py", "print(2)", "print(3)")
    assert lonely() == NOTHING


def test_an_import_in_a_function_has_the_effects_of_its_module(tree):
    text = "def run():\n    import entanglement.other\n    return 1\n"
    changed = one(tree, text, roots=[("entanglement.m", "run")], other="X = 1\n")
    tree.edit("entanglement/other.py", "X = 1", "X = 1\nprint(2)")
    assert changed() == CODE


@pytest.mark.parametrize(
    ("decorator", "expected"),
    [
        ("other.plain", NOTHING),
        ("other.checked", CODE),  # its module looks at annotations
        ("functools.cache", NOTHING),
        ("functools.lru_cache(maxsize=2)", NOTHING),
        ("pydantic.validate_call", CODE),
        ("other.Thing", CODE),
        ("(lambda f: f)", CODE),
        ("unknown", CODE),
    ],
)
def test_decorators_that_look_at_annotations(tree, decorator, expected):
    text = (
        "from __future__ import annotations\nimport functools, pydantic\nfrom entanglement import third, other\n"
        f"from entanglement.third import Kind\n\n\n@{decorator}\ndef run(x: Kind):\n    return 1\n"
    )
    looks = decorator == "other.checked"
    other = "def plain(f):\n    return f\n\n\nclass Thing:\n    pass\n"
    if looks:
        other += "\n\ndef checked(f):\n    typing.get_type_hints(f)\n    return f\n"
    changed = one(tree, text, other=other, third="Kind = 1\n")
    tree.edit("entanglement/third.py", "Kind = 1", "Kind = 2")
    assert changed() == expected


def test_effects_count_for_each_definition_of_a_module(tree):
    changed = one(tree, "def run():\n    return 1\n", roots=[("entanglement.m", "run")])
    far = one(
        tree,
        "def run():\n    return 1\n",
        roots=[("entanglement.far", "go")],
        far="def go():\n    return run()\n\n\nfrom entanglement.m import run\n",
    )
    tree.edit("entanglement/m.py", "return 1\n", "return 1\n\n\nprint(1)\n")
    assert (changed(), far()) == (CODE, CODE)


def test_a_change_from_elsewhere_comes_with_that_modules_effects(tree):
    changed = one(
        tree,
        "X = 1\n\n\ndef run():\n    return X\n",
        roots=[("entanglement.m", "run")],
        other="from entanglement import m\n\nm.X = 2\n",
    )
    tree.edit("entanglement/other.py", "m.X = 2", "print(1)\nm.X = 2")
    assert changed() == CODE


def test_circles_are_seen_from_each_of_their_ends(tree):
    text = "\n\n\n".join(f"def f{n}(x):\n    return f{(n + 1) % 4}(x) + {n}" for n in range(4)) + "\n"
    for place in range(4):
        tree.write({"entanglement/m.py": text})
        watched = [tree.watch([("entanglement.m", f"f{n}")]) for n in range(4)]
        tree.edit("entanglement/m.py", f"+ {place}", f"- {place}")
        assert [changed() for changed in watched] == [CODE] * 4


def test_a_package_as_an_object_holds_its_modules(tree):
    tree.write({"entanglement/inner/work.py": OTHER, "entanglement/work.py": OTHER})
    changed = tree.watch("import entanglement.inner as i\ngetattr(i, name)")
    tree.edit("entanglement/work.py", "return x", "return -x")
    assert changed() == NOTHING
    tree.edit("entanglement/inner/work.py", "return x", "return -x")
    assert changed() == CODE


def test_a_star_in_the_text(library):
    changed = library.watch("from entanglement.top import *\nThing().run(1)\n")
    library.edit("entanglement/deep.py", "UNUSED = 4", "UNUSED = 5")
    assert changed() == NOTHING
    library.edit("entanglement/deep.py", "LIMIT = 3", "LIMIT = 4")
    assert changed() == CODE


def test_registration_by_a_decorator_of_ours_into_a_plain_dict(tree):
    files = {
        "rules": """
        RULES = {}

        def rule(name):
            def register(function):
                RULES[name] = function
                return function
            return register

        def get(name):
            return RULES[name]
        """,
        "many": "from entanglement.rules import rule\n\n\n@rule('a')\ndef a(x):\n    return x\n",
    }
    changed = one(tree, "from entanglement.rules import get\n\n\ndef run():\n    return get('a')\n", **files)
    tree.edit("entanglement/many.py", "return x", "return -x")
    assert changed() == CODE


def test_subclasses_that_register_themselves(tree):
    files = {
        "base": """
        KINDS = {}

        class Base:
            def __init_subclass__(cls):
                KINDS[cls.name] = cls
        """,
        "many": "from entanglement.base import Base\n\n\nclass A(Base):\n    name = 'a'\n    x = 1\n",
    }
    changed = one(
        tree, "from entanglement.base import KINDS\n\n\ndef run():\n    return KINDS['a']()\n", **files
    )
    tree.edit("entanglement/many.py", "x = 1", "x = 2")
    assert changed() == CODE
    tree.edit("entanglement/many.py", "x = 2\n", "x = 2\n\n\nclass B(A):\n    x = 5\n")
    changed = tree.watch("from entanglement.m import run\nrun()")
    tree.edit("entanglement/many.py", "x = 5", "x = 6")
    assert changed() == CODE


@pytest.mark.parametrize("way", ["globals()['f']()", "sys.modules[__name__].f()", "eval('f()')"])
def test_a_module_that_looks_into_itself(tree, way):
    changed = one(tree, f"import sys\n\n\ndef f():\n    return 1\n\n\ndef run():\n    return {way}\n")
    tree.edit("entanglement/m.py", "return 1", "return 2")
    assert changed() == CODE


def test_stars_through_modules(tree):
    changed = one(
        tree,
        "from .s import *\nfrom .t import *\n\n\ndef run():\n    return f()\n",
        s="from .t import *\nfrom .s import *\n",
        t="from .u import *\n",
        u="def f():\n    return 1\n",
    )
    tree.edit("entanglement/u.py", "return 1", "return 2")
    assert changed() == CODE


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    x: int = 1", "    x: float = 1"),  # the annotation of a field is its text
        ("if LIMIT:", "if not LIMIT:"),
        ("except ImportError", "except OSError"),
        ("f'{y:.2f} m'", "f'{y:.3f} m'"),
        ("f'{y:.2f} m'", "f'{y:.2f} cm'"),
        ("f'{y:.2f} m'", "f'{y!r:.2f} m'"),
        ("y.rate", "y.length"),
        ("y[1:]", "y[:1]"),
        ("1.0", "1"),
        ("b'1'", "'1'"),
        ("y if y else 2", "2 if y else y"),
        ("y < 2", "y <= 2"),
        ("key=y", "other=y"),
        ("*y)", "y)"),
        ("{**y}", "{'y': y}"),
        ("def field(self, y=1)", "def field(self, *, y=1)"),
        ("def field(self, y=1)", "def field(self, y=2)"),
        ("[y for y in Y if y]", "[y for y in Y]"),
        ("lambda y: y", "lambda y: 1"),
        ("    x: int = 1", "    x: int = 2"),
        ("@dataclass", "@dataclass(frozen=True)"),
        ("class run(Base, kind=1)", "class run(Base, kind=2)"),
        ("class run(Base, kind=1)", "class run(kind=1)"),
        ("for a in Y for b in a", "for a in LIMIT for b in a"),
        ("for a in Y for b in a", "for a in Y for b in Y"),
        ("for a in Y for b in a", "for b in Y for a in b"),
        ("        global Y", "        global LIMIT"),
        ("        global Y", "        pass"),
        ("async def go", "def go"),
        ("f(key=y)", "f[y]"),
        ("def inner(", "def outer("),
    ],
)
def test_each_piece_of_an_expression_counts(tree, old, new):
    text = """
    from __future__ import annotations
    from dataclasses import dataclass
    LIMIT = 1
    Y = [1]
    if LIMIT:
        A = 1
    try:
        B = 1
    except ImportError:
        B = 2

    @dataclass
    class run(Base, kind=1):
        x: int = 1

        async def go(self):
            return [b for a in Y for b in a]

        def field(self, y=1):
            def inner(z):
                return z

            global Y
            f'{y:.2f} m'.join(y.rate, y[1:], 1.0, b'1', y if y else 2, y < 2)
            return A, B, f(key=y), g(*y), {**y}, [y for y in Y if y], lambda y: y
    """
    changed = one(tree, text)
    tree.edit("entanglement/m.py", old, new)
    assert changed() == CODE


def test_packages_that_pass_names_on(tree):
    tree.write(
        {
            "entanglement/inner/__init__.py": "from .work import f as g\nfrom . import work\n",
            "entanglement/inner/work.py": OTHER,
            "entanglement_book/lazy/__init__.py": """
            import importlib

            _EXPORTS = {"f": "entanglement_book.lazy.work", "Y": ".second"}

            def __getattr__(name):
                return getattr(importlib.import_module(_EXPORTS[name]), name)
            """,
            "entanglement_book/lazy/work.py": OTHER,
            "entanglement_book/lazy/second.py": OTHER,
        }
    )
    passed = tree.watch("from entanglement.inner import g\ng()")
    deep = tree.watch("import entanglement as e\ne.inner.work.f()")
    lazy = tree.watch("import entanglement_book.lazy as z\nz.f()")
    constant = tree.watch("from entanglement_book.lazy import Y\nY")
    tree.edit("entanglement/inner/work.py", "return x", "return -x")
    assert (passed(), deep(), lazy(), constant()) == (CODE, CODE, NOTHING, NOTHING)
    tree.edit("entanglement_book/lazy/work.py", "return x", "return -x")
    assert (lazy(), constant()) == (CODE, NOTHING)
    tree.edit("entanglement_book/lazy/second.py", "Y = 2", "Y = 3")
    assert (lazy(), constant()) == (CODE, CODE)


def test_docstrings_count_for_those_who_read_them(tree):
    tree.write(
        {
            "entanglement/m.py": '"""Module."""\n\n\ndef run():\n    """Run."""\n\n\ndef usage():\n    return __doc__\n'
        }
    )
    run, usage = (
        tree.watch("from entanglement.m import run\nrun"),
        tree.watch("from entanglement.m import usage\nusage"),
    )
    shown = tree.watch("from entanglement.m import run\nrun.__doc__")
    source = tree.watch("import inspect\nfrom entanglement.m import run\ninspect.getsource(run)")
    tree.edit("entanglement/m.py", '"""Run."""', '"""Walk."""')
    assert (run(), usage(), shown(), source()) == (NOTHING, NOTHING, CODE, CODE)
    tree.edit("entanglement/m.py", '"""Module."""', '"""Other."""')
    assert (run(), usage()) == (NOTHING, CODE)


def test_a_text_that_is_no_python_depends_on_everything(library):
    changed = library.watch("def f(:\n")
    library.edit("entanglement/deep.py", "UNUSED = 4", "UNUSED = 5")
    assert changed() == CODE


def test_a_module_that_is_no_python_is_one_text(library):
    library.edit("entanglement/deep.py", "def other(x):", "def other(x:")
    changed = library.watch(RUN)
    library.edit("entanglement/deep.py", "UNUSED = 4", "UNUSED = 5")
    assert changed() == CODE


def test_the_text_itself_counts_without_its_comments(library):
    changed = library.watch(RUN)
    assert changed("# more\n" + RUN.replace("run(1)", "run( 1 )")) == NOTHING
    assert changed(RUN.replace("run(1)", "run(2)")) == CODE
    assert changed(RUN.replace("Thing", "Thing as T", 1).replace("Thing()", "T()")) == NOTHING


def test_roots(library):
    of = library.of
    assert of([("entanglement.deep", "helper")]) != of([("entanglement.deep", "other")])
    assert of([("entanglement.top", "one_step")]) == of([("entanglement.middle", "step")])
    with pytest.raises(ValueError, match=r"entanglement\.deep defines no 'nothing'"):
        of([("entanglement.deep", "nothing")])
    with pytest.raises(ValueError, match="module 'numpy' is not in entanglement, entanglement_book"):
        of([("numpy", "nothing")])
    with pytest.raises(ValueError, match="view='colors'; expected one of numbers, page"):
        of(RUN, view="colors")


def test_parts_say_which_definitions(library):
    before = library.of(RUN).parts
    assert list(before) == [
        "(the source)",
        "entanglement.deep: LIMIT",
        "entanglement.deep: helper",
        "entanglement.middle: step",
        "entanglement.top: Thing",
    ]
    library.edit("entanglement/deep.py", "math.sqrt", "math.exp")
    now = library.of(RUN).parts
    assert [name for name in now if now[name] != before[name]] == ["entanglement.deep: helper"]


def test_what_only_draws_counts_for_the_page(tree):
    tree.write(
        {
            "entanglement_book/drawing/style.py": 'ACCENT = "#7a6cf0"\n\n\ndef draw(x):\n    return ACCENT\n',
            "entanglement_book/studies/ch04_losses/figures.py": "from entanglement_book.drawing import style\n\n\n"
            "def band(x):\n    return style.draw(x)\n",
            "entanglement_book/studies/ch04_losses/study.py": "def one(x):\n    return x\n",
        }
    )
    text = (
        "from entanglement_book.studies.ch04_losses import figures, study\nfrom entanglement_book.drawing.style import draw\n"
        "figures.band(study.one(1))\ndraw(2)\n"
    )
    numbers, page = tree.watch(text), tree.watch(text, view="page")
    tree.edit("entanglement_book/drawing/style.py", "#7a6cf0", "#000000")
    tree.edit("entanglement_book/studies/ch04_losses/figures.py", "draw(x)", "draw(-x)")
    assert (numbers(), page()) == (NOTHING, CODE)
    tree.edit("entanglement_book/studies/ch04_losses/study.py", "return x", "return -x")
    assert numbers() == CODE
