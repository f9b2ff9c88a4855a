"""A comparison of tasks as a page of HTML: what it shows, and that no text in it does anything."""

from __future__ import annotations

import re
from typing import Any

import pytest

from codex_counsel.cli.formats import compare_html as module
from codex_counsel.cli.formats import render
from codex_counsel.contract.envelope import failed
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.text import visible
from tests.comparisons import (
    FILE,
    JOB,
    OTHER_JOB,
    SAME,
    VERSION,
    comparison,
    filled,
)
from tests.hostile import ALL, TEXTS, hidden_characters, obeyed_commands
from tests.pages import Node, parse_page
from tests.unit.test_html import assert_is_inert, digest


def page_of(**changes: Any) -> Node:
    return parse_page(render(comparison(**changes), "html"))


def facts(node: Node) -> dict[str, str]:
    rows = node.one("dl").all("div")
    return {row.one("dt").text: row.one("dd").text for row in rows}


# --- what it shows


def test_the_top_says_what_is_compared() -> None:
    top = page_of(jobs=[JOB | {"base_sha": "a" * 40}, OTHER_JOB]).all("header")[0]
    assert "3 changed files" in top.one("h1").text
    assert facts(top) == {
        "Task": "Fix the sum.",
        "Directory": "/home/me/project",
        "Start": "a" * 12,
    }


def test_each_task_has_a_box_with_its_check_and_what_it_took() -> None:
    first, second, third = page_of().all("section", "task")
    assert first.one("h3").text == "1 2 files changed"
    assert facts(first) == {
        "Rank": "1",
        "Lines": "+2 -1",
        "Files": "2",
        "Outside tests": "3 lines",
        "Agrees": "1 of 2 files",
        "Model": "gpt-a",
        "Effort": "high",
        "Tokens": "1,000 in, 500 out",
        "Took": "83 s",
    }
    assert first.one("p", "outcome").text == "passedmake test"
    assert first.all("details") == []
    assert second.one("p", "outcome").text == (
        "failed (exit 2)make test (3.2 s); it passed before the change"
    )
    assert second.one("details").one("pre").text == "one\ntwo"
    assert "open" in second.one("details").attributes
    assert third.one("h3").text == "3 timeout"
    assert third.one("p", "reason").text == "it left no diff"
    assert facts(third) == {"Rank": "3="}


def test_the_subject_stands_in_the_boxes_where_the_tasks_are_not_the_same() -> None:
    page = page_of(jobs=[JOB, OTHER_JOB | {"subject": "Something else."}])
    subjects = [node.text for node in page.all("p", "subject")]
    assert subjects == ["Fix the sum.", "Something else."]
    assert "Task" not in facts(page.all("header")[0])


def test_the_versions_of_a_file_stand_beside_each_other() -> None:
    (article,) = page_of(files=[FILE]).all("article")
    assert article.one("h3").text == "src/app.py"
    assert article.attributes["data-same"] == "different"
    first, second = article.all("section", "version")
    assert first.one("h4").text == "1+1-1"
    rows = [(node.text, node.classes) for node in first.one("code").all("span")]
    assert rows == [
        ("@@ -6,3 +6,3 @@ def total():\n", ["hunk"]),
        (" six = 6\n", []),
        ("-seven = 70\n", ["del"]),
        ("+seven = 7\n", ["ins"]),
        (" eight = 8\n", []),
    ]
    assert [tag.text for tag in second.all("span", "tag")] == [
        "build: building or testing executes it"
    ]


def test_lines_of_one_kind_are_one_row() -> None:
    diff = "@@ -1 +1,3 @@\n-a\n--- sql\n+b\n+--- c\n++++ d\n"
    page = page_of(files=[FILE | {"versions": [VERSION | {"diff": diff}]}])
    rows = [node.text for node in page.one("pre", "patch").all("span")]
    assert rows == ["@@ -1 +1,3 @@\n", "-a\n--- sql\n", "+b\n+--- c\n++++ d\n"]


