"""A world of its own for each test: home, Codex home, state directory, workspace, scripted model. The Codex is real."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import codex_cli_bin  # type: ignore[import-untyped]
import pytest

from codex_counsel.codex.binary import Codex, find
from codex_counsel.codex.probe import ProbeCache
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Consult, parse
from codex_counsel.jobs.handle import Handle
from codex_counsel.loopback import Loopback, Script, say
from codex_counsel.services.counsel import Counsel

BUNDLED = str(codex_cli_bin.bundled_codex_path())
RELEASES = [
    BUNDLED,
    *filter(None, os.environ.get("CODEX_COUNSEL_TEST_CODEX", "").split(os.pathsep)),
]
"""The pinned release, and those that CODEX_COUNSEL_TEST_CODEX names (a path list)."""


@dataclass
class World:
    """Directories that stand for a user's machine."""

    base: Path
    binary: str = BUNDLED
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in (self.home, self.codex_home, self.workspace, self.temp):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def codex_home(self) -> Path:
        return self.home / ".codex"

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def workspace(self) -> Path:
        return self.base / "workspace"

    @property
    def temp(self) -> Path:
        return self.base / "tmp"

    @property
    def env(self) -> dict[str, str]:
        """A small, clean environment; the binary under test by the setting."""
        own = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "CODEX_HOME": str(self.codex_home),
            "TMPDIR": str(self.temp),
            "CODEX_COUNSEL_STATE_DIR": str(self.state),
            "CODEX_COUNSEL_CODEX_BIN": self.binary,
        }
        return own | {
            f"CODEX_COUNSEL_{name}": value for name, value in self.settings.items()
        }

    def configure(self, text: str) -> None:
        """Replace config.toml at once: a Codex that starts meanwhile must not read half of it."""
        draft = self.codex_home / "config.toml.new"
        draft.write_text(text, "utf-8")
        draft.replace(self.codex_home / "config.toml")

    def counsel(self, **env: str) -> Counsel:
        return Counsel({**self.env, **env}, self.workspace)

    def codex(self) -> Codex:
        return find(self.binary, "", ProbeCache(self.state / "probes.json"))

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Real git, the author fixed, no configuration from outside."""
        identity = [
            "-c",
            "user.name=T",
            "-c",
            "user.email=t@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        done = subprocess.run(
            ["git", *identity, *args],
            cwd=cwd or self.workspace,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout


def linked(source: str, target: str) -> None:
    """The package is some 400 MB: hard links where the file system has them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(autouse=True)
def private_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scratch directories of runs are made below the test's own directory, where a leftover is seen."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(
    params=RELEASES,
    ids=lambda path: "pinned" if path == BUNDLED else Path(path).parts[-6],
)
def each_release(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """The world once per Codex release at hand."""
    return World(tmp_path, request.param)


@pytest.fixture
def model(world: World) -> Iterator[Callable[..., Loopback]]:
    """Start the scripted model and make it the provider of the world's Codex."""
    yield from _models(world)


@pytest.fixture
def each_model(each_release: World) -> Iterator[Callable[..., Loopback]]:
    """`model`, for `each_release`."""
    yield from _models(each_release)


def _models(world: World) -> Iterator[Callable[..., Loopback]]:
    servers: list[Loopback] = []

    def start(script: Script | None = None, extra: str = "", **keys: Any) -> Loopback:
        server = Loopback(script or [say("It is fine.")])
        servers.append(server.__enter__())
        world.configure(server.config_toml(**keys) + extra)
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def consult(
    counsel: Counsel, question: str = "Is it fine?", **arguments: Any
) -> EnvelopeDict:
    """Ask and wait: the whole envelope."""
    request = parse(Consult, {"question": question, **arguments})
    handle = counsel.consult(request)
    return counsel.deliver(handle, wait(handle), request.detail)


def wait(handle: Handle, seconds: float = 60) -> EnvelopeDict:
    """The terminal envelope of a run."""
    while (wire := handle.collect()) is None:
        ready = (
            select.select([handle.descriptor], [], [], seconds)[0]
            if handle.descriptor >= 0
            else [True]
        )
        assert ready, "the run did not end in time"
    return wire


def living(marker: str) -> list[str]:
    """Command lines of live processes that carry the text in their environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (
                    (entry / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode("utf-8", "replace")
                )
                environment = (
                    (entry / "environ").read_bytes().decode("utf-8", "replace")
                )
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state not in "ZX" and (marker in command or marker in environment):
                found.append(command)
    return found


def shown(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named fields, for comparisons that say what matters."""
    return {name: mapping.get(name) for name in names}


T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float = 30) -> T:
    """What the condition says once it says something; looked at often, and given up after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)
    return found
