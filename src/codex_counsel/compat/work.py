"""What an answer of `codex` says of the changes that a turn made, in its copy or in the workspace itself. Pure."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from codex_counsel.compat.guarded import NOT_ALL_SEEN, NOT_NOTED
from codex_counsel.contract.envelope import CheckResult
from codex_counsel.delegate.conclude import check_line
from codex_counsel.system.text import cut, one_line

if TYPE_CHECKING:
    from codex_counsel.contract.envelope import EnvelopeDict

MAX_DIFF = 20_000
"""Bytes of a diff that an answer shows."""
MAX_NAMED = 20
"""Paths that one sentence names."""
MAX_NOTE = 1_000
"""Characters of a warning."""
GUARDED = (
    "Look at these before anything else is done in the workspace. Tools execute or obey them, and they changed there "
    "while the turn ran: {paths}."
)
STATUS = {"A": "new", "M": "changed", "D": "removed"}
TOLD_WARNINGS = (
    "not copied into the tree",
    "not captured",
    "the changed files hold",
    "git takes these",
    "the tree has the files of these submodules",
)
"""How the warnings begin without which the diff would be taken for what it is not."""
UNCHANGED = "No file was changed."
IN_COPY = "These changes are in a copy, not in the workspace. `codex-counsel apply {job}` applies them."
KEPT = (
    "What the turn had changed before it ended is kept ({diffstat}): `codex-counsel result {job}` shows it, "
    "`codex-counsel apply {job}` applies it, and codex-reply goes on from it."
)
CUT = "The diff has {size} bytes, and this is its beginning. `codex-counsel result {job}` shows all of it."
SENSITIVE = (
    "Tools execute or obey these files, so `apply` refuses them until each is accepted with --allow-path: "
    "{paths}"
)


def of_task(wire: EnvelopeDict, job_id: str) -> list[str]:
    """The paragraphs that follow the text of a completed task."""
    parts = []
    if "check" in wire:
        parts.append(check_line(CheckResult(**wire["check"])))
    diff = str(wire.get("diff") or "")
    if diff:
        parts += _changes(wire, diff, job_id)
    else:
        parts.append(UNCHANGED)
    warnings = wire["meta"].get("warnings", ())
    told = [text for text in warnings if text.startswith(TOLD_WARNINGS)]
    parts += [f"Note: {one_line(text, MAX_NOTE)}" for text in told]
    return parts


def of_failed_task(wire: EnvelopeDict, job_id: str) -> list[str]:
    """The paragraphs that follow the failure of a task that had changed something."""
    return [
        KEPT.format(diffstat=wire.get("diffstat"), job=job_id),
        *_sensitive(wire),
    ]


def of_change(wire: EnvelopeDict) -> list[str]:
    """The paragraphs that follow the text of a turn that wrote in the workspace itself, completed or not."""
    parts = []
    if wire.get("files"):
        rows = [
            f"{shlex.quote(str(row['path']))} ({STATUS[row['status']]})"
            for row in wire["files"]
        ]
        parts.append(GUARDED.format(paths=named(rows)))
    warnings = wire["meta"].get("warnings", ())
    told = [text for text in warnings if text in (NOT_ALL_SEEN, NOT_NOTED)]
    return parts + [f"Note: {text}" for text in told]


def _changes(wire: EnvelopeDict, diff: str, job_id: str) -> list[str]:
    shown = _beginning(diff)
    parts = [fenced(shown), str(wire["diffstat"]).strip()]
    if shown != diff:
        parts.append(CUT.format(size=len(diff.encode()), job=job_id))
    parts.append(IN_COPY.format(job=job_id))
    return [*parts, *_sensitive(wire)]


def _beginning(diff: str) -> str:
    """The whole lines within the bound, or where the first one is longer its beginning."""
    if len(diff.encode()) <= MAX_DIFF:
        return diff
    shown = cut(diff, MAX_DIFF)
    lines, _, _ = shown.rpartition("\n")
    return lines or shown


def fenced(diff: str) -> str:
    """The diff in a block of Markdown that no line of it closes."""
    runs = re.findall("`{3,}", diff)
    fence = "`" * (max(map(len, runs), default=2) + 1)
    return f"{fence}diff\n{diff.rstrip()}\n{fence}"


def _sensitive(wire: EnvelopeDict) -> list[str]:
    paths = [
        shlex.quote(str(file["path"]))
        for file in wire.get("files", ())
        if file.get("sensitive")
    ]
    if not paths:
        return []
    return [SENSITIVE.format(paths=named(paths))]


def named(paths: list[str]) -> str:
    """The first of the paths, and how many more there are."""
    text = ", ".join(paths[:MAX_NAMED])
    if len(paths) > MAX_NAMED:
        text = f"{text} and {len(paths) - MAX_NAMED} more"
    return text
