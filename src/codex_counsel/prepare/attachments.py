"""Files that a caller names and that go along with a prompt: images and plans.

The caller is an agent, which a text that it read may have talked into naming any file.
Inside the workspace a file goes unless it is a secret. From outside goes only what the
feature needs: a text for a plan, a picture for an image, none of them hidden, of the
system or of another user. What is checked is the file that was opened: no link and no
exchange leads elsewhere afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.directories import HOMES, is_of_the_system
from codex_counsel.system.directory_descriptors import read_file
from codex_counsel.system.redact import mask
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace

MAX_IMAGE = 20_000_000
"""Bytes of one image."""
MAX_PLAN = 2_000_000
"""Bytes read of a plan; the limit for author text is checked afterwards."""

PLAN_SUFFIXES = (
    ".md",
    ".markdown",
    ".mdx",
    ".txt",
    ".text",
    ".rst",
    ".adoc",
    ".asciidoc",
    ".org",
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
"""The names of what may come from outside the workspace, in lower case."""


@dataclass(frozen=True)
class Image:
    """A picture as it is sent. `name` is safe as the name of a file; the path that it was read from may not be."""

    name: str
    data: bytes


# --- what goes along


def images(
    names: Iterable[str], workspace: ResolvedWorkspace, context: Context
) -> tuple[tuple[Image, ...], tuple[str, ...]]:
    """The images, read, and a warning for each from outside the workspace.

    Raises `invalid_arguments` for one that may not be sent, or is no image.
    """
    read = []
    warnings = []
    for number, name in enumerate(names, 1):
        path = _checked("images", name, workspace, context, IMAGE_SUFFIXES)
        data = _read("images", name, path, MAX_IMAGE)
        if len(data) > MAX_IMAGE or not _is_image(data):
            raise _refusal(
                "images", name, "is not a PNG, JPEG, GIF or WebP file of at most 20 MB"
            )
        # The model is told the name, so it stays recognisable.
        safe_name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name)[-100:]
        read.append(Image(f"{number}-{safe_name}", data))
        is_of_request = path.is_relative_to(workspace.root) or _is_of_a_pack(
            path, context
        )
        if not is_of_request:
            warnings.append(f"image from outside the workspace: {path}")
    return tuple(read), tuple(warnings)


def _is_image(data: bytes) -> bool:
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return True
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def plan(
    text: str | None,
    path: str | None,
    workspace: ResolvedWorkspace,
    context: Context,
    *,
    required: bool,
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
        return _plan_file(path, workspace, context)
    if required and not text:
        raise CounselError(Code.INVALID_ARGUMENTS, "plan: give the text, or plan_path")
    return text or "", ()


def _plan_file(
    name: str, workspace: ResolvedWorkspace, context: Context
) -> tuple[str, tuple[str, ...]]:
    path = _checked("plan_path", name, workspace, context, PLAN_SUFFIXES)
    data = _read("plan_path", name, path, MAX_PLAN)
    text = data[:MAX_PLAN].decode("utf-8", "replace")
    if not text.strip():
        raise _refusal("plan_path", name, "is blank")

    warnings = []
    masked, count = mask(text)
    if count:
        warnings.append(f"{count} token-like strings were masked in the plan")
    if not path.is_relative_to(workspace.root):
        warnings.append(f"plan from outside the workspace: {path}")
    return masked, tuple(warnings)


# --- which file may go


def _checked(
    argument: str,
    name: str,
    workspace: ResolvedWorkspace,
    context: Context,
    suffixes: tuple[str, ...],
) -> Path:
    """The real path of a file that the caller names. Raises `invalid_arguments` where it may not be sent."""
    try:
        path = (workspace.root / name).resolve()
    except (OSError, RuntimeError):
        raise _refusal(argument, name, "cannot be resolved") from None

    inside = path.is_relative_to(workspace.outermost)
    of_a_plan = any(path.is_relative_to(folder) for folder in _plan_folders(context))
    is_denied = any(path.is_relative_to(denied) for denied in workspace.denied)
    if secret_name(str(path)) or ".git" in path.parts or (is_denied and not of_a_plan):
        raise _refusal(argument, name, "is not a regular file that may be sent")
    if inside:
        return path

    if path.suffix.lower() not in suffixes:
        raise _refusal(
            argument,
            name,
            f"lies outside the workspace, from where only {' '.join(suffixes)} may be sent",
        )
    if of_a_plan or _is_of_a_pack(path, context):
        return path
    problem = _problem_outside(path, workspace, context)
    if problem:
        raise _refusal(argument, name, f"lies outside the workspace and {problem}")
    return path


def _is_of_a_pack(path: Path, context: Context) -> bool:
    """Whether the file came with a request from another machine."""
    return path.is_relative_to(context.directories.packs.resolve())


def _plan_folders(context: Context) -> tuple[Path, ...]:
    """Where Claude Code keeps its plans, in a directory that is otherwise closed."""
    configuration = [context.directories.home / ".claude"]
    if context.env.get("CLAUDE_CONFIG_DIR"):
        configuration.append(Path(context.env["CLAUDE_CONFIG_DIR"]))
    return tuple((folder / "plans").resolve() for folder in configuration)


def _problem_outside(
    path: Path, workspace: ResolvedWorkspace, context: Context
) -> str | None:
    """Why this file is none that a person would attach, or None."""
    if any(part.startswith(".") for part in path.parts):
        return "is hidden: a part of its path begins with a dot"
    if is_of_the_system(path):
        return "belongs to the system"

    home = _home_around(path)
    own_homes = (context.directories.home.resolve(), _home_around(workspace.root))
    if home is not None and home not in own_homes:
        return "belongs to another user"
    return None


def _home_around(path: Path) -> Path | None:
    """The home directory that the path lies in, whosever it is."""
    for base in (Path("/root"), Path("/var/root")):
        if path.is_relative_to(base):
            return base
    for base in HOMES:
        if path.is_relative_to(base) and path != base:
            return base / path.relative_to(base).parts[0]
    return None


def _read(argument: str, name: str, path: Path, limit: int) -> bytes:
    """At most one byte more than `limit`."""
    try:
        data = read_file(path, limit + 1)
    except OSError as error:
        raise _refusal(argument, name, f"cannot be read: {error.strerror}") from None
    if data is None:
        raise _refusal(argument, name, "is not a regular file that may be sent")
    return data


def _refusal(argument: str, name: str, problem: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, f"{argument}: {name} {problem}")
