"""Repositories are found where they are, refused where they are not what they seem, and git is kept in check."""

from __future__ import annotations

import os
import select
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import environment
from codex_counsel.git.process import GitProcess, GitTimeout
from codex_counsel.git.repo import GitError, Repo
from tests.git.conftest import Project

if TYPE_CHECKING:
    from tests.git.conftest import PlantedProgram

ENV = environment(os.environ, {}, Path("/"))


def refusal(path: Path, timeout: float = 60) -> CounselError:
    with pytest.raises(CounselError) as caught:
        Repo.open(path, timeout, env=os.environ)
    return caught.value


def test_workspace_in_a_subdirectory_knows_root_and_prefix(project: Project) -> None:
    repo = project.repo("docs")
    assert (repo.root, repo.prefix, repo.git_dir) == (
        project.root,
        b"docs/",
        project.root / ".git",
    )
    assert repo.common_dir == repo.git_dir


def test_root_with_a_line_end_and_a_byte_that_is_not_utf8_is_found(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path / os.fsdecode(b"a\nb\xff c")).init()
    assert project.repo().root == project.root


def test_linked_worktree_has_its_own_git_directory_and_a_common_one(
    project: Project, tmp_path: Path
) -> None:
    project.git("worktree", "add", "--quiet", str(tmp_path / "linked"))
    repo = Repo.open(tmp_path / "linked", env=os.environ)
    assert repo.git_dir == project.root / ".git/worktrees/linked"
    assert (repo.root, repo.common_dir) == (tmp_path / "linked", project.root / ".git")


def test_submodule_is_a_repository_of_its_own(project: Project, tmp_path: Path) -> None:
    inner = add_submodule(project, tmp_path)
    repo = Repo.open(inner, env=os.environ)
    assert (repo.root, repo.git_dir) == (inner, project.root / ".git/modules/inner")


def add_submodule(project: Project, tmp_path: Path) -> Path:
    shutil.copytree(project.root, tmp_path / "other")
    project.git("submodule", "--quiet", "add", str(tmp_path / "other"), "inner")
    project.commit("with a submodule")
    return project.root / "inner"


def test_directory_outside_git_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).code is Code.NOT_A_GIT_REPO


def test_bare_repository_is_refused_by_name(tmp_path: Path) -> None:
    Project(tmp_path / "bare").init("--bare")
    error = refusal(tmp_path / "bare")
    assert error.code is Code.NOT_A_GIT_REPO
    assert "bare repository" in error.message


