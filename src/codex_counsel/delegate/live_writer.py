"""Write files of the user's working tree: all or none, and what he saves meanwhile is never lost.

The new content is written to a draft in the folder of the file. Then the two are
exchanged in one step, and what came out is looked at: if it is not the file that the
plan was made for, or a program has it open for writing, it goes back to its place. So
there is no moment at which a save could be overwritten unseen.

Where the system cannot exchange two names, the file is read just before it is replaced,
and a save in between is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.delegate.sensitive import LINK
from codex_counsel.delegate.tree_writer import (
    READ_FLAGS,
    FileState,
    FileStates,
    WorkTree,
    check_place,
    conflict_error,
    folder_of,
    permissions_for,
    read_entry,
    read_file,
    removals_first,
    remove_empty_folders,
    vanished_error,
    write_draft,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.system.exchange import exchange, has_writers, rename_new
from codex_counsel.system.files import write_atomically

WRITER_SECONDS = 1.0
"""How long a program may have a file open for writing before the file counts as being edited."""
CONTROL_SECONDS = 0.1
"""How long a draft may seem open for writing: a process that is being started holds it until it executes."""
POLL_SECONDS = 0.01
MAX_TURNS = 20
"""Saves that may come between giving back a file and looking at what came out."""
PART = b".part"
"""Ends the name of a draft that is not yet written completely: nobody else's file was ever under it."""


class HalfWrittenError(CounselError):
    """Writing failed, and so did putting back what was there: some files are new and others old."""


class Drafts:
    """The names of the drafts of one call: in the folder of each file, with the call's token and the file's number."""

    def __init__(self, token: str, names: Iterable[bytes]) -> None:
        self._token = token
        self._numbers = {name: number for number, name in enumerate(names)}

    def name_of(self, name: bytes) -> bytes:
        """The draft's own name, without its folder."""
        return f".codex-counsel-{self._token}-{self._numbers[name]}".encode()


@dataclass(frozen=True)
class _Place:
    """A file in an open folder: its name in the tree, its own name in the folder, and that of its draft."""

    folder: int
    name: bytes
    last: bytes
    draft: bytes


@dataclass(frozen=True)
class _Entry:
    """What stands under a name: which inode, with which content (None for no file and no link)."""

    inode: int
    state: FileState | None

    @classmethod
    def read(cls, folder: int, last: bytes) -> _Entry:
        """Raises FileNotFoundError. What cannot be read counts as no file."""
        status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        state = None
        with contextlib.suppress(OSError):
            state = read_entry(folder, last)
        return cls(status.st_ino, state)


def digest(state: FileState | None) -> str | None:
    """A short name of a file's kind and content, None for no file."""
    if state is None:
        return None
    kind = "link" if state.mode == LINK else "file"
    return f"{kind}:{hashlib.sha256(state.data).hexdigest()}"


