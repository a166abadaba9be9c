"""Our packages as text: modules, their top-level definitions, and what each name in them stands for.

Nothing is imported. A *unit* is what a change is traced to: one top-level name with every statement that
defines or changes it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from entanglement.files import read_text

__all__ = [
    "Atom",
    "Binding",
    "Import",
    "Module",
    "Unit",
    "bound_names",
    "import_bindings",
    "inner_statements",
    "parsed",
    "read_module",
]

#: definition: a top-level name. entry: a registration that has no name of its own. effects: statements that
#: count for all of a module. module: a whole module used as an object. everything: all modules. source: a
#: text from outside, a notebook say.
Kind = Literal["definition", "entry", "effects", "module", "everything", "source"]


@dataclass(frozen=True)
class Import:
    """What an imported name stands for: a module, or a name in it."""

    module: str
    name: str | None = None


@dataclass(eq=False)
class Atom:
    """A statement that belongs to a unit; ``guards``: the tests of top-level ``if`` and ``try`` around it."""

    node: ast.AST
    module: Module
    guards: tuple[ast.AST | str, ...] = ()


@dataclass(eq=False)
class Unit:
    """A top-level name with all statements that define or change it.

    Attributes:
        module: where it stands; None for the unit that stands for everything.
        name: its name, for people and, in a definition, for the hash.
        kind: see ``Kind``.
        atoms: its statements.
        also: other units that belong to it, registered functions for instance.
        printed: keywords of its declaration that are only for print.
        is_registry: whether it is a ``Registry``.
    """

    module: Module | None
    name: str
    kind: Kind = "definition"
    atoms: list[Atom] = field(default_factory=list)
    also: list[Unit] = field(default_factory=list)
    printed: frozenset[str] = frozenset()
    is_registry: bool = False

    def __repr__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """Module and name, for people."""
        return f"{self.module.name}: {self.name}" if self.module and self.module.name else self.name


Binding: TypeAlias = Unit | Import


@dataclass(eq=False)
class Module:
    """One file.

    Attributes:
        name: dotted.
        is_package: whether it is an ``__init__.py``.
        source: its text.
        tree: its syntax tree, empty if it cannot be parsed.
        bindings: top-level name → what it may stand for.
        stars: modules of ``from … import *``.
        imported: modules named by import statements that run when the module is imported.
        loose: statements that change something or have effects; ``registrations`` gives them to units.
        lazy_annotations: ``from __future__ import annotations``.
        whole: the unit of the module as an object.
        effects: the unit of statements that count for all of the module.
    """

    name: str
    is_package: bool
    source: str
    tree: ast.Module
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    loose: list[Atom] = field(default_factory=list)
    lazy_annotations: bool = False

    def __post_init__(self) -> None:
        self.whole = Unit(self, "(the module as an object)", "module")
        self.effects = Unit(self, "(statements with effects)", "effects")
        self.lines = self.source.splitlines()

    def units(self) -> list[Unit]:
        """Return the definitions, each once; ``__all__`` is none."""
        found = [b for name, bs in self.bindings.items() if name != "__all__" for b in bs]
        return list(dict.fromkeys(b for b in found if isinstance(b, Unit)))


def import_bindings(
    node: ast.Import | ast.ImportFrom, module: str, is_package: bool
) -> tuple[list[tuple[str, Import]], list[str], list[str]]:
    """Return what an import statement binds, the modules of its stars, and the modules that it imports."""
    if isinstance(node, ast.Import):
        tops = [(a.name.partition(".")[0], a) for a in node.names]
        bound = [(a.asname, Import(a.name)) if a.asname else (top, Import(top)) for top, a in tops]
        return bound, [], [a.name for a in node.names]
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        parents = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parents, *([node.module] if node.module else [])])
    named = [a for a in node.names if a.name != "*"]
    stars = [base] if len(named) < len(node.names) else []
    return (
        [(a.asname or a.name, Import(base, a.name)) for a in named],
        stars,
        [base, *(f"{base}.{a.name}" for a in named)],
    )


def inner_statements(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes and all inside them that run in the same scope: no bodies of functions and classes."""
    todo = list(nodes)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo += node.decorator_list
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            # Its variables are its own, but a walrus in it binds outside.
            todo += [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
        elif not isinstance(node, ast.Lambda):
            todo += ast.iter_child_nodes(node)


_BINDING = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal,
    ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping,
)  # fmt: skip


