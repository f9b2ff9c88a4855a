"""The bars of single files, which the project file of the base revision sets, given to the findings in them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from codex_counsel.contract.vocabulary import PROJECT_FILE, strictest
from codex_counsel.errors import CounselError
from codex_counsel.git.patterns import matching
from codex_counsel.git.revision import NO_PARTS

if TYPE_CHECKING:
    from codex_counsel.contract.envelope import Finding
    from codex_counsel.contract.vocabulary import FailOn
    from codex_counsel.review.record import ReviewRecord


def add_bars(findings: Sequence[Finding], record: ReviewRecord) -> list[str]:
    """Set `fail_on` of each finding in whose file a stricter bar holds, and return the warnings.

    Of several the strictest holds. It holds for all files where these cannot be matched.
    """
    names = _names(findings, record)
    if not record.bars or not names:
        return []
    warnings = []
    try:
        bars = _bars(names, record)
    # The directory itself may be gone.
    except (CounselError, OSError) as error:
        strict = strictest(table["fail_on"] for table in record.bars)
        bars = dict.fromkeys(names, strict)
        warnings = [
            f"it could not be found out which files {PROJECT_FILE} names, so its strictest bar holds for all: {error}"
        ]
    for finding in findings:
        finding.fail_on = bars.get(finding.file or "")
    return warnings


def _names(findings: Sequence[Finding], record: ReviewRecord) -> dict[str, set[bytes]]:
    """The names of each file that findings are in: its own, and the one that it had before the change."""
    changed = {}
    if record.entries:
        changed = {entry.path: entry.names for entry in record.changes().entries}
    names = {}
    for finding in findings:
        file = finding.file
        if not file:
            continue
        name = file.encode("utf-8", "surrogateescape")
        # What a reviewer wrote need not be the name of a file, and git refuses some.
        if file in changed or NO_PARTS.isdisjoint(name.split(b"/")):
            names[file] = set(changed.get(file, (name,)))
    return names


def _bars(names: Mapping[str, set[bytes]], record: ReviewRecord) -> dict[str, FailOn]:
    """Raises CounselError, and OSError where the directory is gone."""
    repo = record.repository(os.environ)
    all_names = set().union(*names.values())
    bars: dict[str, FailOn] = {}
    for table in record.bars:
        matched = matching(repo, table["paths"], all_names)
        for file, own in names.items():
            if matched.isdisjoint(own):
                continue
            bars[file] = strictest((table["fail_on"], bars.get(file, "never")))
    return bars
