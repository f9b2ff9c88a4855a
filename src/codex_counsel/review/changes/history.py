"""Messages of the commits under review: what their authors meant to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codex_counsel.review.changes.model import Commit
from codex_counsel.system.redact import mask

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.comparison import Comparison

MAX_COMMITS = 50
MAX_TEXT = 2000
"""Characters of a subject, and of a body."""
LOG_FORMAT = "--format=tformat:%H%x00%s%x00%b"


def history(
    repo: Repo, comparison: Comparison, last_head: str | None = None
) -> tuple[tuple[Commit, ...], int]:
    """The newest commits of the scope, newest first, and how many secrets were masked in them.

    Those that `last_head` has are left out.
    """
    if comparison.state != "commit" or comparison.head is None:
        return (), 0
    revisions = ["-1", comparison.head]
    if comparison.base is not None:
        revisions = [f"{comparison.base}..{comparison.head}"]
    if last_head is not None:
        revisions.append(f"^{last_head}")
    output = repo.git(
        "log",
        f"--max-count={MAX_COMMITS}",
        "--no-color",
        "--no-decorate",
        "--no-notes",
        "--no-show-signature",
        "--encoding=UTF-8",
        "--no-patch",
        LOG_FORMAT,
        "-z",
        *revisions,
        "--",
    )

    redactions = 0
    texts: list[str] = []
    for field in output.decode("utf-8", "replace").split("\0")[:-1]:
        text, count = mask(field.strip()[:MAX_TEXT])
        texts.append(text)
        redactions += count
    commits = [Commit(*texts[start : start + 3]) for start in range(0, len(texts), 3)]
    return tuple(commits), redactions
