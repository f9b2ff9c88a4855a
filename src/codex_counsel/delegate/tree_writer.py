"""Write files of a working tree: all or none, each by a rename within its folder, never through a link.

A name is a path relative to the root of the tree, as bytes. Every file is read again
just before it is replaced, and a failure half-way puts back what was there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.delegate.sensitive import LINK
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name

REGULAR = "100644"
EXECUTABLE = "100755"
"""Git's modes of regular files."""
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class FileState:
    """A file at one moment: its bytes (for a link its target) and git's mode. None in place of it means: no file.

    `permissions` are the nine bits of a live file. They are kept when it is replaced,
    and take no part in comparisons.
    """

    data: bytes
    mode: str
    permissions: int | None = field(default=None, compare=False)

    @property
    def is_executable(self) -> bool:
        """Whether git calls it an executable file."""
        return self.mode == EXECUTABLE


FileStates = dict[bytes, FileState | None]


class HalfWrittenError(CounselError):
    """Writing failed, and so did putting back what was there: some files are new and others old."""


def conflict_error(
    names: list[bytes],
    reason: str,
    details: Mapping[str, object] | None = None,
) -> CounselError:
    """An `apply_conflict` about these files. The reason continues a sentence that begins with their names."""
    displayed = [display_name(name) for name in names[:20]]
    subject = ", ".join(displayed)
    all_details: dict[str, object] = {"files": displayed}
    if details:
        all_details |= details
    return CounselError(
        Code.APPLY_CONFLICT,
        f"{subject} {reason}; nothing was changed",
        details=all_details,
    )


# --- reading


def read_files(root: Path, names: Collection[bytes]) -> FileStates:
    """Read the files that one diff changes. Raises `apply_conflict` as `read_file` does."""
    return {name: read_file(root, name, names) for name in names}


def read_file(
    root: Path,
    name: bytes,
    changing: Collection[bytes] = (),
) -> FileState | None:
    """Read a file or a link itself, not what the link leads to; None where there is none.

    `changing` are the files that the same diff changes. A link, file or folder in the
    way counts as no file where it consists of these alone. Raises `apply_conflict` for
    anything else in the way, for a file that cannot be read or is not regular, and for
    a name that belongs to git.
    """
    if not _is_below_folders(root, name, changing):
        return None
    path = _path(root, name)
    try:
        kind = os.lstat(path).st_mode
        if stat.S_ISLNK(kind):
            target = os.readlink(path)
            return FileState(target, LINK)
        if stat.S_ISREG(kind):
            return _read_regular_file(path, kind)
        if stat.S_ISDIR(kind) and _contains_only(root, name, changing):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise conflict_error([name], reason) from None
    reason = "is not a regular file in the tree, or is a folder with other files in it"
    raise conflict_error([name], reason)


def _read_regular_file(path: bytes, kind: int) -> FileState:
    """`kind` is the file's `st_mode`."""
    descriptor = os.open(path, READ_FLAGS)
    with open(descriptor, "rb") as file:
        data = file.read()
    permissions = stat.S_IMODE(kind) & 0o777
    mode = REGULAR
    if permissions & stat.S_IXUSR:
        mode = EXECUTABLE
    return FileState(data, mode, permissions)


def _path(root: Path, name: bytes) -> bytes:
    return os.fsencode(root) + b"/" + name


def _is_below_folders(
    root: Path,
    name: bytes,
    changing: Collection[bytes] = (),
) -> bool:
    """Whether no parent of the file is a link or a file: each is a real folder, or does not exist yet.

    False where one of `changing` is in the way. Raises `apply_conflict` where something
    else is, where a parent is another repository, and for a name inside `.git`.
    """
    parts = name.split(b"/")
    for part in parts:
        if part.lower() == b".git":
            raise conflict_error([name], "belongs to git itself")

    for depth in range(1, len(parts)):
        parent = b"/".join(parts[:depth])
        path = _path(root, parent)
        is_folder = os.path.isdir(path) and not os.path.islink(path)
        if os.path.lexists(path) and not is_folder:
            if parent in changing:
                return False
            reason = f"leads through {display_name(parent)}, which is a link or a file"
            raise conflict_error([name], reason)
        if os.path.lexists(path + b"/.git"):
            reason = f"lies in another repository, {display_name(parent)}"
            raise conflict_error([name], reason)
    return True


