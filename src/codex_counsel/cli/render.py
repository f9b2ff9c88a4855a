"""Results as a person, or the program that was named with --format, wants to read them."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO, cast

from codex_counsel.cli.output import (
    GIVE_AGAIN,
    PRINT_AGAIN,
    GuardedStream,
    is_workflow,
    json_text,
    print_own,
)
from codex_counsel.cli.page import Look, Page, flat
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.reports import REPORTS
from codex_counsel.cli.review_page import add_review
from codex_counsel.cli.review_text import add_footer, add_warnings
from codex_counsel.cli.task_text import add_attempts, add_delegate
from codex_counsel.cli.usage import csv_text
from codex_counsel.cli.verb_table import FORMATS
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

DOCUMENTS = tuple(name for name in FORMATS if name not in ("text", "json"))
"""The formats of a review that are for another reader than a person at a terminal."""


@dataclass(frozen=True)
class Target:
    """A file, and the format in which the result is written there."""

    format: str
    file: Path

    @property
    def is_writable(self) -> bool:
        """Whether it can be written now, or made; a link is written through."""
        try:
            mode = self.file.stat().st_mode
        except FileNotFoundError:
            path = Path(os.path.realpath(self.file))
            return os.access(path.parent, os.W_OK)
        except OSError:
            return False
        # That of a pipe without a name, such as /dev/fd/63, leads to no path.
        return not stat.S_ISDIR(mode) and os.access(self.file, os.W_OK)

    @property
    def identity(self) -> object:
        """Equal for two names of one file."""
        path = os.path.realpath(self.file)
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116  # beside its realpath
            return status.st_dev, status.st_ino
        return path


class UnwrittenFilesError(CounselError):
    """Files of `--output` could not be written. What could be written and printed was."""


@dataclass(frozen=True)
class Output:
    """Where a verb writes a result, and as what.

    `is_named` says that a format was asked for: then a failure is written to standard
    output too. Files get the failure in every case: so their readers find a valid
    document.
    """

    format: str = "text"
    is_named: bool = False
    is_printed: bool = True
    targets: tuple[Target, ...] = ()
    colour: str = "auto"
    quiet: bool = False

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Output:
        """What the flags of the verb say; each verb has only some of them."""
        named = getattr(arguments, "format", None)
        if getattr(arguments, "json", False):
            named = "json"
        # It has no form for a failure.
        if getattr(arguments, "csv", False):
            return cls(format="csv", quiet=arguments.quiet)
        values: list[str] = getattr(arguments, "output", None) or []
        targets = [_target(value, named or "text") for value in values]
        return cls(
            format=named or "text",
            is_named=named is not None,
            # One file alone has the result instead of standard output.
            is_printed=len(values) != 1 or _format_of(values[0]) is not None,
            targets=tuple(targets),
            colour=getattr(arguments, "color", "auto"),
            quiet=getattr(arguments, "quiet", False),
        )

    @property
    def formats(self) -> tuple[str, ...]:
        """All formats that are written."""
        formats = [target.format for target in self.targets]
        if self.is_printed:
            formats.append(self.format)
        return tuple(formats)

    def check(self, *, documents: Collection[str] = DOCUMENTS) -> None:
        """Raise `invalid_arguments` where a file could not be written, before anything is spent.

        `documents` are the formats beside text and JSON that the result has.
        """
        files = set()
        for target in self.targets:
            if not target.is_writable:
                raise CounselError(
                    Code.INVALID_ARGUMENTS,
                    f"--output: {target.file} cannot be written",
                )
            file = target.identity
            if file in files:
                raise CounselError(
                    Code.INVALID_ARGUMENTS, f"--output: {target.file} is named twice"
                )
            files.add(file)
            if target.format in DOCUMENTS and target.format not in documents:
                raise CounselError(
                    Code.INVALID_ARGUMENTS,
                    f"--output: {target.format} is for reviews",
                    repair=f"For a file of this name, write --output ./{target.format}=...",
                )

    def show(
        self,
        wire: EnvelopeDict,
        *,
        is_answer: bool = False,
        review: EnvelopeDict | None = None,
    ) -> None:
        """Write an envelope to the files, and print it. A failure goes to stderr, and where a document was asked for.

        `is_answer` marks a failure that answers what was asked: it is printed as a
        result. `review` is what formats for reviews show where the envelope only
        judges one. Raises `UnwrittenFilesError` at the end.
        """
        LINE.erase()
        if not wire["ok"] and not is_answer:
            self._show_failure(wire)
        if self.quiet and wire["ok"] and "budget_reached" in wire["meta"]:
            limit = wire["meta"]["budget_reached"]["limit"]
            print(
                f"note: cut short: the run used up its {limit} tokens", file=sys.stderr
            )
        problems = []
        for target in self.targets:
            try:
                self._write_file(target, wire, review)
            except OSError as error:
                problems.append(f"{target.file}: {error.strerror}")
        if self.is_printed and (wire["ok"] or is_answer or self.is_named):
            name = self.format
            # It says how to fetch the result.
            if is_unfinished(wire) and name in DOCUMENTS:
                name = "text"
            self._write(name, wire, review, sys.stdout)
            # What could not be printed is not delivered: this flush may fail.
            sys.stdout.flush()
        if problems:
            repair = PRINT_AGAIN
            # The tool of a run has the name that MCP clients call it by.
            if str(wire["tool"]).startswith("codex-counsel "):
                repair = GIVE_AGAIN
            raise UnwrittenFilesError(
                Code.STORAGE_FAILED,
                f"--output: {'; '.join(problems)}",
                repair=repair,
            )

    def _show_failure(self, wire: EnvelopeDict) -> None:
        is_on_stdout = self.is_named and self.is_printed
        if is_on_stdout and self.format in ("text", "json"):
            return
        look = Look.of(sys.stderr, os.environ, self.colour, quiet=self.quiet)
        _page(wire, look).print(sys.stderr)

    def _write_file(
        self, target: Target, wire: EnvelopeDict, review: EnvelopeDict | None
    ) -> None:
        with open(
            target.file,
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            opener=_open_at_once,
        ) as file:
            guarded = GuardedStream(file, in_workflow=is_workflow(os.environ))
            self._write(target.format, wire, review, cast("TextIO", guarded))

    def _write(
        self,
        name: str,
        wire: EnvelopeDict,
        review: EnvelopeDict | None,
        stream: TextIO,
    ) -> None:
        """Write the envelope in the format of this name."""
        if name == "json":
            print(json_text(wire), file=stream)
        elif name == "csv":
            print(csv_text(wire), file=stream, end="")
        elif name == "text":
            look = Look.of(stream, os.environ, self.colour, quiet=self.quiet)
            _page(wire, look).print(stream)
        else:
            _write_document(name, parse_envelope(review or wire), stream)


def _open_at_once(path: str, flags: int) -> int:
    """As `open`; a pipe that nobody reads is an error, and not a wait without end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _write_document(name: str, review: Envelope, stream: TextIO) -> None:
    # The usual text does without it.
    from codex_counsel.cli.formats import render

    text = render(review, name)
    if name == "github":
        print_own(text, stream)
    else:
        print(text, file=stream)


