"""The verb `pack`: it writes one file, says what is in it and what is not, and runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.packs import archive, manifest
from codex_counsel.packs.manifest import Pack
from codex_counsel.packs.sent import read_sent
from tests.conftest import World
from tests.git.delegate.states import state


@dataclass
class Ended:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def pack(world: World, *arguments: str, stdin: bytes = b"") -> Ended:
    argv = [sys.executable, "-m", "codex_counsel", "pack", *arguments]
    ended = subprocess.run(
        argv,
        env=world.env,
        cwd=world.workspace,
        input=stdin,
        capture_output=True,
        timeout=90,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr.decode())


def read(file: Path, into: Path) -> Pack:
    into.mkdir()
    with file.open("rb") as source:
        return manifest.parse(Pack, archive.unpack(source, "it", "pack", into), "it")


@pytest.fixture
def file(world: World) -> Path:
    world.repository.begin_with_work()
    return world.base / "x.pack"


def test_a_question_is_written_with_the_repository_as_it_is(
    world: World, file: Path
) -> None:
    before = state(world.workspace)

    ended = pack(world, "consult", "Why so?", "-o", str(file), "--text-only")

    assert ended.code == 0
    assert ended.text.startswith(f"{file}: {file.stat().st_size:,} bytes; commit ")
    assert ended.text.rstrip().endswith(" with staged and unstaged changes")
    assert f"codex-counsel run {file} -o RESULT" in ended.err
    sent = read(file, world.base / "into")
    assert sent.request == {"question": "Why so?", "text_only": True}
    assert (world.base / "into" / manifest.FOUNDATION).exists()
    assert state(world.workspace) == before
    assert list(world.temp.iterdir()) == []
    assert file.stat().st_mode & 0o777 == 0o600


def test_this_machine_remembers_where_a_pack_was_made(world: World, file: Path) -> None:
    ended = pack(
        world, "delegate", "Do it.", "-o", str(file), "--idempotency-key", "k", "--json"
    )

    sent = read_sent(world.state, ended.json["data"]["id"])

    assert sent
    assert sent.tool == "codex_delegate"
    assert sent.workspace == str(world.workspace)
    assert (sent.subject, sent.key) == ("Do it.", "k")


def test_what_does_not_travel_is_named(world: World, file: Path) -> None:
    world.repository.write(".env", "TOKEN=hunter2\n")

    ended = pack(world, "consult", "Why?", "-o", str(file))
    as_json = pack(world, "consult", "Why?", "-o", str(file), "--json").json

    assert "not in the pack: .env (secret_file)" in ended.text
    assert as_json["data"]["omitted"] == [{"path": ".env", "reason": "secret_file"}]
    assert "hunter2" not in ended.text + ended.err
    assert b"hunter2" not in file.read_bytes()


def test_files_in_conflict_are_named_as_packed(world: World, file: Path) -> None:
    repository = world.repository
    repository.commit("all")
    repository.git("checkout", "-qb", "other")
    repository.write("app.py", "theirs\n")
    repository.commit("theirs")
    repository.git("checkout", "-q", "main")
    repository.write("app.py", "ours\n")
    repository.commit("ours")
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "other")

    ended = pack(world, "consult", "Why?", "-o", str(file))

    assert "in conflict, packed as they are on disk: app.py" in ended.text
    assert "not in the pack" not in ended.text


def test_packing_twice_into_the_project_packs_the_same_repository(
    world: World,
) -> None:
    world.repository.begin()
    told = []
    for name in ("x.pack", "x.pack", "y.pack"):
        ended = pack(world, "consult", "Why?", "-o", name, "--json")
        told.append(ended.json["data"])

    assert len({data["foundation"] for data in told}) == 1
    assert not any(data["working_tree"] for data in told)


def test_a_review_says_how_many_further_commits_travel(
    world: World, file: Path
) -> None:
    world.repository.commit("second")

    ended = pack(world, "review", "--scope", "commit", "-o", str(file))

    assert ended.text.rstrip().endswith("; further commits: 1")


def test_question_task_plan_and_schema_are_read_as_without_pack(
    world: World, file: Path
) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    (world.base / "schema.json").write_text(json.dumps(schema))
    (world.base / "more.txt").write_text("more")
    given = ["--output-schema", str(world.base / "schema.json")]
    given += ["--context-file", str(world.base / "more.txt")]

    assert pack(world, "consult", "-o", str(file), *given, stdin=b"Why?").code == 0
    question = read(file, world.base / "1").request
    assert pack(world, "plan", "-", "-o", str(file), stdin=b"1. do it").code == 0
    plan = read(file, world.base / "2").request
    assert pack(world, "delegate", "-o", str(file), "-", stdin=b"Do it").code == 0
    task = read(file, world.base / "3").request

    assert question == {
        "question": "Why?",
        "extra_context": "more",
        "output_schema": schema,
    }
    assert plan == {"plan": "1. do it"}
    assert task == {"task": "Do it"}


def test_standard_output_gets_the_pack_and_nothing_else(
    world: World, file: Path
) -> None:
    ended = pack(world, "consult", "Why?", "-o", "-")

    assert ended.code == 0
    file.write_bytes(ended.out)
    assert read(file, world.base / "into").request == {"question": "Why?"}
    assert ended.err.startswith("standard output: ")


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1"])
def test_another_name_of_standard_output_is_standard_output(
    world: World, file: Path, name: str
) -> None:
    ended = pack(world, "consult", "Why?", "-o", name)

    assert ended.code == 0
    file.write_bytes(ended.out)
    assert read(file, world.base / "into").request == {"question": "Why?"}


def test_a_pipe_is_written_and_not_replaced(world: World, file: Path) -> None:
    os.mkfifo(file)
    copy = world.base / "copy.pack"
    with copy.open("wb") as target:
        reader = subprocess.Popen(["cat", str(file)], stdout=target)
        ended = pack(world, "consult", "Why?", "-o", str(file))
        assert reader.wait(60) == 0

    assert ended.code == 0
    assert file.is_fifo()
    assert read(copy, world.base / "into").request == {"question": "Why?"}


def test_a_pipe_without_a_name_is_written(world: World, file: Path) -> None:
    """As a shell makes it of `-o >(command)`."""
    reader, writer = os.pipe()
    argv = [sys.executable, "-m", "codex_counsel", "pack", "consult", "Why?"]
    with file.open("wb") as copy:
        copying = subprocess.Popen(["cat"], stdin=reader, stdout=copy)
    subprocess.run(
        [*argv, "-o", f"/dev/fd/{writer}"],
        env=world.env,
        cwd=world.workspace,
        pass_fds=[writer],
        check=True,
        capture_output=True,
    )
    os.close(reader)
    os.close(writer)

    assert copying.wait(60) == 0
    assert read(file, world.base / "into").request == {"question": "Why?"}


def test_the_command_to_run_a_pack_can_be_copied(world: World, file: Path) -> None:
    name = str(world.base / "my pack")

    ended = pack(world, "consult", "Why?", "--network", "-o", name)

    assert f"codex-counsel run '{name}' -o RESULT --network" in ended.err


def test_a_file_is_replaced_in_one_step_and_a_link_is_written_through(
    world: World, file: Path
) -> None:
    file.write_text("an older one")
    link = world.base / "link"
    link.symlink_to(file)

    assert pack(world, "consult", "Why?", "-o", str(link)).code == 0

    assert link.is_symlink()
    assert read(file, world.base / "into").request == {"question": "Why?"}


def test_a_pack_that_fails_leaves_the_file_as_it_was(world: World, file: Path) -> None:
    file.write_text("an older one")

    ended = pack(
        world, "review", "--scope", "branch", "--base", "none", "-o", str(file)
    )

    assert ended.code == 2
    assert "unknown_ref" in ended.err
    assert file.read_text() == "an older one"
    assert not (world.state / "sent").exists()
    assert list(world.temp.iterdir()) == []


def test_a_device_is_written_and_not_replaced(world: World, file: Path) -> None:
    ended = pack(world, "consult", "Why?", "-o", "/dev/full")

    assert "storage_failed: /dev/full cannot be written" in ended.err
    assert "what to do: Make room there" in ended.err
    assert Path("/dev/full").is_char_device()
    assert pack(world, "consult", "Why?", "-o", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("target", ["missing/x.pack", "."])
def test_what_cannot_be_written_is_said_before_anything_is_packed(
    world: World, file: Path, target: str
) -> None:
    ended = pack(world, "consult", "Why?", "-o", target)

    assert ended.code == 2
    assert f"-o: {target} cannot be written" in ended.err


def test_json_and_the_pack_do_not_share_standard_output(
    world: World, file: Path
) -> None:
    ended = pack(world, "consult", "Why?", "-o", "-", "--json")

    assert ended.code == 2
    assert b"manifest.json" not in ended.out


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("consult", "Why?", "--extra-root", "/usr"), "extra_roots"),
        (("review", "--scope", "branch", "--since", "last"), "since"),
        (
            ("delegate", "x", "--session-id", "019a0000-0000-7000-8000-000000000000"),
            "session_id",
        ),
    ],
)
def test_what_stays_on_this_machine_is_refused_with_the_reason(
    world: World, file: Path, arguments: tuple[str, ...], name: str
) -> None:
    ended = pack(world, *arguments, "-o", str(file))

    assert ended.code == 2
    assert "invalid_arguments: " in ended.err
    assert not file.exists()


def test_no_codex_and_no_login_are_needed_to_pack(world: World, file: Path) -> None:
    world.binary = "/nonexistent/codex"

    assert pack(world, "consult", "Why?", "-o", str(file)).code == 0
