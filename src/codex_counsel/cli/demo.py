"""The main job on a sample repository that is made here: everything is real but the model's tokens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.cli.page import Look, Page
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.review_page import add_review
from codex_counsel.cli.review_text import add_footer
from codex_counsel.cli.task_text import add_delegate
from codex_counsel.contract.envelope import Envelope
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    ReviewChanges,
    parse,
)
from codex_counsel.errors import DONE
from codex_counsel.loopback import Answer, Loopback, Request, patch, say, shell
from codex_counsel.services.checking import exit_code
from codex_counsel.services.counsel import Counsel, Handle

QUESTION = (
    "Orders of exactly 100.00 should ship for free. "
    "Does total() in shop.py do that, and what would you check first?"
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
            "category": "logic",
            "title": "refund() is off by one: position 0 refunds the last price",
            "file": "shop.py",
            "line": 12,
            "line_end": None,
            "evidence": "return sum(prices[position - 1] for position in returned)",
            "risk": "Positions count from 0 everywhere else, so every customer is paid back the price before theirs.",
            "recommendation": "Use prices[position], and refuse positions that are not in the order.",
            "replace_from": None,
            "replace_to": None,
            "replacement": None,
        },
        {
            "severity": "medium",
            "category": "error_handling",
            "title": "refund() swallows a KeyError",
            "file": "shop.py",
            "line": 14,
            "line_end": None,
            "evidence": "except KeyError: pass",
            "risk": "A wrong order number would go unnoticed.",
            "recommendation": "Let it raise.",
            "replace_from": None,
            "replace_to": None,
            "replacement": None,
        },
    ],
    "questions": [],
    "assumptions": ["positions count from 0"],
    "next_steps": [],
}
"""The second finding quotes code that is not in the file: a mistake of the reviewer that must be found."""
TASK = (
    "Make total() ship orders of exactly FREE_FROM for free, and prove it with a test."
)
CHECK = 'python3 -c "from shop import total; assert total([100.0]) == 100.0"'
"""What the result must pass. It fails before the task is done."""
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
GOODBYE = """
The sample repository is removed now, so the commands that were named above do not work any more.
Next: `codex-counsel status` (in a checkout `uv run codex-counsel status`) says whether Codex can be used here."""

DENIALS = (
    "No such file",
    "Permission denied",
    "Read-only file system",
    "not permitted",
    "Connection refused",
)


@dataclass(frozen=True)
class Attempt:
    """A command the scripted model runs. `allowed`: whether the sandbox should let it succeed."""

    aim: str
    command: str
    allowed: bool


@dataclass(frozen=True)
class Sample:
    """A directory with the repository, and beside it what a run must not read."""

    base: Path

    @property
    def repository(self) -> Path:
        """The working tree."""
        return self.base / "shop"

    @property
    def named(self) -> dict[str, str]:
        """The argument that names it: no variable and no current directory may lead a call elsewhere."""
        return {"workspace_root": str(self.repository)}

    @property
    def home(self) -> Path:
        """A home directory with secrets that are made up."""
        return self.base / "home"

    def make(self) -> None:
        """Write the files and commit the repository."""
        self.repository.mkdir(parents=True)
        (self.repository / "shop.py").write_text(SHOP, "utf-8")
        (self.repository / ".gitignore").write_text(".env\n__pycache__/\n", "utf-8")
        (self.repository / ".env").write_text(f"API_KEY={SECRET}\n", "utf-8")
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh/id_ed25519").write_text(SECRET + "\n", "utf-8")
        (self.home / ".codex").mkdir()
        for arguments in (
            ["init", "-q"],
            ["add", "-A"],
            ["commit", "-q", "-m", "Sell things"],
        ):
            _git(self.repository, *arguments)

    def attempts(self, port: int) -> list[Attempt]:
        """The commands of the scripted model; on `port` of this host something listens."""
        return [
            Attempt("read the code", "cat shop.py", allowed=True),
            Attempt("read the history", "git log --oneline", allowed=True),
            Attempt(
                "read an SSH key", f"cat {self.home}/.ssh/id_ed25519", allowed=False
            ),
            Attempt("read the secret file .env", "cat .env", allowed=False),
            Attempt(
                "read Codex's own login",
                f"ls {self.home}/.codex/config.toml",
                allowed=False,
            ),
            Attempt("change the code", "echo broken >> shop.py", allowed=False),
            Attempt(
                "reach the network",
                # Codex runs commands in the shell of the user, and not all shells have this.
                f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'",
                allowed=False,
            ),
        ]


def demonstrate(*, live: bool) -> int:
    """Make the sample, consult, have a change reviewed and a task done. Returns the exit code."""
    with (
        tempfile.TemporaryDirectory(prefix="codex-counsel-demo-") as directory,
        _listener() as port,
    ):
        sample = Sample(Path(directory).resolve())
        sample.make()
        print(f"A sample repository was made in {sample.repository}.")
        if live:
            code = _run_live(sample)
        else:
            code = _run_scripted(sample, sample.attempts(port))
    if code == DONE:
        print(GOODBYE)
    return code


def _run_live(sample: Sample) -> int:
    print("Consulting with your own Codex and login.")
    counsel = Counsel(_without(os.environ, "CLAUDE_PROJECT_DIR"), sample.repository)
    return (
        _show_consult(counsel, sample)
        or _show_review(counsel, sample)
        or _show_delegate(counsel, sample)
    )


def _run_scripted(sample: Sample, attempts: list[Attempt]) -> int:
    print(
        "The model follows a script; the Codex binary, its sandbox, git and the files are real."
    )
    with Loopback(_script(attempts)) as server:
        (sample.home / ".codex/config.toml").write_text(server.config_toml(), "utf-8")
        counsel = Counsel(_environment(sample), sample.repository)
        code = _show_consult(counsel, sample)
        if code:
            return code

        outputs = [
            output.replace(str(sample.base), "…")
            for output in server.requests[-1].outputs
        ]
        is_contained = _show_attempts(attempts, outputs)
        is_untouched = (sample.repository / "shop.py").read_text("utf-8") == SHOP
        if not is_contained or not is_untouched:
            return 1
        return _show_review(counsel, sample) or _show_delegate(counsel, sample)


# --- the three parts; each returns an exit code


def _show_consult(counsel: Counsel, sample: Sample) -> int:
    print(f"\n== A consultation\n\nQuestion: {QUESTION}\n", flush=True)
    request = parse(Consult, {**sample.named, "question": QUESTION})
    result = _finish(counsel, counsel.consult(request))
    if result.error:
        return _show_failure(result)
    page = _page()
    page.add("Codex's answer:\n")
    page.add(result.answer or "", indent="  ")
    page.add()
    add_footer(page, result)
    page.print()
    return 0


def _show_review(counsel: Counsel, sample: Sample) -> int:
    with (sample.repository / "shop.py").open("a", encoding="utf-8") as file:
        file.write(CHANGE)
    print(
        "\n== A review of uncommitted work: refund() was added to shop.py, with a bug\n",
        flush=True,
    )
    request = parse(ReviewChanges, sample.named)
    result = _finish(counsel, counsel.review_changes(request))
    if result.error:
        return _show_failure(result)
    page = _page()
    add_review(page, result)
    page.print()
    print(
        "\n(moved: the quoted code was found in the file, on another line than the reviewer said;"
        "\nunverified: it was not found, so look before you believe it)"
    )
    return 0


def _show_delegate(counsel: Counsel, sample: Sample) -> int:
    print(f"\n== A delegated task\n\nTask: {TASK}")
    print(f"Check, run by codex-counsel and not by the model: {CHECK}\n", flush=True)
    before = _git(sample.repository, "status", "--short")
    request = parse(Delegate, {**sample.named, "task": TASK, "check": CHECK})
    result = _finish(counsel, counsel.delegate(request))
    if result.error:
        return _show_failure(result)
    page = _page()
    add_delegate(page, result)
    page.print()

    is_untouched = _git(sample.repository, "status", "--short") == before
    state = "untouched" if is_untouched else "CHANGED"
    print(f"\nYour files meanwhile: {state}. Now the diff is applied, on request:")
    apply = parse(Apply, {**sample.named, "job_id": result.meta.job_id})
    outcome = counsel.apply(apply)
    print(f"  {outcome['summary']}")
    for line in _git(sample.repository, "status", "--short").splitlines():
        print(f"  {line}")
    if is_untouched:
        return 0
    return 1


def _finish(counsel: Counsel, handle: Handle) -> Envelope:
    with LINE as line:
        wire = counsel.follow(handle, line.update)
    return Envelope.parse(counsel.deliver(handle, wire))


def _show_failure(result: Envelope) -> int:
    if result.error:
        print(
            f"{result.error.code}: {result.error.message}\nwhat to do: {result.error.repair}"
        )
    return exit_code(result.wire())


def _page() -> Page:
    return Page(Look.of(sys.stdout, os.environ))


# --- the scripted model


def _environment(sample: Sample) -> dict[str, str]:
    """The user's environment, but with the sample's home, so that nothing of the user's is touched."""
    env = _without(os.environ, "CLAUDE_", "CODEX_", "OPENAI_", "XDG_")
    env["HOME"] = str(sample.home)
    env["CODEX_HOME"] = str(sample.home / ".codex")
    env["CODEX_COUNSEL_STATE_DIR"] = str(sample.base / "state")
    if os.environ.get("CODEX_COUNSEL_CODEX_BIN"):
        env["CODEX_COUNSEL_CODEX_BIN"] = os.environ["CODEX_COUNSEL_CODEX_BIN"]
    return env


