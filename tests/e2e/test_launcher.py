"""What `uvx` starts for the plugin: an environment made once, shared, explained where it cannot be made."""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from codex_counsel.contract.envelope import failed, text_of
from codex_counsel.errors import Code, CounselError
from tests.conftest import living, until
from tests.e2e import launcher_answers
from tests.e2e.claude.conftest import LAUNCHER, ROOT, make_environment, uv, uv_cache

ATTEMPTS = 3


@contextmanager
def start_server(
    data: Path, root: Path = ROOT, tweak: str = "", **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command of `.mcp.json`. `tweak` changes a constant of the stand-in, the module `s`."""
    own = {
        "HOME": str(data),
        "CLAUDE_PLUGIN_DATA": str(data),
        "UV_CACHE_DIR": uv_cache(),
        "PATH": os.environ["PATH"],
    }
    pipe = subprocess.PIPE
    command = [uv(), *LAUNCHER]
    if tweak:
        code = f"import codex_counsel_start.stand_in as s; {tweak}; from codex_counsel_start import main; main()"
        command = [*command[:-1], "python", "-c", code]
    argv = [*command, str(root), "mcp"]
    with subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=pipe, env=own | env, cwd=data
    ) as process:
        try:
            yield process
        finally:
            process.communicate(timeout=60)


def initialize(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    about = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    return ask(process, "initialize", about)


def ask(
    process: subprocess.Popen[bytes], method: str, params: dict[str, Any]
) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(
        json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        ).encode()
        + b"\n"
    )
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def test_two_sessions_that_start_at_once_share_one_environment_and_later_ones_need_no_index_and_heed_signals(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(start_server(tmp_path)) for _ in range(2)]
        assert [
            initialize(process)["result"]["serverInfo"]["name"] for process in both
        ] == ["counsel", "counsel"]
        for process in both:
            # An index that does not answer for a moment fails an installation, and the
            # next call begins another one.
            answers: list[dict[str, Any]] = []
            while len(answers) < ATTEMPTS and not (answers and answers[-1]["ok"]):
                result = ask(process, "tools/call", MODELS)["result"]
                answers.append(result["structuredContent"])
            assert answers[-1]["ok"], answers
    (environment,) = tmp_path.glob("venv-*")
    assert list(tmp_path.glob("draft-*")) == []
    assert list(environment.glob("lib/*/site-packages/codex_cli_bin")) == []
    assert list(
        environment.glob(
            "lib/*/site-packages/codex_counsel/services/__pycache__/counsel.*"
        )
    )

    with start_server(
        tmp_path, UV_OFFLINE="1", UV_DEFAULT_INDEX="http://127.0.0.1:9/"
    ) as later:
        assert initialize(later)["result"]["serverInfo"]["name"] == "counsel"
        later.send_signal(signal.SIGTERM)
        assert later.wait(60) in (128 + signal.SIGTERM, -signal.SIGTERM)
    until(lambda: not living(f"HOME={tmp_path}"))


def test_the_stand_in_answers_as_the_server_does() -> None:
    assert launcher_answers.record() == json.loads(
        launcher_answers.FILE.read_text("utf-8")
    ), "run `uv run python -m tests.e2e.launcher_answers`"


class Stalled:
    """A first start whose installation waits for `release`. `process` is the launcher."""

    def __init__(
        self, process: subprocess.Popen[bytes], data: Path, made: Path, lock: IO[str]
    ) -> None:
        self.process, self.data, self._made, self._lock = process, data, made, lock

    def release(self) -> None:
        """The environment is there."""
        (self.data / self._made.name).symlink_to(self._made)
        self._lock.close()

    def send(self, method: str, request_id: object = None, **params: Any) -> None:
        assert self.process.stdin
        message: dict[str, object] = {"jsonrpc": "2.0", "method": method}
        message["params"] = params
        if request_id is not None:
            message["id"] = request_id
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout
        return dict(json.loads(self.process.stdout.readline()))

    def server(self) -> int:
        """The process that took over."""
        return until(lambda: next(iter(servers_of(self.data)), 0))


def servers_of(data: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            inside = f"HOME={data}\0".encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if inside and words[-3:] == [b"codex_counsel", b"mcp", b""]:
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as the plugin's own."""
    (made,) = make_environment(tmp_path_factory).glob("venv-*")
    return made


@pytest.fixture
def stalled(
    tmp_path: Path, environment: Path
) -> Iterator[Callable[..., AbstractContextManager[Stalled]]]:
    @contextmanager
    def start(tweak: str = "", **env: str) -> Iterator[Stalled]:
        data = tmp_path / "data"
        data.mkdir()
        with (data / "build.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with start_server(data, ROOT, tweak, **env) as process:
                try:
                    yield Stalled(process, data, environment, lock)
                finally:
                    lock.close()

    yield start
    until(lambda: not living(f"HOME={tmp_path}"))


LEGACY = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}
MODERN = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": LEGACY["clientInfo"],
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}
MODELS: dict[str, Any] = {"name": "codex_capabilities", "arguments": {}}


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_slow_first_start_is_answered_at_once_and_its_calls_by_the_server_that_comes(
    era: str, stalled: Callable[..., AbstractContextManager[Stalled]]
) -> None:
    answers = json.loads(launcher_answers.FILE.read_text("utf-8"))[era]
    extra: dict[str, Any] = MODERN if era == "modern" else {}
    with stalled() as client:
        if era == "legacy":
            client.send("initialize", 0, **LEGACY)
            result = client.receive()["result"]
            assert result.pop("protocolVersion") == "2025-06-18"
            assert result.items() <= answers["initialize"]["result"].items()
            client.send("notifications/initialized")
        else:
            client.send("server/discover", 0, **MODERN)
            assert client.receive()["result"] == answers["server/discover"]["result"]
        client.send("tools/list", "list", **extra)
        assert client.receive() == {
            "jsonrpc": "2.0",
            "id": "list",
            **answers["tools/list"],
        }
        assert servers_of(client.data) == []

        meta = {**extra.get("_meta", {}), "progressToken": "p"}
        client.send("tools/call", "cancelled", **MODELS, **extra)
        client.send("notifications/cancelled", requestId="cancelled")
        client.send("tools/call", 7, **{**MODELS, "_meta": meta})
        client.send("resources/read", 8, uri="codex://schema/envelope", **extra)
        progress = client.receive()
        assert progress["method"] == "notifications/progress"
        assert 0 < progress["params"]["progress"] < 1
        assert (
            "installing codex-counsel, which happens once"
            in progress["params"]["message"]
        )

        client.release()
        replies: dict[int, Any] = {}
        while len(replies) < 2:
            reply = client.receive()
            # The installation is reported until it has ended.
            if "id" in reply:
                replies[reply["id"]] = reply["result"]
        assert sorted(replies) == [7, 8]
        assert replies[7]["structuredContent"]["ok"]
        client.send("tools/call", 9, **MODELS, **extra)
        assert client.receive()["id"] == 9
        assert len(servers_of(client.data)) == 1


