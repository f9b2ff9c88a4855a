"""What a hub tells of a pull request besides its commits: its title, its description, its base branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import CounselError
from codex_counsel.hub import api
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, cut, one_line

if TYPE_CHECKING:
    from codex_counsel.hub.reference import HubKind, PullRequest

MAX_TITLE = 500
"""Characters."""
MAX_BODY = 20_000
"""Bytes of a description; the rest of it is not sent."""
MAX_NAME = 250
"""Characters of a branch, a login or a state."""
SECONDS = 20


@dataclass(frozen=True)
class Details:
    """Texts of the author, cleaned, masked and bounded. `base` is a branch, without `refs/heads/`."""

    title: str = ""
    body: str = ""
    author: str = ""
    state: str = ""
    base: str = ""

    def as_text(self) -> str:
        """For the prompt; empty where there is nothing."""
        rows = [("Title", self.title), ("Author", self.author), ("State", self.state)]
        lines = [f"{name}: {value}" for name, value in rows if value]
        if self.body.strip():
            lines += ["", self.body]
        return "\n".join(lines)


def of_pull_request(
    pull: PullRequest, env: Mapping[str, str], workspace: Path
) -> tuple[Details, tuple[str, ...]]:
    """What the hub's own program tells, and the warnings. Nothing without that program, or where it fails."""
    if not pull.host or api.program(pull.hub, env, workspace) is None:
        return Details(), ()
    try:
        answer = api.call(pull, _path(pull), env, workspace, seconds=SECONDS)
    except CounselError as error:
        reason = one_line(error.message, 300)
        return Details(), (f"without title and description: {reason}",)
    details = of_answer(pull.hub, answer)
    if details is None:
        return Details(), ("without title and description: the answer has neither",)
    return details, ()


def checked(details: Details) -> Details:
    """The same texts, cleaned, masked and bounded: those that another machine has sent may be any."""
    return Details(
        title=_line(details.title, MAX_TITLE),
        body=_text(details.body),
        author=_line(details.author),
        state=_line(details.state),
        base=_branch(details.base),
    )


def of_answer(hub: HubKind, answer: Json) -> Details | None:
    """What the answer of the hub's API tells; None where it is no object. Values of another type count as none."""
    if not isinstance(answer, dict):
        return None
    if hub == "github":
        return _of_github(answer)
    return _of_gitlab(answer)


def _path(pull: PullRequest) -> str:
    if pull.hub == "github":
        return f"{api.project_path(pull)}/pulls/{pull.number}"
    return f"{api.project_path(pull)}/merge_requests/{pull.number}"


def _of_github(answer: JsonObject) -> Details:
    user, base = answer.get("user"), answer.get("base")
    return Details(
        title=_line(answer.get("title"), MAX_TITLE),
        body=_text(answer.get("body")),
        author=_line(_member(user, "login")),
        state=_line(answer.get("state")),
        base=_branch(_member(base, "ref")),
    )


def _of_gitlab(answer: JsonObject) -> Details:
    return Details(
        title=_line(answer.get("title"), MAX_TITLE),
        body=_text(answer.get("description")),
        author=_line(_member(answer.get("author"), "username")),
        state=_line(answer.get("state")),
        base=_branch(answer.get("target_branch")),
    )


def _member(value: Json, name: str) -> Json:
    if not isinstance(value, dict):
        return None
    return value.get(name)


def _text(value: Json) -> str:
    if not isinstance(value, str):
        return ""
    # Cut first, with room for what is masked: a description may be of any length.
    text, _ = mask(clean(cut(value, 2 * MAX_BODY)))
    return cut(text, MAX_BODY)


def _line(value: Json, limit: int = MAX_NAME) -> str:
    if not isinstance(value, str):
        return ""
    return one_line(mask(clean(cut(value, 8 * limit)))[0], limit)


def _branch(value: Json) -> str:
    """The name as it is: whoever uses it checks it."""
    if not isinstance(value, str) or len(value) > MAX_NAME:
        return ""
    return value
