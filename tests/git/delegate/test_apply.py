"""A stored diff goes onto the live tree whole or not at all, never through a link, and comes off again to the byte."""

from __future__ import annotations

import json
import os
import resource
import shutil
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from codex_counsel.contract.request import Apply
from codex_counsel.delegate import apply, apply_plan, live_writer
from codex_counsel.delegate.live_writer import LiveWriter
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.tree_writer import FileState
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.job import Job
from codex_counsel.system import exchange as exchanges
from codex_counsel.system.files import write_atomically
from tests.git.delegate.conftest import UserRepository
from tests.git.delegate.states import files, state
from tests.git.delegate.test_capture import RUNS
from tests.repositories import Repository

JOB = "0123456789abcdef" * 2


class Diff:
    """The record of a delegate job, made without a Codex."""

    def __init__(
        self, repository: UserRepository, command: str, below: str = "."
    ) -> None:
        self.repository, self.seeded = repository, repository.seed(below)
        self.seeded.store = repository.base / "jobs" / JOB
        self.seeded.store.mkdir(parents=True)
        work = self.seeded.work(command)
        store = self.seeded.store
        (store / "work.json").write_text(json.dumps(asdict(work)))
        self.spec = DelegateSpec(
            str(repository.root), str(self.seeded.repo.common_dir), 60, 200_000, ()
        )
        self.wanted = self.seeded.files

    def __call__(self, root: Path | None = None, **arguments: Any) -> dict[str, Any]:
        diff = apply.StoredDiff.load(
            JOB, self.seeded.store, self.spec, self.repository.base
        )
        request = Apply(job_id=JOB, **arguments)
        return apply.apply_diff(
            diff, root or self.repository.root, request, 60, os.environ
        )

    def refusal(self, root: Path | None = None, **arguments: Any) -> CounselError:
        """Refused, and nothing touched."""
        before = state(root or self.repository.root)
        with pytest.raises(CounselError) as error:
            self(root, **arguments)
        assert state(root or self.repository.root) == before
        return error.value

    @property
    def mark(self) -> str:
        return apply.AppliedMark(
            JOB, self.seeded.store, self.repository.base / f"applying/{JOB}.json"
        ).state


LINKS = ["again", "latest", "app.py", "docs", ".gitattributes"]


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_a_run_did_is_applied_and_taken_back_to_the_byte_and_the_index_left_alone(
    repository: UserRepository, run: tuple[str, list[tuple[str, str]]]
) -> None:
    if not run[1]:
        pytest.skip("an empty diff is refused")
    repository.write("untracked/mine.txt", "mine\n")
    repository.write("app.py", (repository.root / "app.py").read_text() + "mine\n")
    repository.git("add", "app.py")
    before = state(repository.root)
    diff = Diff(repository, run[0])
    checked = diff(check_only=True, allow_paths=LINKS)
    assert state(repository.root) == before
    outcome = diff(allow_paths=LINKS)
    assert (checked["applied"], outcome["applied"], outcome["files"]) == (
        False,
        True,
        checked["files"],
    )
    assert files(repository.root) == diff.wanted
    assert {
        name: seen for name, seen in state(repository.root).items() if "/.git/" in name
    } == {name: seen for name, seen in before.items() if "/.git/" in name}
    assert diff.refusal().code == Code.ALREADY_APPLIED
    diff(undo=True)
    assert state(repository.root) == before
    assert diff.refusal(undo=True).code == Code.INVALID_ARGUMENTS
    diff(allow_paths=LINKS)
    assert files(repository.root) == diff.wanted


def test_an_empty_diff_has_nothing_to_apply(repository: UserRepository) -> None:
    error = Diff(repository, "true").refusal()
    assert (error.code, "nothing to apply" in error.message) == (
        Code.INVALID_ARGUMENTS,
        True,
    )


def test_permissions_that_git_does_not_know_survive(repository: UserRepository) -> None:
    (repository.root / "app.py").chmod(0o640)
    (repository.root / "docs/readme.md").chmod(0o600)
    diff = Diff(repository, "echo more >> app.py; chmod +x docs/readme.md")
    diff()
    modes = [
        (repository.root / name).stat().st_mode & 0o777
        for name in ("app.py", "docs/readme.md")
    ]
    assert modes == [0o640, 0o700]


