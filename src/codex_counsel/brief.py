"""The words of a run: (request, material) to prompt. Pure, so that a dry run can show exactly what would be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from codex_counsel.errors import Code, CounselError
from codex_counsel.request import Consult
from codex_counsel.text import clean, size

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
        f"The question:\n\n{clean(request.question)}",
    ]
    return bounded("\n\n".join(part.strip() for part in parts if part) + "\n")


def fenced(material: Material) -> str:
    """Between tags that the text itself cannot contain: they carry a digest of it."""
    text = clean(material.text)
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return f'<material id="{mark}" from="{clean(material.name)}">\n{text}\n</material {mark}>'


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
