"""The review of the files that one turn of Claude Code edited, for the stop gate."""

from __future__ import annotations

from dataclasses import asdict

from codex_counsel.claude.stop_gate import HOOK_SECONDS, Stop
from codex_counsel.cli.progress import LINE
from codex_counsel.contract.envelope import Envelope, failed
from codex_counsel.contract.request import ReviewChanges, parse
from codex_counsel.contract.vocabulary import Severity
from codex_counsel.errors import CounselError
from codex_counsel.services.checking import Bar
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.json_values import JsonObject


def review_files(stop: Stop, paths: tuple[str, ...], thread: str | None) -> Envelope:
    """The review of uncommitted changes in these files, in the thread of an earlier round if there was one.

    Raises no CounselError: a run that fails is an envelope with `error`.
    """
    arguments = {
        "workspace_root": str(stop.root),
        # A project file may name another scope for reviews that somebody asks for.
        "scope": "working_tree",
        "paths": paths,
        "session_id": thread,
        # Leaves a minute of the hook's own limit for the report.
        "timeout_seconds": HOOK_SECONDS - 60,
    }
    counsel = Counsel(cwd=stop.root)
    try:
        handle = counsel.review_changes(parse(ReviewChanges, arguments))
        with LINE as line:
            wire = counsel.follow(handle, line.update)
        return Envelope.parse(counsel.deliver(handle, wire))
    except CounselError as error:
        return failed(ReviewChanges.tool, error)


def blocking_findings(review: Envelope, fail_on: Severity | None) -> list[JsonObject]:
    """The findings that may block: they count, and their evidence was found in the files."""
    blocking = []
    for finding in Bar(fail_on).counted(review):
        if finding.grounded != "unverified":
            present = {
                name: value
                for name, value in asdict(finding).items()
                if value is not None
            }
            blocking.append(present)
    return blocking
