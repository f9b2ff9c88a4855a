"""What reviews were sent, by content: `<state>/findings/NAME-HASH/reviews.jsonl`, a line for each review.

A content is written `MODE:OBJECTID`, in git's spelling; that of no file is all zeros.
A state of a file is its path with its content. What counts as seen rests on contents
alone, and on no line number, branch or time.

Invariants: lines are appended under the lock beside the file; the part of one that a
killed writer leaves is cut off by the next. A reader takes no lock. A line counts
only if all of it is as it should be: what is lost is sent again, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast, get_args

from codex_counsel.contract.vocabulary import JOB_ID, ScopeKind
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings import ledger
from codex_counsel.findings.identity import recorded_path
from codex_counsel.findings.lines import append_lines
from codex_counsel.git.names import display_name
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    check_private,
    lock_file,
    make_private,
    open_private,
    read_regular,
    remove_drafts,
    write_atomically,
)
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "reviews.jsonl"
MAX_REVIEWS = 200
MAX_BYTES = 8 * 1024 * 1024
"""Bytes of the file, above which the oldest reviews are dropped."""
MAX_LINE = 3 * 1024 * 1024
"""Bytes of the files of one review, above which the last of them are left out."""
LOCK_PATIENCE = 10.0
MAX_STEPS = 2_000_000
"""States that are looked at for all files of a change; files that come later count as not seen."""
MAX_ANCESTRY = 20
"""Base commits of earlier reviews that are compared with the present one. Each costs a process."""
ABSENT_MODE = "000000"
REGULAR_MODES = ("100644", "100755")

_JOB_ID = re.compile(JOB_ID)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_CONTENT = re.compile(r"[0-7]{6}:[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCOPES = frozenset(get_args(ScopeKind))


def content_of(mode: str, object_id: str) -> str:
    """A content as it is recorded; empty where it is not known, as that of a file that git has not stored."""
    content = f"{mode}:{object_id}"
    return content if _is_content(content) else ""


def _is_content(text: str) -> bool:
    if not _CONTENT.fullmatch(text):
        return False
    mode, _, object_id = text.partition(":")
    is_absent = mode == ABSENT_MODE
    return is_absent == (not object_id.strip("0"))


class State(NamedTuple):
    """A file with a content: its name from the root, each byte as a Latin-1 character, and the content."""

    path: str
    content: str

    @property
    def name_on_record(self) -> str:
        """Its name as findings have it."""
        return recorded_path(display_name(self.path.encode("latin-1")))


class Step(NamedTuple):
    """What a review was sent of a file: the difference between two states of it. `old` may have another name."""

    old: State
    new: State

    def touches(self, file: str) -> bool:
        """Whether one of its states has this name on record."""
        return file in (self.old.name_on_record, self.new.name_on_record)


@dataclass(frozen=True, kw_only=True)
class PastReview:
    """A completed review. `ended` is UTC, `base` names what a branch or range was compared with.

    `sent` are the files that it was sent whole, `kept` those that earlier ones had been
    sent. `complete`: together they are all of the branch or range.
    """

    job: str
    ended: str
    scope: ScopeKind
    base: str | None = None
    base_sha: str | None = None
    head_sha: str | None = None
    complete: bool = False
    sent: tuple[Step, ...] = ()
    kept: tuple[Step, ...] = ()

    def without(self, file: str | None) -> PastReview:
        """The same review, as if it had not been sent the file with this name on record; None: any file."""
        if file is None:
            return replace(self, sent=(), kept=())
        sent = tuple(step for step in self.sent if not step.touches(file))
        kept = tuple(step for step in self.kept if not step.touches(file))
        return replace(self, sent=sent, kept=kept)

    def to_json(self) -> JsonObject:
        return {
            "job": self.job,
            "ended": self.ended,
            "scope": self.scope,
            "base": self.base,
            "base_sha": self.base_sha,
            "head_sha": self.head_sha,
            "complete": self.complete,
            "sent": [_as_row(step) for step in self.sent],
            "kept": [_as_row(step) for step in self.kept],
        }

    @classmethod
    def from_json(cls, raw: Json) -> PastReview:
        """The reverse of `to_json`. Raises ValueError for anything that it would not have written."""
        if not isinstance(raw, dict):
            raise ValueError("no object")  # noqa: TRY004  # damaged, like any other line
        return cls(
            job=_matching(_JOB_ID, raw.get("job")),
            ended=_matching(_TIME, raw.get("ended")),
            scope=_scope(raw.get("scope")),
            base=_base(raw.get("base")),
            base_sha=_object_id(raw.get("base_sha")),
            head_sha=_object_id(raw.get("head_sha")),
            complete=raw.get("complete") is True,
            sent=_steps(raw.get("sent")),
            kept=_steps(raw.get("kept")),
        )


def _as_row(step: Step) -> list[str]:
    row = [step.new.path, step.old.content, step.new.content]
    if step.old.path != step.new.path:
        row.append(step.old.path)
    return row


def _matching(pattern: re.Pattern[str], value: Json) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError("a value is damaged")
    return value


def _object_id(value: Json) -> str | None:
    return None if value is None else _matching(_OBJECT_ID, value)


def _scope(value: Json) -> ScopeKind:
    if not isinstance(value, str) or value not in _SCOPES:
        raise ValueError("a scope is damaged")
    return cast("ScopeKind", value)


def _base(value: Json) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError("a base is damaged")
    return value


def _steps(rows: Json) -> tuple[Step, ...]:
    if not isinstance(rows, list):
        raise ValueError("a list of files is damaged")  # noqa: TRY004  # as above
    return tuple(map(_step, rows))


def _step(row: Json) -> Step:
    match row:
        case [str(path), str(old), str(new)]:
            old_path = path
        case [str(path), str(old), str(new), str(old_path)]:
            pass
        case _:
            raise ValueError("a file is damaged")
    are_contents = _is_content(old) and _is_content(new)
    if not are_contents or not _is_path(path) or not _is_path(old_path):
        raise ValueError("a file is damaged")
    return Step(State(old_path, old), State(path, new))


def _is_path(text: str) -> bool:
    return bool(text) and max(text) <= "\xff"


# --- the file


@dataclass(frozen=True)
class ReviewLog:
    """The reviews on record in `directory`, which is that of the ledger; it need not exist."""

    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / FILE

    def read(self) -> list[PastReview]:
        """The reviews, oldest first.

        None where another user could have written them, and where their findings are lost:
        what is not on record cannot be carried over.
        """
        try:
            check_private(self.directory)
        except (OSError, UnsafeDirectoryError):
            return []
        if not (self.directory / ledger.FILE).exists():
            return []
        return [review for _, review in self._lines()]

    def remember(self, review: PastReview) -> None:
        """Add a review, once. Raises `storage_failed`; then its files will be sent again."""
        with self._locked():
            # A review without findings leaves a ledger too: `read` asks for one.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            os.close(open_private(str(self.directory / ledger.FILE), flags))
            self._append(review)

    def unsee(self, file: str | None) -> None:
        """Let no state of a file count as seen, by its name on record; None: of no file. Raises `storage_failed`."""
        with self._locked():
            lines = []
            for data, review in self._lines():
                rest = review.without(file)
                lines.append(data if rest == review else _as_line(rest))
            if self._size():
                write_atomically(self.file, lines, durable=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of both files on record. Raises `storage_failed`, also for what fails meanwhile."""
        try:
            make_private(self.directory.parent)
            make_private(self.directory)
            with self._lock():
                yield
        except OSError as error:
            raise error_of(
                Code.STORAGE_FAILED, "What was reviewed cannot be recorded", error
            ) from None
        except UnsafeDirectoryError as error:
            raise CounselError(Code.STORAGE_FAILED, str(error)) from None

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = self.directory / "lock"
        lock = lock_file(path, patience=LOCK_PATIENCE)
        if lock is None:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"Another process holds {path} for more than {LOCK_PATIENCE:g} seconds",
            )
        try:
            yield
        finally:
            os.close(lock)

    def _append(self, review: PastReview) -> None:
        lines = self._lines()
        # A run may be concluded twice.
        if any(earlier.job == review.job for _, earlier in lines):
            return
        line = _as_line(review)
        if self._size() + len(line) <= MAX_BYTES and len(lines) < MAX_REVIEWS:
            append_lines(self.file, line)
            return

        kept = [line]
        room = MAX_BYTES - len(line)
        for data, _ in reversed(lines[-MAX_REVIEWS + 1 :]):
            room -= len(data)
            if room < 0:
                break
            kept.append(data)
        remove_drafts(self.file)
        write_atomically(self.file, reversed(kept), durable=True)

    def _size(self) -> int:
        """Bytes of the file as it is, with what is damaged in it."""
        try:
            return self.file.lstat().st_size
        except FileNotFoundError:
            return 0

    def _lines(self) -> list[tuple[bytes, PastReview]]:
        """Each undamaged line, with its end, and what it says."""
        lines: list[tuple[bytes, PastReview]] = []
        data = read_regular(self.file, 2 * MAX_BYTES) or b""
        for line in data.splitlines():
            try:
                lines.append((line + b"\n", PastReview.from_json(json.loads(line))))
            except (ValueError, RecursionError):
                continue
        return lines


