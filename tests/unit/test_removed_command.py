"""Command lines that start `codex mcp-server`, as configurations have them, and what is written in their place."""

from __future__ import annotations

import argparse
import random
import shlex

import pytest

from codex_counsel.claude.removed_command import (
    ACCEPTED_OPTIONS,
    REFUSED_OPTIONS,
    removed_command,
)
from codex_counsel.cli.verb_table import add_compat_flags

PROGRAM = ["codex-mcp-server"]

SUCCESSORS = {
    "codex mcp-server": "codex-mcp-server mcp-server",
    "codex mcp": "codex-mcp-server mcp",
    "codex mcp serve": "codex-mcp-server mcp serve",
    "codex mcp -m gpt-5 -c model_reasoning_effort=high": "codex-mcp-server mcp -m gpt-5 -c model_reasoning_effort=high",
    "codex mcp-server -c model=o3 --config=a=b": "codex-mcp-server mcp-server -c model=o3 --config=a=b",
    "codex -c a=b -m o3 mcp-server": "codex-mcp-server -c a=b -m o3",
    "codex --enable x -p work mcp-server --oss": "codex-mcp-server --enable x -p work --oss",
    "codex -s workspace-write -a never mcp serve": "codex-mcp-server -s workspace-write -a never",
    "/opt/homebrew/bin/codex mcp-server": "codex-mcp-server mcp-server",
    "${HOME}/.local/bin/codex mcp-server": "codex-mcp-server mcp-server",
    "'${CODEX:-codex}' mcp-server": "codex-mcp-server mcp-server",
    "node /usr/lib/node_modules/@openai/codex/bin/codex.js mcp-server": "codex-mcp-server mcp-server",
    "npx -y @openai/codex mcp-server": "codex-mcp-server mcp-server",
    "npx -y @openai/codex@0.150.0 mcp-server": "codex-mcp-server mcp-server",
    "npx @openai/codex@latest -c a=b mcp-server": "codex-mcp-server -c a=b",
    "npx -y -p @openai/codex@0.152.0 codex mcp-server": "codex-mcp-server mcp-server",
    "npx --package=@openai/codex -- codex mcp-server": "codex-mcp-server mcp-server",
    "npx codex mcp-server": "codex-mcp-server mcp-server",
    "bunx @openai/codex mcp-server": "codex-mcp-server mcp-server",
    "bun x @openai/codex mcp-server": "codex-mcp-server mcp-server",
    "pnpm dlx @openai/codex mcp-server": "codex-mcp-server mcp-server",
    "npm exec -- @openai/codex mcp-server": "codex-mcp-server mcp-server",
    "yarn dlx @openai/codex mcp": "codex-mcp-server mcp",
    "env FOO=1 codex mcp-server": "codex-mcp-server mcp-server",
    "/usr/bin/env -u BAR FOO=1 codex mcp-server -m o3": "codex-mcp-server mcp-server -m o3",
    "env -S 'FOO=1 codex mcp-server'": "codex-mcp-server mcp-server",
    "exec codex mcp-server": "codex-mcp-server mcp-server",
    "op run --env-file=.env -- codex mcp-server": "op run --env-file=.env -- codex-mcp-server mcp-server",
    "mise exec node@22 -- npx @openai/codex mcp-server": "mise exec node@22 -- codex-mcp-server mcp-server",
    "wsl codex mcp-server": "wsl codex-mcp-server mcp-server",
    "wsl.exe -d Ubuntu -- codex mcp-server": "wsl.exe -d Ubuntu -- codex-mcp-server mcp-server",
    "wsl bash -lc 'codex mcp-server'": "wsl bash -lc 'codex-mcp-server'",
    "codex.exe mcp-server": "wsl codex-mcp-server mcp-server",
    "'C:\\Users\\user\\bin\\Codex.EXE' mcp-server": "wsl codex-mcp-server mcp-server",
    "codex.cmd mcp-server": "wsl codex-mcp-server mcp-server",
    "cmd /c codex mcp-server": "wsl codex-mcp-server mcp-server",
    "cmd.exe /d /c npx -y @openai/codex mcp-server": "wsl codex-mcp-server mcp-server",
    "cmd /c wsl.exe codex mcp-server": "wsl.exe codex-mcp-server mcp-server",
    "sh -c 'codex mcp-server'": "sh -c 'codex-mcp-server'",
    "bash -lc 'exec codex mcp-server 2>/dev/null'": "bash -lc 'exec codex-mcp-server 2>/dev/null'",
    "zsh -l -c 'source ~/.nvm/nvm.sh && codex mcp-server'": "zsh -l -c 'source ~/.nvm/nvm.sh && codex-mcp-server'",
    "bash -c 'cd /srv\ncodex mcp-server -c a=b'": "bash -c 'cd /srv\ncodex-mcp-server -c a=b'",
    "bash -c '# start it\ncodex mcp-server'": "bash -c '# start it\ncodex-mcp-server'",
}

ONLY_BY_A_PERSON = [
    "sh -c 'TOKEN=abc codex mcp-server'",
    "env A=1 sh -c 'codex mcp-server'",
    "sh -c 'npx -y @openai/codex mcp-server'",
    "sh -c '/usr/bin/codex mcp-server'",
    "sh -c 'codex -c a=b mcp-server'",
    "sh -c 'codex mcp-server || codex mcp-server'",
    "sh -c 'codex mcp-server || codex mcp'",
]

