"""A request and all that it needs as one file, which `services/run_pack.py` runs on another machine.

Every name in a request is resolved here and travels as the id of a commit: there, a name
would mean something else. What means something on this machine only is packed, or refused.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path

from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
)
from codex_counsel.contract.settings import Settings, is_set
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import idempotency
from codex_counsel.jobs.spec import MAX_SUBJECT
from codex_counsel.packs import archive
from codex_counsel.packs import foundation as foundations
from codex_counsel.packs.archive import Member
from codex_counsel.packs.foundation import MadeFoundation, not_written
from codex_counsel.packs.manifest import (
    FOUNDATION,
    IMAGES,
    MORE_BUNDLE,
    POLICY,
    STAYS_AT_HOME,
    TOOLS,
    Pack,
    to_json,
)
from codex_counsel.packs.review_request import (
    NOTHING_FURTHER,
    ReviewPacking,
    TravellingReview,
)
from codex_counsel.packs.sent import Sent, note_sent
from codex_counsel.prepare import attachments
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace
from codex_counsel.review import target as targets
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.temporary import remove_abandoned, temporary_directory
from codex_counsel.system.text import clean, one_line

PREFIX_OF_SCRATCH = "codex-counsel-pack-"
IMAGE_KINDS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"RIFF": "webp",
}
"""How the data of an image begins, and the end of its name in a pack."""


@dataclass(frozen=True)
class Packed:
    """A pack in the making: `members` are its files but the foundation.

    Members may be files of the scratch directory, so it is written before that is
    removed. `workspace` is where the request was made, `warnings` are for its sender.
    `further_commits` counts the commits that travel beside that of the foundation.
    """

    pack: Pack
    members: list[Member]
    foundation: MadeFoundation
    workspace: ResolvedWorkspace
    warnings: tuple[str, ...] = ()
    further_commits: int = 0

    def write(self, target: Path) -> None:
        """Write the whole file in one step. Raises as `archive.write`."""
        archive.write(target, "pack", to_json(self.pack), self._all_members)

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the whole file. Raises as `archive.write`."""
        return archive.chunks("pack", to_json(self.pack), self._all_members)

    def head(self) -> bytes:
        """The pack without its foundation, for a machine that has that already. Raises as `archive.write`."""
        return b"".join(archive.chunks("pack", to_json(self.pack), self.members))

    @property
    def _all_members(self) -> list[Member]:
        return [*self.members, Member(FOUNDATION, self.foundation.path)]


@contextlib.contextmanager
def packed(context: Context, request: RunRequest) -> Iterator[Packed]:
    """Pack a request to hand it out: what is made lasts for the block, and this machine remembers where it was made.

    Raises as `prepare`, and `storage_failed`.
    """
    remove_abandoned(PREFIX_OF_SCRATCH)
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(temporary_directory(PREFIX_OF_SCRATCH))
        except OSError as error:
            raise not_written(Path(tempfile.gettempdir()), error) from None
        made = prepare(context, request, scratch)
        remember(context, request, made)
        yield made


def remember(context: Context, request: RunRequest, made: Packed) -> None:
    """Note what was packed, before it is handed out: its result is compared with that. Raises `storage_failed`."""
    root = str(made.workspace.root)
    files_read = None
    with contextlib.suppress(OSError):
        # A foundation may have been made long before this pack.
        files_read = made.foundation.path.stat().st_mtime
    sent = Sent(
        tool=request.tool,
        workspace=root,
        subject=one_line(clean(request.subject), MAX_SUBJECT),
        key=request.idempotency_key,
        arguments=idempotency.digest(request.canonical(), root),
        reviewed=_reviewed_commit(made),
        files_read=files_read,
    )
    note_sent(context.settings.state, made.pack.id, sent)


def _reviewed_commit(made: Packed) -> str:
    """The commit whose change the packed request wants reviewed; empty where it wants something else."""
    request, pull = made.pack.request, made.pack.pull
    if pull is not None:
        return str(pull["head_sha"])
    match request:
        case {"commit": str(commit)}:
            return commit
        case {"range": str(ids)}:
            return ids.rpartition("..")[2]
        case {"scope": "branch"}:
            return made.foundation.about.head
    return ""


def prepare(
    context: Context,
    request: RunRequest,
    scratch: Path,
    *,
    pack_id: str | None = None,
    foundation: MadeFoundation | None = None,
) -> Packed:
    """Pack a request, with what is in the repository now, or with a foundation that was made of it before.

    `scratch` is a private directory, which must stay until the pack is written. With a
    foundation, HEAD is that of the foundation, and only a review that needs further
    commits runs git. Raises `invalid_arguments`, `workspace_invalid`, `not_a_git_repo`,
    `no_commits`, `unknown_ref`, `nothing_to_review`, `project_file_invalid`, `hub_failed`,
    `input_too_large`, `storage_failed` or `timeout`.
    """
    _check_travels(request)
    workspace = workspaces.resolve(context, request.workspace_root)
    foundations.check_repository(workspace)
    if isinstance(request, ReviewChanges):
        targets.check_scope(request)
    is_new = foundation is None
    try:
        if foundation is None:
            foundation = foundations.make(context, workspace, scratch / FOUNDATION)
        packing = _Packing(context, workspace, foundation, is_new, scratch)
        return packing.pack(request, pack_id or secrets.token_hex(16))
    except OSError as error:
        raise not_written(scratch, error) from None


