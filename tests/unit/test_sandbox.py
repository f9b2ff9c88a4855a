"""The permission profile, as tables, and its TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex.sandbox import (
    Boundary,
    fresh_name,
    is_literal_path,
    overrides,
    toml,
)

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
    ids=["workspace", "network", "toolchains", "delegate", "host"],
)
def test_each_kind_of_run_has_its_profile(
    boundary: Boundary, table: dict[str, Any]
) -> None:
    assert profile(boundary) == table


def test_a_denial_wins_over_an_opening_of_the_same_path() -> None:
    both = Path("/home/me/.codex")
    assert (
        profile(Boundary(ROOT, readable=(both,), denied=(both,)))["filesystem"][
            str(both)
        ]
        == "deny"
    )


def test_a_consultation_may_write_nowhere_but_in_its_scratch_directory() -> None:
    opened = profile(
        Boundary(ROOT, readable=(Path("/opt"),)).with_scratch(Path("/tmp/job"))
    )["filesystem"]
    assert [path for path, access in opened.items() if access == "write"] == [
        "/tmp/job"
    ]


@pytest.mark.parametrize(
    ("secret", "pattern"),
    [
        ("plain/.env", "plain/.env"),
        ("sp ace/quo'te\"s.env", "sp ace/quo'te\"s.env"),
        ("{a,b}!~$back\\slash.env", "{a,b}!~$back\\slash.env"),
        ("ünï.env", "ünï.env"),
        ("app/[id]/.env", "?pp/?id?/.env"),
        ("*.env", "?.env"),
        ("[x].env", "?x?.env"),
        ("a?{b}!\\.env", "???b???.env"),
        ("new\nline\ttab\r.env", "?ew?line?tab?.env"),
        ("ü[ñ].env", "???ñ?.env"),
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


def test_names_of_profiles_are_fresh_and_plain() -> None:
    names = {fresh_name() for _ in range(9)}
    assert len(names) == 9
    assert all(name.isidentifier() for name in names)
