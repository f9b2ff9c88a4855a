"""What tools that run no model found, as a person reads it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from codex_counsel.cli.page import Look, Page, columns
from codex_counsel.cli.render import add_envelope
from codex_counsel.cli.reports import elapsed_time
from codex_counsel.contract.envelope import Envelope


def page(tool: str, data: Any, width: int | None = None, **changes: Any) -> str:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": tool,
        "summary": "It is so.",
        "data": data,
        "meta": {},
    }
    page = Page(Look(width))
    add_envelope(page, Envelope.parse({**wire, **changes}))
    return str(page)


def row(number: int, **changes: Any) -> dict[str, Any]:
    started = time.gmtime(time.time() - 200)
    return {
        "job_id": f"{number:032x}"[::-1],
        "tool": "codex_review_changes",
        "status": "completed",
        "workspace": "/home/me/project",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
        "subject": "Is this a question with a rather long text? " * 2,
        **changes,
    }


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_list_of_jobs_fits_the_width(width: int) -> None:
    rows = [
        row(1, verdict="concerns", elapsed_ms=83_000, tokens={"input": 1, "output": 2}),
        row(2, tool="codex_delegate", status="running", workspace="/home/me/日本"),
        {"job_id": "3" * 32, "status": "corrupt", "error": "It cannot be read."},
    ]
    lines = page("codex_job_list", {"jobs": rows}, width).splitlines()
    assert len(lines) == 4
    assert max(map(columns, lines)) <= width
    assert lines[1].startswith("10000000  review")
    assert ("concerns" in lines[1], "3 min" in lines[1]) == (True, True)
    assert ("1m 23s" in lines[1], "日本" in lines[2]) == (width > 40, width > 40)


def test_without_a_terminal_the_ids_are_whole_and_nothing_is_cut() -> None:
    job = row(7)
    (_, line) = page("codex_job_list", {"jobs": [job]}).splitlines()
    assert line.split()[0] == job["job_id"]
    assert job["subject"].strip() in line


def test_a_run_that_another_one_started_names_it() -> None:
    rows = [row(1), row(2, parent="b" * 32)]
    lines = page("codex_job_list", {"jobs": rows}).splitlines()
    assert [" of bbbbbbbb: Is this" in line for line in lines] == [False, False, True]


def test_a_proof_is_listed_as_one_and_not_as_a_task() -> None:
    child = {"tool": "codex_delegate", "parent": "b" * 32}
    rows = [row(1, **child, kind="proof"), row(2, **child, kind="delegate")]
    lines = page("codex_job_list", {"jobs": rows}).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["proof", "delegate"]


def test_shortened_ids_are_long_enough_to_differ() -> None:
    rows = [row(1, job_id="a" * 31 + end) for end in "bc"]
    lines = page("codex_job_list", {"jobs": rows}, 80).splitlines()
    assert len({line.split()[0] for line in lines[1:]}) == 2


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (None, "-"),
        (900, "0 s"),
        (59_999, "59 s"),
        (83_000, "1m 23s"),
        (3_720_000, "1h 02m"),
    ],
)
def test_elapsed_times(milliseconds: int | None, words: str) -> None:
    assert elapsed_time(milliseconds) == words


def test_status_has_every_warning_and_every_step() -> None:
    text = page(
        "codex_status",
        {
            "usable": False,
            "codex": {"path": "/bin/codex", "version": "1", "source": "PATH"},
            "login": {"kind": "none", "hint": "Run `codex login`."},
            "sandbox": {"usable": True, "read_boundary": {"consult": "workspace"}},
            "defaults": {"model": None, "isolation": "lean"},
        },
        meta={"warnings": ["first", "set timeout_seconds"]},
        next_steps=["Use workspace_root."],
    )
    assert "warning: first" in text
    assert "warning: set --timeout-seconds" in text
    assert "to do: Use -C." in text
    assert "login         none" in text
    assert "kind" not in text
    assert "{" not in text


def test_a_delegate_shows_what_a_build_executes() -> None:
    files = [
        {"path": "Makefile", "status": "A", "added": 1, "deleted": 0, "build": True},
        {"path": ".envrc", "status": "M", "sensitive": True},
    ]
    text = page("codex_delegate", None, diffstat="2 files changed", files=files)
    assert "A Makefile +1  build: building or testing executes it" in text
    assert "M .envrc  sensitive: tools execute or obey it" in text


def test_a_dry_run_lists_the_files_and_what_is_left_out() -> None:
    text = page(
        "codex_dry_run",
        {
            "files": [{"path": "a.py", "status": "M", "added": 2, "deleted": 1}],
            "files_not_shown": 3,
            "codex_adds": [
                {"bytes": 1_000, "begins": "a"},
                {"bytes": 5, "begins": "b"},
            ],
            "blocked": {"code": "auth_required", "message": "No login."},
        },
        coverage={
            "files": 4,
            "omitted": [{"path": ".env", "reason": "secret_file"}],
            "rules": [{"path": "AGENTS.md", "folder": "./", "bytes": 120}],
        },
    )
    assert "\nreview rules: AGENTS.md (for ./), 120 bytes sent\n" in f"{text}\n"
    assert "  M a.py +2 -1\n  and 3 more files\n" in text
    assert "but it could not run now: auth_required: No login." in text
    assert "NOT all of the change is sent; left out: 1" in text
    assert "Codex sends at least 1,005 bytes before the prompt" in text
    assert "  .env (secret file)" in text


def test_an_applied_diff_says_how_to_take_it_back() -> None:
    text = page(
        "codex_apply",
        {
            "applied": True,
            "files": ["a.py", "b.py"],
            "merged": ["b.py"],
            "kept": ["/state/my_job/kept/a.py"],
            "undo": {"tool": "codex_apply"},
        },
        meta={"job_id": "7" * 32},
        files=[{"path": "b.py", "status": "M", "added": 3, "build": True}],
    )
    assert text.splitlines() == [
        "It is so.",
        "    a.py",
        "  M b.py +3  build: building or testing executes it  merged with your changes",
        "  kept: /state/my_job/kept/a.py",
        f"take it back with: codex-counsel apply --undo {'7' * 32}",
    ]


def test_status_says_who_decided_model_and_effort() -> None:
    text = page(
        "codex_status",
        {
            "sandbox": {
                "usable": True,
                "read_boundary": {
                    "consult": "workspace",
                    "review": "toolchains",
                    "delegate": "toolchains",
                },
            },
            "defaults": {
                "model": "gpt-9",
                "model_source": "default",
                "model_effort": "low",
                "effort": "high",
                "effort_source": "opinion",
                "delegate_effort": None,
                "delegate_effort_source": "model",
                "isolation": "lean",
                "instructions": "own",
            },
        },
    )
    assert "can read: workspace (consult), toolchains (review, delegate)\n" in text
    assert "  model         gpt-9 (default of Codex)\n" in text
    assert (
        "  instructions  consult, review, plan: a short text of codex-counsel; " in text
    )
    assert (
        "consult, review, plan: high (because you configured none); "
        "delegate: low (default of the model)\n" in text
    )


@pytest.mark.parametrize(
    ("source", "words"), [("package", "/x/codex login"), ("PATH", "codex login")]
)
def test_a_step_names_a_codex_that_can_be_started(source: str, words: str) -> None:
    text = page(
        "codex_status",
        {"codex": {"path": "/x/codex", "version": "1", "source": source}},
        next_steps=["Run `codex login`."],
    )
    assert f"to do: Run `{words}`." in text


def test_a_task_goes_on_by_its_job_and_a_question_by_its_thread() -> None:
    meta = {"job_id": "a" * 32, "session_id": "01a1fe44-00ce-7fd0-8497-06734d236efb"}
    files = [{"path": "a.py", "status": "M"}]
    task = page("codex_delegate", None, diffstat="1 file", files=files, meta=meta)
    assert f"continue with: --from-job {meta['job_id']}" in task
    assert "--session-id" not in task
    question = page("codex_consult", None, answer="Yes.", meta=meta)
    assert f"continue with: --session-id {meta['session_id']}" in question


RESERVES = {
    "what is left": (
        {
            "percent": 20,
            "windows": [
                {"window": "5-hour", "left_percent": 60.0},
                {"window": "weekly", "left_percent": 5.5},
            ],
        },
        "reserve of 20 %: 60 % left of the 5-hour window, 5.5 % left of the weekly window",
    ),
    "why it is not known": (
        {"percent": 20, "problem": "an API key has no usage windows"},
        "reserve of 20 %: not checked, an API key has no usage windows",
    ),
    "what was known": (
        {
            "percent": 20,
            "problem": "no network",
            "windows": [{"window": "5-hour", "left_percent": 5.0}],
        },
        "reserve of 20 %: 5 % left of the 5-hour window as told last (no network)",
    ),
}


@pytest.mark.parametrize(("reserve", "words"), RESERVES.values(), ids=RESERVES.keys())
def test_status_and_a_dry_run_name_the_reserve(
    reserve: dict[str, Any], words: str
) -> None:
    assert f"  limits        {words}\n" in page(
        "codex_status", {"limits": {"reserve": reserve}}
    )
    assert words in page("codex_dry_run", {"reserve": reserve})


def test_a_dry_run_says_what_earlier_reviews_saw() -> None:
    since = {"files_seen": 99, "files_in_part": 1, "files_new": 2}
    text = page("codex_dry_run", {"since": since})
    assert "2 are new, 1 were seen in part, and 99 were seen" in text
    assert "earlier reviews" not in page("codex_dry_run", {})


def test_a_dry_run_names_the_limit_of_tokens() -> None:
    assert "5000 tokens" in page("codex_dry_run", {"max_tokens": 5000})
    assert "tokens" not in page("codex_dry_run", {})


def test_status_names_what_this_month_took_once_there_was_a_run() -> None:
    month = {"month": "2026-11", "runs": 12, "tokens": 3_400_000, "minutes": 34.5}
    text = page("codex_status", {"usage": month})
    assert "  this month    12 runs, 3.4M tokens, 34.5 minutes\n" in text
    nothing = {**month, "runs": 0}
    assert "this month" not in page("codex_status", {"usage": nothing})
