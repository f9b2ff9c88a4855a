"""The remotes of a repository, and the parts of their addresses."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from codex_counsel.git import refs
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo

SCHEMES = ("https", "http", "ssh", "git", "file")
"""Transports that are used to fetch; `protocols` of `hardening` allows no others."""
DEFAULT_PORTS = {"https": 443, "http": 80, "git": 9418}
WEB_HOSTS = {"ssh.github.com": "github.com", "altssh.gitlab.com": "gitlab.com"}
"""Hosts that serve git by ssh under another name than the pages."""
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SHORT = re.compile(
    r"(?:[^/@:]+@)?(?P<host>\[[^\]/]+\]|[^/:@]+):(?P<path>.*)", re.DOTALL
)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_PASSWORD = re.compile(r"(?<=://)[^/\s]*@")


@dataclass(frozen=True)
class Address:
    """Where a remote is. `host` has a port where one is named that is not the usual one, but never that of ssh.

    `path` is the project on the host, such as `owner/name`, without slashes at its ends and
    without `.git`. `host` is empty for a directory of this machine.
    """

    scheme: str
    host: str
    path: str

    @property
    def host_name(self) -> str:
        """The host without its port."""
        if self.host.startswith("["):
            return self.host.partition("]")[0] + "]"
        return self.host.partition(":")[0]


def shown(text: str, limit: int = 200) -> str:
    """A text with addresses, for a message: on one line, at most so many characters, without passwords."""
    without_passwords = _PASSWORD.sub("", text)
    return one_line(visible(mask(without_passwords)[0]), limit)


def names(repo: Repo) -> list[str]:
    """The remotes of the repository that have an address, in the order of the configuration."""
    found = []
    for key in repo.config.values:
        if key.startswith("remote.") and key.endswith(".url"):
            found.append(key.removeprefix("remote.").removesuffix(".url"))
    return found


def preferred(repo: Repo) -> str | None:
    """The remote of the branch that is checked out, else `origin`, else the only one; None where none of them is."""
    return refs.remote_of(repo, refs.current_branch(repo))


def addresses(repo: Repo) -> dict[str, str]:
    """By the names of the remotes, the addresses that git fetches from: a relative path from the root resolved.

    As they are configured: `Rewriting` tells what the user's settings make of them.
    """
    found: dict[str, str] = {}
    for key, value in _settings(repo, r"^remote\..*\.url$"):
        name = key.removeprefix("remote.").removesuffix(".url")
        # Of several addresses git fetches from the first; `repo.config` has the last.
        found.setdefault(name, _absolute(repo, value))
    return found


def _absolute(repo: Repo, url: str) -> str:
    is_other = "://" in url or _HELPER.match(url) or url.startswith("-")
    if not url or is_other or parse(url) is not None:
        return url
    return str((repo.root / url).resolve())


@dataclass(frozen=True)
class Rewriting:
    """The `url.BASE.insteadOf` of the user and the system, by BASE; the repository has no part in it."""

    prefixes: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, repo: Repo) -> Rewriting:
        prefixes: dict[str, list[str]] = {}
        no_repository = {"GIT_DIR": os.devnull}
        for key, value in _settings(repo, r"^url\..*\.insteadof$", no_repository):
            base = key.removeprefix("url.").removesuffix(".insteadof")
            prefixes.setdefault(base, []).append(value)
        return cls(prefixes)

    def __call__(self, url: str) -> str:
        """The address that git uses for this one: the longest prefix counts."""
        used, longest = "", None
        for base, prefixes in self.prefixes.items():
            for prefix in prefixes:
                is_longer = longest is None or len(prefix) > len(longest)
                if url.startswith(prefix) and is_longer:
                    used, longest = base, prefix
        if longest is None:
            return url
        return used + url.removeprefix(longest)


def _settings(
    repo: Repo, names: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """The settings whose names match, each with a value; of those with several, each."""
    output = repo.git("config", "--null", "--get-regexp", names, env=env, ok=(0, 1))
    for record in output.split(b"\0")[:-1]:
        key, _, value = record.partition(b"\n")
        yield os.fsdecode(key), os.fsdecode(value)


def directory(url: str) -> Path:
    """The directory that an address of the scheme `file` names, without links."""
    path = url
    if url.startswith("file://"):
        path = unquote(url.removeprefix("file://"), errors="surrogateescape")
    return Path("/", path).resolve()


def parse(url: str) -> Address | None:
    """The parts of an absolute address; None for one that is not used to fetch, such as `ext::` or a relative path."""
    if not url or url.startswith("-") or _HELPER.match(url) or _UNPRINTABLE.search(url):
        return _path(url)
    match = _URL.match(url)
    if match:
        return _of_url(url, match[1].lower())
    short = _SHORT.fullmatch(url)
    if short and not url.startswith("/"):
        host = short["host"].lower()
        if host.startswith("-"):
            return None
        return Address("ssh", WEB_HOSTS.get(host, host), _project(short["path"]))
    return _path(url)


def _path(url: str) -> Address | None:
    """A directory may have any name."""
    if url.startswith("/"):
        return Address("file", "", _project(url))
    return None


def _of_url(url: str, scheme: str) -> Address | None:
    if scheme not in SCHEMES:
        return None
    if scheme == "file":
        return Address("file", "", _project(url.removeprefix("file://")))
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        return None
    if not host or host.startswith("-"):
        return None
    if ":" in host:
        host = f"[{host}]"
    if scheme == "ssh":
        return Address(scheme, WEB_HOSTS.get(host, host), _project(parts.path))
    if port and port != DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return Address(scheme, host, _project(parts.path))


def _project(path: str) -> str:
    return path.strip("/").removesuffix(".git").rstrip("/")
