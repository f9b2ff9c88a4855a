"""From a spec to a running worker.

Invariants: the directory is built under a hidden name, its lock taken, then renamed
into place. The worker inherits the locked descriptor, and the launcher closes its own.
So from the first moment that a reader can see a job, its lock is held until its run has
ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.sandbox import toml
from codex_counsel.errors import USED_UP, Code, CounselError, error_of
from codex_counsel.jobs.children import CHILDREN, dump
from codex_counsel.jobs.handle import Handle, reap_workers
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.journal import LAST_PROMPT
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.kind import IMAGES
from codex_counsel.system.files import (
    lock_file,
    open_private,
    remove_tree,
    write_atomically,
)
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from codex_counsel.prepare.attachments import Image

SCHEMA = "schema.json"
"""The file of the job directory that Codex's reply must match."""
INSTRUCTIONS = "instructions.md"
"""The file of the job directory with base instructions that replace Codex's own."""
BOOT = Path(__file__).with_name("boot.py")


@dataclass(frozen=True)
class NewJob:
    """What a job directory is made of. `schema` is what Codex's reply must match; `env` is the worker's and Codex's.

    `instructions` replace Codex's base instructions.

    `images` are copies of what the caller named: Codex reads the very bytes that were
    checked, however long the job waits for a slot. `last_prompt` is for a run with a
    budget of tokens.

    `children` are jobs that its worker may start.

    `needs_directory` is true for a job whose result is files: it cannot run from a
    private temporary directory.
    """

    spec: Spec
    prompt: str
    schema: JsonObject | None
    env: Mapping[str, str]
    instructions: str | None = None
    images: tuple[Image, ...] = ()
    last_prompt: str | None = None
    needs_directory: bool = False
    children: tuple[NewJob, ...] = ()


def launch(store: Store, new: NewJob) -> Handle:
    """Publish the job and start its worker. Without a writable state directory it lives in a private one.

    Raises `storage_failed`, also where the state directory is one that others may write,
    and `resource_limit`.
    """
    try:
        store.prepare()
        return _publish(store.directory, new)
    except OSError as error:
        if error.errno in USED_UP:
            raise error_of(
                Code.STORAGE_FAILED, "No job can be started", error
            ) from None
        return _launch_private(store, new, error)


def _launch_private(store: Store, new: NewJob, reason: OSError) -> Handle:
    """Launch in a private directory, for a caller who waits for the answer. A warning says that it is not stored."""
    if new.spec.detached or new.needs_directory or new.spec.stays:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"A background run, a delegated task and an idempotency key need the state directory: {reason}",
        ) from None
    try:
        directory = Path(tempfile.mkdtemp(prefix="codex-counsel-job-"))
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, "No directory for a job can be made", error
        ) from None

    warning = f"the state directory cannot be written ({reason.strerror}): this run is not stored and has no job"
    meta = dict(new.spec.meta)
    meta["warnings"] = [*meta.get("warnings", ()), warning]
    planned, made = store.directory / new.spec.job_id, directory / new.spec.job_id
    argv = _moved(new.spec.argv, planned, made)
    last_turn = None
    if new.spec.last_turn:
        last_turn = _moved(new.spec.last_turn, planned, made)
    spec = replace(new.spec, argv=argv, last_turn=last_turn, meta=meta, private=True)
    try:
        return _publish(directory, replace(new, spec=spec))
    except OSError as error:
        remove_tree(directory)
        raise error_of(Code.STORAGE_FAILED, "No job can be started", error) from None


def _moved(argv: Iterable[str], planned: Path, made: Path) -> tuple[str, ...]:
    """The command line for a job whose directory is another: Codex reads the schema, images and instructions there."""
    old, new = str(planned), str(made)
    moved = [argument.replace(old, new) for argument in argv]
    # In a value of `-c` the path may be spelled with escapes.
    old, new = toml(old)[1:-1], toml(new)[1:-1]
    return tuple(argument.replace(old, new) for argument in moved)


def _publish(directory: Path, new: NewJob) -> Handle:
    """Build the job's directory, rename it into place and start its worker. Raises OSError, and leaves nothing."""
    hidden = directory / f".birth-{new.spec.job_id}"
    published = directory / new.spec.job_id
    hidden.mkdir(mode=0o700)
    lock = None
    try:
        _fill(hidden, new)
        lock = lock_file(hidden / "lock")
        assert lock is not None  # noqa: S101  # nobody else knows the file
        hidden.rename(published)
        worker = _spawn(published, lock, new)
        return Handle(Job(published), worker, private=new.spec.private)
    except BaseException:
        remove_tree(hidden)
        remove_tree(published)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _fill(directory: Path, new: NewJob) -> None:
    spec = json.dumps(new.spec.to_json(), ensure_ascii=False)
    write_atomically(directory / "spec.json", spec)
    write_atomically(directory / "prompt", new.prompt)
    if new.last_prompt:
        write_atomically(directory / LAST_PROMPT, new.last_prompt)
    if new.schema is not None:
        write_atomically(directory / SCHEMA, json.dumps(new.schema))
    if new.instructions is not None:
        write_atomically(directory / INSTRUCTIONS, new.instructions)
    if new.images:
        (directory / IMAGES).mkdir(mode=0o700)
    if new.children:
        write_atomically(directory / CHILDREN, dump(new.children))
    for image in new.images:
        write_atomically(directory / IMAGES / image.name, image.data)
    os.mkfifo(directory / "control", 0o600)


def _spawn(directory: Path, lock: int, new: NewJob) -> subprocess.Popen[bytes]:
    reap_workers()
    pipes = subprocess.PIPE
    if new.spec.detached:
        pipes = subprocess.DEVNULL
    log = directory / "stderr.log"
    with open(log, "ab", opener=open_private) as stderr:  # Path.open takes no opener
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(BOOT), str(directory), str(lock)],
            env=dict(new.env),
            cwd="/",
            stdin=pipes,
            stdout=pipes,
            stderr=stderr,
            pass_fds=(lock,),
            start_new_session=True,
            bufsize=0,
        )
