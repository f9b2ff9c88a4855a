"""Checks findings against the files that they name, in the state that was reviewed and not as they are on disk by now.

Evidence is found where its words are: any white space counts as one blank, empty lines
and the marks of a quoted diff do not count, and what was masked before sending is
masked here too.
"""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from codex_counsel.errors import CounselError
from codex_counsel.findings.identity import kept, normalized_blocks
from codex_counsel.findings.seen import REGULAR_MODES
from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import NO_NAME, display_name
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.review.quotations import (
    LineRange,
    NormalizedText,
    Quotation,
    fragments_of,
    locate,
)
from codex_counsel.system.redact import mask
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from codex_counsel.contract.vocabulary import Grounding
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.changes.model import ChangedFile

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file in which evidence is searched for."""
CACHED_FILES = 32


@dataclass(frozen=True)
class GroundingResult:
    """Whether the evidence was found, and at which lines. `in_diff` says whether the file is part of the change."""

    grounded: Grounding
    line: int | None
    line_end: int | None
    in_diff: bool
    quotation: Quotation | None = field(default=None, compare=False)


class ReviewedFiles:
    """The files of a review as they were reviewed."""

    def __init__(self, repo: Repo, changes: Changes) -> None:
        self.repo = repo
        self._changes = changes
        self._by_alias: dict[str, ChangedFile] = {}
        self._changed_names: set[bytes] = set()
        self._by_name: dict[bytes, ChangedFile] = {}
        self._present_names: dict[str, bytes] = {}
        for file in changes.entries:
            self._by_alias.update(dict.fromkeys(_aliases(file), file))
            self._changed_names.update(file.names)
            self._by_name[file.path_bytes] = file
            if file.status == "R" and file.old_path:
                self._present_names[file.old_path] = file.path_bytes
        for file in changes.entries:
            self._present_names[file.path] = file.path_bytes
        self._lines = lru_cache(maxsize=CACHED_FILES)(self._read_lines)
        self._text = lru_cache(maxsize=CACHED_FILES)(self._read_text)

    def lines(self, path: str) -> list[str] | None:
        """The file's lines, masked, without line ends; None if it is not there, not text, or not to be read."""
        name = self._find_name(path)
        if name is None:
            return None
        return self._lines(name, before=False)

    def name(self, path: str) -> str:
        """The file's name from the root, however the path was written; the path itself if it names no file."""
        name = self._find_name(path)
        if name is None:
            return path
        return display_name(name)

    def content(self, path: str) -> bytes | None:
        """The file's bytes, not masked and so not to be shown; None as with `lines`."""
        name = self._find_name(path)
        if name is None or secret_name(os.fsdecode(name)):
            return None
        data = self._read_reviewed(name)
        if data is None or is_binary(data):
            return None
        return data

    def place(
        self, path: str, line: int | None, line_end: int | None, evidence: str
    ) -> LineRange | None:
        """Where the evidence stands nearest to these lines; None for text that is not there any more."""
        name = self._find_name(path)
        fragments = fragments_of(evidence)
        if name is None or not fragments:
            return None
        lines = LineRange.of_finding(line, line_end)
        places = locate(self._text(name, before=False), fragments, lines)
        return places[0] if places else None

    def ground(
        self,
        file: str,
        line: int | None,
        line_end: int | None,
        evidence: str,
    ) -> GroundingResult:
        """Whether the evidence is in the file, and at these lines. Text that the change removed counts as found."""
        name = self._find_name(file)
        in_diff = file in self._by_alias or name in self._changed_names
        unverified = GroundingResult("unverified", line, line_end, in_diff)
        fragments = fragments_of(evidence)
        if name is None or not fragments:
            return unverified

        lines = LineRange.of_finding(line, line_end)
        places = locate(self._text(name, before=False), fragments, lines)
        if not places:
            places = locate(self._text(name, before=True), fragments, lines)
            if not places:
                return unverified
            quotation = self._quotation(name, places, before=True)
            return GroundingResult("verified", line, line_end, in_diff, quotation)
        place = places[0]
        quotation = self._quotation(name, places, before=False)
        if lines.first and lines.distance(place) == 0:
            return GroundingResult("verified", line, line_end, in_diff, quotation)
        return GroundingResult("moved", place.first, place.last, in_diff, quotation)

    def _quotation(
        self, name: bytes, places: list[LineRange], *, before: bool
    ) -> Quotation:
        """What stands at these places of a file that has text."""
        lines = self._lines(name, before=before) or []
        text = self._text(name, before=before) or NormalizedText.of(lines)
        words = kept(text.whole_lines(places, lines))
        copies = text.find_rows(normalized_blocks(words))
        first = min(place.first for place in places)
        earlier = [copy for copy in copies if copy.first <= first]
        return Quotation(
            words,
            copy=max(len(earlier), 1),
            copies=max(len(copies), 1),
            removed=before,
        )

    def places_of(self, path: str, words: str) -> list[LineRange] | None:
        """Where these whole lines of a finding on record are; None where that cannot be told.

        `path` is from the root. A file that the change renamed is looked for by its new
        name, and one that is gone has no places.
        """
        name = self._present_name(path)
        if name is None:
            return None
        text = self._text(name, before=False)
        if text is not None:
            return text.find_rows(normalized_blocks(words))
        if self._is_gone(name):
            return []
        return None

    def working_tree_has(self, path: str, words: str) -> bool:
        """Whether these lines are in the file as it is on disk, where a state of the same work was reviewed.

        That of a pull request is no state of what is checked out.
        """
        is_unrelated = self.repo.objects is not None
        if is_unrelated or self._changes.comparison.state == "working_tree":
            return False
        name = self._present_name(path)
        if name is None or secret_name(os.fsdecode(name)):
            return False
        lines = _masked_lines(self._read_working_tree(name))
        return bool(NormalizedText.of(lines or []).find_rows(normalized_blocks(words)))

    def _present_name(self, path: str) -> bytes | None:
        """The name that a file has now; None where `path` does not tell it."""
        if path in self._present_names:
            return self._present_names[path]
        if NO_NAME.search(path) or not _is_inside(path):
            return None
        name = os.fsencode(path)
        # A name with characters that are written out is not the name on disk.
        if display_name(name) != path:
            return None
        return name

    def _is_gone(self, name: bytes) -> bool:
        """Whether the reviewed state surely has no such file."""
        comparison = self._changes.comparison
        try:
            if comparison.state == "commit" and comparison.head:
                return self.repo.lookup(comparison.head, name) is None
            return not os.path.lexists(self.repo.root / os.fsdecode(name))
        except CounselError:
            return False

    def _find_name(self, path: str) -> bytes | None:
        """The file's name from the root. Models also write `a/x`, `./x`, or a path from the workspace."""
        if not path or NO_NAME.search(path):
            return None
        if path in self._by_alias:
            return self._by_alias[path].path_bytes
        for spelling in self._spellings(path):
            if spelling in self._by_alias:
                return self._by_alias[spelling].path_bytes
            if not _is_inside(spelling):
                continue
            name = os.fsencode(spelling)
            if self._lines(name, before=False) is not None:
                return name
        return None

    def _spellings(self, path: str) -> list[str]:
        """What the path may mean from the root."""
        path = path.removeprefix(f"{self.repo.root}/").removeprefix("./")
        spellings = [path, os.fsdecode(self.repo.prefix) + path]
        spellings.append(posixpath.normpath(path.strip()))
        if path.startswith(("a/", "b/")):
            spellings.append(path[2:])
        return list(dict.fromkeys(spellings))

    def _read_text(self, name: bytes, *, before: bool) -> NormalizedText | None:
        lines = self._lines(name, before=before)
        if lines is None:
            return None
        return NormalizedText.of(lines)

    def _read_lines(self, name: bytes, *, before: bool) -> list[str] | None:
        if secret_name(os.fsdecode(name)):
            return None
        data = self._read_base(name) if before else self._read_reviewed(name)
        return _masked_lines(data)

    def _read_reviewed(self, name: bytes) -> bytes | None:
        """The content that was reviewed, or of the working tree the present one."""
        comparison = self._changes.comparison
        try:
            if comparison.state == "commit":
                return self._read_commit(name)
            if comparison.state == "index":
                return self.repo.read(None, name, MAX_FILE)
        except CounselError:
            return None
        return self._read_working_tree(name)

    def _read_commit(self, name: bytes) -> bytes | None:
        """The content in the reviewed commit. Of a file of the change it is known which object that is."""
        file = self._by_name.get(name)
        if file is None or not file.new_content:
            return self.repo.read(self._changes.comparison.head, name, MAX_FILE)
        if file.modes[1] not in REGULAR_MODES:
            return None
        return self.repo.blob(file.object_ids[1], MAX_FILE)

    def _read_working_tree(self, name: bytes) -> bytes | None:
        try:
            with TreeReader(self.repo.root) as reader:
                return reader.read(name, MAX_FILE).data
        except (CounselError, UnreadableError, OSError):
            return None

    def _read_base(self, name: bytes) -> bytes | None:
        """The content before the change."""
        comparison = self._changes.comparison
        if comparison.base is None or comparison.whole_files:
            return None
        file = self._by_name.get(name)
        if file is None:
            return None
        try:
            return self.repo.read(
                comparison.base, file.old_path_bytes or name, MAX_FILE
            )
        except CounselError:
            return None


def _masked_lines(data: bytes | None) -> list[str] | None:
    """The lines of a file without line ends; None for what is not there or not text."""
    if data is None or is_binary(data):
        return None
    text, _ = mask(utf8(data).decode("utf-8", "replace"))
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[-1]:
        lines.pop()
    return lines


def _aliases(file: ChangedFile) -> set[str]:
    """The ways in which the prompt may have shown the file's names, or a model may write them."""
    aliases = {
        file.path,
        os.fsdecode(file.path_bytes),
        utf8(file.path_bytes).decode(),
    }
    if file.old_path_bytes is not None and file.old_path:
        aliases |= {file.old_path, os.fsdecode(file.old_path_bytes)}
    return aliases


def _is_inside(path: str) -> bool:
    """Whether the path stays inside the working tree and out of `.git`."""
    parts = path.split("/")
    return not path.startswith("/") and {"", ".", "..", ".git"}.isdisjoint(parts)
