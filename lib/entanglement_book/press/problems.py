"""What can be wrong with a page, and the simplest of it: that it is too large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGE_MB", "SITE_MB", "Problem", "check_size", "pages_in"]

#: A page and the whole site must not be larger, megabytes.
PAGE_MB, SITE_MB = 3, 40


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong on one page."""

    page: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def pages_in(site: Path) -> list[str]:
    """All pages, as paths relative to the site."""
    found = [path.relative_to(site) for path in site.rglob("*.html")]
    return sorted(
        path.as_posix() for path in found if path.parts[0] not in {"_static", "_sources", "_images"}
    )


def check_size(site: Path) -> list[Problem]:
    """No page is larger than a slow line can bear, nor is the whole site."""
    pages = {path: path.stat().st_size for path in sorted(site.rglob("*.html"))}
    problems = [
        Problem(path.relative_to(site).as_posix(), f"{size / 1e6:.1f} MB, at most {PAGE_MB} are allowed")
        for path, size in pages.items()
        if size > PAGE_MB * 1e6
    ]
    whole = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    if whole > SITE_MB * 1e6:
        problems.append(Problem("the site", f"{whole / 1e6:.1f} MB, at most {SITE_MB} are allowed"))
    return problems
