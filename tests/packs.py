"""Packs as a sender writes them, and such as no sender would write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from codex_counsel.contract.request import RunRequest
from codex_counsel.packs import archive, manifest
from codex_counsel.packs.archive import Member
from codex_counsel.packs.manifest import Pack
from tests.foundations import Draft

ID = "0123456789abcdef" * 2
QUESTION = {"question": "What does it do?"}


class DraftPack:
    """A pack of a request, to be changed before it is written."""

    def __init__(
        self,
        tool: type[RunRequest],
        request: Mapping[str, Any],
        foundation: Draft | Path,
        folder: Path,
        words: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(foundation, Draft):
            foundation = foundation.write(folder / "foundation.tar")
        self.foundation = foundation
        self.about = Pack(
            id=ID,
            tool=tool.tool,
            request=dict(request),
            foundation=archive.digest_of(self.foundation),
        )
        self.about = replace(self.about, **(words or {}))
        self.members: dict[str, bytes | Path] = {}

    def open(self, *, whole: bool = True) -> BinaryIO:
        """The file; without its foundation where it is not `whole`."""
        members = dict(self.members)
        if whole:
            members[manifest.FOUNDATION] = self.foundation
        rows = [Member(name, content) for name, content in members.items()]
        about = manifest.to_json(self.about)
        return io.BytesIO(b"".join(archive.chunks("pack", about, rows)))

    def write(self, file: Path, *, whole: bool = True) -> Path:
        file.write_bytes(self.open(whole=whole).read())
        return file
