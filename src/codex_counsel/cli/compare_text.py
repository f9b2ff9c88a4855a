"""A comparison of delegated tasks for a terminal: a table of the tasks, then their diffs, file by file."""

from __future__ import annotations

from codex_counsel.cli.page import Page, Span, Style
from codex_counsel.cli.review_text import add_warnings, counted
from codex_counsel.cli.table import NOTHING, Heading, add_table, short_ids
from codex_counsel.cli.task_text import (
    CHECK_STYLES,
    MAX_REASON,
    RUN_STYLES,
    add_check_result,
    changed_file,
    check_state,
    name,
    number,
    run_state,
    tokens,
)
from codex_counsel.contract.envelope import DiffFile, Envelope
from codex_counsel.services.comparison import (
    ComparedFile,
    ComparedJob,
    Comparison,
    Version,
)
from codex_counsel.system.amounts import short_number
from codex_counsel.system.text import one_line, visible

COLUMNS = (
    Heading("TASK", is_kept=True),
    Heading("JOB", is_kept=True),
    Heading("RANK"),
    Heading("CHECK", is_constant_told=False),
    Heading("STATE", is_kept=True),
    Heading("FILES"),
    Heading("LINES"),
    Heading("SAME"),
    Heading("MODEL", is_constant_told=False),
    Heading("EFFORT", is_constant_told=False),
    Heading("JUDGE"),
    Heading("TOKENS"),
    Heading("TOOK"),
    Heading("WHY"),
)


def add_comparison(page: Page, envelope: Envelope) -> None:
    """Add the table, the checks that did not pass, and the diffs: what is the same in all comes once."""
    comparison = Comparison.parse(envelope.data)
    page.add(envelope.summary, "bold")
    for note in comparison.notes:
        page.add(f"note: {visible(note)}", "yellow")
    ids = short_ids(page, [visible(job.job_id) for job in comparison.jobs])
    rows = [_row(job, job_id) for job, job_id in zip(comparison.jobs, ids, strict=True)]
    add_table(page, COLUMNS, rows)
    for job in comparison.jobs:
        # The table says why a check was not run.
        if job.check and job.check.status not in ("passed", "not_run"):
            page.add()
            page.add(f"{job.label}:", "bold")
            add_check_result(page, job.check)

    for file in comparison.files:
        page.add()
        _add_file(page, file)
    page.add()
    page.note("apply one of them with: codex-counsel apply JOB", "")
    add_warnings(page, envelope)


def _row(job: ComparedJob, job_id: str) -> list[Span]:
    check_style: Style = ""
    if job.check:
        check_style = CHECK_STYLES[job.check.status]
    return [
        (job.label, "bold"),
        (job_id, ""),
        (rank(job), ""),
        (check_state(job.check), check_style),
        (run_state(job.status, job.error), RUN_STYLES.get(job.status, "")),
        (number(None if job.problem else job.files), ""),
        (lines_of(job), ""),
        (agreement(job), ""),
        (name(job.model), ""),
        (name(job.effort), ""),
        (number(job.judge_rank), ""),
        (tokens(job.usage), ""),
        (took(job), ""),
        (one_line(remark(job), MAX_REASON), ""),
    ]


def rank(job: ComparedJob) -> str:
    """`1`, or `2=` for one of several with this rank."""
    if job.rank is None:
        return NOTHING
    if job.tie:
        return f"{job.rank}="
    return str(job.rank)


def lines_of(job: ComparedJob) -> str:
    """`+12 -3`."""
    if job.problem:
        return NOTHING
    return f"+{job.added} -{job.deleted}"


def agreement(job: ComparedJob) -> str:
    """`all of 2`, or how many of its files another task left the same: `3 of 4 files`."""
    if job.same_as:
        return f"all of {', '.join(job.same_as)}"
    if not job.shared_files:
        return NOTHING
    return f"{job.shared_files:,} of {counted(job.files, 'file')}"


def took(job: ComparedJob) -> str:
    """How long the run took: `83 s`."""
    if job.elapsed_ms is None:
        return NOTHING
    return f"{short_number(job.elapsed_ms // 1000)} s"


def remark(job: ComparedJob) -> str:
    """Why there is no diff, why the task has its rank, or what it was to do."""
    if job.problem:
        return visible(job.problem)
    words = visible(job.why or job.subject)
    if job.judge_reason:
        words += f"; judge: {visible(job.judge_reason)}"
    return words


def _add_file(page: Page, file: ComparedFile) -> None:
    words = "different"
    if file.same:
        words = "the same in all"
    page.add_spans((visible(file.path), "bold"), (f"  {words}", "dim"))
    for version in file.versions:
        _add_version(page, file, version)
    if file.untouched:
        page.add(f"{', '.join(file.untouched)}: not changed", "dim")


def _add_version(page: Page, file: ComparedFile, version: Version) -> None:
    row = DiffFile(
        path=visible(file.path),
        status=version.status,
        added=version.added,
        deleted=version.deleted,
        sensitive=version.sensitive,
        build=version.build,
    )
    page.add_spans((f"{', '.join(version.labels)}:", "bold"), *changed_file(row))
    page.add_diff(visible(version.diff).rstrip("\n"))
    if version.omitted:
        page.add(visible(version.omitted), "yellow")
