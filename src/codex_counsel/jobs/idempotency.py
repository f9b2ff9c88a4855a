"""One idempotency key, one run: `keys/<digest of tool and key>` names the job and a digest of its arguments.

Invariants: whoever looks at a note or writes it holds `keys/<digest>.lock`, and holds it
until the launch is over. The note is written before the job is published: a run that no
note names would be paid for again. So a note without a job is that of a launch that
failed or was killed, and its key is free.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.system.files import lock_file, read_json, write_atomically

KEY_PATIENCE = 10.0
"""Seconds that a call waits while another one starts the run of the same key."""


@dataclass(frozen=True)
class Claim:
    """The right to start the run of a key. `earlier` is the run that exists already: then nothing is to be started."""

    earlier: Handle | None = None
    note: Path | None = None
    arguments: str | None = ""

    def note_job(self, job_id: str) -> None:
        """Note the run that is to be launched now. Raises OSError."""
        if self.note is None:
            return
        entry = {"job_id": job_id, "arguments": self.arguments}
        write_atomically(self.note, json.dumps(entry))


def digest(*parts: str) -> str:
    """A digest of texts, which stand for themselves: ("a", "b") is not ("ab",)."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


@contextlib.contextmanager
def claim(
    store: Store, tool: str, key: str | None, arguments: str | None
) -> Iterator[Claim]:
    """Hold a key until the block ends; without a key, nothing is held. `arguments` tell one request from another.

    They are None for a run of another machine whose arguments nobody knows here: it counts
    as the same request as any other of its key.

    An earlier run that failed or was cancelled does not count. Raises
    `idempotency_conflict` when the key was used with other arguments, `storage_failed`
    where it cannot be stored, and `session_busy` while another call takes long to start
    its run.
    """
    if key is None:
        yield Claim()
        return

    note = store.state / "keys" / digest(tool, key)
    try:
        store.prepare()
        lock = lock_file(note.with_name(f"{note.name}.lock"), patience=KEY_PATIENCE)
    except OSError as error:
        raise _storage_error(error) from None
    if lock is None:
        raise CounselError(
            Code.SESSION_BUSY,
            "Another session is starting the run of this idempotency key",
            repair="Call again with the same key: you get that run.",
        )
    try:
        yield Claim(_earlier(store, note, arguments), note, arguments)
    except OSError as error:
        raise _storage_error(error) from None
    finally:
        os.close(lock)


def find(store: Store, tool: str, key: str) -> Job | None:
    """The latest job of a key, however it ended; None where there is none, or its record was dropped.

    Takes no lock. Raises OSError where nobody can tell.
    """
    try:
        entry = read_json(store.state / "keys" / digest(tool, key))
        return store.job(str(entry["job_id"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, CounselError):
        return None


def _earlier(store: Store, note: Path, arguments: str | None) -> Handle | None:
    """The run that the note names, unless it failed. A note that makes no sense names none.

    Raises OSError where nobody can tell: a run that exists must not be paid for again.
    """
    try:
        entry = read_json(note)
        job = store.job(str(entry["job_id"]))
        outcome = recovery.outcome(job)
        earlier_arguments = entry.get("arguments", "")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, CounselError):
        return None
    if outcome and outcome["status"] != "completed":
        return None
    are_known = arguments is not None and earlier_arguments is not None
    if are_known and earlier_arguments != arguments:
        raise CounselError(
            Code.IDEMPOTENCY_CONFLICT,
            f"This idempotency key belongs to job {job.id}, which has other arguments",
        )
    return Handle(job)


def _storage_error(error: OSError) -> CounselError:
    message = "An idempotency key needs the state directory"
    return error_of(Code.STORAGE_FAILED, message, error)
