"""A result that came from another machine, made into jobs of this one.

What can be derived again here is not believed: the diff of a task (`verified_diff.py`), and of
a review which quotations stand in the reviewed state, what was known before, and the
verdict. The rest is the word of whoever ran it, like the model's own: kinds and sizes of all
values are checked, and texts are cleaned and masked.

Jobs get other ids here, made of the pack's and their own, and of a job that another one
started also of that one's: so no result can stand for a job of this machine or of another
result, and one that ran under the same state directory can be taken too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from codex_counsel.attempts.conclude import MAX_FILES
from codex_counsel.contract.envelope import (
    Attempt,
    CodexUsed,
    DiffFile,
    Envelope,
    EnvelopeDict,
    Finding,
    Meta,
    Usage,
    Workspace,
)
from codex_counsel.contract.settings import Settings
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.delegate.record import WORK, DelegateResult, DelegateSpec
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.git.fetch import ObjectStore
from codex_counsel.git.repo import Repo
from codex_counsel.jobs import ledger as usage_ledger
from codex_counsel.jobs.budget import mark_cut_short
from codex_counsel.jobs.ledger import MAX_COUNT
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.taken import Origin
from codex_counsel.kind import ChildOutcome, EndedRun
from codex_counsel.packs.result import (
    EVENTS,
    MAX_SUBJECT,
    REPLY,
    RESULT,
    JobRecord,
    ResultFile,
    renamed,
)
from codex_counsel.packs.review_record import local_record
from codex_counsel.packs.verified_diff import Limits, take_diff
from codex_counsel.proof.record import ASSIGNMENTS, PROOF, ProofRecord
from codex_counsel.review import pull_request
from codex_counsel.review.conclude import conclude_reply
from codex_counsel.review.record import ReviewRecord
from codex_counsel.review.testimony import Testimony
from codex_counsel.system.files import open_private, write_atomically
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line

MAX_BINARY = 4_000_000_000
"""Bytes that git may make of the binary parts of a patch."""
OF_REVIEWS = ("verdict", "confidence", "findings", "resolved", "coverage")
OF_DIFFS = (
    "diff",
    "diff_exact",
    "diff_path",
    "diffstat",
    "files",
    "base_sha",
    "ignored",
    "planted",
)
OF_RUNNING = ("job_id", "poll_after_ms", "next", "progress")
META = (
    "session_id",
    "sandbox",
    "model",
    "effort",
    "effort_source",
    "usage",
    "usage_thread",
    "usage_proofs",
    "budget_reached",
    "elapsed_ms",
    "scope",
    "project_file",
    "isolation",
    "warnings",
    "server_version",
    "fingerprint",
)
"""What of the envelope's `meta` says how it was run, wherever that was."""


def id_here(pack: str, job_id: str, part: str | None = None) -> str:
    """The id that a job of another machine gets here, or `part`, a job that this one started."""
    names = [pack, job_id]
    if part is not None:
        names.append(part)
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:32]


def ids_here(result: ResultFile) -> dict[str, str]:
    """The ids that the jobs of a result get here, by those that they have in it."""
    ids = {part: id_here(result.pack, result.job, part) for part in result.jobs}
    ids[result.job] = id_here(result.pack, result.job)
    return ids


@dataclass
class Home:
    """What results are taken into: the jobs of this user, and the directory that a pack was made for.

    `sent` is when the pack was made (epoch seconds), `subject` what is known of the request;
    both None for a pack that was not noted here.
    """

    store: Store
    settings: Settings
    env: Mapping[str, str]
    workspace: str
    sent: float | None = None
    subject: str | None = None

    @cached_property
    def repo(self) -> Repo:
        """The repository around the workspace. Raises CounselError and OSError."""
        timeout = self.settings.git_timeout_seconds
        return Repo.open(Path(self.workspace), timeout, env=self.env)

    @property
    def limits(self) -> Limits:
        """How much of a diff is shown, and made."""
        return Limits(self.settings.max_delegate_diff_bytes, MAX_BINARY)


