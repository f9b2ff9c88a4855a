"""What every test gets: its own home, Codex home, state directory, workspace and scripted model. Codex is real."""

from __future__ import annotations

import os
import select
import shutil
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
from codex_counsel.jobs import evictor
from codex_counsel.jobs.handle import Handle
from codex_counsel.loopback import Loopback, Script, say
from codex_counsel.services.counsel import Counsel
from tests.repositories import Repository

BUNDLED = str(codex_cli_bin.bundled_codex_path())
RELEASES = [
    BUNDLED,
    *filter(None, os.environ.get("CODEX_COUNSEL_TEST_CODEX", "").split(os.pathsep)),
]
"""The pinned release, and those that CODEX_COUNSEL_TEST_CODEX names (a path list)."""


@dataclass
class World:
    """The directories of one test, which stand for a user's machine, and the environment that names them.

    `codex_home_value` is the value of CODEX_HOME, by default the path of `codex_home`;
    with "" the variable is unset, as users have it, and Codex takes `$HOME/.codex`.
    """

    base: Path
    binary: str = BUNDLED
    settings: dict[str, str] = field(default_factory=dict)
    codex_home_value: str | None = None

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
        """The environment of the processes under test; `settings` in it as variables of codex-counsel."""
        env = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "TMPDIR": str(self.temp),
            "CODEX_COUNSEL_STATE_DIR": str(self.state),
            "CODEX_COUNSEL_CODEX_BIN": self.binary,
        }
        if self.codex_home_value is None:
            env["CODEX_HOME"] = str(self.codex_home)
        elif self.codex_home_value:
            env["CODEX_HOME"] = self.codex_home_value
        return env | {
            f"CODEX_COUNSEL_{name}": value for name, value in self.settings.items()
        }

    def configure(self, text: str) -> None:
        """Replace config.toml atomically: a Codex that starts meanwhile must not read half of it."""
        draft = self.codex_home / "config.toml.new"
        draft.write_text(text, "utf-8")
        draft.replace(self.codex_home / "config.toml")

    def counsel(self, **env: str) -> Counsel:
        return Counsel({**self.env, **env}, self.workspace)

    def codex(self) -> Codex:
        return find(self.binary, "", ProbeCache(self.state / "probes.json"))

    @property
    def repository(self) -> Repository:
        """The workspace, for tests in which it is a repository."""
        return self.repository_at(self.workspace)

    def repository_at(self, root: Path) -> Repository:
        """A repository whose git reads no settings but those in the world's home."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "T",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "T",
            "GIT_COMMITTER_EMAIL": "t@example.org",
        }
        return Repository(root, env)


def link_or_copy(source: str, target: str) -> None:
    """Copy a file of the Codex package, of some 400 MB, by a hard link where the file system has them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Set the local time zone of this process; a worker and Codex get it by the environment."""

    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def private_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scratch directories below the directory of the test, where tests look for leftovers."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def own_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process a home without the developer's git settings; return the file of global settings in it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    settings = home / ".gitconfig"
    settings.write_text(
        '[user]\n name = A\n email = a@b\n[init]\n defaultBranch = main\n[protocol "file"]\n allow = always\n',
        "utf-8",
    )
    return settings


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
    """Ask and wait, and return the envelope as it is delivered."""
    request = parse(Consult, {"question": question, **arguments})
    handle = counsel.consult(request)
    return counsel.deliver(handle, wait(handle), request.detail)


def start_consult(
    counsel: Counsel,
    question: str = "Is it fine?",
    *,
    background: bool = False,
    **arguments: Any,
) -> Handle:
    """Ask, and return the handle of the run."""
    request = parse(Consult, {"question": question, **arguments})
    return counsel.consult(request, background=background)


def wait(handle: Handle, seconds: float = 60) -> EnvelopeDict:
    """Wait for the end of a run and return its envelope."""
    while (wire := handle.collect()) is None:
        if handle.descriptor >= 0:
            ready, _, _ = select.select([handle.descriptor], [], [], seconds)
            assert ready, "the run did not end in time"
    return wire


def living(marker: str) -> list[str]:
    """Return the command lines of live processes that have the text in their environment or command line.

    Without the process that a worker starts to drop old records: it ends by itself.
    """
    commands = []
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
            if not environment:  # a thread of the kernel
                continue
            argv = _command_line(entry)
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state in "ZX":
            continue
        command = argv.replace(b"\0", b" ").decode("utf-8", "replace")
        if evictor.__file__ in command:
            continue
        if marker in command or marker in environment.decode("utf-8", "replace"):
            commands.append(command)
    return commands


def _command_line(process: Path) -> bytes:
    # Of a process that is just becoming another program it is empty for a moment.
    for _ in range(20):
        argv = (process / "cmdline").read_bytes()
        if argv:
            return argv
        time.sleep(0.005)
    return b""


def pick(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the named fields, None for one that is missing."""
    return {name: mapping.get(name) for name in names}


T = TypeVar("T")


def until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    """Call the condition until its value is true, and return that value; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)
    return value
