"""HTML pages as the tests read them: strict about what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = ("meta", "input", "br", "wbr")


@dataclass
class Node:
    """An element with what is in it, in order."""

    name: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it."""
        parts = []
        for child in self.children:
            parts.append(child if isinstance(child, str) else child.text)
        return "".join(parts)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def all(self, name: str = "", style: str = "") -> list[Node]:
        """The elements in it, in the order of the page: those of this name, of this class."""
        found = []
        for child in self.children:
            if isinstance(child, str):
                continue
            if name in ("", child.name) and (not style or style in child.classes):
                found.append(child)
            found += child.all(name, style)
        return found

    def one(self, name: str = "", style: str = "") -> Node:
        (node,) = self.all(name, style)
        return node


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("")
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice"
        node = Node(tag, attributes)
        self._open[-1].children.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    def finish(self) -> Node:
        self.close()
        assert self._open == [self.root], "an element is not closed"
        return self.root


def parse_page(text: str) -> Node:
    """The document. Comments, elements that are not closed, and attributes given twice are refused."""
    builder = _Builder()
    builder.feed(text)
    return builder.finish()
