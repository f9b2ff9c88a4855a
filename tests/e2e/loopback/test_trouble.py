"""Each trouble makes a real Codex fail the turn with the words it has for it. Retries are off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codex_counsel.loopback import (
    Loopback,
    Reply,
    drop,
    error,
    failed,
    garbage,
    http_error,
    incomplete,
    malformed,
    say,
    stall,
    usage_limit,
)

if TYPE_CHECKING:
    from tests.e2e.loopback.conftest import Codex

CLOSED = (
    "stream disconnected before completion: stream closed before response.completed"
)
ROOM = "Codex ran out of room in the model's context window."
LIMIT = "exceeded retry limit, last status: 429 Too Many Requests"
CAPACITY = "Selected model is at capacity. Please try a different model."
DEMAND = "currently experiencing high demand, which may cause temporary errors."

TROUBLES: dict[str, tuple[Reply, str]] = {
    "401": (
        http_error(401, error("invalid_api_key", "bad key")),
        "unexpected status 401 Unauthorized: bad key, url: ",
    ),
    "403": (
        http_error(403, error("forbidden", "not you")),
        "unexpected status 403 Forbidden: not you, url: ",
    ),
    "404": (
        http_error(404, error("model_not_found", "no such model")),
        "no such model",
    ),
    "400": (http_error(400, '{"detail": "no"}'), '{"detail": "no"}'),
    "451": (
        http_error(451, "not here"),
        "unexpected status 451 Unavailable For Legal Reasons: not here, url: ",
    ),
    "502": (http_error(502, "bad"), "unexpected status 502 Bad Gateway: bad, url: "),
    "429": (http_error(429, error("rate_limit_exceeded")), LIMIT),
    "429 quota": (
        http_error(429, error("insufficient_quota")),
        "Quota exceeded. Check your plan",
    ),
    "429 not included": (
        http_error(429, error("usage_not_included")),
        "upgrade to Plus",
    ),
    "429 limit": (usage_limit("pro", 1_900_000_000), "hit your usage limit."),
    "500": (http_error(500), DEMAND),
    "503": (
        http_error(503, "closed"),
        "unexpected status 503 Service Unavailable: closed, url: ",
    ),
    "503 overloaded": (http_error(503, error("server_is_overloaded")), CAPACITY),
    "failed context": (failed("context_length_exceeded"), ROOM),
    "failed quota": (failed("insufficient_quota"), "Quota exceeded. Check your plan"),
    "failed rate": (
        failed("rate_limit_exceeded", "try again in 1s"),
        "rate limit exceeded: try again in 1s",
    ),
    "failed overloaded": (failed("server_is_overloaded"), CAPACITY),
    "failed server": (
        failed("server_error", "oh"),
        "stream disconnected before completion: oh",
    ),
    "failed prompt": (failed("invalid_prompt", "not that"), "not that"),
    "failed policy": (failed("cyber_policy", "nor that"), "nor that"),
    "incomplete": (
        incomplete(),
        "Incomplete response returned, reason: max_output_tokens",
    ),
    "incomplete filter": (
        incomplete("content_filter"),
        "stream disconnected before completion: Incomplete response returned, reason: content_filter",
    ),
    "drop at once": (drop("before_headers"), "error sending request"),
    "drop": (drop("after_headers"), CLOSED),
    "drop in text": (drop("mid_text"), CLOSED),
    "drop after message": (drop("after_message"), CLOSED),
    "stall before headers": (stall("before_headers", 0.1), "error sending request"),
    "stall": (stall("after_headers", 0.1), CLOSED),
    "garbage": (garbage(), CLOSED),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_fails_the_turn_in_these_words(codex: Codex, name: str) -> None:
    reply, words = TROUBLES[name]
    with Loopback(reply) as server:
        outcome = codex.ask(server)
    assert words in outcome.failure
    assert (outcome.code, len(server.requests)) == (1, 1)


def test_too_long_a_context_as_status_400_is_named_in_some_way(codex: Codex) -> None:
    """Newer releases have a sentence for it, older ones pass the body on."""
    with Loopback(http_error(400, error("context_length_exceeded"))) as server:
        failure = codex.ask(server).failure
    assert ROOM in failure or "context_length_exceeded" in failure


def test_silent_stream_fails_after_the_idle_timeout_of_the_provider(
    codex: Codex,
) -> None:
    with Loopback(stall("after_message")) as server:
        outcome = codex.ask(
            server, "-c", "model_providers.loopback.stream_idle_timeout_ms=200"
        )
    assert (
        outcome.failure
        == "stream disconnected before completion: idle timeout waiting for SSE"
    )


def test_partial_text_of_an_incomplete_response_is_reported(codex: Codex) -> None:
    with Loopback(incomplete(text="Half of")) as server:
        assert codex.ask(server).texts() == ["Half of"]


def test_malformed_item_is_skipped_without_an_error(codex: Codex) -> None:
    with Loopback(malformed()) as server:
        outcome = codex.ask(server)
    assert (outcome.code, outcome.items) == (0, [])


def test_retry_after_a_drop_gets_the_next_reply_of_the_list(codex: Codex) -> None:
    with Loopback([drop("mid_text"), say("Again.")]) as server:
        outcome = codex.ask(
            server, "-c", "model_providers.loopback.stream_max_retries=1"
        )
    assert outcome.texts() == ["Again."]
    assert [request.index for request in server.requests] == [0, 1]
