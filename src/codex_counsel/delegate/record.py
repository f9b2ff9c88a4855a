"""What is kept of a delegated task: what its tree is made of (`spec.json`) and what came of it (`work.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.system.files import read_json_or_none
from codex_counsel.system.json_values import Json, JsonObject

WORK = "work.json"
"""The file of the job directory that holds a `DelegateResult`."""
CHECK = "check.json"
"""The file of the job directory that holds the `CheckResult` of a task with a check."""
READABLE_DIFF = "diff.txt"
"""The file with the diff for reading, where that is longer than what the result holds of it."""


@dataclass(frozen=True)
class DelegateSpec:
    """What a worker needs to make the working tree, as it stands in `spec.json` under the key `delegate`.

    `repository` is the user's common git directory, `denied` are absolute paths of which
    nothing may reach the tree, `prefix` is the workspace below the top of the
    repository, `again` the directory of the earlier job to go on from, `secrets` are
    names of tracked files that Codex cannot read. `git_timeout` is in seconds,
    `diff_limit` in bytes. `seed` is the directory of the job whose baseline this one has
    too. `check` is a command that the result must pass, `check_base` whether it is run on
    the baseline too.
    """

    workspace: str
    repository: str
    git_timeout: float
    diff_limit: int
    denied: tuple[str, ...]
    prefix: str = ""
    again: str | None = None
    secrets: tuple[str, ...] = ()
    seed: str | None = None
    check: str | None = None
    check_base: bool = True

    @classmethod
    def parse(cls, raw: Mapping[str, Json]) -> DelegateSpec:
        """From the JSON of `spec.json`. Raises TypeError for a record with fields missing or unknown."""
        lists = {name: tuple(raw.get(name, ())) for name in ("denied", "secrets")}
        return cls(**{**raw, **lists})


@dataclass
class DelegateResult:
    """What came of a task, JSON-ready. Paths in `files` are for reading.

    `names` holds for each file its path, its path before a rename, and git's mode; the
    paths in Latin-1, which keeps each byte as one character. `partial` says that the
    diff lacks changed files, which a warning names. `submodules` are those whose files
    were in the tree, in Latin-1 too. `lost` is why there is no
    diff of what was done: the work is still in the tree, which is not removed then.
    """

    base_sha: str
    diff: str
    diff_exact: bool
    diff_path: str
    diffstat: str
    files: list[JsonObject]
    names: list[list[str | None]]
    ignored: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    partial: bool = False
    submodules: list[str] = field(default_factory=list)
    lost: str | None = None

    @classmethod
    def not_captured(cls, base_sha: str, reason: str) -> DelegateResult:
        """The result of a tree that could not be captured."""
        return cls(
            base_sha,
            diff="",
            diff_exact=False,
            diff_path="",
            diffstat="",
            files=[],
            names=[],
            lost=reason,
        )

    @classmethod
    def load(cls, directory: Path) -> DelegateResult | None:
        """The result stored in a job directory; None where there is none that can be read."""
        raw = read_json_or_none(directory / WORK)
        try:
            return cls(**raw)
        except TypeError:
            return None
