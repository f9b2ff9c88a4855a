"""The docs say what the code does."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest

from codex_counsel import __version__
from codex_counsel.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_the_reference_pages_are_those_of_the_models() -> None:
    generated = runpy.run_path(str(ROOT / "docs/reference/generate.py"))["pages"]()
    assert {name: (ROOT / "docs/reference" / name).read_text("utf-8") for name in generated} == generated


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_documented_command_is_one_the_parser_takes(page: Path) -> None:
    for line in _shell_lines(page.read_text("utf-8")):
        words = shlex.split(line.partition(" > ")[0], comments=True)
        if "codex-counsel" in words:
            arguments = words[len(words) - words[::-1].index("codex-counsel") :]
            if arguments != ["--version"]:
                parser.build().parse_args(arguments)


def _shell_lines(text: str) -> list[str]:
    """Lines of fenced blocks without a language."""
    found, language = [], None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("```"):
            language = None if language is not None else line[3:]
        elif language == "":
            found.append(line)
    return found


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
