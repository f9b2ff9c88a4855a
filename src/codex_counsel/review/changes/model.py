"""What a review is made of, as plain frozen data."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from codex_counsel.contract.vocabulary import ScopeKind

Kind = ScopeKind
Status = Literal["A", "M", "D", "R", "C", "T", "U", "F"]
"""Git's letters; `F` is a file shown as it is, nothing changed."""


class Reason(StrEnum):
    """Why a file, or a part of it, was not sent."""

    SECRET_FILE = "secret_file"  # noqa: S105  # a reason, not a password
    BINARY = "binary"
    SYMLINK = "symlink"
    SPECIAL_FILE = "special_file"
    NESTED_REPOSITORY = "nested_repository"
    UNREADABLE = "unreadable"
    FILTERED = "filtered"
    UNMERGED = "unmerged"
    BUDGET = "budget"
    PARTIAL = "partial"

    @property
    def spoils(self) -> bool:
        """Whether readable changes went unread: a `pass` over the rest would say more than was seen.

        Links, special files and nested repositories hold nothing that a reviewer of text could have read; they are
        listed and do not make the material incomplete. Binaries and files withheld as secret do by what they are:
        see `Omitted.readable`.
        """
        return self in {Reason.UNREADABLE, Reason.FILTERED, Reason.UNMERGED, Reason.BUDGET, Reason.PARTIAL}


class Omitted(NamedTuple):
    """`readable` marks a binary or a secret that the change may well act through, and that a reviewer has not read.

    A binary is that by a name of source code, for then somebody made it one. A secret is by being tracked, as part of
    what is shipped, or by the name of a program; a `.env` that git does not know is merely somebody's own.
    """

    path: str
    reason: Reason
    bytes: int
    readable: bool = False

    @property
    def spoils(self) -> bool:
        """Whether it makes the material incomplete."""
        return self.readable or self.reason.spoils


class Commit(NamedTuple):
    sha: str
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file of the change. `bytes` is the size of its diff; `raw` the name as it is on disk, from the root.

    `sides` and `modes` are those of git's raw format: an id of zeros stands for a file that is not there, or for
    the working tree.
    """

    path: str
    raw: builtins.bytes
    status: Status
    old_path: str | None = None
    old_raw: builtins.bytes | None = None
    binary: bool = False
    untracked: bool = False
    modes: tuple[str, str] = ("100644", "100644")
    sides: tuple[str, str] = ("", "")
    added: int = 0
    deleted: int = 0
    bytes: int = 0

    @property
    def mode_change(self) -> tuple[str, str] | None:
        old, new = self.modes
        return self.modes if old != new and "000000" not in self.modes else None

    @property
    def names(self) -> tuple[builtins.bytes, ...]:
        return (self.raw,) if self.old_raw is None else (self.old_raw, self.raw)


@dataclass(frozen=True)
class Scope:
    """What to review. `paths` are relative to the workspace and literal."""

    kind: Kind = "working_tree"
    base: str | None = None
    commit: str | None = None
    range: str | None = None
    paths: tuple[str, ...] = ()
