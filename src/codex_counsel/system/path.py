"""Where this runs: POSIX systems. Elsewhere one typed refusal, before anything that only POSIX has is imported.

And which of its programs are the user's own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from codex_counsel.errors import Code, CounselError


def require_posix() -> None:
    """Raise `unsupported_platform` on Windows."""
    if os.name != "posix":
        raise CounselError(Code.UNSUPPORTED_PLATFORM, f"This system ({sys.platform}) is not POSIX")


def search_path(variable: str, without: Path | None = None) -> str:
    """The absolute entries of a `PATH`, those inside `without` left out: what lies there is not the user's own."""
    entries = [entry for entry in variable.split(os.pathsep) if entry.startswith("/")]
    kept = [entry for entry in entries if not (without and Path(entry).resolve().is_relative_to(without))]
    return os.pathsep.join(kept) or os.defpath
