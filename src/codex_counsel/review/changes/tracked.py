"""Changes of files that git knows: one streamed `git diff`, and a second one for text that an attribute hides.

Text in UTF-16, which is binary to git, is compared here: as one hunk, from the first line that differs to the last.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from codex_counsel.git.attributes import Attributes, is_lfs_pointer, is_same_lfs_file
from codex_counsel.git.encoding import SNIFFED, is_binary, is_utf16, utf8
from codex_counsel.git.names import quoted, shown
from codex_counsel.git.tree_reader import Withheld
from codex_counsel.review.changes.diff_stream import LIST_AND_TEXT, TEXT_OF_ALL, Change, DiffStream, Text, hunk
from codex_counsel.review.changes.model import ChangedFile, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codex_counsel.review.changes.collector import Collector
    from codex_counsel.review.changes.comparison import Comparison

MAX_SNIFFED = 200
"""Files called binary that are looked into, first those that only an attribute calls so; each costs a process."""
MAX_DECODED = 4 * 1024 * 1024
SIDES: tuple[Literal[0], Literal[1]] = (0, 1)
MAX_LFS = 64 * 1024 * 1024
NO_ATTRIBUTES = Attributes()


@contextmanager
def diff_of(
    to: Collector, frame: Comparison, paths: Iterable[bytes], without: Iterable[bytes] = ()
) -> Iterator[DiffStream]:
    """The comparison that the scope asks for, without the files named."""
    wanted = [b":(top,literal)" + path for path in paths] + [b":(top,literal,exclude)" + path for path in without]
    arguments = (*LIST_AND_TEXT, *frame.arguments(to.repo), "--")
    with to.repo.stream(*arguments, *wanted, env={"GIT_LITERAL_PATHSPECS": "0"}) as chunks:
        yield DiffStream(chunks, to.budget)


class Tracked:
    """Sorts changed files into a gathering."""

    def __init__(self, gathering: Collector, frame: Comparison, attributes: Mapping[bytes, Attributes]) -> None:
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
            self._to.withhold(ChangedFile(shown(name), name, "U"), Reason.UNMERGED)

    def _one(self, change: Change, text: Text, entry: ChangedFile) -> None:
        if self._to.is_secret(entry):
            self._to.withhold(entry, Reason.SECRET_FILE, text.size)
        elif self._of(change).filter in self._filters and change.status != "D":
            self._filtered(change, text, entry)
        elif text.is_binary:
            self._binaries.append(Binary(change, entry, _head(change, text)))
        else:
            self._offer(change, text, entry)

    def _offer(self, change: Change, text: Text, entry: ChangedFile) -> None:
        self._to.offer(entry, bytes(text.kept), text.size, comes_last=self._of(change).comes_last)

    def _filtered(self, change: Change, text: Text, entry: ChangedFile) -> None:
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
        hidden = {binary.change: binary for binary in self._binaries if self._of(binary.change).hides_text}
        others = [binary for binary in self._binaries if binary.change not in hidden]
        texts = {}
        for index, binary in enumerate([*hidden.values(), *others]):
            is_hidden = binary.change in hidden
            kind = self._kind(binary.change) if index < MAX_SNIFFED else "unknown"
            if kind == "utf16" and self._offer_decoded(binary):
                continue
            if kind == "text" and is_hidden:
                texts[binary.change] = binary
                continue
            unseen = kind == "utf16" or (kind == "unknown" and is_hidden)
            size = sizes.get(binary.side, 0) or self._size_on_disk(binary)
            self._to.withhold(binary.entry, Reason.BUDGET if unseen else Reason.BINARY, size)
        if texts:
            self._show_hidden(texts)

    def _kind(self, change: Change) -> Literal["binary", "utf16", "text"]:
        new = self._content(change, 1, SNIFFED)
        if is_binary(new):
            return "binary"
        old = self._content(change, 0, SNIFFED)
        if is_binary(old) and (change.status == "D" or is_utf16(new)):
            return "binary"
        return "utf16" if change.status != "T" and (is_utf16(new) or is_utf16(old)) else "text"

    def _content(self, change: Change, side: Literal[0, 1], limit: int) -> bytes:
        """The first bytes of a side, none where there is no file."""
        if change.sides[side].strip("0"):
            return self._to.repo.blob(change.sides[side], limit)
        if side == 0 or change.status == "D":
            return b""
        try:
            return self._to.folder.read(change.new, limit).data
        except (Withheld, FileNotFoundError):
            return b"\0"

    def _offer_decoded(self, binary: Binary) -> bool:
        """Text in UTF-16, on either side; not if it is too long."""
        old, new = (self._content(binary.change, side, MAX_DECODED) for side in SIDES)
        if max(len(old), len(new)) >= MAX_DECODED:
            return False
        text = hunk(utf8(old), utf8(new))
        count = tuple(sum(line.startswith(mark) for line in text.split(b"\n")) for mark in (b"+", b"-"))
        entry = replace(binary.entry, added=count[0], deleted=count[1])
        whole = binary.head + text
        self._to.offer(entry, whole, len(whole), comes_last=self._of(binary.change).comes_last)
        return True

    def _show_hidden(self, texts: Mapping[Change, Binary]) -> None:
        names = dict.fromkeys(name for binary in texts.values() for name in binary.entry.names)
        arguments = (*TEXT_OF_ALL, *self._frame.arguments(self._to.repo), "--")
        with self._to.repo.stream(*arguments, *names) as chunks:
            for change, text in DiffStream(chunks, self._to.budget).texts():
                self._offer(change, text, entry_of(change, text))

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
    """`head` is what its diff begins with, as if it were text."""

    change: Change
    entry: ChangedFile
    head: bytes

    @property
    def side(self) -> str:
        """The id of the content: the new one, or of a deleted file the old one."""
        return self.change.sides[0] if self.change.status == "D" else self.change.sides[1]


def _head(change: Change, text: Text) -> bytes:
    kept = text.head
    old = b"/dev/null" if change.status == "A" else quoted(b"a/" + change.old)
    new = b"/dev/null" if change.status == "D" else quoted(b"b/" + change.new)
    return kept[: kept.rfind(b"\nBinary files ") + 1] + b"--- %s\n+++ %s\n" % (old, new)


def entry_of(change: Change, text: Text, *, is_unmerged: bool = False) -> ChangedFile:
    renamed = change.old != change.new
    return ChangedFile(
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
