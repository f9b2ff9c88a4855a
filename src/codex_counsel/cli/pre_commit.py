"""What a hook of pre-commit is to look at: pre-commit names two commits in the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from codex_counsel.errors import DONE, FAILED, Code, CounselError

STARTED = "PRE_COMMIT"
"""pre-commit sets it for each hook."""
FROM_REF = "PRE_COMMIT_FROM_REF"
TO_REF = "PRE_COMMIT_TO_REF"
"""The commit that the remote has, or `--from-ref`; and the one that is pushed, or `--to-ref`."""
BY_HAND = "pre-commit run codex-review --hook-stage manual --from-ref origin/main --to-ref HEAD"
WITHOUT = "SKIP=codex-review git push"


@dataclass
class Ending:
    """How a hook ended: an exit code."""

    code: int = FAILED


def pushed_range(env: Mapping[str, str]) -> str | None:
    """The range `FROM...TO` of what is about to be pushed; None where pre-commit did not start this process.

    It begins where the two commits part, so a push by force has what it adds, and not
    the reverse of what it takes away. Raises `invalid_arguments` where pre-commit names
    no commits.
    """
    start, end = env.get(FROM_REF), env.get(TO_REF)
    if start and end:
        return f"{start}...{end}"
    if STARTED not in env:
        return None
    raise CounselError(
        Code.INVALID_ARGUMENTS,
        "pre-commit names no two commits to compare: the push has the first commit of the history, "
        "or the hook was started without --from-ref and --to-ref",
        repair=f"To push without a review: {WITHOUT}. To review by hand: {BY_HAND}.",
    )


@contextmanager
def way_on_if_stopped() -> Iterator[Ending]:
    """Say on stderr how to push all the same, unless the block gives the exit code of a clean review."""
    ending = Ending()
    try:
        yield ending
    finally:
        if ending.code != DONE:
            print(f"To push without this review: {WITHOUT}", file=sys.stderr)
