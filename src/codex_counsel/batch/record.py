"""The directory of a batch: what was asked, what came of it, and where items were sent.

- `batch.json`: `{"format", "id", "created", "items", "options"}`. It is written last when a batch is begun, so a
  directory without it is that of a batch of which nothing was started.
- `requests.jsonl`: each item, `{"id", "kind", "arguments", "repo", "root"}` a line. `repo` is how the request
  named the repository, `root` the directory that it stands for.
- `results.jsonl`: each item that has ended, `{"id", ...envelope}` a line, in the order of their ends.
- `places.jsonl`: where an item was sent, `{"id", "node"}` a line; the last line of an item counts, and `null` stands
  for none.
- `lock`: held by the process that works on the batch. `.gitignore`: the directory may lie in a repository that is
  being reviewed.

A result or a place is on the disk before whoever writes it goes on.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from codex_counsel.batch import directory as directories
from codex_counsel.batch.directory import (
    BATCH,
    PLACES,
    REQUESTS,
    RESULTS,
    failed,
    shown,
)
from codex_counsel.batch.lines import Lines, line_of, rows_of
from codex_counsel.batch.model import KINDS, Ended, Item
from codex_counsel.batch.totals import (
    Retry,
    Totals,
    is_failed,
    is_lost,
    was_not_started,
)
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import FailOn
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import (
    read_json,
    remove_drafts,
    write_atomically,
)
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

FORMAT = 1

DAMAGED = (
    "Put the file back as it was. Without it, the answers that there are stand in results.jsonl and in "
    "`codex-counsel jobs --all`; ask for the others in a new batch."
)


@dataclass(frozen=True)
class BatchOptions:
    """What holds for a batch until a resume names something else.

    `jobs` is how many runs of this machine go at once, `cluster` the address of a Dask
    scheduler or `local`; None: this machine's slots. `max_tokens` and `max_failures` are
    those of the whole batch. `fail_on` and `new_only` say which findings count.
    """

    jobs: int | None = None
    cluster: str | None = None
    max_tokens: int | None = None
    max_failures: int | None = None
    fail_on: FailOn | None = None
    new_only: bool = False


class Record:
    """The directory of a batch, which this process holds until `close`.

    Methods raise `storage_failed` where something cannot be read or written.
    """

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self.id = ""
        self.items_total = 0
        self.options = BatchOptions()
        self.totals = Totals()
        self.lost: set[str] = set()
        """The ids of the items whose result says that they were lost."""
        self.failed: set[str] = set()
        """The ids of the items that ended with an error, those that were lost among them."""
        self.unstarted: set[str] = set()
        """The ids of the items that could not be started: nothing was paid for them."""
        self._lock = lock
        self._ended: set[str] = set()
        self._places: dict[str, str] = {}
        self._results: Lines | None = None
        self._place_lines: Lines | None = None

    # --- beginning and ending

    @classmethod
    def create(cls, directory: Path) -> Record:
        """Take an empty directory for a new batch, which `begin` begins; it is made where there is none.

        Raises `invalid_arguments` for one that has something in it, and `session_busy`
        while another process has it.
        """
        lock = directories.take_new(directory)
        record = cls(directory.resolve(), lock)
        record.id = secrets.token_hex(16)
        return record

    def begin(self, items: Iterable[Item], options: BatchOptions) -> None:
        """Write down all items, before one of them is started.

        Raises `invalid_arguments` for an id that comes twice, and for no item at all; then
        nothing was begun.
        """
        header = {
            "format": FORMAT,
            "id": self.id,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        ids: set[str] = set()
        try:
            for name in (REQUESTS, BATCH):
                remove_drafts(self.directory / name)
            requests = map(line_of, _rows(items, ids))
            write_atomically(self.directory / REQUESTS, requests, durable=True)
            if not ids:
                raise CounselError(
                    Code.INVALID_ARGUMENTS, "There is no request in this batch"
                )
            header |= {"items": len(ids), "options": asdict(options)}
            write_atomically(
                self.directory / BATCH, json.dumps(header, indent=2), durable=True
            )
            directories.sync(self.directory)
            self._open_lines()
        except OSError as error:
            raise directories.not_made(self.directory, error) from None
        self.options = options
        self.items_total = len(ids)

    @classmethod
    def open(cls, directory: Path) -> Record:
        """Go on with a batch that was begun. What a killed process left half written is cut off.

        Raises `invalid_arguments` where there is none, or one of another format, and
        `session_busy` while another process works on it.
        """
        lock = directories.take_begun(directory)
        record = cls(directory.resolve(), lock)
        try:
            record._load(shown(directory))
        except OSError as error:
            record.close()
            raise failed(directory, error) from None
        except CounselError:
            record.close()
            raise
        return record

    def discard(self) -> None:
        """Remove what `create` and `begin` have made, where nothing was started. Clones of repositories stay."""
        directories.clear(self.directory)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory. May be called twice."""
        for lines in (self._results, self._place_lines):
            if lines:
                lines.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _load(self, name: str) -> None:
        try:
            header = read_json(self.directory / BATCH)
        except ValueError:
            header = None
        match header:
            case {"format": int(number)} if number != FORMAT:
                age = "a newer" if number > FORMAT else "an older"
                raise CounselError(
                    Code.INVALID_ARGUMENTS,
                    f"--resume: {name} has format {number}, of {age} release; this one reads format {FORMAT}",
                    repair="Resume it with the release that began it.",
                )
            case {
                "format": int(),
                "id": str(batch),
                "items": int(count),
                "options": dict(options),
            }:
                pass
            case _:
                raise CounselError(
                    Code.INVALID_ARGUMENTS,
                    f"--resume: {name}/{BATCH} is damaged",
                    repair=DAMAGED,
                )
        try:
            self.options = read(BatchOptions, options, "options")
        except ValueError as error:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"--resume: {name}/{BATCH} is damaged: {error}",
                repair=DAMAGED,
            ) from None
        self.id, self.items_total = batch, count
        self._open_lines()

    def _open_lines(self) -> None:
        """Raises OSError, and `storage_failed` for a damaged file."""
        results = self._results = Lines(self.directory / RESULTS)
        for row in results.rows():
            self._count(*_result_of(row, results.path))
        places = self._place_lines = Lines(self.directory / PLACES)
        for row in places.rows():
            match row:
                case {"id": str(item_id), "node": str(node)}:
                    self._places[item_id] = node
                case {"id": str(item_id), "node": None}:
                    self._places.pop(item_id, None)

    def with_options(self, options: BatchOptions) -> None:
        """Have these hold from now on, for later resumes too."""
        if options == self.options:
            return
        try:
            header = read_json(self.directory / BATCH)
            text = json.dumps({**header, "options": asdict(options)}, indent=2)
            write_atomically(self.directory / BATCH, text, durable=True)
        except (OSError, ValueError) as error:
            raise failed(self.directory, error) from None
        self.options = options

    # --- items

    def items(self) -> Iterator[Item]:
        """Every item, in the order of the requests; they are read while they are iterated.

        Raises `storage_failed` at the end where some of them are missing.
        """
        path = self.directory / REQUESTS
        count = 0
        try:
            with path.open("rb") as file:
                for row in rows_of(file, path):
                    count += 1
                    yield self._item(row, path)
        except OSError as error:
            raise failed(path, error) from None
        if count != self.items_total:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"{shown(path)} is damaged: it has {count:,} of the {self.items_total:,} requests of this batch",
                repair=DAMAGED,
            )

    def _item(self, row: JsonObject, path: Path) -> Item:
        match row:
            case {
                "id": str(item_id),
                "kind": kind,
                "arguments": dict(arguments),
                "repo": str(source),
                "root": str(root),
            } if kind in KINDS:
                return Item(item_id, kind, arguments, Path(root), source, self.id)
        raise CounselError(
            Code.STORAGE_FAILED,
            f"{shown(path)} is damaged: one of its lines is no request",
            repair=DAMAGED,
        )

    def has_ended(self, item_id: str) -> bool:
        """Whether the item has a result, be it that it was lost."""
        return item_id in self._ended

    # --- results

    def results(self) -> Iterator[tuple[str, EnvelopeDict]]:
        """The id and the envelope of every result, in the order of their ends."""
        if self._results is None:
            return
        try:
            for row in self._results.rows():
                yield _result_of(row, self._results.path)
        except OSError as error:
            raise failed(self._results.path, error) from None

    def add_results(self, ended: Iterable[Ended]) -> list[Ended]:
        """Write down how items ended, and return those of which that was news.

        A result takes the place of one that says the item was lost, and of no other.
        """
        new: dict[str, Ended] = {}
        for one in ended:
            item_id = one.item.id
            is_found = item_id in self.lost and not is_lost(one.envelope)
            if is_found or not self.has_ended(item_id):
                new.setdefault(item_id, one)
        self._drop(self.lost & new.keys())
        assert self._results is not None  # noqa: S101  # it was begun or opened
        try:
            self._results.add(_row(one.item.id, one.envelope) for one in new.values())
        except OSError as error:
            raise failed(self._results.path, error) from None
        for one in new.values():
            self._count(one.item.id, one.envelope)
        return list(new.values())

    def retried(self, retry: Retry) -> frozenset[str]:
        """The ids of the items that have ended and are to run anew."""
        match retry:
            case "failed":
                return frozenset(self.failed)
            case "lost":
                return frozenset(self.lost)
            case "none":
                return frozenset()

    def forget(self, retry: Retry) -> None:
        """Take back the results of the items that are to run anew, and where they were sent."""
        retried = self.retried(retry)
        # A node that is asked for its run would answer as it did before.
        placed = [item_id for item_id in retried if item_id in self._places]
        self._add_places(dict.fromkeys(placed))
        self._drop(retried)

    def forget_unstarted(self) -> None:
        """Take back the results of items that could not be started: what was in the way may be mended."""
        self._drop(
            {item_id for item_id in self.unstarted if not self.place_of(item_id)}
        )

    def take_back(self, ids: Iterable[str]) -> None:
        """Take back the results of these items: their runs are to be looked for again."""
        self._drop(self._ended.intersection(ids))

    def _drop(self, ids: AbstractSet[str]) -> None:
        """Take back the results of these items."""
        if not ids:
            return
        assert self._results is not None  # noqa: S101  # as above
        dropped: list[tuple[str, EnvelopeDict]] = []
        try:
            self._results.replace(self._rows_without(ids, dropped))
        except OSError as error:
            raise failed(self._results.path, error) from None
        for item_id, envelope in dropped:
            self._ended.discard(item_id)
            self.lost.discard(item_id)
            self.failed.discard(item_id)
            self.unstarted.discard(item_id)
            self.totals = self.totals.plus(envelope, -1)

    def _rows_without(
        self, ids: AbstractSet[str], dropped: list[tuple[str, EnvelopeDict]]
    ) -> Iterator[JsonObject]:
        for item_id, envelope in self.results():
            if item_id in ids:
                dropped.append((item_id, envelope))
            else:
                yield _row(item_id, envelope)

    def _count(self, item_id: str, envelope: EnvelopeDict) -> None:
        self._ended.add(item_id)
        if is_lost(envelope):
            self.lost.add(item_id)
        if is_failed(envelope):
            self.failed.add(item_id)
        if was_not_started(envelope):
            self.unstarted.add(item_id)
        self.totals = self.totals.plus(envelope)

    # --- places

    def note_place(self, item_id: str, node: str) -> None:
        """Note where an item is about to be sent."""
        if self._places.get(item_id) != node:
            self._add_places({item_id: node})

    def forget_place(self, item_id: str) -> None:
        """Note that an item is nowhere."""
        if item_id in self._places:
            self._add_places({item_id: None})

    def place_of(self, item_id: str) -> str | None:
        """The node that an item was sent to last; None where it was sent nowhere."""
        return self._places.get(item_id)

    def _add_places(self, places: Mapping[str, str | None]) -> None:
        assert self._place_lines is not None  # noqa: S101  # it was begun or opened
        rows = [{"id": item_id, "node": node} for item_id, node in places.items()]
        try:
            self._place_lines.add(rows)
        except OSError as error:
            raise failed(self._place_lines.path, error) from None
        for item_id, node in places.items():
            if node is None:
                self._places.pop(item_id, None)
            else:
                self._places[item_id] = node


def _rows(items: Iterable[Item], ids: set[str]) -> Iterator[JsonObject]:
    """The lines of the items, whose ids are added to `ids`."""
    for item in items:
        if item.id in ids:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"The id {one_line(visible(item.id), 200)} comes twice",
                repair="Give each request an id of its own.",
            )
        ids.add(item.id)
        yield {
            "id": item.id,
            "kind": item.kind,
            "arguments": item.arguments,
            "repo": item.source,
            "root": str(item.root),
        }


def _row(item_id: str, envelope: EnvelopeDict) -> JsonObject:
    return {"id": item_id, **envelope}


def _result_of(row: JsonObject, path: Path) -> tuple[str, EnvelopeDict]:
    match row:
        case {"id": str(item_id), "ok": bool(), "status": str(), "meta": dict()}:
            envelope = dict(row)
            del envelope["id"]
            return item_id, envelope
    raise CounselError(
        Code.STORAGE_FAILED,
        f"{shown(path)} is damaged: one of its lines is no result",
        repair="Remove the line: then the run that it is about is looked for among the jobs.",
    )
