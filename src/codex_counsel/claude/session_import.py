"""The transcript of a Claude Code session: which file it is, and a private copy of it for the import into Codex.

The copy lacks the hand-over itself: the command `/codex:transfer` with all that follows
it in that turn, and calls of the tool. Codex imports sessions from
`$HOME/.claude/projects` alone. The copy lies in such a folder of a temporary home: it
does not change while the session goes on, and the user's own configuration directory
may be anywhere.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codex_counsel.claude.transcript import (
    begins_turn,
    blocks,
    parse_message,
    text_of,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.directory_descriptors import open_file
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.temporary import temporary_directory
from codex_counsel.system.text import one_line, visible

TRANSFER_PREFIX = "codex-counsel-transfer-"
"""Begins the names of the temporary homes with a copy of a transcript."""
MAX_TRANSCRIPT = 200_000_000
FLUSH_SECONDS = 2
"""Seconds that a session which has just begun may take until its file is there."""
SUFFIX = ".jsonl"
COMMAND = "<command-name>/codex:transfer</command-name>"
TOOL = "__codex_transfer"
MAX_WORDS = 120
"""Characters of the first and of the last message that are shown."""


@dataclass(frozen=True)
class SessionTranscript:
    """A transcript in the user's configuration directory of Claude Code.

    `newer` is another transcript of the same project that was written to later.
    """

    path: Path
    newer: Path | None = None


@dataclass
class Contents:
    """What is handed over: how often the user wrote, and the first and the last words, each on one line.

    `bytes` is the size of the transcript by then: the session goes on, or is removed.
    """

    bytes: int = 0
    turns: int = 0
    first_words: str = ""
    last_words: str = ""

    def add(self, row: JsonObject) -> None:
        """Count a message."""
        if row.get("isMeta") or row.get("isSidechain"):
            return
        if begins_turn(row):
            self.turns += 1
        words = one_line(visible(_without_tags(text_of(row))), MAX_WORDS)
        if words:
            self.first_words = self.first_words or words
            self.last_words = words


@dataclass(frozen=True)
class PrivateCopy:
    """`home` is the value for HOME, `path` the copy in it."""

    home: Path
    path: Path
    contents: Contents


def projects_directory(env: Mapping[str, str]) -> Path:
    """Where Claude Code keeps its sessions, one folder for each project."""
    home = env.get("HOME") or "/nonexistent"
    config = env.get("CLAUDE_CONFIG_DIR") or Path(home, ".claude")
    return Path(config, "projects")


def find(transcript_path: str | None, env: Mapping[str, str]) -> SessionTranscript:
    """The named transcript, a path or only a file name; by default that of the session that started this process.

    Raises `invalid_arguments` unless it is a regular file below `projects_directory`.
    """
    projects = projects_directory(env)
    if transcript_path:
        return SessionTranscript(_locate(transcript_path, projects))

    session_id = env.get("CLAUDE_CODE_SESSION_ID")
    if not session_id:
        raise _invalid(
            "is needed, because this process was not started by a session of Claude Code"
        )
    path = _locate(session_id + SUFFIX, projects)
    return SessionTranscript(path, _newer_transcript(path))


def newest(directory: Path, env: Mapping[str, str]) -> Path:
    """The transcript of this directory's sessions that was written to last. Raises `invalid_arguments` for none."""
    # Claude Code names the folder after the directory, with a dash for each other
    # character.
    folder = projects_directory(env) / re.sub("[^A-Za-z0-9]", "-", str(directory))
    latest: Path | None = None
    latest_time = 0.0
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            modified = path.stat().st_mtime
            if modified > latest_time:
                latest, latest_time = path, modified
    if latest is None:
        raise _invalid(f"Claude Code has no session of {directory}; name one")
    return latest


def _locate(name: str, projects: Path) -> Path:
    if os.sep in name:
        return _confined(Path(name), projects)
    return _confined(_wait_for_file(name, projects), projects)


