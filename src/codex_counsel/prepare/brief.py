"""The words of a run: (request, material) to prompt. Pure, so that a dry run can show exactly what would be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from codex_counsel.contract.request import Consult, Delegate, ReviewChanges, ReviewPlan
from codex_counsel.errors import Code, CounselError
from codex_counsel.review.changes.changes import Changes
from codex_counsel.review.changes.model import ChangedFile, Omitted
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line, size, visible

CODEX_LIMIT = 1_048_576
"""Characters of a prompt that Codex accepts; above, it ends with a bare exit code 1."""


@dataclass(frozen=True)
class Material:
    """Text that is data: where it comes from and what it says."""

    name: str
    text: str


def consult(request: Consult, material: Iterable[Material] = ()) -> str:
    """The prompt of a consultation, first turn or resumed."""
    given = [
        *material,
        *([Material("context from the caller", request.extra_context)] if request.extra_context else []),
    ]
    parts = [
        words("role"),
        words(request.stance),
        words("text_only") if request.text_only else "",
        *(fenced(item) for item in given),
        f"The question:\n\n{visible(request.question)}",
    ]
    return bounded("\n\n".join(part.strip() for part in parts if part) + "\n")


def review(request: ReviewChanges, changes: Changes, material: Iterable[Material] = (), *, seen: bool = False) -> str:
    """The prompt of a review of changes. `seen`: this thread was already sent this very change."""
    return _joined(
        words("role"),
        words("review"),
        words("review_challenge") if request.stance == "challenge" else "",
        *_given(material, request.extra_context),
        _intent(changes),
        _state(changes),
        _listed("the files of the change", map(_row, changes.entries)),
        _SEEN if seen else fenced(Material("the change", changes.diff.decode("utf-8", "replace"))),
        _listed("what the text of the change lacks, or has only in part", map(_left_out, changes.omitted)),
        _focus(request.focus),
    )


_SEEN = "The change is the very one that you were sent earlier in this thread; it has not moved since."
MAX_LISTED = 300
MAX_LISTED_CHARACTERS = 40_000


def _intent(changes: Changes) -> str:
    """What the authors say they did."""
    messages = "\n\n".join(f"{c.sha[:12]} {c.subject}\n{c.body}".strip() for c in changes.commits)
    return fenced(Material("commit messages", messages)) if messages else ""


def _state(changes: Changes) -> str:
    scope, base, head = changes.scope, changes.base_sha, changes.head_sha
    what = {
        "working_tree": "all uncommitted work: staged, unstaged and untracked files, against HEAD",
        "staged": "what is staged, against HEAD",
        "branch": "what this branch adds since it left its base",
        "commit": "one commit against its first parent",
        "range": f"the range {scope.range}",
        "files": "whole files: nothing was changed, audit them as they are",
    }[scope.kind]
    shas = f"base {base or 'none: there was no commit before'}, head {head or 'not committed'}"
    return f"The change is {visible(what)} ({shas})."


def _row(entry: ChangedFile) -> str:
    return f"{entry.status} {entry.path}" + (f" (from {entry.old_path})" if entry.old_path else "")


def _left_out(omitted: Omitted) -> str:
    return f"{omitted.path}: {omitted.reason}, {omitted.bytes} bytes"


def _listed(name: str, rows: Iterable[str]) -> str:
    """Names of files are text of the repository too: as data, masked, and not without end."""
    shown, left = [], MAX_LISTED_CHARACTERS
    rows = list(rows)
    for row in rows[:MAX_LISTED]:
        left -= len(row)
        if left < 0:
            break
        shown.append(row)
    if len(rows) > len(shown):
        shown.append(f"… and {len(rows) - len(shown)} more")
    return fenced(Material(name, mask("\n".join(shown))[0])) if rows else ""


def plan(request: ReviewPlan, text: str, material: Iterable[Material] = ()) -> str:
    """The prompt of a review of a plan."""
    return _joined(
        words("role"),
        words("plan"),
        words("plan_challenge") if request.stance == "challenge" else "",
        *_given(material, request.extra_context),
        fenced(Material("the plan", text)),
        _focus(request.focus),
    )


def delegate(request: Delegate, material: Iterable[Material] = (), *, again: bool = False) -> str:
    """The prompt of a delegated task. `again`: it goes on from an earlier one in the same thread."""
    return _joined(
        words("delegate"),
        *_given(material, request.extra_context),
        _AGAIN if again else "",
        f"The task:\n\n{visible(request.task)}",
    )


_AGAIN = "The working tree holds what you made earlier in this thread. Go on; the diff is against the same base."


def _joined(*parts: str) -> str:
    return bounded("\n\n".join(part.strip() for part in parts if part) + "\n")


def _given(material: Iterable[Material], context: str | None) -> list[str]:
    return [fenced(item) for item in (*material, *([Material("context from the caller", context)] if context else []))]


def _focus(focus: str | None) -> str:
    return f"The caller asks in particular:\n\n{visible(focus)}" if focus else ""


def fenced(material: Material) -> str:
    """Between tags that the text itself cannot contain: they carry a digest of it. Nothing of the text is dropped."""
    text = visible(material.text)
    name = one_line(visible(material.name), 500).translate(_PLAIN)
    mark = hashlib.sha256(f"{name}\n{text}".encode("utf-8", "replace")).hexdigest()[:12]
    return f'<material id="{mark}" from="{name}">\n{text}\n</material {mark}>'


_PLAIN = str.maketrans('"<>', "'()")


def check_author_text(limit: int, **texts: str | None) -> None:
    """Refuse what an author wrote above the limit, in bytes, before anything is spent."""
    total = sum(size(text) for text in texts.values() if text)
    if total > limit:
        names = " + ".join(name for name, text in texts.items() if text)
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"{names}: {total} bytes, the limit is {limit} (CODEX_COUNSEL_MAX_INPUT_BYTES)",
            details={"bytes": total, "limit": limit},
        )


def bounded(prompt: str) -> str:
    if len(prompt) > CODEX_LIMIT:
        raise CounselError(Code.INPUT_TOO_LARGE, f"The prompt has {len(prompt)} characters; Codex takes {CODEX_LIMIT}")
    return prompt


@cache
def words(name: str) -> str:
    """A prompt file of this package."""
    return (files("codex_counsel") / "prompts" / f"{name}.md").read_text("utf-8")
