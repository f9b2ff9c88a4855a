"""What a shell may offer on a Tab: runs, findings, refs of git and models, each with a description.

Nothing is changed and Codex is not started: a run that ended without its worker is not
even concluded, and of models those are named that Codex listed before. What others wrote
is offered only where no shell gives a meaning to any character of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from codex_counsel.contract.request import Delegate, Findings
from codex_counsel.contract.vocabulary import FindingState
from codex_counsel.errors import CounselError
from codex_counsel.jobs import summary
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.summary import Row
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.services import choosing, findings, results
from codex_counsel.system.text import one_line, visible

MAX_OFFERED = 30
MAX_RECORDS = 200
"""Records of runs, the newest ones, that are looked at."""
MAX_REFS = 200
MAX_DESCRIPTION = 60
"""Characters."""
_PLAIN = re.compile(r"[\w./+@,][\w./+@,=-]*")


def is_plain(text: str) -> bool:
    """Whether a shell takes the text as it stands, as one word that is no flag."""
    return bool(_PLAIN.fullmatch(text))


def described(text: str) -> str:
    """One short line of a text of any origin, without a character that a terminal would obey."""
    return one_line(visible(text), MAX_DESCRIPTION)


# --- runs


def runs(directory: Path, fits: Callable[[Row], bool]) -> dict[str, str]:
    """The newest runs of the directory that fit, by their ids."""
    offered: dict[str, str] = {}
    for row in islice(_rows(), MAX_RECORDS):
        if row.get("workspace") != str(directory) or not fits(row):
            continue
        offered[str(row["job_id"])] = _description(row)
        if len(offered) == MAX_OFFERED:
            break
    return offered


def is_delegated(row: Row) -> bool:
    """Whether it is a task, ended or not."""
    return choosing.was_asked_for(row) and row.get("tool") == Delegate.tool


def is_running(row: Row) -> bool:
    """Whether a caller may want to cancel it."""
    return choosing.was_asked_for(row) and row["status"] in ("queued", "running")


def is_review(row: Row) -> bool:
    """Whether it is a review, ended or not."""
    tool = str(row.get("tool", ""))
    return choosing.was_asked_for(row) and tool.startswith("codex_review")


def _rows() -> Iterator[Row]:
    """As `Store.rows`, but no run is concluded: one that has ended may have the status `ended`."""
    for job in results.open_store().newest_first():
        row = _row(job)
        if row:
            yield row


def _row(job: Job) -> Row | None:
    stored = summary.read(job)
    if stored:
        row, _ = stored
        return row
    try:
        row = summary.running_row(job, job.spec())
    except CounselError:  # a damaged record is named by `jobs`
        return None
    if not job.is_running():
        row["status"] = "ended"
    return row


def _description(row: Row) -> str:
    kind = str(row.get("tool", "run")).removeprefix("codex_").replace("_", " ")
    return described(f"{kind}, {row['status']}: {row.get('subject', '')}")


# --- findings


def finding_ids(
    env: Mapping[str, str], directory: Path, states: tuple[FindingState, ...]
) -> dict[str, str]:
    """The findings on record in these states, by their ids. Raises as `findings.answer`."""
    request = Findings(action="list", workspace_root=str(directory))
    selection = findings.Selection(states=states, limit=MAX_OFFERED)
    wire = findings.answer(findings.context_of(env), request, "", selection)
    return {
        row["id"]: described(f"{row['severity']}, {row['state']}: {row['title']}")
        for row in wire["data"]["findings"]
    }


# --- refs and models


def refs(env: Mapping[str, str], directory: Path, beginning: str) -> dict[str, str]:
    """Branches and tags that begin so. Raises CounselError where there is no repository that git may read."""
    if beginning and not is_plain(beginning):
        return {}
    context = Context.of(env)
    workspace = workspaces.resolve(context, str(directory))
    repo = workspaces.open_repository(workspace, context)
    folders = ("heads", "remotes", "tags")
    listing = repo.git(
        "for-each-ref",
        f"--count={MAX_REFS}",
        "--format=%(refname:short)",
        *[f"refs/{folder}/{beginning}*" for folder in folders],
        *[f"refs/{folder}/{beginning}*/**" for folder in folders],
    )
    names = listing.decode(errors="replace").splitlines()
    return {name: "" for name in names if is_plain(name)}


def models(env: Mapping[str, str]) -> dict[str, str]:
    """The models that Codex listed on this machine when it was last asked, and the efforts of each."""
    offered: dict[str, str] = {}
    for row in _model_rows(env):
        match row:
            case {"model": str(name), "efforts": list(efforts)} if is_plain(name):
                offered[name] = described(" ".join(map(str, efforts)))
    return offered


def efforts(env: Mapping[str, str]) -> dict[str, str]:
    """All efforts of these models."""
    offered: dict[str, str] = {}
    for row in _model_rows(env):
        match row:
            case {"efforts": list(names)}:
                offered |= {name: "" for name in map(str, names) if is_plain(name)}
    return offered


def _model_rows(env: Mapping[str, str]) -> list[object]:
    answer = Context.of(env).probes.newest("models")
    if not isinstance(answer, list):
        return []
    return list(answer)
