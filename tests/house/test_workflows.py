"""GitHub's workflows: valid, and every step of theirs is a target that runs here as well."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))


def test_what_is_to_be_done_has_a_workflow():
    assert {path.stem for path in WORKFLOWS} >= {"ci", "pages", "preview", "weekly", "nightly", "release"}
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert ci["jobs"]["test"]["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest"]


def test_they_follow_githubs_own_schema():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, *map(str, WORKFLOWS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_step_is_a_target(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "run" in step:
                words = step["run"].split()
                assert words[0] == "make" and words[1] in TARGETS, step["run"]
                assert all("=" in word for word in words[2:])
            else:
                assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


def test_the_branch_of_executed_notebooks_is_pushed(tmp_path):
    """The target, with a repository beside this one in place of GitHub."""
    origin, work = tmp_path / "origin.git", tmp_path / "work"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "--quiet", "--bare", str(origin)], check=True)
    subprocess.run([*git, "init", "--quiet", str(work)], check=True)
    (work / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements-build.lock", "requirements.lock", "pyproject.toml"):
        (work / name).write_text((ROOT / name).read_text())
    (work / ".gitignore").write_text("_build\n")
    for command in (
        ["add", "--all"],
        ["commit", "--quiet", "-m", "x"],
        ["remote", "add", "origin", str(origin)],
    ):
        subprocess.run([*git, *command], cwd=work, check=True)
    page = work / "_build" / "published" / "notebooks" / "01.ipynb"
    page.parent.mkdir(parents=True)
    page.write_text("{}")
    done = subprocess.run(["make", "push-executed"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = subprocess.run(
        [*git, "ls-tree", "-r", "--name-only", "executed"], cwd=origin, capture_output=True, text=True
    )
    assert listed.stdout.split() == ["notebooks/01.ipynb"]
    status = subprocess.run([*git, "status", "--porcelain"], cwd=work, capture_output=True, text=True)
    assert status.stdout == ""


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda p: p.stem
)
def test_issue_forms_ask_something(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_environments_elsewhere_have_the_same_versions():
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())
    binder = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())["dependencies"]
    assert f"pytorch-cpu={pins['torch']}" in binder
    lab = dict(line.split("==") for line in (ROOT / "requirements-lab.lock").read_text().split())
    assert "jupyterlab" in lab and not set(lab) & set(pins)
