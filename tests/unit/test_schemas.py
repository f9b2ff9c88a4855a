"""The files in `schema/` are those of the models, and each stands alone."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from codex_counsel.contract import schemas
from codex_counsel.contract.envelope import Envelope, Finding, Meta, completed, failed
from codex_counsel.errors import Code, CounselError
from tests.unit.test_docs import ROOT

DOCUMENTS = schemas.documents()
RESULT = Draft202012Validator(DOCUMENTS["result.json"])


def test_the_files_are_those_of_the_models() -> None:
    generate = runpy.run_path(str(ROOT / "docs/reference/generate.py"))
    texts = generate["schema_files"]()
    on_disk = {name: (ROOT / "schema" / name).read_text("utf-8") for name in texts}
    assert on_disk == texts


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_is_a_schema_with_an_id_of_its_own_and_needs_no_other(name: str) -> None:
    schema = DOCUMENTS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:codex-counsel:schema:{name.removesuffix('.json')}"
    defined = {f"#/$defs/{part}" for part in schema.get("$defs", {})}
    assert set(references(schema)) <= defined


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "$ref":
            yield item
        yield from references(item)


def test_a_finding_refers_to_no_more_than_it_has() -> None:
    schema = DOCUMENTS["finding.json"]
    used = {reference.rpartition("/")[2] for reference in references(schema)}
    assert used == set(schema["$defs"])
    Draft202012Validator(schema).validate({"severity": "high", "title": "It is wrong"})
    with pytest.raises(Exception, match="'severe' is not one of"):
        Draft202012Validator(schema).validate({"severity": "severe", "title": "x"})


def result(**changes: Any) -> dict[str, Any]:
    envelope = Envelope(
        ok=True,
        status="completed",
        tool="codex_review_changes",
        summary="It is fine",
        verdict="pass",
        findings=[Finding(severity="low", title="A name is misleading")],
        meta=Meta(),
    )
    return {**envelope.wire(), **changes}


def test_a_result_is_of_an_ended_run() -> None:
    RESULT.validate(result())
    error = CounselError(Code.AUTH_REQUIRED, "Not logged in")
    RESULT.validate(failed("codex_consult", error).wire())
    cancelled = CounselError(Code.CANCELLED, "It was cancelled")
    RESULT.validate(failed("codex_delegate", cancelled).wire())


@pytest.mark.parametrize(
    "wrong",
    [
        result(status="running"),
        result(ok=False),
        result(ok=False, status="failed"),
        result(status="failed"),
        result(verdict="perhaps"),
        result(findings=[{"severity": "low"}]),
        completed("codex_status", "Codex is usable", {}).wire(),
        {},
    ],
    ids=lambda wrong: json.dumps(wrong)[:60],
)
def test_what_is_no_result_does_not_match(wrong: dict[str, Any]) -> None:
    assert not RESULT.is_valid(wrong)
