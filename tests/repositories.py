"""Git repositories for the tests, and the contents that many tests begin with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from codex_counsel.git.repo import Repo


def write(root: Path, name: str | bytes, content: str | bytes = "text\n") -> Path:
    """Write a file below the directory, with the directories on its way, and return its path."""
    path = root / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def numbered_lines(**changes: str) -> str:
    """Return twenty lines of Python, some of them replaced: `numbered_lines(l7="seven = 70")`."""
    return "".join(
        changes.get(f"l{number}", f"line_{number} = {number}") + "\n"
        for number in range(1, 21)
    )


@dataclass(frozen=True)
class Repository:
    """A directory that is, or becomes, a repository.

    Without `env`, git runs in the environment of the tests: the fixture
    `own_git_settings` keeps the developer's own settings out of it.
    """

    root: Path
    env: Mapping[str, str] | None = None

    def git(
        self,
        *args: str | bytes,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run git at the root or in `cwd`, with `env` in addition, and return what it printed, stripped."""
        base = os.environ if self.env is None else self.env
        result = subprocess.run(
            ["git", *args],
            cwd=cwd or self.root,
            input=stdin,
            env={**base, **(env or {})},
            check=True,
            capture_output=True,
        )
        return result.stdout.decode(errors="surrogateescape").strip()

    def write(
        self,
        name: str | bytes,
        content: str | bytes = "text\n",
        mode: int | None = None,
    ) -> Path:
        path = write(self.root, name, content)
        if mode is not None:
            path.chmod(mode)
        return path

    def commit(self, message: str = "change") -> str:
        """Commit all files that are not ignored, and return the id of the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head

    def raw_tree(self, *entries: tuple[str, str, str]) -> str:
        """Store a tree of such entries (mode, name, id of the object), and return its id.

        They are stored as they are, with names that git itself would not store.
        """
        rows = (
            f"{mode} {name}\0".encode() + bytes.fromhex(entry)
            for mode, name, entry in entries
        )
        kind = ("-t", "tree", "--literally")
        return self.git("hash-object", "-w", *kind, "--stdin", stdin=b"".join(rows))

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def repo(self, below: str = ".", timeout: float = 60) -> Repo:
        """Open the repository, or one in a directory below, as the code under test does."""
        env = os.environ if self.env is None else self.env
        return Repo.open(self.root / below, timeout, env=env)

    # --- beginnings

    def init(self, *options: str) -> Self:
        """Make a repository before its first commit; its branch is `main`."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main", *options)
        return self

    def begin(self) -> Self:
        """Make a repository with one commit: app.py with twenty lines, and docs/readme.md."""
        self.init()
        self.write("app.py", numbered_lines())
        self.write("docs/readme.md", "# Title\n")
        self.commit("begin")
        return self

    def begin_changed(self) -> Self:
        """`begin`, and then change line 7 of app.py."""
        self.begin()
        self.write("app.py", numbered_lines(l7="seven = 70"))
        return self

    def begin_with_work(self) -> Self:
        """Make a repository with one commit and, uncommitted, a change of each kind.

        There are a staged and an unstaged change in one file, a changed binary file and
        one with CRLF line ends, a deleted, a renamed, an untracked and an ignored file.
        """
        self.init()
        self.write("app.py", "answer = 41\n")
        self.write("lib/util.py", "x = 1\n")
        self.write("old.txt", "old\n")
        self.write("gone.txt", "gone\n")
        self.write(".gitignore", "*.log\n")
        self.write("dos.txt", b"a\r\nb\r\n")
        self.write("logo.bin", bytes(range(256)))
        self.commit("begin")
        self.write("lib/util.py", "x = 2\n")
        self.git("add", "lib")
        self.write("lib/util.py", "x = 3\n")
        self.write("logo.bin", b"\0mine")
        self.write("dos.txt", b"a\r\nmine\r\n")
        (self.root / "gone.txt").unlink()
        self.write("notes.md", "mine\n")
        self.write("noise.log", "ignored\n")
        self.git("mv", "old.txt", "new.txt")
        return self


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file and directory below, with its content, mode and time of change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data: object = None
        if path.is_symlink():
            data = path.readlink()
        elif path.is_file():
            data = path.read_bytes()
        found[str(path)] = (status.st_mode, status.st_mtime_ns, data)
    return found
