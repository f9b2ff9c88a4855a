"""A run of a request that came as a pack: in a private repository, by the very path of a local call.

Of the sender's settings only those that say what is asked are in force, where the receiver's
are no stricter. What a run may read, spend and use of the host is the receiver's to say, and
so is the login of Codex: a pack brings none. The same holds for arguments that are a power
and no wish: the network for commands, and the part of a usage window that is kept back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    parse,
)
from codex_counsel.contract.settings import PREFIX, Settings, is_set, load
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive, manifest, result_writer
from codex_counsel.packs import repository as repositories
from codex_counsel.packs.manifest import Pack
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.jobs.handle import Handle
    from codex_counsel.prepare.context import Context

LIMITS = (
    "max_tokens",
    "max_input_bytes",
    "max_delegate_diff_bytes",
    "check_seconds",
    "max_proofs",
    "timeout_seconds",
)
"""Settings of `manifest.POLICY` of which the lower one is in force."""
WORDS = ("model", "effort")
"""Settings that become arguments of Codex, as the request's own do."""
NO_LOGIN = (
    "A pack brings no login. On this machine run `codex login`, or set CODEX_API_KEY; then run the same pack again. "
    "OPENAI_API_KEY alone is not read by `codex exec`."
)
OTHER_RUN = (
    "A pack of this id was run here with another request, or with another cache directory (HOME, XDG_CACHE_HOME): "
    "`codex-counsel result JOB` shows that run. To run this one, have the request packed again."
)
RESERVE_KEPT = (
    "of the sender: use_reserve is not in force: what this machine keeps back of a usage window stays"
    " (see CODEX_COUNSEL_RESERVE)"
)
_WORD = re.compile(r"[^-\0][^\0]{0,199}")
_IMAGE = re.compile(rf"{manifest.IMAGES}/[0-9]{{1,2}}\.(?:png|jpe?g|gif|webp)")


@dataclass(frozen=True)
class StartedPack:
    """A run that was started or joined, and the pack that it came from. `warnings` are about the sender's settings."""

    handle: Handle
    pack: Pack
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Received:
    """A pack whose members are in `folder`, and the request in it, which has no workspace and no images yet."""

    pack: Pack
    folder: Path
    request: RunRequest

    def member(self, name: str) -> Path | None:
        """The file of a member; None where the pack has none of this name."""
        path = self.folder / name
        return path if path.is_file() else None


def start(
    context: Context,
    pack: BinaryIO,
    name: str,
    *,
    background: bool,
    network: bool = True,
) -> StartedPack:
    """Start the run of a pack, or join the run that this pack has had here. Messages call it `name`.

    A pack without its foundation runs where that is kept already. `network`: commands of
    the run may use the network where the pack asks for that. Raises `pack_invalid` for
    what cannot be run, `invalid_arguments` where the network is asked for in vain, and as
    `runs.start`; nothing was spent then.
    """
    repositories.remove_unused(context)
    with repositories.scratch(context) as folder:
        received = _unpack(pack, name, folder)
        if getattr(received.request, "network", False) and not network:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"{_shown(name)} asks to let its commands use the network of this machine",
                repair="Where you trust its sender, run it with --network.",
            )
        with _at_home(context, received) as prepared:
            handle = _start(prepared.context, prepared.request, background=background)
    settings = prepared.context.settings
    own = len(context.settings.warnings)
    return StartedPack(handle, received.pack, settings.warnings[own:])


def write_result(
    context: Context, started: StartedPack, target: Path, *, events: bool
) -> None:
    """Write what came of an ended run, for `take` where the pack was made. Raises as `packs/result_writer.py`."""
    store = Store(context.settings.state)
    job_id = started.handle.job.id
    result_writer.write_result(store, job_id, started.pack.id, target, events=events)


# --- what the pack says


def _unpack(source: BinaryIO, name: str, folder: Path) -> _Received:
    """Read and check all that can be checked before a repository is made."""
    name = one_line(visible(name), 200)
    try:
        about = archive.unpack(source, name, "pack", folder)
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, f"{name} cannot be unpacked", error
        ) from None
    pack = manifest.parse(Pack, about, name)
    problem = next(_problems(pack, folder), None)
    if problem is not None:
        raise CounselError(Code.PACK_INVALID, f"{name} is damaged: {problem}")
    try:
        request = parse(
            manifest.TOOLS[pack.tool], {**pack.request, "idempotency_key": pack.id}
        )
    except CounselError as error:
        raise CounselError(
            Code.PACK_INVALID,
            f"The request in {name} is none: {error.message}",
            details=error.details,
        ) from None
    return _Received(pack, folder, request)


def _problems(pack: Pack, folder: Path) -> Iterator[str]:
    """What is wrong with what the manifest says."""
    if not re.fullmatch(JOB_ID, pack.id):
        yield "its id is none"
    if not archive.SHA256.fullmatch(pack.foundation):
        yield "the name of its foundation is none"
    if pack.tool not in manifest.TOOLS:
        yield f"a request of {_shown(pack.tool)} does not travel"
    for name in manifest.STAYS_AT_HOME:
        if name in pack.request:
            yield f"its request names {name}, which means something on one machine only"
    if (pack.request.get("pr") is None) != (pack.pull is None):
        yield "it is of a pull request that it has not, or has one that it is not of"
    for name in pack.settings.keys() - set(manifest.POLICY):
        yield f"{_shown(name)} is no setting that travels"
    for name in WORDS:
        if name in pack.settings and not _WORD.fullmatch(str(pack.settings[name])):
            yield f"its setting {name} is none"
    yield from _problems_of_members(pack, folder)


