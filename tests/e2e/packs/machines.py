"""Two machines: one where jobs run, and one where their results are taken. Each has its own home, state and clone."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import Loopback, Script
from codex_counsel.packs import archive
from codex_counsel.packs.archive import Member
from codex_counsel.packs.result_writer import write_result
from codex_counsel.packs.sent import Sent, note_sent
from codex_counsel.services.take import Taken, take_stream
from tests.conftest import World

PACK = "ab" * 16
Model = Callable[..., Loopback]


@dataclass
class Machines:
    """`there` runs jobs, `here` takes their results. `models` starts the scripted model that `there` asks."""

    there: World
    here: World
    models: list[Loopback]

    @classmethod
    def of(cls, base: Path, binary: str) -> Machines:
        return cls(World(base / "there", binary), World(base / "here", binary), [])

    def model(self, script: Script) -> Loopback:
        """Start the model of the machine that runs jobs."""
        server = Loopback(script)
        self.models.append(server.__enter__())
        self.there.configure(server.config_toml())
        return server

    def close(self) -> None:
        for server in self.models:
            server.__exit__(None, None, None)

    def copy_repository(self) -> None:
        """Give the machine that takes results the same repository, with the uncommitted work in it."""
        shutil.rmtree(self.here.workspace)
        shutil.copytree(self.there.workspace, self.here.workspace, symlinks=True)

    def note(self, tool: str, pack: str = PACK, **changes: Any) -> None:
        """Remember here that the pack was made."""
        values = {
            "tool": tool,
            "workspace": str(self.here.workspace),
            "subject": "As it was asked",
        }
        note_sent(self.here.state, pack, Sent(**{**values, **changes}))

    def result(self, job_id: str, pack: str = PACK, *, events: bool = False) -> Path:
        """Write what came of a job there into a file."""
        target = self.there.base / f"{job_id}.result"
        write_result(Store(self.there.state), job_id, pack, target, events=events)
        return target

    def take(self, file: Path | bytes, **arguments: Any) -> Taken:
        """Take a result here, or the bytes of one."""
        data = file if isinstance(file, bytes) else file.read_bytes()
        context = self.here.counsel().context
        return take_stream(context, io.BytesIO(data), "the.result", **arguments)

    def bring(self, wire: EnvelopeDict, **arguments: Any) -> Taken:
        """Write and take what came of a job there."""
        self.note(wire["tool"])
        return self.take(self.result(wire["meta"]["job_id"]), **arguments)

    @property
    def jobs(self) -> list[str]:
        """All that lies beside the jobs here, hidden or not."""
        folder = self.here.state / "jobs"
        if not folder.is_dir():
            return []
        return sorted(path.name for path in folder.iterdir())


def unpacked(file: Path, into: Path) -> dict[str, bytes]:
    """The members of a result by their names."""
    into.mkdir()
    with file.open("rb") as source:
        archive.unpack(source, file.name, "result", into)
    return {
        str(path.relative_to(into)): path.read_bytes()
        for path in into.rglob("*")
        if path.is_file()
    }


def packed(job_id: str, members: Mapping[str, bytes], pack: str = PACK) -> bytes:
    """The bytes of a result with these members, as a forger makes it."""
    files = [Member(name, content) for name, content in members.items()]
    return b"".join(archive.chunks("result", {"pack": pack, "job": job_id}, files))


def forged(
    file: Path, changes: Mapping[str, Callable[[Any], Any] | bytes | None]
) -> bytes:
    """A result in which some members are others: `changes` has a function of the parsed JSON, bytes, or None."""
    into = file.with_suffix(".unpacked")
    shutil.rmtree(into, ignore_errors=True)
    members = unpacked(file, into)
    job_id = file.stem
    for name, change in changes.items():
        member = f"{job_id}/{name}"
        if change is None:
            del members[member]
        elif isinstance(change, bytes):
            members[member] = change
        else:
            value = change(json.loads(members[member]))
            members[member] = json.dumps(value).encode()
    return packed(job_id, members)


def files_below(root: Path) -> Iterator[Path]:
    yield from (path for path in root.rglob("*") if path.is_file())