def edit(repository: UserRepository, old: str, new: str) -> None:
    text = (repository.root / "app.py").read_text()
    assert old in text
    repository.write("app.py", text.replace(old, new))


def test_a_change_elsewhere_in_the_file_is_merged_and_can_be_taken_back(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "sed -i 's/^line 2$/theirs/' app.py; echo x > new")
    edit(repository, "line 18\n", "mine\n")
    outcome = diff()
    text = (repository.root / "app.py").read_text()
    assert (outcome["merged"], "theirs\n" in text, "mine\n" in text) == (
        ["app.py"],
        True,
        True,
    )
    diff(undo=True)
    text = (repository.root / "app.py").read_text()
    assert (
        "line 2\n" in text,
        "mine\n" in text,
        (repository.root / "new").exists(),
    ) == (
        True,
        True,
        False,
    )


def test_a_merge_keeps_the_permission_that_one_side_changed(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "sed -i 's/^line 2$/theirs/' app.py; chmod +x app.py")
    edit(repository, "line 18\n", "mine\n")
    diff()
    path = repository.root / "app.py"
    assert os.access(path, os.X_OK)
    assert {"theirs", "mine"} <= set(path.read_text().splitlines())


def test_a_link_that_both_sides_changed_is_not_merged_as_if_it_were_text(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "ln -sfn run.sh latest")
    (repository.root / "latest").unlink()
    (repository.root / "latest").symlink_to("app.py")
    assert diff.refusal(allow_paths=["latest"]).code == Code.APPLY_CONFLICT


def test_a_change_in_the_same_place_is_refused_with_file_and_line(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "sed -i 's/^line 12$/theirs/' app.py; echo x > new")
    edit(repository, "line 12\n", "mine\n")
    error = diff.refusal()
    assert (error.code, error.details["files"], error.details["hunks"]) == (
        Code.APPLY_CONFLICT,
        ["app.py"],
        ["app.py:12"],
    )
    assert diff.refusal(check_only=True).code == Code.APPLY_CONFLICT


def test_a_patch_is_not_fitted_in_at_another_place_that_looks_the_same(
    repository: UserRepository,
) -> None:
    block = "def f():\n    a\n    b\n    c\n    return 1\n\n\n"
    repository.write("twice.py", block + "# second\n" + block.replace("f()", "g()"))
    repository.commit()
    diff = Diff(repository, r"sed -i '4s/c/changed/' twice.py")
    repository.write("twice.py", "# second\n" + block.replace("f()", "g()"))
    assert diff.refusal().code == Code.APPLY_CONFLICT


CONFLICTS: dict[str, tuple[str, Callable[[UserRepository], object]]] = {
    "deleted here, changed there": (
        "echo x >> app.py",
        lambda repository: (repository.root / "app.py").unlink(),
    ),
    "changed here, deleted there": (
        "rm app.py",
        lambda repository: repository.write("app.py", "mine\n"),
    ),
    "added here and there": (
        "echo x > new",
        lambda repository: repository.write("new", "mine\n"),
    ),
    "a binary changed on both sides": (
        "printf x >> logo.png",
        lambda repository: repository.write("logo.png", b"\0"),
    ),
    "a folder is in the way": (
        "echo x > new",
        lambda repository: repository.write("new/file"),
    ),
    "a file is in the way of a folder": (
        "mkdir new; echo x > new/file",
        lambda repository: repository.write("new", "mine\n"),
    ),
    "a pipe is in the way": (
        "echo x > new",
        lambda repository: os.mkfifo(repository.root / "new"),
    ),
    "a link is in its place": (
        "echo x >> app.py",
        lambda repository: replace_with_link(repository.root / "app.py", "run.sh"),
    ),
    "its folder is a link": (
        "echo x > docs/new",
        lambda repository: replace_with_link(
            repository.root / "docs", repository.base / "outside"
        ),
    ),
    "a new folder is a link": (
        "mkdir new; echo x > new/f",
        lambda repository: replace_with_link(
            repository.root / "new", repository.base / "outside"
        ),
    ),
    "a repository is in the way": (
        "mkdir sub; echo x > sub/f",
        lambda repository: repository.git("init", "-q", "sub"),
    ),
    "a folder that goes holds more": (
        "rm -r docs; echo x > docs",
        lambda repository: repository.write("docs/mine", "mine\n"),
    ),
}


