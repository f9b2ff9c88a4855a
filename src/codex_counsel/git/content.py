"""Bytes of files as text that can be read and sent: UTF-8 as it is, UTF-16 by its mark, anything else line by line.

A line that is not UTF-8 is read as Latin-1, which never fails, so that evidence quoted from it can be found again.
"""

from __future__ import annotations

import codecs

SNIFFED = 8000
"""Git's own rule: a NUL in the first 8,000 bytes makes a file binary."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_binary(data: bytes) -> bool:
    return b"\0" in data[:SNIFFED] and not _is_utf16(data)


def utf8(data: bytes) -> bytes:
    """The same text in UTF-8; line ends stay as they are."""
    if _is_utf16(data):
        return data[: len(data) & ~1].decode("utf-16", "replace").encode()
    try:
        data.decode()
    except UnicodeDecodeError:
        return b"\n".join(_line(line) for line in data.split(b"\n"))
    return data


def _line(line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1").encode()
    return line


def _is_utf16(data: bytes) -> bool:
    if not data.startswith(UTF16) or data.startswith(codecs.BOM_UTF32_LE):
        return False
    text = data[: min(len(data), SNIFFED) & ~1].decode("utf-16", "replace")
    return "\0" not in text
