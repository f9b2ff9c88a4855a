"""One call of the API of a hub, by its own program `gh` or `glab`, which knows the login.

The program gets the environment of the process, without the variables that would make it
ask another host, print more than the answer, or read a repository. It runs in no
directory of the user's. The body goes by standard input. No token is in an argument, and
none that the environment holds is in a message.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.git.working_trees import project_directories
from codex_counsel.system.child import Child, ChildTimeout
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.path import search_path
from codex_counsel.system.redact import mask
from codex_counsel.system.text import decode, one_line, visible

if TYPE_CHECKING:
    from codex_counsel.hub.reference import HubKind, PullRequest

PROGRAMS: dict[HubKind, str] = {"github": "gh", "gitlab": "glab"}
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer. A page of a hundred comments, each as long as GitHub allows, has fewer."""
MAX_REASON = 500
"""Characters of what a hub or its program says about a failure."""
NO_PROJECT = Path("/")

IGNORED_VARIABLES = frozenset(
    (
        "CLICOLOR_FORCE",
        "DEBUG",
        "GH_DEBUG",
        "GH_FORCE_TTY",
        "GH_HOST",
        "GH_REPO",
        "GITLAB_HOST",
        "GITLAB_REPO",
        "GITLAB_URI",
        "GITLAB_URL",
        "GLAB_DEBUG",
        "GLAB_DEBUG_HTTP",
        "GLAMOUR_STYLE",
        "GL_HOST",
        "REMOTE_ALIAS",
    )
)
"""Besides these, every variable that begins with `GIT_`."""
FIXED_VARIABLES = {
    "GH_NO_UPDATE_NOTIFIER": "1",
    "GH_PAGER": "cat",
    "GH_PROMPT_DISABLED": "1",
    "GIT_DIR": os.devnull,
    "GLAB_CHECK_UPDATE": "false",
    "GLAB_PAGER": "cat",
    "GLAB_SEND_TELEMETRY": "false",
    "NO_COLOR": "1",
    "NO_PROMPT": "true",
    "PAGER": "cat",
}
TOKEN_VARIABLES = (
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GH_ENTERPRISE_TOKEN",
    "GITHUB_ENTERPRISE_TOKEN",
    "GITLAB_TOKEN",
    "GITLAB_ACCESS_TOKEN",
    "OAUTH_TOKEN",
    "CI_JOB_TOKEN",
)
"""What the two programs read a login from. Their values are in no message."""
OWN_HOSTS: dict[str, str] = {
    "GH_TOKEN": "github.com",
    "GITHUB_TOKEN": "github.com",
    "GITLAB_TOKEN": "gitlab.com",
    "GITLAB_ACCESS_TOKEN": "gitlab.com",
    "OAUTH_TOKEN": "gitlab.com",
}
"""The host that a token of the environment is for where nothing else is said."""
HOST_VARIABLES: dict[HubKind, tuple[str, ...]] = {
    "github": ("GH_HOST", "GITHUB_SERVER_URL"),
    "gitlab": (
        "GITLAB_HOST",
        "GITLAB_URI",
        "GL_HOST",
        "CI_SERVER_URL",
        "CI_SERVER_HOST",
    ),
}
"""Where the user, or a CI service, says which host the tokens of the environment are for."""
MIN_TOKEN = 4
"""Characters of a value that is looked for in messages; a shorter one would hide words."""

_STATUS_LINE = re.compile(r"HTTP/[\d.]+ (\d{3})(?: (.*))?")
_NO_LOGIN = 401
_TOO_OFTEN = 429
_PAUSE_MS = 60_000
"""What GitHub asks for where it names no time."""
_GH_WITHOUT_LOGIN = 4
"""The exit code of newer versions of `gh`; older ones ask the hub without a login."""
_HTTP_ERROR = 300
"""The first status that is no success: the programs follow redirects themselves."""


@dataclass(frozen=True)
class _Printed:
    """What a program printed, and its exit code."""

    output: bytes
    stderr: str
    code: int | None


@dataclass(frozen=True)
class _Response:
    """What `gh api --include` prints. Header names are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


def program(hub: HubKind, env: Mapping[str, str], workspace: Path) -> Path | None:
    """`gh` or `glab` on PATH, but for a program of the project around `workspace`; None without one."""
    found = shutil.which(PROGRAMS[hub], path=_search_path(env, workspace))
    if found is None:
        return None
    return Path(found)


def project_path(pull: PullRequest) -> str:
    """The part of an API's path that names the project: `repos/o/r` or `projects/o%2Fr`."""
    if pull.hub == "github":
        return f"repos/{quote(pull.project)}"
    return f"projects/{quote(pull.project, safe='')}"


