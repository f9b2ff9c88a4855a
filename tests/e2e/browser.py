"""A real browser for the tests: Debian's `chromium`, over the pipe of its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

CHROMIUM = shutil.which("chromium")
PATIENCE = 30.0
"""Seconds for an answer of the browser."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
)
_WATCH = """
window.seen = [];
addEventListener("securitypolicyviolation", (event) => seen.push(event.violatedDirective));
addEventListener("error", (event) => seen.push(event.message));
"""


_EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium reads its commands from descriptor 3 and answers on 4."""


def _pipe() -> list[int]:
    """The two ends of a new pipe, with numbers that Chromium does not use for its own."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return ends


class Browser:
    """One window. `dialogs` is what scripts of the page said in dialogs."""

    def __init__(self, process: subprocess.Popen[bytes], out: int, into: int) -> None:
        self.dialogs: list[str] = []
        self._process = process
        self._out = out
        self._into = into
        self._buffer = b""
        self._last_id = 0
        self._session = ""
        self._loaded = False
        self._sent: dict[str, str] = {}

    @classmethod
    @contextlib.contextmanager
    def started(cls, profile: Path) -> Iterator[Self]:
        """A browser with this new profile directory; it is ended with the block."""
        from_browser, to_us = _pipe()
        to_browser, from_us = _pipe()
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _EXEC, str(to_browser), str(to_us)),
                *(str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"),
            ],
            pass_fds=(to_browser, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(to_us)
        browser = cls(process, from_browser, from_us)
        try:
            browser._attach()
            yield browser
        finally:
            with contextlib.suppress(OSError):
                browser._send("Browser.close", {})
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_browser)
            os.close(from_us)

    def _attach(self) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        (page,) = [target for target in targets if target["type"] == "page"]
        attached = self.call(
            "Target.attachToTarget", targetId=page["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    # --- what a test does

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, but for those that its policy forbids."""
        return list(self._sent.values())

    def open(self, page: Path, fragment: str = "", *, scripts: bool = True) -> None:
        """Load the file, and wait until it is there. Without `scripts` it runs none of its own."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        # Another fragment alone would not load the page again.
        self._go("about:blank")
        self._sent.clear()
        self.dialogs.clear()
        self._go(page.as_uri() + fragment)

    def _go(self, url: str) -> None:
        self._loaded = False
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not self._loaded:
            self._take(self._receive(deadline))

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def media(self, kind: str = "screen", *, scheme: str = "light") -> None:
        """Show the page as on a screen or on paper (`print`), in a `light` or `dark` scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def value(self, expression: str) -> Any:
        """The JSON-ready value of an expression in the page."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as `j` or `Escape`."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self, file: Path) -> None:
        """Write a picture (PNG) of the whole page."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))

    # --- the protocol: JSON texts that end with NUL

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; raises RuntimeError where the browser refuses it."""
        number = self._send(method, parameters)
        deadline = time.monotonic() + PATIENCE
        while True:
            message = self._receive(deadline)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._take(message)

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._into, data) :]
        return self._last_id

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select(
                [self._out], [], [], max(deadline - time.monotonic(), 0)
            )
            if not ready:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._out, 1 << 16)
            if not data:
                raise EOFError("the browser has ended")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _take(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self._sent[parameters["requestId"]] = parameters["request"]["url"]
            case "Network.loadingFailed" if parameters.get("blockedReason"):
                # It was never sent.
                self._sent.pop(parameters["requestId"], None)
            case "Page.javascriptDialogOpening":
                self.dialogs.append(parameters["message"])
                self._send("Page.handleJavaScriptDialog", {"accept": True})
