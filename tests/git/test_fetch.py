"""Objects of pull requests, fetched into a bare repository of ours: the user's own is only read."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import fetch, limits
from codex_counsel.git.fetch import ObjectStore
from codex_counsel.git.hardening import fetch_environment
from tests.conftest import World, living, until
from tests.repositories import Repository, contents, numbered_lines

BASE, HEAD, INTO = "refs/heads/main", "refs/pull/7/head", "test/7"
SECRET = "s3cr3t-pass"


@dataclass(frozen=True)
class Scene:
    """A hub in a directory, the clone of an author, and the user's clone (the workspace)."""

    world: World
    hub: Repository
    author: Repository

    @property
    def url(self) -> str:
        return str(self.hub.root)

    @property
    def clone(self) -> Repository:
        return self.world.repository

    def store(self, **env: str) -> ObjectStore:
        base = self.clone.env or {}
        clone = Repository(self.clone.root, {**base, **env})
        directory = self.world.state / "pulls/workspace-1"
        return ObjectStore(directory, clone.repo(), {**base, **env})

    def push(self, text: str, ref: str = HEAD) -> str:
        self.author.write("app.py", text)
        sha = self.author.commit(text[:20])
        self.author.git("push", "--quiet", "--force", self.url, f"HEAD:{ref}")
        return sha


def pulled(store: ObjectStore, url: str, base: str = BASE) -> tuple[str, str, str]:
    with store.changing():
        return store.fetch(url, base, HEAD, INTO)


def failure(store: ObjectStore, url: str, base: str = BASE) -> CounselError:
    with pytest.raises(CounselError) as caught:
        pulled(store, url, base)
    return caught.value


def begin(world: World, *options: str) -> Scene:
    """`options` are those of the user's clone."""
    hub = world.repository_at(world.base / "hub/r.git").init("--bare")
    author = world.repository_at(world.base / "author").begin()
    for number in range(3):
        author.write("log.txt", f"{number}\n")
        author.commit(f"main {number}")
    author.git("push", "--quiet", str(hub.root), f"HEAD:{BASE}")
    world.workspace.rmdir()
    author.git("clone", "--quiet", *options, f"file://{hub.root}", str(world.workspace))
    scene = Scene(world, hub, author)
    author.git("checkout", "--quiet", "-b", "feature")
    scene.push(numbered_lines(l7="seven = 70"))
    return scene


@pytest.fixture
def scene(world: World) -> Scene:
    return begin(world)


