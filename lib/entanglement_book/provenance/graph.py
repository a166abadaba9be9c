"""What a thing depends on, by definition: its closure through names, and a hash of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import ClassVar

from entanglement.files import digest, file_sha256
from entanglement.uses import EVERYTHING, FILE, Use
from entanglement_book.provenance.modules import Atom, Module, Unit, parsed
from entanglement_book.provenance.names import Names
from entanglement_book.provenance.registrations import Entry, Registrations
from entanglement_book.provenance.text import Written, write
from entanglement_book.provenance.views import VIEWS, View, is_left_out

__all__ = ["CodeGraph", "Fingerprint", "Root", "root_of"]

#: A definition: its module and its name there.
Root = tuple[str, str]
#: A hash of the code, and one without the names of our definitions.
_Pair = tuple[str, str]
_LEFT_OUT: _Pair = ("-", "-")


@dataclass(frozen=True)
class Fingerprint:
    """What some code depends on.

    Attributes:
        code: hash of all that can change what it does.
        shape: the same with our own names taken out: equal shapes and unequal codes mean that only names of
            definitions changed.
        parts: "module: definition" → a short hash of its own text, to say in words what changed.
    """

    code: str
    shape: str
    parts: dict[str, str]


def root_of(thing: Callable[..., object]) -> Root:
    """Return where a function or class is defined.

    Raises:
        ValueError: it is not defined at the top level of a module, so its code alone does not say what it
            does (a closure, a lambda, a partial).
    """
    name = getattr(thing, "__qualname__", "")
    if not isinstance(thing, FunctionType | type) or "<" in name:
        raise ValueError(f"thing={thing!r}; expected a function or class defined at the top of a module.")
    return thing.__module__, name.partition(".")[0]


def _hash(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


class CodeGraph:
    """The definitions of all packages in a folder and what each refers to; nothing is imported.

    Args:
        library: the folder that holds the packages.
    """

    _known: ClassVar[dict[Path, tuple[str, CodeGraph]]] = {}

    @classmethod
    def of(cls, library: Path) -> CodeGraph:
        """Return the graph of a folder as it is now; one that was made of the same texts is used again.

        Errors: OSError, if a module cannot be read.
        """
        library = library.resolve()
        paths = sorted(library.rglob("*.py"))
        state = digest([(path.relative_to(library).as_posix(), file_sha256(path)) for path in paths])
        if library not in cls._known or cls._known[library][0] != state:
            cls._known[library] = (state, cls(library))
        return cls._known[library][1]

    def __init__(self, library: Path) -> None:
        self.names = Names(library)
        self.registrations = Registrations(self.names)
        self._written: dict[tuple[Unit, bool], Written] = {}
        self._hashes: dict[View, dict[Unit, _Pair]] = {view: {} for view in VIEWS}
        self._with_effects = self._modules_with_effects()
        every = self.names.everything
        every.also = [module.whole for module in self.names.modules.values()]
        for module in self.names.modules.values():
            # A package as an object holds its modules too.
            below = [m.whole for m in self.names.modules.values() if m.name.rpartition(".")[0] == module.name]
            passed = [
                end.unit
                for bound in module.bindings.values()
                for b in bound
                if not isinstance(b, Unit)
                for end in self.names.follow(b, ())
                if end.unit
            ]
            module.whole.also = [*module.units(), *passed, *below]
            module.effects.also = [
                other.effects
                for dotted in module.imported
                for other in self.names.with_parents(dotted)
                if other is not module
            ]

    def _modules_with_effects(self) -> set[Unit]:
        """Return the effects of the modules whose import does more than define names, directly or not."""
        modules = self.names.modules.values()
        found = {module.effects for module in modules if module.effects.atoms}
        grown = True
        while grown:
            grown = False
            for module in modules:
                if module.effects in found:
                    continue
                imports = (o for dotted in module.imported for o in self.names.with_parents(dotted))
                if any(other.effects in found for other in imports):
                    found.add(module.effects)
                    grown = True
        return found

    # --- the interface ------------------------------------------------------------------------------------

    def fingerprint(
        self, roots: str | Iterable[Root], uses: Iterable[Use] | None = None, view: View = "numbers"
    ) -> Fingerprint:
        """Return what some code depends on.

        Args:
            roots: Python source, a notebook's cells say, or definitions of our packages.
            uses: what it looked up in registries when it last ran: of each registry only these entries count
                (all of one with the use "*"). None: nobody knows, and all entries of every registry count
                that the code can reach. Files are not looked at here.
            view: "numbers", or "page" for all that its output shows.

        Raises:
            ValueError: a root that does not exist, or an unknown view.
        """
        if view not in VIEWS:
            raise ValueError(f"view={view!r}; expected one of {', '.join(VIEWS)}.")
        starts = [self._source(roots)] if isinstance(roots, str) else self._definitions(roots)
        used = self._entries(starts, uses, view)
        units = [*starts, *(entry.unit for _, entry in used if entry is not None)]
        closure = self._closure(units, view)
        hashes = self._hashes[view]
        self._hash_all(units, view)
        texts: list[list[str]] = [[view], [view]]
        for side, text in enumerate(texts):
            text += [hashes.get(unit, _LEFT_OUT)[side] for unit in starts]
            for (kind, name), entry in used:
                text.append(f"{kind} {name} " + (hashes.get(entry.unit, _LEFT_OUT)[side] if entry else ""))
        if any(self._text(unit, view).reads_source for unit in closure):
            as_written = sorted(map(_source_of, closure))
            for text in texts:
                text += as_written
        parts = {unit.label: _hash(self._text(unit, view).code)[:10] for unit in closure if unit.atoms}
        return Fingerprint(_hash(*texts[0]), _hash(*texts[1]), dict(sorted(parts.items())))

    # --- roots and registries -----------------------------------------------------------------------------

    def _definitions(self, roots: Iterable[Root]) -> list[Unit]:
        return [unit for module, name in roots for unit in self.names.definitions(module, name)]

    def _source(self, text: str) -> Unit:
        try:
            tree = parsed(text)
        except SyntaxError:
            module = Module("", False, text, ast.Module([], []))
            node: ast.AST = ast.Module([ast.Expr(ast.Constant(text + "\n"))], [])
            return Unit(module, "(the source)", "source", [Atom(node, module)], [self.names.everything])
        module = Module("", False, text, tree)
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                module.stars.append(node.module or "")
        return Unit(module, "(the source)", "source", [Atom(tree, module)])

    def _entries(
        self, starts: Sequence[Unit], uses: Iterable[Use] | None, view: View
    ) -> list[tuple[Use, Entry | None]]:
        """Return the uses with what stands behind each name; all of a registry's entries stand in order."""
        if uses is None:
            uses = self._reached(starts, view)
        found: list[tuple[Use, Entry | None]] = []
        for kind, name in sorted(set(uses)):
            if kind == FILE:
                continue
            entries = [e for registry in self.registrations.of_kind(kind) for e in registry.entries]
            entries = [e for e in entries if name in (EVERYTHING, e.name)]
            if name == EVERYTHING:
                found += [((kind, e.name), e) for e in entries]
            found += [((kind, name), None)] if name == EVERYTHING or not entries else []
            found += [((kind, name), e) for e in entries if name != EVERYTHING]
        return found

    def _reached(self, starts: Sequence[Unit], view: View) -> set[Use]:
        """Return "all" of every registry that the code can reach, also through entries of others."""
        units, kinds = list(starts), set[str]()
        while True:
            closure = self._closure(units, view)
            reached = {r for unit, r in self.registrations.registries.items() if unit in closure}
            if {r.kind for r in reached} <= kinds:
                return {(kind, EVERYTHING) for kind in kinds}
            kinds |= {r.kind for r in reached}
            units += [entry.unit for registry in reached for entry in registry.entries]

    # --- the graph ----------------------------------------------------------------------------------------

    def _text(self, unit: Unit, view: View) -> Written:
        key = (unit, bool(unit.printed) and view == "numbers")
        if key not in self._written:
            self._written[key] = write(unit, self.names, printed=not key[1])
        return self._written[key]

    def _counts(self, unit: Unit, view: View) -> bool:
        if unit.kind == "effects" and unit not in self._with_effects:
            return False
        return unit.module is None or not is_left_out(unit.module.name, view)

    def _also(self, unit: Unit, view: View) -> list[Unit]:
        """Return what belongs to a unit without being named, the effects of importing its module included."""
        found = list(self._text(unit, view).also)
        if unit.module is not None and unit is not unit.module.effects:
            found.append(unit.module.effects)
        for atom in unit.atoms:
            if atom.module is not unit.module:
                found.append(atom.module.effects)
        return [other for other in dict.fromkeys(found) if self._counts(other, view)]

    def _next(self, unit: Unit, view: View) -> list[Unit]:
        named = [other for group in self._text(unit, view).targets for other in group]
        return [o for o in dict.fromkeys([*named, *self._also(unit, view)]) if self._counts(o, view)]

    def _closure(self, units: Iterable[Unit], view: View) -> dict[Unit, None]:
        todo = [unit for unit in units if self._counts(unit, view)]
        found = dict.fromkeys(todo)
        while todo:
            for other in self._next(todo.pop(), view):
                if other not in found:
                    found[other] = None
                    todo.append(other)
        return found

    # --- hashes -------------------------------------------------------------------------------------------

    def _hash_all(self, units: Iterable[Unit], view: View) -> None:
        """Hash units after all that they refer to; those that refer to each other in a circle together.

        The walk is Tarjan's, without recursion.
        """
        hashes = self._hashes[view]
        order: dict[Unit, int] = {}
        lowest: dict[Unit, int] = {}
        open_: list[Unit] = []
        is_open: set[Unit] = set()
        for start in units:
            if start in hashes or start in order or not self._counts(start, view):
                continue
            order[start] = lowest[start] = len(order)
            open_.append(start)
            is_open.add(start)
            path = [(start, iter(self._next(start, view)))]
            while path:
                unit, rest = path[-1]
                other = next(rest, None)
                if other is not None:
                    if other in hashes:
                        continue
                    if other not in order:
                        order[other] = lowest[other] = len(order)
                        open_.append(other)
                        is_open.add(other)
                        path.append((other, iter(self._next(other, view))))
                    elif other in is_open:
                        lowest[unit] = min(lowest[unit], order[other])
                    continue
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[unit])
                if lowest[unit] == order[unit]:
                    at = open_.index(unit)
                    circle = open_[at:]
                    del open_[at:]
                    is_open.difference_update(circle)
                    self._hash_circle(circle, view)

    def _hash_circle(self, circle: Sequence[Unit], view: View) -> None:
        """Hash units that refer to each other: a few rounds of each with its neighbors, then all of them."""
        known = self._hashes[view]
        texts = {unit: self._text(unit, view) for unit in circle}
        also = {unit: self._also(unit, view) for unit in circle}
        now = {unit: ("", "") for unit in circle}
        for _ in range(min(len(circle), 4)):
            before = now
            now = {}
            for unit in circle:
                sides = []
                for side, text in enumerate((texts[unit].code, texts[unit].shape)):
                    hashes = [text]
                    for group in texts[unit].targets:
                        ends = [(before.get(o) or known.get(o) or _LEFT_OUT)[side] for o in group]
                        hashes.append(",".join(sorted(ends)))
                    hashes += sorted((before.get(o) or known.get(o) or _LEFT_OUT)[side] for o in also[unit])
                    sides.append(_hash(*hashes))
                now[unit] = (sides[0], sides[1])
        if len(circle) == 1:
            known[circle[0]] = now[circle[0]]
            return
        together = [_hash(*sorted(pair[side] for pair in now.values())) for side in (0, 1)]
        for unit in circle:
            known[unit] = (_hash(now[unit][0], together[0]), _hash(now[unit][1], together[1]))


def _source_of(unit: Unit) -> str:
    """Return a unit as it is written, comments included."""
    pieces = []
    for atom in unit.atoms:
        node = atom.node
        if isinstance(node, ast.stmt) and hasattr(node, "lineno"):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            pieces.append("\n".join(atom.module.lines[first - 1 : node.end_lineno]))
        else:
            pieces.append(atom.module.source)
    return "\n".join(pieces)
