"""A stored patch, file by file: what identifies the state that it leaves a file in, and its text for reading."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.delegate.record import DelegateResult
from codex_counsel.git.names import diff_header, display_name
from codex_counsel.system.files import read_regular
from codex_counsel.system.redact import mask
from codex_counsel.system.text import cut, size, visible

MAX_PATCH = 64_000_000
"""Bytes of a patch that are read."""
_SECTION = re.compile(rb"^diff --git ", re.MULTILINE)
"""A line of content begins with a space, a sign or a backslash, one of a binary patch has no space."""
_BODY = re.compile(rb"^(?:@@ |GIT binary patch$|Binary files )", re.MULTILINE)
_INDEX = re.compile(rb"^index [0-9a-f]+\.\.", re.MULTILINE)
_STATUSES = {
    b"\nnew file mode ": "A",
    b"\ndeleted file mode ": "D",
    b"\nrename from ": "R",
    b"\ncopy from ": "C",
}
_BINARY = b"Binary file, not shown\n"


@dataclass(frozen=True)
class Section:
    """The diff of one file. `head` are the lines before the first hunk, `body` the hunks; both as git wrote them."""

    head: bytes
    body: bytes

    @property
    def is_binary(self) -> bool:
        """Whether git takes the file for binary."""
        return bool(self.body) and not self.body.startswith(b"@@ ")

    @property
    def state(self) -> bytes:
        """The head without the id of the old content: equal for two diffs that leave a file in the same state."""
        _, _, rest = self.head.partition(b"\n")
        return _INDEX.sub(b"index ", rest)

    def counts(self) -> tuple[int, int]:
        """Added and deleted lines."""
        if self.is_binary:
            return 0, 0
        return self.body.count(b"\n+"), self.body.count(b"\n-")


@dataclass
class FileDiff:
    """A changed file. One that became a link, or the reverse, has two sections; one that was not read has none."""

    name: bytes
    old_name: bytes | None
    sections: list[Section] = field(default_factory=list)

    @property
    def path(self) -> str:
        """For people."""
        return display_name(self.name)

    @property
    def status(self) -> str:
        """A letter of git."""
        if len(self.sections) > 1:
            return "T"
        for section in self.sections:
            for words, letter in _STATUSES.items():
                if words in section.head:
                    return letter
        return "M"

    @property
    def state(self) -> bytes | None:
        """See `Section.state`. None where the diff was not read: then it is not known."""
        if not self.sections:
            return None
        return b"\0".join(section.state for section in self.sections)

    def counts(self) -> tuple[int, int]:
        """Added and deleted lines."""
        counts = [section.counts() for section in self.sections]
        return sum(added for added, _ in counts), sum(gone for _, gone in counts)

    def text(self, limit: int) -> tuple[str, int]:
        """For reading, and how many bytes of it were left out.

        At most about `limit` bytes, whole lines. Tokens are masked, hidden characters
        written out; of a binary file there is the head alone.
        """
        parts = []
        for section in self.sections:
            parts += [section.head, _BINARY if section.is_binary else section.body]
        data = b"".join(parts)
        # What is masked may reach over the cut.
        text, _ = mask(visible(data[: 2 * limit].decode("utf-8", "replace")))
        left_out = max(len(data) - 2 * limit, 0)
        shown = cut(text, limit)
        if shown != text:
            shown = shown[: shown.rfind("\n") + 1]
            left_out += size(text) - size(shown)
        return shown, left_out


def read_diff(directory: Path, result: DelegateResult) -> list[FileDiff]:
    """The changed files of the task in this job directory, in the order of git.

    Those beyond `MAX_PATCH`, and all where the patch cannot be read, have no sections.
    """
    files: dict[bytes, FileDiff] = {}
    for new, old, _ in result.names:
        name = (new or "").encode("latin-1")
        old_name = None if old is None else old.encode("latin-1")
        header = diff_header(old_name or name, name)
        files[header] = FileDiff(name, old_name)

    patch = read_regular(directory / "diff.patch", MAX_PATCH + 1) or b""
    starts = [match.start() for match in _SECTION.finditer(patch)]
    ends = [*starts[1:], len(patch)]
    if len(patch) > MAX_PATCH:
        # The last one is not whole.
        starts.pop()
    for start, end in zip(starts, ends, strict=False):
        section = _section(patch[start:end])
        header, _, _ = section.head.partition(b"\n")
        file = files.get(header)
        if file is not None:
            file.sections.append(section)
    return list(files.values())


def _section(text: bytes) -> Section:
    body = _BODY.search(text)
    if body is None:
        return Section(text, b"")
    return Section(text[: body.start()], text[body.start() :])
