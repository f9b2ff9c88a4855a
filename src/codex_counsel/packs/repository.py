"""A private repository for each foundation that was received: `<cache>/codex-counsel/packs/<digest>/`.

    lock              held while it is made or removed; shared while a run is started
    adding.lock       held while commits are added
    used              its time is that of the last start of a run
    repository/       the working tree with its `.git`, as the sender had them
    findings.jsonl    the findings that came with it
    more/             for each bundle of further commits that was taken in, an empty file
    images/           the images of the requests that are being started, each pack's in a folder of its id; and a lock

Invariants: `repository/` is made in `draft/` and renamed into place, so it is whole where it
exists. Afterwards only commits are added to it: runs read it meanwhile, and write nothing.
All bytes come from elsewhere: see `limited_git.py` and `received_commits.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings.entry import Entry
from codex_counsel.findings.ledger import MAX_LEDGER, Ledger
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive, manifest, received_commits
from codex_counsel.packs.checkout import check_out
from codex_counsel.packs.limited_git import STORAGE_REPAIR, LimitedGit
from codex_counsel.packs.manifest import Foundation
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    is_at,
    lock_file,
    make_private,
    read_regular,
    remove_tree,
)

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context

UNUSED_SECONDS = 86_400
"""Age at which a repository goes that no run uses."""
YOUNG_SECONDS = 60
"""Age below which the maker of a directory may not have its lock yet."""
LOCK_PATIENCE = 300.0
"""Seconds that a call waits while another one makes the same repository."""
IMAGES_PATIENCE = 60.0
"""Seconds that a call waits while another one starts a run with images from the same foundation."""
SCRATCH = "scratch-"
REMOVED = "removed-"


def repository_of(context: Context, digest: str) -> Path:
    """Where the private repository of a foundation is, or would be; without links."""
    return _folder(context) / digest / "repository"


def has_foundation(context: Context, digest: str) -> bool:
    """Whether the private repository of this foundation is here."""
    if not archive.SHA256.fullmatch(digest):
        return False
    git_directory = repository_of(context, digest) / ".git"
    return os.path.isdir(git_directory)  # noqa: PTH112  # it may not be readable


def keep_foundation(
    context: Context, file: Path, name_in_pack: str | None = None
) -> str:
    """Make the private repository of a foundation, where it is not here yet. Returns its digest.

    `name_in_pack` is the digest by which a pack names the file. Raises `pack_invalid` for
    a file that has another one, is damaged, or from which no repository can be made,
    `timeout`, and `storage_failed`.
    """
    try:
        digest = archive.digest_of(file)
        if name_in_pack is not None and digest != name_in_pack:
            raise CounselError(
                Code.PACK_INVALID,
                "The pack is damaged: it has another foundation than it names",
            )
        if is_kept(context, digest):
            return digest
        with _changing(context, digest) as directory:
            # Another call may have made it meanwhile.
            if not has_foundation(context, digest):
                _make(context, file, directory)
    except OSError as error:
        raise _not_stored(error) from None
    return digest


def is_kept(context: Context, digest: str) -> bool:
    """Whether the repository is here; then nobody removes it for a day. Raises `storage_failed`."""
    if not has_foundation(context, digest):
        return False
    try:
        with using(context, digest):
            return True
    except CounselError as error:
        if error.code != Code.PACK_INVALID:
            raise
        return False


def add_commits(
    context: Context, digest: str, bundle: Path, shallow: Iterable[str]
) -> None:
    """Bring the commits of a bundle into a private repository, in which runs may read meanwhile.

    `shallow` are those whose parents are not there. Raises as `keep_foundation`.
    """
    with using(context, digest) as repository:
        try:
            name = archive.digest_of(bundle)
            with _locked(repository.with_name("adding.lock")):
                mark = repository.with_name("more") / name
                if mark.exists():
                    return
                git = LimitedGit.of(context, repository)
                draft = repository.with_name("draft.pack")
                received_commits.take_in(git, bundle, shallow, draft)
                mark.parent.mkdir(mode=0o700, exist_ok=True)
                mark.touch(mode=0o600)
        except OSError as error:
            raise _not_stored(error) from None


@contextlib.contextmanager
def using(context: Context, digest: str) -> Iterator[Path]:
    """The private repository, which nobody removes while the block lasts, nor for a day after it.

    Raises `pack_invalid` where it is not here, and `storage_failed`.
    """
    directory = _folder(context) / digest
    try:
        lock = lock_file(directory / "lock", shared=True, patience=LOCK_PATIENCE)
    except FileNotFoundError:
        raise missing(digest) from None
    except OSError as error:
        raise _not_stored(error) from None
    if lock is None:
        raise _busy(directory / "lock")
    try:
        if not has_foundation(context, digest):
            raise missing(digest)
        try:
            (directory / "used").touch(mode=0o600)
            _seed_ledger(context, directory)
        except OSError as error:
            raise _not_stored(error) from None
        yield directory / "repository"
    finally:
        os.close(lock)


@contextlib.contextmanager
def holding_images(repository: Path, sent: Path, pack_id: str) -> Iterator[Path]:
    """Move the folder `sent` with the images of a pack beside its repository, where they stay until the block ends.

    The same pack has the same paths each time: they are part of the request by which its
    run is known. Raises `storage_failed`.
    """
    folder = repository.with_name(manifest.IMAGES)
    own = folder / pack_id
    try:
        make_private(folder)
        lock = lock_file(folder / "lock", patience=IMAGES_PATIENCE)
    except (OSError, UnsafeDirectoryError) as error:
        raise _not_stored(error) from None
    if lock is None:
        raise _busy(folder / "lock", IMAGES_PATIENCE)
    try:
        try:
            remove_tree(own)
            sent.rename(own)
        except OSError as error:
            raise _not_stored(error) from None
        yield own
    finally:
        remove_tree(own)
        os.close(lock)


def missing(digest: str) -> CounselError:
    """That the foundation of a pack is not here."""
    return CounselError(
        Code.PACK_INVALID,
        f"The foundation {digest[:12]} of this pack is not on this machine",
        repair="Run the whole file that `codex-counsel pack` wrote, which has its foundation.",
        details={"foundation": digest},
    )


@contextlib.contextmanager
def scratch(context: Context) -> Iterator[Path]:
    """A private directory beside the repositories, removed at the end. Raises `storage_failed`."""
    folder = _folder(context)
    try:
        make_private(folder)
        directory = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        lock = lock_file(directory / "lock")
    except (OSError, UnsafeDirectoryError) as error:
        raise _not_stored(error) from None
    try:
        content = directory / "content"
        content.mkdir(mode=0o700)
        yield content
    finally:
        remove_tree(directory)
        if lock is not None:
            os.close(lock)


# --- removal


def remove_unused(context: Context, now: float | None = None) -> None:
    """Remove repositories that no run uses, with their findings, and what killed processes left. Never raises.

    `now` is in epoch seconds.
    """
    now = now or time.time()
    directories: list[Path] = []
    with contextlib.suppress(OSError):
        directories = list(_folder(context).iterdir())
    unused = []
    for directory in directories:
        # One that cannot be removed must not keep the others.
        with contextlib.suppress(OSError):
            if directory.name.startswith(REMOVED):
                remove_tree(directory)
            elif directory.name.startswith(SCRATCH):
                _remove_abandoned(directory, now)
            elif _is_unused(directory, now):
                unused.append(directory)
    # Reading all jobs takes long, and few calls find such a repository.
    if unused:
        with contextlib.suppress(OSError, CounselError):
            _remove_those_without_jobs(context, unused, now)


def _remove_those_without_jobs(
    context: Context, unused: Iterable[Path], now: float
) -> None:
    """Remove the directories in which no living job works. Raises OSError and CounselError if jobs cannot be read."""
    living = _workspaces_of_living_jobs(context)
    for directory in unused:
        if any(path.is_relative_to(directory) for path in living):
            continue
        # One that cannot be removed must not keep the others.
        with contextlib.suppress(OSError):
            _remove(context, directory, now)


def _is_unused(directory: Path, now: float) -> bool:
    """Whether it has no repository, or one that was not used for long."""
    if not archive.SHA256.fullmatch(directory.name):
        return False
    if not (directory / "repository").is_dir():
        return True
    return now - _last_used(directory) > UNUSED_SECONDS


def _last_used(directory: Path) -> float:
    """Epoch seconds."""
    for name in ("used", "repository"):
        with contextlib.suppress(OSError):
            return (directory / name).stat().st_mtime
    return 0.0


def _workspaces_of_living_jobs(context: Context) -> set[Path]:
    found = set()
    for job in Store(context.settings.state).jobs():
        if job.is_running():
            with contextlib.suppress(CounselError):
                found.add(Path(job.spec().workspace))
    return found


def _remove(context: Context, directory: Path, now: float) -> None:
    """Remove a directory that nobody has locked. Raises OSError."""
    try:
        lock = lock_file(directory / "lock", create=False)
    except FileNotFoundError:
        if now - directory.stat().st_mtime > YOUNG_SECONDS:
            remove_tree(directory)
        return
    if lock is None:
        return
    try:
        # Somebody may have used it since, or made the repository, or made the whole directory anew.
        if not is_at(lock, directory / "lock") or not _is_unused(directory, now):
            return
        removed = directory.with_name(f"{REMOVED}{directory.name}-{os.getpid()}")
        directory.rename(removed)
        remove_tree(_ledger_of(context, directory).directory)
        remove_tree(removed)
    finally:
        os.close(lock)


def _remove_abandoned(directory: Path, now: float) -> None:
    """Remove a scratch directory whose maker is gone. Raises OSError."""
    if now - directory.stat().st_mtime < YOUNG_SECONDS:
        return
    with contextlib.ExitStack() as stack:
        if (directory / "lock").exists():
            lock = lock_file(directory / "lock", create=False)
            if lock is None:
                return
            stack.callback(os.close, lock)
        remove_tree(directory)


# --- the directory and its lock


def _folder(context: Context) -> Path:
    # A run is given no path that leads through a link.
    return context.directories.packs.resolve()


@contextlib.contextmanager
def _changing(context: Context, digest: str) -> Iterator[Path]:
    """Hold the lock of a foundation; its directory is made. Raises OSError and `storage_failed`."""
    folder = _folder(context)
    directory = folder / digest
    lock = None
    deadline = time.monotonic() + LOCK_PATIENCE
    while lock is None:
        try:
            make_private(folder)
            make_private(directory)
            lock = lock_file(directory / "lock", patience=LOCK_PATIENCE)
        except UnsafeDirectoryError as error:
            raise _not_stored(error) from None
        except FileNotFoundError:
            # An unused one was removed just now.
            if time.monotonic() > deadline:
                raise
            continue
        if lock is None:
            raise _busy(directory / "lock")
    try:
        yield directory
    finally:
        os.close(lock)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock alone. Raises OSError and `storage_failed`."""
    lock = lock_file(file, patience=LOCK_PATIENCE)
    if lock is None:
        raise _busy(file)
    try:
        yield
    finally:
        os.close(lock)


