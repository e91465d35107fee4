"""What comes from outside, fit for a terminal: the one way in which the command shows it.

A machine's name in a stream, a peer's error, a claim's holder, a path: whoever wrote it may have put
escape sequences, line ends or marks of writing direction into it, and rich takes `[bold]` for markup.
JSON needs none of this: `json.dumps` writes ASCII.
"""

from __future__ import annotations

import logging

import click
from rich.markup import escape
from rich.text import Text


def shown(text: object) -> str:
    """One line of what can be printed; all else in Python's notation, such as `\\x1b`."""
    plain = str(text)
    return plain if plain.isprintable() else "".join(map(_shown, plain))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def lines(text: object) -> str:
    """The same for a text of ours that has several lines."""
    return "\n".join(map(shown, str(text).split("\n")))


def as_text(text: object) -> Text:
    """The same for rich, in which it has no markup."""
    return Text(shown(text))


def as_markup(text: object) -> str:
    """The same as a part of what is markup for rich."""
    return escape(shown(text))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return lines(super().format(record))


def log_to_stderr(level: int) -> None:
    """Records of this level and above, in plain text; a traceback keeps its lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def plain(error: click.ClickException) -> click.ClickException:
    """This error, with a message that can be shown: whatever it was made from."""
    error.message = lines(error.message)  # type: ignore[misc]  # another error would lose the context
    return error
