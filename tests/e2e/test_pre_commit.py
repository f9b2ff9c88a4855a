"""The hook of pre-commit: the real pre-commit, a real `git push` to a remote of this machine, the real Codex."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from codex_counsel.loopback import Loopback, error, http_error, say
from tests.conftest import World
from tests.e2e.claude.conftest import ROOT
from tests.repositories import Repository, numbered_lines
from tests.reviews import change, reply

Model = Callable[..., Loopback]
HIGH = {"severity": "high"}
PROGRAMS = Path(sys.executable).parent
"""Those of the environment of the tests, among them `pre-commit`."""

pytestmark = [pytest.mark.usefixtures("own_git_settings"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this checkout as it is now, which the configurations name as the repository of the hook."""
    root = tmp_path_factory.mktemp("hooks")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    source = Repository(root / "codex-counsel", git_environment(root))
    source.init()
    for name in map(os.fsdecode, filter(None, files.split(b"\0"))):
        if (ROOT / name).is_file():
            source.write(name, (ROOT / name).read_bytes())
    source.commit("This checkout")
    return source.root


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pre-commit keeps what it installed: once for all tests."""
    return tmp_path_factory.mktemp("pre-commit")


def git_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "T",
        "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "T",
        "GIT_COMMITTER_EMAIL": "t@example.org",
    }


@dataclass
class Team:
    """A project with the hook, and its remote, which has the branch main."""

    world: World
    environments: Path

    @property
    def project(self) -> Repository:
        return self.world.repository

    @property
    def env(self) -> dict[str, str]:
        """What a developer's shell has; pre-commit's own store is shared by the tests."""
        env = {**git_environment(self.world.home), **self.world.env}
        shared = {
            name: value for name, value in os.environ.items() if name[:4] == "PIP_"
        }
        return {
            **env,
            **shared,
            "PATH": f"{PROGRAMS}{os.pathsep}{env['PATH']}",
            "PRE_COMMIT_HOME": str(self.environments),
        }

    def push(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self._run(["git", "push", *arguments], env)

    def run_by_hand(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["pre-commit", "run", "codex-review", "--hook-stage", "manual"]
        return self._run([*command, *arguments], {})

    def _run(
        self, argv: list[str], env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=self.project.root,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def on_remote(self, branch: str) -> str:
        listed = self.project.git("ls-remote", "origin", f"refs/heads/{branch}")
        return listed.partition("\t")[0]


@pytest.fixture
def team(world: World, hooks: Path, environments: Path) -> Team:
    project = world.repository.begin()
    remote = world.base / "remote.git"
    project.git("init", "--quiet", "--bare", str(remote))
    project.git("remote", "add", "origin", str(remote))
    configure(project, hooks)
    project.commit("Add the hook")
    project.git("push", "--quiet", "origin", "main")
    team = Team(world, environments)
    subprocess.run(
        ["pre-commit", "install", "--hook-type", "pre-push"],
        cwd=project.root,
        env=team.env,
        check=True,
        capture_output=True,
    )
    return team


def configure(project: Repository, hooks: Path, *arguments: str) -> None:
    revision = Repository(hooks, project.env).head
    hook = {"id": "codex-review", "args": list(arguments)}
    repos = [{"repo": str(hooks), "rev": revision, "hooks": [hook]}]
    project.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": repos}))


def change_line(project: Repository) -> None:
    project.git("checkout", "--quiet", "-b", "feature")
    project.write("app.py", numbered_lines(l7="seven = 70"))
    project.commit("seven")


def test_a_high_finding_stops_the_push_and_says_how_to_go_on(
    team: Team, model: Model
) -> None:
    server = model([say(reply(HIGH, verdict="fail"))])
    change_line(team.project)
    stopped = team.push("origin", "feature")
    assert stopped.returncode == 1, stopped.stderr
    words = stopped.stdout + stopped.stderr
    assert "The seventh line is wrong" in words
    assert "SKIP=codex-review git push" in words
    assert team.on_remote("feature") == ""

    # What is reviewed is what the remote lacks, and nothing else.
    (request,) = server.requests
    assert "+seven = 70" in change(request.prompt)
    assert ".pre-commit-config.yaml" not in change(request.prompt)

    skipped = team.push("origin", "feature", SKIP="codex-review")
    assert skipped.returncode == 0, skipped.stderr
    assert team.on_remote("feature") == team.project.head
    assert len(server.requests) == 1


def test_the_bar_is_an_argument_of_the_hook(
    team: Team, model: Model, hooks: Path
) -> None:
    model([say(reply(HIGH, verdict="fail"))])
    configure(team.project, hooks, "--fail-on", "critical")
    change_line(team.project)
    passed = team.push("origin", "feature")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "The seventh line is wrong" in passed.stdout + passed.stderr
    assert team.on_remote("feature") == team.project.head


def test_a_push_by_force_has_what_it_adds_reviewed(team: Team, model: Model) -> None:
    server = model([say(reply())])
    change_line(team.project)
    assert team.push("origin", "feature").returncode == 0
    team.project.write("app.py", numbered_lines(l9="nine = 90"))
    team.project.git("commit", "--quiet", "--all", "--amend", "--message", "nine")
    forced = team.push("--force", "origin", "feature")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    sent = change(server.requests[1].prompt)
    assert "+nine = 90" in sent
    assert "seven = 70" not in sent


def test_a_review_that_fails_stops_the_push_and_says_how_to_go_on(
    team: Team, model: Model
) -> None:
    model(http_error(401, error("invalid_api_key")))
    change_line(team.project)
    stopped = team.push("origin", "feature")
    words = stopped.stdout + stopped.stderr
    assert stopped.returncode == 1, words
    assert "auth_required" in words
    assert "SKIP=codex-review git push" in words
    assert team.on_remote("feature") == ""


def test_a_push_without_a_change_costs_nothing(team: Team, model: Model) -> None:
    server = model([say(reply())])
    team.project.git("branch", "same", "main")
    team.project.git("tag", "v1", "main")
    for refs in (["same"], ["v1"], ["--delete", "same"]):
        pushed = team.push("origin", *refs)
        assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    team.project.git("commit", "--quiet", "--allow-empty", "--message", "nothing")
    pushed = team.push("origin", "main")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    assert server.requests == []


def test_the_first_push_of_a_history_is_stopped_before_anything_is_spent(
    team: Team, model: Model
) -> None:
    server = model([say(reply())])
    team.project.git("checkout", "--quiet", "--orphan", "other")
    team.project.commit("Another beginning")
    stopped = team.push("origin", "other")
    words = stopped.stdout + stopped.stderr
    assert stopped.returncode == 1
    assert "the push has the first commit of the history" in words
    assert "SKIP=codex-review git push" in words
    assert server.requests == []


def test_the_hook_is_run_by_hand_between_two_commits(team: Team, model: Model) -> None:
    server = model([say(reply())])
    change_line(team.project)
    named = team.run_by_hand("--from-ref", "origin/main", "--to-ref", "HEAD")
    assert named.returncode == 0, named.stdout + named.stderr
    assert "+seven = 70" in change(server.requests[0].prompt)

    unnamed = team.run_by_hand("--all-files")
    assert unnamed.returncode == 1
    assert "--from-ref origin/main --to-ref HEAD" in unnamed.stdout
    assert len(server.requests) == 1
