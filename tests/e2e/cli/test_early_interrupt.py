"""A Ctrl-C, or a SIGTERM, before a verb has begun."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codex_counsel.batch.record import Record
from codex_counsel.cli import batch, run
from codex_counsel.errors import INTERRUPTED
from tests.conftest import World, until
from tests.e2e.batch.runs import argv_of, obey

INTERRUPTS = """
import signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "{module}":
            signal.raise_signal({number})

sys.meta_path.insert(0, Interrupts())
"""
"""A start of Python that is interrupted in the middle of our imports."""


def test_a_ctrl_c_while_modules_are_loaded_prints_no_traceback(tmp_path: Path) -> None:
    ended = _interrupted(tmp_path, "codex_counsel.cli.parser", signal.SIGINT)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


@pytest.mark.parametrize("module", ["verbs", "batch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_batch_that_is_interrupted_while_it_is_loaded_says_that_nothing_was_started(
    tmp_path: Path, number: signal.Signals, module: str
) -> None:
    ended = _interrupted(tmp_path, f"codex_counsel.cli.{module}", number)
    assert ended.returncode == INTERRUPTED
    assert b"nothing was started" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_batch_that_is_interrupted_while_it_reads_requests_leaves_nothing(
    world: World, number: signal.Signals
) -> None:
    directory = world.base / "batch"
    with subprocess.Popen(
        argv_of("--output-dir", directory),
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=obey,  # noqa: PLW1509  # what it calls takes no lock
    ) as process:
        until(lambda: list(directory.glob(".requests.jsonl-*")), 60)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert b"nothing was started" in told
    assert not directory.exists()


def _interrupted(
    folder: Path, module: str, number: signal.Signals
) -> subprocess.CompletedProcess[bytes]:
    """A batch that gets the signal when it is about to import the module."""
    start = INTERRUPTS.format(module=module, number=int(number))
    (folder / "sitecustomize.py").write_text(start, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "codex_counsel", "batch"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        # A background job of a shell, which the tests may be, ignores interrupts.
        preexec_fn=obey,  # what it calls takes no lock
    )


def test_a_ctrl_c_while_arguments_are_read_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def parse(_: list[str]) -> argparse.Namespace:
        raise KeyboardInterrupt

    # The streams of this process are guarded from then on.
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert run([], parse) == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_an_interrupt_of_a_batch_that_has_begun_does_not_say_that_nothing_was_started(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Neither when it is taken up again, nor when it has ended: its answers are paid for."""
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.workspace)
    directory = world.base / "batch"
    requests = tmp_path / "requests.jsonl"
    requests.write_text(
        '{"id": "a", "kind": "consult", "arguments": {"question": "?"}}\n'
    )
    let_go = Record.close

    def interrupted(record: Record) -> None:
        let_go(record)
        raise KeyboardInterrupt

    monkeypatch.setattr(Record, "close", interrupted)
    monkeypatch.setattr(batch, "_run", lambda *_, **__: 0)
    begin = ["batch", str(requests), "--output-dir", str(directory)]
    assert run(begin) == INTERRUPTED
    told = capsys.readouterr().err
    assert f"--resume {directory}" in told
    assert "nothing was started" not in told
    assert run(["batch", "--resume", str(directory)]) == INTERRUPTED
    assert "nothing was started" not in capsys.readouterr().err
