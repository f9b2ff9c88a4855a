"""Clients of a server that runs as their child process, in both eras of the protocol."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from mcp_types import Implementation

from tests.conftest import World

Connect = Callable[..., AbstractAsyncContextManager[Client[Any]]]


@pytest.fixture(params=["legacy", "auto"])
def era(request: pytest.FixtureRequest) -> str:
    """How the client begins: by the handshake, or by discovery."""
    return str(request.param)


@pytest.fixture
def connect(world: World, era: str) -> Connect:
    """What starts a server and a client for it, as a context manager."""

    @asynccontextmanager
    async def start_client(
        name: str = "a-test", **settings: str
    ) -> AsyncIterator[Client[Any]]:
        transport = StdioTransport(
            command=sys.executable,
            args=["-m", "codex_counsel", "mcp"],
            env={**world.env, **settings},
            cwd=str(world.workspace),
            keep_alive=False,
            log_file=world.base / "stderr",
        )
        about = Implementation(name=name, version="1")
        async with Client(transport, mode=era, client_info=about) as client:
            yield client

    return start_client
