"""All declarations: importing this module declares every loss, in the order of the table."""

from __future__ import annotations

from importlib import import_module

#: One module a form; a loss is one declaration in one of them.
FORMS = ("strict", "margins", "general", "pulled", "separable", "hybrid")

for _form in FORMS:
    import_module(f"entanglement.losses.{_form}")
