"""Every failure that Codex knows, brought about on the real binary, comes back under one code in Codex's own words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codex_counsel.codex import probe
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Status, parse
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.jobs import recovery
from codex_counsel.loopback import (
    Account,
    Loopback,
    Script,
    drop,
    error,
    failed,
    garbage,
    hold,
    http_error,
    incomplete,
    items,
    malformed,
    say,
    shell,
    stall,
    usage_limit,
)
from codex_counsel.loopback.provider import config_toml, table
from codex_counsel.system import platform
from tests.conftest import (
    World,
    consult,
    link_or_copy,
    pick,
    start_consult,
    wait,
)
from tests.e2e import fakes
from tests.e2e.runs import assert_nothing_is_left, codex_of, counsel_with

Model = Callable[..., Loopback]
THREAD = "019aa000-0000-7000-8000-00000000abcd"
FLAGGED = (
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
)
CYBER = "This content was flagged for possible cybersecurity risk."
ROOM = "ran out of room in the model's context window"
AGAIN = "exceeded retry limit, last status: 429 Too Many Requests"
CAPACITY = "Selected model is at capacity. Please try a different model."
DEMAND = "currently experiencing high demand, which may cause temporary errors."
QUOTA = "Quota exceeded. Check your plan and billing details."
CLOSED = (
    "stream disconnected before completion: stream closed before response.completed"
)
EXPIRED = (
    "Your access token could not be refreshed because your refresh token has expired."
)


@dataclass(frozen=True)
class Case:
    """What the service does, the code it comes back as and a piece of Codex's own sentence (one per release)."""

    script: Script
    code: Code
    words: str | tuple[str, str]
    retry_after: bool = False
    partial: str | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def sentence(self, world: World) -> str:
        if isinstance(self.words, str):
            return self.words
        pinned, later = self.words
        return pinned if world.codex().version.startswith("0.163") else later


