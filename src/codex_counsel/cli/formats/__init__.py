"""A review as a document for another reader than a person at a terminal: one module for each format."""

from __future__ import annotations

from importlib import import_module

from codex_counsel.cli.output import json_text
from codex_counsel.contract.envelope import Envelope

COMPARISON = "codex-counsel compare"
"""The tool of a result that is no review, and has a page too."""
BATCH = "codex-counsel batch"
"""The tool of the findings of a batch, as one review."""
_JSON = ("sarif", "rdjson", "gitlab")


def render(review: Envelope, name: str) -> str:
    """The review, or the failure of one, in a format of `verb_table.FORMATS` other than `text`."""
    if name == "json":
        return json_text(review.wire())
    if name == "html":
        return _html(review)
    # No format waits for what another one needs, such as an XML library.
    module = import_module(f"{__name__}.{name}")
    document = getattr(module, name)(review)
    if name in _JSON:
        return json_text(document)
    return str(document)


def _html(review: Envelope) -> str:
    if review.tool == COMPARISON:
        from codex_counsel.cli.formats.compare_html import compare_html

        return compare_html(review)
    # The other formats do without git and the records of jobs.
    from codex_counsel.cli.formats.html import html

    if review.tool == BATCH:
        # It is of many jobs, and `summary.html` has their code.
        return html(review, {})

    from codex_counsel.services.code_context import snippets
    from codex_counsel.services.results import open_store

    return html(review, snippets(open_store(), review))
