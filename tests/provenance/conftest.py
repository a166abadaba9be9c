"""A small library to be edited: nothing of it is ever imported."""

import textwrap

import pytest

from entanglement_book.provenance import CodeGraph


class Tree:
    """A folder ``lib`` with two packages, and what code depends on in it."""

    def __init__(self, root):
        self.root = root
        self._graphs = {}
        self.write({"entanglement/__init__.py": "", "entanglement_book/__init__.py": ""})

    def write(self, files):
        for name, text in files.items():
            path = self.root / "lib" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            for folder in path.relative_to(self.root / "lib").parents[:-1]:
                (self.root / "lib" / folder / "__init__.py").touch()
            path.write_text(textwrap.dedent(text).lstrip())

    def edit(self, name, old, new):
        path = self.root / "lib" / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))

    def graph(self):
        """Read the library, once a state of its files."""
        files = sorted((self.root / "lib").rglob("*.py"))
        state = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files)
        if state not in self._graphs:
            self._graphs = {state: CodeGraph(self.root / "lib")}
        return self._graphs[state]

    def of(self, roots, uses=None, view="numbers"):
        return self.graph().fingerprint(roots, uses, view)

    def watch(self, roots, uses=None, view="numbers"):
        """Return a function that says whether code and shape are others than now."""
        before = self.of(roots, uses, view)

        def changed(new_roots=None):
            now = self.of(new_roots or roots, uses, view)
            return now.code != before.code, now.shape != before.shape

        return changed


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)
