"""A delegated task's working tree: made before Codex starts, harvested when it ended, whatever way it ended.

In the job directory: `seed.json` and `seed.patch` (what Codex began with), `diff.patch` and `base.tar` (what it made of
it), `work.json` (the same for people). The tree itself lies in the scratch directory and goes once it is harvested.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import Check, DiffFile, Envelope, failure
from codex_counsel.delegate import seed
from codex_counsel.delegate.capture import Capture, CapturedFile, capture_tree
from codex_counsel.delegate.sensitive import sensitive_paths
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import shown
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.spec import Spec
from codex_counsel.system import redact
from codex_counsel.system.text import clean, cut

MAX_LISTED = 500
MAX_COMMAND = 2_000
UNCLAIMED_SECONDS = 3600
OWNER = "job"
"""The file beside a tree that names its job's directory, which may lie in another state directory than ours."""


@dataclass(frozen=True)
class DelegateSpec:
    """What a worker needs to make the tree, as it stands in `spec.json`."""

    workspace: str
    repository: str
    """The common git directory."""
    git_timeout: float
    diff_limit: int
    prefix: str = ""
    again: str | None = None
    """Directory of the earlier job to go on from."""
    secrets: tuple[str, ...] = ()
    """Names of tracked files that Codex cannot read."""


@dataclass
class DelegateResult:
    """What came of it, JSON-ready. `names` are the raw paths in Latin-1, which keeps each byte."""

    base_sha: str
    diff: str
    diff_exact: bool
    diff_path: str
    diffstat: str
    files: list[dict[str, Any]]
    names: list[list[str | None]]
    ignored: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lost: str | None = None
    """Why there is no diff of what was done; it lies in the tree then, which stays."""


def errand_of(spec: Spec) -> DelegateSpec:
    given = dict(spec.delegate or {})
    return DelegateSpec(**{**given, "secrets": tuple(given.get("secrets", ()))})


def shadow_of(scratch: str, timeout: float) -> Shadow:
    return Shadow(Path(scratch), timeout, os.environ)


# --- before


def prepare(spec: Spec, directory: Path) -> None:
    """Make the tree and note what it was made of. Nothing is left of one that cannot be made: `worktree_failed`."""
    try:
        _prepare(spec, errand_of(spec), directory)
    except OSError as error:
        _discard(spec, directory)
        raise CounselError(Code.WORKTREE_FAILED, f"The worktree cannot be made: {error.strerror}") from None
    except BaseException:
        _discard(spec, directory)
        raise


def _prepare(spec: Spec, errand: DelegateSpec, directory: Path) -> None:
    base = Path(spec.scratch)
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(base / OWNER, os.fsencode(directory))
    repo = Repo.open(Path(errand.workspace), errand.git_timeout, os.environ)
    shadow, head, tree, omitted = _again(repo, errand.again, spec) if errand.again else _seeded(repo, spec)
    (base / "tmp").mkdir(mode=0o700, exist_ok=True)
    (shadow.tree / errand.prefix).mkdir(parents=True, exist_ok=True)
    shadow.assume_unchanged(os.fsencode(name) for name in errand.secrets)
    with contextlib.closing(shadow.diff(_tree_of(shadow, head), tree, exact=True)) as chunks:
        write_private(directory / "seed.patch", chunks)
    _write_json(directory / "seed.json", {"head": head, "base_tree": tree, "omitted": omitted[:MAX_LISTED]})


def _discard(spec: Spec, directory: Path) -> None:
    for name in ("seed.json", "seed.draft", "seed.patch"):
        (directory / name).unlink(missing_ok=True)
    shadow_of(spec.scratch, errand_of(spec).git_timeout).remove()


def _seeded(repo: Repo, spec: Spec) -> tuple[Shadow, str, str, list[Any]]:
    plan = seed.survey(repo)
    shadow = Shadow.create(repo, Path(spec.scratch), plan.head)
    return shadow, plan.head, seed.populate(repo, plan, shadow), [list(item) for item in plan.omitted]


def _again(repo: Repo, earlier: str, spec: Spec) -> tuple[Shadow, str, str, list[Any]]:
    """The earlier job's baseline, with its diff already made."""
    known = json.loads((Path(earlier) / "seed.json").read_text("utf-8"))
    head, base = str(known["head"]), str(known["base_tree"])
    repo.resolve(head)
    shadow = Shadow.create(repo, Path(spec.scratch), head)
    if shadow.apply_to_tree(_tree_of(shadow, head), (Path(earlier) / "seed.patch").read_bytes()) != base:
        raise CounselError(Code.WORKTREE_FAILED, "The earlier job's baseline cannot be made again")
    shadow.check_out(base)
    if patch := (Path(earlier) / "diff.patch").read_bytes():
        shadow.git("apply", "--binary", "--whitespace=nowarn", "-", input=patch)
    return shadow, head, base, list(known.get("omitted", ()))


def _tree_of(shadow: Shadow, commit: str) -> str:
    return shadow.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()


# --- after


def finish(spec: Spec, directory: Path) -> DelegateResult | None:
    """Harvest the tree unless that was done, remove it, and say what came of it; None when there was no tree."""
    known = load(directory)
    shadow = shadow_of(spec.scratch, errand_of(spec).git_timeout)
    if known is None and shadow.tree.is_dir() and (directory / "seed.json").is_file():
        known = _harvested(spec, directory, shadow)
    if known is None or known.diff_path:
        shadow.remove()
    return known


