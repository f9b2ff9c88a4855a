"""Which pull request is meant: hub, project and number, from what a caller wrote and the remotes of a repository."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import remotes
from codex_counsel.git.remotes import Rewriting
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.git.remotes import Address
    from codex_counsel.git.repo import Repo

HubKind = Literal["github", "gitlab"]
MAX_NAMED = 5
"""Remotes that an error names."""
_NUMBER = re.compile(r"(?P<mark>[#!]?)(?P<number>[1-9][0-9]{0,9})")
_PATHS: tuple[tuple[HubKind, re.Pattern[str]], ...] = (
    (
        "github",
        re.compile(
            r"/(?P<project>[^/]+/[^/]+)/pull/(?P<number>[1-9][0-9]{0,9})(?:/.*)?"
        ),
    ),
    (
        "gitlab",
        re.compile(
            r"/(?P<project>.+?)/-/merge_requests/(?P<number>[1-9][0-9]{0,9})(?:/.*)?"
        ),
    ),
)


@dataclass(frozen=True)
class PullRequest:
    """A pull request of GitHub, or a merge request of GitLab.

    `host` is `github.com` or `git.example.org:8443`, `project` is `owner/name` or
    `group/subgroup/name`; for a directory of this machine the host is empty. `remote` is
    the address that git fetches from; it may hold a password. `certain` is false where
    nothing tells which hub it is: then the refs of the remote do.
    """

    hub: HubKind
    host: str
    project: str
    number: int
    remote: str = field(repr=False)
    certain: bool = True

    @property
    def head_ref(self) -> str:
        """The ref of the hub that always names the newest commit of the pull request, also of a fork's."""
        if self.hub == "github":
            return f"refs/pull/{self.number}/head"
        return f"refs/merge-requests/{self.number}/head"

    @property
    def title(self) -> str:
        """For people: `pull request 7 of github.com/owner/name`, or `merge request`."""
        kind = "pull request" if self.hub == "github" else "merge request"
        where = "/".join(filter(None, [self.host, self.project]))
        return f"{kind} {self.number} of {one_line(visible(where), 200)}"

    @property
    def namespace(self) -> str:
        """Names the project among the refs of ours: pull requests of two remotes may have the same number."""
        name = f"{self.host}\n{self.project}"
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def of_argument(text: str, repo: Repo) -> PullRequest:
    """The pull request that a number or an address names.

    It must be one of a remote of this repository: a caller may have been told by others to
    name another. Raises `invalid_arguments`.
    """
    text = text.strip()
    number = _NUMBER.fullmatch(text)
    if number:
        return _of_number(int(number["number"]), number["mark"], repo)
    if not text.startswith(("https://", "http://")):
        raise _refused(
            f"pr: `{remotes.shown(text)}` is neither a number nor the address of a pull request"
        )
    return _of_url(text, repo)


def _of_number(number: int, mark: str, repo: Repo) -> PullRequest:
    name = remotes.preferred(repo)
    if name is None:
        names = remotes.names(repo)
        if not names:
            raise _refused("pr: the repository has no remote that could have it")
        raise _refused(
            f"pr: a number does not say which of the remotes is meant: {_listed(names)}",
            repair="Name the pull request by its URL.",
        )
    url = remotes.addresses(repo).get(name, "")
    address = _address(repo, url, Rewriting.of(repo))
    if address is None:
        raise _refused(
            f"pr: nothing is fetched from the address of the remote {remotes.shown(name)}, {remotes.shown(url)}",
            repair="Let the remote have an address of https, http, ssh, git or file.",
        )
    hub = _hub_of_host(address, repo)
    if mark == "!":
        hub = "gitlab"
    return PullRequest(
        hub or "github",
        address.host,
        address.path,
        number,
        url,
        certain=hub is not None,
    )


def _of_url(text: str, repo: Repo) -> PullRequest:
    asked = remotes.parse(text)
    if asked is None:
        raise _no_address(text)
    path = unquote(urlsplit(text).path)
    for hub, pattern in _PATHS:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        rewriting = Rewriting.of(repo)
        for url in remotes.addresses(repo).values():
            address = _address(repo, url, rewriting)
            if address and _is_same(address, asked, match["project"]):
                return PullRequest(
                    hub, asked.host, address.path, int(match["number"]), url
                )
        raise _not_of_a_remote(asked, match["project"], repo)
    raise _no_address(text)


def _no_address(text: str) -> CounselError:
    return _refused(
        f"pr: `{remotes.shown(text)}` is not the address of a pull request",
        repair="It has the form https://HOST/OWNER/REPO/pull/N or https://HOST/GROUP/REPO/-/merge_requests/N.",
    )


def _address(repo: Repo, url: str, rewriting: Rewriting) -> Address | None:
    """The parts of the address that git would fetch from, None where nothing is fetched from it.

    Raises `invalid_arguments` for a directory of the project: git would read the
    configuration of what lies there.
    """
    if remotes.parse(url) is None:
        return None
    used = rewriting(url)
    address = remotes.parse(used)
    is_local = address is not None and address.scheme == "file"
    if is_local and remotes.directory(used).is_relative_to(repo.root):
        raise _refused(
            f"pr: the remote {remotes.shown(url)} lies in the project itself",
            repair="Let the remote be the service that has the pull request.",
        )
    return address


def _is_same(address: Address, asked: Address, project: str) -> bool:
    """Whether the remote is this project. Hosts and projects have no case on the hubs."""
    host, asked_host = address.host, asked.host
    if address.scheme in ("ssh", "git"):
        # Their ports are not those of the pages.
        host, asked_host = address.host_name, asked.host_name
    return host == asked_host and address.path.casefold() == project.casefold()


def _hub_of_host(address: Address, repo: Repo) -> HubKind | None:
    """Which hub the host is; None where its name does not tell."""
    if "gitlab" in address.host:
        return "gitlab"
    if address.host and address.host_name == repo.env.get("CI_SERVER_HOST"):
        return "gitlab"
    if address.host == "github.com":
        return "github"
    server = remotes.parse(repo.env.get("GITHUB_SERVER_URL", ""))
    if server and server.host == address.host:
        return "github"
    return None


def _not_of_a_remote(asked: Address, project: str, repo: Repo) -> CounselError:
    known = [f"{name} ({url})" for name, url in remotes.addresses(repo).items()]
    listed = _listed(known) or "none"
    return _refused(
        f"pr: {remotes.shown(f'{asked.host}/{project}')} is not a remote of this repository; its remotes: {listed}",
        repair="Choose the workspace that is a clone of it, or add the remote yourself: `git remote add NAME URL`.",
    )


def _listed(names: list[str]) -> str:
    text = ", ".join(remotes.shown(name) for name in names[:MAX_NAMED])
    if len(names) > MAX_NAMED:
        text += f" and {len(names) - MAX_NAMED} more"
    return text


def _refused(message: str, repair: str | None = None) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, message, repair=repair)
