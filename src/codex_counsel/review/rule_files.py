"""Collects the team's review rules, from the base revision alone: a change brings no rules for its own review."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from codex_counsel.contract.envelope import RuleFile
from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import Blob
from codex_counsel.git.revision import contents, entries
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.prepare.guidance import FILE_NAME, folders_down_to
from codex_counsel.prepare.revision_files import RevisionFile, read_files
from codex_counsel.review.criteria import NO_CRITERIA, Criteria, Rules
from codex_counsel.review.rule_sections import rules_of, without_rules
from codex_counsel.system.redact import mask
from codex_counsel.system.text import SPELLED_OUT, cut, one_line, size

if TYPE_CHECKING:
    from codex_counsel.contract.settings import Settings
    from codex_counsel.git.repo import Repo
    from codex_counsel.prepare.prompt_parts import Material
    from codex_counsel.prepare.workspace import ResolvedWorkspace
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.changes.model import ChangedFile

GUIDANCE = FILE_NAME.encode()
RULES_ONLY = b"REVIEW.md"
"""A file that holds nothing but rules."""
KINDS = (RULES_ONLY, GUIDANCE)
TOP = "./"
BYTE_ORDER_MARK = "<U+FEFF>"
"""As `utf8` writes it out. At the beginning of a file it hides nothing."""
MAX_READ = 200
"""Files that are read."""
READ_BYTES = 256_000
"""Of each of them."""
EXAMINED_BYTES = 3_000_000
"""Of all these files together, and of the changed ones: a hostile text is examined at less than 1 MB per second."""
MAX_FILES = 24
"""Files whose rules are sent."""
FILE_BYTES = 16_000
"""Of the rules of one file; the rest of them is not sent."""
TOTAL_BYTES = 48_000
"""Of all rules together."""
MAX_COMPARED = 200
"""Files of the change whose rules are compared with those of the base, first those that are in force."""
MAX_NAMED = 10
"""Files that a warning names."""
MAX_LISTED = 40
"""Rows of `Criteria.files`; the rest is counted."""
LISTED_BYTES = 4_000
"""Bytes of all names in these rows: they are part of every page of a result."""


def of_changes(
    repo: Repo,
    changes: Changes,
    workspace: ResolvedWorkspace,
    settings: Settings,
    *,
    revision: str | None,
) -> Criteria:
    """The rules that a revision has of every folder that holds a changed file, and of the folders above it."""
    if settings.isolation == "strict":
        return NO_CRITERIA
    collector = _Collector(repo, revision, workspace)
    collector.collect(_changed_below(changes))
    collector.compare(changes)
    return collector.finish()


def of_workspace(
    repo: Repo, head: str | None, workspace: ResolvedWorkspace, settings: Settings
) -> Criteria:
    """The rules of the commit `head` for a plan: those of the workspace and of the folders above it."""
    if settings.isolation == "strict":
        return NO_CRITERIA
    collector = _Collector(repo, head, workspace)
    collector.collect(Counter(folders_down_to(repo.prefix)))
    return collector.finish()


def outside_git(workspace: ResolvedWorkspace, material: Iterable[Material]) -> Criteria:
    """No rules, and a warning if there are any on disk: nobody has accepted them into a base revision."""
    names = [item.name for item in material if rules_of(item.text)]
    path = workspace.root / RULES_ONLY.decode()
    # Path.is_file raises for a link whose target is too long, or is closed to us.
    if os.path.isfile(path):  # noqa: PTH113
        names.append(str(path))
    if not names:
        return NO_CRITERIA
    return Criteria(
        warnings=(
            f"review rules not in force, because the workspace is in no git repository: {_listed(names)}",
        )
    )


def without_rule_sections(material: Iterable[Material]) -> list[Material]:
    """AGENTS.md as material, without what is sent as criteria."""
    rest = []
    for item in material:
        text = without_rules(item.text.removeprefix("\ufeff"))
        if text.strip():
            rest.append(replace(item, text=text))
    return rest


def _changed_below(changes: Changes) -> Counter[bytes]:
    """For each folder with a changed file in it or below it, how many names of changed files there are."""
    counts: Counter[bytes] = Counter()
    for entry in changes.entries:
        counts.update(map(_folder_of, entry.names))
    # Each folder is visited once: there may be very many, and very deep ones.
    folders = set()
    for folder in counts:
        above = folder
        while above and above not in folders:
            folders.add(above)
            above = _folder_of(above[:-1])
    for folder in sorted(folders, key=len, reverse=True):
        counts[_folder_of(folder[:-1])] += counts[folder]
    return counts


def _folder_of(name: bytes) -> bytes:
    folder, slash, _ = name.rpartition(b"/")
    return folder + slash


class _Collector:
    """`revision` is the base; None if there is none. `rows`, `rules` and `texts` are by the name of the file.

    `rules` are those that were found, `texts` what is sent of them.
    """

    def __init__(
        self, repo: Repo, revision: str | None, workspace: ResolvedWorkspace
    ) -> None:
        self.repo = repo
        self.revision = revision
        self.workspace = workspace
        self.files: dict[bytes, RevisionFile] = {}
        self.rows: dict[bytes, RuleFile] = {}
        self.rules: dict[bytes, str] = {}
        self.texts: dict[bytes, str] = {}
        self.masked = 0

    def collect(self, folders: Counter[bytes]) -> None:
        """Take the rules of these folders, first those of the folders with the most changed files below them."""
        if self.revision is None:
            return
        names = [folder + kind for folder in folders for kind in KINDS]
        found = entries(self.repo, self.revision, names)
        in_order = sorted(
            found,
            key=lambda name: (-folders[_folder_of(name)], -name.count(b"/"), name),
        )
        blobs = {name: found[name] for name in in_order[:MAX_READ]}
        remaining = TOTAL_BYTES
        unexamined = EXAMINED_BYTES
        files = read_files(self.repo, self.revision, blobs, self.workspace, READ_BYTES)
        for file in files:
            self.files[file.name] = file
            unexamined -= len(file.data or b"")
            if unexamined < 0:
                self._add(file.name, omitted="budget")
            else:
                remaining -= self._take(file, remaining)
        for name in in_order[MAX_READ:]:
            self._add(name, omitted="budget")

    def _take(self, file: RevisionFile, remaining: int) -> int:
        """Take the rules of a file, and return how many bytes are sent of them."""
        if file.data is None:
            self._add(file.name, omitted=file.obstacle)
            return 0
        if is_binary(file.data):
            self._add(file.name, omitted="binary", sha=file.sha)
            self.rules[file.name] = ""
            return 0
        rules = _rules_in(file.name, file.data)
        self.rules[file.name] = rules
        is_part = file.size > len(file.data)
        if not rules:
            if is_part:
                self._add(file.name, omitted="partial", sha=file.sha)
            return 0

        text, masked = mask(rules)
        if size(text) > FILE_BYTES:
            is_part = True
            text = cut(text, FILE_BYTES).rpartition("\n")[0] or cut(text, FILE_BYTES)
        if size(text) > remaining or len(self.texts) == MAX_FILES:
            self._add(file.name, omitted="budget", sha=file.sha)
            return 0
        self.texts[file.name] = text
        self.masked += masked
        self._add(
            file.name,
            omitted="partial" if is_part else None,
            sha=file.sha,
            sent=size(text),
        )
        return size(text)

    def _add(
        self,
        name: bytes,
        *,
        omitted: str | None,
        sha: str | None = None,
        sent: int = 0,
    ) -> None:
        self.rows[name] = RuleFile(
            path=display_name(name),
            folder=_shown_folder(name),
            sha=sha,
            bytes=sent,
            omitted=omitted,
        )

    def compare(self, changes: Changes) -> None:
        """Mark the files whose rules are others in the reviewed state than in the base."""
        # None for a name that a renamed file had.
        by_name: dict[bytes, ChangedFile | None] = {}
        for entry in changes.entries:
            if entry.status == "R" and entry.old_path_bytes is not None:
                by_name.setdefault(entry.old_path_bytes, None)
            by_name[entry.path_bytes] = entry
        # The name of a rule file, and the name of the file that has its rules.
        touched = {name: name for name in by_name if _last_part(name) in KINDS}
        for file in self.files.values():
            if file.is_link and file.real in by_name and file.name not in touched:
                touched[file.name] = file.real
        in_force_first = sorted(
            touched, key=lambda name: (name not in self.texts, name)
        )

        compared = {}
        for name in in_force_first[:MAX_COMPARED]:
            compared[name] = by_name[touched[name]]
        present = self._read_reviewed(changes, compared)
        unexamined = EXAMINED_BYTES
        for name in compared:
            data = present.get(name, b"")
            unexamined -= len(data)
            is_secret = name in self.rows and self.rows[name].omitted == "secret_file"
            if is_secret or not self._differs(name, data, examine=unexamined >= 0):
                continue
            if name not in self.rows:
                self._add(name, omitted="new")
            self.rows[name].changed = True

    def _differs(self, name: bytes, data: bytes, *, examine: bool) -> bool:
        """Whether the rules in this content are not those of the base. What is not examined has others."""
        file = self.files.get(name)
        before = file.data if file else None
        if (before or b"") == data:
            return False
        if not examine or (before is not None and name not in self.rules):
            return True
        return _rules_in(name, data) != self.rules.get(name, "")

    def _read_reviewed(
        self, changes: Changes, compared: dict[bytes, ChangedFile | None]
    ) -> dict[bytes, bytes]:
        """The beginning of each of these files in the reviewed state, by the name of the rule file."""
        if changes.comparison.state == "working_tree":
            with TreeReader(self.repo.root) as reader:
                return _read_each(reader, compared)
        shas = {}
        for name, entry in compared.items():
            if entry is None:
                continue
            mode, sha = entry.modes[1], entry.object_ids[1]
            if Blob(mode, sha).is_file:
                shas[name] = sha
        found = contents(self.repo, shas.values(), READ_BYTES)
        return {name: found[sha].data for name, sha in shas.items() if sha in found}

    def finish(self) -> Criteria:
        """All that was taken."""
        rules = []
        for name in sorted(self.texts, key=lambda name: (-name.count(b"/"), name)):
            row = self.rows[name]
            rules.append(Rules(row.path, row.folder, self.texts[name]))
        return Criteria(
            tuple(rules),
            _bounded(list(self.rows.values())),
            tuple(row.path for row in self.rows.values() if row.changed),
            tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        rows = self.rows.values()
        dead_links = {
            folder + GUIDANCE
            for folder in folders_down_to(self.repo.prefix)
            if self._is_dead_link(folder + GUIDANCE)
        }
        left_out = [
            f"{row.path} ({row.omitted})"
            for name, row in self.rows.items()
            if row.omitted not in (None, "new") and name not in dead_links
        ]
        changed = [row.path for row in rows if row.changed and row.bytes]
        new = [row.path for row in rows if row.omitted == "new"]
        hidden = [
            self.rows[name].path
            for name, text in self.texts.items()
            if SPELLED_OUT.search(text)
        ]
        if self.masked:
            yield f"{self.masked} token-like strings were masked in the review rules"
        if left_out:
            yield f"review rules not sent, or only in part: {_listed(left_out)}"
        if changed:
            yield f"{_listed(changed)}: review rules change in this very change; those of the base were used"
        if new:
            yield f"{_listed(new)}: review rules are new in this very change; they are not in force"
        if hidden:
            yield f"{_listed(hidden)}: review rules have characters that hide or reorder text; they were written out"

    def _is_dead_link(self, name: bytes) -> bool:
        """Whether it is a link that is not sent. `guidance` warns of such an AGENTS.md."""
        file = self.files.get(name)
        return file is not None and file.is_link and file.data is None


def _read_each(
    reader: TreeReader, compared: dict[bytes, ChangedFile | None]
) -> dict[bytes, bytes]:
    found = {}
    for name, entry in compared.items():
        if entry is None:
            continue
        # What is no regular file, or is gone, has no rules.
        with contextlib.suppress(UnreadableError, FileNotFoundError):
            found[name] = reader.read(entry.path_bytes, READ_BYTES).data
    return found


def _last_part(name: bytes) -> bytes:
    return name.rpartition(b"/")[2]


def _rules_in(name: bytes, data: bytes) -> str:
    """The rules in the content of a file; empty where there are none."""
    if is_binary(data):
        return ""
    text = utf8(data).decode("utf-8", "replace").removeprefix(BYTE_ORDER_MARK)
    # Git may check out other line ends than it stores.
    text = text.replace("\r\n", "\n")
    if _last_part(name) == RULES_ONLY:
        return text.strip()
    return rules_of(text)


def _shown_folder(name: bytes) -> str:
    folder, slash, _ = name.rpartition(b"/")
    return display_name(folder + slash) or TOP


def _bounded(rows: list[RuleFile]) -> tuple[RuleFile, ...]:
    """The rows that are listed, and one that counts the rest."""
    listed = []
    bytes_left = LISTED_BYTES
    for row in rows[:MAX_LISTED]:
        bytes_left -= size(row.path) + size(row.folder)
        if bytes_left < 0:
            break
        listed.append(row)
    rest = len(rows) - len(listed)
    if rest:
        more = RuleFile(
            path=f"(and {rest} more)", folder="", bytes=0, omitted="listing"
        )
        listed.append(more)
    return tuple(listed)


def _listed(names: list[str]) -> str:
    text = ", ".join(one_line(name, 200) for name in names[:MAX_NAMED])
    if len(names) > MAX_NAMED:
        text += f" and {len(names) - MAX_NAMED} more"
    return text
