"""What a reviewer replies: parsed, and compared with the schema that it was asked to match."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from codex_counsel.contract.envelope import (
    MAX_LINE_NUMBER,
    Finding,
    Rule,
    Suggestion,
)
from codex_counsel.contract.vocabulary import (
    CATEGORIES,
    CONFIDENCES,
    SEVERITIES,
    VERDICTS,
    Category,
    Confidence,
    Severity,
    Verdict,
)
from codex_counsel.system.json_values import Json, JsonObject, too_deep

_SYNONYMS: dict[str, Severity] = {
    "blocker": "critical",
    "severe": "critical",
    "p0": "critical",
    "error": "high",
    "major": "high",
    "p1": "high",
    "warning": "medium",
    "moderate": "medium",
    "p2": "medium",
    "minor": "low",
    "p3": "low",
    "info": "nit",
}
_FENCED = re.compile(r"\A\s*```\w*\s*\n(.*)\n\s*```\s*\Z", re.DOTALL)
_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "null": type(None),
    "array": list,
    "object": dict,
}
MAX_LISTED = 5
"""Deviations from the schema that are listed, unknown severities and unknown categories."""


def reply_schema(*, plan: bool, rules: bool = False) -> JsonObject:
    """JSON Schema of the reply by the provider's strict rules: every property required, optional ones nullable.

    Only findings about a plan have a `section`, only those about changes a replacement,
    and only where `rules` were sent may they name one.
    """
    text = {"type": "string"}
    optional_text = {"type": ["string", "null"]}
    optional_number = {"type": ["integer", "null"]}
    finding: JsonObject = {
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "category": {"type": "string", "enum": list(CATEGORIES)},
        "title": text,
    }
    if plan:
        finding["section"] = text
    finding |= {
        "file": optional_text,
        "line": optional_number,
        "line_end": optional_number,
        "evidence": optional_text,
        "risk": text,
        "recommendation": text,
    }
    if not plan:
        finding |= {
            "replace_from": optional_number,
            "replace_to": optional_number,
            "replacement": optional_text,
        }
    if rules:
        finding |= {"rule_file": optional_text, "rule_quote": optional_text}
    return _object(
        {
            "summary": text,
            "verdict": {"type": "string", "enum": list(VERDICTS)},
            "confidence": {"type": "string", "enum": list(CONFIDENCES)},
            "findings": _array(_object(finding)),
            "questions": _array(text),
            "assumptions": _array(text),
            "next_steps": _array(text),
        }
    )


def _object(properties: JsonObject) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: JsonObject) -> JsonObject:
    return {"type": "array", "items": items}


@dataclass
class ReviewReply:
    """`matches_schema` is false where the reply broke the schema: it is kept, but no `pass` is accepted from it."""

    summary: str
    verdict: Verdict
    confidence: Confidence | None
    findings: list[Finding]
    questions: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    matches_schema: bool = True
    warnings: list[str] = field(default_factory=list)


def parse_reply(
    text: str, *, plan: bool = False, rules: bool = False
) -> ReviewReply | None:
    """The reply, or None for prose and broken JSON. Nothing is dropped: what does not fit is mapped, with a warning.

    `plan` and `rules` are those of the schema.
    """
    fenced = _FENCED.match(text)
    try:
        raw = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(raw, dict)
        or not isinstance(raw.get("findings"), list)
        or too_deep(raw)
    ):
        return None

    schema = reply_schema(plan=plan, rules=rules)
    # A word of its own for the kind of a fault is warned of, and spoils nothing else.
    finding = schema["properties"]["findings"]["items"]["properties"]
    finding["category"] = {"type": ["string", "null"]}
    # One more than is listed tells that there are more; there may be very many.
    all_deviations = _deviations(raw, schema, "the reply")
    deviations = list(islice(all_deviations, MAX_LISTED + 1))
    warnings = deviations[:MAX_LISTED]
    if len(deviations) > MAX_LISTED:
        warnings.append("and more of that kind")
    # A finding of unknown severity may be the reason why the reviewer said `fail`.
    unknown: Severity = "high" if raw.get("verdict") == "fail" else "medium"
    warnings += _mapped_severities(raw["findings"], unknown)
    warnings += _unknown_categories(raw["findings"])

    verdict, confidence = raw.get("verdict"), raw.get("confidence")
    return ReviewReply(
        summary=_text(raw.get("summary")) or "",
        verdict=verdict if verdict in VERDICTS else "unknown",
        confidence=confidence if confidence in CONFIDENCES else None,
        findings=[_finding(item, unknown) for item in raw["findings"]],
        questions=_texts(raw.get("questions")),
        assumptions=_texts(raw.get("assumptions")),
        next_steps=_texts(raw.get("next_steps")),
        matches_schema=not deviations,
        warnings=warnings,
    )


def _deviations(value: Json, schema: JsonObject, place: str) -> Iterator[str]:
    """Where a value is not what the schema asks for. The schema is one of ours: types, enums, objects and arrays."""
    kinds = schema["type"]
    if isinstance(kinds, str):
        kinds = [kinds]
    types = tuple(_TYPES[kind] for kind in kinds)
    # In Python a bool is an int; the schema has neither booleans nor fractions.
    if isinstance(value, bool) or not isinstance(value, types):
        yield f"{place} is {_excerpt(value)}, not {' or '.join(kinds)}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{place} is {_excerpt(value)}, none of {', '.join(schema['enum'])}"
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _deviations(item, schema["items"], f"{place} {number}")
    elif isinstance(value, dict):
        for name, part in schema["properties"].items():
            if name not in value:
                yield f"{place} lacks {name}"
            else:
                yield from _deviations(value[name], part, f"{place}: {name}")
        unknown = [name for name in value if name not in schema["properties"]]
        yield from (f"{place} has an unknown {_excerpt(name)}" for name in unknown)


def _mapped_severities(findings: list[Json], unknown: Severity) -> list[str]:
    """At most one warning, about the severities that are not in the schema and what they are counted as."""
    mappings: dict[str, None] = {}
    for item in findings:
        severity = item.get("severity") if isinstance(item, dict) else "none"
        if severity not in SEVERITIES:
            mappings[f"{_excerpt(severity)} as {_severity(severity, unknown)}"] = None
    if not mappings:
        return []
    return [
        f"unknown severities were counted: {', '.join(islice(mappings, MAX_LISTED))}"
    ]


def _unknown_categories(findings: list[Json]) -> list[str]:
    """At most one warning, about the categories that are not in the schema."""
    unknown: dict[str, None] = {}
    for item in findings:
        category = item.get("category") if isinstance(item, dict) else "none"
        if _category(category) == "other" and category != "other":
            unknown[_excerpt(category)] = None
    if not unknown:
        return []
    return [
        f"unknown categories were taken as other: {', '.join(islice(unknown, MAX_LISTED))}"
    ]


def _finding(item: Json, unknown: Severity) -> Finding:
    """An item that is no object is kept as a title. `unknown` is the severity where the item names no known one."""
    if not isinstance(item, dict):
        title = _text(item) or "(no title)"
        return Finding(severity=unknown, category="other", title=title)
    risk = _text(item.get("risk"))
    first, last = _line(item.get("line")), _line(item.get("line_end"))
    line_end = None
    if first and last and last >= first:
        line_end = last
    return Finding(
        severity=_severity(item.get("severity"), unknown),
        category=_category(item.get("category")),
        title=_text(item.get("title")) or risk or "(no title)",
        file=_text(item.get("file")),
        section=_text(item.get("section")),
        evidence=_text(item.get("evidence")),
        risk=risk,
        recommendation=_text(item.get("recommendation")),
        line=first or last,
        line_end=line_end,
        rule=_rule(item),
        suggestion=_suggestion(item),
    )


def _rule(item: JsonObject) -> Rule | None:
    file, quote = _text(item.get("rule_file")), _text(item.get("rule_quote"))
    if file is None and quote is None:
        return None
    return Rule(file=file or "", quote=quote or "")


def _suggestion(item: JsonObject) -> Suggestion | None:
    """The proposed replacement, not checked yet. Line 0 is none."""
    replacement = item.get("replacement")
    first, last = _line(item.get("replace_from")), _line(item.get("replace_to"))
    if not isinstance(replacement, str) or not (replacement or first or last):
        return None
    return Suggestion(
        start_line=first or 0, end_line=last or first or 0, replacement=replacement
    )


def _severity(value: Json, unknown: Severity) -> Severity:
    word = str(value).strip().lower()
    for severity in SEVERITIES:
        if severity == word:
            return severity
    return _SYNONYMS.get(word, unknown)


def _category(value: Json) -> Category:
    word = str(value).strip().lower()
    for category in CATEGORIES:
        if category == word:
            return category
    return "other"


def _texts(value: Json) -> list[str]:
    """The texts of a list, or a single value as a list. What is empty is left out."""
    items = value if isinstance(value, list) else [value]
    texts = [_text(item) for item in items]
    return [text for text in texts if text]


def _text(value: Json) -> str | None:
    """A text as it is, anything else as JSON; None for nothing."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _line(value: Json) -> int | None:
    """A line number, also as a string of digits or a whole float; None for what is no line number."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Written so that it is also true of NaN.
    if value != value // 1 or not 0 < value <= MAX_LINE_NUMBER:
        return None
    return int(value)


def _excerpt(value: Json) -> str:
    return repr(value)[:60]
