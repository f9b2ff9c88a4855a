"""What this bridge does, one function each. The MCP server and the command line both call these and nothing below."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from codex_counsel import __version__, backoff, brief, codex, paging, plan, workspace
from codex_counsel import settings as settings_module
from codex_counsel.brief import Material
from codex_counsel.codex import Codex, Login, Probes
from codex_counsel.envelope import CodexUsed, Meta, Wire, Workspace, free
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import launcher
from codex_counsel.jobs.launcher import Birth, Handle
from codex_counsel.jobs.record import Job
from codex_counsel.jobs.store import Store
from codex_counsel.redact import mask, secret_name
from codex_counsel.request import (
    Consult,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    RunRequest,
    Status,
)
from codex_counsel.sandbox import Boundary
from codex_counsel.settings import Settings
from codex_counsel.spec import Spec
from codex_counsel.text import clean, cut, one_line

LOG = logging.getLogger("codex_counsel")
MAX_GUIDANCE = 32_000
MAX_IMAGE = 20_000_000


@dataclass(frozen=True)
class Place:
    """The workspace of a request and how it was chosen. `top` and `git` are set inside a repository."""

    root: Path
    source: str
    top: Path | None
    git: tuple[Path, ...]

    def report(self) -> Workspace:
        above = self.top and self.top != self.root
        warning = f"the repository at {self.top} is readable too" if above else None
        return Workspace(root=str(self.root), source=self.source, warning=warning)


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
        brief.check_author_text(
            self.settings.max_input_bytes, question=request.question, extra_context=request.extra_context
        )
        return self._once(request, background=background)

    def _once(self, request: Consult, *, background: bool) -> Handle:
        key = request.idempotency_key
        if key is None:
            return self._start(request, background=background)
        arguments = launcher.digest(
            json.dumps(request.model_dump(mode="json"), sort_keys=True), str(self._root(request))
        )
        try:
            self.store.prepare()
        except OSError as error:
            raise CounselError(Code.STORAGE_FAILED, f"An idempotency key needs the state directory: {error}") from None
        return launcher.once(
            self.store, request.tool, key, arguments, lambda: self._start(request, background=background)
        )

    def _start(self, request: Consult, *, background: bool) -> Handle:
        ready = self.ready(request)
        images, warnings = self._images(request, ready.place)
        prompt = brief.consult(request, self._guidance(ready))
        turn = self._turn(request, ready, images)
        with contextlib.suppress(OSError):
            self.store.evict(self.settings.job_ttl, self.settings.job_max_count)
        return launcher.launch(self.store, self._birth(request, ready, turn, prompt, warnings, background=background))

    def ready(self, request: RunRequest) -> Ready:
        """Check everything that costs nothing, cheapest first; raises what is wrong with its repair."""
        place = self._place(request.workspace_root)
        profile = request.profile or self.settings.profile
        found = self.codex
        config = codex.configuration(self.places.codex_home, self._known_profile(profile))
        login = codex.login(found, self.places.codex_home, self._codex_env, config)
        if not login.present:
            raise CounselError(Code.AUTH_REQUIRED, _login_hint(self.env))
        backoff.Limits(self.settings.state, login.identity).check()
        if not getattr(request, "text_only", False) and (reason := codex.holds(found, self._codex_env, self.probes)):
            raise CounselError(Code.SANDBOX_UNAVAILABLE, f"Codex's sandbox cannot be used here: {reason}")
        return Ready(place, found, login, config, self.settings.isolation)

    @property
    def codex(self) -> Codex:
        return codex.find(self.settings.codex_bin, self.env.get("PATH", os.defpath), self.probes)

    @cached_property
    def _codex_env(self) -> dict[str, str]:
        """The environment of a probe: what a run gets, with the Codex home spelled out."""
        env = plan.environment(self.env, "probe", Path(tempfile.gettempdir()))
        return env | {"CODEX_HOME": str(self.places.codex_home)}

    def _known_profile(self, name: str | None) -> str | None:
        """Codex ignores a profile that does not exist; we do not."""
        if name and not (self.places.codex_home / f"{name}.config.toml").is_file():
            raise CounselError(Code.INVALID_ARGUMENTS, f"profile: there is no {name}.config.toml in the Codex home")
        return name

    def _root(self, request: Any) -> Path:
        given = request.workspace_root or self.env.get("CLAUDE_PROJECT_DIR") or self.cwd
        return workspace.checked_root(given, self.places)

    def _place(self, given: str | None) -> Place:
        chosen = [
            ("argument", given),
            ("CLAUDE_PROJECT_DIR", self.env.get("CLAUDE_PROJECT_DIR")),
            ("cwd", str(self.cwd)),
        ]
        source, path = next((source, path) for source, path in chosen if path)
        root = workspace.checked_root(str(path), self.places)
        top, git = workspace.repository(root, self.places)
        return Place(root, source, top, git)

    def boundary(self, request: RunRequest, ready: Ready) -> Boundary:
        """What this run may touch."""
        reads: Any = self.settings.read_boundary or "workspace"
        extra = [workspace.checked_root(root, self.places) for root in request.extra_roots]
        own = [ready.place.top, *ready.place.git, *extra]
        roots = tuple(dict.fromkeys(path for path in own if path and path != ready.place.root))
        tools = workspace.toolchains(self.env.get("PATH", ""), self.places) if reads == "toolchains" else ()
        found, complete = workspace.find_secrets([ready.place.top or ready.place.root, *extra])
        return Boundary(
            workspace=ready.place.root,
            reads=reads,
            network=bool(getattr(request, "network", False)),
            readable=(ready.codex.package, *roots, *tools),
            denied=self.places.denied(),
            secrets=found,
            secrets_complete=complete,
        )

    def _turn(self, request: Consult, ready: Ready, images: tuple[Path, ...]) -> plan.Turn:
        profile = request.profile or self.settings.profile
        servers: tuple[str, ...] = ()
        if ready.isolation == "lean":
            servers = codex.mcp_servers(ready.codex, self._codex_env, ready.place.root, profile, self.probes)
        return plan.Turn(
            boundary=self.boundary(request, ready),
            model=request.model or self.settings.model,
            effort=request.effort or self.settings.effort,
            profile=profile,
            session_id=request.session_id,
            isolation=ready.isolation,
            mcp_servers=servers,
            images=images,
            web_search=request.web_search,
            text_only=request.text_only,
        )

    def _birth(
        self, request: Consult, ready: Ready, turn: plan.Turn, prompt: str, warnings: list[str], *, background: bool
    ) -> Birth:
        job_id = secrets.token_hex(16)
        scratch = Path(tempfile.gettempdir()).resolve() / f"codex-counsel-{job_id}"
        schema = self.store.directory / job_id / "schema.json" if request.output_schema else None
        turn = replace(turn, boundary=turn.boundary.with_scratch(scratch), schema=schema)
        spec = Spec(
            job_id=job_id,
            tool=request.tool,
            subject=one_line(clean(request.subject), 200),
            created=time.time(),
            argv=plan.argv(ready.codex, turn),
            cwd=str(ready.place.root),
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
            meta=self._meta(ready, turn, warnings),
            session_id=request.session_id,
            output_schema=request.output_schema,
            library=_library() if request.output_schema else None,
            detached=background,
        )
        env = plan.environment(self.env, job_id, scratch)
        return Birth(spec, prompt, request.output_schema, env)

    def _meta(self, ready: Ready, turn: plan.Turn, warnings: list[str]) -> dict[str, Any]:
        meta = Meta(
            workspace=ready.place.report(),
            sandbox=turn.boundary.report(),
            codex=CodexUsed(path=str(ready.codex.path), version=ready.codex.version),
            model=turn.model or ready.config.get("model"),
            effort=turn.effort or ready.config.get("model_reasoning_effort"),
            isolation=ready.isolation,
            warnings=warnings + _boundary_warnings(turn.boundary),
            fingerprint=fingerprint(),
        )
        return {name: value for name, value in asdict(meta).items() if value is not None}

    def _images(self, request: Consult, place: Place) -> tuple[tuple[Path, ...], list[str]]:
        """Codex takes a missing image for text, so they are checked here; outside the workspace they are named."""
        paths = tuple(_image(given, place.root) for given in request.images)
        outside = [path for path in paths if not path.is_relative_to(place.root)]
        return paths, [f"image from outside the workspace: {path}" for path in outside]

    def _guidance(self, ready: Ready) -> list[Material]:
        """AGENTS.md of the repository and the workspace, as material: Codex itself does not load it here."""
        if ready.isolation == "strict":
            return []
        folders = dict.fromkeys([ready.place.top or ready.place.root, ready.place.root])
        found = [(folder / "AGENTS.md", workspace.read_text(folder / "AGENTS.md", MAX_GUIDANCE)) for folder in folders]
        return [Material(str(path), mask(text)[0]) for path, text in found if text and text.strip()]

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

    # --- free tools

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
        envelope = free(request.tool, summary, checks, Meta(warnings=list(self.settings.warnings)))
        if problems:
            envelope.next_steps = [p.repair or _repair(p) for p in problems]
        return envelope.wire()

    def _check_workspace(self, request: Status) -> dict[str, Any]:
        place = self._place(request.workspace_root)
        shown = {"root": str(place.root), "source": place.source, "repository": str(place.top) if place.top else None}
        return {"workspace": shown}

    def _check_codex(self, request: Status) -> dict[str, Any]:
        found = self.codex
        config = codex.configuration(self.places.codex_home, self.settings.profile)
        login = codex.login(found, self.places.codex_home, self._codex_env, config)
        limits = backoff.Limits(self.settings.state, login.identity)
        cleared = limits.clear() if request.clear_limits else False
        mark = limits.mark()
        broken = codex.holds(found, self._codex_env, self.probes)
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
            return {"quota": codex.rate_limits(found, self._codex_env)}
        except CounselError as error:
            return {"quota_error": error.message}

    def _problems(self, checks: dict[str, Any]) -> list[CounselError]:
        found = []
        if checks.get("login", {}).get("hint"):
            found.append(CounselError(Code.AUTH_REQUIRED, checks["login"]["hint"]))
        if checks.get("sandbox", {}).get("reason"):
            found.append(CounselError(Code.SANDBOX_UNAVAILABLE, checks["sandbox"]["reason"]))
        if checks.get("limits", {}).get("in_force"):
            found.append(CounselError(Code.BACKING_OFF, checks["limits"]["in_force"]["message"]))
        return found

    def models(self) -> Wire:
        """Models and efforts that the installed Codex lists."""
        found = codex.models(self.codex, self._codex_env)
        default = next((row["model"] for row in found if row.get("default")), "none")
        return free("codex_models", f"{len(found)} models, default {default}", {"models": found}).wire()

    def capabilities(self) -> Wire:
        """Inventory and schema fingerprint."""
        from codex_counsel import catalogue

        return free(
            "codex_capabilities", f"codex-counsel {__version__}", catalogue.inventory(), Meta(fingerprint=fingerprint())
        ).wire()


@cache
def fingerprint() -> str:
    """Changes when a request, the envelope or the release changes."""
    here = Path(__file__).parent
    texts = [(here / name).read_bytes() for name in ("request.py", "envelope.py")]
    return hashlib.sha256(b"\0".join([__version__.encode(), *texts])).hexdigest()[:12]


def _awaited(job: Job, seconds: float) -> Wire | None:
    """The outcome, waiting for it a while; the waiting costs a look at two files per step."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while (outcome := job.outcome()) is None and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.5)
    return outcome


def _image(given: str, root: Path) -> Path:
    path = (root / given).resolve()
    try:
        info = path.stat()
    except OSError as error:
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given}: {error.strerror}") from None
    if not stat.S_ISREG(info.st_mode) or secret_name(str(path)):
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given} is not a regular file that may be sent")
    if info.st_size > MAX_IMAGE or not _looks_like_image(path):
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given} is no PNG, JPEG, GIF or WebP of at most 20 MB")
    return path


def _looks_like_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


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
