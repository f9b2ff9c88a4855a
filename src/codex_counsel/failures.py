"""From what a run left behind to the one code it failed with. Texts as Codex 0.148 to 0.169 print them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from codex_counsel.errors import Code, CounselError
from codex_counsel.text import one_line


@dataclass(frozen=True)
class Rule:
    """The first rule whose pattern is found decides. `example` is Codex's own text, for the docs."""

    code: Code
    pattern: str
    example: str


TURN_RULES: tuple[Rule, ...] = (
    Rule(Code.USAGE_LIMIT, r"hit your usage limit", "You’ve hit your usage limit. … try again at 8:48 PM."),
    Rule(Code.USAGE_LIMIT, r"out of credits", "Your workspace is out of credits. Add credits to continue."),
    Rule(Code.USAGE_LIMIT, r"^Quota exceeded", "Quota exceeded. Check your plan and billing details."),
    Rule(Code.USAGE_LIMIT, r"upgrade to Plus:", "To use Codex with your ChatGPT plan, upgrade to Plus: …"),
    Rule(Code.AUTH_REQUIRED, r"401 Unauthorized", "unexpected status 401 Unauthorized: …"),
    Rule(
        Code.AUTH_REQUIRED, r"access token could not be refreshed", "Your access token could not be refreshed because …"
    ),
    Rule(Code.UPSTREAM_ERROR, r"^Failed to refresh token: 5", "Failed to refresh token: 500 Internal Server Error"),
    Rule(Code.AUTH_REQUIRED, r"^Failed to refresh token", "Failed to refresh token: …"),
    Rule(Code.AUTH_REQUIRED, r"^Missing environment variable", "Missing environment variable: `NAME`."),
    Rule(Code.RATE_LIMITED, r"429 Too Many Requests", "exceeded retry limit, last status: 429 Too Many Requests"),
    Rule(Code.RATE_LIMITED, r"^rate limit exceeded", "rate limit exceeded: … try again in 1.2s"),
    Rule(
        Code.CONTEXT_EXCEEDED, r"ran out of room in the model", "Codex ran out of room in the model's context window. …"
    ),
    Rule(Code.CONTEXT_EXCEEDED, r"context_length_exceeded", '{"error":{"code":"context_length_exceeded", …}}'),
    Rule(Code.MODEL_CAPACITY, r"model is at capacity", "Selected model is at capacity. Please try a different model."),
    Rule(Code.POLICY_REFUSED, r"reason: content_filter", "…: Incomplete response returned, reason: content_filter"),
    Rule(Code.INCOMPLETE, r"Incomplete response returned", "Incomplete response returned, reason: max_output_tokens"),
    Rule(Code.UPSTREAM_ERROR, r"experiencing high demand", "We’re currently experiencing high demand, …"),
    Rule(Code.UPSTREAM_ERROR, r"unexpected status 5\d\d", "unexpected status 503 Service Unavailable: …"),
    Rule(Code.POLICY_REFUSED, r"unexpected status (403|451)", "unexpected status 403 Forbidden: …"),
    Rule(Code.NETWORK_UNAVAILABLE, r"Connection failed", "Connection failed: error sending request"),
    Rule(Code.NETWORK_UNAVAILABLE, r"waiting for network", "Reconnecting... waiting for network (…)"),
    Rule(Code.NETWORK_UNAVAILABLE, r"failed to lookup address", "… failed to lookup address information …"),
    Rule(Code.NETWORK_UNAVAILABLE, r"routing discovery failed", "workspace routing discovery failed"),
    Rule(Code.STREAM_DISCONNECTED, r"^stream disconnected", "stream disconnected before completion: …"),
    Rule(Code.POLICY_REFUSED, r"(?i)usage polic|safety|flagged|invalid_prompt|cyber", "Invalid prompt: …usage policy."),
    Rule(Code.MODEL_REJECTED, r"", "the raw body of an HTTP 400, or the sentence of a 404"),
)
"""For the message of `turn.failed`."""

