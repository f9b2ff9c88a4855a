"""What the caller of `codex` and `codex-reply` reads of a failure: every code, in words of these two tools."""

from __future__ import annotations

import re

import pytest

from codex_counsel.compat.failures import FOREIGN, REPAIRS, words_of
from codex_counsel.contract.catalogue import TOOLS
from codex_counsel.contract.envelope import EnvelopeDict, Meta, failed
from codex_counsel.contract.request import ToolRequest, argument_names
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.services.compat_answers import failure

THREAD = "01a1fd13-60ab-7632-8f92-823f89c4f967"


def wire_of(error: CounselError) -> EnvelopeDict:
    return failed("codex_consult", error).wire()


def foreign_names() -> set[str]:
    """Tools of the other server, and the arguments that no ordinary sentence holds."""
    names = {tool.name for tool in TOOLS}
    for tool in TOOLS:
        request: type[ToolRequest] = tool.request
        names |= {name for name in argument_names(request) if "_" in name}
    return names


@pytest.mark.parametrize("code", Code)
def test_no_failure_names_a_tool_or_argument_that_its_caller_has_not(
    code: Code,
) -> None:
    answer = failure(wire_of(CounselError(code, "It failed")))
    first, *others = answer.content.splitlines()
    assert first == f"{code}: It failed"
    repair = "\n".join(others)
    assert repair.startswith("What to do: ")
    assert "second opinion" not in repair
    assert "--" not in re.sub("`[^`]*`", "", repair)
    for name in foreign_names():
        assert name not in repair
    assert not FOREIGN.search(repair)


def test_only_repairs_that_would_name_something_foreign_are_replaced() -> None:
    for code, meaning in CATALOG.items():
        assert bool(FOREIGN.search(meaning.repair)) == (code in REPAIRS), code


@pytest.mark.parametrize(
    ("repair", "shown"),
    [
        (
            "Continue with session_id and ask for the answer again.",
            "Continue with threadId and ask for the answer again.",
        ),
        ("Begin a new thread (no session_id).", "Begin a new thread (no threadId)."),
        ("codex_job_list shows them.", REPAIRS[Code.INCOMPLETE]),
        ("Free some room.", "Free some room."),
    ],
)
def test_a_repair_of_its_own_is_kept_in_words_of_these_tools(
    repair: str, shown: str
) -> None:
    error = CounselError(Code.INCOMPLETE, "It failed", repair=repair)
    assert words_of(wire_of(error)) == f"incomplete: It failed\nWhat to do: {shown}"


def test_a_message_about_an_argument_names_ours_and_a_quotation_is_left_alone() -> None:
    error = CounselError(Code.INVALID_ARGUMENTS, "workspace_root: is blank")
    assert "invalid_arguments: cwd: is blank" in words_of(wire_of(error))
    error = CounselError(Code.UPSTREAM_ERROR, "the service said: session_id is bad")
    assert "said: session_id is bad" in words_of(wire_of(error))


def test_the_time_until_a_reset_and_what_survived_are_told_and_the_rest_is_not() -> (
    None
):
    error = CounselError(
        Code.RATE_LIMITED,
        "Too many",
        retry_after_ms=90_000,
        details={
            "session_id": THREAD,
            "last_message": "So far.",
            "until": 1_795_355_718,
            "survivors": [17],
        },
    )
    answer = failure(wire_of(error))
    assert answer.is_error
    assert answer.thread_id == THREAD
    assert answer.content.splitlines()[2:] == [
        "Retry after 90 s.",
        "processes that live on: [17]",
    ]


def test_a_code_of_a_newer_release_keeps_its_repair() -> None:
    wire = wire_of(CounselError(Code.INTERNAL, "It failed", repair="Do it."))
    wire["error"]["code"] = "of_tomorrow"
    assert words_of(wire) == "of_tomorrow: It failed\nWhat to do: Do it."


def test_an_interim_message_is_marked_as_not_finished() -> None:
    error = CounselError(Code.STREAM_DISCONNECTED, "It broke")
    wire = failed(
        "codex_consult", error, Meta(session_id=THREAD), answer="So far.", partial=True
    ).wire()
    answer = failure(wire)
    assert answer.content.endswith(
        "\n\nInterim message, not a finished answer:\nSo far."
    )
    assert answer.thread_id == THREAD
