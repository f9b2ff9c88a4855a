"""One comment of ours on a pull request, which later runs find again and replace.

It is found by two signs together: its text begins with a marker, and the service says
that the login of this call wrote it (`viewerDidAuthor` of GitHub; on GitLab the id of
its author). The marker alone proves nothing, because anybody can write one.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.hub import api
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from codex_counsel.hub.reference import HubKind, PullRequest

MAX_CHARACTERS: dict[HubKind, int] = {"github": 65_000, "gitlab": 990_000}
"""Of a comment; a little less than the services take."""
NOTES_PER_PAGE = 20
"""GitLab sends the texts of all of them, of up to a million characters each."""
MAX_PAGES = 100
"""Pages of comments that are looked through. Those changed last come first, so ours is seldom far."""
SEARCH_SECONDS = 120.0
CALL_SECONDS = 30.0
_GONE = 404
_REFUSED = (403, _GONE)

_MARKER = re.compile(
    r"<!-- codex-counsel review head=(?P<head>[0-9a-f]{40,64}|-) ended=(?P<ended>[0-9T:-]{19}\+00:00)"
    r" status=(?P<status>completed|failed) -->"
)

_FIND = """\
query($owner: String!, $name: String!, $number: Int!, $after: String) {
  repository(owner: $owner, name: $name) {
    pullRequest(number: $number) {
      id
      headRefOid
      url
      comments(first: 100, after: $after, orderBy: {field: UPDATED_AT, direction: DESC}) {
        nodes { id viewerDidAuthor }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}"""
_READ = """\
query($ids: [ID!]!) {
  nodes(ids: $ids) { ... on IssueComment { id body url createdAt } }
}"""
_ADD = """\
mutation($subject: ID!, $body: String!) {
  addComment(input: {subjectId: $subject, body: $body}) { commentEdge { node { url } } }
}"""
_UPDATE = """\
mutation($id: ID!, $body: String!) {
  updateIssueComment(input: {id: $id, body: $body}) { issueComment { url } }
}"""
_DELETE = """\
mutation($id: ID!) {
  deleteIssueComment(input: {id: $id}) { clientMutationId }
}"""


@dataclass(frozen=True)
class Stamp:
    """What the marker of a comment says: the commit that was reviewed, when the review ended, and how.

    `head` is a full commit id in lower case, None where the review names none; `ended` is
    ISO 8601 in UTC, to the second, so that the texts compare as the times do.
    """

    head: str | None
    ended: str
    completed: bool

    @property
    def marker(self) -> str:
        """The first line of a comment."""
        status = "completed" if self.completed else "failed"
        return f"<!-- codex-counsel review head={self.head or '-'} ended={self.ended} status={status} -->"

    @classmethod
    def of(cls, body: str) -> Stamp | None:
        """That of a comment; None where it does not begin with a marker."""
        match = _MARKER.match(body)
        if match is None:
            return None
        head = None if match["head"] == "-" else match["head"]
        return cls(head, match["ended"], match["status"] == "completed")


@dataclass(frozen=True)
class Comment:
    """A comment of ours. `id` is the service's own; `created` sorts as the times do."""

    id: str
    body: str
    url: str
    created: str
    stamp: Stamp


@dataclass(frozen=True)
class Conversation:
    """What a pull request has now: the full id of its newest commit, and comments of ours, the oldest first.

    `subject` is what a new comment is added to, in the words of the service.
    """

    subject: str
    head: str | None
    own: tuple[Comment, ...]


@dataclass(frozen=True)
class Service(ABC):
    """The comments of one pull request. Every method raises `hub_failed`."""

    pull: PullRequest
    env: Mapping[str, str]
    workspace: Path

    @abstractmethod
    def read(self) -> Conversation:
        """Look for the comments of ours."""

    @abstractmethod
    def create(self, conversation: Conversation, body: str) -> str:
        """Add a comment; returns its address."""

    @abstractmethod
    def update(self, comment: Comment, body: str) -> str:
        """Replace the text of a comment; returns its address."""

    @abstractmethod
    def delete(self, comment: Comment) -> None:
        """Remove a comment."""

    def _call(
        self,
        path: str,
        method: str = "GET",
        body: JsonObject | None = None,
        seconds: float = CALL_SECONDS,
    ) -> Json:
        return api.call(
            self.pull,
            path,
            self.env,
            self.workspace,
            method=method,
            body=body,
            seconds=seconds,
        )

    def _unexpected(self) -> CounselError:
        return CounselError(
            Code.HUB_FAILED,
            f"{self.pull.host}: its answer is not of the form that its documentation gives",
            details={"host": self.pull.host},
        )


def service_of(pull: PullRequest, env: Mapping[str, str], workspace: Path) -> Service:
    """The comments of a pull request."""
    if pull.hub == "github":
        return _GitHub(pull, env, workspace)
    return _GitLab(pull, env, workspace)


@dataclass(frozen=True)
class _GitHub(Service):
    def read(self) -> Conversation:
        owner, _, name = self.pull.project.partition("/")
        variables: JsonObject = {
            "owner": owner,
            "name": name,
            "number": self.pull.number,
        }
        search = _Search(self.pull)
        while True:
            found = self._graphql(_FIND, variables, search.seconds_left())
            try:
                pull = found["repository"]["pullRequest"]
                subject, head = str(pull["id"]), commit_id(pull["headRefOid"])
                mine = []
                for node in pull["comments"]["nodes"]:
                    if node["viewerDidAuthor"] is True:
                        mine.append(str(node["id"]))
                page = pull["comments"]["pageInfo"]
                more = page["hasNextPage"]
                variables = {**variables, "after": page["endCursor"]}
            except (KeyError, TypeError):
                raise self._unexpected() from None
            own = self._own(mine, search)
            if own or not more or search.is_over():
                return Conversation(subject, head, own)

    def _own(self, ids: list[str], search: _Search) -> tuple[Comment, ...]:
        """Those of the comments that begin with the marker.

        Only the texts of this login are asked for: `gh` needs half a minute for a page of
        long texts of others that are made for that.
        """
        if not ids:
            return ()
        try:
            found = self._graphql(_READ, {"ids": ids}, search.seconds_left())
        except CounselError as error:
            if error.details.get("status") != _GONE:
                raise
            return self._left(ids, search)
        try:
            return _oldest_first(_github_comment(node) for node in found["nodes"])
        except (KeyError, TypeError):
            raise self._unexpected() from None

    def _left(self, ids: list[str], search: _Search) -> tuple[Comment, ...]:
        """As `_own`, where somebody has just removed one: GitHub answers for all with an error."""
        if len(ids) == 1:
            return ()
        half = len(ids) // 2
        return _oldest_first(
            [*self._own(ids[:half], search), *self._own(ids[half:], search)]
        )

    def create(self, conversation: Conversation, body: str) -> str:
        variables = {"subject": conversation.subject, "body": body}
        answer = self._write(_ADD, variables)
        try:
            return str(answer["addComment"]["commentEdge"]["node"]["url"])
        except (KeyError, TypeError):
            raise self._unexpected() from None

    def update(self, comment: Comment, body: str) -> str:
        self._write(_UPDATE, {"id": comment.id, "body": body})
        return comment.url

    def delete(self, comment: Comment) -> None:
        self._write(_DELETE, {"id": comment.id})

    def _write(self, query: str, variables: JsonObject) -> Json:
        try:
            return self._graphql(query, variables, CALL_SECONDS)
        except CounselError as error:
            if _may_not_write(error):
                error.repair = (
                    "The login needs the permission to write to pull requests (in a workflow "
                    "`permissions: pull-requests: write`), and the conversation must not be locked."
                )
            raise

    def _graphql(self, query: str, variables: JsonObject, seconds: float) -> Json:
        body = {"query": query, "variables": variables}
        answer = self._call("graphql", "POST", body, seconds)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), dict):
            raise self._unexpected()
        return answer["data"]


def _github_comment(node: Json) -> Comment | None:
    """The comment, if it is one of ours; null stands for one that is gone."""
    if node is None:
        return None
    stamp = Stamp.of(node["body"])
    if stamp is None:
        return None
    return Comment(node["id"], node["body"], node["url"], str(node["createdAt"]), stamp)


@dataclass(frozen=True)
class _GitLab(Service):
    @property
    def _path(self) -> str:
        return f"{api.project_path(self.pull)}/merge_requests/{self.pull.number}"

    def read(self) -> Conversation:
        merge_request = self._call(self._path)
        me = self._call("user")
        try:
            head = commit_id(merge_request["sha"])
            address = str(merge_request["web_url"])
            login = int(me["id"])
        except (KeyError, TypeError, ValueError):
            raise self._unexpected() from None
        search = _Search(self.pull)
        while True:
            query = f"order_by=updated_at&sort=desc&per_page={NOTES_PER_PAGE}&page={search.pages + 1}"
            path = f"{self._path}/notes?{query}"
            notes = self._call(path, seconds=search.seconds_left())
            try:
                own = _oldest_first(
                    _gitlab_comment(note, login, address) for note in notes
                )
                more = len(notes) == NOTES_PER_PAGE
            except (KeyError, TypeError, ValueError):
                raise self._unexpected() from None
            if own or not more or search.is_over():
                return Conversation(address, head, own)

    def create(self, conversation: Conversation, body: str) -> str:
        note = self._write(f"{self._path}/notes", "POST", {"body": body})
        try:
            return f"{conversation.subject}#note_{int(note['id'])}"
        except (KeyError, TypeError, ValueError):
            raise self._unexpected() from None

    def update(self, comment: Comment, body: str) -> str:
        self._write(f"{self._path}/notes/{comment.id}", "PUT", {"body": body})
        return comment.url

    def delete(self, comment: Comment) -> None:
        self._write(f"{self._path}/notes/{comment.id}", "DELETE")

    def _write(self, path: str, method: str, body: JsonObject | None = None) -> Json:
        try:
            return self._call(path, method, body)
        except CounselError as error:
            if _may_not_write(error):
                error.repair = (
                    "The login needs a token with the scope `api` and a role that may comment (Reporter or higher; "
                    "CI_JOB_TOKEN may not), and the discussion must not be locked."
                )
            raise


def _gitlab_comment(note: Json, login: int, address: str) -> Comment | None:
    """The note, if it is one of ours."""
    if note["author"]["id"] != login or note.get("system"):
        return None
    stamp = Stamp.of(note["body"])
    if stamp is None:
        return None
    number = int(note["id"])
    url = f"{address}#note_{number}"
    # Notes of one second are told apart by their ids, which only grow.
    created = f"{note['created_at']} {number:020}"
    return Comment(str(number), note["body"], url, created, stamp)


def _may_not_write(error: CounselError) -> bool:
    """Whether the login may not, rather than not so often."""
    return error.details.get("status") in _REFUSED and error.retry_after_ms is None


def commit_id(value: Json) -> str | None:
    """A full commit id, None for anything else: a merge request may have lost its branch."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{40,64}", value):
        return value
    return None


def _oldest_first(comments: Iterable[Comment | None]) -> tuple[Comment, ...]:
    found = [comment for comment in comments if comment is not None]
    return tuple(sorted(found, key=lambda comment: (comment.created, comment.id)))


class _Search:
    """The limits of a search through pages of comments."""

    def __init__(self, pull: PullRequest) -> None:
        self.pages = 0
        self._pull = pull
        self._end = time.monotonic() + SEARCH_SECONDS

    def seconds_left(self) -> float:
        """For the next page. Raises `hub_failed` when the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise CounselError(
                Code.HUB_FAILED,
                f"{self._pull.host}: the comments could not be read within {SEARCH_SECONDS:g} seconds",
                details={"host": self._pull.host},
            )
        return min(left, CALL_SECONDS)

    def is_over(self) -> bool:
        """Count a page, and say whether it was the last that is looked at."""
        self.pages += 1
        return self.pages >= MAX_PAGES
