"""A review as one page of HTML: the findings beside their code. It loads nothing, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from codex_counsel import __version__
from codex_counsel.cli.formats.html_finding import Place, article, inline, prose, tag
from codex_counsel.cli.formats.markup import Content, Markup, element, joined
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    counted,
    lists_of,
    reason_of,
    rule_file_lines,
    title_of,
)
from codex_counsel.cli.words import in_terminal_words, repair_of
from codex_counsel.contract.envelope import (
    Coverage,
    Envelope,
    Failure,
    Finding,
    Meta,
    Omission,
    Resolved,
    SeenEarlier,
    Usage,
)
from codex_counsel.contract.vocabulary import KNOWNS, SEVERITIES
from codex_counsel.services.code_context import Snippet, snippet_key
from codex_counsel.system.text import one_line, size

MAX_PAGE = 5_000_000
"""Bytes of a page. Of a longer one code is left out, and then findings."""
MAX_ANSWER = 200_000
"""Characters of an answer in prose."""
MAX_LISTED = 200
"""Entries of one list, and warnings."""
SHOWN_AT_ONCE = 12
"""Entries of a list that are not folded."""
MANY = 50
"""Findings above which a browser renders only those that are in sight."""
NO_CODE = Snippet()
_FRAME = 100_000
"""Bytes kept free for style, script, notes and filters."""
_NONE = "No finding passes the filters."
_COUNTS = re.compile(
    r"^(?:pass|concerns|fail|unknown): "
    r"(?:no findings|\d+ [a-z ]+(?:, \d+ [a-z ]+)*)(?:; resolved: \d+)?\. "
)
"""What every summary begins with."""
_VERDICTS = {
    "pass": "Nothing was found that speaks against this change.",
    "concerns": "There are findings to look at.",
    "fail": "There are findings to mend first.",
    "unknown": "The review came to no verdict.",
}


def html(review: Envelope, snippets: Mapping[str, Snippet]) -> str:
    """A complete document. `snippets` is the code for the findings, by `snippet_key`.

    It works without JavaScript, which only adds filters and keys.
    """
    top = _top(review)
    rest = joined(_rest(review))
    shown = _fit(review, snippets, MAX_PAGE - size(top) - size(rest) - _FRAME)
    title = f"{review.verdict or review.status}: Codex review"
    if review.findings:
        title += f", {counted(len(review.findings), 'finding')}"
    style = ""
    if len(shown.articles) > MANY:
        style = "many"
    page = element(
        "html",
        _head(title),
        element(
            "body",
            element("a", "Skip to the findings", class_="skip", href="#findings"),
            top,
            _notes(review, shown, snippets),
            _controls(shown.places),
            element(
                "div",
                _index(shown.places),
                element(
                    "main",
                    element("h2", "Findings", class_="hidden"),
                    *shown.articles,
                    element("p", _NONE, class_="none", hidden=True),
                    rest,
                    id="findings",
                    class_=style,
                ),
                class_="columns",
            ),
            _footer(review.meta),
            _help(),
            Markup(f"<script>{_file('report.js')}</script>"),
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


# --- the head


@cache
def _file(name: str) -> str:
    """A file of the page's own, as it stands in the page."""
    return (files(__package__ or "") / name).read_text("utf-8").strip()


def _head(title: str) -> Markup:
    policy = (
        "default-src 'none'",
        f"style-src {_hash(_file('report.css'))}",
        f"script-src {_hash(_file('report.js'))}",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        Markup(
            f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">'
        ),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex, nofollow"),
        element("meta", name="generator", content=f"codex-counsel {__version__}"),
        element("title", title),
        Markup(f"<style>{_file('report.css')}</style>"),
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


# --- the top: verdict, counts, facts


def _top(review: Envelope) -> Markup:
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
        _table(details),
    ]


def _counts(review: Envelope) -> Content:
    """How many findings there are: those that count by severity, then those of a special state."""
    findings = review.findings
    if findings is None:
        return None
    rejected = sum(finding.known == "rejected" for finding in findings)
    states = {
        "returned": sum(finding.known == "returned" for finding in findings),
        "carried over": sum(bool(finding.carried) for finding in findings),
        "rejected": rejected,
        "resolved": len(review.resolved or ()),
    }
    severities = Counter(
        finding.severity for finding in findings if finding.known != "rejected"
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
        "Tokens": _tokens(meta.usage) if meta.usage else None,
        "Time": _duration(meta),
    }
    return _table(facts)


def _table(facts: Mapping[str, str | None]) -> Markup:
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


def _tokens(usage: Usage) -> str:
    return f"{usage.input:,} in ({usage.cached_input:,} cached), {usage.output:,} out"


def _duration(meta: Meta) -> str:
    if meta.elapsed_ms is None:
        return ""
    minutes, seconds = divmod(meta.elapsed_ms / 1000, 60)
    if minutes:
        return f"{minutes:.0f} min {seconds:.0f} s"
    return f"{seconds:.1f} s"


# --- what a reader must know before the findings


