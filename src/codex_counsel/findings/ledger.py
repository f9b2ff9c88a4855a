"""The findings of a repository, for good: `<state>/findings/NAME-HASH/ledger.jsonl`.

A line is the whole present record of one finding, so the last line of an id counts, and
`{"id": ..., "forgotten": true}` ends it. Records of jobs are dropped some day; these are not.

Invariants: lines are appended under the lock beside the file, by one write; one that was
not written whole does not swallow the next. When most lines are outdated, the file is
replaced in one step by a snapshot, a line for each finding. A reader takes no lock: it
sees the old file or the new one. A line that cannot be read counts as damaged, and harms
no other.
"""

from __future__ import annotations

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
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    lock_file,
    make_private,
    open_private,
    read_regular,
    write_atomically,
)
from codex_counsel.system.json_values import JsonObject

FOLDER = "findings"
FILE = "ledger.jsonl"
MAX_LEDGER = 64 * 1024 * 1024
"""Bytes that are read."""
LOCK_PATIENCE = 10.0
SPARE_LINES = 500
"""Outdated lines that a file may have beside as many as it has findings."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Findings:
    """What was read: the entries by their ids in the order in which they came, and how many lines are damaged."""

    entries: dict[str, Entry] = field(default_factory=dict)
    damaged: int = 0
    lines: int = 0


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

    def read(self) -> Findings:
        """All findings on record; none where there is no file, or none that can be read."""
        findings = Findings()
        data = read_regular(self.file, MAX_LEDGER) or b""
        for line in data.splitlines():
            if not line.strip():
                continue
            findings.lines += 1
            try:
                _take(findings.entries, json.loads(line))
            except (ValueError, RecursionError):
                findings.damaged += 1
        return findings

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
        lines = findings.lines + len(changing.added)
        if lines > 2 * len(findings.entries) + SPARE_LINES:
            rows = [entry.to_json() for entry in findings.entries.values()]
            write_atomically(self.file, _as_lines(rows), durable=True)
        else:
            _append(self.file, _as_lines(changing.added))


class Changing:
    """Findings that are being changed; see `Ledger.changing`."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.added: list[JsonObject] = []

    def put(self, entry: Entry) -> None:
        """Add a finding, or replace what is on record of it."""
        if self.findings.entries.get(entry.id) == entry:
            return
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


def _as_lines(rows: Iterable[JsonObject]) -> bytes:
    # ASCII, so that a terminal shows what is there.
    lines = [json.dumps(row, ensure_ascii=True) + "\n" for row in rows]
    return "".join(lines).encode("ascii")


def _append(file: Path, data: bytes) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_private(str(file), flags)
    try:
        size = os.fstat(descriptor).st_size
        # A full disk or a kill may have left a part of a line.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written < len(data):
            raise OSError(28, os.strerror(28))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_stored(error: Exception) -> CounselError:
    if isinstance(error, OSError):
        return error_of(
            Code.STORAGE_FAILED, "The ledger of findings cannot be written", error
        )
    return CounselError(Code.STORAGE_FAILED, str(error))
