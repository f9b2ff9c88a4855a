"""The permission profile, as tables, and its TOML."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex import sandbox
from codex_counsel.codex.sandbox import (
    LATER_SECRETS,
    Boundary,
    can_be_scanned,
    fresh_name,
    is_literal_path,
    overrides,
    toml,
    why_closed,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.secret_names import secret_name

ROOT = Path("/srv/project")
CLOSED = {"enabled": False}


def profile(boundary: Boundary) -> dict[str, Any]:
    """The one profile, as Codex reads it."""
    values = tomllib.loads("\n".join(overrides(boundary, "name")))
    assert values["default_permissions"] == "name"
    assert list(values["permissions"]) == ["name"]
    table: dict[str, Any] = values["permissions"]["name"]
    return table


@pytest.mark.parametrize(
    ("boundary", "table"),
    [
        (
            Boundary(ROOT),
            {
                "filesystem": {":minimal": "read", "/srv/project": "read"},
                "network": CLOSED,
            },
        ),
        (
            Boundary(ROOT, network=True),
            {
                "filesystem": {":minimal": "read", "/srv/project": "read"},
                "network": {"enabled": True},
            },
        ),
        (
            Boundary(
                ROOT,
                reads="toolchains",
                readable=(Path("/opt/codex"), Path("/home/me/.pyenv")),
            ),
            {
                "filesystem": {
                    ":minimal": "read",
                    "/opt/codex": "read",
                    "/home/me/.pyenv": "read",
                    "/srv/project": "read",
                },
                "network": CLOSED,
            },
        ),
        (
            Boundary(
                ROOT,
                mode="worktree-write",
                readable=(Path("/srv"),),
                scratch=(Path("/tmp/job"),),
            ),
            {
                "filesystem": {
                    ":minimal": "read",
                    "/srv": "read",
                    "/srv/project": "write",
                    "/tmp/job": "write",
                },
                "network": CLOSED,
            },
        ),
        (
            Boundary(
                ROOT,
                mode="workspace-write",
                scratch=(Path("/tmp/job"),),
                closed=(ROOT / ".git", ROOT / "pkg/CLAUDE.md"),
                pinned=(ROOT / "pkg",),
                secrets=(ROOT / "pkg/.env",),
            ),
            {
                "filesystem": {
                    ":minimal": "read",
                    "/srv/project": "write",
                    "/srv/project/pkg": "write",
                    "/srv/project/.git": "read",
                    "/srv/project/pkg/CLAUDE.md": "read",
                    "/tmp/job": "write",
                    "/srv/project/pkg/.env": "deny",
                },
                "network": CLOSED,
            },
        ),
        (
            Boundary(
                ROOT,
                reads="host",
                denied=(Path("/home/me/.ssh"),),
                secrets=(ROOT / ".env",),
            ),
            {
                "extends": ":read-only",
                "filesystem": {
                    "/srv/project": "read",
                    "/home/me/.ssh": "deny",
                    "/srv/project/.env": "deny",
                },
                "network": CLOSED,
            },
        ),
    ],
    ids=["workspace", "network", "toolchains", "delegate", "in place", "host"],
)
def test_each_kind_of_run_has_its_profile(
    boundary: Boundary, table: dict[str, Any]
) -> None:
    assert profile(boundary) == table


HOMES = (Path("/home/me"), Path("/root"))
REFUSED = {
    "/": "home directory",
    "/home": "home directory",
    "/home/me": "home directory",
    "relative": "absolute",
    "/srv/project/../other": "without links",
    "{tmp}/link": "without links",
    "{tmp}/link/below": "without links",
    "/home/me/.codex": "no run may see",
    "/home/me/.codex/sessions": "no run may see",
    "/etc": "running system",
    "/etc/ssl/private": "running system",
    "/var": "running system",
    "/var/log/app": "running system",
    "/proc/self/root": "running system",
    "/sys": "running system",
    "/srv/a[b]": "pattern",
    "/srv/new\nline": "pattern",
}
OPENED = ("/srv/project", "/home/me/code", "/opt/x", "/var/lib/jenkins/a", "/tmp/{a}")


def gate(path: str) -> str | None:
    return why_closed(Path(path), HOMES, (Path("/home/me/.codex"),))


@pytest.mark.parametrize(("path", "reason"), REFUSED.items())
def test_the_gate_refuses_what_no_run_may_be_given(
    tmp_path: Path, path: str, reason: str
) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    refusal = gate(path.format(tmp=tmp_path))
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize("path", OPENED)
def test_the_gate_opens_ordinary_directories(path: str) -> None:
    assert gate(path) is None


@pytest.mark.parametrize("place", ["workspace", "readable", "scratch"])
def test_every_entry_of_a_profile_passes_the_gate_wherever_it_came_from(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "link").symlink_to("/srv")
    denied = Path("/home/me/.codex")
    for path in (tmp_path / "link", denied, denied / "below", Path("/srv/a[b]")):
        value: Any = path if place == "workspace" else (path,)
        arguments: dict[str, Any] = {place: value}
        boundary = replace(Boundary(ROOT, denied=(denied,)), **arguments)
        with pytest.raises(CounselError) as error:
            overrides(boundary, "name")
        assert error.value.code == Code.WORKSPACE_INVALID


def test_a_home_is_never_an_entry_of_a_profile() -> None:
    boundary = Boundary(ROOT, readable=(Path("/home/me"),), homes=HOMES)
    with pytest.raises(CounselError):
        overrides(boundary, "name")


def test_no_other_module_writes_entries_of_a_profile() -> None:
    writers = set()
    for path in Path(sandbox.__file__).parents[1].rglob("*.py"):
        text = path.read_text("utf-8")
        if re.search(
            r"\"permissions=|default_permissions|\"filesystem\"|sandbox_mode|writable_roots",
            text,
        ):
            writers.add(path.name)
    # `compat.config` names the keys that it refuses.
    assert writers == {"sandbox.py", "config.py"}


def test_secret_files_made_during_the_run_are_denied_by_pattern() -> None:
    entries = profile(Boundary(ROOT, searched=(ROOT,)))["filesystem"]
    (pattern,) = [path for path, access in entries.items() if access == "deny"]
    assert pattern.startswith("/srv/project/**/{.env,")
    assert entries["glob_scan_max_depth"] == 1000


def test_what_is_out_of_sight_in_a_home_needs_no_denial() -> None:
    home = Path("/home/me")
    boundary = Boundary(
        ROOT,
        readable=(home / "tools",),
        denied=(home / ".ssh", home / "tools/.env", Path("/etc/shadow")),
        homes=(home,),
    )
    entries = profile(boundary)["filesystem"]
    denied = [path for path, access in entries.items() if access == "deny"]
    assert denied == ["/home/me/tools/.env", "/etc/shadow"]
    root_is_home = profile(replace(boundary, homes=(Path("/"), home)))["filesystem"]
    assert root_is_home["/etc/shadow"] == "deny"
    host = profile(replace(boundary, reads="host"))["filesystem"]
    assert host["/home/me/.ssh"] == "deny"


def test_the_pattern_denies_nothing_but_what_is_a_secret_by_name() -> None:
    for name in LATER_SECRETS.strip("{}").split(","):
        assert secret_name(name.replace("*", "server")), name


@pytest.mark.parametrize("root", ["/srv/{a}", "/srv/a!b", "/srv/back\\slash"])
def test_a_root_that_would_be_taken_for_a_pattern_is_not_scanned(root: str) -> None:
    assert not can_be_scanned(Path(root))


def test_a_consultation_may_write_nowhere_but_in_its_scratch_directory() -> None:
    opened = profile(
        Boundary(ROOT, readable=(Path("/opt"),)).with_scratch(Path("/tmp/job"))
    )["filesystem"]
    assert [path for path, access in opened.items() if access == "write"] == [
        "/tmp/job"
    ]


def test_the_programs_of_the_project_can_be_read_and_not_changed() -> None:
    boundary = Boundary(ROOT, environment=ROOT / ".venv").with_programs(
        Path("/job/bin")
    )
    assert profile(boundary)["filesystem"]["/job/bin"] == "read"
    assert Boundary(ROOT).with_programs(Path("/job/bin")) == Boundary(ROOT)


def test_a_directory_that_is_two_on_a_path_holds_no_programs() -> None:
    boundary = Boundary(ROOT, environment=ROOT / ".venv")
    assert boundary.with_programs(Path("/a:b/bin")) == Boundary(ROOT)


def test_the_programs_of_the_project_pass_the_gate() -> None:
    boundary = Boundary(ROOT, environment=ROOT / ".venv", denied=(Path("/job"),))
    with pytest.raises(CounselError, match="no run may see"):
        overrides(boundary.with_programs(Path("/job/bin")), "p")


@pytest.mark.parametrize(
    ("secret", "pattern"),
    [
        ("plain/.env", "plain/.env"),
        ("sp ace/quo'te\"s.env", "sp ace/quo'te\"s.env"),
        ("{a,b}!~$back\\slash.env", "{a,b}!~$back\\slash.env"),
        ("ünï.env", "ünï.env"),
        ("app/[id]/.env", "app/**/?id?/.env"),
        ("*.env", "**/?.env"),
        ("[x].env", "**/?x?.env"),
        ("a?{b}!\\.env", "**/a??b???.env"),
        ("new\nline\ttab\r.env", "**/new?line?tab?.env"),
        ("ü[ñ].env", "**/ü?ñ?.env"),
    ],
)
def test_a_secret_file_is_denied_by_its_path_or_by_a_pattern_that_covers_it(
    secret: str, pattern: str
) -> None:
    denied = [
        path
        for path, access in profile(Boundary(ROOT, secrets=(ROOT / secret,)))[
            "filesystem"
        ].items()
        if access == "deny"
    ]
    assert denied == [f"{ROOT}/{pattern}"]


def test_a_pattern_is_searched_to_a_depth_that_no_path_exceeds() -> None:
    entries = profile(Boundary(ROOT, secrets=(ROOT / "[x].env",)))["filesystem"]
    assert entries["glob_scan_max_depth"] == 1000


@pytest.mark.parametrize("path", ["/a b/ü'\"\\{}!$~#%:,", "/a\x1b\x7f"])
def test_codex_can_be_told_to_open_most_paths(path: str) -> None:
    assert is_literal_path(Path(path))


@pytest.mark.parametrize(
    "path", ["/a*", "/a?/b", "/[a", "/a]", "/a\nb", "/a\t", "/a\r", "/**"]
)
def test_codex_cannot_be_told_to_open_what_it_takes_for_a_pattern(path: str) -> None:
    assert not is_literal_path(Path(path))


HOSTILE = [
    "",
    " ",
    'a"b',
    "a\\",
    'a\\"b',
    '"}, evil = {"',
    '"="write","/',
    "a\nb = 1",
    "a\r\tb\x00\x01\x1f\x7f\x80",
    "'''",
    '"""',
    "# comment",
    "[table]",
    "a.b.c",
    "ünï 日本 \u2028\ufeff\U0001f600",
    "true",
    "1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_the_same_text_after_toml(text: str) -> None:
    assert tomllib.loads(f"x={toml(text)}") == {"x": text}
    assert tomllib.loads(f"x={toml({text: {text: [text, True, 1]}})}") == {
        "x": {text: {text: [text, True, 1]}}
    }


