"""What the flags of `batch` may hold."""

from __future__ import annotations

import pytest

from codex_counsel.cli import batch_requests, parser
from codex_counsel.errors import Code, CounselError


@pytest.mark.parametrize("begin", [["requests.jsonl"], ["--resume", "reviews"]])
@pytest.mark.parametrize("address", ["", " \t"])
def test_a_cluster_without_an_address_is_refused_with_what_may_stand_there(
    begin: list[str], address: str
) -> None:
    arguments = parser.parse(["batch", *begin, "--cluster", address])
    with pytest.raises(CounselError) as raised:
        batch_requests.check(arguments)
    assert raised.value.code is Code.INVALID_ARGUMENTS
    for word in ("--cluster is empty", "tcp://", "`local`", "`none`"):
        assert word in raised.value.message
