"""What a user has in front of them arrives in the shadow, byte for byte, and theirs stays as it was, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codex_counsel.delegate import seed
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from tests.git.delegate.conftest import UserRepository
from tests.git.delegate.states import files


def arrived(place: UserRepository, *but: bytes) -> None:
    """All of the user's files are in the shadow, those that are named left out."""
    expected = {
        name: content for name, content in files(place.root).items() if name not in but
    }
    assert place.seed().files == expected


def test_a_clean_repository_arrives_as_it_is(place: UserRepository) -> None:
    arrived(place)


def test_every_kind_of_uncommitted_work_arrives(place: UserRepository) -> None:
    place.write("staged.txt", "staged\n")
    place.write("app.py", "staged first\n")
    place.git("add", "staged.txt", "app.py")
    place.write("app.py", "then changed again\n")
    (place.root / "docs/readme.md").unlink()
    place.git("mv", "logo.png", "docs/logo.png")
    place.write("docs/logo.png", b"\0\xff binary")
    place.write("run.sh", "#!/bin/sh\necho\n", 0o644)
    place.write("untracked/deep/file", "mine\n")
    place.write("untracked/tool", "x", 0o755)
    place.write("empty", "")
    place.write("no-newline", "end")
    (place.root / "untracked/link").symlink_to("/etc/passwd")
    (place.root / "latest").unlink()
    (place.root / "latest").symlink_to("app.py")
    arrived(place)


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        b"new\nline",
        b'quo"te',
        b"back\\slash",
        b"tab\there",
        b" blank ",
        b"-dash",
        b":colon",
        b"*star",
        "ü".encode(),
    ],
)
@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "untracked"])
def test_a_name_of_any_bytes_arrives(
    place: UserRepository, name: bytes, *, tracked: bool
) -> None:
    place.write(name, "before\n")
    place.write(b"folder " + name + b"/" + name, "in a folder\n")
    if tracked:
        place.commit()
        place.write(name, "after\n")
    arrived(place)


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ("[core]\n autocrlf = true\n", ""),
        ("[core]\n autocrlf = input\n", ""),
        ("[core]\n autocrlf = true\n", "* -text\n"),
        ("[core]\n eol = crlf\n", "* text=auto\n"),
        ("", "* text=auto\n"),
        ("", "* text eol=crlf\n"),
        ("", "*.txt ident\n"),
        ("", "*.txt text working-tree-encoding=UTF-16LE\n"),
        ("[core]\n eol = crlf\n", "*.txt crlf\n"),
        ("", "[attr]odd text eol=crlf\n*.txt odd\n"),
    ],
)
def test_converted_files_arrive_as_the_bytes_on_disk(
    place: UserRepository, own_git_settings: Path, settings: str, attributes: str
) -> None:
    own_git_settings.write_text(own_git_settings.read_text() + settings)
    place.write(".gitattributes", attributes)
    wide = "UTF-16LE" if "UTF-16LE" in attributes else "utf-8"
    contents = {
        "unix": "a\nb\n",
        "dos": "a\r\nb\r\n",
        "mixed": "a\r\nb\n",
        "old": "a\rb\r",
        "id": "$Id$\nb\n",
    }
    for name, text in contents.items():
        place.write(f"{name}.txt", text.encode(wide))
    place.commit()
    for name in contents:
        (place.root / f"{name}.txt").unlink()
    place.git("checkout", "--", ".")
    place.write("dos.txt", "c\r\n".encode(wide))
    place.write("untracked.txt", "a\r\nb\n".encode(wide))
    arrived(place)


def test_attributes_of_the_user_and_of_the_clone_count_too(
    place: UserRepository, own_git_settings: Path
) -> None:
    (place.root / ".git/info/attributes").write_text("*.one text eol=crlf\n")
    (place.base / "mine").write_text("*.two text eol=crlf\n")
    place.git("config", "--global", "core.attributesFile", str(place.base / "mine"))
    place.write("a.one", "a\r\n")
    place.write("a.two", "a\r\n")
    place.commit()
    arrived(place)


def test_files_that_git_was_told_not_to_look_at_arrive_as_they_are(
    place: UserRepository,
) -> None:
    place.git("update-index", "--assume-unchanged", "app.py")
    place.git("update-index", "--skip-worktree", "run.sh")
    place.write("app.py", "changed in secret\n")
    place.write("run.sh", "changed in secret too\n")
    arrived(place)


