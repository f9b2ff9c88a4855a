"""The container of packs: what is written can be read, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.packs import archive
from codex_counsel.packs.archive import BLOCK, MANIFEST, Member

CONTENT = b"hello\n"
NAME = "x.pack"


def packed(*members: Member) -> bytes:
    members = members or (Member("a.txt", CONTENT), Member("images/0.png", b"\x89PNG"))
    return b"".join(archive.chunks("pack", {"id": "7"}, members))


def unpack(data: bytes, into: Path, kind: archive.Kind = "pack") -> dict[str, Any]:
    into.mkdir(exist_ok=True)
    return archive.unpack(io.BytesIO(data), NAME, kind, into)


def refusal(data: bytes, into: Path, kind: archive.Kind = "pack") -> str:
    """The message by which an archive is refused; nothing was written outside the directory."""
    into.mkdir()
    before = set(into.parent.rglob("*"))
    with pytest.raises(CounselError) as caught:
        unpack(data, into, kind)
    written = set(into.parent.rglob("*")) - before
    assert all(path.is_relative_to(into) for path in written)
    assert caught.value.code == Code.PACK_INVALID
    assert caught.value.message.startswith(f"{NAME} ")
    return caught.value.message


def manifest(**changes: Any) -> dict[str, Any]:
    row = ["a.txt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest()]
    whole = {"format": 1, "kind": "pack", "about": {}, "files": [row]}
    return {**whole, **changes}


def plain(name: str, data: bytes) -> bytes:
    """A member as the archive has it, whatever its name."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o600
    header = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    return header + data + bytes(-len(data) % BLOCK)


def archive_of(text: bytes | dict[str, Any], *members: bytes) -> bytes:
    """An archive with this manifest, whatever it says."""
    if isinstance(text, dict):
        text = json.dumps(text).encode()
    return b"".join([plain(MANIFEST, text), *members, bytes(2 * BLOCK)])


def foreign(
    change: Callable[[tarfile.TarInfo], None],
    form: Literal[0, 1, 2] = tarfile.USTAR_FORMAT,
) -> bytes:
    """An archive whose member `a.txt` has a header that another program made."""
    info = tarfile.TarInfo("a.txt")
    info.size = len(CONTENT)
    info.mode = 0o600
    change(info)
    header = info.tobuf(form, "utf-8", "surrogateescape")
    body = CONTENT + bytes(-len(CONTENT) % BLOCK)
    return archive_of(manifest(), header + body)


# --- what is written


def test_what_was_packed_is_unpacked_with_its_bytes_and_what_it_says_of_itself(
    tmp_path: Path,
) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 9000)
    target = tmp_path / "x.pack"
    members = [Member("empty", b""), Member("sub/dir/big.bin", big)]
    archive.write(target, "foundation", {"umlaut": "ä", "list": [1, None]}, members)

    with target.open("rb") as file:
        about = archive.unpack(file, NAME, "foundation", _made(tmp_path / "into"))

    assert about == {"umlaut": "ä", "list": [1, None]}
    assert (tmp_path / "into/empty").read_bytes() == b""
    assert (tmp_path / "into/sub/dir/big.bin").read_bytes() == big.read_bytes()


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        archive.write(tmp_path / name, "pack", {"b": 1, "a": 2}, [Member("f", b"x")])

    assert archive.digest_of(tmp_path / "one") == archive.digest_of(tmp_path / "two")


def test_an_archive_is_listed_by_tar(tmp_path: Path) -> None:
    target = tmp_path / "x.pack"
    target.write_bytes(packed())

    with tarfile.open(target) as tar:
        assert tar.getnames() == [MANIFEST, "a.txt", "images/0.png"]


def test_a_file_that_changes_while_it_is_packed_makes_no_archive(
    tmp_path: Path,
) -> None:
    class Changing(Member):
        def chunks(self) -> Any:
            numbers.append(len(numbers))
            return iter([b"%d" % numbers[-1]])

    numbers: list[int] = []
    target = tmp_path / "x.pack"

    with pytest.raises(CounselError, match=r"f changed while it was packed"):
        archive.write(target, "pack", {}, [Changing("f", b"")])

    assert list(tmp_path.iterdir()) == [tmp_path / "tmp"]


def test_more_files_than_a_reader_accepts_are_not_packed() -> None:
    members = [Member(f"f{number}", b"") for number in range(archive.MAX_FILES + 1)]

    with pytest.raises(CounselError) as caught:
        packed(*members)

    assert caught.value.code == Code.INPUT_TOO_LARGE


def test_texts_that_no_reader_accepts_are_not_packed() -> None:
    with pytest.raises(CounselError) as caught:
        b"".join(archive.chunks("pack", {"x": "y" * archive.MAX_MANIFEST}, []))

    assert caught.value.code == Code.INPUT_TOO_LARGE


def test_the_longest_names_fit_into_a_header(tmp_path: Path) -> None:
    name = "/".join(["a" * 32] * 3)

    unpack(packed(Member(name, CONTENT)), tmp_path / "into")

    assert (tmp_path / "into" / name).read_bytes() == CONTENT


# --- what is refused


