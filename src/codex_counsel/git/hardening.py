"""The environment of every git process: what a user's or a repository's configuration may bend, and what never runs.

Kept, for it describes the user's files: HOME and with it `safe.directory`, the global excludes, `core.autocrlf`.
Pinned: whatever changes the output. Shut: every setting that names a program, a hook or a transport.

Content filters (`filter.<name>.clean`, `.smudge`, `.process`) run for no file, whoever configured them: a filter that
a user installed globally, such as git-lfs, reads further commands from the repository's own configuration. Files that a
configured filter applies to are therefore not compared in the working tree: see `filters.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.system.path import search_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

PINS: dict[str, str] = {
    "color.ui": "never",
    "core.alternateRefsCommand": "",
    "core.askPass": "",
    "core.bigFileThreshold": "128m",
    "core.editor": ":",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "core.sshCommand": "false",
    "core.warnAmbiguousRefs": "true",
    "credential.helper": "",
    "diff.autoRefreshIndex": "false",
    "diff.mnemonicPrefix": "false",
    "diff.noprefix": "false",
    "diff.suppressBlankEmpty": "false",
    "gc.auto": "0",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
    "submodule.recurse": "false",
}

SWITCHES: dict[str, str] = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ASKPASS": "false",
    "GIT_EDITOR": ":",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_SSH_COMMAND": "false",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
"""`GIT_ALLOW_PROTOCOL` also beats a repository's own `protocol.<name>.allow`, which `protocol.allow` does not."""

DISARMED: dict[str, dict[str, str]] = {
    "filter": {"clean": "", "smudge": "", "process": "", "required": "false"},
    "merge": {"driver": "false"},
    "hook": {"command": ":", "enabled": "false"},
}
"""Settings of named drivers: set like this for every name that the configuration holds."""


NO_PROGRAMS = ("--no-ext-diff", "--no-textconv")
"""For commands that print diffs: nothing else shuts `diff.external`, `diff.<name>.command` and `.textconv`."""
DIFFING = frozenset(("diff", "diff-files", "diff-index", "diff-tree", "log", "show"))


def command(args: Sequence[str | bytes]) -> list[str | bytes]:
    """The arguments of git, with the switches that its configuration cannot carry."""
    shut = NO_PROGRAMS if args and args[0] in DIFFING else ()
    return ["--no-pager", *args[:1], *shut, *args[1:]]


@dataclass(frozen=True)
class Config:
    """The settings in force, and what must be added to them so that no driver runs."""

    values: Mapping[str, str]

    @classmethod
    def parse(cls, listing: bytes) -> Config:
        """From `git config --list -z`; of repeated keys the last one counts."""
        records = (record.partition("\n") for record in os.fsdecode(listing).split("\0") if record)
        return cls({key: value if newline else "true" for key, newline, value in records})

    def filters(self) -> frozenset[str]:
        """Names of the content filters that would run on files of the working tree."""
        found = self._drivers("filter", ("clean", "process"))
        return frozenset(name for name, key in found if self.values[key])

    def disarming(self) -> dict[str, str]:
        armed = ((section, name) for section in DISARMED for name, _ in self._drivers(section, DISARMED[section]))
        return {
            f"{section}.{name}.{variable}": value
            for section, name in armed
            for variable, value in DISARMED[section].items()
        }

    def _drivers(self, section: str, variables: Iterable[str]) -> Iterator[tuple[str, str]]:
        for key in self.values:
            head, _, variable = key.rpartition(".")
            if key.startswith(f"{section}.") and variable in variables and "." in head:
                yield head.removeprefix(f"{section}."), key


def environment(
    inherited: Mapping[str, str], settings: Mapping[str, str], without: Path | None = None
) -> dict[str, str]:
    """The caller's environment without its `GIT_*`, with the switches, the pins and these settings.

    Programs, git itself among them, are looked for at absolute places only, and not below `without`.
    """
    kept = {key: value for key, value in inherited.items() if not key.startswith("GIT_") and key != "LANGUAGE"}
    pairs = enumerate({**PINS, **settings}.items())
    numbered = {
        f"GIT_CONFIG_{part}_{i}": text for i, pair in pairs for part, text in zip(("KEY", "VALUE"), pair, strict=True)
    }
    kept["PATH"] = search_path(kept.get("PATH", os.defpath), without)
    return {**kept, **SWITCHES, "GIT_CONFIG_COUNT": str(len({**PINS, **settings})), **numbered}
