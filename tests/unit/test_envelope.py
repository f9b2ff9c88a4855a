"""The one result of every call, as it goes over the wire."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import pytest

from codex_counsel import __version__
from codex_counsel.contract.envelope import (
    Agreement,
    Attempt,
    BudgetReached,
    Check,
    CheckResult,
    CodexUsed,
    Coverage,
    DiffFile,
    Envelope,
    Failure,
    Finding,
    Meta,
    Next,
    Omission,
    Progress,
    ProjectFile,
    Proof,
    Resolved,
    Rule,
    RuleFile,
    Sandbox,
    SeenEarlier,
    Suggestion,
    Usage,
    Workspace,
    completed,
    failed,
    failure,
    text_of,
)
from codex_counsel.contract.paging import first_page, page_at
from codex_counsel.errors import CATALOG, Code, CounselError


def test_what_does_not_apply_is_left_out() -> None:
    wire = Envelope(
        ok=True, status="completed", tool="t", summary="s", answer="a", meta=Meta()
    ).wire()
    assert wire == {
        "ok": True,
        "status": "completed",
        "tool": "t",
        "summary": "s",
        "answer": "a",
        "meta": {"server_version": __version__},
    }


def test_an_empty_list_is_a_statement_and_stays() -> None:
    wire = Envelope(
        ok=True, status="completed", tool="t", summary="s", findings=[], meta=Meta()
    ).wire()
    assert wire["findings"] == []


def test_nulls_of_the_callers_own_data_stay_and_ours_go() -> None:
    data = {"why": None, "list": [None, {"deep": None}]}
    finding = Finding(severity="low", title="t")
    wire = Envelope(
        ok=True,
        status="completed",
        tool="t",
        summary="s",
        data=data,
        findings=[finding],
        meta=Meta(),
    ).wire()
    assert wire["data"] == data
    assert wire["findings"] == [{"severity": "low", "title": "t"}]


def test_every_string_is_scrubbed_and_the_whole_can_be_sent() -> None:
    meta = Meta(warnings=["w\x1b[1m"])
    wire = Envelope(
        ok=True,
        status="completed",
        tool="t",
        summary="s\x07",
        data={"k\ud800": "v\x00"},
        meta=meta,
    ).wire()
    assert (wire["summary"], wire["data"], wire["meta"]["warnings"]) == (
        "s",
        {"k\ufffd": "v"},
        ["w"],
    )
    json.dumps(wire, ensure_ascii=False).encode("utf-8")


def test_a_failure_carries_what_its_code_means() -> None:
    wire = failed(
        "codex_consult", CounselError(Code.STALLED, "silent\x1b[1m for long")
    ).wire()
    assert (wire["ok"], wire["status"]) == (False, "failed")
    assert wire["error"] == {
        "code": "stalled",
        "message": "silent for long",
        "repair": CATALOG[Code.STALLED].repair,
        "retryable": True,
    }
    assert wire["summary"] == "codex_consult failed: silent\x1b[1m for long".replace(
        "\x1b[1m", ""
    )


def test_a_failure_may_bring_its_own_repair_and_details() -> None:
    error = CounselError(
        Code.BACKING_OFF,
        "not yet",
        repair="wait",
        retry_after_ms=0,
        repair_tool="codex_status",
        repair_tool_params={"clear_limits": True},
        details={"until": 7, "name\x00": "a\ud800"},
    )
    assert failed("t", error).wire()["error"] == {
        "code": "backing_off",
        "message": "not yet",
        "repair": "wait",
        "retryable": True,
        "retry_after_ms": 0,
        "repair_tool": "codex_status",
        "repair_tool_params": {"clear_limits": True},
        "details": {"until": 7, "name": "a\ufffd"},
    }


def test_a_cancelled_run_has_its_own_status() -> None:
    assert failed("t", CounselError(Code.CANCELLED, "stopped")).status == "cancelled"


def test_every_code_makes_a_complete_failure() -> None:
    for code in Code:
        error = failure(CounselError(code, "m"))
        assert (error.code, error.retryable, bool(error.repair)) == (
            code,
            CATALOG[code].retryable,
            True,
        )


def test_a_free_tool_answers_with_data() -> None:
    assert completed("codex_models", "2 models", {"models": []}).wire() == {
        "ok": True,
        "status": "completed",
        "tool": "codex_models",
        "summary": "2 models",
        "data": {"models": []},
        "meta": {"server_version": __version__},
    }


def test_the_text_of_a_failure_holds_what_was_said_before_it_and_names_what_was_done() -> (
    None
):
    kept: dict[str, Any] = {
        "answer": "Y" * 20_000,
        "partial": True,
        "diff_path": "/s/diff.patch",
        "diffstat": "1 file",
    }
    text = text_of(
        failed("codex_delegate", CounselError(Code.TIMEOUT, "m"), **kept).wire()
    )
    assert text.startswith("timeout: m\nWhat to do: ")
    assert text.count("Y") == 20_000
    assert "Interim message, not a finished answer" in text
    assert "diff_path: /s/diff.patch\ndiffstat: 1 file\n" in text


def test_the_text_of_a_failures_pages_is_all_that_was_said_before_it() -> None:
    meta = Meta(job_id="0" * 32)
    whole = failed(
        "t", CounselError(Code.TIMEOUT, "m"), meta, answer="Y" * 90_000, partial=True
    ).wire()
    texts, page = [], first_page(whole, "full")
    while cursor := page["meta"].get("next_cursor"):
        assert f"codex_job_result with cursor {cursor}" in text_of(page)
        texts.append(text_of(page))
        page = page_at(whole, cursor, "full")
    assert "".join([*texts, text_of(page)]).count("Y") == 90_000


# --- read back

CHECKED = CheckResult(
    command="make test",
    status="failed",
    reason="r",
    exit=1,
    seconds=0.5,
    output_tail="o",
    base_exit=2,
    base_status="not_started",
)
WHOLE = Envelope(
    ok=True,
    status="completed",
    tool="codex_review_changes",
    summary="s",
    answer="a",
    verdict="fail",
    confidence="low",
    findings=[
        Finding(
            id="0" * 16,
            severity="nit",
            title="t",
            category="logic",
            known="rejected",
            reason="r",
            carried=True,
            file="f",
            line=1,
            line_end=2,
            section="Step 1",
            evidence="e",
            risk="r",
            recommendation="c",
            grounded="moved",
            in_diff=False,
            rule=Rule(file="AGENTS.md", quote="q"),
            suggestion=Suggestion(start_line=1, end_line=2, replacement=""),
            proof=Proof(
                status="refuted",
                reason="r",
                command="c",
                exit_head=0,
                exit_other=1,
                other="patched",
                patch="p",
                output_tail="o",
                job_id="4" * 32,
            ),
        )
    ],
    resolved=[
        Resolved(id="1" * 16, state="fixed", severity="low", title="t", file="f")
    ],
    questions=["q"],
    assumptions=["a"],
    next_steps=["n"],
    coverage=Coverage(
        base_sha="b",
        head_sha="h",
        files=1,
        bytes=2,
        omitted=[Omission(path="p", reason="binary", bytes=3)],
        redactions=4,
        complete=True,
        rules=[RuleFile(path="AGENTS.md", folder="./", sha="1", bytes=1)],
        seen=[SeenEarlier(job_id="2" * 32, ended="2026-01-01T00:00:00Z", files=3)],
    ),
    diff="d",
    diff_exact=False,
    diff_path="/d",
    diffstat="1 file",
    files=[DiffFile(path="p", status="M", added=1, deleted=2, sensitive=True)],
    base_sha="b",
    checks=[Check(command="make", exit_code=1)],
    check=CHECKED,
    attempts=[
        Attempt(
            attempt=1,
            rank=1,
            tie=True,
            why="w",
            job_id="3" * 32,
            status="completed",
            error="timeout",
            check=CHECKED,
            diffstat="1 file",
            files=["p"],
            changed_lines=3,
            agrees=[Agreement(attempt=2, files=["p"], all=True)],
            judge_rank=1,
            judge_reason="r",
            model="m",
            effort="low",
            usage=Usage(input=1, cached_input=2, output=3, reasoning=4),
            session_id="t",
        )
    ],
    ignored=["i"],
    planted=["p"],
    partial=True,
    job_id="0" * 32,
    poll_after_ms=1,
    next=Next(tool="codex_job_result", arguments={"job_id": "0" * 32}),
    progress=Progress(phase="command", last_command="make", elapsed_ms=1, silent_ms=2),
    data={"deep": [None, {"null": None}]},
    error=Failure(
        code="timeout",
        message="m",
        repair="r",
        retryable=True,
        retry_after_ms=1,
        repair_tool="codex_status",
        repair_tool_params={"clear_limits": True},
        details={"survivors": [1]},
    ),
    meta=Meta(
        job_id="0" * 32,
        session_id="t",
        workspace=Workspace(root="/w", source="cwd", warning="w"),
        sandbox=Sandbox(mode="read-only", read_boundary="partial", network=True),
        codex=CodexUsed(path="/c", version="1"),
        model="m",
        effort="high",
        effort_source="caller",
        usage=Usage(input=1, cached_input=2, output=3, reasoning=4),
        usage_thread=Usage(input=5, cached_input=6, output=7, reasoning=8),
        usage_proofs=Usage(input=9, cached_input=8, output=7, reasoning=6),
        budget_reached=BudgetReached(limit=1000, used=1200),
        elapsed_ms=1,
        scope={"kind": "range"},
        project_file=ProjectFile(
            revision="1", used=["fail_on"], fail_on="never", changed=True
        ),
        isolation="lean",
        warnings=["w"],
        truncated=True,
        next_cursor="answer:1:2",
        ttl_seconds=1,
        expires_at="2026-01-01T00:00:00+00:00",
        server_version="0",
        fingerprint="f",
    ),
)
SMALL = {"ok": True, "status": "completed", "tool": "t", "summary": "s", "meta": {}}


def test_an_envelope_with_every_field_is_read_back_as_it_was() -> None:
    assert all(value is not None for value in asdict(WHOLE).values())
    assert all(value is not None for value in asdict(WHOLE.meta).values())
    stored = json.loads(json.dumps(WHOLE.wire()))
    assert Envelope.parse(stored) == WHOLE
    assert Envelope.parse(stored).wire() == stored


def test_what_was_absent_is_absent_when_it_is_read_back() -> None:
    wire = failed("t", CounselError(Code.CANCELLED, "stopped")).wire()
    assert Envelope.parse(wire).wire() == wire


def test_keys_of_a_later_release_are_ignored() -> None:
    later = {
        **SMALL,
        "mood": "good",
        "meta": {"mood": "good"},
        "findings": [{"severity": "low", "title": "t", "x": 1}],
    }
    assert Envelope.parse(later).findings == [Finding(severity="low", title="t")]


DAMAGED: dict[str, tuple[Any, str]] = {
    "no object": ([], "envelope is of the wrong kind"),
    "no meta": (
        {"ok": True, "status": "completed", "tool": "t", "summary": "s"},
        "envelope.meta is missing",
    ),
    "a status of no run": (
        SMALL | {"status": "lost"},
        "envelope.status is of the wrong kind",
    ),
    "a list as a status": (
        SMALL | {"status": []},
        "envelope.status is of the wrong kind",
    ),
    "a number as ok": (SMALL | {"ok": 1}, "envelope.ok is of the wrong kind"),
    "true as a number": (
        SMALL | {"poll_after_ms": True},
        "envelope.poll_after_ms is of the wrong kind",
    ),
    "findings that are none": (
        SMALL | {"findings": "none"},
        "envelope.findings is of the wrong kind",
    ),
    "a text as a finding": (
        SMALL | {"findings": ["x"]},
        "envelope.findings[0] is of the wrong kind",
    ),
    "a finding without a title": (
        SMALL | {"findings": [{"severity": "low"}]},
        "envelope.findings[0].title is missing",
    ),
    "details in the error": (
        SMALL | {"error": {"code": "timeout"}},
        "envelope.error.message is missing",
    ),
}


@pytest.mark.parametrize(("raw", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_envelope_is_refused_with_the_place(raw: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Envelope.parse(raw)
