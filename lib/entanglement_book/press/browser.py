"""A headless Chromium, found or provided.

In this order: one that is installed (``chromium``, ``google-chrome``, Playwright's own); Playwright's
download; on Debian, as root, the package ``chromium`` (about 50 s). If none can be had,
:class:`NoBrowserError` says so in one line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# As root in a small container: no sandbox, no shared memory; and nothing that talks to anyone on its own.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
    # No other host exists: what a page asks of one is seen, and goes nowhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class NoBrowserError(RuntimeError):
    """No browser is installed and none could be installed."""


def find() -> str | None:
    """Path of an installed browser, or None. Errors: NoBrowserError, if one is named and not there."""
    named = os.environ.get("ENTANGLEMENT_BROWSER")
    if named:
        if (program := shutil.which(named)) is None:
            raise NoBrowserError(f"ENTANGLEMENT_BROWSER={named!r} is no program: name another, or unset it")
        return program
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if path and Path(path).is_file() else None


def installed() -> str:
    """Path of an installed browser. Errors: NoBrowserError, which says how to get one."""
    found = find()
    if found is None:
        raise NoBrowserError("no browser was found: run entanglement-book browser, which gets one")
    return found


def provide() -> str:
    """Path of a browser, installed now if need be. Errors: NoBrowserError."""
    found = find()
    if found:
        return found
    print("no Chromium found: trying Playwright's download", flush=True)
    _quietly(["python", "-m", "playwright", "install", "chromium", "--no-shell"], 180)
    found = find()
    if found:
        return found
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing the package chromium", flush=True)
        _quietly(["apt-get", "update"], 300)
        _quietly(["apt-get", "install", "-y", "--no-install-recommends", "chromium"], 600)
        found = find()
        if found:
            return found
    raise NoBrowserError(
        "no browser could be had: install Chromium or Google Chrome (on Debian: apt-get install chromium), "
        "or name one in ENTANGLEMENT_BROWSER"
    )


def _quietly(command: list[str], seconds: int) -> None:
    import sys

    command = [sys.executable, *command[1:]] if command[0] == "python" else command
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env=environment,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  that did not work: {type(error).__name__}", flush=True)
        return
    if done.returncode != 0:
        lines = (done.stdout or "").strip().splitlines()
        print(f"  that did not work: {lines[-1] if lines else 'no output'}", flush=True)


@contextmanager
def launch(path: str | None = None) -> Iterator[Any]:
    """A running headless browser (Playwright's ``Browser``)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path or provide(), headless=True, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()
