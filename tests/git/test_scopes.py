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
    from tests.git.conftest import Ground


def listed(changes: Changes) -> dict[str, str]:
    return {entry.path: entry.status for entry in changes.entries}


def refused(ground: Ground, scope: Scope) -> CounselError:
    with pytest.raises(CounselError) as caught:
        ground.gather(scope)
    return caught.value


def test_working_tree_shows_staged_unstaged_and_untracked(ground: Ground) -> None:
    ground.write("app.py", "staged\n")
    ground.git("add", "app.py")
    ground.write("docs/readme.md", "unstaged\n")
    ground.write("new.py", "untracked\n")
    changes = ground.gather()
    assert listed(changes) == {"app.py": "M", "docs/readme.md": "M", "new.py": "A"}
    assert all(f"+{word}\n".encode() in changes.diff for word in ("staged", "unstaged", "untracked"))
    assert changes.complete
    assert (changes.base_sha, changes.head_sha) == (ground.git("rev-parse", "HEAD"), None)


def test_only_new_files_are_something_to_review(ground: Ground) -> None:
    ground.write("new.py", "untracked\n")
    assert listed(ground.gather()) == {"new.py": "A"}


def test_untracked_file_looks_like_git_would_show_it_added(ground: Ground) -> None:
    ground.write("a b.py", "one\ntwo")
    ground.write("run.sh", "#!/bin/sh\n").chmod(0o755)
    ground.write("empty")
    ground.write("empty", "")
    ours = ground.gather().diff
    ground.git("add", ".")
    gits = ground.git("diff", "--cached", "HEAD").encode() + b"\n"
    assert ours == b"".join(line for line in gits.splitlines(keepends=True) if not line.startswith(b"index "))


def test_staged_shows_the_index_only(ground: Ground) -> None:
    ground.write("app.py", "staged\n")
    ground.git("add", "app.py")
    ground.write("app.py", "later\n")
    ground.write("new.py")
    changes = ground.gather(Scope("staged"))
    assert listed(changes) == {"app.py": "M"}
    assert b"+staged\n" in changes.diff
    assert b"later" not in changes.diff


def test_branch_shows_its_commits_since_it_left_the_base(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "feature")
    ground.write("feature.py")
    head = ground.commit("Add the feature\n\nBecause it was missing.")
    ground.git("checkout", "--quiet", "main")
    ground.write("other.py")
    ground.commit("Something else")
    ground.git("checkout", "--quiet", "feature")
    ground.write("app.py", "not committed\n")
    changes = ground.gather(Scope("branch", base="main"))
    assert listed(changes) == {"feature.py": "A"}
    assert changes.head_sha == head
    assert [(c.sha, c.subject, c.body) for c in changes.commits] == [
        (head, "Add the feature", "Because it was missing.")
    ]


def test_commit_shows_what_it_changed(ground: Ground) -> None:
    ground.write("app.py", "second\n")
    second = ground.commit("second")
    ground.write("app.py", "third\n")
    ground.commit("third")
    changes = ground.gather(Scope("commit", commit="HEAD~1"))
    assert changes.head_sha == second
    assert b"+second\n" in changes.diff
    assert [c.subject for c in changes.commits] == ["second"]


def test_first_commit_shows_everything_as_new(ground: Ground) -> None:
    changes = ground.gather(Scope("commit"))
    assert listed(changes) == {"app.py": "A", "docs/readme.md": "A"}
    assert changes.base_sha is None
    assert [c.subject for c in changes.commits] == ["begin"]


def test_merge_commit_shows_what_it_brought_in(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "feature")
    ground.write("feature.py")
    ground.commit("feature")
    ground.git("checkout", "--quiet", "main")
    ground.write("other.py")
    ground.commit("other")
    ground.git("merge", "--quiet", "--no-edit", "feature")
    changes = ground.gather(Scope("commit"))
    assert listed(changes) == {"feature.py": "A"}
    assert "feature" in [c.subject for c in changes.commits]


def test_range_of_two_dots_compares_the_ends_and_of_three_the_fork(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "feature")
    ground.write("feature.py", "feature\n")
    ground.commit("feature")
    ground.git("checkout", "--quiet", "main")
    ground.write("other.py", "other\n")
    ground.commit("other")
    assert listed(ground.gather(Scope("range", range="main..feature"))) == {"feature.py": "A", "other.py": "D"}
    assert listed(ground.gather(Scope("range", range="main...feature"))) == {"feature.py": "A"}


