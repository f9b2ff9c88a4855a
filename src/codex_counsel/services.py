"""What this bridge does, one function each. The MCP server and the command line both call these and nothing below."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from codex_counsel import (
    __version__,
    apply,
    backoff,
    codex,
    delegate,
    failures,
    paging,
    plan,
    plugins,
    review,
    tasks,
    workspace,
)
from codex_counsel import settings as settings_module
from codex_counsel.codex import Codex, Login, Probes
from codex_counsel.envelope import CodexUsed, Envelope, Meta, Wire, free
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import launcher
from codex_counsel.jobs.launcher import Birth, Handle
from codex_counsel.jobs.record import Job
from codex_counsel.jobs.store import Store
from codex_counsel.request import (
    Apply,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    Status,
)
from codex_counsel.sandbox import MAX_SECRETS, Boundary
from codex_counsel.settings import Settings
from codex_counsel.spec import Spec
from codex_counsel.tasks import Place, Task
from codex_counsel.text import clean, cut, one_line

LOG = logging.getLogger("codex_counsel")
MAX_SHOWN = 50
"""Paths of each kind that a dry run lists."""


@dataclass(frozen=True)
class Ready:
    """Everything about Codex and the workspace that a run needs, checked before anything is spent."""

    place: Place
    codex: Codex
    login: Login
    config: Mapping[str, Any]
    isolation: str


class Counsel:
    """The services for one environment and working directory."""

    def __init__(
        self, env: Mapping[str, str] | None = None, cwd: Path | None = None, settings: Settings | None = None
    ) -> None:
        self.env = dict(os.environ if env is None else env)
        self.cwd = cwd or Path.cwd()
        self.settings = settings or settings_module.load(self.env)
        self.store = Store(self.settings.state)
        self.places = workspace.Places.of(self.env, self.settings.state)
        self.probes = Probes(self.settings.state / "probes.json")

    # --- runs

    def consult(self, request: Consult, *, background: bool = False) -> Handle:
        """Start a consultation, or join the one with the same idempotency key."""
        return self._once(request, lambda place: tasks.consult(request, place, self.settings), background=background)

    def review_changes(self, request: ReviewChanges, *, background: bool = False) -> Handle:
        """Start a review of changes, or join the one with the same idempotency key."""
        return self._once(request, lambda place: self._review_task(request, place), background=background)

    def review_plan(self, request: ReviewPlan, *, background: bool = False) -> Handle:
        """Start a review of a plan, or join the one with the same idempotency key."""
        return self._once(
            request, lambda place: tasks.review_plan(request, place, self.settings), background=background
        )

    def delegate(self, request: Delegate, *, background: bool = False) -> Handle:
        """Start a delegated task, or join the one with the same idempotency key."""
        self.sweep()
        return self._once(self._continued(request), lambda place: self._errand(request, place), background=background)

    def _continued(self, request: Delegate) -> Delegate:
        """With `from_job` the thread of that job goes on."""
        if not request.from_job or request.session_id:
            return request
        thread = (self._earlier(request.from_job).outcome() or {}).get("meta", {}).get("session_id")
        return request.model_copy(update={"session_id": thread})

    def _errand(self, request: Delegate, place: Place) -> Task:
        earlier = self._earlier(request.from_job) if request.from_job else None
        if earlier and earlier.spec().workspace != str(place.root):
            raise CounselError(Code.WORKSPACE_INVALID, f"Job {earlier.id} was made for {earlier.spec().workspace}")
        return tasks.delegate(request, place, self.settings, earlier.path if earlier else None)

    def _earlier(self, job_id: str) -> Job:
        """A delegate job that has ended and whose diff is on record."""
        job = self.store.job(job_id)
        if job.outcome() is None:
            raise CounselError(Code.JOB_RUNNING, f"Job {job_id} has not finished")
        if not (job.path / "diff.patch").is_file():
            raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job_id} has no diff: it is no delegate, or made no tree")
        return job

    def sweep(self) -> int:
        """Harvest and remove what dead runs left, of any session; returns how many trees there were.

        A tree whose record is gone belongs to nobody. One whose work could not be captured stays as long as its record.
        """
        found = list(delegate.leftovers(self.places.trees))
        for path, owner in found:
            if owner.is_dir():
                with contextlib.suppress(CounselError, OSError):
                    Job(owner).outcome()
            else:
                delegate.shadow_of(str(path), self.settings.git_timeout_seconds).remove()
        return sum(not path.exists() for path, _ in found)

    def _review_task(self, request: ReviewChanges, place: Place) -> Task:
        seen = self.store.sent_last(request.session_id) if request.session_id else None
        return tasks.review_changes(request, place, self.settings, seen)

    def _once(self, request: RunRequest, make: Callable[[Place], Task], *, background: bool) -> Handle:
        key = request.idempotency_key
        if key is None:
            return self._start(request, make, background=background)
        root = str(self._place(request.workspace_root).root)
        arguments = launcher.digest(json.dumps(request.model_dump(mode="json"), sort_keys=True), root)
        try:
            self.store.prepare()
        except OSError as error:
            raise CounselError(Code.STORAGE_FAILED, f"An idempotency key needs the state directory: {error}") from None
        begin = partial(self._start, request, make, background=background)
        return launcher.once(self.store, request.tool, key, arguments, begin)

    def _start(self, request: RunRequest, make: Callable[[Place], Task], *, background: bool) -> Handle:
        ready = self.ready(request)
        task = make(ready.place)
        turn = self._turn(request, ready, task)
        with contextlib.suppress(OSError):
            self.store.evict(self.settings.job_ttl, self.settings.job_max_count)
        return launcher.launch(self.store, self._birth(request, ready, turn, task, background=background))

    def ready(self, request: RunRequest) -> Ready:
        """Check everything that costs nothing, cheapest first; raises what is wrong with its repair."""
        place = self._place(request.workspace_root)
        profile = request.profile or self.settings.profile
        found = self.codex
        config = self._configuration(self._known_profile(profile))
        run = self._codex_env(place)
        login = codex.login(found, self.places.codex_home, run, config)
        if not login.present:
            raise CounselError(Code.AUTH_REQUIRED, _login_hint(self.env))
        backoff.Limits(self.settings.state, login.identity).check()
        if not getattr(request, "text_only", False) and (reason := codex.holds(found, run, self.probes)):
            raise failures.from_probe(reason)
        return Ready(place, found, login, config, self.settings.isolation)

    def _configuration(self, profile: str | None) -> dict[str, Any]:
        """What Codex will be configured for: with isolation `strict` it reads nothing of the user's."""
        strict = self.settings.isolation == "strict"
        return {} if strict else codex.configuration(self.places.codex_home, profile)

    @property
    def codex(self) -> Codex:
        return codex.find(self.settings.codex_bin, self.env.get("PATH", os.defpath), self.probes)

    def _codex_env(self, place: Place | None = None) -> dict[str, str]:
        """The environment of a probe: what a run gets, with the Codex home spelled out."""
        around = (place.top or place.root) if place else None
        env = plan.environment(self.env, "probe", Path(tempfile.gettempdir()), around)
        return env | {"CODEX_HOME": str(self.places.codex_home)}

    def _known_profile(self, name: str | None) -> str | None:
        """Codex ignores a profile that does not exist; we do not."""
        if name and not (self.places.codex_home / f"{name}.config.toml").is_file():
            raise CounselError(Code.INVALID_ARGUMENTS, f"profile: there is no {name}.config.toml in the Codex home")
        return name

    def _place(self, given: str | None) -> Place:
        chosen = [
            ("argument", given),
            ("CLAUDE_PROJECT_DIR", self.env.get("CLAUDE_PROJECT_DIR")),
            ("cwd", str(self.cwd)),
        ]
        source, path = next((source, path) for source, path in chosen if path)
        root = workspace.checked_root(str(path), self.places)
        top, git = workspace.repository(root, self.places)
        return Place(root, source, top, git, self.places.denied())

    def boundary(self, request: RunRequest, ready: Ready) -> Boundary:
        """What this run may touch."""
        working = isinstance(request, Delegate)
        reads: Any = self.settings.read_boundary or ("toolchains" if working else "workspace")
        extra = [workspace.checked_root(root, self.places) for root in request.extra_roots]
        own = [ready.place.top, *ready.place.git, *extra]
        own = [*self._toolbox(ready.place), *extra] if working else own
        roots = tuple(dict.fromkeys(path for path in own if path and path != ready.place.root))
        tools = workspace.toolchains(self.env.get("PATH", ""), self.places) if reads == "toolchains" else ()
        searched = extra if working else [ready.place.top or ready.place.root, *extra]
        found, complete = workspace.find_secrets(searched)
        return Boundary(
            workspace=ready.place.root,
            reads=reads,
            network=bool(getattr(request, "network", False)),
            readable=(ready.codex.package, *roots, *tools),
            denied=self.places.denied_around(ready.codex.package),
            secrets=found,
            secrets_complete=complete,
        )

    def _toolbox(self, place: Place) -> list[Path]:
        """What a delegate needs of the user's repository: git's objects, and the project's own environments."""
        top = place.top or place.root
        common = place.git[0] if place.git else top / ".git"
        environments = [folder / name for folder in (top, place.root) for name in (".venv", "venv", "node_modules")]
        found = [path for path in environments if path.is_dir() and not path.is_symlink()]
        return [common / "objects", *found, *(base for path in found for base in workspace.interpreter(path))]

    def _turn(self, request: RunRequest, ready: Ready, task: Task) -> plan.Turn:
        profile = request.profile or self.settings.profile
        servers: tuple[str, ...] = ()
        if ready.isolation == "lean":
            servers = codex.mcp_servers(
                ready.codex, self._codex_env(ready.place), ready.place.root, profile, self.probes
            )
        return plan.Turn(
            boundary=self.boundary(request, ready),
            model=request.model or self.settings.model,
            effort=request.effort or self.settings.effort,
            profile=profile,
            session_id=request.session_id,
            isolation=ready.isolation,
            mcp_servers=servers,
            images=task.images,
            web_search=bool(getattr(request, "web_search", False)),
            text_only=bool(getattr(request, "text_only", False)),
        )

    def _birth(self, request: RunRequest, ready: Ready, turn: plan.Turn, task: Task, *, background: bool) -> Birth:
        job_id = secrets.token_hex(16)
        above = (self.places.trees if task.errand else Path(tempfile.gettempdir())).resolve()
        scratch = above / f"codex-counsel-{job_id}"
        schema = self.store.directory / job_id / "schema.json" if task.schema else None
        turn = replace(_placed(turn, task, scratch), schema=schema)
        spec = Spec(
            job_id=job_id,
            tool=request.tool,
            subject=one_line(clean(request.subject), 200),
            created=time.time(),
            argv=plan.argv(ready.codex, turn),
            cwd=str(turn.cwd or ready.place.root) if not task.errand else "/",
            codex_home=str(self.places.codex_home),
            state=str(self.settings.state),
            scratch=str(scratch),
            total=request.timeout_seconds or self.settings.timeout_seconds,
            idle=self.settings.idle_seconds,
            slots=self.settings.max_running,
            account=ready.login.identity,
            backoff=self.settings.backoff_seconds,
            ttl=self.settings.job_ttl,
            workspace=str(ready.place.root),
            meta=self._meta(ready, turn, task),
            session_id=request.session_id,
            output_schema=None if task.basis else task.schema,
            review=asdict(task.basis) if task.basis else None,
            library=_library() if task.schema and not task.basis else None,
            delegate=asdict(task.errand) if task.errand else None,
            detached=background,
        )
        temporary = scratch / "tmp" if task.errand else scratch
        env = plan.environment(self.env, job_id, temporary, ready.place.top or ready.place.root)
        return Birth(spec, task.prompt, task.schema, env)

    def _meta(self, ready: Ready, turn: plan.Turn, task: Task) -> dict[str, Any]:
        meta = Meta(
            workspace=ready.place.report(),
            sandbox=turn.boundary.report(),
            codex=CodexUsed(path=str(ready.codex.path), version=ready.codex.version),
            model=turn.model or ready.config.get("model"),
            effort=turn.effort or ready.config.get("model_reasoning_effort"),
            isolation=ready.isolation,
            scope=task.scope,
            warnings=[*task.warnings, *_boundary_warnings(turn.boundary)],
            fingerprint=fingerprint(),
        )
        return {name: value for name, value in asdict(meta).items() if value is not None}

    # --- results

    def deliver(self, handle: Handle, wire: Wire, detail: str = "full") -> Wire:
        """The first page of a finished run. What has no record on disk is given whole."""
        if handle.private or not (handle.job.path / "result.json").exists():
            return wire
        return self._delivered(handle.job, paging.fit(wire, detail))

    def hand_over(self, handle: Handle) -> Wire:
        """Leave the run to itself and say where to find it."""
        handle.detach()
        handle.release()
        return handle.job.outcome() or handle.job.running().wire()

    def _delivered(self, job: Job, page: Wire) -> Wire:
        if "next_cursor" not in page["meta"]:
            job.mark_delivered()
        return page

    def job_status(self, request: JobStatus) -> Wire:
        """Where the run stands; a finished one in summary."""
        job = self.store.job(request.job_id)
        outcome = _awaited(job, request.wait_seconds)
        if outcome is None:
            return job.running().wire()
        kept = ("ok", "status", "tool", "summary", "verdict", "error", "meta")
        shown = {name: outcome[name] for name in kept if name in outcome}
        fetch = {"tool": "codex_job_result", "arguments": {"job_id": job.id}}
        return shown | {"job_id": job.id, "next": fetch}

    def job_result(self, request: JobResult) -> Wire:
        """The stored envelope, or a page of it; `running` while there is none."""
        job = self.store.job(request.job_id)
        outcome = _awaited(job, request.wait_seconds)
        if outcome is None:
            return job.running().wire()
        if request.cursor:
            return self._delivered(job, paging.page(outcome, request.cursor, request.detail))
        return self._delivered(job, paging.fit(outcome, request.detail))

    def job_consume(self, request: JobConsume) -> Wire:
        """As `job_result`; with the last page the record goes."""
        page = self.job_result(request)
        if page["status"] in ("completed", "failed", "cancelled") and "next_cursor" not in page["meta"]:
            self.store.drop(self.store.job(request.job_id))
        return page

    def job_cancel(self, request: JobCancel) -> Wire:
        """End the run and all its processes; a run that had finished returns its result."""
        job = self.store.job(request.job_id)
        outcome = self.store.cancel(job)
        if outcome["status"] != "cancelled":
            return self._delivered(job, paging.fit(outcome, "full"))
        job.mark_delivered()
        data = {"cancelled": True, "survivors": outcome.get("error", {}).get("details", {}).get("survivors", [])}
        meta = Meta(job_id=job.id, session_id=outcome["meta"].get("session_id"))
        return free(request.tool, f"Job {job.id} is cancelled; nothing of it is running", data, meta).wire()

    def job_list(self, request: JobList) -> Wire:
        """Jobs of this user, newest first."""
        rows = self.store.rows()
        if request.workspace_root:
            wanted = str(Path(request.workspace_root).resolve())
            rows = [row for row in rows if row.get("workspace") == wanted]
        if request.status:
            rows = [row for row in rows if row["status"] == request.status]
        start = int(request.cursor) if request.cursor and request.cursor.isdigit() else 0
        shown, more = rows[start : start + request.limit], len(rows) > start + request.limit
        meta = Meta(next_cursor=str(start + request.limit) if more else None, truncated=more or None)
        return free(request.tool, f"{len(rows)} jobs, {len(shown)} shown", {"jobs": shown}, meta).wire()

    def apply(self, request: Apply) -> Wire:
        """Put a delegate's diff onto the live tree, check only, or take it back."""
        job = self.store.job(request.job_id)
        root = self._place(request.workspace_root or job.spec().workspace).root
        data = apply.carry_out(job, root, request, self.settings.git_timeout_seconds)
        return free(request.tool, str(data.pop("summary")), data, Meta(job_id=job.id)).wire()

    def delegate_dry_run(self, request: DelegateDryRun) -> Wire:
        """What a delegate with these arguments would start from, by the same code path."""
        place = self._place(request.workspace_root)
        task = self._errand(request, place)
        seeding = task.seeding
        data: dict[str, Any] = {**tasks.bytes_of(task), **self._shown_access(request, task)}
        if seeding:
            counts = {"tracked": len(seeding.tracked), "untracked": seeding.untracked, "changed": seeding.changed}
            data["seed"] = {"head": seeding.head, **counts, "omitted": seeding.omitted[:200]}
        summary = (
            f"would start from {len(seeding.checkout) + len(seeding.copy) if seeding else 0} files; nothing was spent"
        )
        return free(request.tool, summary, data, Meta(workspace=place.report(), warnings=list(task.warnings))).wire()

    # --- free tools

    def dry_run(self, request: DryRun) -> Wire:
        """What a review with these arguments would send, by the same code path, and what it could touch."""
        place = self._place(request.workspace_root)
        task = self._review_task(request, place)
        seen = review.coverage(task.changes) if task.changes else None
        data: dict[str, Any] = {"scope": task.scope, **tasks.bytes_of(task), **self._shown_access(request, task)}
        files = f"{seen.files} files, " if seen else ""
        cost = f"{data['prompt_bytes']} bytes (about {data['estimated_tokens']} tokens)"
        meta = Meta(workspace=place.report(), warnings=list(task.warnings))
        envelope = free(request.tool, f"would send {files}{cost}; nothing was spent", data, meta)
        envelope.coverage = seen
        return _with_prompt(envelope, task.prompt, request.detail)

    def _shown_access(self, request: RunRequest, task: Task) -> dict[str, Any]:
        """Boundary and argv of the run, and what Codex adds by itself; why not, where it could not run."""
        try:
            ready = self.ready(request)
            where = self.places.trees / "codex-counsel-JOB"
            turn = _placed(self._turn(request, ready, task), task, where)
            added = codex.added(ready.codex, self._codex_env(ready.place), ready.place.root, plan.config(turn))
        except CounselError as error:
            return {"blocked": {"code": error.code, "message": error.message}}
        boundary = turn.boundary
        paths = {name: _some(getattr(boundary, name)) for name in ("readable", "denied", "secrets")}
        return {"sandbox": {**asdict(boundary.report()), **paths}, "codex_adds": added, "isolation": turn.isolation}

    def status(self, request: Status) -> Wire:
        """Is Codex usable here, and if not, why."""
        checks: dict[str, Any] = {"settings": _shown_settings(self.settings), "state_dir": str(self.settings.state)}
        problems: list[CounselError] = []
        for name, check in (("workspace", self._check_workspace), ("codex", self._check_codex)):
            try:
                checks |= check(request)
            except CounselError as error:
                problems.append(error)
                checks[name] = {"error": error.code, "message": clean(error.message)}
        problems += self._problems(checks)
        checks["usable"] = not problems
        said = "; ".join(one_line(p.message, 200) for p in problems)
        summary = (
            f"Codex {checks['codex'].get('version')} is usable" if not problems else f"Codex is not usable: {said}"
        )
        envelope = free(request.tool, summary, checks, Meta(warnings=[*self.settings.warnings, *self._rivals()]))
        if problems:
            envelope.next_steps = [p.repair or _repair(p) for p in problems]
        return envelope.wire()

    def notices(self) -> list[str]:
        """What a client should know before the first call; asks no program, so that a server starts fast."""
        if codex.nowhere(self.settings.codex_bin, self.env.get("PATH", os.defpath)):
            missing = "no Codex is installed here, so every call that needs one will fail: /codex:setup helps the user"
            return [missing, *self._rivals()]
        return self._rivals()

    def _rivals(self) -> list[str]:
        return plugins.notices(self.env, Path(self.env.get("CLAUDE_PROJECT_DIR") or self.cwd))

    def _check_workspace(self, request: Status) -> dict[str, Any]:
        place = self._place(request.workspace_root)
        shown = {"root": str(place.root), "source": place.source, "repository": str(place.top) if place.top else None}
        return {"workspace": shown}

    def _check_codex(self, request: Status) -> dict[str, Any]:
        found = self.codex
        config = self._configuration(self.settings.profile)
        place = None
        with contextlib.suppress(CounselError):
            place = self._place(request.workspace_root)
        run = self._codex_env(place)
        login = codex.login(found, self.places.codex_home, run, config)
        limits = backoff.Limits(self.settings.state, login.identity)
        cleared = limits.clear() if request.clear_limits else False
        mark = limits.mark()
        broken = codex.holds(found, run, self.probes)
        return {
            "codex": {"path": str(found.path), "version": found.version, "source": found.source},
            "login": {"kind": login.kind, "hint": None if login.present else _login_hint(self.env)},
            "sandbox": {
                "usable": not broken,
                "reason": broken,
                "read_boundary": self.settings.read_boundary or "workspace",
            },
            "limits": {
                "in_force": asdict(mark) if mark else None,
                "cleared": cleared,
                **self._quota(found, login),
            },
            "defaults": {
                "model": self.settings.model or config.get("model"),
                "isolation": self.settings.isolation,
                "effort": self.settings.effort or config.get("model_reasoning_effort"),
            },
        }

    def _quota(self, found: Codex, login: Login) -> dict[str, Any]:
        if login.kind not in ("chatgpt", "keyring"):
            return {}
        try:
            return {"quota": codex.rate_limits(found, self._codex_env())}
        except CounselError as error:
            return {"quota_error": error.message}

    def _problems(self, checks: dict[str, Any]) -> list[CounselError]:
        found = []
        if checks.get("login", {}).get("hint"):
            found.append(CounselError(Code.AUTH_REQUIRED, checks["login"]["hint"]))
        if checks.get("sandbox", {}).get("reason"):
            found.append(failures.from_probe(checks["sandbox"]["reason"]))
        if checks.get("limits", {}).get("in_force"):
            found.append(CounselError(Code.BACKING_OFF, checks["limits"]["in_force"]["message"]))
        return found

    def models(self) -> Wire:
        """Models and efforts that the installed Codex lists."""
        found = codex.models(self.codex, self._codex_env())
        default = next((row["model"] for row in found if row.get("default")), "none")
        return free("codex_models", f"{len(found)} models, default {default}", {"models": found}).wire()

    def capabilities(self) -> Wire:
        """Inventory and schema fingerprint."""
        from codex_counsel import catalogue

        return free(
            "codex_capabilities", f"codex-counsel {__version__}", catalogue.inventory(), Meta(fingerprint=fingerprint())
        ).wire()