def build(result: ResultFile, hidden: Path, home: Home) -> list[str]:
    """Make the job directories below `hidden`; returns their ids, that of the job itself first.

    Raises `pack_invalid`, `workspace_invalid`, `worktree_failed` and `storage_failed`, and
    OSError where a file cannot be written. A review is put on record last of all.
    """
    ids = ids_here(result)
    building = _Building(result, hidden, home, ids)
    parts = [job_id for job_id in result.jobs if job_id != result.job]
    building.write_spec(result.job, parts)
    for job_id in parts:
        building.write_spec(job_id, [])
        building.finish(job_id)
    building.finish(result.job)
    return [ids[result.job], *(ids[job_id] for job_id in parts)]


def note_usage(result: ResultFile, hidden: Path, home: Home) -> None:
    """Put on record what the runs took. A run that is on record here under its own id is not counted again."""
    ids = ids_here(result)
    for job_id, record in result.jobs.items():
        gone = home.store.state / "gone" / f"{job_id}.json"
        ran_here = (home.store.directory / job_id).is_dir() or gone.exists()
        if not record.ran or ran_here:
            continue
        directory = hidden / ids[job_id]
        spec = Spec.parse(json.loads((directory / "spec.json").read_text("utf-8")))
        outcome = json.loads((directory / RESULT).read_text("utf-8"))
        line = usage_ledger.line_of(spec, outcome, record.ended)
        usage_ledger.append(home.store.state, line)