SERVICE: dict[str, Case] = {
    "401": Case(
        http_error(401, error("invalid_api_key", "bad key")),
        Code.AUTH_REQUIRED,
        "unexpected status 401 Unauthorized: bad key, url: http://",
    ),
    "403": Case(
        http_error(403, error("forbidden", "not you")),
        Code.POLICY_REFUSED,
        "unexpected status 403 Forbidden: not you, url: ",
    ),
    "451": Case(
        http_error(451, "not here"),
        Code.POLICY_REFUSED,
        "unexpected status 451 Unavailable For Legal Reasons: not here, url: ",
    ),
    "404": Case(
        http_error(404, error("model_not_found", "no such model")),
        Code.MODEL_REJECTED,
        ("unexpected status 404 Not Found: no such model, url: ", "no such model"),
    ),
    "400 plain": Case(http_error(400, "no way"), Code.UPSTREAM_ERROR, "no way"),
    "400 detail": Case(
        http_error(400, '{"detail": "no model"}'), Code.MODEL_REJECTED, "no model"
    ),
    "400 effort": Case(
        http_error(400, error("unsupported_value", "Unsupported value: 'colossal'")),
        Code.MODEL_REJECTED,
        "Unsupported value: 'colossal'",
        arguments={"effort": "colossal"},
    ),
    "400 schema": Case(
        http_error(
            400, error("invalid_json_schema", "Invalid schema for response_format")
        ),
        Code.MODEL_REJECTED,
        "Invalid schema for response_format",
    ),
    "400 prompt": Case(
        http_error(400, error("invalid_prompt", FLAGGED)), Code.POLICY_REFUSED, FLAGGED
    ),
    "400 cyber": Case(
        http_error(400, error("cyber_policy", CYBER)), Code.POLICY_REFUSED, CYBER
    ),
    "400 context": Case(
        http_error(400, error("context_length_exceeded", "too long by far")),
        Code.CONTEXT_EXCEEDED,
        ("too long by far", ROOM),
    ),
    "failed context": Case(
        failed("context_length_exceeded"), Code.CONTEXT_EXCEEDED, ROOM
    ),
    "429 plan, today or another day": Case(
        usage_limit("pro", 1_900_000_000),
        Code.USAGE_LIMIT,
        "hit your usage limit.",
        retry_after=True,
    ),
    "429 plan, no reset": Case(
        usage_limit("team"), Code.USAGE_LIMIT, "or try again later."
    ),
    "429 plan without Codex": Case(
        http_error(429, error("usage_not_included")),
        Code.USAGE_LIMIT,
        "upgrade to Plus: https://",
    ),
    "429 quota": Case(
        http_error(429, error("insufficient_quota")), Code.USAGE_LIMIT, QUOTA
    ),
    "failed quota": Case(failed("insufficient_quota"), Code.USAGE_LIMIT, QUOTA),
    "429 retry-after": Case(
        http_error(429, error("rate_limit_exceeded"), {"Retry-After": "1"}),
        Code.RATE_LIMITED,
        AGAIN,
    ),
    "429 bare": Case(
        http_error(429, error("rate_limit_exceeded")), Code.RATE_LIMITED, AGAIN
    ),
    "failed rate": Case(
        failed("rate_limit_exceeded", "Please try again in 1.2s."),
        Code.RATE_LIMITED,
        "rate limit exceeded: Please try again in 1.2s.",
        retry_after=True,
    ),
    "500": Case(http_error(500), Code.UPSTREAM_ERROR, DEMAND),
    "502": Case(
        http_error(502, "bad"),
        Code.UPSTREAM_ERROR,
        "unexpected status 502 Bad Gateway: bad, url: ",
    ),
    "503": Case(
        http_error(503, "shut"),
        Code.UPSTREAM_ERROR,
        "unexpected status 503 Service Unavailable: shut, url: ",
    ),
    "503 overloaded": Case(
        http_error(503, error("server_is_overloaded")), Code.MODEL_CAPACITY, CAPACITY
    ),
    "failed overloaded": Case(
        failed("server_is_overloaded"), Code.MODEL_CAPACITY, CAPACITY
    ),
    "failed server": Case(
        failed("server_error", "oh no"),
        Code.STREAM_DISCONNECTED,
        "stream disconnected before completion: oh no",
    ),
    "failed prompt": Case(
        failed("invalid_prompt", FLAGGED), Code.POLICY_REFUSED, FLAGGED
    ),
    "failed cyber": Case(failed("cyber_policy", CYBER), Code.POLICY_REFUSED, CYBER),
    "cut off by length": Case(
        incomplete("max_output_tokens", "So far"),
        Code.INCOMPLETE,
        "Incomplete response returned, reason: max_output_tokens",
        partial="So far",
    ),
    "cut off by filter": Case(
        incomplete("content_filter", "So far"),
        Code.POLICY_REFUSED,
        "Incomplete response returned, reason: content_filter",
        partial="So far",
    ),
    "hangs up at once": Case(
        drop("before_headers"),
        Code.STREAM_DISCONNECTED,
        "stream disconnected before completion: error sending request",
    ),
    "hangs up after headers": Case(
        drop("after_headers"), Code.STREAM_DISCONNECTED, CLOSED
    ),
    "hangs up in a text": Case(drop("mid_text"), Code.STREAM_DISCONNECTED, CLOSED),
    "hangs up after a message": Case(
        drop("after_message", "So far"),
        Code.STREAM_DISCONNECTED,
        CLOSED,
        partial="So far",
    ),
    "silent stream": Case(
        stall("after_headers"),
        Code.STREAM_DISCONNECTED,
        "idle timeout waiting for SSE",
        keys={"stream_idle_timeout_ms": 200},
    ),
    "garbage": Case(garbage(), Code.STREAM_DISCONNECTED, CLOSED),
    "malformed item": Case(
        malformed(), Code.EMPTY_OUTPUT, "completed its turn without a message"
    ),
}
"""The rows of what a model service can do, retries off."""


def is_named(wire: EnvelopeDict, code: Code, sentence: str) -> dict[str, Any]:
    """The failure of an envelope, after what holds of every failure."""
    failure: dict[str, Any] = wire["error"]
    assert (failure["code"], wire["ok"], wire["status"]) == (code, False, "failed"), (
        failure
    )
    assert sentence in failure["message"]
    assert failure["retryable"] == CATALOG[code].retryable
    assert failure["repair"]
    assert failure["message"][:50] in wire["summary"]
    return failure


