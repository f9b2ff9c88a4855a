"""The verb `compare`: the diffs of delegated tasks beside each other, on the terminal or as a page in the browser."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from codex_counsel.cli.render import Output, Target
from codex_counsel.errors import DONE, Code, CounselError
from codex_counsel.services import comparison, results
from codex_counsel.system.files import UnsafeDirectoryError, make_private

PAGE = "pages/compare.html"
"""The file in the state directory that --open writes where no other is named. It is replaced each time."""
PATIENCE = 3.0
"""Seconds for a program that opens a page; one that is the browser itself goes on."""
_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


def run(arguments: argparse.Namespace, jobs: list[str]) -> int:
    """Compare these jobs; returns the exit code."""
    output = Output.of(arguments)
    output.check(documents=("html",))
    store = results.open_store()
    wire = comparison.compare(store, jobs)
    if arguments.open and not _pages(output):
        output = replace(output, targets=(*output.targets, _page_of(store.state)))
    output.show(wire)
    if arguments.open:
        _open(_pages(output)[0].file.absolute(), quiet=arguments.quiet)
    return DONE


def _pages(output: Output) -> list[Target]:
    return [target for target in output.targets if target.format == "html"]


def _page_of(state: Path) -> Target:
    """A file that only this user can read."""
    file = state / PAGE
    try:
        make_private(file.parent)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        file.chmod(0o600)
    except (OSError, UnsafeDirectoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CounselError(
            Code.STORAGE_FAILED,
            f"--open: {file}: {reason}",
            repair="Name a file that can be written: --output html=FILE.",
        ) from None
    return Target("html", file)


def _open(file: Path, *, quiet: bool) -> None:
    """Open the page in the browser of the desktop, and say on stderr where it is."""
    words = f"the page is at {file}"
    if not _has_desktop(os.environ):
        words = f"there is no desktop here to open a browser on; {words}"
    elif not _opened(file):
        words = f"no browser could be started; {words}"
    if not quiet:
        print(words, file=sys.stderr)


def _has_desktop(env: Mapping[str, str]) -> bool:
    """Whether a browser would get a window of its own. Otherwise one for the terminal might be started."""
    if sys.platform == "darwin" or env.get("BROWSER"):
        return True
    return bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))


def _opened(file: Path) -> bool:
    """Whether a browser took the page, as far as can be told within `PATIENCE`."""
    # A program that $BROWSER names may not return before its window is closed.
    opener = subprocess.Popen(
        [sys.executable, "-I", "-c", _OPEN, file.as_uri()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return opener.wait(PATIENCE) == 0
    except subprocess.TimeoutExpired:
        return True
