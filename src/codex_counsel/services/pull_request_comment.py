"""The one comment of ours on a pull request: what stands there, whether a review may replace it, and doing so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from codex_counsel.contract.envelope import Coverage, Envelope, Meta, completed
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.hub import comments
from codex_counsel.hub.comments import Comment, Conversation, Service, Stamp
from codex_counsel.hub.reference import PullRequest, of_argument
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

TOOL = "codex-counsel comment"
CLOCKS = timedelta(hours=1)
"""How far the clocks of two machines may differ. A comment from a later time is taken for a wrong one."""
MARKER_CHARACTERS = 200
"""What the first line of a comment takes at most."""
_GONE = 404


@dataclass(frozen=True)
class Place:
    """A pull request and what it has now, as its service says."""

    pull: PullRequest
    service: Service
    conversation: Conversation

    @property
    def room(self) -> int:
        """Characters that a text may have."""
        return comments.MAX_CHARACTERS[self.pull.hub] - MARKER_CHARACTERS

    def newest_of(self, review: Envelope) -> str | None:
        """The newest commit of the pull request, where the review is of another one; else None."""
        head, _ = commits_of(review)
        if head == self.conversation.head:
            return None
        return self.conversation.head


def look_up(
    env: Mapping[str, str],
    workspace_root: str | None,
    argument: str,
    review: Envelope,
) -> Place:
    """Ask the service that has the pull request, which `argument` names by its number or address.

    Raises `invalid_arguments`, also for a review of another pull request,
    `workspace_invalid`, `not_a_git_repo` and `hub_failed`.
    """
    context = Context.of(env)
    workspace = workspaces.resolve(context, workspace_root).root
    repo = Repo.open(workspace, context.settings.git_timeout_seconds, env=context.env)
    pull = _with_hub(of_argument(argument, repo), review)
    service = comments.service_of(pull, context.env, workspace)
    return Place(pull, service, service.read())


def _with_hub(pull: PullRequest, review: Envelope) -> PullRequest:
    """The pull request, with the hub that the review found where the address of the remote does not tell."""
    if not pull.host:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "pr: the remote is a directory, which has no comments",
            repair="Name the pull request by its URL, from a clone of the service that has it.",
        )
    scope = review.meta.scope or {}
    if scope.get("kind") == "pull_request":
        _check_is_of(pull, scope)
        if scope.get("hub") in ("github", "gitlab") and not pull.certain:
            return replace(pull, hub=scope["hub"], certain=True)
    if not pull.certain:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"pr: the name {pull.host} does not tell whether it is GitHub or GitLab",
            repair="Name the pull request by its URL.",
        )
    return pull


def _check_is_of(pull: PullRequest, scope: JsonObject) -> None:
    reviewed = (scope.get("host"), scope.get("project"), scope.get("number"))
    if reviewed == (pull.host, pull.project, pull.number):
        return
    words = one_line(visible("{}/{} {}".format(*reviewed)), 200)
    raise CounselError(
        Code.INVALID_ARGUMENTS,
        f"RESULT: this is a review of {words}, not of {pull.title}",
        repair="Name the pull request that was reviewed, or the review of this one.",
    )


def check(review: Envelope) -> None:
    """Raise `job_running` or `invalid_arguments` where this is no ended review, or not all of it."""
    if review.status not in TERMINAL:
        raise CounselError(Code.JOB_RUNNING, "RESULT: the review has not ended")
    if review.meta.next_cursor:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "RESULT: this is one page of a result, not all of it",
            repair="Name the job, or a file that `codex-counsel review --json` wrote.",
        )


def post(place: Place, review: Envelope, text: str) -> Envelope:
    """Put the text on the pull request as its one comment, unless a better one stands there.

    Raises `hub_failed`. `data.action` of the result says what was done: `created`,
    `updated`, or `unchanged` with a `reason`.
    """
    stamp = stamp_of(review, datetime.now(UTC))
    body = f"{stamp.marker}\n{text}"
    outcome = _put(place.service, place.conversation, stamp, body)
    data: JsonObject = {
        **outcome,
        "hub": place.pull.hub,
        "project": place.pull.project,
        "number": place.pull.number,
    }
    words = f"{data['action']}: {data['url']}"
    if "reason" in data:
        words += f" ({data['reason']})"
    return completed(TOOL, words, data, Meta(job_id=review.meta.job_id))


def _put(
    service: Service, conversation: Conversation, stamp: Stamp, body: str
) -> JsonObject:
    """Update the oldest comment of ours and remove the others; without one, create it."""
    if not conversation.own:
        return _create(service, conversation, stamp, body)
    first, *others = conversation.own
    outcome = _update(service, conversation.head, first, stamp, body)
    if outcome is None:
        # Somebody removed it since it was read.
        return _create(service, conversation, stamp, body)
    _remove(service, others)
    return outcome


def _create(
    service: Service, conversation: Conversation, stamp: Stamp, body: str
) -> JsonObject:
    """Add the comment, and then look again: another run may have done the same meanwhile."""
    outcome: JsonObject = {
        "action": "created",
        "url": service.create(conversation, body),
    }
    now = service.read()
    if not now.own:
        # Not listed yet, or removed again.
        return outcome
    first, *others = now.own
    if first.body.rstrip() != body.rstrip():
        updated = _update(service, now.head, first, stamp, body)
        if updated is None:
            # Somebody removed it since, and ours is among the others.
            return outcome
        outcome = updated
    _remove(service, others)
    return outcome


def _update(
    service: Service, newest: str | None, comment: Comment, stamp: Stamp, body: str
) -> JsonObject | None:
    """What was done with the comment; None where it is gone."""
    outcome: JsonObject = {"action": "unchanged", "url": comment.url}
    # Services change line ends, and drop blanks at the end.
    if comment.body.replace("\r\n", "\n").rstrip() == body.rstrip():
        return outcome
    reason = why_kept(comment.stamp, stamp, newest, datetime.now(UTC))
    if reason:
        return {**outcome, "reason": reason}
    try:
        service.update(comment, body)
    except CounselError as error:
        if error.details.get("status") == _GONE:
            return None
        raise
    return {**outcome, "action": "updated"}


def _remove(service: Service, others: list[Comment]) -> None:
    """Remove comments of ours that two runs at once left. One that another run removed is gone already."""
    for comment in others:
        try:
            service.delete(comment)
        except CounselError as error:
            if error.details.get("status") != _GONE:
                raise


def why_kept(there: Stamp, ours: Stamp, newest: str | None, now: datetime) -> str:
    """Why a review does not replace the comment that stands there; empty if it does.

    `newest` is the newest commit of the pull request. A completed review of a commit is
    never replaced by a failed one of the same commit, and what is of the newest commit
    by nothing that is of another.
    """
    then = _time(there.ended)
    if then is None or then > now + CLOCKS:
        return ""
    if ours.head is not None and ours.head == there.head:
        decides = ours.completed and not there.completed
        if there.completed and not ours.completed:
            return "it has a completed review of this commit"
    else:
        decides = ours.head == newest
        if not decides and there.head == newest and there.completed:
            return "it has a review of the newest commit"
    if not decides and there.ended > ours.ended:
        return "it has a later review"
    return ""


def stamp_of(review: Envelope, now: datetime) -> Stamp:
    """What the marker says of a review. One that names no time has ended now."""
    head, _ = commits_of(review)
    is_completed = review.status == "completed" and review.error is None
    ended = _ended(review) or now
    return Stamp(head, ended.isoformat(timespec="seconds"), is_completed)


def _ended(review: Envelope) -> datetime | None:
    """When the run ended: its record may be dropped `ttl_seconds` later."""
    expires = _time(review.meta.expires_at)
    if expires is None or review.meta.ttl_seconds is None:
        return None
    try:
        return expires - timedelta(seconds=review.meta.ttl_seconds)
    except OverflowError:
        return None


def _time(text: str | None) -> datetime | None:
    """The time in UTC; None for what is none."""
    try:
        return datetime.fromisoformat(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def commits_of(review: Envelope) -> tuple[str | None, str | None]:
    """The full ids of the reviewed commit and of the one that it was compared with, as far as they are known.

    A review that failed has them in its scope.
    """
    scope = review.meta.scope or {}
    coverage = review.coverage or Coverage()
    head = coverage.head_sha or scope.get("head_sha")
    base = coverage.base_sha or scope.get("base_sha")
    return comments.commit_id(head), comments.commit_id(base)
