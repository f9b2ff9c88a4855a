"""Collects the material: every file is either added, and competes for the budget, or omitted for a reason."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from codex_counsel.git.encoding import is_program, is_source, utf8
from codex_counsel.git.names import covering_path, display_name
from codex_counsel.git.secret_links import secret_link_targets
from codex_counsel.review.changes.budget import Piece, Pool, rank
from codex_counsel.review.changes.model import ChangedFile, Omitted, Reason
from codex_counsel.system.redact import mask_bytes
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from pathlib import Path

    from codex_counsel.git.repo import Repo
    from codex_counsel.git.tree_reader import TreeReader

ROUNDS = 6
"""Attempts to fit the texts into the budget after masking has changed their lengths."""


class Collector:
    """Files at the absolute paths `denied`, which no run may see, are treated like secret files.

    So are those to which a link with the name of a secret file leads now.
    `budget` is in bytes. `redactions` counts the secrets masked in what `finish`
    returned. `skipped` are the names that the project file leaves out.
    """

    def __init__(
        self,
        repo: Repo,
        reader: TreeReader,
        budget: int,
        denied: tuple[Path, ...] = (),
    ) -> None:
        self.repo = repo
        self.reader = reader
        self.budget = budget
        self.pool = Pool(budget)
        self.redactions = 0
        self._root = os.fsencode(repo.root) + b"/"
        listed = repo.git(
            "ls-files", "-z", "--cached", "--others", "--exclude-standard"
        )
        linked = secret_link_targets(repo, listed.split(b"\0"))
        self._denied = frozenset([*map(os.fsencode, denied), *linked])
        self._files: list[ChangedFile] = []
        self._omitted: dict[int, tuple[Reason, int]] = {}
        self._submodules: dict[bytes, None] = {}
        self.skipped: frozenset[bytes] = frozenset()

    def add(
        self,
        file: ChangedFile,
        text: bytes,
        size: int,
        *,
        comes_last: bool = False,
    ) -> None:
        """Take a file with its text, or with the beginning of one that has `size` bytes."""
        piece_rank = rank(file.path_bytes, text, marked=comes_last)
        piece = Piece(len(self._files), piece_rank, size, text)
        self.pool.add(piece)
        self._files.append(file._replace(bytes=size))

    def keep(self, file: ChangedFile) -> None:
        """List a file that earlier reviews saw as it is now."""
        self._files.append(file)

    def omit(self, file: ChangedFile, reason: Reason, size: int = 0) -> None:
        """List a file of which nothing is sent."""
        self._omitted[len(self._files)] = reason, size
        binary = file.binary or reason is Reason.BINARY
        self._files.append(file._replace(bytes=size, binary=binary, prior=""))

    def omit_submodule(self, path: bytes) -> None:
        """List a submodule of which at most the id of its commit is sent; not one that is skipped."""
        if path not in self.skipped:
            self._submodules[path] = None

    def is_skipped(self, file: ChangedFile) -> bool:
        """Whether the project file leaves it out. One that is renamed into what is left out, or out of it, is sent."""
        return self.skipped.issuperset(file.names)

    def names(self) -> set[bytes]:
        """Old and new names of all files so far."""
        names: set[bytes] = set()
        for file in self._files:
            names.update(file.names)
        return names

    def finish(self) -> tuple[tuple[ChangedFile, ...], bytes, tuple[Omitted, ...]]:
        """The files in the order of their names, the material, and what it lacks."""
        texts = self._fit()
        order = sorted(
            range(len(self._files)),
            key=lambda index: self._files[index].path_bytes,
        )
        material: list[bytes] = []
        omitted: list[Omitted] = []
        for index in order:
            file = self._files[index]
            if file.is_seen:
                continue
            if index in self._omitted:
                reason, size = self._omitted[index]
                omitted.append(self._omission(file, reason, size))
                continue
            text, missing = texts.get(index, (b"", file.bytes))
            # Of a submodule only the id of its commit is shown.
            is_whole = (
                bool(text) and not missing and file.path_bytes not in self._submodules
            )
            self._files[index] = file._replace(whole=is_whole)
            material.append(text)
            if not text:
                omitted.append(Omitted(file.path, Reason.BUDGET, missing))
            elif missing:
                omitted.append(Omitted(file.path, Reason.PARTIAL, missing))
        for path in sorted(self._submodules):
            omitted.append(Omitted(display_name(path), Reason.SUBMODULE, 0))
        files = tuple(self._files[index] for index in order)
        return files, b"".join(material), tuple(omitted)

    def is_secret(self, file: ChangedFile) -> bool:
        """By its name, by the place where it is, or because it was renamed from one that is secret."""
        for name in file.names:
            path = self._root + name
            if self._is_denied(path) or secret_name(os.fsdecode(path)):
                return True
        return False

    def _is_denied(self, path: bytes) -> bool:
        return bool(self._denied) and covering_path(path, self._denied) is not None

    def _omission(self, file: ChangedFile, reason: Reason, size: int) -> Omitted:
        """The listing of an omitted file; see `Omitted` for what makes it `readable`."""
        readable = False
        if reason is Reason.BINARY:
            readable = is_source(file.path_bytes)
        elif reason is Reason.SECRET_FILE:
            denied = self._is_denied(self._root + file.path_bytes)
            readable = self._is_tracked(file) or (
                is_program(file.path_bytes) and not denied
            )
        return Omitted(file.path, reason, size, readable)

    def _is_tracked(self, file: ChangedFile) -> bool:
        if file.status == "F":
            return file.path_bytes in self._index
        return not file.untracked

    @cached_property
    def _index(self) -> frozenset[bytes]:
        return frozenset(self.repo.git("ls-files", "-z", "--cached").split(b"\0"))

    def _fit(self) -> dict[int, tuple[bytes, int]]:
        """For each file of which anything is sent, its text and how many bytes are missing.

        Masks and transcoding may make a text longer. Then everything is shared out
        again from a smaller budget.
        """
        room = self.budget
        for _ in range(ROUNDS):
            texts = self._share(room)
            total = sum(len(text) for text, _ in texts.values())
            if total <= self.budget:
                return texts
            room = room * self.budget // total
        while total > self.budget:
            longest = max(texts, key=lambda index: len(texts[index][0]))
            text, _ = texts.pop(longest)
            total -= len(text)
        return texts

    def _share(self, room: int) -> dict[int, tuple[bytes, int]]:
        self.redactions = 0
        texts: dict[int, tuple[bytes, int]] = {}
        for index, text, missing in self.pool.share(room):
            masked, count = mask_bytes(utf8(text))
            self.redactions += count
            texts[index] = masked, missing
        return texts
