"""A Ctrl-C before a verb has begun."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codex_counsel.cli import run
from codex_counsel.errors import INTERRUPTED

INTERRUPTS = """
import signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "codex_counsel.cli.parser":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
"""
"""A start of Python that is interrupted in the middle of our imports."""


def test_a_ctrl_c_while_modules_are_loaded_prints_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS, "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "codex_counsel", "batch"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
        # A background job of a shell, which the tests may be, ignores interrupts.
        preexec_fn=_obey,  # what it calls takes no lock
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")


def _obey() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
