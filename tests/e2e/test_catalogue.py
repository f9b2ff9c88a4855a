"""The fingerprint of the published names, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys

from codex_counsel.contract import catalogue


def test_the_fingerprint_is_the_same_in_every_process_and_costs_no_pydantic() -> None:
    program = "import sys; from codex_counsel.contract import catalogue as c; print(c.fingerprint(), *sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    fingerprint, *modules = result.stdout.split()
    assert fingerprint == catalogue.fingerprint()
    assert re.fullmatch("[0-9a-f]{12}", fingerprint)
    assert "pydantic" not in modules
