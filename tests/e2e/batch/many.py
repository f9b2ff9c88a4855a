"""Run by `test_many`: `python -m tests.e2e.batch.many DIRECTORY COUNT`. Ends each item at once; prints the cost."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from codex_counsel.batch import engine
from codex_counsel.batch.model import Item
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.settings import Settings
from tests.e2e.batch.peak import peak_bytes
from tests.unit.batches import ScriptedPool, answer

TEXT = "A sentence of the answer. " * 200


def play(_item: Item) -> EnvelopeDict:
    return answer(TEXT)


def main() -> None:
    base, count = Path(sys.argv[1]), int(sys.argv[2])
    directory = base / "batch"
    with Record.create(directory) as record:
        items = (
            Item(f"item-{number}", "consult", {"question": TEXT}, base, ".", record.id)
            for number in range(count)
        )
        record.begin(items, BatchOptions())
        seconds = time.process_time()
        outcome = engine.run(
            record,
            ScriptedPool(play, room=16),
            engine.EngineOptions(Settings(state_dir=str(base / "state")), is_new=True),
            lambda *_: None,
        )
        seconds = time.process_time() - seconds
    with Record.open(directory) as again:
        ended = again.totals.ended
    most = peak_bytes()
    report = {
        "left": outcome.left,
        "ended": ended,
        "bytes": most,
        "milliseconds_per_item": seconds / count * 1000,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
