"""Results as a person, or the program that was named with --format, wants to read them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

from codex_counsel.cli.output import (
    PRINT_AGAIN,
    GuardedStream,
    is_workflow,
    json_text,
    print_own,
)
from codex_counsel.cli.page import Look, Page, flat
from codex_counsel.cli.parser import FORMATS
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.reports import REPORTS, add_files
from codex_counsel.cli.review_text import add_footer, add_review, add_warnings
from codex_counsel.cli.usage import csv_text
from codex_counsel.cli.words import (
    HIDDEN_DETAILS,
    LABELS,
    in_terminal_words,
    repair_of,
)
from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Failure,
    failed,
    progress_line,
)
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.services.checking import is_unfinished, parse_envelope
from codex_counsel.system.text import one_line, visible

DOCUMENTS = tuple(name for name in FORMATS if name not in ("text", "json"))
"""The formats of a review that are for another reader than a person at a terminal."""


@dataclass(frozen=True)
class Output:
    """Where a verb prints, and as what.

    `is_named` says that a format or a file was asked for: then a failure is written
    there too, so that its reader gets a valid document in every case.
    """

    format: str = "text"
    is_named: bool = False
    file: Path | None = None
    colour: str = "auto"
    quiet: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Output:
        """What the flags of the verb say; each verb has only some of them."""
        named = getattr(arguments, "format", None)
        if getattr(arguments, "json", False):
            named = "json"
        file = getattr(arguments, "output", None)
        # It has no form for a failure.
        if getattr(arguments, "csv", False):
            return cls(format="csv", quiet=arguments.quiet)
        return cls(
            format=named or "text",
            is_named=named is not None or file is not None,
            file=None if file is None else Path(file),
            colour=getattr(arguments, "color", "auto"),
            quiet=getattr(arguments, "quiet", False),
        )

    def check(self) -> None:
        """Raise `invalid_arguments` where the file could not be written, before anything is spent."""
        if self.file is None:
            return
        target = self.file if self.file.exists() else self.file.absolute().parent
        if self.file.is_dir() or not os.access(target, os.W_OK):
            raise CounselError(
                Code.INVALID_ARGUMENTS, f"--output: {self.file} cannot be written"
            )

    def show(self, wire: EnvelopeDict, *, is_answer: bool = False) -> None:
        """Print an envelope, and flush it. A failure goes to stderr; also to where a document was asked for.

        `is_answer` marks a failure that answers what was asked: it is printed as a result.
        """
        LINE.erase()
        if not wire["ok"] and not is_answer:
            self._show_failure(wire)
        if self.quiet and wire["ok"] and "budget_reached" in wire["meta"]:
            limit = wire["meta"]["budget_reached"]["limit"]
            print(
                f"note: cut short: the run used up its {limit} tokens", file=sys.stderr
            )
        if wire["ok"] or is_answer or self.is_named:
            with self._opened() as stream:
                self._write(wire, stream)

    def _show_failure(self, wire: EnvelopeDict) -> None:
        is_on_stdout = self.is_named and self.file is None
        if is_on_stdout and self.format in ("text", "json"):
            return
        look = Look.of(sys.stderr, os.environ, self.colour, quiet=self.quiet)
        _page(wire, look).print(sys.stderr)

    def _write(self, wire: EnvelopeDict, stream: TextIO) -> None:
        if self.format == "json":
            print(json_text(wire), file=stream)
        elif self.format == "csv":
            print(csv_text(wire), file=stream, end="")
        elif self.format == "text" or is_unfinished(wire):
            look = Look.of(stream, os.environ, self.colour, quiet=self.quiet)
            _page(wire, look).print(stream)
        else:
            self._write_document(parse_envelope(wire), stream)

    def _write_document(self, review: Envelope, stream: TextIO) -> None:
        # The usual text does without it.
        from codex_counsel.cli.formats import render

        text = render(review, self.format)
        if self.format == "github":
            print_own(text, stream)
        else:
            print(text, file=stream)

    @contextmanager
    def _opened(self) -> Iterator[TextIO]:
        if self.file is None:
            yield sys.stdout
            # What could not be printed is not delivered: this flush may fail.
            sys.stdout.flush()
            return
        try:
            with self.file.open("w", encoding="utf-8") as file:
                in_workflow = is_workflow(os.environ)
                yield cast("TextIO", GuardedStream(file, in_workflow=in_workflow))
        except OSError as error:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"--output: {self.file}: {error.strerror}",
                repair=PRINT_AGAIN,
            ) from None


def show_error(arguments: argparse.Namespace, error: CounselError) -> int:
    """Print a failure that has no envelope yet; returns the exit code of its error code."""
    wire = failed(f"codex-counsel {arguments.verb}", error).wire()
    # It was on stderr already where the file cannot be written.
    with suppress(CounselError):
        Output.of(arguments).show(wire)
    return CATALOG[error.code].exit_code


# --- as text


def _page(wire: EnvelopeDict, look: Look) -> Page:
    """The envelope as text; as JSON where another release stored something that this one does not know."""
    page = Page(look)
    try:
        envelope = Envelope.parse(wire)
    except ValueError:
        for line in json_text(wire).splitlines():
            page.add_spans((line, ""))
        return page
    add_envelope(page, envelope)
    return page


def add_envelope(page: Page, envelope: Envelope) -> None:
    """Add the envelope of any tool."""
    if envelope.error:
        _add_failure(page, envelope, envelope.error)
    elif envelope.verdict:
        add_review(page, envelope)
    elif envelope.diffstat is not None:
        add_delegate(page, envelope)
    elif envelope.answer is not None:
        page.add_prose(envelope.answer)
        if not page.look.quiet:
            page.add()
        add_footer(page, envelope)
    elif envelope.status in ("running", "queued"):
        _add_running(page, envelope)
    elif envelope.tool in REPORTS:
        REPORTS[envelope.tool](page, envelope)
    else:
        _add_other(page, envelope)


def _add_running(page: Page, envelope: Envelope) -> None:
    state: str = envelope.status
    if envelope.progress:
        state = progress_line(envelope.progress)
    page.add(f"Job {envelope.job_id} is not finished: {state}")
    page.note(f"fetch it with: codex-counsel result --wait {envelope.job_id}", "")


def _add_other(page: Page, envelope: Envelope) -> None:
    page.add(in_terminal_words(envelope.summary))
    if envelope.next:
        job_id = envelope.next.arguments.get("job_id", "JOB")
        page.note(f"see it with: codex-counsel result {job_id}")
    add_warnings(page, envelope)


def add_delegate(page: Page, envelope: Envelope) -> None:
    """Add a delegate's report, its diff, what it ran and what to look at before it is applied."""
    page.add_prose(envelope.answer or "")
    page.add()
    page.add_diff(visible(envelope.diff or "").rstrip("\n"))
    page.add()
    if envelope.checks:
        page.add("commands it ran:", "bold")
    for check in envelope.checks or ():
        command = one_line(check.command, 100)
        if check.exit_code is None:
            page.add(f"unfinished: {command}", "yellow", indent="  ")
        elif check.exit_code:
            page.add(f"exit {check.exit_code}: {command}", "red", indent="  ")
        else:
            page.add(f"exit 0: {command}", "green", indent="  ")

    page.add(str(envelope.diffstat).strip(), "bold")
    add_files(page, envelope.files or ())
    for name in envelope.ignored or ():
        page.add(f"ignored, not in the diff: {name}", indent="  ")
    for name in envelope.planted or ():
        page.add(f"PLANTED: {name}", "alarm", indent="  ")
    if envelope.files:
        page.add(f"apply it with: codex-counsel apply {envelope.meta.job_id}")
    add_footer(page, envelope)


def _add_failure(page: Page, envelope: Envelope, error: Failure) -> None:
    message = in_terminal_words(error.message)
    page.add(f"{error.code}: {message}", "red")
    page.add(f"what to do: {repair_of(error)}")
    if error.retry_after_ms:
        page.add(f"retry after: {error.retry_after_ms // 1000} s")
    if envelope.files:
        page.add(f"its work so far: {envelope.diffstat}, in {envelope.diff_path}")
    if envelope.answer:
        page.add()
        page.add("interim message:")
        page.add_prose(envelope.answer)
    details = error.details or {}
    if envelope.meta.job_id:
        details = {"job_id": envelope.meta.job_id, **details}
    for name, value in details.items():
        if name not in HIDDEN_DETAILS:
            label = LABELS.get(name, name.replace("_", " "))
            page.add(f"{label}: {flat(value)}")
