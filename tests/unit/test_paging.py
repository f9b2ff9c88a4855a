"""Results in pages: every page fits, all of them together are the whole, and no cursor opens anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.paging import BUDGETS, first_page, page_at
from codex_counsel.errors import Code, CounselError

SMALL: EnvelopeDict = {
    "ok": True,
    "status": "completed",
    "tool": "codex_consult",
    "summary": "s",
}
META = {
    "job_id": "0" * 32,
    "session_id": "t",
    "server_version": "1",
    "workspace": {"root": "/w", "source": "cwd"},
}


def wire(**fields: Any) -> EnvelopeDict:
    return {**SMALL, **fields, "meta": dict(META)}


def size(value: EnvelopeDict) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def read_pages(whole: EnvelopeDict, detail: str) -> list[EnvelopeDict]:
    """The first page and all that its cursors lead to."""
    pages = [first_page(whole, detail)]
    while cursor := pages[-1]["meta"].get("next_cursor"):
        pages.append(page_at(whole, cursor, detail))
        assert len(pages) < 1000
    return pages


def join_pages(pages: list[EnvelopeDict], name: str) -> Any:
    parts = [part[name] for part in pages if name in part]
    return (
        "".join(parts)
        if isinstance(parts[0], str)
        else [item for part in parts for item in part]
    )


TEXTS = {
    "letters": "abc " * 50_000,
    "emoji": "\U0001f600" * 40_000,
    "combined": "é̂" * 40_000,
    "quotes, backslashes, line ends": '"\\\n' * 40_000,
    "mixed": "".join(f'{n} "é" \\ \U0001f600\u2028\n' for n in range(9_000)),
    "no space anywhere": "x" * 200_000,
}


@pytest.mark.parametrize("detail", BUDGETS)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_pages_of_a_text_fit_and_together_are_the_text(
    text: str, detail: str
) -> None:
    whole = wire(answer=text)
    pages = read_pages(whole, detail)
    assert join_pages(pages, "answer") == text
    assert all(size(part) <= BUDGETS[detail] for part in pages)
    assert all(part["answer"] for part in pages)
    assert whole == wire(answer=text)


def test_what_fits_is_given_whole_and_untouched() -> None:
    whole = wire(answer="short", findings=[{"title": "t"}])
    assert first_page(whole, "full") is whole


FINDINGS = [
    {"severity": "low", "title": f"finding {number}", "evidence": "é" * 300}
    for number in range(200)
]


@pytest.mark.parametrize("detail", BUDGETS)
@pytest.mark.parametrize("name", ["findings", "resolved"])
def test_the_pages_of_a_list_hold_whole_entries_in_order(
    name: str, detail: str
) -> None:
    pages = read_pages(wire(**{name: FINDINGS}), detail)
    assert join_pages(pages, name) == FINDINGS
    assert all(size(part) <= BUDGETS[detail] for part in pages)


@pytest.mark.parametrize("detail", BUDGETS)
def test_data_too_large_for_a_page_is_given_as_its_json_in_parts(detail: str) -> None:
    data = {"names": [f"näme {number}" for number in range(10_000)], "none": None}
    pages = read_pages(wire(data=data), detail)
    assert json.loads(join_pages(pages, "data")) == data
    assert all(size(part) <= BUDGETS[detail] for part in pages)


def test_data_that_is_a_list_is_paged_by_its_entries() -> None:
    data = [{"row": number, "text": "x" * 100} for number in range(2_000)]
    assert join_pages(read_pages(wire(data=data), "full"), "data") == data


@pytest.mark.parametrize("detail", BUDGETS)
def test_several_long_fields_follow_each_other_and_none_is_lost(detail: str) -> None:
    whole = wire(
        answer="a" * 90_000,
        findings=FINDINGS,
        diff="+é\n" * 30_000,
        data={"k": "v" * 50_000},
        files=[
            {"path": f"src/{number}.py", "status": "modified"}
            for number in range(3_000)
        ],
        next_steps=["short"],
    )
    pages = read_pages(whole, detail)
    for name in ("answer", "findings", "diff", "files"):
        assert join_pages(pages, name) == whole[name]
    assert json.loads(join_pages(pages, "data")) == whole["data"]
    assert join_pages(pages, "next_steps") == ["short"]
    assert all(size(part) <= BUDGETS[detail] for part in pages)


def test_the_first_page_has_all_that_is_small_and_later_ones_say_what_they_are() -> (
    None
):
    first, second, *_ = read_pages(wire(answer="a" * 90_000, verdict="pass"), "full")
    assert (
        first["verdict"],
        first["meta"]["truncated"],
        first["meta"]["workspace"]["root"],
    ) == ("pass", True, "/w")
    assert second["summary"] == "further part: answer"
    assert second["meta"].keys() == {
        "job_id",
        "session_id",
        "server_version",
        "truncated",
        "next_cursor",
    }


def test_a_cursor_works_in_either_detail() -> None:
    data = {"names": [f"name {number}" for number in range(1_000)]}
    first = first_page(wire(data=data), "summary")
    rest = page_at(wire(data=data), first["meta"]["next_cursor"], "full")
    assert "next_cursor" not in rest["meta"]
    assert json.loads(first["data"] + rest["data"]) == data


FORGED = (
    "",
    ":",
    "answer",
    "answer:0",
    "answer:0:00000000",
    "answer:-1:{mark}",
    "answer:²:{mark}",
    "answer:٣:{mark}",
    "answer:1e3:{mark}",
    "answer:" + "9" * 100 + ":{mark}",
    "answer::{mark}",
    "meta:0:{mark}",
    "error:0:{mark}",
    "findings:0:{mark}",
    "diff:0:{mark}",
    "../answer:0:{mark}",
)


@pytest.mark.parametrize("forged", FORGED)
def test_a_cursor_that_belongs_to_no_page_of_this_result_is_refused(
    forged: str,
) -> None:
    whole = wire(answer="a" * 90_000)
    mark = first_page(whole, "full")["meta"]["next_cursor"].rpartition(":")[2]
    with pytest.raises(
        CounselError, match="belongs to no page of this result"
    ) as refusal:
        page_at(whole, forged.replace("{mark}", mark), "full")
    assert refusal.value.code == Code.INVALID_ARGUMENTS


def test_a_cursor_of_another_result_is_refused() -> None:
    cursor = first_page(wire(answer="a" * 90_000), "full")["meta"]["next_cursor"]
    with pytest.raises(CounselError, match="belongs to no page of this result"):
        page_at(wire(answer="b" * 90_000), cursor, "full")


def test_a_cursor_beyond_the_end_is_an_empty_last_page() -> None:
    whole = wire(answer="a" * 90_000)
    mark = first_page(whole, "full")["meta"]["next_cursor"].rpartition(":")[2]
    last = page_at(whole, f"answer:99999999:{mark}", "full")
    assert (last["answer"], "next_cursor" in last["meta"]) == ("", False)


def test_a_summary_names_the_first_omissions_and_how_many_more_there_are() -> None:
    omitted = [
        {"path": f"generated/file{number}.js", "reason": "budget", "bytes": 5}
        for number in range(200)
    ]
    whole = wire(coverage={"files": 200, "complete": False, "omitted": omitted})
    listed = first_page(whole, "summary")["coverage"]["omitted"]
    assert listed[:10] == omitted[:10]
    assert listed[10:] == [
        {"path": "(and 190 more, with detail full)", "reason": "listing"}
    ]
    assert first_page(whole, "full")["coverage"]["omitted"] == omitted
    few = wire(coverage={"files": 10, "complete": False, "omitted": omitted[:10]})
    assert first_page(few, "summary")["coverage"] == few["coverage"]


def test_a_summary_names_the_first_rule_files_and_how_many_more_there_are() -> None:
    rules = [
        {"path": f"{'d' * 50}{number}/REVIEW.md", "folder": "d/", "bytes": 5}
        for number in range(40)
    ]
    whole = wire(
        coverage={"files": 200, "omitted": [], "rules": rules}, answer="a" * 9_000
    )
    page = first_page(whole, "summary")
    listed = page["coverage"]["rules"]
    assert listed[:10] == rules[:10]
    assert [row["path"] for row in listed[10:]] == ["(and 30 more, with detail full)"]
    assert size(page) <= BUDGETS["summary"]
    assert len(whole["coverage"]["rules"]) == 40


@pytest.mark.parametrize("detail", BUDGETS)
def test_one_entry_longer_than_a_page_is_cut_and_marked_and_the_others_are_whole(
    detail: str,
) -> None:
    long = {"severity": "high", "title": "t", "evidence": "é\n" * 90_000, "risk": "r"}
    whole = wire(findings=[FINDINGS[0], long, *FINDINGS[1:]])
    pages = read_pages(whole, detail)
    assert all(size(part) <= BUDGETS[detail] for part in pages)
    findings = join_pages(pages, "findings")
    cut = findings.pop(1)
    assert findings == FINDINGS
    assert {**cut, "evidence": long["evidence"]} == long
    assert cut["evidence"].startswith("é\né")
    assert "[cut here" in cut["evidence"]
    assert pages[-1]["meta"]["truncated"] is True


def test_an_entry_of_many_short_things_is_shown_as_the_begin_of_its_json() -> None:
    (first, *_) = pages = read_pages(wire(data=[list(range(50_000)), "after"]), "full")
    assert all(size(part) <= BUDGETS["full"] for part in pages)
    start, after = join_pages(pages, "data")
    assert start.startswith("[0, 1, 2, ")
    assert "[cut here" in start
    assert after == "after"
    assert first["meta"]["truncated"] is True


def test_an_entry_that_only_the_next_page_has_room_for_goes_there_whole() -> None:
    entry = {"title": "t", "evidence": "e" * 30_000}
    pages = read_pages(wire(answer="a" * 20_000, findings=[entry]), "full")
    assert join_pages(pages, "findings") == [entry]
    assert all(size(part) <= BUDGETS["full"] for part in pages)
    assert "truncated" not in pages[-1]["meta"]


@pytest.mark.parametrize("detail", BUDGETS)
def test_a_long_comparison_of_attempts_is_paged_by_whole_rows(detail: str) -> None:
    rows = [
        {"attempt": number, "files": [f"src/file{n}.py" for n in range(250)]}
        for number in range(1, 6)
    ]
    whole = wire(attempts=rows, diff="+" * 50_000)
    pages = read_pages(whole, detail)
    assert all(size(page) <= BUDGETS[detail] for page in pages)
    assert join_pages(pages, "attempts") == rows
