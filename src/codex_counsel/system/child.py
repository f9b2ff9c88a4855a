"""A child process for one answer: started without a shell or a terminal, read as it writes, ended with its group.

Leaving the `with` block before it has ended, because its time is over or its reader
stopped early, kills it with all processes of its group.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

CHUNK = 1 << 20
MAX_STDERR = 64 * 1024


class ChildTimeout(Exception):  # noqa: N818  # an event, turned into a typed error by who runs the program
    """The process did not finish within its time."""


class Child:
    """Iterate `chunks()` for its output; `stderr` and `code` are complete once that ends. `timeout` is in seconds.

    `chunks()` raises ChildTimeout when the time is over. With `lifeline` its standard input
    is a pipe with nothing in it that ends when this process does, however that ends.
    """

    def __init__(
        self,
        argv: Sequence[str | bytes],
        env: Mapping[str, str],
        cwd: Path,
        timeout: float,
        stdin: bytes = b"",
        *,
        lifeline: bool = False,
    ) -> None:
        self._lifeline = lifeline
        self.stderr = bytearray()
        self.code: int | None = None
        self._deadline = time.monotonic() + timeout
        self._unwritten = memoryview(stdin)
        self._process = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if stdin or lifeline else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A group of its own: killing it reaches everything that the program started.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def chunks(self) -> Generator[bytes]:
        """The output as it comes. Also feeds stdin and collects stderr: a full pipe would stop the process."""
        stdin = self._process.stdin
        stdout = self._process.stdout
        stderr = self._process.stderr
        assert stdout is not None  # noqa: S101  # a pipe
        assert stderr is not None  # noqa: S101  # a pipe
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            if stdin is not None and not self._lifeline:
                selector.register(stdin, selectors.EVENT_WRITE)
            # A ready pipe may still hold less than asked for: never block on it.
            for key in list(selector.get_map().values()):
                os.set_blocking(key.fd, False)
            while selector.get_map():
                for key, _ in selector.select(self._remaining()):
                    yield from self._serve(selector, key)
        try:
            self.code = self._process.wait(self._remaining())
        except subprocess.TimeoutExpired:
            raise ChildTimeout from None

    def _serve(
        self, selector: selectors.BaseSelector, key: selectors.SelectorKey
    ) -> Iterator[bytes]:
        if key.fileobj is self._process.stdin:
            self._feed(selector)
            return
        data = os.read(key.fd, CHUNK)
        if not data:
            selector.unregister(key.fileobj)
        elif key.fileobj is self._process.stdout:
            yield data
        elif len(self.stderr) < MAX_STDERR:
            self.stderr += data

    def _feed(self, selector: selectors.BaseSelector) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101  # it was ready for writing
        try:
            written = os.write(stdin.fileno(), self._unwritten[:CHUNK])
            self._unwritten = self._unwritten[written:]
        except BrokenPipeError:
            # It may end without reading all; its exit code tells more than this error.
            self._unwritten = memoryview(b"")
        if not self._unwritten:
            selector.unregister(stdin)
            stdin.close()

    def _remaining(self) -> float:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise ChildTimeout
        return seconds

    def _end(self) -> None:
        # Kill the group first, reap after: as long as the leader is not reaped, its id
        # cannot name another group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
