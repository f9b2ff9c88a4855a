"""A child process under supervision: started, read line by line, and ended with a reason.

Standard library without pathlib: the worker waits for this module before it starts
Codex.

Invariants: the child leads a session of its own and reads end-of-file after its prompt.
On Linux it is killed when this process dies. Every way out of `Supervisor.lines` passes
`_finish`, after which the child is reaped.
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

from codex_counsel.system import process_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

GRACE = 2.0
"""Seconds between SIGINT, after which Codex closes its thread properly, and SIGKILL."""
LINGER = 5.0
"""Seconds that the child may live on after its work is done or its pipes are closed."""
MAX_LINE = 32 * 1024 * 1024
"""Bytes; a longer line is cut to its first `CUT_LINE` bytes."""
CUT_LINE = 1000
MAX_STDERR = 256 * 1024
"""Bytes; beyond that the older half of stderr is dropped."""
CHUNK = 1 << 16
PIPE = 1 << 20
"""The most bytes that a pipe can hold (Linux lets a user make it that large)."""
LOOK_INTERVAL = 0.25
"""Seconds between two calls of `reason_to_stop`."""
BUDGET = "budget"
"""The reason of a stop after which the work may go on with another child: any other reason replaces it."""


def start_child(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, prompt: str
) -> subprocess.Popen[bytes]:
    """Start a child with the file `prompt` as its stdin. Raises OSError.

    To be called from the main thread: the parent-death signal is sent when the thread
    that started the child ends.
    """
    parent = os.getpid()
    with open(prompt, "rb") as stdin:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: process_tree.die_with(parent),  # noqa: PLW1509  # this process has one thread
        )


class Supervisor:
    """Reads the lines of a child and enforces its limits, `total` and `idle` (seconds).

    `reason` says why it ended: exited, timeout, stalled, or the word given to `stop`.
    `stderr` is the end of what it wrote there. `survivors` are pids of its descendants
    that could not be killed. `seconds_since_other_activity` can be set to a function
    that is asked before the child counts as idle, `reason_to_stop` to one that is asked
    a few times a second and returns a word for `stop`, or nothing. It must be quick.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], total: float, idle: float
    ) -> None:
        self.child = child
        self.reason = "exited"
        self.stderr = bytearray()
        self.survivors: list[int] = []
        self.seconds_since_other_activity: Callable[[], float] = lambda: float("inf")
        self.reason_to_stop: Callable[[], str] | None = None

        now = time.monotonic()
        self._deadline = now + total
        self._idle = idle
        self._last_activity = now
        self._late_bytes = 0
        self._next_look = now
        self._kill_at = float("inf")
        self._exited = False

        self._lines: list[bytes] = []
        self._unfinished_line = bytearray()
        self._skip_line = False

        assert child.stdout  # noqa: S101  # a pipe
        assert child.stderr  # noqa: S101  # a pipe
        self._selector = selectors.DefaultSelector()
        self._open = {child.stdout: self._on_stdout, child.stderr: self._on_stderr}
        for stream, handler in self._open.items():
            os.set_blocking(stream.fileno(), False)
            self.watch(stream.fileno(), handler)
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):  # Linux; elsewhere the child's end is polled for
            self._pidfd = os.pidfd_open(child.pid)
            self.watch(self._pidfd, self._on_exit)

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative number of the signal that killed the child; None while it runs."""
        return self.child.returncode

    def watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever the descriptor is readable, between two lines."""
        self._selector.register(descriptor, selectors.EVENT_READ, handler)

    def unwatch(self, descriptor: int) -> None:
        """No longer call the handler of the descriptor."""
        self._selector.unregister(descriptor)

    def note_activity(self) -> None:
        """The child has done something: the idle time starts again. A line alone does not count."""
        self._last_activity = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Until the total limit."""
        return self._deadline - time.monotonic()

    def expect_end(self) -> None:
        """The child's work is done: after `LINGER` seconds it is killed, with the reason exited."""
        self._kill_at = min(self._kill_at, time.monotonic() + LINGER)

    def stop(self, reason: str) -> None:
        """Interrupt the child, and kill it after `GRACE` seconds. The first reason stays, unless it is `BUDGET`."""
        if self.reason == BUDGET:
            self.reason = reason
        if self.reason != "exited":
            return
        self.reason = reason
        self._kill_at = min(self._kill_at, time.monotonic() + GRACE)
        with contextlib.suppress(ProcessLookupError):
            self.child.send_signal(signal.SIGINT)

    def lines(self) -> Iterator[bytes]:
        """The lines of stdout without their line feed, until the child has ended; then its descendants are killed.

        The last line comes even if it has no line feed.
        """
        try:
            while not self._exited:
                self._step()
                lines, self._lines = self._lines, []
                yield from lines
            if self._unfinished_line:
                yield bytes(self._unfinished_line)
        finally:
            self._finish()

    def _step(self) -> None:
        """Wait for something to happen, handle it, and enforce the limits."""
        # Every line that was read has been looked at. What this process had no time to
        # read may be a sign of life too, so it is read first.
        is_idle = self._is_idle()
        if not is_idle:
            self._late_bytes = 0
        late_bytes = self._late_bytes
        for key, _ in self._selector.select(0 if is_idle else self._seconds_to_wait()):
            # An earlier handler of this round may have closed the stream.
            if key.fileobj in self._selector.get_map():
                key.data()
        if self._pidfd < 0 and self.child.poll() is not None:
            self._on_exit()
        if not self._exited:
            is_read = self._late_bytes == late_bytes or late_bytes > PIPE
            self._enforce_limits(is_stalled=is_idle and is_read)

    def _enforce_limits(self, *, is_stalled: bool) -> None:
        now = time.monotonic()
        if now >= self._kill_at:
            self._kill()
        elif now >= self._deadline:
            self.stop("timeout")
        elif is_stalled:
            self.stop("stalled")
        elif self.reason_to_stop and now >= self._next_look:
            reason = self.reason_to_stop()
            self._next_look = time.monotonic() + LOOK_INTERVAL
            if reason:
                self.stop(reason)

    def _is_idle(self) -> bool:
        """Whether the child has been silent for too long; false where it was stopped for something else."""
        return (
            self.reason in ("exited", BUDGET)
            and time.monotonic() - self._last_activity >= self._idle
            and self.seconds_since_other_activity() >= self._idle
        )

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        until_idle = max(self._last_activity + self._idle - now, 1.0)
        poll = 1.0
        if self._pidfd < 0:
            poll = 0.05
        elif self.reason_to_stop:
            poll = max(self._next_look - now, 0.01)
        return max(
            min(self._kill_at - now, self._deadline - now, until_idle, poll), 0.0
        )

    def _on_stdout(self) -> None:
        chunk = self._read(self.child.stdout)
        self._late_bytes += len(chunk)
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            self._extend_line(part)
            self._lines.append(bytes(self._unfinished_line))
            self._unfinished_line.clear()
            self._skip_line = False
        self._extend_line(rest)

    def _extend_line(self, part: bytes) -> None:
        if self._skip_line:
            return
        self._unfinished_line += part
        if len(self._unfinished_line) > MAX_LINE:
            self._unfinished_line = self._unfinished_line[:CUT_LINE]
            self._skip_line = True

    def _on_stderr(self) -> None:
        self.stderr += self._read(self.child.stderr)
        if len(self.stderr) > MAX_STDERR:
            del self.stderr[: len(self.stderr) - MAX_STDERR // 2]

    def _read(self, stream: IO[bytes] | None) -> bytes:
        """What there is to read; b"" for nothing, and at end-of-file, where the stream is closed."""
        assert stream  # noqa: S101  # both are pipes
        try:
            chunk = os.read(stream.fileno(), CHUNK)
        except BlockingIOError:
            return b""
        if not chunk:
            self._close(stream)
        return chunk

    def _on_exit(self) -> None:
        """The child has ended: read what its pipes hold. A descendant that keeps or fills them is not waited for."""
        self._exited = True
        for stream, handler in list(self._open.items()):
            for _ in range(PIPE // CHUNK):
                if stream in self._open and _has_bytes(stream):
                    handler()
            self._close(stream)

    def _close(self, stream: IO[bytes]) -> None:
        """Read the stream no more. A child that has closed both streams is expected to end."""
        if self._open.pop(stream, None):
            self._selector.unregister(stream)
        if not self._open:
            self.expect_end()

    def _kill(self) -> None:
        self._kill_at = float("inf")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def _finish(self) -> None:
        """Reap the child, then kill what is left of its descendants."""
        if self.child.poll() is None:
            self._kill()
            self.child.wait()
        self.survivors = process_tree.sweep(self.child.pid)
        self._selector.close()
        for stream in (self.child.stdout, self.child.stderr):
            if stream:
                stream.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)


def _has_bytes(stream: IO[bytes]) -> bool:
    """Whether there are bytes to read now; at end-of-file there are none."""
    count = fcntl.ioctl(stream.fileno(), termios.FIONREAD, b"\0\0\0\0")
    return any(count)
