"""An editor saves while diffs are applied, given up and undone; and whoever applies is killed. Nothing is lost.

    uv run python -m benchmarks.apply_campaign [--rounds 200] [--seed 1] [--campaign saves|kills|all]

`saves`: an editor writes a file of the diff in place or renames a new one over it, at
random and at aimed moments. Its last save must be in the tree afterwards. `kills`: the
process that applies is killed at a random or an aimed system call, now and then with an
editor at work. Afterwards the diff can be finished, and taken back to the byte; no draft
stays. Ends with a line of counts, and with exit code 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_counsel.contract.request import Apply
from codex_counsel.delegate import apply as applying
from codex_counsel.delegate import live_writer, seed
from codex_counsel.delegate.capture import capture_tree
from codex_counsel.delegate.conclude import make_result
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.system import exchange as exchanges

JOB = "0123456789abcdef" * 2
FILES = [f"file{number}.txt" for number in range(6)]
SEAMS = (
    (live_writer, "read_file"),
    (live_writer, "_write_draft"),
    (live_writer, "exchange"),
    (live_writer, "rename_new"),
    (live_writer, "read_entry"),
    (live_writer, "_unlink"),
    (exchanges, "has_writers"),
    (applying, "write_atomically"),
    (applying, "plan_apply"),
    (applying, "plan_undo"),
    (applying, "make_undo_patch"),
)
"""Functions around which something may happen: before the call, or after it."""


class Project:
    """A repository with six files of forty lines, and a delegate's diff that changes all, adds one and removes one."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "repo"
        self.root.mkdir()
        self.git("init", "-q", "-b", "main")
        for name in (*FILES, "gone.txt"):
            lines = [f"{name} {number}\n" for number in range(40)]
            (self.root / name).write_text("".join(lines), "utf-8")
        self.git("add", "-A")
        self.git("commit", "-qm", "begin")
        repo = Repo.open(self.root, env=os.environ)
        plan = seed.plan_seed(repo, ())
        shadow = Shadow.create(repo, base / "shadow", plan.head)
        tree = seed.populate(repo, plan, shadow)
        for name in FILES:
            path = shadow.tree / name
            path.write_text(path.read_text("utf-8").replace(" 3\n", " three\n"))
        (shadow.tree / "gone.txt").unlink()
        (shadow.tree / "new.txt").write_text("new\n", "utf-8")
        self.job = base / "jobs" / JOB
        self.job.mkdir(parents=True)
        capture = capture_tree(shadow, tree, self.job, 200_000)
        record = {"head": plan.head, "omitted": []}
        result = make_result(record, capture, 200_000)
        (self.job / "work.json").write_text(json.dumps(asdict(result)), "utf-8")
        self.spec = DelegateSpec(str(self.root), str(repo.common_dir), 60, 200_000, ())
        shadow.remove()

    @property
    def record(self) -> Path:
        """The record of a call that has begun to write."""
        return self.base / "applying" / f"{JOB}.json"

    def git(self, *args: str) -> None:
        identity = ("-c", "user.name=B", "-c", "user.email=b@example.org")
        subprocess.run(["git", *identity, *args], cwd=self.root, check=True)

    def reset(self) -> None:
        """Put everything back as it was at the beginning."""
        self.git("reset", "-q", "--hard")
        self.git("clean", "-fdxq")
        for path in (
            self.job / "applied",
            self.job / "undo.patch",
            self.record,
        ):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.job / "kept", ignore_errors=True)

    def call(self, *, undo: bool = False) -> dict[str, Any]:
        """Apply, or undo."""
        diff = applying.StoredDiff.load(JOB, self.job, self.spec, self.base)
        request = Apply(job_id=JOB, undo=undo)
        return applying.apply_diff(diff, self.root, request, 60, os.environ)

    def contents(self) -> dict[str, bytes]:
        """Every file of the tree."""
        return {
            path.name: path.read_bytes()
            for path in self.root.iterdir()
            if path.is_file()
        }

    def drafts(self) -> list[str]:
        return [name for name in self.contents() if name.startswith(".codex-counsel")]

    def kept(self) -> list[bytes]:
        return [
            path.read_bytes() for path in self.job.glob("kept/**/*") if path.is_file()
        ]


