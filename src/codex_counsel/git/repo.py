"""A repository, and the only place that runs git in it.

No program, hook, filter or transport that a configuration names is ever run, nothing is
fetched, and nothing is written unless the command itself writes. Call `reopen` after
anything else may have changed the configuration.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import (
    Config,
    GitEnvironment,
    environment,
    extended,
    hardened_arguments,
)
from codex_counsel.git.layout import Layout, read_layout
from codex_counsel.git.names import escaped
from codex_counsel.git.process import TIMEOUT, GitProcess, GitTimeout, find_git

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
MAX_BLOB = 64 * 1024 * 1024
CUT_OFF = "cut-off"
"""The file of a bare repository of ours with the commits whose parents are neither there nor in the user's clone."""


class GitError(CounselError):
    """Git ended with an error. `details` has its exit code; the message is its own first fatal sentence."""


@dataclass(frozen=True)
class Blob:
    """An entry of a tree or of the index: git's mode and object id."""

    mode: str
    sha: str

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file: no link, folder or submodule."""
        return self.mode.startswith("100")


@dataclass(frozen=True)
class Repo:
    """`root` is the top of the working tree, `prefix` the workspace below it (`b"sub/dir/"`, or empty).

    `timeout` is in seconds, for each git process. `env` is the environment that git
    runs with. `objects` is a bare repository of ours whose objects git sees too.
    """

    workspace: Path
    root: Path
    prefix: bytes
    git_dir: Path
    common_dir: Path
    empty_tree: str
    config: Config = field(repr=False)
    timeout: float
    env: GitEnvironment = field(repr=False)
    objects: Path | None = None

    @classmethod
    def open(
        cls,
        workspace: Path,
        timeout: float = TIMEOUT,
        *,
        env: Mapping[str, str],
    ) -> Repo:
        """The repository around a directory. `env` is the caller's environment.

        Raises `not_a_git_repo` where there is none with a working tree,
        `workspace_invalid` where git refuses it, or it leads to another repository.
        """
        workspace = workspace.resolve()
        first_env = environment(env, {}, workspace)

        query = partial(_query, workspace, first_env, timeout)
        output = query("rev-parse", "--show-object-format", "--show-toplevel")
        object_format, _, top = output.partition(b"\n")
        root = _resolved(top)
        git_dir = _resolved(query("rev-parse", "--absolute-git-dir"))
        common_dir = _resolved(
            query("rev-parse", "--path-format=absolute", "--git-common-dir")
        )
        layout = _checked_layout(workspace, Layout(root, git_dir, common_dir))
        config = Config.parse(query("config", "--list", "-z", "--show-scope"))
        overrides = config.driver_overrides() | config.excludes_override(env)
        return cls(
            workspace=workspace,
            root=root,
            prefix=_prefix(workspace, root),
            git_dir=layout.git_dir,
            common_dir=layout.common_dir,
            empty_tree=EMPTY_TREES[object_format.decode()],
            config=config,
            timeout=timeout,
            env=environment(env, overrides, workspace),
        )

    def reopen(self) -> Repo:
        """The same repository with its configuration as it is now."""
        repo = self.open(self.workspace, self.timeout, env=self.env)
        if self.objects is None:
            return repo
        return repo.with_objects(self.objects)

    def with_objects(self, directory: Path) -> Repo:
        """The same repository, with the objects of a bare repository of ours in sight. Nothing is written to either.

        Raises `workspace_invalid` where that is gone.
        """
        if not (directory / "objects").is_dir():
            raise CounselError(
                Code.WORKSPACE_INVALID,
                "The objects of the pull request are not kept any more",
                repair="Review the pull request again.",
            )
        env = extended(self.env, object_variables(directory))
        return replace(self, env=env, objects=directory)

    def bare(self, directory: Path) -> Repo:
        """A bare repository of ours, which has no working tree; git runs in it with the settings of this one."""
        return replace(
            self,
            workspace=directory,
            root=directory,
            prefix=b"",
            git_dir=directory,
            common_dir=directory,
            env=extended(self.env, {"GIT_DIR": str(directory)}),
        )

    def git(
        self,
        *args: str | bytes,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
    ) -> bytes:
        """Run git at the root and return what it wrote. `env` is added to the environment.

        Raises GitError for an exit code not in `ok`, and `timeout`.
        """
        with self.stream(*args, stdin=stdin, env=env, ok=ok) as chunks:
            return b"".join(chunks)

    @contextmanager
    def stream(
        self,
        *args: str | bytes,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
    ) -> Iterator[Iterator[bytes]]:
        """As `git`, but yields the output in chunks as it comes. Leaving the block early ends git."""
        full_env = extended(self.env, env or {})
        with (
            _running(self.root, args, full_env, self.timeout, stdin) as process,
            closing(_checked_chunks(process, args, ok)) as chunks,
        ):
            yield chunks

    def try_git(self, *args: str | bytes) -> tuple[int, bytes, str]:
        """Exit code, output and stderr, for commands whose failure is an answer."""
        with _running(self.root, args, self.env, self.timeout) as process:
            output = b"".join(process.chunks())
            return process.code or 0, output, _stderr(process)

    def head(self) -> str | None:
        """The commit checked out, or None before the first one."""
        code, output, _ = self.try_git(
            "rev-parse", "--verify", "--quiet", "HEAD^{commit}"
        )
        if code:
            return None
        return output.decode().strip()

    def lookup(self, rev: str | None, path: bytes) -> Blob | None:
        """The entry at this path (from the root) in a commit, or with None in the index. None for an unmerged file."""
        if rev is None:
            output = self.git("ls-files", "--stage", "-z", "--", path)
        else:
            output = self.git("ls-tree", "--full-tree", rev, "-z", "--", path)
        # Of a folder, the index lists what is in it.
        for record in output.split(b"\0"):
            entry, _, name = record.partition(b"\t")
            if name != path:
                continue
            if rev is not None:
                mode, _, sha = entry.decode().split()
                return Blob(mode, sha)
            mode, sha, stage = entry.decode().split()
            return Blob(mode, sha) if stage == "0" else None
        return None

    def read(
        self, rev: str | None, path: bytes | str, limit: int = MAX_BLOB
    ) -> bytes | None:
        """The stored bytes of a regular file in a commit, or with None in the index; at most `limit` of them.

        None when there is no such file, or when it is a link, a folder or a submodule.
        """
        blob = self.lookup(rev, os.fsencode(path))
        if blob is None or not blob.is_file:
            return None
        return self.blob(blob.sha, limit)

    def blob(self, sha: str, limit: int = MAX_BLOB) -> bytes:
        """The first `limit` bytes of a blob object."""
        data = bytearray()
        with self.stream("cat-file", "blob", sha) as chunks:
            for chunk in chunks:
                data += chunk
                # Leaving the block ends git, so the rest is never produced.
                if len(data) >= limit:
                    break
        return bytes(data[:limit])


def object_variables(directory: Path) -> dict[str, str]:
    """The variables by which git sees the objects of a bare repository of ours in another one."""
    # Quoted: a colon in the path would end it.
    path = b'"' + escaped(bytes(directory / "objects")) + b'"'
    variables = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": os.fsdecode(path)}
    cut_off = directory / CUT_OFF
    if cut_off.is_file():
        variables["GIT_SHALLOW_FILE"] = str(cut_off)
    return variables


@contextmanager
def _running(
    cwd: Path,
    args: tuple[str | bytes, ...],
    env: GitEnvironment,
    timeout: float,
    stdin: bytes = b"",
) -> Iterator[GitProcess]:
    try:
        with GitProcess(
            [find_git(env), *hardened_arguments(args)], env, cwd, timeout, stdin
        ) as process:
            yield process
    except GitTimeout:
        raise CounselError(
            Code.TIMEOUT,
            f"`git {_subcommand(args)}` did not finish within {timeout:g} seconds and was ended.",
            repair="Narrow the request with paths, or raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS.",
        ) from None


def _checked_chunks(
    process: GitProcess, args: tuple[str | bytes, ...], ok: tuple[int, ...]
) -> Generator[bytes]:
    """The output in chunks. Raises GitError after the last one if the exit code is not in `ok`."""
    yield from process.chunks()
    if process.code in ok:
        return
    stderr = _stderr(process)
    repair = "Run the command by hand and mend what git names."
    if "fetch" in stderr or "promisor" in stderr or "missing" in stderr:
        repair = (
            "This clone lacks objects and none are fetched here: "
            "run the same `git diff` by hand once, then call again."
        )
    raise GitError(
        Code.WORKSPACE_INVALID,
        f"`git {_subcommand(args)}` failed: {_fatal_sentence(stderr)}",
        repair=repair,
        details={"exit_code": process.code},
    )


def _stderr(process: GitProcess) -> str:
    return bytes(process.stderr).decode(errors="replace")


def _fatal_sentence(stderr: str) -> str:
    """The first line that begins with `fatal:` or `error:`, without that word; else the first line of all."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("fatal: ", "error: ")):
            return line.partition(": ")[2]
    return lines[0] if lines else "no message"


