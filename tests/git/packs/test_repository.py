"""The private repository that is made from the foundation of a pack."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.entry import Entry, Sighting
from codex_counsel.findings.ledger import Ledger
from codex_counsel.packs import checkout, manifest, received_commits
from codex_counsel.packs import repository as packs
from codex_counsel.prepare.context import Context
from tests.conftest import World
from tests.foundations import bundle, draft, draft_of_tree
from tests.git.packs import small_disk
from tests.repositories import Repository


@pytest.fixture
def context(world: World) -> Context:
    """The receiving side."""
    return Context.of(world.env, world.workspace)


@pytest.fixture
def sender(tmp_path: Path) -> Repository:
    """Without anything in it: each test begins it as it needs it."""
    return Repository(tmp_path / "sender")


def kept(context: Context, draft_file: Path) -> Repository:
    digest = packs.keep_foundation(context, draft_file)
    return Repository(packs.repository_of(context, digest))


def files(root: Path) -> dict[str, bytes]:
    """The content of each file of a working tree, of a link what it names."""
    found = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] == ".git":
            continue
        if path.is_symlink():
            found[str(relative)] = bytes(path.readlink())
        elif path.is_file():
            found[str(relative)] = path.read_bytes()
    return found


def test_the_receiver_has_the_files_the_index_and_the_branch_of_the_sender(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin_with_work()
    sender.write("tool.sh", "#!/bin/sh\n", mode=0o755)
    (sender.root / "link").symlink_to("app.py")
    expected = files(sender.root)
    del expected["noise.log"]
    staged = sender.git("diff", "--cached", "--raw", "--no-abbrev")
    status = sender.git("status", "--porcelain=v2", "--branch")
    foundation = draft(sender)

    there = kept(context, foundation.write(tmp_path / "foundation.tar"))
    assert files(there.root) == expected
    assert there.git("diff", "--cached", "--raw", "--no-abbrev") == staged
    assert there.git("status", "--porcelain=v2", "--branch") == status
    assert there.git("rev-parse", "HEAD") == foundation.about.head
    there.git("fsck", "--strict")


def test_commits_without_their_history_travel_and_get_it_by_a_later_bundle(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    commits = [sender.head]
    for number in range(4):
        sender.write("app.py", f"answer = {number}\n")
        commits.append(sender.commit(f"change {number}"))
    file = draft(sender).write(tmp_path / "foundation.tar")
    digest = packs.keep_foundation(context, file)
    there = Repository(packs.repository_of(context, digest))
    assert there.git("rev-list", "HEAD") == commits[4]

    more = tmp_path / "more.bundle"
    more.write_bytes(bundle(sender, {"refs/heads/x": commits[3]}, [commits[2]]))
    packs.add_commits(context, digest, more, [commits[2]])
    assert there.git("rev-list", "HEAD").split() == commits[:1:-1]
    assert there.git("diff", "--stat", commits[2], commits[3])

    more.write_bytes(bundle(sender, {"refs/heads/x": commits[2]}))
    packs.add_commits(context, digest, more, [])
    assert there.git("rev-list", "HEAD").split() == commits[::-1]
    assert not (there.root / ".git/shallow").exists()
    there.git("fsck", "--strict")


def test_a_foundation_that_is_here_is_not_made_again(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    file = draft(sender).write(tmp_path / "foundation.tar")
    there = kept(context, file)
    before = (there.root / ".git/index").stat()
    assert packs.has_foundation(context, packs.keep_foundation(context, file))
    assert (there.root / ".git/index").stat() == before


def test_a_foundation_of_a_detached_head_without_a_branch_is_checked_out(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    there = kept(context, draft(sender, None).write(tmp_path / "foundation.tar"))
    assert there.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    assert there.git("status", "--porcelain") == ""


def test_sha256_objects_travel(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.init("--object-format=sha256")
    sender.write("app.py")
    sender.commit("begin")
    sender.write("app.py", "changed\n")
    there = kept(context, draft(sender).write(tmp_path / "foundation.tar"))
    assert there.head == sender.head
    assert there.git("status", "--porcelain") == "M app.py"


def test_files_have_the_bytes_of_their_objects_whatever_attributes_and_settings_say(
    sender: Repository, context: Context, tmp_path: Path, own_git_settings: Path
) -> None:
    mark = tmp_path / "mark"
    sender.init()
    sender.write("unix.txt", "a\nb\n")
    sender.write("image.psd", "picture\n")
    sender.write("notes.md", "committed\n")
    sender.commit("begin")
    attributes = "*.txt eol=crlf\n*.psd filter=own\n*.md working-tree-encoding=UTF-16\n"
    sender.write(".gitattributes", attributes)
    foundation = draft(sender)
    with own_git_settings.open("a") as settings:
        settings.write(
            "[core]\n autocrlf = true\n excludesFile = ~/ignored\n"
            f'[filter "own"]\n smudge = touch {mark}\n clean = touch {mark}\n required = true\n'
        )
    (own_git_settings.parent / "ignored").write_text(".gitattributes\n")

    there = kept(context, foundation.write(tmp_path / "foundation.tar"))
    assert files(there.root) == {
        ".gitattributes": attributes.encode(),
        "image.psd": b"picture\n",
        "notes.md": b"committed\n",
        "unix.txt": b"a\nb\n",
    }
    assert there.git("status", "--porcelain") == "?? .gitattributes"
    assert not mark.exists()


# --- what no sender would write

LINK_PATCH = """\
diff --git a/door b/door
new file mode 120000
--- /dev/null
+++ b/door
@@ -0,0 +1 @@
+{outside}
\\ No newline at end of file
"""
THROUGH_LINK = """\
diff --git a/{name} b/{name}
new file mode 100644
--- /dev/null
+++ b/{name}
@@ -0,0 +1 @@
+written
"""


def refused(context: Context, file: Path) -> str:
    """The reason for which the file is refused; nothing is left of it."""
    with pytest.raises(CounselError) as caught:
        packs.keep_foundation(context, file)
    assert caught.value.code == Code.PACK_INVALID
    for directory in context.directories.packs.iterdir():
        names = {path.name for path in directory.iterdir()}
        assert names <= {"lock"}
    return caught.value.message


@pytest.mark.parametrize("member", [manifest.STAGED_PATCH, manifest.WORK_PATCH])
@pytest.mark.parametrize(
    "name",
    [
        "door/planted",
        "../planted",
        "/{outside}/planted",
        ".git/hooks/planted",
        ".GIT/hooks/planted",
        ".git./hooks/planted",
        "git~1/hooks/planted",
        ".g\u200cit/hooks/planted",
        ".git::$INDEX_ALLOCATION/hooks/planted",
        "sub/.git/config",
        "committed/planted",
        "./planted",
        "a//planted",
    ],
)
def test_a_patch_writes_nowhere_but_into_the_tree(
    sender: Repository, context: Context, tmp_path: Path, member: str, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sender.init()
    (sender.root / "committed").symlink_to(outside)
    sender.commit("begin")
    foundation = draft(sender)
    link = LINK_PATCH.format(outside=outside)
    through = THROUGH_LINK.format(name=name.format(outside=outside))
    foundation.members[member] = (link + through).encode()
    message = refused(context, foundation.write(tmp_path / "foundation.tar"))
    assert "`git apply` failed" in message
    assert list(outside.iterdir()) == []
    assert not list(tmp_path.rglob("planted"))


def test_a_link_that_one_patch_makes_is_not_written_through_by_the_other(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sender.begin()
    foundation = draft(sender)
    link = LINK_PATCH.format(outside=outside)
    through = THROUGH_LINK.format(name="door/planted")
    foundation.members[manifest.STAGED_PATCH] = link.encode()
    foundation.members[manifest.WORK_PATCH] = through.encode()
    refused(context, foundation.write(tmp_path / "foundation.tar"))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        ".GIT",
        "git~1",
        "GIT~1",
        ".git.",
        ".git ",
        ".git::$INDEX_ALLOCATION",
        ".git\u200c",
        "..",
        ".",
        "../x",
        "a/b",
        "/etc/x",
    ],
)
def test_a_commit_whose_tree_has_a_dangerous_name_is_refused(
    sender: Repository, context: Context, tmp_path: Path, name: str
) -> None:
    sender.begin()
    blob = sender.git("hash-object", "-w", "app.py")
    tree = sender.raw_tree(("100644", name, blob))
    foundation = draft_of_tree(sender, tree)
    message = refused(context, foundation.write(tmp_path / "foundation.tar"))
    assert "`git index-pack` failed" in message


def test_a_commit_with_a_link_and_a_directory_of_one_name_is_refused(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sender.begin()
    link = sender.git("hash-object", "-w", "--stdin", stdin=bytes(outside))
    blob = sender.git("hash-object", "-w", "app.py")
    inner = sender.raw_tree(("100644", "planted", blob))
    tree = sender.raw_tree(("120000", "door", link), ("40000", "door", inner))
    foundation = draft_of_tree(sender, tree)
    message = refused(context, foundation.write(tmp_path / "foundation.tar"))
    assert "`git index-pack` failed" in message
    assert list(outside.iterdir()) == []


def test_links_of_the_sender_stay_links_wherever_they_lead(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    (sender.root / "abroad").symlink_to("/etc")
    there = kept(context, draft(sender).write(tmp_path / "foundation.tar"))
    assert (there.root / "abroad").readlink() == Path("/etc")


@pytest.mark.parametrize(
    "words",
    [
        {"branch": "--all"},
        {"branch": "../../../config"},
        {"branch": "a b"},
        {"branch": "a\nb"},
        {"branch": "x" * 300},
        {"branch": "x.lock"},
        {"head": "main"},
        {"head": "--output=/tmp/x"},
        {"head": "0" * 40},
        {"shallow": ["HEAD"]},
        {"shallow": ["0" * 39 + "\n"]},
        {"object_format": "md5"},
        {"object_format": "sha256"},
    ],
)
def test_what_a_foundation_says_of_itself_is_checked(
    sender: Repository, context: Context, tmp_path: Path, words: dict[str, Any]
) -> None:
    sender.begin()
    refused(context, draft(sender).named(**words).write(tmp_path / "foundation.tar"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PACK",
        b"# v2 git bundle\n",
        b"# v2 git bundle\n\n",
        b"# v2 git bundle\n\nPACK\0\0\0\2\0\0\0\0",
        b"# v3 git bundle\n@filter=blob:none\n\n",
        b"# v2 git bundle\n" + b"x" * 10_000,
        None,
    ],
)
def test_a_bundle_that_is_none_is_refused(
    sender: Repository, context: Context, tmp_path: Path, content: bytes | None
) -> None:
    sender.begin()
    foundation = draft(sender)
    if content is None:
        del foundation.members[manifest.HEAD_BUNDLE]
    else:
        foundation.members[manifest.HEAD_BUNDLE] = content
    refused(context, foundation.write(tmp_path / "foundation.tar"))


def test_a_commit_of_which_files_are_missing_is_refused(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    first = sender.head
    sender.write("app.py", "changed\n")
    sender.commit("change")
    foundation = draft(sender)
    file = tmp_path / "thin.bundle"
    sender.git("update-ref", "refs/heads/head", "HEAD")
    sender.git("bundle", "create", str(file), "refs/heads/head", f"^{first}")
    foundation.members[manifest.HEAD_BUNDLE] = file.read_bytes()
    refused(context, foundation.write(tmp_path / "foundation.tar"))


def test_a_tree_that_few_objects_make_endless_is_refused(
    sender: Repository,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkout, "MAX_ENTRIES", 5_000)
    sender.begin()
    tree = sender.git("write-tree")
    for _ in range(4):
        tree = sender.raw_tree(*(("40000", str(n), tree) for n in range(10)))
    foundation = draft_of_tree(sender, tree)
    message = refused(context, foundation.write(tmp_path / "foundation.tar"))
    assert "more than 5,000 files" in message


def test_a_file_that_few_bytes_make_huge_is_refused(
    sender: Repository,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkout, "MAX_TREE", 5_000_000)
    sender.begin()
    sender.write("zeros", bytes(6_000_000))
    sender.commit("zeros")
    file = draft(sender).write(tmp_path / "foundation.tar")
    assert file.stat().st_size < 100_000
    assert "5,000,000 bytes" in refused(context, file)


def test_a_commit_of_a_size_that_none_has_is_refused(
    sender: Repository,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(received_commits, "MAX_COMMIT", 5_000)
    sender.begin()
    sender.commit("x" * 6_000)
    message = refused(context, draft(sender).write(tmp_path / "foundation.tar"))
    assert "a commit of more than 5,000 bytes" in message


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("checkout.MAX_RECORD", "a name that no file system takes"),
        ("limited_git.MAX_OUTPUT", "print too much"),
    ],
)
def test_a_tree_that_makes_git_print_without_end_is_refused(
    sender: Repository, context: Context, tmp_path: Path, limit: str, reason: str
) -> None:
    sender.begin()
    sender.write("d/" * 40 + "x")
    file = draft(sender).write(tmp_path / "foundation.tar")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"codex_counsel.packs.{limit}", 20)
        assert reason in refused(context, file)


def test_commits_that_are_nowhere_cost_no_process_each_and_are_not_noted(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    sender.commit("change")
    nowhere = [os.urandom(20).hex() for _ in range(20_000)]
    foundation = draft(sender)
    about = foundation.about
    foundation = foundation.named(shallow=[*about.shallow, *nowhere])
    there = kept(context, foundation.write(tmp_path / "foundation.tar"))
    assert (there.root / ".git/shallow").read_text().split() == [about.head]


# --- findings


def entry(name: str) -> Entry:
    seen = Sighting(time="2026-01-01T00:00:00Z", job="0" * 32)
    return Entry(
        id=name,
        severity="high",
        category="logic",
        title="A fault",
        first=seen,
        last=seen,
    )


def test_the_findings_of_the_sender_are_on_record_once_and_a_damaged_line_costs_only_itself(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    foundation = draft(sender)
    first = Ledger(tmp_path / "ledger")
    with first.changing() as changing:
        changing.put(entry("0123456789abcdef"))
    lines = first.file.read_bytes() + b"{damaged\n" + b"[" * 100_000 + b"\n"
    foundation.members[manifest.FINDINGS] = lines
    digest = packs.keep_foundation(context, foundation.write(tmp_path / "f.tar"))
    with packs.using(context, digest) as root:
        ledger = Ledger.of(context.settings.state, root / ".git")
    assert list(ledger.read().entries) == ["0123456789abcdef"]

    with ledger.changing() as changing:
        changing.forget("0123456789abcdef")
    with packs.using(context, digest):
        assert ledger.read().entries == {}


# --- what is not used any more


def test_a_repository_that_no_run_has_used_for_a_day_goes_with_its_findings(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    foundation = draft(sender)
    line = tmp_path / "ledger"
    with Ledger(line).changing() as changing:
        changing.put(entry("0123456789abcdef"))
    foundation.members[manifest.FINDINGS] = Ledger(line).file.read_bytes()
    digest = packs.keep_foundation(context, foundation.write(tmp_path / "f.tar"))
    folder = context.directories.packs
    with packs.using(context, digest):
        packs.remove_unused(context, time.time() + 2 * packs.UNUSED_SECONDS)
        assert packs.has_foundation(context, digest)
    packs.remove_unused(context, time.time() + packs.UNUSED_SECONDS / 2)
    assert packs.has_foundation(context, digest)

    packs.remove_unused(context, time.time() + 2 * packs.UNUSED_SECONDS)
    assert list(folder.iterdir()) == []
    assert list((context.settings.state / "findings").iterdir()) == []
    with pytest.raises(CounselError) as caught, packs.using(context, digest):
        pass
    assert caught.value.code == Code.PACK_INVALID
    assert digest[:12] in caught.value.message


def test_a_repository_that_was_found_is_not_removed_before_its_run_begins(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    file = draft(sender).write(tmp_path / "foundation.tar")
    digest = packs.keep_foundation(context, file)
    os.utime(context.directories.packs / digest / "used", (0, 0))
    packs.keep_foundation(context, file)
    packs.remove_unused(context)
    assert packs.has_foundation(context, digest)


def test_a_repository_that_is_made_anew_is_not_removed_by_who_waited_for_the_old_one(
    sender: Repository,
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender.begin()
    file = draft(sender).write(tmp_path / "foundation.tar")
    digest = packs.keep_foundation(context, file)
    later = time.time() + 2 * packs.UNUSED_SECONDS
    lock = fcntl.flock

    def lock_after_another_one(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        packs.remove_unused(context, later)
        assert not packs.has_foundation(context, digest)
        making.enter_context(packs._changing(context, digest))
        lock(descriptor, operation)

    with contextlib.ExitStack() as making:
        monkeypatch.setattr(fcntl, "flock", lock_after_another_one)
        packs.remove_unused(context, later)
        assert (context.directories.packs / digest).is_dir()


def test_a_directory_that_cannot_be_removed_keeps_no_other(context: Context) -> None:
    folder = context.directories.packs
    folder.mkdir(parents=True)
    for digit in "012":
        (folder / (digit * 64)).mkdir()
    (folder / ("1" * 64) / "lock").mkdir()
    packs.remove_unused(context, time.time() + 2 * packs.YOUNG_SECONDS)
    assert [path.name for path in folder.iterdir()] == ["1" * 64]


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(
    context: Context,
) -> None:
    folder = context.directories.packs
    with packs.scratch(context) as own:
        for name in ("0" * 64 + "/draft/repository", "scratch-x/content", "removed-x"):
            (folder / name).mkdir(parents=True)
        for lock in ("0" * 64 + "/lock", "scratch-x/lock"):
            (folder / lock).touch()
        packs.remove_unused(context)
        names = {path.name for path in folder.iterdir()}
        assert names == {own.parent.name, "scratch-x"}
        packs.remove_unused(context, time.time() + 2 * packs.YOUNG_SECONDS)
        assert own.is_dir()
    assert list(folder.iterdir()) == []


def test_a_cache_directory_that_cannot_be_written_is_named(
    sender: Repository, context: Context, tmp_path: Path
) -> None:
    sender.begin()
    file = draft(sender).write(tmp_path / "foundation.tar")
    context.directories.cache.write_text("no directory")
    with pytest.raises(CounselError) as caught:
        packs.keep_foundation(context, file)
    assert caught.value.code == Code.STORAGE_FAILED
    assert os.fspath(context.directories.cache) in caught.value.message


def test_a_disk_that_is_full_at_any_moment_is_named_and_nothing_is_left(
    sender: Repository, world: World, tmp_path: Path
) -> None:
    sender.begin()
    sender.write("committed.bin", os.urandom(300_000))
    sender.commit("binary")
    sender.write("new.bin", os.urandom(200_000))
    file = draft(sender).write(tmp_path / "foundation.tar")
    for code, _, *left in small_disk.failures("keep", world, file):
        assert (code, left) == ("storage_failed", ["lock"])
