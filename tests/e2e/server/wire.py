"""The server as a client's child process, and the bytes between them."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.conftest import World

ARGV = (sys.executable, "-m", "codex_counsel", "mcp")
CLIENT = {"name": "a-test", "version": "0"}


class ServerProcess:
    """A server process and a client of the handshake protocol; `messages` is everything that was received."""

    def __init__(
        self,
        world: World,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        argv: Sequence[str] = ARGV,
    ) -> None:
        self.errors = world.base / f"stderr-{time.monotonic_ns()}"
        self.messages: list[dict[str, Any]] = []
        self._buffer = b""
        self._next = 0
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                argv,
                env={**world.env, **(env or {})},
                cwd=cwd or world.workspace,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()

    @property
    def stderr(self) -> str:
        return self.errors.read_text("utf-8")

    def initialize(self, client: Mapping[str, Any] | None = None) -> dict[str, Any]:
        info = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {**CLIENT, **(client or {})},
        }
        answer = self.answer(self.ask("initialize", info))
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return answer

    def ask(self, method: str, params: Mapping[str, Any] | None = None) -> int:
        self._next += 1
        self.send(
            {
                "jsonrpc": "2.0",
                "id": self._next,
                "method": method,
                "params": params or {},
            }
        )
        return self._next

    def call(
        self, tool: str, arguments: Mapping[str, Any] | None = None, **meta: Any
    ) -> int:
        """Begin a tool call and return its id."""
        call = {
            "name": tool,
            "arguments": arguments or {},
            **({"_meta": meta} if meta else {}),
        }
        return self.ask("tools/call", call)

    def cancel(self, call: int) -> None:
        self.send(
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": call},
            }
        )

    def progress(self, seconds: float = 60) -> dict[str, Any]:
        """Wait for the first notification of progress and return its parameters."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self.messages:
                if message.get("method") == "notifications/progress":
                    return dict(message["params"])
            assert self._read(deadline - time.monotonic()), (
                f"no progress: {self.stderr}"
            )

    def result(self, call: int) -> dict[str, Any]:
        """The envelope that a tool call ended with."""
        envelope: dict[str, Any] = self.answer(call)["result"]["structuredContent"]
        return envelope

    def tool(
        self, name: str, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return self.result(self.call(name, arguments))

    def send(self, message: Mapping[str, Any]) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        assert self.process.stdin
        left = memoryview(data)
        while left:
            left = left[self.process.stdin.write(left) or 0 :]

    def answer(self, number: int, seconds: float = 60) -> dict[str, Any]:
        """Wait for the answer to a request and return it."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self.messages:
                if message.get("id") == number and "method" not in message:
                    return message
            assert self._read(deadline - time.monotonic()), (
                f"no answer to {number}: {self.stderr}"
            )

    def first_answer(self, *numbers: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until one of these requests is answered, and return that answer."""
        deadline = time.monotonic() + seconds
        while True:
            for message in self.messages:
                if message.get("id") in numbers and "method" not in message:
                    return message
            assert self._read(deadline - time.monotonic()), (
                f"no answer to {numbers}: {self.stderr}"
            )

    def close(self) -> None:
        """End of input."""
        assert self.process.stdin
        self.process.stdin.close()

    def wait_for_exit(self, seconds: float = 30) -> int:
        """Read everything up to the end of output, and return the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 1))

    def _read(self, seconds: float) -> bool:
        """Read what has arrived; every line must be a message. Return False at the end of output or of the time."""
        assert self.process.stdout
        if not select.select([self.process.stdout], [], [], max(seconds, 0))[0]:
            return False
        chunk = self.process.stdout.read(1 << 16)
        *lines, self._buffer = (self._buffer + (chunk or b"")).split(b"\n")
        for line in lines:
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            self.messages.append(message)
        assert chunk or not self._buffer, f"an unfinished line: {self._buffer[:200]!r}"
        return bool(chunk)
