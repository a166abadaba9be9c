"""What a name in our packages leads to: through imports, aliases, re-exports and packages."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entanglement_book.provenance.modules import Binding, Import, Module, Unit, read_module

__all__ = ["Found", "Names"]

#: Attributes of a module that say where it is and hold none of its definitions.
_PLACES = frozenset({"__name__", "__file__", "__package__", "__spec__", "__version__"})


@dataclass(frozen=True)
class Found:
    """Where a chain of attributes leads.

    Attributes:
        unit: the definition or module of ours, if it is one.
        external: the dotted path of what is not ours.
        used: how many of the chain's attributes lead there; the others belong to the thing itself.
    """

    unit: Unit | None
    external: str
    used: int


class Names:
    """All modules of the packages in a folder, and what names in them stand for.

    Args:
        library: the folder that holds the packages.
    """

    def __init__(self, library: Path) -> None:
        self.packages = {path.parent.name for path in library.glob("*/__init__.py")}
        self.modules: dict[str, Module] = {}
        for package in sorted(self.packages):
            for path in sorted((library / package).rglob("*.py")):
                parts = path.relative_to(library).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                self.modules[name] = read_module(name, path)
        self.everything = Unit(None, "(everything)", "everything")
        self._exports: dict[Module, dict[str, Import]] = {}

    def is_ours(self, dotted: str) -> bool:
        """Whether a dotted name begins with one of our packages."""
        return dotted.partition(".")[0] in self.packages

    def with_parents(self, dotted: str) -> list[Module]:
        """Return the modules that importing ``dotted`` runs, as far as they are ours."""
        parts = dotted.split(".")
        names = (".".join(parts[: n + 1]) for n in range(len(parts)))
        return [self.modules[name] for name in names if name in self.modules]

    def lookup(self, module: Module, name: str) -> list[Binding]:
        """Return what a top-level name of a module may stand for; [] for a builtin."""
        if name in module.bindings:
            return module.bindings[name]
        return self._through_stars(module, name, frozenset())

    def _through_stars(self, module: Module, name: str, seen: frozenset[str]) -> list[Binding]:
        for star in module.stars:
            other = self.modules.get(star)
            if other is None or star in seen:
                continue
            if found := other.bindings.get(name) or self._through_stars(other, name, seen | {star}):
                return [*found, *other.bindings.get("__all__", [])]
        return []

    def exports(self, module: Module) -> dict[str, Import]:
        """Return the lazy exports of a package: dicts name → module beside a module's ``__getattr__``."""
        if module not in self._exports:
            self._exports[module] = self._read_exports(module) if "__getattr__" in module.bindings else {}
        return self._exports[module]

    def _read_exports(self, module: Module) -> dict[str, Import]:
        found: dict[str, Import] = {}
        for unit in module.units():
            for atom in unit.atoms:
                value = getattr(atom.node, "value", None)
                if not isinstance(value, ast.Dict):
                    continue
                for key, where in zip(value.keys, value.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(where, ast.Constant):
                        target = self._exported_from(module, str(where.value))
                        if target:
                            found[str(key.value)] = Import(target, str(key.value))
        return found

    def _exported_from(self, module: Module, where: str) -> str | None:
        for name in (where, f"{module.name}.{where.lstrip('.')}"):
            if name in self.modules:
                return name
        return None

    def attribute(self, module: Module, name: str) -> Module | list[Binding] | None:
        """Return what ``module.name`` is: another module, what it may stand for, or None if nobody knows."""
        below = self.modules.get(f"{module.name}.{name}")
        bound = [b for b in self.lookup(module, name) if b != Import(module.name, name)]
        if bound:
            return bound
        if name in self.exports(module):
            return [self.exports(module)[name]]
        if below is not None:
            return below
        return module.bindings.get("__getattr__")

    def follow(
        self, binding: Binding, attributes: Sequence[str], seen: frozenset[Import] = frozenset()
    ) -> list[Found]:
        """Return where ``binding.attribute.attribute…`` may lead.

        A name that cannot be found in one of our modules leads to the whole module.
        """
        if isinstance(binding, Unit):
            return [Found(binding, "", 0)]
        if binding in seen:
            return []
        named = [] if binding.name is None else [binding.name]
        if not self.is_ours(binding.module):
            return [Found(None, ".".join([binding.module, *named, *attributes]), len(attributes))]
        path = [*named, *attributes]
        module = self._nearest(binding.module)
        if module.name != binding.module:
            return [Found(module.whole, "", 0)]
        for position, name in enumerate(path):
            used = position + 1 - len(named)
            found = self.attribute(module, name)
            if isinstance(found, Module):
                module = found
            elif name in _PLACES:
                return [Found(None, "place", used)]
            elif name == "__path__":
                return [Found(self.everything, "", used)]
            elif found is None:
                return [Found(module.whole, "", max(used - 1, 0))]
            else:
                return [
                    Found(end.unit, end.external, max(used, 0) + end.used)
                    for what in found
                    for end in self.follow(what, path[position + 1 :], seen | {binding})
                ]
        return [Found(module.whole, "", len(attributes))]

    def _nearest(self, dotted: str) -> Module:
        while dotted not in self.modules:
            dotted = dotted.rpartition(".")[0]
        return self.modules[dotted]

    def named_by(self, text: str) -> list[Found]:
        """Return what a string names: a module of ours by its dotted name, or a definition in one.

        The bare name of a package is a word like others and names nothing.
        """
        dotted = text.replace(":", ".", 1)
        if "." not in dotted or not self.is_ours(dotted) or not all(map(str.isidentifier, dotted.split("."))):
            return []
        if dotted in self.modules:
            return [Found(self.modules[dotted].whole, "", 0)]
        parent, _, name = dotted.rpartition(".")
        if parent in self.modules and isinstance(self.attribute(self.modules[parent], name), list):
            return self.follow(Import(parent, name), [])
        return []

    def definitions(self, module: str, name: str) -> list[Unit]:
        """Return the definitions that ``module.name`` leads to.

        Raises:
            ValueError: there is no such module or name.
        """
        if module not in self.modules:
            raise ValueError(f"module {module!r} is not in {', '.join(sorted(self.packages))}.")
        if self.modules[module].whole.atoms:  # it cannot be parsed
            return [self.modules[module].whole]
        if isinstance(self.attribute(self.modules[module], name), list):
            units = [end.unit for end in self.follow(Import(module, name), []) if end.unit]
            if units:
                return units
        raise ValueError(f"{module} defines no {name!r}.")
