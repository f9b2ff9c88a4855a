"""What a user has in front of them arrives in the shadow, byte for byte, and theirs stays as it was, byte for byte."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from codex_counsel.delegate import seed
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.set_up import set_up
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from tests.git.delegate.conftest import UserRepository
from tests.git.delegate.states import files
from tests.repositories import Repository


def assert_seeded(repository: UserRepository, *but: bytes) -> None:
    """All of the user's files are in the shadow, those that are named left out."""
    expected = {
        name: content
        for name, content in files(repository.root).items()
        if name not in but
    }
    assert repository.seed().files == expected


def test_a_clean_repository_arrives_as_it_is(repository: UserRepository) -> None:
    assert_seeded(repository)


def test_every_kind_of_uncommitted_work_arrives(repository: UserRepository) -> None:
    repository.write("staged.txt", "staged\n")
    repository.write("app.py", "staged first\n")
    repository.git("add", "staged.txt", "app.py")
    repository.write("app.py", "then changed again\n")
    (repository.root / "docs/readme.md").unlink()
    repository.git("mv", "logo.png", "docs/logo.png")
    repository.write("docs/logo.png", b"\0\xff binary")
    repository.write("run.sh", "#!/bin/sh\necho\n", 0o644)
    repository.write("untracked/deep/file", "mine\n")
    repository.write("untracked/tool", "x", 0o755)
    repository.write("empty", "")
    repository.write("no-newline", "end")
    (repository.root / "untracked/link").symlink_to("/etc/passwd")
    (repository.root / "latest").unlink()
    (repository.root / "latest").symlink_to("app.py")
    assert_seeded(repository)


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
    repository: UserRepository, name: bytes, *, tracked: bool
) -> None:
    repository.write(name, "before\n")
    repository.write(b"folder " + name + b"/" + name, "in a folder\n")
    if tracked:
        repository.commit()
        repository.write(name, "after\n")
    assert_seeded(repository)


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
    repository: UserRepository, own_git_settings: Path, settings: str, attributes: str
) -> None:
    own_git_settings.write_text(own_git_settings.read_text() + settings)
    repository.write(".gitattributes", attributes)
    wide = "UTF-16LE" if "UTF-16LE" in attributes else "utf-8"
    contents = {
        "unix": "a\nb\n",
        "dos": "a\r\nb\r\n",
        "mixed": "a\r\nb\n",
        "old": "a\rb\r",
        "id": "$Id$\nb\n",
    }
    for name, text in contents.items():
        repository.write(f"{name}.txt", text.encode(wide))
    repository.commit()
    for name in contents:
        (repository.root / f"{name}.txt").unlink()
    repository.git("checkout", "--", ".")
    repository.write("dos.txt", "c\r\n".encode(wide))
    repository.write("untracked.txt", "a\r\nb\n".encode(wide))
    assert_seeded(repository)


def test_attributes_of_the_user_and_of_the_clone_count_too(
    repository: UserRepository, own_git_settings: Path
) -> None:
    (repository.root / ".git/info/attributes").write_text("*.one text eol=crlf\n")
    (repository.base / "mine").write_text("*.two text eol=crlf\n")
    repository.git(
        "config", "--global", "core.attributesFile", str(repository.base / "mine")
    )
    repository.write("a.one", "a\r\n")
    repository.write("a.two", "a\r\n")
    repository.commit()
    assert_seeded(repository)


def test_files_that_git_was_told_not_to_look_at_arrive_as_they_are(
    repository: UserRepository,
) -> None:
    repository.git("update-index", "--assume-unchanged", "app.py")
    repository.git("update-index", "--skip-worktree", "run.sh")
    repository.write("app.py", "changed in secret\n")
    repository.write("run.sh", "changed in secret too\n")
    assert_seeded(repository)


def test_a_file_that_is_only_intended_to_be_added_arrives(
    repository: UserRepository,
) -> None:
    repository.write("new.py", "new\n")
    repository.git("add", "--intent-to-add", "new.py")
    assert_seeded(repository)


def test_ignored_files_do_not_arrive_whoever_ignores_them(
    repository: UserRepository, own_git_settings: Path
) -> None:
    repository.write("debug.log")
    repository.write("build/out.o")
    repository.write("mine.tmp")
    repository.write("theirs.bak")
    (repository.root / ".git/info/exclude").write_text("*.tmp\n")
    (repository.base / "excludes").write_text("*.bak\n")
    repository.git(
        "config", "--global", "core.excludesFile", str(repository.base / "excludes")
    )
    assert_seeded(repository, b"debug.log", b"build/out.o", b"mine.tmp", b"theirs.bak")