def test_an_archive_that_ends_at_any_byte_is_refused(tmp_path: Path) -> None:
    data = packed(Member("a", b"x"))

    for end in range(len(data)):
        into = tmp_path / f"into-{end}"
        into.mkdir()
        with pytest.raises(CounselError, match=r"damaged") as caught:
            archive.unpack(io.BytesIO(data[:end]), NAME, "pack", into)
        assert caught.value.code == Code.PACK_INVALID


def test_an_archive_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    data = packed(Member("a", b"x"))

    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        into = tmp_path / f"into-{place}"
        into.mkdir()
        # Within the texts of the manifest, a change may make another manifest.
        if BLOCK <= place < BLOCK + len(_manifest_text(data)):
            continue
        with pytest.raises(CounselError) as caught:
            archive.unpack(io.BytesIO(bytes(changed)), NAME, "pack", into)
        assert caught.value.code == Code.PACK_INVALID


def _manifest_text(data: bytes) -> bytes:
    size = tarfile.TarInfo.frombuf(data[:BLOCK], "ascii", "strict").size
    return data[BLOCK : BLOCK + size]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"PK\x03\x04" + b"x" * 2000,
        b"\x1f\x8b" + b"x" * 2000,
        b"#!/bin/sh\n" * 200,
        bytes(range(256)) * 8,
    ],
    ids=["empty", "zeros", "zip", "gzip", "script", "noise"],
)
def test_what_is_no_archive_of_ours_is_refused(data: bytes, tmp_path: Path) -> None:
    assert "damaged" in refusal(data, tmp_path / "into")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.LNKTYPE,
        tarfile.SYMTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.AREGTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.GNUTYPE_SPARSE,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        b"Z",
    ],
)
def test_what_is_no_plain_file_is_refused(kind: bytes, tmp_path: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type = kind
        info.linkname = "/etc/passwd"

    refusal(foreign(change), tmp_path / "into")

    assert not (tmp_path / "into/a.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE])
def test_a_manifest_that_is_no_plain_file_is_refused(
    kind: bytes, tmp_path: Path
) -> None:
    info = tarfile.TarInfo(MANIFEST)
    info.type = kind
    data = info.tobuf(tarfile.USTAR_FORMAT) + packed()[BLOCK:]

    assert "something else than plain files" in refusal(data, tmp_path / "into")


def _owner(info: tarfile.TarInfo) -> None:
    info.uname = "root"


def _setuid(info: tarfile.TarInfo) -> None:
    info.mode = 0o4755


def _link(info: tarfile.TarInfo) -> None:
    info.linkname = "/etc/passwd"


@pytest.mark.parametrize("change", [_owner, _setuid, _link])
def test_a_header_that_says_more_than_name_and_size_is_refused(
    change: Callable[[tarfile.TarInfo], None], tmp_path: Path
) -> None:
    refusal(foreign(change), tmp_path / "into")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_the_other_formats_are_refused(
    form: Literal[0, 1, 2], tmp_path: Path
) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.pax_headers = {"path": "../evil", "size": "9"}

    refusal(foreign(change, form), tmp_path / "into")


@pytest.mark.parametrize(
    "size",
    [
        b"\x80\0\0\0\0\0\0\0\0\0\0\x06",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"77777777777\0",
        b"     6     \0",
        b"-0000000006\0",
        b"not a number",
    ],
    ids=["base-256", "negative", "beyond", "8 GiB", "blanks", "minus", "words"],
)
def test_another_form_of_a_size_is_refused(size: bytes, tmp_path: Path) -> None:
    member = bytearray(plain("a.txt", CONTENT))
    member[124:136] = size
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member[:BLOCK])

    refusal(archive_of(manifest(), bytes(member)), tmp_path / "into")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/tmp/evil",
        "a/../../evil",
        "./a",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        ".git",
        ".hidden",
        "a/.git/config",
        "-rf",
        "A",
        "é",
        "a\nb",
        "a\0b",
        "a b",
        "c:evil",
        "a\\b",
        "a/b/c/d",
        "x" * 200,
        MANIFEST,
        f"{MANIFEST}/x",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    row = [name, len(CONTENT), hashlib.sha256(CONTENT).hexdigest()]
    data = archive_of(manifest(files=[row]), plain("a.txt", CONTENT))

    refusal(data, tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["a/b/c", "a/b"]]
)
def test_names_that_are_in_each_others_way_are_refused_before_anything_is_written(
    names: list[str], tmp_path: Path
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    rows = [[name, len(CONTENT), digest] for name in names]
    members = [plain(name, CONTENT) for name in names]

    refusal(archive_of(manifest(files=rows), *members), tmp_path / "into")

    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize(
    "files",
    [
        [["a.txt", 4_000_000_001, "0" * 64]],
        [[f"f{number}", 3_000_000_000, "0" * 64] for number in range(3)],
        [[f"f{number}", 0, "0" * 64] for number in range(1001)],
        [["a.txt", -1, "0" * 64]],
        [["a.txt", 6.0, "0" * 64]],
        [["a.txt", "6", "0" * 64]],
        [["a.txt", 6, "0" * 63]],
        [["a.txt", 6, "G" * 64]],
        [["a.txt", 6]],
        [{"name": "a.txt"}],
        ["a.txt"],
        [None],
    ],
)
def test_an_impossible_list_of_files_is_refused_before_anything_is_written(
    files: list[Any], tmp_path: Path
) -> None:
    refusal(
        archive_of(manifest(files=files), plain("a.txt", CONTENT)), tmp_path / "into"
    )

    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no JSON",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"format": "1", "kind": "pack"}',
        b'{"format": 1, "kind": 7}',
        b'{"format": 1, "kind": "pack", "about": {}}',
        b'{"format": 1, "kind": "pack", "about": [], "files": []}',
        b'{"format": 1, "kind": "pack", "about": {"x": "\\ud800"}, "files": []}',
        b'{"format": 1, "kind": "pack", "about": {"x": NaN}, "files": []}',
        b'{"format": 1, "kind": "pack", "about": {"x": ' + b"9" * 5000 + b"}}",
        json.dumps(manifest(files=[])).encode("utf-16"),
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"format": 1, "kind": "pack", "files": [], "about": {"x": '
        + b"[" * 100
        + b"]" * 100
        + b"}}",
    ],
)
def test_a_manifest_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    assert "damaged" in refusal(archive_of(text), tmp_path / "into")


