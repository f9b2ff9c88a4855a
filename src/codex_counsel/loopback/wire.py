"""The line to one client: what a reply may do with it, in the words of HTTP and server-sent events."""

from __future__ import annotations

import json
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.server import BaseHTTPRequestHandler
    from threading import Event


class Line:
    """One connection, good for one answer. It is closed when the reply returns: hanging up is returning early."""

    def __init__(
        self, handler: BaseHTTPRequestHandler, wait: Callable[[Event], None]
    ) -> None:
        self._handler = handler
        self.wait = wait
        """Block until the event is set or the server closes."""

    def respond(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Answer in one piece, as errors and JSON resources are answered."""
        self._head(
            status,
            {
                "content-type": "application/json",
                **headers,
                "content-length": str(len(body)),
            },
        )
        self._handler.wfile.write(body)

    def open(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of events; it ends with the connection."""
        self._head(
            HTTPStatus.OK, {"content-type": "text/event-stream", **(headers or {})}
        )

    def event(self, kind: str, **fields: Any) -> None:
        self.raw(
            f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
        )

    def raw(self, data: bytes) -> None:
        self._handler.wfile.write(data)

    def silence(self, seconds: float | None) -> None:
        """Say nothing for so long (None: for ever), at most until the client or the server goes away."""
        connection = self._handler.connection
        connection.settimeout(seconds)
        try:
            if not connection.recv(1, socket.MSG_PEEK):
                raise ConnectionResetError
        except TimeoutError:
            connection.settimeout(None)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._handler.send_response(status)
        for name, value in {**headers, "connection": "close"}.items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
