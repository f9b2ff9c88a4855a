"""`uninstall`: removes what codex-counsel keeps outside its own installation, after a question."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path

from codex_counsel.claude import stop_gate
from codex_counsel.cli.gate import change_settings, read_settings
from codex_counsel.contract.settings import Settings, load
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
    found = _belongings(settings, keep_results=arguments.keep_results)
    hooks = _files_with_hook()
    if not found and not hooks:
        print(f"There is nothing to remove.\n{BY_HAND}")
        return 0

    _show(found, hooks, settings.state)
    obstacle = _obstacle(found, settings, end_runs=arguments.end_runs)
    if obstacle:
        return _refuse(obstacle)
    if not arguments.yes:
        if not _agrees():
            return _refuse("nothing was removed")
        # The answer may have taken its time.
        obstacle = _obstacle(found, settings, end_runs=arguments.end_runs)
        if obstacle:
            return _refuse(obstacle)

    uninstall.end_runs(results.open_store(settings))
    # A run that ends may leave something that was not there before.
    found = _belongings(settings, keep_results=arguments.keep_results)
    return _remove(found, hooks, settings.state)


def _belongings(settings: Settings, *, keep_results: bool) -> list[Belonging]:
    found = uninstall.belongings(settings, os.environ)
    if keep_results:
        return [belonging for belonging in found if not belonging.is_result]
    return found


def _show(found: list[Belonging], hooks: list[Path], state: Path) -> None:
    for belonging in found:
        megabytes = belonging.size() / 1_000_000
        print(
            f"{megabytes:9.1f} MB  {visible(str(belonging.path))}  ({belonging.what})"
        )
    for file in hooks:
        print(
            f"     a hook  {visible(str(file))}  (the review at the end of each turn)"
        )
    for path in uninstall.not_made_here(state):
        print(
            f"      stays  {visible(str(path))}  (a link, or others may read it: not made here)"
        )


def _obstacle(found: list[Belonging], settings: Settings, *, end_runs: bool) -> str:
    """Why nothing may be removed now; empty where it may."""
    running = uninstall.unfinished(results.open_store(settings))
    if running and not end_runs:
        return f"runs that have not ended: {len(running)}; `codex-counsel jobs` lists them, --end-runs ends them first"
    half_applied = uninstall.half_applied(settings.state)
    removes_results = any(belonging.is_result for belonging in found)
    if half_applied and removes_results and not end_runs:
        return (
            f"a diff is half in its tree: `codex-counsel apply {visible(half_applied[0])}` finishes it,"
            " with --undo it is taken back; --end-runs leaves it as it is"
        )
    in_use = uninstall.environments_in_use(found)
    if in_use:
        return (
            f"a session of Claude Code uses {visible(str(in_use[0]))}: close it first"
        )
    return ""


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
        if not belonging.remove():
            path = visible(str(belonging.path))
            code = _refuse(f"{path} could not be removed completely", 1)
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
