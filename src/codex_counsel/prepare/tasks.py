"""From a request to a task: everything that is sent and everything the conclusion will need, at no cost so far."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import Workspace
from codex_counsel.contract.request import Consult, Delegate, ReviewChanges, ReviewPlan
from codex_counsel.contract.settings import Settings
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.seed import SeedPlan, survey
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import covering_path
from codex_counsel.git.repo import Repo
from codex_counsel.prepare import brief, workspace
from codex_counsel.prepare.brief import Material
from codex_counsel.review import reply as findings
from codex_counsel.review.changes.changes import Changes, gather
from codex_counsel.review.changes.model import Scope
from codex_counsel.review.record import ReviewRecord, digest
from codex_counsel.system.redact import mask, secret_name
from codex_counsel.system.text import size

MAX_GUIDANCE = 32_000
MAX_IMAGE = 20_000_000
GUIDANCE = "AGENTS.md"
LINK_MODE = "120000"
SURELY_REMEMBERED = 2_000
"""Bytes of a change up to which it is sent again to a thread that has it: cheaper than to be wrong about that."""
PLANS = "plans"
"""Where agents keep their plans in a home of their own (`~/.claude/plans`), which is closed otherwise."""


@dataclass(frozen=True)
class ResolvedWorkspace:
    """The workspace of a request and how it was chosen. `top` and `git` are set inside a repository.

    `denied` is what no run may see: nothing from there is sent either.
    """

    root: Path
    source: str
    top: Path | None
    git: tuple[Path, ...]
    denied: tuple[Path, ...] = ()

    def file(self, name: str, given: str) -> Path:
        """Where a file that the caller named really is; raises for one that no run may see."""
        try:
            path = (self.root / given).resolve()
        except (OSError, RuntimeError):
            raise CounselError(Code.INVALID_ARGUMENTS, f"{name}: {given} leads nowhere") from None
        homes = [base for base in (*self.denied, *workspace.SYSTEM) if path.is_relative_to(base)]
        if secret_name(str(path)) or any(not path.is_relative_to(base / PLANS) for base in homes):
            raise CounselError(Code.INVALID_ARGUMENTS, f"{name}: {given} is not a regular file that may be sent")
        return path

    def report(self) -> Workspace:
        above = self.top and self.top != self.root
        warning = f"the repository at {self.top} is readable too" if above else None
        return Workspace(root=str(self.root), source=self.source, warning=warning)


@dataclass(frozen=True)
class Task:
    """`schema` is what the reply must match, `basis` what a review is held against afterwards."""

    prompt: str
    schema: dict[str, Any] | None = None
    basis: ReviewRecord | None = None
    changes: Changes | None = None
    images: tuple[Path, ...] = ()
    errand: DelegateSpec | None = None
    secrets: tuple[str, ...] = ()
    seeding: SeedPlan | None = None
    scope: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def consult(request: Consult, place: ResolvedWorkspace, settings: Settings) -> Task:
    brief.check_author_text(settings.max_input_bytes, question=request.question, extra_context=request.extra_context)
    images = tuple(_image(given, place) for given in request.images)
    outside = tuple(
        f"image from outside the workspace: {path}" for path in images if not path.is_relative_to(place.root)
    )
    guidance, notes = _guidance_on_disk(place, settings)
    return Task(brief.consult(request, guidance), request.output_schema, images=images, warnings=(*outside, *notes))


def review_changes(
    request: ReviewChanges, place: ResolvedWorkspace, settings: Settings, seen: str | None = None
) -> Task:
    """`seen` is the digest of the material that the thread to be continued was sent last, and surely still holds."""
    _check_scope(request)
    plan, warnings = _plan(request, place, required=False)
    brief.check_author_text(
        settings.max_input_bytes, focus=request.focus, extra_context=request.extra_context, plan=plan
    )
    repo = _repository(place, settings)
    scope = Scope(request.scope, request.base, request.commit, request.range, request.paths)
    changes = gather(repo, scope, settings.max_input_bytes, place.denied)
    guidance, notes = _guidance_of(repo, changes.base_sha, place, settings)
    given = guidance + ([Material("the agreed plan", plan)] if plan else [])
    has_it = len(changes.diff) > SURELY_REMEMBERED and seen == digest(changes)
    return Task(
        prompt=brief.review(request, changes, given, seen=has_it),
        schema=findings.reply_schema(plan=False),
        basis=ReviewRecord.of_changes(repo, changes),
        changes=changes,
        scope=_scope(request, changes),
        warnings=(*warnings, *notes),
    )


def review_plan(request: ReviewPlan, place: ResolvedWorkspace, settings: Settings) -> Task:
    plan, warnings = _plan(request, place, required=True)
    brief.check_author_text(
        settings.max_input_bytes, plan=plan, focus=request.focus, extra_context=request.extra_context
    )
    repo = _repository(place, settings) if place.top else None
    head = repo.head() if repo else None
    found = _guidance_of(repo, head, place, settings) if repo else _guidance_on_disk(place, settings)
    guidance, notes = found
    return Task(
        prompt=brief.plan(request, plan, guidance),
        schema=findings.reply_schema(plan=True),
        basis=ReviewRecord.of_plan(place.root, plan, head) if repo else ReviewRecord(str(place.root), plan=plan),
        warnings=(*warnings, *notes),
    )


def _check_scope(request: ReviewChanges) -> None:
    """What belongs to another scope was not meant to be ignored."""
    for name, kind in (("base", "branch"), ("commit", "commit"), ("range", "range")):
        if getattr(request, name) and request.scope != kind:
            raise CounselError(Code.INVALID_ARGUMENTS, f"{name}: belongs to scope {kind}; the scope is {request.scope}")


def _repository(place: ResolvedWorkspace, settings: Settings) -> Repo:
    """The repository around the workspace; `workspace_invalid` where its top is no place that a run may be given."""
    repo = Repo.open(place.root, settings.git_timeout_seconds, env=os.environ)
    if repo.root != place.top:
        raise CounselError(
            Code.WORKSPACE_INVALID, f"The repository around {place.root} is {repo.root}, which no run may be given"
        )
    return repo


def delegate(request: Delegate, place: ResolvedWorkspace, settings: Settings, earlier: Path | None = None) -> Task:
    """`earlier` is the directory of the job to go on from."""
    brief.check_author_text(settings.max_input_bytes, task=request.task, extra_context=request.extra_context)
    images = tuple(_image(given, place) for given in request.images)
    repo = _repository(place, settings)
    seeding = survey(repo)
    names = [os.fsdecode(name) for name in (*seeding.checkout, *seeding.copy)]
    prefix = os.fsdecode(repo.prefix)
    limit = settings.max_delegate_diff_bytes
    again = str(earlier) if earlier else None
    secrets = tuple(name for name in names if secret_name(name))
    errand = DelegateSpec(
        str(place.root), str(repo.common_dir), settings.git_timeout_seconds, limit, prefix, again, secrets
    )
    left_out = [f"{path} ({reason})" for path, reason in seeding.omitted]
    unseeded = [f"not seeded: {', '.join(left_out[:20])}"] if left_out else []
    guidance, notes = _guidance_on_disk(place, settings)
    return Task(
        prompt=brief.delegate(request, guidance, again=earlier is not None),
        images=images,
        errand=errand,
        secrets=secrets,
        seeding=seeding,
        warnings=(*unseeded, *notes),
    )


def _scope(request: ReviewChanges, changes: Changes) -> dict[str, Any]:
    shown = {"kind": request.scope, "base": changes.base_name, "paths": list(request.paths)}
    shown |= {"base_sha": changes.base_sha, "head_sha": changes.head_sha}
    return {name: value for name, value in shown.items() if value}


def _plan(
    request: ReviewChanges | ReviewPlan, place: ResolvedWorkspace, *, required: bool
) -> tuple[str, tuple[str, ...]]:
    """The plan's text, masked where it comes from a file, and a note when that file lies outside the workspace."""
    if request.plan and request.plan_path:
        raise CounselError(Code.INVALID_ARGUMENTS, "plan and plan_path: give one of them")
    if request.plan_path:
        return _plan_file(request.plan_path, place)
    if required and not request.plan:
        raise CounselError(Code.INVALID_ARGUMENTS, "plan: give the text, or plan_path")
    return request.plan or "", ()


