"""What a run left in its shadow, as a patch that is proven to apply, and everything about it that is worth saying."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.shadow import Shadow, open_up
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name

MAX_LISTED = 200
GIT_DIRECTORIES = (b".git", b"git~1")
"""Names, whatever their case, that git takes for its own directory on some system, and captures on none."""
MAX_BASE = 200_000_000
MAX_PROVEN = 1_000_000_000


class CapturedFile(NamedTuple):
    """One file of the patch. `old` is the name before a rename; counts are None for binary files.

    `was` is mode and object id before the change, zeros for a new file; `mode` is the one after it.
    """

    status: str
    name: bytes
    old: bytes | None
    mode: str
    was: tuple[str, str]
    added: int | None
    deleted: int | None


@dataclass
class Capture:
    """`patch` is the file with the exact bytes, `reading` the text for people (binary files only named)."""

    base_tree: str
    new_tree: str
    patch: Path
    reading: bytes
    files: list[CapturedFile]
    ignored: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    stat: str = ""


def gather(shadow: Shadow, base_tree: str, store: Path, reading_limit: int) -> Capture:
    """Capture, write `diff.patch` and `base.tar` into `store`, and prove that the patch makes the one of the other."""
    open_up(shadow.tree)
    planted = _disarm(shadow)
    new_tree = shadow.snapshot()
    patch = store / "diff.patch"
    _write(patch, shadow, base_tree, new_tree)
    files = _files(shadow, base_tree, new_tree)
    _prove(shadow, base_tree, new_tree, patch)
    _keep_base(shadow, files, store / "base.tar")
    reading = _reading(shadow, base_tree, new_tree, reading_limit + 1)
    planted += _leaving(shadow.tree, files)
    counted = shadow.git("diff-tree", "-r", "--shortstat", "--find-renames", base_tree, new_tree).decode().strip()
    return Capture(base_tree, new_tree, patch, reading, files, _ignored(shadow), planted[:MAX_LISTED], counted)


def _disarm(shadow: Shadow) -> list[str]:
    """Remove git directories that the run made, so that the files beside them are captured as files; name each."""
    found: list[str] = []
    top = os.fsencode(shadow.tree)
    for folder, names, files in os.walk(top):
        for name in [name for name in (*names, *files) if name.lower() in GIT_DIRECTORIES]:
            path = folder + b"/" + name
            if not shadow.is_pointer(path):
                found.append(f"{display_name(path[len(top) + 1 :])} (a git directory, removed)")
                _remove(path)
        names[:] = [name for name in names if name.lower() not in GIT_DIRECTORIES]
    return found


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _reading(shadow: Shadow, old: str, new: str, limit: int) -> bytes:
    held = bytearray()
    with contextlib.closing(shadow.diff(old, new, exact=False)) as chunks:
        for chunk in chunks:
            held += chunk
            if len(held) >= limit:
                break
    return bytes(held[:limit])


def _write(patch: Path, shadow: Shadow, old: str, new: str) -> None:
    """Whole or not at all."""
    draft = patch.with_suffix(".draft")
    with open(draft, "wb", opener=_private) as file:  # Path.open takes no opener
        file.writelines(shadow.diff(old, new, exact=True))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(patch)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _files(shadow: Shadow, old: str, new: str) -> list[CapturedFile]:
    raw = shadow.git("diff-tree", "-r", "-z", "--raw", "--find-renames", old, new).split(b"\0")
    counts = _counts(shadow.git("diff-tree", "-r", "-z", "--numstat", "--find-renames", old, new))
    found, at = [], 0
    while at < len(raw) - 1:
        about, at = raw[at].split(b" "), at + 1
        status = about[4].decode()
        old_name = raw[at] if status[0] in "RC" else None
        at += 1 if old_name is not None else 0
        name, at = raw[at], at + 1
        old_mode, new_mode, old_id = about[0].lstrip(b":").decode(), about[1].decode(), about[2].decode()
        added, deleted = counts.get(name, (None, None))
        found.append(CapturedFile(status[0], name, old_name, new_mode, (old_mode, old_id), added, deleted))
    return found


def _counts(output: bytes) -> dict[bytes, tuple[int | None, int | None]]:
    fields, found, at = output.split(b"\0"), {}, 0
    while at < len(fields) - 1:
        added, deleted, name = fields[at].split(b"\t", 2)
        at += 1
        if not name:
            name, at = fields[at + 1], at + 2
        found[name] = (int(added) if added.isdigit() else None, int(deleted) if deleted.isdigit() else None)
    return found


def _prove(shadow: Shadow, old: str, new: str, patch: Path) -> None:
    if patch.stat().st_size > MAX_PROVEN:
        raise CounselError(Code.WORKTREE_FAILED, f"The diff has {patch.stat().st_size} bytes, too many to be proven")
    if shadow.applied(old, patch.read_bytes()) != new:
        raise CounselError(
            Code.WORKTREE_FAILED, "The diff does not reproduce the result; it is kept, but not to be trusted"
        )


def _keep_base(shadow: Shadow, files: list[CapturedFile], target: Path) -> None:
    """The files that the patch changes, as they were: what a three-way merge needs later. Bounded."""
    wanted = [(file.old or file.name, *file.was) for file in files if file.status != "A"]
    sizes = shadow.git("cat-file", "--batch-check=%(objectsize)", given=_lines(wanted)).split()
    kept, total = [], 0
    for row, digits in zip(wanted, sizes, strict=True):
        if total + int(digits) <= MAX_BASE:
            total += int(digits)
            kept.append(row)
    blobs = shadow.git("cat-file", "--batch", given=_lines(kept)) if kept else b""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        at = 0
        for name, mode, _ in kept:
            about = blobs[at : at + 200].partition(b"\n")[0]
            begin, size = at + len(about) + 1, int(about.rpartition(b" ")[2])
            archive.addfile(_member(name, mode, size), BytesIO(blobs[begin : begin + size]))
            at = begin + size + 1
    target.chmod(0o600)


def _lines(rows: list[tuple[bytes, str, str]]) -> bytes:
    return b"".join(sha.encode() + b"\n" for _, _, sha in rows)


def _member(name: bytes, mode: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(os.fsdecode(name))
    entry.size, entry.pax_headers = size, {"git.mode": mode}
    return entry


def _ignored(shadow: Shadow) -> list[str]:
    """Ignored files that the run made: none were seeded."""
    output = shadow.git("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
    return [display_name(name) for name in output.split(b"\0") if name][:MAX_LISTED]


def _leaving(tree: Path, files: list[CapturedFile]) -> list[str]:
    """Links in the patch that lead out of the tree."""
    found = []
    for file in files:
        path = os.fsencode(tree) + b"/" + file.name
        if file.mode == "120000" and file.status != "D" and stat.S_ISLNK(os.lstat(path).st_mode):
            target = os.readlink(path)
            if leaves(file.name, target):
                found.append(f"{display_name(file.name)} (a link that leads to {display_name(target)})")
    return found


def leaves(name: bytes, target: bytes) -> bool:
    """Whether a link of this name leads out of the tree it lies in."""
    if target.startswith(b"/"):
        return True
    path = os.path.normpath(os.path.join(os.path.dirname(name), target))
    return path == b".." or path.startswith(b"../")
