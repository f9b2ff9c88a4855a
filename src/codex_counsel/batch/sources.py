"""The repositories of a batch: directories of this machine, and addresses that are cloned once into its directory."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from codex_counsel.batch.model import Item, Kind
from codex_counsel.batch.names import repository_name
from codex_counsel.batch.requests import MAX_PROBLEMS, Line
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.git import remotes
from codex_counsel.git.clone import clone
from codex_counsel.git.remotes import shown
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import find_repository
from codex_counsel.system.files import UnsafeDirectoryError, lock_file, make_private
from codex_counsel.system.redact import mask

SELF = "."
"""How an item names the directory of the batch."""
IN_GIT: tuple[Kind, ...] = ("review", "delegate")
"""The kinds of requests that need a repository; on a cluster, all do."""
MAX_NAME = 60
"""Characters of a repository's name in that of its clone."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?://|:)")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class Sources:
    """Finds the directory that each request names.

    `own` is the directory of the batch, for requests that name none. Relative paths start
    at `base`: the directory of the file of requests, or the current one. Clones are kept
    in `repositories`, which is made where one is needed; None: nothing is cloned, and of an
    address it is only looked at how it is written. `on_cluster`: what a request names goes
    to another machine, as a commit.
    """

    def __init__(
        self,
        context: Context,
        *,
        own: Path,
        base: Path,
        repositories: Path | None,
        on_cluster: bool = False,
    ) -> None:
        self._context = context
        self._own = own
        self._base = base
        self._repositories = repositories
        self._on_cluster = on_cluster
        self._gate = context.directories.gate()
        self._roots: dict[str | None, Path] = {}
        self._refused: dict[str | None, CounselError] = {}
        self._in_git: set[Path] = set()
        self._not_in_git: dict[Path, CounselError] = {}

    def items(self, lines: Iterable[Line], batch: str) -> Iterator[Item]:
        """The items of a batch in the order of its lines; what is to be cloned is cloned on the way.

        Read it to its end before anything is started: where repositories cannot be used, the
        error of the first one is raised there, with a sentence for each, at most twenty.
        """
        wrong: list[tuple[Line, CounselError]] = []
        for line in lines:
            try:
                root = self.root(line.repo)
                self._check_git(line, root)
            except CounselError as error:
                is_new = all(error is not known for _, known in wrong)
                if is_new:
                    wrong.append((line, error))
                if len(wrong) == MAX_PROBLEMS:
                    break
                continue
            yield Item(
                line.id, line.kind, line.arguments, root, line.repo or SELF, batch
            )
        if wrong:
            raise _not_usable(wrong)

    def check(self, lines: Iterable[Line]) -> None:
        """Raise as `items` does."""
        for _ in self.items(lines, ""):
            pass

    def root(self, repo: str | None) -> Path:
        """The directory, resolved. Cloned is only what was not cloned for this batch before.

        Raises `workspace_invalid` for no directory, `invalid_arguments` for an address that
        nothing is fetched from, `hub_failed` and `storage_failed`. One that failed is not
        tried again.
        """
        if repo in self._refused:
            raise self._refused[repo]
        if repo not in self._roots:
            try:
                self._roots[repo] = self._find(repo)
            except CounselError as error:
                self._refused[repo] = error
                raise
        return self._roots[repo]

    def _find(self, repo: str | None) -> Path:
        if repo is None:
            return _directory(self._own, str(self._own))
        if is_address(repo):
            return self._cloned(repo)
        return _directory(self._base / repo, repo)

    def _check_git(self, line: Line, root: Path) -> None:
        """Raise `not_a_git_repo` where the request needs a repository, and the directory is in none."""
        is_cloned = line.repo is not None and is_address(line.repo)
        needs_git = self._on_cluster or line.kind in IN_GIT
        if is_cloned or not needs_git or root in self._in_git:
            return
        if root in self._not_in_git:
            raise self._not_in_git[root]
        top, _ = find_repository(root, self._gate)
        if top is None:
            repair = "Name a directory in a repository, or make one: git init."
            if self._on_cluster:
                repair = (
                    "Name a directory in a repository, or make one with a first commit, since nodes get repositories. "
                    "Without --cluster, questions and plans need none."
                )
            error = CounselError(
                Code.NOT_A_GIT_REPO,
                f"repo: {shown(line.repo or str(root))}: it is in no git repository that a run may use",
                repair=repair,
            )
            self._not_in_git[root] = error
            raise error
        self._in_git.add(root)

    def _cloned(self, url: str) -> Path:
        _check_address(url)
        if self._repositories is None:
            return Path(url)
        target = self._repositories / clone_name(url)
        try:
            make_private(self._repositories)
            # Two processes may want the same clone.
            patience = 60 * self._context.settings.git_timeout_seconds
            lock = lock_file(
                self._repositories / f".{target.name}.lock", patience=patience
            )
        except UnsafeDirectoryError as error:
            raise CounselError(Code.STORAGE_FAILED, str(error)) from None
        except OSError as error:
            raise error_of(
                Code.STORAGE_FAILED, f"{shown(url)} cannot be cloned", error
            ) from None
        if lock is None:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"Another process has been cloning {shown(url)} for more than {patience:g} seconds",
            )
        try:
            if not target.is_dir():
                timeout = self._context.settings.git_timeout_seconds
                clone(url, target, timeout, self._context.env)
        finally:
            os.close(lock)
        return _directory(target, url)


