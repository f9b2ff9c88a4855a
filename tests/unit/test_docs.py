"""The docs say what the code does."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from codex_counsel import __version__
from codex_counsel.cli import parser
from codex_counsel.contract.catalogue import TOOLS
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import Code

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROMPTS = sorted(
    [
        *ROOT.glob("commands/*.md"),
        *ROOT.glob("skills/**/*.md"),
        *ROOT.glob("agents/*.md"),
    ]
)
PROGRAMS = {
    ".ci/run",
    "cd",
    "claude",
    "codex-counsel",
    "dask",
    "docker",
    "gh",
    "git",
    "lint-imports",
    "mypy",
    "npm",
    "pip",
    "pre-commit",
    "pytest",
    "python",
    "ruff",
    "uv",
    "uvx",
}
FOREIGN_FLAGS = {
    "--config",
    "--continue",
    "--env",
    "--no-dev",
    "--peers",
    "--privileged",
    "--reinstall",
    "--security-opt",
    "--user",
}
"""Flags of other programs that the pages name in a sentence."""
FOREIGN_SETTINGS = {
    "X",
    "TEST_CODEX",
    "TEST_CLAUDE",
    "TEST_MCP_SERVER",
    "TEST_SCHEMAS",
}
"""A placeholder, and variables that only the tests read."""


def test_the_reference_pages_are_those_of_the_models() -> None:
    generated = runpy.run_path(str(ROOT / "docs/reference/generate.py"))["pages"]()
    assert {
        name: (ROOT / "docs/reference" / name).read_text("utf-8") for name in generated
    } == generated


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_to_a_heading_finds_it(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text("utf-8")):
        target = page.parent / link if link else page
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
        assert anchor in [
            re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
            for heading in headings
        ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_documented_command_is_one_the_parser_takes(page: Path) -> None:
    text = page.read_text("utf-8")
    for argv in [
        *_shell_commands(text),
        *_configured_servers(text),
        *_commands_in_sentences(text),
    ]:
        if argv[0] == "codex-counsel":
            _parse(argv[1:])


@pytest.mark.parametrize("page", PROMPTS, ids=lambda path: path.stem)
def test_every_command_that_a_prompt_names_is_one_the_parser_takes(page: Path) -> None:
    for argv in _commands_in_sentences(page.read_text("utf-8")):
        _parse(argv[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_other_documented_command_is_a_known_program_with_files_that_exist(
    page: Path,
) -> None:
    for program, *arguments in _shell_commands(page.read_text("utf-8")):
        assert program in PROGRAMS
        if program in ("pytest", "python"):
            paths = [word for word in arguments if "/" in word]
            assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_flag_named_in_a_sentence_exists(page: Path) -> None:
    named = set(re.findall(r"`(--[a-z][a-z-]+)", _sentences(page.read_text("utf-8"))))
    assert named - _flags(parser.build_parser()) - FOREIGN_FLAGS == set()


@pytest.mark.parametrize("page", [*PAGES, *PROMPTS], ids=lambda path: path.name)
def test_every_slash_command_setting_and_tool_that_is_named_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    commands = {path.stem for path in ROOT.glob("commands/*.md")}
    settings = {
        setting.name.upper() for setting in fields(Settings) if setting.metadata
    }
    names = {tool.name for tool in TOOLS} | {str(code) for code in Code}
    assert set(re.findall(r"/codex:([a-z][a-z-]+)", text)) - commands == set()
    assert (
        set(re.findall(r"CODEX_COUNSEL_([A-Z_]+)", text)) - settings - FOREIGN_SETTINGS
        == set()
    )
    assert set(re.findall(r"`(codex_[a-z_]+)`", text)) - names == set()


def test_every_file_that_the_architecture_page_names_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    package = ROOT / "src/codex_counsel"
    # Directories of the repository, and files of the package below the one that is described.
    roots = (package, package / "review/changes", ROOT)
    names = set(re.findall(r"`([\w/.-]+(?:\.py|/))`", text))
    missing = [
        name for name in names if not any((root / name).exists() for root in roots)
    ]
    assert sorted(missing) == []


def _parse(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        return
    parser.build_parser().parse_args(arguments)


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    """Every flag of the parser and of its subcommands."""
    results: set[str] = set()
    for action in parser._actions:
        results.update(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                results |= _flags(one)
    return results


def _shell_commands(text: str) -> Iterator[list[str]]:
    """The commands in fenced blocks without a language, one argv each, without `uv run` and `NAME=value` in front."""
    for line in _lines_in_fences(text, ""):
        words = shlex.split(line.partition(" > ")[0], comments=True)
        while "&&" in words:
            yield _without_runner(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        if words:
            yield _without_runner(words)


def _without_runner(words: list[str]) -> list[str]:
    while re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:2] != ["uv", "run"]:
        return words
    words = words[2:]
    while words[0].startswith("--"):
        words = words[2:] if words[0] == "--project" else words[1:]
    return words


def _configured_servers(text: str) -> Iterator[list[str]]:
    """What the configurations of MCP clients start, as an argv of `codex-counsel`."""
    for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from _servers(json.loads(block))
    for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from _servers(tomllib.loads(block))


def _servers(configuration: dict[str, Any]) -> Iterator[list[str]]:
    for key in ("mcpServers", "servers", "mcp_servers"):
        for server in configuration.get(key, {}).values():
            arguments = server["args"]
            if "codex-mcp-server" in (server["command"], *arguments):
                # It has no verbs: what stands first is ignored.
                continue
            if (
                "codex-counsel-start" in arguments
            ):  # the launcher: its first argument is the checkout
                yield [
                    "codex-counsel",
                    *arguments[arguments.index("codex-counsel-start") + 2 :],
                ]
            else:
                yield arguments[arguments.index("codex-counsel") :]


def _commands_in_sentences(text: str) -> Iterator[list[str]]:
    """Inline code that begins with `codex-counsel` and a word; `...` stands for anything."""
    for words in re.findall(
        r"`(?:uv run (?:--[^`]* )?)?(codex-counsel [^`]+)`", _sentences(text)
    ):
        if "..." not in words:
            yield shlex.split(words)


def _sentences(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _lines_in_fences(text: str, wanted: str) -> list[str]:
    """The lines of fenced blocks of one language."""
    results, language = [], None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("```"):
            language = None if language is not None else line[3:]
        elif language == wanted:
            results.append(line)
    return results


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
