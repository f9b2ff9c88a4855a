"""Files of the working tree shown whole: untracked ones as diffs of new files, audited ones with numbered lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.git.attributes import NO_ATTRIBUTES
from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import diff_header, display_name, quote
from codex_counsel.git.tree_reader import FileContent, UnreadableError
from codex_counsel.review.changes.budget import rank
from codex_counsel.review.changes.model import ChangedFile, FileStatus, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from codex_counsel.git.attributes import Attributes
    from codex_counsel.review.changes.collector import Collector


class Form(NamedTuple):
    """How whole files are shown. `render` completes the entry of a file that was read, and makes its text."""

    status: FileStatus
    render: Callable[[ChangedFile, FileContent], tuple[ChangedFile, bytes]]


def collect(
    collector: Collector,
    names: Iterable[bytes],
    attributes: Mapping[bytes, Attributes],
    form: Form,
) -> None:
    """Add or omit each file. One that has disappeared meanwhile is passed over."""
    filters = collector.repo.config.filters()
    for name in names:
        # Git lists a repository inside this one with a slash at its end.
        path_bytes = name.rstrip(b"/")
        file = ChangedFile(
            display_name(path_bytes),
            path_bytes,
            form.status,
            untracked=form.status == "A",
        )
        withheld = _why_withheld(collector, file)
        if withheld:
            status = collector.reader.lstat(name)
            collector.omit(file, withheld, status.st_size if status else 0)
            continue

        about = attributes.get(name, NO_ATTRIBUTES)
        limit = collector.pool.limit(rank(name, b"", marked=about.is_generated))
        try:
            content = collector.reader.read(name, limit)
        except UnreadableError as error:
            collector.omit(file, Reason(error.reason.value))
            continue
        except FileNotFoundError:
            continue

        if about.filter in filters:
            collector.omit(file, Reason.FILTERED, content.size)
        elif is_binary(content.data):
            collector.omit(file, Reason.BINARY, content.size)
        else:
            file, text = form.render(file, content)
            unread = content.size - len(content.data)
            collector.add(
                file,
                text,
                len(text) + unread,
                comes_last=about.is_generated,
            )


def _why_withheld(collector: Collector, file: ChangedFile) -> Reason | None:
    if collector.is_skipped(file):
        return Reason.SKIPPED
    if collector.is_secret(file):
        return Reason.SECRET_FILE
    return None


def _as_new_file(file: ChangedFile, content: FileContent) -> tuple[ChangedFile, bytes]:
    """As git would show the file if it were added."""
    name = file.path_bytes
    mode = _mode(content)
    text = _complete_lines(content)
    ends = text.endswith(b"\n")
    count = text.count(b"\n") + (not ends and text != b"")
    file = file._replace(modes=("000000", mode), added=count)

    head = diff_header(name, name) + b"\nnew file mode " + mode.encode() + b"\n"
    if not text:
        return file, head
    # Git puts a tab after a name with blanks, and leaves out a count of one.
    head += b"--- /dev/null\n+++ " + quote(b"b/" + name)
    if b" " in name:
        head += b"\t"
    head += b"\n@@ -0,0 +1"
    if count != 1:
        head += b",%d" % count
    head += b" @@\n"
    last_line_end = b"\n"
    if not ends:
        last_line_end = b"\n\\ No newline at end of file\n"
    added = b"+" + text.removesuffix(b"\n").replace(b"\n", b"\n+")
    return file, head + added + last_line_end


def _with_line_numbers(
    file: ChangedFile, content: FileContent
) -> tuple[ChangedFile, bytes]:
    """A headline, then every line with its number, so that no line of content can pass for a headline."""
    lines = _complete_lines(content).split(b"\n")
    if not lines[-1]:
        lines.pop()
    rows = [b"%d\t%s\n" % row for row in enumerate(lines, 1)]
    headline = b"=== %s (%d bytes)\n" % (quote(file.path_bytes), content.size)
    return file._replace(modes=("", _mode(content))), headline + b"".join(rows)


def _mode(content: FileContent) -> str:
    return "100755" if content.executable else "100644"


def _complete_lines(content: FileContent) -> bytes:
    """The text in UTF-8. Of a file that was not read to its end, only the lines that were read whole."""
    text = utf8(content.data)
    if len(content.data) < content.size:
        return text[: text.rfind(b"\n") + 1]
    return text


NEW_FILES = Form("A", _as_new_file)
NUMBERED_FILES = Form("F", _with_line_numbers)