def call(
    pull: PullRequest,
    path: str,
    env: Mapping[str, str],
    workspace: Path,
    *,
    method: str = "GET",
    body: JsonObject | None = None,
    seconds: float = 30,
) -> Json:
    """What the API answers, such as to `repos/o/r/pulls/7`; None for an answer without content.

    `path` is `graphql`, or begins with `project_path`, or is another fixed one.

    Raises `hub_failed`: without the program, a login or an answer, and for an answer that
    is an error (`details.status`) or no JSON.
    """
    executable = program(pull.hub, env, workspace)
    if executable is None:
        raise _not_installed(pull)
    argv = [str(executable), "api", "--include", f"--method={method}"]
    sent = b""
    if body is not None:
        # `glab` names no content type for a body that it is given whole.
        argv += ["--header=Content-Type: application/json", "--input=-"]
        sent = json.dumps(body).encode()
    child_env = _environment(pull, env, workspace)
    printed = _run(pull, [*argv, path], child_env, sent, seconds)
    response = _parsed(printed.output)
    if response is None:
        raise _no_answer(pull, printed, env)
    if response.status >= _HTTP_ERROR:
        raise _refused(pull, response, env)
    if not response.body.strip():
        return None
    answer = _json(response.body)
    if answer is None:
        raise _failed(pull, "its answer is no JSON", response.status)
    if path == "graphql" and isinstance(answer, dict) and answer.get("errors"):
        raise _refused(pull, response, env)
    return answer


def _search_path(env: Mapping[str, str], workspace: Path) -> str:
    return search_path(env.get("PATH", os.defpath), project_directories(workspace))


def _environment(
    pull: PullRequest, env: Mapping[str, str], workspace: Path
) -> dict[str, str]:
    child_env = {
        name: value
        for name, value in env.items()
        if name not in IGNORED_VARIABLES and not name.startswith("GIT_")
    }
    for name in _foreign_tokens(pull, env):
        child_env.pop(name, None)
    child_env |= FIXED_VARIABLES
    child_env["PATH"] = _search_path(env, workspace)
    # Their flag --hostname takes no port.
    child_env["GH_HOST"] = pull.host
    child_env["GITLAB_HOST"] = f"https://{pull.host}"
    return child_env


def _foreign_tokens(pull: PullRequest, env: Mapping[str, str]) -> list[str]:
    """The variables with tokens that are not for this host, which a repository's configuration may have named.

    The programs would send most of them to any host.
    """
    host = pull.host.casefold()
    hosts = {_host(env.get(name, "")) for name in HOST_VARIABLES[pull.hub]}
    if host in hosts:
        return []
    return [name for name in TOKEN_VARIABLES if OWN_HOSTS.get(name) != host]


def _host(address: str) -> str:
    """The host, with its port, of `https://HOST/...`, or of `HOST` alone."""
    _, _, rest = address.rpartition("://")
    return rest.partition("/")[0].casefold()


def _run(
    pull: PullRequest,
    argv: list[str],
    env: Mapping[str, str],
    stdin: bytes,
    seconds: float,
) -> _Printed:
    """Run the program. Raises `hub_failed` where it does not start, end in time or stop printing."""
    output = bytearray()
    try:
        with Child(argv, env, NO_PROJECT, seconds, stdin) as child:
            for chunk in child.chunks():
                output += chunk
                if len(output) > MAX_ANSWER:
                    message = f"its answer has more than {MAX_ANSWER:,} bytes"
                    raise _failed(pull, message)
    except ChildTimeout:
        message = f"it did not answer within {seconds:g} seconds"
        raise _failed(pull, message) from None
    except OSError as error:
        message = f"{PROGRAMS[pull.hub]} could not be started"
        raise error_of(Code.HUB_FAILED, message, error) from None
    return _Printed(bytes(output), decode(bytes(child.stderr)), child.code)


def _parsed(output: bytes) -> _Response | None:
    """None where the program printed no response, because it got none."""
    head, separator, body = output.partition(b"\r\n\r\n")
    status_line, *lines = decode(head).splitlines() or [""]
    match = _STATUS_LINE.fullmatch(status_line.strip())
    if match is None or not separator:
        return None
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    # Go's own status text repeats the number.
    reason = (match[2] or "").removeprefix(match[1]).strip()
    return _Response(int(match[1]), reason, headers, body)


