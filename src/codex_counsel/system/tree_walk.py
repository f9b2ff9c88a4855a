"""Walk and remove directory trees of any shape: deep, closed by their owner, or changed by somebody else meanwhile.

Standard library, no pathlib.

Invariants: every folder is opened from the one above it and is never a link, so nothing
outside of the tree is touched. Nothing here recurses. However deep a tree is, few
descriptors are open: the folders far above are closed, and opened again by way of
`..`, where they must be the very folders that they were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from codex_counsel.system.files import REMOVE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN = 32
"""Folders that are open at once."""
MAX_PATH = 4096
"""Bytes of the longest path that the system takes as one string."""
BATCH = 10_000
"""Names of a folder that are removed before the next ones are read: a folder may have millions."""


class FolderMovedError(OSError):
    """A folder is no longer below the one in which it was found."""


class Folder:
    """A folder on the way down. `name` is empty for the root; `length` is the number of bytes of its path."""

    __slots__ = ("_path", "descriptor", "identity", "length", "name", "parent")

    def __init__(self, descriptor: int, name: bytes, parent: Folder | None) -> None:
        status = os.fstat(descriptor)
        self.descriptor = descriptor
        self.name = name
        self.parent = parent
        self.identity = (status.st_dev, status.st_ino)
        self.length = len(name)
        if parent is not None and parent.length:
            self.length += parent.length + 1
        self._path: bytes | None = None

    @property
    def path(self) -> bytes:
        """From the root, empty for the root itself."""
        if self._path is None:
            names = []
            folder: Folder | None = self
            while folder is not None and folder.name:
                names.append(folder.name)
                folder = folder.parent
            self._path = b"/".join(reversed(names))
        return self._path


class Descent:
    """The folders from a root down to the current one. Use it in a `with` block: it keeps folders open."""

    def __init__(self, root: str | bytes | os.PathLike[str]) -> None:
        """Raises OSError where the root is no directory, or a link."""
        self._folders = [Folder(os.open(root, FOLDER_FLAGS), b"", None)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for folder in self._folders:
            _close(folder)
        self._folders.clear()

    @property
    def current(self) -> Folder:
        """Where we are; its descriptor is open."""
        return self._folders[-1]

    @property
    def at_root(self) -> bool:
        """Whether there is nothing above the current folder."""
        return len(self._folders) == 1

    def enter(
        self, name: bytes, *, grant: bool = False, one_file_system: bool = False
    ) -> None:
        """Go into a folder of the current one. `grant` first gives its owner access to it.

        Raises OSError for a link, and for what is no folder or cannot be opened; with
        `one_file_system` also for a folder on another one.
        """
        above = self.current
        if grant:
            descriptor = _open_granted(above.descriptor, name)
        else:
            descriptor = os.open(name, FOLDER_FLAGS, dir_fd=above.descriptor)
        folder = Folder(descriptor, name, above)
        if one_file_system and folder.identity[0] != above.identity[0]:
            _close(folder)
            raise OSError(errno.EXDEV, "on another file system")
        self._folders.append(folder)
        if len(self._folders) > MAX_OPEN:
            _close(self._folders[-MAX_OPEN - 1])

    def leave(self) -> Folder:
        """Go up to the folder above and return the one that was left, closed.

        Raises FolderMovedError where it is another folder now, OSError where it cannot
        be opened.
        """
        left = self._folders.pop()
        above = self.current
        try:
            if above.descriptor < 0:
                above.descriptor = _open_above(left, above)
        finally:
            _close(left)
        return left


def _open_above(left: Folder, above: Folder) -> int:
    descriptor = os.open(b"..", FOLDER_FLAGS, dir_fd=left.descriptor)
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino) == above.identity:
        return descriptor
    os.close(descriptor)
    raise FolderMovedError("the folder was moved")


def _close(folder: Folder) -> None:
    if folder.descriptor >= 0:
        os.close(folder.descriptor)
        folder.descriptor = -1


class Entry:
    """What a folder holds. Valid until the walk goes on."""

    __slots__ = ("_entry", "folder", "name")

    def __init__(self, folder: Folder, entry: os.DirEntry[str]) -> None:
        self.folder = folder
        self.name = os.fsencode(entry.name)
        self._entry = entry

    @property
    def path(self) -> bytes:
        """From the root of the walk. Of a deep tree this is long: ask for it only with a bound on paths."""
        folder = self.folder.path
        if not folder:
            return self.name
        return folder + b"/" + self.name

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory, not a link to one."""
        return self._entry.is_dir(follow_symlinks=False)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, not a link to one."""
        return self._entry.is_file(follow_symlinks=False)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return self._entry.is_symlink()

    def stat(self) -> os.stat_result:
        """Of the entry itself, not of a link's target. Raises OSError where it is gone."""
        return os.stat(self.name, dir_fd=self.folder.descriptor, follow_symlinks=False)