def test_a_file_that_is_only_intended_to_be_added_arrives(
    place: UserRepository,
) -> None:
    place.write("new.py", "new\n")
    place.git("add", "--intent-to-add", "new.py")
    arrived(place)


def test_ignored_files_do_not_arrive_whoever_ignores_them(
    place: UserRepository, own_git_settings: Path
) -> None:
    place.write("debug.log")
    place.write("build/out.o")
    place.write("mine.tmp")
    place.write("theirs.bak")
    (place.root / ".git/info/exclude").write_text("*.tmp\n")
    (place.base / "excludes").write_text("*.bak\n")
    place.git("config", "--global", "core.excludesFile", str(place.base / "excludes"))
    arrived(place, b"debug.log", b"build/out.o", b"mine.tmp", b"theirs.bak")


def test_git_takes_its_home_from_the_environment_that_is_passed(
    place: UserRepository,
) -> None:
    config = place.base / "other-home/.config/git"
    config.mkdir(parents=True)
    (config / "ignore").write_text("*.theirs\n")
    place.write("file.theirs")
    env = {**os.environ, "HOME": str(place.base / "other-home")}
    repo = Repo.open(place.root, 60, env=env)
    plan = seed.survey(repo)
    shadow = Shadow.create(repo, place.base / "shadow", plan.head)
    place.shadows.append(shadow)
    baseline = seed.populate(repo, plan, shadow)
    assert b"file.theirs" not in files(shadow.tree)
    (shadow.tree / "new.theirs").write_text("ignored\n")
    assert shadow.snapshot() == baseline
    assert shadow.env["HOME"] == env["HOME"]


def test_a_tracked_file_that_matches_an_ignore_pattern_arrives(
    place: UserRepository,
) -> None:
    place.write("kept.log", "kept\n")
    place.git("add", "--force", "kept.log")
    place.git("commit", "-qm", "keep")
    place.write("kept.log", "changed\n")
    arrived(place)


def test_untracked_secret_files_are_left_out_and_named_and_tracked_ones_arrive(
    place: UserRepository,
) -> None:
    place.write(".env.production", "KEY=1\n")
    place.commit()
    place.write(".env", "KEY=2\n")
    place.write("keys/id_rsa", "secret\n")
    place.write(".env.example", "KEY=\n")
    seeded = place.seed()
    assert seeded.omitted == {".env": "secret_file", "keys/id_rsa": "secret_file"}
    assert {b".env.production", b".env.example"} <= set(seeded.files)
    assert not {b".env", b"keys/id_rsa"} & set(seeded.files)


def test_untracked_files_over_the_budget_are_left_out_and_named(
    place: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "MAX_UNTRACKED_FILE", 1000)
    monkeypatch.setattr(seed, "MAX_UNTRACKED", 1500)
    for name, size in (("a", 900), ("b", 1001), ("c", 900), ("d", 500)):
        place.write(name, b"x" * size)
    place.write("app.py", b"x" * 5000)
    seeded = place.seed()
    assert seeded.omitted == {"b": "budget", "c": "budget"}
    assert {b"a", b"d", b"app.py"} <= set(seeded.files)


def test_a_folder_that_became_a_link_does_not_bring_along_where_it_leads(
    place: UserRepository,
) -> None:
    outside = place.base / "outside"
    outside.mkdir()
    (outside / "readme.md").write_text("not yours\n")
    (place.root / "docs/readme.md").unlink()
    (place.root / "docs").rmdir()
    (place.root / "docs").symlink_to(outside)
    seeded = place.seed()
    assert seeded.files[b"docs"] == ("120000", os.fsencode(outside))
    assert b"docs/readme.md" not in seeded.files


def test_a_link_that_became_a_folder_and_a_file_that_became_one_arrive(
    place: UserRepository,
) -> None:
    (place.root / "latest").unlink()
    place.write("latest/file", "x\n")
    (place.root / "app.py").unlink()
    place.write("app.py/__init__.py", "x\n")
    arrived(place)


def test_pipes_and_sockets_are_passed_by(place: UserRepository) -> None:
    (place.root / "app.py").unlink()
    os.mkfifo(place.root / "app.py")
    os.mkfifo(place.root / "pipe")
    repo = Repo.open(place.root, 60, env=os.environ)
    plan = seed.survey(repo)
    shadow = Shadow.create(repo, place.base / "shadow", plan.head)
    place.shadows.append(shadow)
    seed.populate(repo, plan, shadow)
    assert not {b"app.py", b"pipe"} & set(files(shadow.tree))


