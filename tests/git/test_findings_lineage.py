"""Which findings on record belong to what is reviewed, by the branches and the history of a real repository."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from codex_counsel.git.repo import Repo
from codex_counsel.review.lineage import CI_REFS, MAX_LATER, Lineage, branch_name
from tests.git.conftest import Project
from tests.unit.test_findings_ledger import entry_of


def has(
    project: Project,
    seen_on: str | None,
    seen_at: str | None,
    branch: str | None,
    head: str | None,
) -> bool:
    """Whether a finding that was seen there belongs to a review of this branch and commit."""
    entry = entry_of(1, branch=seen_on)
    entry = replace(entry, last=replace(entry.last, head=seen_at))
    return Lineage.of(project.repo(), branch, head, [entry]).has(entry)


def commits(project: Project) -> dict[str, str]:
    """Two commits on main, and one beside each other on both sides of a fork."""
    found = {"old": project.commit("old"), "main": project.commit("main")}
    project.git("checkout", "--quiet", "-b", "side", found["old"])
    found["side"] = project.commit("side")
    found["missing"] = "1" * 40
    return found


@pytest.mark.parametrize(
    ("seen", "reviewed", "expected"),
    [
        (("main", "side"), ("main", "main"), True),
        (("main", "missing"), ("main", "main"), True),
        (("side", "side"), ("main", "main"), False),
        (("side", "missing"), ("main", "main"), False),
        (("side", "old"), ("main", "main"), True),
        (("side", "main"), ("main", "main"), True),
        (("main", "main"), (None, "old"), False),
        ((None, "old"), ("main", "main"), True),
        ((None, "side"), ("main", "main"), False),
        ((None, "old"), (None, "main"), True),
        ((None, "side"), (None, "main"), True),
        ((None, "missing"), (None, "main"), True),
        ((None, "main"), (None, "old"), False),
        (("main", "side"), (None, "main"), False),
        (("main", "missing"), (None, "main"), False),
    ],
)
def test_a_finding_belongs_to_its_branch_and_to_commits_that_contain_its_own(
    project: Project,
    seen: tuple[str | None, str],
    reviewed: tuple[str | None, str],
    expected: bool,
) -> None:
    ids = commits(project)
    (seen_on, seen_at), (branch, head) = seen, reviewed
    assert has(project, seen_on, ids[seen_at], branch, ids[head]) == expected


def test_a_finding_from_before_the_first_commit_belongs_to_all_that_follows(
    project: Project,
) -> None:
    assert has(project, "main", None, "side", project.head)


@pytest.mark.parametrize(
    "head", ["--output=x", "HEAD", "main", "x" * 40, "^" + "1" * 39]
)
def test_a_commit_on_record_that_is_no_id_is_not_passed_to_git(
    project: Project, head: str
) -> None:
    assert not has(project, "side", head, "main", project.head)


def test_of_many_commits_beside_each_other_none_is_taken_for_an_older_one(
    project: Project,
) -> None:
    begin = project.head
    entries = []
    for number in range(MAX_LATER + 5):
        project.git("checkout", "--quiet", "--detach", begin)
        head = project.commit(f"side {number}")
        entry = entry_of(number)
        entries.append(replace(entry, last=replace(entry.last, head=head)))
    lineage = Lineage.of(project.repo(), None, begin, entries)
    assert [lineage.has(entry) for entry in entries] == [False] * len(entries)
    project.git("checkout", "--quiet", "--detach", begin)
    another = project.commit("another")
    lineage = Lineage.of(project.repo(), None, another, entries)
    assert sum(map(lineage.has, entries)) == MAX_LATER


def test_a_shallow_clone_knows_what_it_can(project: Project) -> None:
    old, head = project.commit("old"), project.commit("new")
    clone = project.root.parent / "clone"
    project.git("clone", "--quiet", "--depth=1", f"file://{project.root}", str(clone))
    shallow = Project(clone, project.env)
    assert not has(shallow, "side", old, "main", head)
    assert has(shallow, "main", old, "main", head)


# --- the name of the branch


def test_a_branch_has_its_name_also_before_the_first_commit(empty: Project) -> None:
    assert branch_name(empty.repo()) == "main"
    empty.commit("first")
    empty.git("checkout", "--quiet", "-b", "a/b")
    assert branch_name(empty.repo()) == "a/b"


@pytest.mark.parametrize("variable", CI_REFS)
def test_a_ci_service_names_what_it_checked_out(
    project: Project, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CI_REFS:
        monkeypatch.delenv(name, raising=False)

    def name_for(value: str) -> str | None:
        monkeypatch.setenv(variable, value)
        return branch_name(Repo.open(project.root, env=os.environ))

    assert name_for("refs/pull/12/merge") == "main"
    project.git("checkout", "--quiet", "--detach")
    assert name_for("refs/pull/12/merge") == "refs/pull/12/merge"
    assert name_for("refs/heads/topic") == "topic"
    for value in ("", "refs/tags/v1", "a b", "a\nb", "x" * 300):
        assert name_for(value) is None
