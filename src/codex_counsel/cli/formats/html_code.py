"""Lines of code on a page of HTML."""

from __future__ import annotations

from codex_counsel.cli.formats.markup import Content, Markup, element


def figure(title: str, rows: list[Markup], style: str = "code") -> Content:
    """Lines of code under a title. They scroll in their own frame, by keyboard too."""
    if not rows:
        return element("p", title, class_="caption")
    code = element("code", *rows, dir="ltr")
    return element(
        "figure",
        element("figcaption", title),
        element("pre", code, tabindex="0", role="group", aria_label=title),
        class_=style,
    )


def row(line: str, style: str = "", number: int = 0) -> Markup:
    attributes: dict[str, str | int] = {}
    if style:
        attributes["class_"] = style
    if number:
        attributes["data_line"] = number
    return element("span", f"{line}\n", **attributes)
