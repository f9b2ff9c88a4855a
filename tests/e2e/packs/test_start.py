"""A pack is run by the path of a local call: what it asks, where it runs, and what it may not bring."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Consult, Delegate, ReviewChanges, ReviewPlan
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.loopback import Loopback, say, shell
from codex_counsel.packs import manifest
from codex_counsel.packs import repository as repositories
from codex_counsel.prepare.context import Context
from codex_counsel.services import run_pack
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, wait
from tests.e2e.pictures import RED_PIXEL
from tests.e2e.runs import assert_nothing_is_left
from tests.foundations import bundle, draft
from tests.packs import ID, QUESTION, DraftPack
from tests.repositories import Repository
from tests.reviews import reply, review

Model = Callable[..., Loopback]


def run(context: Context, pack: DraftPack, *, whole: bool = True) -> EnvelopeDict:
    with pack.open(whole=whole) as file:
        started = run_pack.start(context, file, "x.pack", background=False)
    return wait(started.handle)


def refusal(context: Context, pack: DraftPack, *, whole: bool = True) -> CounselError:
    """The error by which the pack is refused, before anything of it is kept or run."""
    with pack.open(whole=whole) as file, pytest.raises(CounselError) as caught:
        run_pack.start(context, file, "x.pack", background=False)
    assert not (context.settings.state / "jobs").exists() or not list(
        (context.settings.state / "jobs").iterdir()
    )
    return caught.value


def test_a_question_is_answered_in_a_private_copy_of_the_senders_files(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    model([shell("cat lib/util.py; ls; git status --short"), say("It adds.")])
    pack = DraftPack(Consult, QUESTION, draft(sender), world.base)
    envelope = run(context, pack)
    assert envelope["answer"] == "It adds."
    assert envelope["meta"].get("warnings") is None
    root = repositories.repository_of(context, pack.about.foundation)
    assert envelope["meta"]["workspace"]["root"] == str(root)
    assert_nothing_is_left(world)


def test_the_commands_of_the_run_see_the_files_and_the_index_of_the_sender(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([shell("cat lib/util.py; git status --short"), say("Seen.")])
    run(context, DraftPack(Consult, QUESTION, draft(sender), world.base))
    (output,) = server.requests[-1].outputs
    assert "x = 3" in output
    for line in (
        " D gone.txt",
        "R  old.txt -> new.txt",
        "MM lib/util.py",
        "?? notes.md",
    ):
        assert line in output
    assert "noise.log" not in output


def test_a_review_of_uncommitted_work_is_sent_what_the_sender_would_have_sent(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say(reply())])
    pack = DraftPack(
        ReviewChanges, {"scope": "working_tree"}, draft(sender), world.base
    )
    envelope = run(context, pack)
    assert envelope["verdict"] == "pass"
    sent = server.requests[0].prompt
    for line in ("+x = 3", "-x = 1", "+mine", "gone.txt", "rename from old.txt"):
        assert line in sent


def test_a_review_of_commits_has_them_by_a_bundle_of_their_own(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    sender.commit("all of it")
    begin = sender.git("rev-parse", "HEAD~1")
    server = model([say(reply())])
    asked = {"scope": "range", "range": f"{begin}..{sender.head}"}
    pack = DraftPack(ReviewChanges, asked, draft(sender), world.base)
    pack.members[manifest.MORE_BUNDLE] = bundle(sender, {"refs/heads/begin": begin})
    envelope = run(context, pack)
    assert envelope["verdict"] == "pass"
    assert "+x = 3" in server.requests[0].prompt


def test_a_task_returns_the_diff_against_the_senders_work(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    model([shell("echo 'answer = 42' > app.py"), say("Done.")])
    pack = DraftPack(Delegate, {"task": "Correct it."}, draft(sender), world.base)
    envelope = run(context, pack)
    assert envelope["status"] == "completed"
    assert "-answer = 41\n+answer = 42" in envelope["diff"]
    assert envelope["diff"].count("diff --git") == 1
    assert_nothing_is_left(world)


def test_a_plan_is_reviewed(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say(reply())])
    pack = DraftPack(ReviewPlan, {"plan": "First measure."}, draft(sender), world.base)
    assert run(context, pack)["verdict"] == "pass"
    assert "First measure." in server.requests[0].prompt


def test_images_go_along_and_leave_nothing(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say("A picture."), say("Again.")])
    pack = DraftPack(
        Consult, QUESTION, draft(sender), world.base, {"images": ["images/0.png"]}
    )
    pack.members["images/0.png"] = RED_PIXEL
    envelope = run(context, pack)
    assert "data:image/png;base64," in str(server.requests[0].body)
    assert envelope["meta"].get("warnings") is None
    folder = (
        repositories.repository_of(context, pack.about.foundation).parent / "images"
    )
    assert [path.name for path in folder.iterdir()] == ["lock"]
    # By the same pack the same run.
    assert run(context, pack)["answer"] == "A picture."
    assert len(server.requests) == 1


def test_a_pack_below_the_top_of_the_repository_runs_there(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([shell("pwd; ls"), say("Seen.")])
    run(
        context,
        DraftPack(Consult, QUESTION, draft(sender), world.base, {"prefix": "lib"}),
    )
    assert "repository/lib\nutil.py" in server.requests[-1].outputs[0]


# --- once


def test_the_same_pack_twice_is_one_run_and_one_repository(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say("Once."), say("Twice.")])
    pack = DraftPack(Consult, QUESTION, draft(sender), world.base)

    def answer(_: int) -> Any:
        return run(context, pack)["answer"]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(answer, range(4))) == ["Once."] * 4
    assert len(server.requests) == 1
    folders = [
        path for path in context.directories.packs.iterdir() if len(path.name) == 64
    ]
    assert len(folders) == 1


def test_another_pack_with_the_id_of_one_that_ran_is_refused_with_the_way_on(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say("Once.")])
    foundation = draft(sender)
    run(context, DraftPack(Consult, QUESTION, foundation, world.base))
    other = DraftPack(Consult, {"question": "Another?"}, foundation, world.base)
    with other.open() as file, pytest.raises(CounselError) as caught:
        run_pack.start(context, file, "x.pack", background=False)
    assert caught.value.code == Code.IDEMPOTENCY_CONFLICT
    assert "have the request packed again" in (caught.value.repair or "")
    assert len(server.requests) == 1


def test_a_pack_without_its_foundation_runs_where_that_is_kept_and_is_refused_by_name_elsewhere(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    model([say("First."), say("Second.")])
    pack = DraftPack(Consult, QUESTION, draft(sender), world.base)
    error = refusal(context, pack, whole=False)
    assert error.code == Code.PACK_INVALID
    assert pack.about.foundation[:12] in error.message
    assert error.details == {"foundation": pack.about.foundation}

    repositories.keep_foundation(context, pack.foundation)
    assert run(context, pack, whole=False)["answer"] == "First."


# --- settings


@pytest.mark.parametrize(
    ("own", "sent", "in_force"),
    [
        ({}, {"max_tokens": 5_000}, {"max_tokens": 5_000}),
        ({"MAX_TOKENS": "9000"}, {"max_tokens": 5_000}, {"max_tokens": 5_000}),
        ({"MAX_TOKENS": "2000"}, {"max_tokens": 5_000}, {"max_tokens": 2_000}),
        ({}, {"timeout_seconds": 7_000}, {"timeout_seconds": 7_000}),
        (
            {"TIMEOUT_SECONDS": "1800"},
            {"timeout_seconds": 7_000},
            {"timeout_seconds": 1_800},
        ),
        (
            {"JOB_MAX_SECONDS": "1800"},
            {"timeout_seconds": 7_000},
            {"timeout_seconds": 1_800},
        ),
        ({}, {"timeout_seconds": 10**9}, {"timeout_seconds": 7_200}),
        ({}, {"timeout_seconds": "soon"}, {"timeout_seconds": 1_800}),
        ({}, {"timeout_seconds": [1]}, {"timeout_seconds": 1_800}),
        ({"MODEL": "mine"}, {"model": "theirs"}, {"model": "theirs"}),
        ({"MODEL": "mine"}, {"model": "a\0b"}, {"model": "mine"}),
        ({}, {"instructions": "codex"}, {"instructions": "codex"}),
        ({}, {"instructions": "none"}, {"instructions": "own"}),
        (
            {"TIMEOUT_SECONDS": "7000"},
            {"timeout_seconds": 1_800},
            {"timeout_seconds": 1_800},
        ),
        (
            {"PROJECT_FILE": "ignore"},
            {"project_file": "base"},
            {"project_file": "ignore"},
        ),
        ({"MAX_TOKENS": "2000"}, {"max_tokens": None}, {"max_tokens": 2_000}),
        ({}, {"max_tokens": 10**4_000}, {"max_tokens": 1_000_000_000}),
    ],
)
def test_of_the_senders_settings_the_stricter_one_is_in_force(
    world: World, own: dict[str, str], sent: dict[str, Any], in_force: dict[str, Any]
) -> None:
    world.settings = own
    settings = run_pack.settings_of(Context.of(world.env, world.workspace), sent)
    assert {name: getattr(settings, name) for name in in_force} == in_force


def test_the_model_of_the_sender_is_asked(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    server = model([say("Yes.")])
    sent = {"model": "gpt-from-afar", "effort": "low"}
    run(
        context,
        DraftPack(Consult, QUESTION, draft(sender), world.base, {"settings": sent}),
    )
    assert server.requests[0].body["model"] == "gpt-from-afar"


# --- what is refused

HOSTILE = {
    "an id": {"id": "../../x"},
    "an id with a line end": {"id": ID[:-1] + "\n"},
    "a foundation": {"foundation": "../" * 10},
    "another foundation": {"foundation": "0" * 64},
    "a tool": {"tool": "codex_apply"},
    "a tool with control characters": {"tool": "\x1b[2J"},
    "a setting of the receiver": {"settings": {"read_boundary": "host"}},
    "a binary": {"settings": {"codex_bin": "/bin/sh"}},
    "a model that is an option": {"settings": {"model": "--yolo"}},
    "an endless model": {"settings": {"model": "x" * 1_000_000}},
    "an endless effort": {"settings": {"effort": "x" * 1_000_000}},
    "a pull request": {"pull": {}},
    "a state directory": {"settings": {"state_dir": "/tmp"}},
    "an unknown argument": {"request": {**QUESTION, "sandbox": "none"}},
    "a missing argument": {"request": {}},
    "a wrong argument": {"request": {"question": 7}},
    "a key": {"request": {**QUESTION, "idempotency_key": "x"}},
    "a workspace": {"request": {**QUESTION, "workspace_root": "/"}},
    "a profile of the receiver": {"request": {**QUESTION, "profile": "work"}},
    "a thread of the receiver": {"request": {**QUESTION, "session_id": ID}},
    "a further directory": {"request": {**QUESTION, "extra_roots": ["/etc"]}},
    "an image of the receiver": {"request": {**QUESTION, "images": ["/etc/x.png"]}},
    "an image that is missing": {"images": ["images/0.png"]},
    "an image elsewhere": {"images": ["../../../etc/x.png"]},
    "a directory above": {"prefix": ".."},
    "an absolute directory": {"prefix": "/etc"},
    "a directory that is a link": {"prefix": "way"},
    "a directory behind a link": {"prefix": "lib/out/x"},
    "the git directory": {"prefix": ".git"},
    "a directory below it": {"prefix": ".git/objects"},
    "a directory that is none": {"prefix": "missing"},
    "a file": {"prefix": "app.py"},
    "a directory with a NUL": {"prefix": "a\0b"},
}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_pack_that_asks_for_what_no_pack_may_is_refused_before_anything_runs(
    world: World,
    model: Model,
    sender: Repository,
    context: Context,
    words: dict[str, Any],
) -> None:
    server = model([say("Never.")])
    (sender.root / "way").symlink_to("lib")
    (sender.root / "lib/out").symlink_to("/usr")
    error = refusal(
        context, DraftPack(Consult, QUESTION, draft(sender), world.base, words)
    )
    assert error.code == Code.PACK_INVALID
    assert error.message.isprintable()
    assert server.requests == []
    assert_nothing_is_left(world)


def test_a_member_that_the_pack_does_not_name_is_refused(
    world: World, sender: Repository, context: Context
) -> None:
    pack = DraftPack(Consult, QUESTION, draft(sender), world.base)
    pack.members["images/1.png"] = RED_PIXEL
    assert refusal(context, pack).code == Code.PACK_INVALID


def test_a_text_that_is_no_unicode_is_refused(
    world: World, sender: Repository, context: Context
) -> None:
    pack = DraftPack(Consult, QUESTION, draft(sender), world.base, {"prefix": "SURROG"})
    content = pack.open().read().replace(b"SURROG", rb"\udc80")
    with pytest.raises(CounselError) as caught:
        run_pack.start(context, io.BytesIO(content), "x.pack", background=False)
    assert caught.value.code == Code.PACK_INVALID


def test_a_pack_that_was_cut_off_leaves_nothing(
    world: World, sender: Repository, context: Context
) -> None:
    whole = DraftPack(Consult, QUESTION, draft(sender), world.base).open().read()
    for length in (0, 1, 511, 512, 2_000, len(whole) - 1):
        file = world.base / "cut.pack"
        file.write_bytes(whole[:length])
        with file.open("rb") as source, pytest.raises(CounselError) as caught:
            run_pack.start(context, source, "cut.pack", background=False)
        assert caught.value.code == Code.PACK_INVALID
        assert "cut.pack" in caught.value.message
    assert list(context.directories.packs.iterdir()) == []


def test_without_a_login_the_error_says_that_a_pack_brings_none(
    world: World, sender: Repository, context: Context
) -> None:
    world.configure("")
    error = refusal(context, DraftPack(Consult, QUESTION, draft(sender), world.base))
    assert error.code == Code.AUTH_REQUIRED
    assert error.repair is not None
    assert error.repair.startswith("A pack brings no login.")


def test_a_finding_that_the_sender_has_rejected_is_told_to_the_reviewer_and_does_not_count(
    world: World, model: Model, context: Context
) -> None:
    sender = world.repository_at(world.base / "sender").begin_changed()
    server = model([say(reply({}, verdict="concerns"))])
    found = review(Counsel(world.env, sender.root))["findings"][0]
    assert found["known"] == "new"
    ledger = Ledger.of(world.state, sender.root / ".git")
    with ledger.changing() as changing:
        entry = changing.findings.entries[found["id"]]
        reason = "Seventy is meant."
        changing.put(replace(entry, state="rejected", reason=reason, by="a person"))

    foundation = draft(sender)
    foundation.members[manifest.FINDINGS] = ledger.file.read_bytes()
    asked = {"scope": "working_tree"}
    envelope = run(context, DraftPack(ReviewChanges, asked, foundation, world.base))
    assert "Seventy is meant." in server.requests[-1].prompt
    assert envelope["findings"][0]["id"] == found["id"]
    assert envelope["findings"][0]["known"] == "rejected"
    assert envelope["verdict"] == "pass"


def test_commits_that_packs_bring_at_once_reach_each_run_and_disturb_no_other(
    world: World, model: Model, sender: Repository, context: Context
) -> None:
    commits = []
    for number in range(6):
        sender.write("app.py", f"answer = {number}\n")
        commits.append(sender.commit(f"change {number}"))
    server = model(lambda _: say(reply()))
    foundation = draft(sender).write(world.base / "foundation.tar")
    packs = []
    for number, (base, head) in enumerate(pairwise(commits)):
        asked = {"scope": "range", "range": f"{base}..{head}"}
        words = {"id": f"{number:032x}", "shallow": [base]}
        pack = DraftPack(ReviewChanges, asked, foundation, world.base, words)
        ends = {"refs/heads/a": base, "refs/heads/b": head}
        pack.members[manifest.MORE_BUNDLE] = bundle(sender, ends, [base])
        packs.append(pack)

    with ThreadPoolExecutor(5) as threads:
        envelopes = list(threads.map(lambda pack: run(context, pack), packs))
    assert [envelope["verdict"] for envelope in envelopes] == ["pass"] * 5
    prompts = [request.prompt for request in server.requests]
    for number in range(5):
        change = f"-answer = {number}\n+answer = {number + 1}"
        assert len([prompt for prompt in prompts if change in prompt]) == 1
    root = repositories.repository_of(context, packs[0].about.foundation)
    there = Repository(root)
    there.git("fsck", "--strict")
    assert there.git("rev-list", "HEAD").split() == commits[::-1]
