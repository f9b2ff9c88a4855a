"""HTML that is made of elements: every text is escaped here and nowhere else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from codex_counsel.system.text import visible

_VOID = ("meta", "input", "br", "wbr")
_RUNNER = re.compile(r":(?=:)|#(?=#)|(?<=section)_(?=(?:start|end):)")
"""Where commands for the runner of a workflow would begin, which reads the lines of a page that is printed."""


class Markup(str):
    """HTML. Any other string is text, and is escaped where it becomes a part of this."""

    __slots__ = ()


Content = str | Markup | None
"""A child of an element; None is nothing."""


def escaped(text: str) -> Markup:
    """The text for any place in HTML, between tags or in a quoted attribute, with its hidden characters written out."""
    safe = html.escape(visible(text), quote=True)
    return Markup(_RUNNER.sub(_character_reference, safe))


def _character_reference(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


def joined(parts: Iterable[Content], separator: str = "") -> Markup:
    """The parts one after the other."""
    pieces = []
    for part in parts:
        if isinstance(part, Markup):
            pieces.append(part)
        elif part is not None:
            pieces.append(escaped(part))
    return Markup(separator.join(pieces))


def element(name: str, /, *children: Content, **attributes: str | int | bool) -> Markup:
    """`<name ...>children</name>`.

    An attribute that is False is left out, one that is True has no value; `class_` is
    `class`, and any other `_` is a hyphen.
    """
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(attribute)
        elif value is not False:
            words.append(f'{attribute}="{escaped(str(value))}"')
    start = f"<{' '.join(words)}>"
    if name in _VOID:
        return Markup(start)
    return Markup(f"{start}{joined(children)}</{name}>")
