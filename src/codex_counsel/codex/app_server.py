"""The one client of `codex app-server`: JSON-RPC 2.0 messages, one JSON object per line (seen on 0.148 to 0.169).

The server answers what the commands of Codex do not: the account's quota, and the
import of a session.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping

from codex_counsel.codex.binary import Codex
from codex_counsel.codex.command import config_flags
from codex_counsel.system.json_values import Json, JsonObject

RpcMessage = JsonObject
"""A JSON-RPC message."""

REQUEST_ID = 1
"""The id of the request that a caller makes; 0 is the client's own `initialize`."""

INITIALIZE: RpcMessage = {
    "id": 0,
    "method": "initialize",
    "params": {"clientInfo": {"name": "codex-counsel", "version": "0"}},
}
CONFIG = ("analytics.enabled=false", "features.plugins=false")


@contextlib.contextmanager
def connect(
    codex: Codex,
    env: Mapping[str, str],
    config: Iterable[str] = (),
    *,
    seconds: float,
) -> Iterator[AppServer]:
    """Start a server and introduce this client. `config` are further values of `-c`.

    `seconds` is how long its messages are read in all. The server's process group is
    killed on every way out: by itself a server does not end. Raises OSError when the
    binary cannot be started.
    """
    # Nobody reads stderr: a pipe for the server's log would fill, and then block it.
    process = subprocess.Popen(
        [str(codex.path), "app-server", *config_flags([*CONFIG, *config])],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
        bufsize=0,
    )
    with process:
        try:
            server = AppServer(process, time.monotonic() + seconds)
            server.send(INITIALIZE)
            server.send({"method": "initialized"})
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class AppServer:
    """A running server. Its stdin stays open until the end: at end-of-file Codex may end before it has answered."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        assert process.stdin  # noqa: S101  # a pipe
        assert process.stdout  # noqa: S101  # a pipe
        self._stdin = process.stdin
        self._stdout = process.stdout.fileno()
        self._deadline = deadline

    def request(self, method: str, params: Mapping[str, Json] | None = None) -> None:
        """Send the caller's request. Its answer is the message with `REQUEST_ID`, see `messages`."""
        message: RpcMessage = {"id": REQUEST_ID, "method": method}
        if params is not None:
            message["params"] = params
        self.send(message)

    def send(self, message: RpcMessage) -> None:
        """Write one message."""
        # A server that has ended is noticed by its missing messages.
        line = json.dumps(message) + "\n"
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(line.encode())

    def answer(self) -> RpcMessage | None:
        """The answer to the request, with the key `result` or `error`; None when none came in time."""
        for message in self.messages():
            if message.get("id") == REQUEST_ID:
                return message
        return None

    def messages(self) -> Iterator[RpcMessage]:
        """Answers and notifications as they arrive, until the server ends or the time is over."""
        unfinished = b""
        while self._wait_for_output():
            chunk = os.read(self._stdout, 65536)
            if not chunk:
                return
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                message = _parse(line)
                if message is not None:
                    yield message

    def _wait_for_output(self) -> bool:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            return False
        readable, _, _ = select.select([self._stdout], [], [], remaining)
        return bool(readable)


def _parse(line: bytes) -> RpcMessage | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
