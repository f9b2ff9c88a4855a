"""What a user has in front of them arrives on another machine: commit, index and working tree, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.packs import foundation, manifest
from codex_counsel.prepare.context import Context
from tests.conftest import World
from tests.git.delegate.states import files
from tests.git.packs import small_disk
from tests.git.packs.conftest import Sender, status
from tests.repositories import write


def assert_arrives(sender: Sender, *but: bytes) -> None:
    """HEAD, index and working tree are the same; those files that are named are left out."""
    received = sender.receive()
    assert received.head == sender.head
    assert received.git("diff", "--cached", "--raw") == sender.git(
        "diff", "--cached", "--raw"
    )
    expected = files(sender.root)
    found = files(received.root)
    assert found == {name: expected[name] for name in expected if name not in but}


def test_a_clean_repository_is_its_commit_alone(sender: Sender) -> None:
    made = sender.make()

    assert_arrives(sender)
    with tarfile.open(made.path) as tar:
        assert tar.getnames() == ["manifest.json", manifest.HEAD_BUNDLE]
    assert (made.has_staged, made.has_work) == (False, False)


def test_the_commit_comes_without_its_history(sender: Sender) -> None:
    received = sender.receive()

    assert received.git("rev-list", "HEAD").splitlines() == [sender.head]
    assert received.about.shallow == [sender.head]
    assert received.about.branch == "main"
    assert received.about.omitted == []


def test_a_first_commit_is_cut_off_nowhere(empty: Sender) -> None:
    empty.write("a", "a\n")
    empty.commit("parent none\n\nparent 0123")

    received = empty.receive()

    assert received.about.shallow == []
    assert (received.root / "a").read_text() == "a\n"


def test_every_kind_of_uncommitted_work_arrives(sender: Sender) -> None:
    sender.write("staged.txt", "staged\n")
    sender.write("app.py", "staged first\n")
    sender.git("add", "staged.txt", "app.py")
    sender.write("app.py", "then changed again\n")
    (sender.root / "docs/readme.md").unlink()
    sender.git("mv", "logo.png", "docs/logo.png")
    sender.write("docs/logo.png", b"\0\xff binary")
    sender.write("run.sh", "#!/bin/sh\necho\n", 0o644)
    sender.write("untracked/deep/file", "mine\n")
    sender.write("untracked/tool", "x", 0o755)
    sender.write("empty", "")
    sender.write("no-newline", "end")
    sender.write("mixed.txt", b"a\r\nb\n\x0c\xff\xfe")
    (sender.root / "untracked/link").symlink_to("/etc/passwd")
    (sender.root / "latest").unlink()
    (sender.root / "latest").symlink_to("app.py")

    assert_arrives(sender)


def test_only_staged_work_makes_no_patch_of_the_working_tree(sender: Sender) -> None:
    sender.write("app.py", "staged\n")
    sender.git("add", "app.py")

    made = sender.make()

    assert (made.has_staged, made.has_work) == (True, False)
    assert status(sender.receive(made)) == ["M  app.py"]


def test_what_is_staged_and_taken_back_on_disk_arrives_as_both(sender: Sender) -> None:
    before = (sender.root / "app.py").read_text()
    sender.write("app.py", "staged\n")
    sender.git("rm", "--cached", "-q", "run.sh")
    sender.git("add", "app.py")
    sender.write("app.py", before)

    assert status(sender.receive()) == ["MM app.py", "D  run.sh", "?? run.sh"]
    assert_arrives(sender)


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9",
        b"new\nline",
        b'quo"te',
        b"back\\slash",
        b"tab\there",
        b" blank ",
        b"-dash",
        b":colon",
        b"*star",
        "ü".encode(),
    ],
)
def test_a_name_of_any_bytes_arrives(sender: Sender, name: bytes) -> None:
    sender.write(b"folder " + name + b"/" + name, "tracked\n")
    sender.commit()
    sender.write(b"folder " + name + b"/" + name, "changed\n")
    sender.write(name, "staged\n")
    sender.git("add", "-A")
    sender.write(name + b"2", "untracked\n")

    assert_arrives(sender)


def test_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_arrive(
    sender: Sender,
) -> None:
    (sender.root / "app.py").unlink()
    sender.write("app.py/inner", "x\n")
    (sender.root / "docs/readme.md").unlink()
    (sender.root / "docs").rmdir()
    sender.write("docs", "now a file\n")

    assert_arrives(sender)

    sender.git("add", "-A")
    assert_arrives(sender)


def test_a_link_in_place_of_a_file_arrives_as_a_link(sender: Sender) -> None:
    (sender.root / "app.py").unlink()
    (sender.root / "app.py").symlink_to("/etc/passwd")

    assert_arrives(sender)


def test_a_file_that_was_announced_alone_arrives_as_untracked(sender: Sender) -> None:
    sender.write("new.py", "x = 1\n")
    sender.git("add", "--intent-to-add", "new.py")

    received = sender.receive()

    assert status(received) == ["?? new.py"]
    assert (received.root / "new.py").read_text() == "x = 1\n"


@pytest.mark.parametrize("setting", ["attributes", "autocrlf"])
def test_files_arrive_with_the_line_ends_that_they_have_on_disk(
    sender: Sender, setting: str
) -> None:
    if setting == "attributes":
        sender.write(".gitattributes", "* text=auto\n*.bat text eol=crlf\n")
    else:
        sender.git("config", "core.autocrlf", "true")
    sender.write("x.bat", b"one\r\ntwo\r\n")
    sender.write("plain.txt", "one\n")
    sender.commit()
    sender.git("rm", "-q", "--cached", "x.bat", "plain.txt")
    sender.git("reset", "-q", "--hard")

    received = sender.receive()

    expected = {name: entry[1] for name, entry in files(sender.root).items()}
    assert {name: entry[1] for name, entry in files(received.root).items()} == expected
    assert b"\r\n" in expected[b"x.bat"]


def test_files_that_attributes_might_convert_are_not_copied_where_they_are_the_same(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender.write(".gitattributes", "* text=auto\n")
    sender.commit()

    def refuse(*_: object) -> None:
        raise AssertionError("a working tree was made")

    monkeypatch.setattr(Shadow, "create", refuse)

    assert not sender.make().has_work


def test_modes_of_a_file_system_without_modes_do_not_travel(sender: Sender) -> None:
    sender.git("config", "core.fileMode", "false")
    (sender.root / "app.py").chmod(0o755)
    sender.write("docs/readme.md", "# Changed\n", 0o755)

    received = sender.receive()

    assert status(received) == [" M docs/readme.md"]
    assert not os.access(received.root / "docs/readme.md", os.X_OK)


def test_no_secret_file_travels_but_as_it_was_committed(sender: Sender) -> None:
    sender.write(".env", "TOKEN=committed\n")
    sender.write("id_rsa", "committed key\n")
    sender.commit()
    sender.write(".env", "TOKEN=hunter2-staged\n")
    sender.write("server.pem", "hunter2-new\n")
    sender.git("add", "-f", ".env", "server.pem")
    sender.write("id_rsa", "hunter2-unstaged\n")
    sender.write("sub/.env.production", "hunter2-untracked\n")

    made = sender.make()
    received = sender.receive(made)

    assert (received.root / ".env").read_text() == "TOKEN=committed\n"
    assert status(received) == []
    assert {tuple(row) for row in made.about.omitted} == {
        (".env", "secret_file"),
        ("server.pem", "secret_file"),
        ("id_rsa", "secret_file"),
        ("sub/.env.production", "secret_file"),
    }
    assert all(
        b"hunter2" not in path.read_bytes()
        for path in (received.root.parent).rglob("*")
        if path.is_file()
    )


def test_files_in_conflict_arrive_as_they_are_on_disk(sender: Sender) -> None:
    sender.git("checkout", "-qb", "other")
    sender.write("app.py", "theirs\n")
    sender.commit()
    sender.git("checkout", "-q", "main")
    sender.write("app.py", "ours\n")
    sender.commit()
    with pytest.raises(Exception, match="merge"):
        sender.git("merge", "other")

    made = sender.make()
    received = sender.receive(made)

    assert "<<<<<<<" in (received.root / "app.py").read_text()
    assert status(received) == [" M app.py"]
    assert ["app.py", "unmerged"] in made.about.omitted


def test_files_of_submodules_do_not_travel(sender: Sender, tmp_path: Path) -> None:
    inner = Sender(tmp_path / "inner", sender.env, sender.world).init()
    inner.write("inside", "x\n")
    inner.commit()
    sender.git("submodule", "--quiet", "add", str(inner.root), "sub")
    sender.commit()
    sender.write("sub/inside", "changed\n")
    sender.write("sub/.env", "hunter2\n")
    sender.write("sub/more/new", "new\n")

    made = sender.make()
    received = sender.receive(made)

    assert made.about.omitted == [["sub", "submodule"]]
    assert not made.has_work
    assert list((received.root / "sub").iterdir()) == []


def test_a_submodule_that_is_added_or_moved_in_the_index_arrives_there(
    sender: Sender, tmp_path: Path
) -> None:
    inner = Sender(tmp_path / "inner", sender.env, sender.world).init()
    first = inner.commit("one")
    inner.commit("two")
    sender.git("submodule", "--quiet", "add", str(inner.root), "sub")

    received = sender.receive()

    assert received.git("diff", "--cached", "--raw") == sender.git(
        "diff", "--cached", "--raw"
    )

    sender.commit()
    sender.git("update-index", "--cacheinfo", f"160000,{first},sub")
    received = sender.receive()
    assert received.git("diff", "--cached", "--raw") == sender.git(
        "diff", "--cached", "--raw"
    )


def test_sparse_files_arrive_with_their_commit(sender: Sender) -> None:
    sender.git("sparse-checkout", "set", "--no-cone", "/app.py")

    made = sender.make()

    assert made.about.omitted == []
    assert (sender.receive(made).root / "docs/readme.md").exists()


def test_a_nested_repository_and_an_unreadable_file_are_listed(sender: Sender) -> None:
    Sender(sender.root / "nested", sender.env, sender.world).init().commit("x")
    sender.write("huge.bin", b"")
    os.truncate(sender.root / "huge.bin", 60_000_000)
    os.mkfifo(sender.root / "pipe")

    made = sender.make()

    assert sorted(made.about.omitted) == [
        ["huge.bin", "budget"],
        ["nested/", "nested_repository"],
    ]


def test_many_omitted_files_are_listed_in_part(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundation, "MAX_OMITTED", 3)
    for number in range(5):
        sender.write(f"{number}.pem", "x")

    assert sender.make().about.omitted[-2:] == [
        ["2.pem", "secret_file"],
        ["2 more", "not listed"],
    ]


def test_the_same_state_has_the_same_digest_however_it_is_stored(
    sender: Sender,
) -> None:
    sender.write("app.py", "changed\n")
    sender.write("new", "x\n")
    sender.git("add", "new")
    digest = sender.make().digest

    sender.git("gc", "--quiet", "--aggressive")
    os.utime(sender.root / "docs/readme.md", (1, 1))

    assert sender.make("again.tar").digest == digest
    sender.write("new2", "x\n")
    assert sender.make("other.tar").digest != digest


def test_a_shallow_clone_can_be_packed(sender: Sender, tmp_path: Path) -> None:
    clone = Sender(tmp_path / "clone", sender.env, sender.world)
    sender.git("clone", "-q", "--depth=1", f"file://{sender.root}", str(clone.root))

    assert_arrives(clone)


def test_a_repository_of_sha256_can_be_packed(
    world: World, own_git_settings: Path
) -> None:
    repository = Sender(world.workspace, world.repository.env, world)
    repository.init("--object-format=sha256")
    repository.write("a", "a\n")
    repository.commit()
    repository.write("a", "b\n")
    repository.commit()
    repository.write("a", "c\n")

    assert repository.make().about.object_format == "sha256"
    assert_arrives(repository)


def test_a_repository_without_commits_is_refused(empty: Sender) -> None:
    with pytest.raises(CounselError) as caught:
        empty.make()

    assert caught.value.code == Code.NO_COMMITS


def test_a_linked_working_tree_is_packed_as_it_is(
    sender: Sender, tmp_path: Path
) -> None:
    sender.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    linked = Sender(tmp_path / "linked", sender.env, sender.world)
    linked.write("app.py", "in the linked one\n")

    received = linked.receive()

    assert received.about.branch == "side"
    assert (received.root / "app.py").read_text() == "in the linked one\n"


def test_a_detached_head_has_no_branch(sender: Sender) -> None:
    sender.git("checkout", "-q", "--detach")

    assert sender.make().about.branch is None


def test_a_branch_that_looks_like_an_option_is_left_out(sender: Sender) -> None:
    sender.git("update-ref", "refs/heads/-x", sender.head)
    sender.git("symbolic-ref", "HEAD", "refs/heads/-x")

    assert sender.make().about.branch is None


def test_untracked_packs_stay_behind(sender: Sender) -> None:
    clean = sender.make("x.pack")
    for name in ("x.pack", "docs/of another name"):
        sender.write(name, clean.path.read_bytes())
    sender.write("empty", b"")
    sender.write("short", clean.path.read_bytes()[:511])
    received = sender.receive()

    assert status(received) == ["?? empty", "?? short"]
    (sender.root / "empty").unlink()
    (sender.root / "short").unlink()
    assert sender.make().digest == clean.digest


def test_a_tracked_pack_travels(sender: Sender) -> None:
    pack = sender.make("x.pack").path.read_bytes()
    sender.write("fixture.pack", "x\n")
    sender.commit()
    sender.write("fixture.pack", pack)

    assert (sender.receive().root / "fixture.pack").read_bytes() == pack


def test_findings_on_record_travel(sender: Sender) -> None:
    ledger = Ledger.of(sender.context.settings.state, sender.root / ".git")
    ledger.directory.mkdir(parents=True, mode=0o700)
    rows = [row("0" * 16), row("1" * 16, plan="/home/me/plan.md", file=None)]
    ledger.file.write_text("".join(json.dumps(each) + "\n" for each in rows))

    received = sender.receive()

    data = received.member(manifest.FINDINGS)
    assert data
    assert [json.loads(line)["id"] for line in data.splitlines()] == ["0" * 16]


def test_too_many_findings_stay_at_home_with_a_warning(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foundation, "MAX_FINDINGS", 10)
    ledger = Ledger.of(sender.context.settings.state, sender.root / ".git")
    ledger.directory.mkdir(parents=True, mode=0o700)
    ledger.file.write_text(json.dumps(row("0" * 16)) + "\n")

    made = sender.make()

    assert sender.receive(made).member(manifest.FINDINGS) is None
    assert "findings on record do not travel" in made.warnings[0]


def row(name: str, **changes: object) -> dict[str, object]:
    sighting = {"time": "2026-01-01T00:00:00Z", "job": "a" * 32}
    whole = {
        "id": name,
        "severity": "high",
        "category": "logic",
        "title": "A fault",
        "file": "app.py",
        "first": sighting,
        "last": sighting,
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def test_a_disk_that_is_full_at_any_moment_is_named_and_nothing_is_left(
    sender: Sender, world: World, tmp_path: Path
) -> None:
    sender.write("committed.bin", os.urandom(300_000))
    sender.commit()
    sender.write("staged.bin", os.urandom(200_000))
    sender.git("add", "staged.bin")
    sender.write("new.bin", os.urandom(200_000))
    disk = tmp_path / "disk"
    disk.mkdir()

    failures = small_disk.failures("make", world, disk / "foundation.tar")
    for code, repair, *left in failures:
        assert code == "storage_failed"
        assert "TMPDIR" in repair
        assert left == []


FAILS_ONCE = """\
#!/bin/sh
case "$*" in *update-index*--stdin*)
    if ! [ -e "{mark}" ]; then
        touch "{mark}"
        echo "error: docs: is a directory - add individual files instead" >&2
        exit 128
    fi
esac
exec {git} "$@"
"""


def test_a_file_that_becomes_a_folder_meanwhile_is_packed_again(
    sender: Sender, tmp_path: Path
) -> None:
    mark = tmp_path / "failed"
    sender.write("app.py", "mine\n")
    git = shutil.which("git")
    script = write(tmp_path, "bin/git", FAILS_ONCE.format(mark=mark, git=git))
    script.chmod(0o755)
    env = dict(sender.context.env)
    env["PATH"] = f"{script.parent}:{env['PATH']}"
    context = Context.of(env, sender.root)

    made = foundation.make(context, sender.workspace(), sender.parts / "x.tar")

    assert mark.exists()
    assert (sender.receive(made).root / "app.py").read_text() == "mine\n"


def test_no_path_of_the_sender_is_in_a_foundation(sender: Sender) -> None:
    sender.write("app.py", "changed\n")
    sender.write("new", "x\n")
    made = sender.make()

    received = sender.receive(made)
    data = made.path.read_bytes()
    members = received.root.parent / "members"
    data += b"".join(p.read_bytes() for p in members.rglob("*") if p.is_file())
    assert sender.world
    for path in (sender.world.base, sender.root, sender.world.state, Path.home()):
        assert os.fsencode(path) not in data
