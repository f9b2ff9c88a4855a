"""Each scope shows what it says, relative to the root, from wherever it is asked."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.review.changes.changes import gather
from codex_counsel.review.changes.model import Omitted, Reason, Scope

if TYPE_CHECKING:
    from pathlib import Path

    from codex_counsel.review.changes.changes import Changes
    from tests.git.conftest import Project


def statuses(changes: Changes) -> dict[str, str]:
    return {entry.path: entry.status for entry in changes.entries}


def refusal_of(project: Project, scope: Scope) -> CounselError:
    with pytest.raises(CounselError) as caught:
        project.gather(scope)
    return caught.value


def test_working_tree_shows_staged_unstaged_and_untracked(project: Project) -> None:
    project.write("app.py", "staged\n")
    project.git("add", "app.py")
    project.write("docs/readme.md", "unstaged\n")
    project.write("new.py", "untracked\n")
    changes = project.gather()
    assert statuses(changes) == {"app.py": "M", "docs/readme.md": "M", "new.py": "A"}
    assert all(
        f"+{word}\n".encode() in changes.diff
        for word in ("staged", "unstaged", "untracked")
    )
    assert changes.complete
    assert (changes.base_sha, changes.head_sha) == (
        project.git("rev-parse", "HEAD"),
        None,
    )


def test_only_new_files_are_something_to_review(project: Project) -> None:
    project.write("new.py", "untracked\n")
    assert statuses(project.gather()) == {"new.py": "A"}


def test_untracked_file_looks_like_git_would_show_it_added(project: Project) -> None:
    project.write("a b.py", "one\ntwo")
    project.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    project.write("empty")
    project.write("empty", "")
    ours = project.gather().diff
    project.git("add", ".")
    gits = project.git("diff", "--cached", "HEAD").encode() + b"\n"
    assert ours == b"".join(
        line
        for line in gits.splitlines(keepends=True)
        if not line.startswith(b"index ")
    )


def test_staged_shows_the_index_only(project: Project) -> None:
    project.write("app.py", "staged\n")
    project.git("add", "app.py")
    project.write("app.py", "later\n")
    project.write("new.py")
    changes = project.gather(Scope("staged"))
    assert statuses(changes) == {"app.py": "M"}
    assert b"+staged\n" in changes.diff
    assert b"later" not in changes.diff


def test_branch_shows_its_commits_since_it_left_the_base(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "feature")
    project.write("feature.py")
    head = project.commit("Add the feature\n\nBecause it was missing.")
    project.git("checkout", "--quiet", "main")
    project.write("other.py")
    project.commit("Something else")
    project.git("checkout", "--quiet", "feature")
    project.write("app.py", "not committed\n")
    changes = project.gather(Scope("branch", base="main"))
    assert statuses(changes) == {"feature.py": "A"}
    assert changes.head_sha == head
    assert [(c.sha, c.subject, c.body) for c in changes.commits] == [
        (head, "Add the feature", "Because it was missing.")
    ]


def test_commit_shows_what_it_changed(project: Project) -> None:
    project.write("app.py", "second\n")
    second = project.commit("second")
    project.write("app.py", "third\n")
    project.commit("third")
    changes = project.gather(Scope("commit", commit="HEAD~1"))
    assert changes.head_sha == second
    assert b"+second\n" in changes.diff
    assert [c.subject for c in changes.commits] == ["second"]


def test_first_commit_shows_everything_as_new(project: Project) -> None:
    changes = project.gather(Scope("commit"))
    assert statuses(changes) == {"app.py": "A", "docs/readme.md": "A"}
    assert changes.base_sha is None
    assert [c.subject for c in changes.commits] == ["begin"]


def test_merge_commit_shows_what_it_brought_in(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "feature")
    project.write("feature.py")
    project.commit("feature")
    project.git("checkout", "--quiet", "main")
    project.write("other.py")
    project.commit("other")
    project.git("merge", "--quiet", "--no-edit", "feature")
    changes = project.gather(Scope("commit"))
    assert statuses(changes) == {"feature.py": "A"}
    assert "feature" in [c.subject for c in changes.commits]


def test_range_of_two_dots_compares_the_ends_and_of_three_the_fork(
    project: Project,
) -> None:
    project.git("checkout", "--quiet", "-b", "feature")
    project.write("feature.py", "feature\n")
    project.commit("feature")
    project.git("checkout", "--quiet", "main")
    project.write("other.py", "other\n")
    project.commit("other")
    assert statuses(project.gather(Scope("range", range="main..feature"))) == {
        "feature.py": "A",
        "other.py": "D",
    }
    assert statuses(project.gather(Scope("range", range="main...feature"))) == {
        "feature.py": "A"
    }


def test_files_shows_whole_files_with_numbered_lines(project: Project) -> None:
    project.write("docs/readme.md", "# Title\r\n\nlast")
    changes = project.gather(Scope("files", paths=("docs",)))
    assert (
        changes.diff == b"=== docs/readme.md (14 bytes)\n1\t# Title\r\n2\t\n3\tlast\n"
    )
    assert statuses(changes) == {"docs/readme.md": "F"}


def test_files_is_the_whole_tree_by_default_without_what_git_ignores(
    project: Project,
) -> None:
    project.write(".gitignore", "*.log\n")
    project.write("x.log")
    project.write("new.py")
    assert set(statuses(project.gather(Scope("files")))) == {
        ".gitignore",
        "app.py",
        "docs/readme.md",
        "new.py",
    }


def test_ignored_file_named_outright_is_shown(project: Project) -> None:
    project.write(".gitignore", "*.log\n")
    project.write("x.log")
    assert set(statuses(project.gather(Scope("files", paths=("x.log",))))) == {"x.log"}


@pytest.mark.parametrize("kind", ["working_tree", "files"])
def test_before_the_first_commit_files_are_shown(empty: Project, kind: str) -> None:
    empty.write("a.py")
    changes = empty.gather(Scope("files" if kind == "files" else "working_tree"))
    assert set(statuses(changes)) == {"a.py"}
    assert changes.base_sha is None


def test_before_the_first_commit_staged_files_are_shown(empty: Project) -> None:
    empty.write("a.py")
    empty.git("add", ".")
    assert statuses(empty.gather(Scope("staged"))) == {"a.py": "A"}


@pytest.mark.parametrize(
    "scope",
    [Scope("branch", base="main"), Scope("commit"), Scope("range", range="HEAD..main")],
)
def test_before_the_first_commit_scopes_of_commits_say_no_commits(
    empty: Project, scope: Scope
) -> None:
    assert refusal_of(empty, scope).code is Code.NO_COMMITS


def test_repository_of_sha256_is_reviewed(tmp_path: Path, project: Project) -> None:
    other = type(project)(tmp_path / "other").init("--object-format=sha256")
    other.write("a.py")
    assert statuses(other.gather()) == {"a.py": "A"}
    other.commit()
    assert statuses(other.gather(Scope("commit"))) == {"a.py": "A"}


@pytest.mark.parametrize("kind", ["working_tree", "staged"])
def test_clean_tree_has_nothing_to_review(project: Project, kind: str) -> None:
    error = refusal_of(project, Scope("staged" if kind == "staged" else "working_tree"))
    assert error.code is Code.NOTHING_TO_REVIEW


def test_empty_commit_has_nothing_to_review(project: Project) -> None:
    project.commit("empty")
    assert refusal_of(project, Scope("commit")).code is Code.NOTHING_TO_REVIEW


def test_change_that_cannot_be_shown_is_nothing_to_review_and_says_why(
    project: Project,
) -> None:
    project.write("picture", b"\0\1\2")
    error = refusal_of(project, Scope())
    assert error.code is Code.NOTHING_TO_REVIEW
    assert error.details["omitted"] == [
        {"path": "picture", "reason": "binary", "bytes": 3}
    ]


def test_subdirectory_shows_the_whole_repository_by_paths_from_the_root(
    project: Project,
) -> None:
    project.write("app.py", "changed\n")
    project.write("docs/new.md")
    changes = gather(project.repo("docs"), Scope(), 10_000)
    assert statuses(changes) == {"app.py": "M", "docs/new.md": "A"}
    assert b"+++ b/docs/new.md\n" in changes.diff


def test_paths_are_relative_to_the_workspace(project: Project) -> None:
    for name in ("app.py", "docs/readme.md", "docs/new.md", "readme.md"):
        project.write(name, "changed\n")
    repo = project.repo("docs")
    assert set(statuses(gather(repo, Scope(paths=("readme.md",)), 10_000))) == {
        "docs/readme.md"
    }
    assert set(statuses(gather(repo, Scope(paths=(".",)), 10_000))) == {
        "docs/readme.md",
        "docs/new.md",
    }
    assert set(statuses(gather(repo, Scope(paths=("../app.py",)), 10_000))) == {
        "app.py"
    }
    assert set(
        statuses(gather(repo, Scope(paths=(str(project.root / "app.py"),)), 10_000))
    ) == {"app.py"}


@pytest.mark.parametrize(
    "path", ["../../x", "/etc/passwd", "..", "", "a\0b", ".git/config", "docs/../../x"]
)
def test_path_out_of_the_repository_is_refused(project: Project, path: str) -> None:
    project.write("app.py", "changed\n")
    assert refusal_of(project, Scope(paths=(path,))).code is Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    "scope",
    [
        Scope(paths=("aap.py",)),
        Scope("commit", paths=("aap.py",)),
        Scope("files", paths=("aap.py",)),
    ],
)
def test_path_that_matches_no_file_is_a_mistake_and_not_clean(
    project: Project, scope: Scope
) -> None:
    project.write("app.py", "changed\n")
    error = refusal_of(project, scope)
    assert error.code is Code.INVALID_ARGUMENTS
    assert "aap.py" in error.message


def test_one_mistaken_path_among_others_is_named(project: Project) -> None:
    project.write("app.py", "changed\n")
    assert (
        "No file matches aap.py."
        in refusal_of(project, Scope(paths=("app.py", "aap.py"))).message
    )


def test_path_without_a_change_has_nothing_to_review(project: Project) -> None:
    project.write("app.py", "changed\n")
    error = refusal_of(project, Scope(paths=("docs",)))
    assert error.code is Code.NOTHING_TO_REVIEW
    assert "under docs" in error.message


@pytest.mark.parametrize(
    "name",
    [
        "*.py",
        ":(top)x",
        "[a]",
        "-x",
        ":!a",
        "a b",
        'q"uote',
        "new\nline",
        "tab\tbed",
        "back\\slash",
        "é",
    ],
)
def test_path_is_taken_literally(project: Project, name: str) -> None:
    project.write(name, "before\n")
    project.write("z.py")
    project.commit()
    project.write(name, "after\n")
    project.write("z.py", "changed\n")
    project.write(f"{name} too", "new\n")
    changes = project.gather(Scope(paths=(name, f"{name} too")))
    assert [entry.path_bytes for entry in changes.entries] == [
        os.fsencode(name),
        os.fsencode(f"{name} too"),
    ]
    assert b"+after\n" in changes.diff


def test_names_of_any_bytes_are_kept_and_shown_safely(project: Project) -> None:
    names = [b"l\xe9.txt", b"nl\n.txt", b"esc\x1b.txt", "日本.txt".encode(), b'"q".txt']
    for name in names:
        project.write(name, "before\n")
    project.commit()
    for name in names:
        project.write(name, "after\n")
        project.write(name + b".new", "new\n")
    changes = project.gather()
    assert {entry.path_bytes for entry in changes.entries} == {
        *names,
        *(name + b".new" for name in names),
    }
    assert {"l\\xe9.txt", "nl\\n.txt", "esc\\x1b.txt", "日本.txt"} <= set(
        statuses(changes)
    )
    assert changes.diff.decode().count("+after\n") == len(names)
    assert all(
        entry.path.isprintable() and entry.path.encode() for entry in changes.entries
    )


def test_rename_deletion_mode_and_type_are_told(project: Project) -> None:
    project.write("mode.sh", "echo\n")
    project.write("kind", "was a file\n")
    project.write("old name.py", "".join(f"{n}\n" for n in range(50)))
    project.commit()
    project.git("mv", "old name.py", "new name.py")
    project.git("rm", "--quiet", "docs/readme.md")
    (project.root / "mode.sh").chmod(0o755)
    (project.root / "kind").unlink()
    (project.root / "kind").symlink_to("/etc/passwd")
    changes = project.gather()
    by_name = {entry.path: entry for entry in changes.entries}
    assert statuses(changes) == {
        "docs/readme.md": "D",
        "kind": "T",
        "mode.sh": "M",
        "new name.py": "R",
    }
    assert by_name["new name.py"].old_path == "old name.py"
    assert by_name["mode.sh"].modes == ("100644", "100755")
    assert (by_name["kind"].added, by_name["kind"].deleted) == (1, 1)
    assert b"+/etc/passwd\n" in changes.diff
    assert b"root:" not in changes.diff


def test_lines_are_counted_as_git_counts_them(project: Project) -> None:
    project.write("app.py", "--- a\n+++ b\n@@ -1 +1 @@\ndiff --git a/x b/x\n\\ odd\n")
    project.write("docs/readme.md", "-- \n++ \nno end")
    changes = project.gather()
    numbers = [
        line.split("\t")
        for line in project.git("diff", "--numstat", "HEAD").splitlines()
    ]
    assert [(str(e.added), str(e.deleted), e.path) for e in changes.entries] == [
        tuple(row) for row in numbers
    ]


def test_line_ends_are_kept_and_control_characters_written_out(
    project: Project,
) -> None:
    project.write("app.py", "one\r\ntwo\x0c\r\nthree\rfour\n")
    assert b"+one\r\n+two<U+000C>\r\n+three<U+000D>four\n" in project.gather().diff


def test_line_end_conversion_of_the_user_is_honoured(project: Project) -> None:
    project.git("config", "--global", "core.autocrlf", "true")
    project.write(
        "app.py", (project.root / "app.py").read_bytes().replace(b"\n", b"\r\n")
    )
    project.write("docs/readme.md", "# Title\r\nmore\r\n")
    assert project.gather().diff.endswith(b" # Title\n+more\n")


def test_global_excludes_of_the_user_are_honoured(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "ignored").write_text("*.swp\n", encoding="utf-8")
    project.git("config", "--global", "core.excludesFile", str(tmp_path / "ignored"))
    project.write("a.swp")
    project.write("a.py")
    assert set(statuses(project.gather())) == {"a.py"}


def test_latin1_text_is_shown_readable(project: Project) -> None:
    project.write("app.py", "größe\n".encode("latin-1") + "größe\n".encode())
    assert "+größe\n+größe\n" in project.gather().diff.decode()


def test_utf16_text_of_a_new_file_is_shown_readable(project: Project) -> None:
    project.write("new.txt", "größe\r\n".encode("utf-16"))
    assert "+größe\r\n" in project.gather().diff.decode()


@pytest.mark.parametrize("attribute", ["", "-diff"])
def test_utf16_text_that_git_tracks_is_compared_as_text(
    project: Project, attribute: str
) -> None:
    before = "".join(f"line {n}\r\n" for n in range(1, 21))
    after = before.replace("line 9\r\n", "evil ü\r\n").replace("line 11\r\n", "")
    project.write(".gitattributes", f"*.ps1 {attribute}\n" if attribute else "")
    project.write("run.ps1", before.encode("utf-16"))
    project.commit()
    project.write("run.ps1", after.encode("utf-16"))
    plain = project.gather()
    project.git("add", ".")
    project.git("commit", "--quiet", "--message", "evil")
    kept = "".join(f" line {n}\r\n" for n in (6, 7, 8))
    rest = "".join(f" line {n}\r\n" for n in (12, 13, 14))
    changed = "-line 9\r\n-line 10\r\n-line 11\r\n+evil ü\r\n+line 10\r\n"
    shown = f"--- a/run.ps1\n+++ b/run.ps1\n@@ -6,9 +6,8 @@\n{kept}{changed}{rest}"
    for changes in (plain, project.gather(Scope("commit"))):
        assert changes.diff.decode().endswith(shown)
        assert (changes.complete, changes.omitted) == (True, ())
        assert [(entry.added, entry.deleted) for entry in changes.entries] == [(2, 3)]


def test_utf16_text_that_comes_goes_or_is_written_anew_is_shown(
    project: Project,
) -> None:
    project.write("gone.ps1", "old\n".encode("utf-16"))
    project.write("anew.ps1", "old\n".encode("utf-16"))
    project.commit()
    (project.root / "gone.ps1").unlink()
    project.write("anew.ps1", "new\n")
    project.write("come.ps1", "new".encode("utf-16-be").join([b"\xfe\xff", b""]))
    project.git("add", ".")
    text = project.gather(Scope("staged")).diff.decode()
    assert "--- a/anew.ps1\n+++ b/anew.ps1\n@@ -1,1 +1,1 @@\n-old\n+new\n" in text
    assert (
        "--- /dev/null\n+++ b/come.ps1\n@@ -0,0 +1,1 @@\n+new\n\\ No newline at end of file\n"
        in text
    )
    assert "--- a/gone.ps1\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-old\n" in text


def test_utf16_text_too_long_to_be_compared_makes_the_view_incomplete(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.review.changes.tracked.MAX_DECODED", 10)
    project.write("a.log", "long enough".encode("utf-16"))
    project.write("app.py", "changed\n")
    project.git("add", ".")
    changes = project.gather()
    assert changes.omitted == (Omitted("a.log", Reason.BUDGET, 24),)
    assert not changes.complete


@pytest.mark.parametrize("name", ["a.js", "src/a.PY", "Makefile", "conf.yaml"])
@pytest.mark.parametrize("added", [False, True])
def test_binary_with_the_name_of_source_code_makes_the_view_incomplete(
    project: Project, name: str, added: bool
) -> None:
    project.write("app.py", "changed\n")
    project.write(name, b"/*\0*/ evil();\n")
    if added:
        project.git("add", ".")
    for scope in (Scope(), Scope("files")):
        changes = project.gather(scope)
        assert changes.omitted == (Omitted(name, Reason.BINARY, 14, readable=True),)
        assert not changes.complete


def test_binary_in_the_place_of_a_link_makes_the_view_incomplete(
    project: Project,
) -> None:
    (project.root / "a.js").symlink_to("app.py")
    project.commit()
    (project.root / "a.js").unlink()
    project.write("a.js", b"/*\0*/ evil();\n")
    project.write("app.py", "changed\n")
    changes = project.gather()
    assert changes.omitted == (Omitted("a.js", Reason.BINARY, 14, readable=True),)
    assert not changes.complete


def test_working_tree_encoding_is_honoured(project: Project) -> None:
    project.write(".gitattributes", "*.txt working-tree-encoding=UTF-16\n")
    project.write("a.txt", "one\n".encode("utf-16"))
    project.commit()
    project.write("a.txt", "größe\n".encode("utf-16"))
    assert "-one\n+größe\n" in project.gather().diff.decode()


def test_binary_change_is_listed_with_its_size(project: Project) -> None:
    project.write("picture", b"\0" * 10)
    project.commit()
    project.write("picture", b"\0" * 20)
    project.write("app.py", "changed\n")
    changes = project.gather()
    assert changes.omitted == (Omitted("picture", Reason.BINARY, 20),)
    assert changes.complete
    project.commit()
    assert project.gather(Scope("commit")).omitted == (
        Omitted("picture", Reason.BINARY, 20),
    )


@pytest.mark.parametrize("attribute", ["-diff", "binary", "diff=hidden"])
def test_text_that_an_attribute_calls_binary_is_shown(
    project: Project, attribute: str
) -> None:
    project.git("config", "diff.hidden.binary", "true")
    project.write(".gitattributes", f"*.py {attribute}\n*.bin {attribute}\n")
    project.write("a.bin", b"\0")
    project.commit()
    project.write("app.py", "evil\n")
    project.write("a.bin", b"\0\0")
    changes = project.gather()
    assert b"+evil\n" in changes.diff
    assert changes.omitted == (Omitted("a.bin", Reason.BINARY, 2),)
    project.git("rm", "--quiet", "--force", "docs/readme.md")
    project.commit()
    assert b"+evil\n" in project.gather(Scope("commit")).diff


def test_submodule_bump_is_shown_as_its_commits(
    project: Project, tmp_path: Path
) -> None:
    shutil.copytree(project.root, tmp_path / "other")
    project.git("submodule", "--quiet", "add", str(tmp_path / "other"), "inner")
    project.commit("with a submodule")
    inner = type(project)(project.root / "inner")
    bumped = inner.commit("bump")
    changes = project.gather()
    assert statuses(changes) == {"inner": "M"}
    assert f"+Subproject commit {bumped}\n".encode() in changes.diff
    assert changes.omitted == (Omitted("inner", Reason.SUBMODULE, 0),)
    assert not changes.complete
    project.commit()
    assert project.gather(Scope("commit")).omitted == changes.omitted


def test_conflict_is_shown_with_its_marks_and_status(project: Project) -> None:
    conflict(project)
    changes = project.gather()
    assert statuses(changes) == {"app.py": "U", "new.py": "A"}
    assert b"+<<<<<<< " in changes.diff


def test_conflict_is_listed_in_the_index(project: Project) -> None:
    conflict(project)
    project.git("add", "new.py")
    changes = project.gather(Scope("staged"))
    assert changes.omitted == (Omitted("app.py", Reason.UNMERGED, 0),)
    assert not changes.complete


def conflict(project: Project) -> None:
    project.git("checkout", "--quiet", "-b", "other")
    project.write("app.py", "theirs\n")
    project.commit()
    project.git("checkout", "--quiet", "main")
    project.write("app.py", "ours\n")
    project.commit()
    with pytest.raises(Exception, match="merge"):
        project.git("merge", "--quiet", "other")
    project.write("new.py")


def test_intent_to_add_is_shown_as_new(project: Project) -> None:
    project.write("planned.py", "soon\n")
    project.git("add", "--intent-to-add", "planned.py")
    changes = project.gather()
    assert statuses(changes) == {"planned.py": "A"}
    assert b"+soon\n" in changes.diff


def test_lock_of_another_git_is_no_hindrance(project: Project) -> None:
    project.write("app.py", "changed\n")
    project.write(".git/index.lock", "")
    assert statuses(project.gather()) == {"app.py": "M"}


def test_sparse_checkout_shows_only_what_changed(project: Project) -> None:
    project.git("sparse-checkout", "set", "--no-cone", "/app.py")
    project.write("app.py", "changed\n")
    assert statuses(project.gather()) == {"app.py": "M"}
    assert set(statuses(project.gather(Scope("files")))) == {"app.py"}


def test_partial_clone_fetches_nothing_and_says_so(
    project: Project, tmp_path: Path
) -> None:
    project.write("app.py", "second\n")
    project.commit()
    project.git("config", "uploadpack.allowFilter", "true")
    project.git(
        "clone",
        "--quiet",
        "--filter=blob:none",
        f"file://{project.root}",
        str(tmp_path / "clone"),
    )
    clone = type(project)(tmp_path / "clone")
    error = refusal_of(clone, Scope("commit"))
    assert error.code is Code.WORKSPACE_INVALID
    assert "none are fetched here" in (error.repair or "")


def test_shallow_clone_does_not_take_its_edge_for_the_beginning(
    project: Project, tmp_path: Path
) -> None:
    project.write("app.py", "second\n")
    project.commit()
    project.git(
        "clone",
        "--quiet",
        "--depth=1",
        f"file://{project.root}",
        str(tmp_path / "clone"),
    )
    error = refusal_of(type(project)(tmp_path / "clone"), Scope("commit"))
    assert error.code is Code.UNKNOWN_REF
    assert "shallow" in error.message


def test_linked_worktree_and_submodule_are_reviewed(
    project: Project, tmp_path: Path
) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = type(project)(tmp_path / "linked")
    linked.write("app.py", "in the linked tree\n")
    assert b"+in the linked tree\n" in linked.gather().diff
    assert refusal_of(project, Scope()).code is Code.NOTHING_TO_REVIEW


def test_checkout_is_not_touched(project: Project) -> None:
    project.write("app.py", "changed\n")
    project.write("new.py")
    os.utime(project.root / "docs/readme.md", (1, 1))
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
    project.gather()
    assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before


def test_tree_that_stays_has_not_moved(project: Project) -> None:
    project.write("app.py", "changed\n")
    project.write("new.py")
    project.git("add", "app.py")
    repo = project.repo()
    scopes = (
        Scope(),
        Scope("staged"),
        Scope("files"),
        Scope("commit"),
        Scope(paths=("app.py",)),
    )
    assert not any(gather(repo, scope, 10_000).moved(repo) for scope in scopes)


@pytest.mark.parametrize("touch", ["app.py", "new.py", "another.py"])
def test_tree_that_is_edited_meanwhile_has_moved(project: Project, touch: str) -> None:
    project.write("app.py", "changed\n")
    project.write("new.py")
    changes = project.gather()
    project.write(touch, "changed again, to another size\n")
    assert changes.moved(project.repo())


def test_index_and_branch_that_change_meanwhile_have_moved(project: Project) -> None:
    project.write("app.py", "changed\n")
    project.git("add", ".")
    staged, audited = project.gather(Scope("staged")), project.gather(Scope("files"))
    project.write("docs/readme.md", "staged too\n")
    project.git("add", ".")
    assert staged.moved(project.repo())
    assert audited.moved(project.repo())
    project.commit("one")
    commit = project.gather(Scope("commit"))
    project.commit("two")
    assert commit.moved(project.repo())


# --- characters that hide or reorder text


def test_a_reviewer_sees_characters_that_an_editor_hides(project: Project) -> None:
    project.write(
        "app.py", "x = 'user\u202e \u2066# admin\u2069'\n#\rdrop()\na\u200bb\n"
    )
    project.write("new.py", "y = '\U000e0041\u2028'\n")
    diff = project.gather().diff.decode()
    assert "+x = 'user<U+202E> <U+2066># admin<U+2069>'\n+#<U+000D>drop()\n" in diff
    assert "+a<U+200B>b\n" in diff
    assert "+y = '<U+E0041><U+2028>'\n" in diff


def test_a_reviewer_of_whole_files_sees_them_too(project: Project) -> None:
    project.write("app.py", "#\rdrop()\n\u202e\n")
    diff = project.gather(Scope("files", paths=("app.py",))).diff.decode()
    assert diff.endswith("1\t#<U+000D>drop()\n2\t<U+202E>\n")


@pytest.mark.parametrize("content", [b"import os\n\0", b"\xff\xfe\0\0i\0"])
@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
def test_a_source_file_that_is_made_binary_makes_the_material_incomplete(
    project: Project, content: bytes, tracked: bool
) -> None:
    project.write("other.py", "x\n")
    project.write("evil.py", content)
    if tracked:
        project.git("add", "evil.py")
    changes = project.gather()
    assert [(item.path, item.reason) for item in changes.omitted] == [
        ("evil.py", Reason.BINARY)
    ]
    assert not changes.complete