def _problems_of_members(pack: Pack, folder: Path) -> Iterator[str]:
    if pack.images and pack.tool not in (Consult.tool, Delegate.tool):
        yield f"a request of {_shown(pack.tool)} has no images"
    for name in pack.images:
        if not (_IMAGE.fullmatch(name) and (folder / name).is_file()):
            yield "it names an image that it has not"
    known = {manifest.MORE_BUNDLE, manifest.FOUNDATION, *pack.images}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in known:
            yield "it has a file that it does not name"


def _shown(text: str) -> str:
    return one_line(visible(text), 100)


# --- the machine that it runs on


@dataclass(frozen=True)
class _Prepared:
    """The request with its workspace and images, and the context with the sender's settings."""

    context: Context
    request: RunRequest


@contextlib.contextmanager
def _at_home(context: Context, received: _Received) -> Iterator[_Prepared]:
    """What is needed to start the run; its repository stays, and its images do, until the block ends."""
    pack, request = received.pack, received.request
    sent = dict(pack.settings)
    if request.timeout_seconds is not None:
        # As a setting, it does not lift the receiver's own limit.
        sent["timeout_seconds"] = request.timeout_seconds
    settings = settings_of(context, sent)
    if request.use_reserve:
        settings = replace(settings, warnings=(*settings.warnings, RESERVE_KEPT))
    request = replace(request, timeout_seconds=None, use_reserve=False)
    context = replace(context, settings=settings, pull=pack.pull)
    _keep_foundation(context, received)
    with repositories.using(context, pack.foundation) as repository:
        workspace = _workspace(repository, pack.prefix)
        request = replace(request, workspace_root=str(workspace))
        with _with_images(repository, received, request) as complete:
            yield _Prepared(context, complete)


def _keep_foundation(context: Context, received: _Received) -> None:
    """See to it that the repository is here with all commits. Raises `pack_invalid` and `storage_failed`."""
    pack = received.pack
    foundation = received.member(manifest.FOUNDATION)
    if foundation is not None:
        repositories.keep_foundation(context, foundation, pack.foundation)
    elif not repositories.has_foundation(context, pack.foundation):
        raise repositories.missing(pack.foundation)
    more = received.member(manifest.MORE_BUNDLE)
    if more is not None:
        repositories.add_commits(context, pack.foundation, more, pack.shallow)


def _workspace(repository: Path, prefix: str) -> Path:
    """The directory below the top of the repository. Raises `pack_invalid` for what is none, or leads out of it."""
    workspace = repository / prefix
    try:
        is_real = workspace.resolve(strict=True) == workspace and workspace.is_dir()
    except (OSError, ValueError, RuntimeError):
        is_real = False
    is_inside = workspace.is_relative_to(repository)
    if not (is_real and is_inside) or workspace.is_relative_to(repository / ".git"):
        raise CounselError(
            Code.PACK_INVALID,
            f"The pack names the workspace {_shown(prefix)}, which is no directory of its repository",
        )
    return workspace


@contextlib.contextmanager
def _with_images(
    repository: Path, received: _Received, request: RunRequest
) -> Iterator[RunRequest]:
    """The request with the paths of its images; the files are there until the block ends, when the job has them."""
    names = received.pack.images
    if not names or not isinstance(request, Consult | Delegate):
        yield request
        return
    sent = received.folder / manifest.IMAGES
    with repositories.holding_images(repository, sent, received.pack.id) as folder:
        yield replace(request, images=tuple(str(folder / Path(n).name) for n in names))


# --- settings


def settings_of(context: Context, sent: Mapping[str, Json]) -> Settings:
    """The receiver's settings with those of a sender. Of a limit that both have set, the lower one is in force.

    A value that the receiver would not take from his environment either is handled as
    there, with a warning in the settings.
    """
    own = context.settings
    values: JsonObject = {}
    variables = {f"{PREFIX}{name.upper()}": str(value) for name, value in sent.items()}
    loaded = load(variables)
    warnings = [f"of the sender: {warning}" for warning in loaded.warnings]
    for setting in fields(Settings):
        name, default = setting.name, setting.default
        value = getattr(loaded, name)
        if name not in sent or value is None:
            continue
        if value == default and name not in LIMITS:
            continue
        mine = getattr(own, name)
        is_chosen = mine != default or is_set(name, context.env)
        if name in LIMITS and is_chosen:
            value = min(mine, value)
        values[name] = value
    return replace(own, **values, warnings=(*own.warnings, *warnings))


# --- the run


def _start(context: Context, request: RunRequest, *, background: bool) -> Handle:
    counsel = Counsel(context.env, context.cwd)
    counsel.context = context
    try:
        match request:
            case Consult():
                return counsel.consult(request, background=background)
            case ReviewChanges():
                return counsel.review_changes(request, background=background)
            case ReviewPlan():
                return counsel.review_plan(request, background=background)
            case Delegate():
                return counsel.delegate(request, background=background)
    except CounselError as error:
        if error.code == Code.AUTH_REQUIRED:
            error.repair = NO_LOGIN
        elif error.code == Code.IDEMPOTENCY_CONFLICT:
            error.repair = OTHER_RUN
        raise
    raise AssertionError(request.tool)
