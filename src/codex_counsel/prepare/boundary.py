"""What one run may read and write: the workspace, the programs it needs, and the files in them that are denied."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.sandbox import MAX_SECRETS, Boundary, is_literal_path
from codex_counsel.contract.vocabulary import Reads
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.directories import Directories
    from codex_counsel.prepare.preflight import Preflight
    from codex_counsel.prepare.workspace import ResolvedWorkspace

MAX_ENTRIES = 200_000
"""Directory entries looked at for secret files; in a larger workspace the boundary is reported as partial."""

CERTIFICATES = tuple(map(Path, ("/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates")))
"""Public keys, though their names look like those of private ones."""

PLATFORM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/System")
"""What Codex's `:minimal` profile opens by itself."""


@dataclass(frozen=True)
class Access:
    """What a kind of run may read by default. All paths absolute.

    `reads` is the boundary where the setting names none; `readable` are roots besides
    the workspace; secret files are looked for in `searched` and denied one by one.
    """

    reads: Reads
    readable: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()

    @classmethod
    def to_repository(cls, workspace: ResolvedWorkspace) -> Access:
        """For a run that changes nothing: the repository around its workspace."""
        repository = [workspace.top] if workspace.top else []
        return cls(
            reads="workspace",
            readable=(*repository, *workspace.git),
            searched=(workspace.outermost,),
        )


def of_run(
    context: Context, request: RunRequest, preflight: Preflight, access: Access
) -> Boundary:
    """What a run with this request may touch, before it has its private directories.

    Raises `workspace_invalid` for an extra root that runs may not use.
    """
    root = preflight.workspace.root
    extra_roots = [
        workspaces.checked_root(path, context.directories)
        for path in request.extra_roots
    ]
    reads = context.settings.read_boundary or access.reads

    tools: tuple[Path, ...] = ()
    if reads == "toolchains":
        tools = toolchains(context.env.get("PATH", ""), context.directories)

    roots = dict.fromkeys([*access.readable, *extra_roots])
    roots.pop(root, None)
    secrets, complete = find_secrets([*access.searched, *extra_roots])
    return Boundary(
        workspace=root,
        reads=reads,
        network=bool(getattr(request, "network", False)),
        readable=(*preflight.codex.needs, *roots, *tools),
        denied=context.directories.denied_around(*preflight.codex.needs),
        secrets=secrets,
        secrets_complete=complete,
    )


def warnings(boundary: Boundary) -> list[str]:
    """What the caller must know of a boundary that is wider than the default."""
    if boundary.reads == "host":
        return [
            "read boundary host: the run can read every file of this user but known credentials"
        ]
    if not boundary.secrets_complete:
        return [
            "read boundary partial: the workspace is too large, or has too many secret files, to deny each of them"
        ]
    return []


def find_secrets(roots: Iterable[Path]) -> tuple[tuple[Path, ...], bool]:
    """Secret files below the roots by name, links resolved, and whether that is all of them."""
    secrets: dict[Path, None] = {}
    entries_left = MAX_ENTRIES
    for root in roots:
        for directory, names, files in os.walk(root):
            names[:] = [name for name in names if name != ".git"]
            entries_left -= len(names) + len(files)
            below_root = directory[len(str(root)) :]
            for name in files:
                if not secret_name(f"{below_root}/{name}".replace("\n", " ")):
                    continue
                path = _real_secret(Path(directory, name))
                if path is not None:
                    secrets[path] = None
            if entries_left < 0 or len(secrets) > MAX_SECRETS:
                return tuple(secrets)[:MAX_SECRETS], False
    return tuple(secrets), True


def _real_secret(path: Path) -> Path | None:
    """Where the file really is; None for a link to nothing or to what every program may read."""
    # Path.exists raises PermissionError where os.path.exists answers no.
    if not os.path.exists(path):  # noqa: PTH110
        return None
    real = path.resolve()
    is_certificate = any(real.is_relative_to(base) for base in CERTIFICATES)
    if is_certificate or _is_platform(real):
        return None
    return real


def toolchains(path_variable: str, directories: Directories) -> tuple[Path, ...]:
    """Directories that the programs on `PATH` need, where they lie outside the platform's own."""
    roots: dict[Path, None] = {}
    for entry in path_variable.split(os.pathsep):
        # Path.is_dir raises PermissionError where os.path.isdir answers no.
        if not entry.startswith("/") or not os.path.isdir(entry):  # noqa: PTH112
            continue
        for root in _directories_needed_by(Path(entry).resolve(), directories):
            if _may_be_opened(root, directories):
                roots[root] = None
    return tuple(roots)


def _may_be_opened(path: Path, directories: Directories) -> bool:
    """Whether a run may read this directory: it is none of the platform's, and none with credentials."""
    private = any(path.is_relative_to(denied) for denied in directories.denied())
    return (
        path.is_dir()
        and is_literal_path(path)
        and not _is_platform(path)
        and not private
    )


def _directories_needed_by(
    directory: Path, directories: Directories
) -> tuple[Path, ...]:
    """What an entry of `PATH` needs: `~/.pyenv/shims` needs `~/.pyenv`.

    Of `~/bin`, `~/.local/bin` or `/srv/bin` the parent would open too much.
    """
    parent = directory.parent
    holds_a_home = any(home.is_relative_to(parent) for home in directories.all_homes())
    too_wide = len(parent.parts) <= 2 or holds_a_home
    if directory.name not in ("bin", "shims", "sbin") or too_wide:
        return (directory,)
    if parent.name == ".local":
        return (
            directory,
            parent / "lib",
            parent / "share/uv",
            parent / "share/mise",
            parent / "pipx",
        )
    return (parent, *interpreter(parent))


def interpreter(environment: Path) -> tuple[Path, ...]:
    """Where the Python of a virtual environment really lives: its own `python` is only a link."""
    if not (environment / "pyvenv.cfg").is_file():
        return ()
    real = (environment / "bin/python").resolve()
    installation = real.parent.parent
    if real.is_file() and len(installation.parts) > 2:
        return (installation,)
    return ()


def _is_platform(path: Path) -> bool:
    return any(path.is_relative_to(base) for base in PLATFORM)
