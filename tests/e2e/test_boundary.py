"""What a run can read of a workspace that others have prepared, on the real Codex."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import Consult, Delegate, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Answer, Loopback, say, shell
from codex_counsel.prepare import secret_files
from codex_counsel.system.tree_walk import remove_tree
from tests.conftest import World, consult
from tests.e2e.escape.attacks import attack
from tests.e2e.escape.scene import MODEL
from tests.repositories import write
from tests.reviews import reply, review

Model = Callable[..., Loopback]
DECOYS = 250


def outputs(
    world: World, start: Model, kind: str, *replies: Answer, **arguments: Any
) -> tuple[str, Any]:
    """Let the model of a consultation or a delegate run these, and return what it was told, and the envelope."""
    server = start([*replies, say("Done.")], model=MODEL)
    counsel = world.counsel()
    if kind == "consult":
        handle = counsel.consult(parse(Consult, {"question": "?", **arguments}))
    else:
        handle = counsel.delegate(parse(Delegate, {"task": "?", **arguments}))
    wire = counsel.follow(handle, lambda _: None)
    assert wire["status"] == "completed", wire
    return "\n".join(server.requests[-1].outputs), wire


@pytest.fixture
def decoys(each_release: World) -> World:
    """A repository with many committed test keys, and the user's own secrets in ignored files."""
    repository = each_release.repository.init()
    for number in range(DECOYS):
        repository.write(f"certs/{number}.pem", f"DECOY {number}\n")
    repository.write("app.py", "answer = 42\n")
    repository.write(".gitignore", ".env\n*.local.pem\n")
    repository.commit()
    # One of them is found after the decoys, whatever the order of the search.
    for folder in ("aa", "zz", "certs/1", "certs/z"):
        repository.write(f"{folder}/.env", "SECRET-env\n")
    return each_release


@attack("Many committed keys hide the user's own secret files", delegate="not tested")
def test_decoys_do_not_uncover_a_secret_that_was_never_committed(
    decoys: World, each_model: Model
) -> None:
    look = shell("cat app.py; grep -rh SECRET .; cat certs/*.pem | wc -l")
    output, wire = outputs(decoys, each_model, "consult", look)
    assert "answer = 42" in output
    assert "SECRET" not in output
    assert wire["meta"]["sandbox"]["read_boundary"] == "partial"
    assert any("partial" in warning for warning in wire["meta"]["warnings"])


@attack(
    "More secret files that were never committed than can be denied",
    read_only="refused",
    delegate="does not apply",
)
def test_with_more_uncommitted_secrets_than_can_be_denied_a_run_is_refused(
    decoys: World, each_model: Model
) -> None:
    server = each_model()
    for number in range(DECOYS):
        decoys.repository.write(f"own/{number}.local.pem", "SECRET\n")
    with pytest.raises(CounselError) as error:
        decoys.counsel().consult(parse(Consult, {"question": "?"}))
    assert error.value.code == Code.BOUNDARY_INCOMPLETE
    assert "254 secret files that were never committed" in error.value.message
    assert server.requests == []

    decoys.settings["INCOMPLETE_BOUNDARY"] = "report"
    count = shell("exec 2>/dev/null; cat own/*.pem | wc -l")
    output, wire = outputs(decoys, each_model, "consult", count)
    assert int(output.split()[-1]) < DECOYS
    assert wire["meta"]["sandbox"]["read_boundary"] == "partial"


@attack(
    "A secret file is made, moved or replaced after the start of a run",
    delegate="does not apply",
)
def test_a_secret_made_or_replaced_after_the_start_is_denied_to_the_next_command(
    each_release: World, each_model: Model
) -> None:
    workspace = each_release.workspace
    (workspace / "pkg").mkdir()
    (workspace / "pkg/.env").write_text("SECRET-old\n")
    (workspace / "old.pem").write_text("SECRET-moved\n")

    def user_edits(_request: Any) -> Answer:
        (workspace / "pkg/new").write_text("SECRET-new\n")
        (workspace / "pkg/new").replace(workspace / "pkg/.env")
        (workspace / "later").mkdir()
        (workspace / "later/.env").write_text("SECRET-later\n")
        (workspace / "old.pem").rename(workspace / "later/renamed.pem")
        return shell("grep -rh SECRET . ; cat later/.env; echo DONE")

    edits = [user_edits]

    def script(request: Any) -> Answer:
        if not request.outputs:
            return shell("echo FIRST")
        return edits.pop()(request) if edits else say("Done.")

    server = each_model(script, model=MODEL)
    counsel = each_release.counsel()
    handle = counsel.consult(parse(Consult, {"question": "?"}))
    counsel.follow(handle, lambda _: None)
    told = "\n".join(server.requests[-1].outputs)
    assert "FIRST" in told
    assert "DONE" in told
    assert "SECRET" not in told