def replace_with_link(path: Path, target: str | Path) -> None:
    if path.is_dir():
        path.rename(path.with_name("moved-away"))
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("case", CONFLICTS.values(), ids=CONFLICTS)
def test_a_tree_that_moved_on_is_refused_and_left_as_it_is(
    repository: UserRepository, case: tuple[str, Callable[[UserRepository], object]]
) -> None:
    (repository.base / "outside").mkdir()
    diff = Diff(repository, f"echo first > a-first; {case[0]}")
    case[1](repository)
    outside = state(repository.base / "outside")
    error = diff.refusal()
    assert (error.code, "nothing was changed" in error.message) == (
        Code.APPLY_CONFLICT,
        True,
    )
    assert state(repository.base / "outside") == outside


def test_the_same_change_made_by_hand_meanwhile_is_no_conflict(
    repository: UserRepository,
) -> None:
    diff = Diff(
        repository, "sed -i 's/^line 12$/theirs/' app.py; echo x > new; rm run.sh"
    )
    edit(repository, "line 12\n", "theirs\n")
    (repository.root / "run.sh").unlink()
    diff()
    assert files(repository.root) == diff.wanted


@pytest.mark.parametrize(
    "path",
    [
        ".claude/settings.json",
        ".mcp.json",
        ".envrc",
        ".env",
        ".vscode/tasks.json",
        ".husky/pre-commit",
        ".github/workflows/ci.yml",
        "CLAUDE.md",
        "pkg/AGENTS.md",
        "Claude.md",
        ".gitattributes",
        ".devcontainer/devcontainer.json",
    ],
)
def test_what_tools_execute_or_obey_is_applied_only_when_it_is_named(
    repository: UserRepository, path: str
) -> None:
    diff = Diff(
        repository, f"mkdir -p $(dirname {path}); echo x > {path}; echo y > plain"
    )
    error = diff.refusal(allow_paths=["plain"])
    assert (error.code, error.details) == (Code.POLICY_REFUSED, {"allow_paths": [path]})
    diff(allow_paths=[f"./{path}"])
    assert (repository.root / path).read_text() == "x\n"


def test_moving_such_a_file_away_counts_as_well(repository: UserRepository) -> None:
    repository.write(".github/workflows/ci.yml", "on: push\n")
    repository.commit()
    error = Diff(repository, "mv .github/workflows/ci.yml ci.txt").refusal()
    assert error.details == {"allow_paths": [".github/workflows/ci.yml"]}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ln -s /etc/passwd out", "out"),
        ("ln -s ../outside out", "out"),
        ("ln -s latest/../../.. out", "out"),
        ("ln -s docs here; ln -s ../.. docs/up; ln -s here/up/x out", "out"),
        ("ln -s .claude/settings.json out", "out"),
        ("mkdir ci; ln -s ci .github", ".github"),
    ],
)
def test_a_link_that_leaves_the_tree_or_leads_to_what_tools_obey_is_applied_only_when_it_is_named(
    repository: UserRepository, command: str, name: str
) -> None:
    diff = Diff(repository, command)
    error = diff.refusal()
    assert error.code == Code.POLICY_REFUSED
    assert name in error.details["allow_paths"]
    assert "latest" not in error.details["allow_paths"]
    diff(allow_paths=error.details["allow_paths"])
    assert (repository.root / name).is_symlink()


def test_a_link_inside_the_tree_is_applied(repository: UserRepository) -> None:
    diff = Diff(
        repository,
        "ln -s app.py again; ln -s ../app.py docs/up; ln -s docs d; ln -s . e",
    )
    diff()
    assert os.readlink(repository.root / "docs/up") == "../app.py"


def test_where_a_link_leads_is_judged_in_the_live_tree(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "ln -s vendor/tool out")
    diff(check_only=True)
    (repository.root / "vendor").symlink_to(repository.base)
    assert diff.refusal().details == {"allow_paths": ["out"]}


