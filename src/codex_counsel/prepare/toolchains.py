"""What of the user's installed programs a run may read: the entries of `PATH`, and interpreters of environments."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.sandbox import PLATFORM

if TYPE_CHECKING:
    from codex_counsel.prepare.directories import Gate

MANAGED = (
    ".pyenv/versions",
    ".local/share/uv/python",
    ".local/share/mise/installs/python",
    ".asdf/installs/python",
    ".rye/py",
    ".conda/envs",
    "miniconda3",
    "anaconda3",
    "miniforge3",
    "mambaforge",
    "micromamba",
)
"""Where version managers keep installations of Python below a home directory."""

LIBRARIES = ("lib", "lib64", "libexec", "share")
"""What an installation of programs has besides `bin`."""

SHARED = (".config", ".cache", ".local/share", ".local/state")
"""Directories of a home in which every program keeps something of its own."""


OTHER_USES = (".git", ".ssh", ".profile", ".bashrc")
"""What a directory has that is a project or somebody's home, also where Python was installed into it."""


def toolchains(path_variable: str, gate: Gate, workspace: Path) -> tuple[Path, ...]:
    """Directories that the programs on `PATH` need, where they lie outside the platform's own.

    Entries inside the workspace count for nothing: what it names, others may have
    written.
    """
    roots: dict[Path, None] = {}
    for entry in path_variable.split(os.pathsep):
        # Path.is_dir raises PermissionError where os.path.isdir answers no.
        if not entry.startswith("/") or not os.path.isdir(entry):  # noqa: PTH112
            continue
        real = Path(entry).resolve()
        if any(path.is_relative_to(workspace) for path in (Path(entry), real)):
            continue
        for root in _directories_needed_by(real, gate):
            if _may_be_opened(root, gate):
                roots[root] = None
    return tuple(roots)


def _may_be_opened(path: Path, gate: Gate) -> bool:
    is_platform = any(path.is_relative_to(base) for base in PLATFORM)
    return path.is_dir() and not is_platform and not gate.why_closed(path)


def _directories_needed_by(directory: Path, gate: Gate) -> tuple[Path, ...]:
    """What an entry of `PATH` needs: `~/.pyenv/shims` needs `~/.pyenv`.

    Of `~/bin`, `~/.local/bin`, `~/.config/bin` or `/srv/bin` the parent would open too
    much.
    """
    parent = directory.parent
    holds_a_home = any(home.is_relative_to(parent) for home in gate.homes)
    is_shared = any(parent == home / name for home in gate.homes for name in SHARED)
    too_wide = len(parent.parts) <= 2 or holds_a_home or is_shared
    is_program_place = directory.name in ("bin", "shims", "sbin")
    if too_wide or not is_program_place or not _is_installation(parent):
        return (directory,)
    if parent.name == ".local":
        return (
            directory,
            parent / "lib",
            parent / "share/uv/python",
            parent / "share/uv/tools",
            parent / "share/mise",
            parent / "pipx",
        )
    return (parent, *interpreter(parent, gate))


def _is_installation(folder: Path) -> bool:
    """Whether this holds installed programs, and is no project with a folder `bin`.

    Version managers such as `~/.pyenv` are installed by cloning them, `~/.dotfiles` may
    be cloned too.
    """
    if folder.is_relative_to("/opt"):
        return True
    is_hidden = any(part.startswith(".") for part in folder.parts)
    is_project = (folder / ".git").exists()
    has_libraries = any((folder / name).is_dir() for name in LIBRARIES)
    if is_hidden:
        return has_libraries or not is_project
    return has_libraries and not is_project


def interpreter(environment: Path, gate: Gate) -> tuple[Path, ...]:
    """The installation that a virtual environment's `python` leads to, or nothing where it is no Python.

    The link may come from a repository. So its target must have the form of an
    installation, with a standard library of its own and nothing that shows another use,
    and lie outside all home directories or where a version manager keeps such.
    """
    # Path.is_file raises for a link whose target is too long, or is closed to us.
    if not os.path.isfile(environment / "pyvenv.cfg"):  # noqa: PTH113
        return ()
    try:
        real = (environment / "bin/python").resolve(strict=True)
    except (OSError, RuntimeError):
        return ()
    installation = real.parent.parent
    if not _is_python(real) or gate.why_closed(installation):
        return ()
    if not _is_program_place(installation, gate):
        return ()
    if any(os.path.lexists(installation / name) for name in OTHER_USES):
        return ()
    return (installation,)


def _is_python(program: Path) -> bool:
    """Whether this is the `bin/python3.12` of an installation."""
    if not re.fullmatch(r"(?:python|pypy)\d*(?:\.\d+)?t?", program.name):
        return False
    if program.parent.name != "bin" or not program.is_file():
        return False
    library = program.parent.parent / "lib"
    try:
        return any(library.glob("py*/os.py"))
    except OSError:
        # A link in it leads to an impossible name.
        return False


def _is_program_place(installation: Path, gate: Gate) -> bool:
    homes = set(gate.homes) - {Path("/")}
    around = [home for home in homes if installation.is_relative_to(home)]
    if not around:
        return True
    managed = [home / place for home in around for place in MANAGED]
    return any(installation.is_relative_to(place) for place in managed)