def test_a_long_line_is_read_once_and_passed_on(
    stalled: Callable[..., AbstractContextManager[Stalled]],
) -> None:
    """A read from a pipe gives at most 64 kB: what was read before must not be copied for each of them."""
    with stalled() as client:
        client.send("initialize", 0, **LEGACY)
        client.receive()
        client.send("notifications/initialized")
        client.send("tools/call", 1, **MODELS, padding="x" * 60_000_000)
        client.send("tools/list", 2)
        assert client.receive()["id"] == 2
        (pid,) = launchers_of(client.data)
        assert cpu_seconds(pid) < 5
        client.release()
        assert client.receive()["id"] == 1


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("end", ["EOF", "SIGTERM", "SIGKILL"])
def test_however_a_first_start_ends_nothing_of_it_stays(
    moment: str, end: str, stalled: Callable[..., AbstractContextManager[Stalled]]
) -> None:
    with stalled() as client:
        client.send("initialize", 0, **LEGACY)
        client.receive()
        if moment == "after":
            client.release()
            client.server()
            client.send("tools/call", 1, **MODELS)
            client.receive()
        if end == "EOF":
            assert client.process.stdin
            client.process.stdin.close()
            client.process.stdin = None
            assert client.process.wait(60) == 0
        elif end == "SIGTERM":
            client.process.send_signal(signal.SIGTERM)
            assert client.process.wait(60) in (143, -signal.SIGTERM)
        else:
            # uv's child: uv passes no SIGKILL on.
            for pid in launchers_of(client.data):
                os.kill(pid, signal.SIGKILL)
            client.process.wait(60)
        until(lambda: not servers_of(client.data))


