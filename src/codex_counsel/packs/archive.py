"""The container of everything that travels: a plain tar of which the first member lists all others.

`manifest.json` comes first: `{"format", "kind", "about", "files": [[name, bytes, sha256], ...]}`.
The members follow in its order. All are regular files with names of ours, uncompressed, so
nothing grows while it is unpacked. `tar tf FILE` shows what is in it.

What is read comes from elsewhere: a header is refused unless it has the very bytes that
`write` makes for its name and size, and nothing is written that the manifest has not
announced.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from codex_counsel import __version__
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import open_private, write_atomically
from codex_counsel.system.json_values import Json, JsonObject, too_deep
from codex_counsel.system.text import one_line, visible

FORMAT = 1
Kind = Literal["pack", "foundation", "result"]
"""`pack`: a request. `foundation`: the repository that it starts from. `result`: what came of it."""
KINDS: Mapping[Kind, str] = {
    "pack": "pack of a request",
    "foundation": "foundation of a pack",
    "result": "result of a pack",
}
USES: Mapping[Kind, str] = {
    "pack": "Run it with `codex-counsel run FILE -o RESULT`, then take RESULT.",
    "result": "Take it with `codex-counsel take FILE`, where its pack was made.",
}
"""What is done with a file that came where one of another kind was meant."""
MANIFEST = "manifest.json"
MAX_MANIFEST = 8_000_000
"""Bytes."""
MAX_FILES = 1_000
MAX_FILE = 4_000_000_000
"""Bytes of one member."""
MAX_TOTAL = 8_000_000_000
"""Bytes of all members."""
BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}(?:/[a-z0-9][a-z0-9._-]{0,31}){0,2}")
"""A name begins none of its parts with a dot, so it leads nowhere else. A header has room for the longest."""
SHA256 = re.compile("[0-9a-f]{64}")
MAX_SHOWN = 1_000_000
"""The highest number of a format that an error names."""
_Listed = tuple[str, int, str]
"""A file as the manifest lists it: name, bytes, SHA-256."""


@dataclass(frozen=True)
class Member:
    """A file to be put into an archive: its name there, and its bytes or where they are."""

    name: str
    content: bytes | Path

    def chunks(self) -> Iterator[bytes]:
        """The bytes. Raises OSError."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


# --- writing


def write(
    target: Path, kind: Kind, about: JsonObject, members: Iterable[Member]
) -> None:
    """Write an archive in one step. The same content makes the same bytes.

    Raises OSError, `input_too_large` for more than a reader accepts, and `storage_failed`
    where a member changes meanwhile.
    """
    write_atomically(target, chunks(kind, about, members))


def chunks(kind: Kind, about: JsonObject, members: Iterable[Member]) -> Iterator[bytes]:
    """The bytes of an archive, without holding a large member in memory. As `write`."""
    members = list(members)
    listed = [_listed(member) for member in members]
    manifest = {
        "format": FORMAT,
        "kind": kind,
        "made_by": __version__,
        "about": about,
        "files": listed,
    }
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True).encode()
    _check_limits(kind, listed, len(text))
    yield _header(MANIFEST, len(text))
    yield text
    yield bytes(-len(text) % BLOCK)
    for member, row in zip(members, listed, strict=True):
        yield from _member(member, row)
    yield bytes(2 * BLOCK)


def _check_limits(kind: Kind, listed: list[_Listed], manifest: int) -> None:
    """Refuse what no reader would accept. `manifest` is its size in bytes."""
    sizes = [size for _, size, _ in listed]
    if manifest > MAX_MANIFEST:
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"The texts of a {KINDS[kind]} may have {MAX_MANIFEST:,} bytes; these have {manifest:,}",
        )
    is_too_large = len(sizes) > MAX_FILES or sum(sizes) > MAX_TOTAL
    if is_too_large or max(sizes, default=0) > MAX_FILE:
        raise CounselError(
            Code.INPUT_TOO_LARGE,
            f"A {KINDS[kind]} may have {MAX_FILES:,} files, {MAX_FILE:,} bytes in each and {MAX_TOTAL:,} in all",
            repair="Leave large untracked files out of the working tree.",
        )


def _listed(member: Member) -> _Listed:
    size, digest = 0, hashlib.sha256()
    for chunk in member.chunks():
        size += len(chunk)
        digest.update(chunk)
    return member.name, size, digest.hexdigest()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _member(member: Member, listed: _Listed) -> Iterator[bytes]:
    name, size, digest = listed
    yield _header(name, size)
    written, found = 0, hashlib.sha256()
    for chunk in member.chunks():
        written += len(chunk)
        found.update(chunk)
        yield chunk
    if written != size or found.hexdigest() != digest:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"{name} changed while it was packed",
            repair="Pack again.",
        )
    yield bytes(-size % BLOCK)


# --- reading


def unpack(source: BinaryIO, name: str, kind: Kind, into: Path) -> JsonObject:
    """Write the members below the empty directory `into`, and return what the archive says `about` itself.

    `name` is what messages call it. Raises `pack_invalid` for what is damaged, of another
    kind or format, or no archive of ours, and OSError where a file cannot be written. What
    was written until then stays for the caller to remove.
    """
    reader = _Reader(source, name)
    manifest = reader.manifest(kind)
    for member, size, digest in _files_of(manifest, reader):
        reader.extract(member, size, digest, into)
    reader.expect_end()
    about: JsonObject = manifest["about"]
    return about


