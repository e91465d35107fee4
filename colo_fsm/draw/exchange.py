"""An exchange between two sides, step by step, as a sequence diagram: a counterexample, a trace.

Text and Mermaid need no library; an SVG or a PNG is laid out by `exchange_dot` and drawn by Graphviz.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args

import attrs

from colo_fsm.fsm import Side

from . import exchange_dot
from .moment import MARKS, NAMES, Moment, Tone, balanced, marks, wrapped
from .renderer import render

__all__ = ["Exchange", "Format", "Moment", "Tone"]

Format = Literal["svg", "png", "mermaid", "text"]

_TEXT_WIDTH, _NOTE_WIDTH, _NAME_WIDTH = 60, 34, 24
_RECT = {Tone.FAULT: "rgba(181, 71, 60, 0.15)", Tone.WRONG: "rgba(181, 71, 60, 0.5)"}
"""Translucent: on GitHub's dark page the letters on it are light."""


@attrs.frozen
class Exchange:
    """The moments of an exchange, in the order in which they happen, numbered from 1."""

    title: str
    moments: tuple[Moment, ...]
    names: tuple[str, str] = NAMES
    """What the two are called, that on the left, Side.PRIMARY in a moment, first."""

    @property
    def text(self) -> str:
        """A numbered list with aligned columns: mark, number, who, what, and the messages sent."""
        return "\n".join(line.rstrip() for line in _text(self)) + "\n"

    @property
    def mermaid(self) -> str:
        """A `sequenceDiagram`."""
        return "\n".join(_mermaid(self)) + "\n"

    @property
    def dot(self) -> str:
        """The diagram as DOT with all places fixed. Raises DrawError without the `graphviz` package."""
        return exchange_dot.drawn(self.title, self.moments, self.names)

    def to(self, format: Format) -> bytes:
        """The exchange in this format, text as UTF-8. Raises what `render()` does."""
        if format not in get_args(Format):
            raise ValueError(f"cannot draw '{format}': choose one of {', '.join(get_args(Format))}")
        match format:
            case "text":
                return self.text.encode()
            case "mermaid":
                return self.mermaid.encode()
            case _:
                return render(self.dot, format)


def _text(exchange: Exchange) -> Iterator[str]:
    yield from wrapped(exchange.title, _TEXT_WIDTH + 20)
    yield ""
    texts = [wrapped(m.text, _TEXT_WIDTH) for m in exchange.moments]
    number_width = len(str(len(texts)))
    called = dict(zip(Side, map(str.lower, exchange.names), strict=True))
    who = [called[m.actor] if m.actor else "world" for m in exchange.moments]
    who_width = max(map(len, who), default=0)
    text_width = max((len(line) for lines in texts for line in lines), default=0)
    for number, (moment, (first, *more)) in enumerate(zip(exchange.moments, texts, strict=True), 1):
        head = f"{MARKS[moment.tone]} {number:>{number_width}}  {who[number - 1]:<{who_width}}  "
        sent = ", ".join(" ".join(wrapped(name, _TEXT_WIDTH)) for name in moment.sends)
        yield f"{head}{first:<{text_width}}" + (f"  → {sent}" if sent else "")
        for line in more:
            yield " " * len(head) + line
    if legend := marks(exchange.moments):
        yield from ("", "   ".join(legend))


def _mermaid(exchange: Exchange) -> Iterator[str]:
    yield "sequenceDiagram"
    if title := " ".join(wrapped(exchange.title, _TEXT_WIDTH)):
        yield f"    title {_entities(title)}"
    for side, name in zip(Side, exchange.names, strict=True):
        yield f"    participant {side} as {_entities(name)}"
    for number, moment in enumerate(exchange.moments, 1):
        if moment.tone in _RECT:
            yield f"    rect {_RECT[moment.tone]}"
        yield f"    Note {_where(moment.actor)}: {_note(number, moment)}"
        if moment.actor is not None:
            for name in moment.sends:
                label = "<br/>".join(map(_entities, wrapped(name, _NAME_WIDTH, hyphens=True)))
                yield f"    {moment.actor}->>{moment.actor.peer}: {label}"
        if moment.tone in _RECT:
            yield "    end"


def _where(actor: Side | None) -> str:
    if actor is None:
        return f"over {Side.PRIMARY},{Side.SECONDARY}"
    return f"{'left' if actor is Side.PRIMARY else 'right'} of {actor}"


def _note(number: int, moment: Moment) -> str:
    text = f"{MARKS[moment.tone]} {number}. {moment.text}".strip()
    width = _NOTE_WIDTH * (2 if moment.actor is None else 1)
    return "<br/>".join(map(_entities, balanced(text, width)))


def _entities(text: str) -> str:
    """Mermaid's numbers for what would end a statement or be a comment, markup, a formula, a directive.

    A colon right before one of these numbers may be taken for a style, and its last semicolon be cut off.
    """
    return re.sub(r"[#;%<>&$]|:(?=\S)", lambda found: f"#{ord(found[0])};", text)
