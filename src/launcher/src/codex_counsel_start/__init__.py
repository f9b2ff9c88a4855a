"""What `uvx` runs for the plugin: hand over to the server in an environment made from the lock file, once.

    codex-counsel-start ROOT mcp      ROOT is the plugin's folder, with pyproject.toml, uv.lock and src

The environment is a copy: its name is a hash of all it was made from, so neither an
update nor an edit changes the code of a server that runs. A later start needs no
package index. Standard library only: so does `uvx` itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from codex_counsel_start import venv
from codex_counsel_start.stand_in import serve

PATIENCE_SECONDS = 25
"""Claude Code gives a server 30 seconds."""
INSTALLING = (
    "codex-counsel is still being installed, which happens once. "
    "Its tools appear after a reconnect (/mcp) in a minute."
)


def main() -> int:
    root, *words = sys.argv[1:] or sys.exit(__doc__)
    home = _home()
    if words == ["--build"]:
        venv.build(Path(root).resolve(), home)
        return 0
    made, problem = _made(Path(root).resolve(), home)
    if made:
        _hand_over(made, words)
    return serve(problem)


def _home() -> Path:
    """Where environments are kept; Claude Code names the plugin's own folder."""
    given = os.environ.get("CLAUDE_PLUGIN_DATA", "")
    if os.path.isabs(given):  # noqa: PTH117  # an unexpanded ${…} is no path
        return Path(given)
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "codex-counsel"
    )


def _made(root: Path, home: Path) -> tuple[Path | None, str]:
    """The environment, made now if need be; else why there is none."""
    if not (root / "uv.lock").is_file():
        return None, f"{root} is not the folder of codex-counsel: it has no uv.lock."
    wanted = venv.path(root, home)
    if venv.hold(wanted):
        return wanted, ""
    try:
        home.mkdir(parents=True, exist_ok=True)
        # In a session of its own: a client that loses its patience does not stop the
        # installation.
        with (home / "install.log").open("wb") as log:
            argv = [
                sys.executable,
                "-I",
                "-m",
                "codex_counsel_start",
                str(root),
                "--build",
            ]
            maker = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        failed = maker.wait(PATIENCE_SECONDS) != 0
    except subprocess.TimeoutExpired:
        return None, INSTALLING
    except OSError as error:
        return None, f"codex-counsel cannot be installed in {home}: {error.strerror}."
    if failed or not venv.hold(wanted):
        said = (home / "install.log").read_text("utf-8", "replace").strip()
        return None, f"codex-counsel could not be installed. uv said:\n{said[-1500:]}"
    return wanted, ""


def _hand_over(made: Path, words: list[str]) -> NoReturn:
    """Become the server, so that the client's signals reach it, in the environment that the user's shell had."""
    env = dict(os.environ)
    own = os.path.join(sys.prefix, "bin") + os.pathsep  # noqa: PTH118  # compared as text
    env["PATH"] = env.get("PATH", "").removeprefix(own)
    for name in ("VIRTUAL_ENV", "UV", "UV_RUN_RECURSION_DEPTH"):
        env.pop(name, None)
    python = str(made / "bin" / "python")
    argv = [python, "-I", "-m", "codex_counsel", *words]
    os.execve(python, argv, env | _options(env))  # noqa: S606  # no shell


def _options(env: dict[str, str]) -> dict[str, str]:
    """The plugin's settings, as `.mcp.json` passes them; an environment variable of the user's goes first."""
    options = {}
    for name, value in env.items():
        setting = name.replace("CLAUDE_PLUGIN_OPTION_", "CODEX_COUNSEL_")
        if (
            setting != name
            and value.strip()
            and not value.startswith("${")
            and not env.get(setting, "").strip()
        ):
            options[setting] = value
    return options