@pytest.mark.parametrize("case", SERVICE.values(), ids=SERVICE.keys())
def test_what_a_model_service_does_comes_back_under_one_code_in_codexs_words(
    case: Case, each_release: World, each_model: Model
) -> None:
    each_model(case.script, **case.keys)
    wire = consult(each_release.counsel(), **case.arguments)
    failure = is_named(wire, case.code, case.sentence(each_release))
    assert ("retry_after_ms" in failure) == case.retry_after
    assert (wire.get("answer"), wire.get("partial")) == (
        case.partial,
        True if case.partial else None,
    )
    assert wire["meta"]["session_id"] == failure["details"]["session_id"]


def test_no_row_of_the_table_is_internal() -> None:
    assert Code.INTERNAL not in {case.code for case in SERVICE.values()}


UNREACHABLE = {
    "refused": ("http://127.0.0.1:1/v1", "Connection failed: error sending request"),
    "no such name": (
        "http://counsel.invalid/v1",
        "Connection failed: error sending request",
    ),
}


@pytest.mark.parametrize(
    ("url", "sentence"), UNREACHABLE.values(), ids=UNREACHABLE.keys()
)
def test_a_service_that_cannot_be_reached_is_network_unavailable(
    each_release: World, url: str, sentence: str
) -> None:
    each_release.configure(config_toml(table(url)))
    is_named(consult(each_release.counsel()), Code.NETWORK_UNAVAILABLE, sentence)


LOGINS = {
    "expired": (
        Account(refresh_code="refresh_token_expired"),
        Code.AUTH_REQUIRED,
        EXPIRED,
    ),
    "used already": (
        Account(refresh_code="refresh_token_reused"),
        Code.AUTH_REQUIRED,
        "because your refresh token was already used.",
    ),
    "token endpoint down": (
        Account(refresh_code="oops", refresh_status=500),
        Code.UPSTREAM_ERROR,
        "Failed to refresh token: 500 Internal Server Error",
    ),
}


@pytest.mark.parametrize(
    ("account", "code", "sentence"), LOGINS.values(), ids=LOGINS.keys()
)
def test_a_login_that_cannot_be_renewed_says_whether_to_log_in_again(
    each_release: World, account: Account, code: Code, sentence: str
) -> None:
    (each_release.codex_home / "auth.json").write_text(account.auth_json())
    with Loopback(
        http_error(401, error("token_expired", "expired")), account
    ) as server:
        keys = f'chatgpt_base_url = "{server.chatgpt_base_url}"\n'
        each_release.configure(keys + server.config_toml(requires_openai_auth=True))
        wire = consult(
            each_release.counsel(CODEX_REFRESH_TOKEN_URL_OVERRIDE=server.refresh_url)
        )
    is_named(wire, code, sentence)


# --- before anything is spent


def test_without_a_login_nothing_is_started_and_the_way_to_one_is_named(
    each_release: World,
) -> None:
    with pytest.raises(CounselError, match="Codex is not logged in") as refusal:
        consult(each_release.counsel())
    assert refusal.value.code == Code.AUTH_REQUIRED
    assert "codex login" in CATALOG[Code.AUTH_REQUIRED].repair
    assert not (each_release.state / "jobs").exists()


def test_the_key_that_codex_does_not_read_becomes_a_login_by_the_line_of_the_repair(
    each_release: World, each_model: Model
) -> None:
    server = each_model(requires_openai_auth=True)
    key = {"OPENAI_API_KEY": "sk-of-the-user"}
    with pytest.raises(CounselError, match="OPENAI_API_KEY is set") as refusal:
        consult(each_release.counsel(**key))
    assert refusal.value.code == Code.AUTH_REQUIRED
    assert "CODEX_API_KEY" in (refusal.value.repair or "")
    consult(each_release.counsel(CODEX_API_KEY=key["OPENAI_API_KEY"]))

    line = (refusal.value.repair or "").split("`")[1]
    programs = f"{Path(each_release.binary).parent}:{os.environ['PATH']}"
    env = {**each_release.env, **key, "PATH": programs}
    subprocess.run(["/bin/sh", "-c", line], env=env, check=True, capture_output=True)
    consult(each_release.counsel())
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer sk-of-the-user"] * 2


