"""What a repository names opens no file of the user, and uncommitted secrets of a user do not reach a shadow."""

from __future__ import annotations

import json
import os
import subprocess
import zlib
from dataclasses import asdict
from pathlib import Path

import pytest

from codex_counsel.delegate import seed
from codex_counsel.delegate.capture import capture_tree
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.set_up import set_up
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.tree_walk import TreeWalk
from tests.git.delegate.conftest import Seeded, UserRepository

PRIVATE = b"PRIVATE-VALUE-OF-THE-USER"


def readable(shadow: Shadow) -> list[bytes]:
    """The content of each file that a run can read, git's own objects unpacked."""
    contents = []
    for root in (shadow.tree, shadow.git_dir):
        for entry in TreeWalk(root):
            if not entry.is_file:
                continue
            content = Path(root, os.fsdecode(entry.path)).read_bytes()
            try:
                contents.append(zlib.decompress(content))
            except zlib.error:
                contents.append(content)
    return contents


def assert_private(seeded: Seeded) -> None:
    """Nothing that a run can read holds the value, nor does what git shows of the index."""
    shadow = seeded.shadow
    assert not any(PRIVATE in content for content in readable(shadow))
    for name in shadow.git("ls-files", "-z").split(b"\0")[:-1]:
        assert PRIVATE not in shadow.git("cat-file", "blob", b":" + name)


def assert_nothing_changed(seeded: Seeded) -> None:
    assert seeded.shadow.git("diff-files", "--name-only", "-z") == b""
    assert seeded.capture().files == []


# --- patterns of ignored files


@pytest.fixture
def private_file(repository: UserRepository) -> Path:
    """A file of the user beside the repository."""
    path = repository.base / "private/notes"
    path.parent.mkdir()
    path.write_bytes(b"first line\n" + PRIVATE + b"\n")
    return path


def test_a_file_that_the_repository_names_as_excludes_is_not_read(
    repository: UserRepository, private_file: Path
) -> None:
    repository.git("config", "core.excludesFile", str(private_file))
    assert_private(repository.seed())


def test_a_home_file_that_the_repository_names_as_excludes_is_not_read(
    repository: UserRepository, own_git_settings: Path
) -> None:
    home = Path(os.environ["HOME"])
    (home / "notes").write_bytes(PRIVATE)
    repository.git("config", "core.excludesFile", "~/notes")
    assert_private(repository.seed())


