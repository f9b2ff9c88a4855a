"""Findings that are proven: the real Codex, real git, a scripted reviewer and scripted provers."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Findings, parse
from codex_counsel.findings.ledger import Ledger
from codex_counsel.loopback import Loopback, Reply, Request, failed, say
from tests.conftest import World, pick
from tests.e2e.delegation import assert_unchanged
from tests.e2e.proving import (
    BAD,
    CLAIM,
    GOOD,
    TEST,
    Prover,
    begin,
    is_proof,
    only,
    prove,
    script,
)
from tests.e2e.runs import assert_nothing_is_left
from tests.reviews import review

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")


def test_a_true_finding_is_proven_by_a_test_that_fails_here_and_passes_on_the_base(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    begin(world)
    each_model(script([CLAIM], Prover()))
    with assert_unchanged(world.workspace):
        wire = prove(world)
    finding, proof = only(wire)
    assert pick(finding, "severity", "grounded") == {
        "severity": "high",
        "grounded": "proven",
    }
    assert pick(proof, "status", "exit_head", "exit_other", "other", "command") == {
        "status": "proven",
        "exit_head": 1,
        "exit_other": 0,
        "other": "base",
        "command": "python3 -m unittest test_mean",
    }
    assert "AssertionError: 6.0 != 3" in proof["output_tail"]
    assert 'File "./test_mean.py", line 8' in proof["output_tail"]
    assert f"+{TEST.splitlines()[0]}\n" in proof["patch"]
    assert wire["verdict"] == "fail"
    assert wire["summary"].startswith("fail: 1 high; 1 proven.")
    assert_nothing_is_left(world)


def test_the_tokens_of_the_proofs_are_told_apart_from_those_of_the_review(
    world: World, model: Model
) -> None:
    begin(world)
    answer = script([CLAIM], Prover())
    asked: list[bool] = []

    def count(request: Request) -> Reply:
        asked.append(is_proof(request))
        reply: Reply = answer(request)
        return reply

    model(count)
    meta = prove(world)["meta"]
    # The scripted model charges the same for each answer.
    assert asked.count(True) > 1
    assert meta["usage_proofs"]["input"] == asked.count(True) * meta["usage"]["input"]


FIXED = "    return sum(values) / len(values)"


def test_a_fault_that_the_base_has_too_is_proven_by_the_replacement_of_the_finding(
    world: World, model: Model
) -> None:
    begin(world, BAD, f"{BAD}\n\nzero = 0\n")
    mended = CLAIM | {"replace_from": 2, "replace_to": 2, "replacement": FIXED}
    model(script([mended], Prover()))
    finding, proof = only(prove(world))
    assert pick(proof, "status", "exit_head", "exit_other", "other") == {
        "status": "proven",
        "exit_head": 1,
        "exit_other": 0,
        "other": "patched",
    }
    assert finding["grounded"] == "proven"


def test_the_replacement_of_the_prover_counts_where_the_finding_has_none_and_is_shown(
    world: World, model: Model
) -> None:
    begin(world, BAD, f"{BAD}\n\nzero = 0\n")
    model(script([CLAIM], Prover(replacement=(2, 2, FIXED))))
    finding, proof = only(prove(world))
    assert pick(proof, "status", "other") == {"status": "proven", "other": "patched"}
    assert finding["suggestion"] == {
        "start_line": 2,
        "end_line": 2,
        "replacement": f"{FIXED}\n",
    }


def test_a_false_finding_is_refuted_and_decides_nothing(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    begin(world, "", GOOD)
    each_model(script([CLAIM | {"evidence": FIXED}], Prover(verdict="wrong")))
    wire = prove(world)
    finding, proof = only(wire)
    assert pick(finding, "severity", "grounded", "known") == {
        "severity": "nit",
        "grounded": "verified",
        "known": "new",
    }
    assert pick(proof, "status", "exit_head") == {"status": "refuted", "exit_head": 0}
    assert wire["verdict"] == "pass"
    assert wire["summary"].startswith("pass: no findings; 1 refuted.")
    assert (
        "the reviewer said fail, but what it rests on was refuted by a test: pass"
        in wire["meta"]["warnings"]
    )
    (entry,) = Ledger.of(world.state, world.workspace / ".git").read().entries.values()
    assert entry.severity == "high"
    assert_nothing_is_left(world)


@pytest.mark.parametrize("reopened", [True, False])
def test_what_was_refuted_counts_again_only_where_it_is_raised_again_or_reopened(
    world: World, model: Model, *, reopened: bool
) -> None:
    begin(world, "", GOOD)
    world.repository.git("checkout", "-q", "-b", "topic")
    world.repository.commit("mean")
    claim = CLAIM | {"evidence": FIXED}
    model(script([claim], Prover(verdict="wrong")))
    branch: dict[str, Any] = {"scope": "branch", "base": "main", "since": "last"}
    (first,) = prove(world, **branch)["findings"]

    def push(number: int, *findings: dict[str, Any]) -> EnvelopeDict:
        world.repository.write(f"other{number}.py", "x = 1\n")
        world.repository.commit(f"push {number}")
        model(script(findings, Prover(), verdict="pass"))
        return review(world.counsel(), **branch)

    second = push(1)
    (carried,) = second["findings"]
    assert pick(carried, "id", "severity", "carried") == {
        "id": first["id"],
        "severity": "nit",
        "carried": True,
    }
    assert pick(carried["proof"], "status", "job_id") == {
        "status": "refuted",
        "job_id": first["proof"]["job_id"],
    }
    assert second["verdict"] == "pass"

    if reopened:
        reopen = parse(Findings, {"action": "reopen", "id": first["id"]})
        assert world.counsel().findings(reopen, by="a person")["ok"]
        third = push(2)
    else:
        third = push(2, claim)
    assert third["findings"][0]["severity"] == "high"
    assert third["verdict"] != "pass"


LAZY_AND_RIGHT = {
    "perl": (
        "Stats.pm",
        "package Stats;\nsub mean {\n    return ($_[0] + $_[1]) / 2;\n}\n1;\n",
        "test.pl",
        "use lib '.';\nuse Stats;\n",
        "die unless Stats::mean(2, 4) == 3;\n",
    ),
    "sh": (
        "stats.sh",
        "mean() {\n\n    echo $((($1 + $2) / 2))\n}\n",
        "test.sh",
        "set -e\n. ./stats.sh\ncommand -v mean > /dev/null || exit 1\n",
        'test "$(mean 2 4)" = 3\n',
    ),
    "node": (
        "stats.js",
        "exports.mean = (values) => {\n\n  return (values[0] + values[1]) / 2;\n};\n",
        "test.js",
        "const { mean } = require('./stats');\nmean.name;\n",
        "require('assert').equal(mean([2, 4]), 3);\n",
    ),
    "java": (
        "Stats.java",
        "class Stats {\n  static int mean(int a, int b) {\n    return (a + b) / 2;\n  }\n}\n",
        "Test.java",
        "class Test { public static void main(String[] a) throws Exception { new Stats();",
        " if (Stats.mean(2, 4) != 3) throw new Exception(); } }\n",
    ),
}


@pytest.mark.parametrize("is_lazy", [True, False], ids=["lazy", "right"])
@pytest.mark.parametrize("program", LAZY_AND_RIGHT)
def test_in_each_language_a_test_refutes_only_what_it_runs(
    world: World, model: Model, program: str, is_lazy: bool
) -> None:
    if not shutil.which(program):
        pytest.skip(f"needs {program}")
    name, text, test_name, test, runs = LAZY_AND_RIGHT[program]
    command = f"{program} {test_name}"
    if program == "java":
        command = 'javac -d "$TMPDIR" *.java && java -cp "$TMPDIR" Test'
    if is_lazy:
        runs = "} }\n" if program == "java" else ""
    repository = world.repository.init()
    repository.write("other.txt")
    repository.commit("begin")
    repository.write(name, text)
    claim = CLAIM | {"file": name, "line": 3, "evidence": text.splitlines()[2]}
    prover = Prover(files={test_name: test + runs}, command=command, verdict="wrong")
    model(script([claim], prover))
    _, proof = only(prove(world))
    status = "inconclusive" if is_lazy else "refuted"
    assert proof["status"] == status, proof


def test_a_finding_without_a_line_is_not_refuted(world: World, model: Model) -> None:
    begin(world, "", GOOD)
    claim = CLAIM | {"line": None, "evidence": None}
    model(script([claim], Prover(verdict="wrong")))
    _, proof = only(prove(world))
    assert pick(proof, "status", "reason") == {
        "status": "inconclusive",
        "reason": "whether the test depends on the code in question could not be tried",
    }


# --- tests that prove nothing

ASSERTS = "from stats import mean\nassert mean([2, 4]) == 3\n"
ALONE = "python3 test_mean.py"
LARGE = TEST + "# a comment\n" * 2_000


def scripted(text: str, **changes: Any) -> Prover:
    """A prover whose test is this program."""
    return Prover(files={"test_mean.py": text}, **{"command": ALONE, **changes})


OUT_OF_TIME = "the test did not end in time"
LIES = {
    "imports what is not there": (
        scripted("from statz import mean\nassert mean([2, 4]) == 3\n"),
        "the test is broken: it could not be imported, compiled or collected",
    ),
    "is no program": (
        scripted("def test(:\n"),
        "the test is broken: it could not be imported, compiled or collected",
    ),
    "hangs": (
        scripted("while True:\n    pass\n"),
        OUT_OF_TIME,
    ),
    "is killed": (
        scripted("import os\nos.kill(os.getpid(), 9)\n"),
        "the test was ended by a signal",
    ),
    "has a command that is not there": (
        Prover(command="pytestt test_mean.py"),
        "its command could not be started",
    ),
    "prints that it failed": (
        scripted("print('FAILED (failures=1)')\n"),
        "the test passes on the reviewed state, so it shows no failure",
    ),
    "fails without an assertion": (
        scripted("import sys\nsys.exit('AssertionError')\n"),
        "the test fails, but not as announced (assertion): neither an assertion nor an exception",
    ),
    "raises something else": (
        scripted("from stats import mean\nmean(None)\n"),
        "the test fails, but not as announced (assertion): TypeError",
    ),
    "announces another exception": (
        scripted(
            "from stats import mean\nmean([1])\n", failure="decimal.InvalidOperation"
        ),
        "the test fails, but not as announced (decimal.InvalidOperation): ZeroDivisionError",
    ),
    "announces nothing": (
        scripted(ASSERTS, failure=None),
        "the test fails, but no failure was announced",
    ),
    "fails on the base too": (
        scripted("assert False\n"),
        "the test fails on the base too, and there is no replacement to compare with",
    ),
    "fails with the replacement too": (
        scripted("assert False\n", replacement=(2, 2, FIXED)),
        "the test fails with the proposed replacement too",
    ),
    "is not what fails": (
        Prover(command="python3 -c 'from stats import mean; assert mean([2, 4]) == 3'"),
        "the command fails without the new test in the same way",
    ),
    "edits the code": (
        Prover(does="sed -i 's/- 1/- 2/' stats.py"),
        "the test changes what it is to test: stats.py",
    ),
    "edits the code when it runs": (
        scripted(
            "import pathlib\n"
            "source = pathlib.Path('stats.py').read_text()\n"
            "pathlib.Path('stats.py').write_text(source)\n" + ASSERTS
        ),
        "running the test changed files of the repository",
    ),
    "edits the code and restores it at once": (
        scripted(
            "import os, pathlib\n"
            "source = pathlib.Path('stats.py')\n"
            "text, times = source.read_text(), os.stat(source).st_mtime_ns\n"
            "source.write_text(text.replace('- 1', '- 2'))\n"
            "import stats\n"
            "source.write_text(text)\n"
            "os.utime(source, ns=(times, times))\n" + ASSERTS
        ),
        "running the test changed files of the repository",
    ),
    "patches through conftest": (
        Prover(files={"test_mean.py": TEST, "conftest.py": "import stats\n"}),
        "conftest.py is not part of a test: other programs read or load it",
    ),
    "makes a conftest when it runs": (
        scripted("open('conftest.py', 'w').close()\n" + ASSERTS),
        "running the test changed files of the repository",
    ),
    "stands in for a module": (
        Prover(files={"test_mean.py": TEST, "decimal.py": "x = 1\n"}),
        "decimal.py does not have the name of a test, and could stand in for something else",
    ),
    "is a link": (
        Prover(files={}, does="ln -s stats.py test_mean.py"),
        "test_mean.py is no text file",
    ),
    "is huge": (
        scripted(LARGE),
        "the test is too large: more than 10 files or 20000 bytes",
    ),
    "is not there": (Prover(files={}), "no test was written"),
    "has no command": (
        Prover(command=None),
        "no usable command was named that runs the test",
    ),
    "has two commands": (
        Prover(command="true\nfalse"),
        "no usable command was named that runs the test",
    ),
    "cannot be written": (
        Prover(verdict="untestable"),
        "no test can tell: It asks for the mean of two numbers.",
    ),
    "has no reply": (
        Prover(last=say("I proved it.")),
        "the reply is not the JSON that was asked for",
    ),
    "was not written": (
        Prover(files={}, last=failed("server_error")),
        "the run that was to write a test failed: ",
    ),
    "does not touch the code that it calls right": (
        scripted("assert 1 == 1\n", verdict="wrong"),
        "the test also passes with the code in question taken out: it does not depend on it",
    ),
    "only imports the code that it calls right": (
        scripted("from stats import mean\n\nassert mean\n", verdict="wrong"),
        "the test also passes with the code in question taken out: it does not depend on it",
    ),
    "is not what passes": (
        Prover(verdict="wrong", command="python3 -c 'from stats import mean'"),
        "the command passes without the new test too",
    ),
    "fails where it should pass": (
        Prover(verdict="wrong"),
        "whoever wrote the test found the claim wrong, but the test fails",
    ),
}


@pytest.mark.parametrize(("prover", "reason"), LIES.values(), ids=LIES.keys())
def test_a_test_that_decides_nothing_is_inconclusive_and_says_why(
    world: World, model: Model, prover: Prover, reason: str
) -> None:
    if reason == OUT_OF_TIME:
        world.settings["CHECK_SECONDS"] = "5"
    begin(world)
    model(script([CLAIM], prover))
    with assert_unchanged(world.workspace):
        wire = prove(world)
    finding, proof = only(wire)
    assert pick(finding, "severity", "grounded") == {
        "severity": "high",
        "grounded": "verified",
    }
    assert proof["status"] == "inconclusive"
    assert proof["reason"].startswith(reason)
    assert wire["verdict"] == "fail"
    assert_nothing_is_left(world)


@pytest.fixture
def coin(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers with these words, one after the other."""
    words = iter(request.param)

    class Coin(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(next(words))

        def log_message(self, *_: object) -> None:
            """Not in the output of the tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Coin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


AT_RANDOM = itertools.cycle([b"heads", b"tails"])
AT_FIRST = itertools.chain([b"heads"] * 3, itertools.repeat(b"tails"))


@pytest.mark.parametrize(
    "coin", [AT_RANDOM, AT_FIRST], ids=["at random", "at first"], indirect=True
)
def test_a_test_that_fails_at_random_or_only_at_first_is_inconclusive(
    world: World, model: Model, coin: str
) -> None:
    begin(world)
    text = f"import urllib.request\nassert urllib.request.urlopen({coin!r}).read() != b'heads'\n"
    model(script([CLAIM], scripted(text)))
    _, proof = only(prove(world, network=True))
    assert pick(proof, "status", "reason") == {
        "status": "inconclusive",
        "reason": "the test passes or fails at random",
    }
