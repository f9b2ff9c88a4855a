"""The packs of a batch on a cluster: one foundation for each repository, also after the client was started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.batch.model import Item
from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet.packing import Packing
from codex_counsel.packs import foundation
from tests.git.packs.conftest import Sender


def review(sender: Sender) -> Item:
    """A review of uncommitted work."""
    arguments = {"scope": "working_tree"}
    return Item("one", "review", arguments, sender.root, ".", "ab" * 16)


def test_a_question_about_no_repository_is_refused_in_words_that_fit_a_cluster(
    sender: Sender, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    question = Item("one", "consult", {"question": "Why?"}, plain, ".", "ab" * 16)

    with pytest.raises(CounselError) as raised:
        Packing(sender.context, tmp_path).pack(question, "a" * 32)

    assert raised.value.code is Code.NOT_A_GIT_REPO
    assert f"{plain} is in no git repository" in raised.value.message
    assert "first commit" in str(raised.value.repair)


def test_a_batch_that_is_resumed_packs_the_same_work(
    sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.write("docs/readme.md", "# Other\n")
    batch = tmp_path / "batch"
    batch.mkdir()
    first = Packing(sender.context, batch).pack(review(sender), "a" * 32)
    sender.write("docs/readme.md", "# Saved since\n")
    monkeypatch.delattr(foundation, "make")

    again = Packing(sender.context, batch).pack(review(sender), "a" * 32)

    assert again == first
