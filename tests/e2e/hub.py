"""A hub on the loopback interface, over HTTPS: git, GitHub's REST and GraphQL, GitLab's REST.

Git fetches by the real `git http-backend` from bare repositories; nothing can be pushed that way. The APIs know what
this project calls, and answer with the fields that it reads. The real `gh` talks to the hub. `glab` is not at hand
where the tests run: `GLAB` is a small program that sends what `glab api` sends for the same arguments, and prints
what it prints; it shows nothing about other versions of `glab`.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.repositories import Repository

LOGIN = "codex-reviewer"
"""Whose token it is."""
TOKEN = "hub-token-f00dcafe"
MAX_BODY = 65_536
"""Characters of a comment on GitHub."""
PAGE = 100
"""Comments on a page at most, on both services."""

needs_gh = pytest.mark.skipif(
    shutil.which("gh") is None, reason="gh, GitHub's program, is not installed"
)


@dataclass
class Comment:
    """A comment of a pull request, or a note of a merge request; `system` ones are written by GitLab itself."""

    id: int
    body: str
    author: str = LOGIN
    created: int = 0
    updated: int = 0
    system: bool = False


@dataclass
class Pull:
    """What the APIs say of a pull request. `head_sha` and `base_sha` are full commit ids."""

    project: str
    number: int
    title: str = "Mend the total"
    description: str = "It left out the last row."
    base: str = "main"
    head: str = "feature"
    base_sha: str = "b" * 40
    head_sha: str = "a" * 40
    head_project: str = ""
    state: str = "open"
    locked: bool = False
    comments: list[Comment] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """A request that the hub got. `path` is without the query; `token` is what authorized it, if anything did."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    token: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A response. `body` is sent as it is, anything but bytes as JSON. A `held` one is not sent before the hub ends."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    held: bool = False


