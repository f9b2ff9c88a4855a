"""The repositories of a batch: directories, and addresses that are cloned once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from codex_counsel.batch import sources
from codex_counsel.batch.requests import Line
from codex_counsel.batch.sources import Sources, clone_name, is_address
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.directories import Gate
from codex_counsel.prepare.workspace import find_repository
from tests.conftest import World
from tests.git.conftest import PlantedProgram, Project
from tests.repositories import Repository


@dataclass
class Place:
    """A batch in a directory, and the settings of git that its user has."""

    base: Path
    settings: Path

    @property
    def repositories(self) -> Path:
        return self.base / "batch/repositories"

    def sources(self, **env: str) -> Sources:
        environment = {
            **World(self.base / "world").env,
            "HOME": str(self.settings.parent),
        }
        context = Context.of({**environment, **env}, self.base)
        return Sources(
            context, own=self.base, base=self.base, repositories=self.repositories
        )

    def refusal(self, repo: str, **env: str) -> CounselError:
        with pytest.raises(CounselError) as raised:
            self.sources(**env).root(repo)
        return raised.value


@pytest.fixture
def place(tmp_path: Path, own_git_settings: Path) -> Place:
    return Place(tmp_path, own_git_settings)


def test_a_request_without_a_repository_is_about_the_directory_of_the_batch(
    place: Place,
) -> None:
    (item,) = place.sources().items([Line("1", "consult")], "0" * 32)
    assert (item.root, item.source, item.batch) == (place.base, ".", "0" * 32)


def test_a_path_starts_from_the_file_of_requests_and_links_are_resolved(
    place: Place, project: Project
) -> None:
    (place.base / "link").symlink_to(project.root)
    for name in ("repo", "./repo/", "link", str(project.root), "repo/../link"):
        assert place.sources().root(name) == project.root


@pytest.mark.parametrize("name", ["none", "file", "loop", "repo/\udc80", "x" * 5_000])
def test_what_is_no_directory_is_refused_by_name(place: Place, name: str) -> None:
    (place.base / "file").write_text("x", "utf-8")
    (place.base / "loop").symlink_to("loop")
    error = place.refusal(name)
    assert error.code is Code.WORKSPACE_INVALID
    assert error.message.startswith(f"repo: {name[:4]}")
    assert len(error.message) < 400


def test_an_address_is_cloned_with_all_history_and_its_files(
    place: Place, project: Project
) -> None:
    second = project.commit("second")
    url = f"file://{project.root}"
    root = place.sources().root(url)
    assert root == place.repositories / clone_name(url)
    clone = Repository(root)
    assert clone.head == second
    assert clone.git("rev-list", "--count", "HEAD") == "2"
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("remote", "get-url", "origin") == url
    assert (root / "docs/readme.md").read_text("utf-8") == "# Title\n"
    assert place.repositories.stat().st_mode & 0o777 == 0o700


def test_a_clone_is_made_once_for_a_batch(place: Place, project: Project) -> None:
    url = f"file://{project.root}"
    lines = [Line(str(number), "review", {}, url) for number in range(3)]
    roots = {item.root for item in place.sources().items(lines, "0" * 32)}
    project.root.rename(place.base / "moved")
    assert {place.sources().root(url)} == roots


def test_two_addresses_with_one_name_have_two_clones(place: Place) -> None:
    for name in ("a/shop", "b/shop"):
        Repository(place.base / name).begin()
    one, two = (
        place.sources().root(f"file://{place.base}/{name}/shop") for name in "ab"
    )
    assert one != two


def test_nothing_that_comes_with_a_repository_or_that_git_would_run_on_it_is_executed(
    place: Place, project: Project, plant: PlantedProgram
) -> None:
    project.write(".gitattributes", "*.dat filter=big\n")
    project.write("a.dat", "as stored\n")
    project.commit()
    template = place.base / "template/hooks"
    template.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (template / name).write_text(f"#!/bin/sh\n{plant.program}\n", "utf-8")
        (template / name).chmod(0o755)
    with place.settings.open("a", encoding="utf-8") as file:
        file.write(f'[filter "big"]\n smudge = {plant.program}\n required = true\n')
        file.write(f"[init]\n templateDir = {template.parent}\n")
        file.write(f"[core]\n hooksPath = {template}\n fsmonitor = {plant.program}\n")
    root = place.sources().root(f"file://{project.root}")
    assert (root / "a.dat").read_text("utf-8") == "as stored\n"
    assert not plant.ran
    assert list((root / ".git").glob("hooks/*")) == []


def test_submodules_are_not_fetched(place: Place, project: Project) -> None:
    part = Repository(place.base / "part").begin()
    project.git("submodule", "--quiet", "add", str(part.root), "part")
    project.commit()
    with place.settings.open("a", encoding="utf-8") as file:
        file.write("[submodule]\n recurse = true\n")
    root = place.sources().root(f"file://{project.root}")
    assert list((root / "part").iterdir()) == []


def test_an_empty_repository_is_cloned_too(place: Place, empty: Project) -> None:
    root = place.sources().root(f"file://{empty.root}")
    assert (root / ".git").is_dir()


def test_a_repository_with_files_for_the_git_directory_is_refused(
    place: Place, project: Project
) -> None:
    blob = project.git("hash-object", "-w", "--stdin", stdin=b"[core]\n")
    inner = project.raw_tree(("100644", "config", blob))
    for name in (".git", ".GIT", "..", "git~1"):
        tree = project.raw_tree(("40000", name, inner))
        commit = project.git("commit-tree", tree, "-m", "x")
        project.git("update-ref", "refs/heads/main", commit)
        error = place.refusal(f"file://{project.root}")
        assert error.code in (Code.HUB_FAILED, Code.STORAGE_FAILED)
        assert [path for path in place.repositories.iterdir() if path.is_dir()] == []


def test_a_disk_that_is_full_is_a_failure_of_storage_and_leaves_nothing(
    place: Place, project: Project
) -> None:
    project.write("large.bin", b"x" * 3_000_000)
    project.commit()
    program = (
        "import resource, sys\n"
        "from tests.git.test_batch_sources import Place\n"
        "from codex_counsel.errors import CounselError\n"
        "from pathlib import Path\n"
        "place = Place(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        # Git's own limit to a pack is above it; the file does not fit.
        "limits = (1_000_000, resource.RLIM_INFINITY)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, limits)\n"
        "try:\n"
        "    place.sources().root(sys.argv[3])\n"
        "except CounselError as error:\n"
        "    print(error.code)\n"
    )
    url = f"file://{project.root}"
    result = subprocess.run(
        [sys.executable, "-c", program, str(place.base), str(place.settings), url],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "storage_failed"
    assert [path for path in place.repositories.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% ran",
        "fd::7",
        "ftp://h/x",
        "https://",
        "-u:x",
        "ssh://-oProxyCommand=x/y",
    ],
)
def test_what_nothing_is_cloned_from_is_refused_and_not_run(
    place: Place, url: str
) -> None:
    assert place.refusal(url).code in (Code.INVALID_ARGUMENTS, Code.WORKSPACE_INVALID)
    assert not place.repositories.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@h.example/x.git",
        "https://ghp_" + "a1B2c3D4e5" * 4 + "@github.com/o/x",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    place: Place, url: str
) -> None:
    error = place.refusal(url)
    assert error.code is Code.INVALID_ARGUMENTS
    assert "hunter2" not in str(error)
    assert "a1B2c3D4e5" not in str(error)


def test_a_repository_that_cannot_be_had_is_a_failure_of_its_hub_and_leaves_nothing(
    place: Place,
) -> None:
    error = place.refusal(f"file://{place.base}/none")
    assert error.code is Code.HUB_FAILED
    assert f"file://{place.base}/none" in error.message
    assert [path.name for path in place.repositories.iterdir() if path.is_dir()] == []


def test_all_repositories_that_cannot_be_had_are_named_at_once(
    place: Place, project: Project
) -> None:
    names = ["none", "repo", "none", f"file://{place.base}/gone"]
    lines = [
        Line(f"i{number}", "review", {}, name) for number, name in enumerate(names)
    ]
    with pytest.raises(CounselError) as raised:
        list(place.sources().items(lines, "0" * 32))
    first, *named = raised.value.message.splitlines()
    assert first == "2 repositories cannot be used; nothing was started."
    assert [line.partition(":")[0] for line in named] == ["i0", "i3"]


def test_what_is_no_directory_or_in_no_repository_is_named_by_its_line_and_not_cloned(
    place: Place, project: Project
) -> None:
    (place.base / "plain").mkdir()
    lines = [
        Line("a", "review", {}, "none", 1),
        Line("b", "delegate", {}, "plain", 3),
        Line("c", "consult", {}, "plain", 4),
        Line("d", "review", {}, "plain", 5),
        Line("e", "review", {}, "repo/docs", 6),
        Line("f", "review", {}, f"file://{place.base}/gone", 7),
        Line("g", "review", {}, "https://me:secret@h/x.git", 8),
    ]
    context = Context.of(World(place.base / "world").env, place.base)
    looking = Sources(context, own=place.base, base=place.base, repositories=None)
    with pytest.raises(CounselError) as raised:
        looking.check(lines)
    named = raised.value.message.splitlines()[1:]
    assert [line.partition(": repo: ")[0] for line in named] == [
        "line 1",
        "line 3",
        "line 8",
    ]
    assert "in no git repository" in named[1]
    assert raised.value.code is Code.WORKSPACE_INVALID
    assert not place.repositories.exists()


def test_on_a_cluster_questions_and_plans_need_a_repository_too(
    place: Place, project: Project
) -> None:
    (place.base / "plain").mkdir()
    lines = [
        Line("a", "consult", {}, "repo/docs", 1),
        Line("b", "consult", {}, "plain", 2),
        Line("c", "plan", {}, None, 3),
        Line("d", "consult", {}, f"file://{project.root}", 4),
    ]
    context = Context.of(World(place.base / "world").env, place.base)

    def looking(*, on_cluster: bool) -> Sources:
        return Sources(
            context,
            own=place.base,
            base=place.base,
            repositories=None,
            on_cluster=on_cluster,
        )

    looking(on_cluster=False).check(lines)
    with pytest.raises(CounselError) as raised:
        looking(on_cluster=True).check(lines)
    assert raised.value.code is Code.NOT_A_GIT_REPO
    first, *named = raised.value.message.splitlines()
    assert first == "2 repositories cannot be used; nothing was started."
    assert [line.partition(": repo: ")[0] for line in named] == ["line 2", "line 3"]
    assert "Without --cluster" in str(raised.value.repair)


def test_a_directory_that_many_requests_name_is_looked_at_once(
    place: Place, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def find(root: Path, gate: Gate) -> tuple[Path | None, tuple[Path, ...]]:
        looked.append(root)
        return find_repository(root, gate)

    monkeypatch.setattr(sources, "find_repository", find)
    names = ["repo", "repo/docs", str(project.root)]
    lines = [Line(str(number), "review", {}, names[number % 3]) for number in range(9)]
    place.sources().check(lines)
    assert sorted(looked) == [project.root, project.root / "docs"]


def test_a_clone_that_was_killed_half_way_is_made_again(
    place: Place, project: Project
) -> None:
    url = f"file://{project.root}"
    # Git stops in the middle: its upload-pack waits for a reader that does not come.
    stuck = place.base / "stuck"
    os.mkfifo(stuck)
    program = (
        "import sys\n"
        "from tests.git.test_batch_sources import Place\n"
        "from pathlib import Path\n"
        "place = Place(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "place.sources(GIT_SSH=sys.argv[3]).root('ssh://host/x.git')\n"
    )
    ssh = place.base / "ssh"
    ssh.write_text(f"#!/bin/sh\necho started > '{stuck}'\nexec cat\n", "utf-8")
    ssh.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(place.base), str(place.settings), str(ssh)],
        cwd=Path(__file__).parents[2],
    ) as process:
        assert stuck.read_text("utf-8") == "started\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    draft = place.repositories / f".{clone_name('ssh://host/x.git')}.draft"
    assert draft.exists()

    leftover = place.repositories / f".{clone_name(url)}.draft"
    draft.rename(leftover)
    root = place.sources().root(url)
    assert Repository(root).head == project.head
    assert not leftover.exists()


def test_paths_and_addresses_are_told_apart() -> None:
    for name in ("https://h/x", "ssh://h/x", "git@h:x", "h:x/y", "file:///x", "ext::x"):
        assert is_address(name)
    for name in ("x", "./h:x", "/h:x", "a/b:c", "..", "~/x"):
        assert not is_address(name)


def test_the_name_of_a_clone_is_one_part_of_a_path() -> None:
    for url in (
        "https://h/..",
        "https://h/a b/ü.git",
        "git@h:x",
        "https://h/" + "x" * 999,
    ):
        name = clone_name(url)
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name) < 80
