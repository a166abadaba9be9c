"""The commands: their help, what they say about damaged files and missing things. More in test_bad_inputs."""

import errno
import resource
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from entanglement import cli as science
from entanglement.archive import DataError
from entanglement_book.cli import main
from entanglement_book.layout import Book
from entanglement_book.options import book_at


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_no_command_and_an_unknown_one(capsys):
    assert main([]) == 2
    assert main(["bake"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "Expected one of book, execute" in first and first.endswith(
        "claims, new-chapter, results, bench, nano, mutants, twice, "
        "wheels, published, release, changes, links"
    )
    assert "'bake'" in second and "Expected one of book, execute" in second


def test_outside_a_book(tmp_path, capsys):
    assert main(["status", "--root", str(tmp_path)]) == 2
    assert f"no book at {tmp_path}" in capsys.readouterr().err


def test_a_table_of_contents_that_names_no_notebook(tiny, capsys):
    (tiny.root / "_toc.yml").write_text(
        (tiny.root / "_toc.yml").read_text() + "  - file: notebooks/07_gone\n"
    )
    assert tiny.run("book", "--scale", "smoke") == 1
    assert "names notebooks/07_gone.ipynb, which is not there" in capsys.readouterr().err
    assert tiny.runs() == []


def test_tidy_brings_notebooks_into_order(tiny, capsys):
    path = tiny.path("06_second")
    tidied = path.read_text()
    path.write_text(tidied.replace('"execution_count": null', '"execution_count": 7'))
    assert tiny.run("tidy", "--check") == 1
    assert "holds outputs" in capsys.readouterr().out
    tiny.run("tidy")  # what else is not in order is told, and left to whoever writes
    assert "tidied" in capsys.readouterr().out
    assert path.read_text() == tidied
    tiny.run("tidy")
    out = capsys.readouterr().out
    assert "tidied" not in out and "holds outputs" not in out


def test_serving_what_is_not_there(tiny, capsys):
    assert tiny.run("serve") == 1
    assert "make book" in capsys.readouterr().err
    assert tiny.run("check", "--scale", "smoke") == 1
    assert "make book" in capsys.readouterr().err


HELP = """
import sys, time
from entanglement import cli as science
from entanglement_book import cli as book

def walk(words, one):
    yield words
    for name, below in getattr(one, "commands", {}).items():
        yield from walk([*words, name], below)

slowest = 0.0
for module in (science, book):
    for words in walk([], typer.main.get_command(module.app)):
        began = time.process_time()
        print("#", module.__name__, *words)
        assert module.main([*words, "--help"]) == 0
        slowest = max(slowest, time.process_time() - began)
heavy = {"torch", "transformers", "numpy", "pandas", "scipy", "matplotlib", "sklearn"}
print("heavy:", *sorted(heavy & set(sys.modules)), file=sys.stderr)
print(slowest, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def helped():
    """The help of every command, made in one new process: its texts, what was imported, the slowest."""
    done = subprocess.run([sys.executable, "-c", f"import typer{HELP}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    heavy, slowest = done.stderr.splitlines()
    texts = dict(text.split("\n", 1) for text in done.stdout.removeprefix("# ").split("\n# "))
    return texts, heavy, float(slowest)


def test_no_help_imports_anything_heavy(helped):
    texts, heavy, slowest = helped
    assert len(texts) > 25 and "entanglement_book.cli results restamp" in texts
    assert heavy == "heavy:"
    assert slowest < 1


@pytest.mark.parametrize("module", ["entanglement.cli", "entanglement_book"])
def test_a_command_answers_in_a_second(module):
    def computed():  # and not passed: a busy machine is no fault of ours
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = computed()
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "Usage:" in done.stdout
    assert computed() - before < 1


def test_every_command_explains_itself(helped):
    texts = helped[0]
    groups = ("entanglement.cli", "entanglement_book.cli", "entanglement_book.cli results")
    for words, text in texts.items():
        program = "entanglement-book" if words.startswith("entanglement_book") else "entanglement"
        command = " ".join([program, *words.split()[1:]])
        assert "Usage:" in text and "completion" not in text
        if words in groups:
            assert "COMMAND" in text
        else:
            assert "Example" in text and command in text.partition("Example")[2], words
        for name in (w.split()[-1] for w in texts if w != words and w.rpartition(" ")[0] == words):
            assert f" {name} " in text, (words, name)
    text = texts["entanglement_book.cli book"]
    assert "[default: book]" in text and "Which run" in text and "--root" not in text


def test_what_the_library_declares(capsys):
    from entanglement import __version__
    from entanglement.losses import list_losses

    assert science.main(["--version"]) == 0
    assert capsys.readouterr().out == f"entanglement {__version__}\n"
    assert science.main(["losses"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}: " in f"\n{text}" for name in list_losses())
    assert science.main(["losses", "dpo"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("dpo: ") and "beta = 0.1, in (0, inf)" in text
    assert "needs a reference model" in text and "2305.18290" in text
    assert science.main(["models"]) == 0
    assert "nano: " in capsys.readouterr().out
    assert science.main(["losses", "nothing"]) == 2
    assert science.main(["auditing"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "'nothing'" in first and "expected one of dpo" in first
    assert "'auditing'" in second and "losses, models, audit, read-log" in second


def damage_ledger(root):
    (root / "book" / "claims.yml").write_text("claims: [")
    return "claims.yml", ("execute", "book", "claims")


def damage_verdicts(root):
    (root / "book" / "verdicts").mkdir()
    (root / "book" / "verdicts" / "smoke.json").write_text("[]")
    return "smoke.json", ("claims", "claims --update")


def damage_toc(root):
    (root / "_toc.yml").write_text("- a")
    return "_toc.yml", ("book", "site")


def damage_notebook(root):
    (root / "notebooks" / "06_second.ipynb").write_text("{")
    return "06_second.ipynb", ("tidy", "status", "tidy --check")


def damage_folder(root):
    (root / "_build").write_text("a file")
    return "_build", ("execute", "book", "site")


@pytest.mark.parametrize(
    "damage", [damage_ledger, damage_verdicts, damage_toc, damage_notebook, damage_folder]
)
def test_a_damaged_file_is_named_in_one_line(tiny, capsys, damage):
    name, commands = damage(tiny.root)
    before = everything(tiny.root)
    for command in commands:
        where = () if command.startswith("tidy") else ("--scale", "smoke")
        assert tiny.run(*command.split(), *where) in (1, 2), command
        out, err = capsys.readouterr()
        told = [line for line in (err or out).splitlines() if name in line]
        assert len(told) == 1, (command, out, err)
        assert "Traceback" not in out + err
    assert tiny.runs() == []
    assert [path for path in everything(tiny.root) if "_build" not in path] == [
        path for path in before if "_build" not in path
    ]


def test_only_runs_with_default_parameters_are_recorded(executed, capsys):
    root = executed.root
    for option in (("--seed", "1"), ("--model", "smollm2-135m")):
        for what in ("--update", "--check"):
            assert executed.run("claims", what, "--scale", "smoke", *option) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1
    assert executed.run("claims", "--update", "--check") == 2
    assert not (root / "book" / "verdicts").exists()
    assert executed.run("claims", "--update", "--scale", "book") == 0  # nothing was executed at this scale
    assert not (root / "book" / "verdicts").exists()
    assert executed.run("claims", "--update", "--scale", "smoke") == 0
    assert [path.name for path in (root / "book" / "verdicts").iterdir()] == ["smoke.json"]
    capsys.readouterr()
    # A run with a seed has verdicts of its own, which are shown.
    assert executed.run("execute", "--only", "03", "--scale", "smoke", "--seed", "1") == 0
    before = Book.find(root).verdicts("smoke").read_bytes()
    capsys.readouterr()
    assert executed.run("claims", "--scale", "smoke", "--seed", "1") == 0
    assert "first-holds" in capsys.readouterr().out
    assert Book.find(root).verdicts("smoke").read_bytes() == before


def test_which_book_it_is_about_is_said_where_nobody_asked_for_it(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    book_at(tiny.root)
    assert capsys.readouterr().err == ""
    taken = book_at(None).root
    assert taken == Path(__file__).resolve().parents[2]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"there is no book around {tmp_path}: this is about the one in {taken}"
    monkeypatch.chdir(tiny.root / "notebooks")
    assert book_at(None).root == tiny.root
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_named_and_leaves_nothing(tiny, monkeypatch, capsys):
    def full(dir):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("entanglement_book.options.tempfile.TemporaryFile", full)
    before = everything(tiny.root)
    assert tiny.run("execute", "--out", str(tiny.root / "new" / "folder")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "new/folder cannot be written (No space left on device)" in line and "--out" in line
    assert everything(tiny.root) == before


def test_without_a_browser_it_says_what_to_run(tiny, monkeypatch, capsys):
    site = tiny.root / "_build" / "site" / "smoke"
    site.mkdir(parents=True)
    (site / "index.html").write_text("<html></html>")
    monkeypatch.setattr("entanglement_book.press.browser._NAMES", ())
    none = SimpleNamespace(chromium=SimpleNamespace(executable_path=str(tiny.root / "none")))
    monkeypatch.setattr("playwright.sync_api.sync_playwright", lambda: nullcontext(none))
    monkeypatch.delenv("ENTANGLEMENT_BROWSER", raising=False)
    before = everything(tiny.root)
    assert tiny.run("check", "--scale", "smoke", "--screenshots", str(tiny.root / "pictures")) == 1
    out, err = capsys.readouterr()
    assert out == "" and err == (
        "entanglement-book: no browser was found: run entanglement-book browser, which gets one\n"
    )
    assert everything(tiny.root) == before
    monkeypatch.setattr("entanglement_book.press.browser._quietly", lambda *_: None)  # no download
    assert main(["browser"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "install Chromium" in line and "ENTANGLEMENT_BROWSER" in line
    monkeypatch.setenv("ENTANGLEMENT_BROWSER", "no-such-browser")
    for command in (["browser"], ["check", "--site", str(site)]):
        assert main(command) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "ENTANGLEMENT_BROWSER='no-such-browser'" in line


@pytest.mark.parametrize(
    ("options", "recorded"), [((), True), (("--seed", "0"), False), (("--model", "smollm2-135m"), False)]
)
def test_the_book_records_verdicts_of_runs_with_default_parameters_only(tiny, monkeypatch, options, recorded):
    from entanglement_book.press import claims_cli, cli, execute

    called = []
    monkeypatch.setattr(execute.Execution, "run", lambda self, chapters: [])
    monkeypatch.setattr(cli, "_build_site", lambda *arguments, **options: tiny.root)
    monkeypatch.setattr(claims_cli, "record_verdicts", lambda book, settings: called.append(settings.scale))
    assert tiny.run("book", "--scale", "book", *options) == 0
    assert called == (["book"] if recorded else [])
    assert tiny.run("book", "--scale", "smoke", *options) == 0
    assert called == (["book"] if recorded else [])


def test_data_that_cannot_be_had_is_one_line(tiny, capsys, monkeypatch):
    def unreachable(*arguments):
        raise DataError("could not download thing==1.0 with pip (no route).\nIt is needed.")

    monkeypatch.setattr("entanglement_book.press.store.inspect", unreachable)
    assert tiny.run("status") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "could not download thing==1.0" in line
