"""The guide to clusters: what it shows is what Dask takes, and its certificates keep strangers out."""

from __future__ import annotations

import ast
import configparser
import contextlib
import inspect
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import dask
import pytest
import yaml
from distributed import Nanny, Scheduler, SSHCluster
from distributed.cli import dask_scheduler, dask_worker

from codex_counsel.loopback import Loopback, say
from tests.conftest import World, until
from tests.e2e.batch.runs import number_of, results, write_requests
from tests.e2e.fleet.nodes import QUIET
from tests.fences import fences

Model = Callable[..., Loopback]

ROOT = Path(__file__).parents[2]
FLEET = (ROOT / "docs/how-to/fleet.md").read_text("utf-8")
DASK = Path(sys.executable).parent / "dask"
COMMANDS: Mapping[str, click.Command] = {
    "scheduler": dask_scheduler.main,
    "worker": dask_worker.main,
}


def dask_commands() -> Iterator[list[str]]:
    """Every command of Dask that the page shows: in a shell, as a service, or of a container."""
    for block in fences(FLEET, ""):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if "dask" in words:
                yield words[words.index("dask") + 1 :]
    for container in containers():
        words = container["command"]
        if words[0] == "sh":
            (script,) = container["args"]
            (loop,) = re.findall(r"\bdo (.*?);", script)
            words = shlex.split(loop)
        assert words[0] == "dask"
        yield words[1:]
    program, *words = shlex.split(service()["ExecStart"])
    assert Path(program).name == "dask"
    yield words


def service() -> configparser.SectionProxy:
    """The service of systemd that the page shows."""
    (text,) = fences(FLEET, "ini")
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    return unit["Service"]


def cluster() -> Any:
    (text,) = [block for block in fences(FLEET, "yaml") if "DaskCluster" in block]
    return yaml.safe_load(text)


def containers() -> list[dict[str, Any]]:
    spec = cluster()["spec"]
    found: list[dict[str, Any]] = []
    for part in ("worker", "scheduler"):
        found += spec[part]["spec"]["containers"]
    return found


def test_the_commands_of_dask_are_those_that_dask_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ca", "node", "node-key"):
        (tmp_path / f"{name}.pem").touch()
    shown = list(dask_commands())
    assert {words[0] for words in shown} == {"scheduler", "worker"}
    for name, *arguments in shown:
        context = COMMANDS[name].make_context(
            name, list(arguments), resilient_parsing=False
        )
        if name == "worker":
            assert context.params["resources"] == "codex=4"
            assert context.params["nthreads"] >= 4
        assert context.params["dashboard"] is False
        if name == "scheduler":
            # It listens there in any case, by default for everybody.
            assert context.params["dashboard_address"] == "127.0.0.1:0"


def test_a_worker_of_systemd_is_started_again_and_its_runs_outlive_it() -> None:
    found = service()
    assert (found["Restart"], found["KillMode"]) == ("always", "process")


def test_the_cluster_for_kubernetes_closes_what_codex_does_not_need() -> None:
    spec = cluster()["spec"]
    worker = spec["worker"]["spec"]
    assert worker["securityContext"]["runAsNonRoot"] is True
    assert worker["automountServiceAccountToken"] is False
    assert spec["scheduler"]["service"]["type"] == "ClusterIP"
    (container,) = worker["containers"]
    (key,) = [entry for entry in container["env"] if entry["name"] == "CODEX_API_KEY"]
    assert "secretKeyRef" in key["valueFrom"]
    mounted = {entry["name"] for entry in container["volumeMounts"]}
    assert mounted == {entry["name"] for entry in worker["volumes"]}


def test_the_script_for_ssh_calls_dask_with_arguments_that_it_has() -> None:
    (script,) = [text for text in fences(FLEET, "python") if "SSHCluster" in text]
    call = next(
        node
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SSHCluster"
    )
    keywords = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    inspect.signature(SSHCluster).bind([], **keywords)
    inspect.signature(Nanny).bind(**keywords["worker_options"])
    inspect.signature(Scheduler).bind(**keywords["scheduler_options"])


def test_every_script_compiles() -> None:
    for script in fences(FLEET, "python"):
        compile(script, "fleet.md", "exec")


# --- TLS


def shown(*words: str) -> list[str]:
    """The one command of the page that has all these words, as an argv."""
    lines = [line for block in fences(FLEET, "") for line in block.splitlines()]
    (line,) = [line for line in lines if all(word in line for word in words)]
    return shlex.split(line)


