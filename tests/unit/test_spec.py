"""The record of a job: which ones this release reads, and what follows from its fields."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from codex_counsel.jobs.spec import FIELD_TYPES, Spec
from tests import specs

SPEC = replace(
    specs.SPEC,
    created=1_800_000_000.5,
    argv=("codex", "exec"),
    idle=60.5,
    meta={"model": "m"},
)


def stored_spec(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(SPEC.to_json()))
    return raw | changes


def test_a_stored_record_is_read_as_it_was() -> None:
    assert Spec.parse(stored_spec()) == SPEC


def test_a_record_of_an_earlier_release_is_read_although_it_has_a_field_that_nobody_reads() -> (
    None
):
    assert Spec.parse(stored_spec(request={"question": "Is it fine?"})) == SPEC


def test_a_record_without_the_fields_of_checks_and_of_further_jobs_is_read() -> None:
    raw = stored_spec(delegate={"workspace": "/"})
    for name in ("attempts", "proof", "checks", "children", "parent", "codex"):
        del raw[name]
    spec = Spec.parse(raw)
    assert (spec.kind, spec.children, spec.checks) == ("delegate", (), None)


def test_every_field_has_a_type_that_is_checked() -> None:
    checked = [name for _, names in FIELD_TYPES for name in names]
    assert sorted(checked) == sorted(field.name for field in fields(Spec))


@pytest.mark.parametrize("name", [field.name for field in fields(Spec)])
def test_a_value_of_the_wrong_type_is_refused(name: str) -> None:
    wrong: Any = 7
    if name == "max_tokens" or isinstance(getattr(SPEC, name), int | float):
        wrong = "seven"
    with pytest.raises(ValueError, match=name):
        Spec.parse(stored_spec(**{name: wrong}))


@pytest.mark.parametrize("name", ["..", "../../other", "", "a" * 31, 7, None])
def test_what_is_no_job_id_is_no_child(name: Any) -> None:
    with pytest.raises(ValueError, match="children"):
        Spec.parse(stored_spec(children=["a" * 32, name]))


def test_the_kind_follows_from_the_field_that_is_set() -> None:
    assert SPEC.kind == "consult"
    assert (
        replace(SPEC, output_schema={"type": "object"}, library="/lib").kind
        == "consult"
    )
    assert replace(SPEC, review={"workspace": "/"}).kind == "review"
    assert replace(SPEC, delegate={"workspace": "/"}).kind == "delegate"


def test_the_details_are_the_fields_of_the_kinds_and_none_that_all_runs_have() -> None:
    spec = replace(SPEC, review={"workspace": "/"})
    assert spec.details == {
        "output_schema": None,
        "library": None,
        "review": {"workspace": "/"},
        "delegate": None,
        "attempts": None,
        "proof": None,
        "in_place": None,
    }
    assert replace(SPEC, **spec.details) == spec
