"""The one door for text on its way out: scrubbed of what terminals and JSON choke on, and bounded.

What a reader is to judge goes through `visible`, which drops nothing; what is merely shown goes through `clean`.
"""

from __future__ import annotations

import re
from typing import Any

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_CSI = re.compile("\x1b\\[[0-9;?]{0,32}[ -/]{0,4}[@-~]")


def clean(text: str) -> str:
    """Drop control characters and sequences that style or move, replace lone surrogates; tabs and line ends stay.

    Of any other terminal sequence only its control characters go: what it carries may be more than a title.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNWANTED.sub(lambda m: "\ufffd" if m[0] >= "\ud800" else "", _CSI.sub("", text))


def visible(text: str) -> str:
    r"""Control characters written out (`␛` for ESC, else `\xNN`), so that nothing can hide between them."""
    return _UNWANTED.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    return "\ufffd" if found[0] >= "\ud800" else "␛" if found[0] == "\x1b" else f"\\x{ord(found[0]):02x}"


def clean_tree(value: Any) -> Any:
    """`clean` for every string, keys too, of a JSON-like value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_tree(item) for item in value]
    return value


def decode(data: bytes) -> str:
    """Bytes of a child as text that can be sent on, whatever they were."""
    return clean(data.decode("utf-8", "replace"))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line of at most `limit` characters, the cut marked."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def size(text: str) -> int:
    """UTF-8 bytes; lone surrogates count as their replacement."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, limit: int) -> str:
    """The longest prefix of at most `limit` UTF-8 bytes, cut between code points."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[: max(limit, 0)].decode("utf-8", "ignore")
