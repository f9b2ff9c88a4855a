"""What a caller may ask for: one frozen model per tool. Wire schema, command line and docs derive from it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from codex_counsel.contract.ids import JOB_ID, SESSION_ID
from codex_counsel.errors import Code, CounselError


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL byte")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank")
    return _no_nul(value)


def _plain_word(value: str) -> str:
    if value.startswith("-"):
        raise ValueError("begins with '-'")
    return _not_blank(value)


def _usable_schema(value: dict[str, Any]) -> dict[str, Any]:
    from codex_counsel.contract import output_schema as schemas

    return schemas.check(value)


Text = Annotated[str, AfterValidator(_not_blank)]
Word = Annotated[str, Field(max_length=200), AfterValidator(_plain_word)]
Path = Annotated[str, Field(max_length=4096), AfterValidator(_not_blank)]
JobId = Annotated[str, Field(pattern=JOB_ID)]
Cursor = Annotated[str, Field(max_length=200)]
Wait = Annotated[int, Field(ge=0, le=50, description="block up to so many seconds until the job has ended")]


class Request(BaseModel):
    """Arguments of one tool; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tool: ClassVar[str]


class RunRequest(Request):
    """What every tool that runs the model takes."""

    workspace_root: Path | None = Field(None, description="absolute; default: the project's directory")
    model: Word | None = None
    effort: Word | None = None
    session_id: Annotated[str, Field(pattern=SESSION_ID)] | None = Field(
        None, description="continue exactly this Codex thread (meta.session_id of an earlier result)"
    )
    profile: Word | None = Field(None, description="Codex configuration profile")
    extra_roots: tuple[Path, ...] = Field((), max_length=20, description="further directories Codex may read")
    timeout_seconds: Annotated[int, Field(ge=10, le=7200)] | None = None
    idempotency_key: Annotated[str, Field(max_length=200), AfterValidator(_not_blank)] | None = Field(
        None, description="same key and arguments: the same run"
    )
    detail: Literal["summary", "full"] = "full"

    @property
    def subject(self) -> str:
        """The words a person recognises the run by."""
        raise NotImplementedError


class Consult(RunRequest):
    tool: ClassVar[str] = "codex_consult"

    question: Text = Field(description="self-contained; say what you know and what you tried")
    extra_context: Text | None = Field(None, description="material that lies outside the workspace")
    stance: Literal["advise", "challenge"] = "advise"
    text_only: bool = Field(default=False, description="no shell: answer from the text alone")
    images: tuple[Path, ...] = Field((), max_length=10)
    web_search: bool = False
    network: bool = Field(default=False, description="let its commands use the network")
    output_schema: Annotated[dict[str, Any], AfterValidator(_usable_schema)] | None = Field(
        None, description="JSON Schema of the reply, returned as data"
    )

    @property
    def subject(self) -> str:
        return self.question


class ReviewChanges(RunRequest):
    tool: ClassVar[str] = "codex_review_changes"

    scope: Literal["working_tree", "staged", "branch", "commit", "range", "files"] = Field(
        "working_tree", description="working_tree: uncommitted and untracked; files: whole files, nothing changed"
    )
    base: Word | None = Field(None, description="scope branch; default: the remote's default branch")
    commit: Word | None = Field(None, description="scope commit; default: HEAD")
    range: Word | None = Field(None, description="scope range: a..b or a...b")
    paths: tuple[Path, ...] = Field((), max_length=500, description="literal, relative to the workspace")
    focus: Text | None = Field(None, description="what to look at, or a question about an earlier review's findings")
    stance: Literal["review", "challenge"] = "review"
    plan: Text | None = Field(None, description="what was agreed: promised but missing steps become findings")
    plan_path: Path | None = None
    extra_context: Text | None = None
    web_search: bool = False
    network: bool = False

    @property
    def subject(self) -> str:
        return " ".join(filter(None, (self.scope, self.base, self.commit, self.range, *self.paths, self.focus)))


class ReviewPlan(RunRequest):
    tool: ClassVar[str] = "codex_review_plan"

    plan: Text | None = Field(None, description="the text; or plan_path")
    plan_path: Path | None = Field(None, description="a file, also outside the workspace")
    focus: Text | None = None
    stance: Literal["review", "challenge"] = "review"
    extra_context: Text | None = None
    web_search: bool = False

    @property
    def subject(self) -> str:
        return self.plan_path or self.plan or ""


class DryRun(ReviewChanges):
    """The arguments of the review it previews."""

    tool: ClassVar[str] = "codex_dry_run"


class Delegate(RunRequest):
    tool: ClassVar[str] = "codex_delegate"

    task: Text = Field(description="what to do, how to check it, what to leave alone")
    extra_context: Text | None = None
    from_job: JobId | None = Field(None, description="go on from this delegate job's diff and thread")
    images: tuple[Path, ...] = Field((), max_length=10)
    web_search: bool = False
    network: bool = Field(default=False, description="let its commands use the network")

    @property
    def subject(self) -> str:
        return self.task


class DelegateDryRun(Delegate):
    """The arguments of the delegate it previews."""

    tool: ClassVar[str] = "codex_delegate_dry_run"


class Apply(Request):
    tool: ClassVar[str] = "codex_apply"

    job_id: JobId
    workspace_root: Path | None = None
    check_only: bool = False
    allow_paths: tuple[Path, ...] = Field((), max_length=500, description="sensitive paths you looked at and accept")
    undo: bool = Field(default=False, description="take an applied diff back")


class Status(Request):
    tool: ClassVar[str] = "codex_status"

    workspace_root: Path | None = None
    clear_limits: bool = Field(default=False, description="forget remembered usage and rate limits")


class Models(Request):
    tool: ClassVar[str] = "codex_models"


class Capabilities(Request):
    tool: ClassVar[str] = "codex_capabilities"


class JobStatus(Request):
    tool: ClassVar[str] = "codex_job_status"

    job_id: JobId
    wait_seconds: Wait = 0


class JobResult(Request):
    tool: ClassVar[str] = "codex_job_result"

    job_id: JobId
    wait_seconds: Wait = 0
    detail: Literal["summary", "full"] = "full"
    cursor: Cursor | None = Field(None, description="meta.next_cursor of the page before")


class JobConsume(JobResult):
    tool: ClassVar[str] = "codex_job_consume_result"


class JobCancel(Request):
    tool: ClassVar[str] = "codex_job_cancel"

    job_id: JobId


class JobList(Request):
    tool: ClassVar[str] = "codex_job_list"

    workspace_root: Path | None = Field(None, description="only jobs of this workspace")
    status: Literal["queued", "running", "completed", "failed", "cancelled"] | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    cursor: Cursor | None = None


class Transfer(Request):
    tool: ClassVar[str] = "codex_transfer"

    transcript_path: Path | None = Field(None, description="of another session: its file, or SESSION_ID.jsonl")
    workspace_root: Path | None = None


R = TypeVar("R", bound=Request)


def parse(model: type[R], arguments: dict[str, Any]) -> R:
    """Validate, or raise `invalid_arguments` with one sentence per argument and no echo of its value."""
    from pydantic import ValidationError

    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = [_problem(item["loc"], item["type"], item["msg"]) for item in error.errors(include_input=False)]
        known = sorted(model.model_fields)
        raise CounselError(
            Code.INVALID_ARGUMENTS, "; ".join(problems[:5]), details={"accepted_arguments": known}
        ) from None


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location) or "arguments"
    if kind == "extra_forbidden":
        return f"{name[:80]} is not an argument of this tool"
    return f"{name[:80]}: {message.removeprefix('Value error, ')}"
