"""Birth of a job, and what its launcher holds: the life-line in, the envelope out.

Birth: the directory is built under a hidden name, its lock taken, then renamed into place; the worker inherits the
locked descriptor and the launcher closes its own. So a published job without a lock holder is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store, write_private

BOOT = Path(__file__).with_name("boot.py")
LAST_BREATH = 4.0
"""Seconds between the end of a worker's output and that of the worker."""
KEY_PATIENCE = 10.0
"""How long a call waits while another one starts the run of the same idempotency key."""


@dataclass(frozen=True)
class NewJob:
    """What a job directory is born with."""

    spec: Spec
    prompt: str
    schema: dict[str, Any] | None
    env: Mapping[str, str]


class Handle:
    """A launched or joined run. `descriptor` is the worker's stdout, or -1 for a run that another process launched."""

    def __init__(self, job: Job, child: subprocess.Popen[bytes] | None = None, *, private: bool = False) -> None:
        self.job = job
        self.private = private
        self.detached = child is None
        self._child = child
        self._received = bytearray()
        self._closed = 0.0
        self.descriptor = child.stdout.fileno() if child and child.stdout else -1
        if self.descriptor >= 0:
            os.set_blocking(self.descriptor, False)

    def collect(self) -> EnvelopeDict | None:
        """Read what is there, never blocking: the terminal envelope once the run has ended, else None."""
        if self._closed:
            return self._left()
        if self.descriptor < 0:
            return self.job.outcome()
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.descriptor, 1 << 16):
                self._received += chunk
            return self._finished()
        return None

    def wait(self, seconds: float) -> None:
        """Block until the worker has written something, at most so long. Of another process's run, for a tenth."""
        if self.descriptor < 0:
            time.sleep(min(seconds, 0.1))
        else:
            select.select([self.descriptor], [], [], seconds)

    def _finished(self) -> EnvelopeDict | None:
        """The worker closed its stdout: what it said, else what its directory says."""
        self.release()
        self._closed = time.monotonic()
        try:
            wire = dict(json.loads(bytes(self._received)))
        except ValueError:
            return self._left()
        self._tidy()
        return wire

    def _left(self) -> EnvelopeDict | None:
        """What the directory says of a worker that said nothing; None while that worker is on its way out."""
        outcome = self.job.outcome()
        late = time.monotonic() - self._closed > LAST_BREATH
        if outcome or late:
            self._tidy()
        if late and not outcome:
            raise CounselError(Code.PROCESS_DIED, "The supervisor of this run ended without a result")
        return outcome

    def _tidy(self) -> None:
        """A private directory goes when its run has ended."""
        if self.private:
            shutil.rmtree(self.job.path.parent, ignore_errors=True)

    @property
    def joined(self) -> bool:
        """Whether another call launched this run."""
        return self._child is None

    def detach(self) -> None:
        """From now on only a cancel ends the run. A job in a private directory cannot be detached."""
        if self._child and self._child.stdin and not self.private:
            self.detached = True
            with contextlib.suppress(OSError, ValueError):  # it has ended, and its pipes may be closed
                os.write(self._child.stdin.fileno(), b"d")

    def release(self) -> None:
        """Let go of the pipes: the end of a run that was not detached."""
        child, self.descriptor = self._child, -1
        if child:
            for stream in (child.stdin, child.stdout):
                with contextlib.suppress(OSError):
                    stream.close() if stream else None
            _reap(child)


_UNREAPED: list[subprocess.Popen[bytes]] = []
_REAPING = threading.Lock()


def _reap(*let_go: subprocess.Popen[bytes]) -> None:
    """Workers that were let go are waited for here, so that none stays a zombie of a long-lived server."""
    with _REAPING:
        _UNREAPED[:] = [child for child in (*_UNREAPED, *let_go) if child.poll() is None]


def launch(store: Store, birth: NewJob) -> Handle:
    """Publish the job and start its worker. Without a writable state directory the job lives in a private one."""
    try:
        store.prepare()
        return _publish(store.directory, birth)
    except OSError as error:
        return _launch_private(birth, error)


