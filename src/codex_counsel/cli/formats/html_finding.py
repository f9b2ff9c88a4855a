"""One finding of the HTML page: its head, its code, the reviewer's words, the suggestion, the proof."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codex_counsel.cli.formats.html_code import figure, row
from codex_counsel.cli.formats.html_proof import proof_section, proof_status
from codex_counsel.cli.formats.markup import Content, Markup, element, joined
from codex_counsel.cli.review_text import MAX_ENTRY, title_of
from codex_counsel.contract.envelope import Finding, Suggestion
from codex_counsel.contract.vocabulary import FINDING_ID
from codex_counsel.services.code_context import Snippet, cut_line
from codex_counsel.system.text import one_line

MAX_TEXT = 20_000
"""Characters of one text of the reviewer."""
MAX_QUOTED = 100
"""Lines of a quotation."""
_FENCE = re.compile(r"^\s*(?:```|~~~)\S*\s*$")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]{1,500})`|\*\*(?P<strong>[^*\s][^*\n]{0,500})\*\*"
)
_TRUST = {
    "proven": "The quoted text stands here, and a test that was run shows the failure.",
    "verified": "The quoted text stands in these lines.",
    "moved": "The quoted text stands here, and not where the reviewer said.",
    "unverified": "The quoted text was not found where the finding says.",
}


@dataclass(frozen=True)
class Place:
    """A finding on the page. `number` counts from 1, and so do the files; 0 is no file. `key` is that of its code."""

    finding: Finding
    key: str
    number: int
    file_number: int

    @property
    def anchor(self) -> str:
        """The id of the element; the same in every review where the finding has an id."""
        if re.match(FINDING_ID, self.finding.id or ""):
            return f"f-{self.finding.id}"
        return f"f-{self.number}"

    @property
    def location(self) -> str:
        """`src/app.py:3-5`, or the section of a plan."""
        finding = self.finding
        if not finding.file:
            return one_line(finding.section or "no place named", 500)
        where = one_line(finding.file, 500)
        if finding.line:
            where += f":{finding.line}"
        if finding.line_end not in (None, finding.line):
            where += f"-{finding.line_end}"
        return where

    @property
    def short_location(self) -> str:
        """Without the folders."""
        return self.location.rpartition("/")[2]


def article(place: Place, snippet: Snippet) -> Markup:
    """The finding. What the snippet lacks is left out: then the quoted text stands alone."""
    finding = place.finding
    label = f"title-{place.number}"
    return element(
        "article",
        element(
            "header",
            element("p", *_tags(finding), class_="tags"),
            element("h3", inline(title_of(finding)), id=label, dir="auto"),
            element("p", _location(place), *_trust(finding), class_="place"),
        ),
        _reason(finding),
        _quotation(finding, snippet),
        _code(finding, snippet),
        _words("Risk", finding.risk),
        _words("Recommendation", finding.recommendation),
        _suggestion(finding.suggestion, snippet.replaced),
        _rule(finding),
        proof_section(finding.proof),
        id=place.anchor,
        class_=_style(finding),
        tabindex="-1",
        aria_labelledby=label,
        data_severity=finding.severity,
        data_known=finding.known or "",
        data_proof=proof_status(finding),
        data_file=place.file_number,
    )


def _style(finding: Finding) -> str:
    words = ["finding", finding.severity]
    if finding.known:
        words.append(finding.known)
    if finding.is_refuted:
        words.append("refuted")
    return " ".join(words)


def tag(words: str, style: str = "") -> Markup:
    """A word in a frame."""
    return element("span", words.replace("_", " "), class_=f"tag {style}".rstrip())


def _tags(finding: Finding) -> list[Content]:
    tags: list[Content] = [tag(finding.severity, finding.severity)]
    if finding.known:
        tags.append(tag(finding.known, f"known {finding.known}"))
    if finding.carried:
        tags.append(tag("carried over"))
    if finding.proof:
        tags.append(tag(finding.proof.status, finding.proof.status))
    if finding.category:
        tags.append(tag(finding.category))
    if finding.id:
        tags.append(element("code", finding.id, class_="id"))
    return tags


def _location(place: Place) -> Markup:
    """The place, which may break after each folder."""
    folders = place.location.split("/")
    parts: list[Content] = [folders[0]]
    for folder in folders[1:]:
        parts += ["/", element("wbr"), folder]
    return element("code", *parts)


def _trust(finding: Finding) -> list[Content]:
    grounded = finding.grounded or "unverified"
    parts: list[Content] = [
        element("span", grounded, class_=f"trust {grounded}", title=_TRUST[grounded])
    ]
    if finding.in_diff is False:
        parts.append(element("span", "outside the change", class_="trust"))
    return parts


def _reason(finding: Finding) -> Content:
    if not finding.reason:
        return None
    words = f"{(finding.known or 'settled').capitalize()}: {finding.reason}"
    return element("p", one_line(words, MAX_ENTRY), class_="reason", dir="auto")


def _words(title: str, text: str | None) -> Content:
    if not text:
        return None
    return element(
        "div", element("h4", title), prose(text), class_=f"words {title.lower()}"
    )


def _rule(finding: Finding) -> Content:
    if finding.rule is None:
        return None
    quote = element("q", one_line(finding.rule.quote, MAX_ENTRY), dir="auto")
    file = element("code", one_line(finding.rule.file, 500))
    return element("p", "Rests on a rule of ", file, ": ", quote, class_="rule")


# --- code


def _quotation(finding: Finding, snippet: Snippet) -> Content:
    """What the reviewer quoted, unless it stands among the lines of the snippet."""
    if not finding.evidence or snippet.evidence == "shown":
        return None
    title = "Quoted by the reviewer"
    if snippet.note:
        title += f"; {snippet.note}"
    style = "code"
    if snippet.evidence == "removed":
        title = "Removed by the change"
        style = "code removed"
    lines = finding.evidence.splitlines()
    if len(lines) > MAX_QUOTED:
        title += f"; the first {MAX_QUOTED} of {len(lines):,} lines"
    rows = [row(cut_line(line)) for line in lines[:MAX_QUOTED]]
    return figure(title, rows, style)


def _code(finding: Finding, snippet: Snippet) -> Content:
    if not snippet.lines:
        return None
    first = finding.line or 0
    last = max(finding.line_end or first, first)
    rows = []
    for number, line in enumerate(snippet.lines, snippet.start):
        style = ""
        if first <= number <= last:
            style = "hit"
        rows.append(row(line, style, number))
    title = "Code as it was reviewed"
    if snippet.evidence == "absent" and finding.evidence:
        title = "Code at the lines that the finding names"
    if last >= snippet.start + len(snippet.lines):
        title += f", to line {snippet.start + len(snippet.lines) - 1} of {last}"
    return figure(title, rows)


def _suggestion(
    suggestion: Suggestion | None, replaced: tuple[str, ...] | None
) -> Content:
    """The suggestion as a small diff; where the old lines are not known, the new ones alone."""
    if suggestion is None:
        return None
    old = list(replaced or ())
    new = _shortened(suggestion.replacement).splitlines()
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    rows = [row(line) for line in old[:start]]
    rows += [row(line, "del") for line in old[start : len(old) - end]]
    rows += [row(line, "ins") for line in new[start : len(new) - end]]
    rows += [row(line) for line in new[len(new) - end :]]

    lines = f"line {suggestion.start_line}"
    if suggestion.end_line != suggestion.start_line:
        lines = f"lines {suggestion.start_line}-{suggestion.end_line}"
    title = f"Suggestion: replace {lines}"
    if not new:
        title = f"Suggestion: remove {lines}"
    return figure(title, rows, "code diff")


def _common(first: list[str], second: list[str]) -> int:
    """How many lines both begin with."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


