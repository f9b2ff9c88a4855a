"""What a caller may ask for: one frozen dataclass per tool. Wire schema, command line and docs derive from it.

The classes are plain dataclasses, so that the command line reads them without importing pydantic; only `parse` and
`schema` import it. `field(metadata=...)` holds the keyword arguments of a pydantic field (`description`, `pattern`,
`ge`, `le`, `max_length`), which pydantic reads from there, and two keys of our own:

- `check`: a function that is called with the value, or with each item of a tuple; raises ValueError
- `item_max_length`: the most characters of an item of a tuple
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from codex_counsel.contract.vocabulary import (
    JOB_ID,
    THREAD_ID,
    AdviceStance,
    Detail,
    ReviewStance,
    ScopeKind,
    StatusFilter,
)
from codex_counsel.errors import Code, CounselError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_WAIT_SECONDS = 50
_REQUIRED: Any = object()


# --- checks that pydantic does not know


def _check_text(value: str) -> None:
    if not value.strip():
        raise ValueError("is blank")
    if "\0" in value:
        raise ValueError("holds a NUL byte")


def _check_word(value: str) -> None:
    """A word may become a command-line argument of git or Codex, so it must not read as an option."""
    if value.startswith("-"):
        raise ValueError("begins with '-'")
    _check_text(value)


def _check_output_schema(value: dict[str, Any]) -> None:
    # jsonschema takes long to import, and few requests bring a schema.
    from codex_counsel.contract import output_schema

    output_schema.check(value)


# --- kinds of fields


def _field(default: Any, description: str, **metadata: Any) -> Any:
    if description:
        metadata["description"] = description
    if default is _REQUIRED:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def _text(description: str = "", *, default: Any = None) -> Any:
    return _field(default, description, check=_check_text)


def _key(description: str = "") -> Any:
    return _field(None, description, max_length=200, check=_check_text)


def _word(description: str = "") -> Any:
    return _field(None, description, max_length=200, check=_check_word)


def _path(description: str = "") -> Any:
    return _field(None, description, max_length=4096, check=_check_text)


def _paths(most: int, description: str = "") -> Any:
    return _field((), description, max_length=most, item_max_length=4096, check=_check_text)


def _flag(description: str = "") -> Any:
    return _field(default=False, description=description)


def _choice(default: str | None, description: str = "") -> Any:
    """One of the words of a Literal type."""
    return _field(default, description)


def _job_id(description: str = "", *, default: Any = _REQUIRED) -> Any:
    return _field(default, description, pattern=JOB_ID)


def _number(default: int | None, low: int, high: int, description: str = "") -> Any:
    return _field(default, description, ge=low, le=high)


def _wait() -> Any:
    return _number(0, 0, MAX_WAIT_SECONDS, "block up to so many seconds until the job has ended")


def _cursor(description: str = "") -> Any:
    return _field(None, description, max_length=200)


# --- the requests


@dataclass(frozen=True, kw_only=True)
class ToolRequest:
    """Arguments of one tool; unknown ones are refused."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    tool: ClassVar[str]

    def canonical(self) -> str:
        """All arguments as JSON with sorted keys. Idempotency keys on disk hold its digest: it must never change."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class RunRequest(ToolRequest):
    """What every tool that runs the model takes."""

    workspace_root: str | None = _path("absolute; default: the project's directory")
    model: str | None = _word()
    effort: str | None = _word()
    session_id: str | None = _field(
        None,
        "continue exactly this Codex thread (meta.session_id of an earlier result)",
        pattern=THREAD_ID,
    )
    profile: str | None = _word("Codex configuration profile")
    extra_roots: tuple[str, ...] = _paths(20, "further directories Codex may read")
    timeout_seconds: int | None = _number(None, 10, 7200)
    idempotency_key: str | None = _key("same key and arguments: the same run")
    detail: Detail = _choice("full")

    @property
    def subject(self) -> str:
        """The words a person recognises the run by."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Consult(RunRequest):
    """A question about the workspace."""

    tool: ClassVar[str] = "codex_consult"

    question: str = _text("self-contained; say what you know and what you tried", default=_REQUIRED)
    extra_context: str | None = _text("material that lies outside the workspace")
    stance: AdviceStance = _choice("advise")
    text_only: bool = _flag("no shell: answer from the text alone")
    images: tuple[str, ...] = _paths(10)
    web_search: bool = _flag()
    network: bool = _flag("let its commands use the network")
    output_schema: dict[str, Any] | None = _field(
        None,
        "JSON Schema of the reply, returned as data",
        check=_check_output_schema,
    )

    @property
    def subject(self) -> str:
        return self.question


