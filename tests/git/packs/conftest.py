"""A repository to be packed, and a receiver that needs nothing but git."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from codex_counsel.packs import archive, manifest
from codex_counsel.packs.foundation import MadeFoundation, make
from codex_counsel.packs.manifest import Foundation
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace
from tests.conftest import World
from tests.git.delegate.states import state
from tests.repositories import Repository

RAW = "* -text -eol -ident -filter -working-tree-encoding\n"


@dataclass(frozen=True)
class Sender(Repository):
    """The repository of a world, and what is packed of it. Packing must leave it as it is, byte for byte."""

    world: World | None = None

    @property
    def context(self) -> Context:
        assert self.world
        return self.world.counsel().context

    def workspace(self, below: str = ".") -> ResolvedWorkspace:
        return workspaces.resolve(self.context, str(self.root / below))

    @property
    def parts(self) -> Path:
        assert self.world
        directory = self.world.base / "parts"
        directory.mkdir(exist_ok=True)
        return directory

    def make(self, name: str = "foundation.tar") -> MadeFoundation:
        before = state(self.root)
        made = make(self.context, self.workspace(), self.parts / name)
        assert state(self.root) == before
        assert [path.name for path in self.parts.glob("foundation-*")] == []
        return made

    def receive(self, made: MadeFoundation | None = None) -> Received:
        made = made or self.make()
        return Received.of(made.path, self.root.parent / "receiver", self)


@dataclass(frozen=True)
class Received(Repository):
    """What a foundation is on another machine: made with nothing but what is in the file."""

    about: Foundation = None  # type: ignore[assignment]

    @classmethod
    def of(cls, file: Path, root: Path, like: Repository) -> Received:
        shutil.rmtree(root, ignore_errors=True)
        members = root / "members"
        members.mkdir(parents=True)
        with file.open("rb") as source:
            raw = archive.unpack(source, "it", "foundation", members)
        about = manifest.parse(Foundation, raw, "it")
        received = cls(root / "tree", like.env, about)
        received.init(f"--object-format={about.object_format}")
        git_dir = received.root / ".git"
        (git_dir / "info").mkdir(exist_ok=True)
        (git_dir / "info/attributes").write_text(RAW)
        if about.shallow:
            (git_dir / "shallow").write_text("".join(f"{x}\n" for x in about.shallow))
        received.unbundle(members / manifest.HEAD_BUNDLE)
        received.git("checkout", "--quiet", "-B", about.branch or "x", about.head)
        for name in (manifest.STAGED_PATCH, manifest.WORK_PATCH):
            options = ["--index"] if name == manifest.STAGED_PATCH else []
            if (members / name).exists():
                received.git("apply", "--binary", *options, str(members / name))
        received.git("fsck", "--strict")
        return received

    def unbundle(self, bundle: Path) -> None:
        self.git("bundle", "unbundle", str(bundle))

    def member(self, name: str) -> bytes | None:
        path = self.root.parent / "members" / name
        return path.read_bytes() if path.exists() else None


def status(repository: Repository) -> list[str]:
    argv = ("status", "--porcelain=v1", "--branch", "-uall", "-z", "--no-renames")
    return repository.git(*argv).rstrip("\0").split("\0")[1:]


@pytest.fixture
def empty(world: World, own_git_settings: Path) -> Sender:
    """A repository before its first commit."""
    return Sender(world.workspace, world.repository.env, world).init()


@pytest.fixture
def sender(empty: Sender) -> Sender:
    """Two commits, a few files of several kinds."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.commit("first")
    empty.write("docs/readme.md", "# Title\n")
    empty.write("run.sh", "#!/bin/sh\n", 0o755)
    empty.write("logo.png", bytes(range(256)) * 4)
    empty.write(".gitignore", "*.log\nbuild/\n")
    (empty.root / "latest").symlink_to("docs/readme.md")
    empty.commit("second")
    return empty