@dataclass
class Hub:
    """The hub. `respond` may answer a request in its place; None leaves it to the hub.

    With `private` set, git too needs the token, as user name or password of basic
    authentication, or as a bearer.
    """

    folder: Path
    certificate: Path
    address: str
    pulls: dict[tuple[str, int], Pull] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    respond: Callable[[Call], Answer | None] = lambda _call: None
    private: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    clock: int = 0

    # --- what a test says

    def url(self, project: str) -> str:
        """The address that a remote has."""
        return f"https://{self.address}/{project}.git"

    def pull_url(self, project: str, number: int, kind: str = "github") -> str:
        """The address of a pull request in a browser."""
        middle = "pull" if kind == "github" else "-/merge_requests"
        return f"https://{self.address}/{project}/{middle}/{number}"

    def repository(self, project: str) -> Repository:
        """The bare repository of a project, which is made if there is none yet; a local push reaches it."""
        root = self.folder / "git" / f"{project}.git"
        repository = Repository(root, _git_environment(self.folder))
        if not root.exists():
            root.mkdir(parents=True)
            repository.git("init", "--quiet", "--bare", "--initial-branch=main")
            # As the services have it: any commit that they have can be asked for.
            repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
        return repository

    def push(self, source: Repository, commit: str, project: str, ref: str) -> str:
        """Set a ref of a project to a commit of another repository, whatever it was before; returns the commit."""
        sha = source.git("rev-parse", f"{commit}^{{commit}}")
        target = self.repository(project)
        source.git("push", "--quiet", "--force", str(target.root), f"{sha}:{ref}")
        return sha

    def pull(self, project: str, number: int, **values: Any) -> Pull:
        """Register a pull request with the APIs; its refs are pushed apart."""
        pull = Pull(project, number, **values)
        self.pulls[project, number] = pull
        return pull

    def comment(self, pull: Pull, body: str, author: str = LOGIN) -> Comment:
        """Add a comment, as somebody would in a browser."""
        with self.lock:
            self.clock += 1
            comment = Comment(self.clock, body, author, self.clock, self.clock)
            pull.comments.append(comment)
            return comment

    def git_settings(self) -> str:
        """For a user's `.gitconfig`: the certificate of the hub."""
        return f'[http "https://{self.address}"]\n\tsslCAInfo = {self.certificate}\n'

    def environment(self) -> dict[str, str]:
        """What `gh` and the stand-in for `glab` need to talk to the hub."""
        return {
            "SSL_CERT_FILE": str(self.certificate),
            "GH_HOST": self.address,
            "GH_ENTERPRISE_TOKEN": TOKEN,
            "GITLAB_HOST": self.address,
            "GITLAB_TOKEN": TOKEN,
        }

    def paths(self, method: str | None = None) -> list[str]:
        """The paths that were asked for, of one method or of all."""
        return [call.path for call in self.calls if method in (None, call.method)]

    # --- what it answers

    def answer(self, call: Call) -> Answer:
        with self.lock:
            self.calls.append(call)
        instead = self.respond(call)
        if instead is not None:
            return instead
        if call.path.startswith("/api/v3/") or call.path == "/api/graphql":
            return self._api(call, GitHub(self))
        if call.path.startswith("/api/v4/"):
            return self._api(call, GitLab(self))
        return self._git(call)

    def _api(self, call: Call, service: GitHub | GitLab) -> Answer:
        if call.token != TOKEN:
            return Answer(401, {"message": "Bad credentials"})
        with self.lock:
            return service.answer(call)

    def _git(self, call: Call) -> Answer:
        if self.private and call.token != TOKEN:
            headers = {"WWW-Authenticate": 'Basic realm="hub"'}
            return Answer(401, b"who are you?\n", headers)
        match = re.match(r"/(.+?)(?:\.git)?(/info/refs|/git-upload-pack)$", call.path)
        if match is None or not (self.folder / "git" / f"{match[1]}.git").is_dir():
            return Answer(404, b"Not Found\n")
        query = "&".join(f"{name}={value}" for name, value in call.query.items())
        variables = {
            **_git_environment(self.folder),
            "GIT_PROJECT_ROOT": str(self.folder / "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{match[1]}.git{match[2]}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": call.method,
            "CONTENT_TYPE": call.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(call.body)),
            "GIT_PROTOCOL": call.headers.get("git-protocol", ""),
        }
        result = subprocess.run(
            ["git", "http-backend"],
            env=variables,
            input=call.body,
            capture_output=True,
            check=False,
        )
        return _answer_of_cgi(result.stdout)

    def next_time(self) -> int:
        self.clock += 1
        return self.clock


def time_of(number: int) -> str:
    """A time of the hub: seconds of a day, so that they sort as they came."""
    hours, seconds = divmod(number, 3600)
    return f"2026-01-01T{hours:02}:{seconds // 60:02}:{seconds % 60:02}Z"


