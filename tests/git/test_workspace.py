"""Which directories a run may be given, what in them is closed, and what else has to be opened."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.codex import sandbox
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.prepare import (
    directories,
    environments,
    secret_files,
    system_files,
)
from codex_counsel.prepare import toolchains as toolchains_module
from codex_counsel.prepare.boundary import _scanned
from codex_counsel.prepare.context import Memory
from codex_counsel.prepare.directories import Directories
from codex_counsel.prepare.environments import Environments
from codex_counsel.prepare.secret_files import SecretFiles, find_secrets, uncommitted
from codex_counsel.prepare.toolchains import interpreter, toolchains
from codex_counsel.prepare.workspace import (
    ResolvedWorkspace,
    checked_root,
    find_repository,
    resolve,
)
from codex_counsel.system.files import read_regular
from codex_counsel.system.tree_walk import remove_tree
from tests.conftest import World


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Directories:
    """A user's directories, on a machine without secrets of its own."""
    monkeypatch.setattr(system_files, "NAMED", ())
    home = tmp_path / "home"
    for path in (home / ".codex", home / ".ssh", home / "code", tmp_path / "state"):
        path.mkdir(parents=True)
    return Directories.of({"HOME": str(home)}, tmp_path / "state")


def refusal(path: str | Path, places: Directories) -> str:
    with pytest.raises(CounselError) as error:
        checked_root(path, places.gate())
    assert error.value.code == Code.WORKSPACE_INVALID
    return error.value.message


# --- which directory


def test_a_directory_is_looked_at_for_each_request_and_once_for_a_batch(
    world: World,
) -> None:
    world.repository.begin()
    root = str(world.workspace)
    once = world.counsel().context
    batch = replace(once, memory=Memory())
    known = resolve(batch, root)
    world.workspace.rename(world.base / "moved")
    assert resolve(batch, root) is known
    with pytest.raises(CounselError) as error:
        resolve(once, root)
    assert error.value.code == Code.WORKSPACE_INVALID


