"""What the wire names in the words of the command line: verbs for tools, flags for arguments.

Results and errors name tools and arguments, as an MCP client knows them. Only our own
sentences are translated: what the model said stays as it is.
"""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache

from codex_counsel.cli.parser import flag_of
from codex_counsel.cli.verb_table import VERBS
from codex_counsel.contract.envelope import Failure
from codex_counsel.contract.request import ToolRequest
from codex_counsel.contract.vocabulary import SCOPES
from codex_counsel.errors import CATALOG, Code

TOOLS = {
    "codex_consult_async": "consult --background",
    "codex_review_changes_async": "review --background",
    "codex_delegate_async": "delegate --background",
    "codex_dry_run": "review --dry-run",
    "codex_delegate_dry_run": "delegate --dry-run",
    "codex_models": "models",
    "codex_capabilities": "--help",
    "codex_job_status": "jobs",
    "codex_job_result": "result",
    "codex_job_consume_result": "result",
    "codex_job_cancel": "cancel",
}
"""The verbs of tools whose arguments are not those of the verb."""
ARGUMENTS = {
    "job_id": "JOB",
    "wait_seconds": "--wait",
    "extra_context": "--context-file",
    "output_schema": "--output-schema",
    "transcript_path": "SESSION",
    "retry_after_ms": "the time named",
    "cursor": "cursor",
    "detail": "detail",
    "plan": "plan",
    "id": "ID",
    "action": "ACTION",
}
"""Arguments that have no flag, or not in every verb."""
LABELS = {
    "session_id": "thread",
    "last_message": "last message",
    "survivors": "processes that live on",
    "allow_paths": "to look at",
    "job_id": "job",
    "exit_code": "exit code of git",
}
"""The details of an error as a person reads them."""
HIDDEN_DETAILS = ("accepted_arguments",)
"""Names for a client that is a program; a person has `--help`."""


@cache
def _tools() -> dict[str, str]:
    verbs = {verb.request.tool: verb.name for verb in VERBS if verb.request}
    return {**verbs, **TOOLS}


@cache
def _arguments() -> dict[str, str]:
    """The flag of each argument; of those that are given by their place, none."""
    names = {}
    for verb in VERBS:
        request: type[ToolRequest] | None = verb.request
        if request is None:
            continue
        for item in fields(request):
            if item.name not in verb.positional:
                names[item.name] = flag_of(item.name)
    return {**names, **ARGUMENTS}


@cache
def _pattern() -> re.Pattern[str]:
    compound = [name for name in _arguments() if "_" in name]
    single = [name for name in _arguments() if "_" not in name]
    # A single word is an argument only where it is named as the place of a mistake.
    return re.compile(
        r"(?P<json>\{\".*\})"
        r"|`?(?<![\w/.-])(?P<tool>codex_[a-z_]+[a-z])(?![\w/])`?"
        rf"|(?<![\w/.`-])(?P<compound>{'|'.join(compound)})(?![\w/=]|\.\w)"
        rf"|(?:(?<=; )|(?<=Pass )|^)(?P<single>{'|'.join(single)})(?:\.\d+)?(?=: )"
        rf"|\b[Ss]cope (?P<scope>{'|'.join(SCOPES)})\b"
        r"|String should match pattern (?P<pattern>'\S+')"
    )


def in_terminal_words(sentence: str) -> str:
    """One of our own sentences, with verbs and flags in the place of tools and arguments. JSON in it stays as it is."""
    return _pattern().sub(_translated, sentence)


def _translated(match: re.Match[str]) -> str:
    if match["json"]:
        return match[0]
    if match["tool"]:
        verb = _tools().get(match["tool"])
        return f"`codex-counsel {verb}`" if verb else match[0]
    if match["scope"]:
        return f"--scope {match['scope']}"
    if match["pattern"]:
        return "this has not the form of an id"
    return _arguments()[match["compound"] or match["single"]]


def repair_of(error: Failure) -> str:
    """What to do about an error, for somebody at a terminal."""
    meaning = None
    if error.code in set(Code):
        meaning = CATALOG[Code(error.code)]
    if meaning and meaning.terminal_repair and error.repair == meaning.repair:
        return meaning.terminal_repair
    return in_terminal_words(error.repair)
