"""Putting a stored diff onto the live tree: checked first, all or nothing, never through a link, and undoable.

The result of every file is computed beside the tree; only when all of them are known is anything written, each file by
a rename within its own folder. A failure half-way puts back what was there. A patch whose files changed since the run
is never fitted in by its context, which may stand in several places: such files are merged, or refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.delegate.record import LINK, DelegateResult, sensitive
from codex_counsel.delegate.shadow import RefusedError, Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.git.process import find_git
from codex_counsel.git.repo import Repo


@dataclass(frozen=True)
class FileState:
    """A file at one moment: its bytes (a link's target) and git's mode; no version is no file.

    `bits` are the permissions of a live file, which go on to hold for what replaces it.
    """

    data: bytes
    mode: str
    bits: int | None = field(default=None, compare=False)


Tree = dict[bytes, FileState | None]


@dataclass(frozen=True)
class PatchPlan:
    """`merged` files had moved on since the run began and took the change by a clean three-way merge."""

    files: list[str]
    merged: list[str]
    after: Tree
    before: Tree


class HalfWrittenError(CounselError):
    """Writing failed, and so did putting back what was there."""


def plan(repo: Repo, work: DelegateResult, record: Path, scratch: Path, allowed: Iterable[str]) -> PatchPlan:
    """What applying the diff in `record` would write.

    Raises `apply_conflict`, or `policy_refused` for sensitive paths that are not named.
    """
    names, patch = _names(work), (record / "diff.patch").read_bytes()
    _check_sensitive(work, frozenset(allowed))
    live = read_all(repo.root, names)
    began: Tree = dict.fromkeys(live) | _base(record / "base.tar")
    wanted = _patched(repo, live, patch, scratch / "straight")
    merged: list[bytes] = []
    if wanted is None or live != began:
        made = _patched(repo, began, patch, scratch / "base")
        if made is not None:  # else the base was too large to be kept
            wanted, merged = _merged(live, began, made, scratch)
    if wanted is None:
        raise conflict(names, "changed since the run began, and its baseline was too large to be kept for a merge")
    return PatchPlan([display_name(n) for n in names], [display_name(n) for n in merged], wanted, live)


def _names(work: DelegateResult) -> list[bytes]:
    raw = [_raw(name) for row in work.names for name in row[:2]]
    return list(dict.fromkeys(name for name in raw if name is not None))


def _raw(name: str | None) -> bytes | None:
    return None if name is None else name.encode("latin-1")


def _check_sensitive(work: DelegateResult, allowed: frozenset[str]) -> None:
    accepted = {os.path.normpath(name) for name in allowed}
    held = [
        display_name(name)
        for new, old, mode in work.names
        for name in sensitive(_raw(new) or b"", _raw(old), mode or "")
    ]
    refused = [name for name in dict.fromkeys(held) if name not in accepted]
    if refused:
        raise CounselError(
            Code.POLICY_REFUSED,
            f"Tools execute or obey these files, or they are links: {', '.join(refused[:20])}; nothing was applied",
            repair="Look at each of them in the diff; then name those you accept in allow_paths.",
            details={"allow_paths": refused[:200]},
        )


def read_all(root: Path, names: Collection[bytes]) -> Tree:
    return {name: read(root, name, names) for name in names}


def read(root: Path, name: bytes, going: Collection[bytes] = ()) -> FileState | None:
    """The live file, itself and not where a link leads; `apply_conflict` when a folder on the way is a link.

    A link or folder in its place, or in its way, is no file where it is among what the same diff changes (`going`).
    """
    path = os.fsencode(root) + b"/" + name
    if not _check_parents(root, name, going):
        return None
    try:
        seen = os.lstat(path)
        if stat.S_ISLNK(seen.st_mode):
            return FileState(os.readlink(path), LINK)
        if stat.S_ISREG(seen.st_mode):
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                mode = "100755" if seen.st_mode & stat.S_IXUSR else "100644"
                return FileState(file.read(), mode, stat.S_IMODE(seen.st_mode) & 0o777)
        if stat.S_ISDIR(seen.st_mode) and _holds_only(root, name, going):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise conflict([name], f"cannot be read ({error.strerror})") from None
    raise conflict([name], "is no regular file there, or a folder with other files in it")


def _holds_only(root: Path, name: bytes, going: Collection[bytes]) -> bool:
    top = os.fsencode(root)
    inside = (
        os.path.join(folder, file)[len(top) + 1 :] for folder, _, files in os.walk(top + b"/" + name) for file in files
    )
    return all(file in going for file in inside)


def _check_parents(root: Path, name: bytes, going: Collection[bytes] = ()) -> bool:
    """Raise for a way that leads elsewhere; false where a link or file that goes with the same diff is in the way."""
    path = b""
    parts = name.split(b"/")
    if any(part.lower() == b".git" for part in parts):
        raise conflict([name], "belongs to git itself")
    for part in parts[:-1]:
        path = path + b"/" + part if path else part
        whole = os.fsencode(root) + b"/" + path
        if os.path.islink(whole) or os.path.lexists(whole) > os.path.isdir(whole):
            if path in going:
                return False
            raise conflict([name], f"leads through {display_name(path)}, which is a link or a file")
        if os.path.lexists(whole + b"/.git"):
            raise conflict([name], f"lies in another repository, {display_name(path)}")
    return True


def conflict(names: list[bytes], why: str, details: dict[str, object] | None = None) -> CounselError:
    shown_names = [display_name(name) for name in names[:20]]
    return CounselError(
        Code.APPLY_CONFLICT,
        f"{', '.join(shown_names)} {why}; nothing was changed",
        details={"files": shown_names, **(details or {})},
    )


def _patched(repo: Repo, live: Tree, patch: bytes, scratch: Path) -> Tree | None:
    """The files after the patch, in a shadow that holds nothing else; None where it does not fit."""
    shadow = Shadow.create(repo, scratch, repo.head() or "0" * 40)
    for name, version in live.items():
        if version:
            write(shadow.tree, name, version)
    try:
        if patch:
            shadow.git("apply", "--binary", "--whitespace=nowarn", "-", given=patch)
    except RefusedError:
        return None
    found = read_all(shadow.tree, list(live))
    return {name: version and FileState(version.data, version.mode) for name, version in found.items()}


def _merged(live: Tree, began: Tree, made: Tree, scratch: Path) -> tuple[Tree, list[bytes]]:
    """Per file: what the run made of it merged with what became of it meanwhile, where that is clean."""
    result: Tree = {}
    stuck: dict[bytes, list[int]] = {}
    merged: list[bytes] = []
    for name, now in live.items():
        ours = _three_way(began.get(name), now, made.get(name), scratch)
        if isinstance(ours, _Stuck):
            stuck[name] = ours.lines
        else:
            result[name] = ours
            merged += [name] if now not in (began.get(name), made.get(name)) and ours != now else []
    if stuck:
        places = [f"{display_name(name)}:{line}" for name, lines in stuck.items() for line in lines]
        hint = "delegate again, or merge diff_path by hand"
        raise conflict(
            list(stuck), "changed since the run began, in the same places", {"hunks": places[:50], "hint": hint}
        )
    return result, merged


@dataclass(frozen=True)
class _Stuck:
    """No clean merge; about which lines of the live file are in the way, where it is text."""

    lines: list[int] = field(default_factory=list)


def _three_way(
    began: FileState | None, now: FileState | None, made: FileState | None, scratch: Path
) -> FileState | _Stuck | None:
    if now in (began, made):
        return made
    if made == began:
        return now
    if not (began and now and made) or LINK in (began.mode, now.mode, made.mode):
        return _Stuck()
    data = _merge_file(began.data, now.data, made.data, scratch)
    mode = made.mode if made.mode != began.mode else now.mode
    return data if isinstance(data, _Stuck) else FileState(data, mode)


def _merge_file(began: bytes, now: bytes, made: bytes, scratch: Path) -> bytes | _Stuck:
    names = []
    for label, data in (("now", now), ("began", began), ("made", made)):
        names.append(scratch / f"merge-{label}")
        names[-1].write_bytes(data)
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CEILING_DIRECTORIES": str(scratch.parent)}
    asked = [find_git(env), "merge-file", "-p", "-q", *map(str, names)]
    done = subprocess.run(asked, cwd=scratch, env=env, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else _Stuck(_conflicts(done.stdout, now))


def _conflicts(merged: bytes, now: bytes) -> list[int]:
    """About where in the live file git put its conflict markers."""
    found, at, theirs = [], 0, False
    held = set(now.splitlines())
    for line in merged.splitlines():
        if line.startswith(b"<<<<<<< "):
            found.append(at + 1)
        elif line == b"=======" or line.startswith(b">>>>>>> "):
            theirs = line == b"======="
        elif not theirs and line in held:
            at += 1
    return found


def _base(archive: Path) -> Tree:
    """The files as the run found them."""
    with tarfile.open(archive) as held:
        members = [(member, held.extractfile(member)) for member in held.getmembers() if member.isfile()]
        return {
            os.fsencode(member.name): FileState(file.read(), str(member.pax_headers.get("git.mode", "100644")))
            for member, file in members
            if file
        }


def write_all(root: Path, outcome: PatchPlan) -> None:
    """Write every file, or put back what was there and raise."""
    done: list[bytes] = []
    changed = {name: v for name, v in outcome.after.items() if v != outcome.before[name]}
    try:
        for name, version in _ordered(changed):
            _check_still(root, name, outcome.before[name], changed)
            done.append(name)
            write(root, name, version)
    except BaseException as error:
        _put_back(root, outcome.before, done, error)
        if isinstance(error, OSError):
            raise CounselError(
                Code.STORAGE_FAILED, f"Writing failed ({error.strerror}); every file was put back"
            ) from None
        raise


def _check_still(root: Path, name: bytes, expected: FileState | None, going: Collection[bytes]) -> None:
    if read(root, name, going) != expected:
        raise conflict([name], "changed while the diff was being applied")


def _ordered(tree: Tree) -> list[tuple[bytes, FileState | None]]:
    """Files that go come first: one may be in the way of a folder, or lie in a folder that is in the way."""
    return sorted(tree.items(), key=lambda item: item[1] is not None)


def _put_back(root: Path, before: Tree, done: list[bytes], error: BaseException) -> None:
    lost: list[str] = []
    for name, version in _ordered({name: before[name] for name in reversed(done)}):
        try:
            if read(root, name, before) != version:
                write(root, name, version)
        except (OSError, CounselError):
            lost.append(display_name(name))
    if lost:
        raise HalfWrittenError(
            Code.STORAGE_FAILED,
            f"Writing failed ({error}), and these files could not be put back: {', '.join(lost[:20])}",
            repair="Make room or give back the permissions, then call codex_apply again, which finishes the files.",
            details={"files": lost[:200]},
        ) from None


def write(root: Path, name: bytes, version: FileState | None) -> None:
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
        _write_draft(draft, version, _bits(path, version))
        with contextlib.suppress(OSError):  # a folder that was emptied
            os.rmdir(path)
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def _bits(path: bytes, version: FileState) -> int | None:
    """The permissions of what stands there, executable or not as git says; None: as the user's umask has it."""
    if version.bits is not None or version.mode == LINK:
        return version.bits
    with contextlib.suppress(OSError):
        seen = os.lstat(path).st_mode
        if stat.S_ISREG(seen):
            bits = stat.S_IMODE(seen) & 0o777
            executable = bits if bits & stat.S_IXUSR else bits | (bits & 0o444) >> 2
            return executable if version.mode == "100755" else bits & ~0o111
    return None


def _write_draft(draft: bytes, version: FileState, bits: int | None) -> None:
    if version.mode == LINK:
        os.symlink(version.data, draft)
        return
    mode = 0o777 if version.mode == "100755" else 0o666
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(version.data)
        if bits is not None:
            os.fchmod(descriptor, bits)


def _take_away(root: Path, path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
    folder, top = os.path.dirname(path), os.fsencode(root)
    with contextlib.suppress(OSError):  # the first folder that is not empty stays
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def undone(repo: Repo, work: DelegateResult, patch: bytes, scratch: Path) -> PatchPlan:
    """What taking a diff back would write; `apply_conflict` when the files have moved on since it was applied."""
    names = _names(work)
    live = read_all(repo.root, names)
    before = _patched(repo, live, patch, scratch / "undone")
    if before is None:
        raise conflict(names, "changed since the diff was applied")
    return PatchPlan([display_name(name) for name in names], [], before, live)


def undo_patch(repo: Repo, outcome: PatchPlan, scratch: Path) -> bytes:
    """The patch that leads back, from what will be written to what is there now."""
    shadow = Shadow.create(repo, scratch, repo.head() or "0" * 40)
    trees = []
    for tree in (outcome.after, outcome.before):
        for name, version in _ordered(tree):
            write(shadow.tree, name, version)
        shadow.git("add", "--all", "--force", "--", ".")
        trees.append(shadow.git("write-tree").decode().strip())
    patch = b"".join(shadow.diff(*trees, exact=True))
    shutil.rmtree(scratch, ignore_errors=True)
    return patch
