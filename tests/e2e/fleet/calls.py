"""Functions that tests have a Dask worker call."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any


def task_whoami() -> dict[str, Any]:
    return {"pid": os.getpid(), "home": os.environ.get("HOME")}


async def whoami() -> dict[str, Any]:
    return task_whoami()


async def refuse() -> dict[str, Any]:
    return {"error": {"code": "auth_required", "message": "Log in."}}


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def wait_for_file(path: str) -> dict[str, Any]:
    while not Path(path).exists():
        time.sleep(0.01)
    return {}
