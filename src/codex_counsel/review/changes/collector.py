"""Material being put together: every file is either offered, and competes for the budget, or withheld for a reason."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from codex_counsel.git.encoding import is_program, is_source, utf8
from codex_counsel.git.names import below
from codex_counsel.review.changes.budget import Piece, Pool, rank
from codex_counsel.review.changes.model import ChangedFile, Omitted, Reason
from codex_counsel.system.redact import mask_bytes, secret_name

if TYPE_CHECKING:
    from pathlib import Path

    from codex_counsel.git.repo import Repo
    from codex_counsel.git.tree_reader import TreeReader

ROUNDS = 6


class Collector:
    """`denied` is what no run may see, absolute: whatever stands there is withheld like a secret."""

    def __init__(self, repo: Repo, folder: TreeReader, budget: int, denied: tuple[Path, ...] = ()) -> None:
        self.repo, self.folder, self.budget = repo, folder, budget
        self._root = os.fsencode(repo.root)
        self._denied = frozenset(map(os.fsencode, denied))
        self.pool = Pool(budget)
        self.redactions = 0
        self._entries: list[ChangedFile] = []
        self._withheld: list[tuple[int, Reason, int]] = []

    def offer(self, entry: ChangedFile, text: bytes, size: int, *, comes_last: bool = False) -> None:
        order = rank(entry.raw, text, marked=comes_last)
        self.pool.add(Piece(len(self._entries), order, size, text))
        self._entries.append(replace(entry, bytes=size))

    def withhold(self, entry: ChangedFile, reason: Reason, size: int = 0) -> None:
        self._withheld.append((len(self._entries), reason, size))
        self._entries.append(replace(entry, bytes=size, binary=entry.binary or reason is Reason.BINARY))

    def names(self) -> set[bytes]:
        return {name for entry in self._entries for name in entry.names}

    def finish(self) -> tuple[tuple[ChangedFile, ...], bytes, tuple[Omitted, ...]]:
        """The files in the order of their names, the material, and what it lacks."""
        order = sorted(range(len(self._entries)), key=lambda index: self._entries[index].raw)
        sent = self._masked()
        lacking = {index: (reason, size) for index, reason, size in self._withheld}
        for index in order:
            text, missing = sent.get(index, (b"", self._entries[index].bytes))
            if index not in lacking and (missing or not text):
                lacking[index] = (Reason.PARTIAL if text else Reason.BUDGET), missing
        omitted = (self._omitted(self._entries[index], *lacking[index]) for index in order if index in lacking)
        material = b"".join(sent[index][0] for index in order if index in sent)
        return tuple(self._entries[index] for index in order), material, tuple(omitted)

    def is_secret(self, entry: ChangedFile) -> bool:
        """By its name, by the place where it stands, or because it was renamed from one that is."""
        whole = (b"%s/%s" % (self._root, name) for name in entry.names)
        return any(below(name, self._denied) or secret_name(os.fsdecode(name)) for name in whole)

    def _omitted(self, entry: ChangedFile, reason: Reason, size: int) -> Omitted:
        if reason is Reason.BINARY:
            return Omitted(entry.path, reason, size, is_source(entry.raw))
        return Omitted(entry.path, reason, size, reason is Reason.SECRET_FILE and self._acts(entry))

    def _acts(self, entry: ChangedFile) -> bool:
        denied = below(b"%s/%s" % (self._root, entry.raw), self._denied)
        return self._is_tracked(entry) or (is_program(entry.raw) and not denied)

    def _is_tracked(self, entry: ChangedFile) -> bool:
        return entry.raw in self._index if entry.status == "F" else not entry.untracked

    @cached_property
    def _index(self) -> frozenset[bytes]:
        return frozenset(self.repo.git("ls-files", "-z", "--cached").split(b"\0"))

    def _masked(self) -> dict[int, tuple[bytes, int]]:
        """What is sent of each file. Masks and transcoding may lengthen a text: then the shares are made smaller."""
        room = self.budget
        for _ in range(ROUNDS):
            sent = self._share(room)
            total = sum(len(text) for text, _ in sent.values())
            if total <= self.budget:
                break
            room = room * self.budget // total
        while sum(len(text) for text, _ in sent.values()) > self.budget:
            sent.pop(max(sent, key=lambda index: len(sent[index][0])))
        return sent

    def _share(self, room: int) -> dict[int, tuple[bytes, int]]:
        self.redactions = 0
        sent: dict[int, tuple[bytes, int]] = {}
        for index, text, missing in self.pool.share(room):
            masked, count = mask_bytes(utf8(text))
            self.redactions += count
            sent[index] = masked, missing
        return sent
