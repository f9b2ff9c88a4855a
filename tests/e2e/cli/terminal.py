"""A real terminal of a given width, and what a person at it types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tests.conftest import World

ENTER = b"\n"
CTRL_C = b"\x03"
PATIENCE = 60.0


@dataclass
class Terminal:
    """A command that runs in a terminal of its own, as its foreground process group."""

    process: subprocess.Popen[bytes]
    descriptor: int
    output: str = ""

    def type(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def wait_for(self, words: str) -> None:
        """Read until the words were printed."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.output:
            assert time.monotonic() < deadline, self.output
            assert self._read(), self.output

    def finish(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Read what is there within some seconds; false at the end of the output."""
        ready, _, _ = select.select([self.descriptor], [], [], PATIENCE)
        assert ready, self.output
        # The other end is closed: EIO.
        with contextlib.suppress(OSError):
            data = os.read(self.descriptor, 65536)
            self.output += data.decode().replace("\r\n", "\n")
            return bool(data)
        return False

    @property
    def text(self) -> str:
        """What was printed, without colours and without the progress line."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.output)
        return re.sub(r"\r\x1b\[K[^\n\r]*(?=\r\x1b\[K)|\r\x1b\[K", "", plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.descriptor)


@contextlib.contextmanager
def terminal(
    world: World,
    *arguments: str,
    columns: int = 80,
    env: Mapping[str, str] | None = None,
    can_type: bool = True,
) -> Iterator[Terminal]:
    """Run the command line in a terminal; without `can_type` its input is empty, and Ctrl-C still reaches it."""
    argv = [sys.executable, "-m", "codex_counsel", *arguments]
    with program_in_terminal(
        world, argv, columns=columns, env=env, can_type=can_type
    ) as opened:
        yield opened


@contextlib.contextmanager
def program_in_terminal(
    world: World,
    argv: Sequence[str],
    *,
    columns: int = 80,
    env: Mapping[str, str] | None = None,
    can_type: bool = True,
) -> Iterator[Terminal]:
    """Run any program in the workspace, in a terminal of its own, as `terminal`."""
    ours, other_end = pty.openpty()
    size = struct.pack("HHHH", 40, columns, 0, 0)
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, size)
    process = subprocess.Popen(
        argv,
        env={**world.env, "TERM": "xterm-256color", **(env or {})},
        cwd=world.workspace,
        stdin=other_end if can_type else subprocess.DEVNULL,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  # what it calls takes no lock
    )
    os.close(other_end)
    with Terminal(process, ours) as opened:
        yield opened


def _take_terminal() -> None:
    """Make standard output the controlling terminal, so that Ctrl-C is sent as a signal, and obey it."""
    # A background job of a shell, which the tests may be, ignores it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)
