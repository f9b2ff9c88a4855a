"""The demo is what a stranger runs first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def demo(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        **env,
    }
    argv = [sys.executable, "-m", "codex_counsel", "demo"]
    return subprocess.run(
        argv, env=own, capture_output=True, text=True, timeout=90, check=False
    )


def test_the_demo_shows_what_the_sandbox_allowed_and_denied_and_the_answer(
    tmp_path: Path,
) -> None:
    result = demo(tmp_path)
    verdicts = [
        line.split(None, 1)
        for line in result.stdout.splitlines()
        if line.startswith(("  allowed ", "  denied "))
    ]
    assert result.returncode == 0, result.stdout + result.stderr
    assert [word for word, _ in verdicts] == ["allowed"] * 2 + ["denied"] * 5
    assert "subtotal > FREE_FROM" in result.stdout.partition("Codex's answer:")[2]
    assert "tokens: 800 in" in result.stdout


def test_the_demo_leaves_nothing_and_touches_no_state_of_the_user(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    demo(home)
    assert list(home.rglob("*")) == []


def test_without_codex_the_demo_says_what_to_install(tmp_path: Path) -> None:
    result = demo(tmp_path, CODEX_COUNSEL_CODEX_BIN="/nonexistent/codex")
    assert result.returncode == 3
    assert "npm install -g @openai/codex" in result.stderr


def test_the_demo_reviews_a_planted_bug_and_tells_found_evidence_from_invented(
    tmp_path: Path,
) -> None:
    review = demo(tmp_path).stdout.partition("== A review")[2]
    assert "HIGH  refund() is off by one" in review
    assert "shop.py:13 (moved)" in review
    assert "shop.py:14 (unverified)" in review


def test_the_demo_delegates_a_fix_whose_check_ran_in_the_sandbox_and_applies_it_on_request(
    tmp_path: Path,
) -> None:
    delegated = demo(tmp_path).stdout.partition("== A delegated task")[2]
    assert (
        "+    return subtotal if subtotal >= FREE_FROM else subtotal + SHIPPING"
        in delegated
    )
    assert "exit 0: /bin/bash -c 'python3 test_shop.py'" in delegated
    assert "Your files meanwhile: untouched." in delegated
    assert "2 files were changed; the index was left alone" in delegated