def _harvested(spec: Spec, directory: Path, shadow: Shadow) -> DelegateResult:
    """A tree that cannot be captured stays where it is, and the result says where."""
    begun: dict[str, Any] = {}
    limit = errand_of(spec).diff_limit
    try:
        begun = json.loads((directory / "seed.json").read_text("utf-8"))
        found = capture_tree(shadow, begun["base_tree"], directory, limit)
        work = _work(begun, found, limit)
        _write_json(directory / "work.json", asdict(work))
    except (CounselError, OSError, ValueError) as error:
        reason = getattr(error, "message", None) or getattr(error, "strerror", None) or str(error)
        lost = f"The work could not be captured ({reason}); it is still in {shadow.tree}"
        head = str(begun.get("head", ""))
        return DelegateResult(head, "", diff_exact=False, diff_path="", diffstat="", files=[], names=[], lost=lost)
    return work


def load(directory: Path) -> DelegateResult | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return DelegateResult(**json.loads((directory / "work.json").read_text("utf-8")))
    return None


def _work(begun: dict[str, Any], found: Capture, limit: int) -> DelegateResult:
    text = found.preview.decode("utf-8", "replace")
    readable, masked = redact.mask(cut(clean(text), limit))
    whole = len(found.preview) <= limit
    exact = whole and not masked and readable.encode() == found.patch_path.read_bytes()
    unread = [name for name, reason in begun["omitted"] if reason == "unreadable"]
    warnings = [f"not seeded, for they cannot be read: {', '.join(unread[:20])}"] if unread else []
    if not whole:
        warnings.append(
            f"the diff has {found.patch_path.stat().st_size} bytes; the first {limit} are here, all are in diff_path"
        )
    return DelegateResult(
        base_sha=begun["head"],
        diff=readable,
        diff_exact=exact,
        diff_path=str(found.patch_path),
        diffstat=found.diffstat,
        files=[asdict(_row(file)) for file in found.files[:MAX_LISTED]],
        names=[[_latin(file.name), _latin(file.old_name), file.mode] for file in found.files],
        ignored=found.ignored,
        planted=found.suspicious,
        warnings=warnings,
    )


def _latin(name: bytes | None) -> str | None:
    return None if name is None else name.decode("latin-1")


def _row(file: CapturedFile) -> DiffFile:
    held = sensitive_paths(file.name, file.old_name, file.mode)
    return DiffFile(
        path=shown(file.name), status=file.status, added=file.added, deleted=file.deleted, sensitive=bool(held) or None
    )


def dress(envelope: Envelope, work: DelegateResult | None, transcript: Transcript) -> None:
    """Put the work into an envelope, finished or not."""
    ended = [(command.command, command.exit_code) for command in transcript.commands[-50:]]
    unfinished: list[tuple[str, int | None]] = [(command, None) for command in transcript.open_commands.values()]
    envelope.checks = [_check(command, code) for command, code in (*ended, *unfinished)]
    if work is None:
        return
    if work.lost:
        _lost(envelope, work.lost)
        return
    envelope.base_sha, envelope.diffstat = work.base_sha, work.diffstat or "no changes"
    envelope.diff, envelope.diff_exact, envelope.diff_path = work.diff, work.diff_exact, work.diff_path or None
    envelope.files = [DiffFile(**row) for row in work.files]
    envelope.ignored, envelope.planted = work.ignored or None, work.planted or None
    envelope.meta.warnings += work.warnings
    envelope.partial = None if envelope.ok else True
    if envelope.ok:
        envelope.summary = f"{work.diffstat or 'No files were changed'}. {envelope.summary}"


def _lost(envelope: Envelope, why: str) -> None:
    """A run without a diff is no success, and a failed one has this to say beside its own reason."""
    if envelope.error:
        envelope.meta.warnings.append(why)
        return
    error = CounselError(Code.WORKTREE_FAILED, why, repair="Copy from there what you need, then make room.")
    envelope.ok, envelope.status, envelope.error = False, "failed", failure(error)
    envelope.summary, envelope.partial = f"{envelope.tool} failed: {why}", True


def _check(command: str, code: int | None) -> Check:
    return Check(command=cut(redact.mask(clean(command))[0], MAX_COMMAND), exit_code=code)


# --- leftovers


def leftovers(trees: Path) -> Iterator[tuple[Path, Path]]:
    """Directory and job directory of every tree that is still there, those left out that are only just being made."""
    with contextlib.suppress(OSError):
        for path in trees.iterdir():
            with contextlib.suppress(OSError):
                if (path / OWNER).is_file() or time.time() - path.lstat().st_mtime > UNCLAIMED_SECONDS:
                    yield path, _owner(path)


def _owner(path: Path) -> Path:
    named = (path / OWNER).read_bytes() if (path / OWNER).is_file() else b""
    return Path(os.fsdecode(named) or "/nonexistent")


def write_private(path: Path, data: bytes | Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def _write_json(path: Path, value: Any) -> None:
    draft = path.with_suffix(".draft")
    write_private(draft, json.dumps(value).encode())
    draft.replace(path)
