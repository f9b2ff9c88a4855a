"""One run of Codex, from its first line to the committed envelope: the flow in one place."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from codex_counsel.codex import events, failures, rollout
from codex_counsel.codex import limits as backoff
from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Meta, Usage, failed
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.spec import Spec
from codex_counsel.system import redact
from codex_counsel.system.supervisor import Supervisor
from codex_counsel.system.text import one_line
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit


class Journal(Protocol):
    """Where a run leaves its traces."""

    directory: str

    def append(self, line: bytes) -> None: ...
    def note(self, transcript: Transcript) -> None: ...
    def commit(self, envelope: EnvelopeDict) -> EnvelopeDict: ...


def execute(spec: Spec, supervisor: Supervisor, journal: Journal) -> EnvelopeDict:
    """Read Codex to its end, conclude, commit; returns the envelope that stands, perhaps of an earlier writer."""
    transcript = Transcript()
    supervisor.seconds_since_other_activity = lambda: _quiet(spec, transcript)
    for line in supervisor.lines():
        journal.append(line)
        if transcript.add(events.parse(line)):
            supervisor.note_activity()
        if transcript.completed or transcript.failure:
            supervisor.expect_end()
        journal.note(transcript)
    ending = Exit.of(supervisor)
    envelope = conclude(spec, transcript, ending, Path(journal.directory))
    remember_limit(spec, envelope)
    return journal.commit(envelope.wire())


def _quiet(spec: Spec, transcript: Transcript) -> float:
    """Seconds of silence elsewhere: while a command is open only the total deadline counts."""
    if transcript.open_commands:
        return 0.0
    thread = transcript.thread_id
    return rollout.seconds_since_growth(rollout.find(Path(spec.codex_home), thread) if thread else None)


class Exit:
    """How the process ended. `reason` is exited, timeout, stalled, cancelled, abandoned, died or unsaved."""

    def __init__(
        self, reason: str, returncode: int | None = None, stderr: str = "", survivors: tuple[int, ...] = ()
    ) -> None:
        self.reason, self.returncode, self.stderr, self.survivors = reason, returncode, stderr, survivors

    @classmethod
    def of(cls, supervisor: Supervisor) -> Exit:
        stderr = supervisor.stderr.decode("utf-8", "replace")
        return cls(supervisor.reason, supervisor.returncode, stderr, tuple(supervisor.survivors))


def conclude(spec: Spec, transcript: Transcript, ending: Exit, directory: Path | None = None) -> Envelope:
    """The one envelope of a run, whatever happened. A delegate's work lies in the job's directory and its scratch."""
    envelope = _concluded(spec, transcript, ending)
    if spec.delegate and directory:
        from codex_counsel.delegate import record as delegate

        delegate.dress(envelope, delegate.finish(spec, directory), transcript)
    return envelope


def _concluded(spec: Spec, transcript: Transcript, ending: Exit) -> Envelope:
    record = _record(spec, transcript)
    meta = _meta(spec, transcript, ending, record)
    try:
        _check(spec, transcript, ending, blind=record.sandbox_broken)
        return _answered(spec, transcript, meta)
    except CounselError as error:
        return failed(spec.tool, _with_traces(error, spec, transcript, ending), meta, **_partial(transcript))
    except Exception as defect:  # noqa: BLE001  # a defect of ours must not cost the caller what Codex said
        ours = CounselError(Code.INTERNAL, f"{type(defect).__name__} while the result was read")
        return failed(spec.tool, _with_traces(ours, spec, transcript, ending), meta, **_partial(transcript))


def _check(spec: Spec, transcript: Transcript, ending: Exit, *, blind: bool) -> None:
    """Raise what went wrong, the most telling first: a reason to end it, Codex's own last word, its exit."""
    if ending.reason in _ENDED and not (transcript.completed and ending.reason in ("timeout", "stalled")):
        raise _ended(spec, transcript, ending)
    if transcript.failure is not None:
        raise failures.from_turn(transcript.failure)
    if not transcript.completed:
        raise _broken_off(transcript, ending)
    if spec.session_id and transcript.thread_id != spec.session_id:
        raise CounselError(Code.SESSION_NOT_FOUND, f"Codex began a new thread instead of continuing {spec.session_id}")
    if not transcript.answer:
        raise CounselError(Code.EMPTY_OUTPUT, "Codex completed its turn without a message")
    if transcript.sandbox_broken or (not transcript.commands and (blind or _handless(spec, transcript))):
        raise CounselError(Code.SANDBOX_UNAVAILABLE, _blindness(spec, transcript))


def _handless(spec: Spec, transcript: Transcript) -> str | None:
    """Codex's own words where a model that runs its commands in code mode could run none, though it was to."""
    told = next((warning for warning in transcript.warnings if failures.NO_CODE_MODE.search(warning)), None)
    return told if "features.shell_tool=false" not in spec.argv else None


def _blindness(spec: Spec, transcript: Transcript) -> str:
    told = _handless(spec, transcript)
    return one_line(told, 1000) if told else "Every command of this run failed at setting up Codex's sandbox"


def _broken_off(transcript: Transcript, ending: Exit) -> CounselError:
    if not transcript.thread_id and (ending.returncode != 0 or failures.last_sentence(ending.stderr)):
        return failures.from_start(ending.stderr, ending.returncode)
    if ending.returncode == 0 and not transcript.messages:
        return CounselError(Code.EMPTY_OUTPUT, "Codex ended without an error and without a message")
    said = redact.mask(transcript.notice or failures.last_sentence(ending.stderr))[0]
    end = f"Codex ended with {failures.describe(ending.returncode)} in the middle of its turn"
    return CounselError(Code.PROCESS_DIED, f"{end}: {said}" if said else end)