def test_files_shows_whole_files_with_numbered_lines(ground: Ground) -> None:
    ground.write("docs/readme.md", "# Title\r\n\nlast")
    changes = ground.gather(Scope("files", paths=("docs",)))
    assert changes.diff == b"=== docs/readme.md (14 bytes)\n1\t# Title\r\n2\t\n3\tlast\n"
    assert listed(changes) == {"docs/readme.md": "F"}


def test_files_is_the_whole_tree_by_default_without_what_git_ignores(ground: Ground) -> None:
    ground.write(".gitignore", "*.log\n")
    ground.write("x.log")
    ground.write("new.py")
    assert set(listed(ground.gather(Scope("files")))) == {".gitignore", "app.py", "docs/readme.md", "new.py"}


def test_ignored_file_named_outright_is_shown(ground: Ground) -> None:
    ground.write(".gitignore", "*.log\n")
    ground.write("x.log")
    assert set(listed(ground.gather(Scope("files", paths=("x.log",))))) == {"x.log"}


@pytest.mark.parametrize("kind", ["working_tree", "files"])
def test_before_the_first_commit_files_are_shown(empty: Ground, kind: str) -> None:
    empty.write("a.py")
    changes = empty.gather(Scope("files" if kind == "files" else "working_tree"))
    assert set(listed(changes)) == {"a.py"}
    assert changes.base_sha is None


def test_before_the_first_commit_staged_files_are_shown(empty: Ground) -> None:
    empty.write("a.py")
    empty.git("add", ".")
    assert listed(empty.gather(Scope("staged"))) == {"a.py": "A"}


@pytest.mark.parametrize("scope", [Scope("branch", base="main"), Scope("commit"), Scope("range", range="HEAD..main")])
def test_before_the_first_commit_scopes_of_commits_say_no_commits(empty: Ground, scope: Scope) -> None:
    assert refused(empty, scope).code is Code.NO_COMMITS


def test_repository_of_sha256_is_reviewed(tmp_path: Path, ground: Ground) -> None:
    place = type(ground)(tmp_path / "other")
    place.root.mkdir()
    place.git("init", "--quiet", "--object-format=sha256")
    place.write("a.py")
    assert listed(place.gather()) == {"a.py": "A"}
    place.commit()
    assert listed(place.gather(Scope("commit"))) == {"a.py": "A"}


@pytest.mark.parametrize("kind", ["working_tree", "staged"])
def test_clean_tree_has_nothing_to_review(ground: Ground, kind: str) -> None:
    error = refused(ground, Scope("staged" if kind == "staged" else "working_tree"))
    assert error.code is Code.NOTHING_TO_REVIEW


def test_empty_commit_has_nothing_to_review(ground: Ground) -> None:
    ground.commit("empty")
    assert refused(ground, Scope("commit")).code is Code.NOTHING_TO_REVIEW


def test_change_that_cannot_be_shown_is_nothing_to_review_and_says_why(ground: Ground) -> None:
    ground.write("picture", b"\0\1\2")
    error = refused(ground, Scope())
    assert error.code is Code.NOTHING_TO_REVIEW
    assert error.details["omitted"] == [{"path": "picture", "reason": "binary", "bytes": 3}]


