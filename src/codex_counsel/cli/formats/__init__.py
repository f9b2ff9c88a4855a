"""A review as a document for another reader than a person at a terminal: one module for each format."""

from __future__ import annotations

from collections.abc import Callable

from codex_counsel.cli.formats.github import github
from codex_counsel.cli.formats.gitlab import gitlab
from codex_counsel.cli.formats.junit import junit
from codex_counsel.cli.formats.markdown import markdown
from codex_counsel.cli.formats.rdjson import rdjson
from codex_counsel.cli.formats.sarif import sarif
from codex_counsel.cli.output import json_text
from codex_counsel.contract.envelope import Envelope
from codex_counsel.system.json_values import Json


def render(review: Envelope, name: str) -> str:
    """The review, or the failure of one, in a format of `parser.FORMATS` other than `text`."""
    if name in _JSON:
        return json_text(_JSON[name](review))
    return _TEXT[name](review)


def _html(review: Envelope) -> str:
    # The other formats do without git and the records of jobs.
    from codex_counsel.cli.formats.html import html
    from codex_counsel.services.code_context import snippets
    from codex_counsel.services.results import open_store

    return html(review, snippets(open_store(), review))


_JSON: dict[str, Callable[[Envelope], Json]] = {
    "json": Envelope.wire,
    "sarif": sarif,
    "rdjson": rdjson,
    "gitlab": gitlab,
}
_TEXT: dict[str, Callable[[Envelope], str]] = {
    "markdown": markdown,
    "html": _html,
    "github": github,
    "junit": junit,
}