def launchers_of(data: Path) -> list[int]:
    """The launcher, without uv before it and the installation after it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            inside = f"HOME={data}\0".encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if (
            inside
            and b"python" in words[0]
            and words[-2:] == [b"mcp", b""]
            and b"codex_counsel" not in words
        ):
            found.append(int(entry.name))
    assert found
    return found


def test_a_server_that_is_killed_ends_the_launcher_with_its_code(
    stalled: Callable[..., AbstractContextManager[Stalled]],
) -> None:
    with stalled() as client:
        client.send("server/discover", 0, **MODERN)
        client.receive()
        client.release()
        os.kill(client.server(), signal.SIGKILL)
        assert client.process.wait(60) == 128 + signal.SIGKILL


def test_a_call_that_cannot_wait_any_longer_is_told_so_and_the_next_one_is_served(
    stalled: Callable[..., AbstractContextManager[Stalled]],
) -> None:
    with stalled("s.HOLD_SECONDS = 0.2") as client:
        client.send("initialize", 0, **LEGACY)
        client.receive()
        client.send("notifications/initialized")
        client.send("tools/call", 1, **MODELS)
        reply = client.receive()["result"]
        assert reply["isError"]
        error = reply["structuredContent"]["error"]
        assert (error["code"], error["retryable"]) == ("not_installed", True)
        assert error["retry_after_ms"]
        for words in (error["message"], error["repair"]):
            assert words in reply["content"][0]["text"]
        client.release()
        client.server()
        client.send("tools/call", 2, **MODELS)
        assert client.receive()["result"]["structuredContent"]["ok"]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A plugin that cannot be installed."""
    root = tmp_path / "plugin"
    (root / "src").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        "[project]\nname = 'codex-counsel'\nversion = '1'\n", "utf-8"
    )
    (root / "uv.lock").write_text("broken", "utf-8")
    return root


def test_where_it_cannot_be_installed_each_call_says_why_in_the_form_of_the_server(
    tmp_path: Path, broken: Path
) -> None:
    with start_server(tmp_path, broken) as process:
        assert initialize(process)["result"]["serverInfo"]["name"] == "counsel"
        result = ask(process, "tools/call", {"name": "codex_apply", "arguments": {}})[
            "result"
        ]
        wire = result["structuredContent"]
        error = CounselError(Code.NOT_INSTALLED, wire["error"]["message"])
        assert "error: Failed to parse `uv.lock`" in error.message
        assert wire == failed("codex_apply", error).wire()
        assert result["content"][0]["text"] == text_of(wire)
        read = ask(process, "resources/read", {"uri": "codex://schema/envelope"})
        assert "Failed to parse `uv.lock`" in read["error"]["message"]


