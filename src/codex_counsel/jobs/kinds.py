"""The table of the three kinds of run: what a worker does before Codex starts, and what makes the envelope at the end.

A kind's modules are imported when a run of that kind needs them, inside the functions
below: the worker reads this table before Codex starts, and at its end it needs one kind
of three.
"""

from __future__ import annotations

from typing import Literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from codex_counsel.contract.envelope import Envelope
    from codex_counsel.kind import EndedRun
    from codex_counsel.system.json_values import Json

KindName = Literal["consult", "review", "delegate"]
KIND_FIELDS = ("output_schema", "library", "review", "delegate")
"""The fields of `spec.json` that belong to one kind."""


class Kind:
    """A row of the table.

    `conclude` makes the envelope of an ended run, one process at a time; it may be
    called again for a run it has concluded before.

    `set_up(details, scratch, directory)` makes what Codex starts in; None where an
    empty TMPDIR will do. It raises CounselError or OSError.
    """

    def __init__(
        self,
        conclude: Callable[[EndedRun], Envelope],
        set_up: Callable[[Mapping[str, Json], str, str], None] | None = None,
    ) -> None:
        self.conclude = conclude
        self.set_up = set_up


def name_of(*, review: object, delegate: object) -> KindName:
    """The kind of a job, from which of the two fields of its `spec.json` is set."""
    if delegate:
        return "delegate"
    if review:
        return "review"
    return "consult"


def _conclude_consult(ended: EndedRun) -> Envelope:
    from codex_counsel.consult.conclude import conclude

    return conclude(ended)


def _conclude_review(ended: EndedRun) -> Envelope:
    from codex_counsel.review.conclude import conclude

    return conclude(ended)


def _set_up_delegate(details: Mapping[str, Json], scratch: str, directory: str) -> None:
    from codex_counsel.delegate.set_up import set_up

    set_up(details, scratch, directory)


def _conclude_delegate(ended: EndedRun) -> Envelope:
    from codex_counsel.delegate.conclude import conclude

    return conclude(ended)


KINDS: dict[KindName, Kind] = {
    "consult": Kind(_conclude_consult),
    "review": Kind(_conclude_review),
    "delegate": Kind(_conclude_delegate, _set_up_delegate),
}
