"""Items of a batch as packs: one foundation for each repository, the same for as long as the batch lives."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.batch.model import Item
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.packs import foundation as foundations
from codex_counsel.packs.foundation import MadeFoundation
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.services import pack as packs
from codex_counsel.system.files import (
    make_private,
    read_json_or_none,
    remove_tree,
    write_atomically,
)

FOUNDATIONS = "foundations"
"""Folder of a batch: for each repository a foundation and what is known of it."""
SCRATCH = "packing"
"""Folder of a batch: what packs are made of, while they are made."""


@dataclass(frozen=True)
class PackedItem:
    """The pack of an item without its foundation, and where that is: its SHA-256 names it."""

    head: bytes
    digest: str
    foundation: Path


class Packing:
    """Makes packs in the directory of a batch."""

    def __init__(self, context: Context, directory: Path) -> None:
        self._context = context
        self._foundations = directory / FOUNDATIONS
        self._scratch = directory / SCRATCH
        self._made: dict[Path, MadeFoundation] = {}

    def pack(self, item: Item, ticket: str) -> PackedItem:
        """The pack of an item, with the ticket as its id; this machine remembers what it asks for.

        Raises CounselError, as the services that make it.
        """
        made = self.foundation(item.root)
        request = item.request()
        try:
            self._scratch.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _storage_error(error) from None
        try:
            packed = packs.prepare(
                self._context,
                request,
                self._scratch,
                pack_id=ticket,
                foundation=made,
            )
            head = packed.head()
            packs.remember(self._context, request, packed)
            return PackedItem(head, made.digest, made.path)
        except OSError as error:
            raise _storage_error(error) from None
        finally:
            remove_tree(self._scratch)

    def foundation(self, root: Path) -> MadeFoundation:
        """That of the repository at this directory, made once for the batch: what is saved later is not in it."""
        if root not in self._made:
            self._made[root] = self._kept(root) or self._make(root)
        return self._made[root]

    def _paths(self, root: Path) -> tuple[Path, Path]:
        name = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()
        return self._foundations / f"{name}.tar", self._foundations / f"{name}.json"

    def _kept(self, root: Path) -> MadeFoundation | None:
        """What an earlier process of this batch has made; the JSON is written last."""
        file, note = self._paths(root)
        noted = read_json_or_none(note)
        if not isinstance(noted, dict) or not file.is_file():
            return None
        try:
            return MadeFoundation.from_json(noted, file)
        except ValueError:
            return None

    def _make(self, root: Path) -> MadeFoundation:
        file, note = self._paths(root)
        workspace = workspaces.resolve(self._context, str(root))
        try:
            make_private(self._foundations)
            made = foundations.make(self._context, workspace, file)
            write_atomically(note, json.dumps(made.to_json()), durable=True)
        except OSError as error:
            raise _storage_error(error) from None
        return made


def _storage_error(error: OSError) -> CounselError:
    return error_of(Code.STORAGE_FAILED, "An item cannot be packed", error)
