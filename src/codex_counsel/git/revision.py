"""Many files of one commit at once: their entries in its tree, and how their contents begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.git.repo import Blob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from codex_counsel.git.repo import Repo

MAX_PATHS = 200
"""Paths that git is asked for by name. It compares each with each entry on its way, so of more it lists all files."""
NO_PARTS = frozenset({b"", b".", b".."})


class Content(NamedTuple):
    """`data` is the beginning of a blob, `size` what the whole blob has, in bytes."""

    data: bytes
    size: int


def entries(repo: Repo, revision: str, names: Iterable[bytes]) -> dict[bytes, Blob]:
    """The entries of those files, named from the root, that are in the commit. One git process.

    No file has a name with an empty part or with `..`, and git refuses to look for one.
    """
    wanted = frozenset(name for name in names if NO_PARTS.isdisjoint(name.split(b"/")))
    if not wanted:
        return {}
    paths = tuple(wanted) if len(wanted) <= MAX_PATHS else ()
    found = {}
    options = ("-r", "-z", "--full-tree")
    with repo.stream("ls-tree", *options, revision, "--", *paths) as chunks:
        for record in _records(chunks):
            entry, _, name = record.partition(b"\t")
            if name in wanted:
                mode, _, sha = entry.decode().split()
                found[name] = Blob(mode, sha)
    return found


def _records(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The records that end with a NUL."""
    rest = b""
    for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\0")
        yield from complete


def contents(repo: Repo, shas: Iterable[str], limit: int) -> dict[str, Content]:
    """The first `limit` bytes of each blob; without those that this clone lacks.

    Two git processes, and one more for each blob that is longer than the limit.
    """
    ids = list(dict.fromkeys(shas))
    sizes = _sizes(repo, ids)
    short = [sha for sha, size in sizes.items() if size <= limit]
    found = _whole(repo, short)
    for sha, size in sizes.items():
        if size > limit:
            found[sha] = Content(repo.blob(sha, limit), size)
    return found


def _sizes(repo: Repo, ids: list[str]) -> dict[str, int]:
    if not ids:
        return {}
    output = repo.git("cat-file", "--batch-check", stdin=_lines(ids))
    sizes = {}
    for line in output.decode().splitlines():
        sha, kind, *rest = line.split()
        if kind == "blob":
            sizes[sha] = int(rest[0])
    return sizes


def _whole(repo: Repo, ids: list[str]) -> dict[str, Content]:
    if not ids:
        return {}
    output = repo.git("cat-file", "--batch", stdin=_lines(ids))
    found = {}
    position = 0
    for _ in ids:
        end = output.index(b"\n", position)
        sha, _, *length = output[position:end].decode().split()
        if not length:
            # Somebody removed it just now.
            position = end + 1
            continue
        size = int(length[0])
        found[sha] = Content(output[end + 1 : end + 1 + size], size)
        position = end + 1 + size + 1
    return found


def _lines(ids: list[str]) -> bytes:
    return "".join(f"{sha}\n" for sha in ids).encode()
