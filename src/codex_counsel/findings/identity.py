"""Which finding is which: an id that stays the same when code moves or a finding is worded anew."""

from __future__ import annotations

import hashlib

from codex_counsel.system.redact import mask
from codex_counsel.system.text import visible

ID_DIGITS = 16
MAX_WORDS = 4_000
"""Characters of the words that are kept and compared; what comes after them counts for nothing."""


def kept(words: str) -> str:
    """The beginning of the words, which is on record: at most `MAX_WORDS` characters, in whole lines if it can be."""
    if len(words) <= MAX_WORDS:
        return words
    beginning = words[:MAX_WORDS]
    whole_lines, _, _ = beginning.rpartition("\n")
    return whole_lines or beginning


def recorded_path(path: str) -> str:
    """The name of a file as it is on record: nothing hidden, and known token shapes masked."""
    masked, _ = mask(visible(path))
    return masked


def normalized(text: str) -> str:
    """Text as it is compared: each line without indentation and with single blanks, empty lines left out."""
    rows = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join(row for row in rows if row)


def normalized_blocks(words: str) -> str:
    """`normalized` for each of several quotations with an empty line between them."""
    blocks = [normalized(block) for block in words.split("\n\n")]
    return "\n\n".join(block for block in blocks if block)


def finding_id(
    *,
    path: str | None,
    words: str,
    category: str,
    ordinal: int = 1,
) -> str:
    """The id of a finding: 16 hexadecimal digits.

    `path` is from the root of the repository, None for a finding without a place.
    `words` are what it rests on: the lines of the file that it quotes, or else a section
    or title; those that are `kept` count. `ordinal` tells apart findings that have all of
    this in common, and counts from 1.
    """
    parts = (path or "", category, normalized(kept(words)), str(ordinal))
    # A length before each part: no two lists of parts have one spelling.
    spelled = "".join(f"{len(part)}:{part}" for part in parts)
    digest = hashlib.sha256(spelled.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:ID_DIGITS]
