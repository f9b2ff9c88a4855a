"""The project file: what it may decide, what is refused, and what is named as not in force."""

from __future__ import annotations

import time
import tomllib

import pytest

from codex_counsel.contract.envelope import failed
from codex_counsel.contract.project_file import (
    MAX_BYTES,
    MAX_LINE,
    MAX_PATTERNS,
    MAX_WARNINGS,
    NO_POLICY,
    PathPolicy,
    json_schema,
    parse,
)
from codex_counsel.errors import EXIT_CODES, USAGE, Code, CounselError

WHOLE = """\
[review]
scope = "branch"
base = "develop"
skip = ["vendor/", "*.lock"]
fail_on = "medium"
focus = "Money and time zones."

[[review.paths]]
paths = ["db/migrations/"]
focus = "Each migration can be undone."
fail_on = "low"

[delegate]
check = "make test"
"""


def refused(text: str | bytes) -> str:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(CounselError) as raised:
        parse(data)
    assert raised.value.code == Code.PROJECT_FILE_INVALID
    return raised.value.message


def warnings(text: str) -> tuple[str, ...]:
    parsed = parse(text.encode())
    assert parsed.policy == NO_POLICY
    return parsed.warnings


def test_every_key_is_read() -> None:
    parsed = parse(WHOLE.encode())
    review = parsed.policy.review
    assert parsed.warnings == ()
    assert (review.scope, review.base, review.fail_on) == (
        "branch",
        "develop",
        "medium",
    )
    assert review.skip == ("vendor/", "*.lock")
    assert review.focus == "Money and time zones."
    assert review.paths == (
        PathPolicy(("db/migrations/",), "Each migration can be undone.", "low"),
    )
    assert parsed.policy.delegate.check == "make test"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"# only words\n",
        b"\xef\xbb\xbf",
        b"[review]\r\n[delegate]\r\n",
    ],
    ids=["empty", "a comment", "a byte order mark", "empty tables, CRLF"],
)
def test_a_file_may_decide_nothing(data: bytes) -> None:
    assert parse(data).policy == NO_POLICY


def test_a_byte_order_mark_and_other_line_ends_change_nothing() -> None:
    data = b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode()
    assert parse(data) == parse(WHOLE.encode())


# --- what is refused, with its line


