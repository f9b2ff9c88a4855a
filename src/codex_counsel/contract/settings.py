"""Settings: environment variables with the prefix `CODEX_COUNSEL_`, bounded, never a crash."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "CODEX_COUNSEL_"
FOREIGN_PREFIX = "CODEX_IN_CLAUDE_"
ISOLATIONS = ("lean", "inherit", "strict")
BOUNDARIES = ("workspace", "toolchains", "host")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
OLD_NAMES = {"JOB_MAX_SECONDS": "TIMEOUT_SECONDS"}
FOREIGN_NAMES = {"REASONING_EFFORT": "EFFORT"}


def _text(meaning: str) -> Any:
    return field(default=None, metadata={"meaning": meaning})


def _number(default: int, low: int, high: int, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


def _choice(default: str | None, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={"choices": choices, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """One field per variable: `timeout_seconds` is read from `CODEX_COUNSEL_TIMEOUT_SECONDS`."""

    codex_bin: str | None = _text("path of the Codex binary; unset: `PATH`, then the package `openai-codex-cli-bin`")
    model: str | None = _text("model for every run; unset: what the user's Codex is configured for")
    effort: str | None = _text("reasoning effort for every run; unset: the user's Codex configuration")
    profile: str | None = _text("Codex's own configuration profile (`$CODEX_HOME/NAME.config.toml`)")
    timeout_seconds: int = _number(1800, 10, 7200, "total seconds of one run, background included")
    sync_seconds: int = _number(50, 1, 3600, "soft deadline: seconds until a waiting caller is handed the job instead")
    idle_seconds: int = _number(420, 30, 3600, "seconds of silence after which a run counts as stalled")
    max_running: int = _number(4, 1, 64, "runs of this user at once; further ones are queued")
    max_input_bytes: int = _number(200_000, 1_000, 900_000, "longest author text in bytes; longer is refused")
    max_delegate_diff_bytes: int = _number(200_000, 1_000, 10_000_000, "bytes of a diff that ride in a result")
    git_timeout_seconds: int = _number(60, 1, 600, "seconds one git command may take")
    isolation: str = _choice("lean", ISOLATIONS, "what of the user's Codex set-up a run gets")
    read_boundary: str | None = _choice(None, BOUNDARIES, "what a run may read; unset: by kind of run")
    backoff_seconds: int = _number(3600, 1, 604_800, "how long a limit is remembered when Codex names no reset")
    state_dir: str | None = _text("where jobs are kept; unset: the platform's state directory")
    job_ttl: int = _number(86_400, 60, 31_536_000, "seconds a delivered job is kept after its end")
    job_max_count: int = _number(50, 1, 1000, "delivered jobs kept per workspace")
    log_level: str = _choice("WARNING", LOG_LEVELS, "verbosity on stderr")
    log_file: str | None = _text("file to log to instead of stderr")
    warnings: tuple[str, ...] = ()

    @property
    def state(self) -> Path:
        """The state directory, absolute."""
        return Path(self.state_dir).expanduser().absolute() if self.state_dir else default_state_dir()


def default_state_dir() -> Path:
    import platformdirs

    return Path(platformdirs.user_state_dir("codex-counsel", appauthor=False))


def load(env: Mapping[str, str] | None = None) -> Settings:
    """Read the environment. What is out of bounds is clamped, what is no value at all is left out; both are named."""
    source = dict(os.environ if env is None else env)
    given, warnings = _own_names(source)
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        raw = given.get(setting.name.upper(), "").strip()
        if raw and setting.metadata:
            value, warning = _parse(setting.name.upper(), raw, setting.metadata)
            values.update({} if value is None else {setting.name: value})
            warnings += [warning] if warning else []
    return Settings(**values, warnings=tuple(warnings))


def _own_names(env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    own = {name.removeprefix(PREFIX): value for name, value in env.items() if name.startswith(PREFIX)}
    for old, new in OLD_NAMES.items():
        if old in own:
            own.setdefault(new, own.pop(old))
    known = {setting.name.upper() for setting in fields(Settings) if setting.metadata}
    warnings = [f"{PREFIX}{name} is not a setting and was ignored" for name in sorted(own.keys() - known - _INTERNAL)]
    foreign = sorted(name.removeprefix(FOREIGN_PREFIX) for name in env if name.startswith(FOREIGN_PREFIX))
    return own, warnings + [_foreign(name, known) for name in foreign]


_INTERNAL = {"JOB", "TEST_CODEX"}


def _foreign(name: str, known: set[str]) -> str:
    new = {**OLD_NAMES, **FOREIGN_NAMES}.get(name, name)
    there = f"{FOREIGN_PREFIX}{name} belongs to another bridge and was ignored"
    return f"{there}; its name here is {PREFIX}{new}" if new in known else there


def _parse(name: str, raw: str, bounds: Mapping[str, Any]) -> tuple[Any, str | None]:
    if "low" in bounds:
        return _bounded(name, raw, bounds["low"], bounds["high"])
    if "choices" in bounds:
        return _chosen(name, raw, bounds["choices"])
    if "\0" in raw:
        return None, f"{PREFIX}{name} holds a NUL byte and was ignored"
    if raw.startswith("~") and not _has_home(raw):
        return None, f"{PREFIX}{name}={raw[:40]!r} names the home directory of nobody and was ignored"
    return raw, None


def _has_home(path: str) -> bool:
    try:
        Path(path).expanduser()
    except RuntimeError:
        return False
    return True


def _bounded(name: str, raw: str, low: int, high: int) -> tuple[int | None, str | None]:
    try:
        value = int(raw)
    except ValueError:
        return None, f"{PREFIX}{name}={raw[:40]!r} is not a whole number; the default is used"
    bounded = min(max(value, low), high)
    return bounded, None if bounded == value else f"{PREFIX}{name}={raw[:40]} is out of bounds; {bounded} is used"


def _chosen(name: str, raw: str, choices: tuple[str, ...]) -> tuple[str | None, str | None]:
    found = next((choice for choice in choices if choice.lower() == raw.lower()), None)
    return found, None if found else f"{PREFIX}{name}={raw[:40]!r} is not one of {', '.join(choices)}; it was ignored"