def _without(env: Mapping[str, str], *prefixes: str) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith(prefixes)}


def _script(attempts: list[Attempt]) -> Callable[[Request], Answer]:
    def reply(request: Request) -> Answer:
        if request.schema:
            return say(REVIEW)
        done = len(request.outputs)
        if TASK in request.prompt:
            return _task_step(done)
        if done < len(attempts):
            return shell(attempts[done].command)
        return say(_opinion(request.outputs))

    return reply


def _task_step(done: int) -> Answer:
    steps = [patch(FIX), shell("python3 test_shop.py")]
    if done < len(steps):
        return steps[done]
    return say("total() compares with >= now; test_shop.py proves both sides of it.")


def _opinion(outputs: list[str]) -> str:
    """The scripted answer quotes the line that was really read."""
    code = "(shop.py was not readable)"
    for line in outputs[0].splitlines():
        if "subtotal >" in line:
            code = line.strip()
            break
    return (
        "No. An order of exactly 100.00 still pays shipping.\n\n"
        f"shop.py decides with `{code}`: the comparison is strict, while the docstring says 'from FREE_FROM on'. "
        "Use `>=`. Check first with total([100.0]), which returns 104.9 today and should return 100.0.\n"
        "Sums of floats are a second trap at this boundary: a thousand times 0.10 is less than 100. Count cents.\n\n"
        "How sure: very; I read the function. I could not run it, the workspace is read-only."
    )