def test_a_manifest_without_end_is_refused_unread(tmp_path: Path) -> None:
    info = tarfile.TarInfo(MANIFEST)
    info.size = archive.MAX_MANIFEST + 1
    info.mode = 0o600

    refusal(info.tobuf(tarfile.USTAR_FORMAT), tmp_path / "into")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, "has format 2, of a newer release; this one reads format 1"),
        (10**40, "of a newer release"),
        (0, "has format 0, of an older release; this one reads format 1"),
        (-(10**40), "of an older release"),
    ],
)
def test_another_format_is_refused_by_its_number(
    number: int, words: str, tmp_path: Path
) -> None:
    later = {"format": number, "kind": "pack", "unknown": True}

    assert words in refusal(archive_of(later), tmp_path / "into")


@pytest.mark.parametrize("kind", ["foundation", "result"])
def test_another_kind_of_archive_is_refused_by_its_name(
    kind: archive.Kind, tmp_path: Path
) -> None:
    message = refusal(packed(), tmp_path / "into", kind)

    assert message == f"{NAME} is no {archive.KINDS[kind]}, but a pack of a request"


@pytest.mark.parametrize(("kind", "verb"), [("pack", "run"), ("result", "take")])
def test_what_came_in_place_of_another_kind_is_refused_with_the_verb_for_it(
    kind: archive.Kind, verb: str, tmp_path: Path
) -> None:
    data = b"".join(archive.chunks(kind, {}, []))
    with pytest.raises(CounselError) as caught:
        unpack(data, tmp_path / "into", "foundation")
    assert f"`codex-counsel {verb} FILE" in (caught.value.repair or "")


def test_a_kind_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    data = archive_of(manifest(kind="evil"))

    assert "is no pack of a request" in refusal(data, tmp_path / "into")


def test_other_bytes_than_the_manifest_announces_are_refused(tmp_path: Path) -> None:
    data = archive_of(manifest(), plain("a.txt", b"HELLO\n"))

    assert "a.txt has other bytes" in refusal(data, tmp_path / "into")


@pytest.mark.parametrize(
    "members",
    [
        [],
        [plain("b.txt", CONTENT)],
        [plain("a.txt", CONTENT + b"more")],
        [plain("a.txt", CONTENT), plain("a.txt", CONTENT)],
        [plain("a.txt", CONTENT), plain("b.txt", b"")],
    ],
    ids=["missing", "another", "longer", "twice", "one more"],
)
def test_other_files_than_the_manifest_announces_are_refused(
    members: list[bytes], tmp_path: Path
) -> None:
    refusal(archive_of(manifest(), *members), tmp_path / "into")

    assert not (tmp_path / "into/b.txt").exists()


@pytest.mark.parametrize("more", [b"x", b"\0", bytes(BLOCK), packed()])
def test_what_follows_an_archive_is_refused(more: bytes, tmp_path: Path) -> None:
    assert "something follows" in refusal(packed() + more, tmp_path / "into")


def test_bytes_between_the_files_are_refused(tmp_path: Path) -> None:
    member = bytearray(plain("a.txt", CONTENT))
    member[-1] = 1

    message = refusal(archive_of(manifest(), bytes(member)), tmp_path / "into")

    assert "something lies between its files" in message


def test_an_error_shows_no_hidden_character_of_a_name(tmp_path: Path) -> None:
    with pytest.raises(CounselError) as caught:
        archive.unpack(io.BytesIO(b""), "\x1b[2Jevil\n.pack", "pack", tmp_path)

    assert "\x1b" not in caught.value.message
    assert "\n" not in caught.value.message


def test_an_archive_is_read_from_a_pipe_that_gives_little_at_a_time(
    tmp_path: Path,
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 7))

    archive.unpack(Slow(packed()), NAME, "pack", _made(tmp_path / "into"))

    assert (tmp_path / "into/a.txt").read_bytes() == CONTENT
