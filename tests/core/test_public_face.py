"""The public face of ``entanglement``: lazy, whole, documented."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import entanglement

PAGE = (Path(__file__).parents[2] / "book" / "api.md").read_text(encoding="utf-8")


def test_importing_the_package_loads_no_torch():
    code = "import sys, entanglement; dir(entanglement); print([m for m in sys.modules if m == 'torch'])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_table_of_exports_is_the_face():
    assert sorted(entanglement._EXPORTS) == sorted(entanglement.__all__)
    assert set(entanglement.__all__) <= set(dir(entanglement))


@pytest.mark.parametrize("name", entanglement.__all__)
def test_every_name_is_what_its_module_defines(name):
    found = getattr(entanglement, name)
    assert found is getattr(importlib.import_module(entanglement._EXPORTS[name]), name)
    assert found.__name__ == name and found.__doc__


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="'entanglement' has no attribute 'nothing'"):
        entanglement.nothing  # noqa: B018


def test_the_page_documents_every_name_once():
    documented = re.findall(r"^\.\. auto(?:class|function):: entanglement\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(documented) == sorted(entanglement.__all__)


@pytest.mark.parametrize("text", [entanglement.__doc__, PAGE], ids=["docstring", "page"])
def test_the_lines_of_use_run(text, capsys):
    lines = re.search(r"^( *)from entanglement import .*?^ *print\(.*?\)$", text, re.MULTILINE | re.DOTALL)
    exec(re.sub(rf"^{lines[1]}", "", lines[0], flags=re.MULTILINE), {})
    assert "ideal" in capsys.readouterr().out
