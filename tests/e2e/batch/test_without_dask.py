"""A batch where Dask is not installed: it needs none on one machine, and says what a cluster needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, say
from tests.conftest import World
from tests.e2e.batch.runs import batch, codes, write_requests

WITHOUT_DASK = """
import sys
# What is None here cannot be imported, as if it were not installed.
sys.modules["dask"] = sys.modules["distributed"] = None
from codex_counsel.__main__ import main
sys.exit(main())
"""
Model = Callable[..., Loopback]
pytestmark = pytest.mark.usefixtures("own_git_settings")


def without_dask(
    world: World, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run the verb in a Python that has no Dask."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_DASK, "batch", *map(str, arguments)],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("address", ["local", "tcp://127.0.0.1:8786"])
def test_without_dask_a_cluster_is_refused_with_what_to_install_and_the_batch_is_kept(
    world: World, model: Model, address: str
) -> None:
    server = model(lambda _request: say("It is there."))
    world.repository.begin()
    directory = world.base / "batch"
    requests = write_requests(world, 2)
    ended = without_dask(
        world, requests, "--cluster", address, "--output-dir", directory, "--json"
    )
    assert ended.returncode == 3
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "cluster_failed"
    assert re.search("needs the package (dask|distributed),", error["message"])
    assert "pip install 'codex-counsel[fleet]'" in error["repair"]
    assert f"--resume {directory}" in error["repair"]
    assert (server.requests, codes(directory)) == ([], {})

    # With Dask, or without a cluster, it goes on.
    ended = batch(world, "--resume", directory, "--cluster", "none")
    assert (ended.returncode, len(codes(directory))) == (0, 2), ended.stderr


def test_without_dask_a_batch_of_this_machine_runs(world: World, model: Model) -> None:
    model(lambda _request: say("It is there."))
    directory = world.base / "batch"
    ended = without_dask(
        world, write_requests(world, 2), "--output-dir", directory, "--jobs", "2"
    )
    assert (ended.returncode, len(codes(directory))) == (0, 2), ended.stderr


def test_the_package_asks_for_dask_in_its_extra_alone() -> None:
    wanted = requires("codex-counsel") or []
    dask = [each for each in wanted if re.match(r"dask|distributed", each)]
    assert len(dask) == 1
    assert re.fullmatch(r"distributed>=[\d.]+ ?; ?extra == ['\"]fleet['\"]", dask[0]), (
        dask
    )
