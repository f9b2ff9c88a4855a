"""Short commands of Codex, run to their end, and a cache on disk for their answers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.system.files import read_json_or_none, write_atomically
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import decode

PROBE_SECONDS = 10
"""Seconds a command may take. Each needs far less than one; a binary that waits for something would wait for ever."""

MAX_CACHE_ENTRIES = 200


@dataclass(frozen=True)
class ProbeResult:
    """How a command ended, and its output with control characters removed.

    `returncode` is 127 when the program could not be started; `stderr` is the reason
    then. It is None when the command was killed after `PROBE_SECONDS`.
    """

    returncode: int | None
    stdout: str
    stderr: str


def run_probe(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> ProbeResult:
    """Run a command without input, for at most `PROBE_SECONDS`. Never raises OSError.

    The command leads a process group, which is killed as a whole when the time is over:
    npm's launcher of Codex is a Node process that does not pass SIGKILL on. Without
    `env` the environment of this process is inherited.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        return ProbeResult(127, "", str(error))
    with process:
        try:
            stdout, stderr = process.communicate(timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return ProbeResult(None, "", "no answer")
    return ProbeResult(process.returncode, decode(stdout), decode(stderr))


def file_stamp(path: Path) -> str:
    """Path, modification time (nanoseconds) and size: differs after the file was replaced. For a missing file too."""
    try:
        stat = path.stat()
    except OSError:
        return f"{path}:none"
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


class ProbeCache:
    """A JSON file of answers. A key names the question and the stamps of all files that the answer depends on.

    An unreadable or unwritable cache only means that Codex is asked again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, *key: str) -> Json:
        """The stored answer, or None."""
        return self._entries().get("\n".join(key))

    def newest(self, question: str) -> Json:
        """The answer to the question that was stored last, whatever it depends on; or None."""
        found: Json = None
        for key, answer in self._entries().items():
            if key.partition("\n")[0] == question:
                found = answer
        return found

    def put(self, value: Json, *key: str) -> None:
        """Store an answer; the oldest entries are dropped beyond `MAX_CACHE_ENTRIES`."""
        entries = self._entries()
        entries["\n".join(key)] = value
        newest = list(entries.items())[-MAX_CACHE_ENTRIES:]
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(dict(newest)))

    def _entries(self) -> JsonObject:
        entries = read_json_or_none(self._file)
        if not isinstance(entries, dict):
            return {}
        return entries
