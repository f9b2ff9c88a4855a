"""A delegated task for a terminal: its report and diff, its check, its attempts."""

from __future__ import annotations

from codex_counsel.cli.page import Page, Span, Style
from codex_counsel.cli.review_text import add_footer, counted, project_file_line
from codex_counsel.cli.table import NOTHING, Heading, add_table, short_ids
from codex_counsel.contract.envelope import (
    Attempt,
    Check,
    CheckResult,
    DiffFile,
    Envelope,
    ProjectFile,
    Usage,
)
from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.system.amounts import short_number
from codex_counsel.system.text import one_line, visible

MAX_COMMAND = 200
"""Characters of a command on a line."""
MAX_REASON = 500
SHOWN_LINES = 15
"""Lines of the end of a check's output."""
CHECK_WORDS: dict[CheckStatus, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "not_started": "could NOT be started",
    "timed_out": "TIMED OUT",
    "not_run": "was NOT run",
}
CHECK_STYLES: dict[CheckStatus, Style] = {
    "passed": "green",
    "failed": "red",
    "not_started": "yellow",
    "timed_out": "red",
    "not_run": "yellow",
}
RUN_STYLES: dict[str, Style] = {"completed": "", "failed": "red", "cancelled": "dim"}
ATTEMPTS = (
    Heading("RANK", is_kept=True),
    Heading("ATTEMPT"),
    Heading("JOB", is_kept=True),
    Heading("CHECK", is_kept=True),
    Heading("STATE", is_constant_told=False),
    Heading("FILES"),
    Heading("LINES"),
    Heading("SAME"),
    Heading("MODEL", is_constant_told=False),
    Heading("EFFORT", is_constant_told=False),
    Heading("JUDGE"),
    Heading("TOKENS"),
    Heading("WHY"),
)


def add_delegate(page: Page, envelope: Envelope) -> None:
    """Add a delegate's report, its diff, what it ran and what to look at before it is applied."""
    check = envelope.check
    if check and check.status != "passed":
        page.add(check_line(check), CHECK_STYLES[check.status])
        page.add()
    page.add_prose(envelope.answer or "")
    page.add()
    page.add_diff(visible(envelope.diff or "").rstrip("\n"))
    page.add()
    if envelope.checks:
        page.add("commands it ran:", "bold")
    for command in envelope.checks or ():
        _add_command(page, command)
    if check:
        _add_check(page, check, envelope.meta.project_file)

    page.add(str(envelope.diffstat).strip(), "bold")
    add_files(page, envelope.files or ())
    for name in envelope.ignored or ():
        page.add(f"ignored, not in the diff: {name}", indent="  ")
    for name in envelope.planted or ():
        page.add(f"PLANTED: {name}", "alarm", indent="  ")
    if envelope.attempts:
        add_attempts(page, envelope.attempts)
    if envelope.files:
        page.add(f"apply it with: codex-counsel apply {envelope.meta.job_id}")
    if envelope.attempts:
        page.add(f"compare them: codex-counsel compare {envelope.meta.job_id}")
    add_footer(page, envelope)


def _add_check(page: Page, check: CheckResult, file: ProjectFile | None) -> None:
    add_check_result(page, check)
    if file:
        page.note(project_file_line(file))


def _add_command(page: Page, check: Check) -> None:
    command = one_line(check.command, 100)
    if check.exit_code is None:
        page.add(f"unfinished: {command}", "yellow", indent="  ")
    elif check.exit_code:
        page.add(f"exit {check.exit_code}: {command}", "red", indent="  ")
    else:
        page.add(f"exit 0: {command}", "green", indent="  ")


def add_files(page: Page, files: list[DiffFile] | tuple[DiffFile, ...]) -> None:
    """Add a line for each file of a diff, with what needs a look before it is applied."""
    for file in files:
        page.add_spans(*changed_file(file))


def changed_file(file: DiffFile) -> list[Span]:
    """The parts of the line of a file."""
    spans: list[Span] = [(f"  {file.status} {file.path}", "")]
    if file.added:
        spans.append((f" +{file.added}", "green"))
    if file.deleted:
        spans.append((f" -{file.deleted}", "red"))
    if file.sensitive:
        spans.append(("  sensitive: tools execute or obey it", "alarm"))
    if file.build:
        spans.append(("  build: building or testing executes it", "yellow"))
    return spans


# --- checks


