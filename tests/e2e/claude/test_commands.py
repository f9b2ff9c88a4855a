"""Each slash command, typed into the real Claude Code: the tool its body names is called, with what the user wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from codex_counsel.jobs import recovery
from codex_counsel.loopback import Loopback, Reply, Request, hold, patch, say, shell
from tests.conftest import World, consult, start_consult, until
from tests.e2e.claude.anthropic import JSON, Script, Turn, request_in, text, use
from tests.e2e.claude.conftest import PREFIX, Claude
from tests.e2e.proving import CLAIM, TEST, Prover, begin, script
from tests.records import entry, ledger_of, put

WORDS = """Is "a b" [c] {d} 'e' `f` \\g $1 $HOME <h> & | ; #i %k ~ * ? right?"""
"""What breaks where arguments pass through a shell, YAML or JSON by hand. (Claude Code itself writes `\\!` for `!`.)"""
CLEAN = {"summary": "fine", "verdict": "pass", "confidence": "high", "findings": []}
CLEAN |= {"questions": [], "assumptions": [], "next_steps": []}


@dataclass(frozen=True)
class Command:
    """`arguments` are what a model would make of the typed words; `shows` is in what comes back to it."""

    tool: str
    arguments: Callable[[str], JSON] = lambda _: {}
    shows: str = '"ok":true'
    words: str = ""
    reply: Any = field(default_factory=lambda: say("It is fine."))


COMMANDS = {
    "consult": Command(
        "codex_consult",
        lambda words: {"question": words},
        '"answer":"It is fine."',
        WORDS,
    ),
    "review": Command(
        "codex_review_changes",
        lambda words: {"focus": words},
        '"verdict":"pass"',
        WORDS,
        say(CLEAN),
    ),
    "adversarial-review": Command(
        "codex_review_changes",
        lambda words: {"focus": words, "stance": "challenge"},
        '"verdict":"pass"',
        WORDS,
        say(CLEAN),
    ),
    "plan": Command(
        "codex_review_plan",
        lambda words: {"plan": words},
        '"verdict":"pass"',
        WORDS,
        say(CLEAN),
    ),
    "delegate": Command("codex_delegate", lambda words: {"task": words}, "+two", WORDS),
    "delegate-async": Command(
        "codex_delegate_async", lambda words: {"task": words}, '"status":"', WORDS
    ),
    "apply": Command("codex_apply", lambda words: {"job_id": words}, '"ok":true'),
    "jobs": Command(
        "codex_job_list",
        lambda words: {"status": words},
        '"tool":"codex_consult"',
        "completed",
    ),
    "result": Command(
        "codex_job_result",
        lambda words: {"job_id": words},
        '"answer":"It is fine."',
        "JOB",
    ),
    "cancel": Command(
        "codex_job_cancel",
        lambda words: {"job_id": words},
        '"cancelled":true',
        "RUNNING",
    ),
    "findings": Command(
        "codex_findings",
        lambda words: {"action": words},
        '"counts":{"open":1}',
        "list",
    ),
    "status": Command("codex_status", shows='"usable":true'),
    "dry-run": Command(
        "codex_dry_run", lambda words: {"scope": words}, "a.txt", "working_tree"
    ),
    "transfer": Command("codex_transfer", shows="codex resume"),
    "setup": Command("codex_status", shows='"usable":true'),
}
OWN = {"apply", "delegate", "delegate-async", "transfer"}
"""Commands with a test of their own."""


def calling(arguments: Callable[[str], JSON]) -> Script:
    """A model that calls the first tool the command's body tells it to call, and then has done."""

    def script(turn: Turn) -> list[JSON]:
        if turn.tool_results:
            return [text("done")]
        named = re.search(r"Call `(\w+)`", turn.command)
        assert named, turn.user_texts
        return [use(named[1], **arguments(request_in(turn.command)))]

    return script


@pytest.fixture
def repository(world: World) -> World:
    """A workspace with an uncommitted change."""
    repository = world.repository.init()
    repository.write("a.txt", "one\n")
    repository.commit()
    repository.write("a.txt", "one\nmore\n")
    return world


def test_there_is_a_command_for_each_of_these_and_no_other() -> None:
    from tests.e2e.claude.conftest import ROOT

    assert {
        path.stem for path in (ROOT / "commands").glob("**/*.md")
    } == COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - OWN))
