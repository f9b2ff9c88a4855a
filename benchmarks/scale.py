"""What stored records cost: list, launch, poll and a whole consult, beside many finished and many dead runs.

    uv run python benchmarks/scale.py [--records 10000] [--dead 3000] [--rounds 7]

One real consult against the scripted model is copied as often as asked; a dead run is a
copy without a result. Milliseconds are medians, the largest is in parentheses. Goals at
10,000 records: list <= 1 s, launch + <= 10 ms, poll <= 5 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from codex_counsel.contract.request import Consult, JobList, JobStatus, parse
from codex_counsel.loopback import Loopback, say
from codex_counsel.services.counsel import Counsel, Handle

NOT_COPIED = ("control", "lock", "summary.json")
DAY = 86_400


def main() -> None:
    """Print the figures beside no record, finished ones, and finished and dead ones."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--dead", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    base = Path(tempfile.mkdtemp(prefix="codex-counsel-scale-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(base)
    try:
        with Loopback(lambda _: say("It is fine.")) as model:
            bench = Bench(base, model, arguments.rounds)
            bench.report("0 records")
            bench.add(arguments.records, dead=False)
            bench.report(f"{arguments.records} finished")
            bench.add(arguments.dead, dead=True)
            bench.report(f"and {arguments.dead} dead")
    finally:
        shutil.rmtree(base, ignore_errors=True)


class Bench:
    """A user's directories, and one real job that is the pattern of all others."""

    def __init__(self, base: Path, model: Loopback, rounds: int) -> None:
        self.rounds = rounds
        for name in ("home/.codex", "workspace", "state", "elsewhere"):
            (base / name).mkdir(parents=True)
        (base / "home/.codex/config.toml").write_text(model.config_toml(), "utf-8")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(base / "home"),
            "CODEX_HOME": str(base / "home/.codex"),
            "TMPDIR": str(base),
            "CODEX_COUNSEL_STATE_DIR": str(base / "state"),
            "CODEX_COUNSEL_MAX_RUNNING": "64",
        }
        self.elsewhere = str(base / "elsewhere")
        self.state = base / "state"
        self.counsel = Counsel(env, base / "workspace")
        self.job_id = self.consult()
        self.pattern = base / "pattern"
        ignore = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(self.state / "jobs" / self.job_id, self.pattern, ignore=ignore)

    def add(self, count: int, *, dead: bool) -> None:
        """Copies of the pattern, none of them delivered, some minutes apart."""
        spec = json.loads((self.pattern / "spec.json").read_text("utf-8"))
        now = time.time()
        for number in range(count):
            job_id = secrets.token_hex(16)
            path = self.state / "jobs" / job_id
            created = now - DAY - 60 * number
            shutil.copytree(self.pattern, path)
            changed = {**spec, "job_id": job_id, "created": created}
            (path / "spec.json").write_text(json.dumps(changed), "utf-8")
            (path / "lock").touch(0o600)
            (path / "delivered").unlink(missing_ok=True)
            if dead:
                (path / "result.json").unlink()
            for file in path.iterdir():
                os.utime(file, (created, created))

    def report(self, title: str) -> None:
        """Print one line for each operation. The first of some operations is shown apart: it may do work once."""
        print(f"\n{title}")
        self.show("list, first", self.list_jobs, rounds=1)
        self.show("list", self.list_jobs)
        self.show("list of 200", lambda: self.list_jobs(limit=200))
        self.show("list, other workspace, first", self.list_nothing, rounds=1)
        self.show("list, other workspace", self.list_nothing)
        self.show("poll", self.poll)
        self.forget_eviction()
        self.show("launch, first", self.launch, rounds=1)
        self.show("launch", self.launch)
        self.forget_eviction()
        self.show("whole consult, first", self.consult, rounds=1)
        self.show("whole consult", self.consult)

    def show(
        self, name: str, operation: Callable[[], object], rounds: int | None = None
    ) -> None:
        taken = []
        for _ in range(rounds or self.rounds):
            begin = time.perf_counter()
            result = operation()
            taken.append((time.perf_counter() - begin) * 1000)
            if isinstance(result, Handle):
                self.counsel.interrupt(result)
        median = statistics.median(taken)
        print(f"  {name:<30}{median:>10.1f} ms ({max(taken):.1f})")
        sys.stdout.flush()

    def forget_eviction(self) -> None:
        """Make the next look at all records due at once."""
        (self.state / "evicted").unlink(missing_ok=True)

    def list_jobs(self, **arguments: object) -> None:
        self.counsel.job_list(parse(JobList, arguments))

    def list_nothing(self) -> None:
        self.list_jobs(workspace_root=self.elsewhere)

    def poll(self) -> None:
        self.counsel.job_status(parse(JobStatus, {"job_id": self.job_id}))

    def launch(self) -> Handle:
        """Up to the running worker; `show` ends the run when the time was taken."""
        return self.counsel.consult(parse(Consult, {"question": "Is it fine?"}))

    def consult(self) -> str:
        handle = self.counsel.consult(parse(Consult, {"question": "Is it fine?"}))
        while (wire := handle.collect()) is None:
            handle.wait(1)
        assert wire["ok"], wire
        return handle.job.id


if __name__ == "__main__":
    main()
