"""The specification of a job that no test has to run."""

from __future__ import annotations

from codex_counsel.jobs.spec import Spec

SPEC = Spec(
    job_id="0" * 32,
    tool="codex_consult",
    subject="Is it fine?",
    created=0,
    argv=("codex",),
    cwd="/",
    codex_home="/nonexistent",
    state="/nonexistent",
    scratch="/nonexistent",
    total=60,
    idle=60,
    slots=1,
    account="account",
    backoff=60,
    ttl=60,
    workspace="/",
    meta={},
)
"""A consultation; tests replace the fields that matter to them."""