def _as_line(review: PastReview) -> bytes:
    """One line of ASCII, so that a terminal shows what is there, with as many files as MAX_LINE allows."""
    raw = review.to_json()
    room = MAX_LINE
    for name in ("sent", "kept"):
        rows = []
        for row in raw[name]:
            room -= len(json.dumps(row)) + len(", ")
            if room < 0:
                break
            rows.append(row)
        raw[name] = rows
    return json.dumps(raw).encode("ascii") + b"\n"


# --- what counts as seen


class SeenBy(NamedTuple):
    """The newest review that was sent a state. `step_by_step`: reviews were sent all that lies between."""

    review: PastReview
    step_by_step: bool


class SeenStates:
    """Which states of files were seen, for a change of the kind `scope` against the base of this name.

    A state counts as seen where steps that reviews were sent lead to it from the old
    side of the change. That there is a file with this content counts as seen too where
    a review of the same kind and base was sent it, whatever the old side is by now,
    provided that the base has only moved forward since (`is_ancestor`): what was in the
    base then need not have been reviewed.
    """

    def __init__(
        self,
        reviews: Iterable[PastReview],
        scope: ScopeKind,
        base: str | None,
        is_ancestor: Callable[[str], bool],
    ) -> None:
        self._steps: dict[State, set[State]] = defaultdict(set)
        self._names: dict[str, dict[str, int]] = defaultdict(dict)
        self._sent_by: dict[State, PastReview] = {}
        self._kept_by: dict[State, PastReview] = {}
        self._same_base: dict[State, list[str]] = defaultdict(list)
        self._is_ancestor = is_ancestor
        self._ancestry: dict[str, bool] = {}
        self._steps_left = MAX_STEPS
        for number, review in enumerate(reviews):
            is_same = review.scope == scope and base is not None and review.base == base
            for step in (*review.sent, *review.kept):
                self._steps[step.old].add(step.new)
                self._names[step.new.path][step.new.content] = number
                is_there = not step.new.content.startswith(ABSENT_MODE)
                if is_same and is_there and review.base_sha:
                    self._same_base[step.new].append(review.base_sha)
            self._sent_by.update((step.new, review) for step in review.sent)
            self._kept_by.update((step.new, review) for step in review.kept)

    def seen_by(self, old: State, new: State) -> SeenBy | None:
        """Who was sent the new side of a change; None if it does not count as seen."""
        if new not in self._sent_by and new not in self._kept_by:
            return None
        step_by_step = self._leads_to(old, new)
        if not step_by_step and not self._has_same_base(new):
            return None
        return SeenBy(self.newest_of(new), step_by_step)

    def newest_of(self, state: State) -> PastReview:
        """The newest review that was sent a state that some review saw, or else that kept it."""
        return self._sent_by.get(state) or self._kept_by[state]

    def is_newest(self, state: State) -> bool:
        """Whether no later review saw the file with another content."""
        recorded = self._names[state.path]
        return recorded[state.content] == max(recorded.values())

    def latest_contents(self, old: State, path: str) -> list[str]:
        """The contents of regular files that were seen under this name, newest first."""
        recorded = self._names.get(path, {})
        newest_first = sorted(recorded, key=lambda content: -recorded[content])
        found = []
        for content in newest_first:
            is_regular = content.partition(":")[0] in REGULAR_MODES
            if is_regular and self.seen_by(old, State(path, content)):
                found.append(content)
        return found

    def _leads_to(self, old: State, new: State) -> bool:
        visited = {old}
        pending = [old]
        while pending and self._steps_left > 0:
            for state in self._steps.get(pending.pop(), ()):
                self._steps_left -= 1
                if state == new:
                    return True
                if state not in visited:
                    visited.add(state)
                    pending.append(state)
        return False

    def _has_same_base(self, state: State) -> bool:
        for base_sha in reversed(self._same_base.get(state, ())):
            if base_sha not in self._ancestry:
                if len(self._ancestry) == MAX_ANCESTRY:
                    continue
                self._ancestry[base_sha] = self._is_ancestor(base_sha)
            if self._ancestry[base_sha]:
                return True
        return False
