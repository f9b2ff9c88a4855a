"""A client of the server that takes the place of `codex mcp-server`."""

from __future__ import annotations

import sys
from typing import Any

from codex_counsel.jobs.job import Job
from codex_counsel.services.compat_answers import AT_WORK, QUEUED
from tests.conftest import World, until
from tests.e2e.server.wire import ServerProcess

ARGV = (sys.executable, "-m", "codex_counsel", "mcp", "--compat")


def ask(server: ServerProcess, tool: str, **arguments: Any) -> dict[str, Any]:
    """The result of the call, as the wire has it. The server must have been initialized."""
    result: dict[str, Any] = server.answer(server.call(tool, arguments))["result"]
    return result


def text(result: dict[str, Any]) -> str:
    """The only text; the structured content, where there is any, says the same."""
    (block,) = result["content"]
    if "structuredContent" in result:
        assert result["structuredContent"]["content"] == block["text"]
    return str(block["text"])


def named_thread(result: dict[str, Any]) -> str:
    """The thread that a result names."""
    return str(result["structuredContent"]["threadId"])


def is_handed_over(result: dict[str, Any]) -> bool:
    """Whether the turn goes on without its caller. On a slow machine it may not have begun by then."""
    return text(result).startswith((AT_WORK, QUEUED))


def answered(server: ServerProcess, result: dict[str, Any]) -> dict[str, Any]:
    """The answer of a turn, however many calls it takes to wait for it."""
    while is_handed_over(result):
        named = named_thread(result)
        result = ask(server, "codex-reply", threadId=named, prompt="wait")
    return result


def jobs_of(world: World) -> list[Job]:
    """The jobs on record, in no order."""
    return list(world.counsel().store.jobs())


def only_job(world: World) -> Job:
    """The only job, as soon as there is one."""
    (job,) = until(lambda: jobs_of(world))
    return job


def thread_of(job: Job) -> str:
    """The thread of a job, as soon as Codex has begun it."""
    return until(lambda: job.state().thread_id)
