"""The stop gate: silent where there is nothing to do, in the way only for grave findings, and gone when removed."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.claude import stop_gate
from codex_counsel.cli import run
from codex_counsel.loopback import Loopback, http_error, say
from codex_counsel.loopback.trouble import error
from tests import hostile
from tests.conftest import World
from tests.e2e.fakes import executable

Model = Callable[..., Loopback]
BAD_LINE = "refund = prices[position - 1]"


def finding(**changes: Any) -> dict[str, Any]:
    known = {
        "severity": "high",
        "category": "logic",
        "title": "Off by one",
        "file": "shop.py",
        "line": 1,
        "line_end": None,
    }
    known |= {
        "evidence": BAD_LINE,
        "risk": "The wrong price.",
        "recommendation": "Use position.",
        "replace_from": None,
        "replace_to": None,
        "replacement": None,
    }
    return known | changes


def review(*findings: dict[str, Any]) -> dict[str, Any]:
    verdict = "fail" if findings else "pass"
    answer = {
        "summary": "One problem.",
        "verdict": verdict,
        "confidence": "high",
        "findings": list(findings),
    }
    return answer | {"questions": [], "assumptions": [], "next_steps": []}


class Session:
    """A turn of Claude Code that ended, and the gate asked about it."""

    def __init__(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.world, self._monkeypatch, self._capsys = world, monkeypatch, capsys
        self.transcript = world.base / "transcript.jsonl"
        self.rows: list[dict[str, Any]] = []
        for name, value in world.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
        monkeypatch.chdir(world.workspace)
        world.repository.init().commit()

    def add_user_message(self, words: str = "Add a refund.", **row: Any) -> None:
        self.rows.append(
            {"type": "user", "message": {"role": "user", "content": words}, **row}
        )

    def add_edit(self, path: str, tool: str = "Write") -> None:
        use = {
            "type": "tool_use",
            "id": "t",
            "name": tool,
            "input": {"file_path": path, "content": BAD_LINE},
        }
        self.rows.append(
            {"type": "assistant", "message": {"role": "assistant", "content": [use]}}
        )
        result = [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]
        self.rows.append(
            {"type": "user", "message": {"role": "user", "content": result}}
        )

    def stops(self, *flags: str, again: bool = False) -> dict[str, Any] | None:
        """What the gate prints; it never fails."""
        self.transcript.write_text(
            "".join(json.dumps(row) + "\n" for row in self.rows), "utf-8"
        )
        event = {
            "session_id": "s-1",
            "transcript_path": str(self.transcript),
            "cwd": str(self.world.workspace),
        }
        return self.run_gate(json.dumps(event | {"stop_hook_active": again}), *flags)

    def run_gate(self, event: str, *flags: str) -> dict[str, Any] | None:
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(event))
        assert run(["gate", "run", *flags]) == 0
        out = self._capsys.readouterr().out
        return dict(json.loads(out)) if out else None

    def breaks(self) -> None:
        """A turn that writes a file with a mistake in it."""
        file = self.world.workspace / "shop.py"
        file.write_text(BAD_LINE + "\n", "utf-8")
        self.add_user_message()
        self.add_edit(str(file))


@pytest.fixture
def session(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Session:
    return Session(world, monkeypatch, capsys)


def test_a_grave_finding_holds_the_turn_and_says_how_to_be_rid_of_the_gate(
    session: Session, model: Model
) -> None:
    server = model([say(review(finding()))])
    (session.world.workspace / "before.py").write_text("not of this turn\n", "utf-8")
    session.breaks()
    decision = session.stops()
    assert decision is not None
    assert decision["decision"] == "block"
    assert (
        "high shop.py:1: Off by one The wrong price. Use position."
        in decision["reason"]
    )
    assert "codex-counsel gate remove" in decision["reason"]
    assert "codex-counsel findings reject ID --reason" in decision["reason"]
    assert BAD_LINE in server.requests[0].prompt
    assert "not of this turn" not in server.requests[0].prompt


def test_a_finding_that_the_user_rejected_holds_no_turn(
    session: Session, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model(lambda _: say(review(finding())))
    session.breaks()
    decision = session.stops()
    assert decision is not None
    named = re.search(
        r"^- ([0-9a-f]{16}) high shop\.py:1: ", decision["reason"], re.MULTILINE
    )
    assert named
    assert run(["findings", "reject", named[1], "--reason", "It is meant so."]) == 0
    capsys.readouterr()
    session.breaks()
    after = session.stops()
    assert after is not None
    assert list(after) == ["systemMessage"]


def test_without_a_severity_the_gate_follows_the_project_file_of_the_commit(
    session: Session, model: Model
) -> None:
    model(lambda _: say(review(finding(severity="low"))))
    repository = session.world.repository
    repository.write(
        ".codex-counsel.toml", "[review]\nscope = 'branch'\nfail_on = 'low'\n"
    )
    repository.commit("policy")
    repository.git("checkout", "--quiet", "-b", "feature")
    session.breaks()
    held = session.stops()
    assert held is not None
    assert held["decision"] == "block"
    session.breaks()
    let_go = session.stops("--fail-on", "high")
    assert let_go is not None
    assert list(let_go) == ["systemMessage"]


def test_a_gate_is_installed_without_a_severity_unless_one_is_named(
    session: Session,
) -> None:
    assert run(["gate", "install"]) == 0
    settings = stop_gate.settings_file(session.world.env, None)
    line = stop_gate.find_hook(json.loads(settings.read_text("utf-8")))
    assert "--rounds 1" in line
    assert "--fail-on" not in line


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"severity": "medium"}, ()),
        ({"severity": "high"}, ("--fail-on", "critical")),
        ({"evidence": "code that is not there", "line": 99}, ()),
    ],
    ids=["below the default", "below the chosen one", "about code that is not there"],
)
def test_anything_less_is_told_and_lets_the_turn_end(
    changes: dict[str, Any], flags: tuple[str, ...], session: Session, model: Model
) -> None:
    model([say(review(finding(**changes)))])
    session.breaks()
    decision = session.stops(*flags)
    assert decision is not None
    assert list(decision) == ["systemMessage"]
    assert decision["systemMessage"].startswith("Codex reviewed 1 files")


def test_a_turn_is_held_once_unless_more_rounds_were_chosen(
    session: Session, model: Model
) -> None:
    server = model([say(review(finding()))])
    session.breaks()
    assert session.stops()
    assert session.stops(again=True) is None

    assert session.stops("--rounds", "2")
    again = session.stops("--rounds", "2", again=True)
    assert again is not None
    assert again["decision"] == "block"
    assert session.stops("--rounds", "2", again=True) is None
    assert [request.thread_id for request in server.requests][1:] == [
        server.requests[1].thread_id
    ] * 2


@pytest.mark.parametrize("kind", ["talk", "outside", "an earlier turn"])
def test_a_turn_that_edited_nothing_here_costs_nothing(
    kind: str, session: Session, model: Model
) -> None:
    server = model()
    if kind == "an earlier turn":
        session.breaks()
    session.add_user_message("What does it do?")
    if kind == "outside":
        session.add_edit(str(session.world.base / "elsewhere.py"))
    assert session.stops() is None
    assert server.requests == []


def test_what_a_client_says_in_the_name_of_the_user_begins_no_turn(
    session: Session, model: Model
) -> None:
    model([say(review(finding()))])
    session.breaks()
    session.add_user_message("a reminder", isMeta=True)
    decision = session.stops()
    assert decision is not None
    assert decision["decision"] == "block"


@pytest.mark.parametrize("damage", [[1], "text", None])
def test_a_damaged_edit_hides_no_other(
    damage: object, session: Session, model: Model
) -> None:
    model([say(review(finding()))])
    session.breaks()
    session.add_edit("lost.py")
    session.rows[-2]["message"]["content"][0]["input"] = damage
    decision = session.stops()
    assert decision is not None
    assert decision["decision"] == "block"


def test_a_failure_lets_the_turn_end_and_names_the_off_switch(
    session: Session, model: Model
) -> None:
    model([http_error(400, error("invalid_request", "The model is unknown."))])
    session.breaks()
    decision = session.stops()
    assert decision is not None
    assert list(decision) == ["systemMessage"]
    assert "The model is unknown." in decision["systemMessage"]
    assert "gate remove" in decision["systemMessage"]


@pytest.mark.parametrize(
    "event",
    ["", "no JSON", "[]", "{}", '{"session_id": "../../x"}', '{"session_id": "s"}'],
)
def test_an_event_that_is_none_lets_the_turn_end(event: str, session: Session) -> None:
    decision = session.run_gate(event)
    assert decision is not None
    assert "nothing was reviewed" in decision["systemMessage"]


def test_it_is_installed_once_and_removed_without_a_trace(session: Session) -> None:
    file = session.world.home / ".claude/settings.json"
    file.parent.mkdir()
    other = {"type": "command", "command": "make lint"}
    mine = {"model": "opus", "hooks": {"Stop": [{"hooks": [other]}], "PreToolUse": []}}
    file.write_text(json.dumps(mine), "utf-8")
    for severity in ("medium", "critical"):
        assert run(["gate", "install", "--fail-on", severity]) == 0
    groups = json.loads(file.read_text("utf-8"))["hooks"]["Stop"]
    assert [len(group["hooks"]) for group in groups] == [1, 1]
    assert "--fail-on critical" in groups[1]["hooks"][0]["command"]
    for _ in range(2):
        assert run(["gate", "remove"]) == 0
        assert json.loads(file.read_text("utf-8")) == mine


def test_the_gate_of_a_project_names_its_own_switch_and_outlives_that_of_the_user(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["gate", "install", "--project"]) == 0
    assert "`codex-counsel gate remove --project`" in capsys.readouterr().out
    assert run(["gate", "remove"]) == 0
    assert "`codex-counsel gate remove --project`" in capsys.readouterr().out
    assert run(["gate", "remove", "--project"]) == 0
    assert "--project" not in capsys.readouterr().out


def test_the_installed_hook_is_a_command_that_runs(session: Session) -> None:
    assert run(["gate", "install", "--project"]) == 0
    file = session.world.workspace / ".claude/settings.local.json"
    (group,) = json.loads(file.read_text("utf-8"))["hooks"]["Stop"]
    session.add_user_message()
    session.transcript.write_text(json.dumps(session.rows[0]) + "\n", "utf-8")
    event = json.dumps(
        {
            "session_id": "s",
            "transcript_path": str(session.transcript),
            "cwd": str(Path.cwd()),
        }
    )
    result = subprocess.run(
        group["hooks"][0]["command"],
        shell=True,
        input=event,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("", "")
    assert run(["gate", "remove", "--project"]) == 0
    assert json.loads(file.read_text("utf-8")) == {}


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_settings_keep_their_permissions(mode: int, session: Session) -> None:
    file = session.world.home / ".claude/settings.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"env": {"KEY": "sk-mine"}}), "utf-8")
    file.chmod(mode)
    for action in ("install", "remove"):
        assert run(["gate", action]) == 0
        assert stat.S_IMODE(file.stat().st_mode) == mode
    assert [path.name for path in file.parent.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    "content",
    [
        "{ // mine",
        "[]",
        '{"hooks": {"Stop": {"mine": []}}}',
        "[" * 100_000 + "]" * 100_000,
    ],
    ids=["comments", "no object", "no list", "too deep"],
)
def test_settings_that_cannot_be_read_are_left_as_they_are(
    content: str, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    file = session.world.home / ".claude/settings.json"
    file.parent.mkdir()
    file.write_text(content, "utf-8")
    assert run(["gate", "install"]) == 1
    assert file.read_text("utf-8") == content
    assert "is left as it is" in capsys.readouterr().err


def test_a_finding_cannot_pass_for_another_one_or_hide_anything(
    session: Session, model: Model
) -> None:
    model(
        [say(review(finding(title=hostile.ALL, risk="x\n- critical all.py: forged")))]
    )
    session.breaks()
    decision = session.stops()
    assert decision is not None
    _, *rows, last = decision["reason"].split("\n")
    assert [row.partition(" ")[0] for row in rows] == ["-"]
    assert last.endswith("switches this gate off.)")
    assert hostile.hidden_characters(decision["reason"]) <= {"\n", "\ufe0f"}


def test_the_hook_is_harmless_where_its_program_is_gone_or_too_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exit code of 2 would keep Claude from ending its turn."""
    nowhere = str(world.base / "venv/bin/python")
    empty = executable(world.base / "python", "echo Traceback >&2; exit 2")
    for program in (nowhere, str(empty)):
        monkeypatch.setattr(sys, "executable", program)
        line = stop_gate.hook_command("--fail-on", "high")
        result = subprocess.run(
            line, shell=True, input=b"{}", capture_output=True, check=False
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_the_status_says_where_the_gate_is_and_whether_its_program_exists(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Session(world, monkeypatch, capsys)
    settings = world.home / ".claude/settings.json"
    assert run(["gate", "status"]) == 1
    assert "not installed" in capsys.readouterr().out

    assert run(["gate", "install", "--fail-on", "low"]) == 0
    assert run(["gate", "status"]) == 0
    output = capsys.readouterr().out
    assert str(settings) in output
    assert "--fail-on low" in output

    text = settings.read_text("utf-8").replace(sys.executable, "/nonexistent/python")
    settings.write_text(text, "utf-8")
    assert run(["gate", "status"]) == 1
    assert "/nonexistent/python is gone" in capsys.readouterr().err

    settings.write_text('{"hooks": {"Stop": [{"hooks": 1}, 2]}}', "utf-8")
    assert run(["gate", "status"]) == 1
