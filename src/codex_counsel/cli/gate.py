"""`gate install`, `gate remove`, `gate status`, and `gate run`, which is the hook: it never fails a turn."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from codex_counsel.claude import stop_gate
from codex_counsel.claude.stop_gate import Memory, Stop
from codex_counsel.cli.output import json_text
from codex_counsel.contract.settings import load
from codex_counsel.contract.vocabulary import Severity
from codex_counsel.errors import Code
from codex_counsel.system.files import write_atomically
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, one_line, visible


def run_gate(arguments: argparse.Namespace) -> int:
    """Run the action; the number is the exit code."""
    match arguments.action:
        case "install":
            return _install(arguments)
        case "remove":
            return _remove(arguments)
        case "status":
            return _status(arguments)
    return _run(arguments)


# --- the hook in the user's settings


def _install(arguments: argparse.Namespace) -> int:
    # uv runs `uvx codex-counsel` from a directory of its cache that it may delete.
    if "archive-v" in sys.prefix:
        return _fail(
            "this is a copy in uv's cache that may be gone tomorrow; install it first: uv tool install"
        )
    flags = ["--rounds", str(arguments.rounds)]
    if arguments.fail_on:
        flags = ["--fail-on", arguments.fail_on, *flags]
    line = stop_gate.hook_command(*flags)
    file = _settings_file(arguments)
    if not change_settings(file, lambda settings: stop_gate.with_hook(settings, line)):
        return 1
    off = "codex-counsel gate remove"
    if arguments.project:
        off += " --project"
    print(f"the gate is in {file}; `{off}` switches it off")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    file = _settings_file(arguments)
    if not change_settings(file, stop_gate.without_hook):
        return 1
    print(f"there is no gate in {file} now")
    own = stop_gate.settings_file(os.environ, Path.cwd())
    if not arguments.project and stop_gate.find_hook(read_settings(own)):
        print(
            f"there still is one in {own}: `codex-counsel gate remove --project` removes it"
        )
    return 0


def _settings_file(arguments: argparse.Namespace) -> Path:
    project = None
    if arguments.project:
        project = Path.cwd()
    return stop_gate.settings_file(os.environ, project)


def _status(_arguments: argparse.Namespace) -> int:
    """Where the gate is installed, and whether what it starts is there. 1 where it is not, or would do nothing."""
    hooks = []
    for project in (None, Path.cwd()):
        file = stop_gate.settings_file(os.environ, project)
        line = stop_gate.find_hook(read_settings(file))
        if line:
            hooks.append((file, line))
    if not hooks:
        print("the gate is not installed, neither for you nor for this directory")
        return 1

    code = 0
    for file, line in hooks:
        print(visible(f"the gate is in {file}: {line}"))
        program = stop_gate.program_of(line)
        if not program or not os.access(program, os.X_OK):
            code = _fail(
                f"{program} is gone, so the gate does nothing: install it again, or remove it"
            )
    return code


def read_settings(file: Path) -> JsonObject:
    """The settings of Claude Code in this file; empty where it is missing or damaged."""
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(settings, dict):
        return {}
    return settings


def change_settings(file: Path, change: Callable[[JsonObject], JsonObject]) -> bool:
    """Rewrite the settings at once; false, with a sentence on stderr, if they are left as they are."""
    try:
        before = {}
        if file.exists():
            before = json.loads(file.read_text("utf-8"))
        after = change(before)
        if after != before:
            _replace(file, json.dumps(after, ensure_ascii=False, indent=2) + "\n")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        _fail(f"{file} is left as it is: {error}")
        return False
    return True


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # The settings may be a link, as with dotfiles: replace its target.
    target = file.resolve()
    mode = None
    if target.exists():
        mode = target.stat().st_mode & 0o777
    # For us alone until it has its own mode: settings may hold keys, in `env`.
    write_atomically(target, text.encode())
    if mode is not None:
        target.chmod(mode)


def _fail(words: str) -> int:
    print(f"codex-counsel gate: {words}", file=sys.stderr)
    return 1


# --- the hook


def _run(arguments: argparse.Namespace) -> int:
    """Exit code 0 in every case: only a decision on standard output makes Claude go on."""
    try:
        stop = Stop.parse(sys.stdin.read(), os.environ)
        output = _review_turn(stop, arguments.fail_on, arguments.rounds)
    except Exception as error:  # noqa: BLE001  # the turn of the user goes on, whatever is wrong here
        output = _not_reviewed(one_line(clean(str(error)), 1000))
    if output:
        print(json_text(output, indent=None))
    return 0


def _review_turn(
    stop: Stop, fail_on: Severity | None, rounds: int
) -> JsonObject | None:
    """The hook's answer to Claude Code; None lets the turn end without a message."""
    paths = stop_gate.edited_files(stop)
    if not paths:
        return None

    file = load(os.environ).state / "gate" / f"{stop.session}.json"
    memory = Memory()
    if stop.again:
        memory = Memory.load(file)
        if memory.rounds >= rounds:
            return None

    # Most turns edit nothing and do without what a run needs.
    from codex_counsel.cli.turn_review import blocking_findings, review_files

    review = review_files(stop, paths, memory.thread)
    if review.error:
        if review.error.code == Code.NOTHING_TO_REVIEW:
            return None
        return _not_reviewed(review.error.message)

    blocking = blocking_findings(review, fail_on)
    if not blocking:
        return {
            "systemMessage": f"Codex reviewed {len(paths)} files: {review.verdict}. {review.summary}"
        }
    Memory(memory.rounds + 1, review.meta.session_id).save(file)
    return {"decision": "block", "reason": stop_gate.block_reason(blocking)}


def _not_reviewed(why: str) -> JsonObject:
    return {
        "systemMessage": f"codex-counsel gate: nothing was reviewed: {why} ({stop_gate.OFF})"
    }
