"""The directories of this user: where things are kept, and which of them no run may see."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex.sandbox import why_closed
from codex_counsel.prepare import system_files

HOMES = (Path("/home"), Path("/Users"))
"""Where the home directories of other users lie."""

CREDENTIALS = """
    .ssh .gnupg .aws .azure .kube .docker .oci .codex .claude .claude.json .password-store .netrc .npmrc
    .pypirc .pgpass .git-credentials .vault-token .my.cnf .boto .s3cfg .bash_history .zsh_history
    .python_history .psql_history .config/gcloud .config/gh .config/hub .config/glab-cli
    .config/git/credentials .config/op .config/doctl .config/rclone .config/google-chrome .config/chromium
    .config/anthropic .config/openai .mozilla .thunderbird .local/share/keyrings .cargo/credentials
    .cargo/credentials.toml .gem/credentials .m2/settings.xml .gradle/gradle.properties
    .terraform.d/credentials.tfrc.json Library/Keychains Library/Cookies Library/Mail
""".split()  # noqa: SIM905  # a list takes three times the room
"""Paths below the home directory that hold credentials or private records."""


@dataclass(frozen=True)
class Directories:
    """Absolute paths. `state` holds the jobs, `cache` the working trees of delegates."""

    home: Path
    codex_home: Path
    state: Path
    cache: Path = Path("/nonexistent")

    @classmethod
    def of(cls, env: Mapping[str, str], state: Path) -> Directories:
        """The directories that this environment names, or the usual ones."""
        home = Path(env.get("HOME") or Path.home())
        codex_home = Path(env.get("CODEX_HOME") or home / ".codex")
        return cls(home, codex_home.absolute(), state, _cache_directory(env, home))

    @property
    def trees(self) -> Path:
        """Where delegates work: on disk, because a temporary directory may be memory."""
        return self.cache / "codex-counsel/trees"

    def denied(self) -> tuple[Path, ...]:
        """The credential paths that exist, all links resolved.

        A denied link does not cover its target, and with a denied path below a link no
        command can be started.
        """
        paths = [
            self.codex_home,
            self.state,
            *(self.home / name for name in CREDENTIALS),
            *system_files.named(own=self._own()),
        ]
        # Path.exists raises PermissionError where os.path.exists answers no.
        existing = [path for path in paths if os.path.exists(path)]  # noqa: PTH110
        return tuple(dict.fromkeys(path.resolve() for path in existing))

    def _own(self) -> tuple[Path, ...]:
        """Where runs of this user work or write; no denial of ours holds one of these."""
        temporary = Path(tempfile.gettempdir())
        return tuple(path.resolve() for path in (self.home, self.trees, temporary))

    def denied_around(self, *needed: Path) -> tuple[Path, ...]:
        """As `denied`, but the paths in `needed`, which a run cannot do without, stay open.

        Codex may be installed below its own home, and nothing can open what lies below
        a denial. So the denial of the whole directory is replaced by denials of
        everything beside the way to the needed path.
        """
        paths: list[Path] = []
        for denied in self.denied():
            paths += _denials_around(denied, needed)
        return tuple(paths)

    def why_closed(self, path: Path) -> str | None:
        """Why no run may be given this directory, or None. See `sandbox.why_closed`."""
        return why_closed(path, self.all_homes(), self.denied())

    def all_homes(self) -> tuple[Path, ...]:
        """This user's home directory and those of all others on this machine."""
        others: list[Path] = []
        for base in HOMES:
            try:
                others += base.iterdir()
            except OSError:
                continue
        return (
            self.home,
            self.home.resolve(),
            Path("/root"),
            Path("/var/root"),
            *HOMES,
            *others,
        )


def _cache_directory(env: Mapping[str, str], home: Path) -> Path:
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"]).absolute()

    apple = home / "Library/Caches"
    if apple.is_dir():
        return apple.absolute()
    return (home / ".cache").absolute()


def _denials_around(denied: Path, needed: tuple[Path, ...]) -> list[Path]:
    real = denied.resolve()
    inside = [path for path in needed if path.is_relative_to(real)]
    if not inside:
        return [denied]

    folders: dict[Path, None] = {}
    for path in inside:
        folders |= dict.fromkeys(
            folder for folder in path.parents if folder.is_relative_to(real)
        )

    denials = []
    for folder in folders:
        for entry in folder.iterdir():
            leads_to_needed = any(path.is_relative_to(entry) for path in inside)
            if not leads_to_needed:
                denials.append(entry)
    return denials