def _notes(review: Envelope, shown: _Shown, snippets: Mapping[str, Snippet]) -> Content:
    """Warnings, and what lacks: of the change, of the tokens, of this page."""
    notes = []
    coverage = review.coverage
    if coverage and not coverage.complete:
        notes.append("NOT all of the change was seen: see Coverage.")
    budget = review.meta.budget_reached
    if budget:
        notes.append(f"The run was cut short: it used up its {budget.limit:,} tokens.")
    for warning in review.meta.warnings[:MAX_LISTED]:
        notes.append(one_line(in_terminal_words(warning), MAX_ENTRY))
    notes += _missing_code(shown.places, snippets)
    if shown.without_code:
        findings = counted(shown.without_code, "finding")
        notes.append(f"The code of {findings} was left out: the page would be too big.")
    if shown.left_out:
        findings = counted(shown.left_out, "finding")
        notes.append(f"{findings} were left out, the last ones: see --format json.")
    if not notes:
        return None
    items = [element("li", note, dir="auto") for note in notes]
    return element(
        "section",
        element("h2", "Notes", class_="hidden"),
        element("ul", *items),
        class_="notes",
    )


def _missing_code(
    places: list[Place], snippets: Mapping[str, Snippet]
) -> Iterable[str]:
    """One note for each reason why findings stand without their code."""
    shown = [snippets.get(place.key, NO_CODE) for place in places]
    reasons = Counter(snippet.note for snippet in shown if snippet.note)
    for reason, count in reasons.items():
        yield f"{counted(count, 'finding')} without code: {reason}."


# --- the findings


def _places(findings: list[Finding]) -> list[Place]:
    """The findings with their anchors; the files are numbered in the order of their names."""
    names = sorted({finding.file for finding in findings if finding.file})
    numbers = {name: number for number, name in enumerate(names, 1)}
    places = []
    for index, finding in enumerate(findings):
        number = numbers.get(finding.file or "", 0)
        places.append(
            Place(finding, snippet_key(finding, index), index + 1, file_number=number)
        )
    return places


@dataclass(frozen=True)
class _Shown:
    """The findings of the page, as far as it has room: the gravest come first.

    `without_code` counts those of them whose code was left out, `left_out` those that
    were left out themselves.
    """

    places: list[Place]
    articles: list[Markup]
    without_code: int
    left_out: int


def _fit(review: Envelope, snippets: Mapping[str, Snippet], room: int) -> _Shown:
    """As many findings as `room` (bytes) is enough for, then the code of as many of them."""
    places = _places(review.findings or [])
    bare = []
    for place in places:
        text = article(place, NO_CODE)
        room -= size(text) + size(_entry(place)) + size(_option(place))
        if room < 0:
            break
        bare.append(text)

    articles = []
    without_code = 0
    for place, text in zip(places, bare, strict=False):
        whole = article(place, snippets.get(place.key, NO_CODE))
        growth = size(whole) - size(text)
        if growth <= room:
            room -= growth
            articles.append(whole)
        else:
            without_code += 1
            articles.append(text)
    return _Shown(
        places[: len(bare)], articles, without_code, left_out=len(places) - len(bare)
    )


def _index(places: list[Place]) -> Content:
    """Links to the findings, for a wide window."""
    if len(places) < 2:
        return None
    items = [_entry(place) for place in places]
    return element("nav", element("ol", *items), class_="index", aria_label="Findings")


def _entry(place: Place) -> Markup:
    finding = place.finding
    link = element(
        "a",
        element("span", inline(title_of(finding)), class_="name", dir="auto"),
        element("span", place.short_location, class_="where"),
        href=f"#{place.anchor}",
        class_=finding.severity,
    )
    return element("li", link)


# --- what follows the findings


def _rest(review: Envelope) -> list[Content]:
    parts: list[Content] = []
    if review.answer:
        title = "Answer"
        if review.error:
            title = "Interim message, no finished review"
        parts.append(_section(title, prose(review.answer, MAX_ANSWER)))
    if review.resolved:
        items = [_resolved(entry) for entry in review.resolved[: MAX_LISTED + 1]]
        parts.append(_section("Resolved", _folded(items, "resolved")))
    for name, entries in lists_of(review).items():
        items = []
        for entry in entries[: MAX_LISTED + 1]:
            items.append(element("li", one_line(entry, MAX_ENTRY), dir="auto"))
        title = name.replace("_", " ").capitalize()
        parts.append(_section(title, _folded(items, "entries")))
    if review.coverage:
        parts.append(_section("Coverage", *_coverage(review.coverage)))
    return parts


def _section(title: str, *content: Content) -> Markup:
    return element("section", element("h2", title), *content, class_="more")


def _folded(items: list[Markup], style: str) -> Markup:
    """A list; what goes beyond `SHOWN_AT_ONCE` is unfolded by a click, and beyond `MAX_LISTED` it is left out."""
    shown = element("ul", *items[:SHOWN_AT_ONCE], class_=style)
    rest = items[SHOWN_AT_ONCE:MAX_LISTED]
    if not rest:
        return shown
    summary = f"{len(rest):,} more"
    if len(items) > MAX_LISTED:
        summary += ", and others that are not listed here"
    details = element(
        "details", element("summary", summary), element("ul", *rest, class_=style)
    )
    return joined([shown, details])


