"""Where two attempts agree: the patches of real trees that began with the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.attempts import agreement
from codex_counsel.attempts.agreement import agreements, changes_of, names_of
from codex_counsel.contract.envelope import Agreement
from codex_counsel.delegate.record import DelegateResult
from tests.git.delegate.conftest import UserRepository

SAME = {
    "changes a file": "echo more >> app.py",
    "adds a file": "echo new > new.txt",
    "deletes a file": "rm app.py",
    "renames a file": "mv app.py lib.py",
    "renames and changes a file": "mv app.py lib.py; echo more >> lib.py",
    "changes a binary": r"printf '\0\377' >> logo.png",
    "makes executable": "chmod +x app.py",
    "turns a file into a link": "ln -sf docs/readme.md app.py",
    "turns a file into a folder": "rm app.py; mkdir app.py; echo x > app.py/m",
    "writes odd names": "echo > $'caf\\xe9'; echo > $'new\\nline'; echo > '\"q'; mkdir ' b'; echo > ' b/x'",
    "adds a diff of its own": "printf 'diff --git a/x b/x\\n+diff --git a/x b/x\\n' > x.txt",
}


def attempt(repository: UserRepository, command: str) -> tuple[Path, DelegateResult]:
    """The patch and the result of an attempt that ran this command in a tree of its own."""
    seeded = repository.seed()
    seeded.run(command)
    return seeded.store / "diff.patch", seeded.work()


def compare(repository: UserRepository, command: str, other: str) -> list[Agreement]:
    patch, result = attempt(repository, command)
    other_patch, _ = attempt(repository, other)
    own, theirs = changes_of(patch), changes_of(other_patch)
    assert own is not None
    assert theirs is not None
    return agreements(own, names_of(result), {2: theirs})


@pytest.mark.parametrize("command", SAME.values(), ids=SAME)
def test_attempts_that_did_the_same_agree_about_every_file_of_it(
    repository: UserRepository, command: str
) -> None:
    _, result = attempt(repository, command)
    (found,) = compare(repository, command, command)
    assert found.all
    assert sorted(found.files) == sorted(row["path"] for row in result.files)


def test_attempts_agree_about_the_files_that_both_left_alike_and_no_others(
    repository: UserRepository,
) -> None:
    found = compare(
        repository,
        "echo new > new.txt; echo mine >> app.py; echo only > only.txt",
        "echo new > new.txt; echo other >> app.py",
    )
    assert found == [Agreement(attempt=2, files=["new.txt"], all=False)]


def test_attempts_that_share_no_change_do_not_agree(repository: UserRepository) -> None:
    assert compare(repository, "echo 1 > a", "echo 2 > a") == []


def test_the_same_content_with_another_mode_is_another_change(
    repository: UserRepository,
) -> None:
    assert compare(repository, "echo 1 > a", "echo 1 > a; chmod +x a") == []


def test_a_patch_that_cannot_be_read_or_is_too_long_agrees_with_none(
    repository: UserRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changes_of(tmp_path / "none") is None
    assert changes_of(tmp_path) is None
    patch, _ = attempt(repository, "echo 1 > a")
    monkeypatch.setattr(agreement, "MAX_PATCH", 10)
    assert changes_of(patch) is None