def check_line(check: CheckResult) -> str:
    """`check FAILED (exit 1): make test; it passed before the change`."""
    command = one_line(visible(check.command), MAX_COMMAND)
    line = f"check {CHECK_WORDS[check.status]}{_exit(check.exit)}: {command}"
    if check.reason:
        line += f"; {one_line(visible(check.reason), MAX_REASON)}"
    return line + base_words(check)


def base_words(check: CheckResult) -> str:
    """What the same command said before the change: `; it failed before the change too`. Empty where it was not run."""
    base = check.base_status
    if base in (None, "not_run"):
        return ""
    if base == check.status:
        return f"; it {_PAST[base]} before the change too"
    return f"; it {_PAST[base]} before the change"


_PAST: dict[CheckStatus, str] = {
    "passed": "passed",
    "failed": "failed",
    "not_started": "could not be started",
    "timed_out": "timed out",
    "not_run": "was not run",
}


def check_state(check: CheckResult | None) -> str:
    """`failed (exit 1)`, as a cell of a table."""
    if check is None:
        return NOTHING
    return f"{check.status.replace('_', ' ')}{_exit(check.exit)}"


def _exit(code: int | None) -> str:
    if code:
        return f" (exit {code})"
    return ""


def last_lines(output: str | None, limit: int = SHOWN_LINES) -> list[str]:
    """The last lines of an output, with hidden characters written out; blank ones at its end are left out."""
    return visible(output or "").rstrip().splitlines()[-limit:]


def add_check_result(page: Page, check: CheckResult) -> None:
    """Add what the check said, and the end of its output unless it passed."""
    style = CHECK_STYLES[check.status]
    line = check_line(check)
    if check.seconds is not None:
        line += f" ({check.seconds:.1f} s)"
    page.add(line, style)
    if check.status == "passed":
        return
    for text in last_lines(check.output_tail):
        page.add(text, "dim", indent="  | ")


# --- attempts


def add_attempts(page: Page, attempts: list[Attempt]) -> None:
    """Add a table of the attempts, the best one first."""
    page.add("attempts, the best one first:", "bold")
    ids = short_ids(page, [attempt.job_id or NOTHING for attempt in attempts])
    rows = []
    for attempt, job_id in zip(attempts, ids, strict=True):
        rows.append(_attempt_row(attempt, job_id))
    add_table(page, ATTEMPTS, rows, indent="  ")


def _attempt_row(attempt: Attempt, job_id: str) -> list[Span]:
    rank = str(attempt.rank)
    if attempt.tie:
        rank += "="
    check_style: Style = ""
    if attempt.check:
        check_style = CHECK_STYLES[attempt.check.status]
    why = visible(attempt.why)
    if attempt.judge_reason:
        why += f"; judge: {visible(attempt.judge_reason)}"
    return [
        (rank, ""),
        (str(attempt.attempt), ""),
        (job_id, ""),
        (check_state(attempt.check), check_style),
        (run_state(attempt.status, attempt.error), RUN_STYLES.get(attempt.status, "")),
        (str(len(attempt.files)), ""),
        (number(attempt.changed_lines), ""),
        (_agreement(attempt), ""),
        (name(attempt.model), ""),
        (name(attempt.effort), ""),
        (number(attempt.judge_rank), ""),
        (tokens(attempt.usage), ""),
        (one_line(why, 300), ""),
    ]


def _agreement(attempt: Attempt) -> str:
    """`all of 2`, or with which attempt it shares most files: `1 file of 3`."""
    agreements = attempt.agrees or []
    for agreement in agreements:
        if agreement.all:
            return f"all of {agreement.attempt}"
    shared = [agreement for agreement in agreements if agreement.files]
    if not shared:
        return NOTHING
    most = max(shared, key=lambda agreement: len(agreement.files))
    return f"{counted(len(most.files), 'file')} of {most.attempt}"


def run_state(status: str, error: str | None) -> str:
    """`done`, or how the run ended: `timeout`."""
    if status == "completed":
        return "done"
    return one_line(visible(error or status), 30)


def number(value: int | None) -> str:
    """A cell with a number, if there is one."""
    if value is None:
        return NOTHING
    return f"{value:,}"


def name(value: str | None) -> str:
    """A cell with a name of somebody else's, if there is one."""
    return one_line(visible(value or NOTHING), 30)


def tokens(usage: Usage | None) -> str:
    """A cell with all tokens of a run."""
    if usage is None:
        return NOTHING
    return short_number(usage.input + usage.output)
