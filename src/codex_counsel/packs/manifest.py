"""What a pack says about itself: the request, and the repository that it starts from.

A **foundation** is a repository as its user sees it at one moment: the commit at HEAD without
its history, and the work that is not committed. Requests of one moment share it. A **pack** is
a request with the name (a digest) of its foundation, and what else it needs: further commits,
images. In a file, the foundation lies in the pack as its last member, so the file is complete;
a cluster is sent each foundation once.

No path of the sender's machine is in either, no environment and no login.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from codex_counsel.contract.reading import read
from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import JsonObject

HEAD_BUNDLE = "head.bundle"
"""In a foundation: a git bundle of the commit at HEAD, as the ref `HEAD_REF`."""
HEAD_REF = "refs/heads/head"
STAGED_PATCH = "staged.patch"
"""In a foundation, where it applies: the binary patch from that commit to the index."""
WORK_PATCH = "work.patch"
"""In a foundation, where it applies: the binary patch from the index to the working tree, untracked files among it."""
FINDINGS = "findings.jsonl"
"""In a foundation, where there are any: the findings on record of the repository."""
MORE_BUNDLE = "more.bundle"
"""In a pack, where it applies: a git bundle of the commits that the request needs beside that at HEAD."""
FOUNDATION = "foundation.tar"
"""In a pack that is a file: its foundation, whole."""
IMAGES = "images"
"""In a pack: the folder of the images, `0.png`, `1.jpeg`, ..."""
MAX_BRANCH = 250
"""Characters of the name of a branch."""

TOOLS: Mapping[str, type[RunRequest]] = {
    request.tool: request for request in (Consult, ReviewChanges, ReviewPlan, Delegate)
}
"""The requests that travel, by the names of their tools."""
STAYS_AT_HOME = (
    "workspace_root",
    "session_id",
    "profile",
    "extra_roots",
    "plan_path",
    "from_job",
    "images",
    "idempotency_key",
)
"""Arguments that mean something on one machine only: what they name is packed, or they are refused."""
POLICY = (
    "model",
    "effort",
    "opinion_effort",
    "instructions",
    "max_tokens",
    "max_input_bytes",
    "max_delegate_diff_bytes",
    "check_seconds",
    "max_proofs",
    "timeout_seconds",
    "project_file",
)
"""Settings of the sender that say what is asked: they travel, and hold unless the receiver's are stricter.

Settings that say what a run may do (`read_boundary`, `isolation`, `host_controls`, ...) are
the receiver's alone: it is his machine.
"""


@dataclass(frozen=True)
class Foundation:
    """`head` is the commit, `shallow` are the commits whose parents are not there.

    `branch` is the one that was checked out, `object_format` is git's: sha1 or sha256.
    `omitted` are displayed names of files that did not travel, each with the reason.
    `name` is the directory's, for people. `sender` is a random word of the machine that
    made it: so whoever has the same files makes another foundation, and does not share a
    repository with this sender.
    """

    name: str
    head: str
    branch: str | None
    object_format: str
    shallow: list[str]
    omitted: list[Any] = field(default_factory=list)
    sender: str = ""


@dataclass(frozen=True)
class Pack:
    """`request` are the arguments of `tool` by their names on the wire, without those of `STAYS_AT_HOME`.

    `id` are 32 hexadecimal digits: two runs of one pack are one run. `foundation` is the
    SHA-256 of the foundation's file, `prefix` the workspace below the top of the
    repository. `shallow` are the commits of `MORE_BUNDLE` whose parents are neither in it
    nor in the foundation. `images` are names of members, in the request's order.
    `settings` are those of `POLICY` that the sender has set. `pull` is the pull request of
    a review of one, as `review/pull_request.py` writes it.
    """

    id: str
    tool: str
    request: JsonObject
    foundation: str
    prefix: str = ""
    shallow: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    settings: JsonObject = field(default_factory=dict)
    pull: JsonObject | None = None


About = TypeVar("About", Foundation, Pack)


def parse(kind: type[About], about: JsonObject, name: str) -> About:
    """From the `about` of an archive that messages call `name`. Raises `pack_invalid`."""
    try:
        parsed: About = read(kind, about, "about")
    except ValueError as error:
        raise CounselError(
            Code.PACK_INVALID, f"{name} is damaged: its manifest: {error}"
        ) from None
    return parsed


def to_json(about: Foundation | Pack) -> JsonObject:
    """The reverse of `parse`."""
    return asdict(about)


def is_portable_branch(name: str) -> bool:
    """Whether a branch of this name can be checked out by the receiver; git may still refuse it."""
    # A lone surrogate or a NUL byte can be no argument.
    return name.isprintable() and not name.startswith("-") and len(name) <= MAX_BRANCH
