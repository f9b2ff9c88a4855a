"""The verb `take`: results of other machines, put among the runs of this one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.cli.page import Page
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output
from codex_counsel.contract.envelope import Envelope, completed
from codex_counsel.errors import CATALOG, DONE, CounselError
from codex_counsel.services.counsel import Counsel
from codex_counsel.services.take import Taken, take_file, take_stream
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean

TOOL = "codex-counsel take"
STDIN = "-"


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Take all files, whatever one of them comes to; returns the exit code of the first that was refused.

    Raises CounselError for a single file that is refused.
    """
    output = Output.of(arguments)
    context = Counsel(env).context
    directory: str | None = arguments.workspace_root
    if directory is not None:
        directory = str(Path(directory).absolute())
    names: list[str] = arguments.results
    rows: list[JsonObject] = []
    exit_code = DONE
    for name in names:
        LINE.say(f"taking {name} …")
        try:
            if name == STDIN:
                stream = sys.stdin.buffer
                taken = take_stream(
                    context, stream, "standard input", workspace_root=directory
                )
            else:
                taken = take_file(context, Path(name), workspace_root=directory)
        except CounselError as error:
            if len(names) == 1:
                raise
            exit_code = exit_code or CATALOG[error.code].exit_code
            rows.append(
                {
                    "file": clean(name),
                    "code": error.code,
                    "message": error.message,
                    "repair": error.repair or CATALOG[error.code].repair,
                }
            )
        else:
            rows.append(_row(name, taken))
    output.show(completed(TOOL, _summary(rows), {"results": rows}).wire())
    return exit_code


def _row(name: str, taken: Taken) -> JsonObject:
    return {
        "file": clean(name),
        "job_id": taken.job_id,
        "tool": taken.envelope["tool"],
        "status": taken.envelope["status"],
        "summary": taken.envelope["summary"],
        "new": taken.is_new,
    }


def _summary(rows: list[JsonObject]) -> str:
    new = sum(row.get("new") is True for row in rows)
    parts = [f"{new} taken"]
    known = sum(row.get("new") is False for row in rows)
    if known:
        parts.append(f"{known} taken before")
    refused = sum("code" in row for row in rows)
    if refused:
        parts.append(f"{refused} refused")
    return ", ".join(parts)


def add_taken(page: Page, envelope: Envelope) -> None:
    """Add what came of each file, and how to go on."""
    rows = envelope.data["results"]
    page.add(envelope.summary, "green")
    for row in rows:
        if "code" in row:
            page.add(f"{row['file']}: {row['code']}: {row['message']}", "red")
            page.add(f"what to do: {row['repair']}", indent="  ")
            continue
        words = "" if row["new"] else ", taken before"
        page.add(f"{row['job_id']}  {row['tool']}, {row['status']}{words}")
        page.add(row["summary"], "dim", indent="  ")
    taken = [row["job_id"] for row in rows if "job_id" in row]
    if taken:
        page.note(f"show one with: codex-counsel result {taken[0]}")
