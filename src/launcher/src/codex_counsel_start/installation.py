"""The environment in the making: `uv sync` in a process of its own, how long it has run, and why it failed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from codex_counsel_start import venv

MAX_LOG = 1_500
"""Characters of uv's last words that are passed on."""
NEEDED_BYTES = 150_000_000
"""An environment and what uv needs beside it."""


class Installation:
    """Makes the environment `wanted`. `problem` is the sentence for the user, from a failure to the next attempt."""

    def __init__(self, root: Path, home: Path, wanted: Path) -> None:
        self.problem = ""
        self._root = root
        self._home = home
        self._wanted = wanted
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._changed = 0.0
        self.start()

    @property
    def seconds(self) -> float:
        """Since the attempt began; since it ended, if it has failed."""
        return time.monotonic() - self._changed

    def start(self) -> None:
        """Begin an attempt. What makes it hopeless is known at once."""
        self._changed = time.monotonic()
        self.problem = self._obstacle()
        if self.problem:
            return
        argv = [sys.executable, "-I", "-m", "codex_counsel_start"]
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end of the attempt
            # In a session of its own: it goes on when the client loses its patience, and
            # the next session finds it done.
            self._process = subprocess.Popen(
                [*argv, str(self._root), "--build"],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as error:
            self.problem = (
                f"codex-counsel cannot be installed in {self._home}: {error.strerror}."
            )

    def is_ready(self) -> bool:
        """Whether the environment is there, and held from now on. Sets `problem` at the end of a failed attempt."""
        if self.problem or self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return False
        if code == 0 and venv.hold(self._wanted):
            return True
        self._changed = time.monotonic()
        said = self._last_words() or f"nothing; it ended with code {code}"
        self.problem = f"codex-counsel could not be installed. uv said:\n{said}{self._lack_of_room()}"
        return False

    def _obstacle(self) -> str:
        if not (self._root / "uv.lock").is_file():
            return (
                f"{self._root} is not the folder of codex-counsel: it has no uv.lock."
            )
        if not venv.find_uv():
            return "codex-counsel cannot be installed: there is no `uv` on PATH."
        return ""

    def _lack_of_room(self) -> str:
        """A sentence about a full disk, on which uv cannot always report it."""
        try:
            free = shutil.disk_usage(self._home).free
        except OSError:
            return ""
        if free >= NEEDED_BYTES:
            return ""
        return f"\nThere are only {free // 1_000_000} MB left for {self._home}."

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        with self._log as log:
            log.seek(0)
            return log.read().decode("utf-8", "replace").strip()[-MAX_LOG:]