def test_git_takes_its_home_from_the_environment_that_is_passed(
    repository: UserRepository,
) -> None:
    config = repository.base / "other-home/.config/git"
    config.mkdir(parents=True)
    (config / "ignore").write_text("*.theirs\n")
    repository.write("file.theirs")
    env = {**os.environ, "HOME": str(repository.base / "other-home")}
    repo = Repo.open(repository.root, 60, env=env)
    plan = seed.plan_seed(repo, ())
    shadow = Shadow.create(repo, repository.base / "shadow", plan.head)
    repository.shadows.append(shadow)
    baseline = seed.populate(repo, plan, shadow)
    assert b"file.theirs" not in files(shadow.tree)
    (shadow.tree / "new.theirs").write_text("ignored\n")
    assert shadow.snapshot() == baseline
    assert shadow.env["HOME"] == env["HOME"]


def test_a_tracked_file_that_matches_an_ignore_pattern_arrives(
    repository: UserRepository,
) -> None:
    repository.write("kept.log", "kept\n")
    repository.git("add", "--force", "kept.log")
    repository.git("commit", "-qm", "keep")
    repository.write("kept.log", "changed\n")
    assert_seeded(repository)


def test_untracked_secret_files_are_left_out_and_named_and_tracked_ones_arrive(
    repository: UserRepository,
) -> None:
    repository.write(".env.production", "KEY=1\n")
    repository.commit()
    repository.write(".env", "KEY=2\n")
    repository.write("keys/id_rsa", "secret\n")
    repository.write(".env.example", "KEY=\n")
    seeded = repository.seed()
    assert seeded.omitted == {".env": "secret_file", "keys/id_rsa": "secret_file"}
    assert {b".env.production", b".env.example"} <= set(seeded.files)
    assert not {b".env", b"keys/id_rsa"} & set(seeded.files)


def test_untracked_files_over_the_budget_are_left_out_and_named(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "MAX_UNTRACKED_FILE", 1000)
    monkeypatch.setattr(seed, "MAX_UNTRACKED", 1500)
    for name, size in (("a", 900), ("b", 1001), ("c", 900), ("d", 500)):
        repository.write(name, b"x" * size)
    repository.write("app.py", b"x" * 5000)
    seeded = repository.seed()
    assert seeded.omitted == {"b": "budget", "c": "budget"}
    assert {b"a", b"d", b"app.py"} <= set(seeded.files)


def test_a_folder_that_became_a_link_does_not_bring_along_where_it_leads(
    repository: UserRepository,
) -> None:
    outside = repository.base / "outside"
    outside.mkdir()
    (outside / "readme.md").write_text("not yours\n")
    (repository.root / "docs/readme.md").unlink()
    (repository.root / "docs").rmdir()
    (repository.root / "docs").symlink_to(outside)
    seeded = repository.seed()
    assert seeded.files[b"docs"] == ("120000", os.fsencode(outside))
    assert b"docs/readme.md" not in seeded.files


def test_a_link_that_became_a_folder_and_a_file_that_became_one_arrive(
    repository: UserRepository,
) -> None:
    (repository.root / "latest").unlink()
    repository.write("latest/file", "x\n")
    (repository.root / "app.py").unlink()
    repository.write("app.py/__init__.py", "x\n")
    assert_seeded(repository)


def test_pipes_and_sockets_are_passed_by(repository: UserRepository) -> None:
    (repository.root / "app.py").unlink()
    os.mkfifo(repository.root / "app.py")
    os.mkfifo(repository.root / "pipe")
    repo = Repo.open(repository.root, 60, env=os.environ)
    plan = seed.plan_seed(repo, ())
    shadow = Shadow.create(repo, repository.base / "shadow", plan.head)
    repository.shadows.append(shadow)
    seed.populate(repo, plan, shadow)
    assert not {b"app.py", b"pipe"} & set(files(shadow.tree))


