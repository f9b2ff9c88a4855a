"""Several attempts at a task, each told by its model what to do."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import Answer, Reply, Request, failed, say, shell

CHECK = "python3 -B -c 'import app; assert app.answer == 42'"


def set_answer(value: int, more: str = "") -> Answer:
    """Change the answer in app.py, which is 41, and run `more` after it."""
    return shell(f"sed -i 's/41/{value}/' app.py{more}")


RIGHT: Sequence[Reply] = (
    set_answer(42, "; echo '# why 42' >> app.py"),
    say("It is 42 now."),
)
WRONG: Sequence[Reply] = (set_answer(43), say("It is 43 now."))
CRASH: Sequence[Reply] = (failed("server_error"),)
NOTHING: Sequence[Reply] = (say("There is nothing to do."),)


@dataclass
class Cast:
    """A script that plays one part for each model, and the judge.

    The judge prefers the diff that contains `preferred`. `judged` are the prompts that it
    was given.
    """

    parts: Mapping[str, Sequence[Reply]]
    preferred: str = ""
    verdict: Reply | None = None
    judged: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Reply:
        if request.schema is not None:
            with self.lock:
                self.judged.append(request.prompt)
            return self.verdict or self._verdict(request.prompt)
        part = self.parts[request.model]
        return part[min(request.index, len(part) - 1)]

    def _verdict(self, prompt: str) -> Reply:
        letters = {}
        for section in prompt.split('" letter="')[1:]:
            letters[section[0]] = section
        best_first = sorted(
            letters, key=lambda letter: self.preferred not in letters[letter]
        )
        rows = [
            {"attempt": letter, "reason": f"because of {letter}"}
            for letter in best_first
        ]
        return say({"ranking": rows})

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a task with an attempt for each part."""
        return {"attempts": len(self.parts), "models": tuple(self.parts)}


def children_of(job: Job) -> list[Job]:
    """The jobs that it has started."""
    store = Store(job.state_directory)
    paths = [store.directory / job_id for job_id in job.spec().children]
    return [Job(path) for path in paths if path.is_dir()]


def by_model(wire: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of the comparison, by the model of the attempt."""
    return {row["model"]: row for row in wire["attempts"]}
