"""Every command of the pages, run in a shell exactly as written, in the order in which a reader meets them.

Only what stands for something of the reader's own is replaced: ids of jobs, findings and
a thread, and `uv run`, because the tests have the command on PATH already.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, Reply, Request, say, shell
from tests.conftest import World
from tests.e2e.cli.test_transfer import NEW as SESSION
from tests.e2e.cli.test_transfer import write_session
from tests.records import entry, ledger_of, put

Model = Callable[..., Loopback]
ROOT = Path(__file__).parents[3]
PAGES = [
    "README.md",
    "docs/tutorial.md",
    "docs/how-to.md",
    "docs/how-to/life-of-a-finding.md",
    "docs/how-to/prove-findings.md",
    "docs/how-to/checks-and-attempts.md",
    "docs/how-to/claude-code.md",
    "docs/how-to/mcp-server.md",
    "docs/how-to/uninstall.md",
    "docs/reference/formats.md",
]
THREAD = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECONDS = 180

PASS = {
    "verdict": "pass",
    "confidence": "high",
    "summary": "It holds.",
    "findings": [],
    "questions": [],
    "assumptions": [],
    "next_steps": [],
}
UNITTEST = """\
import unittest


class CacheTest(unittest.TestCase):
    def test_nothing(self) -> None:
        pass
"""
ANY_OBJECT = {
    "type": "object",
    "properties": {"modules": {"type": "string"}},
    "required": ["modules"],
    "additionalProperties": False,
}


def answer(request: Request) -> Reply:
    """A passing review, a task that is done by writing one file, or an answer."""
    if request.schema == ANY_OBJECT:
        return say({"modules": "none"})
    if request.schema:
        return say(json.dumps(PASS))
    if "The task:" in request.prompt and not request.outputs:
        return shell(f"echo done >> done-{request.index}.txt")
    return say("Done.")


def commands_of(page: str) -> list[str]:
    """The lines of fenced blocks without a language that run this project, or commit work."""
    lines = []
    language = None
    for line in (ROOT / page).read_text("utf-8").splitlines():
        if line.startswith("```"):
            language = None if language is not None else line[3:]
        elif language == "":
            lines.append(re.sub(r"^(?:pip install uv && )?uv run ", "", line))
    return [line for line in lines if line.startswith(("codex-counsel ", "git commit"))]


@pytest.fixture
def project(world: World) -> Path:
    """A repository with everything that the pages name: a remote with a pull request, a tag, a branch, a plan, work."""
    repository = world.repository.init()
    for name in (
        "src/client.py",
        "src/auth/login.py",
        "docs/plan.md",
    ):
        repository.write(name)
    repository.write("tests/test_cache.py", UNITTEST)
    repository.commit("first")
    repository.git("tag", "v1.2")
    repository.write("src/client.py", "second\n")
    repository.commit("second")
    repository.git(
        "init", "--quiet", "--bare", "--initial-branch=main", str(world.base / "origin")
    )
    repository.git("remote", "add", "origin", str(world.base / "origin"))
    repository.git("push", "--quiet", "origin", "main")
    repository.git("switch", "--quiet", "--create", "feature")
    repository.write("src/client.py", "third\n")
    repository.commit("third")
    repository.git("push", "--quiet", "origin", "HEAD:refs/pull/7/head")
    repository.write("src/auth/login.py", "in progress\n")
    (world.workspace / "schema.json").write_text(json.dumps(ANY_OBJECT))
    (world.base / "shared-library").mkdir()
    write_session(world, world.workspace, SESSION, "Why is the cache cold?")
    put(ledger_of(world), entry(), entry("another", file="src/client.py"))
    return world.workspace


class Reader:
    """Somebody who types the commands of a page into one shell session, and fills in what a command printed before."""

    def __init__(self, world: World, project: Path) -> None:
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        git = world.repository.env or {}
        self.env = {**git, **world.env, "PATH": programs, "CI_JOB_ID": "7"}
        self.project = project

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", line],
            env=self.env,
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def jobs(self) -> Iterator[dict[str, Any]]:
        """The jobs of the session, newest first."""
        wire = json.loads(self.type("codex-counsel jobs --json").stdout)
        yield from wire["data"]["jobs"]

    def filled_in(self, line: str) -> str:
        if "JOB" in line.replace("CI_JOB_ID", "").split():
            needs_diff = "apply" in line or "--from-job" in line
            wanted = "codex_delegate" if needs_diff else "codex_"
            # A page that names the job of a proof: of a review that found nothing there is none.
            if not any(row["tool"].startswith(wanted) for row in self.jobs()):
                self.type("codex-counsel delegate 'Add a file.'")
            job = next(row for row in self.jobs() if row["tool"].startswith(wanted))
            line = re.sub(r"\bJOB\b", job["job_id"], line)
        if "ID" in line.split():
            wire = json.loads(self.type("codex-counsel findings --json").stdout)
            line = re.sub(r"\bID\b", wire["data"]["findings"][0]["id"], line)
        if THREAD.search(line):
            reviews = (row for row in self.jobs() if "review" in row["tool"])
            line = THREAD.sub(next(reviews)["session_id"], line)
        if line == "codex-counsel uninstall":
            # Nobody can answer its question here.
            return f"{line} --yes"
        return line


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works_as_it_is_written(
    world: World, model: Model, project: Path, page: str
) -> None:
    model(answer)
    reader = Reader(world, project)
    commands = commands_of(page)
    assert commands
    failures = []
    for line in commands:
        result = reader.type(reader.filled_in(line))
        if result.returncode != 0 or "Traceback" in result.stderr:
            failures.append((line, result.returncode, result.stderr[-500:]))
    assert failures == []
