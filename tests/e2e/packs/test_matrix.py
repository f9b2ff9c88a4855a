"""The workflow of the guide that carries packs from job to job: its steps, run on three machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from codex_counsel.loopback import Loopback, Reply, Request, http_error, say
from tests.conftest import World
from tests.fences import fences
from tests.repositories import numbered_lines
from tests.reviews import reply

PAGE = (Path(__file__).parents[3] / "docs/how-to/fleet.md").read_text("utf-8")
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
pytestmark = [
    pytest.mark.usefixtures("own_git_settings"),
    pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed"),
]


def script(job: str, name: str) -> str:
    """The shell of a step of the workflow."""
    (text,) = [block for block in fences(PAGE, "yaml") if "jobs:" in block]
    steps = yaml.safe_load(text)["jobs"][job]["steps"]
    (found,) = [step["run"] for step in steps if step.get("name") == name]
    return str(found)


@dataclass
class Runners:
    """A machine for each job of the workflow. `artifacts` is what they hand to each other."""

    pack: World
    run: World
    judge: World
    artifacts: Path

    @property
    def summary(self) -> Path:
        """The page that GitHub shows of the last job."""
        return self.artifacts / "summary.md"

    def execute(
        self, job: str, name: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the shell of a step on the machine of its job, as a runner does where a step names no shell."""
        world: World = getattr(self, job)
        return subprocess.run(
            ["bash", "-e", "-c", script(job, name)],
            cwd=world.workspace,
            env={**world.env, "PATH": PROGRAMS, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def packs(self, base: str, head: str) -> list[str]:
        """Pack the commits, and return the names of the matrix."""
        output = self.artifacts / "output"
        ended = self.execute(
            "pack",
            "Pack each commit",
            BASE=base,
            HEAD=head,
            PACKS=str(self.artifacts / "packs"),
            GITHUB_OUTPUT=str(output),
        )
        assert ended.returncode == 0, ended.stderr
        name, _, value = output.read_text("utf-8").partition("=")
        assert name == "packs"
        return list(json.loads(value))

    def run_pack(self, pack: str) -> int:
        """One job of the matrix, with its artifact; returns the exit code."""
        shutil.copytree(
            self.artifacts / "packs", self.run.workspace / "packs", dirs_exist_ok=True
        )
        ended = self.execute("run", "Run", PACK=pack)
        results = self.artifacts / "results"
        results.mkdir(exist_ok=True)
        for path in self.run.workspace.glob("*.result"):
            path.rename(results / path.name)
        return ended.returncode

    def verdict(self, runs: str) -> subprocess.CompletedProcess[str]:
        """The last job; `runs` is how the matrix ended."""
        results = str(self.artifacts / "results")
        return self.execute(
            "judge",
            "Judge each commit",
            RESULTS=results,
            RUNS=runs,
            GITHUB_STEP_SUMMARY=str(self.summary),
        )


@pytest.fixture
def runners(world: World) -> Runners:
    base = world.base
    artifacts = base / "artifacts"
    artifacts.mkdir()
    return Runners(
        World(base / "pack"), World(base / "run"), World(base / "judge"), artifacts
    )


@pytest.fixture
def model(runners: Runners) -> Iterator[Callable[..., Loopback]]:
    """Starts the scripted model that the machine of the matrix asks."""
    servers: list[Loopback] = []

    def start(play: Callable[[Request], Reply]) -> Loopback:
        server = Loopback(play).__enter__()
        servers.append(server)
        runners.run.configure(server.config_toml(request_max_retries=0))
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def commits(runners: Runners) -> tuple[str, list[str]]:
    """A pull request of three commits, one of them empty: its base, and all commits. The judge has a clone too."""
    repository = runners.pack.repository.begin()
    base = repository.head
    made = []
    for number in (1, 2):
        repository.write("app.py", numbered_lines(l7=f"seven = {number}"))
        made.append(repository.commit(f"change {number}"))
        made.append(repository.commit("nothing"))
    shutil.rmtree(runners.judge.workspace)
    shutil.copytree(runners.pack.workspace, runners.judge.workspace)
    return base, made[:3]


def test_each_commit_is_reviewed_and_one_bad_commit_fails_the_workflow(
    runners: Runners, model: Callable[..., Loopback]
) -> None:
    base, made = commits(runners)

    def play(request: Request) -> Reply:
        if "\n+seven = 2" in request.prompt:
            bad = {"severity": "high", "evidence": "seven = 2"}
            return say(json.dumps(reply(bad, verdict="fail")))
        return say(json.dumps(reply()))

    server = model(play)
    packs = runners.packs(base, made[2])
    assert packs == sorted(f"{commit}.pack" for commit in (made[0], made[2]))
    assert [runners.run_pack(pack) for pack in packs] == [0, 0]
    assert len(server.requests) == 2
    ended = runners.verdict("success")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    page = runners.summary.read_text("utf-8")
    assert f"# {made[0]}\n## Codex: pass" in page
    assert f"# {made[2]}\n## Codex: fail" in page
    assert "The seventh line is wrong" in page

    # Without the bad commit it passes, unless some job of the matrix has no result.
    (runners.artifacts / "results" / f"{made[2]}.result").unlink()
    assert runners.verdict("success").returncode == 0
    assert runners.verdict("failure").returncode == 1


def test_a_run_that_failed_has_a_result_and_does_not_pass(
    runners: Runners, model: Callable[..., Loopback]
) -> None:
    base, made = commits(runners)
    model(lambda _request: http_error(400, {"error": {"message": "No."}}))
    (pack,) = runners.packs(base, made[0])
    assert runners.run_pack(pack) == 5
    assert runners.verdict("success").returncode == 1


def test_without_results_nothing_passes(runners: Runners) -> None:
    commits(runners)
    (runners.artifacts / "results").mkdir()
    assert runners.verdict("success").returncode == 1


def test_a_pull_request_of_empty_commits_says_that_there_is_nothing_to_review(
    runners: Runners,
) -> None:
    _, made = commits(runners)
    ended = runners.execute(
        "pack",
        "Pack each commit",
        BASE=made[0],
        HEAD=made[1],
        PACKS=str(runners.artifacts / "packs"),
        GITHUB_OUTPUT=str(runners.artifacts / "output"),
    )
    assert (ended.returncode, ended.stdout) == (7, "There is nothing to review.\n")
