"""Read and write single files of a working tree, never through a link.

A name is a path relative to the root of the tree, as bytes. The root is opened once;
every file is reached from it by descriptors of the folders on the way, and read,
written, renamed and removed in the folder that was opened. So a folder that is
exchanged for a link meanwhile leads nowhere.

`write_file` is for trees of our own. The user's tree, where he may save at any moment,
is written by `live_writer.py`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from codex_counsel.delegate.sensitive import LINK, fold
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.system.directory_descriptors import (
    entries,
    exists,
    open_below,
    open_resolved,
    open_subdirectory,
)

REGULAR = "100644"
EXECUTABLE = "100755"
"""Git's modes of regular files."""
GIT_DIRECTORIES = frozenset((".git", "git~1"))
"""Names, folded, that git or a file system takes for git's own directory."""
# Without O_NONBLOCK, opening a FIFO in place of a file would wait for a writer.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
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


class WorkTree:
    """A working tree whose `root` is open, a path without links. Use it in a `with` block.

    `repositories` are names of folders with a repository of their own that may be
    written too. Raises OSError where the root is no directory, or where its path leads
    through a link.
    """

    def __init__(self, root: Path, repositories: Iterable[bytes] = ()) -> None:
        self.root = root
        self.repositories = frozenset(repositories)
        self.descriptor = open_resolved(os.fsencode(root))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


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


def read_files(tree: WorkTree, names: Collection[bytes]) -> FileStates:
    """Read the files that one diff changes. Raises `apply_conflict` as `read_file` does."""
    return {name: read_file(tree, name, names) for name in names}


def read_file(
    tree: WorkTree,
    name: bytes,
    changing: Collection[bytes] = (),
) -> FileState | None:
    """Read a file or a link itself, not what the link leads to; None where there is none.

    `changing` are the files that the same diff changes. A link, file or folder in the
    way counts as no file where it consists of these alone. Raises `apply_conflict` for
    anything else in the way, for a file that cannot be read or is not regular, and for
    a name that belongs to git.
    """
    try:
        with folder_of(tree, name, changing) as folder:
            if folder is None:
                return None
            last = os.path.basename(name)
            state = read_entry(folder, last)
            if state:
                return state
            kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind) and _contains_only(tree, name, changing):
                return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise conflict_error([name], reason) from None
    reason = "is not a regular file in the tree, or is a folder with other files in it"
    raise conflict_error([name], reason)


def read_link(tree: WorkTree, name: bytes) -> bytes | None:
    """The target of a link; None where there is none, or where a part of the way is no folder."""
    try:
        folder = open_below(tree.descriptor, os.path.dirname(name))
    except OSError:
        return None
    try:
        return os.readlink(os.path.basename(name), dir_fd=folder)
    except OSError:
        return None
    finally:
        os.close(folder)


def read_entry(folder: int, last: bytes) -> FileState | None:
    """A file or a link in an open folder; None for anything else. Raises OSError, FileNotFoundError for nothing."""
    kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind):
        return FileState(os.readlink(last, dir_fd=folder), LINK)
    if not stat.S_ISREG(kind):
        return None
    return _read_regular_file(folder, last)


def _read_regular_file(folder: int, last: bytes) -> FileState | None:
    """None where it is no regular file any more."""
    descriptor = os.open(last, READ_FLAGS, dir_fd=folder)
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        data = file.read()
    permissions = stat.S_IMODE(kind) & 0o777
    mode = REGULAR
    if permissions & stat.S_IXUSR:
        mode = EXECUTABLE
    return FileState(data, mode, permissions)


@contextlib.contextmanager
def folder_of(
    tree: WorkTree,
    name: bytes,
    changing: Collection[bytes] = (),
    *,
    create: bool = False,
) -> Iterator[int | None]:
    """The descriptor of the folder that a file is in; None where it does not exist and `create` is false.

    None also where one of `changing` is in the way. Raises `apply_conflict` where
    something else is, where a parent is another repository, and for a name inside
    `.git`.
    """
    folder = _open_folder_of(tree, name, changing, create=create)
    try:
        yield folder
    finally:
        if folder is not None:
            os.close(folder)


