"""The tables that turn Codex's words into codes, row by row and at their edges."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from codex_counsel.codex import failures
from codex_counsel.codex.failures import (
    SANDBOX_BROKEN,
    START_RULES,
    TURN_RULES,
    FailureRule,
)
from codex_counsel.errors import CATALOG, EXIT_CODES, Code, CounselError


def rows(rules: Sequence[FailureRule]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("number", "rule"),
        list(enumerate(rules)),
        ids=[rule.example[:40] for rule in rules],
    )


def first(rules: Sequence[FailureRule], text: str) -> int:
    return next(
        number for number, rule in enumerate(rules) if re.search(rule.pattern, text)
    )


@rows(TURN_RULES)
def test_every_row_for_a_failed_turn_recognises_its_own_example_and_no_earlier_row_takes_it(
    number: int, rule: FailureRule
) -> None:
    assert first(TURN_RULES, rule.example) == number
    assert failures.from_turn(rule.example).code == rule.code


@rows(START_RULES)
def test_every_row_for_a_run_that_never_began_recognises_its_own_example_and_no_earlier_row_takes_it(
    number: int, rule: FailureRule
) -> None:
    assert first(START_RULES, rule.example) == number
    assert failures.from_start(rule.example, 1).code == rule.code


def test_every_text_finds_a_row_and_none_is_a_defect_of_ours() -> None:
    assert Code.INTERNAL not in {rule.code for rule in (*TURN_RULES, *START_RULES)}
    assert failures.from_turn("").code == Code.UPSTREAM_ERROR
    assert failures.from_start("Something new", 1).code == Code.PROCESS_DIED


@pytest.mark.parametrize(
    "message",
    [
        '{"detail":"Instructions are not valid"}',
        'unexpected status 400 Bad Request: {"detail":"Instructions are not valid"}',
    ],
)
def test_refused_base_instructions_name_the_setting_that_brings_back_codexs(
    message: str,
) -> None:
    error = failures.from_turn(message)
    assert error.code == Code.MODEL_REJECTED
    assert "CODEX_COUNSEL_INSTRUCTIONS=codex" in str(error.repair)
    assert failures.from_turn('{"detail":"No such model"}').repair is None


def test_the_catalogue_explains_every_code() -> None:
    assert set(CATALOG) == set(Code)
    assert all(
        meaning.meaning.endswith(".") and meaning.repair for meaning in CATALOG.values()
    )
    assert all(meaning.exit_code in EXIT_CODES for meaning in CATALOG.values())


MESSAGES = {
    "straight apostrophe": (
        "You've hit your usage limit. Try again later.",
        Code.USAGE_LIMIT,
    ),
    "reused login": (
        "Your access token could not be refreshed because your refresh token was already used.",
        Code.AUTH_REQUIRED,
    ),
    "refresh refused": ("Failed to refresh token: 400 Bad Request", Code.AUTH_REQUIRED),
    "refresh down": (
        "Failed to refresh token: 503 Service Unavailable",
        Code.UPSTREAM_ERROR,
    ),
    "no network, older": (
        "stream disconnected before completion: error sending request for url (http://x/)",
        Code.STREAM_DISCONNECTED,
    ),
    "no name": (
        "Connection failed: failed to lookup address information: Name",
        Code.NETWORK_UNAVAILABLE,
    ),
    "504": (
        "unexpected status 504 Gateway Timeout: , url: http://x",
        Code.UPSTREAM_ERROR,
    ),
    "a parameter with safety in its name": (
        '{"error":{"message":"Unknown parameter: safety_identifier","code":"unknown_parameter"}}',
        Code.MODEL_REJECTED,
    ),
    "a model with cyber in its name": (
        '{"detail":"The model gpt-cyber is not supported"}',
        Code.MODEL_REJECTED,
    ),
    "flagged": (
        '{"error":{"message":"This content was flagged for possible risk"}}',
        Code.POLICY_REFUSED,
    ),
    "a model of a 404": (
        "The model `gpt-9` does not exist or you do not have access to it.",
        Code.MODEL_REJECTED,
    ),
    "an effort": (
        "Unsupported value: 'max' is not supported with this model.",
        Code.MODEL_REJECTED,
    ),
    "400": (
        "unexpected status 400 Bad Request: no, url: http://x",
        Code.MODEL_REJECTED,
    ),
    "402": ("unexpected status 402 Payment Required", Code.MODEL_REJECTED),
    "409": ("unexpected status 409 Conflict", Code.MODEL_REJECTED),
    "408": ("unexpected status 408 Request Timeout: x", Code.UPSTREAM_ERROR),
    "time out": ("operation timed out", Code.NETWORK_UNAVAILABLE),
    "no way there": (
        "error sending request for url (https://x)",
        Code.NETWORK_UNAVAILABLE,
    ),
    "no way to the models": (
        "error sending request for url (https://x/v1/models)",
        Code.NETWORK_UNAVAILABLE,
    ),
    "a defect of Codex": (
        "internal error; agent loop died unexpectedly",
        Code.UPSTREAM_ERROR,
    ),
    "a full disk": (
        "Fatal error: No space left on device (os error 28)",
        Code.UPSTREAM_ERROR,
    ),
    "code alone": (
        '{"error":{"message":"no","code":"invalid_prompt"}}',
        Code.POLICY_REFUSED,
    ),
}


@pytest.mark.parametrize(("message", "code"), MESSAGES.values(), ids=MESSAGES.keys())
def test_words_of_other_releases_and_neighbouring_cases_find_their_row(
    message: str, code: Code
) -> None:
    assert failures.from_turn(message).code == code


BODIES = {
    '{"error":{"message":"no such model"}}': "no such model",
    '{"detail":"not supported"}': "not supported",
    '{"error":"plain"}': '{"error":"plain"}',
    '{"error":{"message":null}}': '{"error":{"message":null}}',
    "[1]": "[1]",
    "7": "7",
    "[" * 100_000: "[" * 999 + "…",
    "not JSON": "not JSON",
    "two\nlines": "two lines",
}


@pytest.mark.parametrize(
    ("message", "quoted"), BODIES.items(), ids=[message[:30] for message in BODIES]
)
def test_the_sentence_inside_a_raw_body_is_quoted_and_everything_else_as_it_is(
    message: str, quoted: str
) -> None:
    assert failures.from_turn(message).message == quoted


WAITS = {
    "try again in 1.2s": 1200,
    "Please try again in 20ms.": 20,
    "try again in 6m0s": 360_000,
    "Try again in 1h2m3s": 3_723_000,
    "try again in 20 seconds": 20_000,
    "try again in 2 minutes 5 seconds": 125_000,
    "try again in 1.2.3s": None,
    "try again in a while": None,
    "try again later": None,
    "try again in " + "9" * 400 + "s": None,
}


@pytest.mark.parametrize(
    ("message", "milliseconds"), WAITS.items(), ids=[message[:30] for message in WAITS]
)
def test_the_time_that_a_rate_limit_names_is_read(
    message: str, milliseconds: int | None
) -> None:
    error = failures.from_turn(f"rate limit exceeded: {message}")
    assert (error.code, error.retry_after_ms) == (Code.RATE_LIMITED, milliseconds)


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def zone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def local(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    """This local time, whatever the zone."""
    return datetime(year, month, day, hour, minute).astimezone()


NOW = (2026, 11, 21, 7, 39)
Parts = tuple[int, int, int, int, int]
RESETS: dict[str, Parts | None] = {
    "try again at 8:48 PM.": (2026, 11, 21, 20, 49),
    "try again at 12:05 AM.": (2026, 11, 21, 0, 6),
    "try again at 12:05 PM.": (2026, 11, 21, 12, 6),
    "try again at 11:59 PM.": (2026, 11, 22, 0, 0),
    "Try again at 7:39 AM.": (2026, 11, 21, 7, 40),
    "try again at Nov 23rd, 2026 6:48 PM.": (2026, 11, 23, 18, 49),
    "try again at Mar 1st, 2027 6:48 AM.": (2027, 3, 1, 6, 49),
    "try again at Jul 2nd, 2027 6:48 AM.": (2027, 7, 2, 6, 49),
    "try again at Apr 11th, 2027 1:00 AM.": (2027, 4, 11, 1, 1),
    "try again later.": None,
    "try again at Feb 31st, 2027 6:48 AM.": None,
    "try again at Foo 1st, 2027 6:48 AM.": None,
    "try again at 8:75 PM.": None,
    "try again at Jan 1st, 0000 8:15 PM.": None,
}


@pytest.mark.parametrize(("sentence", "parts"), RESETS.items(), ids=RESETS.keys())
def test_the_reset_is_the_end_of_the_minute_named_in_the_local_zone(
    zone: str, sentence: str, parts: Parts | None
) -> None:
    expected = local(*parts) if parts else None
    assert (
        failures.reset_time(
            f"You've hit your usage limit. {sentence}",
            local(*NOW) + timedelta(seconds=13),
        )
        == expected
    )


def test_a_reset_beyond_a_change_of_the_clocks_has_the_offset_of_that_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        reset = failures.reset_time(
            "try again at Nov 2nd, 2026 6:00 PM", local(2026, 10, 30, 9)
        )
        assert reset == datetime(2026, 11, 2, 23, 1, tzinfo=UTC)
    time.tzset()


def test_a_usage_limit_says_how_long_to_wait_and_one_that_is_over_says_at_once() -> (
    None
):
    far = failures.from_turn(
        "You've hit your usage limit. Try again at Nov 23rd, 2126 6:48 PM."
    )
    over = failures.from_turn(
        "You've hit your usage limit. Try again at Nov 23rd, 2001 6:48 PM."
    )
    assert far.retry_after_ms
    assert far.retry_after_ms > 0
    assert over.retry_after_ms == 0


LOST = "Error: thread/resume failed: no rollout found for thread id x (code -32600)"
STDERR = {
    "log lines and notices around": (
        "Reading prompt from stdin...\n2026-01-01T00:00:00Z ERROR codex_core: noise\nWARNING: proceeding\n"
        + LOST,
        LOST,
    ),
    "usage text": (
        "error: unexpected argument '-s' found\n\nUsage: codex exec resume\n\nFor more information, try '--help'.\n",
        "error: unexpected argument '-s' found",
    ),
    "a cause below": (
        "Error: failed to load configuration\n\nCaused by:\n  0: /x/fast.config.toml:1:10: unclosed array\n  1: TOML\n",
        "Error: failed to load configuration: /x/fast.config.toml:1:10: unclosed array",
    ),
    "a cause that repeats": (
        "Error: /x/config.toml:1:9: string values must be quoted\n\nCaused by:\n    TOML parse error at line 1\n",
        "Error: /x/config.toml:1:9: string values must be quoted",
    ),
    "no cause after the word": ("Error: alone\nCaused by:\n", "Error: alone"),
    "no error word": ("something\nhappened\n", "happened"),
    "notices only": ("Reading additional input from stdin...\n", ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("stderr", "sentence"), STDERR.values(), ids=STDERR.keys())
def test_codexs_own_reason_is_found_in_its_stderr(stderr: str, sentence: str) -> None:
    assert failures.last_sentence(stderr) == sentence


@pytest.mark.parametrize(
    ("returncode", "words"),
    [(3, "exit code 3"), (-9, "signal 9"), (None, "no exit code"), (0, "exit code 0")],
)
def test_an_end_without_a_word_names_how_it_ended(
    returncode: int | None, words: str
) -> None:
    error = failures.from_start("Reading prompt from stdin...\n", returncode)
    assert (error.code, error.message) == (
        Code.PROCESS_DIED,
        f"Codex ended with {words} and no error message",
    )


PROBES = {
    "Error: /x/config.toml:1:16: unknown variant `weird`": Code.CODEX_CONFIG_INVALID,
    "WARNING: proceeding, even though … Error: unknown variant `weird`": Code.CODEX_CONFIG_INVALID,
    "error: unexpected argument '-c' found": Code.CODEX_CONFIG_INVALID,
    "bwrap: No permissions to create a new namespace": Code.SANDBOX_UNAVAILABLE,
    "bwrap: Error: setting up uid map: Permission denied": Code.SANDBOX_UNAVAILABLE,
    "no answer": Code.SANDBOX_UNAVAILABLE,
}


@pytest.mark.parametrize(("reason", "code"), PROBES.items(), ids=PROBES.keys())
def test_a_refused_configuration_is_told_from_a_broken_sandbox(
    reason: str, code: Code
) -> None:
    error = failures.from_probe(reason)
    assert isinstance(error, CounselError)
    assert (error.code, reason in error.message) == (code, True)


OUTPUTS = {
    "bwrap: Creating new namespace failed: Operation not permitted\n": True,
    "failed to spawn code-mode host /x/codex-code-mode-host: No such file or directory": True,
    "Code Mode is unavailable because …": True,
    "notes.md:3: failed to spawn code-mode host": False,
    "warning: something\nbwrap: setting up uid map: Permission denied": True,
    "sandbox-exec: sandbox_apply: Operation not permitted": True,
    "codex-linux-sandbox: cannot start": True,
    "error building bubblewrap command: Fatal error: ripgrep unreadable glob scan failed for /w": True,
    "README.md:7: bwrap: is needed": False,
    "one\ntwo\nthree\nfour\nbwrap: quoted from a log far below": False,
    "the sandbox is unavailable": False,
    "": False,
}


@pytest.mark.parametrize(
    ("output", "broken"),
    OUTPUTS.items(),
    ids=[output[:30] or "nothing" for output in OUTPUTS],
)
def test_a_broken_sandbox_is_known_by_how_an_output_begins(
    output: str, broken: bool
) -> None:
    assert bool(SANDBOX_BROKEN.search(output)) is broken


SENT = "sk-proj-" + "A1b2" * 10


def test_a_token_in_what_codex_says_is_masked() -> None:
    for error in (
        failures.from_turn(f"rejected {SENT}"),
        failures.from_start(f"Error: config {SENT}", 1),
    ):
        assert SENT not in error.message
        assert "[masked:" in error.message


def test_an_error_reads_as_its_code_and_sentence() -> None:
    assert str(CounselError(Code.TIMEOUT, "too long")) == "timeout: too long"
