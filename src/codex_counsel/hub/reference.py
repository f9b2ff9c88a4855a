"""Which pull request is meant: hub, project and number, from what a caller wrote and the remotes of a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo

HubKind = Literal["github", "gitlab"]


@dataclass(frozen=True)
class PullRequest:
    """A pull request of GitHub, or a merge request of GitLab.

    `host` is `github.com` or `git.example.org:8443`, `project` is `owner/name` or
    `group/subgroup/name`. `remote` is the address that git fetches from.
    """

    hub: HubKind
    host: str
    project: str
    number: int
    remote: str

    @property
    def head_ref(self) -> str:
        """The ref of the hub that always names the newest commit of the pull request, also of a fork's."""
        if self.hub == "github":
            return f"refs/pull/{self.number}/head"
        return f"refs/merge-requests/{self.number}/head"


def of_argument(text: str, repo: Repo) -> PullRequest:
    """The pull request that a number or an address names.

    It must be one of a remote of this repository: a caller may have been told by others to
    name another. Raises `invalid_arguments`.
    """
    raise NotImplementedError