_ENDED = {
    "timeout": Code.TIMEOUT,
    "stalled": Code.STALLED,
    "cancelled": Code.CANCELLED,
    "abandoned": Code.CANCELLED,
    "died": Code.PROCESS_DIED,
    "unsaved": Code.STORAGE_FAILED,
}


def _ended(spec: Spec, transcript: Transcript, ending: Exit) -> CounselError:
    last = f"; Codex's last notice: {transcript.notice}" if transcript.notice else ""
    words = {
        "timeout": f"The run reached its limit of {spec.total:g} seconds{last}",
        "stalled": f"Codex was silent for {spec.idle:g} seconds{last}",
        "cancelled": "The run was cancelled",
        "abandoned": "The caller went away before the run was handed over, so it was ended",
        "died": "The supervisor of this run was killed; what it had recorded is here",
        "unsaved": "The run ended, but the state directory took its result no more; what was recorded before is here",
    }
    return CounselError(_ENDED[ending.reason], words[ending.reason])


def _answered(spec: Spec, transcript: Transcript, meta: Meta) -> Envelope:
    if spec.review:
        from codex_counsel.review import record as review

        return review.answered(spec.tool, transcript.answer or "", review.ReviewRecord(**spec.review), meta)
    answer, masked = redact.mask(transcript.answer or "")
    if masked:
        meta.warnings.append(f"{masked} token-like strings were masked in the answer")
    data = _validated(answer, spec) if spec.output_schema else None
    summary = one_line(answer, 400)
    return Envelope(ok=True, status="completed", tool=spec.tool, summary=summary, answer=answer, data=data, meta=meta)


def _validated(answer: str, spec: Spec) -> Any:
    """The reply as the caller's schema wants it. Codex checks neither the schema nor the reply."""
    import sys

    if spec.library and spec.library not in sys.path:
        sys.path.append(spec.library)
    from codex_counsel.contract import output_schema as schemas

    try:
        with time_limit(VALIDATION_SECONDS):
            return schemas.read(answer, spec.output_schema or {})
    except TimeLimitExceeded:
        words = f"The reply could not be held against output_schema within {VALIDATION_SECONDS:g} seconds"
        raise CounselError(Code.INCOMPLETE, words) from None
    except ValueError as error:
        raise CounselError(Code.INCOMPLETE, one_line(str(error), 1000)) from None


VALIDATION_SECONDS = 5
"""A caller's `pattern` may take for ever."""


def _partial(transcript: Transcript) -> dict[str, Any]:
    """What was said before the end is kept, marked: it is no answer."""
    if not transcript.answer:
        return {}
    return {"answer": redact.mask(transcript.answer)[0], "partial": True}


def _with_traces(error: CounselError, spec: Spec, transcript: Transcript, ending: Exit) -> CounselError:
    """Add what lets a caller go on: the thread, the last words, what survived."""
    if transcript.thread_id and spec.session_id in (None, transcript.thread_id):
        error.details.setdefault("session_id", transcript.thread_id)
    if transcript.answer:
        error.details.setdefault("last_message", one_line(redact.mask(transcript.answer)[0], 600))
    if ending.survivors:
        error.details["survivors"] = list(ending.survivors)
    return error


def _meta(spec: Spec, transcript: Transcript, ending: Exit, record: rollout.TurnRecord) -> Meta:
    """The launcher's template, completed by what Codex's own record says of the turn."""
    meta = meta_of(spec)
    tokens = record.tokens or (transcript.tokens if not spec.session_id else None)
    meta.session_id = transcript.thread_id or spec.session_id
    meta.model, meta.effort = record.model or meta.model, record.effort or meta.effort
    meta.usage = (
        Usage(**{n: getattr(tokens, n) for n in ("input", "cached_input", "output", "reasoning")}) if tokens else None
    )
    meta.elapsed_ms = int((time.time() - spec.created) * 1000)
    meta.warnings += [one_line(warning, 300) for warning in transcript.warnings]
    if ending.survivors:
        meta.warnings.append(f"processes that could not be ended: {list(ending.survivors)}")
    return meta


def meta_of(spec: Spec) -> Meta:
    """The launcher's template, with when the record may be dropped at the earliest."""
    expires = datetime.fromtimestamp(time.time() + spec.ttl, UTC).isoformat(timespec="seconds")
    return Meta(
        **{**spec.meta, "warnings": list(spec.meta.get("warnings", ()))}, ttl_seconds=spec.ttl, expires_at=expires
    )


def _record(spec: Spec, transcript: Transcript) -> rollout.TurnRecord:
    if not transcript.thread_id:
        return rollout.TurnRecord()
    return rollout.last_turn(rollout.find(Path(spec.codex_home), transcript.thread_id))


def remember_limit(spec: Spec, envelope: Envelope) -> None:
    """Write a limit down for every session of this account, and forget it after a success."""
    limits = backoff.Limits(Path(spec.state), spec.account)
    if envelope.ok:
        limits.clear()
    elif envelope.error and envelope.error.code in (Code.USAGE_LIMIT, Code.RATE_LIMITED):
        limits.remember(
            envelope.error,
            codex_home=Path(spec.codex_home),
            default_seconds=spec.backoff,
            thread_id=envelope.meta.session_id,
        )
