"""The verb `comment`: one comment on a pull request, by the real `gh` and by a stand-in for `glab`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from codex_counsel.contract.envelope import Envelope, Meta, failed
from codex_counsel.errors import Code, CounselError
from codex_counsel.hub import api, comments
from codex_counsel.hub.comments import Stamp
from codex_counsel.hub.reference import PullRequest
from codex_counsel.loopback import Loopback, say
from codex_counsel.services.pull_request_comment import Place, post, why_kept
from tests import hostile
from tests.conftest import World
from tests.e2e.hub import (
    LOGIN,
    PAGE,
    TOKEN,
    Answer,
    Call,
    Hub,
    Pull,
    install_glab,
    needs_gh,
)
from tests.repositories import numbered_lines
from tests.reviews import reply
from tests.unit.test_formats import COVERAGE, META
from tests.unit.test_formats import review as review_of

Model = Callable[..., Loopback]
Kind = Literal["github", "gitlab"]
A, B, C = "a" * 40, "b" * 40, "c" * 40
TTL = 3600


def reviewed(
    *findings: dict[str, Any],
    head: str = A,
    ended: str = "2026-01-02T03:04:05+00:00",
    **changes: Any,
) -> Envelope:
    """A review of a commit, which ended then."""
    expires = datetime.fromisoformat(ended).timestamp() + TTL
    meta = META | {
        "ttl_seconds": TTL,
        "expires_at": datetime.fromtimestamp(expires, UTC).isoformat(),
        "job_id": "d" * 32,
    }
    coverage = COVERAGE | {"head_sha": head, "base_sha": B}
    return review_of(*findings, **{"meta": meta, "coverage": coverage, **changes})


def failure(
    head: str = A, ended: str = "2026-01-02T03:04:05+00:00", message: str = "No login"
) -> Envelope:
    """A review of a commit that failed then."""
    parsed = reviewed(head=head, ended=ended)
    meta = Meta(
        ttl_seconds=TTL,
        expires_at=parsed.meta.expires_at,
        scope={"head_sha": head},
    )
    return failed(
        "codex_review_changes", CounselError(Code.AUTH_REQUIRED, message), meta
    )


@dataclass
class Scene:
    """A workspace whose remote is the hub, and a pull request there, 7."""

    world: World
    hub: Hub
    kind: Kind
    pull: Pull
    programs: str
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.programs}{os.pathsep}{self.world.env['PATH']}"
        return {**self.world.env, **self.hub.environment(), "PATH": path, **self.extra}

    @property
    def url(self) -> str:
        return self.hub.pull_url(self.pull.project, 7, self.kind)

    def save(self, review: Envelope) -> str:
        file = self.world.base / "review.json"
        file.write_text(json.dumps(review.wire()), "utf-8")
        return str(file)

    def run(
        self, *arguments: str, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "codex_counsel", *arguments],
            env=self.env,
            cwd=self.world.workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def comment(self, review: Envelope, *flags: str) -> dict[str, Any]:
        """Post the review; returns `data` of the envelope, or its `error`."""
        arguments = (self.save(review), "--pr", self.url, "--json", *flags)
        result = self.run("comment", *arguments)
        wire = json.loads(result.stdout)
        assert (result.returncode == 0) == wire["ok"], result.stderr
        answer: dict[str, Any] = wire.get("data") or wire["error"]
        return answer

    def place(self) -> Place:
        """As a run has it that has just looked."""
        pull = PullRequest(self.kind, self.hub.address, self.pull.project, 7, "")
        service = comments.service_of(pull, self.env, self.world.workspace)
        return Place(pull, service, service.read())

    @property
    def bodies(self) -> list[str]:
        return [comment.body for comment in self.pull.comments]

    @property
    def writes(self) -> int:
        """How many requests so far changed something."""
        count = 0
        for call in self.hub.calls:
            is_mutation = call.path == "/api/graphql" and b"mutation(" in call.body
            count += is_mutation or call.method in ("PUT", "PATCH", "DELETE")
            count += call.method == "POST" and call.path.endswith("/notes")
        return count


@pytest.fixture(params=[pytest.param("github", marks=needs_gh), "gitlab"])
def scene(
    world: World, hub: Hub, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Scene]:
    project = "team/shop" if request.param == "github" else "team/sub/shop"
    repository = world.repository.begin()
    repository.git("remote", "add", "origin", hub.url(project))
    (world.home / ".gitconfig").write_text(hub.git_settings())
    pull = hub.pull(project, 7, head_sha=A)
    programs = install_glab(tmp_path / "programs")
    yield Scene(world, hub, request.param, pull, str(programs))
    for comment in pull.comments:
        assert TOKEN not in comment.body


def test_the_comment_is_created_then_left_alone_then_updated_in_place(
    scene: Scene,
) -> None:
    scene.hub.comment(scene.pull, "Looks good", author="somebody")
    first = scene.comment(reviewed({"id": "f1"}))
    assert first["action"] == "created"
    assert (first["hub"], first["project"], first["number"]) == (
        scene.kind,
        scene.pull.project,
        7,
    )
    _, body = scene.bodies
    assert "## Codex review: concerns" in body
    writes = scene.writes

    again = scene.comment(reviewed({"id": "f1"}))
    assert again == {**first, "action": "unchanged"}
    assert scene.writes == writes

    later = reviewed(ended="2026-01-02T04:00:00+00:00", verdict="pass")
    second = scene.comment(later)
    assert second == {**first, "action": "updated"}
    assert scene.bodies[0] == "Looks good"
    assert "## Codex review: pass" in scene.bodies[1]
    assert len(scene.bodies) == 2


def test_blanks_and_line_ends_that_the_service_changes_are_no_other_text(
    scene: Scene,
) -> None:
    scene.comment(reviewed({}))
    (comment,) = scene.pull.comments
    comment.body = comment.body.replace("\n", "\r\n") + "\n\n"
    assert scene.comment(reviewed({}))["action"] == "unchanged"


def test_a_comment_with_our_marker_by_somebody_else_is_not_ours(scene: Scene) -> None:
    marker = Stamp(A, "2026-01-02T03:04:05+00:00", completed=True).marker
    planted = scene.hub.comment(scene.pull, f"{marker}\nApproved!", author="mallory")
    assert scene.comment(reviewed({}))["action"] == "created"
    assert planted.body == f"{marker}\nApproved!"
    assert len(scene.bodies) == 2


def test_a_comment_of_ours_that_only_quotes_the_marker_is_left_alone(
    scene: Scene,
) -> None:
    marker = Stamp(A, "2026-01-02T03:04:05+00:00", completed=True).marker
    scene.hub.comment(scene.pull, f"Look:\n{marker}")
    assert scene.comment(reviewed({}))["action"] == "created"
    assert scene.bodies[0] == f"Look:\n{marker}"


def test_a_comment_that_a_person_removed_is_made_anew(scene: Scene) -> None:
    scene.comment(reviewed({}))
    scene.pull.comments.clear()
    assert scene.comment(reviewed({}))["action"] == "created"
    assert len(scene.bodies) == 1


def test_a_comment_that_is_removed_while_we_look_is_made_anew(scene: Scene) -> None:
    scene.comment(reviewed({}))
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    place = scene.place()
    scene.pull.comments.clear()
    outcome = post(place, later, "text")
    assert outcome.data["action"] == "created"
    assert len(scene.bodies) == 1


def test_one_that_another_run_removes_between_two_questions_hides_no_other(
    scene: Scene,
) -> None:
    scene.comment(reviewed({}))
    (ours,) = scene.pull.comments
    others = [scene.hub.comment(scene.pull, ours.body) for _ in range(2)]

    def remove(call: Call) -> None:
        if others and b"nodes(ids: " in call.body:
            scene.pull.comments.remove(others.pop(0))

    scene.hub.respond = remove
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    assert scene.comment(later)["action"] == "updated"
    assert scene.pull.comments == [ours]


def test_a_limit_of_the_service_is_no_missing_permission(scene: Scene) -> None:
    def refuse(call: Call) -> Answer | None:
        if call.method == "POST" and b"query(" not in call.body:
            return Answer(403, {"message": "You have exceeded a secondary rate limit"})
        return None

    scene.hub.respond = refuse
    error = scene.comment(reviewed({}))
    assert error["retry_after_ms"] == 60_000
    assert "permission" not in error["repair"]


def test_two_runs_at_once_leave_one_comment(scene: Scene) -> None:
    first, second = scene.place(), scene.place()
    earlier = reviewed(ended="2026-01-02T00:00:00+00:00")
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    assert post(first, earlier, "earlier").data["action"] == "created"
    assert post(second, later, "later").data["action"] == "updated"
    (body,) = scene.bodies
    assert body.endswith("later")


def test_a_comment_stays_where_that_of_another_run_is_removed_meanwhile(
    scene: Scene,
) -> None:
    first, second = scene.place(), scene.place()
    earlier = reviewed(ended="2026-01-02T00:00:00+00:00")
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    assert post(first, earlier, "earlier").data["action"] == "created"

    def remove(call: Call) -> None:
        if b"updateIssueComment" in call.body or call.method == "PUT":
            scene.pull.comments[:] = scene.pull.comments[1:]
            scene.hub.respond = lambda _call: None

    scene.hub.respond = remove
    assert post(second, later, "later").data["action"] == "created"
    (body,) = scene.bodies
    assert body.endswith("later")


def test_what_two_runs_left_is_cleared_by_the_next(scene: Scene) -> None:
    scene.comment(reviewed({}))
    (ours,) = scene.pull.comments
    scene.hub.comment(scene.pull, "Hm", author="somebody")
    scene.hub.comment(scene.pull, ours.body)
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    assert scene.comment(later)["action"] == "updated"
    assert [comment.id for comment in scene.pull.comments] == [1, 2]
    assert scene.bodies[1] == "Hm"


def test_a_comment_behind_many_others_is_found_by_its_last_change(scene: Scene) -> None:
    scene.comment(reviewed({}))
    size = PAGE if scene.kind == "github" else comments.NOTES_PER_PAGE
    for number in range(2 * size + size // 2):
        scene.hub.comment(scene.pull, f"Comment {number}", author="somebody")
    later = reviewed(ended="2026-01-03T00:00:00+00:00")
    scene.hub.calls.clear()
    assert scene.comment(later)["action"] == "updated"
    pages = [call for call in scene.hub.calls if _is_page(call)]
    assert len(pages) == 3
    scene.hub.calls.clear()
    scene.comment(reviewed(ended="2026-01-04T00:00:00+00:00"))
    assert len([call for call in scene.hub.calls if _is_page(call)]) == 1


def _is_page(call: Call) -> bool:
    return b"pageInfo" in call.body or call.query.get("sort") == "desc"


def test_a_search_without_end_has_an_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comments, "MAX_PAGES", 3)
    for number in range(500):
        scene.hub.comment(scene.pull, f"Comment {number}", author="somebody")
    assert scene.place().conversation.own == ()
    assert len([call for call in scene.hub.calls if _is_page(call)]) == 3


@needs_gh
def test_long_texts_of_others_are_not_even_read(
    world: World, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_ANSWER", 100_000)
    pull = hub.pull("team/shop", 7, head_sha=A)
    marker = Stamp(A, EARLY, completed=True).marker
    hub.comment(pull, f"{marker}\nours")
    for _ in range(PAGE):
        hub.comment(pull, "\x01" * 65_000, author="mallory")
    request = PullRequest("github", hub.address, "team/shop", 7, "")
    env = {**world.env, **hub.environment()}
    (found,) = comments.service_of(request, env, world.workspace).read().own
    assert found.body == f"{marker}\nours"


def test_a_slow_search_ends_with_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comments, "SEARCH_SECONDS", 0.0)
    with pytest.raises(CounselError, match="could not be read within 0 seconds"):
        scene.place()


# --- what may replace what


NOW = datetime(2026, 2, 1, tzinfo=UTC)
EARLY, LATE = "2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"


@pytest.mark.parametrize(
    ("there", "ours", "reason"),
    [
        (Stamp(A, EARLY, True), Stamp(A, LATE, True), ""),
        (Stamp(A, LATE, True), Stamp(A, EARLY, True), "it has a later review"),
        (Stamp(A, EARLY, True), Stamp(A, LATE, False), "it has a completed review"),
        (Stamp(A, LATE, False), Stamp(A, EARLY, True), ""),
        # A, the newest commit, against others.
        (Stamp(B, LATE, True), Stamp(A, EARLY, True), ""),
        (Stamp(B, LATE, True), Stamp(A, EARLY, False), ""),
        (Stamp(A, EARLY, True), Stamp(B, LATE, True), "it has a review of the newest"),
        (Stamp(A, EARLY, True), Stamp(None, LATE, False), "it has a review of the new"),
        (Stamp(A, LATE, False), Stamp(B, EARLY, True), "it has a later review"),
        # Neither is of the newest commit.
        (Stamp(B, EARLY, True), Stamp(C, LATE, True), ""),
        (Stamp(B, LATE, True), Stamp(C, EARLY, True), "it has a later review"),
        (Stamp(None, EARLY, False), Stamp(None, LATE, False), ""),
        # Somebody edited the marker.
        (Stamp(A, "2999-01-01T00:00:00+00:00", True), Stamp(A, LATE, True), ""),
        (Stamp(A, "2026-99-99T00:00:00+00:00", True), Stamp(A, LATE, True), ""),
    ],
)
def test_an_older_review_does_not_replace_a_newer_one(
    there: Stamp, ours: Stamp, reason: str
) -> None:
    kept = why_kept(there, ours, A, NOW)
    assert kept.startswith(reason)
    assert bool(kept) == bool(reason)


def test_a_review_of_an_older_commit_leaves_that_of_the_newest(scene: Scene) -> None:
    scene.comment(reviewed({}, head=A, ended=EARLY))
    writes = scene.writes
    outcome = scene.comment(reviewed({}, head=B, ended=LATE))
    assert outcome["action"] == "unchanged"
    assert outcome["reason"] == "it has a review of the newest commit"
    assert scene.writes == writes


def test_a_review_of_an_older_commit_says_so_where_none_is_newer(scene: Scene) -> None:
    scene.comment(reviewed({}, head=B))
    (body,) = scene.bodies
    newest = f"**The newest commit is `{A[:12]}`: this review does not know it.**"
    assert newest in body
    scene.comment(reviewed({}, head=A))
    (body,) = scene.bodies
    assert "The newest commit" not in body


def test_a_failed_review_is_said_and_never_looks_like_an_approval(scene: Scene) -> None:
    scene.comment(reviewed(head=B, verdict="pass", ended=EARLY))
    assert scene.comment(failure(ended=LATE))["action"] == "updated"
    (body,) = scene.bodies
    assert "## Codex review: failed" in body
    assert "Nothing was reviewed" in body
    assert "auth_required: No login" in body
    assert "pass" not in body


# --- refusals


def test_a_locked_conversation_names_what_is_needed(scene: Scene) -> None:
    scene.pull.locked = True
    error = scene.comment(reviewed({}))
    assert error["code"] == "hub_failed"
    assert "403" in error["message"]
    needed = "pull-requests: write" if scene.kind == "github" else "scope `api`"
    assert needed in error["repair"]
    assert "locked" in error["repair"]


def test_a_pull_request_that_is_not_there_is_said(scene: Scene) -> None:
    del scene.hub.pulls[scene.pull.project, 7]
    error = scene.comment(reviewed({}))
    assert error["code"] == "hub_failed"
    assert "404" in error["message"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>Log in</html>"),
        Answer(200, {"data": {"repository": {"pullRequest": 3}}}),
        Answer(200, {"data": []}),
        Answer(200, []),
        Answer(200, 7),
    ],
)
def test_an_answer_of_another_form_is_an_error_and_no_defect(
    scene: Scene, answer: Answer
) -> None:
    scene.hub.respond = lambda _call: answer
    error = scene.comment(reviewed({}))
    assert error["code"] == "hub_failed"
    assert scene.hub.address in error["message"]


def test_a_review_of_another_pull_request_is_refused(scene: Scene) -> None:
    scope = {
        "kind": "pull_request",
        "host": scene.hub.address,
        "project": scene.pull.project,
        "number": 8,
        "hub": scene.kind,
    }
    error = scene.comment(reviewed({}, meta={"scope": scope}))
    assert error["code"] == "invalid_arguments"
    assert "not of" in error["message"]
    assert scene.hub.calls == []


def test_a_number_is_enough_where_the_review_knows_the_hub(scene: Scene) -> None:
    scope = {
        "kind": "pull_request",
        "host": scene.hub.address,
        "project": scene.pull.project,
        "number": 7,
        "hub": scene.kind,
    }
    file = scene.save(reviewed({}, meta={"scope": scope}))
    result = scene.run("comment", file, "--pr", "7")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("created: https://")
    other = scene.save(reviewed({}))
    result = scene.run("comment", other, "--pr", "7")
    assert result.returncode == 2
    assert "does not tell whether it is GitHub or GitLab" in result.stderr


@pytest.mark.parametrize(
    ("changes", "code", "exit_code"),
    [
        ({"status": "running", "verdict": None}, "job_running", 6),
        ({"meta": {"next_cursor": "x"}}, "invalid_arguments", 2),
        ({"tool": "codex_delegate"}, "invalid_arguments", 2),
    ],
)
def test_what_is_no_ended_review_is_refused_before_anything_is_asked(
    scene: Scene, changes: dict[str, Any], code: str, exit_code: int
) -> None:
    file = scene.save(reviewed({}, **changes))
    result = scene.run("comment", file, "--pr", scene.url, "--json")
    assert json.loads(result.stdout)["error"]["code"] == code
    assert result.returncode == exit_code
    assert scene.hub.calls == []


def test_a_remote_that_is_a_directory_has_no_comments(scene: Scene) -> None:
    other = scene.world.repository_at(scene.world.base / "other").begin()
    scene.world.repository.git("remote", "set-url", "origin", str(other.root))
    result = scene.run("comment", scene.save(reviewed({})), "--pr", "7")
    assert result.returncode == 2
    assert "the remote is a directory" in result.stderr


def test_a_token_in_the_address_of_the_remote_is_nowhere(scene: Scene) -> None:
    secret = "tok-1f2e3d4c5b"
    address = scene.hub.url(scene.pull.project).replace("//", f"//x:{secret}@")
    scene.world.repository.git("remote", "set-url", "origin", address)
    scene.pull.locked = True
    result = scene.run("comment", scene.save(reviewed({})), "--pr", scene.url)
    assert result.returncode == 3
    assert secret not in result.stdout + result.stderr


# --- the text


def test_a_dry_run_prints_the_text_and_writes_nothing(scene: Scene) -> None:
    file = scene.save(reviewed({"title": "Off by one"}))
    result = scene.run("comment", file, "--pr", scene.url, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "### high: Off by one" in result.stdout
    data = scene.comment(reviewed({"title": "Off by one"}), "--dry-run")
    assert "### high: Off by one" in data["text"]
    assert data["action"] == "none"
    assert scene.writes == 0


def test_a_hostile_review_is_posted_whole_and_inert(scene: Scene) -> None:
    marker = Stamp(B, LATE, completed=True).marker
    texts = [hostile.ALL, f"{marker} --> @everyone /merge\n/merge", "\ud800lone"]
    for number, text in enumerate(texts):
        review = reviewed(
            {"title": text, "risk": text, "evidence": text, "file": text},
            summary=text,
            ended=f"2026-01-0{number + 3}T00:00:00+00:00",
        )
        assert scene.comment(review)["action"] in ("created", "updated")
        (body,) = scene.bodies
        assert Stamp.of(body) is not None
        for line in body.splitlines():
            assert not line.startswith("/")
        assert hostile.hidden_characters(body) <= {"\ufe0f"}


def test_a_thousand_findings_fit_a_comment(scene: Scene) -> None:
    findings = [{"title": f"Fault {n}", "risk": "x" * 900} for n in range(1200)]
    assert scene.comment(reviewed(*findings))["action"] == "created"
    (body,) = scene.bodies
    limit = comments.MAX_CHARACTERS[scene.kind]
    assert limit / 2 < len(body) <= limit
    assert "Not shown here: " in body


# --- with a real review


def test_a_review_of_a_pull_request_is_posted_on_it(scene: Scene, model: Model) -> None:
    repository = scene.world.repository
    project = scene.pull.project
    scene.hub.push(repository, "HEAD", project, "refs/heads/main")
    repository.git("checkout", "--quiet", "-b", "feature")
    repository.write("app.py", numbered_lines(l7="seven = 70"))
    repository.commit("seven")
    ref = "refs/pull/7/head" if scene.kind == "github" else "refs/merge-requests/7/head"
    scene.pull.head_sha = scene.hub.push(repository, "HEAD", project, ref)
    repository.git("checkout", "--quiet", "main")
    model([say(reply({"line": 7, "severity": "high"}, verdict="fail"))])
    result = scene.run("review", "--pr", scene.url, "--json", "--output", "json=r.json")
    assert result.returncode == 1, result.stderr

    result = scene.run("comment", "r.json", "--pr", "7", "--json")
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)["data"]
    assert data["action"] == "created"
    (comment,) = scene.pull.comments
    assert comment.author == LOGIN
    assert f"Commit `{scene.pull.head_sha[:12]}`" in comment.body
    assert "### high: The seventh line is wrong" in comment.body
    stamp = Stamp.of(comment.body)
    assert stamp is not None
    assert stamp.head == scene.pull.head_sha
    assert stamp.completed
