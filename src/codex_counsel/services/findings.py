"""The findings on record of a repository: listing them, and what a person decides about one.

Neither Codex nor git is run. Imports neither pydantic nor what is needed to run Codex.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Meta, completed
from codex_counsel.contract.paging import rows_of_one_page
from codex_counsel.contract.request import MAX_REASON, Findings
from codex_counsel.contract.vocabulary import SEVERITIES, FindingState
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.entry import Entry
from codex_counsel.findings.ledger import Contents, Ledger
from codex_counsel.findings.seen import ReviewLog
from codex_counsel.git.layout import read_layout
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line, visible

STATES: tuple[FindingState, ...] = ("open", "accepted", "rejected", "fixed", "stale")
"""In the order in which they are listed."""
USUAL_STATES: tuple[FindingState, ...] = ("open", "accepted", "rejected")
NEW_STATES: dict[str, FindingState] = {
    "accept": "accepted",
    "reject": "rejected",
    "reopen": "open",
}
"""The state that an action leads to."""
USUAL_LIMIT = 50
MAX_LIMIT = 1_000_000
MAX_NEAR = 5
"""Findings that an error names."""
MAX_BY = 100
MIN_DIGITS = 4
ROW_TITLE = 300
"""Characters of a title, and of a reason, in a row of a list."""


@dataclass(frozen=True)
class Selection:
    """Which findings a list shows. `path` is a file, or a folder for all below it, from the root of the repository.

    Without a `limit` the list has so many as fit on one page.
    """

    states: tuple[FindingState, ...] = USUAL_STATES
    path: str | None = None
    limit: int | None = None

    @classmethod
    def named(cls, state: str | None, path: str | None, limit: int | None) -> Selection:
        """The selection by the words of the command line. Raises `invalid_arguments`."""
        if limit is None:
            limit = USUAL_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise CounselError(
                Code.INVALID_ARGUMENTS, f"--limit: it is not between 1 and {MAX_LIMIT}"
            )
        states = USUAL_STATES
        if state == "all":
            states = STATES
        elif state is not None:
            states = tuple(name for name in STATES if name == state)
        return cls(states, path, limit)

    def is_below_path(self, entry: Entry) -> bool:
        """Whether the finding would be listed if it had one of the states."""
        if self.path is None:
            return True
        file = entry.file or ""
        return file == self.path or file.startswith(f"{self.path}/")


@dataclass(frozen=True)
class Record:
    """The ledger of a repository, and the workspace by which it was found."""

    ledger: Ledger
    workspace: ResolvedWorkspace

    @classmethod
    def of(cls, context: Context, workspace_root: str | None) -> Record:
        """That of the repository around a workspace, or of the workspace where there is none.

        Raises `workspace_invalid`.
        """
        workspace = workspaces.resolve(context, workspace_root)
        repository = workspace.root
        if workspace.top:
            repository = read_layout(workspace.top).common_dir
        return cls(Ledger.of(context.settings.state, repository), workspace)

    def relative(self, path: str) -> str:
        """A path that was given from the workspace, from the root of the repository."""
        root = self.workspace.outermost
        relative = os.path.relpath(self.workspace.root / path, root)
        if relative.startswith(os.pardir):
            raise CounselError(
                Code.INVALID_ARGUMENTS, "--file: it is not in this repository"
            )
        return relative


def context_of(env: Mapping[str, str]) -> Context:
    """The context of this process with another environment."""
    return Context.of(env)


def answer(
    context: Context,
    request: Findings,
    by: str,
    selection: Selection | None = None,
) -> EnvelopeDict:
    """List findings, show one, or change one in the name of `by`.

    Raises `invalid_arguments`, `workspace_invalid`, `finding_not_found` and
    `storage_failed`.
    """
    _check_arguments(request)
    record = Record.of(context, request.workspace_root)
    if request.action == "list":
        envelope = _list(record, selection or Selection())
    elif request.action == "show":
        envelope = _show(record, request)
    else:
        envelope = _change(record, request, by)
    envelope.meta.workspace = record.workspace.report()
    return envelope.wire()


def states_on_record(
    context: Context, workspace_root: str | None
) -> dict[str, FindingState]:
    """The state of each finding of a repository, by id. Raises `workspace_invalid` and `storage_failed`."""
    read = Record.of(context, workspace_root).ledger.read()
    return {name: entry.state for name, entry in read.entries.items()}


def counts(context: Context, workspace_root: str | None) -> dict[str, int]:
    """How many findings of a repository are in each state. Raises as `states_on_record`."""
    return _counts(Record.of(context, workspace_root).ledger.read())


def _check_arguments(request: Findings) -> None:
    problem = None
    if request.action == "list" and request.id:
        problem = "id: list takes none; show takes one"
    elif request.action != "list" and not request.id:
        problem = f"id: {request.action} needs one"
    elif request.action == "reject" and not request.reason:
        problem = "reason: reject needs one: later reviews are told of it"
    elif request.reason and request.action in ("list", "show", "forget"):
        problem = f"reason: {request.action} takes none"
    if problem:
        raise CounselError(Code.INVALID_ARGUMENTS, problem)


# --- listing


def _list(record: Record, selection: Selection) -> Envelope:
    """Unsettled findings first, the gravest of each state first, of these the one that was seen last."""
    if selection.path is not None:
        selection = replace(selection, path=record.relative(selection.path))
    read = record.ledger.read()
    entries = list(read.entries.values())
    below = [entry for entry in entries if selection.is_below_path(entry)]
    fitting = [entry for entry in below if entry.state in selection.states]
    fitting.sort(key=lambda entry: entry.last.time, reverse=True)
    fitting.sort(key=_rank)

    limit = selection.limit or USUAL_LIMIT
    rows = [_row(entry) for entry in fitting[:limit]]
    if selection.limit is None:
        rows = rows_of_one_page(rows)
    data: JsonObject = {
        "findings": rows,
        "shown": len(rows),
        "fitting": len(fitting),
        "in_other_states": len(below) - len(fitting),
        "total": len(entries),
        "counts": _counts(read),
        "id_digits": digits_that_differ(read.entries),
        "ledger": str(record.ledger.file),
    }
    return completed(
        Findings.tool,
        _list_summary(data),
        data,
        _meta_of_list(read, data, selection),
    )


def _counts(read: Contents) -> dict[str, int]:
    """How many findings are in each state that any has."""
    counts = Counter(entry.state for entry in read.entries.values())
    return {state: counts[state] for state in STATES if counts[state]}


def _rank(entry: Entry) -> tuple[int, int]:
    return STATES.index(entry.state), SEVERITIES.index(entry.severity)


def _meta_of_list(read: Contents, data: JsonObject, selection: Selection) -> Meta:
    meta = Meta()
    if data["shown"] < data["fitting"]:
        meta.truncated = True
        # The command line says it in its own words.
        if selection.limit is None:
            command = f"codex-counsel findings --limit {data['fitting']}"
            meta.warnings.append(f"in a terminal, `{command}` lists all")
    if read.damaged:
        lines = "1 line" if read.damaged == 1 else f"{read.damaged} lines"
        meta.warnings.append(
            f"{lines} of {data['ledger']} cannot be read; all other findings are here"
        )
    return meta


def _list_summary(data: JsonObject) -> str:
    total = data["total"]
    if not total:
        return "No finding is on record of this repository"
    parts = [f"{count} {state}" for state, count in data["counts"].items()]
    noun = "finding" if total == 1 else "findings"
    return f"{total} {noun} on record: {', '.join(parts)}; {data['shown']} shown"


def digits_that_differ(ids: Iterable[str]) -> int:
    """How many leading digits tell all of these ids apart, at least `MIN_DIGITS`."""
    names = sorted(ids)
    digits = MIN_DIGITS
    for one, other in pairwise(names):
        while one[:digits] == other[:digits]:
            digits += 1
    return digits


def _row(entry: Entry) -> JsonObject:
    """A finding in short."""
    row = {
        "id": entry.id,
        "state": entry.state,
        "severity": entry.severity,
        "category": entry.category,
        "title": _in_a_row(entry.title),
        "file": entry.file,
        "line": entry.line,
        "plan": entry.plan,
        "first": entry.first.time,
        "last": entry.last.time,
        "reason": _in_a_row(entry.reason),
        "by": entry.by,
        "changed": entry.changed,
    }
    return {name: value for name, value in row.items() if value is not None}


def _in_a_row(text: str | None) -> str | None:
    if text is None:
        return None
    return one_line(visible(text), ROW_TITLE)


# --- one finding


def _show(record: Record, request: Findings) -> Envelope:
    entry = _find(record.ledger.read(), str(request.id))
    return completed(
        Findings.tool,
        f"{_named(entry)} is {entry.state}",
        {
            "findings": rows_of_one_page([entry.to_json()]),
            "ledger": str(record.ledger.file),
        },
    )


def _change(record: Record, request: Findings, by: str) -> Envelope:
    # Before a directory is made for the lock.
    entry = _find(record.ledger.read(), str(request.id))
    if request.action == "forget":
        # No review may rely on one whose finding is off the record: the file is sent again.
        ReviewLog(record.ledger.directory).unsee(entry.file)
    with record.ledger.changing() as changing:
        entry = _find(changing.findings, str(request.id))
        if request.action == "forget":
            changing.forget(entry.id)
            return _changed(
                entry, None, f"{_named(entry)} is forgotten; it was {entry.state}"
            )

        state = NEW_STATES[request.action]
        reason = _clean_reason(request.reason)
        is_same = entry.state == state and reason in (None, entry.reason)
        if is_same and not entry.refuted_by:
            return _changed(entry, entry, f"{_named(entry)} was {state} already")
        after = replace(
            entry,
            state=state,
            reason=reason,
            by=one_line(clean(mask(by)[0]), MAX_BY) or "unnamed",
            changed=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            resolved_by=None,
            # Whoever decides knows of the test.
            refuted_by=None,
        )
        changing.put(after)
    return _changed(entry, after, f"{_named(after)} is {state}; it was {entry.state}")


def _clean_reason(reason: str | None) -> str | None:
    if reason is None:
        return None
    # Hidden characters become longer where they are written out.
    return clean(mask(reason)[0]).strip()[:MAX_REASON]


def _changed(before: Entry, after: Entry | None, summary: str) -> Envelope:
    """What was done to a finding; `after` is None where it was forgotten."""
    data = {
        "findings": [_row(after or before)],
        "before": before.state,
        "changed": before != after,
    }
    return completed(Findings.tool, summary, data)


def _named(entry: Entry) -> str:
    return f"Finding {entry.id} ({one_line(visible(entry.title), 100)})"


def _find(read: Contents, beginning: str) -> Entry:
    """The finding whose id begins so. Raises `finding_not_found`, and `invalid_arguments` for more than one."""
    ids = [name for name in read.entries if name.startswith(beginning)]
    if not ids:
        near = _near(read.entries, beginning)
        error = CounselError(
            Code.FINDING_NOT_FOUND, f"No finding on record has an id {beginning}…"
        )
        if near:
            error.details = {"near": near}
        raise error
    if len(ids) > 1:
        named = ", ".join(sorted(ids)[:MAX_NEAR])
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"id: {beginning} begins {len(ids)} ids, such as {named}",
            repair="Name more digits of the one that you mean.",
        )
    return read.entries[ids[0]]


def _near(ids: Iterable[str], beginning: str) -> list[str]:
    """Some of the ids that have the most first digits in common with the beginning of one, two at least."""
    for digits in range(len(beginning) - 1, 1, -1):
        near = [name for name in ids if name.startswith(beginning[:digits])]
        if near:
            return sorted(near)[:MAX_NEAR]
    return []
