"""Arguments of the tools: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from codex_counsel.contract import output_schema as schemas
from codex_counsel.contract import request
from codex_counsel.contract.request import (
    Consult,
    Delegate,
    JobCancel,
    JobList,
    JobResult,
    JobStatus,
    ReviewChanges,
    Status,
    ToolRequest,
    parse,
    validate,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import JsonObject

JOB = "0123456789abcdef" * 2
THREAD = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"


def refusal(model: type[ToolRequest], arguments: dict[str, Any]) -> CounselError:
    with pytest.raises(CounselError) as caught:
        parse(model, arguments)
    assert caught.value.code == Code.INVALID_ARGUMENTS
    return caught.value


def test_only_what_is_needed_is_needed() -> None:
    found = parse(Consult, {"question": "Why?"})
    assert (found.question, found.stance, found.images, found.detail) == (
        "Why?",
        "advise",
        (),
        "full",
    )
    assert found.subject == "Why?"


def test_a_null_is_an_argument_left_out() -> None:
    assert (
        parse(
            Consult, {"question": "Why?", "model": None, "images": None, "stance": None}
        ).stance
        == "advise"
    )


def test_text_is_kept_to_the_letter() -> None:
    text = "  leading, \ttrailing \n\u2028"
    assert parse(Consult, {"question": text}).question == text


TAKEN: dict[str, tuple[type[ToolRequest], dict[str, Any]]] = {
    "a thread": (Consult, {"question": "?", "session_id": THREAD}),
    "a thread in capitals": (Consult, {"question": "?", "session_id": THREAD.upper()}),
    "a number as text": (Consult, {"question": "?", "timeout_seconds": "60"}),
    "images": (Consult, {"question": "?", "images": ["a.png", "/b.png"]}),
    "a job": (JobStatus, {"job_id": JOB, "wait_seconds": 50}),
    "a page": (JobResult, {"job_id": JOB, "cursor": "answer:1:2", "detail": "summary"}),
    "a list": (JobList, {"status": "running", "limit": 200}),
    "a pull request as a number": (ReviewChanges, {"pr": 7}),
    "nothing": (Status, {}),
}


@pytest.mark.parametrize(("model", "arguments"), TAKEN.values(), ids=TAKEN.keys())
def test_what_is_right_is_taken(
    model: type[ToolRequest], arguments: dict[str, Any]
) -> None:
    assert isinstance(parse(model, arguments), model)


REFUSED: dict[str, tuple[type[ToolRequest], dict[str, Any], str]] = {
    "job id in capitals": (
        JobCancel,
        {"job_id": JOB.upper()},
        "job_id: String should match pattern",
    ),
    "job id that climbs": (
        JobCancel,
        {"job_id": "../../../etc"},
        "job_id: String should match pattern",
    ),
    "job id and a line end": (
        JobCancel,
        {"job_id": JOB + "\n"},
        "job_id: String should match pattern",
    ),
    "no job id": (JobResult, {}, "job_id: Field required"),
    "too long a wait": (
        JobStatus,
        {"job_id": JOB, "wait_seconds": 51},
        "wait_seconds: Input should be less than",
    ),
    "a negative wait": (
        JobStatus,
        {"job_id": JOB, "wait_seconds": -1},
        "wait_seconds: Input should be greater than",
    ),
    "a fraction": (
        JobStatus,
        {"job_id": JOB, "wait_seconds": 1.5},
        "wait_seconds: Input should be a valid integer",
    ),
    "a cursor without end": (
        JobResult,
        {"job_id": JOB, "cursor": "x" * 201},
        "cursor: String should have at most",
    ),
    "no such status": (JobList, {"status": "lost"}, "status: Input should be 'queued'"),
    "a list without end": (
        JobList,
        {"limit": 201},
        "limit: Input should be less than or equal to 200",
    ),
    "a model without end": (
        Consult,
        {"question": "?", "model": "x" * 201},
        "model: String should have at most 200",
    ),
    "a path without end": (
        Consult,
        {"question": "?", "images": ["x" * 4097]},
        "images.0: String should have at most",
    ),
    "half a character in a path": (
        Consult,
        {"question": "?", "images": ["a\udcff.png"]},
        "images.0: Input should be a valid string, unable to parse raw data as a unicode string",
    ),
    "half a character in a workspace": (
        Consult,
        {"question": "?", "workspace_root": "/a\udcff"},
        "workspace_root: Input should be a valid string, unable to parse raw data as a unicode string",
    ),
    "NUL in a path": (
        Consult,
        {"question": "?", "workspace_root": "/a\0b"},
        "workspace_root: holds a NUL byte",
    ),
    "too many roots": (
        Consult,
        {"question": "?", "extra_roots": ["/a"] * 21},
        "extra_roots: Tuple should have at most",
    ),
}


@pytest.mark.parametrize(
    ("model", "arguments", "words"), REFUSED.values(), ids=REFUSED.keys()
)
def test_what_is_wrong_is_refused_by_name(
    model: type[ToolRequest], arguments: dict[str, Any], words: str
) -> None:
    assert words in refusal(model, arguments).message


def test_a_refusal_lists_what_would_have_been_accepted_and_never_echoes_a_value() -> (
    None
):
    found = refusal(
        JobCancel, {"job_id": "sk-secret-value", "force": "sk-other-secret"}
    )
    assert found.details == {"accepted_arguments": ["job_id"]}
    assert "force is not an argument of this tool" in found.message
    assert "secret" not in found.message


def test_a_refusal_of_many_arguments_stays_short() -> None:
    found = refusal(Consult, {f"{'x' * 300}{number}": 1 for number in range(100)})
    assert len(found.message) < 1000


def test_a_request_cannot_be_changed_after_it_was_checked() -> None:
    found = parse(Consult, {"question": "Why?"})
    with pytest.raises(FrozenInstanceError):
        found.question = " "  # type: ignore[misc]


def test_every_tool_names_itself() -> None:
    models = [
        m
        for m in vars(request).values()
        if isinstance(m, type) and issubclass(m, ToolRequest)
    ]
    named = [m.tool for m in models if hasattr(m, "tool")]
    assert len(named) == len(set(named))
    assert all(name.startswith("codex_") for name in named)


# --- what an idempotency key on disk is compared by

CANONICAL: list[tuple[type[ToolRequest], dict[str, Any], str]] = [
    (
        Consult,
        {
            "question": "?",
            "extra_context": "c",
            "stance": "challenge",
            "text_only": True,
            "images": ["a.png", "/b.png"],
            "web_search": True,
            "network": True,
            "model": "m",
            "effort": "high",
            "session_id": "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f",
            "profile": "p",
            "extra_roots": ["/a", "/b"],
            "timeout_seconds": "60",
            "idempotency_key": "k",
            "detail": "summary",
            "workspace_root": "/w",
            "output_schema": {
                "type": "object",
                "properties": {"b": {}, "a": {"type": ["string", "null"]}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
        },
        (
            '{"detail": "summary", "effort": "high", "extra_context": "c", "extra_roots": ["/a", "/b"]'
            ', "idempotency_key": "k", "images": ["a.png", "/b.png"], "model": "m", "network": true'
            ', "output_schema": {"additionalProperties": false, "properties": {"a": {"type": ["string"'
            ', "null"]}, "b": {}}, "required": ["a", "b"], "type": "object"}, "profile": "p"'
            ', "question": "?", "session_id": "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f", "stance": "challenge"'
            ', "text_only": true, "timeout_seconds": 60, "web_search": true, "workspace_root": "/w"}'
        ),
    ),
    (
        ReviewChanges,
        {
            "scope": "range",
            "range": "a..b",
            "base": "x",
            "commit": "y",
            "paths": ["src/a.py", "b"],
            "focus": "f",
            "stance": "challenge",
            "plan": "p",
            "plan_path": "/p.md",
            "extra_context": "e",
            "web_search": True,
            "network": True,
            "idempotency_key": "k",
        },
        (
            '{"base": "x", "commit": "y", "detail": "full", "effort": null, "extra_context": "e"'
            ', "extra_roots": [], "focus": "f", "idempotency_key": "k", "model": null, "network": true'
            ', "paths": ["src/a.py", "b"], "plan": "p", "plan_path": "/p.md", "profile": null'
            ', "range": "a..b", "scope": "range", "session_id": null, "stance": "challenge"'
            ', "timeout_seconds": null, "web_search": true, "workspace_root": null}'
        ),
    ),
    (
        ReviewChanges,
        {},
        (
            '{"base": null, "commit": null, "detail": "full", "effort": null, "extra_context": null, "e'
            'xtra_roots": [], "focus": null, "idempotency_key": null, "model": null, "network": false, '
            '"paths": [], "plan": null, "plan_path": null, "profile": null, "range": null, "scope": "wo'
            'rking_tree", "session_id": null, "stance": "review", "timeout_seconds": null, "web_search"'
            ': false, "workspace_root": null}'
        ),
    ),
    (
        Delegate,
        {
            "task": "t",
            "from_job": "00000000000000000000000000000000",
            "images": ["i"],
            "idempotency_key": "k",
        },
        (
            '{"detail": "full", "effort": null, "extra_context": null, "extra_roots": []'
            ', "from_job": "00000000000000000000000000000000", "idempotency_key": "k", "images": ["i"]'
            ', "model": null, "network": false, "profile": null, "session_id": null, "task": "t"'
            ', "timeout_seconds": null, "web_search": false, "workspace_root": null}'
        ),
    ),
]


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    CANONICAL,
    ids=lambda value: getattr(value, "tool", ""),
)
def test_the_text_of_the_same_arguments_never_changes(
    model: type[ToolRequest], arguments: dict[str, Any], text: str
) -> None:
    assert parse(model, arguments).canonical() == text


# --- requests of the command line that import no pydantic


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        (JobCancel(job_id=JOB.upper()), {"job_id": JOB.upper()}),
        (JobCancel(job_id=JOB + "\n"), {"job_id": JOB + "\n"}),
        (JobList(limit=0), {"limit": 0}),
        (JobList(limit=201), {"limit": 201}),
        (JobList(cursor="x" * 201), {"cursor": "x" * 201}),
        (JobList(workspace_root=" "), {"workspace_root": " "}),
        (JobList(workspace_root="x" * 4097), {"workspace_root": "x" * 4097}),
    ],
    ids=lambda value: "" if isinstance(value, dict) else type(value).__name__,
)
def test_a_request_made_by_hand_is_refused_in_the_words_of_a_parsed_one(
    request_: ToolRequest, arguments: dict[str, Any]
) -> None:
    with pytest.raises(CounselError) as caught:
        validate(request_)
    assert caught.value == refusal(type(request_), arguments)


def test_a_request_made_by_hand_that_is_right_is_taken() -> None:
    assert validate(JobList(limit=200)) == parse(JobList, {"limit": 200})


# --- the reply's schema

ITEM = {
    "type": "object",
    "properties": {"a": {}},
    "required": ["a"],
    "additionalProperties": False,
}


def test_a_schema_is_passed_on_as_it_was_given() -> None:
    assert (
        parse(Consult, {"question": "?", "output_schema": ITEM}).output_schema == ITEM
    )


def test_a_reply_is_read_as_the_schema_says() -> None:
    assert schemas.read_reply('{"a": [1, null]}', ITEM) == {"a": [1, None]}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("", "is not the JSON"),
        ("null", "breaks output_schema at the reply: None is not of type 'object'"),
        ('{"a": 1, "b": 2}', "Additional properties are not allowed"),
        ('{"a": -Infinity}', "is not the JSON"),
        ('{"a": ' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
    ],
)
def test_a_reply_that_the_schema_does_not_allow_is_refused(
    reply: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        schemas.read_reply(reply, ITEM)


def _object(properties: JsonObject, **more: Any) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def _chain(length: int) -> JsonObject:
    definitions: JsonObject = {
        f"d{index}": {"$ref": f"#/$defs/d{index + 1}"} for index in range(length)
    }
    definitions[f"d{length}"] = {"type": "string"}
    return _object({"a": {"$ref": "#/$defs/d0"}}, **{"$defs": definitions})


SLOW_PATTERN = "(?i)" + "[\u0000-\U0010ffff]" * 100
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
EXPENSIVE: dict[str, tuple[JsonObject, str]] = {
    "a long chain of references": (_chain(2800), "has more than 5000 values"),
    "a shorter chain of references": (_chain(40), "more than 32 references"),
    "many properties": (
        _object({f"p{index}": {"type": "string"} for index in range(2500)}),
        "1500 objects and booleans",
    ),
    "many alternatives": (
        _object({"a": {"anyOf": [{}] * 4000}}),
        "1500 objects and booleans",
    ),
    "many alternatives that are booleans": (
        _object({"a": {"anyOf": [True] * 4000}}),
        "1500 objects and booleans",
    ),
    "a wide enum": (_object({"a": {"enum": list(range(6000))}}), "5000 values"),
    "a long pattern": (
        _object({"a": {"pattern": "a|" * 2000}}),
        "pattern of more than 1000 characters",
    ),
    "a pattern that takes long to compile": (
        _object({"a": {"pattern": SLOW_PATTERN}}),
        "a pattern with flags",
    ),
    "such a pattern below a keyword that only an older draft knows": (
        _object(
            {"a": {"dependencies": {"b": {"pattern": SLOW_PATTERN}}}},
            **{"$schema": DRAFT_7},
        ),
        "a pattern with flags",
    ),
    "such a pattern as the name of a property": (
        _object({"a": {"patternProperties": {SLOW_PATTERN: {}}}}),
        "a pattern with flags",
    ),
    "a schema that applies itself to the same value": (
        _object(
            {"a": {"$ref": "#/$defs/x"}},
            **{"$defs": {"x": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]}}},
        ),
        "applies itself without end",
    ),
}


@pytest.mark.parametrize(("schema", "words"), EXPENSIVE.values(), ids=EXPENSIVE.keys())
def test_a_schema_that_costs_too_much_is_refused_before_it_costs_anything(
    schema: JsonObject, words: str
) -> None:
    before = time.process_time()
    with pytest.raises(CounselError) as refusal:
        parse(Consult, {"question": "?", "output_schema": schema})
    assert (refusal.value.code, words in refusal.value.message) == (
        Code.INVALID_ARGUMENTS,
        True,
    ), refusal.value.message
    assert time.process_time() - before < 1


def test_a_tree_and_a_large_schema_that_people_use_are_taken() -> None:
    tree = {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}}
    large = {f"p{index}": {"type": "string"} for index in range(400)}
    schema = _object(
        {"tree": {"$ref": "#/$defs/tree"}, **large},
        **{"$defs": {"tree": _object(tree)}},
    )
    assert schemas.check_schema(schema) == schema


OLDEST_DRAFT = "http://json-schema.org/draft-03/schema#"


@pytest.mark.parametrize(
    "changes",
    [
        {"$schema": []},
        {"$schema": {}},
        {"$schema": OLDEST_DRAFT, "required": True},
        {
            "$schema": OLDEST_DRAFT,
            "properties": {"a": {**ITEM, "required": True}},
            "required": None,
        },
        {"$schema": "http://json-schema.org/draft-07/schema#", "$defs": ["x"]},
    ],
    ids=str,
)
def test_a_schema_that_no_draft_makes_sense_of_is_an_invalid_argument(
    changes: dict[str, Any],
) -> None:
    arguments = {
        name: value for name, value in {**ITEM, **changes}.items() if value is not None
    }
    with pytest.raises(CounselError) as caught:
        parse(Consult, {"question": "?", "output_schema": arguments})
    assert caught.value.code == Code.INVALID_ARGUMENTS
    assert "output_schema" in caught.value.message


def test_a_schema_of_an_older_draft_is_read_as_that_draft() -> None:
    older = {**ITEM, "$schema": "http://json-schema.org/draft-07/schema#"}
    assert schemas.check_schema(older) == older
    assert schemas.read_reply('{"a": 1}', older) == {"a": 1}