def _launch_private(birth: NewJob, reason: OSError) -> Handle:
    """The answer still reaches a waiting caller; what cannot be kept is said."""
    if birth.spec.detached or birth.spec.delegate:
        raise CounselError(Code.STORAGE_FAILED, f"A background job and a diff need their directory: {reason}") from None
    warning = f"the state directory cannot be written ({reason.strerror}): this run is kept nowhere and has no job"
    meta = {**birth.spec.meta, "warnings": [*birth.spec.meta.get("warnings", ()), warning]}
    try:
        directory = Path(tempfile.mkdtemp(prefix="codex-counsel-job-"))
    except OSError as error:
        raise CounselError(Code.STORAGE_FAILED, f"No directory for a job can be made: {error}") from None
    try:
        return _publish(directory, replace(birth, spec=replace(birth.spec, meta=meta, private=True)))
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise CounselError(Code.STORAGE_FAILED, f"No job can be started: {error}") from None


def _publish(directory: Path, birth: NewJob) -> Handle:
    hidden = directory / f".birth-{birth.spec.job_id}"
    published = directory / birth.spec.job_id
    hidden.mkdir(mode=0o700)
    lock = -1
    try:
        _fill(hidden, birth)
        lock = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(published)
        return Handle(Job(published), _spawn(published, lock, birth), private=birth.spec.private)
    except BaseException:
        for path in (hidden, published):
            shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def _fill(directory: Path, birth: NewJob) -> None:
    _write(directory / "spec.json", json.dumps(birth.spec.to_json(), ensure_ascii=False))
    _write(directory / "prompt", birth.prompt)
    if birth.schema is not None:
        _write(directory / "schema.json", json.dumps(birth.schema))
    os.mkfifo(directory / "control", 0o600)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)


def _spawn(directory: Path, lock: int, birth: NewJob) -> subprocess.Popen[bytes]:
    _reap()
    argv = [sys.executable, "-I", "-S", str(BOOT), str(directory), str(lock)]
    wanted = subprocess.DEVNULL if birth.spec.detached else subprocess.PIPE
    with open(directory / "stderr.log", "ab", opener=_private) as errors:  # Path.open takes no opener
        return subprocess.Popen(
            argv,
            env=dict(birth.env),
            cwd="/",
            stdin=wanted,
            stdout=wanted,
            stderr=errors,
            pass_fds=(lock,),
            start_new_session=True,
            bufsize=0,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def once(store: Store, tool: str, key: str, arguments: str, begin: Callable[[], Handle]) -> Handle:
    """The run of this idempotency key: the one that exists, or the one `begin` launches now.

    Raises `idempotency_conflict` when the key was used for other arguments, `storage_failed` when it cannot be kept,
    `session_busy` while another call takes long to start this very run.
    A run that failed or was cancelled is not replayed.
    """
    file = store.state / "keys" / digest(tool, key)
    try:
        store.prepare()
        with _exclusive(file.with_name(f"{file.name}.lock")):
            return _known(store, file, arguments) or _claimed(file, arguments, begin)
    except OSError as error:
        raise CounselError(Code.STORAGE_FAILED, f"An idempotency key needs the state directory: {error}") from None


def _claimed(file: Path, arguments: str, begin: Callable[[], Handle]) -> Handle:
    """A run whose key cannot be written down is not begun, or ended: it would be paid for again."""
    write_private(file, json.dumps({"job_id": None, "arguments": arguments}))
    handle = begin()
    try:
        write_private(file, json.dumps({"job_id": handle.job.id, "arguments": arguments}))
    except OSError:
        handle.release()
        raise
    return handle


def _known(store: Store, file: Path, arguments: str) -> Handle | None:
    try:
        entry = json.loads(file.read_text("utf-8"))
        job = store.job(str(entry["job_id"]))
        outcome = job.outcome()
    except (OSError, ValueError, KeyError, TypeError, CounselError):
        return None
    if outcome and outcome["status"] != "completed":
        return None
    if entry.get("arguments") != arguments:
        raise CounselError(
            Code.IDEMPOTENCY_CONFLICT, f"This idempotency key belongs to job {job.id}, asked differently"
        )
    job.ask_stay()
    return Handle(job)


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> None:
    deadline = time.monotonic() + KEY_PATIENCE
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.monotonic() > deadline:
            busy = "Another session is starting the run of this idempotency key"
            raise CounselError(Code.SESSION_BUSY, busy, repair="Call again with the same key: you get that run.")
        time.sleep(0.02)