def test_submodules_are_left_out_and_named_also_dirty_ones(
    place: UserRepository,
) -> None:
    other = UserRepository(place.base, place.base / "other")
    other.root.mkdir()
    other.git("init", "--quiet")
    other.write("file", "x\n")
    other.commit()
    place.git("submodule", "--quiet", "add", str(other.root), "sub")
    place.commit()
    place.write("sub/file", "dirty\n")
    place.write("sub/untracked", "dirty\n")
    seeded = place.seed()
    assert seeded.omitted == {"sub": "submodule"}
    assert set(seeded.files) == set(files(place.root)) - {
        b"sub/file",
        b"sub/untracked",
        b"sub/.git",
    }


def test_a_nested_repository_is_left_out_and_named(place: UserRepository) -> None:
    nested = UserRepository(place.base, place.root / "nested")
    nested.root.mkdir()
    nested.git("init", "--quiet")
    nested.write("file", "x\n")
    nested.commit()
    seeded = place.seed()
    assert seeded.omitted == {"nested/": "nested_repository"}
    assert not any(name.startswith(b"nested") for name in seeded.files)


def test_pointers_of_large_files_arrive_as_they_lie_on_disk_and_no_filter_runs(
    place: UserRepository,
) -> None:
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n"
    )
    place.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    place.write("pointer.bin", pointer)
    place.write("smudged.bin", pointer)
    place.commit()
    mark = place.base / "ran"
    for kind in ("clean", "smudge", "process"):
        place.git("config", f"filter.lfs.{kind}", f"touch {mark}; cat")
    place.git("config", "filter.lfs.required", "true")
    place.write("smudged.bin", b"\0the real thing")
    seeded = place.seed()
    assert seeded.files[b"pointer.bin"][1] == pointer.encode()
    assert seeded.files[b"smudged.bin"][1] == b"\0the real thing"
    assert not mark.exists()