def test_a_missing_variable_of_the_users_provider_is_named_before_anything_is_started(
    each_release: World, each_model: Model
) -> None:
    server = each_model(env_key="KEY_OF_MINE")
    counsel = each_release.counsel()
    with pytest.raises(CounselError, match="KEY_OF_MINE, which is not set") as refusal:
        consult(counsel)
    assert refusal.value.code == Code.AUTH_REQUIRED
    repair = refusal.value.repair or ""
    assert "Set KEY_OF_MINE" in repair
    assert "codex login" not in repair
    status = counsel.status(Status())
    assert (status["next_steps"], status["data"]["usable"]) == ([repair], False)
    assert not (each_release.state / "jobs").exists()

    consult(each_release.counsel(KEY_OF_MINE="first"))
    # Codex reads further variables from this file.
    (each_release.codex_home / ".env").write_text("KEY_OF_MINE=second\n")
    consult(each_release.counsel())
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer first", "Bearer second"]


BROKEN_CONFIGS = {
    "toml": ("model = ", "config.toml"),
    "value": (
        'sandbox_mode = "weird"\n',
        "unknown variant `weird`, expected one of `read-only`",
    ),
    "wire": ("", '`wire_api = "chat"` is no longer supported'),
}


@pytest.mark.parametrize(
    ("text", "sentence"), BROKEN_CONFIGS.values(), ids=BROKEN_CONFIGS.keys()
)
def test_a_broken_configuration_is_refused_with_codexs_own_reason(
    each_release: World, each_model: Model, text: str, sentence: str
) -> None:
    server = each_model()
    provider = server.config_toml(**({} if text else {"wire_api": "chat"}))
    each_release.configure(text + provider)
    (each_release.codex_home / "auth.json").write_text(Account().auth_json())
    with pytest.raises(CounselError) as refusal:
        consult(each_release.counsel())
    assert refusal.value.code == Code.CODEX_CONFIG_INVALID
    assert sentence in refusal.value.message
    assert server.requests == []


def test_a_broken_profile_is_refused_with_codexs_own_reason(
    each_release: World, each_model: Model
) -> None:
    server = each_model()
    (each_release.codex_home / "fast.config.toml").write_text("model = [", "utf-8")
    with pytest.raises(CounselError) as refusal:
        consult(each_release.counsel(), profile="fast")
    assert refusal.value.code == Code.CODEX_CONFIG_INVALID
    assert "fast.config.toml" in refusal.value.message
    assert server.requests == []


def test_a_profile_that_does_not_exist_is_refused_although_codex_would_ignore_it(
    world: World, model: Model
) -> None:
    server = model()
    with pytest.raises(
        CounselError, match=r"there is no slow\.config\.toml"
    ) as refusal:
        consult(world.counsel(), profile="slow")
    assert refusal.value.code == Code.INVALID_ARGUMENTS
    assert server.requests == []


def test_an_mcp_server_that_is_required_and_missing_is_a_configuration_error(
    each_release: World, each_model: Model
) -> None:
    each_model(
        extra='\n[mcp_servers.need]\ncommand = "/nonexistent"\nrequired = true\n'
    )
    each_release.settings["ISOLATION"] = "inherit"
    is_named(
        consult(each_release.counsel()),
        Code.CODEX_CONFIG_INVALID,
        "required MCP servers failed to initialize",
    )


def test_a_broken_rules_file_harms_no_run(
    each_release: World, each_model: Model
) -> None:
    each_model()
    (each_release.codex_home / "rules").mkdir()
    (each_release.codex_home / "rules" / "mine.rules").write_text(
        "prefix_rule(", "utf-8"
    )
    assert consult(each_release.counsel())["ok"]


