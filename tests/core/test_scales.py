"""One of three sizes, and no fourth."""

import pytest

from entanglement_book.studies.shared.scales import at_scale


@pytest.mark.parametrize(("scale", "size"), [("smoke", 1), ("book", 2), ("paper", 3)])
def test_a_scale_has_its_size(scale, size):
    assert at_scale(scale, 1, 2, 3) == size


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match=r"scale='large'; expected smoke, book or paper"):
        at_scale("large", 1, 2, 3)