def _plan_file(given: str, place: ResolvedWorkspace) -> tuple[str, tuple[str, ...]]:
    path = place.file("plan_path", given)
    text = workspace.read_text(path, 2_000_000)
    if text is None:
        raise CounselError(Code.INVALID_ARGUMENTS, f"plan_path: {given} is no readable regular file")
    if not text.strip():
        raise CounselError(Code.INVALID_ARGUMENTS, f"plan_path: {given} is blank")
    masked, count = mask(text)
    notes = [f"{count} token-like strings were masked in the plan"] if count else []
    notes += [f"plan from outside the workspace: {path}"] if not path.is_relative_to(place.root) else []
    return masked, tuple(notes)


Guidance = tuple[list[Material], tuple[str, ...]]
"""What is sent, and a note for every AGENTS.md that is a link to what is not."""


def _guidance_on_disk(place: ResolvedWorkspace, settings: Settings) -> Guidance:
    """AGENTS.md of the repository and the workspace, as material: Codex itself does not load it here."""
    top = place.top or place.root
    folders = [folder for folder in (*reversed(place.root.parents), place.root) if folder.is_relative_to(top)]
    found = ((folder / GUIDANCE, _text_on_disk(folder / GUIDANCE, top, place)) for folder in folders)
    return _materials(((str(path), path.is_symlink(), text) for path, text in found), settings)


