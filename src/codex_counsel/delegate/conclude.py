"""What becomes of a delegated task."""

from __future__ import annotations

from codex_counsel.contract.envelope import Envelope
from codex_counsel.delegate import record
from codex_counsel.delegate.set_up import Job
from codex_counsel.kind import EndedRun, failure
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of an ended task, with its diff as far as there is one."""
    if ended.error:
        envelope = failure(ended, ended.error)
    else:
        answer, masked = mask(ended.answer or "")
        if masked:
            ended.meta.warnings.append(f"{masked} token-like strings were masked in the answer")
        envelope = Envelope(
            ok=True,
            status="completed",
            tool=ended.tool,
            summary=one_line(answer, 400),
            answer=answer,
            meta=ended.meta,
        )
    result = record.finish(Job(str(ended.scratch), ended.details["delegate"]), ended.directory)
    record.dress(envelope, result, ended.commands[-50:])
    return envelope
