"""The text of a unit as far as it can change what runs, with references in the place of names.

Written from the syntax tree, so that comments, docstrings, line breaks, quotes, brackets and trailing commas
do not count. Fields that are empty are left out and pieces of f-strings joined, so that the text is the same
in all versions of Python from 3.11 on. Names of modules and aliases are not in it: a name that leads to one
of our definitions is written as a reference, any other imported name as the path of what it stands for.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from entanglement_book.provenance.modules import Import, Unit, bound_names, import_bindings
from entanglement_book.provenance.names import Names
from entanglement_book.provenance.references import ReferenceWriter, Scope, Written

__all__ = ["Written", "write"]

#: Decorators that leave a function's annotations alone.
_HARMLESS = frozenset(
    {"abc", "classmethod", "contextlib", "functools", "property", "staticmethod", "torch", "typing"}
)
#: What looks at annotations.
_EVALUATING = ("__annotations__", "get_type_hints", "get_annotations", "signature(")
#: Bases and decorators of classes that do not evaluate annotations.
_PLAIN = frozenset(
    {"abc", "dataclasses", "enum", "object", "torch", "typing", "Exception", "ValueError", "RuntimeError"}
)


def write(unit: Unit, names: Names, printed: bool) -> Written:
    """Return the text of a unit; ``printed``: with the keywords that are only for print."""
    writer = _Writer(unit, names, frozenset() if printed else unit.printed)
    for atom in unit.atoms:
        writer.atom(atom)
    return writer.done()


class _Writer(ReferenceWriter):
    # --- calls --------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> None:
        self.out.append("call(")
        self.write(node.func)
        self.out.append(":")
        left_out = self.left_out if self.declaring else frozenset()
        if self.unit.is_registry and node is getattr(self.top, "value", None):
            self.all(node.args[:1])  # what it is called; where its entries are is found out otherwise
            left_out = frozenset({"package", "modules", "printed"})
        else:
            self.all(node.args)
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
        self.scopes.append(Scope(self._locals(node.args, node.body)))
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
            attributes: list[str] = []
            while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
                if isinstance(node, ast.Attribute):
                    attributes.insert(0, node.attr)
                node = node.func if isinstance(node, ast.Call) else node.value
            if not isinstance(node, ast.Name):
                return True
            for binding in self.bindings(node.id)[1] or [Import(node.id)]:
                for end in self.names.follow(binding, attributes):
                    if end.unit is None and end.external.partition(".")[0] in harmless:
                        continue
                    if end.unit is None or end.used < len(attributes) or not _is_plain_function(end.unit):
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
        self.scopes.append(Scope(self._locals(node.args, [node.body])))
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
        self.scopes.append(Scope(names, is_class=True))
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
            self.generic(ast.Assign([node.target], node.value))

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        self.out.append(f"{type(node).__name__}(")
        self.write(node.generators[0].iter)  # in the scope outside
        targets = [generator.target for generator in node.generators]
        self.scopes.append(Scope(bound_names(targets)))
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


def _is_plain_function(unit: Unit) -> bool:
    """Whether a unit is a function that as a decorator does not look at annotations."""
    functions = all(isinstance(atom.node, ast.FunctionDef) for atom in unit.atoms)
    source = unit.module.source if unit.module else ""
    return bool(unit.atoms) and functions and not any(word in source for word in _EVALUATING)


_Writer.handlers = {
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
