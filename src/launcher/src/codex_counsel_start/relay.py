"""The server as a child process: messages and signals are passed on, and its end is the end of this process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from threading import Event, Thread
from types import FrameType
from typing import IO, NoReturn

END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAST_WORDS_SECONDS = 5.0
"""How long a client may take to read what a server that has ended wrote."""


def relay(
    argv: list[str], env: dict[str, str], handshake: list[bytes], pending: bytes
) -> NoReturn:
    """Run the server to its end, and exit with its code, 128 and more for a signal.

    The server gets the lines of the handshake, which the client has been answered
    already, and then what is pending. It ends when this process does: its stdin closes.
    """
    server: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if server is None:
            os._exit(128 + number)
        server.send_signal(number)

    for number in END_SIGNALS:
        signal.signal(number, pass_on)
    server = subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin  # noqa: S101  # for the type checker
    assert server.stdout  # noqa: S101

    answered = _request_ids(handshake)
    ready = Event()
    if not answered:
        ready.set()
    output = Thread(
        target=_to_client, args=(server.stdout, answered, ready), daemon=True
    )
    output.start()
    head = b"".join(handshake)
    Thread(
        target=_to_server, args=(server.stdin, head, ready, pending), daemon=True
    ).start()

    code = server.wait()
    output.join(LAST_WORDS_SECONDS)
    if code < 0:
        code = 128 - code
    # The other thread reads stdin, which would keep this process from ending.
    os._exit(code)


def _request_ids(lines: list[bytes]) -> set[str | int]:
    messages = [json.loads(line) for line in lines]
    return {message["id"] for message in messages if "id" in message}


def _to_server(stdin: IO[bytes], head: bytes, ready: Event, pending: bytes) -> None:
    """Until the client closes its end. `ready` is set when the server has answered the handshake."""
    with contextlib.suppress(OSError), stdin:
        stdin.write(head)
        stdin.flush()
        ready.wait()
        stdin.write(pending)
        stdin.flush()
        while chunk := os.read(0, 65_536):
            stdin.write(chunk)
            stdin.flush()


def _to_client(stdout: IO[bytes], answered: set[str | int], ready: Event) -> None:
    """Until the server closes its end. Answers to the handshake are dropped."""
    with contextlib.suppress(OSError), stdout:
        for line in stdout:
            if not ready.is_set() and _answers_one_of(line, answered):
                if not answered:
                    ready.set()
                continue
            _write(line)


def _answers_one_of(line: bytes, ids: set[str | int]) -> bool:
    """Whether this is the answer to one of the requests, which then counts as answered."""
    try:
        message = json.loads(line)
    except ValueError:
        return False
    if not isinstance(message, dict) or "method" in message:
        return False
    if message.get("id") not in ids:
        return False
    ids.remove(message["id"])
    return True


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
