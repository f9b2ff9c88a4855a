"""The table of the kinds of run: what a worker does before Codex starts and after it, and what makes the envelope.

A kind's modules are imported when a run of that kind needs them, inside the functions
below: the worker reads this table before Codex starts, and at its end it needs one kind
of them.
"""

from __future__ import annotations

from typing import Literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from codex_counsel.contract.envelope import Envelope
    from codex_counsel.kind import EndedRun, Steps
    from codex_counsel.system.json_values import Json

KindName = Literal["consult", "review", "delegate", "attempts", "proof", "in_place"]
KIND_FIELDS = (
    "output_schema",
    "library",
    "review",
    "delegate",
    "attempts",
    "proof",
    "in_place",
)
"""The fields of `spec.json` that belong to one kind."""


class Kind:
    """A row of the table.

    `conclude` makes the envelope of an ended run, one process at a time; it may be
    called again for a run it has concluded before.

    `set_up(details, scratch, directory)` makes what Codex starts in; None where an
    empty TMPDIR will do. It raises CounselError or OSError.

    `follow_up(ended, steps)` comes after a turn of Codex that was completed, in the worker
    alone: it runs commands and further jobs, and stores what came of them in the job's
    directory, where `conclude` finds it.
    """

    def __init__(
        self,
        conclude: Callable[[EndedRun], Envelope],
        set_up: Callable[[Mapping[str, Json], str, str], None] | None = None,
        follow_up: Callable[[EndedRun, Steps], None] | None = None,
    ) -> None:
        self.conclude = conclude
        self.set_up = set_up
        self.follow_up = follow_up


def name_of(details: Mapping[str, Json]) -> KindName:
    """The kind of a job, from which of these fields of its `spec.json` are set.

    Attempts and proofs are delegated tasks too.
    """
    names: tuple[KindName, ...] = (
        "attempts",
        "proof",
        "delegate",
        "review",
        "in_place",
    )
    for name in names:
        if details.get(name):
            return name
    return "consult"


def _conclude_consult(ended: EndedRun) -> Envelope:
    from codex_counsel.consult.conclude import conclude

    return conclude(ended)


def _conclude_review(ended: EndedRun) -> Envelope:
    from codex_counsel.review.conclude import conclude

    return conclude(ended)


def _set_up_review(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    from codex_counsel.review.set_up import set_up

    set_up(details, scratch, directory)


def _follow_up_review(ended: EndedRun, steps: Steps) -> None:
    from codex_counsel.review.prove import follow_up

    follow_up(ended, steps)


def _set_up_delegate(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    from codex_counsel.delegate.set_up import set_up

    set_up(details, scratch, directory)


def _conclude_delegate(ended: EndedRun) -> Envelope:
    from codex_counsel.delegate.conclude import conclude

    return conclude(ended)


def _follow_up_delegate(ended: EndedRun, steps: Steps) -> None:
    from codex_counsel.delegate.check import follow_up

    follow_up(ended, steps)


def _set_up_attempts(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    from codex_counsel.attempts.set_up import set_up

    set_up(details, scratch, directory)


def _follow_up_attempts(ended: EndedRun, steps: Steps) -> None:
    from codex_counsel.attempts.follow_up import follow_up

    follow_up(ended, steps)


def _conclude_attempts(ended: EndedRun) -> Envelope:
    from codex_counsel.attempts.conclude import conclude

    return conclude(ended)


def _follow_up_proof(ended: EndedRun, steps: Steps) -> None:
    from codex_counsel.proof.follow_up import follow_up

    follow_up(ended, steps)


def _conclude_proof(ended: EndedRun) -> Envelope:
    from codex_counsel.proof.conclude import conclude

    return conclude(ended)


def _set_up_in_place(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    from codex_counsel.compat.in_place import set_up

    set_up(details, scratch, directory)


def _conclude_in_place(ended: EndedRun) -> Envelope:
    from codex_counsel.compat.in_place import conclude

    return conclude(ended)


KINDS: dict[KindName, Kind] = {
    "consult": Kind(_conclude_consult),
    "review": Kind(_conclude_review, _set_up_review, _follow_up_review),
    "delegate": Kind(_conclude_delegate, _set_up_delegate, _follow_up_delegate),
    "attempts": Kind(_conclude_attempts, _set_up_attempts, _follow_up_attempts),
    "proof": Kind(_conclude_proof, _set_up_delegate, _follow_up_proof),
    "in_place": Kind(_conclude_in_place, _set_up_in_place),
}