OTHERS = [
    "",
    "codex",
    "codex app-server",
    "codex exec mcp-server",
    "codex mcp list",
    "codex mcp --config a=b add docs -- npx docs",
    "codex -- mcp-server",
    "codex -m mcp-server",
    "codex -c",
    "codex-mcp-server",
    "codex-counsel mcp --compat",
    "uvx --from codex-counsel codex-mcp-server mcp-server",
    "npx -y codex-mcp-server",
    "npx -y @other/codex mcp-server",
    "npx -y",
    "npm run codex mcp-server",
    "node server.js",
    "node /srv/codex-mcp-server/dist/index.js",
    "dart mcp-server",
    "python codex mcp-server",
    "echo codex mcp-server",
    "docker run image codex mcp-server",
    "sh run.sh codex mcp-server",
    "sh -c 'echo codex mcp-server'",
    "sh -c 'echo \"codex mcp-server'",
    "sh -c",
    "env FOO=1",
    "env -S",
    "wsl -d",
    "cmd /c",
    "a --",
]


@pytest.mark.parametrize("line", SUCCESSORS)
def test_a_command_line_that_starts_the_removed_server_gets_its_successor(
    line: str,
) -> None:
    command = removed_command(shlex.split(line))
    assert command
    assert command.succeeded_by(PROGRAM) == shlex.split(SUCCESSORS[line])


@pytest.mark.parametrize("line", ONLY_BY_A_PERSON)
def test_a_script_that_cannot_be_rewritten_by_rule_is_found_and_left_to_a_person(
    line: str,
) -> None:
    argv = shlex.split(line)
    command = removed_command(argv)
    assert command
    assert command.succeeded_by(PROGRAM) is None
    assert command.script == argv[-1]


@pytest.mark.parametrize("line", OTHERS)
def test_other_command_lines_are_none_of_it(line: str) -> None:
    assert removed_command(shlex.split(line)) is None


def test_a_successor_of_several_words_stands_in_the_place_of_codex() -> None:
    program = ["uvx", "--from", "codex counsel", "codex-mcp-server"]
    direct = removed_command(["codex", "mcp-server", "-m", "o3"])
    script = removed_command(["sh", "-c", "codex mcp-server -m o3"])
    assert direct
    assert script
    assert direct.succeeded_by(program) == [*program, "mcp-server", "-m", "o3"]
    assert script.succeeded_by(program) == [
        "sh",
        "-c",
        "uvx --from 'codex counsel' codex-mcp-server -m o3",
    ]


def test_the_arguments_of_a_script_are_those_of_codex_alone() -> None:
    script = "cd /srv && /usr/bin/codex mcp-server -m o3 2>/dev/null; echo end"
    command = removed_command(["sh", "-c", script])
    assert command
    assert command.arguments == ("mcp-server", "-m", "o3")


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("codex mcp-server", ""),
        ("npx codex mcp-server", ""),
        ("npx @openai/codex mcp-server", "latest"),
        ("npx @openai/codex@0.150.0 mcp-server", "0.150.0"),
        ("npx -p @openai/codex@next codex mcp-server", "next"),
        ("sh -c 'npx @openai/codex@0.150.0 mcp-server'", "0.150.0"),
    ],
)
def test_the_release_is_the_one_that_a_package_runner_is_told(
    line: str, release: str
) -> None:
    command = removed_command(shlex.split(line))
    assert command
    assert command.release == release


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("env A=1 B=2 codex mcp-server", ("A", "B")),
        ("sh -c 'A=1 exec codex mcp-server'", ("A",)),
        ("env A=1 sh -c 'B=2 codex mcp-server'", ("A", "B")),
        ("codex mcp-server -c a=b", ()),
    ],
)
def test_of_variables_the_names_are_told_and_no_values(
    line: str, variables: tuple[str, ...]
) -> None:
    command = removed_command(shlex.split(line))
    assert command
    assert command.variables == variables


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "codex mcp-server" + " x" * 20_000],
        ["env"] * 100_000 + ["codex", "mcp-server"],
        ["sh", "-c", "(" * 1_900],
        ["env", *["-S"] * 999],
        [*["nohup"] * 6, "codex", "mcp-server"],
    ],
    ids=["a long script", "many words", "brackets", "many options", "many wrappers"],
)
def test_what_is_too_long_or_too_deep_is_not_searched(argv: list[str]) -> None:
    assert removed_command(argv) is None


def test_no_command_line_is_too_strange() -> None:
    words = [
        *("codex", "codex.EXE", "mcp", "mcp-server", "serve", "-c", "a=b", "--", "-"),
        *("env", "-S", "A=1", "sh", "bash", "-lc", "npx", "-p", "--package=", "-y"),
        *("@openai/codex", "@openai/codex@", "pnpm", "dlx", "cmd", "/c", "wsl", "-d"),
        *("codex mcp-server", "env -S 'codex mcp'", "'", ";", "&&", "2>", "$(", "`"),
        *("", " ", "\n", "\0", "\ud800", "${A:-codex}", "${", "\\", "é", "node"),
    ]
    seeded = random.Random(154)  # a sequence that is the same each time
    found = 0
    for _ in range(20_000):
        argv = seeded.choices(words, k=seeded.randrange(8))
        if seeded.random() < 0.3:
            argv = ["sh", "-c", " ".join(argv)]
        command = removed_command(argv)
        if command:
            found += 1
            successor = command.succeeded_by(PROGRAM)
            assert successor is None or removed_command(successor) is None, argv
    assert found > 100


def test_the_options_that_the_successor_has_are_those_of_its_command_line() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_compat_flags(parser)
    options = {name for action in parser._actions for name in action.option_strings}
    assert options == ACCEPTED_OPTIONS
    assert not ACCEPTED_OPTIONS & REFUSED_OPTIONS.keys()
