"""The HTML page of real reviews: the code beside the findings is that which was reviewed, and none that is secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import Envelope, Finding, Meta, Suggestion
from codex_counsel.loopback import Loopback, http_error, say
from codex_counsel.services import code_context
from codex_counsel.services.code_context import Snippet, snippets
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.pages import Node, parse_page
from tests.repositories import numbered_lines
from tests.reviews import TOKEN, reply, review

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

SECRET = "the-content-that-no-page-may-show"


def page_of(world: World, *arguments: str) -> Node:
    return parse_page(run(world, *arguments, "--format", "html").out)


def lines_of(figure: Node) -> dict[str | None, str]:
    return {
        line.attributes.get("data-line"): line.text.rstrip("\n")
        for line in figure.all("span")
    }


def test_a_review_is_printed_as_a_page_with_the_code_and_the_suggestion(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    finding = {"replace_from": 7, "replace_to": 7, "replacement": "seven = 7"}
    model([say(reply(finding, verdict="concerns"))])
    page = page_of(world, "review")
    code, suggestion = page.one("article").all("figure")
    assert lines_of(code) == {
        str(number): line
        for number, line in enumerate(
            numbered_lines(l7="seven = 70").splitlines()[:13], 1
        )
    }
    assert [line.text for line in code.all("span", "hit")] == ["seven = 70\n"]
    assert [line.text for line in suggestion.all("span", "del")] == ["seven = 70\n"]
    assert [line.text for line in suggestion.all("span", "ins")] == ["seven = 7\n"]


def test_a_page_goes_to_a_file_too(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([say(reply({}, verdict="concerns"))])
    file = world.temp / "review.html"
    result = run(world, "review", "--format", "html", "--output", str(file))
    assert (result.code, result.out) == (0, "")
    assert parse_page(file.read_text("utf-8")).one("article").all("figure")


def test_a_failed_review_is_a_page(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([http_error(401, "denied")])
    page = page_of(world, "review")
    assert page.one("h1").text == "Nothing was reviewed"
    assert "What to do" in page.one("header").text


def test_prose_is_a_page_without_a_verdict(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([say("It is fine.")])
    page = page_of(world, "review")
    assert page.one("h1").text.startswith("unknown")
    assert "It is fine." in page.one("main").text


def test_what_changed_in_the_working_tree_since_is_not_taken_for_what_was_reviewed(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    model([say(reply({}, verdict="concerns"))])
    before = page_of(world, "review").one("article").one("figure")
    assert len(lines_of(before)) == 13
    world.repository.write("app.py", numbered_lines(l7="seven = 7"))
    page = page_of(world, "result")
    figure = page.one("article").one("figure")
    assert lines_of(figure) == {None: "seven = 70"}
    assert "not at these lines now" in figure.one("figcaption").text
    assert "1 finding without code" in page.one("section", "notes").text


def test_of_a_commit_the_code_stays_what_it_was(world: World, model: Model) -> None:
    repository = world.repository.begin_changed()
    commit = repository.commit("seventy")
    model([say(reply({}, verdict="concerns"))])
    run(world, "review", "--scope", "commit", "--commit", commit)
    repository.write("app.py", "gone\n")
    repository.commit("gone")
    figure = page_of(world, "result").one("article").one("figure")
    assert lines_of(figure)["7"] == "seven = 70"


def test_lines_that_the_change_removed_are_quoted_as_removed(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    model([say(reply({"evidence": "line_7 = 7"}, verdict="concerns"))])
    figure = page_of(world, "review").one("article").one("figure")
    assert figure.one("figcaption").text == "Removed by the change"
    assert lines_of(figure) == {None: "line_7 = 7"}


def test_a_repository_that_is_gone_costs_the_code_and_not_the_page(
    world: World, model: Model, tmp_path: Path
) -> None:
    world.repository.begin_changed()
    model([say(reply({}, verdict="concerns"))])
    job = run(world, "review", "--json").json["meta"]["job_id"]
    world.workspace.rename(tmp_path / "elsewhere")
    world.workspace.mkdir()
    page = page_of(world, "result", job)
    assert lines_of(page.one("article").one("figure")) == {None: "seven = 70"}
    assert "cannot be read any more" in page.one("section", "notes").text


# --- what the code is read from


@pytest.fixture
def reviewed(world: World, model: Model) -> Envelope:
    """A review of the working tree, of which tests change the findings."""
    repository = world.repository.begin_changed()
    repository.write(".gitignore", "ignored.py\n")
    repository.write("ignored.py", f"{SECRET} = 1\n")
    repository.write(".env", f"{SECRET}=1\n")
    repository.write("plain.txt", f"{SECRET}\n")
    (repository.root / "id_rsa").symlink_to("plain.txt")
    repository.write("tokens.py", f'first = 1\ntoken = "{TOKEN}"\n')
    repository.write("wide.py", "x" * 5_000 + "\n")
    repository.write("long.py", "".join("y" * 399 + "\n" for _ in range(2_000)))
    model([say(reply())])
    return Envelope.parse(review(world.counsel()))


def read(world: World, reviewed: Envelope, *findings: Finding) -> list[Snippet]:
    """The snippets of these findings, as if the review had them."""
    changed = replace(reviewed, findings=list(findings))
    found = snippets(world.counsel().store, changed)
    return [found[f"#{index}"] for index in range(len(findings))]


def about(file: str, evidence: str, line: int = 1, **changes: Any) -> Finding:
    return Finding(
        severity="low", title="t", file=file, line=line, evidence=evidence, **changes
    )


FORBIDDEN = (
    "ignored.py",
    ".env",
    "plain.txt",
    "id_rsa",
    ".git/config",
    "../outside.txt",
    "/etc/hostname",
    "docs/../.env",
    "sub/link.txt",
)


@pytest.mark.parametrize("file", FORBIDDEN)
def test_a_file_that_is_no_part_of_the_work_is_not_shown_whatever_a_model_names(
    world: World, reviewed: Envelope, file: str
) -> None:
    (world.workspace.parent / "outside.txt").write_text(f"{SECRET}\n")
    link = world.workspace / "sub" / "link.txt"
    link.parent.mkdir()
    link.symlink_to("../.env")
    (snippet,) = read(world, reviewed, about(file, SECRET))
    assert snippet.lines == ()
    assert snippet.note


def test_a_secret_beside_the_evidence_is_masked(
    world: World, reviewed: Envelope
) -> None:
    (snippet,) = read(world, reviewed, about("tokens.py", "first = 1"))
    assert snippet.evidence == "shown"
    assert len(snippet.lines) == 2
    assert TOKEN not in snippet.lines[1]


def test_long_lines_are_cut_and_many_lines_bounded(
    world: World, reviewed: Envelope
) -> None:
    wide, long = read(
        world,
        reviewed,
        about("wide.py", "x" * 100),
        about("long.py", "y" * 399, line=100, line_end=1_900),
    )
    assert [len(line) for line in wide.lines] == [code_context.MAX_COLUMNS]
    assert (long.start, len(long.lines)) == (94, code_context.MAX_LINES)


def test_all_code_together_is_bounded(world: World, reviewed: Envelope) -> None:
    findings = [about("long.py", "y" * 399, line_end=60)] * 100
    found = read(world, reviewed, *findings)
    total = sum(len(line) for snippet in found for line in snippet.lines)
    assert 1_900_000 < total <= code_context.MAX_BYTES
    assert "longer than 2,000,000 bytes" in found[-1].note


def test_what_cannot_be_read_in_time_is_left_out_in_every_thread(
    world: World, reviewed: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_context, "SECONDS", 1e-9)
    finding = about("app.py", "seven = 70", line=7)
    with ThreadPoolExecutor() as threads:
        in_thread = threads.submit(read, world, reviewed, finding).result()
    for snippet in (*read(world, reviewed, finding), *in_thread):
        assert snippet.lines == ()
        assert re.search("could not be read within", snippet.note)


NAMES = {
    "no such file": about("absent.py", "x"),
    "no such line": about("app.py", "seven = 70", line=900),
    "a lone surrogate": about("\ud800.py", "x"),
    "NUL": about("a\0b", "x"),
    "no name": about("/", "x"),
    "no line": replace(about("app.py", "seven = 70"), line=None),
    "a line before the first": about("app.py", "seven = 70", line=-5),
    "a suggestion beyond the end": about(
        "app.py",
        "seven = 70",
        line=7,
        suggestion=Suggestion(start_line=19, end_line=99, replacement=""),
    ),
}


@pytest.mark.parametrize("finding", NAMES.values(), ids=NAMES.keys())
def test_an_impossible_place_is_no_error(
    world: World, reviewed: Envelope, finding: Finding
) -> None:
    (snippet,) = read(world, reviewed, finding)
    assert snippet.replaced is None
    assert bool(snippet.lines) == (finding.line == 7)
    assert bool(snippet.note) == (finding.line != 7)


@pytest.mark.parametrize("job_id", ["", "f" * 32, "../../etc"])
def test_a_job_that_is_gone_is_said(
    world: World, reviewed: Envelope, job_id: str
) -> None:
    orphan = replace(reviewed, meta=Meta(job_id=job_id))
    (snippet,) = read(world, orphan, about("app.py", "seven = 70", line=7))
    assert snippet.note.startswith("the reviewed code cannot be read any more: ")


@pytest.mark.parametrize("text", ["", "{}", '{"review": 7}'])
def test_a_damaged_record_costs_the_code_alone(
    world: World, reviewed: Envelope, text: str
) -> None:
    spec = world.state / "jobs" / str(reviewed.meta.job_id) / "spec.json"
    spec.chmod(0o600)
    spec.write_text(text)
    (snippet,) = read(world, reviewed, about("app.py", "seven = 70", line=7))
    assert snippet.note.startswith("the reviewed code cannot be read")


def test_a_review_without_files_reads_nothing(world: World) -> None:
    empty = Envelope(
        ok=True, status="completed", tool="codex_review_plan", summary="", meta=Meta()
    )
    assert snippets(world.counsel().store, empty) == {}
