"""Compare the stored diffs of delegated tasks, file by file. No model, no Codex, no git and no live tree is asked.

Imports as little as `results`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

from codex_counsel.contract.envelope import (
    Attempt,
    CheckResult,
    DiffFile,
    Envelope,
    EnvelopeDict,
    Usage,
    completed,
)
from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import TERMINAL, RunStatus
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.summary import Row
from codex_counsel.services import choosing
from codex_counsel.services.checking import parse_envelope
from codex_counsel.services.diff_files import FileDiff, read_diff
from codex_counsel.system.files import read_json_or_none
from codex_counsel.system.json_values import Json
from codex_counsel.system.text import one_line, size

TOOL = "codex-counsel compare"
MAX_JOBS = 8
MAX_FILES = 2_000
"""Files that a comparison lists; those that differ go first."""
MAX_FILE_BYTES = 100_000
"""Bytes of one version of a file."""
MAX_BYTES = 4_000_000
"""Bytes of all diffs together."""
MAX_SUBJECT = 300


@dataclass(kw_only=True)
class ComparedJob:
    """A task. `label` names it in this comparison: the number of the attempt, or its place on the command line.

    `problem` is why it has no diff; then `diffstat` is absent. `same_as` are the tasks with
    the very same diff, `shared_files` counts the files that another task left in the same
    state. `changed_lines` are those outside tests, where they were counted.
    """

    label: str
    job_id: str
    status: RunStatus
    subject: str
    workspace: str
    problem: str | None = None
    error: str | None = None
    rank: int | None = None
    tie: bool | None = None
    why: str | None = None
    judge_rank: int | None = None
    judge_reason: str | None = None
    check: CheckResult | None = None
    diffstat: str | None = None
    diff_path: str | None = None
    base_sha: str | None = None
    files: int = 0
    added: int = 0
    deleted: int = 0
    changed_lines: int | None = None
    same_as: list[str] = field(default_factory=list)
    shared_files: int = 0
    model: str | None = None
    effort: str | None = None
    usage: Usage | None = None
    elapsed_ms: int | None = None


@dataclass(kw_only=True)
class Version:
    """What the tasks `labels` made of a file. `omitted` says which part of `diff` is not here."""

    labels: list[str]
    status: str
    added: int
    deleted: int
    diff: str
    old_path: str | None = None
    sensitive: bool | None = None
    build: bool | None = None
    omitted: str | None = None


@dataclass(kw_only=True)
class ComparedFile:
    """A file that some task changed, and those that did not (`untouched`). `same`: all left it in the same state."""

    path: str
    same: bool
    versions: list[Version]
    untouched: list[str]


@dataclass(kw_only=True)
class Comparison:
    """`files` are sorted by path; `differing` and `same` count all of them, also those that `files` has no room for."""

    jobs: list[ComparedJob]
    files: list[ComparedFile]
    differing: int
    same: int
    notes: list[str]

    @classmethod
    def parse(cls, raw: Json) -> Comparison:
        """From the `data` of an envelope. Raises ValueError for anything else."""
        comparison: Comparison = read(cls, raw, "data")
        return comparison


def compare(store: Store, names: Sequence[str]) -> EnvelopeDict:
    """The comparison of the tasks that these ids, or their first digits, name. Its data is a `Comparison`.

    A task of several attempts stands for all of these. Raises `invalid_arguments` for more
    than eight tasks and for fewer than two diffs, `job_running`, and as `choosing.job_id`.
    """
    sides = _labelled(_chosen(store, names))
    with_diff = [side for side in sides if side.result is not None]
    if len(sides) > MAX_JOBS:
        message = (
            f"JOB: these are {len(sides)} tasks, and at most {MAX_JOBS} can be compared"
        )
        raise CounselError(Code.INVALID_ARGUMENTS, message)
    if len(with_diff) < 2:
        raise _too_few(sides)

    files = _compare_files(with_diff)
    _note_agreement(with_diff)
    comparison = Comparison(
        jobs=[side.info for side in sides],
        files=files.shown,
        differing=files.differing,
        same=files.same,
        notes=[*_notes_of_starts(with_diff), *files.notes],
    )
    return completed(TOOL, _summary(comparison), asdict(comparison)).wire()


def has_attempts(store: Store, row: Row) -> bool:
    """Whether a row of `results.job_list` is an ended task of several attempts."""
    if row["status"] not in TERMINAL:
        return False
    return store.job(row["job_id"]).spec().kind == "attempts"


# --- the tasks


@dataclass
class _Side:
    """A task: what the comparison shows of it, and its record. Without a result there is no diff."""

    info: ComparedJob
    job: Job | None = None
    spec: Spec | None = None
    result: DelegateResult | None = None

    @cached_property
    def files(self) -> list[FileDiff]:
        if self.job is None or self.result is None:
            return []
        return read_diff(self.job.path, self.result)

    @cached_property
    def states(self) -> dict[bytes, bytes | None]:
        """The state of each changed file, by its name."""
        return {file.name: file.state for file in self.files}

    @cached_property
    def rows(self) -> dict[str, DiffFile]:
        """What the result says about its first files, by path."""
        rows = self.result.files if self.result else []
        return {str(row["path"]): DiffFile(**row) for row in rows}


def _chosen(store: Store, names: Sequence[str]) -> list[_Side]:
    """The tasks in the order in which they are named, each once; attempts in the order of their rank."""
    sides: dict[str, _Side] = {}
    for name in names:
        for side in _sides_of(store, store.job(choosing.job_id(store, name))):
            sides.setdefault(side.info.job_id, side)
    return list(sides.values())


def _sides_of(store: Store, job: Job) -> Iterator[_Side]:
    spec = job.spec()
    if spec.kind not in ("delegate", "attempts"):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"JOB: {job.id} is no delegated task ({spec.kind}), so it has no diff to compare",
            repair="`codex-counsel jobs` lists the runs with their kinds.",
        )
    outcome = recovery.outcome(job)
    if outcome is None:
        raise CounselError(Code.JOB_RUNNING, f"Job {job.id} has not finished")
    envelope = parse_envelope(outcome)
    if spec.kind == "delegate":
        yield _side(job, spec, envelope)
        return
    for attempt in envelope.attempts or ():
        yield _side_of_attempt(store, spec, attempt)


def _side_of_attempt(store: Store, parent: Spec, attempt: Attempt) -> _Side:
    side: _Side | None = None
    problem = "there is no record of it"
    if attempt.job_id:
        try:
            job = store.job(attempt.job_id)
            outcome = recovery.outcome(job)
            if outcome is not None:
                side = _side(job, job.spec(), parse_envelope(outcome))
        except CounselError as error:
            if error.code == Code.JOB_CORRUPT:
                problem = "its record cannot be read"
            elif error.code != Code.JOB_NOT_FOUND:
                raise
    if side is None:
        side = _side_without_record(parent, attempt, problem)
    info = side.info
    info.label = str(attempt.attempt)
    info.rank, info.tie, info.why = attempt.rank, attempt.tie, attempt.why
    info.judge_rank, info.judge_reason = attempt.judge_rank, attempt.judge_reason
    info.changed_lines = attempt.changed_lines
    # It may have a base that was checked once for all.
    info.check = attempt.check or info.check
    return side


def _side_without_record(parent: Spec, attempt: Attempt, problem: str) -> _Side:
    info = ComparedJob(
        label="",
        job_id=attempt.job_id or f"attempt {attempt.attempt} of {parent.job_id}",
        status=attempt.status,
        subject=one_line(parent.subject, MAX_SUBJECT),
        workspace=parent.workspace,
        problem=problem,
        error=attempt.error,
        model=attempt.model,
        effort=attempt.effort,
        usage=attempt.usage,
    )
    return _Side(info)


def _side(job: Job, spec: Spec, envelope: Envelope) -> _Side:
    result = DelegateResult.load(job.path)
    info = ComparedJob(
        label="",
        job_id=job.id,
        status=envelope.status,
        subject=one_line(spec.subject, MAX_SUBJECT),
        workspace=spec.workspace,
        error=envelope.error.code if envelope.error else None,
        check=envelope.check,
        model=envelope.meta.model,
        effort=envelope.meta.effort,
        usage=envelope.meta.usage,
        elapsed_ms=envelope.meta.elapsed_ms,
    )
    if result is None or result.lost:
        info.problem = "it left no diff"
        return _Side(info, job, spec)
    info.diffstat = result.diffstat or "no changes"
    info.diff_path = result.diff_path
    info.base_sha = result.base_sha or None
    info.files = len(result.names)
    return _Side(info, job, spec, result)


def _labelled(sides: list[_Side]) -> list[_Side]:
    """With a label for each: the numbers of the attempts, if these are all of one task, else their places."""
    labels = {side.info.label for side in sides}
    if "" in labels or len(labels) < len(sides):
        for number, side in enumerate(sides, 1):
            side.info.label = str(number)
    return sides


def _too_few(sides: Iterable[_Side]) -> CounselError:
    missing = []
    for side in sides:
        if side.info.problem:
            why = side.info.error or side.info.status
            missing.append(f"{side.info.job_id} ({why}): {side.info.problem}")
    message = "JOB: two different tasks with a diff are needed"
    if missing:
        message += f"; {'; '.join(missing)}"
    return CounselError(
        Code.INVALID_ARGUMENTS,
        message,
        repair="Name two to eight tasks, or one with several attempts; `codex-counsel jobs` lists them.",
    )


# --- their files


@dataclass
class _Files:
    shown: list[ComparedFile]
    differing: int
    same: int
    notes: list[str]


def _compare_files(sides: Sequence[_Side]) -> _Files:
    """All files that a task changed; the texts of those that differ are the first to get room."""
    changed: dict[bytes, list[tuple[_Side, FileDiff]]] = {}
    for side in sides:
        for file in side.files:
            changed.setdefault(file.name, []).append((side, file))
            added, deleted = file.counts()
            side.info.added += added
            side.info.deleted += deleted

    differing: list[bytes] = []
    same: list[bytes] = []
    for name, diffs in changed.items():
        states = {file.state for _, file in diffs}
        is_same = len(diffs) == len(sides) and len(states) == 1 and None not in states
        if is_same:
            same.append(name)
        else:
            differing.append(name)

    texts = _Texts()
    shown = []
    for name in [*sorted(differing), *sorted(same)][:MAX_FILES]:
        shown.append(_compared(changed[name], sides, texts))
    shown.sort(key=lambda file: file.path)
    left_out = len(changed) - len(shown)
    if left_out:
        texts.notes.append(f"{left_out:,} of {len(changed):,} files are not listed")
    return _Files(shown, len(differing), len(same), texts.notes)


def _compared(
    diffs: list[tuple[_Side, FileDiff]], sides: Sequence[_Side], texts: _Texts
) -> ComparedFile:
    groups: dict[object, list[tuple[_Side, FileDiff]]] = {}
    for side, file in diffs:
        # What was not read is like nothing else.
        key = file.state or side.info.label
        groups.setdefault(key, []).append((side, file))
    versions = [_version(group, texts) for group in groups.values()]
    changing = {side.info.label for side, _ in diffs}
    untouched = [side.info.label for side in sides if side.info.label not in changing]
    _, first = diffs[0]
    return ComparedFile(
        path=first.path,
        same=len(versions) == 1 and not untouched,
        versions=versions,
        untouched=untouched,
    )


def _version(group: list[tuple[_Side, FileDiff]], texts: _Texts) -> Version:
    side, file = group[0]
    added, deleted = file.counts()
    row = side.rows.get(file.path) or DiffFile(path=file.path, status=file.status)
    diff, omitted = texts.of(file)
    return Version(
        labels=[each.info.label for each, _ in group],
        status=file.status,
        added=added,
        deleted=deleted,
        diff=diff,
        old_path=_old_path(file),
        sensitive=row.sensitive,
        build=row.build,
        omitted=omitted,
    )


def _old_path(file: FileDiff) -> str | None:
    if file.old_name is None:
        return None
    return FileDiff(file.old_name, None).path


@dataclass
class _Texts:
    """Hands out the texts of diffs, as long as there is room."""

    room: int = MAX_BYTES
    notes: list[str] = field(default_factory=list)

    def of(self, file: FileDiff) -> tuple[str, str | None]:
        """The text of the diff, and what is missing of it."""
        if not file.sections:
            self._note(
                "not all of a diff could be read, so some files count as different"
            )
            return "", "this part of the diff could not be read"
        if self.room <= 0:
            self._note("the diffs are longer than a comparison can show")
            return "", "left out, because the diffs are too long"
        text, left_out = file.text(min(MAX_FILE_BYTES, self.room))
        self.room -= size(text)
        if not left_out:
            return text, None
        self._note("some diffs are shown in part; diff_path has all of each")
        return text, f"{left_out:,} more bytes"

    def _note(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)


# --- what they have in common


def _note_agreement(sides: Sequence[_Side]) -> None:
    for side in sides:
        shared = set()
        for other in sides:
            if other is side:
                continue
            common = _common(side, other)
            shared |= common
            # Whatever could not be read is not known to be the same.
            if len(common) == len(side.states) == len(other.states):
                side.info.same_as.append(other.info.label)
        side.info.shared_files = len(shared)


def _common(side: _Side, other: _Side) -> set[bytes]:
    """The files that both left in the same state."""
    names = set()
    for name, state in side.states.items():
        if state is not None and other.states.get(name) == state:
            names.add(name)
    return names


def _notes_of_starts(sides: Sequence[_Side]) -> Iterator[str]:
    """What is to be known where the tasks did not begin with the same files."""
    repositories = {
        str((side.spec.delegate or {}).get("repository")) for side in sides if side.spec
    }
    if len(repositories) > 1:
        yield f"these tasks are of different repositories: {', '.join(sorted(repositories))}"
    starts = set()
    for side in sides:
        if side.job:
            seed = read_json_or_none(side.job.path / "seed.json")
            starts.add(str(seed.get("base_tree")) if isinstance(seed, dict) else None)
    if len(starts) > 1:
        yield "these tasks began with different files, so one diff may lack what another had from the start"


def _summary(comparison: Comparison) -> str:
    total = comparison.differing + comparison.same
    files = "1 changed file" if total == 1 else f"{total:,} changed files"
    return (
        f"{len(comparison.jobs)} tasks, {files}: {comparison.same:,} the same in all, "
        f"{comparison.differing:,} different"
    )
