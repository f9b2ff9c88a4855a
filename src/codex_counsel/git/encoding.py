"""Bytes of files as text that can be read and sent: UTF-8 as it is, UTF-16 by its mark, anything else line by line.

A line that is not UTF-8 is read as Latin-1, which never fails, so that evidence quoted from it can be found again.
Control characters are written out: what a terminal or a filter would make of them hides nothing from a reader.
"""

from __future__ import annotations

import codecs
import os

from codex_counsel.system.text import visible

SNIFFED = 8000
"""Git's own rule: a NUL in the first 8,000 bytes makes a file binary."""
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
"""What else people read and write; of programs and of these a reviewer expects to have read the text."""


def is_binary(data: bytes) -> bool:
    return b"\0" in data[:SNIFFED] and not is_utf16(data)


def utf8(data: bytes) -> bytes:
    """The same text in UTF-8, control characters written out; line ends stay as they are."""
    if is_utf16(data):
        return visible(data[: len(data) & ~1].decode("utf-16", "replace")).encode()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\n".join(_line(line) for line in data.split(b"\n"))
    return visible(text).encode()


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def is_program(name: bytes) -> bool:
    return bool(_kinds(name) & PROGRAMS)


def is_source(name: bytes) -> bool:
    return bool(_kinds(name) & (PROGRAMS | TEXTS))


def _kinds(name: bytes) -> set[str]:
    last = os.fsdecode(name).rpartition("/")[2].lower()
    return {last, f".{last.rpartition('.')[2]}"}


def is_utf16(data: bytes) -> bool:
    if not data.startswith(UTF16) or data.startswith(codecs.BOM_UTF32_LE):
        return False
    text = data[: min(len(data), SNIFFED) & ~1].decode("utf-16", "replace")
    return "\0" not in text
