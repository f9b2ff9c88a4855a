"""Which paths of a diff a caller must accept by name, because a patch to them is a way out of the sandbox."""

from __future__ import annotations

import re

LINK = "120000"
"""Git's mode of a symbolic link."""
SENSITIVE = re.compile(
    rb"(?:^|/)(?:\.claude/|\.codex/|\.agents/|\.cursor/|\.vscode/|\.idea/|\.devcontainer/|\.husky/|\.githooks/|\.git/|"
    rb"\.gitmodules$|\.gitattributes$|\.mcp\.json$|\.envrc$|"
    rb"\.env(?:\.|$)|CLAUDE(?:\.local)?\.md$|AGENTS\.md$|\.pre-commit-config\.yaml$|\.github/(?:workflows|actions)/|\.gitlab-ci\.yml$)",
    re.IGNORECASE,
)
"""Paths of files that tools execute or follow as instructions."""


def sensitive_paths(name: bytes, old_name: bytes | None, mode: str) -> list[bytes]:
    """Which names of one changed file must be accepted: at most its name and the one before a rename.

    `mode` is git's mode after the change. Every link is sensitive, wherever it lies.
    """
    sensitive = []
    if mode == LINK or SENSITIVE.search(name):
        sensitive.append(name)
    if old_name and SENSITIVE.search(old_name):
        sensitive.append(old_name)
    return sensitive
