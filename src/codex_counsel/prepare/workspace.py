"""Which directories a run may be given, and which files in them it must not see."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex.sandbox import MAX_SECRETS, is_literal_path
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.redact import secret_name

MAX_ENTRIES = 200_000
"""Directory entries looked at for secret files; in a larger workspace the boundary is reported as partial."""

HOMES = (Path("/home"), Path("/Users"))
SYSTEM = tuple(map(Path, ("/proc", "/sys", "/dev", "/run/user", "/run/secrets")))
CERTIFICATES = tuple(map(Path, ("/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates")))
CREDENTIALS = """
    .ssh .gnupg .aws .azure .kube .docker .oci .codex .claude .claude.json .password-store .netrc .npmrc
    .pypirc .pgpass .git-credentials .vault-token .my.cnf .boto .s3cfg .bash_history .zsh_history
    .python_history .psql_history .config/gcloud .config/gh .config/hub .config/glab-cli
    .config/git/credentials .config/op .config/doctl .config/rclone .config/google-chrome .config/chromium
    .config/anthropic .config/openai .mozilla .thunderbird .local/share/keyrings .cargo/credentials
    .cargo/credentials.toml .gem/credentials .m2/settings.xml .gradle/gradle.properties
    .terraform.d/credentials.tfrc.json Library/Keychains Library/Cookies Library/Mail
""".split()  # noqa: SIM905  # a list takes three times the room


@dataclass(frozen=True)
class Directories:
    """The directories of this user that no run may see."""

    home: Path
    codex_home: Path
    state: Path
    cache: Path = Path("/nonexistent")

    @classmethod
    def of(cls, env: Mapping[str, str], state: Path) -> Directories:
        home = Path(env.get("HOME") or Path.home())
        return cls(home, Path(env.get("CODEX_HOME") or home / ".codex").absolute(), state, _cache(env, home))

    @property
    def trees(self) -> Path:
        """Where delegates work: on disk, not in a temporary directory that may be memory."""
        return self.cache / "codex-counsel/trees"

    def denied(self) -> tuple[Path, ...]:
        """Existing credential paths, each also where a link leads."""
        paths = [self.codex_home, self.state, *(self.home / name for name in CREDENTIALS)]
        found = [path for path in paths if os.path.exists(path)]  # noqa: PTH110  # pathlib's raises what is forbidden
        return tuple(dict.fromkeys([path for path in found if not path.is_symlink()] + [p.resolve() for p in found]))

    def denied_around(self, *needed: Path) -> tuple[Path, ...]:
        """`denied`, with a way left open to what a run cannot do without.

        Codex may be installed below its own home, and nothing opens what lies below a denial: so its neighbours are
        denied.
        """
        return tuple(path for denied in self.denied() for path in _around(denied, needed))


def _around(denied: Path, needed: tuple[Path, ...]) -> list[Path]:
    real = denied.resolve()
    inside = [path for path in needed if path.is_relative_to(real)]
    if not inside:
        return [denied]
    way = dict.fromkeys(folder for path in inside for folder in path.parents if folder.is_relative_to(real))
    beside = (entry for folder in way for entry in folder.iterdir())
    return [entry for entry in beside if not any(path.is_relative_to(entry) for path in inside)]


def _cache(env: Mapping[str, str], home: Path) -> Path:
    apple = home / "Library/Caches"
    return Path(env.get("XDG_CACHE_HOME") or (apple if apple.is_dir() else home / ".cache")).absolute()


def checked_root(given: str | Path, places: Directories) -> Path:
    """The directory, resolved; `workspace_invalid` for what no run may be given."""
    path = Path(given)
    if not path.is_absolute():
        raise _invalid(path, "is not an absolute path")
    root = _resolved(path)
    if root == Path("/") or root in _homes(places) or any(home.is_relative_to(root) for home in _homes(places)):
        raise _invalid(root, "is the root, a home directory or above one: a run there could read every credential")
    if not is_literal_path(root):
        raise _invalid(root, "has one of * ? [ ] or a line break or tab in its path, which Codex takes for a pattern")
    if any(root.is_relative_to(base) or base.is_relative_to(root) for base in SYSTEM):
        raise _invalid(root, "belongs to the running system")
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


def _homes(places: Directories) -> tuple[Path, ...]:
    others: list[Path] = []
    for base in HOMES:
        with contextlib.suppress(OSError):
            others += base.iterdir()
    return (places.home, places.home.resolve(), Path("/root"), Path("/var/root"), *HOMES, *others)


def find_secrets(roots: Iterable[Path]) -> tuple[tuple[Path, ...], bool]:
    """Secret files below the roots by name, links resolved, and whether that is all of them."""
    found: dict[Path, None] = {}
    left = MAX_ENTRIES
    for root in roots:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if name != ".git"]
            left -= len(names) + len(files)
            below = directory[len(str(root)) :]
            named = (Path(directory, name) for name in files if secret_name(f"{below}/{name}".replace("\n", " ")))
            found |= dict.fromkeys(real for path in named if (real := _secret(path)))
            if left < 0 or len(found) > MAX_SECRETS:
                return tuple(found)[:MAX_SECRETS], False
    return tuple(found), True


def _secret(path: Path) -> Path | None:
    """Where the file really is; None for a link to nothing or to what every program may read."""
    real = path.resolve() if os.path.exists(path) else None  # noqa: PTH110  # pathlib's raises what is forbidden
    return None if real is None or _platform(real) or any(map(real.is_relative_to, CERTIFICATES)) else real


def toolchains(path_variable: str, places: Directories) -> tuple[Path, ...]:
    """Directories that the programs on `PATH` need, where they lie outside the platform's own."""
    entries = (Path(entry) for entry in path_variable.split(os.pathsep) if entry.startswith("/"))
    roots = (root for entry in entries if os.path.isdir(entry) for root in _needed(entry.resolve(), places))  # noqa: PTH112  # pathlib's raises
    return tuple(dict.fromkeys(root for root in roots if _openable(root, places)))


