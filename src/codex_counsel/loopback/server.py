"""The scripted model service: records what it is asked and lets the script answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from threading import Condition
from typing import TYPE_CHECKING, Any, Self

from codex_counsel.loopback import provider
from codex_counsel.loopback.account import Account
from codex_counsel.loopback.connections import Connections, Visit
from codex_counsel.loopback.request import JSON, Request, thread_of
from codex_counsel.loopback.trouble import error, http_error

if TYPE_CHECKING:
    from types import TracebackType

    from codex_counsel.loopback.reply import Reply, Script
    from codex_counsel.loopback.wire import Line

WAIT_SECONDS = 60.0
TOKEN_PATH = "/oauth/token"  # noqa: S105  # a path
COMPRESSED = (
    "compressed bodies are not read here: set features.enable_request_compression=false"
)


class Loopback:
    """A model service on 127.0.0.1, listening from construction to `close`, which hangs up on everybody.

    `requests` are the model requests in order of arrival, `visits` all others.
    """

    def __init__(self, script: Script, account: Account | None = None) -> None:
        self.account = account or Account()
        self.requests: list[Request] = []
        self.visits: list[Visit] = []
        self._script = script
        self._mistakes: list[Exception] = []
        self._arrival = Condition()
        self._connections = Connections(self._serve)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
        if self._mistakes and value is None:
            raise self._mistakes[0]

    def close(self) -> None:
        """Hang up on everybody, open every gate, and wait until every thread has ended. May be called twice."""
        self._connections.close()

    @property
    def base_url(self) -> str:
        return f"{self._origin}/v1"

    @property
    def chatgpt_base_url(self) -> str:
        """The account's back end, for `-c chatgpt_base_url=…`."""
        return f"{self._origin}/backend-api/"

    @property
    def refresh_url(self) -> str:
        """The token endpoint, for the environment variable `CODEX_REFRESH_TOKEN_URL_OVERRIDE`."""
        return f"{self._origin}{TOKEN_PATH}"

    @property
    def _origin(self) -> str:
        return f"http://127.0.0.1:{self._connections.server_port}"

    def config_toml(self, model: str | None = None, **keys: Any) -> str:
        """Text for `$CODEX_HOME/config.toml` that makes this the user's provider.

        `keys` go to `provider.table`: `env_key`, `retries`, or any further key of a
        provider.
        """
        return provider.config_toml(provider.table(self.base_url, **keys), model)

    def asked(self, count: int = 1, timeout: float = WAIT_SECONDS) -> list[Request]:
        """The first `count` model requests, waiting for them if need be."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.requests) >= count, timeout):
                raise TimeoutError(
                    f"{len(self.requests)} of {count} model requests after {timeout} s"
                )
            return self.requests[:count]

    def _serve(self, visit: Visit, line: Line) -> None:
        path = visit.path.partition("?")[0]
        if (
            visit.method == "POST"
            and path.endswith("/responses")
            and "content-encoding" not in visit.headers
        ):
            self._model(visit, line)
        else:
            self.visits.append(visit)
            status, body = self._resource(path, visit)
            line.respond(status, json.dumps(body).encode(), {})

    def _model(self, visit: Visit, line: Line) -> None:
        request = self._record(visit)
        try:
            self._reply(request).play(request, line)
        except OSError:
            pass  # the client went away, or the server is closing
        except Exception as mistake:
            self._mistakes.append(mistake)
            raise
        finally:
            request.over.set()

    def _resource(self, path: str, visit: Visit) -> tuple[int, JSON]:
        if "upgrade" in visit.headers:
            return HTTPStatus.UPGRADE_REQUIRED, error("no_websockets")
        if "content-encoding" in visit.headers:
            return HTTPStatus.BAD_REQUEST, error("compressed", COMPRESSED)
        if path.endswith("/models"):
            return HTTPStatus.OK, {"models": []}
        if path == TOKEN_PATH:
            return self.account.refresh()
        page = self.account.resource(path)
        return (
            (HTTPStatus.NOT_FOUND, error("not_found", path))
            if page is None
            else (HTTPStatus.OK, page)
        )

    def _record(self, visit: Visit) -> Request:
        body = json.loads(visit.body)
        thread = thread_of(visit.headers, body)
        with self._arrival:
            index = sum(request.thread_id == thread for request in self.requests)
            request = Request(visit.path, visit.headers, body, thread, index)
            self.requests.append(request)
            self._arrival.notify_all()
        return request

    def _reply(self, request: Request) -> Reply:
        """The script's reply. A function that fails is a refused request, and raised again by `__exit__`."""
        try:
            return _chosen(self._script, request)
        except Exception as mistake:  # noqa: BLE001  # whatever the script's function raises
            self._mistakes.append(mistake)
            return http_error(
                HTTPStatus.BAD_REQUEST, error("script_failed", repr(mistake))
            )


def _chosen(script: Script, request: Request) -> Reply:
    if callable(script):
        return script(request)
    if isinstance(script, Sequence):
        return script[min(request.index, len(script) - 1)]
    return script
