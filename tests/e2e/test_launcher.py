"""What `uvx` starts for the plugin: an environment made once, shared, explained where it cannot be made."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import living, until
from tests.e2e.claude.conftest import LAUNCHER, ROOT, uv, uv_cache


@contextmanager
def start_server(
    data: Path, root: Path = ROOT, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The command of `.mcp.json`."""
    own = {
        "HOME": str(data),
        "CLAUDE_PLUGIN_DATA": str(data),
        "UV_CACHE_DIR": uv_cache(),
        "PATH": os.environ["PATH"],
    }
    pipe = subprocess.PIPE
    argv = [uv(), *LAUNCHER, str(root), "mcp"]
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
        assert initialize(later)["result"]["serverInfo"]["version"] != "0"
        later.send_signal(signal.SIGTERM)
        assert later.wait(60) in (128 + signal.SIGTERM, -signal.SIGTERM)
    until(lambda: not living(f"HOME={tmp_path}"))


def test_where_it_cannot_be_installed_a_stand_in_says_why(tmp_path: Path) -> None:
    root = tmp_path / "plugin"
    (root / "src").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        "[project]\nname = 'codex-counsel'\nversion = '1'\n", "utf-8"
    )
    (root / "uv.lock").write_text("broken", "utf-8")
    with start_server(tmp_path, root) as process:
        instructions = initialize(process)["result"]["instructions"]
        assert (
            "codex-counsel could not be installed. uv said:\nerror: Failed to parse `uv.lock`"
            in instructions
        )
        assert "go on without it" in instructions
        (tool,) = ask(process, "tools/list", {})["result"]["tools"]
        result = ask(process, "tools/call", {"name": tool["name"], "arguments": {}})[
            "result"
        ]
        assert result["isError"]
        assert "Failed to parse `uv.lock`" in result["content"][0]["text"]


def test_the_wrong_folder_is_named(tmp_path: Path) -> None:
    with start_server(tmp_path, tmp_path) as process:
        assert (
            f"{tmp_path} is not the folder of codex-counsel"
            in initialize(process)["result"]["instructions"]
        )


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
