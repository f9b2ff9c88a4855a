"""Whatever a run leaves in its tree becomes a patch that makes it again, with everything else about it said."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.delegate import capture
from codex_counsel.delegate.apply_plan import read_base
from codex_counsel.delegate.conclude import MAX_READABLE
from codex_counsel.delegate.sensitive import TreeLinks
from codex_counsel.delegate.shadow import Shadow, ShadowTimeoutError
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from tests.git.delegate.conftest import Seeded, UserRepository
from tests.git.delegate.states import files
from tests.repositories import Repository


def rows(work: Any) -> list[tuple[str, str]]:
    return [(row["status"], row["path"]) for row in work.files]


def apply_to_copy(
    repository: UserRepository, seeded: Seeded
) -> dict[bytes, tuple[str, bytes]]:
    """What the stored patch makes of a copy of the user's files, with plain git and none of our settings."""
    copy = repository.base / "copy"
    shutil.copytree(
        repository.root, copy, symlinks=True, ignore=shutil.ignore_patterns(".git")
    )
    plain = Repository(copy).init()
    plain.write(".git/info/attributes", "* -text -filter\n")
    patch = seeded.store / "diff.patch"
    if patch.stat().st_size:
        plain.git("apply", "--binary", "--whitespace=nowarn", str(patch))
    return files(copy)


