"""Which directories a run may be given, and which files in them it must not see."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import Code, CounselError
from codex_counsel.redact import secret_name
from codex_counsel.sandbox import MAX_SECRETS

MAX_ENTRIES = 200_000
"""Directory entries looked at for secret files; in a larger workspace the boundary is reported as partial."""

HOMES = (Path("/home"), Path("/Users"))
CREDENTIALS = [".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".oci", ".codex", ".claude", ".claude.json", ".password-store", ".netrc", ".npmrc", ".pypirc", ".pgpass", ".git-credentials", ".vault-token", ".my.cnf", ".boto", ".s3cfg", ".bash_history", ".zsh_history", ".python_history", ".psql_history", ".config/gcloud", ".config/gh", ".config/hub", ".config/glab-cli", ".config/git/credentials", ".config/op", ".config/doctl", ".config/rclone", ".config/google-chrome", ".config/chromium", ".config/anthropic", ".config/openai", ".mozilla", ".thunderbird", ".local/share/keyrings", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".m2/settings.xml", ".gradle/gradle.properties", ".terraform.d/credentials.tfrc.json", "Library/Keychains", "Library/Cookies", "Library/Mail"]


@dataclass(frozen=True)
class Places:
    """The directories of this user that no run may see."""

    home: Path
    codex_home: Path
    state: Path

    @classmethod
    def of(cls, env: Mapping[str, str], state: Path) -> Places:
        home = Path(env.get("HOME") or Path.home())
        return cls(home, Path(env.get("CODEX_HOME") or home / ".codex").absolute(), state)

    def denied(self) -> tuple[Path, ...]:
        """Existing credential paths, each also where a link leads."""
        paths = [self.codex_home, self.state, *(self.home / name for name in CREDENTIALS)]
        found = [path for path in paths if path.exists()]
        return tuple(dict.fromkeys([path for path in found if not path.is_symlink()] + [p.resolve() for p in found]))


def checked_root(given: str | Path, places: Places) -> Path:
    """The directory, resolved; `workspace_invalid` for what no run may be given."""
    path = Path(given)
    if not path.is_absolute():
        raise _invalid(path, "is not an absolute path")
    root = _resolved(path)
    if root == Path("/") or root in _homes(places) or any(home.is_relative_to(root) for home in _homes(places)):
        raise _invalid(root, "is the root, a home directory or above one: a run there could read every credential")
    if holder := next((d for d in places.denied() if root.is_relative_to(d)), None):
        raise _invalid(root, f"lies in {holder}, which no run may see")
    return root


def _resolved(path: Path) -> Path:
    try:
        root = path.resolve(strict=True)
        str(root).encode()
        os.scandir(root).close()
    except UnicodeEncodeError:
        raise _invalid(path, "has a name that is not UTF-8, which Codex cannot be told") from None
    except (OSError, RuntimeError) as error:
        raise _invalid(path, f"cannot be used: {getattr(error, 'strerror', None) or error}") from None
    return root


def _invalid(path: Path, why: str) -> CounselError:
    return CounselError(Code.WORKSPACE_INVALID, f"{path} {why}")


def _homes(places: Places) -> tuple[Path, ...]:
    others = (child for base in HOMES if base.is_dir() for child in base.iterdir())
    return (places.home, places.home.resolve(), Path("/root"), Path("/var/root"), *HOMES, *others)


def find_secrets(roots: Iterable[Path]) -> tuple[tuple[Path, ...], bool]:
    """Secret files below the roots by name, links resolved, and whether that is all of them."""
    found: list[Path] = []
    left = MAX_ENTRIES
    for root in roots:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if name != ".git"]
            left -= len(names) + len(files)
            found += (Path(directory, name).resolve() for name in files if secret_name(name))
            if left < 0 or len(found) > MAX_SECRETS:
                return tuple(found[:MAX_SECRETS]), False
    return tuple(dict.fromkeys(path for path in found if path.exists())), True


def toolchains(path_variable: str, places: Places) -> tuple[Path, ...]:
    """Directories that the programs on `PATH` need, where they lie outside the platform's own."""
    entries = (Path(entry) for entry in path_variable.split(os.pathsep) if entry.startswith("/"))
    roots = (root for entry in entries if entry.is_dir() for root in _needed(entry.resolve(), places))
    return tuple(dict.fromkeys(root for root in roots if not _platform(root) and root.is_dir()))


def _needed(directory: Path, places: Places) -> tuple[Path, ...]:
    """`~/.pyenv/shims` needs `~/.pyenv`; of `~/bin` and `~/.local/bin` the parent would open too much."""
    above = directory.parent
    if directory.name not in ("bin", "shims", "sbin") or any(home.is_relative_to(above) for home in _homes(places)):
        return (directory,)
    if above.name == ".local":
        return (directory, above / "lib", above / "share/uv", above / "share/mise", above / "pipx")
    return (above,)


def _platform(path: Path) -> bool:
    return any(path.is_relative_to(base) for base in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/System"))


def repository(root: Path, places: Places) -> tuple[Path | None, tuple[Path, ...]]:
    """The repository's top above `root`, and the git directories outside it that git needs to read.

    Read from files, so nothing is executed. What a `.git` file names is opened only if it points back (a linked
    worktree) or lies in the git directory of an enclosing repository (a submodule): a planted one opens nothing.
    """
    for folder in (root, *root.parents):
        entry = folder / ".git"
        if entry.is_dir() and not entry.is_symlink():
            return _allowed_top(folder, places), ()
        if entry.is_file():
            return _allowed_top(folder, places), _git_directories(entry)
    return None, ()


def _allowed_top(folder: Path, places: Places) -> Path | None:
    try:
        return checked_root(folder, places)
    except CounselError:
        return None


def _git_directories(entry: Path) -> tuple[Path, ...]:
    try:
        named = entry.read_text("utf-8").removeprefix("gitdir:").strip()
        directory = (entry.parent / named).resolve(strict=True)
        back = directory / "gitdir"
        if back.is_file() and Path(back.read_text("utf-8").strip()).resolve() == entry.resolve():
            common = (directory / (directory / "commondir").read_text("utf-8").strip()).resolve(strict=True)
            return (common, directory) if (common / "objects").is_dir() else ()
        enclosing = any(directory.is_relative_to(parent / ".git/modules") for parent in entry.parent.parents)
        return (directory,) if enclosing and (directory / "objects").is_dir() else ()
    except (OSError, ValueError):
        return ()


def read_text(path: Path, limit: int) -> str | None:
    """A regular file's text, links not followed, cut at `limit` bytes; None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return file.read(limit).decode("utf-8", "replace") if regular else None
