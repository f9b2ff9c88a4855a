"""A review for its reader: a terminal, a pull request, a code-scanning upload, a workflow log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from codex_counsel import __version__
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.system.text import one_line

FORMATS = ("text", "markdown", "json", "sarif", "github")
_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "nit": "note"}
_COMMANDS = {"critical": "error", "high": "error", "medium": "warning", "low": "notice", "nit": "notice"}
_SECURITY = {"critical": "9.0", "high": "7.0", "medium": "5.0", "low": "3.0", "nit": "1.0"}


def render(wire: EnvelopeDict, name: str) -> str:
    """The review in one of `FORMATS`."""
    renderers: dict[str, Callable[[EnvelopeDict], str]] = {
        "text": text,
        "markdown": markdown,
        "json": lambda envelope: json.dumps(envelope, ensure_ascii=False, indent=2),
        "sarif": lambda envelope: json.dumps(sarif(envelope), ensure_ascii=False, indent=2),
        "github": github,
    }
    return renderers[name](wire)


def text(wire: EnvelopeDict) -> str:
    from codex_counsel.cli.render import footer

    parts = [wire["summary"], ""]
    for finding in wire.get("findings", ()):
        parts += [f"{finding['severity'].upper()}  {_title(finding)}", f"  {_place(finding)}"]
        parts += _indented(finding.get("evidence"), "  | ")
        parts += _indented(finding.get("risk"), "  ") + _indented(finding.get("recommendation"), "  -> ") + [""]
    parts += [wire["answer"], ""] if "answer" in wire else []
    parts += [f"{name}: {line}" for name in ("questions", "assumptions", "next_steps") for line in wire.get(name, ())]
    return "\n".join([*parts, *_coverage(wire), *footer(wire)])


def markdown(wire: EnvelopeDict) -> str:
    parts = [f"## Codex: {wire['summary']}", ""]
    for finding in wire.get("findings", ()):
        parts += [f"### {finding['severity']}: {_title(finding)}", "", _code(_place(finding)), ""]
        if finding.get("evidence"):
            parts += [_fence(finding["evidence"]), ""]
        parts += [part for name in ("risk", "recommendation") if (words := finding.get(name)) for part in (words, "")]
    parts += [wire["answer"], ""] if "answer" in wire else []
    for name in ("questions", "assumptions", "next_steps"):
        parts += (
            [f"**{name.replace('_', ' ')}**", "", *(f"- {line}" for line in wire[name]), ""] if wire.get(name) else []
        )
    notes = [f"note: {warning}" for warning in wire["meta"].get("warnings", ())]
    return "\n".join([*parts, *(f"- {one_line(line, 1000)}" for line in (*_coverage(wire), *notes))])


def _title(finding: dict[str, Any]) -> str:
    return one_line(finding["title"], 300)


def _code(words: str) -> str:
    """A code span, whatever the words hold."""
    ticks = "`"
    while ticks in words:
        ticks += "`"
    pad = " " if len(ticks) > 1 else ""
    return f"{ticks}{pad}{one_line(words, 1000)}{pad}{ticks}"


def _fence(code: str) -> str:
    """A fence longer than any row of backticks in the quoted code."""
    ticks = "```"
    while ticks in code:
        ticks += "`"
    return f"{ticks}\n{code}\n{ticks}"


def _place(finding: dict[str, Any]) -> str:
    lines = f":{finding['line']}" if finding.get("line") else ""
    lines += f"-{finding['line_end']}" if finding.get("line_end") not in (None, finding.get("line")) else ""
    where = (
        f"{one_line(finding['file'], 500)}{lines}"
        if finding.get("file")
        else finding.get("section") or "no place named"
    )
    outside = ", outside the change" if finding.get("in_diff") is False else ""
    return f"{where} ({finding.get('grounded', 'unverified')}{outside})"


def _indented(words: str | None, mark: str) -> list[str]:
    return [mark + line for line in words.splitlines()] if words else []


def _coverage(wire: EnvelopeDict) -> list[str]:
    seen = wire.get("coverage")
    if not seen:
        return []
    whole = "all of the change was seen" if seen["complete"] else "NOT all of the change was seen"
    rows = [f"  left out: {item['path']} ({item['reason']}, {item['bytes']} bytes)" for item in seen["omitted"]]
    return [f"  {seen['files']} files, {seen['bytes']} bytes sent; {whole}", *rows]


def github(wire: EnvelopeDict) -> str:
    """Workflow commands: annotations on the lines of a pull request."""
    rows = [_annotation(finding) for finding in wire.get("findings", ())]
    command = "warning" if wire["verdict"] == "unknown" else "notice"
    return "\n".join([*rows, f"::{command} title=Codex review::{_escaped(wire['summary'])}"])


def _annotation(finding: dict[str, Any]) -> str:
    given = {"file": finding.get("file"), "line": finding.get("line"), "endLine": finding.get("line_end")}
    given["title"] = f"{finding['severity']}: {finding['title']}"
    properties = ",".join(f"{name}={_property(value)}" for name, value in given.items() if value)
    words = [text for name in ("risk", "recommendation") if (text := finding.get(name))] or [finding["title"]]
    words += [] if finding.get("grounded") == "verified" else [f"({finding.get('grounded', 'unverified')})"]
    return f"::{_COMMANDS[finding['severity']]} {properties}::{_escaped(chr(10).join(words))}"


def _escaped(value: object) -> str:
    return str(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _escaped(value).replace(":", "%3A").replace(",", "%2C")


def sarif(wire: EnvelopeDict) -> dict[str, Any]:
    """SARIF 2.1.0, one rule per severity. A review without a verdict is a run that did not succeed, not a clean one."""
    rules = [
        {
            "id": f"codex/{name}",
            "shortDescription": {"text": f"{name} finding"},
            "properties": {"security-severity": score},
        }
        for name, score in _SECURITY.items()
    ]
    driver = {"name": "codex-counsel", "version": __version__, "rules": rules}
    reached = wire["verdict"] != "unknown"
    notes = [wire["summary"], *wire["meta"].get("warnings", ())]
    told = [{"level": "note" if reached else "error", "message": {"text": note}} for note in notes]
    run = {
        "tool": {"driver": driver},
        "invocations": [{"executionSuccessful": reached, "toolExecutionNotifications": told}],
        "results": [_result(finding) for finding in wire.get("findings", ())],
        "properties": {"verdict": wire["verdict"], "coverage": wire.get("coverage", {})},
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _result(finding: dict[str, Any]) -> dict[str, Any]:
    words = "\n\n".join(finding[name] for name in ("title", "risk", "recommendation") if finding.get(name))
    result = {
        "ruleId": f"codex/{finding['severity']}",
        "level": _LEVELS[finding["severity"]],
        "message": {"text": words},
    }
    result["properties"] = {"grounded": finding.get("grounded", "unverified")}
    return result | ({"locations": [_location(finding)]} if finding.get("file") else {})


def _location(finding: dict[str, Any]) -> dict[str, Any]:
    from urllib.parse import quote

    place: dict[str, Any] = {"artifactLocation": {"uri": quote(finding["file"])}}
    if finding.get("line"):
        place["region"] = {"startLine": finding["line"], "endLine": finding.get("line_end") or finding["line"]}
    return {"physicalLocation": place}
