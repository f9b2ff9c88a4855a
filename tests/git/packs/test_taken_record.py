"""The record of a review is taken by another machine as the review here has stored it, whatever was reviewed."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from codex_counsel.git.repo import Repo
from codex_counsel.packs.result import REVIEW_FIELDS
from codex_counsel.packs.review_record import local_record
from codex_counsel.review.changes.changes import gather
from codex_counsel.review.changes.model import Scope
from codex_counsel.review.record import ReviewRecord
from tests.conftest import World
from tests.repositories import Repository

pytestmark = pytest.mark.usefixtures("own_git_settings")
SCOPES: dict[str, dict[str, Any]] = {
    "working_tree": {},
    "staged": {},
    "branch": {"base": "HEAD~1"},
    "commit": {},
    "range": {"range": "HEAD~1..HEAD"},
    "files": {"paths": ("src",)},
}


def of_each_kind(repository: Repository) -> None:
    """One commit, and on it a change of each kind: committed as a second one, staged, and not."""
    repository.init()
    for name in ("changed", "deleted", "renamed", "mode", "kind"):
        repository.write(f"src/{name}.py", f"{name} = 1\n" * 20)
    repository.write("src/image.bin", bytes(range(256)))
    repository.commit("begin")
    change(repository, "committed")
    repository.commit("all kinds")
    change(repository, "staged")
    repository.git("add", "--all")
    change(repository, "uncommitted")


def change(repository: Repository, word: str) -> None:
    root = repository.root / "src"
    repository.write("src/changed.py", f"{word} = 1\n" * 20)
    repository.write(b"src/caf\xe9 " + word.encode(), f"{word}\n")
    repository.write("src/image.bin", b"\0" + word.encode())
    mode = root / "mode.py"
    mode.chmod(mode.stat().st_mode ^ 0o111)
    if (root / "deleted.py").exists():
        (root / "deleted.py").unlink()
        (root / "renamed.py").rename(root / "new name.py")
        (root / "kind.py").unlink()
        (root / "kind.py").symlink_to("changed.py")


def assert_taken_as_it_is(world: World, kind: str) -> None:
    """Store the record of a review, and read it as whoever takes the result does."""
    repo = Repo.open(world.workspace, env=os.environ)
    scope = Scope(kind=kind, **SCOPES[kind])  # type: ignore[arg-type]
    changes = gather(repo, scope, 100_000)
    record = ReviewRecord.of_changes(repo, changes)
    stored = json.loads(json.dumps(record.to_json()))
    travelled = {name: stored.get(name) for name in REVIEW_FIELDS}
    taken = local_record(travelled, str(world.workspace), None)
    assert changes.entries
    assert taken.changes().entries == changes.entries
    again = json.loads(json.dumps(taken.to_json()))
    assert {name: again.get(name) for name in REVIEW_FIELDS} == travelled


@pytest.mark.parametrize("kind", SCOPES)
def test_the_record_of_every_scope_is_taken_as_it_is(world: World, kind: str) -> None:
    of_each_kind(Repository(world.workspace))
    assert_taken_as_it_is(world, kind)


@pytest.mark.parametrize("kind", ["working_tree", "files"])
def test_the_record_of_a_conflict_is_taken_as_it_is(world: World, kind: str) -> None:
    repository = Repository(world.workspace).begin()
    for branch, word in (("other", "one"), ("main", "two")):
        repository.git("checkout", "--quiet", "-B", branch, "main")
        repository.write("src/app.py", f"{word} = 1\n")
        repository.commit(word)
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "--quiet", "other")
    assert_taken_as_it_is(world, kind)
