"""Names of commits: whatever git understands is resolved once, whatever is hostile or unclear is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs
from codex_counsel.review.changes.model import Scope

if TYPE_CHECKING:
    from pathlib import Path

    from tests.git.conftest import Project


@pytest.mark.parametrize(
    "name",
    [
        "a+b",
        "fix#12",
        "me@home",
        "größe/日本",
        "feature/x.y",
        "v1.0",
        "a'b\"c",
        "50%",
        "a;b",
    ],
)
def test_branch_of_any_name_git_allows_is_resolved(project: Project, name: str) -> None:
    project.git("branch", name)
    assert refs.resolve(project.repo(), name) == project.git("rev-parse", "HEAD")


def test_revision_syntax_is_resolved(project: Project) -> None:
    first = project.git("rev-parse", "HEAD")
    second = project.commit()
    project.git("tag", "--annotate", "--message", "t", "annotated")
    repo = project.repo()
    names = ("HEAD~1", "main@{1}", "HEAD^", f"{second[:10]}~", "@{1}")
    resolved = [refs.resolve(repo, name) for name in names]
    assert resolved == [first] * 5
    assert refs.resolve(repo, "annotated") == refs.resolve(repo, "main") == second


HOSTILE = [
    "--output=x",
    "-p",
    "",
    " ",
    "^main",
    "main; id",
    "$(id)",
    "a\0b",
    "main\nHEAD",
    "HEAD:app.py",
    "main..HEAD",
    "nope",
    "\ud800",
]


@pytest.mark.parametrize("ref", HOSTILE, ids=ascii)
def test_what_names_no_commit_is_an_unknown_ref_with_a_repair(
    project: Project, ref: str
) -> None:
    with pytest.raises(CounselError) as caught:
        refs.resolve(project.repo(), ref)
    assert caught.value.code is Code.UNKNOWN_REF
    assert not (project.root / "x").exists()


def test_branch_and_tag_of_one_name_are_ambiguous(project: Project) -> None:
    project.git("branch", "same")
    project.commit()
    project.git("tag", "same")
    with pytest.raises(CounselError, match="ambiguous") as caught:
        refs.resolve(project.repo(), "same")
    assert "refs/heads/" in (caught.value.repair or "")
    assert refs.resolve(project.repo(), "refs/heads/same") == project.git(
        "rev-parse", "HEAD~"
    )


def test_head_before_the_first_commit_says_no_commits(empty: Project) -> None:
    with pytest.raises(CounselError) as caught:
        refs.resolve(empty.repo(), "HEAD")
    assert caught.value.code is Code.NO_COMMITS


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a..b", ("a", "..", "b")),
        ("a...b", ("a", "...", "b")),
        ("a..", ("a", "..", "HEAD")),
        ("...b", ("HEAD", "...", "b")),
    ],
)
def test_range_is_split_at_its_dots(text: str, parts: tuple[str, str, str]) -> None:
    assert refs.split_range(text) == parts


@pytest.mark.parametrize("text", ["main", "..", "...", "a.b"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(CounselError) as caught:
        refs.split_range(text)
    assert caught.value.code is Code.INVALID_ARGUMENTS


def work_on(project: Project, branch: str) -> str:
    """A commit on a new branch; returns where the branch began."""
    begin = project.git("rev-parse", "HEAD")
    project.git("checkout", "--quiet", "-b", branch)
    project.write("app.py", "changed\n")
    project.commit("work")
    return begin


def test_base_is_the_default_branch_of_the_remote(
    project: Project, tmp_path: Path
) -> None:
    project.git("branch", "trunk")
    project.git(
        "clone",
        "--quiet",
        "--branch",
        "trunk",
        str(project.root),
        str(tmp_path / "clone"),
    )
    clone = type(project)(tmp_path / "clone")
    begin = work_on(clone, "feature")
    clone.git("push", "--quiet", "--set-upstream", "origin", "feature")
    changes = clone.gather(Scope("branch"))
    assert (changes.base_sha, changes.base_name) == (begin, "refs/remotes/origin/HEAD")


def test_base_is_the_main_branch_of_a_remote_that_names_no_default(
    project: Project,
) -> None:
    project.git("remote", "add", "upstream", "https://example.invalid/x.git")
    project.git("update-ref", "refs/remotes/upstream/main", "HEAD")
    begin = work_on(project, "feature")
    changes = project.gather(Scope("branch"))
    assert (changes.base_sha, changes.base_name) == (
        begin,
        "refs/remotes/upstream/main",
    )


def test_base_is_the_upstream_where_no_default_is_known(project: Project) -> None:
    project.git("branch", "--move", "develop")
    begin = work_on(project, "feature")
    project.git("remote", "add", "origin", "https://example.invalid/x.git")
    project.git("update-ref", "refs/remotes/origin/develop", begin)
    project.git("branch", "--set-upstream-to", "origin/develop")
    assert project.gather(Scope("branch")).base_name == "refs/remotes/origin/develop"


def test_base_is_the_local_main_branch_without_a_remote(project: Project) -> None:
    begin = work_on(project, "feature")
    changes = project.gather(Scope("branch"))
    assert (changes.base_sha, changes.base_name) == (begin, "refs/heads/main")


def test_base_that_cannot_be_guessed_is_asked_for(project: Project) -> None:
    with pytest.raises(CounselError, match="No branch to compare with") as caught:
        project.gather(Scope("branch"))
    assert caught.value.code is Code.UNKNOWN_REF
    assert "base" in (caught.value.repair or "")


def test_histories_that_never_met_are_named(project: Project) -> None:
    project.git("checkout", "--quiet", "--orphan", "other")
    project.commit("another beginning")
    with pytest.raises(CounselError, match="no common ancestor") as caught:
        project.gather(Scope("branch", base="main"))
    assert caught.value.code is Code.UNKNOWN_REF
