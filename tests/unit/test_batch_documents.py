"""What is written about a batch: a list of its items, and its findings in each format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from codex_counsel.batch.model import Item
from codex_counsel.batch.summary import Summary, summarize
from codex_counsel.cli import batch_documents
from codex_counsel.cli.batch_documents import markdown, write_files, written
from codex_counsel.cli.formats import render
from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import FAILED, FOUND, Code, CounselError
from codex_counsel.jobs.store import Store
from codex_counsel.services.checking import Bar, check, read_review
from tests import hostile
from tests.unit.batches import failure, finding, item, review, summary_of, task
from tests.unit.test_inert_markdown import ALLOWED, OURS, assert_inert, tokens

TABLE = {
    f"{name}_{end}"
    for name in ("table", "thead", "tbody", "tr", "th", "td")
    for end in ("open", "close")
}
DOCUMENTS = [name for name in FORMATS if name != "text"]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_COUNSEL_STATE_DIR", str(tmp_path / "state"))


def mixed() -> Summary:
    return summary_of(
        {
            "commit-1": review(finding(severity="high"), verdict="fail"),
            "commit-2": failure(Code.WORKER_LOST, "The node n1 did not come back"),
            "commit-3": failure(Code.TIMEOUT, "It took too long"),
            "commit-4": failure(Code.TIMEOUT, "It took too long, too"),
            "commit-5": None,
        }
    )


def test_the_list_says_what_came_of_each_item_and_what_to_do_about_it() -> None:
    text = markdown(mixed())
    assert text.startswith(
        "# Codex batch: fail: 1 high. 5 items: 1 completed, 2 failed, 1 lost, 1 not run.\n"
    )
    assert "Exit code 1: 1 item with findings that count." in text
    assert (
        "## Lost: 1 item\n\n### `worker_lost`: 1 item\n\n- `commit-2`: The node n1"
        in text
    )
    assert "Resume the batch with --retry-lost" in text
    assert (
        "### `timeout`: 2 items\n\n- `commit-3`: It took too long\n- `commit-4`" in text
    )
    assert "## Not run: 1 item\n\n- `commit-5`\n" in text
    assert "### high: Off by one\n" in text
    assert "Item: commit-1" in text
    row = "| `commit-1` | review | completed | fail | 1 | 1,050 | 2 s | `aaaaaaaa` |"
    assert row in text.splitlines()
    assert (
        "| `commit-3` | review | failed | `timeout` |  | 0 |  |  |" in text.splitlines()
    )
    assert "NOT all of the change was seen" in text


def test_a_list_of_tasks_has_their_checks_and_nothing_of_reviews() -> None:
    text = markdown(
        summary_of({"a": task("failed"), "b": task("passed")}, kind="delegate")
    )
    assert "| `a` | delegate | completed | check failed: Done. |" in text
    assert "What was sent" not in text
    assert "pass:" not in text


def test_items_of_several_repositories_name_them() -> None:
    items = [item("a", root="/one/shop"), item("b", root="/two/cart")]
    text = markdown(summarize(items, [("a", review(finding()))]))
    assert "| `a` | shop | review | completed |" in text
    assert "| `b` | cart | review | not run |" in text
    assert "`shop/src/app.py:3 (verified)`" in text


def test_of_very_many_items_those_that_need_a_look_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_documents, "MAX_ROWS", 3)
    results: dict[str, EnvelopeDict | None] = {str(n): review() for n in range(10)}
    results["7"] = review(finding(severity="high"), verdict="fail")
    results["8"] = failure(Code.WORKER_LOST)
    lines = markdown(summary_of(results)).splitlines()
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| `")]
    assert rows == ["| `8`", "| `7`", "| `0`"]
    assert lines[-1].startswith("7 more items are not listed")


def test_a_list_of_ten_thousand_failures_and_findings_fits_a_job_summary() -> None:
    results: dict[str, EnvelopeDict | None] = {}
    long = "word " * 5_000
    for number in range(2_000):
        one = finding(id=f"{number:016x}", title=long, risk=long, evidence=long)
        results[f"a{number}"] = review(one, verdict="concerns")
        results[f"b{number}"] = failure(Code.TIMEOUT, long)
    assert len(markdown(summary_of(results)).encode()) < 1_000_000


@pytest.mark.parametrize("text", [*hostile.TEXTS.values(), hostile.ALL])
def test_no_text_acts_in_the_list_or_breaks_its_table(text: str) -> None:
    fields = ("title", "file", "evidence", "risk", "recommendation", "section")
    items = [
        Item(text, "review", {}, Path("/x/a"), text, "0" * 32),
        Item("b|c\\|d\\\\|", "review", {}, Path("/x/b|"), ".", "0" * 32),
        Item("c", "review", {}, Path("/x/c"), ".", "0" * 32),
    ]
    results = [
        (text, review(finding(**dict.fromkeys(fields, text)))),
        (items[1].id, failure(Code.TIMEOUT, text)),
    ]
    output = markdown(summarize(items, results))
    assert_inert(output, ALLOWED | OURS | TABLE)
    cells = [token.type for token in tokens(output) if token.type == "td_open"]
    assert len(cells) == 3 * 9


def test_a_bar_in_an_id_is_shown_and_ends_no_cell_wherever_the_list_is_read() -> None:
    shown = {
        "a|b": "a|b",
        "|": "|",
        "`|`|`": "`|`|`",
        "x | --- |": "x | --- |",
        # Not every reader of tables takes a bar behind a backslash for escaped.
        r"a\|b": r"a\/b",
        r"a\\|@octocat|": r"a\\/@octocat|",
        "<b>|[x](https://evil.example)|": "<b>|[x](https://evil.example)|",
    }
    items = [item(name, root=f"/{number}/r|s") for number, name in enumerate(shown)]
    results = [(name, failure(Code.TIMEOUT, "a|b\n|-|")) for name in shown]
    output = markdown(summarize(items, results))
    assert_inert(output, ALLOWED | OURS | TABLE)
    parsed = tokens(output)
    ends = [token.type for token in parsed if token.type == "td_open"]
    assert len(ends) == len(items) * 9
    codes = [token.content for token in parsed if token.type == "code_inline"]
    for name, words in shown.items():
        # In the list of what failed, outside of the table, nothing is changed.
        assert name in codes
        assert words in codes
    for line in output.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?:\\.|[^|\\])+", line)) == 9, line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_format_takes_a_batch(name: str) -> None:
    text = render(mixed().review, name)
    assert "Off by one" in text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_format_says_that_a_batch_without_a_finding_saw_not_all(
    name: str,
) -> None:
    summary = summary_of({"a": review(), "b": None})
    text = render(summary.review, name)
    if name in ("rdjson", "gitlab"):
        # Lists of findings alone, which have no place for more.
        return
    assert "unknown" in text or "no verdict" in text


def test_sarif_names_the_repository_of_each_place() -> None:
    items = [item("a", root="/one/shop"), item("b", root="/two/cart")]
    summary = summarize(items, [(name, review(finding())) for name in "ab"])
    (run,) = json.loads(render(summary.review, "sarif"))["runs"]
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for result in run["results"]
    ]
    assert uris == ["shop/src/app.py", "cart/src/app.py"]
    assert run["invocations"][0]["executionSuccessful"]


def test_documents_of_reviews_are_written_for_reviews_only(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    names = ["summary.md", "summary.html", "summary.sarif"]
    assert write_files(tmp_path, mixed(), store) == names
    assert written(tmp_path) == names
    page = (tmp_path / "summary.html").read_text("utf-8")
    assert "Off by one" in page

    tasks = summary_of({"a": task("passed")}, kind="delegate")
    (tmp_path / "tasks").mkdir()
    assert write_files(tmp_path / "tasks", tasks, store) == ["summary.md"]
    assert written(tmp_path / "tasks") == ["summary.md"]


def test_a_document_that_cannot_be_written_is_a_failure_of_storage(
    tmp_path: Path,
) -> None:
    (tmp_path / "summary.md").mkdir()
    with pytest.raises(CounselError, match="no result is lost by it") as raised:
        write_files(tmp_path, mixed(), Store(tmp_path / "state"))
    assert raised.value.code is Code.STORAGE_FAILED


def test_the_stored_findings_of_a_batch_are_judged_as_those_of_a_review(
    tmp_path: Path,
) -> None:
    file = tmp_path / "all.json"
    file.write_text(render(mixed().review, "json"), "utf-8")
    wire = read_review(Store(tmp_path / "state"), str(file))
    assert check(wire, Bar()).data["exit_code"] == FOUND
    assert check(wire, Bar("critical")).data["exit_code"] == FAILED
