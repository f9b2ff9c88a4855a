"""The command line speaks of verbs and flags, whatever the wire calls them."""

from __future__ import annotations

import re

import pytest

from codex_counsel.cli.words import in_terminal_words, repair_of
from codex_counsel.contract import catalogue
from codex_counsel.contract.envelope import failure
from codex_counsel.contract.request import argument_names
from codex_counsel.errors import Code, CounselError

NAMES = {name for tool in catalogue.TOOLS for name in argument_names(tool.request)}
COMPOUND = [name for name in NAMES if "_" in name]
OF_THE_WIRE = re.compile(rf"\bcodex_[a-z_]+|\b(?:{'|'.join(COMPOUND)})\b")
SENTENCES = {
    "workspace_root: is blank": "-C: is blank",
    "base: begins with '-'": "--base: begins with '-'",
    "focus: is blank; images.2: is blank": "--focus: is blank; --image: is blank",
    "commit: belongs to scope commit; the scope is branch": "--commit: belongs to --scope commit; the scope is branch",
    "The base: a branch": "The base: a branch",
    "Pass base: the branch": "Pass --base: the branch",
    "call codex_apply again": "call `codex-counsel apply` again",
    "`codex_job_list` shows them": "`codex-counsel jobs` shows them",
    "read /x/session_id/y and plan_path.md": "read /x/session_id/y and plan_path.md",
    "name those you accept in allow_paths.": "name those you accept in --allow-path.",
    "codex_unknown_tool": "codex_unknown_tool",
    "question: is blank": "question: is blank",
    "write -c web_search=live": "write -c web_search=live",
    "`session_id` names no commit": "`session_id` names no commit",
}


@pytest.mark.parametrize(("wire", "terminal"), SENTENCES.items(), ids=SENTENCES)
def test_names_of_the_wire_become_those_of_the_terminal(
    wire: str, terminal: str
) -> None:
    assert in_terminal_words(wire) == terminal


@pytest.mark.parametrize("code", Code)
def test_no_advice_on_a_terminal_names_a_tool_or_an_argument(code: Code) -> None:
    advice = repair_of(failure(CounselError(code, "m")))
    assert OF_THE_WIRE.findall(advice) == []


def test_an_advice_of_its_own_is_kept() -> None:
    error = failure(CounselError(Code.NO_COMMITS, "m", repair="Set timeout_seconds."))
    assert repair_of(error) == "Set --timeout-seconds."


@pytest.mark.parametrize("tool", catalogue.TOOLS, ids=lambda tool: tool.name)
def test_every_tool_has_a_verb(tool: catalogue.ToolDescription) -> None:
    assert in_terminal_words(tool.name).startswith("`codex-counsel ")
