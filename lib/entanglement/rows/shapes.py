"""The shapes that comparisons come in, and what each is read as: a prompt and two responses.

A shape is one declaration. What it reads is what a trainer takes: three texts, or three lists of messages
``{"role": …, "content": …}``. Where the prompt stands inside both responses it is what they begin with alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from entanglement.checks import Check
from entanglement.registry import Registry
from entanglement.rows.from_files import Row, row_of
from entanglement.signatures import checked

__all__ = ["SHAPES", "Comparison", "Misfit", "Shape", "recognize", "shared_start"]

Messages = list[dict[str, Any]]
Wrong = Literal["bad_type", "several_rejected", "prompt_differs"]
#: Rows that are looked at before a shape is decided on.
LOOKED_AT = 200


class Misfit(ValueError):  # noqa: N818 - what the row is
    """A row that cannot be read in a shape; ``verdict`` says why."""

    def __init__(self, text: str, verdict: Wrong = "bad_type") -> None:
        super().__init__(text)
        self.verdict = verdict


@checked()
@dataclass(frozen=True)
class Comparison:
    """A prompt and two responses: all three texts, or all three lists of messages.

    Attributes:
        prompt, chosen, rejected: of one kind.
        tools: that a chat template is told of, as given.
        name: of the row.
    """

    prompt: str | Messages
    chosen: str | Messages
    rejected: str | Messages
    tools: Any = None
    name: str = ""

    @property
    def is_chat(self) -> bool:
        """Whether it is made of messages."""
        return not isinstance(self.prompt, str)


@checked()
@dataclass(frozen=True)
class Shape:
    """A shape of rows.

    Attributes:
        fits: whether a row has this shape, by its columns.
        read: a row that fits → its comparison.
        about: one line for print.
    """

    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Comparison]
    about: str


SHAPES: Registry[Shape] = Registry("shape", printed=("about",))


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Misfit(f"{column} is missing")
    if isinstance(value, list) and column == "rejected" and all(isinstance(part, str) for part in value):
        raise Misfit(f"{column} holds {len(value)} responses", "several_rejected")
    raise Misfit(f"{column} is a {type(value).__name__}; expected a text")


def _messages(row: Mapping[str, Any], column: str, empty: bool = False) -> Messages:
    value = row.get(column)
    if not isinstance(value, Sequence) or isinstance(value, str) or not (len(value) or empty):
        raise Misfit(f"{column} is no list of messages")
    found = []
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise Misfit(f"{column} holds something that is no message with a role")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise Misfit(f"{column} holds a message without text")
        # datasets puts every key that some message has into all of them
        found.append({key: part for key, part in message.items() if part is not None})
    return found


def _chat(row: Mapping[str, Any], *columns: str) -> bool:
    return all(isinstance(row.get(c), Sequence) and not isinstance(row.get(c), str) for c in columns)


def _of_messages(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], Mapping)


def _has(row: Mapping[str, Any], *columns: str) -> bool:
    return all(column in row for column in columns)


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


_IN_ORDER = Check("a text, a list or a tuple", lambda v: isinstance(v, (str, list, tuple)))


@checked(one=_IN_ORDER, other=_IN_ORDER)
def shared_start(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many things two sequences begin with alike: characters, tokens or messages."""
    return sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(one, other, strict=False)))


def _answers(row: Mapping[str, Any]) -> tuple[Messages, Messages]:
    """Return the texts of chosen and rejected as messages."""
    chosen, rejected = ([_said("assistant", _text(row, side))] for side in ("chosen", "rejected"))
    return chosen, rejected


def _apart(chosen: Messages, rejected: Messages) -> Comparison:
    """Return what two conversations begin with alike, and their last messages."""
    same = shared_start(chosen, rejected)
    same = min(same, len(chosen) - 1, len(rejected) - 1)  # identical conversations have responses, too
    if len(chosen) - same > 1 or len(rejected) - same > 1:
        raise Misfit("the two conversations part before their last message", "prompt_differs")
    if same == 0:
        raise Misfit("the two conversations have no prompt in common", "prompt_differs")
    return Comparison(chosen[:same], chosen[same:], rejected[same:])


