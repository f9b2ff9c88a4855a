"""Results that are consumed while their reader or the server dies: none may be lost before its reader had it.

    uv run python -m benchmarks.consume [--rounds 240] [--seed 1]

Each round asks a server to consume a result and ends it around the reply, in one of
three ways: the server is killed some milliseconds later, killed at once when the record
was marked, or its client closes both pipes. Then the result is asked for again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.e2e.runs import fetch

from benchmarks.scale import Bench
from codex_counsel.contract.request import JobConsume, parse
from codex_counsel.errors import CounselError
from codex_counsel.loopback import Loopback, say

WAYS = ("killed later", "killed when marked", "client gone")
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


def main() -> None:
    """Print how many rounds of each way there were, with and without a reply, and how many results were lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)

    base = Path(tempfile.mkdtemp(prefix="codex-counsel-consume-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(base)
    count: Counter[str] = Counter()
    try:
        with Loopback(lambda _: say("The paid answer.")) as model:
            bench = Bench(base, model, 1)
            bench.add(arguments.rounds, dead=False)
            job_ids = [job.id for job in bench.counsel.store.jobs()]
            job_ids.remove(bench.job_id)
            for number, job_id in enumerate(job_ids):
                way = WAYS[number % len(WAYS)]
                replied = consume(bench, job_id, way, chance)
                count[f"{way}, {'a reply' if replied else 'no reply'}"] += 1
                count["lost"] += not is_there(bench, job_id)
    finally:
        shutil.rmtree(base, ignore_errors=True)
        for name, rounds in sorted(count.items()):
            print(f"{name:<32}{rounds:>6}")
    sys.exit(1 if count["lost"] else 0)


def consume(bench: Bench, job_id: str, way: str, chance: random.Random) -> bool:
    """Ask a new server to consume the result, and end it; returns whether the whole reply came."""
    server = subprocess.Popen(
        [sys.executable, "-m", "codex_counsel", "mcp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(bench.counsel.context.env),
        cwd=bench.elsewhere,
        bufsize=0,
    )
    assert server.stdin
    assert server.stdout
    call = {"name": "codex_job_consume_result", "arguments": {"job_id": job_id}}
    for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}},
    ):
        server.stdin.write(json.dumps(message).encode() + b"\n")
    read_answer(server, 2)
    ask = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": call}
    server.stdin.write(json.dumps(ask).encode() + b"\n")

    job = bench.state / "jobs" / job_id
    marks = (bench.state / "consumed" / job_id, job / "delivered")
    if way == "killed when marked":
        deadline = time.monotonic() + 10
        while job.exists() and time.monotonic() < deadline:
            if any(mark.exists() for mark in marks):
                break
    else:
        time.sleep(chance.uniform(0, 0.03))
    if way == "client gone":
        server.stdin.close()
        server.stdout.close()
        server.wait(30)
        return False
    server.kill()
    server.wait()
    replied = b'"id":3' in server.stdout.read()
    server.stdin.close()
    server.stdout.close()
    return replied


def read_answer(server: subprocess.Popen[bytes], number: int) -> None:
    """Read up to the answer to this request."""
    assert server.stdout
    received = b""
    while f'"id":{number}'.encode() not in received or not received.endswith(b"\n"):
        assert select.select([server.stdout], [], [], 60)[0], "the server is silent"
        chunk = server.stdout.read(1 << 16)
        assert chunk, "the server ended"
        received += chunk


def is_there(bench: Bench, job_id: str) -> bool:
    """Whether the result can be consumed again, with its text."""
    request = parse(JobConsume, {"job_id": job_id})
    try:
        answer = fetch(bench.counsel, request)["answer"]
    except CounselError:
        return False
    return str(answer) == "The paid answer."


if __name__ == "__main__":
    main()
