"""Which files hold secrets, by their names: nothing is opened. The names are in `data/secret_files.txt`."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from functools import cache, cached_property

from codex_counsel.system.redact import read_data

BACKUPS = re.compile(r"(?:~|\.(?:bak|old|orig|save|sw[op]))+\Z")
"""What editors and people append to the name of a file that they keep a copy of."""
_BACKUP_SUFFIXES = ("~", ".bak", ".old", ".orig", ".save", ".swo", ".swp")
"""What any match of `BACKUPS` ends with. Searching for the pattern itself takes longer than all other checks."""
SAMPLES = re.compile(
    r"(?:^|[._-])(?:example|sample|template|tmpl|dist|defaults|schema)(?:[._-]|$)"
)
"""Found in the name of a template, which holds no real values."""
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
SAMPLE_KIND = "environment file"
"""The kind of files of which templates are commonly kept beside the real ones."""


@dataclass
class SecretNames:
    """The names of `secret_files.txt`, by how they are looked up; each leads to its kind.

    `paths` holds the parts of `folder/name` by the first of them; the last part `*`
    is everything below.
    """

    names: dict[str, str] = field(default_factory=dict)
    suffixes: dict[str, str] = field(default_factory=dict)
    globs: list[tuple[str, str]] = field(default_factory=list)
    paths: dict[str, list[tuple[tuple[str, ...], str]]] = field(default_factory=dict)

    def add(self, entry: str, kind: str) -> None:
        """Add one line of the file."""
        suffix = entry.removeprefix("*")
        if "/" in entry:
            first, *rest = entry.split("/")
            self.paths.setdefault(first, []).append((tuple(rest), kind))
        elif "*" not in entry:
            self.names[entry] = kind
        elif entry == f"*{suffix}" and suffix.rfind(".") == 0 and "*" not in suffix:
            self.suffixes[suffix] = kind
        else:
            self.globs.append((kind, fnmatch.translate(entry)))

    def kind_of_name(self, name: str) -> str | None:
        """The kind by the name alone."""
        kind = self.names.get(name)
        if kind is None:
            dot = name.rfind(".")
            kind = self.suffixes.get(name[dot:]) if dot >= 0 else None
        if kind is not None:
            return kind
        # One search for all of them: nearly every name is none of these.
        if not self._any_glob.match(name):
            return None
        return next(kind for kind, glob in self.globs if re.match(glob, name))

    @cached_property
    def _any_glob(self) -> re.Pattern[str]:
        return re.compile("|".join(glob for _, glob in self.globs))

    def kind_of_path(self, path: str) -> str | None:
        """The kind by the folders that lead to the file."""
        parts = path.split("/")
        for index, part in enumerate(parts[:-1]):
            for rest, kind in self.paths.get(part, ()):
                following = tuple(parts[index + 1 :])
                if rest == following or (
                    rest[-1] == "*"
                    and len(following) >= len(rest)
                    and following[: len(rest) - 1] == rest[:-1]
                ):
                    return kind
        return None


@cache
def secret_names() -> SecretNames:
    """The names, read at the first use."""
    names = SecretNames()
    kind = ""
    for line in read_data("secret_files.txt"):
        if line.startswith("["):
            kind = line.strip("[]")
        else:
            names.add(line, kind)
    return names


def secret_name(path: str) -> str | None:
    """The kind of secret that a file of this name holds, or None. A backup copy of a secret file is one, too.

    `path` may be a bare name. Templates of environment files, such as `.env.example`,
    are not secret; a key is, whatever its name. Control characters count for nothing:
    they do not hide a name.
    """
    known = secret_names()
    lowered = path.lower()
    if not lowered.isprintable():
        lowered = CONTROLS.sub("", lowered)
    if lowered.endswith(_BACKUP_SUFFIXES):
        lowered = BACKUPS.sub("", lowered)
    name = lowered.rpartition("/")[2]
    kind = known.kind_of_name(name)
    if kind is None and "/" in lowered:
        return known.kind_of_path(lowered)
    if kind == SAMPLE_KIND and SAMPLES.search(name):
        return None
    return kind
