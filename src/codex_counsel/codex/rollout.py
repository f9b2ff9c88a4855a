"""Codex's own record of a thread, `sessions/…/rollout-…-<thread id>.jsonl`: what its JSONL does not tell."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from codex_counsel.codex.events import Tokens
from codex_counsel.codex.failures import SANDBOX_BROKEN


@dataclass(frozen=True)
class TurnRecord:
    """The last turn of a thread: what really ran, and what it cost apart from the turns before it."""

    model: str | None = None
    effort: str | None = None
    tokens: Tokens | None = None
    resets_at: float | None = None
    blind: bool = False
    """Every command failed at setting up the sandbox. Codex's JSONL often shows no item for such a command."""


def find(codex_home: Path, thread_id: str) -> Path | None:
    """The rollout file: in the folder of the day the thread began, else anywhere. None for what is no thread id."""
    if not re.fullmatch(r"[0-9a-fA-F-]{12,64}", thread_id):
        return None
    sessions, name = codex_home / "sessions", f"rollout-*-{thread_id}.jsonl"
    patterns = (f"{_day(thread_id)}/{name}", f"*/*/*/{name}")
    return next((file for pattern in patterns for file in sorted(sessions.glob(pattern))), None)


def _day(thread_id: str) -> str:
    """Thread ids are UUIDv7: the first 48 bits are the milliseconds of their birth."""
    try:
        born = datetime.fromtimestamp(int(thread_id.replace("-", "")[:12], 16) / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return "no/such/day"
    return born.strftime("%Y/%m/%d")


_FORGOTTEN = re.compile(rb'"(?:(?:context_)?compact(?:ed|ion(?:_summary)?)|thread_rolled_back)"')


def holds_everything(codex_home: Path, thread_id: str) -> bool:
    """Whether the thread is on record and nothing that it was sent has been summarised or taken back since."""
    file = find(codex_home, thread_id)
    try:
        return file is not None and not _FORGOTTEN.search(file.read_bytes())
    except OSError:
        return False


def quiet_seconds(file: Path | None) -> float:
    """Seconds since the file last grew; endless without one."""
    try:
        return time.time() - file.stat().st_mtime if file else float("inf")
    except OSError:
        return float("inf")


def last_turn(file: Path | None) -> TurnRecord:
    """Never raises: a record that cannot be read tells nothing."""
    try:
        return _summed(file.read_bytes().splitlines()) if file else TurnRecord()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return TurnRecord()


def _summed(lines: list[bytes]) -> TurnRecord:
    starts = [index for index, line in enumerate(lines) if b'"task_started"' in line[:400]]
    begin = starts[-1] if starts else 0
    context = _payload(next((line for line in reversed(lines[begin:]) if b'"turn_context"' in line[:200]), b"{}"))
    before, counts = _counts(lines[:begin]), _counts(lines[begin:])
    total = counts[-1] if counts else None
    tokens = _difference(total, before[-1] if before else {}) if total else None
    return TurnRecord(context.get("model"), context.get("effort"), tokens, _reset(lines[begin:]), _blind(lines[begin:]))


def _payload(line: bytes) -> dict[str, Any]:
    found = json.loads(line).get("payload")
    return found if isinstance(found, dict) else {}


def _counts(lines: list[bytes]) -> list[dict[str, Any]]:
    infos = (_payload(line).get("info") for line in lines if b'"token_count"' in line[:200])
    return [info["total_token_usage"] for info in infos if info]


def _difference(total: dict[str, Any], before: dict[str, Any]) -> Tokens:
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    return Tokens(*(max(int(total.get(name) or 0) - int(before.get(name) or 0), 0) for name in names))


def _reset(lines: list[bytes]) -> float | None:
    """When the exhausted window opens again, exactly, where a ChatGPT login was told."""
    line = next((line for line in reversed(lines) if b'"token_count"' in line[:200]), b"{}")
    limits = _payload(line).get("rate_limits") or {}
    windows = [limits.get(name) or {} for name in ("primary", "secondary")]
    resets = [w["resets_at"] for w in windows if w.get("resets_at") and float(w.get("used_percent") or 0) >= 100]
    return float(max(resets)) if resets else None


_HINT = re.compile(rb"bwrap: |sandbox|code-mode host|Code Mode is")
_SHELLS = ("exec_command", "exec")
_HEADER = re.compile(r"\A(?:Chunk ID|Wall time|Script )[\s\S]{0,300}?\nOutput:\s*")


def _blind(lines: list[bytes]) -> bool:
    if not any(_HINT.search(line) for line in lines if b"_call_output" in line[:200]):
        return False
    calls = [_payload(line) for line in lines if b"_call" in line[:200]]
    shells = {call.get("call_id") for call in calls if call.get("name") in _SHELLS}
    outputs = [
        _HEADER.sub("", _text(call["output"])) for call in calls if call.get("call_id") in shells and "output" in call
    ]
    return bool(outputs) and all(SANDBOX_BROKEN.match(output) for output in outputs)


def _text(output: Any) -> str:
    return "".join(str(part.get("text")) for part in output) if isinstance(output, list) else str(output)
