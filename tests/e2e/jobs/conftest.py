"""Jobs in which a shell command takes the place of Codex and prints its events: for tests of the job directory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import CounselError
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.launcher import NewJob, launch
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from tests.conftest import World
from tests.specs import SPEC

THREAD = "01a1fd13-60ab-7632-8f92-823f89c4f967"
STARTED = json.dumps({"type": "thread.started", "thread_id": THREAD})
MESSAGE = json.dumps(
    {
        "type": "item.completed",
        "item": {"id": "item_0", "type": "agent_message", "text": "It is fine."},
    }
)
COMPLETED = json.dumps(
    {"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 1}}
)
TURN = (STARTED, MESSAGE, COMPLETED)


def printing(*lines: str) -> str:
    """Shell text that prints these lines."""
    return f"printf '%s\\n' {shlex.join(lines)}"


@dataclass
class JobFactory:
    """Launches jobs, and ends them when the test is over."""

    world: World
    store: Store
    handles: list[Handle] = field(default_factory=list)

    def spec(self, program: str = printing(*TURN), **changes: Any) -> Spec:
        job_id = secrets.token_hex(16)
        spec = replace(
            SPEC,
            job_id=job_id,
            created=time.time(),
            argv=("/bin/sh", "-c", program),
            cwd=str(self.world.workspace),
            codex_home=str(self.world.codex_home),
            state=str(self.store.state),
            scratch=str(self.world.temp / f"codex-counsel-{job_id}"),
            slots=64,
            ttl=86_400,
            workspace=str(self.world.workspace),
        )
        return replace(spec, **changes)

    def launch(self, program: str = printing(*TURN), **changes: Any) -> Handle:
        """A job that runs the shell text in place of Codex."""
        self.keep_evictor_away()
        spec = self.spec(program, **changes)
        env = {"PATH": os.environ["PATH"], "CODEX_COUNSEL_JOB": spec.job_id}
        handle = launch(self.store, NewJob(spec, "Is it fine?", None, env))
        self.handles.append(handle)
        return handle

    def keep_evictor_away(self) -> None:
        """Let no worker start the process that drops old records.

        It would write summaries and drop records at some moment of the test.
        """
        # A test may have put a file or a link in the place of the state directory.
        with contextlib.suppress(OSError):
            self.store.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.store.state / "evicted").write_text("1e9")

    def launch_waiting(self, *first: str, **changes: Any) -> tuple[Handle, Path]:
        """A job that prints these lines, and the rest of a turn once something is written to the pipe returned."""
        gate = self.world.base / f"gate-{secrets.token_hex(4)}"
        os.mkfifo(gate)
        rest = printing(*TURN[len(first) :])
        return self.launch(
            f"{printing(*first) if first else ':'}; read word < {gate}; {rest}",
            **changes,
        ), gate


@pytest.fixture
def factory(world: World) -> Iterator[JobFactory]:
    factory = JobFactory(world, Store(world.state))
    yield factory
    for handle in factory.handles:
        handle.release()
        with contextlib.suppress(CounselError):  # the test may have damaged the record
            factory.store.cancel(handle.job)
