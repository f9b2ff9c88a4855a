"""The requests of a batch that follow from few words: commits, pull requests, files, repositories.

Ids are readable and the same each time: `commit-0123456789ab`, `pr-12`, `audit-src/a.py`,
`delegate-shop`. Where two would be the same, the later one gets a number. `arguments` are
added to each request, but for those that say what it is about. All raise
`invalid_arguments` for what cannot be asked, and `nothing_to_review` where there is nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from codex_counsel.batch.model import Kind
from codex_counsel.batch.names import Names, repository_name
from codex_counsel.batch.requests import (
    MAX_ID,
    MAX_REPO,
    MAX_REQUESTS,
    Line,
    check_request,
)
from codex_counsel.batch.sources import is_address
from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs
from codex_counsel.git.attributes import NO_ATTRIBUTES, attributes
from codex_counsel.git.encoding import is_binary
from codex_counsel.git.names import covering_path, display_name
from codex_counsel.git.patterns import matching
from codex_counsel.git.remotes import shown
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace, open_repository, resolve
from codex_counsel.review.changes.model import ChangedFile
from codex_counsel.review.changes.untracked import NUMBERED_FILES
from codex_counsel.system.files import open_regular
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.secret_names import secret_name
from codex_counsel.system.text import visible

Per = Literal["file", "directory"]
MAX_LIST = 4_000_000
"""Bytes of a file with a list."""
MAX_PATHS = 500
"""Files of one request."""
SHORT_SHA = 12
ABOUT = ("scope", "base", "commit", "range", "pr", "paths", "task")
"""Arguments by which a generator says what a request is about."""
_FILE_MODES = (b"100644", b"100755")
_NUMBER = re.compile(r"!?(?P<number>[1-9][0-9]{0,9})")
_URL = re.compile(
    r"https?://\S+/(?:pull|merge_requests)/(?P<number>[1-9][0-9]{0,9})\S*"
)


@dataclass(frozen=True)
class Skipped:
    """A file that is asked about in no request, and why. `path` is for people."""

    path: str
    reason: str


@dataclass(frozen=True)
class Generated:
    """Requests, in their order, and what is in none of them."""

    lines: list[Line]
    skipped: list[Skipped] = field(default_factory=list)


def review_range(
    context: Context, root: Path, text: str, arguments: Mapping[str, Json]
) -> Generated:
    """A review of each commit of `A..B`, parents before their children, merges among them.

    A merge is compared with its first parent. Raises `unknown_ref` and `not_a_git_repo` too.
    """
    requests = _Requests("review", arguments, "--review-range")
    repo = open_repository(resolve(context, str(root)), context)
    left, _, right = refs.split_range(text)
    first, last = refs.resolve(repo, left), refs.resolve(repo, right)
    listing = repo.git(
        "rev-list",
        "--topo-order",
        "--reverse",
        f"--max-count={MAX_REQUESTS + 1}",
        last,
        f"^{first}",
    )
    for commit in listing.decode("ascii").split():
        own = {"scope": "commit", "commit": commit}
        requests.add(f"commit-{commit[:SHORT_SHA]}", own)
    return requests.generated(f"No commit is in {shown(text)}")


def review_prs(names: Iterable[str], arguments: Mapping[str, Json]) -> Generated:
    """A review of each pull request, named by its number or address, as `pr` of a review is. One named twice is one."""
    requests = _Requests("review", arguments, "--review-prs")
    for name in dict.fromkeys(entry.removeprefix("#") for entry in names):
        match = _NUMBER.fullmatch(name) or _URL.fullmatch(name)
        if match is None:
            raise _invalid(
                f"--review-prs: `{shown(name)}` is neither a number nor the address of a pull request",
                "Write numbers or addresses with commas between them, or @FILE with one on each line.",
            )
        requests.add(f"pr-{match['number']}", {"pr": name})
    return requests.generated("--review-prs names no pull request")


def delegate(
    task: str,
    repositories: Iterable[str],
    arguments: Mapping[str, Json],
    numbers: Mapping[str, int] | None = None,
) -> Generated:
    """The same task for each repository, by path or address. One named twice is one.

    `numbers` are those of the lines that name them, where they stand in a file.
    """
    requests = _Requests("delegate", arguments, "--delegate")
    for name in dict.fromkeys(repositories):
        if len(name) > MAX_REPO or visible(name) != name:
            raise _invalid(
                f"--repos: `{shown(name)}` is too long or has control characters"
            )
        number = (numbers or {}).get(name, 0)
        requests.add(f"delegate-{repository_name(name)}", {"task": task}, name, number)
    return requests.generated("--repos names no repository")


def audit(
    context: Context,
    root: Path,
    pattern: str,
    per: Per,
    arguments: Mapping[str, Json],
) -> Generated:
    """A review of whole files: of each, or of those of each directory together.

    `pattern` is one of a `.gitignore`, from `root`; only tracked files count. Files that a
    review could not be sent are skipped. The files of a directory that are too many for one
    request are several. Raises `not_a_git_repo` too, and `timeout` for a pattern with too
    many stars.
    """
    requests = _Requests("review", arguments, "--audit")
    if not pattern.strip() or any(character in pattern for character in "\0\n\r"):
        raise _invalid("--audit: the pattern is blank, or more than one line")
    workspace = resolve(context, str(root))
    repo = open_repository(workspace, context)
    names = _tracked(repo)
    matched = matching(repo, [pattern], names)
    chosen = [name for name in names if name in matched]
    files = _Files(repo, workspace, context.settings.max_input_bytes)
    sizes = files.sizes(chosen)
    if per == "file":
        for name in sizes:
            requests.add(f"audit-{display_name(name)}", _whole_files([name]))
    else:
        for folder, part in _by_directory(sizes, files.limit):
            requests.add(f"audit-{display_name(folder)}/", _whole_files(part))
    nothing = f"No tracked file that can be reviewed matches {shown(pattern)}"
    return requests.generated(nothing, files.skipped)


def read_list(text: str, directory: Path) -> list[str]:
    """The entries of `A,B,C`, or the lines of the file that `@FILE` names, looked for in `directory`.

    Blank entries are left out. Raises `invalid_arguments` where the file cannot be read.
    """
    return [entry for _, entry in _numbered(text, directory)]


def _numbered(text: str, directory: Path) -> list[tuple[int, str]]:
    """As `read_list`, each entry with the number of its line, which is 0 without a file."""
    if not text.startswith("@"):
        return [(0, entry.strip()) for entry in text.split(",") if entry.strip()]
    path = directory / text.removeprefix("@")
    try:
        with open_regular(path) as file:
            data = file.read(MAX_LIST + 1)
        if len(data) > MAX_LIST:
            raise _invalid(f"{shown(text)} has more than {MAX_LIST:,} bytes")
        lines = data.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise _invalid(f"{shown(text)}: {why}") from None
    return [
        (number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()
    ]


def read_repositories(text: str, directory: Path) -> dict[str, int]:
    """As `read_list`, each once, with the number of its line; 0 where there is no file.

    Relative paths in a file are relative to the directory of that file.
    """
    folder = (directory / text.removeprefix("@")).parent
    found: dict[str, int] = {}
    for number, entry in _numbered(text, directory):
        is_url = "://" in entry
        # A directory may have a name that reads like an address of ssh.
        is_other = is_address(entry) and not os.path.isdir(folder / entry)  # noqa: PTH112  # raises nothing
        # Also one that is not there: beside the list, and not elsewhere, it is missing.
        is_path = number > 0 and not is_url and not is_other
        found.setdefault(str(folder / entry) if is_path else entry, number)
    return found


class _Requests:
    """Collects the requests of one generator."""

    def __init__(self, kind: Kind, arguments: Mapping[str, Json], flag: str) -> None:
        for name in ABOUT:
            if name in arguments:
                raise _invalid(
                    f"--arguments: {name} does not go with {flag}, which says what each request is about",
                    "Leave it out, or write the requests into a file.",
                )
        self._kind = kind
        self._arguments = dict(arguments)
        self._lines: list[Line] = []
        self._names = Names()

    def add(
        self, name: str, own: JsonObject, repo: str | None = None, number: int = 0
    ) -> None:
        """One more request. Raises `invalid_arguments` where its tool does not take it."""
        if len(self._lines) == MAX_REQUESTS:
            raise CounselError(
                Code.INPUT_TOO_LARGE,
                f"A batch has at most {MAX_REQUESTS:,} requests; nothing was started",
                repair="Make several batches of it.",
            )
        arguments = {**self._arguments, **own}
        line = Line(self._free_id(name), self._kind, arguments, repo, number)
        check_request(line)
        self._lines.append(line)

    def generated(self, nothing: str, skipped: Iterable[Skipped] = ()) -> Generated:
        """All of them. Raises `nothing_to_review` with this sentence where there are none."""
        left_out = list(skipped)
        if self._lines:
            return Generated(self._lines, left_out)
        details = {}
        if left_out:
            details["skipped"] = [
                f"{item.path}: {item.reason}" for item in left_out[:50]
            ]
        raise CounselError(Code.NOTHING_TO_REVIEW, nothing, details=details)

    def _free_id(self, name: str) -> str:
        wanted = " ".join(visible(name).split())
        if len(wanted) > MAX_ID - 10:
            digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:12]
            wanted = f"{wanted[: MAX_ID - 30]}-{digest}"
        return self._names.free(wanted)


def _whole_files(names: Iterable[bytes]) -> JsonObject:
    return {"scope": "files", "paths": [name.decode() for name in names]}


def _tracked(repo: Repo) -> list[bytes]:
    """The tracked regular files below the workspace, by their names from there. Links and submodules are none."""
    arguments = ["ls-files", "-z", "--stage", "--"]
    if repo.prefix:
        arguments.append(os.fsdecode(repo.prefix))
    names: dict[bytes, None] = {}
    for record in repo.git(*arguments).split(b"\0")[:-1]:
        entry, _, name = record.partition(b"\t")
        if entry[:6] in _FILE_MODES:
            names[name.removeprefix(repo.prefix)] = None
    return list(names)


class _Files:
    """Finds out which files a review can be sent. `limit` are the bytes of one request."""

    def __init__(self, repo: Repo, workspace: ResolvedWorkspace, limit: int) -> None:
        self.limit = limit
        self.skipped: list[Skipped] = []
        self._repo = repo
        self._denied = frozenset(map(os.fsencode, workspace.denied))

    def sizes(self, names: list[bytes]) -> dict[bytes, int]:
        """The bytes that each of these files has in the material of a review; without those that are skipped."""
        found: dict[bytes, int] = {}
        full_names = [self._repo.prefix + name for name in names]
        attributes_of = attributes(self._repo, full_names)
        filters = self._repo.config.filters()
        with TreeReader(self._repo.root) as reader:
            for name in names:
                full = self._repo.prefix + name
                driver = attributes_of.get(full, NO_ATTRIBUTES).filter
                reason = self._why_withheld(name, full)
                if not reason and driver in filters:
                    reason = "a content filter applies to it"
                size = 0
                if not reason:
                    size, reason = self._read(reader, full)
                if reason:
                    self.skipped.append(Skipped(display_name(name), reason))
                else:
                    found[name] = size
        return found

    def _why_withheld(self, name: bytes, full: bytes) -> str:
        try:
            name.decode()
        except UnicodeDecodeError:
            return "its name is not UTF-8"
        if not name.strip():
            return "its name is blank"
        path = os.fsencode(self._repo.root) + b"/" + full
        is_denied = covering_path(path, self._denied) is not None
        if is_denied or secret_name(os.fsdecode(path)):
            return "its name is that of a secret file"
        return ""

    def _read(self, reader: TreeReader, full: bytes) -> tuple[int, str]:
        """The bytes in the material, or why it is not sent."""
        try:
            content = reader.read(full, self.limit + 1)
        except FileNotFoundError:
            return 0, "it is deleted"
        except UnreadableError as error:
            return 0, f"it is not read: {error.reason.replace('_', ' ')}"
        if is_binary(content.data):
            return 0, "it is binary"
        if not content.data.strip():
            return 0, "it is empty"
        size = content.size
        if size <= self.limit:
            file = ChangedFile(display_name(full), full, NUMBERED_FILES.status)
            size = len(NUMBERED_FILES.render(file, content)[1])
        if size > self.limit:
            return 0, self._too_large()
        return size, ""

    def _too_large(self) -> str:
        return f"it is longer than the {self.limit:,} bytes of CODEX_COUNSEL_MAX_INPUT_BYTES"


def _by_directory(
    sizes: Mapping[bytes, int], limit: int
) -> list[tuple[bytes, list[bytes]]]:
    """The files of each directory, in parts that fit into one request."""
    folders: dict[bytes, list[bytes]] = {}
    for name in sizes:
        folders.setdefault(os.path.dirname(name) or b".", []).append(name)  # noqa: PTH120  # bytes
    parts: list[tuple[bytes, list[bytes]]] = []
    for folder in sorted(folders):
        part: list[bytes] = []
        room = limit
        for name in folders[folder]:
            if part and (sizes[name] > room or len(part) == MAX_PATHS):
                parts.append((folder, part))
                part, room = [], limit
            part.append(name)
            room -= sizes[name]
        parts.append((folder, part))
    return parts


def _invalid(message: str, repair: str | None = None) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, message, repair=repair)
