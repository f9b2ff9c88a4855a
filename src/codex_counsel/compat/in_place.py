"""A turn that writes in the workspace itself, in the worker: what tools execute or obey is noted, and looked at again.

In the job directory: `before.json` (how it was) and `guarded.json` (what is different).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from codex_counsel.compat import guarded
from codex_counsel.compat.guarded import NOT_ALL_SEEN, NOT_NOTED, Look, Stamp
from codex_counsel.contract.envelope import DiffFile, Envelope
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import (
    TEMPORARY,
    EndedRun,
    answer_in_prose,
    failed_run,
    remove_scratch,
)
from codex_counsel.system import places
from codex_counsel.system.files import read_json_or_none, write_atomically
from codex_counsel.system.json_values import Json, JsonObject

BEFORE = "before.json"
GUARDED = "guarded.json"
MAX_NAMED = 20
"""Files that a warning names."""
MAX_LISTED = 500
"""Files that a result lists."""


def set_up(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    """Make the run's TMPDIR, and note what it must leave alone.

    Raises `workspace_invalid` where a path that is to be closed became another one while the
    run waited for its place, and OSError.
    """
    _check_unmoved(details)
    Path(scratch).mkdir(mode=0o700, exist_ok=True)
    Path(scratch, TEMPORARY).mkdir(mode=0o700, exist_ok=True)
    root, closed = _places(details)
    entered = guarded.open_folders(root, closed)
    before = guarded.look(root, closed, entered)
    names = [name.decode("latin-1") for name in entered]
    write_atomically(
        Path(directory, BEFORE), json.dumps([before.stamps, before.complete, names])
    )


def _check_unmoved(details: Mapping[str, Json]) -> None:
    place = details["in_place"]
    for path in (*place["pinned"], *place["closed"]):
        if os.path.realpath(path) != path:
            raise CounselError(
                Code.WORKSPACE_INVALID,
                f"{path} became a link while the turn waited for its place",
                repair="Look at it, and call again.",
            )


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of the turn, finished or not. `files` are those that it should have left alone."""
    remove_scratch(ended)
    if ended.error:
        envelope = failed_run(ended, ended.error)
    else:
        envelope = answer_in_prose(ended)
    if not (ended.directory / BEFORE).exists():  # it had not begun
        return envelope
    found = _guarded(ended)
    if found is None:
        envelope.meta.warnings.append(NOT_NOTED)
        return envelope
    if not found["complete"]:
        envelope.meta.warnings.append(NOT_ALL_SEEN)
    rows = [DiffFile(**row) for row in found["files"]]
    if rows:
        envelope.files = rows
        names = ", ".join(row.path for row in rows[:MAX_NAMED])
        envelope.meta.warnings.append(
            f"{len(rows)} files that tools execute or obey changed while the turn ran: {names}"
        )
    return envelope


def _guarded(ended: EndedRun) -> JsonObject | None:
    """What is different, looked at once; None where that cannot be told."""
    stored = ended.directory / GUARDED
    found = read_json_or_none(stored)
    if isinstance(found, dict):
        return found
    raw = read_json_or_none(ended.directory / BEFORE)
    root, closed = _places(ended.details)
    try:
        stamps, complete, names = raw
        before = Look({name: Stamp(*stamp) for name, stamp in stamps.items()}, complete)
        entered = [name.encode("latin-1") for name in names]
        seen = guarded.look(root, closed, entered)
        after = guarded.without_mount_points(root, seen)
        with places.alone(str(root)) as is_alone:
            if is_alone:
                guarded.remove_mount_points(root, before, seen)
    except (AttributeError, TypeError, ValueError, OSError):
        return None
    before = guarded.without_mount_points(root, before)
    rows = guarded.differences(before, after)[:MAX_LISTED]
    found = {
        "files": [asdict(row) for row in rows],
        "complete": before.complete and after.complete,
    }
    write_atomically(stored, json.dumps(found))
    return found


def _places(details: Mapping[str, Json]) -> tuple[Path, list[bytes]]:
    """The workspace, and the paths below it in which the run can change nothing."""
    place = details["in_place"]
    root = Path(place["workspace"])
    pinned = {Path(path) for path in place["pinned"]}
    closed = {Path(path) for path in place["closed"]}
    fixed = {root, *pinned, *closed}
    names = []
    for path in closed:
        above = path.parents[: len(path.relative_to(root).parts)]
        # Elsewhere it is open as soon as a folder above it has another name.
        if fixed.issuperset(above):
            names.append(os.fsencode(path.relative_to(root)))
    return root, names
