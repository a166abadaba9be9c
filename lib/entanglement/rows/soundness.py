"""One verdict a row: what it is, and what a trainer would do with it.

Nothing is left out without a word and no row ends the reading. The verdicts are looked at in the order in
which they stand in ``VERDICTS``; the first that holds is the row's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from entanglement.checks import whole
from entanglement.rows.encoded import TRL_LENGTH, EncodedPair, TokensAs, encode
from entanglement.rows.from_files import Row, row_of
from entanglement.rows.shapes import SHAPES, Comparison, Misfit
from entanglement.signatures import checked
from entanglement.token_ids import special_tokens_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TRAINED", "VERDICTS", "Judged", "judge"]

#: Verdict → what it says.
VERDICTS: dict[str, str] = {
    "bad_json": "the row could not be read",
    "bad_type": "a column is missing or of another type, or the row has another shape than the file",
    "several_rejected": "more than one rejected response",
    "prompt_differs": "the two responses answer different prompts",
    "empty": "a response, or all that stands before it, is empty",
    "identical": "both responses are the same: a margin has nothing to learn",
    "too_long": "the prompt alone fills the length, so no response is left",
    "identical_after_truncation": "what is left of the two responses after cutting is the same",
    "conflict": "another row prefers the other one of the same two responses",
    "duplicate": "the same row as an earlier one",
    "special_token": "a special token is written out in the text, and is read as that token",
    "ok": "nothing to note",
}
#: Rows with these verdicts have a gradient of the margin and are looked at further.
TRAINED = ("ok", "special_token", "duplicate", "conflict")


@dataclass(frozen=True)
class Judged:
    """A row with its verdict.

    Attributes:
        place: in its file.
        verdict: one of ``VERDICTS``.
        said: particulars, for a reader.
        comparison: what was read; None if nothing could be.
        encoded: its tokens; None for rows that nobody trains on.
    """

    place: int
    verdict: str
    said: str
    comparison: Comparison | None = None
    encoded: EncodedPair | None = None


def _text_of(side: Any) -> str:
    if isinstance(side, str):
        return side
    return "\n".join(str(message.get("content") or "") for message in side)


def _key(side: Any) -> str:
    return side if isinstance(side, str) else repr(side)


def _looked_at(
    row: Row, shape: str, tokenizer: PreTrainedTokenizerBase, tokens: TokensAs, max_length: int | None
) -> Judged:
    """Return the verdict on one row that needs no other row."""
    if row.value is None:
        return Judged(row.place, "bad_json", row.wrong)
    if not SHAPES[shape].fits(row.value):
        columns = ", ".join(map(str, row.value)) or "none"
        return Judged(row.place, "bad_type", f"not of the shape {shape}; its columns: {columns}")
    try:
        read = SHAPES[shape].read(row.value)
    except Misfit as error:
        return Judged(row.place, error.verdict, str(error))
    texts = [_text_of(side) for side in (read.prompt, read.chosen, read.rejected)]
    comparison = Comparison(read.prompt, read.chosen, read.rejected, read.tools, f"row {row.place}")
    for name, text in zip(("chosen", "rejected"), texts[1:], strict=True):
        if not text.strip():
            return Judged(row.place, "empty", f"the {name} response is empty", comparison)
    if read.chosen == read.rejected:
        return Judged(row.place, "identical", "chosen and rejected are the same text", comparison)
    try:
        encoded = encode(comparison, tokenizer, tokens=tokens, max_length=max_length)
    except ValueError as error:
        said = str(error)
        kind = "too_long" if "leaves no room" in said else "empty" if "no tokens" in said else "bad_type"
        return Judged(row.place, kind, said, comparison)
    except Exception as error:  # a chat template is a program of somebody else's
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Judged(row.place, "bad_type", f"the chat template refuses it: {said}", comparison)
    if not encoded.prompt:
        return Judged(row.place, "empty", "nothing stands before the responses", comparison)
    if not encoded.chosen or not encoded.rejected:
        said = f"the prompt has {len(encoded.prompt)} tokens or more, and the length is {max_length}"
        return Judged(row.place, "too_long", said, comparison)
    if encoded.chosen == encoded.rejected:
        said = f"{encoded.cut} tokens were cut" if encoded.cut else "the same tokens"
        kind = "identical_after_truncation" if encoded.cut else "identical"
        return Judged(row.place, kind, said, comparison)
    special = sorted({token for text in texts for token in special_tokens_in(text, tokenizer)})
    if special:
        return Judged(row.place, "special_token", f"contains {', '.join(special)}", comparison, encoded)
    said = f"{encoded.cut} tokens were cut" if encoded.cut else ""
    return Judged(row.place, "ok", said, comparison, encoded)


@checked(max_length=whole(1))
def judge(
    rows: Iterable[Row],
    shape: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: TokensAs = "trl",
    max_length: int | None = TRL_LENGTH,
) -> list[Judged]:
    """Return a verdict on each row, in order, as many as there are rows.

    Args:
        rows: of a file (``read_rows``).
        shape: of the file (``recognize``).
        tokenizer: the model's.
        tokens: as in ``encode``.
        max_length: as in ``encode``.

    Returns:
        The verdicts. Of two rows that contradict each other both are in conflict; of two equal ones the
        second is the duplicate. A trainer steps on all of them.

    Raises:
        ValueError: an unknown shape.
    """
    SHAPES[shape]
    found: list[Judged] = []
    first: dict[tuple[str, str, str], int] = {}  # (prompt, chosen, rejected) → where it stands in ``found``
    for row in rows:
        one = _looked_at(row_of(row), shape, tokenizer, tokens, max_length)
        found.append(one)
        if one.comparison is None or one.encoded is None:
            continue
        prompt, chosen, rejected = (
            _key(side) for side in (one.comparison.prompt, one.comparison.chosen, one.comparison.rejected)
        )
        here = len(found) - 1
        if (other := first.get((prompt, rejected, chosen))) is not None:
            for this, that in ((here, other), (other, here)):
                said = f"row {found[that].place} prefers the other response"
                found[this] = replace(found[this], verdict="conflict", said=said)
        elif (other := first.get((prompt, chosen, rejected))) is not None:
            said = f"the same as row {found[other].place}"
            found[here] = replace(one, verdict="duplicate", said=said)
        first.setdefault((prompt, chosen, rejected), here)
    return found
