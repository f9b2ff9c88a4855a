"""Changes of files that git knows: one streamed `git diff`, and a second one for text that an attribute hides."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

from codex_counsel.git.content import is_binary
from codex_counsel.git.diffs import LIST_AND_TEXT, TEXT_OF_ALL, Change, DiffStream, Text
from codex_counsel.git.filters import Attributes, is_lfs_pointer, is_same_lfs_file
from codex_counsel.git.folder import Withheld
from codex_counsel.git.gathering import is_secret
from codex_counsel.git.material import Entry, Reason, Status
from codex_counsel.git.names import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codex_counsel.git.gathering import Gathering
    from codex_counsel.git.sides import Sides

MAX_SNIFFED = 200
"""Files called binary by an attribute that are looked into; each costs a process."""
MAX_LFS = 64 * 1024 * 1024
NO_ATTRIBUTES = Attributes()


@contextmanager
def diff_of(to: Gathering, frame: Sides, paths: Iterable[bytes], without: Iterable[bytes] = ()) -> Iterator[DiffStream]:
    """The comparison that the scope asks for, without the files named."""
    wanted = [b":(top,literal)" + path for path in paths] + [b":(top,literal,exclude)" + path for path in without]
    arguments = (*LIST_AND_TEXT, *frame.arguments(to.repo), "--")
    with to.repo.stream(*arguments, *wanted, env={"GIT_LITERAL_PATHSPECS": "0"}) as chunks:
        yield DiffStream(chunks, to.budget)


class Tracked:
    """Sorts changed files into a gathering."""

    def __init__(self, gathering: Gathering, frame: Sides, attributes: Mapping[bytes, Attributes]) -> None:
        self._to, self._frame, self._attributes = gathering, frame, attributes
        self._filters = gathering.repo.config.filters() if frame.state == "working_tree" else frozenset()
        self._binaries: list[Binary] = []

    def take(self, texts: Iterable[tuple[Change, Text]], unmerged: frozenset[bytes]) -> None:
        for change, text in texts:
            self._one(change, text, entry_of(change, text, is_unmerged=change.new in unmerged))
        self._sort_binaries()

    def blocked(self, changes: Iterable[Change]) -> list[bytes]:
        """Withhold what git cannot read: it would give up on all the others. Their names are left out of the diff."""
        found = []
        for change in changes if self._frame.state == "working_tree" else ():
            if change.status != "D" and (reason := self._to.folder.obstacle(change.new)):
                self._to.withhold(entry_of(change, Text(0)), reason)
                found.append(change.new)
        return found

    def list_unmerged(self, unmerged: frozenset[bytes]) -> None:
        """Files with conflicts of which the scope has no content of their own."""
        for name in sorted(unmerged - self._to.names()):
            self._to.withhold(Entry(shown(name), name, "U"), Reason.UNMERGED)

    def _one(self, change: Change, text: Text, entry: Entry) -> None:
        if is_secret(entry):
            self._to.withhold(entry, Reason.SECRET_FILE, text.size)
        elif self._of(change).filter in self._filters and change.status != "D":
            self._filtered(change, text, entry)
        elif text.is_binary:
            self._binaries.append(Binary(change, entry))
        else:
            self._offer(change, text, entry)

    def _offer(self, change: Change, text: Text, entry: Entry) -> None:
        self._to.offer(entry, bytes(text.kept), text.size, comes_last=self._of(change).comes_last)

    def _filtered(self, change: Change, text: Text, entry: Entry) -> None:
        try:
            found = self._to.folder.read(change.new, MAX_LFS)
        except (Withheld, FileNotFoundError):
            self._to.withhold(entry, Reason.FILTERED)
            return
        if is_lfs_pointer(found.data):
            self._offer(change, text, entry)
        elif not is_same_lfs_file(self._stored(change), found.data):
            self._to.withhold(entry, Reason.FILTERED, found.size)

    def _stored(self, change: Change) -> bytes:
        return self._to.repo.blob(change.sides[0], 1000) if change.sides[0].strip("0") else b""

    def _of(self, change: Change) -> Attributes:
        return self._attributes.get(change.new, NO_ATTRIBUTES)

    def _sort_binaries(self) -> None:
        sizes = self._stored_sizes()
        hidden = [binary for binary in self._binaries if self._of(binary.change).hides_text]
        texts = {binary.change: binary for binary in hidden[:MAX_SNIFFED] if not self._is_really_binary(binary.change)}
        for binary in self._binaries:
            if binary.change not in texts:
                unseen = binary in hidden[MAX_SNIFFED:]
                reason = Reason.BUDGET if unseen else Reason.BINARY
                self._to.withhold(binary.entry, reason, sizes.get(binary.side, 0) or self._size_on_disk(binary))
        if texts:
            self._show_hidden(texts)

    def _show_hidden(self, texts: Mapping[Change, Binary]) -> None:
        names = dict.fromkeys(name for binary in texts.values() for name in binary.entry.names)
        arguments = (*TEXT_OF_ALL, *self._frame.arguments(self._to.repo), "--")
        with self._to.repo.stream(*arguments, *names) as chunks:
            for change, text in DiffStream(chunks, self._to.budget).texts():
                self._offer(change, text, entry_of(change, text))

    def _is_really_binary(self, change: Change) -> bool:
        new = change.sides[1]
        if new.strip("0"):
            return is_binary(self._to.repo.blob(new, 8000))
        if change.status == "D":
            return is_binary(self._to.repo.blob(change.sides[0], 8000))
        try:
            return is_binary(self._to.folder.read(change.new, 8000).data)
        except (Withheld, FileNotFoundError):
            return True

    def _stored_sizes(self) -> dict[str, int]:
        wanted = {binary.side for binary in self._binaries if binary.side.strip("0")}
        if not wanted:
            return {}
        given = "".join(f"{sha}\n" for sha in wanted).encode()
        listing = self._to.repo.git("cat-file", "--batch-check=%(objectname) %(objectsize)", given=given).decode()
        return {sha: int(size) for sha, size in (line.split(" ", 1) for line in listing.splitlines()) if size.isdigit()}

    def _size_on_disk(self, binary: Binary) -> int:
        seen = self._to.folder.look(binary.change.new) if self._frame.state == "working_tree" else None
        return seen.st_size if seen else 0


class Binary(NamedTuple):
    change: Change
    entry: Entry

    @property
    def side(self) -> str:
        """The id of the content: the new one, or of a deleted file the old one."""
        return self.change.sides[0] if self.change.status == "D" else self.change.sides[1]


def entry_of(change: Change, text: Text, *, is_unmerged: bool = False) -> Entry:
    renamed = change.old != change.new
    return Entry(
        path=shown(change.new),
        raw=change.new,
        status="U" if is_unmerged else cast("Status", change.status),
        old_path=shown(change.old) if renamed else None,
        old_raw=change.old if renamed else None,
        modes=change.modes,
        sides=change.sides,
        added=text.added,
        deleted=text.deleted,
    )
