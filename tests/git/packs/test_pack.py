"""A request arrives with all that it needs: a review of a pack is told what a review at home is told."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    parse,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive, manifest
from codex_counsel.packs import repository as repositories
from codex_counsel.packs.foundation import MadeFoundation
from codex_counsel.packs.manifest import Pack
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.review import prepare as review
from codex_counsel.review import pull_request
from codex_counsel.review.prepare import ReviewBrief
from codex_counsel.services import pack as packing
from codex_counsel.services.pack import Packed, prepare
from tests.conftest import World
from tests.git.packs.conftest import Sender
from tests.repositories import numbered_lines

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


def pack(sender: Sender, request: RunRequest, **options: Any) -> Packed:
    request = replace(request, workspace_root=str(sender.root))
    return prepare(sender.context, request, sender.parts, **options)


def changes(**arguments: Any) -> ReviewChanges:
    return parse(ReviewChanges, arguments)


def refusal(sender: Sender, request: RunRequest) -> CounselError:
    with pytest.raises(CounselError) as caught:
        pack(sender, request)
    return caught.value


def brief(context: Context, root: Path, request: ReviewChanges) -> ReviewBrief:
    workspace = workspaces.resolve(context, str(root))
    request = replace(request, workspace_root=str(root))
    return review.prepare_changes(
        request, workspace, context, Store(context.settings.state)
    )


def received(packed: Packed, tmp_path: Path) -> tuple[Context, Path, ReviewChanges]:
    """The context, the workspace and the request on another machine."""
    world = World(tmp_path / "elsewhere")
    world.settings["GIT_TIMEOUT_SECONDS"] = "60"
    context = world.counsel(XDG_CACHE_HOME=str(world.base / "cache")).context
    file = tmp_path / "x.pack"
    packed.write(file)
    members = tmp_path / "members"
    members.mkdir()
    with file.open("rb") as source:
        about = manifest.parse(
            Pack, archive.unpack(source, "it", "pack", members), "it"
        )
    assert about == packed.pack
    digest = repositories.keep_foundation(context, members / manifest.FOUNDATION)
    assert digest == about.foundation
    more = members / manifest.MORE_BUNDLE
    if more.exists():
        repositories.add_commits(context, digest, more, about.shallow)
    root = repositories.repository_of(context, digest) / about.prefix
    context = replace(context, pull=about.pull)
    return context, root, parse(ReviewChanges, about.request)


def assert_told_the_same(
    sender: Sender, request: ReviewChanges, tmp_path: Path
) -> ReviewBrief:
    packed = pack(sender, request)
    at_home = brief(sender.context, sender.root, request)
    elsewhere = brief(*received(packed, tmp_path))
    assert elsewhere.changes
    assert at_home.changes
    assert elsewhere.changes.diff == at_home.changes.diff
    assert elsewhere.changes.commits == at_home.changes.commits
    assert elsewhere.changes.entries == at_home.changes.entries
    assert elsewhere.changes.omitted == at_home.changes.omitted
    assert elsewhere.criteria == at_home.criteria
    # Only the ends of a range are named as the caller has named them.
    named = f"the range {packed.pack.request.get('range')} "
    prompt = elsewhere.prompt.replace(named, f"the range {request.range} ")
    # The directory of a hub on this machine is named by its last part alone.
    prompt = prompt.replace("of hub ", f"of {str(tmp_path).strip('/')}/hub ")
    assert prompt == at_home.prompt
    assert elsewhere.warnings == at_home.warnings
    return elsewhere


@pytest.fixture
def history(sender: Sender) -> Sender:
    """A branch with three commits, and a main branch that went on meanwhile."""
    sender.write("AGENTS.md", "## Review rules\n\nold rules\n")
    sender.commit("the fork")
    sender.git("checkout", "-qb", "side")
    for number in (3, 5, 7):
        changed = {f"l{number}": f"changed = {number}"}
        sender.write("app.py", numbered_lines(**changed))
        sender.write(f"new-{number}.py", "x = 1\n")
        sender.commit(f"side {number}")
    sender.git("checkout", "-q", "main")
    for number in range(3):
        sender.write("AGENTS.md", f"## Review rules\n\nnewer rules {number}\n")
        sender.commit(f"main {number}")
    sender.git("checkout", "-q", "side")
    return sender


# --- what a review needs


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": "branch"},
        {"scope": "branch", "base": "main"},
        {"scope": "branch", "base": "main~2", "paths": ["app.py"]},
        {"scope": "commit"},
        {"scope": "commit", "commit": "HEAD~1"},
        {"scope": "commit", "commit": "main"},
        {"scope": "commit", "commit": "HEAD~5"},
        {"scope": "range", "range": "HEAD~2..HEAD"},
        {"scope": "range", "range": "main..side"},
        {"scope": "range", "range": "main...side"},
        {"scope": "range", "range": "side..main"},
        {"scope": "range", "range": "HEAD~4..HEAD~1"},
    ],
    ids=str,
)
def test_commits_are_reviewed_as_at_home(
    history: Sender, arguments: dict[str, Any], tmp_path: Path
) -> None:
    history.write("app.py", "uncommitted\n")

    assert_told_the_same(history, changes(**arguments), tmp_path)


@pytest.mark.parametrize("scope", ["working_tree", "staged", "files", None])
def test_uncommitted_work_is_reviewed_as_at_home(
    sender: Sender, scope: str | None, tmp_path: Path
) -> None:
    sender.write("app.py", "staged\n")
    sender.git("add", "app.py")
    sender.write("docs/readme.md", "# Other\n")
    sender.write("new.py", "x = 1\n")
    sender.write("new.pem", "hunter2\n")

    if scope != "staged":
        (sender.root / "new.pem").unlink()
    assert_told_the_same(sender, changes(scope=scope), tmp_path)


def test_the_first_commit_is_reviewed_as_at_home(empty: Sender, tmp_path: Path) -> None:
    empty.write("a", "a\n")
    empty.commit("first")

    assert_told_the_same(empty, changes(scope="commit"), tmp_path)


def test_a_merge_is_reviewed_with_the_commits_that_it_brought(
    history: Sender, tmp_path: Path
) -> None:
    history.git("merge", "--quiet", "--no-edit", "main")

    told = assert_told_the_same(history, changes(scope="commit"), tmp_path)

    assert told.changes
    assert len(told.changes.commits) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope": "branch", "base": "main"},
        {"scope": "range", "range": "main..side"},
        {"scope": "range", "range": "side..main"},
        {"scope": "commit"},
    ],
    ids=str,
)
def test_a_history_with_merges_from_everywhere_is_reviewed_as_at_home(
    history: Sender, arguments: dict[str, Any], tmp_path: Path
) -> None:
    history.git("checkout", "-q", "-b", "old", "main~5")
    history.write("old.py", "x\n")
    history.commit("from long ago")
    history.git("checkout", "-q", "side")
    history.git("merge", "-q", "--no-edit", "old")
    history.git("merge", "-q", "--no-edit", "main~1")
    history.git("checkout", "-q", "main")
    history.git("merge", "-q", "--no-edit", "side~2")
    history.write("main.py", "x\n")
    history.commit("on main")
    history.git("merge", "-q", "--no-edit", "old")
    history.git("checkout", "-q", "side")
    history.write("side.py", "x\n")
    history.commit("on side")

    assert_told_the_same(history, changes(**arguments), tmp_path)


def test_a_range_of_unrelated_histories_is_reviewed_as_at_home(
    history: Sender, tmp_path: Path
) -> None:
    history.git("checkout", "-q", "--orphan", "alone")
    history.write("app.py", "alone\n")
    history.commit("alone")

    assert_told_the_same(history, changes(scope="range", range="main..alone"), tmp_path)


def test_history_below_what_is_reviewed_does_not_travel(
    history: Sender, tmp_path: Path
) -> None:
    packed = pack(history, changes(scope="branch", base="main"))

    _, root, request = received(packed, tmp_path)

    reached = Sender(root).git("rev-list", "HEAD", str(request.base)).splitlines()
    assert len(reached) == 3 + 3 + 1
    assert request.base == history.git("rev-parse", "main")


def test_a_shallow_clone_sends_what_it_has(history: Sender, tmp_path: Path) -> None:
    clone = Sender(tmp_path / "clone", history.env, history.world)
    history.git("clone", "-q", "--depth=3", f"file://{history.root}", str(clone.root))

    assert_told_the_same(clone, changes(scope="range", range="HEAD~2..HEAD"), tmp_path)


def test_a_partial_clone_is_told_what_fetches_all_that_a_pack_needs(
    history: Sender, tmp_path: Path
) -> None:
    history.git("config", "uploadpack.allowFilter", "true")
    clone = Sender(tmp_path / "clone", history.env, history.world)
    source = f"file://{history.root}"
    history.git("clone", "-q", "--filter=blob:none", source, str(clone.root))
    request = changes(scope="commit", commit="HEAD~1")

    with pytest.raises(CounselError) as caught:
        pack(clone, request)

    assert caught.value.code == Code.WORKSPACE_INVALID
    assert caught.value.repair
    command = "git fetch --refetch --no-filter"
    assert command in caught.value.repair
    clone.git(*command.split()[1:])
    assert pack(clone, request).further_commits


def test_names_travel_as_ids(history: Sender) -> None:
    history.git("tag", "v1", "HEAD~1")

    assert pack(history, changes(scope="commit", commit="v1")).pack.request == {
        "scope": "commit",
        "commit": history.git("rev-parse", "v1"),
    }


def test_the_default_base_is_chosen_here(history: Sender) -> None:
    packed = pack(history, changes(scope="branch"))

    assert packed.pack.request["base"] == history.git("rev-parse", "main")


def test_the_scope_of_the_project_file_is_chosen_here(history: Sender) -> None:
    history.git("checkout", "-q", "main")
    history.write(".codex-counsel.toml", '[review]\nscope = "branch"\n')
    history.commit()
    history.git("checkout", "-q", "side")

    assert pack(history, changes()).pack.request["scope"] == "branch"


def test_a_pack_is_of_the_commit_of_its_foundation_though_the_user_has_gone_on(
    history: Sender, tmp_path: Path
) -> None:
    request = changes(scope="branch", base="main")
    before = brief(history.context, history.root, request)
    made = pack(history, request).foundation
    history.write("later.py", "x = 1\n")
    history.commit("later")

    packed = pack(history, request, foundation=made)

    elsewhere = brief(*received(packed, tmp_path))
    assert elsewhere.prompt == before.prompt


def test_the_default_commit_is_that_of_the_foundation(history: Sender) -> None:
    made = pack(history, changes(scope="commit")).foundation
    head = history.head
    history.commit("later")

    packed = pack(history, changes(scope="commit"), foundation=made)

    assert packed.pack.request["commit"] == head


@pytest.fixture
def with_pull_request(history: Sender, tmp_path: Path) -> Sender:
    """A clone whose remote has pull request 7, made from its main branch as it was earlier."""
    hub = tmp_path / "hub.git"
    history.git("clone", "-q", "--bare", str(history.root), str(hub))
    history.git("--git-dir", str(hub), "symbolic-ref", "HEAD", "refs/heads/main")
    history.git("push", "-q", str(hub), "side:refs/pull/7/head", ":side")
    clone = Sender(tmp_path / "clone", history.env, history.world)
    history.git("clone", "-q", f"file://{hub}", str(clone.root))
    return clone


def test_a_pull_request_is_reviewed_as_at_home_without_a_hub(
    with_pull_request: Sender, tmp_path: Path
) -> None:
    told = assert_told_the_same(with_pull_request, changes(pr="7"), tmp_path)

    assert told.scope
    assert told.scope["kind"] == "pull_request"
    assert told.scope["number"] == 7
    assert told.changes
    assert len(told.changes.commits) == 3


def test_the_address_of_the_remote_does_not_travel(
    with_pull_request: Sender, tmp_path: Path
) -> None:
    packed = pack(with_pull_request, changes(pr="7", base="main"))

    text = json.dumps(manifest.to_json(packed.pack))
    assert packed.pack.request == {"pr": "7"}
    assert packed.pack.pull
    assert packed.pack.pull["base"] == "refs/heads/main"
    assert "remote" not in packed.pack.pull
    assert packed.pack.pull["project"] == "hub"
    assert str(tmp_path).strip("/") not in text


@pytest.mark.parametrize(
    "damage",
    [
        {"hub": "evil"},
        {"number": 0},
        {"number": True},
        {"base": "main"},
        {"base": "refs/heads/-x"},
        {"base": "refs/heads/../x"},
        {"base_sha": "HEAD"},
        {"head_sha": "--output=x"},
        {"merge_base": ""},
        {"project": "x" * 5000},
        {"details": "text"},
        {"warnings": [7]},
    ],
    ids=str,
)
def test_a_damaged_pull_request_is_refused(
    sender: Sender, damage: dict[str, Any]
) -> None:
    sha = "a" * 40
    whole = {
        "hub": "github",
        "host": "github.com",
        "project": "o/r",
        "number": 7,
        "base": "refs/heads/main",
        "base_sha": sha,
        "head_sha": sha,
        "merge_base": sha,
    }
    assert pull_request.from_json(whole, sender.repo()).pull.number == 7

    with pytest.raises(CounselError) as caught:
        pull_request.from_json({**whole, **damage}, sender.repo())

    assert caught.value.code == Code.PACK_INVALID


def test_the_texts_of_a_pull_request_are_cleaned_again(sender: Sender) -> None:
    sha = "a" * 40
    sent = {
        "hub": "github",
        "host": "",
        "project": "o/r",
        "number": 7,
        "base": "refs/heads/main",
        "base_sha": sha,
        "head_sha": sha,
        "merge_base": sha,
        "details": {"title": "\x1b[2Jevil", "body": "x" * 50_000},
        "warnings": ["\x1b[2J"] * 100,
    }

    pull = pull_request.from_json(sent, sender.repo())

    assert "\x1b" not in pull.details.as_text() + "".join(pull.warnings)
    assert len(pull.details.body) <= 20_000
    assert len(pull.warnings) == 20


# --- what else travels


def test_a_request_travels_with_the_arguments_that_its_caller_named(
    sender: Sender,
) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    request = parse(
        Consult,
        {
            "question": "Why?",
            "extra_context": "because",
            "web_search": True,
            "timeout_seconds": 60,
            "max_tokens": 5000,
            "output_schema": schema,
            "idempotency_key": "key",
        },
    )

    packed = pack(sender, request)

    assert packed.pack.tool == "codex_consult"
    assert packed.pack.request == {
        "question": "Why?",
        "extra_context": "because",
        "web_search": True,
        "timeout_seconds": 60,
        "max_tokens": 5000,
        "output_schema": schema,
    }
    assert parse(Consult, packed.pack.request) == replace(request, idempotency_key=None)


def test_images_and_the_text_of_a_plan_travel(sender: Sender) -> None:
    sender.write("shot.png", PNG)
    sender.write("photo.webp", b"RIFF0000WEBP")
    sender.write("plan.md", "1. do it\n")
    images = [str(sender.root / "shot.png"), str(sender.root / "photo.webp")]

    packed = pack(sender, parse(Delegate, {"task": "Do it.", "images": images}))
    plan = pack(sender, parse(ReviewPlan, {"plan_path": str(sender.root / "plan.md")}))

    assert packed.pack.images == ["images/0.png", "images/1.webp"]
    assert [member.content for member in packed.members] == [PNG, b"RIFF0000WEBP"]
    assert "images" not in packed.pack.request
    assert plan.pack.request == {"plan": "1. do it\n"}


def test_the_workspace_is_named_from_the_top_of_the_repository(
    sender: Sender, tmp_path: Path
) -> None:
    sender.write("docs/readme.md", "# Other\n")
    request = changes(
        scope="files",
        paths=[str(sender.root / "docs/readme.md"), "../app.py"],
        workspace_root=str(sender.root / "docs"),
    )

    packed = prepare(sender.context, request, sender.parts)

    assert packed.pack.prefix == "docs"
    assert packed.pack.request["paths"] == ["readme.md", "../app.py"]
    told = brief(*received(packed, tmp_path))
    assert told.changes
    assert {file.path for file in told.changes.entries} == {
        "docs/readme.md",
        "app.py",
    }


def test_settings_that_say_what_is_asked_travel_and_no_others(sender: Sender) -> None:
    assert sender.world
    sender.world.settings.update(
        MODEL="some-model",
        JOB_MAX_SECONDS="600",
        MAX_PROOFS="5",
        READ_BOUNDARY="host",
        MAX_RUNNING="7",
        CHECK_SECONDS="no number",
    )

    packed = pack(sender, Consult(question="Why?"))

    assert packed.pack.settings == {
        "model": "some-model",
        "timeout_seconds": 600,
        "max_proofs": 5,
        "check_seconds": 600,
    }


def test_nothing_of_the_sender_is_in_a_pack(sender: Sender, tmp_path: Path) -> None:
    assert sender.world
    sender.world.settings["MODEL"] = "some-model"
    sender.world.codex_home.joinpath("auth.json").write_text('{"token": "hunter2"}')
    sender.write("app.py", "x\n")
    sender.write("plan.md", "do it\n")
    request = changes(
        scope="working_tree",
        plan_path=str(sender.root / "plan.md"),
        paths=[str(sender.root / "app.py")],
    )

    packed = pack(sender, request)
    file = tmp_path / "x.pack"
    packed.write(file)

    data = file.read_bytes()
    for path in (sender.world.base, sender.root, Path.home(), "hunter2", "/tmp/"):
        assert os.fsencode(path) not in data


def test_a_pack_without_its_foundation_is_small_and_has_the_same_manifest(
    sender: Sender, tmp_path: Path
) -> None:
    packed = pack(sender, Consult(question="Why?"))

    about = archive.unpack(io.BytesIO(packed.head()), "it", "pack", tmp_path / "x")

    assert manifest.parse(Pack, about, "it") == packed.pack
    assert len(packed.head()) < 5_000
    assert b"".join(packed.chunks()) != packed.head()


def test_with_a_foundation_no_git_is_run_for_a_request_that_needs_no_commits(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.write("app.py", "x\n")
    made = pack(sender, Consult(question="Why?")).foundation
    monkeypatch.setenv("PATH", "/nonexistent")
    assert sender.world
    monkeypatch.setattr(World, "env", {**sender.world.env, "PATH": "/nonexistent"})

    for request in (
        Consult(question="Why?"),
        Delegate(task="Do it."),
        ReviewPlan(plan="a plan"),
        changes(scope="files", paths=["app.py"]),
        changes(scope="working_tree"),
    ):
        assert pack(sender, request, foundation=made).pack.foundation == made.digest


def test_each_pack_has_an_id_of_its_own_unless_it_is_given_one(sender: Sender) -> None:
    question = Consult(question="Why?")
    made = pack(sender, question).foundation

    ids = {pack(sender, question, foundation=made).pack.id for _ in range(3)}

    assert len(ids) == 3
    assert pack(sender, question, pack_id="a" * 32).pack.id == "a" * 32


def test_a_foundation_that_is_found_again_is_the_same(sender: Sender) -> None:
    sender.write("docs/readme.md", "# Other\n")
    sender.write("\udcff/new", "x\n")
    made = pack(sender, Consult(question="Why?")).foundation

    noted = json.loads(json.dumps(made.to_json()))

    assert MadeFoundation.from_json(noted, made.path) == made
    assert made.folders == ("docs", "\udcff")


@pytest.mark.parametrize("missing", ["about", "digest", "has_work", "folders"])
def test_an_incomplete_note_of_a_foundation_is_none(
    sender: Sender, missing: str
) -> None:
    made = pack(sender, Consult(question="Why?")).foundation
    noted = made.to_json()
    del noted[missing]

    with pytest.raises(ValueError, match=missing):
        MadeFoundation.from_json(noted, made.path)


# --- what is refused


@pytest.mark.parametrize("scope", ["files", "working_tree", "staged"])
def test_a_path_that_names_nothing_is_said_before_it_travels(
    sender: Sender, scope: str
) -> None:
    sender.write("app.py", "x\n")
    sender.git("add", "app.py")
    (sender.root / "docs/readme.md").unlink()
    made = pack(sender, changes(scope=scope, paths=["app.py", "docs"])).foundation
    typo = changes(scope=scope, paths=["app.py", "ap.py"])

    with pytest.raises(CounselError) as caught:
        pack(sender, typo)

    assert caught.value.code == Code.INVALID_ARGUMENTS
    assert caught.value.message == "No file matches ap.py."
    # The file may have been there when the foundation was made.
    assert pack(sender, typo, foundation=made).pack.request["paths"]


@pytest.mark.parametrize("name", ["ignored", "secret", "empty", "deleted"])
def test_a_workspace_without_files_that_travel_is_refused(
    sender: Sender, name: str
) -> None:
    sender.write("deleted/file", "x\n")
    sender.write(".gitignore", "ignored/\n")
    sender.commit()
    (sender.root / "deleted/file").unlink()
    sender.write("ignored/file", "x\n")
    sender.write("secret/.env", "hunter2\n")
    (sender.root / "empty").mkdir()
    question = Consult(question="Why?", workspace_root=str(sender.root / name))

    with pytest.raises(CounselError) as caught:
        prepare(sender.context, question, sender.parts)

    assert caught.value.code == Code.WORKSPACE_INVALID
    assert f"/{name} has no file that travels" in caught.value.message


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (
            Consult(question="Why?", session_id="019a0000-0000-7000-8000-000000000000"),
            "session_id",
        ),
        (Consult(question="Why?", profile="work"), "profile"),
        (Consult(question="Why?", extra_roots=("/usr",)), "extra_roots"),
        (Delegate(task="x", from_job="a" * 32), "from_job"),
        (ReviewChanges(scope="branch", since="last"), "since"),
    ],
)
def test_what_stays_on_this_machine_is_refused_by_name(
    sender: Sender, request_: RunRequest, name: str
) -> None:
    error = refusal(sender, request_)

    assert error.code == Code.INVALID_ARGUMENTS
    assert error.message.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"scope": "branch", "base": "nowhere"}, Code.UNKNOWN_REF),
        ({"scope": "commit", "commit": "nowhere"}, Code.UNKNOWN_REF),
        ({"scope": "range", "range": "a..b"}, Code.UNKNOWN_REF),
        ({"scope": "range"}, Code.INVALID_ARGUMENTS),
        ({"scope": "staged", "base": "main"}, Code.INVALID_ARGUMENTS),
        ({"scope": "working_tree"}, Code.NOTHING_TO_REVIEW),
        ({"scope": "staged"}, Code.NOTHING_TO_REVIEW),
        ({}, Code.NOTHING_TO_REVIEW),
        ({"scope": "range", "range": "HEAD..HEAD"}, Code.NOTHING_TO_REVIEW),
        ({"scope": "commit", "paths": ["docs"]}, Code.NOTHING_TO_REVIEW),
        ({"scope": "files", "paths": ["../x"]}, Code.INVALID_ARGUMENTS),
        ({"scope": "files", "paths": ["/etc/passwd"]}, Code.INVALID_ARGUMENTS),
        ({"pr": "7"}, Code.INVALID_ARGUMENTS),
    ],
    ids=str,
)
def test_what_is_surely_wrong_is_said_here(
    sender: Sender, arguments: dict[str, Any], code: Code
) -> None:
    sender.write("app.py", "another\n")
    sender.commit()

    assert refusal(sender, changes(**arguments)).code == code


def test_only_secret_changes_are_named_as_the_reason_why_nothing_travels(
    sender: Sender,
) -> None:
    sender.write(".env", "TOKEN=hunter2\n")

    error = refusal(sender, changes(scope="working_tree"))

    assert error.code == Code.NOTHING_TO_REVIEW
    assert ".env (secret_file)" in error.message


def test_a_directory_outside_git_is_refused(world: World) -> None:
    request = Consult(question="Why?")

    with pytest.raises(CounselError) as caught:
        prepare(world.counsel().context, request, world.temp)

    assert caught.value.code == Code.NOT_A_GIT_REPO


def test_nothing_is_left_of_a_pack_that_is_refused(sender: Sender) -> None:
    request = replace(changes(scope="staged"), workspace_root=str(sender.root))

    with pytest.raises(CounselError), packing.packed(sender.context, request):
        pass

    temporary = sender.root.parent / "tmp"
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one(sender: Sender) -> None:
    left = sender.root.parent / "tmp" / f"{packing.PREFIX_OF_SCRATCH}dead"
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    (left / "foundation.tar").write_text("half of it")
    request = Consult(question="Why?", workspace_root=str(sender.root))

    with packing.packed(sender.context, request):
        assert not left.exists()
