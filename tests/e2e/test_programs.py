"""The directory of programs: what is in it, and that each leads to its own."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from codex_counsel.codex import programs


@pytest.mark.parametrize("name", ["plain", 'it\'s $HOME `id` \\ "x" ü'])
def test_each_program_of_the_environment_is_run_with_its_arguments(
    tmp_path: Path, name: str
) -> None:
    environment = tmp_path / name
    (environment / "bin").mkdir(parents=True)
    for program in ("python", "pytest", "bwrap", "git"):
        file = environment / "bin" / program
        file.write_text('#!/bin/sh\nprintf "%s:" "$0" "$@"\n')
        file.chmod(0o755)
    directory = tmp_path / "bin"
    programs.make(str(directory), str(environment), "/opt/codex")
    assert {path.name for path in directory.iterdir()} == {
        "apply_patch",
        "python",
        "pytest",
    }
    assert (directory / "apply_patch").readlink() == Path("/opt/codex")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    said = subprocess.check_output([directory / "pytest", "a b", "*"], text=True)
    assert said == f"{environment}/bin/pytest:a b:*:"


def test_no_name_is_one_that_codex_runs_outside_the_sandbox() -> None:
    outside = {"bwrap", "getconf", "lsb_release", "git", "rg", "codex", "sh", "bash"}
    assert outside.isdisjoint(programs.NAMES)
