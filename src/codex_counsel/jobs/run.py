"""One run of Codex, from its first line of output to the committed envelope.

Imported while Codex starts up. What a kind of run needs at its end is imported then, by `kinds`.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import time
from dataclasses import replace
from pathlib import Path

from codex_counsel.codex import events, failures, rollout, windows
from codex_counsel.codex.events import Tokens
from codex_counsel.codex.limits import Limits, add_exact_reset
from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import Envelope, Meta, Usage, failed
from codex_counsel.delegate.record import WORK
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs import budget, ledger, turns
from codex_counsel.jobs.journal import Journal
from codex_counsel.jobs.kinds import KINDS
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.turns import Exit
from codex_counsel.kind import IMAGES, ChildOutcome, EndedRun, failed_run
from codex_counsel.system.files import remove_tree
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.supervisor import MAX_LINE, Supervisor
from codex_counsel.system.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from codex_counsel.jobs.steps import Worker

OFTEN_A_SHORTAGE = (
    Code.NETWORK_UNAVAILABLE,
    Code.STREAM_DISCONNECTED,
    Code.SANDBOX_UNAVAILABLE,
    Code.PROCESS_DIED,
    Code.EMPTY_OUTPUT,
)
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


# --- in the worker


def supervise(
    raw_spec: JsonObject, supervisor: Supervisor, journal: Journal, worker: Worker
) -> None:
    """Execute the run of a parsed `spec.json`. A defect of ours is committed as its result, and raised."""
    spec = Spec.parse(raw_spec)
    try:
        transcript, exit_ = turns.read(spec, supervisor, journal, worker)
        if exit_.reason == "exited" and transcript.completed:
            follow_up(spec, transcript, exit_, journal, worker)
        finish(spec, transcript, exit_, journal)
    except Exception as defect:
        conclude_defect(spec, journal, defect)
        raise


def coordinate(raw_spec: JsonObject, journal: Journal, worker: Worker) -> None:
    """Execute a job that runs no Codex itself. A defect of ours is committed as its result, and raised."""
    spec = Spec.parse(raw_spec)
    transcript = Transcript()
    try:
        follow_up(spec, transcript, Exit("exited"), journal, worker)
        finish(spec, transcript, Exit(worker.end_reason or "exited"), journal)
    except Exception as defect:
        conclude_defect(spec, journal, defect)
        raise


def follow_up(
    spec: Spec, transcript: Transcript, exit_: Exit, journal: Journal, worker: Worker
) -> None:
    """Run the commands and the jobs that come after a completed turn, where the run has any."""
    follow = KINDS[spec.kind].follow_up
    if follow is None or not (spec.checks or spec.children):
        return
    directory = Path(journal.directory)
    ended = _ended_run(spec, transcript, exit_, directory)
    if ended.error:
        return
    # Most runs end here, and the caller waits for them.
    from codex_counsel.jobs.steps import WorkerSteps

    follow(ended, WorkerSteps(spec, journal, worker))
    journal.update_state(phase="finishing", last_command=None)


def finish(
    spec: Spec,
    transcript: Transcript,
    exit_: Exit,
    journal: Journal,
    error: CounselError | None = None,
) -> None:
    """Conclude, commit, then tidy. A cancel that comes before the commit wins, unless Codex completed its turn."""
    directory = Path(journal.directory)
    envelope = conclude(spec, transcript, exit_, directory, error)
    remember_limit(spec, envelope, journal.codex_began or spec.created)
    may_cancel = not transcript.completed and envelope.status != "cancelled"
    if may_cancel and journal.cancel_requested():
        envelope = conclude(
            spec, transcript, replace(exit_, reason="cancelled"), directory
        )
    _commit(spec, envelope, journal)
    tidy(spec, directory)


def _commit(spec: Spec, envelope: Envelope, journal: Journal) -> None:
    """Store the result; then what this run took, and what it left of the account's usage windows."""
    wire = envelope.wire()

    def note() -> None:
        if not spec.argv:  # the jobs that it started have noted it
            return
        ledger.append(spec.state, ledger.line_of(spec, wire, time.time()))
        keep_windows(spec, envelope.meta.session_id)

    journal.commit(wire, note)


def keep_windows(spec: Spec, thread_id: str | None) -> None:
    """Keep what Codex's record of the thread says of the account's usage windows: the next launch need not ask."""
    if thread_id is None:
        return
    record = rollout.find(Path(spec.codex_home), thread_id)
    reading = windows.of_record(rollout.rate_limits(record))
    if reading:
        windows.Readings(Path(spec.state), spec.account).keep(reading)


