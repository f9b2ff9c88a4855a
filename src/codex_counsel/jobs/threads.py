"""Which review a Codex thread was sent last: `<state>/threads/<thread id>` holds the id of its job."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.system.files import read_regular, write_atomically

MAX_BYTES = 64


def note_review(state: str | os.PathLike[str], thread_id: str, job_id: str) -> None:
    """Note that Codex began the turn of this review. Without the note the next review of the thread is sent in full."""
    # The id is Codex's, and becomes part of a path.
    if re.fullmatch(THREAD_ID, thread_id):
        with contextlib.suppress(OSError):
            write_atomically(Path(state) / "threads" / thread_id, job_id)


def last_review(state: Path, thread_id: str) -> str | None:
    """The id of the job that was noted last; its record need not exist any more."""
    if not re.fullmatch(THREAD_ID, thread_id):
        return None
    noted = read_regular(state / "threads" / thread_id, MAX_BYTES) or b""
    job_id = noted.decode("ascii", "replace")
    if not re.fullmatch(JOB_ID, job_id):
        return None
    return job_id
