"""What a review and a delegate cost before Codex is asked, beside git itself.

    uv run python benchmarks/material.py [--rounds 5]

Repositories are made in a temporary directory. Medians of interleaved rounds; the first
round only warms up.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from codex_counsel.delegate import seed
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.git.repo import Repo
from codex_counsel.review.changes.changes import gather
from codex_counsel.review.changes.model import Scope

BUDGET = 200_000
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}


def git(repo: Path, *args: str) -> None:
    identity = [
        "-c",
        "user.name=B",
        "-c",
        "user.email=b@example.org",
        "-c",
        "gc.auto=0",
    ]
    subprocess.run(
        ["git", *identity, *args],
        cwd=repo,
        env=ENV,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def repository(path: Path, files: int) -> Path:
    """A committed repository of small source files."""
    for number in range(files):
        folder = path / f"package{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text(f"value = {number}\n" * 40, "utf-8")
    git(path, "init", "-q")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "Begin")
    return path


def compare(
    name: str, rounds: int, alone: Callable[[], object], ours: Callable[[], object]
) -> None:
    taken: dict[str, list[float]] = {"git": [], "ours": []}
    for _ in range(rounds + 1):
        for label, action in (("git", alone), ("ours", ours)):
            begin = time.perf_counter()
            action()
            taken[label].append(time.perf_counter() - begin)
    alone_s, ours_s = (statistics.median(values[1:]) for values in taken.values())
    columns = f"{alone_s * 1000:>9.0f} ms{ours_s * 1000:>9.0f} ms{(ours_s - alone_s) * 1000:>+9.0f} ms"
    print(f"{name:<44}{columns}{ours_s / alone_s:>8.2f}")


def reviewed(path: Path) -> Callable[[], object]:
    return lambda: gather(Repo.open(path, env=os.environ), Scope(), BUDGET)


def change(path: Path) -> Path:
    """Ten kilobytes of uncommitted work."""
    for number in range(5):
        file = path / f"package0/module{number}.py"
        file.write_text(file.read_text("utf-8") + "changed = True\n" * 140, "utf-8")
    return path


def untracked(path: Path) -> Path:
    for number in range(10_000):
        folder = path / f"new{number // 200}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}.txt").write_text("new line\n" * 100, "utf-8")
    return path


def big_diff(path: Path) -> Path:
    for number in range(20):
        (path / f"package0/module{number}.py").write_text(
            "".join(f"line {i} of {number}\n" for i in range(60_000)), "utf-8"
        )
    return path


def worktree(path: Path) -> None:
    target = path.parent / "worktree"
    git(path, "worktree", "add", "-q", "--detach", str(target))


def shadow(path: Path) -> None:
    repo = Repo.open(path, env=os.environ)
    plan = seed.plan_seed(repo, ())
    seed.populate(repo, plan, Shadow.create(repo, path.parent / "shadow", plan.head))


def compare_trees(path: Path, rounds: int) -> None:
    """Removal is not counted."""
    taken: dict[str, list[float]] = {"worktree": [], "shadow": []}
    for _ in range(rounds + 1):
        for name, make in (("worktree", worktree), ("shadow", shadow)):
            begin = time.perf_counter()
            make(path)
            taken[name].append(time.perf_counter() - begin)
            shutil.rmtree(path.parent / name)
            git(path, "worktree", "prune")
    alone_s, ours_s = (statistics.median(values[1:]) for values in taken.values())
    over = f"{ours_s - alone_s:>+10.2f} s{ours_s / alone_s:>8.2f}"
    print(
        f"{'delegate: 20,000 files, over git worktree add':<44}{alone_s:>10.2f} s{ours_s:>10.2f} s{over}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    os.environ.update(HOME="/nonexistent", GIT_CONFIG_NOSYSTEM="1")
    print(f"{'':<44}{'git alone':>12}{'ours':>12}{'over':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as made:
        base = Path(made).resolve()
        path = change(repository(base / "small", 1000))
        compare(
            "review: 10 kB change, 1,000 files",
            rounds,
            lambda: git(path, "diff", "HEAD"),
            reviewed(path),
        )
        new = untracked(repository(base / "untracked", 10))
        compare(
            "review: 10,000 untracked files",
            rounds,
            lambda: git(new, "ls-files", "-o"),
            reviewed(new),
        )
        big = big_diff(repository(base / "big", 100))
        compare(
            "review: 20 MB diff",
            rounds,
            lambda: git(big, "diff", "HEAD"),
            reviewed(big),
        )
        compare_trees(repository(base / "many", 20_000), rounds)
    print(
        f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
    )


if __name__ == "__main__":
    main()
