"""The command line and the environment of a run, as tables."""

from __future__ import annotations

import itertools
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex.binary import Codex
from codex_counsel.codex.command import (
    CORE_VARIABLES,
    LEAN_PINS,
    OWN_INSTRUCTIONS_PINS,
    QUIET_PINS,
    SANDBOX_PINS,
    Turn,
    argv,
    config,
    environment,
    last_turn,
    variables,
)
from codex_counsel.codex.sandbox import Boundary
from codex_counsel.errors import Code, CounselError

ROOT = Path("/srv/project")
BOUNDARY = Boundary(ROOT, readable=(Path("/opt/codex"),))
CODEX = Codex(Path("/opt/codex/bin/codex"), (Path("/opt/codex"),), "0.169.0", "PATH")
THREAD = "01a1fd11-ded1-74e3-8d2e-3522a04798af"
SCRATCH = Path("/tmp/scratch")


def turn(**fields: Any) -> Turn:
    return Turn(BOUNDARY, permissions="counsel_test", **fields)


def parse_overrides(values: tuple[str, ...]) -> dict[str, Any]:
    """What Codex understands of the values of `-c`: dotted keys are tables."""
    return tomllib.loads("\n".join(values))


EVERY_KIND = [
    {
        **({"session_id": THREAD} if resumed else {}),
        "isolation": isolation,
        "text_only": text,
        "web_search": search,
    }
    for resumed, isolation, text, search in itertools.product(
        (False, True), ("lean", "inherit", "strict"), (False, True), (False, True)
    )
]
CHOSEN: dict[str, Any] = {
    "model": "m",
    "effort": "e",
    "profile": "p",
    "mcp_servers": ("one", 'quo"te\\s', "dot.ted"),
    "instructions": Path("/state/jobs/0/instructions.md"),
}


def test_a_first_turn_is_told_everything_and_reads_its_prompt_from_stdin() -> None:
    command = argv(CODEX, turn())
    assert command[:7] == (
        "/opt/codex/bin/codex",
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--ignore-rules",
        "-C",
        "/srv/project",
    )
    assert command[-1] == "-"
    assert command[7:-1] == tuple(
        part for value in config(turn()) for part in ("-c", value)
    )


def test_a_resumed_turn_is_the_first_one_and_the_thread_at_its_end() -> None:
    first, resumed = argv(CODEX, turn()), argv(CODEX, turn(session_id=THREAD))
    assert resumed == (*first[:-1], "resume", THREAD, "-")


@pytest.mark.parametrize("fields", EVERY_KIND, ids=str)
def test_every_kind_of_turn_is_pinned_before_the_word_resume_and_never_widened(
    fields: dict[str, Any],
) -> None:
    command = argv(
        CODEX,
        turn(**fields, **CHOSEN, images=(Path("/i.png"),), schema=Path("/s.json")),
    )
    end = command.index("resume") if "session_id" in fields else len(command) - 1
    values = [
        value for flag, value in itertools.pairwise(command[:end]) if flag == "-c"
    ]
    assert len(command) - end == (3 if "session_id" in fields else 1)
    assert set(SANDBOX_PINS) <= set(values)
    assert set(QUIET_PINS) <= set(values)
    assert 'default_permissions="counsel_test"' in values
    assert not {
        "-s",
        "--sandbox",
        "-a",
        "--add-dir",
        "--full-auto",
        "--yolo",
        "--approve-for-me",
        "--trust",
    } & set(command)
    assert not [
        part
        for part in command
        if part.startswith("--dangerously") or "danger-full-access" in part
    ]
    assert command.count("--ignore-rules") == 1


