"""The real Claude Code with the plugin, in a world of its own. Only the tokens of both models are scripted.

`CODEX_COUNSEL_TEST_CLAUDE` names the `claude` binaries to test with (a path list). Without
it the tests take the `claude` on PATH, or install the newest one from npm, once.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any, Self

import pytest

from tests.conftest import World
from tests.e2e.claude.anthropic import Messages, Script

ROOT = Path(__file__).parents[3]
LAUNCHER = (
    "tool",
    "run",
    "--quiet",
    "--from",
    str(ROOT / "src/launcher"),
    "codex-counsel-start",
)
"""What follows `uv` in the command that starts the plugin's server."""
RELEASES = [
    path
    for path in os.environ.get("CODEX_COUNSEL_TEST_CLAUDE", "").split(os.pathsep)
    if path
]
INSTALLED = ROOT / ".cache/claude-latest"
"""Where the newest release is installed, here and by `.ci/run`."""
ABSENT = (
    "no Claude Code to test with: there is none on PATH, and npm could not install it. "
    f"With a network: npm install --prefix {INSTALLED} @anthropic-ai/claude-code@latest"
)
INSTALL_SECONDS = 900
PREFIX = "mcp__plugin_codex_counsel__"


@dataclass
class Session:
    """A finished run of `claude -p`: its events, its exit code and the requests of its model."""

    code: int
    events: list[dict[str, Any]]
    errors: str
    api: Messages

    @property
    def result(self) -> dict[str, Any]:
        return next(event for event in self.events if event["type"] == "result")

    @property
    def servers(self) -> dict[str, str]:
        """State of each MCP server when the session began."""
        start = next(event for event in self.events if event.get("subtype") == "init")
        return {server["name"]: server["status"] for server in start["mcp_servers"]}

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """The tools that were called, without the client's own search for them."""
        messages = [
            event["message"] for event in self.events if event["type"] == "assistant"
        ]
        blocks = [
            block
            for message in messages
            for block in message["content"]
            if block["type"] == "tool_use"
        ]
        return [
            (block["name"], block["input"])
            for block in blocks
            if block["name"] != "ToolSearch"
        ]

    @property
    def denials(self) -> list[Any]:
        return list(self.result.get("permission_denials", ()))

    @property
    def tool_results(self) -> list[str]:
        """The results of the tools in the last request of the model."""
        return self.api.turns[-1].tool_results