class LiveWriter:
    """Writes the files of one diff. `kept` is the directory for contents that have no place in the tree any more.

    `stored` are the paths of such contents: below `kept`, or in the tree where they
    cannot be stored there.
    """

    def __init__(self, tree: WorkTree, drafts: Drafts, kept: Path) -> None:
        self._tree = tree
        self._drafts = drafts
        self._kept = kept
        self._tells_writers = True
        self.stored: list[str] = []

    # --- all or none

    def replace_files(self, before: FileStates, after: FileStates) -> list[str]:
        """Write every file of `after` that differs from `before`, or put back what was there and raise.

        Returns, for display, the files that somebody changed again after they were
        written. A file that somebody changed is not put back; its earlier content is
        stored below the directory `kept`. Raises `apply_conflict` where a file is no
        longer as in `before`, `storage_failed` where writing fails, and
        HalfWrittenError where a file cannot be put back.
        """
        changed: FileStates = {}
        for name, state in after.items():
            if state != before[name]:
                changed[name] = state

        looked_at: list[bytes] = []
        begun: list[bytes] = []
        try:
            for name in removals_first(changed):
                looked_at.append(name)
                if read_file(self._tree, name, changed) != before[name]:
                    raise _changed_error(name)  # noqa: TRY301  # the handler puts back
                begun.append(name)
                try:
                    self.replace(name, before[name], changed[name])
                except ChangedMeanwhileError:
                    # Nothing of ours is there.
                    begun.remove(name)
                    raise
        except BaseException as error:
            # Whatever line an interrupt came at.
            self.remove_drafts(
                (name, digest(before[name]), digest(changed[name]))
                for name in looked_at
            )
            edited = self._put_back(before, changed, begun, error)
            if isinstance(error, Exception) and (edited or self.stored):
                raise self._edited_error(error, edited) from None
            if not isinstance(error, OSError):
                raise
            raise CounselError(
                Code.STORAGE_FAILED,
                f"Writing failed ({error.strerror}); every file was put back",
                repair="Make room or give back the permissions, then apply again.",
            ) from None
        return self._changed_again(changed)

    def _changed_again(self, written: FileStates) -> list[str]:
        names = []
        for name, state in written.items():
            try:
                is_ours = read_file(self._tree, name, written) == state
            except CounselError:
                is_ours = False
            if not is_ours:
                names.append(display_name(name))
        return names

    def _put_back(
        self,
        before: FileStates,
        after: FileStates,
        begun: list[bytes],
        error: BaseException,
    ) -> list[bytes]:
        """Write the files that were begun as they were, the last one first.

        Returns those that are neither as before nor as after: somebody changed them
        meanwhile, and they stay; what they were is stored. Raises HalfWrittenError where
        one cannot be written.
        """
        originals = {name: before[name] for name in reversed(begun)}
        edited = []
        failed = []
        for name in removals_first(originals):
            original = originals[name]
            try:
                current = read_file(self._tree, name, before)
                if current == original:
                    continue
                is_ours = current == after[name]
                if is_ours:
                    is_ours = self._was_put_back(name, after[name], original)
                if not is_ours:
                    edited.append(name)
                    self._store_state(name, original)
            except (OSError, CounselError):
                failed.append(display_name(name))
        if failed:
            names = ", ".join(failed[:20])
            details: dict[str, object] = {"files": failed[:200]}
            if self.stored:
                details["kept"] = self.stored[:200]
            raise HalfWrittenError(
                Code.STORAGE_FAILED,
                f"Writing failed ({error}), and these files could not be put back: {names}",
                repair="Make room or give back the permissions, then call codex_apply again, which finishes the files; "
                "or with undo, which puts them back.",
                details=details,
            ) from None
        return edited

    def _was_put_back(
        self, name: bytes, written: FileState | None, original: FileState | None
    ) -> bool:
        """False where somebody changes the file at this very moment. Raises OSError, and `apply_conflict` otherwise."""
        try:
            self.replace(name, written, original)
        except ChangedMeanwhileError:
            return False
        return True

    def _edited_error(self, error: Exception, edited: list[bytes]) -> CounselError:
        names = [display_name(name) for name in edited]
        listed = ", ".join(names[:20]) or "files"
        code = Code.STORAGE_FAILED
        if isinstance(error, CounselError):
            code = error.code
        return CounselError(
            code,
            f"Applying was given up half-way ({error}). Somebody changed {listed} meanwhile: "
            "what is there now was left alone; every other file was put back",
            repair="Compare these files with their earlier content, which is in the files named in `kept`.",
            details={"files": names[:200], "kept": self.stored[:200]},
        )

    # --- one file

    def replace(
        self, name: bytes, expected: FileState | None, state: FileState | None
    ) -> None:
        """Put one file in the place of the expected one; None means no file.

        Missing folders are made, and those that become empty are removed. Raises
        ChangedMeanwhileError where something else than `expected` is there, or a
        program has it open for writing; then what is there stays. Raises
        `apply_conflict` where a parent is a link, a file or another repository, or was
        moved away meanwhile, and OSError where writing fails.
        """
        with folder_of(self._tree, name, create=state is not None) as folder:
            if folder is None:
                if state is None and expected is None:
                    return
                raise vanished_error(name)
            place = self._place(folder, name)
            if state is None:
                self._take_out(place, expected)
            else:
                _write_draft(place, state)
                self._put(place, expected)
                check_place(self._tree, name, folder)
        if state is None:
            remove_empty_folders(self._tree, name)

    def _place(self, folder: int, name: bytes) -> _Place:
        draft = self._drafts.name_of(name)
        return _Place(folder, name, os.path.basename(name), draft)

    def _put(self, place: _Place, expected: FileState | None) -> None:
        """Put the draft in place of the expected file. Raises as `replace`; after an OSError the draft may stay."""
        ours = _Entry.read(place.folder, place.draft)
        try:
            if expected is None:
                _put_new(place)
                return
            # Asked of a file that nobody else knows: where it has writers, the answer is
            # worth nothing on this file system.
            if self._tells_writers and _is_written(place, CONTROL_SECONDS):
                self._tells_writers = False
            if not exchange(place.folder, place.draft, place.last):
                _replace_without_exchange(place, expected)
                return
        except (FileNotFoundError, FileExistsError):
            _unlink(place.folder, place.draft)
            raise ChangedMeanwhileError(place.name) from None
        # This process may be killed at any line from here on: what came out is then
        # found under the draft's recorded name.
        is_untouched = False
        try:
            is_untouched = self._is_untouched(place, expected)
        finally:
            if not is_untouched:
                self._give_back(place, ours)
        if not is_untouched:
            raise ChangedMeanwhileError(place.name)
        _unlink(place.folder, place.draft)

    def _take_out(self, place: _Place, expected: FileState | None) -> None:
        try:
            rename_new(place.folder, place.last, place.draft)
        except FileNotFoundError:
            if expected is None:
                return
            raise ChangedMeanwhileError(place.name) from None
        is_untouched = False
        try:
            is_untouched = self._is_untouched(place, expected)
        finally:
            if not is_untouched:
                self._put_again(place)
        if not is_untouched:
            raise ChangedMeanwhileError(place.name)
        _unlink(place.folder, place.draft)

    def _is_untouched(self, place: _Place, expected: FileState | None) -> bool:
        """Whether what came out is the expected file, and nobody has it open for writing."""
        try:
            # A program that is writing may be done soon. Only then the content counts.
            if self._tells_writers and _is_written(place):
                return False
            came_out = read_entry(place.folder, place.draft)
        except OSError:
            return False
        return expected is not None and came_out == expected

    # --- what others saved

    def _give_back(self, place: _Place, put: _Entry) -> None:
        """Bring back what came out under the draft's name; `put` is what went to its place meanwhile.

        If somebody saved there again, that is newer, and stays. What is older then is
        stored.
        """
        is_ours = True
        for _ in range(MAX_TURNS):
            returned = _Entry.read(place.folder, place.draft)
            try:
                exchange(place.folder, place.draft, place.last)
            except FileNotFoundError:
                # Moved away or removed meanwhile.
                break
            came_out = _Entry.read(place.folder, place.draft)
            is_as_put = came_out == put and not _is_written(place)
            if is_as_put and is_ours:
                _unlink(place.folder, place.draft)
                return
            if is_as_put:
                break
            put = returned
            is_ours = False
        self._store_entry(place)

    def _put_again(self, place: _Place) -> None:
        """Bring back a file that was taken out, unless somebody saved there again: that is newer."""
        try:
            rename_new(place.folder, place.draft, place.last)
        except FileExistsError:
            self._store_entry(place)

    def _store_entry(self, place: _Place) -> None:
        """Move what stands under a draft's name out of the tree, or leave it and say where it is."""
        with contextlib.suppress(OSError):
            state = read_entry(place.folder, place.draft)
            if state and not _is_written(place):
                self._store_state(place.name, state)
                _unlink(place.folder, place.draft)
                return
        folder = os.path.join(os.fsencode(self._tree.root), os.path.dirname(place.name))
        self.stored.append(os.fsdecode(os.path.join(folder, place.draft)))

    def _store_state(self, name: bytes, state: FileState | None) -> None:
        """Store a content below `kept`. Raises OSError."""
        if state is None:
            return
        first_path = os.path.join(os.fsencode(self._kept), name)
        os.makedirs(os.path.dirname(first_path), mode=0o700, exist_ok=True)
        path = first_path
        number = 1
        while os.path.lexists(path):
            number += 1
            path = first_path + f".{number}".encode()
        write_atomically(os.fsdecode(path), state.data)
        self.stored.append(os.fsdecode(path))

    # --- what a killed call left

    def remove_drafts(
        self, digests: Iterable[tuple[bytes, str | None, str | None]]
    ) -> None:
        """Remove the drafts; of each file come the name, and the digests before and after. Never raises.

        A draft may be a user's file that came out: it goes back to its place where our
        content is still there, else it is stored.
        """
        for name, before, after in digests:
            with (
                contextlib.suppress(OSError, CounselError),
                folder_of(self._tree, name) as folder,
            ):
                if folder is not None:
                    place = self._place(folder, name)
                    self._remove_draft(place, {before, after})

    def _remove_draft(self, place: _Place, known: set[str | None]) -> None:
        """Remove one draft. `known` are the digests of what we ourselves put into the tree or took out."""
        _unlink(place.folder, place.draft + PART)
        try:
            left = _Entry.read(place.folder, place.draft)
        except FileNotFoundError:
            return
        is_known = left.state is not None and digest(left.state) in known
        if is_known and not _is_written(place):
            _unlink(place.folder, place.draft)
            return
        try:
            present = _Entry.read(place.folder, place.last)
        except FileNotFoundError:
            if None in known:
                self._put_again(place)
            else:
                self._store_entry(place)
            return
        if present.state is not None and digest(present.state) in known:
            self._give_back(place, present)
        else:
            self._store_entry(place)


