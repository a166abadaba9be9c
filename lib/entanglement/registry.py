"""Things that are found by name: losses, updates, optimizers, models, grids, ….

Adding a thing is one declaration, ``REGISTRY.add(name, thing)``, in a module of the registry's package; all
such modules are imported when something is first looked up. Every lookup is written down (``uses``), so that
a page that trains with DPO depends on DPO and on no other loss.

Declare at the top level of a module and write the name out, in ``add`` or in the call of a function that adds
it: whoever wants to know what a page depends on reads the declarations without running them
(``entanglement_book.provenance``). Look nothing up while a module is imported.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Generic, TypeVar

from entanglement.signatures import checked
from entanglement.uses import EVERYTHING, note

__all__ = ["Registry"]

Thing = TypeVar("Thing")


@checked()
class Registry(Generic[Thing]):
    """Names and what they stand for, in order of declaration.

    Args:
        what: one word for a thing of this kind, "loss" say; it stands in errors and in ``uses``.
        package: whose modules declare things; all are imported when a thing is first looked up.
        modules: which modules below the package instead, at any depth: a pattern of their dotted names
            (``fnmatch``), "*.grid" say; by default those directly in it.
        printed: keywords of a declaration that are only for print (a title, a formula): changing them
            changes pages and no numbers.
    """

    def __init__(
        self, what: str, package: str | None = None, printed: tuple[str, ...] = (), modules: str = ""
    ) -> None:
        self.what = what
        self.package = package
        self.modules = modules
        self.printed = printed
        self._things: dict[str, Thing] = {}
        self._complete = package is None

    def __repr__(self) -> str:
        return f"Registry({self.what!r}, {len(self._things)} declared)"

    def add(self, name: str, thing: Thing) -> Thing:
        """Declare a thing.

        Raises:
            ValueError: the name is taken, or empty.
        """
        if not name or name == EVERYTHING:
            raise ValueError(f"{self.what} {name!r}: expected a name.")
        if name in self._things:
            raise ValueError(f"{self.what} {name!r} is declared already.")
        self._things[name] = thing
        return thing

    def _import_all(self) -> None:
        if self._complete or self.package is None:
            return
        self._complete = True
        path, prefix = import_module(self.package).__path__, f"{self.package}."
        if self.modules:
            below = (found.name for found in pkgutil.walk_packages(path, prefix))
            names = [name for name in below if fnmatchcase(name, prefix + self.modules)]
        else:
            names = [found.name for found in pkgutil.iter_modules(path, prefix)]
        for name in sorted(names):
            import_module(name)

    def __getitem__(self, name: str) -> Thing:
        """Return the thing behind a name, and write down that it was used.

        Raises:
            ValueError: an unknown name; the message lists the names and the closest one.
        """
        self._import_all()
        if not isinstance(name, str) or name not in self._things:
            close = difflib.get_close_matches(str(name).lower(), self._things, n=1, cutoff=0.4)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            allowed = ", ".join(self._things)
            raise ValueError(f"{self.what} {name!r} is not known; expected one of {allowed}.{hint}")
        note(self.what, name)
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        self._import_all()
        note(self.what, str(name))
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        """Go through all names: then every thing counts as used, those to come too."""
        self._import_all()
        note(self.what, EVERYTHING)
        return iter(list(self._things))

    def __len__(self) -> int:
        self._import_all()
        note(self.what, EVERYTHING)
        return len(self._things)

    def keys(self) -> list[str]:
        """Return all names."""
        return list(self)

    def values(self) -> list[Thing]:
        """Return all things."""
        return [self._things[name] for name in self]

    def items(self) -> list[tuple[str, Thing]]:
        """Return all names with their things."""
        return [(name, self._things[name]) for name in self]
