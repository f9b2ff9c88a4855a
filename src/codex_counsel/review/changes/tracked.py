"""Changes of files that git tracks: one streamed `git diff`, and a second one for text that an attribute hides.

Text in UTF-16, which is binary to git, is compared here: as one hunk, from the first
line that differs to the last.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from codex_counsel.git.attributes import (
    NO_ATTRIBUTES,
    Attributes,
    is_lfs_pointer,
    is_same_lfs_file,
)
from codex_counsel.git.encoding import SNIFFED, is_binary, is_utf16, utf8
from codex_counsel.git.names import display_name, quote
from codex_counsel.git.tree_reader import UnreadableError
from codex_counsel.review.changes.diff_stream import (
    LIST_AND_TEXT,
    TEXT_OF_ALL,
    Change,
    DiffStream,
    FileDiff,
    hunk,
)
from codex_counsel.review.changes.model import ChangedFile, FileStatus, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from codex_counsel.review.changes.collector import Collector
    from codex_counsel.review.changes.comparison import Comparison
    from codex_counsel.review.changes.since import Earlier

MAX_SNIFFED = 200
"""Binary files whose content is examined, first those that only an attribute calls binary. Each costs a process."""
MAX_DECODED = 4 * 1024 * 1024
"""Bytes of a UTF-16 file above which it is not compared."""
MAX_LFS = 64 * 1024 * 1024


@contextmanager
def diff_of(
    collector: Collector,
    comparison: Comparison,
    paths: Iterable[bytes],
    without: Iterable[bytes] = (),
) -> Iterator[DiffStream]:
    """The diff that the comparison asks for, of `paths` only (all if empty), without the files named."""
    pathspecs = [b":(top,literal)" + path for path in paths]
    pathspecs += [b":(top,literal,exclude)" + path for path in without]
    arguments = (*LIST_AND_TEXT, *comparison.arguments(collector.repo), "--")
    # The fixed environment would take the magic words of these for names.
    env = {"GIT_LITERAL_PATHSPECS": "0"}
    with collector.repo.stream(*arguments, *pathspecs, env=env) as chunks:
        yield DiffStream(chunks, collector.budget)


class TrackedFiles:
    """Adds the changed files to a collector, or omits them."""

    def __init__(
        self,
        collector: Collector,
        comparison: Comparison,
        attributes: Mapping[bytes, Attributes],
        earlier: Earlier,
    ) -> None:
        self._collector = collector
        self._earlier = earlier
        self._comparison = comparison
        self._attributes = attributes
        self._on_disk = comparison.state == "working_tree"
        self._filters: frozenset[str] = frozenset()
        if self._on_disk:
            self._filters = collector.repo.config.filters()
        self._binaries: list[BinaryFile] = []

    def omit_unreadable(self, changes: Iterable[Change]) -> list[bytes]:
        """Omit what git cannot read, and return their names: git would print no diff at all because of them."""
        names: list[bytes] = []
        if not self._on_disk:
            return names
        for change in changes:
            if change.status == "D":
                continue
            reason = self._collector.reader.why_unreadable(change.new)
            if reason:
                self._omit(file_of(change, FileDiff(0)), Reason(reason.value))
                names.append(change.new)
        return names

    def collect(
        self,
        texts: Iterable[tuple[Change, FileDiff]],
        unmerged: frozenset[bytes],
    ) -> None:
        """Add or omit every file of the diff."""
        for change, text in texts:
            file = file_of(change, text, is_unmerged=change.new in unmerged)
            if self._collector.is_skipped(file):
                self._collector.omit(file, Reason.SKIPPED, text.size)
            elif self._collector.is_secret(file):
                self._collector.omit(file, Reason.SECRET_FILE, text.size)
            elif change.new in self._earlier.seen:
                self._collector.keep(file._replace(prior=file.new_content))
            elif (
                change.status != "D"
                and self._attributes_of(change).filter in self._filters
            ):
                self._collect_filtered(change, text, file)
            elif text.is_binary:
                self._binaries.append(
                    BinaryFile(change, file, _text_head(change, text))
                )
            else:
                self._add(change, text, file)
        self._collect_binaries()

    def omit_unmerged(self, unmerged: frozenset[bytes]) -> None:
        """List the files with conflicts of which the comparison has no content."""
        for name in sorted(unmerged - self._collector.names()):
            self._omit(ChangedFile(display_name(name), name, "U"), Reason.UNMERGED)

    def _omit(self, file: ChangedFile, reason: Reason) -> None:
        """Omit a file that cannot be shown, for this reason unless it is skipped anyway."""
        if self._collector.is_skipped(file):
            reason = Reason.SKIPPED
        self._collector.omit(file, reason)

    def _add(self, change: Change, text: FileDiff, file: ChangedFile) -> None:
        rest = self._earlier.rests.get(change.new)
        # After many changes back and forth, the whole may be shorter.
        if rest and rest.text.size < text.size:
            file = file._replace(prior=rest.prior)
            text = rest.text
        comes_last = self._attributes_of(change).is_generated
        self._collector.add(
            file, bytes(text.beginning), text.size, comes_last=comes_last
        )

    def _attributes_of(self, change: Change) -> Attributes:
        return self._attributes.get(change.new, NO_ATTRIBUTES)

    def _collect_filtered(
        self, change: Change, text: FileDiff, file: ChangedFile
    ) -> None:
        """A file that a content filter applies to: see `git/attributes.py`."""
        try:
            content = self._collector.reader.read(change.new, MAX_LFS)
        except (UnreadableError, FileNotFoundError):
            self._collector.omit(file, Reason.FILTERED)
            return
        if is_lfs_pointer(content.data):
            self._add(change, text, file)
            return
        stored = b""
        if _is_object(change.object_ids[0]):
            stored = self._collector.repo.blob(change.object_ids[0], 1000)
        if not is_same_lfs_file(stored, content.data):
            self._collector.omit(file, Reason.FILTERED, content.size)

    def _collect_binaries(self) -> None:
        """Decide for each file that git called binary whether there is text in it after all."""
        sizes = self._stored_sizes()
        hidden: list[BinaryFile] = []
        others: list[BinaryFile] = []
        for binary in self._binaries:
            if self._attributes_of(binary.change).hides_text:
                hidden.append(binary)
            else:
                others.append(binary)

        texts: list[BinaryFile] = []
        for number, binary in enumerate([*hidden, *others]):
            is_hidden = number < len(hidden)
            kind: ContentKind = "unknown"
            if number < MAX_SNIFFED:
                kind = self._content_kind(binary.change)
            if kind == "utf16" and self._add_decoded(binary):
                continue
            if kind == "text" and is_hidden:
                texts.append(binary)
                continue
            is_unseen_text = kind == "utf16" or (kind == "unknown" and is_hidden)
            reason = Reason.BUDGET if is_unseen_text else Reason.BINARY
            size = sizes.get(binary.object_id, 0) or self._size_on_disk(binary)
            self._collector.omit(binary.file, reason, size)
        if texts:
            self._add_hidden(texts)

    def _content_kind(self, change: Change) -> ContentKind:
        """What a file that git called binary holds. It is text if both sides are."""
        new = self._content(change, 1, SNIFFED)
        if is_binary(new):
            return "binary"
        old = self._content(change, 0, SNIFFED)
        if is_binary(old) and (change.status == "D" or is_utf16(new)):
            return "binary"
        if change.status != "T" and (is_utf16(new) or is_utf16(old)):
            return "utf16"
        return "text"

    def _content(self, change: Change, side: Literal[0, 1], limit: int) -> bytes:
        """The first bytes of the old (0) or new (1) content; none where there is no file."""
        object_id = change.object_ids[side]
        if _is_object(object_id):
            return self._collector.repo.blob(object_id, limit)
        if side == 0 or change.status == "D":
            return b""
        try:
            return self._collector.reader.read(change.new, limit).data
        except (UnreadableError, FileNotFoundError):
            # As good as binary: nothing of it can be shown.
            return b"\0"

    def _add_decoded(self, binary: BinaryFile) -> bool:
        """Add a file with UTF-16 on either side. False if it is too long."""
        old = self._content(binary.change, 0, MAX_DECODED)
        new = self._content(binary.change, 1, MAX_DECODED)
        if max(len(old), len(new)) >= MAX_DECODED:
            return False
        text = hunk(utf8(old), utf8(new))
        lines = text.split(b"\n")
        file = binary.file._replace(
            added=sum(line.startswith(b"+") for line in lines),
            deleted=sum(line.startswith(b"-") for line in lines),
        )
        comes_last = self._attributes_of(binary.change).is_generated
        whole = binary.head + text
        self._collector.add(file, whole, len(whole), comes_last=comes_last)
        return True

    def _add_hidden(self, binaries: Iterable[BinaryFile]) -> None:
        """Add files that only an attribute calls binary, from a second diff."""
        names: dict[bytes, None] = {}
        for binary in binaries:
            names.update(dict.fromkeys(binary.file.names))
        repo = self._collector.repo
        with repo.stream(
            *TEXT_OF_ALL, *self._comparison.arguments(repo), "--", *names
        ) as chunks:
            for change, text in DiffStream(chunks, self._collector.budget).texts():
                self._add(change, text, file_of(change, text))

    def _stored_sizes(self) -> dict[str, int]:
        """Bytes of each content that git stores, by object id. One process for all."""
        object_ids = {
            binary.object_id
            for binary in self._binaries
            if _is_object(binary.object_id)
        }
        if not object_ids:
            return {}
        stdin = "".join(f"{object_id}\n" for object_id in object_ids).encode()
        listing = self._collector.repo.git(
            "cat-file",
            "--batch-check=%(objectname) %(objectsize)",
            stdin=stdin,
        )
        sizes: dict[str, int] = {}
        for line in listing.decode().splitlines():
            object_id, size = line.split(" ", 1)
            # Of an object that the clone lacks, git prints "missing".
            if size.isdigit():
                sizes[object_id] = int(size)
        return sizes

    def _size_on_disk(self, binary: BinaryFile) -> int:
        if not self._on_disk:
            return 0
        status = self._collector.reader.lstat(binary.change.new)
        return status.st_size if status else 0


ContentKind = Literal["binary", "utf16", "text", "unknown"]


class BinaryFile(NamedTuple):
    """A file that git called binary. `head` is what its diff would begin with if it were text."""

    change: Change
    file: ChangedFile
    head: bytes

    @property
    def object_id(self) -> str:
        """The id of the new content, or of a deleted file's old content."""
        old, new = self.change.object_ids
        return old if self.change.status == "D" else new


def _is_object(object_id: str) -> bool:
    """Whether git stores the content: an id of zeros stands for no file, or for the one on disk."""
    return bool(object_id.strip("0"))


def _text_head(change: Change, text: FileDiff) -> bytes:
    """The head of a diff of binaries, turned into that of a diff of texts."""
    head = text.head
    before = head[: head.rfind(b"\nBinary files ") + 1]
    old = quote(b"a/" + change.old)
    new = quote(b"b/" + change.new)
    if change.status == "A":
        old = b"/dev/null"
    if change.status == "D":
        new = b"/dev/null"
    return before + b"--- %s\n+++ %s\n" % (old, new)


def file_of(
    change: Change, text: FileDiff, *, is_unmerged: bool = False
) -> ChangedFile:
    """The file of a change, with the figures of its diff."""
    renamed = change.old != change.new
    return ChangedFile(
        path=display_name(change.new),
        path_bytes=change.new,
        status="U" if is_unmerged else cast("FileStatus", change.status),
        old_path=display_name(change.old) if renamed else None,
        old_path_bytes=change.old if renamed else None,
        modes=change.modes,
        object_ids=change.object_ids,
        added=text.added,
        deleted=text.deleted,
    )
