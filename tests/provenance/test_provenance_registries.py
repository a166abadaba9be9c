"""What is found by a name counts where it was looked up, and nowhere else."""

import pytest

NOTHING, NAMES, CODE = (False, False), (True, False), (True, True)

LIBRARY = {
    "entanglement/registry.py": """
        from importlib import import_module


        class Registry:
            def __init__(self, what, package=None, printed=()):
                self.package = package
                self.things = {}

            def add(self, name, thing):
                self.things[name] = thing

            def __getitem__(self, name):
                import_module(f"{self.package}.x")
                return self.things[name]
        """,
    "entanglement/losses/base.py": """
        from entanglement.registry import Registry

        LOSSES = Registry("loss", package="entanglement.losses", printed=("title", "formula"))


        def declare_loss(name, **facts):
            def register(function):
                LOSSES.add(name, (function, facts))
                return function

            return register


        def get_loss(name):
            return LOSSES[name]
        """,
    "entanglement/losses/__init__.py": "from entanglement.losses.base import declare_loss, get_loss\n",
    "entanglement/losses/strict.py": """
        from entanglement.losses.base import declare_loss

        BETA = 0.1


        def scaled(x):
            return BETA * x


        @declare_loss("dpo", title="DPO", hyper=[BETA])
        def dpo(x):
            return -scaled(x)
        """,
    "entanglement/losses/general.py": """
        from entanglement.losses.base import declare_loss


        @declare_loss("simpo", title="SimPO", formula=r"-x")
        def simpo(x):
            return -x


        def plain(x):
            return x


        declare_loss("plain", title="Plain")(plain)
        """,
    "entanglement/models.py": """
        from entanglement.registry import Registry


        class Known:
            def __init__(self, size, about):
                self.size = size


        MODELS = Registry("model", printed=("about",))
        MODELS.add("nano", Known(4, about="small"))
        big = MODELS.add("big", Known(40, about="large"))
        for n in (1, 2):
            MODELS.add(f"n{n}", Known(n, about="many"))


        def load(name):
            return MODELS[name]
        """,
}
DPO = "from entanglement.losses import get_loss\nget_loss(name)(1)\n"
LOAD = "from entanglement.models import load\nload(name)\n"


@pytest.fixture
def library(tree):
    tree.write(LIBRARY)
    return tree


def used(library, *names, view="numbers", text=DPO, kind="loss"):
    return library.watch(text, {(kind, name) for name in names}, view)


def test_a_flipped_sign_is_seen_by_those_who_used_that_loss(library):
    dpo, simpo, both, every, unknown = (
        used(library, *names) for names in (["dpo"], ["simpo"], ["dpo", "simpo"], ["*"], [])
    )
    nobody_knows = library.watch(DPO)
    library.edit("entanglement/losses/general.py", "return -x", "return x")
    assert (dpo(), unknown()) == (NOTHING, NOTHING)
    assert (simpo(), both(), every(), nobody_knows()) == (CODE, CODE, CODE, CODE)


def test_what_an_entry_refers_to_is_part_of_it(library):
    dpo, simpo = used(library, "dpo"), used(library, "simpo")
    library.edit("entanglement/losses/strict.py", "BETA * x", "BETA / x")
    assert (dpo(), simpo()) == (CODE, NOTHING)


def test_another_loss_counts_for_those_who_went_through_all(library):
    dpo, every, nobody_knows = used(library, "dpo"), used(library, "*"), library.watch(DPO)
    library.write(
        {
            "entanglement/losses/more.py": """
            from entanglement.losses import declare_loss


            @declare_loss("more")
            def more(x):
                return 2 * x
            """
        }
    )
    assert (dpo(), every(), nobody_knows()) == (NOTHING, CODE, CODE)


def test_a_name_that_was_not_there_counts_once_it_is(library):
    asked = used(library, "dpo", "hinge")
    library.edit("entanglement/losses/general.py", '"simpo"', '"hinge"')
    assert asked() == CODE


