"""Many files of one commit at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.git import revision
from codex_counsel.git.revision import Content, contents, entries
from tests.repositories import Repository

pytestmark = pytest.mark.usefixtures("own_git_settings")
NAMES = (b"app.py", b"docs/readme.md", b"line\nend", b"\xff", b"-r", b"a\tb")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    begun = Repository(tmp_path / "repository").begin()
    for name in NAMES[2:]:
        begun.write(name, name)
    begun.commit()
    return begun


@pytest.mark.parametrize("few", [True, False], ids=["by name", "all listed"])
def test_entries_are_those_of_the_commit_whatever_their_names(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, few: bool
) -> None:
    if not few:
        monkeypatch.setattr(revision, "MAX_PATHS", 0)
    repository.write("later.py")
    wanted = [*NAMES, b"later.py", b"docs", b"docs/", b"", b".", b"../x", b"*"]
    found = entries(repository.repo(), "HEAD", wanted)
    assert set(found) == set(NAMES)
    assert found[b"app.py"].sha == repository.git("rev-parse", "HEAD:app.py")
    assert entries(repository.repo(), "HEAD", []) == {}


def test_contents_come_whole_or_as_their_beginning_and_never_of_a_tree(
    repository: Repository,
) -> None:
    texts = [b"", b"one", b"x\ny\0\n", b"a" * 10, b"z" * 100]
    ids = [repository.git("hash-object", "-w", "--stdin", stdin=text) for text in texts]
    tree = repository.git("rev-parse", "HEAD^{tree}")
    found = contents(repository.repo(), [*ids, *ids, tree, "0" * 40], 10)
    expected = [Content(text[:10], len(text)) for text in texts]
    assert found == dict(zip(ids, expected, strict=True))


def test_a_blob_that_goes_away_meanwhile_costs_no_other(repository: Repository) -> None:
    ids = [repository.git("rev-parse", f"HEAD:{name}") for name in ("app.py", "-r")]
    whole = revision._whole(repository.repo(), [ids[0], "0" * 40, ids[1]])
    assert list(whole) == ids
    assert whole[ids[1]] == Content(b"-r", 2)


def test_without_ids_no_content_is_asked_for(repository: Repository) -> None:
    assert contents(repository.repo(), [], 10) == {}
