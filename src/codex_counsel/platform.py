"""Where this runs: POSIX systems. Elsewhere one typed refusal, before anything that only POSIX has is imported."""

from __future__ import annotations

import os
import sys

from codex_counsel.errors import Code, CounselError


def require_posix() -> None:
    """Raise `unsupported_platform` on Windows."""
    if os.name != "posix":
        raise CounselError(Code.UNSUPPORTED_PLATFORM, f"This system ({sys.platform}) is not POSIX")
