"""What the project file decides about a review of changes: its scope, what is sent, and which findings fail it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codex_counsel.contract.envelope import ProjectFile, RuleFile
from codex_counsel.contract.project_file import MAX_BYTES, invalid, parse
from codex_counsel.contract.vocabulary import (
    DEFAULT_FAIL_ON,
    DEFAULT_SCOPE,
    PROJECT_FILE,
    strictest,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs
from codex_counsel.git.patterns import matching
from codex_counsel.git.repo import Blob
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.prepare import project_file
from codex_counsel.prepare.project_file import NAME
from codex_counsel.review.criteria import Criteria, Rules
from codex_counsel.system.redact import mask
from codex_counsel.system.text import size, visible

if TYPE_CHECKING:
    from codex_counsel.contract.request import ReviewChanges
    from codex_counsel.contract.settings import Settings
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.changes.model import ChangedFile
    from codex_counsel.system.json_values import JsonObject

EVERY_FILE = "./"
FOCUS = "Look at this in particular: {}"
FOCUS_OF_PATHS = "In changes of the files {}, look at this in particular: {}"


@dataclass(frozen=True)
class Chosen:
    """The request with a scope, and what of it the project file of the commit `revision` named: `scope`, `base`."""

    request: ReviewChanges
    used: tuple[str, ...] = ()
    revision: str = ""


def choose_scope(request: ReviewChanges, repo: Repo, settings: Settings) -> Chosen:
    """The request with the scope and base of the project file where the caller names none, else the defaults.

    These decide what the base is, so they are read from the default base, and from HEAD
    where there is none. Raises `project_file_invalid`.
    """
    # A pull request has its own base, and no scope.
    if request.pr or request.scope not in (None, "branch"):
        return Chosen(request)
    if request.scope and request.base:
        return Chosen(request)
    revision = _default_base(repo)
    policy = project_file.of_revision(repo, revision, settings).policy.review
    used = []
    if request.scope is None:
        scope = policy.scope or DEFAULT_SCOPE
        request = replace(request, scope=scope)
        used = ["scope"] if policy.scope else []
    if request.scope == "branch" and request.base is None and policy.base:
        request = replace(request, base=_branch(repo, policy.base))
        used.append("base")
    return Chosen(request, tuple(used), revision or "")


def _default_base(repo: Repo) -> str | None:
    try:
        _, revision = refs.default_base(repo)
    except CounselError as error:
        if error.code != Code.UNKNOWN_REF:
            raise
        return repo.head()
    return revision


def _branch(repo: Repo, name: str) -> str:
    found = refs.branch_to_compare_with(repo, name)
    if found is None:
        raise invalid(
            f"review.base names {name}, which is no branch of this clone: fetch it, or name a base in the call"
        )
    return found


@dataclass(frozen=True)
class ReviewPolicy:
    """The project file of the base revision, and what one decided before that was read."""

    file: project_file.ProjectFile
    chosen: Chosen

    @property
    def skip(self) -> tuple[str, ...]:
        """Patterns of the files that are not sent."""
        return self.file.policy.review.skip

    @property
    def bars(self) -> list[JsonObject]:
        """The tables of paths with a stricter bar than all other files have, as `ReviewRecord` keeps them."""
        policy = self.file.policy.review
        general = policy.fail_on or DEFAULT_FAIL_ON
        tables: list[JsonObject] = []
        for table in policy.paths:
            bar = strictest((general, table.fail_on or "never"))
            if bar != general:
                tables.append({"paths": list(table.paths), "fail_on": bar})
        return tables

    def criteria(
        self, criteria: Criteria, repo: Repo, changes: Changes, settings: Settings
    ) -> Criteria:
        """The team's rules, and what it wants looked at in particular as rules of the project file.

        With isolation `strict` none of it is sent.
        """
        if not self.file.sha or settings.isolation == "strict":
            return criteria
        text = self._focus(repo, changes)
        if not text:
            return criteria
        is_changed = _touching(changes) is not None
        row = RuleFile(
            path=PROJECT_FILE,
            folder=EVERY_FILE,
            sha=self.file.sha,
            bytes=size(text),
            changed=is_changed or None,
        )
        changed = criteria.changed
        if is_changed:
            changed = (*changed, PROJECT_FILE)
        return replace(
            criteria,
            rules=(*criteria.rules, Rules(PROJECT_FILE, EVERY_FILE, text)),
            files=(*criteria.files, row),
            changed=changed,
        )

    def _focus(self, repo: Repo, changes: Changes) -> str:
        """What the team wants looked at in these changes, masked; empty for nothing in particular."""
        policy = self.file.policy.review
        parts = []
        if policy.focus:
            parts.append(FOCUS.format(policy.focus))
        names: set[bytes] = set()
        for entry in changes.entries:
            names.update(entry.names)
        for table in policy.paths:
            if table.focus and matching(repo, table.paths, names):
                patterns = ", ".join(f"`{pattern}`" for pattern in table.paths)
                parts.append(FOCUS_OF_PATHS.format(patterns, table.focus))
        return mask(visible("\n\n".join(parts)))[0]

    def report(self, criteria: Criteria, changes: Changes) -> ProjectFile | None:
        """What the envelope says of it; None where no project file decided anything, or could have."""
        used = list(self.chosen.used)
        revision = self.file.revision or self.chosen.revision
        if not self.file.sha and not used:
            return None
        policy = self.file.policy.review
        if changes.skipped:
            used.append("skip")
        if policy.fail_on or self.bars:
            used.append("fail_on")
        if any(rules.file == PROJECT_FILE for rules in criteria.rules):
            used.append("focus")
        strictest_fail_on = None
        if self.bars:
            strictest_fail_on = strictest(table["fail_on"] for table in self.bars)
        is_changed = _touching(changes) is not None
        return ProjectFile(
            revision=revision,
            used=used,
            fail_on=policy.fail_on,
            strictest_fail_on=strictest_fail_on,
            changed=is_changed or None,
        )

    def warnings(self, repo: Repo, changes: Changes) -> tuple[str, ...]:
        """Of the file itself, and of a change that touches it."""
        entry = _touching(changes)
        if entry is None:
            return self.file.warnings
        warning = f"the change touches {PROJECT_FILE}: what it makes of it is not in force in this review"
        problem = _problem_of_new_form(repo, changes, entry)
        if problem:
            warning = f"{warning}, and would be refused: {problem}"
        return (*self.file.warnings, warning)


def of_changes(
    repo: Repo, revision: str | None, chosen: Chosen, settings: Settings
) -> ReviewPolicy:
    """The policy for a review of changes against the base `revision`. Raises `project_file_invalid`."""
    file = project_file.of_revision(repo, revision, settings)
    return ReviewPolicy(file, chosen)


def _touching(changes: Changes) -> ChangedFile | None:
    """The project file among the changed files."""
    if changes.comparison.whole_files:
        return None
    for entry in changes.entries:
        if NAME in entry.names:
            return entry
    return None


def _problem_of_new_form(repo: Repo, changes: Changes, entry: ChangedFile) -> str:
    """Why the reviewed form could not be read when it is the base some day; empty where it can, or is gone."""
    if entry.status == "D" or entry.path_bytes != NAME:
        return ""
    try:
        parse(_reviewed_form(repo, changes, entry))
    except CounselError as error:
        return error.message
    except (UnreadableError, FileNotFoundError):
        return f"{PROJECT_FILE} must be a regular file"
    return ""


def _reviewed_form(repo: Repo, changes: Changes, entry: ChangedFile) -> bytes:
    """The beginning of the reviewed content, longer than a project file may be. Raises UnreadableError."""
    if changes.comparison.state == "working_tree":
        with TreeReader(repo.root) as reader:
            return reader.read(NAME, MAX_BYTES + 1).data
    mode, sha = entry.modes[1], entry.object_ids[1]
    if not Blob(mode, sha).is_file:
        raise FileNotFoundError
    return repo.blob(sha, MAX_BYTES + 1)