def _placed(turn: plan.Turn, task: Task, scratch: Path) -> plan.Turn:
    """The turn with its private directories: a temporary one, and for a delegate the tree it works in."""
    boundary = turn.boundary
    if not task.errand:
        return replace(turn, boundary=boundary.with_scratch(scratch))
    tree = scratch / "tree"
    boundary = replace(
        boundary,
        workspace=tree,
        mode="worktree-write",
        readable=(*boundary.readable, scratch / "repo.git", tree / ".git"),
        scratch=(scratch / "tmp",),
        secrets=(*boundary.secrets, *(tree / name for name in task.secrets))[:MAX_SECRETS],
        secrets_complete=boundary.secrets_complete and len(boundary.secrets) + len(task.secrets) <= MAX_SECRETS,
    )
    return replace(turn, boundary=boundary, cwd=tree / task.errand.prefix)


@cache
def fingerprint() -> str:
    """Changes when a request, the envelope or the release changes."""
    here = Path(__file__).parent
    texts = [(here / name).read_bytes() for name in ("request.py", "envelope.py")]
    return hashlib.sha256(b"\0".join([__version__.encode(), *texts])).hexdigest()[:12]


def _with_prompt(envelope: Envelope, prompt: str, detail: str) -> Wire:
    """As much of the prompt as fits: there is no further page of a dry run."""
    for room in (24_000, 12_000, 6_000, 600) if detail == "full" else (600,):
        shown = cut(prompt, room)
        wire = replace(envelope, data={**envelope.data, "prompt" if shown == prompt else "prompt_begins": shown}).wire()
        if len(json.dumps(wire, ensure_ascii=False).encode()) <= paging.BUDGETS[detail]:
            break
    return wire