def tidy(spec: Spec, directory: Path) -> None:
    """Remove what a run left in its private directory and its conclusion had no time for. Never raises."""
    scratch = Path(spec.scratch)
    is_own = directory.name in scratch.name
    is_needed = spec.has_tree and not (directory / WORK).is_file()
    if is_own and not is_needed and scratch.exists():
        # The launcher waits for the end of our output, but need not wait for this.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        remove_tree(scratch)


def conclude_unstarted(
    raw_spec: JsonObject, journal: Journal, reason: str, error: Exception | None
) -> bool:
    """Commit the envelope of a run whose Codex was never started: `reason` if it was ended, else `error`.

    Returns whether `error` is a defect of ours, and not something that can happen.
    """
    spec = Spec.parse(raw_spec)
    start_error = _start_error(error)
    finish(spec, Transcript(), Exit(reason or "exited"), journal, start_error)
    return start_error is not None and start_error.code == Code.INTERNAL


def _start_error(error: Exception | None) -> CounselError | None:
    if error is None or isinstance(error, CounselError):
        return error
    if not isinstance(error, OSError):
        return _defect(error)

    # The binary, the workspace or the temporary directory changed since the launcher
    # looked at them.
    code = Code.PROCESS_DIED
    if error.errno in STORAGE_ERRORS:
        code = Code.STORAGE_FAILED
    return error_of(code, "Codex could not be started", error)


def conclude_defect(spec: Spec, journal: Journal, defect: Exception) -> None:
    """Commit the envelope of a run that a defect of ours ended: code `internal`, with what was recorded before."""
    error = _defect(defect)
    try:
        transcript = recorded_transcript(Path(journal.directory))
        finish(spec, transcript, Exit("exited"), journal, error)
    except Exception:  # noqa: BLE001  # the defect may lie in what was just tried
        envelope = _conclude_without_record(spec, Path(journal.directory), error)
        _commit(spec, envelope, journal)


def _conclude_without_record(
    spec: Spec, directory: Path, error: CounselError
) -> Envelope:
    """The kind still captures and removes what lies in the scratch directory."""
    ended = EndedRun(
        tool=spec.tool,
        directory=directory,
        scratch=Path(spec.scratch),
        details=spec.details,
        meta=spec.new_meta(),
        error=error,
    )
    try:
        return KINDS[spec.kind].conclude(ended)
    except Exception:  # noqa: BLE001  # the defect may lie there
        return failed(spec.tool, error, spec.new_meta())


def _defect(defect: Exception) -> CounselError:
    if isinstance(defect, CounselError):  # a damaged record, for one
        return defect
    return CounselError(Code.INTERNAL, f"{type(defect).__name__}: {defect}")


def remember_limit(spec: Spec, envelope: Envelope, began: float) -> None:
    """Store a limit for every session of this account, and forget it after the success of a run that `began` later.

    A run may be queued for long: it began when Codex did.
    """
    if not spec.argv:  # the jobs that it started have done so
        return
    limits = Limits(Path(spec.state), spec.account)
    if envelope.ok:
        limits.forget_met_before(began)
    elif envelope.error and envelope.error.code in (
        Code.USAGE_LIMIT,
        Code.RATE_LIMITED,
    ):
        limits.remember(envelope.error, default_seconds=spec.backoff, began=began)


# --- in the worker, or in the reader of a job whose worker is gone


def recorded_transcript(directory: Path) -> Transcript:
    """What the events recorded in a job's directory say; the empty transcript where there are none."""
    transcript = Transcript()
    with contextlib.suppress(OSError), (directory / "events.jsonl").open("rb") as file:
        for line in file:
            transcript.add(events.parse(line))
    return transcript


def conclude(
    spec: Spec,
    transcript: Transcript,
    exit_: Exit,
    directory: Path,
    error: CounselError | None = None,
) -> Envelope:
    """The envelope of an ended run, whatever happened. `error`: why it failed, where only the caller knows."""
    if (directory / IMAGES).is_dir():
        remove_tree(directory / IMAGES)
    ended = _ended_run(spec, transcript, exit_, directory, error)
    kind = KINDS[spec.kind]
    try:
        return budget.mark_cut_short(kind.conclude(ended))
    except CounselError as refusal:
        error = refusal
    except Exception as defect:  # noqa: BLE001  # it must not cost the caller what Codex said
        error = CounselError(
            Code.INTERNAL, f"{type(defect).__name__} while the result was read"
        )

    _add_traces(error, spec, transcript, exit_)
    ended = replace(ended, error=error)
    try:
        return kind.conclude(ended)
    except Exception:  # noqa: BLE001  # the defect may lie there
        return failed_run(ended, error)


