"""Reviews on the command line, as a person or a CI job asks for them: real processes, real Codex, scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, hold, http_error, say
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.reviews import (
    change,
    material,
    reply,
)

Model = Callable[..., Loopback]


pytestmark = pytest.mark.usefixtures("own_git_settings")


EXITS: dict[str, tuple[Any, tuple[str, ...], int]] = {
    "clean": (reply(), (), 0),
    "a finding below the default": (reply({}, verdict="concerns"), (), 0),
    "a finding at the default": (reply({"severity": "high"}, verdict="fail"), (), 1),
    "a finding at the severity asked for": (
        reply({}, verdict="concerns"),
        ("--fail-on", "medium"),
        1,
    ),
    "a finding below the severity asked for": (
        reply({"severity": "high"}, verdict="fail"),
        ("--fail-on", "critical"),
        0,
    ),
    "no verdict": ("It is fine.", (), 5),
    "no verdict, never": ("It is fine.", ("--fail-on", "never"), 0),
}


@pytest.mark.parametrize(
    ("said", "arguments", "code"), EXITS.values(), ids=EXITS.keys()
)
def test_the_exit_code_says_whether_the_change_is_clean(
    world: World, model: Model, said: Any, arguments: tuple[str, ...], code: int
) -> None:
    world.repository.begin_changed()
    model([say(said)])
    result = run(world, "review", *arguments)
    assert (result.code, result.err) == (code, "")
    assert "1 file, " in result.out


def test_a_review_reads_well(world: World, model: Model) -> None:
    world.repository.begin_changed()
    server = model([say(reply({}, verdict="concerns"))])
    result = run(
        world,
        "review",
        "--focus",
        "Is 70 right?",
        "--stance",
        "challenge",
        "--plan",
        "Make it 70.",
        "app.py",
    )
    assert result.out.startswith(
        "concerns: 1 medium. Read it all.\n\nMEDIUM  The seventh line is wrong\n  app.py:7 (verified)"
    )
    assert "continue with: --session-id" in result.out
    prompt = server.requests[0].prompt
    assert ("Is 70 right?" in prompt, "Attack this change" in prompt) == (True, True)
    assert material(prompt, "the agreed plan") == "Make it 70."


@pytest.mark.parametrize("flags", [("--json",), ("--format", "json")])
def test_json_is_the_envelope_whether_asked_for_by_flag_or_by_format(
    world: World, model: Model, flags: tuple[str, ...]
) -> None:
    world.repository.begin_changed()
    server = model([say(reply({}, verdict="concerns"))])
    wire = run(world, "review", *flags).json
    assert (wire["tool"], wire["verdict"], wire["findings"][0]["grounded"]) == (
        "codex_review_changes",
        "concerns",
        "verified",
    )
    previewed = run(world, "review", "--dry-run", *flags).json
    error = run(world, "review", "--scope", "commit", "--commit", "absent", *flags).json
    assert (previewed["coverage"], error["error"]["code"]) == (
        wire["coverage"],
        "unknown_ref",
    )
    assert len(server.requests) == 1


def test_the_other_formats_are_printed_alone(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([say(reply({"evidence": "seven = 70"}, verdict="concerns"))])
    log = json.loads(run(world, "review", "--format", "sarif").out)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "app.py"},
        "region": {"startLine": 7, "endLine": 7},
    }
    assert (
        run(world, "review", "--format", "github")
        .out.splitlines()[0]
        .startswith("::warning file=app.py,line=7,title=")
    )
    assert "```\nseven = 70\n```" in run(world, "review", "--format", "markdown").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--scope", "branch", "--base", "absent"),
            "unknown_ref: `absent` names no commit here",
        ),
        (("--scope", "branch", "--base", "main; id"), "unknown_ref: "),
        (
            ("--scope", "branch", "--base=--output=x"),
            "invalid_arguments: --base: begins with '-'",
        ),
        (
            ("--commit", "HEAD"),
            "invalid_arguments: --commit: belongs to --scope commit",
        ),
        (("absent.py",), "invalid_arguments: No file matches absent.py"),
        (("--plan-path", "absent.md"), "invalid_arguments: --plan-path: "),
        (
            ("--context-file", "absent.md"),
            "invalid_arguments: --context-file: absent.md: No such file",
        ),
        (("--focus", " "), "invalid_arguments: --focus: is blank"),
    ],
)
def test_bad_usage_exits_with_2(
    world: World, model: Model, arguments: tuple[str, ...], words: str
) -> None:
    world.repository.begin_changed()
    server = model()
    result = run(world, "review", *arguments)
    assert (result.code, words in result.err, "what to do: " in result.err) == (
        2,
        True,
        True,
    ), result.err
    assert server.requests == []


@pytest.mark.parametrize("name", ["text", "markdown", "json", "sarif", "github"])
def test_a_failed_run_is_a_document_in_every_format(
    world: World, model: Model, name: str
) -> None:
    world.repository.begin_changed()
    model([http_error(500)])
    result = run(world, "review", "--format", name, "--fail-on", "never")
    assert (result.code, "upstream_error" in result.out) == (3, True)
    if name == "sarif":
        (sarif,) = json.loads(result.out)["runs"]
        assert sarif["invocations"][0]["executionSuccessful"] is False
    if name == "json":
        assert json.loads(result.out)["error"]["code"] == "upstream_error"
    if name == "github":
        assert result.out.startswith("::error title=Codex review::upstream_error: ")
    # Whoever sends the document elsewhere sees the reason all the same.
    in_both = name in ("markdown", "sarif", "github")
    assert ("what to do: " in result.err) == in_both


@pytest.mark.parametrize("flags", [("--format", "sarif"), ("--json",)])
@pytest.mark.parametrize("scope", ["staged", "working_tree"])
def test_a_file_gets_the_document_of_a_review_and_of_a_mistake(
    world: World, model: Model, flags: tuple[str, ...], scope: str
) -> None:
    world.repository.begin_changed()
    model([say(reply())])
    file = world.base / "review.out"
    result = run(world, "review", "--scope", scope, "--output", str(file), *flags)
    failed = scope == "staged"
    assert (result.code, result.out) == (7 if failed else 0, "")
    assert ("nothing_to_review" in result.err) == failed
    document = json.loads(file.read_text("utf-8"))
    assert ("nothing_to_review" in str(document)) == failed


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_spent(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    server = model()
    result = run(world, "review", "--output", "absent/review.txt")
    assert (result.code, server.requests) == (2, [])
    assert "--output: absent/review.txt cannot be written" in result.err


def test_without_a_login_a_review_exits_with_3_and_a_dry_run_says_so(
    world: World,
) -> None:
    world.repository.begin_changed()
    assert run(world, "review").code == 3
    result = run(world, "review", "--dry-run")
    assert (
        result.code,
        "auth_required" in result.out,
        "nothing was spent" in result.out,
    ) == (0, True, True)


def test_a_review_in_the_background_is_fetched_by_its_job_id(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    gate = hold(say(reply({}, verdict="concerns")))
    model([gate])
    job = run(world, "review", "--background", "--json").json["job_id"]
    gate.release.set()
    result = run(world, "result", "--wait", job)
    assert (result.code, "MEDIUM  The seventh line is wrong" in result.out) == (0, True)
    assert run(world, "result", "--fail-on", "medium", job).code == 1
    log = json.loads(run(world, "result", "--format", "sarif", job).out)
    assert len(log["runs"][0]["results"]) == 1
    assert run(world, "cancel", job).code == 0


def test_a_review_is_continued_by_its_session_id(world: World, model: Model) -> None:
    world.repository.begin_changed()
    server = model([say(reply())])
    thread = run(world, "review", "--json").json["meta"]["session_id"]
    again = run(
        world, "review", "--json", "--session-id", thread, "--focus", "Really?"
    ).json
    assert (again["meta"]["session_id"], again["verdict"]) == (thread, "pass")
    assert "+seven = 70" in change(server.requests[1].prompt)


def test_a_plan_is_read_from_a_file_of_the_current_directory(
    world: World, model: Model
) -> None:
    world.repository.begin()
    world.repository.write("docs/plan.md", "## 1\n\nDo it.\n")
    server = model(
        [
            say(
                reply(
                    {
                        "section": "1",
                        "file": None,
                        "evidence": "Do it.",
                        "severity": "high",
                    },
                    verdict="fail",
                )
            )
        ]
    )
    result = run(world, "plan", "-C", str(world.workspace / "docs"), "docs/plan.md")
    assert (
        result.code,
        "HIGH  The seventh line is wrong\n  1 (verified)" in result.out,
    ) == (1, True)
    assert material(server.requests[0].prompt, "the plan") == "## 1\n\nDo it.\n"


def test_a_plan_is_read_from_standard_input(world: World, model: Model) -> None:
    server = model([say(reply())])
    result = run(
        world, "plan", "-", "--format", "github", stdin="Use `this` at $HOME. Ü\n"
    )
    assert (result.code, result.out) == (
        0,
        "::notice title=Codex review::pass: no findings. Read it all.\n",
    )
    assert material(server.requests[0].prompt, "the plan") == "Use `this` at $HOME. Ü\n"


@pytest.mark.parametrize("given", ["", " \n"])
def test_a_blank_plan_exits_with_2(world: World, model: Model, given: str) -> None:
    result = run(world, "plan", "-", stdin=given)
    assert (result.code, "invalid_arguments: plan: is blank" in result.err) == (2, True)
