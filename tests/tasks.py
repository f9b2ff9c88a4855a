"""Records of delegated tasks that have ended, with diffs that git made, as workers leave them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from codex_counsel.delegate.capture import CapturedFile
from codex_counsel.delegate.record import WORK, DelegateResult, DelegateSpec
from codex_counsel.git.names import display_name
from codex_counsel.jobs.store import Store
from tests.repositories import Repository
from tests.specs import SPEC

DIFF = ("diff-tree", "-r", "--full-index", "--find-renames", "--no-color")
Content = str | bytes | Path | None
"""What a task leaves in a file: its content, the target of a link, or None where it deletes the file."""


@dataclass
class Tasks:
    """Tasks on one repository, with the jobs in `state`. The ids are 1111..., 2222... in this order."""

    repository: Repository
    state: Path
    count: int = field(default=0)

    @property
    def store(self) -> Store:
        return Store(self.state)

    def add(self, changes: Mapping[str, Content] | None, **envelope: Any) -> str:
        """Store a task that changes these files of HEAD, or one without a diff; returns its id."""
        job_id = self._new_id()
        directory = self._publish(job_id, envelope)
        if changes is not None:
            self._store_diff(directory, changes)
        return job_id

    def add_attempts(self, *attempts: Mapping[str, Any], **envelope: Any) -> str:
        """Store a task of several attempts; returns its id."""
        rows = []
        for number, attempt in enumerate(attempts, 1):
            row = {"attempt": number, "rank": number, "why": "it is so"}
            rows.append({**row, "status": "completed", **attempt})
        job_id = self._new_id()
        self._publish(job_id, {"attempts": rows, **envelope}, attempts={"jobs": []})
        return job_id

    def _new_id(self) -> str:
        self.count += 1
        return f"{self.count:x}" * 32

    def _publish(self, job_id: str, envelope: Mapping[str, Any], **spec: Any) -> Path:
        directory = self.state / "jobs" / job_id
        self.store.prepare()
        directory.mkdir(0o700)
        (directory / "lock").touch(0o600)
        delegate = DelegateSpec(
            workspace=str(self.repository.root),
            repository=str(self.repository.root / ".git"),
            git_timeout=60,
            diff_limit=200_000,
            denied=(),
        )
        stored = replace(
            SPEC,
            job_id=job_id,
            tool="codex_delegate",
            subject="Fix it.",
            workspace=str(self.repository.root),
            state=str(self.state),
            delegate=asdict(delegate),
            **spec,
        )
        (directory / "spec.json").write_text(json.dumps(stored.to_json()))
        wire = {
            "ok": True,
            "status": "completed",
            "tool": "codex_delegate",
            "summary": "Done.",
            "answer": "Done.",
            **envelope,
        }
        wire["meta"] = {"job_id": job_id, **wire.get("meta", {})}
        (directory / "result.json").write_text(json.dumps(wire))
        return directory

    def _store_diff(self, directory: Path, changes: Mapping[str, Content]) -> None:
        root, git = self.repository.root, self.repository.git
        for name, content in changes.items():
            path = root / os.fsdecode(name)
            if path.is_symlink() or path.exists():
                path.unlink()
            if isinstance(content, Path):
                path.symlink_to(content)
            elif content is not None:
                self.repository.write(name, content)
        git("add", "--all")
        tree = git("write-tree")
        patch = directory / "diff.patch"
        git(
            "-c",
            "core.quotePath=false",
            *DIFF,
            "-p",
            "--binary",
            f"--output={patch}",
            "HEAD",
            tree,
        )
        files = self._changed(tree)
        git("reset", "--quiet", "--hard")
        git("clean", "-fdq")
        result = DelegateResult(
            base_sha=self.repository.head,
            diff="",
            diff_exact=False,
            diff_path=str(patch),
            diffstat=f"{len(files)} files changed",
            files=[
                {"path": display_name(file.name), "status": file.status}
                for file in files
            ],
            names=[
                [_latin_1(file.name), _latin_1(file.old_name), file.mode]
                for file in files
            ],
        )
        (directory / WORK).write_text(json.dumps(asdict(result)))
        seed = {
            "head": self.repository.head,
            "base_tree": git("rev-parse", "HEAD^{tree}"),
        }
        (directory / "seed.json").write_text(json.dumps(seed))

    def _changed(self, tree: str) -> list[CapturedFile]:
        output = self.repository.git(*DIFF, "-z", "--raw", "HEAD", tree)
        fields = iter(os.fsencode(output).split(b"\0")[:-1])
        files = []
        for header in fields:
            old_mode, mode, old_id, _, status = header.decode().lstrip(":").split(" ")
            old_name, name = None, next(fields)
            if status[0] in "RC":
                old_name, name = name, next(fields)
            files.append(
                CapturedFile(
                    status=status[0],
                    name=name,
                    old_name=old_name,
                    mode=mode,
                    old_mode=old_mode,
                    old_id=old_id,
                    added=None,
                    deleted=None,
                )
            )
        return files


def _latin_1(name: bytes | None) -> str | None:
    return None if name is None else name.decode("latin-1")
