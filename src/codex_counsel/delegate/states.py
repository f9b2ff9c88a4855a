"""Run one command against several states of a repository: what was returned, what it began with, and others.

Each state is a tree object of the shadow. It is checked out anew for each run, at one and
the same path, so nothing that Codex or an earlier run left (caches, ignored files) is
there, and one boundary holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from codex_counsel.delegate.shadow import Shadow
from codex_counsel.kind import CommandRun, Steps


@dataclass(frozen=True)
class States:
    """`prefix` is the workspace below the top of the tree, `absent` are files that no state has.

    To be used once the tree is captured: it replaces it.
    """

    shadow: Shadow
    steps: Steps
    prefix: str
    absent: tuple[bytes, ...]

    @classmethod
    def of(cls, shadow: Shadow, steps: Steps, prefix: str) -> States:
        """For a shadow whose tree is captured."""
        return cls(shadow, steps, prefix, tuple(shadow.absent_files()))

    @property
    def workspace(self) -> Path:
        """Where commands start."""
        return self.shadow.tree / self.prefix

    def run(self, tree: str, command: str) -> CommandRun:
        """Run the command in this state. Raises CounselError and OSError where the state cannot be made."""
        self.shadow.replace_tree(tree, self.absent)
        self.workspace.mkdir(parents=True, exist_ok=True)
        return self.steps.run(command, self.workspace)

    def was_changed(self, tree: str) -> bool:
        """Whether the last run changed a file of the state that it ran in. New files do not count."""
        changed = self.shadow.git("diff-files", "--name-only", "-z", "--no-renames")
        return bool(changed) or self.shadow.write_tree() != tree