def test_the_order_counts_for_those_who_went_through_all(library):
    dpo, every = used(library, "dpo"), used(library, "*")
    (library.root / "lib/entanglement/losses/strict.py").rename(library.root / "lib/entanglement/losses/a.py")
    assert (dpo(), every()) == (NOTHING, CODE)  # a.py is imported before general.py


def test_what_is_printed_counts_for_the_page(library):
    numbers, page = used(library, "simpo"), used(library, "simpo", view="page")
    library.edit("entanglement/losses/general.py", '"SimPO"', '"Simple"')
    assert (numbers(), page()) == (NOTHING, CODE)
    numbers, page = used(library, "plain"), used(library, "plain", view="page")
    library.edit("entanglement/losses/general.py", '"Plain"', '"Other"')
    assert (numbers(), page()) == (NOTHING, CODE)
    library.edit("entanglement/losses/general.py", "    return x\n", "    return +x\n")
    assert numbers() == CODE


def test_which_keywords_are_printed_and_where_things_are_declared_is_no_number(library):
    dpo = used(library, "dpo")
    library.edit("entanglement/losses/base.py", '"formula")', '"formula", "source")')
    library.edit("entanglement/losses/base.py", 'package="entanglement.losses", ', "")
    assert dpo() == NOTHING


def test_a_registry_told_everything_by_position(library):
    library.edit(
        "entanglement/losses/base.py",
        '"loss", package="entanglement.losses", printed=("title", "formula")',
        '"loss", "entanglement.losses", ("title", "formula")',
    )
    dpo, simpo = used(library, "dpo"), used(library, "simpo")
    library.edit("entanglement/losses/general.py", '"SimPO"', '"Simple"')
    assert (dpo(), simpo()) == (NOTHING, NOTHING)
    library.edit("entanglement/losses/general.py", "return -x", "return x")
    assert (dpo(), simpo()) == (NOTHING, CODE)


def test_a_fact_that_is_not_printed_is_a_number(library):
    dpo, simpo = used(library, "dpo"), used(library, "simpo")
    library.edit("entanglement/losses/strict.py", "hyper=[BETA]", "hyper=[2 * BETA]")
    assert (dpo(), simpo()) == (CODE, NOTHING)


def test_the_registry_itself_counts_for_all(library):
    dpo = used(library, "dpo")
    library.edit("entanglement/registry.py", "return self.things[name]", "return self.things['dpo']")
    assert dpo() == CODE


def test_entries_that_are_calls(library):
    nano, big, n1 = (used(library, name, text=LOAD, kind="model") for name in ("nano", "big", "n1"))
    library.edit("entanglement/models.py", 'Known(4, about="small")', 'Known(4, about="tiny")')
    assert (nano(), big(), n1()) == (NOTHING, NOTHING, NOTHING)
    library.edit("entanglement/models.py", "Known(4,", "Known(5,")
    assert (nano(), big(), n1()) == (CODE, NOTHING, NOTHING)
    library.edit("entanglement/models.py", "Known(40", "Known(50")
    assert (big(), n1()) == (CODE, NOTHING)


def test_entries_whose_name_is_not_written_out_belong_to_the_registry(library):
    nano, n1 = (used(library, name, text=LOAD, kind="model") for name in ("nano", "n1"))
    library.edit("entanglement/models.py", "Known(n,", "Known(2 * n,")
    assert (nano(), n1()) == (CODE, CODE)


def test_a_use_counts_whether_or_not_the_code_shows_it(library):
    changed = library.watch("import math\n", {("loss", "simpo")})
    roots = library.watch([], {("loss", "simpo"), ("model", "nano")})
    library.edit("entanglement/losses/general.py", "return -x", "return x")
    assert (changed(), roots()) == (CODE, CODE)


def test_an_entry_reaches_other_registries(library):
    library.edit("entanglement/losses/strict.py", "def scaled(x):\n", "def scaled(x):\n    load(x)\n")
    library.edit(
        "entanglement/losses/strict.py", "BETA = 0.1", "from entanglement.models import load\n\nBETA = 0.1"
    )
    dpo, nobody_knows = used(library, "dpo"), library.watch(DPO)
    library.edit("entanglement/models.py", "Known(4,", "Known(5,")
    assert (dpo(), nobody_knows()) == (NOTHING, CODE)


