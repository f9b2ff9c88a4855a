"""What each run took, for good: `<state>/usage/YYYY-MM.jsonl`, one line for each run that has ended. Standard library.

A record of a job is dropped some day, its line is not. It holds nothing that the user or the
model wrote. The month is that of the run's end, UTC.

Invariants: a line is appended by one write, so that the lines of many processes do not mix,
and never changed. Of several lines of one job the first counts. A line that cannot be read
counts as damaged, and harms no other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from codex_counsel.contract.envelope import EnvelopeDict, Usage
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.jobs.spec import MAX_EPOCH_SECONDS, Spec
from codex_counsel.system.files import UnsafeDirectoryError, make_private, open_private
from codex_counsel.system.json_values import Json, JsonObject

FOLDER = "usage"
MAX_LINE = 65_536
"""Bytes; a path has at most 4,096, of which JSON makes six times as many."""
MAX_COUNT = 10**15
"""More tokens, or milliseconds, than any run takes: such a number was not written by us."""
_MONTH = re.compile(r"\d{4}-\d\d\.jsonl", re.ASCII)
_JOB = re.compile(JOB_ID)


@dataclass(frozen=True)
class Entry:
    """One run. `ended` is in epoch seconds. `code` is that of the error of a run that did not complete."""

    job_id: str
    ended: float
    tool: str
    status: str
    workspace: str
    model: str | None = None
    effort: str | None = None
    code: str | None = None
    elapsed_ms: int = 0
    usage: Usage | None = None


@dataclass
class Ledger:
    """What was read: the runs by their job ids, and how many lines are damaged and files cannot be read."""

    entries: dict[str, Entry] = field(default_factory=dict)
    damaged: int = 0
    unreadable: int = 0


def line_of(spec: Spec, outcome: EnvelopeDict, ended: float) -> JsonObject:
    """The line of a run that has this terminal envelope and ended then (epoch seconds)."""
    meta = outcome["meta"]
    error = outcome.get("error")
    elapsed_ms = meta.get("elapsed_ms")
    line: JsonObject = {
        "job_id": spec.job_id,
        "ended": _utc(ended),
        "tool": spec.tool,
        "status": outcome["status"],
        "workspace": spec.workspace,
        "model": meta.get("model"),
        "effort": meta.get("effort"),
        "code": error.get("code") if isinstance(error, dict) else None,
        # Negative where the clock was set back during the run.
        "elapsed_ms": max(elapsed_ms, 0) if isinstance(elapsed_ms, int) else 0,
        "tokens": meta.get("usage"),
    }
    return {name: value for name, value in line.items() if value is not None}


def append(state: str | os.PathLike[str], line: JsonObject) -> None:
    """Add the line of a run. Where it cannot be written it is lost: the ledger must cost no result."""
    folder = Path(state, FOLDER)
    with contextlib.suppress(OSError, UnsafeDirectoryError):
        make_private(folder)
        # ASCII, so that a terminal shows what is there.
        text = json.dumps(line, ensure_ascii=True)
        month = str(line["ended"])[:7]
        _append(folder / f"{month}.jsonl", text.encode("ascii") + b"\n")


def _append(file: Path, line: bytes) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_private(str(file), flags)
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            return
        # A full disk may have left a part of a line, which must not swallow this one.
        if info.st_size and os.pread(descriptor, 1, info.st_size - 1) != b"\n":
            line = b"\n" + line
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read(state: Path, since: float) -> Ledger:
    """The runs that ended at `since` (epoch seconds) or later. Files of earlier months are not opened."""
    ledger = Ledger()
    begin = _utc(since)
    for file in _files(state, since):
        try:
            _add_file(ledger, file, begin)
        except OSError:
            ledger.unreadable += 1
    return ledger


def _add_file(ledger: Ledger, file: Path, begin: str) -> None:
    for line in _lines(file):
        try:
            raw = json.loads(line.decode("ascii"))
            if _is_before(raw, begin):
                continue
            entry = parse(raw)
        except (ValueError, RecursionError):
            ledger.damaged += 1
        else:
            ledger.entries.setdefault(entry.job_id, entry)


def _is_before(raw: Json, begin: str) -> bool:
    """Whether the line is older. Decides by the text, which has a fixed form: most lines of a month may be older."""
    if not isinstance(raw, dict):
        return False
    ended = raw.get("ended")
    return isinstance(ended, str) and ended < begin


def _files(state: Path, since: float) -> list[Path]:
    """In the order of the months."""
    first = f"{_month(since)}.jsonl"
    try:
        names = sorted(os.listdir(state / FOLDER))  # noqa: PTH208  # only names are needed
    except OSError:
        return []
    return [
        state / FOLDER / name
        for name in names
        if _MONTH.fullmatch(name) and name >= first
    ]


def _lines(file: Path) -> Iterator[bytes]:
    """The lines that are not blank; one that is too long comes in parts, none of which is an entry.

    Raises OSError, also for what is no regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(file, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        while line := stream.readline(MAX_LINE):
            if line.strip():
                yield line


def parse(line: Json) -> Entry:
    """The run of a line. Raises ValueError for what is no such line."""
    match line:
        case {
            "job_id": str(job_id),
            "ended": str(ended),
            "tool": str(tool),
            "status": str(status),
            "workspace": str(workspace),
        } if _JOB.fullmatch(job_id):
            return Entry(
                job_id=job_id,
                ended=_moment(ended),
                tool=tool,
                status=status,
                workspace=workspace,
                model=_text(line, "model"),
                effort=_text(line, "effort"),
                code=_text(line, "code"),
                elapsed_ms=_count(line, "elapsed_ms"),
                usage=_usage(line.get("tokens")),
            )
    raise ValueError("no entry")


def _moment(text: str) -> float:
    try:
        seconds = datetime.fromisoformat(text).timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from None
    if not 0 <= seconds < MAX_EPOCH_SECONDS:
        raise ValueError("no time of a run")
    return seconds


def _text(line: Mapping[str, Json], name: str) -> str | None:
    value = line.get(name)
    if isinstance(value, str | None):
        return value
    raise ValueError(f"{name} is no text")


def _count(line: Mapping[str, Json], name: str) -> int:
    value = line.get(name, 0)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    raise ValueError(f"{name} is no count")


def _usage(tokens: Json) -> Usage | None:
    if tokens is None:
        return None
    if not isinstance(tokens, dict):
        raise ValueError("tokens are no object")  # noqa: TRY004  # what the caller expects
    return Usage(
        input=_count(tokens, "input"),
        cached_input=_count(tokens, "cached_input"),
        output=_count(tokens, "output"),
        reasoning=_count(tokens, "reasoning"),
    )


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _month(seconds: float) -> str:
    return time.strftime("%Y-%m", time.gmtime(seconds))
