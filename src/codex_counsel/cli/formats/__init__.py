"""A review as a document for another reader than a person at a terminal: one module for each format."""

from __future__ import annotations

from codex_counsel.cli.formats.github import github
from codex_counsel.cli.formats.markdown import markdown
from codex_counsel.cli.formats.sarif import sarif
from codex_counsel.cli.output import json_text
from codex_counsel.contract.envelope import Envelope


def render(review: Envelope, name: str) -> str:
    """The review, or the failure of one, in a format of `parser.FORMATS` other than `text`."""
    match name:
        case "markdown":
            return markdown(review)
        case "json":
            return json_text(review.wire())
        case "sarif":
            return json_text(sarif(review))
        case "github":
            return github(review)
        case "html":
            return _html(review)
    raise ValueError(f"there is no format {name!r}")


def _html(review: Envelope) -> str:
    # The other formats do without git and the records of jobs.
    from codex_counsel.cli.formats.html import html
    from codex_counsel.services.code_context import snippets
    from codex_counsel.services.results import open_store

    return html(review, snippets(open_store(), review))
