"""Statements that change something at import: registrations, and changes of names defined elsewhere.

``X = Registry("loss", …)`` at top level is a registry. Its entries are the top-level calls
``X.add("name", …)``, and what a *declarer* is used on: a function in whose body ``X.add(name, …)`` is called,
as a decorator or in a call of its own. An entry whose name is not written out belongs to the registry as a
whole. Any other statement that changes a top-level name belongs to that name, wherever it stands; one that
changes nothing of ours and has effects counts for all of its module.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from entanglement_book.provenance.modules import Atom, Module, Unit, bound_names, inner_statements
from entanglement_book.provenance.names import Names
from entanglement_book.provenance.views import is_left_out

__all__ = ["Entry", "KnownRegistry", "Registrations"]

#: Methods that change a list, dict or set, or are named like those that do.
_WRITING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "push", "put"}
    | {"register", "remove", "setdefault", "update"}
)
#: Methods of things of our own classes that only look.
_READING = frozenset({"copy", "get", "items", "keys", "values"})


#: Methods that run when an object is made, or when one is used as a decorator.
_MAKING = frozenset({"__new__", "__init__", "__post_init__", "__call__"})
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Entry:
    """A thing in a registry: its name, what declares it, and where (module, line)."""

    name: str
    unit: Unit
    place: tuple[str, int]


@dataclass(eq=False)
class KnownRegistry:
    """A registry: its unit, its kind (the ``what`` of ``Registry``), and its entries by name."""

    unit: Unit
    kind: str
    printed: frozenset[str]
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class _Root:
    """What an expression starts with: a name and attributes, up to the first call or subscript if any."""

    name: str
    attributes: tuple[str, ...]
    call: ast.Call | None


@dataclass(frozen=True)
class _Declared:
    """What calling a function changes; ``parameter``: which argument is the entry's name, if one is."""

    target: Unit
    parameter: tuple[int, str] | None = None
    own_name: bool = False


def _root(node: ast.expr) -> _Root | None:
    attributes: list[str] = []
    call = None
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        elif isinstance(node, ast.Call):
            attributes, call = [], node
            node = node.func
        elif isinstance(node, ast.Subscript):
            attributes, call = [], None
            node = node.value
        else:
            return None
    return _Root(node.id, tuple(attributes), call)