@pytest.mark.parametrize(
    "text",
    [
        text
        for text in HOSTILE
        if "\x00" not in text and is_literal_path(Path(f"/{text}"))
    ],
)
def test_a_path_says_no_more_than_it_is(text: str) -> None:
    root = Path(f"/srv/{text}x")
    assert profile(Boundary(root))["filesystem"] == {
        ":minimal": "read",
        str(root): "read",
    }


@pytest.mark.parametrize(
    ("boundary", "reported"),
    [
        (Boundary(ROOT), "workspace"),
        (Boundary(ROOT, reads="toolchains"), "toolchains"),
        (Boundary(ROOT, reads="host"), "host"),
        (Boundary(ROOT, secrets_complete=False), "partial"),
        (Boundary(ROOT, reads="toolchains", secrets_complete=False), "partial"),
        (Boundary(ROOT, reads="host", secrets_complete=False), "host"),
    ],
)
def test_the_boundary_that_is_really_in_force_is_reported(
    boundary: Boundary, reported: str
) -> None:
    assert boundary.report().read_boundary == reported


def test_settings_of_the_machine_that_are_left_writable_are_reported() -> None:
    assert Boundary(ROOT).report().host_controls is None
    boundary = Boundary(ROOT, host_controls_writable=True)
    assert boundary.report().host_controls == "writable"


def test_nothing_is_denied_below_a_denied_directory_or_twice() -> None:
    """No command could be started."""
    closed = Path("/home/me/.codex")
    boundary = Boundary(
        ROOT,
        denied=(closed / "jobs", closed, Path("/home/me/.codex2")),
        secrets=(closed / "a/.env", ROOT / ".env", ROOT / ".env"),
    )
    denied = [
        path
        for path, access in profile(boundary)["filesystem"].items()
        if access == "deny"
    ]
    assert denied == [str(closed), "/home/me/.codex2", f"{ROOT}/.env"]


def test_names_of_profiles_are_fresh_and_plain() -> None:
    names = {fresh_name() for _ in range(9)}
    assert len(names) == 9
    assert all(name.isidentifier() for name in names)
