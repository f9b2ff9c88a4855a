"""Text on its way out: without what terminals and JSON cannot take, and of bounded length.

`visible` is for what a reader must judge, such as a diff: nothing is dropped. `clean`
is for all other text.
"""

from __future__ import annotations

import re

from codex_counsel.system.json_values import Json

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters but tab, line feed and carriage return; and lone surrogates, which UTF-8 cannot encode."""

_CSI = re.compile("\x1b\\[[0-9;?]{0,32}[ -/]{0,4}[@-~]")
"""Terminal sequences that set a style or move the cursor."""

_FIRST_SURROGATE = "\ud800"
_REPLACEMENT = "\ufffd"
_ESCAPE = "\x1b"


def clean(text: str) -> str:
    """Drop control characters and sequences that style or move; replace lone surrogates by U+FFFD.

    Tabs and line ends stay. Of any other terminal sequence only its control characters
    are dropped: its text may be more than the title of a window.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNWANTED.sub(_dropped, _CSI.sub("", text))


def _dropped(match: re.Match[str]) -> str:
    if match[0] >= _FIRST_SURROGATE:
        return _REPLACEMENT
    return ""


def visible(text: str) -> str:
    r"""Write control characters out (`␛` for ESC, else `\xNN`), so that nothing can hide between them."""
    return _UNWANTED.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    if match[0] >= _FIRST_SURROGATE:
        return _REPLACEMENT
    if match[0] == _ESCAPE:
        return "␛"
    return f"\\x{ord(match[0]):02x}"


def clean_tree(value: Json) -> Json:
    """`clean` for every string of a JSON-like value, keys too. Tuples become lists."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_tree(item) for item in value]
    return value


def decode(data: bytes) -> str:
    """A child's output as clean text. Bytes that are not UTF-8 become U+FFFD."""
    return clean(data.decode("utf-8", "replace"))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line of at most `limit` characters; a cut is marked by an ellipsis."""
    flat = " ".join(text.split())
    if len(flat) <= limit:
        return flat
    return flat[: limit - 1] + "…"


def size(text: str) -> int:
    """UTF-8 bytes; a lone surrogate counts as one byte, as `?` replaces it."""
    return len(text.encode("utf-8", "replace"))


def cut(text: str, limit: int) -> str:
    """The longest prefix of at most `limit` UTF-8 bytes, cut between code points."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    return data[: max(limit, 0)].decode("utf-8", "ignore")
