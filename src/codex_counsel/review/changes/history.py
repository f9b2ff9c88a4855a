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
FORMAT = "--format=tformat:%H%x00%s%x00%b"


def history(repo: Repo, frame: Comparison) -> tuple[tuple[Commit, ...], int]:
    """The newest commits of the scope, newest first, and how many secrets were masked in them."""
    if frame.state != "commit" or frame.head is None:
        return (), 0
    span = ("-1", frame.head) if frame.base is None else (f"{frame.base}..{frame.head}",)
    options = ("--no-color", "--no-decorate", "--no-notes", "--no-show-signature", "--encoding=UTF-8", "--no-patch")
    output = repo.git("log", f"--max-count={MAX_COMMITS}", *options, FORMAT, "-z", *span, "--")
    fields = output.decode("utf-8", "replace").split("\0")[:-1]
    texts = [mask(text.strip()[:MAX_TEXT]) for text in fields]
    rows = zip(*(iter(text for text, _ in texts),) * 3, strict=True)
    return tuple(Commit(*row) for row in rows), sum(count for _, count in texts)