@dataclass(frozen=True)
class GitHub:
    """GitHub's REST below `/api/v3`, as on a server of one's own, and what this project asks of its GraphQL."""

    hub: Hub

    def answer(self, call: Call) -> Answer:
        if call.path == "/api/graphql":
            return self._graphql(call.json)
        path = call.path.removeprefix("/api/v3/")
        match = re.fullmatch(r"repos/([^/]+/[^/]+)/(.+)", path)
        if path == "user":
            return Answer(200, {"login": LOGIN, "id": 1})
        if match is None:
            return NOT_FOUND
        return self._of_repository(match[1], match[2])

    def _of_repository(self, project: str, rest: str) -> Answer:
        match = re.fullmatch(r"pulls/(\d+)", rest)
        pull = match and self.hub.pulls.get((project, int(match[1])))
        if not pull:
            return NOT_FOUND
        return Answer(200, self._pull(pull))

    def _pull(self, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "title": pull.title,
            "body": pull.description,
            "state": pull.state,
            "locked": pull.locked,
            "html_url": self.hub.pull_url(pull.project, pull.number),
            "base": {
                "ref": pull.base,
                "sha": pull.base_sha,
                "repo": {"full_name": pull.project},
            },
            "head": {
                "ref": pull.head,
                "sha": pull.head_sha,
                "repo": {"full_name": pull.head_project or pull.project},
            },
        }

    def _graphql(self, request: dict[str, Any]) -> Answer:
        """Answer the query and the three mutations of this project, told apart by the fields that they name."""
        query, given = request["query"], request["variables"]
        if "addComment(" in query:
            return self._add(given)
        if "updateIssueComment(" in query:
            return self._change(given)
        if "deleteIssueComment(" in query:
            return self._delete(given)
        if "nodes(ids: " in query:
            return self._read(given["ids"])
        assert "viewerDidAuthor" in query, request
        assert "orderBy: {field: UPDATED_AT, direction: DESC}" in query, request
        return self._find(given)

    def _find(self, given: dict[str, Any]) -> Answer:
        """The comments of a pull request, by time of their last change, the newest first, `PAGE` at a time."""
        key = (f"{given['owner']}/{given['name']}", given["number"])
        pull = self.hub.pulls.get(key)
        if pull is None:
            return _graphql_error("NOT_FOUND", "Could not resolve to a PullRequest.")
        newest = sorted(pull.comments, key=lambda comment: -comment.updated)
        start = int(given.get("after") or 0)
        nodes = []
        for comment in newest[start : start + PAGE]:
            is_own = comment.author == LOGIN
            nodes.append({"id": f"IC_{comment.id}", "viewerDidAuthor": is_own})
        page = {
            "hasNextPage": start + PAGE < len(newest),
            "endCursor": str(start + PAGE),
        }
        found = {
            "id": f"PR_{pull.project}#{pull.number}",
            "headRefOid": pull.head_sha,
            "url": self.hub.pull_url(pull.project, pull.number),
            "comments": {"nodes": nodes, "pageInfo": page},
        }
        return Answer(200, {"data": {"repository": {"pullRequest": found}}})

    def _read(self, ids: list[str]) -> Answer:
        """The comments with these ids, null and an error for one that is gone."""
        found: dict[str, Any] = dict.fromkeys(ids)
        for pull in self.hub.pulls.values():
            for comment in pull.comments:
                node = {
                    "id": f"IC_{comment.id}",
                    "body": comment.body,
                    "url": self._url(pull, comment),
                    "createdAt": time_of(comment.created),
                }
                if node["id"] in found:
                    found[node["id"]] = node
        data = {"nodes": list(found.values())}
        if None in data["nodes"]:
            words = "Could not resolve to a node with the global id"
            errors = [{"type": "NOT_FOUND", "message": words}]
            return Answer(200, {"data": data, "errors": errors})
        return Answer(200, {"data": data})

    def _add(self, given: dict[str, Any]) -> Answer:
        project, _, number = given["subject"].removeprefix("PR_").partition("#")
        pull = self.hub.pulls[project, int(number)]
        if pull.locked:
            words = "Unable to create comment because issue is locked."
            return _graphql_error("FORBIDDEN", words)
        if len(given["body"]) > MAX_BODY:
            words = f"Body is too long (maximum is {MAX_BODY} characters)"
            return _graphql_error("UNPROCESSABLE", words)
        node = {"url": self._url(pull, self.hub.comment(pull, given["body"]))}
        added = {"addComment": {"commentEdge": {"node": node}}}
        return Answer(200, {"data": added})

    def _change(self, given: dict[str, Any]) -> Answer:
        found = self._comment(given["id"])
        if isinstance(found, Answer):
            return found
        pull, comment = found
        comment.body = given["body"]
        comment.updated = self.hub.next_time()
        changed = {"issueComment": {"url": self._url(pull, comment)}}
        return Answer(200, {"data": {"updateIssueComment": changed}})

    def _delete(self, given: dict[str, Any]) -> Answer:
        found = self._comment(given["id"])
        if isinstance(found, Answer):
            return found
        pull, comment = found
        pull.comments.remove(comment)
        deleted = {"clientMutationId": None}
        return Answer(200, {"data": {"deleteIssueComment": deleted}})

    def _comment(self, node: str) -> tuple[Pull, Comment] | Answer:
        for pull in self.hub.pulls.values():
            for comment in pull.comments:
                if f"IC_{comment.id}" != node:
                    continue
                if comment.author != LOGIN:
                    words = f"{LOGIN} does not have the correct permissions"
                    return _graphql_error("FORBIDDEN", words)
                return pull, comment
        return _graphql_error("NOT_FOUND", "Could not resolve to a node")

    def _url(self, pull: Pull, comment: Comment) -> str:
        address = self.hub.pull_url(pull.project, pull.number)
        return f"{address}#issuecomment-{comment.id}"