@attack(
    "A secret file has a name that is not UTF-8",
    read_only="not held: the envelope says `partial`",
    delegate="does not apply",
)
def test_a_secret_whose_name_is_not_utf8_stops_no_command(
    each_release: World, each_model: Model
) -> None:
    name = os.fsdecode(b"caf\xe9.env")
    (each_release.workspace / name).write_text("STRANGE\n")
    (each_release.workspace / "app.py").write_text("answer = 42\n")
    (each_release.workspace / ".env").write_text("SECRET\n")
    look = shell("cat app.py .env")
    output, wire = outputs(each_release, each_model, "consult", look)
    assert "answer = 42" in output
    assert "SECRET" not in output
    assert wire["meta"]["sandbox"]["read_boundary"] == "partial"


def test_names_in_the_git_directory_stop_no_command(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 42\n")
    repository.commit()
    repository.git("checkout", "-q", "-b", "rotate.pem")
    look = shell("cat app.py; git log --oneline; git status --short && echo CLEAN")
    output, _ = outputs(each_release, each_model, "consult", look)
    assert "answer = 42" in output
    assert "change" in output
    assert "CLEAN" in output


@pytest.mark.parametrize("target", [".", "..", "/etc", "/dev/null", ".git", "pkg"])
def test_a_link_with_the_name_of_a_secret_file_stops_no_command(
    each_release: World, each_model: Model, target: str
) -> None:
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 42\n")
    repository.write("pkg/.env", "SECRET\n")
    (each_release.workspace / "x.pem").symlink_to(target)
    look = shell("cat app.py pkg/.env; git status --short && echo LISTED")
    output, _ = outputs(each_release, each_model, "consult", look)
    assert "answer = 42" in output
    assert "LISTED" in output
    assert "SECRET" not in output


def test_a_secret_that_codex_cannot_search_for_is_refused(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = model()
    deep = world.workspace / "d" / ("x" * 120)
    (world.workspace / "app/[id]").mkdir(parents=True)
    (world.workspace / "app/[id]/.env").write_text("SECRET\n")
    (deep / "below").mkdir(parents=True)
    monkeypatch.setattr(secret_files, "MAX_PATH", 60)
    with pytest.raises(CounselError) as error:
        world.counsel().consult(parse(Consult, {"question": "?"}))
    assert error.value.code == Code.BOUNDARY_INCOMPLETE
    assert "takes for patterns" in error.value.message
    assert server.requests == []


def test_a_repository_of_any_depth_is_read(
    each_release: World, each_model: Model
) -> None:
    folder = os.open(each_release.workspace, os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    (each_release.workspace / "app.py").write_text("answer = 42\n")
    look = shell("cat app.py")
    output, _ = outputs(each_release, each_model, "consult", look)
    assert "answer = 42" in output
    # The tests' own clean-up does not reach so deep.
    assert remove_tree(each_release.workspace / "d")


# --- what a repository names


@pytest.fixture
def neighbours(each_release: World) -> World:
    """A repository beside private things: another project, and keys in the home directory."""
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 42\n")
    repository.commit()
    private = each_release.home / "private"
    (private / "bin").mkdir(parents=True)
    (private / "bin/python").write_text("#!/bin/sh\n")
    (private / ".env").write_text("SECRET-project\n")
    (each_release.home / ".ssh").mkdir()
    (each_release.home / ".ssh/id_ed25519").write_text("SECRET-ssh\n")
    return each_release


def test_a_task_that_goes_on_in_a_repository_with_many_secrets_runs_commands(
    decoys: World, each_model: Model
) -> None:
    look = shell("cat app.py; cat certs/1.pem")
    output, wire = outputs(decoys, each_model, "delegate", look)
    assert "answer = 42" in output
    earlier = wire["meta"]["job_id"]
    output, _ = outputs(decoys, each_model, "delegate", look, from_job=earlier)
    assert "answer = 42" in output
    assert "DECOY" not in output


def test_an_environment_of_the_repository_opens_no_other_project(
    neighbours: World, each_model: Model
) -> None:
    venv = neighbours.workspace / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (venv / "bin/python").symlink_to(neighbours.home / "private/bin/python")
    look = shell(f"cat app.py {neighbours.home}/private/.env {venv}/bin/python")
    output, _ = outputs(neighbours, each_model, "delegate", look)
    assert "answer = 42" in output
    assert "SECRET" not in output
    assert "#!/bin/sh" not in output


@attack(
    "The repository's `.git` leads to other directories by `commondir` or a link",
    read_only="not tested",
    delegate="refused",
)
@pytest.mark.parametrize("way", ["objects", "commondir", "both"])
def test_a_git_directory_that_leads_elsewhere_opens_nothing_and_is_refused(
    neighbours: World, each_model: Model, way: str
) -> None:
    server = each_model()
    git = neighbours.workspace / ".git"
    elsewhere = neighbours.base / "elsewhere"
    if way != "objects":
        shutil.copytree(git, elsewhere)
        (git / "commondir").write_text(f"{elsewhere}\n")
    if way != "commondir":
        shutil.rmtree(git / "objects")
        (git / "objects").symlink_to(neighbours.home)
    with pytest.raises(CounselError) as error:
        neighbours.counsel().delegate(parse(Delegate, {"task": "?"}))
    assert error.value.code in (Code.WORKSPACE_INVALID, Code.NOT_A_GIT_REPO)
    assert server.requests == []


def test_the_keys_of_git_crypt_are_closed(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 42\n")
    repository.commit()
    repository.write(".git/git-crypt/keys/default", "SECRET\n")
    look = shell("cat app.py .git/git-crypt/keys/default; git log --oneline")
    output, _ = outputs(each_release, each_model, "consult", look)
    assert "answer = 42" in output
    assert "SECRET" not in output


def test_tokens_in_the_settings_of_installed_programs_stay_closed(
    each_release: World, each_model: Model
) -> None:
    home = each_release.home
    files = (
        ".nvm/versions/node/v22/etc/npmrc",
        ".nvm/versions/node/v22/.netrc",
        ".supabase/access-token",
        ".dotfiles/zshrc",
        ".config/pip/pip.conf",
        ".local/share/uv/credentials/credentials.toml",
    )
    for name in files:
        write(home, name, "SECRET\n")
    folders = (".nvm/versions/node/v22", ".supabase", ".dotfiles", ".config", ".local")
    for folder in folders:
        program = write(home, f"{folder}/bin/say", "#!/bin/sh\necho found\n")
        program.chmod(0o755)
    write(home, ".nvm/versions/node/v22/lib/own", "LIBRARY\n")
    write(home, ".dotfiles/.git/HEAD")
    path = ":".join(f"{home}/{folder}/bin" for folder in folders)
    each_release.repository.begin_changed()
    look = shell(
        f"cd {home}; for f in {' '.join(folders)}; do $f/bin/say; done; "
        f"cat .nvm/versions/node/v22/lib/own {' '.join(files)}"
    )
    server = each_model([look, say(reply())])
    wire = review(each_release.counsel(PATH=f"{path}:{os.environ['PATH']}"))
    assert wire["status"] == "completed"
    output = server.requests[-1].outputs[-1]
    assert output.count("found") == len(folders)
    assert "LIBRARY" in output
    assert "SECRET" not in output


def test_a_place_of_keys_that_leads_to_an_impossible_name_costs_no_run(
    world: World, model: Model
) -> None:
    world.repository.begin()
    (world.workspace / ".git/git-crypt").symlink_to("x" * 300)
    model()
    assert consult(world.counsel())["ok"]


def test_the_host_boundary_closes_settings_in_which_tokens_are_kept(
    each_release: World, each_model: Model
) -> None:
    each_release.settings["READ_BOUNDARY"] = "host"
    for name in (".zshrc", ".gitconfig", "notes.txt"):
        (each_release.home / name).write_text(f"CONTENT of {name}\n")
    look = shell("cat ~/.zshrc ~/.gitconfig ~/notes.txt")
    output, _ = outputs(each_release, each_model, "consult", look)
    assert "CONTENT of notes.txt" in output
    assert "CONTENT of ." not in output


# --- what a caller names


@pytest.mark.parametrize(
    "root",
    [
        "/etc",
        "/var/log",
        "/var/lib",
        "/usr/share",
        "{home}/.config/app",
        "{home}/.cache",
        "{home}",
    ],
)
def test_a_private_directory_is_refused_as_an_extra_root(
    world: World, model: Model, root: str
) -> None:
    model()
    (world.home / ".config/app").mkdir(parents=True)
    (world.home / ".cache").mkdir()
    path = root.format(home=world.home)
    request = parse(Consult, {"question": "?", "extra_roots": [path]})
    with pytest.raises(CounselError) as error:
        world.counsel().consult(request)
    assert error.value.code == Code.WORKSPACE_INVALID


@pytest.mark.parametrize("root", ["{home}/.config/app", "/usr/share", "/var/lib"])
def test_a_private_directory_is_refused_as_workspace_unless_the_session_works_there(
    world: World, model: Model, root: str
) -> None:
    model()
    path = Path(root.format(home=world.home))
    if not path.is_dir():
        path.mkdir(parents=True)
    request = parse(Consult, {"question": "?", "workspace_root": str(path)})
    with pytest.raises(CounselError) as error:
        world.counsel().consult(request)
    assert error.value.code == Code.WORKSPACE_INVALID

    there = world.counsel(CLAUDE_PROJECT_DIR=str(path))
    assert consult(there)["ok"]
    assert consult(there, workspace_root=str(path))["ok"]


def test_downloaded_packages_and_neighbouring_projects_are_read_as_extra_roots(
    world: World, model: Model
) -> None:
    roots: list[Path] = [world.home / ".cargo/registry/src", world.base / "sibling"]
    for root in roots:
        root.mkdir(parents=True)
        (root / "lib.rs").write_text(f"INSIDE {root.name}\n")
    look = shell(f"cat {roots[0]}/lib.rs {roots[1]}/lib.rs")
    arguments = {"extra_roots": [str(root) for root in roots]}
    output, _ = outputs(world, model, "consult", look, **arguments)
    assert "INSIDE src" in output
    assert "INSIDE sibling" in output