def _contains_only(
    root: Path,
    folder: bytes,
    names: Collection[bytes],
) -> bool:
    """Whether every file in the folder and below is one of these."""
    top = _path(root, b"")
    for parent, _, files in os.walk(_path(root, folder)):
        for file in files:
            path = os.path.join(parent, file)
            name = path.removeprefix(top)
            if name not in names:
                return False
    return True


# --- writing all or none


def replace_files(root: Path, before: FileStates, after: FileStates) -> None:
    """Write every file of `after` that differs from `before`, or put back what was there and raise.

    Raises `apply_conflict` where a file is no longer as in `before`, `storage_failed`
    where writing fails, and HalfWrittenError where a file cannot be put back.
    """
    changed: FileStates = {}
    for name, state in after.items():
        if state != before[name]:
            changed[name] = state

    begun: list[bytes] = []
    try:
        for name in removals_first(changed):
            if read_file(root, name, changed) != before[name]:
                raise conflict_error([name], "changed while the diff was being applied")  # noqa: TRY301  # the handler puts back
            begun.append(name)
            write_file(root, name, changed[name])
    except BaseException as error:
        _put_back(root, before, begun, error)
        if not isinstance(error, OSError):
            raise
        raise CounselError(
            Code.STORAGE_FAILED,
            f"Writing failed ({error.strerror}); every file was put back",
        ) from None


def removals_first(files: FileStates) -> list[bytes]:
    """The names in the order of writing: a file that goes may be where another one needs a folder."""
    return sorted(files, key=lambda name: files[name] is not None)


def _put_back(
    root: Path,
    before: FileStates,
    begun: list[bytes],
    error: BaseException,
) -> None:
    """Write the files that were begun as they were, the last one first. Raises HalfWrittenError where one fails."""
    originals = {name: before[name] for name in reversed(begun)}
    failed = []
    for name in removals_first(originals):
        original = originals[name]
        try:
            if read_file(root, name, before) != original:
                write_file(root, name, original)
        except (OSError, CounselError):
            failed.append(display_name(name))
    if failed:
        names = ", ".join(failed[:20])
        raise HalfWrittenError(
            Code.STORAGE_FAILED,
            f"Writing failed ({error}), and these files could not be put back: {names}",
            repair="Make room or give back the permissions, then call codex_apply again, which finishes the files.",
            details={"files": failed[:200]},
        ) from None


# --- writing one file


def write_file(root: Path, name: bytes, state: FileState | None) -> None:
    """Put one file in place by a rename within its folder; with None, remove it and the folders that become empty.

    Missing folders are made. Raises `apply_conflict` where a parent is a link, a file
    or another repository, and OSError where writing fails; the file is unchanged then.
    """
    _is_below_folders(root, name)
    path = _path(root, name)
    if state is None:
        _remove_file(root, path)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    unique = secrets.token_hex(6)
    draft = folder + b"/.codex-counsel-" + unique.encode()
    try:
        permissions = _permissions_for(path, state)
        _write_draft(draft, state, permissions)
        # An empty folder may be in the way: the files in it went before.
        with contextlib.suppress(OSError):
            os.rmdir(path)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _permissions_for(path: bytes, state: FileState) -> int | None:
    """Those of the state, else those of the file at the path, made executable or not as git's mode says.

    None where neither has any: then the umask decides.
    """
    if state.permissions is not None or state.mode == LINK:
        return state.permissions
    try:
        current = os.lstat(path).st_mode
    except OSError:
        return None
    if not stat.S_ISREG(current):
        return None
    permissions = stat.S_IMODE(current) & 0o777
    if not state.is_executable:
        return permissions & ~0o111
    if permissions & stat.S_IXUSR:
        return permissions
    # Executable for everybody who may read it.
    readable = permissions & 0o444
    return permissions | (readable >> 2)


def _write_draft(
    draft: bytes,
    state: FileState,
    permissions: int | None,
) -> None:
    if state.mode == LINK:
        os.symlink(state.data, draft)
        return
    # What the umask leaves of these.
    mode = 0o666
    if state.is_executable:
        mode = 0o777
    descriptor = os.open(draft, CREATE_FLAGS, mode)
    with open(descriptor, "wb") as file:
        file.write(state.data)
        if permissions is not None:
            os.fchmod(descriptor, permissions)


def _remove_file(root: Path, path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
    top = os.fsencode(root)
    folder = os.path.dirname(path)
    # The first folder that is not empty raises, and stays.
    with contextlib.suppress(OSError):
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)
