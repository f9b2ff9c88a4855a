"""A Claude Code session as a new thread of Codex: the transcript is copied, and Codex's app server imports the copy.

Codex imports sessions from `~/.claude/projects` alone. The copy lies in such a folder of a temporary home: it is whole
while the session goes on writing, and the user's own configuration directory may be anywhere.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.codex.binary import Codex
from codex_counsel.errors import Code, CounselError

MAX_BYTES = 200_000_000
PATIENCE_SECONDS = 60
FLUSH_SECONDS = 2
SUFFIX = ".jsonl"
OFF = ("analytics.enabled=false", "features.plugins=false", "features.apps=false")


@dataclass(frozen=True)
class SessionTranscript:
    """`newer` is another session of the same project that was written to later."""

    path: Path
    newer: Path | None = None


def projects(env: Mapping[str, str]) -> Path:
    """Where Claude Code keeps its sessions, a folder for each project."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME") or "/nonexistent") / ".claude") / "projects"


def find(given: str | None, env: Mapping[str, str]) -> SessionTranscript:
    """The named transcript (a path, or just the file's name), or that of the session this process was started by."""
    folder = projects(env)
    name = given or env.get("CLAUDE_CODE_SESSION_ID", "") + SUFFIX
    if name == SUFFIX:
        raise _refused("which session? transcript_path is not set, and this is no session of Claude Code")
    path = _confined(Path(name) if os.sep in name else _written(name, folder), folder)
    return SessionTranscript(path, None if given else _newer(path))


def _written(name: str, folder: Path) -> Path:
    """The file of that name in the folder of some project. A session that just began has not written it yet."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while not (found := next(folder.glob(f"*/{glob.escape(name)}"), None)):
        if time.monotonic() > deadline:
            raise _refused(f"there is no {name} in {folder}")
        time.sleep(0.05)
    return found


def _confined(path: Path, folder: Path) -> Path:
    """The file itself, which must be a regular one in the folder: an agent may be told to pass any path."""
    try:
        real = path.resolve(strict=True)
        inside = real.is_relative_to(folder.resolve(strict=True)) and real.suffix == SUFFIX
        about = real.stat()
    except (OSError, RuntimeError):
        raise _refused(f"{path} cannot be read") from None
    if not inside or not stat.S_ISREG(about.st_mode):
        raise _refused(f"{path} is no transcript (*{SUFFIX}) in {folder}")
    if about.st_size > MAX_BYTES:
        raise _refused(f"{path} has more than {MAX_BYTES} bytes")
    return real


def _newer(path: Path) -> Path | None:
    """After `/clear` the session has another file than the one that this process knows of."""
    others = [other for other in path.parent.glob(f"*{SUFFIX}") if other != path]
    latest = max(others, key=lambda other: other.stat().st_mtime, default=None)
    return latest if latest and latest.stat().st_mtime > path.stat().st_mtime else None


def _refused(why: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, f"transcript_path: {why}")


def hand_over(codex: Codex, run: Mapping[str, str], transcript: Path, cwd: Path) -> str:
    """Import it; the id of the new thread."""
    with tempfile.TemporaryDirectory(prefix="codex-counsel-transfer-") as made:
        copy = Path(made).resolve() / ".claude/projects" / transcript.parent.name / transcript.name
        copy.parent.mkdir(parents=True)
        shutil.copyfile(transcript, copy)
        os.utime(copy)
        answer = _imported(codex, {**run, "HOME": made}, copy, cwd)
    results = [entry for entry in answer.get("itemTypeResults", ()) if entry.get("itemType") == "SESSIONS"]
    made_of = [str(item["target"]) for entry in results for item in entry.get("successes", ()) if item.get("target")]
    if made_of:
        return made_of[0]
    reasons = [str(item.get("message")) for entry in results for item in entry.get("failures", ())]
    raise CounselError(Code.UPSTREAM_ERROR, reasons[0] if reasons else "Codex imported nothing of this session")


def _imported(codex: Codex, env: Mapping[str, str], copy: Path, cwd: Path) -> dict[str, Any]:
    session = {"path": str(copy), "cwd": str(cwd), "title": None}
    item = {"itemType": "SESSIONS", "description": "a Claude Code session", "details": {"sessions": [session]}}
    messages: list[dict[str, Any]] = [
        {"id": 0, "method": "initialize", "params": {"clientInfo": {"name": "codex-counsel", "version": "0"}}},
        {"method": "initialized"},
        {"id": 1, "method": "externalAgentConfig/import", "params": {"migrationItems": [item]}},
    ]
    given = "".join(json.dumps(message) + "\n" for message in messages).encode()
    argv = [str(codex.path), "app-server", *(part for value in OFF for part in ("-c", value))]
    for message in _said(argv, given, env):
        if message.get("id") == 1 and "error" in message:
            raise _rejected(codex, message["error"])
        if message.get("method") == "externalAgentConfig/import/completed":
            return dict(message.get("params") or {})
    raise CounselError(Code.UPSTREAM_ERROR, f"Codex {codex.version} did not finish the import")


def _rejected(codex: Codex, error: Mapping[str, Any]) -> CounselError:
    if error.get("code") == -32601:
        return CounselError(Code.CODEX_TOO_OLD, f"Codex {codex.version} cannot import sessions")
    return CounselError(Code.UPSTREAM_ERROR, str(error.get("message") or "Codex refused the import"))


def _said(argv: list[str], given: bytes, env: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the app server says, at most so long; its process group is ended after that."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, process_group=0, bufsize=0
        )
        with child:
            try:
                assert child.stdin  # noqa: S101  # a pipe
                assert child.stdout  # noqa: S101  # a pipe
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(given)
                yield from _lines(child.stdout.fileno())
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


def _lines(descriptor: int) -> Iterator[dict[str, Any]]:
    deadline, rest = time.monotonic() + PATIENCE_SECONDS, b""
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        chunk = os.read(descriptor, 65536)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                yield message if isinstance(message, dict) else {}
        if not chunk:
            return
