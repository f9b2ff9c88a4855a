"""The opt-in stop gate, a Stop hook of Claude Code: which files a turn edited, and the hook in the user's settings.

Standard library only: the hook runs at the end of each turn, most of which have nothing
to review, and the user waits.
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
from typing import TYPE_CHECKING

from codex_counsel.claude.transcript import begins_turn, blocks, parse_message
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.system.json_values import Json, JsonObject

HOOK_SIGNATURE = "-m codex_counsel gate run"
"""By this part of its command the gate is recognised among other hooks."""
HARMLESS = "2>/dev/null || true"
EDITORS = {
    "Edit": "file_path",
    "Write": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
"""Claude Code's tools that edit files, with the argument that names the file."""
OFF = "`codex-counsel gate remove` switches this gate off"
REJECT = (
    "Only if the user says that a finding is wrong: `codex-counsel findings reject ID --reason TEXT` "
    "takes it out of later reviews"
)
MAX_REASON = 8_000
"""Characters. Claude Code cuts longer texts of hooks."""
HOOK_SECONDS = 1_800
"""Claude Code ends the hook after so many seconds."""


@dataclass(frozen=True)
class Stop:
    """The end of a turn, as Claude Code reports it to the hook. `again`: a Stop hook has blocked it before.

    `transcript` is the session's file, `root` the project.
    """

    session: str
    transcript: Path
    root: Path
    again: bool

    @classmethod
    def parse(cls, raw: str, env: Mapping[str, str]) -> Stop:
        """From the JSON on the hook's stdin. Raises ValueError for anything else."""
        event = json.loads(raw)
        if not isinstance(event, dict):
            raise ValueError("the event on standard input names no session")  # noqa: TRY004  # what a caller of `parse` expects
        # The id becomes part of a file name.
        if not re.fullmatch(r"[\w-]{1,80}", str(event.get("session_id"))):
            raise ValueError("the event on standard input names no session")
        root = env.get("CLAUDE_PROJECT_DIR") or event.get("cwd") or Path.cwd()
        return cls(
            session=str(event["session_id"]),
            transcript=Path(str(event.get("transcript_path"))),
            root=Path(str(root)),
            again=event.get("stop_hook_active") is True,
        )


@dataclass(frozen=True)
class Memory:
    """What is kept between the stops of one turn: how often its end was blocked, and the thread of the review."""

    rounds: int = 0
    thread: str | None = None

    @classmethod
    def load(cls, file: Path) -> Memory:
        """An empty memory where the file is missing or damaged."""
        try:
            raw = json.loads(file.read_text("utf-8"))
            rounds = int(raw["rounds"])
            thread = raw["thread"]
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
        if not isinstance(thread, str):
            thread = None
        return cls(rounds, thread)

    def save(self, file: Path) -> None:
        """Write the file. Raises OSError."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)), "utf-8")


# --- what the turn edited


def edited_files(stop: Stop) -> tuple[str, ...]:
    """Files below the root that the turn edited with Claude Code's tools: relative to the root, in order of first edit.

    Raises OSError when the transcript cannot be read.
    """
    root = os.path.normpath(stop.root)
    paths: dict[str, None] = {}
    for row in _messages(stop.transcript):
        if begins_turn(row):
            paths.clear()
        for path in _edited_paths(row):
            # Paths are relative to the root; `..` is resolved by text alone.
            absolute = os.path.normpath(stop.root / path)
            if not absolute.startswith(f"{root}{os.sep}"):
                continue
            relative = os.path.relpath(absolute, stop.root)
            paths[relative] = None
    return tuple(paths)


def _messages(transcript: Path) -> Iterator[JsonObject]:
    with transcript.open("rb") as file:
        for line in file:
            row = parse_message(line)
            if row:
                yield row


def _edited_paths(row: JsonObject) -> Iterator[str]:
    if row.get("type") != "assistant":
        return
    for block in blocks(row):
        argument = EDITORS.get(str(block.get("name")))
        if block.get("type") != "tool_use" or argument is None:
            continue
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            continue
        path = arguments.get(argument)
        if isinstance(path, str):
            yield path


# --- what is reported to Claude


def block_reason(findings: list[JsonObject]) -> str:
    """Why Claude may not stop yet: the findings of an envelope as text, and how to reject one and to end the gate."""
    lines = [
        "Codex reviewed what this turn changed. A finding is a claim: look at the file, then fix it, or say why not.",
    ]
    for finding in findings:
        place = str(finding.get("file", ""))
        if finding.get("line"):
            place += f":{finding['line']}"
        words = (finding.get("id"), finding["severity"], place)
        head = " ".join(str(word) for word in words if word)
        texts = [
            finding["title"],
            finding.get("risk"),
            finding.get("recommendation"),
        ]
        description = " ".join(str(text) for text in texts if text)
        # On one line: no text of the reviewer can pass for another finding, or for ours.
        lines.append(one_line(visible(f"- {head}: {description}"), MAX_REASON))
    text = "\n".join(lines)[:MAX_REASON]
    return f"{text}\n({REJECT}. {OFF}.)"


# --- the hook in the user's settings


def settings_file(env: Mapping[str, str], project: Path | None) -> Path:
    """The user's settings, or with `project` those that the user keeps for one project and does not share."""
    if project:
        return project / ".claude/settings.local.json"
    config = env.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude"
    return Path(config, "settings.json")