def test_no_hook_monitor_or_filter_of_the_repository_runs(
    place: UserRepository,
) -> None:
    mark = place.base / "ran"
    program = place.base / "program"
    program.write_text(f"#!/bin/sh\necho $0 $* >> {mark}\ncat\n")
    program.chmod(0o755)
    place.write(".gitattributes", "*.py filter=evil\n*.sh diff=evil merge=evil\n")
    place.commit()
    for hook in (
        "post-checkout",
        "pre-commit",
        "post-index-change",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        (place.root / ".git/hooks").mkdir(exist_ok=True)
        (place.root / ".git/hooks" / hook).symlink_to(program)
    for name in ("clean", "smudge", "process"):
        place.git("config", f"filter.evil.{name}", str(program))
    for name, value in (
        ("core.fsmonitor", program),
        ("diff.evil.textconv", program),
        ("diff.external", program),
        ("merge.evil.driver", program),
        ("core.pager", program),
        ("core.alternateRefsCommand", program),
    ):
        place.git("config", name, str(value))
    place.write("app.py", "changed\n")
    place.write("new.py", "new\n")
    mark.unlink(missing_ok=True)
    seeded = place.seed()
    seeded.work("echo changed > run.sh; echo more >> app.py")
    assert not mark.exists()


def test_a_sparse_checkout_stays_sparse_and_what_a_run_makes_there_is_captured(
    place: UserRepository,
) -> None:
    place.write("far/away.txt", "far\n")
    place.write("far/gone.txt", "gone\n")
    place.commit()
    place.git("sparse-checkout", "set", "--no-cone", "/*", "!/far/")
    seeded = place.seed()
    assert seeded.omitted == {"far/away.txt": "sparse", "far/gone.txt": "sparse"}
    assert seeded.files == files(place.root)
    work = seeded.work("mkdir far; echo mine > far/away.txt; echo new > far/new.txt")
    assert [(row["status"], row["path"]) for row in work.files] == [
        ("M", "far/away.txt"),
        ("A", "far/new.txt"),
    ]


def test_a_clone_that_lacks_objects_works_with_those_it_has(
    place: UserRepository,
) -> None:
    place.write("far/away.txt", "far\n")
    place.commit()
    place.git("config", "uploadpack.allowFilter", "true")
    clone = UserRepository(place.base, place.base / "clone")
    place.git(
        "clone",
        "-q",
        "--filter=blob:none",
        "--sparse",
        f"file://{place.root}",
        str(clone.root),
        cwd=place.base,
    )
    place.shadows = clone.shadows
    seeded = clone.seed()
    assert seeded.files == files(clone.root)
    assert (
        seeded.work("echo changed >> app.py").diffstat
        == "1 file changed, 1 insertion(+)"
    )


@pytest.mark.parametrize("kind", ["merge", "rebase", "cherry-pick"])
def test_an_operation_in_progress_arrives_with_its_conflict_markers(
    place: UserRepository, kind: str
) -> None:
    place.git("checkout", "-qb", "other")
    place.write("app.py", "theirs\n")
    place.write("theirs.txt", "theirs\n")
    place.commit()
    place.git("checkout", "-q", "main")
    place.write("app.py", "ours\n")
    place.commit()
    with pytest.raises(Exception, match="returned non-zero"):
        place.git(kind, "other")
    assert b"<<<<<<<" in (place.root / "app.py").read_bytes()
    arrived(place)


def test_a_file_deleted_on_one_side_of_a_merge_arrives_as_it_lies_there(
    place: UserRepository,
) -> None:
    place.git("checkout", "-qb", "other")
    (place.root / "app.py").unlink()
    place.commit()
    place.git("checkout", "-q", "main")
    place.write("app.py", "ours\n")
    place.commit()
    with pytest.raises(Exception, match="returned non-zero"):
        place.git("merge", "other")
    arrived(place)


def test_a_detached_head_a_locked_index_and_a_shallow_clone_are_no_obstacle(
    place: UserRepository,
) -> None:
    place.commit("second")
    place.git(
        "clone",
        "-q",
        "--depth=1",
        f"file://{place.root}",
        str(place.base / "clone"),
        cwd=place.base,
    )
    clone = UserRepository(place.base, place.base / "clone", place.shadows)
    clone.git("checkout", "-q", "--detach")
    (clone.root / ".git/index.lock").write_bytes(b"")
    clone.write("app.py", "changed\n")
    arrived(clone)


def test_a_repository_that_borrows_objects_itself_is_no_obstacle(
    place: UserRepository,
) -> None:
    place.git(
        "clone",
        "-q",
        "--shared",
        str(place.root),
        str(place.base / "clone"),
        cwd=place.base,
    )
    arrived(UserRepository(place.base, place.base / "clone", place.shadows))


def test_a_linked_worktree_and_the_repository_it_belongs_to_are_both_untouched(
    place: UserRepository,
) -> None:
    place.git("worktree", "add", "-q", str(place.base / "linked"), "-b", "side")
    linked = UserRepository(place.base, place.base / "linked", place.shadows)
    linked.write("app.py", "changed there\n")
    place.write("app.py", "changed here\n")
    arrived(linked)
    arrived(place)


def test_a_repository_of_sha256_works_from_end_to_end(tmp_path: Path) -> None:
    root = tmp_path / "repo"
    root.mkdir()
    place = UserRepository(tmp_path, root)
    place.git("init", "--quiet", "--object-format=sha256")
    place.write("app.py", "one\n")
    place.commit()
    place.write("app.py", "two\n")
    seeded = place.seed()
    assert (
        seeded.work("echo three > app.py").diffstat
        == "1 file changed, 1 insertion(+), 1 deletion(-)"
    )
    assert len(seeded.base) == 64


def test_a_workspace_below_the_root_brings_the_whole_repository(
    place: UserRepository,
) -> None:
    assert place.seed("docs").files == files(place.root)


def test_a_repository_without_commits_is_refused(empty: UserRepository) -> None:
    empty.write("app.py")
    with pytest.raises(CounselError) as refused:
        empty.seed()
    assert refused.value.code == Code.NO_COMMITS


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_named(place: UserRepository) -> None:
    place.write("closed", mode=0)
    assert place.seed().omitted == {"closed": "unreadable"}


def test_a_file_that_fails_to_be_read_is_named_and_leaves_no_half(
    place: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("bad", b"x" * 3_000_000)
    read = os.read

    def failing(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        if data.startswith(b"xxx") and os.lseek(descriptor, 0, os.SEEK_CUR) > 2_000_000:
            raise OSError(5, "Input/output error")
        return data

    monkeypatch.setattr(os, "read", failing)
    seeded = place.seed()
    assert seeded.omitted == {"bad": "unreadable"}
    assert b"bad" not in seeded.files
