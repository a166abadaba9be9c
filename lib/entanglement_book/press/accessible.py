"""What keeps a page from readers who do not see it as we do: the findings of axe-core in a real browser."""

from __future__ import annotations

from typing import Any

__all__ = ["IMPACTS", "MODES", "obstacles"]

#: Which of axe's findings count; it has "minor" and "moderate" ones besides.
IMPACTS = ("serious", "critical")
#: Color scheme and width in pixels of the four ways in which a page is looked at.
MODES = tuple((scheme, width) for scheme in ("light", "dark") for width in (1280, 390))


def obstacles(page: Any) -> list[str]:
    """Return what axe finds on a page of Playwright as it is shown now, a line a rule and place.

    Only findings of the ``IMPACTS`` count.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in IMPACTS
        for node in rule["nodes"]
    ]