def is_address(repo: str) -> bool:
    """Whether it is an address to clone from: a scheme, or as ssh has it, `git@host:owner/name`."""
    if _URL.match(repo):
        return True
    address = remotes.parse(repo)
    return address is not None and address.scheme == "ssh"


def clone_name(url: str) -> str:
    """The name of the clone's directory: readable, and another one for each address."""
    digest = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:12]
    name = _NOT_IN_NAMES.sub("-", repository_name(url))[:MAX_NAME].strip("-.")
    return f"{name or 'repository'}-{digest}"


def _check_address(url: str) -> None:
    """Raise `invalid_arguments` for what nothing is fetched from, and for a password in it."""
    if remotes.parse(url) is None:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"repo: nothing is cloned from {shown(url)}",
            repair=f"Use an address of {', '.join(remotes.SCHEMES)}, or a directory.",
        )
    has_password = "://" in url and urlsplit(url).password is not None
    if has_password or mask(url)[1]:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"repo: the address of {shown(url)} holds a password or a token, which would be stored with the batch",
            repair="Leave it out, and let git find it: by a credential helper, `gh auth setup-git`, or ssh.",
        )


def _directory(path: Path, name: str) -> Path:
    try:
        root = path.resolve(strict=True)
        if root.is_dir():
            return root
        why = "it is no directory"
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise CounselError(
        Code.WORKSPACE_INVALID,
        f"repo: {shown(name)}: {why}",
        repair="Name an existing directory, relative to that of the file of requests, or an address to clone from.",
    )


def _not_usable(wrong: list[tuple[Line, CounselError]]) -> CounselError:
    """The first error, and in its words what is wrong with the others."""
    _, first = wrong[0]
    listed = "\n".join(f"{_place(line)}: {error.message}" for line, error in wrong)
    count = "1 repository"
    if len(wrong) > 1:
        count = f"{len(wrong)} repositories"
    if len(wrong) == MAX_PROBLEMS:
        count = f"{MAX_PROBLEMS} repositories or more"
    return CounselError(
        first.code,
        f"{count} cannot be used; nothing was started.\n{listed}",
        repair=first.repair,
        details=first.details,
    )


def _place(line: Line) -> str:
    """Where a person finds the name of the repository: the line of a file, or the request."""
    if line.number:
        return f"line {line.number}"
    return shown(line.id)
