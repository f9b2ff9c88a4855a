"""Results of nodes that were paid for and could not be taken: a resume tries again, when the cause may be mended.

They are files of the batch, `refused/<ticket>.result`. The ticket is the one in the place
of the item.
"""

from __future__ import annotations

from pathlib import Path

from codex_counsel.batch.model import REQUESTS
from codex_counsel.batch.record import Record
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.context import Context
from codex_counsel.services.take import take_file

REFUSED = "refused"
"""Folder of a batch."""
SUFFIX = ".result"


def kept_at(directory: Path, ticket: str) -> Path:
    """Where the result of this ticket is kept, in the directory of a batch."""
    return directory / REFUSED / f"{ticket}{SUFFIX}"


def take_refused(record: Record, context: Context) -> None:
    """Put among the jobs what can be taken by now; the items have no result then, and their runs are found there.

    Raises `storage_failed`: then every file is kept.
    """
    kept = {path.stem: path for path in (record.directory / REFUSED).glob(f"*{SUFFIX}")}
    if not kept:
        return
    taken: dict[str, Path] = {}
    for item in record.items():
        _, _, ticket = (record.place_of(item.id) or "").partition("/")
        if ticket not in kept:
            continue
        try:
            take_file(
                context,
                kept[ticket],
                workspace_root=str(item.root),
                key=item.key,
                pack=ticket,
                tool=REQUESTS[item.kind].tool,
            )
        except CounselError as error:
            if error.code == Code.STORAGE_FAILED:
                raise
            continue
        taken[item.id] = kept[ticket]
    record.take_back(taken.keys())
    for path in taken.values():
        path.unlink(missing_ok=True)
