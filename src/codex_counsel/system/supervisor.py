"""A supervised child: started, read line by line, and ended for a stated reason. Imports little: Codex waits for it.

Invariants: the child leads a session of its own and gets end-of-file after its prompt; it dies with this process
(Linux: parent-death signal); every way out passes `_finish`, after which the child is reaped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import subprocess
import termios
import time

from codex_counsel.system import process_tree as tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

GRACE = 2.0
"""Seconds between SIGINT, on which Codex closes its thread properly, and SIGKILL."""
LINGER = 5.0
"""Seconds a child may live after its last output was expected or its pipes were closed."""
MAX_LINE = 32 * 1024 * 1024
MAX_STDERR = 256 * 1024
CHUNK = 1 << 16
PIPE = 1 << 20
"""The most a pipe can hold (Linux lets a user make it that large)."""


def start(argv: Sequence[str], env: Mapping[str, str], cwd: str, prompt: str) -> subprocess.Popen[bytes]:
    """Start from the main thread: the parent-death signal fires when the starting thread ends."""
    parent = os.getpid()
    with open(prompt, "rb") as stdin:  # pathlib is not imported before Codex runs
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: tree.die_with(parent),  # noqa: PLW1509  # this process has one thread
        )


class Supervisor:
    """Reads a child's lines and enforces the limits.

    `reason` says why it ended: exited, timeout, stalled, or the word given to `stop`. `quiet` is asked for the
    seconds since any other sign of life before idleness counts.
    """

    def __init__(self, child: subprocess.Popen[bytes], total: float, idle: float) -> None:
        self.child = child
        self.reason = "exited"
        self.stderr = bytearray()
        self.survivors: list[int] = []
        self.quiet: Callable[[], float] = lambda: float("inf")
        now = time.monotonic()
        self._deadline, self._idle, self._heard = now + total, idle, now
        self._kill_at = float("inf")
        self._buffer, self._skipping = bytearray(), False
        self._selector = selectors.DefaultSelector()
        assert child.stdout  # noqa: S101  # a pipe
        assert child.stderr  # noqa: S101  # a pipe
        self._open = {child.stdout: self._on_stdout, child.stderr: self._on_stderr}
        self._lines: list[bytes] = []
        self._gone = False
        for stream, handler in self._open.items():
            os.set_blocking(stream.fileno(), False)
            self.watch(stream.fileno(), handler)
        self._pidfd = os.pidfd_open(child.pid) if hasattr(os, "pidfd_open") else -1
        if self._pidfd >= 0:
            self.watch(self._pidfd, self._on_exit)

    @property
    def returncode(self) -> int | None:
        return self.child.returncode

    def watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Have `handler` called whenever the descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, handler)

    def unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def heard(self) -> None:
        """A sign of life: the idle clock starts again."""
        self._heard = time.monotonic()

    def expect_end(self) -> None:
        """The child's work is done: it may linger a little and is then ended, which is no failure."""
        self._kill_at = min(self._kill_at, time.monotonic() + LINGER)

    def stop(self, reason: str) -> None:
        """End the child for a reason; the first one stands."""
        if self.reason == "exited":
            self.reason = reason
            self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
            with contextlib.suppress(ProcessLookupError):
                self.child.send_signal(signal.SIGINT)

    def lines(self) -> Iterator[bytes]:
        """Every complete line of stdout and the unfinished last one, until the child and its tree are gone."""
        try:
            while not self._gone:
                self._step()
                yield from self._taken()
            yield from self._taken(last=True)
        finally:
            self._finish()

    def _step(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.fileobj in self._selector.get_map():  # an earlier handler of this round may have closed it
                key.data()
        if self._pidfd < 0 and self.child.poll() is not None:
            self._on_exit()
        if self._gone:
            return
        now = time.monotonic()
        if now >= self._kill_at:
            self._kill()
        elif now >= self._deadline:
            self.stop("timeout")
        elif now - self._heard >= self._idle and self.quiet() >= self._idle:
            self.stop("stalled")

    def _patience(self) -> float:
        now = time.monotonic()
        idle = max(self._heard + self._idle - now, 1.0)
        look = 1.0 if self._pidfd >= 0 else 0.05
        return max(min(self._kill_at - now, self._deadline - now, idle, look), 0.0)

    def _on_stdout(self) -> None:
        *ended, rest = self._read(self.child.stdout).split(b"\n")
        for part in ended:
            self._grow(part)
            self._lines.append(bytes(self._buffer))
            self._buffer.clear()
            self._skipping = False
        self._grow(rest)

    def _grow(self, part: bytes) -> None:
        if self._skipping or len(self._buffer) + len(part) > MAX_LINE:
            self._buffer.clear()
            self._skipping = True
        else:
            self._buffer += part

    def _on_stderr(self) -> None:
        self.stderr += self._read(self.child.stderr)
        if len(self.stderr) > MAX_STDERR:
            del self.stderr[: len(self.stderr) - MAX_STDERR // 2]

    def _read(self, stream: IO[bytes] | None) -> bytes:
        assert stream  # noqa: S101  # both are pipes
        try:
            chunk = os.read(stream.fileno(), CHUNK)
        except BlockingIOError:
            return b""
        if not chunk:
            self._close(stream)
        return chunk

    def _on_exit(self) -> None:
        """The child is gone. What its pipes hold is read; a descendant that keeps or fills them is not waited for."""
        self._gone = True
        for stream, handler in list(self._open.items()):
            for _ in range(PIPE // CHUNK):
                if stream in self._open and _holds(stream):
                    handler()
            self._close(stream)

    def _close(self, stream: IO[bytes]) -> None:
        """Read no more. A child that closed all its output and lives on has nothing left to say."""
        if self._open.pop(stream, None):
            self._selector.unregister(stream)
        if not self._open:
            self.expect_end()

    def _taken(self, *, last: bool = False) -> list[bytes]:
        taken, self._lines = self._lines, []
        if last and self._buffer:
            taken.append(bytes(self._buffer))
        return taken

    def _kill(self) -> None:
        self._kill_at = float("inf")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def _finish(self) -> None:
        """Reap the child, then end whatever of its tree is left, on every way out."""
        if self.child.poll() is None:
            self._kill()
            self.child.wait()
        self.survivors = tree.sweep(self.child.pid)
        self._selector.close()
        for stream in (self.child.stdout, self.child.stderr):
            if stream:
                stream.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)


def _holds(stream: IO[bytes]) -> bool:
    """Whether there are bytes to read now; end-of-file is none."""
    return any(fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0\0\0\0"))