@dataclass(frozen=True)
class GitLab:
    """GitLab's REST below `/api/v4`."""

    hub: Hub

    def answer(self, call: Call) -> Answer:
        path = call.path.removeprefix("/api/v4/")
        if path == "user":
            return Answer(200, {"id": 1, "username": LOGIN})
        match = re.fullmatch(
            r"projects/([^/]+)/merge_requests/(\d+)(?:/(notes)(?:/(\d+))?)?", path
        )
        if match is None:
            return Answer(404, {"error": "404 Not Found"})
        pull = self.hub.pulls.get((unquote(match[1]), int(match[2])))
        if pull is None:
            return Answer(404, {"message": "404 Not found"})
        if not match[3]:
            return Answer(200, self._merge_request(pull))
        return self._of_notes(call, pull, match[4])

    def _of_notes(self, call: Call, pull: Pull, number: str | None) -> Answer:
        if number:
            return self._change(call, pull, int(number))
        if call.method == "POST":
            return self._create(call, pull)
        return self._notes(call, pull)

    def _merge_request(self, pull: Pull) -> dict[str, Any]:
        return {
            "iid": pull.number,
            "title": pull.title,
            "description": pull.description,
            "state": "opened" if pull.state == "open" else pull.state,
            "target_branch": pull.base,
            "source_branch": pull.head,
            "sha": pull.head_sha,
            "diff_refs": {
                "base_sha": pull.base_sha,
                "start_sha": pull.base_sha,
                "head_sha": pull.head_sha,
            },
            "discussion_locked": pull.locked,
            "web_url": self.hub.pull_url(pull.project, pull.number, "gitlab"),
        }

    def _create(self, call: Call, pull: Pull) -> Answer:
        assert call.headers.get("content-type") == "application/json"
        if pull.locked:
            return Answer(403, {"message": "403 Forbidden"})
        comment = self.hub.comment(pull, call.json["body"])
        return Answer(201, self._note(comment))

    def _change(self, call: Call, pull: Pull, number: int) -> Answer:
        for comment in pull.comments:
            if comment.id != number:
                continue
            if comment.author != LOGIN:
                return Answer(403, {"message": "403 Forbidden"})
            if call.method == "DELETE":
                pull.comments.remove(comment)
                return Answer(204)
            if call.method == "PUT":
                comment.body = call.json["body"]
                comment.updated = self.hub.next_time()
            return Answer(200, self._note(comment))
        return Answer(404, {"message": "404 Not found"})

    def _notes(self, call: Call, pull: Pull) -> Answer:
        assert (call.query["order_by"], call.query["sort"]) == ("updated_at", "desc")
        newest = sorted(pull.comments, key=lambda comment: -comment.updated)
        size = min(int(call.query.get("per_page", "20")), PAGE)
        start = (int(call.query.get("page", "1")) - 1) * size
        notes = [self._note(comment) for comment in newest[start : start + size]]
        return Answer(200, notes)

    def _note(self, comment: Comment) -> dict[str, Any]:
        number = 1 if comment.author == LOGIN else 2
        return {
            "id": comment.id,
            "body": comment.body,
            "author": {"id": number, "username": comment.author},
            "system": comment.system,
            "created_at": time_of(comment.created),
            "updated_at": time_of(comment.updated),
        }


def _graphql_error(kind: str, words: str) -> Answer:
    return Answer(200, {"data": None, "errors": [{"type": kind, "message": words}]})