def _target(value: str, default: str) -> Target:
    """`sarif=FILE`, or a file in the format `default`."""
    name = _format_of(value)
    if name is None:
        return Target(default, Path(value))
    return Target(name, Path(value.removeprefix(f"{name}=")))


def _format_of(value: str) -> str | None:
    name, equals, _ = value.partition("=")
    if equals and name in FORMATS:
        return name
    return None


def show_error(arguments: argparse.Namespace, error: CounselError) -> int:
    """Print a failure that has no envelope yet; returns the exit code of its error code."""
    wire = failed(f"codex-counsel {arguments.verb}", error).wire()
    output = Output.of(arguments)
    # The other files have the result.
    if isinstance(error, UnwrittenFilesError):
        output = replace(output, is_named=False, targets=())
    # It is on stderr already where a file cannot be written.
    with suppress(CounselError):
        output.show(wire)
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


def _add_failure(page: Page, envelope: Envelope, error: Failure) -> None:
    message = in_terminal_words(error.message)
    page.add(f"{error.code}: {message}", "red")
    page.add(f"what to do: {repair_of(error)}")
    if error.retry_after_ms:
        page.add(f"retry after: {error.retry_after_ms // 1000} s")
    if envelope.diff_path:
        page.add(f"its work so far: {envelope.diffstat}, in {envelope.diff_path}")
    elif envelope.files:
        names = ", ".join(file.path for file in envelope.files)
        page.add(f"changed, though tools execute or obey them: {names}", "red")
    if envelope.attempts:
        add_attempts(page, envelope.attempts)
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
