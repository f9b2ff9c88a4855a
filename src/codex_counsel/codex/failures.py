"""Error codes for the texts with which Codex fails. The texts are those of Codex 0.148 to 0.169."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line


@dataclass(frozen=True)
class FailureRule:
    """A code for all texts that the pattern is found in. Of a table the first such rule decides.

    `example` is Codex's own text, for the docs. `repair` takes the place of that of the
    code.
    """

    code: Code
    pattern: str
    example: str
    repair: str | None = None


_EXHAUSTED_RULE = FailureRule(
    Code.RESOURCE_LIMIT,
    r"\(os error (?:11|12|23|24)\)|memory allocation of \d+ bytes failed",
    "… No file descriptors available (os error 24)",
)

TURN_RULES: tuple[FailureRule, ...] = (
    _EXHAUSTED_RULE,
    FailureRule(
        Code.USAGE_LIMIT,
        r"hit your usage limit",
        "You\u2019ve hit your usage limit. … try again at 8:48 PM.",
    ),
    FailureRule(
        Code.USAGE_LIMIT,
        r"out of credits",
        "Your workspace is out of credits. Add credits to continue.",
    ),
    FailureRule(
        Code.USAGE_LIMIT,
        r"^Quota exceeded",
        "Quota exceeded. Check your plan and billing details.",
    ),
    FailureRule(
        Code.USAGE_LIMIT,
        r"upgrade to Plus:",
        "To use Codex with your ChatGPT plan, upgrade to Plus: …",
    ),
    FailureRule(
        Code.AUTH_REQUIRED, r"401 Unauthorized", "unexpected status 401 Unauthorized: …"
    ),
    FailureRule(
        Code.AUTH_REQUIRED,
        r"access token could not be refreshed",
        "Your access token could not be refreshed because …",
    ),
    FailureRule(
        Code.UPSTREAM_ERROR,
        r"^Failed to refresh token: 5",
        "Failed to refresh token: 500 Internal Server Error",
    ),
    FailureRule(
        Code.AUTH_REQUIRED, r"^Failed to refresh token", "Failed to refresh token: …"
    ),
    FailureRule(
        Code.AUTH_REQUIRED,
        r"^Missing environment variable",
        "Missing environment variable: `NAME`.",
    ),
    FailureRule(
        Code.RATE_LIMITED,
        r"429 Too Many Requests",
        "exceeded retry limit, last status: 429 Too Many Requests",
    ),
    FailureRule(
        Code.RATE_LIMITED,
        r"^rate limit exceeded",
        "rate limit exceeded: … try again in 1.2s",
    ),
    FailureRule(
        Code.CONTEXT_EXCEEDED,
        r"ran out of room in the model",
        "Codex ran out of room in the model's context window. …",
    ),
    FailureRule(
        Code.CONTEXT_EXCEEDED,
        r"context_length_exceeded",
        '{"error":{"code":"context_length_exceeded", …}}',
    ),
    FailureRule(
        Code.MODEL_CAPACITY,
        r"model is at capacity",
        "Selected model is at capacity. Please try a different model.",
    ),
    FailureRule(
        Code.POLICY_REFUSED,
        r"reason: content_filter",
        "…: Incomplete response returned, reason: content_filter",
    ),
    FailureRule(
        Code.INCOMPLETE,
        r"Incomplete response returned",
        "Incomplete response returned, reason: max_output_tokens",
    ),
    FailureRule(
        Code.UPSTREAM_ERROR,
        r"experiencing high demand",
        "We\u2019re currently experiencing high demand, …",
    ),
    FailureRule(
        Code.UPSTREAM_ERROR,
        r"unexpected status 5\d\d",
        "unexpected status 503 Service Unavailable: …",
    ),
    FailureRule(
        Code.POLICY_REFUSED,
        r"unexpected status (403|451)",
        "unexpected status 403 Forbidden: …",
    ),
    FailureRule(
        Code.NETWORK_UNAVAILABLE,
        r"Connection failed",
        "Connection failed: error sending request",
    ),
    FailureRule(
        Code.NETWORK_UNAVAILABLE,
        r"waiting for network",
        "Reconnecting... waiting for network (…)",
    ),
    FailureRule(
        Code.NETWORK_UNAVAILABLE,
        r"failed to lookup address",
        "… failed to lookup address information …",
    ),
    FailureRule(
        Code.NETWORK_UNAVAILABLE,
        r"routing discovery failed",
        "workspace routing discovery failed",
    ),
    FailureRule(
        Code.STREAM_DISCONNECTED,
        r"^stream disconnected",
        "stream disconnected before completion: …",
    ),
    FailureRule(
        Code.POLICY_REFUSED,
        r"(?i)usage polic|safety (?:system|reasons|check)|flagged (?:as|for|by)|invalid_prompt|cyber_policy",
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
    ),
    FailureRule(
        Code.MODEL_REJECTED,
        r"Instructions are not valid",
        '{"detail":"Instructions are not valid"}',
        repair="Set CODEX_COUNSEL_INSTRUCTIONS=codex and begin a new thread (no session_id): this account accepts no "
        "base instructions but Codex's.",
    ),
    FailureRule(
        Code.UPSTREAM_ERROR,
        r"unexpected status 4(08|25)",
        "unexpected status 408 Request Timeout: …",
    ),
    FailureRule(
        Code.MODEL_REJECTED,
        r"unexpected status 4\d\d",
        "unexpected status 404 Not Found: …",
    ),
    FailureRule(
        Code.MODEL_REJECTED,
        r"\A\s*\{",
        '{"error":{"message":"…"}}, the raw body of an HTTP 400',
    ),
    FailureRule(
        Code.NETWORK_UNAVAILABLE,
        r"(?i)error sending request|timed out|connection (?:refused|reset|closed)",
        "error sending request for url (…)",
    ),
    FailureRule(
        Code.MODEL_REJECTED,
        r"(?i)\b(?:models?|parameters?|effort|schema)\b|not supported|unsupported",
        "The model `NAME` does not exist or you do not have access to it.",
    ),
    FailureRule(Code.UPSTREAM_ERROR, r"", "any other sentence"),
)
"""For the message of the event `turn.failed`."""

START_RULES: tuple[FailureRule, ...] = (
    _EXHAUSTED_RULE,
    FailureRule(
        Code.SESSION_NOT_FOUND,
        r"no rollout found for thread id",
        "… no rollout found for thread id … (code -32600)",
    ),
    FailureRule(
        Code.SESSION_BUSY,
        r"already has an active writer",
        "… thread ID already has an active writer (code -32600)",
    ),
    FailureRule(
        Code.INPUT_TOO_LARGE,
        r"exceeds the maximum length",
        "… Input exceeds the maximum length of 1048576 characters.",
    ),
    FailureRule(
        Code.CODEX_CONFIG_INVALID,
        r"config|profile|permissions|rules|wire_api",
        "Error loading config.toml: …",
    ),
    FailureRule(
        Code.CODEX_CONFIG_INVALID,
        r"CODEX_HOME points to",
        'CODEX_HOME points to "…", but that path does not exist',
    ),
    FailureRule(
        Code.CODEX_CONFIG_INVALID, r"^error: ", "error: unexpected argument '…' found"
    ),
    FailureRule(
        Code.CODEX_CONFIG_INVALID,
        r"required MCP servers",
        "required MCP servers failed to initialize: NAME: …",
    ),
    FailureRule(
        Code.CODEX_CONFIG_INVALID,
        r"(?i)output schema file",
        "Output schema file … is not valid JSON: …",
    ),
    FailureRule(Code.PROCESS_DIED, r"", "any other end before `thread.started`"),
)
"""For the last sentence on stderr of a Codex that ended before the event `thread.started`."""

NO_CODE_MODE = re.compile(r"failed to spawn code-mode host|Code Mode is unavailable")
"""Found in a warning of Codex: the program that runs the commands of models in code mode is missing or cannot start."""
SANDBOX_BROKEN = re.compile(
    r"\A(?:.*\n){0,3}?(?:(?:bwrap|sandbox-exec|codex-linux-sandbox): |error building bubblewrap command"
    rf"|{NO_CODE_MODE.pattern})"
)
"""Found at the beginning of a failed command's output: the sandbox failed before the command could print anything."""

