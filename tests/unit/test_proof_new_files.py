"""What a prover may leave in its tree: new test files that stand in for nothing else."""

from __future__ import annotations

import pytest

from codex_counsel.proof.new_files import MAX_FILES, MAX_PATCH, NewFile, objection

PRESENT = (b"src/app.py", b"tests/test_app.py", b"lib/util.js", b"pkg/__init__.py")


def added(name: str, mode: str = "100644", *, is_text: bool = True) -> NewFile:
    return NewFile(name.encode(), "A", mode, is_text)


TESTS = (
    "test_mean.py",
    "tests/mean_test.py",
    "tests/test_über.py",
    "lib/util.test.js",
    "lib/util.spec.ts",
    "pkg/mean_test.go",
    "src/test/java/MeanTest.java",
    "proof.sh",
)


@pytest.mark.parametrize("name", TESTS)
def test_a_new_test_is_taken(name: str) -> None:
    assert objection([added(name)], 500, PRESENT) == ""


STANDS_IN = "does not have the name of a test, and could stand in for something else"
SAME_NAME = "has the name of another file, and could stand in for it"
LOADED = "is not part of a test: other programs read or load it"
REFUSED = {
    "requests.py": STANDS_IN,
    "testing.py": STANDS_IN,
    "pytest.py": STANDS_IN,
    "unittest.py": STANDS_IN,
    "data.json": STANDS_IN,
    "pkg/test/helper.py": STANDS_IN,
    "test.py": STANDS_IN,
    "Test_App.py": SAME_NAME,
    "other/test_app.py": SAME_NAME,
    "tests/__init__.py": STANDS_IN,
    "tests/conftest.py": LOADED,
    "sitecustomize.py": LOADED,
    "usercustomize.py": LOADED,
    "test_a.pth": LOADED,
    "test_a.so": LOADED,
    "test_a.pyc": LOADED,
    "pytest.ini": LOADED,
    "pyproject.toml": LOADED,
    "setup.cfg": LOADED,
    "test/package.json": LOADED,
    "jest.config.js": LOADED,
    "node_modules/test/index.js": LOADED,
    ".venv/test_a.py": LOADED,
    ".github/workflows/test.yml": LOADED,
    "AGENTS.md": LOADED,
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED.keys())
def test_a_file_that_could_stand_in_for_another_is_refused(
    name: str, reason: str
) -> None:
    files = [added("test_mean.py"), added(name)]
    assert objection(files, 500, PRESENT) == f"{name} {reason}"


@pytest.mark.parametrize("status", ["M", "D", "R", "T"])
def test_a_test_that_changes_a_file_is_refused(status: str) -> None:
    files = [added("test_mean.py"), NewFile(b"src/app.py", status, "100644", True)]
    assert (
        objection(files, 500, PRESENT)
        == "the test changes what it is to test: src/app.py"
    )


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_a_link_is_refused(mode: str) -> None:
    assert (
        objection([added("test_a.py", mode)], 9, PRESENT) == "test_a.py is no text file"
    )


def test_a_binary_file_is_refused() -> None:
    file = added("test_a.py", is_text=False)
    assert objection([file], 9, PRESENT) == "test_a.py is no text file"


def test_a_test_is_small() -> None:
    reason = f"the test is too large: more than {MAX_FILES} files or {MAX_PATCH} bytes"
    assert objection([added("test_a.py")], MAX_PATCH, ()) == ""
    assert objection([added("test_a.py")], MAX_PATCH + 1, ()) == reason
    many = [added(f"test_{number}.py") for number in range(MAX_FILES + 1)]
    assert objection(many[:-1], 9, ()) == ""
    assert objection(many, 9, ()) == reason


def test_no_files_are_no_test() -> None:
    assert objection([], 0, PRESENT) == "no test was written"
