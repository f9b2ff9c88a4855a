"""Run by `test_storage` in a mount namespace of its own: `python -m tests.e2e.jobs.storage CASE DIRECTORY`.

The state directory is a file system of half a megabyte that the case fills or makes
read-only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from codex_counsel.contract.request import JobCancel, JobResult, parse
from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.loopback import Gate, Loopback, hold, say
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, living, start_consult, until, wait
from tests.e2e.runs import cancel_run, fetch, leftovers


def mount(*options: str) -> None:
    subprocess.run(["mount", *options], check=True)


def fill(directory: Path, *, inodes: bool = True) -> None:
    """Use all space that is free."""
    (directory / "filler").write_bytes(b"")
    with (directory / "filler").open("r+b", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    for number in range(10_000 if inodes else 0):
        try:
            (directory / f"empty-{number}").touch()
        except OSError:
            return


class Stage:
    """A counsel whose state directory is on the small file system, and a model that waits for `gate`."""

    def __init__(self, base: Path) -> None:
        self.world = World(base)
        self.gate: Gate = hold(say("The answer." + " And more." * 20_000))
        self.world.state.mkdir()
        mount(
            "-t",
            "tmpfs",
            "-o",
            "size=512k,nr_inodes=300,mode=0700",
            "state",
            str(self.world.state),
        )
        # No process that drops old records takes or frees room meanwhile.
        (self.world.state / "evicted").write_text("1e9")
        self.counsel: Counsel = self.world.counsel()

    def ask(self, *, background: bool = False, **arguments: Any) -> Handle:
        return start_consult(self.counsel, background=background, **arguments)

    def warm(self) -> None:
        """A first run, which makes the directories and remembers the probes."""
        self.gate.release.set()
        wait(self.ask())
        # It would free room that a test has filled.
        until(lambda: not living(str(self.world.base)))
        self.gate.release.clear()
        self.gate.reached.clear()

    def refusal(self, **arguments: Any) -> list[str]:
        try:
            handle = self.ask(**arguments)
        except CounselError as error:
            return [error.code, error.message]
        return [wait(handle)["status"]]


def read_only(stage: Stage) -> dict[str, Any]:
    stage.warm()
    mount("-o", "remount,ro", str(stage.world.state))
    stage.gate.release.set()
    handle = stage.ask()
    wire = wait(handle)
    delivered = stage.counsel.deliver(handle, wire)
    return {
        "wire": delivered,
        "background": stage.refusal(background=True),
        "key": stage.refusal(idempotency_key="k"),
    }


def full_before(stage: Stage) -> dict[str, Any]:
    stage.warm()
    fill(stage.world.state)
    stage.gate.release.set()
    return {
        "wire": wait(stage.ask()),
        "background": stage.refusal(background=True),
        "key": stage.refusal(idempotency_key="k"),
    }


def full_meanwhile(stage: Stage) -> dict[str, Any]:
    handle = stage.ask()
    assert stage.gate.reached.wait(60)
    fill(stage.world.state)
    stage.gate.release.set()
    wire = wait(handle)
    return {
        "wire": wire,
        "later": (recovery.outcome(handle.job) or {})["error"]["code"],
    }


def full_short(stage: Stage) -> dict[str, Any]:
    short = hold(say("Short."))
    with Loopback(short) as server:
        stage.world.configure(server.config_toml())
        handle = stage.ask()
        assert short.reached.wait(60)
        until(lambda: handle.job.state().thread_id)  # so there are events on the disk
        fill(stage.world.state, inodes=False)
        short.release.set()
        wire = wait(handle)
    return {"wire": wire, "later": (recovery.outcome(handle.job) or {})["status"]}


def full_background(stage: Stage) -> dict[str, Any]:
    stage.warm()
    handle = stage.ask(background=True)
    assert stage.gate.reached.wait(60)
    thread = until(lambda: handle.job.state().thread_id)
    fill(stage.world.state)
    stage.gate.release.set()
    wire = until(lambda: recovery.outcome(handle.job))
    (row,) = (
        row for row in stage.counsel.store.rows() if row["job_id"] == handle.job.id
    )
    return {"wire": wire, "thread": thread, "row": row["status"]}


def full_cancel(stage: Stage) -> dict[str, Any]:
    handle = stage.ask(background=True)
    assert stage.gate.reached.wait(60)
    until(lambda: handle.job.state().thread_id)
    fill(stage.world.state)
    wire = cancel_run(stage.counsel, parse(JobCancel, {"job_id": handle.job.id}))
    later = fetch(stage.counsel, parse(JobResult, {"job_id": handle.job.id}))
    return {"wire": wire, "later": later["status"]}


CASES: dict[str, Callable[[Stage], dict[str, Any]]] = {
    case.__name__: case
    for case in (
        read_only,
        full_before,
        full_meanwhile,
        full_short,
        full_background,
        full_cancel,
    )
}


def main(name: str, base: str) -> None:
    stage = Stage(Path(base))
    with Loopback(stage.gate) as server:
        stage.world.configure(server.config_toml())
        report = CASES[name](stage)
        until(lambda: not living(str(stage.world.base)))
        print(json.dumps({**report, "leftovers": leftovers(stage.world)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
