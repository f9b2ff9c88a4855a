"""A comparison of tasks as one page of HTML: the diffs of each file side by side. See `html_document`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from codex_counsel import __version__
from codex_counsel.cli.compare_text import agreement, lines_of, rank, remark, took
from codex_counsel.cli.formats.html_code import row
from codex_counsel.cli.formats.html_controls import bar, list_of_keys, toggles
from codex_counsel.cli.formats.html_document import document
from codex_counsel.cli.formats.html_finding import tag
from codex_counsel.cli.formats.html_top import table
from codex_counsel.cli.formats.markup import Content, Markup, element, joined
from codex_counsel.cli.review_text import counted, reason_of
from codex_counsel.cli.table import NOTHING
from codex_counsel.cli.task_text import (
    MAX_COMMAND,
    MAX_REASON,
    base_words,
    check_state,
    run_state,
)
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import CheckResult, Envelope, Failure
from codex_counsel.services.comparison import (
    ComparedFile,
    ComparedJob,
    Comparison,
    Version,
)
from codex_counsel.system.text import one_line, size

MAX_PAGE = 8_000_000
"""Bytes of a page. Of a longer one the last diffs are left out, and then files."""
MAX_OPTIONS = 1_000
"""Files in the list of files."""
MANY = 20
"""Files above which a browser renders only those that are in sight."""
SAME, DIFFERENT = "the same in all", "different"
_NOT_SHOWN = ("diff --git ", "index ", "--- ", "+++ ")
"""Beginnings of lines before the first hunk that say what the page says anyway."""
_STYLES = {"+": "ins", "-": "del", "@": "hunk"}
_STATUSES = {
    "A": "added",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "T": "another type",
}
_NUMBERS = {"1": "show or hide files that differ", "2": "show or hide the others"}
_NONE = "No file passes the filters."


def compare_html(envelope: Envelope) -> str:
    """A complete document, also for a comparison that failed."""
    if envelope.error:
        return document("Nothing was compared", *_failure(envelope.error))
    comparison = Comparison.parse(envelope.data)
    top = _top(envelope, comparison)
    tasks = _tasks(comparison)
    articles, notes = _fit(comparison.files, MAX_PAGE - size(tasks))
    style = ""
    if len(articles) > MANY:
        style = "many"
    return document(
        envelope.summary,
        element("a", "Skip to the files", class_="skip", href="#files"),
        top,
        _notes([*comparison.notes, *notes]),
        tasks,
        _controls(comparison.files[: len(articles)]),
        element(
            "main",
            element("h2", "Files", class_="hidden"),
            *articles,
            element("p", _none(comparison), class_="none", hidden=bool(articles)),
            id="files",
            class_=style,
        ),
        _footer(),
        list_of_keys("file", _NUMBERS),
        style="compare.css",
        class_="comparison",
    )


def _none(comparison: Comparison) -> str:
    if comparison.files:
        return _NONE
    return "No task changed a file."


def _failure(error: Failure) -> list[Content]:
    title = element("span", "Nothing was compared", class_="verdict failed")
    return [
        element(
            "header",
            element("p", "Comparison of tasks", class_="eyebrow"),
            element("h1", title),
            element("p", reason_of(error), class_="lead", dir="auto"),
            element("p", f"What to do: {repair_of(error)}", dir="auto"),
        )
    ]


def _top(envelope: Envelope, comparison: Comparison) -> Markup:
    jobs = comparison.jobs
    bases = {job.base_sha for job in jobs if job.base_sha}
    facts: dict[str, str | None] = {
        "Task": _common([job.subject for job in jobs]),
        "Directory": _common([job.workspace for job in jobs]),
        "Start": _common([base[:12] for base in bases]),
    }
    return element(
        "header",
        element("p", "Comparison of tasks", class_="eyebrow"),
        element("h1", envelope.summary),
        table(facts),
    )


def _common(values: list[str]) -> str | None:
    """The value that they all have, if there is one."""
    if len(set(values)) == 1:
        return one_line(values[0], MAX_REASON)
    return None


def _notes(notes: list[str]) -> Content:
    if not notes:
        return None
    items = [element("li", note, dir="auto") for note in notes]
    return element(
        "section",
        element("h2", "Notes", class_="hidden"),
        element("ul", *items),
        class_="notes",
    )


# --- the tasks


def _tasks(comparison: Comparison) -> Markup:
    subjects = {job.subject for job in comparison.jobs}
    cards = []
    for job in comparison.jobs:
        subject: Content = None
        if len(subjects) > 1:
            subject = element("p", job.subject, class_="subject", dir="auto")
        cards.append(_card(job, subject))
    return element(
        "section",
        element("h2", "Tasks", class_="hidden"),
        *cards,
        class_="tasks",
    )


def _card(job: ComparedJob, subject: Content) -> Markup:
    facts = {
        "Rank": rank(job),
        "Lines": lines_of(job),
        "Files": None if job.problem else f"{job.files:,}",
        "Outside tests": _lines_outside_tests(job),
        "Agrees": agreement(job),
        "Model": job.model,
        "Effort": job.effort,
        "Judge's rank": _number(job.judge_rank),
        "Tokens": _tokens(job),
        "Took": took(job),
    }
    told = {name: value for name, value in facts.items() if value != NOTHING}
    return element(
        "section",
        element("h3", *_badge([job.label]), f" {_state(job)}"),
        element("p", element("code", job.job_id)),
        subject,
        element("p", remark(job)[:MAX_REASON], class_="reason", dir="auto"),
        table(told),
        *_check(job.check),
        class_="task",
    )


def _state(job: ComparedJob) -> str:
    state = run_state(job.status, job.error)
    if state == "done":
        return job.diffstat or state
    return state


def _lines_outside_tests(job: ComparedJob) -> str | None:
    if job.changed_lines is None:
        return None
    return counted(job.changed_lines, "line")


def _number(value: int | None) -> str | None:
    if value is None:
        return None
    return f"{value:,}"


def _tokens(job: ComparedJob) -> str | None:
    if job.usage is None:
        return None
    return f"{job.usage.input:,} in, {job.usage.output:,} out"


def _check(check: CheckResult | None) -> list[Content]:
    """The check, and the end of its output behind a click."""
    if check is None:
        return []
    words = ""
    if check.seconds is not None:
        words += f" ({check.seconds:.1f} s)"
    if check.reason:
        words += f"; {one_line(check.reason, MAX_REASON)}"
    words += base_words(check)
    parts: list[Content] = [
        element(
            "p",
            tag(check_state(check), f"check {check.status}"),
            element("code", one_line(check.command, MAX_COMMAND)),
            words,
            class_="outcome",
            dir="auto",
        )
    ]
    output = (check.output_tail or "").rstrip()
    if output:
        code = element("pre", element("code", output, dir="ltr"), tabindex="0")
        summary = element("summary", "The end of its output")
        is_open = check.status != "passed"
        parts.append(element("details", summary, code, open=is_open))
    return parts


def _badge(labels: list[str]) -> Iterator[Markup]:
    """The labels of tasks, as they stand everywhere on the page."""
    for label in labels:
        yield element("span", label, class_="badge")


# --- the filters


def _controls(files: list[ComparedFile]) -> Content:
    if len(files) < 2:
        return None
    counts = Counter(_same(file) for file in files)
    options = [element("option", "All files", value="")]
    for number, file in enumerate(files[:MAX_OPTIONS], 1):
        options.append(element("option", one_line(file.path), value=number))
    choice = element("select", *options, name="file", aria_label="File")
    group = toggles("same", "Agreement", counts, (DIFFERENT, SAME), has_keys=True)
    return bar([group], choice)


def _same(file: ComparedFile) -> str:
    if file.same:
        return SAME
    return DIFFERENT


# --- the files


def _fit(files: list[ComparedFile], room: int) -> tuple[list[Markup], list[str]]:
    """As many files as `room` (bytes) is enough for, and what was left out."""
    articles: list[Markup] = []
    without_diff = 0
    for number, file in enumerate(files, 1):
        article = _article(file, number, has_diffs=True)
        if size(article) > room:
            article = _article(file, number, has_diffs=False)
            without_diff += 1
        room -= size(article)
        if room < 0:
            without_diff -= 1
            break
        articles.append(article)
    notes = []
    if without_diff:
        files_without = counted(without_diff, "file")
        notes.append(f"without the diffs of {files_without}: the page would be too big")
    if len(articles) < len(files):
        notes.append(
            f"{len(files) - len(articles):,} more files have no room on this page"
        )
    return articles, notes


def _article(file: ComparedFile, number: int, *, has_diffs: bool) -> Markup:
    title = f"file-{number}"
    versions: list[Content] = []
    for version in file.versions:
        versions.append(_version(file, version, has_diffs=has_diffs))
    if file.untouched:
        words = element("p", "not changed", class_="caption")
        versions.append(
            element(
                "section",
                element("h4", *_badge(file.untouched)),
                words,
                class_="version",
            )
        )
    return element(
        "article",
        element(
            "header",
            element("h3", _breakable(file.path), id=title),
            tag(_same(file), "same" if file.same else "different"),
        ),
        element("div", *versions, class_="versions"),
        id=f"f-{number}",
        class_="file",
        tabindex="-1",
        aria_labelledby=title,
        data_same=_same(file),
        data_file=number,
    )


def _breakable(path: str) -> Markup:
    """The path, which may break after each folder."""
    folders = one_line(path, 1_000).split("/")
    parts: list[Content] = [folders[0]]
    for folder in folders[1:]:
        parts += ["/", element("wbr"), folder]
    return element("code", *parts)


def _version(file: ComparedFile, version: Version, *, has_diffs: bool) -> Markup:
    tags: list[Content] = []
    if version.added:
        tags.append(element("span", f"+{version.added:,}", class_="plus"))
    if version.deleted:
        tags.append(element("span", f"-{version.deleted:,}", class_="minus"))
    if version.status in _STATUSES:
        tags.append(tag(_STATUSES[version.status]))
    if version.sensitive:
        tags.append(tag("sensitive: tools execute or obey it", "high"))
    if version.build:
        tags.append(tag("build: building or testing executes it", "medium"))
    title = f"{one_line(file.path)} of {', '.join(version.labels)}"
    parts: list[Content] = []
    if has_diffs:
        parts.append(_diff(version.diff, title))
    else:
        parts.append(element("p", "not shown here", class_="caption"))
    if version.omitted:
        parts.append(element("p", version.omitted, class_="caption"))
    labels = joined(_badge(version.labels))
    return element("section", element("h4", labels, *tags), *parts, class_="version")


def _diff(diff: str, title: str) -> Content:
    """The lines of a diff with their signs; those of one kind that follow each other are one row."""
    rows: list[Markup] = []
    run: list[str] = []
    style = ""
    in_hunk = False
    for line in diff.split("\n"):
        in_hunk = (in_hunk or line.startswith("@@ ")) and not line.startswith(
            "diff --git "
        )
        if not in_hunk and line.startswith(_NOT_SHOWN):
            continue
        kind = _STYLES.get(line[:1], "") if in_hunk else "head"
        if kind != style and run:
            rows.append(row("\n".join(run), style))
            run = []
        style = kind
        run.append(line)
    text = "\n".join(run).rstrip("\n")
    if text:
        rows.append(row(text, style))
    if not rows:
        return None
    code = element("code", *rows, dir="ltr")
    return element(
        "pre", code, tabindex="0", role="group", aria_label=title, class_="patch"
    )


def _footer() -> Markup:
    return element(
        "footer",
        element(
            "p",
            f"Written by codex-counsel {__version__}. Each task is a box; tasks that left a file in the same state "
            "have one diff of it. Put the diff of a task into your files with ",
            element("code", "codex-counsel apply JOB"),
            ".",
        ),
    )