class Editor:
    """Saves files as editors do. Each save puts its number into line 20 of a file."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        self.root = root
        self.dice = dice
        self.count = 0
        self.last: dict[str, str] = {}
        self.done = threading.Event()

    def save(self) -> None:
        name = self.dice.choice(FILES)
        path = self.root / name
        try:
            lines = path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return
        if len(lines) < 30:
            # Our own process may be reading what it is writing itself.
            return
        self.count += 1
        mark = f"save-{self.count}"
        lines[20] = mark
        text = "\n".join(lines) + "\n"
        # From here on the older save of this file is the user's own past.
        self.last[name] = mark
        if self.dice.random() < 0.5:
            self._in_place(path, text)
        else:
            draft = self.root / f"editor{self.count}.tmp"
            draft.write_text(text, "utf-8")
            draft.replace(path)

    def _in_place(self, path: Path, text: str) -> None:
        with path.open("r+", encoding="utf-8") as file:
            file.truncate(0)
            middle = len(text) // 2
            file.write(text[:middle])
            file.flush()
            self._pause()
            file.write(text[middle:])

    def _pause(self) -> None:
        if self.dice.random() < 0.5:
            time.sleep(self.dice.random() * 0.01)

    def work(self) -> None:
        while not self.done.is_set():
            self.save()
            time.sleep(self.dice.random() * self.dice.choice((0.001, 0.01, 0.05)))

    def lost(self, project: Project) -> list[str]:
        """The last saves that are neither in their file nor kept."""
        contents = project.contents()
        kept = project.kept()
        missing = []
        for name, mark in self.last.items():
            needle = mark.encode() + b"\n"
            places = [contents.get(name, b""), *kept]
            if not any(needle in place for place in places):
                missing.append(f"{mark} of {name}")
        return missing


@contextlib.contextmanager
def at_seam(dice: random.Random, action: Callable[[], None]) -> Iterator[None]:
    """Run the action once, before or after one call of one of SEAMS."""
    module, name = dice.choice(SEAMS)
    target = dice.randrange(1, 14)
    is_after = dice.random() < 0.5
    real = getattr(module, name)
    calls = 0

    def around(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        is_now = calls == target
        if is_now and not is_after:
            action()
        result = real(*args, **options)
        if is_now and is_after:
            action()
        return result

    patched = [module]
    if name == "has_writers":
        patched = [live_writer]
    for place in patched:
        setattr(place, name, around)
    try:
        yield
    finally:
        for place in patched:
            setattr(place, name, real)


def give_up(*_: object) -> None:
    raise OSError(28, "No space left on device")


def round_of_saves(project: Project, dice: random.Random, counts: Counter[str]) -> None:
    project.reset()
    editor = Editor(project.root, dice)
    undo = dice.random() < 0.4
    if undo:
        project.call()
    is_aimed = dice.random() < 0.6
    thread = threading.Thread(target=editor.work)
    if not is_aimed:
        thread.start()
    try:
        with contextlib.ExitStack() as stack:
            if is_aimed:
                stack.enter_context(at_seam(dice, editor.save))
                if dice.random() < 0.5:
                    stack.enter_context(at_seam(dice, editor.save))
            if dice.random() < 0.4:
                stack.enter_context(at_seam(dice, give_up))
            outcome = project.call(undo=undo)
        counts["changed since"] += bool(outcome.get("changed_since"))
        counts["done"] += 1
    except CounselError as error:
        counts[error.code] += 1
        counts["kept"] += bool(error.details.get("kept"))
    finally:
        editor.done.set()
        if thread.ident:
            thread.join()
    counts["saves"] += editor.count
    lost = editor.lost(project)
    if lost:
        counts["LOST"] += len(lost)
        print("lost:", lost, file=sys.stderr)
    # What could not be put back is finished by the next call, which removes them too.
    if project.drafts() and not project.record.exists():
        counts["DRAFTS"] += 1
        print("drafts:", project.drafts(), file=sys.stderr)


def round_of_kills(project: Project, dice: random.Random, counts: Counter[str]) -> None:
    project.reset()
    begin = project.contents()
    undo = dice.random() < 0.4
    project.call()
    if not undo:
        project.call(undo=True)
    has_editor = dice.random() < 0.3
    editor = Editor(project.root, dice)
    kill_a_call(project, dice, counts, editor if has_editor else None, undo=undo)
    undo_patch = project.job / "undo.patch"
    if undo_patch.exists() and not undo_patch.read_bytes():
        counts["EMPTY UNDO"] += 1

    if dice.random() < 0.5:
        applying.sweep_applying(project.base)
        if project.drafts():
            counts["DRAFTS"] += 1
    for step in dice.choice(((False, True), (True,), (True, False, True))):
        try:
            project.call(undo=step)
        except CounselError as error:
            # Applied by the killed call, or undone by it, as its record says.
            counts[f"then {error.code}"] += 1
    if project.drafts():
        counts["DRAFTS"] += 1
    if not has_editor and project.contents() != begin:
        counts["NOT TAKEN BACK"] += 1
    counts["LOST"] += len(editor.lost(project))


def kill_a_call(
    project: Project,
    dice: random.Random,
    counts: Counter[str],
    editor: Editor | None,
    *,
    undo: bool,
) -> None:
    """Fork, call, and kill the child at an aimed or at a random moment, or not at all."""
    child = os.fork()
    if not child:
        with (
            contextlib.suppress(BaseException),
            at_seam(dice, lambda: os.kill(os.getpid(), signal.SIGKILL)),
        ):
            project.call(undo=undo)
        os._exit(0)
    thread = threading.Thread(target=editor.work) if editor else None
    if thread:
        thread.start()
    if dice.random() < 0.4:
        time.sleep(dice.random() * 0.15)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if editor and thread:
        editor.done.set()
        thread.join()
    counts["killed"] += os.waitstatus_to_exitcode(status) != 0
    counts["killed half-way"] += project.record.exists()
    counts["drafts left"] += bool(project.drafts())


CAMPAIGNS = {"saves": round_of_saves, "kills": round_of_kills}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--campaign", choices=(*CAMPAIGNS, "all"), default="all")
    options = parser.parse_args()
    failed = False
    for name, run_round in CAMPAIGNS.items():
        if options.campaign not in (name, "all"):
            continue
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(prefix="apply-campaign-") as directory:
            project = Project(Path(directory).resolve())
            for number in range(options.rounds):
                before = sum(counts[key] for key in counts if key.isupper())
                run_round(project, random.Random(f"{options.seed} {number}"), counts)
                if sum(counts[key] for key in counts if key.isupper()) > before:
                    print(f"round {number}", file=sys.stderr)
        print(name, options.rounds, "rounds, seed", options.seed, dict(counts))
        failed = failed or any(key.isupper() and counts[key] for key in counts)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
