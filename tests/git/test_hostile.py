"""Nothing that is configured in a repository, or lies in it, runs, hides a change, or lets another file be read."""

from __future__ import annotations

import hashlib
import os
import shlex
from typing import TYPE_CHECKING

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.review.changes.changes import gather
from codex_counsel.review.changes.model import Omitted, Reason, Scope
from tests.git.conftest import Project

if TYPE_CHECKING:
    from pathlib import Path

    from codex_counsel.contract.vocabulary import ScopeKind
    from codex_counsel.review.changes.changes import Changes
    from tests.git.conftest import PlantedProgram

STYLES = {
    "color.ui": "always",
    "color.diff": "always",
    "color.diff.new": "blink red",
    "core.attributesFile": "../nothing",
    "core.bigFileThreshold": "1",
    "core.quotePath": "true",
    "core.safecrlf": "true",
    "core.whitespace": "tab-in-indent",
    "diff.algorithm": "patience",
    "diff.colorMoved": "zebra",
    "diff.context": "0",
    "diff.dstPrefix": "new/",
    "diff.ignoreSubmodules": "all",
    "diff.indentHeuristic": "false",
    "diff.interHunkContext": "50",
    "diff.mnemonicPrefix": "true",
    "diff.noPrefix": "true",
    "diff.orderFile": "order",
    "diff.relative": "true",
    "diff.renameLimit": "1",
    "diff.renames": "false",
    "diff.srcPrefix": "old/",
    "diff.statGraphWidth": "1",
    "diff.submodule": "log",
    "diff.suppressBlankEmpty": "true",
    "diff.wordRegex": ".",
    "diff.wsErrorHighlight": "all",
    "format.pretty": "oneline",
    "i18n.logOutputEncoding": "UTF-16",
    "log.decorate": "full",
    "log.showRoot": "false",
    "log.showSignature": "true",
    "submodule.recurse": "true",
}
PROGRAMS = (
    "alias.diff",
    "alias.ls-files",
    "core.alternateRefsCommand",
    "core.askPass",
    "core.editor",
    "core.fsmonitor",
    "core.gitProxy",
    "core.pager",
    "core.sshCommand",
    "credential.helper",
    "diff.external",
    "diff.planted.command",
    "diff.planted.textconv",
    "filter.planted.clean",
    "filter.planted.process",
    "filter.planted.smudge",
    'filter.we=ird "na.me.clean',
    "gpg.program",
    "gpg.ssh.program",
    "hook.planted.command",
    "interactive.diffFilter",
    "merge.planted.driver",
    "pager.diff",
    "pager.log",
    "sequence.editor",
)
SCOPES = (
    Scope(),
    Scope("staged"),
    Scope("branch", base="HEAD~1"),
    Scope("commit"),
    Scope("files"),
)


def prepare(project: Project) -> None:
    """A change in every state: committed, staged, in the working tree, renamed, new, with blank context lines."""
    text = "".join(f"line {n}\n\n" for n in range(1, 21))
    project.write("größe.py", text)
    project.write("old.py", text.replace("line", "row"))
    project.write("order", "z*\n")
    project.commit("before")
    project.write("größe.py", text.replace("line 3\n", "line three \n"))
    project.git("mv", "old.py", "new.py")
    project.commit("after")
    project.write("größe.py", text.replace("line 9\n", "line nine\t\n"))
    project.git("add", ".")
    project.write("app.py", "app\n")
    project.write("zoo.py", "zoo\n")


def read_changes(project: Project) -> list[tuple[bytes, object]]:
    return [
        (changes.diff, changes.entries)
        for changes in (gather(project.repo(), scope, 100_000) for scope in SCOPES)
    ]


@pytest.mark.parametrize("key", STYLES)
def test_style_of_the_users_git_does_not_bend_the_material(
    project: Project, key: str
) -> None:
    prepare(project)
    before = read_changes(project)
    project.git("config", key, STYLES[key])
    assert read_changes(project) == before


