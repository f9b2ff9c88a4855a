"""What a supervised child may do, and what becomes of it. Real children, each under a supervisor process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.system.process_tree import Identity
from tests.conftest import living, until

DRIVER = """
import functools, json, os, sys, time
from codex_counsel.system import supervisor as process
from codex_counsel.system import process_tree
child, prompt, limits, control = sys.argv[1:5]
options = json.loads(limits)
process.GRACE = process.LINGER = 0.3
# A slow machine takes its time to end what was killed.
process_tree.sweep = functools.partial(process_tree.sweep, patience=30)
if options.pop("no_pidfd", False):
    del os.pidfd_open
process_tree.become_subreaper()
started = process.start_child([sys.executable, "-I", "-S", "-c", child], os.environ, "/", prompt)
supervisor = process.Supervisor(started, **{"total": 60, "idle": 60, **options})
seen = []
def on_line(line): pass
exec(control)
for line in supervisor.lines():
    seen.append(line[:200].decode("latin-1"))
    on_line(line)
print(json.dumps({
    "reason": supervisor.reason, "returncode": supervisor.returncode, "lines": seen[:50], "count": len(seen),
    "stderr": supervisor.stderr.decode("latin-1"), "survivors": supervisor.survivors,
    "peak_kb": int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) if process_tree._LIBC else 0,
    "left": process_tree.descendants(os.getpid()),
}))
"""
STOP_AT_ONCE = "def on_line(line): supervisor.stop('cancelled')"
STUBBORN = "import signal, time; signal.signal(2, signal.SIG_IGN); signal.signal(15, signal.SIG_IGN);"
FOR_EVER = "\nwhile True: time.sleep(60)"
TIME_IS_OVER = "supervisor._deadline = time.monotonic()"
"""Ends the total limit at a moment that is certain, whatever time the machine took to come so far."""
GRANDCHILD = (
    "import os, subprocess, sys, time; g = subprocess.Popen([sys.executable, '-I', '-S', '-c', {code!r}], "
    "start_new_session=True); print('grandchild', g.pid, flush=True)"
)


@dataclass(frozen=True)
class Report:
    """How a run under the supervisor ended."""

    reason: str
    returncode: int
    lines: list[str]
    count: int
    stderr: str
    survivors: list[int]
    peak_kb: int
    left: list[int]


@dataclass(frozen=True)
class Bench:
    """Starts a supervisor process with a prompt file of its own."""

    directory: Path

    def start(
        self, child: str, control: str = "", prompt: str = "", **limits: Any
    ) -> subprocess.Popen[str]:
        file = self.directory / "prompt"
        file.write_text(prompt, "utf-8")
        argv = [
            sys.executable,
            "-c",
            DRIVER,
            child,
            str(file),
            json.dumps(limits),
            control,
        ]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def run(
        self, child: str, control: str = "", prompt: str = "", **limits: Any
    ) -> Report:
        with self.start(child, control, prompt, **limits) as process:
            stdout, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return Report(**json.loads(stdout))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_lines_come_out_as_they_were_written_and_the_unfinished_last_one_too(
    bench: Bench,
) -> None:
    report = bench.run("import os; os.write(1, b'one\\n\\ntwo \\xff\\xfe\\r\\nno end')")
    assert report.lines == ["one", "", "two \xff\xfe\r", "no end"]
    assert (report.reason, report.returncode, report.left) == ("exited", 0, [])


def test_the_prompt_reaches_the_child_whole_and_then_ends(bench: Bench) -> None:
    report = bench.run(
        "import sys; print(len(sys.stdin.buffer.read()))", prompt="é" * 600_000
    )
    assert report.lines == ["1200000"]


def test_a_child_that_never_reads_a_long_prompt_is_not_waited_for(bench: Bench) -> None:
    report = bench.run("print('done')", prompt="x" * 5_000_000)
    assert (report.lines, report.returncode) == (["done"], 0)


def test_stopping_a_child_that_ignores_signals_kills_it(bench: Bench) -> None:
    report = bench.run(STUBBORN + "print('up', flush=True)" + FOR_EVER, STOP_AT_ONCE)
    assert (report.reason, report.returncode, report.left) == (
        "cancelled",
        -signal.SIGKILL,
        [],
    )


def test_stopping_a_polite_child_lets_it_end_by_itself(bench: Bench) -> None:
    polite = "import time\ntry:\n print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n print('bye')"
    report = bench.run(polite, f"process.GRACE = 60\n{STOP_AT_ONCE}")
    assert (report.lines, report.reason, report.returncode) == (
        ["up", "bye"],
        "cancelled",
        0,
    )


def test_the_first_reason_to_stop_stands(bench: Bench) -> None:
    twice = (
        "def on_line(line): supervisor.stop('cancelled'); supervisor.stop('timeout')"
    )
    assert (
        bench.run(STUBBORN + "print('up', flush=True)" + FOR_EVER, twice).reason
        == "cancelled"
    )


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("budget", "cancelled", "cancelled"),
        ("budget", "budget", "budget"),
        ("cancelled", "budget", "cancelled"),
    ],
)
def test_any_reason_to_stop_outranks_the_budget(
    bench: Bench, first: str, second: str, reason: str
) -> None:
    twice = (
        f"def on_line(line): supervisor.stop('{first}'); supervisor.stop('{second}')"
    )
    child = STUBBORN + "print('up', flush=True)" + FOR_EVER
    assert bench.run(child, twice).reason == reason


def test_a_limit_of_time_outranks_the_budget(bench: Bench) -> None:
    child = STUBBORN + "print('up', flush=True)" + FOR_EVER
    stop = f"def on_line(line): supervisor.stop('budget'); {TIME_IS_OVER}"
    assert bench.run(child, f"process.GRACE = 2\n{stop}").reason == "timeout"


@pytest.mark.parametrize("no_pidfd", [False, True], ids=["pidfd", "polling"])
@pytest.mark.parametrize(
    "habit",
    [
        "import time; time.sleep(600)",
        "import os\nwhile True: os.write(1, b'y' * 65536)",
    ],
)
def test_a_grandchild_in_its_own_session_that_holds_or_fills_stdout_is_ended_and_not_waited_for(
    bench: Bench, habit: str, *, no_pidfd: bool
) -> None:
    report = bench.run(GRANDCHILD.format(code=habit), no_pidfd=no_pidfd)
    assert report.lines[0].startswith("grandchild") or report.lines[0].startswith("y")
    assert (report.reason, report.returncode, report.survivors, report.left) == (
        "exited",
        0,
        [],
        [],
    )


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('y', flush=True)",
        "import os\nwhile True: os.write(1, b'\\n' * 65536)",
    ],
)
def test_endless_output_is_ended_at_the_total_limit(bench: Bench, code: str) -> None:
    report = bench.run(
        code,
        "supervisor.lines = (lambda of: lambda: (b'' for _ in of()))(supervisor.lines)\n"
        f"def on_line(line):\n if len(seen) == 1000: {TIME_IS_OVER}",
    )
    assert (report.reason, report.left) == ("timeout", [])
    assert report.count >= 1000


def test_a_line_of_64_megabytes_costs_neither_the_memory_nor_the_lines_around_it(
    bench: Bench,
) -> None:
    code = "import os\nos.write(1, b'before\\n')\nfor _ in range(1024): os.write(1, b'x' * 65536)\nprint('\\nafter')"
    report = bench.run(code, "def on_line(line): seen.append(str(len(line)))")
    assert report.lines[1::2] == ["6", "1000", "5"]
    assert report.peak_kb < 120_000


def test_a_long_line_within_the_limit_arrives_whole(bench: Bench) -> None:
    report = bench.run(
        "print('x' * 8_000_000)", "def on_line(line): seen.append(str(len(line)))"
    )
    assert report.lines[1] == "8000000"


def test_only_the_end_of_a_flood_on_stderr_is_kept(bench: Bench) -> None:
    report = bench.run(
        "import sys\nfor n in range(100_000): print('noise', n, file=sys.stderr)"
    )
    assert report.stderr.endswith("noise 99999\n")
    assert len(report.stderr) <= 256 * 1024


def test_death_by_a_signal_is_an_exit_with_that_signal(bench: Bench) -> None:
    report = bench.run("import os; print('last', flush=True); os.kill(os.getpid(), 11)")
    assert (report.lines, report.reason, report.returncode) == (
        ["last"],
        "exited",
        -signal.SIGSEGV,
    )


def test_a_mute_child_is_ended_at_the_total_limit(bench: Bench) -> None:
    ready = bench.directory / "ready"
    wait_for_child = f"while not os.path.exists({str(ready)!r}): time.sleep(0.01)"
    report = bench.run(
        f"{STUBBORN} open({str(ready)!r}, 'w').close()" + FOR_EVER,
        f"{wait_for_child}\nsupervisor._deadline = time.monotonic() + 0.3",
    )
    assert (report.reason, report.returncode) == ("timeout", -signal.SIGKILL)


def test_a_child_without_a_sign_of_life_is_ended_at_the_idle_limit(
    bench: Bench,
) -> None:
    assert bench.run("import time" + FOR_EVER, idle=0.2).reason == "stalled"


def test_lines_alone_are_no_sign_of_life(bench: Bench) -> None:
    chatter = "import time\nwhile True: print('noise', flush=True); time.sleep(0.01)"
    assert bench.run(chatter, idle=0.2).reason == "stalled"
    # Its time goes by with the lines: how long the machine takes for one does not count.
    clock = (
        "begin = time.monotonic()\n"
        "class Clock: monotonic = lambda: begin + len(seen) / 20\n"
        "process.time = Clock\n"
        "def on_line(line): supervisor.note_activity()"
    )
    assert bench.run(chatter, clock, idle=0.2, total=1.5).reason == "timeout"


def test_what_a_child_says_while_nobody_listens_counts(bench: Bench) -> None:
    go_on = bench.directory / "go-on"
    child = (
        "import os, time\nos.write(1, b'one\\ntwo\\n'); time.sleep(0.1); os.write(1, b'three\\n')\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    )
    # As after a slow disk, or in a process that was stopped.
    deaf = (
        "def on_line(line):\n"
        " supervisor.note_activity()\n"
        " if line == b'two':\n"
        "  while not process._has_bytes(started.stdout): time.sleep(0.01)\n"
        "  supervisor._idle = 0.2; time.sleep(0.3)\n"
        f" if line == b'three': supervisor._idle = 60; open({str(go_on)!r}, 'w').close()\n"
    )
    report = bench.run(child, f"process.CHUNK = 8\n{deaf}")
    assert (report.reason, report.lines) == ("exited", ["one", "two", "three"])


def test_another_sign_of_life_keeps_a_silent_child(bench: Bench) -> None:
    lively = (
        "left = [0.0] * 2\n"
        "def seconds(): return left.pop() if left else seen.append('quiet') or 60.0\n"
        "supervisor.seconds_since_other_activity = seconds"
    )
    report = bench.run("import time" + FOR_EVER, lively, idle=0.2)
    assert (report.reason, set(report.lines)) == ("stalled", {"quiet"})


def test_a_child_whose_work_is_done_is_ended_without_blame(bench: Bench) -> None:
    report = bench.run(
        STUBBORN + "print('done', flush=True)" + FOR_EVER,
        "def on_line(line): supervisor.expect_end()",
    )
    assert (report.reason, report.returncode, report.left) == (
        "exited",
        -signal.SIGKILL,
        [],
    )


def test_a_child_that_closes_its_output_and_lingers_is_ended_and_can_still_be_stopped(
    bench: Bench,
) -> None:
    deaf = (
        "import os; os.write(1, b'bye\\n'); os.close(1); os.close(2);"
        + STUBBORN
        + FOR_EVER
    )
    assert bench.run(deaf).reason == "exited"
    wake = (
        "r, w = os.pipe(); supervisor.watch(r, lambda: (os.read(r, 1), supervisor.stop('cancelled')))\n"
        "def on_line(line): os.write(w, b'c')"
    )
    assert bench.run(deaf, wake).reason == "cancelled"


def test_descendants_in_sessions_of_their_own_do_not_survive_the_end_of_the_child(
    bench: Bench,
) -> None:
    family = GRANDCHILD.format(
        code=GRANDCHILD.format(code=STUBBORN + FOR_EVER) + "\n" + STUBBORN + FOR_EVER
    )
    report = bench.run(
        family + "\n" + STUBBORN + FOR_EVER,
        "def on_line(line): len(seen) == 2 and supervisor.stop('cancelled')",
    )
    assert report.count == 2
    assert (report.survivors, report.left) == ([], [])
    found = [Identity.of(int(line.split()[1])) for line in report.lines]
    assert not any(identity.alive() for identity in found if identity)


def test_a_consumer_that_fails_leaves_no_child_behind(
    bench: Bench, tmp_path: Path
) -> None:
    code = (
        f"marker = {str(tmp_path / 'mark')!r};"
        + STUBBORN
        + "print('up', flush=True)"
        + FOR_EVER
    )
    with bench.start(code, "def on_line(line): raise SystemExit(7)") as process:
        process.communicate(timeout=60)
    assert process.returncode == 7
    assert living(str(tmp_path / "mark")) == []


def test_the_child_dies_with_a_supervisor_that_is_killed(bench: Bench) -> None:
    code = "import os; print(os.getpid(), flush=True);" + STUBBORN + FOR_EVER
    with bench.start(
        code, "def on_line(line): print(line.decode(), flush=True)"
    ) as process:
        assert process.stdout
        child = Identity.of(int(process.stdout.readline()))
        assert child
        assert child.alive()
        process.kill()
        until(lambda: not child.alive())