def _open_folder_of(
    tree: WorkTree,
    name: bytes,
    changing: Collection[bytes],
    *,
    create: bool,
) -> int | None:
    parts = name.split(b"/")
    _check_parts(name, parts)
    folder = os.dup(tree.descriptor)
    try:
        for depth, part in enumerate(parts[:-1], start=1):
            parent = b"/".join(parts[:depth])
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            try:
                subfolder = open_subdirectory(folder, part)
            except NotADirectoryError:
                if parent in changing:
                    os.close(folder)
                    return None
                reason = (
                    f"leads through {display_name(parent)}, which is a link or a file"
                )
                raise conflict_error([name], reason) from None
            os.close(folder)
            folder = subfolder
            if parent not in tree.repositories and exists(folder, b".git"):
                reason = f"lies in another repository, {display_name(parent)}"
                raise conflict_error([name], reason)  # noqa: TRY301  # a handler closes
    except FileNotFoundError:
        os.close(folder)
        return None
    except BaseException:
        os.close(folder)
        raise
    return folder


def _check_parts(name: bytes, parts: list[bytes]) -> None:
    if not all(map(is_plain_part, parts)):
        reason = "belongs to git itself, or is no name of a file in the tree"
        raise conflict_error([name], reason)


def is_plain_part(part: bytes) -> bool:
    """Whether a part of a name leads neither into a git directory nor out of the tree."""
    if part in (b"", b".", b".."):
        return False
    return GIT_DIRECTORIES.isdisjoint(fold(part).split("/"))


def _contains_only(
    tree: WorkTree,
    name: bytes,
    names: Collection[bytes],
) -> bool:
    """Whether every file in the folder `name` and below is one of these."""
    pending = [name]
    while pending:
        parent = pending.pop()
        folder = open_below(tree.descriptor, parent)
        try:
            listing = entries(folder)
        finally:
            os.close(folder)
        for entry, is_directory in listing:
            path = parent + b"/" + entry
            if is_directory:
                pending.append(path)
            elif path not in names:
                return False
    return True


# --- writing


def removals_first(files: FileStates) -> list[bytes]:
    """The names in the order of writing: a file that goes may be where another one needs a folder."""
    return sorted(files, key=lambda name: files[name] is not None)


def write_file(tree: WorkTree, name: bytes, state: FileState | None) -> None:
    """Put one file in place, whatever was there; with None, remove it and the folders that become empty.

    Missing folders are made. Raises `apply_conflict` where a parent is a link, a file
    or another repository, or was moved away while the file was written, and OSError
    where writing fails.
    """
    last = os.path.basename(name)
    if state is None:
        with folder_of(tree, name) as folder:
            if folder is None:
                return
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(last, dir_fd=folder)
        remove_empty_folders(tree, name)
        return
    with folder_of(tree, name, create=True) as folder:
        if folder is None:
            raise vanished_error(name)
        draft = b".codex-counsel-" + secrets.token_hex(6).encode()
        try:
            write_draft(folder, draft, state, permissions_for(folder, last, state))
            # An empty folder may be in the way: the files in it went before.
            with contextlib.suppress(OSError):
                os.rmdir(last, dir_fd=folder)
            os.replace(draft, last, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft, dir_fd=folder)
            raise
        check_place(tree, name, folder)


def vanished_error(name: bytes) -> CounselError:
    """For a folder that was just made, and is gone again."""
    return conflict_error([name], "lies in a folder that somebody removes")


def check_place(tree: WorkTree, name: bytes, folder: int) -> None:
    """Raise `apply_conflict` unless the name still leads to the open folder: else the file was written elsewhere."""
    with folder_of(tree, name) as current:
        if current is None or not os.path.samestat(os.fstat(current), os.fstat(folder)):
            reason = "lies in a folder that was moved away while it was written"
            raise conflict_error([name], reason)


def permissions_for(folder: int, last: bytes, state: FileState) -> int | None:
    """Those of the state, else those of the file of this name, made executable or not as git's mode says.

    None where neither has any: then the umask decides.
    """
    if state.permissions is not None or state.mode == LINK:
        return state.permissions
    try:
        current = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
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


def write_draft(
    folder: int,
    draft: bytes,
    state: FileState,
    permissions: int | None,
) -> None:
    if state.mode == LINK:
        os.symlink(state.data, draft, dir_fd=folder)
        return
    # What the umask leaves of these.
    mode = 0o666
    if state.is_executable:
        mode = 0o777
    descriptor = os.open(draft, CREATE_FLAGS, mode, dir_fd=folder)
    with open(descriptor, "wb") as file:
        file.write(state.data)
        if permissions is not None:
            os.fchmod(descriptor, permissions)


def remove_empty_folders(tree: WorkTree, name: bytes) -> None:
    """Remove the folders that a file was in, up to the first one that is not empty."""
    with contextlib.suppress(OSError):
        path = os.path.dirname(name)
        while path:
            parent, _, last = path.rpartition(b"/")
            folder = open_below(tree.descriptor, parent)
            try:
                os.rmdir(last, dir_fd=folder)
            finally:
                os.close(folder)
            path = parent
