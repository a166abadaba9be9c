"""What keeps a page from readers who do not see it as we do: the findings of axe-core in a real browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["COLORS", "IMPACTS", "MODES", "WIDTHS", "obstacles"]

#: Which of axe's findings count; it has "minor" and "moderate" ones besides.
IMPACTS = ("serious", "critical")
#: Rules whose findings depend on the color scheme, and those whose findings depend on the width.
COLORS, WIDTHS = ("color-contrast",), ("scrollable-region-focusable", "target-size")
#: Color scheme and width in pixels of the four ways in which a page is looked at.
MODES = tuple((scheme, width) for scheme in ("light", "dark") for width in (1280, 390))


def obstacles(page: Any, rules: Sequence[str] = ()) -> list[str]:
    """Return what axe finds on a page of Playwright as it is shown now, a line a rule and place.

    Args:
        page: of Playwright.
        rules: names of axe's rules, where a page was seen before and only what these look at has changed;
            all by default. Only findings of the ``IMPACTS`` count.
    """
    from axe_playwright_python.sync_playwright import Axe

    options: dict[str, Any] = {"preload": False, "resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {rule['help']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in IMPACTS
        for node in rule["nodes"]
    ]
