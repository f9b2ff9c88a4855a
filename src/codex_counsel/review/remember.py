"""After a review of changes: put on record what it was sent, so that `since: last` need not send it again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import CounselError
from codex_counsel.findings.seen import PastReview, ReviewLog
from codex_counsel.review.changes.since import steps_of

if TYPE_CHECKING:
    from codex_counsel.kind import EndedRun
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.record import ReviewRecord
    from codex_counsel.review.reply import ReviewReply


def remember(ended: EndedRun, record: ReviewRecord, reply: ReviewReply) -> list[str]:
    """Record the files that were sent whole, once for each job. Returns the warnings.

    A review counts only if it was one of all that it was sent: with a verdict in a reply
    that matches the schema, not cut short, and not focused on a part. Contents of the
    working tree have no object ids that would last.
    """
    is_cut_short = ended.meta.budget_reached is not None
    has_judged = reply.matches_schema and reply.verdict != "unknown"
    if not record.ledger or record.focused or is_cut_short or not has_judged:
        return []
    if record.plan is not None or not record.entries:
        return []
    changes = record.changes()
    if changes.comparison.state == "working_tree":
        return []
    sent, kept = steps_of(changes.entries)
    if not sent:
        return []

    review = PastReview(
        job=ended.directory.name,
        ended=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        scope=changes.scope.kind,
        base=record.base_ref,
        base_sha=changes.base_sha,
        head_sha=changes.head_sha,
        complete=_is_complete(record, changes),
        sent=tuple(sent),
        kept=tuple(kept),
    )
    try:
        ReviewLog(Path(record.ledger)).remember(review)
    except CounselError as error:
        return [
            f"what this review saw is not on record and will be sent again: {error}"
        ]
    return []


def _is_complete(record: ReviewRecord, changes: Changes) -> bool:
    """Whether reviewers were sent all of the scope, and not only of some paths."""
    coverage = record.coverage or {}
    return bool(coverage.get("complete")) and not changes.scope.paths
