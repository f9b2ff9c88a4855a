"""The `spec.json` that a job of another machine gets here: what it was asked, with the paths of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.errors import CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.git.fetch import ObjectStore
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.spec import MAX_SUBJECT, Spec
from codex_counsel.packs.home import Home
from codex_counsel.packs.result import JobRecord, ResultFile, renamed
from codex_counsel.packs.review_record import local_record
from codex_counsel.review import pull_request
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, one_line


@dataclass(frozen=True)
class SpecMaker:
    """Makes those of the jobs of a result. `ids` lead from job ids of the other machine to those here.

    Raises `pack_invalid`, and as `Home.repo`.
    """

    result: ResultFile
    home: Home
    ids: Mapping[str, str]

    def make(self, job_id: str, parts: list[str]) -> Spec:
        """That of the job with this id in the result, which started `parts`."""
        record, home = self.result.jobs[job_id], self.home
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
            return {"review": self._review_record(job_id, record).to_json()}
        details: JsonObject = {"delegate": asdict(self._delegate_spec(job_id, record))}
        if record.kind == "proof":
            details["proof"] = {"review": self.ids[self.result.job]}
        if record.kind == "attempts":
            details["attempts"] = self._attempts(record)
        return details

    def _delegate_spec(self, job_id: str, record: JobRecord) -> DelegateSpec:
        repository, prefix = "", ""
        if self.result.has_diff(job_id):
            repo = self.home.repo
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


def _has(repo: Repo, commits: list[str]) -> bool:
    asked = "".join(f"{sha}^{{commit}}\n" for sha in commits)
    output = repo.git("cat-file", "--batch-check", stdin=asked.encode("ascii"))
    return output.count(b" commit ") == len(commits)