def _wait_for_file(name: str, projects: Path) -> Path:
    """The file of that name in the folder of any project."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while True:
        for path in projects.glob(f"*/{glob.escape(name)}"):
            return path
        if time.monotonic() > deadline:
            raise _invalid(f"there is no {name} in {projects}")
        time.sleep(0.05)


def _confined(path: Path, projects: Path) -> Path:
    """The path with all links resolved. An agent can be made to pass any path: only transcripts are accepted."""
    try:
        real = path.resolve(strict=True)
        inside = real.is_relative_to(projects.resolve(strict=True))
    except (OSError, RuntimeError):
        raise _invalid(f"{path} cannot be read") from None
    if not inside or real.suffix != SUFFIX:
        raise _invalid(f"{path} is no transcript (*{SUFFIX}) in {projects}")
    with _open_transcript(real):
        return real


def _open_transcript(path: Path) -> BinaryIO:
    """The opened file of a resolved path: what was exchanged for a link since then is refused."""
    try:
        descriptor = open_file(path)
    except OSError as error:
        raise _invalid(f"{path} cannot be read: {error.strerror}") from None
    status = os.fstat(descriptor)
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is no regular file"
    elif status.st_size > MAX_TRANSCRIPT:
        problem = f"has more than {MAX_TRANSCRIPT} bytes"
    if problem:
        os.close(descriptor)
        raise _invalid(f"{path} {problem}")
    return open(descriptor, "rb")  # noqa: PTH123  # no path could be sure to be this file


def _newer_transcript(path: Path) -> Path | None:
    """The latest other transcript of the project: `/clear` gives a session a new file that this process cannot know."""
    latest: Path | None = None
    latest_time = path.stat().st_mtime
    for other in path.parent.glob(f"*{SUFFIX}"):
        try:
            modified = other.stat().st_mtime
        except OSError:
            # A link to nothing, or a session that has just been deleted.
            continue
        if other != path and modified > latest_time:
            latest, latest_time = other, modified
    return latest


def _invalid(problem: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, f"transcript_path: {problem}")


@contextlib.contextmanager
def private_copy(transcript: Path) -> Iterator[PrivateCopy]:
    """Copy a transcript into a temporary home, which is removed at the end. `transcript` is as `find` returned it.

    Raises `invalid_arguments` where the path no longer leads to such a file, and where
    the session holds nothing but its hand-over.
    """
    with temporary_directory(TRANSFER_PREFIX) as home:
        copy = home / ".claude/projects" / transcript.parent.name / transcript.name
        copy.parent.mkdir(parents=True)
        with _open_transcript(transcript) as source, copy.open("wb") as target:
            contents = _copy_without_hand_over(source, target)
            contents.bytes = source.tell()
        if not contents.turns:
            raise _invalid(f"{transcript} holds nothing that could be handed over")
        yield PrivateCopy(home, copy, contents)


def _copy_without_hand_over(source: BinaryIO, target: BinaryIO) -> Contents:
    contents = Contents()
    calls: set[str] = set()
    in_hand_over = False
    for line in source:
        row = parse_message(line)
        if row and begins_turn(row):
            in_hand_over = COMMAND in text_of(row)
        if in_hand_over or (row and _is_call(row, calls)):
            continue
        target.write(line)
        if row:
            contents.add(row)
    return contents


def _is_call(row: JsonObject, calls: set[str]) -> bool:
    """Whether this is a call of the tool, whose id is then added to `calls`, or the result of one of these."""
    for block in blocks(row):
        if str(block.get("name")).endswith(TOOL):
            calls.add(str(block.get("id")))
            return True
        use = block.get("tool_use_id")
        if isinstance(use, str) and use in calls:
            return True
    return False


def _without_tags(words: str) -> str:
    """The words of a slash command as the user typed them."""
    name = _between(words, "<command-name>", "</command-name>")
    if name is None:
        return words
    arguments = _between(words, "<command-args>", "</command-args>")
    return f"{name} {arguments or ''}".strip()


def _between(words: str, begin: str, end: str) -> str | None:
    """What is between the first two of these; None where one is missing. Linear, whatever the words are."""
    rest = words.partition(begin)[2]
    text, found, _ = rest.partition(end)
    return text if found else None
