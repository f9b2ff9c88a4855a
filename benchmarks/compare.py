"""Side by side in one run: this server, its `--compat`, an empty FastMCP server and peers; calls beside `codex exec`.

    uv run python benchmarks/compare.py [--pairs 11] [--starts 9] [--peers]

Ratios matter, seconds depend on the machine. `--peers` installs `codex-in-claude` and
`amicus` from PyPI into `.cache/benchmarks` and runs them as black boxes. Bytecode is
compiled for all; the tokens are scripted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.loopback import Loopback, say

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("codex-in-claude", "amicus")
EMPTY = (
    "from fastmcp import FastMCP\nFastMCP('empty').run('stdio', show_banner=False)\n"
)
COMPAT = (sys.executable, "-m", "codex_counsel", "mcp", "--compat")
QUIET = {
    "FASTMCP_ENV_FILE": os.devnull,
    "FASTMCP_CHECK_FOR_UPDATES": "off",
    "FASTMCP_LOG_LEVEL": "WARNING",
}


@dataclass
class Server:
    """An MCP server over stdio, spoken to in bare JSON-RPC of the handshake era."""

    process: subprocess.Popen[bytes]
    count: int = 0

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        self._send(
            {"jsonrpc": "2.0", "id": self.count, "method": method, "params": params}
        )
        assert self.process.stdout
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("id") == self.count:
                return dict(message)
        raise SystemExit(f"{self.process.args!r} closed its output")

    def initialize(self) -> dict[str, Any]:
        info = {"name": "benchmark", "version": "1"}
        answer = self.ask(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info},
        )
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


@contextmanager
def serving(argv: list[str], env: dict[str, str], cwd: Path) -> Iterator[Server]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, cwd=cwd
    )
    try:
        yield Server(process)
    finally:
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@dataclass
class World:
    """Home, Codex home, workspace and state of the benchmark."""

    base: Path

    def make(self, config: str) -> dict[str, str]:
        for name in ("home/.codex", "workspace", "state"):
            (self.base / name).mkdir(parents=True)
        (self.base / "home/.codex/config.toml").write_text(config, "utf-8")
        (self.base / "workspace/app.py").write_text("answer = 42\n", "utf-8")
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ
        }
        own = {
            "HOME": str(self.base / "home"),
            "CODEX_HOME": str(self.base / "home/.codex"),
        }
        return kept | own | {"CODEX_COUNSEL_STATE_DIR": str(self.base / "state")}


def starts(
    servers: dict[str, list[str]], env: dict[str, str], cwd: Path, rounds: int
) -> None:
    """Spawn to `initialize`, then to `tools/list`, interleaved; bytes of the list; memory."""
    rows: dict[str, list[tuple[float, float, int, float]]] = {
        name: [] for name in servers
    }
    for _ in range(rounds + 1):
        for name, argv in servers.items():
            rows[name].append(_start(argv, env, cwd))
    base = _median(rows["empty FastMCP"], 0)
    print(
        f"\n{'server':<18}{'initialize':>12}{'ratio':>8}{'tools/list':>12}{'list bytes':>12}{'RSS MB':>8}"
    )
    for name, taken in rows.items():
        first, second = _median(taken, 0), _median(taken, 1)
        print(
            f"{name:<18}{first * 1000:>9.0f} ms{first / base:>8.2f}{second * 1000:>9.0f} ms"
            f"{taken[-1][2]:>12}{taken[-1][3]:>8.0f}"
        )


def _start(
    argv: list[str], env: dict[str, str], cwd: Path
) -> tuple[float, float, int, float]:
    begin = time.perf_counter()
    with serving(argv, {**env, **QUIET}, cwd) as server:
        server.initialize()
        initialized = time.perf_counter() - begin
        tools = server.ask("tools/list", {})
        listed = time.perf_counter() - begin
        size = len(
            json.dumps(
                tools["result"]["tools"], separators=(",", ":"), ensure_ascii=False
            ).encode()
        )
        return initialized, listed, size, _rss(server.process.pid)


def _median(rows: list[tuple[float, float, int, float]], column: int) -> float:
    return statistics.median(row[column] for row in rows[1:])


def _rss(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def consults(world: World, env: dict[str, str], pairs: int) -> None:
    """A consult through a warm server, the command line, and `codex exec` with the identical argv, in turn."""
    workspace = world.base / "workspace"
    with (
        serving(
            [sys.executable, "-m", "codex_counsel", "mcp"], env, workspace
        ) as server,
        serving([*COMPAT], env, workspace) as compat,
    ):
        server.initialize()
        compat.initialize()
        _answered(compat.call("codex", prompt="warm up"))
        job = server.call("codex_consult", question="warm up")["result"][
            "structuredContent"
        ]["meta"]["job_id"]
        spec = json.loads(
            (world.base / "state/jobs" / job / "spec.json").read_text("utf-8")
        )
        ways: dict[str, Callable[[], object]] = {
            "codex exec": lambda: _bare(spec, world, env),
            "warm MCP server": lambda: _checked(server.call("codex_consult", question="Is it fine?")),
            "warm --compat": lambda: _answered(compat.call("codex", prompt="Is it fine?")),
            "command line": lambda: subprocess.run(
                [sys.executable, "-m", "codex_counsel", "consult", "Is it fine?"],
                env=env, cwd=workspace, check=True, stdout=subprocess.DEVNULL,
            ),
        }  # fmt: skip
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(pairs):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - begin)
    # Only a worker removes this directory, and the bare runs have none.
    shutil.rmtree(spec["scratch"], ignore_errors=True)
    print(f"\n{'consult':<18}{'median':>10}{'over codex exec (paired median)':>36}")
    for name, seconds in taken.items():
        over = statistics.median(
            a - b for a, b in zip(seconds, taken["codex exec"], strict=True)
        )
        print(
            f"{name:<18}{statistics.median(seconds) * 1000:>7.0f} ms{over * 1000:>33.0f} ms"
        )


def _checked(answer: dict[str, Any]) -> None:
    assert answer["result"]["structuredContent"]["status"] == "completed", answer


def _answered(answer: dict[str, Any]) -> None:
    assert answer["result"]["structuredContent"]["content"] == "It is fine.", answer


def _bare(spec: dict[str, Any], world: World, env: dict[str, str]) -> None:
    prompt = (world.base / "state/jobs" / spec["job_id"] / "prompt").read_bytes()
    Path(spec["scratch"]).mkdir(parents=True, exist_ok=True)
    bare = {**env, "GIT_DIR": "/nonexistent", "TMPDIR": spec["scratch"]}
    subprocess.run(
        spec["argv"],
        input=prompt,
        env=bare,
        cwd=spec["cwd"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def worker_memory(world: World, env: dict[str, str], server: Loopback) -> None:
    """Memory of a worker that waits for its Codex, everything imported."""
    begun = [
        sys.executable,
        "-m",
        "codex_counsel",
        "consult",
        "--background",
        "--json",
        "Wait.",
    ]
    done = subprocess.run(
        begun, env=env, cwd=world.base / "workspace", check=True, capture_output=True
    )
    job = json.loads(done.stdout)["job_id"]
    server.asked(len(server.requests) + 1)
    state = json.loads(
        (world.base / "state/jobs" / job / "state.json").read_text("utf-8")
    )
    print(f"\nworker memory while Codex thinks: {_rss(state['worker'][0]):.0f} MB")
    subprocess.run(
        [sys.executable, "-m", "codex_counsel", "cancel", job],
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def peers() -> dict[str, list[str]]:
    """Peers in environments of their own; one that does not install is named and left out."""
    found = {}
    for name in PEERS:
        home = ROOT / ".cache/benchmarks" / name
        subprocess.run(["uv", "venv", "-q", "--allow-existing", home], check=True)
        install = [
            "uv",
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(home / "bin/python"),
            name,
        ]
        done = subprocess.run(install, check=False, capture_output=True, text=True)
        entry = home / "bin" / f"{name}-mcp"
        if done.returncode == 0 and entry.exists():
            found[name] = [str(entry)]
        else:
            print(
                f"{name} did not install: {done.stderr.strip().splitlines()[-1:] or 'no entry point'}"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--starts", type=int, default=9)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", str(ROOT / "src"), sys.prefix],
        check=False,
    )
    with tempfile.TemporaryDirectory() as made, Loopback([say("It is fine.")]) as model:
        world = World(Path(made).resolve())
        env = world.make(model.config_toml())
        servers = {
            "empty FastMCP": [sys.executable, "-c", EMPTY],
            "codex-counsel": [sys.executable, "-m", "codex_counsel", "mcp"],
            "its --compat": [*COMPAT],
        }
        starts(
            servers | (peers() if options.peers else {}),
            env,
            world.base / "workspace",
            options.starts,
        )
        consults(world, env, options.pairs)
    with tempfile.TemporaryDirectory() as made:
        from codex_counsel.loopback import stall

        with Loopback([stall()]) as model:
            world = World(Path(made).resolve())
            worker_memory(world, world.make(model.config_toml()), model)


if __name__ == "__main__":
    main()