def test_a_nested_repository_is_left_out_and_named(repository: UserRepository) -> None:
    nested = Repository(repository.root / "nested").init()
    nested.write("file", "x\n")
    nested.commit()
    seeded = repository.seed()
    assert seeded.omitted == {"nested/": "nested_repository"}
    assert not any(name.startswith(b"nested") for name in seeded.files)


def test_pointers_of_large_files_arrive_as_they_lie_on_disk_and_no_filter_runs(
    repository: UserRepository,
) -> None:
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 5\n"
    )
    repository.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repository.write("pointer.bin", pointer)
    repository.write("smudged.bin", pointer)
    repository.commit()
    mark = repository.base / "ran"
    for kind in ("clean", "smudge", "process"):
        repository.git("config", f"filter.lfs.{kind}", f"touch {mark}; cat")
    repository.git("config", "filter.lfs.required", "true")
    repository.write("smudged.bin", b"\0the real thing")
    seeded = repository.seed()
    assert seeded.files[b"pointer.bin"][1] == pointer.encode()
    assert seeded.files[b"smudged.bin"][1] == b"\0the real thing"
    assert not mark.exists()


def test_no_hook_monitor_or_filter_of_the_repository_runs(
    repository: UserRepository,
) -> None:
    mark = repository.base / "ran"
    program = repository.base / "program"
    program.write_text(f"#!/bin/sh\necho $0 $* >> {mark}\ncat\n")
    program.chmod(0o755)
    repository.write(".gitattributes", "*.py filter=evil\n*.sh diff=evil merge=evil\n")
    repository.commit()
    for hook in (
        "post-checkout",
        "pre-commit",
        "post-index-change",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        (repository.root / ".git/hooks").mkdir(exist_ok=True)
        (repository.root / ".git/hooks" / hook).symlink_to(program)
    for name in ("clean", "smudge", "process"):
        repository.git("config", f"filter.evil.{name}", str(program))
    for name, value in (
        ("core.fsmonitor", program),
        ("diff.evil.textconv", program),
        ("diff.external", program),
        ("merge.evil.driver", program),
        ("core.pager", program),
        ("core.alternateRefsCommand", program),
    ):
        repository.git("config", name, str(value))
    repository.write("app.py", "changed\n")
    repository.write("new.py", "new\n")
    mark.unlink(missing_ok=True)
    seeded = repository.seed()
    seeded.work("echo changed > run.sh; echo more >> app.py")
    assert not mark.exists()


def test_a_sparse_checkout_stays_sparse_and_what_a_run_makes_there_is_captured(
    repository: UserRepository,
) -> None:
    repository.write("far/away.txt", "far\n")
    repository.write("far/gone.txt", "gone\n")
    repository.commit()
    repository.git("sparse-checkout", "set", "--no-cone", "/*", "!/far/")
    seeded = repository.seed()
    assert seeded.omitted == {"far/away.txt": "sparse", "far/gone.txt": "sparse"}
    assert seeded.files == files(repository.root)
    work = seeded.work("mkdir far; echo mine > far/away.txt; echo new > far/new.txt")
    assert [(row["status"], row["path"]) for row in work.files] == [
        ("M", "far/away.txt"),
        ("A", "far/new.txt"),
    ]


def test_a_clone_that_lacks_objects_works_with_those_it_has(
    repository: UserRepository,
) -> None:
    repository.write("far/away.txt", "far\n")
    repository.commit()
    repository.git("config", "uploadpack.allowFilter", "true")
    clone = repository.beside("clone")
    repository.git(
        "clone",
        "-q",
        "--filter=blob:none",
        "--sparse",
        f"file://{repository.root}",
        str(clone.root),
        cwd=repository.base,
    )
    seeded = clone.seed()
    assert seeded.files == files(clone.root)
    assert (
        seeded.work("echo changed >> app.py").diffstat
        == "1 file changed, 1 insertion(+)"
    )


@pytest.mark.parametrize("kind", ["merge", "rebase", "cherry-pick"])
def test_an_operation_in_progress_arrives_with_its_conflict_markers(
    repository: UserRepository, kind: str
) -> None:
    repository.git("checkout", "-qb", "other")
    repository.write("app.py", "theirs\n")
    repository.write("theirs.txt", "theirs\n")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("app.py", "ours\n")
    repository.commit()
    with pytest.raises(Exception, match="returned non-zero"):
        repository.git(kind, "other")
    assert b"<<<<<<<" in (repository.root / "app.py").read_bytes()
    assert_seeded(repository)


def test_a_file_deleted_on_one_side_of_a_merge_arrives_as_it_lies_there(
    repository: UserRepository,
) -> None:
    repository.git("checkout", "-qb", "other")
    (repository.root / "app.py").unlink()
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("app.py", "ours\n")
    repository.commit()
    with pytest.raises(Exception, match="returned non-zero"):
        repository.git("merge", "other")
    assert_seeded(repository)


def test_a_detached_head_a_locked_index_and_a_shallow_clone_are_no_obstacle(
    repository: UserRepository,
) -> None:
    repository.commit("second")
    repository.git(
        "clone",
        "-q",
        "--depth=1",
        f"file://{repository.root}",
        str(repository.base / "clone"),
        cwd=repository.base,
    )
    clone = repository.beside("clone")
    clone.git("checkout", "-q", "--detach")
    (clone.root / ".git/index.lock").write_bytes(b"")
    clone.write("app.py", "changed\n")
    assert_seeded(clone)


def test_a_repository_that_borrows_objects_itself_is_no_obstacle(
    repository: UserRepository,
) -> None:
    repository.git(
        "clone",
        "-q",
        "--shared",
        str(repository.root),
        str(repository.base / "clone"),
        cwd=repository.base,
    )
    assert_seeded(repository.beside("clone"))


def test_a_linked_worktree_and_the_repository_it_belongs_to_are_both_untouched(
    repository: UserRepository,
) -> None:
    repository.git(
        "worktree", "add", "-q", str(repository.base / "linked"), "-b", "side"
    )
    linked = repository.beside("linked")
    linked.write("app.py", "changed there\n")
    repository.write("app.py", "changed here\n")
    assert_seeded(linked)
    assert_seeded(repository)


def test_a_repository_of_sha256_works_from_end_to_end(tmp_path: Path) -> None:
    repository = UserRepository(tmp_path / "repo").init("--object-format=sha256")
    repository.write("app.py", "one\n")
    repository.commit()
    repository.write("app.py", "two\n")
    seeded = repository.seed()
    assert (
        seeded.work("echo three > app.py").diffstat
        == "1 file changed, 1 insertion(+), 1 deletion(-)"
    )
    assert len(seeded.base) == 64


def test_a_workspace_below_the_root_brings_the_whole_repository(
    repository: UserRepository,
) -> None:
    assert repository.seed("docs").files == files(repository.root)


def test_a_repository_without_commits_is_refused(empty: UserRepository) -> None:
    empty.write("app.py")
    with pytest.raises(CounselError) as error:
        empty.seed()
    assert error.value.code == Code.NO_COMMITS
    assert "git commit --allow-empty" in (error.value.repair or "")


@pytest.mark.skipif(os.getuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_named(repository: UserRepository) -> None:
    repository.write("closed", mode=0)
    assert repository.seed().omitted == {"closed": "unreadable"}


def test_a_file_that_fails_to_be_read_is_named_and_leaves_no_half(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("bad", b"x" * 3_000_000)
    read = os.read

    def failing(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        if data.startswith(b"xxx") and os.lseek(descriptor, 0, os.SEEK_CUR) > 2_000_000:
            raise OSError(5, "Input/output error")
        return data

    monkeypatch.setattr(os, "read", failing)
    seeded = repository.seed()
    assert seeded.omitted == {"bad": "unreadable"}
    assert b"bad" not in seeded.files


def test_a_tree_that_cannot_be_made_leaves_nothing(repository: UserRepository) -> None:
    earlier, directory = repository.base / "earlier", repository.base / "job"
    earlier.mkdir()
    directory.mkdir()
    record = {"head": repository.git("rev-parse", "HEAD"), "base_tree": "0" * 40}
    (earlier / "seed.json").write_text(json.dumps(record))
    (earlier / "seed.patch").write_bytes(b"")
    spec = DelegateSpec(
        workspace=str(repository.root),
        repository=str(repository.root / ".git"),
        git_timeout=60,
        diff_limit=1000,
        denied=(),
        again=str(earlier),
    )
    scratch = repository.base / "scratch"
    with pytest.raises(CounselError, match="cannot be made again"):
        set_up({"delegate": asdict(spec)}, scratch, directory)
    assert (scratch.exists(), list(directory.iterdir())) == (False, [])