class Registrations:
    """All registries of the packages; making it gives every loose statement to the units that it changes."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.registries: dict[Unit, KnownRegistry] = {}
        self._declared: dict[Unit, list[_Declared]] = {}
        for module in names.modules.values():
            for unit in module.units():
                self._find_registry(module, unit)
        for module in names.modules.values():
            for atom in module.loose:
                self._give(module, atom)
        for module in names.modules.values():
            for unit in (*module.units(), module.effects):
                unit.atoms.sort(key=lambda a: (a.module is not module, a.module.name, _line(a)))
        for registry in self.registries.values():
            registry.entries.sort(key=lambda entry: entry.place)

    def of_kind(self, kind: str) -> list[KnownRegistry]:
        """Return the registries of a kind."""
        return [registry for registry in self.registries.values() if registry.kind == kind]

    # --- registries ---------------------------------------------------------------------------------------

    def _find_registry(self, module: Module, unit: Unit) -> None:
        for atom in unit.atoms:
            value = getattr(atom.node, "value", None)
            if not isinstance(atom.node, ast.Assign | ast.AnnAssign) or not isinstance(value, ast.Call):
                continue
            function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
            if not any(map(self._is_registry, self._named_by(module, _root(function)))):
                continue
            given = {k.arg: k.value for k in value.keywords}
            kind = value.args[0] if value.args else given.get("what")
            printed = value.args[2] if len(value.args) > 2 else given.get("printed")
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                words = [n.value for n in ast.walk(printed) if isinstance(n, ast.Constant)] if printed else []
                unit.is_registry = True
                self.registries[unit] = KnownRegistry(unit, kind.value, frozenset(map(str, words)))

    def _is_registry(self, unit: Unit, depth: int = 5) -> bool:
        for atom in unit.atoms:
            if isinstance(atom.node, ast.ClassDef) and depth:
                if unit.name == "Registry":
                    return True
                bases = [b.value if isinstance(b, ast.Subscript) else b for b in atom.node.bases]
                for base in map(_root, bases):
                    if any(self._is_registry(u, depth - 1) for u in self._named_by(atom.module, base)):
                        return True
        return False

    # --- who changes what ---------------------------------------------------------------------------------

    def _ends(self, module: Module, root: _Root) -> list[tuple[Unit, tuple[str, ...]]]:
        """Return the definitions of ours that a root leads to, each with the attributes left over."""
        return [
            (end.unit, root.attributes[end.used :])
            for binding in self.names.lookup(module, root.name)
            for end in self.names.follow(binding, root.attributes)
            if end.unit is not None and end.unit.kind == "definition" and _counts(end.unit)
        ]

    def _named_by(self, module: Module, root: _Root | None) -> list[Unit]:
        """Return the definitions that an expression names, not things that belong to them."""
        return [unit for unit, rest in self._ends(module, root) if not rest] if root else []

    def _give(self, module: Module, atom: Atom) -> None:
        node = atom.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._decorated(module, atom, node)
            return
        single = isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign)
        binds = set(bound_names([node]))
        known = bool(binds)
        effect, seen = False, set()
        for expression, changes in _changes([node]):
            root = _root(expression)
            if root is not None and root.call is not None:
                if root.call in seen:
                    continue
                seen.add(root.call)
            done = False
            for unit, rest in self._ends(module, root) if root else []:
                done |= self._change(module, atom, unit, rest, root, changes, single)
            # A call whose value is kept matters to that name only; one that stands alone has effects.
            effect |= changes and not done and not (root and root.name in binds)
            known |= done
        if effect or not known:
            _join(module.effects, atom)

    def _change(
        self,
        module: Module,
        atom: Atom,
        unit: Unit,
        rest: tuple[str, ...],
        root: _Root | None,
        changes: bool,
        single: bool,
    ) -> bool:
        """Give a statement to a unit that it may change; True if that is all it does."""
        if root is None:
            return False
        if root.call is not None and not rest:
            declared = self._declared_by(unit)
            for what in declared:
                self._declare(module, atom, what, root.call, single, None)
            return bool(declared) and all(what.target in self.registries for what in declared)
        if unit in self.registries and rest == ("add",) and root.call is not None:
            self._declare(module, atom, _Declared(unit, (0, "name")), root.call, single, None)
            return True
        if changes:
            _join(unit, atom)
        return changes

    def _decorated(
        self, module: Module, atom: Atom, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    ) -> None:
        (own,) = (b for b in module.bindings[node.name] if isinstance(b, Unit))
        for decorator in node.decorator_list:
            root = _root(decorator)
            for unit, rest in self._ends(module, root) if root else []:
                if rest and unit is not own:  # a method of a thing of ours
                    unit.also.append(own)
                elif not rest and root is not None:
                    for what in self._declared_by(unit):
                        self._declare(module, atom, what, root.call, True, own)
        for above in self._ancestors(module, node, frozenset({own})):
            for what in self._declared_by(above, "__init_subclass__"):
                self._declare(module, atom, what, None, False, own)

    def _ancestors(self, module: Module, node: ast.AST, seen: frozenset[Unit]) -> Iterator[Unit]:
        for base in filter(None, map(_root, getattr(node, "bases", []))):
            for unit in {unit for unit, _ in self._ends(module, base)} - seen:
                yield unit
                for atom in unit.atoms:
                    yield from self._ancestors(atom.module, atom.node, seen | {unit})

    def _declare(
        self,
        module: Module,
        atom: Atom,
        what: _Declared,
        call: ast.Call | None,
        single: bool,
        own: Unit | None,
    ) -> None:
        """Make an entry of a statement or a decorated definition, or give it to what it changes."""
        registry = self.registries.get(what.target)
        name = self._literal(what, call, own) if single else None
        if registry is None or name is None:
            if own is None:
                _join(what.target, atom)
            elif own is not what.target:
                what.target.also.append(own)
            return
        if own is None:
            bound = [b for n in bound_names([atom.node]) for b in module.bindings[n] if isinstance(b, Unit)]
            own = bound[0] if bound else Unit(module, f"{what.target.name} {name!r}", "entry", [atom])
        own.printed |= registry.printed
        registry.entries.append(Entry(name, own, (module.name, _line(atom))))

    def _literal(self, what: _Declared, call: ast.Call | None, own: Unit | None) -> str | None:
        if what.own_name:
            return own.name if own else None
        if what.parameter is None or call is None:
            return None
        position, keyword = what.parameter
        given: list[ast.expr] = [k.value for k in call.keywords if k.arg == keyword]
        if not given and len(call.args) > position:
            given = [call.args[position]]
        if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
            return given[0].value
        return None

    # --- declarers ----------------------------------------------------------------------------------------

    def _declared_by(self, unit: Unit, method: str | None = None) -> list[_Declared]:
        """Return what a call of a function of ours changes of top-level names, directly or by its calls.

        Args:
            unit: a function, or a class, of which what makes an object counts.
            method: this method of a class instead.
        """
        if unit in self._declared and method is None:
            return self._declared[unit]
        if method is None:
            self._declared[unit] = []  # against circles
        found: dict[_Declared, None] = {}
        for atom in unit.atoms:
            nodes: list[ast.AST] = [atom.node]
            if isinstance(atom.node, ast.ClassDef):
                wanted = _MAKING if method is None else {method}
                nodes = [n for n in atom.node.body if isinstance(n, ast.FunctionDef) and n.name in wanted]
            for node in nodes:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= dict.fromkeys(self._changed_in(atom.module, node))
        if method is None:
            self._declared[unit] = list(found)
        return list(found)

    def _changed_in(
        self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef
    ) -> Iterator[_Declared]:
        functions = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        local = {name for function in functions for name in _locals(function)}
        parameters = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        for function in functions:
            for name in (n for g in ast.walk(function) if isinstance(g, ast.Global) for n in g.names):
                yield from (_Declared(b) for b in self.names.lookup(module, name) if isinstance(b, Unit))
            for expression, _ in _changes(function.body, names=True):
                root = _root(expression)
                if root is None or root.name in local:
                    continue
                for unit, rest in self._ends(module, root):
                    if root.call is not None and not rest:
                        yield from (_Declared(d.target) for d in self._declared_by(unit))
                    elif unit in self.registries and rest == ("add",) and root.call is not None:
                        yield self._named(unit, root.call, parameters)
                    elif self._may_change(unit, expression, rest):
                        yield _Declared(unit)

    def _may_change(self, unit: Unit, expression: ast.expr, rest: tuple[str, ...]) -> bool:
        """Whether a function that assigns into an expression, or calls it, may change a name's value."""
        if any(isinstance(atom.node, _CODE) for atom in unit.atoms):
            return False
        if not isinstance(expression, ast.Call):
            return True
        if not isinstance(expression.func, ast.Attribute):
            return False
        if expression.func.attr in _WRITING:
            return True
        return len(rest) == 1 and rest[0] not in _READING and self._is_made_by_us(unit)

    def _is_made_by_us(self, unit: Unit) -> bool:
        values = [(atom.module, getattr(atom.node, "value", None)) for atom in unit.atoms]
        return any(
            isinstance(value, ast.Call) and self._named_by(module, _root(value)) for module, value in values
        )

    def _named(self, registry: Unit, call: ast.Call, parameters: Sequence[str]) -> _Declared:
        given = [k.value for k in call.keywords if k.arg == "name"] or call.args[:1]
        if given and isinstance(given[0], ast.Name) and given[0].id in parameters:
            return _Declared(registry, (parameters.index(given[0].id), given[0].id))
        own_name = bool(given) and isinstance(given[0], ast.Attribute) and given[0].attr == "__name__"
        return _Declared(registry, None, own_name)


