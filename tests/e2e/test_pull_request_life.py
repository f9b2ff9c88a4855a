"""The life of a pull request over its pushes: raised, rejected, fixed, moved, returned, rebased, pushed by force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.findings.ledger import Ledger
from codex_counsel.loopback import Loopback, say
from tests.conftest import World
from tests.e2e.runs import command_line
from tests.repositories import Repository
from tests.reviews import change, reply, review

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

TOTAL = {
    "severity": "high",
    "category": "logic",
    "title": "The total leaves out the last row",
    "file": "pkg/total.py",
    "line": 3,
    "evidence": "for row in rows[:-1]:",
}
RETRY = {
    "severity": "medium",
    "category": "error_handling",
    "title": "The retry never gives up",
    "file": "pkg/retry.py",
    "line": 2,
    "evidence": "while True:",
}
CLOSE = {
    "severity": "low",
    "category": "resource_leak",
    "title": "The file is not closed",
    "file": "pkg/load.py",
    "line": 2,
    "evidence": "return open(path).read()",
}
TOTAL_PY = "def total(rows):\n    result = 0\n    for row in rows[:-1]:\n        result += row\n    return result\n"
RETRY_PY = "def retry(call):\n    while True:\n        call()\n"
LOAD_PY = "def load(path):\n    return open(path).read()\n"
OTHERS = 97
"""With the three files of the findings the branch has a hundred."""


@dataclass
class Life:
    """A branch under review. `sent` are the bytes of each review's material, `prompts` those of its prompt."""

    world: World
    server: Loopback
    repository: Repository

    def push(self, message: str, **files: str) -> None:
        for name, text in files.items():
            self.repository.write(f"pkg/{name}.py", text)
        self.repository.commit(message)

    def review(self, **arguments: Any) -> dict[str, Any]:
        return review(
            self.world.counsel(), scope="branch", base="main", since="last", **arguments
        )

    def states(self) -> dict[str, str]:
        """What the ledger says now, by title of the first review."""
        directory = self.repository.repo().common_dir
        entries = Ledger.of(Path(self.world.state), directory).read().entries
        return {str(entry.file): str(entry.state) for entry in entries.values()}


def known(wire: dict[str, Any]) -> dict[str, str]:
    return {finding["file"]: finding["known"] for finding in wire["findings"]}


def resolved(wire: dict[str, Any]) -> dict[str, str]:
    return {row["file"]: row["state"] for row in wire.get("resolved", ())}


def begin(world: World, server: Loopback) -> Life:
    repository = world.repository.begin()
    repository.git("checkout", "--quiet", "-b", "feature")
    for number in range(OTHERS):
        text = "".join(f"value_{number}_{line} = {line}\n" for line in range(60))
        repository.write(f"pkg/other_{number:02}.py", text)
    life = Life(world, server, repository)
    life.push("The feature", total=TOTAL_PY, retry=RETRY_PY, load=LOAD_PY)
    return life


def test_each_push_is_reviewed_once_and_the_ledger_is_right_after_each(
    world: World, model: Model
) -> None:
    moved = {**CLOSE, "title": "A handle stays open", "line": 5}
    replies = iter(
        [
            reply(TOTAL, RETRY, CLOSE, verdict="fail"),
            reply(RETRY, verdict="concerns"),
            reply(moved, verdict="concerns"),
            reply(),
            reply(CLOSE, verdict="concerns"),
            reply(),
            reply(),
        ]
    )
    server = model(lambda _request: say(next(replies)))
    life = begin(world, server)

    # The first push: everything is sent, and all findings are new.
    first = life.review()
    assert first["coverage"]["files"] == OTHERS + 3
    assert first["coverage"]["complete"] is True
    assert set(known(first).values()) == {"new"}
    assert set(life.states().values()) == {"open"}
    ids = {finding["file"]: finding["id"] for finding in first["findings"]}
    assert len(set(ids.values())) == 3

    rejection = command_line(
        world, "findings", "reject", ids["pkg/retry.py"], "--reason", "callers stop it"
    )
    assert rejection.returncode == 0, rejection.stderr

    # The second: one line mends the total. The reviewer raises what was rejected again.
    life.push("Mend the total", total=TOTAL_PY.replace("rows[:-1]", "rows"))
    second = life.review()
    assert known(second) == {"pkg/retry.py": "rejected", "pkg/load.py": "open"}
    assert resolved(second) == {"pkg/total.py": "fixed"}
    assert second["verdict"] == "concerns"
    carried = [row for row in second["findings"] if row.get("carried")]
    assert [row["file"] for row in carried] == ["pkg/load.py"]
    assert life.states() == {
        "pkg/total.py": "fixed",
        "pkg/retry.py": "rejected",
        "pkg/load.py": "open",
    }
    assert second["coverage"]["bytes"] <= first["coverage"]["bytes"] / 20
    prompts = [len(request.prompt.encode()) for request in server.requests]
    # What is the same in each prompt, such as the instructions, has some 10 kB.
    assert prompts[1] <= prompts[0] / 10
    assert "value_7_7" not in change(server.requests[1].prompt)
    assert "callers stop it" in server.requests[1].prompt
    (seen,) = second["coverage"]["seen"]
    assert (seen["job_id"], seen["files"]) == (first["meta"]["job_id"], OTHERS + 2)

    # The third moves the code, and the reviewer finds other words for the fault.
    life.push("Explain", load='"""Loading."""\n\n\n' + LOAD_PY)
    third = life.review()
    (same,) = third["findings"]
    assert (same["id"], same["known"]) == (ids["pkg/load.py"], "open")
    assert not same.get("carried")

    # The fourth mends it: nothing is left but what was rejected.
    life.push("Close the file", load="def load(path):\n    return path.read_text()\n")
    fourth = life.review()
    assert (fourth["verdict"], fourth["findings"]) == ("pass", [])
    assert resolved(fourth) == {"pkg/load.py": "fixed"}

    # The fifth takes the mending back.
    life.push("Revert", load=LOAD_PY)
    fifth = life.review()
    (back,) = fifth["findings"]
    assert (back["id"], back["known"]) == (ids["pkg/load.py"], "returned")
    assert life.states()["pkg/load.py"] == "open"

    # The sixth is a rebase onto a main that went on, and a push by force without the revert.
    life.repository.git("checkout", "--quiet", "main")
    life.repository.write("docs/readme.md", "# Another title\n")
    life.repository.commit("main goes on")
    life.repository.git("checkout", "--quiet", "feature")
    life.repository.git("reset", "--quiet", "--hard", "HEAD~1")
    life.repository.git("rebase", "--quiet", "main")
    life.push("Last words", other_00="value = 1\n")
    sixth = life.review()
    sent = change(server.requests[5].prompt)
    assert "pkg/other_00.py" in sent
    assert "pkg/other_01.py" not in sent
    assert "pkg/total.py" not in sent
    assert resolved(sixth) == {"pkg/load.py": "fixed"}
    assert sixth["verdict"] == "pass"
    assert life.states() == {
        "pkg/total.py": "fixed",
        "pkg/retry.py": "rejected",
        "pkg/load.py": "fixed",
    }

    # Everything once more: what was rejected stays so.
    whole = review(world.counsel(), scope="branch", base="main")
    assert whole["coverage"]["bytes"] > first["coverage"]["bytes"] / 2
    assert whole["verdict"] == "pass"
