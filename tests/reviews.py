"""What tests of reviews have in common: a small repository, a reviewer's reply, and the material of a prompt."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import DryRun, ReviewChanges, ReviewPlan, parse
from tests.conftest import World, wait

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from codex_counsel.services.counsel import Counsel

TOKEN = "ghp_" + "a1B2c3D4e5" * 4
FINDING: dict[str, Any] = {
    "severity": "medium",
    "title": "The seventh line is wrong",
    "file": "app.py",
    "line": 7,
    "line_end": None,
    "evidence": "seven = 70",
    "risk": "Seven is not seventy.",
    "recommendation": "Write 7.",
}


def reply(
    *findings: dict[str, Any], verdict: str = "pass", **changes: Any
) -> dict[str, Any]:
    """A reviewer's reply that matches the schema; each finding is given by what differs from `FINDING`."""
    made: dict[str, Any] = {
        "summary": "Read it all.",
        "verdict": verdict,
        "confidence": "high",
    }
    made["findings"] = [FINDING | finding for finding in findings]
    return {**made, "questions": [], "assumptions": [], "next_steps": [], **changes}


def isolate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own git settings out of this process."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(world.home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def lines(**changes: str) -> str:
    """Twenty lines of app.py, some of them replaced: `lines(l7="seven = 70")`."""
    return "".join(
        changes.get(f"l{number}", f"line_{number} = {number}") + "\n"
        for number in range(1, 21)
    )


def write(root: Path, name: str, content: str | bytes = "text\n") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def commit(world: World, message: str = "change", cwd: Path | None = None) -> str:
    world.git("add", "--all", cwd=cwd)
    world.git("commit", "--quiet", "--allow-empty", "--message", message, cwd=cwd)
    return world.git("rev-parse", "HEAD", cwd=cwd).strip()


def begin(world: World, cwd: Path | None = None) -> str:
    """A repository with one commit; its id."""
    root = cwd or world.workspace
    world.git("init", "--quiet", "--initial-branch=main", cwd=root)
    write(root, "app.py", lines())
    write(root, "docs/readme.md", "# Title\n")
    return commit(world, "begin", root)


def begin_changed(world: World) -> str:
    """A repository with one commit, and line 7 of app.py changed since."""
    base = begin(world)
    write(world.workspace, "app.py", lines(l7="seven = 70"))
    return base


def review(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    """Review changes and wait: the whole envelope."""
    handle = counsel.review_changes(parse(ReviewChanges, arguments))
    return counsel.deliver(handle, wait(handle))


def review_plan(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    handle = counsel.review_plan(parse(ReviewPlan, arguments))
    return counsel.deliver(handle, wait(handle))


def dry_run(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    return counsel.dry_run(parse(DryRun, arguments))


def material(prompt: str, name: str) -> str | None:
    """The last material of this name in a prompt, or None."""
    found: list[tuple[str, str]] = re.findall(
        rf'^<material id="([0-9a-f]{{12}})" from="{re.escape(name)}">\n(.*?)\n</material \1>$',
        prompt,
        re.DOTALL | re.MULTILINE,
    )
    return found[-1][1] if found else None


FILES, LACKING = (
    "the files of the change",
    "what the text of the change lacks, or has only in part",
)


def change(prompt: str) -> str:
    """The text of the change in a prompt."""
    found = material(prompt, "the change")
    assert found is not None
    return found
