"""No text of a review does anything in any format: not the model's, not a caller's, not that of a name.

Each text field holds everything that is known to deceive readers, terminals, runners
and sites. The document must be the one that it is with plain words in that field:
parsed by the format's own rules, it has the same structure.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any, TextIO, cast
from xml.etree.ElementTree import Element, fromstring

import pytest

from codex_counsel.cli.output import GuardedStream
from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.contract.envelope import Envelope
from codex_counsel.system.json_values import Json
from tests import hostile
from tests.unit.test_formats import (
    COVERAGE,
    FAILURE,
    META,
    PROVEN,
    in_format,
    review,
)
from tests.unit.test_formats_schemas import RESOLVED, SUGGESTION
from tests.unit.test_inert_markdown import ALLOWED, OURS
from tests.unit.test_inert_markdown import assert_inert as assert_inert_markdown

SEEN = {"job_id": "f" * 32, "ended": "2026-11-22T10:00:00Z", "files": 3}
RULE_FILE = {"path": "AGENTS.md", "folder": "./", "bytes": 1}
REJECTED = {"known": "rejected"}


def in_finding(name: str) -> Callable[[str], Envelope]:
    return lambda text: review({name: text})


def in_proof(name: str) -> Callable[[str], Envelope]:
    proof = PROVEN["proof"]
    return lambda text: review(PROVEN | {"proof": proof | {name: text}})


def in_coverage(
    name: str, entry: dict[str, Any], key: str
) -> Callable[[str], Envelope]:
    return lambda text: review({}, coverage=COVERAGE | {name: [entry | {key: text}]})


def in_resolved(name: str) -> Callable[[str], Envelope]:
    return lambda text: review({}, resolved=[RESOLVED[0] | {name: text}])


def in_meta(name: str) -> Callable[[str], Envelope]:
    return lambda text: review({}, meta=META | {name: text})


def in_failure(name: str) -> Callable[[str], Envelope]:
    failure = FAILURE.wire()
    return lambda text: Envelope.parse(
        failure | {"error": failure["error"] | {name: text}}
    )


FIELDS: dict[str, Callable[[str], Envelope]] = {
    **{
        name: in_finding(name)
        for name in ("title", "file", "evidence", "risk", "recommendation", "id")
    },
    "section": lambda text: review({"section": text, "file": ""}),
    "reason": lambda text: review(REJECTED | {"reason": text}),
    "rule.file": lambda text: review({"rule": {"file": text, "quote": "Do it."}}),
    "rule.quote": lambda text: review({"rule": {"file": "A.md", "quote": text}}),
    "suggestion": lambda text: review(
        {"suggestion": SUGGESTION | {"replacement": text}}
    ),
    **{
        f"proof.{name}": in_proof(name)
        for name in ("reason", "command", "patch", "output_tail", "job_id")
    },
    "summary": lambda text: review({}, summary=text),
    "answer": lambda text: review(answer=text, verdict="unknown", findings=None),
    **{
        name: lambda text, name=name: review({}, **{name: [text]})  # type: ignore[misc]
        for name in ("questions", "assumptions", "next_steps")
    },
    "warnings": lambda text: review({}, meta=META | {"warnings": [text]}),
    **{name: in_meta(name) for name in ("session_id", "job_id", "model", "effort")},
    **{f"resolved.{name}": in_resolved(name) for name in ("id", "title", "file")},
    "omitted": in_coverage("omitted", {"reason": "binary"}, "path"),
    "rules": in_coverage("rules", RULE_FILE, "path"),
    "seen.job_id": in_coverage("seen", SEEN, "job_id"),
    "seen.head_sha": in_coverage("seen", SEEN, "head_sha"),
    "seen.ended": in_coverage("seen", SEEN, "ended"),
    "error.message": in_failure("message"),
    "error.repair": in_failure("repair"),
}


def printed(given: Envelope, name: str) -> str:
    """The document as the command line prints it in a workflow."""
    text = in_format(given, name)
    # These commands are ours: they go past the guard.
    if name == "github":
        return text
    stream = io.StringIO()
    GuardedStream(cast("TextIO", stream), in_workflow=True).write(text)
    return stream.getvalue()


class Page(HTMLParser):
    """The tags of a page, and the values of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts = 0
        self.comments = 0
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("href", "src", "action", "style", "srcset"):
                self.addresses.append(value or "")

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def shape(value: Json) -> Json:
    """The value with its texts left out."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, str):
        return ""
    return value


def strings(value: Json) -> Iterator[str]:
    """Every text of the value."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from strings(item)


