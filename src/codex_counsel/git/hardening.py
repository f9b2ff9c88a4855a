"""The environment of every git process: what configuration may change, and what never runs.

`environment` is the only function that makes one: `GitProcess` takes no other mapping.

Kept, because it describes the user's files: HOME and with it `safe.directory`, the
global excludes, `core.autocrlf`. Fixed: every setting that changes the output.
Disabled: every setting that names a program, a hook or a transport.

Content filters (`filter.<name>.clean`, `.smudge`, `.process`) run for no file, whoever
configured them: a filter that a user installed globally, such as git-lfs, reads further
commands from the repository's own configuration. Files that a configured filter applies
to are therefore not compared in the working tree: see `attributes.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from codex_counsel.git.working_trees import project_directories
from codex_counsel.system.path import search_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

GitEnvironment = NewType("GitEnvironment", dict[str, str])
"""The variables of a git process, in which PATH leads to no program of the project."""

FIXED_SETTINGS: dict[str, str] = {
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

FIXED_VARIABLES: dict[str, str] = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ASKPASS": "false",
    "GIT_EDITOR": ":",
    "GIT_GRAFT_FILE": os.devnull,
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

FETCH_PROTOCOLS = ("https", "http", "ssh", "git", "file")
FETCH_SETTINGS: dict[str, str] = {
    "core.alternateRefsPrefixes": "refs/heads refs/remotes refs/tags",
    "credential.interactive": "false",
    "fetch.fsckObjects": "true",
    "fetch.parallel": "1",
    "fetch.prune": "false",
    "fetch.pruneTags": "false",
    "fetch.showForcedUpdates": "false",
    # Always a pack: its size is that of one file, which has a limit.
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "transfer.advertiseSID": "false",
    "transfer.bundleURI": "false",
}
"""`credential.interactive` keeps helpers from asking a person; no bundle of an address that a hub names is fetched."""
HARMLESS_FAULTS = (
    "badDate",
    "badDateOverflow",
    "badEmail",
    "badName",
    "badTimezone",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeDate",
    "missingSpaceBeforeEmail",
    "multipleAuthors",
    "nullSha1",
    "zeroPaddedDate",
    "zeroPaddedFilemode",
)
"""Faults of old commits and trees that many projects have in their history. With any other one a fetch fails."""
OWN_FOR_FETCH = (
    "core.alternateRefsCommand",
    "core.askPass",
    "core.sshCommand",
    "credential.helper",
    "protocol.allow",
)
"""Of FIXED_SETTINGS, those that are the user's while something is fetched: he logs in by them."""
FETCH_VARIABLES = (
    "GIT_ASKPASS",
    "GIT_PROXY_SSL_CAINFO",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_CERT",
    "GIT_SSL_KEY",
    "GIT_SSL_NO_VERIFY",
    "GIT_SSL_VERSION",
)
"""Variables of the caller that are kept while something is fetched."""
QUIET_SSH = "ssh -o BatchMode=yes"

DRIVER_SETTINGS: dict[str, dict[str, str]] = {
    "filter": {
        "clean": "",
        "smudge": "",
        "process": "",
        "required": "false",
    },
    "merge": {"driver": "false"},
    "hook": {"command": ":", "enabled": "false"},
}
"""Settings of named drivers: set to these values for every driver name that the configuration defines."""

USERS_SCOPES = ("system", "global")
"""Scopes of git's configuration that a repository has no part in."""

NO_PROGRAMS = ("--no-ext-diff", "--no-textconv")
"""For commands that print diffs: nothing else disables `diff.external`, `diff.<name>.command` and `.textconv`."""
PRINTS_DIFF = frozenset(
    ("diff", "diff-files", "diff-index", "diff-tree", "log", "show")
)


def hardened_arguments(args: Sequence[str | bytes]) -> list[str | bytes]:
    """The arguments of git, with the options that configuration cannot replace."""
    options: list[str | bytes] = []
    if args and args[0] in PRINTS_DIFF:
        options.extend(NO_PROGRAMS)
    return ["--no-pager", *args[:1], *options, *args[1:]]