# Declared from the most particular to the most general: the first that fits is the shape of a row.


def _ultrafeedback(row: Mapping[str, Any]) -> Comparison:
    return _apart(_messages(row, "chosen"), _messages(row, "rejected"))


SHAPES.add(
    "ultrafeedback",
    Shape(
        lambda row: isinstance(row.get("prompt"), str) and _of_messages(row.get("chosen")),
        _ultrafeedback,
        about="prompt as a text, chosen and rejected as whole conversations",
    ),
)


def _conversational(row: Mapping[str, Any]) -> Comparison:
    tools = row.get("tools")
    return Comparison(_messages(row, "prompt"), _messages(row, "chosen"), _messages(row, "rejected"), tools)


SHAPES.add(
    "conversational",
    Shape(
        lambda row: _chat(row, "prompt", "chosen") and _of_messages(row.get("prompt")),
        _conversational,
        about="prompt, chosen and rejected as lists of messages, also with tools",
    ),
)


def _conversations(row: Mapping[str, Any]) -> Comparison:
    found = _apart(_messages(row, "chosen"), _messages(row, "rejected"))
    return Comparison(found.prompt, found.chosen, found.rejected, row.get("tools"))


SHAPES.add(
    "conversations",
    Shape(
        lambda row: "prompt" not in row and _of_messages(row.get("chosen")) and "rejected" in row,
        _conversations,
        about="chosen and rejected as whole conversations that begin alike",
    ),
)


def _llamafactory(row: Mapping[str, Any]) -> Comparison:
    if isinstance(row.get("output"), list):
        answers = row["output"]
        if len(answers) > 2:
            raise Misfit(f"output holds {len(answers)} responses; expected two", "several_rejected")
        if len(answers) < 2:
            raise Misfit(f"output holds {len(answers)} response; expected two")
        row = {**row, "chosen": answers[0], "rejected": answers[1]}
    messages = [_said("system", _text(row, "system"))] if row.get("system") else []
    for turn in row.get("history") or []:
        if not (isinstance(turn, Sequence) and len(turn) == 2 and all(isinstance(t, str) for t in turn)):
            raise Misfit("history holds something that is no question with its answer")
        messages += [_said("user", turn[0]), _said("assistant", turn[1])]
    asked = [_text(row, "instruction"), _text(row, "input") if row.get("input") else ""]
    messages.append(_said("user", "\n".join(part for part in asked if part)))
    return Comparison(messages, *_answers(row))


SHAPES.add(
    "llamafactory",
    Shape(
        lambda row: (
            "instruction" in row and (isinstance(row.get("output"), list) or _has(row, "chosen", "rejected"))
        ),
        _llamafactory,
        about="LlamaFactory: instruction, input, history, and output with the better response first",
    ),
)


def _swift(row: Mapping[str, Any]) -> Comparison:
    messages = _messages(row, "messages")
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise Misfit("messages do not end with a response")
    if isinstance(row.get("rejected_response"), list):
        raise Misfit(f"rejected_response holds {len(row['rejected_response'])} responses", "several_rejected")
    rejected = _said("assistant", _text(row, "rejected_response"))
    return Comparison(messages[:-1], messages[-1:], [rejected], row.get("tools"))


SHAPES.add(
    "ms-swift",
    Shape(
        lambda row: _has(row, "messages", "rejected_response"),
        _swift,
        about="ms-swift: messages that end with the better response, and rejected_response",
    ),
)


def _tldr(row: Mapping[str, Any]) -> Comparison:
    info, summaries, choice = row["info"], row["summaries"], row["choice"]
    if not isinstance(info, Mapping) or not isinstance(summaries, Sequence):
        raise Misfit("info or summaries is of another type")
    if len(summaries) != 2 or not all(isinstance(one, Mapping) for one in summaries):
        raise Misfit(f"summaries holds {len(summaries)} summaries; expected two")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise Misfit(f"choice is {choice!r}; expected 0 or 1")
    parts = []
    if info.get("subreddit"):
        parts.append(f"SUBREDDIT: r/{_text(info, 'subreddit')}")
    if info.get("title"):
        parts.append(f"TITLE: {_text(info, 'title')}")
    parts += [f"POST: {_text(info, 'post')}", "TL;DR:"]
    texts = [_text(one, "text").strip() for one in summaries]
    return Comparison("\n\n".join(parts), f" {texts[choice]}", f" {texts[1 - choice]}")