@pytest.mark.parametrize("fields", EVERY_KIND, ids=str)
def test_no_setting_is_given_twice(fields: dict[str, Any]) -> None:
    names = [value.partition("=")[0] for value in config(turn(**fields, **CHOSEN))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("fields", EVERY_KIND, ids=str)
def test_every_setting_is_toml(fields: dict[str, Any]) -> None:
    assert parse_overrides(config(turn(**fields, **CHOSEN)))


PINS = {
    "approval_policy": "never",
    "approvals_reviewer": "user",
    "allow_login_shell": False,
    "notify": [],
    "web_search": "disabled",
}


def test_the_pins_say_what_they_are_for() -> None:
    values = parse_overrides(config(turn()))
    assert {name: values[name] for name in PINS} == PINS
    assert values["features"]["shell_snapshot"] is False
    assert values["features"]["hooks"] is False
    assert values["features"]["plugins"] is False
    assert values["features"]["apps"] is False
    assert values["analytics"] == {"enabled": False}
    assert values["shell_environment_policy"]["inherit"] == "core"
    assert set(values["shell_environment_policy"]["include_only"]) >= {
        "PATH",
        "HOME",
        "TMPDIR",
    }
    assert values["permissions"]["counsel_test"]["network"] == {"enabled": False}


OFF = (
    "shell_snapshot",
    "unbounded_connection_retries",
    "goals",
    "sleep_tool",
    "image_generation",
    "multi_agent",
    "hooks",
    "plugins",
    "apps",
    "remote_plugin",
    "memories",
    "tool_suggest",
    "skill_search",
)


def test_what_asks_outlives_the_run_or_adds_to_the_prompt_is_off_by_name() -> None:
    values = parse_overrides(config(turn()))
    assert values["features"] == dict.fromkeys(OFF, False)
    assert values["agents"] == {"enabled": False}
    assert values["tools"] == {"experimental_request_user_input": {"enabled": False}}
    assert values["skills"] == {
        "include_instructions": False,
        "bundled": {"enabled": False},
    }
    assert values["project_doc_max_bytes"] == 0


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({"model": "gpt-9"}, ("-m", "gpt-9")),
        ({"effort": "ultra"}, ("-c", 'model_reasoning_effort="ultra"')),
        ({"effort": 'x"\n[a]'}, ("-c", 'model_reasoning_effort="x\\"\\n[a]"')),
        ({"profile": "work"}, ("-p", "work")),
        ({"schema": Path("/s.json")}, ("--output-schema", "/s.json")),
        (
            {"images": (Path("/a.png"), Path("/-b.png"))},
            ("--image=/a.png", "--image=/-b.png"),
        ),
        ({"web_search": True}, ("-c", 'web_search="live"')),
        ({"text_only": True}, ("-c", "features.shell_tool=false")),
        ({"isolation": "strict"}, ("--ignore-rules", "--ignore-user-config")),
        ({"isolation": "strict"}, ("-c", "include_environment_context=false")),
        (
            {"instructions": Path('/a "b"\\c\n[x]/i.md')},
            ("-c", 'model_instructions_file="/a \\"b\\"\\\\c\\n[x]/i.md"'),
        ),
        (
            {"mcp_servers": ("a", "b.c")},
            ("-c", 'mcp_servers={"a"={"enabled"=false},"b.c"={"enabled"=false}}'),
        ),
    ],
    ids=str,
)
def test_what_was_asked_for_is_passed_on(
    fields: dict[str, Any], parts: tuple[str, ...]
) -> None:
    command = argv(CODEX, turn(**fields))
    assert parts in [
        command[start : start + len(parts)] for start in range(len(command))
    ]


def test_the_turn_that_answers_keeps_everything_but_shell_search_and_images() -> None:
    files = {"schema": Path("/job/schema.json"), "instructions": Path("/job/base.md")}
    kept = turn(model="m", effort="e", isolation="strict", **files)
    asked = replace(kept, web_search=True, images=(Path("/job/a.png"),))
    assert last_turn(asked, THREAD) == replace(
        kept,
        session_id=THREAD,
        text_only=True,
        web_search=False,
        whole_thread=True,
    )


def test_isolation_inherit_leaves_out_what_keeps_the_users_setup_away_and_nothing_else() -> (
    None
):
    lean, inherit = (
        config(turn(isolation=kind, mcp_servers=("one",)))
        for kind in ("lean", "inherit")
    )
    assert set(lean) - set(inherit) == {
        *LEAN_PINS,
        'mcp_servers={"one"={"enabled"=false}}',
    }
    assert set(inherit) <= set(lean)


def test_what_codex_says_of_the_sandbox_is_left_out_with_its_base_instructions_and_only_then() -> (
    None
):
    codexs, ours = config(turn()), config(turn(instructions=Path("/i.md")))
    assert ours == (
        *codexs,
        'model_instructions_file="/i.md"',
        *OWN_INSTRUCTIONS_PINS,
    )
    values = parse_overrides(ours)
    assert values["include_permissions_instructions"] is False
    assert values["include_collaboration_mode_instructions"] is False


def test_the_name_of_the_profile_cannot_be_foreseen() -> None:
    names = {Turn(BOUNDARY).permissions for _ in range(9)}
    assert len(names) == 9
    assert all(len(name) >= 24 for name in names)


def test_every_directory_above_the_workspace_is_untrusted() -> None:
    values = parse_overrides(config(Turn(Boundary(Path("/a/b c/d")))))["projects"]
    assert values == {
        path: {"trust_level": "untrusted"} for path in ("/a/b c/d", "/a/b c", "/a", "/")
    }


def test_an_image_with_a_comma_in_its_path_is_refused() -> None:
    with pytest.raises(CounselError) as error:
        argv(CODEX, turn(images=(Path("/srv/project/a,/home/me/.ssh/id_rsa"),)))
    assert error.value.code == Code.INVALID_ARGUMENTS


