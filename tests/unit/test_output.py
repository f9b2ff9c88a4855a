"""What reaches the two streams of the command line, whoever wrote it and in however many pieces."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
from pathlib import Path

import pytest

import codex_counsel
from codex_counsel.cli.output import GuardedStream, guard, is_workflow, json_text
from codex_counsel.contract.envelope import Progress, progress_line
from codex_counsel.contract.vocabulary import Phase
from codex_counsel.server.main import LogFormatter
from tests import hostile

COMMANDS = [*hostile.COMMANDS.values(), hostile.ALL]


def written(*parts: str, in_workflow: bool = True) -> str:
    stream = io.StringIO(newline="")
    guarded = GuardedStream(stream, in_workflow=in_workflow)
    for part in parts:
        guarded.write(part)
    return stream.getvalue()


@pytest.mark.parametrize("text", COMMANDS)
def test_the_judge_finds_a_command_in_each_of_the_texts(text: str) -> None:
    # The guard takes a line separator and a zero-width space for what they may become.
    assert (
        hostile.obeyed_commands(text)
        or "\u200b" in text
        or "\u2028" in text
        or "\x1b" in text
    )


@pytest.mark.parametrize("text", COMMANDS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 10_000])
def test_no_command_reaches_a_runner_in_however_many_pieces_it_is_written(
    text: str, size: int
) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert hostile.obeyed_commands(written(*pieces)) == []


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
def test_no_terminal_obeys_and_no_reader_is_deceived(text: str) -> None:
    for in_workflow in (False, True):
        output = written(text, in_workflow=in_workflow)
        assert hostile.hidden_characters(output) <= {"\r", "\ufe0f"}
        assert "\r" not in output.replace("\r\n", "")


@pytest.mark.parametrize(
    "text",
    [
        *hostile.ORDINARY.values(),
        "std::vector a :: b\n## Heading ##\n#[derive] C# ##\n# [x]: y\n  : z\n",
    ],
)
def test_ordinary_text_is_printed_as_it_is(text: str) -> None:
    assert written(text) == written(text, in_workflow=False) == text


def test_outside_a_workflow_code_that_looks_like_a_command_is_printed_as_it_is() -> (
    None
):
    assert written("::std::move(x)\n", in_workflow=False) == "::std::move(x)\n"
    assert written("::std::move(x)\n") == "\\::std::move(x)\n"


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
@pytest.mark.parametrize("indent", [None, 2])
def test_json_keeps_its_values_and_passes_the_guard_unchanged(
    text: str, indent: int | None
) -> None:
    value = {text: [text, {"x": text}]}
    output = json_text(value, indent=indent)
    assert json.loads(output) == value
    assert written(output) == output
    assert hostile.obeyed_commands(output) == []


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, False),
        ({"CI": "false"}, False),
        ({"GITHUB_ACTIONS": "true"}, True),
        ({"TF_BUILD": "True"}, True),
        ({"GITLAB_CI": "true"}, True),
        ({"TEAMCITY_VERSION": "2024.03"}, True),
        ({"CI": "1"}, True),
    ],
)
def test_a_workflow_is_known_by_its_variables(
    env: dict[str, str], expected: bool
) -> None:
    assert is_workflow(env) is expected


@pytest.mark.parametrize("arguments", [["--format", "github"], ["--format=github"]])
def test_the_format_of_a_workflow_is_guarded_like_one(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    guard({}, ["review"])
    guard({}, ["review", *arguments])
    print("::a::b")
    print("::a::b", file=sys.stderr)
    assert out.getvalue() == err.getvalue() == "\\::a::b\n"


@pytest.mark.parametrize(
    ("phase", "words", "line"),
    [
        ("thinking", None, "thinking (12s)"),
        ("thinking", "make", "thinking (12s)"),
        ("command", "make", "running make (12s)"),
        ("checking", "make test", "running the check: make test (12s)"),
        ("checking", None, "checking (12s)"),
        ("waiting", "1 of 3 jobs have ended", "waiting: 1 of 3 jobs have ended (12s)"),
    ],
)
def test_a_progress_line_says_what_the_run_does_or_waits_for(
    phase: Phase, words: str | None, line: str
) -> None:
    progress = Progress(phase=phase, last_command=words, elapsed_ms=12_345)
    assert progress_line(progress) == line


@pytest.mark.parametrize("phase", ["command", "checking", "waiting"])
@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
def test_a_progress_line_is_one_line_without_anything_hidden(
    text: str, phase: Phase
) -> None:
    line = progress_line(Progress(phase=phase, last_command=text, elapsed_ms=1000))
    assert "\n" not in line
    assert hostile.hidden_characters(line) <= {"\ufe0f"}


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
def test_a_log_holds_nothing_that_a_terminal_obeys_and_no_forged_record(
    text: str,
) -> None:
    message = f"{text}\ncodex-counsel: ERROR forged"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (message,), None)
    first, *others = (
        LogFormatter("codex-counsel: %(levelname)s %(message)s")
        .format(record)
        .split("\n")
    )
    assert first.startswith("codex-counsel: INFO ")
    assert all(line.startswith("    ") for line in others)
    assert hostile.hidden_characters("".join([first, *others])) <= {"\ufe0f"}


# --- nothing goes round the guard


PACKAGE = Path(codex_counsel.__file__).parent
FACES = sorted(
    [*PACKAGE.glob("cli/*.py"), *PACKAGE.glob("*.py"), *PACKAGE.glob("claude/*.py")]
)
ROUND = {"__stdout__", "__stderr__", "buffer", "fdopen", "fileno"}
"""Names by which the streams could be reached without their guard."""


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_nothing_of_the_command_line_writes_past_the_guard(path: Path) -> None:
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ROUND:
            used.add(ast.unparse(node))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ("os.write", "print_own") or name.endswith("write_own"):
                used.add(name)
    expected = {
        "batch_requests": {"sys.stdin.buffer"},
        "completion": {"print_own"},
        "output": {"self.write_own", "stream.write_own", "write_own"},
        "pack": {"os.fdopen"},
        "page": {"stream.fileno"},
        "progress": {"print_own"},
        "render": {"print_own"},
        "run_pack": {"sys.stdin.buffer"},
        "take": {"sys.stdin.buffer"},
        "verbs": {"sys.stdin.buffer"},
    }
    assert used == expected.get(path.stem, set())


def test_json_is_printed_by_one_function_that_escapes_what_a_terminal_obeys() -> None:
    found = set()
    for path in PACKAGE.glob("cli/*.py"):
        if "json.dumps" in path.read_text():
            found.add(path.stem)
    # The gate's other use writes a file.
    assert found == {"output", "gate"}