class ChangedMeanwhileError(CounselError):
    """A file is not the one that was to be replaced, or a program is writing it."""

    def __init__(self, name: bytes) -> None:
        error = _changed_error(name)
        super().__init__(error.code, error.message, details=error.details)


def _changed_error(name: bytes) -> CounselError:
    reason = "changed while the diff was being applied, or is open for writing"
    return conflict_error([name], reason)


def _write_draft(place: _Place, state: FileState) -> None:
    """Write the draft of a file completely; on a failure there is none."""
    part = place.draft + PART
    try:
        permissions = permissions_for(place.folder, place.last, state)
        write_draft(place.folder, part, state, permissions)
        rename_new(place.folder, part, place.draft)
    except BaseException:
        _unlink(place.folder, part)
        raise


def _put_new(place: _Place) -> None:
    # An empty folder may be in the way: the files in it went before.
    with contextlib.suppress(OSError):
        os.rmdir(place.last, dir_fd=place.folder)
    rename_new(place.folder, place.draft, place.last)


def _replace_without_exchange(place: _Place, expected: FileState) -> None:
    try:
        if read_entry(place.folder, place.last) != expected:
            raise ChangedMeanwhileError(place.name)  # noqa: TRY301  # the handler removes the draft
        os.replace(
            place.draft, place.last, src_dir_fd=place.folder, dst_dir_fd=place.folder
        )
    except BaseException:
        _unlink(place.folder, place.draft)
        raise


def _is_written(place: _Place, patience: float = WRITER_SECONDS) -> bool:
    """Whether a program still has the file under the draft's name open for writing after `patience` seconds."""
    kind = os.stat(place.draft, dir_fd=place.folder, follow_symlinks=False).st_mode
    if not stat.S_ISREG(kind):
        return False
    descriptor = os.open(place.draft, READ_FLAGS, dir_fd=place.folder)
    deadline = time.monotonic() + patience
    try:
        while has_writers(descriptor):
            if time.monotonic() >= deadline:
                return True
            time.sleep(POLL_SECONDS)
    finally:
        os.close(descriptor)
    return False


def _unlink(folder: int, last: bytes) -> None:
    with contextlib.suppress(OSError):
        os.unlink(last, dir_fd=folder)
