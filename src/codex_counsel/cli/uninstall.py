"""`uninstall`: removes what codex-counsel keeps outside its own installation, after a question."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from codex_counsel.claude import stop_gate
from codex_counsel.cli.gate import change_settings, read_settings
from codex_counsel.contract.settings import load
from codex_counsel.errors import USAGE
from codex_counsel.services import results, uninstall
from codex_counsel.services.uninstall import Belonging
from codex_counsel.system.text import visible

BY_HAND = """\
Not removed, because other programs own it:
  claude plugin uninstall codex@codex-counsel && claude plugin marketplace remove codex-counsel
  uv tool uninstall codex-counsel                       (if the command line was installed with uv tool)
  uv cache clean codex-counsel codex-counsel-start
  rules for mcp__plugin_codex_counsel in Claude Code's settings
  the threads of the runs in Codex's own directory, $CODEX_HOME/sessions"""


def run_uninstall(arguments: argparse.Namespace) -> int:
    """Show everything, ask, and remove it; the number is the exit code."""
    settings = load(os.environ)
    store = results.open_store(settings)
    found = uninstall.belongings(settings, os.environ)
    if arguments.keep_results:
        found = [belonging for belonging in found if not belonging.is_result]
    hooks = _files_with_hook()
    if not found and not hooks:
        print(f"There is nothing to remove.\n{BY_HAND}")
        return 0

    for belonging in found:
        megabytes = belonging.size() / 1_000_000
        print(
            f"{megabytes:9.1f} MB  {visible(str(belonging.path))}  ({belonging.what})"
        )
    for file in hooks:
        print(
            f"     a hook  {visible(str(file))}  (the review at the end of each turn)"
        )

    running = uninstall.unfinished(store)
    if running and not arguments.end_runs:
        return _refuse(
            f"runs that have not ended: {len(running)}; `codex-counsel jobs` lists them, --end-runs ends them first"
        )
    in_use = uninstall.environments_in_use(found)
    if in_use:
        return _refuse(
            f"a session of Claude Code uses {visible(str(in_use[0]))}: close it first"
        )
    if not arguments.yes and not _agrees():
        return _refuse("nothing was removed")

    for job_id in running:
        uninstall.end_run(store, job_id)
    return _remove(found, hooks, settings.state)


def _files_with_hook() -> list[Path]:
    """The settings of Claude Code with our hook: the user's own, and those for the current directory."""
    files = [
        stop_gate.settings_file(os.environ, None),
        stop_gate.settings_file(os.environ, Path.cwd()),
    ]
    return [file for file in files if stop_gate.find_hook(read_settings(file))]


def _agrees() -> bool:
    if not sys.stdin.isatty():
        print("This is no terminal: add --yes to remove it.", file=sys.stderr)
        return False
    try:
        answer = input("Remove all of this? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _remove(found: list[Belonging], hooks: list[Path], state: Path) -> int:
    code = 0
    for file in hooks:
        if not change_settings(file, stop_gate.without_hook):
            code = 1
    for belonging in found:
        try:
            belonging.remove()
        except OSError as error:
            path = visible(str(error.filename or belonging.path))
            code = _refuse(f"{path} is left: {error.strerror}", 1)
    # A directory that the user chose may hold other things.
    with contextlib.suppress(OSError):
        state.rmdir()
    if not code:
        print("All of it was removed.")
    print(BY_HAND)
    return code


def _refuse(words: str, code: int = USAGE) -> int:
    print(f"codex-counsel uninstall: {words}", file=sys.stderr)
    return code
