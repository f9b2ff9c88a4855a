"""What a terminal and the documents of a review say in the same words."""

from __future__ import annotations

from codex_counsel.cli.page import Page, Style
from codex_counsel.cli.words import in_terminal_words, repair_of
from codex_counsel.contract.envelope import (
    Coverage,
    Envelope,
    Failure,
    Finding,
    ProjectFile,
    Suggestion,
    Usage,
)
from codex_counsel.contract.vocabulary import PROJECT_FILE, Known, Severity
from codex_counsel.system.text import one_line

SEVERITY_STYLES: dict[Severity, Style] = {
    "critical": "alarm",
    "high": "red",
    "medium": "yellow",
    "low": "cyan",
    "nit": "dim",
}
KNOWN_WORDS: dict[Known, str] = {
    "new": "new",
    "open": "raised before",
    "rejected": "rejected before",
    "returned": "was gone and is there again",
}
MAX_ENTRY = 2_000
"""Characters of an entry of a reviewer's lists."""
NO_VERDICT = "The review has no verdict."


def add_footer(page: Page, result: Envelope) -> None:
    """Add where a result comes from, what it cost, how to go on, and the warnings."""
    meta = result.meta
    codex = "Codex"
    if meta.codex:
        codex = f"Codex {meta.codex.version}"
    model = meta.model or "default model"
    if meta.effort:
        model += f", effort {meta.effort}"
    seconds = (meta.elapsed_ms or 0) / 1000
    if not page.look.quiet:
        page.add(f"— {codex}, {model}, {seconds:.1f} s", "dim")

    sandbox = meta.sandbox
    if sandbox:
        network = "on" if sandbox.network else "off"
        page.note(
            f"sandbox: {sandbox.mode}, reads {sandbox.read_boundary}, network {network}"
        )
    if meta.usage:
        page.note(f"tokens: {_tokens(meta.usage)}")
    if meta.usage_proofs:
        page.note(f"tokens of its proofs: {_tokens(meta.usage_proofs)}")
    if result.files:
        # A task goes on from its diff too, not from its thread alone.
        page.note(f"continue with: --from-job {meta.job_id}")
    elif meta.session_id:
        page.note(f"continue with: --session-id {meta.session_id}")
    add_warnings(page, result)


def _tokens(usage: Usage) -> str:
    return f"{usage.input} in ({usage.cached_input} cached), {usage.output} out"


def add_warnings(page: Page, result: Envelope) -> None:
    """Add the warnings of a result as notes."""
    for warning in result.meta.warnings:
        page.note(f"note: {in_terminal_words(warning)}", "yellow")


# --- parts of documents too


def reason_of(error: Failure) -> str:
    return f"{error.code}: {in_terminal_words(error.message)}"


def title_of(finding: Finding) -> str:
    return one_line(finding.title, 300)


def place_of(finding: Finding) -> str:
    """`src/app.py:3-5 (verified)`: the place, and how far it can be trusted."""
    where = finding.section or "no place named"
    if finding.file:
        where = one_line(finding.file, 500)
        if finding.line:
            where += f":{finding.line}"
        if finding.line_end not in (None, finding.line):
            where += f"-{finding.line_end}"

    trust: str = finding.grounded or "unverified"
    if finding.in_diff is False:
        trust += ", outside the change"
    return f"{where} ({trust})"


def rule_line(finding: Finding) -> str:
    """`rule of AGENTS.md: Never log a password.`; empty where the finding rests on no rule of the team."""
    if not finding.rule:
        return ""
    file = one_line(finding.rule.file, 500)
    return f"rule of {file}: {one_line(finding.rule.quote, MAX_ENTRY)}"


def record_line(finding: Finding) -> str:
    """`id 0123456789abcdef · logic · rejected before: REASON`; empty for a finding that an earlier release stored."""
    parts = []
    if finding.id:
        parts.append(f"id {one_line(finding.id, 64)}")
    if finding.category:
        parts.append(finding.category.replace("_", " "))
    if finding.carried:
        parts.append("carried over")
    if finding.known:
        parts.append(KNOWN_WORDS[finding.known])
    line = " · ".join(parts)
    if finding.reason:
        line += f": {one_line(finding.reason, MAX_ENTRY)}"
    return line


def suggestion_line(suggestion: Suggestion) -> str:
    """`replace lines 3 to 5 by:`, above the replacement; `remove lines 3 to 5` where that is empty."""
    lines = f"line {suggestion.start_line}"
    if suggestion.end_line != suggestion.start_line:
        lines = f"lines {suggestion.start_line} to {suggestion.end_line}"
    if suggestion.replacement:
        return f"replace {lines} by:"
    return f"remove {lines}"


def replacement_lines(suggestion: Suggestion) -> str:
    """The replacement without its last line end, as formats have it whose ranges are whole lines."""
    return suggestion.replacement.removesuffix("\n").removesuffix("\r")


def resolved_lines(review: Envelope) -> list[str]:
    """A line for each finding of earlier reviews that is gone: `fixed: Off by one · high · src/app.py · id 01...`."""
    lines = []
    for resolved in review.resolved or ():
        parts: list[str] = [one_line(resolved.title, 300), resolved.severity]
        if resolved.file:
            parts.append(one_line(resolved.file, 500))
        parts.append(f"id {one_line(resolved.id, 64)}")
        lines.append(f"{resolved.state}: {' · '.join(parts)}")
    return lines


