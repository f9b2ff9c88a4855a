"""A state directory that other users may write holds no jobs: whoever plants one there is neither read nor obeyed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.store import Store
from tests.e2e.jobs.conftest import JobFactory

JOB_ID = "0" * 32


def _group_may_write(state: Path) -> None:
    state.chmod(0o770)


def _everybody_may_write_to_the_jobs(state: Path) -> None:
    (state / "jobs").chmod(0o1777)


def _jobs_is_a_link(state: Path) -> None:
    elsewhere = state.with_name("elsewhere")
    (state / "jobs").rename(elsewhere)
    (state / "jobs").symlink_to(elsewhere)


def _keys_is_a_link(state: Path) -> None:
    elsewhere = state.with_name("elsewhere")
    (state / "keys").rename(elsewhere)
    (state / "keys").symlink_to(elsewhere)


def _jobs_is_a_dangling_link(state: Path) -> None:
    (state / "jobs").rename(state / "moved")
    (state / "jobs").symlink_to(state / "absent")


def _belongs_to_another_user(state: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a directory away")
    os.chown(state, 65534, 65534)


def _tombstones_belong_to_another_user(state: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a directory away")
    os.chown(state / "gone", 65534, 65534)


UNSAFE = (
    _group_may_write,
    _everybody_may_write_to_the_jobs,
    _jobs_is_a_link,
    _keys_is_a_link,
    _jobs_is_a_dangling_link,
    _belongs_to_another_user,
    _tombstones_belong_to_another_user,
)


@pytest.mark.parametrize("spoil", UNSAFE)
def test_a_state_directory_that_others_may_write_is_refused_by_launch_and_by_readers(
    factory: JobFactory, spoil: Callable[[Path], None]
) -> None:
    store = factory.store
    store.prepare()
    spoil(store.state)
    uses: tuple[Callable[[], object], ...] = (
        factory.launch,
        store.prepare,
        store.rows,
        lambda: list(store.jobs()),
        lambda: store.job(JOB_ID),
        lambda: store.ended_delegate(JOB_ID),
    )
    for use in uses:
        with pytest.raises(CounselError) as refusal:
            use()
        error = refusal.value
        assert error.code == Code.STORAGE_FAILED
        assert str(store.state) in error.message
        assert "CODEX_COUNSEL_STATE_DIR" in (error.repair or "")


def test_a_state_directory_may_be_a_link_to_a_safe_one(factory: JobFactory) -> None:
    real = factory.store.state.with_name("real-state")
    real.mkdir()
    linked = factory.store.state.with_name("linked-state")
    linked.symlink_to(real)
    Store(linked).prepare()
    assert list(Store(linked).jobs()) == []


def test_the_directories_are_private_whatever_the_umask(factory: JobFactory) -> None:
    before = os.umask(0)
    try:
        factory.store.prepare()
    finally:
        os.umask(before)
    made = [factory.store.state, *factory.store.state.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}


def test_without_a_state_directory_there_are_no_jobs(factory: JobFactory) -> None:
    store = Store(factory.store.state / "absent")
    assert store.rows() == []