def _check_travels(request: RunRequest) -> None:
    """Raise `invalid_arguments` for what means something on this machine only."""
    refused = {
        "session_id": "a thread of Codex stays on the machine that it began on",
        "profile": "a profile is a file in the home of one machine's Codex",
        "extra_roots": "directories outside the repository do not travel",
        "from_job": "the work of an earlier task stays on the machine that has it",
    }
    if type(request) not in TOOLS.values():
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"A request of {request.tool} does not travel"
        )
    for name, reason in refused.items():
        if getattr(request, name, None):
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"{name}: {reason}",
                repair=f"Leave {name} out, or make the request on this machine.",
            )
    if isinstance(request, ReviewChanges) and request.since == "last":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "since: what earlier reviews saw is known on this machine only",
            repair="Leave since out, or make the review on this machine.",
        )


@dataclass(frozen=True)
class _Packing:
    """What is collected for one pack. `is_new`: the foundation is what is in the repository now."""

    context: Context
    workspace: ResolvedWorkspace
    foundation: MadeFoundation
    is_new: bool
    scratch: Path
    members: list[Member] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def pack(self, request: RunRequest, pack_id: str) -> Packed:
        further = NOTHING_FURTHER
        pull = None
        if isinstance(request, ReviewChanges):
            review = self._review(request, pack_id)
            request, pull, further = review.request, review.pull, review.further
        if isinstance(request, ReviewChanges | ReviewPlan):
            request = self._with_plan(request)
        images: list[str] = []
        if isinstance(request, Consult | Delegate):
            images = self._images(request.images)
        pack = Pack(
            id=pack_id,
            tool=request.tool,
            request=_arguments(request),
            foundation=self.foundation.digest,
            prefix=self._prefix(),
            shallow=list(further.shallow),
            images=images,
            settings=_policy(self.context),
            pull=pull,
        )
        return Packed(
            pack,
            self.members,
            self.foundation,
            self.workspace,
            (*self.foundation.warnings, *self.warnings),
            further.count,
        )

    def _review(self, request: ReviewChanges, pack_id: str) -> TravellingReview:
        packing = ReviewPacking(
            self.context, self.workspace, self.foundation, self.is_new, self.scratch
        )
        review = packing.resolve(request, pack_id)
        if review.further.bundle:
            self.members.append(Member(MORE_BUNDLE, review.further.bundle))
        return review

    def _prefix(self) -> str:
        """The workspace from the top. Raises `workspace_invalid` where it has no files that travel."""
        prefix = str(self.workspace.root.relative_to(self.workspace.outermost))
        if prefix == ".":
            return ""
        if prefix not in self.foundation.folders:
            raise CounselError(
                Code.WORKSPACE_INVALID,
                f"{clean(str(self.workspace.root))} has no file that travels: git ignores them, or they are secret",
                repair="Choose a directory with files that git knows, such as the top of the repository.",
            )
        return prefix

    def _images(self, paths: tuple[str, ...]) -> list[str]:
        images, warnings = attachments.images(paths, self.workspace, self.context)
        self.warnings.extend(warnings)
        names = []
        for number, image in enumerate(images):
            kind = next(
                kind
                for beginning, kind in IMAGE_KINDS.items()
                if image.data.startswith(beginning)
            )
            names.append(f"{IMAGES}/{number}.{kind}")
            self.members.append(Member(names[-1], image.data))
        return names

    def _with_plan(
        self, request: ReviewChanges | ReviewPlan
    ) -> ReviewChanges | ReviewPlan:
        """The request with the text of the plan in place of its path."""
        plan, warnings = attachments.plan(
            request.plan,
            request.plan_path,
            self.workspace,
            self.context,
            required=isinstance(request, ReviewPlan),
        )
        self.warnings.extend(warnings)
        return replace(request, plan=plan or None, plan_path=None)


def _arguments(request: RunRequest) -> JsonObject:
    """The arguments that differ from their defaults, by their names on the wire, but those of this machine."""
    arguments: JsonObject = {}
    for item in fields(request):
        value: Json = getattr(request, item.name)
        is_default = item.default is not MISSING and value == item.default
        if is_default or item.name in STAYS_AT_HOME:
            continue
        if isinstance(value, tuple):
            value = list(value)
        arguments[str(item.metadata.get("alias", item.name))] = value
    return arguments


def _policy(context: Context) -> JsonObject:
    """The settings of `POLICY` that the sender has set."""
    settings: JsonObject = {}
    for item in fields(Settings):
        if item.name not in POLICY:
            continue
        value = getattr(context.settings, item.name)
        is_chosen = value != item.default or is_set(item.name, context.env)
        if value is not None and is_chosen:
            settings[item.name] = value
    return settings
