"""Which names a list of patterns matches, as git itself reads a `.gitignore` at the top of a repository.

Git is asked in an empty repository of ours, so that no ignore file of the user's or of
the working tree has a say.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.system.temporary import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from codex_counsel.git.repo import Repo

PREFIX = "codex-counsel-patterns-"
MATCHED = (0, 1)
"""Exit codes of `git check-ignore`: some names are matched, or none."""


def matching(
    repo: Repo, patterns: Iterable[str], names: Collection[bytes]
) -> frozenset[bytes]:
    """The names, from the root, that the patterns match. One git process.

    None of them may be empty. Raises `timeout`, and `storage_failed` where no temporary
    file can be written.
    """
    lines = "".join(f"{pattern}\n" for pattern in patterns)
    if not lines or not names:
        return frozenset()
    # A name that begins with a colon would be read as more than a name.
    stdin = b"".join(b"./" + name + b"\0" for name in names)
    try:
        with temporary_directory(PREFIX) as directory:
            repository, tree = directory / "git", directory / "tree"
            for folder in ("objects", "refs", "info"):
                (repository / folder).mkdir(parents=True)
            tree.mkdir()
            (repository / "HEAD").write_text("ref: refs/heads/none\n", "utf-8")
            (repository / "info/exclude").write_text(lines, "utf-8")
            env = {
                "GIT_DIR": str(repository),
                "GIT_WORK_TREE": str(tree),
                "GIT_LITERAL_PATHSPECS": "0",
                "GIT_CONFIG_PARAMETERS": f"'core.excludesFile={os.devnull}' 'core.ignoreCase=false'",
            }
            arguments = ("check-ignore", "--no-index", "-z", "--stdin")
            output = repo.git(*arguments, stdin=stdin, env=env, ok=MATCHED)
    except CounselError as error:
        if error.code == Code.TIMEOUT:
            error.message = f"{len(names)} names were not compared with the patterns in time. {error.message}"
            error.repair = (
                "Use fewer stars in the patterns of the project file, narrow the request with paths, or raise "
                "CODEX_COUNSEL_GIT_TIMEOUT_SECONDS."
            )
        raise
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, "No temporary file can be written", error
        ) from None
    found = output.split(b"\0")[:-1]
    return frozenset(name.removeprefix(b"./") for name in found)
