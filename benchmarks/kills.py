"""Kill the server, the worker and Codex, or cancel the run, at named moments and at random ones; check what is left.

    uv run python -m benchmarks.kills [--seed 1] [--rounds 200] [--kinds server worker codex cancel]

Each round is a real run with an idempotency key against the scripted model: a
consultation, or every fifth time a delegated task. After the kill the same key is
called again. A round is wrong where

- an outcome is not terminal, or two reads of it differ;
- a turn that was recorded as completed is not delivered as completed, or one that was not is;
- a process of the run is left;
- a key that had a result, or whose server alone was killed, was paid for twice, or a key blocks;
- the user's files or git directory changed.

Prints what became of the runs of each kind and moment, and every wrong round. The exit
code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import World, living, until, wait
from tests.e2e.runs import cancel_run
from tests.e2e.server.wire import ServerProcess
from tests.git.delegate.states import state

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Consult, Delegate, JobCancel, parse
from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback, Reply, Request, say, shell, slow
from codex_counsel.services.counsel import Counsel

SERVER = """
import os, runpy, signal, sys
from codex_counsel.jobs import launcher

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(function):
    def call(*args, **keys):
        function(*args, **keys)
        die()
    return call

moment = sys.argv[1]
if moment == "note":
    launcher.launch = die
elif moment == "directory":
    launcher.lock_file = die
elif moment == "publish":
    launcher._spawn = die
elif moment == "spawn":
    launcher._spawn = die_after(launcher._spawn)
elif moment == "launch":
    launcher.launch = die_after(launcher.launch)
