"""A throwaway working tree with its own repository, which borrows the objects of the user's repository.

The user's repository is only read. No worktree entry, branch, lock or object is made in
it, so nothing stays behind in it when this process is killed. The shadow's git
directory lies outside its working tree, reads no configuration of the user, and stores
every file as the bytes it has: no line ends are converted and no filter runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.delegate import excludes
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import (
    GitEnvironment,
    environment,
    extended,
    hardened_arguments,
)
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader
from codex_counsel.system.files import (
    REMOVE_SECONDS,
    remove_tree,
    write_atomically,
)
from codex_counsel.system.tree_walk import TreeWalk

RAW_SETTINGS = {
    # Writes files with so many processes; a tree of ten thousand takes a third of the time.
    "checkout.workers": "4",
    "core.attributesFile": os.devnull,
    "core.autocrlf": "false",
    "core.checkStat": "default",
    "core.excludesFile": os.devnull,
    "core.fileMode": "true",
    # A run may make any name; which of them are dangerous is decided when a diff is
    # applied.
    "core.protectHFS": "false",
    "core.protectNTFS": "false",
    "core.symlinks": "true",
    "core.untrackedCache": "false",
    "index.threads": "true",
}
"""Git settings under which every file is taken as the bytes it has."""
RAW_ATTRIBUTES = "* -text -eol -filter -ident -working-tree-encoding -merge !diff\n"
"""`info/attributes` of the shadow, which wins over every `.gitattributes` of its tree."""
REFUSALS = ("invalid path", "can only add", "unsupported file type")
"""What git says about a file that it takes into no index."""
PATTERN_FILES = (b".gitattributes", b".gitignore")
"""Files of a tree whose patterns git compares with every name."""
DIFF_COMMAND = (
    "diff-tree",
    "-r",
    "-p",
    "--full-index",
    "--find-renames",
    "--no-color",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)


@dataclass(frozen=True)
class Bounds:
    """How much of a tree is captured: `file_bytes` of each file, `total_bytes` and `files` altogether."""

    file_bytes: int
    total_bytes: int
    files: int

    def apply(
        self, tree: Path, names: Iterable[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """The names of files within the bounds, deleted ones among them, and the others."""
        inside: list[bytes] = []
        outside: list[bytes] = []
        total = 0
        with TreeReader(tree) as reader:
            for name in names:
                status = reader.lstat(name)
                size = status.st_size if status else 0
                fits = size <= self.file_bytes and total + size <= self.total_bytes
                if fits and len(inside) < self.files:
                    total += size
                    inside.append(name)
                else:
                    outside.append(name)
        return inside, outside


class ShadowGitError(CounselError):
    """A git command in the shadow ended with a non-zero exit code."""


class RefusedFileError(ShadowGitError):
    """Git takes a file into no index."""


class ShadowTimeoutError(CounselError):
    """A git command in the shadow did not finish within its time."""


def git_environment(inherited: Mapping[str, str], workspace: Path) -> GitEnvironment:
    """The environment of git in a shadow: no program of the user's workspace, and no configuration of the user."""
    env = environment(inherited, RAW_SETTINGS, workspace)
    variables = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    return extended(env, variables)


