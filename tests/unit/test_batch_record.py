"""The directory of a batch: what it holds after every way to end, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.batch.directory import REPOSITORIES
from codex_counsel.batch.model import Ended
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.batch.totals import Totals
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import JsonObject
from tests.unit.batches import answer, begun, failure, items


def results(directory: Path) -> list[JsonObject]:
    text = (directory / "results.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def end(record: Record, number: int, envelope: JsonObject) -> None:
    item = list(record.items())[number]
    record.add_results([Ended(item, envelope)])


def refused(directory: Path) -> CounselError:
    with pytest.raises(CounselError) as error:
        Record.open(directory)
    return error.value


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "batch"


def test_a_resumed_batch_has_its_items_options_results_and_places(
    directory: Path,
) -> None:
    options = BatchOptions(
        jobs=3,
        cluster="tcp://a:1",
        max_tokens=5,
        max_failures=6,
        fail_on="low",
        new_only=True,
    )
    with Record.create(directory) as record:
        record.begin(items(record, 3), options)
        end(record, 1, answer("Später.\u2028", 7))
        end(record, 2, failure(Code.TIMEOUT))
        record.note_place("item-0", "node-a")
        record.note_place("item-0", "node-b")
        record.note_place("item-1", "node-a")
        record.forget_place("item-1")
        expected = list(record.items()), list(record.results()), record.id

    with Record.open(directory) as again:
        assert (list(again.items()), list(again.results()), again.id) == expected
        assert again.options == options
        assert again.totals == Totals(ended=2, failed=1, tokens=7)
        assert [again.has_ended(f"item-{n}") for n in range(3)] == [False, True, True]
        assert (again.place_of("item-0"), again.place_of("item-1")) == ("node-b", None)
    assert len((directory / "results.jsonl").read_bytes().splitlines()) == 2


def test_the_directory_is_closed_to_others_and_ignored_by_git(directory: Path) -> None:
    begun(directory).close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in directory.iterdir()} == {0}
    assert (directory / ".gitignore").read_text("utf-8") == "*\n"


@pytest.mark.parametrize("torn", [b'{"id": "item-1", "ok": tr', b"\0" * 5000, b"{"])
def test_a_torn_last_line_is_cut_off(directory: Path, torn: bytes) -> None:
    with begun(directory) as record:
        end(record, 0, answer())
    with (directory / "results.jsonl").open("ab") as file:
        file.write(torn)

    with Record.open(directory) as again:
        assert not again.has_ended("item-1")
        end(again, 1, answer())
    assert [row["id"] for row in results(directory)] == ["item-0", "item-1"]


def test_no_item_has_two_lines(directory: Path) -> None:
    with begun(directory) as record:
        end(record, 0, answer("First."))
        end(record, 0, answer("Second."))
        end(record, 0, failure(Code.WORKER_LOST))
    assert [row["summary"] for row in results(directory)] == ["First."]


def test_a_result_takes_the_place_of_one_that_was_lost(directory: Path) -> None:
    with begun(directory) as record:
        end(record, 0, failure(Code.WORKER_LOST))
        end(record, 1, answer())
        end(record, 0, failure(Code.PROCESS_DIED))
        assert record.lost == {"item-0"}
        end(record, 0, answer("Found."))
        assert (record.lost, record.totals) == (set(), Totals(ended=2, tokens=20))
    assert [row["id"] for row in results(directory)] == ["item-1", "item-0"]


def test_forgotten_lost_items_have_neither_a_result_nor_a_place(
    directory: Path,
) -> None:
    with begun(directory) as record:
        record.note_place("item-0", "node-a")
        end(record, 0, failure(Code.WORKER_LOST))
        end(record, 1, failure(Code.TIMEOUT))
        assert record.retried("lost") == {"item-0"}
        record.forget("lost")
    with Record.open(directory) as again:
        assert again.place_of("item-0") is None
        assert [again.has_ended(f"item-{n}") for n in range(2)] == [False, True]
        assert again.totals == Totals(ended=1, failed=1)


def test_forgotten_failed_items_are_all_but_answers_and_what_has_nothing_to_review(
    directory: Path,
) -> None:
    codes = (Code.TIMEOUT, Code.WORKER_LOST, Code.PACK_INVALID, Code.CANCELLED)
    with begun(directory, len(codes) + 2) as record:
        for number, code in enumerate(codes):
            record.note_place(f"item-{number}", "node-a")
            end(record, number, failure(code))
        end(record, len(codes), answer())
        end(record, len(codes) + 1, failure(Code.NOTHING_TO_REVIEW))
    with Record.open(directory) as again:
        again.forget("failed")
        assert again.retried("failed") == set()
        assert again.totals == Totals(ended=2, tokens=10)
    with Record.open(directory) as again:
        found = [again.has_ended(f"item-{n}") for n in range(len(codes) + 2)]
        assert found == [False] * len(codes) + [True, True]
        assert again.place_of("item-0") is None


def test_a_second_process_for_the_same_batch_is_refused_by_name(
    directory: Path,
) -> None:
    with begun(directory):
        error = refused(directory)
        assert (error.code, str(directory) in error.message) == (
            Code.SESSION_BUSY,
            True,
        )
        with pytest.raises(CounselError, match="has a batch already"):
            Record.create(directory)
    Record.open(directory).close()


def test_a_batch_that_was_not_begun_can_be_begun_in_its_directory(
    directory: Path,
) -> None:
    record = Record.create(directory)
    twice = [*items(record, 2), *items(record, 1)]
    with record, pytest.raises(CounselError, match="item-0 comes twice"):
        record.begin(twice, BatchOptions())
    assert refused(directory).code == Code.INVALID_ARGUMENTS
    begun(directory).close()
    Record.open(directory).close()


@pytest.mark.parametrize("clones", [[], ["shop-1"]])
def test_of_a_batch_that_was_not_begun_only_clones_stay_and_they_are_used_later(
    directory: Path, clones: list[str]
) -> None:
    record = Record.create(directory)
    repositories = directory / REPOSITORIES
    repositories.mkdir()
    (repositories / ".shop-1.lock").touch()
    for name in clones:
        (repositories / name).mkdir()
    record.discard()
    assert directory.exists() == bool(clones)
    begun(directory).close()
    for name in clones:
        assert (repositories / name).is_dir()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_batch_whose_begin_met_a_full_disk_can_be_begun_in_its_directory(
    directory: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    real = os.fsync
    steps = iter(range(1, 9))

    def fsync(descriptor: int) -> None:
        if next(steps) == step:
            raise OSError(28, "No space left on device")
        real(descriptor)

    record = Record.create(directory)
    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(CounselError) as error:
        record.begin(items(record, 1), BatchOptions())
    monkeypatch.undo()
    record.discard()
    assert "--output-dir" in (error.value.repair or "")
    assert not directory.exists()
    begun(directory).close()


def test_where_no_directory_can_be_made_another_one_is_to_be_named() -> None:
    with pytest.raises(CounselError) as error:
        Record.create(Path("/proc/batch"))
    assert error.value.code == Code.STORAGE_FAILED
    assert "--output-dir" in (error.value.repair or "")


def test_a_directory_that_could_not_be_taken_is_not_left_behind(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("codex_counsel.batch.directory.write_atomically", full)
    with pytest.raises(CounselError, match="No space left"):
        Record.create(directory)
    assert not directory.exists()


def test_a_batch_without_a_request_is_refused(directory: Path) -> None:
    with Record.create(directory) as record, pytest.raises(CounselError) as error:
        record.begin([], BatchOptions())
    assert error.value.code == Code.INVALID_ARGUMENTS


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x", "utf-8")
    with pytest.raises(CounselError, match="is not empty"):
        Record.create(tmp_path)
    assert not (tmp_path / "lock").exists()


def test_a_directory_that_cannot_be_looked_into_is_refused_by_name(
    tmp_path: Path,
) -> None:
    directory = tmp_path / ("x" * 300)
    with pytest.raises(CounselError) as caught:
        Record.open(directory)
    assert caught.value.code == Code.STORAGE_FAILED
    assert "cannot be looked into" in caught.value.message


def test_a_directory_that_others_may_write_is_refused(directory: Path) -> None:
    begun(directory).close()
    directory.chmod(0o777)
    assert "written by other users" in refused(directory).message


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"format": 2}, "a newer release"),
        ({"format": 0}, "an older release"),
        ({"items": "3"}, "is damaged"),
        ({"options": {"jobs": "3"}}, "options.jobs"),
    ],
)
def test_another_format_is_refused_by_name(
    directory: Path, header: JsonObject, words: str
) -> None:
    begun(directory).close()
    path = directory / "batch.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **header}), "utf-8")
    error = refused(directory)
    assert (error.code, words in error.message) == (Code.INVALID_ARGUMENTS, True)
    # The lock is free again.
    path.unlink()
    begun_again = Record.create(directory)
    begun_again.close()


@pytest.mark.parametrize("line", ["no json", "[]", '{"id": 5}', '{"ok": true}'])
def test_a_damaged_line_in_the_middle_is_refused_by_name(
    directory: Path, line: str
) -> None:
    with begun(directory) as record:
        end(record, 0, answer())
    path = directory / "results.jsonl"
    path.write_text(f"{line}\n{path.read_text('utf-8')}", "utf-8")
    error = refused(directory)
    assert (error.code, "results.jsonl is damaged" in error.message) == (
        Code.STORAGE_FAILED,
        True,
    )


@pytest.mark.parametrize("left", [0, 1])
def test_requests_that_are_missing_are_not_taken_for_asked(
    directory: Path, left: int
) -> None:
    begun(directory).close()
    path = directory / "requests.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:left]), "utf-8")
    with Record.open(directory) as again, pytest.raises(CounselError) as error:
        list(again.items())
    assert error.value.code == Code.STORAGE_FAILED
    assert f"{left} of the {len(lines)} requests" in error.value.message


def test_options_of_a_resume_hold_for_the_next_one(directory: Path) -> None:
    with begun(directory) as record:
        record.with_options(BatchOptions(max_tokens=9))
    with Record.open(directory) as again:
        assert again.options == BatchOptions(max_tokens=9)


def test_a_disk_without_room_takes_back_the_partial_line(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(directory) as record:
        end(record, 0, answer())
        before = (directory / "results.jsonl").read_bytes()
        real = os.pwrite

        def half(descriptor: int, data: Any, offset: int) -> int:
            if len(data) < 50:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[: len(data) // 2], offset)

        monkeypatch.setattr("os.pwrite", half)
        with pytest.raises(CounselError) as error:
            end(record, 1, answer("x" * 10_000))
        assert error.value.code == Code.STORAGE_FAILED
        assert (directory / "results.jsonl").read_bytes() == before
        monkeypatch.undo()
        end(record, 1, answer())
    assert [row["id"] for row in results(directory)] == ["item-0", "item-1"]