def is_one(beginning: bytes) -> bool:
    """Whether a file that begins so, with a block of bytes, is an archive of ours."""
    try:
        name, _ = _Reader(io.BytesIO(beginning), "it").header()
    except CounselError:
        return False
    return name == MANIFEST


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Reader:
    """Reads members in order, from what may be a pipe."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = one_line(visible(name), 200)

    def error(self, problem: str) -> CounselError:
        """`pack_invalid`, with the name of the archive."""
        return CounselError(Code.PACK_INVALID, f"{self._name} {problem}")

    def manifest(self, kind: Kind) -> JsonObject:
        """The manifest, of this kind and format."""
        name, size = self.header()
        if name != MANIFEST or size > MAX_MANIFEST:
            raise self.error("is no file that codex-counsel has packed")
        manifest = self._json(self._take(size))
        self._padding(size)
        match manifest:
            case {"format": int(number), "kind": str(found)}:
                self._check_kind(kind, number, found)
            case _:
                raise self.error("is damaged: its manifest names no format")
        match manifest:
            case {"about": dict(), "files": list()}:
                return dict(manifest)
        raise self.error("is damaged: its manifest is incomplete")

    def _json(self, data: bytes) -> Json:
        """A value that can be written again: nested like a request, and of characters that UTF-8 has."""
        try:
            # From bytes, `loads` would take other encodings too.
            value = json.loads(data.decode())
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            raise self.error("is damaged: its manifest is no JSON") from None
        if too_deep(value):
            raise self.error("is damaged: its manifest is nested too deeply")
        return value

    def _check_kind(self, kind: Kind, number: int, found: str) -> None:
        if number > FORMAT:
            shown = min(number, MAX_SHOWN)
            raise self.error(
                f"has format {shown}, of a newer release; this one reads format {FORMAT}"
            )
        if number < FORMAT:
            shown = max(number, -MAX_SHOWN)
            raise self.error(
                f"has format {shown}, of an older release; this one reads format {FORMAT}"
            )
        if found != kind:
            known = KINDS.get(found, "file of another kind")  # type: ignore[call-overload]
            error = self.error(f"is no {KINDS[kind]}, but a {known}")
            error.repair = USES.get(found)  # type: ignore[call-overload]
            raise error

    def extract(self, name: str, size: int, digest: str, into: Path) -> None:
        """Write the next member, which must be this one."""
        if self.header() != (name, size):
            raise self.error(f"is damaged: {name} is not where its manifest says")
        target = into / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(open_private(str(target), flags), "wb") as file:
            left = size
            while left:
                chunk = self._take(min(left, CHUNK))
                left -= len(chunk)
                found.update(chunk)
                file.write(chunk)
        self._padding(size)
        if found.hexdigest() != digest:
            raise self.error(f"is damaged: {name} has other bytes than were packed")

    def expect_end(self) -> None:
        """Nothing may follow: it would be something that the manifest does not know."""
        if self._take(2 * BLOCK).strip(b"\0") or self._source.read(1):
            raise self.error("is damaged: something follows what its manifest lists")

    def header(self) -> tuple[str, int]:
        """Name and size of the next member. Anything but a plain file in the plain format is refused."""
        block = self._take(BLOCK)
        try:
            info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, ValueError):
            raise self.error(
                "is damaged, or is no file that codex-counsel has packed"
            ) from None
        if info.type != tarfile.REGTYPE:
            raise self.error("holds something else than plain files")
        # One form for each name and size: two readers never see different files in it.
        is_ours = NAME.fullmatch(info.name) and 0 <= info.size <= MAX_FILE
        if not is_ours or block != _header(info.name, info.size):
            raise self.error("is no file that codex-counsel has packed")
        return info.name, info.size

    def _take(self, count: int) -> bytes:
        parts = []
        left = count
        while left:
            part = self._source.read(left)
            if not part:
                raise self.error("is damaged: it ends early")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _padding(self, size: int) -> None:
        if self._take(-size % BLOCK).strip(b"\0"):
            raise self.error("is damaged: something lies between its files")


def _files_of(manifest: JsonObject, reader: _Reader) -> list[_Listed]:
    """The members as the manifest announces them, each once."""
    rows: list[Json] = manifest["files"]
    if len(rows) > MAX_FILES:
        raise reader.error(f"has more than {MAX_FILES:,} files")
    files: list[_Listed] = []
    names = {MANIFEST}
    for row in rows:
        match row:
            case [str(name), int(size), str(digest)] if (
                NAME.fullmatch(name)
                and SHA256.fullmatch(digest)
                and 0 <= size <= MAX_FILE
                and name not in names
            ):
                names.add(name)
                files.append((name, size, digest))
            case _:
                raise reader.error("is damaged: its manifest lists an impossible file")
    folders: set[str] = set()
    for name in names:
        folders.update(map(str, PurePath(name).parents))
    if folders & names:
        raise reader.error("is damaged: a file of its manifest is a folder of another")
    if sum(size for _, size, _ in files) > MAX_TOTAL:
        raise reader.error(f"has more than {MAX_TOTAL:,} bytes")
    return files
