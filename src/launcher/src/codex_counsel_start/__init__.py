"""What `uvx` runs for the plugin: hand over to the server in an environment made from the lock file, once.

    codex-counsel-start ROOT mcp      ROOT is the plugin's folder, with pyproject.toml, uv.lock and src

The environment is a copy: its name is a hash of all it was made from, so neither an
update nor an edit changes the code of a server that runs. A later start needs no
package index. While the environment is being made, a stand-in answers the client.
Standard library only: so does `uvx` itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from codex_counsel_start import venv


def main() -> None:
    root, *words = sys.argv[1:] or sys.exit(__doc__)
    plugin = Path(root).resolve()
    home = _home()
    if words == ["--build"]:
        venv.build(plugin, home)
        return

    wanted = venv.path(plugin, home)
    if venv.hold(wanted):
        _hand_over(wanted, words)

    # Imported only where they are needed: most starts end above.
    from codex_counsel_start.installation import Installation
    from codex_counsel_start.stand_in import StandIn

    stand_in = StandIn(Installation(plugin, home, wanted))
    stand_in.serve(*_server(wanted, words))


def _home() -> Path:
    """Where environments are kept; Claude Code names the plugin's own folder."""
    given = os.environ.get("CLAUDE_PLUGIN_DATA", "")
    if os.path.isabs(given):  # noqa: PTH117  # an unexpanded ${…} is no path
        return Path(given)
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "codex-counsel"
    )


def _hand_over(made: Path, words: list[str]) -> NoReturn:
    """Become the server, so that the client's signals reach it."""
    argv, env = _server(made, words)
    os.execve(argv[0], argv, env)  # noqa: S606  # no shell


def _server(made: Path, words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The server's command line, and its environment: that of the user's shell and the plugin's settings."""
    env = dict(os.environ)
    own = os.path.join(sys.prefix, "bin") + os.pathsep  # noqa: PTH118  # compared as text
    env["PATH"] = env.get("PATH", "").removeprefix(own)
    for name in ("VIRTUAL_ENV", "UV", "UV_RUN_RECURSION_DEPTH"):
        env.pop(name, None)
    python = str(made / "bin" / "python")
    argv = [python, "-I", "-m", "codex_counsel", *words]
    return argv, env | _options(env)


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
