"""What a prover replies: its words about its test. Nothing of it says whether the test fails; our runs do."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

from codex_counsel.contract.envelope import MAX_LINE_NUMBER, Suggestion
from codex_counsel.system.json_values import Json, JsonObject, too_deep
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line, visible

Claim = Literal["shown", "wrong", "untestable"]
CLAIMS: tuple[Claim, ...] = get_args(Claim)
ASSERTION = "assertion"
MAX_EXPLANATION = 1_000
MAX_COMMAND = 4_000
"""Characters."""
_NAME = re.compile(r"[A-Za-z_$][\w$.:]{0,199}", re.ASCII)
_FENCED = re.compile(r"\A\s*```\w*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)

REPLY_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": list(CLAIMS)},
        "command": {"type": ["string", "null"]},
        "failure": {"type": ["string", "null"]},
        "explanation": {"type": "string"},
        "replace_from": {"type": ["integer", "null"]},
        "replace_to": {"type": ["integer", "null"]},
        "replacement": {"type": ["string", "null"]},
    },
    "required": [
        "verdict",
        "command",
        "failure",
        "explanation",
        "replace_from",
        "replace_to",
        "replacement",
    ],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class ProverReply:
    """`command` is one line that shows all that it is, else None. `failure` is `assertion` or an exception's name.

    `explanation` is masked. `suggestion` is a replacement in the finding's file; nothing
    of it is checked but that its lines are numbers.
    """

    claim: Claim
    command: str | None
    failure: str | None
    explanation: str
    suggestion: Suggestion | None = None


def parse_reply(text: str) -> ProverReply | None:
    """The reply; None for prose and broken JSON."""
    fenced = _FENCED.match(text)
    try:
        raw = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or too_deep(raw) or raw.get("verdict") not in CLAIMS:
        return None
    explanation, _ = mask(clean(str(raw.get("explanation") or "")))
    return ProverReply(
        claim=raw["verdict"],
        command=_command(raw.get("command")),
        failure=_failure(raw.get("failure")),
        explanation=one_line(explanation, MAX_EXPLANATION),
        suggestion=_suggestion(raw),
    )


def _command(value: Json) -> str | None:
    """None for what a reader would not see as it is run: of several lines, too long, masked or with hidden parts."""
    if not isinstance(value, str):
        return None
    command = value.strip()
    if not command or len(command) > MAX_COMMAND or "\n" in command:
        return None
    if visible(clean(command)) != command or mask(command)[1]:
        return None
    return command


def _failure(value: Json) -> str | None:
    if not isinstance(value, str) or not _NAME.fullmatch(value.strip()):
        return None
    name = value.strip()
    if name.casefold() in (ASSERTION, "assertionerror"):
        return ASSERTION
    return name


def _suggestion(raw: JsonObject) -> Suggestion | None:
    replacement = raw.get("replacement")
    first, last = _line(raw.get("replace_from")), _line(raw.get("replace_to"))
    if not isinstance(replacement, str) or first is None or last is None:
        return None
    return Suggestion(start_line=first, end_line=last, replacement=replacement)


def _line(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 < value <= MAX_LINE_NUMBER else None
