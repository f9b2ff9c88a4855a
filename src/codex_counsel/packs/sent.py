"""What is remembered here of a pack that was made: `<state>/sent/<pack id>.json`. So its result finds its workspace.

A note is removed 90 days after it was written. `<state>/sender/word` is that by which
receivers tell the foundations of this sender from those of others.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.contract.reading import read_file
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.retention import SENT
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    check_private,
    lock_file,
    make_private,
    read_regular,
    write_atomically,
)

SENDER = "sender"
LOCK_PATIENCE = 10.0
"""Seconds; whoever holds it writes a few bytes."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """`workspace` is the directory that the request was made for, resolved. `subject` is what a list shows of it.

    `key` is the caller's idempotency key, None where there is none. `arguments` is the
    digest by which `services/runs.py` compares calls of one key, None where nobody knows
    it: then any call with this key is the same. `reviewed` is the commit whose change is to
    be reviewed, empty where none is named (uncommitted work, a question), None where nobody
    knows it. `files_read` is when the files in the pack were read (epoch seconds), None where
    that was when the note was written.
    """

    tool: str
    workspace: str
    subject: str
    key: str | None = None
    arguments: str | None = None
    reviewed: str | None = None
    files_read: float | None = None


def note_sent(state: Path, pack_id: str, sent: Sent) -> None:
    """Remember a pack, before it is handed out. Raises `storage_failed`."""
    file = _file(state, pack_id)
    try:
        make_private(file.parent)
        write_atomically(file, json.dumps(asdict(sent)))
    except (OSError, UnsafeDirectoryError) as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"The state directory cannot remember which directory the pack is of: {error}",
        ) from None


def read_sent(state: Path, pack_id: str) -> Sent | None:
    """What was noted of the pack; None where it was made elsewhere, or nothing can be read."""
    try:
        check_private(state / SENT)
    except (OSError, UnsafeDirectoryError):
        return None
    return read_file(Sent, _file(state, pack_id))


def files_read_at(state: Path, pack_id: str, sent: Sent) -> float | None:
    """When the files in the pack were read (epoch seconds); None where nobody can tell."""
    if sent.files_read is not None:
        return sent.files_read
    try:
        return _file(state, pack_id).stat().st_mtime
    except OSError:
        return None


def sender_of(state: Path) -> str:
    """The word of this sender: 32 hexadecimal digits, made once. Raises `storage_failed`."""
    folder = state / SENDER
    file = folder / "word"
    try:
        make_private(folder)
        lock = lock_file(folder / "lock", patience=LOCK_PATIENCE)
        if lock is None:
            raise CounselError(
                Code.STORAGE_FAILED, f"Another process holds {folder / 'lock'}"
            )
        try:
            known = (read_regular(file, 64) or b"").decode("ascii", "replace")
            if re.fullmatch(JOB_ID, known):
                return known
            new = secrets.token_hex(16)
            write_atomically(file, new, durable=True)
            return new
        finally:
            os.close(lock)
    except (OSError, UnsafeDirectoryError) as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"The state directory cannot keep what packs of this machine are known by: {error}",
        ) from None


def _file(state: Path, pack_id: str) -> Path:
    if not re.fullmatch(JOB_ID, pack_id):
        raise CounselError(
            Code.PACK_INVALID, "That is no id of a pack: one has 32 hexadecimal digits"
        )
    return state / SENT / f"{pack_id}.json"
