"""Where results of other machines are taken into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from codex_counsel.contract.settings import Settings
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.store import Store
from codex_counsel.packs.verified_diff import Limits

MAX_BINARY = 4_000_000_000
"""Bytes that git may make of the binary parts of a patch."""


@dataclass
class Home:
    """What results are taken into: the jobs of this user, and the directory that a pack was made for.

    `sent` is when the files in the pack were read (epoch seconds), `subject` what is known of the request;
    both None for a pack that was not noted here.
    """

    store: Store
    settings: Settings
    env: Mapping[str, str]
    workspace: str
    sent: float | None = None
    subject: str | None = None

    @cached_property
    def repo(self) -> Repo:
        """The repository around the workspace. Raises `workspace_invalid`, and as `Repo.open`."""
        timeout = self.settings.git_timeout_seconds
        try:
            return Repo.open(Path(self.workspace), timeout, env=self.env)
        except OSError as error:
            raise CounselError(
                Code.WORKSPACE_INVALID,
                f"{self.workspace} cannot be used: {error.strerror}",
                repair="Name the directory of the repository with -C.",
            ) from None

    @property
    def limits(self) -> Limits:
        """How much of a diff is shown, and made."""
        return Limits(self.settings.max_delegate_diff_bytes, MAX_BINARY)
