"""Kind 1, a consultation, after the run: the answer, and with a schema of the caller's also its data."""

from __future__ import annotations

import sys

from codex_counsel.contract.envelope import Envelope
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import EndedRun, answer_in_prose, failed_run, remove_scratch
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

VALIDATION_SECONDS = 5
"""For validating a reply with the caller's schema: a `pattern` in it may take for ever."""


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of a consultation. Raises `incomplete` for a reply that breaks the caller's `output_schema`."""
    remove_scratch(ended)
    if ended.error:
        return failed_run(ended, ended.error)
    envelope = answer_in_prose(ended)
    schema = ended.details.get("output_schema")
    if schema:
        envelope.data = _validated(
            envelope.answer or "", schema, ended.details.get("library")
        )
    return envelope


def _validated(answer: str, output_schema: JsonObject, library: str | None) -> Json:
    """The reply as the caller's schema asks for it. Codex checks neither the schema nor the reply."""
    if library and library not in sys.path:
        sys.path.append(library)
    # It imports jsonschema, which the worker finds by the line above: it runs without
    # site-packages.
    from codex_counsel.contract.output_schema import read_reply

    try:
        with time_limit(VALIDATION_SECONDS):
            return read_reply(answer, output_schema)
    except TimeLimitExceeded:
        message = f"The reply could not be validated with output_schema within {VALIDATION_SECONDS:g} seconds"
    except ValueError as error:
        message = one_line(str(error), 1000)
    raise CounselError(
        Code.INCOMPLETE,
        message,
        repair="The reply is in `answer`. Continue with session_id and say what is wrong with it, or simplify "
        "output_schema.",
    )
