"""The demo is what a stranger runs first."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from codex_counsel.loopback import Answer, Loopback, Request, patch, say
from tests.e2e.cli.conftest import WorldInClaudeCode
from tests.reviews import reply

Model = Callable[..., Loopback]
FIX = """\
*** Begin Patch
*** Update File: shop.py
@@
-FREE_FROM = 100.00
+FREE_FROM = 99.99
*** End Patch
"""


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
    # What it named lay in the sample, so the end says what works instead.
    assert "Next: `codex-counsel status`" in result.stdout


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
    assert "\ncheck passed: python3 -c " in delegated
    assert "; it failed before the change (" in delegated
    assert "Your files meanwhile: untouched." in delegated
    assert "2 files were changed; the index was left alone" in delegated


def test_inside_claude_code_the_demo_uses_its_sample_and_not_the_project(
    world: WorldInClaudeCode,
) -> None:
    result = demo(world.base, CLAUDE_PROJECT_DIR=str(world.project))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "THE SANDBOX DID NOT" not in result.stdout


def test_the_live_demo_touches_its_sample_alone(
    world: WorldInClaudeCode, model: Model
) -> None:
    def answer(request: Request) -> Answer:
        if request.schema:
            return say(reply())
        if "prove it with a test" in request.prompt and not request.outputs:
            return patch(FIX)
        return say("Fine.")

    server = model(answer)
    argv = [sys.executable, "-m", "codex_counsel", "demo", "--live"]
    result = subprocess.run(
        argv,
        env=world.env,
        cwd=world.project,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Your files meanwhile: untouched." in result.stdout
    assert "1 file was changed" in result.stdout
    assert all(str(world.project) not in request.prompt for request in server.requests)