def test_inside_of_the_git_directory_is_refused(project: Project) -> None:
    assert refusal(project.root / ".git").code is Code.NOT_A_GIT_REPO


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_repository_of_a_stranger_is_refused_with_the_advice_of_git(
    project: Project,
) -> None:
    os.chown(project.root, 12345, 12345)
    os.chown(project.root / ".git", 12345, 12345)
    error = refusal(project.root)
    assert error.code is Code.WORKSPACE_INVALID
    assert "dubious ownership" in error.message
    assert f"git config --global --add safe.directory {project.root}" in (
        error.repair or ""
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_safe_directory_of_the_user_is_honoured(project: Project) -> None:
    project.git("config", "--global", "safe.directory", str(project.root))
    os.chown(project.root / ".git", 12345, 12345)
    assert project.repo().head()


@pytest.mark.parametrize("target", ["..", "../elsewhere"])
def test_working_tree_configured_elsewhere_is_refused(
    project: Project, tmp_path: Path, target: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    project.git("config", "core.worktree", f"../{target}")
    assert refusal(project.root).code in (Code.WORKSPACE_INVALID, Code.NOT_A_GIT_REPO)


def test_broken_configuration_is_quoted(project: Project) -> None:
    (project.root / ".git/config").write_text("[core\n", encoding="utf-8")
    error = refusal(project.root)
    assert error.code is Code.WORKSPACE_INVALID
    assert "bad config line 1" in error.message


def test_missing_git_is_named(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in refusal(project.root).message


@pytest.mark.parametrize(
    "entry", ["node_modules/.bin", "{root}/node_modules/.bin", "{link}"]
)
def test_program_of_the_repository_is_not_taken_for_git(
    project: Project,
    plant: PlantedProgram,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    entry: str,
) -> None:
    planted = project.root / "node_modules/.bin/git"
    planted.parent.mkdir(parents=True)
    planted.symlink_to(plant.program)
    (tmp_path / "link").symlink_to(planted.parent)
    place = entry.format(root=project.root, link=tmp_path / "link")
    monkeypatch.setenv("PATH", place, prepend=os.pathsep)
    monkeypatch.chdir(project.root)
    repo = project.repo("docs")
    assert repo.head()
    assert not plant.ran
    assert place not in repo.env["PATH"].split(os.pathsep)


def test_git_too_old_to_be_pinned_is_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.25.1\n", encoding="utf-8")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "2.31 or newer" in refusal(project.root).message


def test_git_variables_of_the_caller_do_not_count(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    project.write("app.py", "other\n")
    repo = project.repo()
    assert repo.root == project.root
    assert b"+other" in repo.git("diff", "HEAD")


def test_environment_given_is_the_one_used(project: Project, tmp_path: Path) -> None:
    project.git("config", "--global", "core.excludesFile", "~/ignored")
    (tmp_path / "home/ignored").write_text("*.swp\n", encoding="utf-8")
    project.write("a.swp")
    command = ("ls-files", "--others", "--exclude-standard")
    assert Repo.open(project.root, env=os.environ).git(*command) == b""
    elsewhere = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    assert Repo.open(project.root, env=elsewhere).git(*command) == b"a.swp\n"
    assert Repo.open(project.root, env=elsewhere).reopen().git(*command) == b"a.swp\n"


def test_settings_of_a_repository_are_not_in_its_description(project: Project) -> None:
    project.git("config", "http.extraHeader", "Authorization: Basic hunter2")
    assert "hunter2" not in repr(project.repo())


def test_git_that_waits_is_ended_with_a_typed_error(project: Project) -> None:
    os.mkfifo(project.root / "settings")
    project.write(
        ".git/config",
        "[include]\n path = ../settings\n[core]\n repositoryformatversion = 0\n",
    )
    error = refusal(project.root, timeout=0.2)
    assert error.code is Code.TIMEOUT
    assert "CODEX_COUNSEL_GIT_TIMEOUT_SECONDS" in (error.repair or "")


def state(pid: int) -> str:
    """The state letter of a process, or nothing when it is gone."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()[0]
        )
    except OSError:
        return ""


def ends(pid: int) -> bool:
    """Wait for the end of a process that was killed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ready = select.select([descriptor], [], [], 60)[0]
    os.close(descriptor)
    return bool(ready)


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="waits for a process that is not its child"
)
def test_overdue_child_is_ended_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.monotonic
    with GitProcess(
        ["sh", "-c", "sleep 600 & echo $!; wait"], ENV, tmp_path, timeout=60
    ) as child:
        chunks = child.chunks()
        pid = int(next(chunks))
        # However long the start took, the time is over half a second later.
        monkeypatch.setattr("time.monotonic", lambda: real() + 59.5)
        with pytest.raises(GitTimeout):
            next(chunks)
    assert ends(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_child_whose_reader_had_enough_is_ended(tmp_path: Path) -> None:
    with GitProcess(
        ["sh", "-c", "echo $$; exec yes"], ENV, tmp_path, timeout=60
    ) as child:
        pid = int(next(child.chunks()).split()[0])
    assert state(pid) == ""


def test_child_reads_more_than_a_pipe_holds(tmp_path: Path) -> None:
    data = b"0123456789" * 1_000_000
    with GitProcess(["cat"], ENV, tmp_path, timeout=60, stdin=data) as child:
        assert b"".join(child.chunks()) == data
    assert child.code == 0


def test_child_that_does_not_read_its_input_is_no_trouble(tmp_path: Path) -> None:
    with GitProcess(
        ["true"], ENV, tmp_path, timeout=60, stdin=b"x" * 1_000_000
    ) as child:
        assert b"".join(child.chunks()) == b""
    assert child.code == 0


def test_failure_of_git_quotes_its_first_sentence(project: Project) -> None:
    with pytest.raises(GitError) as caught:
        project.repo().git("cat-file", "blob", "0" * 40)
    assert caught.value.code is Code.WORKSPACE_INVALID
    assert "`git cat-file` failed" in caught.value.message


def test_stored_file_is_read_from_a_commit_and_from_the_index(project: Project) -> None:
    project.write("new\nname.txt", "staged\r\n")
    project.git("add", ".")
    project.write("new\nname.txt", "later\n")
    repo = project.repo()
    assert repo.read("HEAD", "docs/readme.md") == b"# Title\n"
    assert repo.read(None, b"new\nname.txt") == b"staged\r\n"
    assert repo.read("HEAD", b"new\nname.txt") is None


def test_stored_folder_link_and_absent_file_are_not_read(project: Project) -> None:
    (project.root / "link").symlink_to("app.py")
    project.commit()
    repo = project.repo()
    assert [
        repo.read(rev, name)
        for rev in ("HEAD", None)
        for name in ("docs", "link", "gone", "docs/*")
    ] == [None] * 8
    assert repo.lookup("HEAD", b"link") is not None


def test_stored_file_is_read_up_to_a_limit(project: Project) -> None:
    assert project.repo().read("HEAD", "app.py", limit=6) == b"line 1"


def test_no_commit_yet_has_no_head(empty: Project) -> None:
    assert empty.repo().head() is None


def test_every_git_is_told_by_name_what_keeps_it_from_running_and_fetching() -> None:
    env = environment({}, {}, Path("/"))
    numbers = range(int(env["GIT_CONFIG_COUNT"]))
    pins = {env[f"GIT_CONFIG_KEY_{n}"]: env[f"GIT_CONFIG_VALUE_{n}"] for n in numbers}
    assert pins["core.hooksPath"] == os.devnull
    assert pins["core.fsmonitor"] == "false"
    assert pins["protocol.allow"] == "never"
    assert pins["safe.bareRepository"] == "explicit"
    assert env["GIT_ALLOW_PROTOCOL"] == "none"
    assert env["GIT_NO_LAZY_FETCH"] == "1"
    assert env["GIT_OPTIONAL_LOCKS"] == "0"