def _openable(path: Path, places: Directories) -> bool:
    private = any(path.is_relative_to(denied) for denied in places.denied())
    return path.is_dir() and is_literal_path(path) and not _platform(path) and not private


def _needed(directory: Path, places: Directories) -> tuple[Path, ...]:
    """`~/.pyenv/shims` needs `~/.pyenv`; of `~/bin` and `~/.local/bin` the parent would open too much."""
    above = directory.parent
    wide = len(above.parts) <= 2 or any(home.is_relative_to(above) for home in _homes(places))  # /tmp, /srv
    if directory.name not in ("bin", "shims", "sbin") or wide:
        return (directory,)
    if above.name == ".local":
        return (directory, above / "lib", above / "share/uv", above / "share/mise", above / "pipx")
    return (above, *interpreter(above))


def interpreter(environment: Path) -> tuple[Path, ...]:
    """Where the Python of a virtual environment really lives: its own `python` is only a link."""
    if not (environment / "pyvenv.cfg").is_file():
        return ()
    real = (environment / "bin/python").resolve()
    return (real.parent.parent,) if real.is_file() and len(real.parent.parent.parts) > 2 else ()


def _platform(path: Path) -> bool:
    return any(path.is_relative_to(base) for base in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/System"))


def repository(root: Path, places: Directories) -> tuple[Path | None, tuple[Path, ...]]:
    """The repository's top above `root`, and the git directories outside it that git needs to read.

    Read from files, so nothing is executed. What a `.git` file names is opened only if it is one of the repository's
    linked worktrees and points back, or lies in the git directory of an enclosing repository (a submodule): a planted
    one opens nothing. Nor does a repository of somebody else's above `root`.
    """
    for folder in (root, *root.parents):
        entry = folder / ".git"
        if folder != root and os.path.exists(entry) and entry.stat().st_uid != os.getuid():  # noqa: PTH110  # as above
            return None, ()
        if entry.is_dir() and not entry.is_symlink():
            return _allowed_top(folder, places), ()
        if entry.is_file():
            return _allowed_top(folder, places), _git_directories(entry)
    return None, ()


def _allowed_top(folder: Path, places: Directories) -> Path | None:
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
            genuine = directory.parent == common / "worktrees" and (common / "objects").is_dir()
            return (common, directory) if genuine and is_literal_path(common) and is_literal_path(directory) else ()
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
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor
        return file.read(limit).decode("utf-8", "replace")
