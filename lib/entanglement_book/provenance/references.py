"""Where each name in a statement leads, written down as it is met: half of ``text``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from entanglement_book.provenance.modules import Atom, Import, Unit, bound_names
from entanglement_book.provenance.names import Found, Names

__all__ = ["ReferenceWriter", "Scope", "Written"]

_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_ignores", "simple"})
_WHOLE_MODULE = frozenset({"globals", "eval", "exec"})
_SOURCE_READERS = frozenset({"getdoc", "getsource", "getsourcelines", "getcomments", "__doc__"})


@dataclass(frozen=True)
class Written:
    """A unit's text.

    Attributes:
        code: its text; a reference shows its place in ``targets`` and the name of the definition.
        shape: the same without the names of our definitions.
        targets: what each reference may lead to.
        also: what belongs to the unit without being named in it.
        reads_source: whether it looks at docstrings or source of other things.
    """

    code: str
    shape: str
    targets: tuple[tuple[Unit, ...], ...]
    also: tuple[Unit, ...]
    reads_source: bool


@dataclass
class Scope:
    """The names that a scope binds, each with the imports that bind it, if any."""

    names: dict[str, list[Import]]
    is_class: bool = False


class ReferenceWriter:
    """Writes statements with names followed to what they stand for; ``handlers``: for kinds of nodes."""

    handlers: ClassVar[dict[type[ast.AST], Callable[[Any, Any], None]]] = {}

    def __init__(self, unit: Unit, names: Names, left_out: frozenset[str]) -> None:
        self.unit, self.names, self.left_out = unit, names, left_out
        self.out: list[str] = []
        self.shapes: dict[int, str] = {}
        self.targets: dict[tuple[Unit, ...], int] = {}
        self.also = dict.fromkeys(unit.also)
        self.scopes: list[Scope] = []
        self.reads_source = False
        self.declaring = False  # inside a declaration, whose printed keywords may be left out
        self.mute = False  # references count as names only

    def done(self) -> Written:
        """Return what was written."""
        shape = list(self.out)
        for position, text in self.shapes.items():
            shape[position] = text
        return Written(
            "".join(self.out), "".join(shape), tuple(self.targets), tuple(self.also), self.reads_source
        )

    # --- pieces -------------------------------------------------------------------------------------------

    def put(self, code: str, shape: str | None = None) -> None:
        """Write a piece; ``shape``: what stands in its place in the shape."""
        if shape is not None:
            self.shapes[len(self.out)] = shape
        self.out.append(code)

    def refer(self, units: Iterable[Unit], name: str) -> None:
        """Write a reference that may lead to each of ``units``."""
        if self.mute:
            self.put(f"~{name}", "~")
            return
        number = self.targets.setdefault(tuple(dict.fromkeys(units)), len(self.targets))
        self.put(f"@{number}={name}", f"@{number}")

    def atom(self, atom: Atom) -> None:
        """Write a statement of the unit."""
        self.module = atom.module
        self.top = atom.node
        for guard in atom.guards:
            self.put("under(")
            self.put(guard) if isinstance(guard, str) else self.write(guard)
            self.put(")")
        if self.unit.kind == "source":
            assert isinstance(atom.node, ast.Module)
            self.scopes = [Scope(bound_names(atom.node.body, self.module.name))]
            for node in atom.node.body:
                self.write(node)
            self.scopes = []
            return
        # A declaration that is a call; of one that is a decorated function only the decorators are one.
        self.declaring = isinstance(atom.node, ast.Expr | ast.Assign | ast.AnnAssign)
        self.write(atom.node)
        self.declaring = False

    def write(self, node: ast.AST) -> None:
        """Write a node."""
        handler = self.handlers.get(type(node))
        if handler is not None:
            handler(self, node)
        else:
            self.generic(node)

    def generic(self, node: ast.AST) -> None:
        """Write a node's kind and the fields that are not empty."""
        out = self.out
        out.append(type(node).__name__ + "(")
        for name in node._fields:
            if name in _SKIPPED:
                continue
            value = getattr(node, name, None)
            if value is None or value == []:
                continue
            out.append(f"{name}:")
            if isinstance(value, ast.AST):
                self.write(value)
            elif isinstance(value, list):
                self.all(value)
            else:
                out.append(repr(value))
            out.append(",")
        out.append(")")

    def all(self, nodes: Sequence[object]) -> None:
        """Write nodes, or strings and gaps, one after the other."""
        for node in nodes:
            if isinstance(node, ast.AST):
                self.write(node)
            else:
                self.out.append(repr(node))
            self.out.append(";")

    # --- names --------------------------------------------------------------------------------------------

    def bindings(self, name: str) -> tuple[bool, list[Import | Unit]]:
        """Return whether the name is local and what it may stand for beyond that."""
        for depth, scope in enumerate(reversed(self.scopes)):
            if scope.is_class and depth > 0:
                continue
            if name in scope.names:
                return True, list(scope.names[name])
        return False, list(self.names.lookup(self.module, name))

    def chain(self, name: str, attributes: Sequence[str]) -> bool:
        """Write ``name.attribute…``; False if the name leads nowhere beyond this scope."""
        found = [end for binding in self.bindings(name)[1] for end in self.names.follow(binding, attributes)]
        if not found:
            return False
        ours = [end for end in found if end.unit is not None]
        for dotted in sorted({end.external for end in found if end.unit is None}):
            self.out.append(f"!{dotted};")
            if dotted == "sys.modules":
                self.refer([self.module.whole], "")
            if dotted.rpartition(".")[2] in _SOURCE_READERS:
                self.reads_source = True
        used = max(end.used for end in found)
        if ours:
            used = min(end.used for end in ours)
            self.found(ours)
        for attribute in attributes[used:]:
            self.attribute(attribute)
        return True

    def found(self, ends: Sequence[Found]) -> None:
        """Write a reference to definitions of ours that a name leads to."""
        units = [end.unit for end in ends if end.unit is not None]
        named = dict.fromkeys(unit.name for unit in units if unit.kind == "definition")
        self.refer(units, "|".join(named))

    def attribute(self, name: str) -> None:
        """Write an attribute of something that is not known."""
        self.out.append(f".{name}")
        if name in _SOURCE_READERS:
            self.reads_source = True

    def name(self, node: ast.Name) -> None:
        """Write a name."""
        if self.chain(node.id, ()):
            return
        self.out.append(f"n{node.id};")
        if node.id == "__doc__":
            self.out.append(repr(ast.get_docstring(self.module.tree)))
        elif node.id in _WHOLE_MODULE and not self.bindings(node.id)[0]:
            self.refer([self.module.whole], "")

    def attributes(self, node: ast.Attribute) -> None:
        """Write a chain of attributes, as far as it leads through modules as what is found there."""
        names, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name) and self.chain(value.id, names):
            return
        if isinstance(value, ast.Name):
            self.name(value)
        else:
            self.write(value)
        for name in names:
            self.attribute(name)

    def constant(self, node: ast.Constant) -> None:
        """Write a constant; a string that names a module or definition of ours is a reference."""
        if isinstance(node.value, str) and (found := self.names.named_by(node.value)):
            self.put("'")
            self.found(found)
            self.put("'")
        else:
            self.out.append(f"{node.value!r};")

    def joined(self, node: ast.JoinedStr) -> None:
        """Write an f-string, neighboring pieces of text joined."""
        self.out.append("f(")
        text = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                text += str(part.value)
                continue
            self.out.append(repr(text))
            text = ""
            self.generic(part)
        self.out.append(f"{text!r})")