def _text_on_disk(path: Path, top: Path, place: ResolvedWorkspace) -> str | None:
    """Of a link, what it leads to, where that belongs to the repository as well."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    inside = real.is_relative_to(top) and ".git" not in real.parts
    closed = secret_name(str(real)) or any(real.is_relative_to(denied) for denied in place.denied)
    return workspace.read_text(real, MAX_GUIDANCE) if inside and not closed else None


def _guidance_of(repo: Repo, revision: str | None, place: ResolvedWorkspace, settings: Settings) -> Guidance:
    """AGENTS.md of the base revision only: a reviewed branch must not instruct its reviewer."""
    parts = repo.prefix.split(b"/")[:-1]
    names = [b"/".join([*parts[:depth], GUIDANCE.encode()]) for depth in range(len(parts) + 1)]
    found = ((name, *_text_of(repo, revision, name, place)) for name in names) if revision else ()
    return _materials(((os.fsdecode(name), linked, text) for name, linked, text in found), settings)


def _text_of(repo: Repo, revision: str, name: bytes, place: ResolvedWorkspace) -> tuple[bool, str | None]:
    """Whether the file is a link, and its text: of a link, that of the file of the same revision that it names."""
    blob = repo.lookup(revision, name)
    linked = blob is not None and blob.mode == LINK_MODE
    if blob and linked:
        name = os.path.normpath(os.path.join(os.path.dirname(name), repo.blob(blob.sha, 4096)))  # noqa: PTH118, PTH120  # bytes
        blob = None if name.startswith((b"/", b"..")) else repo.lookup(revision, name)
    whole = os.fsencode(repo.root) + b"/" + name
    closed = secret_name(os.fsdecode(whole)) or covering_path(whole, frozenset(map(os.fsencode, place.denied)))
    if blob is None or not blob.is_file or closed:
        return linked, None
    return linked, repo.blob(blob.sha, MAX_GUIDANCE).decode("utf-8", "replace")


def _materials(found: Iterable[tuple[str, bool, str | None]], settings: Settings) -> Guidance:
    if settings.isolation == "strict":
        return [], ()
    files = list(found)
    lost = tuple(
        f"not sent: {name} is a link to no file of the repository"
        for name, is_link, text in files
        if is_link and text is None
    )
    return [Material(name, mask(text)[0]) for name, _, text in files if text and text.strip()], lost


def _image(given: str, place: ResolvedWorkspace) -> Path:
    path = place.file("images", given)
    try:
        info = path.stat()
    except OSError as error:
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given}: {error.strerror}") from None
    if not stat.S_ISREG(info.st_mode):
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given} is not a regular file that may be sent")
    if info.st_size > MAX_IMAGE or not _looks_like_image(path):
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {given} is no PNG, JPEG, GIF or WebP of at most 20 MB")
    return path


def _looks_like_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def bytes_of(task: Task) -> dict[str, int]:
    """Size of what is sent; tokens at four bytes each, as a rough guide."""
    total = size(task.prompt)
    return {"prompt_bytes": total, "estimated_tokens": total // 4}
