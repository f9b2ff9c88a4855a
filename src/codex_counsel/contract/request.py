"""What a caller may ask for: one frozen dataclass per tool. Wire schema, command line and docs derive from it.

The classes are plain dataclasses, so that the command line reads them without importing
pydantic; only `parse` and `json_schema` import it. `field(metadata=...)` holds the keyword
arguments of a pydantic field (`description`, `pattern`, `ge`, `le`, `max_length`, …),
which pydantic reads from there, and two keys of our own:

- `check`: a function that is called with the value, or with each item of a tuple; raises ValueError
- `item_max_length`: the most characters of an item of a tuple

`alias`, a key of pydantic's, is the name on the wire where Python has no such name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from codex_counsel.contract.settings import MAX_TOKENS_BOUNDS
from codex_counsel.contract.vocabulary import (
    DEFAULT_SCOPE,
    JOB_ID,
    THREAD_ID,
    AdviceStance,
    Detail,
    FindingAction,
    Prove,
    ReviewStance,
    ScopeKind,
    Since,
    StatusFilter,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import clean

if TYPE_CHECKING:
    from pydantic import TypeAdapter


# --- checks that pydantic does not know


def check_text(value: str) -> None:
    """Raises ValueError for a blank text, and for one with a NUL byte."""
    if not value.strip():
        raise ValueError("is blank")
    if "\0" in value:
        raise ValueError("holds a NUL byte")


def _check_word(value: str) -> None:
    """A word may become a command-line argument of git or Codex, so it must not read as an option."""
    if value.startswith("-"):
        raise ValueError("begins with '-'")
    check_text(value)


def _check_reason(value: str) -> None:
    """A text of which something is left when it is stored without control characters."""
    check_text(value)
    check_text(clean(value))


def _check_max_tokens(value: int) -> None:
    # In the published schema each tool that runs the model would repeat the bounds.
    low, high = MAX_TOKENS_BOUNDS
    if not low <= value <= high:
        raise ValueError(f"is not between {low} and {high}")


def _check_pull_request(value: str) -> None:
    # As for `_check_max_tokens`.
    if len(value) > MAX_URL:
        raise ValueError(f"has more than {MAX_URL} characters")
    _check_word(value)


def _check_output_schema(value: JsonObject) -> None:
    # It imports jsonschema, which takes long, and few requests bring a schema.
    from codex_counsel.contract.output_schema import check_schema

    check_schema(value)


# --- fields and their rules

FieldRule = dict[str, Any]
"""Part of a field's metadata: what its value must fulfil, see above."""
TEXT: FieldRule = {"check": check_text}
KEY: FieldRule = {"check": check_text, "max_length": 200}
WORD: FieldRule = {"check": _check_word, "max_length": 200}
PATH: FieldRule = {"check": check_text, "max_length": 4096}
PATHS: FieldRule = {"check": check_text, "item_max_length": 4096}
JOB: FieldRule = {"pattern": JOB_ID}
FINDING: FieldRule = {"pattern": "^[0-9a-f]{4,16}$"}
"""The id of a finding, or its first digits."""
MAX_REASON = 2_000
REASON: FieldRule = {"check": _check_reason, "max_length": MAX_REASON}
WAIT: FieldRule = {"ge": 0, "le": 50}
CURSOR: FieldRule = {"max_length": 200}


def _argument(default: Any = None, description: str = "", **rule: Any) -> Any:
    """An argument that may be left out."""
    return field(default=default, metadata=_metadata(description, rule))


def _required_argument(description: str = "", **rule: Any) -> Any:
    return field(metadata=_metadata(description, rule))


def _metadata(description: str, rule: FieldRule) -> FieldRule:
    if description:
        return {**rule, "description": description}
    return rule


