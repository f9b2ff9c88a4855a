"""Settings: environment variables with the prefix `CODEX_COUNSEL_`, bounded, never a crash."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from codex_counsel.contract.vocabulary import (
    HOST_CONTROLS_POLICIES,
    INSTRUCTIONS,
    ISOLATIONS,
    READ_BOUNDARIES,
    HostControlsPolicy,
    Instructions,
    Reads,
)
from codex_counsel.system.json_values import Json, JsonObject

PREFIX = "CODEX_COUNSEL_"
FOREIGN_PREFIX = "CODEX_IN_CLAUDE_"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
OLD_NAMES = {"JOB_MAX_SECONDS": "TIMEOUT_SECONDS"}
FOREIGN_NAMES = {"REASONING_EFFORT": "EFFORT"}
MAX_TOKENS_BOUNDS = (1_000, 1_000_000_000)
INTERNAL_NAMES = {"JOB", "TEST_CODEX"}
"""Names with our prefix that are no settings: the mark of a run's processes, and a variable of the tests."""


def _text(meaning: str) -> Any:
    return field(default=None, metadata={"meaning": meaning})


def _number(default: int | None, low: int, high: int, meaning: str) -> Any:
    return field(
        default=default, metadata={"low": low, "high": high, "meaning": meaning}
    )


