"""What earlier reviews saw of a change: files that are not sent again, and files of which only the rest is.

The rest of a file is a diff that begins at a content which a review saw, not at the base.
All of them together cost the same few git processes: an index of its own holds the tree
under review with those contents in it, and git compares the two.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.contract.envelope import SeenEarlier
from codex_counsel.findings.identity import recorded_path
from codex_counsel.findings.seen import (
    PastReview,
    SeenStates,
    State,
    Step,
    content_of,
)
from codex_counsel.git import refs
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import GitError
from codex_counsel.review.changes.budget import SLACK
from codex_counsel.review.changes.diff_stream import LIST_AND_TEXT, DiffStream, FileDiff
from codex_counsel.system.temporary import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.comparison import Comparison
    from codex_counsel.review.changes.diff_stream import Change
    from codex_counsel.review.changes.model import ChangedFile, Scope

INDEX_PREFIX = "codex-counsel-index-"
MAX_CANDIDATES = 3
"""Contents of one file that are looked for in the object database, the newest first."""
MAX_NAMED = 20
"""Reviews that are named, those that saw most of the files first."""
MAX_HEADS = 5
"""Heads of earlier reviews that are compared with the present one. Each costs a process."""


class Rest(NamedTuple):
    """The diff of a file that begins at the content `prior`."""

    prior: str
    text: FileDiff


@dataclass(frozen=True)
class Earlier:
    """By the present name of a file: the review that saw it as it is now, or else what none has seen.

    `seen_in_part` are the reviews that saw what the rests begin at. `last_head` is the head
    of the newest complete review whose commits are among those of this change.
    `base_moved` are files seen whose old side is another now than reviews saw.
    """

    seen: Mapping[bytes, PastReview] = field(default_factory=dict)
    rests: Mapping[bytes, Rest] = field(default_factory=dict)
    seen_in_part: Mapping[bytes, PastReview] = field(default_factory=dict)
    last_head: str | None = None
    base_moved: frozenset[bytes] = frozenset()


NOTHING_SEEN = Earlier()


def base_ref(repo: Repo, scope: Scope, comparison: Comparison) -> str | None:
    """The full name of the ref that a branch or range is compared with, its dots after that of a range.

    None where it has no name that stands for one line of history, such as `HEAD~1`.
    """
    if scope.base_ref:
        return scope.base_ref
    dots = ""
    match scope.kind:
        case "branch":
            name = comparison.base_name
        case "range":
            name, dots, _ = refs.split_range(scope.range or "")
        case _:
            return None
    if not name:
        return None
    code, output, _ = repo.try_git("rev-parse", "--quiet", "--symbolic-full-name", name)
    full_name = output.decode("utf-8", "backslashreplace").strip()
    if code or not full_name.startswith("refs/"):
        return None
    return full_name + dots


def look_up(
    repo: Repo,
    scope: Scope,
    comparison: Comparison,
    reviews: Sequence[PastReview],
    changes: Iterable[Change],
    *,
    mended: Collection[str],
    budget: int,
) -> Earlier:
    """What these reviews, oldest first, saw of the changes. `budget` is that of the material, in bytes.

    `mended` are the paths of files in which a fault was found and is gone. An older content
    of these may have it again, so that it counts as seen only if it was seen last.
    """
    head = comparison.head
    if not reviews or head is None:
        return NOTHING_SEEN

    def is_ancestor(sha: str) -> bool:
        return comparison.base is not None and _is_ancestor(repo, sha, comparison.base)

    base = base_ref(repo, scope, comparison)
    # The author of a pull request may undo what the base has got since: only steps count.
    is_by_others = scope.base_ref is not None
    trusted_base = None if is_by_others else base
    states = SeenStates(reviews, scope.kind, trusted_base, is_ancestor)
    seen: dict[bytes, PastReview] = {}
    base_moved: set[bytes] = set()
    candidates: dict[bytes, list[str]] = {}
    for change in changes:
        old, new = states_of(change)
        if not old.content or not new.content:
            continue
        seen_by = states.seen_by(old, new)
        shown = recorded_path(display_name(change.new))
        if seen_by and shown in mended and not states.is_newest(new):
            seen_by = None
        if seen_by:
            seen[change.new] = seen_by.review
            if not seen_by.step_by_step:
                base_moved.add(change.new)
        else:
            contents = states.latest_contents(old, new.path)
            others = [each for each in contents if each != new.content]
            candidates[change.new] = others[:MAX_CANDIDATES]
    rests = _rests(repo, head, candidates, budget)
    seen_in_part = {}
    for name, rest in rests.items():
        state = State(name.decode("latin-1"), rest.prior)
        seen_in_part[name] = states.newest_of(state)
    return Earlier(
        seen=seen,
        rests=rests,
        seen_in_part=seen_in_part,
        last_head=_last_head(repo, scope, base, head, reviews),
        base_moved=frozenset(base_moved),
    )


def states_of(change: Change) -> tuple[State, State]:
    """Both sides of a change; a content that git does not store is empty."""
    old = content_of(change.modes[0], change.object_ids[0])
    new = content_of(change.modes[1], change.object_ids[1])
    return (
        State(change.old.decode("latin-1"), old),
        State(change.new.decode("latin-1"), new),
    )


def states_of_file(file: ChangedFile) -> tuple[State, State]:
    """As `states_of`."""
    return (
        State(file.names[0].decode("latin-1"), file.old_content),
        State(file.path_bytes.decode("latin-1"), file.new_content),
    )


def newest_of_all(
    repo: Repo,
    scope: Scope,
    comparison: Comparison,
    reviews: Sequence[PastReview],
    states: Collection[State],
) -> PastReview | None:
    """The newest of these reviews, oldest first, whose verdict is about all of these states. Others saw parts."""
    base = base_ref(repo, scope, comparison)
    for review in reversed(reviews):
        is_same = review.scope == scope.kind and review.base == base
        if base is None:
            is_same = is_same and review.base_sha == comparison.base
        judged = {step.new for step in (*review.sent, *review.kept)}
        if is_same and review.complete and judged.issuperset(states):
            return review
    return None


def steps_of(files: Iterable[ChangedFile]) -> tuple[list[Step], list[Step]]:
    """What was sent whole, and what counted as seen, as it is recorded."""
    sent: list[Step] = []
    kept: list[Step] = []
    for file in files:
        old, new = states_of_file(file)
        if not old.content or not new.content:
            continue
        if file.is_seen:
            kept.append(Step(old, new))
        elif file.whole and file.is_delta:
            sent.append(Step(State(new.path, file.prior), new))
        elif file.whole:
            sent.append(Step(old, new))
    return sent, kept


def named(seen: Iterable[PastReview]) -> tuple[SeenEarlier, ...]:
    """The reviews that saw the files, a review for each file, with how many each saw."""
    reviews = {}
    counts: Counter[str] = Counter()
    for review in seen:
        reviews[review.job] = review
        counts[review.job] += 1
    rows = []
    for job, count in counts.most_common(MAX_NAMED):
        review = reviews[job]
        rows.append(
            SeenEarlier(
                job_id=job,
                ended=review.ended,
                head_sha=review.head_sha,
                files=count,
            )
        )
    return tuple(rows)


def relied_on(files: Iterable[ChangedFile], earlier: Earlier) -> tuple[PastReview, ...]:
    """The reviews that saw what is not sent of these files, oldest first."""
    reviews = {}
    for file in files:
        review = None
        if file.is_seen:
            review = earlier.seen[file.path_bytes]
        elif file.is_delta:
            review = earlier.seen_in_part[file.path_bytes]
        if review is not None:
            reviews[review.job] = review
    return tuple(sorted(reviews.values(), key=lambda review: review.ended))


def _is_ancestor(repo: Repo, sha: str, of: str) -> bool:
    """Whether the commit is in this clone, and is the other one or lies before it."""
    if sha == of:
        return True
    code, _, _ = repo.try_git("merge-base", "--is-ancestor", sha, of)
    return code == 0


def _last_head(
    repo: Repo,
    scope: Scope,
    base: str | None,
    head: str,
    reviews: Sequence[PastReview],
) -> str | None:
    """The head of the newest complete review of the same kind and base that lies before this head."""
    heads: dict[str, None] = {}
    for review in reversed(reviews):
        is_same = review.scope == scope.kind and review.base == base
        if base and is_same and review.complete and review.head_sha:
            heads[review.head_sha] = None
    for sha in list(heads)[:MAX_HEADS]:
        if _is_ancestor(repo, sha, head):
            return sha
    return None


def _rests(
    repo: Repo, head: str, candidates: Mapping[bytes, list[str]], budget: int
) -> dict[bytes, Rest]:
    try:
        stored = _stored_blobs(repo, candidates.values())
        priors: dict[bytes, str] = {}
        for name, contents in candidates.items():
            present = [each for each in contents if _object_id(each) in stored]
            if present:
                priors[name] = present[0]
        if not priors:
            return {}
        return _diffs(repo, head, priors, budget)
    except (GitError, OSError):
        # Such as a full disk, or a tree with a name that no index may have. Nothing is
        # lost: the files are sent whole.
        return {}


def _stored_blobs(repo: Repo, contents: Iterable[list[str]]) -> set[str]:
    """The object ids among these contents that are blobs of this clone. One git process."""
    object_ids: dict[str, None] = {}
    for each in contents:
        object_ids.update(dict.fromkeys(map(_object_id, each)))
    if not object_ids:
        return set()
    listing = repo.git(
        "cat-file",
        "--batch-check=%(objectname) %(objecttype)",
        stdin="".join(f"{object_id}\n" for object_id in object_ids).encode(),
    )
    stored = set()
    for line in listing.decode().splitlines():
        object_id, kind = line.split(" ", 1)
        if kind == "blob":
            stored.add(object_id)
    return stored


def _object_id(content: str) -> str:
    return content.partition(":")[2]


def _diffs(
    repo: Repo, head: str, priors: Mapping[bytes, str], budget: int
) -> dict[bytes, Rest]:
    """The diffs from these contents to the commit, as many as a few budgets hold. Raises GitError and OSError."""
    records = []
    for name, content in priors.items():
        mode, _, object_id = content.partition(":")
        records.append(b"%s %s\t%s\0" % (mode.encode(), object_id.encode(), name))
    rests: dict[bytes, Rest] = {}
    room = SLACK * budget
    with temporary_directory(INDEX_PREFIX) as directory:
        env = {
            "GIT_INDEX_FILE": str(directory / "index"),
            # Else git would write a part of the index into the repository.
            "GIT_CONFIG_PARAMETERS": "'core.splitIndex=false'",
        }
        repo.git("read-tree", head, env=env)
        repo.git("update-index", "-z", "--index-info", stdin=b"".join(records), env=env)
        # The index is the old side: git takes it for the new one, and is told to swap.
        options = ("--no-renames", "-R", "--src-prefix=b/", "--dst-prefix=a/")
        with repo.stream(
            *LIST_AND_TEXT, *options, "--cached", head, "--", env=env
        ) as chunks:
            for change, text in DiffStream(chunks, budget).texts():
                room -= len(text.beginning)
                if room < 0:
                    break
                if change.new in priors and not text.is_binary:
                    rests[change.new] = Rest(priors[change.new], text)
    return rests
