"""Results as a person wants to read them."""

from __future__ import annotations

import sys

from codex_counsel.cli.formats import footer, render, terminal_text
from codex_counsel.cli.output import json_text, print_own
from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Failure, failed
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible


def show(wire: EnvelopeDict, *, as_json: bool) -> int:
    """Print an envelope, a failure to stderr unless it is printed as JSON. Returns 0 for `ok`, else 1."""
    if as_json:
        print(json_text(wire))
    elif wire["ok"]:
        print(_text(wire))
    else:
        print(_text(wire), file=sys.stderr)

    if wire["ok"]:
        return 0
    return 1


def print_review(review: Envelope, name: str) -> None:
    """Print the review in one of `parser.FORMATS`."""
    text = render(review, name)
    if name == "github":
        print_own(text, sys.stdout)
    else:
        print(text)


def _text(wire: EnvelopeDict) -> str:
    """The envelope as text; as JSON where another release stored something that this one does not know."""
    try:
        return readable(Envelope.parse(wire))
    except ValueError:
        return json_text(wire)


def show_error(name: str, error: CounselError, *, as_json: bool) -> int:
    """Print a failure as the envelope of the tool `name`; returns the exit code of its error code."""
    show(failed(name, error).wire(), as_json=as_json)
    return CATALOG[error.code].exit_code


def parse_envelope(wire: EnvelopeDict) -> Envelope:
    """The envelope of a wire object; raises `job_corrupt` for one that is damaged."""
    try:
        return Envelope.parse(wire)
    except ValueError as error:
        raise CounselError(
            Code.JOB_CORRUPT, f"The result is no envelope: {error}"
        ) from None


def exit_code(wire: EnvelopeDict) -> int:
    """The exit code of a run with this result: that of its error code, if it failed."""
    if "error" in wire:
        return CATALOG[Code(wire["error"]["code"])].exit_code
    if wire["ok"]:
        return 0
    return 1


def readable(envelope: Envelope) -> str:
    """The envelope as text for a terminal."""
    if envelope.error:
        return "\n".join(_failure(envelope, envelope.error))
    if envelope.verdict:
        return terminal_text(envelope)
    if envelope.diffstat is not None:
        return delegate_report(envelope)
    if envelope.answer is not None:
        return "\n".join([envelope.answer, "", *footer(envelope)])
    if envelope.status in ("running", "queued"):
        return f"{envelope.summary}\nfetch it with: codex-counsel result --wait {envelope.job_id}"

    lines = [envelope.summary]
    lines += _data(envelope.data)
    for step in envelope.next_steps or ():
        lines.append(f"to do: {step}")
    return "\n".join(lines)


def delegate_report(envelope: Envelope) -> str:
    """A delegate's report, its diff, what it ran and what to look at before it is applied."""
    lines = [
        envelope.answer or "",
        "",
        visible(envelope.diff or ""),
    ]
    if envelope.checks:
        lines.append("commands it ran:")
    for check in envelope.checks or ():
        command = one_line(check.command, 100)
        lines.append(f"  exit {check.exit_code}: {command}")

    lines.append(str(envelope.diffstat))
    for name in envelope.ignored or ():
        lines.append(f"  ignored, not in the diff: {name}")
    for name in envelope.planted or ():
        lines.append(f"  PLANTED: {name}")
    for file in envelope.files or ():
        if file.sensitive:
            lines.append(f"  sensitive: {file.path}")
    if envelope.files:
        lines.append(f"apply it with: codex-counsel apply {envelope.meta.job_id}")

    lines += footer(envelope)
    return "\n".join(lines)


def _failure(envelope: Envelope, error: Failure) -> list[str]:
    lines = [
        f"{error.code}: {error.message}",
        f"what to do: {error.repair}",
    ]
    if envelope.files:
        lines.append(f"its work so far: {envelope.diffstat}, in {envelope.diff_path}")
    if envelope.answer:
        lines += ["", "interim message:", envelope.answer]
    for name, value in (error.details or {}).items():
        lines.append(f"{name}: {_flat(value)}")
    return lines


def _data(data: Json) -> list[str]:
    """The object of a free tool: jobs and models as tables, all else as one line per key."""
    lines: list[str] = []
    if not isinstance(data, dict):
        return lines
    if "jobs" in data:
        for row in data["jobs"]:
            lines.append(_job(row))
        return lines
    if "models" in data:
        for row in data["models"]:
            efforts = ", ".join(row["efforts"])
            lines.append(f"  {row['model']}: {efforts}")
        return lines

    for name, value in data.items():
        if name not in ("settings", "usable"):
            lines.append(f"  {name}: {_flat(value)}")
    return lines


def _job(row: JsonObject) -> str:
    columns = (
        row.get("started", "-"),
        row["job_id"],
        f"{row['status']:<9}",
        row.get("tool", "-"),
        row.get("subject", ""),
    )
    return "  " + "  ".join(columns)


def _flat(value: Json) -> str:
    if not isinstance(value, dict):
        return str(value)
    parts = []
    for name, item in value.items():
        if item is not None:
            parts.append(f"{name} {_flat(item)}")
    return ", ".join(parts)
