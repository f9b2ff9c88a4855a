"""A result that came back from another machine: put among the jobs of this one, once."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs import idempotency, taken
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.taken import Origin
from codex_counsel.packs import sent as packs_sent
from codex_counsel.packs import take as building
from codex_counsel.packs.home import Home
from codex_counsel.packs.result import ResultFile, read_result
from codex_counsel.packs.sent import Sent
from codex_counsel.packs.verified_diff import missing_commit
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context, Memory
from codex_counsel.system.files import open_regular
from codex_counsel.system.text import clean, one_line


@dataclass(frozen=True)
class Taken:
    """A job that was taken, with its stored envelope. `is_new` is False for one that was here already."""

    job_id: str
    envelope: EnvelopeDict
    is_new: bool


def take_file(
    context: Context,
    result: Path,
    *,
    workspace_root: str | None = None,
    key: str | None = None,
    pack: str | None = None,
    tool: str | None = None,
) -> Taken:
    """Put a result among the jobs of this user, as if it had run here, durably. Taking it again changes nothing.

    `workspace_root` is the directory that it belongs to: by default that of the pack, else
    the current one. `key` is an idempotency key of the tool under which the job is found
    from now on. `pack` is the id of the pack that was sent, `tool` that of its request: then
    the result of another one is refused.

    Raises `pack_invalid` for what is no result, is damaged or forged, or differs from what
    was taken before; `workspace_invalid` where the repository is not the right one; and
    `storage_failed`.
    """
    try:
        source = open_regular(result)
    except OSError as error:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"{result} cannot be read: {error.strerror}"
        ) from None
    with source:
        return take_stream(
            context,
            source,
            str(result),
            workspace_root=workspace_root,
            key=key,
            pack=pack,
            tool=tool,
        )


def take_stream(
    context: Context,
    source: BinaryIO,
    name: str,
    *,
    workspace_root: str | None = None,
    key: str | None = None,
    pack: str | None = None,
    tool: str | None = None,
) -> Taken:
    """As `take_file`, of a stream that messages call `name`."""
    store = Store(context.settings.state)
    try:
        store.prepare()
        with taken.staging(store.directory) as hidden:
            unpacked = hidden / "in"
            unpacked.mkdir(mode=0o700)
            result = read_result(source, name, unpacked)
            if pack not in (None, result.pack):
                raise result.error("is the result of another pack than was sent")
            if tool not in (None, result.jobs[result.job].tool):
                raise result.error("is of another tool than was asked for")
            call = _Call(context, store, workspace_root, key)
            return _take(call, result, hidden)
    except OSError as error:
        raise error_of(Code.STORAGE_FAILED, f"{name} cannot be taken", error) from None


@dataclass(frozen=True)
class _Call:
    """What one call was asked for."""

    context: Context
    store: Store
    workspace_root: str | None
    key: str | None


def _take(call: _Call, result: ResultFile, hidden: Path) -> Taken:
    """Raises OSError, and as `take_file`."""
    store, key = call.store, call.key
    tool = result.jobs[result.job].tool
    job_id = building.id_here(result.pack, result.job)
    keys = {key}
    arguments = None
    sent = packs_sent.read_sent(store.state, result.pack)
    if sent is not None:
        _check_asked(result, sent)
        keys.add(sent.key)
        arguments = sent.arguments
    # A key is noted before its job is there: a batch must find what it has paid for.
    with contextlib.ExitStack() as held:
        for each in sorted(filter(None, keys)):
            claim = held.enter_context(idempotency.claim(store, tool, each, arguments))
            if claim.earlier is None:
                claim.note_job(job_id)
        is_new = False
        if _earlier(store, result, job_id) is None:
            home = _home(call, result, sent)
            parts = building.build(result, hidden, home)
            building.note_usage(result, hidden, home)
            is_new = taken.publish(store.state, hidden, job_id, parts)
        # Of two calls at once, another result of the same job may have come first.
        stored = _earlier(store, result, job_id) or {}
    return Taken(job_id, stored, is_new)


def _check_asked(result: ResultFile, sent: Sent) -> None:
    """Refuse another tool, or a review of another commit, than was packed: what that saw would not be sent again."""
    job = result.jobs[result.job]
    if sent.tool != job.tool:
        raise result.error(
            f"is of the tool {job.tool}, and its pack is one for {sent.tool}"
        )
    match job.details.get("frame"):
        case {"state": "commit", "head": str(head)}:
            if sent.reviewed not in (None, head):
                raise result.error(
                    f"is a review of the commit {one_line(clean(head), 12)}, which its pack does not ask for"
                )


def _earlier(store: Store, result: ResultFile, job_id: str) -> EnvelopeDict | None:
    """The stored envelope, if this very result was taken before. Raises `pack_invalid` for another one."""
    directory = store.directory / job_id
    if not directory.is_dir():
        return None
    origin = Origin.load(directory)
    envelope = Job(directory).result()
    if origin is None or origin.digest != result.digest or envelope is None:
        raise result.error(
            f"says something else than what was taken before as job {job_id}, which stays as it is"
        )
    return envelope


def _home(call: _Call, result: ResultFile, sent: Sent | None) -> Home:
    """Where the result belongs. Raises `workspace_invalid`."""
    context, store = call.context, call.store
    if sent is not None and call.workspace_root is None:
        return Home(
            store,
            context.settings,
            context.env,
            sent.workspace,
            packs_sent.files_read_at(store.state, result.pack, sent),
            sent.subject,
        )
    workspace = workspaces.resolve(context, call.workspace_root)
    home = Home(store, context.settings, context.env, str(workspace.root))
    if sent is not None:
        home.subject = sent.subject
    _check_fits(result, home, context.memory)
    return home


def _check_fits(result: ResultFile, home: Home, memory: Memory | None) -> None:
    """Refuse a directory without the commit that was checked out where the job ran."""
    head = result.jobs[result.job].head
    if head is None or (memory and (home.workspace, head) in memory.commits):
        return
    repo = home.repo
    code, _, _ = repo.try_git("cat-file", "-e", f"{head}^{{commit}}")
    if code:
        raise missing_commit(result, head, repo)
    if memory:
        memory.commits.add((home.workspace, head))
