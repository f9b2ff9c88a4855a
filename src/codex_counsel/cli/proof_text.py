"""What a proof says about its finding, in the words that the documents of a review share."""

from __future__ import annotations

from codex_counsel.cli.review_text import MAX_ENTRY, message_of
from codex_counsel.contract.envelope import Finding, Proof
from codex_counsel.contract.vocabulary import ComparedState
from codex_counsel.system.text import one_line

OTHER_STATES: dict[ComparedState, str] = {
    "base": "on the base",
    "patched": "with the proposed replacement",
}
MAX_OUTPUT = 4_000
"""Characters of an output that a document has: the last ones."""


def proof_lines(finding: Finding) -> list[str]:
    """`proven: REASON`, the test with its exit codes, and how to get it; none where nothing was run."""
    proof = finding.proof
    if proof is None:
        return []
    lines = [f"{proof.status}: {one_line(proof.reason, MAX_ENTRY)}"]
    if proof.command:
        command = one_line(proof.command, MAX_ENTRY)
        lines.append(f"test: {command}{exits_of(proof)}")
    if offers_test(proof):
        lines.append(f"the test: {apply_command(proof)}")
    return lines


def exits_of(proof: Proof) -> str:
    """` (exit 1 on the reviewed state, 0 on the base)`; empty where the test did not end."""
    exits = []
    if proof.exit_head is not None:
        exits.append(f"{proof.exit_head} on the reviewed state")
    if proof.exit_other is not None and proof.other:
        exits.append(f"{proof.exit_other} {OTHER_STATES[proof.other]}")
    if not exits:
        return ""
    return f" (exit {', '.join(exits)})"


def offers_test(proof: Proof) -> bool:
    """Whether there is a test worth keeping: one that shows the fault."""
    return proof.status == "proven" and bool(proof.patch and proof.job_id)


def apply_command(proof: Proof) -> str:
    """What puts the test into the working tree."""
    job_id = one_line(proof.job_id or "", 64)
    return f"codex-counsel apply {job_id}"


def output_of(proof: Proof) -> str:
    """The end of what the test wrote on the reviewed state."""
    output = (proof.output_tail or "").rstrip()
    if len(output) <= MAX_OUTPUT:
        return output
    return f"…{output[-MAX_OUTPUT:]}"


def message_with_proof(finding: Finding, *, with_suggestion: bool = True) -> str:
    """As `review_text.message_of`, and what the proof says."""
    message = message_of(finding, with_suggestion=with_suggestion)
    return "\n".join([message, *proof_lines(finding)]).lstrip("\n")