@dataclass(frozen=True, kw_only=True)
class ReviewChanges(RunRequest):
    """A review of git changes, or of whole files."""

    tool: ClassVar[str] = "codex_review_changes"

    scope: ScopeKind = _choice(
        "working_tree",
        "working_tree: uncommitted and untracked; files: whole files, nothing changed",
    )
    base: str | None = _word("scope branch; default: the remote's default branch")
    commit: str | None = _word("scope commit; default: HEAD")
    range: str | None = _word("scope range: a..b or a...b")
    paths: tuple[str, ...] = _paths(500, "literal, relative to the workspace")
    focus: str | None = _text("what to look at, or a question about an earlier review's findings")
    stance: ReviewStance = _choice("review")
    plan: str | None = _text("what was agreed: promised but missing steps become findings")
    plan_path: str | None = _path()
    extra_context: str | None = _text()
    web_search: bool = _flag()
    network: bool = _flag()

    @property
    def subject(self) -> str:
        words = (self.scope, self.base, self.commit, self.range, *self.paths, self.focus)
        return " ".join(word for word in words if word)


@dataclass(frozen=True, kw_only=True)
class ReviewPlan(RunRequest):
    """A review of a plan, given as text or as a file."""

    tool: ClassVar[str] = "codex_review_plan"

    plan: str | None = _text("the text; or plan_path")
    plan_path: str | None = _path("a file, also outside the workspace")
    focus: str | None = _text()
    stance: ReviewStance = _choice("review")
    extra_context: str | None = _text()
    web_search: bool = _flag()

    @property
    def subject(self) -> str:
        return self.plan_path or self.plan or ""


class DryRun(ReviewChanges):
    """The arguments of the review it previews."""

    tool: ClassVar[str] = "codex_dry_run"


@dataclass(frozen=True, kw_only=True)
class Delegate(RunRequest):
    """A task, done in a copy of the repository."""

    tool: ClassVar[str] = "codex_delegate"

    task: str = _text("what to do, how to check it, what to leave alone", default=_REQUIRED)
    extra_context: str | None = _text()
    from_job: str | None = _job_id("go on from this delegate job's diff and thread", default=None)
    images: tuple[str, ...] = _paths(10)
    web_search: bool = _flag()
    network: bool = _flag("let its commands use the network")

    @property
    def subject(self) -> str:
        return self.task


class DelegateDryRun(Delegate):
    """The arguments of the delegate it previews."""

    tool: ClassVar[str] = "codex_delegate_dry_run"


@dataclass(frozen=True, kw_only=True)
class Apply(ToolRequest):
    """A delegate job's diff, to be applied to the working tree."""

    tool: ClassVar[str] = "codex_apply"

    job_id: str = _job_id()
    workspace_root: str | None = _path()
    check_only: bool = _flag()
    allow_paths: tuple[str, ...] = _paths(500, "sensitive paths you looked at and accept")
    undo: bool = _flag("take an applied diff back")


@dataclass(frozen=True, kw_only=True)
class Status(ToolRequest):
    """Whether Codex is usable here."""

    tool: ClassVar[str] = "codex_status"

    workspace_root: str | None = _path()
    clear_limits: bool = _flag("forget remembered usage and rate limits")


@dataclass(frozen=True, kw_only=True)
class Models(ToolRequest):
    """The models that the installed Codex lists."""

    tool: ClassVar[str] = "codex_models"


@dataclass(frozen=True, kw_only=True)
class Capabilities(ToolRequest):
    """The inventory of this server."""

    tool: ClassVar[str] = "codex_capabilities"


@dataclass(frozen=True, kw_only=True)
class JobStatus(ToolRequest):
    """Where a run stands."""

    tool: ClassVar[str] = "codex_job_status"

    job_id: str = _job_id()
    wait_seconds: int = _wait()


@dataclass(frozen=True, kw_only=True)
class JobResult(ToolRequest):
    """A page of the result of a run."""

    tool: ClassVar[str] = "codex_job_result"

    job_id: str = _job_id()
    wait_seconds: int = _wait()
    detail: Detail = _choice("full")
    cursor: str | None = _cursor("meta.next_cursor of the page before")


