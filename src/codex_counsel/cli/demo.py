"""The main job on a sample repository that is made here: everything is real but the model's tokens."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.cli.formats import text
from codex_counsel.cli.render import footer, work
from codex_counsel.cli.verbs import follow
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Apply, Consult, Delegate, ReviewChanges, parse
from codex_counsel.errors import CATALOG, Code
from codex_counsel.jobs.handle import Handle
from codex_counsel.loopback import Answer, Loopback, Request, patch, say, shell
from codex_counsel.services.counsel import Counsel

QUESTION = (
    "Orders of exactly 100.00 should ship for free. Does total() in shop.py do that, and what would you check first?"
)
SHOP = '''\
FREE_FROM = 100.00
SHIPPING = 4.90


def total(prices: list[float]) -> float:
    """The sum to pay; from FREE_FROM on shipping is free."""
    subtotal = sum(prices)
    return subtotal if subtotal > FREE_FROM else subtotal + SHIPPING
'''
CHANGE = '''

def refund(prices: list[float], returned: list[int]) -> float:
    """What is paid back for the returned positions."""
    return sum(prices[position - 1] for position in returned)
'''
REVIEW = {
    "summary": "refund() reads the wrong positions.",
    "verdict": "fail",
    "confidence": "high",
    "findings": [
        {
            "severity": "high",
            "title": "refund() is off by one: position 0 refunds the last price",
            "file": "shop.py",
            "line": 12,
            "line_end": None,
            "evidence": "return sum(prices[position - 1] for position in returned)",
            "risk": "Positions count from 0 everywhere else, so every customer is paid back the price before theirs.",
            "recommendation": "Use prices[position], and refuse positions that are not in the order.",
        },
        {
            "severity": "medium",
            "title": "refund() swallows a KeyError",
            "file": "shop.py",
            "line": 14,
            "line_end": None,
            "evidence": "except KeyError: pass",
            "risk": "A wrong order number would go unnoticed.",
            "recommendation": "Let it raise.",
        },
    ],
    "questions": [],
    "assumptions": ["positions count from 0"],
    "next_steps": [],
}
"""The second finding quotes code that is not there: a reviewer's mistake, to be caught."""
TASK = "Make total() ship orders of exactly FREE_FROM for free, and prove it with a test."
FIX = """\
*** Begin Patch
*** Update File: shop.py
@@
-    return subtotal if subtotal > FREE_FROM else subtotal + SHIPPING
+    return subtotal if subtotal >= FREE_FROM else subtotal + SHIPPING
*** Add File: test_shop.py
+from shop import total
+
+assert total([100.0]) == 100.0
+assert total([99.0]) == 103.9
+print("2 checks passed")
*** End Patch
"""
SECRET = "the-key-nobody-may-read"  # noqa: S105  # a decoy


@dataclass(frozen=True)
class Attempt:
    """A command the scripted model runs. `allowed` is what the sandbox is expected to say."""

    aim: str
    command: str
    allowed: bool


@dataclass(frozen=True)
class Sample:
    """The repository, and beside it what a run must not reach."""

    base: Path

    @property
    def repository(self) -> Path:
        return self.base / "shop"

    @property
    def home(self) -> Path:
        return self.base / "home"

    def make(self) -> None:
        self.repository.mkdir(parents=True)
        (self.repository / "shop.py").write_text(SHOP, "utf-8")
        (self.repository / ".gitignore").write_text(".env\n__pycache__/\n", "utf-8")
        (self.repository / ".env").write_text(f"API_KEY={SECRET}\n", "utf-8")
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh/id_ed25519").write_text(SECRET + "\n", "utf-8")
        (self.home / ".codex").mkdir()
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Sell things"]):
            _git(self.repository, *arguments)

    def attempts(self, port: int) -> list[Attempt]:
        return [
            Attempt("read the code", "cat shop.py", allowed=True),
            Attempt("read the history", "git log --oneline", allowed=True),
            Attempt("read an SSH key", f"cat {self.home}/.ssh/id_ed25519", allowed=False),
            Attempt("read the secret file .env", "cat .env", allowed=False),
            Attempt("read Codex's own login", f"ls {self.home}/.codex/config.toml", allowed=False),
            Attempt("change the code", "echo broken >> shop.py", allowed=False),
            Attempt("reach the network", f"exec 3<>/dev/tcp/127.0.0.1/{port}", allowed=False),
        ]


