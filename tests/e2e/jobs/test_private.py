"""What lies on disk is for its owner alone, and holds nothing that is nobody's business."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codex_counsel.contract.request import Consult, JobConsume, parse
from codex_counsel.loopback import Loopback, say, shell, usage_limit
from tests.conftest import World, consult, wait
from tests.e2e.jobs.conftest import TURN, JobFactory, printing
from tests.e2e.runs import fetch

SCHEMA = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}
Model = Callable[..., Loopback]


@pytest.fixture
def open_mask() -> Iterator[None]:
    """A user whose files are readable by all unless told otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(root: Path) -> dict[str, str]:
    """The paths that someone else could use, with their modes."""
    found = {}
    for path in (root, *root.rglob("*")):
        try:
            info = path.lstat()
        except FileNotFoundError:  # the draft of a process that drops old records
            continue
        wanted = 0o700 if stat.S_ISDIR(info.st_mode) else 0o600
        mode = stat.S_IMODE(info.st_mode)
        if mode != wanted:
            found[str(path.relative_to(root.parent))] = oct(mode)
    return found


@pytest.mark.usefixtures("open_mask")
def test_every_file_of_ours_is_for_its_owner_alone(world: World, model: Model) -> None:
    model([shell("ls"), say({})])
    counsel = world.counsel()
    arguments = {
        "question": "Is it fine?",
        "output_schema": SCHEMA,
        "idempotency_key": "k",
    }
    handle = counsel.consult(parse(Consult, arguments))
    assert wait(handle)["data"] == {}
    handle.job.request_cancel()
    fetch(counsel, parse(JobConsume, {"job_id": consult(counsel)["meta"]["job_id"]}))
    model([usage_limit()])
    assert consult(counsel)["error"]["code"] == "usage_limit"
    assert modes(world.state) == {}
    names = {path.name for path in handle.job.path.iterdir()}
    assert {
        "spec.json",
        "prompt",
        "schema.json",
        "state.json",
        "events.jsonl",
        "result.json",
        "control",
    } <= names
    assert {path.name for path in world.state.iterdir()} >= {
        "jobs",
        "keys",
        "gone",
        "queue",
        "limits",
    }


@pytest.mark.usefixtures("open_mask")
def test_the_private_directory_of_a_run_is_for_its_owner_alone(
    factory: JobFactory,
) -> None:
    seen = factory.world.base / "seen"
    scratch = f'{factory.world.temp}/codex-counsel-"$CODEX_COUNSEL_JOB"'
    wait(factory.launch(f"ls -ld {scratch} > {seen}; {printing(*TURN)}"))
    assert seen.read_text().startswith("drwx------")


def test_no_file_of_ours_holds_an_environment_or_a_secret_of_it(
    world: World, model: Model
) -> None:
    model([shell("env"), say("It is fine.")])
    canaries = {
        name: f"canary-{name.lower()}-0123456789"
        for name in ("CODEX_API_KEY", "GITHUB_PAT", "MY_PASSWORD")
    }
    wire = consult(world.counsel(**canaries))
    assert wire["ok"]
    for path in world.state.rglob("*"):
        # The draft of a process that drops old records may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            content = path.read_bytes() if path.is_file() else b""
            assert [
                value for value in canaries.values() if value.encode() in content
            ] == [], path.name
    spec = json.loads(
        (world.state / "jobs" / wire["meta"]["job_id"] / "spec.json").read_text("utf-8")
    )
    assert "env" not in spec
    assert os.environ["PATH"] not in json.dumps(spec)