class TreeWalk:
    """Iterate it for every entry below `root`, a folder before what is in it; links are entries and never followed.

    `enter` is asked whether a folder is gone into. After `limit` entries the walk ends.
    A folder whose path from the root has more than `max_path` bytes is not gone into;
    None stands for no bound. `grant` gives the owner access to each folder, and
    `one_file_system` keeps out of mounts. Whatever happens, no OSError comes out of the
    iteration.

    `truncated` says that the walk ended early: at the limit, or because a folder was
    moved meanwhile. `unread` counts the folders that were to be read and could not be,
    those with too long a path among them; one that vanished is not counted.
    """

    def __init__(
        self,
        root: str | bytes | os.PathLike[str],
        *,
        enter: Callable[[Entry], bool] | None = None,
        limit: int | None = None,
        max_path: int | None = MAX_PATH,
        grant: bool = False,
        one_file_system: bool = False,
    ) -> None:
        self.truncated = False
        self.unread = 0
        self._root = root
        self._enter = enter
        self._entries_left = limit
        self._max_path = max_path
        self._grant = grant
        self._one_file_system = one_file_system

    def __iter__(self) -> Iterator[Entry]:
        try:
            descent = Descent(self._root)
        except OSError:
            self.unread += 1
            return
        with descent:
            try:
                yield from self._walk(descent)
            except OSError:
                self.truncated = True

    def _walk(self, descent: Descent) -> Iterator[Entry]:
        """Raises OSError where the way up is gone."""
        if self._grant:
            _grant(descent.current.descriptor)
        waiting: list[list[bytes]] = [[]]
        yield from self._scan(descent.current, waiting[-1])
        while not self.truncated:
            if waiting[-1]:
                name = waiting[-1].pop()
                if self._go_into(descent, name):
                    waiting.append([])
                    yield from self._scan(descent.current, waiting[-1])
            elif descent.at_root:
                return
            else:
                waiting.pop()
                descent.leave()

    def _go_into(self, descent: Descent, name: bytes) -> bool:
        length = descent.current.length + 1 + len(name)
        if self._max_path is not None and length > self._max_path:
            self.unread += 1
            return False
        try:
            descent.enter(
                name, grant=self._grant, one_file_system=self._one_file_system
            )
        except FileNotFoundError:
            return False
        except OSError:
            self.unread += 1
            return False
        return True

    def _scan(self, folder: Folder, subfolders: list[bytes]) -> Iterator[Entry]:
        """The entries of one folder. Adds to `subfolders` those that are to be gone into, the first one last."""
        try:
            entries = os.scandir(folder.descriptor)
        except OSError:
            self.unread += 1
            return
        with entries:
            while (found := self._next(entries)) is not None:
                if self._entries_left is not None:
                    self._entries_left -= 1
                    if self._entries_left < 0:
                        self.truncated = True
                        return
                entry = Entry(folder, found)
                yield entry
                if entry.is_folder and (self._enter is None or self._enter(entry)):
                    subfolders.append(entry.name)
        subfolders.reverse()

    def _next(self, entries: Iterator[os.DirEntry[str]]) -> os.DirEntry[str] | None:
        try:
            return next(entries, None)
        except OSError:
            self.unread += 1
            return None


# --- access


