"""Reviews with proofs on the real Codex: scripted reviewers and provers, and what came of their findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.loopback import Reply, Request, patch, say, shell
from tests.conftest import World
from tests.reviews import reply, review

GOOD = "def mean(values):\n    return sum(values) / len(values)\n"
BAD = "def mean(values):\n    return sum(values) / (len(values) - 1)\n"
CLAIM: dict[str, Any] = {
    "severity": "high",
    "title": "The mean is too large",
    "file": "stats.py",
    "line": 2,
    "evidence": "    return sum(values) / (len(values) - 1)",
    "risk": "Every mean is wrong.",
    "recommendation": "Divide by the number of values.",
}
TEST = """\
import unittest

from stats import mean


class Mean(unittest.TestCase):
    def test_of_two(self):
        self.assertEqual(mean([2, 4]), 3)
"""


@dataclass(frozen=True)
class Prover:
    """What a scripted prover does: files that it adds, a command that it runs, and its reply."""

    files: Mapping[str, str] = field(default_factory=lambda: {"test_mean.py": TEST})
    does: str | None = None
    verdict: str = "shown"
    command: str | None = "python3 -m unittest test_mean"
    failure: str | None = "assertion"
    replacement: tuple[int, int, str] | None = None
    last: Reply | None = None

    def reply_to(self, request: Request) -> Reply:
        acts = []
        if self.files:
            acts.append(patch(adding(self.files)))
        if self.does:
            acts.append(shell(self.does))
        if request.index < len(acts):
            return acts[request.index]
        return self.last or say(self.words)

    @property
    def words(self) -> dict[str, Any]:
        first, last, text = self.replacement or (None, None, None)
        return {
            "verdict": self.verdict,
            "command": self.command,
            "failure": self.failure,
            "explanation": "It asks for the mean of two numbers.",
            "replace_from": first,
            "replace_to": last,
            "replacement": text,
        }


def adding(files: Mapping[str, str]) -> str:
    """A patch in Codex's format that adds these files."""
    lines = ["*** Begin Patch"]
    for name, text in files.items():
        lines.append(f"*** Add File: {name}")
        lines += [f"+{line}" for line in text.splitlines()]
    return "\n".join([*lines, "*** End Patch\n"])


def is_proof(request: Request) -> bool:
    """Whether a prover asks, and not the reviewer."""
    return "failure" in ((request.schema or {}).get("properties") or {})


def script(
    findings: Sequence[Mapping[str, Any]],
    provers: Mapping[str, Prover] | Prover,
    **changes: Any,
) -> Any:
    """A model that reports these findings, and proves each as the prover of its title does."""

    def answer(request: Request) -> Reply:
        if not is_proof(request):
            return say(reply(*map(dict, findings), **{"verdict": "fail", **changes}))
        if isinstance(provers, Prover):
            return provers.reply_to(request)
        for title, prover in provers.items():
            if title in request.prompt:
                return prover.reply_to(request)
        raise AssertionError(request.prompt)

    return answer


def begin(world: World, good: str = GOOD, bad: str = BAD) -> None:
    """A repository whose last commit is right, and whose working tree is not."""
    repository = world.repository.init()
    repository.write("stats.py", good)
    repository.commit("right")
    repository.write("stats.py", bad)


def prove(world: World, which: str = "high", **arguments: Any) -> EnvelopeDict:
    """Review with proofs, wait, and return the envelope as it is delivered."""
    return review(world.counsel(), prove=which, **arguments)


def only(wire: EnvelopeDict) -> tuple[dict[str, Any], dict[str, Any]]:
    """The only finding of a review, and its proof."""
    (finding,) = wire["findings"]
    return finding, finding["proof"]
