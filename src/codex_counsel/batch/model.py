"""What a batch is made of: its items, what came of one, and the place where they are run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    parse,
)
from codex_counsel.errors import Code
from codex_counsel.system.json_values import JsonObject

Kind = Literal["consult", "review", "plan", "delegate"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REQUESTS: Mapping[Kind, type[RunRequest]] = {
    "consult": Consult,
    "review": ReviewChanges,
    "plan": ReviewPlan,
    "delegate": Delegate,
}
LOST = (Code.WORKER_LOST, Code.PROCESS_DIED)
"""What an item failed with of which nobody knows whether the model had answered: it is not repeated by itself."""


@dataclass(frozen=True)
class Item:
    """One request of a batch. `arguments` are those of its tool, by their names on the wire.

    `id` names it in this batch, `batch` names the batch for good (32 hexadecimal digits).
    `root` is the directory of its repository, resolved; `source` how the request named it.
    """

    id: str
    kind: Kind
    arguments: JsonObject
    root: Path
    source: str
    batch: str

    @property
    def key(self) -> str:
        """The idempotency key of its run, on whatever machine: 32 hexadecimal digits."""
        text = f"{self.batch}\0{self.id}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def request(self) -> RunRequest:
        """What it asks for. Raises `invalid_arguments`."""
        arguments = {
            **self.arguments,
            "workspace_root": str(self.root),
            "idempotency_key": self.key,
        }
        return parse(REQUESTS[self.kind], arguments)


@dataclass(frozen=True)
class Ended:
    """An item that has ended, with its terminal envelope: it is stored already, with the jobs of this user.

    An item whose run was lost has an envelope that failed with a code of `LOST`.
    """

    item: Item
    envelope: EnvelopeDict


@dataclass(frozen=True)
class Load:
    """How many runs work, wait for a slot, and could be started now."""

    running: int
    queued: int
    free: int


class Pool(Protocol):
    """Where runs go: this machine, or a cluster. Called from one thread.

    Runs go on without the process that started them: a later pool for the same batch joins
    them by their keys, and starts none of them twice.
    """

    def load(self) -> Load:
        """What there is to do, and room for more. `free` is 0 while nothing can be started."""

    def start(self, item: Item) -> None:
        """Start the run of an item, or join the one that it has. Costs milliseconds; waits for no run.

        Raises CounselError where the run cannot be started: no tokens were spent.
        """

    def ended(self, seconds: float) -> list[Ended]:
        """Wait at most so long until something ends, and return what has ended since the last call."""

    def cancel(self) -> list[str]:
        """End all that was started; returns when that is done, with a sentence for each place that did not answer."""

    def notices(self) -> list[str]:
        """What a person should know since the last call: a node that is gone, or came back."""

    def close(self) -> None:
        """Let go of what the pool holds. Runs go on."""
