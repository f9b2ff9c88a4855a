"""Each row of the table of exit codes, by a command that has it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from codex_counsel.errors import EXIT_CODES
from codex_counsel.loopback import Loopback, Reply, Request, http_error, say, stall
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

COMMANDS: dict[int, tuple[str, ...]] = {
    0: ("review", "--fail-on", "critical"),
    1: ("review",),
    2: ("review", "--scope", "staged"),
    3: ("consult", "Is the service there?"),
    4: ("consult", "--timeout-seconds", "10", "Wait."),
    5: ("consult", "Say nothing."),
}
"""Of a repository with a change, whose review has a high finding and the verdict `fail`."""


def answer(request: Request) -> Reply:
    if request.schema:
        return say(reply({"severity": "high"}, verdict="fail"))
    if "Wait." in request.prompt:
        return stall()
    if "Say nothing." in request.prompt:
        return say("")
    return http_error(500)


@pytest.mark.parametrize("code", COMMANDS)
def test_a_run_has_the_code_of_the_table_and_so_has_its_result(
    world: World, model: Model, code: int
) -> None:
    world.repository.begin_changed()
    model(answer, stream_max_retries=0, request_max_retries=0)
    result = run(world, *COMMANDS[code])
    assert (result.code, code in EXIT_CODES) == (code, True), result.err
    if code in (1, 4, 5):
        assert run(world, "result").code == code
        (job,) = (world.state / "jobs").iterdir()
        assert run(world, "cancel", job.name).code == code
        assert run(world, "result", "--json", job.name).code == code


def test_output_that_nobody_reads_has_a_code_of_its_own(world: World) -> None:
    argv = [sys.executable, "-m", "codex_counsel", "models"]
    with subprocess.Popen(
        argv, env=world.env, cwd=world.workspace, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(60) == 141


def test_a_defect_of_ours_is_no_finding(world: World) -> None:
    program = "import sys; from codex_counsel import cli; from codex_counsel.cli import verbs\n"
    program += "def boom(_): raise RuntimeError('x')\n"
    program += "verbs.HANDLERS['models'] = boom; sys.exit(cli.run(['models']))"
    argv = [sys.executable, "-c", program]
    result = subprocess.run(
        argv, env=world.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, "RuntimeError: x" in result.stderr) == (5, True)


def test_a_mistake_in_a_ci_job_still_writes_valid_sarif(world: World) -> None:
    world.repository.begin_changed()
    result = run(world, "review", "--format", "sarif", "-C", "/")
    (sarif,) = json.loads(result.out)["runs"]
    assert result.code == 2
    assert sarif["invocations"][0]["executionSuccessful"] is False