def _ended_run(
    spec: Spec,
    transcript: Transcript,
    exit_: Exit,
    directory: Path,
    error: CounselError | None = None,
) -> EndedRun:
    """What the kind is told of its run."""
    record = rollout.last_turns(
        turns.rollout_file(spec, transcript), max(transcript.turns, 1)
    )
    error = error or _find_error(spec, transcript, exit_, blind=record.sandbox_broken)
    if error:
        error = _shortage(error, transcript, exit_) or error
        error = budget.no_answer(error, spec, transcript, exit_)
        add_exact_reset(error, record.resets_at)
        _add_traces(error, spec, transcript, exit_)
    outcomes: tuple[ChildOutcome, ...] = ()
    if spec.children:
        # Few jobs have any, and the caller waits for the end of this one.
        from codex_counsel.jobs import children

        outcomes = children.outcomes(spec, directory)
    return EndedRun(
        tool=spec.tool,
        directory=directory,
        scratch=Path(spec.scratch),
        details=spec.details,
        meta=_meta(spec, transcript, exit_, record),
        answer=transcript.last_message,
        error=error,
        commands=_commands(transcript),
        children=outcomes,
    )


def _commands(transcript: Transcript) -> tuple[tuple[str, int | None], ...]:
    """The command lines with their exit codes: the last ones that ended, then those that still ran."""
    ended = [(command.command, command.exit_code) for command in transcript.commands]
    unfinished = [(command, None) for command in transcript.open_commands.values()]
    return (*ended, *unfinished)


def _meta(
    spec: Spec, transcript: Transcript, exit_: Exit, record: rollout.TurnRecord
) -> Meta:
    """What the launcher knew, completed by what Codex's own record says of the turn."""
    meta = spec.new_meta()
    meta.session_id = transcript.thread_id or spec.session_id
    meta.model = record.model or meta.model
    meta.effort = record.effort or meta.effort
    meta.elapsed_ms = int((time.time() - spec.created) * 1000)

    # The events count the whole thread: without the record, the tokens of this turn are
    # known in a new one only.
    tokens = record.tokens
    if tokens is None and spec.session_id is None:
        tokens = transcript.tokens
    if tokens:
        meta.usage = _usage(tokens)

    if spec.session_id and transcript.tokens:
        meta.usage_thread = _usage(transcript.tokens)

    for warning in transcript.warnings:
        meta.warnings.append(one_line(warning, 300))
    if exit_.survivors:
        meta.warnings.append(
            f"processes that could not be ended: {list(exit_.survivors)}"
        )
    budget.note(meta, spec, transcript, exit_)
    return meta


def _usage(tokens: Tokens) -> Usage:
    return Usage(
        input=tokens.input,
        cached_input=tokens.cached_input,
        output=tokens.output,
        reasoning=tokens.reasoning,
    )


# --- why there is no result


def _find_error(
    spec: Spec, transcript: Transcript, exit_: Exit, *, blind: bool
) -> CounselError | None:
    """Why the run has no result, or None. The most telling first: why it was ended, Codex's own error, its exit.

    `blind` means that by Codex's own record every command failed at setting up the
    sandbox.
    """
    if not spec.argv and exit_.reason == "exited":
        return None  # the jobs that it started speak for themselves

    # Whatever ended the run later does not count once its turn was completed. Only a
    # task that put too much into its tree has no whole result.
    is_too_much = exit_.reason == "quota" and spec.has_tree
    if is_too_much or (exit_.reason != "exited" and not transcript.completed):
        return _error_of_reason(spec, transcript, exit_)

    if transcript.failure is not None:
        return failures.from_turn(transcript.failure)

    if not transcript.completed:
        return _early_exit_error(transcript, exit_)
    return _answer_error(spec, transcript, blind=blind)


def _answer_error(
    spec: Spec, transcript: Transcript, *, blind: bool
) -> CounselError | None:
    """Why the answer of a completed turn is none."""
    if spec.session_id and transcript.thread_id != spec.session_id:
        message = f"Codex began a new thread instead of continuing {spec.session_id}"
        return CounselError(Code.SESSION_NOT_FOUND, message)

    if transcript.answer_lost:
        return _lost_answer_error()

    if not transcript.answer:
        message = "Codex completed its turn without a message"
        return CounselError(Code.EMPTY_OUTPUT, message)

    return _sandbox_error(spec, transcript, blind=blind)


