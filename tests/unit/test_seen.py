"""What reviews were sent is on record for good, and nothing counts as seen that was not."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.findings import seen
from codex_counsel.findings.seen import (
    MAX_BYTES,
    MAX_REVIEWS,
    PastReview,
    ReviewLog,
    SeenStates,
    State,
    Step,
    content_of,
)
from codex_counsel.system.files import lock_file


def content(number: int, mode: str = "100644") -> str:
    return f"{mode}:{number:040x}"


ABSENT = f"000000:{'0' * 40}"


def step(old: int | str, new: int | str, path: str = "a.py", was: str = "") -> Step:
    contents = [
        value if isinstance(value, str) else content(value) for value in (old, new)
    ]
    return Step(State(was or path, contents[0]), State(path, contents[1]))


def review(number: int = 1, *sent: Step, **changes: Any) -> PastReview:
    values: dict[str, Any] = {
        "job": f"{number:032x}",
        "ended": "2026-11-22T02:30:00Z",
        "scope": "branch",
        "base": "refs/heads/main",
        "base_sha": "b" * 40,
        "head_sha": "c" * 40,
        "sent": sent or (step(1, 2),),
    }
    return PastReview(**(values | changes))


def log_in(path: Path) -> ReviewLog:
    return ReviewLog(path / "findings" / "project-1")


# --- the file


def test_reviews_are_read_as_they_were_put_oldest_first(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    assert log.read() == []
    reviews = [
        review(1, step(ABSENT, 2), step(3, 4, "caf\xe9\n", was="old name")),
        review(2, kept=(step(1, 2),), base=None, base_sha=None, head_sha=None),
        review(4, complete=True),
        review(3, step("100644:" + "1" * 64, "100755:" + "2" * 64), scope="staged"),
    ]
    for each in reviews:
        log.remember(each)
    assert log.read() == reviews


def test_the_file_is_plain_text_for_its_owner_alone(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.remember(review(1, step(1, 2, "\x1b[31m\x9b\n")))
    data = log.file.read_bytes()
    assert data.isascii()
    assert b"\x1b" not in data
    assert data.count(b"\n") == 1
    assert log.file.stat().st_mode & 0o777 == 0o600
    assert log.directory.stat().st_mode & 0o777 == 0o700


def test_a_review_that_is_concluded_twice_is_there_once(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for _ in range(2):
        log.remember(review(1))
    assert len(log.file.read_bytes().splitlines()) == 1


def line(**changes: Any) -> bytes:
    return json.dumps(review(7).to_json() | changes).encode()


ROW = ["a.py", content(1), content(2)]
DAMAGED: dict[str, bytes] = {
    "half a line": line()[:60],
    "two lines in one": line() + line(),
    "no JSON": b"nothing to see",
    "a list": b"[]",
    "bottomless": b"[" * 60_000,
    "bytes": b"\xff\xfe\x00",
    "a huge number": b"9" * 5000,
    "a job that is a path": line(job="../../etc/passwd"),
    "a job with a line end": line(job="7" * 32 + "\n"),
    "no job": line(job=None),
    "another time": line(ended="yesterday"),
    "a scope of no release": line(scope="everything"),
    "a scope that is a list": line(scope=[]),
    "a base that is a number": line(base=1),
    "a base without a name": line(base=""),
    "a short id": line(base_sha="b" * 39),
    "an id in capitals": line(head_sha="C" * 40),
    "an id of two lengths": line(head_sha="c" * 50),
    "no list of files": line(sent=None),
    "files as an object": line(sent={}),
    "a file that is a text": line(sent=["abc"]),
    "a file without a new side": line(sent=[ROW[:2]]),
    "a file with too much": line(sent=[[*ROW, "b.py", "c.py"]]),
    "one damaged file of two": line(sent=[ROW, ["a.py", content(1), None]]),
    "a path that is a number": line(sent=[[1, *ROW[1:]]]),
    "a path without a name": line(sent=[["", *ROW[1:]]]),
    "a path beyond bytes": line(sent=[["\u20ac", *ROW[1:]]]),
    "an empty content": line(sent=[["a.py", "", content(2)]]),
    "a content without a mode": line(sent=[["a.py", "1" * 40, content(2)]]),
    "a content with a blank": line(sent=[["a.py", content(1), content(2) + " "]]),
    "a content with a line end": line(sent=[["a.py", content(1), content(2) + "\n"]]),
    "a file that is there without an id": line(
        sent=[["a.py", content(1), "100644:" + "0" * 40]]
    ),
    "a file that is not there with an id": line(
        sent=[["a.py", content(1), "000000:" + "1" * 40]]
    ),
    "what was kept is damaged": line(kept=[["a.py"]]),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_line_counts_for_nothing_and_harms_no_other(
    tmp_path: Path, data: bytes
) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    with log.file.open("ab") as file:
        file.write(data + b"\n")
    log.remember(review(2))
    assert [each.job for each in log.read()] == [f"{n:032x}" for n in (1, 2)]


@pytest.mark.parametrize("end", [1, 60, -1])
def test_what_a_kill_left_of_a_line_is_cut_off(tmp_path: Path, end: int) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    with log.file.open("ab") as file:
        file.write(line()[:end])
    log.remember(review(2))
    reviews = [json.loads(row) for row in log.file.read_bytes().splitlines()]
    assert reviews == [review(1).to_json(), review(2).to_json()]


def test_a_last_line_without_its_end_is_read_and_kept(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    with log.file.open("ab") as file:
        file.write(line())
    log.remember(review(2))
    assert log.read() == [review(1), review(7), review(2)]


def test_keys_of_a_later_release_are_ignored(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    log.file.write_bytes(line(later="x") + b"\n")
    assert log.read() == [review(7)]


def test_the_newest_reviews_stay(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for number in range(MAX_REVIEWS + 5):
        log.remember(review(number))
        # As a writer that was killed leaves it.
        (log.directory / f".reviews.jsonl-{number}-1").touch()
    jobs = [int(each.job, 16) for each in log.read()]
    assert jobs == list(range(5, MAX_REVIEWS + 5))
    (log.directory / f".reviews.jsonl-{number}-1").unlink()
    assert sorted(path.name for path in log.directory.iterdir()) == [
        "ledger.jsonl",
        "lock",
        "reviews.jsonl",
    ]


def test_the_file_stays_within_its_bytes(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    steps = tuple(step(n, n + 1, f"src/module_{n}.py") for n in range(1, 20_000))
    for number in range(6):
        log.remember(review(number, *steps))
        assert log.file.stat().st_size <= MAX_BYTES
    jobs = [int(each.job, 16) for each in log.read()]
    assert jobs in ([4, 5], [3, 4, 5])


def test_of_a_review_too_large_for_the_file_the_first_files_are_on_record(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path)
    steps = tuple(step(n, n + 1, f"src/module_{n}.py") for n in range(1, 60_000))
    log.remember(review(1, *steps, kept=(step(1, 2),)))
    (found,) = log.read()
    assert found.sent == steps[: len(found.sent)]
    assert 10_000 < len(found.sent) < len(steps)
    assert found.kept == ()
    assert log.file.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_file_of_ours_is_neither_read_nor_written(
    tmp_path: Path, kind: str
) -> None:
    log = log_in(tmp_path)
    log.directory.mkdir(mode=0o700, parents=True)
    target = tmp_path / "target"
    target.write_bytes(line() + b"\n")
    if kind == "link":
        log.file.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(log.file)
    else:
        log.file.mkdir()
    assert log.read() == []
    with pytest.raises(CounselError) as caught:
        log.remember(review(1))
    assert caught.value.code is Code.STORAGE_FAILED
    assert target.read_bytes() == line() + b"\n"


def test_what_another_user_could_have_written_counts_for_nothing(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    log.directory.chmod(0o777)
    assert log.read() == []
    with pytest.raises(CounselError) as caught:
        log.remember(review(2))
    assert caught.value.code is Code.STORAGE_FAILED
    assert "chmod" in caught.value.message


def test_a_lock_that_another_process_holds_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "LOCK_PATIENCE", 0.05)
    log = log_in(tmp_path)
    log.remember(review(1))
    lock = lock_file(log.directory / "lock")
    assert lock is not None
    with pytest.raises(CounselError) as caught:
        log.remember(review(2))
    os.close(lock)
    assert caught.value.code is Code.STORAGE_FAILED
    assert len(log.read()) == 1


def test_a_disk_that_is_full_in_the_middle_of_a_line_costs_that_line_alone(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path)
    log.remember(review(1))
    size = log.file.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
        with pytest.raises(CounselError) as caught:
            log.remember(review(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.code is Code.STORAGE_FAILED
    assert log.file.stat().st_size == size
    log.remember(review(3))
    assert [int(each.job, 16) for each in log.read()] == [1, 3]


def test_the_largest_file_is_read_in_time(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    steps = tuple(step(n, n + 1, f"src/module_{n}.py") for n in range(1, 60_000))
    for number in range(3):
        log.remember(review(number, *steps))
    begin = time.process_time()
    reviews = log.read()
    states = SeenStates(reviews, "branch", "refs/heads/main", lambda _: True)
    found = sum(bool(states.seen_by(each.old, each.new)) for each in steps)
    print(f"{log.file.stat().st_size} bytes: {time.process_time() - begin:.2f} s")
    assert found == len(reviews[-1].sent)


# --- what counts as seen


def states_after(*reviews: PastReview, forward: bool = True) -> SeenStates:
    return SeenStates(reviews, "branch", "refs/heads/main", lambda _: forward)


def is_seen(states: SeenStates, wanted: Step) -> bool:
    return states.seen_by(wanted.old, wanted.new) is not None


def elsewhere(number: int, *sent: Step) -> PastReview:
    """A review of another scope: what it saw counts step by step alone."""
    return review(number, *sent, scope="commit", base=None)


def test_steps_lead_from_the_old_side_to_the_new_one() -> None:
    states = states_after(elsewhere(1, step(1, 2)), elsewhere(2, step(2, 3)))
    assert is_seen(states, step(1, 2))
    assert is_seen(states, step(2, 3))
    assert is_seen(states, step(1, 3))
    assert not is_seen(states, step(0xF, 3))
    assert not is_seen(states, step(3, 1))
    assert not is_seen(states, step(1, 3, "other.py"))
    assert not is_seen(states, step(1, content(3, "100755")))
    assert not is_seen(states, step(1, 4))


def test_a_step_may_change_the_name() -> None:
    states = states_after(
        elsewhere(1, step(1, 2)),
        elsewhere(2, step(2, 2, "b.py", was="a.py")),
        elsewhere(3, step(2, 3, "b.py")),
    )
    assert is_seen(states, step(1, 3, "b.py", was="a.py"))
    assert not is_seen(states, step(1, 3, "b.py"))
    assert not is_seen(states, step(ABSENT, 3, "b.py"))


def test_steps_in_a_circle_come_to_an_end() -> None:
    states = states_after(elsewhere(1, step(1, 2), step(2, 1)))
    assert is_seen(states, step(1, 2))
    assert not is_seen(states_after(elsewhere(1, step(1, 2), step(2, 1))), step(1, 3))


def test_a_review_against_the_same_base_counts_whatever_the_old_side_is() -> None:
    reviews = (review(1, step(1, 2)),)
    states = states_after(*reviews)
    by_steps, by_base = states.seen_by(*step(1, 2)), states.seen_by(*step(0xF, 2))
    assert by_steps is not None
    assert by_base is not None
    assert (by_steps.step_by_step, by_base.step_by_step) == (True, False)
    # A base that was moved back.
    assert not is_seen(states_after(*reviews, forward=False), step(0xF, 2))
    # A deletion takes away what the base has now.
    assert not is_seen(states_after(review(1, step(1, ABSENT))), step(0xF, ABSENT))
    for changes in (
        {"base": "refs/heads/other"},
        {"base": None},
        {"base_sha": None},
        {"scope": "range"},
    ):
        assert not is_seen(states_after(review(1, **changes)), step(0xF, 2))


def test_without_a_name_of_the_base_steps_alone_count() -> None:
    states = SeenStates([review(1, base=None)], "branch", None, lambda _: True)
    assert is_seen(states, step(1, 2))
    assert not is_seen(states, step(0xF, 2))


def test_the_review_that_was_sent_the_file_last_is_named() -> None:
    states = states_after(
        review(1, step(1, 2)),
        review(2, step(1, 2)),
        review(3, step(5, 6, "b.py"), kept=(step(1, 2),)),
    )
    found = states.seen_by(*step(1, 2))
    assert found is not None
    assert found.review.job == f"{2:032x}"
    # Its own record was dropped since.
    states = states_after(review(3, step(5, 6, "b.py"), kept=(step(1, 2),)))
    found = states.seen_by(*step(1, 2))
    assert found is not None
    assert found.review.job == f"{3:032x}"


def test_the_latest_contents_are_those_that_were_seen() -> None:
    states = states_after(
        elsewhere(1, step(1, 2)),
        elsewhere(2, step(2, 3)),
        elsewhere(3, step(0xE, 0xF)),
        elsewhere(4, step(2, ABSENT)),
        elsewhere(5, step(2, content(4, "120000"))),
    )
    assert states.latest_contents(State("a.py", content(1)), "a.py") == [
        content(3),
        content(2),
    ]
    assert states.latest_contents(State("b.py", content(1)), "b.py") == []


def test_work_for_a_hostile_record_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that comes after the limit counts as not seen."""
    monkeypatch.setattr(seen, "MAX_STEPS", 1000)
    tangle = [
        Step(State("a.py", content(a)), State("a.py", content(b)))
        for a in range(1, 100)
        for b in range(1, 100)
    ]
    states = states_after(elsewhere(1, *tangle, step(1, 2, "b.py")))
    assert not is_seen(states, step(0xFFFF, 99))
    assert is_seen(states, step(1, 2, "b.py"))
    for _ in range(20):
        states.seen_by(*step(1, 98))
        states.seen_by(State("a.py", content(1)), State("b.py", content(2)))
    assert not is_seen(states, step(1, 2, "b.py"))


def test_ancestry_is_asked_once_for_each_base_and_of_few() -> None:
    asked = []

    def is_ancestor(sha: str) -> bool:
        asked.append(sha)
        return False

    reviews = [
        review(n, step(n + 1, 0xFFF), base_sha=f"{n // 2:040x}") for n in range(100)
    ]
    states = SeenStates(reviews, "branch", "refs/heads/main", is_ancestor)
    for _ in range(3):
        assert not is_seen(states, step(0xAAA, 0xFFF))
    assert len(asked) == len(set(asked)) == seen.MAX_ANCESTRY


@pytest.mark.parametrize(
    ("mode", "object_id", "known"),
    [
        ("100644", "a" * 40, True),
        ("100755", "a" * 64, True),
        ("000000", "0" * 40, True),
        # The working tree, or a file that is only meant to be added.
        ("100644", "0" * 40, False),
        ("000000", "a" * 40, False),
        ("100644", "", False),
        ("", "", False),
        ("100644", "a" * 39, False),
    ],
)
def test_a_content_that_git_does_not_store_is_none(
    mode: str, object_id: str, known: bool
) -> None:
    assert bool(content_of(mode, object_id)) is known
