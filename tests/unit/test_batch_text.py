"""What a terminal shows of a batch at its end."""

from __future__ import annotations

from codex_counsel.batch.summary import Summary
from codex_counsel.cli.batch_text import MAX_LISTED, add_batch
from codex_counsel.cli.page import Look, Page
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code
from tests.unit.batches import failure, finding, review, summary_of, task

FILES = ["results.jsonl", "summary.md"]


def shown(
    summary: Summary, *, quiet: bool = False, stopped: bool = False, width: int = 100
) -> list[str]:
    page = Page(Look(width=width, quiet=quiet))
    add_batch(page, summary, is_stopped=stopped, directory="b", names=FILES)
    return str(page).splitlines()


def test_findings_and_failures_are_listed_with_the_way_to_all_of_them() -> None:
    lines = shown(
        summary_of(
            {
                "a": review(finding(severity="low"), verdict="concerns"),
                "b": failure(Code.TIMEOUT, "It took too long"),
                "c": failure(Code.NOTHING_TO_REVIEW),
            }
        )
    )
    assert lines[0].startswith("unknown: 1 low. 3 items: 1 completed, 1 nothing")
    assert "  low       src/app.py:3 (verified)  Off by one" in lines
    assert "  b     failed  timeout: It took too long" in lines
    assert not any(line.startswith("  c ") for line in lines)
    assert lines[-3:] == [
        "exit code 5: 1 item without a result that counts",
        "results: b",
        "  results.jsonl summary.md",
    ]


def test_a_review_without_a_verdict_is_listed_with_the_command_that_shows_it() -> None:
    lines = shown(summary_of({"a": review(verdict="unknown"), "b": review()}))
    assert any(
        line.startswith("  a ") and line.endswith(": codex-counsel result aaaaaaaa")
        for line in lines
    )
    assert not any(line.startswith("  b ") for line in lines)
    assert "exit code 5: 1 item without a result that counts" in lines


def test_answers_are_shown_with_the_commands_for_the_whole_of_one() -> None:
    changed: EnvelopeDict = {
        **task(None),
        "files": [{"path": "a.py", "status": "M", "added": 1, "deleted": 0}],
    }
    answered = shown(summary_of({"a": task(None)}, kind="consult"))
    assert "  a     bbbbbbbb  Done." in answered
    assert "  see all of one with: codex-counsel result JOB" in answered
    assert "exit code 0: every item was completed" in answered
    assert not any("codex-counsel apply" in line for line in answered)

    tasks = summary_of({"a": changed}, kind="delegate")
    assert "  apply a diff with: codex-counsel apply JOB" in shown(tasks)
    assert not any("codex-counsel" in line for line in shown(tasks, quiet=True))


def test_of_many_items_the_first_ones_are_shown() -> None:
    names = [f"item-{number}" for number in range(MAX_LISTED + 3)]
    lines = shown(summary_of({name: failure(Code.TIMEOUT) for name in names}))
    assert f"  item-{MAX_LISTED - 1}  failed  timeout: It failed." in lines
    assert "  and 3 more: see summary.md" in lines


def test_lines_fit_the_terminal() -> None:
    title = "A long title of a finding " * 9
    lines = shown(summary_of({"a": review(finding(title=title))}), width=60)
    assert max(map(len, lines)) <= 60


def test_a_batch_that_stopped_has_no_exit_code_of_its_results() -> None:
    lines = shown(summary_of({"a": review(), "b": None}), stopped=True)
    assert not any("exit code" in line for line in lines)
