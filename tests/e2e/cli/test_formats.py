"""Reviews in every format at the command line, to standard output and to several files at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.loopback import Loopback, hold, http_error, say
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.e2e.proving import CLAIM, Prover, begin, script
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

FINDING = reply({"severity": "high"}, verdict="fail")
WORDS = {
    "text": "HIGH  The seventh line is wrong",
    "json": '"title": "The seventh line is wrong"',
    "markdown": "### high: The seventh line is wrong",
    "html": "The seventh line is wrong",
    "sarif": '"text": "The seventh line is wrong',
    "github": "high, logic, new: The seventh line is wrong",
    "rdjson": '"message": "high: The seventh line is wrong',
    "gitlab": '"description": "high: The seventh line is wrong',
    "junit": 'message="The seventh line is wrong"',
}


@pytest.fixture
def changed(world: World, model: Model) -> World:
    """A world with a change, in which every review has one grave finding."""
    world.repository.begin_changed()
    model([say(FINDING)])
    return world


def parsed(name: str, text: str) -> Any:
    """The document, where there is a parser for its format."""
    if name in ("json", "sarif", "rdjson", "gitlab"):
        return json.loads(text)
    if name == "junit":
        return fromstring(text)
    return text


def test_one_review_is_written_in_every_format_at_once(changed: World) -> None:
    files = {name: changed.base / f"review.{name}" for name in FORMATS}
    flags = [f"--output={name}={file}" for name, file in files.items()]
    result = run(changed, "review", *flags)
    assert (result.code, result.err) == (1, "")
    assert WORDS["text"] in result.out
    for name, file in files.items():
        text = file.read_text("utf-8")
        assert parsed(name, text) is not None
        if name != "github":
            assert WORDS[name] in text
    again = run(changed, "result", "--format", "github").out
    assert files["github"].read_text("utf-8") == again


FALSE = CLAIM | {"title": "The mean is negative", "severity": "critical"}
SIGN = "from stats import mean\n\nassert mean([2, 4]) > 0\n"


def test_what_was_proven_and_refuted_is_in_every_format(
    world: World, model: Model
) -> None:
    begin(world)
    refuter = Prover({"test_sign.py": SIGN}, None, "wrong", "python3 test_sign.py")
    provers = {CLAIM["title"]: Prover(), FALSE["title"]: refuter}
    model(script([CLAIM, FALSE], provers))
    files = {name: world.base / f"review.{name}" for name in FORMATS}
    flags = [f"--output={name}={file}" for name, file in files.items()]
    result = run(world, "review", "--prove", *flags)
    assert (result.code, result.err) == (1, "")
    for name, file in files.items():
        text = file.read_text("utf-8")
        assert parsed(name, text) is not None
        for word in ("proven", "refuted", "python3 -m unittest test_mean"):
            assert word in text, name
    wire = json.loads(files["json"].read_text("utf-8"))
    proven, refuted = wire["findings"]
    assert [proven["severity"], refuted["severity"]] == ["high", "nit"]
    for name, file in files.items():
        assert proven["proof"]["job_id"] in file.read_text("utf-8"), name
    page = files["html"].read_text("utf-8")
    assert "1 proven</li>" in page
    assert "1 refuted</li>" in page


def test_the_format_is_of_standard_output_and_of_plain_files(changed: World) -> None:
    sarif, plain = changed.base / "a.sarif", changed.base / "plain"
    both = (f"--output=sarif={sarif}", f"--output={plain}")
    result = run(changed, "review", "--format", "markdown", *both)
    assert WORDS["markdown"] in result.out
    assert WORDS["markdown"] in plain.read_text("utf-8")
    assert json.loads(sarif.read_text("utf-8"))["version"] == "2.1.0"


def test_one_plain_file_has_the_result_instead_of_standard_output(
    changed: World,
) -> None:
    file = changed.base / "plain"
    assert run(changed, "review", "--output", str(file)).out == ""
    assert WORDS["text"] in file.read_text("utf-8")


def test_a_file_may_have_the_name_of_a_format_and_an_equals_sign(
    changed: World,
) -> None:
    run(changed, "review", "--output", "./sarif=x", "--output", "other=y")
    for name in ("sarif=x", "other=y"):
        assert WORDS["text"] in (changed.workspace / name).read_text("utf-8")


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a file twice": (("sarif=a", "html=./a"), ": a is named twice"),
    "a file by two names": (("sarif=a", "html=link"), "link is named twice"),
    "a file with two names": (("sarif=one", "html=other"), "other is named twice"),
    "no name": (("sarif=",), ". cannot be written"),
    "a missing folder": (("a", "sarif=absent/b"), "absent/b cannot be written"),
    "a name that is too long": ((f"sarif={'x' * 300}",), "cannot be written"),
    "a folder": (("json=/",), "/ cannot be written"),
}


@pytest.mark.parametrize(("files", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_files_are_refused_before_anything_is_spent(
    world: World, model: Model, files: tuple[str, ...], words: str
) -> None:
    world.repository.begin_changed()
    (world.workspace / "link").symlink_to("a")
    (world.workspace / "one").write_text("", "utf-8")
    (world.workspace / "other").hardlink_to(world.workspace / "one")
    server = model()
    result = run(world, "review", *(f"--output={file}" for file in files))
    assert (result.code, server.requests) == (2, [])
    assert words in result.err


@pytest.mark.parametrize("verb", ["consult", "delegate"])
def test_a_format_for_reviews_is_refused_elsewhere(
    world: World, model: Model, verb: str
) -> None:
    server = model()
    result = run(world, verb, "--output", "sarif=a", "Hi")
    assert (result.code, server.requests) == (2, [])
    assert "--output: sarif is for reviews" in result.err
    assert "--output ./sarif=..." in result.err


def test_an_answer_is_written_as_text_and_as_json_at_once(
    world: World, model: Model
) -> None:
    model([say("Yes.")])
    result = run(world, "consult", "--output", "json=a.json", "Hi")
    assert (result.code, "Yes." in result.out) == (0, True)
    wire = json.loads((world.workspace / "a.json").read_text("utf-8"))
    assert wire["answer"] == "Yes."


def test_a_file_that_fails_loses_neither_the_others_nor_the_result(
    changed: World,
) -> None:
    sarif = changed.base / "a.sarif"
    result = run(
        changed,
        "review",
        "--output=html=/dev/full",
        f"--output=sarif={sarif}",
        "--format=markdown",
    )
    assert WORDS["markdown"] in result.out
    assert len(json.loads(sarif.read_text("utf-8"))["runs"][0]["results"]) == 1
    assert "storage_failed: --output: /dev/full: No space left" in result.err


def test_a_pipe_that_nobody_reads_is_waited_for_by_nobody(changed: World) -> None:
    pipe = changed.base / "pipe"
    os.mkfifo(pipe)
    result = run(changed, "review", f"--output=sarif={pipe}")
    assert (result.code, WORDS["text"] in result.out) == (3, True)
    assert f"--output: {pipe}: No such device or address" in result.err
    assert "codex-counsel result" in result.err
    assert result.code == 3
    assert run(changed, "result").code == 1


def test_every_file_gets_the_document_of_a_failure(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([http_error(500)])
    files = {name: world.base / f"review.{name}" for name in FORMATS}
    flags = [f"--output={name}={file}" for name, file in files.items()]
    result = run(world, "review", *flags)
    assert (result.code, result.out) == (3, "")
    assert "upstream_error" in result.err
    for name, file in files.items():
        text = file.read_text("utf-8")
        parsed(name, text)
        assert "upstream_error" in text


@pytest.mark.parametrize("name", FORMATS)
def test_a_mistake_is_a_document_too(world: World, name: str) -> None:
    file = world.base / "review"
    result = run(world, "review", "-C", "/", f"--output={name}={file}")
    assert result.code != 0
    assert result.out == ""
    text = file.read_text("utf-8")
    parsed(name, text)
    assert "workspace_invalid" in text


@pytest.mark.parametrize("name", FORMATS)
def test_a_stored_review_is_written_in_each_format(changed: World, name: str) -> None:
    run(changed, "review", "--quiet")
    result = run(changed, "result", f"--output={name}=again", "--json")
    assert result.json["verdict"] == "fail"
    text = (changed.workspace / "again").read_text("utf-8")
    assert parsed(name, text) is not None


def test_a_check_writes_its_outcome_and_the_review_side_by_side(
    changed: World,
) -> None:
    run(changed, "review", "--quiet")
    job = run(changed, "jobs", "--json").json["data"]["jobs"][0]["job_id"]
    files = ("--output=sarif=a.sarif", "--output=json=a.json")
    result = run(changed, "check", job, *files)
    assert (result.code, WORDS["text"] in result.out) == (1, False)
    log = json.loads((changed.workspace / "a.sarif").read_text("utf-8"))
    assert len(log["runs"][0]["results"]) == 1
    outcome = json.loads((changed.workspace / "a.json").read_text("utf-8"))
    assert outcome["data"]["outcome"] == "fail"


@pytest.mark.parametrize("name", FORMATS)
def test_of_a_run_in_the_background_a_file_has_a_document_and_the_screen_the_job(
    changed: World, model: Model, name: str
) -> None:
    gate = hold(say(FINDING))
    model(gate)
    flags = ("--background", f"--output={name}=a", "--format", name)
    result = run(changed, "review", *flags)
    gate.release.set()
    assert result.code == 0
    text = (changed.workspace / "a").read_text("utf-8")
    assert parsed(name, text) is not None
    (job,) = run(changed, "jobs", "--json").json["data"]["jobs"]
    assert job["job_id"] in text
    if name == "json":
        assert result.json["job_id"] == job["job_id"]
    else:
        assert f"with: codex-counsel result --wait {job['job_id']}" in result.out
    assert run(changed, "result", "--wait").code == 1


def test_no_document_is_made_of_what_is_no_review(world: World, model: Model) -> None:
    model([say("Yes.")])
    run(world, "consult", "Hi")
    result = run(world, "result", "--output=gitlab=a.json", "--output=json=b.json")
    assert result.code == 2
    assert "--format gitlab is for reviews" in result.err
    (entry,) = json.loads((world.workspace / "a.json").read_text("utf-8"))
    assert entry["severity"] == "blocker"


def test_a_suggestion_is_shown_and_its_lines_are_those_of_the_file(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    proposal = {"replace_from": 7, "replace_to": 7, "replacement": "seven = 7"}
    model([say(reply(proposal, verdict="concerns"))])
    result = run(world, "review", "--output=rdjson=a.json", "--output=sarif=a.sarif")
    assert "  replace line 7 by:\n  + seven = 7\n" in result.out
    diagnostic = json.loads((world.workspace / "a.json").read_text("utf-8"))
    (suggestion,) = diagnostic["diagnostics"][0]["suggestions"]
    path: Path = world.workspace / "app.py"
    lines = path.read_text("utf-8").splitlines()
    first, last = (suggestion["range"][end]["line"] for end in ("start", "end"))
    lines[first - 1 : last] = suggestion["text"].splitlines()
    assert lines[6] == "seven = 7"


def test_a_format_waits_for_no_other_one() -> None:
    program = (
        "import sys\n"
        "from codex_counsel.cli.formats import render\n"
        "from codex_counsel.contract.envelope import Envelope, Meta\n"
        "review = Envelope(ok=True, status='completed', tool='codex_review_changes', summary='', meta=Meta())\n"
        "render(review, 'gitlab')\n"
        "formats = [name for name in sys.modules if name.startswith('codex_counsel.cli.formats.')]\n"
        "print(sorted(formats), 'xml' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    names = ["codex_counsel.cli.formats.gitlab", "codex_counsel.cli.formats.rules"]
    assert result.stdout == f"{names} False\n"
