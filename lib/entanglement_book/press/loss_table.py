"""The table of losses as a page shows it, made from the declarations alone."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from entanglement.losses import Hyper, LossSpec, loss_specs
from entanglement.losses.base import Form

__all__ = ["LossTable"]


def _math(latex: str) -> str:
    return f'<span class="math notranslate nohighlight">\\({escape(latex)}\\)</span>'


def _range(hyper: Hyper) -> str:
    return hyper.range_text.replace("inf", "∞").replace("-∞", "−∞")


def _hyper(hyper: Hyper) -> str:
    symbol = _math(f"{hyper.symbol or hyper.name}={hyper.default:g}")
    return f"{symbol} in {_range(hyper)}, <code>{escape(hyper.name)}</code>: {escape(hyper.meaning)}"


#: A formula with a definition behind it, longer than this as it is written, is set in two lines.
_LONG = 110


def _formulas(spec: LossSpec) -> str:
    whole = f"L={spec.formula}"
    lines = whole.split(r",\;", 1) if len(whole) > _LONG else [whole]
    lines += [f"d_w=d_l={spec.d_w}"] if spec.d_w == spec.d_l else [f"d_w={spec.d_w}", f"d_l={spec.d_l}"]
    return "<br>".join(_math(line) for line in lines)


def _row(spec: LossSpec) -> str:
    needs = [
        "Needs a reference" if spec.needs_reference else "Needs no reference",
        "takes token means" if spec.length_normalized else "uses lengths" if spec.needs_lengths else "",
    ]
    about = ". ".join([", ".join(filter(None, needs)), spec.source])
    lines = [
        _formulas(spec),
        *map(_hyper, spec.hyper),
        escape(spec.notes),
        f"<small>{escape(about)}.</small>",
    ]
    name = f"<strong>{escape(spec.title)}</strong>, <code>{escape(spec.name)}</code>"
    return f"<tr><td>{'<br>'.join(filter(None, [name, *lines]))}</td></tr>"


class LossTable:
    """One form's losses, or some by name, a row each; shown as the last value of a cell.

    A row is one cell as wide as the page: on a telephone there is no room beside a formula.

    Args:
        form: which form of loss.
        names: which losses instead.

    Raises:
        ValueError: there is no such loss.
    """

    def __init__(self, form: Form | None = None, names: Iterable[str] | None = None) -> None:
        wanted = None if names is None else set(names)
        self.specs = [
            spec
            for spec in loss_specs()
            if (form is None or spec.form == form) and (wanted is None or spec.name in wanted)
        ]
        if not self.specs:
            raise ValueError(f"LossTable: no loss of form {form!r} among {sorted(wanted or [])}.")

    def __repr__(self) -> str:
        return "\n".join(f"{spec.title} ({spec.name}): {spec.formula}" for spec in self.specs)

    def _repr_html_(self) -> str:
        head = "<th>loss</th>"
        rows = "\n".join(map(_row, self.specs))
        return f'<table class="losses">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
