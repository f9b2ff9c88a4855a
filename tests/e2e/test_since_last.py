"""A branch over several reviews, each sent what no earlier one saw: real Codex, real git, scripted model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Loopback, http_error, say
from codex_counsel.review.changes.since import INDEX_PREFIX
from tests.conftest import World, pick
from tests.e2e.runs import command_line
from tests.repositories import Repository
from tests.reviews import FILES, change, dry_run, material, reply, review

Model = Callable[..., Loopback]
LAST: dict[str, Any] = {"scope": "branch", "since": "last"}
SEEN = "files of the change that were seen before"

pytestmark = pytest.mark.usefixtures("own_git_settings")


def module(name: str, lines: int = 30, **changes: str) -> str:
    rows = [changes.get(f"l{n}", f"{name}_{n} = compute({n})") for n in range(lines)]
    return "".join(row + "\n" for row in rows)


def begin_branch(world: World, files: int = 3, lines: int = 30) -> Repository:
    """A branch with so many new files, in folders of ten."""
    repository = world.repository.begin()
    repository.git("checkout", "--quiet", "-b", "feature")
    for number in range(files):
        repository.write(name_of(number), module(f"m{number}", lines))
    repository.commit("Add the modules")
    return repository


def name_of(number: int) -> str:
    return f"src/part_{number // 10}/module_{number}.py"


def records(world: World) -> list[dict[str, Any]]:
    """What is on record of the reviews of the only repository."""
    files = list((world.state / "findings").glob("*/reviews.jsonl"))
    if not files:
        return []
    (file,) = files
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def test_a_push_of_a_line_costs_a_twentieth_of_the_first_review(
    world: World, model: Model
) -> None:
    repository = begin_branch(world, files=100, lines=70)
    server = model([say(reply())])
    counsel = world.counsel()
    first = review(counsel, **LAST)
    assert first["verdict"] == "pass"
    assert first["coverage"]["files"] == 100
    assert "seen" not in first["coverage"]
    assert any(
        "no review on record saw a part" in line for line in first["meta"]["warnings"]
    )

    repository.write(name_of(7), module("m7", 70, l12="m7_12 = compute(-12)"))
    head = repository.commit("Mend one line")
    previewed = dry_run(counsel, **LAST)
    second = review(counsel, **LAST)
    prompts = [request.prompt for request in server.requests]
    sent = change(prompts[1])
    assert [line for line in sent.splitlines() if line[:1] == "+"] == [
        f"+++ b/{name_of(7)}",
        "+m7_12 = compute(-12)",
    ]
    assert material(prompts[1], FILES) == (
        f"A {name_of(7)} (since the state that a review saw)"
    )
    seen = material(prompts[1], SEEN)
    assert seen is not None
    assert "src/part_0/ 9 files" in seen.splitlines()
    assert "src/part_3/ 10 files" in seen.splitlines()
    assert material(prompts[1], "commit messages") == f"{head[:12]} Mend one line"

    coverage = second["coverage"]
    assert pick(coverage, "files", "bytes", "complete") == {
        "files": 100,
        "bytes": len(sent.encode()),
        "complete": True,
    }
    assert [pick(row, "job_id", "files") for row in coverage["seen"]] == [
        {"job_id": first["meta"]["job_id"], "files": 99}
    ]
    assert second["verdict"] == "pass"
    assert second["meta"]["scope"]["since"] == "last"
    assert previewed["coverage"] == coverage
    assert previewed["data"]["since"] == {
        "files_seen": 99,
        "files_in_part": 1,
        "files_new": 0,
    }
    assert [row["path"] for row in previewed["data"]["files"]] == [name_of(7)]
    assert previewed["data"]["prompt"] in prompts[1]
    # Without what Codex itself says of the machine.
    own = [prompt.partition("</environment_context>")[2] for prompt in prompts]
    sizes = [len(prompt.encode()) for prompt in own]
    material_sizes = [wire["coverage"]["bytes"] for wire in (first, second)]
    print(f"material {material_sizes}, prompts {sizes}")
    assert 20 * material_sizes[1] <= material_sizes[0]
    assert 20 * sizes[1] <= sizes[0]


def test_when_nothing_is_new_nothing_is_spent(world: World, model: Model) -> None:
    begin_branch(world)
    server = model([say(reply())])
    counsel = world.counsel()
    job_id = review(counsel, **LAST)["meta"]["job_id"]
    with pytest.raises(CounselError) as caught:
        review(counsel, **LAST)
    assert caught.value.code is Code.NOTHING_TO_REVIEW
    assert caught.value.details == {
        "job_id": job_id,
        "files": 3,
        "head_sha": world.repository.head,
    }
    assert len(server.requests) == 1
    # All again.
    assert review(counsel, scope="branch")["coverage"]["files"] == 3
    prompts = [request.prompt for request in server.requests]
    assert change(prompts[0]) == change(prompts[1])
    assert SEEN not in prompts[1]


def test_the_command_line_says_that_nothing_is_new(world: World, model: Model) -> None:
    begin_branch(world)
    model([say(reply())])
    arguments = ("review", "--scope", "branch", "--since", "last")
    first = command_line(world, *arguments)
    assert (first.returncode, first.stdout.splitlines()[0]) == (
        0,
        "pass: no findings. Read it all.",
    )
    second = command_line(world, *arguments)
    assert second.returncode != 0
    assert "nothing_to_review: Earlier reviews saw everything" in second.stderr
    (record,) = records(world)
    assert f"codex-counsel check {record['job']}" in second.stderr
    assert "`codex-counsel result` has the result" in second.stderr


@pytest.mark.parametrize("scope", ["working_tree", "staged", "commit", "files"])
def test_other_scopes_have_no_last(world: World, model: Model, scope: str) -> None:
    begin_branch(world)
    model()
    with pytest.raises(CounselError) as caught:
        review(world.counsel(), scope=scope, since="last")
    assert caught.value.code is Code.INVALID_ARGUMENTS
    assert "branch and range" in caught.value.message


NOT_COUNTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a focus": (reply(), {"focus": "Only the names."}),
    "no verdict": (reply(verdict="unknown"), {}),
    "prose": ("It is fine.", {}),
    "a broken reply": (reply(confidence="immense"), {}),
}


@pytest.mark.parametrize(
    ("said", "arguments"), NOT_COUNTED.values(), ids=NOT_COUNTED.keys()
)
def test_a_review_that_did_not_judge_all_of_it_saw_nothing(
    world: World, model: Model, said: Any, arguments: dict[str, Any]
) -> None:
    begin_branch(world)
    server = model([say(said), say(reply())])
    review(world.counsel(), scope="branch", **arguments)
    assert records(world) == []
    review(world.counsel(), **LAST)
    prompts = [request.prompt for request in server.requests]
    assert change(prompts[0]) == change(prompts[1])


def test_a_review_that_failed_saw_nothing(world: World, model: Model) -> None:
    begin_branch(world)
    model([http_error(400, "no"), say(reply())])
    wire = review(world.counsel(), scope="branch")
    assert wire["ok"] is False
    assert records(world) == []


def test_a_review_that_found_faults_has_seen_them(world: World, model: Model) -> None:
    begin_branch(world)
    finding = {"file": name_of(1), "evidence": "m1_7 = compute(7)", "severity": "high"}
    model([say(reply(finding, verdict="fail"))])
    wire = review(world.counsel(), scope="branch")
    assert wire["verdict"] == "fail"
    (record,) = records(world)
    assert record["job"] == wire["meta"]["job_id"]
    assert sorted(row[0] for row in record["sent"]) == [name_of(n) for n in range(3)]
    assert record["base"] == "refs/heads/main"


def test_uncommitted_work_is_not_on_record(world: World, model: Model) -> None:
    begin_branch(world)
    world.repository.write("app.py", "changed = 1\n")
    model([say(reply())])
    review(world.counsel())
    review(world.counsel(), scope="files", paths=["app.py"])
    assert records(world) == []
    world.repository.git("add", ".")
    review(world.counsel(), scope="staged")
    (record,) = records(world)
    assert [row[0] for row in record["sent"]] == ["app.py"]


def test_a_change_that_does_not_fit_passes_after_all_its_parts_were_seen(
    world: World, model: Model
) -> None:
    begin_branch(world, files=20)
    world.settings["MAX_INPUT_BYTES"] = "10000"
    server = model([say(reply())])
    counsel = world.counsel()
    verdicts = []
    for _ in range(4):
        wire = review(counsel, **LAST)
        verdicts.append(wire["verdict"])
        if wire["coverage"]["complete"]:
            break
    assert verdicts[-1] == "pass"
    assert set(verdicts[:-1]) == {"unknown"}
    shown = [
        line.removeprefix("+++ b/")
        for request in server.requests
        for line in change(request.prompt).splitlines()
        if line.startswith("+++ b/")
    ]
    assert set(shown) == {name_of(n) for n in range(20)}


def test_a_record_that_cannot_be_written_costs_no_result(
    world: World, model: Model
) -> None:
    begin_branch(world)
    server = model([say(reply())])
    review(world.counsel(), scope="branch", focus="Only the names.")
    (folder,) = (world.state / "findings").iterdir()
    (folder / "reviews.jsonl").mkdir()
    for _ in range(2):
        wire = review(world.counsel(), **LAST)
        assert wire["verdict"] == "pass"
        assert any("will be sent again" in line for line in wire["meta"]["warnings"])
    prompts = [request.prompt for request in server.requests]
    assert change(prompts[1]) == change(prompts[2])


def test_without_the_ledger_nothing_is_seen_and_nothing_passes(
    world: World, model: Model
) -> None:
    """What is not sent again may have findings, which nobody can look up."""
    begin_branch(world)
    model([say(reply())])
    world.state.mkdir(exist_ok=True)
    (world.state / "findings").write_text("no directory")
    wire = review(world.counsel(), **LAST)
    assert wire["coverage"]["files"] == 3
    assert "seen" not in wire["coverage"]
    assert wire["verdict"] == "unknown"


def test_a_damaged_record_is_sent_again(world: World, model: Model) -> None:
    begin_branch(world)
    server = model([say(reply())])
    review(world.counsel(), **LAST)
    (file,) = (world.state / "findings").glob("*/reviews.jsonl")
    text = file.read_text()
    file.write_text(text[: len(text) // 2])
    review(world.counsel(), **LAST)
    prompts = [request.prompt for request in server.requests]
    assert change(prompts[0]) == change(prompts[1])
    with pytest.raises(CounselError):
        review(world.counsel(), **LAST)


def test_a_fresh_clone_at_the_same_place_knows_what_was_seen(
    world: World, model: Model
) -> None:
    """As a runner has it that keeps its state directory: what no commit has any more is gone."""
    repository = begin_branch(world)
    server = model([say(reply())])
    repository.write(name_of(1), module("m1", l3="m1_3 = 'dropped'"))
    repository.commit("will be dropped")
    review(world.counsel(), **LAST)
    repository.git("reset", "--quiet", "--soft", "main")
    repository.write(name_of(1), module("m1", l3="m1_3 = 'kept'"))
    repository.commit("squashed")
    origin = world.base / "origin"
    repository.git("clone", "--quiet", "--bare", "--no-local", ".", str(origin))
    shutil.rmtree(world.workspace)
    repository.root.mkdir()
    repository.git("clone", "--quiet", str(origin), ".")
    repository.git("checkout", "--quiet", "--detach", "origin/feature")
    repository.git("branch", "--quiet", "--delete", "--force", "feature")
    wire = review(world.counsel(), base="origin/main", **LAST)
    assert wire["coverage"]["complete"]
    (earlier,) = wire["coverage"]["seen"]
    assert earlier["files"] == 2
    sent = change(server.requests[-1].prompt)
    assert "+m1_3 = 'kept'" in sent
    # From the base on: there is nothing to begin at.
    assert "+m1_1 = compute(1)" in sent


def test_the_thread_goes_on_with_what_is_new(world: World, model: Model) -> None:
    repository = begin_branch(world)
    server = model([say(reply())])
    thread = review(world.counsel(), **LAST)["meta"]["session_id"]
    repository.write(name_of(1), module("m1", l3="m1_3 = 'new'"))
    repository.commit("second")
    review(world.counsel(), session_id=thread, **LAST)
    sent = change(server.requests[-1].prompt.rpartition("An earlier")[2])
    assert "+m1_3 = 'new'" in sent


def test_a_linked_worktree_shares_the_record(world: World, model: Model) -> None:
    repository = begin_branch(world)
    model([say(reply())])
    review(world.counsel(), **LAST)
    linked = world.base / "linked"
    repository.git("worktree", "add", "--quiet", "-b", "other", str(linked))
    with pytest.raises(CounselError) as caught:
        review(world.counsel(), base="main", workspace_root=str(linked), **LAST)
    assert caught.value.code is Code.NOTHING_TO_REVIEW


def test_the_record_is_private(world: World, model: Model) -> None:
    begin_branch(world)
    model([say(reply())])
    review(world.counsel(), **LAST)
    (file,) = (world.state / "findings").glob("*/reviews.jsonl")
    for path, mode in (
        (file, 0o600),
        (file.parent, 0o700),
        (file.parent.parent, 0o700),
    ):
        assert Path(path).stat().st_mode & 0o777 == mode


def test_the_index_that_a_killed_process_left_is_swept(world: World) -> None:
    left = world.temp / f"{INDEX_PREFIX}killed"
    left.mkdir()
    (left / "lock").touch()
    world.counsel().sweep()
    assert not left.exists()


def test_a_file_whose_finding_was_forgotten_is_sent_again(
    world: World, model: Model
) -> None:
    begin_branch(world)
    found = {"file": name_of(1), "line": 1, "evidence": "m1_0 = compute(0)"}
    server = model([say(reply(found, verdict="concerns"))])
    wire = review(world.counsel(), **LAST)
    assert command_line(world, "findings", "forget", wire["findings"][0]["id"]).stdout
    review(world.counsel(), **LAST)
    assert material(server.requests[1].prompt, FILES) == f"A {name_of(1)}"


def test_without_the_ledger_nothing_counts_as_seen(world: World, model: Model) -> None:
    begin_branch(world)
    server = model([say(reply())])
    review(world.counsel(), **LAST)
    (ledger,) = (world.state / "findings").glob("*/ledger.jsonl")
    ledger.unlink()
    wire = review(world.counsel(), **LAST)
    assert change(server.requests[0].prompt) == change(server.requests[1].prompt)
    assert wire["verdict"] == "pass"
