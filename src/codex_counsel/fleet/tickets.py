"""What a node knows of the runs that it was sent: `<state>/fleet/`.

A **ticket** is one try to run one item of a batch on one node: 32 hexadecimal digits, which are the id of its pack and
so the idempotency key of its run. Once a node has said that it knows nothing of a ticket, it never runs it: the item
may be started on another node then, whatever of the first try still arrives.

- `node`: the id of this node, made once. Nodes are told apart by it, not by the address of a Dask worker, which
  changes with every restart.
- `tickets/<ticket>`: `started`, `ran` or `refused`. Whoever looks or starts holds `tickets/<ticket>.lock`.
- `results/<ticket>`: the result file, from the end of the run until the client has it.
- `uploads/<digest>`: a file of which the client has sent a part.

What is older than `KEEP_SECONDS` is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    lock_file,
    make_private,
    open_private,
    write_atomically,
)

Note = Literal["started", "ran", "refused"]
"""`started` is written before the start, `ran` once there is a job."""
TICKET = re.compile("[0-9a-f]{32}")
DIGEST = re.compile("[0-9a-f]{64}")
KEEP_SECONDS = 14 * 86_400.0
"""A refusal is needed as long as a late start may arrive; the connections that could bring one live for minutes."""
LOCK_PATIENCE = 60.0
"""Seconds; a start takes less than one, but may wait for a slow disk."""
MAX_UPLOAD = 8_000_000_000
"""Bytes."""


class Tickets:
    """The directory of a node. Methods raise `storage_failed`, and `invalid_arguments` for what is no ticket."""

    def __init__(self, state: Path) -> None:
        self.directory = state / "fleet"

    def prepare(self) -> None:
        """Make the directories, private."""
        with _storage_errors():
            for name in ("tickets", "results", "uploads"):
                make_private(self.directory / name)

    def node(self) -> str:
        """The id of this node: 32 hexadecimal digits."""
        self.prepare()
        path = self.directory / "node"
        with _storage_errors(), self._locked(self.directory / "node.lock"):
            known = _text(path)
            if TICKET.fullmatch(known):
                return known
            new = secrets.token_hex(16)
            write_atomically(path, new, durable=True)
            return new

    @contextlib.contextmanager
    def hold(self, ticket: str) -> Iterator[None]:
        """Hold a ticket: nobody else starts, refuses or asks for it meanwhile."""
        _check(TICKET, ticket)
        with _storage_errors(), self._locked(self._path(ticket, ".lock")):
            yield

    def note(self, ticket: str) -> Note | None:
        """What is noted of a ticket that is held; None for one that never came here."""
        match _text(self._path(ticket)):
            case "started":
                return "started"
            case "ran":
                return "ran"
            case "":
                return None
        return "refused"

    def write(self, ticket: str, note: Note) -> None:
        """Note something of a ticket that is held. It is on the disk when this returns."""
        with _storage_errors():
            write_atomically(self._path(ticket), note, durable=True)

    def result(self, ticket: str) -> Path:
        """Where the result file of a ticket is, or will be."""
        _check(TICKET, ticket)
        return self.directory / "results" / ticket

    def remove_result(self, ticket: str) -> None:
        """The client has it. The note of the ticket stays: it is not run again."""
        with _storage_errors():
            self.result(ticket).unlink(missing_ok=True)

    def upload(self, digest: str) -> Path:
        """Where the file of this SHA-256 is put together."""
        _check(DIGEST, digest)
        return self.directory / "uploads" / digest

    def add_part(self, digest: str, offset: int, part: bytes) -> int:
        """Write a part of an upload, and return how many bytes of it are there from its beginning on.

        A part that would leave a gap is not written: the caller goes on where the returned number says.
        """
        path = self.upload(digest)
        if not 0 <= offset <= MAX_UPLOAD - len(part):
            raise CounselError(
                Code.INPUT_TOO_LARGE, f"A file may have {MAX_UPLOAD:,} bytes"
            )
        with _storage_errors():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            with os.fdopen(open_private(str(path), flags), "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if offset > size:
                    return size
                file.seek(offset)
                file.write(part)
                return max(size, offset + len(part))

    def whole_upload(self, digest: str, size: int) -> Path | None:
        """The uploaded file, if all of it is there; one with other bytes is removed."""
        path = self.upload(digest)
        with _storage_errors():
            try:
                if path.stat().st_size < size:
                    return None
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                return None
            if found == digest:
                return path
            path.unlink(missing_ok=True)
        return None

    def remove_upload(self, digest: str) -> None:
        """What it was for has been made of it."""
        with _storage_errors():
            self.upload(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what is too old to matter. Never raises."""
        oldest = time.time() - KEEP_SECONDS
        for name in ("tickets", "results", "uploads"):
            with (
                contextlib.suppress(OSError),
                os.scandir(self.directory / name) as entries,
            ):
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if entry.stat(follow_symlinks=False).st_mtime < oldest:
                            Path(entry.path).unlink()

    def _path(self, ticket: str, suffix: str = "") -> Path:
        return self.directory / "tickets" / f"{ticket}{suffix}"

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        lock = lock_file(path, patience=LOCK_PATIENCE)
        if lock is None:
            raise CounselError(
                Code.SESSION_BUSY,
                "Another call on this node takes long with the same item",
            )
        try:
            yield
        finally:
            os.close(lock)


def _check(form: re.Pattern[str], name: str) -> None:
    if not form.fullmatch(name):
        raise CounselError(
            Code.INVALID_ARGUMENTS, "That is no name that a client of a fleet makes"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except UnsafeDirectoryError as error:
        raise CounselError(
            Code.STORAGE_FAILED, f"The state directory is not safe: {error}"
        ) from None
    except OSError as error:
        message = "This node cannot keep what it knows of its runs"
        raise error_of(Code.STORAGE_FAILED, message, error) from None