def test_a_command_calls_its_tool_with_the_words_of_the_user(
    name: str, claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    command = COMMANDS[name]
    gate = hold(say("too late"))
    model([gate] if command.words == "RUNNING" else [command.reply])
    typed = _words_for(command.words, repository)
    session = claude.ask(f"/codex:{name} {typed}".strip(), calling(command.arguments))
    assert session.code == 0, session.errors
    assert session.calls == [(PREFIX + command.tool, command.arguments(typed))]
    assert session.denials == []
    assert command.shows in session.tool_results[0]
    assert session.result["result"] == "done"


def _words_for(words: str, world: World) -> str:
    """JOB is the id of a finished consultation, RUNNING of one that goes on; `completed` needs one as well.

    `list` needs a finding.
    """
    if words == "list":
        put(ledger_of(world), entry())
    if words in ("JOB", "completed"):
        job = consult(world.counsel())["meta"]["job_id"]
        return str(job) if words == "JOB" else words
    if words == "RUNNING":
        counsel = world.counsel()
        handle = start_consult(counsel, background=True)
        counsel.detach(handle)
        until(lambda: handle.job.state().phase not in ("queued", "starting"))
        return handle.job.id
    return words


def test_a_delegated_task_comes_back_as_a_diff_and_is_applied_by_a_command_of_its_own(
    claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    repository.repository.commit()
    edit = "*** Begin Patch\n*** Update File: a.txt\n@@\n one\n-more\n+two\n*** End Patch\n"
    model([patch(edit), say("Replaced it.")])
    first = claude.ask(
        f"/codex:delegate {WORDS}", calling(COMMANDS["delegate"].arguments)
    )
    assert (first.code, first.denials) == (0, [])
    assert first.calls == [(PREFIX + "codex_delegate", {"task": WORDS})]
    envelope = json.loads(first.tool_results[0])
    assert "+two" in envelope["diff"]
    assert (repository.workspace / "a.txt").read_text("utf-8") == "one\nmore\n"

    job = envelope["meta"]["job_id"]
    check = {"job_id": job, "check_only": True}
    undo = {"job_id": job, "undo": True}

    def applying(turn: Turn) -> list[JSON]:
        """A model that does the steps of the command, one after the other."""
        assert "3. Call the tool again" in turn.command
        if not turn.tool_results:
            return [use(PREFIX + "codex_apply", **check)]
        if len(turn.tool_results) == 1:
            return [text("a.txt"), use(PREFIX + "codex_apply", job_id=job)]
        return [text("done")]

    second = claude.ask(f"/codex:apply {job}", applying)
    assert (second.code, second.denials) == (0, [])
    assert [arguments for _, arguments in second.calls] == [check, {"job_id": job}]
    checked = json.loads(second.tool_results[0])["data"]
    assert (checked["applied"], checked["files"]) == (False, ["a.txt"])
    assert "1 file changed" in checked["diffstat"]
    assert (repository.workspace / "a.txt").read_text("utf-8") == "one\ntwo\n"

    third = claude.ask(f"/codex:apply undo {job}", calling(lambda _: undo))
    assert (third.code, third.denials) == (0, [])
    assert third.calls == [(PREFIX + "codex_apply", undo)]
    assert (repository.workspace / "a.txt").read_text("utf-8") == "one\nmore\n"


def test_a_task_that_must_pass_a_command_comes_back_with_what_the_command_said(
    claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    repository.repository.commit()
    edit = "*** Begin Patch\n*** Update File: a.txt\n@@\n one\n-more\n+two\n*** End Patch\n"
    server = model([patch(edit), say("Replaced it.")])
    arguments = {"task": "Say two.", "check": "grep two a.txt"}

    def script(turn: Turn) -> list[JSON]:
        assert 'must pass make test"), pass that command as `check`' in turn.command
        assert 'try three ways"), pass `attempts`' in turn.command
        return calling(lambda _: arguments)(turn)

    session = claude.ask("/codex:delegate Say two; must pass: grep two a.txt", script)
    assert (session.code, session.denials) == (0, [])
    assert session.calls == [(PREFIX + "codex_delegate", arguments)]
    check = json.loads(session.tool_results[0])["check"]
    assert (check["status"], check["exit"], check["base_exit"]) == ("passed", 0, 1)
    assert "grep two a.txt" in server.requests[0].prompt


def test_a_finding_is_proven_on_request_and_its_test_is_applied_by_a_command(
    claude: Claude, world: World, model: Callable[..., Loopback]
) -> None:
    begin(world)
    model(script([CLAIM], Prover()))

    def reviewing(turn: Turn) -> list[JSON]:
        assert (
            'findings proven ("prove it", "with a test"), pass `prove`' in turn.command
        )
        return calling(lambda _: {"prove": "high"})(turn)

    first = claude.ask("/codex:review prove it", reviewing)
    assert (first.code, first.denials) == (0, [])
    assert first.calls == [(PREFIX + "codex_review_changes", {"prove": "high"})]
    (finding,) = json.loads(first.tool_results[0])["findings"]
    assert finding["grounded"] == "proven"

    job = finding["proof"]["job_id"]
    check = {"job_id": job, "check_only": True}

    def applying(turn: Turn) -> list[JSON]:
        assert "The test of a finding has the job of its `proof`" in turn.command
        if not turn.tool_results:
            return [use(PREFIX + "codex_apply", **check)]
        if len(turn.tool_results) == 1:
            return [text("test_mean.py"), use(PREFIX + "codex_apply", job_id=job)]
        return [text("done")]

    second = claude.ask(f"/codex:apply {job}", applying)
    assert (second.code, second.denials) == (0, [])
    assert json.loads(second.tool_results[0])["data"]["files"] == ["test_mean.py"]
    assert (world.workspace / "test_mean.py").read_text("utf-8") == TEST


def test_a_task_is_tried_in_several_ways_and_the_best_comes_back(
    claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    repository.repository.commit()
    good, bad = "gpt-6.1-sol", "gpt-6.1-terra"
    edits = {good: "two", bad: "three"}

    def part(request: Request) -> Reply:
        if request.outputs:
            return say("Done.")
        return shell(f"echo {edits[request.model]} > a.txt")

    model(part)
    arguments = {
        "task": "Say two.",
        "check": "grep two a.txt",
        "attempts": 2,
        "models": [bad, good],
    }
    session = claude.ask(
        "/codex:delegate Say two. Try two ways; must pass: grep two a.txt",
        calling(lambda _: arguments),
    )
    assert (session.code, session.denials) == (0, [])
    envelope = json.loads(session.tool_results[0])
    rows = envelope["attempts"]
    assert [row["model"] for row in rows] == [good, bad]
    assert [row["check"]["status"] for row in rows] == ["passed", "failed"]
    assert "+two" in envelope["diff"]


def test_a_task_in_the_background_returns_its_job_and_outlives_the_session(
    claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    gate = hold(say("Done."))
    model([gate])
    session = claude.ask(
        f"/codex:delegate-async {WORDS}", calling(COMMANDS["delegate-async"].arguments)
    )
    assert (session.code, session.denials) == (0, [])
    assert session.calls == [(PREFIX + "codex_delegate_async", {"task": WORDS})]
    job = repository.counsel().store.job(json.loads(session.tool_results[0])["job_id"])
    gate.release.set()
    assert until(lambda: recovery.outcome(job))["status"] == "completed"


def test_transfer_hands_the_session_over_and_the_thread_can_be_asked_on(
    claude: Claude, repository: World, model: Callable[..., Loopback]
) -> None:
    server = model([say("It is fine.")])
    named: list[str] = []

    def script(turn: Turn) -> list[JSON]:
        named.extend(re.findall(r"`(\S+\.jsonl)`", turn.command))
        return calling(lambda _: {"transcript_path": named[0]})(turn)

    first = claude.ask(
        "Why is the cache cold?", lambda _: [text("It is cleared at start.")]
    )
    session = claude.ask(
        "/codex:transfer", script, "--resume", first.result["session_id"]
    )
    assert (session.code, session.denials) == (0, [])
    assert session.calls == [
        (
            PREFIX + "codex_transfer",
            {"transcript_path": f"{session.result['session_id']}.jsonl"},
        )
    ]
    envelope = json.loads(session.tool_results[0])
    thread = envelope["meta"]["session_id"]
    assert envelope["data"]["resume_command"] == f"codex resume {thread}"

    answer = consult(repository.counsel(), session_id=thread)
    assert answer["meta"]["session_id"] == thread
    assert "Why is the cache cold?" in server.requests[-1].prompt
    assert "codex:transfer" not in server.requests[-1].prompt
    data = envelope["data"]
    assert (data["turns"], data["first_words"], data["last_words"]) == (
        1,
        "Why is the cache cold?",
        "It is cleared at start.",
    )
