"""What a review rests on survives its storage, and the envelope is no more than what the reply earned."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict, Meta
from codex_counsel.git.repo import Repo
from codex_counsel.kind import EndedRun
from codex_counsel.review import conclude
from codex_counsel.review.changes.changes import Changes, gather
from codex_counsel.review.changes.model import Omitted, Reason, Scope
from codex_counsel.review.grounding import ReviewedFiles
from codex_counsel.review.record import (
    MAX_OMITTED,
    MAX_OMITTED_BYTES,
    ReviewRecord,
    coverage,
)
from tests.conftest import World
from tests.repositories import numbered_lines
from tests.reviews import (
    TOKEN,
    reply,
)

BUDGET = 100_000
TOOL = "codex_review_changes"


def gather_changes(world: World, **scope: Any) -> tuple[Repo, Changes]:
    repo = Repo.open(world.workspace, env=os.environ)
    return repo, gather(repo, Scope(**scope), BUDGET)


def store_and_parse(basis: ReviewRecord) -> ReviewRecord:
    """The basis as a worker finds it."""
    return ReviewRecord.from_json(json.loads(json.dumps(basis.to_json())))


def conclude_review(basis: ReviewRecord, answer: dict[str, Any] | str) -> EnvelopeDict:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    details = {"review": json.loads(json.dumps(basis.to_json()))}
    ended = EndedRun(TOOL, Path("job"), Path("scratch"), details, Meta(), answer=text)
    return conclude.conclude(ended).wire()


def of_changes(world: World, **scope: Any) -> ReviewRecord:
    return ReviewRecord.of_changes(*gather_changes(world, **scope))


# --- the basis

ZOO: dict[bytes, str] = {
    b"caf\xc3\xa9.py": "UTF-8",
    b"caf\xe9.py": "Latin-1",
    b"\xff\xfe": "no encoding at all",
    b"a b.py": "a blank",
    b'q"uote.py': "a quote",
    b"line\nend.py": "a line end",
}


@pytest.mark.parametrize("scope", ["working_tree", "staged", "files", "commit"])
def test_names_of_any_bytes_survive_the_storage_of_a_basis(
    world: World, scope: str
) -> None:
    world.repository.begin()
    for name in ZOO:
        Path(os.fsdecode(os.fsencode(world.workspace) + b"/" + name)).write_text(
            "first = 1\n"
        )
    if scope != "working_tree":
        world.repository.git("add", "--all")
    if scope == "commit":
        world.repository.commit()
    repo, changes = gather_changes(world, kind=scope)
    again = store_and_parse(ReviewRecord.of_changes(repo, changes)).changes()
    assert (again.scope, again.comparison, again.entries) == (
        changes.scope,
        changes.comparison,
        changes.entries,
    )
    assert set(ZOO) <= {entry.path_bytes for entry in again.entries}
    assert not again.moved(repo)
    reviewed = ReviewedFiles(repo, again)
    names = [entry.path for entry in again.entries if entry.path_bytes in ZOO]
    assert [reviewed.ground(name, 1, None, "first = 1").grounded for name in names] == [
        "verified"
    ] * len(ZOO)


def test_a_renamed_file_is_known_by_both_names_after_storage(world: World) -> None:
    world.repository.begin()
    world.repository.git("mv", "app.py", "shop.py")
    repo, changes = gather_changes(world)
    again = store_and_parse(ReviewRecord.of_changes(repo, changes)).changes()
    assert again.entries == changes.entries
    assert again.entries[0].names == (b"app.py", b"shop.py")


def test_the_digest_is_of_what_was_sent_and_of_nothing_else(world: World) -> None:
    world.repository.begin()
    world.repository.write("app.py", numbered_lines(l7="seven = 70"))
    world.repository.write("docs/readme.md", "# Other\n")
    world.repository.commit()
    both, one = (
        of_changes(world, kind="commit"),
        of_changes(world, kind="commit", paths=("app.py",)),
    )
    assert both.sent == of_changes(world, kind="commit").sent
    assert both.sent != one.sent


# --- coverage


def omitting(world: World, *names: str) -> Changes:
    world.repository.begin_changed()
    _, changes = gather_changes(world)
    return replace(
        changes, omitted=tuple(Omitted(name, Reason.BINARY, 10) for name in names)
    )


def test_what_was_left_out_is_listed_with_reason_and_size(world: World) -> None:
    report = coverage(omitting(world, "a.png", "b.png"))
    assert [asdict(omission) for omission in report.omitted] == [
        {"path": "a.png", "reason": "binary", "bytes": 10},
        {"path": "b.png", "reason": "binary", "bytes": 10},
    ]
    assert report.complete


@pytest.mark.parametrize(
    ("count", "more"),
    [(MAX_OMITTED, 0), (MAX_OMITTED + 1, 1), (5_000, 5_000 - MAX_OMITTED)],
)
def test_at_most_200_omissions_are_listed_and_the_rest_is_counted(
    world: World, count: int, more: int
) -> None:
    report = coverage(
        omitting(world, *(f"{number}.png" for number in range(count)))
    ).omitted
    if more:
        last = report.pop()
        assert asdict(last) == {
            "path": f"(and {more} more)",
            "reason": "listing",
            "bytes": 10 * more,
        }
    assert len(report) == MAX_OMITTED


def test_long_names_do_not_make_the_list_long(world: World) -> None:
    names = [f"{'d' * 900}/{number}.png" for number in range(200)]
    report = coverage(omitting(world, *names)).omitted
    listed = MAX_OMITTED_BYTES // len(names[-1])
    assert len(report) - 1 == pytest.approx(listed, abs=1)
    assert report[-1].path == f"(and {200 - len(report) + 1} more)"
    assert sum(omission.bytes or 0 for omission in report) == 2_000


# --- the rules that findings rest on

RULES = [
    {
        "file": "AGENTS.md",
        "text": "## Review rules\n\n- **Never** log\n  a `password`.",
    },
    {"file": "a/REVIEW.md", "text": "Use UTC. <U+202E>"},
]
NO_RULE = {"rule_file": None, "rule_quote": None}
FOUND: dict[str, tuple[str | None, str | None]] = {
    "word for word": ("AGENTS.md", "- **Never** log\n  a `password`."),
    "on one line, without markup": ("AGENTS.md", "Never log a password."),
    "in other case": ("AGENTS.md", "never LOG a password"),
    "shortened": ("AGENTS.md", "Never ... password"),
    "with a dot before the path": ("./a/REVIEW.md", "Use UTC."),
    "with a hidden character": ("a/REVIEW.md", "Use UTC. \u202e"),
}
NOT_FOUND: dict[str, tuple[str | None, str | None]] = {
    "of another file": ("a/REVIEW.md", "Never log a password."),
    "of a file that was not sent": ("b/REVIEW.md", "Use UTC."),
    "invented": ("AGENTS.md", "Never log a token."),
    "no quotation": ("AGENTS.md", None),
    "no file": (None, "Use UTC."),
    "too short to tell": ("AGENTS.md", "ev"),
    "blanks": ("AGENTS.md", "   "),
    "an ellipsis": ("AGENTS.md", "......"),
    "invented behind true words": ("AGENTS.md", "Never ... " * 2_000 + "Say pass."),
    "in very many parts": ("AGENTS.md", "Never ... " * 100),
    "endless": ("AGENTS.md", "Never log a password. " * 100_000),
}


@pytest.mark.parametrize(
    ("named", "stays"),
    [(named, True) for named in FOUND.values()]
    + [(named, False) for named in NOT_FOUND.values()],
    ids=[*FOUND, *NOT_FOUND],
)
def test_a_rule_that_was_not_sent_is_dropped_and_its_finding_stays(
    world: World, named: tuple[str | None, str | None], stays: bool
) -> None:
    world.repository.begin_changed()
    record = replace(of_changes(world), rules=RULES)
    file, quote = named
    answer = reply(
        {"rule_file": file, "rule_quote": quote}, NO_RULE, verdict="concerns"
    )
    wire = conclude_review(record, answer)
    assert wire["verdict"] == "concerns"
    assert [finding["grounded"] for finding in wire["findings"]] == ["verified"] * 2
    assert [("rule" in finding) for finding in wire["findings"]] == [stays, False]
    warnings = [
        warning
        for warning in wire["meta"].get("warnings", [])
        if "a rule that is not in the review rules sent" in warning
    ]
    assert len(warnings) == int(not stays)


def test_a_dropped_rule_takes_no_pass_away(world: World) -> None:
    world.repository.begin_changed()
    record = replace(of_changes(world), rules=RULES)
    invented = {"rule_file": "x", "rule_quote": "y", "severity": "nit"}
    wire = conclude_review(record, reply(invented))
    assert (wire["verdict"], len(wire["findings"])) == ("pass", 1)


def test_a_token_in_a_quoted_rule_is_masked(world: World) -> None:
    world.repository.begin_changed()
    rules = [{"file": "AGENTS.md", "text": "Log in with [masked:github-token]."}]
    record = replace(of_changes(world), rules=rules)
    named = {"rule_file": "AGENTS.md", "rule_quote": f"Log in with {TOKEN}."}
    (finding,) = conclude_review(record, reply(named))["findings"]
    assert finding["rule"] == {
        "file": "AGENTS.md",
        "quote": "Log in with [masked:github-token].",
    }


def test_a_record_from_before_there_were_rules_is_read(world: World) -> None:
    world.repository.begin_changed()
    stored = of_changes(world).to_json()
    del stored["rules"]
    wire = conclude_review(ReviewRecord.from_json(stored), reply())
    assert wire["verdict"] == "pass"


def test_what_a_later_release_recorded_is_read_as_far_as_it_is_known(
    world: World,
) -> None:
    world.repository.begin_changed()
    stored = {**of_changes(world).to_json(), "mood": "good"}
    wire = conclude_review(ReviewRecord.from_json(stored), reply())
    assert wire["verdict"] == "pass"


# --- the envelope of a reply


def test_a_clean_review_passes(world: World) -> None:
    world.repository.begin_changed()
    wire = conclude_review(of_changes(world), reply())
    assert (wire["ok"], wire["status"], wire["verdict"], wire["findings"]) == (
        True,
        "completed",
        "pass",
        [],
    )
    assert wire["summary"] == "pass: no findings. Read it all."
    assert wire["coverage"]["complete"]
    assert "warnings" not in wire["meta"]


def test_findings_come_worst_first_and_are_counted(world: World) -> None:
    world.repository.begin_changed()
    found = [
        {"severity": severity} for severity in ("nit", "critical", "low", "critical")
    ]
    wire = conclude_review(of_changes(world), reply(*found, verdict="fail"))
    assert [finding["severity"] for finding in wire["findings"]] == [
        "critical",
        "critical",
        "low",
        "nit",
    ]
    assert wire["summary"].startswith("fail: 2 critical, 1 low, 1 nit. ")


EVIDENCE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "where it says": ({}, {"grounded": "verified", "line": 7, "in_diff": True}),
    "elsewhere": ({"line": 2}, {"grounded": "moved", "line": 7, "in_diff": True}),
    "no line named": (
        {"line": None},
        {"grounded": "moved", "line": 7, "in_diff": True},
    ),
    "nowhere": (
        {"evidence": "eight = 80"},
        {"grounded": "unverified", "line": 7, "in_diff": True},
    ),
    "none": (
        {"evidence": None},
        {"grounded": "unverified", "line": 7, "in_diff": True},
    ),
    "blank": (
        {"evidence": " \n "},
        {"grounded": "unverified", "line": 7, "in_diff": True},
    ),
    "a removed line": (
        {"evidence": "line_7 = 7"},
        {"grounded": "verified", "line": 7, "in_diff": True},
    ),
    "a removed line of a quoted diff": (
        {"evidence": "-line_7 = 7"},
        {"grounded": "verified", "line": 7, "in_diff": True},
    ),
    "a file that did not change": (
        {"file": "docs/readme.md", "line": 1, "evidence": "# Title"},
        {"grounded": "verified", "line": 1, "in_diff": False},
    ),
    "no such file": (
        {"file": "absent.py"},
        {"grounded": "unverified", "line": 7, "in_diff": False},
    ),
    "a file outside": (
        {"file": "/etc/passwd", "evidence": "root"},
        {"grounded": "unverified", "in_diff": False},
    ),
    "a way out": (
        {"file": "../state/x", "evidence": "root"},
        {"grounded": "unverified", "in_diff": False},
    ),
    "the git directory": (
        {"file": ".git/config", "line": 1, "evidence": "[core]"},
        {"grounded": "unverified", "in_diff": False},
    ),
    "no file named": ({"file": None}, {"grounded": "unverified", "in_diff": None}),
    "a name that is none": (
        {"file": "a\0b"},
        {"grounded": "unverified", "in_diff": False},
    ),
}


@pytest.mark.parametrize(("given", "expected"), EVIDENCE.values(), ids=EVIDENCE.keys())
def test_evidence_is_looked_for_in_the_reviewed_state(
    world: World, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    world.repository.begin_changed()
    wire = conclude_review(of_changes(world), reply(given, verdict="concerns"))
    (finding,) = wire["findings"]
    assert {name: finding.get(name) for name in expected} == expected
    assert wire["verdict"] == "concerns"


def test_findings_are_held_against_the_index_where_that_was_reviewed(
    world: World,
) -> None:
    world.repository.begin_changed()
    world.repository.git("add", "--all")
    basis = of_changes(world, kind="staged")
    world.repository.write("app.py", "nothing = 0\n")
    (finding,) = conclude_review(basis, reply({}, verdict="concerns"))["findings"]
    assert (finding["grounded"], finding["line"]) == ("verified", 7)


def test_a_tree_that_went_away_costs_the_check_and_not_the_review(world: World) -> None:
    world.repository.begin_changed()
    basis = of_changes(world)
    world.workspace.rename(world.base / "elsewhere")
    wire = conclude_review(basis, reply({}, verdict="concerns"))
    assert (wire["verdict"], wire["findings"][0]["grounded"]) == (
        "concerns",
        "unverified",
    )
    assert "could not be checked against the files" in wire["meta"]["warnings"][0]


@pytest.mark.parametrize("stuck", ["within one finding", "between findings"])
def test_findings_that_take_too_long_to_check_are_unverified_and_the_verdict_stands(
    world: World, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    world.repository.begin_changed()
    basis = of_changes(world)
    real = ReviewedFiles.ground

    def slow(self: ReviewedFiles, file: str, *rest: Any) -> Any:
        if file == "slow.py" and stuck == "within one finding":
            # The time that is left is over soon; up to here there was enough.
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            threading.Event().wait(60)
        if file == "slow.py":
            monkeypatch.setattr(
                conclude, "time", SimpleNamespace(monotonic=lambda: float("inf"))
            )
        return real(self, file, *rest)

    monkeypatch.setattr(ReviewedFiles, "ground", slow)
    monkeypatch.setattr(conclude, "GROUNDING_SECONDS", 60)
    wire = conclude_review(
        basis, reply({}, {"file": "slow.py"}, {}, verdict="concerns")
    )
    assert wire["verdict"] == "concerns"
    assert [finding["grounded"] for finding in wire["findings"]] == [
        "verified",
        "unverified",
        "unverified",
    ]
    assert any(
        "not every finding could be checked" in warning
        for warning in wire["meta"]["warnings"]
    )


def test_prose_is_kept_as_the_answer_and_earns_no_verdict(world: World) -> None:
    world.repository.begin_changed()
    wire = conclude_review(
        of_changes(world), f"All good, pass. Your token {TOKEN} is safe."
    )
    assert (wire["verdict"], "findings" in wire) == ("unknown", False)
    assert wire["answer"] == "All good, pass. Your token [masked:github-token] is safe."
    assert TOKEN not in json.dumps(wire)
    assert wire["coverage"]["files"] == 1


def test_a_token_in_a_reply_is_masked_everywhere(world: World) -> None:
    world.repository.begin_changed()
    texts = dict.fromkeys(
        ("title", "evidence", "risk", "recommendation"), f"see {TOKEN}"
    )
    more = {
        name: [f"and {TOKEN}"] for name in ("questions", "assumptions", "next_steps")
    }
    answer = reply(
        texts,
        {"severity": TOKEN[:45]},
        verdict="concerns",
        summary=f"has {TOKEN}",
        **more,
    )
    wire = conclude_review(of_changes(world), answer)
    assert TOKEN not in json.dumps(wire)
    assert wire["findings"][0]["title"] == "see [masked:github-token]"
    assert "10 token-like strings were masked in the reply" in wire["meta"]["warnings"]


def test_a_token_in_the_section_of_a_plan_is_masked(world: World) -> None:
    answer = reply({"section": f"see {TOKEN}"}, verdict="concerns")
    basis = ReviewRecord(str(world.workspace), plan=PLAN)
    (finding,) = conclude_review(basis, answer)["findings"]
    assert finding["section"] == "see [masked:github-token]"


def test_evidence_with_a_token_is_found_where_it_stands(world: World) -> None:
    world.repository.begin()
    world.repository.write("app.py", numbered_lines(l7=f'seven = "{TOKEN}"'))
    (finding,) = conclude_review(
        of_changes(world), reply({"evidence": f'seven = "{TOKEN}"'}, verdict="fail")
    )["findings"]
    assert (finding["grounded"], finding["evidence"]) == (
        "verified",
        'seven = "[masked:github-token]"',
    )


def test_hostile_text_of_a_reply_is_scrubbed(world: World) -> None:
    world.repository.begin_changed()
    answer = json.dumps(
        reply({"title": "\x1b[31mred\x00 \udc80"}, verdict="fail", summary="a\x07b")
    )
    wire = conclude_review(of_changes(world), answer)
    assert (wire["findings"][0]["title"], wire["summary"]) == (
        "red �",
        "fail: 1 medium. ab",
    )


# --- plans

PLAN = "# Move the cache\n\n## Step 1\n\nDelete the old   cache\nfirst, then start.\n\n## Step 2\n\nTell nobody.\n"


@pytest.mark.parametrize(
    ("evidence", "grounded"),
    [
        ("Delete the old cache first", "verified"),
        ('"delete the old cache\n  first, then start."', "verified"),
        ("> Delete the old ... Tell nobody", "verified"),
        ("Delete everything", "unverified"),
        ("Delete the old ... Tell somebody", "unverified"),
        ("...", "unverified"),
        ("…", "unverified"),
        (".", "unverified"),
        ("", "unverified"),
        (None, "unverified"),
        ("a", "unverified"),
    ],
)
def test_words_of_the_plan_are_evidence(
    world: World, evidence: str | None, grounded: str
) -> None:
    answer = reply(
        {"section": "Step 1", "file": None, "line": None, "evidence": evidence},
        verdict="concerns",
    )
    (finding,) = conclude_review(ReviewRecord(str(world.workspace), plan=PLAN), answer)[
        "findings"
    ]
    assert (finding["grounded"], finding["section"], "in_diff" in finding) == (
        grounded,
        "Step 1",
        False,
    )


def test_a_plan_is_held_against_the_working_tree(world: World) -> None:
    head = world.repository.begin_changed().head
    basis = ReviewRecord.of_plan(world.workspace, PLAN, head)
    place = {"section": "Step 1"}
    answer = reply(
        place,
        place | {"line": 1},
        place | {"evidence": "absent = 1"},
        place | {"evidence": "Tell nobody"},
        place | {"file": "the plan", "evidence": "Tell nobody"},
        verdict="fail",
    )
    wire = conclude_review(basis, answer)
    assert [finding["grounded"] for finding in wire["findings"]] == [
        "verified",
        "moved",
        "unverified",
        "unverified",
        "verified",
    ]
    assert (wire["verdict"], "coverage" in wire, wire["meta"].get("warnings")) == (
        "fail",
        False,
        None,
    )


def test_a_sound_plan_passes(world: World) -> None:
    assert (
        conclude_review(ReviewRecord(str(world.workspace), plan=PLAN), reply())[
            "verdict"
        ]
        == "pass"
    )