def hook_command(*flags: str) -> str:
    """The hook's command line. It names this interpreter, because a hook does not get the PATH of a login shell.

    It succeeds without a word where the program is gone or cannot start: an exit code of
    2 would keep Claude from ending its turn.
    """
    interpreter = shlex.quote(sys.executable)
    arguments = shlex.join(flags)
    return f"{interpreter} -I {HOOK_SIGNATURE} {arguments} {HARMLESS}"


def find_hook(settings: JsonObject) -> str:
    """The command line of the gate in these settings; empty where it is not installed."""
    hooks = settings.get("hooks")
    groups = hooks.get("Stop") if isinstance(hooks, dict) else None
    if not isinstance(groups, list):
        return ""
    for group in groups:
        for hook in _hooks_of(group):
            if _is_gate(hook):
                return str(hook["command"])
    return ""


def program_of(line: str) -> str:
    """The program that the gate's command line starts; empty where the line cannot be read."""
    try:
        return shlex.split(line)[0]
    except (ValueError, IndexError):
        return ""


def _hooks_of(group: Json) -> list[Json]:
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return []
    hooks: list[Json] = group["hooks"]
    return hooks


def with_hook(settings: JsonObject, line: str) -> JsonObject:
    """The settings with the gate, in place of an earlier one. `line` is its command line."""
    others = without_hook(settings)
    hooks = dict(others.get("hooks") or {})
    gate = {
        "type": "command",
        "command": line,
        "timeout": HOOK_SECONDS,
    }
    groups = hooks.get("Stop", [])
    hooks["Stop"] = [*groups, {"hooks": [gate]}]
    return others | {"hooks": hooks}


def without_hook(settings: JsonObject) -> JsonObject:
    """The settings without the gate, and without the lists and objects that this leaves empty.

    Raises TypeError or ValueError for hooks of another shape.
    """
    hooks = dict(settings.get("hooks") or {})
    present = hooks.pop("Stop", None) or []
    if not isinstance(present, list):
        raise TypeError("hooks.Stop is no list")
    groups = []
    for group in present:
        remaining = _without_gate(group)
        if remaining:
            groups.append(remaining)
    if groups:
        hooks["Stop"] = groups
    result = {name: value for name, value in settings.items() if name != "hooks"}
    if hooks:
        result["hooks"] = hooks
    return result


def _without_gate(group: Json) -> Json:
    """A group of hooks without the gate; None if it has no other. What is no group stays as it is."""
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return group
    hooks = [hook for hook in group["hooks"] if not _is_gate(hook)]
    if not hooks:
        return None
    return {**group, "hooks": hooks}


def _is_gate(hook: Json) -> bool:
    return isinstance(hook, dict) and HOOK_SIGNATURE in str(hook.get("command"))
