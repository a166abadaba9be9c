"""The text of a unit as far as it can change what runs, with references in the place of names.

Written from the syntax tree, so that comments, docstrings, line breaks, quotes, brackets and trailing commas
do not count. Fields that are empty are left out and pieces of f-strings joined, so that the text is the same
in all versions of Python from 3.11 on. Names of modules and aliases are not in it: a name that leads to one
of our definitions is written as a reference, any other imported name as the path of what it stands for.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from entanglement_book.provenance.modules import Atom, Import, Unit, bound_names, import_bindings
from entanglement_book.provenance.names import Found, Names

__all__ = ["Written", "write"]

_SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_ignores", "simple"})
#: Decorators that leave a function's annotations alone.
_HARMLESS = frozenset(
    {
        "abc",
        "classmethod",
        "contextlib",
        "entanglement",
        "functools",
        "property",
        "staticmethod",
        "torch",
        "typing",
    }
)
#: Bases and decorators of classes that do not evaluate annotations.
_PLAIN = frozenset(
    {"abc", "dataclasses", "enum", "object", "torch", "typing", "Exception", "ValueError", "RuntimeError"}
)
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


def write(unit: Unit, names: Names, printed: bool) -> Written:
    """Return the text of a unit; ``printed``: with the keywords that are only for print."""
    writer = _Writer(unit, names, frozenset() if printed else unit.printed)
    for atom in unit.atoms:
        writer.atom(atom)
    return writer.done()


@dataclass
class _Scope:
    names: dict[str, list[Import]]
    is_class: bool = False


class _Writer:
    def __init__(self, unit: Unit, names: Names, left_out: frozenset[str]) -> None:
        self.unit, self.names, self.left_out = unit, names, left_out
        self.out: list[str] = []
        self.shapes: dict[int, str] = {}
        self.targets: dict[tuple[Unit, ...], int] = {}
        self.also = dict.fromkeys(unit.also)
        self.scopes: list[_Scope] = []
        self.reads_source = False
        self.declaring = False  # inside a declaration, whose printed keywords may be left out
        self.mute = False  # references count as names only

    def done(self) -> Written:
        shape = list(self.out)
        for position, text in self.shapes.items():
            shape[position] = text
        return Written(
            "".join(self.out), "".join(shape), tuple(self.targets), tuple(self.also), self.reads_source
        )

    # --- pieces -------------------------------------------------------------------------------------------

    def put(self, code: str, shape: str | None = None) -> None:
        if shape is not None:
            self.shapes[len(self.out)] = shape
        self.out.append(code)

    def refer(self, units: Iterable[Unit], name: str) -> None:
        if self.mute:
            self.put(f"~{name}", "~")
            return
        number = self.targets.setdefault(tuple(dict.fromkeys(units)), len(self.targets))
        self.put(f"@{number}={name}", f"@{number}")

    def atom(self, atom: Atom) -> None:
        self.module = atom.module
        self.top = atom.node
        for guard in atom.guards:
            self.put("under(")
            self.put(guard) if isinstance(guard, str) else self.write(guard)
            self.put(")")
        if self.unit.kind == "source":
            assert isinstance(atom.node, ast.Module)
            self.scopes = [_Scope(bound_names(atom.node.body, self.module.name))]
            for node in atom.node.body:
                self.write(node)
            self.scopes = []
            return
        # A declaration that is a call; of one that is a decorated function only the decorators are one.
        self.declaring = isinstance(atom.node, ast.Expr | ast.Assign | ast.AnnAssign)
        self.write(atom.node)
        self.declaring = False

    def write(self, node: ast.AST) -> None:
        handler = _HANDLERS.get(type(node))
        if handler is not None:
            handler(self, node)
        else:
            self.generic(node)

    def generic(self, node: ast.AST) -> None:
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
        units = [end.unit for end in ends if end.unit is not None]
        named = dict.fromkeys(unit.name for unit in units if unit.kind == "definition")
        self.refer(units, "|".join(named))

    def attribute(self, name: str) -> None:
        self.out.append(f".{name}")
        if name in _SOURCE_READERS:
            self.reads_source = True

    def name(self, node: ast.Name) -> None:
        if self.chain(node.id, ()):
            return
        self.out.append(f"n{node.id};")
        if node.id == "__doc__":
            self.out.append(repr(ast.get_docstring(self.module.tree)))
        elif node.id in _WHOLE_MODULE and not self.bindings(node.id)[0]:
            self.refer([self.module.whole], "")

    def attributes(self, node: ast.Attribute) -> None:
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
        if isinstance(node.value, str) and (found := self.names.named_by(node.value)):
            self.put("'")
            self.found(found)
            self.put("'")
        else:
            self.out.append(f"{node.value!r};")

    def joined(self, node: ast.JoinedStr) -> None:
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

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> None:
        self.out.append("call(")
        self.write(node.func)
        self.out.append(":")
        self.all(node.args)
        left_out = self.left_out if self.declaring else frozenset()
        if self.unit.is_registry and node is getattr(self.top, "value", None):
            left_out = frozenset({"package", "printed"})  # where entries are is found out otherwise
        for keyword in node.keywords:
            if keyword.arg in left_out:
                continue
            self.out.append(f"{keyword.arg}=")
            self.write(keyword.value)
            self.out.append(",")
        self.out.append(")")
        if self._imports(node.func):
            first = node.args[0] if node.args else None
            literal = isinstance(first, ast.Constant) and not str(first.value).startswith(".")
            if not literal and not self._understood():
                self.refer([self.names.everything], "")

    def _imports(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Attribute):
            return function.attr == "import_module"
        if not isinstance(function, ast.Name):
            return False
        if function.id == "__import__":
            return True
        return Import("importlib", "import_module") in self.bindings(function.id)[1]

    def _understood(self) -> bool:
        """Whether this analysis follows what the unit imports by name: a registry, a package's exports."""
        if self.unit.name == "__getattr__":
            return bool(self.names.exports(self.module))
        return self.unit.name == "Registry" and isinstance(self.top, ast.ClassDef)

    # --- scopes -------------------------------------------------------------------------------------------

    def body(self, nodes: Sequence[ast.stmt]) -> None:
        """Write statements but for strings, which do nothing, docstrings among them."""
        self.all([n for n in nodes if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))])

    def statement(self, node: ast.Expr) -> None:
        if self.unit.kind == "source" or not isinstance(node.value, ast.Constant):
            self.generic(node)

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        module = self.module
        for dotted in import_bindings(node, module.name, module.is_package)[2]:
            for other in self.names.with_parents(dotted):
                self.also.setdefault(other.effects)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.out.append(f"{type(node).__name__}(")
        if node is self.top:
            self.put(node.name, "")
        else:
            self.out.append(node.name)
        self.decorators(node.decorator_list)
        runs = not self.module.lazy_annotations or self._evaluates(node.decorator_list, _HARMLESS)
        self.parameters(node.args, runs)
        if runs and node.returns is not None:
            self.out.append("->")
            self.write(node.returns)
        self.scopes.append(_Scope(self._locals(node.args, node.body)))
        self.body(node.body)
        self.scopes.pop()
        self.out.append(")")

    def decorators(self, nodes: Sequence[ast.expr]) -> None:
        before, self.declaring = self.declaring, True
        for node in nodes:
            self.out.append("@(")
            self.write(node)
            self.out.append(")")
        self.declaring = before

    def _evaluates(self, nodes: Sequence[ast.expr], harmless: frozenset[str]) -> bool:
        """Whether one of these decorators or bases may look at annotations."""
        for node in nodes:
            while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
                node = node.func if isinstance(node, ast.Call) else node.value
            if not isinstance(node, ast.Name):
                return True
            found = self.bindings(node.id)[1] or [Import(node.id)]
            roots = {b.module.partition(".")[0] if isinstance(b, Import) else "" for b in found}
            if not roots <= harmless:
                return True
        return False

    def _locals(self, args: ast.arguments, body: Sequence[ast.AST]) -> dict[str, list[Import]]:
        names = bound_names(body, self.module.name, self.module.is_package)
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        return {a.arg: [] for a in every if a is not None} | names

    def parameters(self, args: ast.arguments, annotations: bool) -> None:
        for kind in ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg"):
            found = getattr(args, kind)
            for arg in found if isinstance(found, list) else [found] if found else []:
                self.out.append(f"{kind} {arg.arg},")
                if annotations and arg.annotation is not None:
                    self.write(arg.annotation)
        for default in [*args.defaults, *args.kw_defaults]:
            self.out.append("=")
            if default is not None:
                self.write(default)

    def lambda_(self, node: ast.Lambda) -> None:
        self.out.append("lambda(")
        self.parameters(node.args, False)
        self.scopes.append(_Scope(self._locals(node.args, [node.body])))
        self.write(node.body)
        self.scopes.pop()
        self.out.append(")")

    def class_(self, node: ast.ClassDef) -> None:
        self.out.append("class(")
        if node is self.top:
            self.put(node.name, "")
        else:
            self.out.append(node.name)
        self.decorators(node.decorator_list)
        self.all(node.bases)
        self.all(node.keywords)
        runs = not self.module.lazy_annotations
        runs |= self._evaluates([*node.decorator_list, *node.bases], _PLAIN)
        names = bound_names(node.body, self.module.name, self.module.is_package)
        self.scopes.append(_Scope(names, is_class=True))
        for child in node.body:
            if isinstance(child, ast.AnnAssign) and not runs:
                self.mute = True  # the text is kept and read by nobody
                self.write(child.annotation)
                self.mute = False
                self.generic(ast.AnnAssign(child.target, ast.Constant(None), child.value, child.simple))
            elif isinstance(child, ast.AnnAssign):
                self.generic(child)
            elif not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                self.write(child)
            self.out.append(";")
        self.scopes.pop()
        self.out.append(")")

    def annotated(self, node: ast.AnnAssign) -> None:
        """An annotated variable outside a class: without its annotation, unless that runs."""
        if not self.module.lazy_annotations and not self.scopes:
            self.generic(node)
        elif node.value is not None:
            self.out.append("=(")
            self.write(node.target)
            self.out.append(":")
            self.write(node.value)
            self.out.append(")")

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.out.append(f"{type(node).__name__}(")
        self.write(node.generators[0].iter)  # in the scope outside
        targets = [generator.target for generator in node.generators]
        self.scopes.append(_Scope(bound_names(targets)))
        for position, generator in enumerate(node.generators):
            self.out.append(" async for " if generator.is_async else " for ")
            self.write(generator.target)
            if position:
                self.out.append(" in ")
                self.write(generator.iter)
            self.all(generator.ifs)
        for part in ("key", "value", "elt"):
            if (value := getattr(node, part, None)) is not None:
                self.out.append(f"{part}:")
                self.write(value)
        self.scopes.pop()
        self.out.append(")")

    def globals_(self, node: ast.Global) -> None:
        for name in node.names:
            self.out.append("global ")
            self.name(ast.Name(name, ast.Load()))


_HANDLERS: dict[type[ast.AST], Callable[[_Writer, Any], None]] = {
    ast.AnnAssign: _Writer.annotated,
    ast.AsyncFunctionDef: _Writer.function,
    ast.Attribute: _Writer.attributes,
    ast.Call: _Writer.call,
    ast.ClassDef: _Writer.class_,
    ast.Constant: _Writer.constant,
    ast.DictComp: _Writer.comprehension,
    ast.Expr: _Writer.statement,
    ast.FunctionDef: _Writer.function,
    ast.GeneratorExp: _Writer.comprehension,
    ast.Global: _Writer.globals_,
    ast.Import: _Writer.imports,
    ast.ImportFrom: _Writer.imports,
    ast.JoinedStr: _Writer.joined,
    ast.Lambda: _Writer.lambda_,
    ast.ListComp: _Writer.comprehension,
    ast.Name: _Writer.name,
    ast.SetComp: _Writer.comprehension,
}
