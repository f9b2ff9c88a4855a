"""A repository as it is found, and the only place that runs git in it.

No program, hook, filter or transport that a configuration names is ever run, nothing is fetched, nothing is written
unless a command writes by its nature. Open it anew after anything else may have changed the configuration.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import Config, command, environment
from codex_counsel.git.process import GitProcess, GitTimeout

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

TIMEOUT = 60.0
OLDEST = (2, 31)
"""The first git that takes configuration from `GIT_CONFIG_COUNT`, on which every pin depends."""
EMPTY_TREES = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
ADVICE_LINES = 12
MAX_BLOB = 64 * 1024 * 1024


class GitError(CounselError):
    """Git ended with an error; `details` hold its exit code, and the message its own first fatal sentence."""


@dataclass(frozen=True)
class Blob:
    mode: str
    sha: str

    @property
    def is_file(self) -> bool:
        return self.mode.startswith("100")


@dataclass(frozen=True)
class Repo:
    """`root` is the top of the working tree, `prefix` the workspace below it (`b"sub/dir/"`, or empty)."""

    workspace: Path
    root: Path
    prefix: bytes
    git_dir: Path
    common_dir: Path
    empty_tree: str
    config: Config = field(repr=False)
    timeout: float
    env: Mapping[str, str] = field(repr=False)

    @classmethod
    def open(cls, workspace: Path, timeout: float = TIMEOUT, env: Mapping[str, str] | None = None) -> Repo:
        """The repository around a directory. `env` is the caller's environment, by default this process's."""
        inherited = os.environ if env is None else env
        reviewed = _around(workspace.resolve())
        place = _Place(workspace.resolve(), timeout, environment(inherited, {}, reviewed))
        kind, _, root = place.ask("--show-object-format", "--show-toplevel").partition(b"\n")
        top, git_dir = _path(root), _path(place.ask("--absolute-git-dir"))
        _check_root(place.workspace, top, git_dir)
        config = Config.parse(place.git("config", "--list", "-z"))
        return cls(
            workspace=place.workspace,
            root=top,
            prefix=_prefix(place.workspace, top),
            git_dir=git_dir,
            common_dir=_common_dir(git_dir),
            empty_tree=EMPTY_TREES[kind.decode()],
            config=config,
            timeout=timeout,
            env=environment(inherited, config.disarming(), reviewed),
        )

    def opened_anew(self) -> Repo:
        """With the configuration as it is by now."""
        return self.open(self.workspace, self.timeout, self.env)

    @property
    def is_linked_worktree(self) -> bool:
        return self.common_dir != self.git_dir

    @property
    def is_submodule(self) -> bool:
        return not self.is_linked_worktree and ".git/modules/" in f"{self.git_dir}/"

    def git(
        self, *args: str | bytes, given: bytes = b"", env: Mapping[str, str] | None = None, ok: tuple[int, ...] = (0,)
    ) -> bytes:
        """Run git at the root and return what it wrote; an exit code not in `ok` raises."""
        with self.stream(*args, given=given, env=env, ok=ok) as chunks:
            return b"".join(chunks)

    @contextmanager
    def stream(
        self, *args: str | bytes, given: bytes = b"", env: Mapping[str, str] | None = None, ok: tuple[int, ...] = (0,)
    ) -> Iterator[Iterator[bytes]]:
        """Chunks of git's output as it comes. Leaving the block early ends git."""
        whole = {**self.env, **(env or {})}
        with (
            _running(self.root, args, whole, self.timeout, given) as child,
            closing(_checked(child, args, ok)) as chunks,
        ):
            yield chunks

    def said(self, *args: str | bytes) -> tuple[int, bytes, str]:
        """Exit code, output and messages, for commands whose failure is an answer."""
        with _running(self.root, args, self.env, self.timeout, b"") as child:
            output = b"".join(child.chunks())
            return child.code or 0, output, bytes(child.stderr).decode(errors="replace")

    def resolve(self, ref: str) -> str:
        """The commit that a caller's ref names; `unknown_ref` for anything else."""
        from codex_counsel.git.refs import resolve

        return resolve(self, ref)

    def head(self) -> str | None:
        """The commit checked out, or None before the first one."""
        code, output, _ = self.said("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        return None if code else output.decode().strip()

    def lookup(self, rev: str | None, path: bytes) -> Blob | None:
        """What stands at this path (from the root) in a commit, or with None in the index."""
        command = ("ls-files", "--stage") if rev is None else ("ls-tree", "--full-tree", rev)
        records = (record.partition(b"\t") for record in self.git(*command, "-z", "--", path).split(b"\0"))
        fields = next((about.decode().split() for about, _, name in records if name == path), None)
        if fields is None or (rev is None and fields[2] != "0"):
            return None
        return Blob(fields[0], fields[1] if rev is None else fields[2])

    def read(self, rev: str | None, path: bytes | str, limit: int = MAX_BLOB) -> bytes | None:
        """The stored bytes of a regular file in a commit, or with None in the index; at most `limit` of them.

        None when there is no such file there, or when it is a link, a folder or a submodule.
        """
        blob = self.lookup(rev, os.fsencode(path))
        return self.blob(blob.sha, limit) if blob and blob.is_file else None

    def blob(self, sha: str, limit: int = MAX_BLOB) -> bytes:
        held = bytearray()
        with self.stream("cat-file", "blob", sha) as chunks:
            for chunk in chunks:
                held += chunk
                if len(held) >= limit:
                    break
        return bytes(held[:limit])


@dataclass(frozen=True)
class _Place:
    """A directory in which it is not yet known whether git works."""

    workspace: Path
    timeout: float
    env: Mapping[str, str]

    def git(self, *args: str) -> bytes:
        with _running(self.workspace, args, self.env, self.timeout, b"") as child:
            output = b"".join(child.chunks())
            if child.code:
                raise self._refused(bytes(child.stderr).decode(errors="replace").strip())
            return output

    def ask(self, *options: str) -> bytes:
        return self.git("rev-parse", *options).removesuffix(b"\n")

    def _refused(self, said: str) -> CounselError:
        fatal = _fatal(said)
        if "dubious ownership" in said:
            advice = " ".join(said.partition("\n")[2].split())
            return CounselError(Code.WORKSPACE_INVALID, fatal, repair=advice)
        if "bare repository" in said or "must be run in a work tree" in said:
            message = (
                f"{self.workspace} is a bare repository or lies inside .git: there are no files to review ({fatal})."
            )
            return CounselError(
                Code.NOT_A_GIT_REPO, message, repair="Choose a working tree of it (`git worktree add`)."
            )
        if "not a git repository" in said:
            return CounselError(Code.NOT_A_GIT_REPO, f"{self.workspace} is not inside a git repository ({fatal}).")
        return CounselError(Code.WORKSPACE_INVALID, f"Git cannot open the repository at {self.workspace}: {fatal}")


@contextmanager
def _running(
    cwd: Path, args: tuple[str | bytes, ...], env: Mapping[str, str], timeout: float, given: bytes
) -> Iterator[GitProcess]:
    try:
        with GitProcess([binary(env), *command(args)], env, cwd, timeout, given) as child:
            yield child
    except GitTimeout:
        raise CounselError(
            Code.TIMEOUT,
            f"`git {_command(args)}` did not finish within {timeout:g} seconds and was ended.",
            repair="Narrow the request with paths, or raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS.",
        ) from None


def _checked(child: GitProcess, args: tuple[str | bytes, ...], ok: tuple[int, ...]) -> Generator[bytes]:
    yield from child.chunks()
    if child.code not in ok:
        said = bytes(child.stderr).decode(errors="replace")
        raise GitError(
            Code.WORKSPACE_INVALID,
            f"`git {_command(args)}` failed: {_fatal(said)}",
            repair=_repair(said),
            details={"exit_code": child.code},
        )


def _repair(said: str) -> str:
    if "fetch" in said or "promisor" in said or "missing" in said:
        return (
            "This clone lacks objects and none are fetched here: run the same `git diff` by hand once, then call again."
        )
    return "Run the command by hand and mend what git names."


def _fatal(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    first = next(
        (line for line in lines if line.startswith(("fatal: ", "error: "))), lines[0] if lines else "no message"
    )
    return first.partition(": ")[2] if first.startswith(("fatal: ", "error: ")) else first


def _command(args: tuple[str | bytes, ...]) -> str:
    return os.fsdecode(args[0]) if args else ""


@lru_cache(maxsize=8)
def _usable(path: str) -> str:
    with GitProcess([path, "version"], {"PATH": os.defpath, "LC_ALL": "C"}, Path("/"), TIMEOUT) as child:
        said = b"".join(child.chunks()).decode(errors="replace")
    numbers = re.search(r"(\d+)\.(\d+)", said)
    if not numbers or (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CounselError(
            Code.WORKSPACE_INVALID, f"{path} is {said.strip()}; git {oldest} or newer is needed.", repair="Update git."
        )
    return path


def binary(env: Mapping[str, str]) -> str:
    """The git program on the PATH of an `environment`, known to be new enough."""
    found = shutil.which("git", path=env.get("PATH", os.defpath))
    if found is None:
        raise CounselError(
            Code.NOT_A_GIT_REPO, "Git is not installed or not on PATH.", repair="Install git and call again."
        )
    return _usable(str(Path(found).absolute()))


def _around(workspace: Path) -> Path:
    """What is under review, as far as can be told before git is: no program of it may be taken for git."""
    return next((folder for folder in (workspace, *workspace.parents) if os.path.lexists(folder / ".git")), workspace)


def _path(raw: bytes) -> Path:
    return Path(os.fsdecode(raw)).resolve()


def _prefix(workspace: Path, root: Path) -> bytes:
    relative = os.fsencode(workspace.relative_to(root))
    return b"" if relative == b"." else relative + b"/"


def _common_dir(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return (git_dir / os.fsdecode(pointer.read_bytes().strip())).resolve() if pointer.is_file() else git_dir


def _check_root(workspace: Path, root: Path, git_dir: Path) -> None:
    """`core.worktree` may name any directory of the machine: only one whose own `.git` leads here is believed."""
    if not workspace.is_relative_to(root) or _git_dir_of(root) != git_dir:
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The repository's core.worktree points to {root}, which is not the working tree of {git_dir}.",
            repair="Remove core.worktree from the repository's configuration, or choose the directory it belongs to.",
        )


def _git_dir_of(root: Path) -> Path | None:
    entry = root / ".git"
    if entry.is_dir():
        return entry.resolve()
    if not entry.is_file():
        return None
    target = os.fsdecode(entry.read_bytes().removeprefix(b"gitdir: ").rstrip(b"\n"))
    return (root / target).resolve()
