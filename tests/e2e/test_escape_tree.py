"""A delegated task that fills, breaks or distorts its own tree: the run ends, its work is there, and nothing stays."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World
from tests.e2e.delegation import assert_unchanged, delegate
from tests.e2e.escape.attacks import attack
from tests.e2e.runs import assert_nothing_is_left

Model = Callable[..., Loopback]

DEEP = "python3 -c \"import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')\""
"""A path of 3,000 directories, longer than any system call takes."""
MANY = "python3 -c \"for n in range(10000): open(f'many/{n}', 'w').write(str(n))\""
SOCKET = "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('socket')\""
SPOILS = {
    "3,000 nested directories in its tree": f"{DEEP}; echo SPOILT",
    "3,000 nested directories in the temporary directory": f'cd "$TMPDIR"; {DEEP}; echo SPOILT',
    "directories and files without permissions": (
        'for top in . "$TMPDIR"; do mkdir -p "$top/shut/inner"; echo x > "$top/shut/inner/file";'
        ' chmod 000 "$top/shut/inner/file" "$top/shut/inner" "$top/shut"; done; chmod 500 .; echo SPOILT'
    ),
    "10,000 files in its tree": f"mkdir many; {MANY}; echo SPOILT",
    "a pipe and a socket": f"mkfifo pipe; {SOCKET}; echo SPOILT",
    "a pipe in place of a tracked file": "rm app.py; mkfifo app.py; echo SPOILT",
    "a link that git refuses": "ln -s app.py .gitmodules; echo SPOILT",
    "git's directory as another system spells it": "mkdir '.git.'; echo x > '.git./x'; echo SPOILT",
    "a file of 500 GB that takes no room": "truncate -s 500G sparse.bin; echo SPOILT",
    "names that are no text": r"touch $'caf\xe9' $'line\nbreak' -- '-rf' $'\x1b[31m'; echo SPOILT",
}


@pytest.fixture
def removed_at_the_end(each_release: World) -> Iterator[None]:
    """Remove what a failed test left: pytest cannot remove directories that are so deep."""
    yield
    for path in (each_release.home / ".cache", each_release.temp):
        subprocess.run(["rm", "-rf", path], check=True)


@attack(
    "A task fills its directories, nests 3,000 of them, closes them, or makes pipes and strange names in them",
    read_only="does not apply",
)
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.usefixtures("removed_at_the_end")
def test_a_task_that_spoils_its_tree_ends_with_its_work_and_leaves_nothing(
    each_release: World, each_model: Model, spoil: str
) -> None:
    workspace = each_release.repository.begin().root
    server = each_model(
        [
            shell(f"echo made > made.txt\n{spoil}", yield_time_ms=30_000),
            say("Done."),
        ]
    )
    with assert_unchanged(workspace):
        wire = delegate(each_release)
    assert "SPOILT" in server.requests[-1].outputs[0]
    assert wire["status"] == "completed", wire
    patch = Path(wire["diff_path"]).read_text("utf-8", "surrogateescape")
    assert "+++ b/made.txt" in patch
    assert_nothing_is_left(each_release)