@pytest.mark.parametrize("name", [".ssh/config", "deploy.pem"])
def test_a_file_with_credentials_is_not_read_even_if_the_user_names_it(
    repository: UserRepository, own_git_settings: Path, name: str
) -> None:
    path = Path(os.environ["HOME"]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(PRIVATE + b"\n*.bak\n")
    repository.git("config", "--global", "core.excludesFile", str(path))
    shadow = repository.seed().shadow
    assert PRIVATE not in shadow.excludes.read_bytes()


def test_a_file_that_an_included_configuration_names_is_not_read(
    repository: UserRepository, private_file: Path
) -> None:
    included = repository.write(".git/more", "")
    repository.git(
        "config", "--file", str(included), "core.excludesFile", str(private_file)
    )
    repository.git("config", "include.path", "more")
    assert_private(repository.seed())


def test_excludes_of_the_clone_behind_a_link_are_not_read(
    repository: UserRepository, private_file: Path
) -> None:
    exclude = repository.root / ".git/info/exclude"
    exclude.unlink(missing_ok=True)
    exclude.symlink_to(private_file)
    assert_private(repository.seed())


def test_a_clone_with_a_folder_behind_a_link_is_not_used(
    repository: UserRepository, private_file: Path
) -> None:
    private_file.rename(private_file.parent / "exclude")
    info = repository.root / ".git/info"
    for path in info.iterdir():
        path.unlink()
    info.rmdir()
    info.symlink_to(private_file.parent)
    with pytest.raises(CounselError) as error:
        repository.seed()
    assert error.value.code == Code.WORKSPACE_INVALID


def test_no_pattern_of_the_user_is_readable(repository: UserRepository) -> None:
    patterns = repository.base / "excludes"
    patterns.write_bytes(PRIVATE + b"\n*.bak\n")
    repository.git("config", "--global", "core.excludesFile", str(patterns))
    (repository.root / ".git/info/exclude").write_bytes(PRIVATE + b"/\n*.tmp\n")
    seeded = repository.seed()
    assert_private(seeded)
    # They hold all the same for what is captured.
    seeded.run("touch new.bak new.tmp new.txt")
    assert [file.name for file in seeded.capture().files] == [b"new.txt"]


def test_a_link_that_the_user_made_to_their_excludes_is_followed(
    repository: UserRepository,
) -> None:
    patterns = repository.base / "dotfiles-ignore"
    patterns.write_text("*.bak\n")
    link = repository.base / "ignore"
    link.symlink_to(patterns)
    repository.git("config", "--global", "core.excludesFile", str(link))
    repository.write("old.bak")
    assert b"old.bak" not in repository.seed().files


def test_the_repository_does_not_switch_the_users_excludes_off(
    repository: UserRepository,
) -> None:
    patterns = repository.base / "excludes"
    patterns.write_text("*.bak\n")
    repository.git("config", "--global", "core.excludesFile", str(patterns))
    repository.git("config", "core.excludesFile", os.devnull)
    repository.write("old.bak")
    assert b"old.bak" not in repository.seed().files


@pytest.mark.parametrize("name", [".env", ".ssh/id_rsa", ".codex/auth.json"])
def test_a_secret_file_is_no_file_of_patterns(
    repository: UserRepository, own_git_settings: Path, name: str
) -> None:
    path = Path(os.environ["HOME"]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(PRIVATE)
    link = repository.base / "ignore"
    link.symlink_to(path)
    repository.git("config", "--global", "core.excludesFile", str(link))
    seeded = repository.seed()
    assert_private(seeded)
    assert PRIVATE not in seeded.shadow.excludes.read_bytes()


# --- tracked secret files


@pytest.fixture
def secret(repository: UserRepository) -> UserRepository:
    """Committed secret files with harmless values."""
    for name in (".env", "conf/.env", ".aws/credentials"):
        repository.write(name, "VALUE=committed\n")
    repository.commit()
    return repository


CHANGES = {
    "unstaged": "echo $P > .env",
    "staged": "echo $P > .env; git add .env",
    "staged, then changed again": "echo $P > .env; git add .env; echo VALUE=3 > .env",
    "staged, then put back": "cp .env old.txt; echo $P > .env; git add .env; mv old.txt .env",
    "in a folder": "echo $P > conf/.env; echo $P > .aws/credentials",
    "new and staged": "echo $P > .env.local; git add .env.local",
    "new and intended": "echo $P > .env.local; git add --intent-to-add .env.local",
    "a name of two lines": "echo $P > $'.env.two\\nlines'; git add .",
    "renamed and changed": "git mv .env settings.env; echo $P > settings.env; git add .",
    "assumed unchanged": "git update-index --assume-unchanged .env; echo $P > .env",
    "skipped": "git update-index --skip-worktree .env; echo $P > .env",
    "a backup copy": "echo $P > .env.bak; git add .env.bak",
    "from a file": "git mv app.py server.key; echo $P > server.key; git add .",
    "another kind": "rm .env; mkdir .env; echo $P > .env/.env; git add .",
    "in conflict": (
        "git switch -qc other; echo OURS > .env; git commit -qam other; git switch -q main;"
        "echo $P > .env; git commit -qam mine; git reset -q --soft HEAD~; git stash -q;"
        "echo THEIRS > .env; git commit -qam theirs; git stash pop || true"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_uncommitted_value_of_a_secret_file_does_not_reach_the_shadow(
    secret: UserRepository, change: str
) -> None:
    run_in(secret, change)
    seeded = secret.seed()
    assert_private(seeded)
    assert_nothing_changed(seeded)
    assert "secret_file" in seeded.omitted.values()


def run_in(repository: UserRepository, command: str) -> None:
    """Run a shell command in the user's tree; `$P` is the private value."""
    subprocess.run(
        ["bash", "-euc", command],
        cwd=repository.root,
        env={**os.environ, "P": PRIVATE.decode()},
        check=True,
        capture_output=True,
    )


def test_git_shows_the_committed_value_and_the_tree_has_no_such_file(
    secret: UserRepository,
) -> None:
    secret.write(".env", PRIVATE)
    secret.git("add", ".env")
    seeded = secret.seed()
    assert seeded.shadow.git("show", ":.env") == b"VALUE=committed\n"
    assert b".env" not in seeded.files
    assert seeded.omitted == {".env": "secret_file"}


def test_a_secret_file_that_is_as_it_was_committed_arrives(
    secret: UserRepository,
) -> None:
    seeded = secret.seed()
    assert {b".env", b"conf/.env", b".aws/credentials"} <= set(seeded.files)
    assert seeded.omitted == {}


def test_a_file_that_git_keeps_encrypted_arrives_in_no_readable_form(
    repository: UserRepository,
) -> None:
    repository.write("vault.yaml", "ciphertext\n")
    repository.write(".gitattributes", "vault.yaml filter=git-crypt diff=git-crypt\n")
    repository.commit()
    repository.write("vault.yaml", PRIVATE)
    repository.git("update-index", "--assume-unchanged", "vault.yaml")
    seeded = repository.seed()
    assert_private(seeded)
    assert seeded.omitted == {"vault.yaml": "secret_file"}
    assert_nothing_changed(seeded)


def test_a_deleted_secret_file_is_not_deleted_once_more(secret: UserRepository) -> None:
    (secret.root / ".env").unlink()
    secret.git("rm", "-q", "--cached", "conf/.env")
    seeded = secret.seed()
    assert_nothing_changed(seeded)


def test_a_secret_file_that_a_run_makes_is_captured(secret: UserRepository) -> None:
    secret.write(".env", PRIVATE)
    seeded = secret.seed()
    seeded.run("echo VALUE=new > .env; echo VALUE=more > .env.test; rm conf/.env")
    files = seeded.capture().files
    assert {file.name: file.status for file in files} == {
        b".env": "M",
        b".env.test": "A",
        b"conf/.env": "D",
    }
    assert PRIVATE not in (seeded.store / "diff.patch").read_bytes()
    assert PRIVATE not in (seeded.store / "base.tar").read_bytes()


def test_a_task_that_goes_on_has_no_uncommitted_value_either(
    secret: UserRepository,
) -> None:
    secret.write(".env", PRIVATE)
    secret.write("app.py", "mine\n")
    first = _set_up(secret, "first")
    (first.tree / "conf/.env").write_text("VALUE=of the first run\n")
    (first.tree / "app.py").unlink()
    (first.tree / "app.py").mkdir()
    (first.tree / "app.py/new").write_text("new\n")
    _capture(secret, first, "first")

    secret.write("conf/.env", PRIVATE)
    second = _set_up(secret, "second", again="first")
    assert not any(PRIVATE in content for content in readable(second))
    assert not (second.tree / ".env").exists()
    assert (second.tree / "conf/.env").read_text() == "VALUE=of the first run\n"
    assert (second.tree / "app.py/new").read_text() == "new\n"
    _capture(secret, second, "second")
    for name in ("seed.patch", "diff.patch"):
        first_job, second_job = secret.base / "first", secret.base / "second"
        content = (second_job / name).read_bytes()
        assert content == (first_job / name).read_bytes()
        assert PRIVATE not in content


def test_nothing_of_a_denied_place_in_the_workspace_reaches_the_tree(
    repository: UserRepository,
) -> None:
    repository.write("codex/history.jsonl", "as it was committed\n")
    repository.commit()
    repository.write("codex/history.jsonl", PRIVATE)
    repository.write("codex/sessions/today.jsonl", PRIVATE)
    repository.write("state/job/prompt.md", PRIVATE)
    repository.write("codex-notes", "mine\n")
    denied = (repository.root / "codex", repository.root / "state")

    shadow = _set_up(repository, "job", denied=denied)
    assert not any(PRIVATE in content for content in readable(shadow))
    assert not (shadow.tree / "codex").exists()
    assert not (shadow.tree / "state").exists()
    assert (shadow.tree / "codex-notes").read_text() == "mine\n"
    omitted = json.loads((repository.base / "job/seed.json").read_text())["omitted"]
    assert dict(omitted) == {
        "codex/history.jsonl": "secret_file",
        "codex/sessions/today.jsonl": "secret_file",
        "state/job/prompt.md": "secret_file",
    }


@pytest.mark.parametrize("ignored", ["", ".env\n"])
def test_what_a_link_with_a_secret_name_leads_to_does_not_reach_the_tree(
    repository: UserRepository, ignored: str
) -> None:
    repository.write(".gitignore", ignored)
    repository.write("pkg/known", "as it was committed\n")
    repository.commit()
    repository.write("pkg/known", PRIVATE)
    repository.write("pkg/plain", PRIVATE)
    (repository.root / ".env").symlink_to("pkg/plain")
    (repository.root / "pkg/.env").symlink_to("known")

    seeded = repository.seed()
    assert not any(PRIVATE in content for content in readable(seeded.shadow))
    for name in ("pkg/plain", "pkg/known"):
        assert seeded.omitted[name] == "secret_file"
        assert not (seeded.shadow.tree / name).exists()


def _set_up(
    repository: UserRepository,
    name: str,
    again: str = "",
    denied: tuple[Path, ...] = (),
) -> Shadow:
    job = repository.base / name
    job.mkdir()
    spec = DelegateSpec(
        workspace=str(repository.root),
        repository=str(repository.root / ".git"),
        git_timeout=60,
        diff_limit=1000,
        denied=tuple(map(str, denied)),
        again=str(repository.base / again) if again else None,
    )
    scratch = repository.base / f"scratch-{name}"
    set_up({"delegate": asdict(spec)}, scratch, job)
    shadow = Shadow(scratch, 60, git_environment(os.environ, repository.root))
    repository.shadows.append(shadow)
    return shadow


def _capture(repository: UserRepository, shadow: Shadow, name: str) -> None:
    job = repository.base / name
    base_tree = json.loads((job / "seed.json").read_text())["base_tree"]
    capture_tree(shadow, base_tree, job, 1000)


# --- trees that change while they are copied


def test_a_folder_exchanged_for_a_link_while_it_is_copied_brings_nothing_along(
    repository: UserRepository, private_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("work/notes", "mine\n")
    repo = repository.repo()
    plan = seed.plan_seed(repo, ())
    shadow = Shadow.create(repo, repository.base / "shadow", plan.head)
    repository.shadows.append(shadow)
    look = os.stat

    def exchange(path: object, **options: object) -> os.stat_result:
        status = look(path, **options)  # type: ignore[arg-type]
        if path == b"notes":
            (repository.root / "work").rename(repository.base / "moved")
            (repository.root / "work").symlink_to(private_file.parent)
        return status

    monkeypatch.setattr(os, "stat", exchange)
    seed.populate(repo, plan, shadow)
    monkeypatch.undo()
    assert (shadow.tree / "work/notes").read_bytes() == b"mine\n"