@dataclass(frozen=True)
class Shadow:
    """`base` is the directory that contains the tree and its repository; `remove` deletes it.

    `timeout` is in seconds, for each git command. `env` is the environment of git; see
    `git_environment`.
    """

    base: Path
    timeout: float
    env: GitEnvironment = field(repr=False)

    @property
    def tree(self) -> Path:
        """The working tree."""
        return self.base / "tree"

    @property
    def git_dir(self) -> Path:
        """Its git directory."""
        return self.base / "repo.git"

    @property
    def excludes(self) -> Path:
        """The ignore patterns of the user and of the clone; a run cannot read this file."""
        return self.base / "excludes"

    @classmethod
    def create(cls, repo: Repo, base: Path, head: str) -> Shadow:
        """Make a shadow of the repository with an empty tree and HEAD at the commit id `head`."""
        env = git_environment(repo.env, repo.workspace)
        shadow = cls(base, repo.timeout, env)
        shadow.tree.mkdir(parents=True, mode=0o700)
        object_format = "sha256" if len(repo.empty_tree) == 64 else "sha1"
        shadow.git("init", "-q", "--template=", f"--object-format={object_format}")

        info = shadow.git_dir / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(RAW_ATTRIBUTES, "ascii")
        shadow.excludes.write_bytes(excludes.patterns(repo))
        users_objects = os.fsencode(repo.common_dir / "objects")
        alternates = shadow.git_dir / "objects/info/alternates"
        alternates.write_bytes(users_objects + b"\n")

        (shadow.git_dir / "HEAD").write_text(head + "\n", "ascii")
        (shadow.tree / ".git").write_bytes(shadow._git_file_content)
        return shadow

    @property
    def _git_file_content(self) -> bytes:
        return b"gitdir: " + os.fsencode(self.git_dir) + b"\n"

    def is_own_git_file(self, path: bytes) -> bool:
        """Whether the path is the `.git` file of the tree with the content it was created with."""
        own_path = self.tree / ".git"
        if path != os.fsencode(own_path):
            return False
        if own_path.is_symlink() or not own_path.is_file():
            return False
        return own_path.read_bytes() == self._git_file_content

    # --- git

    def git(
        self,
        *args: str | bytes,
        stdin: bytes = b"",
        index: Path | None = None,
    ) -> bytes:
        """Run git in the shadow and return its output. `index` names another index file than the tree's.

        Raises ShadowGitError with git's own message where it fails, and
        ShadowTimeoutError after `timeout` seconds.
        """
        with self.stream(*args, stdin=stdin, index=index) as chunks:
            return b"".join(chunks)

    @contextmanager
    def stream(
        self,
        *args: str | bytes,
        stdin: bytes = b"",
        index: Path | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """As `git`, but yields the output in chunks as it comes. Leaving the block early ends git."""
        env = self._environment_of_tree(index)
        # It wins over the setting in the environment.
        ignored = ("-c", f"core.excludesFile={self.excludes}")
        argv = [find_git(env), *ignored, *hardened_arguments(args)]
        name = os.fsdecode(args[0])
        try:
            with GitProcess(argv, env, self.tree, self.timeout, stdin) as process:
                yield process.chunks()
                exit_code = process.code
                stderr = bytes(process.stderr)
        except GitTimeout:
            raise ShadowTimeoutError(
                Code.WORKTREE_FAILED, f"`git {name}` took too long"
            ) from None
        if exit_code:
            error_line = _error_line(stderr)
            error_class = ShadowGitError
            if any(refusal in error_line for refusal in REFUSALS):
                error_class = RefusedFileError
            raise error_class(
                Code.WORKTREE_FAILED, f"`git {name}` failed: {error_line}"
            )

    def _environment_of_tree(self, index: Path | None) -> GitEnvironment:
        variables = {
            "GIT_DIR": str(self.git_dir),
            "GIT_WORK_TREE": str(self.tree),
        }
        if index:
            variables["GIT_INDEX_FILE"] = str(index)
        return extended(self.env, variables)

    # --- the working tree and tree objects

    def snapshot(self) -> str:
        """Store the working tree without ignored files; returns the id of the tree object."""
        self._show_sparse_files()
        self.git("add", "--all", "--", ".")
        return self.write_tree()

    def bounded_snapshot(self, bounds: Bounds) -> tuple[str, list[bytes]]:
        """As `snapshot`, but leave out changes over the bounds and files that git refuses.

        Returns the tree's id and the names that were left out.
        """
        self._show_sparse_files()
        changed = self.git("diff-files", "--name-only", "-z", "--no-renames")
        new = self.git("ls-files", "--others", "--exclude-standard", "-z")
        names = [*changed.split(b"\0")[:-1], *new.split(b"\0")[:-1]]
        stored, left_out = bounds.apply(self.tree, names)
        left_out += self.store_files(stored)
        return self.write_tree(), left_out

    def store_files(self, names: list[bytes]) -> list[bytes]:
        """Take these files into the index as they are now; returns those that git refuses.

        Git refuses all for the sake of one, so the names are halved until the one is
        found. After `timeout` seconds of that, the files of a refused part count as
        refused too.
        """
        refused: list[bytes] = []
        pending = [names]
        deadline = time.monotonic() + self.timeout
        while pending:
            part = pending.pop()
            try:
                self.git(
                    "update-index",
                    "-z",
                    "--add",
                    "--remove",
                    "--replace",
                    "--stdin",
                    stdin=null_terminated(part),
                )
            except RefusedFileError:
                if len(part) == 1 or time.monotonic() > deadline:
                    refused += part
                    continue
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
        return refused

    def read_index(self) -> bytes:
        """The content of the index file, for `restore_index`."""
        return (self.git_dir / "index").read_bytes()

    def restore_index(self, content: bytes) -> None:
        """Put the index back, also after git was killed while it wrote one."""
        write_atomically(self.git_dir / "index", content)
        (self.git_dir / "index.lock").unlink(missing_ok=True)

    def reset_patterns(self) -> list[bytes]:
        """Put changed and new pattern files back to what the index has, and return their names.

        Matching a crafted pattern may take git for ever.
        """
        tracked = set(self.git("ls-files", "-z").split(b"\0"))
        output = self.git("diff-files", "--name-only", "-z", "--no-renames")
        changed = set(output.split(b"\0"))
        reset = []
        for entry in TreeWalk(self.tree):
            if entry.name not in PATTERN_FILES or entry.is_folder:
                continue
            name = entry.path
            if name in changed or name not in tracked:
                os.unlink(entry.name, dir_fd=entry.folder.descriptor)
                reset.append(name)
        self.write_files(name for name in reset if name in tracked)
        return reset

    def _show_sparse_files(self) -> None:
        """Clear the skip-worktree bit of files that exist now, so that `git add` sees them."""
        tree = os.fsencode(self.tree) + b"/"
        present = []
        output = self.git("ls-files", "-z", "-t")
        for record in output.split(b"\0"):
            if not record.startswith(b"S "):
                continue
            name = record.removeprefix(b"S ")
            if os.path.lexists(tree + name):
                present.append(name)
        if present:
            self.git(
                "update-index",
                "-z",
                "--no-skip-worktree",
                "--stdin",
                stdin=null_terminated(present),
            )

    def expect_absent(self, names: Iterable[bytes]) -> None:
        """Make git take these tracked files for unchanged as long as no such file is in the tree."""
        stdin = null_terminated(names)
        if stdin:
            self.git("update-index", "-z", "--skip-worktree", "--stdin", stdin=stdin)

    def assume_unchanged(self, names: Iterable[bytes]) -> None:
        """Make git treat these files as unchanged, where it tracks them.

        Needed for files that the sandbox denies to Codex: git commands that Codex runs
        would fail on them.
        """
        output = self.git("ls-files", "-z")
        tracked = set(output.split(b"\0"))
        known = [name for name in names if name in tracked]
        if known:
            self.git(
                "update-index",
                "-z",
                "--assume-unchanged",
                "--stdin",
                stdin=null_terminated(known),
            )

    def write_tree(self, index: Path | None = None) -> str:
        """Store the index as a tree object; returns its id."""
        # A partial clone lacks objects, and none are fetched.
        output = self.git("write-tree", "--missing-ok", index=index)
        return output.decode().strip()

    def diff(self, old: str, new: str, *, exact: bool) -> Generator[bytes]:
        """Yield the patch from one tree to another. Without `exact`, binary files are only named in it."""
        options = ["--binary"] if exact else []
        with self.stream(*DIFF_COMMAND, *options, old, new) as chunks:
            yield from chunks

    def apply_to_tree(self, tree: str, patch: bytes) -> str:
        """Apply a patch to a tree object without touching a file; returns the id of the resulting tree.

        Raises ShadowGitError where the patch does not apply.
        """
        index = self.base / "proof.index"
        try:
            self.git("read-tree", tree, index=index)
            if patch:
                self.git(
                    "apply",
                    "--cached",
                    "--binary",
                    "--whitespace=nowarn",
                    "-",
                    stdin=patch,
                    index=index,
                )
            return self.write_tree(index)
        finally:
            index.unlink(missing_ok=True)

    def write_files(self, names: Iterable[bytes]) -> None:
        """Write these files of the index into the working tree."""
        self.git(
            "checkout-index",
            "-z",
            "--force",
            "--index",
            "--stdin",
            stdin=null_terminated(names),
        )

    def check_out(self, base: str, tree: str, absent: Iterable[bytes]) -> None:
        """Fill the empty working tree from the tree object `tree`, with the index as it is for `base`.

        The files `absent`, the same in both, are left out and expected to be absent.
        """
        left_out = set(absent)
        self.git("read-tree", tree)
        names = self.git("ls-files", "-z").split(b"\0")[:-1]
        self.write_files(name for name in names if name not in left_out)
        if base != tree:
            # `-m` keeps what the index knows of files that are the same: git need not read
            # them again. `-i` looks at no file.
            self.git("read-tree", "-m", "-i", base)
        self.expect_absent(left_out)

    def absent_files(self) -> list[bytes]:
        """The tracked files that git expects no file for: see `expect_absent`."""
        records = self.git("ls-files", "-z", "-t").split(b"\0")
        return [name[2:] for name in records if name.startswith(b"S ")]

    def replace_tree(self, tree: str, absent: Iterable[bytes]) -> None:
        """Make the working tree anew, as the tree object `tree` has it: nothing that was made in it is left.

        The files `absent` are left out.
        """
        remove_tree(self.tree)
        self.tree.mkdir(mode=0o700)
        (self.tree / ".git").write_bytes(self._git_file_content)
        self.check_out(tree, tree, absent)

    def remove(self, seconds: float = REMOVE_SECONDS) -> None:
        """Delete `base` and everything below it, also folders that a run made inaccessible. Never raises."""
        remove_tree(self.base, seconds)


def _error_line(stderr: bytes) -> str:
    """The first line with git's reason, else the last one."""
    last_line = "no message"
    text = stderr.decode("utf-8", "replace")
    for line in text.splitlines():
        if line.startswith(("fatal:", "error:")):
            return line
        if line.strip():
            last_line = line
    return last_line


def null_terminated(names: Iterable[bytes]) -> bytes:
    """The names as input for git's `-z --stdin`."""
    return b"".join(name + b"\0" for name in names)
