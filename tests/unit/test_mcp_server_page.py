"""The page about the successor of `codex mcp-server` names what a caller may set, and shows what is right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from codex_counsel.claude.removed_command import removed_command
from codex_counsel.compat import config
from codex_counsel.contract.compat import CodexCall, CodexReplyCall
from codex_counsel.contract.request import ToolRequest, argument_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/mcp-server.md").read_text("utf-8")
NAMES = set(re.findall(r"`([\w.-]+)`", PAGE))


@pytest.mark.parametrize("call", [CodexCall, CodexReplyCall])
def test_every_argument_is_explained(call: type[ToolRequest]) -> None:
    arguments = {name.replace("_", "-") for name in argument_names(call)}
    explained = NAMES | {re.sub("I", "-i", name) for name in NAMES}
    assert arguments - explained == set()


def test_every_key_of_config_that_is_passed_on_is_named() -> None:
    assert set(config.PASSED) - NAMES == set()


def test_the_configurations_start_the_successor() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    servers = [json.loads(block)["mcpServers"]["codex"] for block in blocks]
    assert len(servers) == 3
    for server in servers:
        argv = [server["command"], *server["args"]]
        assert removed_command(argv) is None
        assert argv[-2:] == ["codex-mcp-server", "mcp-server"]
