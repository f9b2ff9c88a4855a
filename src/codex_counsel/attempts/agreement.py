"""Where two attempts agree: files that they left with the very same change. The baseline of all is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.contract.envelope import Agreement
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.git.names import diff_header, display_name
from codex_counsel.system.files import open_regular

MAX_PATCH = 100_000_000
"""Bytes of a patch that is compared; a longer one agrees with none."""
MAX_FILES = 50
"""Files that an agreement lists."""
HEADER = b"diff --git "

Changes = dict[bytes, str]
"""The digest of each file's change, by the first line of it."""


def changes_of(patch: Path) -> Changes | None:
    """The changes of a patch that git wrote; None where it cannot be read or is too long to be compared."""
    try:
        if patch.stat().st_size > MAX_PATCH:
            return None
        return _read(patch)
    except OSError:
        return None


def _read(patch: Path) -> Changes:
    changes: Changes = {}
    header = b""
    digest = hashlib.sha256()
    with open_regular(patch) as file:
        for line in file:
            # Every line of a hunk has a mark before it, so no content looks like this.
            begins = line.startswith(HEADER)
            # A file that became a link has two parts with one header.
            if begins and line.rstrip(b"\n") != header:
                header = line.rstrip(b"\n")
                digest = hashlib.sha256()
            digest.update(line)
            changes[header] = digest.hexdigest()
    return changes


def names_of(result: DelegateResult) -> dict[bytes, str]:
    """The displayed name of each file of a patch, by the first line of its change."""
    names = {}
    for name, old_name, _ in result.names:
        new = _bytes(name)
        old = _bytes(old_name) or new
        names[diff_header(old, new)] = display_name(new)
    return names


def _bytes(name: str | None) -> bytes:
    return (name or "").encode("latin-1")


def agreements(
    own: Changes, names: Mapping[bytes, str], others: Mapping[int, Changes]
) -> list[Agreement]:
    """With which other attempts (by their numbers) it agrees, and about which files. `names` are its own."""
    found = []
    for number, changes in others.items():
        same = [header for header in own if changes.get(header) == own[header]]
        if not same:
            continue
        files = [names[header] for header in same if header in names]
        is_all = own == changes
        found.append(Agreement(attempt=number, files=files[:MAX_FILES], all=is_all))
    return found
