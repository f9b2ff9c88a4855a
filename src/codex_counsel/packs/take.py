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

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
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
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.delegate.record import WORK, DelegateResult
from codex_counsel.jobs import ledger as usage_ledger
from codex_counsel.jobs.budget import mark_cut_short
from codex_counsel.jobs.ledger import MAX_COUNT
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.taken import Origin
from codex_counsel.kind import ChildOutcome, EndedRun
from codex_counsel.packs.home import Home
from codex_counsel.packs.result import (
    EVENTS,
    PATCH,
    REPLY,
    RESULT,
    JobRecord,
    ResultFile,
    renamed,
)
from codex_counsel.packs.taken_spec import SpecMaker
from codex_counsel.packs.verified_diff import take_diff
from codex_counsel.proof.record import ASSIGNMENTS, PROOF, ProofRecord
from codex_counsel.review.conclude import conclude_reply
from codex_counsel.review.record import ReviewRecord
from codex_counsel.review.testimony import Testimony
from codex_counsel.system.files import open_private, write_atomically
from codex_counsel.system.json_values import Json
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean

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


def build(result: ResultFile, hidden: Path, home: Home) -> list[str]:
    """Make the job directories below `hidden`; returns the ids here of the jobs that the job started.

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
    return [ids[job_id] for job_id in parts]


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
    specs: dict[str, Spec] = field(default_factory=dict)
    outcomes: list[ChildOutcome] = field(default_factory=list)

    def directory(self, job_id: str) -> Path:
        """Where the job is built. Its name is its id, by which a review is put on record."""
        return self.hidden / self.ids[job_id]

    def write_spec(self, job_id: str, parts: list[str]) -> None:
        """Make the directory with its `spec.json`, `taken.json` and `lock`."""
        directory = self.directory(job_id)
        directory.mkdir(mode=0o700)
        os.close(open_private(str(directory / "lock"), os.O_WRONLY | os.O_CREAT))
        spec = SpecMaker(self.result, self.home, self.ids).make(job_id, parts)
        self.specs[job_id] = spec
        text = json.dumps(spec.to_json(), ensure_ascii=False)
        write_atomically(directory / "spec.json", text, durable=True)
        here = [self.ids[part] for part in parts]
        Origin(
            pack=self.result.pack, job=job_id, digest=self.result.digest, parts=here
        ).store(directory)

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
        if result.has_diff(job_id):
            home = self.home
            diff = take_diff(result, job_id, home.repo, directory, home.limits)
            # Where it is when the job is published.
            diff.diff_path = str(home.store.directory / directory.name / PATCH)
            write_atomically(directory / WORK, json.dumps(asdict(diff)))
            _add_diff(envelope, diff)
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
        review = ReviewRecord.from_json(self.specs[job_id].review or {})
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


def _add_diff(envelope: Envelope, diff: DelegateResult) -> None:
    """Put into the envelope what was made again here."""
    envelope.base_sha = diff.base_sha
    envelope.diffstat = diff.diffstat or "no changes"
    envelope.diff = diff.diff
    envelope.diff_exact = diff.diff_exact
    envelope.diff_path = diff.diff_path
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
