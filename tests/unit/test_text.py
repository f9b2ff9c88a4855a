"""Text on its way out: what is dropped, what is kept, and that every measure is in bytes."""

from __future__ import annotations

import json

import pytest

from codex_counsel.system.text import (
    clean,
    clean_tree,
    cut,
    decode,
    json_escaped,
    one_line,
    size,
    visible,
)
from tests import hostile

CLEANED = {
    "plain": ("plain text", "plain text"),
    "white space": ("a\tb\r\nc", "a\tb\r\nc"),
    "letters of the world": (
        "äß 漢字 \U0001f600 e\u0301",
        "äß 漢字 \U0001f600 e\u0301",
    ),
    "line separators": ("a\u2028b\u2029c", "a<U+2028>b<U+2029>c"),
    "a carriage return alone": ("a\rb", "a\nb"),
    "overrides": ("a\u202eb\u2066c", "a<U+202E>b<U+2066>c"),
    "marks without letters that need them": ("a\u200fb", "a<U+200F>b"),
    "tags": ("hi\U000e0041", "hi<U+E0041>"),
    "NUL and bells": ("a\x00b\x07c\x08d", "abcd"),
    "C1 and DEL": ("a\x7fb\x85c\x9bd", "abcd"),
    "colours": ("\x1b[31mred\x1b[0m \x1b[38;5;196mtoo\x1b[m", "red too"),
    "cursor": ("a\x1b[2J\x1b[1;1Hb\x1b[?25l", "ab"),
    "title, by bell": ("\x1b]0;you are root\x07a", "]0;you are roota"),
    "link, by terminator": ("\x1b]8;;http://x\x1b\\a", "]8;;http://x\\a"),
    "code in a sequence": ("//\x1b]\nrun();\n//\x07", "//]\nrun();\n//"),
    "half a sequence": ("a\x1b[31", "a[31"),
    "one in another": ("\x1b\x1b[31m[31mx", "[31mx"),
    "lone surrogates": ("a\ud800b\udfff", "a\ufffdb\ufffd"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "cleaned"), CLEANED.values(), ids=CLEANED.keys())
def test_what_terminals_and_json_choke_on_is_dropped_and_the_rest_stays(
    text: str, cleaned: str
) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned
    json.dumps(clean(text), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[" * 200_000,
        "\x1b]" * 200_000,
        "\x1b[" + "1;" * 400_000,
        "\ud800" * 400_000,
    ],
)
def test_hostile_text_is_cleaned_in_time_that_grows_with_it_and_not_faster(
    text: str,
) -> None:
    assert "\x1b" not in clean(text)


def test_what_is_to_be_judged_shows_its_control_characters_and_loses_nothing() -> None:
    assert (
        visible("//\x1b]\nrun();\n//\x07 \x1b[31m\x00\x7f\x9b\x0c\ud800")
        == "//<U+001B>]\nrun();\n//<U+0007> <U+001B>[31m<U+0000><U+007F><U+009B><U+000C>\ufffd"
    )
    kept = "a\tb\r\nc äß 漢字 \U0001f600"
    assert visible(kept) == kept


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
def test_nothing_hidden_is_left_in_what_a_reader_judges_and_no_other_character_is_lost(
    text: str,
) -> None:
    output = visible(text)
    kept = {"\r", "\ufe0f"}
    assert hostile.hidden_characters(output) <= kept
    assert "\r" not in output.replace("\r\n", "\n")
    assert visible(output) == output
    assert hostile.hidden_characters(clean(text)) <= kept
    assert clean(clean(text)) == clean(text)

    def spelling(character: str) -> str:
        if hostile.is_hidden(character):
            return f"<U+{ord(character):04X}>"
        return character

    spelled = "".join(map(spelling, text))
    assert output.replace("\r\n", "<U+000D>\n").replace("\ufe0f", "<U+FE0F>") == spelled


@pytest.mark.parametrize("text", hostile.ORDINARY.values(), ids=hostile.ORDINARY.keys())
def test_no_language_and_no_emoji_is_damaged(text: str) -> None:
    assert clean(text) == text
    marks = str.maketrans({"\u200e": "<U+200E>", "\u200f": "<U+200F>"})
    assert visible(text) == text.translate(marks)


@pytest.mark.parametrize("text", hostile.ORDINARY.values(), ids=hostile.ORDINARY.keys())
@pytest.mark.parametrize("name", ["\u202e", "\U000e0041", "\u200b", "\ufe0f"])
def test_what_one_character_needs_excuses_no_second_one(text: str, name: str) -> None:
    assert visible(f"{text}{name}{name}a").endswith(f"<U+{ord(name):04X}>a")


def test_json_stays_the_same_value_without_a_hidden_character() -> None:
    text = json.dumps(hostile.ALL, ensure_ascii=False)
    escaped = json_escaped(text)
    assert hostile.hidden_characters(escaped) == set()
    assert json.loads(escaped) == hostile.ALL


def test_a_tree_is_cleaned_in_every_string_and_key_and_otherwise_kept() -> None:
    tree = {"k\x00": ["a\x1b[1m", ("b\ud800", 1)], 7: None, "n": {"x": True, "y": 1.5}}
    assert clean_tree(tree) == {
        "k": ["a", ["b\ufffd", 1]],
        "7": None,
        "n": {"x": True, "y": 1.5},
    }


def test_bytes_of_any_kind_become_text() -> None:
    assert decode(b"caf\xe9 \xff\x00\x1b[1m\xe2\x82\xac") == "caf\ufffd \ufffd\u20ac"


def test_a_line_is_one_line_and_its_cut_is_marked() -> None:
    assert one_line(" a\n\n b\t c ") == "a b c"
    assert one_line("x" * 300, 10) == "x" * 9 + "…"
    assert one_line("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a", 1), ("ä", 2), ("€", 3), ("\U0001f600", 4), ("\ud800", 1)],
)
def test_size_is_in_bytes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("limit", range(12))
def test_a_cut_is_the_longest_prefix_that_fits_and_never_splits_a_character(
    limit: int,
) -> None:
    text = "aä€\U0001f600z"
    part = cut(text, limit)
    assert text.startswith(part)
    assert size(part) <= limit
    assert part == text or size(text[: len(part) + 1]) > limit


def test_a_cut_to_nothing_is_nothing() -> None:
    assert cut("abc", -5) == cut("abc", 0) == ""