def test_a_full_disk_is_named_beside_what_uv_said(
    tmp_path: Path, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    installations = importlib.import_module("codex_counsel_start.installation")
    usage = SimpleNamespace(free=2_000_000)
    monkeypatch.setattr(installations.shutil, "disk_usage", lambda _: usage)
    installation = installations.Installation(broken, tmp_path, tmp_path / "venv-0")

    def problem() -> str:
        assert not installation.is_ready()
        return str(installation.problem)

    words = until(problem)
    assert words.endswith(f"There are only 2 MB left for {tmp_path}.")


def test_after_a_failure_the_next_call_tries_again(
    tmp_path: Path, broken: Path
) -> None:
    with start_server(tmp_path, broken, "s.RETRY_SECONDS = 0") as process:
        initialize(process)
        call = {"name": "codex_status", "arguments": {}}
        first = ask(process, "tools/call", call)["result"]["content"][0]["text"]
        assert "Failed to parse `uv.lock`" in first
        (broken / "uv.lock").unlink()
        second = ask(process, "tools/call", call)["result"]["content"][0]["text"]
        assert "it has no uv.lock" in second


@pytest.mark.parametrize("trouble", ["offline", "stalled"])
def test_without_a_network_and_with_an_empty_cache_a_call_says_so(
    trouble: str, tmp_path: Path
) -> None:
    env = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    with socket.create_server(("127.0.0.1", 0)) as mute:
        proxy = f"http://127.0.0.1:{mute.getsockname()[1]}"
        if trouble == "offline":
            env["UV_OFFLINE"] = "1"
        else:
            env |= {"HTTPS_PROXY": proxy, "ALL_PROXY": proxy}
            env |= {"UV_HTTP_TIMEOUT": "1", "UV_HTTP_RETRIES": "0"}
        with start_server(tmp_path, ROOT, "", **env) as process:
            assert initialize(process)["result"]["capabilities"]["tools"]
            call = {"name": "codex_status", "arguments": {}}
            result = ask(process, "tools/call", call)["result"]
    assert result["structuredContent"]["error"]["code"] == "not_installed"
    assert "could not be installed. uv said:" in result["content"][0]["text"]


@pytest.mark.parametrize("obstacle", ["the wrong folder", "no place to install"])
def test_what_is_hopeless_from_the_start_refuses_the_connection(
    obstacle: str, tmp_path: Path
) -> None:
    data = tmp_path
    root = ROOT
    words = f"{tmp_path} is not the folder of codex-counsel"
    if obstacle == "the wrong folder":
        root = tmp_path
    else:
        data = tmp_path / "file"
        data.touch()
        words = f"codex-counsel cannot be installed in {data}: File exists"
    with start_server(tmp_path, root, CLAUDE_PLUGIN_DATA=str(data)) as process:
        assert words in initialize(process)["error"]["message"]
        discovered = ask(process, "server/discover", MODERN)
        assert words in discovered["error"]["message"]
        call = {"name": "codex_status", "arguments": {}}
        result = ask(process, "tools/call", call)["result"]
        assert words in result["content"][0]["text"]


def test_the_server_gets_the_environment_of_the_user_and_the_settings_of_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    start = importlib.import_module("codex_counsel_start")
    handed: list[Any] = []
    monkeypatch.setattr(os, "execve", lambda *settings: handed.extend(settings))
    settings = {
        "PATH": f"{sys.prefix}/bin{os.pathsep}/usr/bin",
        "VIRTUAL_ENV": sys.prefix,
        "UV": "/usr/bin/uv",
        "CLAUDE_PLUGIN_OPTION_MODEL": "gpt-9",
        "CLAUDE_PLUGIN_OPTION_EFFORT": "",
        "CLAUDE_PLUGIN_OPTION_READ_BOUNDARY": "${user_config.read_boundary}",
        "CLAUDE_PLUGIN_OPTION_PROFILE": "mine",
        "CODEX_COUNSEL_PROFILE": "yours",
    }
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    start._hand_over(tmp_path, ["mcp"])
    python, argv, env = handed
    assert argv == [python, "-I", "-m", "codex_counsel", "mcp"]
    assert {
        name: value
        for name, value in env.items()
        if not name.startswith("CLAUDE_PLUGIN_OPTION")
    } == {
        "PATH": "/usr/bin",
        "CODEX_COUNSEL_MODEL": "gpt-9",
        "CODEX_COUNSEL_PROFILE": "yours",
    }


def test_every_state_of_the_code_has_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    venv = importlib.import_module("codex_counsel_start.venv")
    root = tmp_path / "plugin"
    (root / "src").mkdir(parents=True)
    versions = set()
    for name in ("uv.lock", "pyproject.toml", "src/a.py", "src/b.md"):
        for text in ("one", "two"):
            for file in ("uv.lock", "pyproject.toml", "src/a.py", "src/b.md"):
                (root / file).write_text(text if file == name else "same", "utf-8")
            versions.add(venv.path(root, tmp_path))
    (root / "src/a.pyc").touch()
    assert venv.path(root, tmp_path) in versions
    assert len(versions) == 8
    # Whoever imports the code meanwhile writes such a file, and renames it at once.
    (root / "src/__pycache__").mkdir()
    (root / "src/__pycache__/a.cpython-311.pyc.140127001").touch()
    assert venv.path(root, tmp_path) in versions


def test_an_environment_that_a_server_holds_or_used_lately_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    venv = importlib.import_module("codex_counsel_start.venv")
    for name in ("old", "held", "fresh"):
        (tmp_path / f"venv-{name}").mkdir()
        (tmp_path / f"venv-{name}/in-use").touch()
    venv.hold(tmp_path / "venv-held")
    for name in ("old", "held"):
        os.utime(tmp_path / f"venv-{name}/in-use", (0, 0))
    venv._drop_old(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("venv-*")) == [
        "venv-fresh",
        "venv-held",
    ]


def test_an_environment_on_a_disk_that_takes_no_writes_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    venv = importlib.import_module("codex_counsel_start.venv")
    made = tmp_path / "venv-made"
    (made / "bin").mkdir(parents=True)
    for name in ("in-use", "bin/python"):
        (made / name).touch()
    open_file = os.open

    def read_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return open_file(path, flags, *rest, **more)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "utime", refuse)
    assert venv.hold(made)


def test_what_cannot_be_locked_is_left_alone_and_spoils_no_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "src/launcher/src"))
    venv = importlib.import_module("codex_counsel_start.venv")
    for name in ("one", "two"):
        (tmp_path / f"venv-{name}").mkdir()
        (tmp_path / f"venv-{name}/in-use").touch()
        os.utime(tmp_path / f"venv-{name}/in-use", (0, 0))
    (tmp_path / "venv-one/in-use").unlink()
    (tmp_path / "venv-one/in-use").mkdir()
    lock = fcntl.flock

    def lock_only_where_writable(file: Any, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock_only_where_writable)
    venv._drop_old(tmp_path)
    assert [path.name for path in tmp_path.glob("venv-*")] == ["venv-one"]
