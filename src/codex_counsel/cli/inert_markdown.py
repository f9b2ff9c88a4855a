"""Text of a model as Markdown that says the same and does nothing, for a comment that is posted on a pull request.

What a site makes active stands in code spans, where no site looks for it: mentions,
references to issues and commits, addresses (so also of images and links). Backslashes
are no help there: sites look for mentions in what was rendered. Everything else that
has a meaning in Markdown or HTML is escaped. Code stays code, in fences and spans that
it cannot close.
"""

from __future__ import annotations

import re

from codex_counsel.system.text import one_line, visible

MAX_SPAN = 1_000
"""Characters of a code span."""

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_PIECES = re.compile(
    r"(?P<ticks>`+)(?P<code>[^`](?:.{0,500}?[^`])??)(?P=ticks)(?!`)|(?P<blank>\s+)|(?P<word>[^\s`]+|`+)"
)
_ACTIVE = re.compile(
    r"@\w|://|\bwww\.|\b(?:javascript|vbscript|data|mailto|xmpp|file):|[#!$%&~^]\d|\bGH-\d|\b[0-9a-f]{7,64}\b"
    r'|[~%]"?[a-z]|\[\w+:|(?-i:\b[A-Z][A-Z\d_]+-\d)',
    re.IGNORECASE,
)
"""What sites turn into links or notifications.

The first line ends with the abbreviated id of a commit. The second has GitLab's labels,
milestones and `[issue:1]`, and the tickets of other trackers, such as `SHOP-12`.
"""
_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"})
_BOT_COMMAND = re.compile(r"^(?=/[a-z])", re.MULTILINE | re.IGNORECASE)
_LINE_START = re.compile(r"(#{1,6}(?=\s|$)|[-+=/:]|\d{1,9}(?=[.)]))")


def prose(text: str) -> str:
    """Paragraphs, with fenced code as code. A line stays a line: it begins no heading, list, quotation or table."""
    blocks: list[str] = []
    code: list[str] = []
    fence = ""
    for line in visible(text).splitlines():
        match = _FENCE.match(line)
        if fence and match and match[1].startswith(fence) and not line.strip(" `~"):
            blocks.append(code_block("\n".join(code)))
            code, fence = [], ""
        elif fence:
            code.append(line)
        elif match:
            fence = match[1]
        else:
            blocks.append(_line(line))
    if fence:
        blocks.append(code_block("\n".join(code)))
    return "\n".join(blocks)


def inline(text: str, limit: int = MAX_SPAN) -> str:
    """The text on one line, for a heading or an item of a list."""
    return _line(one_line(visible(text), limit))


def _line(text: str) -> str:
    safe = ""
    for match in _PIECES.finditer(text.strip()):
        piece = _piece(match)
        # Two spans side by side would be one with other ends.
        if piece.startswith("`") and safe.endswith("`"):
            safe += " "
        safe += piece
    start = _LINE_START.match(safe)
    if start is None:
        return safe
    if start[0].isdigit():
        return f"{start[0]}\\{safe[start.end() :]}"
    return f"\\{safe}"


def _piece(match: re.Match[str]) -> str:
    if match["code"]:
        return code_span(match["code"])
    if match["blank"]:
        return " "
    word = match["word"]
    if _ACTIVE.search(word):
        active = word.rstrip(".,:;!?") or word
        return code_span(active) + word[len(active) :]
    return _SPECIAL.sub(r"\\\g<0>", word).translate(_ENTITIES)


def code_span(text: str) -> str:
    """A code span on one line, with a longer delimiter than any backticks in it; nothing for nothing."""
    words = one_line(visible(text), MAX_SPAN)
    if not words:
        return ""
    ticks = "`"
    while ticks in words:
        ticks += "`"
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{words}{pad}{ticks}"


def code_block(code: str) -> str:
    """A fenced block with a longer fence than any backticks in it. A blank goes before a `/word` that begins a line."""
    text = visible(code).replace("\r\n", "\n")
    # Bots look for their commands in the raw text of a comment, in code too.
    text = _BOT_COMMAND.sub(" ", text)
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}"
