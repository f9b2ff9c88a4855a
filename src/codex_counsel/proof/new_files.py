"""Whether what a prover left is a test and nothing more: new files that replace no part of what is tested. Pure."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

from codex_counsel.delegate.sensitive import fold, is_build_file, is_sensitive
from codex_counsel.git.names import display_name

MAX_PATCH = 20_000
"""Bytes of the patch that adds the test."""
MAX_FILES = 10
REGULAR = ("100644", "100755")
"""Git's modes of regular files."""
_PYTHON = re.compile(r"(?:test_\w+|\w+_test)\.py")
_OTHER = re.compile(r".*(?:test|spec|proof).*")
_LOADED = (".pth", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".egg-link", ".pyi")
"""Suffixes of files that are loaded instead of what their name says, or for it."""


class NewFile(NamedTuple):
    """A file of the diff: git's status letter and mode; `is_text` unless git takes it for binary."""

    name: bytes
    status: str
    mode: str
    is_text: bool


def objection(
    files: Sequence[NewFile], patch_bytes: int, present: Collection[bytes]
) -> str:
    """Why these files are no test that may be run, in plain words; empty where they are. `present` are all others."""
    if not files:
        return "no test was written"
    if len(files) > MAX_FILES or patch_bytes > MAX_PATCH:
        return (
            f"the test is too large: more than {MAX_FILES} files or {MAX_PATCH} bytes"
        )
    for file in files:
        if file.status != "A":
            return f"the test changes what it is to test: {display_name(file.name)}"
    stems = {_stem(name) for name in present}
    for file in files:
        reason = _objection_to(file, stems)
        if reason:
            return f"{display_name(file.name)} {reason}"
    return ""


def _objection_to(file: NewFile, stems: Collection[str]) -> str:
    name = fold(file.name)
    base_name = name.rpartition("/")[2]
    if file.mode not in REGULAR or not file.is_text:
        return "is no text file"
    if is_sensitive(file.name) or is_build_file(file.name) or name.endswith(_LOADED):
        return "is not part of a test: other programs read or load it"
    is_named_as_test = _OTHER.fullmatch(base_name)
    if base_name.endswith(".py"):
        is_named_as_test = _PYTHON.fullmatch(base_name)
    if not is_named_as_test:
        return "does not have the name of a test, and could stand in for something else"
    stem = _stem(file.name)
    if stem in stems or stem in sys.stdlib_module_names:
        return "has the name of another file, and could stand in for it"
    return ""


def _stem(name: bytes) -> str:
    """The last part of a path without its suffix, as it is compared."""
    base_name = fold(name).rpartition("/")[2]
    return base_name.rpartition(".")[0] or base_name
