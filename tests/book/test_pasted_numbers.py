"""Numbers that a run has put into a sentence, as the page shows them."""

from __future__ import annotations

import pytest
from docutils import nodes
from docutils.utils import new_document

from entanglement_book.press.sphinx_pages import TrueMinus


@pytest.mark.parametrize(
    ("classes", "text", "shown"),
    [
        (["pasted-text"], "-0.45", "\u22120.45"),
        (["pasted-text"], "0.45", "0.45"),
        (["pasted-text"], "1e-06", "1e-06"),
        ([], "-0.45", "-0.45"),
    ],
)
def test_a_pasted_number_has_a_true_minus(classes, text, shown):
    document = new_document("page")
    document += nodes.paragraph("", "", nodes.inline("", text, classes=classes))
    transform = TrueMinus.__new__(TrueMinus)
    transform.document = document
    transform.run()
    assert document.astext() == shown
