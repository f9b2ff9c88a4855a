"""A proof after the run: the envelope of a delegated task whose diff is a test, with what came of it in front."""

from __future__ import annotations

from dataclasses import replace

from codex_counsel.contract.envelope import Envelope
from codex_counsel.delegate.capture import BOUNDS
from codex_counsel.delegate.conclude import add_result, capture_once
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.errors import Code
from codex_counsel.kind import EndedRun, answer_in_prose, failed_run
from codex_counsel.proof.record import UNFINISHED, ProofRecord
from codex_counsel.proof.reply import parse_reply


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of a proof, finished or not."""
    spec = DelegateSpec.parse(ended.details["delegate"])
    too_much = ended.error is not None and ended.error.code == Code.QUOTA_EXCEEDED
    bounds = BOUNDS if too_much else None
    result = capture_once(spec, ended.scratch, ended.directory, bounds)
    reply = parse_reply(ended.answer or "")
    if reply:
        ended = replace(ended, answer=reply.explanation)
    if ended.error:
        envelope = failed_run(ended, ended.error)
    else:
        envelope = answer_in_prose(ended)
    add_result(envelope, result, ended.commands)
    if not envelope.ok:
        return envelope
    record = ProofRecord.load(ended.directory)
    line = f"inconclusive: {UNFINISHED}"
    if record:
        line = f"{record.proof.status}: {record.proof.reason}"
    envelope.summary = f"{line}. {envelope.summary}"
    return envelope
