"""Findings are held against the files in the state that was reviewed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from codex_counsel.contract.vocabulary import Grounding
from codex_counsel.findings.identity import MAX_WORDS
from codex_counsel.review.changes.model import Scope
from codex_counsel.review.grounding import GroundingResult, ReviewedFiles
from codex_counsel.review.quotations import MAX_FRAGMENTS, LineRange, Quotation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.git.conftest import Project

CODE = """def add(a, b):
    return a + b


def divide(a, b):
    # no check
    return a / b


def again(a, b):
    return a / b
"""


@pytest.fixture
def reviewed_files(project: Project) -> ReviewedFiles:
    project.write("app.py", CODE)
    return ReviewedFiles(project.repo(), project.gather())


@pytest.mark.parametrize(
    ("line", "evidence", "expected"),
    [
        (2, "return a + b", ("verified", 2, None)),
        (2, "    return a + b", ("verified", 2, None)),
        (2, "return  a  +  b", ("verified", 2, None)),
        (2, "`return a + b`", ("verified", 2, None)),
        (2, "+    return a + b", ("verified", 2, None)),
        (2, "2\t    return a + b", ("verified", 2, None)),
        (2, "```python\nreturn a + b\n```", ("verified", 2, None)),
        (
            5,
            "def divide(a, b):\n    # no check\n    return a / b",
            ("verified", 5, None),
        ),
        (
            5,
            "+def divide(a, b):\n+    # no check\n+    return a / b",
            ("verified", 5, None),
        ),
        (1, "def add(a, b):\n    return a + b\n\ndef divide", ("verified", 1, None)),
        (1, "def add(a, b):\n...\ndef again(a, b):", ("verified", 1, None)),
        (40, "# no check", ("moved", 6, 6)),
        (40, "def divide(a, b):\n    # no check\n    return a / b", ("moved", 5, 7)),
        (6, "return a / b", ("moved", 7, 7)),
        (9, "return a / b", ("moved", 7, 7)),
        (10, "return a / b", ("moved", 11, 11)),
        (None, "# no check", ("moved", 6, 6)),
        (2, "return a * b", ("unverified", 2, None)),
        (2, "", ("unverified", 2, None)),
        (2, "  \n```\n", ("unverified", 2, None)),
        (2, "b", ("verified", 2, None)),
        (40, "b", ("unverified", 40, None)),
        (1, "def add(a, b):\n...\ndef nowhere", ("unverified", 1, None)),
        (7, "line 7", ("verified", 7, None)),
        (7, "-line 7\n-line 8", ("verified", 7, None)),
    ],
)
def test_evidence_is_verified_moved_or_unverified(
    reviewed_files: ReviewedFiles,
    line: int | None,
    evidence: str,
    expected: tuple[Grounding, int | None, int | None],
) -> None:
    result = reviewed_files.ground("app.py", line, None, evidence)
    assert result == GroundingResult(*expected, in_diff=True)


def test_a_quotation_of_endless_pieces_is_held_against_the_file_by_its_first_ones(
    project: Project,
) -> None:
    project.write("app.py", "e\n" * 100_000)
    files = ReviewedFiles(project.repo(), project.gather())
    evidence = "e\n...\n" * MAX_FRAGMENTS
    assert files.ground("app.py", 1, None, evidence + "nowhere").grounded == "verified"
    assert (
        files.ground("app.py", 1, None, "nowhere\n...\n" + evidence).grounded
        == "unverified"
    )


def test_of_the_places_of_a_quotation_the_one_nearest_to_the_line_counts(
    project: Project,
) -> None:
    project.write("app.py", "here\nfour\n" * 40)
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.ground("app.py", 60, None, "here\n...\nfour") == GroundingResult(
        "moved", 59, 59, in_diff=True
    )


def test_evidence_anywhere_within_the_lines_named_is_verified(
    reviewed_files: ReviewedFiles,
) -> None:
    assert reviewed_files.ground("app.py", 5, 7, "return a / b") == GroundingResult(
        "verified", 5, 7, in_diff=True
    )


def test_file_outside_the_change_is_marked(reviewed_files: ReviewedFiles) -> None:
    assert reviewed_files.ground(
        "docs/readme.md", 1, None, "# Title"
    ) == GroundingResult("verified", 1, None, in_diff=False)
    assert reviewed_files.ground("gone.py", 1, None, "anything") == GroundingResult(
        "unverified", 1, None, in_diff=False
    )


@pytest.mark.parametrize(
    "name", ["app.py", "a/app.py", "b/app.py", "./app.py", " x/..//app.py "]
)
def test_spellings_of_a_file_are_understood(
    reviewed_files: ReviewedFiles, name: str
) -> None:
    assert reviewed_files.ground(name, 2, None, "return a + b").grounded == "verified"


def test_absolute_path_and_path_from_the_workspace_are_understood(
    project: Project,
) -> None:
    project.write("docs/readme.md", "# Other title\n")
    files = ReviewedFiles(project.repo("docs"), project.gather())
    assert files.ground("readme.md", 1, None, "# Other title").in_diff
    assert files.ground(
        f"{project.root}/docs/readme.md", 1, None, "# Other title"
    ).in_diff


def test_commit_is_judged_by_its_content_and_not_by_the_disk(project: Project) -> None:
    project.write("app.py", "committed\n")
    project.commit()
    files = ReviewedFiles(project.repo(), project.gather(Scope("commit")))
    project.write("app.py", "later\n")
    assert files.lines("app.py") == ["committed"]


def test_index_is_judged_by_what_is_staged(project: Project) -> None:
    project.write("app.py", "staged\n")
    project.git("add", ".")
    files = ReviewedFiles(project.repo(), project.gather(Scope("staged")))
    project.write("app.py", "later\n")
    assert files.lines("app.py") == ["staged"]


def test_working_tree_is_judged_by_the_disk(project: Project) -> None:
    project.write("app.py", "on disk\r\n")
    project.write("new.py", "new\n")
    files = ReviewedFiles(project.repo(), project.gather())
    assert (files.lines("app.py"), files.lines("new.py")) == (["on disk"], ["new"])


def test_deleted_file_is_judged_by_what_it_was(project: Project) -> None:
    (project.root / "app.py").unlink()
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.lines("app.py") is None
    assert files.ground("app.py", 3, None, "-line 3").grounded == "verified"


def test_renamed_file_is_found_by_both_names(project: Project) -> None:
    project.git("mv", "app.py", "main.py")
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.ground("main.py", 3, None, "line 3").grounded == "verified"
    assert files.ground("app.py", 3, None, "line 3") == GroundingResult(
        "verified", 3, None, in_diff=True
    )


def test_evidence_with_a_mask_is_found(project: Project) -> None:
    token = "ghp_" + "a1B2" * 9
    project.write("app.py", f"\nkey = '{token}'\n")
    files = ReviewedFiles(project.repo(), project.gather())
    assert (
        files.ground("app.py", 2, None, "key = '[masked:github-token]'").grounded
        == "verified"
    )
    assert token not in "".join(files.lines("app.py") or ())


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_evidence_in_any_encoding_is_found(project: Project, encoding: str) -> None:
    project.write("new.txt", "eins\ngröße = 1\n".encode(encoding))
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.ground("new.txt", 2, None, "größe = 1").grounded == "verified"


def test_name_that_is_not_utf8_is_found_as_it_was_shown(project: Project) -> None:
    project.write(b"l\xe9.txt", "content\n")
    files = ReviewedFiles(project.repo(), project.gather())
    for name in ("l\\xe9.txt", "lé.txt", os.fsdecode(b"l\xe9.txt")):
        assert files.ground(name, 1, None, "content").grounded == "verified"


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "link",
        "folder/secret",
        ".git/config",
        "docs/../../outside",
        "",
        "\0",
        "\ud800",
        ".env",
    ],
)
def test_files_outside_links_and_secrets_are_not_read(
    project: Project, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").write_text("secret\n", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/secret").write_text("secret\n", encoding="utf-8")
    (project.root / "link").symlink_to(tmp_path / "outside")
    (project.root / "folder").symlink_to(tmp_path / "elsewhere")
    project.write(".env", "secret\n")
    project.write("new.py")
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.lines(name) is None
    assert files.ground(name, 1, None, "secret").grounded == "unverified"


def test_binary_file_has_no_lines(project: Project) -> None:
    project.write("a.bin", b"\0\1")
    project.write("new.py")
    assert ReviewedFiles(project.repo(), project.gather()).lines("a.bin") is None


@pytest.mark.parametrize(
    "evidence",
    ["x = 'user\u202e'", "x = 'user<U+202E>'", "#\rdrop()", "#<U+000D>drop()"],
)
def test_hidden_characters_are_found_by_themselves_and_as_they_were_shown(
    project: Project, evidence: str
) -> None:
    project.write("a\u202e.py", "x = 'user\u202e'\n#\rdrop()\n")
    files = ReviewedFiles(project.repo(), project.gather())
    for name in ("a\u202e.py", "a<U+202E>.py"):
        assert files.ground(name, 1, 2, evidence).grounded == "verified"


# --- what a finding quotes


def quoted(files: ReviewedFiles, evidence: str, line: int | None = None) -> Quotation:
    quotation = files.ground("app.py", line, None, evidence).quotation
    assert quotation
    return quotation


@pytest.mark.parametrize(
    "evidence",
    [
        "    return a / b",
        "return  a /  b",
        "a / b",
        "+    return a / b",
        "`return a / b`",
    ],
)
def test_a_quotation_stands_for_the_whole_lines_of_the_file(
    reviewed_files: ReviewedFiles, evidence: str
) -> None:
    assert quoted(reviewed_files, evidence, 7).words == "    return a / b"


def test_lines_that_are_not_next_to_each_other_are_kept_apart(
    project: Project,
) -> None:
    project.write("app.py", "one = 1\n\ntwo = 2\nthree = 3\nfour = 4\n")
    files = ReviewedFiles(project.repo(), project.gather())
    assert quoted(files, "two = 2\n...\none = 1").words == "one = 1\ntwo = 2"
    assert quoted(files, "four = 4\n...\none").words == "one = 1\n\nfour = 4"


def test_the_copy_of_the_lines_that_was_meant_is_counted(project: Project) -> None:
    project.write("app.py", "same = 1\nother = 2\n" * 3)
    files = ReviewedFiles(project.repo(), project.gather())
    places = [quoted(files, "same", line) for line in (1, 3, 5)]
    assert [(place.copy, place.copies) for place in places] == [(1, 3), (2, 3), (3, 3)]


def test_lines_that_the_change_removed_are_quoted_from_the_base(
    project: Project,
) -> None:
    project.write("app.py", "mine = 1\n")
    project.commit()
    project.write("app.py", "yours = 1\n")
    files = ReviewedFiles(project.repo(), project.gather())
    assert quoted(files, "-mine = 1") == Quotation("mine = 1", removed=True)
    assert not quoted(files, "yours = 1").removed


def test_words_on_record_are_looked_for_as_whole_lines_in_one_piece(
    project: Project,
) -> None:
    project.write("app.py", "  one = 1\n\ntwo  = 2\nthree = 3\ntwo = 2\n")
    files = ReviewedFiles(project.repo(), project.gather())

    def lines(words: str, path: str = "app.py") -> list[int] | None:
        places = files.places_of(path, words)
        if places is None:
            return None
        return [place.first for place in places]

    assert lines("one = 1\n\ttwo = 2") == [1]
    assert lines("two = 2") == [3, 5]
    assert lines("two") == []
    assert lines("one = 1\nthree = 3") == []
    assert lines("one = 1\n\nthree = 3") == [1]
    assert lines("one = 1\n\nfour = 4") == []
    assert lines("one = 1", "nowhere.py") == []
    assert lines("one = 1", "../app.py") is None
    assert lines("one = 1", ".git/config") is None


def test_a_line_that_is_longer_than_what_is_kept_is_found_by_its_beginning(
    project: Project,
) -> None:
    project.write("app.py", f"data = [{'1, ' * MAX_WORDS}]\n")
    files = ReviewedFiles(project.repo(), project.gather())
    words = quoted(files, "data = [1, 1").words
    assert len(words) == MAX_WORDS
    assert files.places_of("app.py", words) == [LineRange(1, 1)]


def test_a_file_that_cannot_be_read_has_not_lost_its_lines(project: Project) -> None:
    project.write("app.py", "one = 1\n")
    project.write("blob.py", b"\0one = 1\n")
    project.write(".env", "one = 1\n")
    files = ReviewedFiles(project.repo(), project.gather())
    assert files.places_of("blob.py", "one = 1") is None
    assert files.places_of(".env", "one = 1") is None
