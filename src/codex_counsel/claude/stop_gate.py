"""The opt-in stop gate: what a turn of Claude Code edited, its place in the user's settings, and what may block.

Standard library only: at the end of most turns there is nothing to do, and the user waits for that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MARK = "-m codex_counsel gate run"
EDITORS = {"Edit": "file_path", "Write": "file_path", "MultiEdit": "file_path", "NotebookEdit": "notebook_path"}
OFF = "`codex-counsel gate remove` switches this gate off"
MAX_REASON = 8_000
"""Claude Code cuts longer texts of hooks."""
HOOK_SECONDS = 1_800


@dataclass(frozen=True)
class Stop:
    """The end of a turn, as the hook is told. `again`: the turn went on because a stop hook had blocked."""

    session: str
    transcript: Path
    root: Path
    again: bool

    @classmethod
    def parse(cls, raw: str, env: Mapping[str, str]) -> Stop:
        """Raises ValueError for what is no event."""
        given = json.loads(raw)
        if not isinstance(given, dict) or not re.fullmatch(r"[\w-]{1,80}", str(given.get("session_id"))):
            raise ValueError("the hook was told of no session")
        root = Path(env.get("CLAUDE_PROJECT_DIR") or str(given.get("cwd") or Path.cwd()))
        return cls(
            given["session_id"], Path(str(given.get("transcript_path"))), root, given.get("stop_hook_active") is True
        )


@dataclass(frozen=True)
class Memory:
    """What is kept between the stops of one turn: how often it was blocked, and the reviewer's thread."""

    rounds: int = 0
    thread: str | None = None

    @classmethod
    def load(cls, file: Path) -> Memory:
        try:
            raw = json.loads(file.read_text("utf-8"))
            return cls(int(raw["rounds"]), raw["thread"] if isinstance(raw["thread"], str) else None)
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    def keep(self, file: Path) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)), "utf-8")


def edited(stop: Stop) -> tuple[str, ...]:
    """Files below the root that the turn edited with Claude Code's own tools, in order, relative to the root."""
    found: dict[str, None] = {}
    for row in _rows(stop.transcript):
        if _prompt(row):
            found.clear()
        for path in _edits(row):
            whole = os.path.normpath(stop.root / path)
            if whole.startswith(f"{os.path.normpath(stop.root)}{os.sep}"):
                found[os.path.relpath(whole, stop.root)] = None
    return tuple(found)


def _rows(transcript: Path) -> Iterator[dict[str, Any]]:
    with transcript.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("message"), dict):
                yield row


def _prompt(row: dict[str, Any]) -> bool:
    """Whether the user spoke: neither a tool's result, nor what a client or a hook says in the user's name."""
    if row.get("type") != "user" or row.get("isMeta") or row.get("isSidechain"):
        return False
    content = row["message"].get("content")
    blocks = content if isinstance(content, list) else []
    return not any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks)


def _edits(row: dict[str, Any]) -> Iterator[str]:
    content = row["message"].get("content") if row.get("type") == "assistant" else None
    for block in content if isinstance(content, list) else []:
        key = (
            EDITORS.get(str(block.get("name"))) if isinstance(block, dict) and block.get("type") == "tool_use" else None
        )
        path = (block.get("input") or {}).get(key) if key else None
        if isinstance(path, str):
            yield path


def reason(findings: list[dict[str, Any]]) -> str:
    """What Claude is told when it may not stop yet."""
    lines = [
        "Codex reviewed what this turn changed. A finding is a claim: look at the file, then fix it, or say why not.",
        *(f"- {_told(finding)}" for finding in findings),
    ]
    return "\n".join(lines)[:MAX_REASON] + f"\n({OFF}.)"


def _told(finding: Mapping[str, Any]) -> str:
    place = f"{finding.get('file', '')}:{finding['line']}" if finding.get("line") else str(finding.get("file", ""))
    words = [finding["title"], finding.get("risk"), finding.get("recommendation")]
    return f"{finding['severity']} {place}: {' '.join(str(word) for word in words if word)}"


# --- the hook in the user's settings


def settings_file(env: Mapping[str, str], project: Path | None) -> Path:
    """The user's own settings, or those that the user keeps for one project and does not share."""
    if project:
        return project / ".claude/settings.local.json"
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "settings.json"


def command(*flags: str) -> str:
    """By this very interpreter: a hook gets no login shell's PATH."""
    return f"{shlex.quote(sys.executable)} -I {MARK} {shlex.join(flags)}".strip()


def with_hook(settings: dict[str, Any], line: str) -> dict[str, Any]:
    """The settings with the gate, replacing an earlier one."""
    kept = without_hook(settings)
    hooks = dict(kept.get("hooks") or {})
    entry = {"hooks": [{"type": "command", "command": line, "timeout": HOOK_SECONDS}]}
    return kept | {"hooks": hooks | {"Stop": [*hooks.get("Stop", []), entry]}}


def without_hook(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the gate, and without what is empty then."""
    hooks = dict(settings.get("hooks") or {})
    groups = [group for group in map(_without, hooks.get("Stop") or []) if group]
    hooks = {name: value for name, value in hooks.items() if name != "Stop"} | ({"Stop": groups} if groups else {})
    others = {name: value for name, value in settings.items() if name != "hooks"}
    return others | ({"hooks": hooks} if hooks else {})


def _without(group: Any) -> Any:
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return group
    kept = [hook for hook in group["hooks"] if not (isinstance(hook, dict) and MARK in str(hook.get("command")))]
    return {**group, "hooks": kept} if kept else None