def _json(body: bytes) -> Json:
    """None for what is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


# --- failures


def _not_installed(pull: PullRequest) -> CounselError:
    name = PROGRAMS[pull.hub]
    return CounselError(
        Code.HUB_FAILED,
        f"{name} is not installed, or is on PATH only inside the project, whose programs are not run",
        repair=f"Install {name} outside the project, log in with `{name} auth login`, and call again.",
        details={"host": pull.host},
    )


def _no_answer(
    pull: PullRequest, printed: _Printed, env: Mapping[str, str]
) -> CounselError:
    name = PROGRAMS[pull.hub]
    if name == "gh" and printed.code == _GH_WITHOUT_LOGIN:
        return _failed(pull, "gh has no login for it", repair=_log_in(pull))
    words = _safe(printed.stderr, env) or f"{name} printed no answer"
    return _failed(pull, words)


def _log_in(pull: PullRequest) -> str:
    if pull.hub == "gitlab":
        return f"Run `glab auth login --hostname {pull.host}`, or set GITLAB_TOKEN; then call again."
    variable = "GH_ENTERPRISE_TOKEN"
    if pull.host == "github.com" or pull.host.endswith(".ghe.com"):
        variable = "GH_TOKEN"
    return f"Run `gh auth login --hostname {pull.host}`, or set {variable}; then call again."


def _refused(
    pull: PullRequest, response: _Response, env: Mapping[str, str]
) -> CounselError:
    """The error for an answer that is one. GraphQL has its errors in an answer with status 200."""
    answer = _json(response.body)
    status = response.status
    if isinstance(answer, dict) and status < _HTTP_ERROR:
        status = _status_of_graphql(answer)
    message = f"it answered {status}"
    if response.reason and status == response.status:
        message += f" {_safe(response.reason, env)}"
    words = _safe(_words_of(answer), env)
    if words:
        message += f": {words}"
    repair = None
    if status == _NO_LOGIN:
        repair = _log_in(pull)
    error = _failed(pull, message, status, repair)
    error.retry_after_ms = _pause(response, status, words)
    return error


def _pause(response: _Response, status: int, words: str) -> int | None:
    """Milliseconds that the hub wants to be left alone; None for a refusal of another kind.

    GitHub refuses who asks too often with 403 or 429, not always with a header that says so.
    """
    headers = response.headers
    seconds = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,6}", seconds):
        return int(seconds) * 1000
    is_used_up = headers.get("x-ratelimit-remaining") == "0"
    if status != _TOO_OFTEN and not is_used_up and "rate limit" not in words.lower():
        return None
    reset = headers.get("x-ratelimit-reset", "")
    if is_used_up and re.fullmatch(r"\d{1,12}", reset):
        return max(int(reset) - int(time.time()), 1) * 1000
    return _PAUSE_MS


def _status_of_graphql(answer: JsonObject) -> int:
    """The status that the same refusal has elsewhere; 502 for one of another kind."""
    kinds = {
        "NOT_FOUND": 404,
        "FORBIDDEN": 403,
        "UNPROCESSABLE": 422,
        "RATE_LIMITED": _TOO_OFTEN,
    }
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return kinds.get(str(errors[0].get("type")), 502)
    return 502


def _words_of(answer: Json) -> str:
    """What the hub itself says: `message`, `error` and `errors` of its answer."""
    if not isinstance(answer, dict):
        return ""
    parts = []
    for name in ("message", "error", "error_description"):
        if answer.get(name):
            parts.append(_flat(answer[name]))
    errors = answer.get("errors")
    if isinstance(errors, list):
        for error in errors[:3]:
            words = error
            if isinstance(error, dict):
                words = error.get("message") or error.get("code")
            parts.append(_flat(words))
    return "; ".join(dict.fromkeys(parts))


def _flat(value: Json) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)[:MAX_REASON]


def _safe(text: str, env: Mapping[str, str]) -> str:
    """One line without tokens: those of the environment, and what has the form of one."""
    # Far behind what is shown in the end: no half of a token can be left there.
    text = one_line(text, 8 * MAX_REASON)
    for name in TOKEN_VARIABLES:
        value = env.get(name, "")
        if len(value) >= MIN_TOKEN:
            text = text.replace(value, "[token]")
    masked, _ = mask(text)
    return one_line(visible(masked), MAX_REASON)


def _failed(
    pull: PullRequest,
    message: str,
    status: int | None = None,
    repair: str | None = None,
) -> CounselError:
    details: JsonObject = {"host": pull.host}
    if status is not None:
        details["status"] = status
    return CounselError(
        Code.HUB_FAILED, f"{pull.host}: {message}", repair=repair, details=details
    )