@dataclass(frozen=True)
class Config:
    """The settings in force, by their full names in lower case as git lists them.

    `users` are those that the user and the system set, whatever the repository sets.
    """

    values: Mapping[str, str]
    users: Mapping[str, str]

    @classmethod
    def parse(cls, listing: bytes) -> Config:
        """From `git config --list -z --show-scope`. The last value of a repeated key counts."""
        values: dict[str, str] = {}
        users: dict[str, str] = {}
        fields = os.fsdecode(listing).split("\0")
        for scope, setting in zip(fields[0::2], fields[1::2], strict=False):
            key, newline, value = setting.partition("\n")
            values[key] = value if newline else "true"
            if scope in USERS_SCOPES:
                users[key] = values[key]
        return cls(values, users)

    def users_excludes(self, env: Mapping[str, str]) -> Path | None:
        """The user's own file of ignore patterns, as git finds it: the setting, else the default; None for none.

        A relative path would be one of the repository.
        """
        home = env.get("HOME") or str(Path.home())
        setting = self.users.get("core.excludesfile")
        if setting is None:
            config_home = env.get("XDG_CONFIG_HOME") or f"{home}/.config"
            return Path(config_home, "git/ignore")
        if setting.startswith("~/"):
            setting = home + setting.removeprefix("~")
        path = Path(setting)
        return path if path.is_absolute() else None

    def excludes_override(self, env: Mapping[str, str]) -> dict[str, str]:
        """The setting that must be added so that no repository names a file of the user as ignore patterns."""
        in_force = self.values.get("core.excludesfile")
        if in_force == self.users.get("core.excludesfile"):
            return {}
        return {"core.excludesFile": str(self.users_excludes(env) or os.devnull)}

    def filters(self) -> frozenset[str]:
        """Names of the content filters that would run on files of the working tree."""
        drivers = self._drivers("filter", ("clean", "process"))
        return frozenset(name for name, key in drivers if self.values[key])

    def driver_overrides(self) -> dict[str, str]:
        """The settings that must be added so that no configured driver runs."""
        overrides: dict[str, str] = {}
        for section, settings in DRIVER_SETTINGS.items():
            for name, _ in self._drivers(section, settings):
                for variable, value in settings.items():
                    overrides[f"{section}.{name}.{variable}"] = value
        return overrides

    def _drivers(
        self, section: str, variables: Iterable[str]
    ) -> Iterator[tuple[str, str]]:
        """Driver name and full key of every setting `<section>.<name>.<variable>`. Names may contain dots."""
        for key in self.values:
            head, _, variable = key.rpartition(".")
            if key.startswith(f"{section}.") and variable in variables and "." in head:
                yield head.removeprefix(f"{section}."), key


def environment(
    inherited: Mapping[str, str],
    settings: Mapping[str, str],
    workspace: Path,
) -> GitEnvironment:
    """`inherited` without its `GIT_*` variables, plus the fixed variables, the fixed settings and `settings`.

    PATH keeps only absolute entries that lead through no directory of the project
    around `workspace`, so no program of a reviewed repository is run.
    """
    env = {
        name: value for name, value in inherited.items() if not name.startswith("GIT_")
    }
    # Callers look for English words in git's messages.
    env.pop("LANGUAGE", None)
    path = env.get("PATH", os.defpath)
    env["PATH"] = search_path(path, project_directories(workspace))
    env.update(FIXED_VARIABLES)
    env.update(_as_variables([*{**FIXED_SETTINGS, **settings}.items()]))
    return GitEnvironment(env)


def fetch_environment(
    inherited: Mapping[str, str],
    users: Mapping[str, str],
    headers: Iterable[tuple[str, str]],
    workspace: Path,
) -> GitEnvironment:
    """For fetching into a repository of ours: as `environment`, but the user's own login and transport are in force.

    `users` are the settings of the user and the system. `headers` are addresses with the
    HTTP header that requests to them get. Nobody is asked for a password.
    """
    env = environment(inherited, {}, workspace)
    env["GIT_ALLOW_PROTOCOL"] = ":".join(FETCH_PROTOCOLS)
    # Empty: not even the program that SSH_ASKPASS names.
    env["GIT_ASKPASS"] = ""
    env["SSH_ASKPASS_REQUIRE"] = "never"
    del env["GIT_SSH_COMMAND"]
    for name in FETCH_VARIABLES:
        if name in inherited:
            env[name] = inherited[name]
    is_ssh_chosen = "GIT_SSH" in env or "core.sshcommand" in users
    if not is_ssh_chosen:
        env.setdefault("GIT_SSH_COMMAND", QUIET_SSH)

    settings = []
    for key, value in {**FIXED_SETTINGS, **FETCH_SETTINGS}.items():
        if key not in OWN_FOR_FETCH:
            settings.append((key, value))
    if "core.sshcommand" in users:
        # One of an `includeIf` of the user's repository is not in force in ours.
        settings.append(("core.sshCommand", users["core.sshcommand"]))
    settings += [(f"fetch.fsck.{fault}", "warn") for fault in HARMLESS_FAULTS]
    for address, header in headers:
        key = f"http.{address}.extraHeader"
        # The empty one drops those that the user has set for this address.
        settings += [(key, ""), (key, header)]
        # No other host gets the header.
        settings.append((f"http.{address}.followRedirects", "false"))
    env.update(_as_variables(settings))
    return GitEnvironment(env)


def _as_variables(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Settings as git reads them from its environment."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


def extended(env: GitEnvironment, variables: Mapping[str, str]) -> GitEnvironment:
    """The environment with variables of git's in addition."""
    return GitEnvironment({**env, **variables})