class Terminal:
    """An interactive session, its screen read and thrown away."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]) -> None:
        self._ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (50, 120))
        ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=env, start_new_session=True, **ends
        )  # type: ignore[call-overload]
        os.close(theirs)
        self.screen = bytearray()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody holds the other end any more
            while chunk := os.read(self._ours, 65536):
                self.screen += chunk
        os.close(self._ours)


@dataclass
class Claude:
    """One release of Claude Code on a user's machine."""

    binary: str
    world: World
    plugin: Path = ROOT
    settings: dict[str, str] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def config(self) -> Path:
        return self.world.home / ".claude"

    @property
    def env(self) -> dict[str, str]:
        quiet = (
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "DISABLE_TELEMETRY",
            "DISABLE_AUTOUPDATER",
        )
        own = {
            "CLAUDE_CONFIG_DIR": str(self.config),
            "UV_CACHE_DIR": uv_cache(),
            "SHELL": "/bin/bash",
            "TERM": "dumb",
        }
        patient = {
            "MCP_CONNECTION_NONBLOCKING": "0",
            "MCP_CONNECT_TIMEOUT_MS": "60000",
            "MCP_TIMEOUT": "60000",
        }
        path = {"PATH": f"{Path(uv()).parent}{os.pathsep}{os.environ['PATH']}"}
        return (
            self.world.env
            | path
            | own
            | patient
            | dict.fromkeys(quiet, "1")
            | self.settings
        )

    def api(self, script: Script) -> Messages:
        return self.stack.enter_context(Messages(script))

    def start(self, api: Messages, prompt: str, *flags: str) -> subprocess.Popen[str]:
        """`claude -p` with the plugin of this checkout."""
        argv = [
            self.binary,
            "-p",
            prompt,
            "--output-format",
            "stream-json",
            "--verbose",
            *self.with_plugin(),
            *flags,
        ]
        return subprocess.Popen(
            argv,
            cwd=self.world.workspace,
            env=self.env | api.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def terminal(self, api: Messages, *words: str) -> Terminal:
        """An interactive session that asks nothing before it begins."""
        known = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        about = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "projects": {str(self.world.workspace): known},
        }
        about["customApiKeyResponses"] = {
            "approved": [api.env["ANTHROPIC_API_KEY"][-20:]],
            "rejected": [],
        }
        file = self.config / ".claude.json"
        if not file.exists():
            file.write_text(json.dumps(about), "utf-8")
        env = self.env | api.env | {"TERM": "xterm-256color"}
        return Terminal(
            [self.binary, *self.with_plugin(), *words], self.world.workspace, env
        )

    @property
    def version(self) -> tuple[int, ...]:
        result = subprocess.run(
            [self.binary, "--version"],
            env=self.env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return tuple(int(part) for part in result.split()[0].split("."))

    def with_plugin(self) -> tuple[str, ...]:
        return ("--plugin-dir", str(self.plugin))

    def ask(self, prompt: str, script: Script, *flags: str) -> Session:
        """Run to the end."""
        api = self.api(script)
        return self.finish(self.start(api, prompt, *flags), api)

    def finish(self, process: subprocess.Popen[str], api: Messages) -> Session:
        out, errors = process.communicate(timeout=100)
        events = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return Session(process.returncode, events, errors, api)

    def cli(
        self, *words: str, plugin: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """A management command, such as `plugin install`."""
        argv = [self.binary, *(self.with_plugin() if plugin else ()), *words]
        return subprocess.run(
            argv,
            cwd=self.world.workspace,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def uv() -> str:
    path = os.environ.get("UV") or shutil.which("uv")
    assert path, "the tests need uv on PATH"
    return path


@cache
def uv_cache() -> str:
    return subprocess.run(
        [uv(), "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of this checkout as a clone would have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


def make_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin's data folder of all sessions: its environment is made once."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # that of all processes of this run
    folder = base / "plugin-data"
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [uv(), *LAUNCHER, str(ROOT), "--build"],
        env={**os.environ, "CLAUDE_PLUGIN_DATA": str(folder)},
        check=True,
    )
    return folder


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory)


@contextmanager
def first_start(claude: Claude, environments: Path) -> Iterator[Callable[[], None]]:
    """The plugin's environment is not there until the function is called."""
    data = claude.config / "plugins/data/codex-inline"
    data.unlink()
    data.mkdir()
    (made,) = environments.glob("venv-*")
    with (data / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def install() -> None:
            (data / made.name).symlink_to(made)
            lock.close()

        yield install


def _release(path: str) -> str:
    return next(
        (part for part in Path(path).parts if part.startswith("claude-")),
        path or "newest",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Install Claude Code where tests need it: before they start, because each test has a time limit."""
    if RELEASES:
        return
    if any("claude" in getattr(item, "fixturenames", ()) for item in items):
        _find_or_install()


@cache
def _find_or_install() -> str:
    """The `claude` to test with; empty where there is none."""
    found = shutil.which("claude")
    if found:
        return found
    binary = INSTALLED / "node_modules/.bin/claude"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    # The processes of one test run do this one after the other.
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _runs(binary):
            _install()
    return str(binary) if _runs(binary) else ""


def _install() -> None:
    options = ["--silent", "--no-audit", "--no-fund", "--fetch-retries=1"]
    package = "@anthropic-ai/claude-code@latest"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["npm", "install", *options, "--prefix", str(INSTALLED), package],
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=INSTALL_SECONDS,
        )


def _runs(binary: Path) -> bool:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture(params=RELEASES or [""], ids=_release)
def claude(world: World, request: pytest.FixtureRequest) -> Iterator[Claude]:
    """Each release at hand, with the plugin's environment already made."""
    binary = request.param or _find_or_install()
    if not binary:
        pytest.skip(ABSENT)
    claude = Claude(binary, world)
    environments = request.getfixturevalue("environments")
    data = claude.config / "plugins/data"
    data.mkdir(parents=True)
    for name in ("codex-inline", "codex-codex-counsel"):
        (data / name).symlink_to(environments)
    with claude.stack:
        yield claude
