"""Settings from the environment: read, bounded, and whatever is wrong with them named instead of fatal."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from codex_counsel.contract.settings import PREFIX, Settings, default_state_dir, load

NUMBERS = {f.name: f.metadata for f in fields(Settings) if "low" in f.metadata}
CHOICES = {
    f.name: f.metadata["choices"] for f in fields(Settings) if "choices" in f.metadata
}
TEXTS = [
    f.name
    for f in fields(Settings)
    if f.metadata and f.name not in NUMBERS and f.name not in CHOICES
]


def settings_of(**values: str) -> Settings:
    return load({f"{PREFIX}{name.upper()}": value for name, value in values.items()})


def test_without_variables_every_setting_has_its_default_and_nothing_is_said() -> None:
    assert load({}) == Settings()
    assert Settings().warnings == ()


def test_every_setting_says_what_it_means_and_its_default_is_within_its_bounds() -> (
    None
):
    assert all(f.metadata["meaning"] for f in fields(Settings) if f.name != "warnings")
    for name, bounds in NUMBERS.items():
        default = getattr(Settings(), name)
        assert default is None or bounds["low"] <= default <= bounds["high"]
    assert all(
        getattr(Settings(), name) in (None, *choices)
        for name, choices in CHOICES.items()
    )


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_taken_at_its_bounds_and_clamped_beyond_them(name: str) -> None:
    low, high = NUMBERS[name]["low"], NUMBERS[name]["high"]
    for value, kept in (
        (low, low),
        (high, high),
        (low - 1, low),
        (high + 1, high),
        (-(10**30), low),
    ):
        settings = settings_of(**{name: str(value)})
        assert getattr(settings, name) == kept
        assert bool(settings.warnings) is (value != kept)
    assert (
        f"{PREFIX}{name.upper()}={high + 1} is out of bounds; {high} is used"
        in settings_of(**{name: str(high + 1)}).warnings
    )


@pytest.mark.parametrize("value", ["soon", "1.5", "0x10", "1e3", "9" * 5000, "five\0"])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_whole_number_leaves_the_default_and_is_named(
    name: str, value: str
) -> None:
    settings = settings_of(**{name: value})
    assert getattr(settings, name) == getattr(Settings(), name)
    assert "is not a whole number; the default is used" in settings.warnings[0]
    assert len(settings.warnings[0]) < 200


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_taken_in_any_case_and_an_unknown_one_ignored(name: str) -> None:
    for choice in CHOICES[name]:
        assert getattr(settings_of(**{name: f" {choice.swapcase()} "}), name) == choice
    settings = settings_of(**{name: "whatever"})
    assert getattr(settings, name) == getattr(Settings(), name)
    assert (
        f"{PREFIX}{name.upper()}='whatever' is not one of {', '.join(CHOICES[name])}; it was ignored"
        in settings.warnings
    )


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_taken_as_it_is_and_a_blank_one_left_out(name: str) -> None:
    assert getattr(settings_of(**{name: " /a b/ä "}), name) == "/a b/ä"
    assert getattr(settings_of(**{name: "  "}), name) is None
    broken = settings_of(**{name: "a\0b"})
    assert (getattr(broken, name), broken.warnings) == (
        None,
        (f"{PREFIX}{name.upper()} holds a NUL byte and was ignored",),
    )


def test_names_that_are_no_settings_are_named_and_our_own_variables_are_not() -> None:
    settings = settings_of(TIMEOUT_SECOND="5", JOB="x", TEST_CODEX="y")
    assert settings == Settings(
        warnings=(f"{PREFIX}TIMEOUT_SECOND is not a setting and was ignored",)
    )


def test_the_older_name_of_a_setting_counts_and_the_present_one_wins() -> None:
    assert settings_of(job_max_seconds="60").timeout_seconds == 60
    assert settings_of(job_max_seconds="60", timeout_seconds="70").timeout_seconds == 70
    assert settings_of(job_max_seconds="60").warnings == ()


def test_settings_of_another_bridge_are_not_read_but_their_name_here_is_told() -> None:
    env = {
        "CODEX_IN_CLAUDE_TIMEOUT_SECONDS": "7",
        "CODEX_IN_CLAUDE_JOB_MAX_SECONDS": "7",
        "CODEX_IN_CLAUDE_X": "7",
    }
    settings = load(env)
    assert settings.timeout_seconds == Settings().timeout_seconds
    ignored = "belongs to another bridge and was ignored"
    assert settings.warnings == (
        f"CODEX_IN_CLAUDE_JOB_MAX_SECONDS {ignored}; its name here is {PREFIX}TIMEOUT_SECONDS",
        f"CODEX_IN_CLAUDE_TIMEOUT_SECONDS {ignored}; its name here is {PREFIX}TIMEOUT_SECONDS",
        f"CODEX_IN_CLAUDE_X {ignored}",
    )


def test_the_state_directory_is_absolute_and_knows_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert settings_of(state_dir="~/s").state == tmp_path / "s"
    assert settings_of(state_dir="s").state == tmp_path / "s"
    assert settings_of().state == default_state_dir()
    assert default_state_dir().is_absolute()


def test_the_home_of_nobody_is_ignored_and_named() -> None:
    settings = settings_of(state_dir="~nobody-of-this-name/s")
    assert settings.state == default_state_dir()
    assert (
        "names the home directory of an unknown user and was ignored"
        in settings.warnings[0]
    )


def test_the_environment_of_the_process_is_read_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(f"{PREFIX}MODEL", "gpt-x")
    assert load().model == "gpt-x"
