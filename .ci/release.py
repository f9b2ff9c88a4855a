"""What a release needs beside its tests: one version everywhere, the name of the repository, the notes.

    python .ci/release.py check [--tag v1.2.3]   exit code 1, and what is wrong on stderr
    python .ci/release.py fill OWNER/REPOSITORY  write the name of the repository into what is published
    python .ci/release.py notes                  print the part of the changelog on this version

The repository does not know where it is published: `fill` says so in the checkout that a
release is built from, and nowhere else. Needs only Python.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "OWNER/codex-counsel"
"""In server.json, the one file that must name a repository to be valid."""
PACKAGE = "codex-counsel"
REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
DOCUMENTED_VERSION = re.compile(
    r"(?:codex-counsel(?:@v|==|:|@|/v|/review@)|^ *rev: v)(\d+\.\d+\.\d+)", re.MULTILINE
)
DOCUMENTED_CODEX = re.compile(r"openai-codex-cli-bin==(\d+\.\d+\.\d+)")
RELATIVE_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def main() -> int:
    """Run the command that the arguments name; returns the exit code."""
    parser = argparse.ArgumentParser(description="Prepare a release")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check")
    check.add_argument("--tag", help="the tag that is released; without it a trial run")
    commands.add_parser("fill").add_argument("repository", metavar="OWNER/REPOSITORY")
    commands.add_parser("notes")
    arguments = parser.parse_args()

    if arguments.command == "fill":
        return fill(ROOT, arguments.repository)
    if arguments.command == "notes":
        print(notes(ROOT))
        return 0
    problems = list(wrong(ROOT, arguments.tag))
    for problem in problems:
        print(problem, file=sys.stderr)
    return min(len(problems), 1)


# --- check


def wrong(root: Path, tag: str | None) -> Iterator[str]:
    """One sentence for each thing that stands in the way of a release; with a tag, of a real one."""
    version = version_of(root)
    for place, found in versions(root):
        if found != version:
            yield f"{place} has {found or 'no version'}, and pyproject.toml has {version}"
    for place, found in codex_versions(root):
        if found != tested_codex(root):
            yield f"{place} has Codex {found}, and the tests have {tested_codex(root)}"

    heading = heading_of(root, version)
    if heading is None:
        yield f"CHANGELOG.md has no part on {version}"
    elif not notes(root):
        yield f"CHANGELOG.md says nothing below `{heading}`"
    if tag is None:
        return
    if tag != f"v{version}":
        yield f"the tag is {tag}, and the version is {version}"
    if heading and not re.search(r"\(\d{4}-\d{2}-\d{2}\)$", heading):
        yield f"CHANGELOG.md: `{heading}` does not end with the date of the release, such as (2026-01-31)"
    yield from unfilled(root)


def unfilled(root: Path) -> Iterator[str]:
    """One sentence for each published file that does not name the repository."""
    server = read_json(root / "server.json")
    name = str(server["name"])
    if PLACEHOLDER in (root / "server.json").read_text("utf-8"):
        yield "server.json has the placeholder OWNER: run `python .ci/release.py fill`"
    if f"mcp-name: {name} " not in (root / "README.md").read_text("utf-8"):
        yield f"README.md does not say `mcp-name: {name}`, by which the registry knows whose package it is"
    if "urls" not in project(root):
        yield "pyproject.toml has no urls: run `python .ci/release.py fill`"


def versions(root: Path) -> Iterator[tuple[str, str]]:
    """Each place that has the version of this release, with what stands there; an empty text for nothing."""
    source = (root / "src/codex_counsel/__init__.py").read_text("utf-8")
    match = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    yield "src/codex_counsel/__init__.py", match[1] if match else ""
    yield "plugin.json", read_json(root / ".claude-plugin/plugin.json")["version"]
    server = read_json(root / "server.json")
    yield "server.json", server["version"]
    for number, package in enumerate(server["packages"], 1):
        yield f"package {number} of server.json", package["version"]
    yield from _defaults(root, "version")
    yield from _documented(root, DOCUMENTED_VERSION)


def codex_versions(root: Path) -> Iterator[tuple[str, str]]:
    """Each place that names the Codex that is installed along."""
    yield from _defaults(root, "codex-version")
    yield from _documented(root, DOCUMENTED_CODEX)


def _defaults(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """The default of this input in the action and in each template that has it."""
    pattern = re.compile(
        rf"^ *{name}:\n(?: +(?!default)[a-z]+:.*\n)* +default: *[\"']?([^\"'\s]+)",
        re.MULTILINE,
    )
    for path in (root / "action.yml", *sorted(root.glob("templates/*.yml"))):
        if path.exists():
            for found in pattern.findall(path.read_text("utf-8")):
                yield str(path.relative_to(root)), found


def _documented(root: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """What the pages tell their readers to install, once for each page and version."""
    for path in sorted(root.glob("docs/**/*.md")):
        for found in sorted(set(pattern.findall(path.read_text("utf-8")))):
            yield str(path.relative_to(root)), found


def version_of(root: Path) -> str:
    """The version in pyproject.toml, which the others must have too."""
    return str(project(root)["version"])


def tested_codex(root: Path) -> str:
    """The release of Codex that the tests run."""
    groups = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    requirement = str(groups["dependency-groups"]["codex"][0])
    return requirement.partition("==")[2]


def project(root: Path) -> dict[str, Any]:
    """The table `project` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return dict(table["project"])


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    return dict(json.loads(path.read_text("utf-8")))