def demonstrate(*, live: bool) -> int:
    """Make the sample, consult, have a change reviewed, show what happened. Returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="codex-counsel-demo-") as made, _listener() as port:
        sample = Sample(Path(made).resolve())
        sample.make()
        print(f"A sample repository was made in {sample.repository}.")
        return _live(sample) if live else _scripted(sample, sample.attempts(port))


def _live(sample: Sample) -> int:
    print("Consulting with your own Codex and login.")
    counsel = Counsel(dict(os.environ), sample.repository)
    return _consult(counsel) or _review(counsel, sample) or _delegate(counsel, sample)


def _scripted(sample: Sample, attempts: list[Attempt]) -> int:
    print("The model follows a script; the Codex binary, its sandbox, git and the files are real.")
    with Loopback(_script(attempts)) as server:
        (sample.home / ".codex/config.toml").write_text(server.config_toml(), "utf-8")
        counsel = Counsel(_environment(sample), sample.repository)
        code = _consult(counsel)
        outputs = [output.replace(str(sample.base), "…") for output in server.requests[-1].outputs]
        untouched = (sample.repository / "shop.py").read_text("utf-8") == SHOP
        if code or not (_tell(attempts, outputs) and untouched):
            return code or 1
        return _review(counsel, sample) or _delegate(counsel, sample)


def _consult(counsel: Counsel) -> int:
    print(f"\n== A consultation\n\nQuestion: {QUESTION}\n", flush=True)
    return _show(_finished(counsel, counsel.consult(parse(Consult, {"question": QUESTION}))))


def _review(counsel: Counsel, sample: Sample) -> int:
    with (sample.repository / "shop.py").open("a", encoding="utf-8") as file:
        file.write(CHANGE)
    print("\n== A review of uncommitted work: refund() was added to shop.py, with a bug\n", flush=True)
    wire = _finished(counsel, counsel.review_changes(parse(ReviewChanges, {})))
    if not wire["ok"]:
        return _show(wire)
    print(_inset(text(wire)))
    print("\n(verified: the quoted code stands there; unverified: it does not, so look before you believe it)")
    return 0


def _delegate(counsel: Counsel, sample: Sample) -> int:
    print(f"\n== A delegated task\n\nTask: {TASK}\n", flush=True)
    before = _git(sample.repository, "status", "--short")
    wire = _finished(counsel, counsel.delegate(parse(Delegate, {"task": TASK})))
    if not wire["ok"]:
        return _show(wire)
    print(_inset("\n".join(work(wire))))
    untouched = _git(sample.repository, "status", "--short") == before
    print(f"\nYour files meanwhile: {'untouched' if untouched else 'CHANGED'}. Now the diff is applied, on request:")
    print(f"  {counsel.apply(parse(Apply, {'job_id': wire['meta']['job_id']}))['summary']}")
    print(_inset(_git(sample.repository, "status", "--short")))
    return 0 if untouched else 1


def _finished(counsel: Counsel, handle: Handle) -> EnvelopeDict:
    return counsel.deliver(handle, follow(handle))


def _environment(sample: Sample) -> dict[str, str]:
    """The user's environment, but with the sample's home, so that nothing of the user's is touched."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CODEX_", "OPENAI_", "XDG_"))}
    chosen = os.environ.get("CODEX_COUNSEL_CODEX_BIN")
    own = {"HOME": str(sample.home), "CODEX_HOME": str(sample.home / ".codex")}
    own |= {"CODEX_COUNSEL_STATE_DIR": str(sample.base / "state")}
    return kept | own | ({"CODEX_COUNSEL_CODEX_BIN": chosen} if chosen else {})


def _script(attempts: list[Attempt]) -> Callable[[Request], Answer]:
    def reply(request: Request) -> Answer:
        if request.schema:
            return say(REVIEW)
        if TASK in request.prompt:
            return _worker(request)
        done = len(request.outputs)
        return shell(attempts[done].command) if done < len(attempts) else say(_opinion(request.outputs))

    return reply


def _worker(request: Request) -> Answer:
    steps = [patch(FIX), shell("python3 test_shop.py")]
    done = len(request.outputs)
    return (
        steps[done] if done < len(steps) else say("total() compares with >= now; test_shop.py proves both sides of it.")
    )


def _opinion(outputs: list[str]) -> str:
    """The scripted answer quotes what was really read."""
    line = next(
        (line.strip() for line in outputs[0].splitlines() if "subtotal >" in line), "(shop.py was not readable)"
    )
    return (
        "No. An order of exactly 100.00 still pays shipping.\n\n"
        f"shop.py decides with `{line}`: the comparison is strict, while the docstring says 'from FREE_FROM on'. "
        "Use `>=`. Check first with total([100.0]), which returns 104.9 today and should return 100.0.\n"
        "Sums of floats are a second trap at this boundary: a thousand times 0.10 is less than 100. Count cents.\n\n"
        "How sure: very; I read the function. I could not run it, the workspace is read-only."
    )


def _tell(attempts: list[Attempt], outputs: list[str]) -> bool:
    """What the model tried and what became of it; false if the sandbox did not behave as promised."""
    print("\nWhat the model tried inside the sandbox meanwhile:")
    held = len(outputs) >= len(attempts) and not any(SECRET in output for output in outputs)
    for attempt, output in zip(attempts, outputs, strict=False):
        allowed = bool(_said(output)) and not _refused(output)
        held = held and allowed == attempt.allowed
        print(f"  {'allowed' if allowed else 'denied':<8} {attempt.aim:<28} {_said(output)}")
    print("" if held else "  THE SANDBOX DID NOT BEHAVE AS PROMISED", flush=True)
    return held


def _refused(output: str) -> bool:
    words = ("No such file", "Permission denied", "Read-only file system", "not permitted", "Connection refused")
    return any(word in output for word in words)


def _said(output: str) -> str:
    lines = [line for line in output.partition("Output:")[2].splitlines() if line.strip()]
    return lines[0].strip()[-90:] if lines else ""


def _show(wire: EnvelopeDict) -> int:
    if not wire["ok"]:
        print(f"{wire['error']['code']}: {wire['error']['message']}\nwhat to do: {wire['error']['repair']}")
        return CATALOG[Code(wire["error"]["code"])].exit_code
    print("\n".join(["Codex's answer:", "", _inset(wire["answer"]), "", *footer(wire)]))
    return 0


def _inset(words: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in words.splitlines())


def _git(repository: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Demo", "-c", "user.email=demo@example.org", "-c", "commit.gpgsign=false"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    asked = ["git", *identity, *arguments]
    return subprocess.run(asked, cwd=repository, env=env, check=True, capture_output=True, text=True).stdout


@contextmanager
def _listener() -> Iterator[int]:
    """A port on loopback that would answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
