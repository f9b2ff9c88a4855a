"""What a node keeps of the runs that it was sent."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet import tickets as tickets_module
from codex_counsel.fleet.tickets import KEEP_SECONDS, Tickets
from codex_counsel.system.files import lock_file

TICKET = "0" * 32


@pytest.fixture
def tickets(tmp_path: Path) -> Tickets:
    tickets = Tickets(tmp_path / "state")
    tickets.prepare()
    return tickets


def test_a_node_has_one_id_for_good_however_many_ask_at_once(tmp_path: Path) -> None:
    def ask(_: int) -> str:
        return Tickets(tmp_path / "state").node()

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(ask, range(16)))
    assert len(ids) == 1
    assert ids == {Tickets(tmp_path / "state").node()}


def test_two_state_directories_are_two_nodes(tmp_path: Path) -> None:
    assert Tickets(tmp_path / "one").node() != Tickets(tmp_path / "two").node()


def test_a_damaged_id_is_made_anew(tickets: Tickets, tmp_path: Path) -> None:
    (tmp_path / "state/fleet/node").write_text("no id")
    first = tickets.node()
    assert len(first) == 32
    assert tickets.node() == first


def test_what_is_noted_of_a_ticket_stands_there_for_the_next_process(
    tickets: Tickets, tmp_path: Path
) -> None:
    with tickets.hold(TICKET):
        assert tickets.note(TICKET) is None
        tickets.write(TICKET, "refused")
    later = Tickets(tmp_path / "state")
    with later.hold(TICKET):
        assert later.note(TICKET) == "refused"


def test_a_note_that_makes_no_sense_is_taken_for_a_refusal(
    tickets: Tickets, tmp_path: Path
) -> None:
    (tmp_path / "state/fleet/tickets" / TICKET).write_text("perhaps")
    assert tickets.note(TICKET) == "refused"


def test_only_one_at_a_time_holds_a_ticket(
    tickets: Tickets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets_module, "LOCK_PATIENCE", 0.0)
    lock = lock_file(tmp_path / f"state/fleet/tickets/{TICKET}.lock")
    assert lock is not None
    with pytest.raises(CounselError) as error, tickets.hold(TICKET):
        pass
    assert error.value.code == Code.SESSION_BUSY
    os.close(lock)
    with tickets.hold(TICKET):
        pass


@pytest.mark.parametrize("name", ["", "../node", "A" * 32, TICKET + "\n", TICKET + "0"])
def test_a_name_that_no_client_makes_reaches_no_file(
    tickets: Tickets, name: str
) -> None:
    for use in (tickets.result, tickets.upload):
        with pytest.raises(CounselError) as error:
            use(name)
        assert error.value.code == Code.INVALID_ARGUMENTS
    with pytest.raises(CounselError), tickets.hold(name):
        pass


def test_parts_that_come_twice_or_too_early_make_the_file_that_was_sent(
    tickets: Tickets,
) -> None:
    content = bytes(range(256)) * 10
    digest = hashlib.sha256(content).hexdigest()
    assert tickets.add_part(digest, 0, content[:1000]) == 1000
    assert tickets.add_part(digest, 2000, content[2000:]) == 1000
    assert tickets.whole_upload(digest, len(content)) is None
    assert tickets.add_part(digest, 0, content[:1000]) == 1000
    assert tickets.add_part(digest, 1000, content[1000:]) == len(content)
    path = tickets.whole_upload(digest, len(content))
    assert path is not None
    assert path.read_bytes() == content


def test_an_upload_with_other_bytes_is_thrown_away(tickets: Tickets) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    tickets.add_part(digest, 0, b"wrong")
    assert tickets.whole_upload(digest, 5) is None
    assert not tickets.upload(digest).exists()


def test_an_upload_may_not_be_larger_than_any_pack(tickets: Tickets) -> None:
    with pytest.raises(CounselError) as error:
        tickets.add_part("0" * 64, 1 << 60, b"x")
    assert error.value.code == Code.INPUT_TOO_LARGE


def test_a_sweep_removes_what_is_old_and_nothing_else(
    tickets: Tickets, tmp_path: Path
) -> None:
    node = tickets.node()
    old, new = TICKET, "1" * 32
    for ticket in (old, new):
        with tickets.hold(ticket):
            tickets.write(ticket, "refused")
    for path in (tmp_path / "state/fleet").rglob(f"{old}*"):
        moment = path.stat().st_mtime - KEEP_SECONDS - 1
        os.utime(path, (moment, moment))
    tickets.sweep()
    assert tickets.note(old) is None
    assert tickets.note(new) == "refused"
    assert tickets.node() == node


def test_a_directory_that_others_may_write_in_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state/fleet/tickets"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(CounselError) as error:
        Tickets(tmp_path / "state").prepare()
    assert error.value.code == Code.STORAGE_FAILED
    assert str(folder) in error.value.message
