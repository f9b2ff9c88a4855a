"""What the material of a review consists of, as plain immutable data."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

from codex_counsel.findings.seen import content_of
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.contract.vocabulary import ScopeKind

FileStatus = Literal["A", "M", "D", "R", "C", "T", "U", "F"]
"""Git's letters. `F` is a file shown as it is: nothing changed."""


class Reason(StrEnum):
    """Why a file, or a part of it, was not sent."""

    SECRET_FILE = "secret_file"  # noqa: S105  # a reason, not a password
    BINARY = "binary"
    SYMLINK = "symlink"
    SPECIAL_FILE = "special_file"
    NESTED_REPOSITORY = "nested_repository"
    SUBMODULE = "submodule"
    UNREADABLE = "unreadable"
    FILTERED = "filtered"
    UNMERGED = "unmerged"
    BUDGET = "budget"
    PARTIAL = "partial"
    SKIPPED = "skipped"

    @property
    def makes_incomplete(self) -> bool:
        """Whether changes that a reviewer could have read were not sent, so that no `pass` can rest on the rest.

        Links, special files and nested repositories hold no text for a reviewer; they
        are listed and do not make the material incomplete. Of a submodule only the id of
        its commit is shown, and what changed in it was not seen. For binaries and secret
        files it depends on the file: see `Omitted.readable`. What the team's project file
        leaves out was decided before the change.
        """
        return self in {
            Reason.SUBMODULE,
            Reason.UNREADABLE,
            Reason.FILTERED,
            Reason.UNMERGED,
            Reason.BUDGET,
            Reason.PARTIAL,
        }


class Omitted(NamedTuple):
    """A file, or a part of it, that was not sent. `bytes` is how much is missing.

    `readable` marks a binary or a secret file through which the change may act, and
    which a reviewer has not read. A binary is readable if its name is that of source
    code, for then somebody made it binary. A secret file is readable if git tracks it,
    for then it is shipped, or if its name is that of a program. An untracked `.env` is
    not: it is only somebody's own.
    """

    path: str
    reason: Reason
    bytes: int
    readable: bool = False

    @property
    def makes_incomplete(self) -> bool:
        """Whether no `pass` can rest on the material because of this omission."""
        return self.readable or self.reason.makes_incomplete


class Commit(NamedTuple):
    """A commit under review, with the two parts of its message."""

    sha: str
    subject: str
    body: str


class ChangedFile(NamedTuple):
    """One file of the change. `path` is for people, `path_bytes` the name on disk; both are from the root.

    `modes` and `object_ids` are those of git's raw format, (old, new). An id of zeros
    stands for a file that is not there, or for the working tree. `bytes` is the size of
    the file's diff.

    `prior` is the content that earlier reviews saw of the file, as in `findings/seen.py`:
    the present one, and nothing of the file is sent, or one from which on it is. Empty
    where the whole change of the file is material. `whole`: all of that was sent.
    """

    path: str
    path_bytes: builtins.bytes
    status: FileStatus
    old_path: str | None = None
    old_path_bytes: builtins.bytes | None = None
    binary: bool = False
    untracked: bool = False
    modes: tuple[str, str] = ("100644", "100644")
    object_ids: tuple[str, str] = ("", "")
    added: int = 0
    deleted: int = 0
    bytes: int = 0
    prior: str = ""
    whole: bool = False

    @property
    def is_seen(self) -> bool:
        """Whether earlier reviews saw the file as it is now, so that nothing of it is sent."""
        return bool(self.prior) and self.prior == self.new_content

    @property
    def is_delta(self) -> bool:
        """Whether only what changed since an earlier review is sent of the file."""
        return bool(self.prior) and not self.is_seen

    @property
    def was_shown(self) -> bool:
        """Whether a reviewer was sent the file as it is now, this one or an earlier one."""
        return self.whole or self.is_seen

    @property
    def old_content(self) -> str:
        """The content before the change, empty where git stores none."""
        return content_of(self.modes[0], self.object_ids[0])

    @property
    def new_content(self) -> str:
        """The content under review, empty where git stores none."""
        return content_of(self.modes[1], self.object_ids[1])

    @property
    def names(self) -> tuple[builtins.bytes, ...]:
        """The old name, if the file was renamed or copied, and its name now."""
        if self.old_path_bytes is None:
            return (self.path_bytes,)
        return self.old_path_bytes, self.path_bytes

    def to_json(self) -> JsonObject:
        """The keys of `spec.json`. JSON has no bytes: Latin-1 maps each byte to one character."""
        old = self.old_path_bytes
        return {
            "path": self.path,
            "raw": self.path_bytes.decode("latin-1"),
            "status": self.status,
            "old_path": self.old_path,
            "old_raw": None if old is None else old.decode("latin-1"),
            "binary": self.binary,
            "untracked": self.untracked,
            "modes": self.modes,
            "sides": self.object_ids,
            "added": self.added,
            "deleted": self.deleted,
            "bytes": self.bytes,
            "prior": self.prior,
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Json]) -> ChangedFile:
        """The reverse of `to_json`, also after a way through JSON text."""
        old = entry["old_raw"]
        return cls(
            path=entry["path"],
            path_bytes=entry["raw"].encode("latin-1"),
            status=entry["status"],
            old_path=entry["old_path"],
            old_path_bytes=None if old is None else old.encode("latin-1"),
            binary=entry["binary"],
            untracked=entry["untracked"],
            modes=tuple(entry["modes"]),
            object_ids=tuple(entry["sides"]),
            added=entry["added"],
            deleted=entry["deleted"],
            bytes=entry["bytes"],
            # Records of releases that sent every file anew lack these.
            prior=entry.get("prior", ""),
            whole=entry.get("whole", False),
        )


@dataclass(frozen=True)
class Scope:
    """What to review. `paths` are relative to the workspace and literal.

    For a range of ids, `base_ref` is the full name of the line of history that it is
    compared with, and `title` says what it is.
    """

    kind: ScopeKind = "working_tree"
    base: str | None = None
    commit: str | None = None
    range: str | None = None
    paths: tuple[str, ...] = ()
    base_ref: str | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """For messages: `scope branch`, or the title."""
        return self.title or f"scope {self.kind}"
