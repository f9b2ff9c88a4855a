"""Files between the client and a node: foundations and large packs there, results back, in parts of bounded size."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.fleet import answers
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.answers import Answer, WrongAnswerError
from codex_counsel.fleet.cluster import Cluster, DaskWorker
from codex_counsel.fleet.names import CALL_SECONDS, INLINE, PART, SEND_SECONDS
from codex_counsel.fleet.nodes import Node, Order
from codex_counsel.fleet.packing import PackedItem
from codex_counsel.packs import archive
from codex_counsel.system.files import write_atomically

MAX_SENDS = 3
"""So often a file, or a part of it, is sent to a node that does not receive it as it is here."""
MAX_RESULT = archive.MAX_TOTAL + 2 * archive.MAX_MANIFEST
"""Bytes of a result file; a larger one could not be read."""


class Transfer:
    """All methods raise Interrupted where the worker does not answer, and as `answers.checked`."""

    def __init__(self, cluster: Cluster, results: Path) -> None:
        self._cluster = cluster
        self._results = results

    async def arguments(self, order: Order, worker: DaskWorker) -> tuple[object, ...]:
        """Those of `run` in `fleet/node.py`; what is large is sent before."""
        packed = order.packed
        if packed is None:
            return order.ticket, order.tool, None
        await self._send_foundation(order.node, worker, packed)
        head = packed.head
        if len(head) <= INLINE:
            return order.ticket, order.tool, head, None, packed.digest
        digest = hashlib.sha256(head).hexdigest()
        await self._upload(worker, digest, head)
        return order.ticket, order.tool, None, (digest, len(head)), packed.digest

    async def _send_foundation(
        self, node: Node, worker: DaskWorker, packed: PackedItem
    ) -> None:
        """See that the node has the foundation. It is sent once, also when many items wait for it."""
        digest, file = packed.digest, packed.foundation
        async with node.sending:
            if digest in node.foundations:
                return
            answer = await self._cluster.call(
                worker, calls.has_foundation, digest, seconds=CALL_SECONDS
            )
            is_kept = bool(answer["kept"])
            for _ in range(MAX_SENDS):
                if is_kept:
                    break
                is_kept = await self._send_file(worker, digest, file)
            if not is_kept:
                raise CounselError(
                    Code.CLUSTER_FAILED,
                    f"{node.label} has not received the foundation {digest[:12]} as it is in {file}",
                )
            node.foundations.add(digest)

    async def _send_file(self, worker: DaskWorker, digest: str, file: Path) -> bool:
        """Send a foundation; whether the node has made its repository."""
        await self._upload(worker, digest, file)
        size = await asyncio.to_thread(_size_of, file)
        answer = await self._cluster.call(
            worker, calls.keep_foundation, digest, size, seconds=SEND_SECONDS
        )
        return bool(answer["kept"])

    async def _upload(
        self, worker: DaskWorker, digest: str, content: bytes | Path
    ) -> None:
        """Send bytes in parts; what is there already is not sent again."""
        size = await asyncio.to_thread(_size_of, content)
        offset = standstills = 0
        while True:
            part = await asyncio.to_thread(_part_of, content, offset)
            answer = await self._cluster.call(
                worker, calls.put, digest, offset, part, seconds=SEND_SECONDS
            )
            before, offset = offset, min(answers.count(answer, "size"), size)
            if offset >= size:
                return
            if offset <= before:
                standstills += 1
            if standstills > MAX_SENDS:
                raise WrongAnswerError("it does not keep what it is sent")

    async def fetch(self, order: Order, worker: DaskWorker, answer: Answer) -> Path:
        """The result file that an answer of `run` is about. Also raises `storage_failed`."""
        path = self._results / order.ticket
        size = answers.count(answer, "size")
        if size > MAX_RESULT:
            raise WrongAnswerError(f"its result has more than {MAX_RESULT:,} bytes")
        try:
            if size <= INLINE:
                write_atomically(path, answers.data(answer, "data", size))
            else:
                await self._download(order, worker, size, path)
            digest = await asyncio.to_thread(archive.digest_of, path)
        except OSError as error:
            message = "A result of a node cannot be stored"
            raise error_of(Code.STORAGE_FAILED, message, error) from None
        if digest != answer.get("sha256"):
            raise WrongAnswerError("its result has other bytes than were told")
        return path

    async def _download(
        self, order: Order, worker: DaskWorker, size: int, path: Path
    ) -> None:
        """Raises OSError too."""
        with path.open("wb") as file:
            while (left := size - file.tell()) > 0:
                answer = await self._cluster.call(
                    worker,
                    calls.part,
                    order.ticket,
                    file.tell(),
                    seconds=SEND_SECONDS,
                )
                file.write(answers.data(answer, "data", min(left, PART)))


def _size_of(content: bytes | Path) -> int:
    """Raises OSError."""
    if isinstance(content, bytes):
        return len(content)
    return content.stat().st_size


def _part_of(content: bytes | Path, offset: int) -> bytes:
    """Raises OSError."""
    if isinstance(content, bytes):
        return content[offset : offset + PART]
    with content.open("rb") as file:
        file.seek(offset)
        return file.read(PART)