@pytest.mark.parametrize("key", PROGRAMS)
def test_program_configured_in_the_repository_never_runs(
    project: Project, plant: PlantedProgram, key: str
) -> None:
    prepare(project)
    project.write(
        ".gitattributes",
        "größe.py diff=planted merge=planted\napp.py filter=planted\nzoo.py filter=we=ird\n",
    )
    project.git(
        "config",
        key,
        f"!{plant.program}" if key.startswith("alias.") else str(plant.program),
    )
    project.git("config", "hook.planted.event", "post-index-change")
    for scope in SCOPES:
        changes = gather(project.repo(), scope, 100_000)
        changes.moved(project.repo())
    assert not plant.ran


def test_planted_filter_would_have_run(project: Project, plant: PlantedProgram) -> None:
    plant_filter(project, plant)
    project.git("diff", "HEAD")
    assert plant.ran


def plant_filter(
    project: Project, plant: PlantedProgram, *, scope: str = "--local"
) -> None:
    project.write(".gitattributes", "*.py filter=planted\n")
    project.commit()
    project.write("app.py", "password\n")
    project.git("config", scope, "filter.planted.clean", str(plant.program))
    project.git("config", scope, "filter.planted.required", "true")


@pytest.mark.parametrize("scope", ["--local", "--global", "--worktree"])
def test_filter_never_runs_and_its_files_are_listed(
    project: Project, plant: PlantedProgram, scope: str
) -> None:
    project.git("config", "extensions.worktreeConfig", "true")
    plant_filter(project, plant, scope=scope)
    project.write("new.py", "password\n")
    project.write("docs/readme.md", "shown\n")
    changes = project.gather()
    assert changes.omitted == (
        Omitted("app.py", Reason.FILTERED, 9),
        Omitted("new.py", Reason.FILTERED, 9),
    )
    assert not changes.complete
    assert b"password" not in changes.diff
    assert not plant.ran


def test_filter_of_an_included_file_never_runs(
    project: Project, plant: PlantedProgram, tmp_path: Path
) -> None:
    plant_filter(project, plant)
    project.git("config", "--remove-section", "filter.planted")
    (tmp_path / "more").write_text(
        f'[filter "planted"]\n clean = {plant.program}\n', encoding="utf-8"
    )
    project.git(
        "config", f"includeIf.gitdir:{project.root}/.path", str(tmp_path / "more")
    )
    project.write("docs/readme.md", "shown\n")
    assert project.gather().omitted[0].reason is Reason.FILTERED
    assert not plant.ran


def test_filter_of_a_submodule_never_runs(
    project: Project, plant: PlantedProgram, tmp_path: Path
) -> None:
    project.git("clone", "--quiet", str(project.root), str(tmp_path / "other"))
    project.git("submodule", "--quiet", "add", str(tmp_path / "other"), "inner")
    project.commit("with a submodule")
    inner = type(project)(project.root / "inner")
    before = (inner.root / "app.py").read_bytes()
    plant_filter(inner, plant)
    inner.write("app.py", before)
    project.git("config", "diff.ignoreSubmodules", "none")
    project.git("config", "submodule.inner.ignore", "none")
    assert {entry.path for entry in project.gather().entries} == {"inner"}
    assert not plant.ran
    project.git("status")
    assert plant.ran


def test_stored_side_of_a_filtered_file_is_shown(
    project: Project, plant: PlantedProgram
) -> None:
    plant_filter(project, plant)
    project.git("config", "--unset", "filter.planted.required")
    project.commit("through the filter")
    assert plant.ran
    assert b"+password\n" in project.gather(Scope("commit")).diff


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
CONTENT = b"large\0file"