def message_of(finding: Finding, *, with_suggestion: bool = True) -> str:
    """What a document without fields of its own says about a finding: all but its title, severity and place."""
    parts = [finding.risk, finding.recommendation]
    suggestion = finding.suggestion
    if suggestion and with_suggestion:
        parts.append(f"{suggestion_line(suggestion)}\n{suggestion.replacement}")
    parts.append(rule_line(finding))
    if finding.grounded != "verified":
        parts.append(f"({finding.grounded or 'unverified'})")
    parts.append(record_line(finding))
    return "\n".join(part.rstrip("\n") for part in parts if part)


def why_not_clean(review: Envelope) -> str:
    """Why the review does not count as clean, whatever its findings; for a place that says nothing else of it."""
    if review.error:
        return f"{reason_of(review.error)}\nWhat to do: {repair_of(review.error)}"
    doubt = doubt_about(review)
    if doubt == NO_VERDICT:
        return f"The review has no verdict: {review.summary}"
    return doubt


def doubt_about(review: Envelope) -> str:
    """Why a review that ended does not count as clean: it was cut short, saw not all, or its verdict tells nothing."""
    if review.meta.budget_reached:
        limit = review.meta.budget_reached.limit
        return f"The review was cut short: it used up its {limit:,} tokens."
    if review.verdict in (None, "unknown"):
        return NO_VERDICT
    counting = [finding for finding in review.findings or () if not finding.is_settled]
    if review.verdict == "fail" and not counting:
        return "The verdict is fail, and no finding says why."
    if review.coverage and not review.coverage.complete:
        return "Not all of the change was seen, so this is no clean result."
    return ""


def lists_of(review: Envelope) -> dict[str, list[str]]:
    """The reviewer's lists that are not empty, by their names."""
    lists = {
        "questions": review.questions,
        "assumptions": review.assumptions,
        "next_steps": review.next_steps,
    }
    return {name: entries for name, entries in lists.items() if entries}


def coverage_lines(review: Envelope) -> list[str]:
    coverage = review.coverage
    if not coverage:
        return []
    extent = "NOT all of the change was seen"
    if coverage.complete:
        extent = "all of the change was seen"
    lines = []
    # A review of a plan has no files of a change.
    if coverage.files:
        files = counted(coverage.files, "file")
        extent += skipped_words(coverage)
        lines.append(f"{files}, {counted(coverage.bytes, 'byte')} sent; {extent}")
    for seen in coverage.seen or ():
        line = f"seen earlier: {counted(seen.files, 'file')}, by job {one_line(seen.job_id, 64)}"
        line += f" of {one_line(seen.ended, 64)}"
        if seen.head_sha:
            line += f" at {one_line(seen.head_sha, 64)[:12]}"
        lines.append(line)
    lines += [*_omission_lines(coverage), *rule_file_lines(coverage)]
    if review.meta.project_file:
        lines.append(project_file_line(review.meta.project_file))
    return lines


def _omission_lines(coverage: Coverage) -> list[str]:
    """A line for each omission but those that the project file decided, which are counted."""
    lines = []
    for omission in coverage.omitted:
        if omission.reason == "skipped":
            continue
        reason = omission.reason.replace("_", " ")
        if omission.bytes:
            reason += f", {counted(omission.bytes, 'byte')}"
        lines.append(f"left out: {omission.path} ({reason})")
    return lines


def skipped_words(coverage: Coverage) -> str:
    """What follows `all of the change was seen`: ` except 2 files left out by .codex-counsel.toml`."""
    if not coverage.skipped:
        return ""
    joint = " except" if coverage.complete else ";"
    return f"{joint} {counted(coverage.skipped, 'file')} left out by {PROJECT_FILE}"


def project_file_line(file: ProjectFile) -> str:
    """`.codex-counsel.toml of 0123456789ab in force: skip, fail_on (medium; low in some files)`."""
    bars: list[str] = []
    if file.fail_on:
        bars.append(file.fail_on)
    if file.strictest_fail_on:
        bars.append(f"{file.strictest_fail_on} in some files")
    used = []
    for name in file.used:
        word = one_line(name, 64)
        if name == "fail_on" and bars:
            word = f"{word} ({'; '.join(bars)})"
        used.append(word)
    decided = ", ".join(used) or "decides nothing here"
    revision = one_line(file.revision, 64)[:12]
    line = f"{PROJECT_FILE} of {revision} in force: {decided}"
    if file.changed:
        line += "; the change makes another of it"
    return line


def rule_file_lines(coverage: Coverage) -> list[str]:
    """A line for each file with review rules: `review rules: AGENTS.md (for ./), 120 bytes sent`."""
    lines = []
    for file in coverage.rules or ():
        line = f"review rules: {file.path}"
        if file.folder:
            line += f" (for {file.folder})"
        if file.omitted == "new":
            line += ", not in force: the change brings them"
        elif file.omitted and not file.bytes:
            line += f", not sent: {file.omitted.replace('_', ' ')}"
        else:
            line += f", {counted(file.bytes, 'byte')} sent"
        if file.omitted == "partial" and file.bytes:
            line += ", not all of them"
        if file.changed and file.bytes:
            line += ", as they were before the change"
        lines.append(line)
    return lines


def counted(number: int, noun: str) -> str:
    """`1 file`, `12,345 files`."""
    plural = "" if number == 1 else "s"
    return f"{number:,} {noun}{plural}"