def test_subdirectory_shows_the_whole_repository_by_paths_from_the_root(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    ground.write("docs/new.md")
    changes = gather(ground.repo("docs"), Scope(), 10_000)
    assert listed(changes) == {"app.py": "M", "docs/new.md": "A"}
    assert b"+++ b/docs/new.md\n" in changes.diff


def test_paths_are_relative_to_the_workspace(ground: Ground) -> None:
    for name in ("app.py", "docs/readme.md", "docs/new.md", "readme.md"):
        ground.write(name, "changed\n")
    repo = ground.repo("docs")
    assert set(listed(gather(repo, Scope(paths=("readme.md",)), 10_000))) == {"docs/readme.md"}
    assert set(listed(gather(repo, Scope(paths=(".",)), 10_000))) == {"docs/readme.md", "docs/new.md"}
    assert set(listed(gather(repo, Scope(paths=("../app.py",)), 10_000))) == {"app.py"}
    assert set(listed(gather(repo, Scope(paths=(str(ground.root / "app.py"),)), 10_000))) == {"app.py"}


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "..", "", "a\0b", ".git/config", "docs/../../x"])
def test_path_out_of_the_repository_is_refused(ground: Ground, path: str) -> None:
    ground.write("app.py", "changed\n")
    assert refused(ground, Scope(paths=(path,))).code is Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    "scope", [Scope(paths=("aap.py",)), Scope("commit", paths=("aap.py",)), Scope("files", paths=("aap.py",))]
)
def test_path_that_matches_no_file_is_a_mistake_and_not_clean(ground: Ground, scope: Scope) -> None:
    ground.write("app.py", "changed\n")
    error = refused(ground, scope)
    assert error.code is Code.INVALID_ARGUMENTS
    assert "aap.py" in error.message


