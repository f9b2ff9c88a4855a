"""Putting a stored diff onto the live tree: checked first, all or nothing, never through a link, and undoable.

The result of every file is computed beside the tree; only when all of them are known is anything written, each file by
a rename within its own folder. A failure half-way puts back what was there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.delegate import SENSITIVE, Work
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import shown
from codex_counsel.git.repo import Repo
from codex_counsel.git.shadow import RefusedError, Shadow

LINK = "120000"


@dataclass(frozen=True)
class Version:
    """A file at one moment: its bytes (a link's target) and git's mode; no version is no file."""

    data: bytes
    mode: str


Tree = dict[bytes, Version | None]


@dataclass(frozen=True)
class Outcome:
    """`merged` files had moved on since the run began and took the change by a clean three-way merge."""

    files: list[str]
    merged: list[str]
    after: Tree
    before: Tree


def plan(repo: Repo, work: Work, record: Path, scratch: Path, allowed: Iterable[str]) -> Outcome:
    """What applying the diff in `record` would write.

    Raises `apply_conflict`, or `policy_refused` for sensitive paths that are not named.
    """
    names, patch = _names(work), (record / "diff.patch").read_bytes()
    _check_sensitive(work, frozenset(allowed))
    live = {name: read(repo.root, name) for name in names}
    wanted = _patched(repo, live, patch, scratch / "straight")
    merged: list[bytes] = []
    if wanted is None:
        wanted, merged = _merged(repo, live, patch, record / "base.tar", scratch)
    return Outcome([shown(n) for n in names], [shown(n) for n in merged], wanted, live)


def _names(work: Work) -> list[bytes]:
    pairs = [name for row in work.names for name in row[:2] if name is not None]
    return list(dict.fromkeys(name.encode("latin-1") for name in pairs))


def _check_sensitive(work: Work, allowed: frozenset[str]) -> None:
    rows = [(str(row[0]).encode("latin-1"), row[2]) for row in work.names]
    held = [shown(name) for name, mode in rows if SENSITIVE.search(name) or mode == LINK]
    refused = [name for name in held if name not in allowed]
    if refused:
        raise CounselError(
            Code.POLICY_REFUSED,
            f"Tools execute or obey these files, or they are links: {', '.join(refused[:20])}; nothing was applied",
            repair="Look at each of them in the diff; then name those you accept in allow_paths.",
            details={"allow_paths": refused[:200]},
        )


def read(root: Path, name: bytes) -> Version | None:
    """The live file, itself and not where a link leads; `apply_conflict` when a folder on the way is a link."""
    path = os.fsencode(root) + b"/" + name
    _check_parents(root, name)
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(seen.st_mode):
        return Version(os.readlink(path), LINK)
    if not stat.S_ISREG(seen.st_mode):
        raise conflict([name], "is no regular file there")
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return Version(file.read(), "100755" if seen.st_mode & stat.S_IXUSR else "100644")


def _check_parents(root: Path, name: bytes) -> None:
    path = os.fsencode(root)
    for part in name.split(b"/")[:-1]:
        path += b"/" + part
        if os.path.islink(path):
            raise conflict([name], f"leads through the link {shown(path)}")


def conflict(names: list[bytes], why: str, details: dict[str, object] | None = None) -> CounselError:
    shown_names = [shown(name) for name in names[:20]]
    return CounselError(
        Code.APPLY_CONFLICT,
        f"{', '.join(shown_names)} {why}; nothing was changed",
        details={"files": shown_names, **(details or {})},
    )


def _patched(repo: Repo, live: Tree, patch: bytes, scratch: Path) -> Tree | None:
    """The files after the patch, in a shadow that holds nothing else; None where it does not fit."""
    shadow = Shadow.create(repo, scratch, repo.head() or "0" * 40)
    for name, version in live.items():
        write(shadow.tree, name, version)
    try:
        if patch:
            shadow.git("apply", "--binary", "--whitespace=nowarn", "-", given=patch)
    except RefusedError:
        return None
    return {name: read(shadow.tree, name) for name in live}


def _merged(repo: Repo, live: Tree, patch: bytes, base: Path, scratch: Path) -> tuple[Tree, list[bytes]]:
    """Per file: what the run made of it merged with what became of it meanwhile, where that is clean."""
    began = dict.fromkeys(live) | _base(base)
    made = _patched(repo, began, patch, scratch / "base")
    if made is None:
        raise conflict(list(live), "cannot be reproduced from the run's own baseline")
    result: Tree = {}
    stuck: list[bytes] = []
    merged: list[bytes] = []
    for name, now in live.items():
        ours = _three_way(began.get(name), now, made.get(name), scratch)
        if isinstance(ours, _Stuck):
            stuck.append(name)
        else:
            result[name] = ours
            merged += [name] if now != began.get(name) and ours != now else []
    if stuck:
        raise conflict(
            stuck,
            "changed since the run began, in the same places",
            {"hint": "delegate again, or merge diff_path by hand"},
        )
    return result, merged


class _Stuck:
    """No clean merge."""


def _three_way(
    began: Version | None, now: Version | None, made: Version | None, scratch: Path
) -> Version | _Stuck | None:
    if now in (began, made):
        return made
    if made == began:
        return now
    if not (began and now and made) or LINK in (began.mode, now.mode, made.mode):
        return _Stuck()
    data = _merge_file(began.data, now.data, made.data, scratch)
    mode = made.mode if made.mode != began.mode else now.mode
    return _Stuck() if data is None else Version(data, mode)


def _merge_file(began: bytes, now: bytes, made: bytes, scratch: Path) -> bytes | None:
    names = []
    for label, data in (("now", now), ("began", began), ("made", made)):
        names.append(scratch / f"merge-{label}")
        names[-1].write_bytes(data)
    asked = ["git", "merge-file", "-p", "-q", *map(str, names)]
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(asked, cwd=scratch, env=env, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def _base(archive: Path) -> Tree:
    """The files as the run found them."""
    with tarfile.open(archive) as held:
        members = [(member, held.extractfile(member)) for member in held.getmembers() if member.isfile()]
        return {
            os.fsencode(member.name): Version(file.read(), str(member.pax_headers.get("git.mode", "100644")))
            for member, file in members
            if file
        }


def write_all(root: Path, outcome: Outcome) -> None:
    """Write every file, or put back what was there and raise."""
    done: list[bytes] = []
    try:
        for name, version in outcome.after.items():
            if version != outcome.before[name]:
                _check_still(root, name, outcome.before[name])
                done.append(name)
                write(root, name, version)
    except BaseException as error:
        for name in reversed(done):
            with contextlib.suppress(OSError):
                write(root, name, outcome.before[name])
        if isinstance(error, OSError):
            raise CounselError(
                Code.STORAGE_FAILED, f"Writing failed ({error.strerror}); every file was put back"
            ) from None
        raise


def _check_still(root: Path, name: bytes, expected: Version | None) -> None:
    if read(root, name) != expected:
        raise conflict([name], "changed while the diff was being applied")


def write(root: Path, name: bytes, version: Version | None) -> None:
    """Put one file there by a rename within its folder, or take it away together with folders that it leaves empty."""
    _check_parents(root, name)
    path = os.fsencode(root) + b"/" + name
    if version is None:
        _take_away(root, path)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    draft = folder + b"/.codex-counsel-" + secrets.token_hex(6).encode()
    try:
        _write_draft(draft, version)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _write_draft(draft: bytes, version: Version) -> None:
    if version.mode == LINK:
        os.symlink(version.data, draft)
        return
    mode = 0o777 if version.mode == "100755" else 0o666
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(version.data)


def _take_away(root: Path, path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    folder, top = os.path.dirname(path), os.fsencode(root)
    with contextlib.suppress(OSError):  # the first folder that is not empty stays
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def undone(repo: Repo, work: Work, patch: bytes, scratch: Path) -> Outcome:
    """What taking a diff back would write; `apply_conflict` when the files have moved on since it was applied."""
    names = _names(work)
    live = {name: read(repo.root, name) for name in names}
    before = _patched(repo, live, patch, scratch / "undone")
    if before is None:
        raise conflict(names, "changed since the diff was applied")
    return Outcome([shown(name) for name in names], [], before, live)


def undo_patch(repo: Repo, outcome: Outcome, scratch: Path) -> bytes:
    """The patch that leads back, from what will be written to what is there now."""
    shadow = Shadow.create(repo, scratch, repo.head() or "0" * 40)
    trees = []
    for tree in (outcome.after, outcome.before):
        for name, version in tree.items():
            write(shadow.tree, name, version)
        shadow.git("add", "--all", "--force", "--", ".")
        trees.append(shadow.git("write-tree").decode().strip())
    patch = b"".join(shadow.diff(*trees, exact=True))
    shutil.rmtree(scratch, ignore_errors=True)
    return patch
