"""Codex's own record of a thread, `sessions/YYYY/MM/DD/rollout-<time>-<thread id>.jsonl`. Seen on 0.148 to 0.169.

It holds what the JSONL of `codex exec` does not: the model that ran, the token counts
of each turn, the exact reset of a quota, and commands that failed before they began.
Each line is an object with `type` and `payload`.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from codex_counsel.codex.events import Tokens
from codex_counsel.codex.failures import SANDBOX_BROKEN
from codex_counsel.system.files import open_regular
from codex_counsel.system.json_values import Json, JsonObject

SHELL_TOOLS = ("exec_command", "exec")
"""The tools that run commands: of models with tools of their own, and of models in code mode."""

DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a line raises that is not as Codex writes it."""
RECENT_BYTES = 262_144
"""Of the end of a record: the last reply of the model, and what follows it, is shorter as a rule."""

NO_TOKENS = Tokens(0, 0, 0, 0)

_FORGOTTEN = re.compile(
    rb'"(?:(?:context_)?compact(?:ed|ion(?:_summary)?)|thread_rolled_back)"'
)
_SANDBOX_HINT = re.compile(rb"bwrap: |sandbox|code-mode host|Code Mode is")
_OUTPUT_HEADER = re.compile(
    r"\A(?:Chunk ID|Wall time|Script )[\s\S]{0,300}?\nOutput:\s*"
)


@dataclass
class Tally:
    """Adds up tokens by the totals of the thread, and by those of each response.

    A total is written later than the tokens of its response, by a Codex that was not
    killed meanwhile. 0.148 writes totals only. `total` is the last one, at first that
    from which it counts.
    """

    total: Tokens = NO_TOKENS
    of_totals: Tokens = NO_TOKENS
    of_responses: Tokens = NO_TOKENS

    def add_total(self, total: Tokens) -> None:
        """Count what came since the last total."""
        self.of_totals = self.of_totals.plus(total.since(self.total))
        self.total = total

    def add_response(self, tokens: Tokens) -> None:
        """Count the tokens of one response."""
        self.of_responses = self.of_responses.plus(tokens)

    @property
    def tokens(self) -> Tokens:
        """Those of the count that has more: of one response both tell."""
        return max(self.of_totals, self.of_responses, key=lambda tokens: tokens.size)


@dataclass(frozen=True)
class TurnRecord:
    """The last turn of a thread, or some of the last ones. A field is None when the record does not tell.

    `model` and `effort` are those that really ran. `tokens` are those of these turns
    alone. `resets_at` (epoch seconds) is when an exhausted quota opens again.
    `sandbox_broken` means that every command failed at setting up the sandbox; the
    JSONL of `codex exec` often has no item for such a command.
    """

    model: str | None = None
    effort: str | None = None
    tokens: Tokens | None = None
    resets_at: float | None = None
    sandbox_broken: bool = False


def find(codex_home: Path, thread_id: str) -> Path | None:
    """The record of a thread, or None. Looks in the folder of the day the thread began, then in all others."""
    # The id becomes part of a glob pattern.
    if not re.fullmatch(r"[0-9a-fA-F-]{12,64}", thread_id):
        return None
    sessions = codex_home / "sessions"
    name = f"rollout-*-{thread_id}.jsonl"
    for folder in (_day_folder(thread_id), "*/*/*"):
        files = sorted(sessions.glob(f"{folder}/{name}"))
        if files:
            return files[0]
    return None


def _day_folder(thread_id: str) -> str:
    """YYYY/MM/DD, local time. Thread ids are UUIDv7: their first 48 bits are milliseconds since the epoch."""
    try:
        milliseconds = int(thread_id.replace("-", "")[:12], 16)
        created = datetime.fromtimestamp(milliseconds / 1000).astimezone()
    except (ValueError, OverflowError, OSError):
        return "no/such/day"
    return created.strftime("%Y/%m/%d")


def holds_everything(codex_home: Path, thread_id: str) -> bool:
    """Whether the thread is on record, and nothing that it was sent has been summarised or rolled back since."""
    file = find(codex_home, thread_id)
    if file is None:
        return False
    try:
        with open_regular(file) as record:
            return not _FORGOTTEN.search(record.read())
    except OSError:
        return False


def seconds_since_growth(file: Path | None) -> float:
    """Seconds since the record last grew; infinity when there is none."""
    if file is None:
        return float("inf")
    try:
        return time.time() - file.stat().st_mtime
    except OSError:
        return float("inf")


def last_turns(file: Path | None, count: int = 1) -> TurnRecord:
    """Read so many of the last turns together.

    Never raises: from a record that is missing or cannot be read every field is None.
    """
    if file is None:
        return TurnRecord()
    try:
        with open_regular(file) as lines:
            return _parse_last_turns(lines, count)
    except (OSError, *DAMAGED):
        return TurnRecord()


# A record can have hundreds of megabytes, so lines are told apart by their first bytes,
# and only the few that matter are kept and parsed.
_KEPT = (b'"turn_context"', b'"token_count"', b'"token_usage_record"', b"_call")