START_RULES: tuple[Rule, ...] = (
    Rule(Code.SESSION_NOT_FOUND, r"no rollout found for thread id", "… no rollout found for thread id … (code -32600)"),
    Rule(Code.SESSION_BUSY, r"already has an active writer", "… thread ID already has an active writer (code -32600)"),
    Rule(
        Code.INPUT_TOO_LARGE, r"exceeds the maximum length", "… Input exceeds the maximum length of 1048576 characters."
    ),
    Rule(Code.CODEX_CONFIG_INVALID, r"config|profile|permissions|rules|wire_api", "Error loading config.toml: …"),
    Rule(Code.CODEX_CONFIG_INVALID, r"CODEX_HOME points to", 'CODEX_HOME points to "…", but that path does not exist'),
    Rule(Code.CODEX_CONFIG_INVALID, r"^error: ", "error: unexpected argument '…' found"),
    Rule(Code.CODEX_CONFIG_INVALID, r"required MCP servers", "required MCP servers failed to initialize: NAME: …"),
    Rule(Code.CODEX_CONFIG_INVALID, r"output schema file", "Output schema file … is not valid JSON: …"),
    Rule(Code.PROCESS_DIED, r"", "any other end before `thread.started`"),
)
"""For the last sentence on stderr of a Codex that ended before its thread began."""

SANDBOX_BROKEN = re.compile(r"^bwrap: |Creating new namespace failed|sandbox.*(?:not supported|unavailable)", re.MULTILINE)


def from_turn(message: str) -> CounselError:
    """Classify the message of `turn.failed`."""
    code = _first(TURN_RULES, message)
    sentence = _body_message(message) or message
    return CounselError(code, one_line(sentence, 1000), retry_after_ms=_retry_after(code, message))


def from_start(stderr: str, returncode: int | None) -> CounselError:
    """Classify a run that ended before its thread began."""
    sentence = last_sentence(stderr)
    if not sentence:
        return CounselError(Code.PROCESS_DIED, f"Codex ended with {describe(returncode)} and said nothing")
    return CounselError(_first(START_RULES, sentence), one_line(sentence, 1000))


def describe(returncode: int | None) -> str:
    if returncode is None:
        return "no exit code"
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"


def last_sentence(stderr: str) -> str:
    """Codex's own reason: the last line that is no log line and no notice, argument errors from their first line on."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not _HARMLESS.match(line.strip())]
    usage = next((line for line in lines if line.startswith("error: ")), None)
    return usage or next((line for line in reversed(lines) if line.startswith("Error")), lines[-1] if lines else "")


_HARMLESS = re.compile(
    r"Reading (?:additional input|prompt) from stdin|WARNING: |warning: |Warning: |\d{4}-\d\d-\d\dT\S+\s+(?:ERROR|WARN|INFO)"
)


def _first(rules: Sequence[Rule], text: str) -> Code:
    return next(rule.code for rule in rules if re.search(rule.pattern, text))


def _body_message(message: str) -> str | None:
    try:
        body: Any = json.loads(message)
        found = body.get("error", body)
        return str(found.get("message") or found.get("detail") or "") or None
    except (ValueError, AttributeError):
        return None


def _retry_after(code: Code, message: str) -> int | None:
    if code is Code.RATE_LIMITED and (told := re.search(r"try again in ([0-9.]+)(ms|s|m)\b", message)):
        return int(float(told[1]) * {"ms": 1, "s": 1000, "m": 60_000}[told[2]])
    if code is Code.USAGE_LIMIT and (reset := reset_time(message, datetime.now().astimezone())):
        return max(int((reset - datetime.now().astimezone()).total_seconds() * 1000), 0)
    return None


_CLOCK = re.compile(
    r"try again at (?:([A-Z][a-z]{2}) (\d{1,2})(?:st|nd|rd|th), (\d{4}) )?(\d{1,2}):(\d\d) ([AP]M)", re.IGNORECASE
)


def reset_time(message: str, now: datetime) -> datetime | None:
    """The reset a usage-limit sentence names, in the local zone that Codex prints it in; None for "later"."""
    found = _CLOCK.search(message)
    if not found:
        return None
    month, day, year, hour, minute, half = found.groups()
    hour24 = int(hour) % 12 + (12 if half.upper() == "PM" else 0)
    if not month:
        reset = now.replace(hour=hour24, minute=int(minute), second=0, microsecond=0)
        return reset if reset > now - timedelta(minutes=1) else reset + timedelta(days=1)
    months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    return datetime(int(year), months.index(month.lower()) + 1, int(day), hour24, int(minute), tzinfo=now.tzinfo)
