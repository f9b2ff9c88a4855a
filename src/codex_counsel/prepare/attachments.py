"""Files that a caller names and that go along with a prompt: images and plans."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.workspace import ResolvedWorkspace
from codex_counsel.system.files import read_regular
from codex_counsel.system.redact import mask

MAX_IMAGE = 20_000_000
"""Bytes of one image."""
MAX_PLAN = 2_000_000
"""Bytes read of a plan; the limit for author text is checked afterwards."""


def images(names: Iterable[str], workspace: ResolvedWorkspace) -> tuple[Path, ...]:
    """The image files, resolved. Raises `invalid_arguments` for one that may not be sent, or is no image."""
    return tuple(_image(name, workspace) for name in names)


def _image(name: str, workspace: ResolvedWorkspace) -> Path:
    path = workspace.file("images", name)
    try:
        info = path.stat()
    except OSError as error:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"images: {name}: {error.strerror}"
        ) from None
    if not stat.S_ISREG(info.st_mode):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"images: {name} is not a regular file that may be sent",
        )
    if info.st_size > MAX_IMAGE or not _is_image(path):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"images: {name} is not a PNG, JPEG, GIF or WebP file of at most 20 MB",
        )
    return path


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return True
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def plan(
    text: str | None, path: str | None, workspace: ResolvedWorkspace, *, required: bool
) -> tuple[str, tuple[str, ...]]:
    """The text of a plan and the warnings about it. Only a plan from a file is masked.

    Raises `invalid_arguments` when both are set, when none is set and one is
    `required`, or when the file may not be sent.
    """
    if text and path:
        raise CounselError(
            Code.INVALID_ARGUMENTS, "plan and plan_path: give one of them"
        )
    if path:
        return _plan_file(path, workspace)
    if required and not text:
        raise CounselError(Code.INVALID_ARGUMENTS, "plan: give the text, or plan_path")
    return text or "", ()


def _plan_file(name: str, workspace: ResolvedWorkspace) -> tuple[str, tuple[str, ...]]:
    path = workspace.file("plan_path", name)
    data = read_regular(path, MAX_PLAN)
    if data is None:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"plan_path: {name} is not a readable regular file"
        )
    text = data.decode("utf-8", "replace")
    if not text.strip():
        raise CounselError(Code.INVALID_ARGUMENTS, f"plan_path: {name} is blank")

    warnings = []
    masked, count = mask(text)
    if count:
        warnings.append(f"{count} token-like strings were masked in the plan")
    if not path.is_relative_to(workspace.root):
        warnings.append(f"plan from outside the workspace: {path}")
    return masked, tuple(warnings)
