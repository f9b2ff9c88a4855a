"""Git in a repository whose bytes come from elsewhere: with limits to its files, memory and time.

No configuration of a user is in force, and names that lead out of the tree are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.delegate.shadow import git_environment
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import GitEnvironment, extended
from codex_counsel.git.limits import limited
from codex_counsel.git.process import (
    GitProcess,
    GitTimeout,
    cannot_write,
    find_git,
)
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context

MAX_OUTPUT = 100_000_000
"""Bytes that one command of git may print into memory."""
ATTRIBUTES = "* -text -eol -ident -filter -working-tree-encoding\n"
"""Every file has the bytes of its object: what the sender's git converted, it has converted already."""
EXCLUDES = "!*\n"
"""The sender's untracked files are no files that the receiver's own patterns ignore."""
CONFIG = """\
[core]
\tautocrlf = false
\tfilemode = true
\tsymlinks = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
"""
PROTECTION = ("core.protectHFS", "core.protectNTFS")
"""Some file systems take more names for `.git` than that, and any system can have one of them mounted."""
STORAGE_REPAIR = (
    "Free disk space, or set XDG_CACHE_HOME to a directory that can be written."
)
READ_FROM_FILE = 'input=$1; shift; exec "$@" <"$input"'
"""Runs a program with a file as its standard input, which `limited` needs for itself."""


def invalid(problem: str) -> CounselError:
    return CounselError(Code.PACK_INVALID, f"The pack {problem}")


@dataclass(frozen=True)
class LimitedGit:
    """Git in the repository whose working tree is `tree`, with limits. `timeout` is in seconds, for each command."""

    tree: Path
    index: Path
    timeout: float
    env: GitEnvironment = field(repr=False)

    @classmethod
    def of(cls, context: Context, tree: Path) -> LimitedGit:
        env = git_environment(context.env, tree)
        count = int(env["GIT_CONFIG_COUNT"])
        protection = {"GIT_CONFIG_COUNT": str(count + len(PROTECTION))}
        for number, name in enumerate(PROTECTION, count):
            protection[f"GIT_CONFIG_KEY_{number}"] = name
            protection[f"GIT_CONFIG_VALUE_{number}"] = "true"
        env = extended(env, protection)
        return cls(tree, tree / ".git/index", context.settings.git_timeout_seconds, env)

    @property
    def directory(self) -> Path:
        """Its git directory."""
        return self.tree / ".git"

    def with_index(self, index: Path) -> LimitedGit:
        """The same with another index."""
        return LimitedGit(self.tree, index, self.timeout, self.env)

    def init(self, object_format: str) -> None:
        """Make the repository."""
        # Without GIT_DIR: with it, git would write the path of the draft into its configuration.
        options = ("-q", "--template=", f"--object-format={object_format}")
        self._checked(("init", *options, str(self.tree)), self.env, None, (0,))
        info = self.directory / "info"
        info.mkdir(exist_ok=True)
        (info / "attributes").write_text(ATTRIBUTES, "ascii")
        (info / "exclude").write_text(EXCLUDES, "ascii")
        with (self.directory / "config").open("a", encoding="ascii") as config:
            config.write(CONFIG)

    def run(
        self,
        *args: str,
        stdin: Path | bytes | None = None,
        variables: dict[str, str] | None = None,
        ok: tuple[int, ...] = (0,),
    ) -> bytes:
        """What git printed. Raises `pack_invalid` with git's own message, `timeout` and `storage_failed`."""
        return self._checked(args, self._environment(variables or {}), stdin, ok)

    def stream(self, *args: str) -> Generator[bytes]:
        """What git prints, as it comes. Raises as `run`."""
        process = self._process(args, self._environment({}), None)
        with self._in_time(args), process:
            yield from process.chunks()
        self._check(args, process, (0,))

    def _environment(self, variables: dict[str, str]) -> GitEnvironment:
        places = {
            "GIT_DIR": str(self.directory),
            "GIT_WORK_TREE": str(self.tree),
            "GIT_INDEX_FILE": str(self.index),
        }
        return extended(self.env, places | variables)

    def _checked(
        self,
        args: tuple[str, ...],
        env: GitEnvironment,
        stdin: Path | bytes | None,
        ok: tuple[int, ...],
    ) -> bytes:
        process = self._process(args, env, stdin)
        output = bytearray()
        with self._in_time(args), process:
            for chunk in process.chunks():
                output += chunk
                if len(output) > MAX_OUTPUT:
                    raise invalid(f"makes `git {args[0]}` print too much")
        self._check(args, process, ok)
        return bytes(output)

    def _check(
        self, args: tuple[str, ...], process: GitProcess, ok: tuple[int, ...]
    ) -> None:
        """Raise unless git has ended with one of these codes."""
        if (process.code or 0) in ok:
            return
        stderr = bytes(process.stderr).decode(errors="replace")
        problem = f"`git {args[0]}` failed: {_sentence(stderr)}"
        if cannot_write(stderr):
            raise CounselError(
                Code.STORAGE_FAILED,
                f"The repository of a pack cannot be stored: {problem}",
                repair=STORAGE_REPAIR,
            )
        raise invalid(f"makes no repository: {problem}")

    def _process(
        self, args: tuple[str, ...], env: GitEnvironment, stdin: Path | bytes | None
    ) -> GitProcess:
        command = [find_git(env), "--no-pager", *args]
        if isinstance(stdin, bytes):
            return GitProcess(command, env, self.tree, self.timeout, stdin)
        if stdin:
            command = ["/bin/sh", "-c", READ_FROM_FILE, "sh", str(stdin), *command]
        return GitProcess(
            limited(*command), env, self.tree, self.timeout, lifeline=True
        )

    @contextlib.contextmanager
    def _in_time(self, args: tuple[str, ...]) -> Iterator[None]:
        """Say which command did not finish."""
        try:
            yield
        except GitTimeout:
            raise CounselError(
                Code.TIMEOUT,
                f"`git {args[0]}` did not finish within {self.timeout:g} seconds and was ended.",
                repair="Raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS and call again.",
            ) from None


def _sentence(stderr: str) -> str:
    """The first line with git's reason."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if line.startswith(("fatal: ", "error: ")):
            return one_line(visible(line.partition(": ")[2]), 300)
    if lines:
        return one_line(visible(lines[0]), 300)
    return "it reached the limit of memory or of the size of a file"
