"""What is noted of Codex threads.

`<state>/threads/<thread id>` holds the id of the job of the review that the thread was sent
last. `<state>/sessions/<thread id>` belongs to a thread that the tool `codex` of the removed
`codex mcp-server` began: its latest job, and the options of the call that began it. Whoever
begins a further turn of such a thread holds `<state>/sessions/<thread id>.lock` until that
job is noted, so of two at once one is told that the thread is busy.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import lock_file, read_regular, write_atomically
from codex_counsel.system.json_values import JsonObject

MAX_BYTES = 64
MAX_TURN_BYTES = 8_000_000
"""Of the note of a turn: instructions of the caller are in it."""
KEPT_SECONDS = 30 * 86_400
"""How long the options of a thread are kept after its latest turn."""
LOOK_SECONDS = 0.2
"""Time in which one that only looked has let the lock go."""
BEGIN_SECONDS = 10.0
"""How long a turn that begins is waited for, until its job is noted."""


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


class Turn(NamedTuple):
    """A turn of a thread. `options` are those of `contract.compat.ThreadOptions`, JSON-ready.

    `diff_job` is the latest earlier job of the thread that has a diff, or empty.
    """

    job_id: str
    options: JsonObject
    diff_job: str = ""


def note_turn(state: str | os.PathLike[str], thread_id: str, turn: Turn) -> None:
    """Note that this turn begins. Without the note the thread is continued with default options."""
    if re.fullmatch(THREAD_ID, thread_id):
        with contextlib.suppress(OSError):
            text = json.dumps(turn._asdict(), ensure_ascii=False)
            write_atomically(Path(state) / "sessions" / thread_id, text)


def latest_turn(state: Path, thread_id: str) -> Turn | None:
    """The turn that was noted last; its job need not exist any more. None where no note makes sense."""
    if not re.fullmatch(THREAD_ID, thread_id):
        return None
    noted = read_regular(state / "sessions" / thread_id, MAX_TURN_BYTES)
    try:
        raw = json.loads(noted or b"")
    except (ValueError, RecursionError):
        return None
    match raw:
        case {"job_id": str(job_id), "options": dict(options)}:
            return Turn(job_id, options, str(raw.get("diff_job", "")))
    return None


@contextlib.contextmanager
def claim_turn(state: Path, thread_id: str) -> Iterator[None]:
    """Hold the right to begin a turn of this thread until the block ends.

    Raises `session_busy` while another call holds it. Nothing is held where no file can be
    made: there is no note then either.
    """
    path = _lock_of(state, thread_id)
    descriptor: int | None = -1
    with contextlib.suppress(OSError):
        descriptor = lock_file(path, patience=LOOK_SECONDS)
    if descriptor is None:
        raise CounselError(
            Code.SESSION_BUSY,
            f"Another call is beginning a turn of the thread {thread_id}",
            repair="Call codex-reply with the prompt wait to get its answer; then send this prompt.",
        )
    try:
        yield
    finally:
        if descriptor >= 0:
            # Removed while it is held: whoever opened it meanwhile notices.
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(descriptor)


def await_claim(state: Path, thread_id: str) -> None:
    """Wait until no call is beginning a turn of this thread: the note is of the turn before until then.

    Raises `session_busy` where that takes longer than `BEGIN_SECONDS`.
    """
    descriptor: int | None = -1
    with contextlib.suppress(OSError):
        descriptor = lock_file(
            _lock_of(state, thread_id), shared=True, patience=BEGIN_SECONDS
        )
    if descriptor is None:
        raise CounselError(
            Code.SESSION_BUSY,
            f"Another call is beginning a turn of the thread {thread_id}",
            repair="Call codex-reply with the prompt wait again.",
        )
    if descriptor >= 0:
        os.close(descriptor)


def _lock_of(state: Path, thread_id: str) -> Path:
    return state / "sessions" / f"{thread_id}.lock"