def make_accessible(root: str | bytes | os.PathLike[str]) -> None:
    """Give the owner access to every folder and regular file below `root`: a run may have taken it away.

    What belongs to another user stays closed; it is reported where reading it fails.
    """
    for entry in TreeWalk(root, max_path=None, grant=True, one_file_system=True):
        if not entry.is_file:
            continue
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(entry.stat().st_mode)
            if mode & 0o600 != 0o600:
                _change_mode(entry.folder.descriptor, entry.name, mode | 0o600)


def _open_granted(above: int, name: bytes) -> int:
    """Open a folder for reading, after its owner was given access. Raises OSError."""
    try:
        descriptor = os.open(name, FOLDER_FLAGS, dir_fd=above)
    except PermissionError:
        _change_mode(above, name, 0o700)
        descriptor = os.open(name, FOLDER_FLAGS, dir_fd=above)
    _grant(descriptor)
    return descriptor


def _grant(folder: int) -> None:
    mode = stat.S_IMODE(os.fstat(folder).st_mode)
    if mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(folder, mode | 0o700)


def _change_mode(folder: int, name: bytes, mode: int) -> None:
    """Change the mode of the entry itself, of a link never that of its target. Raises OSError."""
    if not hasattr(os, "O_PATH"):  # macOS
        os.chmod(name, mode, dir_fd=folder, follow_symlinks=False)
        return
    # Linux has no such call in Python, but a descriptor that needs no access to what it
    # stands for.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISLNK(os.fstat(handle).st_mode):
            os.chmod(f"/proc/self/fd/{handle}", mode)  # noqa: PTH101  # no pathlib here
    finally:
        os.close(handle)


# --- removal


def remove_tree(
    path: str | bytes | os.PathLike[str], seconds: float = REMOVE_SECONDS
) -> bool:
    """Remove what is at `path`: a directory and all below it, a file, or a link, whose target stays.

    Never raises, follows no link, enters no other file system. Returns whether nothing
    is left; `seconds` is when it gives up.
    """
    folder, name = os.path.split(os.fsencode(path))
    if name in (b"", b".", b".."):
        return False
    deadline = time.monotonic() + seconds
    try:
        # The parent is ours and may be reached through a link.
        with Descent(os.path.realpath(folder or b".")) as descent:
            return _remove(descent, name, deadline)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _remove(descent: Descent, root: bytes, deadline: float) -> bool:
    """Raises OSError where the way up is gone."""
    complete = _remove_entry(descent.current.descriptor, root)
    if complete is not None:
        return complete
    descent.enter(root, grant=True, one_file_system=True)
    # For each folder on the way: the names still to be removed of those that were read,
    # and whether one of those could be.
    levels = [_Removal()]
    complete = True
    while levels:
        if time.monotonic() > deadline:
            return False
        level = levels[-1]
        folder = descent.current.descriptor
        if level.names:
            name = level.names.pop()
            removed = _remove_entry(folder, name)
            if removed is None and _enter(descent, name):
                levels.append(_Removal())
            elif removed:
                level.progress = True
        elif level.progress:
            level.progress = False
            level.names = _first_names(folder)
        else:
            levels.pop()
            left = descent.leave()
            removed = _remove_entry(descent.current.descriptor, left.name)
            if levels:
                levels[-1].progress |= bool(removed)
            complete = bool(removed)
    return complete


class _Removal:
    """A folder whose entries are being removed: names read and not tried yet; whether reading again may help."""

    __slots__ = ("names", "progress")

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.progress = True


def _remove_entry(folder: int, name: bytes) -> bool | None:
    """Whether the entry is gone; None for a folder that is not empty."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
    except (IsADirectoryError, PermissionError):  # Linux and macOS on a folder
        return _remove_folder(folder, name)
    except OSError:
        return False
    return True


def _remove_folder(folder: int, name: bytes) -> bool | None:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=folder)
    except NotADirectoryError:
        return False
    except OSError:
        return None
    return True


def _enter(descent: Descent, name: bytes) -> bool:
    try:
        descent.enter(name, grant=True, one_file_system=True)
    except OSError:
        return False
    return True


def _first_names(folder: int) -> list[bytes]:
    names = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            names.append(os.fsencode(entry.name))
            if len(names) >= BATCH:
                break
    return names