def elements(element: Element) -> list[Any]:
    names = sorted(element.keys())
    return [element.tag, names, [elements(child) for child in element]]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_hostile_text_changes_nothing_but_itself(name: str, field: str) -> None:
    output = printed(FIELDS[field](hostile.ALL), name)
    plain = printed(FIELDS[field]("plain words"), name)
    assert hostile.hidden_characters(output) <= {"\ufe0f", "\r"}
    output.encode()
    if name == "github":
        assert_only_annotations(output, plain)
        return
    assert hostile.obeyed_commands(output) == []
    if name in ("json", "sarif", "rdjson", "gitlab"):
        document = json.loads(output)
        assert shape(document) == shape(json.loads(plain))
        # JSON spells them as escapes, and who parses it has them again.
        for text in strings(document):
            assert hostile.hidden_characters(text) <= {"\ufe0f", "\r"}
    if name == "sarif":
        assert_no_links(json.loads(output))
    if name == "junit":
        assert elements(fromstring(output)) == elements(fromstring(plain))
    if name == "markdown":
        assert_inert_markdown(output, ALLOWED | OURS)
    if name == "html":
        assert_same_page(Page(output), Page(plain))


def assert_only_annotations(output: str, plain: str) -> None:
    """The same commands with the same properties, and no other."""
    rows, plain_rows = output.split("\n"), plain.split("\n")
    assert len(rows) == len(plain_rows)
    for row, plain_row in zip(rows, plain_rows, strict=True):
        head, plain_head = (line.split("::")[1] for line in (row, plain_row))
        assert head.partition(" ")[0] == plain_head.partition(" ")[0]
        assert _properties(head) == _properties(plain_head)
        assert not re.search(r"##\w*\[|\r", row)


def _properties(head: str) -> list[str]:
    """The names of the properties of a command, as GitHub's runner finds them."""
    values = head.partition(" ")[2].split(",")
    return [value.partition("=")[0] for value in values]


def assert_no_links(log: dict[str, Any]) -> None:
    (run,) = log["runs"]
    for result in run["results"]:
        assert "](" not in result["message"]["text"]
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[\w.%~-][\w./%~-]*", uri)
    (invocation,) = run["invocations"]
    for notification in invocation["toolExecutionNotifications"]:
        assert "](" not in notification["message"]["text"]


def assert_same_page(page: Page, plain: Page) -> None:
    assert page.tags - plain.tags <= {"p", "pre", "code", "br", "span", "wbr"}
    assert (page.scripts, page.comments) == (plain.scripts, plain.comments)
    for address in page.addresses:
        assert address.startswith("#")


@pytest.mark.parametrize("name", FORMATS)
def test_every_text_that_deceives_alone_is_inert_in_a_title(name: str) -> None:
    for text in hostile.TEXTS.values():
        output = printed(review({"title": text, "file": text}, summary=text), name)
        commands = hostile.obeyed_commands(output)
        if name == "github":
            commands = [row for row in commands if not row.startswith("::")]
        assert commands == []
        assert hostile.hidden_characters(output) <= {"\ufe0f", "\r"}


@pytest.mark.parametrize("name", FORMATS)
def test_texts_without_end_make_a_document_all_the_same(name: str) -> None:
    text = "a\n" * 50_000
    proof = dict.fromkeys(("reason", "command", "patch", "output_tail"), text)
    finding = {"title": text, "risk": text, "evidence": text}
    output = printed(review(finding | {"proof": PROVEN["proof"] | proof}), name)
    assert len(output) < 3_000_000
