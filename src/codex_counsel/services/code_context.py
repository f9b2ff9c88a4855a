"""The code around the findings of a stored review, as it was reviewed, for a page that shows both."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codex_counsel.errors import CounselError
from codex_counsel.git.names import covering_path
from codex_counsel.git.secret_links import secret_link_targets
from codex_counsel.prepare.directories import Directories
from codex_counsel.review.grounding import ReviewedFiles
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.text import one_line, size
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

if TYPE_CHECKING:
    from codex_counsel.contract.envelope import Envelope, Finding
    from codex_counsel.git.repo import Repo
    from codex_counsel.jobs.store import Store

AROUND = 6
"""Lines shown before and after those of a finding."""
MAX_LINES = 60
"""Lines of one finding that are shown; of a longer one, its beginning."""
MAX_REPLACED = 200
"""Lines that a suggestion replaces; a longer one is shown without them."""
MAX_COLUMNS = 400
"""Characters of a line."""
MAX_BYTES = 2_000_000
"""Bytes of all lines together."""
SECONDS = 5.0
"""For all findings together: a repository may be slow to read, and a review may name many files."""

Evidence = Literal["shown", "removed", "absent"]


@dataclass(frozen=True)
class Snippet:
    """The code around one finding. `lines` begin with the line number `start`.

    Where there are none, `note` says why, unless the change removed what is quoted.

    `evidence` says where the quoted text is: among the lines, in lines that the change
    removed, or in neither. `replaced` are the lines that the suggestion of the finding
    replaces; None where they were not read.
    """

    start: int = 1
    lines: tuple[str, ...] = ()
    evidence: Evidence = "absent"
    replaced: tuple[str, ...] | None = None
    note: str = ""


def snippet_key(finding: Finding, index: int) -> str:
    """The key of a finding in `snippets`. `index` is its place in the review; old results have no ids."""
    return finding.id or f"#{index}"


def snippets(store: Store, review: Envelope) -> dict[str, Snippet]:
    """The code for each finding that names a file, by `snippet_key`.

    What cannot be read is no error: the note of the snippet says why there is no code.
    """
    located = []
    for index, finding in enumerate(review.findings or ()):
        if finding.file:
            located.append((snippet_key(finding, index), finding))
    if not located:
        return {}

    try:
        with time_limit(SECONDS):
            source = _Source.of(store, review)
    except CounselError as error:
        note = f"the reviewed code cannot be read any more: {one_line(error.message)}"
        return {key: Snippet(note=note) for key, _ in located}
    except (OSError, AttributeError, TypeError, KeyError, ValueError):
        note = "the reviewed code cannot be read: the record of the job is damaged"
        return {key: Snippet(note=note) for key, _ in located}
    except TimeLimitExceeded:
        return {key: Snippet(note=_TOO_SLOW) for key, _ in located}

    # Those of one file together: it is read once.
    located.sort(key=lambda pair: str(pair[1].file))
    return source.read_all(located)


_TOO_SLOW = f"the code could not be read within {SECONDS:g} seconds"
_TOO_MUCH = f"the code of all findings is longer than {MAX_BYTES:,} bytes"


@dataclass
class _Source:
    """The reviewed files.

    `closed` are absolute paths that no page may show, `listed` the files that a page may
    show of a working tree, None for a commit.
    """

    repo: Repo
    reviewed: ReviewedFiles
    closed: frozenset[bytes]
    listed: frozenset[bytes] | None
    bytes_left: int = MAX_BYTES

    @classmethod
    def of(cls, store: Store, review: Envelope) -> _Source:
        """Raises CounselError where the job or its repository is gone, others for a damaged record."""
        spec = store.job(review.meta.job_id or "").spec()
        record = ReviewRecord.from_json(spec.review or {})
        repo = record.repository(os.environ)
        changes = record.changes()
        names = repo.git(
            "ls-files", "-z", "--cached", "--others", "--exclude-standard"
        ).split(b"\0")
        denied = Directories.of(os.environ, Path(spec.state)).denied()
        linked = secret_link_targets(repo, names)
        return cls(
            repo=repo,
            reviewed=ReviewedFiles(repo, changes),
            closed=frozenset([*map(os.fsencode, denied), *linked]),
            listed=None if changes.comparison.state == "commit" else frozenset(names),
        )

    def read_all(self, located: list[tuple[str, Finding]]) -> dict[str, Snippet]:
        """A snippet for each pair of key and finding, as far as time and size allow."""
        found: dict[str, Snippet] = {}
        deadline = time.monotonic() + SECONDS
        with suppress(TimeLimitExceeded), time_limit(SECONDS):
            for key, finding in located:
                # The alarm of `time_limit` rings in the main thread only.
                if time.monotonic() > deadline:
                    break
                try:
                    found[key] = self._read(finding)
                except (CounselError, OSError, ValueError):
                    found[key] = Snippet(note="its file cannot be read")
        for key, _ in located:
            found.setdefault(key, Snippet(note=_TOO_SLOW))
        return found

    def _read(self, finding: Finding) -> Snippet:
        file = self.reviewed.name(finding.file or "")
        if not self._may_show(os.fsencode(file)):
            return Snippet(note="its file is not shown here")
        lines = self.reviewed.lines(file)
        if lines is None:
            return Snippet(note="its file is not there, or is no text")

        evidence = self._evidence(finding, file)
        if evidence == "removed":
            return Snippet(evidence="removed")
        if evidence == "absent" and self.listed is not None:
            return Snippet(note="the quoted text is not at these lines now")
        return self._cut(finding, lines, evidence)

    def _may_show(self, name: bytes) -> bool:
        if self.listed is not None and name not in self.listed:
            return False
        path = os.fsencode(self.repo.root) + b"/" + name
        return covering_path(path, self.closed) is None

    def _evidence(self, finding: Finding, file: str) -> Evidence:
        ground = self.reviewed.ground(
            file, finding.line, finding.line_end, finding.evidence or ""
        )
        if ground.quotation and ground.quotation.removed:
            return "removed"
        if ground.grounded == "verified":
            return "shown"
        return "absent"

    def _cut(self, finding: Finding, lines: list[str], evidence: Evidence) -> Snippet:
        """The lines around those of the finding, and those that its suggestion replaces."""
        replaced = self._replaced(finding, lines)
        line = finding.line or 0
        if not 1 <= line <= len(lines):
            note = ""
            if line:
                note = "its file has no such line"
            return Snippet(replaced=replaced, note=note)

        start = max(line - AROUND, 1)
        end = min((finding.line_end or line) + AROUND, start + MAX_LINES - 1)
        shown = self._taken(lines[start - 1 : end])
        if shown is None:
            return Snippet(note=_TOO_MUCH)
        return Snippet(start, shown, evidence, replaced)

    def _replaced(self, finding: Finding, lines: list[str]) -> tuple[str, ...] | None:
        suggestion = finding.suggestion
        if suggestion is None:
            return None
        first, last = suggestion.start_line, suggestion.end_line
        if not 1 <= first <= last <= len(lines) or last - first >= MAX_REPLACED:
            return None
        return self._taken(lines[first - 1 : last])

    def _taken(self, lines: list[str]) -> tuple[str, ...] | None:
        """The lines, cut to `MAX_COLUMNS`; None where no room is left for them."""
        taken = tuple(cut_line(line) for line in lines)
        self.bytes_left -= sum(map(size, taken))
        if self.bytes_left < 0:
            return None
        return taken


def cut_line(line: str) -> str:
    """At most `MAX_COLUMNS` characters of a line."""
    if len(line) <= MAX_COLUMNS:
        return line
    return line[: MAX_COLUMNS - 1] + "…"