KEPT = (
    "HOME",
    "LANG",
    "MY_PROVIDER_KEY",
    "CODEX_HOME",
    "CODEX_API_KEY",
    "OPENAI_API_KEY",
    "HTTPS_PROXY",
    "TZ",
)
DROPPED = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "CLAUDECODE",
    "CLAUDE_PROJECT_DIR",
    "GIT_INDEX_FILE",
    "GIT_WORK_TREE",
    "GIT_CONFIG_COUNT",
    "CODEX_COUNSEL_STATE_DIR",
    "CODEX_SANDBOX",
    "CODEX_SANDBOX_NETWORK_DISABLED",
    "CODEX_IN_CLAUDE_MODEL",
    "CODEX_THREAD_ID",
    "CODEX_CI",
    "AI_AGENT",
    "RUST_LOG",
)


def test_codex_gets_the_callers_environment_without_what_belongs_to_others() -> None:
    got = environment(dict.fromkeys((*KEPT, *DROPPED), "x"), "job", SCRATCH)
    own = {
        "GIT_DIR": "/nonexistent",
        "TMPDIR": "/tmp/scratch",
        "TMP": "/tmp/scratch",
        "TEMP": "/tmp/scratch",
        "CODEX_COUNSEL_JOB": "job",
    }
    assert got == dict.fromkeys(KEPT, "x") | own


def test_a_git_dir_and_a_temp_dir_of_the_caller_are_replaced() -> None:
    got = environment({"GIT_DIR": "/repo/.git", "TMPDIR": "/var/x"}, "job", SCRATCH)
    assert (got["GIT_DIR"], got["TMPDIR"]) == ("/nonexistent", "/tmp/scratch")


@pytest.mark.parametrize(
    ("path", "left"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin"),
        (".:/usr/bin", "/usr/bin"),
        (":/usr/bin:", "/usr/bin"),
        ("node_modules/.bin:/usr/bin:../bin", "/usr/bin"),
        ("/srv/project/bin:/usr/bin:/srv/project", "/usr/bin"),
        ("/srv/other/../project/bin:/usr/bin", "/usr/bin"),
        ("/srv/project2/bin:/usr/bin", "/srv/project2/bin:/usr/bin"),
        ("", os.defpath),
        (".", os.defpath),
    ],
)
def test_codex_finds_no_program_of_the_workspace_on_its_path(
    path: str, left: str
) -> None:
    assert environment({"PATH": path}, "job", SCRATCH, ROOT)["PATH"] == left


WITH_ENVIRONMENT = replace(
    BOUNDARY, environment=ROOT / ".venv", programs=Path("/tmp/job/bin")
)


def test_what_tests_write_goes_below_the_temporary_directory() -> None:
    values = variables(BOUNDARY, SCRATCH, {"PATH": "/usr/bin"})
    assert {name for name, value in values.items() if value == "1"} == {
        "PYTHONDONTWRITEBYTECODE",
        "UV_NO_SYNC",
    }
    places = [Path(value) for value in values.values() if value != "1"]
    assert all(place.is_relative_to(SCRATCH) for place in places)
    assert {"XDG_CACHE_HOME", "COVERAGE_FILE", "CARGO_TARGET_DIR"} <= values.keys()


def test_a_task_builds_in_its_own_tree() -> None:
    task = variables(replace(BOUNDARY, mode="worktree-write"), SCRATCH, {})
    assert task.keys().isdisjoint(("CARGO_TARGET_DIR", "UV_NO_SYNC"))


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({"PATH": "/usr/bin"}, "/tmp/job/bin:/usr/bin"),
        ({}, f"/tmp/job/bin:{os.defpath}"),
    ],
)
def test_the_programs_of_the_project_come_first_and_its_directory_not_at_all(
    env: dict[str, str], path: str
) -> None:
    values = variables(WITH_ENVIRONMENT, SCRATCH, env)
    assert values["PATH"] == path
    assert values["VIRTUAL_ENV"] == "/srv/project/.venv"


def test_without_an_environment_the_path_stays_that_of_codex() -> None:
    values = variables(BOUNDARY, SCRATCH, {"PATH": "/usr/bin"})
    assert values.keys().isdisjoint(("PATH", "VIRTUAL_ENV"))


def test_the_variables_reach_commands_and_nothing_else() -> None:
    ours = variables(WITH_ENVIRONMENT, SCRATCH, {"PATH": "/usr/bin"})
    policy = parse_overrides(config(turn(variables=ours)))["shell_environment_policy"]
    assert policy["set"] == ours
    assert set(policy["include_only"]) == {*CORE_VARIABLES, *ours}
    codex = environment({"PATH": "/usr/bin"}, "job", SCRATCH, ROOT)
    assert codex["PATH"] == "/usr/bin"
    assert codex.keys().isdisjoint(ours.keys() - {"PATH"})


def test_no_path_is_made_up_where_the_caller_has_none() -> None:
    assert "PATH" not in environment({}, "job", SCRATCH, ROOT)
