"""Completion in real shells: what a Tab offers, and that nothing on the way to it is executed or obeyed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.codex.probe import ProbeCache
from codex_counsel.loopback import Loopback
from tests.conftest import World
from tests.e2e.cli.terminal import program_in_terminal
from tests.records import entry, ledger_of, put

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

SHELLS = ("bash", "zsh", "fish")
HOSTILE = "$(touch planted)`touch planted`;touch planted\x1b]0;owned\x07\x0b%F{red}'\": \u202ecba"
HOSTILE_BRANCHES = (
    "x$(touch${IFS}planted)",
    "x`touch${IFS}planted`",
    "x;touch${IFS}planted;",
    "x'\"|touch${IFS}planted",
    "x\u202egpj",
)
BIN = Path(sys.executable).parent


def needs(shell: str) -> str:
    """The path of the shell; skips where it is not installed."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


def environment(world: World) -> dict[str, str]:
    return {**world.env, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


def offered(world: World, shell: str, line: str) -> dict[str, str]:
    """What the shell itself gets for the line, with the descriptions that it would show."""
    needs(shell)
    env = environment(world)
    if shell == "fish":
        script = (
            f"codex-counsel completion fish | source; complete -C {shlex.quote(line)}"
        )
        output = execute(world, ["fish", "--no-config", "-c", script], env)
        return dict(row.partition("\t")[::2] for row in output.splitlines())
    if shell == "zsh":
        # `_describe` needs a terminal; what it is given is what would be shown.
        script = (
            "compdef() { }; _files() { }; _describe() { print -rl -- ${(P)2} }\n"
            'eval "$(codex-counsel completion zsh)"\n'
            'words=("${(@s: :)1}") CURRENT=$#words PREFIX=$words[-1]; _codex_counsel'
        )
        output = execute(world, ["zsh", "-f", "-c", script, "zsh", line], env)
        return dict(row.partition(":")[::2] for row in output.splitlines())
    script = (
        'eval "$(codex-counsel completion bash)"\n'
        "COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9; _python_argcomplete_codex-counsel codex-counsel\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    output = execute(world, ["bash", "--norc", "-c", script, "bash", line], env)
    return {row.strip(): "" for row in output.splitlines() if row}


def execute(world: World, argv: list[str], env: dict[str, str]) -> str:
    result = subprocess.run(
        argv,
        env=env,
        cwd=world.workspace,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.stderr == ""
    return result.stdout


def assert_nothing_was_executed(world: World) -> None:
    assert list(world.base.rglob("planted*")) == []


def a_run(world: World, model: Model, question: str) -> str:
    """A consultation that has ended; returns its job id."""
    model()
    argv = [sys.executable, "-m", "codex_counsel", "consult", "--json", question]
    return str(json.loads(execute(world, argv, world.env))["meta"]["job_id"])


# --- what is offered


@pytest.mark.parametrize("shell", SHELLS)
def test_verbs_flags_and_choices_are_offered(world: World, shell: str) -> None:
    verbs = offered(world, shell, "codex-counsel re")
    assert set(verbs) == {"review", "result"}
    if shell != "bash":
        assert verbs["result"] == "print the result of a run"
    assert "--format" in offered(world, shell, "codex-counsel review --fo")
    formats = offered(world, shell, "codex-counsel review --format s")
    assert list(formats) == ["sarif"]


@pytest.mark.parametrize("shell", SHELLS)
def test_runs_of_this_directory_are_offered_with_their_subjects(
    world: World, model: Model, shell: str
) -> None:
    job_id = a_run(world, model, "Why is it slow?")
    found = offered(world, shell, "codex-counsel result ")
    assert list(found) == [job_id]
    if shell != "bash":
        assert found[job_id].endswith("Why is it slow?")
    assert job_id not in offered(world, shell, "codex-counsel cancel ")
    elsewhere = f"codex-counsel compare -C {world.home} "
    assert job_id not in offered(world, shell, elsewhere)


@pytest.mark.parametrize("shell", SHELLS)
def test_an_action_on_findings_is_offered_those_it_is_for(
    world: World, shell: str
) -> None:
    world.repository.begin()
    settled = entry("settled = 1", state="rejected", reason="No.", by="A")
    put(ledger_of(world), entry(), settled)
    found = offered(world, shell, "codex-counsel findings reject ")
    assert list(found) == [entry().id]
    if shell != "bash":
        assert found[entry().id] == "high, open: The seventh line is wrong"
    reopened = offered(world, shell, "codex-counsel findings reopen ")
    assert list(reopened) == [settled.id]


@pytest.mark.parametrize("shell", SHELLS)
def test_refs_of_the_repository_are_offered_for_the_base(
    world: World, shell: str
) -> None:
    repository = world.repository.begin()
    for name in ("feature/one", "feature/two"):
        repository.git("branch", name)
    repository.git("tag", "v1.0")
    repository.git("update-ref", "refs/remotes/origin/main", "HEAD")
    line = "codex-counsel review --scope branch --base "
    assert set(offered(world, shell, line)) >= {"main", "v1.0", "origin/main"}
    both = {"feature/one", "feature/two"}
    assert set(offered(world, shell, f"{line}fea")) == both
    assert set(offered(world, shell, f"{line}feature/")) == both


@pytest.mark.parametrize("shell", SHELLS)
def test_models_are_those_that_codex_listed_before_and_codex_is_not_started(
    world: World, shell: str
) -> None:
    world.settings["CODEX_BIN"] = str(world.base / "no-such-codex")
    line = "codex-counsel consult --model gp"
    assert "gpt-small" not in offered(world, shell, line)
    rows = [{"model": "gpt-small", "efforts": ["low", "high"]}]
    ProbeCache(world.state / "probes.json").put(rows, "models", "some binary")
    assert list(offered(world, shell, line)) == ["gpt-small"]
    efforts = offered(world, shell, "codex-counsel consult --effort ")
    assert set(efforts) == {"low", "high"}


# --- what is not


@pytest.mark.parametrize("shell", SHELLS)
def test_a_hostile_subject_is_shown_inert(
    world: World, model: Model, shell: str
) -> None:
    job_id = a_run(world, model, HOSTILE)
    found = offered(world, shell, "codex-counsel result ")
    assert list(found) == [job_id]
    shown = "".join(found.values())
    assert not set(shown) & set("\x1b\x07\x0b\u202e")
    assert_nothing_was_executed(world)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_hostile_model_list_and_title_are_shown_inert(
    world: World, shell: str
) -> None:
    rows = [{"model": "gpt-small", "efforts": [HOSTILE]}, {"model": f"gpt{HOSTILE}"}]
    ProbeCache(world.state / "probes.json").put(rows, "models", "some binary")
    world.repository.begin()
    put(ledger_of(world), entry(title=HOSTILE))
    models = offered(world, shell, "codex-counsel consult --model ")
    findings = offered(world, shell, "codex-counsel findings show ")
    assert (list(models), list(findings)) == (["gpt-small"], [entry().id])
    shown = "".join([*models.values(), *findings.values()])
    assert shown.count("touch planted") >= 2
    assert not set(shown) & set("\x1b\x07\x0b\u202e")
    assert_nothing_was_executed(world)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_branch_whose_name_a_shell_would_obey_is_not_offered(
    world: World, shell: str
) -> None:
    repository = world.repository.begin()
    for name in (*HOSTILE_BRANCHES, "x-harmless"):
        repository.git("branch", name)
    found = offered(world, shell, "codex-counsel review --base x")
    assert list(found) == ["x-harmless"]
    assert_nothing_was_executed(world)


@pytest.mark.parametrize(
    "line",
    [
        "codex-counsel review --base '",
        'codex-counsel result "$(touch planted)',
        "codex-counsel review --base $(touch planted) ",
        "codex-counsel findings reject ",
        "codex-counsel review -C /nowhere --base ",
        "codex-counsel review --base ../",
    ],
)
def test_where_nothing_can_be_offered_no_error_is_printed(
    world: World, line: str
) -> None:
    assert offered(world, "bash", line) == {}
    assert_nothing_was_executed(world)


def test_a_damaged_state_directory_is_no_error_on_a_tab(world: World) -> None:
    jobs = world.state / "jobs"
    jobs.mkdir(parents=True)
    (jobs / ("a" * 32)).mkdir()
    assert offered(world, "bash", "codex-counsel result ") == {}
    jobs.chmod(0o777)
    assert offered(world, "bash", "codex-counsel result ") == {}


# --- at a real terminal


def settings_file(world: World, shell: str) -> list[str]:
    """Make the shell load its completion as the documentation says; returns how it is started."""
    path = needs(shell)
    if shell == "bash":
        settings = 'PS1="ready> "; eval "$(codex-counsel completion bash)"\n'
        (world.home / ".bashrc").write_text(settings, "utf-8")
        return [path, "-i"]
    if shell == "zsh":
        settings = (
            "PS1='ready> '; autoload -Uz compinit; compinit -u\n"
            'eval "$(codex-counsel completion zsh)"\n'
        )
        (world.home / ".zshrc").write_text(settings, "utf-8")
        return [path, "-i"]
    folder = world.home / ".config/fish"
    folder.mkdir(parents=True)
    settings = "function fish_prompt; echo 'ready> '; end\ncodex-counsel completion fish | source\n"
    (folder / "config.fish").write_text(settings, "utf-8")
    return [path, "-i"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tab_at_a_terminal_completes_and_runs_no_program_of_the_directory(
    world: World, shell: str
) -> None:
    repository = world.repository.begin()
    for name in (*HOSTILE_BRANCHES, "feature/only", "topic/single"):
        repository.git("branch", name)
    planted = repository.write(
        "codex-counsel", "#!/bin/sh\ntouch planted\n", mode=0o755
    )
    repository.write("zebra-notes.md")
    argv = settings_file(world, shell)
    with program_in_terminal(
        world, argv, columns=120, env=environment(world)
    ) as screen:
        screen.wait_for("ready> ")
        screen.type(b"codex-counsel review --base featu\t")
        screen.wait_for("re/only")
        screen.type(b"\x15./codex-counsel review --base x\t\t")
        screen.wait_for("./codex-counsel")
        # Only the command at the cursor is meant.
        screen.type(b"\x15cd .; A=1 codex-counsel review --base topic/s\t")
        screen.wait_for("ingle")
        screen.type(b"\x15codex-counsel check zeb\t")
        # No run begins so: it is a file.
        screen.wait_for("ra-notes")
        screen.type(b"\x15exit\n")
        screen.finish()
    assert planted.exists()
    assert_nothing_was_executed(world)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_hostile_subject_in_a_list_at_a_terminal_is_neither_obeyed_nor_executed(
    world: World, model: Model, shell: str
) -> None:
    ids = [a_run(world, model, f"{number} {HOSTILE}") for number in (1, 2)]
    argv = settings_file(world, shell)
    with program_in_terminal(
        world, argv, columns=200, env=environment(world)
    ) as screen:
        screen.wait_for("ready> ")
        screen.type(b"codex-counsel result \t\t")
        for job_id in ids:
            # fish shows the beginning that they have in common in another style.
            screen.wait_for(job_id[8:])
        screen.type(b"\x03\x15exit\n")
        screen.finish()
    assert "\x1b]0;owned" not in screen.output
    assert "\u202e" not in screen.output
    assert_nothing_was_executed(world)


# --- what it costs the other verbs


def test_only_a_tab_imports_argcomplete(world: World) -> None:
    program = (
        "import sys; from codex_counsel.cli import run\n"
        "run(['jobs']); print('argcomplete' in sys.modules)"
    )
    argv = [sys.executable, "-c", program]
    assert execute(world, argv, world.env).splitlines()[-1] == "False"
