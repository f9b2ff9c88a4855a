"""Codex's own record of a thread, `$CODEX_HOME/sessions/…/rollout-…-<thread id>.jsonl`: what its JSONL does not tell."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from codex_counsel.events import Tokens


@dataclass(frozen=True)
class TurnRecord:
    """The last turn of a thread: what really ran, and what it cost apart from the turns before it."""

    model: str | None = None
    effort: str | None = None
    tokens: Tokens | None = None
    resets_at: float | None = None


def find(codex_home: Path, thread_id: str) -> Path | None:
    """The rollout file: in the folder of the day the thread began, else anywhere."""
    pattern = f"rollout-*-{thread_id}.jsonl"
    folders = [_day(codex_home, thread_id), *[codex_home / "sessions"]]
    near = next(iter(sorted(folders[0].glob(pattern))), None)
    return near or next(iter(sorted(folders[1].glob(f"*/*/*/{pattern}"))), None)


def _day(codex_home: Path, thread_id: str) -> Path:
    """Thread ids are UUIDv7: the first 48 bits are the milliseconds of their birth."""
    born = datetime.fromtimestamp(int(thread_id.replace("-", "")[:12], 16) / 1000).astimezone()
    return codex_home / "sessions" / born.strftime("%Y/%m/%d")


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return TurnRecord()


def _summed(lines: list[bytes]) -> TurnRecord:
    starts = [index for index, line in enumerate(lines) if b'"task_started"' in line[:400]]
    begin = starts[-1] if starts else 0
    context = _payload(next((line for line in reversed(lines[begin:]) if b'"turn_context"' in line[:200]), b"{}"))
    before, counts = _counts(lines[:begin]), _counts(lines[begin:])
    total = counts[-1] if counts else None
    tokens = _difference(total, before[-1] if before else {}) if total else None
    return TurnRecord(context.get("model"), context.get("effort"), tokens, _reset(lines[begin:]))


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