class JobConsume(JobResult):
    """A page of the result; after the last page the record is deleted."""

    tool: ClassVar[str] = "codex_job_consume_result"


@dataclass(frozen=True, kw_only=True)
class JobCancel(ToolRequest):
    """The end of a run and all its processes."""

    tool: ClassVar[str] = "codex_job_cancel"

    job_id: str = _job_id()


@dataclass(frozen=True, kw_only=True)
class JobList(ToolRequest):
    """Runs of this user, newest first."""

    tool: ClassVar[str] = "codex_job_list"

    workspace_root: str | None = _path("only jobs of this workspace")
    status: StatusFilter | None = _choice(None)
    limit: int = _number(20, 1, 200)
    cursor: str | None = _cursor()


@dataclass(frozen=True, kw_only=True)
class Transfer(ToolRequest):
    """A session of Claude Code, to go on in Codex."""

    tool: ClassVar[str] = "codex_transfer"

    transcript_path: str | None = _path("of another session: its file, or SESSION_ID.jsonl")
    workspace_root: str | None = _path()


# --- from arguments to a request

R = TypeVar("R", bound=ToolRequest)


def parse(request: type[R], arguments: Mapping[str, Any]) -> R:
    """Validate; a null is an argument left out.

    Raises `invalid_arguments` with one sentence per argument, at most five. No value is repeated in it.
    """
    from pydantic import ValidationError

    present = {name: value for name, value in arguments.items() if value is not None}
    try:
        parsed: R = _adapter(request).validate_python(present)
    except ValidationError as error:
        problems = [
            _sentence(item["loc"], item["type"], item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise _invalid(request, problems) from None

    return checked(parsed)


def checked(request: R) -> R:
    """The request itself, where the values have their types already: no pydantic is imported.

    Raises `invalid_arguments` as `parse` does.
    """
    problems = list(_problems(request))
    if problems:
        raise _invalid(type(request), problems)
    return request


def argument_names(request: type[ToolRequest]) -> list[str]:
    """The names of the arguments in the order of declaration."""
    return [item.name for item in fields(request)]


def schema(request: type[ToolRequest]) -> dict[str, Any]:
    """The JSON Schema of the arguments as pydantic derives it."""
    return _adapter(request).json_schema()


_ADAPTERS: dict[type[ToolRequest], TypeAdapter[Any]] = {}


def _adapter(request: type[ToolRequest]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if request not in _ADAPTERS:
        _ADAPTERS[request] = TypeAdapter(request)
    return _ADAPTERS[request]


def _problems(request: ToolRequest) -> Iterator[str]:
    """One sentence for each value that its field's metadata does not allow."""
    for item in fields(request):
        value, metadata = getattr(request, item.name), item.metadata
        if value is None:
            continue
        if not isinstance(value, tuple):
            yield from _problem(item.name, value, metadata, metadata.get("max_length"))
            continue
        for index, entry in enumerate(value):
            yield from _problem(f"{item.name}.{index}", entry, metadata, metadata.get("item_max_length"))


def _problem(place: str, value: Any, metadata: Mapping[str, Any], max_length: int | None) -> Iterator[str]:
    """In pydantic's words where pydantic has the same rule."""
    pattern: str | None = metadata.get("pattern")
    check: Callable[[Any], None] | None = metadata.get("check")
    if max_length is not None and len(value) > max_length:
        yield f"{place}: String should have at most {max_length} characters"
    elif pattern and not re.fullmatch(pattern, value):
        yield f"{place}: String should match pattern '{pattern}'"
    elif "ge" in metadata and value < metadata["ge"]:
        yield f"{place}: Input should be greater than or equal to {metadata['ge']}"
    elif "le" in metadata and value > metadata["le"]:
        yield f"{place}: Input should be less than or equal to {metadata['le']}"
    elif check:
        try:
            check(value)
        except ValueError as error:
            yield f"{place}: {error}"


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location) or "arguments"
    if kind == "unexpected_keyword_argument":
        return f"{name[:80]} is not an argument of this tool"
    return f"{name[:80]}: {message}"


def _invalid(request: type[ToolRequest], problems: list[str]) -> CounselError:
    accepted = sorted(argument_names(request))
    return CounselError(
        Code.INVALID_ARGUMENTS,
        "; ".join(problems[:5]),
        details={"accepted_arguments": accepted},
    )
