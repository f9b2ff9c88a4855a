"""Run one command against several states of a repository: what was returned, what it began with, and others.

Each state is a tree object of the shadow. It is checked out anew for each run, at one and
the same path, so nothing that Codex or an earlier run left (caches, ignored files) is
there, and one boundary holds for all.

Commands find the environments of the user's workspace where they are used to: as links.
The boundary says whether they can be read; nothing can be written there.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import CommandRun, Steps
from codex_counsel.prepare.environments import NAMES


@dataclass(frozen=True)
class States:
    """`prefix` is the workspace below the top of the tree, `absent` are files that no state has.

    `environments` are directories of the user with the places in the tree that show them.
    To be used once the tree is captured: it replaces it.
    """

    shadow: Shadow
    steps: Steps
    prefix: str
    absent: tuple[bytes, ...]
    environments: tuple[tuple[PurePath, Path], ...] = ()

    @classmethod
    def of(
        cls, shadow: Shadow, steps: Steps, prefix: str, workspace: Path | None = None
    ) -> States:
        """For a shadow whose tree is captured. `workspace` is the user's, None to show none of its environments."""
        environments: tuple[tuple[PurePath, Path], ...] = ()
        if workspace:
            environments = _environments(workspace, prefix)
            # A pattern such as `node_modules/` matches no link.
            exclude = shadow.git_dir / "info/exclude"
            exclude.write_text("".join(f"{name}\n" for name in NAMES), "ascii")
        return cls(shadow, steps, prefix, tuple(shadow.absent_files()), environments)

    @property
    def workspace(self) -> Path:
        """Where commands start."""
        return self.shadow.tree / self.prefix

    def run(self, tree: str, command: str) -> CommandRun:
        """Run the command in this state. Raises CounselError and OSError where the state cannot be made."""
        self.make(tree)
        return self.execute(command)

    def execute(self, command: str) -> CommandRun:
        """Run the command in the state that was made last.

        In what it wrote, paths in the tree begin with `.`: no reader finds the tree any more.
        """
        run = self.steps.run(command, self.workspace)
        output = run.output.replace(os.fsencode(self.shadow.tree), b".")
        return replace(run, output=output)

    def make(self, tree: str) -> None:
        """Check the state out anew. Raises CounselError and OSError."""
        self.shadow.replace_tree(tree, self.absent)
        self._make_workspace()
        for place, environment in self.environments:
            self._show(place, environment)

    def _make_workspace(self) -> None:
        """Raises OSError, and CounselError for a link: the command's process would start where it leads."""
        folder = self.shadow.tree
        for name in PurePath(self.prefix).parts:
            folder /= name
            if folder.is_symlink():
                raise CounselError(
                    Code.WORKTREE_FAILED,
                    f"{self.prefix}, where the command starts, is a link in this state",
                )
        folder.mkdir(parents=True, exist_ok=True)

    def _show(self, place: PurePath, environment: Path) -> None:
        """Link to the environment, where the state has nothing in that place."""
        folder = self.shadow.tree
        for name in place.parent.parts:
            folder /= name
            if folder.is_symlink():
                return
        link = folder / place.name
        if folder.is_dir() and not os.path.lexists(link):
            link.symlink_to(environment)

    def file_stamps(self) -> dict[bytes, tuple[int, ...]]:
        """What tells for each file of the state that is there whether it was touched since, also if it was put back.

        Raises CounselError.
        """
        stamps: dict[bytes, tuple[int, ...]] = {}
        top = os.fsencode(self.shadow.tree) + b"/"
        for name in self.shadow.git("ls-files", "-z").split(b"\0")[:-1]:
            # It may be behind a link, a file or a closed folder by now.
            with contextlib.suppress(OSError):
                status = os.lstat(top + name)
                # Nobody can set the time of the last change of an inode.
                stamps[name] = (status.st_ino, status.st_size, status.st_ctime_ns)
        return stamps


def _environments(workspace: Path, prefix: str) -> tuple[tuple[PurePath, Path], ...]:
    """The environments in the workspace and above it, up to the top of the tree; links are left out."""
    found = []
    places = (PurePath(prefix), *PurePath(prefix).parents)
    for place, folder in zip(places, (workspace, *workspace.parents), strict=False):
        for name in NAMES:
            environment = folder / name
            if environment.is_dir() and not environment.is_symlink():
                found.append((place / name, environment))
    return tuple(found)