@dataclass
class _Building:
    """`ids` lead from job ids of the other machine to those here. `outcomes` are those of finished jobs."""

    result: ResultFile
    hidden: Path
    home: Home
    ids: Mapping[str, str]
    reviews: dict[str, ReviewRecord] = field(default_factory=dict)
    outcomes: list[ChildOutcome] = field(default_factory=list)

    def directory(self, job_id: str) -> Path:
        """Where the job is built. Its name is its id, by which a review is put on record."""
        return self.hidden / self.ids[job_id]

    # --- spec.json

    def write_spec(self, job_id: str, parts: list[str]) -> None:
        """Make the directory with its `spec.json`, `taken.json` and `lock`."""
        record = self.result.jobs[job_id]
        directory = self.directory(job_id)
        directory.mkdir(mode=0o700)
        os.close(open_private(str(directory / "lock"), os.O_WRONLY | os.O_CREAT))
        spec = self._spec(job_id, record, parts)
        text = json.dumps(spec.to_json(), ensure_ascii=False)
        write_atomically(directory / "spec.json", text, durable=True)
        here = [self.ids[part] for part in parts]
        Origin(
            pack=self.result.pack, job=job_id, digest=self.result.digest, parts=here
        ).store(directory)

    def _spec(self, job_id: str, record: JobRecord, parts: list[str]) -> Spec:
        home = self.home
        subject = record.subject
        if record.parent is None and home.subject is not None:
            subject = home.subject
        return Spec(
            job_id=self.ids[job_id],
            tool=record.tool,
            subject=one_line(clean(subject), MAX_SUBJECT),
            # The clock of the other machine may be ahead.
            created=min(record.created, record.ended, time.time()),
            argv=(),
            cwd=home.workspace,
            codex_home="",
            state=str(home.settings.state),
            scratch="",
            total=0,
            idle=0,
            slots=1,
            account="",
            backoff=0,
            ttl=home.settings.job_ttl,
            max_records=home.settings.job_max_count,
            workspace=home.workspace,
            meta={},
            children=tuple(self.ids[part] for part in parts),
            parent=self.ids[record.parent] if record.parent else None,
            **self._details(job_id, record),
        )

    def _details(self, job_id: str, record: JobRecord) -> JsonObject:
        """The fields of the job's kind, with the paths of this machine."""
        if record.kind == "consult":
            return {}
        if record.kind == "review":
            review = self._review_record(job_id, record)
            self.reviews[job_id] = review
            return {"review": review.to_json()}
        details: JsonObject = {"delegate": asdict(self._delegate_spec(job_id, record))}
        if record.kind == "proof":
            details["proof"] = {"review": self.ids[self.result.job]}
        if record.kind == "attempts":
            details["attempts"] = self._attempts(record)
        return details

    def _delegate_spec(self, job_id: str, record: JobRecord) -> DelegateSpec:
        repository, prefix = "", ""
        if self.result.has_diff(job_id):
            repo = self._needed_repo()
            repository = str(repo.common_dir)
            prefix = os.fsdecode(repo.prefix)
        check = record.details.get("check")
        if not isinstance(check, str | None):
            raise self.result.error("is damaged: check is no text")
        return DelegateSpec(
            workspace=self.home.workspace,
            repository=repository,
            git_timeout=self.home.settings.git_timeout_seconds,
            diff_limit=self.home.settings.max_delegate_diff_bytes,
            denied=(),
            prefix=prefix,
            check=check,
            check_base=record.details.get("check_base") is True,
        )

    def _attempts(self, record: JobRecord) -> JsonObject:
        """Which jobs are attempts. One that was not started has no job."""
        match record.details.get("attempts"):
            case {"jobs": list(jobs)}:
                judge = record.details["attempts"].get("judge")
            case _:
                raise self.result.error("is damaged: it does not name its attempts")
        known = [
            self.ids[job] for job in jobs if isinstance(job, str) and job in self.ids
        ]
        if not isinstance(judge, str) or judge not in self.ids:
            return {"jobs": known, "judge": None}
        return {"jobs": known, "judge": self.ids[judge]}

    def _needed_repo(self) -> Repo:
        try:
            return self.home.repo
        except OSError as error:
            raise CounselError(
                Code.WORKSPACE_INVALID,
                f"{self.home.workspace} cannot be used: {error.strerror}",
                repair="Name the directory of the repository with -C.",
            ) from None

    def _review_record(self, job_id: str, record: JobRecord) -> ReviewRecord:
        details = json.loads(renamed(json.dumps(record.details), self.ids))
        ledger = None
        with contextlib.suppress(CounselError, OSError):
            repository = Path(self.home.workspace)
            if details.get("frame") is not None:
                repository = self.home.repo.common_dir
            ledger = Ledger.of(self.home.settings.state, repository).directory
        try:
            review = local_record(details, self.home.workspace, ledger)
        except ValueError as error:
            raise self.result.error(f"is damaged: its review: {error}") from None
        return replace(review, objects=self._objects(job_id, review))

    def _objects(self, job_id: str, review: ReviewRecord) -> str:
        """Where the commits are of a pull request that was fetched here. They are kept as long as the record."""
        commits = []
        if review.frame and review.frame["state"] == "commit":
            commits = [
                sha for sha in (review.frame["base"], review.frame["head"]) if sha
            ]
        try:
            repo = self.home.repo
            if not commits or _has(repo, commits):
                return ""
            state = self.home.settings.state.resolve()
            name = Ledger.of(state, repo.common_dir).directory.name
            store = ObjectStore(state / pull_request.FOLDER / name, repo, self.home.env)
            if not _has(repo.with_objects(store.path), commits):
                return ""
            with store.changing():
                store.pin(self.ids[job_id], commits)
        except (CounselError, OSError):
            return ""
        return str(store.path)

    # --- result.json

    def finish(self, job_id: str) -> None:
        """Store what came of the job, and its files."""
        result, directory = self.result, self.directory(job_id)
        record = result.jobs[job_id]
        for name in (ASSIGNMENTS, PROOF):
            if result.path(job_id, name).is_file():
                stored = result.json(job_id, name, self.ids)
                write_atomically(directory / name, json.dumps(stored))
        if result.path(job_id, EVENTS).is_file():
            shutil.move(result.path(job_id, EVENTS), directory / EVENTS)
        self._check_proof(job_id, directory)
        envelope = self._envelope(job_id, record)
        diff = None
        if result.has_diff(job_id):
            diff = take_diff(
                result, job_id, self._needed_repo(), directory, self.home.limits
            )
        if diff:
            _add_diff(envelope, diff, self.home.store.directory / directory.name)
            self._store_work(diff, directory)
        if record.kind == "review" and envelope.ok:
            envelope = self._concluded_again(job_id, record, envelope)
        if envelope.attempts:
            self._show_real_diffs(envelope.attempts)
        wire = _masked(envelope.wire())
        file = directory / RESULT
        write_atomically(file, json.dumps(wire, ensure_ascii=False), durable=True)
        # The record is as old as the run.
        ended = min(record.ended, time.time())
        os.utime(file, (ended, ended))
        self.outcomes.append(ChildOutcome(directory.name, directory, wire))

    def _check_proof(self, job_id: str, directory: Path) -> None:
        """Refuse what decides a finding without a test that shows it."""
        proof = ProofRecord.load(directory)
        if proof is None or proof.proof.status == "inconclusive":
            return
        is_proof = self.result.jobs[job_id].kind == "proof"
        if not is_proof or not self.result.has_diff(job_id):
            raise self.result.error("is damaged: it has a proof without a test")

    def _store_work(self, diff: DelegateResult, directory: Path) -> None:
        diff.diff_path = str(self.home.store.directory / directory.name / "diff.patch")
        write_atomically(directory / WORK, json.dumps(asdict(diff)))

    def _envelope(self, job_id: str, record: JobRecord) -> Envelope:
        """The envelope as the other machine stored it, without what only a run of another kind has."""
        raw = self.result.json(job_id, RESULT, self.ids)
        try:
            told = Envelope.parse(raw)
        except ValueError as error:
            raise self.result.error(f"is damaged: {error}") from None
        is_whole = told.status in TERMINAL and told.ok == (told.status == "completed")
        if told.tool != record.tool or not is_whole or told.ok == bool(told.error):
            raise self.result.error("is damaged: its envelope contradicts itself")
        for name in (*OF_RUNNING, *OF_DIFFS):
            setattr(told, name, None)
        if record.kind != "review":
            for name in OF_REVIEWS:
                setattr(told, name, None)
        if record.kind != "attempts":
            told.attempts = None
        if told.error:
            told.error.repair_tool = told.error.repair_tool_params = None
        told.meta = self._meta(told.meta, self.ids[job_id])
        return told

    def _meta(self, told: Meta, job_id: str) -> Meta:
        for usage in (told.usage, told.usage_thread, told.usage_proofs):
            self._check_usage(usage)
        elapsed_ms = told.elapsed_ms
        if elapsed_ms is not None:
            told.elapsed_ms = min(max(elapsed_ms, 0), MAX_COUNT)
        meta = Meta(**{name: getattr(told, name) for name in META})
        meta.job_id = job_id
        meta.workspace = Workspace(root=self.home.workspace, source="argument")
        if told.codex:
            # A path of the other machine means nothing here.
            name = Path(told.codex.path).name
            meta.codex = CodexUsed(path=name, version=told.codex.version)
        ttl = self.home.settings.job_ttl
        meta.ttl_seconds = ttl
        expires = time.gmtime(time.time() + ttl)
        meta.expires_at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", expires)
        return meta

    def _check_usage(self, usage: Usage | None) -> None:
        counts = asdict(usage).values() if usage else ()
        for count in counts:
            if not 0 <= count <= MAX_COUNT:
                raise self.result.error("is damaged: its tokens are no count")

    def _show_real_diffs(self, rows: list[Attempt]) -> None:
        """Show of each attempt the diff that it has here, and name no job that is not of this result."""
        outcomes = {outcome.job_id: outcome for outcome in self.outcomes}
        for row in rows:
            row.diffstat = None
            row.files = []
            outcome = outcomes.get(row.job_id or "")
            if outcome is None:
                row.job_id = None
                continue
            row.diffstat = outcome.envelope.get("diffstat")
            names = [file["path"] for file in outcome.envelope.get("files", ())]
            row.files = names[:MAX_FILES]

    # --- reviews

    def _concluded_again(
        self, job_id: str, record: JobRecord, told: Envelope
    ) -> Envelope:
        """The review as it comes out here, of the same reply. Its findings are put on record."""
        if not self.result.path(job_id, REPLY).is_file():
            told.meta.warnings.append(
                "the reviewer's reply was not kept where it ran, so its findings are not on record here, and which of "
                "them are new or quote what is there is the word of that machine"
            )
            self._show_real_tests(told.findings or ())
            return told
        reply = renamed(self.result.text(job_id, REPLY), self.ids)
        review = self.reviews[job_id]
        testimony = Testimony.of(told.findings or (), self.home.sent)
        meta = replace(told.meta, warnings=[clean(text) for text in record.warnings])
        if not review.ledger:
            meta.warnings.append(
                f"the findings are not on record: {self.home.workspace} is no repository that can be used"
            )
        ended = EndedRun(
            tool=told.tool,
            directory=self.directory(job_id),
            scratch=Path("/nonexistent"),
            details={},
            meta=meta,
            answer=reply,
            children=tuple(self.outcomes),
        )
        try:
            envelope = mark_cut_short(conclude_reply(ended, review, testimony))
        except (AttributeError, LookupError, TypeError, ValueError):
            raise self.result.error(
                "is damaged: its review cannot be concluded"
            ) from None
        findings = envelope.findings or ()
        # Proofs of those that are carried over are on record here.
        self._show_real_tests(each for each in findings if not each.carried)
        return envelope

    def _show_real_tests(self, findings: Iterable[Finding]) -> None:
        """Show of each proof the test that applying it would add, and name no job that is not of this result."""
        directories = {outcome.job_id: outcome.directory for outcome in self.outcomes}
        for finding in findings:
            proof = finding.proof
            if proof is None:
                continue
            proof.patch = None
            directory = directories.get(proof.job_id or "")
            if directory is None:
                proof.job_id = None
                continue
            has_test = (directory / PROOF).is_file()
            diff = DelegateResult.load(directory)
            if has_test and diff and diff.diff and ProofRecord.load(directory):
                proof.patch = diff.diff


