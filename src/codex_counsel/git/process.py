"""One git process: started without a shell or a terminal, read as it writes, ended with its whole process group.

Leaving the `with` block ends it, whether it finished, timed out, or its reader had enough. Nothing it starts lives on.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

CHUNK = 1 << 20
MAX_STDERR = 64 * 1024


class GitTimeout(Exception):  # noqa: N818  # an event, turned into a typed error by the repository
    """The process did not finish within its time."""


class GitProcess:
    """Iterate `chunks()` for its output; `stderr` and `code` are whole once that ends."""

    def __init__(
        self, argv: Sequence[str | bytes], env: Mapping[str, str], cwd: Path, timeout: float, given: bytes = b""
    ) -> None:
        self.stderr = bytearray()
        self.code: int | None = None
        self._deadline = time.monotonic() + timeout
        self._given = memoryview(given)
        self._process = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        with selectors.DefaultSelector() as selector:
            for stream, events in self._streams():
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, events)
            while selector.get_map():
                for key, _ in selector.select(self._remaining()):
                    yield from self._serve(selector, key)
        self.code = self._finished()

    def _streams(self) -> Iterator[tuple[IO[bytes], int]]:
        assert self._process.stdout is not None  # noqa: S101  # a pipe
        assert self._process.stderr is not None  # noqa: S101  # a pipe
        yield self._process.stdout, selectors.EVENT_READ
        yield self._process.stderr, selectors.EVENT_READ
        if self._process.stdin is not None:
            yield self._process.stdin, selectors.EVENT_WRITE

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> Iterator[bytes]:
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
            self._given = self._given[os.write(stdin.fileno(), self._given[:CHUNK]) :]
        except BrokenPipeError:
            self._given = memoryview(b"")
        if not self._given:
            selector.unregister(stdin)
            stdin.close()

    def _remaining(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise GitTimeout
        return left

    def _finished(self) -> int:
        try:
            return self._process.wait(self._remaining())
        except subprocess.TimeoutExpired:
            raise GitTimeout from None

    def _end(self) -> None:
        """Kill the group, then reap: as long as the leader is not reaped, its id names no other group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