_EXHAUSTED = re.compile(
    r"(?:\d{4}-\d\d-\d\dT\S+\s+[A-Z]+\s+\S+:\s+)?"
    r"([^\n]*(?:\(os error (?:12|23|24)\)|Too many open files|Cannot allocate memory"
    r"|memory allocation of \d+ bytes failed|failed to spawn thread)[^\n]*)"
)
"""A line, of a log or not, about descriptors, memory or threads that were used up.

EAGAIN (11) alone is nothing unusual in a log.
"""
LEAST_MEMORY = 1 << 30
"""Bytes of address space below which Codex dies or hangs without a word."""

_HARMLESS = re.compile(
    r"Reading (?:additional input|prompt) from stdin|WARNING: |[Ww]arning: |\d{4}-\d\d-\d\dT\S+\s+(?:ERROR|WARN|INFO)"
)
"""The beginning of lines on stderr that say nothing about the failure: notices, and lines of Codex's log."""


def from_turn(message: str) -> CounselError:
    """The error for the message of `turn.failed`, with the time to wait where the message names one."""
    rule = _first_match(TURN_RULES, message)
    sentence, _ = mask(_message_of_body(message) or message)
    return CounselError(
        rule.code,
        one_line(sentence, 1000),
        repair=rule.repair,
        retry_after_ms=_retry_after(rule.code, message),
    )


