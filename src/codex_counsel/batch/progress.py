"""How far a batch has come."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.batch.model import Load
from codex_counsel.batch.totals import Totals
from codex_counsel.system.amounts import duration, short_number

MINUTE = 60.0


@dataclass(frozen=True)
class Progress:
    """`total` items, of which `totals` have ended, `ended_now` of them in this process; and what runs.

    `seconds` have passed since this process began, without pauses; `paused_seconds` are left of a pause.
    `stopping` says that nothing more is started.
    """

    total: int
    totals: Totals
    load: Load
    ended_now: int
    seconds: float
    paused_seconds: float = 0.0
    stopping: bool = False

    @property
    def per_minute(self) -> float | None:
        """Items that ended in a minute, on average, pauses left out; None before the first."""
        if not self.ended_now or self.seconds <= 0:
            return None
        return self.ended_now / self.seconds * MINUTE

    @property
    def seconds_left(self) -> float | None:
        """What the others will take at this rate; None where nobody can tell."""
        rate = self.per_minute
        if rate is None or self.stopping:
            return None
        left = self.total - self.totals.ended
        return left / rate * MINUTE + self.paused_seconds

    def text(self) -> str:
        """One line: `12/300 done, 36m left, 4 running, 1 failed, 1.2M tokens, 8.0/min`.

        A narrow terminal shows its beginning.
        """
        totals = self.totals
        parts = [f"{totals.ended}/{self.total} done"]
        if self.stopping:
            parts.append("stopping")
        if self.paused_seconds:
            parts.append(f"paused for {duration(self.paused_seconds)}")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        parts.append(f"{self.load.running} running")
        counts = {
            "queued": self.load.queued,
            "failed": totals.failed - totals.lost,
            "lost": totals.lost,
        }
        parts += [f"{count} {name}" for name, count in counts.items() if count]
        parts.append(f"{short_number(totals.tokens)} tokens")
        if self.per_minute is not None:
            parts.append(f"{self.per_minute:.1f}/min")
        return ", ".join(parts)
