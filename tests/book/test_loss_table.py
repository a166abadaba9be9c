"""The table of losses is made from the declarations."""

import pytest

from entanglement.losses import FORMS, list_losses, loss_spec, loss_specs
from entanglement_book.press.loss_table import LossTable


def test_every_declared_loss_is_in_exactly_one_table():
    forms = dict.fromkeys(spec.form for spec in loss_specs())
    shown = [spec.name for form in forms for spec in LossTable(form).specs]
    assert sorted(shown) == sorted(list_losses())
    assert set(forms) <= {*FORMS}


def test_a_row_says_what_its_declaration_says():
    html = LossTable(names=["dpop"])._repr_html_()
    spec = loss_spec("dpop")
    assert "DPOP" in html and "<code>dpop</code>" in html and "arXiv 2402.13228" in html
    assert r"\beta=0.1" in html and r"\lambda=50" in html and "(0, ∞)" in html
    assert "d_w=d_l" not in html and "d_w=d_l" in LossTable(names=["dpo"])._repr_html_()
    assert r"\mathbf 1[\varrho_w&lt;0]" in html  # escaped, or the browser would take it for a tag
    assert spec.formula in repr(LossTable(names=["dpop"]))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="no loss"):
        LossTable(names=["nothing"])
