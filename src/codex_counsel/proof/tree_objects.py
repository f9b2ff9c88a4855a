"""Tree objects of a shadow: what is in them, and others made of them with one file replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass

from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import CounselError

REGULAR = (b"100644", b"100755")


@dataclass(frozen=True)
class FileObject:
    """A regular file of a tree object. `name` is its path from the root, `size` its bytes."""

    name: bytes
    mode: bytes
    blob: str
    size: int


def names_of(shadow: Shadow, tree: str) -> list[bytes]:
    """The paths of all files of a tree object. Raises CounselError."""
    output = shadow.git("ls-tree", "-r", "-z", "--full-tree", "--name-only", tree)
    return output.split(b"\0")[:-1]


def find_file(shadow: Shadow, tree: str, path: str) -> FileObject | None:
    """The regular file at this path; None where there is none."""
    try:
        name = os.fsencode(path)
        output = shadow.git("ls-tree", "-z", "-l", "--full-tree", tree, "--", name)
    except (CounselError, ValueError):  # not the path of a file
        return None
    for record in output.split(b"\0")[:-1]:
        about, _, found = record.partition(b"\t")
        mode, _, blob, size = about.split()
        if found == name and mode in REGULAR:
            return FileObject(name, mode, blob.decode(), int(size))
    return None


def content_of(shadow: Shadow, file: FileObject) -> bytes:
    """Raises CounselError."""
    return shadow.git("cat-file", "blob", file.blob)


def with_content(shadow: Shadow, tree: str, file: FileObject, content: bytes) -> str:
    """The id of the same tree object with other content of this file. Raises CounselError."""
    blob = shadow.git("hash-object", "-w", "--stdin", stdin=content).strip()
    index = shadow.base / "replaced.index"
    try:
        shadow.git("read-tree", tree, index=index)
        row = b" ".join([file.mode, blob, b"0"]) + b"\t" + file.name + b"\0"
        shadow.git("update-index", "-z", "--index-info", stdin=row, index=index)
        return shadow.write_tree(index)
    finally:
        index.unlink(missing_ok=True)