def _binding_nodes(node: ast.AST) -> list[ast.AST]:
    """Return what binds or declares a name in a statement. It is kept at the node: trees do not change, and
    each graph that is made of the same texts asks again.
    """
    found: list[ast.AST] | None = getattr(node, "_binding", None)
    if found is None:
        found = [
            inner
            for inner in inner_statements([node])
            if isinstance(inner, _BINDING)
            or (isinstance(inner, ast.Name) and not isinstance(inner.ctx, ast.Load))
        ]
        node._binding = found  # type: ignore[attr-defined]
    return found


def bound_names(
    nodes: Iterable[ast.AST], module: str = "", is_package: bool = False
) -> dict[str, list[Import]]:
    """Return the names that a scope's statements bind, each with the imports that bind it, if any."""
    names: dict[str, list[Import]] = {}
    elsewhere: set[str] = set()
    for statement in reversed(list(nodes)):
        for node in _binding_nodes(statement):
            if isinstance(node, ast.Name):
                names.setdefault(node.id, [])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.setdefault(node.name, [])
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, what in import_bindings(node, module, is_package)[0]:
                    names.setdefault(name, []).append(what)
            elif isinstance(node, ast.Global | ast.Nonlocal):
                elsewhere.update(node.names)
            elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
                names.setdefault(node.name, [])
            elif isinstance(node, ast.MatchMapping) and node.rest:
                names.setdefault(node.rest, [])
    return {name: what for name, what in names.items() if name not in elsewhere}


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _is_main(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _flat(
    body: Iterable[ast.stmt], guards: tuple[ast.AST | str, ...] = ()
) -> Iterator[tuple[ast.stmt, tuple[ast.AST | str, ...]]]:
    """Yield top-level statements, those inside ``if`` and ``try`` with what they stand under.

    What stands under TYPE_CHECKING or ``if __name__ == "__main__"`` does not run when imported.
    """
    for node in body:
        if isinstance(node, ast.If):
            if not (_is_type_checking(node.test) or _is_main(node.test)):
                yield from _flat(node.body, (*guards, node.test))
            yield from _flat(node.orelse, (*guards, "else", node.test))
        elif isinstance(node, ast.Try):
            yield from _flat(node.body, (*guards, "try"))
            for handler in node.handlers:
                kind = [handler.type] if handler.type else []
                yield from _flat(handler.body, (*guards, "except", *kind))
            yield from _flat(node.orelse, (*guards, "try else"))
            yield from _flat(node.finalbody, (*guards, "finally"))
        else:
            yield node, guards


def _is_overload(node: ast.AST) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(getattr(d, "id", getattr(d, "attr", "")) == "overload" for d in decorators)


@lru_cache(maxsize=2048)
def parsed(source: str) -> ast.Module:
    """Return the tree of a text, which nobody changes: who looks again parses only what was edited.

    Raises:
        SyntaxError: it is no Python.
        ValueError: it has a zero byte.
    """
    return ast.parse(source)


def read_module(name: str, path: Path) -> Module:
    """Read one file. A file that cannot be parsed is one piece of text that all its names stand for."""
    source = read_text(path)
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError):  # a zero byte is a ValueError
        module = Module(name, path.name == "__init__.py", source, ast.Module([], []))
        module.whole.atoms.append(Atom(ast.Constant(source), module))
        return module
    module = Module(name, path.name == "__init__.py", source, tree)
    if not module.is_package and "." in name:
        module.imported.append(name.rpartition(".")[0])  # the package's __init__ runs first
    for node, guards in _flat(tree.body):
        _sort_in(module, node, guards)
    return module


def _unit(module: Module, name: str) -> Unit:
    bound = module.bindings.setdefault(name, [])
    for what in bound:
        if isinstance(what, Unit):
            return what
    unit = Unit(module, name)
    bound.append(unit)
    return unit


def _sort_in(module: Module, node: ast.stmt, guards: tuple[ast.AST | str, ...]) -> None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        bound, stars, imported = import_bindings(node, module.name, module.is_package)
        for name, what in bound:
            module.bindings.setdefault(name, []).append(what)
        module.stars += stars
        module.imported += imported
        module.lazy_annotations |= Import("__future__", "annotations") in [what for _, what in bound]
        return
    if _is_overload(node) or isinstance(node, ast.Assert | ast.Pass | ast.Global):
        return  # an assertion at import can fail and cannot change a number
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return
    atom = Atom(node, module, guards)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        _unit(module, node.name).atoms.append(atom)
        if node.decorator_list or isinstance(node, ast.ClassDef):
            module.loose.append(atom)
        return
    for name in bound_names([node]):
        _unit(module, name).atoms.append(atom)
    module.loose.append(atom)
