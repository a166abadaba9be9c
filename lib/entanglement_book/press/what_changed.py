"""What changed between two builds: numbers in the text, verdicts, versions of packages, links that broke."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from bs4 import BeautifulSoup

from entanglement.files import read_text
from entanglement_book.press import notebooks
from entanglement_book.press.problems import pages_in
from entanglement_book.press.readable import pasted_in

__all__ = ["broken_links", "changed_numbers", "changed_verdicts", "outdated", "report"]

_AGENT = "Mozilla/5.0 (compatible; link check of an executable book)"
_REFUSES = {401, 403, 405, 406, 418, 429, 503, 999}  # hosts that turn robots away, and are there


def _numbers(folder: Path) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.ipynb")):
        found |= {(path.stem, name): text for name, text in pasted_in(notebooks.read(path)).items()}
    return found


def _differ(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is not other
    try:
        a, b = float(one), float(other)
    except ValueError:
        return one != other
    return abs(a - b) > 1e-6 * max(1.0, abs(a)) or (a != a) != (b != b)


def changed_numbers(before: Path, now: Path) -> list[str]:
    """Return a line for each number of the text that another folder of executed chapters has otherwise."""
    old, new = _numbers(before), _numbers(now)
    return [
        f"{': '.join(name)}: {old.get(name, 'none')[:40]} → {new.get(name, 'none')[:40]}"
        for name in sorted({*old, *new})
        if _differ(old.get(name), new.get(name))
    ]


def changed_verdicts(before: Path, now: Path) -> list[str]:
    """Return a line for each claim whose verdict is another one in another file of verdicts."""

    def read(path: Path) -> dict[str, str]:
        content = json.loads(read_text(path)) if path.is_file() else {}
        return {str(k): str(v.get("verdict")) for k, v in content.get("claims", {}).items()}

    old, new = read(before), read(now)
    return [
        f"{claim}: {old.get(claim, 'none')} → {new.get(claim, 'none')}"
        for claim in sorted({*old, *new})
        if old.get(claim) != new.get(claim)
    ]


def outdated() -> list[str]:
    """Return a line for each installed package of which there is a newer version."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "list",
        "--outdated",
        "--format",
        "json",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        return ["the newest versions could not be asked for"]
    rows = json.loads(done.stdout or "[]")
    return [f"{row['name']}: {row['version']} → {row['latest_version']}" for row in rows]


def _ask(address: str) -> int:
    """The status with which an address answers; 0 if nobody does."""
    request = urllib.request.Request(address, headers={"User-Agent": _AGENT})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return 0


def broken_links(site: Path, more: Iterable[Path] = (), ask: Callable[[str], int] = _ask) -> list[str]:
    """Return a line for each address of another host to which a page leads and where nothing is.

    Args:
        site: folder of pages.
        more: texts in Markdown whose addresses are asked as well.
        ask: address → status; 0: nobody answers. Asked twice before it counts.
    """
    where: dict[str, str] = {}
    for page in pages_in(site):
        soup = BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")
        for link in soup.find_all("a", href=re.compile(r"^https?://")):
            where.setdefault(str(link["href"]).partition("#")[0], page)
    for path in more:
        for address in re.findall(r"https?://[^\s)>\"'`]+", read_text(path)):
            where.setdefault(address.partition("#")[0].rstrip(".,"), path.name)
    problems = []
    for address, page in sorted(where.items()):
        status = ask(address)
        if status == 0 or status >= 400:
            status = ask(address)
        if (status == 0 or status >= 400) and status not in _REFUSES:
            problems.append(f"{page}: {address} ({f'status {status}' if status else 'nobody answers'})")
    return problems


def report(title: str, sections: dict[str, list[str]]) -> str:
    """Return a report in Markdown: a section for each kind of change, and "none" where there is none."""
    parts = [f"# {title}"]
    for name, lines in sections.items():
        parts.append(f"## {name}: {len(lines) or 'none'}")
        parts += ["\n".join(f"- {line}" for line in lines)] if lines else []
    return "\n\n".join(parts) + "\n"