def _parse_last_turns(lines: Iterable[bytes], count: int) -> TurnRecord:
    counts_before: list[bytes] = []
    turns: deque[list[bytes]] = deque([[]])
    for line in lines:
        if _begins_turn(line):
            turns.append([])
            if len(turns) > count:
                oldest = turns.popleft()
                counts_before += [
                    kept for kept in oldest if b'"token_count"' in kept[:200]
                ]
        elif any(marker in line[:200] for marker in _KEPT):
            turns[-1].append(line)

    turn = [line for lines_of_turn in turns for line in lines_of_turn]
    contexts = _payloads_of(turn, "turn_context") or [{}]
    context = contexts[-1]
    counts = _payloads_of(turn, "token_count")
    return TurnRecord(
        model=context.get("model"),
        effort=context.get("effort"),
        tokens=_tokens_of_turn(
            counts,
            _payloads_of(counts_before, "token_count"),
            _payloads_of(turn, "token_usage_record"),
        ),
        resets_at=_reset(counts),
        sandbox_broken=_sandbox_broken(turn),
    )


def _begins_turn(line: bytes) -> bool:
    if b'"task_started"' not in line[:400]:
        return False
    try:
        return bool(_payloads_of([line], "task_started"))
    except (ValueError, RecursionError):
        # Two lines became one where Codex was killed while it wrote the first.
        return True


def _payloads_of(lines: list[bytes], kind: str) -> list[JsonObject]:
    """The payloads of the lines of this type. A tool that the model calls may have the same name."""
    payloads: list[JsonObject] = []
    for line in lines:
        if f'"{kind}"'.encode() not in line[:400]:
            continue
        row = json.loads(line)
        payload = row.get("payload")
        if isinstance(payload, dict) and kind in (row.get("type"), payload.get("type")):
            payloads.append(payload)
    return payloads


def _payloads(lines: list[bytes], marker: bytes) -> list[JsonObject]:
    """The payloads of the lines that have the marker among their first 200 bytes; {} for one that is no object."""
    payloads: list[JsonObject] = []
    for line in lines:
        if marker not in line[:200]:
            continue
        payload = json.loads(line).get("payload")
        if not isinstance(payload, dict):
            payload = {}
        payloads.append(payload)
    return payloads


def _tokens_of_turn(
    counts: list[JsonObject],
    earlier_counts: list[JsonObject],
    responses: list[JsonObject],
) -> Tokens | None:
    """None where nothing was counted."""
    totals = _totals(counts)
    if not totals and not responses:
        return None
    before = (_totals(earlier_counts) or [NO_TOKENS])[-1]
    tally = Tally(before)
    for total in totals:
        tally.add_total(total)
    for response in responses:
        tally.add_response(Tokens.parse(response.get("usage") or {}))
    return tally.tokens


def _totals(counts: list[JsonObject]) -> list[Tokens]:
    infos = [count.get("info") for count in counts]
    return [Tokens.parse(info["total_token_usage"]) for info in infos if info]


def _reset(counts: list[JsonObject]) -> float | None:
    """When the exhausted windows of a ChatGPT account open again (epoch seconds); other logins have none."""
    if not counts:
        return None
    limits = counts[-1].get("rate_limits") or {}
    resets: list[float] = []
    for name in ("primary", "secondary"):
        window = limits.get(name) or {}
        resets_at = window.get("resets_at")
        used_percent = window.get("used_percent") or 0
        if resets_at and float(used_percent) >= 100:
            resets.append(float(resets_at))
    return max(resets, default=None)


def rate_limits(file: Path | None) -> tuple[float, JsonObject] | None:
    """When Codex last noted the account's usage windows (epoch seconds), and its note; None where it did not.

    Looks at the end of the record only: a note follows every reply of the model.
    """
    if file is None:
        return None
    try:
        with open_regular(file) as record:
            record.seek(max(file.stat().st_size - RECENT_BYTES, 0))
            lines = record.read(RECENT_BYTES).split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        if b'"token_count"' not in line[:200]:
            continue
        with contextlib.suppress(ValueError, OverflowError, RecursionError):
            noted = _rate_limits(json.loads(line))
            if noted:
                return noted
    return None


def _rate_limits(line: Json) -> tuple[float, JsonObject] | None:
    match line:
        case {"timestamp": str(moment), "payload": {"rate_limits": dict(limits)}}:
            # Others are limits of one model or feature.
            if limits.get("limit_id") not in (None, "codex"):
                return None
            return datetime.fromisoformat(moment).timestamp(), limits
    return None


def _sandbox_broken(lines: list[bytes]) -> bool:
    """Whether there were commands, and the output of each begins with an error of the sandbox."""
    outputs = [line for line in lines if b"_call_output" in line[:200]]
    if not any(_SANDBOX_HINT.search(line) for line in outputs):
        return False
    # A call has a name, its output refers to it by the call's id.
    calls = _payloads(lines, b"_call")
    shell_calls = {
        call.get("call_id") for call in calls if call.get("name") in SHELL_TOOLS
    }
    commands = 0
    for call in calls:
        is_output = "output" in call and call.get("call_id") in shell_calls
        if not is_output:
            continue
        commands += 1
        text = _output_text(call["output"])
        if not SANDBOX_BROKEN.match(_OUTPUT_HEADER.sub("", text)):
            return False
    return commands > 0


def _output_text(output: Json) -> str:
    """The text of an output: a string, or in code mode a list of objects with `text`."""
    if not isinstance(output, list):
        return str(output)
    return "".join(str(part.get("text")) for part in output)