RUNS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "adds": ("echo new > new.txt", [("A", "new.txt")]),
    "adds an empty file": (": > none", [("A", "none")]),
    "adds without an end of line": ("printf end > end.txt", [("A", "end.txt")]),
    "removes the last end of line": ("printf 'line 1' > app.py", [("M", "app.py")]),
    "deletes": ("rm app.py", [("D", "app.py")]),
    "renames": ("mv app.py lib.py; echo more >> lib.py", [("R", "lib.py")]),
    "renames a binary": ("mv logo.png docs/", [("R", "docs/logo.png")]),
    "changes a binary": (r"printf '\0\377' >> logo.png", [("M", "logo.png")]),
    "makes executable": ("chmod +x app.py", [("M", "app.py")]),
    "makes a link": ("ln -s app.py again", [("A", "again")]),
    "turns a link": ("ln -sfn app.py latest", [("M", "latest")]),
    "turns a file into a link": ("ln -sf docs/readme.md app.py", [("T", "app.py")]),
    "turns a folder into a file": ("rm -r docs; echo x > docs", [("A", "docs"), ("D", "docs/readme.md")]),
    "turns a file into a folder": ("rm app.py; mkdir app.py; echo x > app.py/m", [("D", "app.py"), ("A", "app.py/m")]),
    "turns a link into a folder": ("rm latest; mkdir latest; echo x > latest/m", [("D", "latest"), ("A", "latest/m")]),
    "changes line ends": (r"sed -i 's/$/\r/' app.py", [("M", "app.py")]),
    "adds attributes": (
        r"echo '* text eol=crlf' > .gitattributes; printf 'a\r\nb\n' > m",
        [("A", ".gitattributes"), ("A", "m")],
    ),
    "writes nothing": ("touch app.py; mkdir hollow", []),
    "writes odd names": (
        "echo > $'caf\\xe9'; echo > $'new\\nline'; echo > '\"q'",
        [("A", '"q'), ("A", "caf\\xe9"), ("A", "new\\nline")],
    ),
    "deletes everything": (
        "rm -rf -- * .gitignore",
        [("D", name) for name in (".gitignore", "app.py", "docs/readme.md", "latest", "logo.png", "run.sh")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", RUNS.values(), ids=RUNS)
def test_what_a_run_did_is_captured_and_the_patch_makes_it_again(
    repository: UserRepository, command: tuple[str, list[tuple[str, str]]]
) -> None:
    seeded = repository.seed()
    work = seeded.work(command[0])
    assert rows(work) == command[1]
    assert apply_to_copy(repository, seeded) == seeded.files


def test_the_patch_starts_from_the_users_uncommitted_work_and_holds_none_of_it(
    repository: UserRepository,
) -> None:
    repository.write("app.py", "mine\n")
    repository.write("untracked.txt", "mine too\n")
    repository.write("logo.png", b"\0mine")
    seeded = repository.seed()
    work = seeded.work("echo theirs >> app.py; echo theirs >> untracked.txt")
    assert rows(work) == [("M", "app.py"), ("M", "untracked.txt")]
    assert "+mine" not in work.diff
    assert apply_to_copy(repository, seeded) == seeded.files


def test_nothing_done_is_an_empty_patch(repository: UserRepository) -> None:
    seeded = repository.seed()
    work = seeded.work()
    assert (work.diff, work.diffstat, work.files, work.diff_exact) == ("", "", [], True)
    assert (seeded.store / "diff.patch").read_bytes() == b""


def test_thousands_of_files_are_captured_and_the_list_of_them_is_bounded(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work("mkdir many; for i in $(seq 2000); do echo $i > many/$i; done")
    assert work.diffstat == "2000 files changed, 2000 insertions(+)"
    assert (len(work.files), len(work.names)) == (500, 2000)


def test_files_that_a_run_closed_are_opened_and_captured(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work(
        "echo secret > closed; chmod 0 closed app.py; mkdir shut; echo x > shut/f; chmod 0 shut"
    )
    assert rows(work) == [("A", "closed"), ("A", "shut/f")]
    closed = [seeded.shadow.tree / name for name in ("closed", "app.py", "shut")]
    assert all(
        path.stat().st_mode & 0o600 == 0o600 for path in closed
    )  # root would not notice otherwise


@pytest.mark.parametrize("name", [".git", ".GIT", "git~1"])
def test_a_repository_that_a_run_plants_is_reported_and_its_files_are_captured(
    repository: UserRepository, name: str
) -> None:
    seeded = repository.seed()
    work = seeded.work(
        f"mkdir -p in/{name}/hooks; echo evil > in/{name}/hooks/post-checkout; echo file > in/f"
    )
    assert rows(work) == [("A", "in/f")]
    assert work.planted == [f"in/{name} (a git directory, removed)"]


@pytest.mark.parametrize(
    "name",
    [".git./x", ".git /x", ".git::$INDEX_ALLOCATION/x", "git~1.../x", r"a\.git\x"],
)
def test_a_name_that_another_system_takes_for_a_git_directory_is_captured_and_sensitive(
    repository: UserRepository, name: str
) -> None:
    seeded = repository.seed()
    folder = "$(dirname -- '" + name + "')"
    seeded.run(f"mkdir -p \"{folder}\"; echo x > '{name}'; echo work > made.txt")
    captured = seeded.capture()
    assert {file.name for file in captured.files} == {b"made.txt", name.encode()}
    assert captured.sensitive == {name.encode()}


@pytest.mark.parametrize("name", [".gitmodules", "in/.GitModules"])
def test_a_link_that_git_refuses_is_reported_and_the_rest_is_captured(
    repository: UserRepository, name: str
) -> None:
    seeded = repository.seed()
    work = seeded.work(f"mkdir in; ln -s app.py {name}; echo work > made.txt")
    assert rows(work) == [("A", "made.txt")]
    assert work.planted == [f"{name} (a link to app.py that git refuses, removed)"]


def test_a_pipe_in_place_of_a_tracked_file_is_reported_and_the_rest_is_captured(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work("rm app.py; mkfifo app.py; echo work > made.txt")
    assert rows(work) == [("D", "app.py"), ("A", "made.txt")]
    assert work.planted == ["app.py (a FIFO, removed)"]


def test_a_sparse_file_that_would_take_git_too_long_is_named_and_the_rest_is_captured(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work("truncate -s 500G sparse.bin; echo work > made.txt")
    assert (rows(work), work.partial) == ([("A", "made.txt")], True)
    assert "sparse.bin" in work.warnings[0]


def test_patterns_that_git_takes_too_long_to_match_are_named_and_the_rest_is_captured(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = repository.seed()
    seeded.run("echo pattern >> .gitignore; echo work > made.txt; echo x > new.log")
    seeded.run("mkdir in; echo pattern > in/.gitattributes")
    git = Shadow.git

    def slow_with_pattern(shadow: Shadow, *args: Any, **more: Any) -> bytes:
        follows_patterns = args[0] == "add" or "--exclude-standard" in args
        if follows_patterns and "pattern" in (shadow.tree / ".gitignore").read_text():
            (shadow.git_dir / "index.lock").touch()
            raise ShadowTimeoutError(Code.WORKTREE_FAILED, "took too long")
        return git(shadow, *args, **more)

    monkeypatch.setattr(Shadow, "git", slow_with_pattern)
    captured = seeded.capture()
    assert [file.name for file in captured.files] == [b"made.txt"]
    assert sorted(captured.left_out) == [".gitignore", "in/.gitattributes"]
    assert captured.ignored == ["new.log"]


def test_a_file_that_git_refuses_for_any_reason_does_not_take_the_others_with_it(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "SPECIAL_FILES", {})
    seeded = repository.seed()
    work = seeded.work(
        "rm app.py run.sh; mkfifo app.py run.sh; for n in $(seq 20); do echo > $n; done"
    )
    assert (len(rows(work)), work.partial) == (20, True)
    assert "app.py, run.sh" in work.warnings[0]


def test_a_real_repository_inside_is_captured_as_files_and_not_as_a_submodule(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    commit = "git -c user.name=a -c user.email=a@b commit -qm x"
    work = seeded.work(f"git init -q sub; cd sub; echo x > f; git add f; {commit}")
    assert rows(work) == [("A", "sub/f")]
    assert work.planted == ["sub/.git (a git directory, removed)"]


def test_a_git_file_that_was_replaced_is_reported_and_never_followed(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    mark = repository.base / "ran"
    hooks = f"mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch {mark}\\n' > .git/hooks/post-index-change"
    work = seeded.work(
        f"rm .git; git init -q .; {hooks}; chmod +x .git/hooks/*; echo x > f"
    )
    assert rows(work) == [("A", "f")]
    assert work.planted == [".git (a git directory, removed)"]
    assert not mark.exists()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside", "docs/../../outside", ".."]
)
def test_a_link_that_leads_out_is_reported_and_never_followed(
    repository: UserRepository, target: str
) -> None:
    seeded = repository.seed()
    work = seeded.work(f"ln -s {target} out")
    assert work.planted == [f"out (a link that leads to {target})"]
    assert work.files[0]["sensitive"] is True


LINKS: dict[bytes, bytes] = {
    b"docs/here": b"..",
    b"docs/up": b"../..",
    b"docs/absolute": b"/etc",
    b"loop": b"loop",
    b"first": b"second",
    b"second": b"docs/readme.md",
}


@pytest.mark.parametrize(
    ("name", "target", "destination"),
    [
        (b"a", b"b", b"b"),
        (b"a", b".", b""),
        (b"a", b"..b", b"..b"),
        (b"a", b"docs//./sub/../readme.md", b"docs/readme.md"),
        (b"a/b", b"../c", b"c"),
        (b"a", b"first", b"docs/readme.md"),
        (b"a", b"docs/here/x", b"x"),
        (b"a/b", b"../../c", None),
        (b"a", b"/b", None),
        (b"a/b", b"c/../../..", None),
        (b"a", b"docs/here/../x", None),
        (b"a", b"docs/up", None),
        (b"a", b"docs/absolute/passwd", None),
        (b"a", b"loop", None),
    ],
)
def test_a_link_leads_where_the_links_on_its_way_lead(
    name: bytes, target: bytes, destination: bytes | None
) -> None:
    links = TreeLinks((), (LINKS | {name: target}).get)
    assert links.destination(name) == destination


def test_ignored_outputs_are_listed_and_not_captured(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work("echo x > run.log; mkdir build; echo x > build/o; echo x > kept")
    assert rows(work) == [("A", "kept")]
    assert work.ignored == ["build/", "run.log"]


def test_what_the_clone_ignores_is_ignored_of_a_run_too(
    repository: UserRepository,
) -> None:
    repository.write(".git/info/exclude", "*.tmp\n")
    work = repository.seed().work("echo x > scratch.tmp; echo x > kept")
    assert rows(work) == [("A", "kept")]
    assert work.ignored == ["scratch.tmp"]


def test_settings_of_the_user_do_not_bend_what_is_captured(
    repository: UserRepository, own_git_settings: Path
) -> None:
    if (repository.root / "APP.py").exists():
        pytest.skip("this file system ignores case itself")
    with own_git_settings.open("a") as file:
        file.write("[core]\n ignoreCase = true\n")
    assert rows(repository.seed().work("echo x > APP.py")) == [("A", "APP.py")]


def test_a_rule_that_the_run_adds_does_not_hide_what_was_there(
    repository: UserRepository,
) -> None:
    repository.write("notes.tmp", "mine\n")
    seeded = repository.seed()
    work = seeded.work(
        "echo '*.tmp' >> .gitignore; echo more >> notes.tmp; echo x > fresh.tmp"
    )
    assert rows(work) == [("M", ".gitignore"), ("M", "notes.tmp")]
    assert work.ignored == ["fresh.tmp"]


@pytest.mark.parametrize(
    ("command", "exact"),
    [
        ("echo plain > new", True),
        ("printf 'a\\0b' > new", False),
        ("echo ghp_0123456789abcdefghij0123456789abcdefghij > new", False),
        ("printf 'a\\033[31mb\\n' > new", False),
        ("printf 'caf\\351\\n' > new", False),
    ],
    ids=["text", "binary", "masked", "scrubbed", "not UTF-8"],
)
def test_the_diff_says_whether_it_is_the_patch(
    repository: UserRepository, command: str, *, exact: bool
) -> None:
    seeded = repository.seed()
    work = seeded.work(command)
    assert work.diff_exact is exact
    assert (work.diff.encode() == (seeded.store / "diff.patch").read_bytes()) is exact
    assert apply_to_copy(repository, seeded) == seeded.files


def test_a_diff_over_the_limit_begins_in_the_result_and_is_whole_on_disk(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work("seq 3000000 > big.txt", limit=1000)
    whole = (seeded.store / "diff.patch").read_text()
    assert work.diff == whole[:1000]
    assert work.diff_exact is False
    (warning,) = work.warnings
    assert f"the diff has {len(whole)} bytes; the first 1000 are" in warning
    assert f"further pages of the result have {MAX_READABLE}" in warning
    assert (seeded.store / "diff.txt").read_text() == whole[:MAX_READABLE]
    assert apply_to_copy(repository, seeded) == seeded.files


def test_a_large_binary_is_captured(repository: UserRepository) -> None:
    seeded = repository.seed()
    work = seeded.work("head -c 30000000 /dev/urandom > big.bin")
    assert work.diff.splitlines()[-1] == "Binary files /dev/null and b/big.bin differ"
    assert apply_to_copy(repository, seeded) == seeded.files


def test_a_patch_that_does_not_make_the_tree_again_is_not_passed_off_as_one(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = repository.seed()
    seeded.run("echo x > new")
    monkeypatch.setattr(Shadow, "apply_to_tree", lambda *_: "0" * 40)
    with pytest.raises(CounselError, match="does not reproduce"):
        seeded.capture()


def test_a_patch_too_large_to_be_verified_is_not_passed_off_as_one(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = repository.seed()
    seeded.run("echo x > new")
    monkeypatch.setattr(capture, "MAX_VERIFIED", 10)
    with pytest.raises(CounselError, match="too many to be verified"):
        seeded.capture()
    assert b"+x" in (seeded.store / "diff.patch").read_bytes()


def test_what_was_there_before_is_kept_up_to_a_limit(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "MAX_BASE", 500)
    seeded = repository.seed()
    seeded.work("echo x >> app.py; printf x >> logo.png; echo x >> run.sh")
    assert {
        name: state.mode
        for name, state in read_base(seeded.store / "base.tar").items()
        if state
    } == {
        b"app.py": "100644",
        b"run.sh": "100755",
    }


def test_the_shadow_shows_its_user_what_git_shows(repository: UserRepository) -> None:
    repository.write("app.py", "changed\n")
    seeded = repository.seed()

    def git_in_shadow(*args: str) -> str:
        result = subprocess.run(
            ["git", *args],
            cwd=seeded.shadow.tree,
            check=True,
            capture_output=True,
            text=True,
        )
        return result.stdout

    assert git_in_shadow("status", "--short") == "M  app.py\n"
    assert "begin" in git_in_shadow("log", "--oneline")
    assert git_in_shadow("rev-parse", "HEAD").strip() == repository.git(
        "rev-parse", "HEAD"
    )
    assert Repo.open(seeded.shadow.tree, env=os.environ).head() == repository.git(
        "rev-parse", "HEAD"
    )


def test_a_shadow_goes_whole_also_where_a_run_closed_folders(
    repository: UserRepository, tmp_path: Path
) -> None:
    seeded = repository.seed()
    seeded.run("mkdir -p a/b; echo > a/b/c; chmod 0 a/b a")
    seeded.shadow.remove()
    assert not seeded.shadow.base.exists()


# --- what the diff for reading hides


HIDDEN = {
    "a lone carriage return": (
        r"printf '# harmless\r__import__(\"os\").system(\"id\")\n' > a.py",
        "+# harmless<U+000D>__import__",
    ),
    "an override": (r"printf 'x = 1 # \u202e\u2066 admin\n' > a.py", "+x = 1 # <U+202E><U+2066> admin"),
    "separators": (r"printf 'x\u2028y\u2029z\u0085\n' > a.js", "+x<U+2028>y<U+2029>z<U+0085>"),
    "tags": (r"printf 'x\U000e0041\n' > a.md", "+x<U+E0041>"),
    "zero width": (r"printf 'pass\u200bword\n' > a.py", "+pass<U+200B>word"),
    "a sequence": (r"printf 'rm -rf /\033[2K\033[1A\n' > a.sh", "+rm -rf /<U+001B>[2K<U+001B>[1A"),
    "a name": (r"touch $'\u202egpj.py'", "b/<U+202E>gpj.py"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "shown"), HIDDEN.values(), ids=HIDDEN)
def test_what_hides_or_reorders_text_is_written_out_and_the_patch_stays_exact(
    repository: UserRepository, command: str, shown: str
) -> None:
    seeded = repository.seed()
    work = seeded.work(command)
    assert shown in work.diff
    assert work.diff_exact is False
    assert any("hide or reorder text" in warning for warning in work.warnings)
    assert apply_to_copy(repository, seeded) == seeded.files


def test_ordinary_text_of_any_language_and_crlf_are_shown_exactly(
    repository: UserRepository,
) -> None:
    seeded = repository.seed()
    work = seeded.work(
        r"printf 'x = 1\r\ny = \"\u0645\u06cc\u200c\u062e \u2764\ufe0f\"\r\n' > a.py"
    )
    assert (work.diff_exact, work.warnings) == (True, [])


UNSEEN = {
    "a NUL": r"printf 'import os\n\0' > a.py",
    "UTF-16": r"printf '\377\376i\0\n\0' > a.py",
}


@pytest.mark.parametrize("command", UNSEEN.values(), ids=UNSEEN)
def test_a_source_file_that_the_diff_does_not_show_is_named(
    repository: UserRepository, command: str
) -> None:
    work = repository.seed().work(command)
    (warning,) = [text for text in work.warnings if "for binary" in text]
    assert warning.endswith(": a.py")


def test_a_program_without_a_suffix_that_the_diff_does_not_show_is_named(
    repository: UserRepository,
) -> None:
    work = repository.seed().work(
        r"printf '#!/bin/sh\n\0' > deploy; chmod +x deploy; printf '\0' > icon.png"
    )
    (warning,) = [text for text in work.warnings if "for binary" in text]
    assert warning.endswith(": deploy")


@pytest.mark.parametrize("attribute", ["-diff", "binary", "diff=hidden"])
def test_no_attribute_of_the_repository_or_of_the_run_hides_text(
    repository: UserRepository, attribute: str
) -> None:
    repository.write(".gitattributes", f"*.py {attribute}\n")
    repository.commit("hide")
    work = repository.seed().work(
        f"echo 'import os' | tee -a app.py > a.sh; echo '*.sh {attribute}' >> .gitattributes"
    )
    assert work.diff.count("+import os") == 2
    assert work.warnings == []


def test_a_diff_that_is_too_long_once_it_is_written_out_is_called_cut(
    repository: UserRepository,
) -> None:
    work = repository.seed().work(
        r"python3 -c 'print(chr(0x202e) * 1000)' > a.py", limit=5_000
    )
    assert any("the first 5000 are in" in warning for warning in work.warnings)