def test_one_mistaken_path_among_others_is_named(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    assert "No file matches aap.py." in refused(ground, Scope(paths=("app.py", "aap.py"))).message


def test_path_without_a_change_has_nothing_to_review(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    error = refused(ground, Scope(paths=("docs",)))
    assert error.code is Code.NOTHING_TO_REVIEW
    assert "under docs" in error.message


@pytest.mark.parametrize(
    "name", ["*.py", ":(top)x", "[a]", "-x", ":!a", "a b", 'q"uote', "new\nline", "tab\tbed", "back\\slash", "é"]
)
def test_path_is_taken_literally(ground: Ground, name: str) -> None:
    ground.write(name, "before\n")
    ground.write("z.py")
    ground.commit()
    ground.write(name, "after\n")
    ground.write("z.py", "changed\n")
    ground.write(f"{name} too", "new\n")
    changes = ground.gather(Scope(paths=(name, f"{name} too")))
    assert [entry.path_bytes for entry in changes.entries] == [os.fsencode(name), os.fsencode(f"{name} too")]
    assert b"+after\n" in changes.diff


def test_names_of_any_bytes_are_kept_and_shown_safely(ground: Ground) -> None:
    names = [b"l\xe9.txt", b"nl\n.txt", b"esc\x1b.txt", "日本.txt".encode(), b'"q".txt']
    for name in names:
        ground.write(name, "before\n")
    ground.commit()
    for name in names:
        ground.write(name, "after\n")
        ground.write(name + b".new", "new\n")
    changes = ground.gather()
    assert {entry.path_bytes for entry in changes.entries} == {*names, *(name + b".new" for name in names)}
    assert {"l\\xe9.txt", "nl\\n.txt", "esc\\x1b.txt", "日本.txt"} <= set(listed(changes))
    assert changes.diff.decode().count("+after\n") == len(names)
    assert all(entry.path.isprintable() and entry.path.encode() for entry in changes.entries)


def test_rename_deletion_mode_and_type_are_told(ground: Ground) -> None:
    ground.write("mode.sh", "echo\n")
    ground.write("kind", "was a file\n")
    ground.write("old name.py", "".join(f"{n}\n" for n in range(50)))
    ground.commit()
    ground.git("mv", "old name.py", "new name.py")
    ground.git("rm", "--quiet", "docs/readme.md")
    (ground.root / "mode.sh").chmod(0o755)
    (ground.root / "kind").unlink()
    (ground.root / "kind").symlink_to("/etc/passwd")
    changes = ground.gather()
    by_name = {entry.path: entry for entry in changes.entries}
    assert listed(changes) == {"docs/readme.md": "D", "kind": "T", "mode.sh": "M", "new name.py": "R"}
    assert by_name["new name.py"].old_path == "old name.py"
    assert by_name["mode.sh"].modes == ("100644", "100755")
    assert (by_name["kind"].added, by_name["kind"].deleted) == (1, 1)
    assert b"+/etc/passwd\n" in changes.diff
    assert b"root:" not in changes.diff


def test_lines_are_counted_as_git_counts_them(ground: Ground) -> None:
    ground.write("app.py", "--- a\n+++ b\n@@ -1 +1 @@\ndiff --git a/x b/x\n\\ odd\n")
    ground.write("docs/readme.md", "-- \n++ \nno end")
    changes = ground.gather()
    numbers = [line.split("\t") for line in ground.git("diff", "--numstat", "HEAD").splitlines()]
    assert [(str(e.added), str(e.deleted), e.path) for e in changes.entries] == [tuple(row) for row in numbers]


def test_line_ends_are_kept_and_control_characters_written_out(ground: Ground) -> None:
    ground.write("app.py", "one\r\ntwo\x0c\r\nthree\rfour\n")
    assert b"+one\r\n+two\\x0c\r\n+three\rfour\n" in ground.gather().diff


def test_line_end_conversion_of_the_user_is_honoured(ground: Ground) -> None:
    ground.git("config", "--global", "core.autocrlf", "true")
    ground.write("app.py", (ground.root / "app.py").read_bytes().replace(b"\n", b"\r\n"))
    ground.write("docs/readme.md", "# Title\r\nmore\r\n")
    assert ground.gather().diff.endswith(b" # Title\n+more\n")


def test_global_excludes_of_the_user_are_honoured(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "ignored").write_text("*.swp\n", encoding="utf-8")
    ground.git("config", "--global", "core.excludesFile", str(tmp_path / "ignored"))
    ground.write("a.swp")
    ground.write("a.py")
    assert set(listed(ground.gather())) == {"a.py"}


def test_latin1_text_is_shown_readable(ground: Ground) -> None:
    ground.write("app.py", "größe\n".encode("latin-1") + "größe\n".encode())
    assert "+größe\n+größe\n" in ground.gather().diff.decode()


def test_utf16_text_of_a_new_file_is_shown_readable(ground: Ground) -> None:
    ground.write("new.txt", "größe\r\n".encode("utf-16"))
    assert "+größe\r\n" in ground.gather().diff.decode()


@pytest.mark.parametrize("attribute", ["", "-diff"])
def test_utf16_text_that_git_tracks_is_compared_as_text(ground: Ground, attribute: str) -> None:
    before = "".join(f"line {n}\r\n" for n in range(1, 21))
    after = before.replace("line 9\r\n", "evil ü\r\n").replace("line 11\r\n", "")
    ground.write(".gitattributes", f"*.ps1 {attribute}\n" if attribute else "")
    ground.write("run.ps1", before.encode("utf-16"))
    ground.commit()
    ground.write("run.ps1", after.encode("utf-16"))
    plain = ground.gather()
    ground.git("add", ".")
    ground.git("commit", "--quiet", "--message", "evil")
    kept = "".join(f" line {n}\r\n" for n in (6, 7, 8))
    rest = "".join(f" line {n}\r\n" for n in (12, 13, 14))
    changed = "-line 9\r\n-line 10\r\n-line 11\r\n+evil ü\r\n+line 10\r\n"
    shown = f"--- a/run.ps1\n+++ b/run.ps1\n@@ -6,9 +6,8 @@\n{kept}{changed}{rest}"
    for changes in (plain, ground.gather(Scope("commit"))):
        assert changes.diff.decode().endswith(shown)
        assert (changes.complete, changes.omitted) == (True, ())
        assert [(entry.added, entry.deleted) for entry in changes.entries] == [(2, 3)]


def test_utf16_text_that_comes_goes_or_is_written_anew_is_shown(ground: Ground) -> None:
    ground.write("gone.ps1", "old\n".encode("utf-16"))
    ground.write("anew.ps1", "old\n".encode("utf-16"))
    ground.commit()
    (ground.root / "gone.ps1").unlink()
    ground.write("anew.ps1", "new\n")
    ground.write("come.ps1", "new".encode("utf-16-be").join([b"\xfe\xff", b""]))
    ground.git("add", ".")
    text = ground.gather(Scope("staged")).diff.decode()
    assert "--- a/anew.ps1\n+++ b/anew.ps1\n@@ -1,1 +1,1 @@\n-old\n+new\n" in text
    assert "--- /dev/null\n+++ b/come.ps1\n@@ -0,0 +1,1 @@\n+new\n\\ No newline at end of file\n" in text
    assert "--- a/gone.ps1\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-old\n" in text


def test_utf16_text_too_long_to_be_compared_makes_the_view_incomplete(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.review.changes.tracked.MAX_DECODED", 10)
    ground.write("a.log", "long enough".encode("utf-16"))
    ground.write("app.py", "changed\n")
    ground.git("add", ".")
    changes = ground.gather()
    assert changes.omitted == (Omitted("a.log", Reason.BUDGET, 24),)
    assert not changes.complete


@pytest.mark.parametrize("name", ["a.js", "src/a.PY", "Makefile", "conf.yaml"])
@pytest.mark.parametrize("added", [False, True])
def test_binary_with_the_name_of_source_code_makes_the_view_incomplete(ground: Ground, name: str, added: bool) -> None:
    ground.write("app.py", "changed\n")
    ground.write(name, b"/*\0*/ evil();\n")
    if added:
        ground.git("add", ".")
    for scope in (Scope(), Scope("files")):
        changes = ground.gather(scope)
        assert changes.omitted == (Omitted(name, Reason.BINARY, 14, readable=True),)
        assert not changes.complete


def test_binary_in_the_place_of_a_link_makes_the_view_incomplete(ground: Ground) -> None:
    (ground.root / "a.js").symlink_to("app.py")
    ground.commit()
    (ground.root / "a.js").unlink()
    ground.write("a.js", b"/*\0*/ evil();\n")
    ground.write("app.py", "changed\n")
    changes = ground.gather()
    assert changes.omitted == (Omitted("a.js", Reason.BINARY, 14, readable=True),)
    assert not changes.complete


def test_working_tree_encoding_is_honoured(ground: Ground) -> None:
    ground.write(".gitattributes", "*.txt working-tree-encoding=UTF-16\n")
    ground.write("a.txt", "one\n".encode("utf-16"))
    ground.commit()
    ground.write("a.txt", "größe\n".encode("utf-16"))
    assert "-one\n+größe\n" in ground.gather().diff.decode()


def test_binary_change_is_listed_with_its_size(ground: Ground) -> None:
    ground.write("picture", b"\0" * 10)
    ground.commit()
    ground.write("picture", b"\0" * 20)
    ground.write("app.py", "changed\n")
    changes = ground.gather()
    assert changes.omitted == (Omitted("picture", Reason.BINARY, 20),)
    assert changes.complete
    ground.commit()
    assert ground.gather(Scope("commit")).omitted == (Omitted("picture", Reason.BINARY, 20),)


@pytest.mark.parametrize("attribute", ["-diff", "binary", "diff=hidden"])
def test_text_that_an_attribute_calls_binary_is_shown(ground: Ground, attribute: str) -> None:
    ground.git("config", "diff.hidden.binary", "true")
    ground.write(".gitattributes", f"*.py {attribute}\n*.bin {attribute}\n")
    ground.write("a.bin", b"\0")
    ground.commit()
    ground.write("app.py", "evil\n")
    ground.write("a.bin", b"\0\0")
    changes = ground.gather()
    assert b"+evil\n" in changes.diff
    assert changes.omitted == (Omitted("a.bin", Reason.BINARY, 2),)
    ground.git("rm", "--quiet", "--force", "docs/readme.md")
    ground.commit()
    assert b"+evil\n" in ground.gather(Scope("commit")).diff


def test_submodule_bump_is_shown_as_its_commits(ground: Ground, tmp_path: Path) -> None:
    shutil.copytree(ground.root, tmp_path / "other")
    ground.git("submodule", "--quiet", "add", str(tmp_path / "other"), "inner")
    ground.commit("with a submodule")
    inner = type(ground)(ground.root / "inner")
    inner.write("app.py", "inside\n")
    assert refused(ground, Scope()).code is Code.NOTHING_TO_REVIEW
    bumped = inner.commit("bump")
    changes = ground.gather()
    assert listed(changes) == {"inner": "M"}
    assert f"+Subproject commit {bumped}\n".encode() in changes.diff


def test_conflict_is_shown_with_its_marks_and_status(ground: Ground) -> None:
    conflict(ground)
    changes = ground.gather()
    assert listed(changes) == {"app.py": "U", "new.py": "A"}
    assert b"+<<<<<<< " in changes.diff


def test_conflict_is_listed_in_the_index(ground: Ground) -> None:
    conflict(ground)
    ground.git("add", "new.py")
    changes = ground.gather(Scope("staged"))
    assert changes.omitted == (Omitted("app.py", Reason.UNMERGED, 0),)
    assert not changes.complete


def conflict(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "other")
    ground.write("app.py", "theirs\n")
    ground.commit()
    ground.git("checkout", "--quiet", "main")
    ground.write("app.py", "ours\n")
    ground.commit()
    with pytest.raises(Exception, match="merge"):
        ground.git("merge", "--quiet", "other")
    ground.write("new.py")


def test_intent_to_add_is_shown_as_new(ground: Ground) -> None:
    ground.write("planned.py", "soon\n")
    ground.git("add", "--intent-to-add", "planned.py")
    changes = ground.gather()
    assert listed(changes) == {"planned.py": "A"}
    assert b"+soon\n" in changes.diff


def test_lock_of_another_git_is_no_hindrance(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    ground.write(".git/index.lock", "")
    assert listed(ground.gather()) == {"app.py": "M"}


def test_sparse_checkout_shows_only_what_changed(ground: Ground) -> None:
    ground.git("sparse-checkout", "set", "--no-cone", "/app.py")
    ground.write("app.py", "changed\n")
    assert listed(ground.gather()) == {"app.py": "M"}
    assert set(listed(ground.gather(Scope("files")))) == {"app.py"}


def test_partial_clone_fetches_nothing_and_says_so(ground: Ground, tmp_path: Path) -> None:
    ground.write("app.py", "second\n")
    ground.commit()
    ground.git("config", "uploadpack.allowFilter", "true")
    ground.git("clone", "--quiet", "--filter=blob:none", f"file://{ground.root}", str(tmp_path / "clone"))
    clone = type(ground)(tmp_path / "clone")
    error = refused(clone, Scope("commit"))
    assert error.code is Code.WORKSPACE_INVALID
    assert "none are fetched here" in (error.repair or "")


def test_shallow_clone_does_not_take_its_edge_for_the_beginning(ground: Ground, tmp_path: Path) -> None:
    ground.write("app.py", "second\n")
    ground.commit()
    ground.git("clone", "--quiet", "--depth=1", f"file://{ground.root}", str(tmp_path / "clone"))
    error = refused(type(ground)(tmp_path / "clone"), Scope("commit"))
    assert error.code is Code.UNKNOWN_REF
    assert "shallow" in error.message


def test_linked_worktree_and_submodule_are_reviewed(ground: Ground, tmp_path: Path) -> None:
    ground.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    linked = type(ground)(tmp_path / "linked")
    linked.write("app.py", "in the linked tree\n")
    assert b"+in the linked tree\n" in linked.gather().diff
    assert refused(ground, Scope()).code is Code.NOTHING_TO_REVIEW


def test_checkout_is_not_touched(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    ground.write("new.py")
    os.utime(ground.root / "docs/readme.md", (1, 1))
    before = {path: path.stat().st_mtime_ns for path in ground.root.rglob("*")}
    ground.gather()
    assert {path: path.stat().st_mtime_ns for path in ground.root.rglob("*")} == before


def test_tree_that_stays_has_not_moved(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    ground.write("new.py")
    ground.git("add", "app.py")
    repo = ground.repo()
    scopes = (Scope(), Scope("staged"), Scope("files"), Scope("commit"), Scope(paths=("app.py",)))
    assert not any(gather(repo, scope, 10_000).moved(repo) for scope in scopes)


@pytest.mark.parametrize("touch", ["app.py", "new.py", "another.py"])
def test_tree_that_is_edited_meanwhile_has_moved(ground: Ground, touch: str) -> None:
    ground.write("app.py", "changed\n")
    ground.write("new.py")
    changes = ground.gather()
    ground.write(touch, "changed again, to another size\n")
    assert changes.moved(ground.repo())


def test_index_and_branch_that_change_meanwhile_have_moved(ground: Ground) -> None:
    ground.write("app.py", "changed\n")
    ground.git("add", ".")
    staged, audited = ground.gather(Scope("staged")), ground.gather(Scope("files"))
    ground.write("docs/readme.md", "staged too\n")
    ground.git("add", ".")
    assert staged.moved(ground.repo())
    assert audited.moved(ground.repo())
    ground.commit("one")
    commit = ground.gather(Scope("commit"))
    ground.commit("two")
    assert commit.moved(ground.repo())
