"""Everything about Codex and the workspace that a run needs, checked and put together before anything is spent."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from codex_counsel.codex import binary as codex
from codex_counsel.codex import command as plan
from codex_counsel.codex import failures
from codex_counsel.codex import limits as backoff
from codex_counsel.codex.binary import Codex, Login, ProbeCache
from codex_counsel.codex.sandbox import MAX_SECRETS, Boundary
from codex_counsel.contract import catalogue
from codex_counsel.contract import settings as settings_module
from codex_counsel.contract.envelope import CodexUsed, Meta
from codex_counsel.contract.request import Delegate, RunRequest
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.launcher import NewJob
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.prepare import workspace
from codex_counsel.prepare.tasks import ResolvedWorkspace, Task
from codex_counsel.system.text import clean, one_line


@dataclass(frozen=True)
class Preflight:
    """Everything about Codex and the workspace that a run needs, checked before anything is spent."""

    place: ResolvedWorkspace
    codex: Codex
    login: Login
    config: Mapping[str, Any]
    isolation: str


class Preparing:
    """One environment and working directory, and what runs in it are made of."""

    def __init__(
        self, env: Mapping[str, str] | None = None, cwd: Path | None = None, settings: Settings | None = None
    ) -> None:
        self.env = dict(os.environ if env is None else env)
        self.cwd = cwd or _here()
        self.settings = settings or settings_module.load(self.env)
        self.store = Store(self.settings.state)
        self.places = workspace.Directories.of(self.env, self.settings.state)
        self.probes = ProbeCache(self.settings.state / "probes.json")

    def ready(self, request: RunRequest) -> Preflight:
        """Check everything that costs nothing, cheapest first; raises what is wrong with its repair."""
        place = self.place(request.workspace_root)
        profile = request.profile or self.settings.profile
        found = self.codex_for(place)
        config = self.configuration(self._known_profile(profile))
        run = self.codex_env(place)
        login = codex.login(found, self.places.codex_home, run, config)
        if not login.present:
            raise CounselError(Code.AUTH_REQUIRED, login_hint(self.env))
        backoff.Limits(self.settings.state, login.identity).check()
        if not getattr(request, "text_only", False) and (reason := codex.sandbox_problem(found, run, self.probes)):
            raise failures.from_probe(reason)
        return Preflight(place, found, login, config, self.settings.isolation)

    def configuration(self, profile: str | None) -> dict[str, Any]:
        """What Codex will be configured for: with isolation `strict` it reads nothing of the user's."""
        strict = self.settings.isolation == "strict"
        return {} if strict else codex.configuration(self.places.codex_home, profile)

    @property
    def codex(self) -> Codex:
        return self.codex_for(self.here())

    def codex_for(self, place: ResolvedWorkspace | None) -> Codex:
        return codex.find(self.settings.codex_bin, self.search_path(place), self.probes)

    def search_path(self, place: ResolvedWorkspace | None) -> str:
        """Where Codex is looked for: never inside the project, which others may have written."""
        around = (place.top or place.root) if place else None
        return codex.search_path(self.env.get("PATH", os.defpath), around)

    def here(self) -> ResolvedWorkspace | None:
        """The workspace where no other is asked for, if it is one."""
        with contextlib.suppress(CounselError):
            return self.place(None)
        return None

    def codex_env(self, place: ResolvedWorkspace | None = None) -> dict[str, str]:
        """The environment of a probe: what a run gets."""
        around = (place.top or place.root) if place else None
        env = plan.environment(self.env, "probe", Path(tempfile.gettempdir()), around)
        return env | ({"CODEX_HOME": str(self.places.codex_home)} if env.get("CODEX_HOME") else {})

    def _known_profile(self, name: str | None) -> str | None:
        """Codex ignores a profile that does not exist; we do not."""
        if name and not (self.places.codex_home / f"{name}.config.toml").is_file():
            raise CounselError(Code.INVALID_ARGUMENTS, f"profile: there is no {name}.config.toml in the Codex home")
        return name

    def place(self, given: str | None) -> ResolvedWorkspace:
        chosen = [
            ("argument", given),
            ("CLAUDE_PROJECT_DIR", self.env.get("CLAUDE_PROJECT_DIR")),
            ("cwd", str(self.cwd)),
        ]
        source, path = next((source, path) for source, path in chosen if path)
        root = workspace.checked_root(str(path), self.places)
        top, git = workspace.repository(root, self.places)
        return ResolvedWorkspace(root, source, top, git, self.places.denied())

    def boundary(self, request: RunRequest, ready: Preflight) -> Boundary:
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
            readable=(*ready.codex.needs, *roots, *tools),
            denied=self.places.denied_around(*ready.codex.needs),
            secrets=found,
            secrets_complete=complete,
        )

    def _toolbox(self, place: ResolvedWorkspace) -> list[Path]:
        """What a delegate needs of the user's repository: git's objects, and the project's own environments."""
        top = place.top or place.root
        common = place.git[0] if place.git else top / ".git"
        environments = [folder / name for folder in (top, place.root) for name in (".venv", "venv", "node_modules")]
        found = [path for path in environments if path.is_dir() and not path.is_symlink()]
        return [common / "objects", *found, *(base for path in found for base in workspace.interpreter(path))]

    def turn(self, request: RunRequest, ready: Preflight, task: Task) -> plan.Turn:
        profile = request.profile or self.settings.profile
        servers: tuple[str, ...] = ()
        if ready.isolation == "lean":
            servers = codex.mcp_servers(
                ready.codex, self.codex_env(ready.place), ready.place.root, profile, self.probes
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

    def birth(self, request: RunRequest, ready: Preflight, turn: plan.Turn, task: Task, *, background: bool) -> NewJob:
        job_id = secrets.token_hex(16)
        above = (self.places.trees if task.errand else Path(tempfile.gettempdir())).resolve()
        scratch = above / f"codex-counsel-{job_id}"
        schema = self.store.directory / job_id / "schema.json" if task.schema else None
        turn = replace(placed(turn, task, scratch), schema=schema)
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
        return NewJob(spec, task.prompt, task.schema, env)

    def _meta(self, ready: Preflight, turn: plan.Turn, task: Task) -> dict[str, Any]:
        missing = [] if turn.text_only else ready.codex.notices()
        meta = Meta(
            workspace=ready.place.report(),
            sandbox=turn.boundary.report(),
            codex=CodexUsed(path=str(ready.codex.path), version=ready.codex.version),
            model=turn.model or ready.config.get("model"),
            effort=turn.effort or ready.config.get("model_reasoning_effort"),
            isolation=ready.isolation,
            scope=task.scope,
            warnings=[*task.warnings, *_boundary_warnings(turn.boundary), *missing],
            fingerprint=catalogue.fingerprint(),
        )
        return {name: value for name, value in asdict(meta).items() if value is not None}


def _here() -> Path:
    """The working directory; for one that was deleted a path that no run can be given."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/the working directory, which was deleted")


def placed(turn: plan.Turn, task: Task, scratch: Path) -> plan.Turn:
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


def login_hint(env: Mapping[str, str]) -> str:
    if env.get("OPENAI_API_KEY"):
        return "Codex is not logged in; OPENAI_API_KEY is set, but codex exec reads CODEX_API_KEY only"
    return "Codex is not logged in"


def _boundary_warnings(boundary: Boundary) -> list[str]:
    if boundary.reads == "host":
        return ["read boundary host: the run can read every file of this user but known credentials"]
    if not boundary.secrets_complete:
        return ["read boundary partial: the workspace is too large, or has too many secret files, to deny each of them"]
    return []


def _library() -> str:
    """Where jsonschema is installed: the worker starts without site-packages."""
    spec = importlib.util.find_spec("jsonschema")
    if not spec or not spec.origin:
        raise CounselError(Code.INTERNAL, "the package jsonschema is missing")
    return str(Path(spec.origin).parent.parent)
