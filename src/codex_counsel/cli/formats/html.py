"""A review as one page of HTML: the findings beside their code. It loads nothing, and runs no script but its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codex_counsel import __version__
from codex_counsel.cli.formats.html_controls import controls, file_option, list_of_keys
from codex_counsel.cli.formats.html_document import document
from codex_counsel.cli.formats.html_finding import Place, article, inline, prose, tag
from codex_counsel.cli.formats.html_top import table, top
from codex_counsel.cli.formats.markup import Content, Markup, element, joined
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    counted,
    lists_of,
    project_file_line,
    rule_file_lines,
    skipped_words,
    title_of,
)
from codex_counsel.cli.words import in_terminal_words
from codex_counsel.contract.envelope import (
    Coverage,
    Envelope,
    Finding,
    Meta,
    Omission,
    ProjectFile,
    Resolved,
    SeenEarlier,
)
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
_NUMBERS = {"1 to 5": "show or hide a severity, from critical to nit"}


def html(review: Envelope, snippets: Mapping[str, Snippet]) -> str:
    """A complete document. `snippets` is the code for the findings, by `snippet_key`.

    It works without JavaScript, which only adds filters and keys.
    """
    head = top(review)
    rest = joined(_rest(review))
    shown = _fit(review, snippets, MAX_PAGE - size(head) - size(rest) - _FRAME)
    title = f"{review.verdict or review.status}: Codex review"
    if review.findings:
        title += f", {counted(len(review.findings), 'finding')}"
    style = ""
    if len(shown.articles) > MANY:
        style = "many"
    return document(
        title,
        element("a", "Skip to the findings", class_="skip", href="#findings"),
        head,
        _notes(review, shown, snippets),
        controls(shown.places),
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
        list_of_keys("finding", _NUMBERS),
    )


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
    items = [element("li", inline(note), dir="auto") for note in notes]
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
        room -= size(text) + size(_entry(place)) + size(file_option(place))
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
        coverage_parts = _coverage(review.coverage, review.meta.project_file)
        parts.append(_section("Coverage", *coverage_parts))
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


def _coverage(coverage: Coverage, file: ProjectFile | None) -> list[Content]:
    extent = "NOT all of the change was seen"
    if coverage.complete:
        extent = "All of the change was seen"
    extent += f"{skipped_words(coverage)}."
    if coverage.files:
        sent = f"{counted(coverage.files, 'file')}, {counted(coverage.bytes, 'byte')}"
        extent = f"{sent} sent. {extent}"
    if coverage.redactions:
        extent += f" {counted(coverage.redactions, 'secret')} masked."
    parts: list[Content] = [element("p", extent)]
    if file:
        parts.append(element("p", project_file_line(file)))

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


def _footer(meta: Meta) -> Markup:
    return element(
        "footer",
        table({"Job": meta.job_id, "Thread": meta.session_id}),
        element(
            "p",
            f"Written by codex-counsel {__version__}. The findings are the opinion of a model; "
            "“verified” says that the quoted text stands where the finding says, and no more; “proven” "
            "says that a test was run that fails because of it.",
        ),
    )
