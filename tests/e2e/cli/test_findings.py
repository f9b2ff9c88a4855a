"""`findings`: what is on record of a repository, and what a person decides about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codex_counsel.findings.entry import Entry
from codex_counsel.findings.ledger import Ledger
from tests import hostile
from tests.conftest import World
from tests.e2e.cli.terminal import terminal
from tests.e2e.cli.test_hostile_output import WorldInWorkflow, assert_inert
from tests.e2e.cli.test_verbs import RunResult, run
from tests.records import HEAD, JOB, entry, ledger_of, put, sighting

pytestmark = pytest.mark.usefixtures("own_git_settings")

MANY = 10_000


@pytest.fixture
def repository(world: World) -> World:
    """The world with a repository, on whose record is one open finding."""
    world.repository.begin()
    put(ledger_of(world), entry())
    return world


ID = entry().id


def on_record(world: World, name: str = ID) -> Entry:
    return ledger_of(world).read().entries[name]


def lines_of(world: World) -> list[str]:
    return ledger_of(world).file.read_text("ascii").splitlines()


def refused(result: RunResult, code: str) -> None:
    """It failed with this error, as a mistake in the call."""
    assert result.code == 2, result.err
    assert result.err.startswith(f"{code}: ")
    assert "what to do: " in result.err
    assert result.out == ""


# --- what a person decides


def test_a_rejected_finding_has_the_reason_and_who_said_so(repository: World) -> None:
    result = run(
        repository,
        "findings",
        "reject",
        ID[:6],
        "--reason",
        "It is 70.",
        "--by",
        "somebody",
    )
    assert result.code == 0
    assert result.out == (
        f"Finding {ID} (The seventh line is wrong) is rejected; it was open\n"
    )
    after = on_record(repository)
    assert (after.state, after.reason, after.by) == (
        "rejected",
        "It is 70.",
        "somebody",
    )
    assert after.changed
    assert after.changed.endswith("Z")
    before = entry()
    assert (after.words, after.first, after.last) == (
        before.words,
        before.first,
        before.last,
    )


@pytest.mark.parametrize("state", ["open", "accepted", "rejected", "fixed", "stale"])
@pytest.mark.parametrize(
    ("action", "after"),
    [("accept", "accepted"), ("reject", "rejected"), ("reopen", "open")],
)
def test_every_state_leads_to_every_decision_and_twice_is_once(
    world: World, state: str, action: str, after: str
) -> None:
    world.repository.begin()
    put(ledger_of(world), entry(state=state))
    words = ("findings", action, ID, "--reason", "Because.", "--json")
    first = run(world, *words).json
    assert (first["data"]["before"], first["data"]["changed"]) == (state, True)
    assert first["data"]["findings"][0]["state"] == after
    lines = lines_of(world)
    again = run(world, *words).json
    assert (again["data"]["before"], again["data"]["changed"]) == (after, False)
    assert f"was {after} already" in again["summary"]
    assert lines_of(world) == lines
    assert on_record(world).state == after


def test_another_reason_replaces_the_first(repository: World) -> None:
    for reason in ("One.", "Two."):
        assert run(repository, "findings", "reject", ID, "--reason", reason).code == 0
    assert on_record(repository).reason == "Two."
    assert run(repository, "findings", "reopen", ID).code == 0
    after = on_record(repository)
    assert (after.state, after.reason, after.by) == ("open", None, "command line")


def test_a_forgotten_finding_is_gone(repository: World) -> None:
    result = run(repository, "findings", "forget", ID)
    assert (result.code, result.out) == (
        0,
        f"Finding {ID} (The seventh line is wrong) is forgotten; it was open\n",
    )
    assert ledger_of(repository).read().entries == {}
    refused(run(repository, "findings", "forget", ID), "finding_not_found")
    assert "No finding is on record" in run(repository, "findings").out


def test_two_who_decide_at_once_lose_nothing(world: World) -> None:
    world.repository.begin()
    count = 6
    entries = [entry(f"word {number}") for number in range(2 * count)]
    put(ledger_of(world), *entries)
    commands = []
    for index, each in enumerate(entries):
        action = ("accept", "reject")[index % 2]
        commands.append(f"findings {action} {each.id} --reason reason-{index}")
    program = f'"{sys.executable}" -m codex_counsel'
    sessions = []
    for half in (commands[:count], commands[count:]):
        script = " && ".join(f"{program} {command}" for command in half)
        sessions.append(
            subprocess.Popen(
                ["/bin/sh", "-c", script],
                env=world.env,
                cwd=world.workspace,
                stdout=subprocess.DEVNULL,
            )
        )
    assert [session.wait(90) for session in sessions] == [0, 0]
    after = ledger_of(world).read()
    states = [after.entries[each.id].state for each in entries]
    reasons = [after.entries[each.id].reason for each in entries]
    assert states == ["accepted", "rejected"] * count
    assert reasons == [f"reason-{index}" for index in range(2 * count)]
    assert after.damaged == 0


# --- which repository


def test_linked_trees_and_directories_below_meet_the_same_record(
    repository: World,
) -> None:
    linked = repository.base / "linked"
    repository.repository.git("worktree", "add", "--quiet", str(linked))
    link = repository.base / "link"
    link.symlink_to(repository.workspace)
    for place in (linked, linked / "docs", repository.workspace / "docs", link):
        listed = run(repository, "findings", "--json", "-C", str(place)).json
        assert [row["id"] for row in listed["data"]["findings"]] == [ID]
    assert run(repository, "findings", "accept", ID, "-C", str(linked)).code == 0
    assert on_record(repository).state == "accepted"


def test_a_directory_that_was_deleted_is_named(world: World) -> None:
    program = f'"{sys.executable}" -m codex_counsel'
    review = '{"ok": true, "status": "completed", "tool": "codex_review_changes", '
    review += '"summary": "s", "verdict": "pass", "meta": {}}'
    for words in ("findings", "check --on-record -"):
        result = subprocess.run(
            ["/bin/sh", "-c", f"mkdir gone; cd gone; rmdir ../gone; {program} {words}"],
            env=world.env,
            cwd=world.workspace,
            input=review,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 2, result.stderr
        assert "workspace_invalid: " in result.stderr


def test_another_repository_has_a_record_of_its_own(repository: World) -> None:
    other = repository.repository_at(repository.base / "other").begin()
    result = run(repository, "findings", "-C", str(other.root))
    assert "No finding is on record" in result.out
    refused(
        run(repository, "findings", "accept", ID, "-C", str(other.root)),
        "finding_not_found",
    )


def test_what_is_in_no_repository_has_a_record_too(world: World) -> None:
    put(Ledger.of(world.state, world.workspace), entry())
    assert ID in run(world, "findings").out


# --- which finding


@pytest.mark.parametrize(
    "name",
    ["../..", "abc", "", "g" * 16, ID + "0", ID.upper() + "Z", "a\x1b[31m", "a" * 500],
)
@pytest.mark.parametrize("action", ["show", "forget"])
def test_what_is_no_id_is_refused(repository: World, name: str, action: str) -> None:
    result = run(repository, "findings", action, name)
    refused(result, "invalid_arguments")
    assert len(lines_of(repository)) == 1


def test_an_id_that_nobody_has_names_those_that_begin_like_it(
    repository: World,
) -> None:
    wrong = ID[:5] + "f" * 11
    result = run(repository, "findings", "show", wrong)
    refused(result, "finding_not_found")
    assert f"near: {ID}" in result.err
    assert "codex-counsel findings list --state all" in result.err


def test_an_id_that_several_have_is_refused_with_them(world: World) -> None:
    world.repository.begin()
    twins = [entry(id=f"abcd{number:012x}") for number in range(7)]
    put(ledger_of(world), *twins)
    result = run(world, "findings", "forget", "abcd")
    refused(result, "invalid_arguments")
    assert "ID: abcd begins 7 ids" in result.err
    assert twins[0].id in result.err
    assert len(ledger_of(world).read().entries) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reject", ID), "--reason: reject needs one"),
        (("reject", ID, "--reason", ""), "--reason: is blank"),
        (("reject", ID, "--reason", " \n"), "--reason: is blank"),
        (("reject", ID, "--reason", "\x1b[31m\x07"), "--reason: is blank"),
        (("accept", ID, "--reason", "x" * 2001), "at most 2000 characters"),
        (("accept", ID, "--reason", "x" * 100_000), "at most 2000 characters"),
        (("accept",), "ID: accept needs one"),
        (("show",), "ID: show needs one"),
        (("list", ID), "ID: list takes none"),
        (("show", ID, "--reason", "x"), "--reason: show takes none"),
        (("forget", ID, "--reason", "x"), "--reason: forget takes none"),
        (("list", "--limit", "0"), "--limit: it is not between"),
        (("show", ID, "--limit", "3"), "--limit: show takes none; list does"),
        (("forget", ID, "--state", "open"), "--state: forget takes none"),
        (("reject", ID, "--reason", "x", "--file", "a"), "--file: reject takes none"),
        (("list", "--file", "../elsewhere"), "--file: it is not in this repository"),
        (("list", "-C", "/"), "workspace_invalid"),
    ],
)
def test_a_mistake_changes_nothing_and_is_named(
    repository: World, words: tuple[str, ...], message: str
) -> None:
    result = run(repository, "findings", *words)
    assert result.code == 2
    assert message in result.err
    assert len(lines_of(repository)) == 1


# --- what is listed


def states(world: World) -> None:
    put(
        ledger_of(world),
        entry("1", state="fixed"),
        entry("2", state="rejected", reason="No.", by="somebody"),
        entry("3", state="open", severity="low"),
        entry("4", state="stale", file="docs/readme.md", line=None),
        entry("5", state="accepted", file="docs/readme.md"),
        entry("6", state="open", severity="critical"),
        entry("7", state="open", severity="critical", last=sighting(9)),
    )


def listed(world: World, *flags: str) -> list[str]:
    """The words of the findings, in the order of the list."""
    rows = run(world, "findings", "--json", *flags).json["data"]["findings"]
    names = {entry(str(number)).id: str(number) for number in range(10)}
    return [names[row["id"]] for row in rows]


def test_unsettled_findings_come_first_and_the_gravest_of_these(world: World) -> None:
    world.repository.begin()
    states(world)
    assert listed(world) == ["7", "6", "3", "5", "2"]
    assert listed(world, "--state", "all") == ["7", "6", "3", "5", "2", "1", "4"]
    assert listed(world, "--state", "stale") == ["4"]
    assert listed(world, "--state", "all", "--file", "docs") == ["5", "4"]
    assert listed(world, "--file", "docs/readme.md") == ["5"]
    assert listed(world, "--file", str(world.workspace / "docs")) == ["5"]
    assert listed(world, "--file", "readme.md", "-C", "docs") == ["5"]
    assert listed(world, "--file", "doc") == []
    assert listed(world, "--limit", "2") == ["7", "6"]


def test_the_list_says_what_it_does_not_show(world: World) -> None:
    world.repository.begin()
    states(world)
    result = run(world, "findings", "--limit", "2")
    counts = "3 open, 1 accepted, 1 rejected, 1 fixed, 1 stale"
    assert f"7 findings on record: {counts}; 2 shown" in result.out
    assert "all that match: --limit 5" in result.out
    assert "in other states: 2, with --state all" in run(world, "findings").out
    of_a_folder = run(world, "findings", "--file", "docs").out
    assert "in other states: 1, with --state all" in of_a_folder
    everything = run(world, "findings", "--file", "docs", "--state", "all").out
    assert "in other states" not in everything
    quiet = run(world, "findings", "--quiet").out.splitlines()
    assert len(quiet) == 5


def test_ten_thousand_findings_are_a_short_list(world: World) -> None:
    world.repository.begin()
    ledger = ledger_of(world)
    put(ledger, *(entry(f"word {number}") for number in range(MANY)))
    result = run(world, "findings")
    lines = result.out.splitlines()
    assert len(lines) == 53
    assert f"{MANY} findings on record: {MANY} open; 50 shown" in lines[-2]
    assert f"--limit {MANY}" in lines[-1]
    whole = run(world, "findings", "--json", "--limit", str(MANY)).json
    assert len(whole["data"]["findings"]) == MANY
    digits = whole["data"]["id_digits"]
    shortened = {row["id"][:digits] for row in whole["data"]["findings"]}
    assert len(shortened) == MANY
    fewer = {row["id"][: digits - 1] for row in whole["data"]["findings"]}
    assert len(fewer) < MANY


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_table_fits_the_terminal_and_has_short_ids(
    world: World, columns: int
) -> None:
    world.repository.begin()
    states(world)
    put(ledger_of(world), entry("8", file="a/" * 40 + "日本.py", title="日本" * 90))
    with terminal(world, "findings", columns=columns) as screen:
        assert screen.finish() == 0
    lines = screen.text.splitlines()
    rows = lines[1:7]
    assert max(map(len, lines)) <= columns
    for row in rows:
        name = row.split()[0]
        assert len(name) == 4
        assert run(world, "findings", "show", name).code == 0


def test_a_terminal_of_80_columns_shows_where_a_finding_is(world: World) -> None:
    world.repository.begin()
    long_name = f"{'folder/' * 6}app.py"
    put(ledger_of(world), entry("1", file=long_name, line=7, title="wrong " * 20))
    with terminal(world, "findings", columns=80) as screen:
        assert screen.finish() == 0
    titles, row, *_ = screen.text.splitlines()
    assert titles.split() == ["ID", "STATE", "SEVERITY", "PLACE", "TITLE"]
    assert "folder/app.py:7  wrong wrong" in row


def test_one_finding_is_shown_with_all_that_is_on_record(world: World) -> None:
    world.repository.begin()
    thread = "0199f3f2-3c4d-7aaa-8bbb-0123456789ab"
    known = entry(
        "if a:\n    b()",
        state="rejected",
        reason="It is meant so.",
        by="somebody",
        changed="2026-11-20T10:00:00Z",
        last=sighting(3, thread=thread),
    )
    put(ledger_of(world), known)
    text = run(world, "findings", "show", known.id[:4]).out
    for words in (
        "HIGH  The seventh line is wrong\n  app.py:7\n  | if a:\n  |     b()\n",
        f"  id              {known.id}\n",
        "  state           rejected\n",
        "  reason          It is meant so.\n",
        "  by              somebody\n",
        "  changed         2026-11-20T10:00:00Z\n",
        f"  first seen      2026-11-01T10:00:00Z, at commit {HEAD}, by job {JOB}\n",
        f"by job {JOB}, in thread {thread}\n",
        str(ledger_of(world).file),
    ):
        assert words in text
    shown = run(world, "findings", "show", known.id, "--json").json
    assert shown["data"]["findings"] == [known.to_json()]


# --- hostile and damaged


def test_no_word_on_record_is_obeyed_by_a_terminal_or_a_runner(world: World) -> None:
    world.repository.begin()
    workflow = WorldInWorkflow(world.base, world.binary, world.settings)
    bad = []
    for start in range(0, len(hostile.ALL), 290):
        part = hostile.ALL[start : start + 290]
        each = entry(
            part,
            **dict.fromkeys(("title", "file", "branch", "plan", "reason", "by"), part),
            state="rejected",
            last=sighting(thread=part, head=part),
        )
        bad.append(each)
    put(ledger_of(world), *bad)
    calls = [("list",), ("list", "--json")]
    for each in bad:
        reason = each.title.replace("\0", "")
        calls += [
            ("show", each.id),
            ("show", each.id, "--json"),
            ("accept", each.id, f"--reason=a {reason}", f"--by=a {reason}"),
            ("list", "--state", "accepted"),
            ("forget", each.id),
        ]
    for words in calls:
        result = run(workflow, "findings", *words)
        assert result.code == 0, result.err
        assert_inert(result)
        if words == ("list",):
            # A title is one line: no row can pass for another.
            assert len(result.out.splitlines()) == len(bad) + 2
    assert ledger_of(world).read().entries == {}


def test_a_reason_is_kept_without_secrets_and_without_what_terminals_obey(
    repository: World,
) -> None:
    token = "ghp_" + "a1B2c3D4e5" * 4
    reason = f"\x1b[31mIt is {token}.\x07\n::error::x\n"
    assert run(repository, "findings", "reject", ID, "--reason", reason).code == 0
    kept = str(on_record(repository).reason)
    assert kept == "It is [masked:github-token].\n::error::x"
    assert token not in ledger_of(repository).file.read_text("ascii")
    grown = "\u202e" * 2000
    assert run(repository, "findings", "reject", ID, "--reason", grown).code == 0
    assert len(str(on_record(repository).reason)) == 2000
    long = run(repository, "findings", "accept", ID, "--by", "A" * 300)
    assert long.code == 0
    assert len(str(on_record(repository).by)) == 100
    assert run(repository, "findings", "reopen", ID, "--by", "\x1b ").code == 0
    assert on_record(repository).by == "unnamed"


def test_a_damaged_line_hides_no_other_and_is_told(repository: World) -> None:
    with ledger_of(repository).file.open("ab") as file:
        file.write(b'{"id": "0123\n\xff\xfe\n[]\n')
    put(ledger_of(repository), entry("two"))
    result = run(repository, "findings")
    assert result.code == 0
    assert "2 findings on record" in result.out
    assert "3 lines of " in result.out
    assert run(repository, "findings", "reject", ID, "--reason", "No.").code == 0


@pytest.mark.parametrize("kind", ["link", "directory", "FIFO", "too long"])
def test_a_ledger_that_cannot_be_read_is_no_empty_one(
    repository: World, kind: str
) -> None:
    file = ledger_of(repository).file
    content = file.read_bytes()
    file.unlink()
    if kind == "link":
        (repository.base / "elsewhere").write_bytes(content)
        file.symlink_to(repository.base / "elsewhere")
    elif kind == "directory":
        file.mkdir()
    elif kind == "FIFO":
        os.mkfifo(file)
    else:
        file.write_bytes(content)
        os.truncate(file, 65 * 1024 * 1024)
    for words in (("list",), ("show", ID), ("accept", ID)):
        result = run(repository, "findings", *words)
        assert result.code == 3
        assert "storage_failed: The ledger of findings cannot be read" in result.err


def test_a_record_that_cannot_be_written_is_named_and_can_be_read(
    repository: World,
) -> None:
    ledger = ledger_of(repository)
    ledger.file.chmod(0o400)
    ledger.directory.chmod(0o500)
    if os.access(ledger.file, os.W_OK):
        pytest.skip("root may write everywhere")
    try:
        result = run(repository, "findings", "accept", ID)
        assert (result.code, "storage_failed" in result.err) == (3, True)
        assert run(repository, "findings", "show", ID).code == 0
    finally:
        ledger.directory.chmod(0o700)


def test_a_link_in_the_place_of_the_folder_is_not_written_through(
    repository: World,
) -> None:
    folder = ledger_of(repository).directory
    moved = repository.base / "moved"
    folder.rename(moved)
    folder.symlink_to(moved)
    before = (moved / "ledger.jsonl").read_bytes()
    result = run(repository, "findings", "accept", ID)
    assert (result.code, "storage_failed" in result.err) == (3, True)
    assert (moved / "ledger.jsonl").read_bytes() == before


def test_without_home_login_or_codex_it_works(
    repository: World, tmp_path: Path
) -> None:
    env = {
        name: value
        for name, value in repository.env.items()
        if name in ("PATH", "CODEX_COUNSEL_STATE_DIR")
    }
    env["CODEX_COUNSEL_CODEX_BIN"] = "/nonexistent/codex"
    env["PATH"] = "/nonexistent"
    result = subprocess.run(
        [sys.executable, "-m", "codex_counsel", "findings", "--json"],
        env=env,
        cwd=repository.workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(result.stdout)["data"]["total"] == 1


def test_the_status_counts_what_is_on_record(repository: World) -> None:
    put(ledger_of(repository), entry("two", state="rejected"))
    status = run(repository, "status")
    assert "findings      1 open, 1 rejected: codex-counsel findings\n" in status.out
    ledger_of(repository).file.unlink()
    assert "codex-counsel findings" not in run(repository, "status").out
    ledger_of(repository).file.mkdir()
    status = run(repository, "status")
    assert "warning: The ledger of findings cannot be read" in status.out


def test_a_mistake_makes_no_directory(world: World) -> None:
    world.repository.begin()
    refused(run(world, "findings", "forget", ID), "finding_not_found")
    assert not (world.state / "findings").exists()


def test_the_list_imports_nothing_that_takes_long(repository: World) -> None:
    program = "import sys; from codex_counsel import cli; cli.run(['findings', '-q'])\n"
    program += "print([name for name in ('pydantic', 'fastmcp', 'anyio', 'jsonschema') if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=repository.env,
        cwd=repository.workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"