def _counts(unit: Unit) -> bool:
    return unit.module is None or not is_left_out(unit.module.name, "page")


def _line(atom: Atom) -> int:
    return getattr(atom.node, "lineno", 0)


def _join(unit: Unit, atom: Atom) -> None:
    if atom not in unit.atoms:
        unit.atoms.append(atom)


def _locals(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    args = function.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    # What an import inside binds is no local thing: it leads to what it imports.
    bound = {name for name, imports in bound_names(function.body).items() if not imports}
    return {arg.arg for arg in every if arg is not None} | bound


def _changes(nodes: Sequence[ast.AST], names: bool = False) -> Iterator[tuple[ast.expr, bool]]:
    """Yield what statements assign into, delete or call, and whether that stands alone.

    A call that stands alone is there for what it changes; one inside an expression for its value.

    Args:
        nodes: the statements.
        names: also yield names that are changed in place, ``X |= …``.
    """
    for node in inner_statements(nodes):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            single = isinstance(node, ast.AugAssign | ast.AnnAssign)
            for target in [node.target] if single else node.targets:  # type: ignore[union-attr]
                yield from ((t, True) for t in _parts(target) if not isinstance(t, ast.Name))
                if isinstance(node, ast.AugAssign) and isinstance(target, ast.Name) and names:
                    yield target, True
        elif isinstance(node, ast.Expr):
            value = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(value, ast.Call):
                yield value, True
        elif isinstance(node, ast.Call):
            yield node, False


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _parts(part)
    elif isinstance(target, ast.Starred):
        yield from _parts(target.value)
    else:
        yield target
