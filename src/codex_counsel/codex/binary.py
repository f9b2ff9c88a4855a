"""The installed Codex: where it is, which release it is, and which of its files a sandboxed command must read."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex import failures
from codex_counsel.codex.probe import ProbeCache, file_stamp, run_probe
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.path import search_path
from codex_counsel.system.text import one_line

OLDEST_VERSION = (0, 148, 0)
"""The oldest release that knows the permission profiles of `codex.sandbox`."""

CODE_MODE_HOST = "codex-code-mode-host"
"""The program, beside `codex`, in which models in code mode run their commands."""

PACKAGE_PARTS = ("codex-resources", "codex-path", "codex-package.json")
"""What Codex's package holds besides its `bin` (0.148 to 0.169); `codex-resources` has the bwrap of its sandbox."""


@dataclass(frozen=True)
class Codex:
    """A binary that answered `--version`.

    `needs` are the files and directories that a sandboxed command must be able to read
    for the sandbox to start. `source` is setting, PATH or package.
    """

    path: Path
    needs: tuple[Path, ...]
    version: str
    source: str

    @property
    def release(self) -> tuple[int, ...]:
        """The version as three numbers, to be compared with others."""
        return release_of(self.version)

    def notices(self) -> list[str]:
        """Sentences about missing parts of the package that most runs do not need."""
        host = self.path.resolve().parent / CODE_MODE_HOST
        if host.exists():
            return []
        return [
            f"{host} is missing: models that run their commands in code mode cannot run any; install all of Codex"
        ]


def find(setting: str | None, path: str, probes: ProbeCache) -> Codex:
    """Find Codex: the file that the setting names, else `codex` on `path`, else the Python package codex_cli_bin.

    `path` has the form of the variable PATH; its relative entries are ignored. Behind
    npm's launcher script the native binary is taken. Raises `codex_not_found` or
    `codex_too_old`.
    """
    if setting:
        return _verify(Path(setting), "setting", probes)
    on_path = shutil.which("codex", path=search_path(path))
    if on_path:
        return _verify(Path(on_path), "PATH", probes)
    package = _package_binary()
    if package:
        return _verify(package, "package", probes)
    raise CounselError(
        Code.CODEX_NOT_FOUND,
        "There is no `codex` on PATH and CODEX_COUNSEL_CODEX_BIN is not set",
    )


def is_missing(setting: str | None, path: str) -> bool:
    """Whether there is not even a file to try. Starts no program, so it is fast."""
    if setting or shutil.which("codex", path=search_path(path)):
        return False
    return _package_binary() is None


def _package_binary() -> Path | None:
    spec = importlib.util.find_spec("codex_cli_bin")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "codex"
    return path if path.exists() else None


def _verify(path: Path, source: str, probes: ProbeCache) -> Codex:
    path = _native_binary(path.expanduser())
    if not path.is_file() or not os.access(path, os.X_OK):
        raise CounselError(
            Code.CODEX_NOT_FOUND,
            f"{path} ({source}) is not an executable file",
        )

    key = ("version", file_stamp(path))
    version = probes.get(*key)
    if not version:
        version = _ask_version(path)
        probes.put(version, *key)

    if release_of(version) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise CounselError(
            Code.CODEX_TOO_OLD,
            f"Codex {version} at {path} is older than {oldest}",
        )
    return Codex(
        path=path,
        needs=_readable_parts(path.resolve()),
        version=version,
        source=source,
    )


def _native_binary(path: Path) -> Path:
    """The executable behind npm's `codex`, a Node script `codex.js`; any other path with its links resolved.

    The script starts 58 ms slower, and when it is killed Codex goes on.
    """
    real = path.resolve()
    if real.name != "codex.js":
        return real
    # npm puts the package of the platform into the launcher's own node_modules, or
    # beside the launcher's package.
    package = real.parent.parent
    for directory in (package / "node_modules/@openai", package.parent):
        for file in sorted(directory.glob("codex-*/vendor/*/bin/codex")):
            if os.access(file, os.X_OK):
                return file
    return real


def release_of(version: str) -> tuple[int, ...]:
    """The first three numbers of a version; those of a pre-release are its release's."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _ask_version(path: Path) -> str:
    result = run_probe([str(path), "--version"])
    match = re.search(r"^codex\S* (\d+\.\d+\.\d+\S*)", result.stdout, re.MULTILINE)
    if match:
        return match[1]
    if result.returncode is None:
        problem = "did not answer"
    else:
        output = one_line(result.stdout or result.stderr, 80) or "nothing"
        problem = f"answered {output!r}"
    message = f"{path} {problem} when asked for --version"
    shortage = failures.exhaustion(result.stderr) or failures.memory_shortage(message)
    if shortage:
        raise shortage
    raise CounselError(Code.CODEX_NOT_FOUND, f"{message}, so it is not a working Codex")


def _readable_parts(binary: Path) -> tuple[Path, ...]:
    """The binary and the parts of its package, each by name: a binary may lie directly in a home directory."""
    folder = binary.parent
    directories = [folder]
    if folder.name == "bin":
        directories.append(folder.parent)
    candidates = [folder / CODE_MODE_HOST]
    for directory in directories:
        candidates += [directory / name for name in PACKAGE_PARTS]
    # A link could lead anywhere, so it is not opened.
    parts = [part for part in candidates if part.exists() and part.resolve() == part]
    return (binary, *parts)
