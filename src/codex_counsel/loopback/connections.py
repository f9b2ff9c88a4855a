"""HTTP on 127.0.0.1: one daemon thread per connection, and none left after `close`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

from codex_counsel.loopback.wire import Line

if TYPE_CHECKING:
    from collections.abc import Mapping

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Visit:
    """An HTTP request as it came in; header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Service = Callable[[Visit, Line], None]


class Connections(ThreadingHTTPServer):
    """Listens from construction on. Keeps its connections and the events waited for, so that `close` can end all."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: Service) -> None:
        self.service = service
        self._lock = Lock()
        self._open: dict[socket.socket, Thread] = {}
        self._awaited: list[Event] = []
        self._closing = False
        super().__init__(("127.0.0.1", 0), _Handler)
        self._accepting = Thread(
            target=self.serve_forever, args=(POLL_SECONDS,), daemon=True
        )
        self._accepting.start()

    def close(self) -> None:
        """Stop accepting, hang up on everybody, wait until every thread has ended. May be called twice."""
        self.shutdown()
        self._accepting.join()
        for thread in self._hang_up():
            thread.join()
        self.server_close()

    def wait(self, event: Event) -> None:
        """Wait for an event, which a closing server sets as well."""
        with self._lock:
            self._awaited.append(event)
            if self._closing:
                event.set()
        event.wait()
        with self._lock:
            self._awaited.remove(event)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            daemon=True,
        )
        with self._lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is an everyday event here."""

    def _hang_up(self) -> list[Thread]:
        with self._lock:
            self._closing = True
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for event in self._awaited:
                event.set()
            return list(self._open.values())


class _Handler(BaseHTTPRequestHandler):
    server: Connections
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        visit = Visit(self.command, self.path, headers, self.rfile.read(length))
        self.close_connection = True  # also when the reply hangs up without a word
        self.server.service(visit, Line(self, self.server.wait))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # named by the base class

    def log_message(self, *_: object) -> None:
        """Keep quiet: the service keeps its own record."""