BINARIES = {
    "missing": (None, Code.CODEX_NOT_FOUND, "is not an executable file"),
    "garbage": (
        "echo hello",
        Code.CODEX_NOT_FOUND,
        "answered 'hello' when asked for --version",
    ),
    "mute": (
        "exit 0",
        Code.CODEX_NOT_FOUND,
        "answered 'nothing' when asked for --version",
    ),
    "hanging": (
        "exec sleep 100",
        Code.CODEX_NOT_FOUND,
        "did not answer when asked for --version",
    ),
    "too old": ("echo codex-cli 0.120.0", Code.CODEX_TOO_OLD, "Codex 0.120.0 at "),
}


@pytest.mark.parametrize(
    ("script", "code", "words"), BINARIES.values(), ids=BINARIES.keys()
)
def test_a_binary_that_is_no_usable_codex_is_named_with_the_reason(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    code: Code,
    words: str,
) -> None:
    if script and "sleep" in script:
        monkeypatch.setattr(probe, "PROBE_SECONDS", 1)
    world.binary = str(world.base / "codex")
    if script:
        fakes.executable(Path(world.binary), script)
    with pytest.raises(CounselError) as refusal:
        consult(world.counsel())
    assert (refusal.value.code, words in refusal.value.message) == (code, True), (
        refusal.value.message
    )


def test_another_platform_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "os", SimpleNamespace(name="nt"))
    with pytest.raises(CounselError, match="not POSIX") as refusal:
        platform.require_posix()
    assert refusal.value.code == Code.UNSUPPORTED_PLATFORM
    assert "WSL" in CATALOG[Code.UNSUPPORTED_PLATFORM].repair


def test_a_sandbox_that_does_not_start_is_found_out_before_a_token_is_spent(
    world: World, model: Model
) -> None:
    server = model()
    real = world.binary
    broken = f"""[ "$1" = sandbox ] && {{ echo 'bwrap: No permissions to create a new namespace' >&2; exit 1; }}
exec {real} "$@" """
    world.binary = str(fakes.executable(world.base / "codex", broken))
    with pytest.raises(
        CounselError, match="bwrap: No permissions to create a new namespace"
    ) as refusal:
        consult(world.counsel())
    assert refusal.value.code == Code.SANDBOX_UNAVAILABLE
    assert server.requests == []
    assert consult(world.counsel(), text_only=True)["ok"]


# --- threads


def test_a_thread_that_codex_does_not_know_is_session_not_found(
    each_release: World, each_model: Model
) -> None:
    server = each_model()
    wire = consult(each_release.counsel(), session_id=THREAD)
    is_named(wire, Code.SESSION_NOT_FOUND, f"no rollout found for thread id {THREAD}")
    assert server.requests == []


def test_a_thread_that_another_run_writes_to_is_session_busy_and_that_run_goes_on(
    each_release: World, each_model: Model
) -> None:
    gate = hold(say("First."))
    server = each_model(gate)
    counsel = each_release.counsel()
    first = start_consult(counsel, "One?")
    thread = server.asked()[0].thread_id
    wire = consult(each_release.counsel(), "Two?", session_id=thread)
    is_named(wire, Code.SESSION_BUSY, "already has an active writer")
    gate.release.set()
    assert wait(first)["answer"] == "First."


def test_a_run_that_began_another_thread_than_the_one_asked_for_is_no_answer(
    world: World, model: Model
) -> None:
    model()
    fakes.install(world, 'begin(); message("From elsewhere."); end()')
    wire = consult(world.counsel(), session_id=THREAD)
    failure = is_named(wire, Code.SESSION_NOT_FOUND, f"instead of continuing {THREAD}")
    assert "session_id" not in failure["details"]


# --- time


def test_a_model_that_never_answers_is_stalled_and_its_thread_is_named(
    each_release: World, each_model: Model
) -> None:
    server = each_model(stall("before_headers"))
    wire = consult(counsel_with(each_release, idle_seconds=8))
    failure = is_named(wire, Code.STALLED, "Codex was silent for 8 seconds")
    assert (
        failure["details"]["session_id"]
        == wire["meta"]["session_id"]
        == server.requests[0].thread_id
    )
    assert_nothing_is_left(each_release)