# --- what became of its attempts


def _show_attempts(attempts: list[Attempt], outputs: list[str]) -> bool:
    """Print what the model tried and what came of it; false if the sandbox did not behave as promised."""
    print("\nWhat the model tried inside the sandbox meanwhile:")
    as_promised = len(outputs) >= len(attempts) and not any(
        SECRET in output for output in outputs
    )
    for attempt, output in zip(attempts, outputs, strict=False):
        first_line = _first_line(output)
        is_allowed = bool(first_line) and not any(words in output for words in DENIALS)
        if is_allowed != attempt.allowed:
            as_promised = False
        verdict = "allowed" if is_allowed else "denied"
        print(f"  {verdict:<8} {attempt.aim:<28} {first_line}")

    if as_promised:
        print(flush=True)
    else:
        print("  THE SANDBOX DID NOT BEHAVE AS PROMISED", flush=True)
    return as_promised


def _first_line(output: str) -> str:
    """The first line that the command printed, its end if it is long; empty if there is none."""
    _, _, lines = output.partition("Output:")
    for line in lines.splitlines():
        if line.strip():
            return line.strip()[-90:]
    return ""


# --- the sample


def _git(repository: Path, *arguments: str) -> str:
    identity = [
        "-c",
        "user.name=Demo",
        "-c",
        "user.email=demo@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    argv = ["git", *identity, *arguments]
    return subprocess.run(
        argv, cwd=repository, env=env, check=True, capture_output=True, text=True
    ).stdout


@contextmanager
def _listener() -> Iterator[int]:
    """A port on loopback that would answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