def _busy(file: Path, seconds: float = LOCK_PATIENCE) -> CounselError:
    return CounselError(
        Code.STORAGE_FAILED,
        f"Another process holds {file} for more than {seconds:g} seconds",
    )


def _not_stored(error: OSError | UnsafeDirectoryError) -> CounselError:
    if isinstance(error, UnsafeDirectoryError):
        return CounselError(Code.STORAGE_FAILED, str(error))
    problem = error_of(
        Code.STORAGE_FAILED,
        "The repository of a pack cannot be stored in the cache directory",
        error,
    )
    if problem.code == Code.STORAGE_FAILED:
        problem.repair = STORAGE_REPAIR
    return problem


def _make(context: Context, file: Path, directory: Path) -> None:
    """Make `repository/` in a directory whose lock is held. Raises OSError, and as `keep_foundation`."""
    draft = directory / "draft"
    remove_tree(draft)
    try:
        members = draft / "members"
        members.mkdir(mode=0o700, parents=True)
        name = "the foundation"
        with file.open("rb") as source:
            about = manifest.parse(
                Foundation,
                archive.unpack(source, name, "foundation", members),
                name,
            )
        repository = check_out(context, about, members, draft)
        findings = members / manifest.FINDINGS
        if findings.exists():
            findings.rename(directory / manifest.FINDINGS)
        (directory / "used").touch(mode=0o600)
        repository.rename(directory / "repository")
    finally:
        remove_tree(draft)


# --- findings


def _ledger_of(context: Context, directory: Path) -> Ledger:
    return Ledger.of(context.settings.state, directory / "repository/.git")


def _seed_ledger(context: Context, directory: Path) -> None:
    """Put the sender's findings on record, where this state directory has no record of the repository yet."""
    ledger = _ledger_of(context, directory)
    if ledger.file.exists():
        return
    data = read_regular(directory / manifest.FINDINGS, MAX_LEDGER)
    if data is None:
        return
    with ledger.changing() as changing:
        for line in data.splitlines():
            # A later release may have written it. It costs no other finding.
            with contextlib.suppress(ValueError, RecursionError):
                changing.put(Entry.from_json(json.loads(line)))