def test_what_is_the_same_is_shown_once_and_who_left_a_file_alone_is_said() -> None:
    new, util, _ = page_of().all("article")
    assert [
        node.text for node in util.all("section", "version")[0].all("span", "badge")
    ] == ["1", "2"]
    assert util.one("span", "same").text == "the same in all"
    version, untouched = new.all("section", "version")
    assert untouched.text == "2not changed"
    assert "1,234 more bytes" in version.text
    assert "added" in version.text


def test_lines_before_the_first_hunk_that_say_something_stay() -> None:
    diff = (
        "diff --git a/a b/b\nold mode 100644\nnew mode 100755\nrename from a\n"
        "index 1..2\nBinary file, not shown\n"
    )
    page = page_of(files=[FILE | {"versions": [VERSION | {"diff": diff}]}])
    shown = page.one("pre", "patch").text
    assert shown == (
        "old mode 100644\nnew mode 100755\nrename from a\nBinary file, not shown\n"
    )


def test_files_can_be_filtered_by_name_and_by_agreement() -> None:
    bar = page_of().one("div", "controls")
    buttons = [
        (node.attributes["data-value"], node.attributes["data-key"], node.text)
        for node in bar.one("div", "toggles").all("button")
    ]
    assert buttons == [
        ("different", "1", "different 2"),
        ("the same in all", "2", "the same in all 1"),
    ]
    assert [node.text for node in bar.all("option")] == [
        "All files",
        "docs/new.md",
        "lib/util.py",
        "src/app.py",
    ]
    assert page_of(files=[SAME]).all("div", "controls") == []


def test_notes_of_the_comparison_come_first() -> None:
    page = page_of(notes=["these tasks are of different repositories: a, b"])
    assert "different repositories" in page.one("section", "notes").text
    assert page_of().all("section", "notes") == []


def test_no_changed_file_is_said() -> None:
    page = page_of(files=[], differing=0, same=0)
    none = page.one("p", "none")
    assert (none.text, "hidden" in none.attributes) == (
        "No task changed a file.",
        False,
    )


def test_a_comparison_that_failed_is_a_page_too() -> None:
    error = CounselError(Code.JOB_RUNNING, "Not yet")
    page = parse_page(render(failed("codex-counsel compare", error), "html"))
    assert "job_running: Not yet" in page.all("header")[0].text
    assert "What to do: " in page.all("header")[0].text


# --- bounds


def test_of_a_page_that_would_be_too_big_diffs_are_left_out_and_then_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    big = FILE | {"versions": [VERSION | {"diff": "+" + "x" * 50_000}]}
    monkeypatch.setattr(module, "MAX_PAGE", 60_000)
    page = page_of(files=[big, big, SAME])
    assert len(page.all("article")) == 3
    notes = page.one("section", "notes").text
    assert "without the diffs of 1 file: the page would be too big" in notes
    monkeypatch.setattr(module, "MAX_PAGE", 5_000)
    page = page_of(files=[SAME] * 100)
    left_out = 100 - len(page.all("article"))
    assert left_out > 0
    assert f"{left_out} more files" in page.one("section", "notes").text


# --- hostile text


@pytest.mark.parametrize(
    "text", [*TEXTS.values(), ALL, "</script></style><!--<script>", "\"'><x y=z>"]
)
def test_text_of_a_diff_a_check_or_a_path_does_nothing(text: str) -> None:
    output = render(comparison(**filled(comparison().data, text)), "html")
    page = assert_is_inert(output)
    assert hidden_characters(output) <= hidden_characters(visible(text))
    assert obeyed_commands(output) == []
    line = re.sub(r"\s+", "", visible(text).split("\n")[0])
    assert line in re.sub(r"\s+", "", page.text)


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone() -> None:
    page = page_of()
    policy = str(page.one("head").all("meta")[1].attributes["content"])
    assert f"style-src {digest(page.one('style').text)}; " in policy
    assert f"script-src {digest(page.one('script').text)}; " in policy
    assert policy.startswith("default-src 'none'; ")