@pytest.mark.parametrize("tracked", [True, False], ids=["tracked", "ignored"])
def test_a_file_that_a_link_of_the_tree_gives_such_a_name_is_applied_only_when_it_is_named(
    repository: UserRepository, *, tracked: bool
) -> None:
    if not tracked:
        repository.write(".gitignore", "*.log\nbuild/\nCLAUDE.md\n")
    (repository.root / "CLAUDE.md").symlink_to("docs/readme.md")
    repository.commit()
    diff = Diff(repository, "echo obey >> docs/readme.md")
    assert diff.refusal().details == {"allow_paths": ["docs/readme.md"]}
    diff(allow_paths=["docs/readme.md"])


def test_a_diff_belongs_to_its_repository_and_to_the_linked_worktrees_of_it(
    repository: UserRepository,
) -> None:
    other = Repository(repository.base / "other").init()
    other.write("app.py", (repository.root / "app.py").read_text())
    other.commit()
    repository.git(
        "worktree", "add", "-q", str(repository.base / "linked"), "-b", "side"
    )
    diff = Diff(repository, "echo more >> app.py")
    assert diff.refusal(other.root).code == Code.WORKSPACE_INVALID
    diff(repository.base / "linked")
    assert (repository.base / "linked/app.py").read_text().endswith("more\n")
    assert not (repository.root / "app.py").read_text().endswith("more\n")