def from_start(stderr: str, returncode: int | None) -> CounselError:
    """The error for a Codex that ended before its thread began."""
    sentence, _ = mask(last_sentence(stderr))
    if not sentence:
        return CounselError(
            Code.PROCESS_DIED,
            f"Codex ended with {describe_exit(returncode)} and no error message",
        )
    rule = _first_match(START_RULES, sentence)
    return CounselError(rule.code, one_line(sentence, 1000), repair=rule.repair)


def exhaustion(*texts: str) -> CounselError | None:
    """The error where one of the texts says that descriptors, threads or memory were used up."""
    for text in texts:
        match = _EXHAUSTED.search(text)
        if match:
            sentence, _ = mask(match[1])
            return CounselError(
                Code.RESOURCE_LIMIT,
                one_line(f"Codex ran out of resources: {sentence}", 1000),
            )
    return None


def memory_shortage(problem: str) -> CounselError | None:
    """The error for a Codex that failed without a word, where this process and so Codex may use little memory."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or limit >= LEAST_MEMORY:
        return None
    return CounselError(
        Code.RESOURCE_LIMIT,
        f"{problem}; its memory is limited to {limit >> 20} MiB (`ulimit -v`), and it needs {LEAST_MEMORY >> 20}",
    )


def from_probe(reason: str) -> CounselError:
    """The error for the problem of a `SandboxState`: `codex_config_invalid` where Codex refuses its configuration."""
    shortage = exhaustion(reason)
    if shortage:
        return shortage
    is_codex_error = re.search(r"(?:^|\s)[Ee]rror: ", reason)
    if is_codex_error and "bwrap: " not in reason:
        return CounselError(Code.CODEX_CONFIG_INVALID, reason)
    return CounselError(
        Code.SANDBOX_UNAVAILABLE,
        f"Codex's sandbox cannot be used here: {reason}",
    )


def _first_match(rules: Sequence[FailureRule], text: str) -> FailureRule:
    # The last rule of each table matches every text.
    return next(rule for rule in rules if re.search(rule.pattern, text))


def describe_exit(returncode: int | None) -> str:
    """A process's end in words: its exit code, or the signal that killed it."""
    if returncode is None:
        return "no exit code"
    if returncode < 0:
        return f"signal {-returncode}"
    return f"exit code {returncode}"


