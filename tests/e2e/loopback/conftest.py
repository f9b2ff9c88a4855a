"""The real Codex, and a way to ask it something with a scripted model behind it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import codex_cli_bin  # type: ignore[import-untyped]
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from codex_counsel.loopback import Loopback

SECONDS = 60
PROMPT = "Is it fine?"
SETTINGS = (
    "features.plugins=false",
    "features.apps=false",
    "analytics.enabled=false",
    "features.unbounded_connection_retries=false",
)
FLAGS = [word for setting in SETTINGS for word in ("-c", setting)]
BINARIES = [
    str(codex_cli_bin.bundled_codex_path()),
    *filter(None, os.environ.get("CODEX_COUNSEL_TEST_CODEX", "").split(os.pathsep)),
]


@dataclass(frozen=True)
class Outcome:
    """What one run of `codex exec` printed."""

    code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def items(self) -> list[dict[str, Any]]:
        return [
            event["item"] for event in self.events if event["type"] == "item.completed"
        ]

    def texts(self, kind: str = "agent_message") -> list[str]:
        return [item["text"] for item in self.items if item["type"] == kind]

    @property
    def failure(self) -> str:
        return "".join(
            event["error"]["message"]
            for event in self.events
            if event["type"] == "turn.failed"
        )


@dataclass(frozen=True)
class Codex:
    """A binary with a home and a workspace of its own."""

    binary: str
    home: Path
    workspace: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        server: Loopback,
        *flags: str,
        prompt: str = PROMPT,
        sandbox: str = "read-only",
    ) -> subprocess.Popen[bytes]:
        self._configure(server.config_toml())
        return send_prompt(
            self.run("exec", *self._flags(), "-s", sandbox, *flags, "-"), prompt
        )

    def resume(self, thread: str) -> subprocess.Popen[bytes]:
        """Go on with a thread, configured as at the last start."""
        return send_prompt(
            self.run("exec", *self._flags(), "resume", thread, "-"), PROMPT
        )

    def ask(
        self,
        server: Loopback,
        *flags: str,
        prompt: str = PROMPT,
        sandbox: str = "read-only",
    ) -> Outcome:
        return finish(self.start(server, *flags, prompt=prompt, sandbox=sandbox))

    def run(self, *argv: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        home = {"HOME": str(self.home), "CODEX_HOME": str(self.home)}
        environment = {
            "PATH": os.environ["PATH"],
            "RUST_LOG": "off",
            "TZ": "UTC",
            **home,
            **self.environment,
        }
        return subprocess.Popen(
            [self.binary, *argv], stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )

    def _configure(self, text: str) -> None:
        """Replace config.toml atomically: a run that reads half of it would use the built-in provider."""
        fresh = self.home / "config.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.home / "config.toml")

    def _flags(self) -> list[str]:
        return ["--json", "--skip-git-repo-check", "-C", str(self.workspace), *FLAGS]


def send_prompt(
    process: subprocess.Popen[bytes], prompt: str
) -> subprocess.Popen[bytes]:
    assert process.stdin
    with process.stdin as stdin:
        stdin.write(prompt.encode())
    process.stdin = None
    return process


def finish(process: subprocess.Popen[bytes]) -> Outcome:
    with process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    return Outcome(
        process.returncode,
        [json.loads(line) for line in out.splitlines()],
        err.decode(),
    )


@pytest.fixture(
    params=BINARIES,
    ids=["pinned", *(f"other{number}" for number in range(1, len(BINARIES)))],
)
def codex(request: pytest.FixtureRequest, tmp_path: Path) -> Codex:
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    home.mkdir()
    workspace.mkdir()
    (workspace / "app.py").write_text("print('hello')\n", encoding="utf-8")
    return Codex(request.param, home, workspace)
