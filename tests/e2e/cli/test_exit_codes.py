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
from tests.e2e.cli.test_verbs import RunResult, run
from tests.e2e.test_token_budget import LAST, Endless
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

COMMANDS: dict[int, tuple[str, ...]] = {
    0: ("review", "--fail-on", "critical"),
    1: ("review",),
    2: ("result", "ffff"),
    3: ("consult", "Is the service there?"),
    4: ("consult", "--timeout-seconds", "10", "Wait."),
    5: ("consult", "Say nothing."),
    7: ("review", "--scope", "staged"),
    8: ("review", "--focus", "Look for ever.", "--max-tokens", "1000"),
}
"""Of a repository with a change, whose review has a high finding and the verdict `fail`."""
ELSEWHERE = {6, 130, 141}
"""The rows that have tests of their own below."""
ENDLESS = Endless(say(reply({"severity": "low"})).but(usage=LAST))


def answer(request: Request) -> Reply:
    if "Look for ever." in request.prompt:
        return ENDLESS(request)
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
    if code in (1, 4, 5, 8):
        assert run(world, "result").code == code
        (job,) = (world.state / "jobs").iterdir()
        assert run(world, "cancel", job.name).code == code
        assert run(world, "result", "--json", job.name).code == code


def test_every_row_of_the_table_has_a_test() -> None:
    assert set(EXIT_CODES) == set(COMMANDS) | ELSEWHERE


def test_a_run_that_has_not_ended_has_a_code_and_a_cancelled_one_another(
    world: World, model: Model
) -> None:
    model(answer)
    assert run(world, "consult", "--background", "Wait.").code == 0
    assert run(world, "result").code == 6
    assert run(world, "cancel").code == 0
    assert run(world, "result").code == 130


def test_output_that_nobody_reads_has_a_code_of_its_own(world: World) -> None:
    argv = [sys.executable, "-m", "codex_counsel", "models"]
    with subprocess.Popen(
        argv, env=world.env, cwd=world.workspace, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(60) == 141


@pytest.mark.parametrize("flags", ["", "--json"])
def test_output_that_there_is_no_room_for_is_a_failure_of_storage(
    world: World, model: Model, flags: str
) -> None:
    model()
    for verb in ("consult Fine?", "result", "jobs"):
        result = in_shell(world, f"{verb} {flags} > /dev/full")
        assert result.code == 3
        assert "storage_failed" in result.err
        assert "standard output: No space left on device" in result.err
        assert "Traceback" not in result.err
    assert list(world.state.glob("jobs/*/delivered")) == []


@pytest.mark.parametrize(
    "words",
    [
        "jobs >/dev/full",
        "gate status >/dev/full",
        "jobs >/dev/full 2>/dev/full",
        "result 2>/dev/full",
        "no-verb 2>/dev/full",
    ],
)
def test_a_full_stream_is_no_finding_and_no_defect(world: World, words: str) -> None:
    result = in_shell(world, words)
    assert (result.code, "Traceback" in result.err) == (3, False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_change_no_code(
    world: World, model: Model, closed: str
) -> None:
    world.repository.begin_changed()
    model(answer)
    assert in_shell(world, f"review {closed}").code == 1
    assert in_shell(world, f"review --fail-on critical {closed}").code == 0
    assert in_shell(world, f"result ffff {closed}").code == 2
    assert in_shell(world, f"nonsense {closed}").code == 2


def in_shell(world: World, words: str) -> RunResult:
    result = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m codex_counsel {words}'],
        env=world.env,
        cwd=world.workspace,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return RunResult(result.returncode, result.stdout, result.stderr)


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
