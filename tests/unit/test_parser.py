"""The command line: every flag has its help text, and every argument of a request its flag."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from codex_counsel.cli import parser, run, verb_table
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    JobList,
    ReviewChanges,
    ReviewPlan,
    Transfer,
    argument_names,
)
from codex_counsel.errors import EXIT_CODES

OUTPUT = "json color quiet"
RUN = f"{OUTPUT} output workspace-root background context-file web-search model "
RUN += (
    "effort profile session-id idempotency-key extra-root timeout-seconds max-tokens "
)
RUN += "use-reserve"
REVIEW = f"{RUN} format fail-on new-only focus stance"
PACK = f"{RUN} pack"
for shown in ("output", "background"):
    PACK = PACK.replace(f" {shown} ", " ")
FLAGS = {
    "mcp": "compat config model profile sandbox ask-for-approval enable disable",
    "status": f"{OUTPUT} workspace-root clear-limits",
    "demo": "live",
    "consult": f"{RUN} stance output-schema text-only network image",
    "review": f"{REVIEW} scope base commit range pr since plan plan-path dry-run network prove",
    "plan": REVIEW,
    "delegate": f"{RUN} from-job dry-run network image attempts check judge models efforts",
    "apply": f"{OUTPUT} workspace-root check-only undo allow-path",
    "pack": "",
    "pack consult": f"{PACK} stance output-schema text-only network image",
    "pack review": f"{PACK} focus stance scope base commit range pr since plan plan-path network prove",
    "pack plan": f"{PACK} focus stance",
    "pack delegate": f"{PACK} from-job network image attempts check judge models efforts",
    "models": OUTPUT,
    "jobs": f"{OUTPUT} workspace-root status limit sweep all",
    "usage": f"{OUTPUT} by since csv",
    "result": f"{OUTPUT} output wait format fail-on new-only",
    "take": f"{OUTPUT} output workspace-root",
    "comment": f"{OUTPUT} pr workspace-root dry-run",
    "check": f"{OUTPUT} output workspace-root expect-head on-record format fail-on new-only",
    "run": f"{OUTPUT} output format fail-on new-only result events network",
    "compare": f"{OUTPUT} output workspace-root format open",
    "batch": f"{OUTPUT} review-range review-prs audit per delegate repos arguments workspace-root dry-run output-dir "
    "resume retry-lost retry-failed jobs cluster lost-after max-tokens max-failures format fail-on new-only output",
    "findings": f"{OUTPUT} workspace-root reason by state file limit",
    "cancel": OUTPUT,
    "transfer": f"{OUTPUT} workspace-root",
    "gate": "",
    "gate install": "project fail-on rounds",
    "gate remove": "project",
    "gate status": "",
    "gate run": "fail-on rounds",
    "completion": "",
    "uninstall": "yes keep-results end-runs",
}
"""What scripts of users rely on."""


def parsers(
    of: argparse.ArgumentParser, prefix: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parsers of the verbs, and of the actions of a verb, by name."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                yield f"{prefix}{name}", verb
                yield from parsers(verb, f"{name} ")


def actions(of: argparse.ArgumentParser) -> list[argparse.Action]:
    return [
        action
        for action in of._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]


BUILT = dict(parsers(parser.build_parser()))


def test_the_help_of_a_pack_lists_no_argument_that_stays_on_this_machine() -> None:
    for name in ("consult", "review", "plan", "delegate"):
        text = BUILT[f"pack {name}"].format_help()
        for flag in (
            "--session-id",
            "--profile",
            "--extra-root",
            "--from-job",
            "--since",
            "--use-reserve",
        ):
            assert flag not in text


def test_a_mistake_behind_pack_is_told_by_the_verb_behind_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse(["pack", "review", "-o", "x", "--backgroun"])

    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("codex-counsel pack review: there is no argument")


def test_the_verbs_are_known() -> None:
    assert BUILT.keys() == FLAGS.keys()


@pytest.mark.parametrize("name", FLAGS)
def test_the_flags_of_a_verb_are_these(name: str) -> None:
    options = {
        option
        for action in actions(BUILT[name])
        for option in action.option_strings
        if option.startswith("--")
    }
    assert options == {"--help", *(f"--{flag}" for flag in FLAGS[name].split())}


@pytest.mark.parametrize("name", FLAGS)
def test_every_argument_has_a_help_text(name: str) -> None:
    assert [action.dest for action in actions(BUILT[name]) if not action.help] == []


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("consult", Consult),
        ("review", ReviewChanges),
        ("plan", ReviewPlan),
        ("delegate", Delegate),
        ("apply", Apply),
        ("jobs", JobList),
        ("transfer", Transfer),
    ],
)
def test_every_argument_of_a_request_can_be_given(
    name: str, request_: type[Consult]
) -> None:
    options = {action.dest for action in actions(BUILT[name])}
    missing = set(argument_names(request_)) - options
    assert missing <= {*parser.NO_FLAGS, "plan"}


def test_a_verb_that_is_named_has_its_flags_and_the_others_are_left_empty() -> None:
    built = dict(parsers(parser.build_parser(["jobs"])))
    assert [name for name, verb in built.items() if len(actions(verb)) > 1] == ["jobs"]
    assert (
        parser.build_parser(["jobs", "--limit", "5"])
        .parse_args(["jobs", "--limit", "5"])
        .limit
        == 5
    )


def test_a_flag_has_the_default_and_the_choices_of_its_field() -> None:
    options = parser.build_parser().parse_args(
        ["review", "-C", "/w", "--extra-root", "/a", "--extra-root", "/b", "x.py"]
    )
    assert (options.scope, options.stance, options.workspace_root) == (
        None,
        "review",
        "/w",
    )
    assert (options.extra_roots, options.paths, options.model) == (
        ["/a", "/b"],
        ["x.py"],
        None,
    )
    assert options.network is False
    with pytest.raises(SystemExit) as error:
        parser.build_parser().parse_args(["review", "--scope", "everything"])
    assert error.value.code == 2


MISTAKES: dict[str, tuple[list[str], str]] = {
    "a verb": (["reviw"], "there is no verb 'reviw'; did you mean review?"),
    "nothing like a verb": (["xyzzy"], "there is no verb 'xyzzy'\n"),
    "a flag": (["review", "--fial-on", "high"], "did you mean --fail-on?"),
    "a flag with a value": (["review", "--fial-on=high"], "did you mean --fail-on?"),
    "a choice": (["review", "--scope", "brnch"], "did you mean branch?"),
    "a flag of other verbs": (
        ["jobs", "--stance", "x"],
        "there is no argument '--stance' here; it belongs to `consult`, `review`, `plan`\n",
    ),
    "a finding without an action": (
        ["findings", "0123abcd"],
        "there is no action '0123abcd'; `findings show 0123abcd` shows that finding\n",
    ),
    "a flag of a task": (
        ["review", "--check", "x"],
        "there is no argument '--check' here; it belongs to `delegate`\n",
    ),
    "another word for a flag": (["review", "--proof"], "did you mean --prove?\n"),
    "a flag for an argument": (
        ["review", "--paths", "x"],
        "'--paths' here; name files and folders without a flag\n",
    ),
    "an underscore": (["review", "--fail_on", "high"], "did you mean --fail-on?\n"),
    "nothing like a flag": (["review", "--zebra"], "no argument '--zebra' here\n"),
}


@pytest.mark.parametrize(("argv", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_near_miss_is_answered_with_what_was_meant(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        parser.parse(argv)
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_without_a_verb_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out == parser.build_parser().format_help()


@pytest.mark.parametrize("name", [None, "review", "result"])
def test_the_help_lists_the_exit_codes(name: str | None) -> None:
    text = BUILT[name].format_help() if name else parser.build_parser().format_help()
    for code, meaning in EXIT_CODES.items():
        assert f"  {code:<4} {meaning}\n" in text
    assert max(map(len, verb_table.EXIT_CODE_LIST.splitlines())) <= 80
