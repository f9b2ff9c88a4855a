"""`gate install`, `gate remove`, and `gate run`, which is the hook: it reviews or is silent, and never fails a turn."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from codex_counsel.claude import stop_gate as gate
from codex_counsel.claude.stop_gate import Memory, Stop


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="add the hook to your settings of Claude Code")
    remove = actions.add_parser("remove", help="take it out again")
    run = actions.add_parser("run", help="the hook itself: reads the event from standard input")
    for one in (install, remove):
        one.add_argument("--project", action="store_true", help="for the current directory alone, not shared")
    for one in (install, run):
        one.add_argument(
            "--fail-on", choices=("critical", "high", "medium", "low"), default="high", help="blocks from here on"
        )
        one.add_argument("--rounds", type=int, choices=(1, 2, 3), default=1, help="how often one turn may be blocked")


def gate_verb(given: argparse.Namespace) -> int:
    return {"install": _install, "remove": _remove, "run": _run}[given.action](given)


def _install(given: argparse.Namespace) -> int:
    if "archive-v" in sys.prefix:
        return _say("this is a copy in uv's cache that may be gone tomorrow; install it first: uv tool install")
    line = gate.command("--fail-on", given.fail_on, "--rounds", str(given.rounds))
    return _change(given, lambda settings: gate.with_hook(settings, line), f"the gate is in {{}}; {gate.OFF}")


def _remove(given: argparse.Namespace) -> int:
    return _change(given, gate.without_hook, "the gate is not in {} (any more)")


def _change(given: argparse.Namespace, change: Any, words: str) -> int:
    file = gate.settings_file(os.environ, Path.cwd() if given.project else None)
    try:
        before = json.loads(file.read_text("utf-8")) if file.exists() else {}
        after = change(before)
        if after != before:
            file.parent.mkdir(parents=True, exist_ok=True)
            target = file.resolve()  # settings may be a link into a repository of dotfiles
            draft = target.with_name(f".{target.name}-{os.getpid()}")
            draft.write_text(json.dumps(after, ensure_ascii=False, indent=2) + "\n", "utf-8")
            draft.replace(target)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return _say(f"{file} is left as it is: {error}")
    print(words.format(file))
    return 0


def _say(words: str) -> int:
    print(f"codex-counsel gate: {words}", file=sys.stderr)
    return 1


def _run(given: argparse.Namespace) -> int:
    """Exit code 0 whatever happens: only the decision on standard output holds Claude back."""
    try:
        said = _decided(Stop.parse(sys.stdin.read(), os.environ), given)
    except Exception as error:  # noqa: BLE001  # the turn of the user goes on, whatever is wrong here
        said = {"systemMessage": f"codex-counsel gate: nothing was reviewed: {error} ({gate.OFF})"}
    if said:
        print(json.dumps(said))
    return 0


def _decided(stop: Stop, given: argparse.Namespace) -> dict[str, Any] | None:
    paths = gate.edited(stop)
    if not paths:
        return None
    from codex_counsel.contract.settings import load

    file = load(os.environ).state / "gate" / f"{stop.session}.json"
    memory = Memory.load(file) if stop.again else Memory()
    if stop.again and memory.rounds >= given.rounds:
        return None
    wire = _reviewed(stop, paths, memory.thread)
    if not wire["ok"]:
        error = wire["error"]
        if error["code"] == "nothing_to_review":
            return None
        return {"systemMessage": f"codex-counsel gate: nothing was reviewed: {error['message']} ({gate.OFF})"}
    grave = _grave(wire, given.fail_on)
    if not grave:
        return {"systemMessage": f"Codex reviewed {len(paths)} files: {wire['verdict']}. {wire['summary']}"}
    Memory(memory.rounds + 1, wire["meta"].get("session_id")).keep(file)
    return {"decision": "block", "reason": gate.reason(grave)}


def _reviewed(stop: Stop, paths: tuple[str, ...], thread: str | None) -> dict[str, Any]:
    from codex_counsel.cli.verbs import follow
    from codex_counsel.contract.envelope import failed
    from codex_counsel.contract.request import ReviewChanges, parse
    from codex_counsel.errors import CounselError
    from codex_counsel.services.counsel import Counsel

    counsel = Counsel(cwd=stop.root)
    asked = {"workspace_root": str(stop.root), "paths": paths, "session_id": thread}
    try:
        request = parse(ReviewChanges, {**asked, "timeout_seconds": gate.HOOK_SECONDS - 60})
        handle = counsel.review_changes(request)
        return counsel.deliver(handle, follow(handle))
    except CounselError as error:
        return failed(ReviewChanges.tool, error).wire()


def _grave(wire: dict[str, Any], fail_on: str) -> list[dict[str, Any]]:
    """What may block: grave enough, and about code that really stands there."""
    from codex_counsel.contract.vocabulary import SEVERITIES

    grave = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    found = [finding for finding in wire.get("findings", ()) if finding["severity"] in grave]
    return [finding for finding in found if finding.get("grounded") != "unverified"]