NOT_FOUND = Answer(404, {"message": "Not Found"})


def _git_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def _answer_of_cgi(output: bytes) -> Answer:
    head, _, body = output.partition(b"\r\n\r\n")
    headers: dict[str, str] = {}
    for line in head.decode().splitlines():
        name, _, value = line.partition(": ")
        headers[name] = value
    status = int(headers.pop("Status", "200").split()[0])
    return Answer(status, body, headers)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request whole, and writes the answer of the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def _serve(self) -> None:
        address = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        call = Call(
            self.command,
            address.path,
            query,
            headers,
            self._body(headers),
            _token(headers),
        )
        answer = self.hub.answer(call)
        if answer.held:
            self.hub.ended.wait()
            self.close_connection = True
            return
        body = answer.body
        kind = "application/octet-stream"
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            kind = "application/json; charset=utf-8"
        self.send_response(answer.status, responses.get(answer.status, ""))
        for name, value in {"Content-Type": kind, **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  # names of http.server

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(headers.get("content-length", "0")))
        if headers.get("content-encoding") == "gzip":
            return gzip.decompress(body)
        return body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged: the hub has the requests."""


def _token(headers: Mapping[str, str]) -> str | None:
    private = headers.get("private-token")
    if private:
        return private
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return value or None
    name, _, password = base64.b64decode(value).decode().partition(":")
    return TOKEN if TOKEN in (name, password) else password


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """A client that was ended, or does not trust the certificate, is no error of the hub."""


@contextmanager
def running_hub(folder: Path) -> Iterator[Hub]:
    """A hub that keeps its repositories and its certificate in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate = _make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, folder / "key.pem")
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    # The handshake is done by the thread of the request: a client may be slow.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    hub = Hub(folder, certificate, f"127.0.0.1:{server.server_address[1]}")
    handler.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub of this test alone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the hub's certificate, is not installed")
    with running_hub(tmp_path / "hub") as started:
        yield started


def _make_certificate(folder: Path) -> Path:
    certificate = folder / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hub"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


# --- glab

GLAB = '''\
#!{python} -I
"""Sends what `glab api [--method M] [--header H] [--include] [--input -] PATH` sends, and prints what it prints."""
import argparse, os, ssl, sys, urllib.error, urllib.request

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("verb", choices=["api"])
parser.add_argument("--method", default="GET")
parser.add_argument("--header", action="append", default=[])
parser.add_argument("--include", action="store_true")
parser.add_argument("--input", choices=["-"])
parser.add_argument("path")
arguments = parser.parse_args()
host = os.environ.get("GITLAB_HOST", "https://gitlab.com")
if "://" not in host:
    host = "https://" + host
headers = dict(line.split(": ", 1) for line in arguments.header)
if os.environ.get("GITLAB_TOKEN"):
    headers["PRIVATE-TOKEN"] = os.environ["GITLAB_TOKEN"]
body = sys.stdin.buffer.read() if arguments.input else None
address = host + "/api/v4/" + arguments.path
request = urllib.request.Request(address, body, headers, method=arguments.method)
context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
try:
    response = urllib.request.urlopen(request, context=context)
except urllib.error.HTTPError as error:
    response = error
except urllib.error.URLError as error:
    sys.exit("ERROR: " + str(error.reason))
out = sys.stdout.buffer
if arguments.include:
    out.write("HTTP/1.1 {{}} {{}}\\n".format(response.status, response.reason).encode())
    for name, value in response.headers.items():
        out.write("{{}}: {{}}\\r\\n".format(name, value).encode())
    out.write(b"\\r\\n")
out.write(response.read())
out.flush()
if response.status > 299:
    sys.exit("glab: HTTP {{}}".format(response.status))
'''


def install_glab(folder: Path) -> Path:
    """Write the stand-in for `glab` to a directory, which a test puts on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "glab"
    program.write_text(GLAB.format(python=sys.executable), "utf-8")
    program.chmod(0o755)
    return folder