REFUSED = {
    "no TOML": ("[review\n", "it is not TOML: "),
    "the same key twice": ("[review]\nbase='a'\nbase='b'\n", "(at line 3"),
    "a NUL": ("[review]\nfocus = 'a\0b'\n", "(at line 2"),
    "UTF-16": ("[review]\n".encode("utf-16"), ", line 1: it is not in UTF-8"),
    "Latin-1": (b"[review]\nfocus = '\xe9'\n", ", line 2: it is not in UTF-8"),
    "a text for a table": ('review = "all"\n', ", line 1: review must be a table"),
    "a text for a list": (
        '[review]\nskip = "vendor/"\n',
        ", line 2: review.skip must be a list",
    ),
    "a number for a text": (
        "[delegate]\n\ncheck = 1\n",
        ", line 3: delegate.check must",
    ),
    "a list in a list": ("[review]\nskip = [['a']]\n", "review.skip must be a text"),
    "a scope that needs more": (
        '[review]\nscope = "range"\n',
        "review.scope must be one of working_tree, staged, branch, files",
    ),
    "a severity that is none": (
        '[review]\nfail_on = "hi"\n',
        "review.fail_on must be one of critical, high, medium, low, nit, never",
    ),
    "a list as a severity": ("[review]\nfail_on = ['high']\n", "must be one of"),
    "a blank pattern": ('[review]\nskip = [" "]\n', "review.skip is blank"),
    "a pattern of two lines": (
        '[review]\nskip = ["a\\nb"]\n',
        "has control characters",
    ),
    "a NUL in a pattern": ('[review]\nskip = ["a\\u0000"]\n', "has control characters"),
    "an escape in a check": (
        '[delegate]\ncheck = "\\u001b[2J"\n',
        "delegate.check has control characters",
    ),
    "an option as a base": ('[review]\nbase = "--all"\n', "begins with '-'"),
    "a table of no paths": (
        "[review]\n[[review.paths]]\nfail_on = 'low'\n",
        ", line 2: review.paths names no paths",
    ),
    "a table of empty paths": ("[[review.paths]]\npaths = []\n", "names no paths"),
    "one table for many": ("[review.paths]\npaths = ['a']\n", "paths must be a list"),
    "a long pattern": (
        f"[review]\nskip = ['{'a' * 301}']\n",
        "more than 300 characters",
    ),
    "a long focus": (
        f"[review]\nfocus = '''{'a' * 3000}\n{'a' * 1001}'''\n",
        "more than 4000 characters",
    ),
    "a long check": (
        f"[delegate]\ncheck = '''{'a' * 3000}\n{'a' * 1001}'''\n",
        "more than 4000 characters",
    ),
    "a pattern of five stars": (
        "[review]\nskip = ['**/a/**/*b*c*']\n",
        "review.skip has a pattern with more than 4 stars",
    ),
    "too many tables": ("[[review.paths]]\npaths=['a']\n" * 21, "more than 20 entries"),
    "a long line": ("#\n#" + "a" * MAX_LINE, ", line 2: the line has more than"),
    "a day for a text": (
        "[review]\nfocus = 2026-01-31\n",
        "review.focus must be a text",
    ),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_and_not_passed_over(
    text: str | bytes, words: str
) -> None:
    message = refused(text)
    assert message.startswith(".codex-counsel.toml")
    assert words in message


def test_the_error_says_how_to_go_on_and_its_exit_code_is_that_of_usage() -> None:
    error = failed("t", CounselError(Code.PROJECT_FILE_INVALID, "x")).error
    assert error is not None
    assert "CODEX_COUNSEL_PROJECT_FILE=ignore" in error.repair
    assert USAGE in EXIT_CODES


def test_a_file_of_64_kilobytes_is_read_and_one_byte_more_is_refused() -> None:
    line = "#" + "x" * 1022 + "\n"
    data = (line * 64).encode()
    assert len(data) == MAX_BYTES
    assert parse(data).policy == NO_POLICY
    assert "more than 65536 bytes" in refused(data + b"\n")


HOSTILE = {
    "deep lists": "\n".join("[" * 3000 for _ in range(20)).join(("a = ", "")),
    "deep tables": "a = " + "{a=" * 1300,
    "100,000 patterns": "[review]\nskip = [\n" + "'a',\n" * 10_000 + "]\n",
    "a number without end": "a = " + "9" * 3990 + "\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(text: str) -> None:
    if "9999" in text:
        parse(text.encode())
        return
    refused(text)


def test_a_key_of_very_many_parts_takes_no_time() -> None:
    line = ".".join(["a"] * 1990)
    text = "".join(f"b{number}.{line} = 1\n" for number in range(16))
    began = time.process_time()
    parse(text.encode())
    assert time.process_time() - began < 10
    assert "the line has more than" in refused(".".join(["a"] * 30_000) + " = 1\n")


def test_more_patterns_than_are_read_are_refused() -> None:
    patterns = ", \n".join(["'a'"] * (MAX_PATTERNS + 1))
    assert "more than 500 entries" in refused(f"[review]\nskip = [{patterns}]\n")


def test_what_an_error_quotes_shows_no_hidden_character() -> None:
    message = refused("[review]\nfocus = '\u202e\u001b[2J'\n")
    assert "\x1b" not in message
    assert "\u202e" not in message


# --- what is not in force


POWERS = (
    "model",
    "effort",
    "network",
    "web_search",
    "sandbox",
    "sandbox_mode",
    "read_boundary",
    "isolation",
    "profile",
    "extra_roots",
    "max_tokens",
    "timeout",
    "timeout_seconds",
    "provider",
    "account",
    "prove",
    "attempts",
    "use_reserve",
    "codex_bin",
    "state_dir",
    "instructions",
    "session_id",
    "images",
    "host_controls",
    "Read-Boundary",
)


@pytest.mark.parametrize("name", POWERS)
@pytest.mark.parametrize("table", ["", "[review]\n", "[delegate]\n"])
def test_a_power_of_the_user_is_not_in_force_and_a_warning_says_so(
    table: str, name: str
) -> None:
    (warning,) = warnings(f"{table}{name} = true\n")
    place = table.strip("[]\n")
    shown = f"{place}.{name}" if place else name
    assert warning.startswith(
        f".codex-counsel.toml: {shown} is not in force: it is for the user"
    )


UNKNOWN = {
    "a typing error": ("[review]\nfial_on = 'low'\n", "did you mean fail_on?"),
    "with a hyphen": ("[review]\nfail-on = 'low'\n", "did you mean fail_on?"),
    "a table": ("[reviews]\nx = 1\n", "did you mean review?"),
    "in the wrong table": (
        "[delegate]\nskip = ['a']\n",
        "delegate.skip is not in force: it belongs to [review]",
    ),
    "in no table": (
        "check = 'make'\n",
        "check is not in force: it belongs to [delegate]",
    ),
    "like nothing": ("zebra = 1\n", "zebra is unknown, and not in force"),
}


@pytest.mark.parametrize(("text", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_key_is_named_with_the_nearest_one(text: str, words: str) -> None:
    (warning,) = warnings(text)
    assert words in warning


def test_an_unknown_key_of_some_paths_is_named_too() -> None:
    parsed = parse(b"[[review.paths]]\npaths = ['a']\nmodel = 'x'\n")
    assert parsed.policy.review.paths == (PathPolicy(("a",)),)
    assert parsed.warnings[0].startswith(
        ".codex-counsel.toml: review.paths.model is not in force: it is for the user"
    )


def test_the_warnings_are_bounded_and_the_rest_is_counted() -> None:
    text = "".join(f"zebra_{number} = 1\n" for number in range(1000))
    named = warnings(text)
    assert len(named) == MAX_WARNINGS + 1
    assert named[-1] == ".codex-counsel.toml: 990 more keys are not in force"


def test_a_key_of_hidden_characters_is_written_out() -> None:
    (warning,) = warnings('"\\u202emodel\\n::add-mask::" = 1\n')
    assert "\u202e" not in warning
    assert "\n" not in warning


# --- for editors


def test_the_schema_agrees_with_the_code_about_the_whole_file() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(json_schema())
    validator.check_schema(json_schema())
    assert list(validator.iter_errors(tomllib.loads(WHOLE))) == []
    for text in (
        "[review]\nmodel = 'x'\n",
        "[review]\nbase = '-x'\n",
        "[review]\nfocus = ' '\n",
        "[review]\nskip = ['a*b*c*d*e*']\n",
        "[[review.paths]]\nfail_on = 'low'\n",
        "[[review.paths]]\npaths = []\n",
    ):
        assert list(validator.iter_errors(tomllib.loads(text))) != []
