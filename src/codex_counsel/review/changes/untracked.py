"""Files of the working tree shown whole: untracked ones as diffs of new files, audited ones with numbered lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import header, quoted, shown
from codex_counsel.git.tree_reader import Found, Withheld
from codex_counsel.review.changes.budget import rank
from codex_counsel.review.changes.model import ChangedFile, Reason, Status
from codex_counsel.review.changes.tracked import NO_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from codex_counsel.git.attributes import Attributes
    from codex_counsel.review.changes.collector import Collector


class Form(NamedTuple):
    status: Status
    render: Callable[[bytes, Found], tuple[ChangedFile, bytes]]

    def bare(self, name: bytes) -> ChangedFile:
        """The file as far as it is known without being read."""
        return ChangedFile(shown(name.rstrip(b"/")), name.rstrip(b"/"), self.status, untracked=self.status == "A")


def take(gathering: Collector, names: Iterable[bytes], attributes: Mapping[bytes, Attributes], form: Form) -> None:
    """Offer or withhold each; a file that is gone meanwhile is passed over."""
    filters = gathering.repo.config.filters()
    for name in names:
        about = attributes.get(name, NO_ATTRIBUTES)
        try:
            _one(gathering, name, form, filtered=about.filter in filters, comes_last=about.comes_last)
        except Withheld as held:
            gathering.withhold(form.bare(name), held.reason, held.size)
        except FileNotFoundError:
            continue


def _one(gathering: Collector, name: bytes, form: Form, *, filtered: bool, comes_last: bool) -> None:
    if gathering.is_secret(form.bare(name)):
        raise Withheld(Reason.SECRET_FILE, _size(gathering, name))
    found = gathering.folder.read(name, gathering.pool.wants(rank(name, b"", marked=comes_last)))
    if filtered:
        raise Withheld(Reason.FILTERED, found.size)
    if is_binary(found.data):
        raise Withheld(Reason.BINARY, found.size)
    entry, text = form.render(name, found)
    gathering.offer(entry, text, len(text) + found.size - len(found.data), comes_last=comes_last)


def _size(gathering: Collector, name: bytes) -> int:
    seen = gathering.folder.look(name)
    return seen.st_size if seen else 0


def new_file(name: bytes, found: Found) -> tuple[ChangedFile, bytes]:
    """As git would show the file if it were added."""
    lines, ends = _lines(found)
    mode = "100755" if found.executable else "100644"
    entry = ChangedFile(shown(name), name, "A", untracked=True, modes=("000000", mode), added=len(lines))
    head = b"%s\nnew file mode %s\n" % (header(name, name), mode.encode())
    if not lines:
        return entry, head
    tab = b"\t" if b" " in name else b""
    head += b"--- /dev/null\n+++ %s%s\n@@ -0,0 +1%s @@\n" % (quoted(b"b/" + name), tab, _count(len(lines)))
    return entry, head + b"+" + b"\n+".join(lines) + b"\n" + (b"" if ends else b"\\ No newline at end of file\n")


def numbered(name: bytes, found: Found) -> tuple[ChangedFile, bytes]:
    """A headline, then every line with its number: a line of content can never pass for a headline."""
    lines, _ = _lines(found)
    rows = (b"%d\t%s\n" % row for row in enumerate(lines, 1))
    entry = ChangedFile(shown(name), name, "F", modes=("", "100755" if found.executable else "100644"))
    return entry, b"=== %s (%d bytes)\n" % (quoted(name), found.size) + b"".join(rows)


def _lines(found: Found) -> tuple[list[bytes], bool]:
    """The lines that were read whole, and whether the last one ends with a line end."""
    text = utf8(found.data)
    if len(found.data) < found.size:
        text = text[: text.rfind(b"\n") + 1]
    lines = text.split(b"\n")
    ends = not lines[-1]
    return (lines[:-1] if ends else lines), ends


UNTRACKED = Form("A", new_file)
AUDITED = Form("F", numbered)


def _count(lines: int) -> bytes:
    return b"" if lines == 1 else b",%d" % lines