LATER_ARGUMENTS: Mapping[str, Json] = {
    "max_tokens": None,
    "since": "base",
    "prove": "none",
    "pr": None,
    "attempts": 1,
    "check": None,
    "judge": False,
    "models": (),
    "efforts": (),
}
"""Arguments that earlier releases did not know, with their defaults: a call without them has the digest that it had."""
MAX_ATTEMPTS = 5
MAX_URL = 2_000
MAX_CHECK = 4_000
"""Characters of the command of a check."""


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

    workspace_root: str | None = _argument(
        None,
        "absolute; default: the project's directory",
        **PATH,
    )
    model: str | None = _argument(**WORD)
    effort: str | None = _argument(**WORD)
    session_id: str | None = _argument(
        None,
        "Codex thread to continue: meta.session_id",
        pattern=THREAD_ID,
    )
    profile: str | None = _argument(
        None,
        "Codex configuration profile",
        **WORD,
    )
    extra_roots: tuple[str, ...] = _argument(
        (),
        "further directories Codex may read",
        max_length=20,
        **PATHS,
    )
    timeout_seconds: int | None = _argument(None, ge=10, le=7200)
    max_tokens: int | None = _argument(
        None, "of the whole run", check=_check_max_tokens
    )
    idempotency_key: str | None = _argument(
        None,
        "same key and arguments: the same run",
        **KEY,
    )
    detail: Detail = _argument("full")
    use_reserve: bool = _argument(
        default=False,
        description="only if the user asks",
    )

    def canonical(self) -> str:
        """As of every request; without `use_reserve`, which says when to run and not what."""
        arguments = asdict(self)
        del arguments["use_reserve"]
        for name, default in LATER_ARGUMENTS.items():
            if arguments.get(name) == default:
                arguments.pop(name, None)
        return json.dumps(arguments, sort_keys=True)

    @property
    def subject(self) -> str:
        """The words a person recognises the run by."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Consult(RunRequest):
    """A question about the workspace."""

    tool: ClassVar[str] = "codex_consult"

    question: str = _required_argument(
        "self-contained; say what you know and what you tried",
        **TEXT,
    )
    extra_context: str | None = _argument(
        None,
        "material that lies outside the workspace",
        **TEXT,
    )
    stance: AdviceStance = _argument("advise")
    text_only: bool = _argument(
        default=False,
        description="no shell: answer from the text alone",
    )
    images: tuple[str, ...] = _argument((), max_length=10, **PATHS)
    web_search: bool = _argument(default=False)
    network: bool = _argument(
        default=False,
        description="let its commands use the network",
    )
    output_schema: JsonObject | None = _argument(
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

    scope: ScopeKind | None = _argument(
        None,
        "working_tree: uncommitted, untracked; files: whole files",
    )
    base: str | None = _argument(
        None,
        "scope branch; default: the remote's default branch",
        **WORD,
    )
    commit: str | None = _argument(
        None,
        "scope commit; default: HEAD",
        **WORD,
    )
    range: str | None = _argument(
        None,
        "scope range: a..b or a...b",
        **WORD,
    )
    pr: str | None = _argument(
        None,
        "pull request: number or URL; no scope",
        check=_check_pull_request,
        # A model writes a number as a number.
        coerce_numbers_to_str=True,
    )
    since: Since = _argument(
        "base", "scope branch, range; last: only what no review has seen yet"
    )
    paths: tuple[str, ...] = _argument(
        (),
        "literal, relative to the workspace",
        max_length=500,
        **PATHS,
    )
    focus: str | None = _argument(
        None,
        "what to look at, or a question about earlier findings",
        **TEXT,
    )
    stance: ReviewStance = _argument("review")
    plan: str | None = _argument(
        None,
        "as agreed: missing steps become findings",
        **TEXT,
    )
    plan_path: str | None = _argument(**PATH)
    extra_context: str | None = _argument(**TEXT)
    web_search: bool = _argument(default=False)
    network: bool = _argument(default=False)
    prove: Prove = _argument(
        "none", "run a test for each finding, one more turn each; high: and critical"
    )

    def canonical(self) -> str:
        """As of every run. Left out, `scope` stands as the default that it had before a project file could name one."""
        arguments = json.loads(super().canonical())
        arguments["scope"] = self.scope or DEFAULT_SCOPE
        return json.dumps(arguments, sort_keys=True)

    @property
    def subject(self) -> str:
        words = (
            self.scope,
            self.base,
            self.commit,
            self.range,
            self.pr,
            *self.paths,
            self.focus,
        )
        return " ".join(word for word in words if word)


@dataclass(frozen=True, kw_only=True)
class ReviewPlan(RunRequest):
    """A review of a plan, given as text or as a file."""

    tool: ClassVar[str] = "codex_review_plan"

    plan: str | None = _argument(
        None,
        "the text; or plan_path",
        **TEXT,
    )
    plan_path: str | None = _argument(
        None,
        "a file; also a plan of Claude Code",
        **PATH,
    )
    focus: str | None = _argument(**TEXT)
    stance: ReviewStance = _argument("review")
    extra_context: str | None = _argument(**TEXT)
    web_search: bool = _argument(default=False)

    @property
    def subject(self) -> str:
        return self.plan_path or self.plan or ""


# The subclasses without a decorator add no field; what they inherit is made once, which
# start-up time shows.
class DryRun(ReviewChanges):
    """The arguments of the review it previews."""

    tool: ClassVar[str] = "codex_dry_run"


@dataclass(frozen=True, kw_only=True)
class Delegate(RunRequest):
    """A task, done in a copy of the repository."""

    tool: ClassVar[str] = "codex_delegate"

    task: str = _required_argument(
        "what to do, how to check it, what to leave alone",
        **TEXT,
    )
    extra_context: str | None = _argument(**TEXT)
    from_job: str | None = _argument(
        None,
        "go on from this delegate job's diff and thread",
        **JOB,
    )
    images: tuple[str, ...] = _argument((), max_length=10, **PATHS)
    web_search: bool = _argument(default=False)
    network: bool = _argument(default=False)
    attempts: int = _argument(
        1, "so many runs, ranked by check; 1-5", ge=1, le=MAX_ATTEMPTS
    )
    check: str | None = _argument(
        None,
        "shell command the result must pass; run by us",
        check=check_text,
        max_length=MAX_CHECK,
    )
    judge: bool = _argument(
        default=False, description="one more turn compares the attempts"
    )
    models: tuple[str, ...] = _argument(
        (),
        "one for each attempt",
        max_length=MAX_ATTEMPTS,
        check=_check_word,
        item_max_length=200,
    )
    efforts: tuple[str, ...] = _argument(
        (), max_length=MAX_ATTEMPTS, check=_check_word, item_max_length=200
    )

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

    job_id: str = _required_argument(**JOB)
    workspace_root: str | None = _argument(**PATH)
    check_only: bool = _argument(default=False)
    allow_paths: tuple[str, ...] = _argument(
        (),
        "sensitive paths you looked at and accept",
        max_length=500,
        **PATHS,
    )
    undo: bool = _argument(
        default=False,
        description="take an applied diff back",
    )


@dataclass(frozen=True, kw_only=True)
class Status(ToolRequest):
    """Whether Codex is usable here."""

    tool: ClassVar[str] = "codex_status"

    workspace_root: str | None = _argument(**PATH)
    clear_limits: bool = _argument(
        default=False,
        description="forget remembered limits",
    )


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

    job_id: str = _required_argument(**JOB)
    wait_seconds: int = _argument(
        0,
        "for its end",
        **WAIT,
    )


@dataclass(frozen=True, kw_only=True)
class JobResult(ToolRequest):
    """A page of the result of a run."""

    tool: ClassVar[str] = "codex_job_result"

    job_id: str = _required_argument(**JOB)
    wait_seconds: int = _argument(
        0,
        "for its end",
        **WAIT,
    )
    detail: Detail = _argument("full")
    cursor: str | None = _argument(
        None,
        "meta.next_cursor of the page before",
        **CURSOR,
    )


class JobConsume(JobResult):
    """A page of the result; a minute after the last page, or later, the record is deleted."""

    tool: ClassVar[str] = "codex_job_consume_result"


@dataclass(frozen=True, kw_only=True)
class JobCancel(ToolRequest):
    """The end of a run and all its processes."""

    tool: ClassVar[str] = "codex_job_cancel"

    job_id: str = _required_argument(**JOB)


@dataclass(frozen=True, kw_only=True)
class JobList(ToolRequest):
    """Runs of this user, newest first."""

    tool: ClassVar[str] = "codex_job_list"

    workspace_root: str | None = _argument(
        None,
        "only jobs of this workspace",
        **PATH,
    )
    status: StatusFilter | None = _argument(None)
    limit: int = _argument(20, ge=1, le=200)
    cursor: str | None = _argument(**CURSOR)


@dataclass(frozen=True, kw_only=True)
class Findings(ToolRequest):
    """What is on record of the findings of a repository, or a change of it."""

    tool: ClassVar[str] = "codex_findings"

    action: FindingAction = _argument("list")
    id: str | None = _argument(None, "or its first digits", **FINDING)
    reason: str | None = _argument(None, "needed to reject", **REASON)
    workspace_root: str | None = _argument(**PATH)


@dataclass(frozen=True, kw_only=True)
class Transfer(ToolRequest):
    """A session of Claude Code, to go on in Codex."""

    tool: ClassVar[str] = "codex_transfer"

    transcript_path: str | None = _argument(
        None,
        "of another session: its file, or SESSION_ID.jsonl",
        **PATH,
    )
    workspace_root: str | None = _argument(**PATH)


# --- from arguments to a request

R = TypeVar("R", bound=ToolRequest)


def parse(request: type[R], arguments: Mapping[str, Json]) -> R:
    """Validate; a null is an argument left out.

    Raises `invalid_arguments` with one sentence per argument, at most five. No value is
    repeated in it.
    """
    # Whoever has a request already, or only reads jobs, does without pydantic.
    from pydantic import ValidationError

    present = {name: value for name, value in arguments.items() if value is not None}
    try:
        parsed: R = _adapter(request).validate_python(present)
    except ValidationError as error:
        problems = [
            _sentence(request, item["loc"], item["type"], item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise _invalid(request, problems) from None

    return validate(parsed)


def validate(request: R) -> R:
    """The request itself, where the values have their types already: no pydantic is imported.

    Raises `invalid_arguments` as `parse` does.
    """
    problems = list(_problems(request))
    if problems:
        raise _invalid(type(request), problems)
    return request


def argument_names(request: type[ToolRequest]) -> list[str]:
    """The names of the arguments, as callers write them, in the order of declaration."""
    return [_wire_name(item) for item in fields(request)]


def _wire_name(item: Field[Any]) -> str:
    return str(item.metadata.get("alias", item.name))


def json_schema(kind: type) -> JsonObject:
    """The JSON Schema of a request, or of another dataclass, as pydantic derives it."""
    return _adapter(kind).json_schema()


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    # See `parse`.
    from pydantic import TypeAdapter

    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _problems(request: ToolRequest) -> Iterator[str]:
    """One sentence for each value that its field's metadata does not allow."""
    for item in fields(request):
        value, metadata = getattr(request, item.name), item.metadata
        name = _wire_name(item)
        if value is None:
            continue
        if not isinstance(value, tuple):
            yield from _problem(name, value, metadata, metadata.get("max_length"))
            continue
        for index, entry in enumerate(value):
            yield from _problem(
                f"{name}.{index}", entry, metadata, metadata.get("item_max_length")
            )


