"""The mutants of a module: each a small change of its code that a test should notice.

Written from the syntax tree, in its order, so that the same source has the same mutants everywhere. What
cannot change a result is left alone: annotations, docstrings, texts, what an error says, ``assert``,
``__all__`` and arguments that only guard the programmer (``strict=``, ``encoding=``, ``frozen=``) or
how soon a line is printed (``flush=``).
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Mutant", "mutants_of"]

Step = tuple[str, int | None]

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max", "max": "min", "any": "all", "all": "any", "sum": "mean", "mean": "sum", "floor": "ceil",
    "ceil": "floor", "amin": "amax", "amax": "amin", "argmin": "argmax", "argmax": "argmin",
    "minimum": "maximum", "maximum": "minimum", "nanmin": "nanmax", "nanmax": "nanmin",
    "logical_and": "logical_or", "logical_or": "logical_and", "zeros": "ones", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "union": "intersection", "startswith": "endswith",
}  # fmt: skip
#: Functions of one argument, and methods of none, that are left out: ``abs(x)`` → ``x``.
_UNWRAPPED = {"abs", "sorted", "reversed", "round", "detach", "clone", "copy", "strip", "exp", "log", "sqrt"}
_SILENT_KEYWORDS = {
    "strict", "encoding", "frozen", "stacklevel", "help", "metavar", "desc", "disable", "leave", "flush",
}  # fmt: skip
#: Functions whose arguments nobody swaps by mistake, or whose order means nothing.
_ORDERED = {"isinstance", "issubclass", "getattr", "setattr", "hasattr", "partial", "min", "max", "isclose"}
_SILENT_DECORATORS = {"dataclass", "wraps", "command", "cache", "lru_cache", "overload", "runtime_checkable"}
_SILENT_NAMES = {"__all__", "T", "P", "Unpack"}


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: relative to the repository.
        line: where it stands.
        span: the lines of its statement; a test that runs none of them cannot notice it.
        place: class and function around it; '' at the top of the module.
        old: the code that is replaced, shortened.
        new: what stands there instead.
        ordinal: of changes that read the same in one place, the how manyth, from 1.
    """

    file: str
    line: int
    span: range
    place: str
    old: str
    new: str
    ordinal: int
    _path: tuple[Step, ...] = field(repr=False, compare=False)
    _node: ast.AST = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """Its name, which stays when lines move."""
        count = f" #{self.ordinal}" if self.ordinal > 1 else ""
        return f"{self.file}::{self.place}: {self.old} → {self.new}{count}"

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.old} → {self.new}"

    @property
    def at_import(self) -> bool:
        """Whether it stands at the top of the module, where an import runs it."""
        return not self.place

    def rank(self, seed: int) -> str:
        """Where it stands in the order of a seed: that of a hash, so that another's change moves none."""
        return hashlib.sha256(f"{seed} {self.key}".encode()).hexdigest()

    def tree(self, source: str) -> ast.Module:
        """Return the changed module."""
        tree = ast.parse(source)
        *above, (name, place) = self._path
        node: ast.AST = tree
        for step, index in above:
            node = getattr(node, step) if index is None else getattr(node, step)[index]
        if place is None:
            setattr(node, name, copy.deepcopy(self._node))
        else:
            getattr(node, name)[place] = copy.deepcopy(self._node)
        return ast.fix_missing_locations(tree)


def mutants_of(path: Path, root: Path) -> list[Mutant]:
    """Return the mutants of a file, in the order of its code."""
    source = path.read_text(encoding="utf-8")
    finder = _Finder(path.relative_to(root).as_posix())
    finder.visit(ast.parse(source), (), "", None)
    return finder.found


class _Finder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Mutant] = []
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def visit(self, node: ast.AST, path: tuple[Step, ...], place: str, statement: ast.stmt | None) -> None:
        """Find the mutants of a node and of all below it."""
        if isinstance(node, ast.stmt):
            statement = node
        if _is_left_alone(node):
            return
        for old, new, where, step in _changes(node):
            self._add(node, old, new, where, (*path, *step), place, statement)
        inner = place
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{node.name}".lstrip(".")
        for name, value in ast.iter_fields(node):
            if isinstance(node, ast.Raise):  # what an error says is text
                break
            if name in ("annotation", "returns", "type_params", "ctx", "msg"):
                continue
            below = inner if name == "body" and inner != place else place
            if isinstance(node, ast.ClassDef):
                # The body of a class runs at the import, as its module's does.
                below = place
            for step, child in _children(name, value):
                if isinstance(node, ast.ClassDef) and isinstance(
                    child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
                ):
                    self.visit(child, (*path, step), inner, statement)
                else:
                    self.visit(child, (*path, step), below, statement)

    def _add(
        self,
        node: ast.AST,
        old: str,
        new: str,
        where: ast.AST,
        path: tuple[Step, ...],
        place: str,
        statement: ast.stmt | None,
    ) -> None:
        old, new = _short(old), _short(new)
        self._seen[place, old, new] += 1
        line = node.ifs[0].lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 1)
        span = _span(statement, line)
        self.found.append(
            Mutant(self.file, line, span, place, old, new, self._seen[place, old, new], path, where)
        )


