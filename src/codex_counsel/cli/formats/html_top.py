"""The top of the page of a review: the verdict, how many findings there are, and what was reviewed by whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from codex_counsel.cli.formats.html_finding import inline
from codex_counsel.cli.formats.html_proof import proof_status
from codex_counsel.cli.formats.markup import Content, Markup, element
from codex_counsel.cli.review_text import reason_of
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Coverage, Envelope, Failure, Meta, Usage
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.system.text import one_line

_COUNTS = re.compile(
    r"^(?:pass|concerns|fail|unknown): "
    r"(?:no findings|\d+ [a-z ]+(?:, \d+ [a-z ]+)*)"
    r"(?:; \d+ [a-z]+(?:, \d+ [a-z]+)*)?(?:; resolved: \d+)?\. "
)
"""What every summary begins with."""
_VERDICTS = {
    "pass": "Nothing was found that speaks against this change.",
    "concerns": "There are findings to look at.",
    "fail": "There are findings to mend first.",
    "unknown": "The review came to no verdict.",
}


def top(review: Envelope) -> Markup:
    """The header of the page, also of a review that failed."""
    if review.error:
        return element(
            "header", _eyebrow(review), *_failure(review.error), _facts(review)
        )
    verdict = review.verdict or "unknown"
    # The badge and the list of counts say these already.
    summary = _COUNTS.sub("", review.summary, count=1).removeprefix(f"{verdict}: ")
    confidence: Content = None
    if review.confidence:
        confidence = element("span", f"{review.confidence} confidence", class_="aside")
    return element(
        "header",
        _eyebrow(review),
        element(
            "h1",
            element("span", verdict, class_=f"verdict {verdict}"),
            " ",
            element("span", _VERDICTS[verdict], class_="meaning"),
            " ",
            confidence,
        ),
        element("p", summary, class_="lead", dir="auto"),
        _counts(review),
        _facts(review),
    )


def _eyebrow(review: Envelope) -> Markup:
    subject = "Codex review of a plan"
    if review.tool != "codex_review_plan":
        subject = "Codex review"
    return element("p", subject, class_="eyebrow")


def _failure(error: Failure) -> list[Markup]:
    details = {}
    for name, value in (error.details or {}).items():
        details[name.replace("_", " ")] = one_line(str(value), 500)
    return [
        element("h1", element("span", "Nothing was reviewed", class_="verdict failed")),
        element("p", inline(reason_of(error)), class_="lead", dir="auto"),
        element("p", inline(f"What to do: {repair_of(error)}"), dir="auto"),
        table(details),
    ]


def _counts(review: Envelope) -> Content:
    """How many findings there are: those that count by severity, then those of a special state."""
    findings = review.findings
    if findings is None:
        return None
    states = {
        "returned": sum(finding.known == "returned" for finding in findings),
        "carried over": sum(bool(finding.carried) for finding in findings),
        "proven": sum(proof_status(finding) == "proven" for finding in findings),
        "rejected": sum(finding.is_rejected for finding in findings),
        "refuted": sum(finding.is_refuted for finding in findings),
        "resolved": len(review.resolved or ()),
    }
    severities = Counter(
        finding.severity for finding in findings if not finding.is_settled
    )
    items = []
    for severity in SEVERITIES:
        if severities[severity]:
            number = element("b", str(severities[severity]))
            items.append(element("li", number, f" {severity}", class_=severity))
    if not items:
        items.append(element("li", "No findings"))
    for state, count in states.items():
        if count:
            items.append(element("li", f"{count} {state}", class_="state"))
    return element("ul", *items, class_="counts", aria_label="Findings by severity")


def _facts(review: Envelope) -> Markup:
    meta = review.meta
    scope = meta.scope or {}
    coverage = review.coverage or Coverage()
    facts: dict[str, str | None] = {
        "Scope": _scope(scope),
        "Base": _revision(scope.get("base"), coverage.base_sha),
        "Head": _revision(None, coverage.head_sha),
        "Model": meta.model,
        "Effort": meta.effort,
        "Codex": meta.codex.version if meta.codex else None,
        "Tokens": _tokens(meta.usage),
        "Tokens of its proofs": _tokens(meta.usage_proofs),
        "Time": _duration(meta),
    }
    return table(facts)


def table(facts: Mapping[str, str | None]) -> Markup:
    """Names and values in two columns; what is empty is left out."""
    rows = []
    for name, value in facts.items():
        if value:
            term = element("dt", name)
            rows.append(element("div", term, element("dd", value, dir="auto")))
    return element("dl", *rows, class_="facts")


def _scope(scope: Mapping[str, object]) -> str:
    words = str(scope.get("kind", "")).replace("_", " ")
    paths = scope.get("paths")
    if isinstance(paths, list) and paths:
        words += f": {one_line(', '.join(map(str, paths)), 300)}"
    return words


def _revision(name: object, sha: str | None) -> str:
    parts = []
    if name:
        parts.append(one_line(str(name), 200))
    if sha:
        parts.append(sha[:12])
    return " ".join(parts)


def _tokens(usage: Usage | None) -> str | None:
    if usage is None:
        return None
    return f"{usage.input:,} in ({usage.cached_input:,} cached), {usage.output:,} out"


def _duration(meta: Meta) -> str:
    if meta.elapsed_ms is None:
        return ""
    minutes, seconds = divmod(meta.elapsed_ms / 1000, 60)
    if minutes:
        return f"{minutes:.0f} min {seconds:.0f} s"
    return f"{seconds:.1f} s"
