"""The server of `codex` and `codex-reply`, the command that it stands for, and the clients that drive it.

`CODEX_COUNSEL_TEST_MCP_SERVER` names the binary of codex-cli 0.153.4, the last release with `codex mcp-server`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import World
from tests.e2e.compat.client import ARGV
from tests.e2e.server.wire import ServerProcess

ROOT = Path(__file__).parents[3]
LAST_RELEASE = "0.153.4"
NO_LAST_RELEASE = (
    "CODEX_COUNSEL_TEST_MCP_SERVER does not name the binary of the last release with `codex mcp-server`: "
    f"npm install --prefix .cache/codex-{LAST_RELEASE} @openai/codex@{LAST_RELEASE}"
)
AGENTS = ROOT / ".cache/agents"
"""Where the Agents SDK is installed, here and by `.ci/run`."""
NO_AGENTS = (
    "the Agents SDK cannot be installed; with a network: "
    f"uv venv {AGENTS} && uv pip install --python {AGENTS}/bin/python openai-agents"
)
INSTALL_SECONDS = 600

Start = Callable[..., ServerProcess]


@pytest.fixture
def compat(world: World) -> Iterator[Start]:
    """Start our server, in the world's workspace, and say hello to it."""
    yield from _servers(world, ARGV)


@pytest.fixture
def last_release(world: World) -> Iterator[Start]:
    """Start the server that Codex had, on the same model."""
    binary = os.environ.get("CODEX_COUNSEL_TEST_MCP_SERVER")
    if not binary:
        pytest.skip(NO_LAST_RELEASE)
    yield from _servers(world, (binary, "mcp-server"))


def _servers(world: World, command: tuple[str, ...]) -> Iterator[Start]:
    def start(*words: str, **settings: str) -> ServerProcess:
        server = ServerProcess(world, settings, argv=(*command, *words))
        servers.enter_context(server)
        server.initialize()
        return server

    with ExitStack() as servers:
        yield start


@pytest.fixture(scope="session")
def agents_python() -> Path:
    """The Python of an environment with the Agents SDK, which is made where there is none."""
    python = AGENTS / "bin/python"
    AGENTS.mkdir(parents=True, exist_ok=True)
    # The processes of one test run do this one after the other.
    with (AGENTS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_agents(python) and not _install_agents(python):
            pytest.skip(NO_AGENTS)
    return python


def _has_agents(python: Path) -> bool:
    if not python.exists():
        return False
    return subprocess.run([python, "-c", "import agents"], check=False).returncode == 0


def _install_agents(python: Path) -> bool:
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    commands = (
        [uv, "venv", "--quiet", "--allow-existing", str(AGENTS)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "openai-agents"],
    )
    try:
        for command in commands:
            subprocess.run(command, check=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
