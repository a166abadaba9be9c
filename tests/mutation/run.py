"""A mutation run: how many small changes of the code that makes the tables do the tests notice?

Reads ``targets.yml``: which modules are changed, and which tests guard them. The guards run once as they are;
that says which of them run which lines. Then, for each mutant that is drawn, a process is forked that has the
third-party packages already and nothing of ours, imports the changed module, and runs the tests that run its
line, the fastest first, until one fails. A change that none of them notices is shown to the target's other
tests that touch the module, and one of what an import runs (a default, a decorator) to all tests of the files
that import it. What nobody notices is printed; ``equivalents.yml`` names those that nobody can.

Usage, from the repository: ``python tests/mutation/run.py --help``.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import yaml
from mutants import Mutant, mutants_of
from pool import Pool, Task
from targets import Guards, Target, load_targets
from trial import try_tests

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SAMPLE, SEED = 25, 0
#: Imported before anything is forked. Nothing of ours, which the mutants are part of.
HEAVY = (
    "IPython", "filelock", "hypothesis", "hypothesis.strategies", "joblib.externals.loky", "myst_nb",
    "matplotlib.pyplot", "nbformat.v4", "numpy", "pandas", "papermill", "psutil", "pydantic", "scipy.stats",
    "safetensors.torch", "scipy.optimize", "seaborn", "sphinx.application", "tokenizers", "torch",
    "torch.func", "tqdm.auto", "transformers", "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.gpt_neox.modeling_gpt_neox", "transformers.models.llama.modeling_llama", "typer",
)  # fmt: skip


class UnknownTargetError(ValueError):
    """Nothing is called so."""


def equivalents() -> dict[str, str]:
    """Return the mutants that no test can notice, with the reason."""
    rows = yaml.safe_load((HERE / "equivalents.yml").read_text(encoding="utf-8"))
    return {row["mutant"]: row["reason"] for row in rows}


def chosen_targets(only: str | None) -> dict[str, tuple[Target, list[str]]]:
    """Return the targets that are asked for, by name, each with what it is narrowed to: files, or lines."""
    targets = load_targets(HERE / "targets.yml", ROOT)
    if only is None:
        return {target.name: (target, [""]) for target in targets}
    chosen: dict[str, tuple[Target, list[str]]] = {}
    for part in only.split(","):
        file = part.partition(":")[0]
        named = [(target, "") for target in targets if target.name == part]
        named = named or [(t, part) for t in targets if any(file in name for name in t.files)][:1]
        if not named:
            raise UnknownTargetError(
                f"only={part!r}; expected one of {', '.join(t.name for t in targets)}, or a part of the name "
                "of one of their files, perhaps with a line: stats.py:74"
            )
        for target, narrowed in named:
            chosen.setdefault(target.name, (target, []))[1].append(narrowed)
    return chosen


def drawn(target: Target, narrowed: list[str], sample: int, seed: int) -> tuple[list[Mutant], int, int]:
    """Return the mutants to be tried, how many there are, and how many of these are known as equivalent."""
    found = [mutant for name in target.files for mutant in mutants_of(ROOT / name, ROOT)]
    parts = [part.partition(":") for part in narrowed]
    found = [m for m in found if any(f in m.file and (not n or int(n) in m.span) for f, _, n in parts)]
    known = equivalents()
    able = sorted((m for m in found if m.key not in known), key=lambda m: m.rank(seed))
    taken = able[:sample] if sample else able
    return sorted(taken, key=lambda m: (m.file, m.line)), len(found), len(found) - len(able)


class Trial:
    """One mutant and what became of it."""

    def __init__(self, mutant: Mutant, guards: Guards) -> None:
        self.mutant = mutant
        self.first, self.rest = guards.chosen(mutant)
        self.survived = False
        self.killer, self.seconds = "", 0.0

    def survives(self, why: str = "") -> None:
        """Note that nobody noticed, and print it."""
        self.survived = True
        print(f"  survived   {self.mutant}{why}", flush=True)

    def task(self, guards: Guards, folder: Path, pool: Pool, again: bool = False) -> Task:
        """Return the run of the tests that run its line; one of the others follows if they pass."""
        file = ROOT / self.mutant.file
        source = ast.unparse(self.mutant.tree(file.read_text(encoding="utf-8")))
        wanted = self.rest if again else self.first
        module = ".".join(file.relative_to(ROOT / "lib").with_suffix("").parts).removesuffix(".__init__")

        def done(task: Task) -> None:
            self.seconds += task.seconds
            if task.status:
                self.killer = task.reason
            elif task.status is None:
                self.killer = "time"
            elif self.rest and not again:
                pool.add(self.task(guards, folder.with_suffix(".b"), pool, again=True))
            else:
                self.survives()

        limit = 20 + 3 * guards.seconds(wanted)
        return Task(lambda at: try_tests(ROOT, at, module, source, file, wanted), limit, folder, done)


def try_all(mutants: list[Mutant], guards: Guards, pool: Pool, folder: Path) -> list[Trial]:
    """Try mutants; prints each survivor as it is found."""
    trials = [Trial(mutant, guards) for mutant in mutants]
    for number, trial in enumerate(trials):
        if trial.first:
            pool.add(trial.task(guards, folder / str(number), pool))
        else:
            trial.survives("   (no test runs it)")
    pool.run()
    return trials


def commit() -> str:
    """Return the commit, with a + if the library or the tests differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "lib", "tests"], capture_output=True, text=True)
    return head[:12] + ("+" if changed.stdout.strip() else "")


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit status is 1 if the tests fail without a mutant."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", help="a target, or a part of a file's name, perhaps with a line: stats.py:74"
    )
    parser.add_argument("--sample", type=int, default=SAMPLE, help="mutants of each target; 0: all")
    parser.add_argument("--seed", type=int, default=SEED, help="of the draw")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--list", action="store_true", help="only show the mutants that are drawn")
    parser.add_argument(
        "--keys", action="store_true", help="show the names by which equivalents.yml knows them"
    )
    parser.add_argument("--killers", action="store_true", help="show which test noticed each mutant, too")
    asked = parser.parse_args(arguments)
    try:
        chosen = chosen_targets(asked.only)
    except UnknownTargetError as error:
        print(error, file=sys.stderr)
        return 2
    targets = [target for target, _ in chosen.values()]
    draws = {name: drawn(*each, asked.sample, asked.seed) for name, each in chosen.items()}
    if asked.list or asked.keys:
        for mutant in (mutant for target in targets for mutant in draws[target.name][0]):
            print(mutant.key if asked.keys else mutant)
        return 0
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()
    scratch = Path(tempfile.mkdtemp(prefix="mut"))
    try:
        return _measure(targets, draws, asked, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _measure(targets: list[Target], draws: dict, asked: argparse.Namespace, scratch: Path) -> int:
    pool = Pool(asked.jobs)
    guards = {target.name: Guards(target, ROOT, HERE, scratch) for target in targets}
    for each in guards.values():
        each.measure(pool)
    failing = sorted({line for each in guards.values() for line in each.failing})
    if failing:
        print("the tests fail as they are, without any mutant:", *failing, sep="\n  ")
        return 1
    rows = []
    for number, target in enumerate(targets):
        mutants, count, known = draws[target.name]
        print(f"{target.name}: {len(mutants)} of {count} mutants, {known} known as equivalent", flush=True)
        trials = try_all(mutants, guards[target.name], pool, scratch / f"t{number}")
        if asked.killers:
            for trial in trials:
                if not trial.survived:
                    print(f"  killed     {trial.mutant}   ({trial.killer}, {trial.seconds:.1f} s)")
        lived = [str(trial.mutant) for trial in trials if trial.survived]
        killed = len(trials) - len(lived)
        print(
            f"{target.name}: {killed} of {len(trials)} noticed ({killed / max(1, len(trials)):.0%})",
            flush=True,
        )
        rows.append({"name": target.name, "modules": target.files, "mutants": count, "equivalent": known,
                     "tried": len(trials), "killed": killed, "survived": lived})  # fmt: skip
    tried, killed = sum(row["tried"] for row in rows), sum(row["killed"] for row in rows)
    print(f"all: {killed} of {tried} noticed ({killed / max(1, tried):.1%})")
    if asked.only is None and (asked.sample, asked.seed) == (SAMPLE, SEED):
        sys.path.insert(0, str(ROOT / "lib"))
        from entanglement.files import write_json

        found = {"date": date.today().isoformat(), "commit": commit(), "sample": SAMPLE, "seed": SEED,
                 "tried": tried, "killed": killed, "targets": rows}  # fmt: skip
        write_json(ROOT / "book" / "results" / "mutation.json", found)
        print("written to book/results/mutation.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