def test_a_run_beyond_its_total_time_is_a_timeout_that_quotes_codexs_last_notice(
    each_release: World, each_model: Model
) -> None:
    server = each_model(
        [drop("after_headers"), stall("before_headers")], stream_max_retries=1
    )
    wire = consult(counsel_with(each_release, timeout_seconds=12))
    failure = is_named(
        wire,
        Code.TIMEOUT,
        "The run reached its limit of 12 seconds; Codex's last notice: Reconnecting",
    )
    assert failure["details"]["session_id"] == server.requests[0].thread_id


def test_a_command_that_says_nothing_for_longer_than_the_idle_limit_is_not_a_stall(
    each_release: World, each_model: Model
) -> None:
    each_model([shell("sleep 9; echo done"), say("Waited.")])
    wire = consult(counsel_with(each_release, idle_seconds=6))
    assert (wire["status"], wire["answer"]) == ("completed", "Waited.")


# --- the end of the process


def test_codex_killed_in_the_middle_of_its_turn_is_process_died(
    each_release: World, each_model: Model
) -> None:
    gate = hold(say("Never heard."))
    each_model(gate)
    handle = start_consult(each_release.counsel(), "Will it live?")
    assert gate.reached.wait(60)
    os.kill(codex_of(handle.job).pid, signal.SIGKILL)
    wire = wait(handle)
    is_named(
        wire, Code.PROCESS_DIED, "Codex ended with signal 9 in the middle of its turn"
    )
    assert wire["meta"]["session_id"]


MISBEHAVIOUR: dict[str, tuple[str, Code, str]] = {
    "prints nothing and exits 0": (
        "sys.exit()",
        Code.EMPTY_OUTPUT,
        "without an error and without a message",
    ),
    "prints a notice and exits 0": (
        'print("Reading prompt from stdin...", file=sys.stderr)',
        Code.EMPTY_OUTPUT,
        "without an error and without a message",
    ),
    "exits 3": (
        "sys.exit(3)",
        Code.PROCESS_DIED,
        "Codex ended with exit code 3 and no error message",
    ),
    "exits 1 with a reason": (
        'print("Error: the disk is on fire", file=sys.stderr); sys.exit(1)',
        Code.PROCESS_DIED,
        "Error: the disk is on fire",
    ),
    "exits 3 in mid-turn": (
        "begin(); sys.exit(3)",
        Code.PROCESS_DIED,
        "exit code 3 in the middle of its turn",
    ),
    "exits 0 in mid-turn": (
        'begin(); message("Half."); sys.exit()',
        Code.PROCESS_DIED,
        "exit code 0 in the middle of its turn",
    ),
    "dies by a signal at once": (
        "os.kill(os.getpid(), signal.SIGSEGV)",
        Code.PROCESS_DIED,
        "Codex ended with signal 11 and no error message",
    ),
    "hangs": ("time.sleep(1000)", Code.STALLED, "Codex was silent for 2 seconds"),
    "hangs after its thread began": (
        "begin(); time.sleep(1000)",
        Code.STALLED,
        "Codex was silent for 2 seconds",
    ),
    "hangs deaf to signals": (
        "signal.signal(signal.SIGINT, signal.SIG_IGN); begin(); time.sleep(1000)",
        Code.STALLED,
        "Codex was silent for 2 seconds",
    ),
    "prints garbage for ever": (
        "while True:\n    out.write(b'{garbage}\\n' * 100); out.flush(); time.sleep(0.01)",
        Code.STALLED,
        "Codex was silent for 2 seconds",
    ),
    "closes stdout and hangs": (
        "begin(); os.close(1); time.sleep(1000)",
        Code.STALLED,
        "Codex was silent for 2 sec",
    ),
    "a line of 40 MB without an end": (
        "begin()\nfor _ in range(40): out.write(b'x' * (1 << 20))",
        Code.EMPTY_OUTPUT,
        "without an error and without a message",
    ),
    "invalid UTF-8": (
        'begin(); out.write(b\'\\xff\\xfe{"type": "turn.completed"}\\n\\xc3\\x28\\n\'); sys.exit(1)',
        Code.PROCESS_DIED,
        "exit code 1 in the middle of its turn",
    ),
    "no thread id, no answer": (
        'event("turn.started"); end()',
        Code.EMPTY_OUTPUT,
        "without a message",
    ),
    "a thread id that is none": (
        'event("thread.started", thread_id="../../*"); time.sleep(1000)',
        Code.STALLED,
        "Codex was silent for 2 seconds",
    ),
    "blank messages only": (
        'begin(); message("  \\n "); end()',
        Code.EMPTY_OUTPUT,
        "without a message",
    ),
    "numbers beyond all measure": (
        'begin(); message("So."); out.write(b\'{"type": "turn.completed", "usage": {"input_tokens": 1e999}}\\n\')',
        Code.INCOMPLETE,
        "answer may be missing",
    ),
}


