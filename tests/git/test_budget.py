"""The budget goes to files: small ones whole, big ones by hunks, generated ones last, and the rest is listed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codex_counsel.git.names import diff_header
from codex_counsel.review.changes.budget import (
    FLOOR,
    SLACK,
    Piece,
    Pool,
    cut_to_fit,
    rank,
)
from codex_counsel.review.changes.diff_stream import DiffStream
from codex_counsel.review.changes.model import Reason, Scope

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.git.conftest import Project


def text(size: int, word: str = "line") -> str:
    return f"{word} of some text\n" * (size // (len(word) + 14))


def test_lock_file_does_not_hide_the_change(project: Project) -> None:
    project.write("package-lock.json", text(300_000))
    project.write("app.py", "the change\n")
    project.write("zoo.py", "another change\n")
    changes = project.gather(budget=50_000)
    assert b"+the change\n" in changes.diff
    assert b"+another change\n" in changes.diff
    assert [(left_out.path, left_out.reason) for left_out in changes.omitted] == [
        ("package-lock.json", Reason.PARTIAL)
    ]
    assert 30_000 < len(changes.diff) <= 50_000
    assert not changes.complete


def test_what_fits_is_sent_whole(project: Project) -> None:
    project.write("package-lock.json", text(30_000))
    project.write("app.py", text(30_000))
    changes = project.gather(budget=100_000)
    assert changes.complete
    assert not changes.omitted


def test_small_files_are_whole_and_big_ones_share_the_rest(project: Project) -> None:
    for name, size in {
        "a.py": 80_000,
        "b.py": 2000,
        "c.py": 80_000,
        "d.py": 2000,
    }.items():
        project.write(name, text(size))
    changes = project.gather(budget=60_000)
    assert [(left_out.path, left_out.reason) for left_out in changes.omitted] == [
        ("a.py", Reason.PARTIAL),
        ("c.py", Reason.PARTIAL),
    ]
    assert abs(changes.omitted[0].bytes - changes.omitted[1].bytes) < 100
    sent = changes.diff.count(b"\n+")
    missing = sum(left_out.bytes for left_out in changes.omitted)
    assert changes.diff.count(b"more bytes of this file are left out]\n") == 2
    assert sum(entry.bytes for entry in changes.entries) - missing == pytest.approx(
        len(changes.diff), abs=200
    )
    assert sent > 2000


def test_many_files_are_served_smallest_first(project: Project) -> None:
    for number in range(60):
        project.write(f"f{number:02}.py", text(1000 + 20 * number))
    changes = project.gather(budget=20_000)
    left_out = {entry.path for entry in changes.omitted}
    assert left_out == {f"f{number:02}.py" for number in range(60 - len(left_out), 60)}
    assert {entry.reason for entry in changes.omitted} <= {
        Reason.BUDGET,
        Reason.PARTIAL,
    }
    assert 15_000 < len(changes.diff) <= 20_000


def test_big_change_is_cut_between_hunks_and_lines(project: Project) -> None:
    project.write("big.txt", "".join(f"{number}\n" for number in range(20_000)))
    project.commit()
    project.write(
        "big.txt",
        "".join(f"{number}{'x' * (number % 50 == 0)}\n" for number in range(20_000)),
    )
    changes = project.gather(budget=9000)
    assert len(changes.diff) <= 9000
    assert changes.diff.split(b"\n")[-2].startswith(b"[... ")
    assert_hunks_add_up(changes.diff.rpartition(b"[... ")[0])
    project.git(
        "apply", "--check", "--reverse", "-", stdin=changes.diff.rpartition(b"[... ")[0]
    )


def assert_hunks_add_up(diff: bytes) -> None:
    for hunk in diff.split(b"\n@@ -")[1:]:
        ranges, _, body = hunk.partition(b"\n")
        old, new = (
            int(part.partition(b",")[2] or 1)
            for part in ranges.split(b" @@")[0].split(b" +")
        )
        rows = [row[:1] for row in body.rstrip(b"\n").split(b"\n")]
        assert (
            rows.count(b" ") + rows.count(b"-"),
            rows.count(b" ") + rows.count(b"+"),
        ) == (old, new)


def test_change_within_one_endless_line_is_left_out_and_listed(
    project: Project,
) -> None:
    project.write("one.json", "x" * 300_000)
    project.commit()
    project.write("one.json", "y" * 300_000)
    project.write("app.py", "changed\n")
    changes = project.gather(budget=10_000)
    assert [(left_out.path, left_out.reason) for left_out in changes.omitted] == [
        ("one.json", Reason.BUDGET)
    ]
    assert b"one.json" not in changes.diff


def test_cut_of_a_hunk_that_was_not_read_to_its_end_adds_up() -> None:
    text = (
        b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,900 +1,900 @@\n"
        + b" line\n" * 100
        + b" li"
    )
    part, missing = cut_to_fit(text, 100_000, 90_000)
    assert_hunks_add_up(part.rpartition(b"[... ")[0])
    assert (part.count(b" line\n"), missing) == (100, 100_000 - len(text) + 3)


def test_audited_file_is_cut_between_lines(project: Project) -> None:
    project.write("app.py", text(30_000))
    changes = project.gather(Scope("files", paths=("app.py",)), budget=9000)
    lines = changes.diff.split(b"\n")[:-1]
    assert lines[0].startswith(b"=== app.py (")
    assert all(line.endswith(b"of some text") for line in lines[1:-1])
    assert [left_out.reason for left_out in changes.omitted] == [Reason.PARTIAL]


def test_one_endless_line_is_left_out_and_listed(project: Project) -> None:
    project.write("app.min.js", "x" * 300_000)
    project.write("app.py", "changed\n")
    changes = project.gather(budget=10_000)
    assert [(left_out.path, left_out.reason) for left_out in changes.omitted] == [
        ("app.min.js", Reason.BUDGET)
    ]
    assert b"+changed\n" in changes.diff


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("src/app.py", "x = 1\n", 0),
        ("package-lock.json", "{}\n", 1),
        ("poetry.lock", "\n", 1),
        ("vendor/x/a.go", "\n", 1),
        ("web/dist/app.js", "\n", 1),
        ("distance/app.py", "\n", 0),
        ("a.min.js", "\n", 1),
        ("a_pb2.py", "\n", 1),
        ("api.py", "# Code generated by x. DO NOT EDIT.\n", 1),
        ("api.py", "x" * 9000, 1),
        ("locksmith.py", "lock\n", 0),
    ],
)
def test_what_people_rarely_read_comes_last(
    name: str, content: str, expected: int
) -> None:
    assert rank(name.encode(), content.encode()) == expected


def test_attribute_of_generated_files_sends_them_last(project: Project) -> None:
    project.write(".gitattributes", "api.py linguist-generated\n")
    project.write("api.py", text(9000))
    project.write("app.py", text(9000))
    changes = project.gather(budget=10_000)
    assert [left_out.path for left_out in changes.omitted] == ["api.py"]


def test_pool_holds_a_few_budgets_however_much_is_offered() -> None:
    pool = Pool(20_000)
    for index in range(5000):
        pool.add(
            Piece(index, index % 2, 500 + index * 40, b"line\n" * (100 + index * 8))
        )
        kept = sum(len(piece.text) for piece in pool._pieces)
        assert kept <= SLACK * 20_000
    shares = pool.share(20_000)
    assert 10_000 < sum(len(share.text) for share in shares) <= 20_000


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_arrival_does_not_matter(order: int) -> None:
    pieces = [(index, 200 + (index * 7919) % 30_000) for index in range(300)]
    pool = Pool(30_000)
    for index, size in pieces[::order]:
        pool.add(
            Piece(
                index,
                int(index % 5 == 0),
                size,
                b"x" * 49 + b"\n" + b"line of it\n" * (size // 11),
            )
        )
    sizes = dict(pieces)
    sent = [sizes[share.piece] for share in pool.share(30_000)]
    assert sent == sorted(sent, key=sent.index)
    unsent = [size for index, size in pieces if index % 5 and size not in sent]
    assert max(size for size in sent) <= min(unsent)


def test_source_after_much_generated_code_gets_its_share() -> None:
    pool = Pool(20_000)
    for index in range(500):
        pool.add(Piece(index, 1, 1000, b"generated\n" * 100))
    pool.add(Piece(500, 0, 18_000, b"source line\n" * 1500))
    assert [(share.piece, share.missing) for share in pool.share(20_000)][-1] == (
        500,
        0,
    )


def test_cut_of_what_fits_is_the_text_itself() -> None:
    assert cut_to_fit(b"abc\n", 4, 4) == (b"abc\n", 0)


def test_floor_is_a_readable_piece() -> None:
    assert FLOOR >= 4000


def split(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def test_diff_is_read_alike_however_its_stream_is_cut(project: Project) -> None:
    project.write("app.py", "diff --git a/x b/x\n--- a\n+++ b\n@@ -1 +1 @@\n")
    project.write("a b.py", "one\n")
    (project.root / "docs/readme.md").unlink()
    (project.root / "docs/readme.md").symlink_to("nowhere")
    project.git("add", ".")
    command = ("diff", "--cached", "--raw", "--no-abbrev", "-z", "--patch", "HEAD")
    raw = project.repo().git(*command)
    readings = [
        [
            (change, bytes(found.beginning), found.size, found.added, found.deleted)
            for change, found in stream.texts()
        ]
        for stream in (
            DiffStream(split(raw, size), 1000) for size in (1, 2, 7, 13, len(raw))
        )
    ]
    assert all(reading == readings[-1] for reading in readings)
    assert [change.new for change, *_ in readings[0]] == [
        b"a b.py",
        b"app.py",
        b"docs/readme.md",
    ]
    assert readings[0][0][1].startswith(diff_header(b"a b.py", b"a b.py"))


def test_file_longer_than_the_room_is_measured_and_not_kept() -> None:
    body = b"@@ -0,0 +1,100000 @@\n" + b"+line\n" * 100_000
    head = b"diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n"
    raw = b":000000 100644 0 1 A\0x\0\0" + head + body
    ((_, found),) = DiffStream(split(raw, 4096), 1000).texts()
    assert (found.size, found.added, found.deleted) == (len(head + body), 100_000, 0)
    assert len(found.beginning) < 70_000
