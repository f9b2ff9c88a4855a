"""A throwaway working tree with a repository of its own that borrows the user's objects.

The user's repository is only read: no worktree entry, branch, lock or object is made in it, so nothing can be left in
it, whatever kills this process. The shadow's git directory lies outside its tree, reads nobody's configuration, and
takes every file as the bytes it has: no line ends are converted and no filter runs.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import command, environment
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.repo import Repo

RAW = {
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.checkStat": "default",
    "core.excludesFile": os.devnull,
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.untrackedCache": "false",
    "index.threads": "true",
}
ATTRIBUTES = "* -text -eol -filter -ident -working-tree-encoding -merge !diff\n"
DIFF = ("diff-tree", "-r", "-p", "--full-index", "--find-renames", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")


@dataclass(frozen=True)
class Shadow:
    """`base` is the directory that holds it all and is removed in the end."""

    base: Path
    timeout: float

    @property
    def tree(self) -> Path:
        return self.base / "tree"

    @property
    def git_dir(self) -> Path:
        return self.base / "repo.git"

    @classmethod
    def create(cls, repo: Repo, base: Path, head: str) -> Shadow:
        """An empty tree at the user's commit."""
        shadow = cls(base, repo.timeout)
        shadow.tree.mkdir(parents=True, mode=0o700)
        kind = "sha256" if len(repo.empty_tree) == 64 else "sha1"
        shadow.git("init", "-q", "--template=", f"--object-format={kind}")
        shadow._borrow(repo)
        (shadow.git_dir / "HEAD").write_text(head + "\n", "ascii")
        (shadow.tree / ".git").write_bytes(shadow._pointer)
        return shadow

    @property
    def _pointer(self) -> bytes:
        return b"gitdir: " + os.fsencode(self.git_dir) + b"\n"

    def is_pointer(self, path: bytes) -> bool:
        """Whether this is the tree's own `.git`, as it was made."""
        own = path == os.fsencode(self.tree / ".git") and not os.path.islink(path) and os.path.isfile(path)
        return own and Path(os.fsdecode(path)).read_bytes() == self._pointer

    def _borrow(self, repo: Repo) -> None:
        info = self.git_dir / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(ATTRIBUTES, "ascii")
        (self.git_dir / "objects/info/alternates").write_bytes(os.fsencode(repo.common_dir / "objects") + b"\n")
        excludes = [repo.common_dir / "info/exclude", _global_excludes(repo)]
        (info / "exclude").write_bytes(b"\n".join(path.read_bytes() for path in excludes if path and path.is_file()))

    def git(self, *args: str | bytes, given: bytes = b"", index: Path | None = None) -> bytes:
        """Run git in the shadow; `worktree_failed` with git's own sentence when it fails."""
        with self.stream(*args, given=given, index=index) as chunks:
            return b"".join(chunks)

    @contextmanager
    def stream(self, *args: str | bytes, given: bytes = b"", index: Path | None = None) -> Iterator[Iterator[bytes]]:
        env = self._env(index)
        try:
            with GitProcess([find_git(env), *command(args)], env, self.tree, self.timeout, given) as child:
                yield child.chunks()
                code, said = child.code, bytes(child.stderr)
        except GitTimeout:
            raise CounselError(Code.WORKTREE_FAILED, f"`git {os.fsdecode(args[0])}` took too long") from None
        if code:
            raise RefusedError(Code.WORKTREE_FAILED, f"`git {os.fsdecode(args[0])}` failed: {_sentence(said)}")

    def _env(self, index: Path | None) -> dict[str, str]:
        own = {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.tree)}
        own |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        return environment(os.environ, RAW) | own | ({"GIT_INDEX_FILE": str(index)} if index else {})

    # --- trees

    def snapshot(self) -> str:
        """The tree object of what the working tree holds, ignored files left out."""
        self._unhide()
        self.git("add", "--all", "--", ".")
        return self._written()

    def overlook(self, names: Iterable[bytes]) -> None:
        """Have git believe that these are as they were: it fails on a file that the sandbox closes to it."""
        known = set(self.git("ls-files", "-z").split(b"\0"))
        if found := [name for name in names if name in known]:
            self.git("update-index", "-z", "--assume-unchanged", "--stdin", given=joined(found))

    def _unhide(self) -> None:
        """A file of a sparse checkout that is there now is a file like any other."""
        tree = os.fsencode(self.tree)
        records = self.git("ls-files", "-z", "-t").split(b"\0")
        hidden = [record[2:] for record in records if record.startswith(b"S ")]
        if found := [name for name in hidden if os.path.lexists(tree + b"/" + name)]:
            self.git("update-index", "-z", "--no-skip-worktree", "--stdin", given=joined(found))

    def _written(self, index: Path | None = None) -> str:
        """The index as a tree. Objects that a partial clone lacks are not asked for."""
        return self.git("write-tree", "--missing-ok", index=index).decode().strip()

    def diff(self, old: str, new: str, *, exact: bool) -> Generator[bytes]:
        """The patch from one tree to another; `exact` has the bytes of binary files too."""
        with self.stream(*DIFF, *(("--binary",) if exact else ()), old, new) as chunks:
            yield from chunks

    def applied(self, tree: str, patch: bytes) -> str:
        """The tree that results from applying the patch to a tree, proven without touching any file."""
        index = self.base / "proof.index"
        try:
            self.git("read-tree", tree, index=index)
            if patch:
                self.git("apply", "--cached", "--binary", "--whitespace=nowarn", "-", given=patch, index=index)
            return self._written(index)
        finally:
            index.unlink(missing_ok=True)

    def check_out(self, tree: str) -> None:
        """Fill the working tree from a tree object."""
        self.git("read-tree", tree)
        self.git("checkout-index", "--all", "--force", "--index")

    def remove(self) -> None:
        """All of it, also what a run made unreadable."""
        open_up(self.base)
        shutil.rmtree(self.base, ignore_errors=True)


class RefusedError(CounselError):
    """Git said no."""


def open_up(root: Path) -> None:
    """Give ourselves access to every folder and file below: a run may have taken it away."""
    for folder, names, files in os.walk(root):
        for name in names:
            _permit(os.path.join(folder, name), 0o700)
        for name in files:
            _permit(os.path.join(folder, name), 0o600)


def _permit(path: str, wanted: int) -> None:
    try:
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode) and mode & wanted != wanted:
            os.chmod(path, stat.S_IMODE(mode) | wanted)
    except OSError:  # what is not ours to open stays closed, and is reported when it cannot be read
        return


def _global_excludes(repo: Repo) -> Path | None:
    named = repo.config.values.get("core.excludesfile")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "git/ignore"


def _sentence(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no message")


def joined(names: Iterable[bytes]) -> bytes:
    """Names for git's `-z --stdin`."""
    return b"".join(name + b"\0" for name in names)
