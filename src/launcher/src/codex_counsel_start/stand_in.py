"""The server's place holder: answers a client while the server is being installed, and then becomes the server.

What the client asks to get to know a server is answered from `answers.json`, which holds
the server's own answers. Everything else is held and passed on to the server, in order.
A call that cannot be held any longer, or whose server cannot be installed, is answered
with a failure in the form of the server's own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from codex_counsel_start.installation import Installation
from codex_counsel_start.relay import relay

JSON = dict[str, Any]
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
TICK_SECONDS = 0.1
PROGRESS_SECONDS = 5.0
HOLD_SECONDS = 50.0
"""How long a call waits for the installation: clients without progress give up after a minute."""
HOLD_WITH_PROGRESS_SECONDS = 600.0
RETRY_SECONDS = 10.0
"""So long after a failed attempt, the next call begins another."""
STUCK_SECONDS = 30.0
"""A client that reads nothing for so long is gone."""
RETRY_AFTER_MS = 15_000
MAX_SUMMARY = 300
"""Characters of a message in a summary."""
CHUNK = 4096
REFUSED = -32000


@dataclass
class Held:
    """A message for the server. `id` is None for a notification."""

    line: bytes
    arrived: float
    id: str | int | None = None
    tool: str | None = None
    era: str = "legacy"
    token: str | int | None = None
    reports: int = 0


class ClientGone(Exception):  # noqa: N818  # no error: how a session ends
    """The client closed a pipe, or does not read."""


class StandIn:
    """One client on stdin and stdout."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._answers: JSON = json.loads(
            Path(__file__).with_name("answers.json").read_text("utf-8")
        )
        self._input: list[bytes] = []
        self._handshake: list[bytes] = []
        self._held: list[Held] = []

    def serve(self, argv: list[str], env: dict[str, str]) -> NoReturn:
        """Answer until there is the server (this command), which then takes over, or until the client goes."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            while not self._installation.is_ready():
                self._answer_waiting()
                self._read()
        except ClientGone:
            sys.exit(1 if self._installation.problem else 0)
        lines = [held.line for held in self._held]
        relay(argv, env, self._handshake, b"".join([*lines, *self._input]))

    # --- reading

    def _read(self) -> None:
        readable, _, _ = select.select([0], [], [], TICK_SECONDS)
        if not readable:
            return
        chunk = os.read(0, 65_536)
        if not chunk:
            raise ClientGone
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join([*self._input, end, b"\n"])
            self._input = []
            self._take(line)
        if rest:
            # Joined at the end of the line: a long one comes in thousands of parts.
            self._input.append(rest)

    def _take(self, line: bytes) -> None:
        """Answer a message, or hold it for the server."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            # The server knows what to say to this.
            self._held.append(Held(line, time.monotonic()))
            return

        params = message.get("params")
        if not isinstance(params, dict):
            params = {}
        if isinstance(message.get("id"), str | int):
            self._take_request(line, message, params)
        elif message["method"] == "notifications/cancelled":
            self._forget(params.get("requestId"))
        else:
            self._held.append(Held(line, time.monotonic()))

    def _take_request(self, line: bytes, message: JSON, params: JSON) -> None:
        method = message["method"]
        meta = params.get("_meta")
        if not isinstance(meta, dict):
            meta = {}
        is_handshake = method in ("initialize", "server/discover")
        if is_handshake and self._installation.problem:
            error = {"code": REFUSED, "message": self._installation.problem}
            self._send({"id": message["id"], "error": error})
            return

        answer = self._known_answer(method, params, meta.get(VERSION_KEY))
        if answer:
            if is_handshake:
                self._handshake.append(line)
            self._send({"id": message["id"], **answer})
            return

        if self._installation.problem and self._installation.seconds > RETRY_SECONDS:
            self._installation.start()
        held = Held(
            line,
            time.monotonic(),
            message["id"],
            era=_era(meta.get(VERSION_KEY)),
            token=meta.get("progressToken"),
        )
        if method == "tools/call":
            held.tool = str(params.get("name"))
        self._held.append(held)

    def _known_answer(self, method: str, params: JSON, version: Any) -> JSON | None:
        """The server's own answer, if it is the same for everybody. `version`: of a request of the modern era."""
        if version is not None and version not in self._answers["modern_versions"]:
            error: JSON = self._answers["unsupported_version"]["error"]
            data = {**error["data"], "requested": version}
            return {"error": {**error, "data": data}}

        answer: JSON | None = self._answers[_era(version)].get(method)
        if method == "initialize" and answer:
            wanted = params.get("protocolVersion")
            if wanted in self._answers["legacy_versions"]:
                return {"result": {**answer["result"], "protocolVersion": wanted}}
        return answer

    def _forget(self, request_id: Any) -> None:
        """Drop a request that was cancelled: nobody waits for its answer, and the server never sees it."""
        if request_id is not None:
            self._held = [held for held in self._held if held.id != request_id]

    # --- answering what is held

    def _answer_waiting(self) -> None:
        """Say how the installation goes, and answer the requests that need not wait for it any longer."""
        remaining = []
        for held in self._held:
            if not self._answer_if_due(held):
                remaining.append(held)
        self._held = remaining

    def _answer_if_due(self, held: Held) -> bool:
        """True if the request was answered."""
        if held.id is None:
            return False
        if self._installation.problem:
            self._fail(held, {"message": self._installation.problem})
            return True

        waited = time.monotonic() - held.arrived
        patience = HOLD_SECONDS
        if held.token is not None:
            patience = HOLD_WITH_PROGRESS_SECONDS
        if waited > patience:
            seconds = int(self._installation.seconds)
            failure = {
                "message": f"codex-counsel is still being installed, for {seconds} s now; Codex was not asked.",
                "repair": "Do something else first, then call again: the installation goes on meanwhile.",
                "retry_after_ms": RETRY_AFTER_MS,
            }
            self._fail(held, failure)
            return True

        if held.token is not None and waited > 1 + held.reports * PROGRESS_SECONDS:
            self._report(held, int(waited))
        return False

    def _report(self, held: Held, seconds: int) -> None:
        held.reports += 1
        # Progress must grow, and the server's begins at 1.
        progress = 1 - 1 / (1 + held.reports)
        params = {
            "progressToken": held.token,
            "progress": progress,
            "message": f"installing codex-counsel, which happens once ({seconds}s)",
        }
        self._send({"method": "notifications/progress", "params": params})

    def _fail(self, held: Held, failure: JSON) -> None:
        """Answer a request for the server. `failure` are the fields of the envelope's `error` that are special."""
        if held.tool is None:
            error = {"code": REFUSED, "message": failure["message"]}
            self._send({"id": held.id, "error": error})
            return
        template = self._answers[held.era]["failed call"]
        result = failed_call(template, held.tool, failure)
        self._send({"id": held.id, "result": result})

    def _send(self, message: JSON) -> None:
        """Write one message; raise ClientGone where nobody reads it."""
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        while data:
            # A pipe with room for anything has room for a chunk of this size.
            _, writable, _ = select.select([], [1], [], STUCK_SECONDS)
            if not writable:
                raise ClientGone
            try:
                data = data[os.write(1, data[:CHUNK]) :]
            except OSError:
                raise ClientGone from None


def _era(version: Any) -> str:
    """Requests of the modern era name their protocol version."""
    return "legacy" if version is None else "modern"


def failed_call(template: JSON, tool: str, failure: JSON) -> JSON:
    """The result of a call whose server is not there, in the form of `template`, a recorded one of another tool."""
    result: JSON = json.loads(json.dumps(template))
    envelope = result["structuredContent"]
    error = envelope["error"]
    text = result["content"][0]["text"]
    for name in ("message", "repair"):
        text = text.replace(error[name], failure.get(name, error[name]))
    error |= failure
    envelope["tool"] = tool
    words = " ".join(error["message"].split())
    if len(words) > MAX_SUMMARY:
        words = words[: MAX_SUMMARY - 1] + "…"
    envelope["summary"] = f"{tool} failed: {words}"
    result["content"][0]["text"] = text
    return result