def last_sentence(stderr: str) -> str:
    """Codex's reason in what it wrote to stderr; "" when there is none.

    That is the first line that begins with `error: ` (a wrong argument, explained below
    it), else the last line that begins with `Error`, else the last line that is neither
    a notice nor a line of the log.
    """
    stripped = [line.strip() for line in stderr.splitlines()]
    lines = [line for line in stripped if line and not _HARMLESS.match(line)]
    for line in lines:
        if line.startswith("error: "):
            return line
    for index in reversed(range(len(lines))):
        if lines[index].startswith("Error"):
            return _with_cause(lines[index:])
    return lines[-1] if lines else ""


def _with_cause(lines: list[str]) -> str:
    """The error of the first line, with the first of the causes listed below it unless the error has it already."""
    error = lines[0]
    if len(lines) < 3 or lines[1] != "Caused by:":
        return error
    cause = lines[2].removeprefix("0: ")
    # For a broken config.toml the error quotes the place, which says more.
    if not cause or cause in error or "config.toml:" in error:
        return error
    return f"{error}: {cause}"


def _message_of_body(message: str) -> str | None:
    """The sentence in the body of an HTTP error, which Codex passes on as it came; None for any other text."""
    try:
        body: Json = json.loads(message)
        error = body.get("error", body)
        return str(error.get("message") or error.get("detail") or "") or None
    except (ValueError, AttributeError, RecursionError):
        return None


def _retry_after(code: Code, message: str) -> int | None:
    """Milliseconds until another attempt makes sense, where the message tells."""
    if code is Code.RATE_LIMITED:
        return waiting_time(message)
    if code is not Code.USAGE_LIMIT:
        return None
    now = datetime.now().astimezone()
    reset = reset_time(message, now)
    if reset is None:
        return None
    seconds = (reset - now).total_seconds()
    return max(int(seconds * 1000), 0)


_WAIT = re.compile(
    r"(?i)try again in ((?:\d{1,6}(?:\.\d{1,6})? ?(?:ms|h|m|s)[a-z]* ?)+)"
)
_WAIT_PART = re.compile(r"(\d+(?:\.\d+)?) ?(ms|h|m|s)", re.IGNORECASE)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def waiting_time(message: str) -> int | None:
    """The milliseconds of "try again in 1.2s", "in 6m0s" or "in 20 seconds"; None for any other text."""
    match = _WAIT.search(message)
    if not match:
        return None
    milliseconds = 0.0
    for number, unit in _WAIT_PART.findall(match[1]):
        milliseconds += float(number) * _MILLISECONDS[unit.lower()]
    return round(milliseconds)


_CLOCK = re.compile(
    r"try again at (?:([A-Z][a-z]{2}) (\d{1,2})(?:st|nd|rd|th), (\d{4}) )?(\d{1,2}):(\d\d) ([AP]M)",
    re.IGNORECASE,
)
_MONTHS = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)


def reset_time(message: str, now: datetime) -> datetime | None:
    """The reset that a sentence about a usage limit names; None for one that says "later".

    Codex prints it in the local time zone: "8:48 PM" for today, "Nov 23rd, 2026 6:48
    PM" for another day. There are no seconds, so the result is the end of that minute.
    """
    match = _CLOCK.search(message)
    if not match:
        return None
    month, day, year, hour, minute, half = match.groups()
    hour24 = int(hour) % 12
    if half.upper() == "PM":
        hour24 += 12
    # The time zone is left out until the end: another day may have another offset.
    date = now.astimezone().replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    try:
        if month:
            date = date.replace(int(year), _MONTHS.index(month.lower()) + 1, int(day))
        end_of_minute = date.replace(hour=hour24, minute=int(minute)) + timedelta(
            minutes=1
        )
        return end_of_minute.astimezone()
    except (ValueError, OverflowError):
        return None
