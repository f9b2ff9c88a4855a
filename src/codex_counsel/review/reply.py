"""What a reviewer replies, read strictly and kept whole; and the verdict that the reply earned. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from codex_counsel.contract.envelope import Finding
from codex_counsel.contract.output_schema import too_deep
from codex_counsel.contract.vocabulary import CONFIDENCES, SEVERITIES, VERDICTS, Confidence, Verdict

GRAVE = ("critical", "high")
_SYNONYMS = {
    "blocker": "critical",
    "severe": "critical",
    "error": "high",
    "major": "high",
    "p0": "critical",
    "p1": "high",
}
_SYNONYMS |= {"warning": "medium", "moderate": "medium", "p2": "medium", "minor": "low", "info": "nit", "p3": "low"}
_TEXTS = ("questions", "assumptions", "next_steps")
_FENCED = re.compile(r"\A\s*```\w*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_TYPES: dict[str, type] = {"string": str, "integer": int, "null": type(None), "array": list, "object": dict}
MAX_LINE = 2**31 - 1
MAX_TOLD = 5
"""Deviations from the schema that are told one by one, and severities that were mapped."""


def reply_schema(*, plan: bool) -> dict[str, Any]:
    """JSON Schema of the reply by the provider's strict rules: every property required, optional ones nullable."""
    text, number, strings = {"type": ["string", "null"]}, {"type": ["integer", "null"]}, _array({"type": "string"})
    place = {"section": {"type": "string"}} if plan else {}
    finding = {
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "title": {"type": "string"},
        **place,
        "file": text,
        "line": number,
        "line_end": number,
        "evidence": text,
        "risk": {"type": "string"},
        "recommendation": {"type": "string"},
    }
    return _object(
        {
            "summary": {"type": "string"},
            "verdict": {"type": "string", "enum": list(VERDICTS)},
            "confidence": {"type": "string", "enum": list(CONFIDENCES)},
            "findings": _array(_object(finding)),
            **dict.fromkeys(_TEXTS, strings),
        }
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


@dataclass
class Reply:
    """`sound` is false where the reply broke the schema: it is kept, but no `pass` rests on it."""

    summary: str
    verdict: Verdict
    confidence: Confidence | None
    findings: list[Finding]
    questions: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    sound: bool = True
    warnings: list[str] = field(default_factory=list)


def read(text: str, *, plan: bool = False) -> Reply | None:
    """The reply, or None for prose and broken JSON. Nothing is dropped: what does not fit is mapped and warned of."""
    fenced = _FENCED.match(text)
    try:
        raw = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("findings"), list) or too_deep(raw):
        return None
    told = list(islice(_deviations(raw, reply_schema(plan=plan), "the reply"), MAX_TOLD + 1))
    verdict, confidence = raw.get("verdict"), raw.get("confidence")
    strange = "high" if verdict == "fail" else "medium"
    return Reply(
        summary=_text(raw.get("summary")) or "",
        verdict=verdict if verdict in VERDICTS else "unknown",
        confidence=confidence if confidence in CONFIDENCES else None,
        findings=[_finding(item, strange) for item in raw["findings"]],
        sound=not told,
        warnings=[
            *told[:MAX_TOLD],
            *(["and more of that kind"] if len(told) > MAX_TOLD else []),
            *_mapped(raw, strange),
        ],
        **{name: _strings(raw.get(name)) for name in _TEXTS},
    )


def _deviations(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    """Where a value is not what the schema asks for. The schema is one of ours: types, enums, objects and arrays."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, bool) or not isinstance(value, tuple(_TYPES[kind] for kind in kinds)):
        yield f"{place} is {_shown(value)}, not {' or '.join(kinds)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {_shown(value)}, none of {', '.join(schema['enum'])}"
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _deviations(item, schema["items"], f"{place} {number}")
    elif isinstance(value, dict):
        for name, part in schema["properties"].items():
            if name not in value:
                yield f"{place} lacks {name}"
            else:
                yield from _deviations(value[name], part, f"{place}: {name}")
        yield from (f"{place} has an unknown {_shown(name)}" for name in value if name not in schema["properties"])


def _finding(item: Any, strange: str) -> Finding:
    """What is no object is kept as a title; `strange` is the severity of what names none that is known."""
    if not isinstance(item, dict):
        return Finding(severity=_severity(None, strange), title=_text(item) or "(no title)")
    risk = _text(item.get("risk"))
    first, last = _line(item.get("line")), _line(item.get("line_end"))
    return Finding(
        severity=_severity(item.get("severity"), strange),
        title=_text(item.get("title")) or risk or "(no title)",
        file=_text(item.get("file")),
        section=_text(item.get("section")),
        evidence=_text(item.get("evidence")),
        risk=risk,
        recommendation=_text(item.get("recommendation")),
        line=first or last,
        line_end=last if first and last and last >= first else None,
    )


def _severity(given: Any, strange: str) -> Any:
    word = str(given).strip().lower()
    return word if word in SEVERITIES else _SYNONYMS.get(word, strange)


def _mapped(raw: dict[str, Any], strange: str) -> list[str]:
    """A note on the severities that are none of ours, and what they were taken for."""
    given = (item.get("severity") if isinstance(item, dict) else "none" for item in raw["findings"])
    taken = dict.fromkeys(f"{_shown(word)} as {_severity(word, strange)}" for word in given if word not in SEVERITIES)
    return [f"unknown severities were taken: {', '.join(islice(taken, MAX_TOLD))}"] if taken else []


def _strings(given: Any) -> list[str]:
    if isinstance(given, list):
        return [text for item in given if (text := _text(item))]
    return [text] if (text := _text(given)) else []


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(value: Any) -> int | None:
    """A line number, also as a string of digits or a whole float; None for what counts no line."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if 0 < value <= MAX_LINE else None


def _shown(value: Any) -> str:
    return repr(value)[:60]


def earned(reply: Reply, *, complete: bool) -> tuple[Verdict, list[str]]:
    """The verdict that stands, with the reason for each change of the reviewer's own."""
    if reply.verdict != "pass":
        return reply.verdict, []
    if any(finding.severity in GRAVE for finding in reply.findings):
        return "concerns", ["the reviewer said pass beside a critical or high finding: concerns"]
    if not reply.sound:
        return "unknown", ["the reviewer said pass in a reply that breaks the schema: unknown"]
    if not complete:
        return "unknown", ["the reviewer said pass, but not all of the change was seen: unknown"]
    return "pass", []