def _children(name: str, value: object) -> Iterator[tuple[Step, ast.AST]]:
    if isinstance(value, ast.AST):
        yield (name, None), value
    elif isinstance(value, list):
        for place, child in enumerate(value):
            if isinstance(child, ast.AST):
                yield (name, place), child


def _span(statement: ast.stmt | None, line: int) -> range:
    """The lines of a simple statement, or of the head of one with a body, decorators included."""
    if statement is None:
        return range(line, line + 1)
    first, last = statement.lineno, statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    if body:
        last = max(first, min(child.lineno for child in body) - 1)
    return range(min(first, line), max(last, line) + 1)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr | ast.Global | ast.arg):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.keyword) and node.arg in _SILENT_KEYWORDS:
        return True
    if isinstance(node, ast.Call) and _name(node.func) in _SILENT_DECORATORS:
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    if isinstance(node, ast.Assign) and _name(node.targets[0]) in _SILENT_NAMES:
        return True
    return isinstance(node, ast.Subscript) and _name(node.value) in ("Annotated", "Callable", "TypeVar")


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


Change = tuple[str, str, ast.AST, tuple[Step, ...]]


def _changes(node: ast.AST) -> Iterator[Change]:
    """Yield old text, new text, the node that replaces, and the steps from this node to what is replaced.

    No steps: this node itself is replaced.
    """
    if isinstance(node, ast.Compare):
        yield from _comparisons(node)
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY and not _is_text(node):
        yield _become(node, ast.BinOp(node.left, _BINARY[type(node.op)](), node.right))
    elif isinstance(node, ast.AugAssign) and type(node.op) in _BINARY:
        yield _become(node, ast.AugAssign(node.target, _BINARY[type(node.op)](), node.value))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield _become(node, node.operand)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield _become(node, ast.BoolOp(other, node.values))
        for place in range(len(node.values)):
            rest = [value for number, value in enumerate(node.values) if number != place]
            yield _become(node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield from _conditions(node)
    elif isinstance(node, ast.comprehension):
        for place, test in enumerate(node.ifs):
            yield ast.unparse(test), "True", ast.Constant(True), (("ifs", place),)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield _become(node, ast.Return(ast.Constant(None)))
    elif isinstance(node, ast.Break | ast.Continue):
        yield _become(node, ast.Pass())
    elif isinstance(node, ast.Slice):
        if node.lower is not None:
            yield _become(node, ast.Slice(None, node.upper, node.step))
        if node.upper is not None:
            yield _become(node, ast.Slice(node.lower, None, node.step))
    if _is_removed(node):
        yield ast.unparse(node), "(removed)", ast.Pass(), ()


def _become(node: ast.AST, new: ast.AST) -> Change:
    return ast.unparse(node), ast.unparse(ast.fix_missing_locations(copy.deepcopy(new))), new, ()


def _comparisons(node: ast.Compare) -> Iterator[Change]:
    for place, op in enumerate(node.ops):
        for other in _COMPARE[type(op)]:
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield _become(node, ast.Compare(node.left, ops, node.comparators))


def _constants(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield _become(node, ast.Constant(not value))
    elif isinstance(value, int):
        yield _become(node, ast.Constant(value + 1))
    elif isinstance(value, float):
        yield _become(node, ast.Constant(2 * value if value else 1.0))


def _calls(node: ast.Call) -> Iterator[Change]:
    name = _name(node.func)
    if other := _NAMES.get(name):
        function = copy.deepcopy(node.func)
        if isinstance(function, ast.Attribute):
            function.attr = other
            yield _become(node, ast.Call(function, node.args, node.keywords))
        elif isinstance(function, ast.Name) and name not in ("sum",):
            function.id = other
            yield _become(node, ast.Call(function, node.args, node.keywords))
    if name in _UNWRAPPED and not node.keywords:
        if len(node.args) == 1 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
            yield _become(node, node.args[0])
        elif not node.args and isinstance(node.func, ast.Attribute):
            yield _become(node, node.func.value)
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in _SILENT_KEYWORDS:
            rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
            new = ast.Call(node.func, node.args, rest)
            yield f"{ast.unparse(node.func)}(…, {ast.unparse(keyword)})", "(left out)", new, ()
    plain = [arg for arg in node.args if not isinstance(arg, ast.Starred)]
    swappable = len(plain) >= 2 and plain[:2] == node.args[:2] and name not in _ORDERED
    if swappable and not all(map(_is_literal, node.args[:2])):
        yield _become(node, ast.Call(node.func, [*node.args[1::-1], *node.args[2:]], node.keywords))


def _conditions(node: ast.If | ast.IfExp | ast.While) -> Iterator[Change]:
    old = ast.unparse(node.test)
    if isinstance(node, ast.While):
        yield f"while {old}", "while False", ast.Constant(False), (("test", None),)
        return
    for value in (True, False):
        yield f"if {old}", f"if {value}", ast.Constant(value), (("test", None),)
    if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):
        yield f"if {old}", f"if not {old}", ast.UnaryOp(ast.Not(), node.test), (("test", None),)


def _is_removed(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return not any(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Delete)


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )


def _is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:60]} … {text[-36:]}"
