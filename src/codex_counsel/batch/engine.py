"""Runs the items of a batch: a bounded number at once, each one time, whatever happens on the way.

Invariants: an item is started only where neither the record of the batch nor the jobs of
this user have a run of it that counts, see `stored`. A result is in the record before
anybody is told of it. In memory are the ids of the items and those items that run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from codex_counsel.batch import limits, stored
from codex_counsel.batch.model import REQUESTS, Ended, Item, Pool
from codex_counsel.batch.progress import Progress
from codex_counsel.batch.record import Record
from codex_counsel.batch.totals import Retry, code_of, is_lost, tokens_of
from codex_counsel.contract.envelope import failed
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import (
    CATALOG,
    FAILED,
    INTERRUPTED,
    OVER_BUDGET,
    Code,
    CounselError,
)
from codex_counsel.jobs.store import Store
from codex_counsel.system.amounts import duration
from codex_counsel.system.text import one_line, visible

WAIT_SECONDS = 0.5
"""Between two looks at what a person asks for, or at the clock of a pause."""
TELL_SECONDS = 0.25
NEWS_SECONDS = 5.0
"""A reset that is later by less than this is the same one."""


@dataclass(frozen=True)
class EngineOptions:
    """How this process runs a batch. `retry` says which items that have ended are run anew.

    `max_tokens` and `max_failures` are those of all results; None: no limit. `is_new`
    says that nothing of it can run already.
    """

    settings: Settings
    max_tokens: int | None = None
    max_failures: int | None = None
    retry: Retry = "none"
    is_new: bool = False


@dataclass
class Control:
    """What a person asks for while a batch runs; a signal handler may call `ask_to_end`."""

    wish: Literal["go_on", "let_end", "end"] = "go_on"

    def ask_to_end(self, *, at_once: bool = False) -> None:
        """Start nothing more; asked again, or `at_once`, also end what runs."""
        if at_once or self.wish == "let_end":
            self.wish = "end"
        elif self.wish == "go_on":
            self.wish = "let_end"


@dataclass(frozen=True)
class Stop:
    """Why a batch ended before all of its items had."""

    exit_code: int
    reason: str
    repair: str = ""


@dataclass(frozen=True)
class Outcome:
    """How it ended. `left` items have no result; `unanswered` names places that did not say whether they ended all."""

    stop: Stop | None
    left: int
    unanswered: list[str] = field(default_factory=list)


OnChange = Callable[[Progress, list[str]], None]
"""Gets how far the batch has come, several times a second, and sentences about what happened since the last call."""


def run(
    record: Record,
    pool: Pool,
    options: EngineOptions,
    on_change: OnChange,
    control: Control | None = None,
) -> Outcome:
    """Run what has no result yet. Returns when nothing of the batch runs any more, unless its pool cannot tell.

    Raises what `pool` raises where it cannot be used at all.
    """
    return _Engine(record, pool, options, on_change, control or Control()).run()


class _Engine:
    def __init__(
        self,
        record: Record,
        pool: Pool,
        options: EngineOptions,
        on_change: OnChange,
        control: Control,
    ) -> None:
        self._record = record
        self._pool = pool
        self._options = options
        self._on_change = on_change
        self._control = control
        self._store = Store(options.settings.state)
        self._stop: Stop | None = None
        self._events: list[str] = []
        self._running: set[str] = set()
        self._again: deque[Item] = deque()
        self._later = self._items_without_run()
        self._spent = 0
        """Tokens of runs that are in no result: they met a limit, or are run anew."""
        self._ended_now = 0
        self._begin = _seconds()
        self._paused_until = 0.0
        self._pauses = 0.0
        """Seconds of all pauses, with what is left of the last one."""
        self._told = 0.0
        self._is_interrupt_told = False
        self._unanswered: list[str] = []

    def run(self) -> Outcome:
        if not self._options.is_new:
            self._join()
        self._begin, self._ended_now = _seconds(), 0
        self._pauses = max(self._paused_until - self._begin, 0.0)
        self._check_totals()
        while self._control.wish != "end":
            if self._has_room() and self._has_next():
                self._start_once(self._again.popleft())
                self._take(self._pool.ended(0))
                self._tell_if_due()
            elif not self._running and not (self._may_start() and self._has_next()):
                break
            else:
                self._take(self._pool.ended(WAIT_SECONDS))
                self._tell()
        if self._control.wish == "end":
            self._end_all()
        self._tell()
        return self._outcome()

    def _outcome(self) -> Outcome:
        left = self._record.items_total - self._record.totals.ended
        stop = self._stop
        if stop is None and self._control.wish != "go_on":
            stop = Stop(INTERRUPTED, "The batch was interrupted")
        if not left:
            stop = None
        return Outcome(stop, left, self._unanswered)

    # --- what a resumed batch finds

    def _join(self) -> None:
        """Take the results of runs that ended meanwhile, and join those that live, before anything is started."""
        tokens = self._record.totals.tokens
        self._record.forget(self._options.retry)
        self._spent += tokens - self._record.totals.tokens
        self._record.forget_unstarted()
        for item in self._record.items():
            is_settled = self._record.has_ended(item.id)
            if is_settled and item.id not in self._record.lost:
                continue
            earlier = self._earlier(item)
            is_away = earlier is None and self._record.place_of(item.id) is not None
            is_living = earlier is not None and earlier.outcome is None
            if is_away or is_living:
                self._start(item)
            elif earlier:
                self._take_earlier(item, earlier)
            self._tell_if_due()

    def _earlier(self, item: Item) -> stored.Earlier | None:
        """Its latest run. None also where nobody can tell: then the batch has stopped, or the item has a result."""
        try:
            return stored.find(self._store, item)
        except CounselError as error:
            self._cannot_start(item, error)
            return None

    def _take_earlier(self, item: Item, earlier: stored.Earlier) -> bool:
        """Note the result of a run that has ended; false where it is none."""
        retry = self._options.retry
        if earlier.outcome is None or not earlier.is_result(retry):
            return False
        self._note([Ended(item, earlier.outcome)])
        return True

    # --- starting

    def _items_without_run(self) -> Iterator[Item]:
        """The items that have no result and do not run, read as they are needed."""
        for item in self._record.items():
            if not self._record.has_ended(item.id) and item.id not in self._running:
                yield item

    def _has_next(self) -> bool:
        """Whether there is an item that could be started."""
        if not self._again:
            self._again.extend(islice(self._later, 1))
        return bool(self._again)

    def _may_start(self) -> bool:
        return self._stop is None and self._control.wish == "go_on"

    def _has_room(self) -> bool:
        if not self._may_start() or _seconds() < self._paused_until:
            return False
        return self._pool.load().free > 0

    def _start_once(self, item: Item) -> None:
        """Start the item, unless a run of it counts."""
        if item.id in self._running or self._record.has_ended(item.id):
            return
        earlier = self._earlier(item)
        if self._stop or self._record.has_ended(item.id):
            return
        if earlier is None or not self._take_earlier(item, earlier):
            self._start(item)

    def _start(self, item: Item) -> None:
        try:
            self._pool.start(item)
        except CounselError as error:
            self._cannot_start(item, error)
        else:
            self._running.add(item.id)

    def _cannot_start(self, item: Item, error: CounselError) -> None:
        if limits.pauses(error.code):
            self._again.appendleft(item)
            seconds = limits.seconds_of(error, self._options.settings)
            self._pause(seconds, error.message)
        elif limits.stops(error.code):
            self._stop_for(error.code, error.message, error.repair)
        elif self._control.wish == "go_on":
            envelope = failed(REQUESTS[item.kind].tool, error).wire()
            self._note([Ended(item, envelope)])

    # --- what ends

    def _take(self, ended: list[Ended]) -> None:
        results = []
        for one in ended:
            self._running.discard(one.item.id)
            code = code_of(one.envelope)
            if limits.is_no_result(code):
                self._spent += tokens_of(one.envelope)
                self._again.append(one.item)
            else:
                results.append(one)
            if code is not None:
                self._heed(code, one)
        self._note(results)
        self._check_totals()

    def _heed(self, code: str, ended: Ended) -> None:
        """Pause or stop where an error says so."""
        error = ended.envelope["error"]
        if limits.pauses(code):
            seconds = limits.seconds_until_reset(error, self._options.settings)
            self._pause(seconds, str(error["message"]))
        elif limits.stops(code):
            self._stop_for(Code(code), str(error["message"]), str(error["repair"]))

    def _pause(self, seconds: float, why: str) -> None:
        until = _seconds() + seconds
        is_news = until > self._paused_until + NEWS_SECONDS
        self._pauses += max(until - max(self._paused_until, _seconds()), 0.0)
        self._paused_until = max(self._paused_until, until)
        if is_news:
            reset = time.localtime(time.time() + seconds)
            when = time.strftime("%Y-%m-%d %H:%M:%S %Z", reset)
            self._events.append(
                f"paused until {when}, for {duration(seconds)}: {_words(why)}"
            )

    def _stop_for(self, code: Code, message: str, repair: str | None) -> None:
        if self._stop is None:
            meaning = CATALOG[code]
            repair = repair or meaning.terminal_repair or meaning.repair
            reason = f"{code}: {_words(message)}"
            self._stop_with(Stop(meaning.exit_code, reason, repair))

    def _stop_with(self, stop: Stop) -> None:
        self._stop = stop
        self._events.append(f"nothing more is started: {stop.reason}")

    # --- results

    def _note(self, ended: list[Ended]) -> None:
        """Write results down, then say so to whoever keeps them. What cannot be written is found again by a resume."""
        if not ended:
            return
        try:
            news = self._record.add_results(ended)
        except CounselError as error:
            self._stop_for(error.code, error.message, error.repair)
            return
        self._ended_now += len(news)
        for one in news:
            stored.mark_recorded(self._store, one.envelope)
            if is_lost(one.envelope):
                why = _words(one.envelope["error"]["message"])
                self._events.append(f"{visible(one.item.id)} is lost: {why}")

    def _check_totals(self) -> None:
        """Stop where the batch has used up what it may."""
        if self._stop:
            return
        most_tokens, most_failures = (
            self._options.max_tokens,
            self._options.max_failures,
        )
        tokens = self._record.totals.tokens + self._spent
        failures = self._record.totals.failed
        if most_tokens is not None and tokens >= most_tokens:
            reason = (
                f"The batch has used {tokens:,} tokens; --max-tokens is {most_tokens:,}"
            )
            repair = "Resume it with a higher --max-tokens."
            self._stop_with(Stop(OVER_BUDGET, reason, repair))
        elif most_failures is not None and failures >= most_failures:
            reason = f"{failures} items have failed; --max-failures is {most_failures}"
            repair = (
                "Look at the errors in results.jsonl, then resume it with a higher --max-failures, or with "
                "--retry-failed, which runs these items anew."
            )
            self._stop_with(Stop(FAILED, reason, repair))

    # --- the end, and what is told

    def _end_all(self) -> None:
        """End what runs. What had ended before is a result; the others run anew when the batch is resumed."""
        self._events.append("ending what runs ...")
        self._tell()
        self._unanswered = self._pool.cancel()
        ended = self._pool.ended(0)
        self._note([one for one in ended if _has_ended_by_itself(one)])

    def _tell_if_due(self) -> None:
        if self._events or _seconds() >= self._told + TELL_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._told = _seconds()
        if self._control.wish == "let_end" and not self._is_interrupt_told:
            self._is_interrupt_told = True
            self._events.append(
                "nothing more is started, what runs ends; Ctrl-C again ends it now"
            )
        events = [*self._events, *map(_words, self._pool.notices())]
        self._events = []
        now = self._told
        paused_seconds = max(self._paused_until - now, 0.0)
        progress = Progress(
            total=self._record.items_total,
            totals=self._record.totals,
            load=self._pool.load(),
            ended_now=self._ended_now,
            seconds=now - self._begin - (self._pauses - paused_seconds),
            paused_seconds=paused_seconds,
            stopping=not self._may_start(),
        )
        self._on_change(progress, events)


def _has_ended_by_itself(ended: Ended) -> bool:
    if ended.envelope["status"] == "cancelled":
        return False
    return not limits.is_no_result(code_of(ended.envelope))


def _words(text: str) -> str:
    return one_line(visible(text), 300)


def _seconds() -> float:
    """A clock that goes on while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