def _choice(default: str | None, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={"choices": choices, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """One field per variable: `timeout_seconds` is read from `CODEX_COUNSEL_TIMEOUT_SECONDS`."""

    codex_bin: str | None = _text(
        "path of the Codex binary; unset: `PATH`, then the package `openai-codex-cli-bin`"
    )
    model: str | None = _text(
        "model for every run; unset: that of the user's Codex configuration"
    )
    effort: str | None = _text(
        "reasoning effort for every run; unset: the user's Codex configuration, then `OPINION_EFFORT`"
    )
    opinion_effort: str = _choice(
        "high",
        ("high", "model"),
        "effort of a consultation or review for which neither the caller, `EFFORT` nor the Codex configuration names "
        "one: `high`, or with `model` the default of the model",
    )
    profile: str | None = _text(
        "Codex's own configuration profile (`$CODEX_HOME/NAME.config.toml`)"
    )
    timeout_seconds: int = _number(
        1800, 10, 7200, "total seconds of one run, background included"
    )
    sync_seconds: int = _number(
        50,
        1,
        3600,
        "soft deadline: seconds after which a waiting caller gets `status: running`; the run continues",
    )
    max_tokens: int | None = _number(
        None,
        *MAX_TOKENS_BOUNDS,
        "tokens one run may use, input and output together, also where a caller allows more; at the limit Codex is "
        "asked to answer at once; unset: no limit",
    )
    idle_seconds: int = _number(
        420, 30, 3600, "seconds without output after which a run is ended as stalled"
    )
    max_running: int = _number(
        4,
        1,
        64,
        "runs of this user that work at the same time; further ones are queued",
    )
    max_input_bytes: int = _number(
        200_000,
        1_000,
        900_000,
        "bytes of question and context, of a task or of a plan; more is refused",
    )
    max_delegate_diff_bytes: int = _number(
        200_000,
        1_000,
        10_000_000,
        "bytes of a diff that a result contains; further pages have the rest",
    )
    max_tree_bytes: int = _number(
        10_000_000_000,
        1_000_000,
        1_000_000_000_000,
        "bytes on disk that a run may add to its working tree and temporary directory",
    )
    max_tree_entries: int = _number(
        500_000,
        1_000,
        100_000_000,
        "files and directories that a run may add there",
    )
    check_seconds: int = _number(
        600,
        5,
        3600,
        "seconds that one run of a `check`, or of the test of a proof, may take",
    )
    max_proofs: int = _number(
        5,
        1,
        20,
        "findings that one review with `prove` tries to prove, the gravest first; each takes one more turn",
    )
    git_timeout_seconds: int = _number(60, 1, 600, "seconds one git command may take")
    project_file: str = _choice(
        "base",
        ("base", "ignore"),
        "the project file `.codex-counsel.toml`: `base`: that of the base revision is in force; `ignore`: none is",
    )
    compat_writes: str = _choice(
        "copy",
        ("copy", "in_place"),
        "where a turn of `codex-mcp-server` with `sandbox: workspace-write` writes: `copy`: in a throwaway copy, whose "
        "diff it returns; `in_place`: in the workspace itself",
    )
    isolation: str = _choice(
        "lean",
        ISOLATIONS,
        "what a run uses of the user's Codex configuration: `lean`: provider, model, login; `inherit`: also MCP "
        "servers, hooks, plugins, skills; `strict`: only the login",
    )
    instructions: Instructions = _choice(
        "own",
        INSTRUCTIONS,
        "base instructions of the model in a consultation or review: `own`: a short text of codex-counsel; `codex`: "
        "Codex's, or the file that the Codex configuration names. A delegated task always has Codex's; with a ChatGPT "
        "account, every run of Codex before 0.162 too",
    )
    read_boundary: Reads | None = _choice(
        None,
        READ_BOUNDARIES,
        "what a run can read; unset: `workspace` for a consultation and the review of a pull request, `toolchains` for "
        "another review or a task",
    )
    incomplete_boundary: str = _choice(
        "refuse",
        ("refuse", "report"),
        "if the workspace has more secret files than can be denied: refuse the run, or report `partial`",
    )
    host_controls: HostControlsPolicy = _choice(
        "report",
        HOST_CONTROLS_POLICIES,
        "if commands could change settings of the machine, as for root: report it in each result, or refuse the run",
    )
    backoff_seconds: int = _number(
        300, 1, 604_800, "seconds that a limit is stored if Codex names no reset"
    )
    reserve: int = _number(
        0,
        0,
        99,
        "per cent of each usage window of a ChatGPT account that runs leave to you; `use_reserve` spends them",
    )
    state_dir: str | None = _text(
        "directory of the jobs; unset: the platform's state directory"
    )
    job_ttl: int = _number(
        86_400,
        60,
        31_536_000,
        "seconds that a job is kept after its delivery; 30 days if its diff was not applied",
    )
    job_max_count: int = _number(50, 1, 1000, "delivered jobs kept per workspace")
    log_level: str = _choice("WARNING", LOG_LEVELS, "verbosity on stderr")
    log_file: str | None = _text("file to log to instead of stderr")
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> Path:
        """The state directory, absolute."""
        if self.state_dir:
            return Path(self.state_dir).expanduser().absolute()
        return default_state_dir()


def default_state_dir() -> Path:
    """The platform's directory for the state of a program, with our name; absolute."""
    # Not needed where the setting names one, as in the tests and the demo.
    import platformdirs

    return Path(platformdirs.user_state_dir("codex-counsel", appauthor=False))


def load(env: Mapping[str, str] | None = None) -> Settings:
    """Read the environment; by default that of the process.

    A number out of bounds is clamped. A value that cannot be read is left out.
    `warnings` names both.
    """
    if env is None:
        env = os.environ
    texts, warnings = _own_variables(env)

    values: JsonObject = {}
    for setting in fields(Settings):
        name = setting.name.upper()
        text = texts.get(name, "").strip()
        if not text or not setting.metadata:
            continue
        value, warning = _parse(name, text, setting.metadata)
        if value is not None:
            values[setting.name] = value
        if warning:
            warnings.append(warning)
    return Settings(**values, warnings=tuple(warnings))


def _own_variables(env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Our variables by their names without the prefix, and a warning for each name that is no setting."""
    own = {
        name.removeprefix(PREFIX): value
        for name, value in env.items()
        if name.startswith(PREFIX)
    }
    for old, new in OLD_NAMES.items():
        if old in own:
            own.setdefault(new, own.pop(old))

    names = {setting.name.upper() for setting in fields(Settings) if setting.metadata}
    unknown = sorted(own.keys() - names - INTERNAL_NAMES)
    warnings = [f"{PREFIX}{name} is not a setting and was ignored" for name in unknown]
    foreign = sorted(
        name.removeprefix(FOREIGN_PREFIX)
        for name in env
        if name.startswith(FOREIGN_PREFIX)
    )
    warnings += [_foreign_warning(name, names) for name in foreign]
    return own, warnings


def is_set(setting: str, env: Mapping[str, str]) -> bool:
    """Whether a variable of the environment has a value for this setting, also by an older name of it."""
    names = {setting.upper()}
    names.update(old for old, new in OLD_NAMES.items() if new in names)
    return any(env.get(PREFIX + name, "").strip() for name in names)


def _foreign_warning(name: str, names: set[str]) -> str:
    warning = f"{FOREIGN_PREFIX}{name} belongs to another bridge and was ignored"
    ours = {**OLD_NAMES, **FOREIGN_NAMES}.get(name, name)
    if ours not in names:
        return warning
    return f"{warning}; its name here is {PREFIX}{ours}"


def _parse(
    name: str, text: str, metadata: Mapping[str, Json]
) -> tuple[int | str | None, str | None]:
    """The value, or None where it cannot be used; and a warning, or None."""
    if "low" in metadata:
        return _parse_number(name, text, metadata["low"], metadata["high"])
    if "choices" in metadata:
        return _parse_choice(name, text, metadata["choices"])
    if "\0" in text:
        return None, f"{PREFIX}{name} holds a NUL byte and was ignored"
    if text.startswith("~"):
        try:
            Path(text).expanduser()
        except RuntimeError:
            return (
                None,
                f"{PREFIX}{name}={text[:40]!r} names the home directory of an unknown user and was ignored",
            )
    return text, None


def _parse_number(
    name: str, text: str, low: int, high: int
) -> tuple[int | None, str | None]:
    try:
        value = int(text)
    except ValueError:
        return (
            None,
            f"{PREFIX}{name}={text[:40]!r} is not a whole number; the default is used",
        )
    nearest = min(max(value, low), high)
    if nearest == value:
        return value, None
    return nearest, f"{PREFIX}{name}={text[:40]} is out of bounds; {nearest} is used"


def _parse_choice(
    name: str, text: str, choices: tuple[str, ...]
) -> tuple[str | None, str | None]:
    for choice in choices:
        if choice.lower() == text.lower():
            return choice, None
    return (
        None,
        f"{PREFIX}{name}={text[:40]!r} is not one of {', '.join(choices)}; it was ignored",
    )
