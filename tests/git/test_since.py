"""Of a change that earlier reviews saw in part, what none of them saw is sent: no less, and little more."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codex_counsel.contract.envelope import BudgetReached, Meta
from codex_counsel.contract.request import ReviewChanges, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.seen import PastReview, ReviewLog, State, Step
from codex_counsel.kind import EndedRun
from codex_counsel.review import prompt
from codex_counsel.review.changes.changes import Changes, gather
from codex_counsel.review.changes.comparison import comparison_of
from codex_counsel.review.changes.model import ChangedFile, Reason, Scope
from codex_counsel.review.changes.since import base_ref, steps_of
from codex_counsel.review.record import ReviewRecord
from codex_counsel.review.remember import remember
from codex_counsel.review.reply import ReviewReply
from tests.git.conftest import BUDGET
from tests.reviews import FILES, material

if TYPE_CHECKING:
    from codex_counsel.contract.vocabulary import ScopeKind
    from tests.git.conftest import Project

BRANCH = Scope("branch", base="main")


@dataclass
class Branch:
    """A branch of a project, whose reviews are on record."""

    project: Project
    reviews: list[PastReview] = field(default_factory=list)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            self.project.write(f"{name}.py", text)

    def push(self, message: str = "push", **files: str) -> str:
        self.write(**files)
        return self.project.commit(message)

    def look(
        self, scope: Scope = BRANCH, budget: int = BUDGET, *, everything: bool = False
    ) -> Changes:
        """What a review would be sent, without what is on record."""
        reviews = None if everything else self.reviews
        return gather(self.project.repo(), scope, budget, reviews=reviews)

    def review(
        self, scope: Scope = BRANCH, budget: int = BUDGET, *, everything: bool = False
    ) -> Changes:
        """As `look`, and put it on record."""
        changes = self.look(scope, budget, everything=everything)
        sent, kept = steps_of(changes.entries)
        review = PastReview(
            job=f"{len(self.reviews):032x}",
            ended=f"2026-11-22T00:00:{len(self.reviews):02}Z",
            scope=scope.kind,
            base=base_ref(self.project.repo(), scope, changes.comparison),
            base_sha=changes.base_sha,
            head_sha=changes.head_sha,
            complete=changes.complete and not scope.paths,
            sent=tuple(sent),
            kept=tuple(kept),
        )
        self.reviews.append(review)
        return changes

    def nothing(self, scope: Scope = BRANCH) -> CounselError:
        with pytest.raises(CounselError) as caught:
            self.look(scope)
        assert caught.value.code is Code.NOTHING_TO_REVIEW
        return caught.value


@pytest.fixture
def branch(project: Project) -> Branch:
    """A branch with three new files, which one review has seen."""
    project.git("checkout", "--quiet", "-b", "feature")
    branch = Branch(project)
    branch.push("first", one=numbers("one"), two=numbers("two"), three="three = 3\n")
    branch.review()
    return branch


def numbers(word: str, **changes: str) -> str:
    lines = [changes.get(f"l{n}", f"{word}_{n} = {n}") for n in range(1, 41)]
    return "".join(line + "\n" for line in lines)


def sent(changes: Changes) -> set[str]:
    return {file.path for file in changes.entries if file.whole and not file.is_delta}


def rest(changes: Changes) -> set[str]:
    return {file.path for file in changes.entries if file.whole and file.is_delta}


def seen(changes: Changes) -> set[str]:
    return {file.path for file in changes.entries if file.is_seen}


def lines(changes: Changes, sign: str) -> list[str]:
    """Added or removed lines, without those of headers."""
    text = changes.diff.decode()
    return [
        row[1:] for row in text.splitlines() if row[:1] == sign and row[:3] != 3 * sign
    ]


def test_the_first_review_is_sent_everything(branch: Branch) -> None:
    branch.reviews.clear()
    changes = branch.look()
    assert sent(changes) == {"one.py", "two.py", "three.py"}
    assert changes.diff == branch.look(everything=True).diff
    assert changes.seen == ()


def test_of_a_line_that_was_pushed_that_line_alone_is_sent(branch: Branch) -> None:
    branch.push("second", two=numbers("two", l20="two_20 = 'twenty'"))
    changes = branch.look()
    assert seen(changes) == {"one.py", "three.py"}
    assert rest(changes) == {"two.py"}
    assert lines(changes, "+") == ["two_20 = 'twenty'"]
    assert lines(changes, "-") == ["two_20 = 20"]
    assert changes.diff.startswith(b"diff --git a/two.py b/two.py\nindex ")
    assert b"\n--- a/two.py\n+++ b/two.py\n@@ -17,7 +17,7 @@" in changes.diff
    assert changes.complete
    assert changes.seen is not None
    (earlier,) = changes.seen
    assert (earlier.job_id, earlier.files) == ("0" * 32, 2)
    ((step,), _) = steps_of(changes.entries)
    assert (
        step.old.content == f"100644:{branch.project.git('rev-parse', 'HEAD~1:two.py')}"
    )
    assert earlier.head_sha == branch.project.git("rev-parse", "HEAD~1")
    assert [commit.subject for commit in changes.commits] == ["second"]


def test_the_rest_applies_to_what_was_seen(branch: Branch) -> None:
    head = branch.project.head
    branch.push("second", two=numbers("two", l3="x = 3", l38="y = 38"))
    branch.project.git("checkout", "--quiet", head)
    # The head of the branch is not what is checked out: apply is told the index alone.
    changes = gather(
        branch.project.repo(),
        Scope("range", range="main...feature"),
        BUDGET,
        reviews=branch.reviews,
    )
    # Another kind of scope, but step by step from the same base.
    assert rest(changes) == {"two.py"}
    branch.project.git("apply", "--check", "-", stdin=changes.diff)


def test_when_everything_was_seen_there_is_nothing_to_review(branch: Branch) -> None:
    error = branch.nothing()
    assert error.details == {
        "job_id": "0" * 32,
        "files": 3,
        "head_sha": branch.project.head,
    }
    assert "3 files" in error.message
    assert error.repair
    assert f"codex-counsel check {'0' * 32}" in error.repair
    assert "since" in error.repair


def test_no_review_of_a_part_is_named_to_judge_the_whole(branch: Branch) -> None:
    branch.push("second", four="four = 4\n")
    branch.review(Scope("branch", base="main", paths=("four.py",)))
    branch.push("third", five="five = 5\n")
    branch.review(Scope("commit", commit="HEAD"))
    error = branch.nothing()
    assert error.details == {"files": 5, "head_sha": branch.project.head}
    assert "leave `since` out" in str(error.repair)
    branch.push("fourth", six="six = 6\n")
    branch.review()
    assert branch.nothing().details == {
        "files": 6,
        "job_id": f"{3:032x}",
        "head_sha": branch.project.head,
    }


def test_pushes_are_reviewed_one_by_one(branch: Branch) -> None:
    for number in range(5):
        branch.push(four=f"four = {number}\n", two=numbers("two", l20=f"x = {number}"))
        changes = branch.review()
        assert seen(changes) == {"one.py", "three.py"}
    branch.nothing()


def test_what_a_review_was_sent_in_part_is_not_seen(branch: Branch) -> None:
    branch.reviews.clear()
    branch.push(big="".join(f"big_{n} = {n}\n" for n in range(2000)))
    changes = branch.review(budget=12_000)
    assert [(item.path, item.reason) for item in changes.omitted] == [
        ("big.py", Reason.PARTIAL)
    ]
    assert sent(changes) == {"one.py", "two.py", "three.py"}
    changes = branch.review(budget=BUDGET)
    assert sent(changes) == {"big.py"}
    assert seen(changes) == {"one.py", "two.py", "three.py"}
    assert changes.complete
    branch.nothing()


def test_what_no_budget_holds_is_never_seen(branch: Branch) -> None:
    branch.push(big="".join(f"big_{n} = {n}\n" for n in range(2000)))
    for _ in range(2):
        changes = branch.review(budget=12_000)
        assert not changes.complete
        assert seen(changes) == {"one.py", "two.py", "three.py"}


def test_a_change_larger_than_the_budget_is_reviewed_in_parts(branch: Branch) -> None:
    branch.reviews.clear()
    branch.push(**{f"f{n}": numbers(f"f{n}") for n in range(30)})
    total = 0
    for _ in range(10):
        changes = branch.review(budget=9000)
        total += len(sent(changes))
        if changes.complete:
            break
    assert total == 33
    branch.nothing()


# --- history


def test_a_rebase_sends_nothing_again(branch: Branch) -> None:
    project = branch.project
    project.git("checkout", "--quiet", "main")
    project.write("other.py", "other = 1\n")
    project.commit("on main")
    project.git("checkout", "--quiet", "feature")
    project.git("rebase", "--quiet", "main")
    branch.nothing()
    branch.push("second", three="three = 33\n")
    changes = branch.look()
    assert seen(changes) == {"one.py", "two.py"}
    # The earlier head is none of this branch any more.
    assert [commit.subject for commit in changes.commits] == ["second", "first"]


def test_a_squash_sends_nothing_again(branch: Branch) -> None:
    branch.push("second", two=numbers("two", l20="x = 20"))
    branch.review()
    branch.project.git("reset", "--quiet", "--soft", "main")
    branch.project.commit("squashed")
    branch.nothing()


def test_a_force_push_that_drops_a_commit_sends_nothing_again(branch: Branch) -> None:
    branch.push("second", four="four = 4\n", two=numbers("two", l20="x = 20"))
    branch.review()
    branch.project.git("reset", "--quiet", "--hard", "HEAD~1")
    # The contents of the first push were seen by the first review.
    branch.nothing()


def test_a_revert_in_the_middle_is_a_rest(branch: Branch) -> None:
    branch.push(two=numbers("two", l20="x = 20"))
    branch.review()
    branch.push(two=numbers("two", l20="x = 20", l1="y = 1"))
    branch.review()
    branch.push(two=numbers("two", l1="y = 1"))
    changes = branch.look()
    assert rest(changes) == {"two.py"}
    assert lines(changes, "-") == ["x = 20"]


def test_the_base_moves_in_a_file_of_the_branch(branch: Branch) -> None:
    """Part of the branch was merged: the old side is new, the content under review is not."""
    project = branch.project
    branch.push(app="app = 1\n")
    project.write("app.py", "".join(f"line {n}\n" for n in range(1, 31)))
    project.commit("more of app")
    branch.review()
    project.git("checkout", "--quiet", "main")
    project.write("app.py", "".join(f"line {n}\n" for n in range(1, 26)))
    project.commit("a part of it")
    project.git("checkout", "--quiet", "feature")
    project.git("merge", "--quiet", "--strategy=ours", "--no-edit", "main")
    changes = branch.look(everything=True)
    assert "app.py" in {file.path for file in changes.entries}
    branch.nothing()
    branch.push("more", three="three = 33\n")
    changes = branch.review()
    assert seen(changes) == {"app.py", "one.py", "two.py"}
    assert changes.base_moved == ("app.py",)
    # By now it is seen against this base.
    branch.push("more", three="three = 333\n")
    assert branch.look().base_moved == ()


def test_a_deletion_of_what_the_base_has_changed_since_is_sent(branch: Branch) -> None:
    project = branch.project
    (project.root / "app.py").unlink()
    project.commit("without app")
    branch.review()
    project.git("checkout", "--quiet", "main")
    project.write("app.py", "mended = 1\n")
    project.commit("mend app")
    project.git("checkout", "--quiet", "feature")
    project.git("merge", "--quiet", "--strategy=ours", "--no-edit", "main")
    changes = branch.look()
    assert sent(changes) == {"app.py"}
    assert lines(changes, "-") == ["mended = 1"]


def test_merging_the_base_sends_what_came_with_the_conflict_alone(
    branch: Branch,
) -> None:
    project = branch.project
    text = "".join(f"line {n}\n" for n in range(1, 21))
    project.write("app.py", text.replace("line 2\n", "branch 2\n"))
    project.commit("app in the branch")
    branch.review()
    project.git("checkout", "--quiet", "main")
    project.write("app.py", text.replace("line 19\n", "main 19\n"))
    project.write("docs/readme.md", "# Main\n")
    project.commit("app in main")
    project.git("checkout", "--quiet", "feature")
    project.git("merge", "--quiet", "--no-edit", "main")
    changes = branch.look()
    # Its content was seen by nobody, and either diff says what is new in it.
    assert (sent(changes) | rest(changes)) == {"app.py"}
    assert seen(changes) == {"one.py", "two.py", "three.py"}


def test_a_base_that_was_moved_back_shows_what_it_hid(branch: Branch) -> None:
    """What was in the base has been reviewed by nobody: only a base that moved forward counts."""
    project = branch.project
    project.git("checkout", "--quiet", "main")
    project.write("app.py", "base = 'unreviewed'\n")
    project.commit("direct to main")
    project.git("checkout", "--quiet", "-b", "next", "main")
    project.write("app.py", "base = 'unreviewed'\nmore = 1\n")
    project.commit("next")
    branch.review()
    project.git("branch", "--quiet", "--force", "main", "main~1")
    changes = branch.look()
    assert "app.py" in sent(changes)
    assert "base = 'unreviewed'" in lines(changes, "+")


def test_a_review_of_the_last_commit_does_not_stand_for_the_branch(
    branch: Branch,
) -> None:
    branch.reviews.clear()
    branch.push("second", two=numbers("two", l20="x = 20"))
    for scope in (
        Scope("range", range="HEAD~1..HEAD"),
        Scope("commit"),
        Scope("branch", base="HEAD~1"),
    ):
        branch.review(scope, everything=True)
    changes = branch.look()
    # Only the last line of it was reviewed.
    assert sent(changes) == {"one.py", "two.py", "three.py"}
    assert "two_1 = 1" in lines(changes, "+")


def test_a_base_by_a_name_that_moves_with_the_branch_is_no_name(
    branch: Branch,
) -> None:
    branch.reviews.clear()
    branch.push("second", two=numbers("two", l20="x = 20"))
    scope = Scope("branch", base="HEAD~1")
    branch.review(scope)
    branch.project.git("reset", "--quiet", "--soft", "main")
    branch.project.commit("squashed")
    assert sent(branch.look(scope)) == {"one.py", "two.py", "three.py"}


def test_a_relative_base_that_moved_forward_is_another_one(branch: Branch) -> None:
    branch.reviews.clear()
    branch.push(two=numbers("two", l20="x = 20"))
    branch.review(Scope("branch", base="HEAD~1"))
    branch.push(two=numbers("two", l20="y = 20"))
    branch.push(two=numbers("two", l20="x = 20"))
    changes = branch.look(Scope("branch", base="HEAD~1"))
    assert sent(changes) == {"two.py"}
    assert lines(changes, "-") == ["y = 20"]


def test_reviews_of_each_commit_are_a_review_of_the_branch(branch: Branch) -> None:
    branch.reviews.clear()
    branch.review(Scope("commit"))
    branch.push("second", two=numbers("two", l20="x = 20"))
    branch.review(Scope("commit"))
    branch.nothing()
    branch.nothing(Scope("range", range="main..HEAD"))


def test_what_was_staged_when_it_was_reviewed_is_seen_when_committed(
    branch: Branch,
) -> None:
    branch.write(four="four = 4\n")
    branch.project.git("add", ".")
    branch.review(Scope("staged"), everything=True)
    branch.project.commit("second")
    branch.nothing()


def test_commits_of_another_branch_with_the_same_content_count(branch: Branch) -> None:
    project = branch.project
    project.git("checkout", "--quiet", "-b", "copy", "main")
    project.git("cherry-pick", "feature")
    branch.nothing()


# --- files


def test_a_new_mode_is_new(branch: Branch) -> None:
    project = branch.project
    (project.root / "one.py").chmod(0o755)
    project.commit("executable")
    changes = branch.look()
    assert rest(changes) == {"one.py"}
    assert changes.diff == (
        b"diff --git a/one.py b/one.py\nold mode 100644\nnew mode 100755\n"
    )
    branch.review()
    branch.nothing()


def test_a_file_that_is_deleted_after_its_review(branch: Branch) -> None:
    project = branch.project
    # One that the branch made is no part of it any more.
    (project.root / "one.py").unlink()
    project.commit("without one")
    branch.nothing()
    (project.root / "app.py").unlink()
    project.commit("without app")
    changes = branch.review()
    assert sent(changes) == {"app.py"}
    branch.nothing()
    project.write("app.py", "".join(f"line {n}\n" for n in range(1, 25)))
    project.commit("app again")
    assert sent(branch.look()) == {"app.py"}


def test_a_rename_is_sent_whole_and_then_seen(branch: Branch) -> None:
    project = branch.project
    project.git("mv", "app.py", "moved.py")
    project.commit("move")
    changes = branch.review()
    assert sent(changes) == {"moved.py"}
    branch.nothing()
    text = "".join(f"line {n}\n" for n in range(1, 21))
    project.write("moved.py", text.replace("line 7\n", "seven\n"))
    project.commit("edit")
    changes = branch.review()
    assert rest(changes) == {"moved.py"}
    assert lines(changes, "+") == ["seven"]
    branch.nothing()


def test_a_rename_and_an_edit_reviewed_as_commits(branch: Branch) -> None:
    project = branch.project
    text = "".join(f"line {n}\n" for n in range(1, 21))
    project.write("app.py", text.replace("line 7\n", "seven\n"))
    project.commit("edit")
    branch.review(Scope("commit"))
    project.git("mv", "app.py", "moved.py")
    project.commit("move")
    branch.review(Scope("commit"))
    branch.nothing()


def test_a_link_in_place_of_a_file_is_sent_whole(branch: Branch) -> None:
    project = branch.project
    (project.root / "one.py").unlink()
    (project.root / "one.py").symlink_to("two.py")
    project.commit("link")
    changes = branch.look()
    assert sent(changes) == {"one.py"}
    assert lines(changes, "+") == ["two.py"]


def test_secret_files_and_binaries_are_listed_whatever_is_on_record(
    branch: Branch,
) -> None:
    project = branch.project
    project.write("logo.bin", b"\0one")
    project.write("deploy/id_rsa", "key\n")
    project.commit("more")
    changes = branch.look(everything=True)
    rows = []
    for file in changes.entries:
        path = file.path_bytes.decode()
        old, new = State(path, file.old_content), State(path, file.new_content)
        rows.append(Step(old, new))
    changes = project_with(branch, rows, three="three = 33\n")
    assert {item.path: item.reason for item in changes.omitted} == {
        "deploy/id_rsa": Reason.SECRET_FILE
    }
    assert "key" not in changes.diff.decode()


def project_with(branch: Branch, rows: list[Step], **files: str) -> Changes:
    """What is sent after a push, if all these steps were on record."""
    branch.push(**files)
    branch.reviews.append(record(sent=tuple(rows)))
    return branch.look()


def record(scope: ScopeKind = "commit", **changes: object) -> PastReview:
    whole = {"job": "f" * 32, "ended": "2026-11-22T00:01:00Z", "scope": scope}
    return PastReview(**(whole | changes))  # type: ignore[arg-type]


def test_text_in_utf16_is_seen_like_any_other(branch: Branch) -> None:
    project = branch.project
    project.write("wide.txt", "one\ntwo\n".encode("utf-16"))
    project.commit("wide")
    assert sent(branch.review()) == {"wide.txt"}
    branch.nothing()
    project.write("wide.txt", "one\nthree\n".encode("utf-16"))
    project.commit("wider")
    assert sent(branch.review()) == {"wide.txt"}
    branch.nothing()


def test_text_that_an_attribute_hides_is_seen_like_any_other(branch: Branch) -> None:
    project = branch.project
    project.write(".gitattributes", "*.dat -diff\n")
    project.write("hidden.dat", "one\n")
    project.commit("hidden")
    assert sent(branch.review()) == {".gitattributes", "hidden.dat"}
    branch.nothing()
    project.write("hidden.dat", "two\n")
    project.commit("hidden again")
    assert sent(branch.look()) == {"hidden.dat"}


def test_a_submodule_is_never_seen(branch: Branch) -> None:
    project = branch.project
    sha = project.head
    project.git("update-index", "--add", "--cacheinfo", f"160000,{sha},lib")
    project.git("commit", "--quiet", "--message", "submodule")
    for _ in range(2):
        changes = branch.review()
        assert [item.reason for item in changes.omitted] == [Reason.SUBMODULE]
        assert not changes.complete
        assert f"+Subproject commit {sha}" in changes.diff.decode()


def test_names_that_are_not_text(branch: Branch) -> None:
    project = branch.project
    name = b'caf\xe9 \t"\n.py'
    project.write(name, numbers("x"))
    project.commit("odd")
    branch.review()
    branch.nothing()
    project.write(name, numbers("x", l20="odd = 1"))
    project.commit("odder")
    changes = branch.look()
    assert lines(changes, "+") == ["odd = 1"]
    # Sent as UTF-8, as ever.
    header = 'diff --git "a/caf\u00e9 \\t\\"\\n.py" "b/'
    assert changes.diff.startswith(header.encode())


def test_a_link_in_place_of_a_file_that_was_seen_is_a_rest(branch: Branch) -> None:
    project = branch.project
    project.write("app.py", "app = 1\n")
    project.commit("short")
    branch.review()
    (project.root / "app.py").unlink()
    (project.root / "app.py").symlink_to("one.py")
    project.commit("link")
    changes = branch.review()
    assert rest(changes) == {"app.py"}
    assert lines(changes, "-") == ["app = 1"]
    assert lines(changes, "+") == ["one.py"]
    branch.nothing()


def test_a_deletion_after_a_review_is_a_rest(branch: Branch) -> None:
    project = branch.project
    project.write("app.py", "app = 1\n")
    project.commit("short")
    branch.review()
    (project.root / "app.py").unlink()
    project.commit("without app")
    changes = branch.review()
    assert rest(changes) == {"app.py"}
    assert lines(changes, "-") == ["app = 1"]
    branch.nothing()


def test_a_file_that_became_a_folder(branch: Branch) -> None:
    project = branch.project
    (project.root / "one.py").unlink()
    project.write("one.py/inner.py", numbers("inner"))
    project.commit("folder")
    changes = branch.review()
    assert sent(changes) == {"one.py/inner.py"}
    shutil.rmtree(project.root / "one.py")
    project.write("one.py", numbers("one", l20="x = 20"))
    project.commit("file again")
    assert rest(branch.look()) == {"one.py"}


def test_the_whole_is_sent_where_it_is_shorter(branch: Branch) -> None:
    project = branch.project
    text = "".join(f"line {n}\n" for n in range(1, 21))
    project.write("app.py", numbers("other"))
    project.commit("all other")
    branch.review()
    project.write("app.py", text.replace("line 7\n", "seven\n"))
    project.commit("nearly as it was")
    changes = branch.look()
    assert sent(changes) == {"app.py"}
    assert lines(changes, "+") == ["seven"]


def test_more_rests_than_memory_is_meant_for_are_sent_whole(branch: Branch) -> None:
    names = [f"f{number}" for number in range(60)]
    branch.push(**{name: numbers(name) for name in names})
    branch.review()
    branch.push(**{name: numbers(name, l20="x = 20") for name in names})
    changes = branch.look(budget=2000)
    rests = [file for file in changes.entries if file.is_delta]
    # Four budgets of them are held.
    assert 4 * 2000 // 400 < len(rests) < 4 * 2000 // 150
    assert rest(changes)
    assert sum(file.is_delta for file in branch.look().entries) == 60


# --- what the prompt says of it

SEEN = "files of the change that were seen before"


def prompt_with(branch: Branch, names: list[str]) -> str:
    """The prompt where these files were seen before."""
    entries = []
    for number, name in enumerate(names, 1):
        object_id = f"{number:040x}"
        file = ChangedFile(
            path=name,
            path_bytes=name.encode(),
            status="A",
            modes=("000000", "100644"),
            object_ids=("0" * 40, object_id),
            prior=f"100644:{object_id}",
        )
        entries.append(file)
    changes = branch.look(everything=True)
    changes = replace(changes, entries=(*changes.entries, *entries), seen=())
    request = parse(ReviewChanges, {"scope": "branch", "since": "last"})
    return prompt.of_changes(request, changes)


def test_few_names_of_seen_files_are_told(branch: Branch) -> None:
    text = prompt_with(branch, ["src/a.py", "src/b.py"])
    assert material(text, SEEN) == "src/a.py\nsrc/b.py"
    assert material(text, FILES) == "A one.py\nA three.py\nA two.py"


def test_many_names_of_seen_files_are_counted_in_few_bytes(branch: Branch) -> None:
    names = [f"part_{number % 900}/deep/file_{number}.py" for number in range(10_000)]
    rows = material(prompt_with(branch, names), SEEN)
    assert rows is not None
    assert len(rows.encode()) < 1200
    counts = [int(number) for number in re.findall(r"(?m)^(?:\S+ )?(\d+) files", rows)]
    assert sum(counts) == 10_000


def test_without_seen_files_the_prompt_is_that_of_any_review(branch: Branch) -> None:
    text = prompt_with(branch, [])
    assert "Earlier reviews saw" not in text
    assert material(text, SEEN) is None


# --- what is put on record


def remembered(
    branch: Branch,
    tmp_path: Path,
    *,
    meta: Meta | None = None,
    changes: Changes | None = None,
    job: str = "d" * 32,
    **reply: Any,
) -> list[PastReview]:
    """What is on record after a review that ended like this."""
    record = replace(
        ReviewRecord.of_changes(
            branch.project.repo(), changes or branch.look(everything=True)
        ),
        ledger=str(tmp_path / "findings" / "project"),
        base_ref="refs/heads/main",
    )
    ended = EndedRun(
        "codex_review_changes", tmp_path / job, tmp_path / job, {}, meta or Meta()
    )
    values = {"summary": "", "verdict": "pass", "confidence": "high", "findings": []}
    assert remember(ended, record, ReviewReply(**(values | reply))) == []
    return ReviewLog(Path(record.ledger)).read()


def test_a_review_with_a_verdict_is_on_record(branch: Branch, tmp_path: Path) -> None:
    (review,) = remembered(branch, tmp_path, verdict="fail")
    assert [step.new.path for step in review.sent] == ["one.py", "three.py", "two.py"]
    assert (review.job, review.base) == ("d" * 32, "refs/heads/main")
    assert review.complete
    assert (review.base_sha, review.head_sha) == (
        branch.project.git("rev-parse", "main"),
        branch.project.head,
    )


def test_a_review_of_some_paths_is_on_record_as_incomplete(
    branch: Branch, tmp_path: Path
) -> None:
    scope = Scope("branch", base="main", paths=("one.py",))
    changes = branch.look(scope, everything=True)
    (review,) = remembered(branch, tmp_path, changes=changes)
    assert not review.complete
    changes = branch.look(budget=300, everything=True)
    assert not changes.complete
    (_, review) = remembered(branch, tmp_path, changes=changes, job="e" * 32)
    assert not review.complete


def test_a_review_that_was_cut_short_is_not(branch: Branch, tmp_path: Path) -> None:
    meta = Meta(budget_reached=BudgetReached(limit=1, used=2))
    assert remembered(branch, tmp_path, meta=meta) == []


@pytest.mark.parametrize("reply", [{"verdict": "unknown"}, {"matches_schema": False}])
def test_a_review_without_a_sound_verdict_is_not(
    branch: Branch, tmp_path: Path, reply: dict[str, Any]
) -> None:
    assert remembered(branch, tmp_path, **reply) == []


def test_a_review_of_the_working_tree_is_not(branch: Branch, tmp_path: Path) -> None:
    branch.write(one="changed = 1\n")
    changes = branch.look(Scope(), everything=True)
    assert remembered(branch, tmp_path, changes=changes) == []


# --- where something is missing


def test_content_that_is_gone_from_the_clone_is_no_beginning(
    branch: Branch, tmp_path: Path
) -> None:
    """A fresh clone has the objects of the present history alone."""
    project = branch.project
    # It is a file of the base that is not gone.
    text = "".join(f"line {n}\n" for n in range(1, 21))
    project.write("app.py", text.replace("line 2\n", "kept\n"))
    app = project.git("hash-object", "-w", "app.py")
    branch.push("second", two=numbers("two", l20="x = 20"))
    branch.review()
    project.git("reset", "--quiet", "--soft", "main")
    project.write("copy/of/app", text.replace("line 2\n", "kept\n"))
    project.write("app.py", text.replace("line 2\n", "kept\n") + "last\n" * 3)
    branch.push("squashed", two=numbers("two", l20="y = 20"))
    assert app in project.git("ls-tree", "-r", "HEAD")
    assert rest(branch.look()) == {"app.py", "two.py"}
    project.git(
        "clone",
        "--quiet",
        "--no-local",
        "--branch=feature",
        str(project.root),
        str(tmp_path / "clone"),
    )
    clone = type(project)(tmp_path / "clone")
    clone.git("branch", "--quiet", "main", "origin/main")
    changes = gather(clone.repo(), BRANCH, BUDGET, reviews=branch.reviews)
    assert sent(changes) == {"copy/of/app", "two.py"}
    assert rest(changes) == {"app.py"}
    assert seen(changes) == {"one.py", "three.py"}


def test_nothing_is_left_in_the_repository(branch: Branch, tmp_path: Path) -> None:
    project = branch.project
    project.git("config", "core.splitIndex", "true")
    branch.push("second", two=numbers("two", l20="x = 20"))
    before = sorted(str(path) for path in project.root.rglob("*"))
    index = (project.root / ".git/index").read_bytes()
    assert rest(branch.look()) == {"two.py"}
    assert sorted(str(path) for path in project.root.rglob("*")) == before
    assert (project.root / ".git/index").read_bytes() == index
    assert list((tmp_path / "tmp").iterdir()) == []


def test_without_a_temporary_directory_the_file_is_sent_whole(
    branch: Branch, tmp_path: Path
) -> None:
    branch.push("second", two=numbers("two", l20="x = 20"))
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").write_text("no directory")
    changes = branch.look()
    assert sent(changes) == {"two.py"}
    assert seen(changes) == {"one.py", "three.py"}


def test_a_linked_worktree_and_a_folder_see_the_same(
    branch: Branch, tmp_path: Path
) -> None:
    project = branch.project
    project.write("sub/dir/inner.py", numbers("inner"))
    project.commit("inner")
    branch.review()
    project.git(
        "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "feature"
    )
    linked = type(project)(tmp_path / "linked")
    linked.write("sub/dir/inner.py", numbers("inner", l20="x = 20"))
    linked.commit("in the linked one")
    for below in (".", "sub/dir"):
        changes = gather(linked.repo(below), BRANCH, BUDGET, reviews=branch.reviews)
        assert rest(changes) == {"sub/dir/inner.py"}
        assert changes.diff.startswith(b"diff --git a/sub/dir/inner.py ")
    assert linked.repo().common_dir == project.repo().common_dir


def test_a_repository_of_sha256(tmp_path: Path, project: Project) -> None:
    wide = type(project)(tmp_path / "wide").init("--object-format=sha256")
    wide.write("app.py", "app = 1\n")
    wide.commit("begin")
    wide.git("checkout", "--quiet", "-b", "feature")
    branch = Branch(wide)
    branch.push(one=numbers("one"))
    branch.review()
    branch.nothing()
    branch.push(one=numbers("one", l20="x = 20"))
    changes = branch.look()
    assert rest(changes) == {"one.py"}
    assert lines(changes, "+") == ["x = 20"]


def test_paths_narrow_what_is_seen_and_sent(branch: Branch) -> None:
    branch.reviews.clear()
    narrow = Scope("branch", base="main", paths=("one.py",))
    branch.review(narrow)
    branch.nothing(narrow)
    changes = branch.look()
    assert sent(changes) == {"two.py", "three.py"}
    # What was meant is told with the files that are new.
    assert [commit.subject for commit in changes.commits] == ["first"]


BASES: dict[str, tuple[Scope, str | None]] = {
    "a branch": (BRANCH, "refs/heads/main"),
    "by default": (Scope("branch"), "refs/heads/main"),
    "by its full name": (Scope("branch", base="refs/heads/main"), "refs/heads/main"),
    "a tag": (Scope("branch", base="v1"), "refs/tags/v1"),
    "a commit": (Scope("branch", base="{main}"), None),
    "a commit before": (Scope("branch", base="HEAD~1"), None),
    "a range": (Scope("range", range="main..HEAD"), "refs/heads/main.."),
    "a range from the fork": (
        Scope("range", range="main...HEAD"),
        "refs/heads/main...",
    ),
    "a range from a commit": (Scope("range", range="HEAD~1..HEAD"), None),
    "a range to the base": (Scope("range", range="..main"), "refs/heads/feature.."),
    "one commit": (Scope("commit"), None),
}


@pytest.mark.parametrize(("scope", "name"), BASES.values(), ids=BASES.keys())
def test_the_base_is_known_by_the_full_name_of_its_ref(
    branch: Branch, scope: Scope, name: str | None
) -> None:
    branch.project.git("tag", "v1", "main")
    if scope.base == "{main}":
        scope = replace(scope, base=branch.project.git("rev-parse", "main"))
    repo = branch.project.repo()
    assert base_ref(repo, scope, comparison_of(repo, scope)) == name


def test_a_record_keeps_what_was_seen(branch: Branch) -> None:
    """A record goes through JSON; one of an older release has nothing seen."""
    branch.push("second", two=numbers("two", l20="x = 20"))
    for file in branch.look().entries:
        raw = file.to_json()
        assert ChangedFile.from_json(raw) == file
        del raw["prior"], raw["whole"]
        assert ChangedFile.from_json(raw) == file._replace(prior="", whole=False)