# --- fill


def fill(root: Path, repository: str) -> int:
    """Write the name of the repository into server.json, README.md and pyproject.toml; returns the exit code."""
    if not REPOSITORY.fullmatch(repository) or repository == PLACEHOLDER:
        print(f"{repository!r} is not of the form OWNER/REPOSITORY", file=sys.stderr)
        return 2
    home = f"https://github.com/{repository}"
    tree = f"{home}/blob/v{version_of(root)}"

    server = root / "server.json"
    text = server.read_text("utf-8").replace(PLACEHOLDER, repository)
    server.write_text(text, "utf-8")

    # PyPI shows this page, where links into the repository lead nowhere.
    readme = root / "README.md"
    text = RELATIVE_LINK.sub(rf"]({tree}/\1)", readme.read_text("utf-8"))
    marker = f"<!-- mcp-name: {read_json(server)['name']} -->\n"
    if marker not in text:
        text = f"{text.rstrip()}\n\n{marker}"
    readme.write_text(text, "utf-8")

    if "urls" not in project(root):
        urls = (
            "[project.urls]\n"
            f'Homepage = "{home}"\n'
            f'Changelog = "{tree}/CHANGELOG.md"\n'
            f'Issues = "{home}/issues"\n'
        )
        pyproject = root / "pyproject.toml"
        text = pyproject.read_text("utf-8")
        text = text.replace("[build-system]\n", f"{urls}\n[build-system]\n", 1)
        pyproject.write_text(text, "utf-8")
    return 0


# --- notes


def heading_of(root: Path, version: str) -> str | None:
    """The line of the changelog that begins the part on this version."""
    for line in (root / "CHANGELOG.md").read_text("utf-8").splitlines():
        if line.split()[:2] == ["##", version]:
            return line.strip()
    return None


def notes(root: Path) -> str:
    """What the changelog says of this version, without its heading; an empty text where it says nothing."""
    heading = heading_of(root, version_of(root))
    lines = (root / "CHANGELOG.md").read_text("utf-8").splitlines()
    if heading is None:
        return ""
    stripped = [line.strip() for line in lines]
    part = "\n".join(lines[stripped.index(heading) + 1 :])
    return re.split(r"^## ", part, maxsplit=1, flags=re.MULTILINE)[0].strip()


if __name__ == "__main__":
    sys.exit(main())