def _problem(
    place: str, value: Json, metadata: Mapping[str, Json], max_length: int | None
) -> Iterator[str]:
    """In pydantic's words where pydantic has the same rule."""
    pattern: str | None = metadata.get("pattern")
    check: Callable[[Json], None] | None = metadata.get("check")
    if max_length is not None and not is_unicode(value):
        yield f"{place}: Input should be a valid string, unable to parse raw data as a unicode string"
    elif max_length is not None and len(value) > max_length:
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


def is_unicode(text: str) -> bool:
    """Whether the text has no lone surrogate: such a text cannot be a path or a word of a command."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sentence(
    request: type[ToolRequest],
    location: tuple[int | str, ...],
    kind: str,
    message: str,
) -> str:
    name = ".".join(str(part) for part in location) or "arguments"
    if kind == "unexpected_keyword_argument":
        for item in fields(request):
            if item.name == name:
                return f"{name} is not an argument of this tool: it is called {_wire_name(item)}"
        return f"{name[:80]} is not an argument of this tool"
    return f"{name[:80]}: {message}"


def _invalid(request: type[ToolRequest], problems: list[str]) -> CounselError:
    names = sorted(argument_names(request))
    return CounselError(
        Code.INVALID_ARGUMENTS,
        "; ".join(problems[:5]),
        details={"accepted_arguments": names},
    )
