"""AGENTS.md of a repository, as material for the prompt: Codex itself does not load it in our runs.

For a consultation and a delegate it is read from disk. For a review it is read from the
base revision only, because a reviewed branch must not instruct its reviewer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.git.revision import entries
from codex_counsel.prepare.prompt_parts import Material
from codex_counsel.prepare.revision_files import read_files
from codex_counsel.prepare.secret_files import find_secrets
from codex_counsel.system.files import read_regular
from codex_counsel.system.redact import mask
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from codex_counsel.contract.settings import Settings
    from codex_counsel.git.repo import Repo
    from codex_counsel.prepare.workspace import ResolvedWorkspace

FILE_NAME = "AGENTS.md"
MAX_GUIDANCE = 32_000
"""Of one file; the rest of it is not sent."""


@dataclass(frozen=True)
class Guidance:
    """What is sent, and a warning for each AGENTS.md that is a link to a file that may not be sent."""

    material: tuple[Material, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _File:
    """An AGENTS.md; `text` is None where it does not exist or may not be sent."""

    name: str
    is_link: bool
    text: str | None


def on_disk(workspace: ResolvedWorkspace, settings: Settings) -> Guidance:
    """The AGENTS.md files from the repository's top down to the workspace, as they are on disk."""
    top = workspace.outermost
    folders = [
        folder
        for folder in (*reversed(workspace.root.parents), workspace.root)
        if folder.is_relative_to(top)
    ]
    files = []
    for folder in folders:
        path = folder / FILE_NAME
        files.append(
            _File(str(path), path.is_symlink(), _read_on_disk(path, workspace))
        )
    return _guidance_from(files, settings)


def _read_on_disk(path: Path, workspace: ResolvedWorkspace) -> str | None:
    """The text; of a link, the text of the file it leads to, where that belongs to the repository as well."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    if not real.is_relative_to(workspace.outermost) or ".git" in real.parts:
        return None
    is_denied = any(real.is_relative_to(denied) for denied in workspace.denied)
    if is_denied or secret_name(str(real)):
        return None
    if path.is_symlink() and _is_found_secret(real, workspace):
        return None
    data = read_regular(real, MAX_GUIDANCE)
    if data is None:
        return None
    return data.decode("utf-8", "replace")


def _is_found_secret(real: Path, workspace: ResolvedWorkspace) -> bool:
    """Whether runs are denied this file because a link with the name of a secret file leads to it, or may do so.

    The whole workspace is searched, so it is asked only of what a link names.
    """
    found = find_secrets((workspace.outermost,))
    secrets = (*found.paths, *found.undeniable)
    is_secret = any(real.is_relative_to(path) for path in secrets)
    return is_secret or not found.complete


def of_revision(
    repo: Repo, revision: str | None, workspace: ResolvedWorkspace, settings: Settings
) -> Guidance:
    """The AGENTS.md files from the repository's top down to the workspace, as they are in a commit."""
    if revision is None:
        return Guidance()
    names = [folder + FILE_NAME.encode() for folder in folders_down_to(repo.prefix)]
    found = entries(repo, revision, names)
    in_order = {name: found[name] for name in names if name in found}
    files = []
    for file in read_files(repo, revision, in_order, workspace, MAX_GUIDANCE):
        text = None
        if file.data is not None:
            text = file.data.decode("utf-8", "replace")
        files.append(_File(os.fsdecode(file.name), file.is_link, text))
    return _guidance_from(files, settings)


def folders_down_to(prefix: bytes) -> list[bytes]:
    """The folders from the repository's top down to `prefix`, each but the top with a slash at its end."""
    parts = prefix.split(b"/")[:-1]
    folders = [b""]
    for part in parts:
        folders.append(folders[-1] + part + b"/")
    return folders


def _guidance_from(files: list[_File], settings: Settings) -> Guidance:
    """The files as material, masked. With isolation `strict` none is sent."""
    if settings.isolation == "strict":
        return Guidance()
    material = []
    warnings = []
    for file in files:
        if file.text and file.text.strip():
            material.append(Material(file.name, mask(file.text)[0]))
        elif file.is_link and file.text is None:
            warnings.append(
                f"not sent: {file.name} is a link to no file of the repository"
            )
    return Guidance(tuple(material), tuple(warnings))