def test_files_below_a_workspace_that_is_no_root_land_where_they_belong(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo x > docs/new; echo y > top", below="docs")
    diff(repository.root / "docs")
    assert files(repository.root) == diff.wanted


@pytest.mark.parametrize("failing", range(1, 5))
def test_a_failure_half_way_puts_everything_back(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    repository.write("gone/only.txt", "x\n")
    repository.commit()
    diff = Diff(
        repository,
        "echo x >> app.py; rm -r gone; mkdir deep; echo x > deep/new; chmod -x run.sh",
    )
    replace, calls = LiveWriter.replace, []

    def flaky(writer: LiveWriter, name: bytes, *states: FileState | None) -> None:
        calls.append(name)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        replace(writer, name, *states)

    monkeypatch.setattr(LiveWriter, "replace", flaky)
    error = diff.refusal()
    assert (error.code, "every file was put back" in error.message) == (
        Code.STORAGE_FAILED,
        True,
    )
    assert diff.mark == ""
    monkeypatch.undo()
    diff()
    assert files(repository.root) == diff.wanted


def test_a_failure_that_cannot_be_mended_says_which_files_and_the_next_call_finishes(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = Diff(
        repository, "echo x >> app.py; echo x >> docs/readme.md; echo x >> run.sh"
    )
    before, replace, calls = state(repository.root), LiveWriter.replace, []

    def broken(writer: LiveWriter, name: bytes, *states: FileState | None) -> None:
        calls.append(name)
        if len(calls) >= 2:
            raise OSError(30, "Read-only file system")
        replace(writer, name, *states)

    monkeypatch.setattr(LiveWriter, "replace", broken)
    with pytest.raises(CounselError) as error:
        diff()
    assert (error.value.code, error.value.details["files"]) == (
        Code.STORAGE_FAILED,
        ["app.py"],
    )
    monkeypatch.undo()
    diff()
    assert files(repository.root) == diff.wanted
    diff(undo=True)
    assert state(repository.root) == before


@pytest.mark.parametrize("edited", ["mine\n", None], ids=["changed", "deleted"])
def test_what_the_user_saves_while_a_diff_is_given_up_half_way_stays(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch, edited: str | None
) -> None:
    diff = Diff(
        repository, "echo x >> app.py; echo x >> docs/readme.md; echo x >> run.sh"
    )
    before = state(repository.root)
    earlier = (repository.root / "app.py").read_bytes()
    replace, calls = LiveWriter.replace, []

    def failing(writer: LiveWriter, name: bytes, *states: FileState | None) -> None:
        calls.append(name)
        if len(calls) == 3:
            save(repository.root / "app.py", edited)
            raise OSError(28, "No space left on device")
        replace(writer, name, *states)

    monkeypatch.setattr(LiveWriter, "replace", failing)
    with pytest.raises(CounselError) as error:
        diff()
    assert calls[0] == b"app.py"
    assert (error.value.code, error.value.details["files"]) == (
        Code.STORAGE_FAILED,
        ["app.py"],
    )
    assert "changed app.py meanwhile" in error.value.message
    assert [Path(path).read_bytes() for path in error.value.details["kept"]] == [
        earlier
    ]
    save(repository.root / "app.py", edited)
    after = state(repository.root)
    own = str(repository.root / "app.py")
    assert {name for name in before if before[name] != after.get(name)} == {own}
    assert diff.mark == ""


def save(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text)


KILLS = [
    (apply, "write_atomically", 1),
    (apply, "write_atomically", 2),
    (apply, "write_atomically", 3),
    (live_writer, "_write_draft", 1),
    (live_writer, "rename_new", 1),
    (live_writer, "exchange", 1),
    (live_writer, "has_writers", 3),
    (live_writer, "_unlink", 1),
]


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "seam", "call"), KILLS)
@pytest.mark.parametrize("goes_on", ["apply", "undo", "undo after a sweep"])
def test_whatever_the_step_a_process_is_killed_at_the_diff_goes_on_and_comes_off(
    repository: UserRepository,
    module: ModuleType,
    seam: str,
    call: int,
    goes_on: str,
    *,
    is_after: bool,
) -> None:
    diff = Diff(
        repository, "echo x >> app.py; rm docs/readme.md; echo x > new; chmod -x run.sh"
    )
    before = state(repository.root)
    assert in_child(lambda: kill_at(module, seam, call, is_after=is_after), diff) == 9
    undo_patch = diff.seeded.store / "undo.patch"
    assert diff.mark != "begun" or undo_patch.stat().st_size
    if goes_on == "undo after a sweep":
        apply.sweep_applying(repository.base)
        assert not list(repository.root.rglob(".codex-counsel-*"))
        assert not list((repository.base / "applying").glob("*.tmp"))
    if goes_on == "apply" and diff.mark != "done":
        diff()
        assert (files(repository.root), diff.mark) == (diff.wanted, "done")
    if diff.mark:
        diff(undo=True)
    assert state(repository.root) == before


def in_child(*steps: Callable[[], object]) -> int:
    """Do these steps in a child process, and return its exit code."""
    child = os.fork()
    if not child:
        # Whatever is raised: a second copy of the test runner must not go on.
        try:
            for step in steps:
                step()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_before_the_first_removal() -> None:
    """At this moment the draft, which holds the earlier file, is still in the tree."""
    kill_at(live_writer, "_unlink", 1, is_after=False)


def kill_at(module: ModuleType, seam: str, call: int, *, is_after: bool) -> None:
    """End this process, as a SIGKILL would, before or after one call of a function."""
    real = getattr(module, seam)
    calls = []

    def fatal(*arguments: Any, **more: Any) -> Any:
        calls.append(arguments)
        is_now = len(calls) == call
        if is_now and not is_after:
            os._exit(9)
        result = real(*arguments, **more)
        if is_now:
            os._exit(9)
        return result

    setattr(module, seam, fatal)


def test_the_sweep_leaves_alone_what_a_live_call_writes(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    exchange = exchanges.exchange
    seen: list[Path] = []

    def meanwhile(*arguments: Any) -> bool:
        apply.sweep_applying(repository.base)
        seen.extend(repository.root.glob(".codex-counsel-*"))
        return exchange(*arguments)

    monkeypatch.setattr(live_writer, "exchange", meanwhile)
    diff()
    assert len(seen) == 1
    assert files(repository.root) == diff.wanted


DAMAGE: dict[str, dict[str, object]] = {
    "a name that is none": {"files": [[1, None, None]]},
    "a name in no encoding of ours": {"files": [["\u20ac", None, None]]},
    "no list": {"submodules": 3},
    "a root that is no path": {"place": {"root": 5, "device": 1, "inode": 1}},
    "a root with a NUL": {"place": {"root": "/a\0b", "device": 1, "inode": 1}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_stops_no_sweep_and_the_diff_can_be_finished(
    repository: UserRepository, damage: dict[str, object]
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    assert in_child(kill_before_the_first_removal, diff) == 9
    record = repository.base / f"applying/{JOB}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    apply.sweep_applying(repository.base)
    diff()
    assert (diff.mark, record.exists()) == ("done", False)


def test_the_record_of_a_removed_job_goes_with_the_drafts_that_it_names(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    assert in_child(kill_before_the_first_removal, diff) == 9
    assert list(repository.root.glob(".codex-counsel-*"))
    shutil.rmtree(diff.seeded.store)
    record = repository.base / f"applying/{JOB}.json"
    apply.sweep_applying(repository.base)
    assert record.exists()
    for path in record.parent.iterdir():
        os.utime(path, (0, 0))
    apply.sweep_applying(repository.base)
    assert not record.exists()
    assert not list(repository.root.glob(".codex-counsel-*"))


def test_the_sweep_writes_nothing_in_another_directory_that_is_where_the_tree_was(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    assert in_child(kill_before_the_first_removal, diff) == 9
    moved = repository.root.rename(repository.base / "moved")
    shutil.copytree(moved, repository.root, symlinks=True)
    before = state(repository.root)
    apply.sweep_applying(repository.base)
    assert state(repository.root) == before


@pytest.mark.parametrize("limit", [0, 100, 1500, 3000])
@pytest.mark.parametrize("undoing", [False, True], ids=["applying", "undoing"])
def test_without_room_the_tree_stays_and_the_same_call_works_later(
    repository: UserRepository, limit: int, *, undoing: bool
) -> None:
    diff = Diff(
        repository, "seq 2000 > big; echo x >> app.py; seq 2000 >> docs/readme.md"
    )
    if undoing:
        diff()
    before = state(repository.root)
    reader, writer = os.pipe()

    def without_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            diff(undo=undoing)
        except CounselError as error:
            os.write(writer, f"{error.code}: {error.repair}".encode())

    in_child(without_room)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read().decode()
    assert answer.startswith("storage_failed: Make room")
    assert state(repository.root) == before
    diff(undo=undoing)


def test_a_record_that_cannot_be_finished_says_that_every_file_was_written(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = Diff(repository, "echo x >> app.py")

    def full(path: Path, *arguments: Any, **more: Any) -> None:
        if path.name == "applied":
            raise OSError(28, "No space left on device")
        write_atomically(path, *arguments, **more)

    monkeypatch.setattr(apply, "write_atomically", full)
    with pytest.raises(CounselError) as error:
        diff()
    assert error.value.code == Code.STORAGE_FAILED
    assert "Every file was written" in error.value.message
    assert diff.mark == "begun"
    monkeypatch.undo()
    diff()
    assert (files(repository.root), diff.mark) == (diff.wanted, "done")


def test_a_diff_is_marked_as_applied_only_while_it_is(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    applied = diff.seeded.store / "applied"
    diff(check_only=True)
    assert not applied.exists()
    diff()
    assert applied.exists()
    diff(undo=True)
    assert not applied.exists()


def test_a_job_that_was_left_half_way_is_not_done_with(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo x >> app.py")
    job = Job(diff.seeded.store)
    assert job.has_unapplied_diff()
    diff()
    assert not job.has_unapplied_diff()
    assert in_child(kill_before_the_first_removal, lambda: diff(undo=True)) == 9
    assert job.has_unapplied_diff()
    diff()
    assert not job.has_unapplied_diff()


def test_a_mark_of_an_earlier_version_is_understood(repository: UserRepository) -> None:
    diff = Diff(repository, "echo x >> app.py")
    diff()
    (diff.seeded.store / "applied").write_text("done")
    assert diff.refusal().code == Code.ALREADY_APPLIED
    (diff.seeded.store / "applied").write_text("begun")
    diff()
    diff(undo=True)
    (diff.seeded.store / "applied").write_text("")
    diff()


def test_a_diff_is_taken_back_in_the_tree_that_it_was_applied_in(
    repository: UserRepository,
) -> None:
    linked = repository.base / "linked"
    repository.git("worktree", "add", "-q", str(linked), "-b", "side")
    diff = Diff(repository, "echo more >> app.py")
    before = state(linked)
    diff(linked)
    error = diff.refusal(undo=True)
    assert (error.code, str(linked) in error.message) == (Code.WORKSPACE_INVALID, True)
    diff(linked, undo=True)
    assert state(linked) == before


def test_a_diff_is_taken_back_after_its_repository_was_moved(
    repository: UserRepository,
) -> None:
    diff = Diff(repository, "echo more >> app.py")
    diff()
    moved = repository.root.with_name("moved")
    repository.root.rename(moved)
    diff(moved, undo=True)
    assert not (moved / "app.py").read_text().endswith("more\n")
    moved.rename(repository.root)


@pytest.mark.parametrize("killed_at", range(1, 5))
@pytest.mark.parametrize("undoing", [False, True], ids=["applying", "undoing"])
def test_a_process_killed_half_way_is_finished_by_the_next_call(
    repository: UserRepository, killed_at: int, *, undoing: bool
) -> None:
    diff = Diff(
        repository, "echo x >> app.py; rm docs/readme.md; echo x > new; chmod -x run.sh"
    )
    before = state(repository.root)
    if undoing:
        diff()
    child = os.fork()
    if not child:  # what a SIGKILL leaves: no handler ran
        replace, calls = LiveWriter.replace, [0]

        def fatal(writer: LiveWriter, name: bytes, *states: FileState | None) -> None:
            calls[0] += 1
            if calls[0] == killed_at:
                os._exit(9)
            replace(writer, name, *states)

        LiveWriter.replace = fatal  # type: ignore[method-assign, assignment]
        diff(undo=undoing)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert diff.mark == "begun"
    if killed_at > 2:
        diff()
        assert (files(repository.root), diff.mark) == (diff.wanted, "done")
    diff(undo=True)
    assert state(repository.root) == before


def test_of_two_calls_at_once_one_applies(repository: UserRepository) -> None:
    diff = Diff(
        repository, "for i in $(seq 40); do echo $i > new$i; done; echo x >> app.py"
    )
    outcomes: list[str] = []
    start = threading.Barrier(4)

    def attempt() -> None:
        start.wait()
        try:
            diff()
            outcomes.append("applied")
        except CounselError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["applied", *[Code.ALREADY_APPLIED] * 3])
    assert files(repository.root) == diff.wanted


def test_a_file_that_changes_between_the_look_and_the_writing_is_not_overwritten(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    diff = Diff(repository, "echo x >> app.py; echo x >> run.sh")
    make_undo_patch = apply_plan.make_undo_patch

    def meanwhile(*arguments: Any) -> bytes:
        repository.write("run.sh", "mine\n", 0o755)
        return make_undo_patch(*arguments)

    monkeypatch.setattr(apply, "make_undo_patch", meanwhile)
    with pytest.raises(CounselError) as error:
        diff()
    assert error.value.code == Code.APPLY_CONFLICT
    assert (repository.root / "run.sh").read_text() == "mine\n"
    assert not (repository.root / "app.py").read_text().endswith("x\n")


def test_an_undo_is_refused_when_the_files_moved_on(repository: UserRepository) -> None:
    diff = Diff(repository, "sed -i 's/^line 12$/theirs/' app.py; echo x > new")
    diff()
    edit(repository, "theirs\n", "mine\n")
    assert diff.refusal(undo=True).code == Code.APPLY_CONFLICT


def test_where_the_baseline_was_too_large_to_keep_a_changed_file_is_still_judged(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.delegate.capture.MAX_BASE", 10)
    diff = Diff(repository, "sed -i 's/^line 2$/theirs/' app.py")
    edit(repository, "line 2\n", "mine\n")
    assert diff.refusal().code == Code.APPLY_CONFLICT
    edit(repository, "mine\n", "line 2\n")
    diff()
    assert files(repository.root) == diff.wanted


@pytest.mark.parametrize(
    "name",
    [
        ".git/hooks/post-checkout",
        ".GIT/config",
        "sub/.git/config",
        ".git./config",
        ".git /config",
        ".git::$INDEX_ALLOCATION/config",
        "git~1.../config",
        r"a\\.git\\config",
    ],
)
def test_what_belongs_to_git_is_never_written_named_or_not(
    repository: UserRepository, name: str
) -> None:
    diff = Diff(repository, "echo x > new")
    record = diff.seeded.store / "work.json"
    record.write_text(record.read_text().replace('[["new", null', f'[["{name}", null'))
    assert diff.refusal(allow_paths=[name]).code == Code.APPLY_CONFLICT