def _resolved(entry: Resolved) -> Markup:
    where: Content = None
    if entry.file:
        where = element("code", one_line(entry.file, 500))
    return element(
        "li",
        tag(entry.state),
        tag(entry.severity, entry.severity),
        element("span", inline(one_line(entry.title, 300)), dir="auto"),
        where,
        element("code", one_line(entry.id, 64), class_="id"),
    )


def _coverage(coverage: Coverage) -> list[Content]:
    extent = "NOT all of the change was seen."
    if coverage.complete:
        extent = "All of the change was seen."
    if coverage.files:
        sent = f"{counted(coverage.files, 'file')}, {counted(coverage.bytes, 'byte')}"
        extent = f"{sent} sent. {extent}"
    if coverage.redactions:
        extent += f" {counted(coverage.redactions, 'secret')} masked."
    parts: list[Content] = [element("p", extent)]

    omitted = [_omission(omission) for omission in coverage.omitted]
    if omitted:
        parts += [element("h3", "Left out"), _folded(omitted, "entries")]
    seen = [_seen(review) for review in coverage.seen or ()]
    if seen:
        parts += [element("h3", "Seen by earlier reviews"), _folded(seen, "entries")]
    rules = []
    for line in rule_file_lines(coverage):
        rules.append(element("li", line.removeprefix("review rules: ")))
    if rules:
        parts += [element("h3", "Review rules"), _folded(rules, "entries")]
    return parts


def _omission(omission: Omission) -> Markup:
    reason = omission.reason.replace("_", " ")
    if omission.bytes:
        reason += f", {counted(omission.bytes, 'byte')}"
    return element("li", element("code", omission.path), f" {reason}")


def _seen(review: SeenEarlier) -> Markup:
    revision = ""
    if review.head_sha:
        revision = f" at {review.head_sha[:12]}"
    words = f"{counted(review.files, 'file')}{revision}, {review.ended}, job "
    return element("li", words, element("code", review.job_id))


# --- controls, for JavaScript


def _controls(places: list[Place]) -> Content:
    """Filters; hidden until the script shows them. None where there is nothing to filter."""
    if len(places) < 2:
        return None
    severities = Counter(place.finding.severity for place in places)
    states = Counter(place.finding.known for place in places)
    groups: list[Content] = [
        _toggles("severity", "Severity", severities, SEVERITIES),
    ]
    if len(states) > 1:
        groups.append(_toggles("known", "State", states, KNOWNS))
    return element(
        "div",
        *groups,
        _files(places),
        element(
            "input",
            type="search",
            name="text",
            placeholder="Filter by text",
            aria_label="Filter by text",
            autocomplete="off",
            spellcheck="false",
            maxlength=200,
        ),
        element("output", class_="shown", aria_live="polite"),
        element("button", "Show all", type="button", class_="reset", hidden=True),
        element(
            "button", "?", type="button", class_="keys", aria_label="Keyboard shortcuts"
        ),
        class_="controls",
        role="search",
        aria_label="Filters",
        hidden=True,
    )


def _toggles(
    name: str, label: str, counts: Mapping[Any, int], order: Iterable[str]
) -> Markup:
    buttons = []
    for value in order:
        if counts[value]:
            number = element("span", str(counts[value]), class_="number")
            buttons.append(
                element(
                    "button",
                    f"{value} ",
                    number,
                    type="button",
                    class_=value,
                    aria_pressed="true",
                    data_filter=name,
                    data_value=value,
                )
            )
    return element("div", *buttons, class_="toggles", role="group", aria_label=label)


def _files(places: list[Place]) -> Content:
    options = {place.file_number: _option(place) for place in places}
    if len(options) < 2:
        return None
    ordered = [options[number] for number in sorted(options)]
    every = element("option", "All files", value="")
    return element("select", every, *ordered, name="file", aria_label="File")


def _option(place: Place) -> Markup:
    name = one_line(place.finding.file or "", 200) or "No file"
    return element("option", name, value=place.file_number)


def _help() -> Markup:
    keys = {
        "j": "next finding",
        "k": "previous finding",
        "1 to 5": "show or hide a severity, from critical to nit",
        "/": "filter by text",
        "0": "show all",
        "?": "this list",
        "Esc": "leave the filter, close this list",
    }
    rows = []
    for key, meaning in keys.items():
        term = element("dt", element("kbd", key))
        rows.append(element("div", term, element("dd", meaning)))
    close = element("button", "Close", type="submit")
    return element(
        "dialog",
        element("h2", "Keys"),
        element("dl", *rows),
        element("form", close, method="dialog"),
        id="keys",
        aria_label="Keyboard shortcuts",
    )


def _footer(meta: Meta) -> Markup:
    return element(
        "footer",
        _table({"Job": meta.job_id, "Thread": meta.session_id}),
        element(
            "p",
            f"Written by codex-counsel {__version__}. The findings are the opinion of a model; "
            "“verified” says that the quoted text stands where the finding says, and no more.",
        ),
    )
