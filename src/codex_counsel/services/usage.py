"""What runs took: the ledger of all runs, added up."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as day_time

from codex_counsel.contract.envelope import EnvelopeDict, Meta, completed
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import ledger, recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.ledger import Entry, Ledger
from codex_counsel.jobs.store import Store
from codex_counsel.system.json_values import JsonObject

TOOL = "codex-counsel usage"
"""The name of the report in its envelope. No tool of the server makes it."""
UNNOTED_SECONDS = 2.0
"""Time in which runs are looked up that the ledger does not know; the next report goes on with what is left."""
KINDS = {"review_changes": "review", "review_plan": "plan"}
_SPAN = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass
class Sum:
    """What some runs took together. `failed` counts error codes."""

    runs: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    elapsed_ms: int = 0

    def add(self, entry: Entry) -> None:
        """Count one run."""
        self.runs += 1
        self.elapsed_ms += entry.elapsed_ms
        if entry.usage:
            self.tokens.update(vars(entry.usage))
        if entry.status == "completed":
            self.completed += 1
        elif entry.status == "cancelled":
            self.cancelled += 1
        else:
            self.failed[entry.code or "unknown"] += 1

    @property
    def size(self) -> int:
        """Tokens that were sent and received; cached and reasoning ones are part of these."""
        return self.tokens["input"] + self.tokens["output"]

    @property
    def minutes(self) -> float:
        """With the time in which the runs were queued."""
        return round(self.elapsed_ms / 60_000, 1)

    def row(self) -> JsonObject:
        """For a report."""
        names = ("input", "cached_input", "output", "reasoning")
        return {
            "runs": self.runs,
            "completed": self.completed,
            "failed": dict(self.failed.most_common()),
            "cancelled": self.cancelled,
            "tokens": {name: self.tokens[name] for name in names},
            "minutes": self.minutes,
        }


def report(store: Store, by: str, since: str) -> EnvelopeDict:
    """The runs that ended since then, added up by day, workspace, kind or model.

    `data` has `since` (local time), `by`, `rows` and `total`. Raises `invalid_arguments`, and
    as `Store.check`.
    """
    begin = moment_of(since, datetime.now().astimezone())
    known = ledger.read(store.state, begin.timestamp())
    left = _add_unnoted(store, known, begin.timestamp())

    sums: dict[str | None, Sum] = {}
    total = Sum()
    for entry in known.entries.values():
        sums.setdefault(_key(entry, by), Sum()).add(entry)
        total.add(entry)
    rows = [{by: key, **sums[key].row()} for key in _ordered(sums, by)]
    day = begin.isoformat(sep=" ", timespec="minutes")[:16].removesuffix(" 00:00")
    return completed(
        TOOL,
        _summary(total, day),
        {
            "since": begin.isoformat(timespec="seconds"),
            "by": by,
            "rows": rows,
            "total": total.row(),
        },
        Meta(warnings=_warnings(known, left)),
    ).wire()


def this_month(store: Store) -> JsonObject:
    """The runs of this month of local time, as far as the ledger knows them: `month`, `runs`, `tokens`, `minutes`."""
    today = datetime.now().astimezone()
    begin = _midnight(today.date().replace(day=1)).timestamp()
    total = Sum()
    for entry in ledger.read(store.state, begin).entries.values():
        total.add(entry)
    return {
        "month": today.strftime("%Y-%m"),
        "runs": total.runs,
        "tokens": total.size,
        "minutes": total.minutes,
    }


def moment_of(since: str, now: datetime) -> datetime:
    """The begin of `24h`, `7d`, `4w` or a date, in local time. `7d` are today and the six days before.

    Raises `invalid_arguments`.
    """
    try:
        begin = _begin(since, now)
    except (ValueError, OverflowError):
        begin = None
    if begin is None or begin > now:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "--since: takes a number of hours, days or weeks (24h, 7d, 4w) or a date of the past (2026-01-31)",
        )
    return begin


def _begin(since: str, now: datetime) -> datetime | None:
    """Raises ValueError for a day that no month has, OverflowError for one before the calendar."""
    if _DATE.fullmatch(since):
        return _midnight(date.fromisoformat(since))
    match = _SPAN.fullmatch(since)
    if match is None:
        return None
    count = int(match[1])
    if match[2] == "h":
        return now - timedelta(hours=count)
    if match[2] == "w":
        count *= 7
    return _midnight(now.date() - timedelta(days=count - 1))


def _midnight(day: date) -> datetime:
    """Of that day in the local time zone. The ledger has nothing from before 1970."""
    begin = datetime.combine(max(day, date(1970, 1, 2)), day_time.min)
    # A day on which the clock was set forward at midnight begins at one; `astimezone`
    # alone would take it for the hour before midnight.
    return datetime.fromtimestamp(begin.timestamp()).astimezone()


def _key(entry: Entry, by: str) -> str | None:
    if by == "day":
        return time.strftime("%Y-%m-%d", time.localtime(entry.ended))
    if by == "workspace":
        return entry.workspace
    if by == "kind":
        kind = entry.tool.removeprefix("codex_")
        return KINDS.get(kind, kind)
    return entry.model


def _ordered(sums: dict[str | None, Sum], by: str) -> list[str | None]:
    """Days in their order, all else by tokens, the most first."""
    if by == "day":
        return sorted(sums, key=str)
    return sorted(sums, key=lambda key: (-sums[key].size, -sums[key].runs, str(key)))


def _summary(total: Sum, day: str) -> str:
    if not total.runs:
        return f"No run has ended since {day}"
    runs = "1 run" if total.runs == 1 else f"{total.runs} runs"
    return f"{runs} since {day}: {total.size} tokens, {total.minutes:g} minutes"


def _warnings(known: Ledger, left: int) -> list[str]:
    warnings = []
    if known.damaged:
        warnings.append(f"damaged lines of the ledger, not counted: {known.damaged}")
    if known.unreadable:
        warnings.append(
            f"files of the ledger that cannot be read, not counted: {known.unreadable}"
        )
    if left:
        warnings.append(
            f"runs of earlier releases, not counted yet: {left}; the next call goes on with them"
        )
    return warnings


# --- runs without a line: of an earlier release, of a killed worker, or where the disk was full


def _add_unnoted(store: Store, known: Ledger, since: float) -> int:
    """Add the runs whose record has no line, and give them one; returns how many there was no time for."""
    deadline = time.monotonic() + UNNOTED_SECONDS
    left = 0
    for job in store.jobs():
        if job.id in known.entries:
            continue
        if time.monotonic() > deadline:
            left += 1
            continue
        entry = _unnoted(store, job, since)
        if entry:
            known.entries[entry.job_id] = entry
    return left


def _unnoted(store: Store, job: Job, since: float) -> Entry | None:
    """The entry of a run that has ended since then. One whose worker is gone is concluded, which makes its line."""
    try:
        has_result = True
        if (job.path / "result.json").stat().st_mtime < since:
            return None
    except OSError:
        has_result = False
    try:
        outcome = recovery.outcome(job)
        if outcome is None:
            return None
        spec = job.spec()
        if not spec.argv:  # the jobs that it started have lines of their own
            return None
        line = ledger.line_of(spec, outcome, job.ended_at())
        entry = ledger.parse(line)
    except (CounselError, OSError, ValueError):
        # `jobs` says of a damaged record what is wrong with it.
        return None
    if has_result:
        ledger.append(store.state, line)
    return entry