SHAPES.add(
    "tldr",
    Shape(
        lambda row: _has(row, "info", "summaries", "choice"),
        _tldr,
        about="TL;DR comparisons: info, two summaries and the choice between them",
    ),
)


def _orca(row: Mapping[str, Any]) -> Comparison:
    messages = [_said("system", _text(row, "system"))] if row.get("system") else []
    messages.append(_said("user", _text(row, "question" if "question" in row else "input")))
    return Comparison(messages, *_answers(row))


SHAPES.add(
    "orca",
    Shape(
        lambda row: (
            "prompt" not in row
            and _has(row, "chosen", "rejected")
            and ("question" in row or ("input" in row and "system" in row))
        ),
        _orca,
        about="system, question (or input), chosen and rejected",
    ),
)


def _explicit(row: Mapping[str, Any]) -> Comparison:
    return Comparison(_text(row, "prompt"), _text(row, "chosen"), _text(row, "rejected"))


SHAPES.add(
    "explicit",
    Shape(
        lambda row: _has(row, "prompt", "chosen", "rejected"),
        _explicit,
        about="prompt, chosen and rejected as texts",
    ),
)

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def _transcripts(row: Mapping[str, Any]) -> Comparison:
    sides = []
    for side in ("chosen", "rejected"):
        before, mark, answer = _text(row, side).rpartition(_ASSISTANT)
        if not mark:
            raise Misfit(f"{side} is a transcript without a response")
        sides.append((before + mark, answer))
    (prompt, chosen), (other, rejected) = sides
    if prompt != other:
        raise Misfit("the two transcripts part before their last response", "prompt_differs")
    return Comparison(prompt, chosen, rejected)


SHAPES.add(
    "transcripts",
    Shape(
        lambda row: (
            "prompt" not in row
            and all(isinstance(row.get(c), str) and _HUMAN in row[c] for c in ("chosen", "rejected"))
        ),
        _transcripts,
        about='HH-RLHF: whole transcripts with "Human:" and "Assistant:" in chosen and rejected',
    ),
)


def _implicit(row: Mapping[str, Any]) -> Comparison:
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    same = shared_start(chosen, rejected)
    same = min(same, len(chosen) - 1, len(rejected) - 1)  # equal texts have responses, too
    if same < 1:
        raise Misfit("the two texts have no prompt in common", "prompt_differs")
    if chosen[same - 1] == " ":  # the space belongs to the responses
        same -= 1
    return Comparison(chosen[:same], chosen[same:], rejected[same:])


SHAPES.add(
    "implicit",
    Shape(
        lambda row: "prompt" not in row and _has(row, "chosen", "rejected"),
        _implicit,
        about="chosen and rejected as texts that begin with the same prompt",
    ),
)


@checked()
def recognize(rows: Iterable[Row]) -> str:
    """Return the name of the shape that most of the first rows have.

    Args:
        rows: of a file; the first few hundred are looked at.

    Raises:
        ValueError: no row has a known shape; the message names the columns that were found.
    """
    found: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    for number, row in enumerate(rows):
        if number == LOOKED_AT:
            break
        value = row_of(row).value
        if value is None:
            continue
        columns[", ".join(map(str, value))] += 1
        name = next((name for name, shape in SHAPES.items() if shape.fits(value)), None)
        if name is not None:
            found[name] += 1
    if not found:
        seen = f"the columns are {columns.most_common(1)[0][0]}" if columns else "there is no row to read"
        known = "; ".join(f"{name} ({shape.about})" for name, shape in SHAPES.items())
        raise ValueError(f"rows of no known shape: {seen}. Known are {known}.")
    return found.most_common(1)[0][0]