def variables_of(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """The variables in front of a command, and the command."""
    count = sum(1 for _ in itertools.takewhile(lambda word: "=" in word, argv))
    return dict(word.split("=", 1) for word in argv[:count]), argv[count:]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with the files that the page names: those of a node and of the batch, and one of a stranger."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path / "certificates"
    folder.mkdir()
    key = ("req", "-newkey", "rsa:2048", "-nodes")
    for authority in ("ca", "other"):
        files = ("-keyout", f"{authority}-key.pem", "-out", f"{authority}.pem")
        openssl(
            folder, *key, "-x509", "-days", "2", "-subj", f"/CN={authority}", *files
        )
    for owner, authority in (("node", "ca"), ("me", "ca"), ("stranger", "other")):
        files = ("-keyout", f"{owner}-key.pem", "-out", f"{owner}.csr")
        openssl(folder, *key, "-subj", f"/CN={owner}", *files)
        signer = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}-key.pem")
        files = ("-in", f"{owner}.csr", "-out", f"{owner}.pem")
        openssl(
            folder, "x509", "-req", "-days", "2", "-CAcreateserial", *signer, *files
        )
    return folder


@dataclass
class Secured:
    """A cluster with TLS, started by the commands of the page in the folder of the certificates."""

    folder: Path
    address: str
    env: dict[str, str]

    def answer(
        self, address: str, variables: Mapping[str, str], seconds: float = 3
    ) -> str:
        """Whether the scheduler lets a client in that has these variables and tries for so long."""
        result = subprocess.run(
            [sys.executable, "-c", CLIENT, address, str(seconds)],
            cwd=self.folder,
            env={**self.env, **variables},
            check=True,
            capture_output=True,
            text=True,
        )
        return result.stdout.strip()


CLIENT = """
import sys
from distributed import Client
try:
    with Client(sys.argv[1], timeout=float(sys.argv[2])):
        print("let in")
except OSError:
    print("kept out")
"""


@pytest.fixture
def secured(certificates: Path, world: World) -> Iterator[Secured]:
    """The scheduler of the page and one node, which is the machine of `world`."""
    file = certificates / "scheduler.json"
    with contextlib.ExitStack() as started:

        def start(argv: list[str], env: Mapping[str, str]) -> None:
            log = started.enter_context((certificates / "log").open("ab"))
            process = subprocess.Popen(
                [str(DASK), *argv[1:]],
                cwd=certificates,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            started.callback(stop, process)

        scheduler = shown("dask scheduler", "tls")
        scheduler[scheduler.index("tls://:8786")] = "tls://127.0.0.1:0"
        own = {"PATH": os.environ["PATH"], "HOME": str(certificates)}
        start([*scheduler, "--scheduler-file", str(file)], own)
        address = until(lambda: address_in(file))
        worker = shown("dask worker", "tls")
        worker[worker.index(ADDRESS)] = address
        start(worker, world.env)
        yield Secured(certificates, address, own)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, and wait until it has."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def address_in(file: Path) -> str | None:
    """The address that a scheduler has written, once it is there."""
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError):
        return None


ADDRESS = "tls://scheduler.internal:8786"


def test_the_variables_that_quieten_dask_are_its_own_and_those_of_our_nodes() -> None:
    (block,) = fences(FLEET, "properties")
    variables, rest = variables_of(block.split())
    assert (variables, rest) == (QUIET, [])
    for name in variables:
        key = name.removeprefix("DASK_").lower().replace("__", ".")
        assert dask.config.get(key) is not None


def test_a_scheduler_lets_in_only_who_has_a_certificate_as_the_page_says(
    secured: Secured,
) -> None:
    variables, _ = variables_of(shown("DASK_DISTRIBUTED__"))
    strangers = {
        name: value.replace("me", "stranger") for name, value in variables.items()
    }
    assert secured.answer(secured.address, variables, seconds=30) == "let in"
    assert secured.answer(secured.address, strangers) == "kept out"
    plain = secured.address.replace("tls", "tcp")
    assert secured.answer(plain, {}) == "kept out"


def test_a_batch_runs_on_a_cluster_with_certificates_by_the_command_of_the_page(
    secured: Secured, world: World, model: Model, own_git_settings: Path
) -> None:
    server = model(lambda request: say(f"It is {number_of(request)}."))
    sender = World(world.base / "sender")
    variables, argv = variables_of(shown("DASK_DISTRIBUTED__"))
    argv[argv.index("requests.jsonl")] = str(write_requests(sender, 3))
    argv[argv.index(ADDRESS)] = secured.address
    files = {name: str(secured.folder / value) for name, value in variables.items()}
    ended = subprocess.run(
        [sys.executable, "-m", "codex_counsel", *argv[1:], "--output-dir", "out"],
        env={**sender.env, **files},
        cwd=sender.repository.begin().root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = {row["id"]: row["answer"] for row in results(sender.workspace / "out")}
    assert found == {f"item-{number}": f"It is {number}." for number in range(3)}
    assert len(server.requests) == 3