# --- prose


def prose(text: str, limit: int = MAX_TEXT) -> Markup:
    """Paragraphs as the reviewer broke them; code in fences and between backticks is set as code.

    Of a longer text than `limit` (characters) it is the beginning, and says so.
    """
    blocks: list[Content] = []
    lines: list[str] = []
    is_code = False
    for line in _shortened(text, limit).splitlines():
        if _FENCE.match(line):
            blocks.append(_block(lines, is_code=is_code))
            lines = []
            is_code = not is_code
        elif line.strip() or is_code:
            lines.append(line)
        else:
            blocks.append(_block(lines))
            lines = []
    blocks.append(_block(lines, is_code=is_code))
    return joined(blocks)


def _block(lines: list[str], *, is_code: bool = False) -> Content:
    if not lines:
        return None
    text = "\n".join(lines)
    if is_code:
        return element("pre", element("code", text, dir="ltr"), tabindex="0")
    return element("p", inline(text), dir="auto")


def inline(text: str) -> Markup:
    """The text, with what stands between backticks as code and what stands between double asterisks as strong."""
    parts: list[Content] = []
    end = 0
    for match in _INLINE.finditer(text):
        parts.append(text[end : match.start()])
        name = str(match.lastgroup)
        parts.append(element(name, match[name]))
        end = match.end()
    parts.append(text[end:])
    return joined(parts)


def _shortened(text: str, limit: int = MAX_TEXT) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}…\n\n({len(text) - limit:,} more characters)"
