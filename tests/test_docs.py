"""The docs say what the code does."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest

from codex_counsel import __version__
from codex_counsel.cli import _parser

ROOT = Path(__file__).parent.parent
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
    text = page.read_text("utf-8")
    blocks = re.findall(
        r"^ *```$(.*?)^ *```$", re.sub(r"^ *```json$.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE | re.DOTALL
    )
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    commands = [
        line.partition("codex-counsel ")[2] for line in lines if "codex-counsel " in line and "git clone" not in line
    ]
    for command in commands:
        words = re.sub(r"\s#.*|>.*", "", command).replace('"$CI_JOB_ID"', "key")
        arguments = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', words)]
        if arguments and arguments[0] not in ("mcp", "--version"):
            _parser().parse_args([*arguments])


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
