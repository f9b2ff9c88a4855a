"""File contents as text that can be read and sent: UTF-8, UTF-16 with a byte order mark, anything else line by line.

A line that is not UTF-8 is decoded as Latin-1, which never fails, so evidence quoted
from it can be found again. Characters that hide or reorder text are written out, as in
`<U+202E>`: see `system/text.py`.
"""

from __future__ import annotations

import codecs
import os

from codex_counsel.system.text import visible

SNIFFED = 8000
"""Bytes that decide whether a file is binary. Git's own rule: a NUL among the first 8,000 bytes."""
_PLAIN = b"\t\n\r" + bytes(range(0x20, 0x7F))
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
PROGRAMS = frozenset(
    """
    .asm .awk .bash .bat .c .cc .cjs .clj .cmd .coffee .cpp .cs .cxx .dart .erl .ex .exs .fish .fs .go .gradle .groovy
    .h .hh .hpp .hrl .hs .htm .html .hxx .ino .ipynb .java .jl .js .jsp .jsx .kt .kts .less .lisp .lua .m .mjs .mk .ml
    .mm .nim .nix .pas .php .pl .pm .ps1 .psd1 .psm1 .py .pyi .pyx .r .rb .rs .s .scala .scss .sh .sol .sql .svelte
    .swift .tcl .tf .ts .tsx .vb .vbs .vue .zig .zsh
    cmakelists.txt containerfile dockerfile gemfile jenkinsfile makefile rakefile vagrantfile
    """.split()  # noqa: SIM905  # a list takes three times the room
)
TEXTS = frozenset(
    """
    .cfg .conf .css .csv .graphql .ini .json .json5 .jsonc .md .properties .proto .rst .svg .toml .txt .xml .xsl .yaml
    .yml
    """.split()  # noqa: SIM905  # as above
)
"""Other text that people write. A reviewer expects to have read the text of these and of programs."""


def is_binary(data: bytes) -> bool:
    """By git's rule, except that UTF-16 counts as text."""
    return b"\0" in data[:SNIFFED] and not is_utf16(data)


def utf8(data: bytes) -> bytes:
    """The same text in UTF-8, hidden characters written out; line ends stay as they are."""
    # Most files are plain ASCII, and this test takes a fraction of decoding and
    # searching them.
    has_lone_cr = data.count(b"\r") != data.count(b"\r\n")
    if not data.translate(None, _PLAIN) and not has_lone_cr:
        return data
    if is_utf16(data):
        even = len(data) & ~1
        text = data[:even].decode("utf-16", "replace")
        return visible(text).encode()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\n".join(map(_decode_line, data.split(b"\n")))
    return visible(text).encode()


def _decode_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def is_program(name: bytes) -> bool:
    """Whether the file's name is that of source code."""
    return not PROGRAMS.isdisjoint(_name_and_suffix(name))


def is_source(name: bytes) -> bool:
    """Whether the file's name is that of source code or of other text that people write."""
    kinds = _name_and_suffix(name)
    return not (PROGRAMS.isdisjoint(kinds) and TEXTS.isdisjoint(kinds))


def _name_and_suffix(name: bytes) -> tuple[str, str]:
    last = os.fsdecode(name).rpartition("/")[2].lower()
    suffix = last.rpartition(".")[2]
    return last, f".{suffix}"


def is_utf16(data: bytes) -> bool:
    """Whether the data begins with a UTF-16 byte order mark and decodes to text without NUL."""
    # UTF-32 in little-endian order begins with the same two bytes.
    if not data.startswith(UTF16) or data.startswith(codecs.BOM_UTF32_LE):
        return False
    even = min(len(data), SNIFFED) & ~1
    return "\0" not in data[:even].decode("utf-16", "replace")
