"""Text for a terminal: wrapped to its width, coloured where it wants colours, plain elsewhere."""

from __future__ import annotations

import io

import pytest

from codex_counsel.cli.output import GuardedStream
from codex_counsel.cli.page import Look, Page, columns, fitted, wrapped


class Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


LOOKS: dict[str, tuple[bool, dict[str, str], str, Look]] = {
    "a terminal": (True, {"COLUMNS": "90"}, "auto", Look(90, colour=True)),
    "a pipe": (False, {"COLUMNS": "90"}, "auto", Look()),
    "no colour": (True, {"NO_COLOR": "1"}, "auto", Look(80)),
    "an empty variable": (True, {"NO_COLOR": ""}, "auto", Look(80, colour=True)),
    "a dumb terminal": (True, {"TERM": "dumb"}, "auto", Look(80)),
    "never": (True, {}, "never", Look(80)),
    "always, to a pipe": (False, {"NO_COLOR": "1"}, "always", Look(colour=True)),
    "hardly any room": (True, {"COLUMNS": "3"}, "never", Look(40)),
}


@pytest.mark.parametrize(
    ("is_terminal", "env", "asked", "look"), LOOKS.values(), ids=LOOKS
)
def test_the_look_of_a_stream(
    is_terminal: bool, env: dict[str, str], asked: str, look: Look
) -> None:
    assert Look.of(Stream(is_terminal=is_terminal), env, asked) == look


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("one two three four", ["one two three", "four"]),
        ("- one two three", ["- one two", "  three"]),
        ("12. one two three", ["12. one two", "    three"]),
        ("   one two three", ["   one two", "   three"]),
        ("x" * 30, ["x" * 30]),
        ("a " + "x" * 30, ["a", "x" * 30]),
        ("", [""]),
        ("日本語 日本語 日", ["日本語 日本語", "日"]),
    ],
)
def test_a_line_is_cut_between_words(line: str, parts: list[str]) -> None:
    assert wrapped(line, 13) == parts
    assert wrapped(line, None) == [line]


def test_columns_are_those_of_a_terminal() -> None:
    assert [columns(text) for text in ("abc", "日本", "é", "e\u0301")] == [3, 4, 1, 1]
    assert [fitted("日本語", 6), fitted("日本語", 5), fitted("abc", 2)] == [
        "日本語",
        "日本…",
        "a…",
    ]


def test_code_in_prose_stays_as_it_is() -> None:
    page = Page(Look(40))
    long = "word " * 12
    page.add_prose(f"{long}\n```\n{long}\n```\n| {long} |\n{long}")
    assert str(page).count(long.rstrip()) == 2
    assert len(page.lines) == 2 + 3 + 1 + 2


def test_a_patch_is_coloured_by_its_lines_and_a_removed_line_is_no_head() -> None:
    page = Page(Look(40, colour=True))
    page.add_diff("diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n--- x\n+y\n z")
    assert [line[0][1] for line in page.lines] == [
        "bold",
        "bold",
        "bold",
        "cyan",
        "red",
        "green",
        "",
    ]


def test_the_head_of_a_second_file_is_no_change() -> None:
    page = Page(Look(40, colour=True))
    file = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x"
    page.add_diff(f"{file}\n{file}")
    styles = [line[0][1] for line in page.lines]
    assert styles == ["bold", "bold", "bold", "cyan", "red"] * 2


def test_colours_are_ours_and_the_text_in_them_passes_the_guard() -> None:
    stream = io.StringIO()
    page = Page(Look(colour=True))
    page.add("::add-mask::x \x1b[2J##vso[y]z", "red")
    page.print(GuardedStream(stream, in_workflow=True))  # type: ignore[arg-type]
    inner = stream.getvalue().removeprefix("\x1b[31m").removesuffix("\x1b[0m\n")
    assert "\x1b" not in inner
    assert not inner.startswith("::")
    assert "##vso[" not in inner


def test_quiet_leaves_out_what_is_no_result() -> None:
    page = Page(Look(quiet=True))
    page.note("a note")
    page.add("the result")
    assert str(page) == "the result"
