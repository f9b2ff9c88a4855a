"""Whether this bridge can run on this system. Imports little: also `--help` waits for it."""

from __future__ import annotations

import os
import sys

from codex_counsel.errors import Code, CounselError


def require_posix() -> None:
    """Raise `unsupported_platform` on Windows.

    To be called before a module is imported that exists only on POSIX systems.
    """
    if os.name != "posix":
        raise CounselError(
            Code.UNSUPPORTED_PLATFORM, f"This system ({sys.platform}) is not POSIX"
        )
