"""The files of a job directory that its worker writes: `state.json`, `events.jsonl` and, at the end, `result.json`.

The worker imports this before it starts Codex, so it imports little.

Invariants: `state.json` is replaced in one step. `result.json` is linked into place, so
the first result stands and no reader sees a part of one. `events.jsonl` is what Codex
printed up to some point, of which the last line may be a part. Only where it is full,
the lines that begin and end a turn follow, with its answer. So a recorded end of a turn
means that the answer before it is whole, and of that turn. A full disk costs files, never the run: what
cannot be stored still goes to stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time

from codex_counsel.system.files import open_private, remove_tree, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from codex_counsel.codex.transcript import Transcript
    from codex_counsel.contract.envelope import EnvelopeDict
    from codex_counsel.system.json_values import Json, JsonObject

STATE_INTERVAL = 0.25
"""Seconds between two writes of `state.json` when neither the phase, the thread nor the command changed."""
LAST_PROMPT = "last_prompt"
"""The file with what Codex is asked when the budget of tokens is used up."""
MAX_EVENTS = 64 * 1024 * 1024
"""Bytes of events that are kept, besides those that end the turn."""
READ_SECONDS = 5.0
"""How long a launcher that reads nothing is waited for: it may be stopped. What is stored it can read later."""
BLOCK = 4096
"""Bytes in which a file system gives out room, on most."""


class Journal:
    """`private` marks a job in a directory of its own, which is removed when the run has ended.

    `codex_began` is when the worker started Codex, in epoch seconds; None before.
    """

    def __init__(self, directory: str, *, private: bool = False) -> None:
        self.directory = directory
        self.codex_began: float | None = None
        self._private = private
        self._state: JsonObject = {}
        self._state_written = 0.0
        self._events = -1
        self._event_bytes = 0
        self._record_torn = False
        self._withheld_answer = b""

    def cancel_requested(self) -> bool:
        """Whether somebody made the file `cancel`."""
        return os.path.exists(f"{self.directory}/cancel")

    def update_state(self, **changes: Json) -> None:
        """Set fields of `state.json` and write it."""
        self._state |= changes
        self._write_state()

    def note_progress(self, transcript: Transcript) -> None:
        """Write a new phase, thread or command at once, and the time of the last event a few times a second."""
        progress = {
            "phase": transcript.phase,
            "thread_id": transcript.thread_id,
            "last_command": transcript.last_command,
        }
        before = {name: self._state.get(name) for name in progress}
        self._state |= progress
        self._state["heard"] = time.time()

        age = time.monotonic() - self._state_written
        if progress != before or age > STATE_INTERVAL:
            self._write_state()

    def _write_state(self) -> None:
        self._state_written = time.monotonic()
        with contextlib.suppress(OSError):
            write_atomically(f"{self.directory}/state.json", json.dumps(self._state))

    def add_event(
        self,
        line: bytes,
        *,
        begins_thread: bool = False,
        decides_answer: bool = False,
        ends_turn: bool = False,
    ) -> None:
        """Append one line of Codex's output to `events.jsonl`; when that is full, only those that frame a turn."""
        self._event_bytes += len(line) + 1
        if begins_thread:
            self._withheld_answer = b""
        if begins_thread or self._event_bytes <= MAX_EVENTS:
            self._append(line)
        elif decides_answer:
            self._withheld_answer = line
        elif ends_turn:
            if self._withheld_answer:
                self._append(self._withheld_answer)
            self._append(line)

    def _append(self, line: bytes) -> None:
        """After a line that could not be written, nothing is: what follows it would look whole."""
        if self._record_torn:
            return
        data = line + b"\n"
        written = 0
        with contextlib.suppress(OSError):
            if self._events < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._events = open_private(f"{self.directory}/events.jsonl", flags)
            written = os.write(self._events, data)
        self._record_torn = written < len(data)

    def commit(
        self, envelope: EnvelopeDict, on_stored: Callable[[], None] | None = None
    ) -> None:
        """Store the result unless there is one, and write the one that stands to stdout for a launcher that waits.

        `on_stored` is called in between: what it does is done once a caller has the
        result, and a full disk loses it sooner than the result.
        """
        envelope["meta"]["job_id"] = os.path.basename(self.directory)
        text = self._store(envelope)
        if on_stored:
            on_stored()
        is_stored = os.path.exists(f"{self.directory}/result.json")
        with contextlib.suppress(OSError):
            _write_to_launcher(
                text.encode("utf-8", "replace"),
                READ_SECONDS if is_stored and not self._private else None,
            )
        if self._private:
            remove_tree(os.path.dirname(self.directory))

    def _store(self, envelope: EnvelopeDict) -> str:
        """Returns the text of the result that stands: the one now in `result.json`, or ours if none can be stored."""
        text = json.dumps(envelope, ensure_ascii=False)
        try:
            return link_result(self.directory, text)
        except OSError:
            # A full disk: the events make room for the result that they led to.
            self._delete_events(len(text.encode("utf-8", "replace")))
        try:
            return link_result(self.directory, text)
        except OSError as error:
            reason = error.strerror

        # Readers must not take the run for one that died. A file cannot be made here,
        # but one can be renamed.
        sign = "unsaved"
        if envelope["status"] == "cancelled":
            sign = "cancel"
        with contextlib.suppress(OSError):
            os.rename(f"{self.directory}/prompt", f"{self.directory}/{sign}")
        warning = (
            f"this result could not be stored ({reason}): fetched again, it may be less"
        )
        envelope["meta"].setdefault("warnings", []).append(warning)
        return json.dumps(envelope, ensure_ascii=False)

    def _delete_events(self, needed: int) -> None:
        """Make room for a result of so many bytes. Where that would not do, the events stay: they are all there is."""
        path = f"{self.directory}/events.jsonl"
        with contextlib.suppress(OSError):
            if -(-needed // BLOCK) * BLOCK > os.stat(path).st_blocks * 512:
                return
            os.unlink(path)
            # The room is free only once nobody has the file open.
            os.close(self._events)
            self._events = -1


def _write_to_launcher(data: bytes, patience: float | None) -> None:
    """Write to stdout, until nobody has read for `patience` seconds. Raises OSError."""
    stdout = sys.stdout.fileno()
    os.set_blocking(stdout, False)
    left = memoryview(data)
    while left:
        _, writable, _ = select.select([], [stdout], [], patience)
        if not writable:
            return
        left = left[os.write(stdout, left) :]


def link_result(directory: str, text: str, ended: float | None = None) -> str:
    """Commit by `link`, which never replaces a result; returns the text that is in `result.json` then.

    The file is as old as the run where that `ended` before now (epoch seconds). Raises
    OSError where it cannot be stored.
    """
    result = f"{directory}/result.json"
    draft = f"{directory}/.result-{os.getpid()}"
    try:
        write_atomically(draft, text, durable=True)
        if ended is not None:
            with contextlib.suppress(OSError):
                os.utime(draft, (ended, ended))
        with contextlib.suppress(FileExistsError):
            os.link(draft, result)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(draft)
    with open(result, encoding="utf-8") as file:
        return file.read()