def test_base_head_and_merge_base_are_fetched_and_seen_by_the_users_repository(
    scene: Scene,
) -> None:
    merge_base = scene.author.git("rev-parse", "main")
    scene.author.git("checkout", "--quiet", "main")
    base = scene.push("other = 1\n", BASE)
    scene.author.git("checkout", "--quiet", "feature")
    head = scene.author.git("rev-parse", "feature")
    before = contents(scene.world.workspace)

    store = scene.store()
    assert pulled(store, scene.url) == (base, head, merge_base)

    seen = scene.clone.repo().with_objects(store.path)
    assert b"seven = 70" in seen.git("show", f"{head}:app.py")
    assert b"seven = 70" in seen.reopen().git("show", f"{head}:app.py")
    # What is not new is the clone's own, but for what a delta begins at.
    packs = list((store.path / "objects/pack").glob("*.idx"))
    listed = sum(
        len(store.bare.git("show-index", stdin=pack.read_bytes()).splitlines())
        for pack in packs
    )
    assert 6 <= listed <= 8
    assert contents(scene.world.workspace) == before
    for path in (store.directory, *store.directory.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_force_push_is_followed_and_what_a_job_needs_stays(scene: Scene) -> None:
    store = scene.store()
    _, first, _ = pulled(store, scene.url)
    jobs = {"1" * 32}
    with store.changing():
        store.pin("1" * 32, [first])
    scene.author.git("reset", "--quiet", "--hard", "main")
    second = scene.push("eight = 8\n")
    assert pulled(store, scene.url)[1] == second

    with store.changing():
        store.tidy(jobs.__contains__)
        store.bare.git("gc", "--quiet", "--prune=now")
    assert store.bare.git("cat-file", "-t", first).strip() == b"commit"


def test_what_no_job_needs_any_more_goes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_PACKS", 0)
    monkeypatch.setattr(fetch, "GRACE", "now")
    store = scene.store()
    _, first, _ = pulled(store, scene.url)
    with store.changing():
        store.pin("1" * 32, [first])
    scene.author.git("reset", "--quiet", "--hard", "main")
    scene.push("eight = 8\n")
    pulled(store, scene.url)

    with store.changing():
        store.tidy(lambda _job: False)
    # It may belong to a job that is about to start.
    assert store.bare.try_git("cat-file", "-e", first)[0] == 0
    monkeypatch.setattr(fetch, "YOUNG_SECONDS", 0)
    with store.changing():
        store.tidy(lambda _job: False)
    assert store.bare.try_git("cat-file", "-e", first)[0] != 0


def test_a_store_that_is_not_used_any_more_goes(scene: Scene) -> None:
    store = scene.store()
    pulled(store, scene.url)
    for name, days in (("old", 100), ("new", 80)):
        other = store.directory.with_name(name)
        shutil.copytree(store.directory, other)
        stamp = time.time() - days * 86_400
        os.utime(other / "lock", (stamp, stamp))
    with store.changing():
        store.remove_unused()
    assert {path.name for path in store.directory.parent.iterdir()} == {
        "new",
        store.directory.name,
    }


@pytest.mark.parametrize("depth", [1, 2])
def test_a_shallow_clone_gets_the_history_that_is_needed(
    world: World, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "DEPTHS", (1, 2, 0))
    scene = begin(world, f"--depth={depth}")
    merge_base = scene.author.git("rev-parse", "main")
    scene.push("more = 1\n")
    head = scene.push("more = 2\n")
    before = contents(world.workspace)
    store = scene.store()
    found = pulled(store, scene.url)
    assert found == (merge_base, head, merge_base)
    seen = scene.clone.repo().with_objects(store.path)
    log = seen.git("log", "--format=%H", f"{merge_base}..{head}").decode().split()
    assert len(log) == 3
    assert seen.try_git("merge-base", "--is-ancestor", merge_base, head)[0] == 0
    assert contents(world.workspace) == before


def test_a_clone_that_is_cut_off_within_the_pull_request_sees_all_of_it(
    world: World,
) -> None:
    """As a CI service has it: the newest commit of the pull request alone."""
    scene = begin(world)
    merge_base = scene.author.git("rev-parse", "main")
    head = scene.push("more = 1\n")
    scene.author.git(
        "push", "--quiet", "--force", scene.url, f"{head}:refs/heads/feature"
    )
    shutil.rmtree(world.workspace)
    options = ("--quiet", "--depth=1", "--branch=feature")
    scene.author.git("clone", *options, f"file://{scene.url}", str(world.workspace))
    store = scene.store()
    assert pulled(store, scene.url) == (merge_base, head, merge_base)
    seen = scene.clone.repo().with_objects(store.path)
    log = seen.git("log", "--format=%H", f"{merge_base}..{head}").decode().split()
    assert len(log) == 2
    assert seen.try_git("merge-base", "--is-ancestor", merge_base, head)[0] == 0


def test_a_shallow_clone_needs_not_all_history(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "DEPTHS", (2, 0))
    scene = begin(world, "--depth=1")
    store = scene.store()
    assert pulled(store, scene.url)
    assert not (store.path / "objects/info/alternates").exists()
    first = scene.author.git("rev-list", "--max-parents=0", "HEAD")
    assert store.bare.try_git("cat-file", "-e", first)[0] != 0


def test_a_partial_clone_lends_nothing(world: World) -> None:
    scene = begin(world)
    scene.hub.git("config", "uploadpack.allowFilter", "true")
    shutil.rmtree(world.workspace)
    scene.author.git(
        "clone",
        "--quiet",
        "--filter=blob:none",
        "--no-checkout",
        f"file://{scene.hub.root}",
        str(world.workspace),
    )
    store = scene.store()
    _, head, merge_base = pulled(store, scene.url)
    seen = scene.clone.repo().with_objects(store.path)
    assert b"seven = 70" in seen.git("diff", merge_base, head)


def test_a_clone_that_has_dropped_what_was_borrowed_does_no_harm(scene: Scene) -> None:
    """The base was only in the user's clone; he has removed it, and so has our repository lost it."""
    store = scene.store()
    pulled(store, scene.url)
    shutil.rmtree(scene.clone.root)
    scene.clone.init()
    scene.clone.git("remote", "add", "origin", scene.url)
    scene.push("more = 1\n")
    again = scene.store()
    _, head, merge_base = pulled(again, scene.url)
    seen = scene.clone.repo().with_objects(again.path)
    assert b"more = 1" in seen.git("diff", merge_base, head)


def test_the_name_of_a_hub_says_nothing_of_the_objects_here(scene: Scene) -> None:
    hub = scene.hub.root.with_name("missing.git")
    scene.hub.root.rename(hub)
    store = scene.store()
    _, head, _ = pulled(store, str(hub))
    with store.changing():
        store.pin("1" * 32, [head])
    hub.rename(hub.with_name("away.git"))
    failure(store, str(hub))
    assert store.bare.git("for-each-ref", "refs/codex-counsel/jobs")


def test_a_clone_that_was_made_shallow_does_no_harm(scene: Scene) -> None:
    """From now on it lends nothing, and what was fetched on top of it is incomplete."""
    store = scene.store()
    tips = pulled(store, scene.url)
    with store.changing():
        store.pin("1" * 32, tips)
    shutil.rmtree(scene.clone.root)
    scene.author.git(
        "clone", "--quiet", "--depth=1", f"file://{scene.url}", str(scene.clone.root)
    )
    again = scene.store()
    assert pulled(again, scene.url) == tips
    seen = scene.clone.repo().with_objects(again.path)
    assert b"seven = 70" in seen.git("diff", tips[2], tips[1])


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_a_ref_that_names_no_commit_is_told(scene: Scene, kind: str) -> None:
    name = {"blob": f"{BASE}:app.py", "tree": f"{BASE}^{{tree}}"}[kind]
    sha = scene.hub.git("rev-parse", name)
    (scene.hub.root / HEAD).write_text(f"{sha}\n", "ascii")
    error = failure(scene.store(), scene.url)
    assert error.code == Code.UNKNOWN_REF
    assert HEAD in error.message


def test_a_fork_without_a_common_commit_has_no_merge_base(scene: Scene) -> None:
    scene.author.git("checkout", "--quiet", "--orphan", "other")
    scene.push("alone = 1\n")
    error = failure(scene.store(), scene.url)
    assert error.code == Code.UNKNOWN_REF
    assert "no common ancestor" in error.message


def test_a_base_that_is_gone_is_named(scene: Scene) -> None:
    error = failure(scene.store(), scene.url, "refs/heads/gone")
    assert error.code == Code.UNKNOWN_REF
    assert error.details["ref"] == "refs/heads/gone"


def test_only_the_refs_that_are_asked_for_are_answered(scene: Scene) -> None:
    sha = scene.author.git("rev-parse", "feature")
    listing = "".join(
        f"create refs/pull/{number}/head {sha}\n" for number in range(100, 10_100)
    )
    scene.hub.git("update-ref", "--stdin", stdin=listing.encode())
    # A branch whose name ends like the ref of a pull request.
    scene.hub.git("update-ref", f"refs/heads/{HEAD}", f"{sha}~1")
    found = scene.store().remote_refs(scene.url, [HEAD, "refs/pull/8/head"])
    assert found.shas == {HEAD: sha}
    assert found.default == BASE


# --- what a repository may name


def planted(scene: Scene, name: str) -> str:
    """The command line of a program that notes that it ran."""
    trace = scene.world.base / "ran"
    program = scene.world.workspace / name
    program.write_text(f"#!/bin/sh\necho {name} >> {trace}\nexit 1\n", "utf-8")
    program.chmod(0o755)
    return str(program)


def test_nothing_that_the_users_repository_names_is_run(scene: Scene) -> None:
    program = planted(scene, "planted")
    for name in ("git", "ssh", "gh", "git-upload-pack", "sh"):
        planted(scene, name)
    clone = scene.clone
    settings = {
        "remote.origin.uploadpack": program,
        "remote.origin.vcs": "planted",
        "core.sshCommand": program,
        "core.gitProxy": program,
        "core.fsmonitor": program,
        "core.askPass": program,
        "core.alternateRefsCommand": program,
        "credential.helper": f"!{program}",
        "uploadpack.packObjectsHook": program,
        "url.ext::sh -c touch% /tmp/ran.insteadOf": scene.url,
        "protocol.ext.allow": "always",
        "transfer.credentialsInUrl": "allow",
        "gc.recentObjectsHook": program,
        "pager.fetch": program,
        "alias.fetch": f"!{program}",
    }
    for name, value in settings.items():
        clone.git("config", name, value)
    hooks = clone.root / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc"):
        shutil.copy(program, hooks / name)
    path = f"{scene.world.workspace}:{os.environ['PATH']}"
    before = contents(scene.world.workspace)
    store = scene.store(PATH=path)
    store.remote_refs(scene.url, [HEAD])
    pulled(store, scene.url)
    for url in ("https://127.0.0.1:1/o/r", "ssh://127.0.0.1:1/o/r"):
        assert failure(store, url).code == Code.HUB_FAILED
    with store.changing():
        store.tidy(lambda _job: True)
    assert not (scene.world.base / "ran").exists()
    assert contents(scene.world.workspace) == before


def test_the_users_own_settings_hold(scene: Scene) -> None:
    trace = scene.world.base / "ran"
    ssh = scene.world.base / "my-ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {trace}\nexit 1\n', "utf-8")
    ssh.chmod(0o755)
    (scene.world.home / ".gitconfig").write_text(
        f'[core]\n\tsshCommand = {ssh}\n[url "{scene.hub.root.parent}/"]\n\tinsteadOf = hub:\n',
        "utf-8",
    )
    assert pulled(scene.store(), "hub:r.git")
    failure(scene.store(), "git@example.org:o/r.git")
    assert "git@example.org" in trace.read_text("utf-8")
    trace.unlink()
    # Git takes what the user has set for this directory alone.
    (scene.world.home / "there").write_text(f"[core]\n\tsshCommand = {ssh}\n", "utf-8")
    (scene.world.home / ".gitconfig").write_text(
        f'[includeIf "gitdir:{scene.world.workspace}/"]\n\tpath = there\n', "utf-8"
    )
    failure(scene.store(), "git@example.org:o/r.git")
    assert "git@example.org" in trace.read_text("utf-8")
    trace.unlink()
    # A variable of the process comes before them.
    failure(scene.store(GIT_SSH_COMMAND="false"), "git@example.org:o/r.git")
    assert not trace.exists()


def test_nobody_is_asked_for_a_password(scene: Scene) -> None:
    env = fetch_environment({"SSH_ASKPASS": "/bin/x"}, {}, (), scene.clone.root)
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    assert env["GIT_ASKPASS"] == ""
    assert env["GIT_SSH_COMMAND"] == "ssh -o BatchMode=yes"
    own = fetch_environment(
        {"GIT_ASKPASS": "/bin/own"},
        {"core.sshcommand": "ssh -i key"},
        (),
        scene.clone.root,
    )
    assert own["GIT_ASKPASS"] == "/bin/own"
    assert "GIT_SSH_COMMAND" not in own


def test_a_token_of_ci_goes_to_its_own_server_alone(scene: Scene) -> None:
    def settings(**env: str) -> list[tuple[str, str]]:
        headers = fetch.login_headers(env)
        found = fetch_environment(env, {}, headers, scene.clone.root)
        pairs = []
        for number in range(int(found["GIT_CONFIG_COUNT"])):
            key = found[f"GIT_CONFIG_KEY_{number}"]
            if key.startswith("http."):
                pairs.append((key, found[f"GIT_CONFIG_VALUE_{number}"]))
        return pairs

    def login(text: str) -> str:
        return f"Authorization: Basic {base64.b64encode(text.encode()).decode()}"

    assert settings(GH_TOKEN="t") == []
    assert settings(GITHUB_SERVER_URL="http://git.example.org", GH_TOKEN="t") == []
    prefix = "http.https://git.example.org/"
    assert settings(GITHUB_SERVER_URL="https://git.example.org", GITHUB_TOKEN="t") == [
        (f"{prefix}.extraHeader", ""),
        (f"{prefix}.extraHeader", login("x-access-token:t")),
        (f"{prefix}.followRedirects", "false"),
    ]
    job = settings(CI_SERVER_HOST="git.example.org", CI_JOB_TOKEN="j")
    assert (f"{prefix}.extraHeader", login("gitlab-ci-token:j")) in job
    own = settings(CI_SERVER_HOST="git.example.org", CI_JOB_TOKEN="j", GITLAB_TOKEN="g")
    assert (f"{prefix}.extraHeader", login("oauth2:g")) in own


# --- hubs that do not do their part


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on loopback that hands each connection to `serve`; yields its address."""
    server = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
                connections.append(connection)
                serve(connection)
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    port = server.getsockname()[1]
    yield f"127.0.0.1:{port}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    for connection in connections:
        connection.close()
    thread.join(10)


def silent(_connection: socket.socket) -> None:
    """Say nothing, and keep the connection."""


def closing(connection: socket.socket) -> None:
    connection.recv(1)
    connection.shutdown(socket.SHUT_RDWR)


def garbage(connection: socket.socket) -> None:
    connection.recv(1)
    body = b"\x1b]0;owned\x07" + os.urandom(2_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
    connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("scheme", ["http", "git"])
@pytest.mark.parametrize("serve", [silent, closing, garbage])
def test_a_hub_that_fails_is_named_without_the_password(
    scene: Scene, scheme: str, serve: Callable[[socket.socket], None]
) -> None:
    before = contents(scene.world.workspace)
    store = scene.store()
    if serve is silent:
        # Only what waits for the hub has little time.
        with store.changing():
            pass
        store = replace(store, repo=replace(store.repo, timeout=2))
    with listening(serve) as address:
        login = f"me:{SECRET}@" if scheme == "http" else ""
        error = failure(store, f"{scheme}://{login}{address}/o/r.git")
    assert error.code == Code.HUB_FAILED
    assert SECRET not in str(error)
    assert error.message.isprintable()
    assert contents(scene.world.workspace) == before


def test_a_password_with_any_sign_is_in_no_message(scene: Scene) -> None:
    with listening(closing) as address:
        url = f"http://me:pass@word:{SECRET}@{address}/o/r.git"
        error = failure(scene.store(), url)
    for part in ("pass", "word", SECRET):
        assert part not in str(error)


def test_a_hub_that_lists_without_end_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_LISTING", 100)
    for number in range(3):
        scene.hub.git("update-ref", f"refs/heads/{number}/{HEAD}", BASE)
    with pytest.raises(CounselError) as caught:
        scene.store().remote_refs(scene.url, [HEAD])
    assert caught.value.code == Code.HUB_FAILED


def test_a_hub_that_sends_too_much_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.author.write("large.bin", os.urandom(400_000))
    scene.push("large = 1\n")
    monkeypatch.setattr(limits, "MAX_BYTES", 100 * limits.BLOCK)
    store = scene.store()
    error = failure(store, scene.url)
    assert error.code == Code.HUB_FAILED
    assert "more than 51,200 bytes" in error.message
    assert not list(store.path.rglob("tmp_*"))
    monkeypatch.undo()
    assert pulled(store, scene.url)


def packed(kind: int, size: int, data: bytes) -> bytes:
    """An object as it stands in a pack; `kind` 1, 2, 3 is a commit, a tree, a blob, 7 a delta."""
    first, size = (kind << 4) | (size & 15), size >> 4
    return _number(first, size) + data


def _number(low: int, rest: int) -> bytes:
    """Seven bits in each byte, the lowest first; `low` is the first byte."""
    written = bytearray()
    while rest:
        written.append(low | 128)
        low, rest = rest & 127, rest >> 7
    return bytes([*written, low])


def object_id(kind: str, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data).hexdigest()


def test_an_object_that_grows_in_memory_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta of few bytes that copies its base again and again."""
    times, length = 32, 2**22 - 1
    base = bytes(length)
    whole = bytes(times * length)
    copy_all = bytes([0x80 | 0x10 | 0x20 | 0x40]) + length.to_bytes(3, "little")
    sizes = [_number(size & 127, size >> 7) for size in (length, len(whole))]
    delta = b"".join(sizes) + times * copy_all
    names = (object_id("blob", base), object_id("blob", whole))
    tree = b"100644 a\0%b100644 b\0%b" % tuple(map(bytes.fromhex, names))
    who = "T <t@example.org> 1 +0000"
    words = f"tree {object_id('tree', tree)}\nauthor {who}\ncommitter {who}\n\nx\n"
    commit = words.encode()
    objects = (
        packed(1, len(commit), zlib.compress(commit)),
        packed(2, len(tree), zlib.compress(tree)),
        packed(3, length, zlib.compress(base)),
        packed(7, len(delta), bytes.fromhex(names[0]) + zlib.compress(delta)),
    )
    pack = b"PACK" + struct.pack(">II", 2, len(objects)) + b"".join(objects)
    pack += hashlib.sha1(pack).digest()
    hub = scene.author.repo().bare(scene.hub.root)
    hub.git("index-pack", "--stdin", stdin=pack)
    scene.hub.git("update-ref", HEAD, object_id("commit", commit))

    monkeypatch.setattr(limits, "MAX_MEMORY", 64_000_000)
    error = failure(scene.store(), scene.url)
    assert error.code == Code.HUB_FAILED
    assert "Out of memory" in error.message


def test_damaged_objects_are_refused_and_old_faults_are_not(scene: Scene) -> None:
    tree = scene.hub.git("rev-parse", f"{BASE}^{{tree}}")
    parent = scene.hub.git("rev-parse", BASE)

    def write(kind: str, text: str) -> str:
        """The id of an object that is stored as it is."""
        argv = ("hash-object", "-w", "-t", kind, "--literally", "--stdin")
        return scene.hub.git(*argv, stdin=text.encode())

    pulled(scene.store(), scene.url)
    odd = "author A <a@b.org> 1 -051800\ncommitter A 1 +0000"
    commit = write("commit", f"tree {tree}\nparent {parent}\n{odd}\n\nold\n")
    scene.hub.git("update-ref", HEAD, commit)
    assert pulled(scene.store(), scene.url)[1] == commit

    blob = write("blob", "x\n")
    evil = scene.hub.raw_tree(("100644", ".git", blob))
    person = "A <a@b.org> 1 +0000"
    commit = write(
        "commit",
        f"tree {evil}\nparent {parent}\nauthor {person}\ncommitter {person}\n\nevil\n",
    )
    scene.hub.git("update-ref", HEAD, commit)
    error = failure(scene.store(), scene.url)
    assert error.code == Code.HUB_FAILED
    assert "hasDotgit" in error.message

    # What others send does not make us throw away what we have.
    store = scene.store()
    kept = scene.author.git("rev-parse", "feature")
    with store.changing():
        store.pin("1" * 32, [kept])
    commit = write("commit", f"tree {tree}\nparent {parent}\n\nnobody\n")
    scene.hub.git("update-ref", HEAD, commit)
    assert "missingAuthor" in failure(store, scene.url).message
    assert store.bare.try_git("cat-file", "-e", kept)[0] == 0


# --- what goes wrong here


def test_a_state_directory_that_cannot_be_written_is_named(scene: Scene) -> None:
    scene.world.state.write_text("no directory\n", "utf-8")
    assert failure(scene.store(), scene.url).code == Code.STORAGE_FAILED


def test_a_state_directory_that_cannot_be_looked_into_is_named(scene: Scene) -> None:
    """As one in a directory that is closed to this user, which root cannot have."""
    store = replace(scene.store(), directory=scene.world.state / ("x" * 300))
    with pytest.raises(CounselError) as caught:
        store.remote_refs(scene.url, [HEAD])
    assert caught.value.code == Code.STORAGE_FAILED


def test_what_a_killed_fetch_left_is_no_obstacle(scene: Scene) -> None:
    store = scene.store()
    pulled(store, scene.url)
    pack = store.path / "objects/pack/tmp_pack_abc"
    pack.write_bytes(b"half")
    for lock in ("shallow.lock", f"refs/codex-counsel/{INTO}/head.lock"):
        path = store.path / lock
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    head = scene.push("more = 1\n")
    assert pulled(store, scene.url)[1] == head
    assert not pack.exists()


def test_a_caller_killed_in_the_middle_leaves_a_store_that_works(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.settimeout(60)
        pid = os.fork()
        if pid == 0:
            try:
                pulled(scene.store(), f"git://127.0.0.1:{hub.getsockname()[1]}/o/r.git")
            finally:
                os._exit(1)
        # Git asks, and is not answered.
        connection, _ = hub.accept()
        with connection:
            assert connection.recv(1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert pulled(scene.store(), scene.url)


def test_a_silent_hub_keeps_no_git_of_a_killed_caller(scene: Scene) -> None:
    with socket.socket() as hub:
        hub.bind(("127.0.0.1", 0))
        hub.listen()
        url = f"http://127.0.0.1:{hub.getsockname()[1]}/o/r"
        pid = os.fork()
        if pid == 0:
            try:
                scene.store().remote_refs(url, [HEAD])
            finally:
                os._exit(1)
        until(lambda: any("remote-http" in line for line in living(url)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        until(lambda: not living(url))


def test_two_fetches_at_once_both_succeed(scene: Scene) -> None:
    results: list[tuple[str, str, str]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(pulled(scene.store(), scene.url))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1
