"""Tree objects that proofs are run on: a file found by the path that a finding names, and replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.delegate.shadow import Shadow
from codex_counsel.kind import CommandRun
from codex_counsel.proof import tree_objects
from codex_counsel.proof.judgement import Observation
from codex_counsel.proof.runs import observe
from tests.repositories import Repository

pytestmark = pytest.mark.usefixtures("own_git_settings")


@pytest.fixture
def shadow(tmp_path: Path) -> Shadow:
    """Of a repository with files, a folder, a link, and names that are hard to write."""
    repository = Repository(tmp_path / "repository").init()
    repository.write("app.py", "x = 1\n", mode=0o755)
    repository.write("pkg/über.py", "y = 1\n")
    repository.write(b"pkg/\xff.py", "z = 1\n")
    repository.write("pkg/*.py", "star = 1\n")
    (repository.root / "link.py").symlink_to("app.py")
    repository.commit()
    return Shadow.create(repository.repo(), tmp_path / "shadow", repository.head)


def tree_of(shadow: Shadow) -> str:
    return shadow.git("rev-parse", "HEAD^{tree}").decode().strip()


@pytest.mark.parametrize("path", ["app.py", "pkg/über.py", "pkg/\udcff.py", "pkg/*.py"])
def test_a_file_is_found_and_replaced_and_keeps_its_mode(
    shadow: Shadow, path: str
) -> None:
    tree = tree_of(shadow)
    file = tree_objects.find_file(shadow, tree, path)
    assert file is not None
    changed = tree_objects.with_content(shadow, tree, file, b"new\n")
    after = tree_objects.find_file(shadow, changed, path)
    assert after is not None
    assert (after.mode, after.size) == (file.mode, 4)
    assert tree_objects.content_of(shadow, after) == b"new\n"
    assert tree_objects.names_of(shadow, changed) == tree_objects.names_of(shadow, tree)


NO_FILES = (
    "",
    "gone.py",
    "pkg",
    "pkg/",
    "link.py",
    "/etc/passwd",
    "../app.py",
    "pkg/../app.py",
    ":(glob)*.py",
    "--help",
    "app.py\0",
    "\ud800",
    "x" * 10_000,
)


@pytest.mark.parametrize("path", NO_FILES)
def test_what_is_no_regular_file_is_not_found(shadow: Shadow, path: str) -> None:
    assert tree_objects.find_file(shadow, tree_of(shadow), path) is None


def ran(output: str, code: int | None = 1, ended: str = "exited") -> CommandRun:
    return CommandRun("python3 test_a.py", ended, code, 0.1, output.encode())


RAISED = 'Traceback (most recent call last):\n  File "test_a.py", line 1, in <module>\n'
RUNS = {
    "passed": (ran("FAILED (failures=1)\n", 0), Observation("passed")),
    "an assertion": (
        ran(f"{RAISED}AssertionError: 1 != 2\n"),
        Observation("failed", "assertion"),
    ),
    "an exception": (
        ran(f"{RAISED}KeyError: 'x'\n"),
        Observation("failed", "KeyError"),
    ),
    "nothing said": (ran(""), Observation("failed")),
    "a signal": (ran("AssertionError\n", 139), Observation("killed")),
}


@pytest.mark.parametrize(("run", "seen"), RUNS.values(), ids=RUNS.keys())
def test_a_run_comes_to_what_its_exit_code_and_output_say(
    run: CommandRun, seen: Observation
) -> None:
    assert observe(run) == seen


UNDECIDED = {
    "an import error": (
        ran(f"{RAISED}ModuleNotFoundError: No module named 'x'\n"),
        "broken",
    ),
    "a syntax error": (
        ran('  File "test_a.py", line 1\n    def (\nSyntaxError: x\n'),
        "broken",
    ),
    "no program": (ran("sh: 1: pytestt: not found\n", 127), "not_started"),
    "no end": (ran("", None, "timeout"), "timed_out"),
    "a cancel": (ran("", None, "cancelled"), "not_run"),
    "too much": (ran("", None, "quota"), "not_run"),
    "no sandbox": (ran("", None, "unstarted"), "not_started"),
}


@pytest.mark.parametrize(("run", "result"), UNDECIDED.values(), ids=UNDECIDED.keys())
def test_a_run_that_did_not_get_to_the_end_of_its_test_decides_nothing(
    run: CommandRun, result: str
) -> None:
    seen = observe(run)
    assert seen.result == result
    assert not seen.decides
