"""What is noted of Codex threads.

`<state>/threads/<thread id>` holds the id of the job of the review that the thread was sent
last. `<state>/sessions/<thread id>` belongs to a thread that the tool `codex` of the removed
`codex mcp-server` began: its latest job, and the options of the call that began it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.system.files import read_json_or_none, read_regular, write_atomically
from codex_counsel.system.json_values import JsonObject

MAX_BYTES = 64
KEPT_SECONDS = 30 * 86_400
"""How long the options of a thread are kept after its latest turn."""


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
    """A turn of a thread. `options` are those of `contract.compat.ThreadOptions`, JSON-ready."""

    job_id: str
    options: JsonObject


def note_turn(state: str | os.PathLike[str], thread_id: str, turn: Turn) -> None:
    """Note that Codex began this turn. Without the note the thread is continued with default options."""
    if re.fullmatch(THREAD_ID, thread_id):
        with contextlib.suppress(OSError):
            text = json.dumps(turn._asdict(), ensure_ascii=False)
            write_atomically(Path(state) / "sessions" / thread_id, text)


def latest_turn(state: Path, thread_id: str) -> Turn | None:
    """The turn that was noted last; its job need not exist any more."""
    if not re.fullmatch(THREAD_ID, thread_id):
        return None
    noted = read_json_or_none(state / "sessions" / thread_id)
    try:
        return Turn(str(noted["job_id"]), dict(noted["options"]))
    except (KeyError, TypeError, ValueError):
        return None
