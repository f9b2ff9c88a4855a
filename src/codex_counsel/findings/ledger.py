"""The findings of a repository, for good: `<state>/findings/NAME-HASH/ledger.jsonl`.

A line is the whole present record of one finding, so the last line of an id counts, and
`{"id": ..., "forgotten": true}` ends it. Records of jobs are dropped some day; these are not.

Invariants: lines are appended under the lock beside the file, and a write that failed is
taken back. The part of a line that a killed writer leaves at the end counts for nothing, and
the next writer cuts it off. When most lines are outdated, the file is replaced in one step
by a snapshot: a line for each finding, after the lines that could not be read, which a later
release may understand. A reader takes no lock: it sees the old file or the new one, perhaps
with a part of the line that is being written. Any other line that cannot be read counts as
damaged, and harms no other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings.entry import Entry
from codex_counsel.findings.lines import append_lines, check_own, is_whole
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    lock_file,
    make_private,
    open_private,
    remove_drafts,
    write_atomically,
)
from codex_counsel.system.json_values import JsonObject

FOLDER = "findings"
FILE = "ledger.jsonl"
MAX_LEDGER = 64 * 1024 * 1024
"""Bytes of a ledger. One that would be larger is not written any more."""
MAX_ENTRIES = 5_000
"""Findings, above which a snapshot drops those that were fixed or stale for the longest time."""
MAX_DAMAGED = 1024 * 1024
"""Bytes of lines that cannot be read which a snapshot keeps, the last ones."""
LOCK_PATIENCE = 10.0
SPARE_LINES = 500
"""Outdated lines that a file may have beside as many as it has findings."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Contents:
    """What was read: the entries by their ids in the order in which they came, and how many lines there are.

    `damaged` counts the lines that could not be read; `unread` are these lines. `unclear`
    are the ids of findings whose last line is whole but not understood, such as one of a
    later release. `size` are the bytes of the file.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    damaged: int = 0
    lines: int = 0
    unread: list[bytes] = field(default_factory=list)
    unclear: set[str] = field(default_factory=set)
    size: int = 0


@dataclass(frozen=True)
class Ledger:
    """The ledger in `directory`; it need not exist."""

    directory: Path

    @classmethod
    def of(cls, state: Path, repository: Path) -> Ledger:
        """That of a repository, by its common git directory: its linked working trees share one.

        For what is in no repository, by the workspace. The path must be real.
        """
        name = repository.name
        if name == ".git":
            name = repository.parent.name
        readable = _UNSAFE.sub("-", name)[:40]
        digest = hashlib.sha256(os.fsencode(repository)).hexdigest()[:12]
        return cls(state / FOLDER / f"{readable}-{digest}")

    @property
    def file(self) -> Path:
        """A line of JSON for each change of a finding."""
        return self.directory / FILE

    def read(self) -> Contents:
        """All findings on record; none where there is no file.

        Raises `storage_failed` for one that cannot be read as a whole, or is not ours.
        """
        try:
            return _parsed(_content(self.file))
        except OSError as error:
            raise error_of(
                Code.STORAGE_FAILED, "The ledger of findings cannot be read", error
            ) from None

    @contextmanager
    def changing(self) -> Iterator[Changing]:
        """The findings, for as long as nobody else changes them; what was put is appended at the end.

        Nothing is written where the block raises. Raises `storage_failed`.
        """
        try:
            make_private(self.directory.parent)
            make_private(self.directory)
            lock = lock_file(self.directory / "lock", patience=LOCK_PATIENCE)
        except (OSError, UnsafeDirectoryError) as error:
            raise _not_stored(error) from None
        if lock is None:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"Another process holds {self.directory / 'lock'} for more than {LOCK_PATIENCE:g} seconds",
            )
        try:
            changing = Changing(self.read())
            yield changing
            self._write(changing)
        except OSError as error:
            raise _not_stored(error) from None
        finally:
            os.close(lock)

    def _write(self, changing: Changing) -> None:
        if not changing.added:
            return
        findings = changing.findings
        added = _as_lines(changing.added)
        if _is_due(findings, len(changing.added), len(added)):
            snapshot = _snapshot(findings)
            if len(snapshot) > MAX_LEDGER:
                message = f"{self.file} would have more than {MAX_LEDGER:,} bytes: forget findings"
                raise CounselError(Code.STORAGE_FAILED, message)
            remove_drafts(self.file)
            write_atomically(self.file, snapshot, durable=True)
        else:
            append_lines(self.file, added)


class Changing:
    """Findings that are being changed; see `Ledger.changing`."""

    def __init__(self, findings: Contents) -> None:
        self.findings = findings
        self.added: list[JsonObject] = []

    def put(self, entry: Entry) -> None:
        """Add a finding, or replace what is on record of it. Raises ValueError for one that could not be read back."""
        if self.findings.entries.get(entry.id) == entry:
            return
        entry.check()
        self.findings.entries[entry.id] = entry
        self.added.append(entry.to_json())

    def forget(self, finding_id: str) -> None:
        """Take a finding off the record."""
        if self.findings.entries.pop(finding_id, None):
            self.added.append({"id": finding_id, "forgotten": True})


def _take(entries: dict[str, Entry], raw: object) -> None:
    """Add what a line says. Raises ValueError."""
    match raw:
        case {"id": str(name), "forgotten": True}:
            entries.pop(name, None)
        case _:
            entry = Entry.from_json(raw)
            entries[entry.id] = entry


def _content(file: Path) -> bytes:
    """The bytes of the file, none where there is no file.

    Raises OSError, also for a link, for what is no regular file of this user's, and for
    more bytes than are read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = open_private(str(file), flags)
    except FileNotFoundError:
        return b""
    try:
        check_own(descriptor, file)
        if os.fstat(descriptor).st_size > MAX_LEDGER:
            raise OSError(
                errno.EFBIG, f"more than {MAX_LEDGER:,} bytes: move it away", str(file)
            )
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read()
    finally:
        os.close(descriptor)