def _some(paths: tuple[Path, ...]) -> list[str]:
    more = [f"and {len(paths) - MAX_SHOWN} more"] if len(paths) > MAX_SHOWN else []
    return [*map(str, paths[:MAX_SHOWN]), *more]


def _awaited(job: Job, seconds: float) -> Wire | None:
    """The outcome, waiting for it a while; the waiting costs a look at two files per step."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while (outcome := job.outcome()) is None and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.5)
    return outcome


def _login_hint(env: Mapping[str, str]) -> str:
    if env.get("OPENAI_API_KEY"):
        return "Codex is not logged in; OPENAI_API_KEY is set, but codex exec reads CODEX_API_KEY only"
    return "Codex is not logged in"


def _repair(error: CounselError) -> str:
    from codex_counsel.errors import CATALOG

    return CATALOG[error.code].repair


def _boundary_warnings(boundary: Boundary) -> list[str]:
    if boundary.reads == "host":
        return ["read boundary host: the run can read every file of this user but known credentials"]
    if not boundary.secrets_complete:
        return ["read boundary partial: the workspace is too large, or has too many secret files, to deny each of them"]
    return []


def _shown_settings(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if name != "warnings" and value is not None}


def _library() -> str:
    """Where jsonschema is installed: the worker starts without site-packages."""
    import importlib.util

    spec = importlib.util.find_spec("jsonschema")
    if not spec or not spec.origin:
        raise CounselError(Code.INTERNAL, "the package jsonschema is missing")
    return str(Path(spec.origin).parent.parent)


def text_of(wire: Wire) -> str:
    """The short text that goes with an envelope: all that a client shows of a failure."""
    error = wire.get("error")
    if not error:
        return cut(str(wire["summary"]), 2000)
    lines = [f"{error['code']}: {error['message']}", f"What to do: {error['repair']}"]
    if "retry_after_ms" in error:
        lines.append(f"Retry after {error['retry_after_ms'] // 1000} s.")
    for name, value in (error.get("details") or {}).items():
        lines.append(f"{name}: {value}")
    if job_id := wire["meta"].get("job_id"):
        lines.append(f"job_id: {job_id}")
    lines.append("A second opinion is a help, not a condition: go on without it if it cannot be had.")
    return cut("\n".join(lines), 6000)
