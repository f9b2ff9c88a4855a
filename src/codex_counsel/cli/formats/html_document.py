"""A page of HTML around its content: it loads nothing, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from codex_counsel import __version__
from codex_counsel.cli.formats.markup import Content, Markup, element

STYLE = "report.css"
SCRIPT = "report.js"


def document(title: str, *body: Content, style: str = "", class_: str = "") -> str:
    """A complete document. `style` is one more style sheet of this package, `class_` that of the body.

    It works without JavaScript, which only adds filters and keys.
    """
    sheet = _file(STYLE)
    if style:
        sheet += f"\n{_file(style)}"
    page = element(
        "html",
        _head(title, sheet),
        element(
            "body",
            *body,
            Markup(f"<script>{_file(SCRIPT)}</script>"),
            class_=class_ or False,
        ),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


@cache
def _file(name: str) -> str:
    """A file of the page's own, as it stands in the page."""
    return (files(__package__ or "") / name).read_text("utf-8").strip()


def _head(title: str, sheet: str) -> Markup:
    policy = (
        "default-src 'none'",
        f"style-src {_hash(sheet)}",
        f"script-src {_hash(_file(SCRIPT))}",
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
        Markup(f"<style>{sheet}</style>"),
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
