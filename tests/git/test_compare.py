"""Stored diffs beside each other: which files differ, which are the same, and what cannot be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.services import comparison, diff_files
from codex_counsel.services.comparison import ComparedFile, Comparison, compare
from tests.hostile import ALL, hidden_characters
from tests.repositories import Repository, numbered_lines
from tests.tasks import Content, Tasks

FIXED = numbered_lines(l7="seven = 7")
OTHER = numbered_lines(l7="seven = 70")


@pytest.fixture
def tasks(tmp_path: Path, own_git_settings: Path) -> Tasks:
    repository = Repository(tmp_path / "repository").begin()
    repository.write("logo.bin", bytes(range(256)))
    repository.commit()
    return Tasks(repository, tmp_path / "state")


def compared(tasks: Tasks, *names: str) -> Comparison:
    return Comparison.parse(compare(tasks.store, names)["data"])


def of(tasks: Tasks, *changes: Mapping[str, Content]) -> Comparison:
    return compared(tasks, *[tasks.add(each) for each in changes])


def file(result: Comparison, path: str) -> ComparedFile:
    (found,) = [each for each in result.files if each.path == path]
    return found


def groups(compared_file: ComparedFile) -> list[list[str]]:
    return [version.labels for version in compared_file.versions]


def refused(tasks: Tasks, *names: str) -> CounselError:
    with pytest.raises(CounselError) as raised:
        compare(tasks.store, names)
    return raised.value


# --- files


def test_files_are_grouped_by_the_state_in_which_the_tasks_left_them(
    tasks: Tasks,
) -> None:
    result = of(
        tasks,
        {"app.py": FIXED, "new.py": "x = 1\n"},
        {"app.py": OTHER, "new.py": "x = 1\n"},
        {"app.py": FIXED, "new.py": "x = 1\n", "only.py": "x = 3\n"},
    )
    assert [each.path for each in result.files] == ["app.py", "new.py", "only.py"]
    assert [each.same for each in result.files] == [False, True, False]
    app = file(result, "app.py")
    assert groups(app) == [["1", "3"], ["2"]]
    assert "+seven = 7\n" in app.versions[0].diff
    assert "+seven = 70\n" in app.versions[1].diff
    assert (app.versions[0].added, app.versions[0].deleted) == (1, 1)
    only = file(result, "only.py")
    assert (groups(only), only.untouched) == ([["3"]], ["1", "2"])
    assert (result.differing, result.same) == (2, 1)
    assert [job.shared_files for job in result.jobs] == [2, 1, 2]
    assert [job.same_as for job in result.jobs] == [[], [], []]


def test_diffs_that_are_the_same_are_said_to_be(tasks: Tasks) -> None:
    result = of(tasks, {"app.py": FIXED}, {"app.py": OTHER}, {"app.py": FIXED})
    assert [job.same_as for job in result.jobs] == [["3"], [], ["1"]]


def test_two_tasks_without_a_change_are_the_same(tasks: Tasks) -> None:
    result = of(tasks, {}, {})
    assert [job.same_as for job in result.jobs] == [["2"], ["1"]]
    assert [job.diffstat for job in result.jobs] == ["0 files changed"] * 2
    assert result.files == []


def test_a_mode_alone_is_a_difference(tasks: Tasks) -> None:
    first = tasks.add({"run.sh": "echo\n"})
    directory = tasks.state / "jobs" / tasks.add({"run.sh": "echo\n"})
    patch = (directory / "diff.patch").read_bytes()
    (directory / "diff.patch").write_bytes(
        patch.replace(b"new file mode 100644", b"new file mode 100755")
    )
    result = compared(tasks, first, directory.name)
    assert groups(file(result, "run.sh")) == [["1"], ["2"]]


def test_binary_files_are_compared_and_not_shown(tasks: Tasks) -> None:
    result = of(
        tasks,
        {"logo.bin": b"\0one", "same.bin": b"\0x"},
        {"logo.bin": b"\0two", "same.bin": b"\0x"},
    )
    logo = file(result, "logo.bin")
    assert groups(logo) == [["1"], ["2"]]
    assert logo.versions[0].diff.endswith("Binary file, not shown\n")
    assert "literal" not in logo.versions[0].diff
    assert file(result, "same.bin").same


def test_renames_deletions_links_and_odd_names(tasks: Tasks) -> None:
    odd = 'a b"c\té\\.py'
    raw = os.fsdecode(b"latin-\xe9.py")
    first: dict[str, Content] = {
        "app.py": None,
        "lib/app.py": numbered_lines(),
        odd: "1\n",
        raw: "1\n",
        "docs/readme.md": Path("../app.py"),
    }
    result = of(tasks, first, {**first, odd: "2\n"})
    moved = file(result, "lib/app.py")
    assert moved.same
    assert (moved.versions[0].status, moved.versions[0].old_path) == ("R", "app.py")
    link = file(result, "docs/readme.md")
    assert (link.same, link.versions[0].status) == (True, "T")
    assert link.versions[0].diff.count("diff --git ") == 2
    assert file(result, r"latin-\xe9.py").same
    (other,) = [each for each in result.files if not each.same]
    assert groups(other) == [["1"], ["2"]]
    assert other.versions[0].diff.endswith("+1\n")


def test_content_that_looks_like_a_diff_begins_no_file(tasks: Tasks) -> None:
    forged = "diff --git a/app.py b/app.py\n@@ -1 +1 @@\n-x\n+y\n"
    result = of(tasks, {"notes": forged}, {"notes": forged + "z\n"})
    assert [each.path for each in result.files] == ["notes"]
    assert "+diff --git a/app.py b/app.py\n" in file(result, "notes").versions[0].diff
    assert [job.added for job in result.jobs] == [4, 5]


def test_tokens_are_masked_and_hidden_characters_written_out(tasks: Tasks) -> None:
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    # With a NUL git would take the file for binary.
    hostile = ALL.replace("\0", "")
    result = of(tasks, {"a.py": hostile}, {"a.py": f"token = '{token}'\n"})
    first, second = file(result, "a.py").versions
    assert hidden_characters(first.diff) <= {"\n", "\t", "\r", "\ufe0f"}
    # Nothing is dropped: a reader sees where it was.
    assert "<U+001B>" in first.diff
    assert (token in second.diff, "masked" in second.diff) == (False, True)


# --- bounds


def test_of_a_long_file_whole_lines_are_shown_and_the_rest_is_counted(
    tasks: Tasks,
) -> None:
    long = "".join(f"line_{number} = {number}\n" for number in range(20_000))
    result = of(tasks, {"long.py": long}, {"long.py": f"{long}end\n"})
    version = file(result, "long.py").versions[0]
    assert len(version.diff) <= comparison.MAX_FILE_BYTES
    assert version.diff.endswith("\n")
    assert version.omitted is not None
    patch = (tasks.state / "jobs" / ("1" * 32) / "diff.patch").stat().st_size
    left_out = int(version.omitted.removesuffix(" more bytes").replace(",", ""))
    assert len(version.diff) + left_out == patch
    assert version.added == 20_000
    assert result.notes == ["some diffs are shown in part; diff_path has all of each"]


def test_what_differs_gets_the_room_first(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison._Texts, "room", 0)
    monkeypatch.setattr(comparison, "MAX_FILES", 1)
    result = of(
        tasks,
        {"a.py": "same\n", "b.py": "1\n"},
        {"a.py": "same\n", "b.py": "2\n"},
    )
    assert [each.path for each in result.files] == ["b.py"]
    assert (result.differing, result.same) == (1, 1)
    assert "1 of 2 files are not listed" in result.notes


def test_what_was_not_read_of_a_diff_counts_as_different(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [tasks.add({"a.py": "1\n", "b.py": "2\n"}) for _ in range(2)]
    size = (tasks.state / "jobs" / names[0] / "diff.patch").stat().st_size
    monkeypatch.setattr(diff_files, "MAX_PATCH", size - 3)
    result = compared(tasks, *names)
    assert [each.same for each in result.files] == [True, False]
    assert (result.differing, result.same) == (1, 1)
    assert [job.same_as for job in result.jobs] == [[], []]
    assert file(result, "b.py").versions[0].omitted is not None
    assert "could be read" in result.notes[0]


# --- tasks


def test_a_task_of_several_attempts_stands_for_all_in_the_order_of_their_rank(
    tasks: Tasks,
) -> None:
    jobs = [tasks.add({"app.py": FIXED}), tasks.add({"app.py": OTHER})]
    lost = tasks.add(
        None,
        ok=False,
        status="failed",
        error={
            "code": "timeout",
            "message": "m",
            "repair": "r",
            "retryable": False,
        },
    )
    check = {"command": "make", "status": "passed"}
    parent = tasks.add_attempts(
        {"attempt": 2, "job_id": jobs[1], "check": check, "changed_lines": 3},
        {"attempt": 1, "job_id": jobs[0], "rank": 2, "tie": True},
        {"attempt": 3, "job_id": lost, "status": "failed", "error": "timeout"},
        {"attempt": 4, "job_id": "f" * 32, "status": "failed", "error": "cancelled"},
    )
    result = compared(tasks, parent[:6])
    assert [job.label for job in result.jobs] == ["2", "1", "3", "4"]
    assert [job.job_id for job in result.jobs] == [jobs[1], jobs[0], lost, "f" * 32]
    assert [job.problem for job in result.jobs] == [
        None,
        None,
        "it left no diff",
        "there is no record of it",
    ]
    first = result.jobs[0]
    assert first.check is not None
    assert (first.rank, first.changed_lines, first.check.command) == (1, 3, "make")
    assert groups(file(result, "app.py")) == [["2"], ["1"]]


def test_tasks_named_beside_attempts_are_numbered_in_their_order(tasks: Tasks) -> None:
    parent = tasks.add_attempts({"job_id": tasks.add({}), "attempt": 3})
    other = tasks.add({"app.py": FIXED})
    result = compared(tasks, parent, other, parent)
    assert [job.label for job in result.jobs] == ["1", "2"]


def test_tasks_that_began_with_different_files_are_compared_with_a_note(
    tasks: Tasks, tmp_path: Path
) -> None:
    first = tasks.add({"app.py": FIXED})
    tasks.repository.write("docs/readme.md", "# Other\n")
    tasks.repository.commit()
    second = tasks.add({"app.py": FIXED})
    result = compared(tasks, first, second)
    assert file(result, "app.py").same
    (note,) = result.notes
    assert note.startswith("these tasks began with different files")

    elsewhere = Tasks(Repository(tmp_path / "other").begin(), tasks.state, tasks.count)
    third = elsewhere.add({"app.py": FIXED})
    notes = compared(tasks, first, third).notes
    assert notes[0].startswith("these tasks are of different repositories: ")
    assert str(tmp_path / "other") in notes[0]


# --- what cannot be compared


def test_fewer_than_two_diffs_are_refused_with_the_reasons(tasks: Tasks) -> None:
    one = tasks.add({"app.py": FIXED})
    none = tasks.add(None)
    for names in ((one,), (one, one[:5]), (one, none)):
        error = refused(tasks, *names)
        assert error.code == Code.INVALID_ARGUMENTS
        assert "two different tasks with a diff are needed" in error.message
        assert (none in error.message) == (none in names)
        assert "codex-counsel jobs" in (error.repair or "")


def test_more_than_eight_tasks_are_refused(tasks: Tasks) -> None:
    error = refused(tasks, *[tasks.add({}) for _ in range(9)])
    assert (error.code, "9 tasks" in error.message) == (Code.INVALID_ARGUMENTS, True)


def test_what_is_no_task_or_no_job_is_refused(tasks: Tasks) -> None:
    one = tasks.add({})
    consultation = tasks.state / "jobs" / tasks.add({})
    spec = json.loads((consultation / "spec.json").read_text())
    (consultation / "spec.json").write_text(json.dumps(spec | {"delegate": None}))
    error = refused(tasks, one, consultation.name)
    assert (error.code, "is no delegated task" in error.message) == (
        Code.INVALID_ARGUMENTS,
        True,
    )
    assert refused(tasks, one, "e" * 32).code == Code.JOB_NOT_FOUND
    assert refused(tasks, one, "eeee").code == Code.JOB_NOT_FOUND
    assert refused(tasks, one, "../x").code == Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    ("name", "content"), [("result.json", "{}"), ("spec.json", "[]")]
)
def test_a_damaged_record_is_named(tasks: Tasks, name: str, content: str) -> None:
    jobs = [tasks.add({}), tasks.add({})]
    (tasks.state / "jobs" / jobs[1] / name).write_text(content)
    error = refused(tasks, *jobs)
    assert (error.code, jobs[1] in error.message) == (Code.JOB_CORRUPT, True)


def test_the_envelope_holds_it_all_and_is_read_back(tasks: Tasks) -> None:
    jobs = [tasks.add({"app.py": FIXED}), tasks.add({"app.py": OTHER})]
    wire: dict[str, Any] = compare(tasks.store, jobs)
    assert wire["tool"] == "codex-counsel compare"
    assert wire["summary"] == "2 tasks, 1 changed file: 0 the same in all, 1 different"
    again = json.loads(json.dumps(wire))["data"]
    assert Comparison.parse(again) == compared(tasks, *jobs)
    with pytest.raises(ValueError, match=r"data\.jobs is missing"):
        Comparison.parse({})
