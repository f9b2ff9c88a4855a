"""The parts of a prompt: files of this package, and material between tags that it cannot forge. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line, size, visible

CODEX_LIMIT = 1_048_576
"""Characters of a prompt that Codex accepts; above, it ends with a bare exit code 1."""
MAX_LISTED = 300
"""Rows of a list of file names."""
MAX_LISTED_CHARACTERS = 40_000
"""Characters of all rows of such a list."""

_NAME_CHARACTERS = str.maketrans('"<>', "'()")
"""What would end the attribute of a tag is replaced."""


@dataclass(frozen=True)
class Material:
    """Text that is data, not instructions: where it comes from and what it says."""

    name: str
    text: str


@cache
def prompt_file(name: str) -> str:
    """A prompt file of this package."""
    return (files("codex_counsel") / "prompts" / f"{name}.md").read_text("utf-8")


def read_only(*, network: bool = False) -> str:
    """What holds for the commands of a run that changes nothing. `network`: they may use it."""
    sentence = "They reach no other machine."
    if network:
        sentence = "They can use the network."
    return prompt_file("read_only").format(network=sentence)


def join_prompt(*parts: str) -> str:
    """The prompt made of these parts, empty ones left out. Raises `input_too_large` above Codex's own limit."""
    prompt = "\n\n".join(part.strip() for part in parts if part) + "\n"
    if len(prompt) > CODEX_LIMIT:
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"The prompt has {len(prompt)} characters; Codex takes {CODEX_LIMIT}",
        )
    return prompt


def fence(material: Material) -> str:
    """The material between tags that its text cannot contain."""
    return fenced("material", material.text, {"from": material.name})


def fenced(tag: str, text: str, attributes: Mapping[str, str]) -> str:
    """The text between tags that it cannot contain: they carry a digest of it. No character is dropped."""
    text = visible(text)
    values = {}
    for name, value in attributes.items():
        values[name] = one_line(visible(value), 500).translate(_NAME_CHARACTERS)
    whole = "\n".join([*values.values(), text])
    digest = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:12]
    listed = "".join(f' {name}="{value}"' for name, value in values.items())
    return f'<{tag} id="{digest}"{listed}>\n{text}\n</{tag} {digest}>'


def fence_all(material: Iterable[Material], extra_context: str | None) -> list[str]:
    """Each piece of material in its tags, what the caller passed as `extra_context` last."""
    parts = [fence(item) for item in material]
    if extra_context:
        parts.append(fence(Material("context from the caller", extra_context)))
    return parts


def bounded_list(name: str, rows: Iterable[str]) -> str:
    """A bounded list of names as material. File names are text of the repository too, so they are masked."""
    all_rows = list(rows)
    if not all_rows:
        return ""

    kept: list[str] = []
    characters_left = MAX_LISTED_CHARACTERS
    for row in all_rows[:MAX_LISTED]:
        characters_left -= len(row)
        if characters_left < 0:
            break
        kept.append(row)
    if len(all_rows) > len(kept):
        kept.append(f"… and {len(all_rows) - len(kept)} more")
    return fence(Material(name, mask("\n".join(kept))[0]))


def focus(text: str | None) -> str:
    """What the caller asks for in particular, or nothing."""
    if not text:
        return ""
    return f"The caller asks in particular:\n\n{visible(text)}"


def check_author_text(limit: int, **texts: str | None) -> None:
    """Raise `input_too_large` when the texts that an author wrote have more than `limit` UTF-8 bytes together."""
    total = sum(size(text) for text in texts.values() if text)
    if total <= limit:
        return
    names = " + ".join(name for name, text in texts.items() if text)
    raise CounselError(
        Code.INPUT_TOO_LARGE,
        f"{names}: {total} bytes, the limit is {limit} (CODEX_COUNSEL_MAX_INPUT_BYTES)",
        details={"bytes": total, "limit": limit},
    )
