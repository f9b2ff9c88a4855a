"""Commits that came in a bundle: taken into a private repository, in which runs may read meanwhile.

Git refuses damaged objects. A commit of which not all parents are there is named in the
repository's `shallow`, like those that git itself cuts off.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from codex_counsel.git import refs
from codex_counsel.git.hardening import HARMLESS_FAULTS
from codex_counsel.packs.bundle import Bundle
from codex_counsel.packs.limited_git import LimitedGit, invalid
from codex_counsel.system.files import write_atomically

MAX_SHALLOW = 1_000_000
"""Commits without parents that a pack may list."""
MAX_COMMIT = 10_000_000
"""Bytes of one of those commits, whose parents are looked at."""
MAX_LOOSE_PACKS = 40
"""Packs of git beside those of its common index, above which that index is written again."""


def take_in(git: LimitedGit, file: Path, shallow: Iterable[str], draft: Path) -> None:
    """Add the objects of a bundle to the repository. `draft` is the path of a file that it may write meanwhile.

    What a commit or tree refers to must be there, but the parents of a commit of `shallow`.
    Raises `pack_invalid`, `timeout`, `storage_failed` and OSError.
    """
    shallow = checked(shallow)
    cut_off = git.directory / "shallow"
    earlier = _commits_in(cut_off)
    trial = git.directory / "shallow-of-a-pack"
    draft.unlink(missing_ok=True)
    try:
        write_atomically(trial, _as_lines(earlier | shallow))
        Bundle.read(file).write_pack(draft)
        faults = ",".join(f"{fault}=warn" for fault in HARMLESS_FAULTS)
        git.run(
            "index-pack",
            "--stdin",
            "--fix-thin",
            f"--strict={faults}",
            stdin=draft,
            variables={"GIT_SHALLOW_FILE": str(trial)},
        )
    finally:
        draft.unlink(missing_ok=True)
        trial.unlink(missing_ok=True)
        _remove_drafts_of_packs(git)
    remaining = _without_parents(git, earlier | shallow)
    if remaining:
        write_atomically(cut_off, _as_lines(remaining))
    else:
        cut_off.unlink(missing_ok=True)
    _index_packs(git)


def _remove_drafts_of_packs(git: LimitedGit) -> None:
    """Remove what a git leaves that reached its limit, or was killed."""
    for folder in (git.directory / "objects/pack", git.directory / "objects"):
        for path in folder.glob("tmp_*"):
            path.unlink(missing_ok=True)


def _without_parents(git: LimitedGit, commits: set[str]) -> set[str]:
    """Those of which not all parents are in the repository. A commit that is not there itself is left out."""
    here = _present(git, commits)
    if not here:
        return set()
    whole = git.directory / "not-shallow"
    try:
        whole.write_bytes(b"")
        listing = git.run(
            "rev-list",
            "--no-walk=unsorted",
            "--parents",
            "--stdin",
            stdin=_as_lines(here),
            variables={"GIT_SHALLOW_FILE": str(whole)},
        )
    finally:
        whole.unlink(missing_ok=True)
    parents: dict[str, list[str]] = {}
    for line in listing.decode("ascii").splitlines():
        commit, *parents[commit] = line.split()
    present = _present(git, set().union(*parents.values()))
    return {
        commit for commit, names in parents.items() if not present.issuperset(names)
    }


def _present(git: LimitedGit, names: set[str]) -> set[str]:
    """Those that are commits of the repository. Raises `pack_invalid` for one of a size that none has."""
    if not names:
        return set()
    listing = git.run("cat-file", "--batch-check", stdin=_as_lines(names))
    found = set()
    for line in listing.decode().splitlines():
        name, _, about = line.partition(" ")
        kind, _, size = about.partition(" ")
        if kind != "commit":
            continue
        if int(size) > MAX_COMMIT:
            raise invalid(f"has a commit of more than {MAX_COMMIT:,} bytes")
        found.add(name)
    return found


def _index_packs(git: LimitedGit) -> None:
    """Now and then write a common index of all packs: a process of git opens each of them otherwise."""
    folder = git.directory / "objects/pack"
    common = folder / "multi-pack-index"
    written = common.stat().st_mtime if common.exists() else 0.0
    newer = [pack for pack in folder.glob("*.pack") if pack.stat().st_mtime >= written]
    if len(newer) > MAX_LOOSE_PACKS:
        git.run("multi-pack-index", "write")


def _commits_in(file: Path) -> set[str]:
    if not file.exists():
        return set()
    return set(file.read_text("ascii").split())


def checked(names: Iterable[str]) -> set[str]:
    """The ids of commits. Raises `pack_invalid` for what is none."""
    commits = set(names)
    is_valid = all(refs.SHA.fullmatch(name) for name in commits)
    if not is_valid or len(commits) > MAX_SHALLOW:
        raise invalid("names commits by something else than their ids")
    return commits


def _as_lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode("ascii")
