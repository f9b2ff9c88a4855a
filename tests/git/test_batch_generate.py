"""Requests of a batch that are made from a repository: its commits, its files, and lists of others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.batch import generate
from codex_counsel.batch.generate import Generated, Per
from codex_counsel.batch.requests import MAX_ID, Line, read_requests
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.context import Context
from tests.conftest import World
from tests.git.conftest import Project
from tests.repositories import Repository


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context.of(World(tmp_path).env, tmp_path)


def commits(context: Context, root: Path, text: str, **arguments: Any) -> list[Line]:
    return generate.review_range(context, root, text, arguments).lines


def audit(
    context: Context, root: Path, pattern: str, per: Per = "file", **arguments: Any
) -> Generated:
    return generate.audit(context, root, pattern, per, arguments)


def paths(line: Line) -> Any:
    return line.arguments["paths"]


# --- commits


def test_each_commit_of_a_range_is_a_review_the_oldest_first(
    context: Context, project: Project
) -> None:
    start = project.head
    ids = [project.commit("one"), project.commit("two")]
    lines = commits(context, project.root, f"{start}..HEAD", effort="low")
    assert [line.id for line in lines] == [f"commit-{sha[:12]}" for sha in ids]
    assert lines[0].arguments == {"scope": "commit", "commit": ids[0], "effort": "low"}
    assert {line.kind for line in lines} == {"review"}


def test_merges_and_what_they_bring_are_reviewed_too(
    context: Context, project: Project
) -> None:
    start = project.head
    project.git("checkout", "--quiet", "-b", "side")
    side = project.commit("side")
    project.git("checkout", "--quiet", "main")
    main = project.commit("main")
    project.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
    for text in (f"{start}..HEAD", f"{start}...HEAD"):
        lines = commits(context, project.root, text)
        reviewed = [line.arguments["commit"] for line in lines]
        assert set(reviewed) == {side, main, project.head}
        assert reviewed[-1] == project.head


def test_a_range_without_a_commit_is_nothing_to_review(
    context: Context, project: Project
) -> None:
    with pytest.raises(CounselError, match="No commit is in HEAD") as raised:
        commits(context, project.root, "HEAD..HEAD")
    assert raised.value.code is Code.NOTHING_TO_REVIEW


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("HEAD", Code.INVALID_ARGUMENTS),
        ("", Code.INVALID_ARGUMENTS),
        ("none..HEAD", Code.UNKNOWN_REF),
        ("--all..HEAD", Code.UNKNOWN_REF),
        ("HEAD..--output=/tmp/x", Code.UNKNOWN_REF),
    ],
)
def test_a_range_that_is_none_is_refused(
    context: Context, project: Project, text: str, code: Code
) -> None:
    with pytest.raises(CounselError) as raised:
        commits(context, project.root, text)
    assert raised.value.code is code


def test_arguments_that_a_generator_decides_or_a_tool_does_not_take_are_refused(
    context: Context, project: Project
) -> None:
    project.commit("one")
    for arguments, said in (
        ({"scope": "files"}, "scope does not go with --review-range"),
        ({"task": "x"}, "task does not go with --review-range"),
        ({"nonsense": 1}, "nonsense is not an argument"),
        ({"workspace_root": "/x"}, "`workspace_root` is decided by the batch"),
    ):
        with pytest.raises(CounselError, match=said):
            commits(context, project.root, "HEAD~1..", **arguments)


def test_outside_a_repository_nothing_is_generated(
    context: Context, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(CounselError) as raised:
        commits(context, tmp_path / "plain", "a..b")
    assert raised.value.code is Code.NOT_A_GIT_REPO


# --- files


def test_each_tracked_file_that_matches_is_a_review_of_its_own(
    context: Context, project: Project
) -> None:
    project.write("src/a.py")
    project.write("src/deep/b.py")
    project.write("src/c.txt")
    project.commit()
    project.write("src/untracked.py")
    found = audit(context, project.root, "src/**/*.py", focus="locks")
    assert [line.id for line in found.lines] == [
        "audit-src/a.py",
        "audit-src/deep/b.py",
    ]
    assert found.lines[0].arguments == {
        "scope": "files",
        "paths": ["src/a.py"],
        "focus": "locks",
    }
    assert found.skipped == []


def test_below_the_top_patterns_and_paths_are_relative_to_the_workspace(
    context: Context, project: Project
) -> None:
    project.write("sub/src/a.py")
    project.write("src/b.py")
    project.commit()
    found = audit(context, project.root / "sub", "/src/*.py")
    assert [paths(line) for line in found.lines] == [["src/a.py"]]


def test_what_no_review_can_be_sent_is_skipped_and_listed(
    context: Context, project: Project
) -> None:
    limit = context.settings.max_input_bytes
    project.write("src/binary", b"a\0b")
    project.write("src/empty", "")
    project.write("src/large", "x" * limit)
    project.write("src/gone")
    project.write("src/.env", "TOKEN=1\n")
    project.write(b"src/\xff.py")
    project.write("src/filtered.big")
    project.write(".gitattributes", "*.big filter=custom\n")
    (project.root / "src/link").symlink_to("a.py")
    project.write("src/a.py")
    project.commit()
    project.git("config", "filter.custom.clean", "touch ran")
    (project.root / "src/gone").unlink()
    found = audit(context, project.root, "src")
    assert [paths(line) for line in found.lines] == [["src/a.py"]]
    assert {item.path: item.reason for item in found.skipped} == {
        "src/.env": "its name is that of a secret file",
        "src/binary": "it is binary",
        "src/empty": "it is empty",
        "src/filtered.big": "a content filter applies to it",
        "src/gone": "it is deleted",
        "src/large": f"it is longer than the {limit:,} bytes of CODEX_COUNSEL_MAX_INPUT_BYTES",
        "src/\\xff.py": "its name is not UTF-8",
    }
    assert not (project.root / "ran").exists()


def test_a_pattern_that_nothing_matches_is_nothing_to_review(
    context: Context, project: Project
) -> None:
    for pattern in ("*.rs", "#comment", "!app.py", "../*"):
        with pytest.raises(CounselError) as raised:
            audit(context, project.root, pattern)
        assert raised.value.code is Code.NOTHING_TO_REVIEW
    for pattern in ("", " ", "a\nb", "a\0b"):
        with pytest.raises(CounselError) as raised:
            audit(context, project.root, pattern)
        assert raised.value.code is Code.INVALID_ARGUMENTS


def test_the_files_of_a_directory_are_one_review_or_as_many_as_they_need(
    context: Context, project: Project
) -> None:
    limit = context.settings.max_input_bytes
    project.write("src/a.py")
    project.write("src/b.py")
    for number in range(3):
        project.write(f"big/{number}.py", "x\n" * (limit // 8))
    for number in range(501):
        project.write(f"many/{number:03}.py")
    project.commit()
    found = audit(context, project.root, "*.py", "directory")
    assert {line.id: len(paths(line)) for line in found.lines} == {
        "audit-./": 1,
        "audit-big/": 1,
        "audit-big/-2": 1,
        "audit-big/-3": 1,
        "audit-many/": 500,
        "audit-many/-2": 1,
        "audit-src/": 2,
    }


def test_ids_of_files_with_strange_names_are_ids_of_a_batch(
    context: Context, project: Project
) -> None:
    for name in (
        "a\nb",
        "a\tb",
        "x" * 200,
        "y/" + "x" * 199,
        " lead",
        "trail ",
        "-dash",
    ):
        project.write(f"s/{name}", "text\n")
    project.write("s/a b", "text\n")
    project.commit()
    ids = [line.id for line in audit(context, project.root, "s").lines]
    assert len(set(ids)) == 8
    assert max(map(len, ids)) <= MAX_ID
    lines = [b'{"id": %s, "kind": "review"}' % _json(name) for name in ids]
    assert [line.id for line in read_requests(lines, "x")] == ids


def _json(text: str) -> bytes:
    return json.dumps(text).encode()


# --- lists


def test_pull_requests_are_named_by_number_or_address_and_each_once() -> None:
    url = "https://github.com/octo/shop/pull/12/files"
    found = generate.review_prs(["12", "#12", "!7", url], {"stance": "challenge"})
    assert [(line.id, line.arguments["pr"]) for line in found.lines] == [
        ("pr-12", "12"),
        ("pr-7", "!7"),
        ("pr-12-2", url),
    ]
    assert found.lines[0].arguments["stance"] == "challenge"


@pytest.mark.parametrize("name", ["0", "-1", "12a", "file:///x/pull/1", "javascript:1"])
def test_what_names_no_pull_request_is_refused(name: str) -> None:
    with pytest.raises(CounselError, match="neither a number nor the address"):
        generate.review_prs([name], {})


def test_a_task_is_delegated_to_each_repository() -> None:
    names = [
        "../shop",
        "git@github.com:octo/shop.git",
        "https://h/x/cart.git/",
        "../shop",
    ]
    found = generate.delegate("Update.", names, {"check": "make test"})
    assert [(line.id, line.repo) for line in found.lines] == [
        ("delegate-shop", "../shop"),
        ("delegate-shop-2", "git@github.com:octo/shop.git"),
        ("delegate-cart", "https://h/x/cart.git/"),
    ]
    assert found.lines[0].arguments == {"task": "Update.", "check": "make test"}
    with pytest.raises(CounselError, match="task: "):
        generate.delegate(" ", ["a"], {})


def test_an_id_names_the_directory_that_a_dot_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop" / "src").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "shop" / "src")
    found = generate.delegate("Update.", [".", ".."], {})
    assert [line.id for line in found.lines] == ["delegate-src", "delegate-shop"]


def test_a_list_is_given_in_words_or_as_a_file(tmp_path: Path) -> None:
    assert generate.read_list("12, 15,,7 ", tmp_path) == ["12", "15", "7"]
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf12\r\n\n a,b \n")
    assert generate.read_list("@list", tmp_path) == ["12", "a,b"]
    for content in (b"\xff", None):
        if content is not None:
            (tmp_path / "bad").write_bytes(content)
        with pytest.raises(CounselError) as raised:
            generate.read_list("@bad" if content else "@none", tmp_path)
        assert raised.value.code is Code.INVALID_ARGUMENTS


def test_a_list_that_is_no_ordinary_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("@pipe", "@."):
        with pytest.raises(CounselError):
            generate.read_list(name, tmp_path)


def test_paths_in_a_list_of_repositories_start_from_the_list(tmp_path: Path) -> None:
    Repository(tmp_path / "lists/shop").init()
    text = "shop\n\nhttps://h/x.git\nnone\nshop\n"
    (tmp_path / "lists/all").write_text(text, "utf-8")
    assert generate.read_repositories("@lists/all", tmp_path) == {
        str(tmp_path / "lists/shop"): 1,
        "https://h/x.git": 3,
        str(tmp_path / "lists/none"): 4,
    }
    assert generate.read_repositories("a,b,a", tmp_path) == {"a": 0, "b": 0}


def test_a_path_in_a_list_of_repositories_is_none_of_the_current_directory(
    tmp_path: Path,
) -> None:
    Repository(tmp_path / "shop").init()
    Repository(tmp_path / "lists/git@h:octo").init()
    (tmp_path / "lists/all").write_text("shop\ngit@h:octo\ngit@h:o/x\n", "utf-8")
    assert generate.read_repositories("@lists/all", tmp_path) == {
        str(tmp_path / "lists/shop"): 1,
        str(tmp_path / "lists/git@h:octo"): 2,
        "git@h:o/x": 3,
    }
