"""What a check costs over its command: a task with a check against one without, on the scripted model.

    uv run python -m benchmarks.check [--pairs 9] [--files 20 10000]

Each check runs its command twice, on the returned diff and on the state before it. So the
overhead of one run is half of what the check adds, less the time that the bare command
takes in the user's own tree. It holds the making of the fresh copy, the sandbox, and the
end of the process tree. Ratios matter, seconds depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from codex_counsel.contract.request import Delegate, parse
from codex_counsel.loopback import Loopback, Request, patch, say
from codex_counsel.loopback.reply import Reply
from codex_counsel.services.counsel import Counsel

COMMAND = "grep -q answer app.py"
FILES_IN_A_FOLDER = 100
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)


def make_repository(workspace: Path, files: int) -> None:
    """A commit with so many files of about a kilobyte."""
    (workspace / "app.py").write_text("answer = 41\n", "utf-8")
    for number in range(1, files):
        folder = workspace / f"folder{number // FILES_IN_A_FOLDER}"
        folder.mkdir(exist_ok=True)
        text = f"line of file {number}\n" * 45
        (folder / f"file{number}.txt").write_text(text, "utf-8")
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "-A"),
        ("-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *arguments], cwd=workspace, check=True)


def script(request: Request) -> Reply:
    return say("It is 42 now.") if request.outputs else FIX


def measure(base: Path, files: int, pairs: int) -> None:
    """Print the medians for a repository of so many files."""
    workspace = base / "workspace"
    for folder in (workspace, base / "home/.codex", base / "tmp"):
        folder.mkdir(parents=True)
    make_repository(workspace, files)
    with Loopback(script) as model:
        config = base / "home/.codex/config.toml"
        config.write_text(model.config_toml(), "utf-8")
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(base / "home"),
            "TMPDIR": str(base / "tmp"),
            "CODEX_HOME": str(base / "home/.codex"),
            "CODEX_COUNSEL_STATE_DIR": str(base / "state"),
        }
        counsel = Counsel(env, workspace)
        ways: dict[str, Callable[[], object]] = {
            "bare": lambda: subprocess.run(["/bin/sh", "-c", COMMAND], cwd=workspace, check=True),
            "without": lambda: delegate(counsel),
            "with": lambda: delegate(counsel, check=COMMAND),
        }  # fmt: skip
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(pairs + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                if number:  # the first of each fills caches
                    taken[name].append(time.perf_counter() - began)
    bare = statistics.median(taken["bare"])
    added = [
        with_check - without
        for with_check, without in zip(taken["with"], taken["without"], strict=True)
    ]
    overhead = statistics.median(added) / 2 - bare
    print(
        f"{files:>7}{bare * 1000:>9.0f} ms{statistics.median(taken['without']) * 1000:>12.0f} ms"
        f"{statistics.median(taken['with']) * 1000:>12.0f} ms{overhead * 1000:>16.0f} ms"
    )


def delegate(counsel: Counsel, **arguments: str) -> None:
    handle = counsel.delegate(parse(Delegate, {"task": "Fix it.", **arguments}))
    wire = counsel.follow(handle, lambda _: None)
    assert wire["status"] == "completed", wire
    if arguments:
        assert wire["check"]["status"] == "passed", wire["check"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--files", type=int, nargs="+", default=[20, 10_000])
    options = parser.parse_args()
    print(
        f"{'files':>7}{'bare':>12}{'no check':>15}{'with check':>15}{'overhead of a run':>19}"
    )
    for files in options.files:
        with tempfile.TemporaryDirectory() as made:
            measure(Path(made).resolve(), files, options.pairs)


if __name__ == "__main__":
    main()
