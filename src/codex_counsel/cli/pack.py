"""The verb `pack`: the request of another verb as a file, which `run` runs on another machine."""

from __future__ import annotations

import argparse
import os
import shlex
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output, Target
from codex_counsel.contract.envelope import Meta, completed
from codex_counsel.contract.request import RunRequest
from codex_counsel.errors import DONE, Code, CounselError, error_of
from codex_counsel.services.counsel import Counsel
from codex_counsel.services.pack import Packed, packed
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, visible

TOOL = "codex-counsel pack"
STDOUT = "-"
MAX_NAMED = 20
"""Files that a warning names."""


def run(
    arguments: argparse.Namespace,
    output: Output,
    request: RunRequest,
    env: Mapping[str, str],
) -> int:
    """Write the pack and say what is in it; returns the exit code."""
    name = _target(arguments.pack_file)
    _check_target(name, output)
    counsel = Counsel(env)
    with packed(counsel.context, request) as pack:
        LINE.say(f"writing {name} …")
        size = _write(pack, name)
        data = _report(pack, name, size)
        meta = Meta(warnings=[*counsel.settings.warnings, *_warnings(pack)])
    summary = f"{_shown(name)}: {size:,} bytes; {_content(pack)}"
    if name == STDOUT:
        LINE.erase()
        if not arguments.quiet:
            for line in (summary, *meta.warnings):
                print(visible(line), file=sys.stderr)
        return DONE
    output.show(completed(TOOL, summary, data, meta).wire())
    has_hint = output.format == "text" and not arguments.quiet
    if has_hint and Path(name).is_file():
        flags = " --network" if getattr(request, "network", False) else ""
        print(
            f"run it on another machine with: codex-counsel run {shlex.quote(name)} -o RESULT{flags}",
            file=sys.stderr,
        )
    return DONE


def _target(name: str) -> str:
    """`STDOUT` also for another name of it, such as /dev/stdout: nothing else may be printed there."""
    try:
        is_stdout = os.path.samestat(os.stat(name), os.fstat(1))  # noqa: PTH116  # as fstat
    except (OSError, ValueError):
        return name
    return STDOUT if is_stdout else name


def _check_target(name: str, output: Output) -> None:
    """Raise `invalid_arguments` for what no pack can be written to, before one is made."""
    if name != STDOUT:
        if not Target("pack", Path(name)).is_writable:
            raise CounselError(
                Code.INVALID_ARGUMENTS, f"-o: {clean(name)} cannot be written"
            )
        return
    if output.format == "json":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "--json and -o - exclude each other: standard output has the pack",
        )
    if sys.stdout.isatty():
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "-o -: a terminal cannot show a pack",
            repair="Name a file, or write to another program: `codex-counsel pack ... -o - | ssh HOST ...`.",
        )


def _write(pack: Packed, name: str) -> int:
    """Write the pack; returns its size in bytes. A file is replaced in one step, and a link is written through."""
    try:
        if name != STDOUT and _is_file(Path(name)):
            path = Path(os.path.realpath(name))
            pack.write(path)
            return path.stat().st_size
        size = 0
        descriptor = os.dup(1) if name == STDOUT else os.open(name, os.O_WRONLY)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in pack.chunks():
                size += stream.write(chunk)
    except BrokenPipeError:
        raise
    except OSError as error:
        failure = error_of(
            Code.STORAGE_FAILED, f"{_shown(name)} cannot be written", error
        )
        failure.repair = "Make room there, or name another file with -o."
        raise failure from None
    return size


def _is_file(path: Path) -> bool:
    """Whether it can be replaced in one step: a file, or nothing yet; a device or a pipe cannot."""
    return not path.exists() or stat.S_ISREG(path.stat().st_mode)


def _shown(name: str) -> str:
    if name == STDOUT:
        return "standard output"
    return clean(name)


def _content(pack: Packed) -> str:
    """What travels, in words."""
    made = pack.foundation
    work = []
    if made.has_staged:
        work.append("staged")
    if made.has_work:
        work.append("unstaged")
    words = f"commit {made.about.head[:12]}"
    if work:
        words += f" with {' and '.join(work)} changes"
    if pack.further_commits:
        words += f"; further commits: {pack.further_commits}"
    return words


def _warnings(pack: Packed) -> list[str]:
    """With the files that do not travel, for what is missing changes the answer."""
    warnings = list(pack.warnings)
    missing, in_conflict = [], []
    for name, reason in pack.foundation.about.omitted:
        if reason == "unmerged":
            in_conflict.append(name)
        else:
            missing.append(f"{name} ({reason})")
    if missing:
        warnings.append(f"not in the pack: {_named(missing)}")
    if in_conflict:
        warnings.append(
            f"in conflict, packed as they are on disk: {_named(in_conflict)}"
        )
    return warnings


def _named(rows: list[str]) -> str:
    shown = rows[:MAX_NAMED]
    more = len(rows) - MAX_NAMED
    if more > 0:
        shown.append(f"{more} more")
    return ", ".join(shown)


def _report(pack: Packed, name: str, size: int) -> JsonObject:
    about = pack.foundation.about
    return {
        "file": _shown(name),
        "bytes": size,
        "id": pack.pack.id,
        "tool": pack.pack.tool,
        "foundation": pack.pack.foundation,
        "head": about.head,
        "branch": about.branch,
        "staged": pack.foundation.has_staged,
        "working_tree": pack.foundation.has_work,
        "further_commits": pack.further_commits,
        "settings": pack.pack.settings,
        "omitted": [{"path": path, "reason": reason} for path, reason in about.omitted],
    }