def _shortage(
    error: CounselError, transcript: Transcript, exit_: Exit
) -> CounselError | None:
    """What lies behind a failure that Codex explains otherwise when it runs out of descriptors, threads or memory."""
    is_mute = exit_.reason in ("timeout", "stalled") and not transcript.thread_id
    if error.code not in OFTEN_A_SHORTAGE and not is_mute:
        return None
    shortage = failures.exhaustion(exit_.stderr, *transcript.warnings)
    if shortage or not (is_mute or error.code == Code.PROCESS_DIED):
        return shortage
    if exit_.reason == "died":  # the limits of a reader are not those of the run
        return None
    return failures.memory_shortage(error.message)


def _lost_answer_error() -> CounselError:
    return CounselError(
        Code.INCOMPLETE,
        "Codex's answer may be missing: a line at the end of its output was damaged, or longer than "
        f"{MAX_LINE >> 20} MiB; what came before it is kept",
        repair="Continue with session_id and ask for the answer again.",
    )


def _error_of_reason(spec: Spec, transcript: Transcript, exit_: Exit) -> CounselError:
    """For a run that was ended, by its supervisor or with it."""
    last_notice = ""
    if transcript.notice:
        last_notice = f"; Codex's last notice: {transcript.notice}"
    match exit_.reason:
        case "timeout":
            code = Code.TIMEOUT
            message = (
                f"The run reached its limit of {spec.total:g} seconds{last_notice}"
            )
        case "stalled":
            code = Code.STALLED
            message = f"Codex was silent for {spec.idle:g} seconds{last_notice}"
        case "quota":
            code = Code.QUOTA_EXCEEDED
            message = exit_.detail
        case "budget":
            code = Code.BUDGET_REACHED
            message = f"The run used up its {spec.max_tokens} tokens before it was done"
            if exit_.detail:
                message = f"{message}; {exit_.detail}"
        case "cancelled":
            code = Code.CANCELLED
            message = "The run was cancelled"
        case "abandoned":
            code = Code.CANCELLED
            message = (
                "The caller went away before the run was detached, so it was ended"
            )
        case "unsaved":
            code = Code.STORAGE_FAILED
            message = "The state directory could not store the result of this run; this is what was recorded"
        case _:
            code = Code.PROCESS_DIED
            message = "The worker of this run was killed; this is what it had recorded"
    return CounselError(code, message)


def _early_exit_error(transcript: Transcript, exit_: Exit) -> CounselError:
    """Codex ended without completing its turn: before its thread began, silently, or in the middle."""
    last_words = failures.last_sentence(exit_.stderr)
    failed_to_start = exit_.returncode != 0 or last_words
    if not transcript.thread_id and failed_to_start:
        return failures.from_start(exit_.stderr, exit_.returncode)

    if exit_.returncode == 0 and transcript.answer_lost:
        return _lost_answer_error()

    if exit_.returncode == 0 and not transcript.answer:
        message = "Codex ended without an error and without a message"
        return CounselError(Code.EMPTY_OUTPUT, message)

    description = failures.describe_exit(exit_.returncode)
    message = f"Codex ended with {description} in the middle of its turn"
    reason, _ = mask(transcript.notice or last_words)
    if reason:
        message = f"{message}: {reason}"
    return CounselError(Code.PROCESS_DIED, message)


def _sandbox_error(
    spec: Spec, transcript: Transcript, *, blind: bool
) -> CounselError | None:
    """An answer without a look at the files is none, where Codex tried to look and no command could run."""
    warning = None
    if "features.shell_tool=false" not in spec.argv:
        warning = _code_mode_warning(transcript)
    could_not_run = not transcript.commands and (blind or warning)
    if not transcript.sandbox_broken and not could_not_run:
        return None

    message = "Every command of this run failed at setting up Codex's sandbox"
    if warning:
        message = one_line(warning, 1000)
    return CounselError(Code.SANDBOX_UNAVAILABLE, message)


def _code_mode_warning(transcript: Transcript) -> str | None:
    """Codex's warning that a model which runs its commands in code mode can run none."""
    for warning in transcript.warnings:
        if failures.NO_CODE_MODE.search(warning):
            return warning
    return None


def _add_traces(
    error: CounselError, spec: Spec, transcript: Transcript, exit_: Exit
) -> None:
    """Add what lets a caller go on: the thread, the last message, what survived."""
    if transcript.thread_id and spec.session_id in (None, transcript.thread_id):
        error.details.setdefault("session_id", transcript.thread_id)
    if transcript.last_message:
        last_message, _ = mask(transcript.last_message)
        error.details.setdefault("last_message", one_line(last_message, 600))
    if exit_.survivors:
        error.details["survivors"] = list(exit_.survivors)