@pytest.mark.parametrize(
    ("body", "code", "sentence"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR.keys()
)
def test_a_codex_that_misbehaves_is_ended_and_named(
    world: World, model: Model, body: str, code: Code, sentence: str
) -> None:
    model()
    fakes.install(world, body)
    # One that ends by itself may take its time to start.
    idle = 2 if code == Code.STALLED else 60
    wire = consult(counsel_with(world, idle_seconds=idle))
    is_named(wire, code, sentence)
    assert_nothing_is_left(world)


def test_an_answer_stands_though_codex_hangs_or_fails_after_completing_its_turn(
    world: World, model: Model
) -> None:
    model()
    fakes.install(world, 'begin(); message("Done."); end(); sys.exit(7)')
    assert consult(world.counsel())["answer"] == "Done."


@pytest.mark.parametrize(
    "limit",
    [*(f"ulimit -n {count}" for count in (12, 18, 22, 36, 44)), "ulimit -v 200000"],
)
@pytest.mark.parametrize("probed", [True, False])
def test_too_few_descriptors_and_too_little_memory_are_named_as_what_they_are(
    each_release: World, each_model: Model, limit: str, probed: bool
) -> None:
    world = each_release
    each_model([shell("ls"), say("Fine.")])
    if probed:
        consult(world.counsel())
    verb = f"{sys.executable} -m codex_counsel consult --json 'Is it fine?'"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{limit}; exec {verb}"],
        env=world.env,
        cwd=world.workspace,
        stdout=subprocess.PIPE,
        check=False,
    )
    wire = json.loads(done.stdout)
    if not wire["ok"]:  # how much is enough depends on the machine
        assert wire["error"]["code"] == Code.RESOURCE_LIMIT, wire
        assert "ulimit" in wire["error"]["repair"]
    assert not wire["ok"] or limit not in ("ulimit -n 12", "ulimit -v 200000")


@pytest.mark.parametrize("damage", ["too long", "cut off"])
def test_an_interim_message_is_not_the_answer_where_the_last_one_is_damaged(
    world: World, model: Model, damage: str
) -> None:
    model()
    last = {
        "too long": 'message("x" * 34_000_000)',
        "cut off": r"""out.write(b'{"type":"item.completed","item":{"type":"agent_mess' + b"\n")""",
    }
    fakes.install(world, f'begin(); message("Looking."); {last[damage]}; end()')
    wire = consult(world.counsel())
    is_named(wire, Code.INCOMPLETE, "answer may be missing")
    assert (wire["answer"], wire["partial"]) == ("Looking.", True)
    again = world.counsel().store.job(wire["meta"]["job_id"])
    (again.path / "result.json").unlink()
    wire = recovery.outcome(again) or {}
    is_named(wire, Code.INCOMPLETE, "answer may be missing")


def test_an_answer_of_lone_surrogates_and_control_characters_arrives_scrubbed(
    world: World, model: Model
) -> None:
    model()
    fakes.install(world, r'begin(); message("a\ud800b\x1b[31mc\x00d\x85e\tf"); end()')
    wire = consult(world.counsel())
    assert wire["answer"] == "a\ufffdbcde\tf"
    json.dumps(wire, ensure_ascii=False).encode("utf-8")


# --- what is no failure, and what is no answer


def test_a_turn_without_a_message_is_empty_output(
    each_release: World, each_model: Model
) -> None:
    each_model([shell("true"), items()])
    is_named(
        consult(each_release.counsel()),
        Code.EMPTY_OUTPUT,
        "completed its turn without a message",
    )