def _add_diff(envelope: Envelope, diff: DelegateResult, directory: Path) -> None:
    """Put into the envelope what was made again here."""
    envelope.base_sha = diff.base_sha
    envelope.diffstat = diff.diffstat or "no changes"
    envelope.diff = diff.diff
    envelope.diff_exact = diff.diff_exact
    envelope.diff_path = str(directory / "diff.patch")
    envelope.files = [DiffFile(**row) for row in diff.files]
    envelope.ignored = diff.ignored or None
    envelope.planted = diff.planted or None
    warnings = [*envelope.meta.warnings, *diff.warnings]
    envelope.meta.warnings = list(dict.fromkeys(warnings))


def _masked(wire: EnvelopeDict) -> EnvelopeDict:
    """The envelope without tokens in its texts. The diff has none already."""
    masked: EnvelopeDict = {}
    for name, value in wire.items():
        masked[name] = value if name == "diff" else _masked_texts(value)
    return masked


def _masked_texts(value: Json) -> Json:
    if isinstance(value, str):
        return mask(value)[0]
    if isinstance(value, dict):
        return {name: _masked_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked_texts(item) for item in value]
    return value


def _has(repo: Repo, commits: list[str]) -> bool:
    asked = "".join(f"{sha}^{{commit}}\n" for sha in commits)
    output = repo.git("cat-file", "--batch-check", stdin=asked.encode("ascii"))
    return output.count(b" commit ") == len(commits)