def _subcommand(args: tuple[str | bytes, ...]) -> str:
    return os.fsdecode(args[0]) if args else ""


def _query(
    workspace: Path,
    env: GitEnvironment,
    timeout: float,
    *args: str,
) -> bytes:
    """Run git in a directory of which it is not yet known whether it lies in a repository."""
    with _running(workspace, args, env, timeout) as process:
        output = b"".join(process.chunks())
        if process.code:
            raise _refusal(workspace, _stderr(process).strip())
        return output


def _refusal(workspace: Path, stderr: str) -> CounselError:
    fatal = _fatal_sentence(stderr)
    if "dubious ownership" in stderr:
        advice = " ".join(stderr.partition("\n")[2].split())
        return CounselError(Code.WORKSPACE_INVALID, fatal, repair=advice)
    if "bare repository" in stderr or "must be run in a work tree" in stderr:
        return CounselError(
            Code.NOT_A_GIT_REPO,
            f"{workspace} is a bare repository or lies inside .git: there are no files to review ({fatal}).",
            repair="Choose a working tree of it (`git worktree add`).",
        )
    if "not a git repository" in stderr:
        return CounselError(
            Code.NOT_A_GIT_REPO,
            f"{workspace} is not inside a git repository ({fatal}).",
        )
    return CounselError(
        Code.WORKSPACE_INVALID,
        f"Git cannot open the repository at {workspace}: {fatal}",
    )


def _resolved(output: bytes) -> Path:
    """The path that git printed on a line of its own; the path itself may contain line ends."""
    return Path(os.fsdecode(output.removesuffix(b"\n"))).resolve()


def _prefix(workspace: Path, root: Path) -> bytes:
    relative = os.fsencode(workspace.relative_to(root))
    if relative == b".":
        return b""
    return relative + b"/"


def _checked_layout(workspace: Path, found: Layout) -> Layout:
    """The layout of the repository, as git found it and as its files have it.

    Raises `workspace_invalid` where its `.git` leads elsewhere, or where the two differ:
    `core.worktree` may name any directory of the machine.
    """
    top = found.top
    if workspace.is_relative_to(top) and os.path.lexists(top / ".git"):
        layout = read_layout(top)
        if layout == found:
            return layout
    raise CounselError(
        Code.WORKSPACE_INVALID,
        f"The repository's core.worktree points to {top}, which is not the working tree of {found.git_dir}.",
        repair="Remove core.worktree from the repository's configuration, or choose the directory it belongs to.",
    )