def test_an_interim_message_before_a_failure_is_kept_as_partial_and_never_an_answer(
    each_release: World, each_model: Model
) -> None:
    each_model(
        [
            items(say("Looking first.", phase="commentary"), shell("true")),
            http_error(400, '{"detail": "no way"}'),
        ]
    )
    wire = consult(each_release.counsel())
    failure = is_named(wire, Code.MODEL_REJECTED, "no way")
    assert pick(wire, "ok", "answer", "partial") == {
        "ok": False,
        "answer": "Looking first.",
        "partial": True,
    }
    assert failure["details"]["last_message"] == "Looking first."


def test_retries_and_error_items_are_warnings_and_the_answer_counts(
    each_release: World, each_model: Model
) -> None:
    each_model(
        [drop("after_headers"), say("After all.")],
        model="no-such-model",
        stream_max_retries=2,
    )
    wire = consult(each_release.counsel())
    assert (wire["ok"], wire["answer"]) == (True, "After all.")
    assert any(
        "Model metadata for `no-such-model` not found" in warning
        for warning in wire["meta"]["warnings"]
    )


BROKEN = {
    "shown": "echo 'bwrap: Creating new namespace failed: nesting depth exceeded' >&2; exit 1",
    "hidden by Codex": "echo 'bwrap: Creating new namespace failed: Operation not permitted' >&2; exit 1",
    "hidden by Codex, Ubuntu": "echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1",
}
"""What commands print where the sandbox cannot start. The last two Codex takes for a denial: its JSONL has no item."""


@pytest.mark.parametrize("name", ["gpt-6.1-sol", "gpt-5.5"])
@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_given_blind_because_no_command_could_start_is_sandbox_unavailable(
    each_release: World, each_model: Model, command: str, name: str
) -> None:
    each_model([shell(command), shell(command), say("Looks fine to me.")], model=name)
    wire = consult(each_release.counsel())
    is_named(
        wire,
        Code.SANDBOX_UNAVAILABLE,
        "Every command of this run failed at setting up Codex's sandbox",
    )
    assert pick(wire, "answer", "partial") == {
        "answer": "Looks fine to me.",
        "partial": True,
    }


@pytest.mark.parametrize(
    "turns", [[shell("true")], []], ids=["that failed", "that it had none for"]
)
def test_an_answer_given_blind_because_the_host_of_code_mode_is_missing_is_sandbox_unavailable(
    each_release: World, each_model: Model, turns: list[Any]
) -> None:
    package = Path(each_release.binary).resolve().parent.parent
    shutil.copytree(package, each_release.base / "codex", copy_function=link_or_copy)
    (each_release.base / "codex/bin/codex-code-mode-host").unlink()
    each_release.binary = str(each_release.base / "codex/bin/codex")
    each_model([*turns, say("Looks fine to me.")])
    wire = consult(each_release.counsel())
    is_named(wire, Code.SANDBOX_UNAVAILABLE, "code-mode host")
    assert pick(wire, "answer", "partial") == {
        "answer": "Looks fine to me.",
        "partial": True,
    }
    each_model([say("From the text alone.")])
    assert (
        consult(each_release.counsel(), text_only=True)["answer"]
        == "From the text alone."
    )
    each_model([shell("true"), say("I could look.")])
    assert consult(each_release.counsel(), model="gpt-5.5")["answer"] == "I could look."


@pytest.mark.parametrize("command", BROKEN.values(), ids=BROKEN.keys())
def test_one_command_that_worked_clears_the_sandbox(
    each_release: World, each_model: Model, command: str
) -> None:
    each_model([shell(command), shell("true"), say("I could look.")])
    assert consult(each_release.counsel())["answer"] == "I could look."


def test_a_command_that_only_talks_of_broken_sandboxes_is_no_broken_sandbox(
    each_release: World, each_model: Model
) -> None:
    each_model(
        [
            shell("echo 'readme: the sandbox is unavailable: bwrap: denied'; exit 1"),
            say("I could look."),
        ]
    )
    assert consult(each_release.counsel())["ok"]


def test_status_names_what_keeps_codex_from_being_used(world: World) -> None:
    wire = world.counsel().status(parse(Status, {}))
    assert wire["data"]["usable"] is False
    assert "Codex is not logged in" in wire["summary"]