sys.argv = ["codex-counsel", "mcp"]
runpy.run_module("codex_counsel", run_name="__main__", alter_sys=True)
"""
IN_SERVER = ("note", "directory", "publish", "spawn", "launch")
"""Moments of a launch: the server ends itself there, after the step of that name."""
DURING_RUN = ("up", "codex", "asked", "command", "recorded", "stored")
"""Moments of a run, seen from outside: see `Round.is_at`."""
MOMENTS = {
    "server": (*IN_SERVER, *DURING_RUN),
    "worker": DURING_RUN,
    "codex": ("codex", "asked", "command", "recorded"),
    "cancel": DURING_RUN,
}
RANDOM_SECONDS = 0.7
TASK_EVERY = 5
"""A run of the scripted model takes about half of it."""


class Wrong(Exception):  # noqa: N818  # a finding, not an error
    """What must never be."""


@dataclass
class Round:
    """One run, told from all others by its name, which its request contains."""

    campaign: Campaign
    name: str
    moment: str
    is_task: bool

    @property
    def arguments(self) -> dict[str, str]:
        words = f"Round {self.name}: is it fine?"
        if self.moment == "command" and not self.is_task:
            words = f"{words} Look first."
        field_name = "task" if self.is_task else "question"
        return {field_name: words, "idempotency_key": self.name}

    def ask(self) -> Handle:
        counsel = self.campaign.counsel
        if self.is_task:
            return counsel.delegate(parse(Delegate, self.arguments), background=True)
        return counsel.consult(parse(Consult, self.arguments), background=True)

    def threads(self) -> set[str]:
        """The threads that were paid for."""
        mark = f"Round {self.name}:"
        threads = set()
        for request in reversed(self.campaign.model.requests):
            if mark in request.prompt:
                threads.add(request.thread_id)
            elif threads:  # those of one round follow each other
                break
        return threads

    def is_at(self, job: Job) -> bool:
        """Whether the run has reached the moment, or has ended."""
        reached = (job.path / "result.json").exists()
        match self.moment:
            case "up":
                reached = job.state().worker is not None
            case "codex":
                reached = reached or job.state().codex is not None
            case "asked":
                reached = reached or bool(self.threads())
            case "command":
                reached = reached or job.state().phase == "command"
            case "recorded":
                reached = reached or is_recorded(job)
        return reached


@dataclass
class Campaign:
    """The world of all rounds, and what became of them."""

    world: World
    model: Loopback
    random: random.Random
    counsel: Counsel
    tally: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def run(self, kind: str, rounds: int) -> None:
        """Half of the rounds are aimed, the other half random."""
        for number in range(rounds):
            moment = "random"
            if number % 2:
                moment = self.random.choice(MOMENTS[kind])
            round_ = Round(self, f"{kind}-{number}", moment, number % TASK_EVERY == 0)
            before = state(self.world.workspace)
            try:
                ended = KINDS[kind](self, round_)
            except (Wrong, CounselError, AssertionError) as wrong:
                ended = "WRONG"
                self.wrong.append(f"{round_.name} ({moment}): {wrong!r}")
            if state(self.world.workspace) != before:
                self.wrong.append(f"{round_.name}: the user's files changed")
            self.tally[kind, moment, ended] += 1

    def wait_for(self, round_: Round, job: Job) -> None:
        if round_.moment == "random":
            time.sleep(self.random.uniform(0, RANDOM_SECONDS))
            return
        deadline = time.monotonic() + 30
        while not round_.is_at(job):
            if time.monotonic() > deadline:
                raise Wrong("the moment never came")


# --- one round of each kind; each returns what became of the run


def kill_server(campaign: Campaign, round_: Round) -> str:
    argv = (sys.executable, "-c", SERVER, round_.moment)
    tool = "codex_delegate" if round_.is_task else "codex_consult"
    if campaign.random.random() < 0.3:
        tool = f"{tool}_async"
    with ServerProcess(campaign.world, argv=argv) as server:
        server.initialize()
        known = set(job_ids(campaign))
        server.call(tool, round_.arguments)
        if round_.moment not in IN_SERVER:
            if round_.moment != "random":
                (new,) = until(lambda: set(job_ids(campaign)) - known)
                campaign.wait_for(round_, campaign.counsel.store.job(new))
            else:
                time.sleep(campaign.random.uniform(0, 3 * RANDOM_SECONDS))
            server.process.kill()
        server.process.wait(30)
    again = round_.ask()
    ended = check_answer(wait(again))
    again.release()
    if len(round_.threads()) != 1:
        raise Wrong(f"paid {len(round_.threads())} times")
    for job_id in set(job_ids(campaign)) - known:
        check_gone(campaign.counsel.store.job(job_id))
    return "joined" if again.is_joined else f"{ended} anew"


def kill_worker(campaign: Campaign, round_: Round) -> str:
    handle = round_.ask()
    campaign.wait_for(round_, handle.job)
    number = signal.SIGKILL
    if campaign.random.random() < 0.25:
        number = signal.SIGTERM
    send(handle.job, "worker", number)
    return check_ended(round_, handle)


def kill_codex(campaign: Campaign, round_: Round) -> str:
    handle = round_.ask()
    campaign.wait_for(round_, handle.job)
    send(handle.job, "codex", signal.SIGKILL)
    return check_ended(round_, handle)


def cancel(campaign: Campaign, round_: Round) -> str:
    handle = round_.ask()
    campaign.wait_for(round_, handle.job)
    if campaign.random.random() < 0.5:
        cancel_run(campaign.counsel, parse(JobCancel, {"job_id": handle.job.id}))
    else:
        handle.job.request_cancel()
        send(handle.job, "worker", signal.SIGKILL)
    return check_ended(round_, handle)


KINDS: dict[str, Callable[[Campaign, Round], str]] = {
    "server": kill_server,
    "worker": kill_worker,
    "codex": kill_codex,
    "cancel": cancel,
}


def send(job: Job, name: str, number: int) -> None:
    """Send a signal to the worker or Codex, if it has begun and not ended."""
    process = getattr(job.state(), name)
    if process and process.alive():
        os.kill(process.pid, number)


def job_ids(campaign: Campaign) -> list[str]:
    return [job.id for job in campaign.counsel.store.jobs()]


# --- what must hold


def is_recorded(job: Job) -> bool:
    """Whether the end of the turn is recorded."""
    try:
        events = (job.path / "events.jsonl").read_bytes()
    except OSError:
        return False
    return b'"turn.completed"' in events and events.endswith(b"\n")


def check_ended(round_: Round, handle: Handle) -> str:
    """The run has one outcome that fits its record, nothing of it is left, and its key answers."""
    job = handle.job
    outcome = until(lambda: recovery.outcome(job))
    if recovery.outcome(job) != outcome or job.result() != outcome:
        raise Wrong("two reads differ")
    check_gone(job)
    handle.release()
    status = outcome["status"]
    if (status == "completed") != is_recorded(job):
        raise Wrong(f"{status}, but recorded: {is_recorded(job)}")
    if status == "completed":
        check_answer(outcome)

    again = round_.ask()
    check_answer(wait(again))
    again.release()
    paid = len(round_.threads())
    allowed = 1 if status == "completed" else 2
    if paid > allowed:
        raise Wrong(f"paid {paid} times")
    code = outcome.get("error", {}).get("code", "")
    return f"{status} {code}".strip()


def check_answer(wire: EnvelopeDict) -> str:
    if wire["status"] != "completed" or not str(wire["answer"]).startswith("Done "):
        raise Wrong(f"no answer: {wire['summary']}")
    if wire["tool"] == "codex_delegate" and "+done" not in wire["diff"]:
        raise Wrong("no diff")
    return str(wire["status"])


def check_gone(job: Job) -> None:
    deadline = time.monotonic() + 10
    while left := living(job.id):
        if time.monotonic() > deadline:
            raise Wrong(f"left: {left}")
        select.select([], [], [], 0.02)


# --- the scene


def reply(request: Request) -> Reply:
    """What the model says: it looks or works first where the round asks for that."""
    match = re.search(r"Round (\w+-(\d+)):", request.prompt)
    assert match
    name, number = match.groups()
    if not request.outputs:
        if int(number) % TASK_EVERY == 0:
            return shell(f"echo done > {name}.txt; sleep 0.1")
        if "Look first." in request.prompt:
            return shell("sleep 0.3")
    return slow(say(f"Done {name}."), 0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()

    base = Path(tempfile.mkdtemp(prefix="codex-counsel-kills-"))
    tempfile.tempdir = str(base / "tmp")
    world = World(base)
    world.repository.begin_with_work()
    with Loopback(reply) as model:
        world.configure(model.config_toml())
        campaign = Campaign(world, model, random.Random(options.seed), world.counsel())
        for kind in options.kinds:
            began = time.monotonic()
            campaign.run(kind, options.rounds)
            print(f"{kind}: {options.rounds} rounds, {time.monotonic() - began:.0f} s")
    for (kind, moment, ended), count in sorted(campaign.tally.items()):
        print(f"  {kind:8}{moment:12}{ended:32}{count:5}")
    campaign.counsel.sweep()
    left = [*living(str(base)), *map(str, world.temp.iterdir())]
    for line in (*campaign.wrong, *(f"left: {name}" for name in left)):
        print(line)
    shutil.rmtree(base, ignore_errors=True)
    return bool(campaign.wrong or left)


if __name__ == "__main__":
    sys.exit(main())