def lfs(project: Project, plant: PlantedProgram) -> None:
    """A file as git-lfs leaves it: the pointer in git, the content on disk, and its filter in the user's settings."""
    pointer = POINTER.format(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    project.write("a.bin", pointer)
    project.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    project.commit()
    project.git("config", "--global", "filter.lfs.process", str(plant.program))
    project.git("config", "--global", "filter.lfs.required", "true")
    project.write("docs/readme.md", "shown\n")


def test_unchanged_lfs_file_is_no_change(
    project: Project, plant: PlantedProgram
) -> None:
    lfs(project, plant)
    project.write("a.bin", CONTENT)
    changes = project.gather()
    assert [entry.path for entry in changes.entries] == ["docs/readme.md"]
    assert changes.complete
    assert not plant.ran


def test_changed_lfs_file_is_listed(project: Project, plant: PlantedProgram) -> None:
    lfs(project, plant)
    project.write("a.bin", CONTENT + b"!")
    assert project.gather().omitted == (
        Omitted("a.bin", Reason.FILTERED, len(CONTENT) + 1),
    )
    assert not plant.ran


def test_lfs_pointer_on_disk_is_compared_as_text(
    project: Project, plant: PlantedProgram
) -> None:
    lfs(project, plant)
    project.write("a.bin", POINTER.format("0" * 64, 7))
    changes = project.gather()
    assert b"+size 7\n" in changes.diff
    assert changes.complete


@pytest.mark.parametrize(
    "hook",
    ["post-index-change", "pre-commit", "fsmonitor-watchman", "reference-transaction"],
)
def test_hook_never_runs(
    project: Project, plant: PlantedProgram, hook: str, tmp_path: Path
) -> None:
    prepare(project)
    for folder in (project.root / ".git/hooks", tmp_path / "hooks"):
        folder.mkdir(exist_ok=True)
        (folder / hook).write_bytes(plant.program.read_bytes())
        (folder / hook).chmod(0o755)
    project.git("config", "core.hooksPath", str(tmp_path / "hooks"))
    os.utime(project.root / "docs/readme.md", (1, 1))
    read_changes(project)
    assert not plant.ran


@pytest.mark.parametrize(
    "url", ["ext::{}", "{}", "file://{}", "ssh://host{}", "planted::x"]
)
def test_missing_object_is_fetched_from_nowhere(
    project: Project, plant: PlantedProgram, url: str
) -> None:
    prepare(project)
    sha = project.git("rev-parse", "HEAD:app.py")
    project.git("checkout", "--quiet", "-b", "other")
    project.write("app.py", "new\n")
    project.commit()
    (project.root / ".git/objects" / sha[:2] / sha[2:]).unlink()
    program = shlex.quote(str(plant.program))
    for key, value in {
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": url.format(plant.program),
        "remote.origin.uploadpack": program,
        "core.sshCommand": program,
        "protocol.allow": "always",
        "protocol.ext.allow": "always",
        "core.repositoryFormatVersion": "1",
    }.items():
        project.git("config", key, value)
    with pytest.raises(CounselError) as caught:
        project.gather(Scope("commit"))
    assert caught.value.code is Code.WORKSPACE_INVALID
    assert not plant.ran


def test_replaced_commit_is_not_believed(project: Project) -> None:
    project.write("app.py", "true\n")
    project.commit("true")
    project.write("docs/readme.md", "decoy\n")
    project.git(
        "replace",
        "HEAD",
        project.git("commit-tree", "-p", "HEAD~1", "-m", "decoy", "HEAD~1^{tree}"),
    )
    assert b"+true\n" in project.gather(Scope("commit")).diff


SECRETS = ("config/.env", "id_rsa", "server.pem", ".npmrc")


@pytest.mark.parametrize("style", ["diff.noprefix", "diff.mnemonicPrefix", "color.ui"])
@pytest.mark.parametrize("name", SECRETS)
def test_secret_file_is_withheld_in_every_scope_and_style(
    project: Project, name: str, style: str
) -> None:
    project.git("config", style, "always" if style == "color.ui" else "true")
    project.write("app.py", "changed\n")
    project.write(name, "hunter2\n")
    check_withheld(project.gather(), name)
    check_withheld(project.gather(Scope("files")), name)
    project.git("add", ".")
    check_withheld(project.gather(Scope("staged")), name)
    project.commit()
    check_withheld(project.gather(Scope("commit")), name)
    project.git("mv", name, "open.txt")
    project.write("app.py", "changed again\n")
    project.commit()
    check_withheld(project.gather(Scope("commit")), "open.txt")
    project.git("mv", "open.txt", name)
    project.commit()
    project.git("rm", "--quiet", name)
    project.write("app.py", "changed at last\n")
    project.commit()
    check_withheld(project.gather(Scope("commit")), name)


@pytest.mark.parametrize(
    ("name", "tracked", "complete"),
    [
        (".env", False, True),
        (".env", True, False),
        (".env.js", False, False),
        ("credentials.json", False, True),
    ],
)
def test_secret_that_is_shipped_or_runs_makes_the_view_incomplete(
    project: Project, name: str, tracked: bool, complete: bool
) -> None:
    project.write("app.py", "changed\n")
    project.write(name, "hunter2\n")
    if tracked:
        project.git("add", name)
    for scope in (Scope(), Scope("files")):
        changes = project.gather(scope)
        check_withheld(changes, name)
        assert changes.complete is complete


def test_files_of_denied_places_are_withheld_in_every_scope(project: Project) -> None:
    denied = (
        project.root / "closed",
        project.root / "one.txt",
        project.root.parent / "other",
    )
    project.write("app.py", "changed\n")
    names = ("closed/deep/a.json", "closed/program.py", "one.txt")
    for name in names:
        project.write(name, "hunter2\n")
    project.write("closed too.txt", "open\n")

    def check(kind: ScopeKind, *, complete: bool) -> None:
        changes = gather(project.repo(), Scope(kind), 100_000, denied)
        for name in names:
            check_withheld(changes, name)
        assert b"open" in changes.diff
        assert changes.complete is complete

    check("working_tree", complete=True)
    check("files", complete=True)
    project.git("add", ".")
    check("staged", complete=False)
    check("files", complete=False)
    project.commit()
    check("commit", complete=False)


def test_place_of_the_repository_counts_for_what_is_secret(tmp_path: Path) -> None:
    project = Project(tmp_path / ".config").init()
    project.write("app.py", "changed\n")
    project.write("rclone/rclone.conf", "hunter2\n")
    check_withheld(project.gather(), "rclone/rclone.conf")


def check_withheld(changes: Changes, name: str) -> None:
    assert b"hunter2" not in changes.diff
    assert b"changed" in changes.diff
    assert (name, Reason.SECRET_FILE) in [
        (left_out.path, left_out.reason) for left_out in changes.omitted
    ]


def test_template_of_a_secret_file_is_shown(project: Project) -> None:
    project.write(".env.example", "KEY=\n")
    assert b"+KEY=\n" in project.gather().diff


def test_tokens_are_masked_in_material_and_messages_and_counted(
    project: Project,
) -> None:
    token = "ghp_" + "a1B2" * 9
    project.write("app.py", f"key = '{token}'\n")
    project.commit(f"Use {token}\n\nand {token}")
    changes = project.gather(Scope("commit"))
    assert b"+key = '[masked:github-token]'\n" in changes.diff
    assert (changes.commits[0].subject, changes.commits[0].body) == (
        "Use [masked:github-token]",
        "and [masked:github-token]",
    )
    assert changes.redactions == 3


def test_masks_that_lengthen_the_text_stay_within_the_budget(project: Project) -> None:
    for number in range(20):
        project.write(f"f{number}.txt", "a://b:c@d\n" * 50)
    changes = project.gather(budget=3000)
    assert len(changes.diff) <= 3000
    assert b"b:c@" not in changes.diff


def test_diff_printed_inside_a_file_is_content(project: Project) -> None:
    fake = "diff --git a/id_rsa b/id_rsa\n--- a/id_rsa\n+++ b/id_rsa\n@@ -1 +1 @@\n-a\n+b\n"
    project.write("app.py", fake)
    project.write("new.py", fake)
    changes = project.gather()
    assert [entry.path for entry in changes.entries] == ["app.py", "new.py"]
    assert not changes.omitted


def test_newline_in_a_name_forges_no_file(project: Project) -> None:
    name = "x\ndiff --git a/app.py b/app.py\n"
    project.write(name, "before\n")
    project.commit()
    project.write(name, "after\n")
    assert [entry.path_bytes for entry in project.gather().entries] == [
        os.fsencode(name)
    ]


def test_a_repository_names_no_file_of_the_user_as_ignore_patterns(
    project: Project, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "own").write_text("*.mine\n")
    project.git("config", "--global", "core.excludesFile", str(tmp_path / "own"))
    project.git("config", "core.excludesFile", str(pipe))
    for name in ("a.mine", "b.txt"):
        (project.root / name).touch()
    listed = project.repo().git("ls-files", "-z", "--others", "--exclude-standard")
    assert b"b.txt" in listed.split(b"\0")
    assert b"a.mine" not in listed