def _parsed(data: bytes) -> Contents:
    findings = Contents(size=len(data))
    lines = data.splitlines()
    if lines and not data.endswith(b"\n") and not is_whole(lines[-1]):
        lines.pop()
    for line in lines:
        if not line.strip():
            continue
        findings.lines += 1
        name = ""
        try:
            raw = json.loads(line)
            if isinstance(raw, dict):
                name = str(raw.get("id"))
            _take(findings.entries, raw)
            findings.unclear.discard(name)
        except (ValueError, RecursionError):
            findings.damaged += 1
            findings.unread.append(line)
            # A part of a line was written again.
            if name:
                findings.unclear.add(name)
    return findings


def _is_due(findings: Contents, lines: int, size: int) -> bool:
    """Whether a snapshot is to be written, instead of adding so many lines and bytes."""
    readable = findings.lines - findings.damaged
    if readable + lines > 2 * len(findings.entries) + SPARE_LINES:
        return True
    if findings.size + size > MAX_LEDGER:
        return True
    too_many = len(findings.entries) - MAX_ENTRIES
    return too_many > SPARE_LINES and len(_gone(findings)) > SPARE_LINES


def _snapshot(findings: Contents) -> bytes:
    """A line for each finding, but of more than `MAX_ENTRIES` without those that are gone for the longest time."""
    too_many = max(len(findings.entries) - MAX_ENTRIES, 0)
    dropped = {entry.id for entry in _gone(findings)[:too_many]}
    rows = [
        entry.to_json()
        for entry in findings.entries.values()
        if entry.id not in dropped
    ]
    unread = b"".join(line + b"\n" for line in findings.unread)
    return unread[-MAX_DAMAGED:] + _as_lines(rows)


def _gone(findings: Contents) -> list[Entry]:
    """The findings that are fixed or stale, in the order in which they were seen last."""
    gone = [entry for entry in findings.entries.values() if entry.is_gone]
    return sorted(gone, key=lambda entry: entry.last.time)


def _as_lines(rows: Iterable[JsonObject]) -> bytes:
    # ASCII, so that a terminal shows what is there.
    lines = [json.dumps(row, ensure_ascii=True) + "\n" for row in rows]
    return "".join(lines).encode("ascii")


def _not_stored(error: Exception) -> CounselError:
    if isinstance(error, OSError):
        return error_of(
            Code.STORAGE_FAILED, "The ledger of findings cannot be written", error
        )
    return CounselError(Code.STORAGE_FAILED, str(error))