def test_an_ordinary_directory_is_given_with_its_links_resolved(
    places: Directories, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(places.home / "code")
    assert checked_root(str(tmp_path / "link"), places.gate()) == places.home / "code"


@pytest.mark.parametrize("path", ["/", "/home", "/root", "//", "/usr/.."])
def test_the_root_and_the_homes_are_refused(places: Directories, path: str) -> None:
    assert "home directory" in refusal(path, places)


def test_a_home_and_everything_above_it_is_refused(
    places: Directories, tmp_path: Path
) -> None:
    (tmp_path / "to-home").symlink_to(places.home)
    for path in (
        places.home,
        tmp_path,
        tmp_path.parent,
        tmp_path / "to-home",
        places.home / "code/..",
    ):
        assert "home directory" in refusal(path, places)


def test_another_users_home_is_refused(
    places: Directories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "HOMES", (tmp_path / "homes",))
    (tmp_path / "homes/someone/code").mkdir(parents=True)
    assert "home directory" in refusal(tmp_path / "homes/someone", places)
    assert (
        checked_root(tmp_path / "homes/someone/code", places.gate())
        == tmp_path / "homes/someone/code"
    )


def test_directories_of_credentials_are_refused_with_all_below_them(
    places: Directories,
) -> None:
    (places.home / ".ssh/keys").mkdir()
    (places.home / ".config/gcloud").mkdir(parents=True)
    (places.home / "innocent").symlink_to(places.home / ".ssh")
    for path in (
        ".ssh",
        ".ssh/keys",
        ".codex",
        ".config/gcloud",
        "innocent",
        "innocent/keys",
    ):
        assert "no run may see" in refusal(places.home / path, places)


def test_the_codex_home_and_the_state_directory_are_refused_wherever_they_are(
    tmp_path: Path,
) -> None:
    for name in ("home", "elsewhere/codex", "elsewhere/state/jobs", "elsewhere/code"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    env = {
        "HOME": str(tmp_path / "home"),
        "CODEX_HOME": str(tmp_path / "elsewhere/codex"),
    }
    places = Directories.of(env, tmp_path / "elsewhere/state")
    for path in ("elsewhere/codex", "elsewhere/state", "elsewhere/state/jobs"):
        assert "no run may see" in refusal(tmp_path / path, places)
    assert (
        checked_root(tmp_path / "elsewhere/code", places.gate())
        == tmp_path / "elsewhere/code"
    )


@pytest.mark.parametrize("path", ["/proc", "/proc/self", "/sys", "/dev", "/run"])
def test_the_running_system_is_refused(places: Directories, path: str) -> None:
    if not Path(path).is_dir():
        pytest.skip(f"there is no {path} here")
    assert "running system" in refusal(path, places)


def test_what_is_no_directory_is_refused_by_name(
    places: Directories, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("missing", "file", "pipe", "loop", "file/below"):
        assert str(tmp_path / name) in refusal(tmp_path / name, places)


@pytest.mark.parametrize("path", ["", ".", "code", "../code", "~"])
def test_a_relative_path_is_refused(places: Directories, path: str) -> None:
    assert "absolute" in refusal(path, places)


def test_an_unreadable_directory_is_refused(
    places: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = places.home / "code"

    def scandir(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", scandir)
    assert "Permission denied" in refusal(closed, places)


def test_a_name_that_is_not_utf_8_is_refused(
    places: Directories, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.mkdir()
    assert "UTF-8" in refusal(path, places)


def test_a_closed_directory_of_another_homes_parent_is_no_crash(
    places: Directories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "homes").touch()
    monkeypatch.setattr(directories, "HOMES", (tmp_path / "homes",))
    assert checked_root(places.home / "code", places.gate()) == places.home / "code"


# --- what is denied


def test_only_credentials_that_exist_are_denied_and_links_at_both_ends(
    places: Directories, tmp_path: Path
) -> None:
    (tmp_path / "aws").mkdir()
    (places.home / ".aws").symlink_to(tmp_path / "aws")
    (places.home / ".netrc").touch()
    expected = {
        places.codex_home,
        places.state,
        places.home / ".ssh",
        places.home / ".netrc",
        tmp_path / "aws",
    }
    assert set(places.denied()) == expected


def test_a_package_below_a_denied_directory_stays_open_and_its_neighbours_closed(
    places: Directories,
) -> None:
    package = places.codex_home / "packages/standalone"
    (package / "bin").mkdir(parents=True)
    (places.codex_home / "packages/other").mkdir()
    (places.codex_home / "auth.json").touch()
    around = set(places.gate().denied_around(package))
    assert around == {
        places.codex_home / "auth.json",
        places.codex_home / "packages/other",
        places.state,
        places.home / ".ssh",
    }
    assert set(places.gate().denied_around(Path("/opt/codex"))) == set(places.denied())
    other = places.codex_home / "packages/other"
    assert set(places.gate().denied_around(package, other)) == around - {other}
    assert (
        set(places.gate().denied_around(package / "bin", Path("/opt/codex"))) == around
    )


# --- secrets of the system


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The root of a small machine: files by their path below it, with their modes."""
    root = tmp_path / "system"
    modes = {
        "etc/passwd": 0o600,
        "etc/shadow": 0o644,
        "etc/hosts": 0o644,
        "etc/app.conf": 0o640,
        "etc/ssh/ssh_host_rsa_key": 0o644,
        "etc/ssh/ssh_host_rsa_key.pub": 0o644,
        "etc/ssl/certs/ca.pem": 0o644,
        "etc/ssl/other/server.key": 0o600,
        "etc/closed/inner/file": 0o644,
        "srv/elsewhere": 0o600,
        "run/docker.sock": 0o660,
    }
    for name, mode in modes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        (root / name).chmod(mode)
    (root / "etc/closed").chmod(0o750)
    (root / "etc/link").symlink_to("../srv/elsewhere")
    (root / "home/nixos").mkdir(mode=0o700, parents=True)
    (root / "etc/nixos").symlink_to("../home/nixos")
    (root / "etc/dead").symlink_to("nowhere")
    (root / "etc/loop").symlink_to(".")
    os.mkfifo(root / "etc/pipe", 0o600)
    return root


def below(system: Path, paths: list[Path]) -> set[str]:
    return {str(path.relative_to(system)) for path in paths}


def test_secrets_of_the_system_are_known_by_name_whatever_their_modes(
    system: Path,
) -> None:
    found = {"etc/shadow", "etc/ssh/ssh_host_rsa_key", "run/docker.sock"}
    assert below(system, system_files.named(root=system)) == found


def test_a_link_to_a_device_is_not_denied(places: Directories) -> None:
    (places.home / ".bash_history").symlink_to("/dev/null")
    assert Path("/dev/null") not in places.denied()


def test_what_not_everybody_may_read_in_etc_is_private_and_what_programs_need_is_not(
    system: Path,
) -> None:
    expected = {
        "etc/app.conf",
        "etc/ssl/other/server.key",
        "etc/closed",
        "srv/elsewhere",
    }
    assert below(system, system_files.not_for_everybody(system)) == expected


def test_where_nearly_everything_is_closed_the_modes_say_nothing(system: Path) -> None:
    for number in range(system_files.MAX_PRIVATE):
        (system / f"etc/{number}").touch(0o600)
    assert system_files.not_for_everybody(system) == []


def test_what_is_closed_later_in_etc_is_private_to_the_runs_from_some_seconds_on(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    before = system_files.not_for_everybody(system)
    (system / "etc/new.conf").touch(0o600)
    assert system_files.not_for_everybody(system) == before
    now += system_files.REMEMBERED_SECONDS
    later = below(system, system_files.not_for_everybody(system))
    assert later == {*below(system, before), "etc/new.conf"}


def test_a_named_place_stays_open_that_holds_the_users_own(system: Path) -> None:
    """A service's user may live in /var/lib, and TMPDIR may lie in /run/user."""
    own = system / "run/user/1000/tmp"
    own.mkdir(parents=True)
    assert "run/user" in below(system, system_files.named(root=system))
    assert "run/user" not in below(system, system_files.named((own,), system))


def test_a_machine_without_any_of_it_has_no_secrets(tmp_path: Path) -> None:
    assert system_files.named(root=tmp_path) == []
    assert system_files.not_for_everybody(tmp_path) == []


# --- secret files


def secrets(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_secret_files_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    secret_files = secrets(
        tmp_path,
        *(
            ".env",
            ".env.local",
            "a/b/c/d/e/f/g/.env",
            "deploy.pem",
            "id_rsa",
            "terraform.tfstate",
            ".npmrc",
        ),
        *(
            ".aws/credentials",
            "deep/.docker/config.json",
            "a/.kube/config",
            "[id]/.env",
            "new\nline.env",
        ),
    )
    secrets(
        tmp_path,
        ".env.example",
        "app.py",
        "config.json",
        "environment",
        ".git/config.env",
    )
    found = find_secrets([tmp_path])
    assert set(found.paths) == set(secret_files)
    assert found.complete


def test_a_linked_secret_is_found_where_it_really_is(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    (target,) = secrets(other, "values")
    root.mkdir()
    (root / ".env").symlink_to(target)
    (root / "twice.env").symlink_to(target)
    (root / "lost.env").symlink_to(other / "missing")
    (root / "loop.env").symlink_to(root / "loop.env")
    (root / "cacert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (root / "shell.pem").symlink_to("/usr/bin/env")
    (root / "hosts.env").symlink_to("/etc/hosts")
    (root / "null.env").symlink_to("/dev/null")
    (root / "folder.env").symlink_to(other)
    (root / ".git").mkdir()
    (root / ".git/HEAD").touch()
    (root / "head.env").symlink_to(".git/HEAD")
    assert find_secrets([root]).paths == (target,)


def test_a_ref_with_the_name_of_a_secret_file_is_none_and_keeps_codex_from_searching(
    tmp_path: Path,
) -> None:
    secrets(tmp_path, ".git/refs/heads/rotate.pem")
    found = find_secrets([tmp_path])
    assert (found.paths, found.scannable) == ((), False)


def test_a_line_end_hides_no_secret_file(tmp_path: Path) -> None:
    planted = secrets(tmp_path, ".env\n")
    assert find_secrets([tmp_path]).paths == tuple(planted)


def test_links_to_directories_are_not_followed(tmp_path: Path) -> None:
    (inside,) = secrets(tmp_path / "root", ".env")
    secrets(tmp_path / "other", ".env")
    (tmp_path / "root/link").symlink_to(tmp_path / "other")
    (tmp_path / "root/self").symlink_to(tmp_path / "root")
    assert find_secrets([tmp_path / "root"]).paths == (inside,)


def test_pipes_and_sockets_count_as_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(".env")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.env")
        assert set(find_secrets([tmp_path]).paths) == {
            tmp_path / ".env",
            tmp_path / "s.env",
        }


def test_files_below_two_roots_count_once(tmp_path: Path) -> None:
    planted = secrets(tmp_path, "a/1.env", "b/2.env")
    found = find_secrets([tmp_path / "a", tmp_path / "b", tmp_path])
    assert set(found.paths) == set(planted)
    assert found.complete


def test_a_search_that_ends_early_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_files, "MAX_ENTRIES", 3)
    secrets(tmp_path, *(f"{number}.env" for number in range(5)))
    assert not find_secrets([tmp_path]).complete


def test_a_tree_deeper_than_any_path_is_searched_and_its_depth_denied_as_a_whole(
    tmp_path: Path,
) -> None:
    (shallow,) = secrets(tmp_path, ".env")
    folder = os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=folder)
        below = os.open("deeper", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open(".env", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    found = find_secrets([tmp_path])
    assert found.complete
    assert shallow in found.paths
    (deep,) = set(found.paths) - {shallow}
    below = len(str(deep)) - len(str(tmp_path)) - 1
    assert secret_files.MAX_PATH < below < secret_files.MAX_PATH + 10
    assert remove_tree(tmp_path / "deeper")


def test_a_name_that_is_not_utf8_is_listed_apart(tmp_path: Path) -> None:
    (ordinary,) = secrets(tmp_path, ".env")
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.env"))
    strange.touch()
    found = find_secrets([tmp_path])
    assert (found.paths, found.undeniable) == ((ordinary,), (strange,))


def test_what_is_committed_as_it_stands_is_told_from_what_is_not(
    world: World,
) -> None:
    repository = world.repository.init()
    for name in ("same.pem", "changed.pem", "hidden.pem"):
        repository.write(name, "committed\n")
    repository.commit()
    repository.write("changed.pem", "uncommitted\n")
    repository.write("hidden.pem", "uncommitted\n")
    repository.write("new.pem")
    repository.git("update-index", "--assume-unchanged", "hidden.pem")
    paths = [*world.workspace.glob("*.pem"), world.base / "outside.pem"]
    repo = Repo.open(world.workspace, env=world.env)
    names = {path.name for path in uncommitted(paths, repo)}
    assert names == {"changed.pem", "hidden.pem", "new.pem", "outside.pem"}


# --- toolchains


def toolchains_on(places: Directories, *entries: str | Path) -> tuple[Path, ...]:
    path = os.pathsep.join(map(str, entries))
    return toolchains(path, places.gate(), places.home / "workspace")


@pytest.mark.parametrize(
    ("entry", "needed"),
    [
        (".pyenv/shims", [".pyenv"]),
        (".cargo/bin", [".cargo"]),
        (".nvm/versions/node/v22/bin", [".nvm/versions/node/v22"]),
        ("go/sbin", ["go/sbin"]),
        ("code/dotfiles/bin", ["code/dotfiles/bin"]),
        ("sdk/bin", ["sdk"]),
        (".dotfiles/bin", [".dotfiles/bin"]),
        (".rbenv/shims", [".rbenv"]),
        (".config/bin", [".config/bin"]),
        (".cache/bin", [".cache/bin"]),
        (".local/share/bin", [".local/share/bin"]),
        (".config/composer/vendor/bin", [".config/composer/vendor"]),
        ("bin", ["bin"]),
        (".local/bin", [".local/bin", ".local/lib", ".local/share/uv/tools"]),
        ("project/node_modules/.bin", ["project/node_modules/.bin"]),
    ],
)
def test_a_directory_on_the_path_brings_what_its_programs_need(
    places: Directories, entry: str, needed: list[str]
) -> None:
    (places.home / entry).mkdir(parents=True)
    (places.home / ".local/lib").mkdir(parents=True)
    (places.home / ".local/share/uv/tools").mkdir(parents=True)
    (places.home / ".local/share/uv/credentials").mkdir()
    (places.home / "sdk/lib").mkdir(parents=True)
    (places.home / "code/dotfiles/.git").mkdir(parents=True)
    (places.home / "code/dotfiles/share").mkdir()
    (places.home / ".dotfiles/.git").mkdir(parents=True)
    (places.home / ".rbenv/.git").mkdir(parents=True)
    (places.home / ".rbenv/libexec").mkdir()
    assert list(toolchains_on(places, places.home / entry)) == [
        places.home / name for name in needed
    ]


def test_the_platforms_own_and_what_is_not_there_need_no_opening(
    places: Directories, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert (
        toolchains_on(
            places,
            "/usr/bin",
            "/bin",
            tmp_path / "missing",
            tmp_path / "file",
            "",
            ".",
            "relative/bin",
        )
        == ()
    )


def test_neither_a_home_nor_credentials_nor_a_wide_directory_are_opened_by_a_path(
    places: Directories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".codex/bin", ".ssh/bin", "odd[1]/bin"):
        (places.home / name).mkdir(parents=True)
    assert (
        toolchains_on(
            places,
            *(
                places.home / name
                for name in (".codex/bin", ".ssh/bin", ".ssh", "odd[1]/bin")
            ),
        )
        == ()
    )
    assert toolchains_module._directories_needed_by(
        Path("/tmp/bin"), places.gate()
    ) == (Path("/tmp/bin"),)
    assert toolchains_module._directories_needed_by(
        Path("/opt/thing/bin"), places.gate()
    ) == (Path("/opt/thing"),)


def installation(prefix: Path) -> Path:
    """Make what has the form of an installed Python, and return its program."""
    (prefix / "lib/python3.12").mkdir(parents=True)
    (prefix / "lib/python3.12/os.py").touch()
    (prefix / "bin").mkdir()
    program = prefix / "bin/python3.12"
    program.touch()
    return program


def environment(path: Path, python: Path) -> Path:
    """Make a virtual environment whose `python` is a link."""
    (path / "bin").mkdir(parents=True)
    (path / "pyvenv.cfg").touch()
    (path / "bin/python").symlink_to(python)
    return path


@pytest.mark.parametrize(
    "prefix",
    [
        "opt/python",
        "home/.pyenv/versions/3.12.1",
        "home/.local/share/uv/python/cpython-3.12.1",
        "home/miniconda3",
    ],
)
def test_the_installation_of_an_environment_is_opened_and_nothing_around_it(
    places: Directories, tmp_path: Path, prefix: str
) -> None:
    program = installation(tmp_path / prefix)
    venv = environment(places.home / "code/.venv", program)
    assert interpreter(venv, places.gate()) == (tmp_path / prefix,)


def test_an_environment_opens_no_other_project(
    places: Directories, tmp_path: Path
) -> None:
    other = places.home / "other"
    program = installation(other)
    (other / "tools").mkdir()
    (other / "tools/run.sh").touch()
    (other / ".venv/bin").mkdir(parents=True)
    (other / ".venv/bin/python").touch()
    (tmp_path / "data/bin").mkdir(parents=True)
    (tmp_path / "data/bin/python3").touch()
    targets = (
        program,
        other / "tools/run.sh",
        other / ".venv/bin/python",
        tmp_path / "data/bin/python3",
        places.home / ".ssh/id_ed25519",
        places.home / "missing",
    )
    for number, target in enumerate(targets):
        venv = environment(tmp_path / f"project/{number}/.venv", target)
        assert interpreter(venv, places.gate()) == ()


@pytest.mark.parametrize("place", ["lib", "lib/python3.12", "lib/python3.12/os.py"])
def test_a_library_that_is_a_link_to_an_impossible_name_is_none(
    places: Directories, tmp_path: Path, place: str
) -> None:
    program = installation(tmp_path / "data/python")
    link = tmp_path / "data/python" / place
    link.rename(tmp_path / "moved")
    link.symlink_to("x" * 300)
    venv = environment(tmp_path / "project/.venv", program)
    assert interpreter(venv, places.gate()) == ()


@pytest.mark.parametrize("sign", [".git", ".ssh", ".profile"])
def test_an_installation_that_is_a_project_or_a_home_too_is_not_opened(
    places: Directories, tmp_path: Path, sign: str
) -> None:
    program = installation(tmp_path / "data/bob")
    (tmp_path / "data/bob" / sign).touch()
    venv = environment(tmp_path / "project/.venv", program)
    assert interpreter(venv, places.gate()) == ()


def test_entries_of_the_path_inside_the_workspace_open_nothing(
    places: Directories,
) -> None:
    workspace, other = places.home / "workspace", places.home / "other"
    (other / "bin").mkdir(parents=True)
    (workspace / "tools/bin").mkdir(parents=True)
    (workspace / "linked").symlink_to(other)
    (places.home / "way").symlink_to(workspace)
    entries = (
        workspace / "tools/bin",
        workspace / "linked/bin",
        places.home / "way/tools/bin",
    )
    assert toolchains_on(places, *entries) == ()


# --- environments


def project(places: Directories, *parts: str) -> ResolvedWorkspace:
    """A repository below the home directory, with a workspace that these parts lead to."""
    top = places.home / "code"
    root = top.joinpath(*parts)
    root.mkdir(parents=True, exist_ok=True)
    return ResolvedWorkspace(root, "cwd", top, (), places.gate())


def test_the_environments_between_the_workspace_and_the_top_are_opened(
    places: Directories, tmp_path: Path
) -> None:
    program = installation(tmp_path / "opt/python")
    workspace = project(places, "services", "api", "src")
    top = places.home / "code"
    outer = environment(top / ".venv", program)
    inner = environment(top / "services/api/venv", program)
    beside = environment(top / "services/web/.venv", program)
    environment(places.home / ".venv", program)
    (top / "services/api/node_modules").mkdir()
    found = environments.of_project(workspace)
    assert found.python == inner
    assert found.readable == (
        inner,
        tmp_path / "opt/python",
        top / "services/api/node_modules",
        outer,
    )
    assert beside not in found.readable


def test_what_a_repository_calls_an_environment_opens_nothing_else(
    places: Directories,
) -> None:
    workspace = project(places)
    private = places.home / "private"
    installation(private)
    links = {
        ".venv": places.home / ".ssh",
        "venv": environment(private / "venv", private / "bin/python3.12"),
        "node_modules": places.home,
    }
    for name, target in links.items():
        (workspace.root / name).symlink_to(target)
    assert environments.of_project(workspace) == Environments()


@pytest.mark.parametrize(
    "place", [".venv", "node_modules", "venv/pyvenv.cfg", "venv/bin/python"]
)
def test_a_link_that_leads_to_an_impossible_name_is_no_environment(
    places: Directories, tmp_path: Path, place: str
) -> None:
    workspace = project(places)
    program = installation(tmp_path / "opt/python")
    environment(workspace.root / "venv", program)
    link = workspace.root / place
    link.unlink(missing_ok=True)
    link.symlink_to("x" * 300)
    found = environments.of_project(workspace)
    assert (found.python is None) == place.startswith("venv")
    assert link not in found.readable


def test_an_environment_whose_interpreter_stays_closed_is_not_offered(
    places: Directories,
) -> None:
    workspace = project(places)
    program = installation(places.home / "other")
    venv = environment(workspace.root / ".venv", program)
    (venv / "pyvenv.cfg").write_text(f"home = {places.home / 'other/bin'}\n")
    found = environments.of_project(workspace)
    assert found == Environments(readable=(venv,))


def test_an_environment_in_a_place_that_is_closed_is_none(
    places: Directories, tmp_path: Path
) -> None:
    program = installation(tmp_path / "opt/python")
    workspace = project(places)
    environment(workspace.root / ".venv", program)
    closed = replace(places.gate(), denied=(workspace.root / ".venv",))
    assert environments.of_project(replace(workspace, gate=closed)) == Environments()


# --- repositories


@pytest.fixture
def repo(world: World) -> World:
    repository = world.repository.init()
    repository.write("pkg/code.py")
    repository.commit()
    return world


def repository_of(world: World, root: Path) -> tuple[Path | None, tuple[Path, ...]]:
    return find_repository(root, Directories.of(world.env, world.state).gate())


def test_outside_a_repository_there_is_none(world: World) -> None:
    assert repository_of(world, world.workspace) == (None, ())


def test_the_top_is_found_from_anywhere_below(repo: World) -> None:
    assert repository_of(repo, repo.workspace) == (repo.workspace, ())
    assert repository_of(repo, repo.workspace / "pkg") == (repo.workspace, ())


def test_a_linked_worktree_brings_the_git_directories_of_its_repository(
    repo: World,
) -> None:
    linked, common = repo.base / "linked", repo.workspace / ".git"
    repo.repository.git("worktree", "add", "-q", str(linked))
    assert repository_of(repo, linked) == (
        linked,
        (common, common / "worktrees/linked"),
    )
    assert repository_of(repo, linked / "pkg") == (
        linked,
        (common, common / "worktrees/linked"),
    )


def test_a_submodule_brings_its_git_directory(repo: World) -> None:
    main = repo.base / "main"
    repo.repository_at(main).init().git(
        "submodule", "add", "-q", str(repo.workspace), "sub"
    )
    assert repository_of(repo, main / "sub") == (
        main / "sub",
        (main / ".git/modules/sub",),
    )


@pytest.mark.parametrize(
    "text",
    [
        "gitdir: {private}",
        "{private}",
        "gitdir: {private}\n\n",
        "",
        "gitdir: ",
        "\x00",
        "gitdir: /",
    ],
)
def test_a_git_file_that_points_elsewhere_opens_nothing(repo: World, text: str) -> None:
    planted = repo.base / "planted"
    planted.mkdir()
    (planted / ".git").write_text(text.format(private=repo.workspace / ".git"))
    assert repository_of(repo, planted) == (planted, ())


def test_the_git_file_of_another_worktree_opens_nothing(repo: World) -> None:
    tree, planted = repo.base / "tree", repo.base / "planted"
    repo.repository.git("worktree", "add", "-q", str(tree))
    planted.mkdir()
    (planted / ".git").write_text((tree / ".git").read_text())
    assert repository_of(repo, planted) == (planted, ())


def test_a_worktree_of_ones_own_making_opens_no_foreign_repository(
    repo: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = repo.base / "planted"
    (planted / "worktrees/false").mkdir(parents=True)
    monkeypatch.chdir(planted)
    for directory in ("worktrees/false", "."):
        (planted / ".git").write_text(f"gitdir: {directory}")
        (planted / directory / "gitdir").write_text(".git")
        (planted / directory / "commondir").write_text(str(repo.workspace / ".git"))
        assert repository_of(repo, planted) == (planted, ())


def test_a_linked_git_directory_opens_nothing(repo: World) -> None:
    planted = repo.base / "planted"
    planted.mkdir()
    (planted / ".git").symlink_to(repo.workspace / ".git")
    assert repository_of(repo, planted) == (None, ())


def test_a_repository_of_somebody_else_above_the_workspace_opens_nothing(
    repo: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: os.geteuid() + 1)
    assert repository_of(repo, repo.workspace / "pkg") == (None, ())
    assert repository_of(repo, repo.workspace) == (repo.workspace, ())


def test_a_repository_that_is_a_home_directory_is_not_opened_from_below(
    world: World,
) -> None:
    world.repository_at(world.home).init()
    (world.home / "code").mkdir()
    assert repository_of(world, world.home / "code") == (None, ())


# --- text


def test_text_is_read_from_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"caf\xe9 and more")
    (tmp_path / "link").symlink_to("text")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "text", 4) == b"caf\xe9"
    assert [
        read_regular(tmp_path / name, 9) for name in ("link", "pipe", "missing", ".")
    ] == [None] * 4


# --- what of the user and of the system stays closed

NAMED = system_files.NAMED
"""As they are; the tests above do without them."""
CLOSED = [
    ".ssh",
    ".aws",
    ".netrc",
    ".databrickscfg",
    ".terraformrc",
    ".config/stripe",
    ".config/fly",
    ".config/sops",
    ".config/helm",
    ".snowsql",
    ".subversion",
    ".config/github-copilot",
    ".kaggle",
    ".local/share/atuin",
    ".local/share/fish",
    ".mysql_history",
    ".config/configstore",
    ".electrum",
    ".config/age",
    ".docker",
    ".config/git/credentials",
]


@pytest.mark.parametrize("name", CLOSED)
def test_credentials_of_well_known_programs_are_denied(
    places: Directories, name: str
) -> None:
    path = places.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(exist_ok=True)
    assert path in places.denied()


@pytest.mark.skipif(not Path("/etc/shadow").exists(), reason="there is none here")
def test_the_passwords_of_the_system_are_denied(
    places: Directories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_files, "NAMED", NAMED)
    assert Path("/etc/shadow") in places.denied()


def test_settings_are_closed_beside_the_credentials_and_can_be_reviewed(
    places: Directories,
) -> None:
    for name in (".zshrc", ".gitconfig"):
        (places.home / name).touch()
    assert set(places.settings()) == {
        places.home / ".zshrc",
        places.home / ".gitconfig",
    }
    assert set(places.settings()).isdisjoint(places.denied())


def test_codex_searches_by_itself_only_where_that_works_and_costs_little(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    found = SecretFiles(scanned=sandbox.MAX_SCANNED)
    assert _scanned([root], found, [tmp_path / "other"]) == (root,)
    many = tuple(root / f"{n}.env" for n in range(sandbox.MAX_SECRETS))
    for unfit in (
        replace(found, scanned=sandbox.MAX_SCANNED + 1),
        replace(found, scannable=False),
        replace(found, complete=False),
        replace(found, paths=many),
    ):
        assert _scanned([root], unfit, []) == ()
    assert _scanned([root], found, [root / "state"]) == ()
    assert _scanned([tmp_path / "{a}"], found, []) == ()