def test_a_declared_function_that_is_imported_by_name_needs_no_use(library):
    changed = library.watch("from entanglement.losses.general import simpo\nsimpo(1)", set())
    library.edit("entanglement/losses/general.py", "return -x", "return x")
    assert changed() == CODE


def test_a_decorator_that_takes_the_functions_own_name(library):
    library.write(
        {
            "entanglement/rules.py": """
            from entanglement.registry import Registry

            class Rules(Registry):
                pass

            RULES: Rules = Rules("rule")

            def rule(function):
                RULES.add(name=function.__name__, thing=function)
                return function

            def named(function, name):
                RULES.add(name=name, thing=function)
                return function

            @rule
            def joint(x):
                return x

            named(lambda x: 5 * x, name="five")
            named(lambda x: 6 * x, "six")
            named(lambda x: 7 * x, joint.__name__ + "seven")

            @rule
            def split(x):
                return 2 * x
            """
        }
    )
    text = "from entanglement.rules import RULES\nRULES[name]"
    names = ("joint", "split", "five", "six")
    joint, split, five, six = (used(library, name, text=text, kind="rule") for name in names)
    library.edit("entanglement/rules.py", "return 2 * x", "return 3 * x")
    assert (joint(), split(), five(), six()) == (NOTHING, CODE, NOTHING, NOTHING)
    library.edit("entanglement/rules.py", "5 * x", "-5 * x")
    assert (joint(), five(), six()) == (NOTHING, CODE, NOTHING)
    library.edit("entanglement/rules.py", "6 * x", "-6 * x")
    assert (joint(), six()) == (NOTHING, CODE)
    library.edit("entanglement/rules.py", "7 * x", "-7 * x")  # under a name that is not written out
    assert joint() == CODE


def test_a_renamed_function_behind_a_name_keeps_the_shape(library):
    changed = used(library, "dpo")
    library.edit("entanglement/losses/strict.py", "def dpo", "def preference")
    assert changed() == NAMES


def test_files_among_the_uses_are_no_names(library):
    assert library.of(DPO, {("loss", "dpo"), ("file", "/a")}) == library.of(DPO, {("loss", "dpo")})


def test_a_title_in_another_chapters_grid_changes_nothing(library):
    library.write(
        {
            "entanglement_book/grids/base.py": """
            from entanglement.registry import Registry

            GRIDS = Registry("grid", printed=("title",))

            def load(name):
                return GRIDS[name]
            """,
            **{
                f"entanglement_book/studies/{name}/grid.py": f"""
                from entanglement_book.grids.base import GRIDS

                STEPS = 3

                def run_cell(cell):
                    return STEPS

                GRIDS.add("{name}", dict(run=run_cell, title="{name}"))
                """
                for name in ("ch05", "ch12")
            },
        }
    )
    text = "from entanglement_book.grids.base import load\nload('ch05')"
    numbers, page = (used(library, "ch05", text=text, kind="grid", view=view) for view in ("numbers", "page"))
    grid = library.watch([("entanglement_book.studies.ch05.grid", "run_cell")], {("grid", "ch05")})
    library.edit("entanglement_book/studies/ch12/grid.py", 'title="ch12"', 'title="Twelve"')
    library.edit("entanglement_book/studies/ch12/grid.py", "STEPS = 3", "STEPS = 4")
    assert (numbers(), page(), grid()) == (NOTHING, NOTHING, NOTHING)
    library.edit("entanglement_book/studies/ch05/grid.py", 'title="ch05"', 'title="Five"')
    assert (numbers(), page(), grid()) == (NOTHING, CODE, NOTHING)
    library.edit("entanglement_book/studies/ch05/grid.py", "STEPS = 3", "STEPS = 4")
    assert (numbers(), page(), grid()) == (CODE, CODE, CODE)
